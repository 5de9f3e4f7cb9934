/* memory.c: counted allocation.
 *
 * Owns: three process-wide counters. They are exact at rest: when no call is running, live_count
 *   and live_bytes are what the library still holds. Threads: any. */
#include <malloc.h>
#include <stdlib.h>

#include "base/base.h"

static _Atomic uint64_t memory_allocation_count;
static _Atomic uint64_t memory_live_count;
static _Atomic uint64_t memory_live_bytes;
static _Atomic uint64_t memory_fail_countdown;
static bool (*_Atomic memory_fails)(void); /* NULL: only when the system says so */

static bool memory_count_down(void)
{
    uint64_t left = atomic_load_explicit(&memory_fail_countdown, memory_order_relaxed);

    if (left == 0) {
        return true;
    }
    atomic_fetch_sub_explicit(&memory_fail_countdown, 1, memory_order_relaxed);
    return false;
}

static bool memory_should_fail(void)
{
    bool (*fails)(void) = atomic_load_explicit(&memory_fails, memory_order_relaxed);

    return IL_UNLIKELY(fails != NULL) && fails();
}

static void *memory_count_new(void *ptr)
{
    if (ptr != NULL) {
        atomic_fetch_add_explicit(&memory_allocation_count, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&memory_live_count, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&memory_live_bytes, malloc_usable_size(ptr),
                                  memory_order_relaxed);
    }
    return ptr;
}

static void memory_count_gone(void *ptr)
{
    atomic_fetch_sub_explicit(&memory_live_count, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&memory_live_bytes, malloc_usable_size(ptr), memory_order_relaxed);
}

void *il_malloc(size_t size)
{
    return memory_should_fail() ? NULL : memory_count_new(malloc(size));
}

void *il_calloc(size_t count, size_t size)
{
    return memory_should_fail() ? NULL : memory_count_new(calloc(count, size));
}

void *il_realloc(void *ptr, size_t size)
{
    size_t old_size;
    void *moved;

    if (ptr == NULL) {
        return il_malloc(size);
    }
    if (memory_should_fail()) {
        return NULL;
    }
    old_size = malloc_usable_size(ptr);
    moved = realloc(ptr, size);
    if (moved != NULL) {
        atomic_fetch_add_explicit(&memory_allocation_count, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&memory_live_bytes, malloc_usable_size(moved) - old_size,
                                  memory_order_relaxed);
    }
    return moved;
}

char *il_strndup(const char *s, size_t length)
{
    char *copy = il_malloc(length + 1);

    if (copy != NULL) {
        memcpy(copy, s, length);
        copy[length] = '\0';
    }
    return copy;
}

char *il_strdup(const char *s)
{
    return il_strndup(s, strlen(s));
}

void il_free(void *ptr)
{
    if (ptr != NULL) {
        memory_count_gone(ptr);
        free(ptr);
    }
}

void il_memory_use(struct il_memory_use *ret_use)
{
    ret_use->allocation_count = atomic_load(&memory_allocation_count);
    ret_use->live_count = atomic_load(&memory_live_count);
    ret_use->live_bytes = atomic_load(&memory_live_bytes);
}

void il_memory_fail_after(uint64_t after)
{
    atomic_store(&memory_fail_countdown, after);
    il_memory_fail_when(after != UINT64_MAX ? memory_count_down : NULL);
}

void il_memory_fail_when(bool (*fails)(void))
{
    atomic_store(&memory_fails, fails);
}
