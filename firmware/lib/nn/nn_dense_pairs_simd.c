// FULLY_CONNECTED by SMLAD with two outputs in each word of weights: a half word is 256 * b + a, so one SMLAD adds 256
// * b.x + a.x, and a.x, of the lower bytes widened by SXTB16, is taken away at the end. 512 inputs keep b.x within 24
// bits.
#include "nn_optimize.h"
NN_OPTIMIZE("O3")

#include "nn_requant.h"

#define OUTPUTS NN_DENSE_SIMD_OUTPUTS
#define CHUNK 512

_Static_assert(OUTPUTS == 4, "four_values() is written out for four outputs");
_Static_assert(CHUNK * 127 * 128 < 1 << 23, "the sums of a chunk fit in 24 bits");

typedef struct {
    int32_t a, both;
} pair_sums;

// Four values of x against two pairs of outputs.
NN_INLINE void four_values(uint32_t x, uint32_t p0, uint32_t p1, uint32_t q0, uint32_t q1, pair_sums *p, pair_sums *q) {
    const uint32_t even = nn_sxtb16(x), odd = nn_sxtb16_ror8(x);
    p->both = nn_smlad(odd, p1, nn_smlad(even, p0, p->both));
    q->both = nn_smlad(odd, q1, nn_smlad(even, q0, q->both));
    p->a = nn_smlad(odd, nn_sxtb16(p1), nn_smlad(even, nn_sxtb16(p0), p->a));
    q->a = nn_smlad(odd, nn_sxtb16(q1), nn_smlad(even, nn_sxtb16(q0), q->a));
}

NN_INLINE void four_loaded(const int8_t *w, const int8_t *x, pair_sums *p, pair_sums *q) {
    const uint32_t values = nn_load_here(x), p0 = nn_load_here(w), p1 = nn_load_here(w + 4), q0 = nn_load_here(w + 8),
                   q1 = nn_load_here(w + 12);
    four_values(values, p0, p1, q0, q1, p, q);
}

NN_INLINE void add_pair(const pair_sums *s, int32_t sums[2]) {
    sums[0] = (int32_t)((uint32_t)sums[0] + (uint32_t)s->a);
    sums[1] += (int32_t)((uint32_t)s->both - (uint32_t)s->a) / 256;
}

// n of at most CHUNK inputs.
static void dot(const nn_dense_code *code, const int8_t *w, const int8_t *x, int32_t n, int32_t sums[OUTPUTS]) {
    pair_sums p = {0, 0}, q = {0, 0};
    if (code && n >= NN_DENSE_TURN) {
        int32_t found[OUTPUTS] = {0, 0, 0, 0};
        const int32_t whole = n & -NN_DENSE_TURN;
        const nn_dense_args args = {.weights = w, .in = x, .turns = whole / NN_DENSE_TURN, .sums = found};
        code->pairs[0](&args);
        p.a = found[0], p.both = found[1], q.a = found[2], q.both = found[3];
        w += whole * OUTPUTS, x += whole, n -= whole;
    }
    for (const int8_t *whole = x + (n & ~7); x != whole; x += 8, w += 8 * OUTPUTS) {
        four_loaded(w, x, &p, &q);
        four_loaded(w + 4 * OUTPUTS, x + 4, &p, &q);
    }
    if (n % 8 >= 4) {
        four_loaded(w, x, &p, &q);
        x += 4, w += 4 * OUTPUTS;
    }
    if (n % 4 != 0) {
        uint32_t rest = 0;
        memcpy(&rest, x, (size_t)(n % 4));
        four_values(rest, nn_load4(w), nn_load4(w + 4), nn_load4(w + 8), nn_load4(w + 12), &p, &q);
    }
    add_pair(&p, sums);
    add_pair(&q, sums + 2);
}

void nn_dense_pairs_s8_simd(const nn_dense_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    const int32_t block_bytes = (l->in_n + 3) / 4 * 4 * OUTPUTS;
    (void)scratch;
    for (int32_t row = 0; row < l->rows; row++, in += l->in_n) {
        const int8_t *weights = l->weights;
        for (int32_t c = 0; c < l->out_n; c += OUTPUTS, weights += block_bytes) {
            const int32_t count = l->out_n - c < OUTPUTS ? l->out_n - c : OUTPUTS;
            int32_t sums[OUTPUTS] = {0, 0, 0, 0};
            for (int32_t at = 0; at < l->in_n; at += CHUNK) {
                dot(l->code, weights + at * OUTPUTS, in + at, l->in_n - at < CHUNK ? l->in_n - at : CHUNK, sums);
            }
            for (int32_t i = 0; i < count; i++) {
                const int32_t sum = (int32_t)((uint32_t)sums[i] + (uint32_t)l->channels[c + i].bias);
                nn_requantize_pixels(&l->output, &l->channels[c + i], &sum, 1, 1, out++);
            }
        }
    }
}
