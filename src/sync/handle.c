/* handle.c: names and references of the objects in src/sync. See handle.h. Threads: any. */
#include "sync/handle.h"

#include <stdio.h>

void handle_init(struct handle *handle, const char *kind, const char *name)
{
    handle->kind = kind;
    atomic_init(&handle->ref_count, 1);
    handle->fork_generation = sys_fork_generation();
    (void)snprintf(handle->name, sizeof(handle->name), "%s",
                   name != NULL ? name : kind); /* cut on purpose */
}

enum il_code handle_check(const void *object, const char *function, struct il_error *err)
{
    const struct handle *handle = object;

    if (handle == NULL) {
        return il_fail(err, IL_EINVAL, "%s: the object is NULL", function);
    }
    if (IL_UNLIKELY(handle->fork_generation != sys_fork_generation())) {
        return il_fail(err, IL_EFORK,
                       "%s: %s '%s' was made before this process was forked; make one of your own "
                       "after fork",
                       function, handle->kind, handle->name);
    }
    return IL_OK;
}

void handle_ref(struct handle *handle)
{
    atomic_fetch_add_explicit(&handle->ref_count, 1, memory_order_relaxed);
}

bool handle_unref(struct handle *handle)
{
    uint32_t before;

    if (handle->fork_generation != sys_fork_generation()) {
        return false;
    }
    before = atomic_fetch_sub_explicit(&handle->ref_count, 1, memory_order_acq_rel);
    il_assert(before > 0);
    return before == 1;
}
