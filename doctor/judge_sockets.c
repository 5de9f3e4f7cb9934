/* judge_sockets.c: what single sockets tell: nobody-watches, missed-wakeup, back-pressure,
 * closed-unnoticed, network, peer.
 *
 * Sockets that a finding about a set or a lock has already named are not judged again. Sockets that
 * were accepted here belong to the server in this process: their peers ask, so silence on them is
 * nobody's debt, and `peer` and `network` are for client sockets alone.
 *
 * Thread: the doctor's only one. */
#include <sys/epoll.h>

#include "doctor/sockets.h"
#include "doctor/verdict.h"
#include "doctor/waits.h"

#define JUDGE_DELAYED_ACK_MIN_MS 30u /* Linux delays by 40 ms at least */
#define JUDGE_DELAYED_ACK_MS     250u
#define JUDGE_ORDER_MS           100u /* sent this much after the last receipt: a new request */
#define JUDGE_SYN_MS             900u

/* ---- unread bytes ---- */

/* A thread that will come back by itself: it polls, sleeps for a time, runs, or waits for a file,
 * such as for room in the pipe that it writes the body to. One that waits for another thread or for
 * a child may never. */
static bool comes_back(const struct seen_thread *thread)
{
    switch (thread->wait.kind) {
    case WAIT_EPOLL:
    case WAIT_POLL:
    case WAIT_FD:
    case WAIT_SLEEP:
    case WAIT_RUNNING:
        return !thread->is_gone;
    default:
        return !thread->is_gone && !thread->stood_in_wait;
    }
}

static bool has_live_reader(const struct look *look)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (comes_back(&look->threads[i])) {
            return true;
        }
    }
    return false;
}

static bool has_live_loop(const struct look *look)
{
    for (uint32_t i = 0; i < look->set_count; i++) {
        if (look->sets[i].polled_count > 0 || set_was_driven(look, i)) {
            return true;
        }
    }
    return false;
}

static void say_unread(struct look *look, struct finding *finding, const struct seen_socket *socket,
                       uint32_t index)
{
    finding_add_socket(look, finding, index);
    if (socket->last.state == TCPS_LISTEN) {
        finding_say(finding, "%llu connections wait to be accepted on fd %d (%s)",
                    (unsigned long long)socket->last.unread_bytes, socket->fd, socket->local);
        return;
    }
    finding_say(finding, "%llu bytes from %s lie unread in fd %d, the last came %u ms ago",
                (unsigned long long)socket->last.unread_bytes, socket->peer, socket->fd,
                socket->last.last_received_ms);
    finding->since_ms = il_max_u64(finding->since_ms, socket->last.last_received_ms);
    if (socket->first_bytes == BYTES_HTTP1_STATUS) {
        finding_say(finding, "the unread bytes of fd %d begin with a status line: HTTP/1 %u",
                    socket->fd, socket->http_status);
    }
}

/* Who takes the body to somewhere else, and stands there. */
static void say_writers(const struct look *look, struct finding *finding)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        const struct seen_thread *thread = &look->threads[i];

        if (!thread->is_gone && thread->stood_in_wait && waits_is_write(&thread->wait)) {
            finding_add_thread(finding, i);
            finding_say(finding,
                        "thread %d \"%s\" stands in a write to fd %d: who is to read that does not",
                        thread->tid, thread->name, thread->wait.fd);
        }
    }
}

static void judge_paused(struct look *look, uint32_t index)
{
    const struct seen_socket *socket = &look->sockets[index];
    bool is_full = socket_buffer_is_full(socket);
    struct finding *finding =
        finding_new(look, VERDICT_BACK_PRESSURE, is_full ? CONFIDENCE_CERTAIN : CONFIDENCE_LIKELY);

    say_unread(look, finding, socket, index);
    if (is_full) {
        finding_say(finding,
                    "the receive buffer is full (%u of %u bytes of kernel memory): the "
                    "server cannot send more",
                    socket->last.receive_memory, socket->last.receive_memory_max);
    }
    finding_say(finding, "%llu bytes of this connection have been read before",
                (unsigned long long)socket->last.consumed_bytes);
    if (socket->set != LOOK_SETS_MAX) {
        finding_add_set(finding, socket->set);
        finding_say(finding, "event set fd %d, which watches it, is polled: its loop is alive",
                    look->sets[socket->set].fds[0]);
    } else {
        say_writers(look, finding);
    }
}

static void judge_missed(struct look *look, uint32_t index)
{
    const struct seen_socket *socket = &look->sockets[index];
    const struct seen_set *set = &look->sets[socket->set];
    struct finding *finding = finding_new(
        look, VERDICT_MISSED_WAKEUP,
        socket->first_bytes == BYTES_HTTP1_STATUS ? CONFIDENCE_CERTAIN : CONFIDENCE_LIKELY);

    say_unread(look, finding, socket, index);
    finding_add_set(finding, socket->set);
    finding_say(finding, "event set fd %d, which watches it, was polled at %u of %u looks",
                set->fds[0], set->polled_count, look->look_count);
    if ((socket->watch_events & EPOLLIN) == 0) {
        finding_say(finding, "it is registered without interest in reading (events 0x%x)",
                    socket->watch_events);
    } else if ((socket->watch_events & EPOLLET) != 0) {
        finding_say(finding, "it is registered edge-triggered, and the edge has been collected");
    }
}

/* Level-triggered, with interest in reading: whoever polls the set is told again each time. Then
 * the loop lives and is slow, or lets connections wait on purpose; it has not missed anything. */
static bool is_told_again(const struct seen_socket *socket)
{
    return (socket->watch_events & EPOLLIN) != 0 && (socket->watch_events & EPOLLET) == 0;
}

static void note_slow(struct look *look, const struct seen_socket *socket)
{
    look_note(look,
              "%llu %s on fd %d, and the loop of event set fd %d, which is told of it each time it "
              "polls, has not taken them yet: it is slow, or has more to do than it can",
              (unsigned long long)socket->last.unread_bytes,
              socket->last.state == TCPS_LISTEN ? "connections wait to be accepted"
                                                : "bytes lie unread",
              socket->fd, look->sets[socket->set].fds[0]);
}

static void judge_unwatched(struct look *look, uint32_t index)
{
    const struct seen_socket *socket = &look->sockets[index];
    bool is_clear = socket->first_bytes == BYTES_HTTP1_STATUS || look->set_count > 0;
    struct finding *finding = finding_new(look, VERDICT_NOBODY_WATCHES,
                                          !look->can_syscall ? CONFIDENCE_POSSIBLE
                                          : is_clear         ? CONFIDENCE_CERTAIN
                                                             : CONFIDENCE_LIKELY);

    say_unread(look, finding, socket, index);
    finding_say(finding, "fd %d is in no event set (of %u)", socket->fd, look->set_count);
    if (look->can_syscall) {
        finding_say(finding, "no thread read it or had it in a poll() at any of %u looks",
                    look->look_count);
    }
}

static void judge_unread(struct look *look, uint32_t index)
{
    struct seen_socket *socket = &look->sockets[index];

    if (socket->heir != 0) {
        look_note(look,
                  "%llu connections wait to be accepted on fd %d (%s), which process %d, a child, "
                  "has too: look at that",
                  (unsigned long long)socket->last.unread_bytes, socket->fd, socket->local,
                  socket->heir);
    } else if (socket_is_idle_noise(socket)) {
        look_note(look,
                  "fd %d (%s): the peer closed or pinged an idle connection; nobody waits "
                  "for that",
                  socket->fd, socket->peer);
    } else if (socket->set == LOOK_SETS_MAX) {
        if (socket->thread_watch_count > 0) {
            return; /* somebody comes for it now and then */
        }
        if (socket_looks_paused(socket) && (has_live_loop(look) || has_live_reader(look))) {
            judge_paused(look, index);
        } else {
            judge_unwatched(look, index);
        }
    } else if (socket_looks_paused(socket)) {
        judge_paused(look, index);
    } else if (!set_is_unpolled(look, socket->set) || set_was_driven(look, socket->set)) {
        if (is_told_again(socket)) {
            note_slow(look, socket);
        } else {
            judge_missed(look, index);
        }
    }
}

/* ---- the peer has closed ---- */

/* How long the connection has been closed by the peer, at least: nothing came after its FIN. */
static uint64_t closed_for_ms(const struct look *look, const struct seen_socket *socket)
{
    uint64_t quiet_ms = il_min_u64(socket->last.last_ack_ms, socket->last.last_received_ms);

    return socket->first.state == TCPS_CLOSE_WAIT ? il_max_u64(quiet_ms, window_ms(look)) : 0;
}

static void judge_closed(struct look *look, uint32_t index)
{
    const struct seen_socket *socket = &look->sockets[index];
    uint64_t for_ms = closed_for_ms(look, socket);
    bool was_used = socket->was_written && socket->first.end_unread;
    struct finding *finding;

    if (for_ms < look->options.closed_after_ms && !was_used) {
        return;
    }
    if (!socket->last.end_unread && socket->is_server_side) {
        return; /* a server may go on sending to a client that has said all it had to say */
    }
    finding = finding_new(look, VERDICT_CLOSED_UNNOTICED,
                          socket->last.end_unread ? CONFIDENCE_CERTAIN : CONFIDENCE_POSSIBLE);
    finding->since_ms = for_ms;
    finding_add_socket(look, finding, index);
    finding_say(finding, "%s closed fd %d at least %llu ms ago (CLOSE_WAIT)", socket->peer,
                socket->fd, (unsigned long long)for_ms);
    finding_say(finding, socket->last.end_unread
                             ? "the program has not read the end of the connection"
                             : "the program has read the end of the connection, and keeps the "
                               "socket open");
    if (was_used) {
        finding_say(finding, "it was written to after the peer had closed");
    }
    if (socket->set != LOOK_SETS_MAX) {
        finding_add_set(finding, socket->set);
        if (set_is_unpolled(look, socket->set)) {
            finding_say(finding, "no thread waited in event set fd %d, which watches it",
                        look->sets[socket->set].fds[0]);
        }
    } else {
        finding_say(finding, "it is in no event set (of %u)", look->set_count);
    }
}

/* ---- the request is out ---- */

static bool is_handshake_stuck(const struct look *look, const struct seen_socket *socket)
{
    return socket->first.state == TCPS_SYN_SENT && socket->last.state == TCPS_SYN_SENT &&
           (socket->last.retransmits > 0 || window_ms(look) >= JUDGE_SYN_MS);
}

static bool is_send_stuck(const struct seen_socket *socket)
{
    return socket->first.unsent_bytes > 0 && socket->last.unsent_bytes > 0 && !socket->was_acked &&
           (socket->last.state == TCPS_ESTABLISHED || socket->last.state == TCPS_CLOSE_WAIT);
}

static bool peer_does_not_read(const struct seen_socket *socket)
{
    return socket->last.retransmits == 0 && socket->last.unacked_segments == 0;
}

static void judge_network(struct look *look, uint32_t index)
{
    const struct seen_socket *socket = &look->sockets[index];
    bool is_syn = socket->last.state == TCPS_SYN_SENT;
    struct finding *finding = finding_new(look, VERDICT_NETWORK, CONFIDENCE_CERTAIN);

    finding_add_socket(look, finding, index);
    if (is_syn) {
        finding_say(finding,
                    "%s has not answered the connection attempt of fd %d (SYN sent %u "
                    "time%s more)",
                    socket->peer, socket->fd, socket->last.retransmits,
                    socket->last.retransmits == 1 ? "" : "s");
    } else {
        finding_say(finding, "%llu bytes to %s (fd %d) are not acknowledged, %u retransmissions",
                    (unsigned long long)socket->last.unsent_bytes, socket->peer, socket->fd,
                    socket->last.retransmits);
    }
    finding->since_ms =
        is_syn ? finding->since_ms : il_max_u64(finding->since_ms, socket->last.last_ack_ms);
}

/* Did a request go out after the last bytes came in? The ages are milliseconds, so on a fast
 * network both are often equal; then a bare acknowledgement that came after both, as late as one is
 * that waited in vain for an answer to go with, tells that what we sent last was not answered. (One
 * that comes sooner may have been overtaken by the answer, as happens on a loaded machine.) Strong:
 * by a clear distance, or nothing ever came. */
enum debt { DEBT_NONE, DEBT_WEAK, DEBT_STRONG };

static enum debt debt_of_peer(const struct look *look, const struct seen_socket *socket)
{
    const struct socket_numbers *now = &socket->last;
    uint32_t ahead_ms;
    bool is_awaited =
        socket->thread_watch_count + 2 >= look->look_count && socket->thread_watch_count > 0;

    if (now->sent_bytes == 0) {
        return DEBT_NONE;
    }
    if (now->received_bytes == 0 || is_awaited) {
        return DEBT_STRONG;
    }
    if (now->last_received_ms < now->last_sent_ms) {
        return DEBT_NONE;
    }
    ahead_ms = now->last_received_ms - now->last_sent_ms;
    if (ahead_ms >= JUDGE_ORDER_MS) {
        return DEBT_STRONG;
    }
    if (now->last_ack_ms < now->last_sent_ms &&
        now->last_sent_ms - now->last_ack_ms <= JUDGE_DELAYED_ACK_MS &&
        now->last_ack_ms + JUDGE_DELAYED_ACK_MIN_MS < now->last_received_ms) {
        return DEBT_WEAK;
    }
    return DEBT_NONE;
}

/* A client of HTTP/2 acknowledges settings and opens windows right after an answer, which looks
 * like a request without an answer. Under TLS it cannot be seen which it was, but where it is
 * spoken. */
static bool may_speak_http2(const struct seen_socket *socket)
{
    return socket->peer_port == 443 || socket->peer_port == 6443 || socket->peer_port == 8443 ||
           socket->stack_has_tls || socket->stack_has_http2;
}

static void judge_peer(struct look *look, uint32_t index, bool does_not_read, enum debt debt)
{
    const struct seen_socket *socket = &look->sockets[index];
    struct finding *finding =
        finding_new(look, VERDICT_PEER,
                    debt == DEBT_STRONG || does_not_read ? CONFIDENCE_LIKELY : CONFIDENCE_POSSIBLE);

    finding_add_socket(look, finding, index);
    finding->since_ms = socket->last.last_sent_ms;
    finding->since_is_at_least = false;
    if (does_not_read) {
        finding_say(finding,
                    "%s does not read: %llu bytes of fd %d wait for room in its receive "
                    "window",
                    socket->peer, (unsigned long long)socket->last.unsent_bytes, socket->fd);
        return;
    }
    finding_say(finding, "the last bytes to %s (fd %d) went out %u ms ago and are acknowledged",
                socket->peer, socket->fd, socket->last.last_sent_ms);
    if (socket->last.received_bytes == 0) {
        finding_say(finding, "nothing has ever come back on this connection");
    } else {
        finding_say(finding, "the last bytes back came before that, %u ms ago",
                    socket->last.last_received_ms);
    }
}

static void judge_outgoing(struct look *look, uint32_t index)
{
    const struct seen_socket *socket = &look->sockets[index];
    enum debt debt;

    if (is_handshake_stuck(look, socket)) {
        judge_network(look, index);
        return;
    }
    if (is_send_stuck(socket)) {
        if (peer_does_not_read(socket)) {
            judge_peer(look, index, true, DEBT_STRONG);
        } else if (socket->last.retransmits > 0) {
            judge_network(look, index);
        }
        return;
    }
    if (socket->last.state != TCPS_ESTABLISHED || socket->last.unsent_bytes > 0 ||
        socket->last.unread_bytes > 0 || socket->was_written || socket->was_received ||
        socket->was_read) {
        return;
    }
    debt = debt_of_peer(look, socket);
    if (debt == DEBT_WEAK && may_speak_http2(socket)) {
        look_note(look,
                  "what fd %d sent last to %s, right after the last bytes came, has had no answer: "
                  "under HTTP/2 most likely a control frame, which gets none",
                  socket->fd, socket->peer);
    } else if (debt != DEBT_NONE) {
        judge_peer(look, index, false, debt);
    }
}

/* ---- all of them ---- */

static void judge_socket(struct look *look, uint32_t index)
{
    struct seen_socket *socket = &look->sockets[index];

    if (socket->family != SOCKET_TCP || !socket->was_found || socket->was_lost ||
        socket->dump_count < 2 || socket->is_named) {
        return;
    }
    if (socket_stands_unread(look, socket)) {
        if (look->starved_count > 0) {
            return; /* whoever should read it may only be waiting for a CPU */
        }
        judge_unread(look, index);
    }
    if (socket->is_named) {
        return;
    }
    if (socket->last.state == TCPS_CLOSE_WAIT) {
        judge_closed(look, index);
    } else if (!socket->is_server_side) {
        judge_outgoing(look, index);
    }
}

/* Several sockets with one and the same trouble are one finding for the reader. */
static bool can_merge(const struct finding *into, const struct finding *from)
{
    return into->verdict == from->verdict && into->confidence == from->confidence &&
           into->set_count == from->set_count &&
           (into->set_count == 0 || into->sets[0] == from->sets[0]);
}

static void merge_last(struct look *look, uint32_t first)
{
    struct finding *last = &look->findings[look->finding_count - 1];

    for (uint32_t i = first; i + 1 < look->finding_count; i++) {
        struct finding *into = &look->findings[i];

        if (!can_merge(into, last)) {
            continue;
        }
        for (uint32_t k = 0; k < last->socket_count; k++) {
            finding_add_socket(look, into, last->sockets[k]);
        }
        for (uint32_t k = 0; k < last->evidence_count && into->evidence_count < 8; k++) {
            finding_say(into, "%s", last->evidence[k]);
        }
        into->since_ms = il_max_u64(into->since_ms, last->since_ms);
        look->finding_count--;
        return;
    }
}

void judge_sockets(struct look *look)
{
    uint32_t first = look->finding_count;

    if (!look->can_sockets) {
        return;
    }
    for (uint32_t i = 0; i < look->socket_count; i++) {
        uint32_t before = look->finding_count;

        judge_socket(look, i);
        if (look->finding_count > before && look->finding_count > first + 1) {
            merge_last(look, first);
        }
    }
}
