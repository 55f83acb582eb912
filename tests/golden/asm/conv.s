nn_conv_pairs_relu_x1:
push {r4-r11, lr}
sub sp, #40
ldm r0, {r1-r10}
adr.w r11, nn_conv_pairs_relu_x1_turn
add r8, r8, r11
orr r8, r8, #1
stm sp, {r1-r10}
nn_conv_pairs_relu_x1_pair:
@ two channels a and b of each pixel: all sums begin with the biases
ldr.w r7, [sp, #0]
ldr.w r6, [sp, #4]
ldr.w r11, [sp, #8]
ldr.w r8, [sp, #24]
ldr.w r9, [sp, #28]
ldr.w r0, [r11]
ldr.w r3, [r11, #12]
@ into the unrolled turn where the words that remain to be done fill it
bx r9
.balign 4
nn_conv_pairs_relu_x1_turn:
ldr.w r9, [r6, #4]
ldr.w r11, [r7, #12]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #8]
ldr.w r11, [r7, #24]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #12]
ldr.w r11, [r7, #36]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #16]
ldr.w r11, [r7, #48]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #20]
ldr.w r11, [r7, #60]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #24]
ldr.w r11, [r7, #72]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #28]
ldr.w r11, [r7, #84]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #32]
ldr.w r11, [r7, #96]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #36]
ldr.w r11, [r7, #108]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #40]
ldr.w r11, [r7, #120]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #44]
ldr.w r11, [r7, #132]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #48]
ldr.w r11, [r7, #144]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #52]
ldr.w r11, [r7, #156]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #56]
ldr.w r11, [r7, #168]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #60]
ldr.w r11, [r7, #180]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #64]!
ldr.w r11, [r7, #192]!
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
subs r8, r8, #1
bne.w nn_conv_pairs_relu_x1_turn
@ to int8; bytes of a and b side by side for each pixel
ldr r11, [sp, #8]
ldr.w r8, [r11, #4]
ldr.w r9, [r11, #8]
rsb r9, r9, #0
sub r10, r9, #1
mov r12, #1
lsl r10, r12, r10
lsl r0, r0, #1
smmlar r0, r0, r8, r10
asr r0, r0, r9
usat r0, #8, r0
ldr.w r8, [r11, #16]
ldr.w r9, [r11, #20]
rsb r9, r9, #0
sub r10, r9, #1
mov r12, #1
lsl r10, r12, r10
lsl r3, r3, #1
smmlar r3, r3, r8, r10
asr r3, r3, r9
usat r3, #8, r3
orr r0, r0, r3, lsl #8
eor r0, r0, #0x80808080
ldr.w r7, [sp, #12]
strh r0, [r7]
@ next pair of channels
add r12, sp, #4
ldm r12, {r0-r4}
add r0, r0, r4
addw r1, r1, #24
add r2, r2, #2
subs r3, r3, #1
stm r12, {r0-r3}
bne.w nn_conv_pairs_relu_x1_pair
add sp, #40
pop {r4-r11, pc}
nn_conv_pairs_relu_x3:
push {r4-r11, lr}
sub sp, #40
ldm r0, {r1-r10}
adr.w r11, nn_conv_pairs_relu_x3_turn
add r8, r8, r11
orr r8, r8, #1
stm sp, {r1-r10}
nn_conv_pairs_relu_x3_pair:
@ two channels a and b of each pixel: all sums begin with the biases
ldr.w r7, [sp, #0]
ldr.w r6, [sp, #4]
ldr.w r11, [sp, #8]
ldr.w r8, [sp, #24]
ldr.w r9, [sp, #28]
ldr.w r0, [r11]
ldr.w r3, [r11, #12]
mov r1, r0
mov r2, r0
mov r4, r3
mov r5, r3
@ into the unrolled turn where the words that remain to be done fill it
bx r9
.balign 4
nn_conv_pairs_relu_x3_turn:
ldr.w r9, [r6, #4]
ldr.w r12, [r7, #16]
ldr.w lr, [r7, #20]
ldr.w r11, [r7, #12]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #8]
ldr.w r12, [r7, #28]
ldr.w lr, [r7, #32]
ldr.w r11, [r7, #24]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #12]
ldr.w r12, [r7, #40]
ldr.w lr, [r7, #44]
ldr.w r11, [r7, #36]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #16]
ldr.w r12, [r7, #52]
ldr.w lr, [r7, #56]
ldr.w r11, [r7, #48]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #20]
ldr.w r12, [r7, #64]
ldr.w lr, [r7, #68]
ldr.w r11, [r7, #60]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #24]
ldr.w r12, [r7, #76]
ldr.w lr, [r7, #80]
ldr.w r11, [r7, #72]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #28]
ldr.w r12, [r7, #88]
ldr.w lr, [r7, #92]
ldr.w r11, [r7, #84]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #32]
ldr.w r12, [r7, #100]
ldr.w lr, [r7, #104]
ldr.w r11, [r7, #96]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #36]
ldr.w r12, [r7, #112]
ldr.w lr, [r7, #116]
ldr.w r11, [r7, #108]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #40]
ldr.w r12, [r7, #124]
ldr.w lr, [r7, #128]
ldr.w r11, [r7, #120]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #44]
ldr.w r12, [r7, #136]
ldr.w lr, [r7, #140]
ldr.w r11, [r7, #132]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #48]
ldr.w r12, [r7, #148]
ldr.w lr, [r7, #152]
ldr.w r11, [r7, #144]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #52]
ldr.w r12, [r7, #160]
ldr.w lr, [r7, #164]
ldr.w r11, [r7, #156]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #56]
ldr.w r12, [r7, #172]
ldr.w lr, [r7, #176]
ldr.w r11, [r7, #168]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #60]
ldr.w r12, [r7, #184]
ldr.w lr, [r7, #188]
ldr.w r11, [r7, #180]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #64]!
ldr.w r12, [r7, #196]
ldr.w lr, [r7, #200]
ldr.w r11, [r7, #192]!
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
subs r8, r8, #1
bne.w nn_conv_pairs_relu_x3_turn
@ to int8; bytes of a and b side by side for each pixel
ldr r11, [sp, #8]
ldr.w r8, [r11, #4]
ldr.w r9, [r11, #8]
rsb r9, r9, #0
sub r10, r9, #1
mov r12, #1
lsl r10, r12, r10
lsl r0, r0, #1
smmlar r0, r0, r8, r10
asr r0, r0, r9
usat r0, #8, r0
lsl r1, r1, #1
smmlar r1, r1, r8, r10
asr r1, r1, r9
usat r1, #8, r1
lsl r2, r2, #1
smmlar r2, r2, r8, r10
asr r2, r2, r9
usat r2, #8, r2
ldr.w r8, [r11, #16]
ldr.w r9, [r11, #20]
rsb r9, r9, #0
sub r10, r9, #1
mov r12, #1
lsl r10, r12, r10
lsl r3, r3, #1
smmlar r3, r3, r8, r10
asr r3, r3, r9
usat r3, #8, r3
lsl r4, r4, #1
smmlar r4, r4, r8, r10
asr r4, r4, r9
usat r4, #8, r4
lsl r5, r5, #1
smmlar r5, r5, r8, r10
asr r5, r5, r9
usat r5, #8, r5
orr r0, r0, r3, lsl #8
eor r0, r0, #0x80808080
orr r1, r1, r4, lsl #8
eor r1, r1, #0x80808080
orr r2, r2, r5, lsl #8
eor r2, r2, #0x80808080
ldr.w r7, [sp, #12]
ldr.w r6, [sp, #32]
strh r0, [r7]
strh r1, [r7, r6]
strh r2, [r7, r6, lsl #1]
@ next pair of channels
add r12, sp, #4
ldm r12, {r0-r4}
add r0, r0, r4
addw r1, r1, #24
add r2, r2, #2
subs r3, r3, #1
stm r12, {r0-r3}
bne.w nn_conv_pairs_relu_x3_pair
add sp, #40
pop {r4-r11, pc}
nn_conv_pairs_full_x1:
push {r4-r11, lr}
sub sp, #40
ldm r0, {r1-r10}
adr.w r11, nn_conv_pairs_full_x1_turn
add r8, r8, r11
orr r8, r8, #1
stm sp, {r1-r10}
nn_conv_pairs_full_x1_pair:
@ two channels a and b of each pixel: all sums begin with the biases
ldr.w r7, [sp, #0]
ldr.w r6, [sp, #4]
ldr.w r11, [sp, #8]
ldr.w r8, [sp, #24]
ldr.w r9, [sp, #28]
ldr.w r0, [r11]
ldr.w r3, [r11, #12]
@ into the unrolled turn where the words that remain to be done fill it
bx r9
.balign 4
nn_conv_pairs_full_x1_turn:
ldr.w r9, [r6, #4]
ldr.w r11, [r7, #12]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #8]
ldr.w r11, [r7, #24]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #12]
ldr.w r11, [r7, #36]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #16]
ldr.w r11, [r7, #48]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #20]
ldr.w r11, [r7, #60]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #24]
ldr.w r11, [r7, #72]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #28]
ldr.w r11, [r7, #84]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #32]
ldr.w r11, [r7, #96]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #36]
ldr.w r11, [r7, #108]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #40]
ldr.w r11, [r7, #120]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #44]
ldr.w r11, [r7, #132]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #48]
ldr.w r11, [r7, #144]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #52]
ldr.w r11, [r7, #156]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #56]
ldr.w r11, [r7, #168]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #60]
ldr.w r11, [r7, #180]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
ldr.w r9, [r6, #64]!
ldr.w r11, [r7, #192]!
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r3, r10, r11, r3
subs r8, r8, #1
bne.w nn_conv_pairs_full_x1_turn
@ to int8; bytes of a and b side by side for each pixel
ldr r11, [sp, #8]
ldr.w r8, [r11, #4]
ldr.w r9, [r11, #8]
ldr.w r10, [sp, #36]
mvn r9, r9
lsl r0, r0, #1
smmulr r0, r0, r8
add r0, r0, r0, asr #31
asr r0, r0, r9
add r0, r10
ssat r0, #8, r0, asr #1
ldr.w r8, [r11, #16]
ldr.w r9, [r11, #20]
ldr.w r10, [sp, #36]
mvn r9, r9
lsl r3, r3, #1
smmulr r3, r3, r8
add r3, r3, r3, asr #31
asr r3, r3, r9
add r3, r10
ssat r3, #8, r3, asr #1
uxtb r0, r0
orr r0, r0, r3, lsl #8
ldr.w r7, [sp, #12]
strh r0, [r7]
@ next pair of channels
add r12, sp, #4
ldm r12, {r0-r4}
add r0, r0, r4
addw r1, r1, #24
add r2, r2, #2
subs r3, r3, #1
stm r12, {r0-r3}
bne.w nn_conv_pairs_full_x1_pair
add sp, #40
pop {r4-r11, pc}
nn_conv_pairs_full_x3:
push {r4-r11, lr}
sub sp, #40
ldm r0, {r1-r10}
adr.w r11, nn_conv_pairs_full_x3_turn
add r8, r8, r11
orr r8, r8, #1
stm sp, {r1-r10}
nn_conv_pairs_full_x3_pair:
@ two channels a and b of each pixel: all sums begin with the biases
ldr.w r7, [sp, #0]
ldr.w r6, [sp, #4]
ldr.w r11, [sp, #8]
ldr.w r8, [sp, #24]
ldr.w r9, [sp, #28]
ldr.w r0, [r11]
ldr.w r3, [r11, #12]
mov r1, r0
mov r2, r0
mov r4, r3
mov r5, r3
@ into the unrolled turn where the words that remain to be done fill it
bx r9
.balign 4
nn_conv_pairs_full_x3_turn:
ldr.w r9, [r6, #4]
ldr.w r12, [r7, #16]
ldr.w lr, [r7, #20]
ldr.w r11, [r7, #12]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #8]
ldr.w r12, [r7, #28]
ldr.w lr, [r7, #32]
ldr.w r11, [r7, #24]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #12]
ldr.w r12, [r7, #40]
ldr.w lr, [r7, #44]
ldr.w r11, [r7, #36]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #16]
ldr.w r12, [r7, #52]
ldr.w lr, [r7, #56]
ldr.w r11, [r7, #48]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #20]
ldr.w r12, [r7, #64]
ldr.w lr, [r7, #68]
ldr.w r11, [r7, #60]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #24]
ldr.w r12, [r7, #76]
ldr.w lr, [r7, #80]
ldr.w r11, [r7, #72]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #28]
ldr.w r12, [r7, #88]
ldr.w lr, [r7, #92]
ldr.w r11, [r7, #84]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #32]
ldr.w r12, [r7, #100]
ldr.w lr, [r7, #104]
ldr.w r11, [r7, #96]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #36]
ldr.w r12, [r7, #112]
ldr.w lr, [r7, #116]
ldr.w r11, [r7, #108]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #40]
ldr.w r12, [r7, #124]
ldr.w lr, [r7, #128]
ldr.w r11, [r7, #120]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #44]
ldr.w r12, [r7, #136]
ldr.w lr, [r7, #140]
ldr.w r11, [r7, #132]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #48]
ldr.w r12, [r7, #148]
ldr.w lr, [r7, #152]
ldr.w r11, [r7, #144]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #52]
ldr.w r12, [r7, #160]
ldr.w lr, [r7, #164]
ldr.w r11, [r7, #156]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #56]
ldr.w r12, [r7, #172]
ldr.w lr, [r7, #176]
ldr.w r11, [r7, #168]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #60]
ldr.w r12, [r7, #184]
ldr.w lr, [r7, #188]
ldr.w r11, [r7, #180]
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
ldr.w r9, [r6, #64]!
ldr.w r12, [r7, #196]
ldr.w lr, [r7, #200]
ldr.w r11, [r7, #192]!
sxtb16 r10, r9, ror #8
sxtb16.w r9, r9
smlad r0, r9, r11, r0
smlad r1, r9, r12, r1
smlad r2, r9, lr, r2
smlad r3, r10, r11, r3
smlad r4, r10, r12, r4
smlad r5, r10, lr, r5
subs r8, r8, #1
bne.w nn_conv_pairs_full_x3_turn
@ to int8; bytes of a and b side by side for each pixel
ldr r11, [sp, #8]
ldr.w r8, [r11, #4]
ldr.w r9, [r11, #8]
ldr.w r10, [sp, #36]
mvn r9, r9
lsl r0, r0, #1
smmulr r0, r0, r8
add r0, r0, r0, asr #31
asr r0, r0, r9
add r0, r10
ssat r0, #8, r0, asr #1
lsl r1, r1, #1
smmulr r1, r1, r8
add r1, r1, r1, asr #31
asr r1, r1, r9
add r1, r10
ssat r1, #8, r1, asr #1
lsl r2, r2, #1
smmulr r2, r2, r8
add r2, r2, r2, asr #31
asr r2, r2, r9
add r2, r10
ssat r2, #8, r2, asr #1
ldr.w r8, [r11, #16]
ldr.w r9, [r11, #20]
ldr.w r10, [sp, #36]
mvn r9, r9
lsl r3, r3, #1
smmulr r3, r3, r8
add r3, r3, r3, asr #31
asr r3, r3, r9
add r3, r10
ssat r3, #8, r3, asr #1
lsl r4, r4, #1
smmulr r4, r4, r8
add r4, r4, r4, asr #31
asr r4, r4, r9
add r4, r10
ssat r4, #8, r4, asr #1
lsl r5, r5, #1
smmulr r5, r5, r8
add r5, r5, r5, asr #31
asr r5, r5, r9
add r5, r10
ssat r5, #8, r5, asr #1
uxtb r0, r0
orr r0, r0, r3, lsl #8
uxtb r1, r1
orr r1, r1, r4, lsl #8
uxtb r2, r2
orr r2, r2, r5, lsl #8
ldr.w r7, [sp, #12]
ldr.w r6, [sp, #32]
strh r0, [r7]
strh r1, [r7, r6]
strh r2, [r7, r6, lsl #1]
@ next pair of channels
add r12, sp, #4
ldm r12, {r0-r4}
add r0, r0, r4
addw r1, r1, #24
add r2, r2, #2
subs r3, r3, #1
stm r12, {r0-r3}
bne.w nn_conv_pairs_full_x3_pair
add sp, #40
pop {r4-r11, pc}
