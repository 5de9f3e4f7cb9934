/* waitq.h: waiting for something that several loops share, such as permits, messages or places.
 *
 * Whatever is shared keeps its own mutex, and in each queue says how much is there for the taking
 * (`amount`). Who waits is *woken*, never *assigned* anything: being woken means that it may be
 * worth asking again, and whoever asks first takes. So a waiter whose loop does not run, or that is
 * cancelled, has nothing that could be lost with it.
 *
 * The waiters of one loop form a *line*: first come, first served. All threads that wait outside
 * of tasks form one line too, although each has a loop of its own: a thread that waits drives its
 * loop, so none of them can be parked, and to wake them all for each permit would cost ten times
 * the CPU with 256 threads. The first of each line is its *head*. Whenever the mutex is free:
 *
 *     if there is enough for a head, that head has been woken and has not asked since,
 *     or it gives way to the favoured one and has a timer that ends this (see below).
 *
 * So nothing waits for a line other than its own, and a change wakes one waiter for each line at
 * most: O(loops), not O(waiters).
 *
 * *Favour.* Between lines the fastest takes, so a loop that takes and gives back all the time could
 * leave the others with nothing, and a waiter that needs much could wait for ever while little by
 * little is taken. Therefore a head that has waited for WAITQ_FAVOUR_AFTER_NS, and on asking again
 * still cannot have what it needs, is *favoured*: nobody else takes. Among several it is the
 * oldest. Two limits keep this from holding anybody up:
 *
 *   - It must answer. Who would take, were it not for the favoured one, challenges it: wakes it.
 *     If it has not asked within WAITQ_ANSWER_NS, its favour is over: it is parked, stuck, or gone.
 *     So it costs the others that time, once.
 *   - It must share. After as long as it had waited before it was favoured, nobody who needs more
 *     than one unit is favoured for the same time. So what is there is kept from nobody for ever;
 *     and since the next turn is longer than the last, one of them will be long enough.
 *
 * Threads: any, with the mutex held. Nothing here allocates, so nothing here can fail. */
#ifndef SYNC_WAITQ_H
#define SYNC_WAITQ_H

#include "rt/rt.h"

#define WAITQ_FAVOUR_AFTER_NS ((uint64_t)1000000)
#define WAITQ_ANSWER_NS       ((uint64_t)10000000)

/* So many takes in a row that need not wait, and a task lets the others of its loop run. */
#define WAITQ_STREAK_MAX 64

/* An amount: there is enough for everybody, out of turn too. For things that end. */
#define WAITQ_ALL UINT64_MAX

struct waitq {
    uint64_t amount;       /* its owner's to set, before waitq_unlock */
    uint32_t waiter_count; /* for reports and limits */

    struct il_list heads;     /* struct waiter.head: of each line the oldest */
    struct waiter *favoured;  /* a head, or NULL */
    bool is_challenged;       /* the favoured one has been asked to show itself */
    bool must_look;           /* some head has must_look set */
    uint64_t answer_until_ns; /* and must have by then */
    uint64_t share_until_ns;  /* nobody who needs more than one is favoured before */
    _Atomic uint32_t streak;  /* see WAITQ_STREAK_MAX */
};

/* In the memory of whoever waits. Fields are for waitq.c. */
struct waiter {
    struct party *party;
    uint64_t need;
    struct il_list line;     /* a ring, without a list that it belongs to: the line, oldest first */
    struct il_list head;     /* waitq.heads */
    uint64_t since_ns;       /* when it began to wait */
    uint64_t favour_from_ns; /* may be favoured from then on */
    uint64_t favour_until_ns; /* has the favour until then */
    bool is_woken;            /* and has not asked since */
    bool must_look;           /* shall be woken whatever is there */
    bool gives_way;           /* there is enough, but somebody else is favoured; has a timer */
};

void waitq_init(struct waitq *queue, uint64_t amount);

/* Nobody may be waiting. */
void waitq_deinit(struct waitq *queue);

/* ---- for those that can wait ---- */

/* Wait until it is the caller's turn and `need` (at least 1) is there. With IL_OK it is the caller
 * who takes: reduce `amount` before waitq_unlock. A deadline that has passed makes it a try. A task
 * that is cancelled gets IL_ECANCELED even if it need not wait: else a busy loop of takes could not
 * be ended. Other codes as rt_wait. The mutex is let go of meanwhile, and held again on return,
 * whatever the code. `what` as for rt_wait. */
IL_MUST_USE enum il_code waitq_wait_locked(struct waitq *queue, struct sys_mutex *mutex,
                                           struct rt_place *place, uint64_t need,
                                           uint64_t deadline_ns, const char *what)
    IL_LOCKED(*mutex);

/* Before rt_enter, in every function that may wait: lets the other tasks of this loop run, if the
 * caller would otherwise go on and on because it always finds something. */
void waitq_take_turns(struct waitq *queue);

/* May somebody take `need` who does not wait? Never keeps anybody waiting who is favoured. */
IL_MUST_USE bool waitq_try_locked(struct waitq *queue, uint64_t need);

/* Unlock, and wake whom the changes since the lock concern: the last step of every change. `other`
 * is a second queue under the same mutex, or NULL. The queues must outlive the call. */
void waitq_unlock(struct waitq *queue, struct waitq *other, struct sys_mutex *mutex)
    IL_RELEASES(*mutex);

/* ---- for those that are woken by a job of their own ---- */

/* `party` is borrowed: it stays until the waiter has left. */
void waiter_init(struct waiter *waiter, struct party *party, uint64_t need);

/* May `waiter` take what it needs now? Then it has left the queue, and the caller takes. Else it is
 * in the queue: when its party is woken, or at `ret_again_ns`, ask again. */
IL_MUST_USE bool waitq_ask_locked(struct waitq *queue, struct waiter *waiter,
                                  uint64_t *ret_again_ns);

/* Leave the queue without taking; nothing if it is not in it. Its wake, if it had one, goes to the
 * next with waitq_unlock. */
void waitq_leave_locked(struct waitq *queue, struct waiter *waiter);

/* Tests: assert what holds whenever the mutex is free. */
void waitq_validate_locked(struct waitq *queue);

#endif
