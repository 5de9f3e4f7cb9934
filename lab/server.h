/* server.h: an HTTP server that misbehaves in every way the lab needs, inside this process. It
 * speaks HTTP/1.1, and HTTP/2 to clients that begin with it: in clear by prior knowledge, in TLS
 * by ALPN.
 *
 *     struct lab_server *server;
 *
 *     CHECK_OK(lab_server_start(NULL, &server, &err));
 *     ... a request to http://127.0.0.1:PORT/hold/a, PORT from lab_server_port(server) ...
 *     CHECK(lab_server_wait_held(server, "a", 1, lab_in_ms(5000)));
 *     lab_server_release(server, "a", 1);
 *     lab_server_stop(server);
 *
 * What a request makes the server do is chosen by its path and query; lab_server_help() lists it
 * all, and so does GET /help. The server has one thread of its own and uses nothing of the library
 * but src/base: it is the opposite side.
 *
 * Every function here may be called by any thread but the server's own, and blocks for no longer
 * than the server needs to come round once, except where a deadline says how long. What a client
 * could observe before a call, the counters that the call returns contain. A client that shuts down
 * its sending side while it waits for an answer is taken to be gone. */
#ifndef LAB_SERVER_H
#define LAB_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "interloop/error.h"

#define LAB_BEHAVIOUR_MAX      48         /* rows of the table of behaviours */
#define LAB_GATE_NAME_MAX      64         /* bytes of a NAME in /hold/NAME and the like */
#define LAB_GATE_MAX           4096       /* different NAMEs in the life of a server */
#define LAB_TARGET_MAX         8192       /* bytes of a request target; more is answered by 414 */
#define LAB_HEADER_MAX         (64 << 10) /* bytes of a request's header; more: 431 */
#define LAB_ECHO_MAX           (64 << 20) /* bytes of a body that /echo keeps; more: 413 */
#define LAB_CONNECTION_RECORDS 16384      /* closed connections that can still be asked about */
#define LAB_STREAMS_MAX        100
#define LAB_RELEASE_ALL        UINT64_MAX
#define LAB_FOREVER            UINT64_MAX

struct lab_server;

/* What the server speaks under HTTP. Read by lab_server_start; zero means the default.
 * `alpn`: protocols separated by commas, "h2,http/1.1": the first of them that the client offers,
 * and if it offers none, the last: so a single one is chosen, offered or not, unless
 * `is_alpn_strict`: then the handshake ends with the alert no_application_protocol. Clients get
 * HTTP/2 where "h2" was chosen. "": none is; NULL: "http/1.1". */
struct lab_server_tls {
    const char *certificate_pem, *key_pem; /* required; see certificates.h */
    const char *client_ca_pem;             /* demand a certificate of this CA from clients */
    const char *alpn;
    bool is_alpn_strict;
    int version; /* 11, 12 or 13: only this one; 0: 1.2 and 1.3 */
    bool is_cut; /* connections end without close_notify */
};

/* Zero means the default everywhere. */
struct lab_server_options {
    const char *address;      /* numeric IPv4 or IPv6; copied; NULL means 127.0.0.1 */
    uint16_t port;            /* 0: any free one */
    bool is_http10;           /* answer as HTTP/1.0: no chunks, close unless asked to keep alive */
    bool is_http1_only;       /* no HTTP/2 in clear; in TLS, `alpn` says; is_http10 implies it */
    uint32_t streams_max;     /* at a time on a connection of HTTP/2; 0: LAB_STREAMS_MAX */
    uint64_t delay_ms;        /* before every answer */
    uint64_t idle_timeout_ms; /* closes a connection idle for so long; 0: never */
    uint64_t
        requests_per_connection_max; /* the last of them says `Connection: close`; 0: no limit */
    uint64_t connections_max;        /* more wait in the backlog until one closes; 0: no limit */
    uint64_t answering_max; /* requests answered at the same time, the others queue; 0: no limit */
    int receive_buffer_bytes;         /* SO_RCVBUF of connections; 0: as the system has it */
    int send_buffer_bytes;            /* SO_SNDBUF of connections; 0: as the system has it */
    const struct lab_server_tls *tls; /* https; NULL: http */
};

/* Start a server; `options` may be NULL. It accepts connections when this returns IL_OK. The caller
 * ends it by lab_server_stop(). IL_EINVAL: the address is not numeric, or TLS is not right.
 * IL_ESYS: could not listen.
 */
IL_MUST_USE enum il_code lab_server_start(const struct lab_server_options *options,
                                          struct lab_server **ret_server, struct il_error *err);

/* Close every connection, end the thread, free everything. NULL is nothing. */
void lab_server_stop(struct lab_server *server);

/* Where it listens. Valid until the stop. */
uint16_t lab_server_port(const struct lab_server *server);
const char *lab_server_address(const struct lab_server *server);

/* ---- counters ---- */

/* Connections are counted whatever they speak; one of HTTP/2 is idle when it has no stream, and
 * answering when it has some. What is counted of requests is counted of each stream. */
struct lab_server_counters {
    uint64_t change_count; /* grows whenever anything below changes */
    uint64_t accepted_count;
    uint64_t closed_count;
    uint64_t open_count;      /* accepted - closed = idle + receiving + answering + lingering */
    uint64_t idle_count;      /* between two requests, or before the first */
    uint64_t receiving_count; /* part of a request has come */
    uint64_t answering_count; /* busy with a request, or holding it, or never answering it */
    uint64_t lingering_count; /* answered a bad request, waiting for the client to close */
    uint64_t held_count;      /* of those answering: waiting for a release */
    uint64_t queued_count;    /* of those answering: waiting because of answering_max */

    /* request = answered + dropped + abandoned + those under way */
    uint64_t request_count;   /* whole headers received */
    uint64_t answered_count;  /* the answer's last byte was handed to the kernel */
    uint64_t dropped_count;   /* the server closed before that, as it was told to */
    uint64_t abandoned_count; /* the client closed before that */
    uint64_t bad_count;       /* connections that sent something that is no valid request */

    /* The same two, by behaviour; see lab_server_behaviour(). */
    struct {
        uint64_t request_count;
        uint64_t answered_count;
    } by[LAB_BEHAVIOUR_MAX];
};

void lab_server_counters(struct lab_server *server, struct lab_server_counters *ret_counters);

/* The index into `by` of a behaviour, by its first path segment: "/hello", "/bytes"; "/404" stands
 * for paths that the server does not know. A name that does not exist is a defect of the caller. */
size_t lab_server_behaviour(const char *path);

/* What is known of one connection. They are numbered from 1 in the order of their acceptance, and
 * every well-formed answer says which one it came by: `X-Connection: 3`, `X-Request: 1`. */
struct lab_connection {
    uint64_t number;
    uint64_t request_count;
    uint64_t answered_count;
    uint16_t peer_port; /* the client's */
    bool is_open;
    bool is_closed_by_client;
};

/* IL_EINVAL if there is no such connection, or it was closed so long ago that it is forgotten. */
IL_MUST_USE enum il_code lab_server_connection(struct lab_server *server, uint64_t number,
                                               struct lab_connection *ret_connection,
                                               struct il_error *err);

/* ---- waiting for what the server sees ---- */

/* A deadline for the functions below: so many milliseconds from now. */
uint64_t lab_in_ms(uint64_t ms);

/* Runs on the caller's thread. */
typedef bool lab_server_predicate_fn(const struct lab_server_counters *counters, void *arg);

/* Wait until `predicate` is true of the counters. False: the deadline (of lab_in_ms, or
 * LAB_FOREVER) came first. */
IL_MUST_USE bool lab_server_wait(struct lab_server *server, lab_server_predicate_fn *predicate,
                                 void *arg, uint64_t deadline_ns);

/* The usual conditions. Held: at least `count` requests now wait at the gate `name`. Requests,
 * answered: at least so many, since the start, of the behaviour `path`, or of all if it is NULL.
 * Open, idle: exactly so many connections. */
IL_MUST_USE bool lab_server_wait_held(struct lab_server *server, const char *name, uint64_t count,
                                      uint64_t deadline_ns);
IL_MUST_USE bool lab_server_wait_requests(struct lab_server *server, const char *path,
                                          uint64_t count, uint64_t deadline_ns);
IL_MUST_USE bool lab_server_wait_answered(struct lab_server *server, const char *path,
                                          uint64_t count, uint64_t deadline_ns);
IL_MUST_USE bool lab_server_wait_open(struct lab_server *server, uint64_t count,
                                      uint64_t deadline_ns);
IL_MUST_USE bool lab_server_wait_idle(struct lab_server *server, uint64_t count,
                                      uint64_t deadline_ns);

/* ---- control: done, and visible to the client, when the call returns ---- */

/* Let `count` requests pass the gate `name`: those that wait there, in the order they came, and if
 * they are fewer, those that come later. LAB_RELEASE_ALL leaves the gate open for good. IL_EINVAL:
 * the name is empty or too long; IL_ELIMIT: LAB_GATE_MAX. */
enum il_code lab_server_release(struct lab_server *server, const char *name, uint64_t count);

/* How many requests wait at the gate. */
uint64_t lab_server_held(struct lab_server *server, const char *name);

enum lab_close {
    LAB_CLOSE_FIN,  /* close(): the client reads end of file */
    LAB_CLOSE_RST,  /* reset */
    LAB_CLOSE_HALF, /* shutdown(SHUT_WR): end of file, but the server still reads */
};

/* Close all idle connections; says how many. LAB_CLOSE_HALF leaves them open, and idle. */
uint64_t lab_server_close_idle(struct lab_server *server, enum lab_close how);

/* Close one connection, whatever it does. IL_EINVAL: it is not open. */
enum il_code lab_server_close(struct lab_server *server, uint64_t number, enum lab_close how,
                              struct il_error *err);

/* Write bytes that nobody asked for onto a connection that sends nothing else at the moment.
 * IL_EINVAL: it is not open. IL_EAGAIN: it is sending, or its socket took only part. IL_ESYS: it
 * took nothing, because the client is gone. */
enum il_code lab_server_write(struct lab_server *server, uint64_t number, const void *data,
                              size_t size, struct il_error *err);

/* Stop accepting, and fill the backlog, so that a connect() stalls in the handshake. Connections
 * that the kernel completed before are served first. IL_ESYS: the backlog could not be filled; the
 * server accepts again. */
IL_MUST_USE enum il_code lab_server_accept_stop(struct lab_server *server, struct il_error *err);

/* Accept again. A stalled connect() succeeds when its client's kernel tries again: within 1 s,
 * then 2 s, 4 s... of the last try. */
void lab_server_accept_resume(struct lab_server *server);

/* ---- what both sides know ---- */

/* The bytes of /bytes/N?seed=S are printable and depend on the seed and their place only:
 * byte `offset + i` goes to data[i]. */
void lab_pattern_fill(char *data, size_t size, uint64_t seed, uint64_t offset);

/* Whether `data` is what lab_pattern_fill would make. */
bool lab_pattern_matches(const char *data, size_t size, uint64_t seed, uint64_t offset);

/* FNV-1a, as /sink reports it of an upload; begin with LAB_HASH_INIT. */
#define LAB_HASH_INIT 0xcbf29ce484222325u
uint64_t lab_hash(uint64_t hash, const void *data, size_t size);

/* The list of behaviours for people, lines of at most 100 columns. The caller frees it by
 * il_free(). NULL: out of memory. */
char *lab_server_help(void);

/* The path of the behaviour `index`, as the help shows it ("/bytes/N"), its query parameters
 * separated by spaces, and what it does; false when there are no more. Static. */
bool lab_server_behaviour_at(size_t index, const char **ret_path, const char **ret_query,
                             const char **ret_does);

#endif
