/* cause_pool.c: what the pool hands to others: a connection for a waiter (handed-over), a heap of
 * idle ones (leftovers), one that delivers a body (dropped-mid-body), one that the server closed
 * meanwhile (parked-between) or closes at the same moment (stale).
 *
 * Owns: nothing. Threads: as lab/world.h says. */
#include <stdio.h>

#include "lab/catalogue.h"

#define LEFTOVERS_COUNT 8
#define LEFTOVERS_ASKED 10
#define MID_BODY_BYTES  200000
#define MID_BODY_PAUSE  100000 /* the server sends so many, and waits */
#define BETWEEN_ROUNDS  2      /* of each way in which a server ends an idle connection */

static struct actor *actor_a(struct world *world)
{
    return world_actor(world, "A", IL_RUNTIME_CURRENT_THREAD, 0);
}

static struct actor *actor_b(struct world *world)
{
    return world_actor(world, "B", IL_RUNTIME_MULTI_THREAD, 1);
}

/* ---- handed-over ---- */

static void handed_over_run(struct world *world)
{
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);
    struct judged *judged = world_ask(world, b, &(struct ask){ .query = "hold=b" });
    struct il_error err = { 0 };

    world_fetch_begin(world, a, 1);
    if (world_is_failed(world)) {
        return;
    }
    world_need(world, stage_server_stall(world->server, &err) == IL_OK,
               "have new connections stall");
    world_note(world, "new connections stall in the handshake from now on");
    judged_start(judged);
    judged_wait_phase(judged, IL_PHASE_CONNECT);
    world_note(world, "B waits for a connection, and its own does not come about");
    world_fetch_end(world, a);
    stage_server_release(world->server, "b");
    stage_server_unstall(world->server);
    world_note(world, "new connections are let in again");
    judged_wait(judged);
}

const struct cause cause_handed_over = {
    .name = "handed-over",
    .summary = "B waits for a connection, its own connect stalls; A's becomes free for it; A parks",
    .story =
        "A request of runtime A is under way. A task of runtime B sends a request; there is no "
        "idle connection, so one is opened, but the handshake stalls. A's answer comes, A's "
        "connection becomes free, and serves B's waiting request. A, which has what it wanted, "
        "is parked. A moment later the handshakes no longer stall.",
    .run = handed_over_run,
};

/* ---- leftovers ---- */

static void leftovers_run(struct world *world)
{
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);

    world_fetch(world, a, LEFTOVERS_COUNT);
    world_note(world, "runtime A is parked and leaves %d idle connections behind", LEFTOVERS_COUNT);
    for (unsigned i = 0; i < LEFTOVERS_ASKED; i++) {
        judged_run(world_ask(world, b, &(struct ask){ 0 }));
    }
}

const struct cause cause_leftovers = {
    .name = "leftovers",
    .summary = "A leaves eight idle connections behind and parks; B sends ten requests in turn",
    .story =
        "Runtime A sends eight requests at the same time, and is parked when they are answered: "
        "eight idle connections are left behind. Now a task of runtime B sends ten requests to "
        "the same server, one after the other.",
    .run = leftovers_run,
};

/* ---- dropped-mid-body ---- */

static void dropped_mid_body_run(struct world *world)
{
    struct stage_event *on_middle = stage_event_new();
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);
    struct judged *judged;

    world_need(world, on_middle != NULL, "make an event: out of memory");
    world_fetch(world, a, 1);
    actor_drive(a);
    judged = world_ask(world, b,
                       &(struct ask){ .query = "pause_at=100000&pause_hold=middle",
                                      .bytes = MID_BODY_BYTES,
                                      .middle = MID_BODY_PAUSE,
                                      .on_middle = on_middle });
    judged_start(judged);
    world_need(world, stage_server_wait_held(world->server, "middle", 1, WORLD_STEP_MS),
               "have the first half of the body sent");
    world_need(world,
               world_is_failed(world) || world->solution->is_whole ||
                   stage_event_wait(on_middle, WORLD_STEP_MS),
               "have B read the first half of the body");
    world_note(world, "the server has sent %d of %llu bytes, and pauses", MID_BODY_PAUSE,
               (unsigned long long)judged->ask.bytes);
    actor_park(a);
    actor_drop(a);
    stage_server_release(world->server, "middle");
    judged_wait(judged);
    stage_event_free(on_middle);
}

const struct cause cause_dropped_mid_body = {
    .name = "dropped-mid-body",
    .summary = "A is dropped while B reads a body, perhaps over A's connection",
    .story =
        "Runtime A sends one request and goes on running; its connection is idle. A task of "
        "runtime B sends a request and reads the first half of the answer's body, whose length "
        "the server has announced. Then A is dropped, and the server sends the second half.",
    .run = dropped_mid_body_run,
};

/* ---- parked-between ---- */

static void between_ask(struct world *world, struct actor *a)
{
    judged_start_alone(world_ask(world, a, &(struct ask){ 0 }));
    actor_wait(a);
    world_note(world, "il_block_on has returned: runtime A is parked");
    world_need(world, stage_server_wait_idle(world->server, 1, WORLD_STEP_MS),
               "have one idle connection after a request");
}

struct between {
    struct judged *judged;
    const char *gate;
};

/* Start the request, and leave il_block_on as soon as it has reached the server. */
static void between_launch(void *arg)
{
    struct between *between = arg;
    struct world *world = between->judged->world;
    uint64_t until_ns = il_deadline_in_ms(WORLD_STEP_MS);
    bool is_held = false;

    judged_start(between->judged);
    while (!is_held && il_now_ns() < until_ns && il_sleep_ms(1) == IL_OK) {
        is_held = stage_server_wait_held(world->server, between->gate, 1, 0);
    }
    world_need(world, is_held, "have a request reach the server");
}

static void between_fetch(void *arg)
{
    const struct between *between = arg;

    judged_wait(between->judged);
}

/* A request that is under way when il_block_on returns, and answered before the next one. */
static void between_ask_across(struct world *world, struct actor *a, const char *gate)
{
    struct between between = { .gate = gate };
    char query[32];

    (void)snprintf(query, sizeof(query), "hold=%s", gate);
    between.judged = world_ask(world, a, &(struct ask){ .query = query });
    actor_start(a, between_launch, &between);
    actor_wait(a);
    world_note(world, "il_block_on has returned while a request is under way");
    stage_server_release(world->server, gate);
    world_note(world, "the server answers; nobody drives runtime A");
    actor_start(a, between_fetch, &between);
    actor_wait(a);
}

static void parked_between_run(struct world *world)
{
    static const char *const gates[BETWEEN_ROUNDS] = { "between-1", "between-2" };
    struct actor *a = actor_a(world);

    for (unsigned i = 0; i < BETWEEN_ROUNDS && !world_is_failed(world); i++) {
        between_ask(world, a); /* over the connection of the round before, closed meanwhile */
        between_ask(world, a);
        (void)stage_server_close_idle(world->server);
        world_note(world, "the server closes the idle connection");
        between_ask(world, a);
        between_ask_across(world, a, gates[i]);
        world_need(world, stage_server_wait_idle(world->server, 1, WORLD_STEP_MS),
                   "have one idle connection after a request");
        (void)stage_server_scold_idle(world->server);
        world_note(world, "the server says 408 on the idle connection, and closes it");
    }
}

const struct cause cause_parked_between = {
    .name = "parked-between",
    .summary = "one runtime, one client, il_block_on again and again; the server closes in between",
    .story =
        "A single current-thread runtime sends request after request, each in an il_block_on of "
        "its own, so that it is parked in between. In between the server closes the idle "
        "connection, or says 408 Request Timeout on it first, or answers a request that was "
        "left under way, and nobody is there to notice. This is the most cited report of a "
        "hanging hyper client.",
    .run = parked_between_run,
};

/* ---- stale ---- */

static void stale_run(struct world *world)
{
    struct actor *b = actor_b(world);
    struct judged *judged;

    world_fetch(world, b, 1);
    judged = world_ask(world, b, &(struct ask){ .query = "hold=stale" });
    judged_start(judged);
    world_need(world, stage_server_wait_held(world->server, "stale", 1, WORLD_STEP_MS),
               "have B's request reach the server");
    if (!world_is_failed(world)) {
        (void)stage_server_close_held(world->server);
        world_note(world, "the server closes the connection that was idle for so long, and with it "
                          "goes the request that has just come");
    }
    stage_server_release(world->server, "stale");
    judged_wait(judged);
}

const struct cause cause_stale = {
    .name = "stale",
    .summary = "the server closes a kept connection just when the next request is on its way",
    .story =
        "A task of runtime B sends a request; its connection stays open and idle. The server's "
        "patience with it ends at the very moment at which B sends another request, a GET: the "
        "bytes have left, nothing had told the client that the connection was about to go, and "
        "what comes back is its end. Where the server closes what was idle for 5 s and the client "
        "keeps it for 90 s, this happens now and then, whatever the runtimes do.",
    .run = stale_run,
};

/* ---- unasked ---- */

static void unasked_run(struct world *world)
{
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);

    world_fetch(world, a, 1);
    if (!world_is_failed(world)) {
        (void)stage_server_scold_idle(world->server);
        world_note(world, "the server says 408 on the idle connection, and closes it");
    }
    judged_run(world_ask(world, b, &(struct ask){ 0 }));
}

const struct cause cause_unasked = {
    .name = "unasked",
    .summary = "the server says something on A's idle connection while A is parked; B asks",
    .story =
        "Runtime A sends one request; the connection stays open and idle, and A is parked. The "
        "server writes a response that nobody asked for onto it, and closes it. Then a task "
        "of runtime B sends a request to the same server. The bytes that lie in the socket "
        "must not be taken for its answer.",
    .run = unasked_run,
};
