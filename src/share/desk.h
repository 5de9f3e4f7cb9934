/* desk.h: inside src/share: where requests are handed over to a runtime, and answers come back.
 *
 * A *desk* belongs to a single, a proxy or a service; it knows the runtime that owns the client. A
 * *ticket* is one request on its way: a copy of it, who waits for it, and its outcome.
 *
 *     caller                                    task of the owner
 *     ticket_new
 *     ... hands it over (il_spawn, channel) --> ticket_run: il_send
 *     ticket_wait   <------- oneshot ---------- ticket_end
 *
 * The states of a ticket:
 *
 *     ARRIVING ---> QUEUED ---> TAKEN ---> OVER    answered, or the caller has left
 *        |  |          |                    ^ ^
 *        |  |          +--------------------+ |
 *        |  +------------- TAKEN -------------+    taken before the caller could note it as queued
 *        +----------------------------------> */
#ifndef IL_SHARE_DESK_H
#define IL_SHARE_DESK_H

#include "share/share.h"
#include "sync/sync.h"

#define SHARE_REQUESTS_MAX_DEFAULT 10000

struct desk {
    const char *kind; /* static */
    char name[IL_SHARE_NAME_SIZE];
    char owner[LOOP_NAME_SIZE];   /* the name of its runtime */
    struct il_runtime *runtime;   /* a reference until it is closed, then only for comparing */
    struct il_client *client;     /* a reference */
    struct il_loop *loop;         /* a service: where its actor lives, a reference; else NULL */
    struct il_semaphore *permits; /* a service: each request being run holds one; else NULL */
    uint32_t permit_count;
    uint32_t request_count_max;
    uint32_t fork_generation;
    _Atomic uint32_t ref_count;
    _Atomic bool is_owner_gone; /* a service: its actor has seen the end of the runtime */

    struct { /* any thread, with mutex held */
        struct sys_mutex mutex;
        struct il_list pending; /* tickets whose callers wait: all that are not OVER */
        uint32_t ticket_count;  /* those whose callers have left included */
        uint32_t taken_count;
        bool is_closed;
    } locked;
    struct il_list registry_link; /* guarded by the registry's mutex, see share_for_each_pending */
};

struct desk_options {
    const char *kind, *name;
    struct il_runtime *runtime;
    struct il_client *client; /* NULL: make one */
    const struct il_client_options *client_options;
    uint32_t request_count_max; /* 0: the default */
    uint32_t permit_count;      /* 0: no limit */
};

enum il_code desk_new(const struct desk_options *options, struct desk **ret_desk,
                      struct il_error *err);
struct desk *desk_ref(struct desk *desk);
void desk_unref(struct desk *desk);

/* Let nothing more in, answer all who wait with IL_ECLOSED, cancel their requests, and give the
 * reference on the runtime back. Thread: any; not in a task of the runtime if that was the last
 * one. */
void desk_close(struct desk *desk);

/* In the child of a fork a desk is of no use, and its locks may be held for ever: let it be. */
bool desk_is_the_parents(const struct desk *desk);

/* May the request be handed over here? IL_EINVAL, IL_EFORK, IL_EDEADLOCK. */
enum il_code desk_check(const struct desk *desk, const struct il_request *request,
                        struct il_error *err);

/* The whole of X_send for a single and a proxy: `il_send` on the owner itself, else by a task that
 * is spawned there. */
enum il_code desk_send(struct desk *desk, const struct il_request *request,
                       struct il_response **ret_response, struct il_error *err);

/* ---- tickets ---- */

enum ticket_state {
    TICKET_ARRIVING,
    TICKET_QUEUED,
    TICKET_TAKEN,
    TICKET_OVER,
    TICKET_STATE_COUNT,
};

struct ticket {
    uint64_t id;
    struct desk *desk;          /* a reference */
    struct il_request *request; /* a copy, ours */
    struct party *waiter;       /* borrowed: its owner leaves before it ends */
    uint64_t handed_over_ns, deadline_ns;
    uint64_t total_timeout_ms;
    _Atomic uint32_t ref_count;           /* the caller's, and the runner's */
    struct il_oneshot_receiver *receiver; /* the caller only */

    enum il_code code; /* the outcome: written before it is sent, read after it was received */
    struct il_error error;

    struct { /* any thread, with the desk's mutex held */
        struct il_list link;
        enum ticket_state state;
        uint64_t since_ns;
        struct il_oneshot_sender *sender; /* NULL when it is OVER */
        struct il_loop *loop;             /* a reference */
        struct il_task *task;             /* while TAKEN: a reference, for cancelling */
        uint64_t task_id;
    } locked;
};

/* Begin: copy the request and note who waits. The caller gets two references, his own and one for
 * the runner. IL_EDEADLOCK: in a callback; IL_ECANCELED, IL_ESHUTDOWN: this task may not wait;
 * IL_ECLOSED, IL_ELIMIT, IL_ENOMEM. */
enum il_code ticket_new(struct desk *desk, const struct il_request *request,
                        struct ticket **ret_ticket, struct il_error *err);
struct ticket *ticket_ref(struct ticket *ticket);
void ticket_unref(struct ticket *ticket);

/* Does the caller still wait? */
bool ticket_is_wanted(struct ticket *ticket);

/* The caller has handed it over to `loop`; it may have been taken already. */
void ticket_note_queued(struct ticket *ticket, struct il_loop *loop);

/* Who was to run it has given it to a task on `loop`, which may have begun. */
void ticket_note_moved(struct ticket *ticket, struct il_loop *loop);

/* Wait for the outcome, and drop the caller's reference. */
enum il_code ticket_wait(struct ticket *ticket, struct il_response **ret_response,
                         struct il_error *err);

/* The caller gives up: drop his reference, and cancel the request if a task is sending it. */
void ticket_leave(struct ticket *ticket);

/* Give the outcome to the caller, if he still waits. Takes `response`. Does not drop a reference.
 */
void ticket_end(struct ticket *ticket, enum il_code code, struct il_response *response,
                const struct il_error *error);

/* A task of the owner: send the request and give the outcome to the caller; drops the runner's
 * reference, and releases one of the desk's permits, if it has any. */
void ticket_run(void *arg);

/* ---- small things that the patterns share ---- */

/* As il_get, by `send_request`. */
typedef enum il_code share_send_fn(void *object, const struct il_request *request,
                                   struct il_response **ret_response, struct il_error *err);
enum il_code share_get(share_send_fn *send_request, void *object, const char *url,
                       struct il_response **ret_response, struct il_error *err);

/* Options are NULL, or have the size that we know. */
enum il_code share_check_size(const char *what, size_t size, size_t size_wanted,
                              struct il_error *err);

/* Make a client; `name` is for one whose options give it none. */
enum il_code share_new_client(const struct il_client_options *options, const char *name,
                              struct il_client **ret_client, struct il_error *err);

/* Where we are, in words: "task 'x' on runtime 'R'", "thread 12", "a callback on loop 'L'". */
void share_describe_here(char *text, size_t size);

#endif
