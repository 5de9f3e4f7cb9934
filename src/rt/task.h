/* task.h: inside src/rt: threads, tasks and runtimes as they know each other. */
#ifndef IL_RT_TASK_H
#define IL_RT_TASK_H

#include "rt/fiber.h"
#include "rt/handover.h"
#include "rt/rt.h"
#include "rt/stack.h"

/* ---- a thread, as seen from here ---- */

enum task_out {
    TASK_OUT_NONE,
    TASK_OUT_PARKED,   /* waits, or yielded; still in the library, the loop held */
    TASK_OUT_FINISHED, /* has returned */
    TASK_OUT_LOST,     /* came into the library and found its loop taken over */
};

/* One for each thread that ever called in. Reach it through rt_thread() anew after every switch. */
struct rt_thread {
    struct party party; /* the thread itself, when it waits outside of tasks; see rt_thread_loop */
    uint32_t fork_generation;
    bool is_woken;   /* the wake job has run */
    bool is_spare;   /* stands in for threads that are stuck */
    bool is_ungated; /* runs a callback of a loop that ends: no gate, it stays its holder */
    unsigned calls_out_depth; /* of calls in which this thread, as itself, may call user code */
    unsigned out_depth;       /* of user code that it runs there: its private loop is in USER */
    uint64_t out_since_ns;
    void (*out_function)(void);
    struct seat seat;       /* its private loop's; watched while calls_out_depth > 0 */
    struct il_task *task;   /* the task that this thread is running */
    struct il_loop *loop;   /* the loop whose jobs this thread is running, in or out of user code */
    struct rt_drive *drive; /* the innermost runtime that this thread drives */
    struct fiber *scheduler; /* where a task goes when it leaves this thread */
    enum task_out task_out;  /* why it left */
};

/* A stuck task is given so long to come back before its loop ends without it. */
#define RUNTIME_GRACE_NS (100 * (uint64_t)LOOP_NS_PER_MS)

/* While a thread drives a runtime's loop, its stack is the scheduler's. It may be inside a task of
 * another runtime when it begins (a task that calls il_block_on); that is put aside. */
struct rt_drive {
    struct rt_thread *thread;
    struct il_runtime *runtime;
    struct rt_drive *outer;
    struct fiber here;
    struct fiber *outer_scheduler;
    struct il_task *outer_task;
    struct il_loop *outer_loop;
};
void rt_drive_begin(struct rt_drive *drive, struct rt_thread *thread, struct il_runtime *runtime);
void rt_drive_end(struct rt_drive *drive);

/* Is the thread driving `runtime`, at any depth? */
bool rt_thread_is_inside(const struct rt_thread *thread, const struct il_runtime *runtime);

/* As rt_enter, but as the thread, although it may be inside a task. */
enum il_code rt_enter_as_thread(struct rt_thread *thread, struct rt_place *ret_place,
                                struct il_error *err);

/* The calling thread's record, made on first use; NULL when out of memory. */
struct rt_thread *rt_thread(void);

/* A record that no thread has yet; freed by the thread that gets it, when it ends, or by
 * rt_thread_free. NULL when out of memory. */
struct rt_thread *rt_thread_new(void);
void rt_thread_free(struct rt_thread *thread);

/* As rt_thread; when there is no memory for a record, the calling thread gets the spare one, if
 * nobody else has taken it. */
struct rt_thread *rt_thread_or(struct rt_thread *_Atomic *spare);

/* As sys_thread_start, with the new thread's record made beforehand: a thread that runs cannot be
 * told that there is no memory for it. */
int rt_thread_start(struct sys_thread **ret_thread, const char *name, void (*run)(void *arg),
                    void *arg);

/* The calling thread's private loop, made on first use. */
enum il_code rt_thread_loop(struct rt_thread *thread, struct il_error *err);

/* Make the party's list of what it holds; at its end tell all that is still on it. */
void party_init_holds(struct party *party);
void party_end_holds(struct party *party);

/* A party's timer fires here. */
void party_on_overdue(struct timer *timer);

/* ---- tasks ---- */

struct il_task {
    struct party party; /* its loop is where the task lives, from birth to end */
    struct fiber fiber;
    struct rt_loop *home; /* outlives the task: the task has a reference on the runtime */
    uint64_t id;
    char name[IL_TASK_NAME_SIZE];
    il_task_fn *run;
    void *arg;
    _Atomic bool cancel_requested;
    _Atomic bool is_finished;
    _Atomic bool is_running;
    _Atomic bool is_away;           /* the loop was taken over while this task ran */
    _Atomic uint64_t away_since_ns; /* 0, or since when it has been stuck, or TASK_IS_BACK */
    bool is_announced;              /* by il_block_in_place; the task itself only */
    unsigned pin_count;             /* its own part of its loop's; the loop's holder only */
    bool is_orphan;      /* the loop ended while it was away; the thread that runs it only */
    struct il_list link; /* home->locked.tasks */

    struct { /* any thread, with mutex held */
        struct sys_mutex mutex;
        struct il_list joiners; /* struct task_joiner */
    } locked;
};

#define TASK_IS_BACK UINT64_MAX

/* The task's loop was taken over while it ran; false: it has come back already. Thread: the taker,
 * which holds the loop. */
bool task_note_away(struct il_task *task, uint64_t since_ns);

/* Allocate a task on `home`'s loop; not yet started. `cache` as for stack_get. */
enum il_code task_new(struct rt_loop *home, struct stack_cache *cache, const char *name,
                      il_task_fn *run, void *arg, struct il_task **ret_task, struct il_error *err);

/* Free a task that was never started. */
void task_discard(struct il_task *task);

/* Pass from user code into the library; false when the task's loop has ended without it. */
bool task_enter_library(struct il_task *task);
void task_leave_library(struct il_task *task);

/* Leave the thread until woken. In the library, the loop held; likewise afterwards. */
void task_switch_out(struct il_task *task);

/* Wait until `task` has finished, whatever happens to the waiter: it has lent the task its stack.
 * If the waiter is cancelled, so is the task. */
void task_join_regardless(struct il_task *task);

uint64_t task_count_live(void);

/* ---- a runtime's part on one loop ---- */

struct rt_loop {
    struct il_loop *loop; /* a reference */
    struct il_runtime *runtime;
    struct sys_thread *worker; /* NULL in a current-thread runtime */
    unsigned index;
    _Atomic uint32_t task_count;
    _Atomic bool is_stopping;    /* every wait on this loop returns IL_ESHUTDOWN */
    _Atomic uint32_t away_count; /* tasks of task_count that are away, see task.is_away */
    _Atomic uint32_t evicted_call_count;
    struct job stop_job;
    uint64_t stop_ns; /* when is_stopping was set; written before it */
    struct seat seat;

    struct { /* the loop's holder only */
        struct stack_cache stacks;
    } held;

    struct { /* any thread, with mutex held */
        struct sys_mutex mutex;
        struct il_list tasks;
    } locked;

    struct { /* any thread, with the runtime's mutex held; while the runtime ends */
        bool has_ended;
        uint64_t word_seen; /* the loop's hold, by who ends the runtime */
        uint64_t word_seen_ns;
    } ending;
};

enum runtime_state {
    RUNTIME_RUNNING,
    RUNTIME_DRAINING,
    RUNTIME_GONE,
};

struct il_runtime {
    enum il_runtime_kind kind;
    char name[LOOP_NAME_SIZE];
    uint32_t fork_generation;
    unsigned loop_count;
    unsigned task_count_max;
    size_t stack_size;
    uint64_t hand_over_after_ns; /* SYS_FOREVER: never */
    bool is_pinned;              /* not even when it is announced */
    _Atomic uint32_t ref_count;
    _Atomic int state;           /* enum runtime_state */
    _Atomic uint32_t task_count; /* alive on all loops */
    _Atomic uint32_t call_count; /* requests that live on its loops and belong to no task */
    _Atomic uint32_t spawn_turn; /* whose turn it is among equals */

    /* For a thread that has no record and ends the runtime: letting go must not need memory. */
    struct rt_thread *_Atomic spare_thread;

    struct { /* any thread, with mutex held */
        struct sys_mutex mutex;
        struct sys_cond quiet; /* broadcast when task_count may have become small enough */
        struct stack_cache spawn_stacks; /* for tasks that other threads spawn */
    } locked;
    struct rt_loop loops[];
};

/* End the runtime's loops; see shutdown.c. */
enum il_code runtime_end(struct il_runtime *runtime, uint64_t deadline_ns,
                         struct il_shutdown_report *ret_report, struct il_error *err);

/* The loop has ended: tell whoever ends the runtime. */
void runtime_note_loop_ended(struct rt_loop *home);

/* Make task_count one less, and tell whoever waits for that. */
void runtime_count_task_gone(struct rt_loop *home);

/* End the loop if it has been told to stop, nothing is left to do, and those that are stuck have
 * had their grace. Thread: the holder; no longer if true. */
bool runtime_try_end_loop(struct rt_loop *home);

/* A turn that is asked for longer has to look then whether a grace is over. */
uint64_t runtime_turn_deadline_ns(const struct rt_loop *home);

/* Run the loop until it has ended. Held by the caller, within a drive. LOOP_LOST: somebody took it
 * over. */
enum loop_result runtime_run_to_the_end(struct rt_loop *home);

/* Drive the loop of a current-thread runtime on this thread until `is_done(arg)`. */
void runtime_drive_until(struct rt_loop *home, bool (*is_done)(void *arg), void *arg);

#endif
