// Sleep: what ends WFE and what WFI, SEVONPEND, SLEEPONEXIT; and an interrupt that comes while another one's frame is
// written.
#include "nrf52840.h"
#include "results.h"

#define SCR REG(0xE000ED10)

static volatile uint32_t ticks, order;

void TIMER1_IRQHandler(void) {
    TIMER(TIMER1, TIMER_COMPARE0) = 0;
    (void)TIMER(TIMER1, TIMER_COMPARE0);
    ticks++;
    order = order << 4 | 1;
}

void SWI0_EGU0_IRQHandler(void) { order = order << 4 | 2; }

static uint32_t micros(void) {  // on TIMER0: goes on in sleep
    TIMER(TIMER0, TIMER_CAPTURE0) = 1;
    return TIMER(TIMER0, TIMER_CC0);
}

static void alarm_in(uint32_t us) {
    TIMER(TIMER1, TIMER_STOP) = 1;
    TIMER(TIMER1, TIMER_CLEAR) = 1;
    TIMER(TIMER1, TIMER_CC0) = us;
    TIMER(TIMER1, TIMER_COMPARE0) = 0;
    TIMER(TIMER1, TIMER_START) = 1;
}

static void wfe(void) { __asm__ volatile("wfe" ::: "memory"); }
static void no_event(void) { __asm__ volatile("sev\n wfe" ::: "memory"); }

static void waits_for_events(void) {
    no_event();
    alarm_in(100);
    uint32_t begin = micros();
    wfe();  // the interrupt ends it
    result(micros() - begin);
    result(ticks);
    wfe();  // its entry and return were an event: no sleep
    result(micros() - begin);
    no_event();
    __asm__ volatile("cpsid i" ::: "memory");
    alarm_in(100);
    begin = micros();
    SCR = 1u << 4;  // SEVONPEND: a masked interrupt that becomes pending is an event
    wfe();
    result(micros() - begin);
    result(ticks);
    NVIC_ICER(0) = 1u << TIMER1_IRQ;
    __asm__ volatile("cpsie i\n isb" ::: "memory");
    TIMER(TIMER1, TIMER_COMPARE0) = 0;
    REG(0xE000E280) = 1u << TIMER1_IRQ;
    no_event();
    alarm_in(100);
    begin = micros();
    wfe();  // even one that is not enabled
    result(micros() - begin);
    SCR = 0;
    TIMER(TIMER1, TIMER_COMPARE0) = 0;
    REG(0xE000E280) = 1u << TIMER1_IRQ;
    NVIC_ISER(0) = 1u << TIMER1_IRQ;
    result(ticks);
}

static void sleeps_on_exit(void) {  // main goes on when a handler takes the bit away
    ticks = 0;
    TIMER(TIMER1, TIMER_SHORTS) = 1;
    alarm_in(50);
    SCR = 1u << 1;
    uint32_t begin = micros(), turns = 0;
    while (ticks < 1) turns++;
    result(micros() - begin >= 1000);  // not before SWI1, that ends the sleep, was run by hand of TIMER3
    result(ticks);
    TIMER(TIMER1, TIMER_SHORTS) = 0;
    TIMER(TIMER1, TIMER_STOP) = 1;
}

void TIMER3_IRQHandler(void) {
    TIMER(TIMER3, TIMER_COMPARE0) = 0;
    (void)TIMER(TIMER3, TIMER_COMPARE0);
    SCR = 0;
}

static void late_arrivals(void) {  // SWI0 is pended by the program ever nearer to TIMER1's better interrupt
    nvic_enable(20, 5);
    uint32_t seen[3] = {0, 0, 0};
    for (uint32_t wait = 0; wait < 64; wait++) {
        order = 0;
        alarm_in(4);
        uint32_t left = 40 + 2 * wait;
        __asm__ volatile("1: subs %0, #1\n bne 1b\n" : "+r"(left)::"cc");
        NVIC_ISPR(0) = 1u << 20;
        __asm__ volatile("dsb\n isb" ::: "memory");
        while (order < 0x10) {
        }
        seen[order == 0x12 ? 1 : order == 0x21 ? 2 : 0]++;
    }
    result(seen[0]);
    result(seen[1] > 5 && seen[2] > 5);
}

int main(void) {
    for (uint32_t timer = 0; timer < 3; timer++) {
        uint32_t base = timer == 0 ? TIMER0 : timer == 1 ? TIMER1 : TIMER3;
        TIMER(base, TIMER_BITMODE) = 3;
        TIMER(base, TIMER_PRESCALER) = 4;  // 1 MHz
    }
    TIMER(TIMER0, TIMER_START) = 1;
    TIMER(TIMER1, TIMER_INTENSET) = 1u << 16;
    nvic_enable(TIMER1_IRQ, 2);
    waits_for_events();
    TIMER(TIMER3, TIMER_CC0) = 1000;
    TIMER(TIMER3, TIMER_INTENSET) = 1u << 16;
    nvic_enable(TIMER3_IRQ, 3);
    TIMER(TIMER3, TIMER_START) = 1;
    sleeps_on_exit();
    TIMER(TIMER3, TIMER_STOP) = 1;
    late_arrivals();
    finish();
}
