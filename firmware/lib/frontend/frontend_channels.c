// From the energies of the spectrum to the logarithm of 40 mel channels, noise and gain taken out.
#if __has_include("frontend_tables.h")

#include "frontend_simd.h"
#include "frontend_stages.h"

#define INLINE \
    static inline __attribute__((always_inline))  // also at -Os, where the calls would cost more than the work

enum { SHARE_BITS = 14, SNR_BITS = 12, OUTPUT_BITS = 6, LOG_BITS = 16, LOG_SEGMENT_BITS = 9, LN2_Q16 = 45426 };

// floor(sqrt(value)) and what is left of value, for value >= 2^30. One step of Heron from a table that is at most 130
// off: the quotient rounded up leaves a result that is the root or one more.
INLINE uint32_t floor_root32(uint32_t value, uint32_t *rest_out) {
    const uint32_t guess = frontend_root[(value >> 24) - 64U];
    uint32_t root = (guess + value / guess + 1U) >> 1;
    int32_t rest = (int32_t)(value - root * root);  // -2^17 .. 2^17, also where the square is 2^32
    if (rest < 0) {
        --root;
        rest += (int32_t)(2U * root + 1U);
    }
    *rest_out = (uint32_t)rest;
    return root;
}

// Square root rounded to nearest, but 65535 for what would be 65536 in 32 bits, and 2^32 - 1 for 2^32, as in the
// original. The upper half's root comes first, the lower half's by one division (Zimmermann's recursive square root).
INLINE uint32_t root64(uint64_t value) {
    const uint32_t top = (uint32_t)(value >> 32), bottom = (uint32_t)value;
    if (top == 0) {
        if (bottom == 0) {
            return 0;
        }
        const uint32_t shift = (uint32_t)__builtin_clz(bottom) & ~1U;  // even, so that the root moves by half of it
        uint32_t rest;
        const uint32_t root = floor_root32(bottom << shift, &rest);
        if (shift == 0) {
            return rest > root && root != UINT16_MAX ? root + 1U : root;
        }
        return ((root >> (shift / 2 - 1U)) + 1U) >> 1;
    }
    const uint32_t shift = (uint32_t)__builtin_clz(top) & ~1U;
    const uint32_t upper = top << shift | (bottom >> 1) >> (31U - shift), lower = bottom << shift;
    uint32_t rest;
    const uint32_t high = floor_root32(upper, &rest);
    // rest <= 2 * high < 2^17, so the dividend rest * 2^16 + lower / 2^16 needs 33 bits; half of it and of the divisor
    // do.
    const uint32_t low = (rest << 15 | lower >> 17) / high;
    uint32_t root = (high << 16) + (low > UINT16_MAX ? UINT16_MAX : low);
    const uint64_t scaled = (uint64_t)upper << 32 | lower;
    if ((uint64_t)root * root > scaled) {
        --root;
    }
    if (shift == 0) {
        return scaled - (uint64_t)root * root > root && root != UINT32_MAX ? root + 1U : root;
    }
    root >>= shift / 2 - 1U;
    return (root >> 1) + (root & 1U);  // the first bit that falls off says which side of the middle
}

void frontend_filterbank(const frontend_bin *bins, uint32_t shift, uint32_t *signal) {
    const int16_t *weights = frontend_weights;
    const int32_t *energy = &bins[FRONTEND_FIRST_BIN].energy;  // a bin is nothing else now
    int64_t falling = 0;                                       // what the triangle before gives to this channel
    for (uint32_t triangle = 0; triangle <= FRONTEND_CHANNELS; ++triangle) {
        int64_t channel = falling, next = 0;
        uint32_t left = frontend_widths[triangle];
        for (; left >= 4; left -= 4) {
            simd_two_bins(&energy, &weights, &channel, &next);
            simd_two_bins(&energy, &weights, &channel, &next);
        }
        if (left & 2U) {
            simd_two_bins(&energy, &weights, &channel, &next);
        }
        if (left & 1U) {
            channel += (int64_t)*weights++ * *energy;
            next += (int64_t)*weights++ * *energy++;
        }
        if (triangle > 0) {
            signal[triangle - 1] = root64((uint64_t)channel) >> shift;
        }
        falling = next;
    }
}

// (a * share + b * rest) >> SHARE_BITS for shares that add up to 1 at most; the shift is the upper word where both
// leave room for it.
INLINE uint32_t mixed(uint32_t a, uint32_t share, uint32_t b, uint32_t rest) {
    if ((share | rest) >> SHARE_BITS != 0) {
        return (uint32_t)(((uint64_t)a * share + (uint64_t)b * rest) >> SHARE_BITS);
    }
    return (uint32_t)(((uint64_t)a * (share << (32 - SHARE_BITS)) + (uint64_t)b * (rest << (32 - SHARE_BITS))) >> 32);
}

INLINE void denoise_channel(uint32_t *noise, uint32_t *signal, uint32_t share) {
    const uint32_t value = *signal;
    const uint32_t scaled = value << FRONTEND_SMOOTHING_BITS;
    const uint32_t estimate = mixed(scaled, share, *noise, (1U << SHARE_BITS) - share);
    const uint32_t subtracted = (scaled - (estimate < scaled ? estimate : scaled)) >> FRONTEND_SMOOTHING_BITS;
    const uint32_t least = mixed(value, FRONTEND_MIN_SIGNAL_REMAINING, 0, 0);
    *noise = estimate;
    *signal = subtracted > least ? subtracted : least;
}

void frontend_denoise(uint32_t *noise, uint32_t *signal) {
    for (uint32_t channel = 0; channel + 1 < FRONTEND_CHANNELS; channel += 2) {
        denoise_channel(noise + channel, signal + channel, FRONTEND_SMOOTHING_EVEN);
        denoise_channel(noise + channel + 1, signal + channel + 1, FRONTEND_SMOOTHING_ODD);
    }
    if (FRONTEND_CHANNELS % 2 != 0) {
        denoise_channel(noise + FRONTEND_CHANNELS - 1, signal + FRONTEND_CHANNELS - 1, FRONTEND_SMOOTHING_EVEN);
    }
}

// The gain of a noise estimate: a parabola per octave, in which the ten bits behind the highest one say how far. None
// for a noise of 0.
INLINE uint32_t gain_of(uint32_t noise) {
    const uint32_t bits = frontend_bits(noise);
    const int16_t *octave = frontend_gain + 3 * bits;
    const int32_t within = (int32_t)((noise << ((32U - bits) & 31U)) >> 21 & 0x3FFU);
    const int32_t slope = ((octave[2] * within) >> 5) + octave[1] * 32;
    return (uint32_t)(int32_t)(int16_t)(((slope * within + (1 << 14)) >> 15) + octave[0]);
}

INLINE uint32_t compressed(uint32_t ratio) {
    if (ratio < 2U << SNR_BITS) {
        return (ratio * ratio) >> (2 + 2 * SNR_BITS - OUTPUT_BITS);
    }
    return (ratio >> (SNR_BITS - OUTPUT_BITS)) - (1U << OUTPUT_BITS);
}

// ln(value) * 2^FRONTEND_LOG_SHIFT for value >= 2, from log2 with a table of 128 segments.
INLINE uint32_t scaled_log(uint32_t value) {
    const uint32_t zeros = (uint32_t)__builtin_clz(value);
    const uint32_t fraction = value << zeros << 1 >> (32 - LOG_BITS);  // behind the highest bit
    const uint32_t segment = fraction >> LOG_SEGMENT_BITS;
    const int32_t below = frontend_log[segment], above = frontend_log[segment + 1];
    const int32_t within = (int32_t)(fraction - (segment << LOG_SEGMENT_BITS));
    const int32_t bend = below + (((above - below) * within) >> LOG_BITS);
    const uint32_t log2 = ((31U - zeros) << LOG_BITS) + fraction + (uint32_t)bend;
    const uint32_t half = 1U << (LOG_BITS - 1);
    const uint32_t natural =
        (uint32_t)(((uint64_t)log2 * ((uint32_t)LN2_Q16 << (32 - LOG_BITS)) + ((uint64_t)1 << 31)) >> 32);
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
