/* pool_unread.c: connections that bring a body which nobody reads. As many as may be open may all
 * be such, and then a request would wait for user code that has something else on its mind. So a
 * request that waits for a place takes one away from a response that has not been read for
 * unread_timeout_ms; whoever reads that again is told so.
 *
 * Owns: nothing. Threads: any; the pool's mutex is held. How reader and taker meet stands in
 * conn.h. */
#include "client/call.h"
#include "client/conn.h"
#include "client/pool_inside.h"

/* One that has not been read for too long, and since when; else NULL, and `ret_look_ns` says when
 * to look again, 0: never. */
static struct conn *origin_find_unread_locked(const struct pool *pool,
                                              const struct pool_origin *origin, uint64_t now_ns,
                                              uint64_t *ret_since_ns, uint64_t *ret_look_ns)
{
    uint64_t timeout_ns = pool->unread_timeout_ns;

    *ret_look_ns = 0;
    if (pool->assigns || timeout_ns >= UINT64_MAX - now_ns) {
        return NULL;
    }
    *ret_look_ns = now_ns + timeout_ns; /* those that are read now may be left from now on */
    il_list_for_each(&pool->connections, node)
    {
        struct conn *conn = il_container_of(node, struct conn, pooled.link);
        uint64_t since_ns = atomic_load_explicit(&conn->unread_since_ns, memory_order_acquire);

        if (conn->origin != origin || since_ns < CONN_UNREAD_MIN) {
            continue;
        }
        if (since_ns + timeout_ns <= now_ns) {
            *ret_since_ns = since_ns;
            return conn;
        }
        *ret_look_ns = il_min_u64(*ret_look_ns, since_ns + timeout_ns);
    }
    return NULL;
}

bool origin_take_unread_locked(struct pool *pool, struct pool_origin *origin, uint64_t now_ns,
                               struct pool_work *work, uint64_t *ret_look_ns)
{
    struct conn *conn;
    uint64_t since_ns;

    while ((conn = origin_find_unread_locked(pool, origin, now_ns, &since_ns, ret_look_ns)) !=
           NULL) {
        if (conn_take_unread(conn, since_ns)) { /* else it is being read again */
            conn_uncount_locked(pool, conn);
            conn->close_next = work->taken;
            work->taken = conn;
            return true;
        }
    }
    return false;
}

uint64_t pool_look(struct pool *pool, struct il_call *call, uint64_t now_ns)
{
    struct pool_work work = { 0 };
    uint64_t since_ns, look_ns = 0;

    sys_mutex_lock(&pool->mutex);
    if (call->waiter.group != NULL &&
        origin_find_unread_locked(pool, call->waiter.origin, now_ns, &since_ns, &look_ns) != NULL) {
        group_offer_place_locked(call->waiter.group, &work); /* in turn */
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
    return look_ns;
}
