// CONV_2D by SMLAD, any shape: the patches of three output pixels are widened to int16 side by side, then each pair of
// output channels runs over them, two multiplications an instruction. Kernel rows that lie in the padding of all three
// pixels are left out.
#include "nn_optimize.h"
NN_OPTIMIZE("O3")

#include "nn_requant.h"

#define PIXELS NN_CONV_SIMD_PIXELS

_Static_assert(PIXELS == 3, "STEP and dot() are written out for three pixels");

typedef struct {
    int32_t row_bytes;        // kernel_w * in_c
    int32_t row_pairs;        // pairs of int16 of one kernel row, the last padded
    int32_t ky_low, ky_high;  // kernel rows that meet the input for at least one of the pixels
    uint32_t offset;          // -in_zero, twice
    int8_t *edge;             // a kernel row that sticks out at a side, completed
} patch;

// n int8 values as int16 pairs, each PIXELS words after the one before, in the order nn.h states.
static void widen_row(const int8_t *from, int32_t n, uint32_t offset, uint32_t *to) {
    const int32_t zero = -(int32_t)(int16_t)(uint16_t)offset;
    for (; n >= 16; n -= 16, from += 16, to += 8 * PIXELS) {
        const uint32_t a = nn_load_here(from), b = nn_load_here(from + 4), c = nn_load_here(from + 8),
                       d = nn_load_here(from + 12);
        to[0] = nn_sxtab16(offset, a), to[PIXELS] = nn_sxtab16_ror8(offset, a);
        to[2 * PIXELS] = nn_sxtab16(offset, b), to[3 * PIXELS] = nn_sxtab16_ror8(offset, b);
        to[4 * PIXELS] = nn_sxtab16(offset, c), to[5 * PIXELS] = nn_sxtab16_ror8(offset, c);
        to[6 * PIXELS] = nn_sxtab16(offset, d), to[7 * PIXELS] = nn_sxtab16_ror8(offset, d);
    }
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

static void zero_row(int32_t pairs, uint32_t *to) {
    for (; pairs > 0; pairs--, to += PIXELS) {
        *to = 0;
    }
}

// The kernel row that starts at column x0 of the input row; what sticks out at the sides is zero.
static void widen_clipped(const nn_conv_layer *l, const patch *p, const int8_t *in_row, int32_t x0, uint32_t *to) {
    const int32_t left = x0 < 0 ? -x0 * l->in_c : 0;
    const int32_t end = l->in_w - x0 < l->kernel_w ? (l->in_w - x0) * l->in_c : p->row_bytes;
    const int8_t *first = in_row + (x0 < 0 ? 0 : x0 * l->in_c);
    if (left % 4 == 0 &&
        (end % 4 == 0 || end == p->row_bytes)) {  // whole groups, so that the order of the pairs is kept
        zero_row(left / 2, to);
        widen_row(first, end - left, p->offset, to + PIXELS * (left / 2));
        zero_row(p->row_pairs - (end + 1) / 2, to + PIXELS * ((end + 1) / 2));
    } else {
        memset(p->edge, l->in_zero, (size_t)p->row_bytes);
        memcpy(p->edge + left, first, (size_t)(end - left));
        widen_row(p->edge, p->row_bytes, p->offset, to);
    }
}

// The patch of the output pixel (oy, ox) into every PIXELS-th word from `to` on.
static void gather(const nn_conv_layer *l, const patch *p, const int8_t *in, int32_t oy, int32_t ox, uint32_t *to) {
    const int32_t x0 = ox * l->stride_w - l->pad_left;
    to += PIXELS * p->row_pairs * p->ky_low;
    for (int32_t ky = p->ky_low; ky < p->ky_high; ky++, to += PIXELS * p->row_pairs) {
        const int32_t y = oy * l->stride_h - l->pad_top + ky;
        if (y < 0 || y >= l->in_h) {
            zero_row(p->row_pairs, to);
        } else {
            widen_clipped(l, p, in + y * l->in_w * l->in_c, x0, to);
        }
    }
}

// One word of weights (a pair of taps of two channels) against that pair of every pixel.
#define STEP(w, x)                                                                                   \
    do {                                                                                             \
        const uint32_t four = nn_load_here(w);                                                       \
        const uint32_t x0 = nn_load_here(x), x1 = nn_load_here((x) + 1), x2 = nn_load_here((x) + 2); \
        const uint32_t wa = nn_sxtb16(four), wb = nn_sxtb16_ror8(four);                              \
        a0 = nn_smlad(wa, x0, a0), b0 = nn_smlad(wb, x0, b0);                                        \
        a1 = nn_smlad(wa, x1, a1), b1 = nn_smlad(wb, x1, b1);                                        \
        a2 = nn_smlad(wa, x2, a2), b2 = nn_smlad(wb, x2, b2);                                        \
    } while (0)

// sums[pixel] += channel a, sums[PIXELS + pixel] += channel b, over `pairs` words of weights.
NN_INLINE void dot(const int8_t *w, const uint32_t *x, int32_t pairs, int32_t sums[2 * PIXELS]) {
    int32_t a0 = sums[0], a1 = sums[1], a2 = sums[2], b0 = sums[3], b1 = sums[4], b2 = sums[5];
    const uint32_t *whole = x + PIXELS * (pairs & ~3), *end = x + PIXELS * pairs;
    for (; x != whole; x += 4 * PIXELS, w += 16) {
        STEP(w, x);
        STEP(w + 4, x + PIXELS);
        STEP(w + 8, x + 2 * PIXELS);
        STEP(w + 12, x + 3 * PIXELS);
    }
    for (; x != end; x += PIXELS, w += 4) {
        STEP(w, x);
    }
    sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = b0, sums[4] = b1, sums[5] = b2;
}

typedef struct {
    const nn_conv_layer *layer;
    const int8_t *weights;
    const uint32_t *x;
    int32_t filter_bytes, pairs;  // pairs of taps
    int32_t count;                // of pixels
} block;

// Channels `done`.. of the block's pixels. What the loop needs of the layer is held in locals, since the compiler must
// take it that a store to `out` changes the layer.
static void convolve_channels(const block *b, int32_t done, int8_t *out) {
    const nn_output *o = &b->layer->output;
    const int32_t out_c = b->layer->out_c, zero = 2 * o->out_zero + 1;
    const int8_t *weights = b->weights + done / 2 * b->filter_bytes;
    const nn_channel *even = b->layer->channels + done;
    const int plain = o->sum_below_2_30 && nn_unclamped(o) && b->count == PIXELS;
    out += done;
    for (int32_t left = out_c - done; left > 0; left -= 2, even += 2, weights += b->filter_bytes, out += 2) {
        const nn_channel *odd = left > 1 ? even + 1 : even;
        int32_t sums[2 * PIXELS] = {even->bias, even->bias, even->bias, odd->bias, odd->bias, odd->bias};
        dot(weights, b->x, b->pairs, sums);
        if (plain && left > 1) {
            nn_requantize_full(even, zero, sums, PIXELS, out_c, out);
            nn_requantize_full(odd, zero, sums + PIXELS, PIXELS, out_c, out + 1);
            continue;
        }
        nn_requantize_pixels(o, even, sums, b->count, out_c, out);
        if (left > 1) {
            nn_requantize_pixels(o, odd, sums + PIXELS, b->count, out_c, out + 1);
        }
    }
}

// As many channels as the assembly takes, of all pixels at once or of one after the other; how many they were.
static int32_t convolve_fast(const block *b, int8_t *out) {
    const nn_conv_layer *l = b->layer;
    const int32_t left_out = -b->pairs & (NN_CONV_STEPS - 1), step = b->count == PIXELS ? PIXELS : 1;
    if (!l->code || b->pairs <= 0) {
        return 0;
    }
    nn_conv_args args = {
        .x = b->x - PIXELS - PIXELS * left_out,
        .weights = b->weights - 4 - 4 * left_out,
        .channels = l->channels,
        .out = out,
        .pairs = l->out_c / 2,
        .filter_bytes = b->filter_bytes,
        .turns = (b->pairs + left_out) / NN_CONV_STEPS,
        .entry = left_out * NN_CONV_STEP_BYTES(step),
        .out_c = l->out_c,
        .twice_zero_plus_1 = 2 * l->output.out_zero + 1,
    };
    for (int32_t pixel = 0; pixel < b->count; pixel += step, args.x += step, args.out += step * l->out_c) {
        l->code->pixels[step == PIXELS](&args);
    }
    return l->out_c & ~1;
}

// All channels of `count` gathered pixels.
static void convolve_block(const nn_conv_layer *l, const patch *p, const uint32_t *columns, int32_t count,
                           int8_t *out) {
    const int32_t skipped = p->ky_low * p->row_pairs;
    const block b = {
        .layer = l,
        .weights = l->weights + 4 * skipped,
        .x = columns + PIXELS * skipped,
        .filter_bytes = 4 * l->kernel_h * p->row_pairs,
        .pairs = (p->ky_high - p->ky_low) * p->row_pairs,
        .count = count,
    };
    convolve_channels(&b, convolve_fast(&b, out), out);
}

void nn_conv_s8_simd(const nn_conv_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    const int32_t pixels = l->out_h * l->out_w;
    uint32_t *columns = (uint32_t *)scratch;
    patch p = {.row_bytes = l->kernel_w * l->in_c, .offset = nn_pair(-l->in_zero, -l->in_zero)};
    p.row_pairs = (p.row_bytes + 1) / 2;
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
