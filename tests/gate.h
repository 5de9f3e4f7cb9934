/* gate.h: what stands between a client and its server in tests of how connections are opened: a DNS
 * server and a TCP relay, each on a thread of its own, that let nothing through until they are
 * told.
 *
 * The relay listens from the start, so that a client can connect; what it says goes no further
 * while the gate is shut, so that its TLS handshake waits. A relay that is *full* does not even
 * complete connects. Every function may be called by any thread but theirs. */
#ifndef TESTS_GATE_H
#define TESTS_GATE_H

#include <poll.h>
#include <pthread.h>

#include "tests/dns_server.h"

#define GATE_PAIRS_MAX 32

struct gate {
    uint16_t port; /* where the relay listens */
    uint16_t server_port;
    _Atomic bool is_open, must_stop;
    _Atomic unsigned used_count; /* connections on which a client has said something */

    int listener;
    int fillers[4]; /* -1: not full */
    struct gate_pair {
        int client, server; /* -1: none */
        bool is_used;
    } pairs[GATE_PAIRS_MAX];
    pthread_t thread;
};

struct names {
    const struct server_rule *rules;
    size_t rule_count;
    _Atomic bool is_open, is_ready, must_stop;
    _Atomic size_t held_count, asked_count;
    pthread_t thread;
};

/* ---- the relay ---- */

static inline void gate_pair_close(struct gate_pair *pair)
{
    close(pair->client);
    close(pair->server);
    *pair = (struct gate_pair){ .client = -1, .server = -1 };
}

static inline void gate_accept(struct gate *gate)
{
    struct net_address to = address_for_test("127.0.0.1", gate->server_port);
    struct gate_pair *pair = gate->pairs;

    while (pair->client >= 0) {
        pair++;
        CHECK(pair < gate->pairs + GATE_PAIRS_MAX);
    }
    pair->client = accept4(gate->listener, NULL, NULL, SOCK_CLOEXEC);
    CHECK(pair->client >= 0);
    pair->server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(pair->server, &to.any, net_address_size(&to)) == 0);
}

/* Pass on what there is; false at the end. */
static inline bool gate_pass(int from, int to)
{
    char bytes[16384];
    ssize_t got = recv(from, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (got < 0) {
        return errno == EAGAIN;
    }
    return got > 0 && send(to, bytes, (size_t)got, MSG_NOSIGNAL) == got;
}

static inline void gate_relay(struct gate *gate, struct gate_pair *pair)
{
    char byte;

    if (!pair->is_used && recv(pair->client, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 1) {
        pair->is_used = true;
        atomic_fetch_add(&gate->used_count, 1);
    }
    if (!gate_pass(pair->client, pair->server) || !gate_pass(pair->server, pair->client)) {
        gate_pair_close(pair);
    }
}

static inline void *gate_run(void *arg)
{
    struct gate *gate = arg;

    while (!gate->must_stop) {
        struct pollfd polled[1 + 2 * GATE_PAIRS_MAX];
        nfds_t count = 0;

        polled[count++] = (struct pollfd){ gate->is_open ? gate->listener : -1, POLLIN, 0 };
        for (int i = 0; i < GATE_PAIRS_MAX; i++) {
            polled[count++] = (struct pollfd){ gate->pairs[i].client, POLLIN, 0 };
            polled[count++] = (struct pollfd){ gate->pairs[i].server, POLLIN, 0 };
        }
        CHECK(poll(polled, count, 1) >= 0);
        if (polled[0].revents != 0) {
            gate_accept(gate);
        }
        for (int i = 0; i < GATE_PAIRS_MAX; i++) {
            if (gate->pairs[i].client >= 0) {
                gate_relay(gate, &gate->pairs[i]);
            }
        }
    }
    return NULL;
}

static inline void gate_start(struct gate *gate, uint16_t server_port, bool is_full)
{
    *gate = (struct gate){ .server_port = server_port };
    for (int i = 0; i < GATE_PAIRS_MAX; i++) {
        gate->pairs[i] = (struct gate_pair){ .client = -1, .server = -1 };
    }
    gate->listener = listen_for_test("127.0.0.1", 0, is_full ? 0 : 100);
    gate->port = port_of_socket(gate->listener);
    for (size_t i = 0; i < il_array_count(gate->fillers); i++) {
        struct net_address address = address_for_test("127.0.0.1", gate->port);

        gate->fillers[i] = is_full ? sys_socket_open(AF_INET) : -1;
        if (is_full) {
            CHECK(gate->fillers[i] >= 0);
            (void)sys_socket_connect(gate->fillers[i], &address.any, net_address_size(&address));
        }
    }
    CHECK(pthread_create(&gate->thread, NULL, gate_run, gate) == 0);
}

static inline void gate_open(struct gate *gate)
{
    for (size_t i = 0; i < il_array_count(gate->fillers); i++) {
        if (gate->fillers[i] >= 0) {
            close(gate->fillers[i]);
            gate->fillers[i] = -1;
        }
    }
    gate->is_open = true;
}

static inline void gate_stop(struct gate *gate)
{
    gate_open(gate); /* closes the fillers */
    gate->must_stop = true;
    CHECK(pthread_join(gate->thread, NULL) == 0);
    for (int i = 0; i < GATE_PAIRS_MAX; i++) {
        if (gate->pairs[i].client >= 0) {
            gate_pair_close(&gate->pairs[i]);
        }
    }
    close(gate->listener);
}

/* ---- the names ---- */

static inline void *names_run(void *arg)
{
    struct names *names = arg;
    struct il_loop *loop = loop_open_for_test();
    struct dns_server server;

    dns_server_open(&server, loop, names->rules, names->rule_count);
    names->is_ready = true;
    while (!names->must_stop) {
        CHECK_EQ(loop_turn(loop, sys_now_ns() + LOOP_NS_PER_MS), LOOP_HELD);
        if (names->is_open) {
            server_release(&server, DNS_AAAA);
            server_release(&server, DNS_A);
        }
        names->held_count = server.held_count;
        names->asked_count = server.question_counts[DNS_AAAA] + server.question_counts[DNS_A];
    }
    dns_server_close(&server);
    loop_close_for_test(loop);
    return NULL;
}

/* From here on the process's names come from these rules. */
static inline void names_start(struct names *names, const struct server_rule *rules,
                               size_t rule_count)
{
    *names = (struct names){ .rules = rules, .rule_count = rule_count };
    CHECK(pthread_create(&names->thread, NULL, names_run, names) == 0);
    while (!names->is_ready) {
        (void)poll(NULL, 0, 1);
    }
}

static inline void names_stop(struct names *names)
{
    names->must_stop = true;
    CHECK(pthread_join(names->thread, NULL) == 0);
}

#endif
