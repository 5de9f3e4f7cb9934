/* h1_request.c: writing HTTP/1.1 requests. No state.
 *
 * What comes in is valid piece by piece (a header list holds only valid headers, a url only bytes
 * that may stand in a request line). What is checked here is the whole: that no header says
 * something else about the body or the host than what is really sent (RFC 9112 6, 3.2). */
#include <inttypes.h>
#include <stdio.h>

#include "http/h1_request.h"

struct request_header {
    const char *name, *value;
    size_t name_size, value_size;
};

static struct request_header header_at(const struct il_headers *headers, size_t index)
{
    const struct headers_entry *entry = &headers->entries[index];

    return (struct request_header){
        .name = headers->bytes + entry->name_offset,
        .value = headers->bytes + entry->value_offset,
        .name_size = entry->name_size,
        .value_size = entry->value_size,
    };
}

static bool is_named(const struct request_header *header, const char *name, size_t name_size)
{
    return http_equals_ignoring_case(header->name, header->name_size, name, name_size);
}

/* ---- checks ---- */

static enum il_code check_method(const char *method, struct il_error *err)
{
    size_t size = strnlen(method, H1_METHOD_SIZE_MAX + 1);
    char text[48];

    if (size == 0) {
        return il_fail(err, IL_EREQUEST, "the request's method is empty");
    }
    if (size > H1_METHOD_SIZE_MAX) {
        return il_fail(err, IL_EREQUEST, "the request's method is longer than %d bytes",
                       H1_METHOD_SIZE_MAX);
    }
    if (!http_is_token(method, size)) {
        return il_fail(err, IL_EREQUEST,
                       "request method \"%s\" is not valid: it must be one word of letters",
                       il_escape(text, sizeof(text), method, size));
    }
    return IL_OK;
}

static enum il_code check_content_length(const struct h1_request_head *head,
                                         const struct request_header *header,
                                         const struct h1_request_seen *seen, struct il_error *err)
{
    char want[24];
    int want_size;

    if (seen->has_content_length) {
        return il_fail(err, IL_EREQUEST, "header \"Content-Length\" is set twice; leave it out");
    }
    if (head->body_kind == H1_BODY_CHUNKED) {
        return il_fail(err, IL_EREQUEST,
                       "header \"Content-Length\" cannot be set: the body is sent in chunks");
    }
    want_size = snprintf(want, sizeof(want), "%" PRIu64,
                         head->body_kind == H1_BODY_SIZED ? head->body_size : 0);
    if (header->value_size != (size_t)want_size ||
        memcmp(header->value, want, header->value_size) != 0) {
        return il_fail(err, IL_EREQUEST,
                       "header \"Content-Length\" differs from the body's size, %s bytes; leave it "
                       "out and it will be right",
                       want);
    }
    return IL_OK;
}

static enum il_code check_transfer_encoding(const struct h1_request_head *head,
                                            const struct request_header *header,
                                            const struct h1_request_seen *seen,
                                            struct il_error *err)
{
    if (seen->has_transfer_encoding) {
        return il_fail(err, IL_EREQUEST, "header \"Transfer-Encoding\" is set twice; leave it out");
    }
    if (head->body_kind != H1_BODY_CHUNKED) {
        return il_fail(err, IL_EREQUEST,
                       "header \"Transfer-Encoding\" cannot be set: the body is not sent in "
                       "chunks");
    }
    if (!http_equals_ignoring_case(header->value, header->value_size, "chunked", 7)) {
        return il_fail(err, IL_EREQUEST,
                       "header \"Transfer-Encoding\" can only be \"chunked\"; leave it out");
    }
    return IL_OK;
}

static enum il_code check_host(const struct request_header *header,
                               const struct h1_request_seen *seen, struct il_error *err)
{
    if (seen->has_host) {
        return il_fail(err, IL_EREQUEST, "header \"Host\" is set twice");
    }
    for (size_t i = 0; i < header->value_size; i++) {
        char byte = header->value[i];
        bool is_alphanumeric =
            (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z');

        /* What an authority may hold (RFC 3986 3.2), but for ',' and '@': some see two in those. */
        if (!is_alphanumeric && (byte == '\0' || strchr("-._~%!$&'()*+;=:[]", byte) == NULL)) {
            return il_fail(err, IL_EREQUEST,
                           "header \"Host\" is not a host, or host:port (at byte %zu)", i);
        }
    }
    return header->value_size > 0 ? IL_OK : il_fail(err, IL_EREQUEST, "header \"Host\" is empty");
}

/* Look at each of the user's headers once: those that mean something to us are checked and noted.
 */
static enum il_code check_headers(const struct h1_request_head *head, struct h1_request_seen *seen,
                                  struct il_error *err)
{
    size_t count = head->headers == NULL ? 0 : head->headers->count;

    for (size_t i = 0; i < count; i++) {
        struct request_header header = header_at(head->headers, i);
        enum il_code code = IL_OK;

        if (is_named(&header, "host", 4)) {
            code = check_host(&header, seen, err);
            seen->has_host = true;
        } else if (is_named(&header, "accept", 6)) {
            seen->has_accept = true;
        } else if (is_named(&header, "user-agent", 10)) {
            seen->has_user_agent = true;
        } else if (is_named(&header, "content-length", 14)) {
            code = check_content_length(head, &header, seen, err);
            seen->has_content_length = true;
        } else if (is_named(&header, "transfer-encoding", 17)) {
            code = check_transfer_encoding(head, &header, seen, err);
            seen->has_transfer_encoding = true;
        }
        if (code != IL_OK) {
            return code;
        }
    }
    return IL_OK;
}

enum il_code h1_request_check(const struct h1_request_head *head, struct h1_request_seen *ret_seen,
                              struct il_error *err)
{
    enum il_code code = check_method(head->method, err);

    *ret_seen = (struct h1_request_seen){ 0 };
    return code == IL_OK ? check_headers(head, ret_seen, err) : code;
}

/* ---- writing, into room that was reserved ---- */

static char *put(char *out, const void *data, size_t size)
{
    memcpy(out, data, size);
    return out + size;
}

static char *put_string(char *out, const char *text)
{
    return put(out, text, strlen(text));
}

/* A string literal. */
#define PUT(out, literal) put(out, literal, sizeof(literal) - 1)

static char *put_target(char *out, const struct h1_request_head *head)
{
    const struct url *url = head->url;

    switch (head->target_form) {
    case H1_TARGET_ORIGIN:
        break;
    case H1_TARGET_ABSOLUTE:
        out = put_string(out, url_scheme_name(url->scheme));
        out = PUT(out, "://");
        out = put(out, url->authority, url->authority_size);
        break;
    case H1_TARGET_AUTHORITY: /* always with its port, RFC 9112 3.2.3 */
        out = put(out, url->authority, url->authority_size);
        if (url->port == url_default_port(url->scheme)) {
            *out++ = ':';
            out += il_decimal(out, url->port);
        }
        return out;
    }
    return put(out, url->path_and_query, url->path_and_query_size);
}

bool h1_request_wants_length_0(const char *method)
{
    return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
           strcmp(method, "PATCH") == 0;
}

static char *put_framing(char *out, const struct h1_request_head *head,
                         const struct h1_request_seen *seen)
{
    if (head->body_kind == H1_BODY_CHUNKED && !seen->has_transfer_encoding) {
        return PUT(out, "Transfer-Encoding: chunked\r\n");
    }
    if (head->body_kind == H1_BODY_SIZED && !seen->has_content_length) {
        out = PUT(out, "Content-Length: ");
        out += il_decimal(out, head->body_size);
        return PUT(out, "\r\n");
    }
    if (head->body_kind == H1_BODY_NONE && !seen->has_content_length &&
        h1_request_wants_length_0(head->method)) {
        return PUT(out, "Content-Length: 0\r\n");
    }
    return out;
}

static char *put_head(char *out, const struct h1_request_head *head,
                      const struct h1_request_seen *seen)
{
    size_t count = head->headers == NULL ? 0 : head->headers->count;

    out = put_string(out, head->method);
    *out++ = ' ';
    out = put_target(out, head);
    out = PUT(out, " HTTP/1.1\r\n");
    if (!seen->has_host) { /* first, RFC 9110 7.2 */
        out = PUT(out, "Host: ");
        out = put(out, head->url->authority, head->url->authority_size);
        out = PUT(out, "\r\n");
    }
    if (!seen->has_user_agent) {
        out = PUT(out, "User-Agent: " H1_USER_AGENT "\r\n");
    }
    if (!seen->has_accept) {
        out = PUT(out, "Accept: */*\r\n");
    }
    for (size_t i = 0; i < count; i++) {
        struct request_header header = header_at(head->headers, i);

        out = put(out, header.name, header.name_size);
        out = PUT(out, ": ");
        out = put(out, header.value, header.value_size);
        out = PUT(out, "\r\n");
    }
    out = put_framing(out, head, seen);
    return PUT(out, "\r\n");
}

/* Everything put_head may write beyond method, path, authority (at most twice) and the user's
 * headers, with room to spare. */
enum { REQUEST_FIXED_SIZE = 256 };

enum il_code h1_request_write(struct il_bytes *out, const struct h1_request_head *head,
                              struct il_error *err)
{
    struct h1_request_seen seen;
    size_t size = REQUEST_FIXED_SIZE + H1_METHOD_SIZE_MAX + head->url->path_and_query_size +
                  2 * (size_t)head->url->authority_size;
    char *tail, *end;
    enum il_code code;

    if ((code = h1_request_check(head, &seen, err)) != IL_OK) {
        return code;
    }
    if (head->headers != NULL) {
        size += head->headers->size + (size_t)head->headers->count * 2; /* ": " CRLF for two NULs */
    }
    if (il_bytes_reserve(out, size) != IL_OK) {
        return il_fail(err, IL_ENOMEM, "out of memory for a request of %zu bytes", size);
    }
    tail = il_bytes_tail(out);
    end = put_head(tail, head, &seen);
    il_assert((size_t)(end - tail) <= size);
    il_bytes_added(out, (size_t)(end - tail));
    return IL_OK;
}

size_t h1_chunk_head(char out[static H1_CHUNK_HEAD_MAX], uint64_t chunk_size)
{
    static const char hex[] = "0123456789abcdef";
    size_t digits = 1, size;

    il_assert(chunk_size > 0);
    while (digits < 16 && chunk_size >> (4 * digits) != 0) {
        digits++;
    }
    size = digits;
    while (digits > 0) {
        out[--digits] = hex[chunk_size & 15];
        chunk_size >>= 4;
    }
    out[size] = '\r';
    out[size + 1] = '\n';
    return size + 2;
}
