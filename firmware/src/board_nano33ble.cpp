// board.h on the real Arduino Nano 33 BLE: Arduino core on mbed-os, PDM library, USB Serial and Serial1.
#include <Arduino.h>
#include <cmsis_os2.h>
#include <hal/nrf_gpio.h>
#include <nrf.h>
#include <string.h>

#include "board.h"
#define KWS_NO_MICROPHONE "no microphone"
#include "kws_microphone.h"

// Symbols of the core's start-up file and linker script (code ends at __exidx_end).
extern "C" const char __Vectors[], __exidx_end[], __data_start__[], __data_end__[], __bss_start__[], __bss_end__[];

namespace {

constexpr uint32_t kBaud = 115200;
constexpr uint32_t kRingSamples = 8192;  // 512 ms: longer than the slowest inference

enum Port { kBothPorts, kUart, kUsb };
Port reply_port = kBothPorts;  // replies go where the last byte came from; to both until somebody speaks

// Written by the PDM interrupt (head, dropped) and by board_mic_read (tail).
int16_t ring[kRingSamples];
volatile uint32_t ring_head, ring_tail, mic_dropped;

uint32_t ring_count() { return ring_head - ring_tail; }

void keep_block(const int16_t *block, size_t count) {
    uint32_t head = ring_head;
    for (size_t i = 0; i < count; i++) {
        if (head - ring_tail == kRingSamples) {
            mic_dropped = mic_dropped + (count - i);
            break;
        }
        ring[head++ % kRingSamples] = block[i];
    }
    ring_head = head;
}

void led_pin(pin_size_t pin, uint8_t value) { digitalWrite(pin, value >= 128 ? LOW : HIGH); }  // active low

}  // namespace

extern "C" {

void board_init(void) {
    board_instruction_cache(1);  // nobody before us turns the flash cache on
    CoreDebug->DEMCR |= CoreDebug_DEMCR_TRCENA_Msk;
    DWT->CYCCNT = 0;
    DWT->CTRL |= DWT_CTRL_CYCCNTENA_Msk;
    const pin_size_t leds[] = {LEDR, LEDG, LEDB};
    for (pin_size_t pin : leds) pinMode(pin, OUTPUT);
    board_led(0, 0, 0);
    Serial.begin(kBaud);  // USB: never waited for, a board may run without it
    Serial1.begin(kBaud);
    // The core leaves RX floating: with nothing wired to it, noise would be read as bytes.
    nrf_gpio_cfg_input(digitalPinToPinName(PIN_SERIAL_RX), NRF_GPIO_PIN_PULLUP);
}

const char *board_name(void) { return "nano33ble"; }
uint32_t board_clock_hz(void) { return SystemCoreClock; }
uint32_t board_millis(void) { return millis(); }
uint32_t board_cycles(void) { return DWT->CYCCNT; }
void board_instruction_cache(int mode) {
    NRF_NVMC->ICACHECNF = (mode ? NVMC_ICACHECNF_CACHEEN_Msk : 0) | (mode == 2 ? NVMC_ICACHECNF_CACHEPROFEN_Msk : 0);
    NRF_NVMC->IHIT = 0;
    NRF_NVMC->IMISS = 0;
}

void board_cache_counts(uint32_t *hits, uint32_t *misses) { *hits = NRF_NVMC->IHIT, *misses = NRF_NVMC->IMISS; }

int board_serial_read(void) {
    int received = Serial1.read();
    if (received >= 0) {
        reply_port = kUart;
        return received;
    }
    received = Serial.read();
    if (received >= 0) reply_port = kUsb;
    return received;
}

void board_serial_write(const char *bytes, uint32_t count) {
    const uint8_t *data = reinterpret_cast<const uint8_t *>(bytes);
    if (count == 0) return;
    if (reply_port != kUart) Serial.write(data, count);  // returns at once while no terminal is open
    if (reply_port != kUsb) Serial1.write(data, count);
}

const char *board_mic_start(void) {
    board_mic_stop();
    ring_head = ring_tail = mic_dropped = 0;
    return kws_microphone_start(keep_block);
}

void board_mic_stop(void) { kws_microphone_stop(); }

uint32_t board_mic_read(int16_t *pcm, uint32_t max_samples) {
    const uint32_t waiting = ring_count();
    const uint32_t count = waiting < max_samples ? waiting : max_samples;
    uint32_t tail = ring_tail;
    for (uint32_t i = 0; i < count; i++) pcm[i] = ring[tail++ % kRingSamples];
    ring_tail = tail;
    return count;
}

uint32_t board_mic_dropped(void) { return mic_dropped; }

void board_led(uint8_t red, uint8_t green, uint8_t blue) {
    led_pin(LEDR, red);
    led_pin(LEDG, green);
    led_pin(LEDB, blue);
}

void board_idle(void) { __WFI(); }  // the RTOS tick wakes us within a millisecond at the latest

uint32_t board_flash_bytes(void) {
    return static_cast<uint32_t>((__exidx_end - __Vectors) + (__data_end__ - __data_start__));
}

uint32_t board_static_ram_bytes(void) {
    return static_cast<uint32_t>((__data_end__ - __data_start__) + (__bss_end__ - __bss_start__));
}

// RTX paints the main thread's stack when it starts; interrupts use another stack, not counted here.
uint32_t board_stack_high_water_bytes(void) {
    const osThreadId_t self = osThreadGetId();
    return osThreadGetStackSize(self) - osThreadGetStackSpace(self);
}

void board_fail(const char *sentence) {
    bool lit = true, say = true;
    uint32_t toggled = millis();
    for (;;) {
        if (say) {
            board_serial_write("e-[", 3);
            board_serial_write(sentence, strlen(sentence));
            board_serial_write("]\r\nm-ready\r\n", 12);
        }
        say = board_serial_read() == '%';  // a host that comes later learns it too
        if (millis() - toggled >= 250) {
            toggled = millis();
            lit = !lit;
        }
        board_led(lit ? 255 : 0, 0, 0);
        if (!say) board_idle();
    }
}

}  // extern "C"
