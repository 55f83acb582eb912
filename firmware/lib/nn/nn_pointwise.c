// CONV_2D of 1 x 1: four pixels at a time, each widened once, then all pairs of output channels over them.
#include "nn_optimize.h"
NN_OPTIMIZE("O3")

#include "nn_requant.h"

enum { BLOCK = 4 };

// A pixel's values as the assembly pairs them: of each four (0, 2) (1, 3), of what is left (0, -), (0, 1) or (0, 2) (1,
// -).
static void widen_pixel(const int8_t *pixel, int32_t in_c, uint32_t *x) {
    int32_t left = in_c;
    for (; left >= 4; left -= 4, pixel += 4, x += 2) {
        const uint32_t four = nn_load4(pixel);
        x[0] = nn_sxtb16(four), x[1] = nn_sxtb16_ror8(four);
    }
    if (left == 3) {
        x[0] = nn_pair(pixel[0], pixel[2]), x[1] = nn_pair(pixel[1], 0);
    } else if (left > 0) {
        x[0] = nn_pair(pixel[0], left == 2 ? pixel[1] : 0);
    }
}

// What converter/aot/kernels/pointwise_asm.py writes as assembly, for one pixel.
static void portable_pixel(const nn_pointwise_layer *l, const int8_t *pixel, int8_t *out) {
    uint32_t x[NN_POINTWISE_MAX_IN_C / 2];
    const int32_t taps = (l->in_c + 1) / 2;
    const int32_t *record = l->weights;
    widen_pixel(pixel, l->in_c, x);
    for (int32_t c = 0; c < l->out_c; c += 2, record += 2 * taps + 6) {
        int32_t a = record[0], b = record[1];
        const int32_t *w = record + 2;
        for (int32_t tap = 0; tap < taps; tap++, w += 2) {
            a = nn_smlad((uint32_t)w[0], x[tap], a), b = nn_smlad((uint32_t)w[1], x[tap], b);
        }
        out[c] = nn_round_scaled(a, w[0], w[1], l->shift, l->out_zero);
        out[c + 1] = nn_round_scaled(b, w[2], w[3], l->shift, l->out_zero);
    }
}

static void run_block(const nn_pointwise_layer *l, const int8_t *in, int8_t *out, int32_t count) {
    const nn_pointwise_args args = {.in = in, .out = out, .weights = l->weights, .end = out + l->out_c};
    if (l->code) {
        l->code->block[count == BLOCK](&args);
        return;
    }
    for (int32_t pixel = 0; pixel < count; pixel++) {
        portable_pixel(l, in + pixel * l->stride_w * l->in_c, out + pixel * l->out_c);
    }
}

// `count` pixels that follow each other. The last block may begin with pixels that the one before has done.
static void run_pixels(const nn_pointwise_layer *l, const int8_t *in, int8_t *out, int32_t count) {
    for (int32_t done = 0, size; done < count; done += size) {
        size = count - done == 1 || count < BLOCK ? 1 : BLOCK;
        if (done + size > count) {
            done = count - size;
        }
        run_block(l, in + done * l->stride_w * l->in_c, out + done * l->out_c, size);
    }
}

void nn_pointwise_s8(const nn_pointwise_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    (void)scratch;
    if (l->stride_h == 1 && l->stride_w == 1) {
        run_pixels(l, in, out, l->out_h * l->out_w);
        return;
    }
    for (int32_t oy = 0; oy < l->out_h; oy++, in += l->stride_h * l->in_w * l->in_c, out += l->out_w * l->out_c) {
        run_pixels(l, in, out, l->out_w);
    }
}
