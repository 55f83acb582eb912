// CONV_2D by SMLAD: the patches of four output pixels are widened to int16 side by side, then each pair of output channels
// runs over them, two multiplications an instruction. Kernel rows that lie in the padding of all four pixels are left out.
#include "nn_requant.h"

#define PIXELS NN_CONV_SIMD_PIXELS

_Static_assert(PIXELS == 4, "dot() and requantize_block() are written out for four pixels");

typedef struct {
    int32_t row_bytes;  // kernel_w * in_c
    int32_t row_pairs;  // pairs of int16 of one kernel row, the last padded
    int32_t ky_low, ky_high;  // kernel rows that meet the input for at least one of the pixels
    uint32_t offset;  // -in_zero, twice
    int8_t *edge;  // a kernel row that sticks out at a side, completed
} patch;

// n int8 values as int16 pairs, each PIXELS words after the one before, in the order nn.h states.
static void widen_row(const int8_t *from, int32_t n, uint32_t offset, uint32_t *to)
{
    const int32_t zero = -(int32_t)(int16_t)(uint16_t)offset;
    for (; n >= 4; n -= 4, from += 4, to += 2 * PIXELS) {
        const uint32_t four = nn_load4(from);
        to[0] = nn_sxtab16(offset, four);
        to[PIXELS] = nn_sxtab16_ror8(offset, four);
    }
    if (n >= 2) {
        *to = nn_pair(from[0] - zero, from[1] - zero);
        from += 2, n -= 2, to += PIXELS;
    }
    if (n != 0) {
        *to = nn_pair(from[0] - zero, 0);
    }
}

static void zero_row(int32_t pairs, uint32_t *to)
{
    for (; pairs > 0; pairs--, to += PIXELS) {
        *to = 0;
    }
}

// The kernel row that starts at column x0 of the input row, completed by in_zero where it sticks out.
static const int8_t *complete_row(const nn_conv_layer *l, const patch *p, const int8_t *in_row, int32_t x0)
{
    const int32_t left = x0 < 0 ? -x0 * l->in_c : 0;
    const int32_t end = l->in_w - x0 < l->kernel_w ? (l->in_w - x0) * l->in_c : p->row_bytes;
    if (left == 0 && end == p->row_bytes) {
        return in_row + x0 * l->in_c;
    }
    memset(p->edge, l->in_zero, (size_t)p->row_bytes);
    memcpy(p->edge + left, in_row + (x0 < 0 ? 0 : x0 * l->in_c), (size_t)(end - left));
    return p->edge;
}

// The patch of the output pixel (oy, ox) into every PIXELS-th word from `to` on.
static void gather(const nn_conv_layer *l, const patch *p, const int8_t *in, int32_t oy, int32_t ox, uint32_t *to)
{
    const int32_t x0 = ox * l->stride_w - l->pad_left;
    to += PIXELS * p->row_pairs * p->ky_low;
    for (int32_t ky = p->ky_low; ky < p->ky_high; ky++, to += PIXELS * p->row_pairs) {
        const int32_t y = oy * l->stride_h - l->pad_top + ky;
        if (y < 0 || y >= l->in_h) {
            zero_row(p->row_pairs, to);
        } else {
            widen_row(complete_row(l, p, in + y * l->in_w * l->in_c, x0), p->row_bytes, p->offset, to);
        }
    }
}

// sums[pixel] += channel a, sums[PIXELS + pixel] += channel b, over `pairs` words of weights.
NN_INLINE void dot(const int8_t *weights, const uint32_t *x, int32_t pairs, int32_t sums[2 * PIXELS])
{
    int32_t a0 = sums[0], a1 = sums[1], a2 = sums[2], a3 = sums[3];
    int32_t b0 = sums[4], b1 = sums[5], b2 = sums[6], b3 = sums[7];
    for (const uint32_t *end = x + PIXELS * pairs; x != end; x += PIXELS, weights += 4) {
        const uint32_t four = nn_load4(weights);
        const uint32_t wa = nn_sxtb16(four), wb = nn_sxtb16_ror8(four);
        a0 = nn_smlad(wa, x[0], a0), b0 = nn_smlad(wb, x[0], b0);
        a1 = nn_smlad(wa, x[1], a1), b1 = nn_smlad(wb, x[1], b1);
        a2 = nn_smlad(wa, x[2], a2), b2 = nn_smlad(wb, x[2], b2);
        a3 = nn_smlad(wa, x[3], a3), b3 = nn_smlad(wb, x[3], b3);
    }
    sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
    sums[4] = b0, sums[5] = b1, sums[6] = b2, sums[7] = b3;
}

// `count` pixels of one channel, out_c bytes apart.
static void requantize_pixels(const nn_conv_layer *l, const nn_channel *channel, const int32_t *sums, int32_t count, int8_t *out)
{
    const nn_output *o = &l->output;
    const int32_t multiplier = channel->multiplier, exponent = -channel->shift;
    if (o->bounded && o->act_min == -128 && o->act_max == 127) {
        for (; count > 0; count--, out += l->out_c) {
            *out = (int8_t)nn_ssat8(nn_scale_bounded(*sums++, multiplier, exponent) + o->out_zero);
        }
    } else if (o->bounded) {
        for (; count > 0; count--, out += l->out_c) {
            *out = (int8_t)nn_clamp(nn_scale_bounded(*sums++, multiplier, exponent) + o->out_zero, o->act_min, o->act_max);
        }
    } else {
        for (; count > 0; count--, out += l->out_c) {
            *out = nn_requantize(*sums++, channel, o);
        }
    }
}

// All channels of `count` gathered pixels.
static void convolve_block(const nn_conv_layer *l, const patch *p, const uint32_t *columns, int32_t count, int8_t *out)
{
    const int32_t filter_pairs = l->kernel_h * p->row_pairs, skipped = p->ky_low * p->row_pairs;
    const int32_t pairs = (p->ky_high - p->ky_low) * p->row_pairs;
    const int8_t *weights = l->weights + 4 * skipped;
    const uint32_t *x = columns + PIXELS * skipped;
    for (int32_t c = 0; c < l->out_c; c += 2, weights += 4 * filter_pairs) {
        const nn_channel *a = &l->channels[c], *b = c + 1 < l->out_c ? a + 1 : a;
        int32_t sums[2 * PIXELS] = {a->bias, a->bias, a->bias, a->bias, b->bias, b->bias, b->bias, b->bias};
        dot(weights, x, pairs, sums);
        requantize_pixels(l, a, sums, count, out + c);
        if (b != a) {
            requantize_pixels(l, b, sums + PIXELS, count, out + c + 1);
        }
    }
}

void nn_conv_s8_simd(const nn_conv_layer *l, const int8_t *in, int8_t *out, void *scratch)
{
    const int32_t pixels = l->out_h * l->out_w;
    uint32_t *columns = (uint32_t *)scratch;
    patch p = {.row_bytes = l->kernel_w * l->in_c, .row_pairs = (l->kernel_w * l->in_c + 1) / 2, .offset = nn_pair(-l->in_zero, -l->in_zero)};
    p.edge = (int8_t *)(columns + PIXELS * p.row_pairs * l->kernel_h);
    for (int32_t done = 0, oy = 0, ox = 0; done < pixels; done += PIXELS) {
        const int32_t count = pixels - done < PIXELS ? pixels - done : PIXELS;
        const int32_t last_oy = (done + count - 1) / l->out_w;
        const int32_t below = l->in_h + l->pad_top - oy * l->stride_h, above = l->pad_top - last_oy * l->stride_h;
        p.ky_low = above > 0 ? above : 0;
        p.ky_high = below < l->kernel_h ? below : l->kernel_h;
        for (int32_t pixel = 0; pixel < PIXELS; pixel++) {
            gather(l, &p, in, oy, ox, columns + pixel);
            if (pixel < count - 1 || count == PIXELS) {  // past the end the last pixel is taken again
                ox++;
            }
            if (ox == l->out_w) {
                ox = 0, oy++;
            }
        }
        convolve_block(l, &p, columns, count, out + done * l->out_c);
    }
}
