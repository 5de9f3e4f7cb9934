/* handover_check.h: what the tests of hand-over share: user code that blocks until it is told, and
 * what is heard of it. */
#ifndef RT_HANDOVER_CHECK_H
#define RT_HANDOVER_CHECK_H

#include <pthread.h>
#include <unistd.h>

#include "interloop/log.h"
#include "interloop/watch.h"
#include "rt/task.h"
#include "tests/check.h"

static struct il_error err;

/* What a test's user code blocks on: a gate that another thread opens. */
struct gate {
    pthread_mutex_t mutex;
    _Atomic bool is_inside; /* the user code has come to it */
    _Atomic bool is_over;   /* and has gone on to its end */
    enum il_code after;     /* what its next call into the library said */
    int thread_before, thread_after;
};

#define GATE_CLOSED                                                                                \
    {                                                                                              \
        .mutex = PTHREAD_MUTEX_INITIALIZER                                                         \
    }

static inline void wait_until(_Atomic bool *is_true)
{
    while (!atomic_load(is_true)) {
        usleep(100);
    }
}

static inline void gate_close(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
}

static inline void gate_open(struct gate *gate)
{
    pthread_mutex_unlock(&gate->mutex);
}

static inline void gate_pass(struct gate *gate)
{
    atomic_store(&gate->is_inside, true);
    pthread_mutex_lock(&gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
}

static inline struct il_runtime *new_runtime_with(const struct il_runtime_options *given)
{
    struct il_runtime_options options = *given;
    struct il_runtime *runtime;

    options.name = "test";
    CHECK_OK(il_runtime_new(&options, &runtime, &err));
    return runtime;
}

static inline struct il_runtime *new_runtime(unsigned workers)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;

    options.worker_count = workers;
    options.hand_over_after_ms = 2;
    return new_runtime_with(&options);
}

/* At once, and not after a while. */
static inline void check_nothing_left(void)
{
    struct il_watch_totals totals;

    il_watch_totals(&totals);
    CHECK_EQ(totals.runtimes, 0);
    CHECK_EQ(totals.tasks, 0);
}

static inline struct il_task *spawn(struct il_runtime *runtime, const char *name, il_task_fn *run,
                                    void *arg)
{
    struct il_task *task;

    CHECK_OK(il_spawn(runtime, name, run, arg, &task, &err));
    return task;
}

static inline void join(struct il_task *task)
{
    CHECK_OK(il_task_join(task, IL_FOREVER, &err));
    (void)il_task_unref(task);
}

static inline void block_then_sleep(void *arg)
{
    struct gate *gate = arg;

    gate->thread_before = sys_thread_self()->kernel_id;
    gate_pass(gate);
    gate->after = il_sleep_ms(1);
    gate->thread_after = sys_thread_self()->kernel_id;
    atomic_store(&gate->is_over, true);
}

static inline void sleep_a_little(void *arg)
{
    CHECK_EQ(il_sleep_ms(1), IL_OK);
    atomic_fetch_add((_Atomic int *)arg, 1);
}

/* For what is there only after a while, on another thread. */
#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        while (!(condition)) {                                                                     \
            usleep(200);                                                                           \
        }                                                                                          \
    } while (0)

static inline struct il_runtime_stats stats_of(const struct il_runtime *runtime)
{
    struct il_runtime_stats stats;

    il_runtime_stats(runtime, &stats);
    return stats;
}

static inline uint64_t hand_over_count(const struct il_runtime *runtime)
{
    struct il_runtime_stats stats;

    il_runtime_stats(runtime, &stats);
    return stats.hand_over_count;
}

static inline void count_up(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static struct {
    pthread_mutex_t mutex;
    struct il_hand_over events[64];
    unsigned count;
    _Atomic unsigned refused, began, ended;
} heard = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static inline void hear(void *arg, const struct il_hand_over *event)
{
    pthread_mutex_lock(&heard.mutex);
    if (heard.count < il_array_count(heard.events)) {
        heard.events[heard.count++] = *event;
    }
    pthread_mutex_unlock(&heard.mutex);
    atomic_fetch_add(event->kind == IL_HAND_OVER_REFUSED ? &heard.refused
                     : event->kind == IL_HAND_OVER_BEGAN ? &heard.began
                                                         : &heard.ended,
                     1);
}

static inline void set_spares(unsigned count)
{
    struct il_thread_limits limits = IL_THREAD_LIMITS_INIT;

    limits.spare_count_max = count;
    CHECK_OK(il_set_thread_limits(&limits, &err));
}

#endif
