// Code in RAM that is written at one of its two addresses and runs at the other, again and again.
#include "nrf52840.h"
#include "results.h"

#define CODE_REGION(address) ((uint32_t)(address) - 0x20000000u + 0x00800000u)

static volatile uint16_t code[4] __attribute__((aligned(4)));

static uint32_t run(uint32_t address) { return ((uint32_t (*)(void))(address | 1u))(); }

static void write(volatile uint16_t *at, uint32_t value) {
    at[0] = (uint16_t)(0x2000u | value);  // movs r0, #value
    at[1] = 0x4770;                       // bx lr
    __asm__ volatile("dsb\n isb" ::: "memory");
}

int main(void) {
    const uint32_t data = (uint32_t)code;
    for (uint32_t value = 1; value < 4; value++) {
        write(code, value);
        result(run(CODE_REGION(data)));
        write((volatile uint16_t *)CODE_REGION(data), 100 + value);
        result(run(data));
        result(run(CODE_REGION(data)));
    }
    finish();
}
