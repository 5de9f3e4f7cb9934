/* il_client.c: interloop's client, in the three ways it can be used:
 *
 *     --mode thread   il_send on a plain thread, one request after another
 *     --mode task     il_send in tasks, C of them
 *     --mode call     il_call_start with a completion callback, C at a time
 *
 * All time limits are on, as they are by default. Large bodies are streamed.
 *
 * In a closed loop everything happens on this thread: tasks and calls live on a current-thread
 * runtime. With --rate this thread is the clock, and each request starts as a task or call on a
 * runtime with one worker; the hop from this thread to that one is in the latency. */
#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "il_setup.h"

/* One place for a request in flight. */
struct slot {
    struct il_request *request; /* thread and task: made once, sent again and again */
    uint64_t upload_left;
    uint64_t due_ns;
    struct slot *next_idle; /* open loop */
};

static struct bench_options options;
static struct bench_plan plan;
static struct slot *slots;
static struct il_client *client;
static struct il_runtime *runtime;
static bool is_large; /* bodies are streamed instead of kept in memory */

static void check(enum il_code code, const struct il_error *err)
{
    if (code != IL_OK) {
        errno = 0;
        bench_fail(err->message);
    }
}

/* ---- one request ---- */

static enum il_code slot_on_upload(void *arg, void *buffer, size_t size, size_t *ret_size)
{
    struct slot *slot = arg;

    *ret_size = slot->upload_left < size ? (size_t)slot->upload_left : size;
    memset(buffer, 0, *ret_size); /* a program that uploads something would copy it here */
    slot->upload_left -= *ret_size;
    return IL_OK;
}

static struct il_request *slot_make_request(struct slot *slot)
{
    struct il_request *request;
    struct il_error err;

    check(il_request_new(options.upload_bytes > 0 ? "PUT" : "GET", bench_url(&options), &request,
                         &err),
          &err);
    if (options.upload_bytes > 0) {
        slot->upload_left = options.upload_bytes;
        check(il_request_set_body_source(request, slot_on_upload, slot, options.upload_bytes, &err),
              &err);
    }
    return request;
}

static uint64_t take_body(struct il_response *response)
{
    size_t size;

    errno = 0;
    if (il_response_status(response) != 200) {
        bench_fail("the status is not 200");
    }
    (void)il_response_body(response, &size); /* only its size is wanted */
    return size;
}

static uint64_t stream_body(struct il_response *response, char *buffer)
{
    struct il_error err;
    uint64_t total = 0;
    size_t size;

    do {
        check(il_response_read(response, buffer, BENCH_BUFFER_SIZE, &size, &err), &err);
        total += size;
    } while (size > 0);
    return total;
}

/* Send the slot's request and wait for the answer; returns the size of its body. */
static uint64_t slot_exchange(struct slot *slot)
{
    static char buffer[BENCH_BUFFER_SIZE]; /* nobody reads what is in it */
    struct il_response *response;
    struct il_error err;
    uint64_t size;

    slot->upload_left = options.upload_bytes;
    if (is_large) {
        check(il_send_streaming(client, slot->request, &response, &err), &err);
        size = stream_body(response, buffer);
    } else {
        check(il_send(client, slot->request, &response, &err), &err);
        size = take_body(response);
    }
    il_response_free(response);
    return size;
}

/* ---- closed loop: thread, task ---- */

static void slot_run(void *arg)
{
    struct slot *slot = arg;

    while (plan_next(&plan, &slot->due_ns)) {
        plan_complete(&plan, slot->due_ns, slot_exchange(slot));
    }
}

static void run_tasks(void *arg)
{
    struct il_task **tasks = calloc(options.connections, sizeof(struct il_task *));
    struct il_error err;

    (void)arg;
    if (tasks == NULL) {
        bench_fail("set up");
    }
    for (uint64_t i = 0; i < options.connections; i++) {
        check(il_spawn(runtime, "bench", slot_run, &slots[i], &tasks[i], &err), &err);
    }
    for (uint64_t i = 0; i < options.connections; i++) {
        check(il_task_join(tasks[i], IL_FOREVER, &err), &err);
        il_task_unref(tasks[i]);
    }
    free(tasks);
}

/* ---- closed loop: call ---- */

static struct il_task *calls_task; /* parked until the last call has ended */

static void slot_on_done(void *arg, enum il_code code, struct il_response *response,
                         const struct il_error *err);

static void slot_start_call(struct slot *slot)
{
    struct il_call_options call = IL_CALL_OPTIONS_INIT;
    struct il_error err;

    call.runtime = runtime;
    call.on_done = slot_on_done;
    call.arg = slot;
    call.borrows_request = true;
    check(il_call_start(client, slot->request, &call, NULL, &err), &err);
}

static void calls_on_last(void)
{
    il_task_cancel(calls_task); /* ends its sleep */
}

static void run_calls(void *arg)
{
    (void)arg;
    calls_task = il_task_current();
    for (uint64_t i = 0; i < options.connections && plan_next(&plan, &slots[i].due_ns); i++) {
        slot_start_call(&slots[i]);
    }
    while (!plan_is_complete(&plan)) {
        (void)il_sleep_until(IL_FOREVER); /* cancelled by calls_on_last: that is its end */
    }
}

/* ---- open loop: this thread is the clock ---- */

static sem_t places;                /* how many more requests may be in flight */
static _Atomic(struct slot *) idle; /* given back on the runtime's thread, taken here */

static struct slot *slot_take(void)
{
    struct slot *slot;

    while (sem_wait(&places) < 0) {
    }
    slot =
        atomic_load(&idle); /* nobody else takes, so it cannot be taken and given back meanwhile */
    while (!atomic_compare_exchange_weak(&idle, &slot, slot->next_idle)) {
    }
    return slot;
}

static void slot_give_back(struct slot *slot)
{
    slot->next_idle = atomic_load(&idle);
    while (!atomic_compare_exchange_weak(&idle, &slot->next_idle, slot)) {
    }
    sem_post(&places);
}

static void slot_run_once(void *arg)
{
    struct slot *slot = arg;

    plan_complete(&plan, slot->due_ns, slot_exchange(slot));
    slot_give_back(slot);
}

static void slot_on_done(void *arg, enum il_code code, struct il_response *response,
                         const struct il_error *err)
{
    struct slot *slot = arg;

    check(code, err);
    plan_complete(&plan, slot->due_ns, take_body(response));
    il_response_free(response);
    if (options.rate > 0) {
        slot_give_back(slot);
    } else if (plan_next(&plan, &slot->due_ns)) {
        slot_start_call(slot);
    } else if (plan_is_complete(&plan)) {
        calls_on_last();
    }
}

static void run_paced(bool is_task)
{
    struct il_error err;
    uint64_t due_ns;

    sem_init(&places, 0, 0);
    for (uint64_t i = 0; i < options.connections; i++) {
        slot_give_back(&slots[i]);
    }
    while (plan_wait_next(&plan, &due_ns)) {
        struct slot *slot = slot_take();

        slot->due_ns = due_ns;
        if (is_task) {
            check(il_spawn(runtime, "bench", slot_run_once, slot, NULL, &err), &err);
        } else {
            slot_start_call(slot);
        }
    }
    for (uint64_t i = 0; i < options.connections; i++) {
        (void)slot_take(); /* all of them are back: nothing is in flight any more */
    }
}

/* ---- the whole ---- */

static void set_up(bool is_thread)
{
    struct il_runtime_options runtime_options = IL_RUNTIME_OPTIONS_INIT;
    struct il_error err;

    is_large = strncmp(options.path, "/bytes/", 7) == 0;
    client = setup_client(&options);
    if (!is_thread) {
        runtime_options.kind =
            options.rate > 0 ? IL_RUNTIME_MULTI_THREAD : IL_RUNTIME_CURRENT_THREAD;
        runtime_options.worker_count = options.rate > 0 ? 1 : 0;
        check(il_runtime_new(&runtime_options, &runtime, &err), &err);
    }
    slots = calloc(options.connections, sizeof(*slots));
    if (slots == NULL) {
        bench_fail("set up");
    }
}

int main(int argc, char **argv)
{
    struct il_error err;
    bool is_thread, is_task;

    bench_parse(&options, argc, argv);
    is_thread = options.mode == NULL || strcmp(options.mode, "thread") == 0;
    is_task = options.mode != NULL && strcmp(options.mode, "task") == 0;
    set_up(is_thread);
    for (uint64_t i = 0; i < options.connections; i++) {
        slots[i].request = slot_make_request(&slots[i]);
    }
    plan_init(&plan, &options);
    if (is_thread) {
        uint64_t due_ns;

        while (plan_wait_next(&plan, &due_ns)) {
            plan_complete(&plan, due_ns, slot_exchange(&slots[0]));
        }
    } else if (options.rate > 0) {
        run_paced(is_task);
    } else {
        check(il_block_on(runtime, is_task ? run_tasks : run_calls, NULL, &err), &err);
    }
    plan_print(&plan);
    for (uint64_t i = 0; i < options.connections; i++) {
        il_request_free(slots[i].request);
    }
    il_runtime_drop(runtime);
    il_client_unref(client);
    free(slots);
    return 0;
}
