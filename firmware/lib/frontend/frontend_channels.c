// From the energies of the spectrum to the logarithm of 40 mel channels, noise and gain taken out.
#if __has_include("frontend_tables.h")

#include "frontend_stages.h"

enum { SHARE_BITS = 14, SNR_BITS = 12, OUTPUT_BITS = 6, LOG_BITS = 16, LOG_SEGMENT_BITS = 9, LN2_Q16 = 45426 };

// Square root rounded to nearest, at most UINT16_MAX below 2^32 (so that one result there is one too small, as in the original).
static uint32_t root32(uint32_t value) {
    uint32_t root = 0;
    uint32_t rest = value;
    for (uint32_t bit = value == 0 ? 0 : 1U << ((frontend_bits(value) - 1U) & 30U); bit != 0; bit >>= 2) {
        const uint32_t candidate = root + bit;
        root >>= 1;
        if (rest >= candidate) {
            rest -= candidate;
            root += bit;
        }
    }
    return rest > root && root != UINT16_MAX ? root + 1 : root;
}

// floor(sqrt(value)) and what is left of value, for value >= 2^30.
static uint32_t floor_root32(uint32_t value, uint32_t *rest_out) {
    uint32_t root = 0;
    uint32_t rest = value;
    for (uint32_t bit = 1U << 30; bit != 0; bit >>= 2) {
        const uint32_t candidate = root + bit;
        root >>= 1;
        if (rest >= candidate) {
            rest -= candidate;
            root += bit;
        }
    }
    *rest_out = rest;
    return root;
}

// The upper half's root by digits, the lower half's by one division (Zimmermann's recursive square root), rounded to nearest.
static uint32_t root64(uint64_t value) {
    const uint32_t top = (uint32_t)(value >> 32);
    if (top == 0) {
        return root32((uint32_t)value);
    }
    const uint32_t shift = (uint32_t)__builtin_clz(top) & ~1U;  // even, so that the root moves by half of it
    const uint64_t scaled = value << shift;
    uint32_t rest;
    const uint32_t high = floor_root32((uint32_t)(scaled >> 32), &rest);
    // rest <= 2 * high < 2^17, so the dividend below needs 33 bits; half of it and of the divisor do.
    const uint64_t dividend = ((uint64_t)rest << 16) + ((uint32_t)scaled >> 16);
    uint32_t low = (uint32_t)(dividend >> 1) / high;
    low = low > UINT16_MAX ? UINT16_MAX : low;
    uint32_t root = (high << 16) + low;
    while ((uint64_t)root * root > scaled) {
        --root;
    }
    root >>= shift / 2;
    const uint64_t left = value - (uint64_t)root * root;
    return left > root && root != UINT32_MAX ? root + 1 : root;
}

void frontend_filterbank(const frontend_bin *bins, uint32_t shift, uint32_t *signal) {
    const int16_t *weights = frontend_weights;
    const frontend_bin *bin = bins + FRONTEND_FIRST_BIN;
    int64_t falling = 0;  // what the triangle before gives to this channel
    for (uint32_t triangle = 0; triangle <= FRONTEND_CHANNELS; ++triangle) {
        int64_t channel = falling, next = 0;
        for (uint32_t left = frontend_widths[triangle]; left != 0; --left, ++bin, weights += 2) {
            channel += (int64_t)weights[0] * bin->energy;
            next += (int64_t)weights[1] * bin->energy;
        }
        if (triangle > 0) {
            signal[triangle - 1] = root64((uint64_t)channel) >> shift;
        }
        falling = next;
    }
}

void frontend_denoise(uint32_t *noise, uint32_t *signal) {
    for (uint32_t channel = 0; channel < FRONTEND_CHANNELS; ++channel) {
        const uint32_t share = (channel & 1U) == 0 ? FRONTEND_SMOOTHING_EVEN : FRONTEND_SMOOTHING_ODD;
        const uint32_t value = signal[channel];
        const uint32_t scaled = value << FRONTEND_SMOOTHING_BITS;
        const uint64_t mixed = (uint64_t)scaled * share + (uint64_t)noise[channel] * ((1U << SHARE_BITS) - share);
        const uint32_t estimate = (uint32_t)(mixed >> SHARE_BITS);
        const uint32_t subtracted = (scaled - (estimate < scaled ? estimate : scaled)) >> FRONTEND_SMOOTHING_BITS;
        const uint32_t least = (uint32_t)(((uint64_t)value * FRONTEND_MIN_SIGNAL_REMAINING) >> SHARE_BITS);
        noise[channel] = estimate;
        signal[channel] = subtracted > least ? subtracted : least;
    }
}

// The gain of a noise estimate: a parabola per octave.
static uint32_t gain_of(uint32_t noise) {
    const uint32_t bits = frontend_bits(noise);
    const int16_t *octave = frontend_gain + 3 * bits;
    const int32_t within = (int32_t)((bits < 11 ? noise << (11 - bits) : noise >> (bits - 11)) & 0x3FFU);
    const int32_t slope = ((octave[2] * within) >> 5) + octave[1] * 32;
    return (uint32_t)(int32_t)(int16_t)(((slope * within + (1 << 14)) >> 15) + octave[0]);
}

static uint32_t compressed(uint32_t ratio) {
    if (ratio < 2U << SNR_BITS) {
        return (ratio * ratio) >> (2 + 2 * SNR_BITS - OUTPUT_BITS);
    }
    return (ratio >> (SNR_BITS - OUTPUT_BITS)) - (1U << OUTPUT_BITS);
}

// ln(value) * 2^FRONTEND_LOG_SHIFT for value >= 2, from log2 with a table of 128 segments.
static uint32_t scaled_log(uint32_t value) {
    const uint32_t exponent = frontend_bits(value) - 1U;
    const uint32_t rest = value - (1U << exponent);
    const uint32_t fraction = exponent < LOG_BITS ? rest << (LOG_BITS - exponent) : rest >> (exponent - LOG_BITS);
    const uint32_t segment = fraction >> LOG_SEGMENT_BITS;
    const int32_t below = frontend_log[segment], above = frontend_log[segment + 1];
    const int32_t within = (int32_t)(fraction - (segment << LOG_SEGMENT_BITS));
    const int32_t bend = below + (((above - below) * within) >> LOG_BITS);
    const uint32_t log2 = (exponent << LOG_BITS) + fraction + (uint32_t)bend;
    const uint32_t half = 1U << (LOG_BITS - 1);
    const uint32_t natural = (uint32_t)(((uint64_t)LN2_Q16 * log2 + half) >> LOG_BITS);
    return ((natural << FRONTEND_LOG_SHIFT) + half) >> LOG_BITS;
}

void frontend_gain_log(const uint32_t *noise, const uint32_t *signal, uint16_t *raw) {
    for (uint32_t channel = 0; channel < FRONTEND_CHANNELS; ++channel) {
        const uint32_t ratio = (uint32_t)(((uint64_t)signal[channel] * gain_of(noise[channel])) >> FRONTEND_SNR_SHIFT);
        const uint32_t value = compressed(ratio) << FRONTEND_CORRECTION_BITS;
        const uint32_t logarithm = value > 1 ? scaled_log(value) : 0;
        raw[channel] = (uint16_t)(logarithm < UINT16_MAX ? logarithm : UINT16_MAX);
    }
}

#endif
