/* tls.h: TLS without the cryptography, for simulated worlds: what the layers above notice of TLS,
 * and nothing else. The client's end is tls_plain.c, which takes the place of OpenSSL's filter as
 * long as a world is running; the far end is struct sim_tls below, for services.
 *
 * What travels are records: a head (kind, version, length), a sequence number, a payload. One is
 * read when all of it is there. A handshake comes first:
 *
 *     client                       far end
 *     HELLO (host, ALPN, ticket) ->
 *                               <- SERVER_HELLO, CERTIFICATE unless resumed, FINISHED
 *     FINISHED                  ->                       (1.2: HELLO_DONE there, FINISHED after it)
 *                               <- TICKET, TICKET
 *
 * After it data, and at any time tickets and *updates*, which stand for whatever makes a read
 * write and a write read: the far end asks (UPDATE), the client answers (UPDATED) and sends no data
 * until the far end has agreed (UPDATE_DONE). Each side says CLOSE_NOTIFY before it ends.
 *
 * Threads: the world's, for what arrives; simulated ones. Either runs alone. */
#ifndef SIM_TLS_H
#define SIM_TLS_H

#include "sim/sim.h"

/* ---- what travels ---- */

#define SIM_TLS_HEAD_SIZE   9 /* kind, version, length as in TLS, and the sequence number */
#define SIM_TLS_PAYLOAD_MAX 16384
#define SIM_TLS_RECORD_MAX  (SIM_TLS_HEAD_SIZE + SIM_TLS_PAYLOAD_MAX)
#define SIM_TLS_HELLO_SIZE  1800 /* as large as they are today */
#define SIM_TLS_ANSWER_SIZE 2000 /* as one with a certificate: a narrow socket does not take it */
#define SIM_TLS_NAME_MAX    128

enum sim_tls_kind {
    SIM_TLS_ALERT = 21, /* payload: one of the next */
    SIM_TLS_HANDSHAKE = 22,
    SIM_TLS_DATA = 23,
};

enum sim_tls_alert {
    SIM_TLS_CLOSE_NOTIFY = 0,
    SIM_TLS_HANDSHAKE_FAILURE = 40,
    SIM_TLS_BAD_CERTIFICATE = 42,
};

/* The first byte of a handshake record's payload. */
enum sim_tls_message {
    SIM_TLS_HELLO = 1,        /* ticket (8), length and host, length and ALPN, padding */
    SIM_TLS_SERVER_HELLO = 2, /* version, is it resumed, length and chosen protocol */
    SIM_TLS_TICKET = 4,       /* 8 bytes */
    SIM_TLS_CERTIFICATE = 11, /* length and host, padding */
    SIM_TLS_HELLO_DONE = 14,  /* 1.2 only */
    SIM_TLS_FINISHED = 20,
    SIM_TLS_UPDATE = 24,
    SIM_TLS_UPDATED = 25,
    SIM_TLS_UPDATE_DONE = 26,
};

enum sim_tls_version {
    SIM_TLS_1_2 = 12,
    SIM_TLS_1_3 = 13,
};

struct sim_tls_record {
    uint8_t kind;
    uint32_t sequence;
    const char *payload;
    size_t size; /* of the payload */
};

/* Write a record; returns its size. `payload` may lie where it will stand. */
size_t sim_tls_put(char *to, enum sim_tls_kind kind, uint32_t sequence, const void *payload,
                   size_t size);

/* The record that these bytes begin with; returns its size, 0: it has not come whole; SIZE_MAX: it
 * is none. */
size_t sim_tls_look(const char *bytes, size_t size, struct sim_tls_record *ret_record);

/* Text with its length in front (one byte), as messages have it. The second returns what follows
 * it, or NULL: it does not fit, or goes on beyond `end`. */
char *sim_tls_put_text(char *at, const char *text);
const char *sim_tls_get_text(const char *at, const char *end, char *text, size_t size);

/* ---- the far end ---- */

/* What holds for all connections of a service; yours, zeroed. */
#define SIM_TLS_TICKETS_MAX 4096

enum sim_tls_choice {
    SIM_TLS_CHOOSES_H2, /* where it is offered, else HTTP/1.1; the most frequent */
    SIM_TLS_CHOOSES_HTTP_1,
    SIM_TLS_CHOOSES_NOTHING, /* it does not know ALPN; but where h2 alone is offered, that */
    SIM_TLS_CHOOSES_ANY,     /* each time anew */
    SIM_TLS_CHOICE_COUNT,
};

struct sim_tls_server {
    bool is_drawn; /* the two below, with the first connection */
    enum sim_tls_version version;
    enum sim_tls_choice choice;
    uint64_t ticket_count;
    bool is_used[SIM_TLS_TICKETS_MAX]; /* of 1.3 */
};

struct sim_tls;

/* Called while a connection is fed, or from an alarm; never from inside of sim_tls_send and the
 * like. Any of them may end the connection (sim_tls_stop). */
struct sim_tls_events {
    void (*on_ready)(void *arg); /* the service may speak; the client has perhaps not finished */
    void (*on_bytes)(void *arg, const char *bytes, size_t size);
    void (*on_end)(void *arg);                     /* the client has said so, or cannot go on */
    void (*on_wrong)(void *arg, const char *what); /* the client did what no client may do; where it
                                                      cannot go on, on_end follows */
};

/* Do these first bytes of a connection begin a handshake? */
bool sim_tls_begins(const char *bytes, size_t size);

struct sim_tls *sim_tls_new(struct sim_tls_server *server, struct sim_link *link,
                            const struct sim_tls_events *events, void *arg);
void sim_tls_stop(struct sim_tls *tls); /* nothing happens any more */
void sim_tls_free(struct sim_tls *tls); /* NULL is nothing */

void sim_tls_feed(struct sim_tls *tls, const char *bytes, size_t size);
void sim_tls_send(struct sim_tls *tls, const char *bytes, size_t size);
void sim_tls_send_whole(struct sim_tls *tls, const char *bytes, size_t size); /* as one packet */

/* CLOSE_NOTIFY and FIN, after what was sent; unless a fault leaves the former out. The latter of
 * the two at once, and stops. */
void sim_tls_fin(struct sim_tls *tls);
void sim_tls_close(struct sim_tls *tls);

/* The protocol that was chosen: "h2", "http/1.1", "". Once it is ready. */
const char *sim_tls_protocol(const struct sim_tls *tls);

#endif
