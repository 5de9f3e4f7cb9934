/* waitq.c: who waits for something that several loops share, and whose turn it is. See waitq.h.
 *
 * Owns: nothing: queues and waiters are their users' memory. A waiter is in a queue only while its
 *   user is in a function that waits, or keeps it there on purpose.
 * Threads: any, with the mutex of the queue's owner held. */
#include "sync/waitq.h"

#define WAKES_MAX 16

void waitq_init(struct waitq *queue, uint64_t amount)
{
    *queue = (struct waitq){ .amount = amount };
    il_list_init(&queue->heads);
}

void waitq_deinit(struct waitq *queue)
{
    il_assert(il_list_is_empty(&queue->heads)); /* somebody still waits for it */
    il_assert(queue->waiter_count == 0);
    il_assert(queue->favoured == NULL);
}

void waiter_init(struct waiter *waiter, struct party *party, uint64_t need)
{
    il_assert(need >= 1 && need < WAITQ_ALL);
    *waiter = (struct waiter){ .party = party, .need = need };
    il_list_init(&waiter->line);
    il_list_init(&waiter->head);
}

/* ---- lines ---- */

static bool waiter_is_head(const struct waiter *waiter)
{
    return il_list_is_linked(&waiter->head);
}

static bool waiter_is_queued(const struct waiter *waiter)
{
    return waiter_is_head(waiter) || il_list_is_linked(&waiter->line);
}

static bool waiters_share_a_line(const struct waiter *a, const struct waiter *b)
{
    const struct il_loop *loop_a = a->party->loop, *loop_b = b->party->loop;

    return loop_a == loop_b || (loop_a->is_thread_loop && loop_b->is_thread_loop);
}

static struct waiter *waitq_find_head(struct waitq *queue, const struct waiter *waiter)
{
    il_list_for_each(&queue->heads, node)
    {
        struct waiter *head = il_container_of(node, struct waiter, head);

        if (waiters_share_a_line(head, waiter)) {
            return head;
        }
    }
    return NULL;
}

static void waitq_push(struct waitq *queue, struct waiter *waiter)
{
    struct waiter *head = waitq_find_head(queue, waiter);

    if (head == NULL) {
        il_list_push_back(&queue->heads, &waiter->head);
    } else {
        il_list_insert_before(&head->line, &waiter->line); /* in a ring: behind the last */
    }
    queue->waiter_count++;
}

static void waiter_tell_to_look(struct waitq *queue, struct waiter *head)
{
    /* Who needs more than one must know when its chances change, for amounts that are too small
     * do not wake it, and it can be favoured only when it asks. */
    if (head->need > 1) {
        head->must_look = true;
        queue->must_look = true;
    }
}

static void waitq_end_favour(struct waitq *queue)
{
    queue->favoured = NULL;
    queue->is_challenged = false;
    il_list_for_each(&queue->heads, node)
    {
        waiter_tell_to_look(queue, il_container_of(node, struct waiter, head));
    }
}

void waitq_leave_locked(struct waitq *queue, struct waiter *waiter)
{
    struct waiter *next = il_container_of(waiter->line.next, struct waiter, line);

    if (!waiter_is_queued(waiter)) {
        return;
    }
    il_list_unlink(&waiter->line);
    if (waiter_is_head(waiter)) {
        il_list_unlink(&waiter->head);
        if (next != waiter && !IL_MUTANT(LINE_HEAD)) {
            il_list_push_back(&queue->heads, &next->head);
            waiter_tell_to_look(queue, next);
        }
    }
    if (queue->favoured == waiter) {
        waitq_end_favour(queue);
    }
    il_assert(queue->waiter_count > 0);
    queue->waiter_count--;
}

/* ---- favour ---- */

/* From when on the waiter may be favoured. */
static uint64_t waiter_favour_from_ns(const struct waitq *queue, const struct waiter *waiter)
{
    uint64_t from_ns = waiter->since_ns + WAITQ_FAVOUR_AFTER_NS;

    /* One that needs a single unit takes what it is favoured for; it keeps nothing back. */
    return waiter->need > 1 ? il_max_u64(from_ns, queue->share_until_ns) : from_ns;
}

/* A head asks again, in vain: let it have what it may have of favour. */
static void waitq_consider_favour(struct waitq *queue, struct waiter *waiter, uint64_t now_ns)
{
    uint64_t waited_ns = now_ns - waiter->since_ns;

    if (queue->favoured == waiter) {
        if (now_ns < waiter->favour_until_ns) {
            queue->is_challenged = false; /* this is its answer */
        } else {
            queue->share_until_ns = now_ns + waited_ns / 2; /* for as long as it was favoured */
            waitq_end_favour(queue);
        }
    } else if (now_ns >= waiter_favour_from_ns(queue, waiter) &&
               (queue->favoured == NULL || waiter->since_ns < queue->favoured->since_ns)) {
        queue->favoured = waiter;
        queue->is_challenged = false;
        waiter->favour_until_ns = now_ns + waited_ns;
    }
}

/* Somebody else than the favoured one could take. Is the favour over, or must it answer first? */
static bool waitq_challenge(struct waitq *queue, uint64_t now_ns)
{
    if (!queue->is_challenged) {
        queue->is_challenged = true;
        queue->answer_until_ns = now_ns + WAITQ_ANSWER_NS;
    } else if (now_ns >= queue->answer_until_ns) {
        waitq_end_favour(queue);
        return true;
    }
    return false;
}

/* ---- asking ---- */

static bool waitq_has(const struct waitq *queue, uint64_t need)
{
    return queue->amount >= need;
}

bool waitq_try_locked(struct waitq *queue, uint64_t need)
{
    if (!waitq_has(queue, need)) {
        return false;
    }
    return queue->favoured == NULL || queue->amount == WAITQ_ALL ||
           waitq_challenge(queue, sys_now_ns());
}

/* Is it the waiter's turn, provided that there is enough? */
static bool waitq_is_turn_of(struct waitq *queue, struct waiter *waiter, uint64_t now_ns)
{
    if (queue->amount == WAITQ_ALL) {
        return true;
    }
    if (!waiter_is_head(waiter) &&
        (waiter_is_queued(waiter) || waitq_find_head(queue, waiter) != NULL)) {
        return false;
    }
    if (queue->favoured == NULL || queue->favoured == waiter) {
        return true;
    }
    waiter->gives_way = !waitq_challenge(queue, now_ns);
    return !waiter->gives_way;
}

/* When to ask again, if nobody wakes the waiter before. */
static uint64_t waiter_again_ns(const struct waitq *queue, const struct waiter *waiter)
{
    if (waiter->gives_way) {
        return queue->answer_until_ns;
    }
    if (waiter->need > 1 && waiter_is_head(waiter) && queue->favoured == NULL) {
        return waiter_favour_from_ns(queue, waiter);
    }
    return IL_FOREVER;
}

bool waitq_ask_locked(struct waitq *queue, struct waiter *waiter, uint64_t *ret_again_ns)
{
    uint64_t now_ns;

    waiter->is_woken = false;
    waiter->must_look = false;
    waiter->gives_way = false;
    if (il_list_is_empty(&queue->heads) && waitq_has(queue, waiter->need)) {
        return true;
    }
    now_ns = sys_now_ns();
    if (waitq_has(queue, waiter->need) && waitq_is_turn_of(queue, waiter, now_ns)) {
        waitq_leave_locked(queue, waiter);
        return true;
    }
    if (waiter_is_head(waiter)) {
        waitq_consider_favour(queue, waiter, now_ns);
        if (queue->favoured == waiter && waitq_has(queue, waiter->need)) {
            waitq_leave_locked(queue, waiter); /* older than the one it had to give way to */
            return true;
        }
    }
    if (!waiter_is_queued(waiter)) {
        waiter->since_ns = now_ns;
        waitq_push(queue, waiter);
    }
    *ret_again_ns = waiter_again_ns(queue, waiter);
    return false;
}

/* ---- waking ---- */

struct wakes {
    unsigned count;
    struct party *parties[WAKES_MAX]; /* references */
};

static bool waitq_must_wake(const struct waitq *queue, const struct waiter *head)
{
    if (head->is_woken) {
        return false;
    }
    if (head->must_look || (head == queue->favoured && queue->is_challenged)) {
        return true;
    }
    return waitq_has(queue, head->need) &&
           (!head->gives_way || queue->favoured == NULL || queue->amount == WAITQ_ALL);
}

/* False if there are more than fit. */
static bool waitq_collect(struct waitq *queue, struct wakes *wakes)
{
    if (queue->amount == 0 && !queue->is_challenged && !queue->must_look) {
        return true;
    }
    il_list_for_each(&queue->heads, node)
    {
        struct waiter *head = il_container_of(node, struct waiter, head);

        if (waitq_must_wake(queue, head)) {
            if (wakes->count == WAKES_MAX) {
                return false;
            }
            head->is_woken = true;
            wakes->parties[wakes->count++] = party_ref(head->party);
        }
    }
    queue->must_look = false;
    return true;
}

static void wakes_send(struct wakes *wakes)
{
    for (unsigned i = 0; i < wakes->count; i++) {
        party_wake(wakes->parties[i]);
        (void)party_unref(wakes->parties[i]);
    }
    wakes->count = 0;
}

void waitq_unlock(struct waitq *queue, struct waitq *other, struct sys_mutex *mutex) IL_NO_TSA
{
    struct wakes wakes = { .count = 0 };

    while (!waitq_collect(queue, &wakes) || (other != NULL && !waitq_collect(other, &wakes))) {
        sys_mutex_unlock(mutex);
        wakes_send(&wakes);
        sys_mutex_lock(mutex);
    }
    sys_mutex_unlock(mutex);
    wakes_send(&wakes);
}

/* ---- waiting ---- */

void waitq_take_turns(struct waitq *queue)
{
    /* A lost count between threads is no harm. */
    uint32_t streak = atomic_load_explicit(&queue->streak, memory_order_relaxed) + 1;

    if (streak < WAITQ_STREAK_MAX) {
        atomic_store_explicit(&queue->streak, streak, memory_order_relaxed);
        return;
    }
    atomic_store_explicit(&queue->streak, 0, memory_order_relaxed);
    (void)il_yield(); /* if it fails, so will what the caller does next, and say it better */
}

enum il_code waitq_wait_locked(struct waitq *queue, struct sys_mutex *mutex, struct rt_place *place,
                               uint64_t need, uint64_t deadline_ns, const char *what) IL_NO_TSA
{
    enum il_code code = rt_check_cancelled(place);
    struct waiter waiter;
    uint64_t again_ns;

    waiter_init(&waiter, place->party, need);
    while (code == IL_OK) {
        if (waitq_ask_locked(queue, &waiter, &again_ns)) {
            return IL_OK;
        }
        atomic_store_explicit(&queue->streak, 0, memory_order_relaxed);
        waitq_unlock(queue, NULL, mutex);
        code = rt_wait(place, il_min_u64(deadline_ns, again_ns), what);
        sys_mutex_lock(mutex);
        if (code == IL_ETIMEDOUT) {
            if (again_ns < deadline_ns && sys_now_ns() < deadline_ns) {
                code = IL_OK; /* it was only time to ask again */
            } else if (waitq_ask_locked(queue, &waiter, &again_ns)) {
                return IL_OK; /* it came at the last moment */
            }
        }
    }
    waitq_leave_locked(queue, &waiter);
    return code;
}

/* ---- tests ---- */

void waitq_validate_locked(struct waitq *queue)
{
    uint32_t count = 0;
    bool has_favoured = false;

    il_list_for_each(&queue->heads, node)
    {
        struct waiter *head = il_container_of(node, struct waiter, head);

        il_assert(waitq_find_head(queue, head) == head); /* one for each line */
        il_assert(!waitq_must_wake(queue, head));
        has_favoured |= head == queue->favoured;
        count++;
        il_list_for_each(&head->line, at)
        {
            struct waiter *waiter = il_container_of(at, struct waiter, line);

            il_assert(!waiter_is_head(waiter));
            il_assert(waiters_share_a_line(head, waiter));
            count++;
        }
    }
    il_assert(count == queue->waiter_count);
    il_assert(has_favoured == (queue->favoured != NULL));
}
