/* h1_request.h: writing HTTP/1.1 requests.
 *
 * Offers: the head of a request as bytes, and the framing of a chunked body. Everything that could
 * split or smuggle a request is refused before a byte is written. Thread: one at a time. */
#ifndef IL_HTTP_H1_REQUEST_H
#define IL_HTTP_H1_REQUEST_H

#include "base/bytes.h"
#include "http/headers.h"
#include "http/url.h"

#define H1_METHOD_SIZE_MAX 64
#define H1_USER_AGENT      "interloop/0.1"

enum h1_body_kind {
    H1_BODY_NONE,
    H1_BODY_SIZED,   /* Content-Length */
    H1_BODY_CHUNKED, /* Transfer-Encoding: chunked */
};

enum h1_target_form {
    H1_TARGET_ORIGIN,    /* "/path?query": to the server itself */
    H1_TARGET_ABSOLUTE,  /* "http://host/path?query": to a proxy */
    H1_TARGET_AUTHORITY, /* "host:port": CONNECT, to a proxy */
};

struct h1_request_head {
    const char *method;
    const struct url *url;
    const struct il_headers *headers; /* the user's; NULL for none */
    enum h1_target_form target_form;
    enum h1_body_kind body_kind;
    uint64_t body_size; /* H1_BODY_SIZED */
};

/* Which of the headers that we would add the user has set. */
struct h1_request_seen {
    bool has_host, has_user_agent, has_accept, has_content_length, has_transfer_encoding;
};

/* Check all that could make the request mean something else than what is sent. IL_EREQUEST. */
IL_MUST_USE enum il_code h1_request_check(const struct h1_request_head *head,
                                          struct h1_request_seen *ret_seen, struct il_error *err);

/* Is a request with this method expected to say that it has no body? RFC 9110 8.6. */
bool h1_request_wants_length_0(const char *method);

/* Append the head, up to and with its empty line, to `out`. Adds Host, User-Agent and Accept unless
 * the user set them, and the body's framing. IL_EREQUEST names the header or part that is wrong;
 * on failure `out` is as it was. */
IL_MUST_USE enum il_code h1_request_write(struct il_bytes *out, const struct h1_request_head *head,
                                          struct il_error *err);

/* ---- a chunked body: head, data, tail; head, data, tail; ...; end ---- */

#define H1_CHUNK_HEAD_MAX  18 /* 16 hex digits, CR LF */
#define H1_CHUNK_TAIL      "\r\n"
#define H1_CHUNK_TAIL_SIZE 2
#define H1_CHUNK_END       "0\r\n\r\n"
#define H1_CHUNK_END_SIZE  5

/* What goes before a chunk of `chunk_size` bytes, which must not be 0 (that would end the body).
 * Returns the bytes written; no NUL. */
size_t h1_chunk_head(char out[static H1_CHUNK_HEAD_MAX], uint64_t chunk_size);

#endif
