/* party.pml: the token of a party, src/rt/party.c: party_wait, party_wake, party_on_overdue.
 *
 * One task waits for something that another thread brings, with a deadline or without; two threads
 * wake it, one of them for nothing. The loop is a queue here, and its holder one thread: loop.pml
 * shows that it is as good as that.
 *
 * Shown: the task's job is in the queue at most once; what was brought is noticed, however late the
 * waker is; a wait that is overdue ends; the timer is not armed when nobody waits. */
#define PARTY_EMPTY    0
#define PARTY_PARKED   1
#define PARTY_NOTIFIED 2

byte state = PARTY_EMPTY;
byte queued; /* party->job, in the loop's queue or in its mailbox */
bool is_overdue, timer_is_armed, has_deadline;
bool is_here;  /* what it waits for */
bool is_done;
byte wakers_left = 2;

inline post_job()
{
    d_step { queued++; assert(queued == 1) }
}

inline party_wake()
{
#ifdef BAD_TOKEN /* a token is for those who are parked only */
    d_step {
        was_parked = (state == PARTY_PARKED);
        state = (was_parked -> PARTY_NOTIFIED : state)
    }
#else
#ifdef BAD_EXCHANGE /* not an exchange, but a look and a store */
    was_parked = (state == PARTY_PARKED);
    state = PARTY_NOTIFIED;
#else
    d_step { was_parked = (state == PARTY_PARKED); state = PARTY_NOTIFIED }
#endif
#endif
    if
    :: was_parked -> post_job()
    :: else
    fi
}

/* The loop's holder runs jobs and fires timers, while the task is parked. */
inline task_switch_out()
{
    do
    :: queued > 0 -> queued--; break
    :: timer_is_armed ->
        timer_is_armed = false;
        /* party_on_overdue */
#ifdef BAD_OVERDUE /* not a compare-and-swap, but a look and a store */
        was_parked = (state == PARTY_PARKED);
        if
        :: was_parked -> state = PARTY_EMPTY
        :: else
        fi;
#else
        d_step { was_parked = (state == PARTY_PARKED); state = (was_parked -> PARTY_EMPTY : state) }
#endif
        if
        :: was_parked -> is_overdue = true; post_job()
        :: else
        fi
    od
}

/* `late`: the wait was overdue. */
inline party_wait(late)
{
#ifdef BAD_PARK /* not a compare-and-swap, but a look and a store */
    was_empty = (state == PARTY_EMPTY);
    if
    :: was_empty -> state = PARTY_PARKED
    :: else
    fi;
#else
    d_step { was_empty = (state == PARTY_EMPTY); state = (was_empty -> PARTY_PARKED : state) }
#endif
    if
    :: !was_empty -> state = PARTY_EMPTY; late = false
    :: else ->
        d_step { is_overdue = false; timer_is_armed = has_deadline }
        task_switch_out();
        timer_is_armed = false;
        late = is_overdue;
        if
        :: !late -> state = PARTY_EMPTY
        :: else
        fi
    fi
}

proctype task()
{
    bool was_empty, was_parked, late;

    do
    :: is_here -> break
    :: else ->
        party_wait(late);
        if
        :: late -> has_deadline = false /* and waits on without one */
        :: else
        fi
    od;
    is_done = true
}

proctype brings_it()
{
    bool was_parked;

    is_here = true;
    party_wake();
    wakers_left--
}

proctype wakes_for_nothing()
{
    bool was_parked;

    party_wake();
    wakers_left--
}

init
{
    atomic {
        if
        :: has_deadline = true
        :: true
        fi;
        run task();
        run brings_it();
        run wakes_for_nothing()
    }
    (is_done && wakers_left == 0);
    assert(queued == 0 && !timer_is_armed && state != PARTY_PARKED)
}
