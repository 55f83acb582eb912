// ADD: both inputs are scaled to twice the larger scale with 20 bits below the point, added and scaled to the output.
#include "nn_requant.h"

enum { FRACTION_BITS = 20 };

void nn_add_s8(const nn_add_layer *l, const int8_t *a, const int8_t *b, int8_t *out)
{
    for (int32_t i = 0; i < l->count; i++) {
        const int32_t scaled_a = nn_scale((a[i] - l->zero_a) * (1 << FRACTION_BITS), l->multiplier_a, l->shift_a);
        const int32_t scaled_b = nn_scale((b[i] - l->zero_b) * (1 << FRACTION_BITS), l->multiplier_b, l->shift_b);
        const int32_t sum = nn_scale(scaled_a + scaled_b, l->multiplier_out, l->shift_out) + l->out_zero;
        out[i] = (int8_t)nn_clamp(sum, l->act_min, l->act_max);
    }
}

// An input below 2**28 in magnitude, doubled for SMMULR; `half` is 2**(-shift - 1), or 0 when shift is 0 and nothing is rounded.
NN_INLINE int32_t scale_by_smmulr(int32_t doubled, int32_t multiplier, int32_t shift, int32_t half)
{
    const int32_t product = nn_smmulr(doubled, multiplier);
    return half == 0 ? product : (product + (product >> 31) + half) >> -shift;
}

NN_INLINE int32_t half_of(int32_t shift)
{
    return shift == 0 ? 0 : 1 << (-shift - 1);
}

void nn_add_s8_simd(const nn_add_layer *l, const int8_t *a, const int8_t *b, int8_t *out)
{
    const int32_t half_a = half_of(l->shift_a), half_b = half_of(l->shift_b), half_out = half_of(l->shift_out);
    for (int32_t i = 0; i < l->count; i++) {
        const int32_t doubled_a = (a[i] - l->zero_a) * (1 << (FRACTION_BITS + 1));
        const int32_t doubled_b = (b[i] - l->zero_b) * (1 << (FRACTION_BITS + 1));
        const int32_t scaled_a = scale_by_smmulr(doubled_a, l->multiplier_a, l->shift_a, half_a);
        const int32_t scaled_b = scale_by_smmulr(doubled_b, l->multiplier_b, l->shift_b, half_b);
        const int32_t sum = scale_by_smmulr(2 * (scaled_a + scaled_b), l->multiplier_out, l->shift_out, half_out);
        out[i] = (int8_t)nn_clamp(sum + l->out_zero, l->act_min, l->act_max);
    }
}
