/* pool.pml: the connections of one server, and the calls of several loops that wait for one, function by
 * function: src/client/pool.c, pool_queue.c, pool_place.c, pool_unread.c, and what a call does with them
 * (call.c, call_open.c). HTTP/1.1, default driver.
 *
 * A process is the thread that holds a loop, and does what the loop does at the top of its turns, in any
 * order: begin a call, run its wake, see that its connect or its exchange is over, well or badly. `me` is the
 * loop's number, and that of its shelf. A loop may stop for good at the top of any turn (STOPS).
 *
 * What is done under the pool's mutex is one step, but for acquiring: who puts a connection on a shelf holds
 * that shelf's mutex and no other, and meets there who is about to wait. Which waiter of a group is woken is
 * left open; C wakes the oldest.
 *
 * Scenes, each with a handful of switches: model_test.py. What must hold when nobody can do anything any
 * more stands in check_rest. BAD_...: the same with a mistake in it. */
#define NIL 0

#define LOOP_COUNT 2
#ifndef CALL_COUNT
#define CALL_COUNT 3
#endif
#define HOME(call) (((call) - 1) % LOOP_COUNT + 1)
#ifndef PLACES
#define PLACES 1 /* connections_per_host_max */
#endif
#ifndef STOPS
#define STOPS NIL /* the loop that may stop for good */
#endif
#ifndef CANCELS
#define CANCELS NIL /* the call that may be cancelled */
#endif
#ifdef SHARES /* a connection may turn out to be HTTP/2: the calls of one loop wait for the one it opens */
#define MAY_SHARE true
#else
#define MAY_SHARE false
#endif

byte pool_mutex = NIL;
byte shelf_mutex[LOOP_COUNT + 1];
byte idle_count[LOOP_COUNT + 1];
byte connection_count;
byte waiter_count;
bool is_h1;
bool is_stopped[LOOP_COUNT + 1], in_turn[LOOP_COUNT + 1];
#ifdef TAKES
byte hasty_count = TAKES; /* places that are taken from loops that have not stopped for good */
#endif

/* a call, and its waiter */
bool is_begun[CALL_COUNT + 1], is_done[CALL_COUNT + 1];
bool is_queued[CALL_COUNT + 1], is_woken[CALL_COUNT + 1], is_dialing[CALL_COUNT + 1];
bool has_lost_place[CALL_COUNT + 1];
bool has_place[CALL_COUNT + 1]; /* call->place != NULL */
bool is_opening[CALL_COUNT + 1], has_conn[CALL_COUNT + 1];
bool is_wake_posted[CALL_COUNT + 1], wake_job[CALL_COUNT + 1];

#if CALL_COUNT == 3
#define ANY(what) (what(1) || what(2) || what(3))
#define EACH(what)                                                                                 \
    :: what(1) -> one = 1                                                                          \
    :: what(2) -> one = 2                                                                          \
    :: what(3) -> one = 3
#else
#define ANY(what) (what(1) || what(2) || what(3) || what(4))
#define EACH(what)                                                                                 \
    :: what(1) -> one = 1                                                                          \
    :: what(2) -> one = 2                                                                          \
    :: what(3) -> one = 3                                                                          \
    :: what(4) -> one = 4
#endif

#define HAS_IDLE      (idle_count[1] > 0 || idle_count[2] > 0)
#define HAS_FREE      (connection_count < PLACES)
#define HAS_SOMETHING (HAS_IDLE || HAS_FREE)

/* ---- waking ---- */

#define IS_ASLEEP(call)       (is_queued[call] && !is_woken[call])
#define IS_ASLEEP_ON(call)    (HOME(call) == group && IS_ASLEEP(call))
#define IS_OFFERED_ON(call)   (HOME(call) == group && IS_ASLEEP(call) && !is_dialing[call])

inline waiter_wake_locked(call)
{
    is_woken[call] = true;
    if
    :: !is_wake_posted[call] -> is_wake_posted[call] = true; work[call] = true
    :: else
    fi
}

inline group_wake_locked(loop)
{
    group = loop;
    if
    EACH(IS_ASLEEP_ON)
    :: !ANY(IS_ASLEEP_ON) -> one = NIL
    fi;
    if
    :: one != NIL -> waiter_wake_locked(one)
    :: else
    fi;
    one = NIL;
    group = NIL
}

inline group_offer_place_locked(loop)
{
    group = loop;
    if
    EACH(IS_OFFERED_ON)
    :: !ANY(IS_OFFERED_ON) -> one = NIL
    fi;
    if
    :: one != NIL -> waiter_wake_locked(one)
    :: else
    fi;
    one = NIL;
    group = NIL
}

inline origin_wake_locked()
{
#ifdef BAD_ONE_GROUP /* the waiters of one loop are enough */
    if
    :: group_wake_locked(1)
    :: group_wake_locked(2)
    fi
#else
    group_wake_locked(1);
    group_wake_locked(2)
#endif
}

/* After the lock: work_do. */
inline work_do()
{
    for (at : 1 .. CALL_COUNT) {
        if
        :: work[at] -> atomic { work[at] = false; wake_job[at] = true }
        :: else
        fi
    }
    at = 0
}

inline waiter_dequeue_locked(call)
{
    assert(is_queued[call] && waiter_count > 0);
    waiter_count--;
    is_queued[call] = false;
    is_woken[call] = false;
    is_dialing[call] = false
}

inline waiter_pass_on_locked(call)
{
    if
    :: HAS_SOMETHING -> group_wake_locked(HOME(call))
    :: else
    fi
}

inline pool_leave(call)
{
    atomic {
        pool_mutex == NIL;
        if
        :: is_queued[call] ->
            if
#ifdef BAD_LEAVE /* who was woken and leaves keeps that to himself */
            :: false
#else
            :: is_woken[call] -> waiter_pass_on_locked(call)
#endif
            :: else
            fi;
            waiter_dequeue_locked(call)
        :: else
        fi
    }
    work_do()
}

/* ---- places ---- */

inline origin_count_locked(places)
{
    connection_count = connection_count + (places);
    assert(connection_count <= PLACES) /* it is no number below 0 either */
}

inline call_check_place_locked(call)
{
    if
    :: has_lost_place[call] ->
        has_lost_place[call] = false;
        has_place[call] = false;
        if
        :: HAS_FREE ->
            has_place[call] = true;
            is_dialing[call] = is_queued[call];
            origin_count_locked(1)
        :: else
        fi
    :: else
    fi
}

inline pool_forget_place(call)
{
    atomic {
        pool_mutex == NIL;
        if
#ifndef BAD_GIVE_BACK /* although it was taken away */
        :: has_lost_place[call]
#endif
        :: else ->
            is_dialing[call] = false;
            origin_count_locked(-1);
            origin_wake_locked()
        fi;
        has_lost_place[call] = false;
        has_place[call] = false
    }
    work_do()
}

#ifdef BAD_DEAF /* nor does it matter that he opens something still */
#define OPENS_NOTHING(call) (!is_dialing[call])
#else
#define OPENS_NOTHING(call) (!is_dialing[call] && !has_lost_place[call])
#endif
#define IS_HEIR(call) (HOME(call) == me && is_queued[call] && OPENS_NOTHING(call) && (call) != leaver)

/* pool_pass_dial, call_pass_opening_on */
inline call_pass_opening_on(call)
{
    atomic {
        pool_mutex == NIL;
        leaver = call;
        if
        :: has_lost_place[call] -> one = NIL
        :: !has_lost_place[call] && !ANY(IS_HEIR) -> one = NIL
        :: else ->
            if
            EACH(IS_HEIR)
            fi
        fi;
        leaver = NIL;
        if
        :: one != NIL ->
            assert(!has_place[one] && !is_opening[one]);
            is_dialing[call] = false;
            is_dialing[one] = true;
            has_place[one] = true;
            is_opening[one] = true;
            is_opening[call] = false;
#ifdef BAD_HEIR /* the place that was passed on is given back, too */
#else
            has_place[call] = false
#endif
        :: else
        fi;
        one = NIL
    }
}

inline call_stop_opening(call)
{
    if
    :: is_opening[call] && has_place[call] -> call_pass_opening_on(call)
    :: else
    fi;
    is_opening[call] = false;
    if
    :: has_place[call] -> pool_forget_place(call)
    :: else
    fi
}

/* Somebody of another loop dials, and his loop does not run. */
#ifdef TAKES
#define IS_STALLED(call)                                                                           \
    (is_queued[call] && is_dialing[call] && HOME(call) != me && !in_turn[HOME(call)] &&            \
     (is_stopped[HOME(call)] || hasty_count > 0))
#else
#define IS_STALLED(call) false
#endif

inline waiter_take_place_locked()
{
#ifdef TAKES
    if
    EACH(IS_STALLED)
    fi;
    hasty_count = hasty_count - (is_stopped[HOME(one)] -> 0 : 1);
    is_dialing[one] = false;
    origin_count_locked(-1);
    has_lost_place[one] = true;
    if
    :: !is_woken[one] -> waiter_wake_locked(one)
    :: else
    fi;
    one = NIL
#else
    skip
#endif
}

/* ---- acquiring ---- */

#define DIALS_HERE(call)  (HOME(call) == me && is_queued[call] && is_dialing[call])
#define OPENS_ONE_FOR_ALL (MAY_SHARE && !is_h1 && ANY(DIALS_HERE))

inline origin_queue_locked(call)
{
    was_queued = is_queued[call];
    takes = false;
    if
    :: !has_place[call] && !OPENS_ONE_FOR_ALL && HAS_FREE -> takes = true
    :: !has_place[call] && !OPENS_ONE_FOR_ALL && !HAS_FREE && ANY(IS_STALLED) ->
        waiter_take_place_locked();
        takes = true
    :: else
    fi;
    if
    :: !was_queued ->
        is_queued[call] = true;
        waiter_count++;
        is_dialing[call] = has_place[call]
    :: else -> /* waiter_sleep_on_locked */
#ifndef BAD_STILL_WOKEN /* who was woken for nothing is not woken again */
        is_woken[call] = false
#endif
    fi;
    if
    :: takes ->
        origin_count_locked(1);
        is_dialing[call] = true;
        has_place[call] = true
    :: else
    fi;
    if
    :: was_queued && is_dialing[call] && HAS_FREE && !OPENS_ONE_FOR_ALL ->
        group_offer_place_locked(me)
    :: else
    fi;
    was_queued = false
}

inline shelf_take(loop)
{
    atomic {
        shelf_mutex[loop] == NIL;
        if
        :: idle_count[loop] > 0 -> idle_count[loop]--; got = true
        :: else
        fi
    }
}

inline shelf_look(loop)
{
    if
    :: !got && idle_count[loop] > 0 -> shelf_take(loop)
    :: else
    fi
}

inline pool_acquire_slowly(call)
{
    atomic {
        pool_mutex == NIL -> pool_mutex = me;
        call_check_place_locked(call);
#ifndef BAD_LOOK_FIRST /* it is counted when it has looked */
        waiter_count++
#endif
    }
    shelf_look(me);
    shelf_look(LOOP_COUNT + 1 - me);
    atomic {
#ifdef BAD_LOOK_FIRST
        waiter_count++;
#endif
        if
        :: got && is_queued[call] ->
            waiter_pass_on_locked(call);
            waiter_dequeue_locked(call)
        :: got && !is_queued[call]
        :: !got -> origin_queue_locked(call)
        fi;
        waiter_count--;
        pool_mutex = NIL
    }
    work_do()
}

inline call_acquire(call)
{
    got = false;
    if
    :: !is_queued[call] -> shelf_take(me)
    :: else
    fi;
    if
    :: !got -> pool_acquire_slowly(call)
    :: else
    fi;
    if
    :: got -> has_conn[call] = true; call_stop_opening(call)
    :: !got && has_place[call] -> is_opening[call] = true /* it may have been before */
    :: !got && !has_place[call] -> is_opening[call] = false
    fi;
    got = false;
    takes = false
}

inline call_on_wake(call)
{
    wake_job[call] = false;
#ifndef BAD_MARK /* it is taken away when we have looked */
    is_wake_posted[call] = false;
#endif
    if
    :: !is_done[call] && is_queued[call] -> call_acquire(call)
    :: else
    fi;
#ifdef BAD_MARK
    is_wake_posted[call] = false
#endif
}

/* ---- giving back ---- */

inline pool_put()
{
#ifdef BAD_PUT /* it looks for waiters before it says that there is something */
    got = (waiter_count == 0);
#endif
    atomic {
        shelf_mutex[me] == NIL -> shelf_mutex[me] = me;
        idle_count[me]++
    }
    atomic {
#ifndef BAD_PUT
        got = (waiter_count == 0);
#endif
        idle_count[me] = idle_count[me] - (got -> 0 : 1);
        shelf_mutex[me] = NIL
    }
    if
    :: !got -> /* pool_put_slowly */
        atomic {
            pool_mutex == NIL && shelf_mutex[me] == NIL;
            idle_count[me]++;
            origin_wake_locked()
        }
        work_do()
    :: else
    fi;
    got = false
}

inline pool_forget()
{
    atomic {
        pool_mutex == NIL;
        origin_count_locked(-1);
#ifndef BAD_QUIET /* nobody is told that there is a place */
        origin_wake_locked()
#endif
    }
    work_do()
}

/* ---- a call ---- */

inline call_let_go(call)
{
    call_stop_opening(call);
    pool_leave(call);
    if
    :: has_conn[call] -> has_conn[call] = false; pool_forget()
    :: else
    fi;
    is_done[call] = true
}

inline call_on_opened(call)
{
    atomic { /* pool_may_open */
        pool_mutex == NIL;
#ifndef BAD_OPEN /* whose place it is does not matter */
        call_check_place_locked(call)
#endif
    }
    is_opening[call] = false;
    if
    :: has_place[call] ->
        atomic { /* pool_opened */
            pool_mutex == NIL;
            has_conn[call] = true;
            has_place[call] = false;
            if
            :: !is_h1 -> is_h1 = true; origin_wake_locked()
            :: else
            fi
        }
        work_do();
        pool_leave(call)
    :: else -> call_acquire(call)
    fi
}

#define CAN_LOOK(call)                                                                             \
    (is_queued[call] && !is_dialing[call] && !is_wake_posted[call] && !HAS_FREE && ANY(IS_STALLED))
#define CAN_ACT(call)                                                                              \
    (!is_begun[call] || wake_job[call] ||                                                          \
     !is_done[call] &&                                                                             \
         (is_opening[call] || has_conn[call] || (call) == CANCELS || CAN_LOOK(call)))

inline call_act(call)
{
    if
    :: !is_begun[call] -> is_begun[call] = true; call_acquire(call)
    :: wake_job[call] -> call_on_wake(call)
    :: is_opening[call] -> call_on_opened(call)
    :: is_opening[call] -> call_let_go(call) /* it failed */
    :: has_conn[call] && !is_done[call] -> has_conn[call] = false; pool_put(); is_done[call] = true
    :: has_conn[call] && !is_done[call] -> call_let_go(call) /* it broke */
    :: call == CANCELS && is_begun[call] && !is_done[call] -> call_let_go(call)
#ifdef TAKES
    :: CAN_LOOK(call) -> /* pool_look */
        atomic { pool_mutex == NIL; group_offer_place_locked(me) }
        work_do()
    :: else /* it is not so any more */
#endif
    fi
}

proctype loop(byte me)
{
    byte call, one, group, leaver, at;
    bool got, takes, was_queued;
    bool work[CALL_COUNT + 1];

end:
    do
    :: atomic { me == STOPS -> is_stopped[me] = true }
       break
    :: atomic { CAN_ACT(me) -> in_turn[me] = true; call = me }
       call_act(call);
       atomic { in_turn[me] = false; call = NIL }
    :: atomic { me + LOOP_COUNT <= CALL_COUNT && CAN_ACT(me + LOOP_COUNT) ->
           in_turn[me] = true;
           call = me + LOOP_COUNT
       }
       call_act(call);
       atomic { in_turn[me] = false; call = NIL }
    od
}

/* ---- what must hold when nobody can do anything any more ---- */

#define STOPS_WITH_PLACE(call) (is_stopped[HOME(call)] && has_place[call] && !has_lost_place[call])

inline check_rest()
{
    d_step {
        assert(pool_mutex == NIL && shelf_mutex[1] == NIL && shelf_mutex[2] == NIL);
        held = idle_count[1] + idle_count[2];
        left = 0;
        for (at : 1 .. CALL_COUNT) {
            held = held + (has_conn[at] -> 1 : 0) + (has_place[at] && !has_lost_place[at] -> 1 : 0);
            left = left + (is_queued[at] -> 1 : 0);
            if
            :: !is_stopped[HOME(at)] ->
                /* A call of a loop that runs has ended, or waits for one that does not run. */
                assert(!has_place[at] && !has_conn[at]);
                assert(is_done[at] || (is_queued[at] && !HAS_SOMETHING));
#ifdef TAKES
                assert(is_done[at] || !ANY(STOPS_WITH_PLACE))
#endif
            :: else
            fi
        }
        assert(connection_count == held); /* each place is somebody's, and is back, once */
        assert(waiter_count == left);
        at = 0;
        left = 0;
        held = 0
    }
}

init
{
    byte at, left, held;

    atomic {
        run loop(1);
        run loop(2)
    }
    timeout;
    check_rest()
}
