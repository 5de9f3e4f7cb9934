/* h2_client_test.c: the client over HTTP/2, on real sockets: one session, many loops.
 *
 * How sessions and requests end is in h2_client_end_test.c. */
#include "tests/h2_check.h"

/* ---- one after another ---- */

TEST(requests_one_after_another_use_one_session)
{
    start(100);
    for (int i = 0; i < 10; i++) {
        check_get("/hello", 5);
    }
    CHECK_EQ(stats_now().connections_total, 1);
    CHECK_EQ(stats_now().sessions, 1);
    CHECK_EQ(stats_now().reuses_total, 9);
    CHECK_EQ(stats_now().moves_total, 0);
    CHECK_EQ(stats_now().connections, 1);
    CHECK_EQ(stats_now().idle, 1);
    CHECK_EQ(server->accepted, 1);
    stop();
}

TEST(a_body_is_sent_and_comes_back)
{
    char *body = malloc(1000000);
    struct il_response *response;
    size_t size;

    start(100);
    for (size_t i = 0; i < 1000000; i++) {
        body[i] = (char)(i % 251);
    }
    CHECK_OK(il_post(client, url("/echo"), "text/plain", body, 1000000, &response, &err));
    CHECK(memcmp(il_response_body(response, &size), body, 1000000) == 0);
    CHECK_EQ(size, 1000000);
    il_response_free(response);
    stop();
    free(body);
}

static enum il_code make_piece(void *arg, void *buffer, size_t size, size_t *ret_size)
{
    size_t *left = arg;

    *ret_size = (size_t)il_min_u64(il_min_u64(size, 5000), *left);
    memset(buffer, 'p', *ret_size);
    *left -= *ret_size;
    return IL_OK;
}

TEST(a_body_made_piece_by_piece_is_sent)
{
    struct il_request *request;
    struct il_response *response;
    size_t left = 3000000, size;

    start(100);
    CHECK_OK(il_request_new("POST", url("/echo"), &request, &err));
    CHECK_OK(il_request_set_body_source(request, make_piece, &left, IL_LENGTH_UNKNOWN, &err));
    CHECK_OK(il_send(client, request, &response, &err));
    (void)il_response_body(response, &size);
    CHECK_EQ(size, 3000000);
    CHECK_EQ(left, 0);
    il_response_free(response);
    il_request_free(request);
    stop();
}

TEST(a_streamed_body_is_read_piece_by_piece_with_its_trailers)
{
    struct il_request *request;
    struct il_response *response;
    size_t size, total = 0;
    char buffer[7000];

    start(100);
    CHECK_OK(il_request_new("GET", url("/bytes/5000000"), &request, &err));
    CHECK_OK(il_send_streaming(client, request, &response, &err));
    do {
        CHECK_OK(il_response_read(response, buffer, sizeof(buffer), &size, &err));
        total += size;
    } while (size > 0);
    CHECK_EQ(total, 5000000);
    il_response_free(response);
    il_request_free(request);
    CHECK_OK(il_request_new("GET", url("/trailers"), &request, &err));
    CHECK_OK(il_send_streaming(client, request, &response, &err));
    do {
        CHECK_OK(il_response_read(response, buffer, sizeof(buffer), &size, &err));
    } while (size > 0);
    CHECK_STR(il_headers_get(il_response_trailers(response), "checksum"), "12");
    il_response_free(response);
    il_request_free(request);
    CHECK_EQ(stats_now().connections_total, 1);
    stop();
}

TEST(a_streamed_body_that_is_not_wanted_costs_its_stream_and_not_the_session)
{
    struct il_request *request;
    struct il_response *response;

    start(100);
    CHECK_OK(il_request_new("GET", url("/bytes/50000000"), &request, &err));
    CHECK_OK(il_send_streaming(client, request, &response, &err));
    check_get("/bytes/20000000", 20000000); /* beside it, more than a connection's window */
    il_response_free(response);
    il_request_free(request);
    check_get("/hello", 5);
    CHECK_EQ(stats_now().connections_total, 1);
    stop();
}

/* ---- many at a time ---- */

TEST(requests_of_one_loop_wait_for_its_one_connection_and_share_it)
{
    struct il_runtime *runtime;
    struct many many = { .path = "/hello", .size = 5 };

    start(100);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    run_tasks(runtime, 64, &many);
    CHECK_EQ(many.ok, 64);
    CHECK_EQ(stats_now().connections_total, 1);
    il_runtime_drop(runtime);
    stop();
}

TEST(beyond_the_servers_limit_another_session_is_opened_and_no_stream_is_refused)
{
    struct il_runtime *runtime;
    struct many many = { .path = "/bytes/100000", .size = 100000 };

    start(10);
    check_get("/hello", 5); /* the limit is known from here on */
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 2);
    run_tasks(runtime, 200, &many);
    CHECK_EQ(many.ok, 200);
    CHECK(server->streams_max_seen <= 10);
    il_runtime_drop(runtime);
    stop();
}

TEST(with_one_connection_allowed_requests_queue_for_its_streams)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_runtime *runtime;
    struct many many = { .path = "/bytes/20000", .size = 20000 };

    options.connections_per_host_max = 1;
    start_with(5, options);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 2);
    run_tasks(runtime, 300, &many);
    CHECK_EQ(many.ok, 300);
    CHECK_EQ(stats_now().connections_total, 1);
    il_runtime_drop(runtime);
    stop();
}

static void spawn_many(struct il_runtime *runtime, int count, struct many *many,
                       struct il_task **tasks)
{
    for (int i = 0; i < count; i++) {
        CHECK_OK(il_spawn(runtime, "get", get_many, many, &tasks[i], &err));
    }
}

/* The last session's limit is a guess for the next one, until that has said its own. */
TEST(a_session_that_has_said_no_limit_yet_takes_a_hundred_and_the_others_wait)
{
    enum { FIRST = 200, NEXT = 120 };
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct many held = { .path = "/held", .size = 5 }, many = { .path = "/hello", .size = 5 };
    struct il_task *tasks[FIRST + NEXT];
    struct il_runtime *runtime;

    options.connections_per_host_max = 2;
    start_with(FIRST, options);
    check_get("/hello", 5); /* the limit is known from here on */
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    spawn_many(runtime, FIRST, &held, tasks);
    CHECK(h2_server_wait(server, &server->held, FIRST));
    pthread_mutex_lock(&server->mutex); /* it accepts and says nothing */
    spawn_many(runtime, NEXT, &many, tasks + FIRST);
    while (stats_now().calls < FIRST + NEXT || stats_now().connections_total < 2 ||
           stats_now().waiters != NEXT - 100) {
        CHECK_OK(il_sleep_ms(1));
    }
    pthread_mutex_unlock(&server->mutex);
    h2_server_ask(server, H2_WISH_RELEASE);
    for (int i = 0; i < FIRST + NEXT; i++) {
        CHECK_OK(il_task_join(tasks[i], IL_FOREVER, &err));
        il_task_unref(tasks[i]);
    }
    CHECK_EQ(stats_now().connections_total, 2);
    il_runtime_drop(runtime);
    stop();
}

TEST(a_server_that_allows_no_streams_ends_in_a_time_limit)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_response *response;

    options.connections_per_host_max = 1;
    options.pool_wait_timeout_ms = 50;
    start_with(100, options);
    check_get("/hello", 5);
    h2_server_ask(server, H2_WISH_LIMIT_0);
    /* The news may come just behind the next request; then that one is still answered. */
    while (il_get(client, url("/hello"), &response, &err) == IL_OK) {
        il_response_free(response);
    }
    CHECK_EQ(err.code, IL_ETIMEDOUT);
    CHECK_EQ(err.phase, IL_PHASE_POOL_WAIT);
    h2_server_ask(server, H2_WISH_LIMIT_9);
    while (il_get(client, url("/hello"), &response, &err) != IL_OK) {
        CHECK_EQ(err.code, IL_ETIMEDOUT);
    }
    il_response_free(response);
    stop();
}

/* ---- nobody leads ---- */

TEST(a_parked_runtime_with_a_stream_stalls_nobody_and_gets_its_answer_when_it_runs)
{
    struct held held = { 0 };
    struct il_runtime *parked, *runtime;
    struct many many = { .path = "/bytes/300000", .size = 300000 };

    start(100);
    parked = park(&held);
    check_get("/hello", 5); /* a plain thread */
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 2);
    run_tasks(runtime, 50, &many);
    CHECK_EQ(many.ok, 50);
    h2_server_ask(server, H2_WISH_RELEASE);
    CHECK(h2_server_wait(server, &server->held, 0));
    run_tasks(runtime, 50, &many); /* the answer is received on the way, for its owner to find */
    CHECK(!held.is_done);
    CHECK_EQ(stats_now().connections_total, 1);
    CHECK_OK(il_block_on(parked, join_held, &held, &err));
    CHECK(held.is_done);
    il_runtime_drop(parked);
    il_runtime_drop(runtime);
    stop();
}

/* Nobody but who waits is there to read what makes room. */
TEST(a_finished_stream_of_a_parked_runtime_makes_room_for_who_waits)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct many many = { .path = "/hello", .size = 5 };
    struct il_runtime *parked, *runtime;
    struct held held = { 0 };
    struct il_task *task;

    options.connections_per_host_max = 1;
    start_with(1, options);
    parked = park(&held);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    spawn_many(runtime, 1, &many, &task);
    while (stats_now().waiters == 0) {
        CHECK_OK(il_sleep_ms(1));
    }
    h2_server_ask(server, H2_WISH_RELEASE);
    CHECK_OK(il_task_join(task, IL_FOREVER, &err));
    il_task_unref(task);
    CHECK(!held.is_done);
    CHECK_OK(il_block_on(parked, join_held, &held, &err));
    CHECK_EQ(stats_now().connections_total, 1);
    il_runtime_drop(parked);
    il_runtime_drop(runtime);
    stop();
}

static void get_and_expect_shutdown(void *arg)
{
    struct il_response *response;
    struct il_error error;

    CHECK_EQ(il_get(client, url("/held"), &response, &error), IL_ESHUTDOWN);
}

static void leave_a_doomed_one_behind(void *arg)
{
    CHECK_OK(il_spawn(il_runtime_current(), "doomed", get_and_expect_shutdown, NULL, NULL, &err));
    while (held_at_server() == 0) {
        CHECK_OK(il_sleep_ms(1));
    }
}

TEST(a_dropped_runtime_takes_its_streams_and_nothing_else)
{
    struct il_runtime *dropped;
    struct held held = { .path = "/held" };
    struct il_runtime *runtime;

    start(100);
    dropped = runtime_new(IL_RUNTIME_CURRENT_THREAD, 0);
    CHECK_OK(il_block_on(dropped, leave_a_doomed_one_behind, NULL, &err));
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    CHECK_OK(il_block_on(runtime, leave_one_behind, &held, &err));
    il_runtime_drop(dropped);
    CHECK(h2_server_wait(server, &server->held, 1)); /* its stream was reset */
    h2_server_ask(server, H2_WISH_RELEASE);
    CHECK_OK(il_block_on(runtime, join_held, &held, &err));
    check_get("/hello", 5);
    CHECK_EQ(stats_now().connections_total, 1);
    il_runtime_drop(runtime);
    stop();
}

static _Atomic bool must_block;
static _Atomic bool is_blocking;

static void block_the_thread(void *arg)
{
    is_blocking = true;
    while (must_block) {
        struct timespec ms = { .tv_nsec = 1000000 };

        nanosleep(&ms, NULL);
    }
}

TEST(a_runtime_whose_worker_is_stuck_stalls_nobody)
{
    struct il_runtime *stuck;
    struct held held = { .path = "/held" };

    start(100);
    must_block = true;
    stuck = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    CHECK_OK(il_block_on(stuck, leave_one_behind, &held, &err));
    CHECK_OK(il_spawn(stuck, "blocks", block_the_thread, NULL, NULL, &err));
    while (!is_blocking) {
        CHECK_OK(il_sleep_ms(1));
    }
    for (int i = 0; i < 100; i++) {
        check_get("/bytes/100000", 100000);
    }
    CHECK_EQ(stats_now().connections_total, 1);
    must_block = false;
    h2_server_ask(server, H2_WISH_RELEASE);
    CHECK_OK(il_block_on(stuck, join_held, &held, &err));
    il_runtime_drop(stuck);
    stop();
}

static void start_streaming(void *arg)
{
    struct il_response **ret_response = arg;
    struct il_request *request;

    CHECK_OK(il_request_new("GET", url("/bytes/50000000"), &request, &err));
    CHECK_OK(il_send_streaming(client, request, ret_response, &err));
    il_request_free(request);
}

TEST(a_body_begun_by_a_parked_runtime_is_read_by_whoever_has_the_response)
{
    struct il_runtime *parked;
    struct il_response *response;
    char *buffer = malloc(100000);
    size_t size, total = 0;

    start(100);
    parked = runtime_new(IL_RUNTIME_CURRENT_THREAD, 0);
    CHECK_OK(il_block_on(parked, start_streaming, &response, &err));
    check_get("/bytes/20000000", 20000000); /* its unread body holds up no other */
    do {
        CHECK_OK(il_response_read(response, buffer, 100000, &size, &err));
        total += size;
    } while (size > 0);
    CHECK_EQ(total, 50000000);
    CHECK_EQ(stats_now().connections_total, 1);
    il_response_free(response);
    il_runtime_drop(parked);
    free(buffer);
    stop();
}

/* ---- who tells the pool ---- */

static void join_and_see_the_end(void *arg)
{
    struct held *held = arg;

    join_held(held);
    while (!held->is_seen) {
        CHECK_OK(il_sleep_ms(1));
    }
}

static void *run_parked(void *arg)
{
    struct held *held = arg;

    CHECK_OK(il_block_on(held->runtime, join_and_see_the_end, held, &err));
    return NULL;
}

static struct session *the_session(void)
{
    return il_container_of(client->pool.sessions.next, struct session, pooled.link);
}

TEST(the_windows_are_those_that_were_asked_for)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    nghttp2_session *session;

    options.http2_stream_window = 12345;
    options.http2_connection_window = 78901;
    start_with(100, options);
    check_get("/bytes/200000", 200000);
    session = the_session()->shared.h2.session; /* nobody uses it now */
    CHECK_EQ(nghttp2_session_get_local_settings(session, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE),
             12345);
    CHECK_EQ(nghttp2_session_get_effective_local_window_size(session), 78901);
    stop();
}

static uint32_t stream_count(struct session *session)
{
    uint32_t count;

    sys_mutex_lock(&session->shared.mutex);
    count = session->shared.h2.stream_count;
    sys_mutex_unlock(&session->shared.mutex);
    return count;
}

/* A's loop, which has no stream of its own, receives B's answer, and is about to tell the pool that
 * a place is free. Meanwhile B finds the connection closed, and lets go of all there is. The pool's
 * mutex makes them meet; that B gets it first is likely, so there are rounds. */
static void receive_for_another_and_tell_late(struct il_runtime *runtime)
{
    struct held held = { 0 };
    struct many many = { .path = "/hello", .size = 5 };
    pthread_t thread;
    struct session *session;

    run_tasks(runtime, 1, &many); /* A has a seat */
    held.runtime = park(&held);
    session = the_session();
    sys_mutex_lock(&client->pool.mutex);
    h2_server_ask(server, H2_WISH_RELEASE);
    while (stream_count(session) > 0) {
        CHECK_OK(il_sleep_ms(1));
    }
    CHECK_EQ(pthread_create(&thread, NULL, run_parked, &held), 0);
    h2_server_ask(server, H2_WISH_CUT);
    while (atomic_load(&session->fd) >= 0) {
        CHECK_OK(il_sleep_ms(1));
    }
    CHECK_OK(il_sleep_ms(2));
    sys_mutex_unlock(&client->pool.mutex); /* wakes A, who was first, and now waits behind B */
    sys_mutex_lock(&client->pool.mutex);
    CHECK_OK(il_sleep_ms(2));
    held.is_seen = true;
    sys_mutex_unlock(&client->pool.mutex);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    il_runtime_drop(held.runtime);
}

TEST(who_tells_the_pool_of_a_free_place_keeps_the_session_meanwhile)
{
    struct il_runtime *runtime;

    start(100);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    for (int round = 0; round < 100; round++) {
        receive_for_another_and_tell_late(runtime);
    }
    il_runtime_drop(runtime);
    stop();
}

/* ---- signs of life ---- */

/* As if nothing had come for so long, and, if `is_asked`, no answer to a PING. */
static void let_time_pass(uint64_t ms, bool is_asked)
{
    struct session *session = the_session();

    session_lock(session);
    session->shared.received_ns = il_now_ns() - ms * UINT64_C(1000000);
    session->shared.pinged_ns = is_asked ? session->shared.received_ns : 0;
    session_unlock(session);
}

TEST(a_session_of_which_nothing_was_heard_is_asked_for_a_sign_of_life_by_the_next_request)
{
    struct held held = { 0 };
    struct il_runtime *parked;

    start(100);
    parked = park(&held); /* the only one with a stream, and it does not run */
    check_get("/hello", 5);
    CHECK(h2_server_wait(server, &server->pings, 0));
    let_time_pass(SESSION_PING_MS - 5000, false); /* the test may take as long */
    check_get("/hello", 5);
    CHECK(h2_server_wait(server, &server->pings, 0));
    let_time_pass(SESSION_PING_MS, false);
    check_get("/hello", 5);
    CHECK(h2_server_wait(server, &server->pings, 1));
    CHECK_EQ(stats_now().connections_total, 1);
    h2_server_ask(server, H2_WISH_RELEASE);
    CHECK_OK(il_block_on(parked, join_held, &held, &err));
    il_runtime_drop(parked);
    stop();
}

TEST(a_session_that_did_not_answer_is_left_and_one_whose_answer_nobody_has_read_is_not)
{
    struct held held = { 0 };
    struct il_runtime *parked;

    start(100);
    parked = park(&held);
    h2_server_ask(server, H2_WISH_RELEASE);
    while (sys_socket_bytes_unread(atomic_load(&the_session()->fd)) <= 0) {
        CHECK_OK(il_sleep_ms(1)); /* something comes, and lies there */
    }
    let_time_pass(SESSION_PING_MS + SESSION_PONG_MS, true);
    check_get("/hello", 5);
    CHECK_EQ(stats_now().connections_total, 1);
    CHECK_OK(il_block_on(parked, join_held, &held, &err));

    h2_server_ask(server, H2_WISH_FREEZE);
    CHECK(h2_server_wait(server, &server->wishes, 0)); /* or it would freeze the next one as well */
    let_time_pass(SESSION_PING_MS + SESSION_PONG_MS, true);
    check_get("/hello", 5);
    CHECK_EQ(stats_now().connections_total, 2);
    h2_server_ask(server, H2_WISH_CUT); /* the frozen one does not see that it was left */
    il_runtime_drop(parked);
    stop();
}

/* ---- reports ---- */

TEST(a_request_that_the_server_holds_is_live_and_one_of_a_parked_runtime_is_hung)
{
    struct held held = { .path = "/held" }, parked_held = { 0 };
    struct il_runtime *runtime, *parked;

    start(100);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    CHECK_OK(il_block_on(runtime, leave_one_behind, &held, &err));
    look_until(IL_VERDICT_LIVE, "server", "has not answered");
    look_until(IL_VERDICT_LIVE, "connection", "1 stream");
    parked = park(&parked_held);
    look_until(IL_VERDICT_HUNG, "loop", "not driven");
    h2_server_ask(server, H2_WISH_RELEASE);
    CHECK_OK(il_block_on(runtime, join_held, &held, &err));
    CHECK_OK(il_block_on(parked, join_held, &parked_held, &err));
    il_runtime_drop(parked);
    il_runtime_drop(runtime);
    stop();
}

static void spawn_get(void *arg)
{
    check_get("/hello", 5);
}

/* A client with one place for one stream, which somebody holds, and a request that waits for it. */
static struct il_task *wait_for_the_place(struct il_runtime *runtime)
{
    struct il_task *task;

    CHECK_OK(il_spawn(runtime, "waits", spawn_get, NULL, &task, &err));
    look_until(IL_VERDICT_LIVE, "request", "pool-wait");
    return task;
}

static void start_with_one_place(uint64_t unread_timeout_ms)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.unread_timeout_ms = unread_timeout_ms;
    options.connections_per_host_max = 1;
    start_with(1, options);
    check_get("/hello", 5); /* the limit is known from here on */
}

TEST(a_request_that_waits_for_a_place_which_the_server_holds_is_live)
{
    struct held held = { 0 };
    struct il_runtime *parked, *runtime;
    struct il_task *task;

    start_with_one_place(0);
    parked = park(&held);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    task = wait_for_the_place(runtime);
    look_until(IL_VERDICT_LIVE, "pool", "no free connection");
    h2_server_ask(server, H2_WISH_RELEASE); /* and the place is free, though nobody runs there */
    CHECK_OK(il_task_join(task, IL_FOREVER, &err));
    il_task_unref(task);
    CHECK_OK(il_block_on(parked, join_held, &held, &err));
    il_runtime_drop(runtime);
    il_runtime_drop(parked);
    stop();
}

static void drop_response(void *arg)
{
    il_response_free(arg);
}

/* Hung, or live, if the client takes the place away. */
static void look_at_unread(enum il_verdict verdict, uint64_t unread_timeout_ms)
{
    struct il_response *response;
    struct il_runtime *parked, *runtime;
    struct il_task *task;

    start_with_one_place(unread_timeout_ms);
    CHECK_EQ(stats_now().sessions, 1);
    CHECK_EQ(stats_now().streams, 0);
    parked = runtime_new(IL_RUNTIME_CURRENT_THREAD, 0);
    CHECK_OK(il_block_on(parked, start_streaming, &response, &err));
    CHECK_EQ(stats_now().streams, 1);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    CHECK_OK(il_spawn(runtime, "waits", spawn_get, NULL, &task, &err));
    look_until(verdict, "request", "pool-wait");
    look_until(verdict, "connection", "1 stream");
    look_until(verdict, "loop", "not driven");
    if (verdict == IL_VERDICT_LIVE) {
        look_until(verdict, "place", "not made use of");
    }
    CHECK_OK(il_block_on(parked, drop_response, response, &err));
    CHECK_OK(il_task_join(task, IL_FOREVER, &err));
    il_task_unref(task);
    CHECK(stats_now().moves_total >= 1); /* the session was driven by the one, then by the other */
    il_runtime_drop(runtime);
    il_runtime_drop(parked);
    stop();
}

TEST(a_request_that_waits_for_a_place_which_an_unread_response_of_a_parked_runtime_holds_is_hung)
{
    look_at_unread(IL_VERDICT_HUNG, IL_NO_LIMIT);
}

TEST(a_request_that_waits_for_a_place_which_an_unread_response_gives_away_is_live)
{
    look_at_unread(IL_VERDICT_LIVE, 600000);
}

/* ---- the bound driver: as hyper does ---- */

TEST(bound_to_a_parked_runtime_requests_of_others_hang_until_it_runs)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_runtime *parked, *runtime;
    struct il_task *task;

    options.driver = IL_DRIVER_BOUND;
    start_with(100, options);
    parked = runtime_new(IL_RUNTIME_CURRENT_THREAD, 0);
    CHECK_OK(il_block_on(parked, spawn_get, NULL, &err));
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    CHECK_OK(il_spawn(runtime, "hangs", spawn_get, NULL, &task, &err));
    look_until(IL_VERDICT_HUNG, "connection", "bound");
    look_until(IL_VERDICT_HUNG, "socket", "never written");
    look_until(IL_VERDICT_HUNG, "loop", "not driven");
    CHECK(h2_server_wait(server, &server->requests, 1)); /* not even sent */
    CHECK_OK(il_block_on(parked, spawn_get, NULL, &err));
    CHECK_OK(il_task_join(task, IL_FOREVER, &err));
    il_task_unref(task);
    il_runtime_drop(runtime);
    il_runtime_drop(parked);
    stop();
}

static void cancelled_get_of_one(void *arg)
{
    struct il_response *response;
    struct il_error error;

    CHECK_EQ(il_get(client, url("/held"), &response, &error), IL_ECANCELED);
}

static bool session_takes_more(void)
{
    struct session *session = the_session();
    bool is_open;

    sys_mutex_lock(&session->shared.mutex);
    is_open = h2_is_open(&session->shared.h2);
    sys_mutex_unlock(&session->shared.mutex);
    return is_open;
}

/* Only the driver's loop may touch what lives on it. */
TEST(bound_session_that_the_server_left_ends_on_its_own_loop_when_another_cancels_its_last_stream)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_runtime *driver, *runtime;
    struct il_task *task;

    options.driver = IL_DRIVER_BOUND;
    start_with(100, options);
    driver = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    CHECK_OK(il_spawn(driver, "opens", spawn_get, NULL, &task, &err));
    CHECK_OK(il_task_join(task, IL_FOREVER, &err));
    il_task_unref(task);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    CHECK_OK(il_spawn(runtime, "cancelled", cancelled_get_of_one, NULL, &task, &err));
    CHECK(h2_server_wait(server, &server->held, 1));
    h2_server_ask(server, H2_WISH_GOAWAY);
    while (session_takes_more()) {
        CHECK_OK(il_sleep_ms(1));
    }
    il_task_cancel(task);
    CHECK_OK(il_task_join(task, IL_FOREVER, &err));
    il_task_unref(task);
    while (stats_now().connections > 0) {
        CHECK_OK(il_sleep_ms(1));
    }
    il_runtime_drop(runtime);
    il_runtime_drop(driver);
    stop();
}
