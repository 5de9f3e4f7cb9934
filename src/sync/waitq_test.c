/* waitq_test.c: whose turn it is, step by step, with loops that do nothing and a clock that the
 * test sets. Parties are never parked here: a wake is seen in their state. */
#include "sync/sync_check.h"

#define LOOPS_MAX   40
#define WAITERS_MAX 200
#define MS          ((uint64_t)1000000)

static uint64_t clock_ns = 1000 * MS;
static struct sys_world world;

static uint64_t clock_read(void)
{
    return clock_ns;
}

static struct il_loop loops[LOOPS_MAX]; /* compared, never run */
static struct sys_mutex mutex;
static struct waitq queue;

static struct someone {
    struct party party;
    struct waiter waiter;
    uint64_t again_ns;
    bool is_waiting;
} people[WAITERS_MAX];

static void party_stays(struct party *party)
{
    (void)party;
}

static void set_up(uint64_t amount)
{
    world = sys_world_real;
    world.now_ns = clock_read;
    sys_world = &world;
    sys_mutex_init(&mutex);
    waitq_init(&queue, amount);
}

static void tear_down(void)
{
    waitq_deinit(&queue);
    sys_mutex_deinit(&mutex);
    sys_world = &sys_world_real;
}

static void unlock(void) IL_RELEASES(mutex)
{
    waitq_unlock(&queue, NULL, &mutex);
    waitq_validate_locked(&queue);
}

/* The person asks for the first time, on a loop. Takes if it may. */
static bool arrive(int person, int loop, uint64_t need)
{
    struct someone *someone = &people[person];
    bool is_taken;

    memset(someone, 0, sizeof(*someone));
    someone->party.loop = &loops[loop];
    someone->party.free = party_stays;
    atomic_init(&someone->party.ref_count, 1);
    waiter_init(&someone->waiter, &someone->party, need);
    sys_mutex_lock(&mutex);
    is_taken = waitq_ask_locked(&queue, &someone->waiter, &someone->again_ns);
    if (is_taken && queue.amount != WAITQ_ALL) {
        queue.amount -= need;
    }
    unlock();
    someone->is_waiting = !is_taken;
    return is_taken;
}

static bool is_woken(int person)
{
    return atomic_load(&people[person].party.state) == PARTY_NOTIFIED;
}

/* The person's wait returns, and it asks again. */
static bool ask(int person)
{
    struct someone *someone = &people[person];
    bool is_taken;

    atomic_store(&someone->party.state, PARTY_EMPTY);
    sys_mutex_lock(&mutex);
    is_taken = waitq_ask_locked(&queue, &someone->waiter, &someone->again_ns);
    if (is_taken && queue.amount != WAITQ_ALL) {
        queue.amount -= someone->waiter.need;
    }
    unlock();
    someone->is_waiting = !is_taken;
    return is_taken;
}

static void leave(int person)
{
    sys_mutex_lock(&mutex);
    waitq_leave_locked(&queue, &people[person].waiter);
    unlock();
    people[person].is_waiting = false;
}

static void give(uint64_t count)
{
    sys_mutex_lock(&mutex);
    queue.amount = count == WAITQ_ALL ? WAITQ_ALL : queue.amount + count;
    unlock();
}

static bool try_one(void)
{
    bool is_taken;

    sys_mutex_lock(&mutex);
    is_taken = waitq_try_locked(&queue, 1);
    queue.amount -= is_taken;
    unlock();
    return is_taken;
}

/* ---- waking ---- */

TEST(wake_goes_to_the_oldest_waiter_of_every_loop)
{
    set_up(0);
    for (int person = 0; person < 9; person++) {
        CHECK(!arrive(person, person % 3, 1));
    }
    give(1);
    for (int person = 0; person < 9; person++) {
        CHECK_EQ(is_woken(person), person < 3);
    }
    CHECK(ask(2)); /* whoever comes first takes */
    CHECK(!ask(0));
    CHECK(!ask(1));
    for (int person = 0; person < 9; person++) {
        leave(person);
    }
    tear_down();
}

TEST(plain_threads_wait_in_one_line)
{
    set_up(0);
    for (int i = 0; i < 3; i++) {
        loops[i].is_thread_loop = true;
        CHECK(!arrive(i, i, 1));
    }
    CHECK(!arrive(3, 3, 1));
    give(1);
    CHECK(is_woken(0));
    CHECK(!is_woken(1) && !is_woken(2));
    CHECK(is_woken(3)); /* a task */
    for (int i = 0; i < 4; i++) {
        leave(i);
    }
    tear_down();
}

TEST(one_waiter_is_woken_for_each_change_and_not_again_before_it_has_asked)
{
    set_up(0);
    CHECK(!arrive(0, 0, 1));
    CHECK(!arrive(1, 0, 1));
    give(1);
    CHECK(is_woken(0));
    give(1);
    CHECK(!is_woken(1)); /* the first passes it on */
    CHECK(ask(0));
    CHECK(is_woken(1));
    CHECK(ask(1));
    CHECK_EQ(queue.amount, 0);
    tear_down();
}

TEST(waiter_that_came_too_late_is_woken_again)
{
    set_up(0);
    CHECK(!arrive(0, 0, 1));
    for (int round = 1; round < 4; round++) {
        give(1);
        CHECK(is_woken(0));
        CHECK(arrive(round, 1, 1));
        CHECK(!ask(0));
        CHECK(!is_woken(0));
    }
    give(1);
    CHECK(is_woken(0));
    CHECK(ask(0));
    tear_down();
}

TEST(waiter_that_leaves_hands_its_wake_to_the_next_of_its_loop)
{
    set_up(0);
    CHECK(!arrive(0, 0, 1));
    CHECK(!arrive(1, 0, 1));
    CHECK(!arrive(2, 0, 1));
    leave(1); /* had no wake */
    CHECK(!is_woken(2));
    give(1);
    leave(0);
    CHECK(is_woken(2));
    CHECK(ask(2));
    tear_down();
}

TEST(waiters_of_one_loop_are_served_in_order_even_if_a_newcomer_asks_first)
{
    set_up(0);
    CHECK(!arrive(0, 0, 1));
    give(1);
    CHECK(!arrive(1, 0, 1)); /* there is one, but it is for the first */
    CHECK(!ask(1));
    CHECK(arrive(2, 1, 1)); /* of another loop */
    CHECK(!ask(0));
    give(1);
    CHECK(ask(0));
    leave(1);
    tear_down();
}

TEST(amount_that_is_too_small_for_one_loop_wakes_another)
{
    set_up(0);
    CHECK(!arrive(0, 0, 3));
    CHECK(!arrive(1, 1, 2));
    give(2);
    CHECK(!is_woken(0));
    CHECK(is_woken(1));
    CHECK(ask(1));
    give(3);
    CHECK(is_woken(0));
    CHECK(ask(0));
    tear_down();
}

TEST(more_loops_than_fit_into_one_batch_are_all_woken)
{
    set_up(0);
    for (int i = 0; i < LOOPS_MAX; i++) {
        CHECK(!arrive(i, i, 1));
    }
    give(1);
    for (int i = 0; i < LOOPS_MAX; i++) {
        CHECK(is_woken(i));
        leave(i);
    }
    tear_down();
}

TEST(enough_for_all_wakes_everybody_one_after_the_other_and_out_of_turn)
{
    set_up(0);
    for (int i = 0; i < 6; i++) {
        CHECK(!arrive(i, i % 2, 1 + (uint64_t)i));
    }
    give(WAITQ_ALL);
    CHECK(is_woken(0) && is_woken(1) && !is_woken(2));
    CHECK(ask(4));
    CHECK(ask(0));
    CHECK(is_woken(2));
    for (int i = 1; i < 6; i++) {
        CHECK(i == 4 || ask(i));
    }
    CHECK(arrive(6, 0, 9));
    tear_down();
}

/* ---- favour ---- */

/* Person 0, on loop 0, waits for 1 ms and is then overtaken. */
static void make_favoured(void)
{
    CHECK(!arrive(0, 0, 1));
    clock_ns += MS;
    give(1);
    CHECK(arrive(1, 1, 1));
    CHECK(!ask(0));
    CHECK(queue.favoured == &people[0].waiter);
}

TEST(waiter_that_was_overtaken_before_it_has_waited_long_is_not_favoured)
{
    set_up(0);
    CHECK(!arrive(0, 0, 1));
    clock_ns += MS - 1;
    give(1);
    CHECK(arrive(1, 1, 1));
    CHECK(!ask(0));
    give(1);
    CHECK(arrive(2, 1, 1));
    leave(0);
    tear_down();
}

TEST(waiter_that_has_waited_long_and_was_overtaken_goes_before_other_loops)
{
    set_up(0);
    make_favoured();
    give(1);
    CHECK(!arrive(2, 1, 1));
    CHECK(!try_one());
    CHECK(ask(0));
    CHECK(!is_woken(2)); /* nothing is left */
    give(1);
    CHECK(ask(2));
    tear_down();
}

TEST(who_gave_way_goes_on_as_soon_as_the_favoured_one_leaves)
{
    set_up(0);
    make_favoured();
    give(1);
    CHECK(!arrive(2, 1, 1));
    leave(0);
    CHECK(is_woken(2));
    CHECK(ask(2));
    tear_down();
}

TEST(favoured_waiter_that_does_not_answer_costs_the_others_10_ms_once)
{
    set_up(0);
    make_favoured();
    give(3);
    CHECK(!arrive(2, 1, 1));
    CHECK_EQ(people[2].again_ns, clock_ns + WAITQ_ANSWER_NS);
    clock_ns += WAITQ_ANSWER_NS - 1;
    CHECK(!ask(2));
    CHECK(!try_one());
    clock_ns += 1;
    CHECK(ask(2));
    CHECK(arrive(3, 2, 1)); /* nobody waits for it again */
    CHECK(try_one());
    leave(0);
    tear_down();
}

TEST(favoured_waiter_that_answers_keeps_its_favour)
{
    set_up(0);
    CHECK(!arrive(0, 0, 5));
    clock_ns = people[0].again_ns; /* needs more than one: asks by itself */
    CHECK(!ask(0));
    CHECK(queue.favoured == &people[0].waiter);
    clock_ns += MS / 2;
    give(4);
    CHECK(!arrive(1, 1, 1));
    CHECK(is_woken(0)); /* challenged, though there is not enough for it */
    CHECK(!ask(0));
    CHECK(!ask(1));
    give(1);
    CHECK(ask(0));
    leave(1);
    tear_down();
}

TEST(waiter_that_needs_much_shares_its_favour_half_and_half)
{
    uint64_t turn_ns = 0, start_ns;

    set_up(0);
    CHECK(!arrive(0, 0, 5));
    start_ns = clock_ns;
    for (int turn = 0; turn < 5; turn++) {
        uint64_t waited_ns;

        clock_ns = people[0].again_ns;
        CHECK(!ask(0));
        CHECK(queue.favoured == &people[0].waiter);
        waited_ns = clock_ns - start_ns;
        CHECK(waited_ns > turn_ns); /* each turn is longer than the last */
        turn_ns = waited_ns;
        clock_ns += turn_ns - 1;
        give(1);
        CHECK(!arrive(1, 1, 1));
        CHECK(!ask(0));
        clock_ns += 1;
        clock_ns = clock_ns > people[1].again_ns ? clock_ns : people[1].again_ns;
        CHECK(!ask(1)); /* challenges; the turn is over, says the answer */
        CHECK(!ask(0));
        CHECK(is_woken(1));
        CHECK(ask(1));
    }
    leave(0);
    tear_down();
}

TEST(oldest_of_those_that_were_overtaken_is_favoured)
{
    set_up(0);
    CHECK(!arrive(0, 0, 1));
    clock_ns += 1;
    CHECK(!arrive(1, 1, 1));
    clock_ns += MS;
    CHECK(!ask(1));
    CHECK(queue.favoured == &people[1].waiter);
    CHECK(!ask(0));
    CHECK(queue.favoured == &people[0].waiter);
    CHECK(!ask(1));
    CHECK(queue.favoured == &people[0].waiter);
    give(1);
    CHECK(!ask(1));
    CHECK(ask(0));
    leave(1);
    tear_down();
}

TEST(older_waiter_does_not_give_way_to_a_younger_one)
{
    set_up(0);
    CHECK(!arrive(0, 0, 1));
    clock_ns += 1;
    CHECK(!arrive(1, 1, 1));
    clock_ns += MS;
    CHECK(!ask(1));
    CHECK(queue.favoured == &people[1].waiter);
    give(1);
    CHECK(ask(0));
    leave(1);
    tear_down();
}

TEST(next_that_needs_much_learns_that_the_favour_has_become_free)
{
    set_up(0);
    CHECK(!arrive(0, 0, 5));
    clock_ns += MS;
    CHECK(!arrive(1, 1, 5));
    CHECK(!ask(0));
    clock_ns += MS;
    CHECK(!ask(1));
    CHECK(queue.favoured == &people[0].waiter);
    leave(0);
    CHECK(is_woken(1));
    CHECK(!ask(1));
    CHECK(queue.favoured == &people[1].waiter);
    leave(1);
    tear_down();
}

/* ---- anything, in any order ---- */

struct crowd {
    struct dice dice;
    bool is_parked[LOOPS_MAX];
    unsigned loop_count;
    unsigned given, taken;
};

static int crowd_loop(int person)
{
    return (int)(people[person].party.loop - loops);
}

/* Would the person run now, if its loop is driven? */
static bool crowd_is_due(const struct crowd *crowd, int person)
{
    return people[person].is_waiting && !crowd->is_parked[crowd_loop(person)] &&
           (is_woken(person) || clock_ns >= people[person].again_ns);
}

static void crowd_step(struct crowd *crowd)
{
    int person = (int)dice_roll(&crowd->dice, WAITERS_MAX);
    unsigned loop = dice_roll(&crowd->dice, crowd->loop_count);

    clock_ns += dice_roll(&crowd->dice, MS / 10);
    switch (dice_roll(&crowd->dice, 8)) {
    case 0:
        crowd->is_parked[loop] = dice_roll(&crowd->dice, 2) == 0;
        break;
    case 1:
        give(1);
        crowd->given++;
        break;
    case 2:
        crowd->taken += try_one();
        break;
    case 3:
        if (people[person].is_waiting && dice_roll(&crowd->dice, 4) == 0) {
            leave(person); /* cancelled or timed out */
        }
        break;
    default:
        if (crowd_is_due(crowd, person)) {
            crowd->taken += ask(person) ? (unsigned)people[person].waiter.need : 0;
        } else if (!people[person].is_waiting && !crowd->is_parked[loop]) {
            uint64_t need = dice_roll(&crowd->dice, 8) == 0 ? 4 : 1;

            crowd->taken += arrive(person, (int)loop, need) ? (unsigned)need : 0;
        }
        break;
    }
    CHECK_EQ(queue.amount, crowd->given - crowd->taken);
}

/* When the next of them is due, in a millisecond or later. */
static uint64_t crowd_next_ns(const struct crowd *crowd, uint64_t until_ns)
{
    for (int person = 0; person < WAITERS_MAX; person++) {
        if (crowd_is_due(crowd, person)) {
            return clock_ns + MS;
        }
        if (people[person].is_waiting && !crowd->is_parked[crowd_loop(person)]) {
            until_ns = il_min_u64(until_ns, il_max_u64(people[person].again_ns, clock_ns + MS));
        }
    }
    return until_ns;
}

static void crowd_settle_for(struct crowd *crowd, uint64_t duration_ns)
{
    uint64_t until_ns = clock_ns + duration_ns;

    while (clock_ns < until_ns) {
        for (int person = 0; person < WAITERS_MAX; person++) {
            if (crowd_is_due(crowd, person)) {
                crowd->taken += ask(person) ? (unsigned)people[person].waiter.need : 0;
            }
        }
        clock_ns = crowd_next_ns(crowd, until_ns);
    }
}

/* Nothing more happens but what wakes and timers bring about. At the end nobody who could be served
 * waits on a loop that is driven; and when there is enough for all, nobody at all. */
static void crowd_settle(struct crowd *crowd)
{
    crowd_settle_for(crowd, 60 * 1000 * MS);
    for (int person = 0; person < WAITERS_MAX; person++) {
        if (people[person].is_waiting && !crowd->is_parked[crowd_loop(person)] &&
            il_list_is_linked(&people[person].waiter.head)) {
            CHECK(people[person].waiter.need > queue.amount);
        }
    }
    give(4 * WAITERS_MAX);
    crowd->given += 4 * WAITERS_MAX;
    crowd_settle_for(crowd, 60 * 1000 * MS);
    for (int person = 0; person < WAITERS_MAX; person++) {
        CHECK(!people[person].is_waiting || crowd->is_parked[crowd_loop(person)]);
    }
}

TEST_WITH_TIMEOUT(nothing_is_kept_from_a_live_loop_whatever_happens, 120)
{
    uint64_t seed = check_seed();
    int rounds = check_steps(20);

    for (int round = 0; round < rounds; round++) {
        struct crowd crowd = { .dice = dice_new(seed + (uint64_t)round) };

        crowd.loop_count = 1 + dice_roll(&crowd.dice, LOOPS_MAX);
        memset(people, 0, sizeof(people));
        set_up(0);
        for (int step = 0; step < 3000; step++) {
            crowd_step(&crowd);
        }
        crowd_settle(&crowd);
        CHECK_EQ(queue.amount, crowd.given - crowd.taken);
        for (int person = 0; person < WAITERS_MAX; person++) {
            if (people[person].is_waiting) {
                leave(person);
            }
        }
        tear_down();
    }
}
