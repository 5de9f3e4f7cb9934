/* mutex.c: a lock that tasks and threads of any runtime can wait for.
 *
 * Owns: who holds it and since when. The holder is a task (with a reference, so that another task
 *   is never taken for it) or, outside of tasks, a thread.
 * Threads: any. locked.mutex is a leaf; it is held for a few instructions and never by a waiter.
 * Ends: with the last reference, when nobody waits. */
#include <stdio.h>

#include "sync/handle.h"

/* Who a lock belongs to. */
struct holder {
    struct il_task *task; /* NULL: a thread, or nobody */
    uint32_t thread;      /* its number if it is a thread; 0: nobody, or a task */
    int kernel_id;        /* for reports */
};

struct il_mutex {
    struct handle handle;

    struct { /* any thread, with mutex held */
        struct sys_mutex mutex;
        struct waitq waiters; /* its amount: 1 while nobody holds the lock */
        struct holder holder;
        uint64_t since_ns;
    } locked;
};
_Static_assert(offsetof(struct il_mutex, handle) == 0, "handle_check");

/* Never inlined: in a task, the thread may be another one after each wait. */
static IL_NOINLINE struct holder holder_self(void)
{
    struct il_task *task = il_task_current();
    const struct sys_thread_self *self = sys_thread_self();

    return task != NULL ? (struct holder){ .task = task }
                        : (struct holder){ .thread = self->number, .kernel_id = self->kernel_id };
}

static bool holder_is(const struct holder *holder, const struct holder *other)
{
    return holder->task == other->task && holder->thread == other->thread;
}

static bool holder_is_nobody(const struct holder *holder)
{
    return holder->task == NULL && holder->thread == 0;
}

static void holder_name(const struct holder *holder, char name[IL_TASK_NAME_SIZE])
{
    if (holder->task != NULL) {
        (void)snprintf(name, IL_TASK_NAME_SIZE, "%s", il_task_name(holder->task));
    } else {
        (void)snprintf(name, IL_TASK_NAME_SIZE, "thread %d", holder->kernel_id);
    }
}

/* ---- life ---- */

enum il_code il_mutex_new(const char *name, struct il_mutex **ret_mutex, struct il_error *err)
{
    struct il_mutex *mutex = il_calloc(1, sizeof(*mutex));

    if (mutex == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a mutex");
    }
    handle_init(&mutex->handle, "mutex", name);
    sys_mutex_init(&mutex->locked.mutex);
    waitq_init(&mutex->locked.waiters, 1);
    *ret_mutex = mutex;
    return IL_OK;
}

struct il_mutex *il_mutex_ref(struct il_mutex *mutex)
{
    handle_ref(&mutex->handle);
    return mutex;
}

struct il_mutex *il_mutex_unref(struct il_mutex *mutex)
{
    if (mutex != NULL && handle_unref(&mutex->handle)) {
        waitq_deinit(&mutex->locked.waiters);
        sys_mutex_deinit(&mutex->locked.mutex);
        (void)il_task_unref(mutex->locked.holder.task); /* of one that ended without unlocking */
        il_free(mutex);
    }
    return NULL;
}

/* ---- locking ---- */

/* It is the caller's turn. */
static void mutex_take_locked(struct il_mutex *mutex, const struct holder *self)
{
    il_assert(mutex->locked.waiters.amount == 1);
    il_assert(holder_is_nobody(&mutex->locked.holder));
    mutex->locked.waiters.amount = 0;
    mutex->locked.holder = *self;
    mutex->locked.since_ns = sys_now_ns();
    if (self->task != NULL) {
        (void)il_task_ref(self->task);
    }
}

/* IL_EDEADLOCK if the lock will never become free by waiting. */
static enum il_code mutex_check_holder_locked(const struct il_mutex *mutex,
                                              const struct holder *self)
{
    const struct holder *holder = &mutex->locked.holder;

    if (holder_is(holder, self) || (holder->task != NULL && il_task_is_finished(holder->task))) {
        return IL_EDEADLOCK;
    }
    return IL_OK;
}

/* Say why the lock was not to be had. `holder` is a copy, with a reference. */
static enum il_code mutex_fail(const struct il_mutex *mutex, enum il_code code,
                               const struct holder *holder, uint64_t since_ns, struct il_error *err)
{
    struct holder self = holder_self();
    char name[IL_TASK_NAME_SIZE];

    if (err == NULL) {
        return code;
    }
    if (holder_is_nobody(holder)) {
        return il_fail(err, code, "waiting for mutex '%s': %s", mutex->handle.name,
                       il_code_text(code));
    }
    holder_name(holder, name);
    if (holder_is(holder, &self)) {
        return il_fail(err, code, "mutex '%s' is held by the caller, '%s', already",
                       mutex->handle.name, name);
    }
    if (holder->task != NULL && il_task_is_finished(holder->task)) {
        return il_fail(err, code,
                       "mutex '%s' was locked by task '%s', which has ended without "
                       "unlocking it",
                       mutex->handle.name, name);
    }
    return il_fail(err, code, "mutex '%s', held by '%s' for %llu ms: %s", mutex->handle.name, name,
                   (unsigned long long)((sys_now_ns() - since_ns) / LOOP_NS_PER_MS),
                   il_code_text(code));
}

/* The holder as it is now, to be told to the user; give its reference back. */
static struct holder mutex_get_holder_locked(struct il_mutex *mutex)
{
    struct holder holder = mutex->locked.holder;

    if (holder.task != NULL) {
        (void)il_task_ref(holder.task);
    }
    return holder;
}

static enum il_code mutex_lock(struct il_mutex *mutex, struct rt_place *place, uint64_t deadline_ns,
                               struct il_error *err)
{
    struct holder self = holder_self();
    struct holder holder = { .task = NULL };
    uint64_t since_ns = 0;
    enum il_code code;

    sys_mutex_lock(&mutex->locked.mutex);
    code = mutex_check_holder_locked(mutex, &self);
    if (code == IL_OK) {
        code = waitq_wait_locked(&mutex->locked.waiters, &mutex->locked.mutex, place, 1,
                                 deadline_ns, "mutex lock");
    }
    if (code == IL_OK) {
        mutex_take_locked(mutex, &self);
    } else {
        holder = mutex_get_holder_locked(mutex);
        since_ns = mutex->locked.since_ns;
    }
    waitq_unlock(&mutex->locked.waiters, NULL, &mutex->locked.mutex);
    if (code != IL_OK) {
        (void)mutex_fail(mutex, code, &holder, since_ns, err);
        (void)il_task_unref(holder.task);
    }
    return code;
}

enum il_code il_mutex_lock(struct il_mutex *mutex, uint64_t deadline_ns, struct il_error *err)
{
    enum il_code code = handle_check(mutex, "il_mutex_lock", err);
    struct rt_place place;

    if (code != IL_OK) {
        return code;
    }
    waitq_take_turns(&mutex->locked.waiters);
    code = rt_enter(&place, false, err);
    if (code != IL_OK) {
        return code;
    }
    code = mutex_lock(mutex, &place, deadline_ns, err);
    rt_leave(&place);
    return code;
}

enum il_code il_mutex_try_lock(struct il_mutex *mutex, struct il_error *err)
{
    struct holder self = holder_self();
    struct holder holder = { .task = NULL };
    uint64_t since_ns = 0;
    enum il_code code = handle_check(mutex, "il_mutex_try_lock", err);

    if (code != IL_OK) {
        return code;
    }
    sys_mutex_lock(&mutex->locked.mutex);
    code = mutex_check_holder_locked(mutex, &self);
    if (code == IL_OK) {
        code = waitq_try_locked(&mutex->locked.waiters, 1) ? IL_OK : IL_EAGAIN;
    }
    if (code == IL_OK) {
        mutex_take_locked(mutex, &self);
    } else {
        holder = mutex_get_holder_locked(mutex);
        since_ns = mutex->locked.since_ns;
    }
    waitq_unlock(&mutex->locked.waiters, NULL, &mutex->locked.mutex);
    if (code != IL_OK) {
        (void)mutex_fail(mutex, code, &holder, since_ns, err);
        (void)il_task_unref(holder.task);
    }
    return code;
}

enum il_code il_mutex_unlock(struct il_mutex *mutex, struct il_error *err)
{
    struct holder self = holder_self();
    struct holder holder = { .task = NULL };
    enum il_code code = handle_check(mutex, "il_mutex_unlock", err);
    char name[IL_TASK_NAME_SIZE] = "nobody";

    if (code != IL_OK) {
        return code;
    }
    sys_mutex_lock(&mutex->locked.mutex);
    if (holder_is(&mutex->locked.holder, &self)) {
        holder = mutex->locked.holder; /* with its reference */
        mutex->locked.holder = (struct holder){ .task = NULL };
        mutex->locked.waiters.amount = 1;
    } else {
        code = IL_EINVAL;
        holder = mutex_get_holder_locked(mutex);
    }
    waitq_unlock(&mutex->locked.waiters, NULL, &mutex->locked.mutex);
    if (code != IL_OK) {
        if (!holder_is_nobody(&holder)) {
            holder_name(&holder, name);
        }
        (void)il_fail(err, code, "il_mutex_unlock: the caller does not hold mutex '%s': %s does",
                      mutex->handle.name, name);
    }
    (void)il_task_unref(holder.task);
    return code;
}

enum il_code il_mutex_stats(struct il_mutex *mutex, struct il_mutex_stats *ret_stats,
                            struct il_error *err)
{
    enum il_code code = handle_check(mutex, "il_mutex_stats", err);
    struct holder holder;

    if (code != IL_OK) {
        return code;
    }
    memset(ret_stats, 0, sizeof(*ret_stats));
    sys_mutex_lock(&mutex->locked.mutex);
    waitq_validate_locked(&mutex->locked.waiters);
    holder = mutex_get_holder_locked(mutex);
    ret_stats->waiters = mutex->locked.waiters.waiter_count;
    ret_stats->is_locked = !holder_is_nobody(&holder);
    if (ret_stats->is_locked) {
        ret_stats->since_ns = mutex->locked.since_ns;
    }
    sys_mutex_unlock(&mutex->locked.mutex);
    if (ret_stats->is_locked) {
        holder_name(&holder, ret_stats->holder);
    }
    (void)il_task_unref(holder.task);
    return IL_OK;
}
