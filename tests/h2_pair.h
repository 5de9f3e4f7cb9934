/* h2_pair.h: our end of an HTTP/2 connection (http/h2.h) and h2_peer.h's, with bytes carried to and
 * fro.
 *
 * Bytes only: no sockets, no threads. */
#ifndef TESTS_H2_PAIR_H
#define TESTS_H2_PAIR_H

#include "http/h2.h"
#include "tests/check.h"
#include "tests/h2_peer.h"

struct exchange {
    struct h2_stream stream;
    struct il_bytes body; /* received */
    const char *request;  /* body to send; NULL: none */
    size_t request_size;
    size_t source_limit; /* hold back what is behind this; SIZE_MAX: nothing */
    bool has_head, is_over, keeps_window, refuses_head;
    enum h2_end end;
};

static inline bool pair_on_head(struct h2_stream *stream)
{
    struct exchange *x = il_container_of(stream, struct exchange, stream);

    CHECK(!x->has_head);
    x->has_head = true;
    return !x->refuses_head;
}

static inline bool pair_on_body(struct h2_stream *stream, const char *bytes, size_t size)
{
    struct exchange *x = il_container_of(stream, struct exchange, stream);

    CHECK(x->has_head && !x->is_over);
    CHECK(il_bytes_append(&x->body, bytes, size) == IL_OK);
    if (!x->keeps_window) {
        h2_consume(stream, size);
    }
    return true;
}

static inline void pair_on_end(struct h2_stream *stream, enum h2_end end)
{
    struct exchange *x = il_container_of(stream, struct exchange, stream);

    CHECK(!x->is_over);
    x->is_over = true;
    x->end = end;
}

static inline size_t pair_on_wanted(struct h2_stream *stream, char *buffer, size_t size,
                                    bool *ret_is_last)
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

static const struct h2_events pair_events = { pair_on_head, pair_on_body, pair_on_end,
                                              pair_on_wanted, false };

static const struct h2_windows pair_windows = { .stream = 1024 * 1024,
                                                .connection = 16 * 1024 * 1024 };

struct pair {
    struct h2 h2;
    struct h2_peer *peer;
    struct il_error err;
};

static inline void pair_init(struct pair *pair, uint32_t max_streams)
{
    struct il_error err;

    pair->peer = malloc(sizeof(*pair->peer));
    CHECK_OK(h2_init(&pair->h2, &pair_events, &h1_response_limits_default, &pair_windows, &err));
    h2_peer_init(pair->peer, max_streams);
}

static inline void pair_deinit(struct pair *pair)
{
    h2_deinit(&pair->h2);
    h2_peer_deinit(pair->peer);
    free(pair->peer);
}

/* Carry bytes to and fro, `portion` at a time, until both have nothing more to say. */
static inline enum il_code pair_run(struct pair *pair, size_t portion)
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

static inline enum il_code try_open(struct pair *pair, struct exchange *x, const char *method,
                                    const char *path, struct il_headers *headers,
                                    struct il_error *err)
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

static inline void open_stream(struct pair *pair, struct exchange *x, const char *method,
                               const char *path)
{
    struct il_error err;

    CHECK_OK(try_open(pair, x, method, path, NULL, &err));
}

static inline void exchange_deinit(struct exchange *x)
{
    h2_stream_deinit(&x->stream);
    il_bytes_deinit(&x->body);
}

static inline void check_response(const struct exchange *x, int status, const char *body)
{
    CHECK(x->is_over);
    CHECK_EQ(x->end, H2_END_COMPLETE);
    CHECK_EQ(x->stream.status, status);
    CHECK_EQ(il_bytes_size(&x->body), strlen(body));
    CHECK(memcmp(il_bytes_data(&x->body) != NULL ? il_bytes_data(&x->body) : "", body,
                 strlen(body)) == 0);
}

/* Append a frame's nine bytes and its payload. */
static inline void put_frame(struct il_bytes *out, uint8_t type, uint8_t flags, uint32_t stream,
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

#endif
