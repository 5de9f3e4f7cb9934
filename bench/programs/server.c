/* server.c: the server that every benchmark talks to: one thread, canned answers, as little of its
 * own work as possible, so that what is measured is the client.
 *
 *     server [--port P]       prints "listening P", serves 127.0.0.1:P until its parent ends
 *
 *     GET /small         12 bytes
 *     GET /bytes/N       N bytes
 *     PUT /sink          takes any body of known length, answers 12 bytes
 *     GET /delay/MS      12 bytes after MS milliseconds
 *     GET /hold/N/MS     answers nobody until N requests are here, then all of them after MS
 *     GET /close         12 bytes, then closes (first, so that the client's ports stay free)
 *
 * It trusts its clients to be benchmarks: one request at a time on a connection, a head of at most
 * HEAD_SIZE_MAX bytes, bodies with Content-Length. What it does not understand it answers by
 * closing, which every program here reports as a failure.
 *
 * Owns: the connections. Threads: one. Ends: when the process that started it does. */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define HEAD_SIZE_MAX ((size_t)4096)
#define CHUNK_SIZE    ((size_t)256 * 1024) /* of a large body, sent from one static buffer */
#define EVENTS_MAX    256
#define ACCEPTS_MAX   64 /* in one go, so that a flood of connects does not starve the others */
#define NS_PER_MS     1000000u

#define SMALL_BODY "hello world\n"
#define SMALL_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n"
static const char small_answer[] = SMALL_HEAD "\r\n" SMALL_BODY;
static const char close_answer[] = SMALL_HEAD "Connection: close\r\n\r\n" SMALL_BODY;
static const char continue_answer[] = "HTTP/1.1 100 Continue\r\n\r\n";

/* A list of connections that wait: for their time to come, or for the others that `/hold` awaits.
 */
struct queue {
    struct conn *first, *last;
    uint64_t count;
};

struct conn {
    int fd;
    bool is_watching_writable;
    uint64_t upload_left; /* of the request's body, still to be read and dropped */
    uint64_t send_left;   /* of a large body, still to be sent */
    char *head;           /* the part of a head that has come, if it came in parts; else NULL */
    size_t head_size;
    uint64_t due_ns; /* when in `delayed` */
    struct queue *queue;
    struct conn *prev, *next; /* in `queue` */
};

static int epoll_fd;
static char receive_buffer[CHUNK_SIZE];
static const char zeros[CHUNK_SIZE];
static struct queue delayed; /* in the order of due_ns */
static struct queue held;
static uint64_t hold_ms;

static void request_on_head(struct conn *conn, char *head, size_t size);

/* ---- queues ---- */

static void queue_insert_after(struct queue *queue, struct conn *at, struct conn *conn)
{
    conn->queue = queue;
    conn->prev = at;
    conn->next = at == NULL ? queue->first : at->next;
    *(conn->prev == NULL ? &queue->first : &conn->prev->next) = conn;
    *(conn->next == NULL ? &queue->last : &conn->next->prev) = conn;
    queue->count++;
}

static void queue_remove(struct conn *conn)
{
    struct queue *queue = conn->queue;

    *(conn->prev == NULL ? &queue->first : &conn->prev->next) = conn->next;
    *(conn->next == NULL ? &queue->last : &conn->next->prev) = conn->prev;
    conn->queue = NULL;
    queue->count--;
}

static void delay_answer(struct conn *conn, uint64_t delay_ms)
{
    struct conn *at = delayed.last;

    conn->due_ns = bench_now_ns() + delay_ms * NS_PER_MS;
    while (at != NULL && at->due_ns > conn->due_ns) {
        at = at->prev;
    }
    queue_insert_after(&delayed, at, conn);
}

static void hold_answer(struct conn *conn, uint64_t wanted_count, uint64_t delay_ms)
{
    hold_ms = delay_ms;
    queue_insert_after(&held, held.last, conn);
    while (held.count >= wanted_count && held.first != NULL) {
        struct conn *released = held.first;

        queue_remove(released);
        delay_answer(released, hold_ms);
        wanted_count = 0;
    }
}

/* ---- connections ---- */

static void conn_close(struct conn *conn)
{
    if (conn->queue != NULL) {
        queue_remove(conn);
    }
    close(conn->fd);
    free(conn->head);
    free(conn);
}

/* False if the peer is gone or does not read: answers this short fit into any socket buffer. */
static bool conn_send(struct conn *conn, const char *data, size_t size)
{
    return send(conn->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
}

static void conn_answer(struct conn *conn)
{
    if (!conn_send(conn, small_answer, sizeof(small_answer) - 1)) {
        conn_close(conn);
    }
}

static void conn_watch_writable(struct conn *conn, bool wanted)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = conn };

    if (conn->is_watching_writable != wanted) {
        event.events |= wanted ? (uint32_t)EPOLLOUT : 0;
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
        conn->is_watching_writable = wanted;
    }
}

static void conn_send_body(struct conn *conn)
{
    while (conn->send_left > 0) {
        size_t size = conn->send_left < CHUNK_SIZE ? (size_t)conn->send_left : CHUNK_SIZE;
        ssize_t sent = send(conn->fd, zeros, size, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent < 0 && errno == EAGAIN) {
            conn_watch_writable(conn, true);
            return;
        }
        if (sent < 0) {
            conn_close(conn);
            return;
        }
        conn->send_left -= (uint64_t)sent;
    }
    conn_watch_writable(conn, false);
}

static void conn_answer_bytes(struct conn *conn, uint64_t body_size)
{
    char head[160];
    int size = snprintf(head, sizeof(head),
                        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                        "Content-Length: %" PRIu64 "\r\n\r\n",
                        body_size);

    if (send(conn->fd, head, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE) != size) {
        conn_close(conn);
        return;
    }
    conn->send_left = body_size;
    conn_send_body(conn);
}

/* Take `size` bytes of an upload, which the caller has read, as gone; answer after the last. */
static void conn_drop_upload(struct conn *conn, uint64_t size)
{
    conn->upload_left -= size < conn->upload_left ? size : conn->upload_left;
    if (conn->upload_left == 0) {
        conn_answer(conn);
    }
}

static void conn_on_readable(struct conn *conn)
{
    size_t kept = conn->head_size;
    ssize_t received;

    memcpy(receive_buffer, conn->head, kept);
    received = recv(conn->fd, receive_buffer + kept, sizeof(receive_buffer) - kept, MSG_DONTWAIT);
    if (received < 0 && errno == EAGAIN) {
        return;
    }
    if (received <= 0) {
        conn_close(conn);
    } else if (conn->upload_left > 0) {
        conn_drop_upload(conn, (uint64_t)received);
    } else {
        request_on_head(conn, receive_buffer, kept + (size_t)received);
    }
}

/* ---- requests ---- */

/* Keep a head of which only a part has come. */
static void request_keep_part(struct conn *conn, const char *data, size_t size)
{
    if (size >= HEAD_SIZE_MAX ||
        (conn->head == NULL && (conn->head = malloc(HEAD_SIZE_MAX)) == NULL)) {
        conn_close(conn);
        return;
    }
    memcpy(conn->head, data, size);
    conn->head_size = size;
}

/* A PUT: some, all or none of its body may have come with the head. */
static void request_take_upload(struct conn *conn, char *head, size_t size, size_t head_size)
{
    const char *length;

    head[head_size - 1] = '\0'; /* the last newline of the head: nobody needs it any more */
    length = strcasestr(head, "\r\ncontent-length:");
    if (length == NULL) {
        conn_close(conn);
        return;
    }
    conn->upload_left = strtoull(length + strlen("\r\ncontent-length:"), NULL, 10);
    if (size == head_size && strcasestr(head, "\r\nexpect: 100-continue") != NULL &&
        !conn_send(conn, continue_answer, sizeof(continue_answer) - 1)) {
        conn_close(conn);
        return;
    }
    conn_drop_upload(conn, size - head_size);
}

static void request_route(struct conn *conn, const char *path)
{
    uint64_t a, b;

    if (strncmp(path, "/small ", 7) == 0) {
        conn_answer(conn);
    } else if (strncmp(path, "/close ", 7) == 0) {
        (void)conn_send(conn, close_answer, sizeof(close_answer) - 1); /* closing anyway */
        conn_close(conn);
    } else if (sscanf(path, "/bytes/%" SCNu64, &a) == 1) {
        conn_answer_bytes(conn, a);
    } else if (sscanf(path, "/delay/%" SCNu64, &a) == 1) {
        delay_answer(conn, a);
    } else if (sscanf(path, "/hold/%" SCNu64 "/%" SCNu64, &a, &b) == 2) {
        hold_answer(conn, a, b);
    } else {
        conn_close(conn);
    }
}

/* `head` holds `size` bytes of a new request, and is writable. */
static void request_on_head(struct conn *conn, char *head, size_t size)
{
    const char *end = memmem(head, size, "\r\n\r\n", 4);
    size_t head_size;

    if (end == NULL) {
        request_keep_part(conn, head, size);
        return;
    }
    free(conn->head);
    conn->head = NULL;
    conn->head_size = 0;
    head_size = (size_t)(end - head) + 4;
    if (strncmp(head, "PUT /sink ", 10) == 0 || strncmp(head, "POST /sink ", 11) == 0) {
        request_take_upload(conn, head, size, head_size);
    } else if (strncmp(head, "GET ", 4) == 0 && size == head_size) {
        head[head_size - 1] = '\0';
        request_route(conn, head + 4);
    } else {
        conn_close(conn);
    }
}

/* ---- the loop ---- */

static void server_accept(int listen_fd)
{
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct conn *conn;
        struct epoll_event event = { .events = EPOLLIN };

        if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED || errno == EMFILE)) {
            return; /* EMFILE: those that a client that has ended left behind are being closed */
        }
        conn = fd < 0 ? NULL : calloc(1, sizeof(*conn));
        event.data.ptr = conn;
        if (conn == NULL || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
            bench_fail("accept a connection");
        }
        conn->fd = fd;
    }
}

/* Answer those whose time has come; return how long epoll may wait for the next, in milliseconds.
 */
static int server_answer_delayed(void)
{
    uint64_t now_ns;

    if (delayed.first == NULL) {
        return -1;
    }
    now_ns = bench_now_ns();
    while (delayed.first != NULL && delayed.first->due_ns <= now_ns) {
        struct conn *conn = delayed.first;

        queue_remove(conn);
        conn_answer(conn);
    }
    return delayed.first == NULL ? -1 : (int)((delayed.first->due_ns - now_ns) / NS_PER_MS + 1);
}

static void server_run(int listen_fd)
{
    struct epoll_event events[EVENTS_MAX];
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };

    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) < 0) {
        bench_fail("make the epoll set");
    }
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, server_answer_delayed());

        for (int i = 0; i < count; i++) {
            struct conn *conn = events[i].data.ptr;

            if (conn == NULL) {
                server_accept(listen_fd);
            } else if (conn->send_left > 0 && (events[i].events & EPOLLOUT)) {
                conn_send_body(conn);
            } else {
                conn_on_readable(conn);
            }
        }
    }
}

int main(int argc, char **argv)
{
    uint16_t port = 0;

    if (argc == 3 && strcmp(argv[1], "--port") == 0) {
        port = (uint16_t)atoi(argv[2]);
    } else if (argc != 1) {
        fprintf(stderr, "usage: server [--port P]\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    bench_raise_file_limit(1024);
    server_run(bench_listen(port));
}
