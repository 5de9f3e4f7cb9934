#include <pthread.h>
#include <unistd.h>

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

static void wait_until(_Atomic bool *is_true)
{
    while (!atomic_load(is_true)) {
        usleep(100);
    }
}

static void gate_close(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
}

static void gate_open(struct gate *gate)
{
    pthread_mutex_unlock(&gate->mutex);
}

static void gate_pass(struct gate *gate)
{
    atomic_store(&gate->is_inside, true);
    pthread_mutex_lock(&gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
}

static struct il_runtime *new_runtime_with(const struct il_runtime_options *given)
{
    struct il_runtime_options options = *given;
    struct il_runtime *runtime;

    options.name = "test";
    CHECK_OK(il_runtime_new(&options, &runtime, &err));
    return runtime;
}

static struct il_runtime *new_runtime(unsigned workers)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;

    options.worker_count = workers;
    options.hand_over_after_ms = 2;
    return new_runtime_with(&options);
}

/* Nothing is left, at once: neither tasks nor loops, neither the monitor's memory nor a spare's. */
static void check_nothing_left(void)
{
    struct il_watch_totals totals;

    il_watch_totals(&totals);
    CHECK_EQ(totals.runtimes, 0);
    CHECK_EQ(totals.tasks, 0);
}

static struct il_task *spawn(struct il_runtime *runtime, const char *name, il_task_fn *run,
                             void *arg)
{
    struct il_task *task;

    CHECK_OK(il_spawn(runtime, name, run, arg, &task, &err));
    return task;
}

static void join(struct il_task *task)
{
    CHECK_OK(il_task_join(task, IL_FOREVER, &err));
    (void)il_task_unref(task);
}

static void block_then_sleep(void *arg)
{
    struct gate *gate = arg;

    gate->thread_before = sys_thread_self()->kernel_id;
    gate_pass(gate);
    gate->after = il_sleep_ms(1);
    gate->thread_after = sys_thread_self()->kernel_id;
    atomic_store(&gate->is_over, true);
}

static void sleep_a_little(void *arg)
{
    CHECK_EQ(il_sleep_ms(1), IL_OK);
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static uint64_t hand_over_count(const struct il_runtime *runtime)
{
    struct il_runtime_stats stats;

    il_runtime_stats(runtime, &stats);
    return stats.hand_over_count;
}

TEST(timers_and_tasks_of_a_loop_go_on_while_one_of_its_tasks_blocks)
{
    struct il_runtime *runtime = new_runtime(1);
    struct gate gate = GATE_CLOSED;
    struct il_task *stuck;
    _Atomic int count = 0;

    gate_close(&gate);
    stuck = spawn(runtime, "stuck", block_then_sleep, &gate);
    wait_until(&gate.is_inside);
    for (int i = 0; i < 5; i++) {
        CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
    }
    CHECK_EQ(count, 5);
    CHECK(!gate.is_over);
    CHECK(hand_over_count(runtime) >= 1);
    gate_open(&gate);
    join(stuck);
    CHECK_EQ(gate.after, IL_OK);
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(stuck_task_goes_on_with_its_loop_when_it_comes_back)
{
    struct il_runtime *runtime = new_runtime(1);

    for (int i = 0; i < 20; i++) {
        struct gate gate = GATE_CLOSED;
        struct il_task *stuck;
        _Atomic int count = 0;

        gate_close(&gate);
        stuck = spawn(runtime, "stuck", block_then_sleep, &gate);
        wait_until(&gate.is_inside);
        CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
        gate_open(&gate);
        CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
        join(stuck);
        CHECK_EQ(gate.after, IL_OK);
    }
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(loop_stands_still_where_hand_over_is_off)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct gate gate = GATE_CLOSED;
    struct il_runtime *runtime;
    struct il_task *stuck, *other;
    _Atomic int count = 0;

    options.worker_count = 1;
    options.hand_over_after_ms = IL_FOREVER;
    runtime = new_runtime_with(&options);
    gate_close(&gate);
    stuck = spawn(runtime, "stuck", block_then_sleep, &gate);
    wait_until(&gate.is_inside);
    other = spawn(runtime, "other", sleep_a_little, &count);
    CHECK_EQ(il_task_join(other, il_deadline_in_ms(50), &err), IL_ETIMEDOUT);
    CHECK_EQ(count, 0);
    CHECK_EQ(hand_over_count(runtime), 0);
    gate_open(&gate);
    join(other);
    join(stuck);
    il_runtime_drop(runtime);
    check_nothing_left();
}
