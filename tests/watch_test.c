/* watch_test.c: what the library says of requests that do not get on. */
#include <pthread.h>
#include <unistd.h>

#include "interloop/watch.h"
#include "lab/server.h"
#include "tests/check.h"
#include "watch/watch.h"

static struct il_error err;
static struct lab_server *server;
static struct il_client *client;
static char url[64];

static void start(enum il_driver driver, const char *path)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.driver = driver;
    options.name = "shared";
    CHECK_OK(lab_server_start(NULL, &server, &err));
    CHECK_OK(il_client_new(&options, &client, &err));
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", lab_server_port(server), path);
}

static void stop(void)
{
    client = il_client_unref(client);
    lab_server_stop(server);
}

static struct il_runtime *new_runtime(enum il_runtime_kind kind, const char *name)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime;

    options.kind = kind;
    options.worker_count = kind == IL_RUNTIME_MULTI_THREAD;
    options.name = name;
    options.hand_over_after_ms = IL_FOREVER; /* who is stuck keeps its loop */
    CHECK_OK(il_runtime_new(&options, &runtime, &err));
    return runtime;
}

static void get(void *arg)
{
    struct il_response *response;
    struct il_error error;

    if (il_get(client, url, &response, &error) == IL_OK) {
        il_response_free(response);
    }
}

/* Look until the one request has the verdict, and keep what was seen. */
static struct il_watch_request look_until(enum il_verdict verdict)
{
    static struct il_watch_request requests[4];
    size_t count;

    do {
        usleep(1000);
        CHECK_EQ(il_watch_requests(requests, 4, &count), IL_OK);
    } while (count == 0 || requests[0].verdict != verdict);
    CHECK_EQ(count, 1);
    return requests[0];
}

static bool has_link(const struct il_watch_request *request, const char *what, const char *state)
{
    for (unsigned i = 0; i < request->link_count; i++) {
        if (strcmp(request->links[i].what, what) == 0 &&
            strcmp(request->links[i].state, state) == 0) {
            return true;
        }
    }
    for (unsigned i = 0; i < request->link_count; i++) {
        fprintf(stderr, "%s %s: %s: %s\n", request->links[i].what, request->links[i].who,
                request->links[i].state, request->links[i].detail);
    }
    return false;
}

TEST(request_to_a_parked_owner_is_hung_and_the_chain_ends_at_its_loop)
{
    struct il_runtime *parked, *other;
    struct il_watch_request seen, again;

    start(IL_DRIVER_BOUND, "/hello");
    parked = new_runtime(IL_RUNTIME_CURRENT_THREAD, "A");
    other = new_runtime(IL_RUNTIME_MULTI_THREAD, "B");
    CHECK_OK(il_block_on(parked, get, NULL, &err));
    CHECK_OK(il_spawn(other, "asker", get, NULL, NULL, &err));
    seen = look_until(IL_VERDICT_HUNG);
    CHECK_EQ(seen.phase, IL_PHASE_DISPATCH);
    CHECK_STR(seen.path, "/hello");
    CHECK_STR(seen.waiter, "task 'asker' on runtime 'B'");
    CHECK(has_link(&seen, "connection", "bound"));
    CHECK(has_link(&seen, "socket", "never written"));
    CHECK(has_link(&seen, "loop", "not driven"));
    CHECK(has_link(&seen, "thread", "elsewhere"));
    usleep(20000);
    again = look_until(IL_VERDICT_HUNG);
    CHECK_EQ(again.stamp, seen.stamp); /* nothing has moved in between */
    il_runtime_drop(other);
    il_runtime_drop(parked);
    stop();
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool is_blocking;

static void block(void *arg)
{
    is_blocking = true;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
}

TEST(request_to_a_busy_owner_is_starved_and_the_chain_names_the_task)
{
    struct il_runtime *busy, *other;
    struct il_watch_request seen;

    start(IL_DRIVER_BOUND, "/hello");
    busy = new_runtime(IL_RUNTIME_MULTI_THREAD, "A");
    other = new_runtime(IL_RUNTIME_MULTI_THREAD, "B");
    CHECK_OK(il_block_on(busy, get, NULL, &err));
    pthread_mutex_lock(&gate);
    CHECK_OK(il_spawn(busy, "cruncher", block, NULL, NULL, &err));
    while (!is_blocking) {
        usleep(100);
    }
    CHECK_OK(il_spawn(other, "asker", get, NULL, NULL, &err));
    seen = look_until(IL_VERDICT_STARVED);
    CHECK(has_link(&seen, "loop", "in user code"));
    CHECK(has_link(&seen, "task", "in user code"));
    CHECK(has_link(&seen, "thread", "blocked or busy"));
    pthread_mutex_unlock(&gate);
    il_runtime_drop(other);
    il_runtime_drop(busy);
    stop();
}

TEST(user_code_on_a_loop_that_is_handed_over_is_stuck_only_when_no_spare_comes)
{
    struct watch_loop loop = { .view = { .state = "in user code", .since_ms = 19 } };

    CHECK_EQ(watch_judge_loop(&loop), IL_VERDICT_LIVE);
    loop.view.since_ms = 20;
    CHECK_EQ(watch_judge_loop(&loop), IL_VERDICT_STARVED);
    loop.is_handed_over = true;
    CHECK_EQ(watch_judge_loop(&loop), IL_VERDICT_LIVE);
    loop.view.since_ms = 1000;
    CHECK_EQ(watch_judge_loop(&loop), IL_VERDICT_STARVED);
}

/* Have a response of which nobody reads the body, and a request that waits for its connection. */
static struct il_response *start_unread(enum il_driver driver, uint64_t unread_timeout_ms)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_response *response;
    struct il_request *request;

    options.driver = driver;
    options.connections_per_host_max = 1;
    options.unread_timeout_ms = unread_timeout_ms;
    CHECK_OK(lab_server_start(NULL, &server, &err));
    CHECK_OK(il_client_new(&options, &client, &err));
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/bytes/300000", lab_server_port(server));
    CHECK_OK(il_request_new("GET", url, &request, &err));
    CHECK_OK(il_send_streaming(client, request, &response, &err));
    il_request_free(request);
    return response;
}

struct unread {
    enum il_driver driver;
    uint64_t timeout_ms;
    _Atomic(struct il_response *) response;
    _Atomic bool may_read;
};

static void keep_unread(void *arg)
{
    struct unread *unread = arg;
    char buffer[4096];
    size_t got = 1;

    unread->response = start_unread(unread->driver, unread->timeout_ms);
    while (!unread->may_read) {
        CHECK_EQ(il_sleep_ms(1), IL_OK);
    }
    while (got > 0 &&
           il_response_read(unread->response, buffer, sizeof(buffer), &got, &err) == IL_OK) {
    }
    il_response_free(unread->response);
}

static void look_at_unread(struct unread *unread, enum il_verdict verdict)
{
    struct il_runtime *holder = new_runtime(IL_RUNTIME_MULTI_THREAD, "A");
    struct il_runtime *other = new_runtime(IL_RUNTIME_MULTI_THREAD, "B");
    struct il_task *holding, *asking;
    struct il_watch_request seen;

    CHECK_OK(il_spawn(holder, "holder", keep_unread, unread, &holding, &err));
    while (unread->response == NULL) {
        usleep(1000);
    }
    CHECK_OK(il_spawn(other, "asker", get, NULL, &asking, &err));
    do {
        seen = look_until(verdict);
    } while (seen.phase != IL_PHASE_POOL_WAIT || !has_link(&seen, "response", "read by nobody"));
    unread->may_read = true;
    CHECK_OK(il_task_join(holding, IL_FOREVER, &err));
    CHECK_OK(il_task_join(asking, IL_FOREVER, &err));
    (void)il_task_unref(holding);
    (void)il_task_unref(asking);
    il_runtime_drop(other);
    il_runtime_drop(holder);
    stop();
}

TEST(request_that_waits_for_a_body_which_nobody_reads_is_starved_unless_the_body_gives_way)
{
    struct unread bound = { .driver = IL_DRIVER_BOUND };
    struct unread unlimited = { .driver = IL_DRIVER_CALLER, .timeout_ms = IL_NO_LIMIT };
    struct unread limited = { .driver = IL_DRIVER_CALLER, .timeout_ms = 600000 };

    look_at_unread(&bound, IL_VERDICT_STARVED);
    look_at_unread(&unlimited, IL_VERDICT_STARVED);
    look_at_unread(&limited, IL_VERDICT_LIVE);
}

TEST(request_to_a_silent_server_is_live_with_either_driver)
{
    for (int driver = 0; driver < 2; driver++) {
        struct il_runtime *runtime;
        struct il_watch_request seen;

        start((enum il_driver)driver, "/never");
        runtime = new_runtime(IL_RUNTIME_MULTI_THREAD, "B");
        CHECK_OK(il_spawn(runtime, "asker", get, NULL, NULL, &err));
        CHECK(lab_server_wait_requests(server, "/never", 1, lab_in_ms(50000)));
        seen = look_until(IL_VERDICT_LIVE);
        CHECK(has_link(&seen, "server", "has not answered"));
        CHECK(has_link(&seen, "socket", "nothing to read"));
        il_runtime_drop(runtime);
        stop();
    }
}

static void yield(void *arg)
{
    (void)il_yield();
}

TEST(response_that_came_while_its_owner_parks_is_seen_unread_in_the_socket)
{
    struct il_runtime *parked, *other;
    struct il_watch_request seen;

    /* A drives while the request is written, then parks before the answer. */
    start(IL_DRIVER_BOUND, "/hello");
    parked = new_runtime(IL_RUNTIME_CURRENT_THREAD, "A");
    other = new_runtime(IL_RUNTIME_MULTI_THREAD, "B");
    CHECK_OK(il_block_on(parked, get, NULL, &err));
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/hold/x", lab_server_port(server));
    CHECK_OK(il_spawn(other, "asker", get, NULL, NULL, &err));
    (void)look_until(IL_VERDICT_HUNG);
    CHECK_OK(il_block_on(parked, yield, NULL, &err)); /* long enough to write it */
    CHECK(lab_server_wait_held(server, "x", 1, lab_in_ms(50000)));
    lab_server_release(server, "x", 1);
    do {
        seen = look_until(IL_VERDICT_HUNG);
    } while (strcmp(seen.links[2].state, "nothing to read") == 0);
    CHECK(has_link(&seen, "socket", "unread response"));
    il_runtime_drop(other);
    il_runtime_drop(parked);
    stop();
}

TEST(tables_show_connections_and_loops_and_totals_return_to_zero)
{
    struct il_watch_connection connections[4];
    struct il_watch_loop loops[8];
    struct il_watch_totals totals;
    struct il_runtime *runtime;
    bool is_found = false;
    size_t count;

    start(IL_DRIVER_CALLER, "/hello");
    runtime = new_runtime(IL_RUNTIME_MULTI_THREAD, "A");
    CHECK_OK(il_block_on(runtime, get, NULL, &err));
    CHECK_EQ(il_watch_connections(connections, 4, &count), IL_OK);
    CHECK_EQ(count, 1);
    CHECK_STR(connections[0].state, "idle");
    CHECK_STR(connections[0].client, "shared");
    CHECK_EQ(connections[0].port, lab_server_port(server));
    CHECK_EQ(il_watch_loops(loops, 8, &count), IL_OK);
    for (size_t i = 0; i < count; i++) {
        is_found = is_found || strcmp(loops[i].name, "A/0") == 0;
    }
    CHECK(is_found);
    il_runtime_drop(runtime);
    stop();
    il_watch_totals(&totals);
    CHECK_EQ(totals.clients, 0);
    CHECK_EQ(totals.calls, 0);
    CHECK_EQ(totals.connections, 0);
    CHECK_EQ(totals.runtimes, 0);
    CHECK_EQ(totals.tasks, 0);
}
