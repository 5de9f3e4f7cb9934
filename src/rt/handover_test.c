#include <sys/wait.h>

#include "rt/handover_check.h"
#include "rt/sanitize.h"

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

/* ---- coming back ---- */

enum way_back {
    BACK_YIELD,
    BACK_SLEEP,
    BACK_SPAWN_JOIN,
    BACK_PIN,
    BACK_BLOCK_IN_PLACE,
    BACK_BLOCK_ON_ANOTHER,
    BACK_RETURN,
    BACK_COUNT,
};

struct back {
    struct gate gate;
    enum way_back way;
    enum il_code code;
    _Atomic int count;
};

static enum il_code come_back_by_spawning(struct back *back)
{
    struct il_task *task;
    enum il_code code =
        il_spawn(il_runtime_current(), "child", sleep_a_little, &back->count, &task, NULL);

    if (code == IL_OK) {
        code = il_task_join(task, IL_FOREVER, NULL);
        (void)il_task_unref(task);
    }
    return code;
}

static enum il_code come_back_by_block_on(struct back *back)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *inner;
    enum il_code code;

    options.kind = IL_RUNTIME_CURRENT_THREAD;
    inner = new_runtime_with(&options);
    code = il_block_on(inner, sleep_a_little, &back->count, NULL);
    (void)il_runtime_drop(inner);
    return code == IL_OK ? il_sleep_ms(0) : code;
}

static void block_then_come_back(void *arg)
{
    struct back *back = arg;

    gate_pass(&back->gate);
    switch (back->way) {
    case BACK_YIELD:
        back->code = il_yield();
        break;
    case BACK_SLEEP:
        back->code = il_sleep_ms(1);
        break;
    case BACK_SPAWN_JOIN:
        back->code = come_back_by_spawning(back);
        break;
    case BACK_PIN:
        back->code = il_task_pin();
        CHECK_OK(il_task_unpin());
        break;
    case BACK_BLOCK_IN_PLACE:
        il_block_in_place(count_up, &back->count);
        back->code = il_yield();
        break;
    case BACK_BLOCK_ON_ANOTHER:
        back->code = come_back_by_block_on(back);
        break;
    case BACK_RETURN:
    case BACK_COUNT:
        break;
    }
    atomic_store(&back->gate.is_over, true);
}

TEST(stuck_task_comes_back_by_any_call_or_by_returning)
{
    struct il_runtime *runtime = new_runtime(1);

    for (int way = 0; way < BACK_COUNT; way++) {
        struct back back = { .gate = GATE_CLOSED, .way = (enum way_back)way, .code = IL_OK };
        struct il_task *task;
        _Atomic int count = 0;

        gate_close(&back.gate);
        task = spawn(runtime, "stuck", block_then_come_back, &back);
        wait_until(&back.gate.is_inside);
        CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
        gate_open(&back.gate);
        join(task);
        CHECK(back.gate.is_over);
        CHECK_EQ(back.code, IL_OK);
    }
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(worker_drives_its_loop_again_when_it_is_back)
{
    struct il_runtime *runtime = new_runtime(1);
    struct gate gate = GATE_CLOSED, after = GATE_CLOSED;
    struct il_watch_threads threads;
    struct il_task *task;
    _Atomic int count = 0;

    gate_close(&gate);
    task = spawn(runtime, "stuck", block_then_sleep, &gate);
    wait_until(&gate.is_inside);
    CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
    gate_open(&gate);
    join(task);
    do { /* the spare is idle again, and the worker has the loop */
        il_watch_threads(&threads);
        usleep(200);
    } while (threads.spare_busy_count > 0);
    CHECK_EQ(threads.spare_count, 1);
    task = spawn(runtime, "after", block_then_sleep, &after);
    join(task);
    CHECK_EQ(after.thread_before, gate.thread_before);
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(number_of_threads_does_not_grow_with_the_number_of_hand_overs)
{
    struct il_runtime *runtime = new_runtime(2);
    struct il_watch_threads threads;
    _Atomic int count = 0;

    for (int i = 0; i < 30; i++) {
        struct gate gate = GATE_CLOSED;
        struct il_task *task;

        gate_close(&gate);
        task = spawn(runtime, "stuck", block_then_sleep, &gate);
        wait_until(&gate.is_inside);
        WAIT_FOR(stats_of(runtime).away_task_count > 0);
        gate_open(&gate);
        join(task);
        CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
    }
    CHECK(hand_over_count(runtime) >= 30);
    il_watch_threads(&threads);
    CHECK(threads.spare_count <= 3);
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(stuck_task_can_be_cancelled_and_sees_it_when_it_is_back)
{
    struct il_runtime *runtime = new_runtime(1);
    struct gate gate = GATE_CLOSED;
    struct il_task *task;

    gate_close(&gate);
    task = spawn(runtime, "stuck", block_then_sleep, &gate);
    WAIT_FOR(stats_of(runtime).away_task_count > 0);
    il_task_cancel(task);
    CHECK_EQ(il_task_join(task, il_deadline_in_ms(5), &err), IL_ETIMEDOUT);
    gate_open(&gate);
    join(task);
    CHECK_EQ(gate.after, IL_ECANCELED);
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(wake_that_comes_while_a_task_is_stuck_is_not_lost)
{
    struct il_runtime *runtime = new_runtime(1);

    for (int i = 0; i < 20; i++) {
        struct gate gate = GATE_CLOSED;
        struct il_task *stuck, *joiner;
        struct back back = { .gate = GATE_CLOSED, .way = BACK_SPAWN_JOIN, .code = IL_OK };

        gate_close(&gate);
        gate_close(&back.gate);
        stuck = spawn(runtime, "stuck", block_then_sleep, &gate);
        joiner = spawn(runtime, "joiner", block_then_come_back, &back);
        WAIT_FOR(gate.is_inside && back.gate.is_inside); /* both: the loop was handed over twice */
        gate_open(i % 2 == 0 ? &gate : &back.gate);
        gate_open(i % 2 == 0 ? &back.gate : &gate);
        join(stuck);
        join(joiner);
        CHECK_EQ(gate.after, IL_OK);
        CHECK_EQ(back.code, IL_OK);
        CHECK_EQ(back.count, 1);
    }
    il_runtime_drop(runtime);
    check_nothing_left();
}

/* ---- the end of a runtime ---- */

TEST(runtime_ends_while_a_task_is_away_and_leaves_it_alone)
{
    struct il_runtime *runtime = new_runtime(1);
    struct gate gate = GATE_CLOSED;
    struct il_shutdown_report report;
    struct il_task *task;

    gate_close(&gate);
    task = spawn(runtime, "stuck", block_then_sleep, &gate);
    WAIT_FOR(stats_of(runtime).away_task_count > 0);
    CHECK_EQ(il_runtime_shutdown(runtime, 0, &report, &err), IL_ETIMEDOUT);
    CHECK_EQ(report.stuck_task_count, 1);
    CHECK(!gate.is_over);
    gate_open(&gate);
    join(task);
    CHECK_EQ(gate.after, IL_ESHUTDOWN);
    il_runtime_unref(runtime);
    while (true) { /* the stuck task's thread lets go of the last reference on its own time */
        struct il_watch_totals totals;

        il_watch_totals(&totals);
        if (totals.runtimes == 0 && totals.tasks == 0) {
            break;
        }
        usleep(100);
    }
}

/* On a busy machine a task may need longer than that to come back: then once more. */
#define GRACE_ROUNDS_MAX 50

TEST(away_task_that_is_back_within_the_grace_ends_with_its_runtime)
{
    struct il_shutdown_report report;
    unsigned round = 0;

    do {
        struct il_runtime *runtime = new_runtime(1);
        struct gate gate = GATE_CLOSED;
        struct il_task *task;
        bool was_over;

        gate_close(&gate);
        task = spawn(runtime, "stuck", block_then_sleep, &gate);
        WAIT_FOR(stats_of(runtime).away_task_count > 0);
        gate_open(&gate);
        (void)il_runtime_shutdown(runtime, 0, &report, &err);
        was_over = gate.is_over;
        CHECK(was_over || report.stuck_task_count == 1);
        join(task);
        il_runtime_unref(runtime);
        CHECK(++round <= GRACE_ROUNDS_MAX);
    } while (report.stuck_task_count > 0);
    if (round == 1) {
        check_nothing_left();
    } /* else a stuck task's thread lets go of the last reference on its own time */
}

TEST(shutdown_lets_an_away_task_finish_until_its_deadline)
{
    struct il_runtime *runtime = new_runtime(1);
    struct gate gate = GATE_CLOSED;

    gate_close(&gate);
    (void)il_task_unref(spawn(runtime, "stuck", block_then_sleep, &gate));
    WAIT_FOR(stats_of(runtime).away_task_count > 0);
    gate_open(&gate);
    CHECK_OK(il_runtime_shutdown(runtime, il_deadline_in_ms(30000), NULL, &err));
    CHECK_EQ(gate.after, IL_OK);
    il_runtime_unref(runtime);
    check_nothing_left();
}

/* ---- no thread left ---- */

TEST(all_workers_may_block_and_the_runtime_goes_on)
{
    struct il_runtime *runtime = new_runtime(2);
    struct gate gates[8];
    struct il_task *tasks[8];
    _Atomic int count = 0;

    for (int i = 0; i < 8; i++) {
        gates[i] = (struct gate)GATE_CLOSED;
        gate_close(&gates[i]);
        tasks[i] = spawn(runtime, "stuck", block_then_sleep, &gates[i]);
    }
    for (int i = 0; i < 8; i++) {
        wait_until(&gates[i].is_inside); /* four to a loop: spares get stuck in their turn */
    }
    CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
    WAIT_FOR(stats_of(runtime).away_task_count == 8);
    for (int i = 0; i < 8; i++) {
        gate_open(&gates[i]);
    }
    for (int i = 0; i < 8; i++) {
        join(tasks[i]);
        CHECK_EQ(gates[i].after, IL_OK);
    }
    CHECK_EQ(stats_of(runtime).away_task_count, 0);
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(without_a_spare_the_loop_stands_still_until_one_is_free_and_that_is_told_once)
{
    struct il_runtime *runtime;
    struct gate first = GATE_CLOSED, second = GATE_CLOSED;
    struct il_watch_threads threads;
    struct il_task *tasks[2], *other;
    _Atomic int count = 0;

    il_set_warn(hear, NULL);
    set_spares(1);
    runtime = new_runtime(1);
    gate_close(&first);
    gate_close(&second);
    tasks[0] = spawn(runtime, "first", block_then_sleep, &first);
    wait_until(&first.is_inside);
    tasks[1] = spawn(runtime, "second", block_then_sleep, &second);
    wait_until(&second.is_inside); /* on the one spare there is */
    WAIT_FOR(heard.refused > 0);
    other = spawn(runtime, "other", sleep_a_little, &count);
    CHECK_EQ(il_task_join(other, il_deadline_in_ms(30), &err), IL_ETIMEDOUT);
    il_watch_threads(&threads);
    CHECK_EQ(threads.refused_count, 1);
    CHECK_EQ(threads.spare_count, 1);
    CHECK_EQ(threads.spare_busy_count, 1);
    CHECK_EQ(heard.refused, 1);
    CHECK_STR(heard.events[heard.count - 1].task, "second");
    gate_open(&first); /* its worker is free again, and takes the loop */
    join(other);
    CHECK(!second.is_over);
    gate_open(&second);
    join(tasks[0]);
    join(tasks[1]);
    il_runtime_drop(runtime);
    set_spares(64);
    il_set_warn(NULL, NULL);
    check_nothing_left();
}

/* ---- pins ---- */

struct pinned {
    struct gate gate;
    struct il_task *other;
    _Atomic bool has_pinned, may_unpin, is_unpinned;
    int thread_first, thread_last;
};

static void pin_and_wait(void *arg)
{
    struct pinned *pinned = arg;

    CHECK_OK(il_task_pin());
    pinned->thread_first = sys_thread_self()->kernel_id;
    atomic_store(&pinned->has_pinned, true);
    while (!atomic_load(&pinned->may_unpin)) {
        CHECK_EQ(il_sleep_ms(1), IL_OK);
    }
    pinned->thread_last = sys_thread_self()->kernel_id;
    CHECK_OK(il_task_unpin());
    atomic_store(&pinned->is_unpinned, true);
}

TEST(loop_is_not_handed_over_while_a_task_on_it_is_pinned)
{
    struct il_runtime *runtime = new_runtime(1);
    struct pinned pinned = { .gate = GATE_CLOSED };
    struct il_task *stuck, *other;
    struct il_task *task = spawn(runtime, "pinned", pin_and_wait, &pinned);
    _Atomic int count = 0;

    wait_until(&pinned.has_pinned);
    gate_close(&pinned.gate);
    stuck = spawn(runtime, "stuck", block_then_sleep, &pinned.gate);
    wait_until(&pinned.gate.is_inside);
    other = spawn(runtime, "other", sleep_a_little, &count);
    CHECK_EQ(il_task_join(other, il_deadline_in_ms(50), &err), IL_ETIMEDOUT);
    CHECK_EQ(hand_over_count(runtime), 0);
    atomic_store(&pinned.may_unpin, true);
    gate_open(&pinned.gate);
    join(other);
    join(stuck);
    join(task);
    CHECK_EQ(pinned.thread_first, pinned.thread_last);
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(task_that_is_pinned_on_a_spare_stays_there_although_the_worker_is_back)
{
    struct il_runtime *runtime = new_runtime(1);
    struct pinned pinned = { .gate = GATE_CLOSED };
    struct il_task *stuck, *task;

    gate_close(&pinned.gate);
    stuck = spawn(runtime, "stuck", block_then_sleep, &pinned.gate);
    wait_until(&pinned.gate.is_inside);
    task = spawn(runtime, "pinned", pin_and_wait, &pinned);
    wait_until(&pinned.has_pinned);
    CHECK(pinned.thread_first != pinned.gate.thread_before);
    gate_open(&pinned.gate);
    join(stuck);
    CHECK_EQ(pinned.gate.thread_after, pinned.thread_first);
    atomic_store(&pinned.may_unpin, true);
    join(task);
    CHECK_EQ(pinned.thread_first, pinned.thread_last);
    il_runtime_drop(runtime);
    check_nothing_left();
}

static void unpin_too_often(void *arg)
{
    CHECK_EQ(il_task_unpin(), IL_EINVAL);
    CHECK_OK(il_task_pin());
    CHECK_OK(il_task_pin());
    CHECK_OK(il_task_unpin());
    CHECK_OK(il_task_unpin());
    CHECK_EQ(il_task_unpin(), IL_EINVAL);
    CHECK_OK(il_task_pin()); /* goes with the task */
}

TEST(pins_are_counted_and_end_with_the_task)
{
    struct il_runtime *runtime = new_runtime(1);
    struct gate gate = GATE_CLOSED;
    struct il_task *stuck;
    _Atomic int count = 0;

    CHECK_EQ(il_task_pin(), IL_EINVAL); /* not a task */
    CHECK_OK(il_block_on(runtime, unpin_too_often, NULL, &err));
    gate_close(&gate);
    stuck = spawn(runtime, "stuck", block_then_sleep, &gate);
    wait_until(&gate.is_inside);
    CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
    gate_open(&gate);
    join(stuck);
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(pinned_runtime_hands_nothing_over_not_even_what_is_announced)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct gate gate = GATE_CLOSED;
    struct il_runtime *runtime;
    struct il_task *stuck, *other;
    _Atomic int count = 0;

    options.worker_count = 1;
    options.hand_over_after_ms = 2;
    options.is_pinned = true;
    runtime = new_runtime_with(&options);
    gate_close(&gate);
    stuck = spawn(runtime, "stuck", block_then_sleep, &gate);
    wait_until(&gate.is_inside);
    other = spawn(runtime, "other", sleep_a_little, &count);
    CHECK_EQ(il_task_join(other, il_deadline_in_ms(50), &err), IL_ETIMEDOUT);
    gate_open(&gate);
    join(other);
    join(stuck);
    CHECK_EQ(hand_over_count(runtime), 0);
    il_runtime_drop(runtime);
    check_nothing_left();
}

/* ---- what is told ---- */

/* A task that the hand-over finds asleep at its gate. On a busy machine it may come when the task
 * has not got there: then another one. */
static struct il_task *spawn_told(struct gate *gate, struct il_runtime **ret_runtime)
{
    for (;;) {
        struct il_task *stuck;

        *ret_runtime = new_runtime(1);
        gate_close(gate);
        stuck = spawn(*ret_runtime, "told", block_then_sleep, gate);
        wait_until(&gate->is_inside);
        WAIT_FOR(heard.began == 1);
        if (strstr(heard.events[0].thread, "runs") == NULL) {
            return stuck;
        }
        gate_open(gate);
        join(stuck);
        WAIT_FOR(heard.ended == 1);
        il_runtime_drop(*ret_runtime);
        gate->is_inside = gate->is_over = false;
        heard.began = heard.ended = heard.count = 0;
    }
}

TEST(hand_over_is_told_with_task_function_thread_and_time)
{
    struct il_runtime *runtime;
    struct gate gate = GATE_CLOSED;
    struct il_task *stuck;
    const struct il_hand_over *event = heard.events;
    struct il_watch_loop loops[4];
    size_t loop_count;

    il_set_warn(hear, NULL);
    stuck = spawn_told(&gate, &runtime);
    CHECK_STR(event->task, "told");
    CHECK_STR(event->runtime, "test");
    CHECK_STR(event->loop, "test/0");
    CHECK_CONTAINS(event->function, "test-handover+0x"); /* static: for addr2line */
    CHECK_CONTAINS(event->thread, "sleeps");
    CHECK_EQ(event->thread_id, gate.thread_before);
    CHECK(event->stuck_ns >= 2000000);
    CHECK_OK(il_watch_loops(loops, il_array_count(loops), &loop_count));
    for (size_t i = 0; i < loop_count; i++) {
        if (strcmp(loops[i].name, "test/0") == 0) {
            CHECK(loops[i].is_handed_over);
            CHECK_EQ(loops[i].away_task_count, 1);
            CHECK_EQ(loops[i].take_over_count, 1);
            CHECK(strcmp(loops[i].state, "in user code") != 0);
            CHECK(loops[i].thread_id != gate.thread_before);
        }
    }
    usleep(5000);
    gate_open(&gate);
    join(stuck);
    WAIT_FOR(heard.ended == 1);
    CHECK_EQ(event[1].kind, IL_HAND_OVER_ENDED);
    CHECK_STR(event[1].task, "told");
    CHECK(event[1].stuck_ns >= event[0].stuck_ns + 5000000);
    CHECK_EQ(stats_of(runtime).stuck_ns_max, event[1].stuck_ns);
    CHECK_EQ(stats_of(runtime).stuck_ns_total, event[1].stuck_ns);
    il_set_warn(NULL, NULL);
    il_runtime_drop(runtime);
    check_nothing_left();
}

static void hear_line(void *arg, const char *line)
{
    if (strstr(line, "was handed over") != NULL) {
        CHECK_CONTAINS(line, "task 'told'");
        atomic_store((_Atomic bool *)arg, true);
    }
}

TEST(hand_over_is_a_line_for_the_log_where_nobody_asks_for_more)
{
    _Atomic bool is_told = false;
    struct gate gate = GATE_CLOSED;
    struct il_runtime *runtime;
    struct il_task *stuck;

    il_set_log(hear_line, &is_told);
    runtime = new_runtime(1);
    gate_close(&gate);
    stuck = spawn(runtime, "told", block_then_sleep, &gate);
    wait_until(&is_told);
    gate_open(&gate);
    join(stuck);
    il_runtime_drop(runtime);
    il_set_log(NULL, NULL);
}

/* ---- limits and options ---- */

TEST(wrong_hand_over_options_are_refused_by_name)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_thread_limits limits = { .size = 1 };
    struct il_runtime *runtime;

    options.rescue = true;
    CHECK_EQ(il_runtime_new(&options, &runtime, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "rescue");
    options.kind = IL_RUNTIME_CURRENT_THREAD;
    options.is_pinned = true;
    CHECK_EQ(il_runtime_new(&options, &runtime, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "is_pinned");
    CHECK_EQ(il_set_thread_limits(&limits, &err), IL_EINVAL);
    limits = (struct il_thread_limits)IL_THREAD_LIMITS_INIT;
    limits.spare_count_max = 20000;
    CHECK_EQ(il_set_thread_limits(&limits, &err), IL_EINVAL);
    check_nothing_left();
}

TEST(idle_spare_ends_after_its_time)
{
    struct il_runtime *runtime = new_runtime(1);
    struct il_thread_limits limits = IL_THREAD_LIMITS_INIT;
    struct il_watch_threads threads;
    struct gate gate = GATE_CLOSED;
    struct il_task *stuck;

    limits.spare_idle_ms = 5;
    CHECK_OK(il_set_thread_limits(&limits, &err));
    gate_close(&gate);
    stuck = spawn(runtime, "stuck", block_then_sleep, &gate);
    WAIT_FOR(stats_of(runtime).away_task_count > 0);
    il_watch_threads(&threads);
    CHECK_EQ(threads.spare_count, 1);
    gate_open(&gate);
    join(stuck);
    WAIT_FOR((il_watch_threads(&threads), threads.spare_count == 0));
    set_spares(64);
    il_runtime_drop(runtime);
    check_nothing_left();
}

TEST(monitor_sleeps_while_every_loop_rests_and_wakes_for_the_next_stuck_task)
{
    struct il_runtime *runtime = new_runtime(2);

    for (int i = 0; i < 3; i++) {
        struct gate gate = GATE_CLOSED;
        struct il_task *stuck;
        _Atomic int count = 0;

        usleep(50000); /* long enough for it to fall asleep; if it has not, that is fine too */
        gate_close(&gate);
        stuck = spawn(runtime, "stuck", block_then_sleep, &gate);
        WAIT_FOR(stats_of(runtime).away_task_count > 0);
        CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
        gate_open(&gate);
        join(stuck);
    }
    il_runtime_drop(runtime);
    check_nothing_left();
}

static uint64_t allocations_after_a_hand_over(void)
{
    struct il_runtime *runtime = new_runtime(2);
    struct gate gate = GATE_CLOSED;
    struct il_watch_totals totals;
    struct il_task *stuck;
    _Atomic int count = 0;

    gate_close(&gate);
    stuck = spawn(runtime, "stuck", block_then_sleep, &gate);
    wait_until(&gate.is_inside);
    CHECK_OK(il_block_on(runtime, sleep_a_little, &count, &err));
    gate_open(&gate);
    join(stuck);
    il_runtime_drop(runtime);
    il_watch_totals(&totals);
    return totals.allocations;
}

/* A worker that had not come back by then lets go of its own on its own time. */
TEST(monitor_and_spares_are_gone_with_their_memory_when_the_last_runtime_has_ended)
{
    uint64_t first = allocations_after_a_hand_over(); /* this thread's own loop is made */

    for (int i = 0; i < 20; i++) {
        uint64_t left = allocations_after_a_hand_over();
        struct il_watch_totals totals;

        WAIT_FOR(left == first || (il_watch_totals(&totals), totals.allocations == first));
    }
}

#if !RT_TSAN /* which does not follow a program with threads through fork */
TEST(child_of_a_fork_has_a_monitor_and_spares_of_its_own)
{
    struct il_runtime *runtime = new_runtime(1);
    struct gate gate = GATE_CLOSED;
    struct il_task *stuck;
    pid_t child;
    int status;

    gate_close(&gate);
    stuck = spawn(runtime, "stuck", block_then_sleep, &gate);
    wait_until(&gate.is_inside);
    WAIT_FOR(stats_of(runtime).away_task_count > 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        (void)il_runtime_drop(runtime);
        (void)allocations_after_a_hand_over();
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
    gate_open(&gate);
    join(stuck);
    il_runtime_drop(runtime);
    check_nothing_left();
}
#endif
