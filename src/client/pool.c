/* pool.c: the connections of one client, and the calls that wait for one. The rules stand in
 * pool.h.
 *
 * Owns: the idle connections, and the records of origins and waiters. An origin is freed when
 *   neither connections nor waiters are left.
 * Threads: any. pool->mutex guards all of it and is a leaf. */
#include "client/pool.h"

#include "client/call.h"
#include "client/client.h"
#include "client/conn.h"
#include "client/drivers.h"

/* What was decided under the lock and is done after it. */
struct pool_work {
    struct il_call *wake;     /* linked by wake_next; a reference each */
    struct conn *close;       /* linked by close_next; nobody else's */
    struct pool_origin *free; /* empty, and unlinked; linked by free_next */
    struct pool_group *free_group;
};

static void work_do(struct pool_work *work)
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
    while (work->free != NULL) {
        struct pool_origin *origin = work->free;

        work->free = origin->free_next;
        il_free(origin);
    }
    il_free(work->free_group);
}

static void work_free_later(struct pool_work *work, struct pool_origin *origin)
{
    origin->free_next = work->free;
    work->free = origin;
}

void pool_init(struct pool *pool, const struct il_client_options *options)
{
    *pool = (struct pool){
        .assigns = options->driver == IL_DRIVER_BOUND || IL_MUTANT(ASSIGNED),
        .idle_max = options->idle_max,
        .idle_per_host_max = options->idle_per_host_max,
        .connections_per_host_max = options->connections_per_host_max,
        .waiters_max = options->waiters_max,
        .idle_timeout_ns = options->idle_timeout_ms >= UINT64_MAX / LOOP_NS_PER_MS
                               ? UINT64_MAX
                               : options->idle_timeout_ms * LOOP_NS_PER_MS,
    };
    sys_mutex_init(&pool->mutex);
    for (unsigned i = 0; i < POOL_BUCKET_COUNT; i++) {
        il_list_init(&pool->buckets[i]);
    }
    il_list_init(&pool->idle);
    il_list_init(&pool->connections);
    il_list_init(&pool->calls);
}

static void pool_free_spares(struct pool *pool);

void pool_deinit(struct pool *pool)
{
    pool_free_spares(pool);
    il_assert(pool->connection_count == 0);
    il_assert(pool->waiter_count == 0);
    il_assert(pool->call_count == 0);
    for (unsigned i = 0; i < POOL_BUCKET_COUNT; i++) {
        il_assert(il_list_is_empty(&pool->buckets[i]));
    }
    sys_mutex_deinit(&pool->mutex);
}

/* ---- origins ---- */

static struct pool_origin *origin_find_locked(struct pool *pool,
                                              const struct pool_identity *identity, uint32_t hash)
{
    il_list_for_each(&pool->buckets[hash % POOL_BUCKET_COUNT], node)
    {
        struct pool_origin *origin = il_container_of(node, struct pool_origin, link);

        if (origin->hash == hash && identity_equals(&origin->identity, identity)) {
            return origin;
        }
    }
    return NULL;
}

static struct pool_origin *origin_new(const struct pool_identity *identity, uint32_t hash)
{
    struct pool_origin *origin = il_calloc(1, sizeof(*origin) + identity_size(identity));

    if (origin != NULL) {
        il_list_init(&origin->link);
        il_list_init(&origin->idle);
        il_list_init(&origin->groups);
        origin->hash = hash;
        identity_copy(&origin->identity, identity, origin->memory);
    }
    return origin;
}

/* Find the origin or make it. May let go of the lock, so nothing seen before counts. */
static struct pool_origin *origin_get_locked(struct pool *pool,
                                             const struct pool_identity *identity,
                                             struct pool_work *work) IL_LOCKED(pool->mutex)
{
    uint32_t hash = identity_hash(identity);
    struct pool_origin *origin = origin_find_locked(pool, identity, hash);
    struct pool_origin *made;

    if (origin != NULL) {
        return origin;
    }
    sys_mutex_unlock(&pool->mutex);
    made = origin_new(identity, hash);
    sys_mutex_lock(&pool->mutex);
    origin = origin_find_locked(pool, identity, hash);
    if (origin != NULL) {
        if (made != NULL) {
            work_free_later(work, made);
        }
        return origin;
    }
    if (made == NULL) {
        return NULL;
    }
    il_list_push_front(&pool->buckets[hash % POOL_BUCKET_COUNT], &made->link);
    return made;
}

static void origin_drop_if_empty_locked(struct pool_origin *origin, struct pool_work *work)
{
    if (origin->connection_count == 0 && il_list_is_empty(&origin->groups)) {
        il_assert(origin->idle_count == 0);
        il_list_unlink(&origin->link);
        work_free_later(work, origin);
    }
}

/* ---- waking ---- */

static void group_wake_locked(struct pool_group *group, struct pool_work *work)
{
    struct il_list *node = il_list_pop_front(&group->asleep);
    struct pool_waiter *waiter;
    struct il_call *call;

    if (node == NULL) {
        return;
    }
    waiter = il_container_of(node, struct pool_waiter, link);
    waiter->is_woken = true;
    il_list_push_back(&group->woken, &waiter->link);
    call = call_ref(il_container_of(waiter, struct il_call, waiter));
    call->wake_next = work->wake;
    work->wake = call;
}

/* Something has become free: wake the oldest waiter of every loop that has waiters. */
static void origin_wake_locked(struct pool_origin *origin, struct pool_work *work)
{
    il_list_for_each(&origin->groups, node)
    {
        group_wake_locked(il_container_of(node, struct pool_group, link), work);
        if (IL_MUTANT(ONE_LOOP)) {
            return;
        }
    }
}

static bool pool_has_place(const struct pool *pool, const struct pool_origin *origin)
{
    return pool->connections_per_host_max == 0 ||
           origin->connection_count < pool->connections_per_host_max;
}

/* ---- waiting ---- */

static struct pool_group *group_find_locked(struct pool_origin *origin, uint64_t loop_id)
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

static bool waiter_enqueue_locked(struct pool *pool, struct pool_origin *origin,
                                  struct il_call *call, uint64_t loop_id)
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
    pool->waiter_count++; /* one that gets a place to dial is taken out of the count again */
    return true;
}

static void waiter_dequeue_locked(struct pool *pool, struct il_call *call, struct pool_work *work)
{
    struct pool_group *group = call->waiter.group;

    il_list_unlink(&call->waiter.link);
    call->waiter.group = NULL;
    call->waiter.origin = NULL;
    call->waiter.is_woken = false;
    pool->waiter_count -= !call->waiter.is_dialing;
    call->waiter.is_dialing = false;
    if (il_list_is_empty(&group->asleep) && il_list_is_empty(&group->woken)) {
        il_list_unlink(&group->link);
        il_assert(work->free_group == NULL);
        work->free_group = group;
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
        struct pool_group *group = call->waiter.group;

        if (was_woken && !IL_MUTANT(WAKE_KEPT) &&
            (origin->idle_count > 0 || pool_has_place(pool, origin))) {
            group_wake_locked(group, &work); /* ours is of no use to us: pass it on */
        }
        waiter_dequeue_locked(pool, call, &work);
        origin_drop_if_empty_locked(origin, &work);
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
}

/* ---- taking ---- */

static void conn_unlink_idle_locked(struct pool *pool, struct conn *conn)
{
    il_assert(conn->pooled.is_idle);
    conn->pooled.is_idle = false;
    il_list_unlink(&conn->pooled.idle_link);
    il_list_unlink(&conn->pooled.all_link);
    conn->origin->idle_count--;
    pool->idle_count--;
}

static void conn_uncount_locked(struct pool *pool, struct conn *conn)
{
    il_list_unlink(&conn->pooled.link);
    conn->origin->connection_count--;
    pool->connection_count--;
}

/* Take an idle connection away from where it rests, to close it. Whoever else is about to take it
 * may be faster. */
static void conn_retire_locked(struct pool *pool, struct conn *conn, struct pool_work *work)
{
    if (conn->bound == NULL && !watch_claim_away(conn->held.watch)) {
        return;
    }
    conn_unlink_idle_locked(pool, conn);
    if (conn->bound == NULL) { /* a bound one is closed, and then forgotten, by its own loop */
        conn_uncount_locked(pool, conn);
    }
    conn->close_next = work->close;
    work->close = conn;
}

static bool conn_is_expired(const struct pool *pool, const struct conn *conn, uint64_t now_ns)
{
    return pool->idle_timeout_ns != UINT64_MAX && now_ns > conn->pooled.idle_since_ns &&
           now_ns - conn->pooled.idle_since_ns >= pool->idle_timeout_ns;
}

/* The idle connection to try first: one that rests with the taker's own loop needs not be moved. */
static struct conn *origin_prefer_locked(struct pool_origin *origin, const struct il_loop *loop)
{
    unsigned scanned = 0;

    il_list_for_each(&origin->idle, node)
    {
        struct conn *conn = il_container_of(node, struct conn, pooled.idle_link);

        if (conn->bound == NULL && conn->held.watch->poller == loop->poller) {
            return conn;
        }
        if (++scanned == POOL_SCAN_MAX) {
            break;
        }
    }
    return NULL;
}

static bool conn_try_take_locked(struct pool *pool, struct conn *conn, struct il_loop *loop)
{
    if (conn->bound == NULL && !conn_claim(conn, loop)) {
        return false; /* its loop has found it closed, and is about to remove it */
    }
    pool->moves_total += conn->bound == NULL && conn->held.watch->poller != loop->poller;
    pool->reuses_total++;
    conn_unlink_idle_locked(pool, conn);
    return true;
}

static struct conn *origin_take_locked(struct pool *pool, struct pool_origin *origin,
                                       struct il_loop *loop, struct pool_work *work)
{
    struct conn *conn = origin_prefer_locked(origin, loop);
    uint64_t now_ns = loop_now_ns(loop);

    if (conn != NULL && !conn_is_expired(pool, conn, now_ns) &&
        conn_try_take_locked(pool, conn, loop)) {
        return conn;
    }
    il_list_for_each_safe(&origin->idle, node)
    {
        conn = il_container_of(node, struct conn, pooled.idle_link);
        if (conn_is_expired(pool, conn, now_ns)) {
            conn_retire_locked(pool, conn, work);
        } else if (conn_try_take_locked(pool, conn, loop)) {
            return conn;
        }
    }
    return NULL;
}

/* Nothing idle: a place to open a connection, or a place in the queue. */
static enum il_code origin_queue_locked(struct pool *pool, struct pool_origin *origin,
                                        struct il_call *call, struct il_loop *loop,
                                        struct pool_got *ret_got, struct il_error *err)
{
    bool is_waiting = call->waiter.origin != NULL;
    bool has_place = !call->waiter.is_dialing && pool_has_place(pool, origin);

    if (!is_waiting) {
        if (!has_place && pool->waiter_count >= pool->waiters_max) {
            return il_fail(err, IL_EPOOLFULL,
                           "%u requests wait for a connection already, the most that may "
                           "(waiters_max); all %u connections to %s are in use",
                           pool->waiter_count, origin->connection_count, origin->identity.host);
        }
        if (!waiter_enqueue_locked(pool, origin, call, pool->assigns ? 0 : loop->id)) {
            return il_fail(err, IL_ENOMEM, "no memory to wait for a connection to %s",
                           origin->identity.host);
        }
    } else if (call->waiter.is_woken) { /* the wake brought nothing: sleep on, as the oldest */
        call->waiter.is_woken = false;
        il_list_unlink(&call->waiter.link);
        il_list_push_front(&call->waiter.group->asleep, &call->waiter.link);
    }
    if (has_place) {
        origin->connection_count++;
        pool->connection_count++;
        call->waiter.is_dialing = true;
        pool->waiter_count--;
        *ret_got = (struct pool_got){ .answer = POOL_DIAL, .origin = origin };
    } else {
        *ret_got = (struct pool_got){ .answer = is_waiting ? POOL_NOTHING : POOL_WAIT };
    }
    return IL_OK;
}

enum il_code pool_acquire(struct pool *pool, const struct pool_identity *identity,
                          struct il_call *call, struct il_loop *loop, bool is_fresh,
                          struct pool_got *ret_got, struct il_error *err)
{
    struct pool_work work = { 0 };
    struct pool_origin *origin;
    struct conn *conn = NULL;
    enum il_code code = IL_OK;

    sys_mutex_lock(&pool->mutex);
    if (!call->is_listed) {
        call->is_listed = true;
        il_list_push_back(&pool->calls, &call->pool_link);
        pool->call_count++;
        pool->requests_total++;
    }
    origin = origin_get_locked(pool, identity, &work);
    if (origin == NULL) {
        sys_mutex_unlock(&pool->mutex);
        return il_fail(err, IL_ENOMEM, "no memory for the connections to %s", identity->host);
    }
    if (!is_fresh) {
        conn = origin_take_locked(pool, origin, loop, &work);
    }
    if (conn != NULL) {
        if (call->waiter.origin != NULL) {
            if (origin->idle_count > 0) {
                group_wake_locked(call->waiter.group, &work); /* there is more: pass it on */
            }
            waiter_dequeue_locked(pool, call, &work);
        }
        *ret_got = (struct pool_got){ .answer = POOL_TAKEN, .conn = conn };
    } else {
        code = origin_queue_locked(pool, origin, call, loop, ret_got, err);
        if (code != IL_OK) {
            origin_drop_if_empty_locked(origin, &work);
        }
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
    return code;
}

/* ---- giving back ---- */

static void call_unlink_locked(struct pool *pool, struct il_call *call)
{
    if (call->is_listed) {
        call->is_listed = false;
        il_list_unlink(&call->pool_link);
        pool->call_count--;
    }
}

void pool_opened(struct pool *pool, struct pool_origin *origin, struct conn *conn)
{
    sys_mutex_lock(&pool->mutex);
    il_assert(conn->origin == origin);
    il_list_push_back(&pool->connections, &conn->pooled.link);
    pool->connections_total++;
    sys_mutex_unlock(&pool->mutex);
}

void pool_forget_place(struct pool *pool, struct pool_origin *origin)
{
    struct pool_work work = { 0 };

    sys_mutex_lock(&pool->mutex);
    origin->connection_count--;
    pool->connection_count--;
    origin_wake_locked(origin, &work);
    origin_drop_if_empty_locked(origin, &work);
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
}

bool pool_forget(struct pool *pool, struct conn *conn)
{
    struct pool_work work = { 0 };
    bool was_idle;

    sys_mutex_lock(&pool->mutex);
    was_idle = conn->pooled.is_idle;
    if (was_idle) {
        conn_unlink_idle_locked(pool, conn);
    }
    conn_uncount_locked(pool, conn);
    if (!IL_MUTANT(PLACE_QUIET)) {
        origin_wake_locked(conn->origin, &work);
    }
    origin_drop_if_empty_locked(conn->origin, &work);
    conn->origin = NULL;
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
    return was_idle;
}

/* The bound way: hand it to the oldest waiter, dead or alive. */
static bool origin_assign_locked(struct pool *pool, struct pool_origin *origin, struct conn *conn,
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
    pool->reuses_total++;
    return true;
}

static void pool_trim_locked(struct pool *pool, struct pool_origin *origin, struct pool_work *work)
{
    if (origin->idle_count > pool->idle_per_host_max) {
        conn_retire_locked(pool, il_container_of(origin->idle.prev, struct conn, pooled.idle_link),
                           work);
    }
    if (pool->idle_count > pool->idle_max) {
        struct conn *oldest = il_container_of(pool->idle.prev, struct conn, pooled.all_link);

        origin = oldest->origin;
        conn_retire_locked(pool, oldest, work);
        origin_drop_if_empty_locked(origin, work);
    }
}

bool pool_put(struct pool *pool, struct conn *conn, uint64_t now_ns)
{
    return pool_put_after(pool, conn, NULL, now_ns);
}

bool pool_put_after(struct pool *pool, struct conn *conn, struct il_call *call, uint64_t now_ns)
{
    struct pool_work work = { 0 };
    struct pool_origin *origin;

    sys_mutex_lock(&pool->mutex);
    if (call != NULL) {
        call_unlink_locked(pool, call);
    }
    origin = conn->origin;
    if (origin == NULL) { /* bound: its loop has closed it meanwhile */
        sys_mutex_unlock(&pool->mutex);
        return false;
    }
    if (!pool->assigns || !origin_assign_locked(pool, origin, conn, &work)) {
        conn->pooled.is_idle = true;
        conn->pooled.idle_since_ns = now_ns;
        il_list_push_front(&origin->idle, &conn->pooled.idle_link);
        il_list_push_front(&pool->idle, &conn->pooled.all_link);
        origin->idle_count++;
        pool->idle_count++;
        origin_wake_locked(origin, &work);
        pool_trim_locked(pool, origin, &work);
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
    return true;
}

void pool_rest_again(struct pool *pool, struct conn *conn)
{
    struct pool_work work = { 0 };

    sys_mutex_lock(&pool->mutex); /* once it rests, anybody may take it, and close it: not yet */
    il_assert(conn->pooled.is_idle);
    watch_rest(conn->held.watch, conn->held.watch->rest_deadline_ns);
    origin_wake_locked(conn->origin, &work);
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
}

void pool_close_idle(struct pool *pool)
{
    struct pool_work work = { 0 };

    sys_mutex_lock(&pool->mutex);
    il_list_for_each_safe(&pool->idle, node)
    {
        struct conn *conn = il_container_of(node, struct conn, pooled.all_link);
        struct pool_origin *origin = conn->origin;

        conn_retire_locked(pool, conn, &work);
        origin_wake_locked(origin, &work);
        origin_drop_if_empty_locked(origin, &work);
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
}

/* ---- spares ---- */

void pool_take_spares(struct pool *pool, struct il_call **ret_call,
                      struct il_response **ret_response)
{
    sys_mutex_lock(&pool->mutex);
    *ret_call = pool->spare_calls;
    if (*ret_call != NULL) {
        pool->spare_calls = (*ret_call)->spare_next;
        pool->spare_call_count--;
    }
    *ret_response = pool->spare_responses;
    if (*ret_response != NULL) {
        pool->spare_responses = (*ret_response)->spare_next;
        pool->spare_response_count--;
    }
    sys_mutex_unlock(&pool->mutex);
}

bool pool_keep_call(struct pool *pool, struct il_call *call)
{
    bool is_kept;

    sys_mutex_lock(&pool->mutex);
    is_kept = pool->spare_call_count < POOL_SPARE_MAX;
    if (is_kept) {
        call->spare_next = pool->spare_calls;
        pool->spare_calls = call;
        pool->spare_call_count++;
    }
    sys_mutex_unlock(&pool->mutex);
    return is_kept;
}

bool pool_keep_response(struct pool *pool, struct il_response *response)
{
    bool is_kept;

    sys_mutex_lock(&pool->mutex);
    is_kept = pool->spare_response_count < POOL_SPARE_MAX;
    if (is_kept) {
        response->spare_next = pool->spare_responses;
        pool->spare_responses = response;
        pool->spare_response_count++;
    }
    sys_mutex_unlock(&pool->mutex);
    return is_kept;
}

static void pool_free_spares(struct pool *pool)
{
    while (pool->spare_calls != NULL) {
        struct il_call *call = pool->spare_calls;

        pool->spare_calls = call->spare_next;
        il_free(call);
    }
    while (pool->spare_responses != NULL) {
        struct il_response *response = pool->spare_responses;

        pool->spare_responses = response->spare_next;
        response_destroy(response);
    }
}

/* ---- reports ---- */

void pool_remove_call(struct pool *pool, struct il_call *call)
{
    sys_mutex_lock(&pool->mutex);
    call_unlink_locked(pool, call);
    sys_mutex_unlock(&pool->mutex);
}

void pool_count_retry(struct pool *pool)
{
    sys_mutex_lock(&pool->mutex);
    pool->retries_total++;
    sys_mutex_unlock(&pool->mutex);
}

void pool_validate(struct pool *pool)
{
    sys_mutex_lock(&pool->mutex);
    for (unsigned i = 0; i < POOL_BUCKET_COUNT; i++) {
        il_list_for_each(&pool->buckets[i], node)
        {
            struct pool_origin *origin = il_container_of(node, struct pool_origin, link);

            il_list_for_each(&origin->groups, group_node)
            {
                struct pool_group *group = il_container_of(group_node, struct pool_group, link);
                bool is_all_asleep = il_list_is_empty(&group->woken);

                il_assert(!is_all_asleep || origin->idle_count == 0 || pool->assigns);
            }
        }
    }
    sys_mutex_unlock(&pool->mutex);
}
