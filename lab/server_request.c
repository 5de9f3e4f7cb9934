/* server_request.c: what the parser says of a request, noted in its exchange.
 *
 * The parser is paused where a script must run before it may go on: after a header that wants an
 * answer at once (100 Continue, /early, /slow-read), and after the whole request, so that the next
 * one of a pipeline is not read before this one is answered.
 * Owns: nothing of its own. Threads: the server's. */
#include <strings.h>

#include "lab/server_inside.h"

#define BLOB_CAPACITY_MIN 1024

static struct conn *request_conn(llhttp_t *parser)
{
    return il_container_of(parser, struct conn, parser);
}

/* ---- blobs ---- */

bool blob_add(struct blob *blob, const char *data, size_t size)
{
    if (size > blob->capacity - blob->size) {
        size_t capacity = blob->capacity == 0 ? BLOB_CAPACITY_MIN : blob->capacity;
        char *moved;

        while (capacity - blob->size < size) {
            capacity *= 2;
        }
        moved = il_realloc(blob->data, capacity);
        if (moved == NULL) {
            return false;
        }
        blob->data = moved;
        blob->capacity = capacity;
    }
    if (size > 0) {
        memcpy(blob->data + blob->size, data, size);
        blob->size += size;
    }
    return true;
}

void blob_deinit(struct blob *blob)
{
    il_free(blob->data);
    *blob = (struct blob){ 0 };
}

/* ---- the request line ---- */

static int request_on_begin(llhttp_t *parser)
{
    conn_on_request_begin(request_conn(parser));
    return HPE_OK;
}

static int request_on_url(llhttp_t *parser, const char *at, size_t size)
{
    struct conn *conn = request_conn(parser);
    struct exchange *x = &conn->exchange;

    if (size > LAB_TARGET_MAX - x->target_size) {
        exchange_refuse(x, 414, "the request target is longer than %d bytes", LAB_TARGET_MAX);
        return HPE_USER;
    }
    memcpy(conn->target + x->target_size, at, size);
    x->target_size += size;
    return HPE_OK;
}

static int request_on_url_complete(llhttp_t *parser)
{
    struct conn *conn = request_conn(parser);

    conn->target[conn->exchange.target_size] = '\0';
    exchange_route(&conn->exchange);
    return HPE_OK;
}

/* ---- header lines ---- */

/* Keep a piece of the header for /echo, if this is /echo. */
static int request_keep(struct conn *conn, const char *text, size_t size)
{
    struct exchange *x = &conn->exchange;

    if (conn->stream != NULL && !x->in_trailers) {
        return HPE_OK; /* they are kept as they came: request_keep_fields */
    }
    if (x->behaviour->keeps_head && !blob_add(&conn->head, text, size)) {
        exchange_refuse(x, 500, "out of memory for the request's header");
        return HPE_USER;
    }
    return HPE_OK;
}

static int request_count_header(struct conn *conn, size_t size)
{
    struct exchange *x = &conn->exchange;

    x->header_bytes += size;
    if (x->header_bytes > LAB_HEADER_MAX) {
        exchange_refuse(x, 431, "the request's header is larger than %d bytes", LAB_HEADER_MAX);
        return HPE_USER;
    }
    return HPE_OK;
}

static int request_on_field(llhttp_t *parser, const char *at, size_t size)
{
    static const char expect[] = "expect";
    struct conn *conn = request_conn(parser);
    struct exchange *x = &conn->exchange;
    int code = request_count_header(conn, size);

    if (x->field_size == 0) {
        x->field_is_expect = true;
        if (code == HPE_OK && x->in_trailers) {
            code = request_keep(conn, "(trailer) ", 10);
        }
    }
    if (x->field_size + size > sizeof(expect) - 1 ||
        strncasecmp(expect + x->field_size, at, size) != 0) {
        x->field_is_expect = false;
    }
    x->field_size += size;
    return code == HPE_OK ? request_keep(conn, at, size) : code;
}

static int request_on_field_complete(llhttp_t *parser)
{
    struct conn *conn = request_conn(parser);
    struct exchange *x = &conn->exchange;

    if (x->field_is_expect && x->field_size == 6 && !x->in_trailers) {
        x->expects_continue = true;
    }
    x->field_size = 0;
    return request_keep(conn, ": ", 2);
}

static int request_on_value(llhttp_t *parser, const char *at, size_t size)
{
    struct conn *conn = request_conn(parser);
    int code = request_count_header(conn, size);

    return code == HPE_OK ? request_keep(conn, at, size) : code;
}

static int request_on_value_complete(llhttp_t *parser)
{
    struct conn *conn = request_conn(parser);
    int code = request_count_header(conn, 4); /* ": " and CR LF */

    return code == HPE_OK ? request_keep(conn, "\n", 1) : code;
}

/* The header as it came in HTTP/2, and not the text that was made of it. */
static int request_keep_fields(struct conn *conn)
{
    const struct blob *fields = &conn->stream->fields;

    if (conn->exchange.behaviour->keeps_head &&
        !blob_add(&conn->head, fields->data, fields->size)) {
        exchange_refuse(&conn->exchange, 500, "out of memory for the request's header");
        return HPE_USER;
    }
    return HPE_OK;
}

static int request_on_headers_complete(llhttp_t *parser)
{
    struct conn *conn = request_conn(parser);
    struct exchange *x = &conn->exchange;
    bool is_http10_mode = conn->server->options.is_http10;

    parser->upgrade = 0; /* an Upgrade is not taken up, and CONNECT is a method like others */
    x->method = parser->method;
    x->is_head = parser->method == HTTP_HEAD;
    x->is_http10 = is_http10_mode || parser->http_major < 1 ||
                   (parser->http_major == 1 && parser->http_minor == 0);
    x->says_keep_alive = (parser->flags & F_CONNECTION_KEEP_ALIVE) != 0;
    x->wants_keep_alive =
        is_http10_mode ? x->says_keep_alive : llhttp_should_keep_alive(parser) != 0;
    if (conn->stream != NULL && request_keep_fields(conn) != HPE_OK) {
        return HPE_USER;
    }
    x->in_trailers = true;
    conn_on_request_head(conn);
    if ((x->is_refused || x->behaviour->on_head == NULL) && !x->expects_continue) {
        return HPE_OK;
    }
    conn->is_paused = true;
    conn->stage = STAGE_HEAD;
    return HPE_PAUSED;
}

/* ---- the body ---- */

static int request_on_body(llhttp_t *parser, const char *at, size_t size)
{
    struct conn *conn = request_conn(parser);
    struct exchange *x = &conn->exchange;

    x->body_bytes += size;
    if (x->behaviour->hashes_body) {
        x->body_hash = lab_hash(x->body_hash, at, size);
    }
    if (!x->behaviour->keeps_body) {
        return HPE_OK;
    }
    if (x->body_bytes > LAB_ECHO_MAX) {
        exchange_refuse(x, 413, "the request's body is larger than %d bytes", LAB_ECHO_MAX);
        return HPE_USER;
    }
    if (!blob_add(&conn->body, at, size)) {
        exchange_refuse(x, 500, "out of memory for the request's body");
        return HPE_USER;
    }
    return HPE_OK;
}

static int request_on_complete(llhttp_t *parser)
{
    struct conn *conn = request_conn(parser);

    conn->is_paused = true;
    conn->stage = STAGE_ANSWER;
    return HPE_PAUSED;
}

/* ---- the parser ---- */

static const llhttp_settings_t request_settings = {
    .on_message_begin = request_on_begin,
    .on_url = request_on_url,
    .on_url_complete = request_on_url_complete,
    .on_header_field = request_on_field,
    .on_header_field_complete = request_on_field_complete,
    .on_header_value = request_on_value,
    .on_header_value_complete = request_on_value_complete,
    .on_headers_complete = request_on_headers_complete,
    .on_body = request_on_body,
    .on_message_complete = request_on_complete,
};

void request_parser_init(struct conn *conn)
{
    llhttp_init(&conn->parser, HTTP_REQUEST, &request_settings);
}

bool request_parse(struct conn *conn)
{
    const char *data = conn->in + conn->in_begin;
    llhttp_errno_t code = llhttp_execute(&conn->parser, data, conn->in_end - conn->in_begin);
    const char *reason;

    conn->is_behind_head = code == HPE_PAUSED && conn->stage == STAGE_HEAD;
    if (code == HPE_OK) {
        conn->in_begin = conn->in_end = 0;
        return true;
    }
    if (code == HPE_PAUSED) {
        il_assert(conn->is_paused);
        conn->in_begin = (size_t)(llhttp_get_error_pos(&conn->parser) - conn->in);
        il_assert(conn->in_begin <= conn->in_end);
        llhttp_resume(&conn->parser);
        return true;
    }
    il_assert(conn->state ==
              CONN_RECEIVING); /* whatever comes, the parser says first that it begins */
    if (!conn->exchange.is_refused) {
        reason = llhttp_get_error_reason(&conn->parser);
        exchange_refuse(&conn->exchange, 400, "not a valid request: %s (%s)",
                        reason != NULL ? reason : "?", llhttp_errno_name(code));
    }
    return false;
}
