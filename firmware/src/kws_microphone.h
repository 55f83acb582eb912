// The microphone of a Nano 33 BLE Sense or Sense Rev2, by the PDM library that comes with the Arduino core. For one
// file of a program. Shared by the firmware and the sketches of the library.
#ifndef KWS_MICROPHONE_H
#define KWS_MICROPHONE_H

#include <Arduino.h>
#include <PDM.h>
#include <hal/nrf_gpio.h>
#include <nrf.h>
#include <stddef.h>

#ifndef KWS_NO_MICROPHONE
#define KWS_NO_MICROPHONE                                                                      \
    "no microphone: a plain Nano 33 BLE has none; take a Nano 33 BLE Sense or Sense Rev2, or " \
    "kws_push samples (16 kHz mono) of a source of your own"
#endif

typedef void (*kws_microphone_sink)(const int16_t *pcm, size_t n);  // called by the PDM interrupt, 16 ms each

namespace kws_microphone {

constexpr uint32_t kBlockBytes = 512;    // the PDM library's default buffer: 256 samples
constexpr uint32_t kClearedBlocks = 3;   // the library hands out its zeroed buffers before the first recorded one
constexpr uint32_t kSettleSamples = 16;  // of the PDM's filter
constexpr uint32_t kTestMillis = 200;    // for the first recorded block
constexpr int kGain0dB = 0x28;

static kws_microphone_sink sink;
static volatile uint32_t blocks;
static volatile bool heard, alive;
static bool running;

// A data line that nobody drives is held low by the pull-down and decodes to a constant far from zero; a microphone
// never does.
static bool is_alive(const int16_t *pcm, uint32_t count) {
    for (uint32_t i = kSettleSamples; i < count; i++) {
        if (pcm[i] != pcm[kSettleSamples]) return true;
    }
    return count > kSettleSamples && pcm[kSettleSamples] == 0;
}

// PDM interrupt. The library stops recording for ever unless its whole buffer is taken here.
static void take_block() {
    static int16_t block[kBlockBytes / sizeof(int16_t)];
    const uint32_t count = static_cast<uint32_t>(PDM.read(block, sizeof block)) / sizeof(int16_t);
    if (blocks < kClearedBlocks) {
        blocks = blocks + 1;
        return;
    }
    if (!heard) alive = is_alive(block, count);
    heard = true;
    sink(block, count);
}

}  // namespace kws_microphone

static inline void kws_microphone_stop() {
    if (kws_microphone::running) PDM.end();
    kws_microphone::running = false;
}

// NULL, and from now on `sink` is given what is recorded; else one sentence why not.
static inline const char *kws_microphone_start(kws_microphone_sink sink) {
    using namespace kws_microphone;
    kws_microphone_stop();
    kws_microphone::sink = sink;
    blocks = 0;
    heard = alive = false;
    NRF_PDM->SAMPLE.MAXCNT = 0;  // as after reset: every start then hands out the same cleared blocks
    PDM.setBufferSize(kBlockBytes);
    PDM.onReceive(take_block);
    if (!PDM.begin(1, 16000)) return "the PDM library refused 16 kHz mono; check the version of the Arduino core";
    running = true;
    PDM.setGain(kGain0dB);
    nrf_gpio_cfg_input(digitalPinToPinName(PIN_PDM_DIN), NRF_GPIO_PIN_PULLDOWN);
    const uint32_t start = millis();
    while (!heard && millis() - start < kTestMillis) __WFI();
    if (alive) return nullptr;
    kws_microphone_stop();
    return KWS_NO_MICROPHONE;
}

#endif
