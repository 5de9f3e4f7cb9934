/* client_unread_test.c: streamed bodies that nobody reads, and requests that wait for their
 * connections: the pool takes one away, and its reader is told. */
#include "interloop/watch.h"
#include "lab/server.h"
#include "tests/check.h"
#include "tests/unread_readers.h"

#define BODY_BYTES 300000 /* more than anybody reads ahead */

static struct il_error err;
static struct lab_server *server;
static struct il_client *client;
static char body_url[64], small_url[64];

static void start(uint32_t connections_max, uint64_t unread_timeout_ms)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.connections_per_host_max = connections_max;
    options.unread_timeout_ms = unread_timeout_ms;
    options.pool_wait_timeout_ms = 20000;
    CHECK_OK(lab_server_start(NULL, &server, &err));
    CHECK_OK(il_client_new(&options, &client, &err));
    (void)snprintf(body_url, sizeof(body_url), "http://127.0.0.1:%u/bytes/%d",
                   lab_server_port(server), BODY_BYTES);
    (void)snprintf(small_url, sizeof(small_url), "http://127.0.0.1:%u/hello",
                   lab_server_port(server));
}

static void stop(void)
{
    struct il_watch_totals totals;

    client = il_client_unref(client);
    lab_server_stop(server);
    il_watch_totals(&totals);
    CHECK_EQ(totals.connections, 0);
    CHECK_EQ(totals.clients, 0);
}

static struct il_response *begin_body(void)
{
    struct il_response *response;
    struct il_request *request;

    CHECK_OK(il_request_new("GET", body_url, &request, &err));
    CHECK_OK(il_send_streaming(client, request, &response, &err));
    il_request_free(request);
    return response;
}

static enum il_code get(uint64_t pool_wait_ms, struct il_error *error)
{
    struct il_response *response = NULL;
    struct il_request *request;
    enum il_code code;

    CHECK_OK(il_request_new("GET", small_url, &request, error));
    CHECK_EQ(il_request_set_timeout_ms(request, IL_PHASE_POOL_WAIT, pool_wait_ms), IL_OK);
    code = il_send(client, request, &response, error);
    il_response_free(response);
    il_request_free(request);
    return code;
}

TEST(body_that_nobody_reads_gives_its_connection_to_a_request_that_waits)
{
    struct il_response *unread, *freed;
    struct il_client_stats stats;
    char byte;
    size_t got;

    start(2, 30);
    unread = begin_body();
    freed = begin_body();
    CHECK_OK(get(0, &err)); /* takes the one that has been left longest, or both in turn */
    CHECK_OK(get(0, &err));
    il_client_stats(client, &stats);
    CHECK(stats.connections <= 2);
    CHECK_EQ(stats.waiters, 0);
    CHECK_EQ(il_response_read(unread, &byte, 1, &got, &err), IL_ETIMEDOUT);
    CHECK_EQ(err.phase, IL_PHASE_READ);
    CHECK_EQ(err.limit_ms, 30);
    CHECK_CONTAINS(err.message, "unread_timeout_ms");
    CHECK_EQ(il_response_read(unread, &byte, 1, &got, &err), IL_EINVAL);
    il_response_free(unread);
    il_response_free(freed);
    stop();
}

TEST(body_of_a_parked_runtime_gives_its_connection_away_too)
{
    struct il_response *response;
    size_t size;

    start(1, 30);
    response = begin_body(); /* over this thread's own loop, which is not driven any more */
    CHECK_OK(get(0, &err));
    CHECK_EQ(read_all(response, &size, &err), IL_ETIMEDOUT);
    il_response_free(response);
    stop();
}

TEST(body_that_nobody_reads_keeps_its_connection_while_nobody_waits_for_it)
{
    struct il_response *response;
    size_t size;

    start(2, 1);
    response = begin_body();
    CHECK_OK(get(0, &err)); /* there is another place */
    CHECK_EQ(il_sleep_ms(5), IL_OK);
    CHECK_OK(get(0, &err));
    CHECK_OK(read_all(response, &size, &err));
    CHECK_EQ(size, BODY_BYTES);
    il_response_free(response);
    stop();
}

TEST(body_keeps_its_connection_until_the_limit_and_for_ever_without_one)
{
    static const uint64_t limits_ms[] = { 600000, IL_NO_LIMIT };

    for (size_t i = 0; i < sizeof(limits_ms) / sizeof(limits_ms[0]); i++) {
        struct il_response *response;
        size_t size;

        start(1, limits_ms[i]);
        response = begin_body();
        CHECK_EQ(get(40, &err), IL_ETIMEDOUT);
        CHECK_EQ(err.phase, IL_PHASE_POOL_WAIT);
        CHECK_OK(read_all(response, &size, &err));
        CHECK_EQ(size, BODY_BYTES);
        CHECK_OK(get(0, &err));
        il_response_free(response);
        stop();
    }
}

/* ---- readers and takers that meet ---- */

TEST_WITH_TIMEOUT(reader_has_the_whole_body_or_is_told_whoever_comes_in_between, 120)
{
    struct readers readers = { .size = BODY_BYTES, .round_count = 40 };

    start(2, 1);
    readers.client = client;
    readers.url = body_url;
    check_readers(&readers);
    stop();
}
