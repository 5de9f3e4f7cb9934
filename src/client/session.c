/* session.c: one HTTP/2 connection: its seats, its driving, its end. The rules are in session.h.
 *
 * Owns: the socket, the h2, the seats.
 * Ends: session_end_locked(), once: on a failure, when the pool retires it, or when the server has
 *   said goodbye and the last stream is over. The socket is closed with the last seat; the memory
 *   goes with the last reference (of the pool, of each seat, of each stream).
 * Threads: any; see session.h. */
#include "client/session.h"

#include <errno.h>

#include "base/shown.h"
#include "client/call.h"

SHOWN_DEFINE(shown_sessions, SHOWN_SESSIONS, SHOWN_SESSION_FIELD_COUNT,
             NULL, [SHOWN_SESSION_LIST] = offsetof(struct il_client, pool.sessions),
             [SHOWN_SESSION_LINK] = offsetof(struct session, pooled.link),
             [SHOWN_SESSION_ID] = offsetof(struct session, id),
             [SHOWN_SESSION_FD] = offsetof(struct session, fd),
             [SHOWN_SESSION_ORIGIN] = offsetof(struct session, pooled.origin),
             [SHOWN_SESSION_DRIVER] = offsetof(struct session, driver),
             [SHOWN_SESSION_SLOT_COUNT] = offsetof(struct session, pooled.slot_count),
             [SHOWN_SESSION_IS_UNSENT] = offsetof(struct session, is_unsent),
             [SHOWN_SESSION_WINDOW] = offsetof(struct session, window_left),
             [SHOWN_SESSION_HOARDER] = offsetof(struct session, hoarder_loop_id));

/* A loop's place at a session. */
struct session_seat {
    struct il_list link;     /* session->shared.seats */
    struct session *session; /* a reference */
    struct il_loop *loop;    /* not a reference: it runs while we are called */
    struct watch *watch;     /* resting, but while the loop handles an event; NULL with is_gone */
    struct job job;          /* there is more to receive than was received in one go */
    bool is_job_queued;      /* with the session's mutex held, like the next two */
    bool is_gone;            /* taken away: the job is the last who needs the memory */
    uint32_t stream_count;   /* this loop's */
    bool is_waiting;         /* calls wait in the pool: see session_look_after; the loop's own */
};

static void seat_on_event(struct watch *watch, uint32_t events);
static void seat_on_timeout(struct watch *watch);
static enum loop_result seat_on_job(struct il_loop *loop, struct job *job);

void session_lock(struct session *session)
{
    sys_mutex_lock(&session->shared.mutex);
}

/* ---- life ---- */

struct session *session_ref(struct session *session)
{
    atomic_fetch_add_explicit(&session->ref_count, 1, memory_order_relaxed);
    return session;
}

void session_unref(struct session *session)
{
    if (atomic_fetch_sub_explicit(&session->ref_count, 1, memory_order_acq_rel) > 1) {
        return;
    }
    il_assert(il_list_is_empty(&session->shared.seats));
    il_assert(session->shared.told_first == NULL);
    il_assert(!il_list_is_linked(&session->pooled.link));
    stream_close(&session->shared.stream);
    h2_deinit(&session->shared.h2);
    il_bytes_deinit(&session->shared.out);
    sys_mutex_deinit(&session->shared.mutex);
    if (session->driver != NULL) {
        (void)loop_unref(session->driver);
    }
    tls_facts_unref(session->tls_facts);
    client_memory_unref(session->client);
    il_free(session);
}

/* Nobody watches it any more. */
static void session_close_locked(struct session *session) IL_LOCKED(session->shared.mutex)
{
    atomic_store(&session->fd, -1);
    stream_close(&session->shared.stream);
}

/* Take a seat away, whose watch has been claimed and buried. False: the memory, and the reference
 * to the session, are its job's. */
static bool seat_free_locked(struct session_seat *seat) IL_NO_TSA
{
    il_list_unlink(&seat->link);
    if (seat->session->shared.is_over && il_list_is_empty(&seat->session->shared.seats)) {
        session_close_locked(seat->session);
    }
    seat->watch = NULL;
    seat->is_gone = true;
    if (seat->is_job_queued) {
        return false;
    }
    il_free(seat);
    return true;
}

/* Tell a server that has gone too far, if its socket takes that at once. */
static void session_say_why_locked(struct session *session) IL_LOCKED(session->shared.mutex)
{
    struct il_bytes *out = &session->shared.out;

    if (h2_last_words(&session->shared.h2, out)) {
        struct iovec part = { (void *)il_bytes_data(out), il_bytes_size(out) };

        (void)stream_send(&session->shared.stream, &part, 1);
    }
}

/* The end: every stream fails or is refused; seats are taken away, but for those whose loops are
 * handling an event right now: they find out as soon as they get the mutex. */
static void session_end_locked(struct session *session, const struct il_error *error)
    IL_LOCKED(session->shared.mutex)
{
    if (session->shared.is_over) {
        return;
    }
    session_say_why_locked(session);
    session->shared.is_over = true;
    if (session->driver != NULL && il_list_is_linked(&session->guest.link)) {
        il_assert_on_loop(session->driver);
        loop_guest_remove(&session->guest);
        il_assert(atomic_fetch_sub(&session->ref_count, 1) > 1);
    }
    il_list_for_each(&session->shared.h2.streams, node)
    {
        session_stream_stand_up(il_container_of(node, struct h2_stream, link));
    }
    h2_fail(&session->shared.h2, error);
    il_list_for_each_safe(&session->shared.seats, node)
    {
        struct session_seat *seat = il_container_of(node, struct session_seat, link);

        if (watch_claim_away(seat->watch)) {
            watch_bury(seat->watch);
            if (seat_free_locked(seat)) {
                /* Never the last reference: whoever is here has one. */
                il_assert(atomic_fetch_sub(&session->ref_count, 1) > 1);
            }
        }
    }
    if (il_list_is_empty(&session->shared.seats)) {
        session_close_locked(session);
    }
}

/* ---- input and output ---- */

static void session_fail_locked(struct session *session, enum il_code code, int sys_errno,
                                const char *what) IL_LOCKED(session->shared.mutex)
{
    const struct il_error *known = stream_failure(&session->shared.stream);
    struct il_error error;

    if (known != NULL && known->code != IL_OK) {
        error = *known;
    } else {
        il_fail_errno(&error, code, sys_errno, "%s", what);
    }
    session_end_locked(session, &error);
}

static bool session_is_driver_here(const struct session *session)
{
    return session->driver == NULL || loop_is_held_by_me(session->driver);
}

/* Bound driver: have the one loop that may send do so. */
static void session_post_flush_locked(struct session *session) IL_LOCKED(session->shared.mutex)
{
    if (!session->shared.is_flush_posted) {
        session->shared.is_flush_posted = true;
        atomic_store_explicit(&session->is_unsent, true, memory_order_relaxed);
        (void)session_ref(session);
        if (!loop_post(session->driver, &session->flush_job)) {
            il_assert(atomic_fetch_sub(&session->ref_count, 1) > 1); /* it ends the session */
        }
    }
}

static bool session_receive_locked(struct session *session, char *scratch, size_t scratch_size)
    IL_LOCKED(session->shared.mutex);

/* The server takes no more. It may have said why (GOAWAY, an alert of TLS), or have answered all
 * the same: that lies in the socket, and nobody will look at it once the session has ended. */
static void session_hear_out_locked(struct session *session, int sys_errno)
    IL_LOCKED(session->shared.mutex)
{
    char bytes[4096]; /* there may be no loop here */

    (void)session_receive_locked(session, bytes, sizeof(bytes));
    if (!session->shared.is_over) {
        session_fail_locked(session, IL_EPEERCLOSED, sys_errno, "the connection broke");
    }
}

void session_flush_locked(struct session *session)
{
    struct il_bytes *out = &session->shared.out;
    struct il_error error;

    if (!session_is_driver_here(session)) {
        session_post_flush_locked(session);
        return;
    }
    while (!session->shared.is_over) {
        struct iovec part;
        ssize_t sent;

        if (il_bytes_size(out) == 0 &&
            h2_pull(&session->shared.h2, out, LOOP_SCRATCH_SIZE, &error) != IL_OK) {
            session_end_locked(session, &error);
            return;
        }
        if (il_bytes_size(out) == 0) {
            return;
        }
        part = (struct iovec){ (void *)il_bytes_data(out), il_bytes_size(out) };
        sent = stream_send(&session->shared.stream, &part, 1);
        if (sent == -EAGAIN) {
            return; /* every seat will be told when there is room */
        }
        if (sent < 0) {
            session_hear_out_locked(session, (int)-sent);
            return;
        }
        il_bytes_consume(out, (size_t)sent);
    }
}

/* Receive until there is nothing left; true if there may be more, and it is others' turn. */
static bool session_receive_locked(struct session *session, char *scratch, size_t scratch_size)
    IL_LOCKED(session->shared.mutex)
{
    size_t received = 0;
    struct il_error error;

    while (!session->shared.is_over) {
        ssize_t got = stream_receive(&session->shared.stream, scratch, scratch_size);

        if (got == -EAGAIN) {
            return false;
        }
        if (got <= 0) {
            session_fail_locked(session, IL_EPEERCLOSED, (int)-got,
                                got == 0 ? "the server closed the connection"
                                         : "the connection broke");
            return false;
        }
        session->shared.received_ns = session->shared.h2.now_ns = sys_now_ns();
        session->shared.pinged_ns = 0;
        if (h2_feed(&session->shared.h2, scratch, (size_t)got, &error) != IL_OK) {
            session_end_locked(session, &error);
            return false;
        }
        received += (size_t)got;
        if (received >= SESSION_RECEIVE_MAX) {
            return true;
        }
    }
    return false;
}

static bool session_drive_locked(struct session *session, struct il_loop *loop)
    IL_LOCKED(session->shared.mutex)
{
    bool has_more = session_receive_locked(session, loop->held.scratch, LOOP_SCRATCH_SIZE);

    atomic_store_explicit(&session->drove_loop_id, loop->id, memory_order_relaxed);

    session_flush_locked(session);
    return has_more;
}

void session_refresh_locked(struct session *session, struct il_loop *loop)
{
    if (session_is_driver_here(session)) {
        (void)session_drive_locked(session, loop);
    }
}

bool session_is_moved(const struct session *session, const struct il_loop *loop)
{
    return session->driver == NULL &&
           atomic_load_explicit(&session->drove_loop_id, memory_order_relaxed) != loop->id;
}

/* ---- unlocking, and what the pool is told ---- */

/* The server has said goodbye, and what it still owed us has come. */
static void session_end_if_done_locked(struct session *session) IL_LOCKED(session->shared.mutex)
{
    if (session->shared.h2.stream_count > 0 || session->shared.is_over ||
        h2_is_open(&session->shared.h2)) {
        return;
    }
    if (!session_is_driver_here(session)) {
        session_post_flush_locked(session); /* it comes by here when it unlocks */
    } else {
        session_fail_locked(session, IL_EPEERCLOSED, 0, "the server ended the connection");
    }
}

void session_unlock(struct session *session)
{
    struct pool_session_news news;
    struct session_told told;
    bool is_news;

    session_end_if_done_locked(session);
    session_collect_locked(session, &told);
    news = (struct pool_session_news){
        .freed = session->shared.freed_slots,
        .max = session->shared.h2.stream_count_max,
        .has_settings = session->shared.h2.has_settings,
        .is_open = !session->shared.is_over && h2_is_open(&session->shared.h2),
        .is_gone = session->shared.is_over,
    };
    is_news = news.freed > 0 || news.max != session->shared.told.max ||
              news.has_settings != session->shared.told.has_settings ||
              news.is_open != session->shared.told.is_open ||
              news.is_gone != session->shared.told.is_gone;
    session->shared.freed_slots = 0;
    if (session->driver != NULL) {
        atomic_store_explicit(&session->window_left, h2_window_left(&session->shared.h2),
                              memory_order_relaxed);
    }
    if (is_news) {
        news.number = session->shared.told.number + 1;
        session->shared.told = news;
        (void)session_ref(session); /* the caller's may be a seat's, which others can take away */
    }
    sys_mutex_unlock(&session->shared.mutex);
    session_post_told(&told);
    if (is_news) {
        pool_session_hear(&session->client->pool, session, &news);
        session_unref(session);
    }
}

void session_unlock_unchanged(struct session *session)
{
    il_assert(session->shared.told_first == NULL);
    sys_mutex_unlock(&session->shared.mutex);
}

/* ---- seats ---- */

static uint64_t seat_tick_ns(const struct session *session)
{
    uint64_t tick_ns =
        il_min_u64(SESSION_PING_MS * LOOP_NS_PER_MS, session->client->pool.idle_timeout_ns);

    return sys_now_ns() + tick_ns;
}

static enum il_code seat_new_locked(struct session *session, struct il_loop *loop,
                                    struct session_seat **ret_seat, struct il_error *err)
    IL_LOCKED(session->shared.mutex)
{
    struct session_seat *seat = il_calloc(1, sizeof(*seat));
    enum il_code code;

    if (seat == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory to watch an HTTP/2 connection");
    }
    code = watch_open(loop->poller, session->shared.stream.fd, seat_on_event, seat_on_event, seat,
                      &seat->watch, err);
    if (code != IL_OK) {
        il_free(seat);
        return code;
    }
    il_list_init(&seat->link);
    seat->session = session_ref(session);
    seat->loop = loop;
    seat->job.run = seat_on_job;
    seat->watch->on_rest_timeout = seat_on_timeout;
    il_list_push_back(&session->shared.seats, &seat->link);
    watch_rest(seat->watch, seat_tick_ns(session));
    *ret_seat = seat;
    return IL_OK;
}

struct session_seat *session_sit_locked(struct session *session, struct il_loop *loop,
                                        struct il_error *err)
{
    struct session_seat *seat = NULL;

    if (session->driver != NULL) {
        return il_container_of(session->shared.seats.next, struct session_seat, link);
    }
    il_list_for_each(&session->shared.seats, node)
    {
        seat = il_container_of(node, struct session_seat, link);
        if (seat->watch->poller == loop->poller || IL_MUTANT(SEAT_SHARED)) {
            return seat;
        }
    }
    return seat_new_locked(session, loop, &seat, err) == IL_OK ? seat : NULL;
}

void seat_count_locked(struct session_seat *seat, int streams)
{
    seat->stream_count += (uint32_t)streams;
}

enum il_code session_look_after(struct session *session, struct il_loop *loop, uint64_t *look_ns,
                                struct il_error *err)
{
    enum il_code code = IL_OK;

    session_lock(session);
    if (!session->shared.is_over && session->driver == NULL && !IL_MUTANT(UNATTENDED)) {
        struct session_seat *seat = session_sit_locked(session, loop, err);

        if (seat == NULL) {
            code = err->code;
        } else if (!seat->is_waiting) {
            seat->is_waiting = true;
            session_refresh_locked(session, loop); /* what came before has been told to others */
        }
    }
    if (!session->shared.is_over && session->driver == NULL && *look_ns != 0) {
        session_take_unread_locked(session, look_ns);
    }
    session_unlock(session);
    return code;
}

/* Does the seat's loop have nothing to do with the session any more, and somebody else has? */
static bool seat_is_useless_locked(const struct session_seat *seat)
{
    return seat->stream_count == 0 && !seat->is_waiting &&
           seat->session->shared.h2.stream_count > 0 && seat->session->driver == NULL;
}

/* The watch rests while the job is queued: the loop may stop before it runs. */
static void seat_queue_job_locked(struct session_seat *seat, struct il_loop *loop) IL_ON_LOOP(loop)
{
    if (!seat->is_job_queued) {
        seat->is_job_queued = true;
        loop_push(loop, &seat->job);
    }
}

/* What a seat's loop does after an event: the watch is ours (driven). */
static void seat_go_on(struct session_seat *seat, struct il_loop *loop) IL_ON_LOOP(loop)
{
    struct session *session = seat->session;
    bool is_freed = false;
    bool has_more = false;

    seat->is_waiting =
        seat->is_waiting && pool_session_is_awaited(&session->client->pool, session, loop);
    session_lock(session);
    if (!session->shared.is_over) {
        has_more = session_drive_locked(session, loop);
    }
    if (session->shared.is_over ||
        (!has_more && !seat->is_job_queued && seat_is_useless_locked(seat))) {
        watch_close(seat->watch);
        is_freed = seat_free_locked(seat);
    } else {
        if (has_more) {
            seat_queue_job_locked(seat, loop);
        }
        watch_rest(seat->watch, seat_tick_ns(session));
    }
    session_unlock(session);
    if (is_freed) {
        session_unref(session);
    }
}

static void seat_on_event(struct watch *watch, uint32_t events)
{
    if (watch_claim_here(watch)) { /* else it was taken away */
        struct session_seat *seat = watch->arg;

        il_assert_on_loop(seat->loop);
        seat_go_on(seat, seat->loop);
    }
}

static enum loop_result seat_on_job(struct il_loop *loop, struct job *job)
{
    struct session_seat *seat = il_container_of(job, struct session_seat, job);
    struct session *session = seat->session;
    bool is_gone;

    il_assert_on_loop(loop);
    session_lock(session);
    seat->is_job_queued = false;
    is_gone = seat->is_gone;
    il_assert(is_gone || watch_claim_here(seat->watch)); /* others claim it under the mutex only */
    session_unlock_unchanged(session);
    if (is_gone) {
        il_free(seat);
        session_unref(session);
    } else {
        seat_go_on(seat, loop);
    }
    return LOOP_HELD;
}

/* ---- looking after it ---- */

void session_check_pulse_locked(struct session *session, struct il_loop *loop)
{
    uint64_t now_ns = loop_now_ns(loop); /* others may have received since */

    if (session->shared.is_over ||
        now_ns < session->shared.received_ns + SESSION_PING_MS * LOOP_NS_PER_MS) {
        return;
    }
    session_refresh_locked(session, loop); /* the answer may have been there for long, unread */
    if (session->shared.is_over || !session_is_driver_here(session)) {
        return;
    }
    now_ns = sys_now_ns();
    if (session->shared.pinged_ns != 0) {
        if (now_ns - session->shared.pinged_ns >= SESSION_PONG_MS * LOOP_NS_PER_MS) {
            struct il_error error;

            il_fail(&error, IL_EPEERCLOSED,
                    "the server has not answered a PING for %d ms: the connection is dead",
                    SESSION_PONG_MS);
            session_end_locked(session, &error);
        }
    } else if (now_ns - session->shared.received_ns >= SESSION_PING_MS * LOOP_NS_PER_MS) {
        session->shared.pinged_ns = now_ns;
        h2_ping(&session->shared.h2);
        session_flush_locked(session);
    }
}

static void seat_on_timeout(struct watch *watch)
{
    struct session_seat *seat;
    struct session *session;

    if (!watch_claim_here(watch)) {
        return;
    }
    seat = watch->arg;
    session = session_ref(seat->session);
    il_assert_on_loop(seat->loop);
    session_lock(session);
    session_check_pulse_locked(session, seat->loop);
    session_unlock(session);
    if (pool_session_expire(&session->client->pool, session, sys_now_ns())) {
        session_retire(session); /* our seat is still driven: it goes below */
    }
    seat_go_on(seat, seat->loop);
    session_unref(session);
}

static void session_retire_locked(struct session *session) IL_LOCKED(session->shared.mutex)
{
    char bytes[4096]; /* there may be no loop here */
    struct il_error error;

    if (session->shared.is_over) {
        return;
    }
    if (!session_is_driver_here(session)) {
        session->shared.must_retire = true;
        session_post_flush_locked(session);
        return;
    }
    (void)session_receive_locked(session, bytes, sizeof(bytes)); /* it may have asked something */
    if (!session->shared.is_over) {
        h2_say_goodbye(&session->shared.h2);
        session_flush_locked(session);
    }
    il_fail(&error, IL_EPEERCLOSED, "the connection was closed, because nobody used it");
    session_end_locked(session, &error);
}

void session_retire(struct session *session)
{
    session_lock(session);
    session_retire_locked(session);
    session_unlock(session);
    session_unref(session);
}

/* ---- bound driver ---- */

static enum loop_result session_on_flush(struct il_loop *loop, struct job *job)
{
    struct session *session = il_container_of(job, struct session, flush_job);

    session_lock(session);
    session->shared.is_flush_posted = false;
    atomic_store_explicit(&session->is_unsent, false, memory_order_relaxed);
    if (session->shared.must_retire) {
        session_retire_locked(session);
    } else {
        session_flush_locked(session);
    }
    session_unlock(session);
    session_unref(session);
    return LOOP_HELD;
}

static void session_on_loop_end(struct loop_guest *guest)
{
    struct session *session = il_container_of(guest, struct session, guest);
    struct il_error error;

    il_fail(&error, IL_EOWNERGONE,
            "the runtime that drives the connection was dropped during the request");
    session_lock(session); /* with the guest's reference: it is unlinked already */
    session_end_locked(session, &error);
    session_unlock(session);
    session_unref(session);
}

/* From now on the session is driven by `loop`, and by nobody else. */
static void session_bind(struct session *session, struct il_loop *loop)
{
    session->driver = loop_ref(loop);
    (void)session_ref(session); /* the guest's */
    il_assert_on_loop(loop);
    loop_guest_add(loop, &session->guest);
}

/* ---- making one ---- */

enum il_code session_new(struct il_client *client, struct pool_origin *origin, struct il_loop *loop,
                         const struct stream *stream, struct session **ret_session,
                         struct il_error *err)
{
    struct session *session = il_calloc(1, sizeof(*session));
    struct session_seat *seat;
    enum il_code code;

    if (session == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a connection to %s", origin->identity.host);
    }
    code = h2_init(&session->shared.h2,
                   client->driver == IL_DRIVER_BOUND ? &session_stream_events_bound
                                                     : &session_stream_events,
                   &client->parser_limits, &client->h2_windows, err);
    if (code == IL_OK && !stream_is_plain(stream) &&
        (session->tls_facts = tls_facts_new(stream)) == NULL) {
        code = il_fail(err, IL_ENOMEM, "no memory for a connection to %s", origin->identity.host);
        h2_deinit(&session->shared.h2);
    }
    if (code != IL_OK) {
        il_free(session);
        return code;
    }
    session->id = conn_next_id();
    session->client = client_memory_ref(client);
    session->pooled.origin = origin;
    atomic_init(&session->fd, stream->fd);
    atomic_init(&session->window_left, UINT32_MAX);
    session->shared.stream = *stream;
    session->peer = stream->peer;
    atomic_init(&session->pooled.slot_max, session->shared.h2.stream_count_max);
    atomic_init(&session->drove_loop_id, loop->id);
    session->opened_ns = session->shared.received_ns = sys_now_ns();
    session->shared.told =
        (struct pool_session_news){ .max = session->shared.h2.stream_count_max, .is_open = true };
    atomic_init(&session->ref_count, 1);
    il_list_init(&session->shared.seats);
    session->shared.told_end = &session->shared.told_first;
    il_list_init(&session->guest.link);
    il_list_init(&session->pooled.link);
    il_list_init(&session->pooled.origin_link);
    il_bytes_init(&session->shared.out);
    sys_mutex_init(&session->shared.mutex);
    session->flush_job.run = session_on_flush;
    session->guest.on_loop_end = session_on_loop_end;
    sys_mutex_lock(&session->shared.mutex);
    code = seat_new_locked(session, loop, &seat, err);
    sys_mutex_unlock(&session->shared.mutex);
    if (code != IL_OK) {
        session->shared.stream = (struct stream){ .fd = -1 }; /* still the caller's */
        session_unref(session);
        return code;
    }
    if (client->driver == IL_DRIVER_BOUND) {
        session_bind(session, loop);
    }
    *ret_session = session;
    return IL_OK;
}
