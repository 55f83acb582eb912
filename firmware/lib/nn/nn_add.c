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

// Four values. A byte in the upper half of a half word counts 256 times; sums have their integers in the upper half.
NN_INLINE uint32_t add_four(const nn_add_weighted_layer *k, uint32_t a, uint32_t b) {
    const uint32_t upper = 0xFF00FF00u, a02 = (a << 8) & upper, a13 = a & upper, b02 = (b << 8) & upper,
                   b13 = b & upper;
    const uint32_t s0 = (uint32_t)nn_smlawb(k->weight_b, b02, nn_smlawb(k->weight_a, a02, k->offset)),
                   s1 = (uint32_t)nn_smlawb(k->weight_b, b13, nn_smlawb(k->weight_a, a13, k->offset)),
                   s2 = (uint32_t)nn_smlawt(k->weight_b, b02, nn_smlawt(k->weight_a, a02, k->offset)),
                   s3 = (uint32_t)nn_smlawt(k->weight_b, b13, nn_smlawt(k->weight_a, a13, k->offset));
    return (nn_usat16(nn_pkhtb(s0, s2)) | nn_usat16(nn_pkhtb(s1, s3)) << 8) ^ 0x80808080u;
}

void nn_add_weighted_s8_simd(const nn_add_weighted_layer *l, const int8_t *a, const int8_t *b, int8_t *out) {
    const nn_add_weighted_layer k = *l;
    int32_t left = k.count;
    for (; left >= 16; left -= 16, a += 16, b += 16, out += 16) {
        for (int32_t i = 0; i < 16; i += 8) {
            const uint32_t a0 = nn_load_here(a + i), a1 = nn_load_here(a + i + 4), b0 = nn_load_here(b + i),
                           b1 = nn_load_here(b + i + 4);
            const uint32_t y0 = add_four(&k, a0, b0), y1 = add_four(&k, a1, b1);
            memcpy(out + i, &y0, 4);
            memcpy(out + i + 4, &y1, 4);
        }
    }
    for (int32_t size; left > 0; left -= size, a += size, b += size, out += size) {
        uint32_t wide_a = 0, wide_b = 0;
        size = left < 4 ? left : 4;
        memcpy(&wide_a, a, (size_t)size);
        memcpy(&wide_b, b, (size_t)size);
        const uint32_t four = add_four(&k, wide_a, wide_b);
        memcpy(out, &four, (size_t)size);
    }
}
