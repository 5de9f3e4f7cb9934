/* catalogue.c: the causes, the solutions, and how each combination is expected to come out, with
 * the reason. Owns: nothing; constant. Threads: any. */
#include <string.h>

#include "lab/catalogue.h"

static const struct cause *const causes[] = {
    &cause_parked, &cause_parked_between, &cause_dropped_idle, &cause_dropped_in_flight,
    &cause_busy,   &cause_handed_over,    &cause_leftovers,    &cause_dropped_mid_body,
    &cause_seed,
};

static const struct solution *const solutions[] = {
    &solution_shared,
    &solution_interloop,
};

/* In the order of the lists above. */
static const struct expectation expectations[LAB_COUNT(causes)][LAB_COUNT(solutions)] = {
    { /* parked */
      { LAB_HUNG, "B's request is handed to A's loop, which drives the connection, and no thread "
                  "drives that loop" },
      { LAB_OK, "B's loop takes the idle connection over and drives it itself" } },
    { /* parked-between */
      { LAB_OK,
        "The loop that waits is the one that drives the connection: in the next il_block_on "
        "it finds the connection closed before anything was written, and sends on a new "
        "one; what hangs in such programs is another runtime's connection, see `parked`" },
      { LAB_OK, "A connection is looked at before it is reused; a dead one is replaced" } },
    { /* dropped-idle */
      { LAB_OK, "Dropping A closes its connection and takes it out of the pool: B opens its own" },
      { LAB_OK, "An idle connection belongs to no runtime: it outlives A" } },
    { /* dropped-in-flight */
      { LAB_ERROR, "A's loop drove the connection; with A the connection goes, and with it B's "
                   "request" },
      { LAB_OK, "B's own loop drives the connection; A has no part in it" } },
    { /* busy */
      { LAB_STARVED, "B's request lies in the mailbox of A's loop, whose thread is stuck in user "
                     "code" },
      { LAB_OK, "B takes the idle connection from A's loop without A's help" } },
    { /* handed-over */
      { LAB_HUNG, "The pool assigns A's connection to B's waiter; A's loop drives it, and is "
                  "parked" },
      { LAB_OK, "B's waiter is woken, takes the connection, and drives it itself" } },
    { /* leftovers */
      { LAB_HUNG, "Each of the eight is given to a request of B's, and each needs A's loop, which "
                  "is parked; the ninth request opens a connection of B's own" },
      { LAB_OK, "Each leftover moves to B's loop when it is taken" } },
    { /* dropped-mid-body */
      { LAB_WRONG, "When A is dropped, the body that its loop delivers ends, cut short and without "
                   "an error" },
      { LAB_OK, "B reads from the connection itself, to its end" } },
    { /* seed */
      { LAB_OK, "Each of the three drops its runtime only when its own requests are answered, and "
                "what is idle then is closed; so nothing is left to wait for" },
      { LAB_OK, "Nobody depends on the short-lived runtimes" } },
};

size_t catalogue_cause_count(void)
{
    return LAB_COUNT(causes);
}

size_t catalogue_solution_count(void)
{
    return LAB_COUNT(solutions);
}

const struct cause *catalogue_cause(size_t index)
{
    return causes[index];
}

const struct solution *catalogue_solution(size_t index)
{
    return solutions[index];
}

size_t catalogue_find_cause(const char *name)
{
    size_t index = 0;

    while (index < LAB_COUNT(causes) && strcmp(causes[index]->name, name) != 0) {
        index++;
    }
    return index;
}

size_t catalogue_find_solution(const char *name)
{
    size_t index = 0;

    while (index < LAB_COUNT(solutions) && strcmp(solutions[index]->name, name) != 0) {
        index++;
    }
    return index;
}

const struct expectation *catalogue_expectation(size_t cause, size_t solution)
{
    return &expectations[cause][solution];
}
