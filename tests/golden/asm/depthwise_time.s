nn_depthwise_time_5_12_2_s10_0:
push {r4-r11, lr}
ldm r0, {r0-r3}
vmov s0, r3
nn_depthwise_time_5_12_2_s10_0_four:
@ four channels: sums from the biases on, two rows at a time
ldr.w r3, [r1], #88
ldr.w r4, [r1, #-84]
ldr.w r5, [r1, #-80]
ldr.w r6, [r1, #-76]
ldr.w r7, [r0], #4
ldr.w r8, [r0, #8]
ldr.w r9, [r1, #-72]
ldr.w r10, [r1, #-68]
ldr.w r11, [r1, #-64]
ldr.w r12, [r1, #-60]
pkhbt lr, r7, r8, lsl #16
pkhtb r7, r8, r7, asr #16
sxtb16 r8, lr
sxtb16 lr, lr, ror #8
smlad r3, r8, r9, r3
smlad r4, lr, r10, r4
sxtb16 r8, r7
sxtb16 r7, r7, ror #8
smlad r5, r8, r11, r5
smlad r6, r7, r12, r6
ldr.w r7, [r0, #20]
ldr.w r8, [r0, #32]
ldr.w r9, [r1, #-56]
ldr.w r10, [r1, #-52]
ldr.w r11, [r1, #-48]
ldr.w r12, [r1, #-44]
pkhbt lr, r7, r8, lsl #16
pkhtb r7, r8, r7, asr #16
sxtb16 r8, lr
sxtb16 lr, lr, ror #8
smlad r3, r8, r9, r3
smlad r4, lr, r10, r4
sxtb16 r8, r7
sxtb16 r7, r7, ror #8
smlad r5, r8, r11, r5
smlad r6, r7, r12, r6
@ an odd last row; to int8 and out
ldr.w r7, [r0, #44]
ldr.w r8, [r1, #-40]
ldr.w r9, [r1, #-36]
ldr.w r11, [r1, #-32]
ldr.w r12, [r1, #-28]
ldr.w lr, [r1, #-24]
sxtb16 r10, r7
sxtb16 r7, r7, ror #8
smlabb r3, r10, r8, r3
smlabt r4, r7, r8, r4
smlatb r5, r10, r9, r5
smlatt r6, r7, r9, r6
lsl.w r3, r3, #2
smmla r3, r3, r11, r12
ssat r3, #8, r3, asr #10
ldr.w r7, [r1, #-20]
ldr.w r8, [r1, #-16]
ldr.w r9, [r1, #-12]
ldr.w r10, [r1, #-8]
ldr.w r11, [r1, #-4]
lsl.w r4, r4, #2
smmla r4, r4, lr, r7
ssat r4, #8, r4, asr #10
lsl.w r5, r5, #2
smmla r5, r5, r8, r9
ssat r5, #8, r5, asr #10
lsl.w r6, r6, #2
smmla r6, r6, r10, r11
ssat r6, #8, r6, asr #10
strb.w r3, [r2], #4
strb.w r4, [r2, #-3]
strb.w r5, [r2, #-2]
strb.w r6, [r2, #-1]
vmov r7, s0
cmp r2, r7
bne.w nn_depthwise_time_5_12_2_s10_0_four
pop {r4-r11, pc}
nn_depthwise_time_4_8_0_z133:
push {r4-r11, lr}
ldm r0, {r0-r3}
vmov s0, r3
nn_depthwise_time_4_8_0_z133_four:
@ four channels: sums from the biases on, two rows at a time
ldr.w r3, [r1], #80
ldr.w r4, [r1, #-76]
ldr.w r5, [r1, #-72]
ldr.w r6, [r1, #-68]
ldr.w r7, [r0], #4
ldr.w r8, [r0, #4]
ldr.w r9, [r1, #-64]
ldr.w r10, [r1, #-60]
ldr.w r11, [r1, #-56]
ldr.w r12, [r1, #-52]
pkhbt lr, r7, r8, lsl #16
pkhtb r7, r8, r7, asr #16
sxtb16 r8, lr
sxtb16 lr, lr, ror #8
smlad r3, r8, r9, r3
smlad r4, lr, r10, r4
sxtb16 r8, r7
sxtb16 r7, r7, ror #8
smlad r5, r8, r11, r5
smlad r6, r7, r12, r6
ldr.w r7, [r0, #12]
ldr.w r8, [r0, #20]
ldr.w r9, [r1, #-48]
ldr.w r10, [r1, #-44]
ldr.w r11, [r1, #-40]
ldr.w r12, [r1, #-36]
pkhbt lr, r7, r8, lsl #16
pkhtb r7, r8, r7, asr #16
sxtb16 r8, lr
sxtb16 lr, lr, ror #8
smlad r3, r8, r9, r3
smlad r4, lr, r10, r4
sxtb16 r8, r7
sxtb16 r7, r7, ror #8
smlad r5, r8, r11, r5
smlad r6, r7, r12, r6
@ an odd last row; to int8 and out
ldr.w r7, [r1, #-32]
ldr.w r8, [r1, #-28]
ldr.w r9, [r1, #-24]
ldr.w r10, [r1, #-20]
ldr.w r11, [r1, #-16]
ldr.w r12, [r1, #-12]
ldr.w lr, [r1, #-8]
smmulr r3, r3, r7
add.w r3, r3, r3, asr #31
asr.w r3, r3, r8
addw r3, r3, #11
ssat r3, #8, r3, asr #1
ldr.w r7, [r1, #-4]
smmulr r4, r4, r9
add.w r4, r4, r4, asr #31
asr.w r4, r4, r10
addw r4, r4, #11
ssat r4, #8, r4, asr #1
smmulr r5, r5, r11
add.w r5, r5, r5, asr #31
asr.w r5, r5, r12
addw r5, r5, #11
ssat r5, #8, r5, asr #1
smmulr r6, r6, lr
add.w r6, r6, r6, asr #31
asr.w r6, r6, r7
addw r6, r6, #11
ssat r6, #8, r6, asr #1
strb.w r3, [r2], #4
strb.w r4, [r2, #-3]
strb.w r5, [r2, #-2]
strb.w r6, [r2, #-1]
vmov r7, s0
cmp r2, r7
bne.w nn_depthwise_time_4_8_0_z133_four
pop {r4-r11, pc}
