/* crew.h: inside src/rt: threads that wait for work: the spares, and the pool for code that blocks.
 *
 * A crew starts a thread when there is work and nobody idle, as long as it has fewer than
 * `thread_count_max`; an idle thread ends after `idle_ns`. There are two, for the whole process. */
#ifndef IL_RT_CREW_H
#define IL_RT_CREW_H

#include "rt/rt.h"

/* State of the whole process that a child of fork must make anew: its threads are the parent's, and
 * its locks may have been held. True: the caller makes it, and says when it is made; others wait.
 */
struct process_state {
    _Atomic uint32_t generation;
};
bool process_state_must_make(struct process_state *state);
void process_state_is_made(struct process_state *state);

/* In the memory of whoever submits it; may be submitted again as soon as `run` has been called. */
struct crew_work {
    struct il_list link;
    void (*run)(struct crew_work *work);
};

struct crew {
    const char *thread_name;
    bool is_spare; /* its threads stand in for others */

    struct process_state state; /* of what stands below */
    struct sys_mutex mutex;     /* a leaf; all below under it */
    struct il_list idle;        /* struct crew_member.link, the last to become idle first */
    struct il_list queue;       /* struct crew_work.link */
    unsigned thread_count, busy_count, queue_count;
    unsigned open_count;     /* places given by crew_reserve and not given back */
    unsigned away_count;     /* of busy_count: nobody knows when they come back */
    struct sys_cond changed; /* a thread is idle, or away */
    unsigned thread_count_max;
    unsigned queue_count_max;
    uint64_t idle_ns;
};

#define CREW_INIT(name, spare, threads, queued, idle)                                              \
    {                                                                                              \
        .thread_name = (name), .is_spare = (spare), .thread_count_max = (threads),                 \
        .queue_count_max = (queued), .idle_ns = (idle)                                             \
    }

/* Have a thread run the work at once, with `is_forced` by one more than there may be. False: none
 * is idle, and none can be started. Thread: any. */
IL_MUST_USE bool crew_try_submit(struct crew *crew, struct crew_work *work, bool is_forced);

/* Give a place to a piece of work: among the threads or in the queue. It is held until
 * crew_give_back, by whoever knows that the work is over, or was never submitted. IL_ELIMIT: every
 * thread and the queue are taken. IL_ENOMEM, IL_ESYS: there is no thread, and none can be started.
 */
IL_MUST_USE enum il_code crew_reserve(struct crew *crew, struct il_error *err);
void crew_give_back(struct crew *crew);

/* Have a piece of work done that has a place. */
void crew_submit(struct crew *crew, struct crew_work *work);

/* Take back what no thread has begun; it keeps its place. False: it has begun. */
IL_MUST_USE bool crew_withdraw(struct crew *crew, struct crew_work *work);

/* A busy thread of the crew is in the user's hands from now on (1), or no longer (-1). */
void crew_count_away(struct crew *crew, int change);

/* End the threads that are idle, or about to be, and wait until they are gone. Those that are away
 * end by themselves, when they have been idle for `idle_ns`. */
void crew_dismiss(struct crew *crew);

void crew_set_limits(struct crew *crew, unsigned thread_count_max, unsigned queue_count_max,
                     uint64_t idle_ns);

struct crew_counts {
    unsigned thread_count, busy_count, queue_count, thread_count_max;
};
void crew_counts(struct crew *crew, struct crew_counts *ret_counts);

#endif
