/* il_micro.c: what the parts of a runtime cost, one operation after another, without any request:
 *
 *     --mode spawn      start a task that does nothing, 64 at a time, and join it
 *     --mode yield      change from one task to another
 *     --mode block-on   il_block_on of a function that does nothing
 *     --mode timer      arm a timer and cancel it again, while 10,000 others are armed
 *     --mode gate       a task's call into the library, and its return from there: what user code
 *                       pays for being such that its loop can be handed over
 *     --mode gate-off   the same in a runtime that does not hand over
 *     --mode oneshot    a value from a task of one runtime to a task of another, each answering the
 * other
 *     --mode channel    a message from a task of one runtime to a task of another, 64 in the
 * channel
 *
 * --requests says how many. Timers are reached from inside the library, as they have no public face
 * of their own. Threads: one; for oneshot and channel one more for each of the two runtimes. */
#include <interloop/sync.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "loop/timer.h"
#include "rt/rt.h"

#define BATCH       64
#define ARMED_COUNT 10000
#define BLOCK_COUNT ((uint64_t)1000) /* oneshots that are made and freed together */
#define CAPACITY    64
#define NS_PER_S    1000000000u

/* The two runtimes of the operations that cross over; else only the first, which is a
 * current-thread one. */
static struct il_runtime *runtimes[2];

static void check(enum il_code code, const struct il_error *err)
{
    if (code != IL_OK) {
        errno = 0;
        bench_fail(err->message);
    }
}

static void do_nothing(void *arg)
{
    (void)arg;
}

/* Run these two as tasks, one on each runtime (or both on the first), and wait for them. */
static void run_pair(il_task_fn *first, il_task_fn *second, void *arg)
{
    il_task_fn *run[2] = { first, second };
    struct il_task *tasks[2];
    struct il_error err;

    for (int i = 0; i < 2; i++) {
        check(il_spawn(runtimes[i] == NULL ? runtimes[0] : runtimes[i], "micro", run[i], arg,
                       &tasks[i], &err),
              &err);
    }
    for (int i = 0; i < 2; i++) {
        check(il_task_join(tasks[i], IL_FOREVER, &err), &err);
        il_task_unref(tasks[i]);
    }
}

/* ---- spawn ---- */

static void spawn_in_task(void *arg)
{
    const uint64_t *count = arg;
    struct il_task *tasks[BATCH];
    struct il_error err;

    for (uint64_t done = 0; done < *count; done += BATCH) {
        uint64_t batch = *count - done < BATCH ? *count - done : BATCH;

        for (uint64_t i = 0; i < batch; i++) {
            check(il_spawn(runtimes[0], "nothing", do_nothing, NULL, &tasks[i], &err), &err);
        }
        for (uint64_t i = 0; i < batch; i++) {
            check(il_task_join(tasks[i], IL_FOREVER, &err), &err);
            il_task_unref(tasks[i]);
        }
    }
}

static void run_spawn(uint64_t count)
{
    struct il_error err;

    check(il_block_on(runtimes[0], spawn_in_task, &count, &err), &err);
}

/* ---- yield ---- */

static void yield_in_task(void *arg)
{
    const uint64_t *count = arg;

    for (uint64_t i = 0; i < *count / 2; i++) {
        if (il_yield() != IL_OK) {
            bench_fail("yield");
        }
    }
}

static void yield_in_pair(void *arg)
{
    run_pair(yield_in_task, yield_in_task, arg);
}

static void run_yield(uint64_t count)
{
    struct il_error err;

    check(il_block_on(runtimes[0], yield_in_pair, &count, &err), &err);
}

/* ---- block-on ---- */

static void run_block_on(uint64_t count)
{
    struct il_error err;

    for (uint64_t i = 0; i < count; i++) {
        check(il_block_on(runtimes[0], do_nothing, NULL, &err), &err);
    }
}

/* ---- timer ---- */

static void on_fire(struct timer *timer)
{
    (void)timer;
    bench_fail("a timer fired that was due in an hour");
}

/* Deadlines as requests have them: some seconds ahead, all a little different. */
static void run_timer(uint64_t count)
{
    static struct timer armed[ARMED_COUNT];
    struct timers timers;
    struct timer timer;
    uint64_t now_ns = bench_now_ns();

    timers_init(&timers, now_ns);
    for (uint64_t i = 0; i < ARMED_COUNT; i++) {
        timer_init(&armed[i], on_fire);
        timer_arm(&timers, &armed[i], now_ns + 30 * (uint64_t)NS_PER_S + i * 100000);
    }
    timer_init(&timer, on_fire);
    for (uint64_t i = 0; i < count; i++) {
        timer_arm(&timers, &timer, now_ns + 10 * (uint64_t)NS_PER_S + i * 1000 % NS_PER_S);
        timer_cancel(&timers, &timer);
    }
    timers_deinit(&timers);
}

/* ---- the gate ---- */

static void pass_gate_in_task(void *arg)
{
    const uint64_t *count = arg;
    struct rt_place place;

    for (uint64_t i = 0; i < *count; i++) {
        if (rt_enter(&place, false, NULL) != IL_OK) {
            bench_fail("come into the library");
        }
        rt_leave(&place);
    }
}

static void run_gate(uint64_t count)
{
    struct il_error err;

    check(il_block_on(runtimes[0], pass_gate_in_task, &count, &err), &err);
}

/* ---- oneshot ---- */

struct oneshot_pair {
    struct il_oneshot_sender *sender;
    struct il_oneshot_receiver *receiver;
};

struct block {
    uint64_t count; /* there and back: two operations each */
    struct oneshot_pair there[BLOCK_COUNT], back[BLOCK_COUNT];
};

static void send_one(struct oneshot_pair *pair)
{
    struct il_error err;

    check(il_oneshot_send(pair->sender, NULL, NULL, &err), &err);
}

static void receive_one(struct oneshot_pair *pair)
{
    struct il_error err;
    void *value;

    check(il_oneshot_receive(pair->receiver, IL_FOREVER, &value, &err), &err);
}

static void ask_in_task(void *arg)
{
    struct block *block = arg;

    for (uint64_t i = 0; i < block->count; i++) {
        send_one(&block->there[i]);
        receive_one(&block->back[i]);
    }
}

static void answer_in_task(void *arg)
{
    struct block *block = arg;

    for (uint64_t i = 0; i < block->count; i++) {
        receive_one(&block->there[i]);
        send_one(&block->back[i]);
    }
}

static void run_oneshot_block(struct block *block)
{
    struct il_error err;

    for (uint64_t i = 0; i < block->count; i++) {
        check(il_oneshot_new(&block->there[i].sender, &block->there[i].receiver, &err), &err);
        check(il_oneshot_new(&block->back[i].sender, &block->back[i].receiver, &err), &err);
    }
    run_pair(ask_in_task, answer_in_task, block);
    for (uint64_t i = 0; i < block->count; i++) {
        il_oneshot_sender_free(block->there[i].sender);
        il_oneshot_receiver_free(block->there[i].receiver);
        il_oneshot_sender_free(block->back[i].sender);
        il_oneshot_receiver_free(block->back[i].receiver);
    }
}

static void run_oneshot(uint64_t count)
{
    static struct block block;

    for (uint64_t left = count / 2; left > 0; left -= block.count) {
        block.count = left < BLOCK_COUNT ? left : BLOCK_COUNT;
        run_oneshot_block(&block);
    }
}

/* ---- channel ---- */

struct stream {
    struct il_channel *channel;
    uint64_t count;
};

static void send_in_task(void *arg)
{
    struct stream *stream = arg;
    struct il_error err;

    for (uint64_t i = 0; i < stream->count; i++) {
        check(il_channel_send(stream->channel, NULL, IL_FOREVER, &err), &err);
    }
}

static void receive_in_task(void *arg)
{
    struct stream *stream = arg;
    struct il_error err;
    void *message;

    for (uint64_t i = 0; i < stream->count; i++) {
        check(il_channel_receive(stream->channel, IL_FOREVER, &message, &err), &err);
    }
}

static void run_channel(uint64_t count)
{
    struct stream stream = { .count = count };
    struct il_error err;

    check(il_channel_new("bench", CAPACITY, NULL, &stream.channel, &err), &err);
    run_pair(send_in_task, receive_in_task, &stream);
    il_channel_unref(stream.channel);
}

/* ---- the whole ---- */

/* The runtimes that it runs on. */
enum stage {
    ON_CURRENT_THREAD,
    ON_WORKER,
    ON_WORKER_WITHOUT_HAND_OVER,
    ACROSS_TWO_WORKERS, /* one in each of two runtimes */
};

static const struct operation {
    const char *name;
    void (*run)(uint64_t count);
    enum stage stage;
} operations[] = {
    { "spawn", run_spawn, ON_CURRENT_THREAD },
    { "yield", run_yield, ON_CURRENT_THREAD },
    { "block-on", run_block_on, ON_CURRENT_THREAD },
    { "timer", run_timer, ON_CURRENT_THREAD },
    { "gate", run_gate, ON_WORKER },
    { "gate-off", run_gate, ON_WORKER_WITHOUT_HAND_OVER },
    { "oneshot", run_oneshot, ACROSS_TWO_WORKERS },
    { "channel", run_channel, ACROSS_TWO_WORKERS },
};

static const struct operation *operation_named(const char *name)
{
    for (size_t i = 0; name != NULL && i < il_array_count(operations); i++) {
        if (strcmp(operations[i].name, name) == 0) {
            return &operations[i];
        }
    }
    errno = 0;
    bench_fail("--mode: there is no such operation (they are listed in il_micro.c)");
}

static void set_up(enum stage stage)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_error err;

    options.kind = stage == ON_CURRENT_THREAD ? IL_RUNTIME_CURRENT_THREAD : IL_RUNTIME_MULTI_THREAD;
    options.worker_count = stage == ON_CURRENT_THREAD ? 0 : 1;
    options.hand_over_after_ms = stage == ON_WORKER_WITHOUT_HAND_OVER ? IL_FOREVER : 0;
    for (int i = 0; i < (stage == ACROSS_TWO_WORKERS ? 2 : 1); i++) {
        check(il_runtime_new(&options, &runtimes[i], &err), &err);
    }
}

int main(int argc, char **argv)
{
    const struct operation *operation;
    struct bench_options options;
    struct bench_plan plan;

    bench_parse(&options, argc, argv);
    operation = operation_named(options.mode);
    set_up(operation->stage);
    plan_init(&plan, &options);
    operation->run(options.warm_up);
    usage_take(&plan.window_begin);
    operation->run(options.requests - options.warm_up);
    usage_take(&plan.window_end);
    plan.completed = options.requests;
    plan_print(&plan);
    for (int i = 0; i < 2; i++) {
        il_runtime_drop(runtimes[i]);
    }
    return 0;
}
