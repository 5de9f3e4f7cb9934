/* cause_peer.c: what happens to a place in the pool, or to work that is done for several requests,
 * when the request that has it is cancelled: slot-leak, lost-waiter, leader-cancelled.
 *
 * The library's pool does not have these defects, with either driver, so all solutions but the one
 * with our defaults have a pool with the book-keeping of a client that has them (peer.h).
 *
 * Owns: nothing. Threads: as lab/world.h says. */
#include "lab/catalogue.h"

static struct actor *actor_a(struct world *world)
{
    return world_actor(world, "A", IL_RUNTIME_CURRENT_THREAD, 0);
}

static struct actor *actor_b(struct world *world)
{
    return world_actor(world, "B", IL_RUNTIME_MULTI_THREAD, 1);
}

/* ---- a request that is sent twice, for speed ---- */

struct pair {
    struct judged *first, *second; /* the first has the connection, the second waits for it */
};

static void pair_begin(struct world *world, struct actor *a, struct pair *pair)
{
    pair->second = world_ask(world, a, &(struct ask){ .is_aside = true });
    pair->first = world_ask(
        world, a, &(struct ask){ .query = "hold=pair", .is_aside = true, .cancels = pair->second });
    actor_drive(a);
    judged_start(pair->first);
    world_need(world, stage_server_wait_held(world->server, "pair", 1, WORLD_STEP_MS),
               "have the first of two requests reach the server");
    judged_start(pair->second);
    judged_wait_phase(pair->second, IL_PHASE_POOL_WAIT);
    world_note(world, "A's second request waits for the connection that its first one has");
}

static void pair_end(struct world *world, struct pair *pair)
{
    stage_server_release(world->server, "pair");
    judged_wait(pair->first);
    judged_wait(pair->second);
    world_need(world, pair->first->code == IL_OK, "have the first of two requests answered");
}

/* ---- slot-leak ---- */

static void slot_leak_run(struct world *world)
{
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);
    struct pair pair;

    pair_begin(world, a, &pair);
    pair_end(world, &pair);
    judged_run(world_ask(world, b, &(struct ask){ 0 }));
    actor_park(a);
}

const struct cause cause_slot_leak = {
    .name = "slot-leak",
    .summary = "a request is cancelled just when it is given a place in the pool; then B asks",
    .story =
        "The pool may have one connection to the server. A task of runtime A sends a request; "
        "another one of A's sends the same once more, to have the faster answer, and waits for "
        "the connection. The first answer comes; the place becomes free and is the second "
        "request's, which at that very moment is not wanted any more, and is cancelled. Then a "
        "task of runtime B sends a request. All solutions but `interloop` have a pool that keeps "
        "its books as httpcore does.",
    .connections_per_host_max = 1,
    .peer = PEER_ASSIGNS,
    .run = slot_leak_run,
};

/* ---- lost-waiter ---- */

static void lost_waiter_run(struct world *world)
{
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);
    struct judged *waiting = world_ask(world, b, &(struct ask){ 0 });
    struct judged *later = world_ask(world, b, &(struct ask){ 0 });
    struct pair pair;

    pair_begin(world, a, &pair);
    judged_start(waiting);
    judged_wait_phase(waiting, IL_PHASE_POOL_WAIT);
    world_note(world, "B's request waits behind it, where A and B share a pool");
    pair_end(world, &pair);
    judged_start(later);
    judged_wait(waiting);
    judged_wait(later);
    actor_park(a);
}

const struct cause cause_lost_waiter = {
    .name = "lost-waiter",
    .summary = "the waiter that is woken for a free connection is cancelled; B waits behind it",
    .story =
        "The pool may have one connection to the server. A task of runtime A sends a request; "
        "another one of A's sends the same once more, and waits for the connection; behind it "
        "waits a request of runtime B. The first answer comes, the connection is free, and the "
        "oldest waiter, A's, is woken; but it is not wanted any more, and is cancelled. Then B "
        "sends another request. All solutions but `interloop` have a pool that keeps its books as "
        "aiohttp's did.",
    .connections_per_host_max = 1,
    .peer = PEER_WAKES,
    .run = lost_waiter_run,
};

/* ---- leader-cancelled ---- */

static void leader_cancelled_run(struct world *world)
{
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);
    struct judged *leader = world_ask(world, a, &(struct ask){ .is_aside = true });
    struct judged *of_a = world_ask(world, a, &(struct ask){ 0 });
    struct judged *of_b = world_ask(world, b, &(struct ask){ 0 });
    struct il_error err = { 0 };

    if (!world_is_failed(world)) {
        world_need(world, stage_server_stall(world->server, &err) == IL_OK,
                   "have new connections stall");
    }
    actor_drive(a);
    judged_start(leader);
    judged_wait_phase(leader, IL_PHASE_CONNECT);
    world_note(world, "A's first request is connecting; the handshake stalls");
    judged_start(of_a);
    judged_start(of_b);
    judged_wait_looked(of_a);
    judged_wait_looked(of_b);
    if (!world_is_failed(world)) {
        world_note(world, "A's first request is cancelled");
        il_task_cancel(leader->task);
    }
    judged_wait(leader);
    stage_server_unstall(world->server);
    world_note(world, "new connections are let in again");
    judged_wait(of_a);
    judged_wait(of_b);
    actor_park(a);
}

const struct cause cause_leader_cancelled = {
    .name = "leader-cancelled",
    .summary = "the request that was opening the connection for all is cancelled",
    .story =
        "A task of runtime A sends a request; there is no connection, and the handshake of a new "
        "one stalls. Another task of A's and one of runtime B send requests to the same server. "
        "The first one is cancelled: its user has lost patience. A moment later the handshakes no "
        "longer stall. All solutions but `interloop` have a pool in which the first request makes "
        "the connection for all that come meanwhile, and which forgets them when it is "
        "cancelled, as a program did whose requests waited until it was restarted.",
    .peer = PEER_COALESCES,
    .run = leader_cancelled_run,
};
