// ADD: both inputs are scaled to twice the larger scale with 20 bits below the point, added and scaled to the output.
#include "nn_optimize.h"
NN_OPTIMIZE("O3")

#include "nn_requant.h"

enum { FRACTION_BITS = 20 };

void nn_add_s8(const nn_add_layer *l, const int8_t *a, const int8_t *b, int8_t *out) {
    for (int32_t i = 0; i < l->count; i++) {
        const int32_t scaled_a = nn_scale((a[i] - l->zero_a) * (1 << FRACTION_BITS), l->multiplier_a, l->shift_a);
        const int32_t scaled_b = nn_scale((b[i] - l->zero_b) * (1 << FRACTION_BITS), l->multiplier_b, l->shift_b);
        const int32_t sum = nn_scale(scaled_a + scaled_b, l->multiplier_out, l->shift_out) + l->out_zero;
        out[i] = (int8_t)nn_clamp(sum, l->act_min, l->act_max);
    }
}

// A value below 2**30 in magnitude times multiplier * 2**(shift - 31), shift <= 0. `last` is -shift - 1, or -1 when
// nothing is to be rounded after the multiplication; see nn_scale_below_2_30_twice.
NN_INLINE int32_t scale_by_smmulr(int32_t value, int32_t multiplier, int32_t last) {
    const int32_t product = nn_smmulr(2 * value, multiplier);
    return last < 0 ? product : (((product + (product >> 31)) >> last) + 1) >> 1;
}

void nn_add_s8_simd(const nn_add_layer *l, const int8_t *a, const int8_t *b, int8_t *out) {
    const nn_add_layer k = *l;  // a copy, which no store to `out` can change
    const int32_t last_a = -k.shift_a - 1, last_b = -k.shift_b - 1, last_out = -k.shift_out - 1;
    for (int32_t i = 0; i < k.count; i++) {
        const int32_t scaled_a = scale_by_smmulr((a[i] - k.zero_a) * (1 << FRACTION_BITS), k.multiplier_a, last_a);
        const int32_t scaled_b = scale_by_smmulr((b[i] - k.zero_b) * (1 << FRACTION_BITS), k.multiplier_b, last_b);
        const int32_t sum = scale_by_smmulr(scaled_a + scaled_b, k.multiplier_out, last_out) + k.out_zero;
        out[i] = (int8_t)nn_clamp(sum, k.act_min, k.act_max);
    }
}
