// Window and transform in 16 bit fixed point. The values after each stage wrap to 16 bits and each stage divides by its
// radix with the rounding (x * (32767 / radix) + 2^14) >> 15, because that is what the features of a trained model were
// computed with.
#if __has_include("frontend_tables.h")

#include "frontend_simd.h"
#include "frontend_stages.h"

#if !FRONTEND_SIMD || FRONTEND_FFT_RADIX2

_Static_assert(FRONTEND_WINDOW_SAMPLES % 2 == 0, "samples enter the transform in pairs");

#define INLINE static inline __attribute__((always_inline))  // also at -Os, where calls would double the time

enum { REAL, IMAG, ONE_AS_Q15 = 32767 };

INLINE int32_t round_q15(int32_t product) { return (product + (1 << 14)) >> 15; }

INLINE int32_t halved(int16_t value) { return round_q15(value * (ONE_AS_Q15 / 2)); }

INLINE int32_t quartered(int16_t value) { return round_q15(value * (ONE_AS_Q15 / 4)); }

INLINE int16_t windowed(int16_t sample, int16_t coefficient, int32_t *largest) {
    const int32_t value = (sample * coefficient) >> 12;
    const int32_t magnitude =
        value < 0 ? (int16_t)-value : value;  // -32768 stays negative and does not count, as in the original
    *largest = magnitude > *largest ? magnitude : *largest;
    return (int16_t)value;
}

uint32_t frontend_window_apply(const int16_t *samples, frontend_bin *bins) {
    int32_t largest = 0;
    for (uint32_t pair = 0; pair < FRONTEND_FFT_POINTS; ++pair) {
        int16_t *part = bins[frontend_fft_order[pair]].part;
        const int in_window = pair < FRONTEND_WINDOW_SAMPLES / 2;
        part[REAL] = in_window ? windowed(samples[2 * pair], frontend_window[2 * pair], &largest) : (int16_t)0;
        part[IMAG] = in_window ? windowed(samples[2 * pair + 1], frontend_window[2 * pair + 1], &largest) : (int16_t)0;
    }
    return 15U - frontend_bits((uint32_t)largest);
}

INLINE void shift_left(frontend_bin *bins, uint32_t shift) {
    for (uint32_t point = 0; point < FRONTEND_FFT_POINTS; ++point) {
        bins[point].part[REAL] = (int16_t)((uint32_t)(int32_t)bins[point].part[REAL] << shift);
        bins[point].part[IMAG] = (int16_t)((uint32_t)(int32_t)bins[point].part[IMAG] << shift);
    }
}

typedef struct {
    int32_t real, imag;
} complex32;

INLINE complex32 times_twiddle(complex32 value, const int16_t *twiddle) {
    const complex32 product = {
        round_q15(value.real * twiddle[REAL] - value.imag * twiddle[IMAG]),
        round_q15(value.real * twiddle[IMAG] + value.imag * twiddle[REAL]),
    };
    return product;
}

INLINE complex32 quartered_point(const frontend_bin *bin) {
    const complex32 value = {quartered(bin->part[REAL]), quartered(bin->part[IMAG])};
    return value;
}

INLINE void store(frontend_bin *bin, int32_t real, int32_t imag) {
    bin->part[REAL] = (int16_t)real;
    bin->part[IMAG] = (int16_t)imag;
}

// One radix-4 butterfly of the points at distance `span`; twiddles: w^k, w^2k, w^3k.
INLINE void butterfly4(frontend_bin *point, uint32_t span, const int16_t *twiddles) {
    const complex32 a = quartered_point(point);
    const complex32 b = times_twiddle(quartered_point(point + span), twiddles);
    const complex32 c = times_twiddle(quartered_point(point + 2 * span), twiddles + 2);
    const complex32 d = times_twiddle(quartered_point(point + 3 * span), twiddles + 4);
    const complex32 even = {a.real + c.real, a.imag + c.imag}, odd = {a.real - c.real, a.imag - c.imag};
    const complex32 sum = {b.real + d.real, b.imag + d.imag}, difference = {b.real - d.real, b.imag - d.imag};
    store(point, even.real + sum.real, even.imag + sum.imag);
    store(point + span, odd.real + difference.imag, odd.imag - difference.real);
    store(point + 2 * span, even.real - sum.real, even.imag - sum.imag);
    store(point + 3 * span, odd.real - difference.imag, odd.imag + difference.real);
}

#if FRONTEND_FFT_RADIX2
// The first stage where the number of points is no power of 4; its only twiddle is 1 (32767 / 32768).
static void stage2(frontend_bin *bins) {
    for (uint32_t point = 0; point < FRONTEND_FFT_POINTS; point += 2) {
        const int32_t real = halved(bins[point].part[REAL]), imag = halved(bins[point].part[IMAG]);
        const int32_t other_real = round_q15(halved(bins[point + 1].part[REAL]) * ONE_AS_Q15);
        const int32_t other_imag = round_q15(halved(bins[point + 1].part[IMAG]) * ONE_AS_Q15);
        store(bins + point, real + other_real, imag + other_imag);
        store(bins + point + 1, real - other_real, imag - other_imag);
    }
}
#endif

// Energies of bins k and FFT_POINTS - k of the real signal, whose even samples were the real, odd the imaginary parts.
INLINE void split(frontend_bin *low, frontend_bin *high, const int16_t *twiddle) {
    const int32_t low_real = halved(low->part[REAL]), low_imag = halved(low->part[IMAG]);
    const int32_t high_real = halved(high->part[REAL]), high_imag = halved((int16_t)-high->part[IMAG]);
    const complex32 sum = {low_real + high_real, low_imag + high_imag};
    const complex32 difference = {low_real - high_real, low_imag - high_imag};
    const complex32 turned = times_twiddle(difference, twiddle);
    const int16_t turned_real = (int16_t)turned.real, turned_imag = (int16_t)turned.imag;
    const int32_t below_real = (sum.real + turned_real) >> 1, below_imag = (sum.imag + turned_imag) >> 1;
    const int32_t above_real = (sum.real - turned_real) >> 1, above_imag = (turned_imag - sum.imag) >> 1;
    low->energy = (int32_t)((uint32_t)(below_real * below_real) + (uint32_t)(below_imag * below_imag));
    high->energy = (int32_t)((uint32_t)(above_real * above_real) +
                             (uint32_t)(above_imag * above_imag));  // the middle bin keeps this
}

void frontend_fft_energy(frontend_bin *bins, uint32_t shift) {
    const int16_t *twiddles = frontend_fft_twiddles;
    uint32_t span = 1;
    shift_left(bins, shift);
#if FRONTEND_FFT_RADIX2
    stage2(bins);
    span = 2;
#endif
    for (; span < FRONTEND_FFT_POINTS; span *= 4) {
        for (uint32_t k = 0; k < span; ++k, twiddles += 6) {
            for (uint32_t point = k; point < FRONTEND_FFT_POINTS; point += 4 * span) {
                butterfly4(bins + point, span, twiddles);
            }
        }
    }
    for (uint32_t k = 1; k <= FRONTEND_FFT_POINTS / 2; ++k) {
        split(bins + k, bins + FRONTEND_FFT_POINTS - k, frontend_fft_split + 2 * (k - 1));
    }
}

#endif
#endif
