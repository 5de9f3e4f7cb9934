/* fiber.c: making, switching and ending fibers. The switch itself is in fiber_<machine>.S.
 *
 * Owns: nothing but the stack that each fiber holds. Threads: see fiber.h.
 *
 * Sanitizers keep a picture of the stack that runs; every switch tells them before and after. They
 * also check the contract: `state` is written with plain stores by the fiber that leaves and read
 * by whoever resumes it, so a hand-over that does not synchronise is a data race for
 * ThreadSanitizer, and resuming a fiber that still runs fails an assertion. */
#include "rt/fiber.h"

#include "rt/sanitize.h"

#if RT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#if RT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__x86_64__)
struct fiber_frame {
    uint32_t mxcsr;
    uint16_t x87_control;
    uint16_t unused;
    uint64_t r15, r14, r13, r12, rbx, rbp;
    void (*return_address)(void);
};
_Static_assert(sizeof(struct fiber_frame) == 64, "as fiber_x86_64.S has it");
#elif defined(__aarch64__)
struct fiber_frame {
    uint64_t x29;
    void (*x30)(void);
    uint64_t x19_to_x28[10];
    uint64_t d8_to_d15[8];
    uint64_t fpcr;
    uint64_t unused;
};
_Static_assert(sizeof(struct fiber_frame) == 176, "as fiber_aarch64.S has it");
#else
#error "fibers are written for x86-64 and aarch64"
#endif

/* In assembly. */
void *fiber_swap(void **save_sp, void *sp, void *message);
void fiber_begin(void);

/* Called from assembly, on the new stack. */
__attribute__((noreturn, used)) void fiber_main(struct fiber *fiber, struct fiber *previous);

/* ---- what sanitizers are told ---- */

/* Part of the caller's frame, whatever the compiler thinks: ThreadSanitizer counts entries and
 * exits of functions for each fiber, and one that is entered by one and left by the other breaks
 * it. */
#define SANITIZE_INLINE static inline __attribute__((always_inline))

static void sanitize_init(struct fiber *fiber)
{
#if RT_ASAN
    if (fiber->stack != NULL) {
        fiber->asan_low = fiber->stack->low;
        fiber->asan_size = fiber->stack->size;
        /* What only a suspended fiber points to is not a leak. */
        __lsan_register_root_region(fiber->asan_low, fiber->asan_size);
    }
#endif
#if RT_TSAN
    fiber->tsan_fiber = fiber->stack == NULL ? __tsan_get_current_fiber() : __tsan_create_fiber(0);
#endif
    (void)fiber; /* without sanitizers */
}

static void sanitize_deinit(struct fiber *fiber)
{
#if RT_ASAN
    char *top = fiber->stack->low + fiber->stack->size;

    __lsan_unregister_root_region(fiber->asan_low, fiber->asan_size);
    /* The red zones of frames that were never returned from would trip the next user. */
    __asan_unpoison_memory_region(fiber->sp, (size_t)(top - (char *)fiber->sp));
#endif
#if RT_TSAN
    __tsan_destroy_fiber(fiber->tsan_fiber);
#endif
    (void)fiber; /* without sanitizers */
}

SANITIZE_INLINE void sanitize_before_switch(struct fiber *from, struct fiber *to, bool is_last)
{
#if RT_ASAN
    __sanitizer_start_switch_fiber(is_last ? NULL : &from->asan_fake_stack, to->asan_low,
                                   to->asan_size);
#endif
#if RT_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
    (void)from, (void)to, (void)is_last; /* without sanitizers */
}

/* In `fiber`, entered from `previous`. */
SANITIZE_INLINE void sanitize_after_switch(struct fiber *fiber, struct fiber *previous)
{
#if RT_ASAN
    const void *low;
    size_t size;

    __sanitizer_finish_switch_fiber(fiber->asan_fake_stack, &low, &size);
    if (previous->stack == NULL) { /* where a thread's own stack is, ASan knows and we learn */
        previous->asan_low = low;
        previous->asan_size = size;
    }
#endif
    (void)fiber, (void)previous; /* without sanitizers */
}

/* ---- making and ending ---- */

/* Stacks lie at a distance that is a multiple of the page size, so the frames of idle fibers would
 * all compete for the same few lines of the first-level cache. Each begins at one of sixteen lines
 * instead: a round over 1,000 fibers takes 37 ns for each and not 71 to 99. */
static size_t stack_colour(const struct stack *stack)
{
    return ((uintptr_t)stack->low >> 16 & 15) * IL_CACHE_LINE;
}

/* Lay out the stack as if the fiber had been left just before its first instruction. */
static void fiber_build_frame(struct fiber *fiber)
{
    char *top = fiber->stack->low + fiber->stack->size - stack_colour(fiber->stack);
    struct fiber_frame *frame = (struct fiber_frame *)(void *)top - 1;

    *frame = (struct fiber_frame){ 0 };
#if defined(__x86_64__)
    __asm__("stmxcsr %0" : "=m"(frame->mxcsr));
    __asm__("fnstcw %0" : "=m"(frame->x87_control));
    frame->r12 = (uintptr_t)fiber;
    frame->return_address = fiber_begin;
#else
    __asm__ volatile("mrs %0, fpcr" : "=r"(frame->fpcr));
    frame->x19_to_x28[0] = (uintptr_t)fiber;
    frame->x30 = fiber_begin;
#endif
    fiber->sp = frame;
}

enum il_code fiber_init(struct fiber *fiber, struct stack_cache *cache, void (*entry)(void *arg),
                        void *arg, struct il_error *err)
{
    struct stack *stack;
    enum il_code code = stack_get(cache, &stack, err);

    if (code == IL_OK) {
        fiber_init_on(fiber, stack, entry, arg);
    }
    return code;
}

void fiber_init_on(struct fiber *fiber, struct stack *stack, void (*entry)(void *arg), void *arg)
{
    *fiber = (struct fiber){ .state = FIBER_SUSPENDED, .stack = stack, .entry = entry, .arg = arg };
    fiber_build_frame(fiber);
    sanitize_init(fiber);
}

struct stack *fiber_deinit_on(struct fiber *fiber)
{
    struct stack *stack = fiber->stack;

    if (stack != NULL) {
        il_assert(fiber->state != FIBER_RUNNING);
        sanitize_deinit(fiber);
        fiber->stack = NULL;
    }
    fiber->state = FIBER_FINISHED;
    return stack;
}

void fiber_deinit(struct fiber *fiber, struct stack_cache *cache)
{
    struct stack *stack = fiber_deinit_on(fiber);

    if (stack != NULL) {
        stack_put(cache, stack);
    }
}

void fiber_init_thread(struct fiber *fiber)
{
    *fiber = (struct fiber){ .state = FIBER_RUNNING };
    sanitize_init(fiber);
}

/* ---- switching ---- */

IL_NOINLINE void fiber_main(struct fiber *fiber, struct fiber *previous)
{
    sanitize_after_switch(fiber, previous);
    fiber->entry(fiber->arg);
    il_assert(!"the entry function of a fiber returned");
    __builtin_unreachable();
}

IL_NOINLINE void fiber_switch(struct fiber *from, struct fiber *to)
{
    struct fiber *previous;

    il_assert(from->state == FIBER_RUNNING);
    il_assert(to->state == FIBER_SUSPENDED);
    from->state = FIBER_SUSPENDED;
    to->state = FIBER_RUNNING;
    sanitize_before_switch(from, to, false);
    previous = fiber_swap(&from->sp, to->sp, from);
    sanitize_after_switch(from, previous);
}

IL_NOINLINE void fiber_switch_exit(struct fiber *from, struct fiber *to)
{
    il_assert(from->stack != NULL);
    il_assert(from->state == FIBER_RUNNING);
    il_assert(to->state == FIBER_SUSPENDED);
    from->state = FIBER_FINISHED;
    to->state = FIBER_RUNNING;
    sanitize_before_switch(from, to, true);
    (void)fiber_swap(&from->sp, to->sp, from);
    __builtin_unreachable(); /* fiber_switch refuses to go to a finished fiber */
}
