/* h2_unread_test.c: streamed bodies over HTTP/2 that nobody reads, and requests that wait for the
 * places of their streams: one is reset, and its reader is told. As client_unread_test.c. */
#include "tests/h2_check.h"
#include "tests/unread_readers.h"

#define BODY_PATH "/bytes/3000000" /* more than a stream's window */
#define BODY_SIZE 3000000

static void start_small(uint32_t max_streams, uint64_t unread_timeout_ms)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.connections_per_host_max = 1;
    options.unread_timeout_ms = unread_timeout_ms;
    options.pool_wait_timeout_ms = 30000;
    start_with(max_streams, options);
    check_get("/hello", 5); /* the server's limit is known from here on */
}

static void begin_body(void *arg)
{
    struct il_response **ret_response = arg;
    struct il_request *request;

    CHECK_OK(il_request_new("GET", url(BODY_PATH), &request, &err));
    CHECK_OK(il_send_streaming(client, request, ret_response, &err));
    il_request_free(request);
}

static void check_was_taken(struct il_response *response, uint64_t limit_ms)
{
    size_t size;
    char byte;

    CHECK_EQ(read_all(response, &size, &err), IL_ETIMEDOUT);
    CHECK_EQ(size, 0);
    CHECK_EQ(err.phase, IL_PHASE_READ);
    CHECK_EQ(err.limit_ms, limit_ms);
    CHECK_CONTAINS(err.message, "unread_timeout_ms");
    CHECK_EQ(il_response_read(response, &byte, 1, &size, &err), IL_EINVAL);
    il_response_free(response);
}

TEST(stream_of_a_body_that_nobody_reads_gives_its_place_to_a_request_that_waits)
{
    struct il_response *unread[2];

    start_small(2, 30);
    begin_body(&unread[0]);
    begin_body(&unread[1]);
    check_get("/hello", 5); /* the one that has been left longer is reset */
    CHECK_EQ(stats_now().streams, 1);
    check_was_taken(unread[0], 30);
    CHECK_EQ(stats_now().streams, 1);
    CHECK_EQ(stats_now().connections_total, 1); /* the session goes on */
    CHECK_EQ(stats_now().waiters, 0);
    il_response_free(unread[1]);
    stop();
}

TEST(stream_of_a_parked_runtime_gives_its_place_away_too)
{
    struct il_response *response;
    struct il_runtime *parked, *runtime;
    struct many many = { .path = "/hello", .size = 5 };

    start_small(1, 30);
    parked = runtime_new(IL_RUNTIME_CURRENT_THREAD, 0);
    runtime = runtime_new(IL_RUNTIME_MULTI_THREAD, 2);
    CHECK_OK(il_block_on(parked, begin_body, &response, &err));
    run_tasks(runtime, 20, &many);
    CHECK_EQ(many.ok, 20);
    check_was_taken(response, 30);
    il_runtime_drop(parked);
    il_runtime_drop(runtime);
    stop();
}

TEST(stream_of_a_body_that_nobody_reads_keeps_its_place_while_nobody_waits_for_it)
{
    struct il_response *response;
    size_t size;

    start_small(2, 1);
    begin_body(&response);
    check_get("/hello", 5); /* there is another place */
    CHECK_EQ(il_sleep_ms(5), IL_OK);
    check_get("/hello", 5);
    CHECK_OK(read_all(response, &size, &err));
    CHECK_EQ(size, BODY_SIZE);
    il_response_free(response);
    stop();
}

static enum il_code get_briefly(uint64_t pool_wait_ms)
{
    struct il_response *response = NULL;
    struct il_request *request;
    enum il_code code;

    CHECK_OK(il_request_new("GET", url("/hello"), &request, &err));
    CHECK_EQ(il_request_set_timeout_ms(request, IL_PHASE_POOL_WAIT, pool_wait_ms), IL_OK);
    code = il_send(client, request, &response, &err);
    il_response_free(response);
    il_request_free(request);
    return code;
}

TEST(stream_keeps_its_place_until_the_limit_and_for_ever_without_one)
{
    static const uint64_t limits_ms[] = { 600000, IL_NO_LIMIT };

    for (size_t i = 0; i < il_array_count(limits_ms); i++) {
        struct il_response *response;
        size_t size;

        start_small(1, limits_ms[i]);
        begin_body(&response);
        CHECK_EQ(get_briefly(40), IL_ETIMEDOUT);
        CHECK_EQ(err.phase, IL_PHASE_POOL_WAIT);
        CHECK_OK(read_all(response, &size, &err));
        CHECK_EQ(size, BODY_SIZE);
        CHECK_OK(get_briefly(0));
        il_response_free(response);
        stop();
    }
}

TEST(stream_of_a_session_that_the_server_leaves_gives_way_to_a_new_connection)
{
    struct il_response *response;

    start_small(1, 30);
    begin_body(&response);
    h2_server_ask(server, H2_WISH_GOAWAY);
    CHECK(h2_server_wait(server, &server->wishes, 0)); /* it has been said */
    check_get("/hello", 5); /* no more than one may be open: the old one has to end */
    CHECK_EQ(stats_now().connections_total, 2);
    CHECK_EQ(stats_now().connections, 1);
    check_was_taken(response, 30);
    stop();
}

/* ---- readers and takers that meet ---- */

TEST_WITH_TIMEOUT(reader_has_the_whole_body_or_is_told_whoever_comes_in_between, 120)
{
    struct readers readers = { .size = BODY_SIZE, .round_count = 30 };

    start_small(2, 1);
    readers.client = client;
    readers.url = url(BODY_PATH);
    check_readers(&readers);
    stop();
}
