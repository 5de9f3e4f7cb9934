/* catalogue.c: the causes, the solutions, and how each combination is expected to come out, with
 * the reason. Owns: nothing; constant. Threads: any. */
#include <string.h>

#include "lab/catalogue.h"

static const struct cause *const causes[] = {
    &cause_parked,
    &cause_parked_between,
    &cause_dropped_idle,
    &cause_dropped_in_flight,
    &cause_busy,
    &cause_busy_hand_over,
    &cause_busy_sibling,
    &cause_busy_sibling_hand_over,
    &cause_all_workers_busy,
    &cause_all_workers_busy_hand_over,
    &cause_handed_over,
    &cause_leftovers,
    &cause_dropped_mid_body,
    &cause_stale,
    &cause_unread_bodies,
    &cause_slot_leak,
    &cause_lost_waiter,
    &cause_leader_cancelled,
    &cause_h2_parked,
    &cause_h2_dropped,
    &cause_h2_busy,
    &cause_h2_connecting,
    &cause_window_leak,
    &cause_seed,
};

/* The columns, and the order of the expectations below. */
enum column { SHARED, SINGLE, PER_RUNTIME, FACTORY, PROXY, CHANNEL, INTERLOOP, COLUMN_COUNT };

static const struct solution *const solutions[COLUMN_COUNT] = {
    [SHARED] = &solution_shared,
    [SINGLE] = &solution_single,
    [PER_RUNTIME] = &solution_per_runtime,
    [FACTORY] = &solution_factory,
    [PROXY] = &solution_proxy,
    [CHANNEL] = &solution_channel,
    [INTERLOOP] = &solution_interloop,
};

/* Why a whole class of solutions is untouched by what happens to A. */
#define OWNS_NOTHING                                                                               \
    {                                                                                              \
        LAB_OK, "A owns no connection: the runtime that does the I/O for everybody is untouched"   \
    }
#define SHARES_NOTHING                                                                             \
    {                                                                                              \
        LAB_OK, "B has a client and connections of its own; A's are nothing to it"                 \
    }

#define READS_FOR_A                                                                                \
    {                                                                                              \
        LAB_OK, "The runtime that does the I/O for everybody reads A's bodies to their end"        \
    }

/* Why one worker of several is enough to stop requests, and why not. */
#define SIBLING_STUCK                                                                              \
    {                                                                                              \
        LAB_STARVED, "The free worker gives the request to the loop that drives the connection, "  \
                     "and that loop's worker is stuck; it is idle itself"                          \
    }
#define OWNERS_SIBLING_STUCK                                                                       \
    {                                                                                              \
        LAB_STARVED, "The connection, if not the request itself, is with the worker of the owner " \
                     "that is stuck; the other one is idle"                                        \
    }
#define SPARE_RUNS_SIBLING                                                                         \
    {                                                                                              \
        LAB_OK, "A spare thread drives the loop of the stuck worker, and with it the connection"   \
    }
#define SPARE_RUNS_OWNER                                                                           \
    {                                                                                              \
        LAB_OK, "A spare thread drives the owner's loop while its own thread is stuck"             \
    }
#define NOBODY_LEFT_IN_A                                                                           \
    {                                                                                              \
        LAB_STARVED, "Nobody is left in A who could read the answer that has come; B's request "   \
                     "is answered, over a connection of its own"                                   \
    }

/* What a pool's book-keeping does to those who share it, and to those who do not. */
#define NOT_SENT_AGAIN                                                                             \
    {                                                                                              \
        LAB_ERROR, "The request was written, so it may have been processed: the connection's end " \
                   "is its error, also for a GET"                                                  \
    }
#define READS_TO_THE_END                                                                           \
    {                                                                                              \
        LAB_OK, "The owner of the connections reads every body to its end, and hands it over "     \
                "whole: none is left unread"                                                       \
    }
#define SLOT_LEAKS                                                                                 \
    {                                                                                              \
        LAB_HUNG, "The place was assigned to a request that is gone, and nobody gives it back: "   \
                  "the pool counts one connection in use, and there is none"                       \
    }
#define WAKE_IS_LOST                                                                               \
    {                                                                                              \
        LAB_HUNG,                                                                                  \
            "The wake-up went to a request that is gone and was not passed on: a connection "      \
            "is free, and there is a queue for it"                                                 \
    }
#define LEADER_IS_GONE                                                                             \
    {                                                                                              \
        LAB_HUNG, "Both wait for a connection that the first request was to make, and that is "    \
                  "gone: nobody makes it any more"                                                 \
    }
#define HAS_OWN_POOL                                                                               \
    {                                                                                              \
        LAB_OK, "B has a pool of its own. In A's, the next request would hang"                     \
    }

static const struct expectation expectations[LAB_COUNT(causes)][COLUMN_COUNT] = {
    { /* parked */
      [SHARED] = { LAB_HUNG, "B's request is handed to A's loop, which drives the connection, and "
                             "no thread drives that loop" },
      [SINGLE] = OWNS_NOTHING,
      [PER_RUNTIME] = SHARES_NOTHING,
      [FACTORY] = SHARES_NOTHING,
      [PROXY] = OWNS_NOTHING,
      [CHANNEL] = OWNS_NOTHING,
      [INTERLOOP] = { LAB_OK, "B's loop takes the idle connection over and drives it itself" } },
    { /* parked-between */
      [SHARED] = { LAB_OK, "The loop that waits is the one that drives the connection: in the next "
                           "il_block_on it finds the connection closed before anything was "
                           "written, and sends on a new one. What hangs in such programs is the "
                           "connection of another runtime, see `parked`" },
      [SINGLE] = { LAB_OK, "The single runtime is never parked: it sees the connection close" },
      [PER_RUNTIME] = { LAB_OK, "As with one shared client: there is only one runtime" },
      [FACTORY] = { LAB_OK, "As with one shared client: there is only one runtime" },
      [PROXY] = { LAB_OK, "The owner is never parked: it sees the connection close" },
      [CHANNEL] = { LAB_OK, "The owner is never parked: it sees the connection close" },
      [INTERLOOP] = { LAB_OK, "A connection is looked at before it is reused; a dead one is "
                              "replaced" } },
    { /* dropped-idle */
      [SHARED] = { LAB_OK, "Dropping A closes its connection and takes it out of the pool: B opens "
                           "its own" },
      [SINGLE] = OWNS_NOTHING,
      [PER_RUNTIME] = SHARES_NOTHING,
      [FACTORY] = SHARES_NOTHING,
      [PROXY] = OWNS_NOTHING,
      [CHANNEL] = OWNS_NOTHING,
      [INTERLOOP] = { LAB_OK, "An idle connection belongs to no runtime: it outlives A" } },
    { /* dropped-in-flight */
      [SHARED] = { LAB_ERROR, "A's loop drove the connection; with A the connection goes, and with "
                              "it B's request" },
      [SINGLE] = OWNS_NOTHING,
      [PER_RUNTIME] = SHARES_NOTHING,
      [FACTORY] = SHARES_NOTHING,
      [PROXY] = OWNS_NOTHING,
      [CHANNEL] = OWNS_NOTHING,
      [INTERLOOP] = { LAB_OK, "B's own loop drives the connection; A has no part in it" } },
    { /* busy */
      [SHARED] = { LAB_STARVED,
                   "B's request lies in the mailbox of A's loop, whose thread is stuck "
                   "in user code" },
      [SINGLE] = { LAB_STARVED, "The runtime that everybody uses is the one that is stuck" },
      [PER_RUNTIME] = SHARES_NOTHING,
      [FACTORY] = SHARES_NOTHING,
      [PROXY] = { LAB_STARVED, "The owner is the one that is stuck: the request lies with it" },
      [CHANNEL] = { LAB_STARVED, "The actor's runtime is the one that is stuck: the request lies "
                                 "in the queue" },
      [INTERLOOP] = { LAB_OK, "B takes the idle connection from A's loop without A's help" } },
    { /* busy+hand-over */
      [SHARED] = { LAB_OK, "A spare thread drives A's loop, and with it the connection that B's "
                           "request needs, while A's thread is stuck" },
      [SINGLE] = SPARE_RUNS_OWNER,
      [PER_RUNTIME] = SHARES_NOTHING,
      [FACTORY] = SHARES_NOTHING,
      [PROXY] = SPARE_RUNS_OWNER,
      [CHANNEL] = SPARE_RUNS_OWNER,
      [INTERLOOP] = { LAB_OK, "B takes the idle connection from A's loop, whoever drives that" } },
    { /* busy-sibling */
      [SHARED] = SIBLING_STUCK,
      [SINGLE] = OWNERS_SIBLING_STUCK,
      [PER_RUNTIME] = SIBLING_STUCK,
      [FACTORY] = SIBLING_STUCK,
      [PROXY] = OWNERS_SIBLING_STUCK,
      [CHANNEL] = OWNERS_SIBLING_STUCK,
      [INTERLOOP] = { LAB_OK, "The loop of the free worker takes the idle connection from that of "
                              "the stuck one, as it would from another runtime's" } },
    { /* busy-sibling+hand-over */
      [SHARED] = SPARE_RUNS_SIBLING,
      [SINGLE] = SPARE_RUNS_OWNER,
      [PER_RUNTIME] = SPARE_RUNS_SIBLING,
      [FACTORY] = SPARE_RUNS_SIBLING,
      [PROXY] = SPARE_RUNS_OWNER,
      [CHANNEL] = SPARE_RUNS_OWNER,
      [INTERLOOP] = { LAB_OK, "The loop of the free worker takes the idle connection from that of "
                              "the stuck one, whoever drives it" } },
    { /* all-workers-busy */
      [SHARED] = { LAB_STARVED, "Nobody is left in A who could read the answer that has come; and "
                                "B's request is given to a connection that A drives" },
      [SINGLE] = { LAB_STARVED, "The runtime that everybody uses has no worker left" },
      [PER_RUNTIME] = NOBODY_LEFT_IN_A,
      [FACTORY] = NOBODY_LEFT_IN_A,
      [PROXY] = { LAB_STARVED, "The owner has no worker left: the requests lie with it" },
      [CHANNEL] = { LAB_STARVED, "The owner has no worker left: neither the actor nor what it has "
                                 "begun gets on" },
      [INTERLOOP] = { LAB_OK, "Hand-over is on unless it is switched off: spare threads drive A's "
                              "loops. B's request needs none of them" } },
    { /* all-workers-busy+hand-over */
      [SHARED] = { LAB_OK, "Spare threads drive A's loops: tasks, timers, connections go on" },
      [SINGLE] = SPARE_RUNS_OWNER,
      [PER_RUNTIME] = { LAB_OK, "Spare threads drive A's loops; B has a client of its own" },
      [FACTORY] = { LAB_OK, "Spare threads drive A's loops; B has a client of its own" },
      [PROXY] = SPARE_RUNS_OWNER,
      [CHANNEL] = SPARE_RUNS_OWNER,
      [INTERLOOP] = { LAB_OK, "Spare threads drive A's loops; B's request needs none of them" } },
    { /* handed-over */
      [SHARED] = { LAB_HUNG, "The pool assigns A's connection to B's waiter; A's loop drives it, "
                             "and is parked" },
      [SINGLE] = { LAB_OK, "The connection that becomes free belongs to the runtime that serves "
                           "everybody, and that goes on running" },
      [PER_RUNTIME] = { LAB_OK, "B's client knows nothing of A's connection; its own comes about "
                                "when the handshake no longer stalls, up to a second later" },
      [FACTORY] = { LAB_OK, "B's client knows nothing of A's connection; its own comes about when "
                            "the handshake no longer stalls, up to a second later" },
      [PROXY] = { LAB_OK, "The connection that becomes free belongs to the owner, which goes on "
                          "running" },
      [CHANNEL] = { LAB_OK, "The connection that becomes free belongs to the owner, which goes on "
                            "running" },
      [INTERLOOP] = { LAB_OK, "B's waiter is woken, takes the connection, and drives it itself" } },
    { /* leftovers */
      [SHARED] = { LAB_HUNG, "Each of the eight is given to a request of B's, and each needs A's "
                             "loop, which is parked; the ninth request opens a connection of B's "
                             "own" },
      [SINGLE] = OWNS_NOTHING,
      [PER_RUNTIME] = SHARES_NOTHING,
      [FACTORY] = SHARES_NOTHING,
      [PROXY] = OWNS_NOTHING,
      [CHANNEL] = OWNS_NOTHING,
      [INTERLOOP] = { LAB_OK, "Each leftover moves to B's loop when it is taken" } },
    { /* dropped-mid-body */
      [SHARED] = { LAB_WRONG, "When A is dropped, the body that its loop delivers ends, cut short "
                              "and without an error" },
      [SINGLE] = OWNS_NOTHING,
      [PER_RUNTIME] = SHARES_NOTHING,
      [FACTORY] = SHARES_NOTHING,
      [PROXY] = OWNS_NOTHING,
      [CHANNEL] = OWNS_NOTHING,
      [INTERLOOP] = { LAB_OK, "B reads from the connection itself, to its end" } },
    { /* stale */
      [SHARED] = NOT_SENT_AGAIN,
      [SINGLE] = NOT_SENT_AGAIN,
      [PER_RUNTIME] = NOT_SENT_AGAIN,
      [FACTORY] = NOT_SENT_AGAIN,
      [PROXY] = NOT_SENT_AGAIN,
      [CHANNEL] = NOT_SENT_AGAIN,
      [INTERLOOP] = { LAB_OK, "Not a byte of an answer had come over a connection that had served "
                              "before, and a GET may be sent twice: it is, once, on a new "
                              "connection. A POST would be an error here, too" } },
    { /* unread-bodies */
      [SHARED] = { LAB_STARVED, "Both connections are A's responses', which nobody reads: B waits "
                                "until A's code reads them to their end, or frees them" },
      [SINGLE] = READS_TO_THE_END,
      [PER_RUNTIME] = { LAB_OK, "B has a client and connections of its own. A's next request would "
                                "wait" },
      [FACTORY] = { LAB_OK, "B has a client and connections of its own. A's next request would "
                            "wait" },
      [PROXY] = READS_TO_THE_END,
      [CHANNEL] = READS_TO_THE_END,
      [INTERLOOP] = { LAB_OK, "A response that nobody reads for so long (unread_timeout_ms, here "
                              "300 ms) loses its connection to a request that waits; whoever reads "
                              "it then is told so" } },
    { /* slot-leak */
      [SHARED] = SLOT_LEAKS,
      [SINGLE] = SLOT_LEAKS,
      [PER_RUNTIME] = HAS_OWN_POOL,
      [FACTORY] = HAS_OWN_POOL,
      [PROXY] = SLOT_LEAKS,
      [CHANNEL] = SLOT_LEAKS,
      [INTERLOOP] = { LAB_OK, "Nothing is assigned to who waits: the request that is cancelled had "
                              "nothing that could be lost" } },
    { /* lost-waiter */
      [SHARED] = WAKE_IS_LOST,
      [SINGLE] = WAKE_IS_LOST,
      [PER_RUNTIME] = HAS_OWN_POOL,
      [FACTORY] = HAS_OWN_POOL,
      [PROXY] = WAKE_IS_LOST,
      [CHANNEL] = WAKE_IS_LOST,
      [INTERLOOP] = { LAB_OK, "The oldest waiter of every loop is woken, and one that leaves "
                              "passes its wake-up on" } },
    { /* leader-cancelled */
      [SHARED] = LEADER_IS_GONE,
      [SINGLE] = LEADER_IS_GONE,
      [PER_RUNTIME] = { LAB_HUNG, "A's other request waits for a connection that the first one was "
                                  "to make; B, which has a pool of its own, has its answer" },
      [FACTORY] = { LAB_HUNG, "A's other request waits for a connection that the first one was to "
                              "make; B, which has a pool of its own, has its answer" },
      [PROXY] = LEADER_IS_GONE,
      [CHANNEL] = LEADER_IS_GONE,
      [INTERLOOP] = { LAB_OK, "Each request opens a connection of its own; where one may serve "
                              "several (HTTP/2), it is opened by one of each loop, and another "
                              "one goes on when that is cancelled" } },
    { /* h2-parked */
      [SHARED] = { LAB_HUNG, "Only A's loop may send and receive on the session, and no thread "
                             "drives that loop: no stream of anybody gets on" },
      [SINGLE] = OWNS_NOTHING,
      [PER_RUNTIME] = SHARES_NOTHING,
      [FACTORY] = SHARES_NOTHING,
      [PROXY] = OWNS_NOTHING,
      [CHANNEL] = OWNS_NOTHING,
      [INTERLOOP] = { LAB_OK, "Every loop with a stream on the session may drive it: B's does" } },
    { /* h2-dropped */
      [SHARED] = { LAB_ERROR,
                   "A's loop drove the session; with A it goes, and with it every stream "
                   "of B's. The request after that opens a session of B's own" },
      [SINGLE] = OWNS_NOTHING,
      [PER_RUNTIME] = SHARES_NOTHING,
      [FACTORY] = SHARES_NOTHING,
      [PROXY] = OWNS_NOTHING,
      [CHANNEL] = OWNS_NOTHING,
      [INTERLOOP] = { LAB_OK, "The session belongs to no runtime: B's loop drives it, with A or "
                              "without" } },
    { /* h2-busy */
      [SHARED] = { LAB_STARVED, "Only A's loop may send on the session, and its thread is stuck in "
                                "user code" },
      [SINGLE] = { LAB_STARVED, "The runtime that everybody uses is the one that is stuck" },
      [PER_RUNTIME] = SHARES_NOTHING,
      [FACTORY] = SHARES_NOTHING,
      [PROXY] = { LAB_STARVED, "The owner is the one that is stuck: the request lies with it" },
      [CHANNEL] = { LAB_STARVED, "The actor's runtime is the one that is stuck: the request lies "
                                 "in the queue" },
      [INTERLOOP] = { LAB_OK, "B's loop takes a seat at A's session and drives it itself" } },
    { /* h2-connecting */
      [SHARED] = { LAB_HUNG, "Everybody waits for the one connection that A was about to open, and "
                             "no thread drives A's loop; later requests wait for it, too. They "
                             "would go on with A" },
      [SINGLE] = { LAB_OK, "The connection is opened by the runtime that serves everybody, and "
                           "that goes on running" },
      [PER_RUNTIME] = SHARES_NOTHING,
      [FACTORY] = SHARES_NOTHING,
      [PROXY] = { LAB_OK, "The owner opens the connection, and goes on running" },
      [CHANNEL] = { LAB_OK, "The owner opens the connection, and goes on running" },
      [INTERLOOP] = { LAB_OK, "Who waits opens a connection itself: B's loop does not wait for "
                              "what A's has begun" } },
    { /* window-leak */
      [SHARED] = { LAB_HUNG, "The connection's window is given back when bodies are read, and A "
                             "does not read: the server may send nothing to B, whose own loop "
                             "drives the session" },
      [SINGLE] = READS_FOR_A,
      [PER_RUNTIME] = SHARES_NOTHING,
      [FACTORY] = SHARES_NOTHING,
      [PROXY] = READS_FOR_A,
      [CHANNEL] = READS_FOR_A,
      [INTERLOOP] = { LAB_OK, "The connection's window is given back as soon as bytes arrive: a "
                              "body that nobody reads holds up its own stream and no other" } },
    { /* seed */
      [SHARED] = { LAB_OK, "Each of the three drops its runtime only when its own requests are "
                           "answered, and what is idle then is closed; so nothing is left to wait "
                           "for" },
      [SINGLE] = OWNS_NOTHING,
      [PER_RUNTIME] = { LAB_OK, "Each runtime has a client of its own; what the three drop is "
                                "nothing to the global one" },
      [FACTORY] = { LAB_OK, "Each runtime has a client of its own; what the three drop is nothing "
                            "to the global one" },
      [PROXY] = OWNS_NOTHING,
      [CHANNEL] = OWNS_NOTHING,
      [INTERLOOP] = { LAB_OK, "Nobody depends on the short-lived runtimes" } },
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
