/* pool_queue.c: the calls that wait for a connection: who is woken, when, and who passes it on.
 *
 * The waiters of one loop make a group, the oldest first. A wake is an invitation, not a gift: when
 * something becomes free, the oldest of every group is invited, and who comes and finds nothing
 * goes back to the head of his group. Who has been invited and needs nothing any more, or takes one
 * thing of several, invites the next of its own group. So nothing lies in the pool while somebody
 * sleeps whose loop runs.
 *
 * Owns: the groups. Threads: any; pool->mutex guards all of it. */
#include "client/call.h"
#include "client/client.h"
#include "client/conn.h"
#include "client/drivers.h"
#include "client/pool_inside.h"
#include "client/session.h"

/* ---- after the lock ---- */

void work_do(struct pool_work *work)
{
    while (work->wake != NULL) {
        struct il_call *call = work->wake;

        work->wake = call->wake_next;
        call_post_wake(call);
    }
    while (work->close != NULL) {
        struct conn *conn = work->close;

        work->close = conn->close_next;
        if (conn->bound != NULL) {
            bound_retire(conn);
        } else {
            conn_close(conn);
        }
    }
    while (work->taken != NULL) {
        struct conn *conn = work->taken;

        work->taken = conn->close_next;
        conn_shut_taken(conn);
    }
    while (work->retire != NULL) {
        struct session *session = work->retire;

        work->retire = session->close_next;
        session_retire(session);
    }
    while (work->free != NULL) {
        struct pool_origin *origin = work->free;

        work->free = origin->free_next;
        il_free(origin);
    }
    il_free(work->free_group);
}

/* ---- waking ---- */

void waiter_wake_locked(struct pool_waiter *waiter, struct pool_work *work)
{
    struct il_call *call = il_container_of(waiter, struct il_call, waiter);

    waiter->is_woken = true;
    il_list_unlink(&waiter->link);
    il_list_push_back(&waiter->group->woken, &waiter->link);
    if (!atomic_exchange(&call->is_wake_posted, true)) { /* else one is on its way already */
        call->wake_next = work->wake;
        work->wake = call_ref(call);
    }
}

void group_wake_locked(struct pool_group *group, struct pool_work *work)
{
    if (!il_list_is_empty(&group->asleep)) {
        waiter_wake_locked(il_container_of(group->asleep.next, struct pool_waiter, link), work);
    }
}

void group_offer_place_locked(struct pool_group *group, struct pool_work *work)
{
    il_list_for_each(&group->asleep, node)
    {
        struct pool_waiter *waiter = il_container_of(node, struct pool_waiter, link);

        if (!waiter->is_dialing) {
            waiter_wake_locked(waiter, work);
            return;
        }
    }
}

void origin_wake_locked(struct pool_origin *origin, struct pool_work *work)
{
    il_list_for_each(&origin->groups, node)
    {
        group_wake_locked(il_container_of(node, struct pool_group, link), work);
        if (IL_MUTANT(ONE_LOOP)) {
            return;
        }
    }
}

/* Is there anything for a waiter? */
static bool origin_has_something(const struct pool *pool, const struct pool_origin *origin)
{
    return origin_idle_count(origin) > 0 || pool_has_place(pool, origin) ||
           origin_has_session_locked(origin);
}

/* ---- waiting ---- */

struct pool_group *group_find_locked(struct pool_origin *origin, uint64_t loop_id)
{
    il_list_for_each(&origin->groups, node)
    {
        struct pool_group *group = il_container_of(node, struct pool_group, link);

        if (group->loop_id == loop_id) {
            return group;
        }
    }
    return NULL;
}

bool waiter_enqueue_locked(struct pool *pool, struct pool_origin *origin, struct il_call *call,
                           uint64_t loop_id)
{
    struct pool_group *group = group_find_locked(origin, loop_id);

    if (group == NULL) {
        group = il_calloc(1, sizeof(*group)); /* rare: once for each loop that begins to wait */
        if (group == NULL) {
            return false;
        }
        group->loop_id = loop_id;
        il_list_init(&group->link);
        il_list_init(&group->asleep);
        il_list_init(&group->woken);
        il_list_push_back(&origin->groups, &group->link);
    }
    call->waiter.group = group;
    call->waiter.origin = origin;
    call->waiter.is_woken = false;
    il_list_push_back(&group->asleep, &call->waiter.link);
    atomic_fetch_add(&origin->waiter_count, 1);
    pool->waiter_count++; /* one that gets a place to dial is taken out of the count again */
    return true;
}

void waiter_dequeue_locked(struct pool *pool, struct il_call *call, struct pool_work *work)
{
    struct pool_group *group = call->waiter.group;

    il_list_unlink(&call->waiter.link);
    atomic_fetch_sub(&call->waiter.origin->waiter_count, 1);
    waiter_set_dialing_locked(pool, &call->waiter, false);
    pool->waiter_count--;
    call->waiter.group = NULL;
    call->waiter.origin = NULL;
    call->waiter.is_woken = false;
    if (il_list_is_empty(&group->asleep) && il_list_is_empty(&group->woken)) {
        il_list_unlink(&group->link);
        il_assert(work->free_group == NULL);
        work->free_group = group;
    }
}

void waiter_set_dialing_locked(struct pool *pool, struct pool_waiter *waiter, bool is_dialing)
{
    if (waiter->group != NULL && waiter->is_dialing != is_dialing) {
        waiter->is_dialing = is_dialing;
        waiter->group->dialing_count += is_dialing ? 1u : -1u;
        pool->waiter_count -= is_dialing ? 1u : -1u;
    }
}

/* The wake brought nothing. */
void waiter_sleep_on_locked(struct pool_waiter *waiter)
{
    waiter->is_woken = false;
    il_list_unlink(&waiter->link);
    il_list_push_front(&waiter->group->asleep, &waiter->link);
}

void waiter_pass_on_locked(struct pool *pool, struct il_call *call, struct pool_work *work)
{
    if (origin_has_something(pool, call->waiter.origin)) {
        group_wake_locked(call->waiter.group, work);
    }
}

void pool_leave(struct pool *pool, struct il_call *call)
{
    struct pool_work work = { 0 };
    struct pool_origin *origin;

    if (!pool->assigns && call->waiter.origin == NULL) {
        return; /* nobody but the call's own loop changes that */
    }
    sys_mutex_lock(&pool->mutex);
    origin = call->waiter.origin;
    if (origin != NULL) {
        bool was_woken = call->waiter.is_woken;

        if (was_woken && !IL_MUTANT(WAKE_KEPT)) {
            waiter_pass_on_locked(pool, call, &work); /* ours is of no use to us */
        }
        waiter_dequeue_locked(pool, call, &work);
        origin_drop_if_empty_locked(pool, origin, &work);
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
}

bool origin_assign_locked(struct pool *pool, struct pool_origin *origin, struct conn *conn,
                          struct pool_work *work)
{
    struct pool_group *group = group_find_locked(origin, 0);
    struct pool_waiter *waiter;

    if (group == NULL) {
        return false;
    }
    waiter = il_container_of(group->asleep.next, struct pool_waiter, link);
    if (&waiter->link == &group->asleep) {
        return false;
    }
    group_wake_locked(group, work);
    waiter_dequeue_locked(pool, il_container_of(waiter, struct il_call, waiter), work);
    waiter->assigned = conn;
    sys_mutex_lock(&pool->shelves[0].mutex);
    pool->shelves[0].reuses_total++;
    sys_mutex_unlock(&pool->shelves[0].mutex);
    return true;
}
