/* Tests of h2.h against frames that no honest server sends, and against floods of honest ones. */
#include "http/h2.h"
#include "tests/h2_pair.h"

/* ---- limits ---- */

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

/* One head, or a head and a trailer, of `count` fields "a: b" with limits of 1000 bytes, 500 in a
 * trailer, and 20 fields: what the request is told. */
static void check_limit(bool is_trailer, int count, const char *name, const char *want)
{
    struct exchange x = { 0 };
    struct pair pair;
    struct il_bytes frames, block;

    pair_init(&pair, 100);
    pair.h2.limits.head_size_max = 1000;
    pair.h2.limits.trailer_size_max = 500;
    pair.h2.limits.field_count_max = 20;
    open_stream(&pair, &x, "GET", "/held");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    il_bytes_init(&frames);
    il_bytes_init(&block);
    if (is_trailer) {
        put_frame(&frames, NGHTTP2_HEADERS, 4, 1, "\x88", 1);
    } else {
        CHECK(il_bytes_append(&block, "\x88", 1) == IL_OK);
    }
    for (int i = 0; i < count; i++) {
        unsigned char size = (unsigned char)strlen(name);

        CHECK(il_bytes_append(&block, "\0", 1) == IL_OK);
        CHECK(il_bytes_append(&block, &size, 1) == IL_OK);
        CHECK(il_bytes_append(&block, name, size) == IL_OK);
        CHECK(il_bytes_append(&block, "\1b", 2) == IL_OK);
    }
    put_frame(&frames, NGHTTP2_HEADERS, 5, 1, il_bytes_data(&block),
              (uint32_t)il_bytes_size(&block));
    CHECK_EQ(h2_feed(&pair.h2, il_bytes_data(&frames), il_bytes_size(&frames), &pair.err), IL_OK);
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    CHECK(x.is_over && x.end == H2_END_FAILED);
    CHECK_EQ(x.stream.error.code, IL_EHEADERSIZE);
    CHECK_STR(x.stream.error.message, want);
    CHECK(h2_is_open(&pair.h2));
    il_bytes_deinit(&block);
    il_bytes_deinit(&frames);
    exchange_deinit(&x);
    pair_deinit(&pair);
}

TEST(a_head_beyond_a_limit_is_told_which_its_value_and_what_came)
{
    check_limit(false, 20, "a-name-of-30-bytes-for-a-limit",
                "the response's header has 1050 bytes with its field "
                "\"a-name-of-30-bytes-for-a-limit\" (and 32 for each field); the limit is 1000 "
                "bytes (header_size_max)");
    check_limit(false, 20, "a", "the response's header has more than 20 fields, the limit");
    check_limit(true, 15, "a",
                "the response's trailer has 510 bytes with its field \"a\" (and 32 for each "
                "field); the limit is 500 bytes");
}

/* The beginning of a header whose rest would come in other frames. */
static void check_block(const char *block, uint32_t size, enum il_code want)
{
    struct exchange x = { 0 };
    struct pair pair;
    struct il_bytes frames;
    enum il_code code;

    pair_init(&pair, 100);
    open_stream(&pair, &x, "GET", "/held");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    il_bytes_init(&frames);
    put_frame(&frames, NGHTTP2_HEADERS, 0, 1, block, size);
    code = h2_feed(&pair.h2, il_bytes_data(&frames), il_bytes_size(&frames), &pair.err);
    code = code == IL_OK ? pair_run(&pair, 100) : code;
    CHECK_EQ(code, want);
    if (code == IL_OK) {
        h2_abandon(&x.stream);
    } else {
        CHECK_CONTAINS(pair.err.message, "damaged, or has a name or a value of more than 65536");
        h2_fail(&pair.h2, &pair.err);
        CHECK(x.is_over && x.end == H2_END_FAILED);
    }
    il_bytes_deinit(&frames);
    exchange_deinit(&x);
    pair_deinit(&pair);
}

/* The first limit is nghttp2's own, which RFC 9113 does not have: it breaks no rule. */
TEST(a_value_beyond_what_can_be_decompressed_is_not_blamed_on_the_server)
{
    check_block("\x88\0\1a\x7f\x81\xff\3", 8, IL_OK); /* a value of 65536 bytes begins */
    check_block("\x88\0\1a\x7f\x82\xff\3", 8, IL_EPROTOCOL);
    check_block("\xff\xff\xff\xff\xff\xff", 6, IL_EPROTOCOL);
}

struct flood {
    const char *name;
    uint8_t type, flags;
    uint32_t stream, size;
    const char *payload;
    const char *want;
};

static const char long_payload[400];
static const char padding_only[256] = "\xff";
static const char settings_of_33_entries[33 * 6];

static const struct flood floods[] = {
    { "SETTINGS", NGHTTP2_SETTINGS, 0, 0, 0, "", "floods us" },
    { "PING", NGHTTP2_PING, 0, 0, 8, "12345678", "floods us" },
    { "PING answers that nobody asked for", NGHTTP2_PING, 1, 0, 8, "12345678", "in a row" },
    { "empty DATA", NGHTTP2_DATA, 0, 1, 0, "", "in a row" },
    { "WINDOW_UPDATE", NGHTTP2_WINDOW_UPDATE, 0, 1, 4, "\0\0\0\1", "in a row" },
    { "unknown frames", 0xee, 0, 0, 400, long_payload, "without" },
    { "PRIORITY", NGHTTP2_PRIORITY, 0, 1, 5, "\0\0\0\0\1", "in a row" },
    { "GOAWAY", NGHTTP2_GOAWAY, 0, 0, 8, "\x7f\xff\xff\xff\0\0\0\0", "in a row" },
    { "padded empty DATA", NGHTTP2_DATA, 8, 1, 256, padding_only, "without" },
    { "resets of a stream that is over", NGHTTP2_RST_STREAM, 0, 1, 4, "\0\0\0\x8", "resets" },
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

/* CVE-2024-27316 and others: a header section that never ends. */
TEST(a_head_cut_into_frames_without_end_ends_the_connection)
{
    struct exchange x = { 0 };
    struct pair pair;
    struct il_bytes frames;
    enum il_code code;
    int count = 0;

    pair_init(&pair, 100);
    open_stream(&pair, &x, "GET", "/held");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    il_bytes_init(&frames);
    put_frame(&frames, NGHTTP2_HEADERS, 0, 1, "\x88", 1);
    code = h2_feed(&pair.h2, il_bytes_data(&frames), il_bytes_size(&frames), &pair.err);
    il_bytes_truncate(&frames, 0);
    put_frame(&frames, NGHTTP2_CONTINUATION, 0, 1, "\0\1a\1b", 5);
    while (code == IL_OK && ++count < 1000) {
        code = h2_feed(&pair.h2, il_bytes_data(&frames), il_bytes_size(&frames), &pair.err);
    }
    CHECK_EQ(code, IL_EPROTOCOL);
    CHECK(count <= H2_CONTINUATIONS_MAX + 1);
    h2_fail(&pair.h2, &pair.err);
    CHECK(x.is_over && x.end == H2_END_FAILED);
    il_bytes_deinit(&frames);
    exchange_deinit(&x);
    pair_deinit(&pair);
}

/* ---- resets ---- */

/* Requests that are reset, one after the other, up to `count_max`; how many there were. */
static int run_resets(struct pair *pair, int count_max, const char *path)
{
    enum il_code code = IL_OK;
    int count = 0;

    while (code == IL_OK && count < count_max) {
        struct exchange x = { 0 };

        open_stream(pair, &x, "GET", path);
        code = pair_run(pair, SIZE_MAX / 2);
        count++;
        if (code != IL_OK) {
            h2_fail(&pair->h2, &pair->err);
        }
        CHECK(x.is_over);
        exchange_deinit(&x);
    }
    return count;
}

TEST(a_server_that_resets_all_streams_is_left_after_a_burst)
{
    struct pair pair;

    pair_init(&pair, 100);
    CHECK_EQ(run_resets(&pair, 10 * H2_RESETS_BURST, "/refuse"), H2_RESETS_BURST + 1);
    CHECK_EQ(pair.err.code, IL_EPROTOCOL);
    CHECK_CONTAINS(pair.err.message, "resets streams without end");
    pair_deinit(&pair);
}

TEST(a_server_that_resets_a_stream_now_and_then_is_not_left)
{
    struct pair pair;
    int left;

    pair_init(&pair, 100);
    for (int second = 1; second <= 100; second++) {
        pair.h2.now_ns = (uint64_t)second * 1000000000;
        CHECK_EQ(run_resets(&pair, H2_RESETS_PER_S, "/reset"), H2_RESETS_PER_S);
    }
    left = H2_RESETS_BURST - (int)pair.h2.reset_count; /* nearly a whole burst */
    CHECK(left >= H2_RESETS_BURST - 2 * H2_RESETS_PER_S);
    CHECK_EQ(run_resets(&pair, 10 * H2_RESETS_BURST, "/reset"), left + 1);
    pair_deinit(&pair);
}

TEST(a_reset_that_ends_an_upload_after_the_answer_is_no_offence)
{
    struct il_bytes frames, out;
    struct pair pair;

    pair_init(&pair, 100);
    CHECK_EQ(pair_run(&pair, 100), IL_OK); /* both sides' SETTINGS */
    il_bytes_init(&frames);
    il_bytes_init(&out);
    for (int i = 0; i < 2 * H2_RESETS_BURST; i++) {
        struct exchange x = { .request = "body", .request_size = 4, .source_limit = 1 };

        open_stream(&pair, &x, "POST", "/early");
        CHECK_EQ(h2_pull(&pair.h2, &out, SIZE_MAX, &pair.err), IL_OK);
        put_frame(&frames, NGHTTP2_HEADERS, 5, (uint32_t)x.stream.id, "\x88", 1);
        put_frame(&frames, NGHTTP2_RST_STREAM, 0, (uint32_t)x.stream.id, "\0\0\0\0", 4);
        CHECK_EQ(h2_feed(&pair.h2, il_bytes_data(&frames), il_bytes_size(&frames), &pair.err),
                 IL_OK);
        CHECK(x.is_over && x.end == H2_END_COMPLETE);
        exchange_deinit(&x);
        il_bytes_truncate(&frames, 0);
        il_bytes_truncate(&out, 0);
    }
    il_bytes_deinit(&out);
    il_bytes_deinit(&frames);
    pair_deinit(&pair);
}

/* ---- windows ---- */

enum who_gets_it { READER, NOBODY_WHO_READS, NOBODY_AFTER_A_FAILURE, NOBODY_AFTER_A_CANCEL };

/* More than the connection's window comes in DATA frames of `size` bytes that nobody may have a use
 * for. Now and then a byte comes that somebody has. */
static void check_window(enum who_gets_it who, uint8_t flags, const char *payload, uint32_t size)
{
    struct exchange useful = { 0 }, x = { .keeps_window = who == NOBODY_WHO_READS,
                                          .refuses_head = who == NOBODY_AFTER_A_FAILURE };
    struct pair pair;
    struct il_bytes frames;

    pair_init(&pair, 100);
    open_stream(&pair, &useful, "GET", "/held");
    open_stream(&pair, &x, "GET", "/held");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    il_bytes_init(&frames);
    put_frame(&frames, NGHTTP2_HEADERS, 4, 1, "\x88", 1);
    put_frame(&frames, NGHTTP2_HEADERS, 4, 3, "\x88", 1);
    CHECK_EQ(h2_feed(&pair.h2, il_bytes_data(&frames), il_bytes_size(&frames), &pair.err), IL_OK);
    if (who == NOBODY_AFTER_A_CANCEL) {
        h2_abandon(&x.stream);
    }
    il_bytes_truncate(&frames, 0);
    put_frame(&frames, NGHTTP2_DATA, 0, 1, "x", 1);
    put_frame(&frames, NGHTTP2_DATA, flags, 3, payload, size);
    for (uint64_t sent = 0; sent < 2 * (uint64_t)pair_windows.connection; sent += size) {
        struct il_bytes out;

        if (who == NOBODY_WHO_READS && sent + size > pair_windows.stream) {
            break; /* an honest server stops here */
        }
        CHECK_EQ(h2_feed(&pair.h2, il_bytes_data(&frames), il_bytes_size(&frames), &pair.err),
                 IL_OK);
        il_bytes_init(&out);
        CHECK_EQ(h2_pull(&pair.h2, &out, SIZE_MAX, &pair.err), IL_OK); /* windows given back */
        il_bytes_deinit(&out);
    }
    CHECK(nghttp2_session_get_local_window_size(pair.h2.session) >
          (int32_t)pair_windows.connection / 2);
    h2_abandon(&x.stream);
    h2_abandon(&useful.stream);
    il_bytes_deinit(&frames);
    exchange_deinit(&x);
    exchange_deinit(&useful);
    pair_deinit(&pair);
}

TEST(the_connections_window_comes_back_whoever_gets_the_bytes)
{
    static char block[16384];
    static const char padded[256] = "\xfe"; /* one byte, and the rest is padding */

    check_window(READER, 0, block, sizeof(block));
    check_window(READER, NGHTTP2_FLAG_PADDED, padded, sizeof(padded));
    check_window(NOBODY_WHO_READS, 0, block, sizeof(block));
    check_window(NOBODY_AFTER_A_FAILURE, 0, block, sizeof(block));
    check_window(NOBODY_AFTER_A_CANCEL, 0, block, sizeof(block));
    check_window(NOBODY_AFTER_A_CANCEL, NGHTTP2_FLAG_PADDED, padded, sizeof(padded));
}

TEST(a_window_that_the_server_makes_negative_is_waited_for)
{
    static char body[200000];
    nghttp2_settings_entry small = { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1000 };
    struct exchange x = { .request = body, .request_size = sizeof(body) };
    struct pair pair;

    pair_init(&pair, 100);
    pair.peer->does_not_read = true;
    open_stream(&pair, &x, "POST", "/sink");
    CHECK_EQ(pair_run(&pair, 1000), IL_OK);
    CHECK_EQ(x.request_size, sizeof(body) - 65535); /* the first window is full */
    CHECK_EQ(nghttp2_submit_settings(pair.peer->session, 0, &small, 1), 0);
    CHECK_EQ(pair_run(&pair, 1000), IL_OK);
    CHECK(nghttp2_session_get_stream_remote_window_size(pair.h2.session, 1) == 0);
    CHECK_EQ(x.request_size, sizeof(body) - 65535);
    pair.peer->does_not_read = false;
    CHECK_EQ(nghttp2_session_consume(pair.peer->session, 1, 65535), 0);
    CHECK_EQ(pair_run(&pair, 1000), IL_OK);
    CHECK_EQ(x.request_size, 0);
    CHECK(x.is_over && x.end == H2_END_COMPLETE);
    exchange_deinit(&x);
    pair_deinit(&pair);
}

/* ---- rules ---- */

struct violation {
    const char *name;
    uint8_t type, flags;
    uint32_t stream, size;
    const char *payload;
};

static const char frame_of_16385[16385];

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
    { "SETTINGS of 33 entries", NGHTTP2_SETTINGS, 0, 0, 33 * 6, settings_of_33_entries },
    { "a reset of a stream that was never opened", NGHTTP2_RST_STREAM, 0, 77, 4, "\0\0\0\x8" },
    { "a head for a stream that was never opened", NGHTTP2_HEADERS, 5, 77, 1, "\x88" },
    { "a wish to be pushed to", NGHTTP2_SETTINGS, 0, 0, 6, "\0\2\0\0\0\1" },
    { "an acknowledgement with entries", NGHTTP2_SETTINGS, 1, 0, 6, "\0\3\0\0\0\1" },
    { "SETTINGS of a stream", NGHTTP2_SETTINGS, 0, 1, 0, "" },
    { "a PING of 7 bytes", NGHTTP2_PING, 0, 0, 7, "1234567" },
    { "the rest of a head that never began", NGHTTP2_CONTINUATION, 4, 1, 1, "\x88" },
    { "a frame beyond the largest", NGHTTP2_DATA, 0, 1, 16385, frame_of_16385 },
    { "padding beyond the frame", NGHTTP2_HEADERS, 0xd, 1, 2, "\xff\x88" },
    { "a window beyond 2^31 by an update", NGHTTP2_WINDOW_UPDATE, 0, 0, 4, "\x7f\xff\xff\xff" },
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
    { "two statuses", NGHTTP2_HEADERS, 5, 1, 2, "\x88\x88" },
    { "a status behind a field", NGHTTP2_HEADERS, 5, 1, 6, "\0\1a\1b\x88" },
    { "a method", NGHTTP2_HEADERS, 5, 1, 2, "\x88\x82" },
    { "a status that switches protocols", NGHTTP2_HEADERS, 5, 1, 5,
      "\x8\3"
      "101" },
    { "an interim head at the end", NGHTTP2_HEADERS, 5, 1, 5,
      "\x8\3"
      "103" },
    { "a status that is no number", NGHTTP2_HEADERS, 5, 1, 5,
      "\x8\3"
      "2a0" },
    { "two lengths", NGHTTP2_HEADERS, 4, 1, 9,
      "\x88\x0f\x0d\1"
      "3\x0f\x0d\1"
      "4" },
    { "a length with a sign", NGHTTP2_HEADERS, 4, 1, 6,
      "\x88\x0f\x0d\2"
      "+3" },
    { "a line break in a value", NGHTTP2_HEADERS, 5, 1, 8, "\x88\0\1a\3b\nc" },
    { "a NUL in a value", NGHTTP2_HEADERS, 5, 1, 8, "\x88\0\1a\3b\0c" },
    { "a space in a name", NGHTTP2_HEADERS, 5, 1, 8, "\x88\0\3a b\1c" },
    { "no name", NGHTTP2_HEADERS, 5, 1, 5, "\x88\0\0\1c" },
    { "transfer-encoding", NGHTTP2_HEADERS, 5, 1, 28, "\x88\0\x11transfer-encoding\7chunked" },
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

TEST(more_body_than_announced_fails_that_stream_alone)
{
    struct exchange x = { 0 };
    struct pair pair;
    struct il_bytes frames;

    pair_init(&pair, 100);
    open_stream(&pair, &x, "GET", "/held");
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    il_bytes_init(&frames);
    put_frame(&frames, NGHTTP2_HEADERS, 4, 1, "\x88\x0f\x0d\x01\x33", 5);
    put_frame(&frames, NGHTTP2_DATA, 1, 1, "12345", 5);
    CHECK_EQ(h2_feed(&pair.h2, il_bytes_data(&frames), il_bytes_size(&frames), &pair.err), IL_OK);
    CHECK_EQ(pair_run(&pair, 100), IL_OK);
    CHECK(x.is_over && x.end == H2_END_FAILED);
    CHECK_EQ(x.stream.error.code, IL_EPROTOCOL);
    CHECK(h2_is_open(&pair.h2));
    il_bytes_deinit(&frames);
    exchange_deinit(&x);
    pair_deinit(&pair);
}

TEST(settings_that_the_server_never_acknowledges_hold_up_nothing)
{
    struct exchange x = { 0 };
    struct pair pair;
    struct il_bytes frames, out;

    pair_init(&pair, 100);
    open_stream(&pair, &x, "GET", "/");
    il_bytes_init(&out);
    CHECK_EQ(h2_pull(&pair.h2, &out, SIZE_MAX, &pair.err), IL_OK); /* nobody gets it */
    il_bytes_init(&frames);
    put_frame(&frames, NGHTTP2_SETTINGS, 0, 0, "", 0); /* RFC 9113 3.4 wants one, though */
    put_frame(&frames, NGHTTP2_HEADERS, 4, 1, "\x88", 1);
    put_frame(&frames, NGHTTP2_DATA, 1, 1, "hello", 5);
    CHECK_EQ(h2_feed(&pair.h2, il_bytes_data(&frames), il_bytes_size(&frames), &pair.err), IL_OK);
    check_response(&x, 200, "hello");
    il_bytes_deinit(&frames);
    il_bytes_deinit(&out);
    exchange_deinit(&x);
    pair_deinit(&pair);
}
