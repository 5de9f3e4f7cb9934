/* monitor.pml: the monitor sleeps while all loops rest, and a loop that goes to work wakes it:
 * src/rt/handover.c (monitor_main, il_monitor_sleeping_while_all_loops_rest, handover_on_awake).
 *
 * A loop rests, works, rests, and then gets stuck in user code for good. Shown: the monitor finds it.
 * It has a look whenever its pause is over; when that is, is not modelled: it may look at any time
 * unless it sleeps. */
#define LOOP_AWAKE  0
#define LOOP_ASLEEP 1

byte wake = LOOP_ASLEEP;
bool is_stuck;
bool monitor_is_asleep;
bool is_taken;
bool is_locked;  /* handover.mutex */
bool is_waiting; /* the monitor, for handover.changed */

inline lock()
{
    atomic { !is_locked -> is_locked = true }
}

/* LOOP_NOTIFIED is rest, too: it comes by here before anything is run. */
inline loop_awakes()
{
#ifdef BAD_AWAKE /* look at the monitor, and say that we are awake afterwards */
    sleeps = monitor_is_asleep;
    wake = LOOP_AWAKE;
#else
    wake = LOOP_AWAKE;
    sleeps = monitor_is_asleep;
#endif
    if
    :: sleeps ->
        lock();
        atomic { monitor_is_asleep = false; is_waiting = false; is_locked = false }
    :: else
    fi
}

proctype loop()
{
    bool sleeps;

    loop_awakes();
    wake = LOOP_ASLEEP;
    loop_awakes();
    is_stuck = true;
    is_taken /* for user code that never returns, nothing else comes after */
}

proctype monitor()
{
    bool rests;

    lock();
    do
    :: is_stuck -> is_taken = true; break
    :: !is_stuck -> /* the pause, without the lock */
        is_locked = false;
        lock()
    :: wake != LOOP_AWAKE -> /* has rested for a while */
#ifdef BAD_MONITOR /* look at the loops, and say that we sleep afterwards */
        rests = (wake != LOOP_AWAKE);
        monitor_is_asleep = true;
#else
        monitor_is_asleep = true;
        rests = (wake != LOOP_AWAKE);
#endif
        if
        :: rests ->
            atomic { is_locked = false; is_waiting = true }
            atomic { !is_waiting && !is_locked -> is_locked = true }
        :: else
        fi;
        monitor_is_asleep = false
    od;
    is_locked = false
}

init
{
    atomic { run loop(); run monitor() }
    is_taken
}
