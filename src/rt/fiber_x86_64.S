/* fiber_x86_64.S: how x86-64 leaves one stack and goes on with another.
 *
 * A suspended fiber's sp points at (struct fiber_frame in fiber.c):
 *     0 mxcsr   4 x87 control word   8 r15   16 r14   24 r13   32 r12   40 rbx   48 rbp   56 return address
 * Both stacks have that shape at the moment of the switch, so the unwind rules hold throughout.
 *
 * Marked for indirect branch tracking (IBT). Not for shadow stacks: a fiber would need a shadow
 * stack of its own, and a library that does not say so makes the C library leave them off. */

        .text

/* void *fiber_swap(void **save_sp, void *sp, void *message): save here, go on there. Returns, on
 * the other stack, the message of whoever switched to it. */
        .globl  fiber_swap
        .hidden fiber_swap
        .type   fiber_swap, @function
        .p2align 4
fiber_swap:
        .cfi_startproc
        endbr64
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbp, 0
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbx, 0
        pushq   %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r12, 0
        pushq   %r13
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r13, 0
        pushq   %r14
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r14, 0
        pushq   %r15
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r15, 0
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        stmxcsr (%rsp)
        fnstcw  4(%rsp)

        movq    %rsp, (%rdi)
        movq    %rsi, %rsp

        movq    %rdx, %rax
        ldmxcsr (%rsp)
        fldcw   4(%rsp)
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq    %r15
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r15
        popq    %r14
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r14
        popq    %r13
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r13
        popq    %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r12
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbx
        popq    %rbp
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbp
        ret
        .cfi_endproc
        .size   fiber_swap, . - fiber_swap

/* Where a new fiber begins: r12 is its struct fiber, rax the message, rbp 0, rsp aligned to 16. There
 * is no frame below this one, and both kinds of unwinder learn it: no return address, and a frame
 * pointer of 0. The nop is for unwinders that look a fiber up which has not run yet: they search for
 * the instruction before the return address. */
        .type   fiber_first_frame, @function
        .p2align 4
fiber_first_frame:
        .cfi_startproc
        .cfi_undefined %rip
        nop
        .globl  fiber_begin
        .hidden fiber_begin
fiber_begin:
        endbr64
        movq    %r12, %rdi
        movq    %rax, %rsi
        call    fiber_main
        ud2
        .globl  fiber_begin_end
        .hidden fiber_begin_end
fiber_begin_end:
        .cfi_endproc
        .size   fiber_first_frame, . - fiber_first_frame

        .section .note.GNU-stack, "", @progbits

        .section .note.gnu.property, "a", @note
        .p2align 3
        .long   4                       /* size of the name */
        .long   16                      /* size of the description */
        .long   5                       /* NT_GNU_PROPERTY_TYPE_0 */
        .asciz  "GNU"
        .long   0xc0000002              /* GNU_PROPERTY_X86_FEATURE_1_AND */
        .long   4
        .long   1                       /* IBT */
        .long   0
