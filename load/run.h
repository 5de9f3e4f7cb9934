/* run.h: one run: so many runtimes, so many tasks on each, requests until the end.
 *
 * Threads: one makes the run, plays it and looks at the result; it is the clock of an open loop,
 * too. Each runtime has a thread of its own. */
#ifndef LOAD_RUN_H
#define LOAD_RUN_H

#include "options.h"
#include "tally.h"

/* How long requests that are under way, or due, at the end of the run are waited for. */
#define RUN_DRAIN_MS 1000

/* What came of it. Holds a tally: end it with run_result_deinit. */
struct run_result {
    bool is_interrupted; /* *should_stop became true */
    struct tally tally;
    uint64_t elapsed_ns; /* of the time that counts */
    uint64_t user_us, system_us;
    uint64_t connections_opened, reuses, moves, retries; /* warm-up included */
};

/* A look at a run that is going on. */
struct run_view {
    bool is_warming_up;
    uint64_t elapsed_ns;       /* of the warm-up, or of the time that counts */
    const struct tally *tally; /* what has come by now */
    uint64_t in_flight;
};

struct run_watcher {
    uint64_t every_ns;
    void (*look)(void *arg, const struct run_view *view);
    void *arg;
    volatile const int *should_stop; /* set by a signal's handler, or by anybody */
};

/* Play it. False: it could not be begun, or nobody could ever connect; `err` says why. Thread: a
 * plain one. */
bool run_play(const struct bench_options *options, const struct run_watcher *watcher,
              struct run_result *ret_result, struct il_error *err);
void run_result_deinit(struct run_result *result);

#endif
