/* session_stream.c: one call's stream on a session, and a streamed response's.
 *
 * Two sides meet here, under the session's mutex: whoever drives the session puts head and body
 * where they are to go, and posts a job; the call's home loop, in that job, sees how far it has
 * come.
 *
 * Owns: struct session_stream, counted: a reference of the call (later the response), one of the
 *   session while the stream is open, one for each job on its way.
 * Threads: as grouped below. */
#include <stdio.h>

#include "client/drivers.h"
#include "client/session_stream.h"

/* ---- events, under the session's mutex ---- */

static enum il_code check_length(const struct session_stream *x, struct il_error *err)
{
    const struct il_client *client = x->session->client;

    if (!x->is_streaming && x->shared.h2.framing == H1_FRAMING_SIZED &&
        x->shared.h2.body_size > client->body_size_max) {
        return client_refuse_length(client, x->shared.h2.body_size, err);
    }
    return IL_OK;
}

static bool on_head(struct h2_stream *h2)
{
    struct session_stream *x = stream_of(h2);
    struct il_response *response = x->shared.response;

    if (response == NULL || check_length(x, &h2->error) != IL_OK) {
        return false;
    }
    response->status = h2->status;
    response->version = 20;
    response->framing = h2->framing;
    if (h2->framing != H1_FRAMING_CHUNKED) {
        response->body_length = h2->body_size;
    }
    headers_swap(&response->headers, &h2->headers);
    if (x->is_streaming) { /* from here on its owner may read */
        x->shared.unread_since_ns = sys_now_ns();
    }
    x->shared.has_head = true;
    stream_tell_locked(x);
    return true;
}

static bool on_body(struct h2_stream *h2, const char *bytes, size_t size)
{
    struct session_stream *x = stream_of(h2);
    enum il_code code;

    if (x->is_streaming) {
        code = il_bytes_append(&x->shared.chunks, bytes, size);
        if (code != IL_OK) {
            il_fail(&h2->error, code, "no memory for a part of the response");
            h2_consume(h2, size);
        } else if (x->session->driver != NULL) {
            atomic_store_explicit(&x->session->hoarder_loop_id, x->home->id, memory_order_relaxed);
        }
    } else {
        code = response_append(x->shared.response, bytes, size, &h2->error);
        h2_consume(h2, size);
    }
    stream_tell_locked(x);
    return code == IL_OK;
}

static void on_end(struct h2_stream *h2, enum h2_end end)
{
    struct session_stream *x = stream_of(h2);

    x->shared.end = end;
    x->shared.is_lost = x->session->shared.is_over;
    x->session->shared.freed_slots++;
    session_stream_stand_up(h2);
    /* release: a home that is awake already looks at all the rest as soon as it sees this */
    atomic_store_explicit(&x->shared.is_over, true, memory_order_release);
    stream_tell_end_locked(x);
}

static size_t on_wanted(struct h2_stream *h2, char *buffer, size_t size, bool *ret_is_last)
{
    struct session_stream *x = stream_of(h2);
    size_t part;

    if (x->shared.is_source) {
        part = (size_t)il_min_u64(size, il_bytes_size(&x->shared.source));
        if (part > 0) {
            memcpy(buffer, il_bytes_data(&x->shared.source), part);
            il_bytes_consume(&x->shared.source, part);
        }
        *ret_is_last = x->shared.is_source_ended && il_bytes_size(&x->shared.source) == 0;
    } else {
        part = (size_t)il_min_u64(size, x->shared.body_size);
        if (part > 0) {
            memcpy(buffer, x->shared.body, part);
            x->shared.body += part;
            x->shared.body_size -= part;
        }
        *ret_is_last = x->shared.body_size == 0;
    }
    x->shared.is_request_sent = *ret_is_last;
    if (x->shared.is_source || *ret_is_last) {
        stream_tell_locked(x);
    }
    return part;
}

const struct h2_events session_stream_events = { on_head, on_body, on_end, on_wanted, false };
const struct h2_events session_stream_events_bound = { on_head, on_body, on_end, on_wanted, true };

void session_stream_stand_up(struct h2_stream *h2)
{
    struct session_stream *x = stream_of(h2);

    if (x->shared.seat != NULL) {
        seat_count_locked(x->shared.seat, -1);
        x->shared.seat = NULL;
    }
}

/* ---- the home loop ---- */

/* The response's head is there and the user wants the body himself. */
static void hand_over(struct il_call *call, struct session_stream *x)
{
    call_begin_streaming(call);
    call->response->session_stream = x; /* with the call's reference */
    x->home_held.call = NULL;
    call->session_stream = NULL;
    call_succeed(call);
}

/* The call's reference is the caller's then. */
static void complete(struct il_call *call, struct session_stream *x)
{
    call->response->timing.done_ns = loop_now_ns(call->home);
    call->response->state = RESPONSE_WHOLE;
    x->home_held.call = NULL;
    call->session_stream = NULL;
    call_succeed(call);
}

/* What the home loop needs to know of the stream, in one look. */
struct stream_look {
    bool has_head, is_request_sent, is_over, is_lost, is_left, wants_source;
    enum h2_end end;
};

/* Likewise. */
static void fail(struct il_call *call, struct session_stream *x, const struct stream_look *now)
{
    const struct il_error *error = &x->shared.h2.error; /* it is over: nobody writes it */

    x->home_held.call = NULL;
    call->session_stream = NULL;
    if (now->end == H2_END_REFUSED && !IL_MUTANT(UNSEEN_LOST)) {
        call_on_refused(call, error->code, error);
    } else if (now->is_lost && now->is_left) {
        call_on_left(call, error->code, error);
    } else if (now->is_lost) {
        call_on_lost(call, error->code, error);
    } else {
        call_fail(call, error->code, error);
    }
}

/* The most frequent thing by far: all is there, and nobody else has to do with it any more. */
static bool is_complete(const struct session_stream *x)
{
    return atomic_load_explicit(&x->shared.is_over, memory_order_acquire) &&
           x->shared.end == H2_END_COMPLETE && x->shared.has_head && !x->is_streaming;
}

static void look(struct session_stream *x, struct stream_look *ret_look)
{
    if (is_complete(x)) {
        *ret_look = (struct stream_look){
            .has_head = true,
            .is_request_sent = x->shared.is_request_sent,
            .is_over = true,
            .end = H2_END_COMPLETE,
        };
        headers_swap(&x->shared.response->trailers, &x->shared.h2.trailers);
        return;
    }
    session_lock(x->session);
    ret_look->has_head = x->shared.has_head;
    ret_look->is_request_sent = x->shared.is_request_sent;
    ret_look->is_over = x->shared.is_over;
    ret_look->is_lost = x->shared.is_lost;
    ret_look->is_left = x->session->shared.h2.is_going_away &&
                        x->session->shared.h2.goaway_code == NGHTTP2_NO_ERROR;
    ret_look->wants_source = x->shared.is_source && !x->shared.is_source_ended &&
                             !x->shared.is_over &&
                             il_bytes_size(&x->shared.source) < SESSION_SOURCE_MAX;
    ret_look->end = x->shared.end;
    x->shared.is_home_posted = false;
    if (ret_look->is_over || (x->is_streaming && ret_look->has_head)) {
        if (x->shared.response != NULL && !x->is_streaming) {
            headers_swap(&x->shared.response->trailers, &x->shared.h2.trailers);
        }
        x->shared.response = NULL; /* it is the home loop's alone from here on */
    }
    session_unlock_unchanged(x->session);
}

static void note_progress(struct il_call *call, const struct stream_look *now)
{
    uint64_t now_ns = loop_now_ns(call->home);

    if (now->is_request_sent && call->response->timing.sent_ns == 0) {
        call->response->timing.sent_ns = now_ns;
        if (!now->has_head) {
            call_set_phase(call, IL_PHASE_FIRST_BYTE);
        }
    }
    if (now->has_head && !call->has_begun) {
        call->has_begun = true;
        call->response->timing.first_byte_ns = now_ns;
        call_set_phase(call, IL_PHASE_READ);
    } else {
        call_note_progress(call);
    }
    if (now->wants_source) {
        call_pull_source(call);
    }
}

static enum loop_result on_home(struct il_loop *loop, struct job *job)
{
    struct session_stream *x = il_container_of(job, struct session_stream, home_job);
    struct il_call *call = x->home_held.call;
    uint32_t ref_count = 1; /* the job's */
    struct stream_look now;

    if (call != NULL) {
        look(x, &now);
        note_progress(call, &now);
        if (call->is_done) {
            il_maybe(now.is_over); /* the source failed */
        } else if (now.is_over && now.end != H2_END_COMPLETE &&
                   !(x->is_streaming && now.has_head)) {
            fail(call, x, &now);
            ref_count++;
        } else if (x->is_streaming && now.has_head) {
            hand_over(call, x);
        } else if (now.is_over) {
            complete(call, x);
            ref_count++;
        }
    }
    stream_unref(x, ref_count);
    return LOOP_HELD;
}

/* ---- beginning ---- */

static struct session_stream *stream_new(struct il_call *call, struct session *session)
{
    struct session_stream *x = stream_take_spare(call->home);
    const struct il_request *request = call->request;

    if (x == NULL) {
        return NULL;
    }
    x->session = session;
    x->home = loop_ref(call->home);
    x->home_job.run = on_home;
    x->is_streaming = call->is_streaming;
    x->home_held.call = call;
    atomic_init(&x->ref_count, 1);
    il_bytes_init(&x->shared.source);
    il_bytes_init(&x->shared.chunks);
    x->shared.owner_loop_id = call->home->id;
    x->shared.response = call->response;
    x->shared.is_source = request->source != NULL;
    if (!x->shared.is_source) {
        x->shared.body = il_bytes_data(&request->body);
        x->shared.body_size = il_bytes_size(&request->body);
    }
    x->shared.is_request_sent = request->body_kind == H1_BODY_NONE;
    return x;
}

static enum il_code open_locked(struct il_call *call, struct session_stream *x,
                                struct session *session, struct il_error *err)
    IL_LOCKED(session->shared.mutex)
{
    const struct il_request *request = call->request;
    struct h1_request_head head = request_head(request);
    struct session_seat *seat;
    enum il_code code;

    if (session->shared.h2.stream_count == 0 && !session->shared.is_over) {
        session_refresh_locked(session, call->home); /* nobody may have looked for a while */
    }
    session_check_pulse_locked(session, call->home); /* those who have streams may not run */
    if (session->shared.is_over || !h2_is_open(&session->shared.h2)) {
        return il_fail(err, IL_EPEERCLOSED, "the server ended the connection");
    }
    if (session->shared.h2.stream_count >= session->shared.h2.stream_count_max) {
        return il_fail(err, IL_EPEERCLOSED, "the server has just come to allow fewer streams");
    }
    seat = session_sit_locked(session, call->home, err);
    if (seat == NULL) {
        return err->code;
    }
    code = h2_open_stream(&session->shared.h2, &x->shared.h2, &head, err);
    if (code == IL_OK) {
        atomic_store_explicit(&x->ref_count, 2, memory_order_relaxed); /* the session's */
        x->shared.seat = seat;
        seat_count_locked(seat, 1);
        if (call->client->no_keep_alive) {
            h2_say_goodbye(&session->shared.h2);
        }
        session_flush_soon_locked(session, call->home);
    }
    return code;
}

static void note_begun(struct il_call *call, const struct session *session, bool was_reused)
{
    struct il_response_timing *timing = &call->response->timing;

    atomic_store_explicit(&call->conn_id, session->id, memory_order_relaxed);
    call->has_begun = false;
    call->sent_size = 1; /* the head, at least: it cannot be taken back */
    timing->connected_ns = was_reused ? loop_now_ns(call->home) : sys_now_ns();
    timing->connection_id = session->id;
    response_set_server(call->response, &session->peer, session->tls_facts);
    timing->was_reused = was_reused;
    timing->was_moved = was_reused && session_is_moved(session, call->home);
    timing->sent_ns = call->request->body_kind == H1_BODY_NONE ? timing->connected_ns : 0;
}

static enum il_phase first_phase(const struct il_call *call, const struct session *session)
{
    if (session->driver != NULL && session->driver != call->home) {
        return IL_PHASE_DISPATCH;
    }
    return call->request->body_kind == H1_BODY_NONE ? IL_PHASE_FIRST_BYTE : IL_PHASE_WRITE;
}

bool session_begin(struct il_call *call, struct session *session, bool was_reused)
{
    struct session_stream *x = stream_new(call, session);
    struct il_error error;
    enum il_code code = IL_ENOMEM;

    if (x != NULL) {
        note_begun(call, session, was_reused);
        call_set_phase(call, first_phase(call, session));
        call->session_stream = x;
    } else {
        il_fail(&error, IL_ENOMEM, "no memory for a request over HTTP/2");
    }
    session_lock(session);
    if (x != NULL) {
        code = open_locked(call, x, session, &error);
    }
    session->shared.freed_slots += code != IL_OK;
    session_unlock(session);
    if (code == IL_OK) {
        if (call->request->source != NULL) {
            call_pull_source(call);
        }
        return true;
    }
    call->session_stream = NULL;
    if (x != NULL) {
        stream_unref(x, 1); /* and the caller's reference to the session */
    } else {
        session_unref(session);
    }
    if (code == IL_EPEERCLOSED) {
        return false;
    }
    call_fail(call, code, &error);
    return true;
}

enum il_code session_supply(struct il_call *call, size_t size, bool is_last)
{
    struct session_stream *x = call->session_stream;
    enum il_code code;
    bool wants_more;

    session_lock(x->session);
    code = il_bytes_append(&x->shared.source, call->source_buffer, size);
    x->shared.is_source_ended = is_last;
    if (code == IL_OK && !IL_MUTANT(SOURCE_UNSENT)) {
        h2_resume(&x->shared.h2);
        session_flush_locked(x->session);
    }
    wants_more =
        !is_last && !x->shared.is_over && il_bytes_size(&x->shared.source) < SESSION_SOURCE_MAX;
    session_unlock(x->session);
    if (code == IL_OK && wants_more) {
        call_pull_source(call);
    }
    return code;
}

/* ---- reports ---- */

static bool waits_for_owner_locked(const struct session_stream *x)
{
    if (x->shared.is_source && !x->shared.is_source_ended &&
        il_bytes_size(&x->shared.source) == 0) {
        return true;
    }
    return x->is_streaming && x->shared.reader == NULL && h2_stream_is_full(&x->shared.h2);
}

static void owners_add(struct session_owners *owners, uint64_t loop_id)
{
    unsigned known = (unsigned)il_min_u64(owners->loop_count, SESSION_OWNERS_MAX);

    owners->stream_count++;
    for (unsigned i = 0; i < known; i++) {
        if (owners->loop_ids[i] == loop_id) {
            return;
        }
    }
    if (owners->loop_count < SESSION_OWNERS_MAX) {
        owners->loop_ids[owners->loop_count] = loop_id;
    }
    owners->loop_count++;
}

void session_find_owners(struct session *session, struct session_owners *ret_owners)
{
    *ret_owners = (struct session_owners){ 0 };
    session_lock(session);
    il_list_for_each(&session->shared.h2.streams, node)
    {
        struct session_stream *x = stream_of(il_container_of(node, struct h2_stream, link));

        if (waits_for_owner_locked(x)) {
            owners_add(ret_owners, x->shared.owner_loop_id);
            ret_owners->unread_count += x->shared.unread_since_ns != 0;
        }
    }
    sys_mutex_unlock(&session->shared.mutex); /* nothing has changed that the pool must know */
}

/* ---- bodies that nobody reads ---- */

static void take_away_locked(struct session_stream *x)
{
    h2_abandon(&x->shared.h2);
    il_bytes_deinit(&x->shared.chunks);
    (void)response_fail_unread(x->session->client, &x->shared.h2.error);
    on_end(&x->shared.h2, H2_END_FAILED); /* its owner hears of it when he reads */
}

void session_take_unread_locked(struct session *session, uint64_t *look_ns)
{
    uint64_t timeout_ns = session->client->pool.unread_timeout_ns;
    struct session_stream *oldest = NULL;
    uint64_t now_ns = sys_now_ns();

    il_list_for_each(&session->shared.h2.streams, node)
    {
        struct session_stream *x = stream_of(il_container_of(node, struct h2_stream, link));

        if (x->shared.unread_since_ns != 0 &&
            (oldest == NULL || x->shared.unread_since_ns < oldest->shared.unread_since_ns)) {
            oldest = x;
        }
    }
    if (oldest == NULL) {
        return;
    }
    if (now_ns - oldest->shared.unread_since_ns < timeout_ns) {
        *look_ns = il_min_u64(*look_ns, oldest->shared.unread_since_ns + timeout_ns);
        return;
    }
    take_away_locked(oldest);
    *look_ns = il_min_u64(*look_ns, now_ns + SESSION_TAKE_PAUSE_NS);
    session_flush_locked(session);
}

/* ---- letting go ---- */

/* Nobody wants what is still to come. */
static void stream_drop(struct session_stream *x)
{
    session_lock(x->session);
    x->shared.response = NULL;
    x->shared.body = NULL;
    x->shared.body_size = 0;
    if (il_bytes_size(&x->shared.chunks) > 0) { /* what is not read will not be */
        h2_consume(&x->shared.h2, il_bytes_size(&x->shared.chunks));
        il_bytes_deinit(&x->shared.chunks);
        session_flush_locked(x->session);
    }
    if (x->shared.h2.id != 0) {
        h2_abandon(&x->shared.h2);
        session_stream_stand_up(&x->shared.h2);
        x->session->shared.freed_slots += !IL_MUTANT(STREAM_SLOT);
        il_assert(atomic_fetch_sub(&x->ref_count, 1) > 1); /* the session's */
        session_flush_locked(x->session);
    }
    session_unlock(x->session);
    stream_unref(x, 1);
}

void session_let_go(struct il_call *call)
{
    struct session_stream *x = call->session_stream;

    if (x != NULL) {
        call->session_stream = NULL;
        x->home_held.call = NULL;
        stream_drop(x);
    }
}

void session_abandon(struct il_response *response)
{
    struct session_stream *x = response->session_stream;

    response->session_stream = NULL;
    stream_drop(x);
}

const char *session_text(const struct session_stream *x, char text[static CONN_TEXT_SIZE])
{
    (void)snprintf(text, CONN_TEXT_SIZE, "connection %llu, HTTP/2",
                   (unsigned long long)x->session->id);
    return text;
}

/* ---- reading a streamed body ---- */

enum read_result {
    READ_DONE,  /* some bytes, or the end */
    READ_EMPTY, /* nothing yet: wait */
    READ_FAILED,
};

static enum read_result read_locked(struct session_stream *x, char *buffer, size_t size,
                                    size_t *ret_size, struct il_error *err)
    IL_LOCKED(x->session->shared.mutex)
{
    size_t part = (size_t)il_min_u64(size, il_bytes_size(&x->shared.chunks));

    *ret_size = part;
    if (part > 0) {
        memcpy(buffer, il_bytes_data(&x->shared.chunks), part);
        il_bytes_consume(&x->shared.chunks, part);
        h2_consume(&x->shared.h2, IL_MUTANT(WINDOW_QUIET) ? 0 : part);
        session_flush_locked(x->session);
        return READ_DONE;
    }
    if (!x->shared.is_over) {
        return READ_EMPTY;
    }
    if (x->shared.end == H2_END_COMPLETE) {
        return READ_DONE;
    }
    *err = x->shared.h2.error;
    return READ_FAILED;
}

/* The reader's loop drives from now on. */
static enum il_code reader_sit_locked(struct session_stream *x, struct il_loop *loop,
                                      struct il_error *err) IL_LOCKED(x->session->shared.mutex)
{
    struct session_seat *seat;

    if (x->shared.is_over || x->session->shared.is_over) {
        return IL_OK; /* all that will ever come has come */
    }
    seat = session_sit_locked(x->session, loop, err);
    if (seat == NULL) {
        return err->code;
    }
    x->shared.owner_loop_id = loop->id;
    if (seat != x->shared.seat) {
        session_stream_stand_up(&x->shared.h2);
        x->shared.seat = seat;
        seat_count_locked(seat, 1);
        /* What came before the seat was there has been told to others: look. */
        session_refresh_locked(x->session, loop);
    }
    return IL_OK;
}

/* One look; if there is nothing yet, `party` is woken when there is. */
static enum read_result reader_look(struct il_response *response, struct rt_place *place,
                                    char *buffer, size_t size, size_t *ret_size,
                                    struct il_error *err)
{
    struct session_stream *x = response->session_stream;
    enum read_result result = READ_FAILED;

    session_lock(x->session);
    x->shared.reader = NULL;
    x->shared.unread_since_ns = 0;
    if (reader_sit_locked(x, place->loop, err) == IL_OK) {
        result = read_locked(x, buffer, size, ret_size, err);
    }
    if (result == READ_EMPTY) {
        x->shared.reader = place->party;
    } else if (result == READ_DONE && *ret_size == 0) {
        headers_swap(&response->trailers, &x->shared.h2.trailers);
    } else if (result == READ_DONE) {
        x->shared.unread_since_ns = sys_now_ns();
    }
    session_unlock(x->session);
    return result;
}

static void reader_stand_up(struct session_stream *x)
{
    session_lock(x->session);
    x->shared.reader = NULL;
    session_unlock(x->session);
}

static enum il_code reader_run(struct il_response *response, struct rt_place *place, char *buffer,
                               size_t size, size_t *ret_size, struct il_error *err)
{
    struct session_stream *x = response->session_stream;
    uint64_t deadline_ns = response_read_deadline(response, place);
    char where[CONN_TEXT_SIZE];
    enum read_result result;
    enum il_code code;

    while ((result = reader_look(response, place, buffer, size, ret_size, err)) == READ_EMPTY) {
        code = response_wait(response, place, deadline_ns, session_text(x, where), err);
        if (code != IL_OK) {
            reader_stand_up(x);
            return code;
        }
    }
    return result == READ_DONE ? IL_OK : err->code;
}

enum il_code session_read(struct il_response *response, void *buffer, size_t size, size_t *ret_size,
                          struct il_error *err)
{
    struct il_error error;
    struct rt_place place;
    enum il_code code = rt_enter(&place, false, err);

    if (code != IL_OK) {
        return code;
    }
    code = reader_run(response, &place, buffer, size, ret_size, &error);
    if (code != IL_OK) {
        response->state = RESPONSE_FAILED;
        if (err != NULL) {
            *err = error;
        }
        session_abandon(response);
    } else if (*ret_size == 0) {
        response->state = RESPONSE_ENDED;
        response->timing.done_ns = loop_now_ns(place.loop);
        session_abandon(response);
    }
    rt_leave(&place);
    return code;
}
