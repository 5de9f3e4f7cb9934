/* timer.h: the timers of one loop.
 *
 * A timer fires in the first timers_run() at or after its deadline: never early, and late by at
 * most TIMER_TICK_NS, not counting what the caller itself is late with that call. Arming and
 * cancelling are O(1) and make no system call. Memory is the caller's: nothing here can fail.
 *
 * Threads: all of it only by the thread that holds the loop. Times are nanoseconds of the loop's
 *   clock, which never runs backwards. */
#ifndef LOOP_TIMER_H
#define LOOP_TIMER_H

#include "base/base.h"

#define TIMER_TICK_SHIFT 19 /* 2^19 ns: 0.52 ms */
#define TIMER_TICK_NS    ((uint64_t)1 << TIMER_TICK_SHIFT)

/* A deadline that is never reached. */
#define TIMER_NEVER UINT64_MAX

#define TIMERS_LEVEL_COUNT 8
#define TIMERS_SLOT_COUNT  64

/* When the first timer of a slot has been cancelled, at most so many others are looked at to find
 * the one that is first now. A slot with more is in a loop that wakes often anyway. */
#define TIMERS_SCAN_MAX 16

struct timer {
    struct il_list link; /* linked while armed */
    uint64_t deadline_ns;
    uint16_t place; /* which slot, or one of the lists: see timer.c */
    void (*on_fire)(struct timer *timer);
};

struct timers_slot {
    struct il_list list;
    uint64_t tick_min; /* no timer in it is due before; undefined while empty */
    bool is_min_exact; /* and one is due then */
};

struct timers {
    uint64_t tick; /* every timer due by then has been taken out of the slots */
    size_t count;  /* armed, wherever they are */
    bool is_running;
    struct il_list overdue; /* deadline had passed when armed: for the next run */
    struct il_list firing;  /* due in the run that is going on */
    unsigned levels_used;   /* bit per level */
    uint64_t slots_used[TIMERS_LEVEL_COUNT];
    struct timers_slot slots[TIMERS_LEVEL_COUNT][TIMERS_SLOT_COUNT];
};

void timers_init(struct timers *timers, uint64_t now_ns);

/* Forget all timers that are still armed; none of them fires. */
void timers_deinit(struct timers *timers);

void timer_init(struct timer *timer, void (*on_fire)(struct timer *timer));

/* Fire `timer` at `deadline_ns`; if it was armed already, the new deadline replaces the old one. A
 * deadline that has passed fires in the next timers_run(), never in this call. TIMER_NEVER leaves
 * it unarmed. The timer stays yours and must not move or go away while armed. */
void timer_arm(struct timers *timers, struct timer *timer, uint64_t deadline_ns);

/* Cancelling a timer that is not armed is nothing. After it the timer does not fire. */
void timer_cancel(struct timers *timers, struct timer *timer);

static inline bool timer_is_armed(const struct timer *timer)
{
    return il_list_is_linked(&timer->link);
}

/* When timers_run() has something to do: for the time-out of a poll. Never later than the time at
 * which the next timer is due (its deadline rounded up to a tick), and that exactly, with one
 * exception: if the timer that was to fire next has been cancelled and there are more than
 * TIMERS_SCAN_MAX others in its slot, it may be earlier. A run at that time then finds out, so one
 * needless wake is all it costs. TIMER_NEVER if no timer is armed. */
uint64_t timers_next_deadline_ns(struct timers *timers);

/* Fire what is due: first what was overdue when it was armed, then by deadline (in ticks), each in
 * the order of arming. A timer is unarmed before its on_fire runs, which may arm, cancel or free
 * any timer, itself included; the loop must still be held by this thread when it returns. What it
 * arms for a time that has passed fires in the next run, so this one ends. Not from within on_fire.
 * Returns how many fired. */
size_t timers_run(struct timers *timers, uint64_t now_ns);

/* Tests: assert that all is where it should be. */
void timers_validate(const struct timers *timers);

#endif
