// SOFTMAX: the exponentials come from the converter's table; the reciprocal is three Newton-Raphson steps in fixed
// point.
#include "nn_requant.h"

_Static_assert(sizeof(int) == 4, "__builtin_clz counts in 32 bits");

// x * 2**exponent, saturated.
static int32_t saturating_double(int32_t x, int32_t exponent) {
    const int32_t threshold = (int32_t)((1u << (31 - exponent)) - 1u);
    return x > threshold ? INT32_MAX : x < -threshold ? INT32_MIN : (int32_t)((uint32_t)x << exponent);
}

// 1 / (1 + x) as Q0.31 for x in [0, 1) as Q0.31; the guess and its refinements are Q2.29.
static int32_t one_over_one_plus(int32_t x) {
    const int32_t half = (int32_t)(((int64_t)x + INT32_MAX + 1) / 2);
    int32_t guess = 1515870810 + nn_high_mul(-1010580540, half);  // 48/17 - 32/17 * half
    for (int i = 0; i < 3; i++) {
        const int32_t error = (1 << 29) - nn_high_mul(half, guess);
        guess += saturating_double(nn_high_mul(guess, error), 2);
    }
    return saturating_double(guess, 1);
}

static void softmax_row(const nn_softmax_layer *l, const int8_t *in, int8_t *out) {
    int32_t largest = in[0], total = 0;
    for (int32_t i = 1; i < l->depth; i++) {
        largest = in[i] > largest ? in[i] : largest;
    }
    for (int32_t i = 0; i < l->depth; i++) {
        if (largest - in[i] < l->table_length) {
            total += nn_rounding_shift(l->exp_table[largest - in[i]], 12);  // Q12.19
        }
    }
    const int32_t headroom = __builtin_clz((unsigned)total);  // the largest value alone adds 2**19
    const int32_t reciprocal = one_over_one_plus((int32_t)(((uint32_t)total << headroom) - (1u << 31)));
    for (int32_t i = 0; i < l->depth; i++) {
        const int32_t difference = largest - in[i];
        int32_t share = 0;
        if (difference < l->table_length) {
            share = nn_rounding_shift(nn_high_mul(reciprocal, l->exp_table[difference]), 12 - headroom + 31 - 8);
        }
        out[i] = (int8_t)nn_clamp(share - 128, -128, 127);
    }
}

void nn_softmax_s8(const nn_softmax_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    (void)scratch;
    for (int32_t row = 0; row < l->rows; row++, in += l->depth, out += l->depth) {
        softmax_row(l, in, out);
    }
}
