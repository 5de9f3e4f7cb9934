/* sockets.c: what the kernel's sock_diag tells of the target's sockets.
 *
 * The first look dumps all sockets of the target's network namespace and matches them by inode.
 * After that only those are asked for, by address and cookie, at which something waits: bytes
 * unread or not acknowledged, a request without an answer, an attempt to connect, an end. What the
 * dump has found at rest has nothing to tell that its counters would not tell at the end: then
 * there is a second dump, or, where the namespace holds so many sockets that a dump is dear, a
 * question for the sockets of those event sets that nobody drives.
 *
 * Owns: look->sockets, and the netlink socket (look->diag_fd). Thread: the doctor's only one. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <linux/unix_diag.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "doctor/diag.h"
#include "doctor/sockets.h"

#define SOCKETS_DUMP_CHEAP 500u /* sockets in the namespace, up to which a second dump is made */
#define SOCKETS_PEEK_BYTES 32
#define SOCKETS_ALERT_MAX  40 /* a TLS alert record is 7 bytes in clear, up to 31 encrypted */

_Static_assert(sizeof(((struct seen_socket *)0)->diag_id) == sizeof(struct inet_diag_sockid),
               "the look keeps what the kernel calls a socket");

/* ---- the list ---- */

static int compare_inodes(const void *a, const void *b)
{
    const struct seen_socket *x = a, *y = b;

    if (x->inode != y->inode) {
        return (x->inode > y->inode) - (x->inode < y->inode);
    }
    return (x->fd > y->fd) - (x->fd < y->fd);
}

static void merge_duplicates(struct look *look)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < look->socket_count; i++) {
        if (kept > 0 && look->sockets[kept - 1].inode == look->sockets[i].inode) {
            look->sockets[kept - 1].fd_count++;
        } else {
            look->sockets[kept++] = look->sockets[i];
        }
    }
    look->socket_count = kept;
}

void sockets_find(struct look *look)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < look->fd_count; i++) {
        count += look->fds[i].kind == FD_SOCKET;
    }
    look->sockets = il_calloc(count == 0 ? 1 : count, sizeof(look->sockets[0]));
    if (look->sockets == NULL) {
        look_limit(look, "out of memory: no sockets were looked at");
        return;
    }
    for (uint32_t i = 0; i < look->fd_count; i++) {
        if (look->fds[i].kind == FD_SOCKET) {
            look->sockets[look->socket_count++] = (struct seen_socket){ .inode = look->fds[i].inode,
                                                                        .fd = look->fds[i].fd,
                                                                        .fd_count = 1,
                                                                        .set = LOOK_SETS_MAX };
        }
    }
    if (look->socket_count > 0) {
        qsort(look->sockets, look->socket_count, sizeof(look->sockets[0]), compare_inodes);
    }
    merge_duplicates(look);
}

/* ---- TCP and UDP ---- */

static char *format_number(char *at, unsigned number)
{
    char digits[10];
    int count = 0;

    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0) {
        *at++ = digits[--count];
    }
    return at;
}

/* By hand where it is IPv4: of thousands of sockets, snprintf() would be a good part of the cost.
 */
static void format_address(uint8_t family, const uint32_t *address, uint16_t port, char *ret_text,
                           size_t size)
{
    const unsigned char *bytes = (const unsigned char *)address;
    char text[INET6_ADDRSTRLEN] = "?", *at = ret_text;

    if (family != AF_INET) {
        (void)inet_ntop(family, address, text, sizeof(text));
        snprintf(ret_text, size, "[%s]:%u", text, port);
        return;
    }
    il_assert(size >= sizeof("255.255.255.255:65535"));
    for (int i = 0; i < 4; i++) {
        at = format_number(at, bytes[i]);
        *at++ = i < 3 ? '.' : ':';
    }
    *format_number(at, port) = '\0';
}

/* The kernel may know fewer fields of tcp_info than the header, or more: copy what both have. */
static void take_tcp_info(const struct rtattr *attribute, struct socket_numbers *numbers)
{
    struct tcp_info info;
    size_t size = il_min_u64(sizeof(info), RTA_PAYLOAD(attribute));

    memset(&info, 0, sizeof(info));
    memcpy(&info, RTA_DATA(attribute), size);
    numbers->received_bytes = info.tcpi_bytes_received;
    numbers->sent_bytes = info.tcpi_bytes_sent;
    numbers->acked_bytes = info.tcpi_bytes_acked;
    numbers->last_sent_ms = info.tcpi_last_data_sent;
    numbers->last_received_ms = info.tcpi_last_data_recv;
    numbers->last_ack_ms = info.tcpi_last_ack_recv;
    numbers->unacked_segments = info.tcpi_unacked;
    numbers->retransmits = info.tcpi_retransmits;
    numbers->probes = info.tcpi_probes;
    numbers->peer_window = info.tcpi_snd_wnd;
    numbers->peer_window_known =
        size >= offsetof(struct tcp_info, tcpi_snd_wnd) + sizeof(info.tcpi_snd_wnd);
}

static void take_inet_attributes(const struct nlmsghdr *header, struct socket_numbers *numbers)
{
    const struct inet_diag_msg *message = NLMSG_DATA(header);
    unsigned length = (unsigned)(header->nlmsg_len - NLMSG_LENGTH(sizeof(*message)));

    for (const struct rtattr *at = (const struct rtattr *)(message + 1); RTA_OK(at, length);
         at = RTA_NEXT(at, length)) {
        if (at->rta_type == INET_DIAG_INFO) {
            take_tcp_info(at, numbers);
        } else if (at->rta_type == INET_DIAG_SKMEMINFO &&
                   RTA_PAYLOAD(at) >= sizeof(uint32_t) * (SK_MEMINFO_RCVBUF + 1)) {
            const uint32_t *memory = RTA_DATA(at);

            numbers->receive_memory = memory[SK_MEMINFO_RMEM_ALLOC];
            numbers->receive_memory_max = memory[SK_MEMINFO_RCVBUF];
        }
    }
}

/* The receive queue's length counts a FIN that has not been read as one byte. */
static void take_queues(const struct inet_diag_msg *message, struct socket_numbers *numbers)
{
    bool is_ended = message->idiag_state == TCPS_CLOSE_WAIT ||
                    message->idiag_state == TCPS_LAST_ACK || message->idiag_state == TCPS_CLOSING;

    numbers->state = message->idiag_state;
    numbers->end_unread = is_ended && message->idiag_rqueue > 0;
    numbers->unread_bytes = message->idiag_rqueue - (numbers->end_unread ? 1 : 0);
    numbers->unsent_bytes = message->idiag_state == TCPS_LISTEN ? 0 : message->idiag_wqueue;
    numbers->consumed_bytes = numbers->received_bytes >= message->idiag_rqueue
                                  ? numbers->received_bytes - message->idiag_rqueue
                                  : 0;
}

static void note_numbers(struct seen_socket *socket, const struct socket_numbers *now)
{
    if (socket->dump_count++ == 0) {
        socket->first = *now;
    } else {
        socket->was_read |= now->consumed_bytes != socket->last.consumed_bytes ||
                            (now->unread_bytes < socket->last.unread_bytes);
        socket->was_written |= now->sent_bytes != socket->last.sent_bytes;
        socket->was_received |= now->received_bytes != socket->last.received_bytes;
        socket->was_acked |= now->unsent_bytes < socket->last.unsent_bytes ||
                             now->acked_bytes != socket->last.acked_bytes;
    }
    if (now->unread_bytes == 0) {
        socket->unread_since_ns = 0;
    } else if (socket->unread_since_ns == 0) {
        socket->unread_since_ns = look_now_ns();
    }
    socket->last = *now;
    socket->was_found = true;
    socket->was_lost = false;
}

/* Ports on which somebody listens in this namespace: a connection with such a local port was
 * accepted here, so the peer asks and we answer. */
struct dump {
    struct look *look;
    enum socket_family family;
    uint32_t found; /* of the target's */
    uint8_t listening[65536 / 8];
};

static void take_inet_socket(void *arg, const struct nlmsghdr *header)
{
    struct dump *dump = arg;
    const struct inet_diag_msg *message = NLMSG_DATA(header);
    uint16_t local_port = ntohs(message->id.idiag_sport);
    struct socket_numbers numbers;
    struct seen_socket *socket;
    uint32_t index;

    if (dump->family == SOCKET_TCP && message->idiag_state == TCPS_LISTEN) {
        dump->listening[local_port / 8] |= (uint8_t)(1u << (local_port % 8));
    }
    dump->look->namespace_count++;
    index = look_socket_of_inode(dump->look, message->idiag_inode);
    if (index == UINT32_MAX || message->idiag_inode == 0) {
        return;
    }
    memset(&numbers, 0, sizeof(numbers));
    dump->found++;
    socket = &dump->look->sockets[index];
    memcpy(socket->diag_id, &message->id, sizeof(message->id));
    socket->diag_family = message->idiag_family;
    take_inet_attributes(header, &numbers);
    take_queues(message, &numbers);
    socket->family = dump->family;
    socket->local_port = local_port;
    socket->peer_port = ntohs(message->id.idiag_dport);
    format_address(message->idiag_family, message->id.idiag_src, socket->local_port, socket->local,
                   sizeof(socket->local));
    format_address(message->idiag_family, message->id.idiag_dst, socket->peer_port, socket->peer,
                   sizeof(socket->peer));
    note_numbers(socket, &numbers);
}

/* ---- unix sockets: wake-up pipes of asyncio, libuv and others ---- */

static void take_unix_socket(void *arg, const struct nlmsghdr *header)
{
    struct dump *dump = arg;
    const struct unix_diag_msg *message = NLMSG_DATA(header);
    unsigned length = (unsigned)(header->nlmsg_len - NLMSG_LENGTH(sizeof(*message)));
    uint32_t index = look_socket_of_inode(dump->look, message->udiag_ino);
    struct socket_numbers numbers;

    if (index == UINT32_MAX || message->udiag_ino == 0) {
        return;
    }
    dump->found++;
    memset(&numbers, 0, sizeof(numbers));
    numbers.state = message->udiag_state;
    for (const struct rtattr *at = (const struct rtattr *)(message + 1); RTA_OK(at, length);
         at = RTA_NEXT(at, length)) {
        if (at->rta_type == UNIX_DIAG_RQLEN && RTA_PAYLOAD(at) >= sizeof(struct unix_diag_rqlen)) {
            numbers.unread_bytes = ((const struct unix_diag_rqlen *)RTA_DATA(at))->udiag_rqueue;
        }
    }
    dump->look->sockets[index].family = SOCKET_UNIX;
    snprintf(dump->look->sockets[index].local, sizeof(dump->look->sockets[index].local), "unix");
    note_numbers(&dump->look->sockets[index], &numbers);
}

/* ---- dumps ---- */

static void mark_servers(struct dump *dump)
{
    struct look *look = dump->look;

    for (uint32_t i = 0; i < look->socket_count; i++) {
        struct seen_socket *socket = &look->sockets[i];

        if (socket->family == SOCKET_TCP && socket->was_found) {
            socket->is_server_side =
                (dump->listening[socket->local_port / 8] >> (socket->local_port % 8) & 1) != 0;
        }
    }
}

static bool dump_tcp(struct dump *dump)
{
    struct look *look = dump->look;

    dump->family = SOCKET_TCP;
    dump->found = 0;
    look->namespace_count = 0;
    look->can_sockets = diag_dump_tcp(look, take_inet_socket, dump);
    if (look->can_sockets) {
        mark_servers(dump);
    } else {
        look_limit(look, "the kernel gave no list of TCP sockets (module tcp_diag?): socket "
                         "queues and ages were not seen");
    }
    return look->can_sockets;
}

/* Without UDP or unix sockets only the resolver and wake-up pipes are seen less well. */
static void dump_others(struct dump *dump, bool is_first)
{
    struct look *look = dump->look;

    if (is_first ? dump->found < look->socket_count : look->has_udp) {
        dump->family = SOCKET_UDP;
        dump->found = 0;
        if (!diag_dump_udp(look, take_inet_socket, dump)) {
            look_limit(look, "the kernel gave no list of UDP sockets (module udp_diag?)");
        }
        look->has_udp |= dump->found > 0;
    }
    if (is_first || look->has_unix) {
        dump->family = SOCKET_UNIX;
        dump->found = 0;
        if (!diag_dump_unix(look, take_unix_socket, dump)) {
            look_limit(look, "the kernel gave no list of unix sockets (module unix_diag?)");
        }
        look->has_unix |= dump->found > 0;
    }
}

static void dump_all(struct look *look, bool is_first)
{
    struct dump *dump = il_calloc(1, sizeof(*dump));

    if (dump == NULL) {
        look_limit(look, "out of memory: socket queues and ages were not seen");
        look->can_sockets = false;
        return;
    }
    dump->look = look;
    for (uint32_t i = 0; i < look->socket_count; i++) {
        look->sockets[i].was_lost = true; /* until the dump finds it again */
    }
    if (dump_tcp(dump)) {
        dump_others(dump, is_first);
    }
    il_free(dump);
}

/* ---- one by one ---- */

static void take_exact(void *arg, const struct nlmsghdr *header)
{
    const struct inet_diag_msg *message = NLMSG_DATA(header);
    struct look *look = arg;
    struct socket_numbers numbers;
    struct seen_socket *socket;

    if (header->nlmsg_seq >= look->socket_count) {
        return;
    }
    socket = &look->sockets[header->nlmsg_seq];
    if (socket->inode != message->idiag_inode) {
        return; /* several listen on one address: this is another */
    }
    memset(&numbers, 0, sizeof(numbers));
    take_inet_attributes(header, &numbers);
    take_queues(message, &numbers);
    note_numbers(socket, &numbers);
}

/* Something waits at this socket, or may. What the dump found otherwise stays out of the questions
 * until the end. */
static bool is_suspect(const struct seen_socket *socket)
{
    const struct socket_numbers *now = &socket->last;

    if (socket->family != SOCKET_TCP || !socket->was_found || socket->was_lost) {
        return false;
    }
    if (now->unread_bytes > 0 || now->end_unread || socket->thread_watch_count > 0) {
        return true;
    }
    if (now->state == TCPS_LISTEN) {
        return false;
    }
    /* Was the last thing a request? See debt_of_peer() for what equal ages mean. */
    return now->state != TCPS_ESTABLISHED || now->unsent_bytes > 0 ||
           (now->sent_bytes > 0 &&
            (now->received_bytes == 0 || now->last_sent_ms < now->last_received_ms ||
             (now->last_sent_ms == now->last_received_ms &&
              now->last_ack_ms + 2 < now->last_received_ms)));
}

/* Its numbers say whether anybody has read from the set, and what lies in it. */
static bool is_in_undriven_set(const struct look *look, const struct seen_socket *socket)
{
    const struct seen_set *set;

    if (socket->family != SOCKET_TCP || socket->set == LOOK_SETS_MAX || !socket->was_found) {
        return false;
    }
    set = &look->sets[socket->set];
    return set->polled_count == 0 && set->collected_count == 0;
}

/* UINT32_MAX: a dump is needed. Of several sockets that listen on one address the kernel finds
 * whichever it likes, so what is concluded from those comes out of a dump. */
static uint32_t choose(const struct look *look, bool is_last, uint32_t *ret_indices)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < look->socket_count; i++) {
        const struct seen_socket *socket = &look->sockets[i];
        bool is_chosen = is_suspect(socket);

        if (is_last && is_chosen && socket->last.state == TCPS_LISTEN) {
            return UINT32_MAX;
        }
        if (is_chosen || (is_last && is_in_undriven_set(look, socket))) {
            ret_indices[count++] = i;
        }
    }
    return count;
}

static void ask_one_by_one(struct look *look, const uint32_t *indices, uint32_t count)
{
    struct diag_exact sockets[DIAG_EXACT_MAX];

    for (uint32_t done = 0; done < count && look->can_sockets;) {
        uint32_t part = (uint32_t)il_min_u64(count - done, DIAG_EXACT_MAX);

        for (uint32_t i = 0; i < part; i++) {
            struct seen_socket *socket = &look->sockets[indices[done + i]];

            sockets[i].number = indices[done + i];
            sockets[i].family = socket->diag_family;
            memcpy(&sockets[i].id, socket->diag_id, sizeof(sockets[i].id));
            socket->was_lost = socket->last.state != TCPS_LISTEN; /* until the answer comes */
        }
        if (!diag_ask_exactly(look, sockets, part, take_exact, look)) {
            look_limit(look, "sock_diag stopped answering: socket queues and ages were not seen");
            look->can_sockets = false;
        }
        done += part;
    }
}

void sockets_look(struct look *look, enum sockets_when when)
{
    uint32_t *suspects, count;

    if (look->socket_count == 0) {
        look->can_sockets = true;
        return;
    }
    if (when != SOCKETS_AT_FIRST && !look->can_sockets) {
        return;
    }
    if (look->diag_fd < 0 && (look->diag_fd = diag_open(look)) < 0) {
        look_limit(look, "sock_diag could not be asked: socket queues and ages were not seen");
        look->can_sockets = false;
        return;
    }
    suspects = il_calloc(look->socket_count, sizeof(*suspects));
    count = when == SOCKETS_AT_FIRST || suspects == NULL
                ? UINT32_MAX
                : choose(look, when == SOCKETS_AT_LAST, suspects);
    if (count > look->namespace_count / 2 ||
        (when == SOCKETS_AT_LAST && look->namespace_count <= SOCKETS_DUMP_CHEAP)) {
        dump_all(look, when == SOCKETS_AT_FIRST);
    } else {
        ask_one_by_one(look, suspects, count);
    }
    il_free(suspects);
}

/* ---- the first unread bytes ---- */

/* SETTINGS, PING, GOAWAY and WINDOW_UPDATE come unasked: nobody waits for them. */
static enum first_bytes judge_frame(const unsigned char *bytes)
{
    bool is_control = bytes[3] == 4 || bytes[3] == 6 || bytes[3] == 7 || bytes[3] == 8;
    bool is_stream_0 = (bytes[5] | bytes[6] | bytes[7] | bytes[8]) == 0;

    return is_control && is_stream_0 ? BYTES_HTTP2_CONTROL : BYTES_HTTP2_FRAME;
}

static enum first_bytes judge_bytes(const unsigned char *bytes, size_t size,
                                    const struct seen_socket *socket, uint16_t *ret_status)
{
    static const char *const methods[] = { "GET ", "POST", "PUT ", "HEAD", "DELE", "OPTI", "PATC" };

    *ret_status = 0;
    if (size >= 12 && memcmp(bytes, "HTTP/1.", 7) == 0 && bytes[8] == ' ') {
        for (int i = 9; i < 12; i++) {
            if (bytes[i] < '0' || bytes[i] > '9') {
                return BYTES_OTHER;
            }
            *ret_status = (uint16_t)(*ret_status * 10 + (bytes[i] - '0'));
        }
        return BYTES_HTTP1_STATUS;
    }
    for (size_t i = 0; i < il_array_count(methods); i++) {
        if (size >= 4 && memcmp(bytes, methods[i], 4) == 0) {
            return BYTES_HTTP1_REQUEST;
        }
    }
    if (size >= 5 && bytes[0] >= 0x14 && bytes[0] <= 0x17 && bytes[1] == 3 && bytes[2] <= 4) {
        /* TLS 1.3 hides the type; a lone record as small as an alert, then the end, is one. */
        bool is_small_and_last =
            socket->last.unread_bytes <= SOCKETS_ALERT_MAX && socket->last.end_unread;

        return bytes[0] == 0x15 || is_small_and_last ? BYTES_TLS_ALERT : BYTES_TLS_DATA;
    }
    if (size >= 9 && bytes[0] == 0 && bytes[3] <= 9 && (bytes[5] & 0x80) == 0 &&
        (size_t)(bytes[1] << 8 | bytes[2]) + 9 <= socket->last.unread_bytes + 16384) {
        return judge_frame(bytes);
    }
    return BYTES_OTHER;
}

void sockets_peek(struct look *look, struct seen_socket *socket)
{
    unsigned char bytes[SOCKETS_PEEK_BYTES];
    int offset = -1;
    socklen_t length = sizeof(offset);
    ssize_t got = 0;
    int copy;

    if (!look->can_copy_fd || !look->options.peek || socket->family != SOCKET_TCP ||
        socket->last.state == TCPS_LISTEN || socket->last.unread_bytes == 0) {
        return;
    }
    copy = (int)syscall(SYS_pidfd_getfd, look->pidfd, socket->fd, 0);
    if (copy < 0) {
        return;
    }
    /* With SO_PEEK_OFF set a peek moves the target's own peek position: leave such alone. */
    if (getsockopt(copy, SOL_SOCKET, SO_PEEK_OFF, &offset, &length) != 0 || offset < 0) {
        got = recv(copy, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
    }
    close(copy);
    if (got > 0) {
        socket->first_bytes = judge_bytes(bytes, (size_t)got, socket, &socket->http_status);
    }
}
