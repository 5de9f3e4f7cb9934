/* pool_unread.c: connections that bring a body which nobody reads. As many as may be open may all
 * be such, and then a request would wait for user code that has something else on its mind. So a
 * request that waits for a place takes one away from a response that has not been read for
 * unread_timeout_ms; whoever reads that again is told so.
 *
 * Owns: nothing. Threads: any; the pool's mutex is held. How reader and taker meet stands in
 * conn.h. */
#include "client/conn.h"
#include "client/pool_inside.h"

bool origin_take_unread_locked(struct pool *pool, struct pool_origin *origin, uint64_t now_ns,
                               struct pool_work *work, uint64_t *ret_look_ns)
{
    uint64_t timeout_ns = pool->unread_timeout_ns;

    if (pool->assigns || timeout_ns >= UINT64_MAX - now_ns) {
        *ret_look_ns = 0;
        return false;
    }
    *ret_look_ns = now_ns + timeout_ns; /* those that are read now may be left from now on */
    il_list_for_each(&pool->connections, node)
    {
        struct conn *conn = il_container_of(node, struct conn, pooled.link);
        uint64_t since_ns = atomic_load_explicit(&conn->unread_since_ns, memory_order_acquire);

        if (conn->origin != origin || since_ns < CONN_UNREAD_MIN) {
            continue;
        }
        if (since_ns + timeout_ns > now_ns) {
            *ret_look_ns = il_min_u64(*ret_look_ns, since_ns + timeout_ns);
        } else if (conn_take_unread(conn, since_ns)) {
            conn_uncount_locked(pool, conn);
            conn->close_next = work->taken;
            work->taken = conn;
            return true;
        }
    }
    return false;
}
