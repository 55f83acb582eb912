// Resets and why they came, the watchdog, wired and settable PPI channels with forks, GPIOTE on both sides, the
// thermometer.
#include "nrf52840.h"
#include "results.h"

#define POWER(offset) REG(0x40000000u + (offset))
#define RESETREAS POWER(0x400)
#define GPREGRET POWER(0x51C)
#define GPREGRET2 POWER(0x520)
#define WDT(offset) REG(0x40010000u + (offset))
#define RTC0(offset) REG(0x4000B000u + (offset))
#define GPIOTE(offset) REG(0x40006000u + (offset))
#define TEMP(offset) REG(0x4000C000u + (offset))
#define RELOAD 0x6E524635u

static volatile uint32_t pin_events, watchdog_warnings;

void GPIOTE_IRQHandler(void) {
    GPIOTE(0x104) = 0;
    pin_events++;
}

void WDT_IRQHandler(void) {
    WDT(0x100) = 0;
    GPREGRET2 |= 0x80;
}

static void wait_us(uint32_t us) {  // on TIMER1
    TIMER(TIMER1, TIMER_BITMODE) = 3;
    TIMER(TIMER1, TIMER_PRESCALER) = 4;
    TIMER(TIMER1, TIMER_CLEAR) = 1;
    TIMER(TIMER1, TIMER_START) = 1;
    do TIMER(TIMER1, TIMER_CAPTURE0) = 1;
    while (TIMER(TIMER1, TIMER_CC0) < us);
}

static void starve(void) {
    WDT(0x504) = 327;  // 10 ms
    WDT(0x508) = 3;    // two registers to serve
    WDT(0x304) = 1;
    nvic_enable(16, 0);
    WDT(0x000) = 1;
    for (int i = 0; i < 5; i++) {  // fed: lives for 40 ms
        wait_us(8000);
        WDT(0x600) = RELOAD;
        WDT(0x604) = RELOAD;
    }
    WDT(0x504) = 0xFFFFFF;  // locked
    GPREGRET = 3;
    for (;;) {
        wait_us(8000);
        WDT(0x600) = RELOAD;  // the other one starves
    }
}

static void wired(void) {  // channel 30: RTC0 compare 0 clears TIMER0; its fork counts in TIMER3
    POWER(0x518) = 0;
    POWER(0x008) = 1;
    while (!POWER(0x104)) {
    }
    TIMER(TIMER0, TIMER_BITMODE) = 3;
    TIMER(TIMER0, TIMER_PRESCALER) = 4;
    TIMER(TIMER0, TIMER_START) = 1;
    TIMER(TIMER3, TIMER_MODE) = 1;
    TIMER(TIMER3, TIMER_BITMODE) = 3;
    TIMER(TIMER3, TIMER_START) = 1;
    REG(0x4001F910 + 4 * 30) = TIMER3 + TIMER_COUNT;
    PPI_CHENSET = 1u << 30;
    RTC0(0x540) = 33;  // 1007 us
    RTC0(0x344) = 1u << 16;
    RTC0(0x000) = 1;
    wait_us(1500);
    TIMER(TIMER0, TIMER_CAPTURE0) = 1;
    TIMER(TIMER3, TIMER_CAPTURE0) = 1;
    result(TIMER(TIMER0, TIMER_CC0));
    result(TIMER(TIMER3, TIMER_CC0));
}

static void pins(void) {  // TIMER4's compare toggles P0.13 through GPIOTE 0; GPIOTE 1 hears its rising edges
    GPIOTE(0x510) = 3 | 13 << 8 | 3u << 16;
    GPIOTE(0x514) = 1 | 13 << 8 | 1u << 16;
    GPIOTE(0x304) = 2;
    nvic_enable(6, 2);
    PPI_CH_EEP(19) = TIMER4 + TIMER_COMPARE0;
    PPI_CH_TEP(19) = 0x40006000u;
    PPI_CHENSET = 1u << 19;
    TIMER(TIMER4, TIMER_BITMODE) = 3;
    TIMER(TIMER4, TIMER_PRESCALER) = 4;
    TIMER(TIMER4, TIMER_CC0) = 100;
    TIMER(TIMER4, TIMER_SHORTS) = 1;
    TIMER(TIMER4, TIMER_START) = 1;
    wait_us(1050);
    TIMER(TIMER4, TIMER_STOP) = 1;
    result(pin_events);                 // ten toggles, five of them up
    result(REG(0x50000504) >> 13 & 1);  // down again
    GPIOTE(0x030) = 1;                  // SET
    result(REG(0x50000504) >> 13 & 1);
    GPIOTE(0x060) = 1;  // CLR
    result(REG(0x50000504) >> 13 & 1);
    TIMER(TIMER4, TIMER_SHORTS) = 1u << 8;  // compare stops
    TIMER(TIMER4, TIMER_CLEAR) = 1;
    TIMER(TIMER4, TIMER_START) = 1;
    wait_us(300);
    TIMER(TIMER4, TIMER_CAPTURE0 + 4) = 1;
    result(TIMER(TIMER4, TIMER_CC0 + 4));
}

int main(void) {
    if (GPREGRET == 0) {
        GPREGRET = 1;
        GPREGRET2 = RESETREAS << 4 & 0x70;  // nothing at power-up
        SCB_AIRCR = 0x05FA0004;
        for (;;) {
        }
    }
    if (GPREGRET == 1) {
        GPREGRET2 |= RESETREAS;  // 4: by the program
        RESETREAS = 4;
        GPREGRET2 |= RESETREAS << 5;  // cleared
        starve();
    }
    result(GPREGRET);
    result(GPREGRET2);
    result(RESETREAS);  // 2: by the watchdog
    wired();
    pins();
    TEMP(0x000) = 1;
    while (!TEMP(0x100)) {
    }
    result(TEMP(0x508));
    finish();
}
