/* loop.c: one event loop. What may be touched by whom stands in loop.h.
 *
 * Owns: the loop's state and, with it, the registry of all loops of the process.
 * Ends: loop_end() seals the mailbox; the last reference frees the memory. */
#include "loop/loop.h"

#include <stdio.h>

#include "base/shown.h"

#define LOOP_MAIL_SEALED ((struct job *)1)

/* A leaf lock. Written when a loop is made or freed, read by reports. */
static struct sys_mutex registry_mutex = { .real = PTHREAD_MUTEX_INITIALIZER };
static struct il_list registry = IL_LIST_INIT(registry);

_Static_assert((int)LOOP_FREE == (int)SHOWN_HOLD_FREE &&
                   (int)LOOP_HELD_IN_LIB == (int)SHOWN_HOLD_IN_LIB &&
                   (int)LOOP_HELD_IN_USER == (int)SHOWN_HOLD_IN_USER &&
                   (int)LOOP_ENDED == (int)SHOWN_HOLD_ENDED,
               "the doctor reads these");

SHOWN_DEFINE(shown_loops, SHOWN_LOOPS, SHOWN_LOOP_FIELD_COUNT,
             &registry, [SHOWN_LOOP_LINK] = offsetof(struct il_loop, registry_link),
             [SHOWN_LOOP_ID] = offsetof(struct il_loop, id),
             [SHOWN_LOOP_NAME] = offsetof(struct il_loop, name),
             [SHOWN_LOOP_POLLER] = offsetof(struct il_loop, poller),
             [SHOWN_LOOP_OWNER] = offsetof(struct il_loop, owner),
             [SHOWN_LOOP_IS_THREAD_LOOP] = offsetof(struct il_loop, is_thread_loop),
             [SHOWN_LOOP_HOLD] = offsetof(struct il_loop, shared.hold),
             [SHOWN_LOOP_SINCE_NS] = offsetof(struct il_loop, shared.since_ns),
             [SHOWN_LOOP_TURN_COUNT] = offsetof(struct il_loop, shared.turn_count),
             [SHOWN_LOOP_IS_POLLING] = offsetof(struct il_loop, shared.is_polling),
             [SHOWN_LOOP_KERNEL_THREAD] = offsetof(struct il_loop, shared.holder_kernel_id),
             [SHOWN_POLLER_FD] = offsetof(struct poller, fd));
static IL_NUMBERS _Atomic uint64_t loop_id_last;
static _Atomic uint64_t loop_live_count;

/* ---- job queues ---- */

static void queue_init(struct job_queue *queue)
{
    queue->head = NULL;
    queue->tail = &queue->head;
}

static void queue_push(struct job_queue *queue, struct job *job)
{
    job->next = NULL;
    *queue->tail = job;
    queue->tail = &job->next;
}

static struct job *queue_pop(struct job_queue *queue)
{
    struct job *job = queue->head;

    if (job != NULL) {
        queue->head = job->next;
        if (queue->head == NULL) {
            queue->tail = &queue->head;
        }
    }
    return job;
}

/* ---- life ---- */

enum il_code loop_new(const char *name, void *owner, bool is_thread_loop, struct il_loop **ret_loop,
                      struct il_error *err)
{
    struct il_loop *loop = il_calloc(1, sizeof(*loop));
    char *scratch = il_malloc(LOOP_SCRATCH_SIZE);
    enum il_code code;

    if (loop == NULL || scratch == NULL) {
        code = il_fail(err, IL_ENOMEM, "no memory for loop '%s'", name);
        goto fail_memory;
    }
    code = poller_new(name, &loop->held.timers, &loop->poller, err);
    if (code != IL_OK) {
        goto fail_memory;
    }
    loop->id = atomic_fetch_add(&loop_id_last, 1) + 1;
    (void)snprintf(loop->name, sizeof(loop->name), "%s", name); /* cut on purpose */
    loop->owner = owner;
    loop->is_thread_loop = is_thread_loop;
    loop->held.now_ns = sys_now_ns();
    loop->held.scratch = scratch;
    timers_init(&loop->held.timers, loop->held.now_ns);
    queue_init(&loop->held.ready);
    queue_init(&loop->held.late);
    il_list_init(&loop->held.guests);
    atomic_init(&loop->shared.ref_count, 1);
    atomic_init(&loop->shared.wake, LOOP_ASLEEP);
    atomic_init(&loop->shared.since_ns, loop->held.now_ns);
    sys_mutex_init(&loop->locked.mutex);
    sys_cond_init(&loop->locked.hold_freed);
    il_list_init(&loop->registry_link);

    atomic_fetch_add(&loop_live_count, 1);
    sys_mutex_lock(&registry_mutex);
    il_list_push_back(&registry, &loop->registry_link);
    sys_mutex_unlock(&registry_mutex);
    *ret_loop = loop;
    return IL_OK;

fail_memory:
    il_free(scratch);
    il_free(loop);
    return code;
}

struct il_loop *loop_ref(struct il_loop *loop)
{
    atomic_fetch_add_explicit(&loop->shared.ref_count, 1, memory_order_relaxed);
    return loop;
}

struct il_loop *loop_unref(struct il_loop *loop)
{
    uint32_t before;

    if (loop == NULL) {
        return NULL;
    }
    before = atomic_fetch_sub_explicit(&loop->shared.ref_count, 1, memory_order_acq_rel);
    il_assert(before > 0);
    if (before > 1) {
        return NULL;
    }
    il_assert(atomic_load(&loop->shared.mail) == LOOP_MAIL_SEALED); /* ended */
    il_assert(il_list_is_empty(&loop->held.guests));
    sys_mutex_deinit(&loop->locked.mutex);
    sys_cond_deinit(&loop->locked.hold_freed);
    (void)poller_unref(loop->poller);
    il_free(loop);
    atomic_fetch_sub(&loop_live_count, 1);
    return NULL;
}

uint64_t loop_count_live(void)
{
    return atomic_load(&loop_live_count);
}

static void loop_unregister(struct il_loop *loop)
{
    sys_mutex_lock(&registry_mutex);
    il_list_unlink(&loop->registry_link);
    sys_mutex_unlock(&registry_mutex);
}

void loop_for_each(void (*visit)(struct il_loop *loop, void *arg), void *arg)
{
    sys_mutex_lock(&registry_mutex);
    il_list_for_each(&registry, node)
    {
        visit(il_container_of(node, struct il_loop, registry_link), arg);
    }
    sys_mutex_unlock(&registry_mutex);
}

/* ---- holding ---- */

/* The hold: from the top, 30 bits that count the stays in user code, 32 bits for the number of the
 * thread, 2 bits for the state. The count stays when the holder changes, so that a word comes again
 * after 2^30 stays only. */
#define HOLD_STAY_ONE   (UINT64_C(1) << 34)
#define HOLD_STAY_MASK  (~UINT64_C(0) << 34)
#define HOLD_STATE_MASK UINT64_C(3)

static uint64_t hold_word(uint64_t stay, enum loop_hold_state state)
{
    return (stay & HOLD_STAY_MASK) | ((uint64_t)sys_thread_self()->number << 2) | (uint64_t)state;
}

static uint64_t hold_word_free(uint64_t stay, enum loop_hold_state state)
{
    return (stay & HOLD_STAY_MASK) | (uint64_t)state;
}

/* By the holder alone, so that counting needs no locked instruction. */
static void loop_note(struct il_loop *loop, uint64_t now_ns)
{
    uint64_t count = atomic_load_explicit(&loop->shared.turn_count, memory_order_relaxed);

    atomic_store_explicit(&loop->shared.since_ns, now_ns, memory_order_relaxed);
    atomic_store_explicit(&loop->shared.turn_count, count + 1, memory_order_relaxed);
}

static void loop_on_held(struct il_loop *loop)
{
    loop->held.has_polled = false; /* not by this holder, not lately */
    loop->held.now_ns = sys_now_ns();
    loop_note(loop, loop->held.now_ns);
    atomic_store_explicit(&loop->shared.holder_kernel_id, sys_thread_self()->kernel_id,
                          memory_order_relaxed);
    if (loop->on_awake == NULL) {
        atomic_store_explicit(&loop->shared.wake, LOOP_AWAKE, memory_order_relaxed);
    } else {
        atomic_store(&loop->shared.wake, LOOP_AWAKE);
        loop->on_awake(loop);
    }
}

bool loop_try_hold(struct il_loop *loop)
{
    uint64_t word = atomic_load(&loop->shared.hold);

    if ((word & HOLD_STATE_MASK) != LOOP_FREE ||
        !atomic_compare_exchange_strong(&loop->shared.hold, &word,
                                        hold_word(word, LOOP_HELD_IN_LIB))) {
        return false;
    }
    loop_on_held(loop);
    return true;
}

/* Who waits for the loop may have to wake it first: a stand-in that sleeps lets go of it when
 * somebody wants it. It writes `is_stood_in` before it looks at the counts, we write the counts
 * first. */
static void loop_call_stand_in(struct il_loop *loop)
{
    if (atomic_load(&loop->shared.is_stood_in) || atomic_load(&loop->shared.claim_count) > 0) {
        loop_wake(loop);
    }
}

bool loop_hold_until(struct il_loop *loop, uint64_t deadline_ns)
{
    bool is_held = loop_try_hold(loop);

    if (is_held) {
        return true;
    }
    sys_mutex_lock(&loop->locked.mutex);
    atomic_fetch_add(&loop->shared.hold_waiter_count, 1);
    loop_call_stand_in(loop);
    while (!(is_held = loop_try_hold(loop))) {
        if (!sys_cond_wait_until(&loop->locked.hold_freed, &loop->locked.mutex, deadline_ns)) {
            is_held = loop_try_hold(loop);
            break;
        }
    }
    atomic_fetch_sub(&loop->shared.hold_waiter_count, 1);
    sys_mutex_unlock(&loop->locked.mutex);
    return is_held;
}

bool loop_hold_unless(struct il_loop *loop, bool (*is_done)(void *arg), void *arg)
{
    bool is_held = false;

    sys_mutex_lock(&loop->locked.mutex);
    atomic_fetch_add(&loop->shared.hold_waiter_count, 1);
    loop_call_stand_in(loop);
    while (!is_done(arg) && !(is_held = loop_try_hold(loop))) {
        (void)sys_cond_wait_until(&loop->locked.hold_freed, &loop->locked.mutex, SYS_FOREVER);
    }
    atomic_fetch_sub(&loop->shared.hold_waiter_count, 1);
    sys_mutex_unlock(&loop->locked.mutex);
    return is_held;
}

void loop_hold_recheck(struct il_loop *loop)
{
    if (atomic_load(&loop->shared.hold_waiter_count) > 0) {
        sys_mutex_lock(&loop->locked.mutex);
        sys_cond_broadcast(&loop->locked.hold_freed);
        sys_mutex_unlock(&loop->locked.mutex);
    }
}

static void loop_mail_check_on_sleep(struct il_loop *loop);

void loop_release(struct il_loop *loop)
{
    uint64_t word = atomic_load_explicit(&loop->shared.hold, memory_order_relaxed);

    il_assert(loop_is_held_by_me(loop));
    loop_note(loop, sys_now_ns());
    atomic_store_explicit(&loop->shared.is_stood_in, false, memory_order_relaxed);
    loop_mail_check_on_sleep(loop);
    atomic_store(&loop->shared.hold, hold_word_free(word, LOOP_FREE));
    loop_hold_recheck(loop);
}

void loop_enter_user(struct il_loop *loop)
{
    uint64_t word = atomic_load_explicit(&loop->shared.hold, memory_order_relaxed);

    il_assert((word & HOLD_STATE_MASK) == LOOP_HELD_IN_LIB);
    loop_note(loop, loop->held.now_ns);
    /* release: whoever takes over sees the loop as we leave it */
    atomic_store_explicit(&loop->shared.hold,
                          word + HOLD_STAY_ONE - LOOP_HELD_IN_LIB + LOOP_HELD_IN_USER,
                          memory_order_release);
}

enum loop_result loop_leave_user(struct il_loop *loop)
{
    uint64_t word = atomic_load_explicit(&loop->shared.hold, memory_order_relaxed);

    if (word != hold_word(word, LOOP_HELD_IN_USER) ||
        !atomic_compare_exchange_strong(&loop->shared.hold, &word,
                                        word - LOOP_HELD_IN_USER + LOOP_HELD_IN_LIB)) {
        return LOOP_LOST;
    }
    return LOOP_HELD;
}

uint64_t loop_unattended_since_ns(const struct il_loop *loop)
{
    enum loop_hold_state state = loop_hold_state(loop);

    return state == LOOP_FREE || state == LOOP_HELD_IN_USER
               ? il_max_u64(atomic_load_explicit(&loop->shared.since_ns, memory_order_relaxed), 1)
               : 0;
}

bool loop_is_in_user_here(const struct il_loop *loop)
{
    uint64_t word = atomic_load_explicit(&loop->shared.hold, memory_order_relaxed);

    return word == hold_word(word, LOOP_HELD_IN_USER);
}

bool loop_is_held_by_me(const struct il_loop *loop)
{
    uint64_t word = atomic_load_explicit(&loop->shared.hold, memory_order_relaxed);

    return word == hold_word(word, LOOP_HELD_IN_LIB);
}

void il_assert_on_loop(const struct il_loop *loop)
{
    if (IL_UNLIKELY(!loop_is_held_by_me(loop))) {
        char text[160];

        (void)snprintf(text, sizeof(text), "thread %u touches loop '%s', which thread %u holds",
                       sys_thread_self()->number, loop->name,
                       (unsigned)(loop_hold_word(loop) >> 2));
        il_assert_failed(text, __FILE__, __LINE__, __func__);
    }
}

bool loop_has_ended(const struct il_loop *loop)
{
    return loop_hold_state(loop) == LOOP_ENDED;
}

/* ---- taking over, and coming back ---- */

bool loop_try_take_over(struct il_loop *loop, uint64_t word, bool is_stand_in,
                        bool *ret_from_stand_in)
{
    /* It may name a stay of our own: when it was seen we were stuck, and now we are the spare that
     * is sent. That stay is over, and the word is another. */
    il_assert((word & HOLD_STATE_MASK) == LOOP_HELD_IN_USER);
    if (!atomic_compare_exchange_strong(&loop->shared.hold, &word,
                                        hold_word(word, LOOP_HELD_IN_LIB))) {
        return false;
    }
    *ret_from_stand_in = atomic_load_explicit(&loop->shared.is_stood_in, memory_order_relaxed);
    if (!*ret_from_stand_in) {
        atomic_fetch_add(&loop->shared.absent_count, 1);
    }
    atomic_store(&loop->shared.is_stood_in, is_stand_in);
    atomic_fetch_add(&loop->shared.take_over_count, 1);
    if (IL_MUTANT(TAKE_OVER_JOBS)) {
        queue_init(&loop->held.ready);
    }
    loop_on_held(loop);
    return true;
}

bool loop_try_stand_in(struct il_loop *loop)
{
    if (!loop_try_hold(loop)) {
        return false;
    }
    atomic_store(&loop->shared.is_stood_in, true);
    return true;
}

bool loop_wants_stand_in(struct il_loop *loop)
{
    if (loop->has_worker && atomic_load(&loop->shared.pin_count) > 0) {
        return true; /* a task has been promised that it stays on this thread */
    }
    return atomic_load(&loop->shared.absent_count) > 0 &&
           atomic_load(&loop->shared.hold_waiter_count) == 0 &&
           atomic_load(&loop->shared.claim_count) == 0;
}

void loop_own_is_back(struct il_loop *loop)
{
    atomic_fetch_sub(&loop->shared.absent_count, 1);
    loop_call_stand_in(loop);
}

bool loop_own_is_absent(struct il_loop *loop)
{
    bool is_absent;

    sys_mutex_lock(&loop->locked.mutex); /* not in the middle of a claim */
    is_absent = atomic_load(&loop->shared.absent_count) > 0;
    sys_mutex_unlock(&loop->locked.mutex);
    return is_absent;
}

bool loop_claim(struct il_loop *loop, bool is_stand_in)
{
    int32_t own_count = is_stand_in ? 0 : 1;
    bool is_held = false;

    sys_mutex_lock(&loop->locked.mutex);
    atomic_fetch_sub(&loop->shared.absent_count, own_count);
    atomic_fetch_add(&loop->shared.claim_count, 1);
    loop_wake(loop);
    atomic_fetch_add(&loop->shared.hold_waiter_count, 1);
    while (!loop_has_ended(loop) && !(is_held = loop_try_hold(loop))) {
        (void)sys_cond_wait_until(&loop->locked.hold_freed, &loop->locked.mutex, SYS_FOREVER);
    }
    atomic_fetch_sub(&loop->shared.hold_waiter_count, 1);
    atomic_fetch_sub(&loop->shared.claim_count, 1);
    if (is_held) {
        atomic_store(&loop->shared.is_stood_in, is_stand_in);
    } else {
        atomic_fetch_add(&loop->shared.absent_count, own_count); /* still in its callback */
    }
    sys_mutex_unlock(&loop->locked.mutex);
    return is_held;
}

bool loop_lend(struct il_loop *loop)
{
    bool is_held = false;

    il_assert_on_loop(loop);
    loop_release(loop);
    sys_mutex_lock(&loop->locked.mutex);
    atomic_fetch_add(&loop->shared.hold_waiter_count, 1);
    while (!loop_has_ended(loop) && (loop_is_claimed(loop) || !(is_held = loop_try_hold(loop)))) {
        (void)sys_cond_wait_until(&loop->locked.hold_freed, &loop->locked.mutex, SYS_FOREVER);
    }
    atomic_fetch_sub(&loop->shared.hold_waiter_count, 1);
    sys_mutex_unlock(&loop->locked.mutex);
    return is_held;
}

/* ---- mailbox ---- */

/* Into the mailbox with all from `newest` to `oldest`. */
static bool loop_mail_put(struct il_loop *loop, struct job *newest, struct job *oldest)
{
    struct job *top = atomic_load_explicit(&loop->shared.mail, memory_order_relaxed);
    bool is_sealed;

    /* Once a job is in the mailbox, whatever kept the loop for us may be gone by the job itself,
     * and then the loop, before we have woken it. */
    (void)loop_ref(loop);
    do {
        oldest->next = top;
        is_sealed = top == LOOP_MAIL_SEALED;
    } while (!is_sealed && !atomic_compare_exchange_weak(&loop->shared.mail, &top, newest));
    if (!is_sealed) {
        loop_wake(loop);
    }
    (void)loop_unref(loop);
    return !is_sealed || IL_MUTANT(SEALED_MAIL);
}

bool loop_post(struct il_loop *loop, struct job *job)
{
    return loop_mail_put(loop, job, job);
}

bool loop_post_all(struct il_loop *loop, struct job **jobs)
{
    struct job *oldest = *jobs;
    struct job *newest = NULL;

    while (*jobs != NULL) { /* the mailbox has the newest first */
        struct job *next = (*jobs)->next;

        (*jobs)->next = newest;
        newest = *jobs;
        *jobs = next;
    }
    if (loop_mail_put(loop, newest, oldest)) {
        return true;
    }
    oldest->next = NULL;
    *jobs = newest;
    return false;
}

void loop_wake(struct il_loop *loop)
{
    int asleep = LOOP_ASLEEP;

    /* Pairs with loop_mail_check_on_sleep: we wrote the mail before we look at `wake`, the loop
     * writes `wake` before it looks at the mail; so at least one of us sees the other. */
    if (atomic_load(&loop->shared.wake) == LOOP_ASLEEP &&
        atomic_compare_exchange_strong(&loop->shared.wake, &asleep, LOOP_NOTIFIED)) {
        sys_wake_post(loop->poller->wake_fd);
    }
}

/* Does somebody want the loop whom its present holder must let have it? */
static bool loop_is_wanted(struct il_loop *loop)
{
    return loop_is_claimed(loop) ||
           (atomic_load(&loop->shared.is_stood_in) && !loop_wants_stand_in(loop));
}

/* Say that from now on a wake-up is needed, and post it ourselves if there is a reason to wake
 * already: mail, or somebody who wants the loop. */
static void loop_mail_check_on_sleep(struct il_loop *loop)
{
    atomic_store(&loop->shared.wake, LOOP_ASLEEP);
    if (IL_MUTANT(LOST_WAKE)) {
        return;
    }
    if (atomic_load(&loop->shared.mail) != NULL || loop_is_wanted(loop)) {
        loop_wake(loop);
    }
}

/* Move a batch of mail, oldest first, to the run queue. */
static void loop_mail_sort(struct il_loop *loop, struct job *newest)
{
    struct job *oldest = NULL;

    while (newest != NULL) {
        struct job *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct job *next = oldest->next;

        queue_push(&loop->held.ready, oldest);
        oldest = next;
    }
}

static void loop_mail_take(struct il_loop *loop)
{
    if (atomic_load_explicit(&loop->shared.mail, memory_order_relaxed) != NULL) {
        loop_mail_sort(loop, atomic_exchange(&loop->shared.mail, NULL));
    }
}

void loop_push(struct il_loop *loop, struct job *job)
{
    queue_push(&loop->held.ready, job);
}

void loop_push_all(struct il_loop *loop, struct job *jobs)
{
    while (jobs != NULL) {
        struct job *next = jobs->next;

        queue_push(&loop->held.ready, jobs);
        jobs = next;
    }
}

void loop_push_late(struct il_loop *loop, struct job *job)
{
    queue_push(&loop->held.late, job);
}

/* ---- a turn ---- */

/* Run what is ready now; what becomes ready meanwhile waits for the next turn, so that timers and
 * sockets get their share. */
static enum loop_result loop_run_ready(struct il_loop *loop)
{
    struct job_queue *ready = &loop->held.ready;
    struct job **end = ready->tail;
    uint64_t batch = ++loop->held.batch;
    struct job *job;

    while ((job = ready->head) != NULL) {
        bool is_last = &job->next == end;

        (void)queue_pop(ready);
        if (job->run(loop, job) == LOOP_LOST) {
            return LOOP_LOST;
        }
        /* A callback may have lost the loop and have it again: who had it meanwhile has begun a
         * batch of his own, and `end` says nothing any more. */
        if (is_last || loop->held.batch != batch) {
            break;
        }
    }
    return LOOP_HELD;
}

static void loop_run_late(struct il_loop *loop)
{
    struct job *job;

    while ((job = queue_pop(&loop->held.late)) != NULL) {
        il_assert(job->run(loop, job) == LOOP_HELD);
    }
}

/* On its own, so that a stack trace says: this thread waits for events, on purpose. */
static IL_NOINLINE int il_loop_idle_waiting_for_events(struct il_loop *loop, uint64_t timeout_ns)
{
    return sys_poller_wait(loop->poller->fd, loop->held.events, LOOP_EVENTS_MAX, timeout_ns);
}

static void loop_poll(struct il_loop *loop, uint64_t deadline_ns)
{
    uint64_t until_ns = il_min_u64(deadline_ns, timers_next_deadline_ns(&loop->held.timers));
    uint64_t timeout_ns = 0;
    int count;

    poller_bury_done(loop->poller);
    if (loop->held.ready.head == NULL && !loop->held.must_return && until_ns > loop->held.now_ns) {
        if (loop->held.before_sleep != NULL) {
            loop->held.before_sleep(loop);
        }
        timeout_ns = until_ns == UINT64_MAX ? SYS_FOREVER : until_ns - loop->held.now_ns;
        atomic_store_explicit(&loop->shared.is_polling, true, memory_order_relaxed);
        loop_note(loop, loop->held.now_ns);
        loop_mail_check_on_sleep(loop);
    }
    count = il_loop_idle_waiting_for_events(loop, timeout_ns);
    if (timeout_ns > 0) {
        atomic_store(&loop->shared.wake, LOOP_AWAKE);
        atomic_store_explicit(&loop->shared.is_polling, false, memory_order_relaxed);
        if (loop->on_awake != NULL) {
            loop->on_awake(loop);
        }
    }
    il_assert(count >= 0);
    loop->held.has_polled = true;
    loop->held.event_index = 0;
    loop->held.event_count = count;
    loop->held.now_ns = sys_now_ns();
    loop_note(loop, loop->held.now_ns);
}

static void loop_dispatch_events(struct il_loop *loop)
{
    while (loop->held.event_index < loop->held.event_count) {
        struct epoll_event *event = &loop->held.events[loop->held.event_index++];

        if (event->data.ptr != NULL) { /* NULL is the wake-up: it has done its work */
            watch_dispatch(event->data.ptr, event->events);
        }
    }
}

enum loop_result loop_turn(struct il_loop *loop, uint64_t deadline_ns)
{
    il_assert(loop_is_held_by_me(loop));
    loop->held.must_return = false;
    loop_mail_take(loop);
    timers_run(&loop->held.timers, loop->held.now_ns);
    if (loop_run_ready(loop) == LOOP_LOST) {
        return LOOP_LOST;
    }
    loop_run_late(loop);
    if (loop->held.must_return && loop->is_thread_loop) {
        return LOOP_HELD; /* its thread has what it waits for, and no task lives here: save the poll
                           */
    }
    loop_poll(loop, deadline_ns);
    loop_dispatch_events(loop);
    loop_run_late(loop); /* of events; the holder may not come back for another turn soon */
    return LOOP_HELD;
}

bool loop_has_just_polled(const struct il_loop *loop)
{
    return loop->held.has_polled && loop->held.event_count < LOOP_EVENTS_MAX &&
           loop->held.event_index == loop->held.event_count &&
           sys_now_ns() - loop->held.now_ns < LOOP_JUST_NS;
}

/* ---- guests and the end ---- */

static bool loop_is_over(void *arg)
{
    return loop_has_ended(arg);
}

void loop_wait_ended(struct il_loop *loop)
{
    il_assert(!loop_hold_unless(loop, loop_is_over, loop));
}

void loop_guest_add(struct il_loop *loop, struct loop_guest *guest)
{
    il_list_push_back(&loop->held.guests, &guest->link);
}

void loop_guest_remove(struct loop_guest *guest)
{
    il_list_unlink(&guest->link);
}

static void loop_evict_guests(struct il_loop *loop)
{
    struct il_list *node;

    while ((node = il_list_pop_front(&loop->held.guests)) != NULL) {
        struct loop_guest *guest = il_container_of(node, struct loop_guest, link);

        guest->on_loop_end(guest);
    }
}

bool loop_try_seal(struct il_loop *loop)
{
    struct job *empty = NULL;

    il_assert(loop_is_held_by_me(loop));
    return loop->held.ready.head == NULL && loop->held.late.head == NULL &&
           atomic_compare_exchange_strong(&loop->shared.mail, &empty, LOOP_MAIL_SEALED);
}

void loop_end(struct il_loop *loop)
{
    struct job *job;

    il_assert(loop_is_held_by_me(loop));
    il_assert(atomic_load(&loop->shared.mail) == LOOP_MAIL_SEALED);
    loop->held.is_ending = true;
    do { /* what guests leave behind are jobs, and those may leave guests */
        loop_evict_guests(loop);
        while ((job = queue_pop(&loop->held.ready)) != NULL) {
            il_assert(job->run(loop, job) == LOOP_HELD);
        }
        loop_run_late(loop);
    } while (!il_list_is_empty(&loop->held.guests) || loop->held.ready.head != NULL);
    timers_deinit(&loop->held.timers);
    loop_unregister(loop);
    poller_close(loop->poller); /* its descriptors stay for posters that are just waking us */
    il_free(loop->held.scratch);
    loop->held.scratch = NULL;
    loop_note(loop, sys_now_ns());
    atomic_store(
        &loop->shared.hold,
        hold_word_free(atomic_load_explicit(&loop->shared.hold, memory_order_relaxed), LOOP_ENDED));
    loop_hold_recheck(loop);
}
