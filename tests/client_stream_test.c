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
    CHECK(lab_server_wait_held(server, "middle", 1, lab_in_ms(10000)));
    CHECK_OK(lab_server_write(server, 1, "1", 1, &err)); /* the beginning of a chunk's size */
    CHECK_OK(lab_server_close(server, 1, LAB_CLOSE_FIN, &err));
    turn_own_loop(); /* it is told */
    CHECK_EQ(il_response_read(response, &byte, 1, &got, &err), IL_EPEERCLOSED);
    il_response_free(response);
    il_request_free(request);
    client = il_client_unref(client);
    lab_server_stop(server);
}
