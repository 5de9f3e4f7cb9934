/* handover.pml: a loop that a worker drives, spares that take it over while user code runs, tasks and
 * callbacks that are stuck and come back, threads that post from outside, and the end of the runtime.
 *
 * From src/rt: runtime.c (worker_main, runtime_run_to_the_end, runtime_try_end_loop), handover.c
 * (errand_run, stand_in_drive), party.c (rt_enter and rt_leave of a callback, rt_run_callback),
 * shutdown.c (stop_loop, stop_on_loop), and what task.pml has.
 *
 * Four scenes, so that each is small enough to be gone through whole.
 *   BLOCKING: two tasks, each of which runs user code once. The first returns at once, or only when
 *     the second has run, or only when the loop has ended; all three are tried. The second is posted
 *     while the first runs, or later, or too late.
 *   TWICE: one task that runs user code, comes into the library, and runs user code once more, pinned or
 *     not.
 *   WAITING: one task that runs user code, and waits to be woken by a thread outside.
 *   CALLING: a callback that returns into the library, calls it, and runs user code again; and a task.
 *     The callback returns at once, or when the task has run.
 * In each of them another thread ends the runtime: at any moment, or when all tasks have finished and
 * the worker has its loop again. The second waits for that, so it is shown that it comes about.
 *
 * A spare may take over at any moment of any user code: when the time for it has come is the monitor's
 * to say and not modelled. So what is shown holds for every threshold.
 *
 * That everything comes to its end stands in no formula: a state in which nobody can act although
 * not all are through is what spin calls an invalid end state. */
#if !defined(BLOCKING) && !defined(WAITING) && !defined(TWICE) && !defined(CALLING)
#error "which scene?"
#endif
#define THREAD_COUNT 5 /* 1 the worker; 2, 3 spares; 4, 5 outside */
#ifdef BLOCKING
#define TASK_COUNT 2
#else
#define TASK_COUNT 1
#endif
#ifndef SPARE_COUNT
#define SPARE_COUNT 1
#endif

#define JOB_CALLBACK (TASK_COUNT + 1) /* tasks' jobs have the tasks' numbers */
#define JOB_STOP     (TASK_COUNT + 2)
#define JOB_COUNT    (TASK_COUNT + 2)

#define BLOCKS_NOT     0
#define BLOCKS_ON_TASK 1
#define BLOCKS_TO_END  2

#ifdef CALLING
#define CALLED_COUNT 2
#else
#define CALLED_COUNT 0
#endif
#ifdef WAITING
#define WAITS(task) true
#else
#define WAITS(task) false
#endif
#ifdef TWICE
#define RUNS_TWICE(task) true
#else
#define RUNS_TWICE(task) false
#endif
#ifdef BLOCKING
#define USER_CODE_RETURNS(task)                                                                    \
    ((task) != 1 || blocks == BLOCKS_NOT ||                                                        \
     (blocks == BLOCKS_ON_TASK && (run_count[2] > 0 || is_refused)) ||                             \
     (blocks == BLOCKS_TO_END && HOLD_STATE(hold) == LOOP_ENDED))
#else
#define USER_CODE_RETURNS(task) true
#endif

#define UNTIL_ENDED   0
#define UNTIL_OFFERED 1 /* hold_is_done_or_offered */
#define IS_DONE(until)                                                                             \
    (HOLD_STATE(hold) == LOOP_ENDED ||                                                             \
     (until == UNTIL_OFFERED && offered_word != 0 && offered_word != missed))
#define JOB_RUN(job, ret)         job_run(job, ret)
#define MAY_TAKE_OVER_WHEN_PINNED is_stopping

#include "task.pml"

byte blocks;
bool ends_at_rest;
bool is_refused;  /* task 2 came too late */
byte ended_count; /* loop_end was called so many times */
byte called_count; /* pieces of user code of the callback that have come to their end */
bool stop_has_run;
byte offered_stay; /* the stay that offered_word is of */

/* ---- party.c: a callback ---- */

inline rt_run_callback(ret)
{
    atomic { TOUCH; user_task = NIL; loop_enter_user() }
    d_step { blocks != BLOCKS_ON_TASK || run_count[1] > 0 -> called_count++ }
    /* rt_enter */
    loop_leave_user(ret);
    if
    :: ret
    :: else ->
        loop_claim(stands_in, ret); /* callback_come_back */
#ifndef BAD_USER_TASK /* the task that ran meanwhile is taken for the one that is stuck */
        if
        :: ret -> atomic { TOUCH; user_task = NIL }
        :: else
        fi
#endif
    fi;
    if
    :: ret -> atomic { TOUCH; loop_enter_user(); ret = false } /* rt_leave */
    :: else                                                   /* IL_ESHUTDOWN */
    fi;
    called_count++;
    loop_leave_user(ret)
}

/* ---- shutdown.c ---- */

inline stop_on_loop()
{
    atomic { TOUCH; stop_requested = true }
    for (other : 1 .. TASK_COUNT) {
        if
        :: d_step { at[other] != AT_END -> TOUCH } -> party_wake(other)
        :: else
        fi
    }
    atomic { TOUCH; other = 0; must_return = true; stop_has_run = true }
}

inline stop_loop()
{
    is_stopping = true;
    loop_post(JOB_STOP, is_posted);
    atomic { assert(is_posted); is_posted = false }
}

/* ---- runtime.c ---- */

inline task_on_finished(task)
{
    task_count--
}

inline job_run(job, ret)
{
    if
    :: job == JOB_STOP -> stop_on_loop(); ret = true
#ifdef CALLING
    :: job == JOB_CALLBACK -> rt_run_callback(ret)
#endif
    :: job <= TASK_COUNT -> task_on_ready(job, ret)
    fi
}

/* The holder alone counts tasks away, and who counts a task more posts it afterwards: so the counts may
 * be looked at together. */
#define LOOP_IS_LEFT (stop_requested && task_count == away_count)
#define RUNTIME_HAS_WAITED ((away_count == 0 && absent_count <= 0) || deadline_has_passed)

/* `ret`: is it ended? */
inline runtime_try_end_loop(ret)
{
    atomic { TOUCH; ret = LOOP_IS_LEFT && RUNTIME_HAS_WAITED }
    if
    :: ret -> loop_try_seal(ret)
    :: else
    fi;
    if
    :: ret -> loop_end(); ended_count++
    :: else
    fi
}

/* With runtime_turn_deadline_ns. */
inline runtime_turn(ret)
{
    deadline = (LOOP_IS_LEFT -> (RUNTIME_HAS_WAITED -> NOW : LATER) : NEVER);
    loop_turn(deadline, ret);
    deadline = NEVER
}

/* `ret`: did we come to the end? Else LOOP_LOST. */
inline runtime_run_to_the_end(ret)
{
    do
    :: true ->
        runtime_try_end_loop(ret);
        if
        :: ret -> break
        :: else
        fi;
        runtime_turn(ret);
        if
        :: ret
        :: else -> break
        fi;
#ifdef CALLING
        if
        :: claim_count > 0 ->
            loop_lend(ret);
            if
            :: ret
            :: else -> break
            fi
        :: else
        fi
#endif
    od
}

/* ---- handover.c ---- */

inline stand_in_drive()
{
    do
    :: true ->
        loop_wants_stand_in(result);
        if
        :: result
        :: else -> loop_release(); break
        fi;
        runtime_try_end_loop(result);
        if
        :: result -> break
        :: else
        fi;
        runtime_turn(result);
        if
        :: result
        :: else -> break
        fi
    od;
    result = false
}

/* An errand: the word that the monitor has seen, and whether the loop is pinned. */
inline errand_begin(ret)
{
#ifdef BAD_PIN /* look for pins first, and at the word afterwards */
    ret = (pin_count == 0 || is_stopping);
    d_step {
        word = hold;
        stay = stay_count;
        ret = ret && HOLD_STATE(word) == LOOP_HELD_IN_USER && word != HOLD_WORD(word, me, LOOP_HELD_IN_USER)
    }
#else
    d_step {
        word = hold;
        stay = stay_count;
        ret = (HOLD_STATE(word) == LOOP_HELD_IN_USER)
    }
    if
    :: ret -> ret = (pin_count == 0 || is_stopping) /* handover_rescue asks for no pins */
    :: else
    fi
#endif
}

/* What is stuck is noted: it lies in the loop, so who has taken that may look. */
inline errand_note_taken()
{
    if
    :: user_task != NIL -> task_note_away(user_task)
    :: else
    fi
}

/* Somebody waits for the loop: the first offer is theirs. */
inline seat_offer(ret)
{
    ret = (hold_waiter_count > 0 && offered_word != word);
    if
    :: ret ->
        d_step { offered_word = word; offered_stay = stay }
        loop_hold_recheck()
    :: else
    fi
}

inline errand_run()
{
    errand_begin(result);
    if
    :: result -> seat_offer(result); result = !result
    :: else
    fi;
    if
    :: result -> loop_try_take_over(true, result)
    :: else -> d_step { word = 0; stay = 0 }
    fi;
    if
    :: result -> errand_note_taken(); stand_in_drive()
    :: else
    fi
}

/* `ret`: do we hold it? Else it has ended. */
inline handover_hold_unless(ret)
{
    do
    :: true ->
        loop_hold_unless(UNTIL_OFFERED, ret);
        if
        :: ret -> break
        :: else
        fi;
        if
        :: HOLD_STATE(hold) == LOOP_ENDED -> break
        :: else
        fi;
        /* hold_try_offered */
        d_step { missed = offered_word; word = offered_word; stay = offered_stay }
        if
        :: hold == word -> loop_try_take_over(false, ret)
        :: else -> d_step { word = 0; stay = 0 }
        fi;
        if
        :: ret -> errand_note_taken(); break
        :: else
        fi
    od;
    missed = 0
}

/* ---- the threads ---- */

proctype worker(byte me)
{
    TASK_LOCALS;

    do
    :: true ->
        handover_hold_unless(result);
        if
        :: result
        :: else -> break
        fi;
        runtime_run_to_the_end(result);
        if
        :: result -> break
        :: else
        fi;
        loop_own_is_back()
    od;
    result = false;
    done_count++
}

proctype spare(byte me)
{
    TASK_LOCALS;

    stands_in = true;
    do
    :: HOLD_STATE(hold) == LOOP_HELD_IN_USER -> errand_run()
    :: HOLD_STATE(hold) == LOOP_ENDED -> break
    od;
    done_count++
}

#ifdef WAITING
#define THREADS_STARTED (3 + SPARE_COUNT)
proctype wakes_the_task(byte me)
{
    TASK_LOCALS;

    wanted = true;
    party_wake(1);
    done_count++
}
#else
#define THREADS_STARTED (2 + SPARE_COUNT)
#endif

#ifdef BLOCKING
/* il_spawn: count it, then post it. */
inline spawn(task)
{
    task_count++;
    loop_post(task, is_posted);
    if
    :: is_posted -> is_posted = false
    :: else -> d_step { is_refused = true; at[task] = AT_END; task_count-- }
    fi
}
#endif

/* Nobody runs anything, and the worker sleeps in its loop. */
#define IS_AT_REST                                                                                 \
    (task_count == 0 && hold == HOLD_WORD(hold, 1, LOOP_HELD_IN_LIB) && wake != LOOP_AWAKE &&      \
     absent_count == 0 && !is_stood_in && claim_count == 0 && called_count == CALLED_COUNT)

proctype ends_the_runtime(byte me)
{
    TASK_LOCALS;

#ifdef BLOCKING
    spawn(2);
#endif
#ifdef CALLING
    loop_post(JOB_CALLBACK, is_posted);
    atomic { assert(is_posted); is_posted = false }
#endif
    if
    :: ends_at_rest -> (IS_AT_REST)
    :: else
    fi;
    stop_loop();
    deadline_has_passed = true; /* the grace, whenever that may be */
    done_count++
}

init
{
    atomic {
        if
        :: ends_at_rest = true
        :: ends_at_rest = false
#ifdef BLOCKING
        :: blocks = BLOCKS_TO_END
#endif
        fi;
#if defined(BLOCKING) || defined(CALLING)
        if
        :: blocks == BLOCKS_NOT -> blocks = BLOCKS_ON_TASK
        :: true
        fi;
#endif
#ifdef TWICE
        if
        :: pins = true
        :: true
        fi;
#endif
        mail = 1; /* task 1 has been spawned */
        queued[1] = 1;
        task_count = 1;
        run worker(1);
#if SPARE_COUNT > 0
        run spare(2);
#endif
#if SPARE_COUNT > 1
        run spare(3);
#endif
#ifdef WAITING
        run wakes_the_task(4);
#endif
        run ends_the_runtime(5)
    }
    (done_count == THREADS_STARTED);
    assert(run_count[1] == (RUNS_TWICE(1) -> 2 : 1) || is_orphan[1]);
#ifdef BLOCKING
    assert(run_count[2] == (is_refused -> 0 : 1) && at[2] == AT_END);
#endif
#ifndef CALLING
    assert(absent_count == 0);
#endif
    assert(called_count == CALLED_COUNT);
    assert(HOLD_STATE(hold) == LOOP_ENDED && mail == LOOP_MAIL_SEALED && ended_count == 1);
    assert(at[1] == AT_END && task_count == 0 && away_count == 0 && len(ready) == 0);
    assert(hold_waiter_count == 0 && claim_count == 0 && pin_count == 0 && stop_has_run)
}
