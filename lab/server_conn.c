/* server_conn.c: one connection, from accept to close.
 *
 * A connection that turns out to speak HTTP/2 is a carrier: its streams are connections without a
 * socket (server_stream.c), which live by the same rules, and it is busy while it has some.
 *
 * A connection reads until its parser pauses, runs the script that the behaviour wrote, and reads
 * on. Whatever it must wait for (room to send, time, a gate, a slot) is in conn->wait, and the
 * event that ends the wait calls conn_go_on().
 * Owns: the descriptor, and its place in epoll. Threads: the server's.
 * Ends: conn_close() closes the descriptor at once; the memory goes at the end of the turn, since
 *   events of the same turn may still name it. */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lab/server_inside.h"

#define CONN_TO(state) (1u << (state))

/*  accept --> IDLE --> RECEIVING <--> ANSWERING --> IDLE     RECEIVING again after a script that
 *              |           |              |  |               ran before the body was read;
 *              +-----------+--------------+  +--> LINGERING  IDLE --> LINGERING for a carrier
 *                          v                          |
 *                        CLOSED <---------------------+
 */
static const unsigned conn_next[CONN_STATE_COUNT] = {
    [CONN_IDLE] = CONN_TO(CONN_RECEIVING) | CONN_TO(CONN_LINGERING) | CONN_TO(CONN_CLOSED),
    [CONN_RECEIVING] = CONN_TO(CONN_ANSWERING) | CONN_TO(CONN_CLOSED),
    [CONN_ANSWERING] = CONN_TO(CONN_IDLE) | CONN_TO(CONN_RECEIVING) | CONN_TO(CONN_LINGERING) |
                       CONN_TO(CONN_CLOSED),
    [CONN_LINGERING] = CONN_TO(CONN_CLOSED),
    [CONN_CLOSED] = 0,
};

static void conn_set_state(struct conn *conn, enum conn_state to)
{
    struct lab_server *server = conn->server;

    il_assert(to < CONN_STATE_COUNT);
    il_assert(conn_next[conn->state] & CONN_TO(to));
    if (conn->stream == NULL) {
        il_assert(server->state_count[conn->state] > 0);
        server->state_count[conn->state]--;
        server->state_count[to]++;
    }
    conn->state = to;
    server_changed(server);
}

static void conn_go_on(struct conn *conn);

/* ---- birth ---- */

/* From now on it may idle for so long. */
static void conn_arm_idle(struct conn *conn)
{
    uint64_t timeout_ms = conn->server->options.idle_timeout_ms;

    if (timeout_ms > 0 && conn->stream == NULL) {
        timers_arm(&conn->server->timers, &conn->timer, timers_now_ns() + timeout_ms * 1000000u);
    }
}

struct conn *conn_carrier(struct conn *conn)
{
    return conn->stream != NULL ? conn->stream->mux->conn : conn;
}

/* One that belongs to nobody yet; NULL: out of memory. */
static struct conn *conn_make(struct lab_server *server)
{
    struct conn *conn;

    if (!timers_reserve(&server->timers, server->conn_count + 2)) {
        return NULL;
    }
    conn = il_malloc(sizeof(*conn));
    if (conn == NULL) {
        return NULL;
    }
    memset(conn, 0, offsetof(struct conn, target)); /* the buffers stay untouched until used */
    conn->server = server;
    conn->fd = -1;
    conn->timer.place = TIMER_UNARMED;
    il_list_init(&conn->link);
    il_list_init(&conn->wait_link);
    request_parser_init(conn);
    return conn;
}

enum il_code conn_new(struct lab_server *server, int fd, uint16_t peer_port)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP };
    struct conn *conn = conn_make(server);

    if (conn == NULL) {
        return IL_ENOMEM;
    }
    conn->fd = fd;
    conn->interest = event.events;
    conn->is_undecided = !server->options.is_http1_only && !server->options.is_http10;
    event.data.ptr = conn;
    if (!conn_tls_init(conn)) {
        il_free(conn);
        return IL_ENOMEM;
    }
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        conn_tls_deinit(conn);
        il_free(conn);
        return IL_ESYS;
    }
    il_list_push_back(&server->conns, &conn->link);
    server->conn_count++;
    server->state_count[CONN_IDLE]++;
    server->counters.accepted_count++;
    server->counters.open_count++;
    server_changed(server);
    conn->info = (struct lab_connection){ .number = server->counters.accepted_count,
                                          .peer_port = peer_port,
                                          .is_open = true };
    conn_arm_idle(conn);
    return IL_OK;
}

struct conn *conn_new_for_stream(struct mux *mux, struct mux_stream *stream)
{
    struct conn *conn = conn_make(mux->conn->server);

    if (conn != NULL) {
        conn->stream = stream;
        il_list_push_back(&mux->streams, &conn->link);
        conn->server->conn_count++;
    }
    return conn;
}

void conn_free(struct conn *conn)
{
    il_assert(conn->state == CONN_CLOSED);
    il_assert(!il_list_is_linked(&conn->link));
    il_assert(!il_list_is_linked(&conn->wait_link));
    il_assert(conn->timer.place == TIMER_UNARMED);
    mux_free(conn->mux);
    stream_free(conn->stream);
    conn_tls_deinit(conn);
    blob_deinit(&conn->head);
    blob_deinit(&conn->body);
    il_free(conn);
}

/* ---- the end of requests and connections ---- */

static void conn_count_answered(struct conn *conn)
{
    struct exchange *x = &conn->exchange;
    struct lab_server_counters *counters = &conn->server->counters;

    if (!x->is_open) {
        return;
    }
    x->is_open = false;
    counters->answered_count++;
    counters->by[x->behaviour - behaviours].answered_count++;
    conn_carrier(conn)->info.answered_count++;
    server_changed(conn->server);
}

static void conn_leave_slot(struct conn *conn)
{
    if (conn->exchange.has_slot) {
        conn->exchange.has_slot = false;
        server_slot_done(conn->server);
    }
}

/* Stop waiting, whatever for. */
static void conn_unwait(struct conn *conn)
{
    if (conn->wait == WAIT_GATE) {
        gate_leave(conn);
    } else if (conn->wait == WAIT_SLOT) {
        conn->server->counters.queued_count--;
        server_changed(conn->server);
    }
    il_list_unlink(&conn->wait_link);
    timers_disarm(&conn->server->timers, &conn->timer);
    conn->wait = WAIT_NOTHING;
}

/* The request, if there is one, gets no answer. */
static void conn_give_up(struct conn *conn, bool is_by_client)
{
    struct lab_server_counters *counters = &conn->server->counters;

    conn_unwait(conn);
    conn_leave_slot(conn);
    if (conn->exchange.is_open) {
        conn->exchange.is_open = false;
        *(is_by_client ? &counters->abandoned_count : &counters->dropped_count) += 1;
    }
}

static void conn_close_socket(struct conn *conn, enum lab_close how, bool is_by_client)
{
    struct lab_server *server = conn->server;
    struct linger reset = { .l_onoff = 1 };

    conn_tls_end(conn, how != LAB_CLOSE_RST);
    if (how == LAB_CLOSE_RST) {
        (void)setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)); /* cannot fail */
    }
    (void)close(conn->fd); /* a TCP socket has nothing to report here */
    conn->fd = -1;
    conn->info.is_open = false;
    conn->info.is_closed_by_client = is_by_client;
    server->records[(conn->info.number - 1) % LAB_CONNECTION_RECORDS] = conn->info;
    server->counters.closed_count++;
    server->counters.open_count--;
}

void conn_close(struct conn *conn, enum lab_close how, bool is_by_client)
{
    struct lab_server *server = conn->server;

    il_assert(how != LAB_CLOSE_HALF);
    if (conn->state == CONN_CLOSED) {
        return;
    }
    if (conn->mux != NULL) {
        mux_close_streams(conn->mux, how, is_by_client);
    }
    conn_give_up(conn, is_by_client);
    if (conn->stream == NULL) {
        conn_close_socket(conn, how, is_by_client);
    }
    conn_set_state(conn, CONN_CLOSED);
    server->conn_count--;
    il_list_unlink(&conn->link);
    il_list_push_back(&server->graveyard, &conn->link);
    if (conn->stream != NULL) {
        mux_on_stream_closed(conn);
    }
    server_accept_update(server);
}

void conn_half_close(struct conn *conn)
{
    conn->is_half_closed = true;
    conn_tls_end(conn, true);
    (void)shutdown(conn->fd, SHUT_WR); /* fails only if the client is gone: then epoll says so */
}

/* The exchange is over and counted: idle again, or closed, as a stream is when nothing more is to
 * happen after it. */
static void conn_end_exchange(struct conn *conn)
{
    bool is_last = conn->stream != NULL && script_is_over(&conn->script);

    conn_leave_slot(conn);
    conn_count_answered(conn);
    if (is_last || conn->exchange.closes || !conn->exchange.wants_keep_alive) {
        conn_close(conn, LAB_CLOSE_FIN, false);
        return;
    }
    conn->pace_bytes = 0;
    conn_set_state(conn, CONN_IDLE);
    conn_arm_idle(conn);
}

/* ---- what the parser reports ---- */

void conn_on_request_begin(struct conn *conn)
{
    conn_unwait(conn); /* what was still to happen on the idle connection does not */
    script_clear(&conn->script);
    conn->head.size = 0;
    conn->body.size = 0;
    if (conn->body.capacity > CONN_BODY_KEEP) {
        blob_deinit(&conn->body);
    }
    conn_set_state(conn, CONN_RECEIVING);
    exchange_init(&conn->exchange, conn);
}

void conn_on_request_head(struct conn *conn)
{
    struct exchange *x = &conn->exchange;
    struct lab_server_counters *counters = &conn->server->counters;

    il_assert(!x->is_open);
    x->is_open = true;
    x->number = ++conn_carrier(conn)->info.request_count;
    counters->request_count++;
    counters->by[x->behaviour - behaviours].request_count++;
    server_changed(conn->server);
}

/* ---- sending ---- */

void conn_want(struct conn *conn, uint32_t interest)
{
    struct epoll_event event = { .events = interest, .data.ptr = conn };

    if (conn->interest == interest || conn->stream != NULL) { /* a stream is told without epoll */
        return;
    }
    il_assert(epoll_ctl(conn->server->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event) == 0);
    conn->interest = interest;
}

static void conn_wait_ms(struct conn *conn, enum conn_wait wait, uint64_t ms)
{
    conn->wait = wait;
    timers_arm(&conn->server->timers, &conn->timer, timers_now_ns() + ms * 1000000u);
}

static void conn_wait_room(struct conn *conn)
{
    conn->wait = WAIT_ROOM;
    conn_want(conn, conn->interest | EPOLLOUT);
}

/* Whether others must have their turn first. A stream has that of its carrier. */
static bool conn_has_had_its_turn(const struct conn *conn)
{
    return conn->turn_left == 0 && conn->stream == NULL;
}

/* Send what is in conn->out. False: it waits, or is closed. */
static bool conn_flush(struct conn *conn)
{
    while (conn->out_begin < conn->out_end) {
        size_t size = conn->out_end - conn->out_begin;
        ssize_t sent;

        if (conn_has_had_its_turn(conn)) {
            conn_wait_room(conn);
            return false;
        }
        if (conn->pace_bytes > 0) {
            if (conn->pace_left == 0) {
                conn_wait_ms(conn, WAIT_PACE, conn->pace_ms);
                return false;
            }
            size = il_min_u64(size, conn->pace_left);
        }
        sent = conn_socket_send(conn, conn->out + conn->out_begin, size);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 && errno == EAGAIN) {
            conn_wait_room(conn);
            return false;
        }
        if (sent < 0) {
            conn_close(conn, LAB_CLOSE_FIN, !conn->is_half_closed);
            return false;
        }
        conn->out_begin += (size_t)sent;
        conn->turn_left -= il_min_u64(conn->turn_left, (uint64_t)sent);
        if (conn->pace_bytes > 0) {
            conn->pace_left -= (uint64_t)sent;
        }
    }
    conn->out_begin = conn->out_end = 0;
    if (conn->stream != NULL && !stream_is_flushed(conn->stream)) {
        conn_wait_room(conn);
        return false;
    }
    return true;
}

/* ---- running a script ---- */

/* Take one of the answering_max places, or queue for it. False: it waits. */
static bool conn_take_slot(struct conn *conn)
{
    struct lab_server *server = conn->server;

    if (server->slots_used < server->options.answering_max) {
        server->slots_used++;
        conn->exchange.has_slot = true;
        return true;
    }
    conn->wait = WAIT_SLOT;
    il_list_push_back(&server->slot_queue, &conn->wait_link);
    server->counters.queued_count++;
    server_changed(server);
    return false;
}

void conn_linger(struct conn *conn)
{
    conn_count_answered(conn);
    conn_leave_slot(conn);
    if (conn->stream != NULL) {
        conn_close(conn, LAB_CLOSE_FIN, false); /* what it has not read goes to the frames */
        return;
    }
    conn_set_state(conn, CONN_LINGERING);
    conn_half_close(conn);
    timers_arm(&conn->server->timers, &conn->timer, timers_now_ns() + CONN_LINGER_NS);
    conn_want(conn, EPOLLIN | EPOLLRDHUP);
}

void conn_set_busy(struct conn *conn, bool is_busy)
{
    if (is_busy) {
        conn_unwait(conn);
        conn_set_state(conn, CONN_RECEIVING);
        conn_set_state(conn, CONN_ANSWERING);
    } else {
        conn_set_state(conn, CONN_IDLE);
        conn_arm_idle(conn);
    }
}

/* The script says that the connection ends here. A stream that has an answer to give is reset, or
 * ends with what carries it; after its answer it is the carrier that is meant. */
static void conn_end_as_told(struct conn *conn, enum lab_close how)
{
    struct conn *carrier = conn_carrier(conn);

    if (carrier == conn) {
        conn_close(conn, how, false);
    } else if (how == LAB_CLOSE_FIN) {
        mux_cut(conn->stream->mux);
        conn_close(conn, how, false);
    } else {
        conn_close(conn->state == CONN_IDLE ? carrier : conn, how, false);
    }
}

/* Do what `step` says; all before it is sent. False: it waits, or is closed. */
static bool conn_act(struct conn *conn, const struct step *step)
{
    switch (step->kind) {
    case STEP_PACE:
        conn->pace_bytes = conn->pace_left = step->length;
        conn->pace_ms = step->ms;
        return true;
    case STEP_WAIT:
        conn_wait_ms(conn, WAIT_TIME, step->ms);
        return false;
    case STEP_HOLD:
        if (gate_enter(step->gate, conn)) {
            return true;
        }
        conn->wait = WAIT_GATE;
        return false;
    case STEP_SLOT:
        return conn_take_slot(conn);
    case STEP_ANSWERED:
        conn_end_exchange(conn);
        return conn->state != CONN_CLOSED;
    case STEP_CLOSE:
    case STEP_RESET:
        conn_end_as_told(conn, step->kind == STEP_CLOSE ? LAB_CLOSE_FIN : LAB_CLOSE_RST);
        return false;
    case STEP_LINGER:
        conn_linger(conn);
        return false;
    case STEP_NEVER:
        conn->wait = WAIT_NEVER;
        return false;
    default:
        il_assert(!"a step to act on");
    }
    return false;
}

/* The script is over and sent. */
static void conn_end_script(struct conn *conn)
{
    if (conn->state == CONN_IDLE) { /* it had ended with STEP_ANSWERED, and more after that */
        if (conn->stream != NULL) {
            conn_close(conn, LAB_CLOSE_FIN, false);
        }
        return;
    }
    if (conn->stage == STAGE_ANSWER) {
        conn_end_exchange(conn);
        return;
    }
    if (conn->exchange.is_answered_at_head) {
        conn_count_answered(conn);
    }
    conn_set_state(conn, CONN_RECEIVING);
}

static void conn_run(struct conn *conn)
{
    struct step *step;

    il_assert(conn->wait == WAIT_NOTHING);
    while ((step = script_current(&conn->script)) != NULL) {
        bool is_complete = false;

        if (step_makes_bytes(step)) {
            conn->out_end += script_fill(&conn->script, conn->out + conn->out_end,
                                         sizeof(conn->out) - conn->out_end, &is_complete);
            if (!is_complete && !conn_flush(conn)) {
                return;
            }
        } else {
            if (!conn_flush(conn) || !conn_act(conn, step)) {
                return;
            }
            is_complete = true;
        }
        if (is_complete) {
            script_next(&conn->script);
        }
    }
    if (!conn_flush(conn)) {
        return;
    }
    if (conn->stream != NULL) {
        stream_finish(conn->stream);
        if (!conn_flush(conn)) {
            return;
        }
    }
    conn_end_script(conn);
}

static bool conn_has_script_to_run(const struct conn *conn)
{
    if (conn->wait != WAIT_NOTHING) {
        return false;
    }
    return conn->state == CONN_ANSWERING ||
           (conn->state == CONN_IDLE && !script_is_over(&conn->script));
}

/* ---- receiving ---- */

/* Fill conn->in, which is empty. False: nothing has come, or the client has closed. */
static bool conn_receive(struct conn *conn)
{
    ssize_t size;

    il_assert(conn->in_begin == conn->in_end);
    conn_want(conn, conn->interest | EPOLLIN);
    if (conn->is_drained || conn_has_had_its_turn(conn)) {
        return false;
    }
    do {
        size = conn_socket_receive(conn, conn->in, sizeof(conn->in));
    } while (size < 0 && errno == EINTR);
    if (size < 0 && errno == EAGAIN) {
        conn->is_drained = true;
        return false;
    }
    if (size <= 0) {
        conn_close(conn, LAB_CLOSE_FIN, true);
        return false;
    }
    conn->is_drained = (size_t)size < sizeof(conn->in) && conn->tls == NULL;
    conn->turn_left -= il_min_u64(conn->turn_left, (uint64_t)size);
    conn->in_begin = 0;
    conn->in_end = (size_t)size;
    return true;
}

/* Begin the script that the parser paused for. */
static void conn_begin_script(struct conn *conn)
{
    conn->is_paused = false;
    conn_set_state(conn, CONN_ANSWERING);
    script_clear(&conn->script);
    exchange_script(&conn->exchange, conn->stage);
}

static void conn_refuse(struct conn *conn)
{
    conn->server->counters.bad_count++;
    conn->is_paused = false;
    conn->is_behind_head = false;
    conn->stage = STAGE_ANSWER;
    conn->in_begin = conn->in_end = 0;
    conn_set_state(conn, CONN_ANSWERING);
    script_clear(&conn->script);
    exchange_script_refusal(&conn->exchange);
    (void)script_add(&conn->script, STEP_LINGER);
}

/* Fill conn->in until it tells what the client speaks. False: it does not, or is closed. */
static bool conn_decide(struct conn *conn)
{
    bool may_be_h2 = true, is_h2 = false;

    while (may_be_h2 && !is_h2) {
        ssize_t size =
            conn_socket_receive(conn, conn->in + conn->in_end, sizeof(conn->in) - conn->in_end);

        if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
            return false; /* a signal, if it was one, is told again by epoll */
        }
        if (size <= 0) {
            conn_close(conn, LAB_CLOSE_FIN, true);
            return false;
        }
        conn->in_end += (size_t)size;
        if (conn->tls != NULL) {
            is_h2 = conn_tls_has_chosen_h2(conn);
            may_be_h2 = is_h2;
        } else {
            is_h2 = mux_is_preface(conn->in, conn->in_end, &may_be_h2);
        }
    }
    conn->is_undecided = false;
    if (is_h2 && !mux_init(conn)) {
        conn_close(conn, LAB_CLOSE_FIN, false); /* no memory for it */
        return false;
    }
    if (is_h2) {
        mux_feed(conn->mux, conn->in, conn->in_end);
    }
    return true;
}

static void conn_go_on(struct conn *conn)
{
    if (conn->is_undecided && !conn_decide(conn)) {
        return;
    }
    if (conn->mux != NULL) {
        mux_on_events(conn->mux);
        return;
    }
    for (;;) {
        if (conn_has_script_to_run(conn)) {
            conn_run(conn);
        }
        if (conn->state != CONN_IDLE && conn->state != CONN_RECEIVING) {
            return; /* answering: it waits */
        }
        if (conn->in_begin == conn->in_end && !conn->is_behind_head && !conn_receive(conn)) {
            return;
        }
        if (!request_parse(conn)) {
            conn_refuse(conn);
        } else if (conn->is_paused) {
            conn_begin_script(conn);
        }
    }
}

/* ---- events ---- */

static void conn_on_lingering(struct conn *conn)
{
    ssize_t size = conn_socket_receive(conn, conn->in, sizeof(conn->in));

    if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) {
        conn_close(conn, LAB_CLOSE_FIN, false);
    }
}

void conn_on_events(struct conn *conn, uint32_t events)
{
    if (conn->state == CONN_CLOSED) {
        return; /* by something earlier in this turn */
    }
    if (conn->state == CONN_LINGERING) {
        conn_on_lingering(conn);
        return;
    }
    conn->turn_left = CONN_TURN_BYTES;
    if (events & EPOLLIN) {
        conn->is_drained = false;
    }
    if (events & (EPOLLERR | EPOLLHUP) ||
        (conn->mux == NULL && events & EPOLLRDHUP && conn->state == CONN_ANSWERING)) {
        conn_close(conn, LAB_CLOSE_FIN, true);
        return;
    }
    if (events & EPOLLIN && conn->state == CONN_ANSWERING && conn->mux == NULL) {
        conn_want(conn, conn->interest & ~(uint32_t)EPOLLIN); /* the next request has to wait */
    }
    if (events & EPOLLOUT) {
        conn_want(conn, conn->interest & ~(uint32_t)EPOLLOUT);
        if (conn->wait == WAIT_ROOM) {
            conn->wait = WAIT_NOTHING;
        }
    }
    conn_go_on(conn);
}

void conn_on_timer(struct conn *conn)
{
    bool is_scripted = conn->wait == WAIT_TIME || conn->wait == WAIT_PACE;

    if (conn->state == CONN_IDLE && !is_scripted && conn->mux != NULL) {
        mux_leave(conn->mux);
        return;
    }
    if (conn->state == CONN_LINGERING || (conn->state == CONN_IDLE && !is_scripted)) {
        conn_close(conn, LAB_CLOSE_FIN, false); /* the client took its time, or idled too long */
        return;
    }
    il_assert(is_scripted);
    if (conn->wait == WAIT_TIME) {
        script_next(&conn->script);
    } else {
        conn->pace_left = conn->pace_bytes;
    }
    conn->wait = WAIT_NOTHING;
    if (conn->state == CONN_IDLE) {
        conn_arm_idle(conn); /* the timer was used for what happens to the idle connection */
    }
    conn->turn_left = CONN_TURN_BYTES;
    conn_go_on(conn);
}

void conn_on_stream(struct conn *conn)
{
    conn->is_drained = false;
    conn->turn_left = CONN_TURN_BYTES;
    if (conn->wait == WAIT_ROOM) {
        conn->wait = WAIT_NOTHING;
    }
    conn_go_on(conn);
}

void conn_on_ready(struct conn *conn)
{
    il_assert(conn->wait == WAIT_READY);
    conn->wait = WAIT_NOTHING;
    script_next(&conn->script);
    conn->turn_left = CONN_TURN_BYTES;
    conn_go_on(conn);
}
