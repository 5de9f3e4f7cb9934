/* watch.h: inside src/watch: a snapshot of all that waits or is waited for.
 *
 * Taken lock by lock, so not all of one instant: what does not fit together (a call whose
 * connection is not there any more) has just moved on, and is reported as live. */
#ifndef IL_WATCH_H
#define IL_WATCH_H

#include "client/client.h"
#include "interloop/watch.h"
#include "rt/rt.h"
#include "share/share.h"

struct watch_loop {
    struct il_watch_loop view;
    bool is_current_thread; /* of a runtime that moves only inside il_block_on */
    bool is_thread_loop;
    bool is_handed_over;          /* when user code keeps its thread: a spare will come */
    char task[IL_TASK_NAME_SIZE]; /* the task that is running there; "" if none */
};

/* A request that was handed to another runtime: what share_pending says, copied. */
struct watch_handed {
    struct il_watch_request view; /* all but verdict, stamp and links */
    const char *kind;             /* static */
    char owner[IL_SHARE_NAME_SIZE];
    enum share_state state;
    uint64_t since_ns, loop_id, task_id; /* 0: not known */
    uint32_t taken_count, taken_count_max;
};

struct watch_table {
    void *items;
    size_t item_size, count, count_max; /* count may be larger: so many there are */
};

struct watch_world {
    uint64_t now_ns;
    struct watch_table calls, conns, loops, handed;
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

static inline struct watch_handed *watch_handed_at(const struct watch_world *world, size_t i)
{
    return (struct watch_handed *)world->handed.items + i;
}

static inline struct watch_loop *watch_loop_at(const struct watch_world *world, size_t i)
{
    return (struct watch_loop *)world->loops.items + i;
}

/* Follow what the call waits for, to the end; fills in verdict, stamp and links. */
void watch_follow(const struct watch_world *world, struct client_call_report *call);
void watch_follow_handed(const struct watch_world *world, struct watch_handed *handed);

/* Copy; runs under the locks of src/share. */
void watch_copy_pending(const struct share_pending *pending, uint64_t now_ns,
                        struct watch_handed *copy);

/* ---- what following is made of ---- */

uint64_t watch_stamp_add(uint64_t stamp, uint64_t value);
void watch_add_link(struct il_watch_request *view, const char *what, const char *who,
                    const char *state, uint64_t since_ms, const char *format, ...) IL_PRINTF(6, 7);

/* Does the loop act? One that is gone (NULL) does not. */
enum il_verdict watch_judge_loop(const struct watch_loop *loop);

/* Add the loop, the task that keeps it, and the thread that has it. */
enum il_verdict watch_follow_loop(const struct watch_world *world, struct il_watch_request *view,
                                  uint64_t loop_id);

#endif
