// DEPTHWISE_CONV_2D with multiplier 1, four channels at a time: SXTAB16 widens them and takes in_zero away, SMLABB and
// SMLATT multiply the lower and upper halves.
#include "nn_optimize.h"
NN_OPTIMIZE("O3")

#include "nn_requant.h"

#define GROUP 4

typedef struct {
    int32_t rows, columns;   // taps inside the input
    int32_t step, row_step;  // bytes of input from one column to the next, from one row to the next
    int32_t weight_row;      // bytes of weights of a whole kernel row of one group
    uint32_t offset;         // -in_zero, twice
} taps;

// One tap of four channels.
NN_INLINE void tap4(const int8_t *in, const int8_t *w, uint32_t offset, int32_t s[GROUP]) {
    const uint32_t f = nn_load_here(w), x = nn_load_here(in);
    const uint32_t x02 = nn_sxtab16(offset, x), x13 = nn_sxtab16_ror8(offset, x), w02 = nn_sxtb16(f),
                   w13 = nn_sxtb16_ror8(f);
    s[0] = nn_smlabb(x02, w02, s[0]), s[1] = nn_smlabb(x13, w13, s[1]);
    s[2] = nn_smlatt(x02, w02, s[2]), s[3] = nn_smlatt(x13, w13, s[3]);
}

// All taps; `columns` is t->columns, as a constant where that is common.
NN_INLINE void sum_rows(const taps *t, int32_t columns, const int8_t *in, const int8_t *w, int32_t sums[GROUP]) {
    const uint32_t offset = t->offset;
    const int32_t step = t->step, row_step = t->row_step, weight_row = t->weight_row;
    int32_t s[GROUP] = {sums[0], sums[1], sums[2], sums[3]};
    for (int32_t row = t->rows; row > 0; row--, in += row_step, w += weight_row) {
        for (int32_t column = 0; column < columns; column++) {
            tap4(in + column * step, w + column * GROUP, offset, s);
        }
    }
    sums[0] = s[0], sums[1] = s[1], sums[2] = s[2], sums[3] = s[3];
}

NN_INLINE void sum4(const taps *t, const int8_t *in, const int8_t *w, int32_t sums[GROUP]) {
    if (t->columns == 3) {
        sum_rows(t, 3, in, w, sums);
    } else if (t->columns == 2) {
        sum_rows(t, 2, in, w, sums);
    } else {
        sum_rows(t, t->columns, in, w, sums);
    }
}

// The same for one channel, the `lane`-th of its group.
static int32_t sum1(const nn_conv_layer *l, const taps *t, const int8_t *in, const int8_t *w, int32_t sum) {
    for (int32_t row = t->rows; row > 0; row--, in += t->row_step, w += t->weight_row) {
        for (int32_t column = 0; column < t->columns; column++) {
            sum = nn_smlabb((uint32_t)(in[column * t->step] - l->in_zero), (uint32_t)(int32_t)w[column * GROUP], sum);
        }
    }
    return sum;
}

// All channels of one output pixel; `in` and `w` point at the first tap inside the input.
static void convolve_pixel(const nn_conv_layer *l, const taps *t, const int8_t *in, const int8_t *w, int8_t *out) {
    const nn_output *o = &l->output;
    const nn_channel *channel = l->channels;
    const int plain = o->sum_below_2_30 && nn_unclamped(o);
    const int32_t zero = 2 * o->out_zero + 1;
    const int32_t filter = l->kernel_h * l->kernel_w * GROUP;
    int32_t left = l->out_c;
    for (; left >= GROUP; left -= GROUP, channel += GROUP, in += GROUP, w += filter, out += GROUP) {
        int32_t sums[GROUP] = {channel[0].bias, channel[1].bias, channel[2].bias, channel[3].bias};
        sum4(t, in, w, sums);
        for (int32_t i = 0; i < GROUP; i++) {
            if (plain) {
                nn_requantize_full(channel + i, zero, sums + i, 1, 1, out + i);
            } else {
                nn_requantize_pixels(o, channel + i, sums + i, 1, 1, out + i);
            }
        }
    }
    for (int32_t lane = 0; lane < left; lane++) {
        const int32_t sum = sum1(l, t, in + lane, w + lane, channel[lane].bias);
        nn_requantize_pixels(o, channel + lane, &sum, 1, 1, out + lane);
    }
}

void nn_depthwise_s8_simd(const nn_conv_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    taps t = {.step = l->in_c, .row_step = l->in_w * l->in_c, .weight_row = l->kernel_w * GROUP};
    t.offset = nn_pair(-l->in_zero, -l->in_zero);
    (void)scratch;
    for (int32_t oy = 0; oy < l->out_h; oy++) {
        const int32_t y0 = oy * l->stride_h - l->pad_top, ky = y0 < 0 ? -y0 : 0;
        t.rows = (l->in_h - y0 < l->kernel_h ? l->in_h - y0 : l->kernel_h) - ky;
        for (int32_t ox = 0; ox < l->out_w; ox++, out += l->out_c) {
            const int32_t x0 = ox * l->stride_w - l->pad_left, kx = x0 < 0 ? -x0 : 0;
            const int8_t *first = in + ((y0 + ky) * l->in_w + x0 + kx) * l->in_c;
            t.columns = (l->in_w - x0 < l->kernel_w ? l->in_w - x0 : l->kernel_w) - kx;
            convolve_pixel(l, &t, first, l->weights + (ky * l->kernel_w + kx) * GROUP, out);
        }
    }
}
