// ADD of an operand that repeats; nn_add.c says how the sum is scaled.
#include "nn_requant.h"

enum { FRACTION_BITS = 20 };

void nn_add_repeat_s8(const nn_add_repeat_layer *l, const int8_t *a, const int8_t *b, int8_t *out) {
    for (int32_t block = 0; block < l->blocks; block++) {
        for (int32_t j = 0; j < l->count; j++) {
            const int32_t scaled_b = nn_scale((b[j] - l->zero_b) * (1 << FRACTION_BITS), l->multiplier_b, l->shift_b);
            for (int32_t i = 0; i < l->repeat; i++) {
                const int32_t moved_a = (*a++ - l->zero_a) * (1 << FRACTION_BITS);
                const int32_t scaled_a = nn_scale(moved_a, l->multiplier_a, l->shift_a);
                const int32_t sum = nn_scale(scaled_a + scaled_b, l->multiplier_out, l->shift_out) + l->out_zero;
                *out++ = (int8_t)nn_clamp(sum, l->act_min, l->act_max);
            }
        }
    }
}

void nn_add_constant_s8(const nn_add_repeat_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
    (void)scratch;
    nn_add_repeat_s8(layer, in, layer->constant, out);
}
