/* pool_place.c: the places of connections that are being opened: counted before there is a
 * connection, so that no more are opened than may be.
 *
 * Whoever opens one holds a place (call->place) and waits in the queue besides. He passes it on to
 * another call of his loop, gives it back, or it becomes a connection. It can also be taken away:
 * when it is the only one there may be, and his loop has not run for unread_timeout_ms, a request
 * of another loop takes it. He hears of it when his loop runs again, and not before; what he was
 * opening is his until then:
 *
 *     loop A  opens ---- parked ..................... runs: the place is gone; is there another
 * one? | not driven for long        yes: goes on       no: closes what he opened, loop B waits -+->
 * takes the place, opens                          and waits
 *
 * Owns: nothing. Threads: as pool.h says; pool->mutex guards all of it. */
#include "client/call.h"
#include "client/client.h"
#include "client/pool_inside.h"

bool pool_has_place(const struct pool *pool, const struct pool_origin *origin)
{
    return pool->connections_per_host_max == 0 ||
           atomic_load(&origin->connection_count) < pool->connections_per_host_max;
}

void origin_count_locked(struct pool *pool, struct pool_origin *origin, int places)
{
    atomic_fetch_add(&origin->connection_count, (uint32_t)places);
    atomic_fetch_add(&pool->connection_count, (uint32_t)places);
}

void call_check_place_locked(struct pool *pool, struct pool_origin *origin, struct il_call *call)
{
    if (!call->waiter.has_lost_place) {
        return;
    }
    call->waiter.has_lost_place = false;
    call->place = NULL;
    if (pool_has_place(pool, origin)) {
        call->place = origin;
        origin_count_locked(pool, origin, 1);
        waiter_set_dialing_locked(pool, &call->waiter, true);
    }
}

bool pool_may_open(struct pool *pool, struct il_call *call)
{
    if (!pool->assigns) {
        sys_mutex_lock(&pool->mutex);
        call_check_place_locked(pool, call->waiter.origin, call);
        sys_mutex_unlock(&pool->mutex);
    } /* else nobody takes any away */
    return call->place != NULL;
}

void pool_forget_place(struct pool *pool, struct il_call *call)
{
    struct pool_work work = { 0 };
    struct pool_origin *origin;

    sys_mutex_lock(&pool->mutex);
    origin = call->waiter.has_lost_place ? NULL : call->place;
    call->waiter.has_lost_place = false;
    call->place = NULL;
    if (origin != NULL) {
        /* Before anybody is woken: else he finds that we are opening one, and sleeps on. */
        waiter_set_dialing_locked(pool, &call->waiter, false);
        origin_count_locked(pool, origin, -1);
        origin_wake_locked(origin, &work);
        origin_drop_if_empty_locked(pool, origin, &work);
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
}

/* ---- passing on, to a call of the same loop ---- */

/* Does it open nothing, and know it? */
static bool waiter_opens_nothing(const struct pool_waiter *waiter)
{
    return !waiter->is_dialing && !waiter->has_lost_place;
}

static struct pool_waiter *list_find_heir(struct il_list *list)
{
    il_list_for_each(list, node)
    {
        struct pool_waiter *waiter = il_container_of(node, struct pool_waiter, link);

        if (waiter_opens_nothing(waiter)) {
            return waiter;
        }
    }
    return NULL;
}

struct il_call *pool_pass_dial(struct pool *pool, struct il_call *call)
{
    struct pool_waiter *heir = NULL;
    struct pool_group *group;

    if (pool->assigns) {
        return NULL;
    }
    sys_mutex_lock(&pool->mutex);
    group = call->waiter.has_lost_place ? NULL : group_find_locked(call->place, call->home->id);
    if (group != NULL) {
        heir = list_find_heir(&group->asleep);
        heir = heir != NULL ? heir : list_find_heir(&group->woken);
    }
    if (heir != NULL) {
        waiter_set_dialing_locked(pool, &call->waiter, false);
        waiter_set_dialing_locked(pool, heir, true);
    }
    sys_mutex_unlock(&pool->mutex);
    return heir != NULL ? il_container_of(heir, struct il_call, waiter) : NULL;
}

/* Is nothing open, and everything that is counted only being dialed? */
static bool origin_is_all_dialing(const struct pool_origin *origin)
{
    uint32_t dialing_count = 0;

    il_list_for_each(&origin->groups, node)
    {
        dialing_count += il_container_of(node, struct pool_group, link)->dialing_count;
    }
    return dialing_count == atomic_load(&origin->connection_count);
}

static struct il_call *list_find_follower(struct il_list *list, uint64_t since_max_ns)
{
    il_list_for_each(list, node)
    {
        struct pool_waiter *waiter = il_container_of(node, struct pool_waiter, link);
        struct il_call *call = il_container_of(waiter, struct il_call, waiter);

        if (waiter_opens_nothing(waiter) && call->may_share &&
            atomic_load(&call->phase_since_ns) <= since_max_ns) {
            return call;
        }
    }
    return NULL;
}

struct il_call *pool_find_follower(struct pool *pool, struct il_call *call, uint64_t since_max_ns)
{
    struct il_call *follower = NULL;
    struct pool_origin *origin;
    struct pool_group *group;

    if (pool->assigns) {
        return NULL;
    }
    sys_mutex_lock(&pool->mutex);
    origin = call->waiter.origin;
    group = call->waiter.group;
    if (group != NULL && !origin->is_h1 && origin_is_all_dialing(origin)) {
        follower = list_find_follower(&group->asleep, since_max_ns);
        if (follower == NULL) {
            follower = list_find_follower(&group->woken, since_max_ns);
        }
    }
    sys_mutex_unlock(&pool->mutex);
    return follower;
}
