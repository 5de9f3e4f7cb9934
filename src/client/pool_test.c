/* pool_test.c: the pool's queue, step by step: calls that are nothing but waiters, on loops that
 * run when they are told to. So each order of steps can be had that threads come to by chance. */
#include "client/call.h"
#include "tests/check.h"

#define CALLS_MAX 4

static struct il_error err;
static struct pool pool;
static struct il_loop *loops[2];
static struct caller {
    struct il_call call;
    unsigned wake_count;
} callers[CALLS_MAX];

static uint64_t look_ns; /* as the last answer has it */

static const struct pool_identity identity = { .scheme = URL_HTTP, .port = 80, .host = "a.test" };

static enum loop_result on_wake(struct il_loop *loop, struct job *job)
{
    struct caller *caller = il_container_of(job, struct caller, call.wake_job);

    il_assert_on_loop(loop);
    atomic_store(&caller->call.is_wake_posted, false);
    atomic_fetch_sub(&caller->call.ref_count, 1);
    caller->wake_count++;
    return LOOP_HELD;
}

static void start(struct il_client_options options)
{
    client_options_complete(&options);
    pool_init(&pool, &options);
    for (unsigned i = 0; i < il_array_count(loops); i++) {
        CHECK_OK(loop_new(i == 0 ? "a" : "b", NULL, false, &loops[i], &err));
    }
    for (unsigned i = 0; i < CALLS_MAX; i++) {
        struct il_call *call = &callers[i].call;

        call->home = loops[i % 2];
        call->shelf_index = pool_shelf_index(&pool, call->home);
        call->may_share = true;
        call->wake_job.run = on_wake;
        atomic_init(&call->ref_count, 1);
        il_list_init(&call->waiter.link);
        il_list_init(&call->pool_link);
    }
}

static void loop_finish(struct il_loop *loop)
{
    CHECK(loop_try_hold(loop));
    il_assert_on_loop(loop);
    while (!loop_try_seal(loop)) {
        CHECK_EQ(loop_turn(loop, 0), LOOP_HELD);
    }
    loop_end(loop);
    (void)loop_unref(loop);
}

static void stop(void)
{
    for (unsigned i = 0; i < CALLS_MAX; i++) {
        pool_leave(&pool, &callers[i].call);
        if (callers[i].call.is_listed) {
            pool_remove_call(&pool, &callers[i].call);
        }
    }
    for (unsigned i = 0; i < il_array_count(loops); i++) {
        loop_finish(loops[i]);
    }
    pool_deinit(&pool);
}

/* The wakes that lie in the loops' mailboxes arrive. */
static unsigned wakes_of(unsigned number)
{
    struct il_loop *loop = callers[number].call.home;
    unsigned before = callers[number].wake_count;

    CHECK(loop_try_hold(loop));
    il_assert_on_loop(loop);
    CHECK_EQ(loop_turn(loop, 0), LOOP_HELD);
    loop_release(loop);
    return callers[number].wake_count - before;
}

static enum pool_answer acquire(unsigned number)
{
    struct il_call *call = &callers[number].call;
    struct pool_got got;

    CHECK_OK(pool_acquire(&pool, &identity, call, call->home, false, &got, &err));
    look_ns = got.answer == POOL_WAIT || got.answer == POOL_NOTHING ? got.look_ns : 0;
    if (got.answer == POOL_DIAL) {
        call->place = got.origin;
    }
    return got.answer;
}

static void forget_place(unsigned number)
{
    pool_forget_place(&pool, &callers[number].call);
}

static void leave(unsigned number)
{
    pool_leave(&pool, &callers[number].call);
}

TEST(waiter_that_is_woken_for_a_place_gets_it_before_the_one_who_gave_it_back_has_left)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.driver = IL_DRIVER_BOUND;
    start(options);
    CHECK_EQ(acquire(2), POOL_DIAL);
    CHECK_EQ(acquire(1), POOL_WAIT); /* for the one that 2 opens */
    forget_place(2);
    leave(2);
    CHECK_EQ(acquire(0), POOL_DIAL); /* faster than the one who was woken */
    CHECK_EQ(wakes_of(1), 1);
    CHECK_EQ(acquire(1), POOL_NOTHING);
    forget_place(0);
    CHECK_EQ(wakes_of(1), 1);
    CHECK_EQ(acquire(1), POOL_DIAL);
    leave(0);
    forget_place(1);
    leave(1);
    stop();
}

/* ---- the place of a loop that does not run: here, nobody drives either ---- */

/* 0, on loop a, has the only place there may be; 1 and 3, on loop b, wait, and one of them takes it
 * when its time has come. */
static void take_the_only_place(void)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.connections_per_host_max = 1;
    options.unread_timeout_ms = 1;
    start(options);
    CHECK_EQ(acquire(0), POOL_DIAL);
    CHECK_EQ(wakes_of(0), 0); /* a turn of loop a, later than what time it is for loop b */
    CHECK_EQ(acquire(1), POOL_WAIT);
    CHECK_EQ(acquire(3), POOL_WAIT);
    CHECK(look_ns != 0);
    while (wakes_of(1) == 0) { /* a turn of loop b: it knows what time it is */
        if (loop_now_ns(loops[1]) >= look_ns) {
            look_ns = pool_look(&pool, &callers[3].call, loop_now_ns(loops[1]));
            CHECK(look_ns != 0);
        }
    }
    CHECK_EQ(callers[3].wake_count, 0); /* 1 was there before it */
    CHECK_EQ(acquire(1), POOL_DIAL);
    CHECK_EQ(atomic_load(&pool.connection_count), 1);
}

static void stop_from(unsigned number)
{
    forget_place(number);
    leave(number);
    CHECK_EQ(atomic_load(&pool.connection_count), 0);
    stop();
}

TEST(place_of_a_loop_that_does_not_run_is_given_to_one_that_does)
{
    take_the_only_place();
    CHECK_EQ(wakes_of(0), 1); /* it will know as soon as it runs */
    CHECK(pool_pass_dial(&pool, &callers[0].call) == NULL);
    CHECK_EQ(acquire(0), POOL_NOTHING);
    CHECK(callers[0].call.place == NULL);
    CHECK_EQ(wakes_of(0), 0);
    forget_place(1);
    leave(1);
    CHECK_EQ(wakes_of(0), 1);
    CHECK_EQ(acquire(0), POOL_DIAL);
    stop_from(0);
}

TEST(connection_whose_place_was_taken_away_may_not_be_opened)
{
    take_the_only_place();
    CHECK(!pool_may_open(&pool, &callers[0].call));
    CHECK(callers[0].call.place == NULL);
    CHECK_EQ(acquire(0), POOL_NOTHING);
    CHECK(pool_may_open(&pool, &callers[1].call));
    stop_from(1);
}

TEST(loop_whose_place_was_taken_away_goes_on_if_there_is_another_one)
{
    take_the_only_place();
    forget_place(1);
    leave(1);
    CHECK(pool_may_open(&pool, &callers[0].call));
    CHECK(callers[0].call.place != NULL);
    CHECK_EQ(atomic_load(&pool.connection_count), 1);
    CHECK_EQ(acquire(0), POOL_NOTHING); /* it dials, and waits on the side, as before */
    stop_from(0);
}

TEST(call_that_ends_before_it_hears_that_its_place_is_gone_gives_none_back)
{
    take_the_only_place();
    forget_place(0);
    leave(0);
    CHECK_EQ(atomic_load(&pool.connection_count), 1);
    stop_from(1);
}

TEST(place_is_not_passed_on_to_a_call_that_has_not_heard_that_its_own_is_gone)
{
    take_the_only_place();
    forget_place(1);
    leave(1);
    CHECK_EQ(acquire(2), POOL_DIAL); /* on the same loop as 0, which opens something still */
    CHECK(pool_pass_dial(&pool, &callers[2].call) == NULL);
    CHECK(pool_find_follower(&pool, &callers[2].call, UINT64_MAX) == NULL);
    stop_from(2);
}

TEST(place_of_a_loop_that_runs_is_its_own)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.connections_per_host_max = 1;
    options.unread_timeout_ms = 1;
    start(options);
    CHECK_EQ(acquire(0), POOL_DIAL);
    CHECK(loop_try_hold(loops[0]));
    il_assert_on_loop(loops[0]);
    CHECK_EQ(acquire(1), POOL_WAIT);
    while (loop_now_ns(loops[1]) < look_ns) {
        CHECK_EQ(wakes_of(1), 0);
    }
    CHECK_EQ(acquire(1), POOL_NOTHING);
    CHECK(look_ns > loop_now_ns(loops[1])); /* to see whether it still does */
    loop_release(loops[0]);
    CHECK_EQ(acquire(1), POOL_NOTHING); /* it has just run */
    stop_from(0);
}
