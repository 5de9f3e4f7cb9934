/* dns_server.h: a DNS server for tests, on 127.0.0.1, UDP and TCP, that does as it is told.
 *
 * It lives on the loop of the test, between the turns of what is tested, so nothing here depends on
 * time: a question that is *held* is answered when the test says so. Names without a rule do not
 * exist (NXDOMAIN). Thread: the test's. */
#ifndef TESTS_DNS_SERVER_H
#define TESTS_DNS_SERVER_H

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <stdlib.h>
#include <strings.h>

#include "net/dns.h"
#include "tests/net_check.h"

enum server_manner {
    SERVER_ANSWERS,
    SERVER_IS_SILENT,
    SERVER_HOLDS,               /* until server_release */
    SERVER_HOLDS_AND_TRUNCATES, /* holds what comes over UDP, truncates, and holds again over TCP */
    SERVER_TRUNCATES,           /* over UDP; answers over TCP */
    SERVER_TRUNCATES_ALL,       /* and closes the TCP connection */
    SERVER_TALKS_NONSENSE,      /* cuts the answer in the middle of a record */
    SERVER_STUTTERS,            /* sends an empty datagram, a stranger's answer, then its own */
    SERVER_RAVES,               /* some bytes behind the question are others than they should be */
    SERVER_LEADS_IN_CIRCLE,     /* an alias of itself */
    SERVER_LEADS_ELSEWHERE,     /* an alias, with that name's addresses */
};

/* What to say of a name: by type, AAAA and A. */
struct server_rule {
    const char *name;
    enum server_manner manners[DNS_TYPE_COUNT];
    const char *addresses[DNS_TYPE_COUNT]; /* "1.2.3.4 5.6.7.8"; NULL: none */
    int rcode;
    uint32_t ttl_s;
    int many; /* instead of `addresses`: so many that the test makes up */
};

#define SERVER_PACKET_MAX 16384
#define SERVER_HELD_MAX   64

struct server_question {
    bool is_tcp;
    int fd; /* TCP */
    struct net_address from;
    unsigned char packet[512];
    size_t size;
    char name[DNS_NAME_SIZE];
    enum dns_type type;
    const struct server_rule *rule;
};

struct dns_server {
    struct il_loop *loop;
    const struct server_rule *rules;
    size_t rule_count;
    int udp_fd, tcp_fd, conn_fd; /* conn_fd: -1 when there is none; one at a time */
    struct watch *udp_watch, *tcp_watch, *conn_watch;
    unsigned char inbox[1024]; /* of the connection */
    size_t inbox_size;
    size_t question_counts[DNS_TYPE_COUNT];
    size_t tcp_question_count;
    struct server_question held[SERVER_HELD_MAX];
    size_t held_count;
    uint32_t seed;    /* of what it raves */
    char address[32]; /* "127.0.0.1:12345" */
    struct dns_settings settings;
};

/* ---- packets ---- */

struct packet {
    unsigned char bytes[SERVER_PACKET_MAX];
    size_t size;
};

static inline void packet_put(struct packet *packet, const void *bytes, size_t size)
{
    CHECK(size <= sizeof(packet->bytes) - packet->size);
    memcpy(packet->bytes + packet->size, bytes, size);
    packet->size += size;
}

static inline void packet_put_u16(struct packet *packet, unsigned value)
{
    packet_put(packet, (unsigned char[]){ (unsigned char)(value >> 8), (unsigned char)value }, 2);
}

static inline void packet_put_name(struct packet *packet, const char *name)
{
    while (*name != '\0') {
        size_t size = strcspn(name, ".");

        packet_put(packet, (unsigned char[]){ (unsigned char)size }, 1);
        packet_put(packet, name, size);
        name += size + (name[size] == '.');
    }
    packet_put(packet, "", 1);
}

/* A record; without a name of its own it is about the name in the question. */
static inline void packet_put_record(struct packet *packet, const char *name, unsigned type,
                                     uint32_t ttl_s, const void *data, size_t size)
{
    if (name != NULL) {
        packet_put_name(packet, name);
    } else {
        packet_put_u16(packet, 0xc000 | NS_HFIXEDSZ);
    }
    packet_put_u16(packet, type);
    packet_put_u16(packet, ns_c_in);
    packet_put_u16(packet, ttl_s >> 16);
    packet_put_u16(packet, ttl_s & 0xffff);
    packet_put_u16(packet, (unsigned)size);
    packet_put(packet, data, size);
}

static inline void packet_set_u16(struct packet *packet, size_t at, unsigned value)
{
    packet->bytes[at] = (unsigned char)(value >> 8);
    packet->bytes[at + 1] = (unsigned char)value;
}

/* ---- what it says ---- */

static inline unsigned server_put_addresses(struct packet *packet, const char *owner,
                                            const struct server_question *question)
{
    const struct server_rule *rule = question->rule;
    const char *at = rule->addresses[question->type];
    bool is_v6 = question->type == DNS_AAAA;
    unsigned count = 0;
    char text[64];

    for (int i = 0; i < rule->many; i++, count++) {
        unsigned char address[16] = { is_v6 ? 0x20 : 127, 1 };

        address[is_v6 ? 14 : 2] = (unsigned char)(i >> 8);
        address[is_v6 ? 15 : 3] = (unsigned char)i;
        packet_put_record(packet, owner, is_v6 ? ns_t_aaaa : ns_t_a, rule->ttl_s, address,
                          is_v6 ? 16 : 4);
    }
    for (int used; at != NULL && sscanf(at, "%63s%n", text, &used) == 1; at += used, count++) {
        struct net_address address = address_for_test(text, 0);

        if (is_v6) {
            packet_put_record(packet, owner, ns_t_aaaa, rule->ttl_s, &address.v6.sin6_addr, 16);
        } else {
            packet_put_record(packet, owner, ns_t_a, rule->ttl_s, &address.v4.sin_addr, 4);
        }
    }
    return count;
}

static inline void server_make_answer(struct packet *packet, const struct server_question *question,
                                      enum server_manner manner)
{
    const struct server_rule *rule = question->rule;
    bool is_truncated = (manner == SERVER_TRUNCATES || manner == SERVER_TRUNCATES_ALL ||
                         manner == SERVER_HOLDS_AND_TRUNCATES) &&
                        !question->is_tcp;
    struct packet target = { .size = 0 };
    unsigned count = 0;

    packet->size = 0;
    packet_put(packet, question->packet, question->size);
    packet_set_u16(packet, 2,
                   0x8180 | (is_truncated ? 0x200 : 0) |
                       (unsigned)(rule != NULL ? rule->rcode : ns_r_nxdomain));
    if (rule == NULL || is_truncated || rule->rcode != 0) {
        return;
    }
    if (manner == SERVER_LEADS_IN_CIRCLE) {
        packet_put_name(&target, rule->name);
        packet_put_record(packet, NULL, ns_t_cname, rule->ttl_s, target.bytes, target.size);
        count = 1;
    } else if (manner == SERVER_LEADS_ELSEWHERE) {
        packet_put_name(&target, "elsewhere.test");
        packet_put_record(packet, NULL, ns_t_cname, rule->ttl_s, target.bytes, target.size);
        count = 1 + server_put_addresses(packet, "elsewhere.test", question);
    } else {
        count = server_put_addresses(packet, NULL, question);
    }
    packet_set_u16(packet, 6, count);
    if (manner == SERVER_TALKS_NONSENSE) {
        packet->size -= 3;
    }
}

static inline void server_send(struct dns_server *server, const struct server_question *question,
                               const struct packet *packet)
{
    unsigned char size[2] = { (unsigned char)(packet->size >> 8), (unsigned char)packet->size };

    if (!question->is_tcp) {
        CHECK(sendto(server->udp_fd, packet->bytes, packet->size, 0, &question->from.any,
                     net_address_size(&question->from)) >= 0);
    } else if (question->fd == server->conn_fd) {
        /* in two pieces, to see that the client puts them together */
        CHECK_EQ(send(question->fd, size, 1, MSG_NOSIGNAL), 1);
        CHECK_EQ(send(question->fd, size + 1, 1, MSG_NOSIGNAL), 1);
        CHECK_EQ(send(question->fd, packet->bytes, packet->size, MSG_NOSIGNAL),
                 (ssize_t)packet->size);
    }
}

static inline uint32_t server_random(struct dns_server *server)
{
    server->seed = server->seed * 1664525 + 1013904223;
    return server->seed >> 8;
}

static inline void server_damage(struct dns_server *server, struct packet *packet, size_t begin)
{
    uint32_t count = 1 + server_random(server) % 8;

    for (uint32_t i = 0; i < count; i++) {
        size_t at = begin + server_random(server) % (packet->size - begin);

        packet->bytes[at] = (unsigned char)server_random(server);
    }
    if (server_random(server) % 4 == 0) {
        packet->size -= server_random(server) % (packet->size - begin);
    }
}

static inline void server_answer(struct dns_server *server, const struct server_question *question)
{
    enum server_manner manner =
        question->rule != NULL ? question->rule->manners[question->type] : SERVER_ANSWERS;
    struct packet packet;

    server_make_answer(&packet, question, manner);
    if (manner == SERVER_STUTTERS) {
        struct packet other = packet, empty = { .size = 0 };

        other.bytes[0] ^= 1; /* another question's number */
        server_send(server, question, &empty);
        server_send(server, question, &other);
    } else if (manner == SERVER_RAVES) {
        server_damage(server, &packet, question->size);
    }
    server_send(server, question, &packet);
}

/* ---- what it hears ---- */

static inline bool server_read_question(struct dns_server *server, struct server_question *question)
{
    size_t at = NS_HFIXEDSZ, used = 0;
    unsigned type;

    CHECK(question->size > NS_HFIXEDSZ);
    while (question->packet[at] != 0) {
        size_t size = question->packet[at++];

        CHECK(size < 64 && at + size < question->size && used + size + 2 < DNS_NAME_SIZE);
        if (used > 0) {
            question->name[used++] = '.';
        }
        memcpy(question->name + used, question->packet + at, size);
        used += size;
        at += size;
    }
    question->name[used] = '\0';
    type = (unsigned)question->packet[at + 1] << 8 | question->packet[at + 2];
    CHECK(type == ns_t_aaaa || type == ns_t_a);
    question->type = type == ns_t_aaaa ? DNS_AAAA : DNS_A;
    for (size_t i = 0; i < server->rule_count; i++) {
        if (strcasecmp(server->rules[i].name, question->name) == 0) {
            question->rule = &server->rules[i];
        }
    }
    return true;
}

static inline void server_conn_close(struct dns_server *server)
{
    if (server->conn_fd >= 0) {
        watch_close(server->conn_watch);
        close(server->conn_fd);
        server->conn_fd = -1;
        server->inbox_size = 0;
    }
}

static inline void server_take_question(struct dns_server *server, struct server_question *question)
{
    enum server_manner manner;

    (void)server_read_question(server, question);
    server->question_counts[question->type]++;
    server->tcp_question_count += question->is_tcp;
    manner = question->rule != NULL ? question->rule->manners[question->type] : SERVER_ANSWERS;
    if (manner == SERVER_IS_SILENT) {
        return;
    }
    if (manner == SERVER_TRUNCATES_ALL && question->is_tcp) {
        server_conn_close(server);
    } else if (manner == SERVER_HOLDS || manner == SERVER_HOLDS_AND_TRUNCATES) {
        CHECK(server->held_count < SERVER_HELD_MAX);
        server->held[server->held_count++] = *question;
    } else {
        server_answer(server, question);
    }
}

/* Answer the questions of a type that are held. */
static inline void server_release(struct dns_server *server, enum dns_type type)
{
    size_t kept_count = 0;

    for (size_t i = 0; i < server->held_count; i++) {
        if (server->held[i].type == type) {
            server_answer(server, &server->held[i]);
        } else {
            server->held[kept_count++] = server->held[i];
        }
    }
    server->held_count = kept_count;
}

static inline void server_on_datagram(struct watch *watch, uint32_t events)
{
    struct dns_server *server = watch->arg;

    for (;;) {
        struct server_question question = { .fd = -1 };
        socklen_t from_size = sizeof(question.from);
        ssize_t size = recvfrom(server->udp_fd, question.packet, sizeof(question.packet),
                                MSG_DONTWAIT, &question.from.any, &from_size);

        if (size < 0) {
            return;
        }
        question.size = (size_t)size;
        server_take_question(server, &question);
    }
}

static inline void server_on_stream(struct watch *watch, uint32_t events)
{
    struct dns_server *server = watch->arg;

    for (;;) {
        struct server_question question = { .is_tcp = true, .fd = server->conn_fd };
        ssize_t got = recv(server->conn_fd, server->inbox + server->inbox_size,
                           sizeof(server->inbox) - server->inbox_size, MSG_DONTWAIT);
        size_t size;

        if (got == 0) {
            server_conn_close(server);
        }
        if (got <= 0) {
            return;
        }
        server->inbox_size += (size_t)got;
        while (server->inbox_size >= 2 &&
               server->inbox_size >=
                   (size = (size_t)server->inbox[0] << 8 | server->inbox[1]) + 2) {
            question.size = size;
            memcpy(question.packet, server->inbox + 2, size);
            server->inbox_size -= size + 2;
            memmove(server->inbox, server->inbox + 2 + size, server->inbox_size);
            server_take_question(server, &question);
            if (server->conn_fd < 0) {
                return;
            }
        }
    }
}

static inline void server_on_rest(struct watch *watch, uint32_t events)
{
    CHECK(false);
}

static inline void server_on_connection(struct watch *watch, uint32_t events)
{
    struct dns_server *server = watch->arg;
    struct il_error err;
    int fd;

    while ((fd = accept4(server->tcp_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        server_conn_close(server);
        server->conn_fd = fd;
        CHECK_OK(watch_open(server->loop->poller, fd, server_on_stream, server_on_rest, server,
                            &server->conn_watch, &err));
    }
}

/* ---- life ---- */

/* UDP and TCP on the same port; false when somebody else has the one that the kernel chose. */
static inline bool server_try_bind(struct dns_server *server)
{
    struct net_address address;

    server->udp_fd = socket_bind_for_test(SOCK_DGRAM | SOCK_NONBLOCK, "127.0.0.1", 0);
    address = address_for_test("127.0.0.1", port_of_socket(server->udp_fd));
    server->tcp_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(server->tcp_fd >= 0);
    if (bind(server->tcp_fd, &address.any, sizeof(address.v4)) != 0) {
        CHECK_EQ(errno, EADDRINUSE);
        close(server->tcp_fd);
        close(server->udp_fd);
        return false;
    }
    CHECK(listen(server->tcp_fd, 16) == 0);
    return true;
}

/* Begin to serve, and have the resolver ask here and nowhere else. */
static inline void dns_server_open(struct dns_server *server, struct il_loop *loop,
                                   const struct server_rule *rules, size_t rule_count)
{
    struct il_error err;

    *server = (struct dns_server){
        .loop = loop, .rules = rules, .rule_count = rule_count, .conn_fd = -1
    };
    while (!server_try_bind(server)) {
        continue;
    }
    CHECK_OK(watch_open(loop->poller, server->udp_fd, server_on_datagram, server_on_rest, server,
                        &server->udp_watch, &err));
    CHECK_OK(watch_open(loop->poller, server->tcp_fd, server_on_connection, server_on_rest, server,
                        &server->tcp_watch, &err));
    (void)snprintf(server->address, sizeof(server->address), "127.0.0.1:%u",
                   port_of_socket(server->udp_fd));
    server->settings = (struct dns_settings){ .servers = server->address,
                                              .ndots = 1,
                                              .hosts_from_environment = true };
    CHECK(setenv("CARES_HOSTS", "/dev/null", 1) == 0);
    dns_set_for_test(&server->settings);
}

static inline void dns_server_close(struct dns_server *server)
{
    server_conn_close(server);
    watch_close(server->udp_watch);
    watch_close(server->tcp_watch);
    close(server->udp_fd);
    close(server->tcp_fd);
    dns_set_for_test(NULL);
}

#endif
