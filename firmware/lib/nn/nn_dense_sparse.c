// FULLY_CONNECTED by its non-zero weights; a row in portable C where the CPU lacks SMLAD, else
// converter/aot/kernels/low_bits/dense_lowbit_asm.py's assembly.
#include "nn_optimize.h"
NN_OPTIMIZE("O2")

#include "nn_lowbit.h"
#include "nn_requant.h"

#if NN_HAS_DSP

static int32_t row_sum(const nn_dense_sparse_layer *l, const uint32_t *entries, const int8_t *x, int32_t groups) {
    return l->code->row(entries, x, groups);
}

#else

// Number i of a group's eight, unsigned.
static int32_t number(const uint32_t *words, int32_t i, int32_t bits) {
    return (int32_t)(bits == 8 ? words[i / 4] >> (8 * (i % 4)) : words[0] >> (8 * (i % 4) + 4 * (i / 4))) &
           ((1 << bits) - 1);
}

static int32_t row_sum(const nn_dense_sparse_layer *l, const uint32_t *entries, const int8_t *x, int32_t groups) {
    const int32_t distance_words = l->distance_bits / 4, sign = 1 << (l->bits - 1);
    int32_t sum = 0;
    for (; groups > 0; groups--, entries += distance_words + l->bits / 4) {
        for (int32_t i = 0; i < NN_SPARSE_GROUP; i++) {
            const int32_t weight = (number(entries + distance_words, i, l->bits) ^ sign) - sign;
            x += number(entries, i, l->distance_bits);
            sum = (int32_t)((uint32_t)sum + (uint32_t)(weight * *x));
        }
    }
    return sum;
}

#endif

void nn_dense_sparse_s8(const nn_dense_sparse_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    (void)scratch;
    for (int32_t row = 0; row < l->rows; row++, in += l->in_n) {
        const uint32_t *entries = (const uint32_t *)l->weights;
        for (int32_t c = 0; c < l->out_n; c++) {
            const int32_t groups = l->groups[c];
            int32_t sum = 0;
            if (groups > 0) {
                sum = row_sum(l, entries, in, groups);
                entries += groups * (l->distance_bits / 4 + l->bits / 4);
            }
            sum = (int32_t)((uint32_t)sum + (uint32_t)l->channels[c].bias);
            nn_requantize_pixels(&l->output, &l->channels[c], &sum, 1, 1, out++);
        }
    }
}
