/* loop.h: one event loop: poller, timers, jobs, mailbox, and who holds it.
 *
 * At any moment at most one thread *holds* a loop; only that thread touches its state. The one way
 * in from elsewhere is loop_post. Holding is one atomic word, the *hold*: a state, the number of
 * the thread, and the number of its stay in user code. While the holder runs the library (LIB)
 * nobody can take the loop from it. Around user code (a task, a callback) it passes the gate:
 * loop_enter_user before, loop_leave_user after. In between (USER) another thread may take the loop
 * over; the old holder finds out when loop_leave_user says no, and must then let go of everything
 * without touching the loop again. That is why all work in progress (the batch of events, the run
 * queue) is kept in the loop and not on its holder's stack, and why user code runs only from jobs,
 * at the top of a turn, never from inside a timer or an event.
 *
 * Who takes a loop over and when, and why nothing is lost by it, stands in rt/handover.h, with the
 * picture of the word's states.
 *
 * Layers above add their own things to a loop as *jobs* (run once, soon, in order) and *guests*
 * (told when the loop ends). */
#ifndef IL_LOOP_H
#define IL_LOOP_H

#include "loop/poller.h"
#include "loop/timer.h"

struct il_loop;

/* ---- jobs ---- */

enum loop_result {
    LOOP_HELD, /* we still hold the loop */
    LOOP_LOST, /* it was taken over while user code ran: do not touch it again */
};

/* Something to run once on a loop. In the memory of whoever posts it; queued in at most one place;
 * may free or post itself again while it runs. */
struct job {
    struct job *next;
    enum loop_result (*run)(struct il_loop *loop, struct job *job);
};

struct job_queue {
    struct job *head, **tail;
};

/* ---- guests ---- */

/* Something that lives on a loop and must know when the loop ends. */
struct loop_guest {
    struct il_list link;
    void (*on_loop_end)(struct loop_guest *guest); /* unlinked before the call; must not block */
};

/* ---- the loop ---- */

#define LOOP_NAME_SIZE  32
#define LOOP_EVENTS_MAX 256
#define LOOP_NS_PER_MS  UINT64_C(1000000)

enum loop_hold_state {
    LOOP_FREE = 0,
    LOOP_HELD_IN_LIB = 1,
    LOOP_HELD_IN_USER = 2,
    LOOP_ENDED = 3,
};

struct IL_CAPABILITY("loop") il_loop {
    uint64_t id; /* set at creation, then read by anyone, like the four below */
    char name[LOOP_NAME_SIZE];
    struct poller *poller;
    void *owner;                            /* the runtime or the thread that the loop belongs to */
    bool is_thread_loop;                    /* driven only while its thread waits in the library */
    bool has_worker;                        /* a thread of the runtime's drives it all the time */
    void (*on_awake)(struct il_loop *loop); /* the owner's: it slept, or nobody held it; or NULL */

    struct { /* the holder only */
        struct timers timers;
        struct job_queue ready;
        struct job_queue late; /* to be run after those, before the next poll */
        uint64_t batch;        /* grows whenever somebody begins to run what is ready */
        struct il_list guests;
        struct epoll_event events[LOOP_EVENTS_MAX];
        int event_index, event_count;
        uint64_t now_ns;                            /* read once a turn */
        void (*before_sleep)(struct il_loop *loop); /* the owner's; NULL: nothing */
        bool has_polled;                            /* since it was last taken hold of */
        bool must_return; /* a job of this turn wants the holder back: do not sleep in the poll */
        bool is_ending;   /* loop_end is under way: nobody may take over, user code runs in place */
        char *scratch;    /* LOOP_SCRATCH_SIZE bytes lent to whatever receives at the moment */
        void *resolver;   /* src/net's: what it knows of names on this loop; a guest; or NULL */
        void *kits;       /* src/client's: what connections borrow; a guest; or NULL */
        void *streams;    /* src/client's: spare memory; a guest; or NULL */
        void *reminders;  /* src/client's: sessions to be sent to; a guest; or NULL */

        /* the user code that runs or ran last, for who takes the loop over: src/rt's */
        void *user_task;             /* NULL: a callback */
        void (*user_function)(void); /* NULL: not known */
    } held;

    struct {                        /* any thread */
        _Atomic uint64_t hold;      /* see hold_word() */
        _Atomic(struct job *) mail; /* newest first; LOOP_MAIL_SEALED when the loop has ended */
        _Atomic int wake;           /* enum loop_wake */
        _Atomic uint32_t ref_count;
        _Atomic uint32_t hold_waiter_count;
        _Atomic bool stop_requested;

        /* what a report says of the loop; written by the holder, read by anyone */
        _Atomic uint64_t since_ns;   /* when the present hold state, or the poll, began */
        _Atomic uint64_t turn_count; /* grows while the loop makes progress */
        _Atomic bool is_polling;
        _Atomic int holder_kernel_id; /* thread that holds the loop, or held it last */

        /* the hand-over, see rt/handover.h */
        _Atomic bool is_stood_in;      /* the holder is a stand-in; written by the holder */
        _Atomic int32_t absent_count;  /* own threads that lost the loop and have not come back */
        _Atomic uint32_t claim_count;  /* callbacks that lost the loop and need it to go on */
        _Atomic uint32_t pin_count;    /* tasks that keep the loop on its thread */
        _Atomic uint64_t offered_word; /* a stuck stay: whoever waits may take over; 0: none */
        _Atomic uint64_t offered_since_ns; /* when it was seen first; written before it */
        _Atomic uint64_t take_over_count;
        _Atomic uint64_t announced_count; /* of those, by il_block_in_place */
        _Atomic uint64_t stuck_ns_total;  /* of those who have come back */
        _Atomic uint64_t stuck_ns_max;
    } shared;

    struct { /* any thread, with mutex held */
        struct sys_mutex mutex;
        struct sys_cond hold_freed;
    } locked;
    struct il_list registry_link; /* guarded by the registry's mutex, see loop_for_each */
};

#define LOOP_SCRATCH_SIZE 65536

enum loop_wake {
    LOOP_AWAKE,    /* the holder will look into the mailbox before it sleeps */
    LOOP_ASLEEP,   /* it sleeps, or nobody drives the loop: post a wake-up */
    LOOP_NOTIFIED, /* a wake-up is already on its way */
};

/* ---- life ---- */

/* A new loop, held by nobody. `name` is copied, cut to LOOP_NAME_SIZE - 1 bytes. Thread: any. */
enum il_code loop_new(const char *name, void *owner, bool is_thread_loop, struct il_loop **ret_loop,
                      struct il_error *err);
struct il_loop *loop_ref(struct il_loop *loop);
struct il_loop *loop_unref(struct il_loop *loop);

/* Close the mailbox for ever if there is neither mail nor a job that is ready; else false: take
 * another turn first. Afterwards loop_post refuses. Thread: the holder. */
bool loop_try_seal(struct il_loop *loop) IL_ON_LOOP(loop);

/* End a sealed loop: tell the guests, run what they leave behind (user code runs in place, without
 * the gate). Nobody can hold the loop afterwards. Thread: the holder. */
void loop_end(struct il_loop *loop) IL_ON_LOOP(loop);

/* Wait until loop_end has done its work; the mailbox is sealed already. Thread: not the holder. */
void loop_wait_ended(struct il_loop *loop);

/* Loops that are made and not freed, in the whole process. */
uint64_t loop_count_live(void);

/* ---- holding ---- */

/* Become the holder if nobody is. Thread: any. */
bool loop_try_hold(struct il_loop *loop);

/* Become the holder; wait until the present one lets go, or `deadline_ns`. Thread: any that is not
 * on a loop. False when the deadline passed. */
bool loop_hold_until(struct il_loop *loop, uint64_t deadline_ns);
void loop_release(struct il_loop *loop) IL_ON_LOOP(loop);

/* As loop_hold_until, but give up as soon as `is_done(arg)`, which is asked again whenever the loop
 * is released and after loop_hold_recheck. True if we hold the loop now. */
bool loop_hold_unless(struct il_loop *loop, bool (*is_done)(void *arg), void *arg);
void loop_hold_recheck(struct il_loop *loop);

/* The gate. loop_leave_user returns LOOP_LOST when another thread has taken the loop over. */
void loop_enter_user(struct il_loop *loop);
enum loop_result loop_leave_user(struct il_loop *loop);

/* The word as it is: the same word seen twice, in state LOOP_HELD_IN_USER, means that the same
 * thread is in the same stay in user code. Thread: any. */
static inline uint64_t loop_hold_word(const struct il_loop *loop)
{
    return atomic_load(&loop->shared.hold);
}

static inline enum loop_hold_state loop_hold_word_state(uint64_t word)
{
    return (enum loop_hold_state)(word & 3);
}

static inline enum loop_hold_state loop_hold_state(const struct il_loop *loop)
{
    return loop_hold_word_state(loop_hold_word(loop));
}

/* Since when nobody has acted for the loop: nobody holds it, or its holder is in user code. 0:
 * somebody does, or it has ended. Thread: any; it may be otherwise by the time of the return. */
uint64_t loop_unattended_since_ns(const struct il_loop *loop);

/* Does the calling thread hold the loop, and is it in user code? */
bool loop_is_in_user_here(const struct il_loop *loop);

/* Does the calling thread hold the loop, and is it in the library? */
bool loop_is_held_by_me(const struct il_loop *loop);
void il_assert_on_loop(const struct il_loop *loop) IL_NOW_ON(loop);

/* Has loop_end done its work? */
bool loop_has_ended(const struct il_loop *loop);

/* ---- taking over, and coming back: the parts that the hand-over is made of ---- */

/* Take the loop from the holder whose stay in user code `word` names; the taker then holds it, as a
 * stand-in or as one of its own. `ret_from_stand_in`: what the one was from whom it was taken.
 * False when that stay is over. Thread: any that does not hold it. */
bool loop_try_take_over(struct il_loop *loop, uint64_t word, bool is_stand_in,
                        bool *ret_from_stand_in);

/* As loop_try_hold, as a stand-in. */
bool loop_try_stand_in(struct il_loop *loop);

/* Is there still a reason for a stand-in to hold the loop? Thread: the holder. */
bool loop_wants_stand_in(struct il_loop *loop);

/* One of the loop's own threads was told LOOP_LOST, has let go of everything, and is back. */
void loop_own_is_back(struct il_loop *loop);

/* Is one of them still away? */
bool loop_own_is_absent(struct il_loop *loop);

/* A callback that lost the loop needs it to go on: wait for it. Its thread is one of the loop's
 * own, or a stand-in. False: the loop has ended; all is as before. */
bool loop_claim(struct il_loop *loop, bool is_stand_in);

/* Does such a callback wait? Then let it have the loop, and hold it again afterwards; false if it
 * has ended meanwhile. Not while a task is pinned. Thread: the holder, on top of a turn. */
static inline bool loop_is_claimed(const struct il_loop *loop)
{
    return atomic_load(&loop->shared.claim_count) > 0 && atomic_load(&loop->shared.pin_count) == 0;
}
bool loop_lend(struct il_loop *loop);

/* ---- work ---- */

/* One turn: take the mail, fire timers, run the jobs that are ready, poll, hand out events. Sleeps
 * in the poll until something happens or `deadline_ns` passes (0: never sleeps).
 * Thread: the holder; no longer the holder when it returns LOOP_LOST. */
enum loop_result loop_turn(struct il_loop *loop, uint64_t deadline_ns);

/* Run `job` on the loop, soon. False when the loop has ended: the job is still the caller's, who
 * must deal with it. The loop may be one that is kept by what the job will free. Never blocks.
 * Thread: any, the holder included. */
IL_MUST_USE bool loop_post(struct il_loop *loop, struct job *job);

/* As loop_post, for one or more that are linked by `next`, the oldest first: they come together.
 * False: they are all still the caller's, in another order. */
IL_MUST_USE bool loop_post_all(struct il_loop *loop, struct job **jobs);

/* As loop_post, by the holder: no atomic operation, always succeeds. */
void loop_push(struct il_loop *loop, struct job *job) IL_ON_LOOP(loop);
void loop_push_all(struct il_loop *loop, struct job *jobs) IL_ON_LOOP(loop);

/* Run `job`, which is no user code, when all that is ready now has run: at the end of the present
 * turn, before the loop sleeps. By the holder. */
void loop_push_late(struct il_loop *loop, struct job *job) IL_ON_LOOP(loop);

/* Make the holder return from its poll. Thread: any. */
void loop_wake(struct il_loop *loop);

static inline uint64_t loop_now_ns(const struct il_loop *loop)
{
    return loop->held.now_ns;
}

/* Did the last poll, no longer than LOOP_JUST_NS ago, hand out every event there was? Then what the
 * loop knows of its sockets is as good as asking each of them. Thread: the holder. */
#define LOOP_JUST_NS ((uint64_t)LOOP_NS_PER_MS)
bool loop_has_just_polled(const struct il_loop *loop);

void loop_guest_add(struct il_loop *loop, struct loop_guest *guest) IL_ON_LOOP(loop);
void loop_guest_remove(struct loop_guest *guest);

/* Visit every loop of the process, under the registry's lock: `visit` must be short, take no lock
 * but leaves, and make and free no loop. Thread: any. */
void loop_for_each(void (*visit)(struct il_loop *loop, void *arg), void *arg);

#endif
