#include "sync/sync_check.h"

static struct il_error err;
static struct il_semaphore *semaphore;

static struct il_semaphore_stats stats(void)
{
    struct il_semaphore_stats stats;

    CHECK_OK(il_semaphore_stats(semaphore, &stats, &err));
    return stats;
}

static void set_up(uint32_t permits)
{
    CHECK_OK(il_semaphore_new("test", permits, &semaphore, &err));
}

/* All permits are back. */
static void tear_down(uint32_t permits)
{
    CHECK_EQ(stats().available, permits);
    CHECK_EQ(stats().waiters, 0);
    semaphore = il_semaphore_unref(semaphore);
    check_nothing_left();
}

static void release(uint32_t count)
{
    CHECK_OK(il_semaphore_release(semaphore, count, &err));
}

/* ---- what it says ---- */

TEST(permits_are_taken_and_given_back)
{
    set_up(3);
    CHECK_OK(il_semaphore_acquire(semaphore, 2, IL_FOREVER, &err));
    CHECK_EQ(il_semaphore_try_acquire(semaphore, 2, &err), IL_EAGAIN);
    CHECK_OK(il_semaphore_try_acquire(semaphore, 1, &err));
    CHECK_EQ(stats().available, 0);
    release(3);
    tear_down(3);
}

TEST(acquire_gives_up_at_its_deadline_and_says_what_it_waited_for)
{
    set_up(1);
    CHECK_EQ(il_semaphore_acquire(semaphore, 2, il_deadline_in_ms(2), &err), IL_ETIMEDOUT);
    CHECK_CONTAINS(err.message, "2 permits");
    CHECK_CONTAINS(err.message, "'test'");
    CHECK_OK(il_semaphore_acquire(semaphore, 1, 0, &err)); /* past, but it is there */
    CHECK_EQ(il_semaphore_acquire(semaphore, 1, 0, &err), IL_ETIMEDOUT);
    release(1);
    tear_down(1);
}

TEST(misuse_is_answered_and_changes_nothing)
{
    struct il_semaphore *none;

    CHECK_EQ(il_semaphore_new(NULL, IL_SEMAPHORE_PERMITS_MAX + 1, &none, &err), IL_EINVAL);
    set_up(IL_SEMAPHORE_PERMITS_MAX - 1);
    CHECK_EQ(il_semaphore_acquire(NULL, 1, 0, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "il_semaphore_acquire");
    CHECK_EQ(il_semaphore_acquire(semaphore, 0, 0, &err), IL_EINVAL);
    CHECK_EQ(il_semaphore_try_acquire(semaphore, IL_SEMAPHORE_PERMITS_MAX + 1, &err), IL_EINVAL);
    CHECK_EQ(il_semaphore_release(semaphore, 2, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "had not been acquired");
    CHECK_EQ(stats().available, IL_SEMAPHORE_PERMITS_MAX - 1);
    release(1);
    CHECK_EQ(il_semaphore_release(semaphore, 1, &err), IL_EINVAL);
    tear_down(IL_SEMAPHORE_PERMITS_MAX);
}

static void use_in_callback(void *arg)
{
    (void)arg;
    CHECK_EQ(il_semaphore_acquire(semaphore, 1, IL_FOREVER, &err), IL_EDEADLOCK);
    CHECK_OK(il_semaphore_try_acquire(semaphore, 1, &err));
    CHECK_EQ(il_semaphore_try_acquire(semaphore, 1, &err), IL_EAGAIN);
    release(1);
}

TEST(callback_may_try_but_not_wait)
{
    set_up(1);
    check_run_in_callback(use_in_callback, NULL);
    tear_down(1);
}

static enum il_code acquire_once(void *arg)
{
    (void)arg;
    return il_semaphore_acquire(semaphore, 1, IL_FOREVER, NULL);
}

TEST(child_of_a_fork_is_told_so)
{
    set_up(1);
    check_in_child(acquire_once, NULL, IL_EFORK);
    tear_down(1);
}

TEST(no_memory_is_reported_and_leaves_nothing_behind)
{
    struct il_memory_use before, after;

    il_memory_use(&before);
    il_memory_fail_after(0);
    CHECK_EQ(il_semaphore_new("x", 1, &semaphore, &err), IL_ENOMEM);
    il_memory_fail_after(UINT64_MAX);
    il_memory_use(&after);
    CHECK_EQ(after.live_count, before.live_count);
    set_up(1);
    for (uint64_t left = 0; true; left++) { /* the thread's record and private loop */
        enum il_code code;

        il_memory_fail_after(left);
        code = il_semaphore_acquire(semaphore, 1, IL_FOREVER, &err);
        il_memory_fail_after(UINT64_MAX);
        if (code == IL_OK) {
            break;
        }
        CHECK_EQ(code, IL_ENOMEM);
        CHECK_EQ(stats().available, 1);
    }
    release(1);
    tear_down(1);
}

/* ---- across runtimes ---- */

struct holders {
    uint32_t permits;
    _Atomic uint32_t held, rounds_done;
};

static void take_and_give_back(void *arg)
{
    struct holders *holders = arg;

    for (int i = 0; i < 300; i++) {
        uint32_t count = 1 + (uint32_t)i % 2;

        CHECK_OK(il_semaphore_acquire(semaphore, count, IL_FOREVER, &err));
        CHECK(atomic_fetch_add(&holders->held, count) + count <= holders->permits);
        if (i % 3 == 0) {
            CHECK_EQ(il_yield(), IL_OK);
        }
        atomic_fetch_sub(&holders->held, count);
        release(count);
    }
    atomic_fetch_add(&holders->rounds_done, 1);
}

TEST(never_more_permits_are_held_than_there_are_wherever_the_holders_live)
{
    struct holders holders = { .permits = 3 };
    struct actor actors[4 * WHERE_COUNT];

    set_up(3);
    for (unsigned i = 0; i < il_array_count(actors); i++) {
        actor_start(&actors[i], (enum check_where)(i % WHERE_COUNT), take_and_give_back, &holders);
    }
    for (unsigned i = 0; i < il_array_count(actors); i++) {
        actor_join(&actors[i]);
    }
    CHECK_EQ(holders.rounds_done, il_array_count(actors));
    tear_down(3);
}

static void take_one(void *arg)
{
    *(enum il_code *)arg = il_semaphore_acquire(semaphore, 1, IL_FOREVER, NULL);
}

TEST(waiter_on_a_parked_runtime_keeps_no_permit_from_others)
{
    struct actor actors[WHERE_COUNT];
    struct holders holders = { .permits = 3 };
    struct il_runtime *parked;
    struct il_task *task;
    enum il_code code = IL_EINVAL;

    set_up(0);
    parked = check_park_in(take_one, &code, &task);
    CHECK_EQ(stats().waiters, 1);
    release(3); /* it is woken, and cannot come */
    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_start(&actors[i], (enum check_where)i, take_and_give_back, &holders);
    }
    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_join(&actors[i]);
    }
    CHECK_EQ(stats().available, 3);
    check_finish_parked(parked, task);
    CHECK_EQ(code, IL_OK);
    release(1);
    tear_down(3);
}

TEST(waiter_on_a_parked_runtime_that_came_too_late_waits_on_and_is_woken_again)
{
    struct il_runtime *parked;
    struct il_task *task;
    enum il_code code = IL_EINVAL;

    set_up(0);
    parked = check_park_in(take_one, &code, &task);
    release(1);
    CHECK_OK(il_semaphore_acquire(semaphore, 1, IL_FOREVER, &err));
    CHECK_OK(il_block_on(parked, check_do_nothing, NULL, &err)); /* comes, and finds nothing */
    CHECK_EQ(stats().waiters, 1);
    release(1);
    check_finish_parked(parked, task);
    CHECK_EQ(code, IL_OK);
    release(1);
    tear_down(1);
}

struct stuck {
    _Atomic bool is_inside, may_go;
};

static void block_the_thread(void *arg)
{
    struct stuck *stuck = arg;

    stuck->is_inside = true;
    CHECK_COMES(stuck->may_go);
}

TEST(waiter_on_a_loop_that_is_stuck_in_user_code_keeps_no_permit_from_others)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime;
    struct stuck stuck = { .is_inside = false };
    struct holders holders = { .permits = 2 };
    struct il_task *waiting, *blocking;
    struct actor actors[WHERE_COUNT];
    enum il_code code = IL_EINVAL;

    options.worker_count = 1;
    options.hand_over_after_ms =
        IL_FOREVER; /* else a spare thread lets the waiter have its permit */
    CHECK_OK(il_runtime_new(&options, &runtime, &err));
    set_up(0);
    CHECK_OK(il_spawn(runtime, NULL, take_one, &code, &waiting, &err));
    CHECK_COMES(stats().waiters == 1);
    CHECK_OK(il_spawn(runtime, NULL, block_the_thread, &stuck, &blocking, &err));
    CHECK_COMES(stuck.is_inside);
    release(2);
    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_start(&actors[i], (enum check_where)i, take_and_give_back, &holders);
    }
    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_join(&actors[i]);
    }
    stuck.may_go = true;
    CHECK_OK(il_task_join(waiting, IL_FOREVER, &err));
    CHECK_EQ(code, IL_OK);
    CHECK_OK(il_task_join(blocking, IL_FOREVER, &err));
    il_task_unref(waiting);
    il_task_unref(blocking);
    il_runtime_drop(runtime);
    release(1);
    tear_down(2);
}

static void take_one_and_give_it_back(void *arg)
{
    take_one(arg);
    if (*(enum il_code *)arg == IL_OK) {
        release(1);
    }
}

TEST(dropping_the_runtime_of_waiters_leaves_the_permits_to_the_others)
{
    struct il_task *tasks[20];
    enum il_code codes[20];

    set_up(0);
    for (int kind = 0; kind < 2; kind++) {
        struct il_runtime *runtime = check_new_runtime((enum il_runtime_kind)kind, 2);

        for (int i = 0; i < 20; i++) {
            codes[i] = IL_EINVAL;
            CHECK_OK(
                il_spawn(runtime, NULL, take_one_and_give_it_back, &codes[i], &tasks[i], &err));
        }
        if (kind == IL_RUNTIME_MULTI_THREAD) {
            CHECK_COMES(stats().waiters == 20);
        } else {
            CHECK_OK(il_block_on(runtime, check_do_nothing, NULL, &err));
            CHECK_EQ(stats().waiters, 20);
            release(1); /* some may come while the runtime ends */
        }
        il_runtime_drop(runtime);
        for (int i = 0; i < 20; i++) {
            CHECK_OK(il_task_join(tasks[i], IL_FOREVER, &err));
            il_task_unref(tasks[i]);
            CHECK(codes[i] == IL_ESHUTDOWN || (codes[i] == IL_OK && stats().available == 1));
        }
        CHECK_EQ(stats().waiters, 0);
    }
    CHECK_OK(il_semaphore_acquire(semaphore, 1, IL_FOREVER, &err));
    release(1);
    tear_down(1);
}

static void take_one_when_cancelled(void *arg)
{
    while (il_sleep_ms(60000) != IL_ECANCELED) {
    }
    take_one(arg);
}

TEST(cancelled_task_takes_nothing_even_if_it_need_not_wait)
{
    struct il_runtime *runtime = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
    enum il_code code = IL_OK;
    struct il_task *task;

    set_up(1);
    CHECK_OK(il_spawn(runtime, NULL, take_one_when_cancelled, &code, &task, &err));
    il_task_cancel(task);
    CHECK_OK(il_task_join(task, IL_FOREVER, &err));
    CHECK_EQ(code, IL_ECANCELED);
    il_task_unref(task);
    il_runtime_drop(runtime);
    tear_down(1);
}

/* ---- whose turn it is ---- */

struct order {
    _Atomic int next;
    int at[8];
};

static void take_in_order(void *arg)
{
    struct order *order = arg;
    int mine = atomic_fetch_add(&order->next, 1);

    CHECK_OK(il_semaphore_acquire(semaphore, 1 + (uint32_t)mine % 3, IL_FOREVER, &err));
    order->at[order->next++] = mine;
    release(1 + (uint32_t)mine % 3);
}

TEST(waiters_of_one_loop_are_served_in_the_order_in_which_they_came)
{
    struct il_runtime *runtime = check_new_runtime(IL_RUNTIME_CURRENT_THREAD, 0);
    struct order order = { 0 };
    struct il_task *tasks[8];

    set_up(0);
    for (int i = 0; i < 8; i++) {
        CHECK_OK(il_spawn(runtime, NULL, take_in_order, &order, &tasks[i], &err));
    }
    CHECK_OK(il_block_on(runtime, check_do_nothing, NULL, &err));
    CHECK_EQ(stats().waiters, 8);
    order.next = 0;
    for (int i = 0; i < 3; i++) {
        release(1); /* enough for the first, but not yet for the third */
    }
    for (int i = 0; i < 8; i++) {
        while (!il_task_is_finished(tasks[i])) {
            CHECK_OK(il_block_on(runtime, check_do_nothing, NULL, &err));
        }
        CHECK_EQ(order.at[i], i);
        il_task_unref(tasks[i]);
    }
    il_runtime_drop(runtime);
    tear_down(3);
}

struct rivals {
    _Atomic bool is_over;
    _Atomic unsigned rounds;
};

/* Take and give back one permit all the time, never with none taken for longer than it must. */
static void take_small(void *arg)
{
    struct rivals *rivals = arg;

    while (!rivals->is_over) {
        CHECK_OK(il_semaphore_acquire(semaphore, 1, IL_FOREVER, &err));
        (void)il_yield();
        release(1);
        atomic_fetch_add(&rivals->rounds, 1);
    }
}

static void take_all(void *arg)
{
    for (int i = 0; i < 5; i++) {
        CHECK_OK(il_semaphore_acquire(semaphore, 4, IL_FOREVER, &err));
        release(4);
    }
    atomic_store((_Atomic bool *)arg, true);
}

TEST(large_acquire_is_not_starved_by_small_ones_of_other_loops)
{
    struct rivals rivals = { .is_over = false };
    struct actor small[2 * WHERE_COUNT], large;

    set_up(4);
    for (unsigned i = 0; i < il_array_count(small); i++) {
        actor_start(&small[i], (enum check_where)(i % WHERE_COUNT), take_small, &rivals);
    }
    CHECK_COMES(rivals.rounds > 100);
    actor_start(&large, IN_MULTI_THREAD, take_all, &rivals.is_over);
    actor_join(&large);
    for (unsigned i = 0; i < il_array_count(small); i++) {
        actor_join(&small[i]);
    }
    tear_down(4);
}

TEST(small_acquire_is_not_kept_waiting_for_ever_by_a_large_one_that_cannot_be_met)
{
    struct il_runtime *runtime = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
    struct il_task *task;
    enum il_code code;

    set_up(9);
    CHECK_OK(il_semaphore_acquire(semaphore, 8, IL_FOREVER, &err)); /* and not given back */
    CHECK_OK(il_spawn(runtime, NULL, take_all, &code, &task, &err));
    CHECK_COMES(stats().waiters == 1);
    for (int i = 0; i < 20; i++) {
        CHECK_OK(il_semaphore_acquire(semaphore, 1, IL_FOREVER, &err));
        release(1);
    }
    CHECK(!il_task_is_finished(task));
    release(8);
    CHECK_OK(il_task_join(task, IL_FOREVER, &err));
    il_task_unref(task);
    il_runtime_drop(runtime);
    tear_down(9);
}

static void take_for_ever(void *arg)
{
    struct rivals *rivals = arg;

    while (il_semaphore_acquire(semaphore, 1, IL_FOREVER, NULL) == IL_OK) {
        release(1);
        atomic_fetch_add(&rivals->rounds, 1);
    }
}

TEST(task_that_need_never_wait_lets_others_run_and_can_be_cancelled)
{
    struct il_runtime *runtime = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
    struct rivals rivals = { .is_over = false };
    struct il_task *busy, *other;
    enum il_code code = IL_EINVAL;

    set_up(2);
    CHECK_OK(il_spawn(runtime, NULL, take_for_ever, &rivals, &busy, &err));
    CHECK_COMES(rivals.rounds > 0);
    CHECK_OK(il_spawn(runtime, NULL, take_one, &code, &other, &err)); /* on the only loop */
    CHECK_OK(il_task_join(other, IL_FOREVER, &err));
    CHECK_EQ(code, IL_OK);
    release(1);
    il_task_cancel(busy);
    CHECK_OK(il_task_join(busy, IL_FOREVER, &err));
    il_task_unref(busy);
    il_task_unref(other);
    il_runtime_drop(runtime);
    tear_down(2);
}

/* ---- storms ---- */

#define STORM_TASKS 60

struct storm {
    _Atomic uint64_t seed;
    _Atomic uint32_t held;
    uint32_t permits;
    _Atomic unsigned taken, missed, running;
};

static void storm_task(void *arg)
{
    struct storm *storm = arg;
    struct dice dice = dice_new(atomic_fetch_add(&storm->seed, 1));
    enum il_code code = IL_OK;

    while (code == IL_OK || code == IL_ETIMEDOUT) {
        uint32_t count = 1 + dice_roll(&dice, 3);
        uint64_t deadline_ns = il_now_ns() + dice_roll(&dice, 300000);

        code = il_semaphore_acquire(semaphore, count,
                                    dice_roll(&dice, 4) == 0 ? IL_FOREVER : deadline_ns, NULL);
        if (code == IL_OK) {
            CHECK(atomic_fetch_add(&storm->held, count) + count <= storm->permits);
            if (dice_roll(&dice, 2) == 0) {
                (void)il_yield();
            }
            atomic_fetch_sub(&storm->held, count);
            release(count);
            atomic_fetch_add(&storm->taken, 1);
        } else {
            atomic_fetch_add(&storm->missed, 1);
        }
    }
    CHECK(code == IL_ECANCELED || code == IL_ESHUTDOWN);
    atomic_fetch_sub(&storm->running, 1);
}

TEST_WITH_TIMEOUT(permits_survive_a_storm_of_cancellations_and_dropped_runtimes, 200)
{
    struct storm storm = { .seed = check_seed(), .permits = 5 };
    struct dice dice = dice_new(storm.seed + 1000000);
    struct il_runtime *runtimes[3];
    struct il_task *tasks[STORM_TASKS] = { NULL };
    int steps = check_steps(4000);

    set_up(5);
    for (int i = 0; i < 3; i++) {
        runtimes[i] = check_new_runtime((enum il_runtime_kind)(i % 2), 2);
    }
    for (int step = 0; step < steps; step++) {
        struct il_task **task = &tasks[dice_roll(&dice, STORM_TASKS)];
        struct il_runtime **runtime = &runtimes[dice_roll(&dice, 3)];

        if (*task != NULL) {
            il_task_cancel(*task);
            *task = il_task_unref(*task);
        } else {
            atomic_fetch_add(&storm.running, 1);
            CHECK_OK(il_spawn(*runtime, NULL, storm_task, &storm, task, &err));
        }
        /* the current-thread one is driven now and then only */
        if (dice_roll(&dice, 4) == 0) {
            CHECK_OK(il_block_on(runtimes[1], check_do_nothing, NULL, &err));
        }
        if (dice_roll(&dice, 400) == 0) {
            enum il_runtime_kind kind =
                runtime == &runtimes[1] ? IL_RUNTIME_CURRENT_THREAD : IL_RUNTIME_MULTI_THREAD;

            il_runtime_drop(*runtime);
            *runtime = check_new_runtime(kind, 2);
        }
    }
    for (int i = 0; i < 3; i++) {
        il_runtime_drop(runtimes[i]);
    }
    for (int i = 0; i < STORM_TASKS; i++) {
        il_task_unref(tasks[i]);
    }
    CHECK_COMES(storm.running == 0); /* one that was stuck on a loaded machine comes later */
    CHECK(storm.taken > 0 && storm.missed > 0);
    tear_down(5);
}
