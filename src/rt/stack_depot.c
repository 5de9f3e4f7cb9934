/* stack_depot.c: every stack there is, and those free ones that are in no cache.
 *
 * Owns: slabs and the pool. A slab is one mapping of STACK_SLAB_COUNT slots, each a guard with a
 *   stack above it, so that 100,000 stacks are some 1,600 mappings (the kernel allows a process
 *   65,530). A guard is a page-table marker (MADV_GUARD_INSTALL) and splits no mapping; where the
 *   kernel does not know it, mprotect does the same at a cost of two mappings for each stack. A
 *   stack at home in its slab has no memory; in the pool, it still has the pages it last used.
 * Threads: any. depot.mutex guards all of it and is a leaf; system calls happen outside of it.
 * Ends: a slab is freed when all its stacks are home and another slab of that size is wholly free
 *   too, or no cache is left. So at the end of the last cache and stack nothing is left. */
#include "rt/stack_depot.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

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

_Static_assert(STACK_SIZE_MIN << (STACK_CLASS_COUNT - 1) >= STACK_SIZE_MAX * 4, "classes suffice");

struct stack_class {
    size_t size;
    struct il_list slabs;      /* those that have a stack at home */
    unsigned slabs_free_count; /* those whose stacks are all at home */
    struct stack_pile pool;
};

struct stack_slab {
    struct il_list link; /* size_class->slabs */
    struct stack_class *size_class;
    char *base;
    unsigned table_index;
    unsigned away_count; /* not at home: in the pool, with caches and fibers */
    unsigned made_count; /* stacks[] below this have been away before */
    struct il_list free; /* of those, the ones at home */
    struct stack stacks[STACK_SLAB_COUNT];
};

static struct {
    pthread_mutex_t mutex;
    struct stack_class classes[STACK_CLASS_COUNT];
    unsigned opened_count; /* by caches */
    uint32_t away_count;   /* of all slabs */
    uint32_t count_max;
    struct stack_use use; /* but for out_count, which follows from the rest */
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

/* ---- fork, classes ---- */

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
        pile_init(&depot.classes[i].pool);
    }
    /* A child must not inherit a lock that a thread it does not have holds. Cannot fail but for
     * lack of memory, and then a fork at the wrong moment is all that is lost. */
    (void)pthread_atfork(depot_lock, depot_unlock, depot_unlock);
}

struct stack_class *depot_class(size_t size)
{
    struct stack_class *size_class = depot.classes;

    while (size_class->size < size) {
        size_class++;
        il_assert(size_class < depot.classes + STACK_CLASS_COUNT);
    }
    return size_class;
}

struct stack_class *depot_class_of(const struct stack *stack)
{
    return stack->slab->size_class;
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
    il_list_init(&slab->free);
    for (unsigned i = 0; i < STACK_SLAB_COUNT; i++) {
        slab->stacks[i].low = slab->base + i * class_stride(size_class) + STACK_GUARD_SIZE;
        slab->stacks[i].size = size_class->size;
        slab->stacks[i].slab = slab;
        il_list_init(&slab->stacks[i].link);
    }
    *ret_slab = slab;
    return IL_OK;
}

static void slab_free(struct stack_slab *slab)
{
    il_assert(slab->away_count == 0);
    il_assert(munmap(slab->base, class_slab_bytes(slab->size_class)) == 0);
    il_free(slab);
}

static void slabs_free(struct il_list *slabs)
{
    struct il_list *link;

    while ((link = il_list_pop_front(slabs)) != NULL) {
        slab_free(il_container_of(link, struct stack_slab, link));
    }
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

enum il_code depot_prepare(struct stack *stack, struct il_error *err)
{
    enum il_code code = guard_install(stack->low - STACK_GUARD_SIZE, err);

    if (code == IL_OK) {
        stack->is_guarded = true; /* until the slab is unmapped */
        (void)VALGRIND_STACK_REGISTER(stack->low, stack->low + stack->size); /* never undone */
    }
    return code;
}

/* ---- slabs come and go ---- */

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

/* Forget `slab`, all of whose stacks are at home; the caller frees it. */
static void depot_remove_slab_locked(struct stack_slab *slab)
{
    il_assert(slab->away_count == 0);
    il_list_unlink(&slab->link);
    atomic_store(&slab_table[slab->table_index].base, 0);
    slab->size_class->slabs_free_count--;
    depot.use.slab_count--;
    depot.use.mapped_bytes -= class_slab_bytes(slab->size_class);
}

/* ---- stacks leave ---- */

static struct stack *slab_take_locked(struct stack_slab *slab)
{
    struct il_list *link = il_list_pop_front(&slab->free);
    struct stack *stack;

    if (link != NULL) {
        stack = il_container_of(link, struct stack, link);
    } else {
        il_assert(slab->made_count < STACK_SLAB_COUNT);
        stack = &slab->stacks[slab->made_count++];
    }
    slab->size_class->slabs_free_count -= slab->away_count == 0;
    slab->away_count++;
    if (slab->away_count == STACK_SLAB_COUNT) {
        il_list_unlink(&slab->link);
    }
    depot.away_count++;
    return stack;
}

/* Push up to STACK_BATCH stacks on `ret_pile`: such as still have their memory, else from slabs.
 * Returns how many. */
static unsigned depot_take_locked(struct stack_class *size_class, struct stack_pile *ret_pile)
{
    bool is_pool_empty = size_class->pool.count == 0;
    unsigned count = 0;

    while (count < STACK_BATCH && size_class->pool.count > 0) {
        pile_push(ret_pile, pile_pop(&size_class->pool));
        depot.use.pool_count--;
        count++;
    }
    while (is_pool_empty && count < STACK_BATCH && depot.away_count < depot.count_max &&
           !il_list_is_empty(&size_class->slabs)) {
        struct il_list *link = size_class->slabs.next;

        pile_push(ret_pile, slab_take_locked(il_container_of(link, struct stack_slab, link)));
        count++;
    }
    return count;
}

/* With one slab more. */
static IL_NOINLINE enum il_code depot_take_growing(struct stack_class *size_class,
                                                   struct stack_pile *ret_pile,
                                                   struct il_error *err)
{
    struct stack_slab *slab = NULL;
    enum il_code code = slab_new(size_class, &slab, err);
    bool is_added;

    if (code != IL_OK) {
        return code;
    }
    depot_lock();
    is_added = depot.away_count < depot.count_max && depot_add_slab_locked(slab);
    if (is_added) {
        (void)depot_take_locked(size_class, ret_pile); /* at least one: the slab is new */
    }
    depot_unlock();
    if (!is_added) {
        slab_free(slab);
        return il_fail(err, IL_ELIMIT, "the process has %u fiber stacks, as many as it may",
                       depot.count_max);
    }
    return IL_OK;
}

enum il_code depot_take(struct stack_class *size_class, struct stack_pile *ret_pile,
                        struct il_error *err)
{
    unsigned count;

    depot_lock();
    count = depot_take_locked(size_class, ret_pile);
    depot_unlock();
    return count > 0 ? IL_OK : depot_take_growing(size_class, ret_pile, err);
}

/* ---- stacks come back ---- */

/* Put `stack` into its slab. If the slab is not needed any more it moves to `gone`. */
static void slab_put_locked(struct stack *stack, struct il_list *gone)
{
    struct stack_slab *slab = stack->slab;

    il_assert(slab->away_count > 0);
    if (slab->away_count == STACK_SLAB_COUNT) {
        il_list_push_back(&slab->size_class->slabs, &slab->link);
    }
    il_list_push_front(&slab->free, &stack->link);
    slab->away_count--;
    depot.away_count--;
    if (slab->away_count > 0) {
        return;
    }
    slab->size_class->slabs_free_count++;
    if (slab->size_class->slabs_free_count > 1 || depot.opened_count == 0) {
        depot_remove_slab_locked(
            slab); /* one stays, lest a count that swings map and unmap for ever */
        il_list_push_back(gone, &slab->link);
    }
}

void depot_put_home(struct il_list *stacks)
{
    struct il_list gone = IL_LIST_INIT(gone);
    struct il_list *link;

    if (il_list_is_empty(stacks)) {
        return;
    }
    il_list_for_each(stacks, at)
    {
        struct stack *stack = il_container_of(at, struct stack, link);

        if (stack->is_guarded) { /* else it was never used */
            /* MADV_DONTNEED and not MADV_FREE: what lay unused for long is not expected back soon,
             * and the memory should be seen to be gone. Fails for locked memory, which is to stay.
             */
            (void)madvise(stack->low, stack->size, MADV_DONTNEED);
        }
    }
    depot_lock();
    while ((link = il_list_pop_front(stacks)) != NULL) {
        slab_put_locked(il_container_of(link, struct stack, link), &gone);
    }
    depot_unlock();
    slabs_free(&gone);
}

void depot_put(struct il_list *stacks)
{
    struct il_list surplus = IL_LIST_INIT(surplus);
    struct il_list *link;

    depot_lock();
    while ((link = il_list_pop_front(stacks)) != NULL) {
        struct stack *stack = il_container_of(link, struct stack, link);
        struct stack_pile *pool = &depot_class_of(stack)->pool;

        if (pool->count < STACK_POOL_COUNT_MAX && depot.opened_count > 0) {
            pile_push(pool, stack);
            depot.use.pool_count++;
        } else {
            il_list_push_back(&surplus, link);
        }
    }
    depot_unlock();
    depot_put_home(&surplus);
}

uint64_t depot_trim(struct stack_class *size_class, uint64_t now_ns)
{
    struct il_list unused = IL_LIST_INIT(unused);
    uint64_t again_ns;
    unsigned count;

    depot_lock();
    count = size_class->pool.count;
    again_ns = pile_take_unused(&size_class->pool, now_ns, &unused);
    depot.use.pool_count -= count - size_class->pool.count;
    depot_unlock();
    depot_put_home(&unused);
    return again_ns;
}

/* ---- the caches that hold it open ---- */

void depot_open(void)
{
    depot_lock();
    depot.opened_count++;
    depot_unlock();
}

/* Empty the pools, and forget the slabs that lie ready: they move to `gone`. */
static void depot_clear_locked(struct il_list *stacks, struct il_list *gone)
{
    for (unsigned i = 0; i < STACK_CLASS_COUNT; i++) {
        struct stack_class *size_class = &depot.classes[i];

        depot.use.pool_count -= size_class->pool.count;
        pile_take_oldest(&size_class->pool, size_class->pool.count, stacks);
        il_list_for_each_safe(&size_class->slabs, link)
        {
            struct stack_slab *slab = il_container_of(link, struct stack_slab, link);

            if (slab->away_count == 0) {
                depot_remove_slab_locked(slab);
                il_list_push_back(gone, link);
            }
        }
    }
}

void depot_close(void)
{
    struct il_list stacks = IL_LIST_INIT(stacks), gone = IL_LIST_INIT(gone);

    depot_lock();
    il_assert(depot.opened_count > 0);
    depot.opened_count--;
    if (depot.opened_count == 0) {
        depot_clear_locked(&stacks, &gone);
    }
    depot_unlock();
    depot_put_home(&stacks);
    slabs_free(&gone);
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
    ret_use->out_count = depot.away_count - depot.use.pool_count;
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
