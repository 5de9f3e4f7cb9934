#include "sync/sync_check.h"

static struct il_error err;
static struct il_mutex *mutex;

static struct il_mutex_stats stats(void)
{
    struct il_mutex_stats stats;

    CHECK_OK(il_mutex_stats(mutex, &stats, &err));
    return stats;
}

static void set_up(void)
{
    CHECK_OK(il_mutex_new("test", &mutex, &err));
}

static void tear_down(void)
{
    CHECK(!stats().is_locked);
    CHECK_EQ(stats().waiters, 0);
    mutex = il_mutex_unref(mutex);
    check_nothing_left();
}

/* ---- who holds it ---- */

TEST(holder_is_known_by_name_and_since_when)
{
    uint64_t before_ns = il_now_ns();
    char name[IL_TASK_NAME_SIZE];

    set_up();
    CHECK_STR(stats().holder, "");
    CHECK_OK(il_mutex_lock(mutex, IL_FOREVER, &err));
    snprintf(name, sizeof(name), "thread %d", sys_thread_self()->kernel_id);
    CHECK(stats().is_locked);
    CHECK_STR(stats().holder, name);
    CHECK(stats().since_ns >= before_ns && stats().since_ns <= il_now_ns());
    CHECK_OK(il_mutex_unlock(mutex, &err));
    CHECK(!stats().is_locked);
    CHECK_EQ(stats().since_ns, 0);
    tear_down();
}

TEST(holder_that_locks_again_is_told_that_it_would_deadlock)
{
    set_up();
    CHECK_OK(il_mutex_lock(mutex, IL_FOREVER, &err));
    CHECK_EQ(il_mutex_lock(mutex, IL_FOREVER, &err), IL_EDEADLOCK);
    CHECK_CONTAINS(err.message, "held already by the caller");
    CHECK_EQ(il_mutex_try_lock(mutex, &err), IL_EDEADLOCK);
    CHECK_OK(il_mutex_unlock(mutex, &err));
    tear_down();
}

struct hold {
    _Atomic bool is_locked, may_unlock;
};

static void hold_until_told(void *arg)
{
    struct hold *hold = arg;

    CHECK_OK(il_mutex_lock(mutex, IL_FOREVER, &err));
    hold->is_locked = true;
    while (!hold->may_unlock) {
        (void)il_sleep_ms(1);
    }
    CHECK_OK(il_mutex_unlock(mutex, &err));
}

TEST(who_does_not_hold_it_cannot_unlock_it_and_learns_who_does)
{
    for (int where = 0; where < WHERE_COUNT; where++) {
        struct hold hold = { .is_locked = false };
        struct actor actor;

        set_up();
        CHECK_EQ(il_mutex_unlock(mutex, &err), IL_EINVAL);
        CHECK_CONTAINS(err.message, "nobody does");
        actor_start(&actor, (enum check_where)where, hold_until_told, &hold);
        CHECK_COMES(hold.is_locked);
        CHECK_EQ(il_mutex_unlock(mutex, &err), IL_EINVAL);
        CHECK_CONTAINS(err.message, stats().holder);
        CHECK_EQ(il_mutex_try_lock(mutex, &err), IL_EAGAIN);
        CHECK_CONTAINS(err.message, stats().holder);
        CHECK_EQ(il_mutex_lock(mutex, il_deadline_in_ms(2), &err), IL_ETIMEDOUT);
        CHECK_CONTAINS(err.message, stats().holder);
        hold.may_unlock = true;
        CHECK_OK(il_mutex_lock(mutex, IL_FOREVER, &err));
        CHECK_OK(il_mutex_unlock(mutex, &err));
        actor_join(&actor);
        tear_down();
    }
}

static void lock_and_end(void *arg)
{
    struct hold *hold = arg;

    CHECK_OK(il_mutex_lock(mutex, IL_FOREVER, &err));
    hold->is_locked = true;
    CHECK_COMES(hold->may_unlock); /* and does not */
}

static void expect_abandoned(void *arg)
{
    struct il_error mine;

    CHECK_EQ(il_mutex_lock(mutex, IL_FOREVER, &mine), IL_EDEADLOCK);
    CHECK_CONTAINS(mine.message, "never be unlocked");
    CHECK_CONTAINS(mine.message, arg);
}

TEST(lock_whose_holder_has_ended_is_an_error_for_all_who_wait_and_not_a_hang)
{
    for (int where = 0; where < WHERE_COUNT; where++) {
        static const char *const names[] = { "actor", "block_on", "thread " };
        struct hold hold = { .is_locked = false };
        struct actor holder, waiters[2 * WHERE_COUNT];

        set_up();
        actor_start(&holder, (enum check_where)where, lock_and_end, &hold);
        CHECK_COMES(hold.is_locked);
        for (unsigned i = 0; i < il_array_count(waiters); i++) {
            actor_start(&waiters[i], (enum check_where)(i % WHERE_COUNT), expect_abandoned,
                        (void *)names[where]);
        }
        CHECK_COMES(stats().waiters == il_array_count(waiters));
        hold.may_unlock = true;
        for (unsigned i = 0; i < il_array_count(waiters); i++) {
            actor_join(&waiters[i]);
        }
        actor_join(&holder);
        CHECK_EQ(il_mutex_try_lock(mutex, &err), IL_EDEADLOCK);
        CHECK_EQ(il_mutex_unlock(mutex, &err), IL_EINVAL);
        CHECK(stats().is_locked && stats().is_abandoned);
        CHECK_CONTAINS(stats().holder, names[where]);
        mutex = il_mutex_unref(mutex);
        check_nothing_left();
    }
}

TEST(mutex_that_is_locked_lives_until_it_is_unlocked)
{
    struct il_memory_use before, after;
    struct il_mutex *locked;

    CHECK_EQ(il_yield(), IL_OK); /* this thread is known from here on */
    il_memory_use(&before);
    set_up();
    locked = mutex;
    CHECK_OK(il_mutex_lock(mutex, IL_FOREVER, &err));
    mutex = il_mutex_unref(mutex);
    CHECK_OK(il_mutex_unlock(locked, &err));
    il_memory_use(&after);
    CHECK_EQ(after.live_count, before.live_count);
}

static void use_in_callback(void *arg)
{
    (void)arg;
    CHECK_EQ(il_mutex_lock(mutex, IL_FOREVER, &err), IL_EDEADLOCK);
    CHECK_CONTAINS(err.message, "callback");
    CHECK_OK(il_mutex_try_lock(mutex, &err));
    CHECK_OK(il_mutex_unlock(mutex, &err));
}

TEST(callback_may_try_but_not_wait)
{
    set_up();
    check_run_in_callback(use_in_callback, NULL);
    tear_down();
}

static enum il_code use_in_child(void *arg)
{
    struct il_mutex *made;

    (void)arg;
    if (il_mutex_new(NULL, &made, NULL) != IL_OK ||
        il_mutex_lock(made, IL_FOREVER, NULL) != IL_OK) {
        return IL_ESYS; /* one of its own works */
    }
    (void)il_mutex_unref(mutex);
    return il_mutex_lock(mutex, IL_FOREVER, NULL);
}

TEST(child_of_a_fork_is_told_so_even_if_it_was_locked)
{
    set_up();
    CHECK_OK(il_mutex_lock(mutex, IL_FOREVER, &err));
    check_in_child(use_in_child, NULL, IL_EFORK);
    CHECK_OK(il_mutex_unlock(mutex, &err));
    tear_down();
}

TEST(null_and_no_memory_are_answered)
{
    CHECK_EQ(il_mutex_lock(NULL, IL_FOREVER, &err), IL_EINVAL);
    CHECK_EQ(il_mutex_try_lock(NULL, &err), IL_EINVAL);
    CHECK_EQ(il_mutex_unlock(NULL, &err), IL_EINVAL);
    CHECK(il_mutex_unref(NULL) == NULL);
    il_memory_fail_after(0);
    CHECK_EQ(il_mutex_new("x", &mutex, &err), IL_ENOMEM);
    il_memory_fail_after(UINT64_MAX);
}

/* ---- one at a time ---- */

struct guarded {
    unsigned count; /* guarded by the mutex and nothing else */
    unsigned rounds;
};

static void count_up(void *arg)
{
    struct guarded *guarded = arg;

    for (unsigned i = 0; i < guarded->rounds; i++) {
        unsigned seen;

        CHECK_OK(il_mutex_lock(mutex, IL_FOREVER, &err));
        seen = guarded->count;
        if (i % 8 == 0) {
            CHECK_EQ(il_yield(), IL_OK); /* a task may go on in another thread, holding it */
        }
        guarded->count = seen + 1;
        CHECK_OK(il_mutex_unlock(mutex, &err));
    }
}

TEST_WITH_TIMEOUT(only_one_at_a_time_holds_it_wherever_they_live, 120)
{
    struct guarded guarded = { .rounds = 400 };
    struct actor actors[4 * WHERE_COUNT];

    set_up();
    for (unsigned i = 0; i < il_array_count(actors); i++) {
        actor_start(&actors[i], (enum check_where)(i % WHERE_COUNT), count_up, &guarded);
    }
    for (unsigned i = 0; i < il_array_count(actors); i++) {
        actor_join(&actors[i]);
    }
    CHECK_EQ(guarded.count, il_array_count(actors) * guarded.rounds);
    tear_down();
}

static void lock_and_unlock(void *arg)
{
    *(enum il_code *)arg = il_mutex_lock(mutex, IL_FOREVER, NULL);
    if (*(enum il_code *)arg == IL_OK) {
        CHECK_OK(il_mutex_unlock(mutex, &err));
    }
}

TEST(waiter_on_a_parked_runtime_does_not_get_the_lock_in_its_absence)
{
    struct guarded guarded = { .rounds = 100 };
    struct actor actors[WHERE_COUNT];
    struct il_runtime *parked;
    struct il_task *task;
    enum il_code code = IL_EINVAL;

    set_up();
    CHECK_OK(il_mutex_lock(mutex, IL_FOREVER, &err));
    parked = check_park_in(lock_and_unlock, &code, &task);
    CHECK_EQ(stats().waiters, 1);
    CHECK_OK(il_mutex_unlock(mutex, &err));
    CHECK(!stats().is_locked);
    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_start(&actors[i], (enum check_where)i, count_up, &guarded);
    }
    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_join(&actors[i]);
    }
    check_finish_parked(parked, task);
    CHECK_EQ(code, IL_OK);
    tear_down();
}

static void lock_all_the_time(void *arg)
{
    while (!atomic_load((_Atomic bool *)arg)) {
        CHECK_OK(il_mutex_lock(mutex, IL_FOREVER, &err));
        CHECK_OK(il_mutex_unlock(mutex, &err));
    }
}

TEST(loop_that_locks_all_the_time_does_not_starve_the_others)
{
    _Atomic bool is_over = false;
    struct guarded guarded = { .rounds = 50 };
    struct actor greedy[WHERE_COUNT], modest[WHERE_COUNT];

    set_up();
    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_start(&greedy[i], (enum check_where)i, lock_all_the_time, &is_over);
    }
    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_start(&modest[i], (enum check_where)i, count_up, &guarded);
    }
    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_join(&modest[i]);
    }
    is_over = true;
    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_join(&greedy[i]);
    }
    CHECK_EQ(guarded.count, WHERE_COUNT * guarded.rounds);
    tear_down();
}

/* ---- storm ---- */

#define STORM_TASKS 40

struct storm {
    _Atomic uint64_t seed;
    unsigned inside; /* guarded by the mutex and nothing else */
    _Atomic unsigned locked, running;
};

static void storm_task(void *arg)
{
    struct storm *storm = arg;
    struct dice dice = dice_new(atomic_fetch_add(&storm->seed, 1));
    enum il_code code = IL_OK;

    while (code == IL_OK || code == IL_ETIMEDOUT) {
        code = il_mutex_lock(mutex, il_now_ns() + dice_roll(&dice, 200000), NULL);
        if (code == IL_OK) {
            CHECK_EQ(storm->inside++, 0);
            if (dice_roll(&dice, 2) == 0) {
                (void)il_yield();
            }
            CHECK_EQ(storm->inside--, 1);
            CHECK_OK(il_mutex_unlock(mutex, &err)); /* also when cancelled */
            atomic_fetch_add(&storm->locked, 1);
        }
    }
    CHECK(code == IL_ECANCELED || code == IL_ESHUTDOWN);
    atomic_fetch_sub(&storm->running, 1);
}

TEST_WITH_TIMEOUT(lock_survives_a_storm_of_cancellations, 200)
{
    struct storm storm = { .seed = check_seed() };
    struct dice dice = dice_new(storm.seed + 1000000);
    struct il_runtime *runtimes[2];
    struct il_task *tasks[STORM_TASKS] = { NULL };
    int steps = check_steps(3000);

    set_up();
    for (int i = 0; i < 2; i++) {
        runtimes[i] = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 2);
    }
    for (int step = 0; step < steps; step++) {
        struct il_task **task = &tasks[dice_roll(&dice, STORM_TASKS)];

        if (*task != NULL) {
            il_task_cancel(*task);
            *task = il_task_unref(*task);
        } else {
            atomic_fetch_add(&storm.running, 1);
            CHECK_OK(il_spawn(runtimes[step % 2], NULL, storm_task, &storm, task, &err));
        }
    }
    for (int i = 0; i < 2; i++) {
        il_runtime_drop(runtimes[i]);
    }
    for (int i = 0; i < STORM_TASKS; i++) {
        il_task_unref(tasks[i]);
    }
    CHECK_COMES(storm.running == 0); /* one that was stuck on a loaded machine comes later */
    CHECK(storm.locked > 0);
    tear_down();
}
