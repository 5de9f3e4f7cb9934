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

/* At once, and not after a while. */
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

/* For what is there only after a while, on another thread. */
#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        while (!(condition)) {                                                                     \
            usleep(200);                                                                           \
        }                                                                                          \
    } while (0)

static struct il_runtime_stats stats_of(const struct il_runtime *runtime)
{
    struct il_runtime_stats stats;

    il_runtime_stats(runtime, &stats);
    return stats;
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

static void count_up(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
}

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

TEST(away_task_that_is_back_within_the_grace_ends_with_its_runtime)
{
    struct il_runtime *runtime = new_runtime(1);
    struct gate gate = GATE_CLOSED;
    struct il_shutdown_report report;

    gate_close(&gate);
    (void)il_task_unref(spawn(runtime, "stuck", block_then_sleep, &gate));
    WAIT_FOR(stats_of(runtime).away_task_count > 0);
    gate_open(&gate);
    (void)il_runtime_shutdown(runtime, 0, &report, &err);
    CHECK_EQ(report.stuck_task_count, 0);
    CHECK(gate.is_over);
    il_runtime_unref(runtime);
    check_nothing_left();
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

static struct {
    pthread_mutex_t mutex;
    struct il_hand_over events[64];
    unsigned count;
    _Atomic unsigned refused, began, ended;
} heard = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static void hear(void *arg, const struct il_hand_over *event)
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

static void set_spares(unsigned count)
{
    struct il_thread_limits limits = IL_THREAD_LIMITS_INIT;

    limits.spare_count_max = count;
    CHECK_OK(il_set_thread_limits(&limits, &err));
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

/* ---- announced ---- */

struct announced {
    struct gate gate;
    bool in_place;
    uint64_t loop_free_after_ns;
};

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
    _Atomic int *inside, inside_max;
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

/* ---- what is told ---- */

TEST(hand_over_is_told_with_task_function_thread_and_time)
{
    struct il_runtime *runtime;
    struct gate gate = GATE_CLOSED;
    struct il_task *stuck;
    const struct il_hand_over *event = heard.events;
    struct il_watch_loop loops[4];
    size_t loop_count;

    il_set_warn(hear, NULL);
    runtime = new_runtime(1);
    gate_close(&gate);
    stuck = spawn(runtime, "told", block_then_sleep, &gate);
    wait_until(&gate.is_inside);
    WAIT_FOR(heard.began == 1);
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

TEST(monitor_and_spares_are_gone_with_their_memory_when_the_last_runtime_has_ended)
{
    uint64_t first = allocations_after_a_hand_over(); /* this thread's own loop is made */

    for (int i = 0; i < 20; i++) {
        CHECK_EQ(allocations_after_a_hand_over(), first);
    }
}
