// FULLY_CONNECTED by SMLAD on int8 weights as they lie: both sides are widened by SXTB16, which picks the same bytes of each.
#include "nn_requant.h"

// sums[r] += weights of row r . x for four rows `stride` apart.
NN_INLINE void dot4(const int8_t *weights, int32_t stride, const int8_t *x, int32_t n, int32_t sums[4])
{
    const int8_t *w0 = weights, *w1 = w0 + stride, *w2 = w1 + stride, *w3 = w2 + stride;
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    for (; n >= 4; n -= 4, x += 4, w0 += 4, w1 += 4, w2 += 4, w3 += 4) {
        const uint32_t fx = nn_load4(x), f0 = nn_load4(w0), f1 = nn_load4(w1), f2 = nn_load4(w2), f3 = nn_load4(w3);
        const uint32_t even = nn_sxtb16(fx), odd = nn_sxtb16_ror8(fx);
        s0 = nn_smlad(odd, nn_sxtb16_ror8(f0), nn_smlad(even, nn_sxtb16(f0), s0));
        s1 = nn_smlad(odd, nn_sxtb16_ror8(f1), nn_smlad(even, nn_sxtb16(f1), s1));
        s2 = nn_smlad(odd, nn_sxtb16_ror8(f2), nn_smlad(even, nn_sxtb16(f2), s2));
        s3 = nn_smlad(odd, nn_sxtb16_ror8(f3), nn_smlad(even, nn_sxtb16(f3), s3));
    }
    for (; n > 0; n--, x++) {
        s0 = nn_smlabb((uint32_t)(int32_t)*w0++, (uint32_t)(int32_t)*x, s0);
        s1 = nn_smlabb((uint32_t)(int32_t)*w1++, (uint32_t)(int32_t)*x, s1);
        s2 = nn_smlabb((uint32_t)(int32_t)*w2++, (uint32_t)(int32_t)*x, s2);
        s3 = nn_smlabb((uint32_t)(int32_t)*w3++, (uint32_t)(int32_t)*x, s3);
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

static int32_t dot1(const int8_t *weights, const int8_t *x, int32_t n, int32_t sum)
{
    for (; n >= 4; n -= 4, x += 4, weights += 4) {
        const uint32_t fx = nn_load4(x), fw = nn_load4(weights);
        sum = nn_smlad(nn_sxtb16_ror8(fx), nn_sxtb16_ror8(fw), nn_smlad(nn_sxtb16(fx), nn_sxtb16(fw), sum));
    }
    for (; n > 0; n--) {
        sum = nn_smlabb((uint32_t)(int32_t)*weights++, (uint32_t)(int32_t)*x++, sum);
    }
    return sum;
}

static int8_t finish(const nn_dense_layer *l, const nn_channel *channel, int32_t sum)
{
    const nn_output *o = &l->output;
    if (!o->bounded) {
        return nn_requantize(sum, channel, o);
    }
    return (int8_t)nn_clamp(nn_scale_bounded(sum, channel->multiplier, -channel->shift) + o->out_zero, o->act_min, o->act_max);
}

void nn_dense_s8_simd(const nn_dense_layer *l, const int8_t *in, int8_t *out, void *scratch)
{
    (void)scratch;
    for (int32_t row = 0; row < l->rows; row++, in += l->in_n) {
        const int8_t *weights = l->weights;
        const nn_channel *channel = l->channels, *end = channel + l->out_n;
        for (; end - channel >= 4; channel += 4, weights += 4 * l->in_n) {
            int32_t sums[4] = {channel[0].bias, channel[1].bias, channel[2].bias, channel[3].bias};
            dot4(weights, l->in_n, in, l->in_n, sums);
            for (int32_t i = 0; i < 4; i++) {
                *out++ = finish(l, channel + i, sums[i]);
            }
        }
        for (; channel != end; channel++, weights += l->in_n) {
            *out++ = finish(l, channel, dot1(weights, in, l->in_n, channel->bias));
        }
    }
}
