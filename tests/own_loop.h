/* own_loop.h: a turn of the calling thread's own loop, which closes and frees what others have left
 * to it. A sleep is no such turn: one that is over before it begins, on a busy machine, does none.
 *
 * Thread: a plain one, not in a task. */
#ifndef TESTS_OWN_LOOP_H
#define TESTS_OWN_LOOP_H

#include "loop/loop.h"
#include "rt/rt.h"
#include "tests/check.h"

static inline void turn_own_loop(void)
{
    struct rt_place place;
    struct il_error err;

    CHECK_OK(rt_enter(&place, false, &err));
    CHECK(!place.party->is_task);
    il_assert_on_loop(place.loop);
    CHECK_EQ(loop_turn(place.loop, 0), LOOP_HELD);
    rt_leave(&place);
}

#endif
