/* pool_unread.c: places of which nobody makes use: connections that bring a body which nobody
 * reads, and connects whose loop does not run. As many as may be open may all be such, and then a
 * request would wait for user code that has something else on its mind. So a request that waits for
 * a place takes one away for which nobody has done anything for unread_timeout_ms: from a call that
 * dials, who hears of it when its loop runs again (pool_place.c), or else from a response; whoever
 * reads that again is told so.
 *
 * Owns: nothing. Threads: any; the pool's mutex is held. How reader and taker meet stands in
 * conn.h. */
#include "client/call.h"
#include "client/conn.h"
#include "client/pool_inside.h"

/* Has it lasted for so long that others may take what it holds? If not, be back when it has. */
static bool has_lasted(const struct pool *pool, uint64_t since_ns, uint64_t now_ns,
                       uint64_t *look_ns)
{
    if (since_ns + pool->unread_timeout_ns <= now_ns) {
        return true;
    }
    *look_ns = il_min_u64(*look_ns, since_ns + pool->unread_timeout_ns);
    return false;
}

/* ---- connects whose loop does not run ---- */

static struct pool_waiter *list_find_dialing(struct il_list *list)
{
    il_list_for_each(list, node)
    {
        struct pool_waiter *waiter = il_container_of(node, struct pool_waiter, link);

        if (waiter->is_dialing) {
            return waiter;
        }
    }
    return NULL;
}

/* One that dials on a loop that has not run for too long, or NULL. */
static struct pool_waiter *origin_find_stalled_locked(const struct pool *pool,
                                                      struct pool_origin *origin, uint64_t now_ns,
                                                      uint64_t *look_ns)
{
    il_list_for_each(&origin->groups, node)
    {
        struct pool_group *group = il_container_of(node, struct pool_group, link);
        struct pool_waiter *waiter = list_find_dialing(&group->asleep);
        uint64_t since_ns;

        waiter = waiter != NULL ? waiter : list_find_dialing(&group->woken);
        if (waiter == NULL) {
            continue;
        }
        since_ns = loop_unattended_since_ns(il_container_of(waiter, struct il_call, waiter)->home);
        if (since_ns != 0 && has_lasted(pool, since_ns, now_ns, look_ns)) {
            return waiter;
        }
    }
    return NULL;
}

static void waiter_take_place_locked(struct pool *pool, struct pool_waiter *waiter,
                                     struct pool_work *work)
{
    waiter_set_dialing_locked(pool, waiter, false);
    origin_count_locked(pool, waiter->origin, -1);
    waiter->has_lost_place = true;
    if (!waiter->is_woken) {
        waiter_wake_locked(waiter, work); /* for when its loop runs again */
    }
}

/* ---- bodies that nobody reads ---- */

/* One that has not been read for too long, and since when; else NULL. */
static struct conn *origin_find_unread_locked(const struct pool *pool,
                                              const struct pool_origin *origin, uint64_t now_ns,
                                              uint64_t *ret_since_ns, uint64_t *look_ns)
{
    il_list_for_each(&pool->connections, node)
    {
        struct conn *conn = il_container_of(node, struct conn, pooled.link);
        uint64_t since_ns = atomic_load_explicit(&conn->unread_since_ns, memory_order_acquire);

        if (conn->origin == origin && since_ns >= CONN_UNREAD_MIN &&
            has_lasted(pool, since_ns, now_ns, look_ns)) {
            *ret_since_ns = since_ns;
            return conn;
        }
    }
    return NULL;
}

/* ---- either ---- */

/* When to look at the latest: who makes use of his place now may cease to. 0: never. */
static uint64_t look_next_ns(const struct pool *pool, uint64_t now_ns)
{
    bool is_never = pool->assigns || pool->unread_timeout_ns >= UINT64_MAX - now_ns;

    return is_never ? 0 : now_ns + pool->unread_timeout_ns;
}

bool origin_take_unused_locked(struct pool *pool, struct pool_origin *origin, uint64_t now_ns,
                               struct pool_work *work, uint64_t *ret_look_ns)
{
    struct pool_waiter *waiter;
    struct conn *conn;
    uint64_t since_ns;

    *ret_look_ns = look_next_ns(pool, now_ns);
    if (*ret_look_ns == 0) {
        return false;
    }
    waiter = origin_find_stalled_locked(pool, origin, now_ns, ret_look_ns);
    if (waiter != NULL) {
        waiter_take_place_locked(pool, waiter, work);
        return true;
    }
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
    uint64_t since_ns, look_ns = look_next_ns(pool, now_ns);
    struct pool_work work = { 0 };
    struct pool_origin *origin;

    sys_mutex_lock(&pool->mutex);
    origin = call->waiter.origin;
    if (look_ns != 0 && origin != NULL &&
        (origin_find_stalled_locked(pool, origin, now_ns, &look_ns) != NULL ||
         origin_find_unread_locked(pool, origin, now_ns, &since_ns, &look_ns) != NULL)) {
        group_offer_place_locked(call->waiter.group, &work); /* in turn */
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
    return look_ns;
}
