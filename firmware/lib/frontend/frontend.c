// Keeps the samples of the running window and calls the stages when it is full.
#if __has_include("frontend_tables.h")  // a foreign model has no feature settings, so nothing to build

#include "frontend.h"

#include <string.h>

#include "frontend_simd.h"
#include "frontend_stages.h"

_Static_assert(FRONTEND_STEP_SAMPLES <= FRONTEND_WINDOW_SAMPLES, "a step must not leave a gap between windows");

void frontend_reset(frontend_state *state) { memset(state, 0, sizeof *state); }

static inline void copy8(int16_t *to, const int16_t *from) {
    const uint32_t first = nn_load_here(from), second = nn_load_here(from + 2);
    const uint32_t third = nn_load_here(from + 4), fourth = nn_load_here(from + 6);
    simd_store4(to, first);
    simd_store4(to + 2, second);
    simd_store4(to + 4, third);
    simd_store4(to + 6, fourth);
}

// Words at a time, which the C library of a small image does not do. `to` may overlap what lies behind it.
static void copy(int16_t *to, const int16_t *from, uint32_t count) {
    for (; count >= 16; count -= 16, to += 16, from += 16) {
        copy8(to, from);
        copy8(to + 8, from + 8);
    }
    for (; count != 0; --count) {
        *to++ = *from++;
    }
}

static uint32_t take(frontend_state *state, const int16_t *pcm, uint32_t count) {
    const uint32_t room = FRONTEND_WINDOW_SAMPLES - state->samples_used;
    const uint32_t taken = count < room ? count : room;
    copy(state->samples + state->samples_used, pcm, taken);
    state->samples_used += taken;
    return taken;
}

static void process(frontend_state *state, uint16_t *raw) {
    uint32_t signal[FRONTEND_CHANNELS];
    const uint32_t shift = frontend_window_apply(state->samples, state->bins);
    frontend_fft_energy(state->bins, shift);
    frontend_filterbank(state->bins, shift, signal);
    frontend_denoise(state->noise, signal);
    frontend_gain_log(state->noise, signal, raw);
}

int frontend_feed_raw(frontend_state *state, const int16_t *pcm, uint32_t count, uint16_t *raw) {
    const uint32_t taken = take(state, pcm, count);
    if (state->samples_used < FRONTEND_WINDOW_SAMPLES) {
        return 0;
    }
    process(state, raw);
    state->samples_used -= FRONTEND_STEP_SAMPLES;
    copy(state->samples, state->samples + FRONTEND_STEP_SAMPLES, state->samples_used);
    take(state, pcm + taken, count - taken);  // fits: what is left is shorter than a step
    return 1;
}

int frontend_feed(frontend_state *state, const int16_t *pcm, uint32_t count, int8_t *features) {
    uint16_t raw[FRONTEND_CHANNELS];
    if (!frontend_feed_raw(state, pcm, count, raw)) {
        return 0;
    }
    frontend_quantize(raw, features);
    return 1;
}

int frontend_step(frontend_state *state, const int16_t *pcm, int8_t *features) {
    return frontend_feed(state, pcm, FRONTEND_STEP_SAMPLES, features);
}

void frontend_quantize(const uint16_t *raw, int8_t *features) {
    for (uint32_t channel = 0; channel < FRONTEND_CHANNELS; ++channel) {
        const uint32_t scaled = ((uint32_t)raw[channel] * 256U + FRONTEND_RAW_DIVISOR / 2U) / FRONTEND_RAW_DIVISOR;
        const int32_t value = (int32_t)scaled + FRONTEND_ZERO_POINT;
        features[channel] = (int8_t)(value > 127 ? 127 : value < -128 ? -128 : value);
    }
}

#endif
