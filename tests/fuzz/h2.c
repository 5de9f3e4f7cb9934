/* h2.c: fuzz target for the HTTP/2 connection.
 *
 * The first byte of the input says what was asked (see `asked`), the second seeds the cutting, the
 * rest is what a server sends. What must hold: every stream ends once, and with the connection at
 * the latest; what has come of the streams does not depend on how the input is cut; header fields
 * are what may stand in a list of headers; no stream holds more than its window. */
#include <string.h>

#include "http/h2.h"
#include "tests/fuzz/fuzz.h"
#include "tests/guarded.h"

enum { INPUT_SIZE_MAX = 256 * 1024, STREAM_COUNT = 3 };

static struct guarded input;

struct exchange {
    struct h2_stream stream;
    bool has_head, is_over;
    enum h2_end end;
    uint64_t hash; /* of the body */
    size_t size, unread;
    bool gives_window_back;
};

static struct exchange *exchange_of(struct h2_stream *stream)
{
    return il_container_of(stream, struct exchange, stream);
}

static void check_headers(const struct il_headers *headers)
{
    const char *name, *value;

    for (size_t i = 0; il_headers_at(headers, i, &name, &value) == IL_OK; i++) {
        FUZZ_CHECK(http_is_token(name, strlen(name)));
        FUZZ_CHECK(http_is_field_value(value, strlen(value)));
    }
}

static bool on_head(struct h2_stream *stream)
{
    struct exchange *x = exchange_of(stream);

    FUZZ_CHECK(!x->has_head && !x->is_over);
    FUZZ_CHECK(stream->status >= 200 && stream->status <= 999);
    x->has_head = true;
    check_headers(&stream->headers);
    return true;
}

static const struct h2_windows windows = { .stream = 1024 * 1024, .connection = 16 * 1024 * 1024 };

static bool on_body(struct h2_stream *stream, const char *bytes, size_t size)
{
    struct exchange *x = exchange_of(stream);

    FUZZ_CHECK(x->has_head && !x->is_over);
    for (size_t i = 0; i < size; i++) {
        x->hash = (x->hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    }
    x->size += size;
    if (x->gives_window_back) {
        h2_consume(stream, size);
    } else {
        x->unread += size;
        FUZZ_CHECK(x->unread <= windows.stream);
    }
    return true;
}

static void on_end(struct h2_stream *stream, enum h2_end end)
{
    struct exchange *x = exchange_of(stream);

    FUZZ_CHECK(!x->is_over);
    x->is_over = true;
    x->end = end;
    if (end == H2_END_COMPLETE) {
        FUZZ_CHECK(x->has_head);
        check_headers(&stream->trailers);
    }
}

static size_t on_wanted(struct h2_stream *stream, char *buffer, size_t size, bool *ret_is_last)
{
    buffer[0] = 'b';
    *ret_is_last = true;
    return 1;
}

static const struct h2_events events = { on_head, on_body, on_end, on_wanted, false };

/* ---- one run ---- */

struct run {
    struct h2 h2;
    struct exchange xs[STREAM_COUNT];
    enum il_code code;
};

static void pull(struct run *run, struct il_error *err)
{
    struct il_bytes out;

    il_bytes_init(&out);
    if (run->code == IL_OK) {
        run->code = h2_pull(&run->h2, &out, SIZE_MAX, err);
    }
    il_bytes_deinit(&out);
}

static void run_begin(struct run *run, uint8_t asked)
{
    static const char *const methods[] = { "GET", "HEAD", "POST" };
    struct il_error err;
    struct url url;

    *run = (struct run){ .code = IL_OK };
    FUZZ_CHECK(h2_init(&run->h2, &events, &h1_response_limits_default, &windows, &err) == IL_OK);
    FUZZ_CHECK(url_parse("http://a/b", &url, &err) == IL_OK);
    for (int i = 0; i < STREAM_COUNT; i++) {
        struct h1_request_head head = { .method = methods[i],
                                        .url = &url,
                                        .body_kind = i == 2 ? H1_BODY_SIZED : H1_BODY_NONE,
                                        .body_size = 1 };

        run->xs[i].gives_window_back = (asked & (1 << i)) != 0;
        h2_stream_init(&run->xs[i].stream);
        FUZZ_CHECK(h2_open_stream(&run->h2, &run->xs[i].stream, &head, &err) == IL_OK);
    }
    url_deinit(&url);
    pull(run, &err);
}

static void run_feed(struct run *run, const char *bytes, size_t size)
{
    struct il_error err;

    if (run->code == IL_OK) {
        run->code = h2_feed(&run->h2, guarded_put(&input, bytes, size), size, &err);
    }
}

static void run_end(struct run *run)
{
    struct il_error err;

    pull(run, &err);
    if (run->code == IL_OK) {
        il_fail(&err, IL_EPEERCLOSED, "the end of the input");
    }
    h2_fail(&run->h2, &err);
    FUZZ_CHECK(run->h2.stream_count == 0);
}

static void run_deinit(struct run *run)
{
    for (int i = 0; i < STREAM_COUNT; i++) {
        FUZZ_CHECK(run->xs[i].is_over);
        h2_stream_deinit(&run->xs[i].stream);
    }
    h2_deinit(&run->h2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data + 2;
    struct run whole, cut;
    uint32_t seed;

    if (size < 2 || size - 2 > INPUT_SIZE_MAX) {
        return 0;
    }
    if (input.memory == NULL) {
        input = guarded_new(INPUT_SIZE_MAX);
    }
    size -= 2;
    seed = data[1];
    run_begin(&whole, data[0]);
    run_feed(&whole, bytes, size);
    run_end(&whole);
    run_begin(&cut, data[0]);
    for (size_t at = 0; at < size;) {
        size_t portion;

        seed = seed * 1103515245 + 12345;
        portion = (seed >> 16) % 40 + 1;
        portion = portion < size - at ? portion : size - at;
        run_feed(&cut, bytes + at, portion);
        at += portion;
    }
    run_end(&cut);
    /* After GOAWAY, with nothing left to come, nghttp2 reads to the end of what it was given, and
     * no further. */
    FUZZ_CHECK(whole.code == cut.code || whole.h2.is_going_away);
    for (int i = 0; i < STREAM_COUNT; i++) {
        FUZZ_CHECK(whole.xs[i].end == cut.xs[i].end);
        FUZZ_CHECK(whole.xs[i].hash == cut.xs[i].hash && whole.xs[i].size == cut.xs[i].size);
        FUZZ_CHECK(whole.xs[i].stream.status == cut.xs[i].stream.status);
    }
    run_deinit(&whole);
    run_deinit(&cut);
    return 0;
}
