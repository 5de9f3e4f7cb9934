/* server_limits_test.c: the lab server's options and limits, and requests that come in pieces, in
 * packs, in thousands, or are none. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/base.h"
#include "lab/raw_client.h"
#include "tests/check.h"

static struct raw_answer answer;
static struct il_error err;

/* ---- options ---- */

TEST(last_request_allowed_on_a_connection_says_close)
{
    struct lab_server_options options = { .requests_per_connection_max = 3 };
    struct lab_server *server = raw_server_start(&options);
    struct raw *raw = raw_open(server);
    char value[32];

    raw_get(raw, "/hello", &answer);
    raw_get(raw, "/hello", &answer);
    CHECK(raw_header(&answer, "Connection", value, sizeof(value)) == NULL);
    raw_get(raw, "/hello", &answer);
    CHECK_STR(raw_header(&answer, "Connection", value, sizeof(value)), "close");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(idle_timeout_closes_idle_connections_only)
{
    struct lab_server_options options = { .idle_timeout_ms = 20 };
    struct lab_server *server = raw_server_start(&options);
    struct raw *fresh = raw_open(server), *used = raw_open(server), *busy = raw_open(server);

    raw_send(busy, "GET /hold/a HTTP/1.1\r\n\r\n");
    CHECK(lab_server_wait_held(server, "a", 1, raw_soon()));
    raw_get(used, "/unasked?after_hold=b", &answer); /* idle, though something is to come */
    CHECK(lab_server_wait_held(server, "b", 1, raw_soon()));
    CHECK_EQ(raw_read_to_end(fresh), RAW_FIN);
    CHECK_EQ(raw_read_to_end(used), RAW_FIN);
    CHECK(lab_server_wait_open(server, 1, raw_soon()));
    CHECK_EQ(lab_server_held(server, "b"), 0);
    CHECK_EQ(lab_server_held(server, "a"), 1);
    raw_close(fresh);
    raw_close(used);
    raw_close(busy);
    raw_server_stop(server);
}

TEST(connections_above_the_limit_wait_in_the_backlog)
{
    struct lab_server_options options = { .connections_max = 1 };
    struct lab_server *server = raw_server_start(&options);
    struct raw *first = raw_open(server), *second;
    struct lab_server_counters c;

    raw_get(first, "/hello", &answer);
    second = raw_open(server); /* the kernel does this much */
    raw_send(second, "GET /hello HTTP/1.1\r\n\r\n");
    raw_get(first, "/hello", &answer);
    lab_server_counters(server, &c);
    CHECK_EQ(c.accepted_count, 1);
    CHECK(raw_is_quiet(second));
    raw_close(first);
    raw_read_answer(second, false, &answer);
    CHECK_EQ(raw_header_number(&answer, "X-Connection"), 2);
    raw_close(second);
    raw_server_stop(server);
}

static bool is_queued(const struct lab_server_counters *counters, void *arg)
{
    return counters->queued_count == *(const uint64_t *)arg;
}

TEST(requests_above_the_limit_queue_and_are_answered_in_order)
{
    struct lab_server_options options = { .answering_max = 2 };
    struct lab_server *server = raw_server_start(&options);
    struct raw *raws[6];
    uint64_t queued = 0;

    for (unsigned i = 0; i < 6; i++) {
        raws[i] = raw_open(server);
        raw_send(raws[i], "GET /hold/a HTTP/1.1\r\n\r\n");
        queued = i < 2 ? 0 : i - 1;
        CHECK(lab_server_wait_requests(server, "/hold", i + 1, raw_soon()));
        CHECK(lab_server_wait(server, is_queued, &queued, raw_soon()));
    }
    CHECK_EQ(lab_server_held(server, "a"), 2);
    raw_close(raws[2]); /* who leaves the queue takes no place */
    queued = 3;
    CHECK(lab_server_wait(server, is_queued, &queued, raw_soon()));
    CHECK_EQ(lab_server_release(server, "a", 1), IL_OK);
    raw_read_answer(raws[0], false, &answer);
    CHECK_EQ(lab_server_held(server, "a"), 2);
    CHECK_OK(lab_server_close(server, 2, LAB_CLOSE_FIN, &err)); /* who is closed gives his back */
    queued = 1;
    CHECK(lab_server_wait(server, is_queued, &queued, raw_soon()));
    CHECK_EQ(lab_server_held(server, "a"), 2);
    CHECK_EQ(lab_server_release(server, "a", LAB_RELEASE_ALL), IL_OK);
    for (unsigned i = 3; i < 6; i++) {
        raw_read_answer(raws[i], false, &answer);
        CHECK_EQ(answer.status, 200);
    }
    for (unsigned i = 0; i < 6; i++) {
        if (i != 2) {
            raw_close(raws[i]);
        }
    }
    raw_server_stop(server);
}

TEST(delay_option_delays_every_answer)
{
    struct lab_server_options options = { .delay_ms = 30 };
    struct lab_server *server = raw_server_start(&options);
    struct raw *raw = raw_open(server);

    for (unsigned i = 0; i < 2; i++) {
        uint64_t earliest_ns = lab_in_ms(30);

        raw_get(raw, "/hello", &answer);
        CHECK(lab_in_ms(0) >= earliest_ns);
    }
    raw_close(raw);
    raw_server_stop(server);
}

TEST(http10_mode_speaks_http10_and_closes_unless_asked_not_to)
{
    struct lab_server_options options = { .is_http10 = true };
    struct lab_server *server = raw_server_start(&options);
    struct raw *raw = raw_open(server);
    char value[32];

    raw_send(raw, "GET /bytes/100?chunked=1 HTTP/1.1\r\nConnection: keep-alive\r\n\r\n");
    raw_read_answer(raw, false, &answer); /* to the end of the connection: it cannot chunk */
    CHECK_CONTAINS(answer.head, "HTTP/1.0 200 OK\r\n");
    CHECK(raw_header(&answer, "Transfer-Encoding", value, sizeof(value)) == NULL);
    CHECK_STR(raw_header(&answer, "Connection", value, sizeof(value)), "close");
    CHECK_EQ(answer.body_size, 100);
    raw_close(raw);
    raw = raw_open(server);
    raw_send(raw, "GET /hello HTTP/1.1\r\nConnection: keep-alive\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_STR(raw_header(&answer, "Connection", value, sizeof(value)), "keep-alive");
    raw_get(raw, "/hello", &answer); /* does not ask */
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(http10_request_is_answered_as_such)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    raw_send(raw, "GET /hello HTTP/1.0\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_CONTAINS(answer.head, "HTTP/1.0 200 OK\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(server_listens_on_ipv6_where_there_is_any)
{
    struct lab_server_options options = { .address = "::1" };
    struct lab_server *server;

    if (lab_server_start(&options, &server, &err) != IL_OK) {
        check_skip("no IPv6 loopback");
    }
    CHECK(lab_server_port(server) != 0);
    CHECK_OK(lab_server_accept_stop(server, &err));
    lab_server_accept_resume(server);
    lab_server_stop(server);
}

/* ---- requests in pieces and packs ---- */

TEST(request_may_come_one_byte_at_a_time)
{
    static const char request[] = "POST /echo HTTP/1.1\r\nA: b\r\nTransfer-Encoding: chunked\r\n"
                                  "\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n";
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    for (const char *at = request; *at != '\0'; at++) {
        raw_send_bytes(raw, at, 1);
    }
    raw_read_answer(raw, false, &answer);
    CHECK_STR(answer.body, "POST /echo HTTP/1.1\nA: b\nTransfer-Encoding: chunked\n"
                           "(trailer) T: u\n\nabcde");
    raw_close(raw);
    raw_server_stop(server);
}

TEST(pipelined_requests_are_answered_in_order)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);
    char requests[64 * 200], *at = requests;

    for (unsigned i = 0; i < 200; i++) { /* every tenth makes the others wait for their turn */
        at += sprintf(at, "GET /id/%u%s HTTP/1.1\r\n\r\n", i, i % 10 == 5 ? "?delay_ms=1" : "");
    }
    raw_send_bytes(raw, requests, (size_t)(at - requests));
    for (unsigned i = 0; i < 200; i++) {
        raw_read_answer(raw, false, &answer);
        CHECK_EQ(raw_header_number(&answer, "X-Token"), i);
        CHECK_EQ(raw_header_number(&answer, "X-Request"), i + 1);
    }
    raw_close(raw);
    raw_server_stop(server);
}

TEST(two_thousand_connections_are_held_and_released_at_once)
{
    enum { COUNT = 2000 };
    static struct raw *raws[COUNT];
    struct lab_server *server;

    raw_need_fds(2 * COUNT + 100);
    server = raw_server_start(NULL);
    for (unsigned i = 0; i < COUNT; i++) {
        raws[i] = raw_open(server);
        raw_send(raws[i], "GET /hold/a HTTP/1.1\r\n\r\n");
    }
    CHECK(lab_server_wait_held(server, "a", COUNT, raw_soon()));
    CHECK_EQ(lab_server_release(server, "a", COUNT), IL_OK);
    for (unsigned i = 0; i < COUNT; i++) {
        raw_read_answer(raws[i], false, &answer);
        CHECK_EQ(answer.status, 200);
        raw_close(raws[i]);
    }
    CHECK(lab_server_wait_open(server, 0, raw_soon()));
    raw_server_stop(server);
}

TEST(many_timers_fire_in_the_order_of_their_times)
{
    enum { COUNT = 300 };
    static struct raw *raws[COUNT];
    struct lab_server *server = raw_server_start(NULL);
    struct lab_server_counters c;

    for (unsigned i = 0; i < COUNT; i++) {
        char request[64];

        raws[i] = raw_open(server);
        (void)snprintf(request, sizeof(request), "GET /delay/%u HTTP/1.1\r\n\r\n",
                       i * 7919 % COUNT < COUNT / 2 ? 1 + i * 7919 % 50 : 3600000);
        raw_send(raws[i], request);
    }
    CHECK(lab_server_wait_answered(server, "/delay", COUNT / 2, raw_soon()));
    CHECK(lab_server_wait_requests(server, "/delay", COUNT, raw_soon()));
    lab_server_counters(server, &c);
    CHECK_EQ(c.answered_count, COUNT / 2);
    CHECK_EQ(c.answering_count, COUNT / 2);
    for (unsigned i = 0; i < COUNT; i++) {
        raw_close(raws[i]);
    }
    CHECK(lab_server_wait_open(server, 0, raw_soon()));
    raw_server_stop(server);
}

TEST(slow_reader_of_much_does_not_stop_the_others)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *slow = raw_open(server), *quick = raw_open(server);

    raw_send(slow, "GET /bytes/1000000000 HTTP/1.1\r\n\r\n");
    raw_read_until(slow, "\r\n\r\n");
    for (unsigned i = 0; i < 100; i++) {
        raw_get(quick, "/hello", &answer);
        CHECK_EQ(answer.status, 200);
    }
    raw_close(slow);
    raw_close(quick);
    raw_server_stop(server);
}

TEST(client_that_shuts_down_its_side_is_answered_what_needs_no_waiting)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);
    struct lab_server_counters c;

    raw_send(raw, "GET /id/1 HTTP/1.1\r\n\r\nGET /id/2 HTTP/1.1\r\n\r\n");
    CHECK(shutdown(raw->fd, SHUT_WR) == 0);
    raw_read_answer(raw, false, &answer);
    raw_read_answer(raw, false, &answer);
    CHECK_STR(answer.body, "2");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    raw_close(raw);
    raw = raw_open(server);
    raw_send(raw, "GET /hold/a HTTP/1.1\r\n\r\n");
    CHECK(shutdown(raw->fd, SHUT_WR) == 0); /* and now it is taken to be gone */
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    lab_server_counters(server, &c);
    CHECK_EQ(c.abandoned_count, 1);
    raw_close(raw);
    raw_server_stop(server);
}

/* ---- many threads ---- */

struct party {
    struct lab_server *server;
    unsigned index;
    _Atomic bool *is_over;
};

static void *party_client(void *arg)
{
    struct party *party = arg;
    struct raw *client = raw_open(party->server);
    struct raw_answer *own = malloc(sizeof(*own));

    CHECK(own != NULL);
    for (unsigned i = 0; i < 300; i++) {
        char target[64];

        (void)snprintf(target, sizeof(target), "/id/%u-%u?delay_ms=%u", party->index, i, i % 2);
        raw_get(client, target, own);
        CHECK(strncmp(own->body, target + 4, own->body_size) == 0);
        CHECK_EQ(raw_header_number(own, "X-Request"), i + 1);
    }
    free(own);
    raw_close(client);
    return NULL;
}

static void *party_controller(void *arg)
{
    struct party *party = arg;
    struct lab_server_counters c;
    struct lab_connection info;
    struct il_error own;

    while (!atomic_load(party->is_over)) {
        lab_server_counters(party->server, &c);
        CHECK(c.request_count >= c.answered_count);
        CHECK_EQ(lab_server_release(party->server, "nobody", 1), IL_OK);
        il_maybe(lab_server_connection(party->server, 1, &info, &own) == IL_OK); /* not yet there */
        CHECK(!lab_server_wait_held(party->server, "nobody", 1, lab_in_ms(1)));
        if (party->index == 0) {
            if (lab_server_accept_stop(party->server, &own) != IL_OK) {
                check_fail(__FILE__, __LINE__, "%s", own.message);
            }
            lab_server_accept_resume(party->server);
        }
    }
    return NULL;
}

TEST(clients_and_controllers_in_many_threads_do_not_disturb_each_other)
{
    enum { CLIENTS = 4, ALL = 7 };
    struct lab_server *server = raw_server_start(NULL);
    _Atomic bool is_over = false;
    struct party parties[ALL];
    pthread_t threads[ALL];
    struct lab_server_counters c;

    for (unsigned i = 0; i < ALL; i++) {
        bool is_client = i < CLIENTS;

        parties[i] = (struct party){ server, is_client ? i : i - CLIENTS, &is_over };
        CHECK(pthread_create(&threads[i], NULL, is_client ? party_client : party_controller,
                             &parties[i]) == 0);
    }
    for (unsigned i = 0; i < ALL; i++) {
        if (i == CLIENTS) {
            atomic_store(&is_over, true);
        }
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(lab_server_wait_open(server, 0, raw_soon()));
    lab_server_counters(server, &c);
    CHECK_EQ(c.accepted_count, CLIENTS);
    CHECK_EQ(c.answered_count, CLIENTS * 300);
    raw_server_stop(server);
}

/* ---- limits ---- */

TEST(target_of_the_largest_size_is_taken_and_one_byte_more_is_not)
{
    static char target[LAB_TARGET_MAX + 2];
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    memset(target, 'x', LAB_TARGET_MAX);
    memcpy(target, "/id/", 4);
    raw_get(raw, target, &answer);
    CHECK_EQ(answer.status, 200);
    CHECK_EQ(answer.body_size, LAB_TARGET_MAX - 4);
    target[LAB_TARGET_MAX] = 'x';
    raw_get(raw, target, &answer);
    CHECK_EQ(answer.status, 414);
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(header_larger_than_the_limit_is_refused)
{
    static char header[LAB_HEADER_MAX];
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    memset(header, 'h', sizeof(header));
    raw_send(raw, "GET /hello HTTP/1.1\r\nA: ");
    raw_send_bytes(raw, header, sizeof(header) - 5); /* with "A", ": " and CR LF the limit */
    raw_send(raw, "\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.status, 200);
    raw_send(raw, "GET /hello HTTP/1.1\r\nA: ");
    raw_send_bytes(raw, header, sizeof(header) - 4);
    raw_send(raw, "\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.status, 431);
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(body_larger_than_echo_keeps_is_refused)
{
    static char part[1 << 16];
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    raw_send(raw, "POST /echo HTTP/1.1\r\nContent-Length: 67108865\r\n\r\n");
    for (size_t sent = 0; sent < LAB_ECHO_MAX; sent += sizeof(part)) {
        raw_send_bytes(raw, part, sizeof(part));
    }
    raw_send(raw, "!");
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.status, 413);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(gate_names_have_a_limit)
{
    char name[LAB_GATE_NAME_MAX + 2] = "";
    char target[LAB_GATE_NAME_MAX + 16];
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    memset(name, 'a', LAB_GATE_NAME_MAX);
    CHECK_EQ(lab_server_release(server, name, 1), IL_OK);
    (void)snprintf(target, sizeof(target), "/hold/%s", name);
    raw_get(raw, target, &answer);
    CHECK_EQ(answer.status, 200);
    name[LAB_GATE_NAME_MAX] = 'a';
    CHECK_EQ(lab_server_release(server, name, 1), IL_EINVAL);
    CHECK_EQ(lab_server_release(server, "", 1), IL_EINVAL);
    (void)snprintf(target, sizeof(target), "/hold/%s", name);
    raw_get(raw, target, &answer);
    CHECK_EQ(answer.status, 400);
    CHECK_CONTAINS(answer.body, "a NAME has 1 to 64 bytes");
    raw_close(raw);
    raw_server_stop(server);
}

TEST(more_gates_than_the_limit_are_refused)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);
    char name[32];

    for (unsigned i = 0; i < LAB_GATE_MAX; i++) {
        (void)snprintf(name, sizeof(name), "%u", i);
        CHECK_EQ(lab_server_release(server, name, 1), IL_OK);
    }
    CHECK_EQ(lab_server_release(server, "one too many", 1), IL_ELIMIT);
    CHECK_EQ(lab_server_release(server, "0", 1), IL_OK);
    raw_get(raw, "/hold/one-too-many", &answer);
    CHECK_EQ(answer.status, 503);
    raw_close(raw);
    raw_server_stop(server);
}

TEST_WITH_TIMEOUT(connections_closed_long_ago_are_forgotten, 120)
{
    struct lab_server *server = raw_server_start(NULL);
    struct lab_connection info;

    for (unsigned i = 1; i <= LAB_CONNECTION_RECORDS + 1; i++) {
        raw_reset(raw_open(server));
        if (i % 1000 == 0 || i > LAB_CONNECTION_RECORDS) { /* the backlog is not endless */
            CHECK(lab_server_wait_open(server, 0, raw_soon()));
        }
    }
    CHECK_EQ(lab_server_connection(server, 1, &info, &err), IL_EINVAL);
    CHECK_OK(lab_server_connection(server, 2, &info, &err));
    CHECK_OK(lab_server_connection(server, LAB_CONNECTION_RECORDS + 1, &info, &err));
    raw_server_stop(server);
}

/* ---- requests that are none ---- */

TEST(what_is_no_request_is_answered_by_400_and_closed)
{
    static const char *const bad[] = {
        "\x16\x03\x01\x02\x01\x01\r\n\r\n", /* TLS */
        "GET\r\n\r\n",
        "GET /hello HTTP/9.9\r\n\r\n",
        "GET /hello HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /hello HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "POST /sink HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "POST /sink HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    };
    struct lab_server *server = raw_server_start(NULL);

    for (size_t i = 0; i < il_array_count(bad); i++) {
        struct raw *raw = raw_open(server);
        struct lab_server_counters c;

        raw_get(raw, "/hello", &answer); /* the server must be in step on a used connection too */
        raw_send(raw, bad[i]);
        raw_read_answer(raw, false, &answer);
        CHECK_EQ(answer.status, 400);
        CHECK_CONTAINS(answer.body, "not a valid request: ");
        CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
        raw_close(raw);
        CHECK(lab_server_wait_open(server, 0, raw_soon()));
        lab_server_counters(server, &c);
        CHECK_EQ(c.bad_count, i + 1);
        CHECK_EQ(c.request_count, c.answered_count);
    }
    raw_server_stop(server);
}

TEST(client_that_does_not_close_after_its_bad_request_is_closed)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    raw_send(raw, "bad\r\n\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    raw_send(raw, "and more of it"); /* is read and ignored */
    CHECK(lab_server_wait_open(server, 0, raw_soon()));
    raw_close(raw);
    raw_server_stop(server);
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

TEST(damaged_requests_do_no_harm)
{
    static const char *const seeds[] = {
        "GET /bytes/100?seed=7&chunked=1&pause_hold=a&cut_at=50 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /echo?x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n",
        "GET http://host/raw/%41%zz%?keep=1 HTTP/1.1\r\n\r\nGET /id/%00 HTTP/1.1\r\n\r\n",
        "POST /early?close=1 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n123",
        "GET /redirect/7?to=%2F&status=301&n=1&&=&slice=1 HTTP/1.0\r\nConnection: x\r\n\r\n",
        "GET /unasked?after_hold=b&bytes=9&delay_ms=0 HTTP/1.1\r\n\r\nGET /1xx/3 HTTP/1.1\r\n\r\n",
    };
    struct lab_server *server = raw_server_start(NULL);
    uint64_t state = 88172645463325252u;
    struct raw *raw;

    for (unsigned i = 0; i < 3000; i++) {
        char request[256];
        size_t size = strlen(seeds[i % il_array_count(seeds)]);

        memcpy(request, seeds[i % il_array_count(seeds)], size);
        for (uint64_t left = random_next(&state) % 4; left > 0; left--) {
            request[random_next(&state) % size] = (char)random_next(&state);
        }
        raw = raw_open(server);
        raw_send_bytes(raw, request, size - (i % 5 == 0 ? random_next(&state) % size : 0));
        if (i % 2 == 0) {
            raw_reset(raw);
        } else {
            raw_close(raw);
        }
    }
    CHECK(lab_server_wait_open(server, 0, raw_soon()));
    raw = raw_open(server);
    raw_get(raw, "/hello", &answer);
    CHECK_EQ(answer.status, 200);
    raw_close(raw);
    raw_server_stop(server);
}

TEST(misspelt_parameter_is_refused_with_the_ones_there_are)
{
    static const struct {
        const char *target;
        const char *says;
    } cases[] = {
        { "/bytes/10?chunk_size=4", "/bytes/N knows no parameter 'chunk_size'; it knows: n " },
        { "/bytes/10?seed=x", "parameter seed is 'x', want a number from 0 to" },
        { "/bytes/10?seed=99999999999999999999", "parameter seed is" },
        { "/bytes/10?chunked=2", "parameter chunked is '2', want a number from 0 to 1" },
        { "/bytes/ten", "'ten' in /bytes/N is no number" },
        { "/bytes", "'' in /bytes/N is no number" },
        { "/status/99", "'99' in /status/CODE is no number from 100 to 999" },
        { "/hello?delay_ms=", "parameter delay_ms is ''" },
        { "/hold/", "a NAME has 1 to 64 bytes, this one has 0" },
        { "/bad-chunk?kind=purple", "/bad-chunk has no kind 'purple'" },
        { "/early?status=x", "parameter status is 'x'" },
        { "/bytes/1?chunked=1&chunk=8193",
          "parameter chunk is '8193', want a number from 0 to 8192" },
        { "/delay/86400001", "'86400001' in /delay/MS is no number from 0 to 86400000" },
        { "/bytes/1099511627777", "is no number from 0 to 1099511627776" },
    };
    struct lab_server *server = raw_server_start(NULL);

    for (size_t i = 0; i < il_array_count(cases); i++) {
        struct raw *raw = raw_open(server);

        raw_get(raw, cases[i].target, &answer);
        CHECK_EQ(answer.status, 400);
        CHECK_CONTAINS(answer.body, cases[i].says);
        CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
        raw_close(raw);
    }
    raw_server_stop(server);
}

TEST(refused_request_that_expects_100_is_refused_before_its_body)
{
    struct lab_server *server = raw_server_start(NULL);
    struct raw *raw = raw_open(server);

    raw_send(raw, "POST /sink?wrong=1 HTTP/1.1\r\nContent-Length: 5\r\n"
                  "Expect: 100-continue\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK_EQ(answer.status, 400);
    CHECK_EQ(answer.informational_count, 0);
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    raw_close(raw);
    raw_server_stop(server);
}
