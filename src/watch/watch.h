/* watch.h: inside src/watch: a snapshot of all that waits or is waited for.
 *
 * Taken lock by lock, so not all of one instant: what does not fit together (a call whose
 * connection is not there any more) has just moved on, and is reported as live. */
#ifndef IL_WATCH_H
#define IL_WATCH_H

#include "client/client.h"
#include "interloop/watch.h"

struct watch_loop {
    struct il_watch_loop view;
    bool is_current_thread; /* of a runtime that moves only inside il_block_on */
    bool is_thread_loop;
    char task[IL_TASK_NAME_SIZE]; /* the task that is running there; "" if none */
};

struct watch_table {
    void *items;
    size_t item_size, count, count_max; /* count may be larger: so many there are */
};

struct watch_world {
    uint64_t now_ns;
    struct watch_table calls, conns, loops;
};

/* Take a snapshot; watch_world_deinit frees it. IL_ENOMEM. */
enum il_code watch_world_init(struct watch_world *world);
void watch_world_deinit(struct watch_world *world);

static inline struct client_call_report *watch_call_at(const struct watch_world *world, size_t i)
{
    return (struct client_call_report *)world->calls.items + i;
}

static inline struct client_conn_report *watch_conn_at(const struct watch_world *world, size_t i)
{
    return (struct client_conn_report *)world->conns.items + i;
}

static inline struct watch_loop *watch_loop_at(const struct watch_world *world, size_t i)
{
    return (struct watch_loop *)world->loops.items + i;
}

/* Follow what the call waits for, to the end; fills in verdict, stamp and links. */
void watch_follow(const struct watch_world *world, struct client_call_report *call);

#endif
