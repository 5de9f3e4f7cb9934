/* link_test.c: what the simulated network does that loopback never does: it loses hosts, holds
 * writers back, delivers late and in pieces, and breaks off. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "sim/sim.h"
#include "sys/sys.h"
#include "tests/check.h"

#define BODY_SIZE 700000 /* more than any window */
#define SEEDS     100

static struct {
    struct sim_service service;
    struct sim_link *link;
    uint16_t port;
    size_t open_count, end_count, closed_count, got;
} far;

static void on_open(struct sim_service *service, struct sim_link *link)
{
    CHECK(service == &far.service);
    far.link = link;
    far.open_count++;
}

static char letter(size_t place)
{
    return (char)('a' + place % 26);
}

static void on_bytes(struct sim_link *link, const char *bytes, size_t size)
{
    CHECK(link == far.link);
    for (size_t i = 0; i < size; i++) {
        CHECK_EQ(bytes[i], letter(far.got + i));
    }
    far.got += size;
}

static void on_end(struct sim_link *link)
{
    CHECK(link == far.link);
    far.end_count++;
    sim_link_close(link);
}

static void on_closed(struct sim_link *link)
{
    CHECK(link == far.link);
    far.closed_count++;
}

static void far_listen(void)
{
    memset(&far, 0, sizeof(far));
    far.service = (struct sim_service){ on_open, on_bytes, on_end, on_closed };
    far.port = sim_listen(&far.service);
}

static struct sim_report report;

static void play(uint64_t seed, uint32_t faults, void (*run)(void *arg))
{
    struct sim_options options = { .seed = seed, .faults = faults };

    sim_run(&options, run, NULL, &report);
    CHECK_STR(report.detail, "");
    CHECK_EQ(report.end, SIM_DONE);
}

/* ---- the client ---- */

static int fd, poller;

static int client_connect(uint32_t address)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(address),
                              .sin_port = htons(far.port) };
    int result;

    fd = sys_socket_open(AF_INET);
    poller = sys_poller_open();
    CHECK_EQ(sys_poller_add(poller, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, NULL), 0);
    result = sys_socket_connect(fd, (struct sockaddr *)&to, sizeof(to));
    return result == -EINPROGRESS ? 0 : result;
}

static uint32_t client_await(void)
{
    struct epoll_event event;

    CHECK_EQ(sys_poller_wait(poller, &event, 1, SYS_FOREVER), 1);
    return event.events;
}

static bool client_open(void)
{
    far_listen();
    CHECK_EQ(client_connect(INADDR_LOOPBACK), 0);
    while ((client_await() & (EPOLLOUT | EPOLLERR)) == 0) {
    }
    return sys_socket_error(fd) == 0;
}

static void client_close(void)
{
    sys_close(fd);
    sys_close(poller);
}

static bool is_closed(void *arg)
{
    (void)arg;
    return far.closed_count == far.open_count;
}

/* Write all of it, read whatever comes; what came in all, or the error. */
static void client_send_some(size_t size, size_t part_max)
{
    char *bytes = malloc(size);
    size_t sent = 0;

    CHECK(bytes != NULL);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = letter(i);
    }
    while (sent < size) {
        struct iovec part = { bytes + sent, size - sent < part_max ? size - sent : part_max };
        ssize_t result = sys_socket_send(fd, &part, 1);

        if (result == -EAGAIN) {
            (void)client_await();
        } else {
            CHECK(result > 0);
            sent += (size_t)result;
        }
    }
    free(bytes);
}

static void client_send_all(size_t size)
{
    client_send_some(size, size);
}

static size_t unread_max;

static ssize_t client_read_all(void)
{
    char piece[700];
    size_t got = 0;

    for (;;) {
        ssize_t result;
        int unread = sys_socket_bytes_unread(fd);

        unread_max = (size_t)unread > unread_max ? (size_t)unread : unread_max;
        result = sys_socket_receive(fd, piece, sizeof(piece));
        if (result == -EAGAIN) {
            (void)client_await();
        } else if (result <= 0) {
            return result < 0 ? result : (ssize_t)got;
        } else {
            for (ssize_t i = 0; i < result; i++) {
                CHECK_EQ(piece[i], letter(got + (size_t)i));
            }
            got += (size_t)result;
        }
    }
}

static void far_send_all(size_t size)
{
    char *bytes = malloc(size);

    CHECK(bytes != NULL);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = letter(i);
    }
    sim_link_send(far.link, bytes, size);
    free(bytes);
}

/* ---- whole, and in order ---- */

static bool has_all(void *arg)
{
    (void)arg;
    return far.got == BODY_SIZE;
}

static void send_much(void *arg)
{
    (void)arg;
    CHECK(client_open());
    client_send_all(BODY_SIZE);
    CHECK(sim_wait_until(has_all, NULL, SIM_FOREVER, "all bytes"));
    client_close();
    CHECK(sim_wait_until(is_closed, NULL, SIM_FOREVER, "the end"));
    CHECK_EQ(far.end_count, 1);
}

TEST(what_is_sent_arrives_whole_and_in_order_however_it_is_cut)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        play(seed, SIM_FAULTS_TIME, send_much);
    }
}

static void receive_much(void *arg)
{
    (void)arg;
    CHECK(client_open());
    far_send_all(BODY_SIZE);
    sim_link_fin(far.link);
    CHECK_EQ(client_read_all(), BODY_SIZE);
    client_close();
    CHECK(sim_wait_until(is_closed, NULL, SIM_FOREVER, "the end"));
}

TEST(a_reader_gets_everything_and_holds_the_writer_back_meanwhile)
{
    unsigned narrow = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        unread_max = 0;
        play(seed, SIM_FAULTS_TIME, receive_much);
        CHECK(unread_max < BODY_SIZE);
        narrow += unread_max <= 65536;
    }
    CHECK(narrow > 0);
}

static void leave_unread(void *arg)
{
    (void)arg;
    CHECK(client_open());
    far_send_all(BODY_SIZE);
    sim_link_fin(far.link);
    while ((client_await() & EPOLLIN) == 0) {
    }
    client_close();
    CHECK(sim_wait_until(is_closed, NULL, SIM_FOREVER, "the end"));
}

TEST(a_connection_that_is_closed_unread_comes_to_its_end)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        play(seed, SIM_FAULTS_TIME, leave_unread);
    }
}

/* ---- lost, and found again ---- */

static void connect_into_the_void(void *arg)
{
    (void)arg;
    far.port = 80;
    CHECK_EQ(client_connect(0xc0000201), 0); /* 192.0.2.1 */
    CHECK((client_await() & EPOLLERR) != 0);
    CHECK_EQ(sys_socket_error(fd), -ETIMEDOUT);
    client_close();
}

TEST(a_connect_to_a_host_that_is_not_there_times_out_as_the_kernel_s)
{
    play(1, 0, connect_into_the_void);
    CHECK(report.virtual_ns / SIM_NS_PER_MS / 1000 == 127);
}

static void stall_and_resume(void *arg)
{
    (void)arg;
    far_listen();
    sim_listen_pause(far.port, true);
    CHECK_EQ(client_connect(INADDR_LOOPBACK), 0);
    for (int i = 0; i < 2; i++) {
        struct epoll_event event;

        CHECK_EQ(sys_poller_wait(poller, &event, 1, 400 * SIM_NS_PER_MS), 0);
    }
    sim_listen_pause(far.port, false);
    CHECK_EQ(client_await(), EPOLLOUT);
    client_close();
    CHECK(sim_wait_until(is_closed, NULL, SIM_FOREVER, "the end"));
}

TEST(a_stalled_handshake_succeeds_at_the_next_try)
{
    play(1, 0, stall_and_resume);
    CHECK(report.virtual_ns >= 1000 * SIM_NS_PER_MS);
    CHECK(report.virtual_ns < 2000 * SIM_NS_PER_MS);
}

static unsigned lost_count, found_count;

static void talk_into_silence(void *arg)
{
    (void)arg;
    if (client_open()) {
        client_send_all(1000);
        if (!sim_wait_until(has_all, NULL, 60000 * SIM_NS_PER_MS, "all bytes") && far.got < 1000) {
            lost_count++;
            CHECK(sys_socket_bytes_unsent(fd) > 0);
            sim_calm(SIM_FAULTS_ALL);
            (void)sim_wait_until(has_all, NULL, 1000 * SIM_NS_PER_MS, "all bytes");
            found_count += far.got == 1000;
        }
    }
    sim_calm(SIM_FAULTS_ALL);
    client_close();
    (void)sim_wait_until(is_closed, NULL, 10000 * SIM_NS_PER_MS, "the end");
    CHECK_EQ(far.closed_count, far.open_count);
}

TEST(what_a_lost_host_did_not_get_arrives_when_the_faults_end)
{
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        play(seed, 1u << SIM_FAULT_LOSE, talk_into_silence);
    }
    CHECK(lost_count > 0);
    CHECK_EQ(found_count, lost_count);
}

/* Some of it was under way when the host was lost, and some was held up. */
static void lose_half(void *arg)
{
    (void)arg;
    if (client_open()) {
        client_send_some(3000, 50);
        (void)sim_wait_until(has_all, NULL, sim_draw(400 * SIM_NS_PER_MS), "all bytes");
        sim_calm(SIM_FAULTS_ALL);
        (void)sim_wait_until(has_all, NULL, 3000 * SIM_NS_PER_MS, "all bytes");
        CHECK_EQ(far.got, 3000); /* and in order, as on_bytes has seen */
    }
    sim_calm(SIM_FAULTS_ALL);
    client_close();
    CHECK(sim_wait_until(is_closed, NULL, 10000 * SIM_NS_PER_MS, "the end"));
}

TEST(what_is_found_again_is_in_order)
{
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        play(seed, 1u << SIM_FAULT_LOSE | 1u << SIM_FAULT_PIECES | 1u << SIM_FAULT_SLOW, lose_half);
    }
}

/* ---- broken off ---- */

static unsigned refused_count, reset_count, short_count, whole_count;

static void receive_what_there_is(void *arg)
{
    ssize_t got;

    (void)arg;
    if (!client_open()) {
        refused_count++;
        client_close();
        return;
    }
    far_send_all(1000);
    sim_link_close(far.link);
    got = client_read_all();
    if (got < 0) {
        CHECK_EQ(got, -ECONNRESET);
        reset_count++;
    } else {
        short_count += got < 1000;
        whole_count += got == 1000;
    }
    client_close();
    CHECK(sim_wait_until(is_closed, NULL, 10000 * SIM_NS_PER_MS, "the end"));
}

TEST(a_server_refuses_resets_and_ends_at_any_byte)
{
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        play(seed, 1u << SIM_FAULT_REFUSE | 1u << SIM_FAULT_RESET | 1u << SIM_FAULT_FIN,
             receive_what_there_is);
    }
    CHECK(refused_count > 0);
    CHECK(reset_count > 0);
    CHECK(short_count > 0);
    CHECK(whole_count > 0);
}
