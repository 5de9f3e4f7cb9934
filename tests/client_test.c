/* client_test.c: the client over real sockets, with the default driver: what one program sees. */
#include "tests/client_check.h"

TEST(plain_thread_gets_a_response_and_reuses_the_connection)
{
    struct il_client_stats stats;

    start(IL_DRIVER_CALLER);
    for (int i = 0; i < 10; i++) {
        check_get("/id/abc", 200, "abc");
    }
    il_client_stats(client, &stats);
    CHECK_EQ(stats.connections_total, 1);
    CHECK_EQ(stats.reuses_total, 9);
    CHECK_EQ(stats.moves_total, 0);
    stop();
}

static void get_in_task(void *arg)
{
    for (int i = 0; i < 20; i++) {
        check_get("/id/task", 200, "task");
        atomic_fetch_add((_Atomic int *)arg, 1);
    }
}

TEST(tasks_of_both_kinds_of_runtime_share_one_client)
{
    struct il_runtime *multi, *current;
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_task *tasks[20];
    _Atomic int count = 0;

    start(IL_DRIVER_CALLER);
    options.worker_count = 2;
    CHECK_OK(il_runtime_new(&options, &multi, &err));
    options = (struct il_runtime_options)IL_RUNTIME_OPTIONS_INIT;
    options.kind = IL_RUNTIME_CURRENT_THREAD;
    CHECK_OK(il_runtime_new(&options, &current, &err));
    for (int i = 0; i < 20; i++) {
        CHECK_OK(il_spawn(multi, "get", get_in_task, &count, &tasks[i], &err));
    }
    CHECK_OK(il_block_on(current, get_in_task, &count, &err));
    for (int i = 0; i < 20; i++) {
        CHECK_OK(il_task_join(tasks[i], IL_FOREVER, &err));
        il_task_unref(tasks[i]);
    }
    CHECK_EQ(count, 420);
    il_runtime_drop(current);
    il_runtime_drop(multi);
    stop();
}

static void get_held(void *arg)
{
    struct il_response *response;
    struct il_error error;

    if (il_get(client, url("/hold/all"), &response, &error) != IL_OK) {
        check_fail(__FILE__, __LINE__, "%s", error.message);
    }
    il_response_free(response);
}

/* Over TLS the first connection might have turned out to be HTTP/2, and have served them all. */
TEST(requests_of_one_loop_that_begin_together_each_get_a_connection)
{
    struct il_runtime *runtime;
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_task *tasks[8];

    start(IL_DRIVER_CALLER);
    options.worker_count = 1;
    CHECK_OK(il_runtime_new(&options, &runtime, &err));
    for (int i = 0; i < 8; i++) {
        CHECK_OK(il_spawn(runtime, "get", get_held, NULL, &tasks[i], &err));
    }
    CHECK(lab_server_wait_held(server, "all", 8, lab_in_ms(50000)));
    lab_server_release(server, "all", LAB_RELEASE_ALL);
    for (int i = 0; i < 8; i++) {
        CHECK_OK(il_task_join(tasks[i], IL_FOREVER, &err));
        il_task_unref(tasks[i]);
    }
    il_runtime_drop(runtime);
    stop();
}

static void *get_in_thread(void *arg)
{
    get_in_task(arg);
    return NULL;
}

TEST(connection_that_rests_with_a_thread_that_has_ended_serves_another)
{
    struct il_client_stats stats;
    _Atomic int count = 0;
    pthread_t thread;

    start(IL_DRIVER_CALLER);
    CHECK_EQ(pthread_create(&thread, NULL, get_in_thread, &count), 0);
    pthread_join(thread, NULL);
    check_get("/hello", 200, NULL);
    il_client_stats(client, &stats);
    CHECK_EQ(stats.connections_total, 1);
    CHECK_EQ(stats.moves_total, 1);
    stop();
}

static void get_once(void *arg)
{
    check_get("/hello", 200, NULL);
}

TEST(connection_of_a_parked_runtime_serves_another)
{
    for (int driver = 0; driver < 2; driver++) {
        struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
        struct il_runtime *parked;
        struct il_client_stats stats;
        struct il_request *request;
        struct il_response *response;
        enum il_code code;

        start((enum il_driver)driver);
        options.kind = IL_RUNTIME_CURRENT_THREAD;
        CHECK_OK(il_runtime_new(&options, &parked, &err));
        CHECK_OK(il_block_on(parked, get_once, NULL, &err));
        CHECK_OK(il_request_new("GET", url("/hello"), &request, &err));
        CHECK_OK(il_request_set_timeout_ms(request, IL_PHASE_TOTAL,
                                           driver == IL_DRIVER_CALLER ? 50000 : 50));
        code = il_send(client, request, &response, &err);
        if (driver == IL_DRIVER_CALLER) {
            CHECK_OK(code);
            il_response_free(response);
            il_client_stats(client, &stats);
            CHECK_EQ(stats.moves_total, 1);
        } else { /* the bound driver hangs, as hyper does */
            CHECK_EQ(code, IL_ETIMEDOUT);
            CHECK_EQ(err.phase, IL_PHASE_DISPATCH);
        }
        il_request_free(request);
        il_runtime_drop(parked);
        stop();
    }
}

TEST(methods_headers_and_bodies_arrive_as_sent)
{
    static const char *const methods[] = { "GET",   "POST",    "PUT",     "DELETE",
                                           "PATCH", "OPTIONS", "PROPFIND" };

    for (int driver = 0; driver < 2; driver++) {
        start((enum il_driver)driver);
        for (size_t i = 0; i < il_array_count(methods); i++) {
            struct il_request *request;
            struct il_response *response;
            const char *body;

            CHECK_OK(il_request_new(methods[i], url("/echo"), &request, &err));
            CHECK_OK(il_request_add_header(request, "X-One", "eins", &err));
            if (i > 0) {
                CHECK_OK(il_request_set_body(request, "the body", 8, &err));
            }
            CHECK_OK(il_send(client, request, &response, &err));
            body = il_response_body(response, NULL);
            CHECK_CONTAINS(body, methods[i]);
            CHECK_CONTAINS(body, "eins");
            if (i > 0) {
                CHECK_CONTAINS(body, "the body");
            }
            il_response_free(response);
            il_request_free(request);
        }
        stop();
    }
}

TEST(head_has_no_body)
{
    struct il_request *request;
    struct il_response *response;
    size_t size;

    start(IL_DRIVER_CALLER);
    CHECK_OK(il_request_new("HEAD", url("/bytes/100"), &request, &err));
    for (int i = 0; i < 2; i++) {
        CHECK_OK(il_send(client, request, &response, &err));
        (void)il_response_body(response, &size);
        CHECK_EQ(size, 0);
        il_response_free(response);
    }
    il_request_free(request);
    stop();
}

TEST(bodies_of_every_framing_arrive_whole)
{
    static const char *const paths[] = { "/bytes/300000?seed=7", "/bytes/300000?seed=7&chunked=1",
                                         "/bytes/300000?seed=7&close=1" };

    for (int driver = 0; driver < 2; driver++) {
        start((enum il_driver)driver);
        for (size_t i = 0; i < il_array_count(paths); i++) {
            struct il_response *response;
            const char *body;
            size_t size;

            CHECK_OK(il_get(client, url(paths[i]), &response, &err));
            body = il_response_body(response, &size);
            CHECK_EQ(size, 300000);
            CHECK(lab_pattern_matches(body, size, 7, 0));
            il_response_free(response);
        }
        stop();
    }
}

TEST(streamed_bodies_arrive_whole_in_pieces_of_any_size)
{
    static const char *const paths[] = { "/bytes/30000?seed=7", "/bytes/30000?seed=7&chunked=1",
                                         "/bytes/30000?seed=7&close=1" };
    static const size_t sizes[] = { 1, 1000, 100000 };

    for (int driver = 0; driver < 2; driver++) {
        start((enum il_driver)driver);
        for (size_t i = 0; i < 9; i++) {
            struct il_request *request;
            struct il_response *response;
            size_t offset = 0, got;
            char buffer[100000];

            CHECK_OK(il_request_new("GET", url(paths[i % 3]), &request, &err));
            CHECK_OK(il_send_streaming(client, request, &response, &err));
            do {
                CHECK_OK(il_response_read(response, buffer, sizes[i / 3], &got, &err));
                CHECK(lab_pattern_matches(buffer, got, 7, offset));
                offset += got;
            } while (got > 0);
            CHECK_EQ(offset, 30000);
            CHECK_OK(il_response_read(response, buffer, 1, &got, &err));
            CHECK_EQ(got, 0);
            il_response_free(response);
            il_request_free(request);
        }
        stop();
    }
}

struct hand_over {
    struct il_response *response;
    size_t offset;
};

static void start_streaming(void *arg)
{
    struct hand_over *hand_over = arg;
    struct il_request *request;
    char buffer[1000];
    size_t got;

    CHECK_OK(il_request_new("GET", url("/bytes/3000000?seed=9"), &request, &err));
    CHECK_OK(il_send_streaming(client, request, &hand_over->response, &err));
    il_request_free(request);
    CHECK_OK(il_response_read(hand_over->response, buffer, sizeof(buffer), &got, &err));
    CHECK(lab_pattern_matches(buffer, got, 9, 0));
    hand_over->offset = got;
}

TEST(response_begun_on_a_runtime_that_parks_or_goes_is_read_on_another)
{
    for (int is_dropped = 0; is_dropped < 2; is_dropped++) {
        struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
        struct hand_over hand_over;
        struct il_runtime *runtime;
        static char buffer[10000];
        size_t got;

        start(IL_DRIVER_CALLER);
        options.kind = IL_RUNTIME_CURRENT_THREAD;
        CHECK_OK(il_runtime_new(&options, &runtime, &err));
        CHECK_OK(il_block_on(runtime, start_streaming, &hand_over, &err));
        if (is_dropped) {
            runtime = il_runtime_drop(runtime);
        }
        do {
            CHECK_OK(il_response_read(hand_over.response, buffer, sizeof(buffer), &got, &err));
            CHECK(lab_pattern_matches(buffer, got, 9, hand_over.offset));
            hand_over.offset += got;
        } while (got > 0);
        CHECK_EQ(hand_over.offset, 3000000);
        il_response_free(hand_over.response);
        runtime = il_runtime_drop(runtime);
        stop();
    }
}

TEST(response_that_is_not_read_to_its_end_costs_only_its_connection)
{
    for (int driver = 0; driver < 2; driver++) {
        struct il_request *request;
        struct il_response *response;

        start((enum il_driver)driver);
        CHECK_OK(il_request_new("GET", url("/bytes/3000000"), &request, &err));
        for (int i = 0; i < 3; i++) {
            CHECK_OK(il_send_streaming(client, request, &response, &err));
            il_response_free(response);
            check_get("/hello", 200, NULL);
        }
        il_request_free(request);
        stop();
    }
}

struct source {
    size_t left, piece;
    enum il_code fail;
};

static enum il_code source_read(void *arg, void *buffer, size_t size, size_t *ret_size)
{
    struct source *source = arg;

    if (source->fail != IL_OK && source->left < 5000) {
        return source->fail;
    }
    *ret_size = source->piece < source->left ? source->piece : source->left;
    *ret_size = *ret_size < size ? *ret_size : size;
    memset(buffer, 'x', *ret_size);
    source->left -= *ret_size;
    (void)il_sleep_ms(0);
    return IL_OK;
}

TEST(body_from_a_source_is_sent_whole_sized_or_chunked)
{
    for (int i = 0; i < 2; i++) {
        struct source source = { .left = 100000, .piece = 7001 };
        struct il_request *request;
        struct il_response *response;
        size_t size;

        start(IL_DRIVER_CALLER);
        CHECK_OK(il_request_new("POST", url("/echo"), &request, &err));
        CHECK_OK(il_request_set_body_source(request, source_read, &source,
                                            i == 0 ? 100000 : IL_LENGTH_UNKNOWN, &err));
        CHECK_OK(il_send(client, request, &response, &err));
        CHECK_EQ(il_response_status(response), 200);
        (void)il_response_body(response, &size);
        CHECK(size >= 100000);
        il_response_free(response);
        il_request_free(request);
        stop();
    }
}

TEST(request_that_contradicts_itself_is_refused_before_anything_is_opened_for_it)
{
    static const char *const headers[][2] = { { "Content-Length", "5" },
                                              { "Transfer-Encoding", "chunked" },
                                              { "Host", "a/b" } };
    struct il_client_stats stats;
    struct il_response *response;

    start(IL_DRIVER_CALLER);
    for (size_t i = 0; i < il_array_count(headers); i++) {
        struct il_request *request;

        CHECK_OK(il_request_new("POST", url("/echo"), &request, &err));
        CHECK_OK(il_request_set_body(request, "abc", 3, &err));
        CHECK_OK(il_request_add_header(request, headers[i][0], headers[i][1], &err));
        CHECK_EQ(il_send(client, request, &response, &err), IL_EREQUEST);
        CHECK_EQ(err.phase, IL_PHASE_NONE);
        CHECK_CONTAINS(err.message, headers[i][0]);
        il_request_free(request);
    }
    il_client_stats(client, &stats);
    CHECK_EQ(stats.connections_total, 0);
    stop();
}

TEST(body_source_that_fails_or_lies_fails_the_request_by_name)
{
    struct il_request *request;
    struct il_response *response;
    struct source source = { .left = 100000, .piece = 5000, .fail = IL_ECLOSED };

    start(IL_DRIVER_CALLER);
    CHECK_OK(il_request_new("POST", url("/echo"), &request, &err));
    CHECK_OK(il_request_set_body_source(request, source_read, &source, IL_LENGTH_UNKNOWN, &err));
    CHECK_EQ(il_send(client, request, &response, &err), IL_ECLOSED);
    source = (struct source){ .left = 100000, .piece = 5000, .fail = IL_ESYS };
    CHECK_EQ(il_send(client, request, &response, &err), IL_ESYS);
    CHECK_EQ(err.sys_errno, 0); /* none was given */
    source = (struct source){ .left = 100, .piece = 50 };
    CHECK_OK(il_request_set_body_source(request, source_read, &source, 1000, &err));
    CHECK_EQ(il_send(client, request, &response, &err), IL_EREQUEST);
    CHECK_CONTAINS(err.message, "ended after 100 of the 1000 bytes");
    source = (struct source){ .left = 5000, .piece = 50 };
    CHECK_OK(il_request_set_body_source(request, source_read, &source, 75, &err));
    CHECK_EQ(il_send(client, request, &response, &err), IL_EREQUEST);
    il_request_free(request);
    stop();
}

TEST(every_kind_of_bad_server_has_its_own_clear_error)
{
    static const struct {
        const char *path;
        enum il_code code;
    } cases[] = {
        { "/close", IL_EPEERCLOSED },
        { "/garbage", IL_EPROTOCOL },
        { "/huge-header/400000", IL_EHEADERSIZE },
        { "/many-headers/6000", IL_EHEADERSIZE },
        { "/conflict", IL_EPROTOCOL },
        { "/bad-chunk", IL_EPROTOCOL },
        { "/bytes/1000?cut_at=10", IL_EPEERCLOSED },
        { "/bytes/1000?rst_at=10", IL_EPEERCLOSED },
    };

    for (int driver = 0; driver < 2; driver++) {
        start((enum il_driver)driver);
        for (size_t i = 0; i < il_array_count(cases); i++) {
            enum il_code code = get_code(cases[i].path);

            if (code != cases[i].code) {
                check_fail(__FILE__, __LINE__, "%s: %s: %s", cases[i].path, il_code_name(code),
                           err.message);
            }
            CHECK_CONTAINS(err.message, "127.0.0.1"); /* to whom it happened */
            check_get("/hello", 200, NULL);           /* and the client goes on */
        }
        stop();
    }
}

TEST(refused_connection_and_bad_url_have_their_own_errors)
{
    struct il_response *response;
    uint16_t port;
    char text[64];

    start(IL_DRIVER_CALLER);
    port = lab_server_port(server);
    stop();
    CHECK_OK(il_client_new(NULL, &client, &err));
    snprintf(text, sizeof(text), "http://127.0.0.1:%u/", port);
    CHECK_EQ(il_get(client, text, &response, &err), IL_ECONNECT);
    CHECK_CONTAINS(err.message, "refused");
    CHECK_EQ(il_get(client, "http://", &response, &err), IL_EURL);
    CHECK_EQ(il_get(client, "gopher://x/", &response, &err), IL_EURL);
    client = il_client_unref(client);
}

TEST(each_phase_has_its_time_limit_and_the_error_names_it)
{
    struct il_request *request;
    struct il_response *response;

    start(IL_DRIVER_CALLER);
    CHECK_OK(il_request_new("GET", url("/never"), &request, &err));
    CHECK_OK(il_request_set_timeout_ms(request, IL_PHASE_FIRST_BYTE, 20));
    CHECK_EQ(il_send(client, request, &response, &err), IL_ETIMEDOUT);
    CHECK_EQ(err.phase, IL_PHASE_FIRST_BYTE);
    CHECK_EQ(err.limit_ms, 20);
    CHECK_CONTAINS(err.message, "127.0.0.1");
    il_request_free(request);

    CHECK_OK(il_request_new("GET", url("/bytes/1000?pause_at=500&pause_ms=60000"), &request, &err));
    CHECK_OK(il_request_set_timeout_ms(request, IL_PHASE_READ, 20));
    CHECK_EQ(il_send(client, request, &response, &err), IL_ETIMEDOUT);
    CHECK_EQ(err.phase, IL_PHASE_READ);
    il_request_free(request);

    CHECK_OK(il_request_new("GET", url("/never"), &request, &err));
    CHECK_OK(il_request_set_timeout_ms(request, IL_PHASE_TOTAL, 20));
    CHECK_EQ(il_send(client, request, &response, &err), IL_ETIMEDOUT);
    CHECK_CONTAINS(err.message, "total");
    CHECK_EQ(il_request_set_timeout_ms(request, IL_PHASE_DONE, 20), IL_EINVAL);
    il_request_free(request);

    CHECK_OK(lab_server_accept_stop(server, &err));
    CHECK_OK(il_request_new("GET", url("/hello"), &request, &err));
    CHECK_OK(il_request_set_timeout_ms(request, IL_PHASE_CONNECT, 20));
    CHECK_EQ(il_send(client, request, &response, &err), IL_ETIMEDOUT);
    CHECK_EQ(err.phase, IL_PHASE_CONNECT);
    il_request_free(request);
    lab_server_accept_resume(server);
    stop();
}

TEST(idle_connection_that_the_server_closed_is_not_used)
{
    struct il_client_stats stats;

    for (int driver = 0; driver < 2; driver++) {
        start((enum il_driver)driver);
        check_get("/hello", 200, NULL);
        CHECK(lab_server_wait_idle(server, 1, lab_in_ms(50000)));
        CHECK_EQ(lab_server_close_idle(server, LAB_CLOSE_FIN), 1);
        wait_until_it_has_come();
        check_get("/hello", 200, NULL);
        il_client_stats(client, &stats);
        CHECK_EQ(stats.connections_total, 2);
        stop();
    }
}

TEST(unasked_bytes_on_an_idle_connection_are_never_taken_for_a_response)
{
    static const char forged[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";

    for (int driver = 0; driver < 2; driver++) {
        start((enum il_driver)driver);
        check_get("/id/mine", 200, "mine");
        CHECK(lab_server_wait_idle(server, 1, lab_in_ms(50000)));
        CHECK_OK(lab_server_write(server, 1, forged, sizeof(forged) - 1, &err));
        wait_until_it_has_come();
        check_get("/id/mine", 200, "mine");
        check_get("/extra", 200, NULL);
        check_get("/id/mine", 200, "mine");
        stop();
    }
}

/* Who lets go of the client passes it over: its loop has it. So its loop has to close it. */
TEST(connection_that_its_loop_looks_at_while_the_client_is_let_go_of_does_not_rest_again)
{
    struct conn *conn;

    start(IL_DRIVER_CALLER);
    check_get("/hello", 200, NULL);
    conn = il_container_of(client->pool.connections.next, struct conn, pooled.link);
    CHECK(watch_claim_here(conn->held.watch));
    client = il_client_unref(client);
    CHECK(lab_server_wait_idle(server, 1, lab_in_ms(50000))); /* it is open still */
    CHECK(!pool_rest_again(&conn->client->pool, conn));
    client_discard(conn->client, conn);
    CHECK(lab_server_wait_open(server, 0, lab_in_ms(50000)));
    lab_server_stop(server);
}

/* In a task, so that the loop has just polled when the next request looks for a connection; and it
 * has heard of what lies in the socket before the body was read. */
static void stream_what_has_more_behind(void *arg)
{
    static const char forged[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    static char buffer[100000];
    const size_t *piece = arg;
    struct il_request *request;
    struct il_response *response;
    size_t offset = 0, got;

    CHECK_OK(il_request_new("GET", url("/bytes/66000?seed=7"), &request, &err));
    CHECK_OK(il_send_streaming(client, request, &response, &err));
    CHECK(lab_server_wait_idle(server, 1, lab_in_ms(50000)));
    CHECK_OK(lab_server_write(server, 1, forged, sizeof(forged) - 1, &err));
    CHECK_OK(il_yield());
    do {
        CHECK_OK(il_response_read(response, buffer, *piece, &got, &err));
        CHECK(lab_pattern_matches(buffer, got, 7, offset));
        offset += got;
    } while (got > 0);
    CHECK_EQ(offset, 66000);
    CHECK_OK(il_yield());
    check_get("/id/mine", 200, "mine");
    il_response_free(response);
    il_request_free(request);
}

TEST(unasked_bytes_right_behind_a_streamed_body_cost_the_connection)
{
    static size_t pieces[] = { 1, 1000, 100000 };

    for (size_t i = 0; i < il_array_count(pieces); i++) {
        struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
        struct il_runtime *runtime;

        start(IL_DRIVER_CALLER);
        options.kind = IL_RUNTIME_CURRENT_THREAD;
        CHECK_OK(il_runtime_new(&options, &runtime, &err));
        CHECK_OK(il_block_on(runtime, stream_what_has_more_behind, &pieces[i], &err));
        runtime = il_runtime_drop(runtime);
        stop();
    }
}

TEST(connection_of_a_streamed_response_is_free_with_the_last_byte)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_request *request;
    struct il_response *response;
    static char buffer[100000];
    size_t total = 0, got;

    server_start();
    options.connections_per_host_max = 1;
    client_start(&options);
    CHECK_OK(il_request_new("GET", url("/bytes/300000"), &request, &err));
    CHECK_OK(il_send_streaming(client, request, &response, &err));
    while (total < 300000) {
        CHECK_OK(il_response_read(response, buffer, sizeof(buffer), &got, &err));
        total += got;
    }
    check_get("/id/mine", 200, "mine");
    CHECK_OK(il_response_read(response, buffer, sizeof(buffer), &got, &err));
    CHECK_EQ(got, 0);
    il_response_free(response);
    il_request_free(request);
    stop();
}

TEST(requests_beyond_the_limit_wait_for_a_connection)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_runtime_options runtime_options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime;
    struct il_task *tasks[30];
    struct lab_server_counters counters;
    _Atomic int count = 0;

    server_start();
    options.connections_per_host_max = 3;
    client_start(&options);
    runtime_options.worker_count = 3;
    CHECK_OK(il_runtime_new(&runtime_options, &runtime, &err));
    for (int i = 0; i < 30; i++) {
        CHECK_OK(il_spawn(runtime, "get", get_in_task, &count, &tasks[i], &err));
    }
    for (int i = 0; i < 30; i++) {
        CHECK_OK(il_task_join(tasks[i], IL_FOREVER, &err));
        il_task_unref(tasks[i]);
    }
    CHECK_EQ(count, 600);
    lab_server_counters(server, &counters);
    CHECK(counters.accepted_count <= 3);
    il_runtime_drop(runtime);
    stop();
}

struct outcome {
    enum il_code code;
    int status;
    _Atomic int count;
};

static void on_done(void *arg, enum il_code code, struct il_response *response,
                    const struct il_error *error)
{
    struct outcome *outcome = arg;

    outcome->code = code;
    outcome->status = response != NULL ? il_response_status(response) : 0;
    il_response_free(response);
    atomic_fetch_add(&outcome->count, 1);
}

static struct il_call *start_call(struct il_runtime *runtime, const char *path,
                                  struct outcome *outcome)
{
    struct il_call_options options = IL_CALL_OPTIONS_INIT;
    struct il_request *request;
    struct il_call *call;

    CHECK_OK(il_request_new("GET", url(path), &request, &err));
    options.runtime = runtime;
    options.on_done = on_done;
    options.arg = outcome;
    CHECK_OK(il_call_start(client, request, &options, &call, &err));
    return call;
}

TEST(call_with_a_callback_is_answered_exactly_once_whatever_happens)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime;
    struct outcome done = { IL_OK, 0, 0 }, cancelled = { IL_OK, 0, 0 }, evicted = { IL_OK, 0, 0 };
    struct il_call *call, *never;
    struct il_shutdown_report report;

    start(IL_DRIVER_CALLER);
    options.worker_count = 1;
    CHECK_OK(il_runtime_new(&options, &runtime, &err));
    call = start_call(runtime, "/hello", &done);
    il_call_unref(call);
    call = start_call(runtime, "/never", &cancelled);
    il_call_cancel(call);
    il_call_cancel(call);
    never = start_call(runtime, "/never", &evicted);
    while (done.count == 0 || cancelled.count == 0) {
        usleep(100);
    }
    CHECK(lab_server_wait_requests(server, "/never", 1, lab_in_ms(50000)));
    CHECK_EQ(il_runtime_shutdown(runtime, 0, &report, &err), IL_ETIMEDOUT);
    CHECK_EQ(report.call_count, 1);
    il_runtime_unref(runtime);
    CHECK_EQ(done.code, IL_OK);
    CHECK_EQ(done.status, 200);
    CHECK_EQ(cancelled.code, IL_ECANCELED);
    CHECK_EQ(evicted.code, IL_ESHUTDOWN);
    CHECK_EQ(done.count, 1);
    CHECK_EQ(cancelled.count, 1);
    CHECK_EQ(evicted.count, 1);
    il_call_cancel(never); /* too late, and harmless */
    il_call_unref(never);
    il_call_unref(call);
    stop();
}

static void get_never(void *arg)
{
    *(enum il_code *)arg = get_code("/never");
}

TEST(cancelling_a_task_ends_its_request)
{
    struct il_runtime *runtime;
    enum il_code code = IL_OK;
    struct il_task *task;

    for (int driver = 0; driver < 2; driver++) {
        start((enum il_driver)driver);
        CHECK_OK(il_runtime_new(NULL, &runtime, &err));
        CHECK_OK(il_spawn(runtime, "never", get_never, &code, &task, &err));
        CHECK(lab_server_wait_requests(server, "/never", 1, lab_in_ms(50000)));
        il_task_cancel(task);
        CHECK_OK(il_task_join(task, IL_FOREVER, &err));
        CHECK_EQ(code, IL_ECANCELED);
        il_task_unref(task);
        il_runtime_drop(runtime);
        stop();
    }
}

TEST(nothing_is_left_when_all_is_over)
{
    struct il_memory_use before, after;
    struct rt_counts counts;

    start(IL_DRIVER_CALLER); /* warms up what lives as long as the thread */
    check_get("/hello", 200, NULL);
    stop();
    il_memory_use(&before);
    for (int driver = 0; driver < 2; driver++) {
        struct il_runtime *runtime;
        _Atomic int count = 0;

        start((enum il_driver)driver);
        CHECK_OK(il_runtime_new(NULL, &runtime, &err));
        CHECK_OK(il_block_on(runtime, get_in_task, &count, &err));
        il_runtime_drop(runtime);
        stop();
    }
    il_memory_use(&after);
    rt_counts(&counts);
    CHECK_EQ(counts.runtimes, 0);
    CHECK_EQ(counts.tasks, 0);
    CHECK_EQ(after.live_count, before.live_count);
    CHECK_EQ(after.live_bytes, before.live_bytes);
}

TEST(call_started_just_before_a_shutdown_in_order_is_waited_for)
{
    start(IL_DRIVER_CALLER);
    for (int i = 0; i < 200; i++) {
        struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
        struct outcome outcome = { IL_OK, 0, 0 };
        struct il_runtime *runtime;

        options.kind = (enum il_runtime_kind)(i % 2);
        options.worker_count = options.kind == IL_RUNTIME_MULTI_THREAD;
        CHECK_OK(il_runtime_new(&options, &runtime, &err));
        il_call_unref(start_call(runtime, "/hello", &outcome));
        CHECK_OK(il_runtime_shutdown(runtime, il_deadline_in_ms(30000), NULL, &err));
        CHECK_EQ(outcome.count, 1);
        CHECK_EQ(outcome.status, 200);
        il_runtime_unref(runtime);
    }
    stop();
}

TEST(idle_connection_is_closed_when_its_time_is_up_although_nobody_calls)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_runtime *runtime;

    server_start();
    options.idle_timeout_ms = 30;
    client_start(&options);
    CHECK_OK(il_runtime_new(NULL, &runtime, &err));
    for (int i = 0; i < 5; i++) {
        CHECK_OK(il_block_on(runtime, get_once, NULL, &err));
        CHECK(lab_server_wait_open(server, 0, lab_in_ms(50000)));
    }
    il_runtime_drop(runtime);
    stop();
}

TEST(idle_connection_that_is_used_again_in_time_stays_open)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_client_stats stats;

    server_start();
    options.idle_timeout_ms = 600000;
    client_start(&options);
    for (int i = 0; i < 5; i++) {
        get_once(NULL);
        (void)il_sleep_ms(2);
    }
    il_client_stats(client, &stats);
    CHECK_EQ(stats.connections_total, 1);
    stop();
}

static void send_often_without_allocating(void *arg)
{
    struct il_memory_use before, after;
    struct il_request *request = arg;

    for (int i = 0; i < 1100; i++) {
        struct il_response *response;

        if (i == 100) { /* warm */
            il_memory_use(&before);
        }
        CHECK_OK(il_send(client, request, &response, &err));
        CHECK_STR(il_response_body(response, NULL), "abc");
        il_response_free(response);
    }
    il_memory_use(&after);
    CHECK_EQ(after.allocation_count - before.allocation_count, 0);
}

TEST(request_on_a_warm_connection_allocates_nothing)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_request *request;
    struct il_runtime *runtime;

    start(IL_DRIVER_CALLER);
    CHECK_OK(il_request_new("GET", url("/id/abc"), &request, &err));
    send_often_without_allocating(request); /* on a plain thread */
    options.worker_count = 1;
    CHECK_OK(il_runtime_new(&options, &runtime, &err));
    CHECK_OK(il_block_on(runtime, send_often_without_allocating, request, &err));
    il_runtime_drop(runtime);
    il_request_free(request);
    stop();
}

static void on_borrowed(void *arg, enum il_code code, struct il_response *response,
                        const struct il_error *error)
{
    CHECK_EQ(code, IL_OK);
    il_response_free(response);
    atomic_fetch_add((_Atomic int *)arg, 1);
}

TEST(one_borrowed_request_serves_many_calls_at_once)
{
    struct il_call_options options = IL_CALL_OPTIONS_INIT;
    struct il_request *request;
    struct il_runtime *runtime;
    _Atomic int count = 0;

    start(IL_DRIVER_CALLER);
    CHECK_OK(il_runtime_new(NULL, &runtime, &err));
    CHECK_OK(il_request_new("GET", url("/hello"), &request, &err));
    options.runtime = runtime;
    options.on_done = on_borrowed;
    options.arg = &count;
    options.borrows_request = true;
    for (int i = 0; i < 50; i++) {
        CHECK_OK(il_call_start(client, request, &options, NULL, &err));
    }
    CHECK_OK(il_runtime_shutdown(runtime, il_deadline_in_ms(30000), NULL, &err));
    CHECK_EQ(count, 50);
    il_runtime_unref(runtime);
    il_request_free(request);
    stop();
}

TEST(limits_that_cannot_be_are_refused)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.http2_stream_window = UINT32_C(1) << 31;
    CHECK_EQ(il_client_new(&options, &client, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "http2_stream_window is 2147483648");
    options.http2_stream_window = 1;
    options.http2_connection_window = 65534;
    CHECK_EQ(il_client_new(&options, &client, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "http2_connection_window is 65534; it may be 65535");
    options.http2_connection_window = 65535;
    options.header_size_max = 1024 * 1024 + 1;
    CHECK_EQ(il_client_new(&options, &client, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "header_size_max is 1048577; it may be up to 1048576");
    options.header_size_max = 1024 * 1024;
    CHECK_OK(il_client_new(&options, &client, &err));
    il_client_unref(client);
}

TEST(misuse_is_an_error_that_names_the_argument)
{
    struct il_response *response;
    struct il_request *request;

    CHECK_EQ(il_client_new(NULL, NULL, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "ret_client");
    CHECK_EQ(il_runtime_new(NULL, NULL, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "ret_runtime");
    CHECK_EQ(il_request_new("GET", "http://localhost/", NULL, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "ret_request");
    CHECK_EQ(il_request_new("CONNECT", "http://localhost/", &request, &err), IL_EREQUEST);
    CHECK_EQ(il_request_new("GET", "http://joe:secret@localhost/", &request, &err), IL_EURL);
    CHECK_CONTAINS(err.message, "Authorization");
    CHECK(strstr(err.message, "secret") == NULL);
    CHECK_OK(il_client_new(NULL, &client, &err));
    CHECK_EQ(il_get(client, "http://localhost/", NULL, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "ret_response");
    CHECK_EQ(il_get(NULL, "http://localhost/", &response, &err), IL_EINVAL);
    CHECK_EQ(il_send(client, NULL, &response, &err), IL_EINVAL);
    il_client_unref(client);
}
