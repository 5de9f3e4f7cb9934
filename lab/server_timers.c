/* server_timers.c: a binary heap of timers, each of which knows its place.
 *
 * Owns: the heap's array, not the timers. Threads: the server's. Ends: timers_deinit, with no timer
 *   armed. */
#include <limits.h>
#include <time.h>

#include "lab/server_inside.h"

#define TIMERS_CAPACITY_MIN 64

uint64_t timers_now_ns(void)
{
    struct timespec now;

    il_assert(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool timers_reserve(struct timers *timers, size_t count)
{
    size_t capacity = timers->capacity == 0 ? TIMERS_CAPACITY_MIN : timers->capacity;
    struct timer **heap;

    if (count <= timers->capacity) {
        return true;
    }
    while (capacity < count) {
        capacity *= 2;
    }
    heap = il_realloc(timers->heap, capacity * sizeof(*heap));
    if (heap == NULL) {
        return false;
    }
    timers->heap = heap;
    timers->capacity = capacity;
    return true;
}

void timers_deinit(struct timers *timers)
{
    il_assert(timers->count == 0);
    il_free(timers->heap);
    *timers = (struct timers){ 0 };
}

static void timers_put(struct timers *timers, size_t place, struct timer *timer)
{
    timers->heap[place] = timer;
    timer->place = place;
}

static void timers_up(struct timers *timers, size_t place, struct timer *timer)
{
    while (place > 0) {
        size_t parent = (place - 1) / 2;

        if (timers->heap[parent]->due_ns <= timer->due_ns) {
            break;
        }
        timers_put(timers, place, timers->heap[parent]);
        place = parent;
    }
    timers_put(timers, place, timer);
}

static void timers_down(struct timers *timers, size_t place, struct timer *timer)
{
    for (;;) {
        size_t child = 2 * place + 1;

        if (child >= timers->count) {
            break;
        }
        if (child + 1 < timers->count &&
            timers->heap[child + 1]->due_ns < timers->heap[child]->due_ns) {
            child++;
        }
        if (timers->heap[child]->due_ns >= timer->due_ns) {
            break;
        }
        timers_put(timers, place, timers->heap[child]);
        place = child;
    }
    timers_put(timers, place, timer);
}

void timers_disarm(struct timers *timers, struct timer *timer)
{
    size_t place = timer->place;
    struct timer *last;

    if (place == TIMER_UNARMED) {
        return;
    }
    il_assert(place < timers->count);
    il_assert(timers->heap[place] == timer);
    timer->place = TIMER_UNARMED;
    last = timers->heap[--timers->count];
    if (last == timer) {
        return;
    }
    timers_put(timers, place, last);
    timers_down(timers, place, last);
    timers_up(timers, last->place, last);
}

void timers_arm(struct timers *timers, struct timer *timer, uint64_t due_ns)
{
    timers_disarm(timers, timer);
    il_assert(timers->count < timers->capacity); /* timers_reserve was called */
    timer->due_ns = due_ns;
    timers_up(timers, timers->count++, timer);
}

struct timer *timers_pop_due(struct timers *timers, uint64_t now_ns)
{
    struct timer *timer;

    if (timers->count == 0 || timers->heap[0]->due_ns > now_ns) {
        return NULL;
    }
    timer = timers->heap[0];
    timers_disarm(timers, timer);
    return timer;
}

int timers_timeout_ms(const struct timers *timers, uint64_t now_ns)
{
    uint64_t due_ns;

    if (timers->count == 0) {
        return -1;
    }
    due_ns = timers->heap[0]->due_ns;
    if (due_ns <= now_ns) {
        return 0;
    }
    return (int)il_min_u64((due_ns - now_ns + 999999) / 1000000, INT_MAX);
}
