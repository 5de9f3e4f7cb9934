/* explore_series.c: plays many runs, in as many processes as there are jobs.
 *
 * A worker takes the next seed, plays it, writes down what came of it, and goes on. When a run has
 * left its process in the middle of something, or killed it, the parent starts another worker.
 *
 * Owns: the memory that parent and workers share; the workers. Threads: one in each process.
 * Ends: when all seeds are played, or at the first finding; every worker ends by itself then. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lab/explore.h"
#include "lab/explore_child.h"

#define SERIES_LOOK_MS     200
#define WORKER_EXIT_BROKEN 86 /* a run has left this process in the middle of something */
#define NS_PER_MS          1000000u

/* What a worker plays at the moment. */
struct slot {
    _Atomic bool is_playing;
    _Atomic uint64_t seed, since_ns;
    struct explore_outcome outcome;
};

/* Which interleavings have been seen: a table of hashes, twice as large as it can become full. */
struct shared {
    struct explore_series series;
    _Atomic uint64_t next; /* seeds handed out */
    _Atomic bool is_stopped;
    _Atomic uint64_t played, virtual_ns, fault_count, step_count, switch_count, interleaving_count;
    _Atomic size_t finding_count;
    struct explore_finding findings[EXPLORE_FINDINGS_MAX];
    struct slot slots[EXPLORE_JOBS_MAX];
    uint64_t table_mask;
    _Atomic uint64_t *table;
};

struct worker_arg {
    struct shared *shared;
    struct slot *slot;
};

void *explore_share(size_t size)
{
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

void explore_unshare(void *memory, size_t size)
{
    if (memory != NULL) {
        (void)munmap(memory, size);
    }
}

/* ---- writing down ---- */

static void note_interleaving(struct shared *shared, uint64_t hash)
{
    hash += hash == 0; /* 0 is an empty place */
    for (uint64_t at = hash & shared->table_mask;; at = (at + 1) & shared->table_mask) {
        uint64_t seen = 0;

        if (atomic_compare_exchange_strong(&shared->table[at], &seen, hash)) {
            atomic_fetch_add(&shared->interleaving_count, 1);
            return;
        }
        if (seen == hash) {
            return;
        }
    }
}

static void note_sums(struct shared *shared, const struct explore_outcome *outcome)
{
    uint64_t fault_count = 0;

    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        fault_count += outcome->report.fault_counts[i];
    }
    atomic_fetch_add(&shared->fault_count, fault_count);
    atomic_fetch_add(&shared->virtual_ns, outcome->report.virtual_ns);
    atomic_fetch_add(&shared->step_count, outcome->report.step_count);
    atomic_fetch_add(&shared->switch_count, outcome->report.switch_count);
    atomic_fetch_add(&shared->played, 1);
    note_interleaving(shared, outcome->report.interleaving_hash);
}

static void note_finding(struct shared *shared, uint64_t seed,
                         const struct explore_outcome *outcome)
{
    size_t index = atomic_fetch_add(&shared->finding_count, 1);
    struct explore_run run = explore_run_of(&shared->series.choice, seed);

    if (!shared->series.collects) {
        atomic_store(&shared->is_stopped, true);
    }
    if (index < EXPLORE_FINDINGS_MAX) {
        struct explore_finding *finding = &shared->findings[index];

        finding->seed = seed;
        finding->kind = outcome->kind;
        finding->mode = run.mode;
        finding->cause = run.cause;
        finding->trace_hash = outcome->report.trace_hash;
        memcpy(finding->detail, outcome->detail, sizeof(finding->detail));
    }
}

/* ---- the worker ---- */

static int worker_main(void *arg)
{
    struct worker_arg *worker = arg;
    struct shared *shared = worker->shared;
    struct slot *slot = worker->slot;

    while (!atomic_load(&shared->is_stopped)) {
        uint64_t number = atomic_fetch_add(&shared->next, 1);
        struct explore_run run;
        bool is_broken;

        if (number >= shared->series.count) {
            return 0;
        }
        run = explore_run_of(&shared->series.choice, shared->series.from + number);
        atomic_store(&slot->seed, run.seed);
        atomic_store(&slot->since_ns, il_now_ns());
        atomic_store(&slot->is_playing, true);
        explore_play(&run, NULL, &slot->outcome);
        is_broken = slot->outcome.report.end != SIM_DONE;
        note_sums(shared, &slot->outcome);
        if (slot->outcome.kind != EXPLORE_NOTHING) {
            note_finding(shared, run.seed, &slot->outcome);
        }
        atomic_store(&slot->is_playing, false);
        if (is_broken) {
            _exit(WORKER_EXIT_BROKEN); /* no leak checker: much is left, and has been told */
        }
    }
    return 0;
}

/* ---- the parent ---- */

struct crew {
    struct shared *shared;
    unsigned count;
    struct worker_arg args[EXPLORE_JOBS_MAX];
    struct child children[EXPLORE_JOBS_MAX];
};

static bool crew_start(struct crew *crew, unsigned index)
{
    crew->args[index] = (struct worker_arg){ crew->shared, &crew->shared->slots[index] };
    return child_start(&crew->children[index], worker_main, &crew->args[index]);
}

/* A worker has ended. False: it could not be replaced. */
static bool crew_on_end(struct crew *crew, unsigned index)
{
    struct slot *slot = &crew->shared->slots[index];
    char words[EXPLORE_DETAIL_SIZE];
    int exit_code;

    child_reap(&crew->children[index], &exit_code, words, sizeof(words));
    if (atomic_load(&slot->is_playing)) { /* in the middle of a run */
        slot->outcome.kind = EXPLORE_CRASH;
        memcpy(slot->outcome.detail, words, sizeof(words));
        note_sums(crew->shared, &slot->outcome);
        note_finding(crew->shared, atomic_load(&slot->seed), &slot->outcome);
        atomic_store(&slot->is_playing, false);
    } else if (exit_code == 0) {
        return true;
    } else if (exit_code != WORKER_EXIT_BROKEN) { /* when it had nothing more to play */
        slot->outcome.kind = EXPLORE_LEAK;
        memcpy(slot->outcome.detail, words, sizeof(words));
        note_finding(crew->shared, atomic_load(&slot->seed), &slot->outcome);
    }
    if (atomic_load(&crew->shared->is_stopped) ||
        atomic_load(&crew->shared->next) >= crew->shared->series.count) {
        return true;
    }
    return crew_start(crew, index);
}

/* A run that has not come to its end after minutes of real time. */
static void crew_look_at(struct crew *crew, unsigned index)
{
    struct slot *slot = &crew->shared->slots[index];
    struct child *child = &crew->children[index];

    if (child->pid != 0 && atomic_load(&slot->is_playing) &&
        il_now_ns() - atomic_load(&slot->since_ns) > (uint64_t)EXPLORE_RUN_MS * NS_PER_MS) {
        child_kill(child);
    }
}

/* Wait for something to happen. The number of workers that are left; -1: one could not be
 * replaced. */
static int crew_turn(struct crew *crew)
{
    struct pollfd fds[EXPLORE_JOBS_MAX];
    int left = 0;

    for (unsigned i = 0; i < crew->count; i++) {
        fds[i] = (struct pollfd){ .fd = crew->children[i].end_fd, .events = POLLIN };
    }
    (void)poll(fds, crew->count, SERIES_LOOK_MS); /* interrupted or not: we look at all */
    for (unsigned i = 0; i < crew->count; i++) {
        if (crew->children[i].pid != 0 && fds[i].revents != 0 && !crew_on_end(crew, i)) {
            return -1;
        }
        crew_look_at(crew, i);
        left += crew->children[i].pid != 0;
    }
    return left;
}

static void crew_end(struct crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++) {
        char words[8];
        int exit_code;

        if (crew->children[i].pid != 0) {
            child_kill(&crew->children[i]);
            child_reap(&crew->children[i], &exit_code, words, sizeof(words));
        }
    }
}

static void sums_of(struct shared *shared, uint64_t started_ns, struct explore_sums *sums)
{
    *sums = (struct explore_sums){ .played = atomic_load(&shared->played),
                                   .virtual_ns = atomic_load(&shared->virtual_ns),
                                   .real_ns = il_now_ns() - started_ns,
                                   .fault_count = atomic_load(&shared->fault_count),
                                   .step_count = atomic_load(&shared->step_count),
                                   .switch_count = atomic_load(&shared->switch_count),
                                   .interleaving_count = atomic_load(&shared->interleaving_count),
                                   .finding_count = atomic_load(&shared->finding_count) };
}

/* ---- the series ---- */

static int compare_findings(const void *a, const void *b)
{
    const struct explore_finding *one = a, *other = b;

    return one->seed < other->seed ? -1 : one->seed > other->seed;
}

static bool series_run(struct shared *shared, struct explore_sums *sums)
{
    struct crew crew = { .shared = shared, .count = shared->series.jobs };
    uint64_t started_ns = il_now_ns();
    int left = (int)crew.count;

    for (unsigned i = 0; i < crew.count && left >= 0; i++) {
        left = crew_start(&crew, i) ? left : -1;
    }
    while (left > 0) {
        left = crew_turn(&crew);
        sums_of(shared, started_ns, sums);
        if (shared->series.on_progress != NULL) {
            shared->series.on_progress(shared->series.arg, sums);
        }
    }
    crew_end(&crew);
    return left == 0;
}

static bool fail_errno(struct il_error *err, const char *what)
{
    err->code = IL_ESYS;
    err->sys_errno = errno;
    (void)snprintf(err->message, sizeof(err->message), "%s: %s", what, strerror(errno));
    return false;
}

bool explore_play_series(const struct explore_series *series, struct explore_sums *sums,
                         struct explore_finding *findings, struct il_error *err)
{
    struct shared *shared = explore_share(sizeof(*shared));
    uint64_t table_count = 1024;
    bool is_played;
    size_t kept;

    while (table_count < series->count * 2) {
        table_count *= 2;
    }
    if (shared != NULL) {
        shared->table = explore_share(table_count * sizeof(*shared->table));
    }
    if (shared == NULL || shared->table == NULL) {
        explore_unshare(shared, sizeof(*shared));
        return fail_errno(err, "map memory for the results");
    }
    shared->table_mask = table_count - 1;
    shared->series = *series;
    is_played = series_run(shared, sums);
    if (!is_played) {
        (void)fail_errno(err, "start a process for the runs");
    }
    kept = sums->finding_count < EXPLORE_FINDINGS_MAX ? sums->finding_count : EXPLORE_FINDINGS_MAX;
    memcpy(findings, shared->findings, kept * sizeof(*findings));
    qsort(findings, kept, sizeof(*findings), compare_findings);
    explore_unshare(shared->table, table_count * sizeof(*shared->table));
    explore_unshare(shared, sizeof(*shared));
    return is_played;
}
