/* stage_sim_h2.c: the simulated server's HTTP/2: one connection is one server session of nghttp2,
 * fed and emptied through its link.
 *
 * It answers as stage_sim_server.c does; every fourth answer has trailers. Unless the run has
 * faults of the kind, at once. With them it takes its time before it acts on a request, before it
 * answers, and within a body; refuses requests unseen; says goodbye (with notice or without,
 * closing or not); allows fewer streams for a while, or none; resets a stream; never answers. A
 * request counts as seen when the server acts on it: what it refuses, or leaves above the last
 * number in its GOAWAY, it has not seen.
 *
 * A client sends a request again that was refused unseen, but not for ever. So that every request
 * can still be answered a server does such things once (upsets_left), and refuses a path once, but
 * with SIM_FAULT_UPSET.
 *
 * Owns: the nghttp2 session, its streams. Threads: as stage_sim_inside.h says. Ends: h2_conn_stop()
 * with its connection; the memory goes with h2_conn_free(). */
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/server.h"
#include "lab/stage_sim_inside.h"

#define UPSETS_MILD      2
#define UPSETS_MANY      1000
#define REFUSALS_MILD    1
#define WINDOW_SMALL_MIN 64
#define WINDOW_SMALL_MAX 4096
#define FRAME_HEAD_SIZE  9
#define RST_STREAM_SIZE  (FRAME_HEAD_SIZE + 4)

/*  RECEIVING --> WHOLE --> HELD --> LATE --> ANSWERING <--> RESTING     SILENT: no answer
 * Steps in the middle may be left out. */
enum stream_state {
    STREAM_RECEIVING,
    STREAM_WHOLE,   /* has come, and is not acted on yet */
    STREAM_REFUSED, /* RST_STREAM is on its way */
    STREAM_HELD,    /* at a gate; like all that follows, acted on */
    STREAM_LATE,
    STREAM_ANSWERING,
    STREAM_PAUSED,  /* in the middle of a body, at a gate */
    STREAM_RESTING, /* likewise, for a while */
    STREAM_SILENT,
};

struct h2_stream {
    struct h2_stream *next;
    struct h2_conn *h2;
    int32_t id;
    enum stream_state state;
    struct sim_alarm alarm; /* the next state */
    char target[TARGET_SIZE];
    struct gate *gate;
    char small[TARGET_SIZE]; /* the body, if it is not the pattern */
    bool is_pattern, has_paused, has_rested;
    uint64_t sent, end, seed;
};

struct h2_conn {
    struct stage_server *server;
    struct conn *conn;
    nghttp2_session *session;
    struct h2_stream *streams;
    struct sim_alarm idle_alarm;  /* no stream is open: say goodbye */
    struct sim_alarm limit_alarm; /* allow as many streams as before */
    struct sim_alarm leave_alarm; /* after the notice */
    int32_t acted_max;            /* the last stream that was acted on */
    int32_t odd_id;               /* reset this one, which is over; 0: none */
    bool is_stopped, is_leaving, closes_when_done, is_done;
    char *out;
    size_t out_size, out_capacity;
};

static void h2_flush(struct h2_conn *h2);

/* ---- saying goodbye ---- */

/* No stream beyond those that were acted on. */
static void h2_leave(struct h2_conn *h2)
{
    sim_note("server: GOAWAY %d", (int)h2->acted_max);
    (void)nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE, h2->acted_max, NGHTTP2_NO_ERROR,
                                NULL, 0);
    h2->is_done = true;
}

static void h2_begin_to_leave(struct h2_conn *h2)
{
    h2->is_leaving = true;
    h2->closes_when_done = sim_draw(2) == 0;
    sim_alarm_unset(&h2->idle_alarm);
    if (sim_draw(2) == 0) {
        h2_leave(h2);
    } else {
        sim_note("server: GOAWAY notice");
        (void)nghttp2_submit_shutdown_notice(h2->session);
        sim_alarm_set(&h2->leave_alarm, sim_draw(LATE_NS_MAX));
    }
}

static bool server_may_upset(struct stage_server *server, enum sim_fault fault)
{
    if (server->upsets_left == 0 || !sim_fault(fault)) {
        return false;
    }
    server->upsets_left--;
    return true;
}

static void h2_on_leave_alarm(struct sim_alarm *alarm)
{
    struct h2_conn *h2 = (void *)((char *)alarm - offsetof(struct h2_conn, leave_alarm));

    h2_leave(h2);
    h2_flush(h2);
}

static void h2_on_idle_alarm(struct sim_alarm *alarm)
{
    struct h2_conn *h2 = (void *)((char *)alarm - offsetof(struct h2_conn, idle_alarm));

    switch (sim_draw(3)) {
    case 0:
        sim_conn_close(h2->conn);
        break;
    case 1:
        sim_conn_reset(h2->conn);
        break;
    default:
        h2_begin_to_leave(h2);
        h2_flush(h2);
        break;
    }
}

/* ---- how many streams ---- */

static uint32_t limit_usual(const struct h2_conn *h2)
{
    return h2->server->stream_max > 0 ? h2->server->stream_max : 100;
}

static void h2_announce(struct h2_conn *h2, uint32_t stream_max)
{
    nghttp2_settings_entry entry = { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, stream_max };

    sim_note("server: allows %u streams", stream_max);
    (void)nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, &entry, 1);
}

static void h2_on_limit_alarm(struct sim_alarm *alarm)
{
    struct h2_conn *h2 = (void *)((char *)alarm - offsetof(struct h2_conn, limit_alarm));

    h2_announce(h2, limit_usual(h2));
    h2_flush(h2);
}

static void h2_allow_less(struct h2_conn *h2)
{
    h2_announce(h2, (uint32_t)sim_draw(sim_draw(2) == 0 ? 1 : limit_usual(h2)));
    sim_alarm_set(&h2->limit_alarm, sim_draw(LATE_NS_MAX));
}

/* ---- answering ---- */

static nghttp2_nv nv_of(const char *name, const char *value)
{
    return (nghttp2_nv){ (uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                         strlen(value), NGHTTP2_NV_FLAG_NONE };
}

/* Up to where the body may go now. */
static uint64_t body_until(struct h2_stream *stream)
{
    struct gate *gate = target_gate(stream->h2->server, stream->target, "pause_hold");
    uint64_t pause_at = target_number(stream->target, "pause_at", stream->end / 2);

    if (gate == NULL || gate->is_open || stream->has_paused || pause_at >= stream->end) {
        return stream->end;
    }
    stream->gate = gate;
    return pause_at;
}

static void body_end(struct h2_stream *stream, uint32_t *flags)
{
    nghttp2_nv trailer = nv_of("checksum", "12");

    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (target_is_odd(stream->h2->server, stream->target)) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        (void)nghttp2_submit_trailer(stream->h2->session, stream->id, &trailer, 1);
    }
}

static ssize_t body_read(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t size,
                         uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct h2_stream *stream = source->ptr;
    uint64_t left = body_until(stream) - stream->sent;

    if (left == 0 && stream->sent < stream->end) {
        stream->state = STREAM_PAUSED;
        stream->has_paused = true;
        sim_changed();
        return NGHTTP2_ERR_DEFERRED;
    }
    if (!stream->has_rested && sim_fault(SIM_FAULT_LATE)) {
        stream->state = STREAM_RESTING;
        stream->has_rested = true;
        sim_alarm_set(&stream->alarm, sim_draw(LATE_NS_MAX));
        return NGHTTP2_ERR_DEFERRED;
    }
    stream->has_rested = false;
    if (sim_fault(SIM_FAULT_ABORT)) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* RST_STREAM, INTERNAL_ERROR */
    }
    size = left < size ? (size_t)left : size;
    if (stream->is_pattern) {
        lab_pattern_fill((char *)buffer, size, stream->seed, stream->sent);
    } else {
        memcpy(buffer, stream->small + stream->sent, size);
    }
    stream->sent += size;
    if (stream->sent == stream->end) {
        body_end(stream, flags);
    }
    return (ssize_t)size;
}

static void stream_answer(struct h2_stream *stream)
{
    nghttp2_data_provider body = { { .ptr = stream }, body_read };
    nghttp2_nv head[2] = { nv_of(":status", "200") };
    bool has_length = !target_is_odd(stream->h2->server, stream->target);
    char length[24];

    stream->state = STREAM_ANSWERING;
    stream->is_pattern = strncmp(stream->target, "/bytes/", 7) == 0;
    if (stream->is_pattern) {
        stream->end = strtoull(stream->target + 7, NULL, 10);
        stream->seed = target_number(stream->target, "seed", 0);
    } else {
        stream->end = target_body(stream->target, stream->small);
    }
    (void)snprintf(length, sizeof(length), "%llu", (unsigned long long)stream->end);
    head[1] = nv_of("content-length", length);
    (void)nghttp2_submit_response(stream->h2->session, stream->id, head, has_length ? 2 : 1, &body);
}

static void stream_give_up(struct h2_stream *stream)
{
    if (sim_draw(2) == 0) {
        sim_conn_reset(stream->h2->conn);
    } else {
        (void)nghttp2_submit_rst_stream(stream->h2->session, NGHTTP2_FLAG_NONE, stream->id,
                                        NGHTTP2_INTERNAL_ERROR);
    }
}

/* The gate is open, if there was one. */
static void stream_pass(struct h2_stream *stream)
{
    stream->gate = NULL;
    if (sim_fault(SIM_FAULT_NEVER)) {
        stream->state = STREAM_SILENT;
        sim_alarm_set(&stream->alarm, NEVER_NS);
    } else if (sim_fault(SIM_FAULT_LATE)) {
        stream->state = STREAM_LATE;
        sim_alarm_set(&stream->alarm, sim_draw(LATE_NS_MAX));
    } else {
        stream_answer(stream);
    }
}

/* From here on the request is seen. */
static void stream_act(struct h2_stream *stream)
{
    struct h2_conn *h2 = stream->h2;

    h2->acted_max = stream->id > h2->acted_max ? stream->id : h2->acted_max;
    (void)server_note_request(h2->server, stream->target);
    h2->server->counts.answering++;
    stream->gate = target_gate(h2->server, stream->target, "hold");
    if (stream->gate != NULL && !stream->gate->is_open) {
        stream->state = STREAM_HELD;
        sim_changed();
    } else {
        stream_pass(stream);
    }
}

static bool stream_is_acted_on(const struct h2_stream *stream)
{
    return stream->state >= STREAM_HELD;
}

static void stream_on_alarm(struct sim_alarm *alarm)
{
    struct h2_stream *stream = (void *)((char *)alarm - offsetof(struct h2_stream, alarm));
    struct h2_conn *h2 = stream->h2;

    switch (stream->state) {
    case STREAM_WHOLE:
        stream_act(stream);
        break;
    case STREAM_LATE:
        stream_answer(stream);
        break;
    case STREAM_RESTING:
        stream->state = STREAM_ANSWERING;
        (void)nghttp2_session_resume_data(h2->session, stream->id);
        break;
    default:
        stream_give_up(stream);
        break;
    }
    h2_flush(h2);
}

/* ---- what comes ---- */

/* A stream that is whole: is it to be refused? */
static bool stream_is_refused(struct h2_stream *stream)
{
    struct seen *seen = server_seen(stream->h2->server, stream->target);
    unsigned most = stream->h2->server->upsets_left > UPSETS_MILD ? UPSETS_MANY : REFUSALS_MILD;

    if (seen == NULL || seen->refused_count >= most || !sim_fault(SIM_FAULT_UNSEEN)) {
        return false;
    }
    seen->refused_count++;
    return true;
}

static void stream_on_whole(struct h2_stream *stream)
{
    struct h2_conn *h2 = stream->h2;

    if ((h2->is_done && stream->id > h2->acted_max) || stream_is_refused(stream)) {
        stream->state = STREAM_REFUSED;
        (void)nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, stream->id,
                                        NGHTTP2_REFUSED_STREAM);
    } else if (sim_fault(SIM_FAULT_LATE)) {
        stream->state = STREAM_WHOLE;
        sim_alarm_set(&stream->alarm, sim_draw(LATE_NS_MAX));
    } else {
        stream_act(stream);
    }
    if (!h2->is_leaving && server_may_upset(h2->server, SIM_FAULT_GOAWAY)) {
        h2_begin_to_leave(h2);
    }
    if (server_may_upset(h2->server, SIM_FAULT_LIMIT)) {
        h2_allow_less(h2);
    }
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_conn *h2 = arg;
    struct h2_stream *stream;

    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        abort();
    }
    sim_alarm_unset(&h2->idle_alarm);
    stream->h2 = h2;
    stream->id = frame->hd.stream_id;
    stream->alarm.ring = stream_on_alarm;
    stream->next = h2->streams;
    h2->streams = stream;
    (void)nghttp2_session_set_stream_user_data(session, stream->id, stream);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *arg)
{
    struct h2_stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

    if (stream != NULL && name_size == 5 && memcmp(name, ":path", 5) == 0 &&
        value_size < TARGET_SIZE) {
        memcpy(stream->target, value, value_size);
        stream->target[value_size] = '\0';
    }
    return 0;
}

static int on_frame_received(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

    if (stream != NULL && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
        stream->state == STREAM_RECEIVING &&
        (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)) {
        stream_on_whole(stream);
    }
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR) {
        struct h2_conn *h2 = arg;

        server_complain(h2->server, nghttp2_http2_strerror(frame->goaway.error_code));
    }
    return 0;
}

static void stream_free(struct h2_stream *stream)
{
    struct h2_stream **at = &stream->h2->streams;

    while (*at != stream) {
        at = &(*at)->next;
    }
    *at = stream->next;
    sim_alarm_unset(&stream->alarm);
    stream->h2->server->counts.answering -= stream_is_acted_on(stream);
    free(stream);
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct h2_stream *stream = nghttp2_session_get_stream_user_data(session, id);
    struct h2_conn *h2 = arg;

    if (stream == NULL) {
        return 0;
    }
    (void)nghttp2_session_set_stream_user_data(session, id, NULL);
    if (code == NGHTTP2_NO_ERROR && stream->end > 0 && sim_fault(SIM_FAULT_TWICE)) {
        h2->odd_id = id;
    }
    stream_free(stream);
    if (h2->streams == NULL && !h2->is_leaving && sim_fault(SIM_FAULT_CLOSE_IDLE)) {
        sim_alarm_set(&h2->idle_alarm, sim_draw(IDLE_NS_MAX));
    }
    sim_changed();
    return 0;
}

/* ---- what goes ---- */

static void out_append(struct h2_conn *h2, const uint8_t *bytes, size_t size)
{
    if (h2->out_size + size > h2->out_capacity) {
        h2->out_capacity = 2 * (h2->out_size + size);
        h2->out = realloc(h2->out, h2->out_capacity);
        if (h2->out == NULL) {
            abort();
        }
    }
    memcpy(h2->out + h2->out_size, bytes, size);
    h2->out_size += size;
}

/* RST_STREAM for a stream that is over. It says nothing new. */
static void out_append_odd(struct h2_conn *h2)
{
    uint32_t id = (uint32_t)h2->odd_id;
    uint8_t frame[RST_STREAM_SIZE] = { 0,
                                       0,
                                       4,
                                       NGHTTP2_RST_STREAM,
                                       0,
                                       (uint8_t)(id >> 24),
                                       (uint8_t)(id >> 16),
                                       (uint8_t)(id >> 8),
                                       (uint8_t)id };

    if (id != 0) {
        h2->odd_id = 0;
        out_append(h2, frame, sizeof(frame));
    }
}

static void h2_flush(struct h2_conn *h2)
{
    const uint8_t *bytes;
    ssize_t size;

    if (h2->is_stopped) {
        return;
    }
    while ((size = nghttp2_session_mem_send(h2->session, &bytes)) > 0) {
        out_append(h2, bytes, (size_t)size);
    }
    out_append_odd(h2);
    if (h2->out_size > 0) {
        sim_conn_send(h2->conn, h2->out, h2->out_size);
        h2->out_size = 0;
    }
    if (nghttp2_session_want_read(h2->session) == 0 && (!h2->is_done || h2->closes_when_done)) {
        sim_conn_fin(h2->conn); /* and not more: what the client has yet to read would be lost */
    }
}

void h2_conn_feed(struct h2_conn *h2, const char *bytes, size_t size)
{
    ssize_t result = nghttp2_session_mem_recv(h2->session, (const uint8_t *)bytes, size);

    if (result < 0) {
        server_complain(h2->server, nghttp2_strerror((int)result));
        sim_conn_close(h2->conn);
        return;
    }
    h2_flush(h2);
}

/* ---- life ---- */

/* What holds for all connections of a server; drawn with the first, so that a run without HTTP/2
 * draws nothing of it. */
static void server_draw_h2(struct stage_server *server)
{
    server->is_h2_drawn = true;
    server->upsets_left = sim_fault(SIM_FAULT_UPSET) ? UPSETS_MANY : UPSETS_MILD;
    server->stream_max = sim_draw(3) == 0 ? 0 : (uint32_t)(1 + sim_draw(sim_draw(2) == 0 ? 3 : 20));
}

static void h2_greet(struct h2_conn *h2)
{
    nghttp2_settings_entry entries[2];
    size_t count = 0;

    if (h2->server->stream_max > 0) {
        entries[count++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                                                     h2->server->stream_max };
    }
    if (sim_fault(SIM_FAULT_NARROW)) {
        entries[count++] = (nghttp2_settings_entry){
            NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
            (uint32_t)(WINDOW_SMALL_MIN + sim_draw(WINDOW_SMALL_MAX - WINDOW_SMALL_MIN))
        };
    }
    (void)nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, entries, count);
}

struct h2_conn *h2_conn_new(struct stage_server *server, struct conn *conn)
{
    struct h2_conn *h2 = calloc(1, sizeof(*h2));
    nghttp2_session_callbacks *callbacks;

    if (h2 == NULL || nghttp2_session_callbacks_new(&callbacks) != 0) {
        abort();
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_received);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    if (nghttp2_session_server_new(&h2->session, callbacks, h2) != 0) {
        abort();
    }
    nghttp2_session_callbacks_del(callbacks);
    h2->server = server;
    h2->conn = conn;
    h2->idle_alarm.ring = h2_on_idle_alarm;
    h2->limit_alarm.ring = h2_on_limit_alarm;
    h2->leave_alarm.ring = h2_on_leave_alarm;
    if (!server->is_h2_drawn) {
        server_draw_h2(server);
    }
    h2_greet(h2);
    return h2;
}

void h2_conn_stop(struct h2_conn *h2)
{
    h2->is_stopped = true;
    sim_alarm_unset(&h2->idle_alarm);
    sim_alarm_unset(&h2->limit_alarm);
    sim_alarm_unset(&h2->leave_alarm);
    for (struct h2_stream *stream = h2->streams; stream != NULL; stream = stream->next) {
        sim_alarm_unset(&stream->alarm);
        h2->server->counts.answering -= stream_is_acted_on(stream);
        stream->state = STREAM_REFUSED; /* counted nowhere any more */
    }
}

void h2_conn_free(struct h2_conn *h2)
{
    if (h2 == NULL) {
        return;
    }
    while (h2->streams != NULL) {
        struct h2_stream *stream = h2->streams;

        h2->streams = stream->next;
        free(stream);
    }
    nghttp2_session_del(h2->session);
    free(h2->out);
    free(h2);
}

/* ---- control ---- */

void h2_conn_release(struct h2_conn *h2, const struct gate *gate)
{
    for (struct h2_stream *stream = h2->streams; stream != NULL; stream = stream->next) {
        if (stream->gate == gate && stream->state == STREAM_HELD) {
            stream_pass(stream);
        } else if (stream->gate == gate && stream->state == STREAM_PAUSED) {
            stream->state = STREAM_ANSWERING;
            (void)nghttp2_session_resume_data(h2->session, stream->id);
        }
    }
    h2_flush(h2);
}

uint64_t h2_conn_held(const struct h2_conn *h2, const struct gate *gate)
{
    uint64_t count = 0;

    for (const struct h2_stream *stream = h2->streams; stream != NULL; stream = stream->next) {
        count += (stream->state == STREAM_HELD || stream->state == STREAM_PAUSED) &&
                 stream->gate == gate;
    }
    return count;
}

bool h2_conn_is_idle(const struct h2_conn *h2)
{
    return h2->streams == NULL;
}
