/* target_sockets.c: scenes around single sockets: forgotten, missed, closed, unanswered, held back.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/doctor/target.h"

/* A loop that is alive: it polls, for whatever is registered, and reads when told to. */
struct reader {
    int epoll, fd;
    size_t read_max;      /* of the connection, in all; then it stops reading */
    bool discards_events; /* collects the edge and does not read */
    _Atomic bool has_stopped;
};

static void read_some(struct reader *reader, size_t *total)
{
    char bytes[4096];
    ssize_t got;

    while (*total < reader->read_max && (got = read(reader->fd, bytes, sizeof(bytes))) > 0) {
        *total += (size_t)got;
    }
}

static void *run_reader(void *arg)
{
    struct reader *reader = arg;
    struct epoll_event event;
    size_t total = 0;

    for (;;) {
        if (epoll_wait(reader->epoll, &event, 1, -1) < 0) {
            target_die("epoll_wait"); /* EINTR: the doctor has been felt */
        }
        if (!reader->discards_events) {
            read_some(reader, &total);
            if (total >= reader->read_max) { /* flow control: interest in reading is withdrawn */
                event.events = 0;
                (void)epoll_ctl(reader->epoll, EPOLL_CTL_MOD, reader->fd, &event);
                reader->has_stopped = true;
            }
        }
    }
    return NULL;
}

static struct reader *reader_new(enum server_manner manner, uint32_t events)
{
    struct reader *reader = calloc(1, sizeof(*reader));

    reader->epoll = target_epoll();
    reader->fd = target_connect(target_server(manner));
    reader->read_max = SIZE_MAX;
    if (events != 0) {
        target_watch(reader->epoll, reader->fd, events);
    }
    return reader;
}

/* ---- nobody watches ---- */

/* The response arrives after the owner has taken its socket out of the set. */
static void nobody_watches(void)
{
    struct reader *reader = reader_new(SERVER_ANSWERS, 0);

    target_thread(run_reader, reader, "loop");
    target_send_request(reader->fd);
    target_wait_unread(reader->fd);
    target_ready();
}

static void nobody_watches_ok(void)
{
    struct reader *reader = reader_new(SERVER_ANSWERS, EPOLLIN);

    target_thread(run_reader, reader, "loop");
    target_send_request(reader->fd);
    target_ready();
}

/* A plain thread reads by itself: no set at all, and nothing wrong. */
static void plain_blocking(void)
{
    int fd = target_connect(target_server(SERVER_ANSWERS));
    char bytes[256];

    (void)fd;
    target_ready();
    for (;;) {
        struct timeval tiny = { .tv_usec = 1000 };

        target_send_request(fd);
        (void)select(0, NULL, NULL, NULL, &tiny);
        while (read(fd, bytes, sizeof(bytes)) < 0 && errno == EAGAIN) {
            target_sleep_ms(1);
        }
    }
}

/* ---- missed wake-ups ---- */

static void missed_wakeup(void)
{
    struct reader *reader = reader_new(SERVER_ANSWERS, EPOLLIN | EPOLLET);

    reader->discards_events = true;
    target_thread(run_reader, reader, "loop");
    target_send_request(reader->fd);
    target_wait_unread(reader->fd);
    target_ready();
}

static void missed_mask(void)
{
    struct reader *reader = reader_new(SERVER_ANSWERS, EPOLLRDHUP | EPOLLET);

    target_thread(run_reader, reader, "loop");
    target_send_request(reader->fd);
    target_wait_unread(reader->fd);
    target_ready();
}

static void missed_wakeup_ok(void)
{
    struct reader *reader = reader_new(SERVER_ANSWERS, EPOLLIN | EPOLLET);

    target_thread(run_reader, reader, "loop");
    target_ready();
    for (;;) {
        target_send_request(reader->fd);
        target_sleep_ms(30);
    }
}

/* ---- back-pressure ---- */

static void back_pressure(void)
{
    struct reader *reader = reader_new(SERVER_FLOODS, EPOLLIN);

    reader->read_max = 300000;
    target_thread(run_reader, reader, "loop");
    target_send_request(reader->fd);
    while (!reader->has_stopped) {
        target_sleep_ms(1);
    }
    target_wait_full(reader->fd);
    target_ready();
}

static void back_pressure_ok(void)
{
    struct reader *reader = reader_new(SERVER_FLOODS, EPOLLIN);

    target_thread(run_reader, reader, "loop");
    target_send_request(reader->fd);
    target_ready();
}

/* ---- closed unnoticed ---- */

static void closed_unnoticed(void)
{
    struct reader *reader = reader_new(SERVER_CLOSES, 0);

    target_thread(run_reader, reader, "loop");
    target_send_request(reader->fd);
    target_wait_unread(reader->fd);
    (void)target_read_response(reader->fd);
    target_wait_closed(reader->fd);
    target_ready();
}

static void closed_unnoticed_ok(void)
{
    struct reader *reader = reader_new(SERVER_CLOSES, 0);

    target_thread(run_reader, reader, "loop");
    target_send_request(reader->fd);
    target_wait_unread(reader->fd);
    (void)target_read_response(reader->fd);
    target_wait_closed(reader->fd);
    close(reader->fd);
    target_ready();
}

/* ---- the peer owes ---- */

static void peer(void)
{
    struct reader *reader = reader_new(SERVER_SILENT, EPOLLIN);

    target_thread(run_reader, reader, "loop");
    target_send_request(reader->fd);
    target_ready();
}

/* The first answer came, the second does not: the ages of both directions lie close together. */
static void peer_second(void)
{
    struct reader *reader = reader_new(SERVER_ONCE, EPOLLIN);

    target_thread(run_reader, reader, "loop");
    target_send_request(reader->fd);
    target_wait_read(reader->fd);
    target_sleep_ms(200);
    target_send_request(reader->fd);
    target_ready();
}

static void peer_ok(void)
{
    struct reader *reader = reader_new(SERVER_ANSWERS, EPOLLIN);

    target_thread(run_reader, reader, "loop");
    target_ready();
    for (;;) {
        target_send_request(reader->fd);
        target_sleep_ms(700);
    }
}

static void peer_deaf(void)
{
    struct reader *reader = reader_new(SERVER_DEAF, EPOLLIN);
    static char block[65536];

    target_thread(run_reader, reader, "loop");
    while (write(reader->fd, block, sizeof(block)) > 0) {
        /* until the windows are full */
    }
    target_sleep_ms(300);
    while (write(reader->fd, block, sizeof(block)) > 0) {
        /* ...and what has moved meanwhile */
    }
    target_ready();
}

/* ---- the network ---- */

static void network_syn(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(target_server(SERVER_FULL)),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct reader *reader = calloc(1, sizeof(*reader));

    reader->epoll = target_epoll();
    reader->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connect(reader->fd, (struct sockaddr *)&address, sizeof(address)) != 0 &&
        errno != EINPROGRESS) {
        target_die("connect");
    }
    target_watch(reader->epoll, reader->fd, EPOLLIN | EPOLLOUT | EPOLLET);
    target_thread(run_reader, reader, "loop");
    target_ready();
}

static void set_loopback(bool up)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq interface;

    memset(&interface, 0, sizeof(interface));
    memcpy(interface.ifr_name, "lo", 3);
    interface.ifr_flags = up ? IFF_UP : 0;
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &interface) != 0) {
        target_die("change the loopback interface of the namespace");
    }
    close(fd);
}

/* In a network of its own (needs root), whose only interface goes down under a live connection. */
static void network_lost(void)
{
    struct reader *reader;

    if (unshare(CLONE_NEWNET) != 0) {
        printf("skip: no network namespace: %s\n", strerror(errno));
        exit(77);
    }
    set_loopback(true);
    reader = reader_new(SERVER_ANSWERS, EPOLLIN);
    target_thread(run_reader, reader, "loop");
    target_send_request(reader->fd);
    target_wait_read(reader->fd);
    set_loopback(false);
    target_send_request(reader->fd);
    target_wait_retransmit(reader->fd);
    target_ready();
}

static void network_ok(void)
{
    struct reader *reader;

    if (unshare(CLONE_NEWNET) != 0) {
        printf("skip: no network namespace: %s\n", strerror(errno));
        exit(77);
    }
    set_loopback(true);
    reader = reader_new(SERVER_ANSWERS, EPOLLIN);
    target_thread(run_reader, reader, "loop");
    target_ready();
    for (;;) {
        target_send_request(reader->fd);
        target_sleep_ms(50);
    }
}

const struct target_case socket_cases[] = {
    { "nobody-watches", nobody_watches },
    { "nobody-watches-ok", nobody_watches_ok },
    { "plain-blocking", plain_blocking },
    { "missed-wakeup", missed_wakeup },
    { "missed-mask", missed_mask },
    { "missed-wakeup-ok", missed_wakeup_ok },
    { "back-pressure", back_pressure },
    { "back-pressure-ok", back_pressure_ok },
    { "closed-unnoticed", closed_unnoticed },
    { "closed-unnoticed-ok", closed_unnoticed_ok },
    { "peer", peer },
    { "peer-second", peer_second },
    { "peer-deaf", peer_deaf },
    { "peer-ok", peer_ok },
    { "network-syn", network_syn },
    { "network-lost", network_lost },
    { "network-ok", network_ok },
    { 0 },
};
