/* explore_shrink.c: leaves out of a run whatever its finding does not need.
 *
 * First steps of the general workload, then decisions of the schedule: in a calm span nothing is
 * drawn, threads go on in turn, and no fault happens. Both by halves, as long as something can be
 * left out: what is left fails, and fails no more without any of its parts.
 *
 * Owns: nothing. Threads: one; each trial is a process. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lab/explore.h"
#include "lab/show.h"
#include "lab/words.h"

#define SHRINK_TRIALS_MAX 1500

struct shrink {
    struct explore_run best;
    enum explore_kind kind;
    struct explore_outcome *outcome; /* of the last trial */
    uint64_t decision_count;         /* of the best */
    unsigned trial_count;
    bool is_refused; /* by the machine */
};

/* Does it still fail, and in the same way? Then it is the best so far. */
static bool shrink_try(struct shrink *shrink, const struct explore_run *run)
{
    if (shrink->trial_count == SHRINK_TRIALS_MAX || shrink->is_refused) {
        return false;
    }
    shrink->trial_count++;
    memset(shrink->outcome, 0, sizeof(*shrink->outcome));
    if (!explore_play_apart(run, NULL, shrink->outcome)) {
        shrink->is_refused = true;
        return false;
    }
    if (shrink->outcome->kind != shrink->kind) {
        return false;
    }
    shrink->best = *run;
    shrink->decision_count = shrink->outcome->report.decision_count;
    return true;
}

/* ---- steps of the workload ---- */

static bool step_is_out(const struct explore_run *run, unsigned step)
{
    return (run->without[step / 64] >> step % 64 & 1) != 0;
}

static void shrink_steps(struct shrink *shrink)
{
    for (unsigned size = WORLD_PARTS_MAX / 2; size > 0; size /= 2) {
        for (unsigned from = 0; from < WORLD_PARTS_MAX; from += size) {
            struct explore_run run = shrink->best;
            bool is_new = false;

            for (unsigned i = from; i < from + size; i++) {
                is_new = is_new || !step_is_out(&run, i);
                run.without[i / 64] |= UINT64_C(1) << i % 64;
            }
            if (is_new) {
                (void)shrink_try(shrink, &run);
            }
        }
    }
}

/* ---- decisions ---- */

/* Add [from, to) to the calm spans, which stay in order and apart. False: too many, or nothing new.
 */
static bool run_add_calm(struct explore_run *run, uint64_t from, uint64_t to)
{
    struct sim_span spans[EXPLORE_SPANS_MAX + 1];
    size_t count = 0;

    for (size_t i = 0; i < run->calm_count; i++) {
        if (run->calm[i].from <= from && to <= run->calm[i].to) {
            return false;
        }
    }
    for (size_t i = 0; i < run->calm_count; i++) {
        if (run->calm[i].to < from || run->calm[i].from > to) {
            continue; /* stays as it is, see below */
        }
        from = run->calm[i].from < from ? run->calm[i].from : from;
        to = run->calm[i].to > to ? run->calm[i].to : to;
    }
    for (size_t i = 0; i < run->calm_count && run->calm[i].to < from; i++) {
        spans[count++] = run->calm[i];
    }
    spans[count++] = (struct sim_span){ from, to };
    for (size_t i = 0; i < run->calm_count; i++) {
        if (run->calm[i].from > to) {
            spans[count++] = run->calm[i];
        }
    }
    if (count > EXPLORE_SPANS_MAX) {
        return false;
    }
    memcpy(run->calm, spans, count * sizeof(spans[0]));
    run->calm_count = count;
    return true;
}

static void shrink_decisions(struct shrink *shrink)
{
    struct explore_run run = shrink->best;

    if (run_add_calm(&run, 0, UINT64_MAX) && shrink_try(shrink, &run)) {
        return; /* it needs no decision at all */
    }
    for (uint64_t size = shrink->decision_count / 2; size > 0; size /= 2) {
        for (uint64_t from = 0; from < shrink->decision_count; from += size) {
            bool is_last = from + size >= shrink->decision_count;

            if (shrink->trial_count == SHRINK_TRIALS_MAX) {
                return;
            }
            run = shrink->best;
            if (run_add_calm(&run, from, is_last ? UINT64_MAX : from + size)) {
                (void)shrink_try(shrink, &run);
            }
        }
    }
}

/* ---- the command ---- */

static unsigned steps_out(const struct explore_run *run)
{
    unsigned count = 0;

    for (unsigned i = 0; i < WORLD_PARTS_MAX; i++) {
        count += step_is_out(run, i);
    }
    return count;
}

/* Decisions that are still drawn. */
static uint64_t decisions_left(const struct shrink *shrink)
{
    uint64_t left = shrink->decision_count;

    for (size_t i = 0; i < shrink->best.calm_count; i++) {
        const struct sim_span *span = &shrink->best.calm[i];
        uint64_t to = span->to < shrink->decision_count ? span->to : shrink->decision_count;

        left -= span->from < to ? to - span->from : 0;
    }
    return left;
}

static void shrink_run(struct shrink *shrink)
{
    uint64_t decisions_before;

    shrink->decision_count = decisions_before = shrink->outcome->report.decision_count;
    if (shrink->best.cause == &cause_general) {
        shrink_steps(shrink);
    }
    shrink_decisions(shrink);
    printf("%s\n", explore_kind_name(shrink->kind));
    printf("%u trial%s: %llu of %llu decisions are left", shrink->trial_count,
           lab_plural(shrink->trial_count), (unsigned long long)decisions_left(shrink),
           (unsigned long long)decisions_before);
    if (shrink->best.cause == &cause_general) {
        printf(", %u of %u places for steps are left out", steps_out(&shrink->best),
               WORLD_PARTS_MAX);
    }
    printf(".\nReplay it:\n  ");
    explore_put_command(stdout, &shrink->best);
    printf("\n");
}

int explore_shrink(const struct explore_run *run)
{
    struct shrink shrink = { .best = *run, .outcome = explore_share(sizeof(*shrink.outcome)) };
    int status = 1;

    if (shrink.outcome == NULL || !explore_play_apart(run, NULL, shrink.outcome)) {
        fprintf(stderr, "interloop explore: play the run: %s\n", strerror(errno));
        status = 3;
    } else if (shrink.outcome->kind == EXPLORE_NOTHING) {
        printf("Seed %llu has no finding: there is nothing to shrink.\n",
               (unsigned long long)run->seed);
        status = 0;
    } else {
        shrink.kind = shrink.outcome->kind;
        shrink_run(&shrink);
        if (shrink.is_refused) {
            fprintf(stderr, "interloop explore: start a process for a trial: %s\n",
                    strerror(errno));
            status = 3;
        }
    }
    explore_unshare(shrink.outcome, sizeof(*shrink.outcome));
    return status;
}
