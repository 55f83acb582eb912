// The board without an operating system: nRF52840 registers only. Pins are those of the Arduino Nano 33 BLE Sense.
#include "board.h"

#include <string.h>

#include "nrf52840.h"
#include "startup.h"

enum { RX_CHUNK = 256, RX_RING = 16 * RX_CHUNK, TX_BUFFER = 256, MIC_RING = 8192, MIC_BUFFER = 128 };
enum { PIN_TX = 32 + 3, PIN_RX = 32 + 10, PIN_PDM_CLOCK = 26, PIN_PDM_DATA = 25, PIN_MIC_POWER = 17 };
enum { PIN_RED = 24, PIN_GREEN = 16, PIN_BLUE = 6 };  // active low
enum { PIN_OUTPUT = 1 | 1 << 1, PIN_PULL_DOWN = 1 << 2, PIN_PULL_UP = 3 << 2 };

extern uint8_t image_start[], image_end[], ramcode_start[], data_end[];

static volatile uint32_t milliseconds;

// The receiver fills rx_ring chunk by chunk on its own; TIMER4 counts its bytes (PPI channel 0), so no interrupt is
// needed per byte.
static uint8_t rx_ring[RX_RING];
static volatile uint32_t rx_chunk;    // the chunk after the one being filled
static uint32_t rx_known, rx_taken;   // bytes counted when last asked, bytes read
static uint8_t tx_buffer[TX_BUFFER];  // EasyDMA reads RAM only
static volatile uint32_t tx_busy;

static int16_t mic_buffer[2][MIC_BUFFER];
static volatile uint32_t mic_next;  // the buffer to hand to the DMA next
static int16_t mic_ring[MIC_RING];
static volatile uint32_t mic_written, mic_taken, mic_lost;

static void clock_start(void) {
    CLOCK_HFCLKSTARTED = 0;
    CLOCK_HFCLKSTART = 1;  // the crystal: the internal oscillator is too inexact for serial and audio
    while (!CLOCK_HFCLKSTARTED) {
    }
    board_instruction_cache(1);
    DEMCR |= 1u << 24;
    DWT_CYCCNT = 0;
    DWT_CTRL |= 1;
}

static void millis_start(void) {
    TIMER(TIMER3, TIMER_MODE) = 0;
    TIMER(TIMER3, TIMER_BITMODE) = 3;
    TIMER(TIMER3, TIMER_PRESCALER) = 4;  // 1 MHz
    TIMER(TIMER3, TIMER_CC0) = 1000;
    TIMER(TIMER3, TIMER_SHORTS) = 1;  // COMPARE0 clears
    TIMER(TIMER3, TIMER_INTENSET) = 1u << 16;
    nvic_enable(TIMER3_IRQ, 6);
    TIMER(TIMER3, TIMER_CLEAR) = 1;
    TIMER(TIMER3, TIMER_START) = 1;
}

void TIMER3_IRQHandler(void) {
    TIMER(TIMER3, TIMER_COMPARE0) = 0;
    (void)TIMER(TIMER3, TIMER_COMPARE0);  // the write has arrived before the handler ends
    milliseconds++;
}

static void serial_start(void) {
    P1_OUTSET = 1u << 3;
    P1_DIRSET = 1u << 3;
    P1_PIN_CNF(10) = PIN_PULL_UP;
    UARTE(UARTE0, UARTE_PSEL_TXD) = PIN_TX;
    UARTE(UARTE0, UARTE_PSEL_RXD) = PIN_RX;
    UARTE(UARTE0, UARTE_PSEL_RTS) = 0xFFFFFFFF;
    UARTE(UARTE0, UARTE_PSEL_CTS) = 0xFFFFFFFF;
    UARTE(UARTE0, UARTE_CONFIG) = 0;
    UARTE(UARTE0, UARTE_BAUDRATE) = 0x01D60000;  // 115200
    UARTE(UARTE0, UARTE_ENABLE) = 8;
    UARTE(UARTE0, UARTE_SHORTS) = 1u << 5;  // ENDRX starts the next buffer at once
    TIMER(TIMER4, TIMER_MODE) = 2;          // counts
    TIMER(TIMER4, TIMER_BITMODE) = 3;
    TIMER(TIMER4, TIMER_START) = 1;
    PPI_CH_EEP(0) = UARTE0 + UARTE_RXDRDY;
    PPI_CH_TEP(0) = TIMER4 + TIMER_COUNT;
    PPI_CHENSET = 1u << 0;
    UARTE(UARTE0, UARTE_INTENSET) = 1u << 8 | 1u << 9 | 1u << 19;  // ENDTX, ERROR, RXSTARTED
    nvic_enable(UARTE0_IRQ, 2);
    UARTE(UARTE0, UARTE_RXD_PTR) = (uint32_t)(uintptr_t)rx_ring;
    UARTE(UARTE0, UARTE_RXD_MAXCNT) = RX_CHUNK;
    UARTE(UARTE0, UARTE_STARTRX) = 1;
}

void UARTE0_UART0_IRQHandler(void) {
    if (UARTE(UARTE0, UARTE_RXSTARTED)) {  // the pointer is latched: give the one after it
        UARTE(UARTE0, UARTE_RXSTARTED) = 0;
        rx_chunk = (rx_chunk + 1) % (RX_RING / RX_CHUNK);
        UARTE(UARTE0, UARTE_RXD_PTR) = (uint32_t)(uintptr_t)&rx_ring[rx_chunk * RX_CHUNK];
    }
    if (UARTE(UARTE0, UARTE_ENDTX)) {
        UARTE(UARTE0, UARTE_ENDTX) = 0;
        tx_busy = 0;
    }
    if (UARTE(UARTE0, UARTE_ERROR)) {
        UARTE(UARTE0, UARTE_ERROR) = 0;
        UARTE(UARTE0, UARTE_ERRORSRC) = UARTE(UARTE0, UARTE_ERRORSRC);
    }
    (void)UARTE(UARTE0, UARTE_ERROR);
}

void board_init(void) {
    clock_start();
    const uint32_t leds = 1u << PIN_RED | 1u << PIN_GREEN | 1u << PIN_BLUE;
    P0_OUTSET = leds;
    P0_DIRSET = leds;
    millis_start();
    serial_start();
}

const char *board_name(void) { return "nrf52840-bare"; }
uint32_t board_clock_hz(void) { return 64000000; }
uint32_t board_millis(void) { return milliseconds; }
uint32_t board_cycles(void) { return DWT_CYCCNT; }
void board_instruction_cache(int mode) {
    NVMC_ICACHECNF = mode == 2 ? 1 | 1 << 8 : (uint32_t)mode;
    NVMC_IHIT = NVMC_IMISS = 0;
}

void board_cache_counts(uint32_t *hits, uint32_t *misses) { *hits = NVMC_IHIT, *misses = NVMC_IMISS; }

int board_serial_read(void) {
    if (rx_taken == rx_known) {
        TIMER(TIMER4, TIMER_CAPTURE0) = 1;
        rx_known = TIMER(TIMER4, TIMER_CC0);
        if (rx_taken == rx_known) return -1;
        if (rx_known - rx_taken > RX_RING - RX_CHUNK)
            rx_taken = rx_known - (RX_RING - RX_CHUNK);  // read too late: the oldest are gone
    }
    return rx_ring[rx_taken++ % RX_RING];
}

static void serial_wait(
    void) {  // masked while it looks, so that the interrupt cannot slip in before the sleep; WFI wakes all the same
    uint32_t masked = interrupts_off();
    while (tx_busy) {
        board_idle();
        interrupts_restore(masked);
        masked = interrupts_off();
    }
    interrupts_restore(masked);
}

void board_serial_write(const char *bytes, uint32_t count) {
    while (count) {
        serial_wait();
        uint32_t part = count < TX_BUFFER ? count : TX_BUFFER;
        memcpy(tx_buffer, bytes, part);
        tx_busy = 1;
        UARTE(UARTE0, UARTE_TXD_PTR) = (uint32_t)(uintptr_t)tx_buffer;
        UARTE(UARTE0, UARTE_TXD_MAXCNT) = part;
        UARTE(UARTE0, UARTE_STARTTX) = 1;
        bytes += part;
        count -= part;
    }
}

void PDM_IRQHandler(void) {
    if (PDM(PDM_END)) {
        PDM(PDM_END) = 0;
        const int16_t *pcm = mic_buffer[mic_next];  // buffers take turns: the next to hand out is the one just filled
        for (uint32_t i = 0; i < MIC_BUFFER; i++) {
            if (mic_written - mic_taken < MIC_RING)
                mic_ring[mic_written++ % MIC_RING] = pcm[i];
            else
                mic_lost++;
        }
    }
    if (PDM(PDM_STARTED)) {
        PDM(PDM_STARTED) = 0;
        PDM(PDM_SAMPLE_PTR) = (uint32_t)(uintptr_t)mic_buffer[mic_next];
        mic_next ^= 1;
    }
    (void)PDM(PDM_STARTED);
}

// A data line that nobody drives is held low by the pull-down and decodes to a constant far from zero; a microphone
// never does.
static int microphone_is_missing(void) {
    const uint32_t settle = 16;
    while (mic_written < MIC_BUFFER) board_idle();
    for (uint32_t i = settle; i < MIC_BUFFER; i++)
        if (mic_ring[i] != mic_ring[settle]) return 0;
    return mic_ring[settle] != 0;
}

const char *board_mic_start(void) {
    mic_written = mic_taken = mic_lost = 0;
    P0_OUTSET = 1u << PIN_MIC_POWER;
    P0_DIRSET = 1u << PIN_MIC_POWER | 1u << PIN_PDM_CLOCK;
    P0_OUTCLR = 1u << PIN_PDM_CLOCK;
    P0_PIN_CNF(PIN_PDM_DATA) = PIN_PULL_DOWN;
    PDM(PDM_PSEL_CLK) = PIN_PDM_CLOCK;
    PDM(PDM_PSEL_DIN) = PIN_PDM_DATA;
    PDM(PDM_CLKCTRL) = 0x0A000000;  // 1.280 MHz
    PDM(PDM_RATIO) = 1;             // / 80 = 16 kHz
    PDM(PDM_MODE) = 1;              // one channel, sampled on the falling edge
    PDM(PDM_GAINL) = 0x28;          // 0 dB
    PDM(PDM_GAINR) = 0x28;
    PDM(PDM_ENABLE) = 1;
    PDM(PDM_STARTED) = PDM(PDM_END) = PDM(PDM_STOPPED) = 0;
    PDM(PDM_SAMPLE_PTR) = (uint32_t)(uintptr_t)mic_buffer[0];
    PDM(PDM_SAMPLE_MAXCNT) = MIC_BUFFER;
    mic_next = 1;
    PDM(PDM_INTENSET) = 1u << 0 | 1u << 2;
    nvic_enable(PDM_IRQ, 3);
    PDM(PDM_START) = 1;
    if (!microphone_is_missing()) return NULL;
    board_mic_stop();
    return "no microphone";
}

void board_mic_stop(void) {
    PDM(PDM_INTENCLR) = 0xFFFFFFFF;
    PDM(PDM_STOP) = 1;
    while (!PDM(PDM_STOPPED)) {
    }
    PDM(PDM_ENABLE) = 0;
    P0_OUTCLR = 1u << PIN_MIC_POWER;
}

uint32_t board_mic_read(int16_t *pcm, uint32_t max_samples) {
    uint32_t count = mic_written - mic_taken;
    if (count > max_samples) count = max_samples;
    for (uint32_t i = 0; i < count; i++) pcm[i] = mic_ring[(mic_taken + i) % MIC_RING];
    mic_taken += count;
    return count;
}

uint32_t board_mic_dropped(void) { return mic_lost; }

static void led(uint32_t pin, uint8_t level) {
    if (level >= 128)
        P0_OUTCLR = 1u << pin;
    else
        P0_OUTSET = 1u << pin;
}

void board_led(uint8_t red, uint8_t green, uint8_t blue) {
    led(PIN_RED, red);
    led(PIN_GREEN, green);
    led(PIN_BLUE, blue);
}

void board_idle(void) { __asm__ volatile("wfi" ::: "memory"); }

uint32_t board_flash_bytes(void) { return (uint32_t)(image_end - image_start); }
uint32_t board_static_ram_bytes(void) { return (uint32_t)(data_end - ramcode_start); }
uint32_t board_stack_high_water_bytes(void) { return bare_stack_high_water(); }

void board_fail(const char *sentence) {
    static const char before[] = "e-[", after[] = "]\r\nm-ready\r\n";
    board_serial_write(before, sizeof before - 1);
    board_serial_write(sentence, (uint32_t)strlen(sentence));
    board_serial_write(after, sizeof after - 1);
    for (;;) {
        board_led(board_millis() / 250 % 2 ? 255 : 0, 0, 0);
        board_idle();
    }
}
