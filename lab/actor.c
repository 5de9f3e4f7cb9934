/* actor.c: a runtime with a thread of its own, which drives it when told to.
 *
 * Owns: the runtime and the thread. Threads: the actor's thread obeys one order at a time; orders
 * are given by the main thread, while the actor's is parked. */
#include <stdio.h>

#include "lab/world.h"

#define ACTOR_ORDER_MS (3600 * 1000)

static void actor_drop_runtime(struct actor *actor)
{
    struct world *world = actor->world;

    if (actor->runtime == NULL) {
        return;
    }
    if (world->solution->on_actor_end != NULL) {
        world->solution->on_actor_end(world, actor);
    }
    actor->runtime = il_runtime_drop(actor->runtime);
    world_note(world, "runtime %s is dropped", actor->name);
}

/* Named for stack traces: this is what a parked runtime looks like. */
static __attribute__((noinline)) void actor_thread_is_parked(struct actor *actor)
{
    atomic_store(&actor->is_parked, true);
    while (!stage_event_wait(actor->has_order, ACTOR_ORDER_MS)) {
    }
    atomic_store(&actor->is_parked, false);
    stage_event_reset(actor->has_order);
}

static void actor_block_on(struct actor *actor)
{
    struct il_error err;

    if (il_block_on(actor->runtime, actor->run, actor->arg, &err) != IL_OK) {
        world_fail(actor->world, "il_block_on of %s: %.180s", actor->name, err.message);
    }
}

static void actor_main(void *arg)
{
    struct actor *actor = arg;

    for (;;) {
        actor_thread_is_parked(actor);
        switch (actor->order) {
        case ACTOR_RUN:
            actor_block_on(actor);
            break;
        case ACTOR_RUN_AND_DROP:
            actor_block_on(actor);
            actor_drop_runtime(actor);
            break;
        case ACTOR_DROP:
            actor_drop_runtime(actor);
            break;
        case ACTOR_END:
            actor_drop_runtime(actor);
            return;
        }
        stage_event_set(actor->is_done);
    }
}

static enum il_code actor_init(struct actor *actor, enum il_runtime_kind kind,
                               unsigned worker_count, struct il_error *err)
{
    struct il_runtime_options options;
    struct world *world = actor->world;
    enum il_code code;

    actor->kind = kind;
    world_runtime_options(world, actor->name, kind, &options);
    options.worker_count = worker_count;
    actor->has_order = stage_event_new();
    actor->is_done = stage_event_new();
    actor->is_driving = stage_event_new();
    if (actor->has_order == NULL || actor->is_done == NULL || actor->is_driving == NULL) {
        *err = (struct il_error){ .code = IL_ENOMEM, .message = "out of memory" };
        return IL_ENOMEM;
    }
    stage_event_set(actor->is_done);
    code = il_runtime_new(&options, &actor->runtime, err);
    if (code != IL_OK) {
        return code;
    }
    if (world->solution->on_actor != NULL) {
        code = world->solution->on_actor(world, actor, err);
    }
    if (code == IL_OK) {
        actor->thread = stage_thread_start(actor->name, actor_main, actor);
        if (actor->thread == NULL) {
            *err = (struct il_error){ .code = IL_ESYS, .message = "a thread could not be started" };
            code = IL_ESYS;
        }
    }
    if (code != IL_OK) {
        actor_drop_runtime(actor);
    }
    return code;
}

struct actor *world_actor(struct world *world, const char *name, enum il_runtime_kind kind,
                          unsigned worker_count)
{
    struct il_error err = { 0 };
    struct actor *actor;

    if (world->actor_count == WORLD_ACTORS_MAX) {
        world_fail(world, "more than %d actors", WORLD_ACTORS_MAX);
        return &world->actors[WORLD_ACTORS_MAX - 1];
    }
    actor = &world->actors[world->actor_count++];
    actor->world = world;
    (void)snprintf(actor->name, sizeof(actor->name), "%s", name);
    if (!world_is_failed(world) && actor_init(actor, kind, worker_count, &err) != IL_OK) {
        world_fail(world, "runtime %s: %.180s", name, err.message);
    }
    return actor;
}

/* ---- orders ---- */

static void actor_order(struct actor *actor, enum actor_order order, il_task_fn *run, void *arg)
{
    actor->order = order;
    actor->run = run;
    actor->arg = arg;
    stage_event_reset(actor->is_done);
    stage_event_set(actor->has_order);
}

void actor_start(struct actor *actor, il_task_fn *run, void *arg)
{
    if (!world_is_failed(actor->world)) {
        actor_order(actor, ACTOR_RUN, run, arg);
    }
}

void actor_start_and_drop(struct actor *actor, il_task_fn *run, void *arg)
{
    if (!world_is_failed(actor->world)) {
        actor_order(actor, ACTOR_RUN_AND_DROP, run, arg);
    }
}

void actor_wait(struct actor *actor)
{
    while (actor->thread != NULL && !stage_event_wait(actor->is_done, ACTOR_ORDER_MS)) {
    }
}

/* ---- driving ---- */

static void actor_drive_main(void *arg)
{
    struct actor *actor = arg;

    actor->drive_task = il_task_ref(il_task_current());
    stage_event_set(actor->is_driving);
    (void)il_sleep_until(IL_FOREVER); /* ends by being cancelled */
}

void actor_drive(struct actor *actor)
{
    if (!world_is_failed(actor->world)) {
        stage_event_reset(actor->is_driving);
        actor_order(actor, ACTOR_RUN, actor_drive_main, actor);
        world_need(actor->world, stage_event_wait(actor->is_driving, WORLD_STEP_MS),
                   "have a runtime driven");
    }
}

void actor_park(struct actor *actor)
{
    if (actor->drive_task != NULL) {
        il_task_cancel(actor->drive_task);
        actor_wait(actor);
        actor->drive_task = il_task_unref(actor->drive_task);
        world_note(actor->world, "runtime %s is parked: alive, and driven by no thread",
                   actor->name);
    }
}

void actor_drop(struct actor *actor)
{
    if (!world_is_failed(actor->world)) {
        actor_order(actor, ACTOR_DROP, NULL, NULL);
        actor_wait(actor);
    }
}

void world_end_actors(struct world *world)
{
    for (unsigned i = 0; i < world->actor_count; i++) {
        struct actor *actor = &world->actors[i];

        if (actor->thread != NULL) {
            actor_park(actor);
            actor_wait(actor);
            actor->order = ACTOR_END;
            stage_event_set(actor->has_order);
            stage_thread_join(actor->thread);
        }
        stage_event_free(actor->has_order);
        stage_event_free(actor->is_done);
        stage_event_free(actor->is_driving);
    }
}
