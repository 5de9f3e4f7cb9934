/* points.h: makes every atomic operation of the library a place where a simulated thread may be
 * preempted. The library is compiled a second time for the simulator, with this file included
 * before everything else; the library that is installed knows nothing of it.
 *
 * Not so for what belongs to the process and not to a world (counted memory, the depot of stacks,
 * the real world itself): those parts are the same in both. */
#ifndef SIM_POINTS_H
#define SIM_POINTS_H

#include <stdatomic.h>
#include <stdbool.h>

extern bool sys_points_armed; /* a simulated world is behind sys.h */
void sys_point(void);

#ifdef SIM_POINTS
static inline void sys_point_here(void)
{
    if (__builtin_expect(sys_points_armed, 0)) {
        sys_point();
    }
}

/* As the C library has them, each after a point. */
#undef atomic_init
#undef atomic_load
#undef atomic_load_explicit
#undef atomic_store
#undef atomic_store_explicit
#undef atomic_exchange
#undef atomic_exchange_explicit
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak
#undef atomic_compare_exchange_weak_explicit
#undef atomic_fetch_add
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub
#undef atomic_fetch_sub_explicit

#if defined(__clang__)
#define POINT_DO(name, ...) (sys_point_here(), __c11_atomic_##name(__VA_ARGS__))
#define POINT_CAS(ptr, expected, desired, success, failure)                                        \
    POINT_DO(compare_exchange_strong, ptr, expected, desired, success, failure)
#else
#define POINT_load          __atomic_load_n
#define POINT_store         __atomic_store_n
#define POINT_exchange      __atomic_exchange_n
#define POINT_fetch_add     __atomic_fetch_add
#define POINT_fetch_sub     __atomic_fetch_sub
#define POINT_DO(name, ...) (sys_point_here(), POINT_##name(__VA_ARGS__))
#define POINT_CAS(ptr, expected, desired, success, failure)                                        \
    (sys_point_here(), __atomic_compare_exchange_n(ptr, expected, desired, false, success, failure))
#endif

/* No point: nobody else knows of it yet. (Some compilers' own is a store, and would be one.) */
#if defined(__clang__)
#define atomic_init(ptr, value) __c11_atomic_init(ptr, value)
#else
#define atomic_init(ptr, value) __atomic_store_n(ptr, value, __ATOMIC_RELAXED)
#endif

#define atomic_load(ptr)                             POINT_DO(load, ptr, __ATOMIC_SEQ_CST)
#define atomic_load_explicit(ptr, order)             POINT_DO(load, ptr, order)
#define atomic_store(ptr, value)                     POINT_DO(store, ptr, value, __ATOMIC_SEQ_CST)
#define atomic_store_explicit(ptr, value, order)     POINT_DO(store, ptr, value, order)
#define atomic_exchange(ptr, value)                  POINT_DO(exchange, ptr, value, __ATOMIC_SEQ_CST)
#define atomic_exchange_explicit(ptr, value, order)  POINT_DO(exchange, ptr, value, order)
#define atomic_fetch_add(ptr, value)                 POINT_DO(fetch_add, ptr, value, __ATOMIC_SEQ_CST)
#define atomic_fetch_add_explicit(ptr, value, order) POINT_DO(fetch_add, ptr, value, order)
#define atomic_fetch_sub(ptr, value)                 POINT_DO(fetch_sub, ptr, value, __ATOMIC_SEQ_CST)
#define atomic_fetch_sub_explicit(ptr, value, order) POINT_DO(fetch_sub, ptr, value, order)
#define atomic_compare_exchange_strong(ptr, expected, desired)                                     \
    POINT_CAS(ptr, expected, desired, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#define atomic_compare_exchange_strong_explicit(ptr, expected, desired, success, failure)          \
    POINT_CAS(ptr, expected, desired, success, failure)
#define atomic_compare_exchange_weak(ptr, expected, desired)                                       \
    POINT_CAS(ptr, expected, desired, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#define atomic_compare_exchange_weak_explicit(ptr, expected, desired, success, failure)            \
    POINT_CAS(ptr, expected, desired, success, failure)
#endif

#endif
