// Reset and vector table of the bare-metal nRF52840: FPU on, .data copied, .bss cleared, stack painted, constructors,
// main.
#include <stdint.h>

#include "startup.h"

extern uint32_t ramcode_start[], ramcode_end[], ramcode_image[];
extern uint32_t stack_bottom[], stack_top[], data_start[], data_end[], data_image[], bss_start[], bss_end[];
extern void (*const init_array_start[])(void);
extern void (*const init_array_end[])(void);
extern int main(void);

void bare_unhandled(void) {
    __asm__ volatile("bkpt 1");  // a debugger stops here; without one this is a HardFault, and the core locks up
    for (;;) {
    }
}

#define HANDLER(name) __attribute__((weak, alias("bare_unhandled"))) void name(void)
HANDLER(NMI_Handler);
HANDLER(HardFault_Handler);
HANDLER(MemManage_Handler);
HANDLER(BusFault_Handler);
HANDLER(UsageFault_Handler);
HANDLER(SVC_Handler);
HANDLER(DebugMon_Handler);
HANDLER(PendSV_Handler);
HANDLER(SysTick_Handler);
HANDLER(POWER_CLOCK_IRQHandler);
HANDLER(UARTE0_UART0_IRQHandler);
HANDLER(GPIOTE_IRQHandler);
HANDLER(TIMER0_IRQHandler);
HANDLER(TIMER1_IRQHandler);
HANDLER(TIMER2_IRQHandler);
HANDLER(RTC0_IRQHandler);
HANDLER(RNG_IRQHandler);
HANDLER(WDT_IRQHandler);
HANDLER(RTC1_IRQHandler);
HANDLER(SWI0_EGU0_IRQHandler);
HANDLER(SWI1_EGU1_IRQHandler);
HANDLER(TIMER3_IRQHandler);
HANDLER(TIMER4_IRQHandler);
HANDLER(PDM_IRQHandler);
HANDLER(RTC2_IRQHandler);
HANDLER(UARTE1_IRQHandler);

typedef void (*vector)(void);

__attribute__((section(".vectors"), used)) static const vector vectors[16 + 48] = {
    (vector)stack_top,
    bare_reset,
    NMI_Handler,
    HardFault_Handler,
    MemManage_Handler,
    BusFault_Handler,
    UsageFault_Handler,
    [11] = SVC_Handler,
    [12] = DebugMon_Handler,
    [14] = PendSV_Handler,
    [15] = SysTick_Handler,
    [16 + 0] = POWER_CLOCK_IRQHandler,
    [16 + 1] = bare_unhandled,
    [16 + 2] = UARTE0_UART0_IRQHandler,
    [16 + 3] = bare_unhandled,
    [16 + 4] = bare_unhandled,
    [16 + 5] = bare_unhandled,
    [16 + 6] = GPIOTE_IRQHandler,
    [16 + 7] = bare_unhandled,
    [16 + 8] = TIMER0_IRQHandler,
    [16 + 9] = TIMER1_IRQHandler,
    [16 + 10] = TIMER2_IRQHandler,
    [16 + 11] = RTC0_IRQHandler,
    [16 + 12] = bare_unhandled,
    [16 + 13] = RNG_IRQHandler,
    [16 + 14] = bare_unhandled,
    [16 + 15] = bare_unhandled,
    [16 + 16] = WDT_IRQHandler,
    [16 + 17] = RTC1_IRQHandler,
    [16 + 18] = bare_unhandled,
    [16 + 19] = bare_unhandled,
    [16 + 20] = SWI0_EGU0_IRQHandler,
    [16 + 21] = SWI1_EGU1_IRQHandler,
    [16 + 22] = bare_unhandled,
    [16 + 23] = bare_unhandled,
    [16 + 24] = bare_unhandled,
    [16 + 25] = bare_unhandled,
    [16 + 26] = TIMER3_IRQHandler,
    [16 + 27] = TIMER4_IRQHandler,
    [16 + 28] = bare_unhandled,
    [16 + 29] = PDM_IRQHandler,
    [16 + 30] = bare_unhandled,
    [16 + 31] = bare_unhandled,
    [16 + 32] = bare_unhandled,
    [16 + 33] = bare_unhandled,
    [16 + 34] = bare_unhandled,
    [16 + 35] = bare_unhandled,
    [16 + 36] = RTC2_IRQHandler,
    [16 + 37] = bare_unhandled,
    [16 + 38] = bare_unhandled,
    [16 + 39] = bare_unhandled,
    [16 + 40] = UARTE1_IRQHandler,
    [16 + 41] = bare_unhandled,
    [16 + 42] = bare_unhandled,
    [16 + 43] = bare_unhandled,
    [16 + 44] = bare_unhandled,
    [16 + 45] = bare_unhandled,
    [16 + 46] = bare_unhandled,
    [16 + 47] = bare_unhandled,
};

// Uses no stack of its own: the paint covers everything below the stack pointer.
__attribute__((naked, used)) void bare_reset(void) {
    __asm__ volatile("ldr r0, =0xE000ED88\n"  // CPACR: the FPU for everybody
                     "ldr r1, [r0]\n"
                     "orr r1, r1, #0xF00000\n"
                     "str r1, [r0]\n"
                     "dsb\n"
                     "isb\n"
                     "ldr r0, =stack_bottom\n"
                     "ldr r2, =0x5AFE57AC\n"  // STACK_PAINT
                     "mov r3, sp\n"
                     "1: cmp r0, r3\n"
                     "it lo\n"
                     "strlo r2, [r0], #4\n"
                     "blo 1b\n"
                     "b bare_main\n"
                     ".ltorg\n");
}

__attribute__((used)) void bare_main(void) {
    const uint32_t *from = ramcode_image;
    for (volatile uint32_t *to = ramcode_start; to < ramcode_end;) *to++ = *from++;
    from = data_image;
    for (volatile uint32_t *to = data_start; to < data_end;) *to++ = *from++;
    __asm__ volatile("dsb\n isb" ::: "memory");  // what was stored may be fetched from now on
    for (volatile uint32_t *to = bss_start; to < bss_end;) *to++ = 0;
    for (void (*const *start)(void) = init_array_start; start < init_array_end; start++) (*start)();
    main();
    for (;;) __asm__ volatile("wfi");
}

uint32_t bare_stack_high_water(void) {
    const volatile uint32_t *word = stack_bottom;
    while (word < stack_top && *word == STACK_PAINT) word++;
    return (uint32_t)((const volatile uint8_t *)stack_top - (const volatile uint8_t *)word);
}
