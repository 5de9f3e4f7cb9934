/* cause_seed.c: the story this project started from.
 *
 * Owns: nothing. Threads: as lab/world.h says; each of the three short-lived runtimes has its own.
 */
#include "lab/catalogue.h"

#define SEED_THREADS     3
#define SEED_TASKS       8
#define SEED_ROUNDS      3   /* requests of each task */
#define SEED_PAUSE_MS    500 /* between the two requests of a thread */
#define SEED_SERVER_MS   500
#define SEED_AT_ONCE_MAX 10 /* the server answers no more at the same time */

static void seed_ask(struct world *world, struct actor *actor)
{
    struct ask ask = { .query = "delay_ms=500", .due_ms = SEED_SERVER_MS };

    judged_run(world_ask(world, actor, &ask));
}

/* What each of the three threads does with its own runtime. */
static void seed_thread_main(void *arg)
{
    struct actor *actor = arg;

    seed_ask(actor->world, actor);
    (void)il_sleep_ms(SEED_PAUSE_MS);
    seed_ask(actor->world, actor);
}

static void seed_task_main(void *arg)
{
    struct actor *actor = arg;

    for (unsigned i = 0; i < SEED_ROUNDS; i++) {
        seed_ask(actor->world, actor);
    }
}

static void seed_global_main(void *arg)
{
    struct actor *global = arg;
    struct il_task *tasks[SEED_TASKS] = { NULL };
    struct il_error err;

    for (unsigned i = 0; i < SEED_TASKS; i++) {
        if (il_spawn(global->runtime, "worker", seed_task_main, global, &tasks[i], &err) != IL_OK) {
            world_fail(global->world, "a task could not be started: %.150s", err.message);
        }
    }
    for (unsigned i = 0; i < SEED_TASKS; i++) {
        if (tasks[i] != NULL && il_task_join(tasks[i], IL_FOREVER, &err) != IL_OK) {
            world_fail(global->world, "a task was not joined: %.150s", err.message);
        }
        (void)il_task_unref(tasks[i]);
    }
}

static void seed_run(struct world *world)
{
    struct actor *global = world_actor(world, "global", IL_RUNTIME_MULTI_THREAD, 4);
    struct actor *threads[SEED_THREADS];
    static const char *const names[SEED_THREADS] = { "thread-1", "thread-2", "thread-3" };

    for (unsigned i = 0; i < SEED_THREADS; i++) {
        threads[i] = world_actor(world, names[i], IL_RUNTIME_CURRENT_THREAD, 0);
    }
    for (unsigned i = 0; i < SEED_THREADS; i++) {
        actor_start_and_drop(threads[i], seed_thread_main, threads[i]);
    }
    for (unsigned i = 0; i < SEED_THREADS; i++) {
        actor_wait(threads[i]);
    }
    world_note(world, "the three threads and their runtimes are gone");
    actor_start(global, seed_global_main, global);
    actor_wait(global);
}

const struct cause cause_seed = {
    .name = "seed",
    .summary = "three short-lived runtimes use a global client; then eight tasks of the global one",
    .story = "A global runtime with four workers, and a client that keeps one idle connection for "
             "each host. Three threads, each with a current-thread runtime of its own, make two "
             "requests through it, half a second apart, and drop their runtimes. Then eight tasks "
             "of the global runtime make three requests each, at a server that takes 500 ms for an "
             "answer and gives at most ten at a time. A monitor that goes by elapsed time "
             "reports a hang here; the question is whether there is one.",
    .idle_per_host_max = 1,
    .answering_max = SEED_AT_ONCE_MAX,
    .has_tables = true,
    .run = seed_run,
};
