/* world.h: what a cause is played in: a server, some actors, the requests that are judged, and the
 * solution that says how an actor's requests are sent.
 *
 * An *actor* is a runtime with a thread of its own. A current-thread actor moves only while its
 * thread drives it; between two orders the thread is parked. The roles:
 *
 *   A   the first user of the client. What a cause does, it does to A: A stops driving its runtime,
 *       or drops it. `busy` is different: there the runtime that does the I/O *for* A is stuck in
 *       user code: A's own, or, under single-runtime, proxy and channel, the owner's.
 *   B   the one whose requests are judged.
 *
 * The runtimes that a solution owns live as long as the world and are never parked or dropped.
 *
 * A set-up step that fails makes the world *failed*: what is still to come does nothing, and the
 * run is reported as broken. So a cause reads straight down, without branches.
 *
 * Threads: the functions say; the main thread is the one in world_play. */
#ifndef LAB_WORLD_H
#define LAB_WORLD_H

#include <stdatomic.h>

#include "interloop/client.h"
#include "lab/peer.h"
#include "lab/result.h"
#include "lab/stage.h"

struct world;
struct actor;
struct judged;
struct monitor;

#define WORLD_ACTORS_MAX  8
#define WORLD_JUDGED_MAX  48
#define WORLD_STEP_MS     10000 /* a set-up step that takes longer has failed */
#define WORLD_NAME_SIZE   RESULT_NAME_SIZE
#define WORLD_PATH_SIZE   64
#define WORLD_TARGET_SIZE 160

/* ---- the two things that are combined ---- */

struct cause {
    const char *name;
    const char *summary;               /* one line for lists */
    const char *story;                 /* a paragraph for `explain` */
    uint32_t idle_per_host_max;        /* of every client; 0: the client's default */
    uint32_t answering_max;            /* of the server; 0: no limit */
    uint32_t connections_per_host_max; /* of every client; 0: no limit */
    uint32_t unread_timeout_ms;        /* of every client; 0: the client's default */
    enum peer_kind peer; /* whose pool all solutions have but the one with our defaults */
    unsigned io_workers; /* of a runtime that does the I/O for everybody; 0: one */
    bool is_http2;       /* the clients speak it; in clear by prior knowledge; else 1.1 */
    bool hands_over;     /* every runtime does, also one that moves in il_block_on only */
    const struct cause *with_hand_over; /* the same, with hands_over; NULL: there is none */
    bool has_tables;                    /* the monitor shows tables of requests and connections */
    bool is_unjudged;                   /* it judges for itself: no monitor, no judged requests */
    void (*run)(struct world *world);
};

struct solution {
    const char *name;
    const char *summary;
    enum il_driver driver; /* of every client in it */
    bool is_whole;         /* it brings responses whole, also when they were to be streamed */
    bool is_plain;         /* nothing but clients, which may be used from anywhere as they are */
    bool has_defaults;     /* of runtimes, too; else they hand over only if the cause wants it */
    bool is_own;           /* each actor has a client, and a pool, of its own */

    /* Make what it needs in world->solution_state. Main thread, before there are actors. */
    enum il_code (*open)(struct world *world, struct il_error *err);

    /* Free it. Main thread, after the actors are gone. */
    void (*close)(struct world *world);

    /* Send a request for `actor`. In a task of the actor's runtime. As il_send and, when
     * `is_streaming`, il_send_streaming. */
    enum il_code (*send)(struct world *world, struct actor *actor, const struct il_request *request,
                         bool is_streaming, struct il_response **ret_response,
                         struct il_error *err);

    /* The runtime that does the I/O for this actor. Borrowed. Any thread. */
    struct il_runtime *(*io_runtime)(struct world *world, struct actor *actor);

    /* An actor has come, and is about to go; may be NULL. Main thread, or the actor's. */
    enum il_code (*on_actor)(struct world *world, struct actor *actor, struct il_error *err);
    void (*on_actor_end)(struct world *world, struct actor *actor);
};

#define WORLD_PARTS_MAX 128

struct world_options {
    uint64_t limit_ms; /* for each request */
    bool has_tls;      /* over https */
    uint64_t hold_ms; /* leave the first request that is proven to be stuck so for so long; 0: no */

    /* Called when that begins, by the monitor's thread. NULL if hold_ms is 0. */
    void (*on_held)(const struct world *world, const struct judged *judged);

    /* ---- for the general workload ---- */
    uint64_t seed;
    bool is_lively;                         /* the faults stop, and all must come to its end */
    uint64_t without[WORLD_PARTS_MAX / 64]; /* bit i: leave step i of the plan out */
};

/* ---- actors ---- */

enum actor_order {
    ACTOR_RUN,          /* il_block_on */
    ACTOR_RUN_AND_DROP, /* and drop the runtime as soon as that is over */
    ACTOR_DROP,
    ACTOR_END,
};

struct actor {
    struct world *world;
    char name[WORLD_NAME_SIZE];
    enum il_runtime_kind kind;
    struct il_runtime *runtime; /* NULL once dropped; changed by the actor's thread only */
    _Atomic bool is_parked;     /* its thread waits for an order */
    void *solution_slot;        /* for the solution */

    struct stage_thread *thread;
    struct stage_event *has_order, *is_done;
    enum actor_order order; /* and what belongs to it: written while the thread is parked */
    il_task_fn *run;
    void *arg;

    struct stage_event *is_driving;
    struct il_task *drive_task; /* of actor_drive */
};

/* Main thread, all of them. */

/* Never NULL; in a failed world it obeys no orders. Ends with the world. */
struct actor *world_actor(struct world *world, const char *name, enum il_runtime_kind kind,
                          unsigned worker_count);

/* Have the actor's thread do il_block_on(run, arg); the second waits for the end of it. */
void actor_start(struct actor *actor, il_task_fn *run, void *arg);
void actor_wait(struct actor *actor);

/* As actor_start, and drop the runtime at once when it is over. */
void actor_start_and_drop(struct actor *actor, il_task_fn *run, void *arg);

/* Drive the runtime until actor_park. A current-thread actor that is parked does nothing. */
void actor_drive(struct actor *actor);
void actor_park(struct actor *actor);

/* Drop the actor's runtime, on its own thread. It must be parked. */
void actor_drop(struct actor *actor);

/* The end of all actors; their runtimes are dropped. */
void world_end_actors(struct world *world);

/* ---- requests that are judged ---- */

struct ask {
    const char *query; /* added to the path: "hold=x"; NULL: nothing */
    bool is_post;      /* not to be sent twice, as a GET may be */
    uint64_t bytes;    /* so many of the pattern, streamed; 0: a token, whole */
    bool is_whole;     /* `bytes` not streamed, but brought whole */
    uint64_t middle;   /* when that many have been read, `on_middle` is set */
    uint32_t due_ms;   /* how long the server itself takes over it */
    struct stage_event *on_middle;
    bool is_aside;          /* it belongs to the story: how it ends is not judged */
    struct judged *cancels; /* cancelled as soon as the answer is there: it was asked for twice */
};

struct judged {
    struct world *world;
    struct actor *actor;
    unsigned index;
    char name[WORLD_NAME_SIZE];
    char path[WORLD_PATH_SIZE];
    char target[WORLD_TARGET_SIZE];
    char token[WORLD_NAME_SIZE];
    struct ask ask;
    struct il_task *task; /* once started */

    /* ---- its task ---- */
    uint64_t started_ns, done_ns;
    enum il_code code;
    struct il_error error;
    int status;
    bool is_right;    /* the answer is what was asked for */
    char answer[112]; /* what came, for people */
    uint64_t connection_id;

    /* ---- world->mutex ---- */
    bool is_begun, is_done;
    enum lab_verdict verdict; /* valid once is_done */
    enum il_verdict proven;   /* what the monitor has proof of */
    bool has_relented;        /* starved, and the user code was made to return */
    uint64_t relented_ns;
    struct il_watch_request look; /* the last one; link_count 0: none */
    uint64_t still_since_ns;      /* since when all looks are the same */
    unsigned still_count;         /* how many were */
    enum il_phase phase;          /* at the last look */
};

/* A request to be sent for `actor`. Never NULL. Main thread, or a task of the actor's. */
struct judged *world_ask(struct world *world, struct actor *actor, const struct ask *ask);

/* Start it as a task of the actor's runtime, which must be driven; wait for its end. Any thread,
 * also in a task. */
void judged_start(struct judged *judged);
void judged_wait(struct judged *judged);

/* Both, for tasks. */
void judged_run(struct judged *judged);

/* Start it inside an il_block_on of the actor's own thread; actor_wait waits for it. Main thread.
 */
void judged_start_alone(struct judged *judged);

/* Wait until the records say that the request is in this phase, or is over. Main thread. */
void judged_wait_phase(struct judged *judged, enum il_phase phase);

/* Wait until the monitor has seen the request on its way, or it is over. Main thread. */
void judged_wait_looked(struct judged *judged);

/* ---- the world ---- */

/* Set-up requests. */
struct fetch {
    struct world *world;
    struct actor *actor;
    unsigned first, count; /* how many there were before, and are now */
    _Atomic unsigned next;
    char gate[WORLD_NAME_SIZE];
};

struct world {
    const struct cause *cause;
    const struct solution *solution;
    struct world_options options;
    struct result *result;     /* world->mutex */
    struct timeline *timeline; /* likewise */
    uint64_t started_ns;
    struct stage_mutex *mutex;
    struct stage_server *server;
    struct il_tls *tls; /* NULL: http */
    void *solution_state;
    struct peer *peers[WORLD_ACTORS_MAX]; /* one for all, or one for each actor; NULL: none */
    _Atomic bool is_failed;

    /* Set when a request was proven to be starved: whoever blocks user code, may stop. */
    struct stage_event *relent;

    unsigned actor_count; /* main thread */
    struct actor actors[WORLD_ACTORS_MAX];
    _Atomic unsigned judged_count;
    struct judged judged[WORLD_JUDGED_MAX];
    struct fetch fetch; /* the last set-up requests */
    struct monitor *monitor;
};

/* Play one cause under one solution, from nothing to nothing, and fill `result` and `timeline`. The
 * calling thread must not be in a task. */
void world_play(const struct cause *cause, const struct solution *solution,
                const struct world_options *options, struct result *result,
                struct timeline *timeline);

/* Send a request for `actor`, by the solution. In a task of the actor's runtime. `path`: of the
 * request, by which the monitor finds it. */
enum il_code world_send(struct world *world, struct actor *actor, const struct il_request *request,
                        const char *path, bool is_streaming, struct il_response **ret_response,
                        struct il_error *err);

/* A request that waits in the pool of another kind of client. False: it does not. */
bool world_look_at_peers(struct world *world, const char *path, struct il_watch_request *ret_row);

/* "http" or "https". */
const char *world_scheme(const struct world *world);

/* A request to the world's server; what it asks for is put together as printf does. */
enum il_code world_request_new(const struct world *world, const char *method,
                               struct il_request **ret_request, struct il_error *err,
                               const char *format, ...) IL_PRINTF(5, 6);

/* Fill a client's options as the cause and the solution want them. Any thread. */
void world_client_options(const struct world *world, const char *name,
                          struct il_client_options *ret_options);

/* The same for a runtime's options: how it hands over. Any thread. */
void world_runtime_options(const struct world *world, const char *name, enum il_runtime_kind kind,
                           struct il_runtime_options *ret_options);

/* After how long in user code a runtime's loops are handed over. */
uint64_t world_hand_over_ms(const struct world *world);

/* Set-up: the actor fetches `count` answers at the same time, so that as many connections are open
 * afterwards, and idle; its thread drives it meanwhile, and is parked when this returns. */
void world_fetch(struct world *world, struct actor *actor, unsigned count);

/* The same in two halves: when the first returns, the requests have reached the server, which does
 * not answer yet. */
void world_fetch_begin(struct world *world, struct actor *actor, unsigned count);
void world_fetch_end(struct world *world, struct actor *actor);

/* An event for the timeline; any thread, in a task or not. */
__attribute__((format(printf, 2, 3))) void world_note(struct world *world, const char *format, ...);

/* Something for the run's note. */
__attribute__((format(printf, 2, 3))) void world_remark(struct world *world, const char *format,
                                                        ...);

/* The run cannot be carried out, or has left something behind. The first one counts. */
__attribute__((format(printf, 2, 3))) void world_fail(struct world *world, const char *format, ...);

/* Fail, saying what was to be done, unless `is_done`. */
void world_need(struct world *world, bool is_done, const char *what);
bool world_is_failed(const struct world *world);

/* ---- the monitor (monitor.c) ---- */

/* Start looking at the requests that are begun; stop. Main thread. */
bool monitor_start(struct world *world);
void monitor_stop(struct world *world);

/* ---- judging (judged.c) ---- */

/* Sum the requests up into the result. Main thread, when all are over. */
void judged_sum_up(struct world *world);

#endif
