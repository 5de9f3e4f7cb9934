#include "sync/sync_check.h"

static struct il_error err;
static struct il_channel *channel;
static _Atomic int freed_count;

static void count_freed(void *message)
{
    (void)message;
    atomic_fetch_add(&freed_count, 1);
}

static struct il_channel_stats stats(void)
{
    struct il_channel_stats stats;

    CHECK_OK(il_channel_stats(channel, &stats, &err));
    return stats;
}

static void set_up(size_t capacity)
{
    freed_count = 0;
    CHECK_OK(il_channel_new("test", capacity, count_freed, &channel, &err));
}

static void tear_down(int left_over)
{
    CHECK_EQ(stats().senders_waiting, 0);
    CHECK_EQ(stats().receivers_waiting, 0);
    channel = il_channel_unref(channel);
    CHECK_EQ(freed_count, left_over);
    check_nothing_left();
}

/* A message is a number, in the pointer itself. */
static void *message_of(uintptr_t number)
{
    return (void *)number;
}

static void send_number(uintptr_t number)
{
    CHECK_OK(il_channel_send(channel, message_of(number), IL_FOREVER, &err));
}

static uintptr_t receive_number(void)
{
    void *message;

    CHECK_OK(il_channel_receive(channel, IL_FOREVER, &message, &err));
    return (uintptr_t)message;
}

/* ---- what it says ---- */

TEST(messages_come_out_in_the_order_in_which_they_went_in)
{
    set_up(3);
    for (uintptr_t i = 0; i < 10; i++) {
        send_number(2 * i);
        send_number(2 * i + 1);
        CHECK_EQ(stats().messages, 2);
        CHECK_EQ(receive_number(), 2 * i);
        CHECK_EQ(receive_number(), 2 * i + 1);
    }
    tear_down(0);
}

TEST(full_channel_takes_nothing_and_empty_one_gives_nothing)
{
    void *message;

    set_up(2);
    CHECK_EQ(il_channel_try_receive(channel, &message, &err), IL_EAGAIN);
    CHECK_EQ(il_channel_receive(channel, il_deadline_in_ms(2), &message, &err), IL_ETIMEDOUT);
    CHECK_CONTAINS(err.message, "receiving from channel 'test'");
    CHECK_OK(il_channel_try_send(channel, message_of(1), &err));
    CHECK_OK(il_channel_try_send(channel, NULL, &err)); /* a message like any other */
    CHECK_EQ(il_channel_try_send(channel, message_of(3), &err), IL_EAGAIN);
    CHECK_EQ(il_channel_send(channel, message_of(3), il_deadline_in_ms(2), &err), IL_ETIMEDOUT);
    CHECK_CONTAINS(err.message, "sending to channel 'test'");
    CHECK_EQ(receive_number(), 1);
    CHECK_OK(il_channel_try_receive(channel, &message, &err));
    CHECK(message == NULL);
    tear_down(0);
}

TEST(closed_channel_gives_what_is_in_it_and_takes_nothing_more)
{
    void *message;

    set_up(3);
    send_number(1);
    send_number(2);
    CHECK_OK(il_channel_close(channel, &err));
    CHECK_OK(il_channel_close(channel, &err));
    CHECK(stats().is_closed);
    CHECK_EQ(il_channel_send(channel, message_of(3), IL_FOREVER, &err), IL_ECLOSED);
    CHECK_EQ(il_channel_try_send(channel, message_of(3), &err), IL_ECLOSED);
    CHECK_EQ(receive_number(), 1);
    CHECK_OK(il_channel_try_receive(channel, &message, &err));
    CHECK_EQ((uintptr_t)message, 2);
    CHECK_EQ(il_channel_receive(channel, IL_FOREVER, &message, &err), IL_ECLOSED);
    CHECK_EQ(il_channel_try_receive(channel, &message, &err), IL_ECLOSED);
    tear_down(0);
}

static void free_and_use(void *message)
{
    struct il_channel *other = message;

    count_freed(message);
    CHECK_OK(il_channel_close(other, &err)); /* no lock is held */
    il_channel_unref(other);
}

TEST(messages_that_nobody_received_are_freed_at_the_end)
{
    struct il_channel *other;

    set_up(4);
    for (uintptr_t i = 0; i < 6; i++) { /* the ring wraps around */
        send_number(i);
        if (i < 3) {
            CHECK_EQ(receive_number(), i);
        }
    }
    tear_down(3);
    freed_count = 0;
    CHECK_OK(il_channel_new(NULL, 1, free_and_use, &channel, &err));
    CHECK_OK(il_channel_new(NULL, 1, NULL, &other, &err));
    CHECK_OK(il_channel_try_send(other, message_of(1), &err)); /* without a function to free it */
    CHECK_OK(il_channel_try_send(channel, other, &err));
    tear_down(1);
}

TEST(misuse_is_answered)
{
    void *message;

    CHECK_EQ(il_channel_new(NULL, 0, NULL, &channel, &err), IL_EINVAL);
    CHECK_EQ(il_channel_new(NULL, IL_CHANNEL_CAPACITY_MAX + 1, NULL, &channel, &err), IL_EINVAL);
    CHECK_EQ(il_channel_send(NULL, NULL, IL_FOREVER, &err), IL_EINVAL);
    CHECK_EQ(il_channel_try_send(NULL, NULL, &err), IL_EINVAL);
    CHECK_EQ(il_channel_receive(NULL, IL_FOREVER, &message, &err), IL_EINVAL);
    CHECK_EQ(il_channel_try_receive(NULL, &message, &err), IL_EINVAL);
    CHECK_EQ(il_channel_close(NULL, &err), IL_EINVAL);
    CHECK(il_channel_unref(NULL) == NULL);
}

static void use_in_callback(void *arg)
{
    void *message;

    (void)arg;
    CHECK_EQ(il_channel_send(channel, NULL, IL_FOREVER, &err), IL_EDEADLOCK);
    CHECK_EQ(il_channel_receive(channel, IL_FOREVER, &message, &err), IL_EDEADLOCK);
    CHECK_OK(il_channel_try_send(channel, message_of(7), &err));
    CHECK_EQ(il_channel_try_send(channel, message_of(8), &err), IL_EAGAIN);
    CHECK_OK(il_channel_try_receive(channel, &message, &err));
    CHECK_EQ(il_channel_try_receive(channel, &message, &err), IL_EAGAIN);
}

TEST(callback_may_try_but_not_wait)
{
    set_up(1);
    check_run_in_callback(use_in_callback, NULL);
    tear_down(0);
}

static enum il_code send_once(void *arg)
{
    (void)arg;
    return il_channel_send(channel, NULL, IL_FOREVER, NULL);
}

TEST(child_of_a_fork_is_told_so)
{
    set_up(1);
    check_in_child(send_once, NULL, IL_EFORK);
    tear_down(0);
}

TEST(no_memory_is_reported_and_leaves_nothing_behind)
{
    struct il_memory_use before, after;

    il_memory_use(&before);
    il_memory_fail_after(0);
    CHECK_EQ(il_channel_new("x", 5, NULL, &channel, &err), IL_ENOMEM);
    il_memory_fail_after(UINT64_MAX);
    il_memory_use(&after);
    CHECK_EQ(after.live_count, before.live_count);
    set_up(1);
    for (uint64_t left = 0; true; left++) { /* the thread's record and private loop */
        enum il_code code;

        il_memory_fail_after(left);
        code = il_channel_send(channel, NULL, IL_FOREVER, &err);
        il_memory_fail_after(UINT64_MAX);
        if (code == IL_OK) {
            break;
        }
        CHECK_EQ(code, IL_ENOMEM);
        CHECK_EQ(stats().messages, 0);
    }
    tear_down(1);
}

/* ---- across runtimes ---- */

#define PRODUCERS 6
#define CONSUMERS 6
#define MESSAGES  500

struct traffic {
    _Atomic unsigned producer_next;
    _Atomic unsigned char received[PRODUCERS][MESSAGES];
};

static void produce(void *arg)
{
    struct traffic *traffic = arg;
    uintptr_t producer = atomic_fetch_add(&traffic->producer_next, 1);

    for (uintptr_t i = 0; i < MESSAGES; i++) {
        send_number(producer * MESSAGES + i);
    }
}

static void consume(void *arg)
{
    struct traffic *traffic = arg;
    uintptr_t next[PRODUCERS] = { 0 };
    void *message;
    enum il_code code;

    while ((code = il_channel_receive(channel, IL_FOREVER, &message, NULL)) == IL_OK) {
        uintptr_t producer = (uintptr_t)message / MESSAGES, i = (uintptr_t)message % MESSAGES;

        CHECK(i >= next[producer]); /* of each producer in its order */
        next[producer] = i + 1;
        CHECK_EQ(atomic_fetch_add(&traffic->received[producer][i], 1), 0);
    }
    CHECK_EQ(code, IL_ECLOSED);
}

static void run_traffic(size_t capacity)
{
    struct actor producers[PRODUCERS], consumers[CONSUMERS];
    struct traffic *traffic = calloc(1, sizeof(*traffic));

    set_up(capacity);
    for (int i = 0; i < CONSUMERS; i++) {
        actor_start(&consumers[i], (enum check_where)(i % WHERE_COUNT), consume, traffic);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        actor_start(&producers[i], (enum check_where)(i % WHERE_COUNT), produce, traffic);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        actor_join(&producers[i]);
    }
    CHECK_OK(il_channel_close(channel, &err));
    for (int i = 0; i < CONSUMERS; i++) {
        actor_join(&consumers[i]);
    }
    for (int producer = 0; producer < PRODUCERS; producer++) {
        for (int i = 0; i < MESSAGES; i++) {
            CHECK_EQ(traffic->received[producer][i], 1);
        }
    }
    free(traffic);
    tear_down(0);
}

TEST_WITH_TIMEOUT(every_message_arrives_once_and_in_the_order_of_its_sender, 120)
{
    run_traffic(1);
    run_traffic(7);
    run_traffic(10000);
}

struct one_wait {
    enum il_code code;
    void *message;
};

static void wait_to_receive(void *arg)
{
    struct one_wait *wait = arg;

    wait->code = il_channel_receive(channel, IL_FOREVER, &wait->message, NULL);
}

static void wait_to_send(void *arg)
{
    struct one_wait *wait = arg;

    wait->code = il_channel_send(channel, message_of(99), IL_FOREVER, NULL);
}

TEST(receiver_on_a_parked_runtime_swallows_no_message)
{
    struct one_wait parked_wait = { IL_EINVAL, NULL };
    struct il_runtime *parked;
    struct il_task *task;

    set_up(2);
    parked = check_park_in(wait_to_receive, &parked_wait, &task);
    CHECK_EQ(stats().receivers_waiting, 1);
    send_number(1); /* wakes it */
    send_number(2);
    for (int where = 0; where < WHERE_COUNT; where++) {
        struct one_wait wait = { IL_EINVAL, NULL };
        struct actor actor;

        actor_start(&actor, (enum check_where)where, wait_to_receive, &wait);
        actor_join(&actor);
        CHECK_EQ(wait.code, IL_OK);
        CHECK_EQ((uintptr_t)wait.message, where + 1);
        send_number((uintptr_t)where + 3);
    }
    CHECK_EQ(receive_number(), 4);
    CHECK_OK(il_block_on(parked, check_do_nothing, NULL, &err));
    check_finish_parked(parked, task);
    CHECK_EQ((uintptr_t)parked_wait.message, 5);
    tear_down(0);
}

TEST(sender_on_a_parked_runtime_keeps_no_place)
{
    struct one_wait parked_wait = { IL_EINVAL, NULL };
    struct il_runtime *parked;
    struct il_task *task;

    set_up(1);
    send_number(1);
    parked = check_park_in(wait_to_send, &parked_wait, &task);
    CHECK_EQ(stats().senders_waiting, 1);
    for (uintptr_t i = 1; i < 20; i++) {
        CHECK_EQ(receive_number(), i); /* wakes it, and leaves a place */
        send_number(i + 1);
    }
    CHECK_EQ(receive_number(), 20);
    check_finish_parked(parked, task);
    CHECK_EQ(parked_wait.code, IL_OK);
    CHECK_EQ(receive_number(), 99);
    tear_down(0);
}

TEST(closing_ends_every_wait_wherever_it_is)
{
    struct actor actors[2 * WHERE_COUNT];
    struct one_wait waits[2 * WHERE_COUNT], many[40];
    struct il_runtime *runtime = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 2);

    for (int is_full = 0; is_full < 2; is_full++) {
        il_task_fn *wait = is_full ? wait_to_send : wait_to_receive;
        struct il_task *tasks[40];

        set_up(1);
        if (is_full) {
            send_number(1);
        }
        for (unsigned i = 0; i < il_array_count(actors); i++) {
            actor_start(&actors[i], (enum check_where)(i % WHERE_COUNT), wait, &waits[i]);
        }
        for (unsigned i = 0; i < il_array_count(many); i++) {
            CHECK_OK(il_spawn(runtime, NULL, wait, &many[i], &tasks[i], &err));
        }
        CHECK_COMES(stats().receivers_waiting + stats().senders_waiting ==
                    il_array_count(actors) + il_array_count(many));
        CHECK_OK(il_channel_close(channel, &err));
        for (unsigned i = 0; i < il_array_count(actors); i++) {
            actor_join(&actors[i]);
            CHECK_EQ(waits[i].code, IL_ECLOSED);
        }
        for (unsigned i = 0; i < il_array_count(many); i++) {
            CHECK_OK(il_task_join(tasks[i], IL_FOREVER, &err));
            CHECK_EQ(many[i].code, IL_ECLOSED);
            il_task_unref(tasks[i]);
        }
        if (is_full) {
            il_runtime_drop(runtime);
        }
        channel = il_channel_unref(channel);
        CHECK_EQ(freed_count, is_full);
    }
    check_nothing_left();
}

struct flood {
    _Atomic unsigned count;
    _Atomic unsigned others;
};

static void send_to_itself(void *arg)
{
    struct flood *flood = arg;
    void *message;

    while (il_channel_send(channel, NULL, IL_FOREVER, NULL) == IL_OK &&
           il_channel_receive(channel, IL_FOREVER, &message, NULL) == IL_OK) {
        atomic_fetch_add(&flood->count, 1);
    }
}

static void count_others(void *arg)
{
    atomic_fetch_add(&((struct flood *)arg)->others, 1);
}

TEST(task_that_need_never_wait_lets_others_run_and_ends_with_its_runtime)
{
    struct il_runtime *runtime = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
    struct flood flood = { 0 };
    struct il_task *task;

    set_up(8);
    CHECK_OK(il_spawn(runtime, NULL, send_to_itself, &flood, &task, &err));
    CHECK_COMES(flood.count > 0);
    CHECK_OK(il_spawn(runtime, NULL, count_others, &flood, NULL, &err)); /* on the only loop */
    CHECK_COMES(flood.others > 0);
    il_runtime_drop(runtime);
    CHECK_OK(il_task_join(task, IL_FOREVER, &err));
    il_task_unref(task);
    CHECK(stats().messages <= 1);
    tear_down((int)stats().messages);
}

/* ---- storm ---- */

#define STORM_TASKS 60

struct storm {
    _Atomic uint64_t seed;
    _Atomic uint64_t number; /* the next message */
    _Atomic uint64_t sent_count, sent_sum, received_count, received_sum, missed_count;
    _Atomic unsigned running;
};

static enum il_code storm_send(struct storm *storm, uint64_t deadline_ns, bool is_try)
{
    uint64_t number = atomic_fetch_add(&storm->number, 1);
    enum il_code code = is_try ? il_channel_try_send(channel, message_of(number), NULL)
                               : il_channel_send(channel, message_of(number), deadline_ns, NULL);

    if (code == IL_OK) {
        atomic_fetch_add(&storm->sent_count, 1);
        atomic_fetch_add(&storm->sent_sum, number);
    }
    return code;
}

static enum il_code storm_receive(struct storm *storm, uint64_t deadline_ns, bool is_try)
{
    void *message;
    enum il_code code = is_try ? il_channel_try_receive(channel, &message, NULL)
                               : il_channel_receive(channel, deadline_ns, &message, NULL);

    if (code == IL_OK) {
        atomic_fetch_add(&storm->received_count, 1);
        atomic_fetch_add(&storm->received_sum, (uintptr_t)message);
    }
    return code;
}

static void storm_task(void *arg)
{
    struct storm *storm = arg;
    struct dice dice = dice_new(atomic_fetch_add(&storm->seed, 1));
    bool is_sender = dice_roll(&dice, 2) == 0;
    enum il_code code = IL_OK;

    while (code == IL_OK || code == IL_ETIMEDOUT || code == IL_EAGAIN) {
        uint64_t deadline_ns =
            dice_roll(&dice, 3) == 0 ? IL_FOREVER : il_now_ns() + dice_roll(&dice, 300000);
        bool is_try = dice_roll(&dice, 8) == 0;

        code = is_sender ? storm_send(storm, deadline_ns, is_try)
                         : storm_receive(storm, deadline_ns, is_try);
        if (code != IL_OK) {
            atomic_fetch_add(&storm->missed_count, 1);
        }
    }
    CHECK(code == IL_ECANCELED || code == IL_ESHUTDOWN);
    atomic_fetch_sub(&storm->running, 1);
}

static void storm_step(struct storm *storm, struct dice *dice, struct il_runtime *runtimes[3],
                       struct il_task *tasks[STORM_TASKS])
{
    struct il_task **task = &tasks[dice_roll(dice, STORM_TASKS)];
    unsigned at = dice_roll(dice, 3);

    if (*task != NULL) {
        il_task_cancel(*task);
        *task = il_task_unref(*task);
    } else {
        atomic_fetch_add(&storm->running, 1);
        CHECK_OK(il_spawn(runtimes[at], NULL, storm_task, storm, task, &err));
    }
    if (dice_roll(dice, 4) == 0) { /* the current-thread one is driven now and then only */
        CHECK_OK(il_block_on(runtimes[1], check_do_nothing, NULL, &err));
    }
    if (dice_roll(dice, 400) == 0) {
        il_runtime_drop(runtimes[at]);
        runtimes[at] = check_new_runtime((enum il_runtime_kind)(at % 2), 2);
    }
}

TEST_WITH_TIMEOUT(no_message_is_lost_or_doubled_in_a_storm_of_cancellations_and_dropped_runtimes,
                  200)
{
    struct storm storm = { .seed = check_seed() };
    struct dice dice = dice_new(storm.seed + 1000000);
    struct il_runtime *runtimes[3];
    struct il_task *tasks[STORM_TASKS] = { NULL };
    int steps = check_steps(4000);

    set_up(4);
    for (int i = 0; i < 3; i++) {
        runtimes[i] = check_new_runtime((enum il_runtime_kind)(i % 2), 2);
    }
    for (int step = 0; step < steps; step++) {
        storm_step(&storm, &dice, runtimes, tasks);
    }
    for (int i = 0; i < 3; i++) {
        il_runtime_drop(runtimes[i]);
    }
    for (int i = 0; i < STORM_TASKS; i++) {
        il_task_unref(tasks[i]);
    }
    CHECK_COMES(storm.running == 0); /* one that was stuck on a loaded machine comes later */
    while (storm_receive(&storm, 0, true) == IL_OK) {
    }
    CHECK(storm.received_count > 0 && storm.missed_count > 0);
    CHECK_EQ(storm.received_count, storm.sent_count);
    CHECK_EQ(storm.received_sum, storm.sent_sum);
    tear_down(0);
}
