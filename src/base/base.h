/* base.h: what every other part of the library may use.
 *
 * Assertions that stay on in release builds, error making, counted memory, intrusive lists, small
 * helpers. Depends on nothing but libc. Thread: any, unless a function says otherwise. */
#ifndef IL_BASE_H
#define IL_BASE_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mutant.h"
#include "interloop/error.h"

/* ---- compiler ---- */

#define IL_NOINLINE                        __attribute__((noinline))
#define IL_LIKELY(x)                       __builtin_expect(!!(x), 1)
#define IL_UNLIKELY(x)                     __builtin_expect(!!(x), 0)
#define IL_CACHE_LINE                      64
#define il_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define il_array_count(a)                  (sizeof(a) / sizeof((a)[0]))

/* What a noun ends with behind a number: "%u request%s". */
static inline const char *il_plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static inline uint64_t il_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t il_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Clang checks thread rules where it can (-Wthread-safety); other compilers read past them. */
#if defined(__clang__)
#define IL_TSA(x) __attribute__((x))
#else
#define IL_TSA(x)
#endif
#define IL_CAPABILITY(name) IL_TSA(capability(name))
#define IL_ON_LOOP(loop)    IL_TSA(requires_capability(loop))
#define IL_NOW_ON(loop)     IL_TSA(assert_capability(loop))
#define IL_LOCKED(mutex)    IL_TSA(requires_capability(mutex))
#define IL_ACQUIRES(mutex)  IL_TSA(acquire_capability(mutex))
#define IL_RELEASES(mutex)  IL_TSA(release_capability(mutex))
#define IL_NO_TSA           IL_TSA(no_thread_safety_analysis)

/* ---- assertions: always on. A wrong state must crash, because the alternative is a hang ---- */

__attribute__((noreturn, cold)) void il_assert_failed(const char *condition, const char *file,
                                                      int line, const char *function);

#define il_assert(condition)                                                                       \
    do {                                                                                           \
        if (IL_UNLIKELY(!(condition))) {                                                           \
            il_assert_failed(#condition, __FILE__, __LINE__, __func__);                            \
        }                                                                                          \
    } while (0)

/* Both answers are fine; says so to the reader. */
#define il_maybe(condition) ((void)(condition))

/* ---- errors ---- */

/* Fill `err` (if not NULL) and return `code`. For IL_ESYS, IL_ECONNECT and the like errno is taken
 * along and its text appended to the message. */
enum il_code il_fail(struct il_error *err, enum il_code code, const char *format, ...)
    IL_PRINTF(3, 4);

/* As il_fail, with the errno given. */
enum il_code il_fail_errno(struct il_error *err, enum il_code code, int sys_errno,
                           const char *format, ...) IL_PRINTF(4, 5);

/* A time limit ran out in `phase`; `what` was waited for. */
enum il_code il_fail_timeout(struct il_error *err, enum il_phase phase, uint64_t limit_ms,
                             const char *format, ...) IL_PRINTF(4, 5);

/* ---- memory: counted, so that "nothing is left" can be checked and not assumed ---- */

/* NULL when out of memory. il_free(NULL) is nothing. */
void *il_malloc(size_t size);
void *il_calloc(size_t count, size_t size);
void *il_realloc(void *ptr, size_t size);
char *il_strdup(const char *s);
char *il_strndup(const char *s, size_t length);
void il_free(void *ptr);

struct il_memory_use {
    uint64_t allocation_count; /* ever made */
    uint64_t live_count;       /* now */
    uint64_t live_bytes;       /* now, as the allocator rounds them */
};
void il_memory_use(struct il_memory_use *ret_use);

/* Tests: fail the allocation after `after` more have succeeded; UINT64_MAX never fails. */
void il_memory_fail_after(uint64_t after);

/* The same for a simulated world: fail those allocations for which `fails` says so; NULL: none. */
void il_memory_fail_when(bool (*fails)(void));

/* Marks a static _Atomic uint64_t that numbers are given out from. They lie together, so that a
 * simulated world can begin with the same numbers every time. */
#define IL_NUMBERS __attribute__((section("il_numbers"), used))

/* ---- intrusive doubly linked list; an unlinked node points to itself ---- */

struct il_list {
    struct il_list *next, *prev;
};

#define IL_LIST_INIT(name)                                                                         \
    {                                                                                              \
        &(name), &(name)                                                                           \
    }

static inline void il_list_init(struct il_list *node)
{
    node->next = node->prev = node;
}

static inline bool il_list_is_empty(const struct il_list *list)
{
    return list->next == list;
}

static inline bool il_list_is_linked(const struct il_list *node)
{
    return node->next != node;
}

static inline void il_list_insert_before(struct il_list *at, struct il_list *node)
{
    il_assert(!il_list_is_linked(node));
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}

static inline void il_list_push_back(struct il_list *list, struct il_list *node)
{
    il_list_insert_before(list, node);
}

static inline void il_list_push_front(struct il_list *list, struct il_list *node)
{
    il_list_insert_before(list->next, node);
}

/* Unlinking an unlinked node is nothing. */
static inline void il_list_unlink(struct il_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    il_list_init(node);
}

static inline struct il_list *il_list_pop_front(struct il_list *list)
{
    struct il_list *node = list->next;

    if (node == list) {
        return NULL;
    }
    il_list_unlink(node);
    return node;
}

/* Append all of `from` to `to`, leaving `from` empty. */
static inline void il_list_splice(struct il_list *to, struct il_list *from)
{
    if (il_list_is_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    il_list_init(from);
}

#define il_list_for_each(list, node)                                                               \
    for (struct il_list *node = (list)->next; node != (list); node = node->next)

#define il_list_for_each_safe(list, node)                                                          \
    for (struct il_list *node = (list)->next, *node##_next = node->next; node != (list);           \
         node = node##_next, node##_next = node->next)

/* ---- log hook: the library never prints; who wants to hear sets a hook (interloop/log.h) ---- */

void il_log_event(const char *format, ...) IL_PRINTF(1, 2);
bool il_log_is_on(void);

#endif
