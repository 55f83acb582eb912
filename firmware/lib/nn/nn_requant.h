// From an int32 sum to an int8 output: TFLite's double rounding, and the short form proven equal to it.
#ifndef NN_REQUANT_H
#define NN_REQUANT_H

#include "nn.h"
#include "nn_simd.h"

// round(a * b / 2**31), halves up; not both INT32_MIN, the one case that TFLite saturates.
NN_INLINE int32_t nn_high_mul(int32_t a, int32_t b) { return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31); }

// x / 2**exponent, halves away from zero; exponent 0..31.
NN_INLINE int32_t nn_rounding_shift(int32_t x, int32_t exponent) {
    const int32_t mask = (int32_t)(((uint32_t)1 << exponent) - 1u);
    const int32_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
    return (x >> exponent) + ((x & mask) > threshold ? 1 : 0);
}

// sum * multiplier * 2**(shift - 31) as TFLite rounds it, for any sum and shift.
NN_INLINE int32_t nn_scale(int32_t sum, int32_t multiplier, int32_t shift) {
    const int32_t left = shift > 0 ? shift : 0;
    const int32_t widened = (int32_t)((uint32_t)sum << left);
    return nn_rounding_shift(nn_high_mul(widened, multiplier), left - shift);
}

NN_INLINE int32_t nn_clamp(int32_t x, int32_t low, int32_t high) { return x < low ? low : x > high ? high : x; }

NN_INLINE int8_t nn_requantize(int32_t sum, const nn_channel *channel, const nn_output *output) {
    const int32_t scaled = nn_scale(sum, channel->multiplier, channel->shift);
    const int32_t moved = (int32_t)((uint32_t)scaled + (uint32_t)output->out_zero);
    return (int8_t)nn_clamp(moved, output->act_min, output->act_max);
}

// Twice nn_scale(sum) + 2 * zero with a last bit to shift out, for |sum| < 2**30 and shift = -exponent in -31..-1. Why
// it is equal: high_mul(s, m) is (2 s m + 2**31) >> 32, which is SMMULR; halves away from zero are halves up once 1 is
// taken from what is negative; and (x + 2**(e - 1)) >> e is ((x >> (e - 1)) + 1) >> 1. twice_zero_plus_1 is 2 * zero
// + 1.
NN_INLINE int32_t nn_scale_below_2_30_twice(int32_t sum, int32_t multiplier, int32_t exponent,
                                            int32_t twice_zero_plus_1) {
    const int32_t product = nn_smmulr(2 * sum, multiplier);
    return ((product + (product >> 31)) >> (exponent - 1)) + twice_zero_plus_1;
}

// As converter/aot/kernels/asm.py's Rounding: with one `shift` for all channels, outputs from out_zero to 127, sums
// that were scaled for it and `addend_or_shift` what is added (a zero point of -128 with it); else doubled sums, any
// zero point, the full range and `addend_or_shift` the exponent less one.
NN_INLINE int8_t nn_round_scaled(int32_t sum, int32_t multiplier, int32_t addend_or_shift, int32_t shift,
                                 int32_t out_zero) {
    if (shift) {
        const int32_t zero = out_zero == -128 ? 0 : out_zero;
        return (int8_t)(nn_clamp(((int32_t)(((int64_t)sum * multiplier) >> 32) + addend_or_shift) >> shift,
                                 out_zero - zero, 127 - zero) +
                        zero);
    }
    const int32_t product = nn_smmulr(sum, multiplier);
    return (int8_t)nn_ssat8_half(((product + (product >> 31)) >> addend_or_shift) + 2 * out_zero + 1);
}

NN_INLINE int nn_unclamped(const nn_output *o) { return o->act_min == -128 && o->act_max == 127; }

// `count` sums of one channel to outputs `step` bytes apart.
void nn_requantize_pixels(const nn_output *o, const nn_channel *channel, const int32_t *sums, int32_t count,
                          int32_t step, int8_t *out);

// n int8 values minus their zero point as int16 from position `at` of `row` on, in their order; what surrounds them
// stays zero.
void nn_widen(const int8_t *from, int32_t n, int32_t zero, uint32_t *row, int32_t at);

// The same for bounded sums and the full range, what the hot loops meet nearly always; the caller holds 2 * out_zero +
// 1 at hand. A constant `count` unrolls.
NN_INLINE void nn_requantize_full(const nn_channel *channel, int32_t twice_zero_plus_1, const int32_t *sums,
                                  int32_t count, int32_t step, int8_t *out) {
    const int32_t multiplier = channel->multiplier, exponent = -channel->shift;
    for (int32_t i = 0; i < count; i++) {
        out[i * step] =
            (int8_t)nn_ssat8_half(nn_scale_below_2_30_twice(sums[i], multiplier, exponent, twice_zero_plus_1));
    }
}

#endif
