/* pool_session.c: the HTTP/2 connections of a pool: who finds a place among whose streams.
 *
 * A session tells what has changed after its own lock (pool_session_hear), so the pool may be a
 * moment behind: a session that is still listed may have ended. Who was sent there finds out, gives
 * the place back, and asks again.
 *
 * Places are taken by compare-and-swap, under any of the pool's mutexes, so that a request needs no
 * more than its own shelf's; they are given back, and sessions listed and unlisted, under the
 * pool's and all of the shelves'.
 *
 * Owns: a reference to each session that is listed. Threads: any. */
#include "client/call.h"
#include "client/client.h"
#include "client/pool_inside.h"
#include "client/session.h"

static struct session *session_at(struct il_list *node)
{
    return il_container_of(node, struct session, pooled.origin_link);
}

static bool session_try_take_place(struct session *session)
{
    uint32_t count = atomic_load(&session->pooled.slot_count);

    while (count < atomic_load(&session->pooled.slot_max)) {
        if (atomic_compare_exchange_weak(&session->pooled.slot_count, &count, count + 1)) {
            return true;
        }
    }
    return false;
}

bool origin_has_session_locked(const struct pool_origin *origin)
{
    il_list_for_each(&origin->sessions, node)
    {
        if (atomic_load(&session_at(node)->pooled.slot_count) <
            atomic_load(&session_at(node)->pooled.slot_max)) {
            return true;
        }
    }
    return false;
}

struct session *shelf_take_session_locked(struct pool_shelf *shelf, struct pool_origin *origin,
                                          const struct il_loop *loop)
{
    il_list_for_each(&origin->sessions, node)
    {
        struct session *session = session_at(node);

        if (session_try_take_place(session)) {
            shelf->reuses_total++;
            shelf->moves_total += session_is_moved(session, loop);
            return session_ref(session);
        }
    }
    return NULL;
}

void pool_session_opened(struct pool *pool, struct pool_origin *origin, struct session *session,
                         bool is_private)
{
    struct pool_work work = { 0 };

    sys_mutex_lock(&pool->mutex);
    il_assert(session->pooled.origin == origin);
    atomic_store(&session->pooled.slot_count, 1);
    if (origin->stream_max != 0 && origin->stream_max < atomic_load(&session->pooled.slot_max)) {
        /* It will say itself; until then the last one's word counts, but nobody may be sent to a
         * place that the session does not know of: he would be sent there again, for ever. */
        atomic_store(&session->pooled.slot_max, origin->stream_max);
    }
    il_list_push_back(&pool->sessions, &session_ref(session)->pooled.link);
    pool->connections_total++;
    session->pooled.is_private = is_private;
    if (!is_private) {
        shelves_lock(pool);
        il_list_push_back(&origin->sessions, &session->pooled.origin_link);
        shelves_unlock(pool);
        origin_wake_locked(origin, &work);
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
}

static bool session_is_idle(const struct session *session)
{
    return session->pooled.origin != NULL && atomic_load(&session->pooled.slot_count) == 0;
}

/* It takes no more streams, or, with `if_idle`, only if it has none: else false. */
static bool session_unlink_locked(struct pool *pool, struct session *session, bool if_idle)
{
    bool is_unlinked;

    shelves_lock(pool); /* nobody takes a place meanwhile */
    is_unlinked = !if_idle || session_is_idle(session);
    if (is_unlinked) {
        il_list_unlink(&session->pooled.origin_link);
    }
    shelves_unlock(pool);
    return is_unlinked;
}

/* Off all lists; the pool's reference is the caller's. False: it was off already, or, with
 * `if_idle`, somebody has a place there. */
static bool session_unlist_locked(struct pool *pool, struct session *session, bool if_idle,
                                  struct pool_work *work)
{
    struct pool_origin *origin = session->pooled.origin;

    if (origin == NULL || (if_idle && !session_is_idle(session)) ||
        !session_unlink_locked(pool, session, if_idle)) {
        return false;
    }
    il_list_unlink(&session->pooled.link);
    session->pooled.origin = NULL;
    origin_count_locked(pool, origin, -1);
    origin_wake_locked(origin, work);
    origin_drop_if_empty_locked(pool, origin, work);
    return true;
}

void pool_session_hear(struct pool *pool, struct session *session,
                       const struct pool_session_news *news)
{
    struct pool_work work = { 0 };
    bool was_listed = false;

    sys_mutex_lock(&pool->mutex);
    if (atomic_fetch_sub(&session->pooled.slot_count, news->freed) == news->freed) {
        session->pooled.idle_since_ns = sys_now_ns();
    }
    if (news->number > session->pooled.heard_number) {
        session->pooled.heard_number = news->number;
        if (news->has_settings) {
            atomic_store(&session->pooled.slot_max, news->max);
        }
        if (news->has_settings && session->pooled.origin != NULL) {
            session->pooled.origin->stream_max = news->max;
        }
    }
    if (news->is_gone) {
        was_listed = session_unlist_locked(pool, session, false, &work);
    } else if (session->pooled.origin != NULL) {
        if (!news->is_open && il_list_is_linked(&session->pooled.origin_link)) {
            (void)session_unlink_locked(pool, session, false);
        }
        origin_wake_locked(session->pooled.origin, &work);
    }
    /* The users may have let go of the client before they heard of its last response from us; one
     * that is private is of no use to anybody when its call could not even begin. */
    if ((pool->is_orphaned || session->pooled.is_private) &&
        session_unlist_locked(pool, session, true, &work)) {
        session->close_next = work.retire;
        work.retire = session;
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
    if (was_listed) {
        session_unref(session);
    }
}

struct session *pool_session_awaited(struct pool *pool, const struct il_call *call, unsigned index)
{
    struct session *found = NULL;

    sys_mutex_lock(&pool->mutex);
    il_list_for_each(&pool->sessions, node)
    {
        struct session *session = il_container_of(node, struct session, pooled.link);

        if (session->pooled.origin == call->waiter.origin && index-- == 0) {
            found = session_ref(session);
            break;
        }
    }
    sys_mutex_unlock(&pool->mutex);
    return found;
}

bool pool_session_is_awaited(struct pool *pool, const struct session *session,
                             const struct il_loop *loop)
{
    struct pool_origin *origin;
    bool is_awaited;

    sys_mutex_lock(&pool->mutex);
    origin = session->pooled.origin;
    is_awaited = origin != NULL && group_find_locked(origin, loop->id) != NULL;
    sys_mutex_unlock(&pool->mutex);
    return is_awaited;
}

void pool_count_sessions_locked(const struct pool *pool, struct il_client_stats *stats)
{
    il_list_for_each(&pool->sessions, node)
    {
        const struct session *session = il_container_of(node, struct session, pooled.link);

        stats->sessions++;
        stats->streams += atomic_load(&session->pooled.slot_count);
        stats->idle += session_is_idle(session);
    }
}

bool pool_session_expire(struct pool *pool, struct session *session, uint64_t now_ns)
{
    struct pool_work work = { 0 };
    bool is_expired;

    sys_mutex_lock(&pool->mutex);
    is_expired = pool->idle_timeout_ns != UINT64_MAX &&
                 now_ns >= session->pooled.idle_since_ns + pool->idle_timeout_ns &&
                 session_unlist_locked(pool, session, true, &work);
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
    return is_expired;
}

void pool_retire_idle_sessions_locked(struct pool *pool, struct pool_work *work)
{
    il_list_for_each_safe(&pool->sessions, node)
    {
        struct session *session = il_container_of(node, struct session, pooled.link);

        if (session_unlist_locked(pool, session, true, work)) {
            session->close_next = work->retire;
            work->retire = session;
        }
    }
}
