/* handover.c: the monitor, and the spares that stand in. The protocol stands in handover.h.
 *
 * Owns: the monitor's thread, which lives while there is a watched loop, and the crew of spares.
 * Threads: any; each function says. handover.mutex is a leaf.
 * Ends: with the last watched loop, and the last runtime. */
#include "rt/handover.h"

#include <errno.h>

#include "rt/task.h"

/* While no loop has been at work for so many looks, the monitor sleeps until one wakes it. */
#define MONITOR_IDLE_LOOKS  10
#define MONITOR_LOOK_NS_MIN ((uint64_t)LOOP_NS_PER_MS / 2)

static struct {
    struct process_state state;
    struct sys_mutex mutex;  /* all below under it, but what is atomic */
    struct sys_cond changed; /* the monitor is wanted, or an errand is over */
    struct il_list seats;    /* struct seat.locked.link */
    struct sys_thread *monitor;
    uintptr_t monitor_epoch; /* a monitor of another epoch ends */
    unsigned user_count;
    _Atomic bool monitor_is_asleep;
} handover;

static void handover_lock(void) IL_ACQUIRES(handover.mutex) IL_NO_TSA
{
    if (IL_UNLIKELY(process_state_must_make(&handover.state))) {
        sys_mutex_init(&handover.mutex);
        sys_cond_init(&handover.changed);
        il_list_init(&handover.seats);
        handover.monitor = NULL;
        handover.user_count = 0;
        atomic_store(&handover.monitor_is_asleep, false);
        process_state_is_made(&handover.state);
    }
    sys_mutex_lock(&handover.mutex);
}

static void handover_unlock(void) IL_RELEASES(handover.mutex) IL_NO_TSA
{
    sys_mutex_unlock(&handover.mutex);
}

void seat_init(struct seat *seat, struct il_loop *loop, uint64_t after_ns, bool is_pinned)
{
    seat->loop = loop;
    seat->after_ns = after_ns;
    seat->is_pinned = is_pinned;
    il_list_init(&seat->locked.link);
}

/* ---- standing in ---- */

enum stand_in_end {
    STAND_IN_OVER,  /* the loop was released, or lost */
    STAND_IN_ENDED, /* the loop has ended: its runtime wants to hear of it */
};

/* On top of a drive: until the loop is not needed here any more. */
static enum stand_in_end stand_in_drive(struct il_loop *loop)
{
    struct rt_loop *home = loop->is_thread_loop ? NULL : loop->owner;

    while (loop_wants_stand_in(loop)) {
        if (home != NULL && runtime_try_end_loop(home)) {
            return STAND_IN_ENDED;
        }
        if (loop_turn(loop, home != NULL ? runtime_turn_deadline_ns(home) : IL_FOREVER) ==
            LOOP_LOST) {
            crew_count_away(&rt_spares, -1); /* who took it has counted us away */
            return STAND_IN_OVER;
        }
    }
    il_assert_on_loop(loop);
    loop_release(loop);
    return STAND_IN_OVER;
}

static void errand_stand_in(struct il_loop *loop)
{
    struct rt_drive drive;
    enum stand_in_end end;

    rt_drive_begin(&drive, rt_thread(), rt_loop_runtime(loop));
    end = stand_in_drive(loop);
    rt_drive_end(&drive);
    if (end == STAND_IN_ENDED) {
        struct rt_loop *home = loop->owner;

        (void)loop_unref(loop); /* before anybody can count what is left */
        runtime_note_loop_ended(home);
    } else {
        (void)loop_unref(loop);
    }
}

/* ---- errands ---- */

/* What the spare was sent for; the seat may be gone, or have its next errand, while it does it. */
struct errand {
    uint64_t word, since_ns;
    bool is_announced;
    int stuck_thread_id;
};

static void errand_note_taken(struct il_loop *loop, const struct errand *errand,
                              bool is_from_stand_in)
{
    struct il_task *task = loop->held.user_task;

    if (is_from_stand_in) {
        crew_count_away(&rt_spares, 1);
    }
    if (errand->is_announced) {
        atomic_fetch_add(&loop->shared.announced_count, 1);
    }
    handover_count(errand->is_announced);
    if (task == NULL || task_note_away(task, errand->since_ns)) {
        handover_tell_began(loop, task, errand->is_announced, loop_now_ns(loop) - errand->since_ns,
                            errand->stuck_thread_id);
    } /* else it is back already */
}

static void seat_end_errand(struct seat *seat)
{
    handover_lock();
    seat->locked.has_errand = false;
    sys_cond_broadcast(&handover.changed);
    handover_unlock();
}

/* On a spare. Once the errand has been ended here the seat may go, unless we hold its loop. */
static void errand_run(struct crew_work *work)
{
    struct seat *seat = il_container_of(work, struct seat, errand.work);
    struct il_loop *loop = loop_ref(seat->loop);
    struct errand errand = {
        .word = seat->errand.word,
        .since_ns = seat->errand.since_ns,
        .is_announced = seat->errand.is_announced,
        .stuck_thread_id = atomic_load(&loop->shared.holder_kernel_id),
    };
    bool is_taken_over = false, is_from_stand_in = false;
    bool is_held;

    if (loop_hold_word_state(errand.word) == LOOP_HELD_IN_USER) {
        is_held = is_taken_over = loop_try_take_over(loop, errand.word, true, &is_from_stand_in);
    } else {
        is_held = loop_try_stand_in(loop);
    }
    seat_end_errand(seat);
    if (!is_held) {
        (void)loop_unref(loop);
        return;
    }
    if (is_taken_over) {
        errand_note_taken(loop, &errand, is_from_stand_in);
    }
    errand_stand_in(loop);
}

static void seat_begin_errand_locked(struct seat *seat, uint64_t word, uint64_t since_ns)
{
    seat->locked.has_errand = true;
    seat->errand.word = word;
    seat->errand.since_ns = since_ns;
    seat->errand.is_announced = seat->locked.announced_word == word;
    seat->errand.work.run = errand_run;
}

/* Is there somebody who waits for the loop? Then the first offer is theirs; if the loop is as stuck
 * when we look again, nobody took it. */
static bool seat_offer(struct seat *seat)
{
    struct il_loop *loop = seat->loop;
    uint64_t word = seat->errand.word;

    if (loop_hold_word_state(word) != LOOP_HELD_IN_USER ||
        atomic_load(&loop->shared.hold_waiter_count) == 0 ||
        atomic_load(&loop->shared.offered_word) == word) {
        return false;
    }
    atomic_store(&loop->shared.offered_since_ns, seat->errand.since_ns);
    atomic_store(&loop->shared.offered_word, word);
    loop_hold_recheck(loop);
    return true;
}

/* Without the lock: has_errand keeps the seat. */
static void seat_send_spare(struct seat *seat, bool is_forced)
{
    bool is_first;

    if (seat_offer(seat)) {
        seat_end_errand(seat);
        return;
    }
    if (crew_try_submit(&rt_spares, &seat->errand.work, is_forced)) {
        return;
    }
    handover_lock();
    is_first = seat->locked.refused_word != seat->errand.word;
    seat->locked.refused_word = seat->errand.word;
    handover_unlock();
    if (is_first) {
        handover_tell_refused(seat->loop, sys_now_ns() - seat->errand.since_ns);
    }
    seat_end_errand(seat);
}

void handover_announce(struct seat *seat)
{
    uint64_t word = loop_hold_word(seat->loop);
    bool must_send;

    if (seat->is_pinned || atomic_load(&seat->loop->shared.pin_count) > 0) {
        return;
    }
    handover_lock();
    seat->locked.announced_word = word;
    must_send = !seat->locked.has_errand; /* else one is missing its aim, and the monitor looks */
    if (must_send) {
        seat_begin_errand_locked(seat, word, sys_now_ns());
    }
    handover_unlock();
    if (must_send) {
        seat_send_spare(seat, false);
    }
}

void handover_rescue(struct seat *seat, uint64_t word, uint64_t since_ns)
{
    bool must_send;

    handover_lock();
    must_send = !seat->locked.has_errand;
    if (must_send) {
        seat_begin_errand_locked(seat, word, since_ns);
    }
    handover_unlock();
    if (must_send) {
        seat_send_spare(seat, true);
    }
}

/* ---- own threads that wait for the loop ---- */

struct hold_wait {
    struct il_loop *loop;
    bool (*is_done)(void *arg);
    void *arg;
    uint64_t word_missed; /* an offer that came to nothing */
};

static bool hold_is_done_or_offered(void *arg)
{
    const struct hold_wait *wait = arg;
    uint64_t word = atomic_load(&wait->loop->shared.offered_word);

    return wait->is_done(wait->arg) || (word != 0 && word != wait->word_missed);
}

static bool hold_try_offered(struct il_loop *loop, uint64_t word)
{
    struct errand errand = {
        .word = word,
        .since_ns = atomic_load(&loop->shared.offered_since_ns),
        .stuck_thread_id = atomic_load(&loop->shared.holder_kernel_id),
    };
    bool is_from_stand_in;

    if (!loop_try_take_over(loop, word, false, &is_from_stand_in)) {
        return false;
    }
    errand_note_taken(loop, &errand, is_from_stand_in);
    return true;
}

bool handover_hold_unless(struct il_loop *loop, bool (*is_done)(void *arg), void *arg)
{
    struct hold_wait wait = { .loop = loop, .is_done = is_done, .arg = arg };

    while (!loop_hold_unless(loop, hold_is_done_or_offered, &wait)) {
        if (is_done(arg)) {
            return false;
        }
        wait.word_missed = atomic_load(&loop->shared.offered_word);
        if (wait.word_missed != 0 && hold_try_offered(loop, wait.word_missed)) {
            return true;
        }
    }
    return true;
}

/* ---- the monitor ---- */

static bool loop_is_at_rest(struct il_loop *loop)
{
    /* LOOP_NOTIFIED: it comes by handover_on_awake before it runs anything */
    return atomic_load(&loop->shared.wake) != LOOP_AWAKE &&
           !(loop_hold_state(loop) == LOOP_FREE && atomic_load(&loop->shared.absent_count) > 0);
}

static bool seats_are_at_rest_locked(void)
{
    il_list_for_each(&handover.seats, node)
    {
        if (!loop_is_at_rest(il_container_of(node, struct seat, locked.link)->loop)) {
            return false;
        }
    }
    return true;
}

/* Is an errand due? If one will be, `*due_ns` says when. */
static bool seat_look_locked(struct seat *seat, uint64_t now_ns, uint64_t *due_ns)
{
    uint64_t word = loop_hold_word(seat->loop);
    bool is_stuck = loop_hold_word_state(word) == LOOP_HELD_IN_USER;

    /* Somebody is stuck in il_block_on, another drove the loop and has left. */
    bool is_left = loop_hold_word_state(word) == LOOP_FREE && !seat->loop->is_thread_loop &&
                   loop_wants_stand_in(seat->loop);

    if (word != seat->locked.word) {
        seat->locked.word = word;
        seat->locked.word_since_ns = now_ns;
    }
    if (!is_stuck && !is_left) {
        return false;
    }
    if (is_stuck && seat->locked.announced_word != word &&
        now_ns - seat->locked.word_since_ns < seat->after_ns) {
        *due_ns = il_min_u64(*due_ns, seat->locked.word_since_ns + seat->after_ns);
        return false;
    }
    return !seat->locked.has_errand && atomic_load(&seat->loop->shared.pin_count) == 0;
}

/* Look at every loop; collect those that need a spare; say how long to sleep at most. */
static uint64_t monitor_look_locked(uint64_t now_ns, struct il_list *due)
{
    uint64_t pause_ns = SYS_FOREVER;
    uint64_t due_ns = SYS_FOREVER;

    il_list_for_each(&handover.seats, node)
    {
        struct seat *seat = il_container_of(node, struct seat, locked.link);

        pause_ns = il_min_u64(pause_ns, seat->after_ns / 2);
        if (seat_look_locked(seat, now_ns, &due_ns)) {
            seat_begin_errand_locked(seat, seat->locked.word, seat->locked.word_since_ns);
            il_list_init(&seat->errand.link);
            il_list_push_back(due, &seat->errand.link);
        }
    }
    pause_ns = pause_ns < MONITOR_LOOK_NS_MIN ? MONITOR_LOOK_NS_MIN : pause_ns;
    return il_min_u64(now_ns + pause_ns, due_ns);
}

static void monitor_send_spares(struct il_list *due)
{
    struct il_list *node;

    while ((node = il_list_pop_front(due)) != NULL) {
        seat_send_spare(il_container_of(node, struct seat, errand.link), false);
    }
}

/* On its own, so that a stack trace says: this thread waits for a loop to be at work. */
static IL_NOINLINE void il_monitor_sleeping_while_all_loops_rest(void) IL_LOCKED(handover.mutex)
{
    /* We write monitor_is_asleep before we look at each `wake`; a loop writes `wake` before it
     * looks at monitor_is_asleep. */
    atomic_store(&handover.monitor_is_asleep, true);
    if (seats_are_at_rest_locked()) {
        (void)sys_cond_wait_until(&handover.changed, &handover.mutex, SYS_FOREVER);
    }
    atomic_store(&handover.monitor_is_asleep, false);
}

static void monitor_main(void *arg)
{
    uintptr_t epoch = (uintptr_t)arg;
    unsigned idle_count = 0;

    handover_lock();
    while (handover.monitor_epoch == epoch) {
        struct il_list due = IL_LIST_INIT(due);
        uint64_t until_ns = monitor_look_locked(sys_now_ns(), &due);

        if (!il_list_is_empty(&due)) {
            handover_unlock();
            monitor_send_spares(&due);
            handover_lock();
            if (handover.monitor_epoch != epoch) {
                break;
            }
        }
        idle_count = seats_are_at_rest_locked() ? idle_count + 1 : 0;
        if (idle_count > MONITOR_IDLE_LOOKS) {
            il_monitor_sleeping_while_all_loops_rest();
            idle_count = 0;
        } else {
            (void)sys_cond_wait_until(&handover.changed, &handover.mutex, until_ns);
        }
    }
    handover_unlock();
}

void handover_on_awake(struct il_loop *loop)
{
    if (IL_UNLIKELY(atomic_load(&handover.monitor_is_asleep))) {
        handover_lock();
        atomic_store(&handover.monitor_is_asleep, false);
        sys_cond_broadcast(&handover.changed);
        handover_unlock();
    }
}

enum il_code handover_watch(struct seat *seat, struct il_error *err)
{
    enum il_code code = IL_OK;

    handover_lock();
    if (handover.monitor == NULL) {
        int result;

        handover.monitor_epoch++;
        result = rt_thread_start(&handover.monitor, "il-monitor", monitor_main,
                                 (void *)handover.monitor_epoch);
        if (result < 0) {
            handover.monitor = NULL;
            code = il_fail_errno(err, result == -ENOMEM ? IL_ENOMEM : IL_ESYS, -result,
                                 "start the monitor thread, which hands over loop '%s'",
                                 seat->loop->name);
        }
    }
    if (code == IL_OK) {
        il_list_push_back(&handover.seats, &seat->locked.link);
        sys_cond_broadcast(&handover.changed); /* its threshold may be the shortest */
    }
    handover_unlock();
    return code;
}

void handover_forget(struct seat *seat)
{
    struct sys_thread *monitor = NULL;

    handover_lock();
    while (seat->locked.has_errand) {
        (void)sys_cond_wait_until(&handover.changed, &handover.mutex, SYS_FOREVER);
    }
    il_list_unlink(&seat->locked.link);
    if (il_list_is_empty(&handover.seats) && handover.monitor != NULL) {
        monitor = handover.monitor;
        handover.monitor = NULL;
        handover.monitor_epoch++;
        sys_cond_broadcast(&handover.changed);
    }
    handover_unlock();
    if (monitor != NULL) {
        sys_thread_join(monitor);
    }
}

void handover_use(void)
{
    handover_lock();
    handover.user_count++;
    handover_unlock();
}

void handover_unuse(void)
{
    bool is_last;

    handover_lock();
    il_assert(handover.user_count > 0);
    is_last = --handover.user_count == 0;
    handover_unlock();
    if (is_last) {
        crew_dismiss(&rt_spares);
        crew_dismiss(&rt_blocking);
    }
}
