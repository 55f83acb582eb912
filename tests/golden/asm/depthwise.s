nn_depthwise3_3_1_1_20_4_3_84_5_5_s10_0:
push {r4-r11, lr}
sub sp, sp, #32
ldm r0, {r1-r6}
lsrs r0, r6, #1
movw r7, #100
adr.w r8, nn_depthwise3_3_1_1_20_4_3_84_5_5_s10_0_end
mls r7, r0, r7, r8
orr r7, r7, #1
rsb r8, r0, #1
lsl r8, r8, #2
sub r1, r1, r8
stm sp, {r1-r8}
nn_depthwise3_3_1_1_20_4_3_84_5_5_s10_0_channel:
@ a channel: its nine weights in six words, its bias, its multiplier
ldr r6, [sp, #4]
ldm r6!, {r0-r5, r9, r10, lr}
str r6, [sp, #4]
vmov s0, r9
vmov s1, r10
ldr r6, [sp, #16]
ldr.w r12, [sp, #0]
ldr.w r11, [sp, #8]
vmov s4, r6
nn_depthwise3_3_1_1_20_4_3_84_5_5_s10_0_column:
@ a column of outputs downwards, into the unrolled steps so that `rows` of them are left
vmov s2, r12
vmov s3, r11
ldr.w r9, [sp, #28]
ldr.w r10, [sp, #24]
add r9, r9, r12
ldr.w r6, [r9, #0]
ldr.w r7, [r9, #12]
ldr.w r8, [r9, #24]
bx r10
.balign 4
vmov r12, s0
smlad r9, r6, r0, r12
smlatb r10, r6, r0, r12
smlad r9, r7, r1, r9
smlatb r10, r7, r1, r10
smlad r9, r8, r2, r9
smlatb r10, r8, r2, r10
vmov r12, s2
ldr.w r6, [r12, #4]
ldr.w r7, [r12, #16]
ldr.w r8, [r12, #28]
smlabt r9, r6, r3, r9
smlad r10, r6, r3, r10
smlabt r9, r7, r4, r9
smlad r10, r7, r4, r10
smlabt r9, r8, r5, r9
smlad r10, r8, r5, r10
vmov r12, s1
smmla r9, r9, r12, lr
smmla r10, r10, r12, lr
ssat r9, #8, r9, asr #10
ssat r10, #8, r10, asr #10
strb.w r9, [r11]
strb.w r10, [r11, #20]
addw r11, r11, #40
nn_depthwise3_3_1_1_20_4_3_84_5_5_s10_0_end:
@ next column, then next channel
ldr.w r10, [sp, #20]
lsls r10, r10, #31
beq nn_depthwise3_3_1_1_20_4_3_84_5_5_s10_0_even
vmov r12, s0
smlad r9, r6, r0, r12
smlad r9, r7, r1, r9
smlad r9, r8, r2, r9
vmov r12, s2
ldr.w r6, [r12, #8]
ldr.w r7, [r12, #20]
ldr.w r8, [r12, #32]
smlabt r9, r6, r3, r9
smlabt r9, r7, r4, r9
smlabt r9, r8, r5, r9
vmov r12, s1
smmla r9, r9, r12, lr
ssat r9, #8, r9, asr #10
strb.w r9, [r11]
nn_depthwise3_3_1_1_20_4_3_84_5_5_s10_0_even:
vmov r12, s2
vmov r11, s3
vmov r9, s4
addw r12, r12, #12
addw r11, r11, #4
subs r9, r9, #1
vmov s4, r9
bne.w nn_depthwise3_3_1_1_20_4_3_84_5_5_s10_0_column
ldr.w r6, [sp, #0]
ldr.w r7, [sp, #8]
ldr.w r8, [sp, #12]
addw r6, r6, #84
add r7, r7, #1
subs r8, r8, #1
str r6, [sp, #0]
str r7, [sp, #8]
str r8, [sp, #12]
bne.w nn_depthwise3_3_1_1_20_4_3_84_5_5_s10_0_channel
add sp, sp, #32
pop {r4-r11, pc}
nn_depthwise3_3_1_1_20_4_3_84_5_5_take:
push {r4-r11, lr}
sub sp, sp, #12
add r0, r0, #24
ldm r0, {r1-r7}
str r6, [sp, #0]
str r4, [sp, #4]
mov lr, r1
mov r9, r2
addw r10, r2, #168
mov r11, r3
mov r12, r5
mov r8, r7
nn_depthwise3_3_1_1_20_4_3_84_5_5_take_pair:
@ two input rows, or zeros where they lie outside
addw r0, lr, #0
movw r2, #4
cmp r11, r12
itt hs
movhs r0, sp
movhs r2, #0
add r11, r11, #1
addw r1, lr, #20
movw r3, #4
cmp r11, r12
itt hs
movhs r1, sp
movhs r3, #0
add r11, r11, #1
addw lr, lr, #40
@ columns of four channels, less the zero point: the two rows of a channel to a word
ldr.w r4, [r0]
ldr.w r5, [r1]
add r0, r0, r2
add r1, r1, r3
pkhbt r6, r4, r5, lsl #16
pkhtb r4, r5, r4, asr #16
sxtab16 r7, r8, r6
sxtab16 r6, r8, r6, ror #8
str.w r7, [r9, #0]
str.w r6, [r9, #84]
sxtab16 r7, r8, r4
sxtab16 r4, r8, r4, ror #8
str.w r7, [r10, #0]
str.w r4, [r10, #84]
ldr.w r4, [r0]
ldr.w r5, [r1]
add r0, r0, r2
add r1, r1, r3
pkhbt r6, r4, r5, lsl #16
pkhtb r4, r5, r4, asr #16
sxtab16 r7, r8, r6
sxtab16 r6, r8, r6, ror #8
str.w r7, [r9, #12]
str.w r6, [r9, #96]
sxtab16 r7, r8, r4
sxtab16 r4, r8, r4, ror #8
str.w r7, [r10, #12]
str.w r4, [r10, #96]
ldr.w r4, [r0]
ldr.w r5, [r1]
add r0, r0, r2
add r1, r1, r3
pkhbt r6, r4, r5, lsl #16
pkhtb r4, r5, r4, asr #16
sxtab16 r7, r8, r6
sxtab16 r6, r8, r6, ror #8
str.w r7, [r9, #24]
str.w r6, [r9, #108]
sxtab16 r7, r8, r4
sxtab16 r4, r8, r4, ror #8
str.w r7, [r10, #24]
str.w r4, [r10, #108]
ldr.w r4, [r0]
ldr.w r5, [r1]
add r0, r0, r2
add r1, r1, r3
pkhbt r6, r4, r5, lsl #16
pkhtb r4, r5, r4, asr #16
sxtab16 r7, r8, r6
sxtab16 r6, r8, r6, ror #8
str.w r7, [r9, #36]
str.w r6, [r9, #120]
sxtab16 r7, r8, r4
sxtab16 r4, r8, r4, ror #8
str.w r7, [r10, #36]
str.w r4, [r10, #120]
ldr.w r4, [r0]
ldr.w r5, [r1]
add r0, r0, r2
add r1, r1, r3
pkhbt r6, r4, r5, lsl #16
pkhtb r4, r5, r4, asr #16
sxtab16 r7, r8, r6
sxtab16 r6, r8, r6, ror #8
str.w r7, [r9, #48]
str.w r6, [r9, #132]
sxtab16 r7, r8, r4
sxtab16 r4, r8, r4, ror #8
str.w r7, [r10, #48]
str.w r4, [r10, #132]
addw r9, r9, #4
addw r10, r10, #4
ldr r4, [sp, #4]
subs r4, r4, #1
str r4, [sp, #4]
bne.w nn_depthwise3_3_1_1_20_4_3_84_5_5_take_pair
add sp, sp, #12
pop {r4-r11, pc}
