/* h2.c: one HTTP/2 connection, client side. What it offers, and its rules, stand in h2.h.
 *
 * nghttp2 keeps the protocol's state, its windows and its compression. Here are the events, the
 * bounds that nghttp2 does not have, and the question what a stream's end means for its request.
 * Owns: the nghttp2 session. Streams are their owner's; they are on `streams` while open.
 * Threads: one at a time. */
#include "http/h2.h"

#include <stdio.h>
#include <stdlib.h>

#include "http/h2_words.h"

/* ---- streams ---- */

void h2_stream_init(struct h2_stream *stream)
{
    *stream = (struct h2_stream){ .body_size = UINT64_MAX };
    headers_init(&stream->headers);
    headers_init(&stream->trailers);
    il_list_init(&stream->link);
}

void h2_stream_reset(struct h2_stream *stream)
{
    struct il_headers headers = stream->headers, trailers = stream->trailers;

    il_assert(stream->id == 0);
    headers_reset(&headers);
    headers_reset(&trailers);
    memset(stream, 0, offsetof(struct h2_stream, error));
    stream->error.code = IL_OK;
    stream->error.message[0] = '\0';
    memset(&stream->link, 0, sizeof(*stream) - offsetof(struct h2_stream, link));
    il_list_init(&stream->link);
    stream->body_size = UINT64_MAX;
    stream->headers = headers;
    stream->trailers = trailers;
}

void h2_stream_deinit(struct h2_stream *stream)
{
    il_assert(stream->id == 0);
    headers_deinit(&stream->headers);
    headers_deinit(&stream->trailers);
}

static void stream_forget(struct h2_stream *stream)
{
    if (stream->h2->recent == stream) {
        stream->h2->recent = NULL;
    }
    il_list_unlink(&stream->link);
    stream->h2->stream_count--;
    stream->id = 0;
}

static void stream_end(struct h2_stream *stream, enum h2_end end)
{
    const struct h2_events *events = stream->h2->events;

    stream_forget(stream);
    events->on_end(stream, end);
}

/* The stream has a fault that the connection does not share: its end will say so. */
static void stream_fail(struct h2_stream *stream, enum il_code code, const char *what)
{
    if (!stream->has_failed) {
        stream->has_failed = true;
        il_fail(&stream->error, code, "%s", what);
    }
}

static struct h2_stream *stream_of(struct h2 *h2, int32_t id)
{
    if (h2->recent == NULL || h2->recent->id != id) {
        h2->recent = nghttp2_session_get_stream_user_data(h2->session, id);
    }
    return h2->recent;
}

static void h2_fail_for_memory(struct h2 *h2)
{
    if (!h2->has_failed) {
        h2->has_failed = true;
        il_fail(&h2->error, IL_ENOMEM, "no memory to go on with an HTTP/2 connection");
    }
}

/* What nghttp2 said to something that is to be sent. If it has forgotten that for want of memory,
 * the server would wait for it for ever: a window, a place among the streams. The next h2_pull
 * says so. */
static void h2_check_queued(struct h2 *h2, int result)
{
    if (result == NGHTTP2_ERR_NOMEM) {
        h2_fail_for_memory(h2);
    }
}

static void stream_reset(struct h2_stream *stream, uint32_t code)
{
    h2_check_queued(stream->h2, nghttp2_submit_rst_stream(stream->h2->session, NGHTTP2_FLAG_NONE,
                                                          stream->id, code));
}

/* ---- bounds ---- */

/* Remember why the connection is of no use any more; what nghttp2 is told in a callback. */
static int h2_refuse(struct h2 *h2, enum il_code code, const char *what)
{
    if (!h2->has_failed) {
        h2->has_failed = h2->is_refused = true;
        il_fail(&h2->error, code, "%s", what);
    }
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
    struct h2 *h2 = arg;

    if (++h2->idle_frame_count > H2_IDLE_FRAMES_MAX) {
        char what[128];

        (void)snprintf(what, sizeof(what),
                       "the server sent %d frames in a row that brought no response forward",
                       H2_IDLE_FRAMES_MAX);
        return h2_refuse(h2, IL_EPROTOCOL, what);
    }
    return 0;
}

static void note_progress(struct h2 *h2)
{
    h2->idle_frame_count = 0;
    h2->idle_byte_count = 0;
}

/* Each reset costs us a request, and perhaps one more. An honest server resets few. One that wants
 * no more of a request's body and has answered it (RFC 9113 8.1) does no harm. */
static int on_reset(struct h2 *h2, const struct h2_stream *stream, uint32_t code)
{
    const uint64_t ns_per_reset = UINT64_C(1000000000) / H2_RESETS_PER_S;
    uint64_t forgiven = (h2->now_ns - h2->resets_since_ns) / ns_per_reset;
    char what[128];

    if (code == NGHTTP2_NO_ERROR && (stream == NULL || stream->is_ended)) {
        return 0;
    }
    if (forgiven >= h2->reset_count) {
        h2->reset_count = 0;
        h2->resets_since_ns = h2->now_ns;
    } else {
        h2->reset_count -= (uint32_t)forgiven;
        h2->resets_since_ns += forgiven * ns_per_reset;
    }
    if (++h2->reset_count <= H2_RESETS_BURST) {
        return 0;
    }
    (void)snprintf(what, sizeof(what),
                   "the server resets streams without end: more than %d, and %d in each second",
                   H2_RESETS_BURST, H2_RESETS_PER_S);
    return h2_refuse(h2, IL_EPROTOCOL, what);
}

/* ---- heads ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_stream *stream = stream_of(arg, frame->hd.stream_id);

    if (stream == NULL) {
        return 0;
    }
    stream->is_in_trailers = stream->status >= 200;
    stream->head_size = stream->field_count = 0;
    stream->has_length = false;
    headers_reset(stream->is_in_trailers ? &stream->trailers : &stream->headers);
    return 0;
}

static bool head_has_room(struct h2_stream *stream, size_t name_size, size_t value_size)
{
    size_t size = name_size + value_size + H2_FIELD_OVERHEAD;

    if (size > h2_head_size_max(stream) - stream->head_size ||
        stream->field_count == stream->h2->limits.field_count_max) {
        return false;
    }
    stream->head_size += (uint32_t)size;
    stream->field_count++;
    return true;
}

/* Digits, no more than a number holds: nghttp2 has looked. */
static void head_set_length(struct h2_stream *stream, const char *digits, size_t size)
{
    uint64_t length = 0;

    for (size_t i = 0; i < size; i++) {
        length = length * 10 + (uint64_t)(digits[i] - '0');
    }
    stream->has_length = true;
    stream->body_size = length;
}

static enum il_code head_add(struct h2_stream *stream, const char *name, size_t name_size,
                             const char *value, size_t value_size)
{
    if (name_size == 7 && memcmp(name, ":status", 7) == 0) { /* three digits: nghttp2 has looked */
        stream->status =
            (uint16_t)((value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0'));
        return IL_OK;
    }
    if (name_size == 14 && !stream->is_in_trailers && memcmp(name, "content-length", 14) == 0) {
        head_set_length(stream, value, value_size);
    }
    return headers_append(stream->is_in_trailers ? &stream->trailers : &stream->headers, name,
                          name_size, value, value_size);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *arg)
{
    struct h2_stream *stream = stream_of(arg, frame->hd.stream_id);
    enum il_code code;

    if (stream == NULL) {
        return 0;
    }
    if (!head_has_room(stream, name_size, value_size)) {
        char what[200];

        h2_describe_no_room(stream, (const char *)name, name_size, value_size, what, sizeof(what));
        stream_fail(stream, IL_EHEADERSIZE, what);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    code = head_add(stream, (const char *)name, name_size, (const char *)value, value_size);
    if (code != IL_OK) {
        il_assert(code == IL_ENOMEM); /* head_has_room's limits are below those of a list */
        stream_fail(stream, code, "no memory for the response's headers");
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return 0;
}

/* Without this nghttp2 would leave such a field out, and go on. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                             const uint8_t *name, size_t name_size, const uint8_t *value,
                             size_t value_size, uint8_t flags, void *arg)
{
    struct h2_stream *stream = stream_of(arg, frame->hd.stream_id);
    char text[64], what[128];

    if (stream != NULL) {
        (void)snprintf(what, sizeof(what), "the response has a header that is not valid: \"%s\"",
                       il_escape(text, sizeof(text), name, name_size));
        stream_fail(stream, IL_EPROTOCOL, what);
    }
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void head_set_framing(struct h2_stream *stream, bool is_end)
{
    if (is_end || stream->is_head_request || stream->status == 204 || stream->status == 304) {
        stream->framing = H1_FRAMING_NONE;
        stream->body_size = 0;
    } else if (stream->has_length) {
        stream->framing = H1_FRAMING_SIZED; /* what comes will match: nghttp2 looks */
    } else {
        stream->framing = H1_FRAMING_CHUNKED; /* in frames, up to the one that says it is the end */
        stream->body_size = UINT64_MAX;
    }
}

static void on_head_complete(struct h2_stream *stream, bool is_end)
{
    if (stream->is_in_trailers) {
        return;
    }
    if (stream->status < 200) {
        if (++stream->informational_count > stream->h2->limits.informational_max) {
            stream_fail(stream, IL_EPROTOCOL, "the server sends 1xx responses without end");
            stream_reset(stream, NGHTTP2_ENHANCE_YOUR_CALM);
        }
        return;
    }
    note_progress(stream->h2);
    head_set_framing(stream, is_end);
    if (!stream->h2->events->on_head(stream)) {
        stream->has_failed = true;
        stream_reset(stream, NGHTTP2_CANCEL);
    }
}

/* The response is whole. What is left of the request interests nobody, RFC 9113 8.1. */
static void on_response_end(struct h2_stream *stream)
{
    note_progress(stream->h2);
    stream->is_ended = true;
    if (nghttp2_session_get_stream_local_close(stream->h2->session, stream->id) == 0) {
        stream_reset(stream, NGHTTP2_NO_ERROR);
    }
}

/* ---- other frames ---- */

static void on_settings(struct h2 *h2)
{
    uint32_t count =
        nghttp2_session_get_remote_settings(h2->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);

    h2->has_settings = true;
    h2->stream_count_max = count;
}

static int on_frame_received(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *h2 = arg;
    struct h2_stream *stream = stream_of(h2, frame->hd.stream_id);
    bool is_end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (stream != NULL) {
            on_head_complete(stream, is_end);
        }
        break;
    case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
            on_settings(h2);
        }
        break;
    case NGHTTP2_PING:
        h2->has_pong = h2->has_pong || (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0;
        break;
    case NGHTTP2_RST_STREAM:
        return on_reset(h2, stream, frame->rst_stream.error_code);
    case NGHTTP2_GOAWAY:
        h2->is_going_away = true;
        h2->goaway_code = frame->goaway.error_code;
        break;
    default:
        break;
    }
    if (stream != NULL && is_end &&
        (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)) {
        on_response_end(stream);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                   size_t size, void *arg)
{
    struct h2 *h2 = arg;
    struct h2_stream *stream = stream_of(h2, id);
    bool is_wanted = stream != NULL && !stream->has_failed;

    if (!IL_MUTANT(WINDOW_KEPT) && (!is_wanted || !h2->events->holds_window)) {
        h2->used_size += size;
    }
    if (!is_wanted) {
        return 0;
    }
    note_progress(h2);
    stream->is_last_frame = (flags & NGHTTP2_FLAG_END_STREAM) != 0;
    stream->body_received += size;
    if (!h2->events->on_body(stream, (const char *)bytes, size)) {
        stream->has_failed = true;
        stream_reset(stream, NGHTTP2_CANCEL);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct h2_stream *stream = stream_of(arg, id);

    if (stream == NULL) {
        return 0;
    }
    if (stream->has_failed) {
        stream_end(stream, H2_END_FAILED);
    } else if (stream->is_ended && stream->status >= 200) {
        stream_end(stream, H2_END_COMPLETE);
    } else if (code == NGHTTP2_REFUSED_STREAM && stream->status == 0) {
        il_fail(&stream->error, IL_EPEERCLOSED,
                "the server refused the request unseen "
                "(REFUSED_STREAM)");
        stream_end(stream, H2_END_REFUSED);
    } else {
        il_fail(&stream->error, code == NGHTTP2_PROTOCOL_ERROR ? IL_EPROTOCOL : IL_EPEERCLOSED,
                "the HTTP/2 stream was reset (%s)", nghttp2_http2_strerror(code));
        h2_describe_cut(stream);
        stream_end(stream, H2_END_FAILED);
    }
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *h2 = arg;

    if (frame->hd.type == NGHTTP2_HEADERS) {
        h2->sent_id_max = frame->hd.stream_id; /* requests go out in the order of their numbers */
        if (h2->owes_goodbye) {
            h2_say_goodbye(h2);
        }
    } else if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR &&
               !h2->has_failed) {
        h2->has_failed = h2->is_told = true;
        h2_describe_goaway(&frame->goaway, &h2->error);
    }
    return 0;
}

static bool stream_is_sent(const struct h2_stream *stream)
{
    return stream->id <= stream->h2->sent_id_max;
}

static struct h2_stream *stream_find(const struct h2 *h2, int32_t id)
{
    il_list_for_each(&h2->streams, node)
    {
        struct h2_stream *stream = il_container_of(node, struct h2_stream, link);

        if (stream->id == id) {
            return stream;
        }
    }
    return NULL;
}

/* A request could not be sent: the server goes away, or its head is too large for nghttp2. */
static int on_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int code,
                             void *arg)
{
    struct h2_stream *stream;

    if (frame->hd.type != NGHTTP2_HEADERS ||
        (stream = stream_find(arg, frame->hd.stream_id)) == NULL || stream_is_sent(stream)) {
        return 0;
    }
    /* It may have opened the stream before it failed, and would tell of its end as well. */
    (void)nghttp2_session_set_stream_user_data(session, stream->id, NULL);
    if (code == NGHTTP2_ERR_FRAME_SIZE_ERROR) {
        il_fail(&stream->error, IL_EREQUEST, "the request's headers are too large for HTTP/2");
        stream_end(stream, H2_END_FAILED);
    } else {
        il_fail(&stream->error, IL_EPEERCLOSED, "the server takes no more requests here (GOAWAY)");
        stream_end(stream, H2_END_REFUSED);
    }
    return 0;
}

ssize_t h2_on_wanted(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t size,
                     uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct h2_stream *stream = stream_of(arg, id); /* and not `source`: it may have been given up */
    bool is_last = false;
    size_t got;

    if (stream == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    got = stream->h2->events->on_wanted(stream, (char *)buffer, size, &is_last);
    if (is_last) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (got == 0) {
        return NGHTTP2_ERR_DEFERRED;
    }
    note_progress(arg);
    return (ssize_t)got;
}

/* ---- life ---- */

static void set_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_received);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_sent);
}

static void set_options(nghttp2_option *options)
{
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_max_outbound_ack(options, H2_ACKS_QUEUED_MAX);
    nghttp2_option_set_max_settings(options, H2_SETTINGS_MAX);
    nghttp2_option_set_max_continuations(options, H2_CONTINUATIONS_MAX);
    nghttp2_option_set_max_send_header_block_length(options, 2 * (size_t)HEADERS_SIZE_MAX);
    nghttp2_option_set_no_closed_streams(options, 1);
}

/* What we say first: no pushes, how much we take. (Not that we know no priorities, which is so:
 * with it nghttp2 1.52 schedules bodies in another way, and there frees one twice when it gets no
 * memory for it.) */
static int send_settings(struct h2 *h2, const struct h2_windows *windows)
{
    const nghttp2_settings_entry entries[] = {
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, windows->stream },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h2->limits.head_size_max },
    };
    int result =
        nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, entries, il_array_count(entries));

    return result != 0 ? result
                       : nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
                                                               (int32_t)windows->connection);
}

static int session_new(struct h2 *h2)
{
    nghttp2_mem mem = h2_memory_functions(&h2->memory);
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *options = NULL;
    int result = nghttp2_session_callbacks_new(&callbacks);

    if (result == 0) {
        result = nghttp2_option_new(&options);
    }
    if (result == 0) {
        set_callbacks(callbacks);
        set_options(options);
        result = nghttp2_session_client_new3(&h2->session, callbacks, h2, options, &mem);
    }
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
    return result;
}

enum il_code h2_init(struct h2 *h2, const struct h2_events *events,
                     const struct h1_response_limits *limits, const struct h2_windows *windows,
                     struct il_error *err)
{
    il_assert(limits->head_size_max <= HEADERS_SIZE_MAX);
    il_assert(limits->field_count_max <= HEADERS_COUNT_MAX);
    *h2 = (struct h2){
        .events = events,
        .limits = *limits,
        .stream_count_max = H2_STREAM_COUNT_MAX,
    };
    il_list_init(&h2->streams);
    il_bytes_init(&h2->names);
    if (session_new(h2) != 0 || send_settings(h2, windows) != 0) {
        h2_deinit(h2);
        return il_fail(err, IL_ENOMEM, "no memory for an HTTP/2 connection");
    }
    h2_note_step(h2);
    return IL_OK;
}

void h2_deinit(struct h2 *h2)
{
    il_assert(h2->stream_count == 0);
    nghttp2_session_del(h2->session);
    h2->session = NULL;
    h2_memory_deinit(&h2->memory);
    il_bytes_deinit(&h2->names);
}

void h2_note_step(struct h2 *h2)
{
    h2->may_open = nghttp2_session_check_request_allowed(h2->session) != 0;
}

bool h2_is_open(const struct h2 *h2)
{
    return !h2->has_failed && !h2->is_going_away && !h2->owes_goodbye && h2->may_open;
}

/* ---- bytes in, bytes out ---- */

static enum il_code h2_report(const struct h2 *h2, struct il_error *err)
{
    if (err != NULL) {
        *err = h2->error;
    }
    return h2->error.code;
}

/* nghttp2 has given up. */
static enum il_code h2_report_fatal(struct h2 *h2, int result, struct il_error *err)
{
    if (result == NGHTTP2_ERR_NOMEM) {
        h2_fail_for_memory(h2);
    } else if (!h2->has_failed) {
        h2->has_failed = true;
        h2_describe_fatal(result, &h2->error);
    }
    return h2_report(h2, err);
}

enum il_code h2_feed(struct h2 *h2, const char *bytes, size_t size, struct il_error *err)
{
    ssize_t fed;

    if (h2->has_failed) { /* nothing goes into nghttp2 any more */
        return h2_report(h2, err);
    }
    h2->idle_byte_count += (uint32_t)il_min_u64(size, H2_IDLE_BYTES_MAX);
    fed = nghttp2_session_mem_recv(h2->session, (const uint8_t *)bytes, size);
    if (fed >= 0 && h2->idle_byte_count > H2_IDLE_BYTES_MAX) {
        char what[128];

        (void)snprintf(what, sizeof(what),
                       "the server sent %d bytes without bringing any response forward",
                       H2_IDLE_BYTES_MAX);
        fed = h2_refuse(h2, IL_EPROTOCOL, what);
    }
    if (fed >= 0 && h2->used_size > 0) {
        h2_check_queued(h2, nghttp2_session_consume_connection(h2->session, h2->used_size));
        h2->used_size = 0;
    }
    h2_note_step(h2);
    return fed < 0 ? h2_report_fatal(h2, (int)fed, err) : IL_OK;
}

enum il_code h2_pull(struct h2 *h2, struct il_bytes *out, size_t size_max, struct il_error *err)
{
    size_t size = 0;

    while (size < size_max && !h2->has_failed) {
        const uint8_t *bytes;
        ssize_t got = nghttp2_session_mem_send(h2->session, &bytes);

        if (got == 0) {
            break;
        }
        if (got < 0) {
            return h2_report_fatal(h2, (int)got, err);
        }
        if (il_bytes_append(out, bytes, (size_t)got) != IL_OK) {
            return h2_report_fatal(h2, NGHTTP2_ERR_NOMEM, err);
        }
        size += (size_t)got;
    }
    h2_note_step(h2);
    return h2->has_failed ? h2_report(h2, err) : IL_OK;
}

void h2_fail(struct h2 *h2, const struct il_error *error)
{
    if (!h2->has_failed) {
        h2->has_failed = true;
        h2->error = *error;
    }
    while (!il_list_is_empty(&h2->streams)) {
        struct h2_stream *stream = il_container_of(h2->streams.next, struct h2_stream, link);

        if (!stream->has_failed) {
            stream->error = *error;
            h2_describe_cut(stream);
        }
        (void)nghttp2_session_set_stream_user_data(h2->session, stream->id, NULL);
        if (stream->is_ended && !stream->has_failed) {
            stream_end(stream, H2_END_COMPLETE); /* only our half was still open */
        } else {
            stream_end(stream,
                       (stream_is_sent(stream) && !IL_MUTANT(SEEN_AGAIN)) || stream->has_failed
                           ? H2_END_FAILED
                           : H2_END_REFUSED);
        }
    }
}

/* ---- what the owner does with streams ---- */

void h2_resume(struct h2_stream *stream)
{
    if (stream->id != 0) {
        h2_check_queued(stream->h2, nghttp2_session_resume_data(stream->h2->session, stream->id));
    }
}

void h2_consume(struct h2_stream *stream, size_t size)
{
    if (stream->h2->events->holds_window) {
        h2_check_queued(stream->h2, nghttp2_session_consume_connection(stream->h2->session, size));
    }
    if (stream->id != 0 && !stream->is_last_frame) { /* else the server has no more for it */
        h2_check_queued(stream->h2,
                        nghttp2_session_consume_stream(stream->h2->session, stream->id, size));
    }
    if (stream->id != 0 && IL_MUTANT(WINDOW_KEPT)) {
        h2_check_queued(stream->h2, nghttp2_session_consume_connection(stream->h2->session, size));
    }
}

bool h2_stream_is_full(const struct h2_stream *stream)
{
    return stream->id != 0 &&
           nghttp2_session_get_stream_local_window_size(stream->h2->session, stream->id) == 0;
}

uint32_t h2_window_left(const struct h2 *h2)
{
    int32_t left = nghttp2_session_get_local_window_size(h2->session);

    return left > 0 ? (uint32_t)left : 0;
}

void h2_abandon(struct h2_stream *stream)
{
    struct h2 *h2 = stream->h2;

    if (stream->id == 0) {
        return;
    }
    /* nghttp2 knows it in two ways: opened, or still in its queue; a reset of the latter cancels
     * it. In both its events must not come to us any more. */
    (void)nghttp2_session_set_stream_user_data(h2->session, stream->id, NULL);
    if (!h2->has_failed) {
        stream_reset(stream, NGHTTP2_CANCEL);
    }
    stream_forget(stream);
}

void h2_ping(struct h2 *h2)
{
    h2->has_pong = false;
    (void)nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, NULL);
}

static bool is_all_sent(const struct h2 *h2)
{
    il_list_for_each(&h2->streams, node)
    {
        if (!stream_is_sent(il_container_of(node, struct h2_stream, link))) {
            return false;
        }
    }
    return true;
}

void h2_say_goodbye(struct h2 *h2)
{
    h2->owes_goodbye = !is_all_sent(h2);
    if (!h2->has_failed && !h2->owes_goodbye) {
        (void)nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
    }
    h2_note_step(h2);
}

bool h2_last_words(const struct h2 *h2, struct il_bytes *out)
{
    /* nghttp2 is not asked any more: its state is not what it was. Length 8, type GOAWAY, no flags,
     * stream 0; no stream of the server's was processed. */
    static const unsigned char goaway[] = {
        0, 0, 8, NGHTTP2_GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NGHTTP2_ENHANCE_YOUR_CALM
    };

    return h2->is_told || (h2->is_refused && il_bytes_append(out, goaway, sizeof(goaway)) == IL_OK);
}
