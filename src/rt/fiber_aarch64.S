/* fiber_aarch64.S: how aarch64 leaves one stack and goes on with another.
 *
 * A suspended fiber's sp points at (struct fiber_frame in fiber.c):
 *     0 x29 x30   16 x19 … x28   96 d8 … d15   160 fpcr   168 unused
 * Both stacks have that shape at the moment of the switch, so the unwind rules hold throughout.
 * Marked for branch target identification (BTI): "hint #34" is "bti c". */

        .text

/* void *fiber_swap(void **save_sp, void *sp, void *message): save here, go on there. Returns, on
 * the other stack, the message of whoever switched to it. */
        .globl  fiber_swap
        .hidden fiber_swap
        .type   fiber_swap, %function
        .p2align 4
fiber_swap:
        .cfi_startproc
        hint    #34
        stp     x29, x30, [sp, #-176]!
        .cfi_def_cfa_offset 176
        .cfi_offset x29, -176
        .cfi_offset x30, -168
        stp     x19, x20, [sp, #16]
        .cfi_offset x19, -160
        .cfi_offset x20, -152
        stp     x21, x22, [sp, #32]
        .cfi_offset x21, -144
        .cfi_offset x22, -136
        stp     x23, x24, [sp, #48]
        .cfi_offset x23, -128
        .cfi_offset x24, -120
        stp     x25, x26, [sp, #64]
        .cfi_offset x25, -112
        .cfi_offset x26, -104
        stp     x27, x28, [sp, #80]
        .cfi_offset x27, -96
        .cfi_offset x28, -88
        stp     d8, d9, [sp, #96]
        .cfi_offset d8, -80
        .cfi_offset d9, -72
        stp     d10, d11, [sp, #112]
        .cfi_offset d10, -64
        .cfi_offset d11, -56
        stp     d12, d13, [sp, #128]
        .cfi_offset d12, -48
        .cfi_offset d13, -40
        stp     d14, d15, [sp, #144]
        .cfi_offset d14, -32
        .cfi_offset d15, -24
        mrs     x9, fpcr
        str     x9, [sp, #160]

        mov     x10, sp
        str     x10, [x0]
        mov     sp, x1

        ldr     x10, [sp, #160]
        cmp     x9, x10                 /* writing fpcr is slow, and it rarely differs */
        b.eq    1f
        msr     fpcr, x10
1:
        mov     x0, x2
        ldp     d14, d15, [sp, #144]
        ldp     d12, d13, [sp, #128]
        ldp     d10, d11, [sp, #112]
        ldp     d8, d9, [sp, #96]
        ldp     x27, x28, [sp, #80]
        ldp     x25, x26, [sp, #64]
        ldp     x23, x24, [sp, #48]
        ldp     x21, x22, [sp, #32]
        ldp     x19, x20, [sp, #16]
        ldp     x29, x30, [sp], #176
        .cfi_def_cfa_offset 0
        .cfi_restore x29
        .cfi_restore x30
        .cfi_restore x19
        .cfi_restore x20
        .cfi_restore x21
        .cfi_restore x22
        .cfi_restore x23
        .cfi_restore x24
        .cfi_restore x25
        .cfi_restore x26
        .cfi_restore x27
        .cfi_restore x28
        .cfi_restore d8
        .cfi_restore d9
        .cfi_restore d10
        .cfi_restore d11
        .cfi_restore d12
        .cfi_restore d13
        .cfi_restore d14
        .cfi_restore d15
        ret
        .cfi_endproc
        .size   fiber_swap, . - fiber_swap

/* Where a new fiber begins: x19 is its struct fiber, x0 the message, x29 0. There is no frame below
 * this one, and both kinds of unwinder learn it: no return address, and a frame pointer of 0. The nop
 * is for unwinders that look a fiber up which has not run yet: they search for the instruction
 * before the return address. */
        .type   fiber_first_frame, %function
        .p2align 4
fiber_first_frame:
        .cfi_startproc
        .cfi_undefined x30
        nop
        .globl  fiber_begin
        .hidden fiber_begin
fiber_begin:
        mov     x30, #0
        mov     x1, x0
        mov     x0, x19
        bl      fiber_main
        brk     #1
        .globl  fiber_begin_end
        .hidden fiber_begin_end
fiber_begin_end:
        .cfi_endproc
        .size   fiber_first_frame, . - fiber_first_frame

        .section .note.GNU-stack, "", %progbits

        .section .note.gnu.property, "a", %note
        .p2align 3
        .long   4                       /* size of the name */
        .long   16                      /* size of the description */
        .long   5                       /* NT_GNU_PROPERTY_TYPE_0 */
        .asciz  "GNU"
        .long   0xc0000000              /* GNU_PROPERTY_AARCH64_FEATURE_1_AND */
        .long   4
        .long   1                       /* BTI */
        .long   0
