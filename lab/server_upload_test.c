/* server_upload_test.c: what the lab server does with requests that have a body: taking it,
 * answering before it, not reading it, and 100 Continue. */
#include <stdlib.h>

#include "base/base.h"
#include "lab/raw_client.h"
#include "tests/check.h"

static struct raw_answer answer;

static struct lab_server *server;
static struct raw *raw;

/* A server, and a client connected to it. */
static void open_both(void)
{
    server = raw_server_start(NULL);
    raw = raw_open(server);
}

static void close_both(void)
{
    raw_close(raw);
    raw_server_stop(server);
}

/* The connection serves another request. */
static void check_alive(void)
{
    raw_get(raw, "/id/alive", &answer);
    CHECK_STR(answer.body, "alive");
}

static const char *header(const char *name)
{
    static char value[512];

    return raw_header(&answer, name, value, sizeof(value));
}

/* Send `size` bytes of the pattern as a body; returns their hash. */
static uint64_t upload(size_t size)
{
    static char part[1 << 16];
    uint64_t hash = LAB_HASH_INIT;

    for (size_t sent = 0; sent < size; sent += sizeof(part)) {
        size_t length = il_min_u64(size - sent, sizeof(part));

        lab_pattern_fill(part, length, 1, sent);
        hash = lab_hash(hash, part, length);
        raw_send_bytes(raw, part, length);
    }
    return hash;
}

/* ---- uploads ---- */

TEST(echo_returns_request_line_header_and_body)
{
    open_both();
    raw_send(raw, "PUT /echo?any=thing HTTP/1.1\r\nHost: lab\r\nX-Empty:\r\nContent-Length: 5\r\n"
                  "\r\nhello");
    raw_read_answer(raw, false, &answer);
    CHECK_STR(answer.body, "PUT /echo?any=thing HTTP/1.1\nHost: lab\nX-Empty: \n"
                           "Content-Length: 5\n\nhello");
    CHECK_STR(header("X-Method"), "PUT");
    CHECK_EQ(raw_header_number(&answer, "X-Body-Bytes"), 5);
    raw_send(raw, "POST /echo?only_body=1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    raw_read_answer(raw, false, &answer);
    CHECK_STR(answer.body, "abc");
    raw_get(raw, "/echo", &answer); /* of the earlier requests nothing is left */
    CHECK_STR(answer.body, "GET /echo HTTP/1.1\nHost: lab\n\n");
    close_both();
}

TEST(echo_answers_all_methods)
{
    static const char *const methods[] = { "GET",     "POST",  "PUT",   "DELETE",  "PATCH",
                                           "OPTIONS", "TRACE", "PURGE", "PROPFIND" };

    open_both();
    for (size_t i = 0; i < il_array_count(methods); i++) {
        raw_send(raw, methods[i]);
        raw_send(raw, " /echo HTTP/1.1\r\n\r\n");
        raw_read_answer(raw, false, &answer);
        CHECK_STR(header("X-Method"), methods[i]);
    }
    raw_send(raw, "GET /echo HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    raw_read_answer(raw, false, &answer); /* the upgrade is not taken up */
    CHECK_EQ(answer.status, 200);
    raw_send(raw, "CONNECT example.com:443 HTTP/1.1\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.status, 404);
    raw_send(raw, "OPTIONS * HTTP/1.1\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.status, 200);
    check_alive();
    close_both();
}

TEST(echo_unpacks_chunked_uploads_and_marks_trailers)
{
    open_both();
    raw_send(raw, "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_STR(answer.body, "POST /echo HTTP/1.1\nTransfer-Encoding: chunked\n"
                           "(trailer) X-Sum: 5\n\nabcde");
    check_alive();
    close_both();
}

static void check_sunk(size_t size, uint64_t hash)
{
    char want[96];

    raw_read_answer(raw, false, &answer);
    (void)snprintf(want, sizeof(want), "bytes %zu\nhash %016" PRIx64 "\n", size, hash);
    CHECK_STR(answer.body, want);
}

TEST(large_echoed_body_is_not_kept_for_ever)
{
    struct il_memory_use before, after;

    open_both();
    il_memory_use(&before);
    raw_send(raw, "POST /echo?only_body=1 HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n");
    (void)upload(3000000);
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.body_size, 3000000);
    CHECK(lab_pattern_matches(answer.body, sizeof(answer.body) - 1, 1, 0));
    check_alive();
    il_memory_use(&after);
    CHECK(after.live_bytes < before.live_bytes + 100000);
    close_both();
}

TEST(echo_answers_500_when_there_is_no_memory_for_the_body)
{
    open_both();
    raw_send(raw, "POST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    raw_read_answer(raw, false, &answer); /* now there is room for a small one */
    raw_send(raw, "POST /echo HTTP/1.1\r\nContent-Length: 5000\r\n"
                  "Expect: 100-continue\r\n\r\n");
    raw_read_until(raw, "100 Continue\r\n\r\n");
    il_memory_fail_after(0);
    (void)upload(5000);
    raw_read_answer(raw, false, &answer);
    il_memory_fail_after(UINT64_MAX);
    CHECK_EQ(answer.status, 500);
    CHECK_STR(answer.body, "out of memory for the request's body\n");
    close_both();
}

TEST(sink_counts_and_hashes_a_large_upload)
{
    uint64_t hash;

    open_both();
    raw_send(raw, "POST /sink HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n");
    hash = upload(5000000);
    check_sunk(5000000, hash);
    raw_get(raw, "/sink", &answer);
    CHECK_STR(answer.body, "bytes 0\nhash cbf29ce484222325\n");
    close_both();
}

/* ---- before the body ---- */

TEST(early_answers_before_the_body_and_discards_it)
{
    open_both();
    raw_send(raw, "POST /early?status=403 HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.status, 403);
    CHECK(lab_server_wait_answered(server, "/early", 1, raw_soon()));
    raw_send(raw, "hello");
    check_alive();
    raw_send(raw, "POST /early HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello");
    raw_read_answer(raw, false, &answer);
    check_alive();
    raw_send(raw, "POST /early?close=1 HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_STR(header("Connection"), "close");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    close_both();
}

TEST(slow_read_leaves_the_upload_in_the_socket_until_released)
{
    static char part[1 << 16];
    struct lab_server_options options = { .receive_buffer_bytes = 16384 };
    size_t size = 64 << 20, sent = 0;
    uint64_t hash = LAB_HASH_INIT;
    unsigned full = 0;

    server = raw_server_start(&options);
    raw = raw_open(server);
    lab_pattern_fill(part, sizeof(part), 1, 0);
    raw_send(raw, "POST /slow-read?hold=go HTTP/1.1\r\nContent-Length: 67108864\r\n\r\n");
    CHECK(lab_server_wait_held(server, "go", 1, raw_soon()));
    while (full == 0) { /* it does not take 64 MiB without anybody reading */
        size_t length =
            raw_send_some(raw, part + sent % sizeof(part), sizeof(part) - sent % sizeof(part));

        CHECK(sent < size);
        full += length == 0;
        sent += length;
    }
    CHECK_EQ(lab_server_release(server, "go", 1), IL_OK);
    while (sent < size) {
        size_t length = il_min_u64(sizeof(part) - sent % sizeof(part), size - sent);

        raw_send_bytes(raw, part + sent % sizeof(part), length);
        sent += length;
    }
    for (size_t i = 0; i < size; i += sizeof(part)) {
        hash = lab_hash(hash, part, sizeof(part));
    }
    check_sunk(size, hash);
    raw_send(raw, "POST /slow-read HTTP/1.1\r\nContent-Length: 1\r\n\r\n!");
    CHECK(lab_server_wait_requests(server, "/slow-read", 2, raw_soon()));
    CHECK(raw_is_quiet(raw));
    close_both();
}

TEST(slow_read_begins_to_read_after_its_delay)
{
    open_both();
    raw_send(raw, "POST /slow-read?delay_ms=5 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    check_sunk(3, lab_hash(LAB_HASH_INIT, "abc", 3));
    close_both();
}

TEST(expected_continue_is_sent_by_every_path)
{
    static const char *const targets[] = { "/echo", "/sink", "/expect", "/hello" };

    open_both();
    for (size_t i = 0; i < il_array_count(targets); i++) {
        raw_send(raw, "POST ");
        raw_send(raw, targets[i]);
        raw_send(raw, " HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
        raw_read_until(raw, "HTTP/1.1 100 Continue\r\n\r\n");
        CHECK(raw_is_quiet(raw));
        raw_send(raw, "abc");
        raw_read_answer(raw, false, &answer);
        CHECK_EQ(answer.status, 200);
        CHECK_EQ(answer.informational_count, 1);
    }
    close_both();
}

TEST(a_request_without_a_body_is_answered_although_its_head_has_a_script)
{
    static const char *const heads[] = {
        "GET /hello HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
        "GET /expect HTTP/1.1\r\n\r\n",
        "POST /slow-read?delay_ms=1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "GET /early HTTP/1.1\r\n\r\n",
    };

    open_both();
    for (size_t i = 0; i < il_array_count(heads); i++) {
        raw_send(raw, heads[i]);
        raw_read_answer(raw, false, &answer);
        CHECK_EQ(answer.status, 200);
    }
    check_alive();
    close_both();
}

TEST(expect_answers_late_never_or_otherwise)
{
    open_both();
    raw_send(raw, "POST /expect?hold=go HTTP/1.1\r\nExpect: 100-continue\r\n"
                  "Content-Length: 3\r\n\r\n");
    CHECK(lab_server_wait_held(server, "go", 1, raw_soon()));
    CHECK(raw_is_quiet(raw));
    CHECK_EQ(lab_server_release(server, "go", 1), IL_OK);
    raw_read_until(raw, "100 Continue\r\n\r\n");
    raw_send(raw, "abc");
    check_sunk(3, lab_hash(LAB_HASH_INIT, "abc", 3));
    raw_send(raw, "POST /expect?never=1 HTTP/1.1\r\nExpect: 100-continue\r\n"
                  "Content-Length: 3\r\n\r\n");
    CHECK(lab_server_wait_requests(server, "/expect", 2, raw_soon()));
    CHECK(raw_is_quiet(raw));
    raw_send(raw, "abc");
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.informational_count, 0);
    raw_send(raw, "POST /expect?status=417&close=1 HTTP/1.1\r\nExpect: 100-continue\r\n"
                  "Content-Length: 3\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.status, 417);
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    close_both();
}
