/* conn.c: one connection. Its states and who may touch it stand in conn.h.
 *
 * Ends: conn_close(), by whoever drives it or has claimed it. */
#include "client/conn.h"

#include <errno.h>
#include <stdio.h>

#include "client/client.h"

static IL_NUMBERS _Atomic uint64_t conn_id_last;

static void conn_note(struct conn *conn, uint64_t driver_loop_id)
{
    atomic_store_explicit(&conn->since_ns, sys_now_ns(), memory_order_relaxed);
    atomic_store_explicit(&conn->driver_loop_id, driver_loop_id, memory_order_relaxed);
}

uint64_t conn_next_id(void)
{
    return atomic_fetch_add(&conn_id_last, 1) + 1;
}

/* ---- events ---- */

static void conn_on_event(struct watch *watch, uint32_t events)
{
    struct conn *conn = watch->arg;

    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        conn->held.is_readable = true;
    }
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        conn->held.is_hung_up = true;
    }
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) {
        conn->held.is_writable = true;
    }
    if (!stream_is_plain(&conn->stream) && !IL_MUTANT(TLS_ONE_WAY)) {
        /* what it waits for may come from either side */
        conn->held.is_readable = conn->held.is_writable = true;
    }
    if (conn->held.on_io != NULL) {
        conn->held.on_io(conn);
    }
}

/* An idle connection became readable, or was closed. What its stream keeps for itself does no harm;
 * whatever else it is, nobody asked for it. */
static void conn_on_event_in_pool(struct watch *watch, uint32_t events)
{
    struct conn *conn;

    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0 || !watch_claim_here(watch)) {
        return; /* only writable; or somebody has just taken it, and will see for himself */
    }
    conn = watch->arg;
    if (!stream_is_plain(&conn->stream) && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0 &&
        conn_is_fresh(conn) && pool_rest_again(&conn->client->pool, conn)) {
        return; /* a TLS session ticket, for example */
    }
    client_discard(conn->client, conn);
}

/* Nobody has wanted it for the client's idle time-out. */
static void conn_on_timeout_in_pool(struct watch *watch)
{
    if (watch_claim_here(watch)) {
        struct conn *conn = watch->arg;

        client_discard(conn->client, conn);
    }
}

/* Nobody is reading this response now. Who does will look into the socket first, until there is
 * nothing: this event may have told of its end, and does not come again. */
static void conn_on_event_with_response(struct watch *watch, uint32_t events)
{
}

/* ---- life ---- */

enum il_code conn_new(struct il_client *client, struct pool_origin *origin, struct il_loop *loop,
                      const struct stream *stream, struct conn **ret_conn, struct il_error *err)
{
    struct conn *conn = il_calloc(1, sizeof(*conn));
    enum il_code code;

    if (conn == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a connection to %s", origin->identity.host);
    }
    conn->id = conn_next_id();
    conn->stream = *stream;
    if (!stream_is_plain(stream) && (conn->tls_facts = tls_facts_new(stream)) == NULL) {
        il_free(conn);
        return il_fail(err, IL_ENOMEM, "no memory for a connection to %s", origin->identity.host);
    }
    conn->origin = origin;
    il_list_init(&conn->pooled.link);
    il_list_init(&conn->pooled.idle_link);
    il_list_init(&conn->pooled.all_link);
    code = watch_open(loop->poller, stream->fd, conn_on_event, conn_on_event_in_pool, conn,
                      &conn->held.watch, err);
    if (code != IL_OK) {
        tls_facts_unref(conn->tls_facts);
        il_free(conn);
        return code;
    }
    conn->held.is_writable = true;
    conn->client = client_memory_ref(client);
    conn_note(conn, loop->id);
    *ret_conn = conn;
    return IL_OK;
}

void conn_shut(struct conn *conn)
{
    struct watch *watch = conn->held.watch;

    if (watch != NULL) {
        if (atomic_load(&watch->state) == WATCH_GONE) {
            watch_bury(watch); /* claimed away */
        } else {
            watch_close(watch);
        }
        conn->held.watch = NULL;
    }
    stream_close(&conn->stream);
}

void conn_free(struct conn *conn)
{
    il_assert(conn->stream.fd < 0);
    il_assert(!il_list_is_linked(&conn->pooled.link));
    kit_free(conn->held.kit);
    client_memory_unref(conn->client);
    tls_facts_unref(conn->tls_facts);
    il_free(conn);
}

void conn_close(struct conn *conn)
{
    conn_shut(conn);
    conn_free(conn);
}

/* ---- resting, and being taken ---- */

bool conn_claim(struct conn *conn, const struct il_loop *loop)
{
    struct watch *watch = conn->held.watch;

    return watch->poller == loop->poller || IL_MUTANT(NOT_MOVED) ? watch_claim_here(watch)
                                                                 : watch_claim_away(watch);
}

enum il_code conn_adopt(struct conn *conn, struct il_loop *loop, struct il_error *err)
{
    struct watch *old = conn->held.watch;
    enum il_code code;

    if (atomic_load(&old->state) == WATCH_GONE) {
        conn->held.watch = NULL;
        watch_bury(old);
        /* The new set reports what is in the socket; nothing that came before is missed. */
        code = watch_open(loop->poller, conn->stream.fd, conn_on_event, conn_on_event_in_pool, conn,
                          &conn->held.watch, err);
        if (code != IL_OK) {
            return code;
        }
        conn->held.is_readable = !stream_is_plain(&conn->stream); /* a filter may hold something */
    }
    conn->held.is_writable = true;
    conn_note(conn, loop->id);
    return IL_OK;
}

static void conn_rest(struct conn *conn, uint64_t deadline_ns,
                      void (*on_event)(struct watch *watch, uint32_t events))
{
    conn->held.on_io = NULL;
    conn->held.arg = NULL;
    conn->held.watch->on_rest_event = on_event;
    conn_note(conn, 0);
    atomic_store_explicit(&conn->is_exchanging, false, memory_order_relaxed);
    watch_rest(conn->held.watch, deadline_ns);
}

void conn_rest_in_pool(struct conn *conn, uint64_t deadline_ns)
{
    conn->held.watch->on_rest_timeout = conn_on_timeout_in_pool;
    conn_rest(conn, deadline_ns, conn_on_event_in_pool);
}

void conn_rest_with_response(struct conn *conn)
{
    conn_rest(conn, TIMER_NEVER, conn_on_event_with_response);
    atomic_store_explicit(&conn->unread_since_ns,
                          il_max_u64(atomic_load(&conn->since_ns), CONN_UNREAD_MIN),
                          memory_order_release); /* from here on it may be taken away */
}

bool conn_read_again(struct conn *conn)
{
    uint64_t since_ns = atomic_load_explicit(&conn->unread_since_ns, memory_order_acquire);

    return since_ns >= CONN_UNREAD_MIN &&
           atomic_compare_exchange_strong(&conn->unread_since_ns, &since_ns, CONN_READ);
}

bool conn_take_unread(struct conn *conn, uint64_t since_ns)
{
    if (!atomic_compare_exchange_strong(&conn->unread_since_ns, &since_ns, CONN_TAKEN)) {
        return false;
    }
    il_assert(watch_claim_away(conn->held.watch)); /* it rested, and its reader stays away now */
    return true;
}

void conn_shut_taken(struct conn *conn)
{
    conn_shut(conn);
    if (atomic_exchange(&conn->unread_since_ns, CONN_SHUT) == CONN_LEFT) {
        conn_free(conn);
    }
}

void conn_leave(struct conn *conn)
{
    if (atomic_exchange(&conn->unread_since_ns, CONN_LEFT) == CONN_SHUT) {
        conn_free(conn);
    }
}

bool conn_is_fresh(struct conn *conn)
{
    return stream_is_quiet(&conn->stream) || IL_MUTANT(LEFTOVERS);
}

bool conn_may_hold_input(const struct conn *conn)
{
    return conn->held.is_readable || stream_holds_input(&conn->stream);
}

/* ---- input and output ---- */

bool conn_borrow_kit(struct conn *conn, struct il_loop *loop)
{
    if (conn->held.kit == NULL) {
        conn->held.kit = kit_take(loop, &conn->client->parser_limits);
    }
    return conn->held.kit != NULL;
}

void conn_return_kit(struct conn *conn, struct il_loop *loop)
{
    struct kit *kit = conn->held.kit;

    if (kit != NULL) {
        conn->held.kit = NULL;
        kit_give(loop, kit);
    }
}

static size_t conn_out_size(const struct conn *conn)
{
    return conn->held.kit == NULL ? 0 : il_bytes_size(&conn->held.kit->out);
}

bool conn_has_unsent(const struct conn *conn)
{
    return conn_out_size(conn) > 0 || conn->held.body_size > 0;
}

static void conn_consume_sent(struct conn *conn, size_t size)
{
    size_t from_out = (size_t)il_min_u64(size, conn_out_size(conn));

    if (from_out > 0) {
        il_bytes_consume(&conn->held.kit->out, from_out);
    }
    if (size > from_out) {
        conn->held.body += size - from_out;
        conn->held.body_size -= size - from_out;
    }
}

enum conn_io conn_send(struct conn *conn, size_t *ret_sent, int *ret_errno)
{
    *ret_sent = 0;
    while (conn_has_unsent(conn)) {
        struct iovec parts[2];
        int part_count = 0;
        ssize_t sent;

        if (conn_out_size(conn) > 0) {
            parts[part_count].iov_base = (void *)il_bytes_data(&conn->held.kit->out);
            parts[part_count++].iov_len = conn_out_size(conn);
        }
        if (conn->held.body_size > 0) {
            parts[part_count].iov_base = (void *)conn->held.body;
            parts[part_count++].iov_len = conn->held.body_size;
        }
        sent = stream_send(&conn->stream, parts, part_count);
        if (sent == -EAGAIN) {
            conn->held.is_writable = false;
            return CONN_BLOCKED;
        }
        if (sent < 0) {
            *ret_errno = (int)-sent;
            return CONN_FAILED;
        }
        conn_consume_sent(conn, (size_t)sent);
        *ret_sent += (size_t)sent;
    }
    return CONN_DONE;
}

enum conn_io conn_receive(struct conn *conn, void *bytes, size_t size, size_t *ret_received,
                          int *ret_errno)
{
    ssize_t got;

    if (!conn->held.is_readable) {
        return CONN_BLOCKED;
    }
    got = stream_receive(&conn->stream, bytes, size);
    if (got == -EAGAIN) {
        conn->held.is_readable = conn->held.was_unheard = false;
        return CONN_BLOCKED;
    }
    if (got < 0 && !(IL_MUTANT(TLS_CUT) && stream_failure(&conn->stream) != NULL)) {
        *ret_errno = (int)-got;
        return CONN_FAILED;
    }
    if (got <= 0) {
        conn->held.is_eof = true;
        return CONN_EOF;
    }
    if (!conn->held.is_hung_up && !conn->held.was_unheard &&
        (stream_is_plain(&conn->stream) || IL_MUTANT(TLS_DRAINED)
             ? (size_t)got < size
             : stream_is_drained(&conn->stream))) {
        conn->held.is_readable = false; /* it is empty now; more, or its end, will be an event */
    }
    *ret_received = (size_t)got;
    return CONN_DONE;
}

enum il_code conn_fail(const struct conn *conn, int sys_errno, const char *when,
                       struct il_error *err)
{
    const struct il_error *failure = stream_failure(&conn->stream);

    if (failure != NULL) {
        *err = *failure;
        return err->code;
    }
    return il_fail_errno(err, IL_EPEERCLOSED, sys_errno, "the connection broke%s", when);
}

const char *conn_text(const struct conn *conn, char text[static CONN_TEXT_SIZE])
{
    (void)snprintf(text, CONN_TEXT_SIZE, "%s:%u (connection %llu)", conn->origin->identity.host,
                   conn->origin->identity.port, (unsigned long long)conn->id);
    return text;
}
