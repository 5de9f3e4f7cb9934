/* diag.c: the netlink side of sock_diag.
 *
 * A dump walks the whole hash table of the kernel, both of whose families it gives at once where it
 * is asked in the old way, and costs some milliseconds of CPU; a question for one socket by its
 * addresses and cookie costs two microseconds. Nothing here touches the sockets of the target other
 * than that the kernel takes a socket's lock for the moment in which it copies tcp_info.
 *
 * Owns: nothing; the netlink socket belongs to the look. Thread: the doctor's only one; it enters
 *   the target's network namespace for as long as it takes to make that socket, and returns. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor/diag.h"

#define DIAG_REPLY_BYTES 65536
#define DIAG_REPLIES_MAX 65536 /* netlink messages in one dump: about a million sockets */
#define DIAG_TIMEOUT_S   2
#define DIAG_TCP_STATES  0xfffu
#define DIAG_EXTENSIONS  (1u << (INET_DIAG_INFO - 1) | 1u << (INET_DIAG_SKMEMINFO - 1))

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

static int open_netlink(void)
{
    struct timeval limit = { .tv_sec = DIAG_TIMEOUT_S };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    }
    return fd;
}

int diag_open(struct look *look)
{
    char path[64];
    int theirs, mine, fd = -1;

    if (is_same_namespace(look)) {
        return open_netlink();
    }
    snprintf(path, sizeof(path), "/proc/%d/ns/net", look->pid);
    mine = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    theirs = open(path, O_RDONLY | O_CLOEXEC);
    if (mine >= 0 && theirs >= 0 && setns(theirs, CLONE_NEWNET) == 0) {
        fd = open_netlink();
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

/* ---- answers ---- */

enum answer { ANSWER_GOES_ON, ANSWER_DONE, ANSWER_FAILED };

struct conversation {
    diag_reply_fn *on_reply;
    void *arg;
    uint32_t end_count; /* messages and errors that the answer still consists of; 0: until DONE */
};

static bool is_whole(const struct nlmsghdr *header)
{
    if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY && header->nlmsg_type != TCPDIAG_GETSOCK) {
        return false;
    }
    /* The first byte after the header is the family, of either kind of message. */
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof(struct unix_diag_msg))) {
        return false;
    }
    return *(const uint8_t *)NLMSG_DATA(header) == AF_UNIX ||
           header->nlmsg_len >= NLMSG_LENGTH(sizeof(struct inet_diag_msg));
}

static enum answer take_datagram(struct conversation *conversation, const char *bytes, size_t size)
{
    for (const struct nlmsghdr *header = (const struct nlmsghdr *)(const void *)bytes;
         NLMSG_OK(header, size); header = NLMSG_NEXT(header, size)) {
        if (header->nlmsg_type == NLMSG_DONE) {
            return ANSWER_DONE;
        }
        if (header->nlmsg_type == NLMSG_ERROR && conversation->end_count == 0) {
            return ANSWER_FAILED;
        }
        if (is_whole(header)) {
            conversation->on_reply(conversation->arg, header);
        }
        if (conversation->end_count > 0 && --conversation->end_count == 0) {
            return ANSWER_DONE;
        }
    }
    return ANSWER_GOES_ON;
}

static bool converse(struct look *look, const void *request, size_t size,
                     struct conversation *conversation)
{
    static _Alignas(struct nlmsghdr) char bytes[DIAG_REPLY_BYTES];

    if (send(look->diag_fd, request, size, 0) != (ssize_t)size) {
        return false;
    }
    for (uint32_t i = 0; i < DIAG_REPLIES_MAX; i++) {
        ssize_t got = recv(look->diag_fd, bytes, sizeof(bytes), 0);
        enum answer answer;

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            close(look->diag_fd); /* what comes late must not be taken for the next answer */
            look->diag_fd = -1;
            return false;
        }
        answer = take_datagram(conversation, bytes, (size_t)got);
        if (answer != ANSWER_GOES_ON) {
            return answer == ANSWER_DONE;
        }
    }
    look_limit(look, "more sockets in the network namespace than the doctor reads");
    return false;
}

/* ---- dumps ---- */

static bool dump_family(struct look *look, uint8_t family, uint8_t protocol,
                        struct conversation *conversation)
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
                  .idiag_ext = DIAG_EXTENSIONS,
                  .idiag_states = DIAG_TCP_STATES & ~(1u << TCPS_TIME_WAIT) },
    };

    return converse(look, &request, sizeof(request), conversation);
}

/* The older form of the question, which is for TCP alone, asks for IPv4 and IPv6 in one walk. */
static bool dump_both_families(struct look *look, struct conversation *conversation)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req body;
    } request = {
        .header = { .nlmsg_len = sizeof(request),
                    .nlmsg_type = TCPDIAG_GETSOCK,
                    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
        .body = { .idiag_ext = DIAG_EXTENSIONS,
                  .idiag_states = DIAG_TCP_STATES & ~(1u << TCPS_TIME_WAIT) },
    };

    return converse(look, &request, sizeof(request), conversation);
}

bool diag_dump_tcp(struct look *look, diag_reply_fn *on_reply, void *arg)
{
    struct conversation conversation = { on_reply, arg, 0 };
    bool has_ipv4, has_ipv6;

    if (dump_both_families(look, &conversation)) {
        return true;
    }
    has_ipv4 = dump_family(look, AF_INET, IPPROTO_TCP, &conversation);
    has_ipv6 = dump_family(look, AF_INET6, IPPROTO_TCP, &conversation);
    return has_ipv4 && has_ipv6;
}

bool diag_dump_udp(struct look *look, diag_reply_fn *on_reply, void *arg)
{
    struct conversation conversation = { on_reply, arg, 0 };

    return dump_family(look, AF_INET, IPPROTO_UDP, &conversation) &&
           dump_family(look, AF_INET6, IPPROTO_UDP, &conversation);
}

bool diag_dump_unix(struct look *look, diag_reply_fn *on_reply, void *arg)
{
    struct conversation conversation = { on_reply, arg, 0 };
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

    return converse(look, &request, sizeof(request), &conversation);
}

/* ---- exact questions ---- */

bool diag_ask_exactly(struct look *look, const struct diag_exact *sockets, uint32_t count,
                      diag_reply_fn *on_reply, void *arg)
{
    struct conversation conversation = { on_reply, arg, count };
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 body;
    } requests[DIAG_EXACT_MAX];

    il_assert(count > 0 && count <= DIAG_EXACT_MAX);
    memset(requests, 0, sizeof(requests));
    for (uint32_t i = 0; i < count; i++) {
        requests[i].header = (struct nlmsghdr){ .nlmsg_len = sizeof(requests[i]),
                                                .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                                                .nlmsg_flags = NLM_F_REQUEST,
                                                .nlmsg_seq = sockets[i].number };
        requests[i].body = (struct inet_diag_req_v2){ .sdiag_family = sockets[i].family,
                                                      .sdiag_protocol = IPPROTO_TCP,
                                                      .idiag_ext = DIAG_EXTENSIONS,
                                                      .idiag_states = DIAG_TCP_STATES,
                                                      .id = sockets[i].id };
    }
    /* Each question is answered by one message: the socket, or an error for one that is gone. */
    return converse(look, requests, count * sizeof(requests[0]), &conversation);
}
