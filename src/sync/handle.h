/* handle.h: inside src/sync: what a semaphore, a mutex and a channel have in common: a name,
 * references, and the process that they belong to. The handle is the object's first member. */
#ifndef SYNC_HANDLE_H
#define SYNC_HANDLE_H

#include "interloop/sync.h"
#include "sync/waitq.h"

struct handle {
    const char *kind; /* "channel"; static */
    _Atomic uint32_t ref_count;
    uint32_t fork_generation;
    char name[IL_SYNC_NAME_SIZE];
};

/* `name` is copied; NULL means `kind`. */
void handle_init(struct handle *handle, const char *kind, const char *name);

/* May `object`, which begins with a handle, be used here? IL_EINVAL for NULL, IL_EFORK in the child
 * of a fork. `function` is what the user called. */
enum il_code handle_check(const void *object, const char *function, struct il_error *err);

void handle_ref(struct handle *handle);

/* True if that was the last reference: free the object. What was made before a fork is never freed
 * in the child: a thread that does not exist there may be inside of it. */
bool handle_unref(struct handle *handle);

#endif
