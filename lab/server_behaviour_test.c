/* server_behaviour_test.c: each behaviour of the lab server, as it looks on the wire. */
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

static void reopen(void)
{
    raw_close(raw);
    raw = raw_open(server);
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

/* ---- plain answers ---- */

TEST(root_and_hello_answer_200)
{
    open_both();
    raw_get(raw, "/", &answer);
    CHECK_EQ(answer.status, 200);
    CHECK_STR(answer.body, "hello\n");
    raw_get(raw, "/hello", &answer);
    CHECK_STR(answer.body, "hello\n");
    CHECK_STR(header("Content-Type"), "text/plain");
    raw_get(raw, "http://proxied.example/id/via-proxy", &answer);
    CHECK_STR(answer.body, "via-proxy");
    raw_get(raw, "http://proxied.example", &answer);
    CHECK_STR(answer.body, "hello\n");
    close_both();
}

TEST(unknown_path_answers_404_and_keeps_the_connection)
{
    open_both();
    raw_get(raw, "/nothing/here?a=b", &answer);
    CHECK_EQ(answer.status, 404);
    raw_get(raw, "/hello/too-much", &answer);
    CHECK_EQ(answer.status, 404);
    check_alive();
    close_both();
}

TEST(help_lists_every_behaviour_in_lines_that_fit)
{
    const char *path, *query, *does;

    open_both();
    raw_get(raw, "/help", &answer);
    for (size_t i = 0; lab_server_behaviour_at(i, &path, &query, &does); i++) {
        char line[64];

        (void)snprintf(line, sizeof(line), "  %s ", path);
        CHECK_CONTAINS(answer.body, line);
        CHECK_EQ(lab_server_behaviour(path), i);
        CHECK(strlen(does) > 0);
    }
    for (const char *line = answer.body; *line != '\0'; line += strcspn(line, "\n") + 1) {
        CHECK(strcspn(line, "\n") <= 100);
    }
    close_both();
}

TEST(every_parameter_the_table_knows_is_explained)
{
    const char *path, *query, *does;

    for (size_t i = 0; lab_server_behaviour_at(i, &path, &query, &does); i++) {
        while (*query != '\0' && *query != '*') {
            char want[64];
            size_t size = strcspn(query, " ");

            (void)snprintf(want, sizeof(want), "%.*s=", (int)size, query);
            if (strstr(does, want) == NULL) {
                check_fail(__FILE__, __LINE__, "%s does not explain %s", path, want);
            }
            query += size;
            query += *query == ' ';
        }
    }
}

TEST(id_comes_back_in_body_and_header)
{
    open_both();
    raw_get(raw, "/id/a-token.7", &answer);
    CHECK_STR(answer.body, "a-token.7");
    CHECK_STR(header("X-Token"), "a-token.7");
    raw_get(raw, "/id/other?n=1", &answer);
    CHECK_STR(answer.body, "other");
    close_both();
}

TEST(head_gets_the_header_alone)
{
    static const char *const targets[] = {
        "/hello",     "/id/abc", "/bytes/10",   "/help",          "/bytes/10?chunked=1",
        "/echo",      "/drip",   "/status/500", "/huge-header/9", "/many-headers/9",
        "/trailers/2"
    };

    open_both();
    for (size_t i = 0; i < il_array_count(targets); i++) {
        raw_send(raw, "HEAD ");
        raw_send(raw, targets[i]);
        raw_send(raw, " HTTP/1.1\r\n\r\n");
        raw_read_answer(raw, true, &answer);
        CHECK(header("Content-Length") != NULL || header("Transfer-Encoding") != NULL);
        check_alive(); /* nothing was left over */
    }
    close_both();
}

TEST(status_is_as_asked_with_no_body_where_none_is_allowed)
{
    static const unsigned codes[] = { 200, 201, 204, 304, 400, 404, 418, 500, 503, 599, 999 };

    open_both();
    for (size_t i = 0; i < il_array_count(codes); i++) {
        char target[32];

        (void)snprintf(target, sizeof(target), "/status/%u", codes[i]);
        raw_get(raw, target, &answer);
        CHECK_EQ(answer.status, codes[i]);
        CHECK(strstr(answer.head, "HTTP/1.1 ") == answer.head);
        CHECK_EQ(answer.body_size, codes[i] == 204 || codes[i] == 304 ? 0 : 7);
    }
    check_alive();
    close_both();
}

TEST(redirects_count_down_loop_and_go_where_told)
{
    open_both();
    raw_get(raw, "/redirect/2", &answer);
    CHECK_EQ(answer.status, 302);
    CHECK_STR(header("Location"), "/redirect/1");
    raw_get(raw, "/redirect/2?status=307", &answer);
    CHECK_EQ(answer.status, 307);
    CHECK_STR(header("Location"), "/redirect/1?status=307");
    raw_get(raw, "/redirect/0", &answer);
    CHECK_EQ(answer.status, 200);
    CHECK_STR(answer.body, "arrived\n");
    raw_get(raw, "/redirect/loop", &answer);
    CHECK_STR(header("Location"), "/redirect/loop");
    raw_get(raw, "/redirect/1?to=http%3A%2F%2Fother%2F%3Fa%3Db", &answer);
    CHECK_STR(header("Location"), "http://other/?a=b");
    close_both();
}

TEST(counters_are_served_as_json)
{
    open_both();
    raw_get(raw, "/hello", &answer);
    raw_get(raw, "/counters", &answer);
    CHECK_CONTAINS(answer.body,
                   "{\"accepted\": 1, \"open\": 1, \"idle\": 0, \"held\": 0, \"queued\": 0, ");
    CHECK_CONTAINS(answer.body, "\"requests\": 2, \"answered\": 1, ");
    close_both();
}

/* ---- bodies ---- */

TEST(bytes_are_the_pattern_of_their_seed)
{
    open_both();
    raw_get(raw, "/bytes/50000?seed=7", &answer);
    CHECK_EQ(answer.body_size, 50000);
    CHECK_EQ(raw_header_number(&answer, "Content-Length"), 50000);
    CHECK(lab_pattern_matches(answer.body, 50000, 7, 0));
    CHECK(!lab_pattern_matches(answer.body, 50000, 8, 0));
    CHECK(lab_pattern_matches(answer.body + 12345, 1000, 7, 12345));
    raw_get(raw, "/bytes/0", &answer);
    CHECK_EQ(answer.body_size, 0);
    raw_get(raw, "/bytes/1", &answer);
    CHECK(lab_pattern_matches(answer.body, 1, 0, 0));
    check_alive();
    close_both();
}

TEST(bytes_come_in_chunks_of_the_size_asked_for)
{
    open_both();
    raw_get(raw, "/bytes/50001?seed=3&chunked=1", &answer);
    CHECK_STR(header("Transfer-Encoding"), "chunked");
    CHECK_EQ(answer.body_size, 50001);
    CHECK(lab_pattern_matches(answer.body, 50001, 3, 0));
    raw_get(raw, "/bytes/50001?chunked=1&chunk=8192", &answer);
    CHECK(lab_pattern_matches(answer.body, 50001, 0, 0));
    raw_get(raw, "/bytes/0?chunked=1", &answer);
    CHECK_EQ(answer.body_size, 0);
    raw_send(raw, "GET /bytes/5?chunked=1&chunk=2 HTTP/1.1\r\n\r\n");
    raw_read_until(raw, "\r\n0\r\n\r\n");
    CHECK_CONTAINS(raw->in, "\r\n\r\n2\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.body_size, 5);
    check_alive();
    close_both();
}

TEST(bytes_may_end_with_the_connection)
{
    open_both();
    raw_get(raw, "/bytes/40000?close=1&seed=2", &answer);
    CHECK(header("Content-Length") == NULL);
    CHECK(header("Transfer-Encoding") == NULL);
    CHECK_STR(header("Connection"), "close");
    CHECK_EQ(raw->end, RAW_FIN);
    CHECK_EQ(answer.body_size, 40000);
    CHECK(lab_pattern_matches(answer.body, 40000, 2, 0));
    close_both();
}

/* Bytes of the body that have been read. */
static size_t body_so_far(void)
{
    const char *end = memmem(raw->in, raw->in_size, "\r\n\r\n", 4);

    return end == NULL ? 0 : raw->in_size - (size_t)(end + 4 - raw->in);
}

TEST(bytes_pause_where_told_until_released)
{
    open_both();
    raw_send(raw, "GET /bytes/10000?pause_at=4000&pause_hold=mid HTTP/1.1\r\n\r\n");
    CHECK(lab_server_wait_held(server, "mid", 1, raw_soon()));
    while (body_so_far() < 4000) {
        CHECK(raw_read(raw));
    }
    CHECK_EQ(body_so_far(), 4000);
    CHECK(raw_is_quiet(raw));
    CHECK_EQ(lab_server_release(server, "mid", 1), IL_OK);
    raw_read_answer(raw, false, &answer);
    CHECK(lab_pattern_matches(answer.body, 10000, 0, 0));
    check_alive();
    close_both();
}

TEST(bytes_pause_for_a_time_in_the_middle)
{
    uint64_t earliest_ns;

    open_both();
    earliest_ns = lab_in_ms(30);
    raw_get(raw, "/bytes/10000?pause_ms=30&chunked=1&chunk=100", &answer);
    CHECK(lab_in_ms(0) >= earliest_ns);
    CHECK(lab_pattern_matches(answer.body, 10000, 0, 0));
    check_alive();
    close_both();
}

TEST(bytes_are_cut_or_reset_after_as_many_as_asked)
{
    open_both();
    raw_send(raw, "GET /bytes/10000?cut_at=123 HTTP/1.1\r\n\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    CHECK_CONTAINS(raw->in, "Content-Length: 10000\r\n");
    CHECK_EQ(body_so_far(), 123);
    reopen();
    raw_send(raw, "GET /bytes/10000?cut_at=0 HTTP/1.1\r\n\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    CHECK_EQ(body_so_far(), 0);
    reopen();
    raw_send(raw, "GET /bytes/10?cut_at=4&chunked=1 HTTP/1.1\r\n\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    CHECK_EQ(body_so_far(), strlen("4\r\n") + 4 + strlen("\r\n"));
    reopen();
    raw_send(raw, "GET /bytes/10000?rst_at=123 HTTP/1.1\r\n\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_RST); /* what was sent before may be lost with it */
    CHECK(body_so_far() <= 123);
    close_both();
}

TEST(drip_sends_a_little_at_a_time)
{
    uint64_t earliest_ns;

    open_both();
    earliest_ns = lab_in_ms(4 * 5);
    raw_get(raw, "/drip?bytes=10&size=2&every_ms=5", &answer);
    CHECK(lab_in_ms(0) >= earliest_ns); /* five drips, four pauses */
    CHECK(lab_pattern_matches(answer.body, 10, 0, 0));
    raw_send(raw, "GET /drip?bytes=2&every_ms=86400000 HTTP/1.1\r\n\r\n");
    while (body_so_far() < 1) {
        CHECK(raw_read(raw));
    }
    CHECK_EQ(body_so_far(), 1);
    CHECK(raw_is_quiet(raw));
    close_both();
}

TEST(trailers_follow_the_last_chunk)
{
    open_both();
    raw_send(raw, "GET /trailers/2 HTTP/1.1\r\n\r\n");
    raw_read_until(raw, "0\r\nX-Filler-00000000: vvvvvvvvvvvvvvvvv\r\n"
                        "X-Filler-00000001: vvvvvvvvvvvvvvvvv\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_STR(answer.body, "hello");
    check_alive();
    raw_send(raw, "GET /trailers/2 HTTP/1.0\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.status, 400);
    close_both();
}

/* ---- time, and no answer ---- */

TEST(delay_answers_after_its_time)
{
    uint64_t earliest_ns;

    open_both();
    earliest_ns = lab_in_ms(30);
    raw_get(raw, "/delay/30", &answer);
    CHECK(lab_in_ms(0) >= earliest_ns);
    CHECK_STR(answer.body, "delayed\n");
    earliest_ns = lab_in_ms(30);
    raw_get(raw, "/hello?delay_ms=30", &answer);
    CHECK(lab_in_ms(0) >= earliest_ns);
    raw_get(raw, "/delay/0", &answer);
    CHECK_EQ(answer.status, 200);
    close_both();
}

TEST(any_path_is_held_by_its_query)
{
    open_both();
    raw_send(raw, "GET /bytes/10?hold=here HTTP/1.1\r\n\r\n");
    CHECK(lab_server_wait_held(server, "here", 1, raw_soon()));
    CHECK(raw_is_quiet(raw));
    CHECK_EQ(lab_server_release(server, "here", 1), IL_OK);
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.body_size, 10);
    close_both();
}

TEST(gates_are_released_over_http_too)
{
    struct raw *other;

    open_both();
    other = raw_open(server);
    raw_send(raw, "GET /hold/a HTTP/1.1\r\n\r\n");
    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    raw_get(other, "/release/a?count=1", &answer);
    CHECK_STR(answer.body, "let so many through\n");
    raw_read_answer(raw, false, &answer);
    CHECK_STR(answer.body, "released\n");
    raw_get(other, "/release/a", &answer);
    CHECK_STR(answer.body, "open for good\n");
    raw_get(raw, "/hold/a", &answer);
    raw_get(raw, "/hold/a", &answer);
    CHECK_EQ(answer.status, 200);
    raw_close(other);
    close_both();
}

TEST(never_does_not_answer_but_reads_the_request)
{
    open_both();
    raw_send(raw, "POST /never HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    CHECK(lab_server_wait_requests(server, "/never", 1, raw_soon()));
    CHECK(raw_is_quiet(raw));
    close_both();
}

TEST(close_and_reset_end_without_an_answer)
{
    open_both();
    raw_send(raw, "GET /close HTTP/1.1\r\n\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    CHECK_EQ(raw->in_size, 0);
    reopen();
    raw_send(raw, "GET /reset HTTP/1.1\r\n\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_RST);
    CHECK_EQ(raw->in_size, 0);
    close_both();
}

TEST(flaky_fails_as_often_as_told_and_then_answers)
{
    open_both();
    for (unsigned i = 0; i < 2; i++) {
        raw_send(raw, "GET /flaky/a?fails=2 HTTP/1.1\r\n\r\n");
        CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
        reopen();
    }
    raw_get(raw, "/flaky/a?fails=2", &answer);
    CHECK_STR(answer.body, "well again\n");
    raw_get(raw, "/flaky/b?status=503", &answer);
    CHECK_EQ(answer.status, 503);
    raw_get(raw, "/flaky/b?status=503", &answer);
    CHECK_EQ(answer.status, 200);
    raw_send(raw, "GET /flaky/c?rst=1 HTTP/1.1\r\n\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_RST);
    close_both();
}

/* ---- the connection after the answer ---- */

TEST(close_after_promises_keep_alive_and_closes)
{
    open_both();
    raw_get(raw, "/close-after", &answer);
    CHECK(header("Connection") == NULL);
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    CHECK_EQ(raw->in_size, 0);
    reopen();
    raw_send(raw, "GET /close-after?rst=1 HTTP/1.1\r\n\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_RST);
    close_both();
}

TEST(idle_close_closes_the_idle_connection_later)
{
    uint64_t earliest_ns;

    open_both();
    earliest_ns = lab_in_ms(30);
    raw_get(raw, "/idle-close/30", &answer);
    CHECK(header("Connection") == NULL);
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    CHECK(lab_in_ms(0) >= earliest_ns);
    reopen();
    raw_get(raw, "/idle-close/1?rst=1", &answer);
    CHECK_EQ(raw_read_to_end(raw), RAW_RST);
    reopen();
    raw_get(raw, "/idle-close/86400000", &answer);
    check_alive(); /* a request in between calls it off */
    close_both();
}

TEST(extra_sends_more_than_was_asked_for)
{
    open_both();
    raw_get(raw, "/extra", &answer);
    CHECK_STR(answer.body, "mine\n");
    raw_read_answer(raw, false, &answer);
    CHECK_STR(answer.body, "foreign\n");
    CHECK_STR(header("X-Token"), "foreign");
    raw_get(raw, "/extra?bytes=5", &answer);
    raw_read_until(raw, "xxxxx");
    CHECK_EQ(raw->in_size, 5);
    close_both();
}

TEST(unasked_bytes_come_onto_the_idle_connection)
{
    open_both();
    raw_get(raw, "/unasked?after_hold=now", &answer);
    CHECK_STR(answer.body, "mine\n");
    CHECK(lab_server_wait_held(server, "now", 1, raw_soon()));
    CHECK(raw_is_quiet(raw));
    CHECK_EQ(lab_server_release(server, "now", 1), IL_OK);
    raw_read_answer(raw, false, &answer);
    CHECK_STR(answer.body, "foreign\n");
    check_alive();
    raw_get(raw, "/unasked?after_ms=1&bytes=4&close=1", &answer);
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    CHECK_STR(raw->in, "xxxx");
    close_both();
}

TEST(request_on_the_idle_connection_calls_unasked_bytes_off)
{
    open_both();
    raw_get(raw, "/unasked?after_hold=now", &answer);
    CHECK(lab_server_wait_held(server, "now", 1, raw_soon()));
    check_alive();
    CHECK_EQ(lab_server_held(server, "now"), 0);
    CHECK_EQ(lab_server_release(server, "now", LAB_RELEASE_ALL), IL_OK);
    CHECK(raw_is_quiet(raw));
    close_both();
}

TEST(connection_close_in_the_request_is_honoured)
{
    open_both();
    raw_send(raw, "GET /hello HTTP/1.1\r\nConnection: close\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_STR(header("Connection"), "close");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    close_both();
}

/* ---- before the answer ---- */

TEST(informational_responses_come_before_the_answer)
{
    open_both();
    raw_get(raw, "/1xx/3", &answer);
    CHECK_EQ(answer.informational_count, 3);
    CHECK_STR(answer.body, "final\n");
    raw_get(raw, "/1xx/0", &answer);
    CHECK_EQ(answer.informational_count, 0);
    raw_get(raw, "/1xx/5000?code=102", &answer);
    CHECK_EQ(answer.informational_count, 5000);
    check_alive();
    close_both();
}

/* ---- broken answers ---- */

TEST(garbage_is_not_http)
{
    open_both();
    raw_send(raw, "GET /garbage?bytes=3 HTTP/1.1\r\n\r\n");
    raw_read_until(raw, "!! this is not HTTP\r\n!!!");
    CHECK(raw_is_quiet(raw));
    reopen();
    raw_send(raw, "GET /garbage?close=1 HTTP/1.1\r\n\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    CHECK_STR(raw->in, "!! this is not HTTP\r\n");
    close_both();
}

TEST(headers_are_as_large_and_as_many_as_asked)
{
    const char *line;
    unsigned count = 0;

    open_both();
    raw_get(raw, "/huge-header/10000", &answer);
    line = strstr(answer.head, "X-Huge: ");
    CHECK(line != NULL);
    CHECK_EQ(strspn(line + 8, "v"), 10000);
    CHECK_STR(answer.body, "huge\n");
    raw_get(raw, "/many-headers/300", &answer);
    for (line = answer.head; (line = strstr(line, "\r\nX-Filler-")) != NULL; line++) {
        count++;
    }
    CHECK_EQ(count, 300);
    CHECK_STR(answer.body, "many\n");
    check_alive();
    raw_send(raw, "GET /huge-header/200000 HTTP/1.1\r\n\r\n");
    raw_read_until(raw, "huge\n");
    CHECK(raw->in_size > 200000);
    close_both();
}

TEST(lengths_contradict_each_other)
{
    open_both();
    raw_send(raw, "GET /conflict HTTP/1.1\r\n\r\n");
    raw_read_until(raw, "Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello!!");
    reopen();
    raw_get(raw, "/conflict?same=1", &answer);
    CHECK_CONTAINS(answer.head, "Content-Length: 5\r\nContent-Length: 5\r\n");
    check_alive();
    raw_send(raw, "GET /cl-te HTTP/1.1\r\n\r\n");
    raw_read_until(raw, "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "5\r\nhello\r\n0\r\n\r\n");
    reopen();
    raw_send(raw, "GET /content-length/+5%2C%206 HTTP/1.1\r\n\r\n");
    raw_read_until(raw, "Content-Length: +5, 6\r\n\r\nhello");
    close_both();
}

TEST(chunks_are_wrong_in_every_way)
{
    static const struct {
        const char *target;
        const char *body;
    } cases[] = {
        { "/bad-chunk", "xyz\r\nhello\r\n0\r\n\r\n" },
        { "/bad-chunk?kind=size", "xyz\r\nhello\r\n0\r\n\r\n" },
        { "/bad-chunk?kind=overflow", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n" },
        { "/bad-chunk?kind=end", "5\r\nhelloworld\r\n0\r\n\r\n" },
        { "/bad-chunk?kind=lf", "5\nhello\n0\n\n" },
        { "/bad-chunk?kind=negative", "-5\r\nhello\r\n0\r\n\r\n" },
        { "/bad-chunk?kind=cut", "5\r\nhel" },
        { "/bad-chunk?kind=no-last", "5\r\nhello\r\n" },
    };

    open_both();
    for (size_t i = 0; i < il_array_count(cases); i++) {
        raw_send(raw, "GET ");
        raw_send(raw, cases[i].target);
        raw_send(raw, " HTTP/1.1\r\n\r\n");
        CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
        CHECK_CONTAINS(raw->in, "Transfer-Encoding: chunked\r\n\r\n");
        CHECK_STR(strstr(raw->in, "\r\n\r\n") + 4, cases[i].body);
        reopen();
    }
    close_both();
}

TEST(raw_bytes_go_out_as_they_are)
{
    static const char want[] = "HTTP/1.1 200 OK\nA: \0%zz%\r\n";

    open_both();
    raw_send(raw, "GET /raw/HTTP%2F1.1%20200%20OK%0AA:%20%00%zz%%0D%0a HTTP/1.1\r\n\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    CHECK_EQ(raw->in_size, sizeof(want) - 1);
    CHECK(memcmp(raw->in, want, sizeof(want) - 1) == 0);
    reopen();
    raw_send(raw, "GET /raw/HTTP%2F1.1%20204%20Yes%0d%0a%0d%0a?keep=1 HTTP/1.1\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_STR(answer.head, "HTTP/1.1 204 Yes\r\n\r\n");
    check_alive();
    close_both();
}

TEST(slices_send_any_answer_piece_by_piece)
{
    uint64_t begin_ns;
    size_t pause_count;

    open_both();
    raw_get(raw, "/hello?slice=1&slice_ms=0", &answer);
    CHECK_STR(answer.body, "hello\n");
    begin_ns = lab_in_ms(0);
    raw_get(raw, "/hello?slice=30&slice_ms=5", &answer);
    pause_count = (strlen(answer.head) + answer.body_size - 1) / 30;
    CHECK(pause_count >= 2);
    CHECK(lab_in_ms(0) >= begin_ns + pause_count * 5000000u);
    raw_get(raw, "/bytes/9000?chunked=1&chunk=10&slice=1000", &answer);
    CHECK(lab_pattern_matches(answer.body, 9000, 0, 0));
    check_alive();
    close_both();
}

TEST(pattern_is_printable_and_the_same_in_any_pieces)
{
    char whole[1000], piece[1000];

    lab_pattern_fill(whole, sizeof(whole), 42, 77);
    for (size_t i = 0; i < sizeof(whole); i++) {
        CHECK(whole[i] > ' ' && whole[i] < 127);
    }
    for (size_t size = 1; size < 30; size++) {
        for (size_t at = 0; at < sizeof(piece); at += size) {
            lab_pattern_fill(piece + at, il_min_u64(size, sizeof(piece) - at), 42, 77 + at);
        }
        CHECK(memcmp(whole, piece, sizeof(whole)) == 0);
    }
}
