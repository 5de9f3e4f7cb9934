/* stack_depot.h: what caches of stacks need of the depot. For stack.c only; see stack_depot.c.
 *
 * Threads: any. */
#ifndef RT_STACK_DEPOT_H
#define RT_STACK_DEPOT_H

#include "rt/stack_pile.h"

/* The class of stacks of at least `size` bytes, which is not more than the largest. */
struct stack_class *depot_class(size_t size);

/* What a stack belongs to. */
struct stack_class *depot_class_of(const struct stack *stack);

/* Each cache holds the depot open: while there is none, nothing is kept. */
void depot_open(void);
void depot_close(void);

/* Push up to STACK_BATCH stacks, at least one, on `ret_pile`. */
IL_MUST_USE enum il_code depot_take(struct stack_class *size_class, struct stack_pile *ret_pile,
                                    struct il_error *err);

/* What a stack needs before it is used for the first time. */
IL_MUST_USE enum il_code depot_prepare(struct stack *stack, struct il_error *err);

/* Take all of `stacks`, which leaves it empty: into the pool, as far as there is room. */
void depot_put(struct il_list *stacks);

/* Take all of `stacks`, which leaves it empty: home, and give their memory back. */
void depot_put_home(struct il_list *stacks);

/* Send home what lay unused in the pool for STACK_IDLE_NS, a batch at a time. Returns when to call
 * again: now_ns if there is more, UINT64_MAX if the pool is empty. */
uint64_t depot_trim(struct stack_class *size_class, uint64_t now_ns);

#endif
