/* lane.h: one runtime of a run, and the tasks on it that send the requests.
 *
 * A task sends one request after another, so it is one connection at most. In a closed loop it
 * starts the next when it has the answer; in an open loop it first takes a permit, of which the
 * clock gives one for each request that is due.
 *
 * Threads: the run's, but for what is in `plan`, which the tasks share. */
#ifndef LOAD_LANE_H
#define LOAD_LANE_H

#include <interloop/client.h>
#include <interloop/sync.h>

#include "options.h"
#include "tally.h"

#define LANE_BUFFER_SIZE ((size_t)64 * 1024) /* one read asks for as much */

/* What the run waits for. The library's own waits count in milliseconds; the clock of an open loop
 * must do better. */
struct finish {
    pthread_mutex_t mutex; /* a leaf; nothing is called under it */
    pthread_cond_t changed;
    bool is_finished; /* with mutex held */
};

/* When requests may start, for all lanes. Written by the run, before the start unless atomic. */
struct plan {
    const struct bench_options *options;
    uint64_t start_ns;
    uint64_t measure_ns;           /* those due earlier are warm-up */
    double interval_ns;            /* open loop: from one request to the next; else 0 */
    uint64_t warm_up_count;        /* open loop: requests that are due before measure_ns */
    _Atomic uint64_t end_ns;       /* none is due from then on */
    _Atomic uint64_t tickets;      /* closed loop: of the requests that count, taken so far */
    _Atomic bool is_over;          /* none is started any more */
    _Atomic bool is_reached;       /* a connection was opened: somebody is there */
    _Atomic uint64_t unreached;    /* attempts that could not connect, until then */
    struct il_error unreached_err; /* of the first; to be read when the lanes have ended */
    _Atomic uint64_t tasks;        /* that have not ended */
    struct finish finish;          /* the last task has ended, or nobody could connect */
};

void finish_init(struct finish *finish);
void finish_deinit(struct finish *finish);
void finish_post(struct finish *finish);                       /* Thread: any. */
bool finish_wait(struct finish *finish, uint64_t deadline_ns); /* False: not by then. */

struct lane {
    struct plan *plan;
    unsigned index;
    struct il_runtime *runtime;
    struct il_client *client;
    struct il_request *request;
    struct il_semaphore *permits; /* closed loop: to begin; open loop: for each that is due */
    uint64_t task_count;
    uint64_t posted;            /* open loop: permits that the clock has given */
    _Atomic uint64_t in_flight; /* requests */
    _Atomic uint64_t next;      /* open loop: of this lane's requests, the one to be started next */
    struct tally tally;
    char waste[LANE_BUFFER_SIZE]; /* where bodies go; nobody reads it, so the tasks share it */
};

/* Make the lane with `task_count` tasks, which wait for its first permits. Refers to `client`. On
 * failure what was made is ended by lane_deinit, as after success. */
enum il_code lane_init(struct lane *lane, struct plan *plan, unsigned index, uint64_t task_count,
                       struct il_client *client, struct il_error *err);

/* Let `count` tasks go on. Never waits. */
void lane_post(struct lane *lane, uint64_t count);

/* End the tasks and the runtime at once, and count what has been left undone. */
void lane_end(struct lane *lane);
void lane_deinit(struct lane *lane);

/* Open loop. When the request with this number, of all lanes, is due; and how many of all are due
 * by `now_ns`, of those that shall ever be. */
uint64_t plan_due_ns(const struct plan *plan, uint64_t number);
uint64_t plan_count_due(const struct plan *plan, uint64_t now_ns);

/* How many of the first `count` requests are this lane's. */
uint64_t lane_share(const struct lane *lane, uint64_t count);

#endif
