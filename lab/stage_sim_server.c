/* stage_sim_server.c: the opposite side in a simulated world: a server as a state machine
 * (sim_service), which knows those paths of the lab's server that causes and workloads use:
 *
 *     /id/TOKEN          TOKEN as the body
 *     /bytes/N?seed=S    N bytes of the pattern; pause_at=K, pause_hold=GATE
 *     anything else      "hello\n"
 *
 * and for each hold=GATE: answers when that gate is released. It takes requests with a body too, by
 * Content-Length or chunked, and reads it to its end; every fourth answer of its own is chunked.
 * Unless the run has faults of the kind, it answers at once and correctly. With them it answers
 * late, twice, never, or closes an idle connection. Here is HTTP/1.1; a connection that begins with
 * HTTP/2's preface is stage_sim_h2.c's. One that begins with a TLS handshake has TLS in between
 * (sim/tls.h), and its protocol is agreed upon there; with until=close an answer then ends with its
 * connection.
 *
 * Threads: the world's, for what arrives; simulated ones, for control. Either runs alone.
 * Ends: sim_server_stop() closes all connections; what they are still about frees the last of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/server.h"
#include "lab/stage_sim_inside.h"

#define HEAD_BYTES_MAX 65536
#define BYTES_PIECE    16384

static void conn_work(struct conn *conn);

/* ---- gates and queries ---- */

struct gate *server_gate(struct stage_server *server, const char *name, size_t length)
{
    struct gate *gate;

    for (unsigned i = 0; i < server->gate_count; i++) {
        gate = &server->gates[i];
        if (strlen(gate->name) == length && memcmp(gate->name, name, length) == 0) {
            return gate;
        }
    }
    if (server->gate_count == GATES_MAX || length >= GATE_NAME_SIZE) {
        return NULL;
    }
    gate = &server->gates[server->gate_count++];
    memcpy(gate->name, name, length);
    return gate;
}

/* The value of `name` in the target's query; NULL: it has none. */
static const char *target_value(const char *target, const char *name, size_t *ret_length)
{
    const char *at = strchr(target, '?');
    size_t length = strlen(name);

    while (at != NULL) {
        at++;
        if (strncmp(at, name, length) == 0 && at[length] == '=') {
            at += length + 1;
            *ret_length = strcspn(at, "&");
            return at;
        }
        at = strchr(at, '&');
    }
    return NULL;
}

uint64_t target_number(const char *target, const char *name, uint64_t otherwise)
{
    size_t length;
    const char *value = target_value(target, name, &length);

    return value != NULL ? strtoull(value, NULL, 10) : otherwise;
}

struct gate *target_gate(struct stage_server *server, const char *target, const char *name)
{
    size_t length;
    const char *value = target_value(target, name, &length);

    return value != NULL ? server_gate(server, value, length) : NULL;
}

size_t target_body(const char *target, char body[static TARGET_SIZE])
{
    size_t length = strlen("hello\n");

    memcpy(body, "hello\n", length);
    if (strncmp(target, "/id/", 4) == 0) {
        length = strcspn(target + 4, "?");
        memcpy(body, target + 4, length);
    }
    return length;
}

bool target_is_odd(const struct stage_server *server, const char *target)
{
    uint64_t hash = lab_hash(LAB_HASH_INIT, target, strlen(target));

    return (hash ^ server->port) % 4 == 0;
}

/* ---- the end of a connection ---- */

static bool is_busy(const struct conn *conn)
{
    return conn->state == CONN_HELD || conn->state == CONN_ANSWERING || conn->state == CONN_PAUSED;
}

static void queue_next(struct stage_server *server);

/* We say goodbye, or the client did. */
static void conn_end(struct conn *conn)
{
    bool was_busy = is_busy(conn);

    if (conn->state != CONN_GONE) {
        conn->state = CONN_GONE;
        conn->server->counts.open--;
        conn->server->counts.answering -= was_busy;
        sim_alarm_unset(&conn->alarm);
        if (conn->h2 != NULL) {
            h2_conn_stop(conn->h2);
        }
        if (conn->tls != NULL) {
            sim_tls_stop(conn->tls);
        }
        if (was_busy) {
            queue_next(conn->server);
        }
        sim_changed();
    }
}

void sim_conn_close(struct conn *conn)
{
    if (conn->tls != NULL) {
        sim_tls_close(conn->tls);
    }
    sim_link_close(conn->link);
    conn_end(conn);
}

void sim_conn_reset(struct conn *conn)
{
    sim_link_reset(conn->link);
    conn_end(conn);
}

void sim_conn_fin(struct conn *conn)
{
    if (conn->tls != NULL) {
        sim_tls_fin(conn->tls);
    } else {
        sim_link_fin(conn->link);
    }
}

void server_free_if_done(struct stage_server *server)
{
    if (server->is_stopped && server->conns == NULL) {
        free(server);
    }
}

static void on_closed(struct sim_link *link)
{
    struct conn *conn = sim_link_context(link);
    struct stage_server *server = conn->server;

    conn_end(conn);
    for (struct conn **at = &server->conns; *at != NULL; at = &(*at)->next) {
        if (*at == conn) {
            *at = conn->next;
            break;
        }
    }
    h2_conn_free(conn->h2);
    sim_tls_free(conn->tls);
    free(conn->bytes);
    free(conn);
    server_free_if_done(server);
}

static void on_end(struct sim_link *link)
{
    sim_conn_close(sim_link_context(link));
}

/* ---- sending ---- */

void sim_conn_send(struct conn *conn, const char *bytes, size_t size)
{
    if (conn->tls != NULL) {
        sim_tls_send(conn->tls, bytes, size);
    } else {
        sim_link_send(conn->link, bytes, size);
    }
}

void sim_conn_send_whole(struct conn *conn, const char *bytes, size_t size)
{
    if (conn->tls != NULL) {
        sim_tls_send_whole(conn->tls, bytes, size);
    } else {
        sim_link_send_whole(conn->link, bytes, size);
    }
}

/* ---- answering ---- */

static void conn_on_idle_alarm(struct conn *conn)
{
    if (sim_draw(2) == 0) {
        sim_conn_close(conn);
    } else {
        sim_conn_reset(conn);
    }
}

static void conn_become_idle(struct conn *conn)
{
    conn->state = CONN_IDLE;
    conn->server->counts.answering--;
    if (sim_fault(SIM_FAULT_CLOSE_IDLE)) {
        sim_alarm_set(&conn->alarm, sim_draw(IDLE_NS_MAX));
    }
    queue_next(conn->server);
    sim_changed();
}

/* The body ends with the connection, which only TLS can tell from a body that was cut off. */
static bool answers_until_close(const struct conn *conn)
{
    size_t length;

    return conn->tls != NULL && !conn->is_head &&
           target_value(conn->target, "until", &length) != NULL;
}

/* Every fourth answer comes in chunks. */
static bool answers_in_chunks(const struct conn *conn)
{
    return target_is_odd(conn->server, conn->target) && !answers_until_close(conn);
}

static void conn_leave(struct conn *conn)
{
    conn->state = CONN_LEAVING;
    conn->server->counts.answering--;
    sim_conn_fin(conn);
    queue_next(conn->server);
    sim_changed();
}

static size_t frame_small(const struct conn *conn, const char *body, size_t length, char *text,
                          size_t size)
{
    int shown = conn->is_head ? 0 : (int)length;

    if (answers_until_close(conn)) {
        return (size_t)snprintf(text, size, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%.*s",
                                shown, body);
    }
    if (!answers_in_chunks(conn) || length < 2) { /* too short for two chunks */
        return (size_t)snprintf(text, size,
                                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                                "Content-Length: %zu\r\n\r\n%.*s",
                                length, shown, body);
    }
    if (conn->is_head) {
        return (size_t)snprintf(text, size,
                                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    }
    return (size_t)snprintf(text, size,
                            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                            "1\r\n%.1s\r\n%zx;part=2\r\n%.*s\r\n0\r\n\r\n",
                            body, length - 1, shown - 1, body + 1);
}

static void conn_send_small(struct conn *conn)
{
    char text[2 * (TARGET_SIZE + 128)], body[TARGET_SIZE];
    size_t length = target_body(conn->target, body), used;

    used = frame_small(conn, body, length, text, sizeof(text) / 2);
    if (!answers_until_close(conn) && sim_fault(SIM_FAULT_TWICE)) {
        /* Both arrive at once. A second one that came later, when the next request is on its way,
         * could be told from the answer by nobody. */
        memcpy(text + used, text, used);
        sim_conn_send_whole(conn, text, 2 * used);
    } else {
        sim_conn_send(conn, text, used);
    }
}

static void conn_send_head_of_bytes(struct conn *conn)
{
    char text[128];

    if (answers_until_close(conn)) {
        (void)snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    } else if (answers_in_chunks(conn)) {
        (void)snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    } else {
        (void)snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n\r\n",
                       (unsigned long long)conn->bytes_end);
    }
    sim_conn_send(conn, text, strlen(text));
}

static void conn_send_piece(struct conn *conn, size_t size)
{
    char piece[BYTES_PIECE + 32];
    size_t head = 0;

    if (answers_in_chunks(conn)) {
        head = (size_t)snprintf(piece, 16, "%zx\r\n", size);
        memcpy(piece + head + size, "\r\n", 2);
    }
    lab_pattern_fill(piece + head, size, conn->seed, conn->bytes_sent);
    sim_conn_send(conn, piece, head > 0 ? head + size + 2 : size);
    conn->bytes_sent += size;
}

static void conn_send_bytes(struct conn *conn)
{
    uint64_t pause_at = target_number(conn->target, "pause_at", conn->bytes_end / 2);
    struct gate *gate = target_gate(conn->server, conn->target, "pause_hold");
    bool pauses = gate != NULL && !gate->is_open && !conn->has_paused;
    uint64_t until = pauses && pause_at < conn->bytes_end ? pause_at : conn->bytes_end;

    while (conn->bytes_sent < until && conn->state == CONN_ANSWERING) {
        uint64_t left = until - conn->bytes_sent;

        conn_send_piece(conn, left < BYTES_PIECE ? left : BYTES_PIECE);
    }
    if (!pauses && answers_in_chunks(conn)) {
        sim_conn_send(conn, "0\r\n\r\n", 5);
    }
    if (pauses) {
        conn->state = CONN_PAUSED;
        conn->has_paused = true;
        conn->gate = gate;
        sim_changed();
    }
}

void conn_answer(struct conn *conn)
{
    conn->state = CONN_ANSWERING;
    if (strncmp(conn->target, "/bytes/", 7) == 0) {
        if (conn->bytes_sent == 0 && !conn->has_paused) {
            conn->bytes_end = strtoull(conn->target + 7, NULL, 10);
            conn->seed = target_number(conn->target, "seed", 0);
            conn_send_head_of_bytes(conn);
        }
        if (!conn->is_head) {
            conn_send_bytes(conn);
        }
    } else {
        conn_send_small(conn);
    }
    if (conn->state == CONN_ANSWERING && answers_until_close(conn)) {
        conn_leave(conn);
    } else if (conn->state == CONN_ANSWERING) {
        conn_become_idle(conn);
        conn_work(conn);
    }
}

static void conn_on_alarm(struct sim_alarm *alarm)
{
    struct conn *conn = (struct conn *)(void *)((char *)alarm - offsetof(struct conn, alarm));

    if (conn->state == CONN_IDLE) {
        conn_on_idle_alarm(conn);
    } else if (conn->state == CONN_ANSWERING && conn->is_never) {
        sim_conn_reset(conn);
    } else if (conn->state == CONN_ANSWERING) {
        conn_answer(conn);
    }
}

/* The gate is open, if there was one: answer now, later, or never. */
void conn_pass(struct conn *conn)
{
    conn->state = CONN_ANSWERING;
    conn->gate = NULL;
    if (sim_fault(SIM_FAULT_NEVER)) {
        conn->is_never = true;
        sim_alarm_set(&conn->alarm, NEVER_NS);
        return;
    }
    if (sim_fault(SIM_FAULT_LATE)) {
        sim_alarm_set(&conn->alarm, sim_draw(LATE_NS_MAX));
    } else {
        conn_answer(conn);
    }
}

static void conn_begin_answer(struct conn *conn)
{
    conn->server->counts.answering++;
    conn->gate = target_gate(conn->server, conn->target, "hold");
    if (conn->gate != NULL && !conn->gate->is_open) {
        conn->state = CONN_HELD;
        sim_changed();
    } else {
        conn_pass(conn);
    }
}

static bool may_answer(const struct stage_server *server)
{
    return !server->is_stopped &&
           (server->answering_max == 0 || server->counts.answering < server->answering_max);
}

static void queue_next(struct stage_server *server)
{
    struct conn *first = NULL;

    for (struct conn *conn = server->conns; conn != NULL; conn = conn->next) {
        if (conn->state == CONN_QUEUED && (first == NULL || conn->sequence < first->sequence)) {
            first = conn;
        }
    }
    if (first != NULL && may_answer(server)) {
        conn_begin_answer(first);
    }
}

struct seen *server_seen_find(struct stage_server *server, const char *path, size_t length)
{
    for (unsigned i = 0; i < server->seen_count; i++) {
        if (strlen(server->seen[i].path) == length &&
            memcmp(server->seen[i].path, path, length) == 0) {
            return &server->seen[i];
        }
    }
    return NULL;
}

struct seen *server_seen(struct stage_server *server, const char *target)
{
    size_t length = strcspn(target, "?");
    struct seen *seen = server_seen_find(server, target, length);

    if (seen == NULL && server->seen_count < SEEN_MAX && length < SEEN_SIZE) {
        seen = &server->seen[server->seen_count++];
        memcpy(seen->path, target, length);
    }
    return seen;
}

uint64_t server_note_request(struct stage_server *server, const char *target)
{
    struct seen *seen = server_seen(server, target);

    if (seen != NULL) {
        seen->count++;
    }
    return ++server->counts.requests;
}

void server_complain(struct stage_server *server, const char *what)
{
    sim_note("server: %s", what);
    server->counts.complaints++;
}

static void conn_on_request(struct conn *conn)
{
    conn->sequence = server_note_request(conn->server, conn->target);
    conn->bytes_sent = 0;
    conn->has_paused = false;
    if (may_answer(conn->server)) {
        conn_begin_answer(conn);
    } else {
        conn->state = CONN_QUEUED;
    }
}

/* ---- receiving ---- */

static void conn_consume(struct conn *conn, size_t size)
{
    memmove(conn->bytes, conn->bytes + size, conn->size - size);
    conn->size -= size;
    conn->bytes[conn->size] = '\0';
}

/* "name: value" among the headers; NULL: not there. Ours writes them in one way only. */
static const char *header_value(const char *head, const char *end, const char *name)
{
    size_t length = strlen(name);

    for (const char *line = strstr(head, "\r\n"); line != NULL && line < end;
         line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':') {
            return line + 2 + length + 1;
        }
    }
    return NULL;
}

static void conn_take_head(struct conn *conn, const char *end)
{
    const char *target = strchr(conn->bytes, ' '), *value;
    size_t length = target != NULL ? strcspn(target + 1, " \r") : 0;

    if (target == NULL || length >= TARGET_SIZE) {
        sim_conn_close(conn);
        return;
    }
    memcpy(conn->target, target + 1, length);
    conn->target[length] = '\0';
    conn->is_head = strncmp(conn->bytes, "HEAD ", 5) == 0;
    value = header_value(conn->bytes, end, "content-length");
    conn->body_left = value != NULL ? strtoull(value, NULL, 10) : 0;
    conn->is_chunked = header_value(conn->bytes, end, "transfer-encoding") != NULL;
    conn->state = CONN_RECEIVING;
    conn_consume(conn, (size_t)(end - conn->bytes) + 4);
}

/* True when the body is whole. */
static bool conn_take_chunks(struct conn *conn)
{
    for (;;) {
        char *line_end = strstr(conn->bytes, "\r\n");
        size_t size, whole;

        if (line_end == NULL) {
            return false;
        }
        size = strtoull(conn->bytes, NULL, 16);
        whole = (size_t)(line_end - conn->bytes) + 2 + size + 2;
        if (conn->size < whole) {
            return false;
        }
        conn_consume(conn, whole);
        if (size == 0) {
            return true;
        }
    }
}

static bool conn_take_body(struct conn *conn)
{
    uint64_t part = conn->body_left < conn->size ? conn->body_left : conn->size;

    if (conn->is_chunked) {
        return conn_take_chunks(conn);
    }
    conn_consume(conn, part);
    conn->body_left -= part;
    return conn->body_left == 0;
}

static void conn_work(struct conn *conn)
{
    if (conn->state == CONN_IDLE && conn->size > 0) {
        char *end = strstr(conn->bytes, "\r\n\r\n");

        sim_alarm_unset(&conn->alarm);
        if (end != NULL) {
            conn_take_head(conn, end);
        } else if (conn->size > HEAD_BYTES_MAX) {
            sim_conn_close(conn);
        }
    }
    if (conn->state == CONN_RECEIVING && conn_take_body(conn)) {
        conn_on_request(conn);
    }
}

static void conn_turn_to_h2(struct conn *conn)
{
    conn->state = CONN_SHARED;
    conn->h2 = h2_conn_new(conn->server, conn);
    h2_conn_feed(conn->h2, conn->bytes, conn->size);
    conn->size = 0;
}

static void conn_keep(struct conn *conn, const char *bytes, size_t size)
{
    conn->bytes = realloc(conn->bytes, conn->size + size + 1);
    if (conn->bytes == NULL) {
        abort();
    }
    memcpy(conn->bytes + conn->size, bytes, size);
    conn->size += size;
    conn->bytes[conn->size] = '\0';
}

static void conn_on_bytes(void *arg, const char *bytes, size_t size)
{
    struct conn *conn = arg;
    bool is_preface;

    if (conn->state == CONN_GONE || conn->state == CONN_LEAVING) {
        return;
    }
    if (conn->h2 != NULL) {
        h2_conn_feed(conn->h2, bytes, size);
        return;
    }
    conn_keep(conn, bytes, size);
    is_preface = conn->size >= 3 && memcmp(conn->bytes, "PRI", 3) == 0 && conn->state == CONN_IDLE;
    if (is_preface && conn->tls != NULL) { /* with h2 it would not have come here */
        server_complain(conn->server, "HTTP/2, which was not agreed upon");
        sim_conn_close(conn);
    } else if (is_preface) {
        conn_turn_to_h2(conn);
    } else {
        conn_work(conn);
    }
}

/* ---- TLS ---- */

static void conn_on_ready(void *arg)
{
    struct conn *conn = arg;

    conn->is_open = true;
    if (conn->state == CONN_IDLE && strcmp(sim_tls_protocol(conn->tls), "h2") == 0) {
        conn_turn_to_h2(conn);
    }
    sim_changed();
}

static void conn_on_end(void *arg)
{
    sim_conn_close(arg);
}

static void conn_on_wrong(void *arg, const char *what)
{
    struct conn *conn = arg;

    server_complain(conn->server, what);
}

static const struct sim_tls_events tls_events = { .on_ready = conn_on_ready,
                                                  .on_bytes = conn_on_bytes,
                                                  .on_end = conn_on_end,
                                                  .on_wrong = conn_on_wrong };

/* ---- what the network brings ---- */

static void on_bytes(struct sim_link *link, const char *bytes, size_t size)
{
    struct conn *conn = sim_link_context(link);

    if (conn->state == CONN_GONE) {
        return;
    }
    if (!conn->is_known) {
        conn->is_known = true;
        if (sim_tls_begins(bytes, size)) {
            conn->is_open = false;
            conn->tls = sim_tls_new(&conn->server->tls, link, &tls_events, conn);
        }
    }
    if (conn->tls != NULL) {
        sim_tls_feed(conn->tls, bytes, size);
    } else {
        conn_on_bytes(conn, bytes, size);
    }
}

static void on_open(struct sim_service *service, struct sim_link *link)
{
    struct stage_server *server = (struct stage_server *)(void *)service; /* its first member */
    struct conn *conn = calloc(1, sizeof(*conn));

    if (conn == NULL) {
        abort();
    }
    conn->server = server;
    conn->link = link;
    conn->is_open = true;
    conn->alarm.ring = conn_on_alarm;
    conn->next = server->conns;
    server->conns = conn;
    server->counts.open++;
    server->counts.accepted++;
    sim_link_set_context(link, conn);
}

/* ---- its life ---- */

enum il_code sim_server_start(uint64_t answering_max, bool has_tls,
                              struct stage_server **ret_server, struct il_error *err)
{
    struct stage_server *server;

    (void)has_tls; /* it sees what comes */
    server = calloc(1, sizeof(*server));
    sim_step();
    if (server == NULL) {
        *err = (struct il_error){ .code = IL_ENOMEM, .message = "no memory for a server" };
        return IL_ENOMEM;
    }
    server->service = (struct sim_service){
        .on_open = on_open, .on_bytes = on_bytes, .on_end = on_end, .on_closed = on_closed
    };
    server->answering_max = answering_max;
    server->port = sim_listen(&server->service);
    *ret_server = server;
    return IL_OK;
}

const char *sim_server_ca(const struct stage_server *server)
{
    return NULL; /* its certificates are good or bad without being anybody's */
}

void sim_server_stop(struct stage_server *server)
{
    if (server == NULL) {
        return;
    }
    sim_step();
    sim_listen_stop(server->port);
    server->is_stopped = true;
    for (struct conn *conn = server->conns; conn != NULL; conn = conn->next) {
        sim_conn_close(conn);
    }
    server_free_if_done(server);
}

uint16_t sim_server_port(const struct stage_server *server)
{
    return server->port;
}
