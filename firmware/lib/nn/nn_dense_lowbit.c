// FULLY_CONNECTED on packed weights; its inner loop in portable C where the CPU lacks SMLAD, else
// converter/aot/kernels/low_bits/dense_lowbit_asm.py's assembly.
#include "nn_optimize.h"
NN_OPTIMIZE("O2")

#include "nn_lowbit.h"
#include "nn_requant.h"

#define OUTPUTS 4

#if NN_HAS_DSP

static void block(const nn_dense_lowbit_layer *l, const uint32_t *w, const int8_t *x, int32_t turns, int32_t *sums) {
    l->code->block(w, x, turns, sums);
}

#else

static int32_t field(uint32_t word, int32_t position, int32_t bits) {
    return (int32_t)(word >> (position * bits)) & ((1 << bits) - 1);
}

// Input i of four, output o of four; `words` are those of the four inputs.
static int32_t weight(const nn_dense_lowbit_layer *l, const uint32_t *words, int32_t i, int32_t o) {
    const int32_t lane = i / 2, odd = i % 2, sign = 1 << (l->bits - 1);
    if (l->bits == 4) {
        const int32_t found = field(words[odd], 4 * lane + o, 4);
        return o == 3 ? (found ^ sign) - sign : found - l->offset;
    }
    const int32_t turned = 2 * (2 * (o / 2) + odd);
    return o % 2 == 0 ? field(words[0], turned + 8 * lane, 2) - l->offset
                      : (field(words[0], (7 + turned + 8 * lane) % 16, 2) ^ sign) - sign;
}

static void block(const nn_dense_lowbit_layer *l, const uint32_t *w, const int8_t *x, int32_t turns, int32_t *sums) {
    for (const int8_t *end = x + NN_LOWBIT_TURN * turns; x != end; x += 4, w += l->bits / 2) {
        for (int32_t o = 0; o < OUTPUTS; o++) {
            for (int32_t i = 0; i < 4; i++) {
                sums[o] = (int32_t)((uint32_t)sums[o] + (uint32_t)(weight(l, w, i, o) * (x[i] - l->base)));
            }
        }
    }
}

#endif

void nn_dense_lowbit_s8(const nn_dense_lowbit_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    const int32_t turns = l->in_n / NN_LOWBIT_TURN, rest = l->in_n % NN_LOWBIT_TURN,
                  turn_words = NN_LOWBIT_TURN * OUTPUTS * l->bits / 32;
    int8_t last[NN_LOWBIT_TURN];
    (void)scratch;
    for (int32_t row = 0; row < l->rows; row++, in += l->in_n) {
        const uint32_t *weights = (const uint32_t *)l->weights;
        memset(last, l->base, sizeof last);
        memcpy(last, in + NN_LOWBIT_TURN * turns, (size_t)rest);
        for (int32_t c = 0; c < l->out_n; c += OUTPUTS) {
            int32_t sums[OUTPUTS] = {0, 0, 0, 0};
            if (turns > 0) {
                block(l, weights, in, turns, sums);
                weights += turns * turn_words;
            }
            if (rest > 0) {
                block(l, weights, last, 1, sums);
                weights += turn_words;
            }
            for (int32_t i = 0; i < OUTPUTS && c + i < l->out_n; i++) {
                const int32_t sum = (int32_t)((uint32_t)sums[i] + (uint32_t)l->channels[c + i].bias);
                nn_requantize_pixels(&l->output, &l->channels[c + i], &sum, 1, 1, out++);
            }
        }
    }
}
