/* sockets.c: what the kernel's sock_diag tells of the target's sockets.
 *
 * The dumps are made of all sockets of the target's network namespace and matched by inode, so
 * the sockets themselves are not touched. A dump is asked for a few times in one look, to tell what
 * moves from what stands.
 *
 * Owns: a netlink socket during one dump. Thread: the doctor's only one; it enters the target's
 * network namespace for as long as it takes to make that socket, and returns. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "doctor/sockets.h"

#define SOCKETS_REPLY_BYTES 65536
#define SOCKETS_REPLIES_MAX 65536 /* netlink messages in one dump: about a million sockets */
#define SOCKETS_TIMEOUT_S   2
#define SOCKETS_ALL_STATES  0xfffu
#define SOCKETS_PEEK_BYTES  32
#define SOCKETS_ALERT_MAX   40 /* a TLS alert record is 7 bytes in clear, up to 31 encrypted */

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

/* ---- a netlink socket in the right namespace ---- */

static bool is_same_namespace(const struct look *look)
{
    struct stat mine, theirs;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/ns/net", look->pid);
    if (stat("/proc/self/ns/net", &mine) != 0 || stat(path, &theirs) != 0) {
        return true; /* cannot be told: try ours, matching by inode keeps it honest */
    }
    return mine.st_ino == theirs.st_ino && mine.st_dev == theirs.st_dev;
}

static int open_diag(void)
{
    struct timeval limit = { .tv_sec = SOCKETS_TIMEOUT_S };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    }
    return fd;
}

static int open_diag_of_target(struct look *look)
{
    char path[64];
    int theirs, mine, fd = -1;

    if (is_same_namespace(look)) {
        return open_diag();
    }
    snprintf(path, sizeof(path), "/proc/%d/ns/net", look->pid);
    mine = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    theirs = open(path, O_RDONLY | O_CLOEXEC);
    if (mine >= 0 && theirs >= 0 && setns(theirs, CLONE_NEWNET) == 0) {
        fd = open_diag();
        il_assert(setns(mine, CLONE_NEWNET) == 0); /* elsewhere every later look would be wrong */
    } else {
        look_limit(look, "the process lives in another network namespace; entering it needs root "
                         "(CAP_SYS_ADMIN): socket queues and ages were not seen");
    }
    if (theirs >= 0) {
        close(theirs);
    }
    if (mine >= 0) {
        close(mine);
    }
    return fd;
}

/* ---- TCP and UDP ---- */

static void format_address(uint8_t family, const uint32_t *address, uint16_t port, char *ret_text,
                           size_t size)
{
    char text[INET6_ADDRSTRLEN] = "?";

    (void)inet_ntop(family, address, text, sizeof(text));
    snprintf(ret_text, size, family == AF_INET6 ? "[%s]:%u" : "%s:%u", text, port);
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
    uint8_t listening[65536 / 8];
};

static void take_inet_socket(struct dump *dump, const struct nlmsghdr *header)
{
    const struct inet_diag_msg *message = NLMSG_DATA(header);
    uint16_t local_port = ntohs(message->id.idiag_sport);
    struct socket_numbers numbers;
    struct seen_socket *socket;
    uint32_t index;

    if (dump->family == SOCKET_TCP && message->idiag_state == TCPS_LISTEN) {
        dump->listening[local_port / 8] |= (uint8_t)(1u << (local_port % 8));
    }
    index = look_socket_of_inode(dump->look, message->idiag_inode);
    if (index == UINT32_MAX || message->idiag_inode == 0) {
        return;
    }
    memset(&numbers, 0, sizeof(numbers));
    socket = &dump->look->sockets[index];
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

static void take_unix_socket(struct dump *dump, const struct nlmsghdr *header)
{
    const struct unix_diag_msg *message = NLMSG_DATA(header);
    unsigned length = (unsigned)(header->nlmsg_len - NLMSG_LENGTH(sizeof(*message)));
    uint32_t index = look_socket_of_inode(dump->look, message->udiag_ino);
    struct socket_numbers numbers;

    if (index == UINT32_MAX || message->udiag_ino == 0) {
        return;
    }
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

/* False at the end of the dump or when it failed. */
static bool take_reply(struct dump *dump, const char *bytes, size_t size)
{
    for (const struct nlmsghdr *header = (const struct nlmsghdr *)(const void *)bytes;
         NLMSG_OK(header, size); header = NLMSG_NEXT(header, size)) {
        if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR) {
            return false;
        }
        if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY) {
            continue;
        }
        if (dump->family == SOCKET_UNIX) {
            if (header->nlmsg_len >= NLMSG_LENGTH(sizeof(struct unix_diag_msg))) {
                take_unix_socket(dump, header);
            }
        } else if (header->nlmsg_len >= NLMSG_LENGTH(sizeof(struct inet_diag_msg))) {
            take_inet_socket(dump, header);
        }
    }
    return true;
}

static bool run_dump(int netlink, struct dump *dump, const void *request, size_t size)
{
    static _Alignas(struct nlmsghdr) char bytes[SOCKETS_REPLY_BYTES];

    if (send(netlink, request, size, 0) != (ssize_t)size) {
        return false;
    }
    for (uint32_t i = 0; i < SOCKETS_REPLIES_MAX; i++) {
        ssize_t got = recv(netlink, bytes, sizeof(bytes), 0);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        if (!take_reply(dump, bytes, (size_t)got)) {
            return true;
        }
    }
    look_limit(dump->look, "more sockets in the network namespace than the doctor reads");
    return false;
}

static bool dump_inet(int netlink, struct dump *dump, uint8_t family, uint8_t protocol)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 body;
    } request = {
        .header = { .nlmsg_len = sizeof(request),
                    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
        .body = { .sdiag_family = family,
                  .sdiag_protocol = protocol,
                  .idiag_ext = 1u << (INET_DIAG_INFO - 1) | 1u << (INET_DIAG_SKMEMINFO - 1),
                  .idiag_states = SOCKETS_ALL_STATES & ~(1u << TCPS_TIME_WAIT) },
    };

    dump->family = protocol == IPPROTO_TCP ? SOCKET_TCP : SOCKET_UDP;
    return run_dump(netlink, dump, &request, sizeof(request));
}

static bool dump_unix(int netlink, struct dump *dump)
{
    struct {
        struct nlmsghdr header;
        struct unix_diag_req body;
    } request = {
        .header = { .nlmsg_len = sizeof(request),
                    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
        .body = { .sdiag_family = AF_UNIX,
                  .udiag_states = UINT32_MAX,
                  .udiag_show = UDIAG_SHOW_RQLEN },
    };

    dump->family = SOCKET_UNIX;
    return run_dump(netlink, dump, &request, sizeof(request));
}

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

void sockets_look(struct look *look)
{
    struct dump *dump;
    int netlink;

    if (look->socket_count == 0) {
        look->can_sockets = true;
        return;
    }
    dump = il_calloc(1, sizeof(*dump));
    netlink = dump == NULL ? -1 : open_diag_of_target(look);
    if (netlink < 0) {
        look_limit(look, "sock_diag could not be asked: socket queues and ages were not seen");
        il_free(dump);
        look->can_sockets = false;
        return;
    }
    dump->look = look;
    for (uint32_t i = 0; i < look->socket_count; i++) {
        look->sockets[i].was_lost = true; /* until the dump finds it again */
    }
    look->can_sockets = dump_inet(netlink, dump, AF_INET, IPPROTO_TCP);
    look->can_sockets &= dump_inet(netlink, dump, AF_INET6, IPPROTO_TCP);
    if (!look->can_sockets) {
        look_limit(look, "the kernel gave no list of TCP sockets (module tcp_diag?): socket "
                         "queues and ages were not seen");
    }
    /* Without UDP or unix sockets only the resolver and wake-up pipes are seen less well. */
    if (!dump_inet(netlink, dump, AF_INET, IPPROTO_UDP) ||
        !dump_inet(netlink, dump, AF_INET6, IPPROTO_UDP)) {
        look_limit(look, "the kernel gave no list of UDP sockets (module udp_diag?)");
    }
    if (!dump_unix(netlink, dump)) {
        look_limit(look, "the kernel gave no list of unix sockets (module unix_diag?)");
    }
    mark_servers(dump);
    close(netlink);
    il_free(dump);
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
