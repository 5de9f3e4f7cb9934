/* client_upload_test.c: uploads that the server does not let come to their end, in HTTP/1.1 and
 * HTTP/2. */
#include "tests/client_check.h"

static const enum il_http_version versions[] = { IL_HTTP_1_1, IL_HTTP_2_PRIOR_KNOWLEDGE };

static void start_with(enum il_http_version version)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.http_version = version;
    server_start();
    client_start(&options);
}

/* GET /hello, over the connection of before or another one. */
static void check_next_request(bool is_reused)
{
    struct il_response_timing timing;
    struct il_response *response;

    CHECK_OK(il_get(client, url("/hello"), &response, &err));
    il_response_timing(response, &timing);
    CHECK_EQ(timing.was_reused, is_reused);
    il_response_free(response);
}

/* ---- an answer before the end ---- */

struct endless {
    const char *path;
    uint64_t read_count;
};

/* The first bytes; then nothing before the server has answered; then more than anybody waits for.
 */
static enum il_code endless_read(void *arg, void *buffer, size_t size, size_t *ret_size)
{
    struct endless *endless = arg;

    if (endless->read_count == 1) {
        CHECK(lab_server_wait_answered(server, endless->path, 1, lab_in_ms(50000)));
    }
    CHECK(++endless->read_count < 1000000);
    memset(buffer, 'x', size);
    *ret_size = size;
    return IL_OK;
}

static void check_early_answer(enum il_http_version version, uint64_t length, const char *path,
                               const char *query, bool expects)
{
    struct endless endless = { .path = path };
    struct il_request *request;
    struct il_response *response;
    char target[64];

    start_with(version);
    (void)snprintf(target, sizeof(target), "%s%s", path, query);
    CHECK_OK(il_request_new("POST", url(target), &request, &err));
    CHECK_OK(il_request_set_body_source(request, endless_read, &endless, length, &err));
    if (expects) {
        CHECK_OK(il_request_add_header(request, "Expect", "100-continue", &err));
    }
    CHECK_OK(il_send(client, request, &response, &err));
    CHECK_EQ(il_response_status(response), 413);
    il_response_free(response);
    il_request_free(request);
    /* In HTTP/1.1 the rest of the body would be taken for a request; in HTTP/2 it is one stream's.
     */
    check_next_request(version == IL_HTTP_2_PRIOR_KNOWLEDGE && strstr(query, "close") == NULL);
    stop();
}

TEST(answer_before_the_end_of_an_upload_is_the_answer_and_ends_the_upload)
{
    static const uint64_t lengths[] = { (uint64_t)1 << 40, IL_LENGTH_UNKNOWN };

    for (size_t i = 0; i < il_array_count(versions); i++) {
        for (size_t j = 0; j < il_array_count(lengths); j++) {
            check_early_answer(versions[i], lengths[j], "/early", "?status=413", false);
            check_early_answer(versions[i], lengths[j], "/early", "?status=413&close=1", false);
            check_early_answer(versions[i], lengths[j], "/expect", "?status=413", true);
        }
    }
}

/* ---- no answer ---- */

static const size_t upload_size = 16 << 20; /* more than sockets hold */

static void *upload(void *arg)
{
    struct il_request *request;
    struct il_response *response;
    char *body = calloc(1, upload_size);
    static enum il_code code;

    CHECK_OK(il_request_new(arg, url("/slow-read"), &request, &err));
    CHECK_OK(il_request_set_body(request, body, upload_size, &err));
    code = il_send(client, request, &response, &err);
    il_request_free(request);
    free(body);
    return &code;
}

static void check_broken_upload(enum il_http_version version, const char *method,
                                enum lab_close how)
{
    struct lab_server_counters counters;
    struct il_client_stats stats;
    pthread_t thread;
    struct il_error close_err;
    void *code;

    start_with(version);
    CHECK_EQ(pthread_create(&thread, NULL, upload, (void *)method), 0);
    CHECK(lab_server_wait_requests(server, "/slow-read", 1, lab_in_ms(50000)));
    CHECK_EQ(lab_server_close(server, 1, how, &close_err), IL_OK);
    CHECK_EQ(pthread_join(thread, &code), 0);
    CHECK_EQ(*(enum il_code *)code, IL_EPEERCLOSED);
    CHECK_EQ(err.phase, IL_PHASE_WRITE);
    il_client_stats(client, &stats);
    CHECK_EQ(stats.retries_total, 0); /* nobody knows what the server has done with it */
    lab_server_counters(server, &counters);
    CHECK_EQ(counters.by[lab_server_behaviour("/slow-read")].request_count, 1);
    check_next_request(false);
    stop();
}

TEST(server_that_leaves_in_the_middle_of_an_upload_is_an_error_and_nothing_is_sent_twice)
{
    static const enum lab_close closes[] = { LAB_CLOSE_FIN, LAB_CLOSE_RST };

    for (size_t i = 0; i < il_array_count(versions); i++) {
        for (size_t j = 0; j < il_array_count(closes); j++) {
            check_broken_upload(versions[i], "POST", closes[j]);
            check_broken_upload(versions[i], "PUT", closes[j]);
        }
    }
}
