/* client.c: the client: its settings, its counts, and the registry of all clients.
 *
 * Ends: with the last user and the last use the idle connections are closed; the memory goes when
 *   the last connection has let go of it. Threads: any. */
#include "client/client.h"

#include <stdio.h>

#include "base/shown.h"
#include "client/call.h"

/* A leaf lock. Written when a client is made or freed, read by reports. */
static struct sys_mutex registry_mutex = { .real = PTHREAD_MUTEX_INITIALIZER };
static struct il_list registry = IL_LIST_INIT(registry);

SHOWN_DEFINE(
    shown_clients, SHOWN_CLIENTS, SHOWN_CLIENT_FIELD_COUNT,
    &registry, [SHOWN_CLIENT_LINK] = offsetof(struct il_client, registry_link),
    [SHOWN_CLIENT_NAME] = offsetof(struct il_client, name),
    [SHOWN_CLIENT_CALL_LIST] = offsetof(struct il_client, pool.shelves[0].calls),
    [SHOWN_CLIENT_CONN_LIST] = offsetof(struct il_client, pool.connections),
    [SHOWN_CALL_LINK] = offsetof(struct il_call, pool_link),
    [SHOWN_CALL_ID] = offsetof(struct il_call, id),
    [SHOWN_CALL_REQUEST] = offsetof(struct il_call, request),
    [SHOWN_CALL_HOME] = offsetof(struct il_call, home),
    [SHOWN_CALL_PARTY] = offsetof(struct il_call, party),
    [SHOWN_CALL_PHASE] = offsetof(struct il_call, phase),
    [SHOWN_CALL_PHASE_SINCE_NS] = offsetof(struct il_call, phase_since_ns),
    [SHOWN_CALL_STARTED_NS] = offsetof(struct il_call, started_ns),
    [SHOWN_CALL_CONN_ID] = offsetof(struct il_call, conn_id),
    [SHOWN_CALL_TASK_ID] = offsetof(struct il_call, task_id),
    [SHOWN_REQUEST_METHOD] = offsetof(struct il_request, method),
    [SHOWN_REQUEST_HOST] = offsetof(struct il_request, url.host),
    [SHOWN_REQUEST_PORT] = offsetof(struct il_request, url.port),
    [SHOWN_REQUEST_PATH_AND_QUERY] = offsetof(struct il_request, url.path_and_query),
    [SHOWN_CONN_LINK] = offsetof(struct conn, pooled.link),
    [SHOWN_CONN_ID] = offsetof(struct conn, id), [SHOWN_CONN_FD] = offsetof(struct conn, stream.fd),
    [SHOWN_CONN_ORIGIN] = offsetof(struct conn, origin),
    [SHOWN_CONN_LOOP_ID] = offsetof(struct conn, driver_loop_id),
    [SHOWN_CONN_IS_IDLE] = offsetof(struct conn, pooled.is_idle),
    [SHOWN_CONN_IS_EXCHANGING] = offsetof(struct conn, is_exchanging),
    [SHOWN_CONN_BOUND] = offsetof(struct conn, bound),
    [SHOWN_ORIGIN_PORT] = offsetof(struct pool_origin, identity.port),
    [SHOWN_ORIGIN_HOST] = offsetof(struct pool_origin, memory),
    [SHOWN_SHELF_SIZE] = sizeof(struct pool_shelf), [SHOWN_SHELF_COUNT] = POOL_SHELF_COUNT);

/* ---- settings ---- */

static void client_set_timeouts(struct il_client *client, const struct il_client_options *options)
{
    for (unsigned phase = 0; phase < CLIENT_PHASE_COUNT; phase++) {
        client->timeout_ms[phase] = IL_NO_LIMIT;
    }
    client->timeout_ms[IL_PHASE_POOL_WAIT] = options->pool_wait_timeout_ms;
    client->timeout_ms[IL_PHASE_RESOLVE] = options->resolve_timeout_ms;
    client->timeout_ms[IL_PHASE_CONNECT] = options->connect_timeout_ms;
    client->timeout_ms[IL_PHASE_TLS] = options->tls_timeout_ms;
    client->timeout_ms[IL_PHASE_WRITE] = options->write_timeout_ms;
    client->timeout_ms[IL_PHASE_FIRST_BYTE] = options->first_byte_timeout_ms;
    client->timeout_ms[IL_PHASE_READ] = options->read_timeout_ms;
    client->timeout_ms[IL_PHASE_TOTAL] = options->total_timeout_ms;
}

/* Whatever has been made is freed by client_free_names. */
static enum il_code client_make_names(struct il_client *client,
                                      const struct il_client_options *options, struct il_error *err)
{
    enum il_code code = IL_OK;

    host_table_init(&client->hosts);
    for (size_t i = 0; options->hosts != NULL && i < options->host_count && code == IL_OK; i++) {
        const struct il_host_addresses *host = &options->hosts[i];

        code = host_table_add(&client->hosts, host->host, host->port, host->addresses, err);
    }
    if (code != IL_OK) {
        return code;
    }
    client->cache = resolve_cache_new();
    return client->cache != NULL
               ? IL_OK
               : il_fail(err, IL_ENOMEM, "no memory for client '%s'", options->name);
}

static void client_free_names(struct il_client *client)
{
    host_table_deinit(&client->hosts);
    resolve_cache_free(client->cache);
}

enum il_code il_client_new(const struct il_client_options *given, struct il_client **ret_client,
                           struct il_error *err)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_client *client;
    enum il_code code;

    if (ret_client == NULL) {
        return il_fail(err, IL_EINVAL, "il_client_new: ret_client is NULL");
    }
    if (given != NULL && given->size != sizeof(options)) {
        return il_fail(err, IL_EINVAL,
                       "il_client_options: size is %zu, want %zu (IL_CLIENT_OPTIONS_INIT sets it)",
                       given->size, sizeof(options));
    }
    options = given != NULL ? *given : options;
    client_options_complete(&options);
    code = client_options_check(&options, err);
    if (code != IL_OK) {
        return code;
    }
    client = il_calloc(1, sizeof(*client));
    if (client == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for client '%s'", options.name);
    }
    code = client_make_names(client, &options, err);
    if (code != IL_OK) {
        client_free_names(client);
        il_free(client);
        return code;
    }
    (void)snprintf(client->name, sizeof(client->name), "%s", options.name); /* cut on purpose */
    client->driver = options.driver;
    client->http_version = options.http_version;
    client->fork_generation = sys_fork_generation();
    client->no_keep_alive = options.no_keep_alive;
    client->body_size_max = options.body_size_max;
    client->parser_limits = h1_response_limits_default;
    client->parser_limits.head_size_max = options.header_size_max;
    client->h2_windows = (struct h2_windows){
        .stream = options.http2_stream_window,
        .connection = options.http2_connection_window,
    };
    client_set_timeouts(client, &options);
    atomic_init(&client->tls, options.tls != NULL ? il_tls_ref(options.tls) : NULL);
    pool_init(&client->pool, &options);
    atomic_init(&client->user_count, 1);
    atomic_init(&client->memory_count, 1);
    il_list_init(&client->registry_link);
    sys_mutex_lock(&registry_mutex);
    il_list_push_back(&registry, &client->registry_link);
    sys_mutex_unlock(&registry_mutex);
    *ret_client = client;
    return IL_OK;
}

const char *il_client_name(const struct il_client *client)
{
    return client->name;
}

enum il_code client_tls(struct il_client *client, struct il_tls **ret_tls, struct il_error *err)
{
    struct il_tls *tls = atomic_load_explicit(&client->tls, memory_order_acquire);
    struct il_tls *none = NULL;

    if (tls == NULL) {
        enum il_code code = il_tls_new(NULL, &tls, err);

        if (code != IL_OK) {
            return code;
        }
        if (!atomic_compare_exchange_strong(&client->tls, &none, tls)) {
            (void)il_tls_unref(tls); /* another request was faster */
            tls = none;
        }
    }
    *ret_tls = tls;
    return IL_OK;
}

/* ---- counts ---- */

struct il_client *client_memory_ref(struct il_client *client)
{
    atomic_fetch_add_explicit(&client->memory_count, 1, memory_order_relaxed);
    return client;
}

void client_memory_unref(struct il_client *client)
{
    uint32_t before = atomic_fetch_sub_explicit(&client->memory_count, 1, memory_order_acq_rel);

    il_assert(before > 0);
    if (before == 1) {
        sys_mutex_lock(&registry_mutex);
        il_list_unlink(&client->registry_link);
        sys_mutex_unlock(&registry_mutex);
        pool_deinit(&client->pool);
        (void)il_tls_unref(atomic_load(&client->tls));
        client_free_names(client);
        il_free(client);
    }
}

struct il_client *il_client_ref(struct il_client *client)
{
    atomic_fetch_add_explicit(&client->user_count, 1, memory_order_relaxed);
    return client;
}

struct il_client *il_client_unref(struct il_client *client)
{
    uint32_t before;

    if (client == NULL) {
        return NULL;
    }
    before = atomic_fetch_sub_explicit(&client->user_count, 1, memory_order_acq_rel);
    il_assert(before > 0);
    if (before > 1) {
        return NULL;
    }
    if (client->fork_generation == sys_fork_generation() && pool_orphan(&client->pool)) {
        client_finish(client);
    } /* else the parent's: its locks may be held for ever, and its calls are not ours to end */
    return NULL;
}

void client_finish(struct il_client *client)
{
    pool_close_idle(&client->pool);
    client_memory_unref(client);
}

void client_for_each(void (*visit)(struct il_client *client, void *arg), void *arg)
{
    sys_mutex_lock(&registry_mutex);
    il_list_for_each(&registry, node)
    {
        visit(il_container_of(node, struct il_client, registry_link), arg);
    }
    sys_mutex_unlock(&registry_mutex);
}

/* ---- connections ---- */

bool client_may_share(const struct il_client *client, enum url_scheme scheme)
{
    return !client->no_keep_alive &&
           (client->http_version == IL_HTTP_2_PRIOR_KNOWLEDGE ||
            (client->http_version == IL_HTTP_AUTO && scheme == URL_HTTPS));
}

const char *client_alpn(const struct il_client *client)
{
    switch (client->http_version) {
    case IL_HTTP_1_1:
        return TLS_ALPN_HTTP_1;
    case IL_HTTP_2_PRIOR_KNOWLEDGE:
        return TLS_ALPN_HTTP_2;
    default:
        return TLS_ALPN_HTTP_2 TLS_ALPN_HTTP_1;
    }
}

void il_client_close_idle(struct il_client *client)
{
    pool_close_idle(&client->pool);
}

void client_discard(struct il_client *client, struct conn *conn)
{
    (void)pool_forget(&client->pool, conn); /* idle or not */
    conn_close(conn);
}

void client_give_back(struct il_client *client, struct conn *conn, struct il_call *call,
                      bool is_reusable, struct il_loop *loop)
{
    uint64_t timeout_ns = client->pool.idle_timeout_ns, now_ns = loop_now_ns(loop);

    if (conn_has_unsent(conn)) {
        is_reusable = false;
    }
    conn_return_kit(conn, loop);
    if (!is_reusable || client->no_keep_alive || conn->held.is_eof || conn->held.is_hung_up ||
        (conn_may_hold_input(conn) && !conn_is_fresh(conn))) {
        client_discard(client, conn);
        return;
    }
    conn_rest_in_pool(conn, timeout_ns >= UINT64_MAX - now_ns ? TIMER_NEVER : now_ns + timeout_ns);
    pool_put(&client->pool, conn, call, loop);
}

void il_client_stats(struct il_client *client, struct il_client_stats *ret_stats)
{
    pool_stats(&client->pool, ret_stats);
}
