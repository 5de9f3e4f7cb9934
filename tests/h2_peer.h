/* h2_peer.h: the other end of an HTTP/2 connection, as bytes: a server made of nghttp2.
 *
 * It answers each request as the path asks, from within h2_peer_feed:
 *     /hello          200, "hello"                /bytes/N     200, N bytes 'x'
 *     /trailers       200, "hello", a trailer     /echo        200, the request's body
 *     /refuse         RST_STREAM REFUSED_STREAM   /reset       head, some body, RST_STREAM INTERNAL
 *     /informational  103 twice, then 200         /early       200 without reading the body
 *     /held           nothing, until h2_peer_release
 *     /goaway         GOAWAY that leaves this stream in, then 200
 *     /fields/N       200 with N header fields of 100 bytes
 * Threads: one at a time. */
#ifndef TESTS_H2_PEER_H
#define TESTS_H2_PEER_H

#include <nghttp2/nghttp2.h>
#include <stdlib.h>

#include "tests/check.h"

#define H2_PEER_STREAMS_MAX 1024
#define H2_PEER_PATH_SIZE   64

struct h2_peer_stream {
    int32_t id; /* 0: free */
    char path[H2_PEER_PATH_SIZE];
    char authority[H2_PEER_PATH_SIZE];
    char method[16];
    size_t body_received;
    size_t body_left; /* of the response */
    char *echo;
    bool wants_trailers, is_answered, is_cut;
};

struct h2_peer {
    nghttp2_session *session;
    struct h2_peer_stream streams[H2_PEER_STREAMS_MAX];
    unsigned request_count, open_count, reset_count, ping_count;
    uint32_t last_reset_code, goaway_code;
    bool got_goaway;
    uint32_t settings_max_streams; /* to announce; 0: none announced */
    bool does_not_read;            /* give no window back for request bodies */
};

static inline nghttp2_nv h2_peer_nv(const char *name, const char *value)
{
    return (nghttp2_nv){ (uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), 0 };
}

static inline struct h2_peer_stream *h2_peer_find(struct h2_peer *peer, int32_t id)
{
    for (unsigned i = 0; i < H2_PEER_STREAMS_MAX; i++) {
        if (peer->streams[i].id == id) {
            return &peer->streams[i];
        }
    }
    return NULL;
}

static inline ssize_t h2_peer_read(nghttp2_session *session, int32_t id, uint8_t *buffer,
                                   size_t size, uint32_t *flags, nghttp2_data_source *source,
                                   void *arg)
{
    struct h2_peer_stream *stream = source->ptr;
    size_t part = stream->body_left < size ? stream->body_left : size;

    memset(buffer, 'x', part);
    if (stream->echo != NULL) {
        memcpy(buffer, stream->echo + (stream->body_received - stream->body_left), part);
    } else if (strncmp(stream->path, "/bytes", 6) != 0) {
        memcpy(buffer, "hello", part);
    }
    stream->body_left -= part;
    if (stream->body_left == 0) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->wants_trailers) {
            nghttp2_nv trailer = h2_peer_nv("checksum", "12");

            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            CHECK_EQ(nghttp2_submit_trailer(session, id, &trailer, 1), 0);
        }
        if (stream->is_cut) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            CHECK_EQ(nghttp2_submit_rst_stream(session, 0, id, NGHTTP2_INTERNAL_ERROR), 0);
        }
    }
    return (ssize_t)part;
}

static inline void h2_peer_respond(struct h2_peer *peer, struct h2_peer_stream *stream, size_t size)
{
    nghttp2_nv head[] = { h2_peer_nv(":status", "200"), h2_peer_nv("server", "peer") };
    nghttp2_data_provider body = { { .ptr = stream }, h2_peer_read };

    stream->body_left = size;
    stream->is_answered = true;
    CHECK_EQ(nghttp2_submit_response(peer->session, stream->id, head, 2, size > 0 ? &body : NULL),
             0);
}

static inline void h2_peer_respond_fields(struct h2_peer *peer, struct h2_peer_stream *stream,
                                          unsigned count)
{
    nghttp2_nv *head = calloc(count + 1, sizeof(*head));
    char value[101];

    memset(value, 'v', 100);
    value[100] = '\0';
    head[0] = h2_peer_nv(":status", "200");
    for (unsigned i = 0; i < count; i++) {
        head[i + 1] = h2_peer_nv("field", value);
    }
    stream->is_answered = true;
    CHECK_EQ(nghttp2_submit_response(peer->session, stream->id, head, count + 1, NULL), 0);
    free(head);
}

/* The request is complete. */
static inline void h2_peer_answer(struct h2_peer *peer, struct h2_peer_stream *stream)
{
    const char *path = stream->path;

    if (stream->is_answered) {
        return;
    }
    if (strcmp(path, "/refuse") == 0) {
        CHECK_EQ(nghttp2_submit_rst_stream(peer->session, 0, stream->id, NGHTTP2_REFUSED_STREAM),
                 0);
    } else if (strcmp(path, "/held") == 0) {
    } else if (strncmp(path, "/bytes/", 7) == 0) {
        h2_peer_respond(peer, stream, strtoul(path + 7, NULL, 10));
    } else if (strncmp(path, "/fields/", 8) == 0) {
        h2_peer_respond_fields(peer, stream, (unsigned)strtoul(path + 8, NULL, 10));
    } else if (strcmp(path, "/echo") == 0) {
        h2_peer_respond(peer, stream, stream->body_received);
    } else if (strcmp(path, "/informational") == 0) {
        nghttp2_nv hint = h2_peer_nv(":status", "103");

        CHECK_EQ(nghttp2_submit_headers(peer->session, 0, stream->id, NULL, &hint, 1, NULL), 0);
        CHECK_EQ(nghttp2_submit_headers(peer->session, 0, stream->id, NULL, &hint, 1, NULL), 0);
        h2_peer_respond(peer, stream, 5);
    } else {
        stream->wants_trailers = strcmp(path, "/trailers") == 0;
        stream->is_cut = strcmp(path, "/reset") == 0;
        if (strcmp(path, "/goaway") == 0) {
            CHECK_EQ(nghttp2_submit_goaway(peer->session, 0, stream->id, 0, NULL, 0), 0);
        }
        h2_peer_respond(peer, stream, 5);
    }
}

/* Answer every request that is held. */
static inline void h2_peer_release(struct h2_peer *peer)
{
    for (unsigned i = 0; i < H2_PEER_STREAMS_MAX; i++) {
        struct h2_peer_stream *stream = &peer->streams[i];

        if (stream->id != 0 && !stream->is_answered && strcmp(stream->path, "/held") == 0) {
            h2_peer_respond(peer, stream, 5);
        }
    }
}

static inline int h2_peer_on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_peer *peer = arg;

    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        struct h2_peer_stream *stream = h2_peer_find(peer, 0);

        CHECK(stream != NULL);
        *stream = (struct h2_peer_stream){ .id = frame->hd.stream_id };
        peer->request_count++;
        peer->open_count++;
    }
    return 0;
}

static inline int h2_peer_on_header(nghttp2_session *session, const nghttp2_frame *frame,
                                    const uint8_t *name, size_t name_size, const uint8_t *value,
                                    size_t value_size, uint8_t flags, void *arg)
{
    struct h2_peer_stream *stream = h2_peer_find(arg, frame->hd.stream_id);

    if (strcmp((const char *)name, ":path") == 0) {
        (void)snprintf(stream->path, sizeof(stream->path), "%s", (const char *)value);
    } else if (strcmp((const char *)name, ":authority") == 0) {
        (void)snprintf(stream->authority, sizeof(stream->authority), "%s", (const char *)value);
    } else if (strcmp((const char *)name, ":method") == 0) {
        (void)snprintf(stream->method, sizeof(stream->method), "%s", (const char *)value);
    }
    return 0;
}

static inline int h2_peer_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_peer *peer = arg;
    struct h2_peer_stream *stream = h2_peer_find(peer, frame->hd.stream_id);
    bool is_end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        peer->reset_count++;
        peer->last_reset_code = frame->rst_stream.error_code;
    } else if (frame->hd.type == NGHTTP2_PING) {
        peer->ping_count += (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0;
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        peer->got_goaway = true;
        peer->goaway_code = frame->goaway.error_code;
    } else if (frame->hd.stream_id != 0 && stream != NULL &&
               (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)) {
        if (is_end || strcmp(stream->path, "/early") == 0) {
            h2_peer_answer(peer, stream);
        }
    }
    return 0;
}

static inline int h2_peer_on_data(nghttp2_session *session, uint8_t flags, int32_t id,
                                  const uint8_t *bytes, size_t size, void *arg)
{
    struct h2_peer *peer = arg;
    struct h2_peer_stream *stream = h2_peer_find(peer, id);

    if (strcmp(stream->path, "/echo") == 0) {
        stream->echo = realloc(stream->echo, stream->body_received + size);
        memcpy(stream->echo + stream->body_received, bytes, size);
    }
    stream->body_received += size;
    if (!peer->does_not_read) {
        CHECK_EQ(nghttp2_session_consume(session, id, size), 0);
    }
    return 0;
}

static inline int h2_peer_on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct h2_peer *peer = arg;
    struct h2_peer_stream *stream = h2_peer_find(peer, id);

    if (stream != NULL) {
        free(stream->echo);
        *stream = (struct h2_peer_stream){ 0 };
        peer->open_count--;
    }
    return 0;
}

static inline void h2_peer_init(struct h2_peer *peer, uint32_t max_streams)
{
    nghttp2_settings_entry entry = { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, max_streams };
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *options;

    memset(peer, 0, sizeof(*peer));
    peer->settings_max_streams = max_streams;
    CHECK_EQ(nghttp2_session_callbacks_new(&callbacks), 0);
    CHECK_EQ(nghttp2_option_new(&options), 0);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, h2_peer_on_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, h2_peer_on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, h2_peer_on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, h2_peer_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, h2_peer_on_close);
    CHECK_EQ(nghttp2_session_server_new2(&peer->session, callbacks, peer, options), 0);
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
    CHECK_EQ(nghttp2_submit_settings(peer->session, 0, &entry, max_streams != 0), 0);
}

static inline void h2_peer_deinit(struct h2_peer *peer)
{
    for (unsigned i = 0; i < H2_PEER_STREAMS_MAX; i++) {
        free(peer->streams[i].echo);
    }
    nghttp2_session_del(peer->session);
}

#endif
