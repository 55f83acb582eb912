#include "results.h"

volatile uint32_t results[4096], result_count, finished;

#ifdef UNDER_QEMU
static void semihosting(uint32_t operation, const void *argument) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void finish(void) {
    for (uint32_t i = 0; i < result_count; i++) {
        char line[10];
        for (int digit = 0; digit < 8; digit++) line[digit] = "0123456789abcdef"[results[i] >> (28 - 4 * digit) & 15];
        line[8] = '\n';
        line[9] = 0;
        semihosting(4, line);  // SYS_WRITE0
    }
    semihosting(0x18, (void *)0x20026);  // SYS_EXIT, ADP_Stopped_ApplicationExit
    for (;;) {
    }
}
#else
void finish(void) {
    finished = 1;
    for (;;) __asm__ volatile("wfi");
}
#endif
