/* chaos.c: plays a plan: makes what it needs, lets everybody loose, and counts afterwards.
 *
 * Owns: runtimes, clients, and the rest of struct chaos. Each runtime has a *keeper*, a thread that
 *   drives it (if it is a current-thread one) and ends it when its time has come.
 * Threads: the main thread, in chaos_run; the keepers.
 * Ends: when all scripts have ended. If they do not, that is the finding, and the run is left
 *   standing as it is: nothing of it can be taken down in order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/catalogue.h"
#include "lab/chaos.h"
#include "sim/sim.h"

#define CHAOS_SLICE_MS     1000
#define CHAOS_SLICES_MAX   600     /* no script takes longer, jumps of the clock not counted */
#define CHAOS_FOREVER_MS   3600000 /* a day's last hour */
#define CHAOS_SETTLE_MS    400     /* longer than a packet is on its way */
#define CHAOS_STACK_SIZE   65536
#define CHAOS_REQUESTS_MAX 64

/* Small ones, so that one that leaks is soon empty. */
#define CHAOS_STREAM_WINDOW     16384
#define CHAOS_CONNECTION_WINDOW 98304

void chaos_wrong(struct chaos *chaos, const char *format, ...)
{
    struct result *result = chaos->world->result;
    va_list args;

    stage_mutex_lock(chaos->world->mutex);
    if (result->verdict != LAB_WRONG) {
        result->verdict = LAB_WRONG;
        va_start(args, format);
        (void)vsnprintf(result->note, sizeof(result->note), format, args);
        va_end(args);
    }
    stage_mutex_unlock(chaos->world->mutex);
}

/* ---- scripts ---- */

static bool step_is_left_out(const struct chaos_script *script, unsigned step)
{
    unsigned part = script->index * CHAOS_STEPS_MAX + step;

    return (script->chaos->world->options.without[part / 64] >> part % 64 & 1) != 0;
}

static bool script_is_left_out(const struct chaos_script *script)
{
    for (unsigned i = 0; i < script->plan->step_count; i++) {
        if (!step_is_left_out(script, i)) {
            return false;
        }
    }
    return true;
}

/* The last sender and the last receiver close the channel: whoever waits on the other side would
 * wait for ever. */
static void script_leave_channel(struct chaos_script *script)
{
    struct chaos *chaos = script->chaos;
    bool is_last = false;

    if (script->plan->role == CHAOS_SENDER) {
        is_last = atomic_fetch_sub(&chaos->senders_left, 1) == 1;
    } else if (script->plan->role == CHAOS_RECEIVER) {
        is_last = atomic_fetch_sub(&chaos->receivers_left, 1) == 1;
    }
    if (is_last) {
        (void)il_channel_close(chaos->channel, NULL); /* cannot fail: it is there */
    }
}

static void script_finish(struct chaos_script *script)
{
    struct chaos *chaos = script->chaos;

    il_oneshot_sender_free(script->sender);
    script->sender = NULL;
    script_leave_channel(script);
    atomic_store(&script->is_finished, true);
    if (atomic_fetch_add(&chaos->finished_count, 1) + 1 == chaos->plan.script_count) {
        stage_event_set(chaos->is_over);
    }
}

static void script_main(void *arg)
{
    struct chaos_script *script = arg;

    for (unsigned i = 0; i < script->plan->step_count; i++) {
        const struct chaos_step *step = &script->plan->steps[i];

        atomic_store(&script->at, i);
        if (!step_is_left_out(script, i)) {
            world_note(script->chaos->world, "%s: %s %u", script->name, chaos_step_name(step->kind),
                       step->number);
            if (!chaos_step_do(script, step)) {
                break;
            }
        }
    }
    world_note(script->chaos->world, "%s ends", script->name);
    script_finish(script);
}

static void script_start(struct chaos_script *script)
{
    struct chaos *chaos = script->chaos;
    bool is_started = false;

    if (script_is_left_out(script)) {
        script_finish(script);
        return;
    }
    if (script->runtime == NULL) {
        script->thread = stage_thread_start(script->name, script_main, script);
        is_started = script->thread != NULL;
    } else if (script->runtime->actor.runtime != NULL) {
        struct il_task *task = NULL;
        struct il_error err;

        is_started = il_spawn(script->runtime->actor.runtime, script->name, script_main, script,
                              &task, &err) == IL_OK; /* its runtime may have ended */
        stage_mutex_lock(chaos->mutex);
        script->task = task;
        stage_mutex_unlock(chaos->mutex);
    }
    if (!is_started) {
        script_finish(script);
    }
}

/* ---- keepers ---- */

static void keeper_drive(void *arg)
{
    struct chaos_runtime *runtime = arg;

    (void)il_sleep_ms(runtime->plan->drive_ms); /* cancelled or not: then it is over */
}

static void keeper_end(struct chaos_runtime *runtime)
{
    struct il_error err;

    world_note(runtime->chaos->world, "runtime %s is ended", runtime->actor.name);
    atomic_store(&runtime->is_ending, true);
    /* what had to be cut off is of no matter; that all of it ends, the scripts will show */
    (void)il_runtime_shutdown(runtime->actor.runtime, il_deadline_in_ms(runtime->plan->drain_ms),
                              NULL, &err);
    world_note(runtime->chaos->world, "runtime %s has ended", runtime->actor.name);
}

static void keeper_main(void *arg)
{
    struct chaos_runtime *runtime = arg;
    const struct chaos_runtime_plan *plan = runtime->plan;
    struct chaos *chaos = runtime->chaos;
    uint64_t end_ns = plan->life_ms == UINT32_MAX ? IL_FOREVER : il_deadline_in_ms(plan->life_ms);
    bool is_over = false;
    struct il_error err;

    if (plan->kind == IL_RUNTIME_MULTI_THREAD) {
        while (!is_over && il_now_ns() < end_ns) {
            is_over = stage_event_wait(
                chaos->is_over, plan->life_ms == UINT32_MAX ? CHAOS_FOREVER_MS : plan->life_ms);
        }
    }
    while (plan->kind == IL_RUNTIME_CURRENT_THREAD && !is_over && il_now_ns() < end_ns) {
        if (il_block_on(runtime->actor.runtime, keeper_drive, runtime, &err) != IL_OK) {
            stage_sleep_ms(1); /* no memory for it now */
        }
        is_over =
            stage_event_wait(chaos->is_over, plan->park_ms) || atomic_load(&chaos->is_abandoned);
    }
    if (!atomic_load(&chaos->is_abandoned)) {
        keeper_end(runtime);
    }
}

/* ---- making things ---- */

static bool chaos_wants_tls(const struct chaos *chaos)
{
    bool wants = false;

    for (unsigned i = 0; i < chaos->plan.client_count; i++) {
        wants = wants || chaos->plan.clients[i].scheme != CHAOS_HTTP;
    }
    return wants && chaos->world->solution->is_plain;
}

static bool chaos_open_tls(struct chaos *chaos, struct il_error *err)
{
    struct il_tls_options options = IL_TLS_OPTIONS_INIT;

    if (!chaos_wants_tls(chaos)) {
        return true;
    }
    if (il_tls_new(NULL, &chaos->tls[0], err) != IL_OK) {
        return false;
    }
    options.insecure_no_verification = true;
    return il_tls_new(&options, &chaos->tls[1], err) == IL_OK;
}

static enum il_http_version chaos_http_version(const struct chaos *chaos, unsigned client)
{
    if (chaos->plan.clients[client].scheme != CHAOS_HTTP && chaos->plan.clients[client].is_auto) {
        return IL_HTTP_AUTO;
    }
    return chaos->plan.clients[client].is_http2 ? IL_HTTP_2_PRIOR_KNOWLEDGE : IL_HTTP_1_1;
}

static bool chaos_open_clients(struct chaos *chaos, struct il_error *err)
{
    const struct world *world = chaos->world;

    for (unsigned i = 0; world->solution->is_plain && i < chaos->plan.client_count; i++) {
        struct il_client_options options;

        world_client_options(world, i == 0 ? "client" : "other", &options);
        options.connections_per_host_max = chaos->plan.clients[i].connections_per_host_max;
        options.idle_per_host_max = chaos->plan.clients[i].idle_per_host_max;
        options.idle_timeout_ms = chaos->plan.clients[i].idle_timeout_ms;
        /* A look around now and then would make good, late, for a wake that was lost. */
        options.unread_timeout_ms = chaos->plan.clients[i].looks_around ? 0 : IL_FOREVER;
        options.http2_stream_window = CHAOS_STREAM_WINDOW;
        options.http2_connection_window = CHAOS_CONNECTION_WINDOW;
        options.no_keep_alive = chaos->plan.clients[i].no_keep_alive;
        options.http_version = chaos_http_version(chaos, i);
        options.tls = chaos->plan.clients[i].has_tls_made ? NULL : chaos->tls[0];
        if (il_client_new(&options, &chaos->clients[i], err) != IL_OK) {
            return false;
        }
    }
    return true;
}

static bool chaos_open_runtime(struct chaos *chaos, unsigned index, struct il_error *err)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct chaos_runtime *runtime = &chaos->runtimes[index];
    struct world *world = chaos->world;

    runtime->chaos = chaos;
    runtime->plan = &chaos->plan.runtimes[index];
    runtime->actor.world = world;
    (void)snprintf(runtime->actor.name, sizeof(runtime->actor.name), "%c", 'A' + (int)index);
    runtime->actor.kind = runtime->plan->kind;
    options.kind = runtime->plan->kind;
    options.name = runtime->actor.name;
    options.worker_count = runtime->plan->worker_count;
    options.stack_size = CHAOS_STACK_SIZE;
    if (il_runtime_new(&options, &runtime->actor.runtime, err) != IL_OK) {
        runtime->actor.runtime = NULL;
        return false;
    }
    return world->solution->on_actor == NULL ||
           world->solution->on_actor(world, &runtime->actor, err) == IL_OK;
}

static bool chaos_open_scripts(struct chaos *chaos, struct il_error *err)
{
    for (unsigned i = 0; i < chaos->plan.script_count; i++) {
        struct chaos_script *script = &chaos->scripts[i];

        script->chaos = chaos;
        script->plan = &chaos->plan.scripts[i];
        script->index = i;
        script->runtime =
            script->plan->runtime >= 0 ? &chaos->runtimes[script->plan->runtime] : NULL;
        (void)snprintf(script->name, sizeof(script->name), "c%u", i);
        chaos->senders_left += script->plan->role == CHAOS_SENDER;
        chaos->receivers_left += script->plan->role == CHAOS_RECEIVER;
        if (il_oneshot_new(&script->sender, &script->receiver, err) != IL_OK) {
            return false;
        }
    }
    return true;
}

static bool chaos_open(struct chaos *chaos, struct il_error *err)
{
    size_t capacity = chaos->plan.channel_capacity > 0 ? chaos->plan.channel_capacity : 1;

    chaos->mutex = stage_mutex_new();
    chaos->is_over = stage_event_new();
    if (chaos->mutex == NULL || chaos->is_over == NULL || !chaos_open_tls(chaos, err) ||
        !chaos_open_clients(chaos, err) ||
        il_semaphore_new("permits", chaos->plan.permit_count, &chaos->semaphore, err) != IL_OK ||
        il_mutex_new("lock", &chaos->lock, err) != IL_OK ||
        il_channel_new("channel", capacity, chaos_message_free, &chaos->channel, err) != IL_OK ||
        !chaos_open_scripts(chaos, err)) {
        return false;
    }
    for (unsigned i = 0; i < chaos->plan.runtime_count; i++) {
        if (!chaos_open_runtime(chaos, i, err)) {
            return false;
        }
    }
    if ((chaos->senders_left == 0) != (chaos->receivers_left == 0)) {
        (void)il_channel_close(chaos->channel, NULL); /* those of one side have no others */
    }
    return true;
}

/* ---- what is wrong at the end ---- */

/* The worst of the requests that are under way gives the chain. */
static void hang_find_chain(struct result *result)
{
    struct il_watch_request *rows = calloc(CHAOS_REQUESTS_MAX, sizeof(*rows));
    const struct il_watch_request *worst = NULL;
    size_t count = 0;

    if (rows != NULL && il_watch_requests(rows, CHAOS_REQUESTS_MAX, &count) == IL_OK) {
        count = count < CHAOS_REQUESTS_MAX ? count : CHAOS_REQUESTS_MAX;
        for (size_t i = 0; i < count; i++) {
            if (worst == NULL || rows[i].verdict > worst->verdict) {
                worst = &rows[i];
            }
        }
        if (worst != NULL) {
            result->link_count = worst->link_count;
            memcpy(result->links, worst->links, sizeof(result->links));
        }
    }
    free(rows);
}

/* Some scripts do not come to their end. Say which, and leave everything as it is. */
static __attribute__((noreturn)) void chaos_hang(struct chaos *chaos)
{
    struct result *result = chaos->world->result;
    size_t used = 0;

    atomic_store(&chaos->is_abandoned, true);
    result->verdict = LAB_HUNG;
    result->is_certain = true;
    for (unsigned i = 0; i < chaos->plan.script_count && used + 48 < sizeof(result->note); i++) {
        struct chaos_script *script = &chaos->scripts[i];
        unsigned at = atomic_load(&script->at);

        if (!atomic_load(&script->is_finished)) {
            used += (size_t)snprintf(
                result->note + used, sizeof(result->note) - used,
                "%s%s on %s stands at step %u, %s", used > 0 ? "; " : "", script->name,
                script->runtime != NULL ? script->runtime->actor.name : "its thread", at,
                chaos_step_name(script->plan->steps[at].kind));
        }
    }
    hang_find_chain(result);
    world_note(chaos->world, "nobody comes to an end any more");
    for (;;) {
        stage_sleep_ms(CHAOS_FOREVER_MS);
    }
}

static void check_calls(struct chaos *chaos)
{
    unsigned count = atomic_load(&chaos->call_count);

    for (unsigned i = 0; i < count; i++) {
        struct chaos_call *call = &chaos->calls[i];

        if (atomic_load(&call->is_started) && atomic_load(&call->done_count) != 1) {
            chaos_wrong(chaos, "the call for \"%s\" was completed %u times", call->token,
                        atomic_load(&call->done_count));
        }
    }
}

static void check_posts(struct chaos *chaos)
{
    for (unsigned i = 0; i < chaos->plan.script_count; i++) {
        const struct chaos_script_plan *script = &chaos->plan.scripts[i];

        for (unsigned k = 0; k < script->step_count; k++) {
            char path[32];
            unsigned count;

            if (script->steps[k].kind == CHAOS_POST || script->steps[k].kind == CHAOS_UPLOAD) {
                (void)snprintf(path, sizeof(path), "/id/c%u-%u", i, k);
                count = stage_server_seen(chaos->world->server, path);
                if (count > 1) {
                    chaos_wrong(chaos, "POST %s reached the server %u times", path, count);
                }
            }
        }
    }
}

/* When the responses are gone, too. */
static void check_clients(struct chaos *chaos)
{
    for (unsigned i = 0; i < LAB_COUNT(chaos->clients); i++) {
        struct il_client_stats stats = { 0 };

        if (chaos->clients[i] != NULL) {
            il_client_stats(chaos->clients[i], &stats);
        }
        if (stats.calls != 0 || stats.waiters != 0 || stats.connections != stats.idle) {
            chaos_wrong(chaos,
                        "client %u has %u requests, %u waiters, and %u connections of which %u are "
                        "idle, at the end",
                        i, stats.calls, stats.waiters, stats.connections, stats.idle);
        }
    }
}

static void check_server(struct chaos *chaos)
{
    struct stage_server_counts counts;

    stage_server_counts(chaos->world->server, &counts);
    if (counts.complaints > 0) {
        chaos_wrong(chaos, "what was sent to the server, or how, was wrong %llu times",
                    (unsigned long long)counts.complaints);
    }
}

/* When nobody runs any more. */
static void chaos_check(struct chaos *chaos)
{
    struct il_semaphore_stats permits = { 0 };

    check_calls(chaos);
    check_posts(chaos);
    check_server(chaos);
    if (il_semaphore_stats(chaos->semaphore, &permits, NULL) == IL_OK &&
        permits.available != chaos->plan.permit_count) {
        chaos_wrong(chaos, "%u of %u permits are there at the end", permits.available,
                    chaos->plan.permit_count);
    }
}

static void check_messages(struct chaos *chaos)
{
    unsigned sent = atomic_load(&chaos->sent_count);
    unsigned received = atomic_load(&chaos->received_count);
    unsigned freed = atomic_load(&chaos->freed_count);

    if (sent != received + freed) {
        chaos_wrong(chaos, "%u messages were sent, %u received and %u freed", sent, received,
                    freed);
    }
}

static void chaos_close(struct chaos *chaos)
{
    struct world *world = chaos->world;

    for (unsigned i = 0; i < chaos->plan.runtime_count; i++) {
        struct actor *actor = &chaos->runtimes[i].actor;

        if (actor->runtime != NULL) {
            if (world->solution->on_actor_end != NULL) {
                world->solution->on_actor_end(world, actor);
            }
            actor->runtime = il_runtime_drop(actor->runtime);
        }
    }
    for (unsigned i = 0; i < chaos->plan.script_count; i++) {
        il_oneshot_sender_free(chaos->scripts[i].sender);
        il_oneshot_receiver_free(chaos->scripts[i].receiver);
    }
    chaos->channel = il_channel_unref(chaos->channel);
    check_messages(chaos);
    check_clients(chaos);
    chaos->lock = il_mutex_unref(chaos->lock);
    chaos->semaphore = il_semaphore_unref(chaos->semaphore);
    for (unsigned i = 0; i < LAB_COUNT(chaos->clients); i++) {
        chaos->clients[i] = il_client_unref(chaos->clients[i]);
    }
    for (unsigned i = 0; i < LAB_COUNT(chaos->tls); i++) {
        chaos->tls[i] = il_tls_unref(chaos->tls[i]);
    }
    stage_event_free(chaos->is_over);
    stage_mutex_free(chaos->mutex);
}

/* ---- the play ---- */

static void start_scripts(struct chaos *chaos, bool is_late)
{
    for (unsigned i = 0; i < chaos->plan.script_count; i++) {
        if (chaos->scripts[i].plan->is_late == is_late) {
            script_start(&chaos->scripts[i]);
        }
    }
}

static void start_keepers(struct chaos *chaos)
{
    for (unsigned i = 0; i < chaos->plan.runtime_count; i++) {
        struct chaos_runtime *runtime = &chaos->runtimes[i];
        char name[STAGE_THREAD_NAME_SIZE];

        (void)snprintf(name, sizeof(name), "keeper %s", runtime->actor.name);
        runtime->keeper = stage_thread_start(name, keeper_main, runtime);
        if (runtime->keeper == NULL) {
            keeper_end(runtime); /* no thread to be had */
        }
    }
}

static void chaos_join(struct chaos *chaos)
{
    for (unsigned i = 0; i < chaos->plan.script_count; i++) {
        stage_thread_join(chaos->scripts[i].thread);
    }
    for (unsigned i = 0; i < chaos->plan.runtime_count; i++) {
        stage_thread_join(chaos->runtimes[i].keeper);
    }
    for (unsigned i = 0; i < chaos->plan.script_count; i++) {
        chaos->scripts[i].task = il_task_unref(chaos->scripts[i].task);
    }
}

static void chaos_play(struct chaos *chaos)
{
    const struct world *world = chaos->world;
    bool is_over = false;

    start_keepers(chaos);
    start_scripts(chaos, false);
    if (world->options.is_lively) {
        stage_sleep_ms(chaos->plan.calm_ms);
        if (sim_is_running()) {
            sim_calm(SIM_FAULTS_ALL);
        }
        world_note(chaos->world, "from here on nothing goes wrong any more");
        stage_sleep_ms(CHAOS_SETTLE_MS); /* what went wrong before is known by then */
        start_scripts(chaos, true);
    }
    /* In slices: a jump of the clock ends no more than one of them. */
    for (unsigned i = 0; !is_over && i < CHAOS_SLICES_MAX; i++) {
        is_over = stage_event_wait(chaos->is_over, CHAOS_SLICE_MS);
    }
    if (!is_over) {
        chaos_hang(chaos);
    }
    chaos_join(chaos);
    chaos_check(chaos);
}

static void chaos_run(struct world *world)
{
    struct chaos *chaos = calloc(1, sizeof(*chaos));
    struct il_error err = { 0 };

    if (chaos == NULL) {
        world_fail(world, "out of memory");
        return;
    }
    chaos->world = world;
    chaos_plan_draw(&chaos->plan, world->options.seed, world->options.is_lively, world->solution);
    if (chaos_open(chaos, &err)) {
        chaos_play(chaos);
    } else {
        world_fail(world, "set-up: %.200s", err.message);
    }
    chaos_close(chaos);
    free(chaos);
}

const struct cause cause_general = {
    .name = "general",
    .summary = "several runtimes and threads do everything at random, and to each other",
    .story = "Up to four runtimes and some plain threads send requests, stream bodies, wait for "
             "each other, cancel each other and block their threads, while runtimes are parked "
             "and ended. Who does what is drawn from the seed.",
    .is_unjudged = true,
    .run = chaos_run,
};
