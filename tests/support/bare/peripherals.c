// The nRF52840's own parts: clock, timers, counters, interconnect, cycle counter, instruction cache, flash. Numbers in,
// numbers out.
#include "nrf52840.h"
#include "results.h"

#define RTC1 0x40011000u
#define RNG 0x4000D000u

static volatile uint32_t timer_interrupts, rtc_interrupts;

void TIMER1_IRQHandler(void) {
    TIMER(TIMER1, TIMER_COMPARE0) = 0;
    (void)TIMER(TIMER1, TIMER_COMPARE0);
    timer_interrupts++;
}

void RTC1_IRQHandler(void) {
    REG(RTC1 + 0x140) = 0;
    REG(RTC1 + 0x540) += 328;  // CC[0]: the next hundredth of a second, nearly
    rtc_interrupts++;
}

__attribute__((section(".ramfunc"), noinline)) uint32_t loop_in_ram(uint32_t n) {
    while (n--) __asm__ volatile("");
    return DWT_CYCCNT;
}

__attribute__((noinline, aligned(16))) static uint32_t thousand_loops(void) {
    uint32_t begin, end;
    __asm__ volatile("ldr r1, =0xE0001004\n"
                     "mov r0, #1000\n"
                     "ldr %0, [r1]\n"
                     "1: subs r0, #1\n"
                     "bne 1b\n"
                     "ldr %1, [r1]\n"
                     : "=&r"(begin), "=&r"(end)::"r0", "r1", "cc");
    return end - begin;
}

static void timers(void) {
    TIMER(TIMER1, TIMER_BITMODE) = 3;
    TIMER(TIMER1, TIMER_PRESCALER) = 4;  // 1 MHz
    TIMER(TIMER1, TIMER_CC0) = 500;
    TIMER(TIMER1, TIMER_SHORTS) = 1;
    TIMER(TIMER1, TIMER_INTENSET) = 1u << 16;
    nvic_enable(TIMER1_IRQ, 3);
    TIMER(TIMER0, TIMER_BITMODE) = 3;
    TIMER(TIMER0, TIMER_PRESCALER) = 0;  // 16 MHz
    TIMER(TIMER0, TIMER_CLEAR) = 1;
    TIMER(TIMER0, TIMER_START) = 1;
    TIMER(TIMER1, TIMER_START) = 1;
    while (timer_interrupts < 10) __asm__ volatile("wfi");
    TIMER(TIMER0, TIMER_CAPTURE0) = 1;
    TIMER(TIMER1, TIMER_STOP) = 1;
    result(TIMER(TIMER0, TIMER_CC0));  // 10 * 500 us at 16 MHz: 80,000 and the way out of the last interrupt
}

static void counter(void) {
    CLOCK_LFCLKSRC = 0;
    CLOCK_LFCLKSTARTED = 0;
    CLOCK_LFCLKSTART = 1;
    while (!CLOCK_LFCLKSTARTED) {
    }
    REG(RTC1 + 0x540) = 328;
    REG(RTC1 + 0x304) = 1u << 16;
    nvic_enable(17, 3);
    TIMER(TIMER0, TIMER_CLEAR) = 1;
    REG(RTC1 + 0x000) = 1;
    while (rtc_interrupts < 5) __asm__ volatile("wfi");
    TIMER(TIMER0, TIMER_CAPTURE0) = 1;
    result(TIMER(TIMER0, TIMER_CC0));  // 5 * 328 / 32768 s at 16 MHz: 800,781
    result(REG(RTC1 + 0x504));         // 1640
    REG(RTC1 + 0x004) = 1;
}

static void interconnect(void) {  // TIMER1's compare counts in TIMER3 through PPI, nobody interrupted
    TIMER(TIMER1, TIMER_CLEAR) = 1;
    REG(TIMER1 + 0x308) = 1u << 16;
    TIMER(TIMER1, TIMER_CC0) = 10;
    TIMER(TIMER3, TIMER_MODE) = 1;
    TIMER(TIMER3, TIMER_START) = 1;
    PPI_CH_EEP(3) = TIMER1 + TIMER_COMPARE0;
    PPI_CH_TEP(3) = TIMER3 + TIMER_COUNT;
    PPI_CHENSET = 1u << 3;
    TIMER(TIMER1, TIMER_START) = 1;
    TIMER(TIMER0, TIMER_CLEAR) = 1;
    do TIMER(TIMER0, TIMER_CAPTURE0) = 1;
    while (TIMER(TIMER0, TIMER_CC0) < 16 * 1005);
    TIMER(TIMER3, TIMER_CAPTURE0) = 1;
    result(TIMER(TIMER3, TIMER_CC0));  // 1005 us, one count each 10 us: 100
    REG(0x4001F508) = 1u << 3;
}

static void cycles(void) {
    DEMCR |= 1u << 24;
    DWT_CYCCNT = 0;
    DWT_CTRL |= 1;
    thousand_loops();  // the first pass tells the emulator where time is read
    result(thousand_loops());
    NVMC_ICACHECNF = 1 | 1 << 8;  // with counters of hits and misses
    result(thousand_loops());
    result(REG(0x4001E548));  // IHIT
    result(REG(0x4001E54C));  // IMISS
    REG(0x4001E548) = 0;
    result(REG(0x4001E548));
    uint32_t before = loop_in_ram(0);
    before = loop_in_ram(0);
    result(loop_in_ram(1000) - before);
    uint32_t awake = DWT_CYCCNT;
    TIMER(TIMER0, TIMER_CLEAR) = 1;
    TIMER(TIMER1, TIMER_CLEAR) = 1;
    TIMER(TIMER1, TIMER_CC0) = 1000;
    TIMER(TIMER1, TIMER_COMPARE0) = 0;
    TIMER(TIMER1, TIMER_INTENSET) = 1u << 16;
    timer_interrupts = 0;
    while (timer_interrupts < 4) __asm__ volatile("wfi");
    TIMER(TIMER0, TIMER_CAPTURE0) = 1;
    result(TIMER(TIMER0, TIMER_CC0) / 64);  // 4 ms have passed, 1000 * 64 / 16 each
    result(DWT_CYCCNT - awake);             // but the core slept nearly all of it
}

static void random_numbers(void) {
    REG(RNG + 0x000) = 1;
    uint32_t sum = 0;
    for (int i = 0; i < 16; i++) {
        REG(RNG + 0x100) = 0;
        while (!REG(RNG + 0x100)) {
        }
        sum |= REG(RNG + 0x508);
    }
    REG(RNG + 0x004) = 1;
    result(sum);
}

static void flash(void) {
    volatile uint32_t *page = (volatile uint32_t *)0xFF000;
    REG(0x4001E504) = 2;
    REG(0x4001E508) = 0xFF000;
    REG(0x4001E504) = 1;
    page[0] = 0x600DF1A5;
    REG(0x4001E504) = 0;
    while (!REG(0x4001E400)) {
    }
    result(page[0]);
    result(page[1]);
    result(REG(0x10000100));  // FICR: the part
    result(REG(0x10001200));  // UICR: the reset pin
}

int main(void) {
    timers();
    counter();
    interconnect();
    cycles();
    random_numbers();
    flash();
    REG(0x40007500) = 1;  // a converter nobody models
    REG(0x40007500) = 0;
    finish();
}
