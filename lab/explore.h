/* explore.h: `interloop explore`: the causes and the general workload, played in the simulated
 * world (sim/sim.h) under as many schedules as one likes.
 *
 * A *run* is one cause under one solution in one mode with one seed; nothing else decides what
 * happens in it. A *finding* is a run that did not come out as it should.
 *
 * Modes. *safety*: faults throughout; nothing may crash, no answer be wrong, nothing be left, each
 * request be over once. *liveness*: only what delays, or faults that stop at some time; every
 * request must then be answered.
 *
 * Threads: one, in every process: runs are played in child processes. */
#ifndef LAB_EXPLORE_H
#define LAB_EXPLORE_H

#include <stdio.h>

#include "lab/catalogue.h"
#include "sim/sim.h"

/* The command; as reproduce_main. Returns 0: no finding, 1: a finding, 2, 3. */
int explore_main(int argc, char **argv);

/* ---- what is played ---- */

#define EXPLORE_SPANS_MAX 64

enum explore_mode {
    EXPLORE_SAFETY,
    EXPLORE_LIVENESS,
    EXPLORE_BOTH, /* of a choice: each seed has one of them */
};

const char *explore_mode_name(enum explore_mode mode); /* Static. */

struct explore_run {
    const struct cause *cause;
    const struct solution *solution;
    enum explore_mode mode;
    uint64_t seed;

    /* ---- what a shrinker has taken out ---- */
    uint64_t without[WORLD_PARTS_MAX / 64]; /* steps of the general workload */
    struct sim_span calm[EXPLORE_SPANS_MAX];
    size_t calm_count;
};

/* Several runs: a cause or a mode that is not given is chosen by the seed. */
struct explore_choice {
    const struct cause *cause; /* NULL: all */
    const struct solution *solution;
    enum explore_mode mode;
};

struct explore_run explore_run_of(const struct explore_choice *choice, uint64_t seed);

/* The causes in the order of the catalogue, then the general workload; NULL after the last. */
const struct cause *explore_cause_at(unsigned index);

/* ---- one run ---- */

enum explore_kind {
    EXPLORE_NOTHING,
    EXPLORE_BROKEN,   /* the run could not be carried out, and no fault explains it */
    EXPLORE_ERROR,    /* a request failed, and no fault explains it */
    EXPLORE_STARVED,  /* a request waits for user code */
    EXPLORE_LEAK,     /* something was left */
    EXPLORE_LIVELOCK, /* everybody runs, and nothing comes about */
    EXPLORE_HANG,     /* a request, or the whole run, does not come to its end */
    EXPLORE_WRONG,    /* a wrong answer, something twice */
    EXPLORE_CRASH,
};

const char *explore_kind_name(enum explore_kind kind);    /* "hang". Static. */
const char *explore_kind_meaning(enum explore_kind kind); /* Static. */

#define EXPLORE_DETAIL_SIZE 900
#define EXPLORE_RUN_MS      120000 /* real time: beyond, a run does not even pass a door any more */

/* All that a run leaves behind; plain data. */
struct explore_outcome {
    enum explore_kind kind;
    char detail[EXPLORE_DETAIL_SIZE];
    struct sim_report report;
    struct result result;
    struct timeline timeline;
};

/* What happened, as far as there is room. */
struct explore_events {
    size_t count, count_max; /* how many there were, and are kept */
    struct sim_event at[];
};

/* Play it here. `events` may be NULL. When it does not end as it should (report.end), this process
 * can play no other. */
void explore_play(const struct explore_run *run, struct explore_events *events,
                  struct explore_outcome *outcome);

/* Play it in a child process, which may crash or never come to its end. The outcome lies in shared
 * memory that the caller has made. With `events` (shared memory, too) what happened is kept, up to
 * the crash. False: no process could be started. */

bool explore_play_apart(const struct explore_run *run, struct explore_events *events,
                        struct explore_outcome *outcome);

/* Memory that children share with us, zeroed. NULL: none is to be had. */
void *explore_share(size_t size);
void explore_unshare(void *memory, size_t size);

/* ---- many runs ---- */

#define EXPLORE_JOBS_MAX     256
#define EXPLORE_SEEDS_MAX    100000000
#define EXPLORE_FINDINGS_MAX 1000

struct explore_finding {
    uint64_t seed;
    enum explore_kind kind;
    enum explore_mode mode;
    const struct cause *cause; /* the same address in parent and child */
    uint64_t trace_hash;
    char detail[EXPLORE_DETAIL_SIZE];
};

struct explore_sums {
    uint64_t played, virtual_ns, real_ns, fault_count, step_count, switch_count;
    uint64_t interleaving_count; /* different ones */
    size_t finding_count;        /* may be more than are kept */
};

typedef void explore_progress_fn(void *arg, const struct explore_sums *sums);

struct explore_series {
    struct explore_choice choice;
    uint64_t from, count;
    unsigned jobs;
    bool collects; /* goes on after a finding */
    explore_progress_fn *on_progress;
    void *arg;
};

/* Play them. `findings` has room for EXPLORE_FINDINGS_MAX and comes back in order of the seeds.
 * False: the machine refused (`err`). */
bool explore_play_series(const struct explore_series *series, struct explore_sums *sums,
                         struct explore_finding *findings, struct il_error *err);

/* ---- one run, for people ---- */

/* Play it, print what happened. Returns the exit status. */
int explore_replay(const struct explore_run *run, bool is_json, bool is_verbose);

/* Leave out of a run that has a finding whatever it does not need; prints what is left, and how to
 * replay it. Returns the exit status. */
int explore_shrink(const struct explore_run *run);

/* Begin an object with what findings have in common; the caller ends it. */
struct json;
void explore_put_finding_json(struct json *json, const char *name, uint64_t seed,
                              enum explore_kind kind, const char *detail, uint64_t trace_hash);

/* The command line that replays a run. */
void explore_put_command(FILE *out, const struct explore_run *run);

#endif
