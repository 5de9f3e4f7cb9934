/* request.c: fuzz target for what is sent: any method, URL and headers, in both versions.
 *
 * The first byte of the input says which body there is, the rest is the method, the URL, and names
 * and values of headers, with a NUL behind each. What must hold of a request that is accepted: in
 * HTTP/1.1 its lines are those that were asked for and the few that we add, and none of them is
 * broken by what stands in it; in HTTP/2 a server that is strict (nghttp2's) takes it as it is. */
#include <string.h>

#include "http/h2.h"
#include "tests/fuzz/fuzz.h"

enum { INPUT_SIZE_MAX = 16 * 1024, HEADERS_MAX = 64 };

struct parts {
    const char *at, *end;
};

/* The next part, or NULL at the end. */
static const char *parts_next(struct parts *parts)
{
    const char *part = parts->at;

    if (part >= parts->end) {
        return NULL;
    }
    parts->at += strlen(part) + 1;
    return part;
}

static bool is_line_byte(char byte)
{
    return byte == '\t' || ((unsigned char)byte >= ' ' && byte != 0x7f);
}

static bool begins_with(const char *line, size_t size, const char *name)
{
    size_t length = strlen(name);

    return size >= length && http_equals_ignoring_case(line, length, name, length);
}

/* ---- HTTP/1.1 ---- */

struct counts {
    size_t lines, hosts, lengths, encodings;
};

static void check_first_line(const char *line, size_t size, const struct h1_request_head *head)
{
    size_t method_size = strlen(head->method);
    unsigned spaces = 0;

    FUZZ_CHECK(size > method_size + 10 && memcmp(line, head->method, method_size) == 0);
    FUZZ_CHECK(line[method_size] == ' ' && line[method_size + 1] == '/');
    FUZZ_CHECK(memcmp(line + size - 9, " HTTP/1.1", 9) == 0);
    for (size_t i = 0; i < size; i++) {
        spaces += line[i] == ' ';
    }
    FUZZ_CHECK(spaces == 2);
}

static void check_field_line(const char *line, size_t size, struct counts *counts)
{
    const char *colon = memchr(line, ':', size);

    FUZZ_CHECK(colon != NULL && http_is_token(line, (size_t)(colon - line)));
    counts->lines++;
    counts->hosts += begins_with(line, size, "host:");
    counts->lengths += begins_with(line, size, "content-length:");
    counts->encodings += begins_with(line, size, "transfer-encoding:");
}

static void check_http1(const struct h1_request_head *head)
{
    struct h1_request_seen seen;
    struct counts counts = { 0 };
    const char *at, *end;
    struct il_bytes out;
    struct il_error err;
    size_t added;

    il_bytes_init(&out);
    if (h1_request_write(&out, head, &err) != IL_OK) {
        FUZZ_CHECK(err.message[0] != '\0' && il_bytes_size(&out) == 0);
        return;
    }
    FUZZ_CHECK(h1_request_check(head, &seen, &err) == IL_OK);
    at = il_bytes_data(&out);
    end = at + il_bytes_size(&out);
    for (size_t number = 0; at < end; number++) {
        const char *cr = memchr(at, '\r', (size_t)(end - at));

        FUZZ_CHECK(cr != NULL && cr + 1 < end && cr[1] == '\n');
        for (const char *byte = at; byte < cr; byte++) {
            FUZZ_CHECK(is_line_byte(*byte));
        }
        if (number == 0) {
            check_first_line(at, (size_t)(cr - at), head);
        } else if (cr == at) {
            FUZZ_CHECK(cr + 2 == end); /* the empty line is the last one */
        } else {
            check_field_line(at, (size_t)(cr - at), &counts);
        }
        at = cr + 2;
    }
    FUZZ_CHECK(end - il_bytes_data(&out) >= 4 && memcmp(end - 4, "\r\n\r\n", 4) == 0);
    FUZZ_CHECK(counts.hosts == 1 && counts.lengths + counts.encodings <= 1);
    added = counts.lines - head->headers->count;
    FUZZ_CHECK(added >= (size_t)!seen.has_host + !seen.has_user_agent + !seen.has_accept);
    FUZZ_CHECK(added <= (size_t)!seen.has_host + !seen.has_user_agent + !seen.has_accept + 1);
    il_bytes_deinit(&out);
}

/* ---- HTTP/2 ---- */

struct server {
    const struct h1_request_head *head;
    unsigned request_count;
};

static int server_on_header(nghttp2_session *session, const nghttp2_frame *frame,
                            const uint8_t *name, size_t name_size, const uint8_t *value,
                            size_t value_size, uint8_t flags, void *arg)
{
    const struct server *server = arg;

    if (strcmp((const char *)name, ":method") == 0) {
        FUZZ_CHECK(strcmp((const char *)value, server->head->method) == 0);
    } else if (strcmp((const char *)name, ":path") == 0) {
        FUZZ_CHECK(value_size == server->head->url->path_and_query_size);
        FUZZ_CHECK(memcmp(value, server->head->url->path_and_query, value_size) == 0);
    }
    FUZZ_CHECK(strcmp((const char *)name, "connection") != 0);
    FUZZ_CHECK(strcmp((const char *)name, "transfer-encoding") != 0);
    FUZZ_CHECK(strcmp((const char *)name, "host") != 0);
    return 0;
}

static int server_on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                                    const uint8_t *name, size_t name_size, const uint8_t *value,
                                    size_t value_size, uint8_t flags, void *arg)
{
    fprintf(stderr, "the server does not take '%s: %s'\n", (const char *)name, (const char *)value);
    FUZZ_CHECK(false);
}

static int server_on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int code,
                                   void *arg)
{
    fprintf(stderr, "the server does not take the request: %s\n", nghttp2_strerror(code));
    FUZZ_CHECK(false);
}

static int server_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct server *server = arg;

    server->request_count += frame->hd.type == NGHTTP2_HEADERS;
    return 0;
}

static nghttp2_session *server_new(struct server *server)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_session *session;

    FUZZ_CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, server_on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, server_on_invalid_header);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks,
                                                                 server_on_invalid_frame);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, server_on_frame);
    FUZZ_CHECK(nghttp2_session_server_new(&session, callbacks, server) == 0);
    nghttp2_session_callbacks_del(callbacks);
    return session;
}

static bool on_part(struct h2_stream *stream, const char *bytes, size_t size)
{
    return true;
}

static bool on_head(struct h2_stream *stream)
{
    return true;
}

static void on_end(struct h2_stream *stream, enum h2_end end)
{
}

static size_t on_wanted(struct h2_stream *stream, char *buffer, size_t size, bool *ret_is_last)
{
    buffer[0] = 'b';
    *ret_is_last = true;
    return 1;
}

static void check_http2(const struct h1_request_head *head)
{
    static const struct h2_events events = { on_head, on_part, on_end, on_wanted, false };
    static const struct h2_windows windows = { .stream = 1 << 20, .connection = 1 << 24 };
    struct server server = { .head = head };
    nghttp2_session *session = server_new(&server);
    struct h2_stream stream;
    struct il_bytes out;
    struct il_error err;
    struct h2 h2;

    il_bytes_init(&out);
    h2_stream_init(&stream);
    FUZZ_CHECK(h2_init(&h2, &events, &h1_response_limits_default, &windows, &err) == IL_OK);
    if (h2_open_stream(&h2, &stream, head, &err) == IL_OK) {
        FUZZ_CHECK(h2_pull(&h2, &out, SIZE_MAX, &err) == IL_OK);
        FUZZ_CHECK(nghttp2_session_mem_recv(session, (const uint8_t *)il_bytes_data(&out),
                                            il_bytes_size(&out)) == (ssize_t)il_bytes_size(&out));
        FUZZ_CHECK(server.request_count == 1);
        h2_abandon(&stream);
    } else {
        FUZZ_CHECK(err.message[0] != '\0');
    }
    h2_stream_deinit(&stream);
    h2_deinit(&h2);
    il_bytes_deinit(&out);
    nghttp2_session_del(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[INPUT_SIZE_MAX + 1];
    struct parts parts = { text, text + size - 1 };
    const char *method, *url_text, *name, *value;
    struct il_headers headers;
    struct h1_request_head head = { .headers = &headers };
    struct il_error err;
    struct url url;

    if (size < 2 || size > INPUT_SIZE_MAX) {
        return 0;
    }
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    method = parts_next(&parts);
    url_text = parts_next(&parts);
    if (url_text == NULL || !http_is_token(method, strlen(method)) ||
        url_parse(url_text, &url, &err) != IL_OK) {
        return 0;
    }
    headers_init(&headers);
    while ((name = parts_next(&parts)) != NULL && (value = parts_next(&parts)) != NULL &&
           headers.count < HEADERS_MAX) {
        if (headers_add(&headers, name, value, &err) != IL_OK) {
            FUZZ_CHECK(err.message[0] != '\0');
        }
    }
    head.method = method;
    head.url = &url;
    head.body_kind = data[0] % 3;
    head.body_size = head.body_kind == H1_BODY_SIZED;
    check_http1(&head);
    check_http2(&head);
    headers_deinit(&headers);
    url_deinit(&url);
    return 0;
}
