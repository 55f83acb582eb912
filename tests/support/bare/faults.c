// One way to go wrong for each FAULT.
#include "board.h"
#include "nrf52840.h"

#define NOINLINE __attribute__((noinline, noclone))

volatile uint32_t sink;

#pragma GCC diagnostic ignored "-Winfinite-recursion"
NOINLINE uint32_t dig(uint32_t depth) {
    volatile uint32_t room[32];
    room[0] = depth;
    sink = room[0];
    uint32_t deeper = dig(depth + 1);
    return deeper + room[depth & 31];
}

NOINLINE void read_nowhere(void) { sink = *(volatile uint32_t *)0x30000000; }
NOINLINE void write_flash(void) { *(volatile uint32_t *)0x1000 = 1; }
NOINLINE void undefined(void) { __asm__ volatile("udf #7"); }
NOINLINE void jump_nowhere(void) { ((void (*)(void))0x08000001)(); }
NOINLINE void arm_state(void) { __asm__ volatile("ldr r0, =0x00070000\n bx r0" ::: "r0"); }
NOINLINE void breakpoint(void) { __asm__ volatile("bkpt 3"); }
NOINLINE void endless(void) {
    for (;;) sink++;
}
NOINLINE void sleep_for_ever(void) {
    for (;;) __asm__ volatile("wfi");
}
NOINLINE void unhandled(void) {
    nvic_enable(20, 1);
    NVIC_ISPR(0) = 1u << 20;
    endless();
}
NOINLINE void dma_from_flash(void) {
    UARTE(UARTE0, UARTE_ENABLE) = 8;
    UARTE(UARTE0, UARTE_TXD_PTR) = 0x100;
    UARTE(UARTE0, UARTE_TXD_MAXCNT) = 4;
    UARTE(UARTE0, UARTE_STARTTX) = 1;
    endless();
}
NOINLINE void bad_return(void) { __asm__ volatile("ldr r0, =0xFFFFFFF9\n bx r0" ::: "r0"); }
NOINLINE void reset_loop(void) {
    SCB_AIRCR = 0x05FA0004;
    endless();
}

NOINLINE void float_off(void) {
    REG(0xE000ED88) = 0;
    __asm__ volatile("dsb\n isb\n vmov.f32 s0, #1.0" ::: "s0");
}

NOINLINE void unaligned_pair(void) { __asm__ volatile("ldr r0, =0x20001002\n ldrd r2, r3, [r0]" ::: "r0", "r2", "r3"); }
NOINLINE void unaligned_exclusive(void) {
    __asm__ volatile("ldr r0, =0x20001001\n strex r1, r2, [r0]" ::: "r0", "r1", "r2");
}
NOINLINE void trapped_division(void) {
    REG(0xE000ED14) |= 1u << 4;
    __asm__ volatile("dsb\n isb\n movs r0, #0\n udiv r1, r0, r0" ::: "r0", "r1", "cc");
}
#if FAULT == 18
void HardFault_Handler(void) { endless(); }
#endif

NOINLINE void caller(void) {
    switch (FAULT) {
    case 1:
        read_nowhere();
        break;
    case 2:
        write_flash();
        break;
    case 3:
        sink = dig(0);
        break;
    case 4:
        undefined();
        break;
    case 5:
        jump_nowhere();
        break;
    case 6:
        arm_state();
        break;
    case 7:
        breakpoint();
        break;
    case 8:
        endless();
        break;
    case 9:
        sleep_for_ever();
        break;
    case 10:
        unhandled();
        break;
    case 11:
        dma_from_flash();
        break;
    case 12:
        bad_return();
        break;
    case 13:
        reset_loop();
        break;
    case 14:
        float_off();
        break;
    case 15:
        unaligned_pair();
        break;
    case 16:
        unaligned_exclusive();
        break;
    case 17:
        trapped_division();
        break;
    case 18:
        read_nowhere();
        break;
    }
    sink = 1;
}

int main(void) {
    caller();
    for (;;) {
    }
}
