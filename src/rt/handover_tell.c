/* handover_tell.c: hand-overs are counted, and told to the warn hook or the log.
 *
 * Owns: the hook, and the counts of the process. Threads: any; each function says. No lock. */
#include <dlfcn.h>
#include <stdio.h>

#include "rt/handover.h"
#include "rt/task.h"

static _Atomic(il_warn_fn *) warn_hook;
static _Atomic(void *) warn_arg;

static _Atomic uint64_t hand_over_count, announced_count, refused_count;

void il_set_warn(il_warn_fn *warn, void *arg)
{
    atomic_store(&warn_hook, NULL);
    atomic_store(&warn_arg, arg);
    atomic_store(&warn_hook, warn);
}

/* "function", "program+0x12ab" for addr2line, or "" */
static void name_function(void (*function)(void), char *text, size_t size)
{
    Dl_info info;
    const char *file;

    if (function == NULL || dladdr((void *)function, &info) == 0) {
        return;
    }
    if (info.dli_sname != NULL && info.dli_saddr == (void *)function) {
        (void)snprintf(text, size, "%s", info.dli_sname);
        return;
    }
    file = strrchr(info.dli_fname, '/');
    file = file != NULL ? file + 1 : info.dli_fname;
    (void)snprintf(text, size, "%.40s+0x%zx", file,
                   (size_t)((const char *)(void *)function - (const char *)info.dli_fbase));
}

static void tell_log(const struct il_hand_over *event)
{
    char what[160];

    (void)snprintf(what, sizeof(what), "%s%s%s (function %s)",
                   event->task[0] != '\0' ? "task '" : "a callback", event->task,
                   event->task[0] != '\0' ? "'" : "",
                   event->function[0] != '\0' ? event->function : "not known");
    switch (event->kind) {
    case IL_HAND_OVER_BEGAN:
        il_log_event("loop '%s' was handed over: %s blocks thread %d, which %s, since %llu ms",
                     event->loop, what, event->thread_id, event->thread,
                     (unsigned long long)(event->stuck_ns / LOOP_NS_PER_MS));
        break;
    case IL_HAND_OVER_ENDED:
        il_log_event("loop '%s': %s is back; it blocked its thread for %llu ms", event->loop, what,
                     (unsigned long long)(event->stuck_ns / LOOP_NS_PER_MS));
        break;
    case IL_HAND_OVER_REFUSED:
        il_log_event("loop '%s' stands still: %s blocks thread %d, which %s, and all spare threads "
                     "are in use; see il_set_thread_limits",
                     event->loop, what, event->thread_id, event->thread);
        break;
    }
}

static void tell(const struct il_hand_over *event)
{
    il_warn_fn *hook = atomic_load(&warn_hook);

    if (event->is_announced) {
        return;
    }
    if (hook != NULL) {
        hook(atomic_load(&warn_arg), event);
    } else {
        tell_log(event);
    }
}

static bool somebody_listens(bool is_announced)
{
    return !is_announced && (atomic_load(&warn_hook) != NULL || il_log_is_on());
}

static void event_name(struct il_hand_over *event, const struct il_runtime *runtime,
                       const struct il_loop *loop, const char *task, void (*function)(void))
{
    (void)snprintf(event->loop, sizeof(event->loop), "%s", loop->name);
    (void)snprintf(event->runtime, sizeof(event->runtime), "%s",
                   runtime != NULL ? runtime->name : "");
    (void)snprintf(event->task, sizeof(event->task), "%s", task);
    name_function(function, event->function, sizeof(event->function));
    sys_thread_describe(event->thread_id, event->thread, sizeof(event->thread));
}

void handover_count(bool is_announced)
{
    atomic_fetch_add(&hand_over_count, 1);
    if (is_announced) {
        atomic_fetch_add(&announced_count, 1);
    }
}

void handover_tell_began(struct il_loop *loop, const struct il_task *task, bool is_announced,
                         uint64_t stuck_ns, int thread_id)
{
    struct il_hand_over event = {
        .kind = IL_HAND_OVER_BEGAN,
        .is_announced = is_announced,
        .stuck_ns = stuck_ns,
        .thread_id = thread_id,
    };

    if (somebody_listens(is_announced)) {
        event_name(&event, rt_loop_runtime(loop), loop, task != NULL ? task->name : "",
                   loop->held.user_function);
        tell(&event);
    }
}

static void note_max(_Atomic uint64_t *max, uint64_t value)
{
    uint64_t seen = atomic_load(max);

    while (seen < value && !atomic_compare_exchange_weak(max, &seen, value)) {
    }
}

/* The loop may have ended, and the runtime be gone; the task keeps its own. */
void handover_tell_ended(struct il_loop *loop, const struct il_task *task, void (*function)(void),
                         bool is_announced, uint64_t stuck_ns)
{
    struct il_hand_over event = {
        .kind = IL_HAND_OVER_ENDED,
        .is_announced = is_announced,
        .stuck_ns = stuck_ns,
        .thread_id = sys_thread_self()->kernel_id,
    };

    atomic_fetch_add(&loop->shared.stuck_ns_total, stuck_ns);
    note_max(&loop->shared.stuck_ns_max, stuck_ns);
    if (somebody_listens(is_announced)) {
        event_name(&event, task != NULL ? task->home->runtime : NULL, loop,
                   task != NULL ? task->name : "", function);
        tell(&event);
    }
}

/* The task that runs on the loop, if it is one. */
static void refused_note_task(const struct rt_task_view *task, void *arg)
{
    struct il_hand_over *event = arg;

    if (task->is_running && !task->is_away) {
        (void)snprintf(event->task, sizeof(event->task), "%s", task->name);
    }
}

void handover_tell_refused(struct il_loop *loop, uint64_t stuck_ns)
{
    struct il_hand_over event = {
        .kind = IL_HAND_OVER_REFUSED,
        .stuck_ns = stuck_ns,
        .thread_id = atomic_load(&loop->shared.holder_kernel_id),
    };
    char task[IL_TASK_NAME_SIZE];

    atomic_fetch_add(&refused_count, 1);
    if (somebody_listens(false)) {
        rt_for_each_task(loop, refused_note_task, &event);
        (void)snprintf(task, sizeof(task), "%s", event.task);
        event_name(&event, rt_loop_runtime(loop), loop, task, NULL); /* the loop is not ours */
        tell(&event);
    }
}

void rt_count_threads(struct il_watch_threads *ret_threads)
{
    struct crew_counts spares, blocking;

    crew_counts(&rt_spares, &spares);
    crew_counts(&rt_blocking, &blocking);
    *ret_threads = (struct il_watch_threads){
        .hand_over_count = atomic_load(&hand_over_count),
        .announced_count = atomic_load(&announced_count),
        .refused_count = atomic_load(&refused_count),
        .spare_count = spares.thread_count,
        .spare_busy_count = spares.busy_count,
        .spare_count_max = spares.thread_count_max,
        .blocking_count = blocking.thread_count,
        .blocking_busy_count = blocking.busy_count,
        .blocking_count_max = blocking.thread_count_max,
        .blocking_queued_count = blocking.queue_count,
    };
}

void il_runtime_stats(const struct il_runtime *runtime, struct il_runtime_stats *ret_stats)
{
    *ret_stats = (struct il_runtime_stats){ .task_count = atomic_load(&runtime->task_count) };
    for (unsigned i = 0; i < runtime->loop_count; i++) {
        const struct rt_loop *home = &runtime->loops[i];
        uint64_t stuck_ns_max = atomic_load(&home->loop->shared.stuck_ns_max);

        ret_stats->hand_over_count += atomic_load(&home->loop->shared.take_over_count);
        ret_stats->announced_count += atomic_load(&home->loop->shared.announced_count);
        ret_stats->stuck_ns_total += atomic_load(&home->loop->shared.stuck_ns_total);
        ret_stats->stuck_ns_max =
            stuck_ns_max > ret_stats->stuck_ns_max ? stuck_ns_max : ret_stats->stuck_ns_max;
        ret_stats->away_task_count += atomic_load(&home->away_count);
    }
}
