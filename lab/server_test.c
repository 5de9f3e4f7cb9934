/* server_test.c: what tests may rely on when they use the lab server: gates, counters, waiting,
 * closing, accepting. raw_server_stop() checks in every test that nothing is left. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "lab/raw_client.h"
#include "tests/check.h"

static struct raw_answer answer;
static struct il_error err;

static struct lab_server_counters counters_of(struct lab_server *server)
{
    struct lab_server_counters counters;

    lab_server_counters(server, &counters);
    return counters;
}

/* A connection that has been used once and now idles. */
static struct raw *open_idle(struct lab_server *server)
{
    struct raw *raw = raw_open(server);

    raw_get(raw, "/hello", &answer);
    CHECK_EQ(answer.status, 200);
    return raw;
}

static void hold(struct raw *raw, const char *name)
{
    raw_send(raw, "GET /hold/");
    raw_send(raw, name);
    raw_send(raw, " HTTP/1.1\r\n\r\n");
}

TEST(server_answers_on_a_port_of_its_own)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    CHECK(lab_server_port(server) != 0);
    CHECK_STR(lab_server_address(server), "127.0.0.1");
    for (unsigned i = 1; i <= 3; i++) {
        raw_get(raw, "/hello", &answer);
        CHECK_EQ(answer.status, 200);
        CHECK_STR(answer.body, "hello\n");
        CHECK_EQ(raw_header_number(&answer, "X-Connection"), 1);
        CHECK_EQ(raw_header_number(&answer, "X-Request"), i);
    }
    raw_close(raw);
    raw_server_stop(server);
}

TEST(start_refuses_an_address_that_is_not_numeric)
{
    struct lab_server_options options = { .address = "localhost" };
    struct lab_server *server;

    CHECK_EQ(lab_server_start(&options, &server, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "'localhost' is not a numeric");
}

TEST(start_names_the_port_that_is_taken_and_leaves_nothing)
{
    struct lab_server *server = raw_server_start(NULL), *second;
    struct lab_server_options options = { .port = lab_server_port(server) };
    struct raw_census before;
    char want[64];

    raw_census(&before);
    CHECK_EQ(lab_server_start(&options, &second, &err), IL_ESYS);
    (void)snprintf(want, sizeof(want), "port %u: Address already in use", options.port);
    CHECK_CONTAINS(err.message, want);
    raw_check_nothing_left(&before);
    raw_server_stop(server);
}

TEST(servers_do_not_know_of_each_other)
{
    struct lab_server *a = raw_server_start(NULL), *b;
    struct raw *raw;

    CHECK_OK(lab_server_start(NULL, &b, &err));
    raw = raw_open(b);
    raw_get(raw, "/hello", &answer);
    CHECK_EQ(counters_of(a).accepted_count, 0);
    CHECK_EQ(counters_of(b).answered_count, 1);
    raw_close(raw);
    lab_server_stop(b);
    raw_server_stop(a);
}

TEST(stopping_no_server_is_nothing)
{
    lab_server_stop(NULL);
}

/* ---- gates ---- */

TEST(held_request_is_answered_when_its_gate_is_released)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    hold(raw, "a");
    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    CHECK_EQ(counters_of(server).held_count, 1);
    CHECK_EQ(lab_server_release(server, "b", LAB_RELEASE_ALL), IL_OK);
    CHECK_EQ(lab_server_held(server, "a"), 1);
    CHECK(raw_is_quiet(raw));
    CHECK_EQ(lab_server_release(server, "a", 1), IL_OK);
    CHECK_EQ(lab_server_held(server, "a"), 0);
    CHECK(!raw_is_quiet(raw)); /* answered when the release returns */
    raw_read_answer(raw, false, &answer);
    CHECK_STR(answer.body, "released\n");
    raw_close(raw);
    raw_server_stop(server);
}

TEST(gate_lets_requests_through_in_the_order_they_came)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raws[3];

    for (unsigned i = 0; i < 3; i++) {
        raws[i] = raw_open(server);
        hold(raws[i], "a");
        CHECK(lab_server_wait_held(server, "a", i + 1, raw_soon()));
    }
    CHECK_EQ(lab_server_release(server, "a", 2), IL_OK);
    raw_read_answer(raws[0], false, &answer);
    raw_read_answer(raws[1], false, &answer);
    CHECK(raw_is_quiet(raws[2]));
    CHECK_EQ(lab_server_held(server, "a"), 1);
    for (unsigned i = 0; i < 3; i++) {
        raw_close(raws[i]);
    }
    raw_server_stop(server);
}

TEST(release_before_the_request_is_kept_for_it_and_for_no_other)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    CHECK_EQ(lab_server_release(server, "a", 2), IL_OK);
    raw_get(raw, "/hold/a", &answer);
    raw_get(raw, "/hold/a", &answer);
    CHECK_EQ(answer.status, 200);
    hold(raw, "a");
    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    raw_close(raw);
    raw_server_stop(server);
}

TEST(gate_released_for_all_stays_open)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    CHECK_EQ(lab_server_release(server, "a", 3), IL_OK);
    CHECK_EQ(lab_server_release(server, "a", LAB_RELEASE_ALL), IL_OK);
    CHECK_EQ(lab_server_release(server, "a", 1), IL_OK);
    for (unsigned i = 0; i < 10; i++) {
        raw_get(raw, "/hold/a", &answer);
        CHECK_EQ(answer.status, 200);
    }
    raw_close(raw);
    raw_server_stop(server);
}

TEST(client_that_leaves_a_gate_is_not_counted_there_any_more)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    hold(raw, "a");
    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    raw_close(raw);
    CHECK(lab_server_wait_open(server, 0, raw_soon()));
    CHECK_EQ(lab_server_held(server, "a"), 0);
    CHECK_EQ(counters_of(server).abandoned_count, 1);
    CHECK_EQ(counters_of(server).held_count, 0);
    raw_server_stop(server);
}

/* ---- counters ---- */

TEST(counters_contain_what_the_client_has_seen)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    for (unsigned i = 1; i <= 500; i++) {
        struct lab_server_counters c;

        raw_get(raw, "/hello", &answer);
        c = counters_of(server);
        CHECK_EQ(c.request_count, i);
        CHECK_EQ(c.answered_count, i);
        CHECK_EQ(c.idle_count, 1);
        CHECK_EQ(c.by[lab_server_behaviour("/hello")].answered_count, i);
    }
    raw_close(raw);
    raw_server_stop(server);
}

TEST(requests_are_counted_by_path)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);
    struct lab_server_counters c;

    raw_get(raw, "/id/1", &answer);
    raw_get(raw, "/id/2?n=7", &answer);
    raw_get(raw, "/no-such-path", &answer);
    CHECK_EQ(answer.status, 404);
    raw_send(raw, "GET /never HTTP/1.1\r\n\r\n");
    CHECK(lab_server_wait_requests(server, "/never", 1, raw_soon()));
    c = counters_of(server);
    CHECK_EQ(c.by[lab_server_behaviour("/id")].request_count, 2);
    CHECK_EQ(c.by[lab_server_behaviour("/id/TOKEN")].answered_count, 2);
    CHECK_EQ(c.by[lab_server_behaviour("/404")].answered_count, 1);
    CHECK_EQ(c.by[lab_server_behaviour("/never")].request_count, 1);
    CHECK_EQ(c.by[lab_server_behaviour("/never")].answered_count, 0);
    CHECK_EQ(c.by[lab_server_behaviour("/")].request_count, 0);
    CHECK_EQ(c.answering_count, 1);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(every_request_ends_as_answered_dropped_or_abandoned)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = open_idle(server);
    struct lab_server_counters c;

    raw_send(raw, "GET /close HTTP/1.1\r\n\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    raw_close(raw);
    raw = raw_open(server);
    raw_send(raw, "GET /never HTTP/1.1\r\n\r\n");
    CHECK(lab_server_wait_requests(server, "/never", 1, raw_soon()));
    raw_close(raw);
    raw = raw_open(server);
    raw_send(raw, "GET /incomplete");
    CHECK(lab_server_wait_open(server, 1, raw_soon()));
    raw_close(raw);
    CHECK(lab_server_wait_open(server, 0, raw_soon()));
    c = counters_of(server);
    CHECK_EQ(c.accepted_count, 3);
    CHECK_EQ(c.closed_count, 3);
    CHECK_EQ(c.request_count, 3);
    CHECK_EQ(c.answered_count, 1);
    CHECK_EQ(c.dropped_count, 1);
    CHECK_EQ(c.abandoned_count, 1);
    CHECK_EQ(c.bad_count, 0);
    raw_server_stop(server);
}

TEST(connections_are_known_by_number_while_open_and_after)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *first = open_idle(server), *second = open_idle(server);
    struct lab_connection info;
    uint16_t port = raw_port(second);

    raw_get(second, "/hello", &answer);
    CHECK_EQ(raw_header_number(&answer, "X-Connection"), 2);
    raw_send(second, "GET /never HTTP/1.1\r\n\r\n");
    CHECK(lab_server_wait_requests(server, "/never", 1, raw_soon()));
    CHECK_OK(lab_server_connection(server, 2, &info, &err));
    CHECK(info.is_open);
    CHECK_EQ(info.number, 2);
    CHECK_EQ(info.request_count, 3);
    CHECK_EQ(info.answered_count, 2);
    CHECK_EQ(info.peer_port, port);
    raw_close(second);
    CHECK(lab_server_wait_open(server, 1, raw_soon()));
    CHECK_OK(lab_server_connection(server, 2, &info, &err));
    CHECK(!info.is_open && info.is_closed_by_client);
    CHECK_EQ(info.request_count, 3);
    CHECK_OK(lab_server_close(server, 1, LAB_CLOSE_FIN, &err));
    CHECK_OK(lab_server_connection(server, 1, &info, &err));
    CHECK(!info.is_open && !info.is_closed_by_client);
    CHECK_EQ(lab_server_connection(server, 3, &info, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "no connection number 3");
    CHECK_EQ(lab_server_connection(server, 0, &info, &err), IL_EINVAL);
    raw_close(first);
    raw_server_stop(server);
}

/* ---- waiting ---- */

static bool never_true(const struct lab_server_counters *counters, void *arg)
{
    return false;
}

TEST(wait_ends_at_its_deadline)
{
    struct lab_server *server = raw_server_start(NULL);
    uint64_t deadline_ns = lab_in_ms(30);

    CHECK(!lab_server_wait(server, never_true, NULL, deadline_ns));
    CHECK(lab_in_ms(0) >= deadline_ns);
    CHECK(!lab_server_wait_held(server, "nobody", 1, lab_in_ms(0)));
    CHECK(lab_server_wait_open(server, 0, lab_in_ms(0))); /* true already: no waiting */
    raw_server_stop(server);
}

struct waiter {
    struct lab_server *server;
    bool came_true;
};

static void *waiter_main(void *arg)
{
    struct waiter *waiter = arg;

    waiter->came_true = lab_server_wait_answered(waiter->server, "/hello", 100, LAB_FOREVER);
    return NULL;
}

TEST(several_threads_wait_for_what_a_client_brings_about)
{
    struct lab_server *server = raw_server_start(NULL);
    struct waiter waiters[4];
    pthread_t threads[4];
    struct raw *raw = raw_open(server);

    for (unsigned i = 0; i < 4; i++) {
        waiters[i] = (struct waiter){ .server = server };
        CHECK(pthread_create(&threads[i], NULL, waiter_main, &waiters[i]) == 0);
    }
    for (unsigned i = 0; i < 100; i++) {
        raw_get(raw, "/hello", &answer);
    }
    for (unsigned i = 0; i < 4; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(waiters[i].came_true);
    }
    raw_close(raw);
    raw_server_stop(server);
}

/* ---- closing ---- */

TEST(idle_connections_are_closed_and_busy_ones_left)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *idle[3], *busy = raw_open(server);

    hold(busy, "a");
    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    for (unsigned i = 0; i < 3; i++) {
        idle[i] = open_idle(server);
    }
    CHECK(lab_server_wait_idle(server, 3, raw_soon()));
    CHECK_EQ(lab_server_close_idle(server, LAB_CLOSE_FIN), 3);
    CHECK_EQ(lab_server_close_idle(server, LAB_CLOSE_FIN), 0);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(raw_read_to_end(idle[i]), RAW_FIN);
        raw_close(idle[i]);
    }
    CHECK_EQ(lab_server_release(server, "a", 1), IL_OK);
    raw_read_answer(busy, false, &answer);
    CHECK_EQ(answer.status, 200);
    raw_close(busy);
    raw_server_stop(server);
}

TEST(idle_connections_are_reset_or_half_closed_as_asked)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = open_idle(server);

    CHECK_EQ(lab_server_close_idle(server, LAB_CLOSE_RST), 1);
    CHECK_EQ(raw_read_to_end(raw), RAW_RST);
    raw_close(raw);
    raw = open_idle(server);
    CHECK_EQ(lab_server_close_idle(server, LAB_CLOSE_HALF), 1);
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    CHECK_EQ(counters_of(server).open_count, 1);
    raw_send(raw, "GET /hello HTTP/1.1\r\n\r\n"); /* is read, and cannot be answered */
    CHECK(lab_server_wait_open(server, 0, raw_soon()));
    CHECK_EQ(counters_of(server).request_count, 3);
    CHECK_EQ(counters_of(server).dropped_count, 1);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(one_connection_is_half_closed_by_number_and_still_read)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = open_idle(server);

    CHECK_OK(lab_server_close(server, 1, LAB_CLOSE_HALF, &err));
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    CHECK_EQ(lab_server_write(server, 1, "too late", 8, &err), IL_ESYS);
    CHECK_CONTAINS(err.message, "Broken pipe");
    raw_send(raw, "GET /never HTTP/1.1\r\n\r\n");
    CHECK(lab_server_wait_requests(server, "/never", 1, raw_soon()));
    CHECK_EQ(counters_of(server).open_count, 1);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(one_connection_is_closed_by_number_in_the_middle_of_a_request)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *first = open_idle(server), *second = raw_open(server);

    hold(second, "a");
    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    CHECK_OK(lab_server_close(server, 2, LAB_CLOSE_RST, &err));
    CHECK_EQ(raw_read_to_end(second), RAW_RST);
    CHECK_EQ(lab_server_held(server, "a"), 0);
    CHECK_EQ(counters_of(server).dropped_count, 1);
    CHECK_EQ(lab_server_close(server, 2, LAB_CLOSE_FIN, &err), IL_EINVAL);
    CHECK_STR(err.message, "connection 2 is not open");
    raw_get(first, "/hello", &answer);
    CHECK_EQ(answer.status, 200);
    raw_close(first);
    raw_close(second);
    raw_server_stop(server);
}

TEST(bytes_nobody_asked_for_are_written_at_once)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = open_idle(server);

    CHECK_OK(lab_server_write(server, 1, "surprise", 8, &err));
    CHECK(!raw_is_quiet(raw));
    raw_read_until(raw, "surprise");
    CHECK_EQ(lab_server_write(server, 7, "surprise", 8, &err), IL_EINVAL);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(write_waits_for_no_answer_that_is_being_sent)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    raw_send(raw, "GET /bytes/1000000000 HTTP/1.1\r\n\r\n");
    raw_read_until(raw, "\r\n\r\n");
    CHECK_EQ(lab_server_write(server, 1, "surprise", 8, &err), IL_EAGAIN);
    CHECK_CONTAINS(err.message, "connection 1 ");
    raw_close(raw);
    raw_server_stop(server);
}

TEST(write_says_when_the_socket_is_full)
{
    struct lab_server_options options = { .send_buffer_bytes = 4096 };
    struct lab_server *server = raw_server_start(&options);
    struct raw *raw = open_idle(server);
    size_t size = 32 << 20;
    char *bytes = calloc(1, size);

    CHECK(bytes != NULL);
    CHECK_EQ(lab_server_write(server, 1, bytes, size, &err), IL_EAGAIN);
    CHECK_CONTAINS(err.message, "of 33554432 bytes");
    free(bytes);
    raw_close(raw);
    raw_server_stop(server);
}

/* ---- accepting ---- */

TEST(connects_stall_while_accepting_is_stopped_and_succeed_after)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *before = open_idle(server), *stalled[4];

    CHECK_OK(lab_server_accept_stop(server, &err));
    for (unsigned i = 0; i < 4; i++) {
        stalled[i] = raw_open_stalling(server);
    }
    raw_get(before, "/hello", &answer); /* who is connected is served */
    CHECK_EQ(answer.status, 200);
    CHECK_OK(lab_server_accept_stop(server, &err)); /* again: nothing */
    for (unsigned i = 0; i < 4; i++) {
        CHECK(!raw_is_connected(stalled[i]));
    }
    CHECK_EQ(counters_of(server).accepted_count, 1);
    lab_server_accept_resume(server);
    lab_server_accept_resume(server); /* again: nothing */
    for (unsigned i = 0; i < 4; i++) {
        raw_wait_connected(stalled[i]);
        raw_get(stalled[i], "/hello", &answer);
        CHECK_EQ(answer.status, 200);
        raw_close(stalled[i]);
    }
    CHECK_EQ(counters_of(server).accepted_count, 5); /* what filled the backlog is not counted */
    raw_close(before);
    raw_server_stop(server);
}

TEST(accepting_stops_and_resumes_many_times)
{
    struct lab_server *server = raw_server_start(NULL);

    for (unsigned i = 1; i <= 20; i++) {
        struct raw *raw;

        CHECK_OK(lab_server_accept_stop(server, &err));
        lab_server_accept_resume(server);
        raw = open_idle(server);
        CHECK_EQ(counters_of(server).accepted_count, i);
        raw_close(raw);
    }
    raw_server_stop(server);
}

TEST(server_stops_while_connects_stall)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw;

    CHECK_OK(lab_server_accept_stop(server, &err));
    raw = raw_open_stalling(server);
    CHECK(!raw_is_connected(raw));
    raw_close(raw);
    raw_server_stop(server);
}

/* ---- the end ---- */

TEST(nothing_is_left_of_connections_in_any_state)
{
    struct lab_server_options options = { .answering_max = 6, .send_buffer_bytes = 4096 };
    struct lab_server *server;
    struct raw_census before;
    static const char *const requests[] = {
        "GET /hold/a HTTP/1.1\r\n\r\n",
        "GET /never HTTP/1.1\r\n\r\n",
        "GET /delay/86400000 HTTP/1.1\r\n\r\n",
        "GET /bytes/1000000000 HTTP/1.1\r\n\r\n",
        "POST /slow-read HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
        "GET /drip?bytes=100&every_ms=86400000 HTTP/1.1\r\n\r\n",
        "GET /never?n=queued HTTP/1.1\r\n\r\n",
        "GET /half-a-request",
        "POST /echo HTTP/1.1\r\nContent-Length: 100000\r\n\r\npart of it",
        "not a request\r\n\r\n",
        "",
    };
    struct raw *raws[il_array_count(requests)];
    struct lab_server_counters c;

    raw_census(&before);
    CHECK_OK(lab_server_start(&options, &server, &err));
    for (size_t i = 0; i < il_array_count(requests); i++) {
        raws[i] = raw_open(server);
        raw_send(raws[i], requests[i]);
        CHECK(lab_server_wait_open(server, i + 1, raw_soon()));
        if (i < 7) { /* one after the other, so that the right one queues */
            CHECK(lab_server_wait_requests(server, NULL, i + 1, raw_soon()));
        }
    }
    raw_read_until(raws[9], "400 Bad Request");
    CHECK(lab_server_wait_requests(server, "/echo", 1, raw_soon()));
    c = counters_of(server);
    CHECK_EQ(c.queued_count, 1);
    CHECK_EQ(c.answering_count, 7);
    CHECK_EQ(c.lingering_count, 1);
    lab_server_stop(server);
    for (size_t i = 0; i < il_array_count(requests); i++) {
        raw_close(raws[i]);
    }
    raw_check_nothing_left(&before);
}

TEST(start_fails_cleanly_at_each_allocation)
{
    struct raw_census before;
    struct lab_server *server;

    raw_census(&before);
    for (uint64_t after = 0;; after++) {
        enum il_code code;

        il_memory_fail_after(after);
        code = lab_server_start(NULL, &server, &err);
        il_memory_fail_after(UINT64_MAX);
        if (code == IL_OK) {
            CHECK(after > 3);
            break;
        }
        CHECK_EQ(code, IL_ENOMEM);
        raw_check_nothing_left(&before);
    }
    lab_server_stop(server);
    raw_check_nothing_left(&before);
}

/* Leave this process room for `count` more descriptors. */
static void allow_fds(size_t count)
{
    struct rlimit limit;
    int fds[128];

    CHECK(count < il_array_count(fds));
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (size_t i = 0; i <= count; i++) { /* the last one is the first that is too many */
        fds[i] = dup(0);
        CHECK(fds[i] >= 0);
    }
    for (size_t i = 0; i <= count; i++) {
        CHECK(close(fds[i]) == 0);
    }
    limit.rlim_cur = (rlim_t)fds[count];
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

TEST(start_fails_cleanly_at_each_descriptor)
{
    struct raw_census before;
    struct lab_server *server;

    raw_census(&before);
    for (size_t count = 0; count < 3; count++) { /* to listen on, epoll, wake-up */
        allow_fds(count);
        CHECK_EQ(lab_server_start(NULL, &server, &err), IL_ESYS);
        CHECK_EQ(err.sys_errno, EMFILE);
        allow_fds(100);
        raw_check_nothing_left(&before);
    }
    allow_fds(3);
    CHECK_OK(lab_server_start(NULL, &server, &err));
    allow_fds(100);
    lab_server_stop(server);
    raw_check_nothing_left(&before);
}

TEST(server_without_descriptors_serves_when_there_are_some_again)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw;

    allow_fds(1); /* enough for the client, and that was it */
    raw = raw_open(server);
    CHECK_EQ(counters_of(server).accepted_count, 0);
    allow_fds(100);
    raw_get(raw, "/hello", &answer);
    CHECK_EQ(answer.status, 200);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(accepting_goes_on_if_it_cannot_be_stopped)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw;

    allow_fds(1); /* two are needed to fill the backlog */
    CHECK_EQ(lab_server_accept_stop(server, &err), IL_ESYS);
    CHECK_CONTAINS(err.message, "create a socket to fill the backlog: Too many open files");
    allow_fds(100);
    raw = open_idle(server);
    CHECK_EQ(counters_of(server).accepted_count, 1);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(server_lives_through_want_of_memory)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = open_idle(server), *refused;

    il_memory_fail_after(0);
    raw_get(raw, "/hello", &answer); /* what needs none goes on */
    CHECK_EQ(answer.status, 200);
    refused = raw_open_stalling(server);
    CHECK(raw_read_to_end(refused) != RAW_OPEN);
    raw_close(refused);
    raw_get(raw, "/hold/a", &answer);
    CHECK_EQ(answer.status, 503);
    CHECK_EQ(lab_server_release(server, "a", 1), IL_ENOMEM);
    il_memory_fail_after(UINT64_MAX);
    raw_close(raw);
    raw = raw_open(server);
    raw_get(raw, "/hello", &answer);
    CHECK_EQ(answer.status, 200);
    il_memory_fail_after(0);
    raw_get(raw, "/echo", &answer);
    CHECK_EQ(answer.status, 500);
    il_memory_fail_after(UINT64_MAX);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(keep_alive_request_allocates_nothing)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = open_idle(server);
    struct il_memory_use before, after;

    il_memory_use(&before);
    for (unsigned i = 0; i < 1000; i++) {
        raw_get(raw, "/id/token-of-this-request", &answer);
    }
    il_memory_use(&after);
    CHECK_EQ(after.allocation_count, before.allocation_count);
    raw_close(raw);
    raw_server_stop(server);
}
