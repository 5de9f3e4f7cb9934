/* watch.h: who waits for whom: every request under way, and why it does not get on.
 *
 * A request that takes long is not diagnosed by the clock but by following what it waits for: the
 * request waits for a connection, the connection for the loop that drives it, the loop for a
 * thread. Where that chain ends decides:
 *
 *     IL_VERDICT_LIVE      at somebody who acts: the network, a loop that polls; at worst slow
 *     IL_VERDICT_STARVED   at a party stuck in user code: it goes on if that code returns
 *     IL_VERDICT_HUNG      at something that will never act by itself: a runtime that nobody
 *                          drives, one that is gone
 *
 * What the records say is checked against the kernel: bytes that lie unread in the socket, bytes
 * that were never written, what the thread is doing. Each look is a snapshot; a chain that is the
 * same, with the same stamp, in two looks some time apart has stood still in between. */
#ifndef INTERLOOP_WATCH_H
#define INTERLOOP_WATCH_H

#include "interloop/client.h"

#ifdef __cplusplus
extern "C" {
#endif

enum il_verdict {
    IL_VERDICT_LIVE,
    IL_VERDICT_STARVED,
    IL_VERDICT_HUNG,
};

/* "live", "starved", "hung". Static. Thread: any. Since 0.1. */
IL_API const char *il_verdict_name(enum il_verdict verdict);

/* One step of a chain: `who` waits, or is waited for, in this state since so long. */
struct il_watch_link {
    char what[16];  /* "request", "proxy", "pool", "opening", "connection", "window", "socket",
                     * "response", "place", "loop", "task", "thread" */
    char who[64];   /* which one: "GET /x", "connection 3 to 127.0.0.1:80", "loop 'A'" */
    char state[32]; /* "queued", "unread response", "not driven", "in user code", "polling", ... */
    uint64_t since_ms; /* how long it has been so; 0 if not known */
    char detail[160];  /* a sentence */
};

#define IL_WATCH_LINKS_MAX 10

struct il_watch_request {
    uint64_t id;     /* unique in the process */
    char client[32]; /* or the name of the proxy or channel that it was given to */
    char method[16]; /* cut if longer */
    char host[64];   /* cut if longer */
    uint16_t port;
    char path[96];   /* without the query; cut if longer */
    char waiter[48]; /* "task 'fetch' on runtime 'B'", "thread 1234", "callback on 'B'" */
    enum il_phase phase;
    uint64_t age_ms;        /* since it was started */
    uint64_t phase_ms;      /* in this phase */
    uint64_t connection_id; /* 0: none yet */
    enum il_verdict verdict;
    uint64_t stamp; /* changes when anything on the chain makes progress */
    unsigned link_count;
    struct il_watch_link links[IL_WATCH_LINKS_MAX];
};

/* Look at every request of the process that is under way, those that lie with a proxy or a channel
 * service included. Fills at most `count_max` and says in `ret_count` how many there are, which may
 * be more. Takes no longer than a few locks held briefly, one after the other, and a few system
 * calls for each request; runs no user code. Thread: any, outside of the library or in a task.
 * Since 0.1. */
IL_API enum il_code il_watch_requests(struct il_watch_request *requests, size_t count_max,
                                      size_t *ret_count);

struct il_watch_connection {
    uint64_t id;
    char client[32];
    char host[64];
    uint16_t port;
    uint16_t local_port;
    char state[24];  /* "idle", "driven", "with a response", "bound" */
    char driver[32]; /* the loop that drives it, or that it rests or is bound with; "" if none */
    uint64_t since_ms;
    uint32_t bytes_unread; /* received by the kernel, read by nobody */
    uint32_t bytes_unsent; /* not acknowledged by the server */
};

/* Every open connection of every client. As il_watch_requests. Thread: any. Since 0.1. */
IL_API enum il_code il_watch_connections(struct il_watch_connection *connections, size_t count_max,
                                         size_t *ret_count);

struct il_watch_loop {
    uint64_t id;
    char name[32];
    char runtime[32]; /* "" for the private loop of a plain thread */
    char state[24];   /* "polling", "running", "in user code", "not driven", "ended" */
    uint64_t since_ms;
    int thread_id;   /* kernel id of the thread that holds it, or held it last; 0: none yet */
    char thread[96]; /* what it does, says the kernel: "is 'A' and sleeps in futex_do_wait" */
    uint32_t task_count;
    uint64_t turn_count;      /* grows while the loop makes progress */
    uint64_t take_over_count; /* how often another thread had to take it from a stuck one */
    bool is_handed_over;      /* a spare thread stands in for its own */
    uint32_t away_task_count; /* tasks in user code that lost the loop, and have not come back */
    uint64_t stuck_ns_total;  /* in user code that lost it, and has come back */
    uint64_t stuck_ns_max;
};

/* Every loop of the process. As il_watch_requests. Thread: any. Since 0.1. */
IL_API enum il_code il_watch_loops(struct il_watch_loop *loops, size_t count_max,
                                   size_t *ret_count);

/* What the library still holds. When all is over, every number is what it was before. */
struct il_watch_totals {
    uint64_t clients, calls, connections, runtimes, loops, tasks;
    uint64_t allocations; /* live blocks of memory */
    uint64_t bytes;       /* in them */
};

/* Thread: any. Since 0.1. */
IL_API void il_watch_totals(struct il_watch_totals *ret_totals);

/* The threads of the whole process that stand in for stuck ones, and those of il_spawn_blocking. */
struct il_watch_threads {
    uint64_t hand_over_count; /* since the process began, as the two below */
    uint64_t announced_count; /* of those, by il_block_in_place */
    uint64_t refused_count;   /* stuck code for which there was no spare thread at first */
    uint32_t spare_count, spare_busy_count, spare_count_max;
    uint32_t blocking_count, blocking_busy_count, blocking_count_max, blocking_queued_count;
};

/* Thread: any. Since 0.1. */
IL_API void il_watch_threads(struct il_watch_threads *ret_threads);

#ifdef __cplusplus
}
#endif
#endif
