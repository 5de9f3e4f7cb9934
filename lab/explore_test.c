/* A run is decided by its seed: played twice in one process, it is the same. */
#include <stdlib.h>

#include "lab/explore.h"
#include "tests/check.h"

#define SEED_COUNT 60 /* some with TLS */

static struct explore_outcome first, second;

TEST(run_is_the_same_when_it_is_played_again_in_one_process)
{
    struct explore_choice choice = { .solution = &solution_interloop, .mode = EXPLORE_BOTH };

    for (uint64_t seed = 0; seed < SEED_COUNT; seed++) {
        struct explore_run run = explore_run_of(&choice, seed);

        explore_play(&run, NULL, &first);
        CHECK_EQ(first.report.end, SIM_DONE);
        CHECK_EQ(first.kind, EXPLORE_NOTHING);
        explore_play(&run, NULL, &second);
        CHECK_EQ(second.report.trace_hash, first.report.trace_hash);
        CHECK_EQ(second.report.interleaving_hash, first.report.interleaving_hash);
        CHECK_EQ(second.report.step_count, first.report.step_count);
    }
}

TEST(seed_chooses_modes_and_all_causes)
{
    struct explore_choice choice = { .solution = &solution_interloop, .mode = EXPLORE_BOTH };
    unsigned general_count = 0, lively_count = 0;

    for (uint64_t seed = 0; seed < 400; seed++) {
        struct explore_run run = explore_run_of(&choice, seed);

        general_count += run.cause == &cause_general;
        lively_count += run.mode == EXPLORE_LIVENESS;
    }
    CHECK_EQ(general_count, 200);
    CHECK_EQ(lively_count, 200);
    for (unsigned i = 0; explore_cause_at(i) != NULL; i++) {
        bool is_played = false;

        for (uint64_t seed = 0; seed < 400 && !is_played; seed++) {
            is_played = explore_run_of(&choice, seed).cause == explore_cause_at(i);
        }
        CHECK(is_played);
    }
}
