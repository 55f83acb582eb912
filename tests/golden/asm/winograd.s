nn_winograd_in_8_80:
push {r4-r11, lr}
sub sp, sp, #332
ldrd r1, r2, [r0]
mov r3, #2
str r1, [sp, #320]
str r2, [sp, #324]
nn_winograd_in_8_80_quad:
str r3, [sp, #328]
ldr r0, [sp, #320]
mov lr, sp
add.w r1, r0, #4
str r1, [sp, #320]
mov r9, #10
vmov s0, r9
nn_winograd_in_8_80_column:
@ B^T d: four rows of a column, four channels at once
ldr.w r1, [r0]
ldr.w r2, [r0, #80]
ldr.w r3, [r0, #160]
ldr.w r4, [r0, #240]
sxtb16 r5, r1
sxtb16 r6, r2
sxtb16 r7, r3
sxtb16 r8, r4
sxtb16 r1, r1, ror #8
sxtb16 r2, r2, ror #8
sxtb16 r3, r3, ror #8
sxtb16 r4, r4, ror #8
ssub16 r9, r5, r7
sadd16 r10, r6, r7
ssub16 r11, r7, r6
ssub16 r12, r6, r8
ssub16 r5, r1, r3
sadd16 r6, r2, r3
ssub16 r7, r3, r2
ssub16 r8, r2, r4
stm lr!, {r5-r12}
vmov r1, s0
addw r0, r0, #8
subs r1, r1, #1
vmov s0, r1
bne.w nn_winograd_in_8_80_column
ldr lr, [sp, #324]
mov r0, sp
mov r9, #4
vmov s0, r9
nn_winograd_in_8_80_row:
@ (B^T d) B: a row of the four tiles to its four points
ldr.w r1, [r0, #16]
ldr.w r2, [r0, #48]
ldr.w r3, [r0, #80]
ldr.w r4, [r0, #112]
ldr.w r5, [r0, #144]
ldr.w r6, [r0, #176]
ldr.w r7, [r0, #208]
ldr.w r8, [r0, #240]
ldr.w r9, [r0, #272]
ldr.w r10, [r0, #304]
ssub16 r11, r1, r3
str.w r11, [lr, #0]
sadd16 r12, r2, r3
str.w r12, [lr, #64]
ssub16 r11, r3, r2
str.w r11, [lr, #128]
ssub16 r12, r2, r4
str.w r12, [lr, #192]
ssub16 r11, r3, r5
str.w r11, [lr, #16]
sadd16 r12, r4, r5
str.w r12, [lr, #80]
ssub16 r11, r5, r4
str.w r11, [lr, #144]
ssub16 r12, r4, r6
str.w r12, [lr, #208]
ssub16 r11, r5, r7
str.w r11, [lr, #32]
sadd16 r12, r6, r7
str.w r12, [lr, #96]
ssub16 r11, r7, r6
str.w r11, [lr, #160]
ssub16 r12, r6, r8
str.w r12, [lr, #224]
ssub16 r11, r7, r9
str.w r11, [lr, #48]
sadd16 r12, r8, r9
str.w r12, [lr, #112]
ssub16 r11, r9, r8
str.w r11, [lr, #176]
ssub16 r12, r8, r10
str.w r12, [lr, #240]
ldr.w r1, [r0, #0]
ldr.w r2, [r0, #32]
ldr.w r3, [r0, #64]
ldr.w r4, [r0, #96]
ldr.w r5, [r0, #128]
ldr.w r6, [r0, #160]
ldr.w r7, [r0, #192]
ldr.w r8, [r0, #224]
ldr.w r9, [r0, #256]
ldr.w r10, [r0, #288]
ssub16 r11, r1, r3
str.w r11, [lr, #4]
sadd16 r12, r2, r3
str.w r12, [lr, #68]
ssub16 r11, r3, r2
str.w r11, [lr, #132]
ssub16 r12, r2, r4
str.w r12, [lr, #196]
ssub16 r11, r3, r5
str.w r11, [lr, #20]
sadd16 r12, r4, r5
str.w r12, [lr, #84]
ssub16 r11, r5, r4
str.w r11, [lr, #148]
ssub16 r12, r4, r6
str.w r12, [lr, #212]
ssub16 r11, r5, r7
str.w r11, [lr, #36]
sadd16 r12, r6, r7
str.w r12, [lr, #100]
ssub16 r11, r7, r6
str.w r11, [lr, #164]
ssub16 r12, r6, r8
str.w r12, [lr, #228]
ssub16 r11, r7, r9
str.w r11, [lr, #52]
sadd16 r12, r8, r9
str.w r12, [lr, #116]
ssub16 r11, r9, r8
str.w r11, [lr, #180]
ssub16 r12, r8, r10
str.w r12, [lr, #244]
vmov r1, s0
addw lr, lr, #256
add.w r0, r0, #4
subs r1, r1, #1
vmov s0, r1
bne.w nn_winograd_in_8_80_row
ldrd r2, r3, [sp, #324]
add.w r2, r2, #8
str r2, [sp, #324]
subs r3, r3, #1
bne.w nn_winograd_in_8_80_quad
add sp, sp, #332
pop {r4-r11, pc}
nn_winograd_8_4_z133:
push {r4-r11, lr}
sub sp, sp, #532
ldr.w r1, [r0, #4]
ldr.w r8, [r0, #8]
ldr.w r2, [r0, #12]
ldr.w r3, [r0, #16]
addw r4, r2, #4
add.w r3, r3, r2
strd r1, r2, [sp, #512]
strd r3, r4, [sp, #520]
nn_winograd_8_4_z133_pair:
ldr.w r9, [sp, #512]
mov r11, sp
vmov s0, r11
nn_winograd_8_4_z133_point:
@ one of 16 points: products of a pair of channels with all four tiles
ldr.w r0, [r8]
ldr.w r4, [r8, #4]
ldr.w r10, [r8, #8]
ldr.w r11, [r8, #12]
ldr.w r12, [r9, #16]
ldr.w lr, [r9, #32]
smlad r1, r12, r10, r0
smlad r5, r12, r11, r4
smlad r2, lr, r10, r0
smlad r6, lr, r11, r4
ldr.w r12, [r9, #48]
ldr.w lr, [r9, #0]
smlad r3, r12, r10, r0
smlad r7, r12, r11, r4
smlad r0, lr, r10, r0
smlad r4, lr, r11, r4
ldr.w r12, [r8, #16]
ldr.w lr, [r8, #20]
ldr.w r10, [r9, #4]
ldr.w r11, [r9, #20]
smlad r0, r10, r12, r0
smlad r4, r10, lr, r4
smlad r1, r11, r12, r1
smlad r5, r11, lr, r5
ldr.w r10, [r9, #36]
ldr.w r11, [r9, #52]
smlad r2, r10, r12, r2
smlad r6, r10, lr, r6
smlad r3, r11, r12, r3
smlad r7, r11, lr, r7
ldr.w r10, [r8, #24]
ldr.w r11, [r8, #28]
ldr.w r12, [r9, #8]
ldr.w lr, [r9, #24]
smlad r0, r12, r10, r0
smlad r4, r12, r11, r4
smlad r1, lr, r10, r1
smlad r5, lr, r11, r5
ldr.w r12, [r9, #40]
ldr.w lr, [r9, #56]
smlad r2, r12, r10, r2
smlad r6, r12, r11, r6
smlad r3, lr, r10, r3
smlad r7, lr, r11, r7
ldr.w r12, [r8, #32]
ldr.w lr, [r8, #36]
ldr.w r10, [r9, #12]
ldr.w r11, [r9, #28]
smlad r0, r10, r12, r0
smlad r4, r10, lr, r4
smlad r1, r11, r12, r1
smlad r5, r11, lr, r5
ldr.w r10, [r9, #44]
ldr.w r11, [r9, #60]
smlad r2, r10, r12, r2
smlad r6, r10, lr, r6
smlad r3, r11, r12, r3
smlad r7, r11, lr, r7
vmov r11, s0
addw r8, r8, #40
addw r9, r9, #64
stm r11!, {r0-r7}
vmov s0, r11
add.w r12, sp, #512
cmp r11, r12
bne.w nn_winograd_8_4_z133_point
@ A^T m A of both channels, to int8 and out
ldrd r10, r11, [r8, #0]
ldr.w r0, [sp, #0]
ldr.w r1, [sp, #128]
ldr.w r9, [sp, #256]
ldr.w r12, [sp, #384]
add.w r0, r0, r1
sub.w r1, r1, r9
add.w r0, r0, r9
sub.w r1, r1, r12
ldr.w r2, [sp, #32]
ldr.w r3, [sp, #160]
ldr.w r9, [sp, #288]
ldr.w r12, [sp, #416]
add.w r2, r2, r3
sub.w r3, r3, r9
add.w r2, r2, r9
sub.w r3, r3, r12
ldr.w r4, [sp, #64]
ldr.w r5, [sp, #192]
ldr.w r9, [sp, #320]
ldr.w r12, [sp, #448]
add.w r4, r4, r5
sub.w r5, r5, r9
add.w r4, r4, r9
sub.w r5, r5, r12
ldr.w r6, [sp, #96]
ldr.w r7, [sp, #224]
ldr.w r9, [sp, #352]
ldr.w r12, [sp, #480]
add.w r6, r6, r7
sub.w r7, r7, r9
add.w r6, r6, r9
sub.w r7, r7, r12
add.w r0, r0, r2
sub.w r2, r2, r4
add.w r0, r0, r4
sub.w r2, r2, r6
add.w r1, r1, r3
sub.w r3, r3, r5
add.w r1, r1, r5
sub.w r3, r3, r7
asr.w r0, r0, #1
asr.w r2, r2, #1
asr.w r1, r1, #1
asr.w r3, r3, #1
smmulr r0, r0, r10
smmulr r2, r2, r10
smmulr r1, r1, r10
smmulr r3, r3, r10
add.w r0, r0, r0, asr #31
add.w r2, r2, r2, asr #31
add.w r1, r1, r1, asr #31
add.w r3, r3, r3, asr #31
asr.w r0, r0, r11
asr.w r2, r2, r11
asr.w r1, r1, r11
asr.w r3, r3, r11
addw r0, r0, #11
addw r2, r2, #11
addw r1, r1, #11
addw r3, r3, #11
ssat r0, #8, r0, asr #1
ssat r2, #8, r2, asr #1
ssat r1, #8, r1, asr #1
ssat r3, #8, r3, asr #1
ldr.w r9, [sp, #516]
ldr.w r12, [sp, #520]
strb.w r0, [r9, #0]
strb.w r2, [r9, #4]
strb.w r1, [r12, #0]
strb.w r3, [r12, #4]
ldr.w r0, [sp, #4]
ldr.w r1, [sp, #132]
ldr.w r9, [sp, #260]
ldr.w r12, [sp, #388]
add.w r0, r0, r1
sub.w r1, r1, r9
add.w r0, r0, r9
sub.w r1, r1, r12
ldr.w r2, [sp, #36]
ldr.w r3, [sp, #164]
ldr.w r9, [sp, #292]
ldr.w r12, [sp, #420]
add.w r2, r2, r3
sub.w r3, r3, r9
add.w r2, r2, r9
sub.w r3, r3, r12
ldr.w r4, [sp, #68]
ldr.w r5, [sp, #196]
ldr.w r9, [sp, #324]
ldr.w r12, [sp, #452]
add.w r4, r4, r5
sub.w r5, r5, r9
add.w r4, r4, r9
sub.w r5, r5, r12
ldr.w r6, [sp, #100]
ldr.w r7, [sp, #228]
ldr.w r9, [sp, #356]
ldr.w r12, [sp, #484]
add.w r6, r6, r7
sub.w r7, r7, r9
add.w r6, r6, r9
sub.w r7, r7, r12
add.w r0, r0, r2
sub.w r2, r2, r4
add.w r0, r0, r4
sub.w r2, r2, r6
add.w r1, r1, r3
sub.w r3, r3, r5
add.w r1, r1, r5
sub.w r3, r3, r7
asr.w r0, r0, #1
asr.w r2, r2, #1
asr.w r1, r1, #1
asr.w r3, r3, #1
smmulr r0, r0, r10
smmulr r2, r2, r10
smmulr r1, r1, r10
smmulr r3, r3, r10
add.w r0, r0, r0, asr #31
add.w r2, r2, r2, asr #31
add.w r1, r1, r1, asr #31
add.w r3, r3, r3, asr #31
asr.w r0, r0, r11
asr.w r2, r2, r11
asr.w r1, r1, r11
asr.w r3, r3, r11
addw r0, r0, #11
addw r2, r2, #11
addw r1, r1, #11
addw r3, r3, #11
ssat r0, #8, r0, asr #1
ssat r2, #8, r2, asr #1
ssat r1, #8, r1, asr #1
ssat r3, #8, r3, asr #1
ldr.w r9, [sp, #516]
ldr.w r12, [sp, #520]
strb.w r0, [r9, #8]
strb.w r2, [r9, #12]
strb.w r1, [r12, #8]
strb.w r3, [r12, #12]
ldr.w r0, [sp, #8]
ldr.w r1, [sp, #136]
ldr.w r9, [sp, #264]
ldr.w r12, [sp, #392]
add.w r0, r0, r1
sub.w r1, r1, r9
add.w r0, r0, r9
sub.w r1, r1, r12
ldr.w r2, [sp, #40]
ldr.w r3, [sp, #168]
ldr.w r9, [sp, #296]
ldr.w r12, [sp, #424]
add.w r2, r2, r3
sub.w r3, r3, r9
add.w r2, r2, r9
sub.w r3, r3, r12
ldr.w r4, [sp, #72]
ldr.w r5, [sp, #200]
ldr.w r9, [sp, #328]
ldr.w r12, [sp, #456]
add.w r4, r4, r5
sub.w r5, r5, r9
add.w r4, r4, r9
sub.w r5, r5, r12
ldr.w r6, [sp, #104]
ldr.w r7, [sp, #232]
ldr.w r9, [sp, #360]
ldr.w r12, [sp, #488]
add.w r6, r6, r7
sub.w r7, r7, r9
add.w r6, r6, r9
sub.w r7, r7, r12
add.w r0, r0, r2
sub.w r2, r2, r4
add.w r0, r0, r4
sub.w r2, r2, r6
add.w r1, r1, r3
sub.w r3, r3, r5
add.w r1, r1, r5
sub.w r3, r3, r7
asr.w r0, r0, #1
asr.w r2, r2, #1
asr.w r1, r1, #1
asr.w r3, r3, #1
smmulr r0, r0, r10
smmulr r2, r2, r10
smmulr r1, r1, r10
smmulr r3, r3, r10
add.w r0, r0, r0, asr #31
add.w r2, r2, r2, asr #31
add.w r1, r1, r1, asr #31
add.w r3, r3, r3, asr #31
asr.w r0, r0, r11
asr.w r2, r2, r11
asr.w r1, r1, r11
asr.w r3, r3, r11
addw r0, r0, #11
addw r2, r2, #11
addw r1, r1, #11
addw r3, r3, #11
ssat r0, #8, r0, asr #1
ssat r2, #8, r2, asr #1
ssat r1, #8, r1, asr #1
ssat r3, #8, r3, asr #1
ldr.w r9, [sp, #516]
ldr.w r12, [sp, #520]
strb.w r0, [r9, #16]
strb.w r2, [r9, #20]
strb.w r1, [r12, #16]
strb.w r3, [r12, #20]
ldr.w r0, [sp, #12]
ldr.w r1, [sp, #140]
ldr.w r9, [sp, #268]
ldr.w r12, [sp, #396]
add.w r0, r0, r1
sub.w r1, r1, r9
add.w r0, r0, r9
sub.w r1, r1, r12
ldr.w r2, [sp, #44]
ldr.w r3, [sp, #172]
ldr.w r9, [sp, #300]
ldr.w r12, [sp, #428]
add.w r2, r2, r3
sub.w r3, r3, r9
add.w r2, r2, r9
sub.w r3, r3, r12
ldr.w r4, [sp, #76]
ldr.w r5, [sp, #204]
ldr.w r9, [sp, #332]
ldr.w r12, [sp, #460]
add.w r4, r4, r5
sub.w r5, r5, r9
add.w r4, r4, r9
sub.w r5, r5, r12
ldr.w r6, [sp, #108]
ldr.w r7, [sp, #236]
ldr.w r9, [sp, #364]
ldr.w r12, [sp, #492]
add.w r6, r6, r7
sub.w r7, r7, r9
add.w r6, r6, r9
sub.w r7, r7, r12
add.w r0, r0, r2
sub.w r2, r2, r4
add.w r0, r0, r4
sub.w r2, r2, r6
add.w r1, r1, r3
sub.w r3, r3, r5
add.w r1, r1, r5
sub.w r3, r3, r7
asr.w r0, r0, #1
asr.w r2, r2, #1
asr.w r1, r1, #1
asr.w r3, r3, #1
smmulr r0, r0, r10
smmulr r2, r2, r10
smmulr r1, r1, r10
smmulr r3, r3, r10
add.w r0, r0, r0, asr #31
add.w r2, r2, r2, asr #31
add.w r1, r1, r1, asr #31
add.w r3, r3, r3, asr #31
asr.w r0, r0, r11
asr.w r2, r2, r11
asr.w r1, r1, r11
asr.w r3, r3, r11
addw r0, r0, #11
addw r2, r2, #11
addw r1, r1, #11
addw r3, r3, #11
ssat r0, #8, r0, asr #1
ssat r2, #8, r2, asr #1
ssat r1, #8, r1, asr #1
ssat r3, #8, r3, asr #1
ldr.w r9, [sp, #516]
ldr.w r12, [sp, #520]
strb.w r0, [r9, #24]
strb.w r2, [r9, #28]
strb.w r1, [r12, #24]
strb.w r3, [r12, #28]
ldrd r10, r11, [r8, #8]
ldr.w r0, [sp, #16]
ldr.w r1, [sp, #144]
ldr.w r9, [sp, #272]
ldr.w r12, [sp, #400]
add.w r0, r0, r1
sub.w r1, r1, r9
add.w r0, r0, r9
sub.w r1, r1, r12
ldr.w r2, [sp, #48]
ldr.w r3, [sp, #176]
ldr.w r9, [sp, #304]
ldr.w r12, [sp, #432]
add.w r2, r2, r3
sub.w r3, r3, r9
add.w r2, r2, r9
sub.w r3, r3, r12
ldr.w r4, [sp, #80]
ldr.w r5, [sp, #208]
ldr.w r9, [sp, #336]
ldr.w r12, [sp, #464]
add.w r4, r4, r5
sub.w r5, r5, r9
add.w r4, r4, r9
sub.w r5, r5, r12
ldr.w r6, [sp, #112]
ldr.w r7, [sp, #240]
ldr.w r9, [sp, #368]
ldr.w r12, [sp, #496]
add.w r6, r6, r7
sub.w r7, r7, r9
add.w r6, r6, r9
sub.w r7, r7, r12
add.w r0, r0, r2
sub.w r2, r2, r4
add.w r0, r0, r4
sub.w r2, r2, r6
add.w r1, r1, r3
sub.w r3, r3, r5
add.w r1, r1, r5
sub.w r3, r3, r7
asr.w r0, r0, #1
asr.w r2, r2, #1
asr.w r1, r1, #1
asr.w r3, r3, #1
smmulr r0, r0, r10
smmulr r2, r2, r10
smmulr r1, r1, r10
smmulr r3, r3, r10
add.w r0, r0, r0, asr #31
add.w r2, r2, r2, asr #31
add.w r1, r1, r1, asr #31
add.w r3, r3, r3, asr #31
asr.w r0, r0, r11
asr.w r2, r2, r11
asr.w r1, r1, r11
asr.w r3, r3, r11
addw r0, r0, #11
addw r2, r2, #11
addw r1, r1, #11
addw r3, r3, #11
ssat r0, #8, r0, asr #1
ssat r2, #8, r2, asr #1
ssat r1, #8, r1, asr #1
ssat r3, #8, r3, asr #1
ldr.w r9, [sp, #516]
ldr.w r12, [sp, #520]
strb.w r0, [r9, #1]
strb.w r2, [r9, #5]
strb.w r1, [r12, #1]
strb.w r3, [r12, #5]
ldr.w r0, [sp, #20]
ldr.w r1, [sp, #148]
ldr.w r9, [sp, #276]
ldr.w r12, [sp, #404]
add.w r0, r0, r1
sub.w r1, r1, r9
add.w r0, r0, r9
sub.w r1, r1, r12
ldr.w r2, [sp, #52]
ldr.w r3, [sp, #180]
ldr.w r9, [sp, #308]
ldr.w r12, [sp, #436]
add.w r2, r2, r3
sub.w r3, r3, r9
add.w r2, r2, r9
sub.w r3, r3, r12
ldr.w r4, [sp, #84]
ldr.w r5, [sp, #212]
ldr.w r9, [sp, #340]
ldr.w r12, [sp, #468]
add.w r4, r4, r5
sub.w r5, r5, r9
add.w r4, r4, r9
sub.w r5, r5, r12
ldr.w r6, [sp, #116]
ldr.w r7, [sp, #244]
ldr.w r9, [sp, #372]
ldr.w r12, [sp, #500]
add.w r6, r6, r7
sub.w r7, r7, r9
add.w r6, r6, r9
sub.w r7, r7, r12
add.w r0, r0, r2
sub.w r2, r2, r4
add.w r0, r0, r4
sub.w r2, r2, r6
add.w r1, r1, r3
sub.w r3, r3, r5
add.w r1, r1, r5
sub.w r3, r3, r7
asr.w r0, r0, #1
asr.w r2, r2, #1
asr.w r1, r1, #1
asr.w r3, r3, #1
smmulr r0, r0, r10
smmulr r2, r2, r10
smmulr r1, r1, r10
smmulr r3, r3, r10
add.w r0, r0, r0, asr #31
add.w r2, r2, r2, asr #31
add.w r1, r1, r1, asr #31
add.w r3, r3, r3, asr #31
asr.w r0, r0, r11
asr.w r2, r2, r11
asr.w r1, r1, r11
asr.w r3, r3, r11
addw r0, r0, #11
addw r2, r2, #11
addw r1, r1, #11
addw r3, r3, #11
ssat r0, #8, r0, asr #1
ssat r2, #8, r2, asr #1
ssat r1, #8, r1, asr #1
ssat r3, #8, r3, asr #1
ldr.w r9, [sp, #516]
ldr.w r12, [sp, #520]
strb.w r0, [r9, #9]
strb.w r2, [r9, #13]
strb.w r1, [r12, #9]
strb.w r3, [r12, #13]
ldr.w r0, [sp, #24]
ldr.w r1, [sp, #152]
ldr.w r9, [sp, #280]
ldr.w r12, [sp, #408]
add.w r0, r0, r1
sub.w r1, r1, r9
add.w r0, r0, r9
sub.w r1, r1, r12
ldr.w r2, [sp, #56]
ldr.w r3, [sp, #184]
ldr.w r9, [sp, #312]
ldr.w r12, [sp, #440]
add.w r2, r2, r3
sub.w r3, r3, r9
add.w r2, r2, r9
sub.w r3, r3, r12
ldr.w r4, [sp, #88]
ldr.w r5, [sp, #216]
ldr.w r9, [sp, #344]
ldr.w r12, [sp, #472]
add.w r4, r4, r5
sub.w r5, r5, r9
add.w r4, r4, r9
sub.w r5, r5, r12
ldr.w r6, [sp, #120]
ldr.w r7, [sp, #248]
ldr.w r9, [sp, #376]
ldr.w r12, [sp, #504]
add.w r6, r6, r7
sub.w r7, r7, r9
add.w r6, r6, r9
sub.w r7, r7, r12
add.w r0, r0, r2
sub.w r2, r2, r4
add.w r0, r0, r4
sub.w r2, r2, r6
add.w r1, r1, r3
sub.w r3, r3, r5
add.w r1, r1, r5
sub.w r3, r3, r7
asr.w r0, r0, #1
asr.w r2, r2, #1
asr.w r1, r1, #1
asr.w r3, r3, #1
smmulr r0, r0, r10
smmulr r2, r2, r10
smmulr r1, r1, r10
smmulr r3, r3, r10
add.w r0, r0, r0, asr #31
add.w r2, r2, r2, asr #31
add.w r1, r1, r1, asr #31
add.w r3, r3, r3, asr #31
asr.w r0, r0, r11
asr.w r2, r2, r11
asr.w r1, r1, r11
asr.w r3, r3, r11
addw r0, r0, #11
addw r2, r2, #11
addw r1, r1, #11
addw r3, r3, #11
ssat r0, #8, r0, asr #1
ssat r2, #8, r2, asr #1
ssat r1, #8, r1, asr #1
ssat r3, #8, r3, asr #1
ldr.w r9, [sp, #516]
ldr.w r12, [sp, #520]
strb.w r0, [r9, #17]
strb.w r2, [r9, #21]
strb.w r1, [r12, #17]
strb.w r3, [r12, #21]
ldr.w r0, [sp, #28]
ldr.w r1, [sp, #156]
ldr.w r9, [sp, #284]
ldr.w r12, [sp, #412]
add.w r0, r0, r1
sub.w r1, r1, r9
add.w r0, r0, r9
sub.w r1, r1, r12
ldr.w r2, [sp, #60]
ldr.w r3, [sp, #188]
ldr.w r9, [sp, #316]
ldr.w r12, [sp, #444]
add.w r2, r2, r3
sub.w r3, r3, r9
add.w r2, r2, r9
sub.w r3, r3, r12
ldr.w r4, [sp, #92]
ldr.w r5, [sp, #220]
ldr.w r9, [sp, #348]
ldr.w r12, [sp, #476]
add.w r4, r4, r5
sub.w r5, r5, r9
add.w r4, r4, r9
sub.w r5, r5, r12
ldr.w r6, [sp, #124]
ldr.w r7, [sp, #252]
ldr.w r9, [sp, #380]
ldr.w r12, [sp, #508]
add.w r6, r6, r7
sub.w r7, r7, r9
add.w r6, r6, r9
sub.w r7, r7, r12
add.w r0, r0, r2
sub.w r2, r2, r4
add.w r0, r0, r4
sub.w r2, r2, r6
add.w r1, r1, r3
sub.w r3, r3, r5
add.w r1, r1, r5
sub.w r3, r3, r7
asr.w r0, r0, #1
asr.w r2, r2, #1
asr.w r1, r1, #1
asr.w r3, r3, #1
smmulr r0, r0, r10
smmulr r2, r2, r10
smmulr r1, r1, r10
smmulr r3, r3, r10
add.w r0, r0, r0, asr #31
add.w r2, r2, r2, asr #31
add.w r1, r1, r1, asr #31
add.w r3, r3, r3, asr #31
asr.w r0, r0, r11
asr.w r2, r2, r11
asr.w r1, r1, r11
asr.w r3, r3, r11
addw r0, r0, #11
addw r2, r2, #11
addw r1, r1, #11
addw r3, r3, #11
ssat r0, #8, r0, asr #1
ssat r2, #8, r2, asr #1
ssat r1, #8, r1, asr #1
ssat r3, #8, r3, asr #1
ldr.w r9, [sp, #516]
ldr.w r12, [sp, #520]
strb.w r0, [r9, #25]
strb.w r2, [r9, #29]
strb.w r1, [r12, #25]
strb.w r3, [r12, #29]
add.w r8, r8, #16
ldr.w r0, [sp, #516]
ldr.w r1, [sp, #520]
ldr.w r2, [sp, #524]
add.w r0, r0, #2
add.w r1, r1, #2
strd r0, r1, [sp, #516]
cmp r0, r2
bne.w nn_winograd_8_4_z133_pair
add sp, sp, #532
pop {r4-r11, pc}
