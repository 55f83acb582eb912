nn_dense_pairs:
push {r4-r11, lr}
ldm r0, {r0-r3}
push {r3}
ldm r3, {r4-r7}
nn_dense_pairs_turn:
@ 8 inputs against words of a pair of outputs, twice
ldr r12, [r1], #4
ldr r9, [r0, #4]
ldr r10, [r0, #8]
ldr r11, [r0, #12]
ldr r8, [r0], #16
sxtb16 lr, r12, ror #8
sxtb16 r12, r12
smlad r5, r12, r8, r5
sxtb16 r8, r8
smlad r4, r12, r8, r4
smlad r5, lr, r9, r5
sxtb16 r9, r9
smlad r4, lr, r9, r4
smlad r7, r12, r10, r7
sxtb16 r10, r10
smlad r6, r12, r10, r6
smlad r7, lr, r11, r7
sxtb16 r11, r11
smlad r6, lr, r11, r6
ldr r12, [r1], #4
ldr r9, [r0, #4]
ldr r10, [r0, #8]
ldr r11, [r0, #12]
ldr r8, [r0], #16
sxtb16 lr, r12, ror #8
sxtb16 r12, r12
smlad r5, r12, r8, r5
sxtb16 r8, r8
smlad r4, r12, r8, r4
smlad r5, lr, r9, r5
sxtb16 r9, r9
smlad r4, lr, r9, r4
smlad r7, r12, r10, r7
sxtb16 r10, r10
smlad r6, r12, r10, r6
smlad r7, lr, r11, r7
sxtb16 r11, r11
smlad r6, lr, r11, r6
subs r2, r2, #1
bne.w nn_dense_pairs_turn
pop {r3}
stm r3, {r4-r7}
pop {r4-r11, pc}
