// CONV_2D by SMLAD where neighbouring output pixels lie one pair of values apart (stride_w * in_c == 2): each input row
// is widened to int16 once, and five pixels slide over it, each loaded word serving all of them. The last kernel_h rows
// are kept in a ring.
#include "nn_optimize.h"
NN_OPTIMIZE("O3")

#include "nn_requant.h"

#define PIXELS NN_CONV_ROWS_PIXELS

_Static_assert(PIXELS == 5, "eight_taps() and four_taps() are written out for five pixels");

typedef struct {
    int32_t row_words;  // of one widened row: pad_left * in_c zeros, the input row, zeros; at least 2 * out_w values
                        // and a kernel row
    int32_t groups;     // groups of four weights in one kernel row
    uint32_t *ring;     // input row y lies at y % kernel_h
    int32_t rows_done;  // input rows 0..rows_done-1 have been widened
} rows_state;

// Pairs of taps w0..w3 against pixels 0..4 of the row from x on: pixel p meets pair k in word p + k.
NN_INLINE void eight_taps(const int8_t *w, const uint32_t *x, int32_t s[PIXELS]) {
    const uint32_t f = nn_load_here(w), g = nn_load_here(w + 4);
    const uint32_t w0 = nn_sxtb16(f), w1 = nn_sxtb16_ror8(f), w2 = nn_sxtb16(g), w3 = nn_sxtb16_ror8(g);
    uint32_t u = nn_load_here(x), v = nn_load_here(x + 1);
    s[0] = nn_smlad(w0, u, s[0]);
    s[0] = nn_smlad(w1, v, s[0]), s[1] = nn_smlad(w0, v, s[1]);
    u = nn_load_here(x + 2), v = nn_load_here(x + 3);
    s[0] = nn_smlad(w2, u, s[0]), s[1] = nn_smlad(w1, u, s[1]), s[2] = nn_smlad(w0, u, s[2]);
    s[0] = nn_smlad(w3, v, s[0]), s[1] = nn_smlad(w2, v, s[1]), s[2] = nn_smlad(w1, v, s[2]),
    s[3] = nn_smlad(w0, v, s[3]);
    u = nn_load_here(x + 4), v = nn_load_here(x + 5);
    s[1] = nn_smlad(w3, u, s[1]), s[2] = nn_smlad(w2, u, s[2]), s[3] = nn_smlad(w1, u, s[3]),
    s[4] = nn_smlad(w0, u, s[4]);
    s[2] = nn_smlad(w3, v, s[2]), s[3] = nn_smlad(w2, v, s[3]), s[4] = nn_smlad(w1, v, s[4]);
    u = nn_load_here(x + 6), v = nn_load_here(x + 7);
    s[3] = nn_smlad(w3, u, s[3]), s[4] = nn_smlad(w2, u, s[4]);
    s[4] = nn_smlad(w3, v, s[4]);
}

NN_INLINE void four_taps(const int8_t *w, const uint32_t *x, int32_t s[PIXELS]) {
    const uint32_t f = nn_load_here(w);
    const uint32_t w0 = nn_sxtb16(f), w1 = nn_sxtb16_ror8(f);
    uint32_t u = nn_load_here(x), v = nn_load_here(x + 1);
    s[0] = nn_smlad(w0, u, s[0]);
    s[0] = nn_smlad(w1, v, s[0]), s[1] = nn_smlad(w0, v, s[1]);
    u = nn_load_here(x + 2), v = nn_load_here(x + 3);
    s[1] = nn_smlad(w1, u, s[1]), s[2] = nn_smlad(w0, u, s[2]);
    s[2] = nn_smlad(w1, v, s[2]), s[3] = nn_smlad(w0, v, s[3]);
    u = nn_load_here(x + 4), v = nn_load_here(x + 5);
    s[3] = nn_smlad(w1, u, s[3]), s[4] = nn_smlad(w0, u, s[4]);
    s[4] = nn_smlad(w1, v, s[4]);
}

// `rows` kernel rows of `groups` groups of four taps against as many rows of the ring.
NN_INLINE void dot_rows(const int8_t *w, const uint32_t *x, int32_t rows, int32_t row_words, int32_t groups,
                        int32_t sums[PIXELS]) {
    int32_t s[PIXELS] = {sums[0], sums[1], sums[2], sums[3], sums[4]};
    for (; rows > 0; rows--, x += row_words) {
        const uint32_t *from = x;
        for (int32_t left = groups; left >= 2; left -= 2, w += 8, from += 4) {
            eight_taps(w, from, s);
        }
        if (groups % 2 != 0) {
            four_taps(w, from, s);
            w += 4;
        }
    }
    sums[0] = s[0], sums[1] = s[1], sums[2] = s[2], sums[3] = s[3], sums[4] = s[4];
}

// The kernel rows that meet one row of outputs: `rows` of them from ky_low on, the first one lying in ring slot `slot`.
typedef struct {
    int32_t ky_low, rows, slot;
} reach;

// All channels of `count` pixels from column ox on; `groups` is r->groups, as a constant where that is common. What the
// loop needs of the layer is held in locals, since the compiler must take it that a store to `out` changes the layer.
NN_INLINE void convolve_block(const nn_conv_layer *l, const rows_state *r, reach k, int32_t groups, int32_t ox,
                              int32_t count, int8_t *out) {
    const int32_t out_c = l->out_c, row_bytes = 4 * groups, filter_bytes = l->kernel_h * row_bytes,
                  row_words = r->row_words;
    const int32_t first = k.rows < l->kernel_h - k.slot ? k.rows : l->kernel_h - k.slot, second = k.rows - first;
    const uint32_t *x = r->ring + k.slot * row_words + ox, *x_second = r->ring + ox;
    const int8_t *w = l->weights + k.ky_low * row_bytes;
    const nn_channel *channel = l->channels;
    const int plain = l->output.sum_below_2_30 && nn_unclamped(&l->output) && count == PIXELS;
    const int32_t zero = 2 * l->output.out_zero + 1;
    for (const nn_channel *end = channel + out_c; channel != end; channel++, w += filter_bytes, out++) {
        const int32_t bias = channel->bias;
        int32_t sums[PIXELS] = {bias, bias, bias, bias, bias};
        dot_rows(w, x, first, row_words, groups, sums);
        if (second != 0) {  // the ring's end lies between
            dot_rows(w + first * row_bytes, x_second, second, row_words, groups, sums);
        }
        if (plain) {
            nn_requantize_full(channel, zero, sums, PIXELS, out_c, out);
        } else {
            nn_requantize_pixels(&l->output, channel, sums, count, out_c, out);
        }
    }
}

NN_INLINE void convolve_row(const nn_conv_layer *l, const rows_state *r, reach k, int32_t groups, int8_t *out) {
    for (int32_t ox = 0; ox < l->out_w; ox += PIXELS, out += PIXELS * l->out_c) {
        convolve_block(l, r, k, groups, ox, l->out_w - ox < PIXELS ? l->out_w - ox : PIXELS, out);
    }
}

void nn_conv_rows_s8_simd(const nn_conv_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    const int32_t in_row = l->in_w * l->in_c;
    rows_state r = {.groups = (l->kernel_w * l->in_c + 3) / 4, .ring = (uint32_t *)scratch};
    r.row_words = NN_CONV_ROWS_WORDS(l->kernel_w, l->in_c, l->out_w);
    for (int32_t i = 0; i < l->kernel_h * r.row_words; i++) {
        r.ring[i] = 0;
    }
    for (int32_t oy = 0; oy < l->out_h; oy++, out += l->out_w * l->out_c) {
        const int32_t y0 = oy * l->stride_h - l->pad_top, low = y0 < 0 ? 0 : y0;
        const int32_t high = y0 + l->kernel_h < l->in_h ? y0 + l->kernel_h : l->in_h;
        for (int32_t y = r.rows_done < low ? low : r.rows_done; y < high; y++) {
            nn_widen(in + y * in_row, in_row, l->in_zero, r.ring + y % l->kernel_h * r.row_words,
                     l->pad_left * l->in_c);
        }
        r.rows_done = high;
        const reach k = {.ky_low = low - y0, .rows = high - low, .slot = low % l->kernel_h};
        if (r.groups == 2) {
            convolve_row(l, &r, k, 2, out);
        } else if (r.groups == 1) {
            convolve_row(l, &r, k, 1, out);
        } else {
            convolve_row(l, &r, k, r.groups, out);
        }
    }
}
