/* pool_inside.h: what the files of the pool share: pool.c (taking and giving back), pool_place.c
 * (who opens a connection), pool_queue.c (who waits), pool_session.c (HTTP/2), pool_shelf.c (what a
 * loop has for itself), pool_unread.c (what nobody makes use of). */
#ifndef IL_CLIENT_POOL_INSIDE_H
#define IL_CLIENT_POOL_INSIDE_H

#include "client/pool.h"

/* What was decided under the lock and is done after it. */
struct pool_work {
    struct il_call *wake;     /* linked by wake_next; a reference each */
    struct conn *close;       /* linked by close_next; nobody else's */
    struct conn *taken;       /* likewise, from responses that nobody reads */
    struct session *retire;   /* linked by close_next; with the pool's references */
    struct pool_origin *free; /* empty, and unlinked; linked by free_next */
    struct pool_group *free_group;
};
void work_do(struct pool_work *work); /* the mutex is not held any more */

/* ---- pool.c; the pool's mutex is held ---- */

/* How many are idle. Exact as to what was put or taken under the pool's mutex. */
uint32_t origin_idle_count(const struct pool_origin *origin);
void origin_drop_if_empty_locked(struct pool *pool, struct pool_origin *origin,
                                 struct pool_work *work);

/* It is not the pool's any more. */
void conn_uncount_locked(struct pool *pool, struct conn *conn);

/* ---- pool_unread.c; the pool's mutex is held ---- */

/* Take away the place of a connect whose loop has not run for long, or a connection whose body
 * nobody has read for long. False: there is none now; `ret_look_ns` says when to look again, 0:
 * never. */
bool origin_take_unused_locked(struct pool *pool, struct pool_origin *origin, uint64_t now_ns,
                               struct pool_work *work, uint64_t *ret_look_ns);

/* ---- pool_place.c; the pool's mutex is held ---- */

/* Is there room for one connection more? */
bool pool_has_place(const struct pool *pool, const struct pool_origin *origin);

/* So many places more, or fewer, are taken. */
void origin_count_locked(struct pool *pool, struct pool_origin *origin, int places);

/* If the call's place was taken away it gets another one, or else knows from now on. */
void call_check_place_locked(struct pool *pool, struct pool_origin *origin, struct il_call *call);

/* ---- pool_queue.c; the pool's mutex is held ---- */

/* Something has become free: wake the oldest waiter of every loop that has waiters. */
void origin_wake_locked(struct pool_origin *origin, struct pool_work *work);

/* The waiters of a loop, or NULL. */
struct pool_group *group_find_locked(struct pool_origin *origin, uint64_t loop_id);

/* Wake the oldest; with the second, the oldest that is not opening a connection already. */
void group_wake_locked(struct pool_group *group, struct pool_work *work);
void group_offer_place_locked(struct pool_group *group, struct pool_work *work);

/* Into the queue, at its end; false: no memory. Woken, with its wake to be posted. Back to sleep,
 * as the oldest. Out of it. */
bool waiter_enqueue_locked(struct pool *pool, struct pool_origin *origin, struct il_call *call,
                           uint64_t loop_id);
void waiter_wake_locked(struct pool_waiter *waiter, struct pool_work *work);
void waiter_sleep_on_locked(struct pool_waiter *waiter);
void waiter_dequeue_locked(struct pool *pool, struct il_call *call, struct pool_work *work);

/* It opens a connection from now on, or opens none any more. Nothing if it is not in the queue. */
void waiter_set_dialing_locked(struct pool *pool, struct pool_waiter *waiter, bool is_dialing);

/* The call takes one thing of several: if there is more, its group hears of it. */
void waiter_pass_on_locked(struct pool *pool, struct il_call *call, struct pool_work *work);

/* The bound way: hand the connection to the oldest waiter, dead or alive. False: there is none. */
bool origin_assign_locked(struct pool *pool, struct pool_origin *origin, struct conn *conn,
                          struct pool_work *work);

/* ---- pool_session.c; the pool's mutex is held ---- */

/* Is there a session with a free place? With the second one is taken, and a reference; NULL: there
 * is none. The mutex of a shelf is enough, for the second that of the loop's. */
bool origin_has_session_locked(const struct pool_origin *origin);
struct session *shelf_take_session_locked(struct pool_shelf *shelf, struct pool_origin *origin,
                                          const struct il_loop *loop);
void pool_retire_idle_sessions_locked(struct pool *pool, struct pool_work *work);
void pool_count_sessions_locked(const struct pool *pool, struct il_client_stats *stats);

/* ---- pool_shelf.c ---- */

void shelf_init(struct pool_shelf *shelf);
void shelf_deinit(struct pool_shelf *shelf);
void shelf_list_call_locked(struct pool_shelf *shelf, struct il_call *call);
void shelf_unlist_call_locked(struct pool_shelf *shelf, struct il_call *call);

/* The mutexes of all the shelves, in their order. */
void shelves_lock(struct pool *pool);
void shelves_unlock(struct pool *pool);

#endif
