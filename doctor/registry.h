/* registry.h: what a process that uses interloop says of itself: its requests, connections, loops.
 *
 * Read out of its memory by way of the tables that base/shown.h describes, twice: when the look
 * begins and when it ends. What is the same in both has stood still in between. */
#ifndef DOCTOR_REGISTRY_H
#define DOCTOR_REGISTRY_H

#include <sys/types.h>

#include "base/base.h"

struct look;

#define REGISTRY_REQUESTS_MAX 1024u
#define REGISTRY_CONNS_MAX    4096u
#define REGISTRY_LOOPS_MAX    1024u

struct seen_request {
    uint64_t id;
    bool is_handed; /* to a desk: a single, a proxy, a service; `id` is the ticket's */
    char client[32], method[16], host[64], path[96]; /* of the path, no query */
    uint16_t port;
    int phase; /* enum il_phase; of a handed one enum shown_ticket_state */
    uint64_t phase_since_ns, started_ns;
    char waiter[112]; /* "task 'x' on runtime 'R'", "thread 12", "a callback on loop 'L'" */
    uint64_t client_address;
    uint64_t home_loop_id;     /* where its result is wanted; of a handed one where it lies, or 0 */
    uint64_t conn_id, task_id; /* 0: none */
    char desk_kind[16], owner[32];
    bool stood; /* nothing about it has changed while we looked */
};

struct seen_conn {
    uint64_t id, client_address;
    int fd;
    char host[64];
    uint16_t port;
    uint64_t loop_id; /* that drives it; 0: it rests */
    bool is_idle, is_exchanging, is_bound;
    bool is_window_used_up;   /* HTTP/2: the server may send no body; at both readings */
    uint64_t hoarder_loop_id; /* for which a body came last that lies unread */
};

struct seen_loop {
    uint64_t id, address;
    char name[32], runtime[32];
    char task[32]; /* that runs on it now */
    bool is_thread_loop, is_current_thread, is_polling;
    int hold; /* enum shown_hold */
    uint64_t since_ns, turn_count;
    pid_t kernel_thread; /* holds it, or held it last; as the target's own namespace counts */
    int epoll_fd;
    bool stood; /* it has made no turn, and nobody took hold of it, while we looked */
};

struct registry_shot {
    uint32_t request_count, conn_count, loop_count;
    struct seen_request *requests;
    struct seen_conn *conns;
    struct seen_loop *loops;
    bool is_torn; /* the lists changed while they were read, each time */
    bool is_cut;  /* there was more than the maxima */
};

struct seen_registry; /* where it lies: registry_find.c */

/* Find the tables, and read them for the first time. Nothing if there are none. */
void registry_begin(struct look *look);

/* Read them again, and compare. */
void registry_end(struct look *look);
void registry_deinit(struct look *look);

/* The latest shot; NULL when the process does not use interloop. */
const struct registry_shot *registry_shot(const struct look *look);

const struct seen_loop *registry_loop(const struct look *look, uint64_t id);         /* or NULL */
const struct seen_loop *registry_loop_of_set(const struct look *look, uint32_t set); /* or NULL */
const struct seen_conn *registry_conn(const struct look *look, uint64_t id);         /* or NULL */

/* Whose threads hold a loop, and what they do there. judge_registry.c */
void registry_recognise_threads(struct look *look);

/* "loop 'A' of current-thread runtime 'A'" */
void registry_label_loop(const struct seen_loop *loop, char *ret_text, size_t size);

/* "GET /id/1 of client 'c': task 'x' on runtime 'R' waits, phase first-byte" */
void registry_label_request(const struct seen_request *request, char *ret_text, size_t size);

/* ---- registry_find.c ---- */

struct registry_tables;

/* NULL: the process has none that we can read. The caller frees it. */
struct registry_tables *registry_find(struct look *look);
uint64_t registry_root(const struct registry_tables *tables, unsigned kind);
uint32_t registry_offset(const struct registry_tables *tables, unsigned kind, unsigned field);

#endif
