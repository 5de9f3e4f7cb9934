/* Tests of h2.h against a server made of nghttp2 (tests/h2_peer.h). Bytes only: no sockets, no
 * threads. What a hostile server does is in h2_hostile_test.c. */
#include "http/h2.h"
#include "tests/h2_pair.h"

/* ---- what works ---- */

TEST(a_response_arrives_whole_wherever_the_bytes_are_cut)
{
    static const size_t portions[] = { 1, 2, 9, 1000, SIZE_MAX / 2 };

    for (size_t i = 0; i < il_array_count(portions); i++) {
        struct exchange x = { 0 };
        struct pair pair;

        pair_init(&pair, 100);
        open_stream(&pair, &x, "GET", "/trailers");
        CHECK_EQ(pair_run(&pair, portions[i]), IL_OK);
        check_response(&x, 200, "hello");
        CHECK_STR(il_headers_get(&x.stream.headers, "Server"), "peer");
        CHECK_STR(il_headers_get(&x.stream.trailers, "checksum"), "12");
        CHECK_EQ(pair.h2.stream_count, 0);
        exchange_deinit(&x);
        pair_deinit(&pair);
    }
}

TEST(many_streams_share_a_connection)
{
    enum { COUNT = 64 };
    struct exchange *xs = calloc(COUNT, sizeof(*xs));
    struct pair pair;

    pair_init(&pair, 100);
    for (int i = 0; i < COUNT; i++) {
        open_stream(&pair, &xs[i], "GET", i % 2 == 0 ? "/hello" : "/bytes/100000");
    }
    CHECK_EQ(pair.h2.stream_count, COUNT);
    CHECK_EQ(pair_run(&pair, 777), IL_OK);
    for (int i = 0; i < COUNT; i++) {
        CHECK(xs[i].is_over && xs[i].end == H2_END_COMPLETE);
        CHECK_EQ(il_bytes_size(&xs[i].body), i % 2 == 0 ? 5 : 100000);
        exchange_deinit(&xs[i]);
    }
    CHECK_EQ(pair.h2.stream_count, 0);
    pair_deinit(&pair);
    free(xs);
}

TEST(the_host_and_the_users_headers_are_sent_as_http2_wants_them)
{
    struct exchange x = { 0 };
    struct il_headers headers;
    struct il_error err;
    struct pair pair;

    pair_init(&pair, 100);
    headers_init(&headers);
    CHECK_OK(headers_add(&headers, "X-Upper", "kept", &err));
    CHECK_OK(headers_add(&headers, "X-Spaces", " \t around a value ", &err)); /* are refused */
    CHECK_OK(headers_add(&headers, "X-Empty", "  ", &err));
    CHECK_OK(headers_add(&headers, "Connection", "close", &err));
    CHECK_OK(headers_add(&headers, "TE", "gzip", &err));
    CHECK_OK(headers_add(&headers, "Host", "other.test", &err));
    CHECK_OK(try_open(&pair, &x, "GET", "/held", &headers, &err));
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    CHECK_STR(h2_peer_find(pair.peer, 1)->authority, "other.test");
    CHECK_STR(h2_peer_find(pair.peer, 1)->method, "GET");
    h2_peer_release(pair.peer);
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    check_response(&x, 200, "hello");
    headers_deinit(&headers);
    exchange_deinit(&x);
    pair_deinit(&pair);
}

TEST(a_body_is_sent_as_its_source_and_the_window_allow)
{
    enum { SIZE = 300000 };
    char *bytes = malloc(SIZE);
    struct exchange x = { .request = bytes, .request_size = SIZE, .source_limit = 100000 };
    struct pair pair;

    for (int i = 0; i < SIZE; i++) {
        bytes[i] = (char)(i * 7 % 251);
    }
    pair_init(&pair, 100);
    open_stream(&pair, &x, "POST", "/echo");
    CHECK_EQ(pair_run(&pair, 5000), IL_OK);
    CHECK(!x.is_over); /* the source has no more for now */
    CHECK_EQ(x.request_size, SIZE - 100000);
    x.source_limit = SIZE_MAX;
    h2_resume(&x.stream);
    CHECK_EQ(pair_run(&pair, 5000), IL_OK);
    CHECK(x.is_over && x.end == H2_END_COMPLETE);
    CHECK_EQ(il_bytes_size(&x.body), SIZE);
    CHECK(memcmp(il_bytes_data(&x.body), bytes, SIZE) == 0);
    exchange_deinit(&x);
    pair_deinit(&pair);
    free(bytes);
}

TEST(an_answer_before_the_end_of_the_request_is_an_answer)
{
    char *bytes = calloc(1, 300000);
    struct exchange x = { .request = bytes, .request_size = 300000 };
    struct pair pair;

    pair_init(&pair, 100);
    pair.peer->does_not_read = true; /* the window closes after 65,535 bytes */
    open_stream(&pair, &x, "POST", "/early");
    CHECK_EQ(pair_run(&pair, 5000), IL_OK);
    check_response(&x, 200, "hello");
    CHECK_EQ(pair.peer->last_reset_code, NGHTTP2_NO_ERROR);
    CHECK_EQ(pair.peer->open_count, 0);
    exchange_deinit(&x);
    pair_deinit(&pair);
    free(bytes);
}

TEST(informational_heads_are_passed_over)
{
    struct exchange x = { 0 };
    struct pair pair;

    pair_init(&pair, 100);
    open_stream(&pair, &x, "GET", "/informational");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    check_response(&x, 200, "hello");
    exchange_deinit(&x);
    pair_deinit(&pair);
}

TEST(a_body_that_nobody_reads_holds_up_no_other_stream)
{
    struct exchange unread = { .keeps_window = true }, x = { 0 };
    struct pair pair;

    pair_init(&pair, 100);
    open_stream(&pair, &unread, "GET", "/bytes/50000000");
    CHECK_EQ(pair_run(&pair, 65536), IL_OK);
    CHECK(!unread.is_over);
    CHECK_EQ(il_bytes_size(&unread.body), pair_windows.stream);
    open_stream(&pair, &x, "GET", "/bytes/20000000"); /* more than the connection's window */
    CHECK_EQ(pair_run(&pair, 65536), IL_OK);
    CHECK(x.is_over && x.end == H2_END_COMPLETE);
    CHECK_EQ(il_bytes_size(&x.body), 20000000);
    h2_consume(&unread.stream, il_bytes_size(&unread.body));
    unread.keeps_window = false;
    CHECK_EQ(pair_run(&pair, 65536), IL_OK);
    CHECK_EQ(il_bytes_size(&unread.body), 50000000);
    exchange_deinit(&unread);
    exchange_deinit(&x);
    pair_deinit(&pair);
}

/* ---- ends ---- */

TEST(a_stream_that_was_given_up_is_reset_and_heard_of_no_more)
{
    struct exchange sent = { 0 }, unsent = { 0 }, x = { 0 };
    struct pair pair;

    pair_init(&pair, 100);
    open_stream(&pair, &sent, "GET", "/held");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    open_stream(&pair, &unsent, "GET", "/hello");
    h2_abandon(&sent.stream);
    h2_abandon(&unsent.stream);
    CHECK_EQ(pair.h2.stream_count, 0);
    open_stream(&pair, &x, "GET", "/hello");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    CHECK(!sent.is_over && !unsent.is_over);
    CHECK_EQ(pair.peer->last_reset_code, NGHTTP2_CANCEL);
    CHECK_EQ(pair.peer->request_count, 2); /* the second was never sent */
    check_response(&x, 200, "hello");
    exchange_deinit(&sent);
    exchange_deinit(&unsent);
    exchange_deinit(&x);
    pair_deinit(&pair);
}

TEST(a_refused_stream_may_be_sent_again_and_a_reset_one_has_failed)
{
    struct exchange refused = { 0 }, reset = { 0 };
    struct pair pair;

    pair_init(&pair, 100);
    open_stream(&pair, &refused, "POST", "/refuse");
    open_stream(&pair, &reset, "GET", "/reset");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    CHECK_EQ(refused.end, H2_END_REFUSED);
    CHECK(reset.is_over && reset.end == H2_END_FAILED);
    CHECK_CONTAINS(reset.stream.error.message, "INTERNAL_ERROR");
    exchange_deinit(&refused);
    exchange_deinit(&reset);
    pair_deinit(&pair);
}

TEST(after_goaway_open_streams_go_on_and_later_ones_are_refused)
{
    struct exchange held = { 0 }, in = { 0 }, out = { 0 }, late = { 0 };
    struct il_error err;
    struct pair pair;

    pair_init(&pair, 100);
    open_stream(&pair, &held, "GET", "/held");
    open_stream(&pair, &in, "GET", "/goaway");
    open_stream(&pair, &out, "POST", "/held");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    CHECK(pair.h2.is_going_away && !h2_is_open(&pair.h2));
    check_response(&in, 200, "hello");
    CHECK(out.is_over && out.end == H2_END_REFUSED);
    CHECK(!held.is_over);
    CHECK_EQ(try_open(&pair, &late, "GET", "/hello", NULL, &err), IL_EPEERCLOSED);
    h2_peer_release(pair.peer);
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    check_response(&held, 200, "hello");
    exchange_deinit(&held);
    exchange_deinit(&in);
    exchange_deinit(&out);
    exchange_deinit(&late);
    pair_deinit(&pair);
}

TEST(when_the_connection_is_lost_unsent_requests_are_refused_and_sent_ones_fail)
{
    struct exchange sent = { 0 }, unsent = { 0 };
    struct il_error err;
    struct pair pair;

    pair_init(&pair, 100);
    open_stream(&pair, &sent, "GET", "/held");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    open_stream(&pair, &unsent, "GET", "/hello");
    il_fail(&err, IL_EPEERCLOSED, "the connection broke");
    h2_fail(&pair.h2, &err);
    CHECK(sent.is_over && sent.end == H2_END_FAILED);
    CHECK_STR(sent.stream.error.message, "the connection broke");
    CHECK(unsent.is_over && unsent.end == H2_END_REFUSED);
    exchange_deinit(&sent);
    exchange_deinit(&unsent);
    pair_deinit(&pair);
}

TEST(the_servers_limit_of_streams_is_known_once_its_settings_have_come)
{
    struct exchange x = { 0 };
    struct pair pair;

    pair_init(&pair, 7);
    CHECK_EQ(pair.h2.stream_count_max, H2_STREAM_COUNT_MAX);
    open_stream(&pair, &x, "GET", "/hello");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    CHECK(pair.h2.has_settings);
    CHECK_EQ(pair.h2.stream_count_max, 7);
    exchange_deinit(&x);
    pair_deinit(&pair);
}

/* A server that knows of no stream may close when it hears goodbye. */
TEST(goodbye_follows_the_requests_that_are_not_yet_sent)
{
    struct exchange x = { 0 };
    struct il_bytes out;
    struct pair pair;
    unsigned place = 0, head_at = 0, goodbye_at = 0;

    pair_init(&pair, 7);
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    open_stream(&pair, &x, "GET", "/hello");
    h2_say_goodbye(&pair.h2);
    CHECK(!h2_is_open(&pair.h2));
    il_bytes_init(&out);
    CHECK_EQ(h2_pull(&pair.h2, &out, 65536, &pair.err), IL_OK);
    for (size_t at = 0; at < il_bytes_size(&out); place++) {
        const uint8_t *frame = (const uint8_t *)il_bytes_data(&out) + at;

        head_at = frame[3] == NGHTTP2_HEADERS ? place + 1 : head_at;
        goodbye_at = frame[3] == NGHTTP2_GOAWAY ? place + 1 : goodbye_at;
        at += 9 + (size_t)(frame[0] << 16 | frame[1] << 8 | frame[2]);
    }
    CHECK(head_at > 0);
    CHECK(goodbye_at > head_at);
    CHECK_EQ(nghttp2_session_mem_recv(pair.peer->session, (const uint8_t *)il_bytes_data(&out),
                                      il_bytes_size(&out)),
             il_bytes_size(&out));
    il_bytes_deinit(&out);
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    check_response(&x, 200, "hello");
    exchange_deinit(&x);
    pair_deinit(&pair);
}

TEST(a_ping_is_answered_and_goodbye_is_said)
{
    struct pair pair;

    pair_init(&pair, 7);
    h2_ping(&pair.h2);
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    CHECK(pair.h2.has_pong);
    h2_say_goodbye(&pair.h2);
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    CHECK(pair.peer->got_goaway);
    pair_deinit(&pair);
}
