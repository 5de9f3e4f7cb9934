/* chaos_plan.c: draws who does what. Owns: nothing. Threads: any; a plan depends on its seed alone.
 *
 * Each seed leaves kinds of steps out and makes others frequent, so that runs differ in character:
 * one is all about a pool with one place, another about runtimes that end. */
#include <string.h>

#include "lab/chaos.h"

struct dice {
    uint64_t state;
};

/* splitmix64 */
static uint64_t dice_next(struct dice *dice)
{
    uint64_t z = dice->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static unsigned below(struct dice *dice, unsigned bound)
{
    return bound == 0 ? 0 : (unsigned)(dice_next(dice) % bound);
}

static bool one_in(struct dice *dice, unsigned count)
{
    return below(dice, count) == 0;
}

/* ---- kinds of steps ---- */

static const struct {
    const char *name;
    unsigned weight;
    enum {
        WANTS_NOTHING,
        WANTS_PLAIN,  /* clients that may be used from anywhere, as they are */
        WANTS_SOURCE, /* and a driver that can send a body made piece by piece */
    } wants;
    bool waits_for_script;
} kinds[] = {
    [CHAOS_GET] = { "get", 10, WANTS_NOTHING, false },
    [CHAOS_POST] = { "post", 9, WANTS_NOTHING, false },
    [CHAOS_UPLOAD] = { "upload", 2, WANTS_SOURCE, false },
    [CHAOS_STREAM] = { "stream", 4, WANTS_NOTHING, false },
    [CHAOS_STREAM_END] = { "stream-end", 2, WANTS_NOTHING, false },
    [CHAOS_CALL] = { "call", 4, WANTS_PLAIN, false },
    [CHAOS_CALL_END] = { "call-end", 4, WANTS_PLAIN, false },
    [CHAOS_BLOCK_ON] = { "block-on", 2, WANTS_NOTHING, false },
    [CHAOS_SLEEP] = { "sleep", 3, WANTS_NOTHING, false },
    [CHAOS_YIELD] = { "yield", 1, WANTS_NOTHING, false },
    [CHAOS_BLOCK] = { "block", 2, WANTS_NOTHING, false },
    [CHAOS_SEMAPHORE] = { "semaphore", 3, WANTS_NOTHING, false },
    [CHAOS_MUTEX] = { "mutex", 2, WANTS_NOTHING, false },
    [CHAOS_SEND] = { "send", 0, WANTS_NOTHING, false },
    [CHAOS_RECEIVE] = { "receive", 0, WANTS_NOTHING, false },
    [CHAOS_TELL] = { "tell", 2, WANTS_NOTHING, false },
    [CHAOS_HEAR] = { "hear", 3, WANTS_NOTHING, true },
    [CHAOS_JOIN] = { "join", 3, WANTS_NOTHING, true },
    [CHAOS_CANCEL] = { "cancel", 4, WANTS_NOTHING, false },
    [CHAOS_CLOSE_IDLE] = { "close-idle", 1, WANTS_NOTHING, false },
};

const char *chaos_step_name(enum chaos_step_kind kind)
{
    return kinds[kind].name;
}

/* How often each kind comes in this plan. */
static void draw_weights(struct dice *dice, const struct solution *solution,
                         unsigned weights[LAB_COUNT(kinds)])
{
    for (size_t i = 0; i < LAB_COUNT(kinds); i++) {
        unsigned weight = kinds[i].weight;

        if ((kinds[i].wants >= WANTS_PLAIN && !solution->is_plain) ||
            (kinds[i].wants == WANTS_SOURCE && solution->driver != IL_DRIVER_CALLER)) {
            weight = 0;
        } else if (i != CHAOS_GET && one_in(dice, 3)) {
            weight = 0;
        } else if (one_in(dice, 4)) {
            weight *= 4;
        }
        weights[i] = weight;
    }
}

static enum chaos_step_kind draw_kind(struct dice *dice, const unsigned *weights)
{
    unsigned sum = 0, at;

    for (size_t i = 0; i < LAB_COUNT(kinds); i++) {
        sum += weights[i];
    }
    at = below(dice, sum);
    for (size_t i = 0; i < LAB_COUNT(kinds); i++) {
        if (at < weights[i]) {
            return (enum chaos_step_kind)i;
        }
        at -= weights[i];
    }
    return CHAOS_GET;
}

/* ---- scripts ---- */

static enum chaos_step_kind draw_kind_for(struct dice *dice, const unsigned *weights,
                                          const struct chaos_script_plan *script, unsigned index)
{
    enum chaos_step_kind kind = draw_kind(dice, weights);

    if (script->is_late) {
        return CHAOS_GET;
    }
    if (script->role != CHAOS_ANY && one_in(dice, 2)) {
        return script->role == CHAOS_SENDER ? CHAOS_SEND : CHAOS_RECEIVE;
    }
    if (kinds[kind].waits_for_script && (script->role != CHAOS_ANY || index == 0)) {
        return CHAOS_SLEEP;
    }
    return kind;
}

static void draw_scheme(struct dice *dice, const struct chaos_plan *plan, struct chaos_step *step)
{
    enum chaos_scheme scheme = plan->clients[step->client].scheme;

    step->is_tls = scheme == CHAOS_HTTPS || (scheme == CHAOS_EITHER && one_in(dice, 2));
    if (step->is_tls) {
        step->is_other_tls = one_in(dice, 5);
        step->is_to_end = one_in(dice, 4);
    }
}

static void draw_step(struct dice *dice, const struct chaos_plan *plan,
                      struct chaos_script_plan *script, unsigned index, bool is_lively,
                      enum chaos_step_kind kind, struct chaos_step *step)
{
    *step = (struct chaos_step){ .kind = kind,
                                 .client = below(dice, plan->client_count),
                                 .ms = below(dice, one_in(dice, 4) ? 200 : 10) };
    draw_scheme(dice, plan, step);
    /* In a lively run nothing but the library itself brings most requests to their end. */
    step->limit_ms = is_lively && !one_in(dice, plan->is_crowd ? 2 : 6) ? 0
                     : plan->is_crowd                                   ? 1 + below(dice, 60)
                                                                        : 20 + below(dice, 1500);
    switch (kind) {
    case CHAOS_BLOCK:
        step->ms = plan->is_rush ? 10 + below(dice, 90) : step->ms;
        break;
    case CHAOS_STREAM:
    case CHAOS_STREAM_END:
        step->number = 1 + below(dice, one_in(dice, 4) ? 200000 : 9000);
        break;
    case CHAOS_SEND:
        /* A response in the channel keeps its connection: whoever would read it might wait for that
         * very place. */
        step->number = 1 + below(dice, 20000);
        if (one_in(dice, 2) || plan->clients[step->client].connections_per_host_max > 0) {
            step->number = 0;
        }
        break;
    case CHAOS_SEMAPHORE:
        step->number = 1 + below(dice, plan->permit_count);
        break;
    case CHAOS_BLOCK_ON: /* upwards only: no two wait for each other */
        step->number = (unsigned)(script->runtime + 1) +
                       below(dice, plan->runtime_count - (unsigned)(script->runtime + 1));
        /* While it waits, its thread stops everything of this runtime, requests too that have a
         * place in the pool; so it must not wait for a place. */
        if (step->number >= plan->runtime_count ||
            plan->clients[step->client].connections_per_host_max > 0) {
            step->kind = CHAOS_GET;
        }
        break;
    case CHAOS_HEAR:
    case CHAOS_JOIN:
        step->number = below(dice, index);
        break;
    case CHAOS_CANCEL:
        step->number = below(dice, plan->script_count);
        break;
    default:
        break;
    }
}

static void draw_script(struct dice *dice, struct chaos_plan *plan, unsigned index, bool is_lively,
                        bool is_plain, const unsigned *weights)
{
    struct chaos_script_plan *script = &plan->scripts[index];

    script->runtime = is_plain && one_in(dice, plan->is_crowd ? 12 : 4)
                          ? -1
                          : (int)below(dice, plan->runtime_count);
    script->is_late = plan->has_late && one_in(dice, 5);
    if (plan->channel_capacity > 0 && !script->is_late && one_in(dice, 3)) {
        script->role = one_in(dice, 2) ? CHAOS_SENDER : CHAOS_RECEIVER;
    }
    script->step_count = 1 + below(dice, plan->is_rush ? 2 : CHAOS_STEPS_MAX);
    for (unsigned i = 0; i < script->step_count; i++) {
        draw_step(dice, plan, script, index, is_lively, draw_kind_for(dice, weights, script, index),
                  &script->steps[i]);
    }
}

/* ---- the plan ---- */

static void draw_runtime(struct dice *dice, struct chaos_runtime_plan *runtime)
{
    bool is_current = one_in(dice, 2);

    *runtime = (struct chaos_runtime_plan){
        .kind = is_current ? IL_RUNTIME_CURRENT_THREAD : IL_RUNTIME_MULTI_THREAD,
        .worker_count = is_current ? 0 : 1 + below(dice, 3),
        .life_ms = one_in(dice, 3) ? below(dice, 400) : UINT32_MAX,
        .drain_ms = one_in(dice, 2) ? 0 : below(dice, 300),
        .drive_ms = 1 + below(dice, 60),
        .park_ms = one_in(dice, 3) ? 0 : below(dice, 120),
    };
}

/* Every third client speaks TLS, some beside clear; half leave the protocol to the server. */
static void draw_tls(struct dice *dice, struct chaos_plan *plan, unsigned client)
{
    unsigned side = below(dice, 6);

    plan->clients[client].scheme = side < 4 ? CHAOS_HTTP : side < 5 ? CHAOS_HTTPS : CHAOS_EITHER;
    if (plan->clients[client].scheme != CHAOS_HTTP && one_in(dice, 2)) {
        plan->clients[client].is_auto = true;
        plan->clients[client].is_http2 = true; /* perhaps */
    }
    plan->clients[client].has_tls_made = one_in(dice, 4);
}

/* Nothing else, but for a pause now and then. */
static void keep_requests(struct chaos_plan *plan, unsigned weights[LAB_COUNT(kinds)])
{
    plan->channel_capacity = 0;
    for (size_t i = 0; i < LAB_COUNT(kinds); i++) {
        bool is_of_pool = i <= CHAOS_CALL_END || i == CHAOS_CANCEL || i == CHAOS_CLOSE_IDLE;

        weights[i] = is_of_pool ? weights[i] : i == CHAOS_SLEEP;
    }
}

/* All of it, or few requests, after which nobody comes who makes good what is lost. */
static void draw_rush(struct dice *dice, struct chaos_plan *plan)
{
    plan->is_rush = !one_in(dice, 3);
    plan->script_count = plan->is_rush ? 4 + below(dice, 5) : CHAOS_SCRIPTS_MAX;
}

/* Many want the one place that there is, and give up at any moment. */
static void draw_crowd(struct dice *dice, struct chaos_plan *plan,
                       unsigned weights[LAB_COUNT(kinds)])
{
    plan->is_crowd = true;
    plan->has_late = false;
    plan->client_count = 1;
    plan->clients[0].connections_per_host_max = 1 + one_in(dice, 3);
    plan->clients[0].no_keep_alive = one_in(dice, 4);
    plan->clients[0].is_http2 = one_in(dice, 8); /* sessions have places enough, mostly */
    plan->clients[0].is_auto = false;
    if (!one_in(dice, 4)) { /* in clear a place changes hands more often */
        plan->clients[0].scheme = CHAOS_HTTP;
    }
    plan->clients[0].looks_around = false;
    draw_rush(dice, plan);
    plan->runtime_count = 1 + below(dice, 2);
    for (unsigned i = 0; i < plan->runtime_count;
         i++) { /* many on one loop, who invite each other */
        plan->runtimes[i].worker_count = plan->runtimes[i].worker_count > 0;
    }
    keep_requests(plan, weights);
    /* What has come meanwhile is all there when it returns. */
    weights[CHAOS_BLOCK] = plan->is_rush ? 16 : 6;
}

/* Several runtimes have the streams of one session, and many are let go of half-way. */
static void draw_session(struct dice *dice, struct chaos_plan *plan,
                         unsigned weights[LAB_COUNT(kinds)])
{
    plan->has_late = false;
    plan->client_count = 1;
    plan->clients[0].connections_per_host_max = 1;
    plan->clients[0].is_http2 = true;
    plan->clients[0].no_keep_alive = false;
    plan->clients[0].looks_around = false;
    draw_rush(dice, plan);
    keep_requests(plan, weights);
    weights[CHAOS_STREAM] += plan->is_rush ? 0 : 4;
    weights[CHAOS_STREAM_END] += plan->is_rush ? 0 : 8;
}

void chaos_plan_draw(struct chaos_plan *plan, uint64_t seed, bool is_lively,
                     const struct solution *solution)
{
    struct dice dice = { .state = seed ^ UINT64_C(0x636861736f70616c) };
    unsigned weights[LAB_COUNT(kinds)];

    memset(plan, 0, sizeof(*plan));
    plan->runtime_count = 1 + below(&dice, CHAOS_RUNTIMES_MAX);
    plan->script_count = 2 + below(&dice, CHAOS_SCRIPTS_MAX - 1);
    plan->client_count = 1 + one_in(&dice, 3);
    plan->permit_count = 1 + below(&dice, 4);
    plan->channel_capacity = one_in(&dice, 2) ? 0 : 1 + below(&dice, 4);
    plan->calm_ms = below(&dice, 600);
    /* Who comes late may wake who was forgotten. */
    plan->has_late = is_lively && (!solution->is_plain || one_in(&dice, 2));
    for (unsigned i = 0; i < plan->runtime_count; i++) {
        draw_runtime(&dice, &plan->runtimes[i]);
    }
    for (unsigned i = 0; i < plan->client_count; i++) {
        plan->clients[i].connections_per_host_max = one_in(&dice, 2) ? 0 : 1 + below(&dice, 3);
        plan->clients[i].idle_per_host_max = one_in(&dice, 3) ? 1 + below(&dice, 2) : 0;
        plan->clients[i].idle_timeout_ms = one_in(&dice, 3) ? 1 + below(&dice, 300) : 0;
        plan->clients[i].no_keep_alive = one_in(&dice, 12);
        plan->clients[i].looks_around = one_in(&dice, 4);
        plan->clients[i].is_http2 = one_in(&dice, 2);
        draw_tls(&dice, plan, i);
        if (plan->clients[i].is_http2 && one_in(&dice, 2)) { /* many streams on few sessions */
            plan->clients[i].connections_per_host_max = 1;
        }
    }
    draw_weights(&dice, solution, weights);
    if (solution->is_plain && one_in(&dice, 3)) {
        draw_crowd(&dice, plan, weights);
    } else if (solution->is_plain && one_in(&dice, 5)) {
        draw_session(&dice, plan, weights);
    }
    for (unsigned i = 0; i < plan->script_count; i++) {
        draw_script(&dice, plan, i, is_lively, solution->is_plain, weights);
    }
}
