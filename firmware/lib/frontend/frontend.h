// Audio front end: 16 bit PCM in, one row of int8 features per step out. Integers only, no allocation, bit for bit
// what TFLM's micro front end computes. Its constants are in the generated frontend_tables.h.
//
// Window w covers samples [w * STEP, w * STEP + WINDOW) since the reset. With whole steps fed, the first call returns 0
// and call n (n = 2, 3, ...) returns window n - 2 at 30/20 ms: the window then ends 10 ms before the newest sample.
#ifndef FRONTEND_H
#define FRONTEND_H

#include <stdint.h>

#include "frontend_tables.h"

#ifdef __cplusplus
extern "C" {
#endif

// A point of the transform: first a complex number, later the energy of its frequency.
typedef union {
    int16_t part[2];  // real, imaginary
    int32_t energy;
    uint32_t word;  // both parts, the real one in the lower half
} frontend_bin;

// 2,148 bytes at the deployed settings: 960 of samples, 160 of noise, 1,024 of transform. A call needs some 350 bytes
// of stack.
typedef struct {
    int16_t samples[FRONTEND_WINDOW_SAMPLES];  // heard and still needed, oldest first
    uint32_t samples_used;
    uint32_t noise[FRONTEND_CHANNELS];       // estimate per channel, scaled by 2^FRONTEND_SMOOTHING_BITS
    frontend_bin bins[FRONTEND_FFT_POINTS];  // scratch: free between calls
} frontend_state;

void frontend_reset(frontend_state *state);

// Takes FRONTEND_STEP_SAMPLES new samples. Returns 1 and fills features[FRONTEND_CHANNELS] when a window became full,
// else 0.
int frontend_step(frontend_state *state, const int16_t *pcm, int8_t *features);

// The same for any count of 0 .. FRONTEND_STEP_SAMPLES samples, and with the unquantised values.
int frontend_feed(frontend_state *state, const int16_t *pcm, uint32_t count, int8_t *features);
int frontend_feed_raw(frontend_state *state, const int16_t *pcm, uint32_t count, uint16_t *raw);

// int8 = clamp((raw * 256 + RAW_DIVISOR / 2) / RAW_DIVISOR + ZERO_POINT, -128, 127) for each channel.
void frontend_quantize(const uint16_t *raw, int8_t *features);

#ifdef __cplusplus
}
#endif
#endif
