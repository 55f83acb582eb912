// The one door to the hardware: board_nano33ble.cpp (Arduino core) or board_bare.c (bare-metal nRF52840).
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void board_init(void);  // clocks, instruction cache (NVMC ICACHECNF), cycle counter, serial 115200 8N1, LEDs
const char *board_name(void);
uint32_t board_clock_hz(void);
uint32_t board_millis(void);             // as Arduino's millis()
uint32_t board_cycles(void);             // DWT CYCCNT; wraps after 67 s at 64 MHz
void board_instruction_cache(int mode);  // the flash's (NVMC ICACHECNF): 0 off, 1 on as after board_init, 2 counted too
void board_cache_counts(uint32_t *hits, uint32_t *misses);  // NVMC IHIT and IMISS, since mode 2 was set

int board_serial_read(void);                                 // the next byte, or -1 when none waits
void board_serial_write(const char *bytes, uint32_t count);  // blocks until all is queued

const char *board_mic_start(void);  // NULL, or one sentence why there is no microphone
void board_mic_stop(void);
uint32_t board_mic_read(int16_t *pcm, uint32_t max_samples);  // 16 kHz mono; how many came, 0 when none waits
uint32_t board_mic_dropped(void);  // samples lost since board_mic_start because nobody read them

void board_led(uint8_t red, uint8_t green, uint8_t blue);  // 0 off, 255 on
void board_idle(void);                                     // sleeps until an interrupt

uint32_t board_flash_bytes(void);             // image size
uint32_t board_static_ram_bytes(void);        // .data + .bss
uint32_t board_stack_high_water_bytes(void);  // deepest stack use since board_init
void board_fail(const char *sentence);        // prints e-[sentence] / m-ready, blinks, never returns

#ifdef __cplusplus
}
#endif
#endif
