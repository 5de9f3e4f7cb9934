/* tls_test.c: the simulated TLS: what a stream's user sees of it. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "net/tls_inside.h"
#include "sim/sim.h"
#include "sim/tls.h"
#include "tests/check.h"

#define SEED_COUNT 300
#define BODY_SIZE  40000
#define WAIT_NS    (5000 * SIM_NS_PER_MS)

/* ---- a service that sends back what it gets ---- */

static struct far {
    struct sim_service service;
    struct sim_tls_server server;
    struct sim_link *link;
    struct sim_tls *tls;
    bool is_ready;
    char wrong[80];
    uint16_t port;
} far;

static void far_on_ready(void *arg)
{
    (void)arg;
    far.is_ready = true;
}

static void far_on_bytes(void *arg, const char *bytes, size_t size)
{
    sim_tls_send(sim_link_context(arg), bytes, size);
}

static void far_on_end(void *arg)
{
    sim_tls_close(sim_link_context(arg));
    sim_link_close(arg);
}

static void far_on_wrong(void *arg, const char *what)
{
    (void)arg;
    (void)snprintf(far.wrong, sizeof(far.wrong), "%s", what);
}

static const struct sim_tls_events far_events = { far_on_ready, far_on_bytes, far_on_end,
                                                  far_on_wrong };

static void link_on_open(struct sim_service *service, struct sim_link *link)
{
    (void)service;
    far.link = link;
    far.tls = sim_tls_new(&far.server, link, &far_events, link);
    sim_link_set_context(link, far.tls);
}

static void link_on_bytes(struct sim_link *link, const char *bytes, size_t size)
{
    sim_tls_feed(sim_link_context(link), bytes, size);
}

static void link_on_end(struct sim_link *link)
{
    far_on_end(link);
}

static void link_on_closed(struct sim_link *link)
{
    sim_tls_stop(sim_link_context(link));
    sim_tls_free(sim_link_context(link));
}

static void far_listen(enum sim_tls_version version, enum sim_tls_choice choice)
{
    memset(&far, 0, sizeof(far));
    far.service = (struct sim_service){ link_on_open, link_on_bytes, link_on_end, link_on_closed };
    far.server = (struct sim_tls_server){ .is_drawn = true, .version = version, .choice = choice };
    far.port = sim_listen(&far.service);
}

/* ---- a client ---- */

static struct il_tls *settings;
static int poller = -1;

static void client_await(const struct stream *stream)
{
    struct epoll_event event;

    (void)stream;
    CHECK_EQ(sys_poller_wait(poller, &event, 1, WAIT_NS), 1);
}

static enum il_code client_open(struct stream *stream, const char *host, struct il_error *err)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                   .sin_port = htons(far.port) };
    struct tls_peer peer = { .host = host,
                             .port = far.port,
                             .alpn = TLS_ALPN_HTTP_2 TLS_ALPN_HTTP_1 };
    int fd = sys_socket_open(AF_INET);
    enum il_code code;

    CHECK(fd >= 0);
    poller = sys_poller_open();
    CHECK_EQ(sys_poller_add(poller, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, NULL), 0);
    CHECK_EQ(sys_socket_connect(fd, (struct sockaddr *)&address, sizeof(address)), -EINPROGRESS);
    stream_init_plain(stream, fd);
    client_await(stream);
    CHECK_EQ(sys_socket_error(fd), 0);
    CHECK_EQ(tls_attach(settings, &peer, stream, err), IL_OK);
    while ((code = stream_handshake(stream, err)) == IL_EAGAIN) {
        client_await(stream);
    }
    return code;
}

static void client_close(struct stream *stream)
{
    (void)sys_poller_remove(poller, stream->fd);
    stream_close(stream);
    sys_close(poller);
}

/* Until something comes, or the end. */
static ssize_t client_receive(struct stream *stream, char *bytes, size_t size)
{
    ssize_t got;

    while ((got = stream_receive(stream, bytes, size)) == -EAGAIN) {
        client_await(stream);
    }
    return got;
}

static unsigned blocked_count; /* sends */

/* Send all, as HTTP/1.1 does, and read meanwhile: either may have to wait for the other. */
static void client_echo(struct stream *stream, const char *bytes, size_t size)
{
    size_t sent = 0, received = 0;
    char piece[3000];

    while (received < size) {
        struct iovec parts[2] = { { (void *)(bytes + sent), (size - sent) / 2 },
                                  { (void *)(bytes + sent + (size - sent) / 2),
                                    size - sent - (size - sent) / 2 } };
        ssize_t put = -EAGAIN, got;

        while (sent < size && (put = stream_send(stream, parts, 2)) > 0) {
            sent += (size_t)put;
            parts[0] = (struct iovec){ (void *)(bytes + sent), size - sent };
            parts[1].iov_len = 0;
        }
        CHECK_EQ(put, sent < size ? -EAGAIN : put);
        blocked_count += sent < size;
        while ((got = stream_receive(stream, piece, sizeof(piece))) > 0) {
            CHECK(memcmp(piece, bytes + received, (size_t)got) == 0);
            received += (size_t)got;
        }
        CHECK_EQ(got, -EAGAIN);
        if (received < size) {
            client_await(stream);
        }
    }
}

/* ---- playing ---- */

static struct sim_report report;

static void play(uint64_t seed, uint32_t faults, bool is_verifying, void (*run)(void *arg))
{
    struct sim_options options = { .seed = seed, .faults = faults };
    struct il_tls_options tls_options = IL_TLS_OPTIONS_INIT;
    struct il_error err;

    tls_options.insecure_no_verification = !is_verifying;
    CHECK_EQ(il_tls_new(&tls_options, &settings, &err), IL_OK);
    sim_run(&options, run, NULL, &report);
    CHECK_STR(report.detail, "");
    CHECK_EQ(report.end, SIM_DONE);
    CHECK_STR(far.wrong, "");
    settings = il_tls_unref(settings);
}

static void far_stop(void)
{
    sim_listen_stop(far.port);
}

static char body[BODY_SIZE];

static void body_fill(void)
{
    for (size_t i = 0; i < sizeof(body); i++) {
        body[i] = (char)(i * 7 + i / 251);
    }
}

static void echo_over(enum sim_tls_version version, enum sim_tls_choice choice,
                      const char *protocol)
{
    struct stream stream;
    struct il_error err;

    far_listen(version, choice);
    CHECK_EQ(client_open(&stream, "one.example", &err), IL_OK);
    CHECK_STR(tls_protocol(&stream), protocol);
    client_echo(&stream, body, sizeof(body));
    client_close(&stream);
    far_stop();
}

static void echo_1_3(void *arg)
{
    (void)arg;
    echo_over(SIM_TLS_1_3, SIM_TLS_CHOOSES_H2, "h2");
}

static void echo_1_2(void *arg)
{
    (void)arg;
    echo_over(SIM_TLS_1_2, SIM_TLS_CHOOSES_HTTP_1, "http/1.1");
}

TEST(bytes_come_through_whatever_delays_records_and_however_they_are_cut)
{
    uint64_t counts[SIM_FAULT_COUNT] = { 0 };

    body_fill();
    for (uint64_t seed = 0; seed < SEED_COUNT; seed++) {
        play(seed, SIM_FAULTS_TIME, true, seed % 3 == 0 ? echo_1_2 : echo_1_3);
        for (int fault = 0; fault < SIM_FAULT_COUNT; fault++) {
            counts[fault] += report.fault_counts[fault];
        }
    }
    CHECK(counts[SIM_FAULT_TICKET] > 0);
    CHECK(counts[SIM_FAULT_UPDATE] > 0);
    CHECK(counts[SIM_FAULT_RECORDS] > 0);
    CHECK(counts[SIM_FAULT_PIECES] > 0);
    CHECK(blocked_count > 0);
}

/* ---- what a record is ---- */

static bool is_quiet_net(void *arg)
{
    (void)arg;
    return sim_link_is_quiet(far.link);
}

static void settle(void)
{
    CHECK(sim_wait_until(is_quiet_net, NULL, WAIT_NS, "the network to be quiet"));
}

static bool has_finished(void *arg)
{
    (void)arg;
    return far.is_ready && sim_link_is_quiet(far.link) && far.server.ticket_count > 1;
}

static void open_and_read_tickets(struct stream *stream)
{
    struct il_error err;
    char byte;

    far_listen(SIM_TLS_1_3, SIM_TLS_CHOOSES_H2);
    CHECK_EQ(client_open(stream, "one.example", &err), IL_OK);
    CHECK(sim_wait_until(has_finished, NULL, WAIT_NS, "the far end"));
    settle();
    CHECK_EQ(stream_receive(stream, &byte, 1), -EAGAIN);
    CHECK(stream_is_quiet(stream));
}

/* The fourth record of the far end, after its flight of three and two tickets, by hand. */
static size_t record_make(char *record, const char *text)
{
    return sim_tls_put(record, SIM_TLS_DATA, 5, text, strlen(text));
}

static void half_a_record(void *arg)
{
    char record[64], bytes[64];
    struct stream stream;
    size_t size;

    (void)arg;
    open_and_read_tickets(&stream);
    size = record_make(record, "hello");
    sim_link_send_whole(far.link, record, size - 1);
    settle();
    CHECK_EQ(stream_receive(&stream, bytes, sizeof(bytes)), -EAGAIN);
    CHECK(stream_holds_input(&stream)); /* and the socket is empty */
    CHECK(!stream_is_quiet(&stream));   /* somebody is saying something */
    sim_link_send_whole(far.link, record + size - 1, 1);
    settle();
    CHECK(!stream_is_quiet(&stream));
    CHECK_EQ(stream_receive(&stream, bytes, 2), 2);
    CHECK(stream_holds_input(&stream));
    CHECK(!stream_is_drained(&stream));
    CHECK_EQ(stream_receive(&stream, bytes + 2, sizeof(bytes) - 2), 3);
    CHECK(memcmp(bytes, "hello", 5) == 0);
    CHECK(stream_is_drained(&stream));
    client_close(&stream);
    far_stop();
}

TEST(record_is_read_when_all_of_it_is_there_and_then_the_filter_holds_it)
{
    play(1, 0, true, half_a_record);
}

static void repeated_record(void *arg)
{
    char record[64], bytes[64];
    struct stream stream;
    size_t size;

    (void)arg;
    open_and_read_tickets(&stream);
    size = record_make(record, "hello");
    sim_link_send_whole(far.link, record, size);
    sim_link_send_whole(far.link, record, size);
    settle();
    CHECK_EQ(stream_receive(&stream, bytes, sizeof(bytes)), 5);
    CHECK_EQ(stream_receive(&stream, bytes, sizeof(bytes)), -EPROTO);
    CHECK_EQ(stream_failure(&stream)->code, IL_ETLS);
    client_close(&stream);
    far_stop();
}

TEST(record_that_comes_twice_is_refused)
{
    play(1, 0, true, repeated_record);
}

static void ticket_while_idle(void *arg)
{
    char record[64], ticket[9] = { SIM_TLS_TICKET, 77 };
    struct stream stream;

    (void)arg;
    open_and_read_tickets(&stream);
    sim_link_send_whole(far.link, record,
                        sim_tls_put(record, SIM_TLS_HANDSHAKE, 5, ticket, sizeof(ticket)));
    settle();
    CHECK(sys_socket_bytes_unread(stream.fd) > 0);
    CHECK(stream_is_quiet(&stream));
    CHECK_EQ(sys_socket_bytes_unread(stream.fd), 0);
    client_close(&stream);
    far_stop();
}

TEST(ticket_makes_the_socket_readable_and_the_stream_not)
{
    play(1, 0, true, ticket_while_idle);
}

static void answer_that_does_not_go(void *arg)
{
    static char junk[65536];
    struct iovec part = { junk, sizeof(junk) };
    char record[64], update = SIM_TLS_UPDATE, byte;
    struct stream stream;

    (void)arg;
    open_and_read_tickets(&stream);
    sim_link_send_whole(far.link, record,
                        sim_tls_put(record, SIM_TLS_HANDSHAKE, 5, &update, sizeof(update)));
    sim_link_send_whole(far.link, record, sim_tls_put(record, SIM_TLS_DATA, 6, "x", 1));
    settle();
    sim_tls_stop(far.tls); /* it takes no notice of what follows */
    while (sys_socket_send(stream.fd, &part, 1) > 0) {
    }
    CHECK(!stream_is_quiet(&stream));
    CHECK_EQ(stream_receive(&stream, &byte, 1), -EAGAIN); /* it has to write first */
    while (stream_receive(&stream, &byte, 1) == -EAGAIN) {
        client_await(&stream);
    }
    CHECK_EQ(byte, 'x');
    client_close(&stream);
    far_stop();
}

TEST(stream_that_cannot_answer_is_not_quiet_for_it_cannot_know_what_lies_behind)
{
    play(1, 0, true, answer_that_does_not_go);
}

/* ---- ends ---- */

static void clean_end(void *arg)
{
    struct stream stream;
    char byte;

    (void)arg;
    open_and_read_tickets(&stream);
    sim_tls_fin(far.tls);
    CHECK_EQ(client_receive(&stream, &byte, 1), 0);
    CHECK(stream_failure(&stream) == NULL);
    client_close(&stream);
    far_stop();
}

static void cut_end(void *arg)
{
    struct stream stream;
    char byte;

    (void)arg;
    open_and_read_tickets(&stream);
    sim_link_fin(far.link);
    CHECK_EQ(client_receive(&stream, &byte, 1), -EPROTO);
    CHECK_EQ(stream_failure(&stream)->code, IL_EPEERCLOSED);
    client_close(&stream);
    far_stop();
}

TEST(end_with_close_notify_is_one_and_an_end_without_is_a_failure)
{
    play(1, 0, true, clean_end);
    play(1, 0, true, cut_end);
}

/* ---- handshakes ---- */

static enum il_code handshake_code;
static bool was_resumed;

static void handshake_only(void *arg)
{
    struct stream stream;
    struct il_error err = { 0 };
    struct tls_facts *facts = NULL;

    (void)arg;
    far_listen(SIM_TLS_1_3, SIM_TLS_CHOOSES_H2);
    handshake_code = client_open(&stream, "one.example", &err);
    CHECK_EQ(err.code, handshake_code);
    if (handshake_code == IL_OK) {
        facts = tls_facts_new(&stream);
        CHECK(!facts->info.is_verified || strcmp(facts->info.subject, "CN=one.example") == 0);
        CHECK_STR(facts->info.protocol, "h2");
        CHECK_STR(facts->info.version, "TLSv1.3");
        tls_facts_unref(facts);
    }
    client_close(&stream);
    far_stop();
}

/* How often it ends so, with one kind of fault. */
static unsigned count_of(uint32_t faults, bool is_verifying, enum il_code code)
{
    unsigned count = 0;

    for (uint64_t seed = 0; seed < SEED_COUNT; seed++) {
        play(seed, faults, is_verifying, handshake_only);
        count += handshake_code == code;
        CHECK(handshake_code == IL_OK || handshake_code == code);
    }
    return count;
}

TEST(handshake_fails_when_the_server_refuses_is_somebody_else_or_ends)
{
    CHECK(count_of(1u << SIM_FAULT_ALERT, true, IL_ETLS) > 0);
    CHECK(count_of(1u << SIM_FAULT_CUT, true, IL_ETLS) > 0);
    CHECK(count_of(1u << SIM_FAULT_CERTIFICATE, true, IL_ECERT) > 0);
    CHECK_EQ(count_of(1u << SIM_FAULT_CERTIFICATE, false, IL_ECERT), 0);
}

static void open_twice(void *arg)
{
    struct stream stream;
    struct il_error err;
    struct tls_facts *facts;

    open_and_read_tickets(&stream);
    client_close(&stream);
    (void)arg;
    for (int i = 0; i < 3; i++) { /* two tickets, so the third time it is a full one */
        CHECK_EQ(client_open(&stream, "one.example", &err), IL_OK);
        facts = tls_facts_new(&stream);
        CHECK_EQ(facts->info.is_resumed, i < 2);
        tls_facts_unref(facts);
        client_close(&stream);
    }
    was_resumed = true;
    far_stop();
}

TEST(sessions_are_resumed_each_ticket_once)
{
    play(1, 0, true, open_twice);
    CHECK(was_resumed);
}

/* ---- the other world ---- */

TEST(outside_of_a_world_the_filter_is_openssls)
{
    struct tls_peer peer = { .host = "one.example", .port = 443, .alpn = TLS_ALPN_HTTP_1 };
    int fd = sys_socket_open(AF_INET);
    struct stream stream;
    struct il_error err;

    CHECK(fd >= 0);
    CHECK_EQ(il_tls_new(NULL, &settings, &err), IL_OK);
    stream_init_plain(&stream, fd);
    CHECK_EQ(tls_attach(settings, &peer, &stream, &err), IL_OK);
    CHECK_EQ(stream_handshake(&stream, &err), IL_ETLS); /* it is connected to nobody */
    CHECK(strstr(err.message, "TLS handshake") != NULL);
    CHECK_STR(tls_protocol(&stream), "");
    stream_close(&stream);
    settings = il_tls_unref(settings);
}
