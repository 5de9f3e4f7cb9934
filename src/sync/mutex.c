/* mutex.c: a lock that tasks and threads of any runtime can wait for.
 *
 * Owns: who holds it and since when. The holder is a party: a task or, outside of tasks, a thread.
 *   A party that ends while it holds the lock *abandons* it: nobody can unlock it any more, so all
 *   who wait for it, and who come later, are told so.
 * Threads: any. locked.mutex is a leaf; it is held for a few instructions and never by a waiter.
 * Ends: with the last reference, when nobody waits; the holder has one. */
#include <stdio.h>

#include "sync/handle.h"

struct il_mutex {
    struct handle handle;
    struct party_hold hold; /* the holder only: on its list while it holds the lock */

    struct { /* any thread, with mutex held */
        struct sys_mutex mutex;
        struct waitq waiters; /* its amount: 1 while nobody holds the lock */
        struct party *holder;
        int kernel_id; /* of the holder if it is a thread */
        uint64_t since_ns;
        bool is_abandoned;
        char abandoned_by[IL_TASK_NAME_SIZE];
    } locked;
};
_Static_assert(offsetof(struct il_mutex, handle) == 0, "handle_check");

/* What there is to say of the lock at one moment. */
struct mutex_view {
    char holder[IL_TASK_NAME_SIZE]; /* "" if not locked */
    uint64_t since_ns;
    uint32_t waiters;
    bool is_abandoned;
    bool is_mine;
};

static void mutex_on_holder_end(struct party_hold *hold);

/* ---- life ---- */

enum il_code il_mutex_new(const char *name, struct il_mutex **ret_mutex, struct il_error *err)
{
    struct il_mutex *mutex = il_calloc(1, sizeof(*mutex));

    if (mutex == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a mutex");
    }
    handle_init(&mutex->handle, "mutex", name);
    il_list_init(&mutex->hold.link);
    mutex->hold.on_party_end = mutex_on_holder_end;
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
        il_assert(mutex->locked.holder == NULL);
        waitq_deinit(&mutex->locked.waiters);
        sys_mutex_deinit(&mutex->locked.mutex);
        il_free(mutex);
    }
    return NULL;
}

/* ---- looking ---- */

static void mutex_name_holder_locked(const struct il_mutex *mutex, char name[IL_TASK_NAME_SIZE])
{
    const char *task = party_task_name(mutex->locked.holder);

    if (task != NULL) {
        (void)snprintf(name, IL_TASK_NAME_SIZE, "%s", task);
    } else {
        (void)snprintf(name, IL_TASK_NAME_SIZE, "thread %d", mutex->locked.kernel_id);
    }
}

static void mutex_look_locked(const struct il_mutex *mutex, const struct party *self,
                              struct mutex_view *ret_view)
{
    memset(ret_view, 0, sizeof(*ret_view));
    ret_view->waiters = mutex->locked.waiters.waiter_count;
    ret_view->is_abandoned = mutex->locked.is_abandoned;
    if (mutex->locked.is_abandoned) {
        memcpy(ret_view->holder, mutex->locked.abandoned_by, sizeof(ret_view->holder));
        ret_view->since_ns = mutex->locked.since_ns;
    } else if (mutex->locked.holder != NULL) {
        mutex_name_holder_locked(mutex, ret_view->holder);
        ret_view->since_ns = mutex->locked.since_ns;
        ret_view->is_mine = mutex->locked.holder == self;
    }
}

/* Say why the lock was not to be had. */
static enum il_code mutex_fail(const struct il_mutex *mutex, enum il_code code,
                               const struct mutex_view *view, struct il_error *err)
{
    const char *name = mutex->handle.name;

    if (err == NULL) {
        return code;
    }
    if (view->is_abandoned) {
        return il_fail(err, code,
                       "mutex '%s' will never be unlocked: '%s' has ended while it held it", name,
                       view->holder);
    }
    if (view->is_mine) {
        return il_fail(err, code, "mutex '%s' is held already by the caller, '%s'", name,
                       view->holder);
    }
    if (view->since_ns == 0) {
        return il_fail(err, code, "waiting for mutex '%s': %s", name, il_code_text(code));
    }
    return il_fail(err, code, "mutex '%s', held by '%s' for %llu ms: %s", name, view->holder,
                   (unsigned long long)((sys_now_ns() - view->since_ns) / LOOP_NS_PER_MS),
                   il_code_text(code));
}

enum il_code il_mutex_stats(struct il_mutex *mutex, struct il_mutex_stats *ret_stats,
                            struct il_error *err)
{
    enum il_code code = handle_check(mutex, "il_mutex_stats", err);
    struct mutex_view view;

    if (code != IL_OK) {
        return code;
    }
    sys_mutex_lock(&mutex->locked.mutex);
    waitq_validate_locked(&mutex->locked.waiters);
    mutex_look_locked(mutex, NULL, &view);
    sys_mutex_unlock(&mutex->locked.mutex);
    memcpy(ret_stats->holder, view.holder, sizeof(ret_stats->holder));
    ret_stats->since_ns = view.since_ns;
    ret_stats->waiters = view.waiters;
    ret_stats->is_locked = view.since_ns != 0;
    ret_stats->is_abandoned = view.is_abandoned;
    return IL_OK;
}

/* ---- locking ---- */

/* IL_EDEADLOCK if waiting would never help. */
static enum il_code mutex_check_locked(const struct il_mutex *mutex, const struct party *self)
{
    return mutex->locked.is_abandoned || mutex->locked.holder == self ? IL_EDEADLOCK : IL_OK;
}

/* It is the caller's turn. */
static void mutex_take_locked(struct il_mutex *mutex, struct party *self)
{
    il_assert(mutex->locked.waiters.amount == 1);
    il_assert(mutex->locked.holder == NULL);
    mutex->locked.waiters.amount = 0;
    mutex->locked.holder = self;
    mutex->locked.kernel_id = sys_thread_self()->kernel_id;
    mutex->locked.since_ns = sys_now_ns();
    party_hold_add(self, &mutex->hold);
    handle_ref(&mutex->handle); /* the holder's */
}

static void mutex_unlock_waiters(struct il_mutex *mutex) IL_RELEASES(mutex->locked.mutex)
{
    waitq_unlock(&mutex->locked.waiters, NULL, &mutex->locked.mutex);
}

enum il_code il_mutex_lock(struct il_mutex *mutex, uint64_t deadline_ns, struct il_error *err)
{
    enum il_code code = handle_check(mutex, "il_mutex_lock", err);
    struct mutex_view view;
    struct rt_place place;

    if (code != IL_OK) {
        return code;
    }
    waitq_take_turns(&mutex->locked.waiters);
    code = rt_enter(&place, false, err);
    if (code != IL_OK) {
        return code;
    }
    sys_mutex_lock(&mutex->locked.mutex);
    code = mutex_check_locked(mutex, place.party);
    if (code == IL_OK) {
        code = waitq_wait_locked(&mutex->locked.waiters, &mutex->locked.mutex, &place, 1,
                                 deadline_ns, "mutex lock");
    }
    if (code == IL_OK) {
        code = mutex_check_locked(mutex, place.party); /* abandoned meanwhile? */
    }
    if (code == IL_OK) {
        mutex_take_locked(mutex, place.party);
    } else {
        mutex_look_locked(mutex, place.party, &view);
    }
    mutex_unlock_waiters(mutex);
    rt_leave(&place);
    return code == IL_OK ? IL_OK : mutex_fail(mutex, code, &view, err);
}

enum il_code il_mutex_try_lock(struct il_mutex *mutex, struct il_error *err)
{
    struct party *self = party_current();
    enum il_code code = handle_check(mutex, "il_mutex_try_lock", err);
    struct mutex_view view;

    if (code != IL_OK) {
        return code;
    }
    if (self == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for the record of this thread");
    }
    sys_mutex_lock(&mutex->locked.mutex);
    code = mutex_check_locked(mutex, self);
    if (code == IL_OK && !waitq_try_locked(&mutex->locked.waiters, 1)) {
        code = IL_EAGAIN;
    }
    if (code == IL_OK) {
        mutex_take_locked(mutex, self);
    } else {
        mutex_look_locked(mutex, self, &view);
    }
    mutex_unlock_waiters(mutex);
    return code == IL_OK ? IL_OK : mutex_fail(mutex, code, &view, err);
}

enum il_code il_mutex_unlock(struct il_mutex *mutex, struct il_error *err)
{
    struct party *self = party_current();
    enum il_code code = handle_check(mutex, "il_mutex_unlock", err);
    struct mutex_view view;

    if (code != IL_OK) {
        return code;
    }
    sys_mutex_lock(&mutex->locked.mutex);
    if (self != NULL && mutex->locked.holder == self) {
        party_hold_remove(&mutex->hold);
        mutex->locked.holder = NULL;
        mutex->locked.waiters.amount = 1;
    } else {
        mutex_look_locked(mutex, self, &view);
        code = IL_EINVAL;
    }
    mutex_unlock_waiters(mutex);
    if (code != IL_OK) {
        return il_fail(err, code, "il_mutex_unlock: the caller does not hold mutex '%s': %s does",
                       mutex->handle.name, view.since_ns != 0 ? view.holder : "nobody");
    }
    (void)il_mutex_unref(mutex); /* the holder's */
    return IL_OK;
}

static void mutex_on_holder_end(struct party_hold *hold)
{
    struct il_mutex *mutex = il_container_of(hold, struct il_mutex, hold);

    if (handle_check(mutex, "mutex_on_holder_end", NULL) != IL_OK) {
        return; /* the parent process's */
    }
    sys_mutex_lock(&mutex->locked.mutex);
    mutex_name_holder_locked(mutex, mutex->locked.abandoned_by);
    mutex->locked.holder = NULL;
    mutex->locked.is_abandoned = true;
    mutex->locked.waiters.amount = WAITQ_ALL; /* everybody goes on, and sees it */
    mutex_unlock_waiters(mutex);
    (void)il_mutex_unref(mutex); /* the holder's */
}
