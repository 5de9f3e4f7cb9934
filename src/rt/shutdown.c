/* shutdown.c: how a runtime ends.
 *
 *   RUNNING ---> DRAINING: no new tasks from outside; those there may finish, until the deadline
 *           ---> every wait answers IL_ESHUTDOWN; each loop ends when its last task has finished
 *           ---> GONE
 *
 * Each loop is ended by its holder. Where the holder is stuck in user code for longer than the
 * grace, a spare takes the loop over (handover.h), whatever the runtime's options say, runs the
 * other tasks to their end, and ends the loop without the stuck one, which becomes an orphan: its
 * thread runs it to its end, and frees it.
 * Threads: the one that ends the runtime; any other is told IL_ESHUTDOWN. */
#include <stdio.h>

#include "rt/task.h"

void rt_call_begins(struct il_loop *loop)
{
    struct il_runtime *runtime = rt_loop_runtime(loop);

    if (runtime != NULL) {
        atomic_fetch_add(&runtime->call_count, 1);
    }
}

void rt_call_ends(struct il_loop *loop)
{
    loop->held.must_return = true; /* somebody may drive this loop only until now */
    rt_call_is_refused(loop);
}

void rt_call_is_refused(struct il_loop *loop)
{
    struct il_runtime *runtime = rt_loop_runtime(loop);

    if (runtime != NULL && atomic_fetch_sub(&runtime->call_count, 1) == 1 &&
        atomic_load(&runtime->state) != RUNTIME_RUNNING) {
        sys_mutex_lock(&runtime->locked.mutex);
        sys_cond_broadcast(&runtime->locked.quiet);
        sys_mutex_unlock(&runtime->locked.mutex);
    }
}

void rt_call_was_evicted(struct il_loop *loop)
{
    if (!loop->is_thread_loop) {
        atomic_fetch_add(&((struct rt_loop *)loop->owner)->evicted_call_count, 1);
    }
}

void runtime_note_loop_ended(struct rt_loop *home)
{
    struct il_runtime *runtime = home->runtime;

    sys_mutex_lock(&runtime->locked.mutex);
    home->ending.has_ended = true;
    sys_cond_broadcast(&runtime->locked.quiet);
    sys_mutex_unlock(&runtime->locked.mutex);
}

/* ---- draining ---- */

static bool runtime_is_quiet(void *arg)
{
    struct il_runtime *runtime = arg;

    return atomic_load(&runtime->task_count) == 0 && atomic_load(&runtime->call_count) == 0;
}

static void drain_multi_thread(struct il_runtime *runtime, uint64_t deadline_ns)
{
    sys_mutex_lock(&runtime->locked.mutex);
    while (!runtime_is_quiet(runtime) &&
           sys_cond_wait_until(&runtime->locked.quiet, &runtime->locked.mutex, deadline_ns)) {
    }
    sys_mutex_unlock(&runtime->locked.mutex);
}

/* Drive the loop here, or wait while another thread does. */
static void drain_current_thread(struct rt_loop *home, uint64_t deadline_ns)
{
    struct rt_drive drive;

    while (!runtime_is_quiet(home->runtime) && sys_now_ns() < deadline_ns) {
        bool is_lost = false;

        if (!loop_hold_until(home->loop, deadline_ns)) {
            return;
        }
        rt_drive_begin(&drive, rt_thread(), home->runtime);
        while (!is_lost && !runtime_is_quiet(home->runtime) &&
               loop_now_ns(home->loop) < deadline_ns) {
            is_lost = loop_turn(home->loop, deadline_ns) == LOOP_LOST;
        }
        rt_drive_end(&drive);
        if (is_lost) {
            loop_own_is_back(home->loop);
        } else {
            il_assert_on_loop(home->loop);
            loop_release(home->loop);
        }
    }
}

/* ---- stopping ---- */

static void report_task(const struct rt_task_view *task, void *arg)
{
    struct il_shutdown_report *report = arg;

    if (report->task_count < IL_SHUTDOWN_NAMES_MAX) {
        (void)snprintf(report->task_names[report->task_count], IL_TASK_NAME_SIZE, "%s", task->name);
    }
    report->task_count++;
}

/* On the loop: let every task see that its waits are over. From here on the loop ends when its last
 * task has; asked for here and not by stop_loop, so that it sleeps until then as it always does. */
static enum loop_result stop_on_loop(struct il_loop *loop, struct job *job)
{
    struct rt_loop *home = il_container_of(job, struct rt_loop, stop_job);

    atomic_store(&loop->shared.stop_requested, true);
    sys_mutex_lock(&home->locked.mutex);
    il_list_for_each(&home->locked.tasks, node)
    {
        /* on our own loop waking is a push: no lock, no system call */
        party_wake(&il_container_of(node, struct il_task, link)->party);
    }
    sys_mutex_unlock(&home->locked.mutex);
    loop->held.must_return = true;
    return LOOP_HELD;
}

static void stop_loop(struct rt_loop *home)
{
    home->stop_ns = sys_now_ns();
    atomic_store(&home->is_stopping, true);
    home->stop_job.run = stop_on_loop;
    il_assert(loop_post(home->loop, &home->stop_job)); /* nobody seals before it has run */
}

/* ---- rescue ---- */

/* Has the holder been in the same stay in user code for a grace? Then let a spare have the loop. We
 * look more often than that: whenever another loop has ended. */
static void rescue_loop(struct rt_loop *home)
{
    uint64_t word = loop_hold_word(home->loop);
    uint64_t now_ns = sys_now_ns();

    if (loop_hold_word_state(word) != LOOP_HELD_IN_USER || word != home->ending.word_seen) {
        home->ending.word_seen = word;
        home->ending.word_seen_ns = now_ns;
    } else if (now_ns - home->ending.word_seen_ns >= RUNTIME_GRACE_NS) {
        handover_rescue(&home->seat, word, home->ending.word_seen_ns);
    }
}

/* ---- the end ---- */

/* A loop that has no thread of its own: end it here, if nobody drives it for longer than a grace.
 */
static bool try_end_here(struct rt_loop *home)
{
    struct rt_drive drive;
    enum loop_result result;

    if (!loop_hold_until(home->loop, sys_now_ns() + RUNTIME_GRACE_NS)) {
        return false;
    }
    rt_drive_begin(&drive, rt_thread(), home->runtime);
    result = runtime_run_to_the_end(home);
    rt_drive_end(&drive);
    if (result == LOOP_HELD) {
        runtime_note_loop_ended(home);
    } else {
        loop_own_is_back(home->loop);
    }
    return result == LOOP_HELD;
}

static unsigned loops_not_ended(struct il_runtime *runtime)
{
    unsigned count = 0;

    for (unsigned i = 0; i < runtime->loop_count; i++) {
        count += !runtime->loops[i].ending.has_ended;
    }
    return count;
}

static void wait_for_an_end(struct il_runtime *runtime, uint64_t deadline_ns)
{
    unsigned count;

    sys_mutex_lock(&runtime->locked.mutex);
    count = loops_not_ended(runtime);
    while (count > 0 && loops_not_ended(runtime) == count &&
           sys_cond_wait_until(&runtime->locked.quiet, &runtime->locked.mutex, deadline_ns)) {
    }
    sys_mutex_unlock(&runtime->locked.mutex);
}

static bool home_has_ended(struct rt_loop *home)
{
    bool has_ended;

    sys_mutex_lock(&home->runtime->locked.mutex);
    has_ended = home->ending.has_ended;
    sys_mutex_unlock(&home->runtime->locked.mutex);
    return has_ended;
}

static void end_loops(struct il_runtime *runtime)
{
    bool is_all_ended = false;

    while (!is_all_ended) {
        is_all_ended = true;
        for (unsigned i = 0; i < runtime->loop_count; i++) {
            struct rt_loop *home = &runtime->loops[i];

            if (home_has_ended(home) || (home->worker == NULL && try_end_here(home))) {
                continue;
            }
            is_all_ended = false;
            rescue_loop(home);
        }
        if (!is_all_ended) {
            wait_for_an_end(runtime, sys_now_ns() + RUNTIME_GRACE_NS);
        }
    }
}

static void join_threads(struct il_runtime *runtime)
{
    for (unsigned i = 0; i < runtime->loop_count; i++) {
        struct rt_loop *home = &runtime->loops[i];

        handover_forget(&home->seat);
        if (home->worker != NULL && loop_own_is_absent(home->loop)) {
            sys_thread_detach(home->worker); /* stuck, or just coming back */
        } else if (home->worker != NULL) {
            sys_thread_join(home->worker);
        }
        home->worker = NULL;
    }
    handover_unuse();
}

/* All loops have ended: the calls that are still counted are those whose callback is stuck. */
static void report_rest(struct il_runtime *runtime, struct il_shutdown_report *report)
{
    report->call_count = atomic_load(&runtime->call_count);
    for (unsigned i = 0; i < runtime->loop_count; i++) {
        report->call_count += atomic_load(&runtime->loops[i].evicted_call_count);
        report->stuck_task_count += atomic_load(&runtime->loops[i].away_count);
    }
}

enum il_code runtime_end(struct il_runtime *runtime, uint64_t deadline_ns,
                         struct il_shutdown_report *ret_report, struct il_error *err)
{
    int running = RUNTIME_RUNNING;

    if (!atomic_compare_exchange_strong(&runtime->state, &running, RUNTIME_DRAINING)) {
        return il_fail(err, IL_ESHUTDOWN, "runtime '%s' has been shut down before", runtime->name);
    }
    if (runtime->kind == IL_RUNTIME_MULTI_THREAD) {
        drain_multi_thread(runtime, deadline_ns);
    } else {
        drain_current_thread(&runtime->loops[0], deadline_ns);
    }
    memset(ret_report, 0, sizeof(*ret_report));
    for (unsigned i = 0; i < runtime->loop_count; i++) {
        rt_for_each_task(runtime->loops[i].loop, report_task, ret_report);
    }
    for (unsigned i = 0; i < runtime->loop_count; i++) {
        stop_loop(&runtime->loops[i]);
    }
    end_loops(runtime);
    join_threads(runtime);
    report_rest(runtime, ret_report);
    atomic_store(&runtime->state, RUNTIME_GONE);
    if (ret_report->task_count == 0 && ret_report->call_count == 0) {
        return IL_OK;
    }
    return il_fail(err, IL_ETIMEDOUT,
                   "runtime '%s' was shut down with %u task%s (%u of them stuck) and %u request%s "
                   "still in flight; first task: '%s'",
                   runtime->name, ret_report->task_count, il_plural(ret_report->task_count),
                   ret_report->stuck_task_count, ret_report->call_count,
                   il_plural(ret_report->call_count), ret_report->task_names[0]);
}

enum il_code il_runtime_shutdown(struct il_runtime *runtime, uint64_t deadline_ns,
                                 struct il_shutdown_report *ret_report, struct il_error *err)
{
    struct il_shutdown_report report;
    struct rt_thread *thread;
    enum il_code code;

    if (runtime == NULL) {
        return il_fail(err, IL_EINVAL, "il_runtime_shutdown: runtime is NULL");
    }
    thread = rt_thread_or(&runtime->spare_thread);
    if (thread == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for the record of this thread");
    }
    if (runtime->fork_generation != sys_fork_generation()) {
        return il_fail(err, IL_EFORK, "runtime '%s' belongs to the parent process", runtime->name);
    }
    if (rt_thread_is_inside(thread, runtime)) {
        return il_fail(err, IL_EDEADLOCK,
                       "il_runtime_shutdown('%s') in a task of that runtime: it would wait for "
                       "itself",
                       runtime->name);
    }
    code = runtime_end(runtime, deadline_ns, &report, err);
    if ((code == IL_OK || code == IL_ETIMEDOUT) && ret_report != NULL) {
        *ret_report = report;
    }
    return code;
}

struct il_runtime *il_runtime_drop(struct il_runtime *runtime)
{
    if (runtime != NULL) {
        struct rt_thread *thread = rt_thread_or(&runtime->spare_thread);

        il_assert(thread == NULL || !rt_thread_is_inside(thread, runtime));
        /* ended now or before; in a fork's child there is nothing that could be ended */
        (void)il_runtime_shutdown(runtime, 0, NULL, NULL);
        (void)il_runtime_unref(runtime);
    }
    return NULL;
}
