/* h2_request.c: the head of a request as HTTP/2 has it (RFC 9113 8.3). No state but the scratch. */
#include "http/h2.h"

enum { NV_FIXED_MAX = 8 }; /* fields beyond the user's: four pseudo ones, and what we add */

/* Headers of the connection and not of the request: HTTP/2 has none, RFC 9113 8.2.2. */
static const char *const connection_headers[] = {
    "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host",
};

static nghttp2_nv nv(const char *name, size_t name_size, const char *value, size_t value_size,
                     uint8_t flags)
{
    return (nghttp2_nv){ (uint8_t *)name, (uint8_t *)value, name_size, value_size, flags };
}

/* String literals need no copy: as the name, and as both. */
#define NV(name, value, value_size)                                                                \
    nv(name, sizeof(name) - 1, value, value_size, NGHTTP2_NV_FLAG_NO_COPY_NAME)
#define NV_STATIC(name, value, value_size)                                                         \
    nv(name, sizeof(name) - 1, value, value_size,                                                  \
       NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)

static bool is_left_out(const char *name, size_t size, const char *value, size_t value_size)
{
    for (size_t i = 0; i < il_array_count(connection_headers); i++) {
        if (http_equals_ignoring_case(name, size, connection_headers[i],
                                      strlen(connection_headers[i]))) {
            return true;
        }
    }
    return http_equals_ignoring_case(name, size, "te", 2) &&
           !http_equals_ignoring_case(value, value_size, "trailers", 8);
}

/* Spaces around a value are no part of it, and a server must refuse them: RFC 9113 8.2.1. */
static void trim(const char **value, size_t *size)
{
    while (*size > 0 && (**value == ' ' || **value == '\t')) {
        (*value)++;
        (*size)--;
    }
    while (*size > 0 && ((*value)[*size - 1] == ' ' || (*value)[*size - 1] == '\t')) {
        (*size)--;
    }
}

/* The user's headers, with names in lower case, which are kept in `names`. */
static size_t put_headers(nghttp2_nv *out, const struct il_headers *headers, struct il_bytes *names)
{
    size_t count = 0;

    for (size_t i = 0; headers != NULL && i < headers->count; i++) {
        const struct headers_entry *entry = &headers->entries[i];
        const char *name = headers->bytes + entry->name_offset;
        const char *value = headers->bytes + entry->value_offset;
        size_t value_size = entry->value_size;
        char *lower = il_bytes_tail(names);

        trim(&value, &value_size);
        if (is_left_out(name, entry->name_size, value, value_size)) {
            continue;
        }
        for (uint32_t at = 0; at < entry->name_size; at++) {
            bool is_upper = name[at] >= 'A' && name[at] <= 'Z';

            lower[at] = (char)(is_upper ? name[at] | 0x20 : name[at]);
        }
        il_bytes_added(names, entry->name_size);
        out[count++] = nv(lower, entry->name_size, value, value_size, NGHTTP2_NV_FLAG_NONE);
    }
    return count;
}

static size_t put_length(nghttp2_nv *out, const struct h1_request_head *head,
                         const struct h1_request_seen *seen, char digits[IL_DECIMAL_SIZE_MAX])
{
    if (seen->has_content_length || head->body_kind == H1_BODY_CHUNKED ||
        (head->body_kind == H1_BODY_NONE && !h1_request_wants_length_0(head->method))) {
        return 0;
    }
    *out = NV("content-length", digits,
              il_decimal(digits, head->body_kind == H1_BODY_SIZED ? head->body_size : 0));
    return 1;
}

static size_t put_head(nghttp2_nv *out, const struct h1_request_head *head,
                       const struct h1_request_seen *seen, struct il_bytes *names,
                       char digits[IL_DECIMAL_SIZE_MAX])
{
    const struct url *url = head->url;
    const char *scheme = url_scheme_name(url->scheme);
    const char *host = seen->has_host ? il_headers_get(head->headers, "host") : NULL;
    size_t count = 0;

    out[count++] = NV(":method", head->method, strlen(head->method));
    out[count++] = NV_STATIC(":scheme", scheme, strlen(scheme));
    out[count++] = host != NULL ? NV(":authority", host, strlen(host))
                                : NV(":authority", url->authority, url->authority_size);
    out[count++] = NV(":path", url->path_and_query, url->path_and_query_size);
    if (!seen->has_user_agent) {
        out[count++] = NV_STATIC("user-agent", H1_USER_AGENT, sizeof(H1_USER_AGENT) - 1);
    }
    if (!seen->has_accept) {
        out[count++] = NV_STATIC("accept", "*/*", 3);
    }
    count += put_length(out + count, head, seen, digits);
    return count + put_headers(out + count, head->headers, names);
}

/* Everything is well: hand it to nghttp2. */
static int32_t submit(struct h2 *h2, struct h2_stream *stream, const struct h1_request_head *head,
                      const struct h1_request_seen *seen, nghttp2_nv *out)
{
    nghttp2_data_provider body = { .source = { .ptr = stream }, .read_callback = h2_on_wanted };
    char digits[IL_DECIMAL_SIZE_MAX];
    size_t count = put_head(out, head, seen, &h2->names, digits);

    return nghttp2_submit_request(h2->session, NULL, out, count,
                                  head->body_kind == H1_BODY_NONE ? NULL : &body, stream);
}

static enum il_code check(const struct h2 *h2, const struct h1_request_head *head,
                          struct h1_request_seen *ret_seen, struct il_error *err)
{
    if (strcmp(head->method, "CONNECT") == 0) {
        return il_fail(err, IL_EREQUEST, "a tunnel (CONNECT) is not supported over HTTP/2");
    }
    if (!h2_is_open(h2)) {
        return il_fail(err, IL_EPEERCLOSED, "this HTTP/2 connection takes no more requests");
    }
    return h1_request_check(head, ret_seen, err);
}

enum il_code h2_open_stream(struct h2 *h2, struct h2_stream *stream,
                            const struct h1_request_head *head, struct il_error *err)
{
    size_t header_count = head->headers != NULL ? head->headers->count : 0;
    size_t names_size = head->headers != NULL ? head->headers->size : 0;
    struct h1_request_seen seen;
    nghttp2_nv few[NV_FIXED_MAX], *out;
    int32_t id = NGHTTP2_ERR_NOMEM;
    enum il_code code = check(h2, head, &seen, err);

    il_assert(stream->id == 0);
    if (code != IL_OK) {
        return code;
    }
    out = header_count == 0 ? few : il_malloc((header_count + NV_FIXED_MAX) * sizeof(*out));
    il_bytes_truncate(&h2->names, 0);
    if (out != NULL && (names_size == 0 || il_bytes_reserve(&h2->names, names_size) == IL_OK)) {
        id = submit(h2, stream, head, &seen, out);
    }
    if (out != few) {
        il_free(out);
    }
    if (id < 0) {
        h2_note_step(h2); /* there may be no more numbers for streams */
        return id == NGHTTP2_ERR_NOMEM
                   ? il_fail(err, IL_ENOMEM, "no memory for a request over HTTP/2")
                   : il_fail(err, IL_EPEERCLOSED, "this HTTP/2 connection takes no more requests");
    }
    stream->id = id;
    stream->h2 = h2;
    stream->is_head_request = strcmp(head->method, "HEAD") == 0;
    il_list_push_back(&h2->streams, &stream->link);
    h2->stream_count++;
    return IL_OK;
}
