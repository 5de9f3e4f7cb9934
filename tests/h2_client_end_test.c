/* h2_client_end_test.c: the client over HTTP/2: refused, reset, cut off, cancelled, closed. */
#include "tests/h2_check.h"

TEST(a_refused_request_is_sent_again_later_and_later_but_not_for_ever)
{
    const uint64_t pause_ns = SESSION_REFUSED_PAUSE_MS * UINT64_C(1000000);
    struct il_response *response;
    uint64_t before_ns;

    start(100);
    before_ns = il_now_ns();
    CHECK_EQ(il_post(client, url("/refuse"), NULL, "x", 1, &response, &err), IL_EPEERCLOSED);
    CHECK_CONTAINS(err.message, "REFUSED_STREAM");
    CHECK(h2_server_wait(server, &server->requests, 1 + SESSION_REFUSALS_MAX));
    CHECK(il_now_ns() - before_ns >= pause_ns + 4 * pause_ns);
    CHECK_EQ(stats_now().retries_total, SESSION_REFUSALS_MAX);
    stop();
}

TEST(a_server_that_resets_without_end_is_told_why_and_another_session_is_opened)
{
    struct il_response *response;
    uint64_t began_ns, seconds;
    unsigned count = 0;

    start(100);
    began_ns = il_now_ns();
    while (stats_now().connections_total < 2) {
        CHECK(il_get(client, url("/reset"), &response, &err) != IL_OK);
        seconds = (il_now_ns() - began_ns) / 1000000000 + 1;
        CHECK(++count <= H2_RESETS_BURST + 2 + seconds * H2_RESETS_PER_S);
    }
    CHECK(count >= H2_RESETS_BURST);
    CHECK(h2_server_wait(server, &server->goaways, 1));
    CHECK_EQ(server->goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
    check_get("/hello", 5);
    stop();
}

static void get_refused(void *arg)
{
    struct il_response *response;
    struct il_error error;
    enum il_code code = il_get(client, url("/refuse"), &response, &error);

    CHECK(code == IL_ECANCELED || code == IL_EPEERCLOSED); /* the cancel may come too late */
}

TEST(a_refused_request_that_waits_for_its_turn_can_be_cancelled_and_has_its_limits)
{
    struct il_request *request;
    struct il_response *response;
    struct il_runtime *runtime;
    struct il_task *task;

    start(100);
    CHECK_OK(il_request_new("GET", url("/refuse"), &request, &err));
    CHECK_OK(il_request_set_timeout_ms(request, IL_PHASE_POOL_WAIT, 1));
    CHECK_EQ(il_send(client, request, &response, &err), IL_ETIMEDOUT);
    CHECK_EQ(err.phase, IL_PHASE_POOL_WAIT);
    CHECK_CONTAINS(err.message, "second try after it was refused");
    il_request_free(request);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t retries = stats_now().retries_total;

        CHECK_OK(il_spawn(runtime, "refused", get_refused, NULL, &task, &err));
        while (stats_now().retries_total < retries + 2) {
            (void)il_sleep_ms(1);
        }
        il_task_cancel(task);
        CHECK_OK(il_task_join(task, IL_FOREVER, &err));
        il_task_unref(task);
    }
    il_runtime_drop(runtime);
    stop();
}

TEST(after_goaway_what_is_open_goes_on_and_the_next_request_opens_a_session)
{
    struct held held = { .path = "/held" };
    struct il_runtime *runtime;

    start(100);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    CHECK_OK(il_block_on(runtime, leave_one_behind, &held, &err));
    h2_server_ask(server, H2_WISH_GOAWAY);
    while (stats_now().connections_total == 1) { /* the news may come behind a few requests */
        check_get("/hello", 5);
    }
    h2_server_ask(server, H2_WISH_RELEASE);
    CHECK_OK(il_block_on(runtime, join_held, &held, &err));
    CHECK_EQ(stats_now().connections_total, 2);
    il_runtime_drop(runtime);
    stop();
}

TEST(a_session_that_the_server_closed_while_it_was_idle_is_replaced)
{
    start(100);
    for (int i = 0; i < 20; i++) {
        check_get("/hello", 5);
        h2_server_ask(server, i % 2 == 0 ? H2_WISH_CUT : H2_WISH_GOAWAY);
        CHECK(i % 2 == 1 || h2_server_wait(server, &server->open, 0));
    }
    stop();
}

static void get_cut(void *arg)
{
    struct il_response *response;
    struct il_error error;

    CHECK_EQ(il_post(client, url("/held"), NULL, "x", 1, &response, &error), IL_EPEERCLOSED);
}

TEST(when_the_connection_is_cut_a_get_is_sent_again_and_a_post_fails)
{
    struct held held = { .path = "/held" };
    struct il_runtime *runtime;
    struct il_task *post;

    start(100);
    check_get("/hello", 5); /* so that the session has served before */
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    CHECK_OK(il_spawn(runtime, "post", get_cut, NULL, &post, &err));
    CHECK(h2_server_wait(server, &server->held, 1));
    CHECK_OK(il_block_on(runtime, leave_one_behind, &held, &err));
    h2_server_ask(server, H2_WISH_CUT);
    CHECK_OK(il_task_join(post, IL_FOREVER, &err));
    il_task_unref(post);
    CHECK(h2_server_wait(server, &server->held, 1)); /* the GET, again */
    CHECK_EQ(stats_now().retries_total, 1);
    h2_server_ask(server, H2_WISH_RELEASE);
    CHECK_OK(il_block_on(runtime, join_held, &held, &err));
    il_runtime_drop(runtime);
    stop();
}

/* The first piece goes; before the second the server has answered and is gone. */
static enum il_code piece_for_who_is_gone(void *arg, void *buffer, size_t size, size_t *ret_size)
{
    int *count = arg;

    if (++*count == 2) {
        CHECK(h2_server_wait(server, &server->held, 1));
        h2_server_ask(server, H2_WISH_RELEASE | H2_WISH_RESET);
        CHECK(h2_server_wait(server, &server->open, 0));
    }
    *ret_size = *count > 2 ? 0 : il_min_u64(size, 1000);
    memset(buffer, 'p', *ret_size);
    return IL_OK;
}

TEST(an_answer_is_heard_although_the_server_takes_no_more)
{
    struct il_request *request;
    struct il_response *response;
    int count = 0;

    start(100);
    CHECK_OK(il_request_new("POST", url("/held"), &request, &err));
    CHECK_OK(il_request_set_body_source(request, piece_for_who_is_gone, &count, IL_LENGTH_UNKNOWN,
                                        &err));
    CHECK_OK(il_send(client, request, &response, &err));
    CHECK_EQ(il_response_status(response), 200);
    il_response_free(response);
    il_request_free(request);
    stop();
}

TEST(when_a_server_announces_its_leaving_and_cuts_a_get_is_sent_again_on_a_new_session)
{
    struct held held = { .path = "/held" };
    struct il_runtime *runtime;
    struct il_task *post;

    start(100);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    CHECK_OK(il_spawn(runtime, "post", get_cut, NULL, &post, &err));
    CHECK(h2_server_wait(server, &server->held, 1));
    CHECK_OK(il_block_on(runtime, leave_one_behind, &held, &err));
    CHECK_EQ(stats_now().connections_total, 1);
    h2_server_ask(server, H2_WISH_GOAWAY);
    h2_server_ask(server, H2_WISH_CUT);
    CHECK_OK(il_task_join(post, IL_FOREVER, &err));
    il_task_unref(post);
    CHECK(h2_server_wait(server, &server->held, 1)); /* the GET, again */
    CHECK_EQ(stats_now().retries_total, 1);
    h2_server_ask(server, H2_WISH_RELEASE);
    CHECK_OK(il_block_on(runtime, join_held, &held, &err));
    CHECK_EQ(stats_now().connections_total, 2);
    il_runtime_drop(runtime);
    stop();
}

static void release_and_join(void *arg)
{
    while (held_at_server() == 0) {
        CHECK_OK(il_sleep_ms(1));
    }
    h2_server_ask(server, H2_WISH_RELEASE);
    join_held(arg);
}

TEST(a_request_that_is_sent_again_shares_a_session_when_it_may_not_open_one)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct held held = { 0 };
    struct il_runtime *parked;

    options.connections_per_host_max = 1;
    options.pool_wait_timeout_ms = 30000;
    start_with(100, options);
    check_get("/hello", 5); /* so that the session has served before */
    parked = park(&held);
    h2_server_ask(server, H2_WISH_CUT);
    CHECK(h2_server_wait(server, &server->open, 0));
    check_get("/hello", 5); /* finds out, and opens the one connection that there may be */
    CHECK_EQ(stats_now().connections_total, 2);
    CHECK_OK(il_block_on(parked, release_and_join, &held, &err));
    CHECK_EQ(stats_now().connections_total, 2);
    il_runtime_drop(parked);
    stop();
}

TEST(a_server_that_stands_still_ends_in_a_time_limit)
{
    struct il_request *request;
    struct il_response *response;

    start(100);
    check_get("/hello", 5);
    h2_server_ask(server, H2_WISH_FREEZE);
    CHECK_OK(il_request_new("GET", url("/held"), &request, &err));
    CHECK_OK(il_request_set_timeout_ms(request, IL_PHASE_FIRST_BYTE, 50));
    CHECK_EQ(il_send(client, request, &response, &err), IL_ETIMEDOUT);
    CHECK_EQ(err.phase, IL_PHASE_FIRST_BYTE);
    CHECK_CONTAINS(err.message, "HTTP/2");
    il_request_free(request);
    h2_server_ask(server, H2_WISH_CUT);
    CHECK(h2_server_wait(server, &server->open, 0));
    stop();
}

TEST(a_server_that_opens_no_window_for_a_body_ends_in_a_time_limit)
{
    char *body = calloc(1, 1000000);
    struct il_request *request;
    struct il_response *response;

    start(100);
    server->does_not_read = true;
    CHECK_OK(il_request_new("POST", url("/echo"), &request, &err));
    CHECK_OK(il_request_set_body(request, body, 1000000, &err));
    CHECK_OK(il_request_set_timeout_ms(request, IL_PHASE_WRITE, 50));
    CHECK_EQ(il_send(client, request, &response, &err), IL_ETIMEDOUT);
    CHECK_EQ(err.phase, IL_PHASE_WRITE);
    CHECK_CONTAINS(err.message, "the server to take the request");
    check_get("/hello", 5); /* the session is none the worse for it */
    CHECK_EQ(stats_now().connections_total, 1);
    il_request_free(request);
    free(body);
    stop();
}

TEST(a_reset_response_is_an_error_and_the_session_serves_on)
{
    struct il_response *response;

    start(100);
    CHECK_EQ(il_get(client, url("/reset"), &response, &err), IL_EPEERCLOSED);
    CHECK_CONTAINS(err.message, "INTERNAL_ERROR");
    check_get("/hello", 5);
    CHECK_EQ(stats_now().connections_total, 1);
    stop();
}

TEST(without_keep_alive_each_request_has_a_session_that_says_goodbye)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.no_keep_alive = true;
    start_with(100, options);
    for (int i = 0; i < 5; i++) {
        check_get("/hello", 5);
    }
    CHECK_EQ(stats_now().connections_total, 5);
    CHECK_EQ(stats_now().connections, 0);
    stop();
}

TEST(an_idle_session_is_closed_in_order_after_the_idle_time_out)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_runtime *runtime;
    struct many many = { .path = "/hello", .size = 5 };

    options.idle_timeout_ms = 30;
    start_with(100, options);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    run_tasks(runtime, 1, &many);
    CHECK(h2_server_wait(server, &server->open, 0));
    CHECK(h2_server_wait(server, &server->goaways, 1));
    CHECK_EQ(stats_now().connections, 0);
    il_runtime_drop(runtime);
    stop();
}

static void cancelled_get(void *arg)
{
    struct il_response *response;
    struct il_error error;

    CHECK_EQ(il_get(client, url("/held"), &response, &error), IL_ECANCELED);
}

TEST(a_cancelled_call_resets_its_stream_and_frees_its_place)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_runtime *runtime;

    options.connections_per_host_max = 1;
    start_with(3, options);
    check_get("/hello", 5);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 2);
    for (int round = 0; round < 50; round++) {
        struct il_task *tasks[6];

        for (int i = 0; i < 6; i++) {
            struct il_error error;

            CHECK(il_spawn(runtime, "cancelled", cancelled_get, NULL, &tasks[i], &error) == IL_OK);
        }
        for (int i = 0; i < 6; i++) {
            il_task_cancel(tasks[i]);
        }
        for (int i = 0; i < 6; i++) {
            CHECK_OK(il_task_join(tasks[i], IL_FOREVER, &err));
            il_task_unref(tasks[i]);
        }
    }
    check_get("/hello", 5);
    CHECK(h2_server_wait(server, &server->held, 0));
    il_runtime_drop(runtime);
    stop();
}

static void get_and_let_go(void *arg)
{
    struct il_client *mine = arg;
    struct il_response *response;
    struct il_error error;

    CHECK(il_get(mine, url("/hello"), &response, &error) == IL_OK);
    il_response_free(response);
    il_client_unref(mine);
}

/* Who drives tells the pool of a free place after the one whose answer it was may have heard. */
TEST(client_that_is_let_go_of_with_its_last_answer_leaves_no_session_behind)
{
    struct il_runtime *runtime;

    start(100);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 2);
    for (int round = 0; round < 100; round++) {
        struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
        struct il_client *other;
        struct il_task *tasks[4];

        options.http_version = IL_HTTP_2_PRIOR_KNOWLEDGE;
        options.connections_per_host_max = 1;
        CHECK_OK(il_client_new(&options, &other, &err));
        for (int i = 0; i < 4; i++) {
            CHECK_OK(
                il_spawn(runtime, "get", get_and_let_go, il_client_ref(other), &tasks[i], &err));
        }
        il_client_unref(other);
        for (int i = 0; i < 4; i++) {
            CHECK_OK(il_task_join(tasks[i], IL_FOREVER, &err));
            il_task_unref(tasks[i]);
        }
    }
    CHECK(h2_server_wait(server, &server->open, 0));
    il_runtime_drop(runtime);
    stop();
}

/* ---- a loop that stops while it has more to receive ---- */

#define PLENTY (SESSION_RECEIVE_MAX + 100000) /* more than is received in one go */

static _Atomic bool must_block, is_blocking;

static int unread_bytes(const struct session *session)
{
    return sys_socket_bytes_unread(atomic_load(&session->fd));
}

/* Until so much has come that it is not received in one go, if the socket has room for that. */
static int let_it_pile_up(const struct session *session)
{
    for (unsigned i = 0; i < 1000 && unread_bytes(session) < PLENTY; i++) {
        (void)poll(NULL, 0, 1);
    }
    return unread_bytes(session);
}

/* Read, then let it pile up, and read on until the loop has received some: there it stops. */
static void stop_in_the_middle(void *arg)
{
    static char buffer[1 << 18];
    struct session *session = arg;
    struct il_response *response;
    struct il_request *request;
    size_t size, total = 0;
    enum il_code code;
    int unread = 0;

    CHECK_OK(il_request_new("GET", url("/bytes/1000000000"), &request, &err));
    CHECK_OK(il_send_streaming(client, request, &response, &err));
    il_request_free(request);
    do {
        code = il_response_read(response, buffer, sizeof(buffer), &size, &err);
        total += code == IL_OK ? size : 0;
        if (unread == 0 && total > 100 * sizeof(buffer)) {
            unread = let_it_pile_up(session);
        } else if (unread > 0 && !is_blocking && unread_bytes(session) < unread) {
            is_blocking = true;
            while (must_block) {
                (void)poll(NULL, 0, 1);
            }
        }
    } while (code == IL_OK && size > 0);
    CHECK_EQ(code, IL_EPEERCLOSED);
    il_response_free(response);
}

static void lose_a_post(void *arg)
{
    struct il_response *response;
    struct il_error error;

    il_maybe(arg != NULL);
    CHECK_EQ(il_post(client, url("/held"), "text/plain", "x", 1, &response, &error),
             IL_EPEERCLOSED);
}

TEST(a_session_that_has_ended_closes_its_socket_though_a_loop_that_had_more_to_read_is_stuck)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_runtime *stuck, *runtime;
    struct il_task *reader, *loser;
    struct session *session;

    options.http2_stream_window = options.http2_connection_window = 16 << 20;
    start_with(100, options);
    check_get("/hello", 5);
    session = session_ref(il_container_of(client->pool.sessions.next, struct session, pooled.link));
    stuck = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 1);
    must_block = true;
    CHECK_OK(il_spawn(stuck, "reader", stop_in_the_middle, session, &reader, &err));
    while (!is_blocking) {
        CHECK_OK(il_sleep_ms(1));
    }
    CHECK_OK(il_spawn(runtime, "loser", lose_a_post, NULL, &loser, &err));
    CHECK(h2_server_wait(server, &server->held, 1));
    h2_server_ask(server, H2_WISH_CUT);
    CHECK_OK(il_task_join(loser, IL_FOREVER, &err));
    CHECK_EQ(atomic_load(&session->fd), -1);
    must_block = false;
    CHECK_OK(il_task_join(reader, IL_FOREVER, &err));
    (void)il_task_unref(reader);
    (void)il_task_unref(loser);
    session_unref(session);
    il_runtime_drop(stuck);
    il_runtime_drop(runtime);
    stop();
}
