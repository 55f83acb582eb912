// A sort's inner loop, one basic block that leads to itself: pairs are exchanged in an IT block whose pointers are
// loaded in front of it.
    .syntax unified
    .thumb
    .cpu cortex-m4
    .text
    .global main
    .type main, %function
main:
    ldr r0, =pairs
    ldr r8, =1001
loop:
    ldr r4, [r0]
    ldr r5, [r0, #4]
    tst r8, #1
    itttt ne
    ldrdne r2, r3, [r4]
    strdne r3, r2, [r4]
    ldrdne r2, r3, [r5, #8]
    strdne r3, r2, [r5, #8]
    subs r8, #1
    bne loop
    ldr r0, =pair
    ldm r0, {r1-r4}
    ldr r0, =results
    stm r0, {r1-r4}
    movs r1, #4
    ldr r0, =result_count
    str r1, [r0]
    bl finish
    .ltorg
    .data
    .balign 8
pairs:
    .word pair, pair
pair:
    .word 1, 2, 3, 4
