/* rt.h: what runtimes offer to the layers above: places to wait, and the runtime's own record.
 *
 * A *party* is somebody who can wait: a task, or a plain thread. It waits on its loop: a task lets
 * the loop's other jobs run, a plain thread drives a private loop of its own meanwhile. Waking is a
 * token that is never lost:
 *
 *      EMPTY --- wait ---> PARKED --- wake ---> NOTIFIED --- the wait returns ---> EMPTY
 *        |                                         ^
 *        +------------------ wake -----------------+   (the next wait returns at once)
 *
 * A wait may return without reason: callers check what they wait for, in a loop. */
#ifndef IL_RT_H
#define IL_RT_H

#include "interloop/runtime.h"
#include "interloop/watch.h"
#include "loop/loop.h"

struct rt_loop;

struct party {
    _Atomic int state; /* enum party_state */
    _Atomic uint32_t ref_count;
    struct il_loop *loop; /* where it waits, and wakes are sent; a reference */
    struct job job;       /* runs when it is woken */
    struct timer timer;   /* the loop's holder only; armed while a wait has a deadline */
    bool is_task;
    bool is_overdue; /* the timer fired */
    void (*free)(struct party *party);

    struct il_list holds; /* struct party_hold.link; touched by the party itself only */

    /* for reports: what it waits for and since when; NULL while it runs. Static text. */
    _Atomic(const char *) waits_for;
    _Atomic uint64_t waits_since_ns;
};

enum party_state {
    PARTY_EMPTY,
    PARTY_PARKED,
    PARTY_NOTIFIED,
};

struct party *party_ref(struct party *party);
struct party *party_unref(struct party *party);

/* Wake it, or let its next wait return at once. Thread: any; the caller has a reference, or is sure
 * that the party is still inside the wait. */
void party_wake(struct party *party);

/* The task or, outside of tasks, the thread that is running here; NULL when out of memory. Needs
 * not pass the gate. */
struct party *party_current(void);

/* The task's name; NULL if the party is a thread. As long as the party. */
const char *party_task_name(const struct party *party);

/* Something that a party has and cannot take with it when it ends, such as a lock. */
struct party_hold {
    struct il_list link;
    void (*on_party_end)(struct party_hold *hold); /* unlinked before the call; must not wait */
};

/* Thread: the party itself, in user code or in the library. */
void party_hold_add(struct party *party, struct party_hold *hold);
void party_hold_remove(struct party_hold *hold);

/* ---- being in the library ---- */

/* Where the caller stands once it is inside: it holds `loop` and may touch its state. */
struct rt_place {
    struct party *party; /* who would wait; NULL in a callback, which must not wait */
    struct il_loop *loop;
    struct il_runtime *runtime; /* NULL on a plain thread */
};

/* Pass the gate from user code into the library: hold the caller's loop (a task's own, a plain
 * thread's private one); where it was taken over meanwhile, wait for it. IL_ESHUTDOWN: the runtime
 * of this task or callback is gone. IL_EDEADLOCK: in a callback, unless `callback_may` is set.
 * Every success is paired with rt_leave. */
enum il_code rt_enter(struct rt_place *ret_place, bool callback_may, struct il_error *err);
void rt_leave(struct rt_place *place);

/* A call that waits may have to call the user's code in the middle. Around the whole of it stand
 * rt_calls_out_begin, inside, and rt_calls_out_end, inside or outside; around each call rt_call_out
 * and rt_call_in. In between nobody stops the loop: a spare drives it, also a plain thread's
 * private one. `function` is the user's, for reports. IL_ESHUTDOWN as for rt_enter: then we are
 * outside. */
void rt_calls_out_begin(struct rt_place *place);
void rt_calls_out_end(void);
void rt_call_out(struct rt_place *place, void (*function)(void));
IL_MUST_USE enum il_code rt_call_in(struct rt_place *place);

/* Wait for party_wake or `deadline_ns`; `what` (static text) says in reports for what. Between
 * rt_enter and rt_leave; may go on in another thread. IL_OK: woken, or no reason.
 * IL_ETIMEDOUT, IL_ECANCELED, IL_ESHUTDOWN. Not to be called in a callback. */
enum il_code rt_wait(struct rt_place *place, uint64_t deadline_ns, const char *what);

/* As rt_wait, but goes on waiting although the task was cancelled or its runtime is ending: for
 * waits that are sure to be short because somebody else has already begun to act. */
void rt_wait_regardless(struct rt_place *place, const char *what);

/* IL_ECANCELED or IL_ESHUTDOWN if the party must not wait any more, else IL_OK. */
enum il_code rt_check_cancelled(const struct rt_place *place);

/* The task as a party: where it lives (its loop), its id. Borrowed; lives as long as the task. */
struct party *rt_task_party(struct il_task *task);

/* The id of the party's task; 0 for a plain thread. */
uint64_t rt_party_task_id(const struct party *party);

/* "task 'x' on runtime 'R'" or "thread 123", for reports. The party must be waiting, or be held by
 * a reference. */
void rt_party_describe(const struct party *party, char *text, size_t size);

/* Run user code from a job: pass the gate out, call, and pass it back in. `function` is the user's
 * own, for reports; NULL if it is not known. */
enum loop_result rt_run_callback(struct il_loop *loop, void (*run)(void *arg), void *arg,
                                 void (*function)(void));

/* ---- the runtime's record, for reports ---- */

/* The runtime that a loop belongs to; NULL for a plain thread's private loop. Borrowed. */
struct il_runtime *rt_loop_runtime(const struct il_loop *loop);

/* Does it move only inside il_block_on? */
bool rt_is_current_thread(const struct il_runtime *runtime);

/* Is the loop handed over when user code keeps its thread? Not while a task on it is pinned. */
bool rt_is_handed_over(const struct il_loop *loop);

/* Is the calling thread running it, at any depth of il_block_on? */
bool rt_is_run_here(const struct il_runtime *runtime);

/* Choose the loop of `runtime` on which something new shall live, and take a reference on it.
 * IL_ESHUTDOWN: the runtime has ended or is ending. IL_EFORK: it is the parent process's.
 * Thread: any. */
IL_MUST_USE enum il_code rt_choose_loop(struct il_runtime *runtime, struct il_loop **ret_loop,
                                        struct il_error *err);

/* Requests that belong to no task count as work that a runtime waits for when it drains, and are
 * reported when its end completes them, or finds that the user's callback has not returned. `loop`
 * is the request's home. A request is counted before it is posted to its home, so that no drain can
 * miss it, until its callback has returned. Thread: rt_call_begins and, when the post was refused,
 * rt_call_is_refused: any; the others: the loop's holder. */
void rt_call_begins(struct il_loop *loop);
void rt_call_is_refused(struct il_loop *loop);
void rt_call_ends(struct il_loop *loop);
void rt_call_was_evicted(struct il_loop *loop);

/* Visit the tasks that live on a loop, under its task lock: `visit` must be short and lock nothing.
 */
struct rt_task_view {
    uint64_t id;
    const char *name;
    const char *waits_for; /* NULL: runs or is ready to run */
    uint64_t waits_since_ns;
    bool is_running; /* now, in user code or in the library */
    bool is_away;    /* its loop was taken over while it ran */
};
void rt_for_each_task(struct il_loop *loop,
                      void (*visit)(const struct rt_task_view *task, void *arg), void *arg);

/* Hand-overs, and the threads there are for them and for code that blocks; process-wide. */
void rt_count_threads(struct il_watch_threads *ret_threads);

/* Live counts over the whole process: what must be zero when all is over. */
struct rt_counts {
    uint64_t runtimes, tasks, loops;
};
void rt_counts(struct rt_counts *ret_counts);

#endif
