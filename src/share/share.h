/* share.h: what src/share offers the folders below it in the house: the public patterns of
 * interloop/share.h, and who waits in them. */
#ifndef IL_SHARE_SHARE_H
#define IL_SHARE_SHARE_H

#include "client/client.h"
#include "interloop/share.h"
#include "rt/rt.h"

enum share_state {
    SHARE_ARRIVING, /* on its way: waits for a place in the queue of a service */
    SHARE_QUEUED,   /* handed over to `loop`, which has not taken it up */
    SHARE_TAKEN,    /* task `task_id` on `loop` is sending it */
};

/* A request that was handed over and not yet answered, and whose caller waits. All that is pointed
 * to is borrowed, for the duration of the visit. */
struct share_pending {
    uint64_t id;       /* unique in the process */
    const char *kind;  /* "single", "proxy", "service" */
    const char *name;  /* which one */
    const char *owner; /* the name of the runtime that it was handed to */
    const struct il_request *request;
    const struct party *waiter; /* is inside the wait: rt_party_describe, rt_party_task_id */
    uint64_t handed_over_ns;
    uint64_t deadline_ns; /* of the caller; IL_FOREVER for none */
    enum share_state state;
    uint64_t since_ns;          /* in that state */
    const struct il_loop *loop; /* where it is queued or run; NULL while that is not decided */
    uint64_t task_id;           /* the task that sends it: its call has the same task_id. 0: none */
    uint32_t taken_count;       /* requests of this object that tasks are sending now */
    uint32_t taken_count_max;   /* a service: no more than so many; 0: no limit */
};

/* Visit every pending request of the process, under the locks of the registry and of one object at
 * a time: `visit` must be short and take no lock but leaves. Thread: any. */
void share_for_each_pending(void (*visit)(const struct share_pending *pending, void *arg),
                            void *arg);

#endif
