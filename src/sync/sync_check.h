/* sync_check.h: what the tests of src/sync share: places to run test code in, and chance that can
 * be repeated. */
#ifndef SYNC_SYNC_CHECK_H
#define SYNC_SYNC_CHECK_H

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/sync.h"
#include "tests/check.h"

/* Wait for a condition that another thread brings about; the test's time limit is the only one. */
#define CHECK_COMES(condition)                                                                     \
    while (!(condition)) {                                                                         \
        usleep(50);                                                                                \
    }

static inline struct il_runtime *check_new_runtime(enum il_runtime_kind kind, unsigned workers)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime;
    struct il_error err;

    options.kind = kind;
    options.worker_count = kind == IL_RUNTIME_MULTI_THREAD ? workers : 0;
    CHECK_OK(il_runtime_new(&options, &runtime, &err));
    return runtime;
}

/* Nothing of runtimes is left, and of memory only the record and the loop of this thread. */
static inline void check_nothing_left(void)
{
    struct rt_counts counts;

    do { /* a thread that ended lets go of its own things after it can be joined by others */
        rt_counts(&counts);
    } while (counts.runtimes > 0 || counts.tasks > 0 || counts.loops > 1);
}

/* ---- places to run in ---- */

enum check_where {
    IN_MULTI_THREAD,   /* a task of a multi-thread runtime */
    IN_CURRENT_THREAD, /* a task of a current-thread runtime that a thread drives meanwhile */
    ON_PLAIN_THREAD,
    WHERE_COUNT,
};

struct actor {
    enum check_where where;
    struct il_runtime *runtime;
    struct il_task *task;
    pthread_t thread;
    il_task_fn *run;
    void *arg;
};

static inline void *actor_main(void *arg)
{
    struct actor *actor = arg;
    struct il_error err;

    if (actor->where == IN_CURRENT_THREAD) {
        CHECK_OK(il_block_on(actor->runtime, actor->run, actor->arg, &err));
    } else {
        actor->run(actor->arg);
    }
    return NULL;
}

/* Begin to run `run(arg)` in a place of its own. */
static inline void actor_start(struct actor *actor, enum check_where where, il_task_fn *run,
                               void *arg)
{
    struct il_error err;

    *actor = (struct actor){ .where = where, .run = run, .arg = arg };
    if (where == IN_MULTI_THREAD) {
        actor->runtime = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
        CHECK_OK(il_spawn(actor->runtime, "actor", run, arg, &actor->task, &err));
        return;
    }
    if (where == IN_CURRENT_THREAD) {
        actor->runtime = check_new_runtime(IL_RUNTIME_CURRENT_THREAD, 0);
    }
    CHECK_EQ(pthread_create(&actor->thread, NULL, actor_main, actor), 0);
}

static inline void actor_join(struct actor *actor)
{
    struct il_error err;

    if (actor->where == IN_MULTI_THREAD) {
        CHECK_OK(il_task_join(actor->task, IL_FOREVER, &err));
        actor->task = il_task_unref(actor->task);
    } else {
        pthread_join(actor->thread, NULL);
    }
    actor->runtime = il_runtime_drop(actor->runtime);
}

/* ---- a runtime that is alive and not driven ---- */

static inline void check_do_nothing(void *arg)
{
    (void)arg;
}

/* Spawn a task on a current-thread runtime, drive it until the task waits for something, and leave
 * the runtime undriven. */
static inline struct il_runtime *check_park_in(il_task_fn *run, void *arg,
                                               struct il_task **ret_task)
{
    struct il_runtime *runtime = check_new_runtime(IL_RUNTIME_CURRENT_THREAD, 0);
    struct il_error err;

    CHECK_OK(il_spawn(runtime, "parked", run, arg, ret_task, &err));
    CHECK_OK(il_block_on(runtime, check_do_nothing, NULL, &err)); /* comes after the other */
    return runtime;
}

/* Drive it again until the task has finished. */
static inline void check_finish_parked(struct il_runtime *runtime, struct il_task *task)
{
    struct il_error err;

    while (!il_task_is_finished(task)) {
        CHECK_OK(il_block_on(runtime, check_do_nothing, NULL, &err));
    }
    il_task_unref(task);
    il_runtime_drop(runtime);
}

/* ---- a callback on a loop ---- */

struct check_callback {
    struct job job;
    void (*run)(void *arg);
    void *arg;
    _Atomic bool is_done;
};

static inline enum loop_result check_callback_on_loop(struct il_loop *loop, struct job *job)
{
    struct check_callback *callback = il_container_of(job, struct check_callback, job);
    enum loop_result result = rt_run_callback(loop, callback->run, callback->arg, NULL);

    atomic_store(&callback->is_done, true);
    return result;
}

/* Run `run(arg)` as a callback on a loop, and wait until it has run. */
static inline void check_run_in_callback(void (*run)(void *arg), void *arg)
{
    struct il_runtime *runtime = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
    struct check_callback callback = { .job = { .run = check_callback_on_loop },
                                       .run = run,
                                       .arg = arg };
    struct il_loop *loop;
    struct il_error err;

    CHECK_OK(rt_choose_loop(runtime, &loop, &err));
    CHECK(loop_post(loop, &callback.job));
    CHECK_COMES(atomic_load(&callback.is_done));
    loop_unref(loop);
    il_runtime_drop(runtime);
}

/* ---- a child of a fork ---- */

/* Does `run(arg)` return `code` in a child of this process? */
static inline void check_in_child(enum il_code (*run)(void *arg), void *arg, enum il_code code)
{
    pid_t child = fork();
    int status;

    CHECK(child >= 0);
    if (child == 0) {
        _exit((int)run(arg));
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), code);
}

/* ---- chance that can be repeated ---- */

struct dice {
    uint64_t state;
};

static inline struct dice dice_new(uint64_t seed)
{
    return (struct dice){ seed * 2 + 1 };
}

static inline uint32_t dice_roll(struct dice *dice, uint32_t sides)
{
    dice->state ^= dice->state << 13; /* xorshift64 */
    dice->state ^= dice->state >> 7;
    dice->state ^= dice->state << 17;
    return (uint32_t)((dice->state >> 32) % sides);
}

/* CHECK_SCALE=N in the environment makes storms N times as long. */
static inline int check_steps(int steps)
{
    const char *text = getenv("CHECK_SCALE");

    return text != NULL ? steps * atoi(text) : steps;
}

/* CHECK_SEED=N in the environment repeats a run; else each run of a test has a seed of its own. */
static inline uint64_t check_seed(void)
{
    const char *text = getenv("CHECK_SEED");
    uint64_t seed;

    if (text != NULL) {
        return strtoull(text, NULL, 0);
    }
    sys_random(&seed, sizeof(seed));
    seed &= 0xffffffff;
    fprintf(stderr, "CHECK_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

#endif
