// More rules of ARMv7-M that do not depend on the chip: priority groups, who follows whom, floating point frames saved
// late, wrong returns. The same results on the virtual board and on QEMU's Cortex-M4.
#include "nrf52840.h"
#include "results.h"

#define CFSR REG(0xE000ED28)
#define HFSR REG(0xE000ED2C)
#define SHCSR REG(0xE000ED24)
#define FPCCR REG(0xE000EF34)
#define FPCAR REG(0xE000EF38)
#define IRQS 6
#define FIRST 20  // interrupts 20..25, which nobody else uses on either chip

static volatile uint32_t plan, depth;
volatile uint32_t wrong;  // EXC_RETURN to go back by

static uint32_t ipsr(void) {
    uint32_t value;
    __asm__ volatile("mrs %0, ipsr" : "=r"(value));
    return value;
}

static uint32_t control(void) {
    uint32_t value;
    __asm__ volatile("mrs %0, control" : "=r"(value));
    return value & 7;
}

static void pend(uint32_t mask) {  // bit n: interrupt FIRST + n
    NVIC_ISPR(0) = mask << FIRST;
    __asm__ volatile("dsb\n isb" ::: "memory");
}

static void set(uint32_t n, uint32_t priority) { NVIC_IPR(FIRST + n) = (uint8_t)(priority << 5); }
static void group(uint32_t bits) { SCB_AIRCR = 0x05FA0000 | bits << 8; }
static void basepri(uint32_t level) { __asm__ volatile("msr basepri, %0\n isb" ::"r"(level << 5) : "memory"); }

static void interrupt(void) {
    uint32_t me = ipsr() - 16 - FIRST;
    result(0xA0000000 | depth << 16 | me);
    depth++;
    uint32_t todo = plan >> 8 * (me & 3) & 0xFF;  // what this one pends
    if (todo && me < 4) {
        plan &= ~(0xFFu << 8 * me);
        pend(todo);
        result(0xB0000000 | depth << 16 | me);
    }
    depth--;
}
void SWI0_EGU0_IRQHandler(void) { interrupt(); }
void SWI1_EGU1_IRQHandler(void) { interrupt(); }

static uint32_t vectors[64] __attribute__((aligned(256)));

static void move_vectors(void) {  // the table in RAM, with `interrupt` for all six
    for (int i = 0; i < 64; i++) vectors[i] = ((uint32_t *)REG(0xE000ED08))[i];
    for (int i = 0; i < IRQS; i++) vectors[16 + FIRST + i] = (uint32_t)interrupt;
    REG(0xE000ED08) = (uint32_t)vectors;
    __asm__ volatile("dsb\n isb" ::: "memory");
    for (int i = 0; i < IRQS; i++) NVIC_ISER(0) = 1u << (FIRST + i);
}

static void groups(void) {
    for (uint32_t bits = 0; bits < 8; bits++) {  // how many bits of a priority decide preemption
        group(bits);
        result(0x10 | (SCB_AIRCR >> 8 & 7) << 8);
        set(0, 7), set(1, 6), set(2, 5), set(3, 4), set(4, 1), set(5, 0);
        plan = 0x20080402;  // 0 pends 1, 1 pends 2, 2 pends 3, 3 pends 5
        pend(1);
        plan = 0x00000036;  // 0 pends 1, 2, 4 and 5
        pend(1);
        for (uint32_t level = 1; level < 8; level++) {  // BASEPRI goes by groups too
            basepri(level);
            plan = 0;
            pend(0x3F);
            result(0x20 | (NVIC_ISPR(0) >> FIRST & 0x3F) << 8);
            basepri(0);
            __asm__ volatile("isb");
        }
    }
    group(0);
}

static void order(void) {  // all pend at once; equal priorities go by number
    const uint32_t priorities[4][IRQS] = {
        {3, 3, 3, 3, 3, 3}, {5, 4, 3, 2, 1, 0}, {2, 1, 2, 1, 2, 1}, {0, 7, 0, 7, 3, 3}};
    for (int scene = 0; scene < 4; scene++) {
        result(0x30 + scene);
        for (uint32_t i = 0; i < IRQS; i++) set(i, priorities[scene][i]);
        plan = 0;
        __asm__ volatile("cpsid i" ::: "memory");
        pend(0x3F);
        result((SCB_ICSR >> 12 & 0x1FF) | (SCB_ICSR & 1u << 22));
        __asm__ volatile("cpsie i\n isb" ::: "memory");
        plan = 0x3C;
        pend(1);
        __asm__ volatile("cpsid f" ::: "memory");
        pend(0x3F);
        SCB_ICSR = 1u << 28;
        result(NVIC_ISPR(0) >> FIRST & 0x3F);
        __asm__ volatile("cpsie f\n isb" ::: "memory");
    }
}

void PendSV_Handler(void) { result(0xC0000000 | depth); }

// --- floating point frames
// ----------------------------------------------------------------------------------------------------

__attribute__((used)) static void svc_body(uint32_t *frame, uint32_t exc_return) {
    result(exc_return);
    result(FPCCR & 0xC0000000);
    result(FPCCR & 0x17B);  // who was interrupted, which faults could be taken, and whether the registers still wait
    result((FPCCR & 1) && FPCAR == (uint32_t)frame + 0x20);
    result(control());
    if (plan == 1) {
        frame[8] = 0x40E00000;  // nobody saved anything there yet: the late save overwrites it
        __asm__ volatile("vmov.f32 s0, #2.0\n vmov.f32 s15, #4.0" ::: "memory");
        result(FPCCR & 1);
        result(control());
        result(frame[8]);
        result(frame[8 + 15]);
        result(frame[8 + 16]);
    }
    if (plan == 2) {
        frame[8] = 0x40E00000;  // nobody needs the registers: the frame is not looked at
        pend(1);                // one without, nested in it
        result(FPCCR & 1);
    }
    if (plan == 3) {
        __asm__ volatile("vmov.f32 s0, #3.0" ::: "memory");
        plan = 0;
        __asm__ volatile("vmov.f32 s1, #3.0" ::: "memory");
        pend(1);  // a frame within a frame
        uint32_t s0;
        __asm__ volatile("vmov %0, s0" : "=r"(s0));
        result(s0);
    }
    if (plan == 4) {  // whether the handler's instruction runs depends on the flags
        __asm__ volatile("movs r0, #1\n cmp r0, #2\n it eq\n vmoveq.f32 s0, #5.0" ::: "r0", "cc", "memory");
        result(FPCCR & 1);
        __asm__ volatile("isb\n cmp r0, r0\n it eq\n vmoveq.f32 s0, #5.0" ::: "cc", "memory");
        result(FPCCR & 1);
    }
}

__attribute__((naked)) void SVC_Handler(void) {
    __asm__ volatile("tst lr, #4\n ite eq\n mrseq r0, msp\n mrsne r0, psp\n mov r1, lr\n push {r4, lr}\n bl svc_body\n "
                     "pop {r4, pc}\n");
}

static void call(uint32_t what) {
    plan = what;
    uint32_t s0, s15, fpscr;
    __asm__ volatile("vmov.f32 s0, #1.0\n vmov.f32 s15, #1.5\n vmsr fpscr, %0\n svc 0" ::"r"(0x02C00000) : "memory");
    __asm__ volatile("vmov %0, s0\n vmov %1, s15\n vmrs %2, fpscr" : "=r"(s0), "=r"(s15), "=r"(fpscr));
    result(s0);
    result(s15);
    result(fpscr);
    result(control());
    result(FPCCR & 1);
    plan = 0;
    __asm__ volatile("msr control, %0\n isb" ::"r"(control() & 3));  // no floating point context any more
    __asm__ volatile("svc 0" ::: "memory");
    result(control());
}

static void late_frames(void) {
    static uint64_t process_stack[64];
    for (uint32_t what = 0; what < 5; what++) {
        result(0x50 + what);
        call(what);
    }
    FPCCR &= ~(1u << 30);  // saved at once
    call(0);
    FPCCR |= 1u << 30;
    SHCSR |= 7u << 16;
    __asm__ volatile("msr psp, %0\n msr control, %1\n isb" ::"r"(&process_stack[64]), "r"(2));
    call(1);
    SHCSR &= ~(7u << 16);
    __asm__ volatile("msr control, %0\n isb" ::"r"(0));
}

// --- returns that do not fit
// -----------------------------------------------------------------------------------------------------

__attribute__((used)) static void usage_body(uint32_t exc_return, uint32_t fault_psr) {
    result(0xE0000000 | (fault_psr & 0x1FF));
    result(CFSR);
    result(HFSR);
    result(exc_return);
    result(SHCSR & 0xFFF);
    CFSR = HFSR = 0xFFFFFFFF;
}

// The frame of the return that failed is still there, and only this handler is left active: a right return ends it.
#define RETURN_HANDLER(name)                                                                                    \
    __attribute__((naked)) void name(void) {                                                                    \
        __asm__ volatile(                                                                                       \
            "mov r0, lr\n mrs r1, xpsr\n push {r4, lr}\n bl usage_body\n pop {r4, lr}\n mvn lr, #6\n bx lr\n"); \
    }
RETURN_HANDLER(UsageFault_Handler)
RETURN_HANDLER(HardFault_Handler)

__attribute__((naked)) static void returns_wrong(void) { __asm__ volatile("ldr r0, =wrong\n ldr r0, [r0]\n bx r0\n"); }

static void wrong_returns(void) {
    const uint32_t values[] = {0xFFFFFFF1, 0xFFFFFFE1, 0xFFFFFFF5, 0xFFFFFFFB};
    vectors[16 + FIRST] = (uint32_t)returns_wrong;
    for (int enabled = 1; enabled >= 0; enabled--) {
        SHCSR = (uint32_t)enabled << 18;
        for (int i = 0; i < 4; i++) {
            result(0x60 + i);
            wrong = values[i];
            pend(1);
            result(0x68);
        }
    }
}

int main(void) {
    move_vectors();
    groups();
    order();
    late_frames();
    wrong_returns();
    finish();
}
