/* pool.c: the connections of one client, and the calls that wait for one. The rules stand in
 * pool.h, and so does which mutex guards what.
 *
 * Owns: the idle connections, and the records of origins and waiters. An origin is freed when
 *   neither connections nor waiters are left.
 * Threads: any. */
#include "client/call.h"
#include "client/client.h"
#include "client/conn.h"
#include "client/drivers.h"
#include "client/pool_inside.h"
#include "client/session.h"

static void work_free_later(struct pool_work *work, struct pool_origin *origin)
{
    origin->free_next = work->free;
    work->free = origin;
}

static uint64_t ns_of(uint64_t ms)
{
    return ms >= UINT64_MAX / LOOP_NS_PER_MS ? UINT64_MAX : ms * LOOP_NS_PER_MS;
}

void pool_init(struct pool *pool, const struct il_client_options *options)
{
    *pool = (struct pool){
        .assigns = options->driver == IL_DRIVER_BOUND || IL_MUTANT(ASSIGNED),
        .idle_max = options->idle_max,
        .idle_per_host_max = options->idle_per_host_max,
        .connections_per_host_max = options->connections_per_host_max,
        .waiters_max = options->waiters_max,
        .idle_timeout_ns = ns_of(options->idle_timeout_ms),
        .unread_timeout_ns = ns_of(options->unread_timeout_ms),
    };
    sys_mutex_init(&pool->mutex);
    for (unsigned i = 0; i < POOL_BUCKET_COUNT; i++) {
        il_list_init(&pool->buckets[i]);
    }
    il_list_init(&pool->connections);
    il_list_init(&pool->sessions);
    for (unsigned i = 0; i < POOL_SHELF_COUNT; i++) {
        shelf_init(&pool->shelves[i]);
    }
}

void pool_deinit(struct pool *pool)
{
    il_assert(atomic_load(&pool->connection_count) == 0);
    il_assert(pool->waiter_count == 0);
    for (unsigned i = 0; i < POOL_SHELF_COUNT; i++) {
        shelf_deinit(&pool->shelves[i]);
    }
    for (unsigned i = 0; i < POOL_BUCKET_COUNT; i++) {
        il_assert(il_list_is_empty(&pool->buckets[i]));
    }
    sys_mutex_deinit(&pool->mutex);
}

/* ---- origins ---- */

/* Any of the pool's mutexes is held. */
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
        il_list_init(&origin->groups);
        il_list_init(&origin->sessions);
        for (unsigned i = 0; i < POOL_SHELF_COUNT; i++) {
            il_list_init(&origin->rests[i].idle);
        }
        origin->hash = hash;
        identity_copy(&origin->identity, identity, origin->memory);
    }
    return origin;
}

/* Find the origin or make it. May let go of the lock, so nothing seen before counts. */
static struct pool_origin *origin_get_locked(struct pool *pool,
                                             const struct pool_identity *identity, uint32_t hash,
                                             struct pool_work *work) IL_LOCKED(pool->mutex)
{
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
    shelves_lock(pool);
    il_list_push_front(&pool->buckets[hash % POOL_BUCKET_COUNT], &made->link);
    shelves_unlock(pool);
    return made;
}

uint32_t origin_idle_count(const struct pool_origin *origin)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < POOL_SHELF_COUNT; i++) {
        count += atomic_load_explicit(&origin->rests[i].idle_count, memory_order_relaxed);
    }
    return count;
}

static uint32_t pool_idle_count(const struct pool *pool)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < POOL_SHELF_COUNT; i++) {
        count += atomic_load_explicit(&pool->shelves[i].idle_count, memory_order_relaxed);
    }
    return count;
}

void origin_drop_if_empty_locked(struct pool *pool, struct pool_origin *origin,
                                 struct pool_work *work)
{
    if (atomic_load(&origin->connection_count) == 0 && il_list_is_empty(&origin->groups)) {
        il_assert(origin_idle_count(origin) == 0);
        il_assert(atomic_load(&origin->waiter_count) == 0);
        shelves_lock(pool);
        il_list_unlink(&origin->link);
        shelves_unlock(pool);
        work_free_later(work, origin);
    }
}

/* ---- the shelves ---- */

/* Counts that are written under a lock, and read without. */
static inline void count_up(_Atomic uint32_t *count)
{
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static inline void count_down(_Atomic uint32_t *count)
{
    uint32_t before = atomic_load_explicit(count, memory_order_relaxed);

    il_assert(before > 0);
    atomic_store_explicit(count, before - 1, memory_order_relaxed);
}

static bool conn_is_idle(const struct conn *conn)
{
    return atomic_load_explicit(&conn->pooled.is_idle, memory_order_relaxed);
}

static void shelf_push_locked(struct pool *pool, uint8_t shelf_index, struct conn *conn,
                              uint64_t now_ns)
{
    struct pool_shelf *shelf = &pool->shelves[shelf_index];
    struct pool_rest *rest = &conn->origin->rests[shelf_index];

    conn->pooled.shelf_index = shelf_index;
    conn->pooled.idle_since_ns = now_ns;
    atomic_store_explicit(&conn->pooled.is_idle, true, memory_order_relaxed);
    il_list_push_front(&rest->idle, &conn->pooled.idle_link);
    il_list_push_front(&shelf->idle, &conn->pooled.all_link);
    count_up(&shelf->idle_count);
    atomic_fetch_add(&rest->idle_count, 1); /* before anyone looks at waiter_count: see pool.h */
}

static void shelf_remove_locked(struct pool *pool, struct conn *conn)
{
    struct pool_shelf *shelf = &pool->shelves[conn->pooled.shelf_index];
    struct pool_rest *rest = &conn->origin->rests[conn->pooled.shelf_index];

    il_assert(conn_is_idle(conn));
    atomic_store_explicit(&conn->pooled.is_idle, false, memory_order_relaxed);
    il_list_unlink(&conn->pooled.idle_link);
    il_list_unlink(&conn->pooled.all_link);
    count_down(&rest->idle_count);
    count_down(&shelf->idle_count);
}

/* The pool's mutex is held. */
void conn_uncount_locked(struct pool *pool, struct conn *conn)
{
    il_list_unlink(&conn->pooled.link);
    origin_count_locked(pool, conn->origin, -1);
}

/* Take an idle connection away from where it rests, to close it; the pool's mutex and its shelf's
 * are held. False: its own loop has been faster, and is about to remove it. */
static bool conn_retire_locked(struct pool *pool, struct conn *conn, struct pool_work *work)
{
    if (conn->bound == NULL && !watch_claim_away(conn->held.watch)) {
        return false;
    }
    shelf_remove_locked(pool, conn);
    if (conn->bound == NULL) { /* a bound one is closed, and then forgotten, by its own loop */
        conn_uncount_locked(pool, conn);
    }
    conn->close_next = work->close;
    work->close = conn;
    return true;
}

static bool conn_is_expired(const struct pool *pool, const struct conn *conn, uint64_t now_ns)
{
    return pool->idle_timeout_ns != UINT64_MAX && now_ns > conn->pooled.idle_since_ns &&
           now_ns - conn->pooled.idle_since_ns >= pool->idle_timeout_ns;
}

/* ---- taking ---- */

static void pool_got_set(struct pool_got *got, struct session *session, struct conn *conn)
{
    got->answer = session != NULL ? POOL_SHARED : POOL_TAKEN;
    got->session = session;
    got->conn = conn;
}

static bool conn_try_take_locked(struct pool *pool, struct conn *conn, struct il_loop *loop)
{
    struct pool_shelf *shelf = &pool->shelves[conn->pooled.shelf_index];

    if (conn->bound == NULL && !conn_claim(conn, loop)) {
        return false; /* its loop has found it closed, and is about to remove it */
    }
    shelf->moves_total += conn->bound == NULL && conn->held.watch->poller != loop->poller;
    shelf->reuses_total++;
    shelf_remove_locked(pool, conn);
    return true;
}

/* The idle connection to try first: one that rests with the taker's own loop needs not be moved. */
static struct conn *rest_prefer_locked(struct pool_rest *rest, const struct il_loop *loop)
{
    unsigned scanned = 0;

    il_list_for_each(&rest->idle, node)
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

/* Take an idle connection from a shelf, whose mutex is held. What has expired is left. */
static struct conn *rest_take_locked(struct pool *pool, struct pool_rest *rest,
                                     struct il_loop *loop)
{
    struct conn *conn = rest_prefer_locked(rest, loop);
    uint64_t now_ns = loop_now_ns(loop);

    if (conn != NULL && !conn_is_expired(pool, conn, now_ns) &&
        conn_try_take_locked(pool, conn, loop)) {
        return conn;
    }
    il_list_for_each(&rest->idle, node)
    {
        conn = il_container_of(node, struct conn, pooled.idle_link);
        if (!conn_is_expired(pool, conn, now_ns) && conn_try_take_locked(pool, conn, loop)) {
            return conn;
        }
    }
    return NULL;
}

/* The common case: a session, or what the call's own shelf has, with nothing but its lock. */
static bool shelf_take(struct pool *pool, const struct pool_identity *identity, uint32_t hash,
                       struct il_call *call, struct il_loop *loop, bool is_fresh,
                       struct pool_got *ret_got)
{
    struct pool_shelf *shelf = &pool->shelves[call->shelf_index];
    struct pool_origin *origin = NULL;
    struct session *session = NULL;
    struct conn *conn = NULL;

    sys_mutex_lock(&shelf->mutex);
    shelf_list_call_locked(shelf, call);
    if (!is_fresh) {
        origin = origin_find_locked(pool, identity, hash);
    }
    if (origin != NULL && !il_list_is_empty(&origin->sessions)) {
        session = shelf_take_session_locked(shelf, origin, loop);
    }
    if (origin != NULL && session == NULL) {
        conn = rest_take_locked(pool, &origin->rests[call->shelf_index], loop);
    }
    sys_mutex_unlock(&shelf->mutex);
    pool_got_set(ret_got, session, conn);
    return session != NULL || conn != NULL;
}

/* Retire what has expired on a shelf. The pool's mutex and the shelf's are held. */
static void rest_expire_locked(struct pool *pool, struct pool_rest *rest, uint64_t now_ns,
                               struct pool_work *work)
{
    il_list_for_each_safe(&rest->idle, node)
    {
        struct conn *conn = il_container_of(node, struct conn, pooled.idle_link);

        if (conn_is_expired(pool, conn, now_ns)) {
            (void)conn_retire_locked(pool, conn, work); /* or its loop closes it */
        }
    }
}

/* Look through all shelves, the call's own first. Whoever finds nothing here and was counted in
 * waiter_count before has missed nothing: see pool.h. The pool's mutex is held. */
static struct conn *origin_take_locked(struct pool *pool, struct pool_origin *origin,
                                       uint8_t shelf_index, struct il_loop *loop,
                                       struct pool_work *work)
{
    struct conn *conn = NULL;

    for (unsigned i = 0; i < POOL_SHELF_COUNT && conn == NULL; i++) {
        unsigned at = (shelf_index + i) % POOL_SHELF_COUNT;
        struct pool_rest *rest = &origin->rests[at];

        if (atomic_load(&rest->idle_count) == 0) {
            continue;
        }
        sys_mutex_lock(&pool->shelves[at].mutex);
        conn = rest_take_locked(pool, rest, loop);
        if (conn == NULL) {
            rest_expire_locked(pool, rest, loop_now_ns(loop), work);
        }
        sys_mutex_unlock(&pool->shelves[at].mutex);
    }
    return conn;
}

/* Close an idle connection, so that another one may be opened in its place. */
static bool origin_make_place_locked(struct pool *pool, struct pool_origin *origin,
                                     struct pool_work *work)
{
    bool is_made = false;

    if (pool->assigns) {
        return false; /* a bound one gives its place back only when its own loop has closed it */
    }
    for (unsigned i = 0; i < POOL_SHELF_COUNT && !is_made; i++) {
        sys_mutex_lock(&pool->shelves[i].mutex);
        il_list_for_each(&origin->rests[i].idle, node)
        {
            struct conn *conn = il_container_of(node, struct conn, pooled.idle_link);

            is_made = conn_retire_locked(pool, conn, work);
            if (is_made) {
                break;
            }
        }
        sys_mutex_unlock(&pool->shelves[i].mutex);
    }
    return is_made;
}

/* Is this loop opening a connection already that may serve the call, too? */
static bool loop_opens_one_for_all(const struct pool *pool, struct pool_origin *origin,
                                   const struct il_call *call, const struct il_loop *loop)
{
    struct pool_group *group;

    if (!call->may_share || origin->is_h1) {
        return false;
    }
    group = group_find_locked(origin, pool->assigns ? 0 : loop->id);
    return group != NULL && group->dialing_count > 0;
}

/* A place among the streams of a session; NULL: there is none. The pool's mutex is held. */
static struct session *pool_take_session_locked(struct pool *pool, struct pool_origin *origin,
                                                uint8_t shelf_index, struct il_loop *loop)
{
    struct pool_shelf *shelf = &pool->shelves[shelf_index];
    struct session *session;

    sys_mutex_lock(&shelf->mutex);
    session = shelf_take_session_locked(shelf, origin, loop);
    sys_mutex_unlock(&shelf->mutex);
    return session;
}

/* Nothing idle: a place to open a connection, or a place in the queue. */
static enum il_code origin_queue_locked(struct pool *pool, struct pool_origin *origin,
                                        struct il_call *call, struct il_loop *loop, bool is_fresh,
                                        struct pool_work *work, struct pool_got *ret_got,
                                        struct il_error *err)
{
    bool is_waiting = call->waiter.origin != NULL;
    /* While it dials a call may take an idle connection, find it dead, and ask again: it is not in
     * the queue then, but has its place still. */
    bool is_dialing = call->place != NULL;
    uint64_t look_ns = 0;
    bool has_place = !is_dialing && !loop_opens_one_for_all(pool, origin, call, loop) &&
                     (pool_has_place(pool, origin) ||
                      (is_fresh && origin_make_place_locked(pool, origin, work)) ||
                      origin_take_unused_locked(pool, origin, loop_now_ns(loop), work, &look_ns));

    if (!is_waiting) {
        if (!has_place && !is_dialing && pool->waiter_count >= pool->waiters_max) {
            return il_fail(err, IL_EPOOLFULL,
                           "%u request%s already waiting for a connection, the most that may "
                           "(waiters_max); connections to %s, all in use: %u",
                           pool->waiter_count, il_plural(pool->waiter_count), origin->identity.host,
                           atomic_load(&origin->connection_count));
        }
        if (!waiter_enqueue_locked(pool, origin, call, pool->assigns ? 0 : loop->id)) {
            if (has_place) {
                origin_wake_locked(origin, work); /* it may have been made for us */
            }
            return il_fail(err, IL_ENOMEM, "no memory to wait for a connection to %s",
                           origin->identity.host);
        }
        waiter_set_dialing_locked(pool, &call->waiter, is_dialing);
    } else if (call->waiter.is_woken) {
        waiter_sleep_on_locked(&call->waiter);
    }
    if (has_place) {
        origin_count_locked(pool, origin, 1);
        waiter_set_dialing_locked(pool, &call->waiter, true);
        *ret_got = (struct pool_got){ .answer = POOL_DIAL, .origin = origin };
    } else {
        *ret_got = (struct pool_got){ .answer = is_waiting || is_dialing ? POOL_NOTHING : POOL_WAIT,
                                      .has_sessions = !il_list_is_empty(&pool->sessions),
                                      .look_ns = look_ns };
    }
    if (is_waiting && call->waiter.is_dialing && pool_has_place(pool, origin) &&
        !loop_opens_one_for_all(pool, origin, call, loop)) {
        group_offer_place_locked(call->waiter.group, work); /* we need no more: pass it on */
    }
    return IL_OK;
}

/* Nothing on the call's own shelf, or it waits already. */
static IL_NOINLINE enum il_code pool_acquire_slowly(struct pool *pool,
                                                    const struct pool_identity *identity,
                                                    uint32_t hash, struct il_call *call,
                                                    struct il_loop *loop, bool is_fresh,
                                                    struct pool_got *ret_got, struct il_error *err)
{
    struct pool_work work = { 0 };
    struct pool_origin *origin;
    struct conn *conn = NULL;
    struct session *session = NULL;
    enum il_code code = IL_OK;

    sys_mutex_lock(&pool->mutex);
    origin = origin_get_locked(pool, identity, hash, &work);
    if (origin == NULL) {
        sys_mutex_unlock(&pool->mutex);
        return il_fail(err, IL_ENOMEM, "no memory for the connections to %s", identity->host);
    }
    call_check_place_locked(pool, origin, call);
    atomic_fetch_add(&origin->waiter_count, 1); /* before we look: see pool.h */
    /* Rather a session that has served before than to wait for who may never come. */
    if (!is_fresh || (call->place == NULL && !pool_has_place(pool, origin))) {
        session = pool_take_session_locked(pool, origin, call->shelf_index, loop);
    }
    if (!is_fresh && session == NULL) {
        conn = origin_take_locked(pool, origin, call->shelf_index, loop, &work);
    }
    if (conn != NULL || session != NULL) {
        if (call->waiter.origin != NULL) {
            waiter_pass_on_locked(pool, call, &work);
            waiter_dequeue_locked(pool, call, &work);
        }
        pool_got_set(ret_got, session, conn);
    } else {
        code = origin_queue_locked(pool, origin, call, loop, is_fresh, &work, ret_got, err);
    }
    atomic_fetch_sub(&origin->waiter_count, 1);
    if (code != IL_OK) {
        origin_drop_if_empty_locked(pool, origin, &work);
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
    return code;
}

enum il_code pool_acquire(struct pool *pool, const struct pool_identity *identity,
                          struct il_call *call, struct il_loop *loop, bool is_fresh,
                          struct pool_got *ret_got, struct il_error *err)
{
    uint32_t hash = identity_hash(identity);

    if (call->waiter.origin == NULL && /* nobody but the call's own loop changes that */
        shelf_take(pool, identity, hash, call, loop, is_fresh, ret_got)) {
        return IL_OK;
    }
    return pool_acquire_slowly(pool, identity, hash, call, loop, is_fresh, ret_got, err);
}

/* ---- giving back ---- */

void pool_opened(struct pool *pool, struct pool_origin *origin, struct conn *conn)
{
    struct pool_work work = { 0 };

    sys_mutex_lock(&pool->mutex);
    il_assert(conn->origin == origin);
    il_list_push_back(&pool->connections, &conn->pooled.link);
    pool->connections_total++;
    if (!origin->is_h1) { /* who hoped that it would serve him, too, opens his own */
        origin->is_h1 = true;
        origin_wake_locked(origin, &work);
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
}

bool pool_forget(struct pool *pool, struct conn *conn)
{
    struct pool_work work = { 0 };
    struct pool_shelf *shelf;
    bool was_idle;

    sys_mutex_lock(&pool->mutex);
    shelf = &pool->shelves[conn->pooled.shelf_index];
    sys_mutex_lock(&shelf->mutex); /* a bound one may be being taken at this moment */
    was_idle = conn_is_idle(conn);
    if (was_idle) {
        shelf_remove_locked(pool, conn);
    }
    sys_mutex_unlock(&shelf->mutex);
    conn_uncount_locked(pool, conn);
    if (!IL_MUTANT(PLACE_QUIET)) {
        origin_wake_locked(conn->origin, &work);
    }
    origin_drop_if_empty_locked(pool, conn->origin, &work);
    conn->origin = NULL;
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
    return was_idle;
}

/* The connection that has rested longest on a shelf, of `origin` or of all (NULL). */
static struct conn *shelf_oldest_locked(struct pool *pool, unsigned shelf_index,
                                        struct pool_origin *origin)
{
    struct il_list *list =
        origin != NULL ? &origin->rests[shelf_index].idle : &pool->shelves[shelf_index].idle;

    if (il_list_is_empty(list)) {
        return NULL;
    }
    return origin != NULL ? il_container_of(list->prev, struct conn, pooled.idle_link)
                          : il_container_of(list->prev, struct conn, pooled.all_link);
}

/* Retire the one that has rested longest, of `origin` or of all (NULL). The pool's mutex is held;
 * what happens on the shelves meanwhile may bring forward another one, which is as good. */
static void pool_retire_oldest_locked(struct pool *pool, struct pool_origin *origin,
                                      struct pool_work *work)
{
    uint64_t since_min_ns = UINT64_MAX;
    unsigned oldest_at = 0;
    struct conn *conn;

    for (unsigned i = 0; i < POOL_SHELF_COUNT; i++) {
        sys_mutex_lock(&pool->shelves[i].mutex);
        conn = shelf_oldest_locked(pool, i, origin);
        if (conn != NULL && conn->pooled.idle_since_ns < since_min_ns) {
            since_min_ns = conn->pooled.idle_since_ns;
            oldest_at = i;
        }
        sys_mutex_unlock(&pool->shelves[i].mutex);
    }
    sys_mutex_lock(&pool->shelves[oldest_at].mutex);
    conn = shelf_oldest_locked(pool, oldest_at, origin);
    if (conn == NULL || !conn_retire_locked(pool, conn, work)) {
        conn = NULL;
    }
    sys_mutex_unlock(&pool->shelves[oldest_at].mutex);
    if (conn != NULL) {
        origin_drop_if_empty_locked(pool, conn->origin, work);
    }
}

static void pool_trim_locked(struct pool *pool, struct pool_origin *origin, struct pool_work *work)
{
    if (origin_idle_count(origin) > pool->idle_per_host_max) {
        pool_retire_oldest_locked(pool, origin, work);
    }
    if (pool_idle_count(pool) > pool->idle_max) {
        pool_retire_oldest_locked(pool, NULL, work);
    }
}

/* Can it be that too many are idle? Not while there are no more connections than may be. */
static bool pool_may_overflow(const struct pool *pool, const struct pool_origin *origin)
{
    return atomic_load_explicit(&origin->connection_count, memory_order_relaxed) >
               pool->idle_per_host_max ||
           atomic_load_explicit(&pool->connection_count, memory_order_relaxed) > pool->idle_max;
}

/* Somebody waits, or there may be too many. */
static IL_NOINLINE void pool_put_slowly(struct pool *pool, struct conn *conn, uint8_t shelf_index,
                                        uint64_t now_ns)
{
    struct pool_origin *origin = conn->origin;
    struct pool_work work = { 0 };

    sys_mutex_lock(&pool->mutex);
    sys_mutex_lock(&pool->shelves[shelf_index].mutex);
    shelf_push_locked(pool, shelf_index, conn, now_ns);
    sys_mutex_unlock(&pool->shelves[shelf_index].mutex);
    /* What was put can have been taken and lost by now, but not been forgotten: that wants our
     * mutex, so the origin is still there. */
    origin_wake_locked(origin, &work);
    pool_trim_locked(pool, origin, &work);
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
}

void pool_put(struct pool *pool, struct conn *conn, struct il_call *call, struct il_loop *loop)
{
    uint8_t shelf_index = pool_shelf_index(pool, loop);
    struct pool_shelf *shelf = &pool->shelves[shelf_index];
    uint64_t now_ns = loop_now_ns(loop);
    bool is_put;

    if (IL_MUTANT(ASSIGNED)) {
        if (call != NULL) {
            pool_remove_call(pool, call);
        }
        (void)pool_put_bound(pool, conn, now_ns);
        return;
    }
    il_assert(!pool->assigns);
    il_assert(call == NULL || call->shelf_index == shelf_index);
    sys_mutex_lock(&shelf->mutex);
    if (call != NULL) {
        shelf_unlist_call_locked(shelf, call);
    }
    shelf_push_locked(pool, shelf_index, conn, now_ns);
    is_put =
        atomic_load(&conn->origin->waiter_count) == 0 && !pool_may_overflow(pool, conn->origin);
    if (IL_UNLIKELY(!is_put)) {
        shelf_remove_locked(pool, conn); /* nobody has seen it: the mutex is ours */
    }
    sys_mutex_unlock(&shelf->mutex);
    if (IL_UNLIKELY(!is_put)) {
        pool_put_slowly(pool, conn, shelf_index, now_ns);
    } /* else it is somebody else's by now, or closed */
}

bool pool_put_bound(struct pool *pool, struct conn *conn, uint64_t now_ns)
{
    struct pool_work work = { 0 };
    struct pool_origin *origin;

    il_assert(pool->assigns);
    sys_mutex_lock(&pool->mutex);
    origin = conn->origin;
    if (origin == NULL) { /* its loop has closed it meanwhile */
        sys_mutex_unlock(&pool->mutex);
        return false;
    }
    if (!origin_assign_locked(pool, origin, conn, &work)) {
        sys_mutex_lock(&pool->shelves[0].mutex);
        shelf_push_locked(pool, 0, conn, now_ns);
        sys_mutex_unlock(&pool->shelves[0].mutex);
        origin_wake_locked(origin, &work);
        pool_trim_locked(pool, origin, &work);
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
    return true;
}

bool pool_rest_again(struct pool *pool, struct conn *conn)
{
    struct pool_shelf *shelf = &pool->shelves[conn->pooled.shelf_index];
    struct pool_origin *origin = conn->origin; /* stays: to forget it wants the pool's mutex */
    struct pool_work work = { 0 };
    bool is_orphaned;

    sys_mutex_lock(&pool->mutex);
    is_orphaned = pool->is_orphaned;
    if (!is_orphaned) {
        sys_mutex_lock(
            &shelf->mutex); /* once it rests, anybody may take it, and close it: not yet */
        il_assert(conn_is_idle(conn));
        watch_rest(conn->held.watch, conn->held.watch->rest_deadline_ns);
        sys_mutex_unlock(&shelf->mutex);
        origin_wake_locked(origin, &work);
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
    return !is_orphaned;
}

void pool_close_idle(struct pool *pool)
{
    struct pool_work work = { 0 };

    sys_mutex_lock(&pool->mutex);
    for (unsigned i = 0; i < POOL_SHELF_COUNT; i++) {
        sys_mutex_lock(&pool->shelves[i].mutex);
        il_list_for_each_safe(&pool->shelves[i].idle, node)
        {
            struct conn *conn = il_container_of(node, struct conn, pooled.all_link);

            if (conn_retire_locked(pool, conn, &work)) {
                origin_wake_locked(conn->origin, &work);
            }
        }
        sys_mutex_unlock(&pool->shelves[i].mutex);
    }
    pool_retire_idle_sessions_locked(pool, &work);
    for (unsigned i = 0; i < POOL_BUCKET_COUNT; i++) {
        il_list_for_each_safe(&pool->buckets[i], node)
        {
            origin_drop_if_empty_locked(pool, il_container_of(node, struct pool_origin, link),
                                        &work);
        }
    }
    sys_mutex_unlock(&pool->mutex);
    work_do(&work);
}

/* ---- checking ---- */

void pool_validate(struct pool *pool)
{
    pool_lock_all(pool);
    for (unsigned i = 0; i < POOL_BUCKET_COUNT; i++) {
        il_list_for_each(&pool->buckets[i], node)
        {
            struct pool_origin *origin = il_container_of(node, struct pool_origin, link);

            il_list_for_each(&origin->groups, group_node)
            {
                struct pool_group *group = il_container_of(group_node, struct pool_group, link);
                bool is_all_asleep = il_list_is_empty(&group->woken);

                il_assert(!is_all_asleep || origin_idle_count(origin) == 0 || pool->assigns);
            }
        }
    }
    pool_unlock_all(pool);
}
