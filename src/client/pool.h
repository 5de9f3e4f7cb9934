/* pool.h: the connections of one client, and the calls that wait for one.
 *
 * A pool has *shelves*. Each loop uses one of them, chosen by its id: there its idle connections
 * rest, its calls are listed, and calls and responses that are done with are kept for the next
 * ones. A request that finds an idle connection on its own shelf takes that shelf's lock and no
 * other; so loops that share a client meet only when one of them runs out of connections:
 *
 *     loop 1 ----+----> shelf 1   idle, calls, spares      \
 *     loop 17 ---+                                          |  pool   all connections, their
 *     loop 2 ---------> shelf 2   idle, calls, spares       |         counts, the waiters
 *       ...               ...                              /
 *
 *   acquire   a place on a session, or own shelf, under its lock. Only if there is nothing: under
 *             the pool's lock, all the shelves, one after the other, and then the queue
 *   put       own shelf, under its lock, if nobody waits and no limit can be reached. Else under
 *             the pool's lock, which then wakes or trims
 *
 * That a connection is never put on a shelf behind the back of a waiter: whoever is about to wait
 * first counts itself in origin->waiter_count and then looks at the idle_count of every shelf;
 * whoever puts a connection on a shelf first counts it in idle_count and then looks at
 * waiter_count. So either the waiter finds the connection or the other one sees that somebody
 * waits, and then it takes the connection off the shelf again and puts it there under the pool's
 * mutex.
 *
 * An idle connection belongs to no loop: it rests on the poller of the loop that used it last, and
 * whoever takes it from the pool claims it. Calls that wait are *woken*, never *assigned* a
 * connection: when one comes home, the oldest waiter of every loop that has waiters is woken, and
 * whoever comes first takes it. So a waiter whose loop does not run cannot swallow anything.
 *
 * (With the bound driver the pool does as hyper's does: a connection stays with the loop that
 * opened it, and one that comes home is assigned to the oldest waiter, whatever its loop.)
 *
 * Threads: any, for every function. Who holds the pool's mutex may take a shelf's; who takes
 * several shelves' takes them in their order. Under none of them anything is called back, closed or
 * freed; what must be done is collected as pool_work and done after it.
 *
 *   may be touched under        what
 *   pool->mutex                 pool->connections, sessions, waiters and their groups; connection
 *                               counts are written there, and read by anyone
 *   the shelf's mutex           its calls, spares, idle connections, and a connection's place there
 *   any of them                 pool->buckets and origin->sessions may be read, and a place among a
 *                               session's streams be taken (pool_session.c)
 *   all of them                 those may be written */
#ifndef IL_CLIENT_POOL_H
#define IL_CLIENT_POOL_H

#include "client/identity.h"
#include "interloop/client.h"
#include "sys/sys.h"

struct conn;
struct il_call;
struct il_loop;
struct session;

#define POOL_BUCKET_COUNT 256
#define POOL_SHELF_COUNT  16
#define POOL_SPARE_MAX    256 /* calls, and responses, that a shelf keeps for the next requests */
#define POOL_SCAN_MAX     32 /* idle connections looked at for one that rests with the taker's loop */

/* The idle connections of one identity on one shelf. */
struct pool_rest {
    struct il_list idle;         /* struct conn, most recently used first */
    _Atomic uint32_t idle_count; /* written under the shelf's mutex, read by anyone */
};

/* The connections of one identity. Lives as long as there is a connection or a waiter. */
struct pool_origin {
    struct il_list link; /* in its bucket */
    uint32_t hash;
    struct pool_identity identity;     /* its strings are in `memory` */
    struct il_list groups;             /* struct pool_group: the waiters, loop by loop */
    struct il_list sessions;           /* struct session: those that take more streams */
    uint32_t stream_max;               /* what the last session was allowed; 0: none has said */
    bool is_h1;                        /* a connection has turned out to be HTTP/1.1 */
    _Atomic uint32_t waiter_count;     /* in the groups, or looking whether they must wait */
    _Atomic uint32_t connection_count; /* idle, driven, or being opened */
    struct pool_origin *free_next;
    struct pool_rest rests[POOL_SHELF_COUNT];
    char memory[]; /* begins with the host, which the doctor reads there */
};

/* The waiters of one loop for one origin. */
struct pool_group {
    struct il_list link;    /* origin->groups */
    uint64_t loop_id;       /* 0 with the bound driver: one group for all loops */
    struct il_list asleep;  /* struct pool_waiter, oldest first */
    struct il_list woken;   /* those with a wake on its way */
    uint32_t dialing_count; /* of both, that are opening a connection */
};

/* A call's place in the queue; inside the call. */
struct pool_waiter {
    struct il_list link;
    struct pool_group *group;   /* NULL while not waiting */
    struct pool_origin *origin; /* likewise */
    struct conn *assigned;      /* bound driver: the connection that came with the wake */
    bool is_woken;
    bool is_dialing;     /* waits on the side, while a connection of its own is being opened */
    bool has_lost_place; /* to dial: somebody else has it, and the call does not know yet */
};

/* What the loops of one shelf need for a request. */
struct pool_shelf {
    struct sys_mutex mutex;
    struct il_list idle;                 /* struct conn, of all origins, most recently used first */
    struct il_list calls;                /* struct il_call, for reports */
    struct il_call *spare_calls;         /* done with, for the next ones; linked by spare_next */
    struct il_response *spare_responses; /* likewise, with the memory of their headers and bodies */
    uint32_t spare_call_count, spare_response_count;
    uint32_t call_count;
    uint32_t use_count; /* calls and responses: see pool_begin */
    uint64_t call_id_next, call_id_end;
    uint64_t requests_total, reuses_total, moves_total;
    _Atomic uint32_t idle_count; /* written under the mutex, read by anyone */
    char apart[64];              /* so that no two shelves share a cache line */
};

struct pool {
    struct sys_mutex mutex;
    struct il_list buckets[POOL_BUCKET_COUNT];
    struct il_list connections; /* all of them, for reports */
    struct il_list sessions;    /* likewise, those that are HTTP/2 */
    _Atomic uint32_t connection_count;
    uint32_t waiter_count; /* that count for waiters_max: those that do not dial */
    uint64_t connections_total, retries_total;
    bool assigns;     /* bound driver */
    bool is_orphaned; /* the users have let go of the client; written under all mutexes */
    uint32_t idle_max, idle_per_host_max, connections_per_host_max, waiters_max;
    uint64_t idle_timeout_ns, unread_timeout_ns;
    struct pool_shelf shelves[POOL_SHELF_COUNT];
};

void pool_init(struct pool *pool, const struct il_client_options *options);

/* Nothing may be left in it. */
void pool_deinit(struct pool *pool);

enum pool_answer {
    POOL_TAKEN,   /* an idle connection, claimed: the caller's alone */
    POOL_SHARED,  /* a place among the streams of a session, and a reference to it */
    POOL_DIAL,    /* a place to open a connection of its own; the call waits on the side */
    POOL_WAIT,    /* no place: the call waits */
    POOL_NOTHING, /* it waits already, and there is nothing for it yet */
};

struct pool_got {
    enum pool_answer answer;
    struct conn *conn;          /* POOL_TAKEN */
    struct session *session;    /* POOL_SHARED */
    struct pool_origin *origin; /* POOL_DIAL: where the place is counted */
    bool has_sessions;          /* POOL_WAIT, POOL_NOTHING: see pool_session_awaited */
    uint64_t look_ns;           /* likewise: pool_look at that time; 0: never */
};

/* Get a connection for `call`, whose home is `loop`; from the first time on the call is on the
 * pool's list, until pool_put or pool_remove_call takes it off. What the call got it must give
 * back: a connection with pool_put or pool_forget, a place (call->place) with pool_opened,
 * pool_session_opened or pool_forget_place, its place in the queue with pool_leave (POOL_TAKEN and
 * POOL_SHARED include that). A place may have been given to somebody else meanwhile: then
 * call->place is NULL afterwards, and what the call was opening is to be stopped. With `is_fresh`
 * nothing is taken that has served before, but for a session where no connection may be opened.
 * IL_EPOOLFULL, IL_ENOMEM.
 *
 * Where a new connection may turn out to be HTTP/2, the calls of one loop wait for the one that
 * their loop is opening, which may serve them all; they never wait for another loop's.
 * Thread: the one that holds `loop`. */
enum il_code pool_acquire(struct pool *pool, const struct pool_identity *identity,
                          struct il_call *call, struct il_loop *loop, bool is_fresh,
                          struct pool_got *ret_got, struct il_error *err);

/* The call does not wait any more. If it had been woken, its wake is passed on. */
void pool_leave(struct pool *pool, struct il_call *call);

/* The call's look_ns has come. If there is something to be taken away from who makes no use of it
 * (see pool_unread.c), the oldest waiter of the call's loop is woken; what other things there are
 * must have woken somebody when they became free. Returns when to look again, 0: not. Thread: its
 * home loop's holder. */
uint64_t pool_look(struct pool *pool, struct il_call *call, uint64_t now_ns);

/* The place became a connection. */
void pool_opened(struct pool *pool, struct pool_origin *origin, struct conn *conn);

/* The connection is free again: others may open one. An idle connection leaves the idle ones too;
 * somebody must have claimed it. True if it was idle. */
bool pool_forget(struct pool *pool, struct conn *conn);

/* ---- places for connections that are being opened; pool_place.c. Thread: the one that holds the
 * call's home ---- */

/* The call, which has a place to dial, wants none any more: one of those of the same loop that wait
 * without dialing dials from now on, and the place is its own. NULL: there is none, or the place is
 * not the call's any more, or the bound driver, with which a connect dies with its call. */
struct il_call *pool_pass_dial(struct pool *pool, struct il_call *call);

/* The connection that the call was opening has come to nothing: one of those of the same loop that
 * wait for it and for nothing else, since `since_max_ns` or before. NULL: there is none, or there
 * are connections that may serve them. */
struct il_call *pool_find_follower(struct pool *pool, struct il_call *call, uint64_t since_max_ns);

/* The connection that the call was opening is there. False: its place is somebody else's, and there
 * is no other; close it, and ask the pool again. */
bool pool_may_open(struct pool *pool, struct il_call *call);

/* The call's place is free again, if it is its own still: others may open a connection. */
void pool_forget_place(struct pool *pool, struct il_call *call);

/* ---- giving back ---- */

/* A connection that is fit for another request comes home to the shelf of `loop`, which drove it;
 * from here on anybody may take it. Its watch is resting already. `call`, which it served, is over;
 * it may be NULL. Thread: the one that holds `loop`. */
void pool_put(struct pool *pool, struct conn *conn, struct il_call *call, struct il_loop *loop);

/* The same with the bound driver. False: it has been forgotten meanwhile. Thread: any. */
bool pool_put_bound(struct pool *pool, struct conn *conn, uint64_t now_ns);

/* A connection that lies in the pool, and that its loop has claimed for a look: let it rest again.
 * Who has passed it over meanwhile is woken. False: nobody has the client any more, so it is to be
 * closed. Thread: the one that holds the loop. */
IL_MUST_USE bool pool_rest_again(struct pool *pool, struct conn *conn);

/* ---- sessions: HTTP/2 connections, which calls share; pool_session.c ---- */

/* What a session tells the pool, after its own lock. */
struct pool_session_news {
    uint64_t number;   /* rises; older ones that come late say nothing new */
    uint32_t freed;    /* places among its streams that have become free */
    uint32_t max;      /* how many places there are now */
    bool has_settings; /* the server has said so; else it is a guess */
    bool is_open;      /* it takes more streams */
    bool is_gone;      /* it has ended */
};

/* The place became a session: it is listed, with one of its places taken for the caller. With
 * `is_private` nobody else gets one. Takes a reference of its own. */
void pool_session_opened(struct pool *pool, struct pool_origin *origin, struct session *session,
                         bool is_private);
void pool_session_hear(struct pool *pool, struct session *session,
                       const struct pool_session_news *news);

/* The sessions that have the places for which a call waits, from 0 on, each with a reference; NULL
 * after the last. Their own loops may not run: whoever waits looks after them as well, as long as
 * the second says so. Thread: the one that holds the call's home, or `loop`. */
struct session *pool_session_awaited(struct pool *pool, const struct il_call *call, unsigned index);
bool pool_session_is_awaited(struct pool *pool, const struct session *session,
                             const struct il_loop *loop);

/* Take a session off the lists that nobody has used for the idle time-out; true if it was one. The
 * pool's reference is the caller's then, for session_retire. */
bool pool_session_expire(struct pool *pool, struct session *session, uint64_t now_ns);

/* Close the connections that are idle now. */
void pool_close_idle(struct pool *pool);

/* Nothing if the call is not on the list. */
void pool_remove_call(struct pool *pool, struct il_call *call);

/* ---- uses: see client.h. Each call and each response is a use, counted on a shelf: the one that
 * it is begun on. ---- */

/* The shelf of what lives on a loop. */
uint8_t pool_shelf_index(const struct pool *pool, const struct il_loop *loop);

/* Begin two uses, for a call and its response. Returns a call and a response that were used before,
 * or NULL; their content is as it was left. `ret_id`: of the call, unique in the process. */
void pool_begin(struct pool *pool, uint8_t shelf_index, struct il_call **ret_call,
                struct il_response **ret_response, uint64_t *ret_id);

/* Begin one use more, while there is another. */
void pool_begin_use(struct pool *pool, uint8_t shelf_index);

/* End a use. True: it was the last one, and the users have let go of the client: finish it. False:
 * the pool may be gone. */
bool pool_end_use(struct pool *pool, uint8_t shelf_index);

/* End the use of a call or a response, and keep it for the next request; `ret_is_kept` is false if
 * there are enough: free it then. Returns as pool_end_use. */
bool pool_end_call(struct pool *pool, struct il_call *call, bool *ret_is_kept);
bool pool_end_response(struct pool *pool, struct il_response *response, bool *ret_is_kept);

/* The users have let go. True: nor is there a call or a response. */
bool pool_orphan(struct pool *pool);

/* ---- looking at it ---- */

/* All that is counted, at one moment. */
void pool_stats(struct pool *pool, struct il_client_stats *ret_stats);

/* Hold everything still: for reports. */
void pool_lock_all(struct pool *pool);
void pool_unlock_all(struct pool *pool);

void pool_count_retry(struct pool *pool);

/* Assert that nobody sleeps while there is something to take. */
void pool_validate(struct pool *pool);

#endif
