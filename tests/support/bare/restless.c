// For each RESTLESS a way to keep the chip's parts busy without an end.
#include "nrf52840.h"

#define AT(address) REG(0x40000000u + (address))
#define EVENT(address) (0x40000000u + (address))
#define VTOR REG(0xE000ED08)

__attribute__((used)) static uint32_t ram_vectors[64] __attribute__((aligned(256)));
__attribute__((used)) static uint32_t buffer[16];
volatile uint32_t sink;

__attribute__((used)) static void route(uint32_t channel, uint32_t event, uint32_t task, uint32_t other) {
    PPI_CH_EEP(channel) = EVENT(event);
    PPI_CH_TEP(channel) = EVENT(task);
    REG(0x4001F910 + 4 * channel) = other ? EVENT(other) : 0;
    PPI_CHENSET = 1u << channel;
}

__attribute__((used)) static void uart(uint32_t bytes) {
    UARTE(UARTE0, UARTE_ENABLE) = 8;
    UARTE(UARTE0, UARTE_PSEL_TXD) = 35;
    UARTE(UARTE0, UARTE_TXD_PTR) = UARTE(UARTE0, UARTE_RXD_PTR) = (uint32_t)buffer;
    UARTE(UARTE0, UARTE_TXD_MAXCNT) = UARTE(UARTE0, UARTE_RXD_MAXCNT) = bytes;
}

__attribute__((used)) static void pend_all(void) {
    for (uint32_t i = 0; i < 2; i++) NVIC_ISPR(i) = 0xFFFFFFFF;
}

int main(void) {
#if RESTLESS == 1  // a transfer of no bytes that starts itself
    uart(0);
    route(0, 0x2120, 0x2008, 0);
    UARTE(UARTE0, UARTE_STARTTX) = 1;
#elif RESTLESS == 2   // its start starts it
    uart(0);
    route(0, 0x2150, 0x2008, 0);
    UARTE(UARTE0, UARTE_STARTTX) = 1;
#elif RESTLESS == 3   // a pin's change changes it
    AT(0x6510) = 3 | 5 << 8 | 3 << 16;
    AT(0x6514) = 1 | 5 << 8 | 3 << 16;
    route(0, 0x6104, 0x6000, 0);
    AT(0x6000) = 1;
#elif RESTLESS == 4   // each measurement starts forty
    for (uint32_t channel = 0; channel < 20; channel++) route(channel, 0xC100, 0xC000, 0xC000);
    AT(0xC000) = 1;
#elif RESTLESS == 5   // each end of a transfer starts eight, of the fastest kind
    uart(0);
    UARTE(UARTE0, UARTE_BAUDRATE) = 0xFFFFFFFF;
    for (uint32_t channel = 0; channel < 4; channel++) route(channel, 0x2120, 0x2008, 0x2008);
    UARTE(UARTE0, UARTE_STARTTX) = 1;
#elif RESTLESS == 6   // a microphone's buffer that is full stops and starts it
    AT(0x1D500) = 1;
    AT(0x1D560) = (uint32_t)buffer;
    AT(0x1D564) = 1;
    for (uint32_t channel = 0; channel < 20; channel++) route(channel, 0x1D108, 0x1D004, 0x1D000);
    AT(0x1D000) = 1;
#elif RESTLESS == 7   // every interrupt, again and again
    for (uint32_t i = 0; i < 64; i++) ram_vectors[i] = (uint32_t)pend_all | 1;
    VTOR = (uint32_t)ram_vectors;
    for (uint32_t i = 0; i < 2; i++) NVIC_ISER(i) = 0xFFFFFFFF;
    pend_all();
#elif RESTLESS == 8   // every register is read, and every second one is written what it held
    for (uint32_t at = 0; at < 0x40000; at += 4) {
        sink = AT(at);
        if (at & 4 && (at >> 12) != 0x1F && (at & 0xF00) > 0x500) AT(at) = sink;
    }
#elif RESTLESS == 9   // every clock as often as it goes, all its events to all its tasks
    for (uint32_t timer = 0; timer < 3; timer++) {
        uint32_t base = 0x8000 + (timer << 12);
        AT(base + 0x510) = 0;
        for (uint32_t i = 0; i < 6; i++) AT(base + 0x540 + 4 * i) = i + 1;
        AT(base + 0x200) = 0x3F;
        for (uint32_t i = 0; i < 6; i++) route(6 * timer + i, base + 0x140 + 4 * i, base + 0x00C, base);
        AT(base) = 1;
    }
#elif RESTLESS == 10  // code where the board would never look
    ((void (*)(void))0xF0F0F0F1)();
#elif RESTLESS == 11  // transfers without waiting for their ends
    uart(1000);
    for (;;) UARTE(UARTE0, UARTE_STARTTX) = 1;
#elif RESTLESS == 12  // a receiver for no bytes that starts itself
    uart(0);
    UARTE(UARTE0, UARTE_SHORTS) = 1 << 5;
    UARTE(UARTE0, UARTE_STARTRX) = 1;
#elif RESTLESS == 13  // a sleep of a day
    AT(0xB508) = 0xFFF;
    AT(0xB540) = 0xFFFFFF;
    AT(0xB304) = 1 << 16;
    AT(0xB000) = 1;
    NVIC_ISER(0) = 1 << 11;
    for (;;) __asm__ volatile("wfi");
#endif
    for (;;) sink++;
}
