/* task.pml: tasks as src/rt/task.c and src/rt/party.c have them: passing the gate, waiting, waking.
 *
 * A task runs a piece of user code. Then it waits until it is `wanted`, if it is one that WAITS, or
 * runs another piece, if it is one that RUNS_TWICE. `at` says where its fiber stands, for whichever
 * thread runs it next. User code is a step that can be taken when USER_CODE_RETURNS, so it lasts as
 * long as you like.
 *
 * The includer defines THREAD_COUNT, TASK_COUNT, JOB_COUNT, WAITS(task), RUNS_TWICE(task),
 * USER_CODE_RETURNS(task), task_on_finished(task), and `pins`: whether the second piece is pinned. */

/* enum party_state */
#define PARTY_EMPTY    0
#define PARTY_PARKED   1
#define PARTY_NOTIFIED 2

#define AT_USER_1 0 /* about to leave the library for the first time */
#define AT_LIB_1  1 /* back from there */
#define AT_WAIT   2 /* parked in party_wait */
#define AT_USER_2 3
#define AT_LIB_2  4
#define AT_END    5 /* has finished, or was never started */

/* away_since: since when, for us, is always the same */
#define TASK_IS_HERE 0
#define TASK_IS_AWAY 1
#define TASK_IS_BACK 2

/* enum task_out */
#define TASK_OUT_NONE     0
#define TASK_OUT_PARKED   1
#define TASK_OUT_FINISHED 2
#define TASK_OUT_LOST     3

#include "loop.pml"

byte at[TASK_COUNT + 1];
byte party[TASK_COUNT + 1]; /* task->party.state */
byte away_since[TASK_COUNT + 1];
bool is_away[TASK_COUNT + 1], is_orphan[TASK_COUNT + 1];
byte user_task; /* loop->held.user_task */
byte task_count, away_count; /* rt_loop's */
bool is_stopping;            /* likewise */
bool wanted;                 /* what the task that WAITS waits for */
bool pins;                   /* does it pin its loop after that? */

/* What the checks go by. */
byte run_count[TASK_COUNT + 1]; /* pieces of user code that have come to their end */
byte done_count;                /* threads that have come to theirs */
byte runs_on[TASK_COUNT + 1];   /* the thread that runs it, or ran it last */

/* Nobody else can run the task meanwhile. */
#define OURS(task) assert(runs_on[task] == me && queued[task] == 0)

/* ---- party.c ---- */

inline party_wake(task)
{
    d_step { is_parked = (party[task] == PARTY_PARKED); party[task] = PARTY_NOTIFIED }
    if
    :: is_parked ->
        is_parked = false;
        if
        :: hold == HOLD_WORD(hold, me, LOOP_HELD_IN_LIB) -> loop_push(task)
        :: else -> loop_post(task, is_posted); atomic { assert(is_posted); is_posted = false }
        fi
    :: else
    fi
}

/* party_wait: park, or take the token. `out`: why the task leaves this thread, if it does. */
inline party_wait(task, out)
{
#ifdef BAD_PARK /* not a compare-and-swap, but a look and a store */
    is_parked = (party[task] == PARTY_EMPTY);
#endif
    atomic {
        TOUCH;
#ifndef BAD_PARK
        is_parked = (party[task] == PARTY_EMPTY);
#endif
        if
        :: is_parked -> party[task] = PARTY_PARKED; at[task] = AT_WAIT; out = TASK_OUT_PARKED
        :: else -> party[task] = PARTY_EMPTY
        fi;
        is_parked = false
    }
}

/* ---- task.c ---- */

/* Between the library and the end of user code nobody but this thread looks at the task. */
inline task_leave_library(task)
{
    atomic {
        if
        :: is_orphan[task]
        :: else -> loop_enter_user()
        fi
    }
}

inline user_code(task)
{
    d_step {
        USER_CODE_RETURNS(task) ->
        assert(run_count[task] == (at[task] == AT_USER_1 -> 0 : 1));
        run_count[task]++
    }
}

inline task_enter_library(task, out)
{
    if
    :: is_orphan[task] -> at[task] = at[task] + 1
    :: else ->
        loop_leave_user(is_held);
        d_step {
            out = (is_held -> TASK_OUT_NONE : TASK_OUT_LOST);
            is_held = false;
            at[task] = at[task] + 1 /* comes back there on the thread that holds the loop then */
        }
    fi
}

/* `out`: why the task has left this thread. */
inline task_run_here(task, out)
{
    d_step {
        out = TASK_OUT_NONE;
        if
        :: at[task] == AT_WAIT -> TOUCH; party[task] = PARTY_EMPTY; at[task] = AT_LIB_1
        :: else
        fi
    }
    do
    :: out != TASK_OUT_NONE -> break
    :: out == TASK_OUT_NONE && (at[task] == AT_USER_1 || at[task] == AT_USER_2) ->
        task_leave_library(task);
        user_code(task);
        task_enter_library(task, out)
    :: out == TASK_OUT_NONE && at[task] == AT_LIB_1 && WAITS(task) && !is_orphan[task] ->
        /* rt_wait, until it is there or the wait says no */
        is_parked = wanted;
        if
        :: !is_parked -> is_parked = is_stopping
        :: else
        fi;
        if
        :: is_parked -> d_step { TOUCH; is_parked = false; at[task] = AT_END; out = TASK_OUT_FINISHED }
        :: else -> party_wait(task, out)
        fi
    :: d_step {
        out == TASK_OUT_NONE && at[task] == AT_LIB_1 && (!WAITS(task) || is_orphan[task]) ->
        if
        :: RUNS_TWICE(task) -> pin_count = pin_count + pins; at[task] = AT_USER_2 /* il_task_pin */
        :: else -> at[task] = AT_END; out = TASK_OUT_FINISHED
        fi
    }
    :: d_step {
        out == TASK_OUT_NONE && at[task] == AT_LIB_2 ->
        pin_count = pin_count - pins;
        at[task] = AT_END;
        out = TASK_OUT_FINISHED
    }
    od
}

/* It came into the library and found that its loop has another holder. */
inline task_requeue(task)
{
#ifndef BAD_REQUEUE
    d_step { OURS(task); away_since[task] = TASK_IS_BACK }
#endif
    loop_post(task, is_posted);
#ifdef BAD_REQUEUE /* queue it, and say afterwards that it is back */
    d_step { OURS(task); away_since[task] = TASK_IS_BACK }
#endif
    if
    :: is_posted -> is_posted = false
    :: else ->
        loop_hold_unless(UNTIL_ENDED, is_held);
        assert(!is_held);
        is_orphan[task] = true;
        task_run_here(task, out);
        atomic { assert(is_away[task]); away_count--; task_on_finished(task) }
    fi
}

/* On the loop that was taken. */
inline task_note_away(task)
{
    d_step {
        TOUCH;
        if
        :: away_since[task] == TASK_IS_HERE ->
            away_since[task] = TASK_IS_AWAY;
            is_away[task] = true;
            away_count++
        :: else
        fi
    }
}

/* `ret`: do we still hold the loop? */
inline task_on_ready(task, ret)
{
    d_step {
        TOUCH;
        if
        :: away_since[task] != TASK_IS_HERE -> /* task_note_here */
            away_since[task] = TASK_IS_HERE;
            away_count = away_count - is_away[task];
            is_away[task] = false
        :: else
        fi;
        user_task = task;
        runs_on[task] = me
    }
    task_run_here(task, out);
    if
    :: out == TASK_OUT_PARKED -> atomic { TOUCH; ret = true }
    :: out == TASK_OUT_FINISHED ->
        atomic { TOUCH; must_return = true; ret = true; task_on_finished(task) }
    :: out == TASK_OUT_LOST -> task_requeue(task); ret = false
    fi;
    out = TASK_OUT_NONE
}

#define TASK_LOCALS                                                                                \
    THREAD_LOCALS;                                                                                 \
    byte out, other;                                                                               \
    bool is_parked, stands_in;                                                                      \
    byte deadline
