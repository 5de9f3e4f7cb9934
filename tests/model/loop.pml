/* loop.pml: src/loop/loop.c, function by function: who holds a loop, its mailbox, its wake-up.
 *
 * One loop. An atomic operation of the C code is a step here. What the C code does between two of them
 * to memory that only the holder touches is a step, too, in which it asserts that it is the holder
 * (TOUCH). A process is a thread; `me` is its number, THREAD_COUNT the highest.
 *
 * spin knows one order of all steps for everybody. So it shows what interleaving can do, and nothing of
 * what a processor may reorder.
 *
 * BAD_...: the same with a mistake in it, which spin must find; model_test.py has the list. */

/* enum loop_hold_state. The word, from the top: how many stays in user code, the thread, the state. */
#define LOOP_FREE         0
#define LOOP_HELD_IN_LIB  1
#define LOOP_HELD_IN_USER 2
#define LOOP_ENDED        3
#ifdef BAD_STAY /* stays are not counted */
#define HOLD_STAY_ONE 0
#else
#define HOLD_STAY_ONE 32
#endif
#define HOLD_WORD(word, thread, state) (((word) & 4064) | ((thread) << 2) | (state))
#define HOLD_STATE(word)               ((word) & 3)

/* enum loop_wake */
#define LOOP_AWAKE    0
#define LOOP_ASLEEP   1
#define LOOP_NOTIFIED 2

#define NIL              0
#define LOOP_MAIL_SEALED 15

/* loop->shared */
short hold = LOOP_FREE;
byte mail = NIL; /* the number of the newest job */
byte wake = LOOP_ASLEEP;
byte hold_waiter_count;
bool is_stood_in;
short absent_count;
byte claim_count;
byte pin_count;
short offered_word;

/* loop->held */
chan ready = [JOB_COUNT] of { byte };
bool must_return;
bool stop_requested; /* in shared, but written and read by the holder alone */
byte batch; /* who began to run what is ready; loop->held.batch counts these beginnings */

/* loop->locked */
byte mutex = NIL;               /* the thread that has it */
bool is_waiting[THREAD_COUNT + 1]; /* for hold_freed */

byte after[JOB_COUNT + 1]; /* job->next */
bool is_written;           /* the eventfd, edge-triggered: since it was reported last */

/* What the checks go by; the C code has no such things. */
byte queued[JOB_COUNT + 1]; /* in how many queues a job is */
byte stay_count;            /* stays in user code */
bool deadline_has_passed;

#define TOUCH assert(hold == HOLD_WORD(hold, me, LOOP_HELD_IN_LIB))

/* The locals of a thread. */
#define THREAD_LOCALS                                                                              \
    short word, missed;                                                                                    \
    byte top, each, oldest, left, job, stay;                                                       \
    bool is_notifier, is_due, is_held, result, is_posted, has_waiters

/* ---- a mutex and a condition ---- */

inline sys_mutex_lock()
{
    atomic { mutex == NIL -> mutex = me }
}

inline sys_mutex_unlock()
{
    mutex = NIL
}

inline sys_cond_wait()
{
    atomic { mutex = NIL; is_waiting[me] = true }
    atomic { !is_waiting[me] && mutex == NIL -> mutex = me }
}

/* Lock, broadcast, unlock. */
inline sys_cond_broadcast()
{
    sys_mutex_lock();
    atomic {
        for (each : 1 .. THREAD_COUNT) { is_waiting[each] = false }
        each = 0;
        mutex = NIL
    }
}

/* ---- wake-ups ---- */

inline loop_wake()
{
    if
    :: wake == LOOP_ASLEEP ->
#ifdef BAD_WAKE /* write the eventfd, and say so afterwards */
        is_written = true;
        d_step {
            if
            :: wake == LOOP_ASLEEP -> wake = LOOP_NOTIFIED
            :: else
            fi
        }
#else
        d_step {
            is_notifier = (wake == LOOP_ASLEEP);
            wake = (is_notifier -> LOOP_NOTIFIED : wake)
        }
        if
        :: is_notifier -> d_step { is_written = true; is_notifier = false }
        :: else
        fi
#endif
    :: else
    fi
}

/* `ret`: is there still a reason for a stand-in? The loop has a worker. */
inline loop_wants_stand_in(ret)
{
    ret = (pin_count > 0);
    if
    :: ret
    :: else ->
        ret = (absent_count > 0);
        if
        :: ret -> ret = (hold_waiter_count == 0)
        :: else
        fi;
        if
        :: ret -> ret = (claim_count == 0)
        :: else
        fi
    fi
}

inline loop_is_wanted(ret)
{
    ret = (claim_count > 0);
    if
    :: ret
    :: else ->
        ret = is_stood_in;
        if
        :: ret -> loop_wants_stand_in(ret); ret = !ret
        :: else
        fi
    fi
}

inline loop_mail_check_on_sleep()
{
#ifdef BAD_SLEEP /* look into the mailbox, and say that we sleep afterwards */
    is_due = (mail != NIL);
    wake = LOOP_ASLEEP;
#else
    wake = LOOP_ASLEEP;
    is_due = (mail != NIL);
#ifndef BAD_STAND_IN_SLEEP /* who wants the stand-in to leave is not looked for */
    if
    :: !is_due -> loop_is_wanted(is_due)
    :: else
    fi;
#endif
#endif
    if
    :: is_due -> is_due = false; loop_wake()
    :: else
    fi
}

/* ---- holding ---- */

inline loop_on_held()
{
    TOUCH;
    wake = LOOP_AWAKE
}

inline loop_try_hold(ret)
{
    word = hold;
    if
    :: HOLD_STATE(word) != LOOP_FREE -> ret = false
    :: else ->
        d_step {
            ret = (hold == word);
            hold = (ret -> HOLD_WORD(word, me, LOOP_HELD_IN_LIB) : hold)
        }
    fi;
    word = 0;
    if
    :: ret -> loop_on_held()
    :: else
    fi
}

inline loop_call_stand_in()
{
    if
    :: is_stood_in -> loop_wake()
    :: else ->
        if
        :: claim_count > 0 -> loop_wake()
        :: else
        fi
    fi
}

/* With a deadline: gives up whenever it likes. */
inline loop_hold_until(ret)
{
    loop_try_hold(ret);
    if
    :: ret
    :: else ->
        sys_mutex_lock();
        hold_waiter_count++;
        loop_call_stand_in();
        do
        :: true ->
            loop_try_hold(ret);
            if
            :: ret -> break
            :: else
            fi;
            if
            :: sys_cond_wait()
            :: loop_try_hold(ret); break /* the deadline has passed */
            fi
        od;
        hold_waiter_count--;
        sys_mutex_unlock()
    fi
}

/* IS_DONE(arg): is it? */
inline loop_hold_unless(arg, ret)
{
    sys_mutex_lock();
    hold_waiter_count++;
#ifndef BAD_BACK /* neither who waits for the loop nor who is back wakes the stand-in */
    loop_call_stand_in();
#endif
    do
    :: IS_DONE(arg) -> ret = false; break
    :: else ->
        loop_try_hold(ret);
        if
        :: ret -> break
        :: else -> sys_cond_wait()
        fi
    od;
    hold_waiter_count--;
    sys_mutex_unlock()
}

inline loop_hold_recheck()
{
    if
    :: hold_waiter_count > 0 ->
        sys_cond_broadcast()
    :: else
    fi
}

inline loop_release()
{
    atomic { TOUCH; is_stood_in = false }
    loop_mail_check_on_sleep();
    TOUCH;
#ifdef BAD_RELEASE /* ask for waiters, and let go afterwards */
    has_waiters = (hold_waiter_count > 0);
    hold = HOLD_WORD(hold, 0, LOOP_FREE);
    if
    :: has_waiters -> sys_cond_broadcast()
    :: else
    fi
#else
    hold = HOLD_WORD(hold, 0, LOOP_FREE);
    loop_hold_recheck()
#endif
}

/* ---- the gate ---- */

inline loop_enter_user()
{
    d_step {
        TOUCH;
        stay_count++;
        hold = hold + HOLD_STAY_ONE - LOOP_HELD_IN_LIB + LOOP_HELD_IN_USER
    }
}

/* `ret`: LOOP_HELD, not LOOP_LOST. Nobody but us brings our word back: so to look at it first, and to
 * exchange it if it is ours, is the same as to do both at once. */
inline loop_leave_user(ret)
{
#ifdef BAD_LEAVE_USER /* not a compare-and-swap, but a look and a store */
    ret = (hold == HOLD_WORD(hold, me, LOOP_HELD_IN_USER));
    if
    :: ret -> hold = hold - LOOP_HELD_IN_USER + LOOP_HELD_IN_LIB
    :: else
    fi
#else
    d_step {
        ret = (hold == HOLD_WORD(hold, me, LOOP_HELD_IN_USER));
        hold = (ret -> hold - LOOP_HELD_IN_USER + LOOP_HELD_IN_LIB : hold)
    }
#endif
}

/* Takes over in the stay that `word` was seen in, which `stay` counts: as a stand-in, or as the loop's
 * own thread. */
inline loop_try_take_over(as_stand_in, ret)
{
#ifdef BAD_TAKE_OVER /* not a compare-and-swap, but a look and a store */
    ret = (hold == word);
    if
    :: ret -> hold = HOLD_WORD(word, me, LOOP_HELD_IN_LIB)
    :: else
    fi;
#else
    d_step {
        ret = (hold == word);
        hold = (ret -> HOLD_WORD(word, me, LOOP_HELD_IN_LIB) : hold);
        assert(!ret || stay_count == stay); /* who was stuck then is stuck still */
        assert(!ret || pin_count == 0 || MAY_TAKE_OVER_WHEN_PINNED)
    }
#endif
    d_step { word = 0; stay = 0 }
    if
    :: ret ->
        if
        :: !is_stood_in -> absent_count++
        :: else
        fi;
        is_stood_in = as_stand_in;
        loop_on_held()
    :: else
    fi
}

inline loop_try_stand_in(ret)
{
    loop_try_hold(ret);
    if
    :: ret -> is_stood_in = true
    :: else
    fi
}

inline loop_own_is_back()
{
    absent_count--;
#ifndef BAD_BACK
    loop_call_stand_in()
#endif
}

/* A callback that lost the loop needs it. `stands_in`: on a spare. */
inline loop_claim(stands_in, ret)
{
    sys_mutex_lock();
    if
    :: !stands_in -> absent_count--
    :: else
    fi;
    claim_count++;
#ifndef BAD_CLAIM /* nobody is woken for it */
    loop_wake();
#endif
    hold_waiter_count++;
    do
    :: HOLD_STATE(hold) == LOOP_ENDED -> ret = false; break
    :: else ->
        loop_try_hold(ret);
        if
        :: ret -> break
        :: else -> sys_cond_wait()
        fi
    od;
    hold_waiter_count--;
    claim_count--;
    if
    :: ret -> is_stood_in = stands_in
    :: else ->
        if
        :: !stands_in -> absent_count++
        :: else
        fi
    fi;
    sys_mutex_unlock()
}

/* Let who claims it have it, and hold it again. `ret`: false if it has ended meanwhile. */
inline loop_lend(ret)
{
    loop_release();
    sys_mutex_lock();
    hold_waiter_count++;
    do
    :: HOLD_STATE(hold) == LOOP_ENDED -> ret = false; break
    :: else ->
#ifdef BAD_LEND /* the lender does not let claimers go first */
        ret = false;
#else
        ret = (claim_count > 0);
#endif
        if
        :: ret -> ret = false
        :: else -> loop_try_hold(ret)
        fi;
        if
        :: ret -> break
        :: else -> sys_cond_wait()
        fi
    od;
    hold_waiter_count--;
    sys_mutex_unlock()
}

/* ---- the mailbox ---- */

inline loop_post(job, ret)
{
    top = mail;
#ifdef BAD_POST /* wake the loop, and post afterwards */
    loop_wake();
#endif
    do
    :: top == LOOP_MAIL_SEALED -> ret = false; break
    :: else ->
        after[job] = top;
        d_step {
            ret = (mail == top);
            if
            :: ret -> mail = job; queued[job]++; assert(queued[job] == 1)
            :: else -> top = mail
            fi
        }
        if
        :: ret -> break
        :: else
        fi
    od;
    top = NIL;
#ifndef BAD_POST
    if
    :: ret -> loop_wake()
    :: else
    fi
#endif
}

/* As loop_post, by the holder. */
inline loop_push(job)
{
    d_step { TOUCH; ready!job; queued[job]++; assert(queued[job] == 1) }
}

/* With loop_mail_sort: the oldest first. There is some. */
inline loop_mail_take()
{
    d_step {
        TOUCH;
        assert(mail != LOOP_MAIL_SEALED);
        top = mail;
        mail = NIL;
        do
        :: top == NIL -> break
        :: else -> each = after[top]; after[top] = oldest; oldest = top; top = each
        od;
        do
        :: oldest == NIL -> break
        :: else -> ready!oldest; each = after[oldest]; after[oldest] = NIL; oldest = each
        od;
        each = 0
    }
}

/* ---- a turn ---- */

/* JOB_RUN(job, ret) is the includer's. */
inline loop_run_ready(ret)
{
    atomic { TOUCH; left = len(ready); batch = me; ret = true }
    do
    :: left == 0 -> break
    :: left > 0 ->
        d_step { TOUCH; assert(len(ready) >= left); ready?job; queued[job]--; left-- }
        JOB_RUN(job, ret);
        if
        :: ret ->
            /* A callback may have lost the loop and have it again; others ran what we had before us. */
#ifndef BAD_BATCH
            if
            :: batch != me -> left = 0
            :: else
            fi
#endif
#ifdef BAD_LOST /* what the gate says is not heeded */
        :: !ret -> ret = true
#else
        :: !ret -> left = 0; break
#endif
        fi
    od;
    job = NIL
}

/* `deadline`: when its sleep ends at the latest. */
#define NEVER 0
#define LATER 1 /* when the includer says that it has passed */
#define NOW   2

inline loop_poll(deadline)
{
    if
    :: d_step { len(ready) == 0 && !must_return && deadline != NOW -> TOUCH } ->
        loop_mail_check_on_sleep();
        /* il_loop_idle_waiting_for_events: for no others but the wake-up */
        d_step {
            is_written || (deadline == LATER && deadline_has_passed) -> TOUCH;
            is_written = false
        }
        wake = LOOP_AWAKE
    :: d_step { len(ready) > 0 || must_return || deadline == NOW -> TOUCH; is_written = false }
    fi
}

inline loop_turn(deadline, ret)
{
    atomic { TOUCH; must_return = false; is_due = (mail != NIL) }
    if
    :: is_due -> is_due = false; loop_mail_take()
    :: else
    fi;
    loop_run_ready(ret);
    if
    :: ret -> loop_poll(deadline)
    :: else
    fi
}

/* ---- the end ---- */

inline loop_try_seal(ret)
{
#ifdef BAD_SEAL /* not a compare-and-swap, but a look and a store */
    ret = (len(ready) == 0 && mail == NIL);
    if
    :: ret -> mail = LOOP_MAIL_SEALED
    :: else
    fi
#else
    d_step {
        TOUCH;
        ret = (len(ready) == 0 && mail == NIL);
        mail = (ret -> LOOP_MAIL_SEALED : mail)
    }
#endif
}

inline loop_end()
{
    d_step { TOUCH; assert(mail == LOOP_MAIL_SEALED && len(ready) == 0) }
    hold = HOLD_WORD(hold, 0, LOOP_ENDED);
#ifndef BAD_END /* who waits for the end is not told */
    loop_hold_recheck()
#endif
}
