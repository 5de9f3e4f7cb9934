/* poller.c: an epoll set, and the descriptors it watches. The rules stand in poller.h.
 *
 * Why a watch can be buried and freed without a lock: it is removed from the epoll set before it is
 * buried, and the loop frees what is buried only before it polls. So a watch that the loop frees
 * was removed before that poll began and cannot come out of it; and a watch that is buried while
 * the loop polls, or works through what a poll returned, stays until the batch is done. Once the
 * loop has ended there is no batch, and whoever buries also frees. */
#include "loop/poller.h"

#define WATCH_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

enum il_code poller_new(const char *name, struct timers *timers, struct poller **ret_poller,
                        struct il_error *err)
{
    struct poller *poller = il_calloc(1, sizeof(*poller));
    int result;

    if (poller == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for the poller of loop '%s'", name);
    }
    atomic_init(&poller->ref_count, 1);
    poller->timers = timers;
    poller->fd = sys_poller_open();
    if (poller->fd < 0) {
        il_fail_errno(err, IL_ESYS, -poller->fd, "create the epoll set of loop '%s'", name);
        goto fail_poller;
    }
    poller->wake_fd = sys_wake_open();
    if (poller->wake_fd < 0) {
        il_fail_errno(err, IL_ESYS, -poller->wake_fd, "create the wake-up of loop '%s'", name);
        goto fail_wake;
    }
    result = sys_poller_add(poller->fd, poller->wake_fd, EPOLLIN | EPOLLET, NULL);
    if (result < 0) {
        il_fail_errno(err, IL_ESYS, -result, "watch the wake-up of loop '%s'", name);
        goto fail_add;
    }
    *ret_poller = poller;
    return IL_OK;

fail_add:
    sys_close(poller->wake_fd);
fail_wake:
    sys_close(poller->fd);
fail_poller:
    il_free(poller);
    return IL_ESYS;
}

struct poller *poller_ref(struct poller *poller)
{
    atomic_fetch_add_explicit(&poller->ref_count, 1, memory_order_relaxed);
    return poller;
}

struct poller *poller_unref(struct poller *poller)
{
    uint32_t before = atomic_fetch_sub_explicit(&poller->ref_count, 1, memory_order_acq_rel);

    il_assert(before > 0);
    if (before == 1) {
        il_assert(atomic_load(&poller->graves) == NULL); /* each would hold a reference */
        sys_close(poller->wake_fd);
        sys_close(poller->fd);
        il_free(poller);
    }
    return NULL;
}

void poller_bury_done(struct poller *poller)
{
    struct watch *watch;

    if (atomic_load(&poller->graves) == NULL) {
        return;
    }
    watch = atomic_exchange(&poller->graves, NULL);
    while (watch != NULL) {
        struct watch *next = watch->grave_next;

        if (!atomic_load(&poller->is_closed)) { /* else the timers are gone */
            timer_cancel(poller->timers, &watch->rest_timer);
        }
        (void)poller_unref(watch->poller);
        il_free(watch);
        watch = next;
    }
}

void poller_close(struct poller *poller)
{
    atomic_store(&poller->is_closed, true);
    poller_bury_done(poller);
}

static void watch_on_rest_timer(struct timer *timer)
{
    struct watch *watch = il_container_of(timer, struct watch, rest_timer);

    if (atomic_load_explicit(&watch->state, memory_order_acquire) != WATCH_RESTING) {
        return; /* armed anew when it next rests */
    }
    if (sys_now_ns() < watch->rest_deadline_ns) { /* it has been in use since */
        timer_arm(watch->poller->timers, timer, watch->rest_deadline_ns);
    } else {
        watch->on_rest_timeout(watch);
    }
}

enum il_code watch_open(struct poller *poller, int fd,
                        void (*on_event)(struct watch *watch, uint32_t events),
                        void (*on_rest_event)(struct watch *watch, uint32_t events), void *arg,
                        struct watch **ret_watch, struct il_error *err)
{
    struct watch *watch = il_malloc(sizeof(*watch));
    int result;

    if (watch == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory to watch a socket");
    }
    *watch = (struct watch){ .poller = poller_ref(poller),
                             .fd = fd,
                             .on_event = on_event,
                             .on_rest_event = on_rest_event,
                             .arg = arg };
    atomic_init(&watch->state, WATCH_DRIVEN);
    timer_init(&watch->rest_timer, watch_on_rest_timer);
    result = sys_poller_add(poller->fd, fd, WATCH_EVENTS, watch);
    if (result < 0) {
        (void)poller_unref(watch->poller);
        il_free(watch);
        return il_fail_errno(err, IL_ESYS, -result, "add socket %d to an epoll set", fd);
    }
    *ret_watch = watch;
    return IL_OK;
}

void watch_bury(struct watch *watch)
{
    struct poller *poller = poller_ref(watch->poller); /* the watch's own may go at any moment */
    struct watch *top = atomic_load_explicit(&poller->graves, memory_order_relaxed);

    il_assert(atomic_load(&watch->state) == WATCH_GONE);
    il_assert(sys_poller_remove(poller->fd, watch->fd) == 0); /* else events for freed memory */
    do {
        watch->grave_next = top;
    } while (!atomic_compare_exchange_weak_explicit(&poller->graves, &top, watch,
                                                    memory_order_seq_cst, memory_order_relaxed));
    if (atomic_load(&poller->is_closed)) {
        poller_bury_done(poller);
    }
    (void)poller_unref(poller);
}

void watch_close(struct watch *watch)
{
    il_assert(atomic_load(&watch->state) == WATCH_DRIVEN);
    atomic_store(&watch->state, WATCH_GONE);
    watch_bury(watch);
}

void watch_rest(struct watch *watch, uint64_t deadline_ns)
{
    il_assert(atomic_load(&watch->state) == WATCH_DRIVEN);
    watch->rest_deadline_ns = deadline_ns;
    if (deadline_ns != TIMER_NEVER && !timer_is_armed(&watch->rest_timer)) {
        timer_arm(watch->poller->timers, &watch->rest_timer, deadline_ns);
    }
    /* release: the claimer sees all that was done to the connection */
    atomic_store_explicit(&watch->state, WATCH_RESTING, memory_order_release);
}

bool watch_claim_here(struct watch *watch)
{
    int resting = WATCH_RESTING;

    return atomic_compare_exchange_strong_explicit(&watch->state, &resting, WATCH_DRIVEN,
                                                   memory_order_acquire, memory_order_relaxed);
}

bool watch_claim_away(struct watch *watch)
{
    int resting = WATCH_RESTING;

    return atomic_compare_exchange_strong_explicit(&watch->state, &resting, WATCH_GONE,
                                                   memory_order_acquire, memory_order_relaxed);
}

void watch_dispatch(struct watch *watch, uint32_t events)
{
    switch (atomic_load_explicit(&watch->state, memory_order_acquire)) {
    case WATCH_DRIVEN:
        watch->on_event(watch, events);
        break;
    case WATCH_RESTING:
        watch->on_rest_event(watch, events);
        break;
    default: /* went away after the event was collected; its next poller reports the state anew */
        break;
    }
}
