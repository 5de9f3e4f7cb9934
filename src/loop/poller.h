/* poller.h: an epoll set, and the descriptors it watches.
 *
 * A *watch* is one registration of one descriptor with one poller: edge-triggered, for reading and
 * writing at once, made once and left alone. What makes it special is that a watch can be
 * *resting*: then nobody waits for its descriptor, and whoever claims the watch first takes the
 * descriptor:
 *
 *              watch_open
 *                  |
 *                  v      watch_rest              watch_claim_away
 *   +---------> DRIVEN -----------------> RESTING ----------------> GONE -> buried, freed later
 *   |              |                         |                        ^
 *   |              +--- watch_close ---------|------------------------+
 *   +------------- watch_claim_here ---------+
 *
 *   DRIVEN -> *   only by the thread that holds the loop the watch was opened on
 *   RESTING -> *  by any thread; one atomic exchange decides who wins
 *
 * Events of a DRIVEN watch go to on_event. Events of a RESTING watch go to on_rest_event, which may
 * look at nothing but the watch until it has claimed it. A watch that is GONE may still lie in the
 * batch of events that its old loop is working through, so its memory is *buried* with its poller
 * and freed when that loop next polls, or with the poller. A poller lives until its loop and all
 * its watches have let go of it: a connection that rests on the poller of a loop that has ended is
 * fine.
 */
#ifndef IL_LOOP_POLLER_H
#define IL_LOOP_POLLER_H

#include "loop/timer.h"
#include "sys/sys.h"

enum watch_state {
    WATCH_DRIVEN,
    WATCH_RESTING,
    WATCH_GONE,
};

struct poller;

struct watch {
    struct poller *poller; /* holds a reference */
    int fd;                /* not owned: close it after the watch has gone */
    _Atomic int state;     /* enum watch_state */
    void (*on_event)(struct watch *watch, uint32_t events);
    void (*on_rest_event)(struct watch *watch, uint32_t events);
    void (*on_rest_timeout)(struct watch *watch);
    struct timer rest_timer; /* armed no later than rest_deadline_ns; may stay so while driven */
    uint64_t rest_deadline_ns;
    void *arg; /* the driver's; while resting, whoever claimed it may read it */
    struct watch *grave_next;
};

struct poller {
    int fd;
    int wake_fd;
    struct timers *timers; /* its loop's */
    _Atomic uint32_t ref_count;
    _Atomic(struct watch *) graves;
    _Atomic bool is_closed; /* its loop has ended: no batch can be under way any more */
};

enum il_code poller_new(const char *name, struct timers *timers, struct poller **ret_poller,
                        struct il_error *err);
struct poller *poller_ref(struct poller *poller);
struct poller *poller_unref(struct poller *poller);

/* The loop has ended and will not poll again. Watches that rest may stay. */
void poller_close(struct poller *poller);

/* Free what was buried. Only between two batches, by the thread that holds the poller's loop. */
void poller_bury_done(struct poller *poller);

/* Register `fd`; the watch starts DRIVEN. Thread: the one that holds the poller's loop. */
enum il_code watch_open(struct poller *poller, int fd,
                        void (*on_event)(struct watch *watch, uint32_t events),
                        void (*on_rest_event)(struct watch *watch, uint32_t events), void *arg,
                        struct watch **ret_watch, struct il_error *err);

/* Unregister and bury a watch that is DRIVEN. Thread: the one that holds the poller's loop. */
void watch_close(struct watch *watch);

/* Let whoever wants it take the descriptor. If it still rests at `deadline_ns` (TIMER_NEVER: none),
 * on_rest_timeout runs on the poller's loop; like on_rest_event it must claim before it looks.
 * Thread: the one that holds the poller's loop. */
void watch_rest(struct watch *watch, uint64_t deadline_ns);

/* Take a resting watch for the loop that it is registered with; false when somebody else was first.
 * Events may have come and gone while it rested: try to read before waiting for the next one.
 * Thread: the one that holds the poller's loop. */
bool watch_claim_here(struct watch *watch);

/* Take the descriptor away from a resting watch: the watch is GONE and must be unregistered with
 * watch_bury. False when somebody else was first. Thread: any. */
bool watch_claim_away(struct watch *watch);

/* Unregister and bury a watch that is GONE by our claim. Thread: the claimer. */
void watch_bury(struct watch *watch);

/* Hand an event to whoever it belongs to. Thread: the one that holds the poller's loop. */
void watch_dispatch(struct watch *watch, uint32_t events);

#endif
