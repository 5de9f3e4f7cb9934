/* stack.c: stacks for fibers, from slabs that the process shares.
 *
 * Owns: the depot: every slab, and the free stacks that are in no cache. A slab is one mapping of
 *   STACK_SLAB_COUNT slots, each a guard with a stack above it, so that 100,000 stacks are some
 *   1,600 mappings (the kernel allows a process 65,530). A guard is a page-table marker
 *   (MADV_GUARD_INSTALL) and splits no mapping; where the kernel does not know it, mprotect does
 *   the same at a cost of two mappings for each stack.
 * Threads: depot.mutex guards the depot and is a leaf; system calls happen outside of it. A cache
 *   is touched by the holder of its loop only.
 * Ends: the depot frees a slab when all its stacks are home and another slab of that size is wholly
 *   free too, or no cache is left. So at the end of the last cache and stack nothing is left. */
#include "rt/stack.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "rt/sanitize.h"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(low, high) (0u)
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define STACK_SLAB_COUNT  64
#define STACK_SLAB_MAX    (STACK_COUNT_MAX / STACK_SLAB_COUNT)
#define STACK_CLASS_COUNT 12 /* powers of two from 16 KiB to 32 MiB */

/* So many stacks move between a cache and the depot at once. */
#define STACK_BATCH 32

/* Sanitized code has larger frames: red zones, no sharing of slots. */
#define STACK_SANITIZER_FACTOR ((size_t)(RT_ASAN || RT_TSAN ? 4 : 1))

_Static_assert(STACK_SIZE_MIN << (STACK_CLASS_COUNT - 1) >= STACK_SIZE_MAX * 4, "classes suffice");
_Static_assert((STACK_CACHE_COUNT_MAX & (STACK_CACHE_COUNT_MAX - 1)) == 0, "ring index is masked");
_Static_assert(STACK_BATCH <= STACK_CACHE_COUNT_MAX, "a batch fits");

struct stack_class {
    size_t size;
    struct il_list slabs;      /* those that have a stack to give */
    unsigned slabs_free_count; /* those whose stacks are all home */
};

struct stack_slab {
    struct il_list link; /* size_class->slabs */
    struct stack_class *size_class;
    char *base;
    unsigned table_index;
    unsigned out_count;  /* with caches and fibers */
    unsigned made_count; /* stacks[] below this have been out before */
    struct stack *free;  /* of those, the ones at home */
    struct stack stacks[STACK_SLAB_COUNT];
};

static struct {
    pthread_mutex_t mutex;
    struct stack_class classes[STACK_CLASS_COUNT];
    unsigned cache_count;
    uint32_t count_max;
    struct stack_use use;
} depot = { .mutex = PTHREAD_MUTEX_INITIALIZER, .count_max = STACK_COUNT_MAX };

/* Where the slabs are: read without a lock by stack_is_guard_address, in signal handlers. Written
 * with depot.mutex held. The stride is written before the base. */
static struct {
    _Atomic uintptr_t base; /* 0 if the place is free */
    _Atomic size_t stride;
} slab_table[STACK_SLAB_MAX];
static _Atomic unsigned slab_table_count; /* places ever used */

enum guard_how {
    GUARD_BY_MARKER,         /* MADV_GUARD_INSTALL, it seems */
    GUARD_BY_MARKER_CHECKED, /* indeed */
    GUARD_BY_MPROTECT,       /* the kernel knows no guard markers */
};
static _Atomic(enum guard_how) guard_how;

/* ---- depot: fork, classes ---- */

static void depot_lock(void)
{
    il_assert(pthread_mutex_lock(&depot.mutex) == 0);
}

static void depot_unlock(void)
{
    il_assert(pthread_mutex_unlock(&depot.mutex) == 0);
}

/* Before main and before constructors that may use the library, or when it is loaded: so nobody
 * forks in the middle of it. */
__attribute__((constructor(200))) static void depot_init(void)
{
    for (unsigned i = 0; i < STACK_CLASS_COUNT; i++) {
        depot.classes[i].size = STACK_SIZE_MIN << i;
        il_list_init(&depot.classes[i].slabs);
    }
    /* A child must not inherit a lock that a thread it does not have holds. Cannot fail but for
     * lack of memory, and then a fork at the wrong moment is all that is lost. */
    (void)pthread_atfork(depot_lock, depot_unlock, depot_unlock);
}

static struct stack_class *depot_class(size_t size)
{
    struct stack_class *size_class = depot.classes;

    while (size_class->size < size) {
        size_class++;
        il_assert(size_class < depot.classes + STACK_CLASS_COUNT);
    }
    return size_class;
}

static size_t class_stride(const struct stack_class *size_class)
{
    return size_class->size + STACK_GUARD_SIZE;
}

static size_t class_slab_bytes(const struct stack_class *size_class)
{
    return class_stride(size_class) * STACK_SLAB_COUNT;
}

/* ---- slabs ---- */

static enum il_code slab_new(struct stack_class *size_class, struct stack_slab **ret_slab,
                             struct il_error *err)
{
    size_t bytes = class_slab_bytes(size_class);
    struct stack_slab *slab = il_calloc(1, sizeof(*slab));

    if (slab == NULL) {
        return il_fail(err, IL_ENOMEM, "allocate a slab of fiber stacks");
    }
    slab->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (slab->base == MAP_FAILED) {
        il_fail(err, IL_ESYS, "map %zu MiB of address space for %d fiber stacks", bytes >> 20,
                STACK_SLAB_COUNT);
        il_free(slab);
        return IL_ESYS;
    }
    /* Both fail on kernels built without the feature, and nothing is lost then. */
    (void)madvise(slab->base, bytes, MADV_NOHUGEPAGE);
    (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, slab->base, bytes, "interloop fiber stacks");
    slab->size_class = size_class;
    il_list_init(&slab->link);
    for (unsigned i = 0; i < STACK_SLAB_COUNT; i++) {
        slab->stacks[i].low = slab->base + i * class_stride(size_class) + STACK_GUARD_SIZE;
        slab->stacks[i].size = size_class->size;
        slab->stacks[i].slab = slab;
    }
    *ret_slab = slab;
    return IL_OK;
}

static void slab_free(struct stack_slab *slab)
{
    il_assert(slab->out_count == 0);
    il_assert(munmap(slab->base, class_slab_bytes(slab->size_class)) == 0);
    il_free(slab);
}

/* Install guard markers. False if the kernel has none. Emulators (qemu-user) answer "done" to any
 * advice that they do not know: the first time, see that the guard is there. */
static bool guard_mark(char *guard)
{
    if (madvise(guard, STACK_GUARD_SIZE, MADV_GUARD_INSTALL) < 0) {
        return false;
    }
    if (atomic_load_explicit(&guard_how, memory_order_relaxed) == GUARD_BY_MARKER_CHECKED) {
        return true;
    }
    if (madvise(guard, STACK_GUARD_SIZE, MADV_POPULATE_READ) == 0 || errno != EFAULT) {
        errno = EINVAL;
        return false;
    }
    atomic_store_explicit(&guard_how, GUARD_BY_MARKER_CHECKED, memory_order_relaxed);
    return true;
}

static enum il_code guard_install(char *guard, struct il_error *err)
{
    if (atomic_load_explicit(&guard_how, memory_order_relaxed) != GUARD_BY_MPROTECT) {
        if (guard_mark(guard)) {
            return IL_OK;
        }
        if (errno != EINVAL) {
            return il_fail(err, IL_ESYS, "install the guard of a fiber stack");
        }
        atomic_store_explicit(&guard_how, GUARD_BY_MPROTECT, memory_order_relaxed);
    }
    if (mprotect(guard, STACK_GUARD_SIZE, PROT_NONE) < 0) {
        return il_fail(err, IL_ESYS,
                       "protect the guard of a fiber stack (if there are many: raise "
                       "vm.max_map_count, or use Linux 6.13)");
    }
    return IL_OK;
}

/* What a stack needs when it is first handed out; it stays until the slab is unmapped. */
static IL_NOINLINE enum il_code stack_prepare(struct stack *stack, struct il_error *err)
{
    enum il_code code = guard_install(stack->low - STACK_GUARD_SIZE, err);

    if (code == IL_OK) {
        stack->is_guarded = true;
        (void)VALGRIND_STACK_REGISTER(stack->low, stack->low + stack->size); /* never undone */
    }
    return code;
}

static void stack_give_pages_back(struct stack *stack)
{
    if (stack->is_guarded) { /* else it was never handed out */
        /* MADV_DONTNEED and not MADV_FREE: what lay unused for long is not expected back soon, and
         * the memory should be seen to be gone. Fails for locked memory only, which is to stay. */
        (void)madvise(stack->low, stack->size, MADV_DONTNEED);
    }
}

/* ---- depot: stacks in and out ---- */

/* Make `slab` known. False if there are STACK_SLAB_MAX already. */
static bool depot_add_slab_locked(struct stack_slab *slab)
{
    unsigned index = 0;

    while (index < STACK_SLAB_MAX && atomic_load(&slab_table[index].base) != 0) {
        index++;
    }
    if (index == STACK_SLAB_MAX) {
        return false;
    }
    slab->table_index = index;
    atomic_store(&slab_table[index].stride, class_stride(slab->size_class));
    atomic_store(&slab_table[index].base, (uintptr_t)slab->base);
    if (index >= atomic_load(&slab_table_count)) {
        atomic_store(&slab_table_count, index + 1);
    }
    il_list_push_front(&slab->size_class->slabs, &slab->link);
    slab->size_class->slabs_free_count++;
    depot.use.slab_count++;
    depot.use.mapped_bytes += class_slab_bytes(slab->size_class);
    return true;
}

/* Forget `slab`, all of whose stacks are home; the caller frees it. */
static void depot_remove_slab_locked(struct stack_slab *slab)
{
    il_assert(slab->out_count == 0);
    il_list_unlink(&slab->link);
    atomic_store(&slab_table[slab->table_index].base, 0);
    slab->size_class->slabs_free_count--;
    depot.use.slab_count--;
    depot.use.mapped_bytes -= class_slab_bytes(slab->size_class);
}

static struct stack *depot_take_one_locked(struct stack_class *size_class)
{
    struct stack_slab *slab = il_container_of(size_class->slabs.next, struct stack_slab, link);
    struct stack *stack = slab->free;

    if (stack != NULL) {
        slab->free = stack->next;
    } else {
        il_assert(slab->made_count < STACK_SLAB_COUNT);
        stack = &slab->stacks[slab->made_count++];
    }
    size_class->slabs_free_count -= slab->out_count == 0;
    slab->out_count++;
    if (slab->out_count == STACK_SLAB_COUNT) {
        il_list_unlink(&slab->link);
    }
    depot.use.out_count++;
    return stack;
}

/* Take up to STACK_BATCH stacks into the (empty) cache. */
static void depot_take_locked(struct stack_cache *cache)
{
    while (cache->count < STACK_BATCH && depot.use.out_count < depot.count_max &&
           !il_list_is_empty(&cache->size_class->slabs)) {
        cache->ring[(cache->bottom + cache->count) % STACK_CACHE_COUNT_MAX] =
            depot_take_one_locked(cache->size_class);
        cache->count++;
    }
}

/* Returns a slab to free once the lock is released, or NULL. */
static struct stack_slab *depot_put_one_locked(struct stack *stack)
{
    struct stack_slab *slab = stack->slab;

    il_assert(slab->out_count > 0);
    if (slab->out_count == STACK_SLAB_COUNT) {
        il_list_push_back(&slab->size_class->slabs, &slab->link);
    }
    stack->next = slab->free;
    slab->free = stack;
    slab->out_count--;
    depot.use.out_count--;
    if (slab->out_count > 0) {
        return NULL;
    }
    slab->size_class->slabs_free_count++;
    if (slab->size_class->slabs_free_count == 1 && depot.cache_count > 0) {
        return NULL; /* one slab stays, lest a count that swings by one map and unmap for ever */
    }
    depot_remove_slab_locked(slab);
    return slab;
}

/* Free what only a cache to come could want: the slabs that lie ready. */
static void depot_free_ready_slabs(void)
{
    struct il_list gone = IL_LIST_INIT(gone);

    depot_lock();
    for (unsigned i = 0; depot.cache_count == 0 && i < STACK_CLASS_COUNT; i++) {
        il_list_for_each_safe(&depot.classes[i].slabs, link)
        {
            struct stack_slab *slab = il_container_of(link, struct stack_slab, link);

            if (slab->out_count == 0) {
                depot_remove_slab_locked(slab);
                il_list_push_back(&gone, &slab->link);
            }
        }
    }
    depot_unlock();
    il_list_for_each_safe(&gone, link)
    {
        slab_free(il_container_of(link, struct stack_slab, link));
    }
}

/* ---- caches ---- */

enum il_code stack_cache_init(struct stack_cache *cache, size_t size, struct il_error *err)
{
    if (size == 0) {
        size = STACK_SIZE_DEFAULT;
    }
    if (size < STACK_SIZE_MIN || size > STACK_SIZE_MAX) {
        return il_fail(err, IL_EINVAL, "stack size %zu is not between %zu and %zu", size,
                       STACK_SIZE_MIN, STACK_SIZE_MAX);
    }
    size *= STACK_SANITIZER_FACTOR;
    if (size < (size_t)sysconf(_SC_PAGESIZE)) {
        size = (size_t)sysconf(_SC_PAGESIZE);
    }
    cache->size_class = depot_class(size);
    cache->bottom = cache->count = cache->count_low = 0;
    cache->trimmed_at_ns = 0;
    depot_lock();
    depot.cache_count++;
    depot_unlock();
    return IL_OK;
}

/* Send the `count` longest unused stacks home, without their pages. */
static void cache_return(struct stack_cache *cache, unsigned count)
{
    struct il_list gone = IL_LIST_INIT(gone);

    il_assert(count <= cache->count);
    for (unsigned i = 0; i < count; i++) {
        stack_give_pages_back(cache->ring[(cache->bottom + i) % STACK_CACHE_COUNT_MAX]);
    }
    depot_lock();
    for (unsigned i = 0; i < count; i++) {
        struct stack_slab *slab =
            depot_put_one_locked(cache->ring[(cache->bottom + i) % STACK_CACHE_COUNT_MAX]);

        if (slab != NULL) {
            il_list_push_back(&gone, &slab->link);
        }
    }
    depot_unlock();
    cache->bottom = (cache->bottom + count) % STACK_CACHE_COUNT_MAX;
    cache->count -= count;
    cache->count_low = cache->count < cache->count_low ? cache->count : cache->count_low;
    il_list_for_each_safe(&gone, link)
    {
        slab_free(il_container_of(link, struct stack_slab, link));
    }
}

void stack_cache_deinit(struct stack_cache *cache)
{
    if (cache->size_class == NULL) {
        return;
    }
    cache_return(cache, cache->count);
    cache->size_class = NULL;
    depot_lock();
    il_assert(depot.cache_count > 0);
    depot.cache_count--;
    depot_unlock();
    depot_free_ready_slabs();
}

static IL_NOINLINE enum il_code cache_refill(struct stack_cache *cache, struct il_error *err)
{
    struct stack_slab *slab = NULL;
    enum il_code code;
    bool is_added;

    depot_lock();
    depot_take_locked(cache);
    depot_unlock();
    if (cache->count > 0) {
        return IL_OK;
    }
    code = slab_new(cache->size_class, &slab, err);
    if (code != IL_OK) {
        return code;
    }
    depot_lock();
    is_added = depot.use.out_count < depot.count_max && depot_add_slab_locked(slab);
    if (is_added) {
        depot_take_locked(cache);
    }
    depot_unlock();
    if (!is_added) {
        slab_free(slab);
        return il_fail(err, IL_ELIMIT, "the process has %u fiber stacks, as many as it may",
                       depot.count_max);
    }
    return IL_OK;
}

enum il_code stack_get(struct stack_cache *cache, struct stack **ret_stack, struct il_error *err)
{
    struct stack *stack;
    enum il_code code;

    if (IL_UNLIKELY(cache->count == 0)) {
        cache->count_low = 0;
        code = cache_refill(cache, err);
        if (code != IL_OK) {
            return code;
        }
    }
    stack = cache->ring[(cache->bottom + cache->count - 1) % STACK_CACHE_COUNT_MAX];
    if (IL_UNLIKELY(!stack->is_guarded)) {
        code = stack_prepare(stack, err);
        if (code != IL_OK) {
            return code;
        }
    }
    cache->count--;
    if (cache->count < cache->count_low) {
        cache->count_low = cache->count;
    }
    *ret_stack = stack;
    return IL_OK;
}

/* Home at once: the caller has no cache, or one of another size. */
static IL_NOINLINE void stack_put_into_depot(struct stack *stack)
{
    struct stack_slab *slab;

    stack_give_pages_back(stack);
    depot_lock();
    slab = depot_put_one_locked(stack);
    depot_unlock();
    if (slab != NULL) {
        slab_free(slab);
    }
}

void stack_put(struct stack_cache *cache, struct stack *stack)
{
    if (cache == NULL || cache->size_class != stack->slab->size_class) {
        stack_put_into_depot(stack);
        return;
    }
    if (IL_UNLIKELY(cache->count == STACK_CACHE_COUNT_MAX)) {
        cache_return(cache, STACK_BATCH);
    }
    cache->ring[(cache->bottom + cache->count) % STACK_CACHE_COUNT_MAX] = stack;
    cache->count++;
}

uint64_t stack_cache_trim(struct stack_cache *cache, uint64_t now_ns)
{
    if (now_ns - cache->trimmed_at_ns >= STACK_IDLE_NS || cache->trimmed_at_ns == 0) {
        if (cache->trimmed_at_ns != 0 && cache->count_low > 0) {
            unsigned batch = cache->count_low < STACK_BATCH ? cache->count_low : STACK_BATCH;
            unsigned left = cache->count_low - batch;

            cache_return(cache, batch); /* 20 to 40 us: no longer, the loop has other work */
            cache->count_low = left;
            if (left > 0) {
                return now_ns;
            }
        }
        cache->count_low = cache->count;
        cache->trimmed_at_ns = now_ns;
    }
    return cache->count == 0 ? UINT64_MAX : cache->trimmed_at_ns + STACK_IDLE_NS;
}

/* ---- questions and settings ---- */

bool stack_is_guard_address(const void *address)
{
    unsigned count = atomic_load(&slab_table_count);

    for (unsigned i = 0; i < count; i++) {
        uintptr_t base = atomic_load(&slab_table[i].base);
        size_t stride = atomic_load(&slab_table[i].stride);
        uintptr_t offset = (uintptr_t)address - base;

        if (base != 0 && offset < stride * STACK_SLAB_COUNT) {
            return offset % stride < STACK_GUARD_SIZE;
        }
    }
    return false;
}

void stack_use(struct stack_use *ret_use)
{
    depot_lock();
    *ret_use = depot.use;
    depot_unlock();
    ret_use->is_limited_by_mappings = atomic_load(&guard_how) == GUARD_BY_MPROTECT;
}

void stack_set_count_max(uint32_t count_max)
{
    depot_lock();
    depot.count_max = count_max == 0 || count_max > STACK_COUNT_MAX ? STACK_COUNT_MAX : count_max;
    depot_unlock();
}

void stack_set_guard_by_mprotect(bool is_forced)
{
    atomic_store(&guard_how, is_forced ? GUARD_BY_MPROTECT : GUARD_BY_MARKER);
}
