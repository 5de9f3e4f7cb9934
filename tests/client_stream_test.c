/* client_stream_test.c: streamed bodies that end while nobody reads them. */
#include "interloop/client.h"
#include "lab/server.h"
#include "tests/check.h"
#include "tests/own_loop.h"

static struct il_error err;

/* Read the first `size` bytes of the body. */
static void read_part(struct il_response *response, size_t size)
{
    char buffer[500];
    size_t got, offset = 0;

    while (offset < size) {
        CHECK_OK(il_response_read(response, buffer, sizeof(buffer), &got, &err));
        CHECK(got > 0);
        offset += got;
    }
}

/* The event that tells of the last bytes and of the end comes while nobody reads, and never again.
 * Found by `interloop explore`: general under interloop, liveness, seed 5004707. */
TEST(streamed_body_that_breaks_off_while_nobody_reads_is_an_error_at_once)
{
    struct lab_server *server;
    struct il_client *client;
    struct il_response *response;
    struct il_request *request;
    char url[128], byte;
    size_t got;

    CHECK_OK(lab_server_start(NULL, &server, &err));
    CHECK_OK(il_client_new(NULL, &client, &err));
    (void)snprintf(url, sizeof(url),
                   "http://127.0.0.1:%u/bytes/1000?chunked=1&pause_at=500&pause_hold=middle",
                   lab_server_port(server));
    CHECK_OK(il_request_new("GET", url, &request, &err));
    CHECK_EQ(il_request_set_timeout_ms(request, IL_PHASE_READ, 5000), IL_OK);
    CHECK_OK(il_send_streaming(client, request, &response, &err));
    read_part(response, 500);
    CHECK(lab_server_wait_held(server, "middle", 1, lab_in_ms(50000)));
    CHECK_OK(lab_server_write(server, 1, "1", 1, &err)); /* the beginning of a chunk's size */
    CHECK_OK(lab_server_close(server, 1, LAB_CLOSE_FIN, &err));
    turn_own_loop(); /* it is told */
    CHECK_EQ(il_response_read(response, &byte, 1, &got, &err), IL_EPEERCLOSED);
    il_response_free(response);
    il_request_free(request);
    client = il_client_unref(client);
    lab_server_stop(server);
}

/* What the first read that fails says. */
static void read_to_failure(const struct il_client_options *options, const char *url)
{
    struct il_client *client;
    struct il_request *request;
    struct il_response *response;
    char piece[64];
    size_t got;
    enum il_code code;

    CHECK_OK(il_client_new(options, &client, &err));
    CHECK_OK(il_request_new("GET", url, &request, &err));
    CHECK_OK(il_send_streaming(client, request, &response, &err));
    do {
        code = il_response_read(response, piece, sizeof(piece), &got, &err);
        CHECK(code != IL_OK || got > 0);
    } while (code == IL_OK);
    CHECK_EQ(il_response_read(response, piece, sizeof(piece), &got, NULL), IL_EINVAL);
    il_response_free(response);
    il_request_free(request);
    client = il_client_unref(client);
}

TEST(read_that_fails_names_server_phase_and_how_much_had_come)
{
    static const struct {
        const char *path, *words;
        enum il_code code;
        uint64_t read_timeout_ms;
    } cases[] = {
        { "cut_at=500", " after 500 of 1000 bytes of the response's body", IL_EPEERCLOSED, 0 },
        { "cut_at=500&chunked=1", " after 500 bytes of ", IL_EPEERCLOSED, 0 },
        { "pause_at=500&pause_hold=for_ever", "phase read: waited ", IL_ETIMEDOUT, 20 },
    };
    struct il_client_options clients[] = { IL_CLIENT_OPTIONS_INIT, IL_CLIENT_OPTIONS_INIT };
    struct lab_server *server;

    clients[1].http_version = IL_HTTP_2_PRIOR_KNOWLEDGE;
    CHECK_OK(lab_server_start(NULL, &server, &err));
    for (size_t i = 0; i < il_array_count(cases) * 2; i++) {
        char name[32], url[128];

        (void)snprintf(name, sizeof(name), "GET 127.0.0.1:%u", lab_server_port(server));
        (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/bytes/1000?%s",
                       lab_server_port(server), cases[i / 2].path);
        clients[i % 2].read_timeout_ms = cases[i / 2].read_timeout_ms;
        read_to_failure(&clients[i % 2], url);
        CHECK_EQ(err.code, cases[i / 2].code);
        CHECK_EQ(err.phase, IL_PHASE_READ);
        CHECK_CONTAINS(err.message, cases[i / 2].words);
        CHECK_CONTAINS(err.message, name + 4);
    }
    lab_server_stop(server);
}
