/* cause_owner.c: what happens to the runtime that opened the connection: it is parked, dropped, or
 * stuck. Four short causes: parked, dropped-idle, dropped-in-flight, busy.
 *
 * Owns: nothing. Threads: as lab/world.h says. */
#include "lab/catalogue.h"

#define BUSY_MS_MAX (15 * 60000) /* user code that nobody makes return comes back by itself */

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

/* ---- busy ---- */

struct busy {
    struct world *world;
    struct stage_event *is_stuck;
};

static void busy_block(void *arg)
{
    struct busy *busy = arg;

    world_note(busy->world, "user code blocks this thread");
    stage_event_set(busy->is_stuck);
    (void)stage_user_code_blocking_its_thread(busy->world->relent, BUSY_MS_MAX);
    world_note(busy->world, "user code returns");
}

static void busy_run(struct world *world)
{
    struct busy busy = { .world = world, .is_stuck = stage_event_new() };
    struct actor *a = actor_a(world);
    struct actor *b = actor_b(world);
    struct il_task *stuck = NULL;
    struct il_error err = { 0 };

    world_need(world, busy.is_stuck != NULL, "make an event: out of memory");
    world_fetch(world, a, 1);
    actor_drive(a); /* so that it goes on when the user code has returned */
    if (!world_is_failed(world)) {
        struct il_runtime *owner = world->solution->io_runtime(world, a);

        if (il_spawn(owner, "blocks", busy_block, &busy, &stuck, &err) != IL_OK) {
            world_fail(world, "block runtime '%s': %.150s", il_runtime_name(owner), err.message);
        }
        world_need(world, world_is_failed(world) || stage_event_wait(busy.is_stuck, WORLD_STEP_MS),
                   "block the runtime that does the I/O for A");
    }
    judged_run(world_ask(world, b, &(struct ask){ 0 }));
    stage_event_set(world->relent);
    if (stuck != NULL && il_task_join(stuck, il_deadline_in_ms(WORLD_STEP_MS), &err) != IL_OK) {
        world_fail(world, "the blocking task does not end: %.150s", err.message);
    }
    (void)il_task_unref(stuck);
    actor_park(a);
    stage_event_free(busy.is_stuck);
}

const struct cause cause_busy = {
    .name = "busy",
    .summary = "the only worker of the runtime that does A's I/O is stuck in blocking user code",
    .story =
        "Runtime A has an idle connection to the server. Then user code blocks the only thread "
        "of the runtime that does the I/O for A: A itself, or, under single-runtime, proxy and "
        "channel, the runtime that does it for everybody. Now a task of runtime B sends a "
        "request to the same server.",
    .run = busy_run,
};
