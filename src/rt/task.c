/* task.c: a task's life, from its first switch in to its last switch out.
 *
 * Owns: each task's memory and stack. A task lives on one loop from birth to end and is run by
 *   whoever holds that loop; so nothing but the loop's holder touches its fiber.
 * Two references from the start: the loop's, dropped when the task has finished, and the spawner's.
 */
#include "rt/task.h"

#include <stdio.h>

#include "base/shown.h"

SHOWN_DEFINE(shown_tasks, SHOWN_TASKS, SHOWN_TASK_FIELD_COUNT,
             NULL, [SHOWN_PART_RUNTIME] = offsetof(struct rt_loop, runtime),
             [SHOWN_PART_TASK_LIST] = offsetof(struct rt_loop, locked.tasks),
             [SHOWN_RUNTIME_NAME] = offsetof(struct il_runtime, name),
             [SHOWN_RUNTIME_KIND] = offsetof(struct il_runtime, kind),
             [SHOWN_TASK_LINK] = offsetof(struct il_task, link),
             [SHOWN_TASK_ID] = offsetof(struct il_task, id),
             [SHOWN_TASK_NAME] = offsetof(struct il_task, name),
             [SHOWN_TASK_PART] = offsetof(struct il_task, home),
             [SHOWN_TASK_IS_RUNNING] = offsetof(struct il_task, is_running),
             [SHOWN_TASK_IS_AWAY] = offsetof(struct il_task, is_away),
             [SHOWN_TASK_PARTY] = offsetof(struct il_task, party),
             [SHOWN_PARTY_IS_TASK] = offsetof(struct party, is_task),
             [SHOWN_PARTY_LOOP] = offsetof(struct party, loop));

struct task_joiner {
    struct il_list link;
    struct party *party;
};

static IL_NUMBERS _Atomic uint64_t task_id_last;
static _Atomic uint64_t task_live_count;

static void task_main(void *arg);
static enum loop_result task_on_ready(struct il_loop *loop, struct job *job);

/* ---- life ---- */

static void task_free(struct party *party)
{
    struct il_task *task = il_container_of(party, struct il_task, party);

    il_assert(!il_list_is_linked(&task->link));
    il_assert(il_list_is_empty(&task->locked.joiners));
    il_assert(il_list_is_empty(&task->party.holds));
    sys_mutex_deinit(&task->locked.mutex);
    (void)loop_unref(task->party.loop);
    (void)il_runtime_unref(task->home->runtime);
    il_free(task);
    atomic_fetch_sub(&task_live_count, 1);
}

enum il_code task_new(struct rt_loop *home, struct stack_cache *cache, const char *name,
                      il_task_fn *run, void *arg, struct il_task **ret_task, struct il_error *err)
{
    struct il_task *task = il_calloc(1, sizeof(*task));
    enum il_code code;

    if (task == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for task '%s'", name);
    }
    code = fiber_init(&task->fiber, cache, task_main, task, err);
    if (code != IL_OK) {
        il_free(task);
        return code;
    }
    task->home = home;
    task->id = atomic_fetch_add_explicit(&task_id_last, 1, memory_order_relaxed) + 1;
    (void)snprintf(task->name, sizeof(task->name), "%s", name); /* cut on purpose */
    task->run = run;
    task->arg = arg;
    task->party.loop = loop_ref(home->loop);
    task->party.job.run = task_on_ready;
    task->party.is_task = true;
    task->party.free = task_free;
    party_init_holds(&task->party);
    timer_init(&task->party.timer, party_on_overdue);
    atomic_init(&task->party.ref_count, 1);
    il_list_init(&task->link);
    sys_mutex_init(&task->locked.mutex);
    il_list_init(&task->locked.joiners);
    (void)il_runtime_ref(home->runtime);
    atomic_fetch_add(&task_live_count, 1);
    *ret_task = task;
    return IL_OK;
}

void task_discard(struct il_task *task)
{
    fiber_deinit(&task->fiber, NULL);
    (void)party_unref(&task->party);
}

/* ---- on the task's own stack ---- */

static void task_leave_thread(struct il_task *task, enum task_out out)
{
    struct rt_thread *thread = rt_thread();

    thread->task_out = out;
    if (out == TASK_OUT_FINISHED) {
        fiber_switch_exit(&task->fiber, thread->scheduler);
    } else {
        fiber_switch(&task->fiber, thread->scheduler);
    }
}

static void task_main(void *arg)
{
    struct il_task *task = arg;

    task_leave_library(task);
    task->run(task->arg);
    (void)task_enter_library(task); /* an orphan finishes too */
    task_leave_thread(task, TASK_OUT_FINISHED);
}

bool task_enter_library(struct il_task *task)
{
    if (task->is_orphan) {
        return false;
    }
    if (loop_leave_user(task->party.loop) == LOOP_HELD) {
        return true;
    }
    task_leave_thread(task, TASK_OUT_LOST); /* comes back on the thread that holds the loop then */
    return !task->is_orphan;
}

void task_leave_library(struct il_task *task)
{
    if (!task->is_orphan) {
        loop_enter_user(task->party.loop);
    }
}

void task_switch_out(struct il_task *task)
{
    task_leave_thread(task, TASK_OUT_PARKED);
}

/* ---- on the stack of the thread that drives the loop ---- */

static void task_wake_joiners(struct il_task *task)
{
    struct party *woken[16];
    unsigned count;

    do {
        struct il_list *node;

        count = 0;
        sys_mutex_lock(&task->locked.mutex);
        while (count < (IL_MUTANT(JOIN_ONE) ? 1 : il_array_count(woken)) &&
               (node = il_list_pop_front(&task->locked.joiners)) != NULL) {
            woken[count++] = party_ref(il_container_of(node, struct task_joiner, link)->party);
        }
        sys_mutex_unlock(&task->locked.mutex);
        for (unsigned i = 0; i < count; i++) {
            party_wake(woken[i]);
            (void)party_unref(woken[i]);
        }
    } while (count == il_array_count(woken));
}

/* The task has returned; its stack is free. `stacks` is NULL when its loop has ended without it. */
static void task_on_finished(struct il_task *task, struct stack_cache *stacks)
{
    struct rt_loop *home = task->home;

    fiber_deinit(&task->fiber, stacks);
    atomic_fetch_sub(&task->party.loop->shared.pin_count, task->pin_count);
    party_end_holds(&task->party);
    sys_mutex_lock(&home->locked.mutex);
    il_list_unlink(&task->link);
    sys_mutex_unlock(&home->locked.mutex);

    sys_mutex_lock(&task->locked.mutex);
    atomic_store(&task->is_finished, true); /* no joiner registers from here on */
    sys_mutex_unlock(&task->locked.mutex);
    task_wake_joiners(task);
    runtime_count_task_gone(home);
    (void)party_unref(&task->party);
}

/* Let the task run on this thread until it leaves it. Between rt_drive_begin and rt_drive_end. */
static enum task_out task_run_here(struct rt_thread *thread, struct il_task *task)
{
    thread->task = task;
    atomic_store_explicit(&task->is_running, true, memory_order_relaxed);
    fiber_switch(thread->scheduler, &task->fiber);
    thread->task = NULL; /* a scheduler never changes its thread: `thread` is still ours */
    return thread->task_out;
}

/* The task came into the library on this thread and found that its loop has another holder. Queue
 * it there; if the loop has ended, let it go on here, as an orphan, to its end. */
static void task_requeue(struct rt_thread *thread, struct il_task *task)
{
    struct il_loop *loop = loop_ref(task->party.loop);
    uint64_t since_ns = atomic_exchange(&task->away_since_ns, TASK_IS_BACK);

    if (since_ns != 0) {
        handover_tell_ended(loop, task, (void (*)(void))task->run, task->is_announced,
                            sys_now_ns() - since_ns);
    }
    atomic_store_explicit(&task->is_running, false, memory_order_relaxed);
    if (!loop_post(loop, &task->party.job)) {
        loop_wait_ended(loop); /* what it evicts may be ours; let it finish */
        task->is_orphan = true;
        il_assert(task_run_here(thread, task) == TASK_OUT_FINISHED);
        atomic_fetch_sub(&task->home->away_count, 1);
        task_on_finished(task, NULL);
    }
    (void)loop_unref(loop);
}

bool task_note_away(struct il_task *task, uint64_t since_ns)
{
    uint64_t none = 0;

    if (!atomic_compare_exchange_strong(&task->away_since_ns, &none, since_ns)) {
        return false;
    }
    atomic_store_explicit(&task->is_away, true, memory_order_relaxed);
    atomic_fetch_add(&task->home->away_count, 1);
    return true;
}

/* It lost its loop, was queued again, and runs where the loop is. */
static void task_note_here(struct il_task *task)
{
    atomic_store_explicit(&task->away_since_ns, 0, memory_order_relaxed);
    task->is_announced = false;
    if (atomic_load_explicit(&task->is_away, memory_order_relaxed)) {
        atomic_store_explicit(&task->is_away, false, memory_order_relaxed);
        atomic_fetch_sub(&task->home->away_count, 1);
    }
}

static enum loop_result task_on_ready(struct il_loop *loop, struct job *job)
{
    struct il_task *task = il_container_of(job, struct il_task, party.job);
    struct rt_thread *thread = rt_thread();

    if (IL_UNLIKELY(atomic_load_explicit(&task->away_since_ns, memory_order_relaxed) != 0)) {
        task_note_here(task);
    }
    loop->held.user_task = task;
    loop->held.user_function = (void (*)(void))task->run;
    switch (task_run_here(thread, task)) {
    case TASK_OUT_PARKED:
        atomic_store_explicit(&task->is_running, false, memory_order_relaxed);
        return LOOP_HELD;
    case TASK_OUT_FINISHED:
        loop->held.must_return = true; /* somebody may drive this loop only until now */
        task_on_finished(task, &task->home->held.stacks);
        return LOOP_HELD;
    case TASK_OUT_LOST:
        task_requeue(thread, task);
        return LOOP_LOST;
    case TASK_OUT_NONE:
        break;
    }
    il_assert_failed("a task left its thread without a reason", __FILE__, __LINE__, __func__);
}

/* ---- the public face ---- */

struct il_task *il_task_ref(struct il_task *task)
{
    (void)party_ref(&task->party);
    return task;
}

struct il_task *il_task_unref(struct il_task *task)
{
    if (task != NULL) {
        (void)party_unref(&task->party);
    }
    return NULL;
}

struct il_task *il_task_current(void)
{
    struct rt_thread *thread = rt_thread();

    return thread != NULL ? thread->task : NULL;
}

const char *il_task_name(const struct il_task *task)
{
    return task->name;
}

bool il_task_is_finished(const struct il_task *task)
{
    return atomic_load(&task->is_finished);
}

void il_task_cancel(struct il_task *task)
{
    atomic_store(&task->cancel_requested, true);
    if (!atomic_load(&task->is_finished)) {
        party_wake(&task->party);
    }
}

static void task_add_joiner(struct il_task *task, struct task_joiner *joiner)
{
    sys_mutex_lock(&task->locked.mutex);
    if (!atomic_load(&task->is_finished)) {
        il_list_push_back(&task->locked.joiners, &joiner->link);
    }
    sys_mutex_unlock(&task->locked.mutex);
}

static void task_remove_joiner(struct il_task *task, struct task_joiner *joiner)
{
    sys_mutex_lock(&task->locked.mutex);
    il_list_unlink(&joiner->link);
    sys_mutex_unlock(&task->locked.mutex);
}

static enum il_code task_join_wait(struct il_task *task, struct rt_place *place,
                                   uint64_t deadline_ns)
{
    struct task_joiner joiner = { .party = place->party };
    enum il_code code = IL_OK;

    il_list_init(&joiner.link);
    task_add_joiner(task, &joiner);
    while (!il_task_is_finished(task) && code == IL_OK) {
        code = rt_wait(place, deadline_ns, "join");
    }
    task_remove_joiner(task, &joiner);
    return il_task_is_finished(task) ? IL_OK : code;
}

/* An orphan, whose loop is gone, waits as the thread that it is on. That may need a loop, and there
 * may be no memory for one: then look again and again. False: the task has finished meanwhile. */
static bool task_join_as_orphan(struct il_task *task, struct rt_place *ret_place)
{
    struct il_runtime *runtime = task->home->runtime;

    while (rt_enter_as_thread(rt_thread(), ret_place, NULL) != IL_OK) {
        if (il_task_is_finished(task)) {
            return false;
        }
        sys_mutex_lock(&runtime->locked.mutex);
        (void)sys_cond_wait_until(&runtime->locked.quiet, &runtime->locked.mutex,
                                  sys_now_ns() + LOOP_NS_PER_MS);
        sys_mutex_unlock(&runtime->locked.mutex);
    }
    return true;
}

void task_join_regardless(struct il_task *task)
{
    struct rt_place place;
    struct task_joiner joiner;

    if (rt_enter(&place, false, NULL) != IL_OK && !task_join_as_orphan(task, &place)) {
        return;
    }
    if (task_join_wait(task, &place, IL_FOREVER) != IL_OK) {
        il_task_cancel(task);
        joiner.party = place.party;
        il_list_init(&joiner.link);
        task_add_joiner(task, &joiner);
        while (!il_task_is_finished(task)) {
            rt_wait_regardless(&place, "block_on");
        }
        task_remove_joiner(task, &joiner);
    }
    rt_leave(&place);
}

enum il_code il_task_join(struct il_task *task, uint64_t deadline_ns, struct il_error *err)
{
    struct rt_place place;
    enum il_code code;

    if (task == NULL) {
        return il_fail(err, IL_EINVAL, "il_task_join: task is NULL");
    }
    if (task == il_task_current()) {
        return il_fail(err, IL_EDEADLOCK, "task '%s' would wait for its own end", task->name);
    }
    if (il_task_is_finished(task)) {
        return IL_OK;
    }
    code = rt_enter(&place, false, err);
    if (code != IL_OK) {
        return code;
    }
    code = task_join_wait(task, &place, deadline_ns);
    rt_leave(&place);
    return code == IL_OK
               ? IL_OK
               : il_fail(err, code, "waiting for task '%s': %s", task->name, il_code_text(code));
}

void rt_for_each_task(struct il_loop *loop,
                      void (*visit)(const struct rt_task_view *task, void *arg), void *arg)
{
    struct rt_loop *home = loop->is_thread_loop ? NULL : loop->owner;

    if (home == NULL) {
        return;
    }
    sys_mutex_lock(&home->locked.mutex);
    il_list_for_each(&home->locked.tasks, node)
    {
        struct il_task *task = il_container_of(node, struct il_task, link);
        struct rt_task_view view = {
            .id = task->id,
            .name = task->name,
            .waits_for = atomic_load(&task->party.waits_for),
            .waits_since_ns = atomic_load(&task->party.waits_since_ns),
            .is_running = atomic_load(&task->is_running),
            .is_away = atomic_load(&task->is_away),
        };

        visit(&view, arg);
    }
    sys_mutex_unlock(&home->locked.mutex);
}

struct party *rt_task_party(struct il_task *task)
{
    return &task->party;
}

uint64_t rt_party_task_id(const struct party *party)
{
    return party->is_task ? il_container_of(party, const struct il_task, party)->id : 0;
}

void rt_party_describe(const struct party *party, char *text, size_t size)
{
    if (party->is_task) {
        const struct il_task *task = il_container_of(party, const struct il_task, party);

        (void)snprintf(text, size, "task '%s' on runtime '%s'", task->name,
                       task->home->runtime->name);
    } else {
        (void)snprintf(text, size, "%s", party->loop->name); /* "thread 123" */
    }
}

uint64_t task_count_live(void)
{
    return atomic_load(&task_live_count);
}
