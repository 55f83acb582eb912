// FULLY_CONNECTED by SMLAD: four outputs at a time on int8 weights; both sides are widened by SXTB16, which picks the
// same bytes of each.
#include "nn_optimize.h"
NN_OPTIMIZE("O3")

#include "nn_requant.h"

#define OUTPUTS NN_DENSE_SIMD_OUTPUTS

_Static_assert(OUTPUTS == 4, "dot() is written out for four outputs");

// sums[r] += row r . the four values of x; w points at four weights of each row.
NN_INLINE void four_values(uint32_t x, const int8_t *w, int32_t s[OUTPUTS]) {
    const uint32_t f0 = nn_load_here(w), f1 = nn_load_here(w + 4), f2 = nn_load_here(w + 8), f3 = nn_load_here(w + 12);
    const uint32_t even = nn_sxtb16(x), odd = nn_sxtb16_ror8(x);
    s[0] = nn_smlad(odd, nn_sxtb16_ror8(f0), nn_smlad(even, nn_sxtb16(f0), s[0]));
    s[1] = nn_smlad(odd, nn_sxtb16_ror8(f1), nn_smlad(even, nn_sxtb16(f1), s[1]));
    s[2] = nn_smlad(odd, nn_sxtb16_ror8(f2), nn_smlad(even, nn_sxtb16(f2), s[2]));
    s[3] = nn_smlad(odd, nn_sxtb16_ror8(f3), nn_smlad(even, nn_sxtb16(f3), s[3]));
}

static void dot(const int8_t *w, const int8_t *x, int32_t n, int32_t sums[OUTPUTS]) {
    int32_t s[OUTPUTS] = {sums[0], sums[1], sums[2], sums[3]};
    for (const int8_t *whole = x + (n & ~3); x != whole; x += 4, w += 4 * OUTPUTS) {
        four_values(nn_load4(x), w, s);
    }
    if (n % 4 != 0) {
        uint32_t rest = 0;
        memcpy(&rest, x, (size_t)(n % 4));
        four_values(rest, w, s);
    }
    sums[0] = s[0], sums[1] = s[1], sums[2] = s[2], sums[3] = s[3];
}

void nn_dense_s8_simd(const nn_dense_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    const int32_t block_bytes = (l->in_n + 3) / 4 * 4 * OUTPUTS;
    (void)scratch;
    for (int32_t row = 0; row < l->rows; row++, in += l->in_n) {
        const int8_t *weights = l->weights;
        for (int32_t c = 0; c < l->out_n; c += OUTPUTS, weights += block_bytes) {
            const int32_t count = l->out_n - c < OUTPUTS ? l->out_n - c : OUTPUTS;
            int32_t sums[OUTPUTS] = {0, 0, 0, 0};
            dot(weights, in, l->in_n, sums);
            for (int32_t i = 0; i < count; i++) {
                const int32_t sum = (int32_t)((uint32_t)sums[i] + (uint32_t)l->channels[c + i].bias);
                nn_requantize_pixels(&l->output, &l->channels[c + i], &sum, 1, 1, out++);
            }
        }
    }
}
