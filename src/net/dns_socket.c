/* dns_socket.c: c-ares's sockets, opened through src/sys and watched by the loop.
 *
 * c-ares expects to be told again and again that a socket is ready, as poll(2) does; the loop's
 * watches tell once, when it becomes so. So each socket remembers what it was told, and c-ares is
 * called until it has met EAGAIN. Events only note and push the dns's job, which calls c-ares.
 *
 * Owns: a dns_socket for each descriptor that c-ares has open. Ends: c-ares closes each, at the
 *   latest when its channel is destroyed. Threads: the one that holds the loop. */
#include <errno.h>

#include "net/dns_inside.h"

/* Calls of c-ares in one turn: a server that talks without end must not keep the loop. */
#define DNS_ROUNDS_MAX 64

struct dns_socket {
    struct il_list link;
    struct dns *dns;
    struct watch *watch; /* NULL until it is connected */
    int fd;
    bool is_stream;
    bool is_readable, is_writable; /* no EAGAIN since the event that said so */
    bool wants_write;              /* c-ares has something to send */
    bool was_used; /* c-ares has tried to receive or send since it was last called */
    struct net_address peer;
};

static struct dns_socket *socket_find(struct dns *dns, int fd)
{
    il_list_for_each(&dns->sockets, node)
    {
        struct dns_socket *socket = il_container_of(node, struct dns_socket, link);

        if (socket->fd == fd) {
            return socket;
        }
    }
    return NULL;
}

/* As c-ares wants it: -1 with errno. What is worth telling the user is kept. */
static int fail_with(struct dns *dns, int sys_errno)
{
    if (sys_errno != EAGAIN && sys_errno != EINPROGRESS) {
        dns->sys_errno = sys_errno;
    }
    errno = sys_errno;
    return -1;
}

/* ---- events ---- */

static void socket_on_event(struct watch *watch, uint32_t events)
{
    struct dns_socket *socket = watch->arg;

    socket->is_readable |= (events & ~(uint32_t)EPOLLOUT) != 0; /* an error is read, too */
    socket->is_writable |= (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0;
    dns_push(socket->dns);
}

static void socket_on_rest_event(struct watch *watch, uint32_t events)
{
    il_assert(false); /* these watches never rest */
}

/* ---- what c-ares calls ---- */

static ares_socket_t on_socket(int family, int type, int protocol, void *arg)
{
    struct dns *dns = arg;
    struct dns_socket *socket;
    int fd;

    fd = type == SOCK_STREAM ? sys_socket_open(family) : sys_socket_open_datagram(family);
    if (fd < 0) {
        return fail_with(dns, -fd);
    }
    socket = il_calloc(1, sizeof(*socket));
    if (socket == NULL) {
        sys_close(fd);
        return fail_with(dns, ENOMEM);
    }
    il_list_init(&socket->link);
    socket->dns = dns;
    socket->fd = fd;
    socket->is_stream = type == SOCK_STREAM;
    il_list_push_back(&dns->sockets, &socket->link);
    return fd;
}

static int on_connect(ares_socket_t fd, const struct sockaddr *address, ares_socklen_t size,
                      void *arg)
{
    struct dns *dns = arg;
    struct dns_socket *socket = socket_find(dns, fd);
    int result = sys_socket_connect(fd, address, size);
    struct il_error err;

    il_assert(socket != NULL && socket->watch == NULL);
    il_assert(size <= sizeof(socket->peer));
    if (result < 0 && result != -EINPROGRESS) {
        return fail_with(dns, -result);
    }
    memcpy(&socket->peer, address, size);
    if (watch_open(dns->loop->poller, fd, socket_on_event, socket_on_rest_event, socket,
                   &socket->watch, &err) != IL_OK) {
        return fail_with(dns, err.sys_errno != 0 ? err.sys_errno : ENOMEM);
    }
    return result < 0 ? fail_with(dns, -result) : 0;
}

static int on_close(ares_socket_t fd, void *arg)
{
    struct dns_socket *socket = socket_find(arg, fd);

    il_assert(socket != NULL);
    if (socket->watch != NULL) {
        watch_close(socket->watch);
    }
    sys_close(fd);
    il_list_unlink(&socket->link);
    il_free(socket);
    return 0;
}

static ares_ssize_t on_receive(ares_socket_t fd, void *bytes, size_t size, int flags,
                               struct sockaddr *from, ares_socklen_t *from_size, void *arg)
{
    struct dns *dns = arg;
    struct dns_socket *socket = socket_find(dns, fd);
    ssize_t got = sys_socket_receive(fd, bytes, size);

    il_assert(socket != NULL);
    socket->was_used = true;
    if (got == 0 && !socket->is_stream) {
        return fail_with(dns, EAGAIN); /* an empty datagram is no answer; more may follow */
    }
    if (got < 0) {
        socket->is_readable = socket->is_readable && got != -EAGAIN;
        return fail_with(dns, (int)-got);
    }
    if (from != NULL) { /* connected: the kernel lets nobody else's datagrams in */
        il_assert(*from_size >= net_address_size(&socket->peer));
        *from_size = net_address_size(&socket->peer);
        memcpy(from, &socket->peer, *from_size);
    }
    if (!socket->is_stream) {
        dns_note_refusal(dns, bytes, (size_t)got);
    }
    return got;
}

static ares_ssize_t on_send(ares_socket_t fd, const struct iovec *parts, int part_count, void *arg)
{
    struct dns *dns = arg;
    struct dns_socket *socket = socket_find(dns, fd);
    ssize_t sent = sys_socket_send(fd, parts, part_count);

    il_assert(socket != NULL);
    socket->was_used = true;
    if (sent >= 0) {
        return sent;
    }
    if (sent != -EAGAIN) {
        return fail_with(dns, (int)-sent);
    }
    socket->is_writable = false;
    if (socket->is_stream) {
        return fail_with(dns, EAGAIN);
    }
    /* c-ares takes a full send buffer for a server that is out of reach. A datagram that finds no
     * room is a lost datagram: it will be sent again when no answer comes. */
    sent = 0;
    for (int i = 0; i < part_count; i++) {
        sent += (ssize_t)parts[i].iov_len;
    }
    return sent;
}

static const struct ares_socket_functions socket_functions = {
    .asocket = on_socket,
    .aclose = on_close,
    .aconnect = on_connect,
    .arecvfrom = on_receive,
    .asendv = on_send,
};

void dns_sockets_init(struct dns *dns)
{
    il_list_init(&dns->sockets);
    ares_set_socket_functions(dns->channel, &socket_functions, dns);
}

void dns_socket_on_state(void *arg, int fd, int readable, int writable)
{
    struct dns *dns = arg;
    struct dns_socket *socket = socket_find(dns, fd);

    il_assert(socket != NULL);
    socket->wants_write = writable != 0;
    if (socket->wants_write && socket->is_writable) {
        dns_push(dns); /* no event will come: the socket was writable before */
    }
}

/* ---- calling c-ares ---- */

static struct dns_socket *socket_find_ready(struct dns *dns)
{
    il_list_for_each(&dns->sockets, node)
    {
        struct dns_socket *socket = il_container_of(node, struct dns_socket, link);

        if (socket->is_readable || (socket->is_writable && socket->wants_write)) {
            return socket;
        }
    }
    return NULL;
}

void dns_sockets_look(struct dns *dns)
{
    il_list_for_each(&dns->sockets, node)
    {
        struct dns_socket *socket = il_container_of(node, struct dns_socket, link);

        socket->is_readable = socket->watch != NULL;
    }
}

bool dns_sockets_work(struct dns *dns)
{
    struct dns_socket *socket;

    for (int i = 0; (socket = socket_find_ready(dns)) != NULL; i++) {
        int fd = socket->fd;

        if (i == DNS_ROUNDS_MAX) {
            return false;
        }
        socket->was_used = false;
        dns_process(dns, socket->is_readable ? fd : ARES_SOCKET_BAD,
                    socket->is_writable && socket->wants_write ? fd : ARES_SOCKET_BAD);
        if (socket_find(dns, fd) == socket && !socket->was_used) {
            /* c-ares does not care for this one now: do not ask it for ever */
            socket->is_readable = socket->is_writable = false;
        }
    }
    return true;
}
