#include "rt/handover_check.h"

/* ---- announced ---- */

static void pass_gate(void *arg)
{
    gate_pass(arg);
}

static void block_in_place(void *arg)
{
    struct gate *gate = arg;

    il_block_in_place(pass_gate, gate);
    gate->after = il_sleep_ms(1);
    atomic_store(&gate->is_over, true);
}

TEST(announced_blocking_hands_the_loop_over_at_once_and_without_a_warning)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct gate gate = GATE_CLOSED;
    struct il_runtime *runtime;
    struct il_task *stuck;
    _Atomic int count = 0;

    options.worker_count = 1;
    options.hand_over_after_ms = IL_FOREVER; /* so it is not the monitor that does it */
    runtime = new_runtime_with(&options);
    il_set_warn(hear, NULL);
    gate_close(&gate);
    stuck = spawn(runtime, "announced", block_in_place, &gate);
    wait_until(&gate.is_inside);
    CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
    CHECK_EQ(stats_of(runtime).announced_count, 1);
    gate_open(&gate);
    join(stuck);
    CHECK_EQ(gate.after, IL_OK);
    CHECK_EQ(heard.began + heard.ended + heard.refused, 0);
    il_set_warn(NULL, NULL);
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(block_in_place_on_a_plain_thread_only_calls)
{
    _Atomic int count = 0;

    il_block_in_place(count_up, &count);
    CHECK_EQ(count, 1);
}

static void block_in_place_often(void *arg)
{
    for (int i = 0; i < 200; i++) {
        il_block_in_place(count_up, arg); /* comes back before, while, or after it is handed over */
        CHECK_EQ(i % 2 == 0 ? il_yield() : IL_OK, IL_OK);
    }
}

TEST(short_announced_code_races_with_its_own_hand_over)
{
    struct il_runtime *runtime = new_runtime(2);
    struct il_task *tasks[4];
    _Atomic int count = 0;

    for (int i = 0; i < 4; i++) {
        tasks[i] = spawn(runtime, "often", block_in_place_often, &count);
    }
    for (int i = 0; i < 4; i++) {
        join(tasks[i]);
    }
    CHECK_EQ(count, 800);
    il_runtime_drop(runtime);
    check_nothing_left();
}

/* ---- the pool for blocking code ---- */

struct blocking {
    struct gate gate;
    enum il_code start;
    _Atomic int run_count;
};

static void run_blocking(void *arg, enum il_code start)
{
    struct blocking *blocking = arg;

    blocking->start = start;
    if (start == IL_OK) {
        CHECK(il_task_current() == NULL);
        gate_pass(&blocking->gate);
        CHECK_EQ(il_sleep_ms(1), IL_OK); /* as on any plain thread */
    }
    atomic_fetch_add(&blocking->run_count, 1);
    atomic_store(&blocking->gate.is_over, true);
}

static struct il_task *spawn_blocking(struct il_runtime *runtime, struct blocking *blocking)
{
    struct il_task *task;

    CHECK_OK(il_spawn_blocking(runtime, "blocking", run_blocking, blocking, &task, &err));
    return task;
}

TEST(blocking_code_runs_beside_the_runtime_and_is_joined_like_a_task)
{
    struct il_runtime *runtime = new_runtime(1);
    struct blocking blocking = { .gate = GATE_CLOSED };
    struct il_task *task;
    _Atomic int count = 0;

    gate_close(&blocking.gate);
    task = spawn_blocking(runtime, &blocking);
    wait_until(&blocking.gate.is_inside);
    CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
    CHECK_EQ(il_task_join(task, il_deadline_in_ms(1), &err), IL_ETIMEDOUT);
    CHECK_EQ(hand_over_count(runtime), 0);
    gate_open(&blocking.gate);
    join(task);
    CHECK_EQ(blocking.start, IL_OK);
    CHECK_EQ(blocking.run_count, 1);
    il_runtime_drop(runtime);
    check_nothing_left();
}

static void set_blocking(unsigned threads, unsigned queued)
{
    struct il_thread_limits limits = IL_THREAD_LIMITS_INIT;

    limits.blocking_count_max = threads;
    limits.blocking_queue_max = queued;
    CHECK_OK(il_set_thread_limits(&limits, &err));
}

TEST(blocking_pool_has_a_bound_of_threads_and_of_those_that_wait)
{
    struct il_runtime *runtime = new_runtime(1);
    struct blocking blocking[5];
    struct il_watch_threads threads;
    struct il_task *tasks[4];

    set_blocking(2, 2);
    for (int i = 0; i < 5; i++) {
        blocking[i] = (struct blocking){ .gate = GATE_CLOSED };
        gate_close(&blocking[i].gate);
    }
    for (int i = 0; i < 4; i++) {
        tasks[i] = spawn_blocking(runtime, &blocking[i]);
    }
    CHECK_EQ(il_spawn_blocking(runtime, NULL, run_blocking, &blocking[4], NULL, &err), IL_ELIMIT);
    wait_until(&blocking[0].gate.is_inside);
    wait_until(&blocking[1].gate.is_inside);
    il_watch_threads(&threads);
    CHECK_EQ(threads.blocking_count, 2);
    CHECK_EQ(threads.blocking_busy_count, 2);
    CHECK_EQ(threads.blocking_queued_count, 2);
    CHECK(!blocking[2].gate.is_inside);
    for (int i = 0; i < 4; i++) {
        gate_open(&blocking[i].gate);
    }
    for (int i = 0; i < 4; i++) {
        join(tasks[i]);
        CHECK_EQ(blocking[i].run_count, 1);
    }
    CHECK_EQ(blocking[4].run_count, 0);
    set_blocking(64, 4096);
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(blocking_code_that_is_cancelled_before_it_begins_only_frees)
{
    struct il_runtime *runtime = new_runtime(1);
    struct blocking first = { .gate = GATE_CLOSED }, second = { .gate = GATE_CLOSED };
    struct il_task *tasks[2];

    set_blocking(1, 2);
    gate_close(&first.gate);
    tasks[0] = spawn_blocking(runtime, &first);
    wait_until(&first.gate.is_inside);
    tasks[1] = spawn_blocking(runtime, &second);
    il_task_cancel(tasks[1]);
    join(tasks[1]);
    CHECK_EQ(second.start, IL_ECANCELED);
    CHECK_EQ(second.run_count, 1);
    il_task_cancel(tasks[0]); /* has begun: nothing happens */
    CHECK_EQ(il_task_join(tasks[0], il_deadline_in_ms(5), &err), IL_ETIMEDOUT);
    gate_open(&first.gate);
    join(tasks[0]);
    CHECK_EQ(first.start, IL_OK);
    CHECK_EQ(first.run_count, 1);
    set_blocking(64, 4096);
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(blocking_code_of_a_runtime_that_ends_goes_on_by_itself_or_only_frees)
{
    struct il_runtime *runtime = new_runtime(1);
    struct blocking first = { .gate = GATE_CLOSED }, second = { .gate = GATE_CLOSED };
    struct il_watch_threads threads;

    set_blocking(1, 2);
    gate_close(&first.gate);
    (void)il_task_unref(spawn_blocking(runtime, &first));
    wait_until(&first.gate.is_inside);
    (void)il_task_unref(spawn_blocking(runtime, &second));
    il_runtime_drop(runtime);
    check_nothing_left();
    CHECK_EQ(second.start, IL_ESHUTDOWN);
    CHECK_EQ(second.run_count, 1);
    CHECK_EQ(first.run_count, 0);
    gate_open(&first.gate);
    wait_until(&first.gate.is_over);
    CHECK_EQ(first.start, IL_OK);
    WAIT_FOR((il_watch_threads(&threads), threads.blocking_busy_count == 0));
    set_blocking(64, 4096);
}

TEST(shutdown_lets_blocking_code_finish_until_its_deadline)
{
    struct il_runtime *runtime = new_runtime(1);
    struct blocking blocking = { .gate = GATE_CLOSED };

    (void)il_task_unref(spawn_blocking(runtime, &blocking));
    CHECK_OK(il_runtime_shutdown(runtime, il_deadline_in_ms(30000), NULL, &err));
    CHECK_EQ(blocking.run_count, 1);
    CHECK_EQ(blocking.start, IL_OK);
    il_runtime_unref(runtime);
    check_nothing_left();
}
