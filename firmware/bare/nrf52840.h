// The registers that the board layer and the test programs use; names and offsets: nRF52840 Product Specification.
#ifndef NRF52840_H
#define NRF52840_H

#include <stdint.h>

#define REG(address) (*(volatile uint32_t *)(address))

#define CLOCK_HFCLKSTART REG(0x40000000)
#define CLOCK_HFCLKSTARTED REG(0x40000100)
#define CLOCK_LFCLKSTART REG(0x40000008)
#define CLOCK_LFCLKSTARTED REG(0x40000104)
#define CLOCK_LFCLKSRC REG(0x40000518)

#define NVMC_ICACHECNF REG(0x4001E540)
#define NVMC_IHIT REG(0x4001E548)
#define NVMC_IMISS REG(0x4001E54C)

#define UARTE(base, offset) REG((base) + (offset))
#define UARTE0 0x40002000u
#define UARTE_STARTRX 0x000
#define UARTE_STOPRX 0x004
#define UARTE_STARTTX 0x008
#define UARTE_ENDRX 0x110
#define UARTE_RXDRDY 0x108
#define UARTE_ENDTX 0x120
#define UARTE_ERROR 0x124
#define UARTE_RXSTARTED 0x14C
#define UARTE_SHORTS 0x200
#define UARTE_INTENSET 0x304
#define UARTE_INTENCLR 0x308
#define UARTE_ERRORSRC 0x480
#define UARTE_ENABLE 0x500
#define UARTE_PSEL_RTS 0x508
#define UARTE_PSEL_TXD 0x50C
#define UARTE_PSEL_CTS 0x510
#define UARTE_PSEL_RXD 0x514
#define UARTE_BAUDRATE 0x524
#define UARTE_RXD_PTR 0x534
#define UARTE_RXD_MAXCNT 0x538
#define UARTE_TXD_PTR 0x544
#define UARTE_TXD_MAXCNT 0x548
#define UARTE_CONFIG 0x56C

#define TIMER(n, offset) REG((n) + (offset))
#define TIMER0 0x40008000u
#define TIMER1 0x40009000u
#define TIMER3 0x4001A000u
#define TIMER4 0x4001B000u
#define TIMER_START 0x000
#define TIMER_STOP 0x004
#define TIMER_COUNT 0x008
#define TIMER_CLEAR 0x00C
#define TIMER_CAPTURE0 0x040
#define TIMER_COMPARE0 0x140
#define TIMER_SHORTS 0x200
#define TIMER_INTENSET 0x304
#define TIMER_MODE 0x504
#define TIMER_BITMODE 0x508
#define TIMER_PRESCALER 0x510
#define TIMER_CC0 0x540

#define PPI_CHENSET REG(0x4001F504)
#define PPI_CH_EEP(n) REG(0x4001F510 + 8 * (n))
#define PPI_CH_TEP(n) REG(0x4001F514 + 8 * (n))

#define PDM(offset) REG(0x4001D000u + (offset))
#define PDM_START 0x000
#define PDM_STOP 0x004
#define PDM_STARTED 0x100
#define PDM_STOPPED 0x104
#define PDM_END 0x108
#define PDM_INTENSET 0x304
#define PDM_INTENCLR 0x308
#define PDM_ENABLE 0x500
#define PDM_CLKCTRL 0x504
#define PDM_MODE 0x508
#define PDM_GAINL 0x518
#define PDM_GAINR 0x51C
#define PDM_RATIO 0x520
#define PDM_PSEL_CLK 0x540
#define PDM_PSEL_DIN 0x544
#define PDM_SAMPLE_PTR 0x560
#define PDM_SAMPLE_MAXCNT 0x564

#define P0_OUTSET REG(0x50000508)
#define P0_OUTCLR REG(0x5000050C)
#define P0_DIRSET REG(0x50000518)
#define P0_PIN_CNF(pin) REG(0x50000700 + 4 * (pin))
#define P1_OUTSET REG(0x50000808)
#define P1_DIRSET REG(0x50000818)
#define P1_PIN_CNF(pin) REG(0x50000A00 + 4 * (pin))

#define NVIC_ISER(n) REG(0xE000E100 + 4 * (n))
#define NVIC_ICER(n) REG(0xE000E180 + 4 * (n))
#define NVIC_ISPR(n) REG(0xE000E200 + 4 * (n))
#define NVIC_IPR(irq) (*(volatile uint8_t *)(0xE000E400 + (irq)))
#define SCB_ICSR REG(0xE000ED04)
#define SCB_AIRCR REG(0xE000ED0C)
#define SCB_SHPR(exception) (*(volatile uint8_t *)(0xE000ED18 + (exception) - 4))
#define SYST_CSR REG(0xE000E010)
#define SYST_RVR REG(0xE000E014)
#define SYST_CVR REG(0xE000E018)
#define DEMCR REG(0xE000EDFC)
#define DWT_CTRL REG(0xE0001000)
#define DWT_CYCCNT REG(0xE0001004)

#define UARTE0_IRQ 2
#define TIMER1_IRQ 9
#define TIMER3_IRQ 26
#define PDM_IRQ 29

static inline void nvic_enable(uint32_t irq, uint8_t priority) {  // priority 0 (first) to 7
    NVIC_IPR(irq) = (uint8_t)(priority << 5);
    NVIC_ISER(irq / 32) = 1u << irq % 32;
}

static inline uint32_t interrupts_off(void) {
    uint32_t masked;
    __asm__ volatile("mrs %0, primask\n cpsid i" : "=r"(masked)::"memory");
    return masked;
}

static inline void interrupts_restore(uint32_t masked) {
    if (!masked) __asm__ volatile("cpsie i" ::: "memory");
}

#endif
