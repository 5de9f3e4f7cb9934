#include "net/dial.h"

#include "tests/net_check.h"

/* ---- a dial that counts ---- */

struct caller {
    struct dial dial;
    struct dial_target target;
    struct il_loop *loop;
    size_t done_count;
    size_t phase_count;
    enum il_phase phases[4];
    int fd;
    struct il_error err;
};

static void caller_on_phase(struct dial *dial, enum il_phase phase)
{
    struct caller *caller = il_container_of(dial, struct caller, dial);

    CHECK(caller->phase_count < il_array_count(caller->phases));
    caller->phases[caller->phase_count++] = phase;
}

static void caller_on_done(struct dial *dial, int fd, const struct il_error *err)
{
    struct caller *caller = il_container_of(dial, struct caller, dial);

    CHECK(dial->state == NULL);
    CHECK((fd < 0) == (err != NULL));
    caller->done_count++;
    caller->loop->held.must_return = true;
    caller->fd = fd;
    if (err != NULL) {
        caller->err = *err;
        CHECK(err->message[0] != '\0');
    }
}

static void caller_start(struct caller *caller, struct il_loop *loop, const char *host,
                         uint16_t port)
{
    struct il_error err;

    *caller = (struct caller){
        .dial = { .on_phase = caller_on_phase, .on_done = caller_on_done },
        .target = { .host = host, .port = port },
        .loop = loop,
        .fd = -1,
    };
    CHECK_OK(dial_start(&caller->dial, loop, &caller->target, &err));
    CHECK_EQ(caller->done_count, 0);
    CHECK_EQ(caller->phase_count, 0);
}

static void caller_run(struct caller *caller, struct il_loop *loop, const char *host, uint16_t port)
{
    caller_start(caller, loop, host, port);
    loop_turn_until_count(loop, &caller->done_count, 1);
}

/* ---- tests ---- */

TEST(dial_of_a_literal_gives_a_connected_socket)
{
    struct leftovers before = leftovers_now();
    struct il_loop *loop = loop_open_for_test();
    int listener = listen_for_test("127.0.0.1", 0, 5), accepted;
    struct caller caller;

    caller_run(&caller, loop, "127.0.0.1", port_of_socket(listener));
    CHECK(caller.fd >= 0);
    CHECK_EQ(caller.phase_count, 2);
    CHECK_EQ(caller.phases[0], IL_PHASE_RESOLVE);
    CHECK_EQ(caller.phases[1], IL_PHASE_CONNECT);
    accepted = accept(listener, NULL, NULL);
    CHECK(accepted >= 0);
    CHECK_EQ(send(caller.fd, "x", 1, 0), 1);
    CHECK_EQ(port_of_socket(accepted), port_of_socket(listener));
    close(accepted);
    close(caller.fd);
    close(listener);
    loop_close_for_test(loop);
    check_nothing_is_left_since(&before);
}

TEST(dial_of_localhost_finds_the_one_family_that_listens)
{
    struct leftovers before = leftovers_now();
    struct il_loop *loop = loop_open_for_test();
    int listener = listen_for_test("127.0.0.1", 0, 5);
    struct caller caller;

    caller_run(&caller, loop, "localhost", port_of_socket(listener));
    CHECK(caller.fd >= 0);
    close(caller.fd);
    close(listener);
    loop_close_for_test(loop);
    check_nothing_is_left_since(&before);
}

TEST(dial_of_a_closed_port_says_who_refused)
{
    struct leftovers before = leftovers_now();
    struct il_loop *loop = loop_open_for_test();
    int bound = socket_bind_for_test(SOCK_STREAM, "127.0.0.1", 0);
    struct caller caller;
    char wanted[128];

    caller_run(&caller, loop, "127.0.0.1", port_of_socket(bound));
    CHECK_EQ(caller.fd, -1);
    CHECK_EQ(caller.err.code, IL_ECONNECT);
    CHECK_EQ(caller.err.sys_errno, ECONNREFUSED);
    (void)snprintf(wanted, sizeof(wanted),
                   "cannot connect to 127.0.0.1 port %u: connection refused (127.0.0.1)",
                   port_of_socket(bound));
    CHECK_STR(caller.err.message, wanted);
    close(bound);
    loop_close_for_test(loop);
    check_nothing_is_left_since(&before);
}
