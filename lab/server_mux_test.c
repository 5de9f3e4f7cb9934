/* server_mux_test.c: what tests may rely on when they speak HTTP/2 to the lab server. */
#include <stdlib.h>

#include "base/base.h"
#include "lab/mux_client.h"
#include "tests/check.h"

static struct raw_answer answer;

static struct lab_server_counters counters_of(struct lab_server *server)
{
    struct lab_server_counters counters;

    lab_server_counters(server, &counters);
    return counters;
}

/* The clients are gone; so the server must come to see it. */
static void stop(struct lab_server *server)
{
    CHECK(lab_server_wait_open(server, 0, raw_soon()));
    raw_server_stop(server);
}

TEST(client_that_begins_with_http2_gets_http2)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);

    for (unsigned i = 1; i <= 3; i++) {
        struct mux_exchange *exchange = mux_client_get(client, "/hello");
        char want[64];

        CHECK_EQ(exchange->status, 200);
        CHECK_STR(exchange->body, "hello\n");
        (void)snprintf(want, sizeof(want), "x-connection: 1\nx-request: %u\n", i);
        CHECK_CONTAINS(exchange->head, want);
    }
    CHECK_EQ(counters_of(server).answered_count, 3);
    CHECK_EQ(counters_of(server).accepted_count, 1);
    CHECK(lab_server_wait_idle(server, 1, raw_soon()));
    mux_client_close(client);
    stop(server);
}

TEST(preface_may_come_byte_by_byte)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const unsigned char settings[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0 };
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    for (size_t i = 0; i < sizeof(preface) - 1; i++) {
        raw_send_bytes(raw, preface + i, 1);
        CHECK_EQ(counters_of(server).open_count, 1); /* it has come round, and seen the byte */
    }
    raw_send_bytes(raw, settings, sizeof(settings));
    CHECK(raw_read(raw));
    CHECK_EQ(raw->in[3], NGHTTP2_SETTINGS);
    raw_close(raw);
    stop(server);
}

TEST(what_only_begins_like_the_preface_is_http1)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    raw_send(raw, "P");
    CHECK_EQ(counters_of(server).open_count, 1);
    raw_send(raw, "UT /sink HTTP/1.1\r\nContent-Length: 1\r\n\r\nx");
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.status, 200);
    raw_close(raw);
    stop(server);
}

TEST(server_of_http1_only_refuses_the_preface)
{
    struct lab_server_options options = { .is_http1_only = true };
    struct lab_server *server = raw_server_start(&options);
    struct raw *raw = raw_open(server);

    raw_send(raw, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.status, 400);
    raw_close(raw);
    stop(server);
}

/* ---- streams ---- */

TEST(held_stream_holds_up_no_other)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);
    struct mux_exchange *held = mux_client_ask(client, "GET", "/hold/a", 0);

    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    CHECK_EQ(counters_of(server).answering_count, 1);
    CHECK_STR(mux_client_get(client, "/id/other")->body, "other");
    CHECK(!held->is_over);
    CHECK_EQ(lab_server_release(server, "a", 1), IL_OK);
    CHECK(!raw_is_quiet(client->raw)); /* answered when the release returns */
    mux_client_wait(client, held);
    CHECK_STR(held->body, "released\n");
    mux_client_close(client);
    stop(server);
}

TEST(streams_pass_a_gate_in_the_order_they_came)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);
    struct mux_exchange *held[3];

    for (unsigned i = 0; i < 3; i++) {
        held[i] = mux_client_ask(client, "GET", "/hold/a", 0);
        CHECK(lab_server_wait_held(server, "a", i + 1, raw_soon()));
    }
    CHECK_EQ(lab_server_release(server, "a", 2), IL_OK);
    mux_client_wait(client, held[0]);
    mux_client_wait(client, held[1]);
    mux_client_move(client);
    CHECK(!held[2]->is_over);
    CHECK_EQ(lab_server_held(server, "a"), 1);
    mux_client_close(client);
    stop(server);
}

TEST(streams_queue_for_answering_max)
{
    struct lab_server_options options = { .answering_max = 1 };
    struct lab_server *server = raw_server_start(&options);
    struct mux_client *client = mux_client_open(server);
    struct mux_exchange *first = mux_client_ask(client, "GET", "/hold/a", 0);
    struct mux_exchange *second;

    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    second = mux_client_ask(client, "GET", "/hello", 0);
    CHECK(lab_server_wait_requests(server, NULL, 2, raw_soon()));
    CHECK_EQ(counters_of(server).queued_count, 1);
    CHECK_EQ(lab_server_release(server, "a", 1), IL_OK);
    mux_client_wait(client, first);
    mux_client_wait(client, second);
    CHECK_EQ(second->status, 200);
    mux_client_close(client);
    stop(server);
}

TEST(stream_reset_by_the_client_leaves_its_gate)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);
    struct mux_exchange *held = mux_client_ask(client, "GET", "/hold/a", 0);

    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    mux_client_reset(client, held);
    CHECK(lab_server_wait_idle(server, 1, raw_soon()));
    CHECK_EQ(lab_server_held(server, "a"), 0);
    CHECK_EQ(counters_of(server).abandoned_count, 1);
    CHECK_EQ(mux_client_get(client, "/hello")->status, 200);
    mux_client_close(client);
    stop(server);
}

TEST(reset_is_of_the_stream_alone)
{
    static const char *const targets[] = { "/reset", "/bytes/100?rst_at=10", "/flaky/f?rst=1" };
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);

    for (size_t i = 0; i < il_array_count(targets); i++) {
        struct mux_exchange *exchange = mux_client_get(client, targets[i]);

        CHECK_EQ(exchange->error_code, NGHTTP2_INTERNAL_ERROR);
        CHECK_EQ(exchange->body_size, i == 1 ? 10 : 0);
    }
    CHECK_EQ(counters_of(server).dropped_count, 3);
    CHECK_EQ(mux_client_get(client, "/hello")->status, 200);
    mux_client_close(client);
    stop(server);
}

TEST(close_takes_all_streams_with_it)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);
    struct mux_exchange *held = mux_client_ask(client, "GET", "/hold/a", 0);

    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    (void)mux_client_ask(client, "GET", "/close", 0);
    mux_client_wait_closed(client);
    CHECK(!client->has_goaway);
    CHECK(!held->is_over);
    CHECK_EQ(counters_of(server).dropped_count, 2);
    CHECK_EQ(lab_server_held(server, "a"), 0);
    mux_client_close(client);
    stop(server);
}

/* ---- the end of a connection ---- */

TEST(goaway_lets_streams_under_way_finish)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);
    struct mux_exchange *held = mux_client_ask(client, "GET", "/hold/a", 0);
    struct mux_exchange *last;

    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    last = mux_client_get(client, "/goaway");
    CHECK_EQ(last->status, 200);
    CHECK(client->has_goaway);
    CHECK_EQ(client->goaway_last_id, last->id);
    CHECK_EQ(client->goaway_code, NGHTTP2_NO_ERROR);
    CHECK(!held->is_over);
    CHECK_EQ(lab_server_release(server, "a", 1), IL_OK);
    mux_client_wait(client, held);
    CHECK_EQ(held->status, 200);
    mux_client_wait_closed(client);
    mux_client_close(client);
    stop(server);
}

TEST(last_request_that_the_server_allows_gets_goaway)
{
    struct lab_server_options options = { .requests_per_connection_max = 2 };
    struct lab_server *server = raw_server_start(&options);
    struct mux_client *client = mux_client_open(server);

    CHECK_EQ(mux_client_get(client, "/hello")->status, 200);
    CHECK(!client->has_goaway);
    CHECK_EQ(mux_client_get(client, "/hello")->status, 200);
    mux_client_wait_closed(client);
    CHECK(client->has_goaway);
    mux_client_close(client);
    stop(server);
}

TEST(idle_connection_gets_goaway_when_its_time_is_over)
{
    struct lab_server_options options = { .idle_timeout_ms = 20 };
    struct lab_server *server = raw_server_start(&options);
    struct mux_client *client = mux_client_open(server);

    CHECK_EQ(mux_client_get(client, "/delay/100")->status, 200); /* which is not idle */
    mux_client_wait_closed(client);
    CHECK(client->has_goaway);
    mux_client_close(client);
    stop(server);
}

TEST(connection_without_streams_is_among_the_idle_that_are_closed)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server), *busy = mux_client_open(server);

    CHECK_EQ(mux_client_get(client, "/hello")->status, 200);
    (void)mux_client_ask(busy, "GET", "/hold/a", 0);
    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    CHECK_EQ(lab_server_close_idle(server, LAB_CLOSE_FIN), 1);
    mux_client_wait_closed(client);
    CHECK_EQ(counters_of(server).open_count, 1);
    mux_client_close(client);
    mux_client_close(busy);
    stop(server);
}

TEST(stop_with_streams_under_way_drops_them)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);

    for (unsigned i = 0; i < 5; i++) {
        (void)mux_client_ask(client, "GET", i % 2 == 0 ? "/hold/a" : "/delay/100000", 0);
    }
    CHECK(lab_server_wait_requests(server, NULL, 5, raw_soon()));
    lab_server_stop(server);
    mux_client_wait_closed(client);
    mux_client_close(client);
}

/* ---- bodies and headers ---- */

TEST(answers_are_the_same_as_over_http1)
{
    static const struct {
        const char *target;
        int status;
        size_t body_size, informational_count, trailer_count;
    } cases[] = {
        { "/bytes/100000", 200, 100000, 0, 0 },
        { "/bytes/100000?chunked=1&chunk=1000", 200, 100000, 0, 0 },
        { "/bytes/1000?close=1", 200, 1000, 0, 0 },
        { "/bytes/0?close=1", 200, 0, 0, 0 },
        { "/bytes/0", 200, 0, 0, 0 },
        { "/bytes/1000?pause_ms=5", 200, 1000, 0, 0 },
        { "/bytes/1000?slice=100", 200, 1000, 0, 0 },
        { "/drip?every_ms=1", 200, 10, 0, 0 },
        { "/trailers/3", 200, 5, 0, 3 },
        { "/1xx/3", 200, 6, 3, 0 },
        { "/1xx/3000", 200, 6, 3000, 0 },
        { "/status/204", 204, 0, 0, 0 },
        { "/status/503", 503, 7, 0, 0 },
        { "/many-headers/500", 200, 5, 0, 0 },
        { "/huge-header/50000", 200, 5, 0, 0 },
        { "/nowhere", 404, 42, 0, 0 },
        { "/bytes/x", 400, SIZE_MAX, 0, 0 },
        { "/raw/x", 501, SIZE_MAX, 0, 0 },
    };
    struct lab_server *server = raw_server_start(NULL);

    for (size_t i = 0; i < il_array_count(cases); i++) {
        struct mux_client *client = mux_client_open(server);
        struct mux_exchange *exchange = mux_client_get(client, cases[i].target);

        CHECK_EQ(exchange->status, cases[i].status);
        CHECK_EQ(exchange->error_code, 0);
        CHECK(cases[i].body_size == SIZE_MAX || exchange->body_size == cases[i].body_size);
        CHECK_EQ(exchange->informational_count, cases[i].informational_count);
        CHECK_EQ(exchange->trailer_count, cases[i].trailer_count);
        CHECK_EQ(client->has_goaway, strstr(cases[i].target, "close=1") != NULL);
        mux_client_close(client);
    }
    stop(server);
}

TEST(answer_to_head_has_no_body)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);
    struct mux_exchange *exchange = mux_client_ask(client, "HEAD", "/bytes/100", 0);

    mux_client_wait(client, exchange);
    CHECK_EQ(exchange->status, 200);
    CHECK_EQ(exchange->body_size, 0);
    CHECK_CONTAINS(exchange->head, "content-length: 100\n");
    mux_client_close(client);
    stop(server);
}

TEST(header_that_is_too_large_is_a_reset)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);

    CHECK_EQ(mux_client_get(client, "/huge-header/1000000")->error_code, NGHTTP2_INTERNAL_ERROR);
    CHECK_EQ(mux_client_get(client, "/hello")->status, 200);
    mux_client_close(client);
    stop(server);
}

TEST(echo_shows_the_fields_as_they_came)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);
    struct mux_exchange *exchange = mux_client_ask(client, "POST", "/echo?x=1", 3);

    mux_client_wait(client, exchange);
    CHECK_STR(exchange->body, "POST /echo?x=1 HTTP/2\n:method: POST\n:scheme: http\n"
                              ":authority: lab\n:path: /echo?x=1\nx-test: yes\n\nuuu");
    mux_client_close(client);
    stop(server);
}

TEST(body_that_nobody_reads_holds_up_its_own_stream_only)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);
    struct mux_exchange *unread = mux_client_ask(client, "GET", "/bytes/1000000", 0);

    unread->reads_nothing = true;
    while (unread->body_size < NGHTTP2_INITIAL_WINDOW_SIZE) {
        mux_client_read(client);
    }
    CHECK(nghttp2_session_consume_connection(client->session, unread->body_size) == 0);
    CHECK_EQ(mux_client_get(client, "/bytes/20000")->body_size, 20000);
    CHECK_EQ(unread->body_size, NGHTTP2_INITIAL_WINDOW_SIZE);
    CHECK_EQ(counters_of(server).answered_count, 1);
    unread->reads_nothing = false;
    CHECK(nghttp2_session_consume_stream(client->session, unread->id, unread->body_size) == 0);
    mux_client_move(client);
    mux_client_wait(client, unread);
    CHECK_EQ(unread->body_size, 1000000);
    mux_client_close(client);
    stop(server);
}

/* ---- uploads ---- */

TEST(upload_is_read_whole)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);
    struct mux_exchange *exchange = mux_client_ask(client, "PUT", "/sink", 1000000);

    mux_client_wait(client, exchange);
    CHECK_CONTAINS(exchange->body, "bytes 1000000\n");
    mux_client_close(client);
    stop(server);
}

TEST(upload_that_is_not_read_stops_at_its_window)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);
    struct mux_exchange *exchange = mux_client_ask(client, "PUT", "/slow-read?hold=a", 1000000);

    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    CHECK_EQ(mux_client_get(client, "/hello")->status, 200);
    CHECK(exchange->uploaded_size < 1000000);
    CHECK_EQ(lab_server_release(server, "a", 1), IL_OK);
    mux_client_wait(client, exchange);
    CHECK_CONTAINS(exchange->body, "bytes 1000000\n");
    mux_client_close(client);
    stop(server);
}

TEST(early_answer_does_not_wait_for_the_upload)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *client = mux_client_open(server);
    struct mux_exchange *exchange = mux_client_ask(client, "PUT", "/early", 10);

    mux_client_wait(client, exchange);
    CHECK_EQ(exchange->status, 200);
    CHECK(lab_server_wait_idle(server, 1, raw_soon()));
    exchange = mux_client_ask(client, "PUT", "/early", 100000000);
    exchange->ends_nothing = true;
    while (exchange->status == 0) {
        mux_client_read(client);
    }
    mux_client_reset(client, exchange);
    CHECK(lab_server_wait_idle(server, 1, raw_soon()));
    CHECK_EQ(counters_of(server).answered_count, 2);
    mux_client_close(client);
    stop(server);
}

/* ---- many ---- */

TEST(many_streams_on_many_connections_are_all_answered)
{
    struct lab_server *server = raw_server_start(NULL);
    struct mux_client *clients[8];

    for (size_t i = 0; i < il_array_count(clients); i++) {
        clients[i] = mux_client_open(server);
        for (unsigned n = 0; n < MUX_CLIENT_STREAMS_MAX; n++) {
            (void)mux_client_ask(clients[i], "GET", n % 3 == 0 ? "/delay/5" : "/bytes/5000", 0);
        }
    }
    for (size_t i = 0; i < il_array_count(clients); i++) {
        for (unsigned n = 0; n < MUX_CLIENT_STREAMS_MAX; n++) {
            mux_client_wait(clients[i], &clients[i]->exchanges[n]);
            CHECK_EQ(clients[i]->exchanges[n].status, 200);
        }
        mux_client_close(clients[i]);
    }
    CHECK_EQ(counters_of(server).answered_count, 8 * MUX_CLIENT_STREAMS_MAX);
    stop(server);
}

TEST(bytes_that_are_no_frames_end_the_connection_and_are_counted)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    raw_send(raw, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nwhatever this is, it is not SETTINGS");
    (void)raw_read_to_end(raw);
    CHECK_EQ(counters_of(server).request_count, 0);
    raw_close(raw);
    stop(server);
}
