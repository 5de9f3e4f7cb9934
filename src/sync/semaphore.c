/* semaphore.c: permits that are shared between runtimes.
 *
 * Owns: how many permits there are, which is the amount of its wait queue. Who holds the others is
 *   not recorded: they may be given back by anybody.
 * Threads: any. locked.mutex is a leaf. Ends: with the last reference, when nobody waits. */
#include "sync/handle.h"

struct il_semaphore {
    struct handle handle;

    struct { /* any thread, with mutex held */
        struct sys_mutex mutex;
        struct waitq waiters; /* its amount: the permits that are free */
    } locked;
};
_Static_assert(offsetof(struct il_semaphore, handle) == 0, "handle_check");
_Static_assert(IL_SEMAPHORE_PERMITS_MAX < WAITQ_ALL, "an amount that is a number");

enum il_code il_semaphore_new(const char *name, uint32_t permits,
                              struct il_semaphore **ret_semaphore, struct il_error *err)
{
    struct il_semaphore *semaphore;

    if (permits > IL_SEMAPHORE_PERMITS_MAX) {
        return il_fail(err, IL_EINVAL, "il_semaphore_new: %u permits are more than the limit of %u",
                       permits, IL_SEMAPHORE_PERMITS_MAX);
    }
    semaphore = il_calloc(1, sizeof(*semaphore));
    if (semaphore == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a semaphore");
    }
    handle_init(&semaphore->handle, "semaphore", name);
    sys_mutex_init(&semaphore->locked.mutex);
    waitq_init(&semaphore->locked.waiters, permits);
    *ret_semaphore = semaphore;
    return IL_OK;
}

struct il_semaphore *il_semaphore_ref(struct il_semaphore *semaphore)
{
    handle_ref(&semaphore->handle);
    return semaphore;
}

struct il_semaphore *il_semaphore_unref(struct il_semaphore *semaphore)
{
    if (semaphore != NULL && handle_unref(&semaphore->handle)) {
        waitq_deinit(&semaphore->locked.waiters);
        sys_mutex_deinit(&semaphore->locked.mutex);
        il_free(semaphore);
    }
    return NULL;
}

static enum il_code semaphore_check(const struct il_semaphore *semaphore, const char *function,
                                    uint32_t count, struct il_error *err)
{
    enum il_code code = handle_check(semaphore, function, err);

    if (code == IL_OK && (count < 1 || count > IL_SEMAPHORE_PERMITS_MAX)) {
        return il_fail(err, IL_EINVAL, "%s: %u permits of semaphore '%s': want 1 to %u", function,
                       count, semaphore->handle.name, IL_SEMAPHORE_PERMITS_MAX);
    }
    return code;
}

enum il_code il_semaphore_acquire(struct il_semaphore *semaphore, uint32_t count,
                                  uint64_t deadline_ns, struct il_error *err)
{
    enum il_code code = semaphore_check(semaphore, "il_semaphore_acquire", count, err);
    struct rt_place place;

    if (code != IL_OK) {
        return code;
    }
    waitq_take_turns(&semaphore->locked.waiters);
    code = rt_enter(&place, false, err);
    if (code != IL_OK) {
        return code;
    }
    sys_mutex_lock(&semaphore->locked.mutex);
    code = waitq_wait_locked(&semaphore->locked.waiters, &semaphore->locked.mutex, &place, count,
                             deadline_ns, "semaphore acquire");
    if (code == IL_OK) {
        semaphore->locked.waiters.amount -= count;
    }
    waitq_unlock(&semaphore->locked.waiters, NULL, &semaphore->locked.mutex);
    rt_leave(&place);
    return code == IL_OK
               ? IL_OK
               : il_fail(err, code, "waiting for %u permit%s of semaphore '%s': %s", count,
                         il_plural(count), semaphore->handle.name, il_code_text(code));
}

enum il_code il_semaphore_try_acquire(struct il_semaphore *semaphore, uint32_t count,
                                      struct il_error *err)
{
    enum il_code code = semaphore_check(semaphore, "il_semaphore_try_acquire", count, err);
    bool is_taken;

    if (code != IL_OK) {
        return code;
    }
    sys_mutex_lock(&semaphore->locked.mutex);
    is_taken = waitq_try_locked(&semaphore->locked.waiters, count);
    if (is_taken) {
        semaphore->locked.waiters.amount -= count;
    }
    waitq_unlock(&semaphore->locked.waiters, NULL, &semaphore->locked.mutex);
    return is_taken ? IL_OK
                    : il_fail(err, IL_EAGAIN, "semaphore '%s' has not %u permit%s free now",
                              semaphore->handle.name, count, il_plural(count));
}

enum il_code il_semaphore_release(struct il_semaphore *semaphore, uint32_t count,
                                  struct il_error *err)
{
    enum il_code code = semaphore_check(semaphore, "il_semaphore_release", count, err);
    struct waitq *waiters;
    bool fits;

    if (code != IL_OK) {
        return code;
    }
    waiters = &semaphore->locked.waiters;
    sys_mutex_lock(&semaphore->locked.mutex);
    fits = waiters->amount + count <= IL_SEMAPHORE_PERMITS_MAX;
    if (fits) {
        waiters->amount += count;
    }
    waitq_unlock(waiters, NULL, &semaphore->locked.mutex);
    return fits ? IL_OK
                : il_fail(err, IL_EINVAL,
                          "il_semaphore_release: with %u more, semaphore '%s' would have more than "
                          "%u permits: some were released that had not been acquired",
                          count, semaphore->handle.name, IL_SEMAPHORE_PERMITS_MAX);
}

enum il_code il_semaphore_stats(struct il_semaphore *semaphore,
                                struct il_semaphore_stats *ret_stats, struct il_error *err)
{
    enum il_code code = handle_check(semaphore, "il_semaphore_stats", err);

    if (code == IL_OK) {
        sys_mutex_lock(&semaphore->locked.mutex);
        waitq_validate_locked(&semaphore->locked.waiters);
        ret_stats->available = (uint32_t)semaphore->locked.waiters.amount;
        ret_stats->waiters = semaphore->locked.waiters.waiter_count;
        sys_mutex_unlock(&semaphore->locked.mutex);
    }
    return code;
}
