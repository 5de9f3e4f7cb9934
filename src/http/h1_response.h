/* h1_response.h: reading HTTP/1.1 responses, one at a time, as the bytes arrive.
 *
 *     h1_response_init(&r, NULL);
 *     h1_response_begin(&r, "GET");            for each response on the connection
 *     for (;;) {
 *         code = h1_response_feed(&r, data, size, &step, &err);
 *         data += step.consumed, size -= step.consumed;
 *         switch (step.event) ...              H1_NEED_MORE: read, or h1_response_finish_eof
 *     }
 *
 * One call gives one event; a body span points into `data`, nothing is copied. To pause, stop
 * calling. Bytes behind the end of the response are never consumed: what is left then is extra.
 * A parser that is reused stops allocating; it must not be moved between begin and H1_COMPLETE. The
 * result does not depend on how the input is cut. Private to the library. Thread: one at a time. */
#ifndef IL_HTTP_H1_RESPONSE_H
#define IL_HTTP_H1_RESPONSE_H

#include "http/h1_head.h"
#include "http/headers.h"

struct h1_response_limits {
    uint32_t head_size_max;      /* bytes of all heads: informational ones and the final one */
    uint32_t line_size_max;      /* bytes of one header line */
    uint32_t field_count_max;    /* header fields, all heads and trailers together */
    uint32_t trailer_size_max;   /* bytes of the trailers */
    uint32_t chunk_ext_size_max; /* bytes of all chunk extensions */
    uint32_t informational_max;  /* 1xx responses before the final one */
};

extern const struct h1_response_limits h1_response_limits_default;

enum h1_event {
    H1_NEED_MORE,     /* everything is consumed and the response is not complete */
    H1_INFORMATIONAL, /* a 1xx head: status, reason, headers are valid until the next call */
    H1_HEAD,          /* the final head: status, reason, headers, framing are there to stay */
    H1_BODY,          /* step.body: some bytes of the body, never none */
    H1_COMPLETE,      /* once: trailers and is_reusable are there too */
};

struct h1_step {
    enum h1_event event;
    size_t consumed;
    const char *body; /* H1_BODY: into the data that was fed */
    size_t body_size;
};

enum h1_framing {
    H1_FRAMING_NONE,  /* no body: HEAD, 204, 304, Content-Length: 0 */
    H1_FRAMING_SIZED, /* body_size bytes */
    H1_FRAMING_CHUNKED,
    H1_FRAMING_TO_CLOSE, /* until the server closes */
    H1_FRAMING_TUNNEL,   /* what follows is another protocol: CONNECT with 2xx */
};

struct h1_response {
    /* The result; from H1_HEAD (H1_INFORMATIONAL) on, until h1_response_begin. */
    uint16_t status;
    uint8_t version_minor; /* of HTTP/1.x: 0 or 1 */
    bool is_complete;
    bool is_reusable; /* once complete: may the connection carry another request? RFC 9112 9.3 */
    enum h1_framing framing;
    uint64_t body_size;                  /* H1_FRAMING_SIZED: what Content-Length says */
    uint64_t body_received;              /* bytes given out by H1_BODY, or taken, so far */
    char reason[H1_REASON_SIZE_MAX + 1]; /* may be ""; cut off when longer: it means nothing */
    struct il_headers headers;           /* take with headers_swap to keep */
    struct il_headers trailers; /* once complete; empty but for chunked bodies that have some */
    uint32_t informational_count;

    /* private */
    uint8_t state; /* enum response_state */
    bool is_head_request, is_connect, is_keep_alive;
    uint64_t remaining; /* of a sized body, or of the chunk */
    uint32_t chunk_ext_size;
    uint8_t chunk_digits;
    struct h1_response_limits limits;
    struct h1_head head;
};

/* `limits` is copied; NULL means the defaults. No allocation. */
void h1_response_init(struct h1_response *r, const struct h1_response_limits *limits);
void h1_response_deinit(struct h1_response *r);

/* Other limits, from the next response on. */
void h1_response_set_limits(struct h1_response *r, const struct h1_response_limits *limits);

/* Get ready for the response to a request with this method, whatever came before. */
void h1_response_begin(struct h1_response *r, const char *method);

/* Go on with `size` bytes at `data` up to the next event. `size` may be 0, to ask for an event that
 * needs no more bytes. After H1_COMPLETE it must not be called again until h1_response_begin.
 * IL_EPROTOCOL, IL_EHEADERSIZE or IL_ENOMEM are final: nothing was consumed that could be used, and
 * the connection is to be closed. */
IL_MUST_USE enum il_code h1_response_feed(struct h1_response *r, const char *data, size_t size,
                                          struct h1_step *ret_step, struct il_error *err);

/* How many of the bytes that come next are the body's, whatever they are. They may be received
 * right where they are wanted, and then be counted with h1_response_took, as if they had been fed.
 * 0 when only h1_response_feed knows; UINT64_MAX when all are until the connection ends. */
uint64_t h1_response_body_left(const struct h1_response *r);
void h1_response_took(struct h1_response *r, uint64_t size);

/* The server will send nothing more (over TLS: has said so; a cut stream is an error and not an
 * end). IL_OK when the response is complete, by that or before; else IL_EPEERCLOSED that says how
 * far it had come. */
IL_MUST_USE enum il_code h1_response_finish_eof(struct h1_response *r, struct il_error *err);

/* Has any byte of this response come? If not, the request may be one that was never looked at. */
bool h1_response_has_begun(const struct h1_response *r);

#endif
