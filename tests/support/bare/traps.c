// Faults that the program's own handlers take: which one, what the fault registers say, where it happened. The same on
// QEMU's Cortex-M4.
#include "nrf52840.h"
#include "results.h"

#define CCR REG(0xE000ED14)
#define CFSR REG(0xE000ED28)
#define HFSR REG(0xE000ED2C)
#define BFAR REG(0xE000ED38)
#define SHCSR REG(0xE000ED24)
#define CPACR REG(0xE000ED88)
#define ENABLE_ALL (7u << 16)

static uint32_t resume;  // where the handler goes on; 0: behind the instruction
static uint32_t words[16] __attribute__((aligned(8)));
static volatile uint32_t plan;

__attribute__((used)) static void fault_body(uint32_t *frame, uint32_t exc_return) {
    uint32_t ipsr;
    __asm__ volatile("mrs %0, ipsr" : "=r"(ipsr));
    result(0xF0000000 | ipsr);
    result(CFSR & ~0x00008200u);  // whether a store is precise is a matter of write buffers
    result(HFSR);
    if (CFSR & 0x8000) result(BFAR);
    if (!resume) result(*(uint16_t *)frame[6]);  // the instruction
    result(frame[7] & 0x0600FC00);
    result(exc_return);
    result(SHCSR & 0xFFF);
    if (CFSR & 0x80000)
        CPACR |= 0xF00000;  // NOCP: switch it on and try again
    else
        frame[6] = resume ? resume : frame[6] + (*(uint16_t *)frame[6] >= 0xE800 ? 4 : 2);
    frame[7] = (frame[7] & ~0x0600FC00u) | 1u << 24;  // out of an IT block, and of ARM state
    resume = 0;
    CFSR = 0xFFFFFFFF;
    HFSR = 0xFFFFFFFF;
}

#define FAULT_HANDLER(name)                                                                                       \
    __attribute__((naked)) void name(void) {                                                                      \
        __asm__ volatile("tst lr, #4\n ite eq\n mrseq r0, msp\n mrsne r0, psp\n mov r1, lr\n push {r4, lr}\n bl " \
                         "fault_body\n pop {r4, pc}\n");                                                          \
    }
FAULT_HANDLER(HardFault_Handler)
FAULT_HANDLER(MemManage_Handler)
FAULT_HANDLER(BusFault_Handler)
FAULT_HANDLER(UsageFault_Handler)

#define HERE(text, ...) __asm__ volatile(text::__VA_ARGS__ : "r2", "r3", "r12", "cc", "memory", "s0", "s1")

static void
unaligned(uint32_t where) {  // each of them faults without any trap bit, on an address that is not a multiple of 4
    uint32_t at = (uint32_t)words + where;
    HERE("ldrd r2, r3, [%0]", "r"(at));
    HERE("ldrd r2, r3, [%0], #8", "r"(at));
    HERE("strd r2, r3, [%0, #16]", "r"(at));
    HERE("ldmia.w %0, {r2, r3}", "r"(at));
    HERE("stmia.w %0, {r2, r3}", "r"(at));
    HERE("ldmdb %0, {r2, r3}", "r"(at));
    HERE("ldrex r2, [%0]", "r"(at));
    HERE("vldr s0, [%0]", "r"(at));
    HERE("vstr s0, [%0, #4]", "r"(at));
    HERE("vldmia %0, {s0, s1}", "r"(at));
    HERE("mov r3, %0\n adds r3, #8\n ldr r2, [%1]\n ldrd r2, r12, [r3]", "r"(at), "r"(words));
    HERE("add r3, %0, %1, lsl #2\n strd r2, r12, [r3]", "r"(at), "r"(where));
    HERE("str %0, [%1, #32]\n ldr r3, [%1, #32]\n ldmia.w r3, {r2, r12}", "r"(at),
         "r"(words));  // only known at the instruction
    HERE("ldrexh r2, [%0]", "r"(at));
    result(where << 8 | 0xA);
    HERE("ldr r2, [%0]\n str r2, [%0]\n ldrh r3, [%0]\n strh r3, [%0, #4]", "r"(at));     // these may be unaligned
    HERE("cmp %0, #0\n itt eq\n ldrdeq r2, r3, [%0]\n ldmiaeq.w %0, {r2, r3}", "r"(at));  // and these are not executed
    HERE("cmp %0, #0\n ite ne\n ldrdne r2, r3, [%0]\n moveq r2, #1", "r"(at));            // this one is
    HERE("cmp %0, #0\n ittt ne\n addne r2, #1\n strdne r2, r3, [%0]\n movne r3, #7", "r"(at));
    HERE("cmp %0, #0\n itt ne\n movne r2, #1\n stmiane.w %0, {r2, r3}", "r"(at));
}

static void others(void) {
    HERE("udf.w #7", "r"(0));
    HERE("ldr.w r2, [%0]", "r"(0x30000000));
    HERE("str.w r2, [%0]", "r"(0x30000004));
#define JUMP(target)                                                                                           \
    __asm__ volatile("adr r1, 1f\n str r1, [%0]\n ldr r0, =" target "\n bx r0\n .balign 4\n 1:" ::"r"(&resume) \
                     : "r0", "r1", "r2", "r3", "r12", "memory")
    JUMP("0x50000001");  // nothing may be executed there
    JUMP("0x90000001");  // and there is nothing
    JUMP("0x00000020");  // an even address
}

int main(void) {
    SHCSR |= ENABLE_ALL;
    for (uint32_t where = 0; where < 4; where++) unaligned(where);
    SHCSR &= ~ENABLE_ALL;
    result(1);
    unaligned(1);  // escalates to HardFault
    SHCSR |= ENABLE_ALL;
    CPACR &= ~0xF00000u;
    HERE("dsb\n isb\n vmov.f32 s0, #1.0", "r"(0));
    HERE("vadd.f32 s1, s0, s0", "r"(0));
    result(CPACR);
    SCB_SHPR(6) = 7 << 5;
    uint32_t basepri = 7 << 5, zero = 0;
    HERE("msr basepri, %0\n ldrd r2, r3, [%1]\n", "r"(basepri), "r"(words[0] * 0 + 0x20000001));  // masked: HardFault
    HERE("msr basepri, %0", "r"(zero));
    HERE("udf.w #1", "r"(0));
    others();
    finish();
}
