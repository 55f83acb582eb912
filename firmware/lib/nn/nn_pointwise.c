// CONV_2D whose patches hold few values, 1 x 1 above all: four pixels at a time, each widened once, then all pairs of
// output channels over them.
#include "nn_optimize.h"
NN_OPTIMIZE("O3")

#include "nn_requant.h"

enum { BLOCK = 4, RECORD = 6 };

// A row's values as the assembly pairs them: of each four (0, 2) (1, 3), of what is left (0, -), (0, 1) or (0, 2) (1,
// -).
static void widen_row(const int8_t *row, int32_t values, uint32_t *x) {
    int32_t left = values;
    for (; left >= 4; left -= 4, row += 4, x += 2) {
        const uint32_t four = nn_load4(row);
        x[0] = nn_sxtb16(four), x[1] = nn_sxtb16_ror8(four);
    }
    if (left == 3) {
        x[0] = nn_pair(row[0], row[2]), x[1] = nn_pair(row[1], 0);
    } else if (left > 0) {
        x[0] = nn_pair(row[0], left == 2 ? row[1] : 0);
    }
}

// What lies in memory where the patches are: bytes from row to row, from pixel to pixel.
typedef struct {
    const nn_pointwise_layer *layer;
    int32_t row_step, pixel_step;
    int32_t taps;    // of a pixel
    int32_t record;  // words of a pair of channels
} patches;

static patches patches_of(const nn_pointwise_layer *l, int32_t row_step) {
    const int32_t taps = l->kernel_h * ((l->kernel_w * l->in_c + 1) / 2);
    return (patches){.layer = l,
                     .row_step = row_step,
                     .pixel_step = l->stride_w * l->in_c,
                     .taps = taps,
                     .record = 2 * taps + RECORD + (l->constants ? 1 : 0)};
}

// What converter/aot/kernels/pointwise_asm.py writes as assembly, for one pixel.
static void portable_pixel(const patches *p, const int8_t *pixel, int8_t *out) {
    const nn_pointwise_layer *l = p->layer;
    uint32_t x[NN_POINTWISE_MAX_TAPS];
    const int32_t *record = l->weights;
    for (int32_t ky = 0; ky < l->kernel_h; ky++) {
        widen_row(pixel + ky * p->row_step, l->kernel_w * l->in_c, x + ky * (p->taps / l->kernel_h));
    }
    for (int32_t pair = 0; pair < l->pairs; pair++, record += p->record) {
        int32_t a = record[0], b = record[1];
        const int32_t *w = record + 2;
        for (int32_t tap = 0; tap < p->taps; tap++, w += 2) {
            a = nn_smlad((uint32_t)w[0], x[tap], a), b = nn_smlad((uint32_t)w[1], x[tap], b);
        }
        const uint32_t places = l->constants ? (uint32_t)w[4] : (uint32_t)(2 * pair) * 0x10001u + 0x10000u;
        out[places & 0xFFFFu] = nn_round_scaled(a, w[0], w[1], l->shift, l->out_zero);
        out[places >> 16] = nn_round_scaled(b, w[2], w[3], l->shift, l->out_zero);
    }
}

// A block of pixels, or one.
static void run_block(const patches *p, nn_pointwise_args *args, int32_t count) {
    const nn_pointwise_layer *l = p->layer;
    if (l->constants) {
        for (int32_t pixel = 0; pixel < count; pixel++) {
            nn_move_s8(args->out + pixel * l->out_c, l->constants, (uint32_t)l->out_c);
        }
    } else {
        args->end = args->out + l->out_c;
    }
    if (l->code) {
        l->code->block[count == BLOCK](args);
        return;
    }
    for (int32_t pixel = 0; pixel < count; pixel++) {
        portable_pixel(p, args->in + pixel * p->pixel_step, args->out + pixel * l->out_c);
    }
}

// `count` pixels that follow each other. The last block may begin with pixels that the one before has done.
static void run_pixels(const patches *p, const int8_t *in, int8_t *out, int32_t count) {
    const nn_pointwise_layer *l = p->layer;
    nn_pointwise_args args = {.weights = l->weights, .end = l->weights + l->pairs * p->record};
    for (int32_t done = 0, size; done < count; done += size) {
        size = count - done == 1 || count < BLOCK ? 1 : BLOCK;
        if (done + size > count) {
            done = count - size;
        }
        args.in = in + done * p->pixel_step, args.out = out + done * l->out_c;
        run_block(p, &args, size);
    }
}

void nn_pointwise_s8(const nn_pointwise_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    const patches p = patches_of(l, 0);
    (void)scratch;
    if (l->stride_h == 1 && l->stride_w == 1) {
        run_pixels(&p, in, out, l->out_h * l->out_w);
        return;
    }
    for (int32_t oy = 0; oy < l->out_h; oy++, in += l->stride_h * l->in_w * l->in_c, out += l->out_w * l->out_c) {
        run_pixels(&p, in, out, l->out_w);
    }
}

// Rows y.. of the input between values of the zero point, as wide as all patches of a row of outputs.
static void fill_rows(const nn_pointwise_layer *l, const int8_t *in, int32_t y, int32_t row_bytes, int8_t *rows) {
    const int32_t all = l->in_w * l->in_c, left = l->pad_left * l->in_c;
    const int32_t taken = all < row_bytes - left ? all : row_bytes - left;
    for (int32_t ky = 0; ky < l->kernel_h; ky++, y++, rows += row_bytes) {
        if (y < 0 || y >= l->in_h) {
            memset(rows, l->in_zero, (size_t)row_bytes);
            continue;
        }
        memset(rows, l->in_zero, (size_t)left);
        nn_move_s8(rows + left, in + y * all, (uint32_t)taken);
        memset(rows + left + taken, l->in_zero, (size_t)(row_bytes - left - taken));
    }
}

void nn_conv_patches_s8(const nn_pointwise_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    const int32_t row_bytes = NN_CONV_PATCHES_ROW(l->kernel_w, l->in_c, l->out_w, l->stride_w);
    const patches p = patches_of(l, row_bytes);
    for (int32_t oy = 0; oy < l->out_h; oy++, out += l->out_w * l->out_c) {
        fill_rows(l, in, oy * l->stride_h - l->pad_top, row_bytes, (int8_t *)scratch);
        run_pixels(&p, (const int8_t *)scratch, out, l->out_w);
    }
}
