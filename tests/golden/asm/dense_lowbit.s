int4:
push {r3-r11, lr}
mov r11, r2
1:
movw r10, #4
cmp r11, r10
it lt
movlt r10, r11
sub r11, r11, r10
mov r4, #0
mov r5, #0
mov r6, #0
mov r7, #0
mov lr, #0
2:
ldr r12, [r1, #0]
ldr r8, [r0, #0]
ldr r9, [r0, #4]
sxtab16 lr, lr, r12
sxtab16 lr, lr, r12, ror #8
sxtb16 r2, r12
sxtb16 r12, r12, ror #8
smlad r4, r2, r8, r4
bic r3, r8, #0xF000F000
smlad r5, r2, r3, r5
uxtb16 r3, r8
smlad r6, r2, r3, r6
and r3, r8, #0x000F000F
smlad r7, r2, r3, r7
smlad r4, r12, r9, r4
bic r3, r9, #0xF000F000
smlad r5, r12, r3, r5
uxtb16 r3, r9
smlad r6, r12, r3, r6
and r3, r9, #0x000F000F
smlad r7, r12, r3, r7
ldr r12, [r1, #4]
ldr r8, [r0, #8]
ldr r9, [r0, #12]
sxtab16 lr, lr, r12
sxtab16 lr, lr, r12, ror #8
sxtb16 r2, r12
sxtb16 r12, r12, ror #8
smlad r4, r2, r8, r4
bic r3, r8, #0xF000F000
smlad r5, r2, r3, r5
uxtb16 r3, r8
smlad r6, r2, r3, r6
and r3, r8, #0x000F000F
smlad r7, r2, r3, r7
smlad r4, r12, r9, r4
bic r3, r9, #0xF000F000
smlad r5, r12, r3, r5
uxtb16 r3, r9
smlad r6, r12, r3, r6
and r3, r9, #0x000F000F
smlad r7, r12, r3, r7
ldr r12, [r1, #8]
ldr r8, [r0, #16]
ldr r9, [r0, #20]
sxtab16 lr, lr, r12
sxtab16 lr, lr, r12, ror #8
sxtb16 r2, r12
sxtb16 r12, r12, ror #8
smlad r4, r2, r8, r4
bic r3, r8, #0xF000F000
smlad r5, r2, r3, r5
uxtb16 r3, r8
smlad r6, r2, r3, r6
and r3, r8, #0x000F000F
smlad r7, r2, r3, r7
smlad r4, r12, r9, r4
bic r3, r9, #0xF000F000
smlad r5, r12, r3, r5
uxtb16 r3, r9
smlad r6, r12, r3, r6
and r3, r9, #0x000F000F
smlad r7, r12, r3, r7
ldr r12, [r1, #12]
ldr r8, [r0, #24]
ldr r9, [r0, #28]
sxtab16 lr, lr, r12
sxtab16 lr, lr, r12, ror #8
sxtb16 r2, r12
sxtb16 r12, r12, ror #8
smlad r4, r2, r8, r4
bic r3, r8, #0xF000F000
smlad r5, r2, r3, r5
uxtb16 r3, r8
smlad r6, r2, r3, r6
and r3, r8, #0x000F000F
smlad r7, r2, r3, r7
smlad r4, r12, r9, r4
bic r3, r9, #0xF000F000
smlad r5, r12, r3, r5
uxtb16 r3, r9
smlad r6, r12, r3, r6
and r3, r9, #0x000F000F
smlad r7, r12, r3, r7
add r0, #32
add r1, #16
subs r10, #1
bne.w 2b
sxth r8, lr
add lr, r8, lr, asr #16
ldr r12, [sp]
ldm r12, {r2, r3, r8, r9}
sub r4, r4, r5
sub r5, r5, r6
sub r6, r6, r7
sub r7, r7, lr, lsl #3
add r2, r7
asr r6, r6, #4
sub r6, r6, lr, lsl #3
add r3, r6
asr r5, r5, #8
sub r5, r5, lr, lsl #3
add r8, r5
add r9, r9, r4, asr #12
stm r12, {r2, r3, r8, r9}
cmp r11, #0
bne.w 1b
pop {r3-r11, pc}
int2:
push {r3-r11, lr}
movw r3, #0xC003
movt r3, #0xC003
1:
movw r7, #2
cmp r2, r7
it lt
movlt r7, r2
sub r2, r2, r7
mov r4, #0
mov r5, #0
mov r6, #0
2:
ldr r8, [r1, #0]
ldr r9, [r0, #0]
sxtb16 r10, r8, ror #8
sxtb16 r8, r8
sadd16 r6, r6, r8
sadd16 r6, r6, r10
and r11, r3, r9
smlad r4, r8, r11, r4
and r11, r3, r9, ror #4
smlad r4, r10, r11, r4
and r11, r3, r9, ror #8
smlad r5, r8, r11, r5
and r11, r3, r9, ror #12
smlad r5, r10, r11, r5
ldr r8, [r1, #4]
ldr r9, [r0, #4]
sxtb16 r10, r8, ror #8
sxtb16 r8, r8
sadd16 r6, r6, r8
sadd16 r6, r6, r10
and r11, r3, r9
smlad r4, r8, r11, r4
and r11, r3, r9, ror #4
smlad r4, r10, r11, r4
and r11, r3, r9, ror #8
smlad r5, r8, r11, r5
and r11, r3, r9, ror #12
smlad r5, r10, r11, r5
ldr r8, [r1, #8]
ldr r9, [r0, #8]
sxtb16 r10, r8, ror #8
sxtb16 r8, r8
sadd16 r6, r6, r8
sadd16 r6, r6, r10
and r11, r3, r9
smlad r4, r8, r11, r4
and r11, r3, r9, ror #4
smlad r4, r10, r11, r4
and r11, r3, r9, ror #8
smlad r5, r8, r11, r5
and r11, r3, r9, ror #12
smlad r5, r10, r11, r5
ldr r8, [r1, #12]
ldr r9, [r0, #12]
sxtb16 r10, r8, ror #8
sxtb16 r8, r8
sadd16 r6, r6, r8
sadd16 r6, r6, r10
and r11, r3, r9
smlad r4, r8, r11, r4
and r11, r3, r9, ror #4
smlad r4, r10, r11, r4
and r11, r3, r9, ror #8
smlad r5, r8, r11, r5
and r11, r3, r9, ror #12
smlad r5, r10, r11, r5
add r0, #16
add r1, #16
subs r7, #1
bne.w 2b
sxth r8, r6
add r6, r8, r6, asr #16
lsl r6, r6, #1
ldr r7, [sp]
ldm r7, {r8, r9, r10, r11}
sbfx lr, r4, #0, #14
sub r4, r4, lr
sub lr, lr, r6
add r8, lr
add r9, r9, r4, asr #14
sbfx lr, r5, #0, #14
sub r5, r5, lr
sub lr, lr, r6
add r10, lr
add r11, r11, r5, asr #14
stm r7, {r8, r9, r10, r11}
cmp r2, #0
bne.w 1b
pop {r3-r11, pc}
sparse4+4:
push {r4-r11, lr}
mov r3, #0
mov r12, #0x0F0F0F0F
mvn lr, r12
1:
ldr r10, [r0, #4]
ldr r8, [r0], #8
and r9, r12, r8, lsr #4
and r8, r12, r8
and r11, lr, r10
and r10, lr, r10, lsl #4
uxtab r4, r1, r8
uxtab r5, r4, r8, ror #8
uxtab r6, r5, r8, ror #16
uxtab r1, r6, r8, ror #24
ldrsb r4, [r4]
ldrsb r5, [r5]
ldrsb r6, [r6]
ldrsb r7, [r1]
sxtb16 r8, r10
sxtb16 r10, r10, ror #8
smlabb r3, r4, r8, r3
smlabb r3, r5, r10, r3
smlabt r3, r6, r8, r3
smlabt r3, r7, r10, r3
uxtab r4, r1, r9
uxtab r5, r4, r9, ror #8
uxtab r6, r5, r9, ror #16
uxtab r1, r6, r9, ror #24
ldrsb r4, [r4]
ldrsb r5, [r5]
ldrsb r6, [r6]
ldrsb r7, [r1]
sxtb16 r9, r11
sxtb16 r11, r11, ror #8
smlabb r3, r4, r9, r3
smlabb r3, r5, r11, r3
smlabt r3, r6, r9, r3
smlabt r3, r7, r11, r3
subs r2, #1
bne.w 1b
asr r0, r3, #4
pop {r4-r11, pc}
sparse8+8:
push {r4-r11, lr}
mov r3, #0
mov r12, #0x0F0F0F0F
mvn lr, r12
1:
ldr r9, [r0, #4]
ldr r10, [r0, #8]
ldr r11, [r0, #12]
ldr r8, [r0], #16
uxtab r4, r1, r8
uxtab r5, r4, r8, ror #8
uxtab r6, r5, r8, ror #16
uxtab r1, r6, r8, ror #24
ldrsb r4, [r4]
ldrsb r5, [r5]
ldrsb r6, [r6]
ldrsb r7, [r1]
sxtb16 r8, r10
sxtb16 r10, r10, ror #8
smlabb r3, r4, r8, r3
smlabb r3, r5, r10, r3
smlabt r3, r6, r8, r3
smlabt r3, r7, r10, r3
uxtab r4, r1, r9
uxtab r5, r4, r9, ror #8
uxtab r6, r5, r9, ror #16
uxtab r1, r6, r9, ror #24
ldrsb r4, [r4]
ldrsb r5, [r5]
ldrsb r6, [r6]
ldrsb r7, [r1]
sxtb16 r9, r11
sxtb16 r11, r11, ror #8
smlabb r3, r4, r9, r3
smlabb r3, r5, r11, r3
smlabt r3, r6, r9, r3
smlabt r3, r7, r11, r3
subs r2, #1
bne.w 1b
mov r0, r3
pop {r4-r11, pc}
