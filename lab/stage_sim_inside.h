/* stage_sim_inside.h: what the parts of the simulated server have in common. Private to
 * stage_sim_server.c, which has the connections and HTTP/1.1, stage_sim_h2.c, which has HTTP/2, and
 * stage_sim_control.c, by which causes look at it and tell it what to do.
 *
 * Threads: the world's, for what arrives; simulated ones, for control. Either runs alone. */
#ifndef LAB_STAGE_SIM_INSIDE_H
#define LAB_STAGE_SIM_INSIDE_H

#include "lab/stage_sim.h"
#include "sim/sim.h"
#include "sim/tls.h"

#define GATE_NAME_SIZE 32
#define GATES_MAX      64
#define TARGET_SIZE    256
#define SEEN_MAX       512 /* paths that are counted */
#define SEEN_SIZE      32  /* longer ones are not */
#define LATE_NS_MAX    (400 * SIM_NS_PER_MS)
#define IDLE_NS_MAX    (2000 * SIM_NS_PER_MS)
#define NEVER_NS       (60000 * SIM_NS_PER_MS) /* after that it gives up */

struct gate {
    char name[GATE_NAME_SIZE];
    bool is_open;
};

/* How often a whole request with this path has been acted on, and refused without being so. */
struct seen {
    char path[SEEN_SIZE];
    unsigned count, refused_count;
};

struct conn;
struct h2_conn;

struct stage_server {
    struct sim_service service;
    uint16_t port;
    uint64_t answering_max; /* of HTTP/1.1 */
    struct gate gates[GATES_MAX];
    unsigned gate_count;
    struct conn *conns;
    bool is_stopped;
    struct stage_server_counts counts;
    struct seen seen[SEEN_MAX];
    unsigned seen_count;
    struct sim_tls_server tls; /* TLS and clear come to the same port */

    /* HTTP/2 */
    bool is_h2_drawn;
    uint32_t stream_max;  /* announced at first; 0: nothing is */
    unsigned upsets_left; /* times that it may yet refuse requests which it has not acted on */
};

/* ---- connections ---- */

/*  IDLE --> RECEIVING --> QUEUED --> HELD --> ANSWERING --> PAUSED --> ANSWERING --> IDLE
 * Steps in the middle may be left out; from each of them to GONE. With HTTP/2: IDLE --> SHARED.
 * After an answer that ends with its connection: ANSWERING --> LEAVING. */
enum conn_state {
    CONN_IDLE,
    CONN_RECEIVING,
    CONN_QUEUED,    /* for answering_max */
    CONN_HELD,      /* at a gate */
    CONN_ANSWERING, /* later, or never */
    CONN_PAUSED,    /* in the middle of a body, at a gate */
    CONN_SHARED,    /* HTTP/2: its streams have states of their own */
    CONN_LEAVING,   /* answered, and ends when all of it is sent */
    CONN_GONE,      /* closed by us, or its client */
};

struct conn {
    struct conn *next; /* server->conns */
    struct stage_server *server;
    struct sim_link *link;
    struct sim_tls *tls; /* NULL: in clear, or not known yet */
    bool is_known;       /* it is */
    bool is_open;        /* with TLS: the handshake is over, as far as we are concerned */
    enum conn_state state;
    struct sim_alarm alarm; /* to answer; while idle, to close */
    struct h2_conn *h2;     /* NULL: HTTP/1.1, or not known yet */

    char *bytes; /* received and not yet worked off */
    size_t size;

    /* The request. */
    char target[TARGET_SIZE];
    bool is_head;
    struct gate *gate;
    uint64_t body_left;
    bool is_chunked;
    uint64_t sequence; /* of all requests, for the queue */
    uint64_t bytes_sent, bytes_end, seed;
    bool has_paused;
    bool is_never; /* is not going to answer */
};

/* Through TLS, if there is any: send bytes, also as one packet; end after them. */
void sim_conn_send(struct conn *conn, const char *bytes, size_t size);
void sim_conn_send_whole(struct conn *conn, const char *bytes, size_t size);
void sim_conn_fin(struct conn *conn);

/* Close a connection, by FIN or RST. It is gone for good, its memory a little later. */
void sim_conn_close(struct conn *conn);
void sim_conn_reset(struct conn *conn);

/* What the client sent is none of what it may send. */
void server_complain(struct stage_server *server, const char *what);

/* HTTP/1.1: go on with a request that stands at a gate; with an answer that rests at one. */
void conn_pass(struct conn *conn);
void conn_answer(struct conn *conn);

/* When the last connection is gone, after it was stopped. */
void server_free_if_done(struct stage_server *server);

/* ---- what both protocols ask of a server ---- */

/* The gate with this name; NULL: there are too many, or the name is too long. */
struct gate *server_gate(struct stage_server *server, const char *name, size_t length);

/* The target's query: the gate that `name` says, or NULL; the number. */
struct gate *target_gate(struct stage_server *server, const char *target, const char *name);
uint64_t target_number(const char *target, const char *name, uint64_t otherwise);

/* The body of the answer to a target that is not /bytes. */
size_t target_body(const char *target, char body[static TARGET_SIZE]);

/* Some answers come in another shape: which, the target and the port decide, so the seed does. */
bool target_is_odd(const struct stage_server *server, const char *target);

/* The server acts on a request. Returns how many it has acted on. */
uint64_t server_note_request(struct stage_server *server, const char *target);

/* The record of a target; NULL: there is no room for it. */
struct seen *server_seen(struct stage_server *server, const char *target);

/* The record of a path that was acted on; NULL: there is none. */
struct seen *server_seen_find(struct stage_server *server, const char *path, size_t length);

/* ---- HTTP/2: stage_sim_h2.c ---- */

/* On a connection that has begun with HTTP/2's preface, or agreed on it in its handshake. */
struct h2_conn *h2_conn_new(struct stage_server *server, struct conn *conn);
void h2_conn_free(struct h2_conn *h2); /* NULL is nothing */

/* The connection has ended: nothing happens on it any more. */
void h2_conn_stop(struct h2_conn *h2);

/* Go on with received bytes. May close the connection. */
void h2_conn_feed(struct h2_conn *h2, const char *bytes, size_t size);

/* The gate was opened. */
void h2_conn_release(struct h2_conn *h2, const struct gate *gate);
uint64_t h2_conn_held(const struct h2_conn *h2, const struct gate *gate);
bool h2_conn_is_idle(const struct h2_conn *h2);

#endif
