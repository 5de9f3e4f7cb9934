/* cause_owner.c: what happens to the runtime that opened the connection: it is parked, or dropped.
 * Three short causes: parked, dropped-idle, dropped-in-flight. What happens when it is stuck, tells
 * cause_busy.c.
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

/* ---- parked ---- */

static void parked_run(struct world *world)
{
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);

    world_fetch(world, a, 1);
    judged_run(world_ask(world, b, &(struct ask){ 0 }));
}

const struct cause cause_parked = {
    .name = "parked",
    .summary = "A opened a connection and is alive, but no thread drives it; B's request reuses it",
    .story =
        "Runtime A, a current-thread runtime, sends one request; the connection stays open and "
        "idle. Then A's thread leaves il_block_on and does something else: A is alive, but "
        "parked. Now a task of runtime B sends a request to the same server.",
    .run = parked_run,
};

/* ---- dropped ---- */

static void dropped_idle_run(struct world *world)
{
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);

    world_fetch(world, a, 1);
    actor_drop(a);
    judged_run(world_ask(world, b, &(struct ask){ 0 }));
}

const struct cause cause_dropped_idle = {
    .name = "dropped-idle",
    .summary = "A opened a connection, left it idle and was dropped; then B sends a request",
    .story =
        "Runtime A sends one request; the connection stays open and idle. A is dropped. Then a "
        "task of runtime B sends a request to the same server.",
    .run = dropped_idle_run,
};

static void dropped_in_flight_run(struct world *world)
{
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);
    struct judged *judged;

    world_fetch(world, a, 1);
    actor_drive(a);
    judged = world_ask(world, b, &(struct ask){ .query = "hold=flight", .is_post = true });
    judged_start(judged);
    world_need(world, stage_server_wait_held(world->server, "flight", 1, WORLD_STEP_MS),
               "have B's request reach the server");
    world_note(world, "B's request has reached the server, which has not answered yet");
    actor_park(a);
    actor_drop(a);
    stage_server_release(world->server, "flight");
    judged_wait(judged);
}

const struct cause cause_dropped_in_flight = {
    .name = "dropped-in-flight",
    .summary = "A is dropped while B's request is under way, perhaps on A's connection",
    .story =
        "Runtime A sends one request and goes on running; its connection is idle. A task of "
        "runtime B sends a POST, which nobody may send twice; it reaches the server. Before the "
        "server answers, A is dropped.",
    .run = dropped_in_flight_run,
};
