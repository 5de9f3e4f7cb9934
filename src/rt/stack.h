/* stack.h: stacks for fibers.
 *
 * A stack is `size` usable bytes with a guard below them: running off its end is SIGSEGV and never
 * a neighbour's data. Three places hold free ones. A cache belongs to one loop and needs neither a
 * lock nor the kernel. Behind all caches stands the depot, the process's: its pool of stacks that
 * were used lately, for those that are got by one loop and put by another, and its slabs, where
 * they lie without memory of their own. A free stack belongs to nobody: put it where you are.
 *
 * Threads: a stack_cache belongs to whoever holds its loop. Everything else: any thread. */
#ifndef RT_STACK_H
#define RT_STACK_H

#include "base/base.h"

#define STACK_SIZE_MIN ((size_t)16 << 10)
#define STACK_SIZE_MAX ((size_t)8 << 20)

/* Address space is what a large stack costs, and there is plenty: a fiber pays for the pages it
 * touches (one or two, as a rule) and for its share of a page of page table (640 bytes at this
 * size, 256 at 64 KiB). A small stack costs crashes instead: tasks run their users' code, and that
 * calls getaddrinfo, printf of long doubles, crypto and parsers with a 64 KiB buffer in a local
 * variable. 256 KiB holds all of these; 100,000 take 32 GiB of 128 TiB. */
#define STACK_SIZE_DEFAULT ((size_t)256 << 10)

/* As long as the largest buffer that people commonly put on the stack, so that a function which
 * begins to fill one from its far end hits the guard too. */
#define STACK_GUARD_SIZE ((size_t)64 << 10)

/* A cache holds this many free stacks; those beyond go to the pool. */
#define STACK_CACHE_COUNT_MAX 256

/* The pool holds this many of each size (at 8 KiB touched, 32 MiB); those beyond give their memory
 * back. Having it back costs two page faults, some 3 us, where a stack from a cache costs 4 ns:
 * this is meant to be enough for the swings of a busy process. */
#define STACK_POOL_COUNT_MAX 4096

/* A stack that lay unused for at least this long, in a cache or the pool, gives its memory back. */
#define STACK_IDLE_NS 1000000000ull

/* Most stacks that one process may have (see stack_set_count_max). */
#define STACK_COUNT_MAX ((uint32_t)1 << 20)

struct stack_class;
struct stack_slab;

struct stack {
    char *low;   /* the lowest usable byte; the guard ends here */
    size_t size; /* usable bytes */
    struct stack_slab *slab;
    struct il_list link; /* while free */
    bool is_guarded;     /* made when first handed out */
};

/* Free stacks. Last put is first got, so the one at the bottom lies unused longest. */
struct stack_pile {
    struct il_list stacks;
    unsigned count;
    unsigned count_low;     /* the smallest count since trimmed_at_ns: so many lay unused */
    uint64_t trimmed_at_ns; /* 0: not yet */
};

/* Must not move while it lives. */
struct stack_cache {
    struct stack_class *size_class;
    struct stack_pile pile;
    uint64_t trim_at_ns;    /* nothing to do before */
    uint64_t trim_again_ns; /* what the last trim answered */
};

/* Prepare a cache of stacks of at least `size` bytes (0 means STACK_SIZE_DEFAULT), rounded up to a
 * power of two. Sanitizers make frames larger: under them the stacks are four times the size.
 * IL_EINVAL if `size` is not 0 and not within STACK_SIZE_MIN … STACK_SIZE_MAX. */
IL_MUST_USE enum il_code stack_cache_init(struct stack_cache *cache, size_t size,
                                          struct il_error *err);

/* Hand every free stack to the pool. Does nothing the second time, or if all is zero. When the last
 * cache is gone, so is the pool, and each slab goes with the last of its stacks to come home. */
void stack_cache_deinit(struct stack_cache *cache);

/* Take a stack; its content is undefined. IL_ELIMIT when there are STACK_COUNT_MAX, IL_ENOMEM, or
 * IL_ESYS when the kernel refuses memory or a guard. */
IL_MUST_USE enum il_code stack_get(struct stack_cache *cache, struct stack **ret_stack,
                                   struct il_error *err);

/* Give a stack back. `cache` is that of the loop which the calling thread holds, or NULL if it
 * holds none. Nothing may run on the stack any more. */
void stack_put(struct stack_cache *cache, struct stack *stack);

/* Give back the memory of stacks that lay unused for STACK_IDLE_NS, here and in the pool. Cheap
 * when there is nothing to do: call it whenever the loop is about to sleep. Returns when to call
 * again, UINT64_MAX if there is no need to; a loop that ignores this merely holds on to some memory
 * while it sleeps. In a simulated world do ignore it: the pool is the process's and not part of the
 * world. */
uint64_t stack_cache_trim(struct stack_cache *cache, uint64_t now_ns);

/* Is `address` inside the guard of some stack? Safe in a signal handler: says of a SIGSEGV that it
 * is a stack overflow. */
bool stack_is_guard_address(const void *address);

struct stack_use {
    uint32_t slab_count;
    uint32_t out_count;    /* stacks that are with fibers or caches */
    uint32_t pool_count;   /* stacks that are in the pool */
    uint64_t mapped_bytes; /* address space, not memory */
    /* The kernel is older than 6.13: guards are made with mprotect, and vm.max_map_count (65,530
     * unless raised) allows some 32,000 stacks. Known once there has been a stack. */
    bool is_limited_by_mappings;
};
void stack_use(struct stack_use *ret_use);

/* At most this many stacks with fibers, caches and the pool from now on; 0 means STACK_COUNT_MAX.
 */
void stack_set_count_max(uint32_t count_max);

/* Tests: make guards with mprotect, as on kernels before 6.13. */
void stack_set_guard_by_mprotect(bool is_forced);

#endif
