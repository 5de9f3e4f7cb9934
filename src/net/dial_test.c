#include "net/dial.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "tests/dns_server.h"

/* ---- a dial that counts ---- */

static struct resolve_cache *cache; /* from fixture_open to fixture_close */

struct caller {
    struct dial dial;
    struct dial_target target;
    struct il_loop *loop;
    size_t done_count, connected_count, phase_count;
    enum il_phase phases[4];
    int fd;
    struct il_error err;
    enum il_phase cancels_in; /* IL_PHASE_NONE: in none */
    size_t restart_count;     /* how often to start again when done */
};

static void caller_on_phase(struct dial *dial, enum il_phase phase)
{
    struct caller *caller = il_container_of(dial, struct caller, dial);

    CHECK(caller->phase_count < il_array_count(caller->phases));
    caller->phases[caller->phase_count++] = phase;
    if (phase == caller->cancels_in) {
        dial_cancel(dial);
    }
}

/* What is said of the other end is so, unless it is gone again. */
static void check_peer(int fd, const struct net_peer *peer)
{
    struct net_address actual;
    socklen_t size = sizeof(actual);

    memset(&actual, 0, sizeof(actual));
    if (getpeername(fd, &actual.any, &size) == 0) {
        char actual_text[NET_ADDRESS_TEXT_SIZE], text[NET_ADDRESS_TEXT_SIZE];

        CHECK_STR(net_address_text(&peer->address, text), net_address_text(&actual, actual_text));
    }
}

static void caller_on_done(struct dial *dial, int fd, const struct il_error *err)
{
    struct caller *caller = il_container_of(dial, struct caller, dial);

    CHECK(dial->state == NULL);
    CHECK((fd < 0) == (err != NULL));
    caller->done_count++;
    caller->connected_count += fd >= 0;
    if (fd >= 0) {
        check_peer(fd, &dial->peer);
    }
    caller->loop->held.must_return = true;
    if (caller->fd >= 0) {
        close(caller->fd);
    }
    caller->fd = fd;
    if (err != NULL) {
        caller->err = *err;
        CHECK(err->message[0] != '\0');
    }
    if (caller->restart_count > 0) {
        struct il_error start_err;

        caller->restart_count--;
        caller->phase_count = 0;
        CHECK(dial_start(dial, caller->loop, &caller->target, &start_err) == IL_OK);
    }
}

static void caller_prepare(struct caller *caller, struct il_loop *loop, const char *host,
                           uint16_t port)
{
    *caller = (struct caller){
        .dial = { .on_phase = caller_on_phase, .on_done = caller_on_done },
        .target = { .host = host, .port = port, .cache = cache },
        .loop = loop,
        .fd = -1,
    };
}

static void caller_start(struct caller *caller, struct il_loop *loop, const char *host,
                         uint16_t port)
{
    struct il_error err;

    caller_prepare(caller, loop, host, port);
    CHECK_OK(dial_start(&caller->dial, loop, &caller->target, &err));
    CHECK_EQ(caller->done_count, 0);
    CHECK_EQ(caller->phase_count, 0);
}

static void caller_finish(struct caller *caller)
{
    loop_turn_until_count(caller->loop, &caller->done_count, 1);
}

static void caller_run(struct caller *caller, struct il_loop *loop, const char *host, uint16_t port)
{
    caller_start(caller, loop, host, port);
    caller_finish(caller);
}

/* The address that a connected caller is connected to; closes the socket. */
static const char *caller_peer(struct caller *caller)
{
    static char text[NET_ADDRESS_TEXT_SIZE];
    struct net_address address;
    socklen_t size = sizeof(address);

    CHECK(caller->fd >= 0);
    CHECK(getpeername(caller->fd, &address.any, &size) == 0);
    address.v4.sin_port = 0;
    close(caller->fd);
    caller->fd = -1;
    return net_address_text(&address, text);
}

static void check_describes(const struct caller *caller, const char *expected)
{
    char text[128];

    dial_describe(&caller->dial, text, sizeof(text));
    CHECK_STR(text, expected);
}

/* ---- what most tests need ---- */

struct fixture {
    struct leftovers before;
    struct il_loop *loop;
    struct dns_server server;
    int listener; /* on 127.0.0.1 */
    uint16_t port;
};

static const struct server_rule RULES[] = {
    { .name = "here.test", .addresses = { NULL, "127.0.0.1" }, .ttl_s = 30 },
    { .name = "both.test", .addresses = { "::1", "127.0.0.1" } },
    { .name = "kept.test", .addresses = { "::1", "127.0.0.1" }, .ttl_s = 30 },
    { .name = "three.test", .addresses = { NULL, "127.0.0.3 127.0.0.2 127.0.0.1" } },
    { .name = "mixed.test", .addresses = { "::1", "127.0.0.2 127.0.0.3 127.0.0.1" } },
    { .name = "held.test",
      .manners = { SERVER_HOLDS, SERVER_HOLDS },
      .addresses = { "::1", "127.0.0.1" } },
    { .name = "late.test",
      .manners = { SERVER_HOLDS, SERVER_ANSWERS },
      .addresses = { "::1", "127.0.0.1" } },
    { .name = "box.corp.test", .addresses = { NULL, "127.0.0.1" } },
    { .name = "far.test", .addresses = { "2001:db8::1", "192.0.2.1 192.0.2.2" } },
    { .name = "near.test", .addresses = { "2001:db8::1 fd00::1", "192.0.2.1" } },
    { .name = "many.test", .many = 40 },
    { .name = "silent.test", .manners = { SERVER_IS_SILENT, SERVER_IS_SILENT } },
};

static void fixture_open(struct fixture *fixture)
{
    fixture->before = leftovers_now();
    fixture->loop = loop_open_for_test();
    dns_server_open(&fixture->server, fixture->loop, RULES, il_array_count(RULES));
    fixture->listener = listen_for_test("127.0.0.1", 0, 1000);
    fixture->port = port_of_socket(fixture->listener);
    cache = resolve_cache_new();
}

static void fixture_close(struct fixture *fixture)
{
    close(fixture->listener);
    dns_server_close(&fixture->server);
    loop_close_for_test(fixture->loop);
    resolve_cache_free(cache);
    check_nothing_is_left_since(&fixture->before);
}

/* A port on which nobody listens, as long as the returned socket is there. */
static int closed_port_open(uint16_t *ret_port)
{
    int fd = socket_bind_for_test(SOCK_STREAM, "127.0.0.1", 0);

    *ret_port = port_of_socket(fd);
    return fd;
}

static void wait_until_held(struct fixture *fixture, size_t count)
{
    while (fixture->server.held_count < count) {
        CHECK_EQ(loop_turn(fixture->loop, SYS_FOREVER), LOOP_HELD);
    }
}

/* ---- one address ---- */

TEST(dial_of_a_literal_gives_a_connected_socket)
{
    struct fixture fixture;
    struct caller caller;
    char byte;
    int accepted;

    fixture_open(&fixture);
    caller_run(&caller, fixture.loop, "127.0.0.1", fixture.port);
    CHECK_EQ(caller.phase_count, 2);
    CHECK_EQ(caller.phases[0], IL_PHASE_RESOLVE);
    CHECK_EQ(caller.phases[1], IL_PHASE_CONNECT);
    accepted = accept(fixture.listener, NULL, NULL);
    CHECK(accepted >= 0);
    CHECK_EQ(recv(caller.fd, &byte, 1, 0), -1); /* not blocking */
    CHECK_EQ(errno, EAGAIN);
    CHECK_EQ(send(caller.fd, "x", 1, 0), 1);
    CHECK_EQ(recv(accepted, &byte, 1, 0), 1);
    close(accepted);
    CHECK_STR(caller_peer(&caller), "127.0.0.1");
    fixture_close(&fixture);
}

TEST(dial_of_a_name_resolves_it_first)
{
    struct fixture fixture;
    struct caller caller;

    fixture_open(&fixture);
    caller_run(&caller, fixture.loop, "here.test", fixture.port);
    CHECK_STR(caller_peer(&caller), "127.0.0.1");
    CHECK_EQ(fixture.server.question_counts[DNS_A], 1);
    fixture_close(&fixture);
}

TEST(what_cannot_be_dialed_is_refused_at_once)
{
    static const struct dial_target targets[] = {
        { .host = NULL, .port = 80 },
        { .host = "", .port = 80 },
        { .host = "127.0.0.1" },
        { .host = "a b", .port = 80 },
        { .host = "fe80::1%lo", .port = 80 },
    };
    struct fixture fixture;
    struct dial dial = { .on_done = caller_on_done };
    struct il_error err;

    fixture_open(&fixture);
    for (size_t i = 0; i < il_array_count(targets); i++) {
        CHECK_EQ(dial_start(&dial, fixture.loop, &targets[i], &err), IL_EINVAL);
        CHECK(dial.state == NULL);
        dial_cancel(&dial);
    }
    fixture_close(&fixture);
}

TEST(refusal_names_the_address)
{
    struct fixture fixture;
    struct caller caller;
    char expected[128];
    uint16_t port;
    int bound;

    fixture_open(&fixture);
    bound = closed_port_open(&port);
    caller_run(&caller, fixture.loop, "127.0.0.1", port);
    CHECK_EQ(caller.fd, -1);
    CHECK_EQ(caller.err.code, IL_ECONNECT);
    CHECK_EQ(caller.err.sys_errno, ECONNREFUSED);
    CHECK_EQ(caller.err.phase, IL_PHASE_CONNECT);
    (void)snprintf(expected, sizeof(expected),
                   "cannot connect to 127.0.0.1 port %u: connection refused (127.0.0.1)", port);
    CHECK_STR(caller.err.message, expected);
    close(bound);
    fixture_close(&fixture);
}

TEST(name_that_does_not_resolve_is_an_error_of_that_kind)
{
    struct fixture fixture;
    struct caller caller;

    fixture_open(&fixture);
    caller_run(&caller, fixture.loop, "missing.test", fixture.port);
    CHECK_EQ(caller.err.code, IL_ERESOLVE);
    CHECK_CONTAINS(caller.err.message, "missing.test");
    CHECK_EQ(caller.phase_count, 1);
    fixture_close(&fixture);
}

/* The kernel gives a socket any free port for its own, also the one that it is to connect to: an
 * even one, if it can, while ports to listen on are odd. So often tried, it would have happened. */
TEST(nobody_connects_to_itself)
{
    enum { DIALS = 60000 };
    struct fixture fixture;
    struct caller caller;
    uint16_t port;

    fixture_open(&fixture);
    close(closed_port_open(&port));
    port ^= 1;
    caller_start(&caller, fixture.loop, "127.0.0.1", port);
    caller.restart_count = DIALS - 1;
    loop_turn_until_count(fixture.loop, &caller.done_count, DIALS);
    CHECK_EQ(caller.connected_count, 0);
    CHECK_EQ(caller.err.sys_errno, ECONNREFUSED);
    fixture_close(&fixture);
}

/* ---- several addresses ---- */

TEST(next_address_is_tried_at_once_when_one_refuses)
{
    struct fixture fixture;
    struct caller caller;
    uint64_t began_ns;

    fixture_open(&fixture);
    fake_time_begin();
    began_ns = sys_now_ns();
    caller_run(&caller, fixture.loop, "three.test", fixture.port);
    CHECK_STR(caller_peer(&caller), "127.0.0.1");
    CHECK_EQ(sys_now_ns(), began_ns); /* nothing had to be waited for */
    fixture_close(&fixture);
}

TEST(ipv6_is_tried_first_and_then_the_families_take_turns)
{
    struct fixture fixture;
    struct caller caller;
    int listener;

    fixture_open(&fixture);
    listener = listen_for_test("::1", fixture.port, 5);
    caller_run(&caller, fixture.loop, "mixed.test", fixture.port);
    CHECK_STR(caller_peer(&caller), "::1");
    caller_run(&caller, fixture.loop, "localhost", fixture.port);
    CHECK_STR(caller_peer(&caller), "::1");
    close(listener);
    caller_run(&caller, fixture.loop, "localhost", fixture.port);
    CHECK_STR(caller_peer(&caller), "127.0.0.1");
    fixture_close(&fixture);
}

/* A world in which nobody answers, and where we are fd00::2 and 10.0.0.2. */
static struct sys_world far_world;
static struct net_address far_server; /* of DNS, and the only one that is real */
static int far_family;                /* of the address that was connected to last */

static int far_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    int type = 0;
    socklen_t type_size = sizeof(type);

    CHECK(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) == 0);
    if (type == SOCK_STREAM) {
        return -ECONNREFUSED;
    }
    if (memcmp(address, &far_server.any, size) == 0) {
        return sys_world_real.socket_connect(fd, address, size);
    }
    far_family = address->sa_family;
    return 0;
}

static int far_names(int fd, struct sockaddr_storage *ret_local, struct sockaddr_storage *ret_peer)
{
    struct net_address source =
        address_for_test(far_family == AF_INET6 ? "fd00::2" : "10.0.0.2", 0);

    (void)fd;
    (void)ret_peer;
    memcpy(ret_local, &source, sizeof(source));
    return 0;
}

TEST(address_that_our_own_one_does_not_go_with_is_tried_later)
{
    struct fixture fixture;
    struct caller caller;

    fixture_open(&fixture);
    far_server = address_for_test("127.0.0.1", port_of_socket(fixture.server.udp_fd));
    far_world = *sys_world;
    far_world.socket_connect = far_connect;
    far_world.socket_names = far_names;
    sys_world = &far_world;
    caller_run(&caller, fixture.loop, "far.test", fixture.port);
    CHECK_CONTAINS(caller.err.message, "(192.0.2.1, 2001:db8::1, 192.0.2.2)");
    caller_run(&caller, fixture.loop, "near.test", fixture.port); /* ours, and then strangers */
    CHECK_CONTAINS(caller.err.message, "(192.0.2.1, fd00::1, 2001:db8::1)");
    sys_world = &sys_world_real;
    fixture_close(&fixture);
}

TEST(address_that_is_silent_holds_up_the_next_for_a_quarter_of_a_second)
{
    struct fixture fixture;
    struct caller caller;
    struct black_hole six, two;
    uint64_t began_ns;

    fixture_open(&fixture);
    fake_time_begin();
    black_hole_open(&six, "::1", fixture.port);
    black_hole_open(&two, "127.0.0.2", fixture.port);
    began_ns = sys_now_ns();
    caller_start(&caller, fixture.loop, "mixed.test", fixture.port);
    while (sys_now_ns() == began_ns) { /* until time has to pass */
        CHECK_EQ(loop_turn(fixture.loop, SYS_FOREVER), LOOP_HELD);
    }
    {
        char text[96];

        (void)snprintf(text, sizeof(text), "connecting to [::1]:%u (1 of 4 addresses)",
                       fixture.port);
        check_describes(&caller, text);
    }
    caller_finish(&caller);
    /* ::1 is silent, 127.0.0.2 is silent, 127.0.0.3 refuses, 127.0.0.1 answers */
    CHECK_STR(caller_peer(&caller), "127.0.0.1");
    CHECK(sys_now_ns() - began_ns >= 500 * (uint64_t)LOOP_NS_PER_MS);
    CHECK(sys_now_ns() - began_ns < 510 * (uint64_t)LOOP_NS_PER_MS);
    black_hole_close(&six);
    black_hole_close(&two);
    fixture_close(&fixture);
}

TEST(family_that_was_silent_comes_second_next_time)
{
    struct fixture fixture;
    struct black_hole six, four;
    struct caller first, second;
    char expected[80];

    fixture_open(&fixture);
    black_hole_open(&six, "::1", fixture.port);
    caller_run(&first, fixture.loop, "kept.test", fixture.port);
    CHECK_STR(caller_peer(&first), "127.0.0.1"); /* after a quarter of a second */
    close(fixture.listener);
    black_hole_open(&four, "127.0.0.1", fixture.port);
    caller_start(&second, fixture.loop, "kept.test", fixture.port);
    while (second.phase_count < 2) {
        CHECK_EQ(loop_turn(fixture.loop, SYS_FOREVER), LOOP_HELD);
    }
    (void)snprintf(expected, sizeof(expected), "connecting to 127.0.0.1:%u (1 of 2 addresses)",
                   fixture.port);
    check_describes(&second, expected);
    dial_cancel(&second.dial);
    black_hole_close(&four);
    black_hole_close(&six);
    fixture.listener = socket_bind_for_test(SOCK_STREAM, "127.0.0.1", 0);
    fixture_close(&fixture);
}

TEST(ipv4_addresses_wait_a_moment_for_ipv6_ones)
{
    struct fixture fixture;
    struct caller caller;
    uint64_t began_ns;
    int listener;

    fixture_open(&fixture);
    fake_time_begin();
    listener = listen_for_test("::1", fixture.port, 5);
    began_ns = sys_now_ns();
    caller_run(&caller, fixture.loop, "late.test", fixture.port); /* no IPv6 yet */
    CHECK_STR(caller_peer(&caller), "127.0.0.1");
    CHECK(sys_now_ns() - began_ns >= 50 * (uint64_t)LOOP_NS_PER_MS);
    CHECK(sys_now_ns() - began_ns < 60 * (uint64_t)LOOP_NS_PER_MS);

    caller_start(&caller, fixture.loop, "held.test", fixture.port);
    wait_until_held(&fixture, 3);
    server_release(&fixture.server, DNS_A);
    server_release(&fixture.server, DNS_AAAA);
    began_ns = sys_now_ns();
    caller_finish(&caller);
    CHECK_STR(caller_peer(&caller), "::1"); /* it came in time */
    CHECK_EQ(sys_now_ns(), began_ns);

    caller_start(&caller, fixture.loop, "held.test", fixture.port);
    wait_until_held(&fixture, 2);
    server_release(&fixture.server, DNS_AAAA);
    began_ns = sys_now_ns();
    caller_finish(&caller); /* IPv6 need not wait for IPv4 */
    CHECK_STR(caller_peer(&caller), "::1");
    CHECK_EQ(sys_now_ns(), began_ns);
    close(listener);
    fixture_close(&fixture);
}

TEST(addresses_that_come_late_join_the_race)
{
    struct fixture fixture;
    struct caller caller;
    uint16_t port;
    int listener, bound;

    fixture_open(&fixture);
    fake_time_begin();
    bound = closed_port_open(&port); /* 127.0.0.1 refuses, ::1 answers */
    listener = listen_for_test("::1", port, 5);
    caller_start(&caller, fixture.loop, "late.test", port);
    while (caller.phase_count < 2) {
        CHECK_EQ(loop_turn(fixture.loop, SYS_FOREVER), LOOP_HELD);
    }
    loop_turn_some(fixture.loop, 5);
    CHECK_EQ(caller.done_count, 0); /* refused, and it waits for what DNS has yet to say */
    server_release(&fixture.server, DNS_AAAA);
    caller_finish(&caller);
    CHECK_STR(caller_peer(&caller), "::1");
    close(listener);
    close(bound);
    fixture_close(&fixture);
}

TEST(failure_names_every_address_and_reason)
{
    struct fixture fixture;
    struct caller caller;
    char expected[256];
    uint16_t port;
    int bound;

    fixture_open(&fixture);
    bound = closed_port_open(&port);
    caller_run(&caller, fixture.loop, "mixed.test", port);
    (void)snprintf(expected, sizeof(expected),
                   "cannot connect to mixed.test port %u: connection refused "
                   "(::1, 127.0.0.2, 127.0.0.3, 127.0.0.1)",
                   port);
    CHECK_EQ(caller.err.code, IL_ECONNECT);
    CHECK_STR(caller.err.message, expected);
    close(bound);
    fixture_close(&fixture);
}

TEST(so_many_addresses_are_tried_and_the_message_is_cut)
{
    struct fixture fixture;
    struct caller caller;
    uint16_t port;
    int bound;

    fixture_open(&fixture);
    bound = closed_port_open(&port);
    caller_run(&caller, fixture.loop, "many.test", port); /* 127.1.0.0 and up, 2001::0 and up */
    CHECK_EQ(caller.err.code, IL_ECONNECT);
    CHECK_CONTAINS(caller.err.message, "connection refused (127.1.0.0, 127.1.0.1");
    CHECK_CONTAINS(caller.err.message, " more");
    CHECK(strlen(caller.err.message) < sizeof(caller.err.message));
    close(bound);
    fixture_close(&fixture);
}

TEST(name_whose_addresses_do_not_answer_is_looked_up_anew)
{
    struct fixture fixture;
    struct caller caller;
    uint16_t port;
    int bound;

    fixture_open(&fixture);
    bound = closed_port_open(&port);
    caller_run(&caller, fixture.loop, "here.test", fixture.port);
    (void)caller_peer(&caller);
    caller_run(&caller, fixture.loop, "here.test", port);
    CHECK_EQ(caller.err.code, IL_ECONNECT);
    CHECK_EQ(fixture.server.question_counts[DNS_A], 1); /* known for 30 s */
    caller_run(&caller, fixture.loop, "here.test", fixture.port);
    (void)caller_peer(&caller);
    CHECK_EQ(fixture.server.question_counts[DNS_A], 2);
    close(bound);
    fixture_close(&fixture);
}

/* ---- shortages ---- */

TEST(no_descriptor_left_says_what_to_do)
{
    struct fixture fixture;
    struct caller caller;
    struct rlimit limit, none;

    fixture_open(&fixture);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = (struct rlimit){ 0, limit.rlim_max };
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    caller_run(&caller, fixture.loop, "127.0.0.1", fixture.port);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_EQ(caller.err.code, IL_ESYS);
    CHECK_EQ(caller.err.sys_errno, EMFILE);
    CHECK_CONTAINS(caller.err.message, "ulimit -n");
    fixture_close(&fixture);
}

TEST(attempt_under_way_goes_on_when_descriptors_run_out)
{
    struct fixture fixture;
    struct caller caller;
    struct black_hole hole;
    struct rlimit limit, none;
    int accepted;

    fixture_open(&fixture);
    fake_time_begin();
    black_hole_open(&hole, "::1", fixture.port);
    CHECK(fcntl(hole.listener, F_SETFL, O_NONBLOCK) == 0);
    caller_start(&caller, fixture.loop, "localhost", fixture.port);
    while (caller.phase_count < 2) {
        CHECK_EQ(loop_turn(fixture.loop, 0), LOOP_HELD);
    }
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = (struct rlimit){ 0, limit.rlim_max };
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK_EQ(loop_turn(fixture.loop, SYS_FOREVER), LOOP_HELD); /* the quarter of a second */
    loop_turn_some(fixture.loop, 3);
    CHECK_EQ(caller.done_count, 0); /* nothing left for 127.0.0.1 */
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    while (caller.done_count == 0) { /* make room, until the kernel has sent our SYN again */
        accepted = accept4(hole.listener, NULL, NULL, SOCK_CLOEXEC);
        if (accepted >= 0) {
            close(accepted);
        }
        CHECK_EQ(loop_turn(fixture.loop, sys_now_ns() + LOOP_NS_PER_MS), LOOP_HELD);
    }
    CHECK_STR(caller_peer(&caller), "::1");
    black_hole_close(&hole);
    fixture_close(&fixture);
}

TEST(any_allocation_of_a_dial_may_fail)
{
    struct fixture fixture;
    struct caller caller;
    struct il_error err;
    bool is_done = false;

    for (uint64_t after = 0; !is_done; after++) {
        fixture_open(&fixture);
        caller = (struct caller){ .dial = { .on_done = caller_on_done },
                                  .target = { .host = "localhost", .port = fixture.port },
                                  .loop = fixture.loop,
                                  .fd = -1 };
        il_memory_fail_after(after);
        if (dial_start(&caller.dial, fixture.loop, &caller.target, &err) != IL_OK) {
            CHECK_EQ(err.code, IL_ENOMEM);
            loop_turn_some(fixture.loop, 2);
        } else {
            caller_finish(&caller);
            is_done = caller.fd >= 0;
            CHECK(is_done || caller.err.code == IL_ENOMEM || caller.err.code == IL_ESYS);
        }
        il_memory_fail_after(UINT64_MAX);
        if (is_done) {
            CHECK_STR(caller_peer(&caller), "127.0.0.1");
        }
        fixture_close(&fixture);
    }
}

/* ---- cancelling ---- */

TEST(dial_may_be_cancelled_after_any_number_of_turns)
{
    static const char *const hosts[] = { "127.0.0.1", "localhost", "mixed.test",
                                         "held.test", "late.test", "missing.test" };
    struct fixture fixture;
    struct caller caller;

    for (size_t host = 0; host < il_array_count(hosts); host++) {
        for (int turn_count = 0; turn_count < 14; turn_count++) {
            fixture_open(&fixture);
            caller_start(&caller, fixture.loop, hosts[host], fixture.port);
            loop_turn_some(fixture.loop, turn_count);
            if (caller.done_count == 0) {
                dial_cancel(&caller.dial);
            } else if (caller.fd >= 0) {
                close(caller.fd);
            }
            CHECK(caller.dial.state == NULL);
            memset(&caller, 0xa5, sizeof(caller));
            fixture_close(&fixture);
        }
    }
}

TEST(dial_may_be_cancelled_while_several_attempts_are_under_way)
{
    struct fixture fixture;
    struct caller caller;
    struct black_hole holes[2];
    char text[96];

    fixture_open(&fixture);
    fake_time_begin();
    black_hole_open(&holes[0], "127.0.0.3", fixture.port);
    black_hole_open(&holes[1], "127.0.0.2", fixture.port);
    close(fixture.listener);
    fixture.listener = socket_bind_for_test(SOCK_STREAM, "127.0.0.1", fixture.port);
    caller_start(&caller, fixture.loop, "three.test", fixture.port);
    check_describes(&caller, "resolving three.test");
    (void)snprintf(text, sizeof(text), "connecting to 127.0.0.1:%u (3 of 3 addresses)",
                   fixture.port);
    for (uint64_t began_ns = sys_now_ns();
         sys_now_ns() - began_ns < 600 * (uint64_t)LOOP_NS_PER_MS;) {
        CHECK_EQ(loop_turn(fixture.loop, began_ns + 600 * (uint64_t)LOOP_NS_PER_MS), LOOP_HELD);
    }
    CHECK_EQ(caller.done_count, 0); /* the last one has refused, the others are still silent */
    check_describes(&caller, text);
    dial_cancel(&caller.dial);
    check_describes(&caller, "not connecting");
    dial_cancel(&caller.dial); /* nothing to do */
    black_hole_close(&holes[0]);
    black_hole_close(&holes[1]);
    fixture_close(&fixture);
}

TEST(dial_may_be_cancelled_in_each_phase_callback)
{
    static const char *const hosts[] = { "127.0.0.1", "here.test" };
    static const enum il_phase phases[] = { IL_PHASE_RESOLVE, IL_PHASE_CONNECT };
    struct fixture fixture;
    struct caller caller;

    for (size_t i = 0; i < il_array_count(hosts) * il_array_count(phases); i++) {
        fixture_open(&fixture);
        caller_start(&caller, fixture.loop, hosts[i / 2], fixture.port);
        caller.cancels_in = phases[i % 2];
        while (caller.dial.state != NULL) {
            CHECK_EQ(loop_turn(fixture.loop, 0), LOOP_HELD);
        }
        loop_turn_some(fixture.loop, 5);
        CHECK_EQ(caller.phase_count, i % 2 + 1);
        CHECK_EQ(caller.done_count, 0);
        fixture_close(&fixture);
    }
}

TEST(dial_may_be_started_again_in_its_callback)
{
    struct fixture fixture;
    struct caller caller;

    fixture_open(&fixture);
    caller_start(&caller, fixture.loop, "here.test", fixture.port);
    caller.restart_count = 2;
    loop_turn_until_count(fixture.loop, &caller.done_count, 3);
    CHECK_STR(caller_peer(&caller), "127.0.0.1");
    fixture_close(&fixture);
}

/* ---- addresses that are given ---- */

TEST(given_addresses_are_raced_and_nobody_is_asked)
{
    struct net_address addresses[3];
    struct fixture fixture;
    struct caller caller;
    struct il_error err;

    fixture_open(&fixture);
    CHECK(net_address_parse("127.0.0.2", &addresses[0])); /* nobody listens there */
    CHECK(net_address_parse("127.0.0.1", &addresses[1]));
    CHECK(net_address_parse("::1", &addresses[2])); /* nor there */
    caller_prepare(&caller, fixture.loop, "silent.test", fixture.port);
    caller.target.addresses = addresses;
    caller.target.address_count = il_array_count(addresses);
    CHECK_OK(dial_start(&caller.dial, fixture.loop, &caller.target, &err));
    check_describes(&caller, "resolving silent.test");
    caller_finish(&caller);
    CHECK_EQ(caller.phase_count, 2);
    CHECK_STR(caller_peer(&caller), "127.0.0.1");
    CHECK_EQ(fixture.server.question_counts[DNS_A], 0);
    fixture_close(&fixture);
}

TEST(given_addresses_that_all_fail_are_named)
{
    struct net_address addresses[RESOLVE_FAMILY_MAX];
    struct fixture fixture;
    struct caller caller;
    struct il_error err;
    uint16_t port;
    int closed = closed_port_open(&port);

    fixture_open(&fixture);
    for (size_t i = 0; i < il_array_count(addresses); i++) {
        CHECK(net_address_parse("127.0.0.1", &addresses[i]));
    }
    caller_prepare(&caller, fixture.loop, "here.test", port);
    caller.target.addresses = addresses;
    caller.target.address_count = il_array_count(addresses);
    CHECK_OK(dial_start(&caller.dial, fixture.loop, &caller.target, &err));
    caller_finish(&caller);
    CHECK_EQ(caller.err.code, IL_ECONNECT);
    CHECK_CONTAINS(caller.err.message, "here.test");
    CHECK_CONTAINS(caller.err.message, "refused (127.0.0.1, 127.0.0.1");
    fixture_close(&fixture);
    close(closed);
}

/* "box" is box.corp.test by the search list, and "box." is itself. */
TEST(name_with_a_final_dot_is_dialed_without_the_search_list)
{
    struct fixture fixture;
    struct caller caller;
    struct il_error err;

    for (int is_absolute = 0; is_absolute < 2; is_absolute++) {
        fixture_open(&fixture);
        fixture.server.settings.search = "corp.test";
        caller_prepare(&caller, fixture.loop, "box", fixture.port);
        caller.target.is_absolute = is_absolute;
        CHECK_OK(dial_start(&caller.dial, fixture.loop, &caller.target, &err));
        caller_finish(&caller);
        CHECK_EQ(caller.connected_count, !is_absolute);
        if (is_absolute) {
            CHECK_EQ(caller.err.code, IL_ERESOLVE);
            CHECK_EQ(fixture.server.question_counts[DNS_A], 1);
        } else {
            CHECK_STR(caller_peer(&caller), "127.0.0.1");
        }
        fixture_close(&fixture);
    }
}

/* ---- many, and the end of the loop ---- */

TEST(many_dials_at_once_share_one_lookup)
{
    enum { CALLERS = 300 };
    static struct caller callers[CALLERS];
    struct fixture fixture;

    fixture_open(&fixture);
    for (int i = 0; i < CALLERS; i++) {
        caller_start(&callers[i], fixture.loop, "here.test", fixture.port);
    }
    for (int i = 0; i < CALLERS; i++) {
        caller_finish(&callers[i]);
        CHECK_STR(caller_peer(&callers[i]), "127.0.0.1");
    }
    CHECK_EQ(fixture.server.question_counts[DNS_A], 1);
    fixture_close(&fixture);
}

TEST(dial_gets_ESHUTDOWN_when_its_loop_ends)
{
    struct fixture fixture;
    struct caller resolving, connecting;
    struct black_hole hole;

    fixture_open(&fixture);
    black_hole_open(&hole, "127.0.0.5", fixture.port);
    caller_start(&resolving, fixture.loop, "silent.test", fixture.port);
    caller_start(&connecting, fixture.loop, "127.0.0.5", fixture.port);
    while (connecting.phase_count < 2) {
        CHECK_EQ(loop_turn(fixture.loop, SYS_FOREVER), LOOP_HELD);
    }
    loop_turn_some(fixture.loop, 2);
    black_hole_close(&hole);
    fixture_close(&fixture);
    CHECK_EQ(resolving.done_count, 1);
    CHECK_EQ(resolving.err.code, IL_ESHUTDOWN);
    CHECK_EQ(connecting.done_count, 1);
    CHECK_EQ(connecting.err.code, IL_ESHUTDOWN);
}

struct owner {
    struct loop_guest guest;
    struct caller caller;
};

static void owner_on_loop_end(struct loop_guest *guest)
{
    dial_cancel(&il_container_of(guest, struct owner, guest)->caller.dial);
}

TEST(owner_may_cancel_from_its_own_guest_before_and_after_ours)
{
    static const char *const hosts[] = { "silent.test", "127.0.0.5", "localhost" };
    struct owner before, after;
    struct fixture fixture;
    struct black_hole hole;

    for (size_t i = 0; i < il_array_count(hosts); i++) {
        fixture_open(&fixture);
        black_hole_open(&hole, "127.0.0.5", fixture.port);
        before.guest.on_loop_end = after.guest.on_loop_end = owner_on_loop_end;
        il_list_init(&before.guest.link);
        il_list_init(&after.guest.link);
        il_assert_on_loop(fixture.loop);
        loop_guest_add(fixture.loop, &before.guest);
        caller_start(&before.caller, fixture.loop, hosts[i], fixture.port);
        caller_start(&after.caller, fixture.loop, hosts[i], fixture.port);
        loop_guest_add(fixture.loop, &after.guest);
        if (i != 2) {
            loop_turn_some(fixture.loop, 4);
            CHECK_EQ(before.caller.done_count + after.caller.done_count, 0);
        } else { /* a job is queued: it runs before the loop can be sealed, or while it ends */
            before.caller.loop = after.caller.loop = fixture.loop;
        }
        black_hole_close(&hole);
        fixture_close(&fixture);
        if (i != 2) {
            CHECK_EQ(before.caller.done_count + after.caller.done_count, 0);
        }
        close(before.caller.fd);
        close(after.caller.fd);
    }
}
