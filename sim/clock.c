/* clock.c: virtual time: a heap of what is to happen, the earliest on top; among equals, what was
 * set first. Threads: the world's and simulated ones. */
#include <stdlib.h>

#include "sim/inside.h"

static bool is_before(const struct sim_timer *one, const struct sim_timer *other)
{
    return one->at_ns != other->at_ns ? one->at_ns < other->at_ns : one->sequence < other->sequence;
}

static void heap_place(struct sim_timer *timer, size_t place)
{
    sim.heap[place] = timer;
    timer->place = place;
}

static void heap_rise(struct sim_timer *timer, size_t place)
{
    while (place > 1 && is_before(timer, sim.heap[place / 2])) {
        heap_place(sim.heap[place / 2], place);
        place /= 2;
    }
    heap_place(timer, place);
}

static void heap_sink(struct sim_timer *timer, size_t place)
{
    for (size_t child; (child = place * 2) <= sim.heap_count; place = child) {
        if (child < sim.heap_count && is_before(sim.heap[child + 1], sim.heap[child])) {
            child++;
        }
        if (!is_before(sim.heap[child], timer)) {
            break;
        }
        heap_place(sim.heap[child], place);
    }
    heap_place(timer, place);
}

void timer_set(struct sim_timer *timer, uint64_t at_ns)
{
    timer_unset(timer);
    timer->at_ns = at_ns;
    timer->sequence = sim.timer_sequence++;
    if (sim.heap_count + 1 >= sim.heap_size) {
        sim.heap_size = sim.heap_size > 0 ? sim.heap_size * 2 : 256;
        sim.heap = realloc(sim.heap, sim.heap_size * sizeof(sim.heap[0]));
        il_assert(sim.heap != NULL);
    }
    heap_rise(timer, ++sim.heap_count);
}

void timer_unset(struct sim_timer *timer)
{
    size_t place = timer->place;
    struct sim_timer *last;

    if (place == 0) {
        return;
    }
    timer->place = 0;
    last = sim.heap[sim.heap_count--];
    if (last != timer) {
        if (place > 1 && is_before(last, sim.heap[place / 2])) {
            heap_rise(last, place);
        } else {
            heap_sink(last, place);
        }
    }
}
