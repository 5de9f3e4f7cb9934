/* runtime.h: runtimes, the tasks they run, and how time passes for both.
 *
 * A *runtime* is one or more event loops that run tasks. A multi-thread runtime has worker threads
 * of its own. A current-thread runtime moves only while some thread is inside il_block_on with it.
 *
 * A *task* is a function with a stack of its own. Where it waits (sleep, join, channel, request) it
 * lets other tasks run. Where it blocks its thread instead, the others go on all the same: when it
 * has kept the thread for longer than a threshold (10 ms), its loop is *handed over* to a spare
 * thread. Nothing happens to the task that blocks; its next call into the library waits for the
 * loop. It is a defect of the program nevertheless, and is counted and reported: il_set_warn.
 *
 * So after any call into the library a task may go on in another thread. Do not keep thread-locals,
 * errno or locks that are owned by threads across such a call, or pin the task (il_task_pin).
 *
 * All functions may be called in a task and on a plain thread alike, unless they say otherwise; on
 * a plain thread, waiting blocks that thread alone. Times are nanoseconds of CLOCK_MONOTONIC;
 * deadlines are absolute. */
#ifndef INTERLOOP_RUNTIME_H
#define INTERLOOP_RUNTIME_H

#include <stdbool.h>

#include "interloop/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct il_runtime;
struct il_task;

/* A deadline that never comes. */
#define IL_FOREVER UINT64_MAX

/* ---- time ---- */

/* Now. Thread: any. Since 0.1. */
IL_API uint64_t il_now_ns(void);

/* The deadline `ms` milliseconds from now; IL_FOREVER for UINT64_MAX. Thread: any. Since 0.1. */
IL_API uint64_t il_deadline_in_ms(uint64_t ms);

/* ---- runtimes ---- */

enum il_runtime_kind {
    IL_RUNTIME_MULTI_THREAD,   /* worker threads that run all the time */
    IL_RUNTIME_CURRENT_THREAD, /* runs only inside il_block_on, on the caller's thread */
};

struct il_runtime_options {
    size_t size;               /* set by IL_RUNTIME_OPTIONS_INIT */
    enum il_runtime_kind kind; /* default IL_RUNTIME_MULTI_THREAD */
    const char *name;          /* shown in reports and thread names; copied; NULL means "runtime" */
    unsigned worker_count;     /* multi-thread: threads and loops; 0 means one per processor */
    unsigned task_count_max;   /* tasks alive at once; 0 means 1,000,000 */
    size_t stack_size;         /* bytes of each task's stack; 0 means 256 KiB */

    /* User code that keeps a thread of the runtime for longer loses the loop to a spare thread. 0
     * means 10; IL_FOREVER: it never does, and stops its loop until it returns. */
    uint64_t hand_over_after_ms;

    /* Current-thread only: hand the loop over too, while a thread is stuck inside il_block_on. Then
     * tasks may run on a thread that is not in il_block_on. When the stuck thread is back it drives
     * the runtime again itself; when il_block_on has returned, nobody does, as ever. */
    bool rescue;

    /* Never hand over, not even for il_block_in_place: tasks stay on their thread. (Not so at the
     * end: il_runtime_shutdown does not wait for who is stuck.) */
    bool is_pinned;
};

#define IL_RUNTIME_OPTIONS_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(struct il_runtime_options)                                                  \
    }

/* Make a runtime; a multi-thread one is running when this returns. `options` may be NULL. The
 * caller gets the first reference; end the runtime with il_runtime_drop or il_runtime_shutdown.
 * IL_EINVAL: an option is out of range. IL_ENOMEM, IL_ESYS: the system refused. Thread: any. Since
 * 0.1. */
IL_API IL_MUST_USE enum il_code il_runtime_new(const struct il_runtime_options *options,
                                               struct il_runtime **ret_runtime,
                                               struct il_error *err);

/* One more reference: a handle that may be kept anywhere and used after the runtime has ended (its
 * uses then answer IL_ESHUTDOWN). Returns `runtime`. Thread: any. Since 0.1. */
IL_API struct il_runtime *il_runtime_ref(struct il_runtime *runtime);

/* Give a reference back; the last one ends the runtime as il_runtime_drop does, if it still runs,
 * and frees it. Returns NULL; NULL is allowed. Thread: any; the last one not in a task of it. Since
 * 0.1. */
IL_API struct il_runtime *il_runtime_unref(struct il_runtime *runtime);

/* The runtime whose task or callback is running here; NULL on a plain thread. Borrowed.
 * Thread: any. Since 0.1. */
IL_API struct il_runtime *il_runtime_current(void);

/* Never NULL; lives as long as the runtime. Thread: any. Since 0.1. */
IL_API const char *il_runtime_name(const struct il_runtime *runtime);

#define IL_SHUTDOWN_NAMES_MAX 8
#define IL_TASK_NAME_SIZE     32

/* What was still in flight when a runtime's time to drain had run out. */
struct il_shutdown_report {
    unsigned task_count; /* tasks that had to be cancelled */
    unsigned call_count; /* requests that completed with IL_ESHUTDOWN, or whose on_done is stuck */
    unsigned
        stuck_task_count; /* tasks in user code that did not come back; see il_runtime_shutdown */
    char task_names[IL_SHUTDOWN_NAMES_MAX][IL_TASK_NAME_SIZE]; /* of the first of task_count */
};

/* End a runtime in order: refuse new tasks from outside, let the present ones finish until
 * `deadline_ns`, then cancel the rest. When this returns every task is finished, every request
 * whose home the runtime was has completed, and every connection it drove is closed or back in its
 * pool; other runtimes notice nothing. A current-thread runtime is driven here until then.
 *
 * A task that is stuck in code of its own cannot be cancelled. It is given a grace of 100 ms; then
 * it is left alone, on its thread, and reported: whatever it next calls answers IL_ESHUTDOWN, and
 * its memory is freed when it returns.
 *
 * IL_OK: all finished in time. IL_ETIMEDOUT: ended, but something had to be cancelled; the report
 * (may be NULL) says what. IL_ESHUTDOWN: it had been ended before, or another thread is ending it.
 * IL_EDEADLOCK: called in a task of this runtime. Thread: any. Since 0.1. */
IL_API enum il_code il_runtime_shutdown(struct il_runtime *runtime, uint64_t deadline_ns,
                                        struct il_shutdown_report *ret_report,
                                        struct il_error *err);

/* End a runtime at once (as il_runtime_shutdown with a deadline that has passed) and give the
 * reference back. Returns NULL; NULL is allowed. Thread: any, not in a task of it. Since 0.1. */
IL_API struct il_runtime *il_runtime_drop(struct il_runtime *runtime);

/* Run `run(arg)` as a task of `runtime` and wait for it. On a current-thread runtime this thread
 * drives the runtime meanwhile (or waits, while another thread does). IL_OK: it has run.
 * IL_EDEADLOCK: we are inside a task of that same runtime. IL_ESHUTDOWN: the runtime has ended;
 * `run` was not called. IL_ENOMEM, IL_ELIMIT: `run` was not called. Thread: any. Since 0.1. */
typedef void il_task_fn(void *arg);
IL_API IL_MUST_USE enum il_code il_block_on(struct il_runtime *runtime, il_task_fn *run, void *arg,
                                            struct il_error *err);

/* ---- tasks ---- */

/* Start a task. `name` is copied, cut to IL_TASK_NAME_SIZE - 1 bytes; NULL means "task". When this
 * returns IL_OK, `run` will be called exactly once, whatever happens: if the task is cancelled or
 * the runtime ends first, its first wait says so. So `arg` can always be freed by `run`.
 * After any call into the library the task may go on in another thread, where thread-locals and
 * errno are others, and locks that are owned by a thread cannot be unlocked: see il_task_pin.
 * `ret_task` may be NULL; else it gets a reference. IL_ESHUTDOWN: the runtime has ended or is
 * ending. IL_ELIMIT: task_count_max. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_spawn(struct il_runtime *runtime, const char *name,
                                         il_task_fn *run, void *arg, struct il_task **ret_task,
                                         struct il_error *err);

/* Wait until a task has finished. IL_ETIMEDOUT: not by the deadline. IL_ECANCELED, IL_ESHUTDOWN:
 * the waiting task was. IL_EDEADLOCK: a task that would wait for itself, or a callback. Thread:
 * any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_task_join(struct il_task *task, uint64_t deadline_ns,
                                             struct il_error *err);

/* Ask a task to end: from now on every wait in it returns IL_ECANCELED at once. Never waits.
 * Thread: any. Since 0.1. */
IL_API void il_task_cancel(struct il_task *task);

/* Thread: any. Since 0.1. */
IL_API bool il_task_is_finished(const struct il_task *task);

IL_API struct il_task *il_task_ref(struct il_task *task); /* Thread: any. Since 0.1. */
IL_API struct il_task *
il_task_unref(struct il_task *task); /* Returns NULL. Thread: any. Since 0.1. */

/* The task that is running here; NULL outside of tasks. Borrowed. Thread: any. Since 0.1. */
IL_API struct il_task *il_task_current(void);

/* Never NULL. Thread: any. Since 0.1. */
IL_API const char *il_task_name(const struct il_task *task);

/* Wait for time to pass. IL_ECANCELED, IL_ESHUTDOWN: the task was. IL_EDEADLOCK: called in a
 * callback, which must not wait. Thread: any. Since 0.1. */
IL_API enum il_code il_sleep_ms(uint64_t ms);
IL_API enum il_code
il_sleep_until(uint64_t deadline_ns); /* As il_sleep_ms. Thread: any. Since 0.1. */

/* Keep the calling task on the thread that it is on, until il_task_unpin has been called as often,
 * or it ends: its loop is not handed over meanwhile, whichever task blocks. For code that holds
 * what belongs to a thread (thread-locals, a lock owned by a thread, an open transaction of a
 * library that looks at the thread) across calls into this library. A callback that has lost the
 * loop to another thread, where the task is pinned, waits for the unpin at its next call into the
 * library: do not wait, while pinned, for what such a callback brings. In a current-thread runtime
 * the thread is that of whoever is in il_block_on, pinned or not. IL_EINVAL: not in a task, or
 * unpinned more often than pinned. IL_ESHUTDOWN: the task's runtime has ended without it.
 * Thread: any. Since 0.1. */
IL_API enum il_code il_task_pin(void);
IL_API enum il_code il_task_unpin(void); /* As il_task_pin. Thread: any. Since 0.1. */

/* Let other tasks of this loop run. On a plain thread nothing happens. Results as il_sleep_ms.
 * Thread: any. Since 0.1. */
IL_API enum il_code il_yield(void);

/* ---- code that blocks ---- */

/* Call run(arg) here, and say before that it will block this thread: the loop is handed over at
 * once, without the threshold's delay and without a warning. The task's next call into the library
 * waits for its loop. On a plain thread, in a callback, and where the loop is not handed over
 * (is_pinned, il_task_pin, a current-thread runtime without `rescue`) it only calls run(arg); so it
 * does when there is no spare thread left. Thread: any. Since 0.1. */
IL_API void il_block_in_place(il_task_fn *run, void *arg);

/* What il_spawn_blocking runs: called exactly once. With IL_OK: on a thread of the process's pool
 * for blocking code, outside of tasks; it may block as it likes, and use the library as on any
 * plain thread. Else it never began, and must only free what is `arg`'s: IL_ECANCELED, the task was
 * cancelled; IL_ESHUTDOWN, its runtime has ended. */
typedef void il_blocking_fn(void *arg, enum il_code start);

/* Start code that is known to block. It is a task of `runtime` whose work is done elsewhere:
 * joined, named, counted and reported like one; il_task_cancel ends it if it has not begun, and
 * else does nothing: a join waits for its end. When the runtime is ended, what has begun goes on by
 * itself. IL_ELIMIT: as many run and wait as may (il_set_thread_limits), or task_count_max. Else as
 * il_spawn. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_spawn_blocking(struct il_runtime *runtime, const char *name,
                                                  il_blocking_fn *run, void *arg,
                                                  struct il_task **ret_task, struct il_error *err);

/* How many threads the process may have for all runtimes together; 0 means the number given. */
struct il_thread_limits {
    size_t size;                 /* set by IL_THREAD_LIMITS_INIT */
    unsigned spare_count_max;    /* that stand in for stuck ones; 64 */
    uint64_t spare_idle_ms;      /* an idle one ends after; 10,000 */
    unsigned blocking_count_max; /* for il_spawn_blocking; 64 */
    unsigned blocking_queue_max; /* that wait for one of them; 4,096 */
    uint64_t blocking_idle_ms;   /* an idle one ends after; 10,000 */
};

#define IL_THREAD_LIMITS_INIT                                                                      \
    {                                                                                              \
        .size = sizeof(struct il_thread_limits)                                                    \
    }

/* Set the limits from now on. Those of the threads that are too many end when they have nothing to
 * do. IL_EINVAL: out of range (10,000 threads, 10,000,000 waiting). Thread: any. Since 0.1. */
IL_API enum il_code il_set_thread_limits(const struct il_thread_limits *limits,
                                         struct il_error *err);

/* ---- what is told of hand-overs ---- */

enum il_hand_over_kind {
    IL_HAND_OVER_BEGAN,   /* user code has kept its thread for too long: a spare has its loop now */
    IL_HAND_OVER_ENDED,   /* that code is back */
    IL_HAND_OVER_REFUSED, /* too long, but there is no spare thread: its loop stands still. Told
                           * once for each such code; a spare that becomes free goes there */
};

struct il_hand_over {
    enum il_hand_over_kind kind;
    bool is_announced; /* by il_block_in_place: counted, but not told to the hook */
    uint64_t stuck_ns; /* how long it has kept its thread, or did; of a callback: at most */
    int thread_id;     /* the kernel's id of that thread */
    char runtime[32];  /* "" for a private loop, or when it is not known any more */
    char loop[32];     /* by name */
    char task[32];     /* "" for a callback */
    char function[64]; /* where the task or callback begins: "fetch_all", else "program+0x12ab" */
    char thread[96];   /* what the thread does, says the kernel: "is 'A/0' and sleeps in ..." */
};

/* Called on a thread of the library's or of the one that blocked, under no lock, but while a loop
 * waits: must be short, and must not call the library. */
typedef void il_warn_fn(void *arg, const struct il_hand_over *event);

/* Set the process's hook for hand-overs. NULL, the default: each is a line for il_set_log's hook.
 * Thread: any, one at a time; set it before the first runtime. Since 0.1. */
IL_API void il_set_warn(il_warn_fn *warn, void *arg);

/* One runtime's figures, since it was made. */
struct il_runtime_stats {
    uint64_t hand_over_count; /* how often a spare had to take one of its loops */
    uint64_t announced_count; /* of those, by il_block_in_place */
    uint64_t stuck_ns_total;  /* in user code that lost its loop, and has come back */
    uint64_t stuck_ns_max;
    uint32_t task_count;
    uint32_t away_task_count; /* of those, without their loop now */
};

/* Thread: any. Since 0.1. */
IL_API void il_runtime_stats(const struct il_runtime *runtime, struct il_runtime_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
