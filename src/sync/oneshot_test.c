#include "sync/sync_check.h"

static struct il_error err;

struct pair {
    struct il_oneshot_sender *sender;
    struct il_oneshot_receiver *receiver;
    void *got;
    enum il_code code;
};

static struct pair pair_new(void)
{
    struct pair pair = { .code = IL_EINVAL };

    CHECK_OK(il_oneshot_new(&pair.sender, &pair.receiver, &err));
    return pair;
}

static void pair_free(struct pair *pair)
{
    il_oneshot_sender_free(pair->sender);
    il_oneshot_receiver_free(pair->receiver);
}

static void receive(void *arg)
{
    struct pair *pair = arg;

    pair->code = il_oneshot_receive(pair->receiver, IL_FOREVER, &pair->got, NULL);
}

static _Atomic int freed_count;

static void count_freed(void *value)
{
    (void)value;
    atomic_fetch_add(&freed_count, 1);
}

static int number;

static void send_number(void *arg)
{
    struct pair *pair = arg;

    CHECK_OK(il_oneshot_send(pair->sender, &number, count_freed, &err));
}

TEST(value_sent_anywhere_is_received_anywhere)
{
    for (int from = 0; from < WHERE_COUNT; from++) {
        for (int to = 0; to < WHERE_COUNT; to++) {
            for (int round = 0; round < 8; round++) {
                struct pair pair = pair_new();
                struct actor sender, receiver;

                actor_start(&receiver, (enum check_where)to, receive, &pair);
                actor_start(&sender, (enum check_where)from, send_number, &pair);
                actor_join(&sender);
                actor_join(&receiver);
                CHECK_EQ(pair.code, IL_OK);
                CHECK(pair.got == &number);
                pair_free(&pair);
            }
        }
    }
    CHECK_EQ(freed_count, 0);
    check_nothing_left();
}

TEST(value_may_be_received_after_the_sender_is_gone)
{
    struct pair pair = pair_new();

    CHECK(il_oneshot_is_wanted(pair.sender));
    send_number(&pair);
    CHECK(!il_oneshot_is_wanted(pair.sender));
    il_oneshot_sender_free(pair.sender);
    CHECK_OK(il_oneshot_try_receive(pair.receiver, &pair.got, &err));
    CHECK(pair.got == &number);
    CHECK_EQ(il_oneshot_receive(pair.receiver, IL_FOREVER, &pair.got, &err), IL_ECLOSED);
    CHECK_EQ(il_oneshot_try_receive(pair.receiver, &pair.got, &err), IL_ECLOSED);
    il_oneshot_receiver_free(pair.receiver);
    CHECK_EQ(freed_count, 0);
}

static void free_sender(void *arg)
{
    il_oneshot_sender_free(((struct pair *)arg)->sender);
}

TEST(receiver_learns_that_the_sender_is_gone)
{
    for (int where = 0; where < WHERE_COUNT; where++) {
        struct pair pair = pair_new();
        struct actor actor;

        actor_start(&actor, (enum check_where)where, free_sender, &pair);
        CHECK_EQ(il_oneshot_receive(pair.receiver, IL_FOREVER, &pair.got, &err), IL_ECLOSED);
        CHECK_CONTAINS(err.message, "sender is gone");
        actor_join(&actor);
        il_oneshot_receiver_free(pair.receiver);
    }
}

TEST(sender_learns_that_the_receiver_is_gone_and_keeps_its_value)
{
    struct pair pair = pair_new();

    il_oneshot_receiver_free(pair.receiver);
    CHECK(!il_oneshot_is_wanted(pair.sender));
    CHECK_EQ(il_oneshot_send(pair.sender, &number, count_freed, &err), IL_ECLOSED);
    CHECK_EQ(il_oneshot_send(pair.sender, &number, count_freed, &err), IL_ECLOSED);
    il_oneshot_sender_free(pair.sender);
    CHECK_EQ(freed_count, 0);
}

static struct pair other_pair;

static void free_and_send(void *value)
{
    count_freed(value);
    CHECK_OK(il_oneshot_send(other_pair.sender, value, NULL, &err)); /* no lock is held */
}

TEST(value_that_nobody_received_is_freed_once_and_under_no_lock)
{
    for (int order = 0; order < 2; order++) {
        struct pair pair = pair_new();

        other_pair = pair_new();
        freed_count = 0;
        CHECK_OK(il_oneshot_send(pair.sender, &number, free_and_send, &err));
        if (order == 0) {
            il_oneshot_sender_free(pair.sender);
            CHECK_EQ(freed_count, 0);
            il_oneshot_receiver_free(pair.receiver);
        } else {
            il_oneshot_receiver_free(pair.receiver);
            il_oneshot_sender_free(pair.sender);
        }
        CHECK_EQ(freed_count, 1);
        CHECK_OK(il_oneshot_try_receive(other_pair.receiver, &pair.got, &err));
        pair_free(&other_pair);
    }
}

TEST(second_value_is_refused)
{
    struct pair pair = pair_new();

    send_number(&pair);
    CHECK_EQ(il_oneshot_send(pair.sender, &number, count_freed, &err), IL_EINVAL);
    pair_free(&pair);
    CHECK_EQ(freed_count, 1);
}

TEST(receiver_that_gave_up_may_try_again)
{
    struct pair pair = pair_new();

    CHECK_EQ(il_oneshot_try_receive(pair.receiver, &pair.got, &err), IL_EAGAIN);
    CHECK_EQ(il_oneshot_receive(pair.receiver, il_deadline_in_ms(2), &pair.got, &err),
             IL_ETIMEDOUT);
    send_number(&pair);
    CHECK_OK(il_oneshot_receive(pair.receiver, 0, &pair.got, &err));
    pair_free(&pair);
}

TEST(receiver_on_a_parked_runtime_delays_neither_the_sender_nor_its_end)
{
    struct pair pair = pair_new();
    struct il_task *task;
    struct il_runtime *parked = check_park_in(receive, &pair, &task);

    send_number(&pair);
    il_oneshot_sender_free(pair.sender);
    check_finish_parked(parked, task);
    CHECK_EQ(pair.code, IL_OK);
    il_oneshot_receiver_free(pair.receiver);
    check_nothing_left();
}

TEST(value_outlives_a_receiving_task_that_is_cancelled_or_loses_its_runtime)
{
    for (int kind = 0; kind < 2; kind++) {
        for (int is_dropped = 0; is_dropped < 2; is_dropped++) {
            struct il_runtime *runtime = check_new_runtime((enum il_runtime_kind)kind, 1);
            struct pair pair = pair_new();
            struct il_task *task;

            CHECK_OK(il_spawn(runtime, NULL, receive, &pair, &task, &err));
            if (!is_dropped) {
                il_task_cancel(task);
            }
            il_runtime_drop(runtime);
            CHECK_OK(il_task_join(task, IL_FOREVER, &err));
            CHECK(pair.code == IL_ECANCELED || pair.code == IL_ESHUTDOWN);
            send_number(&pair);
            receive(&pair);
            CHECK_EQ(pair.code, IL_OK);
            il_task_unref(task);
            pair_free(&pair);
        }
    }
    check_nothing_left();
}

static void use_in_callback(void *arg)
{
    struct pair *pair = arg;

    CHECK_EQ(il_oneshot_receive(pair->receiver, IL_FOREVER, &pair->got, &err), IL_EDEADLOCK);
    CHECK_EQ(il_oneshot_try_receive(pair->receiver, &pair->got, &err), IL_EAGAIN);
    send_number(pair);
    CHECK_OK(il_oneshot_try_receive(pair->receiver, &pair->got, &err));
}

TEST(callback_may_send_and_try_but_not_wait)
{
    struct pair pair = pair_new();

    check_run_in_callback(use_in_callback, &pair);
    pair_free(&pair);
}

TEST(null_is_answered)
{
    void *got;

    CHECK_EQ(il_oneshot_send(NULL, &number, NULL, &err), IL_EINVAL);
    CHECK_EQ(il_oneshot_receive(NULL, IL_FOREVER, &got, &err), IL_EINVAL);
    CHECK_EQ(il_oneshot_try_receive(NULL, &got, &err), IL_EINVAL);
    CHECK(!il_oneshot_is_wanted(NULL));
    il_oneshot_sender_free(NULL);
    il_oneshot_receiver_free(NULL);
}

static enum il_code use_in_child(void *arg)
{
    struct pair *pair = arg;
    enum il_code code = il_oneshot_send(pair->sender, &number, NULL, NULL);

    if (code == IL_EFORK) {
        code = il_oneshot_receive(pair->receiver, IL_FOREVER, &pair->got, NULL);
    }
    pair_free(pair); /* does nothing */
    return code;
}

TEST(child_of_a_fork_is_told_so)
{
    struct pair pair = pair_new();

    check_in_child(use_in_child, &pair, IL_EFORK);
    send_number(&pair);
    CHECK_OK(il_oneshot_receive(pair.receiver, IL_FOREVER, &pair.got, &err));
    pair_free(&pair);
}

TEST(no_memory_is_reported_and_leaves_nothing_behind)
{
    struct il_memory_use before, after;
    struct pair pair;

    il_memory_use(&before);
    il_memory_fail_after(0);
    CHECK_EQ(il_oneshot_new(&pair.sender, &pair.receiver, &err), IL_ENOMEM);
    il_memory_fail_after(UINT64_MAX);
    il_memory_use(&after);
    CHECK_EQ(after.live_count, before.live_count);

    pair = pair_new();
    send_number(&pair);
    for (uint64_t left = 0; pair.code != IL_OK; left++) { /* the thread's record and private loop */
        il_memory_fail_after(left);
        receive(&pair);
        il_memory_fail_after(UINT64_MAX);
        CHECK(pair.code == IL_OK || pair.code == IL_ENOMEM);
    }
    CHECK(pair.got == &number);
    pair_free(&pair);
}

/* ---- races of the two halves ---- */

struct race {
    struct pair pair;
    _Atomic int ready;
    int sent, received;
};

static void race_begin(struct race *race)
{
    atomic_fetch_add(&race->ready, 1);
    while (atomic_load(&race->ready) < 2) {
    }
}

static void *race_send(void *arg)
{
    struct race *race = arg;

    race_begin(race);
    race->sent = il_oneshot_send(race->pair.sender, &number, count_freed, NULL) == IL_OK;
    il_oneshot_sender_free(race->pair.sender);
    return NULL;
}

TEST(whoever_wins_a_value_is_received_or_freed_or_kept)
{
    for (int round = 0; round < 600; round++) {
        struct race race = { .pair = pair_new() };
        pthread_t thread;

        freed_count = 0;
        CHECK_EQ(pthread_create(&thread, NULL, race_send, &race), 0);
        race_begin(&race);
        if (round % 3 == 0) {
            race.received = il_oneshot_receive(race.pair.receiver, il_now_ns() + 1000,
                                               &race.pair.got, NULL) == IL_OK;
        }
        il_oneshot_receiver_free(race.pair.receiver);
        pthread_join(thread, NULL);
        CHECK_EQ(race.sent, race.received + freed_count);
    }
}
