/* runtime.c: runtimes: their loops, the threads that drive them, and how tasks come in.
 *
 * Owns: the loops and worker threads of each runtime. Every loop of a multi-thread runtime has a
 *   worker that holds it all the time; the loop of a current-thread runtime is held by whoever is
 *   in il_block_on with it.
 * Threads: any. Under runtime->locked.mutex nothing is locked but the depot of stacks.
 * Ends: shutdown.c. The memory goes with the last reference; each task has one. */
#include <errno.h>
#include <stdio.h>

#include "rt/task.h"

#define RUNTIME_WORKERS_MAX   1024
#define RUNTIME_TASKS_DEFAULT 1000000
#define RUNTIME_NAME_DEFAULT  "runtime"

#define RUNTIME_HAND_OVER_MS_DEFAULT 10

static _Atomic uint64_t runtime_live_count;

/* ---- driving a loop ---- */

static bool loop_is_left(const struct rt_loop *home)
{
    return atomic_load(&home->loop->shared.stop_requested) &&
           atomic_load(&home->task_count) == atomic_load(&home->away_count);
}

/* Those that are stuck get a grace; a loop that has none ends at once. */
static bool runtime_has_waited(const struct rt_loop *home)
{
    return (atomic_load(&home->away_count) == 0 &&
            atomic_load(&home->loop->shared.absent_count) <= 0) ||
           sys_now_ns() - home->stop_ns >= RUNTIME_GRACE_NS;
}

bool runtime_try_end_loop(struct rt_loop *home)
{
    il_assert_on_loop(home->loop);
    if (IL_LIKELY(!loop_is_left(home)) || !runtime_has_waited(home) || !loop_try_seal(home->loop)) {
        return false;
    }
    stack_cache_deinit(&home->held.stacks);
    loop_end(home->loop);
    return true;
}

uint64_t runtime_turn_deadline_ns(const struct rt_loop *home)
{
    if (IL_LIKELY(!loop_is_left(home))) {
        return IL_FOREVER; /* tasks that are to end are slept for */
    }
    /* a grace is slept out; what then still lies in the mailbox is not slept for */
    return runtime_has_waited(home) ? 0 : home->stop_ns + RUNTIME_GRACE_NS;
}

/* Named so that a stack trace says what the thread is for. */
IL_NOINLINE enum loop_result runtime_run_to_the_end(struct rt_loop *home)
{
    while (!runtime_try_end_loop(home)) {
        if (loop_turn(home->loop, runtime_turn_deadline_ns(home)) == LOOP_LOST) {
            return LOOP_LOST;
        }
        if (IL_UNLIKELY(loop_is_claimed(home->loop)) && !loop_lend(home->loop)) {
            return LOOP_LOST;
        }
    }
    return LOOP_HELD;
}

static bool loop_is_over(void *arg)
{
    return loop_has_ended(arg);
}

/* While a stand-in has the loop the runtime may end, and be gone: only the loop is sure to stay. */
static void worker_main(void *arg)
{
    struct rt_loop *home = arg;
    struct il_loop *loop = loop_ref(home->loop);
    bool has_ended = false;
    struct rt_drive drive;

    rt_drive_begin(&drive, rt_thread(), home->runtime);
    while (!has_ended && handover_hold_unless(loop, loop_is_over, loop)) {
        has_ended = runtime_run_to_the_end(home) == LOOP_HELD;
        if (has_ended) {
            runtime_note_loop_ended(home);
        } else {
            loop_own_is_back(loop);
        }
    }
    rt_drive_end(&drive);
    (void)loop_unref(loop);
}

void runtime_drive_until(struct rt_loop *home, bool (*is_done)(void *arg), void *arg)
{
    struct rt_drive drive;

    while (!is_done(arg)) {
        bool is_lost = false, has_ended = false;

        if (!handover_hold_unless(home->loop, is_done, arg)) {
            return;
        }
        rt_drive_begin(&drive, rt_thread(), home->runtime);
        while (!is_lost && !has_ended && !is_done(arg)) {
            is_lost = loop_turn(home->loop, IL_FOREVER) == LOOP_LOST;
            has_ended = !is_lost && IL_UNLIKELY(loop_is_claimed(home->loop)) &&
                        !loop_lend(home->loop); /* somebody shuts the runtime down */
        }
        rt_drive_end(&drive);
        if (is_lost) {
            loop_own_is_back(home->loop);
        } else if (!has_ended) {
            il_assert_on_loop(home->loop);
            loop_release(home->loop);
        }
    }
}

/* ---- making a runtime ---- */

static enum il_code runtime_check_options(const struct il_runtime_options *options,
                                          struct il_error *err)
{
    if (options->size != sizeof(*options)) {
        return il_fail(
            err, IL_EINVAL,
            "il_runtime_options: size is %zu, want %zu (IL_RUNTIME_OPTIONS_INIT sets it)",
            options->size, sizeof(*options));
    }
    if (options->kind != IL_RUNTIME_MULTI_THREAD && options->kind != IL_RUNTIME_CURRENT_THREAD) {
        return il_fail(err, IL_EINVAL, "il_runtime_options: unknown kind %d", (int)options->kind);
    }
    if (options->worker_count > RUNTIME_WORKERS_MAX) {
        return il_fail(err, IL_EINVAL,
                       "il_runtime_options: worker_count %u is over the limit of %u",
                       options->worker_count, RUNTIME_WORKERS_MAX);
    }
    if (options->kind == IL_RUNTIME_MULTI_THREAD && options->rescue) {
        return il_fail(err, IL_EINVAL,
                       "il_runtime_options: rescue is for current-thread runtimes; the loops of a "
                       "multi-thread one are handed over in any case (hand_over_after_ms)");
    }
    if (options->rescue && options->is_pinned) {
        return il_fail(err, IL_EINVAL,
                       "il_runtime_options: rescue hands the loop over, is_pinned forbids it");
    }
    if (options->kind == IL_RUNTIME_CURRENT_THREAD && options->worker_count > 1) {
        return il_fail(err, IL_EINVAL,
                       "il_runtime_options: a current-thread runtime has no workers, not %u",
                       options->worker_count);
    }
    return IL_OK;
}

/* Stacks that lay unused for long give their pages back. */
static void runtime_before_sleep(struct il_loop *loop)
{
    struct rt_loop *home = loop->owner;

    /* when to come again is of no matter: a loop that sleeps on keeps a little memory */
    (void)stack_cache_trim(&home->held.stacks, loop->held.now_ns);
}

static void runtime_deinit_loop(struct rt_loop *home)
{
    il_assert(il_list_is_empty(&home->locked.tasks));
    sys_mutex_deinit(&home->locked.mutex);
    home->loop = loop_unref(home->loop);
}

/* A loop that never ran. */
static void runtime_abandon_loop(struct rt_loop *home)
{
    il_assert(loop_try_hold(home->loop));
    il_assert_on_loop(home->loop);
    stack_cache_deinit(&home->held.stacks);
    il_assert(loop_try_seal(home->loop));
    loop_end(home->loop);
    handover_forget(&home->seat);
    runtime_deinit_loop(home);
}

/* How long user code may keep a thread of the runtime. */
static uint64_t runtime_hand_over_after_ns(const struct il_runtime_options *options)
{
    uint64_t ms = options->hand_over_after_ms > 0 ? options->hand_over_after_ms
                                                  : RUNTIME_HAND_OVER_MS_DEFAULT;

    if (options->is_pinned || (options->kind == IL_RUNTIME_CURRENT_THREAD && !options->rescue) ||
        ms > IL_FOREVER / LOOP_NS_PER_MS) {
        return SYS_FOREVER;
    }
    return ms * LOOP_NS_PER_MS;
}

static enum il_code runtime_init_loop(struct il_runtime *runtime, unsigned index,
                                      struct il_error *err)
{
    struct rt_loop *home = &runtime->loops[index];
    char name[LOOP_NAME_SIZE + 16];
    enum il_code code;

    if (runtime->kind == IL_RUNTIME_MULTI_THREAD) {
        (void)snprintf(name, sizeof(name), "%s/%u", runtime->name, index);
    } else {
        (void)snprintf(name, sizeof(name), "%s", runtime->name);
    }
    code = stack_cache_init(&home->held.stacks, runtime->stack_size, err);
    if (code != IL_OK) {
        return code;
    }
    /* All of it before the loop is made: from then on the watch sees the loop, and its owner. */
    home->runtime = runtime;
    home->index = index;
    sys_mutex_init(&home->locked.mutex);
    il_list_init(&home->locked.tasks);
    code = loop_new(name, home, false, &home->loop, err);
    if (code != IL_OK) {
        sys_mutex_deinit(&home->locked.mutex);
        stack_cache_deinit(&home->held.stacks);
        return code;
    }
    home->loop->held.before_sleep = runtime_before_sleep; /* before anybody can hold it */
    home->loop->on_awake = handover_on_awake;
    home->loop->has_worker = runtime->kind == IL_RUNTIME_MULTI_THREAD;
    seat_init(&home->seat, home->loop, runtime->hand_over_after_ns, runtime->is_pinned);
    if (runtime->hand_over_after_ns == SYS_FOREVER) {
        return IL_OK;
    }
    code = handover_watch(&home->seat, err);
    if (code != IL_OK) {
        runtime_abandon_loop(home);
    }
    return code;
}

static enum il_code runtime_start_worker(struct rt_loop *home, struct il_error *err)
{
    int result = rt_thread_start(&home->worker, home->loop->name, worker_main, home);

    if (result < 0) {
        return il_fail_errno(err, result == -ENOMEM ? IL_ENOMEM : IL_ESYS, -result,
                             "start worker thread '%s'", home->loop->name);
    }
    return IL_OK;
}

static void runtime_free(struct il_runtime *runtime)
{
    for (unsigned i = 0; i < runtime->loop_count; i++) {
        runtime_deinit_loop(&runtime->loops[i]);
    }
    stack_cache_deinit(&runtime->locked.spawn_stacks);
    sys_cond_deinit(&runtime->locked.quiet);
    sys_mutex_deinit(&runtime->locked.mutex);
    rt_thread_free(atomic_load(&runtime->spare_thread));
    il_free(runtime);
    atomic_fetch_sub(&runtime_live_count, 1);
}

static enum il_code runtime_alloc(const struct il_runtime_options *options,
                                  struct il_runtime **ret_runtime, struct il_error *err)
{
    unsigned loop_count = 1;
    struct il_runtime *runtime;
    struct rt_thread *spare;
    enum il_code code;

    if (options->kind == IL_RUNTIME_MULTI_THREAD) {
        loop_count = options->worker_count > 0 ? options->worker_count : sys_processor_count();
    }
    runtime = il_calloc(1, sizeof(*runtime) + loop_count * sizeof(runtime->loops[0]));
    spare = rt_thread_new();
    if (runtime == NULL || spare == NULL) {
        code = il_fail(err, IL_ENOMEM, "no memory for a runtime with %u loop%s", loop_count,
                       il_plural(loop_count));
        goto fail_memory;
    }
    code = stack_cache_init(&runtime->locked.spawn_stacks, options->stack_size, err);
    if (code != IL_OK) {
        goto fail_memory;
    }
    atomic_init(&runtime->spare_thread, spare);
    runtime->kind = options->kind;
    (void)snprintf(runtime->name, sizeof(runtime->name), "%s",
                   options->name != NULL ? options->name : RUNTIME_NAME_DEFAULT);
    runtime->fork_generation = sys_fork_generation();
    runtime->task_count_max =
        options->task_count_max > 0 ? options->task_count_max : RUNTIME_TASKS_DEFAULT;
    runtime->stack_size = options->stack_size;
    runtime->hand_over_after_ns = runtime_hand_over_after_ns(options);
    runtime->is_pinned =
        options->is_pinned || (options->kind == IL_RUNTIME_CURRENT_THREAD && !options->rescue);
    runtime->loop_count = loop_count;
    atomic_init(&runtime->ref_count, 1);
    sys_mutex_init(&runtime->locked.mutex);
    sys_cond_init(&runtime->locked.quiet);
    *ret_runtime = runtime;
    return IL_OK;

fail_memory:
    rt_thread_free(spare);
    il_free(runtime);
    return code;
}

enum il_code il_runtime_new(const struct il_runtime_options *options,
                            struct il_runtime **ret_runtime, struct il_error *err)
{
    static const struct il_runtime_options defaults = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime = NULL;
    enum il_code code;
    unsigned made = 0;

    if (ret_runtime == NULL) {
        return il_fail(err, IL_EINVAL, "il_runtime_new: ret_runtime is NULL");
    }
    options = options != NULL ? options : &defaults;
    code = runtime_check_options(options, err);
    if (code != IL_OK) {
        return code;
    }
    if (rt_thread() == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for the record of this thread");
    }
    code = runtime_alloc(options, &runtime, err);
    if (code != IL_OK) {
        return code;
    }
    while (made < runtime->loop_count && (code = runtime_init_loop(runtime, made, err)) == IL_OK) {
        made++;
    }
    if (code != IL_OK) {
        while (made > 0) {
            runtime_abandon_loop(&runtime->loops[--made]);
        }
        runtime->loop_count = 0;
        atomic_fetch_add(&runtime_live_count, 1); /* runtime_free takes it back */
        runtime_free(runtime);
        return code;
    }
    atomic_fetch_add(&runtime_live_count, 1);
    handover_use();
    for (unsigned i = 0; i < made && runtime->kind == IL_RUNTIME_MULTI_THREAD; i++) {
        code = runtime_start_worker(&runtime->loops[i], err);
        if (code != IL_OK) {
            (void)il_runtime_drop(
                runtime); /* ends those that have a worker, and those that have none */
            return code;
        }
    }
    *ret_runtime = runtime;
    return IL_OK;
}

/* ---- references ---- */

struct il_runtime *il_runtime_ref(struct il_runtime *runtime)
{
    atomic_fetch_add_explicit(&runtime->ref_count, 1, memory_order_relaxed);
    return runtime;
}

struct il_runtime *il_runtime_unref(struct il_runtime *runtime)
{
    uint32_t before;

    if (runtime == NULL) {
        return NULL;
    }
    before = atomic_fetch_sub_explicit(&runtime->ref_count, 1, memory_order_acq_rel);
    il_assert(before > 0);
    if (before == 1 && runtime->fork_generation == sys_fork_generation()) {
        if (atomic_load(&runtime->state) == RUNTIME_RUNNING) {
            atomic_store(&runtime->ref_count, 1);
            return il_runtime_drop(runtime);
        }
        runtime_free(runtime);
    }
    return NULL;
}

struct il_runtime *il_runtime_current(void)
{
    struct rt_thread *thread = rt_thread();

    if (thread == NULL) {
        return NULL;
    }
    if (thread->task != NULL) {
        return thread->task->home->runtime;
    }
    return thread->loop != NULL ? rt_loop_runtime(thread->loop) : NULL;
}

const char *il_runtime_name(const struct il_runtime *runtime)
{
    return runtime->name;
}

struct il_runtime *rt_loop_runtime(const struct il_loop *loop)
{
    return loop->is_thread_loop ? NULL : ((struct rt_loop *)loop->owner)->runtime;
}

bool rt_is_current_thread(const struct il_runtime *runtime)
{
    return runtime->kind == IL_RUNTIME_CURRENT_THREAD;
}

bool rt_is_handed_over(const struct il_loop *loop)
{
    const struct il_runtime *runtime = rt_loop_runtime(loop);

    return runtime != NULL && runtime->hand_over_after_ns != SYS_FOREVER &&
           atomic_load(&loop->shared.pin_count) == 0;
}

bool rt_is_run_here(const struct il_runtime *runtime)
{
    struct rt_thread *thread = rt_thread();

    return thread != NULL && rt_thread_is_inside(thread, runtime);
}

/* ---- spawning ---- */

/* The loop with the fewest tasks; among equals each in its turn. */
static struct rt_loop *runtime_choose(struct il_runtime *runtime)
{
    unsigned start = atomic_fetch_add_explicit(&runtime->spawn_turn, 1, memory_order_relaxed);
    struct rt_loop *best = NULL;
    uint32_t best_count = UINT32_MAX;

    for (unsigned i = 0; i < runtime->loop_count; i++) {
        struct rt_loop *home = &runtime->loops[(start + i) % runtime->loop_count];
        uint32_t count = atomic_load_explicit(&home->task_count, memory_order_relaxed);

        if (count < best_count) {
            best = home;
            best_count = count;
        }
    }
    return best;
}

static enum il_code runtime_check_alive(struct il_runtime *runtime, struct il_error *err)
{
    if (runtime->fork_generation != sys_fork_generation()) {
        return il_fail(err, IL_EFORK,
                       "runtime '%s' was made before this process was forked: its threads are not "
                       "here; make a runtime of your own after fork",
                       runtime->name);
    }
    if (atomic_load(&runtime->state) != RUNTIME_RUNNING) {
        return il_fail(err, IL_ESHUTDOWN, "runtime '%s' is shut down", runtime->name);
    }
    return IL_OK;
}

enum il_code rt_choose_loop(struct il_runtime *runtime, struct il_loop **ret_loop,
                            struct il_error *err)
{
    enum il_code code = runtime_check_alive(runtime, err);

    if (code == IL_OK) {
        *ret_loop = loop_ref(runtime_choose(runtime)->loop);
    }
    return code;
}

static enum il_code runtime_check_spawn(struct il_runtime *runtime, struct il_error *err)
{
    enum il_code code = runtime_check_alive(runtime, err);

    if (code == IL_OK && atomic_load_explicit(&runtime->task_count, memory_order_relaxed) >=
                             runtime->task_count_max) {
        code = il_fail(err, IL_ELIMIT, "runtime '%s' has %u task%s, the most it may have",
                       runtime->name, runtime->task_count_max, il_plural(runtime->task_count_max));
    }
    return code;
}

/* Allocate the task; with a stack of the loop's if we hold the loop, else of the spawners'. */
static enum il_code runtime_new_task(struct rt_loop *home, const char *name, il_task_fn *run,
                                     void *arg, struct il_task **ret_task, struct il_error *err)
{
    struct il_runtime *runtime = home->runtime;
    enum il_code code;

    sys_mutex_lock(&runtime->locked.mutex);
    code = task_new(home, &runtime->locked.spawn_stacks, name, run, arg, ret_task, err);
    sys_mutex_unlock(&runtime->locked.mutex);
    return code;
}

static enum il_code runtime_spawn(struct il_runtime *runtime, const char *name, il_task_fn *run,
                                  void *arg, struct il_task **ret_task, struct il_error *err)
{
    struct rt_loop *home;
    struct il_task *task;
    enum il_code code = runtime_check_spawn(runtime, err);

    if (code != IL_OK) {
        return code;
    }
    home = runtime_choose(runtime);
    code = runtime_new_task(home, name, run, arg, &task, err);
    if (code != IL_OK) {
        return code;
    }
    atomic_fetch_add(&runtime->task_count, 1);
    atomic_fetch_add_explicit(&home->task_count, 1, memory_order_relaxed);
    (void)party_ref(&task->party); /* the spawner's; the first is the loop's */
    sys_mutex_lock(&home->locked.mutex);
    il_list_push_back(&home->locked.tasks, &task->link);
    sys_mutex_unlock(&home->locked.mutex);
    if (!loop_post(home->loop, &task->party.job)) {
        sys_mutex_lock(&home->locked.mutex);
        il_list_unlink(&task->link);
        sys_mutex_unlock(&home->locked.mutex);
        runtime_count_task_gone(home);
        task_discard(task);
        (void)il_task_unref(task);
        return il_fail(err, IL_ESHUTDOWN, "runtime '%s' is shut down; task '%s' was not started",
                       runtime->name, name);
    }
    *ret_task = task;
    return IL_OK;
}

void runtime_count_task_gone(struct rt_loop *home)
{
    struct il_runtime *runtime = home->runtime;

    atomic_fetch_sub_explicit(&home->task_count, 1, memory_order_relaxed);
    atomic_fetch_sub(&runtime->task_count, 1);
    if (atomic_load(&runtime->state) != RUNTIME_RUNNING) {
        sys_mutex_lock(&runtime->locked.mutex);
        sys_cond_broadcast(&runtime->locked.quiet);
        sys_mutex_unlock(&runtime->locked.mutex);
    }
    loop_hold_recheck(home->loop); /* for a thread in il_block_on whose task another one drives */
}

enum il_code il_spawn(struct il_runtime *runtime, const char *name, il_task_fn *run, void *arg,
                      struct il_task **ret_task, struct il_error *err)
{
    struct il_task *task;
    enum il_code code;

    if (runtime == NULL || run == NULL) {
        return il_fail(err, IL_EINVAL, "il_spawn: %s is NULL", runtime == NULL ? "runtime" : "run");
    }
    code = runtime_spawn(runtime, name != NULL ? name : "task", run, arg, &task, err);
    if (code != IL_OK) {
        return code;
    }
    if (ret_task != NULL) {
        *ret_task = task;
    } else {
        (void)il_task_unref(task);
    }
    return IL_OK;
}

/* ---- block_on ---- */

static bool task_is_done(void *arg)
{
    return il_task_is_finished(arg);
}

static enum il_code block_on_check(struct il_runtime *runtime, struct il_error *err)
{
    struct rt_thread *thread = rt_thread();

    if (thread == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for the record of this thread");
    }
    if (rt_thread_is_inside(thread, runtime)) {
        return il_fail(err, IL_EDEADLOCK,
                       "il_block_on('%s') on a thread that is running that runtime: it would wait "
                       "for itself; call the function directly, or spawn it and join",
                       runtime->name);
    }
    if (thread->task == NULL && thread->loop != NULL) {
        return il_fail(err, IL_EDEADLOCK,
                       "il_block_on('%s') in a callback on loop '%s': a callback must not wait",
                       runtime->name, thread->loop->name);
    }
    if (runtime->kind == IL_RUNTIME_MULTI_THREAD && thread->task == NULL) {
        return rt_thread_loop(thread,
                              err); /* to wait on; once the task runs it is too late to fail */
    }
    return IL_OK;
}

enum il_code il_block_on(struct il_runtime *runtime, il_task_fn *run, void *arg,
                         struct il_error *err)
{
    struct il_task *task;
    enum il_code code;

    if (runtime == NULL || run == NULL) {
        return il_fail(err, IL_EINVAL, "il_block_on: %s is NULL",
                       runtime == NULL ? "runtime" : "run");
    }
    code = block_on_check(runtime, err);
    if (code != IL_OK) {
        return code;
    }
    code = runtime_spawn(runtime, "block_on", run, arg, &task, err);
    if (code != IL_OK) {
        return code;
    }
    if (runtime->kind == IL_RUNTIME_CURRENT_THREAD) {
        runtime_drive_until(&runtime->loops[0], task_is_done, task);
    } else {
        task_join_regardless(task);
    }
    (void)il_task_unref(task);
    return IL_OK;
}

void rt_counts(struct rt_counts *ret_counts)
{
    ret_counts->runtimes = atomic_load(&runtime_live_count);
    ret_counts->tasks = task_count_live();
    ret_counts->loops = loop_count_live();
}
