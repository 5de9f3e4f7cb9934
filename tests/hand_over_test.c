/* hand_over_test.c: a loop whose thread is stuck, with connections, requests and callbacks on it.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "interloop/client.h"
#include "interloop/share.h"
#include "interloop/watch.h"
#include "lab/server.h"
#include "rt/rt.h"
#include "tests/check.h"
#include "tests/own_loop.h"

static struct il_error err;
static struct lab_server *server;
static struct il_client *client;
static struct il_runtime *runtime;

static void start(enum il_driver driver)
{
    struct il_client_options client_options = IL_CLIENT_OPTIONS_INIT;
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;

    client_options.driver = driver;
    options.name = "owner";
    options.worker_count = 1;
    options.hand_over_after_ms = 2;
    CHECK_OK(lab_server_start(NULL, &server, &err));
    CHECK_OK(il_client_new(&client_options, &client, &err));
    CHECK_OK(il_runtime_new(&options, &runtime, &err));
}

static void stop(void)
{
    struct il_watch_totals totals;

    runtime = il_runtime_drop(runtime);
    client = il_client_unref(client);
    il_watch_totals(&totals);
    CHECK_EQ(totals.runtimes, 0);
    CHECK_EQ(totals.calls, 0);
    CHECK_EQ(totals.tasks, 0);
    turn_own_loop(); /* closes what is bound to it */
    lab_server_stop(server);
}

static const char *url(const char *path)
{
    static _Thread_local char text[256];

    snprintf(text, sizeof(text), "http://127.0.0.1:%u%s", lab_server_port(server), path);
    return text;
}

/* User code blocks on `mutex`, which the test has locked. */
struct gate {
    pthread_mutex_t mutex;
    _Atomic bool is_inside, is_over;
};

#define GATE_CLOSED                                                                                \
    {                                                                                              \
        .mutex = PTHREAD_MUTEX_INITIALIZER                                                         \
    }

static void gate_pass(struct gate *gate)
{
    atomic_store(&gate->is_inside, true);
    pthread_mutex_lock(&gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
}

static void wait_until(_Atomic bool *is_true)
{
    while (!atomic_load(is_true)) {
        usleep(100);
    }
}

static void block(void *arg)
{
    struct gate *gate = arg;

    gate_pass(gate);
    atomic_store(&gate->is_over, true);
}

static struct il_task *spawn(const char *name, il_task_fn *run, void *arg)
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

static void get_hello(void *arg)
{
    struct il_response *response;

    CHECK_OK(il_get(client, url("/hello"), &response, &err));
    CHECK_EQ(il_response_status(response), 200);
    il_response_free(response);
    atomic_fetch_add((_Atomic int *)arg, 1);
}

TEST(requests_of_a_runtime_go_on_while_its_only_worker_is_stuck)
{
    for (int driver = 0; driver < 2; driver++) {
        struct gate gate = GATE_CLOSED;
        struct il_task *stuck;
        _Atomic int count = 0;

        start(driver == 0 ? IL_DRIVER_CALLER : IL_DRIVER_BOUND);
        CHECK_OK(il_block_on(runtime, get_hello, &count, &err)); /* a connection to reuse */
        pthread_mutex_lock(&gate.mutex);
        stuck = spawn("stuck", block, &gate);
        wait_until(&gate.is_inside);
        for (int i = 0; i < 20; i++) {
            join(spawn("get", get_hello, &count));
            get_hello(
                &count); /* this plain thread too: with the bound driver, on that connection */
        }
        CHECK_EQ(count, 41);
        CHECK(!gate.is_over);
        pthread_mutex_unlock(&gate.mutex);
        join(stuck);
        stop();
    }
}

static void get_held(void *arg)
{
    struct il_response *response;

    CHECK_OK(il_get(client, url("/hold/a"), &response, &err));
    il_response_free(response);
    atomic_store((_Atomic bool *)arg, true);
}

TEST(response_that_comes_while_the_loop_is_stuck_is_read_at_once)
{
    struct gate gate = GATE_CLOSED;
    struct il_task *get, *stuck;
    _Atomic bool is_read = false;

    start(IL_DRIVER_CALLER);
    get = spawn("get", get_held, &is_read);
    CHECK(lab_server_wait_held(server, "a", 1, lab_in_ms(50000)));
    pthread_mutex_lock(&gate.mutex);
    stuck = spawn("stuck", block, &gate);
    wait_until(&gate.is_inside);
    lab_server_release(server, "a", 1);
    join(get);
    CHECK(is_read);
    CHECK(!gate.is_over);
    pthread_mutex_unlock(&gate.mutex);
    join(stuck);
    stop();
}

static void get_slowly(void *arg)
{
    struct il_request *request;
    struct il_response *response;

    CHECK_OK(il_request_new("GET", url("/hold/never"), &request, &err));
    CHECK_OK(il_request_set_timeout_ms(request, IL_PHASE_FIRST_BYTE, 100));
    *(enum il_code *)arg = il_send(client, request, &response, NULL);
    il_request_free(request);
}

TEST(time_limits_hold_while_the_loop_is_stuck)
{
    struct gate gate = GATE_CLOSED;
    enum il_code code = IL_OK;
    struct il_task *get, *stuck;

    start(IL_DRIVER_CALLER);
    get = spawn("get", get_slowly, &code);
    CHECK(lab_server_wait_requests(server, "/hold", 1, lab_in_ms(50000)));
    pthread_mutex_lock(&gate.mutex);
    stuck = spawn("stuck", block, &gate);
    wait_until(&gate.is_inside);
    join(get);
    CHECK_EQ(code, IL_ETIMEDOUT);
    CHECK(!gate.is_over);
    pthread_mutex_unlock(&gate.mutex);
    join(stuck);
    stop();
}

/* ---- callbacks ---- */

struct callback {
    struct gate gate;
    struct il_factory *factory;
    struct il_client *made;
    enum il_code code, factory_code;
    _Atomic bool is_done;
};

static void on_done_block(void *arg, enum il_code code, struct il_response *response,
                          const struct il_error *error)
{
    struct callback *callback = arg;

    callback->code = code;
    il_response_free(response);
    gate_pass(&callback->gate);
    if (callback->factory != NULL) { /* a call that has to be on the loop */
        callback->factory_code = il_factory_client(callback->factory, &callback->made, NULL);
    }
    atomic_store(&callback->is_done, true);
}

static void start_call(struct callback *callback, struct il_request *request,
                       struct il_call **ret_call)
{
    struct il_call_options options = IL_CALL_OPTIONS_INIT;

    options.runtime = runtime;
    options.on_done = on_done_block;
    options.arg = callback;
    CHECK_OK(il_call_start(client, request, &options, ret_call, &err));
}

static void start_get(struct callback *callback)
{
    struct il_request *request;

    CHECK_OK(il_request_new("GET", url("/hello"), &request, &err));
    start_call(callback, request, NULL);
}

TEST(stuck_callback_does_not_stop_its_loop)
{
    struct callback callback = { .gate = GATE_CLOSED };
    struct il_watch_threads threads;
    _Atomic int count = 0;

    start(IL_DRIVER_CALLER);
    pthread_mutex_lock(&callback.gate.mutex);
    start_get(&callback);
    wait_until(&callback.gate.is_inside);
    CHECK_OK(il_block_on(runtime, get_hello, &count, &err));
    il_watch_threads(&threads);
    CHECK(threads.hand_over_count >= 1);
    pthread_mutex_unlock(&callback.gate.mutex);
    wait_until(&callback.is_done);
    CHECK_OK(il_block_on(runtime, get_hello, &count, &err));
    CHECK_EQ(callback.code, IL_OK);
    stop();
}

TEST(stuck_callback_that_calls_the_library_has_its_loop_again)
{
    struct il_factory_options options = IL_FACTORY_OPTIONS_INIT;
    struct il_factory *factory;

    start(IL_DRIVER_CALLER);
    CHECK_OK(il_factory_new(&options, &factory, &err));
    for (int i = 0; i < 20; i++) {
        struct callback callbacks[3];
        _Atomic int count = 0;

        for (int k = 0; k < 3; k++) { /* the worker, and the spares that stand in for it */
            callbacks[k] = (struct callback){ .gate = GATE_CLOSED, .factory = factory };
            pthread_mutex_lock(&callbacks[k].gate.mutex);
            start_get(&callbacks[k]);
            wait_until(&callbacks[k].gate.is_inside);
        }
        CHECK_OK(il_block_on(runtime, get_hello, &count, &err));
        for (int k = 0; k < 3; k++) {
            pthread_mutex_unlock(&callbacks[(i + k) % 3].gate.mutex);
            CHECK_OK(il_block_on(runtime, get_hello, &count, &err));
        }
        for (int k = 0; k < 3; k++) {
            wait_until(&callbacks[k].is_done);
            CHECK_EQ(callbacks[k].code, IL_OK);
            CHECK_EQ(callbacks[k].factory_code, IL_OK);
            (void)il_client_unref(callbacks[k].made);
        }
        CHECK_OK(il_block_on(runtime, get_hello, &count, &err));
        CHECK_EQ(count, 5);
    }
    il_factory_free(factory);
    stop();
}

TEST(callback_that_comes_back_to_a_loop_that_has_ended_is_told_so)
{
    struct il_factory_options options = IL_FACTORY_OPTIONS_INIT;
    struct callback callback = { .gate = GATE_CLOSED };

    start(IL_DRIVER_CALLER);
    CHECK_OK(il_factory_new(&options, &callback.factory, &err));
    pthread_mutex_lock(&callback.gate.mutex);
    start_get(&callback);
    wait_until(&callback.gate.is_inside);
    runtime = il_runtime_drop(runtime);
    CHECK(!callback.is_done);
    pthread_mutex_unlock(&callback.gate.mutex);
    wait_until(&callback.is_done);
    CHECK_EQ(callback.factory_code, IL_ESHUTDOWN);
    il_factory_free(callback.factory);
    stop();
}

/* Longer than the end of a runtime leaves to what is stuck: twice its grace. */
#define LONGER_THAN_A_GRACE_US 400000

static void *start_get_and_open_late(void *arg)
{
    struct callback *callback = arg;

    pthread_mutex_lock(&callback->gate.mutex);
    start_get(callback);
    wait_until(&callback->gate.is_inside);
    usleep(LONGER_THAN_A_GRACE_US);
    pthread_mutex_unlock(&callback->gate.mutex);
    return NULL;
}

TEST(shutdown_waits_for_a_callback_until_its_deadline)
{
    struct callback callback = { .gate = GATE_CLOSED };
    struct il_shutdown_report report;
    pthread_t thread;

    start(IL_DRIVER_CALLER);
    CHECK_EQ(pthread_create(&thread, NULL, start_get_and_open_late, &callback), 0);
    wait_until(&callback.gate.is_inside);
    CHECK_OK(il_runtime_shutdown(runtime, il_deadline_in_ms(30000), &report, &err));
    CHECK(callback.is_done);
    CHECK_EQ(report.call_count, 0);
    pthread_join(thread, NULL);
    stop();
}

TEST(callback_that_is_stuck_when_its_runtime_ends_is_reported)
{
    struct callback callback = { .gate = GATE_CLOSED };
    struct il_shutdown_report report;

    start(IL_DRIVER_CALLER);
    pthread_mutex_lock(&callback.gate.mutex);
    start_get(&callback);
    wait_until(&callback.gate.is_inside);
    CHECK_EQ(il_runtime_shutdown(runtime, 0, &report, &err), IL_ETIMEDOUT);
    CHECK_EQ(report.call_count, 1);
    CHECK(!callback.is_done);
    pthread_mutex_unlock(&callback.gate.mutex);
    wait_until(&callback.is_done);
    stop();
}

/* ---- bodies that are made piece by piece ---- */

struct stuck_source {
    struct gate gate;
    unsigned piece_count;
};

static enum il_code source_block(void *arg, void *buffer, size_t size, size_t *ret_size)
{
    struct stuck_source *source = arg;

    *ret_size = 0;
    if (source->piece_count++ == 0) {
        memset(buffer, 'x', 1000);
        *ret_size = 1000;
        return IL_OK;
    }
    gate_pass(&source->gate);
    atomic_store(&source->gate.is_over, true);
    return IL_OK;
}

static struct il_request *new_upload(struct stuck_source *source, uint64_t total_ms)
{
    struct il_request *request;

    CHECK_OK(il_request_new("POST", url("/echo"), &request, &err));
    CHECK_OK(il_request_set_body_source(request, source_block, source, IL_LENGTH_UNKNOWN, &err));
    CHECK_OK(il_request_set_timeout_ms(request, IL_PHASE_TOTAL, total_ms));
    return request;
}

TEST(outcome_of_a_call_waits_for_its_body_source_that_is_stuck)
{
    struct stuck_source source = { .gate = GATE_CLOSED };
    struct callback callback = { .gate = GATE_CLOSED };
    struct il_client_stats stats;
    struct il_call *call;
    _Atomic int count = 0;

    start(IL_DRIVER_CALLER);
    pthread_mutex_lock(&source.gate.mutex);
    start_call(&callback, new_upload(&source, 60000), &call);
    wait_until(&source.gate.is_inside);
    CHECK_OK(il_block_on(runtime, get_hello, &count, &err)); /* handed over */
    il_call_cancel(call);
    (void)il_call_unref(call);
    do { /* the call has ended and given back what it held */
        il_client_stats(client, &stats);
        usleep(100);
    } while (stats.calls > 0);
    CHECK_OK(il_block_on(runtime, get_hello, &count, &err));
    CHECK(!callback.gate.is_inside); /* but is not told while its source runs */
    pthread_mutex_unlock(&source.gate.mutex);
    wait_until(&callback.is_done);
    CHECK(source.gate.is_over);
    CHECK_EQ(callback.code, IL_ECANCELED);
    stop();
}

TEST(outcome_of_a_call_whose_source_outlives_its_runtime_comes_on_the_stuck_thread)
{
    struct stuck_source source = { .gate = GATE_CLOSED };
    struct callback callback = { .gate = GATE_CLOSED };

    start(IL_DRIVER_CALLER);
    pthread_mutex_lock(&source.gate.mutex);
    start_call(&callback, new_upload(&source, 60000), NULL);
    wait_until(&source.gate.is_inside);
    runtime = il_runtime_drop(runtime);
    CHECK(!callback.gate.is_inside);
    pthread_mutex_unlock(&source.gate.mutex);
    wait_until(&callback.is_done);
    CHECK_EQ(callback.code, IL_ESHUTDOWN);
    stop();
}

struct upload {
    struct stuck_source source;
    enum il_code code;
};

static void *upload_on_plain_thread(void *arg)
{
    struct upload *upload = arg;
    struct il_request *request = new_upload(&upload->source, 30);
    struct il_response *response;

    upload->code = il_send(client, request, &response, NULL);
    il_request_free(request);
    return NULL;
}

TEST(private_loop_of_a_thread_is_driven_while_its_body_source_is_stuck)
{
    struct upload upload = { .source = { .gate = GATE_CLOSED } };
    struct il_client_stats stats;
    pthread_t thread;

    start(IL_DRIVER_CALLER);
    pthread_mutex_lock(&upload.source.gate.mutex);
    CHECK_EQ(pthread_create(&thread, NULL, upload_on_plain_thread, &upload), 0);
    wait_until(&upload.source.gate.is_inside);
    do { /* its time limit is kept, and its connection given up, by a spare */
        il_client_stats(client, &stats);
        usleep(100);
    } while (stats.connections > 0);
    CHECK(!upload.source.gate.is_over);
    pthread_mutex_unlock(&upload.source.gate.mutex);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(upload.code, IL_ETIMEDOUT);
    stop();
}

static enum il_code source_that_gets(void *arg, void *buffer, size_t size, size_t *ret_size)
{
    struct stuck_source *source = arg;
    _Atomic int count = 0;

    *ret_size = 0;
    if (source->piece_count++ < 3) {
        usleep(15000); /* longer than a plain thread's loop waits */
        get_hello(&count);
        memset(buffer, 'x', 10);
        *ret_size = 10;
    }
    return IL_OK;
}

TEST(body_source_may_block_and_use_the_library_on_a_plain_thread)
{
    struct stuck_source source = { .gate = GATE_CLOSED };
    struct il_request *request;
    struct il_response *response;
    size_t size;

    start(IL_DRIVER_CALLER);
    CHECK_OK(il_request_new("POST", url("/echo"), &request, &err));
    CHECK_OK(il_request_set_body_source(request, source_that_gets, &source, 30, &err));
    CHECK_OK(il_send(client, request, &response, &err));
    CHECK_EQ(il_response_status(response), 200);
    (void)il_response_body(response, &size);
    CHECK_EQ(source.piece_count, 3);
    il_response_free(response);
    il_request_free(request);
    stop();
}

/* ---- reports ---- */

TEST(report_calls_a_loop_that_was_taken_over_live)
{
    struct il_watch_request requests[4];
    struct gate gate = GATE_CLOSED;
    struct il_task *get, *stuck;
    _Atomic bool is_read = false;
    size_t count;

    start(IL_DRIVER_CALLER);
    get = spawn("get", get_held, &is_read);
    CHECK(lab_server_wait_held(server, "a", 1, lab_in_ms(50000)));
    pthread_mutex_lock(&gate.mutex);
    stuck = spawn("stuck", block, &gate);
    wait_until(&gate.is_inside);
    do {
        CHECK_OK(il_watch_requests(requests, 4, &count));
        CHECK_EQ(count, 1);
        CHECK(requests[0].verdict != IL_VERDICT_HUNG);
        usleep(100);
    } while (requests[0].verdict != IL_VERDICT_LIVE || requests[0].age_ms < 60);
    CHECK(!gate.is_over);
    lab_server_release(server, "a", 1);
    join(get);
    pthread_mutex_unlock(&gate.mutex);
    join(stuck);
    stop();
}
