/* net_check.h: what tests of src/net share: a loop that the test drives, sockets to dial, and a
 * count of what is left behind. Each test runs in a process of its own. */
#ifndef TESTS_NET_CHECK_H
#define TESTS_NET_CHECK_H

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/loop.h"
#include "net/address.h"
#include "tests/check.h"

/* ---- what is left behind ---- */

struct leftovers {
    struct il_memory_use memory;
    size_t fd_count;
};

static inline size_t count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    size_t count = 0;

    CHECK(dir != NULL);
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count;
}

static inline struct leftovers leftovers_now(void)
{
    struct leftovers now = { .fd_count = count_fds() };

    il_memory_use(&now.memory);
    return now;
}

static inline void check_nothing_is_left_since(const struct leftovers *before)
{
    struct leftovers now = leftovers_now();

    CHECK_EQ(now.memory.live_count, before->memory.live_count);
    CHECK_EQ(now.memory.live_bytes, before->memory.live_bytes);
    CHECK_EQ(now.fd_count, before->fd_count);
}

/* ---- a loop ---- */

static inline struct il_loop *loop_open_for_test(void)
{
    struct il_loop *loop;
    struct il_error err;

    CHECK_OK(loop_new("test", NULL, true, &loop, &err));
    CHECK(loop_try_hold(loop));
    return loop;
}

static inline void loop_close_for_test(struct il_loop *loop)
{
    il_assert_on_loop(loop);
    while (!loop_try_seal(loop)) {
        CHECK_EQ(loop_turn(loop, 0), LOOP_HELD);
    }
    loop_end(loop);
    (void)loop_unref(loop);
}

/* Turn the loop until `*count` is `wanted`; whoever counts sets held.must_return. The harness ends
 * a test that waits for ever. */
static inline void loop_turn_until_count(struct il_loop *loop, const size_t *count, size_t wanted)
{
    while (*count < wanted) {
        CHECK_EQ(loop_turn(loop, SYS_FOREVER), LOOP_HELD);
    }
    CHECK_EQ(*count, wanted);
}

/* Turns in which nothing is waited for: what was pushed runs. */
static inline void loop_turn_some(struct il_loop *loop, int turn_count)
{
    for (int i = 0; i < turn_count; i++) {
        CHECK_EQ(loop_turn(loop, 0), LOOP_HELD);
    }
}

/* ---- time that passes only while nothing happens ---- */

static uint64_t fake_now_ns;
static struct sys_world fake_world;

static inline uint64_t fake_now(void)
{
    return fake_now_ns;
}

/* A moment for the kernel to bring what is on its way; if there is nothing, the time is up. */
static inline int fake_poller_wait(int poller, struct epoll_event *events, int event_count_max,
                                   uint64_t timeout_ns)
{
    uint64_t moment_ns = timeout_ns == SYS_FOREVER
                             ? SYS_FOREVER
                             : il_min_u64(timeout_ns, 10 * (uint64_t)LOOP_NS_PER_MS);
    int count = sys_world_real.poller_wait(poller, events, event_count_max, moment_ns);

    if (count == 0 && timeout_ns != SYS_FOREVER) {
        fake_now_ns += timeout_ns;
    }
    return count;
}

/* From here to the end of the test's process, on one thread. */
static inline void fake_time_begin(void)
{
    fake_now_ns = sys_now_ns();
    fake_world = *sys_world;
    fake_world.now_ns = fake_now;
    fake_world.poller_wait = fake_poller_wait;
    sys_world = &fake_world;
}

/* ---- sockets ---- */

static inline struct net_address address_for_test(const char *text, uint16_t port)
{
    struct net_address address;

    CHECK(net_address_parse(text, &address));
    if (net_address_family(&address) == AF_INET6) {
        address.v6.sin6_port = htons(port);
    } else {
        address.v4.sin_port = htons(port);
    }
    return address;
}

static inline uint16_t port_of_socket(int fd)
{
    struct net_address address;
    socklen_t size = sizeof(address);

    CHECK(getsockname(fd, &address.any, &size) == 0);
    return ntohs(net_address_family(&address) == AF_INET6 ? address.v6.sin6_port
                                                          : address.v4.sin_port);
}

/* A socket bound to `address`; on a port of the kernel's choice where `port` is 0. */
static inline int socket_bind_for_test(int type, const char *host, uint16_t port)
{
    struct net_address address = address_for_test(host, port);
    int fd = socket(net_address_family(&address), type | SOCK_CLOEXEC, 0), one = 1;

    CHECK(fd >= 0);
    if (net_address_family(&address) == AF_INET6) {
        CHECK(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) == 0);
    }
    CHECK(bind(fd, &address.any, net_address_size(&address)) == 0);
    return fd;
}

static inline int listen_for_test(const char *host, uint16_t port, int backlog)
{
    int fd = socket_bind_for_test(SOCK_STREAM, host, port);

    CHECK(listen(fd, backlog) == 0);
    return fd;
}

/* A port that answers no SYN: a listener whose queue is full. */
struct black_hole {
    int listener;
    int fillers[4];
};

static inline void black_hole_open(struct black_hole *hole, const char *host, uint16_t port)
{
    struct net_address address;

    hole->listener = listen_for_test(host, port, 0);
    address = address_for_test(host, port_of_socket(hole->listener));
    for (size_t i = 0; i < il_array_count(hole->fillers); i++) {
        hole->fillers[i] = sys_socket_open(net_address_family(&address));
        CHECK(hole->fillers[i] >= 0);
        (void)sys_socket_connect(hole->fillers[i], &address.any, net_address_size(&address));
    }
}

static inline void black_hole_close(struct black_hole *hole)
{
    for (size_t i = 0; i < il_array_count(hole->fillers); i++) {
        close(hole->fillers[i]);
    }
    close(hole->listener);
}

#endif
