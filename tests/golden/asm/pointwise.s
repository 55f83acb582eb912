nn_pointwise_6_4_6_s10_0_x1:
push {r4-r11, lr}
sub sp, sp, #20
ldm r0, {r0-r3}
str.w r1, [sp, #12]
str.w r3, [sp, #16]
mov r11, r2
@ all pixels as words of two int16 on the stack
mov r10, sp
ldr.w r2, [r0], #4
sxtb16 r1, r2
sxtb16 r2, r2, ror #8
stm r10!, {r1-r2}
ldrsb.w r1, [r0], #1
ldrsb.w r2, [r0], #1
pkhbt r1, r1, r2, lsl #16
str r1, [r10], #4
mov r2, r11
nn_pointwise_6_4_6_s10_0_x1_pair:
@ two channels a and b: sums over all taps of every pixel, from the biases on
ldr.w r0, [r2]
ldr.w r1, [r2, #4]
ldr.w r3, [r2, #8]
ldr.w r4, [r2, #12]
ldr.w r5, [sp, #0]
ldr.w r6, [r2, #16]
ldr.w r7, [r2, #20]
ldr.w r8, [sp, #4]
ldr.w r9, [r2, #24]
ldr.w r10, [r2, #28]
ldr.w r11, [sp, #8]
smlad r0, r5, r3, r0
smlad r1, r5, r4, r1
smlad r0, r8, r6, r0
smlad r1, r8, r7, r1
smlad r0, r11, r9, r0
smlad r1, r11, r10, r1
@ to int8 and out
ldr.w r3, [sp, #12]
ldr.w r4, [r2, #32]
ldr.w r5, [r2, #36]
ldr.w r6, [r2, #40]
ldr.w r7, [r2, #44]
smmla r0, r0, r4, r5
ssat r0, #8, r0, asr #10
smmla r1, r1, r6, r7
ssat r1, #8, r1, asr #10
strb.w r0, [r3, #0]
strb.w r1, [r3, #1]
ldr.w r4, [sp, #16]
add.w r3, r3, #2
str.w r3, [sp, #12]
addw r2, r2, #48
cmp r3, r4
bne.w nn_pointwise_6_4_6_s10_0_x1_pair
add sp, sp, #20
pop {r4-r11, pc}
nn_pointwise_6_4_6_s10_0_x4:
push {r4-r11, lr}
sub sp, sp, #56
ldm r0, {r0-r3}
str.w r1, [sp, #48]
str.w r3, [sp, #52]
mov r11, r2
@ all pixels as words of two int16 on the stack
mov r10, sp
mov r12, #4
nn_pointwise_6_4_6_s10_0_x4_pixel:
ldr.w r2, [r0], #4
sxtb16 r1, r2
sxtb16 r2, r2, ror #8
stm r10!, {r1-r2}
ldrsb.w r1, [r0], #1
ldrsb.w r2, [r0], #1
pkhbt r1, r1, r2, lsl #16
str r1, [r10], #4
subs r12, r12, #1
bne.w nn_pointwise_6_4_6_s10_0_x4_pixel
addw r0, sp, #36
vldmia r0, {s0, s1, s2}
mov r8, r11
nn_pointwise_6_4_6_s10_0_x4_pair:
@ two channels a and b: sums over all taps of every pixel, from the biases on
ldr.w r0, [r8]
ldr.w r4, [r8, #4]
ldr.w r9, [r8, #8]
ldr.w r10, [r8, #12]
ldr.w r11, [sp, #12]
ldr.w r12, [sp, #24]
ldr.w lr, [sp, #0]
smlad r1, r11, r9, r0
smlad r5, r11, r10, r4
smlad r2, r12, r9, r0
smlad r6, r12, r10, r4
vmov r11, s0
smlad r3, r11, r9, r0
smlad r7, r11, r10, r4
smlad r0, lr, r9, r0
smlad r4, lr, r10, r4
ldr.w r12, [r8, #16]
ldr.w r11, [r8, #20]
ldr.w lr, [sp, #4]
ldr.w r9, [sp, #16]
ldr.w r10, [sp, #28]
smlad r0, lr, r12, r0
smlad r4, lr, r11, r4
smlad r1, r9, r12, r1
smlad r5, r9, r11, r5
smlad r2, r10, r12, r2
smlad r6, r10, r11, r6
vmov lr, s1
smlad r3, lr, r12, r3
smlad r7, lr, r11, r7
ldr.w r9, [r8, #24]
ldr.w r10, [r8, #28]
ldr.w lr, [sp, #8]
ldr.w r12, [sp, #20]
ldr.w r11, [sp, #32]
smlad r0, lr, r9, r0
smlad r4, lr, r10, r4
smlad r1, r12, r9, r1
smlad r5, r12, r10, r5
smlad r2, r11, r9, r2
smlad r6, r11, r10, r6
vmov lr, s2
smlad r3, lr, r9, r3
smlad r7, lr, r10, r7
@ to int8 and out
ldr.w r9, [sp, #48]
ldr.w r10, [r8, #32]
ldr.w r11, [r8, #36]
ldr.w r12, [r8, #40]
ldr.w lr, [r8, #44]
smmla r0, r0, r10, r11
smmla r1, r1, r10, r11
smmla r2, r2, r10, r11
smmla r3, r3, r10, r11
ssat r0, #8, r0, asr #10
ssat r1, #8, r1, asr #10
ssat r2, #8, r2, asr #10
ssat r3, #8, r3, asr #10
smmla r4, r4, r12, lr
smmla r5, r5, r12, lr
smmla r6, r6, r12, lr
smmla r7, r7, r12, lr
ssat r4, #8, r4, asr #10
ssat r5, #8, r5, asr #10
ssat r6, #8, r6, asr #10
ssat r7, #8, r7, asr #10
strb.w r0, [r9, #0]
strb.w r1, [r9, #4]
strb.w r2, [r9, #8]
strb.w r3, [r9, #12]
strb.w r4, [r9, #1]
strb.w r5, [r9, #5]
strb.w r6, [r9, #9]
strb.w r7, [r9, #13]
ldr.w r10, [sp, #52]
add.w r9, r9, #2
str.w r9, [sp, #48]
addw r8, r8, #48
cmp r9, r10
bne.w nn_pointwise_6_4_6_s10_0_x4_pair
add sp, sp, #56
pop {r4-r11, pc}
nn_pointwise_6_4_6_z133_x1:
push {r4-r11, lr}
sub sp, sp, #20
ldm r0, {r0-r3}
str.w r1, [sp, #12]
str.w r3, [sp, #16]
mov r11, r2
@ all pixels as words of two int16 on the stack
mov r10, sp
ldr.w r2, [r0], #4
sxtb16 r1, r2
sxtb16 r2, r2, ror #8
stm r10!, {r1-r2}
ldrsb.w r1, [r0], #1
ldrsb.w r2, [r0], #1
pkhbt r1, r1, r2, lsl #16
str r1, [r10], #4
mov r2, r11
nn_pointwise_6_4_6_z133_x1_pair:
@ two channels a and b: sums over all taps of every pixel, from the biases on
ldr.w r0, [r2]
ldr.w r1, [r2, #4]
ldr.w r3, [r2, #8]
ldr.w r4, [r2, #12]
ldr.w r5, [sp, #0]
ldr.w r6, [r2, #16]
ldr.w r7, [r2, #20]
ldr.w r8, [sp, #4]
ldr.w r9, [r2, #24]
ldr.w r10, [r2, #28]
ldr.w r11, [sp, #8]
smlad r0, r5, r3, r0
smlad r1, r5, r4, r1
smlad r0, r8, r6, r0
smlad r1, r8, r7, r1
smlad r0, r11, r9, r0
smlad r1, r11, r10, r1
@ to int8 and out
ldr.w r3, [sp, #12]
ldr.w r4, [r2, #32]
ldr.w r5, [r2, #36]
ldr.w r6, [r2, #40]
ldr.w r7, [r2, #44]
smmulr r0, r0, r4
add.w r0, r0, r0, asr #31
asr.w r0, r0, r5
addw r0, r0, #11
ssat r0, #8, r0, asr #1
smmulr r1, r1, r6
add.w r1, r1, r1, asr #31
asr.w r1, r1, r7
addw r1, r1, #11
ssat r1, #8, r1, asr #1
strb.w r0, [r3, #0]
strb.w r1, [r3, #1]
ldr.w r4, [sp, #16]
add.w r3, r3, #2
str.w r3, [sp, #12]
addw r2, r2, #48
cmp r3, r4
bne.w nn_pointwise_6_4_6_z133_x1_pair
add sp, sp, #20
pop {r4-r11, pc}
nn_pointwise_6_4_6_z133_x4:
push {r4-r11, lr}
sub sp, sp, #56
ldm r0, {r0-r3}
str.w r1, [sp, #48]
str.w r3, [sp, #52]
mov r11, r2
@ all pixels as words of two int16 on the stack
mov r10, sp
mov r12, #4
nn_pointwise_6_4_6_z133_x4_pixel:
ldr.w r2, [r0], #4
sxtb16 r1, r2
sxtb16 r2, r2, ror #8
stm r10!, {r1-r2}
ldrsb.w r1, [r0], #1
ldrsb.w r2, [r0], #1
pkhbt r1, r1, r2, lsl #16
str r1, [r10], #4
subs r12, r12, #1
bne.w nn_pointwise_6_4_6_z133_x4_pixel
addw r0, sp, #36
vldmia r0, {s0, s1, s2}
mov r8, r11
nn_pointwise_6_4_6_z133_x4_pair:
@ two channels a and b: sums over all taps of every pixel, from the biases on
ldr.w r0, [r8]
ldr.w r4, [r8, #4]
ldr.w r9, [r8, #8]
ldr.w r10, [r8, #12]
ldr.w r11, [sp, #12]
ldr.w r12, [sp, #24]
ldr.w lr, [sp, #0]
smlad r1, r11, r9, r0
smlad r5, r11, r10, r4
smlad r2, r12, r9, r0
smlad r6, r12, r10, r4
vmov r11, s0
smlad r3, r11, r9, r0
smlad r7, r11, r10, r4
smlad r0, lr, r9, r0
smlad r4, lr, r10, r4
ldr.w r12, [r8, #16]
ldr.w r11, [r8, #20]
ldr.w lr, [sp, #4]
ldr.w r9, [sp, #16]
ldr.w r10, [sp, #28]
smlad r0, lr, r12, r0
smlad r4, lr, r11, r4
smlad r1, r9, r12, r1
smlad r5, r9, r11, r5
smlad r2, r10, r12, r2
smlad r6, r10, r11, r6
vmov lr, s1
smlad r3, lr, r12, r3
smlad r7, lr, r11, r7
ldr.w r9, [r8, #24]
ldr.w r10, [r8, #28]
ldr.w lr, [sp, #8]
ldr.w r12, [sp, #20]
ldr.w r11, [sp, #32]
smlad r0, lr, r9, r0
smlad r4, lr, r10, r4
smlad r1, r12, r9, r1
smlad r5, r12, r10, r5
smlad r2, r11, r9, r2
smlad r6, r11, r10, r6
vmov lr, s2
smlad r3, lr, r9, r3
smlad r7, lr, r10, r7
@ to int8 and out
ldr.w r9, [sp, #48]
ldr.w r10, [r8, #32]
ldr.w r11, [r8, #36]
ldr.w r12, [r8, #40]
ldr.w lr, [r8, #44]
smmulr r0, r0, r10
smmulr r1, r1, r10
smmulr r2, r2, r10
smmulr r3, r3, r10
add.w r0, r0, r0, asr #31
add.w r1, r1, r1, asr #31
add.w r2, r2, r2, asr #31
add.w r3, r3, r3, asr #31
asr.w r0, r0, r11
asr.w r1, r1, r11
asr.w r2, r2, r11
asr.w r3, r3, r11
addw r0, r0, #11
addw r1, r1, #11
addw r2, r2, #11
addw r3, r3, #11
ssat r0, #8, r0, asr #1
ssat r1, #8, r1, asr #1
ssat r2, #8, r2, asr #1
ssat r3, #8, r3, asr #1
smmulr r4, r4, r12
smmulr r5, r5, r12
smmulr r6, r6, r12
smmulr r7, r7, r12
add.w r4, r4, r4, asr #31
add.w r5, r5, r5, asr #31
add.w r6, r6, r6, asr #31
add.w r7, r7, r7, asr #31
asr.w r4, r4, lr
asr.w r5, r5, lr
asr.w r6, r6, lr
asr.w r7, r7, lr
addw r4, r4, #11
addw r5, r5, #11
addw r6, r6, #11
addw r7, r7, #11
ssat r4, #8, r4, asr #1
ssat r5, #8, r5, asr #1
ssat r6, #8, r6, asr #1
ssat r7, #8, r7, asr #1
strb.w r0, [r9, #0]
strb.w r1, [r9, #4]
strb.w r2, [r9, #8]
strb.w r3, [r9, #12]
strb.w r4, [r9, #1]
strb.w r5, [r9, #5]
strb.w r6, [r9, #9]
strb.w r7, [r9, #13]
ldr.w r10, [sp, #52]
add.w r9, r9, #2
str.w r9, [sp, #48]
addw r8, r8, #48
cmp r9, r10
bne.w nn_pointwise_6_4_6_z133_x4_pair
add sp, sp, #56
pop {r4-r11, pc}
nn_pointwise_5_4_2_2_11_s10_0_x1_places:
push {r4-r11, lr}
sub sp, sp, #32
ldm r0, {r0-r3}
str.w r1, [sp, #24]
str.w r3, [sp, #28]
mov r11, r2
@ all pixels as words of two int16 on the stack
mov r10, sp
ldr.w r2, [r0], #4
sxtb16 r1, r2
sxtb16 r2, r2, ror #8
stm r10!, {r1-r2}
ldrsb.w r1, [r0], #1
uxth r1, r1
str r1, [r10], #4
addw r0, r0, #6
ldr.w r2, [r0], #4
sxtb16 r1, r2
sxtb16 r2, r2, ror #8
stm r10!, {r1-r2}
ldrsb.w r1, [r0], #1
uxth r1, r1
str r1, [r10], #4
mov r2, r11
nn_pointwise_5_4_2_2_11_s10_0_x1_places_pair:
@ two channels a and b: sums over all taps of every pixel, from the biases on
ldr.w r0, [r2]
ldr.w r1, [r2, #4]
ldr.w r3, [r2, #8]
ldr.w r4, [r2, #12]
ldr.w r5, [sp, #0]
ldr.w r6, [r2, #16]
ldr.w r7, [r2, #20]
ldr.w r8, [sp, #4]
ldr.w r9, [r2, #24]
ldr.w r10, [r2, #28]
ldr.w r11, [sp, #8]
ldr.w r12, [r2, #32]
ldr.w lr, [r2, #36]
smlad r0, r5, r3, r0
smlad r1, r5, r4, r1
smlad r0, r8, r6, r0
smlad r1, r8, r7, r1
smlad r0, r11, r9, r0
smlad r1, r11, r10, r1
ldr.w r5, [sp, #12]
ldr.w r3, [r2, #40]
ldr.w r4, [r2, #44]
ldr.w r8, [sp, #16]
ldr.w r6, [r2, #48]
ldr.w r7, [r2, #52]
ldr.w r11, [sp, #20]
smlad r0, r5, r12, r0
smlad r1, r5, lr, r1
smlad r0, r8, r3, r0
smlad r1, r8, r4, r1
smlad r0, r11, r6, r0
smlad r1, r11, r7, r1
@ to int8 and out
ldr.w r3, [sp, #24]
ldr.w r4, [r2, #56]
ldr.w r5, [r2, #60]
ldr.w r6, [r2, #64]
ldr.w r7, [r2, #68]
smmla r0, r0, r4, r5
ssat r0, #8, r0, asr #10
smmla r1, r1, r6, r7
ssat r1, #8, r1, asr #10
ldr.w r6, [r2, #72]
uxtah r4, r3, r6
add.w r6, r3, r6, lsr #16
strb.w r0, [r4, #0]
strb.w r1, [r6, #0]
ldr.w r4, [sp, #28]
addw r2, r2, #76
cmp r2, r4
bne.w nn_pointwise_5_4_2_2_11_s10_0_x1_places_pair
add sp, sp, #32
pop {r4-r11, pc}
nn_pointwise_5_4_2_2_11_s10_0_x4_places:
push {r4-r11, lr}
sub sp, sp, #104
ldm r0, {r0-r3}
str.w r1, [sp, #96]
str.w r3, [sp, #100]
mov r11, r2
@ all pixels as words of two int16 on the stack
mov r10, sp
mov r12, #4
nn_pointwise_5_4_2_2_11_s10_0_x4_places_pixel:
ldr.w r2, [r0], #4
sxtb16 r1, r2
sxtb16 r2, r2, ror #8
stm r10!, {r1-r2}
ldrsb.w r1, [r0], #1
uxth r1, r1
str r1, [r10], #4
addw r0, r0, #6
ldr.w r2, [r0], #4
sxtb16 r1, r2
sxtb16 r2, r2, ror #8
stm r10!, {r1-r2}
ldrsb.w r1, [r0], #1
uxth r1, r1
str r1, [r10], #4
subw r0, r0, #14
subs r12, r12, #1
bne.w nn_pointwise_5_4_2_2_11_s10_0_x4_places_pixel
addw r0, sp, #72
vldmia r0, {s0, s1, s2, s3, s4, s5}
mov r8, r11
nn_pointwise_5_4_2_2_11_s10_0_x4_places_pair:
@ two channels a and b: sums over all taps of every pixel, from the biases on
ldr.w r0, [r8]
ldr.w r4, [r8, #4]
ldr.w r9, [r8, #8]
ldr.w r10, [r8, #12]
ldr.w r11, [sp, #24]
ldr.w r12, [sp, #48]
ldr.w lr, [sp, #0]
smlad r1, r11, r9, r0
smlad r5, r11, r10, r4
smlad r2, r12, r9, r0
smlad r6, r12, r10, r4
vmov r11, s0
smlad r3, r11, r9, r0
smlad r7, r11, r10, r4
smlad r0, lr, r9, r0
smlad r4, lr, r10, r4
ldr.w r12, [r8, #16]
ldr.w r11, [r8, #20]
ldr.w lr, [sp, #4]
ldr.w r9, [sp, #28]
ldr.w r10, [sp, #52]
smlad r0, lr, r12, r0
smlad r4, lr, r11, r4
smlad r1, r9, r12, r1
smlad r5, r9, r11, r5
smlad r2, r10, r12, r2
smlad r6, r10, r11, r6
vmov lr, s1
smlad r3, lr, r12, r3
smlad r7, lr, r11, r7
ldr.w r9, [r8, #24]
ldr.w r10, [r8, #28]
ldr.w lr, [sp, #8]
ldr.w r12, [sp, #32]
ldr.w r11, [sp, #56]
smlad r0, lr, r9, r0
smlad r4, lr, r10, r4
smlad r1, r12, r9, r1
smlad r5, r12, r10, r5
smlad r2, r11, r9, r2
smlad r6, r11, r10, r6
vmov lr, s2
smlad r3, lr, r9, r3
smlad r7, lr, r10, r7
ldr.w r12, [r8, #32]
ldr.w r11, [r8, #36]
ldr.w lr, [sp, #12]
ldr.w r9, [sp, #36]
ldr.w r10, [sp, #60]
smlad r0, lr, r12, r0
smlad r4, lr, r11, r4
smlad r1, r9, r12, r1
smlad r5, r9, r11, r5
smlad r2, r10, r12, r2
smlad r6, r10, r11, r6
vmov lr, s3
smlad r3, lr, r12, r3
smlad r7, lr, r11, r7
ldr.w r9, [r8, #40]
ldr.w r10, [r8, #44]
ldr.w lr, [sp, #16]
ldr.w r12, [sp, #40]
ldr.w r11, [sp, #64]
smlad r0, lr, r9, r0
smlad r4, lr, r10, r4
smlad r1, r12, r9, r1
smlad r5, r12, r10, r5
smlad r2, r11, r9, r2
smlad r6, r11, r10, r6
vmov lr, s4
smlad r3, lr, r9, r3
smlad r7, lr, r10, r7
ldr.w r12, [r8, #48]
ldr.w r11, [r8, #52]
ldr.w lr, [sp, #20]
ldr.w r9, [sp, #44]
ldr.w r10, [sp, #68]
smlad r0, lr, r12, r0
smlad r4, lr, r11, r4
smlad r1, r9, r12, r1
smlad r5, r9, r11, r5
smlad r2, r10, r12, r2
smlad r6, r10, r11, r6
vmov lr, s5
smlad r3, lr, r12, r3
smlad r7, lr, r11, r7
@ to int8 and out
ldr.w r9, [sp, #96]
ldr.w r10, [r8, #56]
ldr.w r11, [r8, #60]
ldr.w r12, [r8, #64]
ldr.w lr, [r8, #68]
smmla r0, r0, r10, r11
smmla r1, r1, r10, r11
smmla r2, r2, r10, r11
smmla r3, r3, r10, r11
ssat r0, #8, r0, asr #10
ssat r1, #8, r1, asr #10
ssat r2, #8, r2, asr #10
ssat r3, #8, r3, asr #10
smmla r4, r4, r12, lr
smmla r5, r5, r12, lr
smmla r6, r6, r12, lr
smmla r7, r7, r12, lr
ssat r4, #8, r4, asr #10
ssat r5, #8, r5, asr #10
ssat r6, #8, r6, asr #10
ssat r7, #8, r7, asr #10
ldr.w r12, [r8, #72]
uxtah r10, r9, r12
add.w r12, r9, r12, lsr #16
strb.w r0, [r10, #0]
strb.w r1, [r10, #4]
strb.w r2, [r10, #8]
strb.w r3, [r10, #12]
strb.w r4, [r12, #0]
strb.w r5, [r12, #4]
strb.w r6, [r12, #8]
strb.w r7, [r12, #12]
ldr.w r10, [sp, #100]
addw r8, r8, #76
cmp r8, r10
bne.w nn_pointwise_5_4_2_2_11_s10_0_x4_places_pair
add sp, sp, #104
pop {r4-r11, pc}
