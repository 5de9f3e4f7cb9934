/* unwind.h: from copied registers and a copied stack to named frames. Runs in the stacks child. */
#ifndef DOCTOR_UNWIND_H
#define DOCTOR_UNWIND_H

#include "doctor/look.h"

#define UNWIND_REGISTER_COUNT 17 /* DWARF's numbering of x86-64: 16 is the return address */

struct unwind_input {
    pid_t tid;
    uint64_t registers[UNWIND_REGISTER_COUNT];
    uint32_t known; /* bits: which registers are known */
    uint64_t stack_start;
    size_t stack_size;
    const unsigned char *stack;
};

struct unwinder;

/* NULL when the target's files cannot be read. */
struct unwinder *unwinder_new(pid_t pid);

/* Frames found, innermost first; 0 when none. */
uint32_t unwinder_run(struct unwinder *unwinder, const struct unwind_input *input,
                      struct thread_frame frames[LOOK_FRAMES_MAX]);

void unwinder_free(struct unwinder *unwinder);

#endif
