/* socket_test.c: a socket, a poller, a wake-up behave in the simulated world as they do in Linux:
 * every program here is played in both. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "sim/sim.h"
#include "sys/sys.h"
#include "tests/check.h"

#define WAIT_NS 5000000000u /* for what must come */

/* ---- the far side of a connection, in either world ---- */

struct far {
    uint16_t (*listen)(void);
    void (*await_open)(void);
    void (*send)(const char *bytes, size_t size); /* it has arrived when these return */
    void (*fin)(void);
    void (*close)(void);
    void (*reset)(void);
    void (*await_bytes)(size_t count); /* since the beginning */
    bool (*await_end)(void);           /* true: a clean one */
};

static const struct far *far;

/* The real one. */
static int real_listener, real_fd = -1;
static size_t real_count;

static uint16_t real_listen(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(address);

    real_listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(real_listener, (struct sockaddr *)&address, size), 0);
    CHECK_EQ(listen(real_listener, 8), 0);
    CHECK_EQ(getsockname(real_listener, (struct sockaddr *)&address, &size), 0);
    return ntohs(address.sin_port);
}

static void real_await_open(void)
{
    real_fd = accept(real_listener, NULL, NULL);
    CHECK(real_fd >= 0);
}

static void real_send(const char *bytes, size_t size)
{
    CHECK_EQ(send(real_fd, bytes, size, MSG_NOSIGNAL), size);
}

static void real_fin(void)
{
    CHECK_EQ(shutdown(real_fd, SHUT_WR), 0);
}

static void real_close(void)
{
    CHECK_EQ(close(real_fd), 0);
}

static void real_reset(void)
{
    struct linger linger = { .l_onoff = 1 };

    CHECK_EQ(setsockopt(real_fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    CHECK_EQ(close(real_fd), 0);
}

static void real_await_bytes(size_t count)
{
    while (real_count < count) {
        char piece[65536];
        ssize_t got = recv(real_fd, piece, sizeof(piece), 0);

        CHECK(got > 0);
        real_count += (size_t)got;
    }
}

static bool real_await_end(void)
{
    char byte;

    return recv(real_fd, &byte, 1, 0) == 0;
}

static const struct far far_real = {
    real_listen, real_await_open, real_send,        real_fin,
    real_close,  real_reset,      real_await_bytes, real_await_end
};

/* The simulated one. */
static struct {
    struct sim_service service;
    struct sim_link *link;
    size_t count;
    bool has_ended;
} here;

static void here_on_open(struct sim_service *service, struct sim_link *link)
{
    CHECK(service == &here.service);
    here.link = link;
}

static void here_on_bytes(struct sim_link *link, const char *bytes, size_t size)
{
    CHECK(link == here.link);
    CHECK(bytes != NULL);
    here.count += size;
}

static void here_on_end(struct sim_link *link)
{
    CHECK(link == here.link);
    here.has_ended = true;
}

static void here_on_closed(struct sim_link *link)
{
    CHECK(link == here.link);
    here.link = NULL;
}

static uint16_t here_listen(void)
{
    here.service = (struct sim_service){ here_on_open, here_on_bytes, here_on_end, here_on_closed };
    return sim_listen(&here.service);
}

static bool is_here_open(void *arg)
{
    (void)arg;
    return here.link != NULL;
}

static void here_await_open(void)
{
    CHECK(sim_wait_until(is_here_open, NULL, WAIT_NS, "a connection"));
}

static bool is_here_quiet(void *arg)
{
    (void)arg;
    return here.link == NULL || sim_link_is_quiet(here.link);
}

static void here_settle(void)
{
    CHECK(sim_wait_until(is_here_quiet, NULL, WAIT_NS, "the network to be quiet"));
}

static void here_send(const char *bytes, size_t size)
{
    sim_link_send(here.link, bytes, size);
    here_settle();
}

static void here_fin(void)
{
    sim_link_fin(here.link);
    here_settle();
}

static void here_close(void)
{
    sim_link_close(here.link);
    here_settle();
}

static void here_reset(void)
{
    sim_link_reset(here.link);
    here_settle();
}

static bool has_count(void *arg)
{
    return here.count >= *(size_t *)arg;
}

static void here_await_bytes(size_t count)
{
    CHECK(sim_wait_until(has_count, &count, WAIT_NS, "bytes"));
}

static bool has_ended(void *arg)
{
    (void)arg;
    return here.has_ended || here.link == NULL;
}

static bool here_await_end(void)
{
    CHECK(sim_wait_until(has_ended, NULL, WAIT_NS, "the end"));
    return here.link != NULL; /* after a reset there is no link any more */
}

static const struct far far_here = {
    here_listen, here_await_open, here_send,        here_fin,
    here_close,  here_reset,      here_await_bytes, here_await_end
};

/* ---- playing a program in both ---- */

static void play_within(void *arg)
{
    void (*program)(void) = *(void (**)(void))arg;

    program();
}

static void play_in_simulation(void (*program)(void))
{
    far = &far_here;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct sim_options options = { .seed = seed };
        struct sim_report report;

        memset(&here, 0, sizeof(here));
        sim_run(&options, play_within, &program, &report);
        CHECK_STR(report.detail, "");
        CHECK_EQ(report.end, SIM_DONE);
    }
}

#define BOTH(name)                                                                                 \
    static void program_##name(void);                                                              \
    TEST(name##_in_linux)                                                                          \
    {                                                                                              \
        far = &far_real;                                                                           \
        program_##name();                                                                          \
    }                                                                                              \
    TEST(name##_in_simulation)                                                                     \
    {                                                                                              \
        play_in_simulation(program_##name);                                                        \
    }                                                                                              \
    static void program_##name(void)

/* ---- tools ---- */

#define ALL (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

/* The events that come, of one descriptor; 0: none are there. */
static uint32_t poll_now(int poller)
{
    struct epoll_event event = { 0 };
    int count = sys_poller_wait(poller, &event, 1, 0);

    CHECK(count >= 0);
    return count == 1 ? event.events : 0;
}

static uint32_t poll_await(int poller)
{
    struct epoll_event event = { 0 };

    CHECK_EQ(sys_poller_wait(poller, &event, 1, WAIT_NS), 1);
    return event.events;
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                 .sin_port = htons(port) };
}

static int connect_to(int fd, uint16_t port)
{
    struct sockaddr_in address = loopback(port);

    return sys_socket_connect(fd, (struct sockaddr *)&address, sizeof(address));
}

/* A connection, its socket in the poller, whose first event has been taken. */
static int open_connection(int *ret_poller)
{
    uint16_t port = far->listen();
    int fd = sys_socket_open(AF_INET);

    *ret_poller = sys_poller_open();
    CHECK_EQ(connect_to(fd, port), -EINPROGRESS);
    CHECK_EQ(sys_poller_add(*ret_poller, fd, ALL, NULL), 0);
    CHECK_EQ(poll_await(*ret_poller), EPOLLOUT);
    CHECK_EQ(sys_socket_error(fd), 0);
    far->await_open();
    (void)poll_now(*ret_poller); /* reality may tell twice */
    return fd;
}

static ssize_t send_text(int fd, const char *text)
{
    struct iovec part = { (void *)text, strlen(text) };

    return sys_socket_send(fd, &part, 1);
}

static void expect_bytes(int fd, const char *text)
{
    char bytes[64];

    CHECK_EQ(sys_socket_receive(fd, bytes, sizeof(bytes)), strlen(text));
    CHECK(memcmp(bytes, text, strlen(text)) == 0);
}

static void close_all(int fd, int poller)
{
    sys_close(fd);
    sys_close(poller);
}

/* ---- connecting ---- */

BOTH(a_connect_is_under_way_and_then_writable)
{
    struct sockaddr_storage local, peer;
    int poller, fd = open_connection(&poller);

    CHECK_EQ(sys_socket_names(fd, &local, &peer), 0);
    CHECK_EQ(((struct sockaddr_in *)&peer)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    CHECK(((struct sockaddr_in *)&local)->sin_port != 0);
    CHECK_EQ(connect_to(fd, 1), 0);
    CHECK_EQ(connect_to(fd, 1), -EISCONN);
    close_all(fd, poller);
}

BOTH(a_new_socket_is_writable_and_hung_up)
{
    int poller = sys_poller_open(), fd = sys_socket_open(AF_INET);
    struct sockaddr_storage local, peer;
    char byte;

    CHECK_EQ(sys_poller_add(poller, fd, ALL, NULL), 0);
    CHECK_EQ(poll_now(poller), EPOLLOUT | EPOLLHUP);
    CHECK_EQ(sys_socket_receive(fd, &byte, 1), -ENOTCONN);
    CHECK_EQ(sys_socket_names(fd, &local, &peer), -ENOTCONN);
    close_all(fd, poller);
}

BOTH(a_refused_connect_is_an_error_that_is_told_once)
{
    int poller = sys_poller_open(), fd = sys_socket_open(AF_INET);
    char byte;

    CHECK_EQ(connect_to(fd, 1), -EINPROGRESS);
    CHECK_EQ(sys_poller_add(poller, fd, ALL, NULL), 0);
    CHECK_EQ(poll_await(poller), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    CHECK_EQ(sys_socket_error(fd), -ECONNREFUSED);
    CHECK_EQ(sys_socket_error(fd), 0);
    CHECK_EQ(sys_socket_receive(fd, &byte, 1), 0);
    CHECK_EQ(send_text(fd, "x"), -EPIPE);
    close_all(fd, poller);
}

/* ---- reading ---- */

BOTH(bytes_that_come_are_told_once_and_again_when_more_come)
{
    int poller, fd = open_connection(&poller);

    CHECK_EQ(poll_now(poller), 0);
    far->send("ab", 2);
    CHECK_EQ(poll_now(poller), EPOLLIN | EPOLLOUT);
    CHECK_EQ(poll_now(poller), 0); /* unread, and told */
    far->send("cd", 2);
    CHECK_EQ(poll_now(poller), EPOLLIN | EPOLLOUT);
    CHECK_EQ(sys_socket_bytes_unread(fd), 4);
    expect_bytes(fd, "abcd");
    CHECK_EQ(sys_socket_bytes_unread(fd), 0);
    CHECK_EQ(poll_now(poller), 0);
    close_all(fd, poller);
}

BOTH(unread_bytes_are_told_again_to_another_poller)
{
    int poller, other = sys_poller_open(), fd = open_connection(&poller);

    far->send("ab", 2);
    CHECK_EQ(poll_now(poller), EPOLLIN | EPOLLOUT);
    CHECK_EQ(sys_poller_remove(poller, fd), 0);
    CHECK_EQ(sys_poller_add(other, fd, ALL, NULL), 0);
    CHECK_EQ(poll_now(other), EPOLLIN | EPOLLOUT);
    CHECK_EQ(poll_now(poller), 0);
    expect_bytes(fd, "ab");
    sys_close(other);
    close_all(fd, poller);
}

BOTH(an_event_that_is_gone_when_it_is_asked_for_is_not_told)
{
    int poller, level = sys_poller_open(), fd = open_connection(&poller);

    CHECK_EQ(sys_poller_add(level, fd, EPOLLIN, NULL), 0);
    far->send("ab", 2);
    expect_bytes(fd, "ab");
    CHECK_EQ(poll_now(level), 0);
    CHECK_EQ(poll_now(poller), EPOLLOUT); /* the edge was there; what it brought is read */
    sys_close(level);
    close_all(fd, poller);
}

BOTH(a_level_is_told_as_long_as_it_lasts)
{
    int poller, level = sys_poller_open(), fd = open_connection(&poller);

    CHECK_EQ(sys_poller_add(level, fd, EPOLLIN, NULL), 0);
    far->send("ab", 2);
    CHECK_EQ(poll_now(level), EPOLLIN);
    CHECK_EQ(poll_now(level), EPOLLIN);
    expect_bytes(fd, "ab");
    CHECK_EQ(poll_now(level), 0);
    sys_close(level);
    close_all(fd, poller);
}

BOTH(a_peek_leaves_the_bytes)
{
    int poller, fd = open_connection(&poller);
    char byte = 0;

    CHECK_EQ(sys_socket_peek(fd, &byte, 1), -EAGAIN);
    far->send("ab", 2);
    CHECK_EQ(sys_socket_peek(fd, &byte, 1), 1);
    CHECK_EQ(byte, 'a');
    expect_bytes(fd, "ab");
    far->fin();
    CHECK_EQ(sys_socket_peek(fd, &byte, 1), 0);
    close_all(fd, poller);
}

/* ---- ends ---- */

BOTH(after_fin_the_rest_is_read_and_writing_goes_on)
{
    int poller, fd = open_connection(&poller);
    char byte;

    far->send("ab", 2);
    far->fin();
    CHECK_EQ(poll_now(poller), EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    expect_bytes(fd, "ab");
    CHECK_EQ(sys_socket_receive(fd, &byte, 1), 0);
    CHECK_EQ(sys_socket_receive(fd, &byte, 1), 0);
    CHECK_EQ(send_text(fd, "cd"), 2);
    far->await_bytes(2);
    close_all(fd, poller);
}

BOTH(a_reset_is_told_once_and_then_nothing_is_to_be_read)
{
    int poller, fd = open_connection(&poller);
    char byte;

    far->reset();
    CHECK_EQ(poll_now(poller), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    CHECK_EQ(sys_socket_receive(fd, &byte, 1), -ECONNRESET);
    CHECK_EQ(sys_socket_receive(fd, &byte, 1), 0);
    CHECK_EQ(send_text(fd, "x"), -EPIPE);
    close_all(fd, poller);
}

BOTH(a_reset_is_told_to_a_writer)
{
    int poller, fd = open_connection(&poller);

    far->reset();
    CHECK_EQ(send_text(fd, "x"), -ECONNRESET);
    CHECK_EQ(send_text(fd, "x"), -EPIPE);
    close_all(fd, poller);
}

BOTH(bytes_before_a_reset_are_read_first)
{
    int poller, fd = open_connection(&poller);
    char byte;

    far->send("ab", 2);
    far->reset();
    expect_bytes(fd, "ab");
    CHECK_EQ(sys_socket_receive(fd, &byte, 1), -ECONNRESET);
    close_all(fd, poller);
}

BOTH(a_reset_after_fin_is_an_end_to_a_reader_and_a_broken_pipe_to_a_writer)
{
    int poller, fd = open_connection(&poller);
    char byte;

    far->fin();
    far->reset();
    CHECK_EQ(sys_socket_receive(fd, &byte, 1), 0);
    CHECK_EQ(send_text(fd, "x"), -EPIPE);
    close_all(fd, poller);
}

BOTH(writing_to_a_side_that_closed_brings_a_reset)
{
    int poller, fd = open_connection(&poller);

    far->close();
    CHECK_EQ(poll_now(poller), EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    CHECK_EQ(send_text(fd, "x"), 1);
    CHECK_EQ(poll_await(poller), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    CHECK_EQ(sys_socket_error(fd), -EPIPE);
    close_all(fd, poller);
}

BOTH(a_close_is_an_end_to_the_far_side)
{
    int poller, fd = open_connection(&poller);

    close_all(fd, poller);
    CHECK(far->await_end());
}

BOTH(a_close_with_bytes_unread_is_a_reset_to_the_far_side)
{
    int poller, fd = open_connection(&poller);

    far->send("ab", 2);
    close_all(fd, poller);
    CHECK(!far->await_end());
}

/* ---- writing ---- */

BOTH(a_full_socket_says_so_and_tells_when_there_is_room)
{
    static char bytes[65536];
    int poller, fd = open_connection(&poller);
    struct iovec part = { bytes, sizeof(bytes) };
    size_t sent = 0;
    ssize_t size;

    while ((size = sys_socket_send(fd, &part, 1)) > 0) {
        sent += (size_t)size;
    }
    CHECK_EQ(size, -EAGAIN);
    CHECK(sys_socket_bytes_unsent(fd) > 0);
    far->await_bytes(sent);
    CHECK_EQ(poll_await(poller), EPOLLOUT);
    CHECK(sys_socket_send(fd, &part, 1) > 0);
    close_all(fd, poller);
}

/* ---- pollers, wake-ups, descriptors ---- */

BOTH(a_poller_refuses_what_it_has_and_what_it_has_not)
{
    int poller = sys_poller_open(), fd = sys_socket_open(AF_INET);

    CHECK_EQ(sys_poller_remove(poller, fd), -ENOENT);
    CHECK_EQ(sys_poller_add(poller, fd, ALL, NULL), 0);
    CHECK_EQ(sys_poller_add(poller, fd, ALL, NULL), -EEXIST);
    CHECK_EQ(sys_poller_remove(poller, fd), 0);
    CHECK_EQ(poll_now(poller), 0);
    close_all(fd, poller);
}

BOTH(a_wake_is_told_once_for_each_time_that_it_was_asked)
{
    int poller = sys_poller_open(), wake = sys_wake_open();

    sys_wake_post(wake); /* before anybody watches */
    CHECK_EQ(sys_poller_add(poller, wake, EPOLLIN | EPOLLET, NULL), 0);
    CHECK_EQ(poll_now(poller), EPOLLIN);
    CHECK_EQ(poll_now(poller), 0);
    sys_wake_post(wake);
    sys_wake_post(wake);
    CHECK_EQ(poll_now(poller), EPOLLIN);
    CHECK_EQ(poll_now(poller), 0);
    close_all(wake, poller);
}

BOTH(a_poller_in_a_poller_is_readable_while_it_has_something)
{
    int outer = sys_poller_open(), poller = sys_poller_open(), wake = sys_wake_open();

    CHECK_EQ(sys_poller_add(outer, poller, EPOLLIN, NULL), 0);
    CHECK_EQ(sys_poller_add(poller, wake, EPOLLIN | EPOLLET, NULL), 0);
    CHECK_EQ(poll_now(outer), 0);
    sys_wake_post(wake);
    CHECK_EQ(poll_now(outer), EPOLLIN);
    CHECK_EQ(poll_now(outer), EPOLLIN);
    CHECK_EQ(poll_now(poller), EPOLLIN);
    CHECK_EQ(poll_now(outer), 0);
    sys_close(outer);
    close_all(wake, poller);
}

BOTH(a_closed_number_is_the_next_that_is_given_out)
{
    int one = sys_wake_open(), other = sys_wake_open(), next;

    CHECK(other > one);
    sys_close(one);
    next = sys_socket_open(AF_INET);
    CHECK_EQ(next, one);
    sys_close(next);
    sys_close(other);
}

BOTH(a_closed_descriptor_leaves_its_poller)
{
    int poller = sys_poller_open(), wake = sys_wake_open(), next;

    CHECK_EQ(sys_poller_add(poller, wake, EPOLLIN | EPOLLET, NULL), 0);
    sys_wake_post(wake);
    sys_close(wake);
    CHECK_EQ(poll_now(poller), 0);
    next = sys_wake_open();
    CHECK_EQ(next, wake);
    CHECK_EQ(sys_poller_add(poller, next, EPOLLIN | EPOLLET, NULL), 0);
    close_all(next, poller);
}
