/* catalogue.h: the causes, the solutions, and how each combination is expected to come out.
 *
 * Everything here is constant. Threads: any. */
#ifndef LAB_CATALOGUE_H
#define LAB_CATALOGUE_H

#include "lab/world.h"

extern const struct cause cause_parked;
extern const struct cause cause_parked_between;
extern const struct cause cause_dropped_idle;
extern const struct cause cause_dropped_in_flight;
extern const struct cause cause_busy;
extern const struct cause cause_busy_hand_over;
extern const struct cause cause_busy_sibling;
extern const struct cause cause_busy_sibling_hand_over;
extern const struct cause cause_all_workers_busy;
extern const struct cause cause_all_workers_busy_hand_over;
extern const struct cause cause_handed_over;
extern const struct cause cause_leftovers;
extern const struct cause cause_dropped_mid_body;
extern const struct cause cause_stale;
extern const struct cause cause_unread_bodies;
extern const struct cause cause_slot_leak;
extern const struct cause cause_lost_waiter;
extern const struct cause cause_leader_cancelled;
extern const struct cause cause_h2_parked;
extern const struct cause cause_h2_dropped;
extern const struct cause cause_h2_busy;
extern const struct cause cause_h2_connecting;
extern const struct cause cause_window_leak;
extern const struct cause cause_seed;

/* Not in the matrix: they show nothing in particular, and are there to find things (explore.h). */
extern const struct cause cause_unasked;
extern const struct cause cause_general; /* chaos.h */

extern const struct solution solution_shared;
extern const struct solution solution_single;
extern const struct solution solution_per_runtime;
extern const struct solution solution_factory;
extern const struct solution solution_proxy;
extern const struct solution solution_channel;
extern const struct solution solution_interloop;

/* Rows and columns, in the order in which they are shown. */
size_t catalogue_cause_count(void);
size_t catalogue_solution_count(void);
const struct cause *catalogue_cause(size_t index);
const struct solution *catalogue_solution(size_t index);

/* By name; the count if there is none. */
size_t catalogue_find_cause(const char *name);
size_t catalogue_find_solution(const char *name);

struct expectation {
    enum lab_verdict verdict;
    const char *reason; /* a sentence */
};

const struct expectation *catalogue_expectation(size_t cause, size_t solution);

#endif
