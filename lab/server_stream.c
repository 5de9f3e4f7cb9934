/* server_stream.c: one stream of HTTP/2, which is a connection to the rest of the server.
 *
 * Everybody else here speaks the text of HTTP/1.1: behaviours write it, the parser of requests
 * reads it. So a request's fields and data are put into that text, for stream_receive; and the
 * answer's text, from stream_send, is parsed and becomes fields and data again. What the text says
 * about the connection, says GOAWAY.
 * Owns: both pieces of text, as far as they are under way. Threads: the server's.
 * Ends: freed with its conn, at the end of the turn in which that is closed. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "lab/server_inside.h"

static void answer_parser_init(struct mux_stream *stream);

struct mux_stream *stream_new(struct mux *mux, int32_t id)
{
    struct mux_stream *stream = il_calloc(1, sizeof(*stream));

    if (stream == NULL) {
        return NULL;
    }
    stream->mux = mux;
    stream->id = id;
    il_list_init(&stream->wake_link);
    answer_parser_init(stream);
    stream->conn = conn_new_for_stream(mux, stream);
    if (stream->conn == NULL) {
        il_free(stream);
        return NULL;
    }
    return stream;
}

void stream_free(struct mux_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    il_assert(!il_list_is_linked(&stream->wake_link));
    blob_deinit(&stream->fields);
    blob_deinit(&stream->trailers);
    blob_deinit(&stream->in);
    blob_deinit(&stream->names);
    blob_deinit(&stream->out);
    il_free(stream);
}

/* ---- the request: from frames to text ---- */

static bool blob_add_text(struct blob *blob, const char *text)
{
    return blob_add(blob, text, strlen(text));
}

static bool blob_add_field(struct blob *blob, const char *name, size_t name_size, const char *value,
                           size_t value_size, const char *line_end)
{
    return blob_add(blob, name, name_size) && blob_add(blob, ": ", 2) &&
           blob_add(blob, value, value_size) && blob_add_text(blob, line_end);
}

/* How a request's body is framed in the text is for this file to say. */
static bool is_framing(const char *name, size_t size)
{
    return (size == 14 && memcmp(name, "content-length", 14) == 0) || name[0] == ':';
}

bool stream_on_field(struct mux_stream *stream, const char *name, size_t name_size,
                     const char *value, size_t value_size)
{
    struct slice where = { stream->fields.size + name_size + 2, value_size };

    if (stream->has_head) {
        return blob_add_field(&stream->trailers, name, name_size, value, value_size, "\r\n");
    }
    if (name_size == 7 && memcmp(name, ":method", 7) == 0) {
        stream->method = where;
    } else if (name_size == 5 && memcmp(name, ":path", 5) == 0) {
        stream->path = where;
    }
    return blob_add_field(&stream->fields, name, name_size, value, value_size, "\n");
}

static bool stream_put_slice(struct mux_stream *stream, struct slice slice, const char *otherwise)
{
    return slice.size > 0 ? blob_add(&stream->in, stream->fields.data + slice.at, slice.size)
                          : blob_add_text(&stream->in, otherwise);
}

/* The fields that the text has as well. */
static bool stream_put_fields(struct mux_stream *stream)
{
    const char *at = stream->fields.data, *end = at + stream->fields.size;
    bool is_put = true;

    while (at < end && is_put) {
        size_t size = (size_t)((const char *)memchr(at, '\n', (size_t)(end - at)) - at);
        const char *colon = memchr(at + 1, ':', size - 1); /* ":path" begins with one */
        size_t name_size = (size_t)(colon - at);

        if (!is_framing(at, name_size)) {
            is_put = blob_add(&stream->in, at, size) && blob_add(&stream->in, "\r\n", 2);
        }
        at += size + 1;
    }
    return is_put;
}

bool stream_on_head(struct mux_stream *stream, bool is_last)
{
    stream->has_head = true;
    mux_wake(stream);
    return stream_put_slice(stream, stream->method, "?") && blob_add(&stream->in, " ", 1) &&
           stream_put_slice(stream, stream->path, "*") &&
           blob_add_text(&stream->in, " HTTP/1.1\r\n") && stream_put_fields(stream) &&
           blob_add_text(&stream->in, is_last ? "\r\n" : "transfer-encoding: chunked\r\n\r\n");
}

bool stream_on_data(struct mux_stream *stream, const char *data, size_t size)
{
    char frame[24];

    (void)snprintf(frame, sizeof(frame), "%zx\r\n", size);
    stream->unread_size += size;
    mux_wake(stream);
    return size == 0 || (blob_add_text(&stream->in, frame) && blob_add(&stream->in, data, size) &&
                         blob_add(&stream->in, "\r\n", 2));
}

bool stream_on_end(struct mux_stream *stream)
{
    mux_wake(stream);
    return blob_add_text(&stream->in, "0\r\n") &&
           blob_add(&stream->in, stream->trailers.data, stream->trailers.size) &&
           blob_add(&stream->in, "\r\n", 2);
}

ssize_t stream_receive(struct mux_stream *stream, void *data, size_t size)
{
    struct blob *in = &stream->in;
    size_t part = il_min_u64(size, in->size - stream->in_begin);

    if (part == 0) {
        errno = EAGAIN;
        return -1;
    }
    memcpy(data, in->data + stream->in_begin, part);
    stream->in_begin += part;
    if (stream->in_begin == in->size) {
        stream->in_begin = in->size = 0;
        /* A stream that is closed has no window to give back. */
        (void)nghttp2_session_consume_stream(stream->mux->session, stream->id, stream->unread_size);
        stream->unread_size = 0;
        mux_touch(stream->mux);
    }
    return (ssize_t)part;
}

/* ---- the answer: from text to frames ---- */

static struct mux_stream *answer_stream(llhttp_t *parser)
{
    return il_container_of(parser, struct mux_stream, parser);
}

static int answer_add(struct mux_stream *stream, const char *text, size_t size)
{
    return stream->names.size + size <= STREAM_HEAD_MAX && blob_add(&stream->names, text, size)
               ? HPE_OK
               : HPE_USER;
}

static int answer_on_begin(llhttp_t *parser)
{
    struct mux_stream *stream = answer_stream(parser);

    return stream->is_answer_whole ? HPE_USER : HPE_OK; /* nothing can follow an answer */
}

static int answer_on_field(llhttp_t *parser, const char *at, size_t size)
{
    struct mux_stream *stream = answer_stream(parser);
    size_t before = stream->names.size;

    if (answer_add(stream, at, size) != HPE_OK) {
        return HPE_USER;
    }
    for (size_t i = before; i < stream->names.size; i++) {
        stream->names.data[i] = (char)tolower((unsigned char)stream->names.data[i]);
    }
    return HPE_OK;
}

static int answer_on_value(llhttp_t *parser, const char *at, size_t size)
{
    return answer_add(answer_stream(parser), at, size);
}

static int answer_on_field_complete(llhttp_t *parser)
{
    return answer_add(answer_stream(parser), "", 1);
}

static int answer_on_value_complete(llhttp_t *parser)
{
    answer_stream(parser)->field_count++;
    return answer_add(answer_stream(parser), "", 1);
}

static bool is_about_the_connection(const char *name)
{
    return strcmp(name, "connection") == 0 || strcmp(name, "transfer-encoding") == 0 ||
           strcmp(name, "keep-alive") == 0;
}

/* The fields that were collected, for nghttp2; the caller frees. NULL: out of memory. */
static nghttp2_nv *answer_fields(struct mux_stream *stream, const char *status, size_t *ret_count)
{
    nghttp2_nv *fields = il_calloc(stream->field_count + 1, sizeof(*fields));
    const char *at = stream->names.data;
    size_t count = 0;

    if (fields == NULL) {
        return NULL;
    }
    if (status != NULL) {
        fields[count++] = (nghttp2_nv){ (uint8_t *)(uintptr_t) ":status",
                                        (uint8_t *)(uintptr_t)status, 7, strlen(status), 0 };
    }
    for (size_t i = 0; i < stream->field_count; i++) {
        size_t name_size = strlen(at);
        const char *value = at + name_size + 1;
        size_t value_size = strlen(value);

        if (!is_about_the_connection(at)) {
            fields[count++] = (nghttp2_nv){ (uint8_t *)(uintptr_t)at, (uint8_t *)(uintptr_t)value,
                                            name_size, value_size, 0 };
        }
        at = value + value_size + 1;
    }
    *ret_count = count;
    return fields;
}

static bool answer_has_body(const struct mux_stream *stream)
{
    const llhttp_t *parser = &stream->parser;

    return !stream->conn->exchange.is_head && parser->status_code != 204 &&
           parser->status_code != 304 &&
           !((parser->flags & F_CONTENT_LENGTH) && parser->content_length == 0);
}

/* What llhttp does next: 0 the body, 1 there is none, HPE_USER fails. */
static int answer_on_head(llhttp_t *parser)
{
    struct mux_stream *stream = answer_stream(parser);
    nghttp2_session *session = stream->mux->session;
    nghttp2_data_provider body = { .read_callback = stream_on_wanted };
    bool is_final = parser->status_code >= 200;
    char status[16];
    size_t count = 0;
    nghttp2_nv *fields;
    int code;

    (void)snprintf(status, sizeof(status), "%u", parser->status_code);
    fields = answer_fields(stream, status, &count);
    if (fields == NULL || parser->status_code == 101) { /* which HTTP/2 does not have */
        il_free(fields);
        return HPE_USER;
    }
    code = is_final ? nghttp2_submit_response(session, stream->id, fields, count,
                                              answer_has_body(stream) ? &body : NULL)
                    : nghttp2_submit_headers(session, NGHTTP2_FLAG_NONE, stream->id, NULL, fields,
                                             count, NULL);
    il_free(fields);
    stream->names.size = stream->field_count = 0;
    if (code != 0) {
        return HPE_USER;
    }
    stream->heads_queued++;
    stream->has_answer = is_final;
    if (is_final && (parser->flags & F_CONNECTION_CLOSE)) {
        mux_leave(stream->mux);
    }
    return is_final && stream->conn->exchange.is_head ? 1 : HPE_OK;
}

static int answer_on_body(llhttp_t *parser, const char *at, size_t size)
{
    struct mux_stream *stream = answer_stream(parser);

    return blob_add(&stream->out, at, size) ? HPE_OK : HPE_USER;
}

static int answer_on_complete(llhttp_t *parser)
{
    struct mux_stream *stream = answer_stream(parser);

    stream->is_answer_whole = stream->has_answer;
    return HPE_OK;
}

static const llhttp_settings_t answer_settings = {
    .on_message_begin = answer_on_begin,
    .on_header_field = answer_on_field,
    .on_header_field_complete = answer_on_field_complete,
    .on_header_value = answer_on_value,
    .on_header_value_complete = answer_on_value_complete,
    .on_headers_complete = answer_on_head,
    .on_body = answer_on_body,
    .on_message_complete = answer_on_complete,
};

static void answer_parser_init(struct mux_stream *stream)
{
    llhttp_init(&stream->parser, HTTP_RESPONSE, &answer_settings);
}

/* The text went on, or not in a way that can be said in frames. */
static void stream_take(struct mux_stream *stream, llhttp_errno_t code)
{
    if (code != HPE_OK) {
        stream->is_broken = true;
        mux_wake(stream);
    } else if (stream->has_answer) {
        (void)nghttp2_session_resume_data(stream->mux->session, stream->id); /* if it had stopped */
    }
    mux_touch(stream->mux);
}

ssize_t stream_send(struct mux_stream *stream, const void *data, size_t size)
{
    if (stream->out.size - stream->out_begin >= STREAM_OUT_MAX || stream->is_broken) {
        errno = EAGAIN;
        return -1;
    }
    stream_take(stream, llhttp_execute(&stream->parser, data, size));
    return (ssize_t)size;
}

void stream_finish(struct mux_stream *stream)
{
    if (stream->has_answer && !stream->is_answer_whole && !stream->is_broken) {
        llhttp_errno_t code = llhttp_finish(&stream->parser);

        stream_take(stream, stream->is_answer_whole ? HPE_OK : code != HPE_OK ? code : HPE_USER);
    }
}

bool stream_is_flushed(const struct mux_stream *stream)
{
    return !stream->is_broken && stream->out.size == stream->out_begin &&
           stream->heads_queued == 0 && (!stream->is_answer_whole || stream->is_sent);
}

/* False: out of memory. */
static bool stream_submit_trailers(struct mux_stream *stream)
{
    size_t count;
    nghttp2_nv *fields = answer_fields(stream, NULL, &count);
    bool is_submitted = fields != NULL && nghttp2_submit_trailer(stream->mux->session, stream->id,
                                                                 fields, count) == 0;

    il_free(fields);
    return is_submitted;
}

ssize_t stream_on_wanted(nghttp2_session *session, int32_t id, uint8_t *data, size_t room,
                         uint32_t *ret_flags, nghttp2_data_source *source, void *arg)
{
    struct mux_stream *stream = nghttp2_session_get_stream_user_data(session, id);
    struct blob *out;
    size_t part;

    if (stream == NULL) { /* its end is on the way */
        return NGHTTP2_ERR_DEFERRED;
    }
    out = &stream->out;
    part = il_min_u64(out->size - stream->out_begin, room);
    if (part == 0 && !stream->is_answer_whole) {
        return NGHTTP2_ERR_DEFERRED;
    }
    if (part > 0) {
        memcpy(data, out->data + stream->out_begin, part);
        stream->out_begin += part;
    }
    if (stream->out_begin == out->size) {
        stream->out_begin = out->size = 0;
        if (stream->is_answer_whole) {
            *ret_flags |= NGHTTP2_DATA_FLAG_EOF;
            if (stream->field_count > 0) {
                *ret_flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
                if (!stream_submit_trailers(stream)) {
                    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
                }
            }
        }
    }
    return (ssize_t)part;
}
