/* call.h: one request on its way to one response.
 *
 *   start --> ACQUIRE --> (RESOLVE, CONNECT) --> WRITE --> FIRST_BYTE --> READ --> DONE
 *               ^  |                               |           |           |
 *               |  +--- pool wait                  +-----------+--- the connection turned out dead:
 *               +---------------------------------------------------  once more, on a new one
 *   From everywhere to DONE: error, time limit, cancel, the end of the home loop.
 *
 * A call has a *home loop*: the one that wants the result. All of its state belongs to whoever
 * holds that loop, but for what is grouped below as anybody's. It is delivered exactly once. */
#ifndef IL_CLIENT_CALL_H
#define IL_CLIENT_CALL_H

#include "client/client.h"
#include "net/net.h"
#include "rt/rt.h"

struct bound_exchange; /* bound.c */
struct session_stream; /* session_stream.c */

#define CALL_SOURCE_BUFFER_SIZE 16384

struct il_call {
    uint64_t id;              /* set at creation, then read by anyone, like the five below */
    struct il_client *client; /* a use */
    struct il_loop *home;     /* a reference */
    const struct il_request *request;
    uint8_t shelf_index; /* of the client's pool: our home's */
    bool owns_request;
    bool may_share;    /* its connection may turn out to be HTTP/2 */
    bool is_streaming; /* done at the head of the response */
    _Atomic uint32_t ref_count;

    /* ---- the home loop's holder ---- */
    struct loop_guest guest;
    struct timer timer; /* armed no later than the next time limit */
    uint64_t timer_armed_ns;
    uint64_t total_deadline_ns, phase_deadline_ns;
    uint64_t look_ns;  /* waiting for a place, and to look for one again then; 0: no */
    uint64_t again_ns; /* HTTP/2: it was refused, and is to be sent again then; 0: no */
    uint64_t timeout_ms[CLIENT_PHASE_COUNT];
    struct opening opening;
    uint64_t opening_since_ns; /* by whichever call it was begun */
    struct il_tls *tls;        /* with https; the request's or the client's */
    struct pool_origin *place; /* counted for us while we dial */
    struct conn *conn;
    struct bound_exchange *bound; /* bound driver: the exchange that another loop does for us */
    struct session_stream *session_stream; /* HTTP/2 */
    struct il_response *response;
    uint64_t sent_size, source_sent;
    char *source_buffer;
    bool is_source_busy; /* the source is being asked, or its answer is on its way */
    bool is_source_away; /* it runs as a callback, perhaps without the loop: no outcome before */
    bool is_source_ended;
    uint8_t refusal_count; /* HTTP/2: how often it was refused unseen */
    bool has_retried;
    bool has_begun;      /* bytes of the response have come */
    bool is_send_broken; /* the server takes no more, but may still answer */
    bool is_listed;      /* stands in the pool's list of calls, by pool_link */

    /* ---- delivery ---- */
    struct party *party; /* who waits; NULL for one with on_done */
    bool wants_source;   /* the party is to ask the source */
    il_call_fn *on_done;
    void *on_done_arg;
    bool is_done;
    enum il_code code;
    struct job start_job, done_job, source_job, supply_job;
    size_t supply_size;
    enum il_code supply_code;

    /* ---- any thread ---- */
    struct job wake_job; /* the pool's wake; queued once at a time, as is_wake_posted says */
    _Atomic bool is_wake_posted; /* or about to be; a call may meanwhile have got what it wanted by
                                    itself, lost it, and wait anew */
    struct job cancel_job;
    _Atomic bool cancel_requested;
    struct il_call *spare_next; /* while it is spare */
    struct il_call *wake_next;  /* while the pool collects whom to wake */
    struct pool_waiter waiter;  /* with the pool's mutex held */
    struct il_list pool_link;   /* with the shelf's mutex held */
    _Atomic int phase;          /* enum il_phase */
    _Atomic uint64_t phase_since_ns;
    _Atomic uint64_t started_ns;
    _Atomic uint64_t conn_id; /* 0: none */
    _Atomic uint64_t task_id; /* who waits; 0: a thread or a callback */

    struct il_error
        error; /* the home loop's holder's, as `code`; last, so that it needs no zeroing */
};

struct il_call *call_ref(struct il_call *call);
void call_unref(struct il_call *call);

/* Call on_done with the outcome. Thread: who runs the user's code for the call. */
void call_invoke_on_done(void *call);

/* Send the pool's wake to the call's home; drops the reference that came with it. Thread: any. */
void call_post_wake(struct il_call *call);

/* ---- for the drivers, on the home loop ---- */

void call_set_phase(struct il_call *call, enum il_phase phase);

/* The same, for a phase that began then. */
void call_set_phase_since(struct il_call *call, enum il_phase phase, uint64_t since_ns);

/* The exchange made progress: the limit of the present phase starts anew. */
void call_note_progress(struct il_call *call);

/* What the protocol layer says does not name the server: put it in front, and cut the end, unless
 * the message has what is `known`. `server` is "GET localhost:80". Thread: any. */
void call_name_server(struct il_error *error, const char *server, const char *known);

/* The user wants the body himself: the response has to know what the call knew. */
void call_begin_streaming(struct il_call *call);

void call_succeed(struct il_call *call);
void call_fail(struct il_call *call, enum il_code code, const struct il_error *error);

/* The server has certainly not acted on the request: try again, a few times, else fail. */
void call_on_refused(struct il_call *call, enum il_code code, const struct il_error *error);

/* The connection was lost. Try once more if that is safe, else fail with `error`. */
void call_on_lost(struct il_call *call, enum il_code code, const struct il_error *error);

/* It was lost after the server had said that it would go: as call_on_refused if the server may act
 * on it twice, else fail. */
void call_on_left(struct il_call *call, enum il_code code, const struct il_error *error);

/* ---- call_open.c; on the home loop ---- */

/* What a connection must be like to serve this call. */
enum il_code call_identify(struct il_call *call, struct pool_identity *identity,
                           struct il_error *err);

/* Open a connection, for which the pool has counted a place. */
void call_open(struct il_call *call, struct pool_origin *place);

/* The call wants no connection of its own any more: let another one of its loop go on, or stop.
 * Nothing if it opens none. */
void call_stop_opening(struct il_call *call);

#endif
