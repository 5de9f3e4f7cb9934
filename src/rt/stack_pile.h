/* stack_pile.h: free stacks, of a cache or of the pool. For stack.c and stack_depot.c only.
 *
 * A stack that nobody took out of a pile during some time has lain below all those that were. So
 * the smallest count of that time says how many lay unused, and they are the ones at the bottom: no
 * stack needs a time stamp.
 *
 * Threads: whoever may touch what the pile is part of. */
#ifndef RT_STACK_PILE_H
#define RT_STACK_PILE_H

#include "rt/stack.h"

/* So many stacks move between piles at once. Giving back the memory of that many takes some 30 us:
 * no longer, because a loop that trims has other things to do. */
#define STACK_BATCH 32

static inline void pile_init(struct stack_pile *pile)
{
    *pile = (struct stack_pile){ 0 };
    il_list_init(&pile->stacks);
}

static inline void pile_push(struct stack_pile *pile, struct stack *stack)
{
    il_list_push_front(&pile->stacks, &stack->link);
    pile->count++;
}

/* NULL if there is none. */
static inline struct stack *pile_pop(struct stack_pile *pile)
{
    struct il_list *link = il_list_pop_front(&pile->stacks);

    if (link == NULL) {
        return NULL;
    }
    pile->count--;
    if (pile->count < pile->count_low) {
        pile->count_low = pile->count;
    }
    return il_container_of(link, struct stack, link);
}

/* Append the `count` longest unused stacks to `ret_stacks`. */
static inline void pile_take_oldest(struct stack_pile *pile, unsigned count,
                                    struct il_list *ret_stacks)
{
    il_assert(count <= pile->count);
    for (unsigned i = 0; i < count; i++) {
        struct il_list *link = pile->stacks.prev;

        il_list_unlink(link);
        il_list_push_back(ret_stacks, link);
    }
    pile->count -= count;
    if (pile->count < pile->count_low) {
        pile->count_low = pile->count;
    }
}

/* Append up to STACK_BATCH stacks that lay unused for STACK_IDLE_NS to `ret_stacks`. Returns when
 * to ask again: now_ns if there are more of them, UINT64_MAX if the pile is empty. */
static inline uint64_t pile_take_unused(struct stack_pile *pile, uint64_t now_ns,
                                        struct il_list *ret_stacks)
{
    bool is_watched = pile->trimmed_at_ns != 0 && pile->trimmed_at_ns <= now_ns;

    if (is_watched && now_ns - pile->trimmed_at_ns >= STACK_IDLE_NS) {
        unsigned unused = pile->count_low;
        unsigned taken = unused < STACK_BATCH ? unused : STACK_BATCH;

        pile_take_oldest(pile, taken, ret_stacks);
        pile->count_low = unused - taken;
        if (pile->count_low > 0) {
            return now_ns;
        }
        is_watched = false;
    }
    if (!is_watched) { /* from now on */
        pile->trimmed_at_ns = now_ns;
        pile->count_low = pile->count;
    }
    return pile->count == 0 ? UINT64_MAX : pile->trimmed_at_ns + STACK_IDLE_NS;
}

#endif
