/* session.h: one HTTP/2 connection that serves the calls of any number of loops.
 *
 *        loop A: 2 streams        loop B: 1 stream         loop C: parked, 1 stream
 *          seat                     seat                     seat
 *            |  "readable"            |  "readable"            |  (asleep)
 *            v                        v
 *          takes the mutex,         waits a moment for the mutex,
 *          receives, feeds h2       finds nothing left
 *            |
 *            +--> puts what came for B's and C's streams where their owners find it,
 *                 and then posts the jobs of each one's loop, all at once
 *
 * Nobody owns the session and nobody leads. Each loop that has a stream open on it has a *seat*: a
 * watch of its own on the socket, in its own epoll set. Every set is told of every event, and
 * whoever comes first does all there is to do, for all. So a loop that is parked, stuck or gone
 * delays nobody: the others are told, too. What such a loop still occupies is bounded: a place
 * among the streams that the server allows, and a window of memory for each.
 *
 * A loop whose calls wait in the pool for a place that the session has takes a seat, too: the end
 * of somebody's stream frees one, and that one's loop may not run to read it.
 *
 * A seat's watch is always *resting*, but for the moments in which its loop handles an event: so
 * whoever ends the session can take the seats away from loops that do not run. Only the memory of
 * one whose job is queued there waits for its loop. A seat without streams stays until the first
 * event that is of no use to it.
 *
 * The mutex is held while bytes are received, parsed and sent: never over user code, never over a
 * wait. Under it parties are woken, which blocks nobody. Loops are told after it, in
 * session_unlock, and so is the pool, whose mutex is not taken under it (a place is free, the
 * server takes no more).
 *
 * With the bound driver a session behaves as hyper's do: one loop, the one that opened it, has the
 * only seat, and alone receives and sends; and bodies that nobody has read take from the
 * connection's window, which is everybody's. */
#ifndef IL_CLIENT_SESSION_H
#define IL_CLIENT_SESSION_H

#include "client/client.h"
#include "loop/loop.h"
#include "rt/rt.h"

#define SESSION_RECEIVE_MAX  (16 * LOOP_SCRATCH_SIZE) /* bytes in one go, then others get a turn */
#define SESSION_SOURCE_MAX   65536 /* bytes of a request's body that wait to be sent */
#define SESSION_PING_MS      15000 /* nothing has come for so long: ask whether the server is there */
#define SESSION_PONG_MS      15000 /* it has not answered for so long: it is not */
#define SESSION_REFUSALS_MAX 3     /* times that a request is sent again that was refused unseen */
/* One who waits has taken a stream's place that nobody read; if it was another one who got it, he
 * takes the next after so long. */
#define SESSION_TAKE_PAUSE_NS (10 * (uint64_t)LOOP_NS_PER_MS)
#define SESSION_REFUSED_PAUSE_MS                                                                   \
    20 /* before the second time; 4 times as long before the third; and up to twice that */

struct session {
    uint64_t id;                 /* set at creation, then read by anyone, like the five below */
    struct il_client *client;    /* its memory: see client_memory_ref */
    struct il_loop *driver;      /* bound driver: a reference; else NULL */
    struct tls_facts *tls_facts; /* NULL without TLS */
    struct net_peer peer;
    uint64_t opened_ns;
    _Atomic int fd;                   /* for reports; -1 once it is closed */
    _Atomic bool is_unsent;           /* for reports: bytes wait that only the driver may send */
    _Atomic uint64_t drove_loop_id;   /* for reports: who drove it last */
    _Atomic uint32_t window_left;     /* bound driver, for reports: see h2_window_left */
    _Atomic uint64_t hoarder_loop_id; /* likewise: for whom a body came last that is to be read */
    _Atomic uint32_t ref_count;
    struct loop_guest guest; /* bound driver: on that loop */
    struct job flush_job;    /* bound driver: others want it to send */

    struct { /* any thread, with mutex held */
        struct sys_mutex mutex;
        struct stream stream;
        struct h2 h2;
        struct il_bytes out;
        struct il_list seats;
        uint64_t received_ns, pinged_ns;   /* when bytes last came; when we asked; 0: have not */
        bool is_over;                      /* nothing is received or sent any more */
        bool is_flush_posted, must_retire; /* bound driver */
        uint32_t freed_slots;              /* to be told to the pool */
        struct session_stream *told_first; /* to be told to their homes, the oldest first */
        struct session_stream **told_end;
        struct pool_session_news told; /* what it was told last */
    } shared;

    struct {                        /* any thread, with the pool's mutex held */
        struct pool_origin *origin; /* NULL once the pool has forgotten the session */
        struct il_list link;        /* pool->sessions */
        struct il_list origin_link; /* origin->sessions, while it takes more streams: likewise */
        _Atomic uint32_t slot_count, slot_max; /* a place is taken with any of its mutexes */
        bool is_private;        /* for the call that opened it, and for nobody else */
        uint64_t heard_number;  /* of the last news */
        uint64_t idle_since_ns; /* no slot is taken */
    } pooled;
    struct session *close_next; /* while on its way to be closed */
};

/* Make a session of a connected stream, with a seat for `loop`. Takes `stream` on success. The
 * caller gets the one reference. Thread: the one that holds `loop`. */
enum il_code session_new(struct il_client *client, struct pool_origin *origin, struct il_loop *loop,
                         const struct stream *stream, struct session **ret_session,
                         struct il_error *err);
struct session *session_ref(struct session *session);
void session_unref(struct session *session);

/* End a session that the pool has taken off its lists, after goodbye. Thread: any. */
void session_retire(struct session *session);

/* Calls of this loop wait for a place that the session has: take a seat, until none does any more.
 * And if they cannot have one otherwise, as `look_ns` says with another value than 0, reset one of
 * the streams whose bodies nobody has read for unread_timeout_ms; `look_ns` becomes no later than
 * when to look again. Nothing with the bound driver. Thread: the one that holds `loop`. */
enum il_code session_look_after(struct session *session, struct il_loop *loop, uint64_t *look_ns,
                                struct il_error *err);

/* Was it driven last by another loop than this one? */
bool session_is_moved(const struct session *session, const struct il_loop *loop);

/* ---- one call's stream ---- */

struct session_stream;

/* Streams whose next step is their owner's and nobody else's: the body of the request is to be
 * made, or that of the response, which has filled its window, to be read. */
#define SESSION_OWNERS_MAX 8

struct session_owners {
    uint32_t stream_count;
    uint32_t unread_count; /* of those, that are to be read */
    unsigned loop_count;   /* may be more than there is room for */
    uint64_t loop_ids[SESSION_OWNERS_MAX];
};

/* Thread: any; the pool's mutexes may be held. */
void session_find_owners(struct session *session, struct session_owners *ret_owners);

/* Send the call's request as a stream of this session, in which the pool has reserved a place for
 * it. Takes the caller's reference to `session`. False: the session has ended meanwhile, the place
 * is given back; ask the pool again. Thread: the call's home loop. */
bool session_begin(struct il_call *call, struct session *session, bool was_reused);

/* The next piece of the call's body is in source_buffer; `is_last` with the end. */
enum il_code session_supply(struct il_call *call, size_t size, bool is_last);

/* The call is over: reset its stream if it is still open. */
void session_let_go(struct il_call *call);

/* What a call waits for, for messages: "127.0.0.1:8080 (connection 5, HTTP/2)". */
const char *session_text(const struct session_stream *stream, char text[static CONN_TEXT_SIZE]);

/* As exchange_read and exchange_abandon, for a streamed response that came over HTTP/2. */
enum il_code session_read(struct il_response *response, void *buffer, size_t size, size_t *ret_size,
                          struct il_error *err);
void session_abandon(struct il_response *response);

/* ---- inside: session.c for session_stream.c ---- */

struct session_seat;

void session_lock(struct session *session) IL_ACQUIRES(session->shared.mutex) IL_NO_TSA;

/* Unlock, tell the home loops what has come for their streams, and the pool what has changed. */
void session_unlock(struct session *session) IL_RELEASES(session->shared.mutex) IL_NO_TSA;

/* Unlock after nothing but looking, and nothing that the pool would want to know. */
void session_unlock_unchanged(struct session *session) IL_RELEASES(session->shared.mutex) IL_NO_TSA;

/* The loop's seat; makes one if need be. NULL, with `err`: the loop cannot watch the socket. With
 * the bound driver there is only one seat, the driver's. Thread: the one that holds `loop`. */
struct session_seat *session_sit_locked(struct session *session, struct il_loop *loop,
                                        struct il_error *err) IL_LOCKED(session->shared.mutex);
void seat_count_locked(struct session_seat *seat, int streams);

/* Look into a session that nobody has used for a while: the server may have closed it. */
void session_refresh_locked(struct session *session, struct il_loop *loop)
    IL_LOCKED(session->shared.mutex);

/* Is the server there at all? If nothing has come for SESSION_PING_MS, ask; if it has not answered
 * SESSION_PONG_MS after that, end the session. */
void session_check_pulse_locked(struct session *session, struct il_loop *loop)
    IL_LOCKED(session->shared.mutex);

/* Send what there is to send. Failures end the session. */
void session_flush_locked(struct session *session) IL_LOCKED(session->shared.mutex);

/* As session_flush_locked, at the end of the loop's present turn. Thread: the one that holds
 * `loop`; in session_flush.c. */
void session_flush_soon_locked(struct session *session, struct il_loop *loop)
    IL_LOCKED(session->shared.mutex);

/* Events of a stream; in session_stream.c. All under the session's mutex. */
extern const struct h2_events session_stream_events;
extern const struct h2_events session_stream_events_bound; /* with holds_window, as in hyper */

/* The part of session_look_after that has to do with streams. */
void session_take_unread_locked(struct session *session, uint64_t *look_ns)
    IL_LOCKED(session->shared.mutex);

/* What unlocking has to tell, in session_told.c: collected under the mutex, posted after it. */
struct session_told {
    struct job *jobs;             /* of streams, linked by next */
    struct session_stream *ended; /* of whose end nobody wants to know any more */
};

void session_collect_locked(struct session *session, struct session_told *ret_told)
    IL_LOCKED(session->shared.mutex);
void session_post_told(struct session_told *told);

/* The session has ended: the stream's seat is gone. */
void session_stream_stand_up(struct h2_stream *stream);

#endif
