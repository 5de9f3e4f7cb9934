/* pool_shelf.c: what a pool keeps for the loops that use it: calls, spares, uses, and counts. The
 * rules stand in pool.h; idle connections are pool.c's.
 *
 * Uses are counted shelf by shelf, because a count that all loops change with every request is a
 * cache line that all of them wait for. While the users have the client, nobody needs the sum. Once
 * they have let go (is_orphaned), whoever ends a use adds up what is left, under all mutexes.
 *
 * Owns: the spares. Threads: any. */
#include "client/call.h"
#include "client/client.h"
#include "client/pool_inside.h"

#define POOL_ID_BLOCK 64 /* ids of calls that a shelf takes at a time */

static IL_NUMBERS _Atomic uint64_t call_id_last;

void shelf_init(struct pool_shelf *shelf)
{
    sys_mutex_init(&shelf->mutex);
    il_list_init(&shelf->idle);
    il_list_init(&shelf->calls);
}

void shelf_deinit(struct pool_shelf *shelf)
{
    il_assert(shelf->call_count == 0);
    il_assert(shelf->use_count == 0);
    il_assert(atomic_load(&shelf->idle_count) == 0);
    while (shelf->spare_calls != NULL) {
        struct il_call *call = shelf->spare_calls;

        shelf->spare_calls = call->spare_next;
        il_free(call);
    }
    while (shelf->spare_responses != NULL) {
        struct il_response *response = shelf->spare_responses;

        shelf->spare_responses = response->spare_next;
        response_destroy(response);
    }
    sys_mutex_deinit(&shelf->mutex);
}

uint8_t pool_shelf_index(const struct pool *pool, const struct il_loop *loop)
{
    return pool->assigns ? 0 : (uint8_t)(loop->id % POOL_SHELF_COUNT);
}

void shelves_lock(struct pool *pool) IL_NO_TSA
{
    for (unsigned i = 0; i < POOL_SHELF_COUNT; i++) {
        sys_mutex_lock(&pool->shelves[i].mutex);
    }
}

void shelves_unlock(struct pool *pool) IL_NO_TSA
{
    for (unsigned i = POOL_SHELF_COUNT; i-- > 0;) {
        sys_mutex_unlock(&pool->shelves[i].mutex);
    }
}

void pool_lock_all(struct pool *pool) IL_NO_TSA
{
    sys_mutex_lock(&pool->mutex);
    shelves_lock(pool);
}

void pool_unlock_all(struct pool *pool) IL_NO_TSA
{
    shelves_unlock(pool);
    sys_mutex_unlock(&pool->mutex);
}

/* ---- beginning ---- */

static uint64_t shelf_next_id_locked(struct pool_shelf *shelf)
{
    if (shelf->call_id_next == shelf->call_id_end) {
        shelf->call_id_next =
            atomic_fetch_add_explicit(&call_id_last, POOL_ID_BLOCK, memory_order_relaxed) + 1;
        shelf->call_id_end = shelf->call_id_next + POOL_ID_BLOCK;
    }
    return shelf->call_id_next++;
}

void pool_begin(struct pool *pool, uint8_t shelf_index, struct il_call **ret_call,
                struct il_response **ret_response, uint64_t *ret_id)
{
    struct pool_shelf *shelf = &pool->shelves[shelf_index];
    struct il_response *response;
    struct il_call *call;

    sys_mutex_lock(&shelf->mutex);
    shelf->use_count += 2;
    *ret_id = shelf_next_id_locked(shelf);
    call = shelf->spare_calls;
    if (call != NULL) {
        shelf->spare_calls = call->spare_next;
        shelf->spare_call_count--;
    }
    response = shelf->spare_responses;
    if (response != NULL) {
        shelf->spare_responses = response->spare_next;
        shelf->spare_response_count--;
    }
    sys_mutex_unlock(&shelf->mutex);
    *ret_call = call;
    *ret_response = response;
}

void pool_begin_use(struct pool *pool, uint8_t shelf_index)
{
    struct pool_shelf *shelf = &pool->shelves[shelf_index];

    sys_mutex_lock(&shelf->mutex);
    il_assert(shelf->use_count > 0 || !pool->is_orphaned);
    shelf->use_count++;
    sys_mutex_unlock(&shelf->mutex);
}

/* ---- listing ---- */

void shelf_list_call_locked(struct pool_shelf *shelf, struct il_call *call)
{
    if (!call->is_listed) {
        call->is_listed = true;
        il_list_push_back(&shelf->calls, &call->pool_link);
        shelf->call_count++;
        shelf->requests_total++;
    }
}

void shelf_unlist_call_locked(struct pool_shelf *shelf, struct il_call *call)
{
    if (call->is_listed) {
        call->is_listed = false;
        il_list_unlink(&call->pool_link);
        shelf->call_count--;
    }
}

void pool_remove_call(struct pool *pool, struct il_call *call)
{
    struct pool_shelf *shelf = &pool->shelves[call->shelf_index];

    sys_mutex_lock(&shelf->mutex);
    shelf_unlist_call_locked(shelf, call);
    sys_mutex_unlock(&shelf->mutex);
}

/* ---- ending ---- */

static bool pool_has_use_locked(const struct pool *pool)
{
    for (unsigned i = 0; i < POOL_SHELF_COUNT; i++) {
        if (pool->shelves[i].use_count > 0) {
            return true;
        }
    }
    return false;
}

static bool shelf_keep_call_locked(struct pool_shelf *shelf, struct il_call *call)
{
    if (call == NULL || shelf->spare_call_count == POOL_SPARE_MAX) {
        return false;
    }
    call->spare_next = shelf->spare_calls;
    shelf->spare_calls = call;
    shelf->spare_call_count++;
    return true;
}

static bool shelf_keep_response_locked(struct pool_shelf *shelf, struct il_response *response)
{
    if (response == NULL || shelf->spare_response_count == POOL_SPARE_MAX) {
        return false;
    }
    response->spare_next = shelf->spare_responses;
    shelf->spare_responses = response;
    shelf->spare_response_count++;
    return true;
}

/* Nobody can begin a use any more, so the one who brings the sum to zero is the last. All mutexes
 * are held for it: two who end their uses at once must not both, or neither, be it. */
static bool pool_end_use_of_orphan(struct pool *pool, struct pool_shelf *shelf)
{
    bool is_last;

    pool_lock_all(pool);
    il_assert(shelf->use_count > 0);
    shelf->use_count--;
    is_last = !pool_has_use_locked(pool);
    pool_unlock_all(pool);
    return is_last;
}

/* `call` or `response`, or neither, is what the use was. */
static bool pool_end(struct pool *pool, uint8_t shelf_index, struct il_call *call,
                     struct il_response *response, bool *ret_is_kept)
{
    struct pool_shelf *shelf = &pool->shelves[shelf_index];
    bool is_orphaned, is_kept;

    sys_mutex_lock(&shelf->mutex);
    is_kept = shelf_keep_call_locked(shelf, call) || shelf_keep_response_locked(shelf, response);
    is_orphaned = pool->is_orphaned;
    if (!is_orphaned) {
        il_assert(shelf->use_count > 0);
        shelf->use_count--;
    }
    sys_mutex_unlock(&shelf->mutex); /* from here on the users may free the client at any moment */
    *ret_is_kept = is_kept;
    return is_orphaned && pool_end_use_of_orphan(pool, shelf); /* unless our use is still counted */
}

bool pool_end_use(struct pool *pool, uint8_t shelf_index)
{
    bool is_kept;

    return pool_end(pool, shelf_index, NULL, NULL, &is_kept);
}

bool pool_end_call(struct pool *pool, struct il_call *call, bool *ret_is_kept)
{
    return pool_end(pool, call->shelf_index, call, NULL, ret_is_kept);
}

bool pool_end_response(struct pool *pool, struct il_response *response, bool *ret_is_kept)
{
    return pool_end(pool, response->shelf_index, NULL, response, ret_is_kept);
}

bool pool_orphan(struct pool *pool)
{
    bool is_unused;

    pool_lock_all(pool);
    pool->is_orphaned = true;
    is_unused = !pool_has_use_locked(pool);
    pool_unlock_all(pool);
    return is_unused;
}

/* ---- counts ---- */

void pool_stats(struct pool *pool, struct il_client_stats *ret_stats)
{
    struct il_client_stats stats = { 0 };

    pool_lock_all(pool);
    stats.waiters = pool->waiter_count;
    stats.connections = atomic_load(&pool->connection_count);
    stats.connections_total = pool->connections_total;
    stats.retries_total = pool->retries_total;
    pool_count_sessions_locked(pool, &stats);
    for (unsigned i = 0; i < POOL_SHELF_COUNT; i++) {
        const struct pool_shelf *shelf = &pool->shelves[i];

        stats.calls += shelf->call_count;
        stats.idle += atomic_load(&shelf->idle_count);
        stats.requests_total += shelf->requests_total;
        stats.reuses_total += shelf->reuses_total;
        stats.moves_total += shelf->moves_total;
    }
    pool_unlock_all(pool);
    *ret_stats = stats;
}

void pool_count_retry(struct pool *pool)
{
    sys_mutex_lock(&pool->mutex);
    pool->retries_total++;
    sys_mutex_unlock(&pool->mutex);
}
