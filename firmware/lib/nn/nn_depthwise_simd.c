// DEPTHWISE_CONV_2D with multiplier 1, four channels at a time: SXTAB16 widens them and takes in_zero away, SMLABB and SMLATT
// multiply the lower and upper halves.
#include "nn_requant.h"

typedef struct {
    int32_t rows, columns;  // taps inside the input
    int32_t row_step;  // from the last tap of one row to the first of the next, in bytes of input
    int32_t weight_step;
    uint32_t offset;
} taps;

NN_INLINE void sum4(const nn_conv_layer *l, const taps *t, const int8_t *in, const int8_t *weights, int32_t sums[4])
{
    const int32_t step = l->in_c;
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    for (int32_t row = t->rows; row > 0; row--, in += t->row_step, weights += t->weight_step) {
        for (int32_t column = t->columns; column > 0; column--, in += step, weights += step) {
            const uint32_t x = nn_load4(in), w = nn_load4(weights);
            const uint32_t x02 = nn_sxtab16(t->offset, x), x13 = nn_sxtab16_ror8(t->offset, x);
            const uint32_t w02 = nn_sxtb16(w), w13 = nn_sxtb16_ror8(w);
            s0 = nn_smlabb(x02, w02, s0), s1 = nn_smlabb(x13, w13, s1);
            s2 = nn_smlatt(x02, w02, s2), s3 = nn_smlatt(x13, w13, s3);
        }
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

static int32_t sum1(const nn_conv_layer *l, const taps *t, const int8_t *in, const int8_t *weights, int32_t sum)
{
    for (int32_t row = t->rows; row > 0; row--, in += t->row_step, weights += t->weight_step) {
        for (int32_t column = t->columns; column > 0; column--, in += l->in_c, weights += l->in_c) {
            sum = nn_smlabb((uint32_t)(*in - l->in_zero), (uint32_t)(int32_t)*weights, sum);
        }
    }
    return sum;
}

NN_INLINE int8_t finish(const nn_output *o, const nn_channel *channel, int32_t sum)
{
    if (!o->bounded) {
        return nn_requantize(sum, channel, o);
    }
    return (int8_t)nn_clamp(nn_scale_bounded(sum, channel->multiplier, -channel->shift) + o->out_zero, o->act_min, o->act_max);
}

// All channels of one output pixel; `in` and `weights` point at the first tap inside the input.
static void convolve_pixel(const nn_conv_layer *l, const taps *t, const int8_t *in, const int8_t *weights, int8_t *out)
{
    const nn_channel *channel = l->channels;
    int32_t left = l->out_c;
    for (; left >= 4; left -= 4, channel += 4, in += 4, weights += 4, out += 4) {
        int32_t sums[4] = {channel[0].bias, channel[1].bias, channel[2].bias, channel[3].bias};
        sum4(l, t, in, weights, sums);
        for (int32_t i = 0; i < 4; i++) {
            out[i] = finish(&l->output, channel + i, sums[i]);
        }
    }
    for (; left > 0; left--, channel++) {
        *out++ = finish(&l->output, channel, sum1(l, t, in++, weights++, channel->bias));
    }
}

void nn_depthwise_s8_simd(const nn_conv_layer *l, const int8_t *in, int8_t *out, void *scratch)
{
    taps t = {.offset = nn_pair(-l->in_zero, -l->in_zero)};
    (void)scratch;
    for (int32_t oy = 0; oy < l->out_h; oy++) {
        const int32_t y0 = oy * l->stride_h - l->pad_top, ky = y0 < 0 ? -y0 : 0;
        t.rows = (l->in_h - y0 < l->kernel_h ? l->in_h - y0 : l->kernel_h) - ky;
        for (int32_t ox = 0; ox < l->out_w; ox++, out += l->out_c) {
            const int32_t x0 = ox * l->stride_w - l->pad_left, kx = x0 < 0 ? -x0 : 0;
            t.columns = (l->in_w - x0 < l->kernel_w ? l->in_w - x0 : l->kernel_w) - kx;
            t.row_step = (l->in_w - t.columns) * l->in_c;
            t.weight_step = (l->kernel_w - t.columns) * l->in_c;
            const int8_t *first = in + ((y0 + ky) * l->in_w + x0 + kx) * l->in_c;
            convolve_pixel(l, &t, first, l->weights + (ky * l->kernel_w + kx) * l->in_c, out);
        }
    }
}
