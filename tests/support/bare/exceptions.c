// Exception rules of ARMv7-M that do not depend on the chip: the same results on the virtual board and on QEMU's
// Cortex-M4.
#include "nrf52840.h"
#include "results.h"

#define IRQ_A 20
#define IRQ_B 21

static inline uint32_t mrs_ipsr(void) {
    uint32_t value;
    __asm__ volatile("mrs %0, ipsr" : "=r"(value));
    return value;
}

static inline uint32_t mrs_control(void) {
    uint32_t value;
    __asm__ volatile("mrs %0, control" : "=r"(value));
    return value & 7;
}

static void pend(uint32_t irq) {
    NVIC_ISPR(0) = 1u << irq;
    __asm__ volatile("dsb\n isb" ::: "memory");
}

static void basepri(uint32_t value) { __asm__ volatile("msr basepri, %0\n isb" ::"r"(value) : "memory"); }

// --- handlers: each logs who it is; `plan` says what else it does

static volatile uint32_t plan;
static volatile uint32_t systicks;
uint32_t svc_frame[10];

void SWI0_EGU0_IRQHandler(void) {
    result(0xA0000000 | mrs_ipsr());
    if (plan == 1) {  // pend the other one: it preempts when its priority is better, else it follows
        pend(IRQ_B);
        result(0xA1000000 | (SCB_ICSR & 0xFF));
    }
    if (plan == 2) {
        result(0xA2000000 | mrs_control());
        result(SCB_ICSR & 0x800);  // RETTOBASE
        SCB_ICSR = 1u << 28;
        __asm__ volatile("dsb\n isb" ::: "memory");
        result(0xA3000000);
    }
}

void SWI1_EGU1_IRQHandler(void) { result(0xB0000000 | mrs_ipsr()); }
void PendSV_Handler(void) { result(0xC0000000 | mrs_ipsr()); }

void SysTick_Handler(void) {
    systicks++;
    if (systicks == 3) SYST_CSR = 0;
}

__attribute__((used)) static void svc_body(uint32_t *frame, uint32_t exc_return, uint32_t msp, uint32_t psp) {
    result(0xD0000000 | mrs_ipsr());
    result(exc_return);
    result(((uint8_t *)(frame[6]))[-2]);  // the immediate of SVC
    result(frame[7] & 0x200);             // the stack was realigned
    result(mrs_control());
    result((uint32_t)frame == psp ? 1 : (uint32_t)frame == msp ? 2 : 3);
    for (int i = 0; i < 4; i++) result(frame[i]);
    result(frame[4]);
    frame[0] = 0x12345678;
    __asm__ volatile("vmov.f32 s0, #2.0\n vmov.f32 s15, #4.0\n vmov.f32 s16, #8.0" ::
                         : "s0", "s15", "memory");  // a handler that uses the FPU
    result(mrs_control());
}

__attribute__((naked)) void SVC_Handler(void) {
    __asm__ volatile("mrs r2, msp\n"
                     "mrs r3, psp\n"
                     "mov r1, lr\n"
                     "tst lr, #4\n"
                     "ite eq\n"
                     "moveq r0, r2\n"
                     "movne r0, r3\n"
                     "push {r4, lr}\n"
                     "bl svc_body\n"
                     "pop {r4, pc}\n");
}

// --- the scenes

static void priorities(void) {
    nvic_enable(IRQ_A, 4);
    nvic_enable(IRQ_B, 2);
    result(1);
    plan = 1;
    pend(IRQ_A);  // B preempts A
    nvic_enable(IRQ_B, 6);
    result(2);
    pend(IRQ_A);  // B follows A
    nvic_enable(IRQ_B, 4);
    result(3);
    pend(IRQ_A);  // equal: B follows A
    plan = 0;
    result(4);
    __asm__ volatile("cpsid i" ::: "memory");
    NVIC_ISPR(0) = 1u << IRQ_B;
    pend(IRQ_A);
    result(5);
    __asm__ volatile("cpsie i\n isb" ::: "memory");  // both wait: the lower number goes first
    result(6);
    SCB_SHPR(14) = 7 << 5;
    plan = 2;
    pend(IRQ_A);  // PendSV follows A
    plan = 0;
}

static void masks(void) {
    nvic_enable(IRQ_A, 3);
    nvic_enable(IRQ_B, 1);
    result(10);
    basepri(2 << 5);
    pend(IRQ_A);
    result(11);
    pend(IRQ_B);
    result(12);
    uint32_t value = 3 << 5;
    __asm__ volatile("msr basepri_max, %0\n mrs %0, basepri" : "+r"(value));
    result(value & 0xE0);  // 2 << 5: a worse value does not go in
    value = 1 << 5;
    __asm__ volatile("msr basepri_max, %0\n mrs %0, basepri" : "+r"(value));
    result(value & 0xE0);
    basepri(0);
    result(13);
    __asm__ volatile("cpsid f\n" ::: "memory");
    pend(IRQ_B);
    __asm__ volatile("mrs %0, faultmask" : "=r"(value));
    result(14 | value << 8);
    __asm__ volatile("cpsie f\n isb" ::: "memory");
    result(15);
    NVIC_ICER(0) = 1u << IRQ_A;
    pend(IRQ_A);
    result(16 | (NVIC_ISPR(0) >> IRQ_A & 1) << 8);
    NVIC_ISER(0) = 1u << IRQ_A;
    __asm__ volatile("dsb\n isb" ::: "memory");
    result(17);
    result(NVIC_IPR(IRQ_B) & 0xE0);
    result(NVIC_ISER(0) >> IRQ_A & 3);
}

static uint32_t svc(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    register uint32_t r0 __asm__("r0") = a;
    register uint32_t r1 __asm__("r1") = b;
    register uint32_t r2 __asm__("r2") = c;
    register uint32_t r3 __asm__("r3") = d;
    __asm__ volatile("mov r12, #77\n svc 42" : "+r"(r0) : "r"(r1), "r"(r2), "r"(r3) : "r12", "memory");
    return r0;
}

static uint32_t svc_misaligned(void) {
    uint32_t value;
    __asm__ volatile("mov r0, #1\n mov r1, #2\n mov r2, #3\n mov r3, #4\n mov r12, #5\n"
                     "push {r4}\n svc 43\n pop {r4}\n mov %0, r0"
                     : "=r"(value)::"r0", "r1", "r2", "r3", "r12", "memory");
    return value;
}

static void frames(void) {
    static uint64_t process_stack[64];
    result(20);
    uint32_t clear = 0;  // no floating point context yet
    __asm__ volatile("msr control, %0\n isb" ::"r"(clear));
    result(svc(1, 2, 3, 4));
    uint32_t misaligned;
    __asm__ volatile("mov %0, sp" : "=r"(misaligned));
    result(misaligned & 4);
    result(svc_misaligned());
    __asm__ volatile("msr psp, %0\n msr control, %1\n isb" ::"r"(&process_stack[64]), "r"(2));
    uint32_t value = svc(5, 6, 7, 8);
    result(value);
    result(mrs_control());
    __asm__ volatile("vmov.f32 s0, #1.0\n vmov.f32 s15, #1.5\n vmov.f32 s16, #3.0\n vmsr fpscr, %0" ::"r"(0x03C00000)
                     : "memory");
    value = svc(9, 10, 11, 12);
    uint32_t s0, s15, fpscr;
    __asm__ volatile("vmov %0, s0\n vmov %1, s15\n vmrs %2, fpscr" : "=r"(s0), "=r"(s15), "=r"(fpscr));
    result(s0);
    result(s15);
    result(fpscr);
    result(mrs_control());
    __asm__ volatile("msr control, %0\n isb" ::"r"(0));
    __asm__ volatile("mrs %0, psp" : "=r"(value));
    result(value == (uint32_t)&process_stack[64]);
}

static void waits(void) {
    result(30);
    __asm__ volatile("cpsid i" ::: "memory");
    NVIC_ISPR(0) = 1u << IRQ_A;
    __asm__ volatile("wfi" ::: "memory");  // an interrupt that PRIMASK holds back ends the sleep
    result(31);
    __asm__ volatile("cpsie i\n isb" ::: "memory");
    result(32);
    SYST_RVR = 999;
    SYST_CVR = 0;
    SYST_CSR = 7;
    while (systicks < 3) {
    }
    result(33);
    __asm__ volatile("sev\n wfe\n" ::: "memory");
    result(34);
}

static void flags(void) {  // an interrupt leaves flags, GE bits and IT state alone
    uint32_t before, after, inside = 0;
    __asm__ volatile("ldr r0, =0xF80F0000\n msr apsr_nzcvqg, r0\n mrs %0, apsr\n"
                     "ldr r0, =0xE000E200\n ldr r1, =0x100000\n"
                     "ittt vs\n strvs r1, [r0]\n addvs %2, %2, #3\n addvs %2, %2, #4\n"
                     "dsb\n isb\n mrs %1, apsr\n"
                     : "=&r"(before), "=&r"(after), "+&r"(inside)::"r0", "r1", "cc", "memory");
    result(before);
    result(after);
    result(inside);
}

int main(void) {
    priorities();
    masks();
    frames();
    waits();
    flags();
    finish();
}
