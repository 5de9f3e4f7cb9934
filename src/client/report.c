/* report.c: what a client can say of its calls and connections, for reports.
 *
 * Under the pool's mutexes things are copied, and sockets are asked how much lies in them: whoever
 * closes a socket takes it off the pool's list first, so its number is still its own.
 * Threads: any. */
#include <netinet/in.h>
#include <stdio.h>

#include "client/call.h"
#include "client/drivers.h"
#include "client/session.h"
#include "rt/rt.h"

static uint32_t ms_since(uint64_t now_ns, uint64_t since_ns)
{
    return since_ns == 0 || now_ns < since_ns ? 0
                                              : (uint32_t)((now_ns - since_ns) / LOOP_NS_PER_MS);
}

static void copy_text(char *to, size_t size, const char *from)
{
    (void)snprintf(to, size, "%s", from); /* cut on purpose */
}

/* Does the client let those who wait have what nobody makes use of? */
static bool gives_way(const struct il_client *client)
{
    return client->driver == IL_DRIVER_CALLER && client->pool.unread_timeout_ns != UINT64_MAX;
}

/* ---- calls ---- */

static void copy_path(char *to, size_t size, const char *path_and_query)
{
    size_t length = strcspn(path_and_query, "?"); /* a query may hold secrets */

    (void)snprintf(to, size, "%.*s", (int)il_min_u64(length, size), path_and_query);
}

void client_describe_request(const struct il_request *request, struct il_watch_request *view)
{
    copy_text(view->method, sizeof(view->method), request->method);
    copy_text(view->host, sizeof(view->host), request->url.host);
    view->port = request->url.port;
    copy_path(view->path, sizeof(view->path), request->url.path_and_query);
}

static void report_call(struct il_client *client, struct il_call *call, uint64_t now_ns,
                        struct client_call_report *copy)
{
    struct il_watch_request *view = &copy->view;

    memset(copy, 0, sizeof(*copy));
    view->id = call->id;
    copy_text(view->client, sizeof(view->client), client->name);
    client_describe_request(call->request, view);
    if (call->party != NULL) {
        rt_party_describe(call->party, view->waiter, sizeof(view->waiter));
    } else {
        (void)snprintf(view->waiter, sizeof(view->waiter), "callback on '%s'", call->home->name);
    }
    view->phase = (enum il_phase)atomic_load(&call->phase);
    copy->phase_since_ns = atomic_load(&call->phase_since_ns);
    view->phase_ms = ms_since(now_ns, copy->phase_since_ns);
    view->age_ms = ms_since(now_ns, atomic_load(&call->started_ns));
    view->connection_id = atomic_load(&call->conn_id);
    copy->home_loop_id = call->home->id;
    copy->task_id = atomic_load(&call->task_id);
    copy->client = client;
    copy->gives_way = gives_way(client);
}

/* ---- connections ---- */

static uint16_t address_port(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET) {
        return ntohs(((const struct sockaddr_in *)address)->sin_port);
    }
    return address->ss_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)address)->sin6_port)
                                          : 0;
}

static void report_socket(struct il_watch_connection *view, int fd)
{
    struct sockaddr_storage local, peer;
    int unread, unsent;

    if (fd < 0) {
        return; /* closed, and still listed for a moment */
    }
    unread = sys_socket_bytes_unread(fd);
    unsent = sys_socket_bytes_unsent(fd);
    view->bytes_unread = unread > 0 ? (uint32_t)unread : 0;
    view->bytes_unsent = unsent > 0 ? (uint32_t)unsent : 0;
    if (sys_socket_names(fd, &local, &peer) == 0) {
        view->local_port = address_port(&local);
    }
}

/* What is the same for every kind of connection; since_ns is there already. */
static void report_any(struct il_client *client, uint64_t id, const struct pool_origin *origin,
                       uint64_t now_ns, struct client_conn_report *copy)
{
    struct il_watch_connection *view = &copy->view;

    copy->client = client;
    view->id = id;
    copy_text(view->client, sizeof(view->client), client->name);
    copy_text(view->host, sizeof(view->host), origin->identity.host);
    view->port = origin->identity.port;
    view->since_ms = ms_since(now_ns, copy->since_ns);
}

static void report_conn(struct il_client *client, struct conn *conn, uint64_t now_ns,
                        struct client_conn_report *copy)
{
    const char *state;

    memset(copy, 0, sizeof(*copy));
    copy->is_bound = conn->bound != NULL;
    copy->is_idle = atomic_load(&conn->pooled.is_idle);
    copy->is_exchanging = atomic_load(&conn->is_exchanging);
    copy->loop_id = copy->is_bound ? bound_loop(conn)->id : atomic_load(&conn->driver_loop_id);
    copy->since_ns = atomic_load(&conn->since_ns);
    copy->unread_since_ns = atomic_load(&conn->unread_since_ns);
    if (copy->unread_since_ns < CONN_UNREAD_MIN || copy->is_idle ||
        (copy->is_bound && !copy->is_exchanging)) {
        copy->unread_since_ns = 0;
    }
    copy->gives_way = gives_way(client);
    state = copy->is_idle ? "idle" : copy->loop_id != 0 ? "driven" : "with a response";
    copy_text(copy->view.state, sizeof(copy->view.state), state);
    report_any(client, conn->id, conn->origin, now_ns, copy);
    report_socket(&copy->view, conn->stream.fd);
}

/* Can no place become free but by what the owners of the streams do? */
static void report_owners(struct session *session, struct client_conn_report *copy)
{
    struct session_owners owners;

    _Static_assert(CLIENT_OWNERS_MAX == SESSION_OWNERS_MAX, "all that are found are told");
    session_find_owners(session, &owners);
    copy->is_owners = owners.stream_count > 0 &&
                      owners.stream_count >= atomic_load(&session->pooled.slot_count) &&
                      owners.loop_count <= CLIENT_OWNERS_MAX;
    copy->owner_loop_count = copy->is_owners ? owners.loop_count : 0;
    copy->gives_way = owners.unread_count > 0 && gives_way(session->client);
    memcpy(copy->owner_loop_ids, owners.loop_ids, sizeof(owners.loop_ids));
}

static void report_session(struct il_client *client, struct session *session, uint64_t now_ns,
                           struct client_conn_report *copy)
{
    uint32_t slot_count = atomic_load(&session->pooled.slot_count);

    memset(copy, 0, sizeof(*copy));
    copy->is_bound = session->driver != NULL;
    copy->is_shared = !copy->is_bound;
    copy->is_idle = slot_count == 0;
    copy->is_exchanging = !atomic_load(&session->is_unsent);
    copy->loop_id = copy->is_bound ? session->driver->id : 0;
    copy->is_window_used_up = copy->is_bound && atomic_load(&session->window_left) == 0;
    copy->hoarder_loop_id = atomic_load(&session->hoarder_loop_id);
    copy->since_ns = session->opened_ns;
    report_owners(session, copy);
    (void)snprintf(copy->view.state, sizeof(copy->view.state), "%u stream%s", slot_count,
                   il_plural(slot_count));
    report_any(client, session->id, session->pooled.origin, now_ns, copy);
    /* Who ends a session closes its socket before the pool hears of it: the number could be
     * another's by the time that it is asked. */
    session_lock(session);
    report_socket(&copy->view, atomic_load(&session->fd));
    session_unlock_unchanged(session);
}

/* ---- a client ---- */

void client_report(struct il_client *client, uint64_t now_ns,
                   const struct client_reporter *reporter)
{
    struct client_call_report call;
    struct client_conn_report conn;

    pool_lock_all(&client->pool);
    for (unsigned i = 0; i < POOL_SHELF_COUNT; i++) {
        il_list_for_each(&client->pool.shelves[i].calls, node)
        {
            report_call(client, il_container_of(node, struct il_call, pool_link), now_ns, &call);
            reporter->on_call(&call, reporter->arg);
        }
    }
    il_list_for_each(&client->pool.connections, node)
    {
        report_conn(client, il_container_of(node, struct conn, pooled.link), now_ns, &conn);
        reporter->on_conn(&conn, reporter->arg);
    }
    il_list_for_each(&client->pool.sessions, node)
    {
        report_session(client, il_container_of(node, struct session, pooled.link), now_ns, &conn);
        reporter->on_conn(&conn, reporter->arg);
    }
    pool_unlock_all(&client->pool);
}
