// The flash controller: who may write and erase, what is left of a word written twice, how long it takes, and who
// waits.
#include "nrf52840.h"
#include "results.h"

#define NVMC(offset) REG(0x4001E000u + (offset))
#define READY NVMC(0x400)
#define CONFIG NVMC(0x504)
#define ERASEPAGE NVMC(0x508)
#define ERASEUICR NVMC(0x514)
#define PARTIAL NVMC(0x518)
#define PARTIALCFG NVMC(0x51C)
#define PAGE 0xFE000u
#define CUSTOMER 0x10001080u
#define CFSR REG(0xE000ED28)
#define BFAR REG(0xE000ED38)

static volatile uint32_t *const page = (volatile uint32_t *)PAGE;

__attribute__((used)) static void fault_body(uint32_t *frame) {
    result(CFSR);
    result(BFAR);
    frame[6] += *(uint16_t *)frame[6] >= 0xE800 ? 4 : 2;
    CFSR = 0xFFFFFFFF;
}

__attribute__((naked)) void HardFault_Handler(void) {
    __asm__ volatile("mov r0, sp\n push {r4, lr}\n bl fault_body\n pop {r4, pc}\n");
}

static uint32_t micros(void) {
    TIMER(TIMER0, TIMER_CAPTURE0) = 1;
    return TIMER(TIMER0, TIMER_CC0);
}

static void store(uint32_t address, uint32_t value) {
    __asm__ volatile("str %1, [%0]" ::"r"(address), "r"(value) : "memory");
}

__attribute__((section(".ramfunc"), noinline)) static uint32_t
waits_in_ram(uint32_t value) {  // the core goes on; READY tells
    uint32_t turns = 0;
    page[64] = value;
    while (!READY) turns++;
    return turns;
}

static void refused(void) {
    store(PAGE, 0);  // read only
    CONFIG = 2;
    store(PAGE, 0);  // erasing
    CONFIG = 1;
    __asm__ volatile("strb %1, [%0]" ::"r"(PAGE), "r"(0) : "memory");
    __asm__ volatile("strh %1, [%0]" ::"r"(PAGE), "r"(0) : "memory");
    __asm__ volatile("str %1, [%0]" ::"r"(PAGE + 2), "r"(0) : "memory");
    ERASEPAGE = PAGE;      // not while writing
    store(0x10000100, 0);  // factory information
    result(page[0]);
}

static void written(void) {
    uint32_t begin = micros();
    store(PAGE, 0xFFFF00F0);
    uint32_t read = page[0];
    result((micros() - begin) / 16);
    result(read);
    store(PAGE, 0x0F0FFFFF);
    result(page[0]);
    begin = micros();
    __asm__ volatile("mov r0, %0\n movs r1, #1\n movs r2, #2\n movs r3, #3\n stmia r0!, {r1, r2, r3}\n strd r1, r2, "
                     "[r0], #8\n str r3, [r0, #4]!\n"
                     "movs r1, #0\n cmp r1, #1\n ite eq\n streq r1, [r0, #4]\n strne r1, [r0, #8]\n" ::"r"(PAGE + 16)
                     : "r0", "r1", "r2", "r3", "cc", "memory");
    result((micros() - begin) / 16);
    for (int i = 4; i < 14; i++) result(page[i]);
    result(waits_in_ram(0x12345678) > 20);
    result(page[64]);
}

static void erased(void) {
    CONFIG = 2;
    uint32_t begin = micros();
    ERASEPAGE = PAGE;
    result((micros() - begin) / 16000);
    result(READY);
    result(page[0] & page[64]);
    CONFIG = 1;
    store(PAGE, 7);
    CONFIG = 2;
    PARTIALCFG = 17;
    begin = micros();
    for (int i = 0; i < 4; i++) PARTIAL = PAGE;
    result(page[0]);  // 68 ms were not enough
    PARTIAL = PAGE;
    result(page[0]);
    result((micros() - begin) / 16000);
}

static void user_information(void) {
    CONFIG = 1;
    store(CUSTOMER, 0xFFFF1234);
    store(CUSTOMER, 0xABCDFFFF);
    result(REG(CUSTOMER));
    result(REG(0x10001200));
    CONFIG = 2;
    ERASEUICR = 1;
    result(REG(CUSTOMER) & REG(0x10001200));
    CONFIG = 0;
}

int main(void) {
    TIMER(TIMER0, TIMER_BITMODE) = 3;
    TIMER(TIMER0, TIMER_PRESCALER) = 0;
    TIMER(TIMER0, TIMER_START) = 1;
    refused();
    written();
    erased();
    user_information();
    finish();
}
