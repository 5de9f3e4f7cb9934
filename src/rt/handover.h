/* handover.h: inside src/rt: how the loop of a thread that is stuck in user code goes on elsewhere.
 *
 * ---- the protocol ----
 *
 * A loop has *own* threads: the worker of a multi-thread runtime, whoever is in il_block_on with a
 * current-thread runtime, the plain thread of a private loop. A *spare* stands in for one of them
 * while it is stuck, and goes back to its crew afterwards. So as many threads drive loops as
 * before, whatever happens in between. All of it hangs on one atomic word for each loop, the hold:
 *
 *              loop_try_hold                  loop_enter_user
 *       +------ any thread ------> LIB(x) ------- x only -------> USER(x, n)
 *       |                          |  ^ ^                          |     |
 *     FREE <---- loop_release -----+  | +---- loop_leave_user -----+     |
 *                   x only            |          x only (CAS)            |
 *                                  LIB(s) <---- loop_try_take_over ------+
 *     ENDED <--- loop_end, x only             a spare s, not x (CAS)
 *
 *   x, s: numbers of threads. n: which stay in user code this is; every loop_enter_user makes a new
 *   one. Out of LIB only the holder moves the word, with plain stores; it costs one store to go out
 *   and one compare-and-swap to come in. Out of USER two threads may want to move it, and the
 *   compare-and-swap decides: either x is back in time and the spare goes home, or the spare has
 *   the loop and x is told LOOP_LOST.
 *
 * When. The monitor, one thread for the process, looks at the words of all watched loops. One that
 *   is the same USER(x, n) for longer than the runtime's threshold is stuck, and an *errand* is
 *   given to a spare: take this loop, if its word is still this one. As n is in the word, a thread
 *   that came back and went out again is not taken for one that never came back.
 *   No clock is read and nothing is written for this on the way through the gate.
 *
 * The one that is stuck. Its task goes on undisturbed, on its thread and stack. Its next call into
 *   the library fails to leave USER; it switches to the thread's scheduler, and from there, with
 *   its registers saved, is posted to its loop's mailbox, as any arrival. A callback cannot leave
 *   its thread: it waits for the loop (loop_claim), and the holder lends it.
 *   An own thread that is back counts itself out of `absent_count`, wakes the stand-in and waits
 *   for the loop. If the stand-in is stuck by then, the loop is offered to who waits, who takes it
 *   over as a spare would. A spare that is back goes home.
 *
 * The stand-in drives the loop as its own thread would, until no own thread is absent, or somebody
 *   waits to hold the loop; then it releases it. If it gets stuck in its turn, the next spare takes
 *   over from it. absent_count is the number of own threads from whom the loop was taken and who
 *   are not back: one up by who takes it from an own thread, one down by that thread, in either
 *   order.
 *
 * Why nothing is lost or handled twice.
 *   - Whatever a loop has to do lies in the loop: mail, timers, jobs, the batch of events. User
 * code runs from jobs only, and a job is off the queue before it runs. So at every USER the loop is
 *     complete without the job that runs, and at every take-over one thread has it. The store to
 *     USER releases, the compare-and-swap acquires: the taker sees all that x did.
 *   - A job that runs is run by nobody else: the task's job is queued again only by x itself, after
 *     LOOP_LOST.
 *   - Mail, wakes and cancellations are posted to the loop, not to a thread. `wake` says whether
 * its holder sleeps; in USER it is AWAKE, and so it is after a take-over: the taker's turn begins
 *     with the mail.
 *   - Who wants the stand-in to leave writes first (absent_count, hold_waiter_count, claim_count)
 *     and then reads `wake`; the stand-in writes `wake` = ASLEEP first and then reads those. So one
 *     of the two sees the other, and no stand-in sleeps while an own thread waits for it.
 *   - The end: a mailbox is sealed by the holder, when there is neither mail nor a job. A stuck
 * task that comes back later is refused by it, and runs to its end where it is, as an orphan.
 *
 * Pins. A loop with pin_count > 0 is not handed over. A task raises it while its thread holds the
 *   loop, so n changes afterwards: an errand that was on its way misses. The monitor reads the word
 *   first and pin_count second, so it sees every pin that is older than the word.
 *
 * ---- who calls what ----
 *
 * Threads: the monitor's, the spares', and those of loops, as each function says. handover.mutex
 * guards the list of watched loops; it is a leaf. */
#ifndef IL_RT_HANDOVER_H
#define IL_RT_HANDOVER_H

#include "rt/crew.h"

/* One loop, as the monitor knows it. In the memory of whoever owns the loop, who does not give it
 * away before handover_forget. */
struct seat {
    struct il_loop *loop;
    uint64_t
        after_ns;   /* user code may keep a thread for so long; SYS_FOREVER: no matter how long */
    bool is_pinned; /* not even when it is announced */

    struct { /* any thread, with handover.mutex held */
        struct il_list link;
        uint64_t word, word_since_ns; /* the word in user code that was seen first at that time */
        uint64_t announced_word;      /* stay in user code that il_block_in_place announced */
        uint64_t refused_word;        /* no spare was left for it, and this has been reported */
        bool has_errand;
    } locked;

    struct { /* whoever set has_errand, then the spare */
        struct crew_work work;
        struct il_list link;
        uint64_t word, since_ns;
        bool is_announced;
    } errand;
};

void seat_init(struct seat *seat, struct il_loop *loop, uint64_t after_ns, bool is_pinned);

/* Have the monitor look at the loop, from now on; it is started if need be. IL_ENOMEM, IL_ESYS: it
 * cannot be. Thread: any. */
IL_MUST_USE enum il_code handover_watch(struct seat *seat, struct il_error *err);

/* The seat's memory will go: wait until no spare is about to take the loop. Does nothing if it was
 * never watched. Thread: any; the loop has ended, or will not be in user code. */
void handover_forget(struct seat *seat);

/* For every runtime once: with the last one, the threads that are idle end. Thread: any. */
void handover_use(void);
void handover_unuse(void);

/* The loop comes out of its sleep, or is held again: see that the monitor does not sleep. il_loop's
 * on_awake. */
void handover_on_awake(struct il_loop *loop);

/* The calling thread is about to block in user code, with the loop in USER: hand it over now. */
void handover_announce(struct seat *seat);

/* As the monitor does when a loop is stuck, but with one more spare if there is none left: the
 * loop's runtime ends. Thread: any. */
void handover_rescue(struct seat *seat, uint64_t word, uint64_t since_ns);

/* As loop_hold_unless, for one of the loop's own threads: when the holder is stuck, it takes the
 * loop over itself. */
bool handover_hold_unless(struct il_loop *loop, bool (*is_done)(void *arg), void *arg);

/* ---- what is told of it ---- */

extern struct crew rt_spares;   /* stand in */
extern struct crew rt_blocking; /* run what il_spawn_blocking is given */

void handover_count(bool is_announced);

/* A loop was taken from user code; `task` NULL: from a callback. On the taker's thread. */
void handover_tell_began(struct il_loop *loop, const struct il_task *task, bool is_announced,
                         uint64_t stuck_ns, int thread_id);

/* User code that had lost its loop is back, on the calling thread. */
void handover_tell_ended(struct il_loop *loop, const struct il_task *task, void (*function)(void),
                         bool is_announced, uint64_t stuck_ns);

/* No spare was to be had. */
void handover_tell_refused(struct il_loop *loop, uint64_t stuck_ns);

#endif
