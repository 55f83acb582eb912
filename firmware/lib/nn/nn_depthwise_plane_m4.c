// The inner loop of nn_depthwise_plane_s8 as assembly for the Cortex-M4: all weights of a channel in registers, two output rows at a time.
// What it computes is convolve_plane in nn_depthwise_plane.c with weights and sums doubled.
#include "nn_depthwise_plane.h"

#if NN_HAS_DSP

__asm__(
    ".syntax unified\n"
    ".thumb\n"

    ".macro nn_plane_relu s\n"  // below zero any rounding will do: it is clamped
    "smmlar \\s, \\s, lr, r11\n"
    "asr \\s, \\s, r12\n"
    "usat \\s, #8, \\s\n"
    "eor \\s, \\s, #0x80\n"
    ".endm\n"

    ".macro nn_plane_full s\n"
    "smmulr \\s, \\s, lr\n"
    "add \\s, \\s, \\s, asr #31\n"
    "asr \\s, \\s, r12\n"
    "add \\s, \\s, r11\n"
    "ssat \\s, #8, \\s, asr #1\n"
    ".endm\n"

    // One column of words, those of the upper and of the lower pair of rows.
    ".macro nn_plane_column above, below, upper, lower\n"
    "smlad r9, \\above, \\upper, r9\n"
    "smlad r10, \\below, \\lower, r10\n"
    "smlabt r9, \\below, \\lower, r9\n"
    "smlatb r10, \\above, \\upper, r10\n"
    ".endm\n"

    // void name(nn_plane_args *): r0-r5 weights, r6 and r7 the middle columns, r8 output, r9 and r10 the two sums. The arguments are
    // used where they lie; r0 is kept in the frame.
    ".macro nn_plane name, kind\n"
    ".section .data.\\name, \"awx\", %progbits\n"
    ".balign 4\n"
    ".global \\name\n"
    ".type \\name, %function\n"
    ".thumb_func\n"
    "\\name:\n"
    "push {r4-r11, lr}\n"
    "sub sp, #52\n"
    "ldm r0!, {r1-r7}\n"
    "stm sp, {r1-r7}\n"
    "add r12, sp, #28\n"
    "ldm r0!, {r1-r6}\n"
    "stm r12, {r1-r6}\n"
    "ldm r0, {r0-r5}\n"
    "1:\n"
    "ldr r6, [sp, #28]\n"  // x
    "ldr r7, [sp, #32]\n"  // bytes of a row of words
    "ldr r8, [sp, #40]\n"  // output
    "ldr r9, [sp, #36]\n"  // bytes of words that a row of outputs passes over
    "add r7, r7, r6\n"
    "add r9, r9, r6\n"
    "str r7, [sp, #28]\n"
    "str r9, [sp]\n"
    "2:\n"
    "ldr r9, [sp, #24]\n"
    "ldr r11, [r6, #-4]\n"
    "ldr r12, [r7, #-4]\n"
    "ldr lr, [r6]\n"
    "mov r10, r9\n"
    "nn_plane_column r11, r12, r0, r3\n"
    "ldr r12, [r7]\n"
    "ldr r11, [r6, #4]!\n"
    "nn_plane_column lr, r12, r1, r4\n"
    "ldr r12, [r7, #4]!\n"
    "ldr lr, [sp, #12]\n"
    "nn_plane_column r11, r12, r2, r5\n"
    "ldr r11, [sp, #16]\n"
    "ldr r12, [sp, #20]\n"
    "nn_plane_\\kind r9\n"
    "nn_plane_\\kind r10\n"
    "ldr r11, [sp, #4]\n"
    "ldr r12, [sp, #8]\n"
    "ldr lr, [sp]\n"
    "strb r10, [r8, r11]\n"  // first, since a last single row has r11 = 0
    "strb r9, [r8]\n"
    "add r8, r8, r12\n"
    "cmp r6, lr\n"
    "bne 2b\n"
    "ldr r9, [sp, #44]\n"  // rows of outputs left
    "add r8, r8, r11\n"
    "str r8, [sp, #40]\n"
    "subs r9, r9, #2\n"
    "str r9, [sp, #44]\n"
    "cmp r9, #1\n"
    "it eq\n"
    "moveq r11, #0\n"
    "str r11, [sp, #4]\n"
    "bge 1b\n"
    "add sp, #52\n"
    "pop {r4-r11, pc}\n"
    ".endm\n"

    "nn_plane nn_plane_rows_relu, relu\n"
    "nn_plane nn_plane_rows_full, full\n"
    ".text\n");

#endif
