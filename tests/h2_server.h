/* h2_server.h: h2_peer.h on loopback sockets: an HTTP/2 server, in clear, on a thread of its own.
 *
 * What the test wants of it goes through `ask`, under the mutex; the thread does it before it next
 * waits. Counts are read under the mutex, too; wait for one with h2_server_wait. */
#ifndef TESTS_H2_SERVER_H
#define TESTS_H2_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/h2_peer.h"

#define H2_SERVER_CONNS_MAX 64

enum h2_server_wish {
    H2_WISH_STOP = 1,
    H2_WISH_RELEASE = 2,  /* answer what is held */
    H2_WISH_GOAWAY = 4,   /* on every connection; what is open goes on */
    H2_WISH_CUT = 8,      /* close every connection */
    H2_WISH_FREEZE = 16,  /* read and write nothing any more */
    H2_WISH_LIMIT_0 = 32, /* announce that no streams are allowed */
    H2_WISH_LIMIT_9 = 64, /* announce that 9 are */
    H2_WISH_RESET = 128,  /* reset every connection, when what was sent has arrived */
};

struct h2_server {
    int listen_fd, wake[2];
    uint16_t port;
    uint32_t max_streams;
    bool does_not_read; /* set before the first connection: no windows for the bodies of requests */
    pthread_t thread;
    pthread_mutex_t mutex;
    unsigned wishes;
    unsigned accepted, open, requests, held, streams_max_seen, goaways, pings;
    uint32_t goaway_code; /* of the last */
    struct h2_server_conn {
        int fd; /* -1: free */
        struct h2_peer *peer;
        char *out;
        size_t out_size, out_capacity;
        bool is_frozen;
    } conns[H2_SERVER_CONNS_MAX];
};

static inline void h2_server_close(struct h2_server_conn *conn)
{
    close(conn->fd);
    h2_peer_deinit(conn->peer);
    free(conn->peer);
    free(conn->out);
    *conn = (struct h2_server_conn){ .fd = -1 };
}

/* False: the connection is over. */
static inline bool h2_server_send(struct h2_server_conn *conn)
{
    const uint8_t *bytes;
    ssize_t size = 1;

    for (;;) {
        while (conn->out_size < 262144 &&
               (size = nghttp2_session_mem_send(conn->peer->session, &bytes)) > 0) {
            if (conn->out_size + (size_t)size > conn->out_capacity) {
                conn->out_capacity = 2 * (conn->out_size + (size_t)size);
                conn->out = realloc(conn->out, conn->out_capacity);
            }
            memcpy(conn->out + conn->out_size, bytes, (size_t)size);
            conn->out_size += (size_t)size;
        }
        if (conn->out_size == 0) {
            return nghttp2_session_want_read(conn->peer->session) != 0;
        }
        size = send(conn->fd, conn->out, conn->out_size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (size < 0) {
            return errno == EAGAIN;
        }
        memmove(conn->out, conn->out + size, conn->out_size - (size_t)size);
        conn->out_size -= (size_t)size;
    }
}

static inline bool h2_server_receive(struct h2_server_conn *conn)
{
    uint8_t bytes[16384];
    ssize_t got;

    while ((got = recv(conn->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
        if (nghttp2_session_mem_recv(conn->peer->session, bytes, (size_t)got) < 0) {
            return false;
        }
    }
    return got < 0 && errno == EAGAIN;
}

static inline void h2_server_accept(struct h2_server *server)
{
    int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    for (unsigned i = 0; fd >= 0 && i < H2_SERVER_CONNS_MAX; i++) {
        if (server->conns[i].fd < 0) {
            server->conns[i] = (struct h2_server_conn){ .fd = fd };
            server->conns[i].peer = malloc(sizeof(struct h2_peer));
            h2_peer_init(server->conns[i].peer, server->max_streams);
            server->conns[i].peer->does_not_read = server->does_not_read;
            server->accepted++;
            return;
        }
    }
    CHECK(fd < 0); /* there is room for every connection of a test */
}

static inline void h2_server_announce(struct h2_server_conn *conn, uint32_t limit)
{
    nghttp2_settings_entry entry = { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limit };

    CHECK_EQ(nghttp2_submit_settings(conn->peer->session, 0, &entry, 1), 0);
}

static inline void h2_server_reset(const struct h2_server_conn *conn)
{
    struct linger now = { .l_onoff = 1, .l_linger = 0 };
    int left;

    do {
        CHECK_EQ(ioctl(conn->fd, SIOCOUTQ, &left), 0);
    } while (left > 0 && poll(NULL, 0, 1) == 0);
    CHECK_EQ(setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
}

/* False: the connection is over. */
static inline bool h2_server_grant(struct h2_server_conn *conn, unsigned wishes)
{
    if ((wishes & H2_WISH_RELEASE) != 0) {
        h2_peer_release(conn->peer);
    }
    if ((wishes & H2_WISH_GOAWAY) != 0) {
        CHECK_EQ(nghttp2_submit_goaway(conn->peer->session, 0,
                                       nghttp2_session_get_last_proc_stream_id(conn->peer->session),
                                       0, NULL, 0),
                 0);
    }
    if ((wishes & H2_WISH_LIMIT_0) != 0) {
        h2_server_announce(conn, 0);
    }
    if ((wishes & H2_WISH_LIMIT_9) != 0) {
        h2_server_announce(conn, 9);
    }
    conn->is_frozen = conn->is_frozen || (wishes & H2_WISH_FREEZE) != 0;
    if ((wishes & H2_WISH_CUT) != 0 ||
        (!conn->is_frozen && !(h2_server_receive(conn) && h2_server_send(conn)))) {
        return false;
    }
    if ((wishes & H2_WISH_RESET) != 0) {
        h2_server_reset(conn);
        return false;
    }
    return true;
}

static inline void h2_server_count(struct h2_server *server, unsigned closed_requests)
{
    server->open = server->held = server->pings = 0;
    server->requests = closed_requests;
    for (unsigned i = 0; i < H2_SERVER_CONNS_MAX; i++) {
        struct h2_server_conn *conn = &server->conns[i];

        if (conn->fd < 0) {
            continue;
        }
        server->open++;
        server->requests += conn->peer->request_count;
        server->pings += conn->peer->ping_count; /* of those that are open */
        if (conn->peer->open_count > server->streams_max_seen) {
            server->streams_max_seen = conn->peer->open_count;
        }
        for (unsigned at = 0; at < H2_PEER_STREAMS_MAX; at++) {
            const struct h2_peer_stream *stream = &conn->peer->streams[at];

            server->held +=
                stream->id != 0 && !stream->is_answered && strcmp(stream->path, "/held") == 0;
        }
    }
}

static inline void *h2_server_run(void *arg)
{
    struct h2_server *server = arg;
    unsigned closed_requests = 0;

    for (;;) {
        struct pollfd fds[H2_SERVER_CONNS_MAX + 2] = { { server->wake[0], POLLIN, 0 },
                                                       { server->listen_fd, POLLIN, 0 } };
        unsigned wishes;
        char drop[64];

        for (unsigned i = 0; i < H2_SERVER_CONNS_MAX; i++) {
            const struct h2_server_conn *conn = &server->conns[i];

            fds[i + 2] = (struct pollfd){ conn->is_frozen ? -1 : conn->fd,
                                          (short)(POLLIN | (conn->out_size > 0 ? POLLOUT : 0)), 0 };
        }
        (void)poll(fds, H2_SERVER_CONNS_MAX + 2, -1);
        (void)!read(server->wake[0], drop, sizeof(drop));
        pthread_mutex_lock(&server->mutex);
        wishes = server->wishes;
        server->wishes = 0;
        if (fds[1].revents != 0) {
            h2_server_accept(server);
        }
        for (unsigned i = 0; i < H2_SERVER_CONNS_MAX; i++) {
            struct h2_server_conn *conn = &server->conns[i];

            if (conn->fd >= 0) {
                bool said_goodbye = conn->peer->got_goaway;
                bool goes_on = h2_server_grant(conn, wishes);

                if (conn->peer->got_goaway && !said_goodbye) {
                    server->goaways++;
                    server->goaway_code = conn->peer->goaway_code;
                }
                if (!goes_on) {
                    closed_requests += conn->peer->request_count;
                    h2_server_close(conn);
                }
            }
        }
        h2_server_count(server, closed_requests);
        pthread_mutex_unlock(&server->mutex);
        if ((wishes & H2_WISH_STOP) != 0) {
            return NULL;
        }
    }
}

/* `max_streams`: how many to allow at a time; 0: say nothing. */
static inline struct h2_server *h2_server_start(uint32_t max_streams)
{
    struct h2_server *server = calloc(1, sizeof(*server));
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(address);

    server->max_streams = max_streams;
    for (unsigned i = 0; i < H2_SERVER_CONNS_MAX; i++) {
        server->conns[i].fd = -1;
    }
    server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(server->listen_fd, (struct sockaddr *)&address, size), 0);
    CHECK_EQ(listen(server->listen_fd, 100), 0);
    CHECK_EQ(getsockname(server->listen_fd, (struct sockaddr *)&address, &size), 0);
    server->port = ntohs(address.sin_port);
    CHECK_EQ(pipe2(server->wake, O_NONBLOCK | O_CLOEXEC), 0);
    CHECK_EQ(pthread_mutex_init(&server->mutex, NULL), 0);
    CHECK_EQ(pthread_create(&server->thread, NULL, h2_server_run, server), 0);
    return server;
}

static inline void h2_server_ask(struct h2_server *server, unsigned wishes)
{
    pthread_mutex_lock(&server->mutex);
    server->wishes |= wishes;
    pthread_mutex_unlock(&server->mutex);
    CHECK_EQ(write(server->wake[1], "", 1), 1);
}

/* Wait until `*count` (one of the server's) is `want`; false after some 50 seconds. */
static inline bool h2_server_wait(struct h2_server *server, const unsigned *count, unsigned want)
{
    for (int i = 0; i < 50000; i++) {
        struct timespec ms = { .tv_nsec = 1000000 };
        bool is_there;

        pthread_mutex_lock(&server->mutex);
        is_there = *count == want;
        pthread_mutex_unlock(&server->mutex);
        if (is_there) {
            return true;
        }
        nanosleep(&ms, NULL);
    }
    return false;
}

static inline void h2_server_stop(struct h2_server *server)
{
    h2_server_ask(server, H2_WISH_STOP);
    pthread_join(server->thread, NULL);
    for (unsigned i = 0; i < H2_SERVER_CONNS_MAX; i++) {
        if (server->conns[i].fd >= 0) {
            h2_server_close(&server->conns[i]);
        }
    }
    close(server->listen_fd);
    close(server->wake[0]);
    close(server->wake[1]);
    pthread_mutex_destroy(&server->mutex);
    free(server);
}

#endif
