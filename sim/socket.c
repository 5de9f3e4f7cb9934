/* socket.c: the client's end of a connection, as Linux shows it to a program: tcp(7), tcp_poll and
 * tcp_recvmsg of the kernel. sim/socket_test.c plays the same program on both.
 *
 * Owns: sockets and what they have received. Threads: simulated ones; the functions named
 * socket_on_... are the world's. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "sim/inside.h"

#define PORT_FIRST 32768 /* of clients */
#define PORT_COUNT 28232

struct sim_socket *socket_of(int fd)
{
    struct sim_file *file = file_of(fd);

    return file != NULL && file->kind == SIM_FILE_SOCKET
               ? il_container_of(file, struct sim_socket, file)
               : NULL;
}

static struct sim_socket *socket_enter(int fd)
{
    struct sim_socket *socket;

    sim_door();
    socket = socket_of(fd);
    il_assert(socket != NULL);
    return socket;
}

/* ---- life ---- */

int socket_open(int family)
{
    struct sim_socket *socket = calloc(1, sizeof(*socket));

    sim_door();
    il_assert(socket != NULL);
    socket->family = family;
    socket->room = sim.weights.room_bytes;
    return file_open(&socket->file, SIM_FILE_SOCKET);
}

void socket_free(struct sim_socket *socket)
{
    if (socket->link != NULL) {
        link_client_close(socket->link, socket->begin < socket->end);
    }
    free(socket->bytes);
    free(socket);
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

int socket_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    struct sim_socket *socket = socket_enter(fd);
    uint16_t port;

    if (socket->state == SIM_SOCKET_OPEN) {
        bool is_told = socket->is_connect_told;

        socket->is_connect_told = true; /* whoever asks again learns it in this way, once */
        return is_told ? -EISCONN : 0;
    }
    if (socket->state != SIM_SOCKET_NEW) {
        return socket->state == SIM_SOCKET_CONNECTING ? -EALREADY : -ECONNABORTED;
    }
    if (size > sizeof(socket->peer) || address->sa_family != socket->family) {
        return -EAFNOSUPPORT;
    }
    if (sim_fault(SIM_FAULT_PORTS)) {
        return -EADDRNOTAVAIL;
    }
    memcpy(&socket->peer, address, size);
    port = address->sa_family == AF_INET
               ? ((const struct sockaddr_in *)(const void *)address)->sin_port
               : ((const struct sockaddr_in6 *)(const void *)address)->sin6_port;
    sim.port_last = (uint16_t)((sim.port_last + 1) % PORT_COUNT);
    socket->local_port = (uint16_t)(PORT_FIRST + sim.port_last);
    socket->state = SIM_SOCKET_CONNECTING;
    trace(SIM_EVENT_CONNECT, (uint64_t)fd, ntohs(port), NULL);
    link_open(socket, is_loopback(address) ? ntohs(port) : 0);
    return -EINPROGRESS;
}

/* ---- what is there ---- */

static bool socket_is_writable(const struct sim_socket *socket)
{
    return socket->room - socket->unsent >= socket->unsent / 2;
}

uint32_t socket_events(struct sim_socket *socket)
{
    uint32_t events = 0;

    if (socket->state == SIM_SOCKET_NEW) {
        return EPOLLOUT | EPOLLHUP;
    }
    if (socket->state == SIM_SOCKET_DEAD) {
        events |= EPOLLHUP | EPOLLIN | EPOLLRDNORM | EPOLLRDHUP | EPOLLOUT | EPOLLWRNORM;
    }
    if (socket->is_ended) {
        events |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
    }
    if (socket->state == SIM_SOCKET_OPEN) {
        if (socket->begin < socket->end) {
            events |= EPOLLIN | EPOLLRDNORM;
        }
        if (socket_is_writable(socket)) {
            events |= EPOLLOUT | EPOLLWRNORM;
        } else {
            socket->is_full = true;
        }
    }
    if (socket->error != 0) {
        events |= EPOLLERR;
    }
    return events;
}

int socket_error(int fd)
{
    struct sim_socket *socket = socket_enter(fd);
    int error = socket->error;

    socket->error = 0;
    return -error;
}

int socket_bytes_unread(int fd)
{
    struct sim_socket *socket = socket_enter(fd);

    return (int)(socket->end - socket->begin);
}

int socket_bytes_unsent(int fd)
{
    struct sim_socket *socket = socket_enter(fd);

    return (int)socket->unsent;
}

int socket_names(int fd, struct sockaddr_storage *local, struct sockaddr_storage *peer)
{
    struct sim_socket *socket = socket_enter(fd);

    if (socket->state == SIM_SOCKET_NEW || socket->state == SIM_SOCKET_DEAD) {
        return -ENOTCONN;
    }
    memset(local, 0, sizeof(*local));
    if (socket->family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)local;

        in->sin_family = AF_INET;
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        in->sin_port = htons(socket->local_port);
    } else {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)local;

        in6->sin6_family = AF_INET6;
        in6->sin6_addr = in6addr_loopback;
        in6->sin6_port = htons(socket->local_port);
    }
    *peer = socket->peer;
    return 0;
}

/* ---- reading and writing ---- */

static ssize_t socket_take(struct sim_socket *socket, void *bytes, size_t size, bool is_peek)
{
    size_t got = il_min_u64(size, socket->end - socket->begin);

    if (got > 0) {
        memcpy(bytes, socket->bytes + socket->begin, got);
        if (!is_peek) {
            socket->begin += got;
            if (socket->link != NULL) {
                link_on_read(socket->link, got);
            }
            trace(SIM_EVENT_RECEIVE, (uint64_t)socket->file.fd, got, NULL);
        }
        return (ssize_t)got;
    }
    if (socket->is_ended) {
        return 0;
    }
    if (socket->error != 0) {
        int error = socket->error;

        socket->error = 0;
        return -error;
    }
    switch (socket->state) {
    case SIM_SOCKET_NEW:
        return -ENOTCONN;
    case SIM_SOCKET_DEAD:
        return 0;
    default:
        return -EAGAIN;
    }
}

ssize_t socket_receive(int fd, void *bytes, size_t size)
{
    return socket_take(socket_enter(fd), bytes, size, false);
}

ssize_t socket_peek(int fd, void *bytes, size_t size)
{
    return socket_take(socket_enter(fd), bytes, size, true);
}

ssize_t socket_send(int fd, const struct iovec *parts, int part_count)
{
    struct sim_socket *socket = socket_enter(fd);
    size_t size = 0, room;

    if (socket->state == SIM_SOCKET_CONNECTING) {
        return -EAGAIN;
    }
    if (socket->state != SIM_SOCKET_OPEN) {
        int error = socket->error != 0 ? socket->error : EPIPE;

        socket->error = 0;
        return -error;
    }
    for (int i = 0; i < part_count; i++) {
        size += parts[i].iov_len;
    }
    room = socket->room - socket->unsent;
    if (size > room) {
        socket->is_full = true;
        size = room;
    }
    if (size == 0) {
        return socket->is_full ? -EAGAIN : 0;
    }
    socket->unsent += size;
    trace(SIM_EVENT_SEND, (uint64_t)fd, size, NULL);
    link_from_client(socket->link, parts, part_count, size);
    return (ssize_t)size;
}

/* ---- what arrives ---- */

void socket_on_connected(struct sim_socket *socket)
{
    socket->state = SIM_SOCKET_OPEN;
    trace(SIM_EVENT_CONNECTED, (uint64_t)socket->file.fd, 0, NULL);
    file_notify(&socket->file, UINT32_MAX);
}

void socket_on_bytes(struct sim_socket *socket, const char *bytes, size_t size)
{
    if (socket->begin == socket->end) {
        socket->begin = socket->end = 0;
    }
    if (socket->end + size > socket->size) {
        socket->size = (socket->end + size) * 2;
        socket->bytes = realloc(socket->bytes, socket->size);
        il_assert(socket->bytes != NULL);
    }
    memcpy(socket->bytes + socket->end, bytes, size);
    socket->end += size;
    trace(SIM_EVENT_ARRIVE, (uint64_t)socket->file.fd, size, NULL);
    file_notify(&socket->file, EPOLLIN | EPOLLRDNORM);
}

void socket_on_fin(struct sim_socket *socket)
{
    socket->is_ended = true;
    trace(SIM_EVENT_FIN, (uint64_t)socket->file.fd, 0, NULL);
    file_notify(&socket->file, UINT32_MAX);
}

void socket_on_reset(struct sim_socket *socket, int error)
{
    bool is_connect = socket->state == SIM_SOCKET_CONNECTING;

    socket->state = SIM_SOCKET_DEAD;
    socket->error = socket->is_ended ? EPIPE : error;
    socket->unsent = 0;
    socket->link = NULL;
    trace(is_connect ? SIM_EVENT_CONNECT_FAIL : SIM_EVENT_RST, (uint64_t)socket->file.fd,
          (uint64_t)error, NULL);
    file_notify(&socket->file, UINT32_MAX);
}

void socket_on_room(struct sim_socket *socket, size_t size)
{
    il_assert(socket->unsent >= size);
    socket->unsent -= size;
    if (socket->is_full && socket_is_writable(socket)) {
        socket->is_full = false;
        file_notify(&socket->file, EPOLLOUT | EPOLLWRNORM);
    }
}
