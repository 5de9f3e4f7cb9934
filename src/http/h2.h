/* h2.h: one HTTP/2 connection, client side, as bytes in and bytes out (RFC 9113, by nghttp2).
 *
 * Offers: streams that carry one request and one response each, flow control with both windows
 *   apart, and the bounds that a hostile server runs into. It has no socket, no clock and no lock:
 *   who owns it feeds what was received, sends what there is to send, and is told what came of it.
 *
 *     h2_open_stream    a request goes out; its body is asked for when there is room for it
 *     h2_feed           received bytes; events come out, from within this call
 *     h2_pull           bytes to send; body sources are asked from within this call
 *
 * Windows: the connection's is given back as soon as bytes arrive, so that a body which nobody
 * reads holds up its own stream and no other; the stream's is given back with h2_consume, by
 * whoever has used the bytes. So a stream never holds more unread bytes than its window. Who
 * wants both to be given back with h2_consume, as hyper does, sets holds_window in its h2_events.
 *
 * From an event no function of this header may be called but h2_consume. Thread: one at a time. */
#ifndef IL_HTTP_H2_H
#define IL_HTTP_H2_H

#include <nghttp2/nghttp2.h>

#include "base/bytes.h"
#include "http/h1_request.h"
#include "http/h1_response.h"
#include "http/h2_memory.h"

#define H2_STREAM_COUNT_MAX  100 /* until the server has said how many it allows, RFC 9113 6.5.2 */
#define H2_IDLE_FRAMES_MAX   10000             /* frames in a row that brought no stream forward */
#define H2_IDLE_BYTES_MAX    (4 * 1024 * 1024) /* likewise, in bytes: some frames are not counted */
#define H2_ACKS_QUEUED_MAX   1000
#define H2_SETTINGS_MAX      32    /* entries in one frame */
#define H2_CONTINUATIONS_MAX 32    /* frames that one header section may be cut into */
#define H2_FIELD_SIZE_MAX    65536 /* bytes of a name or a value: nghttp2's, not to be changed */
#define H2_RESETS_BURST      1000  /* streams that the server may reset at once, and then ... */
#define H2_RESETS_PER_S      33    /* ... in each second */

struct h2;
struct h2_stream;

enum h2_end {
    H2_END_COMPLETE, /* the response is whole */
    H2_END_REFUSED,  /* the server has not acted on the request: it may be sent again */
    H2_END_FAILED,   /* stream->error says why */
};

/* How much the server may send without being asked for more, in bytes. */
struct h2_windows {
    uint32_t stream;     /* of one body: what may wait for its reader; up to 2^31 - 1 */
    uint32_t connection; /* on all streams; 65,535 (which HTTP/2 begins with) to 2^31 - 1 */
};

/* What is told of a stream. Each gets the stream that was opened; after on_end it is the owner's
 * alone. */
struct h2_events {
    /* The final head has come; status, headers, framing are there. False, with stream->error set:
     * the response is of no use; it is reset, and fails. */
    bool (*on_head)(struct h2_stream *stream);

    /* Bytes of the body. False: as for on_head. The window is the receiver's to give back. */
    bool (*on_body)(struct h2_stream *stream, const char *bytes, size_t size);

    /* The last that is heard of the stream. */
    void (*on_end)(struct h2_stream *stream, enum h2_end end);

    /* The next bytes of the request's body into `buffer`; `ret_is_last` with the last ones. 0 and
     * not the last: there are none yet, h2_resume will tell. */
    size_t (*on_wanted)(struct h2_stream *stream, char *buffer, size_t size, bool *ret_is_last);

    bool holds_window; /* a body that nobody has read takes from the connection's window, too */
};

/* One exchange; in the memory of whoever opens it, and not moved while it is open. */
struct h2_stream {
    int32_t id; /* 0: not open */
    struct h2 *h2;
    uint16_t status; /* 0: no head yet */
    enum h1_framing framing;
    uint64_t body_size; /* announced, or UINT64_MAX */
    uint64_t body_received;
    bool has_length;            /* the head has a content-length; body_size */
    struct il_headers headers;  /* take with headers_swap */
    struct il_headers trailers; /* at the end */
    struct il_error error;

    /* private */
    struct il_list link;
    bool is_head_request, is_in_trailers, is_last_frame, is_ended, has_failed;
    uint32_t informational_count;
    uint32_t head_size, field_count;
};

struct h2 {
    nghttp2_session *session;
    struct h2_memory memory; /* the session's */
    const struct h2_events *events;
    struct h1_response_limits limits;
    struct il_list streams;
    struct h2_stream *recent; /* the one that events were last about; NULL: none, or it is over */
    int32_t sent_id_max;      /* the last request's that has gone out */
    size_t used_size; /* of bodies, for which the connection's window is yet to be given back */
    uint32_t stream_count;
    uint32_t stream_count_max; /* what the server allows at a time; grows and shrinks */
    bool has_settings;         /* the server's first SETTINGS have come */
    bool has_pong;             /* the last h2_ping was answered */
    bool may_open;             /* nghttp2 would; asked after each of its steps */
    bool is_going_away;        /* GOAWAY: no new streams; those that are open go on */
    bool owes_goodbye;         /* ours is to follow the heads that are not yet sent */
    uint32_t goaway_code;
    uint32_t idle_frame_count, idle_byte_count; /* see H2_IDLE_FRAMES_MAX, H2_IDLE_BYTES_MAX */
    uint32_t reset_count;                       /* see H2_RESETS_BURST; shrinks with time */
    uint64_t now_ns, resets_since_ns;           /* the first is the owner's to set, see h2_feed */
    bool has_failed;
    bool is_refused;       /* it has, by a bound of ours, which the server has not been told of */
    bool is_told;          /* nghttp2 has told it */
    struct il_error error; /* once it has failed */
    struct il_bytes names; /* scratch: lower-case header names of a request on its way */
};

/* `limits` are those for heads in HTTP/1.1, of which head_size_max, field_count_max,
 * trailer_size_max and informational_max mean the same here. IL_ENOMEM. */
IL_MUST_USE enum il_code h2_init(struct h2 *h2, const struct h2_events *events,
                                 const struct h1_response_limits *limits,
                                 const struct h2_windows *windows, struct il_error *err);

/* No stream may be open. A zeroed one is fine. */
void h2_deinit(struct h2 *h2);

void h2_stream_init(struct h2_stream *stream);

/* As after h2_stream_init, but for memory that the headers keep. One that is not open. */
void h2_stream_reset(struct h2_stream *stream);
void h2_stream_deinit(struct h2_stream *stream);

/* Open a stream for a request; its head is sent with the next h2_pull. A body, if there is one, is
 * asked for with on_wanted. IL_EREQUEST, IL_ENOMEM: nothing happened. IL_EPEERCLOSED: this
 * connection takes no more streams. */
IL_MUST_USE enum il_code h2_open_stream(struct h2 *h2, struct h2_stream *stream,
                                        const struct h1_request_head *head, struct il_error *err);

/* There are bytes of the request's body again. */
void h2_resume(struct h2_stream *stream);

/* `size` bytes of the body have been used: the server may send as many more. With holds_window
 * also when the stream is not open any more. */
void h2_consume(struct h2_stream *stream, size_t size);

/* Has the server sent all that it may before some of it has been used? */
bool h2_stream_is_full(const struct h2_stream *stream);

/* How many bytes of bodies the server may send before it must be allowed more. */
uint32_t h2_window_left(const struct h2 *h2);

/* Give the stream up: reset it, and forget it. No event follows. One that is not open is fine. */
void h2_abandon(struct h2_stream *stream);

/* Go on with received bytes, all of them; h2->now_ns says when they came. A failure is final:
 * h2_fail says the rest. */
IL_MUST_USE enum il_code h2_feed(struct h2 *h2, const char *bytes, size_t size,
                                 struct il_error *err);

/* Append what is to be sent to `out`, about `size_max` bytes of it at most; more with the next
 * call. Final failures as in h2_feed. */
IL_MUST_USE enum il_code h2_pull(struct h2 *h2, struct il_bytes *out, size_t size_max,
                                 struct il_error *err);

/* The connection is lost: on_end for every stream. Those that the server has certainly not acted
 * on are refused, the others fail with `error`. */
void h2_fail(struct h2 *h2, const struct il_error *error);

/* May another stream be opened? Does not ask how many there are. */
bool h2_is_open(const struct h2 *h2);

/* Ask the server whether it is there; has_pong tells that it has answered. */
void h2_ping(struct h2 *h2);

/* The connection has failed by the server's fault: append what the server is to be told (GOAWAY
 * with the reason) to what is left in `out`. False: there is nothing to be said. */
bool h2_last_words(const struct h2 *h2, struct il_bytes *out);

/* Say goodbye: GOAWAY with the next h2_pull, but after the heads of all requests, for a server may
 * close the connection where it knows of none. Streams that are open go on. */
void h2_say_goodbye(struct h2 *h2);

/* nghttp2 has done something after which it may take no more streams. For h2_request.c, like the
 * next one. */
void h2_note_step(struct h2 *h2);

/* nghttp2's question for a request's body. */
ssize_t h2_on_wanted(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t size,
                     uint32_t *flags, nghttp2_data_source *source, void *arg);

#endif
