// MUL, whose second operand may repeat.
#include "nn_requant.h"

void nn_mul_s8(const nn_mul_layer *l, const int8_t *a, const int8_t *b, int8_t *out) {
    for (int32_t block = 0; block < l->blocks; block++) {
        for (int32_t j = 0; j < l->count; j++) {
            const int32_t factor = b[j] - l->zero_b;
            for (int32_t i = 0; i < l->repeat; i++) {
                const int32_t product = nn_scale((*a++ - l->zero_a) * factor, l->multiplier, l->shift);
                *out++ = (int8_t)nn_clamp(product + l->out_zero, l->act_min, l->act_max);
            }
        }
    }
}

void nn_mul_constant_s8(const nn_mul_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
    (void)scratch;
    nn_mul_s8(layer, in, layer->constant, out);
}
