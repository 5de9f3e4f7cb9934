/* cause_h2.c: what becomes of requests that share one HTTP/2 connection with the runtime that
 * opened it, when that is parked (h2-parked), is dropped (h2-dropped), or has not opened it yet
 * (h2-connecting). What happens when it is stuck, tells cause_busy.c.
 *
 * Owns: nothing. Threads: as lab/world.h says. */
#include "lab/catalogue.h"

#define PARKED_ASKED      3
#define DROPPED_ASKED     2
#define CONNECTING_ASKED  8
#define CONNECTING_LATER  2
#define CONNECTING_DUE_MS 10000 /* A's own request, which waits until A is driven again */

static struct actor *actor_a(struct world *world)
{
    return world_actor(world, "A", IL_RUNTIME_CURRENT_THREAD, 0);
}

static struct actor *actor_b(struct world *world)
{
    return world_actor(world, "B", IL_RUNTIME_MULTI_THREAD, 1);
}

static void ask_at_once(struct world *world, struct actor *actor, const struct ask *ask,
                        unsigned count, struct judged **ret_judged)
{
    for (unsigned i = 0; i < count; i++) {
        ret_judged[i] = world_ask(world, actor, ask);
        judged_start(ret_judged[i]);
    }
}

static void wait_for_all(struct judged *const *judged, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        judged_wait(judged[i]);
    }
}

/* ---- h2-parked ---- */

static void h2_parked_run(struct world *world)
{
    struct judged *judged[PARKED_ASKED];
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);

    world_fetch(world, a, 1);
    ask_at_once(world, b, &(struct ask){ 0 }, PARKED_ASKED, judged);
    wait_for_all(judged, PARKED_ASKED);
}

const struct cause cause_h2_parked = {
    .name = "h2-parked",
    .summary = "HTTP/2: A opened the session and is parked; three requests of B are streams of it",
    .story =
        "Runtime A, a current-thread runtime, sends one request over HTTP/2, and is parked when it "
        "is answered. Its connection has room for a hundred streams, so the next requests to the "
        "same server need no other: a task of runtime B sends three at the same time.",
    .is_http2 = true,
    .run = h2_parked_run,
};

/* ---- h2-dropped ---- */

static void h2_dropped_run(struct world *world)
{
    struct judged *judged[DROPPED_ASKED];
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);

    world_fetch(world, a, 1);
    actor_drive(a);
    ask_at_once(world, b, &(struct ask){ .query = "hold=flight", .is_post = true }, DROPPED_ASKED,
                judged);
    world_need(world, stage_server_wait_held(world->server, "flight", DROPPED_ASKED, WORLD_STEP_MS),
               "have B's requests reach the server");
    world_note(world, "B's requests have reached the server, which has not answered yet");
    actor_park(a);
    actor_drop(a);
    stage_server_release(world->server, "flight");
    wait_for_all(judged, DROPPED_ASKED);
    judged_run(world_ask(world, b, &(struct ask){ 0 }));
}

const struct cause cause_h2_dropped = {
    .name = "h2-dropped",
    .summary = "HTTP/2: A is dropped while streams of B are open, perhaps on A's session",
    .story =
        "Runtime A sends one request over HTTP/2 and goes on running. Runtime B sends two POSTs, "
        "which nobody may send twice; they reach the server. Before the server answers, A is "
        "dropped. Then B sends one more request.",
    .is_http2 = true,
    .run = h2_dropped_run,
};

/* ---- h2-connecting ---- */

static void h2_connecting_run(struct world *world)
{
    struct judged *judged[CONNECTING_ASKED], *first;
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);
    struct il_error err = { 0 };

    first = world_ask(world, a, &(struct ask){ .due_ms = CONNECTING_DUE_MS });
    world_need(world, stage_server_stall(world->server, &err) == IL_OK,
               "have new connections stall");
    actor_drive(a);
    judged_start(first);
    judged_wait_phase(first, IL_PHASE_CONNECT);
    actor_park(a);
    world_note(world, "runtime A is parked in the middle of opening its connection");
    stage_server_unstall(world->server);
    world_note(world, "new connections are let in, and would be at once");
    ask_at_once(world, b, &(struct ask){ 0 }, CONNECTING_ASKED, judged);
    wait_for_all(judged, CONNECTING_ASKED);
    for (unsigned i = 0; i < CONNECTING_LATER; i++) {
        judged_run(world_ask(world, b, &(struct ask){ 0 }));
    }
    actor_drive(a);
    world_note(world, "runtime A is driven again");
    judged_wait(first);
    actor_park(a);
}

const struct cause cause_h2_connecting = {
    .name = "h2-connecting",
    .summary =
        "HTTP/2: A is parked while it opens the session; eight requests of B, and later ones",
    .story =
        "Runtime A sends a request to a server of HTTP/2, and is parked while its connection is "
        "being opened. One connection is enough for everybody, so others do not open another "
        "while one is on its way. Now a task of runtime B sends eight requests to the same server, "
        "which would let B in at once, and then two more, one after the other. In the end A is "
        "driven again.",
    .is_http2 = true,
    .run = h2_connecting_run,
};
