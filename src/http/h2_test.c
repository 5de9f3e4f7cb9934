/* Tests of h2.h against a server made of nghttp2 (tests/h2_peer.h), and against frames that no
 * honest server sends. Bytes only: no sockets, no threads. */
#include "http/h2.h"
#include "tests/check.h"
#include "tests/h2_peer.h"

/* ---- our side ---- */

struct exchange {
    struct h2_stream stream;
    struct il_bytes body; /* received */
    const char *request;  /* body to send; NULL: none */
    size_t request_size;
    size_t source_limit; /* hold back what is behind this; SIZE_MAX: nothing */
    bool has_head, is_over, keeps_window, refuses_head;
    enum h2_end end;
};

static bool on_head(struct h2_stream *stream)
{
    struct exchange *x = il_container_of(stream, struct exchange, stream);

    CHECK(!x->has_head);
    x->has_head = true;
    return !x->refuses_head;
}

static bool on_body(struct h2_stream *stream, const char *bytes, size_t size)
{
    struct exchange *x = il_container_of(stream, struct exchange, stream);

    CHECK(x->has_head && !x->is_over);
    CHECK(il_bytes_append(&x->body, bytes, size) == IL_OK);
    if (!x->keeps_window) {
        h2_consume(stream, size);
    }
    return true;
}

static void on_end(struct h2_stream *stream, enum h2_end end)
{
    struct exchange *x = il_container_of(stream, struct exchange, stream);

    CHECK(!x->is_over);
    x->is_over = true;
    x->end = end;
}

static size_t on_wanted(struct h2_stream *stream, char *buffer, size_t size, bool *ret_is_last)
{
    struct exchange *x = il_container_of(stream, struct exchange, stream);
    size_t part = (size_t)il_min_u64(size, il_min_u64(x->request_size, x->source_limit));

    memcpy(buffer, x->request, part);
    x->request += part;
    x->request_size -= part;
    x->source_limit -= x->source_limit == SIZE_MAX ? 0 : part;
    *ret_is_last = x->request_size == 0;
    return part;
}

static const struct h2_events events = { on_head, on_body, on_end, on_wanted };

struct pair {
    struct h2 h2;
    struct h2_peer *peer;
    struct il_error err;
};

static void pair_init(struct pair *pair, uint32_t max_streams)
{
    struct il_error err;

    pair->peer = malloc(sizeof(*pair->peer));
    CHECK_OK(h2_init(&pair->h2, &events, &h1_response_limits_default, &err));
    h2_peer_init(pair->peer, max_streams);
}

static void pair_deinit(struct pair *pair)
{
    h2_deinit(&pair->h2);
    h2_peer_deinit(pair->peer);
    free(pair->peer);
}

/* Carry bytes to and fro, `portion` at a time, until both have nothing more to say. */
static enum il_code pair_run(struct pair *pair, size_t portion)
{
    struct il_bytes out;
    bool is_moving = true;
    enum il_code code = IL_OK;

    il_bytes_init(&out);
    while (is_moving && code == IL_OK) {
        const uint8_t *bytes;
        ssize_t size;

        is_moving = false;
        code = h2_pull(&pair->h2, &out, 65536, &pair->err);
        if (il_bytes_size(&out) > 0) {
            is_moving = true;
            CHECK_EQ(nghttp2_session_mem_recv(pair->peer->session,
                                              (const uint8_t *)il_bytes_data(&out),
                                              il_bytes_size(&out)),
                     il_bytes_size(&out));
            il_bytes_truncate(&out, 0);
        }
        while ((size = nghttp2_session_mem_send(pair->peer->session, &bytes)) > 0 &&
               code == IL_OK) {
            is_moving = true;
            for (size_t at = 0; at < (size_t)size && code == IL_OK; at += portion) {
                code = h2_feed(&pair->h2, (const char *)bytes + at,
                               (size_t)il_min_u64(portion, (size_t)size - at), &pair->err);
            }
        }
    }
    il_bytes_deinit(&out);
    return code;
}

static enum il_code try_open(struct pair *pair, struct exchange *x, const char *method,
                             const char *path, struct il_headers *headers, struct il_error *err)
{
    struct h1_request_head head = { .method = method, .headers = headers };
    char text[128];
    struct url url;
    enum il_code code;

    (void)snprintf(text, sizeof(text), "http://server.test:8080%s", path);
    CHECK(url_parse(text, &url, err) == IL_OK);
    head.url = &url;
    head.body_kind = x->request != NULL ? H1_BODY_SIZED : H1_BODY_NONE;
    head.body_size = x->request_size;
    h2_stream_init(&x->stream);
    il_bytes_init(&x->body);
    if (x->source_limit == 0) {
        x->source_limit = SIZE_MAX;
    }
    code = h2_open_stream(&pair->h2, &x->stream, &head, err);
    url_deinit(&url);
    return code;
}

static void open_stream(struct pair *pair, struct exchange *x, const char *method, const char *path)
{
    struct il_error err;

    CHECK_OK(try_open(pair, x, method, path, NULL, &err));
}

static void exchange_deinit(struct exchange *x)
{
    h2_stream_deinit(&x->stream);
    il_bytes_deinit(&x->body);
}

static void check_response(const struct exchange *x, int status, const char *body)
{
    CHECK(x->is_over);
    CHECK_EQ(x->end, H2_END_COMPLETE);
    CHECK_EQ(x->stream.status, status);
    CHECK_EQ(il_bytes_size(&x->body), strlen(body));
    CHECK(memcmp(il_bytes_data(&x->body) != NULL ? il_bytes_data(&x->body) : "", body,
                 strlen(body)) == 0);
}

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
    CHECK_EQ(il_bytes_size(&unread.body), H2_STREAM_WINDOW);
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

/* ---- hostile servers ---- */

TEST(a_head_beyond_the_limit_fails_its_stream_alone)
{
    struct exchange large = { 0 }, x = { 0 };
    struct pair pair;

    pair_init(&pair, 100);
    pair.h2.limits.head_size_max = 20000;
    open_stream(&pair, &large, "GET", "/fields/200");
    open_stream(&pair, &x, "GET", "/hello");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    CHECK(large.is_over && large.end == H2_END_FAILED);
    CHECK_EQ(large.stream.error.code, IL_EHEADERSIZE);
    check_response(&x, 200, "hello");
    exchange_deinit(&large);
    exchange_deinit(&x);
    pair_deinit(&pair);
}

/* Append a frame's nine bytes and its payload. */
static void put_frame(struct il_bytes *out, uint8_t type, uint8_t flags, uint32_t stream,
                      const void *payload, uint32_t size)
{
    const unsigned char head[9] = { (unsigned char)(size >> 16),
                                    (unsigned char)(size >> 8),
                                    (unsigned char)size,
                                    type,
                                    flags,
                                    (unsigned char)(stream >> 24),
                                    (unsigned char)(stream >> 16),
                                    (unsigned char)(stream >> 8),
                                    (unsigned char)stream };

    CHECK(il_bytes_append(out, head, sizeof(head)) == IL_OK);
    CHECK(size == 0 || il_bytes_append(out, payload, size) == IL_OK);
}

struct flood {
    const char *name;
    uint8_t type, flags;
    uint32_t stream, size;
    const char *payload;
    const char *want;
};

static const char long_payload[400];

static const struct flood floods[] = {
    { "SETTINGS", NGHTTP2_SETTINGS, 0, 0, 0, "", "Flooding" },
    { "PING", NGHTTP2_PING, 0, 0, 8, "12345678", "Flooding" },
    { "PING answers that nobody asked for", NGHTTP2_PING, 1, 0, 8, "12345678", "in a row" },
    { "empty DATA", NGHTTP2_DATA, 0, 1, 0, "", "in a row" },
    { "WINDOW_UPDATE", NGHTTP2_WINDOW_UPDATE, 0, 1, 4, "\0\0\0\1", "in a row" },
    { "unknown frames", 0xee, 0, 0, 400, long_payload, "without" },
};

/* Nothing is sent meanwhile, as by a client whose socket is full. */
static void check_flood(const struct flood *flood)
{
    struct exchange x = { 0 };
    struct pair pair;
    struct il_bytes frames;
    enum il_code code = IL_OK;
    int count = 0;

    pair_init(&pair, 100);
    open_stream(&pair, &x, "GET", "/held");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    il_bytes_init(&frames);
    put_frame(&frames, NGHTTP2_HEADERS, 4, 1, "\x88", 1); /* :status 200, so that DATA may come */
    put_frame(&frames, flood->type, flood->flags, flood->stream, flood->payload, flood->size);
    code = h2_feed(&pair.h2, il_bytes_data(&frames), 10, &pair.err);
    il_bytes_consume(&frames, 10);
    while (code == IL_OK && ++count < 3 * H2_IDLE_FRAMES_MAX) {
        code = h2_feed(&pair.h2, il_bytes_data(&frames), il_bytes_size(&frames), &pair.err);
    }
    if (code != IL_EPROTOCOL || strstr(pair.err.message, flood->want) == NULL) {
        check_fail(__FILE__, __LINE__, "%s: code %d after %d frames: %s", flood->name, (int)code,
                   count, code != IL_OK ? pair.err.message : "");
    }
    CHECK_EQ(h2_feed(&pair.h2, "x", 1, &pair.err), IL_EPROTOCOL); /* for good */
    h2_fail(&pair.h2, &pair.err);
    CHECK(x.is_over && x.end == H2_END_FAILED);
    il_bytes_deinit(&frames);
    exchange_deinit(&x);
    pair_deinit(&pair);
}

TEST(floods_end_the_connection)
{
    for (size_t i = 0; i < il_array_count(floods); i++) {
        check_flood(&floods[i]);
    }
}

struct violation {
    const char *name;
    uint8_t type, flags;
    uint32_t stream, size;
    const char *payload;
};

static const struct violation violations[] = {
    { "a push", NGHTTP2_PUSH_PROMISE, 4, 1, 5, "\0\0\0\2\x82" },
    { "a frame size of 0", NGHTTP2_SETTINGS, 0, 0, 6, "\0\5\0\0\0\0" },
    { "a window beyond 2^31", NGHTTP2_SETTINGS, 0, 0, 6, "\0\4\xff\xff\xff\xff" },
    { "a connection window update of 0", NGHTTP2_WINDOW_UPDATE, 0, 0, 4, "\0\0\0\0" },
    { "DATA before the head", NGHTTP2_DATA, 1, 1, 1, "x" },
    { "a window update of 0", NGHTTP2_WINDOW_UPDATE, 0, 1, 4, "\0\0\0\0" },
    { "DATA on stream 0", NGHTTP2_DATA, 0, 0, 1, "x" },
    { "a head that cannot be unpacked", NGHTTP2_HEADERS, 4, 1, 2, "\xff\xff" },
    { "SETTINGS of 5 bytes", NGHTTP2_SETTINGS, 0, 0, 5, "\0\4\0\0\0" },
};

TEST(what_breaks_the_rules_of_the_connection_ends_it)
{
    for (size_t i = 0; i < il_array_count(violations); i++) {
        const struct violation *v = &violations[i];
        struct exchange x = { 0 };
        struct pair pair;
        struct il_bytes frames;
        enum il_code code;

        pair_init(&pair, 100);
        open_stream(&pair, &x, "GET", "/held");
        CHECK_EQ(pair_run(&pair, 100), IL_OK);
        il_bytes_init(&frames);
        put_frame(&frames, v->type, v->flags, v->stream, v->payload, v->size);
        code = h2_feed(&pair.h2, il_bytes_data(&frames), il_bytes_size(&frames), &pair.err);
        if (code == IL_OK) {
            code = pair_run(&pair, 100);
        }
        if (code != IL_EPROTOCOL) {
            check_fail(__FILE__, __LINE__, "%s: code %d", v->name, (int)code);
        }
        h2_fail(&pair.h2, &pair.err);
        CHECK(x.is_over && x.end == H2_END_FAILED);
        il_bytes_deinit(&frames);
        exchange_deinit(&x);
        pair_deinit(&pair);
    }
}

static const struct violation stream_violations[] = {
    { "no :status", NGHTTP2_HEADERS, 5, 1, 5, "\0\1a\1b" },
    { "an upper-case name", NGHTTP2_HEADERS, 5, 1, 6, "\x88\0\1A\1b" },
    { "a header of the connection", NGHTTP2_HEADERS, 5, 1, 19, "\x88\0\nconnection\5close" },
    { "less body than announced", NGHTTP2_HEADERS, 5, 1, 5,
      "\x88\x0f\x0d\1"
      "3" },
};

TEST(what_breaks_the_rules_of_a_stream_fails_that_stream_alone)
{
    for (size_t i = 0; i < il_array_count(stream_violations); i++) {
        const struct violation *v = &stream_violations[i];
        struct exchange x = { 0 }, other = { 0 };
        struct pair pair;
        struct il_bytes frames;

        pair_init(&pair, 100);
        open_stream(&pair, &x, "GET", "/held");
        open_stream(&pair, &other, "GET", "/held");
        CHECK_EQ(pair_run(&pair, 100), IL_OK);
        il_bytes_init(&frames);
        put_frame(&frames, v->type, v->flags, v->stream, v->payload, v->size);
        if (h2_feed(&pair.h2, il_bytes_data(&frames), il_bytes_size(&frames), &pair.err) != IL_OK ||
            pair_run(&pair, 100) != IL_OK) {
            check_fail(__FILE__, __LINE__, "%s ended the connection: %s", v->name,
                       pair.err.message);
        }
        if (!x.is_over || x.end != H2_END_FAILED) {
            check_fail(__FILE__, __LINE__, "%s did not fail its stream", v->name);
        }
        CHECK(!other.is_over);
        h2_abandon(&other.stream);
        il_bytes_deinit(&frames);
        exchange_deinit(&x);
        exchange_deinit(&other);
        pair_deinit(&pair);
    }
}
