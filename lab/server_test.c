/* server_test.c: what tests may rely on when they use the lab server: control, counters, waiting,
 * limits, and that nothing is left when it has stopped. */
#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"
#include "lab/raw_client.h"
#include "tests/check.h"

static struct raw_answer answer;

static struct lab_server *start(const struct lab_server_options *options)
{
    struct lab_server *server;
    struct il_error err;

    CHECK_OK(lab_server_start(options, &server, &err));
    return server;
}

static uint64_t soon(void)
{
    return lab_in_ms(RAW_DEADLINE_MS);
}

TEST(server_answers_on_a_port_of_its_own)
{
    struct lab_server *server = start(NULL);
    struct raw *raw = raw_open(server);

    CHECK(lab_server_port(server) != 0);
    raw_get(raw, "/hello", &answer);
    CHECK_EQ(answer.status, 200);
    CHECK_STR(answer.body, "hello\n");
    CHECK_EQ(raw_header_number(&answer, "X-Connection"), 1);
    CHECK_EQ(raw_header_number(&answer, "X-Request"), 1);
    raw_get(raw, "/hello", &answer);
    CHECK_EQ(raw_header_number(&answer, "X-Request"), 2);
    raw_close(raw);
    lab_server_stop(server);
}

TEST(held_request_is_answered_when_its_gate_is_released)
{
    struct lab_server *server = start(NULL);
    struct raw *raw = raw_open(server);

    raw_send(raw, "GET /hold/a HTTP/1.1\r\n\r\n");
    CHECK(lab_server_wait_held(server, "a", 1, soon()));
    CHECK(raw_is_quiet(raw));
    CHECK_EQ(lab_server_release(server, "b", LAB_RELEASE_ALL), IL_OK);
    CHECK_EQ(lab_server_held(server, "a"), 1);
    CHECK(raw_is_quiet(raw));
    CHECK_EQ(lab_server_release(server, "a", 1), IL_OK);
    CHECK_EQ(lab_server_held(server, "a"), 0);
    raw_read_answer(raw, false, &answer);
    CHECK_STR(answer.body, "released\n");
    raw_close(raw);
    lab_server_stop(server);
}
