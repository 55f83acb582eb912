// frontend_fft.c for the DSP instructions: one word is one point of the transform, and no value differs.
//
// (x * 8191 + 2^14) >> 15 is the upper half of (x * (8191 << 17) >> 16) + 2^15: the product fits 32 bits and nothing is
// cut off below the half. A quartered value is at most 8192, where the product with the first twiddle, 32767 / 32768,
// rounds back to it.
#if __has_include("frontend_tables.h")

#include "frontend_simd.h"
#include "frontend_stages.h"

#if FRONTEND_SIMD && !FRONTEND_FFT_RADIX2

enum { QUARTER = FRONTEND_FFT_POINTS / 4, PAIRS = FRONTEND_WINDOW_SAMPLES / 2 };

_Static_assert(PAIRS >= 2 * QUARTER && PAIRS <= 4 * QUARTER, "the window fills more than half of the transform");

// Below FIRST_SPLIT neither bin k nor bin FFT_POINTS - k belongs to a channel.
enum {
    LAST_PARTNER = FRONTEND_FFT_POINTS + 1 - (FRONTEND_FIRST_BIN + FRONTEND_BINS),
    FIRST_SPLIT = LAST_PARTNER < FRONTEND_FIRST_BIN ? LAST_PARTNER : FRONTEND_FIRST_BIN,
};

_Static_assert(FIRST_SPLIT >= 1, "bin 0 has no partner");

#define QUARTERED (8191U << 17)
#define HALVED (16383U << 17)

NN_INLINE uint32_t scaled(uint32_t point, uint32_t factor) {
    return nn_pkhtb((uint32_t)simd_smlawb(factor, point, 1 << 15), (uint32_t)simd_smlawt(factor, point, 1 << 15));
}

NN_INLINE uint32_t turned(uint32_t point, uint32_t twiddle) {
    const int32_t real = simd_smlsd(point, twiddle, 1 << 14), imag = simd_smladx(point, twiddle, 1 << 14);
    return simd_pack_15((uint32_t)(real >> 15), (uint32_t)imag);
}

NN_INLINE uint32_t windowed(uint32_t samples, uint32_t coefficients, uint32_t *magnitudes) {
    const uint32_t result = simd_pack_12(simd_smulbb(samples, coefficients), simd_smultt(samples, coefficients) << 4);
    *magnitudes |= simd_abs16(result);
    return result;
}

// The points of two quarters of the window, of which `filled` hold samples.
NN_INLINE void two_windowed(const int16_t *from, const int16_t *window, frontend_bin *to, uint32_t filled,
                            uint32_t *magnitudes) {
    uint32_t first = 0, second = 0;
    if (filled == 2) {
        const uint32_t s0 = nn_load_here(from), w0 = nn_load_here(window);
        const uint32_t s1 = nn_load_here(from + 2 * QUARTER), w1 = nn_load_here(window + 2 * QUARTER);
        first = windowed(s0, w0, magnitudes);
        second = windowed(s1, w1, magnitudes);
    } else if (filled == 1) {
        first = windowed(nn_load4(from), nn_load4(window), magnitudes);
    }
    to[0].word = first;
    to[1].word = second;
}

// Pairs first .. end - 1 of each quarter, of which `filled` (2 .. 4) quarters hold samples; a butterfly's four points
// go side by side.
NN_INLINE uint32_t window_quarters(const int16_t *samples, frontend_bin *bins, uint32_t first, uint32_t end,
                                   uint32_t filled) {
    uint32_t magnitudes = 0;
    const int16_t *from = samples + 2 * first, *window = frontend_window + 2 * first;
    for (uint32_t index = first; index < end; ++index, from += 2, window += 2) {
        frontend_bin *four = bins + frontend_fft_order[index];
        two_windowed(from, window, four, 2, &magnitudes);
        two_windowed(from + 4 * QUARTER, window + 4 * QUARTER, four + 2, filled - 2, &magnitudes);
    }
    return magnitudes;
}

uint32_t frontend_window_apply(const int16_t *samples, frontend_bin *bins) {
    enum {
        THREE_TO = PAIRS < 3 * QUARTER ? PAIRS - 2 * QUARTER : QUARTER,
        FOUR_TO = PAIRS > 3 * QUARTER ? PAIRS - 3 * QUARTER : 0
    };
    uint32_t magnitudes = window_quarters(samples, bins, 0, FOUR_TO, 4);
    magnitudes |= window_quarters(samples, bins, FOUR_TO, THREE_TO, 3);
    magnitudes |= window_quarters(samples, bins, THREE_TO, QUARTER, 2);
    return 15U - frontend_bits((magnitudes | magnitudes >> 16) & 0x7FFFU);  // without -32768, as in the original
}

// The butterfly of four quartered, turned points.
NN_INLINE void combine(frontend_bin *point, uint32_t span, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    const uint32_t even = simd_sadd16(a, c), odd = simd_ssub16(a, c), sum = simd_sadd16(b, d),
                   difference = simd_ssub16(b, d);
    point[0].word = simd_sadd16(even, sum);
    point[span].word = simd_ssax(odd, difference);
    point[2 * span].word = simd_ssub16(even, sum);
    point[3 * span].word = simd_sasx(odd, difference);
}

// A point shifted left, each half wrapping, then quartered.
NN_INLINE uint32_t shifted_quarter(uint32_t point, uint32_t one_shifted) {
    const int32_t real = simd_smlawb(QUARTERED, simd_smulbb(point, one_shifted), 1 << 15);
    const int32_t imag = simd_smlawb(QUARTERED, simd_smultb(point, one_shifted), 1 << 15);
    return nn_pkhtb((uint32_t)real, (uint32_t)imag);
}

NN_INLINE void shifted_butterfly(frontend_bin *point, uint32_t one_shifted) {
    const uint32_t p0 = nn_load_here(point), p1 = nn_load_here(point + 1);
    const uint32_t p2 = nn_load_here(point + 2), p3 = nn_load_here(point + 3);
    const uint32_t a = shifted_quarter(p0, one_shifted), b = shifted_quarter(p1, one_shifted);
    combine(point, 1, a, b, shifted_quarter(p2, one_shifted), shifted_quarter(p3, one_shifted));
}

NN_INLINE void first_stage(frontend_bin *bins, uint32_t shift) {
    const uint32_t one_shifted = 1U << shift;
    for (frontend_bin *point = bins; point != bins + FRONTEND_FFT_POINTS; point += 8) {
        shifted_butterfly(point, one_shifted);
        shifted_butterfly(point + 4, one_shifted);
    }
}

NN_INLINE void butterfly(frontend_bin *point, uint32_t span, uint32_t w1, uint32_t w2, uint32_t w3) {
    const uint32_t p0 = nn_load_here(point), p1 = nn_load_here(point + span);
    const uint32_t p2 = nn_load_here(point + 2 * span), p3 = nn_load_here(point + 3 * span);
    const uint32_t a = scaled(p0, QUARTERED), b = turned(scaled(p1, QUARTERED), w1);
    combine(point, span, a, b, turned(scaled(p2, QUARTERED), w2), turned(scaled(p3, QUARTERED), w3));
}

// The groups of four whose twiddles are 1, then per k those with the twiddles w^k, w^2k, w^3k.
NN_INLINE void stage(frontend_bin *bins, uint32_t span, const int16_t *twiddles) {
    const uint32_t groups = FRONTEND_FFT_POINTS / (4 * span);
    frontend_bin *point = bins;
    for (uint32_t left = groups; left != 0; --left, point += 4 * span) {
        const uint32_t a = scaled(point[0].word, QUARTERED), b = scaled(point[span].word, QUARTERED);
        combine(point, span, a, b, scaled(point[2 * span].word, QUARTERED), scaled(point[3 * span].word, QUARTERED));
    }
    for (uint32_t k = 1; k < span; ++k) {
        twiddles += 6;
        const uint32_t w1 = nn_load_here(twiddles), w2 = nn_load_here(twiddles + 2), w3 = nn_load_here(twiddles + 4);
        point = bins + k;
        if (groups == 1) {
            butterfly(point, span, w1, w2, w3);
        }
        for (uint32_t left = groups / 2; left != 0; --left, point += 8 * span) {
            butterfly(point, span, w1, w2, w3);
            butterfly(point + 4 * span, span, w1, w2, w3);
        }
    }
}

// Energies of bins k and FFT_POINTS - k of the real signal.
NN_INLINE void split(frontend_bin *low, frontend_bin *high, const int16_t *twiddles) {
    const uint32_t low_point = nn_load_here(low), high_point = nn_load_here(high), twiddle = nn_load_here(twiddles);
    const uint32_t point = scaled(low_point, HALVED);
    const int32_t real = simd_smlawb(HALVED, high_point, 1 << 15),
                  imag = simd_smlawt(HALVED, simd_ssub16(0, high_point), 1 << 15);
    const uint32_t conjugate = nn_pkhtb((uint32_t)real, (uint32_t)imag);
    const uint32_t sum = simd_sadd16(point, conjugate), rest = turned(simd_ssub16(point, conjugate), twiddle);
    const uint32_t below = simd_shadd16(sum, rest), above_real = simd_shsub16(sum, rest),
                   above_imag = simd_shsub16(rest, sum);
    low->word = simd_smuad(below, below);
    high->word = (uint32_t)nn_smlatt(above_imag, above_imag, (int32_t)simd_smulbb(above_real, above_real));
}

NN_INLINE void split_all(frontend_bin *bins) {
    const uint32_t first = (FIRST_SPLIT - 1U) | 1U;  // an even count up to the middle
    frontend_bin *low = bins + first, *high = bins + FRONTEND_FFT_POINTS - first;
    const int16_t *twiddle = frontend_fft_split + 2 * (first - 1);
    for (; low < high; low += 2, high -= 2, twiddle += 4) {
        split(low, high, twiddle);
        split(low + 1, high - 1, twiddle + 2);
        SIMD_ONE_POINTER(low);
        SIMD_ONE_POINTER(high);
    }
}

void frontend_fft_energy(frontend_bin *bins, uint32_t shift) {
    const int16_t *twiddles = frontend_fft_twiddles + 6;
    first_stage(bins, shift);
#if FRONTEND_FFT_POINTS >= 16
    stage(bins, 4, twiddles);
    twiddles += 6 * 4;
#endif
#if FRONTEND_FFT_POINTS >= 64
    stage(bins, 16, twiddles);
    twiddles += 6 * 16;
#endif
#if FRONTEND_FFT_POINTS >= 256
    stage(bins, 64, twiddles);
    twiddles += 6 * 64;
#endif
#if FRONTEND_FFT_POINTS >= 1024
    stage(bins, 256, twiddles);
    twiddles += 6 * 256;
#endif
    split_all(bins);
}

#endif
#endif
