#include "rt/handover_check.h"

/* ---- current-thread runtimes ---- */

static struct il_runtime *new_current_thread(bool rescue)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;

    options.kind = IL_RUNTIME_CURRENT_THREAD;
    options.rescue = rescue;
    options.hand_over_after_ms = 2;
    return new_runtime_with(&options);
}

struct block_on_call {
    struct il_runtime *runtime;
    struct gate gate;
    pthread_t thread;
    _Atomic bool has_returned;
};

static void *block_on_a_gate(void *arg)
{
    struct block_on_call *call = arg;

    CHECK_OK(il_block_on(call->runtime, block_then_sleep, &call->gate, &err));
    atomic_store(&call->has_returned, true);
    return NULL;
}

static void block_on_begin(struct block_on_call *call, struct il_runtime *runtime)
{
    *call = (struct block_on_call){ .runtime = runtime, .gate = GATE_CLOSED };
    gate_close(&call->gate);
    CHECK_EQ(pthread_create(&call->thread, NULL, block_on_a_gate, call), 0);
    wait_until(&call->gate.is_inside);
}

static void block_on_end(struct block_on_call *call)
{
    gate_open(&call->gate);
    CHECK_EQ(pthread_join(call->thread, NULL), 0);
    CHECK(call->has_returned);
    CHECK_EQ(call->gate.after, IL_OK);
}

TEST(current_thread_runtime_is_not_handed_over_unless_it_asks_for_it)
{
    struct il_runtime *runtime = new_current_thread(false);
    struct block_on_call call;
    struct il_task *other;
    _Atomic int count = 0;

    block_on_begin(&call, runtime);
    other = spawn(runtime, "other", sleep_a_little, &count);
    CHECK_EQ(il_task_join(other, il_deadline_in_ms(50), &err), IL_ETIMEDOUT);
    CHECK_EQ(hand_over_count(runtime), 0);
    block_on_end(&call);
    CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
    join(other);
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(rescued_runtime_goes_on_while_its_thread_is_stuck_in_block_on)
{
    struct il_runtime *runtime = new_current_thread(true);
    struct block_on_call call;
    _Atomic int count = 0;

    block_on_begin(&call, runtime);
    join(spawn(runtime, "other", sleep_a_little, &count));
    CHECK_EQ(count, 1);
    CHECK(!call.has_returned);
    block_on_end(&call);
    CHECK_EQ(call.gate.thread_before,
             call.gate.thread_after); /* the thread drives it itself again */
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(rescued_runtime_is_parked_again_when_block_on_has_returned)
{
    struct il_runtime *runtime = new_current_thread(true);

    for (int i = 0; i < 10; i++) {
        struct block_on_call call;
        struct il_task *other;
        _Atomic int count = 0;

        block_on_begin(&call, runtime);
        join(spawn(runtime, "other", sleep_a_little, &count));
        block_on_end(&call);
        other = spawn(runtime, "parked", sleep_a_little, &count);
        CHECK_EQ(il_task_join(other, il_deadline_in_ms(5), &err), IL_ETIMEDOUT);
        CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
        CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
        join(other);
    }
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(second_thread_in_block_on_takes_the_runtime_over_and_leaves_it_to_a_spare)
{
    struct il_runtime *runtime = new_current_thread(true);
    struct block_on_call call;
    _Atomic int count = 0;

    block_on_begin(&call, runtime);
    for (int i = 0; i < 10; i++) { /* each time this thread drives it, or a spare for us */
        CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
        join(spawn(runtime, "other", sleep_a_little, &count));
    }
    CHECK_EQ(count, 20);
    block_on_end(&call);
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(rescued_runtime_is_shut_down_while_its_thread_is_stuck)
{
    struct il_runtime *runtime = new_current_thread(true);
    struct il_shutdown_report report;
    struct block_on_call call;

    block_on_begin(&call, runtime);
    WAIT_FOR(stats_of(runtime).away_task_count > 0);
    CHECK_EQ(il_runtime_shutdown(runtime, 0, &report, &err), IL_ETIMEDOUT);
    CHECK_EQ(report.stuck_task_count, 1);
    gate_open(&call.gate);
    CHECK_EQ(pthread_join(call.thread, NULL), 0);
    CHECK_EQ(call.gate.after, IL_ESHUTDOWN);
    il_runtime_unref(runtime);
    check_nothing_left();
}

static void block_in_inner(void *arg)
{
    CHECK_OK(il_block_on(((struct block_on_call *)arg)->runtime, block_then_sleep,
                         &((struct block_on_call *)arg)->gate, &err));
    CHECK_EQ(il_sleep_ms(1), IL_OK);
}

TEST(task_that_drives_another_runtime_does_not_stop_its_own)
{
    struct il_runtime *outer = new_runtime(1);
    struct block_on_call call = { .runtime = new_current_thread(false), .gate = GATE_CLOSED };
    struct il_task *task;
    _Atomic int count = 0;

    gate_close(&call.gate);
    task = spawn(outer, "outer", block_in_inner, &call);
    wait_until(&call.gate.is_inside);
    CHECK_OK(il_block_on(outer, sleep_a_little, &count, &err));
    gate_open(&call.gate);
    join(task);
    il_runtime_drop(call.runtime);
    il_runtime_drop(outer);
    check_nothing_left();
}
