/* party.c: threads and tasks as parties: passing the gate, waiting, waking.
 *
 * Owns: the record of each thread that ever called in, with its private loop. A private loop is
 * held only while its thread is inside the library, so a connection that it used may be taken from
 * it at any time. It ends with its thread. Threads: any; see rt.h. */
#include "rt/task.h"

#include <errno.h>
#include <stdio.h>

/* User code that a plain thread's call has called may keep the thread for so long. */
#define THREAD_HAND_OVER_AFTER_NS (10 * (uint64_t)LOOP_NS_PER_MS)

/* ---- the thread's record ---- */

static void thread_loop_end(struct rt_thread *thread)
{
    if (thread->party.loop != NULL) {
        il_assert(loop_try_hold(thread->party.loop)); /* held by this thread or by nobody */
        il_assert_on_loop(thread->party.loop);
        while (!loop_try_seal(thread->party.loop)) {
            il_assert(loop_turn(thread->party.loop, 0) == LOOP_HELD);
        }
        loop_end(thread->party.loop);
    }
}

/* With the last reference, which may be that of somebody who is just waking the thread: its loop
 * must stay that long. */
static void thread_free(struct party *party)
{
    (void)loop_unref(party->loop);
    il_free(il_container_of(party, struct rt_thread, party));
}

static void thread_on_exit(void *context)
{
    struct rt_thread *thread = context;

    party_end_holds(&thread->party);
    if (thread->fork_generation == sys_fork_generation()) {
        thread_loop_end(thread);
    } else {
        thread->party.loop = NULL; /* the parent's */
    }
    sys_thread_self()->context = NULL;
    (void)party_unref(&thread->party);
}

static enum loop_result thread_on_woken(struct il_loop *loop, struct job *job)
{
    struct party *party = il_container_of(job, struct party, job);

    il_container_of(party, struct rt_thread, party)->is_woken = true;
    loop->held.must_return = true;
    return LOOP_HELD;
}

struct rt_thread *rt_thread_new(void)
{
    struct rt_thread *thread = il_calloc(1, sizeof(*thread));

    if (thread == NULL) {
        return NULL;
    }
    atomic_init(&thread->party.ref_count, 1);
    thread->party.job.run = thread_on_woken;
    timer_init(&thread->party.timer, party_on_overdue);
    thread->party.free = thread_free;
    party_init_holds(&thread->party);
    thread->fork_generation = sys_fork_generation();
    return thread;
}

/* Make `thread` the calling thread's record. */
static void thread_install(struct rt_thread *thread)
{
    struct sys_thread_self *self = sys_thread_self();

    self->context = thread;
    self->on_exit = thread_on_exit;
}

struct rt_thread *rt_thread(void)
{
    struct rt_thread *thread = sys_thread_self()->context;

    if (IL_LIKELY(thread != NULL)) {
        return thread;
    }
    thread = rt_thread_new();
    if (thread != NULL) {
        thread_install(thread);
    }
    return thread;
}

struct rt_thread *rt_thread_or(struct rt_thread *_Atomic *spare)
{
    struct rt_thread *thread = rt_thread();

    if (thread == NULL) {
        thread = atomic_exchange(spare, NULL);
        if (thread != NULL) {
            thread_install(thread);
        }
    }
    return thread;
}

void rt_thread_free(struct rt_thread *thread)
{
    if (thread != NULL) {
        (void)party_unref(&thread->party);
    }
}

/* What a thread of ours finds when it starts. */
struct thread_start {
    struct rt_thread *thread;
    void (*run)(void *arg);
    void *arg;
};

static void thread_main(void *arg)
{
    struct thread_start start = *(struct thread_start *)arg;

    il_free(arg);
    thread_install(start.thread);
    start.run(start.arg);
}

int rt_thread_start(struct sys_thread **ret_thread, const char *name, void (*run)(void *arg),
                    void *arg)
{
    struct thread_start *start = il_malloc(sizeof(*start));
    struct rt_thread *thread = rt_thread_new();
    int result = -ENOMEM;

    if (start != NULL && thread != NULL) {
        *start = (struct thread_start){ thread, run, arg };
        result = sys_thread_start(ret_thread, name, thread_main, start);
    }
    if (result < 0) {
        il_free(start);
        il_free(thread);
    }
    return result;
}

enum il_code rt_thread_loop(struct rt_thread *thread, struct il_error *err)
{
    char name[LOOP_NAME_SIZE];

    if (thread->fork_generation != sys_fork_generation()) {
        /* The child of a fork: the loop's epoll set is the parent's too. Leave it and start anew.
         */
        thread->party.loop = NULL;
        thread->calls_out_depth = thread->out_depth = 0;
        thread->fork_generation = sys_fork_generation();
    }
    if (thread->party.loop != NULL) {
        return IL_OK;
    }
    (void)snprintf(name, sizeof(name), "thread %d", sys_thread_self()->kernel_id);
    return loop_new(name, thread, true, &thread->party.loop, err);
}

void rt_drive_begin(struct rt_drive *drive, struct rt_thread *thread, struct il_runtime *runtime)
{
    drive->thread = thread;
    drive->runtime = runtime;
    drive->outer = thread->drive;
    thread->drive = drive;
    drive->outer_scheduler = thread->scheduler;
    drive->outer_task = thread->task;
    drive->outer_loop = thread->loop;
    fiber_init_thread(&drive->here);
    thread->scheduler = &drive->here;
    thread->task = NULL;
    thread->loop = NULL;
}

void rt_drive_end(struct rt_drive *drive)
{
    il_assert(drive->thread->scheduler == &drive->here);
    drive->thread->drive = drive->outer;
    drive->thread->scheduler = drive->outer_scheduler;
    drive->thread->task = drive->outer_task;
    drive->thread->loop = drive->outer_loop;
    fiber_deinit(&drive->here, NULL);
}

bool rt_thread_is_inside(const struct rt_thread *thread, const struct il_runtime *runtime)
{
    for (const struct rt_drive *drive = thread->drive; drive != NULL; drive = drive->outer) {
        if (drive->runtime == runtime) {
            return true;
        }
    }
    return false;
}

/* ---- parties ---- */

struct party *party_ref(struct party *party)
{
    atomic_fetch_add_explicit(&party->ref_count, 1, memory_order_relaxed);
    return party;
}

struct party *party_unref(struct party *party)
{
    uint32_t before = atomic_fetch_sub_explicit(&party->ref_count, 1, memory_order_acq_rel);

    il_assert(before > 0);
    if (before == 1) {
        party->free(party);
    }
    return NULL;
}

void party_wake(struct party *party)
{
    if (IL_MUTANT(TOKEN_LOST) && atomic_load(&party->state) == PARTY_EMPTY) {
        return;
    }
    if (atomic_exchange(&party->state, PARTY_NOTIFIED) != PARTY_PARKED) {
        return; /* it will notice before it waits, or somebody has woken it already */
    }
    if (loop_is_held_by_me(party->loop)) {
        il_assert_on_loop(party->loop);
        loop_push(party->loop, &party->job);
    } else {
        il_assert(loop_post(party->loop, &party->job)); /* a loop outlives those who wait on it */
    }
}

void party_on_overdue(struct timer *timer)
{
    struct party *party = il_container_of(timer, struct party, timer);
    int parked = PARTY_PARKED;

    if (atomic_compare_exchange_strong(&party->state, &parked, PARTY_EMPTY)) {
        party->is_overdue = true;
        il_assert_on_loop(party->loop);
        loop_push(party->loop, &party->job);
    } /* else somebody woke it, and the job is on its way */
}

struct party *party_current(void)
{
    struct rt_thread *thread = rt_thread();

    if (thread == NULL) {
        return NULL;
    }
    return thread->task != NULL ? &thread->task->party : &thread->party;
}

const char *party_task_name(const struct party *party)
{
    return party->is_task ? il_container_of(party, const struct il_task, party)->name : NULL;
}

void party_init_holds(struct party *party)
{
    il_list_init(&party->holds);
}

void party_end_holds(struct party *party)
{
    struct il_list *node;

    while ((node = il_list_pop_front(&party->holds)) != NULL) {
        struct party_hold *hold = il_container_of(node, struct party_hold, link);

        hold->on_party_end(hold);
    }
}

void party_hold_add(struct party *party, struct party_hold *hold)
{
    il_list_push_back(&party->holds, &hold->link);
}

void party_hold_remove(struct party_hold *hold)
{
    il_list_unlink(&hold->link);
}

/* ---- passing the gate ---- */

/* The thread as itself goes into user code, in the middle of a call. */
static void thread_go_out(struct rt_thread *thread)
{
    struct il_loop *loop = thread->party.loop;

    thread->out_since_ns = loop_now_ns(loop);
    loop->held.user_task = NULL;
    loop->held.user_function = thread->out_function;
    loop_enter_user(loop);
}

/* And comes back to its private loop, which it left in USER. No user code runs on
 * such a loop but its own thread's, so a stand-in is never stuck, and lets go of it. */
static void thread_come_back(struct rt_thread *thread)
{
    struct il_loop *loop = thread->party.loop;

    if (loop_leave_user(loop) == LOOP_LOST) {
        loop_own_is_back(loop);
        il_assert(loop_hold_until(loop, SYS_FOREVER));
        handover_tell_ended(loop, NULL, thread->out_function, false,
                            loop_now_ns(loop) - thread->out_since_ns);
    }
}

/* The callback that this thread runs has lost its loop, and needs it. */
static bool callback_come_back(struct rt_thread *thread)
{
    if (!loop_claim(thread->loop, thread->is_spare)) {
        return false;
    }
    il_assert_on_loop(thread->loop);
    thread->loop->held.user_task = NULL; /* others have run meanwhile, and may be gone */
    thread->loop->held.user_function = NULL;
    if (thread->is_spare) {
        crew_count_away(&rt_spares, -1);
    }
    return true;
}

enum il_code rt_enter(struct rt_place *ret_place, bool callback_may, struct il_error *err)
{
    struct rt_thread *thread = rt_thread();
    struct il_task *task;

    if (thread == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for the record of this thread");
    }
    task = thread->task;
    if (task != NULL) {
        if (!task_enter_library(task)) {
            return il_fail(err, IL_ESHUTDOWN, "the runtime of task '%s' was shut down", task->name);
        }
        *ret_place = (struct rt_place){ &task->party, task->party.loop, task->home->runtime };
        return IL_OK;
    }
    if (thread->loop != NULL) {
        if (!callback_may) {
            return il_fail(err, IL_EDEADLOCK,
                           "a callback on loop '%s' must not wait: it would stop the loop",
                           thread->loop->name);
        }
        if (!thread->is_ungated && loop_leave_user(thread->loop) == LOOP_LOST &&
            !callback_come_back(thread)) {
            return il_fail(err, IL_ESHUTDOWN, "loop '%s', on which this callback runs, has ended",
                           thread->loop->name);
        }
        *ret_place = (struct rt_place){ NULL, thread->loop, rt_loop_runtime(thread->loop) };
        return IL_OK;
    }
    return rt_enter_as_thread(thread, ret_place, err);
}

enum il_code rt_enter_as_thread(struct rt_thread *thread, struct rt_place *ret_place,
                                struct il_error *err)
{
    enum il_code code = rt_thread_loop(thread, err);

    if (code == IL_OK) {
        if (thread->out_depth > 0) {
            thread_come_back(thread);
        } else {
            il_assert(loop_try_hold(thread->party.loop));
        }
        *ret_place = (struct rt_place){ &thread->party, thread->party.loop, NULL };
    }
    return code;
}

void rt_leave(struct rt_place *place)
{
    if (place->party == NULL) {
        if (!rt_thread()->is_ungated) {
            loop_enter_user(place->loop);
        }
    } else if (place->party->is_task) {
        task_leave_library(il_container_of(place->party, struct il_task, party));
    } else if (rt_thread()->out_depth > 0) {
        thread_go_out(rt_thread());
    } else {
        il_assert_on_loop(place->loop);
        loop_release(place->loop);
    }
}

/* ---- calling the user's code in the middle ---- */

void rt_calls_out_begin(struct rt_place *place)
{
    struct rt_thread *thread = rt_thread();

    if (place->party != &thread->party || thread->calls_out_depth++ > 0) {
        return;
    }
    handover_use();
    seat_init(&thread->seat, place->loop, THREAD_HAND_OVER_AFTER_NS, false);
    /* if it cannot be watched, what is on this loop waits for the user's code */
    il_maybe(handover_watch(&thread->seat, NULL) == IL_OK);
}

void rt_calls_out_end(void)
{
    struct rt_thread *thread = rt_thread();

    if (thread->fork_generation != sys_fork_generation()) {
        return; /* a child whose parent was in user code: the call is the parent's */
    }
    if (thread->task == NULL && thread->calls_out_depth > 0 && --thread->calls_out_depth == 0) {
        handover_forget(&thread->seat);
        handover_unuse();
    }
}

void rt_call_out(struct rt_place *place, void (*function)(void))
{
    struct rt_thread *thread = rt_thread();

    if (place->party != &thread->party) {
        rt_leave(place);
        return;
    }
    thread->out_depth++;
    thread->out_function = function;
    thread_go_out(thread);
}

enum il_code rt_call_in(struct rt_place *place)
{
    struct rt_thread *thread = rt_thread();

    if (place->party != &thread->party) {
        return rt_enter(place, false, NULL);
    }
    thread_come_back(thread);
    thread->out_depth--;
    return IL_OK;
}

/* Between the gates: whoever drives the loop keeps it in memory, should it be taken over. */
static enum loop_result callback_run_gated(struct il_loop *loop, void (*run)(void *arg), void *arg,
                                           void (*function)(void))
{
    uint64_t began_ns = loop_now_ns(loop); /* of this turn: what was run before in it is included */

    loop->held.user_task = NULL;
    loop->held.user_function = function;
    loop_enter_user(loop);
    run(arg);
    if (loop_leave_user(loop) == LOOP_HELD) {
        return LOOP_HELD;
    }
    handover_tell_ended(loop, NULL, function, false, sys_now_ns() - began_ns);
    return LOOP_LOST;
}

enum loop_result rt_run_callback(struct il_loop *loop, void (*run)(void *arg), void *arg,
                                 void (*function)(void))
{
    struct rt_thread *thread = rt_thread();
    struct il_loop *outer;
    enum loop_result result = LOOP_HELD;

    il_assert(thread != NULL && thread->task == NULL);
    outer = thread->loop;
    thread->loop = loop;
    if (loop->held.is_ending) {
        bool was_ungated = thread->is_ungated;

        thread->is_ungated = true;
        run(arg);
        thread->is_ungated = was_ungated;
    } else {
        result = callback_run_gated(loop, run, arg, function);
    }
    thread->loop = outer;
    return result;
}

/* ---- waiting ---- */

enum il_code rt_check_cancelled(const struct rt_place *place)
{
    const struct il_task *task;

    if (!place->party->is_task) {
        return IL_OK;
    }
    task = il_container_of(place->party, const struct il_task, party);
    if (atomic_load_explicit(&task->home->is_stopping, memory_order_relaxed)) {
        return IL_ESHUTDOWN;
    }
    if (atomic_load_explicit(&task->cancel_requested, memory_order_relaxed)) {
        return IL_ECANCELED;
    }
    return IL_OK;
}

/* On its own, so that a stack trace says: this thread waits, on purpose. */
static IL_NOINLINE void il_thread_waiting_in_its_loop(struct rt_thread *thread)
{
    thread->is_woken = false;
    while (!thread->is_woken) {
        /* no user code runs on a private loop, so nobody can take it over */
        il_assert(loop_turn(thread->party.loop, SYS_FOREVER) == LOOP_HELD);
    }
}

/* Until the job has run: before that, the party is still in somebody's queue. */
static void party_wait_for_job(struct party *party)
{
    if (party->is_task) {
        task_switch_out(il_container_of(party, struct il_task, party));
    } else {
        il_thread_waiting_in_its_loop(il_container_of(party, struct rt_thread, party));
    }
}

static enum il_code party_wait(struct party *party, uint64_t deadline_ns, const char *what)
{
    int state = PARTY_EMPTY;

    if (atomic_load_explicit(&party->state, memory_order_relaxed) == PARTY_EMPTY &&
        deadline_ns <= loop_now_ns(party->loop) && deadline_ns <= sys_now_ns()) {
        return IL_ETIMEDOUT;
    }
    if (!atomic_compare_exchange_strong(&party->state, &state, PARTY_PARKED)) {
        (void)atomic_exchange(&party->state, PARTY_EMPTY); /* takes the token, and what it says */
        return IL_OK;
    }
    party->is_overdue = false;
    atomic_store_explicit(&party->waits_since_ns, loop_now_ns(party->loop), memory_order_relaxed);
    atomic_store_explicit(&party->waits_for, what, memory_order_relaxed);
    if (deadline_ns != IL_FOREVER) {
        timer_arm(&party->loop->held.timers, &party->timer, deadline_ns);
    }
    party_wait_for_job(party);
    timer_cancel(&party->loop->held.timers, &party->timer);
    atomic_store_explicit(&party->waits_for, NULL, memory_order_relaxed);
    if (party->is_overdue) {
        return IL_ETIMEDOUT;
    }
    (void)atomic_exchange(&party->state, PARTY_EMPTY);
    return IL_OK;
}

enum il_code rt_wait(struct rt_place *place, uint64_t deadline_ns, const char *what)
{
    enum il_code code;

    il_assert(place->party != NULL);
    code = rt_check_cancelled(place);
    if (code != IL_OK) {
        return code;
    }
    return party_wait(place->party, deadline_ns, what);
}

void rt_wait_regardless(struct rt_place *place, const char *what)
{
    il_assert(place->party != NULL);
    (void)party_wait(place->party, IL_FOREVER, what); /* no deadline: cannot time out */
}

/* ---- time ---- */

uint64_t il_now_ns(void)
{
    return sys_now_ns();
}

uint64_t il_deadline_in_ms(uint64_t ms)
{
    uint64_t now_ns = sys_now_ns();

    if (ms > (UINT64_MAX - now_ns) / LOOP_NS_PER_MS) {
        return IL_FOREVER;
    }
    return now_ns + ms * LOOP_NS_PER_MS;
}

enum il_code il_sleep_until(uint64_t deadline_ns)
{
    struct rt_place place;
    enum il_code code = rt_enter(&place, false, NULL);

    if (code != IL_OK) {
        return code;
    }
    do {
        code = rt_wait(&place, deadline_ns, "sleep");
    } while (code == IL_OK);
    rt_leave(&place);
    return code == IL_ETIMEDOUT ? IL_OK : code;
}

enum il_code il_sleep_ms(uint64_t ms)
{
    return il_sleep_until(il_deadline_in_ms(ms));
}

enum il_code il_yield(void)
{
    struct rt_place place;
    enum il_code code = rt_enter(&place, false, NULL);

    if (code != IL_OK) {
        return code;
    }
    code = rt_check_cancelled(&place);
    if (code == IL_OK && place.party->is_task) {
        il_assert_on_loop(place.loop);
        loop_push(place.loop, &place.party->job);
        task_switch_out(il_container_of(place.party, struct il_task, party));
    }
    rt_leave(&place);
    return code;
}
