// The inner loop of nn_dense_s8_simd as assembly for the Cortex-M4.
#include "nn_dense_simd.h"

#if NN_HAS_DSP

__asm__(
    ".syntax unified\n"
    ".thumb\n"

    ".macro nn_dense_row w, sum\n"
    "sxtb16 r3, \\w\n"
    "smlad \\sum, r12, r3, \\sum\n"
    "sxtb16 \\w, \\w, ror #8\n"
    "smlad \\sum, lr, \\w, \\sum\n"
    ".endm\n"

    // nn_dense_sixteens: r0 weights, r1 input, r2 turns left, r4-r7 the sums, r12 and lr the even and odd values of four inputs.
    ".section .data.nn_dense_sixteens, \"awx\", %progbits\n"
    ".balign 4\n"
    ".global nn_dense_sixteens\n"
    ".type nn_dense_sixteens, %function\n"
    ".thumb_func\n"
    "nn_dense_sixteens:\n"
    "push {r3-r11, lr}\n"
    "ldm r3, {r4-r7}\n"
    "1:\n"
    ".rept 4\n"
    "ldr r12, [r1], #4\n"
    "ldr r9, [r0, #4]\n"
    "ldr r10, [r0, #8]\n"
    "ldr r11, [r0, #12]\n"
    "ldr r8, [r0], #16\n"
    "sxtb16 lr, r12, ror #8\n"
    "sxtb16 r12, r12\n"
    "nn_dense_row r8, r4\n"
    "nn_dense_row r9, r5\n"
    "nn_dense_row r10, r6\n"
    "nn_dense_row r11, r7\n"
    ".endr\n"
    "subs r2, r2, #1\n"
    "bne.w 1b\n"
    "ldr r3, [sp]\n"
    "stm r3, {r4-r7}\n"
    "pop {r3-r11, pc}\n"
    ".text\n");

#endif
