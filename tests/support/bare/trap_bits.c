// CCR's trap bits: division by zero, and unaligned access by instructions that otherwise allow it. QEMU 7 does not
// model them.
#include "nrf52840.h"
#include "results.h"

#define CCR REG(0xE000ED14)
#define CFSR REG(0xE000ED28)
#define HFSR REG(0xE000ED2C)
#define CLOBBERS "r2", "r3", "r12", "cc", "memory"

static uint32_t words[16] __attribute__((aligned(8)));

__attribute__((used)) static void fault_body(uint32_t *frame) {
    result(CFSR >> 16);
    result(HFSR);
    frame[6] += 4;
    CFSR = HFSR = 0xFFFFFFFF;
}

__attribute__((naked)) void HardFault_Handler(void) {
    __asm__ volatile("mov r0, sp\n push {r4, lr}\n bl fault_body\n pop {r4, pc}\n");
}

static uint32_t signed_by(uint32_t value, uint32_t divisor) {
    uint32_t quotient = 99;
    __asm__ volatile("sdiv %0, %1, %2" : "+&r"(quotient) : "r"(value), "r"(divisor));
    return quotient;
}

static uint32_t unsigned_by(uint32_t value, uint32_t divisor) {
    uint32_t quotient = 99;
    __asm__ volatile("udiv %0, %1, %2" : "+&r"(quotient) : "r"(value), "r"(divisor));
    return quotient;
}

static void divide(void) { result(signed_by(7, 0) << 16 | unsigned_by(7, 0) << 8 | unsigned_by(7, 2)); }

__attribute__((noinline, noclone)) static void
touch(uint32_t at) {  // the same code before the bit, with it, and after it
    uint32_t one = 1;
    __asm__ volatile("ldr.w r2, [%0]\n str.w r2, [%0, #4]\n ldrh.w r2, [%0]\n ldrsh.w r2, [%0, #2]\n strh.w r2, [%0]\n"
                     "ldr.w r2, [%0, %1, lsl #2]\n ldr.w r2, [%0, %1]\n ldr.w r2, [%0, #-4]\n ldrt r2, [%0]\n"
                     "ldrb.w r2, [%0]\n strb.w r2, [%0]\n ldrsb.w r2, [%0, #1]\n" ::"r"(at),
                     "r"(one)
                     : CLOBBERS);
    uint32_t moving = at;
    __asm__ volatile("ldr r2, [%0], #3\n" : "+r"(moving)::CLOBBERS);
    result(moving - at);
}

int main(void) {
    uint32_t at = (uint32_t)words + 8;
    for (int pass = 0; pass < 3; pass++) {
        CCR = (CCR & ~0x18u) | (pass == 1 ? 0x18 : 0);
        __asm__ volatile("dsb\n isb" ::: "memory");
        result(0xD0 + pass);
        divide();
        for (uint32_t where = 0; where < 4; where++) {
            result(0xE0 + where);
            touch(at + where);
        }
    }
    finish();
}
