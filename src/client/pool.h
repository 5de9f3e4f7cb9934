/* pool.h: the connections of one client, and the calls that wait for one.
 *
 * An idle connection belongs to no loop: it rests on the poller of the loop that used it last, and
 * whoever takes it from the pool claims it. Calls that wait are *woken*, never *assigned* a
 * connection: when one comes home, the oldest waiter of every loop that has waiters is woken, and
 * whoever comes first takes it. So a waiter whose loop does not run cannot swallow anything.
 *
 * (With the bound driver the pool does as hyper's does: a connection stays with the loop that
 * opened it, and one that comes home is assigned to the oldest waiter, whatever its loop.)
 *
 * Threads: any, for every function. The mutex is a leaf: under it nothing is called back, closed or
 * freed; what must be done is collected as pool_work and done after it. */
#ifndef IL_CLIENT_POOL_H
#define IL_CLIENT_POOL_H

#include "client/identity.h"
#include "interloop/client.h"
#include "sys/sys.h"

struct conn;
struct il_call;
struct il_loop;

#define POOL_BUCKET_COUNT 256
#define POOL_SPARE_MAX    1024 /* calls, and responses, that are kept for the next requests */
#define POOL_SCAN_MAX     32 /* idle connections looked at for one that rests with the taker's loop */

/* The connections of one identity. Lives as long as there is a connection or a waiter. */
struct pool_origin {
    struct il_list link; /* in its bucket */
    uint32_t hash;
    struct pool_identity identity; /* its strings are in `memory` */
    struct il_list idle;           /* struct conn, most recently used first */
    struct il_list groups;         /* struct pool_group: the waiters, loop by loop */
    uint32_t idle_count;
    uint32_t connection_count; /* idle, driven, or being opened */
    struct pool_origin *free_next;
    char memory[]; /* begins with the host, which the doctor reads there */
};

/* The waiters of one loop for one origin. */
struct pool_group {
    struct il_list link;   /* origin->groups */
    uint64_t loop_id;      /* 0 with the bound driver: one group for all loops */
    struct il_list asleep; /* struct pool_waiter, oldest first */
    struct il_list woken;  /* those with a wake on its way */
};

/* A call's place in the queue; inside the call. */
struct pool_waiter {
    struct il_list link;
    struct pool_group *group;   /* NULL while not waiting */
    struct pool_origin *origin; /* likewise */
    struct conn *assigned;      /* bound driver: the connection that came with the wake */
    bool is_woken;
    bool is_dialing; /* waits on the side, while a connection of its own is being opened */
};

struct pool {
    struct sys_mutex mutex;
    struct il_list buckets[POOL_BUCKET_COUNT];
    struct il_list idle;        /* all idle connections, most recently used first */
    struct il_list connections; /* all of them, for reports */
    struct il_list calls;       /* all calls of the client, for reports */
    uint32_t idle_count, connection_count, waiter_count, call_count;
    struct il_call *spare_calls;         /* done with, for the next ones; linked by spare_next */
    struct il_response *spare_responses; /* likewise, with the memory of their headers and bodies */
    uint32_t spare_call_count, spare_response_count;
    uint64_t requests_total, connections_total, reuses_total, moves_total, retries_total;
    bool assigns; /* bound driver */
    uint32_t idle_max, idle_per_host_max, connections_per_host_max, waiters_max;
    uint64_t idle_timeout_ns;
};

void pool_init(struct pool *pool, const struct il_client_options *options);

/* Nothing may be left in it. */
void pool_deinit(struct pool *pool);

enum pool_answer {
    POOL_TAKEN,   /* an idle connection, claimed: the caller's alone */
    POOL_DIAL,    /* a place to open a connection of its own; the call waits on the side */
    POOL_WAIT,    /* no place: the call waits */
    POOL_NOTHING, /* it waits already, and there is nothing for it yet */
};

struct pool_got {
    enum pool_answer answer;
    struct conn *conn;          /* POOL_TAKEN */
    struct pool_origin *origin; /* POOL_DIAL: where the place is counted */
};

/* Get a connection for `call`, whose home is `loop`; from the first time on the call is on the
 * pool's list, until pool_put or pool_remove_call takes it off. What the call got it must give
 * back: a connection with pool_put or pool_forget, a place with pool_opened or pool_forget_place,
 * its place in the queue with pool_leave (POOL_TAKEN includes that). With `is_fresh` no idle
 * connection is taken. IL_EPOOLFULL, IL_ENOMEM. Thread: the one that holds `loop`. */
enum il_code pool_acquire(struct pool *pool, const struct pool_identity *identity,
                          struct il_call *call, struct il_loop *loop, bool is_fresh,
                          struct pool_got *ret_got, struct il_error *err);

/* The call does not wait any more. If it had been woken, its wake is passed on. */
void pool_leave(struct pool *pool, struct il_call *call);

/* The place became a connection. */
void pool_opened(struct pool *pool, struct pool_origin *origin, struct conn *conn);

/* The place, or the connection, is free again: others may open one. An idle connection leaves the
 * idle ones too; somebody must have claimed it. True if it was idle. */
void pool_forget_place(struct pool *pool, struct pool_origin *origin);
bool pool_forget(struct pool *pool, struct conn *conn);

/* A connection that is fit for another request comes home; from here on anybody may take it. Its
 * watch is resting already (caller driver). False: it has been forgotten meanwhile (bound driver
 * only). Thread: the one that held the connection. */
bool pool_put(struct pool *pool, struct conn *conn, uint64_t now_ns);

/* As pool_put, and `call`, which it served, is over; once under the lock instead of twice. */
bool pool_put_after(struct pool *pool, struct conn *conn, struct il_call *call, uint64_t now_ns);

/* A connection that lies in the pool, and that its loop has claimed for a look: let it rest again.
 * Who has passed it over meanwhile is woken. Thread: the one that holds the loop. */
void pool_rest_again(struct pool *pool, struct conn *conn);

/* Close the connections that are idle now. */
void pool_close_idle(struct pool *pool);

/* Nothing if the call is not on the list. */
void pool_remove_call(struct pool *pool, struct il_call *call);

/* A call and a response that were used before, or NULL. Their content is as it was left. */
void pool_take_spares(struct pool *pool, struct il_call **ret_call,
                      struct il_response **ret_response);

/* Keep them for the next request; false if there are enough: free them then. */
bool pool_keep_call(struct pool *pool, struct il_call *call);
bool pool_keep_response(struct pool *pool, struct il_response *response);
void pool_count_retry(struct pool *pool);

/* Assert that nobody sleeps while there is something to take. */
void pool_validate(struct pool *pool);

#endif
