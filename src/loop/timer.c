/* timer.c: a hierarchical timing wheel that does not tick.
 *
 * Owns: nothing but its places in the caller's timers. Thread: the holder of the loop. Ends: with
 *   timers_deinit.
 *
 * Time is counted in ticks. A tick number is read as eight digits of six bits; `timers->tick` is
 * the present. A timer lies at the level of the highest digit in which its tick differs from the
 * present, in the slot that this digit names. It follows that every timer of a level is due before
 * any of a higher level, and within a level slots are due in order: no slot wraps around. So the
 * next timer is in the first used slot of the lowest used level, found with two bit scans, and time
 * can jump to it, however far: nothing has to be stepped through, and an idle loop sleeps until a
 * timer is due.
 *
 * When the present reaches the first tick of a slot of a higher level its timers move to lower ones
 * (each timer at most seven times in its life; one that is cancelled, as most are, usually never).
 * A sleeping loop must not wake for that, so each slot knows the tick at which its first timer is
 * due, and the move is made then.
 *
 * Why not a heap: nearly every timer here is a time limit that is cancelled, and both arming and
 * cancelling would cost a heap log n cache misses. */
#include "loop/timer.h"

#define SLOT_BITS 6
#define SLOT_MASK ((uint64_t)TIMERS_SLOT_COUNT - 1)

/* timer.place: level * TIMERS_SLOT_COUNT + slot, or one of these. */
enum {
    PLACE_OVERDUE = TIMERS_LEVEL_COUNT * TIMERS_SLOT_COUNT,
    PLACE_FIRING,
};

_Static_assert(TIMERS_SLOT_COUNT == 1 << SLOT_BITS, "a digit names a slot");
_Static_assert(64 - TIMER_TICK_SHIFT < SLOT_BITS * TIMERS_LEVEL_COUNT, "any tick has its level");

/* The tick at which a timer is due: its deadline, rounded up. */
static uint64_t tick_due(const struct timer *timer)
{
    return (timer->deadline_ns >> TIMER_TICK_SHIFT) +
           ((timer->deadline_ns & (TIMER_TICK_NS - 1)) != 0);
}

static uint64_t tick_to_ns(uint64_t tick)
{
    return tick > UINT64_MAX >> TIMER_TICK_SHIFT ? TIMER_NEVER - 1 : tick << TIMER_TICK_SHIFT;
}

static unsigned tick_digit(uint64_t tick, unsigned level)
{
    return (unsigned)(tick >> (level * SLOT_BITS) & SLOT_MASK);
}

/* The level of the highest digit in which two different ticks differ. */
static unsigned tick_level(uint64_t a, uint64_t b)
{
    return (63 - (unsigned)__builtin_clzll(a ^ b)) / SLOT_BITS;
}

/* The first tick of a slot of `level`, seen from the present. */
static uint64_t slot_first_tick(const struct timers *timers, unsigned level, unsigned slot)
{
    unsigned shift = level * SLOT_BITS;

    return ((timers->tick >> shift & ~SLOT_MASK) | slot) << shift;
}

void timers_init(struct timers *timers, uint64_t now_ns)
{
    *timers = (struct timers){ .tick = now_ns >> TIMER_TICK_SHIFT };
    il_list_init(&timers->overdue);
    il_list_init(&timers->firing);
    for (unsigned level = 0; level < TIMERS_LEVEL_COUNT; level++) {
        for (unsigned slot = 0; slot < TIMERS_SLOT_COUNT; slot++) {
            il_list_init(&timers->slots[level][slot].list);
        }
    }
}

static void list_drain(struct il_list *list)
{
    while (il_list_pop_front(list) != NULL) {
        continue;
    }
}

void timers_deinit(struct timers *timers)
{
    il_assert(!timers->is_running);
    list_drain(&timers->overdue);
    for (unsigned level = 0; level < TIMERS_LEVEL_COUNT; level++) {
        for (unsigned slot = 0; slot < TIMERS_SLOT_COUNT; slot++) {
            list_drain(&timers->slots[level][slot].list);
        }
        timers->slots_used[level] = 0;
    }
    timers->levels_used = 0;
    timers->count = 0;
}

void timer_init(struct timer *timer, void (*on_fire)(struct timer *timer))
{
    *timer = (struct timer){ .on_fire = on_fire };
    il_list_init(&timer->link);
}

/* ---- slots ---- */

static void slot_insert(struct timers *timers, struct timer *timer, uint64_t tick)
{
    unsigned level = tick_level(tick, timers->tick);
    unsigned index = tick_digit(tick, level);
    struct timers_slot *slot = &timers->slots[level][index];

    if (il_list_is_empty(&slot->list) || tick < slot->tick_min) {
        slot->tick_min = tick;
        slot->is_min_exact = true;
    }
    il_list_push_back(&slot->list, &timer->link);
    timer->place = (uint16_t)(level * TIMERS_SLOT_COUNT + index);
    timers->slots_used[level] |= (uint64_t)1 << index;
    timers->levels_used |= 1u << level;
}

static void slot_mark_unused(struct timers *timers, unsigned level, unsigned index)
{
    timers->slots_used[level] &= ~((uint64_t)1 << index);
    if (timers->slots_used[level] == 0) {
        timers->levels_used &= ~(1u << level);
    }
}

/* Look for the first timer of a slot whose first has been cancelled, if that is quickly done. */
static void slot_find_min(struct timers_slot *slot)
{
    uint64_t tick_min = UINT64_MAX;
    unsigned seen_count = 0;

    il_list_for_each(&slot->list, link)
    {
        if (++seen_count > TIMERS_SCAN_MAX) {
            return;
        }
        tick_min = il_min_u64(tick_min, tick_due(il_container_of(link, struct timer, link)));
    }
    slot->tick_min = tick_min;
    slot->is_min_exact = true;
}

/* ---- arming and cancelling ---- */

static void timer_place(struct timers *timers, struct timer *timer)
{
    uint64_t tick = tick_due(timer);

    if (tick > timers->tick) {
        slot_insert(timers, timer, tick);
    } else {
        timer->place = PLACE_OVERDUE;
        il_list_push_back(&timers->overdue, &timer->link);
    }
}

static void timer_take_out(struct timers *timers, struct timer *timer)
{
    unsigned level = timer->place / TIMERS_SLOT_COUNT, index = timer->place % TIMERS_SLOT_COUNT;
    struct timers_slot *slot;

    il_list_unlink(&timer->link);
    if (timer->place >= PLACE_OVERDUE) {
        return;
    }
    slot = &timers->slots[level][index];
    if (il_list_is_empty(&slot->list) || IL_MUTANT(TIMER_SLOT)) {
        slot_mark_unused(timers, level, index);
    } else if (tick_due(timer) == slot->tick_min) {
        slot->is_min_exact = level == 0; /* where all timers of a slot are due at the same tick */
    }
}

void timer_arm(struct timers *timers, struct timer *timer, uint64_t deadline_ns)
{
    timer_cancel(timers, timer);
    timer->deadline_ns = deadline_ns;
    if (deadline_ns != TIMER_NEVER) {
        timer_place(timers, timer);
        timers->count++;
    }
}

void timer_cancel(struct timers *timers, struct timer *timer)
{
    if (timer_is_armed(timer)) {
        il_assert(timers->count > 0);
        timer_take_out(timers, timer);
        timers->count--;
    }
}

/* ---- time ---- */

/* The first used slot. False if there is none. */
static bool timers_first_slot(const struct timers *timers, unsigned *ret_level, unsigned *ret_index)
{
    if (timers->levels_used == 0) {
        return false;
    }
    *ret_level = (unsigned)__builtin_ctz(timers->levels_used);
    *ret_index = (unsigned)__builtin_ctzll(timers->slots_used[*ret_level]);
    return true;
}

uint64_t timers_next_deadline_ns(struct timers *timers)
{
    struct timers_slot *slot;
    unsigned level, index;

    if (!il_list_is_empty(&timers->overdue) || !il_list_is_empty(&timers->firing)) {
        return tick_to_ns(timers->tick);
    }
    if (!timers_first_slot(timers, &level, &index)) {
        return TIMER_NEVER;
    }
    slot = &timers->slots[level][index];
    if (!slot->is_min_exact) {
        slot_find_min(slot);
    }
    return tick_to_ns(slot->tick_min);
}

/* Let the present be the first tick of this slot, and put its timers where they belong then. Those
 * of one tick always lie in one list, in the order in which they were armed, and are moved so. */
static void timers_enter_slot(struct timers *timers, unsigned level, unsigned index)
{
    struct il_list entered = IL_LIST_INIT(entered);
    struct il_list *link;

    timers->tick = slot_first_tick(timers, level, index);
    il_list_splice(&entered, &timers->slots[level][index].list);
    slot_mark_unused(timers, level, index);
    while ((link = il_list_pop_front(&entered)) != NULL) {
        struct timer *timer = il_container_of(link, struct timer, link);
        uint64_t tick = tick_due(timer);

        if (tick > timers->tick) {
            slot_insert(timers, timer, tick);
        } else {
            timer->place = PLACE_FIRING;
            il_list_push_back(&timers->firing, &timer->link);
        }
    }
}

/* Move everything that is due by `now` into `firing`. */
static void timers_collect(struct timers *timers, uint64_t tick_now)
{
    unsigned level, index;

    il_list_for_each(&timers->overdue, link)
    {
        il_container_of(link, struct timer, link)->place = PLACE_FIRING;
    }
    il_list_splice(&timers->firing, &timers->overdue);
    while (timers_first_slot(timers, &level, &index) &&
           slot_first_tick(timers, level, index) <= tick_now) {
        timers_enter_slot(timers, level, index);
    }
    timers->tick = il_max_u64(timers->tick, tick_now);
}

size_t timers_run(struct timers *timers, uint64_t now_ns)
{
    struct il_list *link;
    size_t fired_count = 0;

    il_assert(!timers->is_running);
    timers->is_running = true;
    timers_collect(timers, now_ns >> TIMER_TICK_SHIFT);
    while ((link = il_list_pop_front(&timers->firing)) != NULL) {
        struct timer *timer = il_container_of(link, struct timer, link);

        timers->count--;
        fired_count++;
        timer->on_fire(timer);
    }
    timers->is_running = false;
    return fired_count;
}

/* ---- validation ---- */

static size_t validate_list(const struct il_list *list, unsigned place)
{
    size_t count = 0;

    il_list_for_each(list, link)
    {
        il_assert(link->next->prev == link);
        il_assert(il_container_of(link, struct timer, link)->place == place);
        count++;
    }
    return count;
}

static size_t validate_slot(const struct timers *timers, unsigned level, unsigned index)
{
    const struct timers_slot *slot = &timers->slots[level][index];
    uint64_t tick_min = UINT64_MAX;

    il_assert(il_list_is_empty(&slot->list) == !(timers->slots_used[level] >> index & 1));
    il_list_for_each(&slot->list, link)
    {
        uint64_t tick = tick_due(il_container_of(link, struct timer, link));

        il_assert(tick > timers->tick);
        il_assert(tick_level(tick, timers->tick) == level);
        il_assert(tick_digit(tick, level) == index);
        tick_min = il_min_u64(tick_min, tick);
    }
    if (tick_min != UINT64_MAX) {
        il_assert(slot->tick_min <= tick_min);
        il_assert(slot->tick_min >= slot_first_tick(timers, level, index));
        il_assert(!slot->is_min_exact || slot->tick_min == tick_min);
    }
    return validate_list(&slot->list, level * TIMERS_SLOT_COUNT + index);
}

void timers_validate(const struct timers *timers)
{
    size_t count = validate_list(&timers->overdue, PLACE_OVERDUE) +
                   validate_list(&timers->firing, PLACE_FIRING);

    il_assert(timers->is_running || il_list_is_empty(&timers->firing));
    for (unsigned level = 0; level < TIMERS_LEVEL_COUNT; level++) {
        il_assert((timers->slots_used[level] != 0) == (timers->levels_used >> level & 1));
        for (unsigned index = 0; index < TIMERS_SLOT_COUNT; index++) {
            count += validate_slot(timers, level, index);
        }
    }
    il_assert(count == timers->count);
}
