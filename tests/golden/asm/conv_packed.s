nn_conv_packed_3_2_1_9_6_4_10_8:
push {r4-r11, lr}
sub sp, sp, #120
ldm r0, {r1-r11}
add.w r12, sp, #80
stm r12, {r1-r10}
mov r8, r11
@ where each pass enters its unrolled kernel rows: behind those that are padding
movw r11, #:lower16:(nn_conv_packed_3_2_1_9_6_4_10_8_block_rows - (nn_conv_packed_3_2_1_9_6_4_10_8_block_rows_from + 4))
movt r11, #:upper16:(nn_conv_packed_3_2_1_9_6_4_10_8_block_rows - (nn_conv_packed_3_2_1_9_6_4_10_8_block_rows_from + 4))
nn_conv_packed_3_2_1_9_6_4_10_8_block_rows_from:
add r11, pc
movw r12, #120
mla r11, r8, r12, r11
orr r11, r11, #1
str.w r11, [sp, #60]
movw r12, #:lower16:(nn_conv_packed_3_2_1_9_6_4_10_8_block_kept - (nn_conv_packed_3_2_1_9_6_4_10_8_block_kept_from + 4))
movt r12, #:upper16:(nn_conv_packed_3_2_1_9_6_4_10_8_block_kept - (nn_conv_packed_3_2_1_9_6_4_10_8_block_kept_from + 4))
nn_conv_packed_3_2_1_9_6_4_10_8_block_kept_from:
add r12, pc
orr r12, r12, #1
cmp r7, #0
it ne
movne r11, r12
str.w r11, [sp, #48]
movw r11, #:lower16:(nn_conv_packed_3_2_1_9_6_4_10_8_single_rows - (nn_conv_packed_3_2_1_9_6_4_10_8_single_rows_from + 4))
movt r11, #:upper16:(nn_conv_packed_3_2_1_9_6_4_10_8_single_rows - (nn_conv_packed_3_2_1_9_6_4_10_8_single_rows_from + 4))
nn_conv_packed_3_2_1_9_6_4_10_8_single_rows_from:
add r11, pc
movw r12, #80
mla r11, r8, r12, r11
orr r11, r11, #1
str.w r11, [sp, #64]
movw r12, #:lower16:(nn_conv_packed_3_2_1_9_6_4_10_8_single_kept - (nn_conv_packed_3_2_1_9_6_4_10_8_single_kept_from + 4))
movt r12, #:upper16:(nn_conv_packed_3_2_1_9_6_4_10_8_single_kept - (nn_conv_packed_3_2_1_9_6_4_10_8_single_kept_from + 4))
nn_conv_packed_3_2_1_9_6_4_10_8_single_kept_from:
add r12, pc
orr r12, r12, #1
cmp r7, #0
it ne
movne r11, r12
str.w r11, [sp, #52]
movw r11, #:lower16:(nn_conv_packed_3_2_1_9_6_4_10_8_tail_rows - (nn_conv_packed_3_2_1_9_6_4_10_8_tail_rows_from + 4))
movt r11, #:upper16:(nn_conv_packed_3_2_1_9_6_4_10_8_tail_rows - (nn_conv_packed_3_2_1_9_6_4_10_8_tail_rows_from + 4))
nn_conv_packed_3_2_1_9_6_4_10_8_tail_rows_from:
add r11, pc
movw r12, #20
mla r11, r8, r12, r11
orr r11, r11, #1
str.w r11, [sp, #68]
movw r12, #:lower16:(nn_conv_packed_3_2_1_9_6_4_10_8_tail_kept - (nn_conv_packed_3_2_1_9_6_4_10_8_tail_kept_from + 4))
movt r12, #:upper16:(nn_conv_packed_3_2_1_9_6_4_10_8_tail_kept - (nn_conv_packed_3_2_1_9_6_4_10_8_tail_kept_from + 4))
nn_conv_packed_3_2_1_9_6_4_10_8_tail_kept_from:
add r12, pc
orr r12, r12, #1
cmp r7, #0
it ne
movne r11, r12
str.w r11, [sp, #56]
addw r1, r1, #16
str.w r1, [sp, #72]
mov r1, #2
str.w r1, [sp, #76]
movs r1, #1
nn_conv_packed_3_2_1_9_6_4_10_8_pair:
@ two channels a and b: constants to the stack, inputs and weights from the row's start
ldr.w r12, [sp, #92]
ldm r12!, {r0-r7}
stm sp, {r0-r7}
str.w r12, [sp, #92]
ldr.w r8, [sp, #80]
ldr.w r9, [sp, #84]
ldr.w r0, [sp, #100]
ldr.w r1, [sp, #96]
mov r2, #0
str.w r0, [sp, #32]
str.w r1, [sp, #36]
str.w r2, [sp, #40]
str.w r2, [sp, #44]
nn_conv_packed_3_2_1_9_6_4_10_8_again:
@ 2 triples of a and of b: three packed sums each, from half their fields on
ldr.w r0, [sp, #40]
ldr.w r4, [sp, #44]
ldr.w r10, [sp, #48]
mov r2, #1048576
mov r6, r2
add.w r0, r2, r0, asr #10
add.w r4, r2, r4, asr #10
mov r1, #512
mov r3, #512
mov r5, #512
mov r7, #512
bx r10
.balign 4\nnn_conv_packed_3_2_1_9_6_4_10_8_block_rows:
ldr.w r10, [r8, #0]
ldr.w r11, [r8, #8]
ldr.w r12, [r9, #0]
ldr.w lr, [r9, #4]
smlal r0, r1, r10, r12
smlal r4, r5, r10, lr
smlal r2, r3, r11, r12
smlal r6, r7, r11, lr
ldr.w r10, [r8, #16]
ldr.w r12, [r9, #16]
ldr.w lr, [r9, #20]
smlal r0, r1, r11, r12
smlal r4, r5, r11, lr
smlal r2, r3, r10, r12
smlal r6, r7, r10, lr
ldr.w r10, [r8, #4]
ldr.w r11, [r8, #12]
ldr.w r12, [r9, #8]
ldr.w lr, [r9, #12]
smlal r0, r1, r10, r12
smlal r4, r5, r10, lr
smlal r2, r3, r11, r12
smlal r6, r7, r11, lr
ldr.w r10, [r8, #20]
ldr.w r12, [r9, #24]
ldr.w lr, [r9, #28]
smlal r0, r1, r11, r12
smlal r4, r5, r11, lr
smlal r2, r3, r10, r12
smlal r6, r7, r10, lr
ldr.w r10, [r8, #36]
ldr.w r11, [r8, #44]
ldr.w r12, [r9, #32]
ldr.w lr, [r9, #36]
smlal r0, r1, r10, r12
smlal r4, r5, r10, lr
smlal r2, r3, r11, r12
smlal r6, r7, r11, lr
ldr.w r10, [r8, #52]
ldr.w r12, [r9, #48]
ldr.w lr, [r9, #52]
smlal r0, r1, r11, r12
smlal r4, r5, r11, lr
smlal r2, r3, r10, r12
smlal r6, r7, r10, lr
ldr.w r10, [r8, #40]
ldr.w r11, [r8, #48]
ldr.w r12, [r9, #40]
ldr.w lr, [r9, #44]
smlal r0, r1, r10, r12
smlal r4, r5, r10, lr
smlal r2, r3, r11, r12
smlal r6, r7, r11, lr
ldr.w r10, [r8, #56]
ldr.w r12, [r9, #56]
ldr.w lr, [r9, #60]
smlal r0, r1, r11, r12
smlal r4, r5, r11, lr
smlal r2, r3, r10, r12
smlal r6, r7, r10, lr
ldr.w r10, [r8, #72]
ldr.w r11, [r8, #80]
ldr.w r12, [r9, #64]
ldr.w lr, [r9, #68]
smlal r0, r1, r10, r12
smlal r4, r5, r10, lr
smlal r2, r3, r11, r12
smlal r6, r7, r11, lr
ldr.w r10, [r8, #88]
ldr.w r12, [r9, #80]
ldr.w lr, [r9, #84]
smlal r0, r1, r11, r12
smlal r4, r5, r11, lr
smlal r2, r3, r10, r12
smlal r6, r7, r10, lr
ldr.w r10, [r8, #76]
ldr.w r11, [r8, #84]
ldr.w r12, [r9, #72]
ldr.w lr, [r9, #76]
smlal r0, r1, r10, r12
smlal r4, r5, r10, lr
smlal r2, r3, r11, r12
smlal r6, r7, r11, lr
ldr.w r10, [r8, #92]
ldr.w r12, [r9, #88]
ldr.w lr, [r9, #92]
smlal r0, r1, r11, r12
smlal r4, r5, r11, lr
smlal r2, r3, r10, r12
smlal r6, r7, r10, lr
beq.w nn_conv_packed_3_2_1_9_6_4_10_8_block_store
nn_conv_packed_3_2_1_9_6_4_10_8_block_stored:
@ fields apart, each completed by its neighbour's carry; to int8 and out
str.w r3, [sp, #40]
str.w r7, [sp, #44]
add.w r2, r2, r1, asr #10
add.w r6, r6, r5, asr #10
lsr.w r10, r0, #21
bfi r10, r1, #11, #10
lsr.w r1, r2, #21
bfi r1, r3, #11, #10
lsr.w r3, r4, #21
bfi r3, r5, #11, #10
lsr.w r5, r6, #21
bfi r5, r7, #11, #10
ubfx r0, r0, #0, #21
ubfx r2, r2, #0, #21
ubfx r4, r4, #0, #21
ubfx r6, r6, #0, #21
ldr.w r7, [sp, #0]
ldr.w r11, [sp, #4]
ldr.w r12, [sp, #8]
ldr.w lr, [sp, #12]
mla r0, r0, r7, r11
mla r10, r10, r7, r11
mla r2, r2, r7, r11
mla r1, r1, r7, r11
smmla r0, r0, r12, lr
smmla r10, r10, r12, lr
smmla r2, r2, r12, lr
smmla r1, r1, r12, lr
ssat r0, #8, r0, asr #10
ssat r10, #8, r10, asr #10
ssat r2, #8, r2, asr #10
ssat r1, #8, r1, asr #10
ldr.w r7, [sp, #16]
ldr.w r11, [sp, #20]
ldr.w r12, [sp, #24]
ldr.w lr, [sp, #28]
mla r4, r4, r7, r11
mla r3, r3, r7, r11
mla r6, r6, r7, r11
mla r5, r5, r7, r11
smmla r4, r4, r12, lr
smmla r3, r3, r12, lr
smmla r6, r6, r12, lr
smmla r5, r5, r12, lr
ssat r4, #8, r4, asr #10
ssat r3, #8, r3, asr #10
ssat r6, #8, r6, asr #10
ssat r5, #8, r5, asr #10
bfi r0, r4, #8, #8
bfi r10, r3, #8, #8
bfi r2, r6, #8, #8
bfi r1, r5, #8, #8
ldr.w r7, [sp, #32]
ldr.w r11, [sp, #36]
strh r0, [r7]
strh.w r10, [r11, #0]
strh.w r2, [r11, #4]
strh.w r1, [r11, #8]
addw r7, r11, #12
addw r11, r11, #16
str.w r7, [sp, #32]
str.w r11, [sp, #36]
add.w r8, r8, #16
ldr.w r12, [sp, #72]
cmp r8, r12
bne.w nn_conv_packed_3_2_1_9_6_4_10_8_again
@ the last outputs of the row
movs r12, #1
@ 1 triples of a and of b: three packed sums each, from half their fields on
ldr.w r0, [sp, #40]
ldr.w r4, [sp, #44]
ldr.w r10, [sp, #52]
mov r2, #1048576
add.w r0, r2, r0, asr #10
add.w r4, r2, r4, asr #10
mov r1, #512
mov r5, #512
bx r10
.balign 4\nnn_conv_packed_3_2_1_9_6_4_10_8_single_rows:
ldr.w r10, [r8, #0]
ldr.w r12, [r9, #0]
ldr.w lr, [r9, #4]
smlal r0, r1, r10, r12
smlal r4, r5, r10, lr
ldr.w r11, [r8, #8]
ldr.w r12, [r9, #16]
ldr.w lr, [r9, #20]
smlal r0, r1, r11, r12
smlal r4, r5, r11, lr
ldr.w r10, [r8, #4]
ldr.w r12, [r9, #8]
ldr.w lr, [r9, #12]
smlal r0, r1, r10, r12
smlal r4, r5, r10, lr
ldr.w r11, [r8, #12]
ldr.w r12, [r9, #24]
ldr.w lr, [r9, #28]
smlal r0, r1, r11, r12
smlal r4, r5, r11, lr
ldr.w r10, [r8, #36]
ldr.w r12, [r9, #32]
ldr.w lr, [r9, #36]
smlal r0, r1, r10, r12
smlal r4, r5, r10, lr
ldr.w r11, [r8, #44]
ldr.w r12, [r9, #48]
ldr.w lr, [r9, #52]
smlal r0, r1, r11, r12
smlal r4, r5, r11, lr
ldr.w r10, [r8, #40]
ldr.w r12, [r9, #40]
ldr.w lr, [r9, #44]
smlal r0, r1, r10, r12
smlal r4, r5, r10, lr
ldr.w r11, [r8, #48]
ldr.w r12, [r9, #56]
ldr.w lr, [r9, #60]
smlal r0, r1, r11, r12
smlal r4, r5, r11, lr
ldr.w r10, [r8, #72]
ldr.w r12, [r9, #64]
ldr.w lr, [r9, #68]
smlal r0, r1, r10, r12
smlal r4, r5, r10, lr
ldr.w r11, [r8, #80]
ldr.w r12, [r9, #80]
ldr.w lr, [r9, #84]
smlal r0, r1, r11, r12
smlal r4, r5, r11, lr
ldr.w r10, [r8, #76]
ldr.w r12, [r9, #72]
ldr.w lr, [r9, #76]
smlal r0, r1, r10, r12
smlal r4, r5, r10, lr
ldr.w r11, [r8, #84]
ldr.w r12, [r9, #88]
ldr.w lr, [r9, #92]
smlal r0, r1, r11, r12
smlal r4, r5, r11, lr
beq.w nn_conv_packed_3_2_1_9_6_4_10_8_single_store
nn_conv_packed_3_2_1_9_6_4_10_8_single_stored:
@ fields apart, each completed by its neighbour's carry; to int8 and out
str.w r1, [sp, #40]
str.w r5, [sp, #44]
lsr.w r10, r0, #21
bfi r10, r1, #11, #10
lsr.w r3, r4, #21
bfi r3, r5, #11, #10
ubfx r0, r0, #0, #21
ubfx r4, r4, #0, #21
ldr.w r7, [sp, #0]
ldr.w r11, [sp, #4]
ldr.w r12, [sp, #8]
ldr.w lr, [sp, #12]
mla r0, r0, r7, r11
mla r10, r10, r7, r11
smmla r0, r0, r12, lr
smmla r10, r10, r12, lr
ssat r0, #8, r0, asr #10
ssat r10, #8, r10, asr #10
ldr.w r7, [sp, #16]
ldr.w r11, [sp, #20]
ldr.w r12, [sp, #24]
ldr.w lr, [sp, #28]
mla r4, r4, r7, r11
mla r3, r3, r7, r11
smmla r4, r4, r12, lr
smmla r3, r3, r12, lr
ssat r4, #8, r4, asr #10
ssat r3, #8, r3, asr #10
bfi r0, r4, #8, #8
bfi r10, r3, #8, #8
ldr.w r7, [sp, #32]
ldr.w r11, [sp, #36]
strh r0, [r7]
strh.w r10, [r11, #0]
addw r7, r11, #4
addw r11, r11, #8
str.w r7, [sp, #32]
str.w r11, [sp, #36]
add.w r8, r8, #8
ldr.w r0, [sp, #40]
ldr.w r1, [sp, #44]
ldr.w r9, [sp, #88]
ldr.w r10, [sp, #56]
mov r2, #1048576
add.w r0, r2, r0, asr #10
add.w r1, r2, r1, asr #10
bx r10
.balign 4\nnn_conv_packed_3_2_1_9_6_4_10_8_tail_rows:
ldr.w r2, [r8, #8]
ldr.w r3, [r9, #0]
ldr.w r4, [r9, #4]
smlad r0, r2, r3, r0
smlad r1, r2, r4, r1
ldr.w r2, [r8, #44]
ldr.w r3, [r9, #8]
ldr.w r4, [r9, #12]
smlad r0, r2, r3, r0
smlad r1, r2, r4, r1
ldr.w r2, [r8, #80]
ldr.w r3, [r9, #16]
ldr.w r4, [r9, #20]
smlad r0, r2, r3, r0
smlad r1, r2, r4, r1
beq.w nn_conv_packed_3_2_1_9_6_4_10_8_tail_store
nn_conv_packed_3_2_1_9_6_4_10_8_tail_stored:
ldr.w r2, [sp, #0]
ldr.w r3, [sp, #4]
ldr.w r4, [sp, #8]
ldr.w r5, [sp, #12]
ldr.w r6, [sp, #16]
ldr.w r7, [sp, #20]
ldr.w r10, [sp, #24]
ldr.w r11, [sp, #28]
ldr.w r12, [sp, #32]
mla r0, r0, r2, r3
smmla r0, r0, r4, r5
ssat r0, #8, r0, asr #10
mla r1, r1, r6, r7
smmla r1, r1, r10, r11
ssat r1, #8, r1, asr #10
bfi r0, r1, #8, #8
strh.w r0, [r12]
@ next pair of channels
ldr.w r0, [sp, #84]
ldr.w r1, [sp, #96]
ldr.w r2, [sp, #76]
ldr.w r3, [sp, #88]
addw r0, r0, #96
addw r3, r3, #24
str.w r3, [sp, #88]
add.w r1, r1, #2
subs r2, r2, #1
str.w r0, [sp, #84]
str.w r1, [sp, #96]
str.w r2, [sp, #76]
bne.w nn_conv_packed_3_2_1_9_6_4_10_8_pair
add sp, sp, #120
pop {r4-r11, pc}
@ sums kept from the hop before, in front of the kernel rows, and kept for the next behind them
.balign 4\nnn_conv_packed_3_2_1_9_6_4_10_8_block_kept:
ldr.w r10, [sp, #104]
ldr.w r11, [sp, #108]
ldm r10, {r0-r7}
add.w r10, r10, r11
str.w r10, [sp, #104]
ldr.w r10, [sp, #40]
ldr.w r11, [sp, #44]
asr.w r10, r10, #10
adds.w r0, r0, r10
adc.w r1, r1, r10, asr #31
asr.w r11, r11, #10
adds.w r4, r4, r11
adc.w r5, r5, r11, asr #31
ldr.w r12, [sp, #60]
cmp r12, r12
bx r12
nn_conv_packed_3_2_1_9_6_4_10_8_block_store:
ldr.w r10, [sp, #40]
ldr.w r11, [sp, #44]
asr.w r10, r10, #10
subs.w r0, r0, r10
sbc.w r1, r1, r10, asr #31
asr.w r11, r11, #10
subs.w r4, r4, r11
sbc.w r5, r5, r11, asr #31
ldr.w r10, [sp, #112]
ldr.w r11, [sp, #116]
stm r10, {r0-r7}
add.w r10, r10, r11
str.w r10, [sp, #112]
ldr.w r10, [sp, #40]
ldr.w r11, [sp, #44]
asr.w r10, r10, #10
adds.w r0, r0, r10
adc.w r1, r1, r10, asr #31
asr.w r11, r11, #10
adds.w r4, r4, r11
adc.w r5, r5, r11, asr #31
b.w nn_conv_packed_3_2_1_9_6_4_10_8_block_stored
@ sums kept from the hop before, in front of the kernel rows, and kept for the next behind them
.balign 4\nnn_conv_packed_3_2_1_9_6_4_10_8_single_kept:
ldr.w r10, [sp, #104]
ldr.w r11, [sp, #108]
ldm r10, {r0-r7}
add.w r10, r10, r11
str.w r10, [sp, #104]
ldr.w r10, [sp, #40]
ldr.w r11, [sp, #44]
asr.w r10, r10, #10
adds.w r0, r0, r10
adc.w r1, r1, r10, asr #31
asr.w r11, r11, #10
adds.w r4, r4, r11
adc.w r5, r5, r11, asr #31
ldr.w r12, [sp, #64]
cmp r12, r12
bx r12
nn_conv_packed_3_2_1_9_6_4_10_8_single_store:
ldr.w r10, [sp, #40]
ldr.w r11, [sp, #44]
asr.w r10, r10, #10
subs.w r0, r0, r10
sbc.w r1, r1, r10, asr #31
asr.w r11, r11, #10
subs.w r4, r4, r11
sbc.w r5, r5, r11, asr #31
ldr.w r10, [sp, #112]
ldr.w r11, [sp, #116]
stm r10, {r0-r7}
add.w r10, r10, r11
str.w r10, [sp, #112]
ldr.w r10, [sp, #40]
ldr.w r11, [sp, #44]
asr.w r10, r10, #10
adds.w r0, r0, r10
adc.w r1, r1, r10, asr #31
asr.w r11, r11, #10
adds.w r4, r4, r11
adc.w r5, r5, r11, asr #31
b.w nn_conv_packed_3_2_1_9_6_4_10_8_single_stored
@ sums kept from the hop before, in front of the kernel rows, and kept for the next behind them
.balign 4\nnn_conv_packed_3_2_1_9_6_4_10_8_tail_kept:
ldr.w r10, [sp, #104]
ldr.w r11, [sp, #108]
ldr.w r2, [r10]
ldr.w r3, [r10, #8]
add.w r10, r10, r11, lsr #1
str.w r10, [sp, #104]
sub.w r0, r0, #1048576
add.w r0, r0, r2
sub.w r1, r1, #1048576
add.w r1, r1, r3
ldr.w r12, [sp, #68]
cmp r12, r12
bx r12
nn_conv_packed_3_2_1_9_6_4_10_8_tail_store:
ldr.w r2, [sp, #40]
ldr.w r3, [sp, #44]
sub.w r2, r0, r2, asr #10
sub.w r3, r1, r3, asr #10
ldr.w r10, [sp, #112]
ldr.w r11, [sp, #116]
str.w r2, [r10]
str.w r3, [r10, #8]
add.w r10, r10, r11, lsr #1
str.w r10, [sp, #112]
b.w nn_conv_packed_3_2_1_9_6_4_10_8_tail_stored
