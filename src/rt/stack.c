/* stack.c: the cache of stacks that each loop has.
 *
 * Owns: the free stacks of each cache. Threads: whoever holds the cache's loop; stack_put(NULL, …)
 *   any. Ends: stack_cache_deinit() hands everything to the depot. */
#include "rt/stack.h"

#include <unistd.h>

#include "rt/sanitize.h"
#include "rt/stack_depot.h"

/* Sanitized code has larger frames: red zones, no sharing of slots. */
#define STACK_SANITIZER_FACTOR ((size_t)(RT_ASAN || RT_TSAN ? 4 : 1))

_Static_assert(STACK_BATCH <= STACK_CACHE_COUNT_MAX, "a cache has room for a batch");

enum il_code stack_cache_init(struct stack_cache *cache, size_t size, struct il_error *err)
{
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE);

    if (size == 0) {
        size = STACK_SIZE_DEFAULT;
    }
    if (size < STACK_SIZE_MIN || size > STACK_SIZE_MAX) {
        return il_fail(err, IL_EINVAL, "stack size %zu is not between %zu and %zu", size,
                       STACK_SIZE_MIN, STACK_SIZE_MAX);
    }
    size *= STACK_SANITIZER_FACTOR;
    *cache = (struct stack_cache){
        .size_class = depot_class(size > page_size ? size : page_size),
        .trim_again_ns = UINT64_MAX,
    };
    pile_init(&cache->pile);
    depot_open();
    return IL_OK;
}

void stack_cache_deinit(struct stack_cache *cache)
{
    if (cache->size_class == NULL) {
        return;
    }
    depot_put(&cache->pile.stacks);
    cache->size_class = NULL;
    depot_close();
}

enum il_code stack_get(struct stack_cache *cache, struct stack **ret_stack, struct il_error *err)
{
    struct stack *stack;
    enum il_code code;

    if (IL_UNLIKELY(cache->pile.count == 0)) {
        code = depot_take(cache->size_class, &cache->pile, err);
        if (code != IL_OK) {
            return code;
        }
    }
    stack = pile_pop(&cache->pile);
    if (IL_UNLIKELY(!stack->is_guarded)) {
        code = depot_prepare(stack, err);
        if (code != IL_OK) {
            pile_push(&cache->pile, stack);
            return code;
        }
    }
    *ret_stack = stack;
    return IL_OK;
}

static IL_NOINLINE void stack_put_into_depot(struct stack *stack)
{
    struct il_list stacks = IL_LIST_INIT(stacks);

    il_list_push_back(&stacks, &stack->link);
    depot_put(&stacks);
}

static IL_NOINLINE void cache_shed(struct stack_cache *cache)
{
    struct il_list stacks = IL_LIST_INIT(stacks);

    pile_take_oldest(&cache->pile, STACK_BATCH, &stacks);
    depot_put(&stacks);
}

void stack_put(struct stack_cache *cache, struct stack *stack)
{
    if (cache == NULL || cache->size_class != depot_class_of(stack)) {
        stack_put_into_depot(stack);
        return;
    }
    if (IL_UNLIKELY(cache->pile.count == STACK_CACHE_COUNT_MAX)) {
        cache_shed(cache);
    }
    pile_push(&cache->pile, stack);
}

uint64_t stack_cache_trim(struct stack_cache *cache, uint64_t now_ns)
{
    struct il_list unused = IL_LIST_INIT(unused);

    if (now_ns < cache->trim_at_ns) {
        return cache->pile.count > 0 ? cache->trim_at_ns : cache->trim_again_ns;
    }
    cache->trim_again_ns = il_min_u64(pile_take_unused(&cache->pile, now_ns, &unused),
                                      depot_trim(cache->size_class, now_ns));
    cache->trim_at_ns = il_min_u64(cache->trim_again_ns, now_ns + STACK_IDLE_NS);
    depot_put_home(&unused);
    return cache->trim_again_ns;
}
