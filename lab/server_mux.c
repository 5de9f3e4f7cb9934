/* server_mux.c: a connection of HTTP/2: frames in and out, by nghttp2, and which streams are on it.
 *
 * What a stream does is not decided here: each is a connection of its own to the rest of the server
 * (server_stream.c), and is told when there is something to read or room to write. That happens
 * between nghttp2's calls, never from within one of them: a stream that ends may take the
 * connection with it.
 * Owns: nghttp2's session. Threads: the server's.
 * Ends: after GOAWAY with the last stream; or with the connection. */
#include <errno.h>
#include <sys/epoll.h>

#include "lab/server_inside.h"

#define MUX_STREAM_WINDOW     (256 << 10) /* bytes of an upload that may wait to be read */
#define MUX_CONNECTION_WINDOW (16 << 20)

bool mux_is_preface(const char *data, size_t size, bool *ret_is_open)
{
    bool is_like_it = memcmp(data, NGHTTP2_CLIENT_MAGIC, il_min_u64(size, MUX_PREFACE_SIZE)) == 0;

    *ret_is_open = is_like_it;
    return is_like_it && size >= MUX_PREFACE_SIZE;
}

/* ---- to do before the turn is over ---- */

void mux_touch(struct mux *mux)
{
    if (!il_list_is_linked(&mux->link) && !mux->is_ending) {
        il_list_push_back(&mux->conn->server->muxes, &mux->link);
    }
}

void mux_wake(struct mux_stream *stream)
{
    if (stream->conn->state != CONN_CLOSED && !il_list_is_linked(&stream->wake_link)) {
        il_list_push_back(&stream->mux->wakes, &stream->wake_link);
    }
    mux_touch(stream->mux);
}

/* ---- what nghttp2 tells ---- */

static struct mux_stream *mux_find(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int mux_on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct mux *mux = arg;
    struct mux_stream *stream;

    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    stream = stream_new(mux, frame->hd.stream_id);
    if (stream == NULL ||
        nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream) != 0) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the stream is reset */
    }
    if (mux->stream_count++ == 0) {
        conn_set_busy(mux->conn, true);
    }
    return 0;
}

static int mux_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                         size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                         void *arg)
{
    struct mux_stream *stream = mux_find(session, frame->hd.stream_id);

    if (stream != NULL &&
        !stream_on_field(stream, (const char *)name, name_size, (const char *)value, value_size)) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return 0;
}

static int mux_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct mux_stream *stream = mux_find(session, frame->hd.stream_id);
    bool is_last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    bool is_good = true;

    if (stream == NULL) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        is_good = stream_on_head(stream, is_last);
    } else if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) {
        is_good = !is_last || stream_on_end(stream);
    }
    if (!is_good) { /* out of memory */
        stream->is_broken = true;
        mux_wake(stream);
    }
    return 0;
}

static int mux_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                       size_t size, void *arg)
{
    struct mux_stream *stream = mux_find(session, id);

    if (stream == NULL) {
        (void)nghttp2_session_consume(session, id, size); /* as below */
        return 0;
    }
    (void)nghttp2_session_consume_connection(session, size); /* out of memory ends the next call */
    if (!stream_on_data(stream, (const char *)data, size)) {
        stream->is_broken = true;
        mux_wake(stream);
    }
    return 0;
}

static int mux_on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct mux_stream *stream = mux_find(session, frame->hd.stream_id);

    if (stream == NULL || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS && stream->heads_queued > 0) {
        stream->heads_queued--;
    }
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        stream->is_sent = true;
    }
    mux_wake(stream);
    return 0;
}

static int mux_on_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int code,
                                 void *arg)
{
    struct mux_stream *stream = mux_find(session, frame->hd.stream_id);

    if (stream != NULL && frame->hd.type == NGHTTP2_HEADERS) {
        stream->is_broken = true;
        mux_wake(stream);
    }
    return 0;
}

static int mux_on_stream_over(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct mux_stream *stream = mux_find(session, id);

    if (stream == NULL) {
        return 0;
    }
    stream->is_over = true;
    if (stream->is_sent) {
        mux_wake(stream); /* what is left of its script goes on */
    } else {
        conn_close(stream->conn, LAB_CLOSE_FIN, true);
    }
    return 0;
}

/* ---- birth and end ---- */

static void *mux_malloc(size_t size, void *arg)
{
    return il_malloc(size);
}

static void *mux_calloc(size_t count, size_t size, void *arg)
{
    return il_calloc(count, size);
}

static void *mux_realloc(void *memory, size_t size, void *arg)
{
    return il_realloc(memory, size);
}

static void mux_release(void *memory, void *arg)
{
    il_free(memory);
}

static nghttp2_mem mux_memory = {
    .malloc = mux_malloc, .free = mux_release, .calloc = mux_calloc, .realloc = mux_realloc
};

/* False: out of memory. */
static bool mux_new_session(struct mux *mux)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *options = NULL;
    bool is_made = false;

    if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&options) == 0) {
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, mux_on_begin_headers);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, mux_on_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, mux_on_frame);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, mux_on_data);
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, mux_on_frame_sent);
        nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, mux_on_frame_not_sent);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, mux_on_stream_over);
        nghttp2_option_set_no_auto_window_update(options, 1);
        nghttp2_option_set_max_send_header_block_length(options, 2 * STREAM_HEAD_MAX);
        is_made =
            nghttp2_session_server_new3(&mux->session, callbacks, mux, options, &mux_memory) == 0;
    }
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
    return is_made;
}

bool mux_init(struct conn *conn)
{
    uint32_t streams_max = conn->server->options.streams_max;
    nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
          streams_max > 0 ? streams_max : LAB_STREAMS_MAX },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, MUX_STREAM_WINDOW },
    };
    struct mux *mux = il_calloc(1, sizeof(*mux));

    if (mux == NULL) {
        return false;
    }
    mux->conn = conn;
    il_list_init(&mux->streams);
    il_list_init(&mux->wakes);
    il_list_init(&mux->link);
    if (!mux_new_session(mux) ||
        nghttp2_submit_settings(mux->session, NGHTTP2_FLAG_NONE, settings,
                                il_array_count(settings)) != 0 ||
        nghttp2_session_set_local_window_size(mux->session, NGHTTP2_FLAG_NONE, 0,
                                              MUX_CONNECTION_WINDOW) != 0) {
        nghttp2_session_del(mux->session);
        il_free(mux);
        return false;
    }
    conn->mux = mux;
    return true;
}

void mux_free(struct mux *mux)
{
    if (mux == NULL) {
        return;
    }
    il_assert(mux->stream_count == 0);
    il_assert(!il_list_is_linked(&mux->link));
    nghttp2_session_del(mux->session);
    il_free(mux);
}

void mux_leave(struct mux *mux)
{
    if (!mux->is_leaving) {
        mux->is_leaving = true;
        (void)nghttp2_submit_goaway(mux->session, NGHTTP2_FLAG_NONE,
                                    nghttp2_session_get_last_proc_stream_id(mux->session),
                                    NGHTTP2_NO_ERROR, NULL, 0); /* out of memory: it just ends */
        mux_touch(mux);
    }
}

void mux_cut(struct mux *mux)
{
    mux->is_cut = true;
    mux_touch(mux);
}

void mux_close_streams(struct mux *mux, enum lab_close how, bool is_by_client)
{
    mux->is_ending = true;
    il_list_unlink(&mux->link);
    il_list_for_each_safe(&mux->streams, node)
    {
        conn_close(il_container_of(node, struct conn, link), how, is_by_client);
    }
    il_assert(mux->stream_count == 0);
}

/* What becomes of the stream's frames. */
static void mux_end_stream(struct mux *mux, const struct mux_stream *stream)
{
    uint32_t code = stream->is_sent ? NGHTTP2_NO_ERROR : NGHTTP2_INTERNAL_ERROR;

    if (stream->is_over || mux->is_cut) {
        return;
    }
    if (!stream->is_sent ||
        nghttp2_session_get_stream_remote_close(mux->session, stream->id) == 0) {
        (void)nghttp2_submit_rst_stream(mux->session, NGHTTP2_FLAG_NONE, stream->id, code);
    }
}

void mux_on_stream_closed(struct conn *conn)
{
    struct mux_stream *stream = conn->stream;
    struct mux *mux = stream->mux;

    il_assert(mux->stream_count > 0);
    mux->stream_count--;
    il_list_unlink(&stream->wake_link);
    if (mux->is_ending) {
        return;
    }
    mux_end_stream(mux, stream);
    (void)nghttp2_session_set_stream_user_data(mux->session, stream->id, NULL); /* gone: as well */
    if (mux->stream_count == 0 && !mux->is_leaving && !mux->is_cut) {
        conn_set_busy(mux->conn, false);
    }
    mux_touch(mux);
}

/* ---- moving ---- */

void mux_feed(struct mux *mux, const char *data, size_t size)
{
    ssize_t used = nghttp2_session_mem_recv(mux->session, (const uint8_t *)data, size);

    if (used < 0) {
        mux->conn->server->counters.bad_count++;
        server_changed(mux->conn->server);
        mux_cut(mux); /* nghttp2 has said why, if it could */
    }
    mux_touch(mux);
}

static void mux_receive(struct mux *mux)
{
    struct conn *conn = mux->conn;

    while (!conn->is_drained && conn->turn_left > 0 && !mux->is_cut) {
        ssize_t size = conn_socket_receive(conn, conn->in, sizeof(conn->in));

        if (size < 0 && errno == EINTR) {
            continue;
        }
        if (size < 0 && errno == EAGAIN) {
            conn->is_drained = true;
        } else if (size <= 0) {
            conn_close(conn, LAB_CLOSE_FIN, true);
            return;
        } else {
            conn->turn_left -= il_min_u64(conn->turn_left, (uint64_t)size);
            mux_feed(mux, conn->in, (size_t)size);
        }
    }
    if (!conn->is_drained && !mux->is_cut) {
        conn_want(conn, conn->interest | EPOLLOUT); /* TLS may hold bytes that epoll knows not */
    }
}

/* Frames into conn->out, as far as there is room. */
static void mux_fill(struct mux *mux)
{
    struct conn *conn = mux->conn;

    if (conn->out_begin == conn->out_end) {
        conn->out_begin = conn->out_end = 0;
    }
    while (conn->out_end < sizeof(conn->out)) {
        size_t size;

        if (mux->frame_size == 0) {
            ssize_t got = nghttp2_session_mem_send(mux->session, &mux->frame);

            if (got < 0) {
                mux->is_cut = true; /* out of memory */
            }
            if (got <= 0) {
                return;
            }
            mux->frame_size = (size_t)got;
        }
        size = il_min_u64(mux->frame_size, sizeof(conn->out) - conn->out_end);
        memcpy(conn->out + conn->out_end, mux->frame, size);
        conn->out_end += size;
        mux->frame += size;
        mux->frame_size -= size;
    }
}

/* Send what there is. False: some is left, or it is closed. */
static bool mux_send(struct mux *mux)
{
    struct conn *conn = mux->conn;

    for (;;) {
        ssize_t sent;

        mux_fill(mux);
        if (conn->out_begin == conn->out_end) {
            return true;
        }
        if (conn->turn_left == 0) {
            conn_want(conn, conn->interest | EPOLLOUT);
            return false;
        }
        sent = conn_socket_send(conn, conn->out + conn->out_begin, conn->out_end - conn->out_begin);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 && errno == EAGAIN) {
            conn_want(conn, conn->interest | EPOLLOUT);
            return false;
        }
        if (sent < 0) {
            conn_close(conn, LAB_CLOSE_FIN, true);
            return false;
        }
        conn->out_begin += (size_t)sent;
        conn->turn_left -= il_min_u64(conn->turn_left, (uint64_t)sent);
    }
}

static void mux_run_stream(struct mux_stream *stream)
{
    struct conn *conn = stream->conn;

    if (stream->is_broken) {
        conn_close(conn, LAB_CLOSE_RST, false);
        return;
    }
    conn_on_stream(conn);
    if (stream->is_over && conn->state == CONN_RECEIVING) {
        conn_close(conn, LAB_CLOSE_FIN, true); /* the rest of the request does not come */
    }
}

/* All is sent: is this the end? */
static void mux_end_if_over(struct mux *mux)
{
    bool wants_more = nghttp2_session_want_read(mux->session) != 0 ||
                      nghttp2_session_want_write(mux->session) != 0;

    if (mux->is_cut || (mux->is_leaving && mux->stream_count == 0) || !wants_more) {
        mux_close_streams(mux, LAB_CLOSE_FIN, false);
        conn_linger(mux->conn);
    }
}

static void mux_go_on(struct mux *mux)
{
    struct conn *conn = mux->conn;
    bool is_all_sent;

    do {
        struct il_list *node;

        while (conn->state != CONN_CLOSED && (node = il_list_pop_front(&mux->wakes)) != NULL) {
            mux_run_stream(il_container_of(node, struct mux_stream, wake_link));
        }
        is_all_sent = conn->state != CONN_CLOSED && mux_send(mux);
    } while (conn->state != CONN_CLOSED && !il_list_is_empty(&mux->wakes));
    il_list_unlink(&mux->link);
    if (is_all_sent) {
        mux_end_if_over(mux);
    }
}

void mux_on_events(struct mux *mux)
{
    mux_receive(mux);
    if (mux->conn->state != CONN_CLOSED) {
        mux_go_on(mux);
    }
}

void mux_run_touched(struct lab_server *server)
{
    struct il_list *node;

    while ((node = il_list_pop_front(&server->muxes)) != NULL) {
        struct mux *mux = il_container_of(node, struct mux, link);

        mux->conn->turn_left = CONN_TURN_BYTES;
        mux_go_on(mux);
    }
}
