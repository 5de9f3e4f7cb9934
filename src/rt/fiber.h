/* fiber.h: stackful fibers: a function with a stack of its own that can be left and resumed.
 *
 * No scheduler: a switch goes from the fiber that runs to one that the caller names. The thread's
 * own stack is a fiber too (fiber_init_thread), so a loop and its tasks switch the same way.
 *
 * Threads: a fiber may be resumed by another thread than it ran on last. It must have been left
 *   completely by then: hand it over (to a queue, a list, another thread) from the fiber that was
 *   switched to, never before the switch; the hand-over must synchronise, as a mutex does. A
 *   fiber made by fiber_init_thread stays on its thread.
 *
 * A switch keeps what a function call keeps: callee-saved registers and the floating-point modes.
 * It carries nothing that belongs to the thread: errno, the signal mask, the locale, thread-local
 * variables, C++ exceptions being handled. Since compilers compute the address of a thread-local
 * variable once in a function and use it again after the switch, when the thread may be another:
 * a function that switches, or into which one that does may be inlined, touches thread-local
 * variables through IL_NOINLINE accessors only. That includes errno, whose accessor is declared
 * const: after a switch read it in a function of its own. */
#ifndef RT_FIBER_H
#define RT_FIBER_H

#include "rt/stack.h"

/*                    fiber_switch
 *  init --> SUSPENDED <----------> RUNNING --> FINISHED --> deinit
 *               |                                              ^
 *               +--- deinit: its frames are never left --------+      */
enum fiber_state {
    FIBER_SUSPENDED = 1, /* never run, or left by fiber_switch */
    FIBER_RUNNING,
    FIBER_FINISHED,
};

/* Yours, and must not move while the fiber lives. Fields are for fiber.c and debuggers. */
struct fiber {
    void *sp; /* while suspended: where the registers are saved, laid out as fiber.c says */
    enum fiber_state state;
    struct stack *stack; /* NULL: the thread's own */
    void (*entry)(void *arg);
    void *arg;

    /* For sanitizers; not used without. */
    const void *asan_low;
    size_t asan_size;
    void *asan_fake_stack;
    void *tsan_fiber;
};

/* Make a fiber that runs entry(arg) when first switched to, with the floating-point modes of the
 * caller, on a stack from `cache`. `entry` must not return: it ends with fiber_switch_exit. */
IL_MUST_USE enum il_code fiber_init(struct fiber *fiber, struct stack_cache *cache,
                                    void (*entry)(void *arg), void *arg, struct il_error *err);

/* The same on a stack of your own, which needs `low` and `size` only; and the end of such a fiber,
 * which gives it back. For whoever keeps stacks apart from the depot. */
void fiber_init_on(struct fiber *fiber, struct stack *stack, void (*entry)(void *arg), void *arg);
struct stack *fiber_deinit_on(struct fiber *fiber);

/* Make `fiber` stand for the calling thread and its own stack; it is the one that runs. */
void fiber_init_thread(struct fiber *fiber);

/* Return the stack to `cache`, that of the loop which the calling thread holds, or NULL if it holds
 * none. A suspended fiber may be thrown away too: nothing on its stack is run or freed. For one
 * made by fiber_init_thread: on its thread. Does nothing the second time. */
void fiber_deinit(struct fiber *fiber, struct stack_cache *cache);

/* Leave `from`, which runs, and go on in `to`, which is suspended. Returns when somebody switches
 * to `from`, perhaps on another thread. */
void fiber_switch(struct fiber *from, struct fiber *to);

/* The last thing `from` does. Not for a thread's own. */
__attribute__((noreturn)) void fiber_switch_exit(struct fiber *from, struct fiber *to);

#endif
