// IT blocks of it_streams.py: each on fresh registers, flags and memory; what it leaves behind becomes one number. A
// fault is answered by going on behind the instruction, in the IT block. The same on QEMU's Cortex-M4.
#include "nrf52840.h"
#include "results.h"

#ifndef WATCHED
#define WATCHED 0  // 1: flash may be written, so stores in IT blocks are stepped; 2: unaligned words trap; 4: SysTick
#endif
#define CCR REG(0xE000ED14)
#define CFSR REG(0xE000ED28)
#define SHCSR REG(0xE000ED24)
#define SYSTICK ((volatile uint32_t *)0xE000E010)
#define IT_BITS 0x0600FC00u

void it_blocks(void);

__attribute__((used)) static struct {
    uint32_t core[8], flags, floats[16], target[2];
} at_start, at_end;
__attribute__((used)) static uint32_t *pointers[2];
static uint32_t pool[128] __attribute__((aligned(8)));
static uint32_t state = 1, faults;

static uint32_t next(void) { return state = state * 1664525 + 1013904223; }

__attribute__((used)) static void make_scene(uint32_t odd, uint32_t end, uint32_t *stack) {
    for (uint32_t i = 0; i < 128; i++) pool[i] = next();
    for (uint32_t i = 0; i < 16; i++) stack[i] = next();
    for (uint32_t i = 0; i < 16; i++) at_start.floats[i] = next() >> 2;
    for (uint32_t i = 0; i < 4; i++) at_start.core[i] = next() >> 8;
    if (WATCHED & 2) odd = 0;
    for (uint32_t i = 0; i < 2; i++) {
        pointers[i] = (uint32_t *)((uint32_t)&pool[56 + 16 * i + (next() >> 29)] + odd);
        at_start.core[4 + i] = (uint32_t)pointers[i];
        at_start.core[6 + i] = next() >> 30 & (WATCHED & 2 ? 0 : 3);
    }
    at_start.flags = next() & 0xF8000000;
    at_start.target[0] = 0x1234567;
    at_start.target[1] = end;
    faults = 0;
}

__attribute__((naked, used)) void prepare(void) {  // r0: by how much pointers are off; r1: where the block ends
    __asm__ volatile(
        "mov r2, sp\n push {r1, lr}\n bl make_scene\n pop {r11, lr}\n clrex\n ldr r12, =at_start\n"
        "add r10, r12, %0\n add r0, r12, %1\n vldmia r0, {s0-s15}\n ldr r0, [r12, %2]\n msr apsr_nzcvq, r0\n"
        "ldmia r12, {r0-r7}\n ldr r9, =pointers\n ldr r12, =back + 1\n mov r8, #3\n bx lr\n .ltorg\n" ::"i"(36 + 64),
        "i"(36), "i"(32));
}

__attribute__((used)) static void digest(void) {
    uint32_t sum = faults;
    for (uint32_t i = 0; i < 25; i++) {
        uint32_t pointed = i == 4 || i == 5 ? (uint32_t)pool : 0;
        sum = (sum ^ (((uint32_t *)&at_end)[i] - pointed)) * 16777619;
    }
    for (uint32_t i = 0; i < 128; i++) sum = (sum ^ pool[i]) * 16777619;
    result(sum);
}

__attribute__((naked, used)) void keep(void) {
    __asm__ volatile("ldr r12, =at_end\n stmia r12!, {r0-r7}\n mrs r0, apsr\n stmia r12!, {r0}\n vstmia r12, {s0-s15}\n"
                     "b digest\n .ltorg\n");
}

__attribute__((used)) static void fault_body(uint32_t *frame) {
    uint32_t it = (frame[7] >> 25 & 3) | (frame[7] >> 8 & 0xFC);
    faults = faults * 31 + (CFSR & ~0x8200u) + it;
    frame[6] += *(uint16_t *)frame[6] >= 0xE800 ? 4 : 2;
    it = it & 7 ? (it & 0xE0) | (it << 1 & 0x1F) : 0;
    frame[7] = (frame[7] & ~IT_BITS) | (it & 3) << 25 | (it & 0xFC) << 8;
    CFSR = 0xFFFFFFFF;
}

__attribute__((naked)) void UsageFault_Handler(void) {
    __asm__ volatile("mov r0, sp\n push {r4, lr}\n bl fault_body\n pop {r4, pc}\n");
}

void SysTick_Handler(void) { __asm__ volatile("vmov s7, s8\n vmov s7, s8" ::: "s7"); }

int main(void) {
    SHCSR |= 7u << 16;
    if (WATCHED & 1) REG(0x4001E504) = 1;
    if (WATCHED & 2) CCR |= 1u << 3;
    if (WATCHED & 4) {
        SYSTICK[1] = 997;
        SYSTICK[2] = 0;
        SYSTICK[0] = 7;
    }
    for (uint32_t pass = 0; pass < PASSES; pass++) it_blocks();
    finish();
}
