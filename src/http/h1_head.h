/* h1_head.h: parsing a header section: the head of a response, or the trailers of a chunked body.
 *
 * llhttp (strict mode) reads the start line and the fields, behind the line guard of h1_lines.h.
 * The result is the same wherever the input is cut. Private to src/http. Thread: one at a time. */
#ifndef IL_HTTP_H1_HEAD_H
#define IL_HTTP_H1_HEAD_H

#include <llhttp.h>

#include "http/h1_lines.h"
#include "http/headers.h"

enum { H1_REASON_SIZE_MAX = 63 };

enum h1_section {
    H1_SECTION_HEAD,      /* the first of a response */
    H1_SECTION_NEXT_HEAD, /* after an informational one; sizes and fields count on */
    H1_SECTION_TRAILER,   /* fields count on */
};

struct h1_span {
    const char *at;
    size_t size;
};

struct h1_head {
    /* the result, once is_complete */
    bool is_complete;
    uint8_t version_minor; /* of HTTP/1.x */
    uint16_t status;
    bool has_content_length, has_transfer_encoding;
    bool connection_close, connection_keep_alive;
    uint64_t content_length;
    char reason[H1_REASON_SIZE_MAX + 1]; /* cut off when longer: it means nothing (RFC 9112 4) */

    bool is_trailer;
    bool is_out_of_memory;
    uint8_t reason_size;
    const char *wrong;          /* what a callback objected to */
    struct h1_span name, value; /* of the field being read, in the data being fed; `at` or NULL */
    struct h1_lines lines;
    struct il_headers *headers; /* where the fields go */
    llhttp_t llhttp;
};

/* Get ready for a section; `headers` is emptied. No allocation. */
void h1_head_begin(struct h1_head *head, enum h1_section section,
                   const struct h1_head_limits *limits, struct il_headers *headers);

/* Read on; `ret_consumed` is `size` unless the section ends before (is_complete). IL_EPROTOCOL,
 * IL_EHEADERSIZE, IL_ENOMEM are final. */
IL_MUST_USE enum il_code h1_head_feed(struct h1_head *head, const char *data, size_t size,
                                      size_t *ret_consumed, struct il_error *err);

#endif
