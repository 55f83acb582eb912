// DEPTHWISE_CONV_2D of 3 x 3 with multiplier 1 and stride 1 by SMLAD, channel by channel: the channel's plane is taken out of the input,
// widened, as words of two values that stand one above the other, with zeros round it; then two rows of outputs are made from three
// columns of two words each, all weights held in registers.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

#include "nn_depthwise_plane.h"

typedef struct {
    const nn_conv_layer *layer;
    uint32_t *plane;  // one of four; words[pair of rows][columns], row 0 of the padded plane in the first word's low half
    int32_t columns, row_pairs;
    int32_t zero;  // 2 * out_zero + 1
} plane_state;

// Two rows of a channel's input, `step` bytes from value to value; a missing row (NULL) is zeros.
NN_INLINE void take_rows(const int8_t *top, const int8_t *bottom, int32_t n, int32_t step, uint32_t offset, uint32_t *to)
{
    if (top && bottom) {
        for (; n > 0; n--, top += step, bottom += step) {
            *to++ = nn_sxtab16(offset, nn_pkhbt((uint32_t)*(const uint8_t *)top, (uint32_t)*(const uint8_t *)bottom));
        }
    } else if (top || bottom) {
        const uint32_t shift = top ? 0 : 16;
        const int8_t *one = top ? top : bottom;
        const int32_t zero = (int16_t)(uint16_t)offset;
        for (; n > 0; n--, one += step) {
            *to++ = ((uint32_t)(*one + zero) & 0xFFFFu) << shift;
        }
    } else {
        for (; n > 0; n--) {
            *to++ = 0;
        }
    }
}

static void take_plane(const plane_state *s, const int8_t *in)
{
    const nn_conv_layer *l = s->layer;
    const int32_t row = l->in_w * l->in_c;
    const uint32_t offset = nn_pair(-l->in_zero, -l->in_zero);
    uint32_t *to = s->plane + l->pad_left;
    for (int32_t y = -l->pad_top, pair = 0; pair < s->row_pairs; pair++, y += 2, to += s->columns) {
        const int8_t *top = y >= 0 && y < l->in_h ? in + y * row : 0, *bottom = y + 1 >= 0 && y + 1 < l->in_h ? in + (y + 1) * row : 0;
        take_rows(top, bottom, l->in_w, l->in_c, offset, to);
    }
}

// The planes of four channels.
static void take_four_planes(const plane_state *s, const int8_t *in)
{
    const nn_conv_layer *l = s->layer;
    const int32_t row = l->in_w * l->in_c, plane = s->row_pairs * s->columns;
    const uint32_t offset = nn_pair(-l->in_zero, -l->in_zero), nothing = 0x01010101u * (uint32_t)(l->in_zero & 0xFF);
    uint32_t *start = s->plane + l->pad_left;
    for (int32_t y = -l->pad_top, pair = 0; pair < s->row_pairs; pair++, y += 2, start += s->columns) {
        const int above = y >= 0 && y < l->in_h, below = y + 1 >= 0 && y + 1 < l->in_h;
        const int8_t *top = above ? in + y * row : (const int8_t *)&nothing, *bottom = below ? in + (y + 1) * row : (const int8_t *)&nothing;
        const int32_t top_step = above ? l->in_c : 0, bottom_step = below ? l->in_c : 0;
        uint32_t *to = start, *to2 = start + 2 * plane;
        for (int32_t n = l->in_w; n > 0; n--, top += top_step, bottom += bottom_step, to++, to2++) {
            const uint32_t t = nn_load_here(top), b = nn_load_here(bottom);
            const uint32_t low = nn_pkhbt(t, b), high = nn_pkhtb(t, b);
            to[0] = nn_sxtab16(offset, low), to[plane] = nn_sxtab16_ror8(offset, low);
            to2[0] = nn_sxtab16(offset, high), to2[plane] = nn_sxtab16_ror8(offset, high);
        }
    }
}

NN_INLINE int8_t finish(const nn_conv_layer *l, const nn_channel *channel, int32_t sum, int plain, int32_t zero)
{
    int8_t value;
    if (plain) {
        nn_requantize_full(channel, zero, &sum, 1, 1, &value);
    } else {
        nn_requantize_pixels(&l->output, channel, &sum, 1, 1, &value);
    }
    return value;
}

// Weights of one channel by column: (w0, w1) and (w1, w2).
typedef struct {
    uint32_t upper[3], lower[3];
} columns3;

NN_INLINE void convolve_plane(const plane_state *s, const nn_channel *channel, const columns3 *k, int plain, int8_t *out)
{
    const nn_conv_layer *l = s->layer;
    const nn_channel c = *channel;
    const int32_t step = l->out_c, row = l->out_w * step, columns = s->columns;
    const uint32_t u0 = k->upper[0], u1 = k->upper[1], u2 = k->upper[2], v0 = k->lower[0], v1 = k->lower[1], v2 = k->lower[2];
    const uint32_t *x = s->plane;
    for (int32_t oy = 0; oy < l->out_h; oy += 2, x += columns, out += 2 * row) {
        const int both = oy + 1 < l->out_h;
        int8_t *to = out;
        for (int32_t ox = 0; ox < l->out_w; ox++, to += step) {
            const uint32_t *p = x + ox;
            const uint32_t a0 = p[0], a1 = p[1], a2 = p[2], b0 = p[columns], b1 = p[columns + 1], b2 = p[columns + 2];
            int32_t first = nn_smlad(a0, u0, c.bias), second = nn_smlad(b0, v0, c.bias);
            first = nn_smlabt(b0, v0, first), second = nn_smlatb(a0, u0, second);
            first = nn_smlad(a1, u1, first), second = nn_smlad(b1, v1, second);
            first = nn_smlabt(b1, v1, first), second = nn_smlatb(a1, u1, second);
            first = nn_smlad(a2, u2, first), second = nn_smlad(b2, v2, second);
            first = nn_smlabt(b2, v2, first), second = nn_smlatb(a2, u2, second);
            *to = finish(l, &c, first, plain, s->zero);
            if (both) {
                to[row] = finish(l, &c, second, plain, s->zero);
            }
        }
    }
}

#if NN_HAS_DSP
// Whether the assembly took the plane.
static int convolve_fast(const plane_state *s, const nn_channel *channel, const int8_t *w, int8_t *out)
{
    const nn_conv_layer *l = s->layer;
    const int relu = l->output.out_zero == -128;
    const int32_t exponent = -channel->shift;
    if (!l->output.bounded || !nn_full_range(&l->output)) {
        return 0;
    }
    nn_plane_args args = {
        .second_row = l->out_h > 1 ? l->out_w * l->out_c : 0, .step = l->out_c, .multiplier = channel->multiplier,
        .rounding = relu ? (int32_t)(1u << (exponent - 1)) : s->zero, .exponent = relu ? exponent : exponent - 1,
        .bias = (int32_t)(2u * (uint32_t)channel->bias), .x = s->plane + 1, .row_bytes = 4 * s->columns, .span_bytes = 4 * l->out_w,
        .out = out, .rows = l->out_h,
    };
    for (int32_t i = 0; i < 3; i++, w++) {
        args.upper[i] = nn_pair(2 * w[0], 2 * w[3]), args.lower[i] = nn_pair(2 * w[3], 2 * w[6]);
    }
    if (relu) {
        nn_plane_rows_relu(&args);
    } else {
        nn_plane_rows_full(&args);
    }
    return 1;
}
#else
static int convolve_fast(const plane_state *s, const nn_channel *channel, const int8_t *w, int8_t *out)
{
    (void)s, (void)channel, (void)w, (void)out;
    return 0;
}
#endif

static void convolve_channel(const plane_state *s, int32_t c, int8_t *out)
{
    const nn_conv_layer *l = s->layer;
    const nn_channel *channel = l->channels + c;
    const int8_t *w = l->weights + 9 * c;
    columns3 k;
    if (convolve_fast(s, channel, w, out)) {
        return;
    }
    for (int32_t i = 0; i < 3; i++, w++) {
        k.upper[i] = nn_pair(w[0], w[3]), k.lower[i] = nn_pair(w[3], w[6]);
    }
    if (l->output.bounded && nn_full_range(&l->output)) {
        convolve_plane(s, channel, &k, 1, out);
    } else {
        convolve_plane(s, channel, &k, 0, out);
    }
}

void nn_depthwise_plane_s8(const nn_conv_layer *l, const int8_t *in, int8_t *out, void *scratch)
{
    plane_state s = {.layer = l, .plane = (uint32_t *)scratch, .columns = NN_PLANE_COLUMNS(l->in_w, l->out_w, l->pad_left)};
    s.row_pairs = NN_PLANE_PAIRS(l->out_h), s.zero = 2 * l->output.out_zero + 1;
    for (int32_t i = 0; i < 4 * s.row_pairs * s.columns; i++) {
        s.plane[i] = 0;
    }
    int32_t c = 0;
    for (; c + 4 <= l->out_c; c += 4) {
        s.plane = (uint32_t *)scratch;
        take_four_planes(&s, in + c);
        for (int32_t i = 0; i < 4; i++, s.plane += s.row_pairs * s.columns) {
            convolve_channel(&s, c + i, out + c + i);
        }
    }
    s.plane = (uint32_t *)scratch;
    for (; c < l->out_c; c++) {
        take_plane(&s, in + c);
        convolve_channel(&s, c, out + c);
    }
}
