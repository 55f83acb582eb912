// CONV_2D of 3 x 3 and stride 1 by Winograd's F(2x2, 3x3) in exact integers (Lavin and Gray, arXiv 1509.09308): tiles
// of 2 x 2 outputs take 16 products per channel where the definition takes 36. Weights are (2G) g (2G)^T, so that no
// half appears; sums come out four times as large. Transformed inputs are sums of four int8 values, transformed weights
// of nine: both fit int16, the rest is exact modulo 2**32.
#include "nn_optimize.h"
NN_OPTIMIZE("O3")

#include "nn_requant.h"

#define POINTS 16
#define TILES NN_WINOGRAD_TILES
#define COLUMNS (2 * TILES + 2)

static void combine(const uint32_t *d, int32_t step, uint32_t *to, int32_t to_step) {
    to[0] = nn_ssub16(d[0], d[2 * step]);
    to[to_step] = nn_sadd16(d[step], d[2 * step]);
    to[2 * to_step] = nn_ssub16(d[2 * step], d[step]);
    to[3 * to_step] = nn_ssub16(d[step], d[3 * step]);
}

// B^T d B of four tiles; what converter/aot/kernels/winograd_asm.py's transform() does.
static void transform_in(const nn_winograd_layer *l, const nn_winograd_args *args) {
    const int32_t taps = l->in_c / 2, row_bytes = NN_WINOGRAD_COLUMNS(l->out_w) * l->in_c;
    for (int32_t tap = 0; tap < taps; tap += 2) {
        uint32_t mixed[2][4][COLUMNS];
        for (int32_t column = 0; column < COLUMNS; column++) {
            uint32_t d[2][4];
            for (int32_t row = 0; row < 4; row++) {
                const uint32_t bytes = nn_load4(args->rows + row * row_bytes + column * l->in_c + 2 * tap);
                d[0][row] = nn_sxtb16(bytes), d[1][row] = nn_sxtb16_ror8(bytes);
            }
            for (int32_t part = 0; part < 2; part++) {
                combine(d[part], 1, &mixed[part][0][column], COLUMNS);
            }
        }
        for (int32_t part = 0; part < 2; part++) {
            for (int32_t row = 0; row < 4; row++) {
                for (int32_t tile = 0; tile < TILES; tile++) {
                    combine(&mixed[part][row][2 * tile], 1, args->v + (4 * row * TILES + tile) * taps + tap + part,
                            TILES * taps);
                }
            }
        }
    }
}

// Both channels of a pair at all points of four tiles: [point][channel][tile].
static const int32_t *products(const nn_winograd_layer *l, const uint32_t *v, const int32_t *w,
                               int32_t m[POINTS][2][TILES]) {
    const int32_t taps = l->in_c / 2;
    for (int32_t point = 0; point < POINTS; point++, w += 2 + 2 * taps, v += TILES * taps) {
        for (int32_t i = 0; i < 2 * TILES; i++) {
            const int32_t channel = i / TILES, tile = i % TILES;
            int32_t sum = w[channel];
            for (int32_t tap = 0; tap < taps; tap++) {
                sum = nn_smlad(v[tile * taps + tap], (uint32_t)w[2 + 2 * tap + channel], sum);
            }
            m[point][channel][tile] = sum;
        }
    }
    return w;
}

// a + b + c and a - b - c modulo 2**32, as the assembly's: only the outputs are known to fit.
static int32_t plus(int32_t a, int32_t b, int32_t c) { return (int32_t)((uint32_t)a + (uint32_t)b + (uint32_t)c); }

static int32_t minus(int32_t a, int32_t b, int32_t c) { return (int32_t)((uint32_t)a - (uint32_t)b - (uint32_t)c); }

// A^T m A of one tile and channel, rounded; what follows in multiply().
static void transform_out(const nn_winograd_layer *l, int32_t m[POINTS][2][TILES], int32_t channel, int32_t tile,
                          const int32_t *constants, int8_t *upper, int8_t *lower) {
    int32_t rows[2][4];
    for (int32_t q = 0; q < 4; q++) {
        rows[0][q] = plus(m[q][channel][tile], m[4 + q][channel][tile], m[8 + q][channel][tile]);
        rows[1][q] = minus(m[4 + q][channel][tile], m[8 + q][channel][tile], m[12 + q][channel][tile]);
    }
    for (int32_t row = 0; row < 2; row++) {
        const int32_t *r = rows[row];
        const int32_t y[2] = {plus(r[0], r[1], r[2]), minus(r[1], r[2], r[3])};
        for (int32_t i = 0; i < 2; i++) {
            const int32_t sum = l->shift ? y[i] : y[i] >> 1;
            (row ? lower : upper)[i * l->out_c] =
                nn_round_scaled(sum, constants[0], constants[1], l->shift, l->out_zero);
        }
    }
}

static void multiply(const nn_winograd_layer *l, const nn_winograd_args *args) {
    const int32_t *w = args->weights;
    for (int32_t pair = 0; pair < l->out_c; pair += 2, w += 4) {
        int32_t m[POINTS][2][TILES];
        w = products(l, args->v, w, m);
        for (int32_t i = 0; i < 2 * TILES; i++) {
            const int32_t channel = i / TILES, tile = i % TILES;
            int8_t *out = args->out + pair + channel + 2 * tile * l->out_c;
            transform_out(l, m, channel, tile, w + 2 * channel, out, out + args->out_row);
        }
    }
}

// Rows y.. of the input with a border of the zero point round it, as wide as whole blocks want.
static void fill_rows(const nn_winograd_layer *l, const int8_t *in, int32_t y, int8_t *rows) {
    const int32_t row_bytes = NN_WINOGRAD_COLUMNS(l->out_w) * l->in_c, left = l->pad_left * l->in_c;
    const int32_t room = row_bytes - left, all = l->in_w * l->in_c;
    for (int32_t row = 0; row < 4; row++, rows += row_bytes) {
        memset(rows, l->in_zero, (size_t)row_bytes);
        if (y + row >= 0 && y + row < l->in_h) {
            memcpy(rows + left, in + (y + row) * all, (size_t)(all < room ? all : room));
        }
    }
}

void nn_winograd_s8(const nn_winograd_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    const int32_t out_row = l->out_w * l->out_c, spare_row = 2 * TILES * l->out_c;
    nn_winograd_args args = {.v = (uint32_t *)scratch, .weights = l->weights};
    int8_t *const spare = (int8_t *)(args.v + POINTS * TILES * (l->in_c / 2)), *const rows = spare + 2 * spare_row;
    for (int32_t y = 0; y < l->out_h; y += 2) {
        fill_rows(l, in, y - l->pad_top, rows);
        for (int32_t x = 0; x < l->out_w; x += 2 * TILES) {
            const int32_t left = l->out_w - x, whole = left >= 2 * TILES && y + 1 < l->out_h;
            int8_t *to = out + y * out_row + x * l->out_c;
            args.rows = rows + x * l->in_c;
            args.out = whole ? to : spare, args.out_row = whole ? out_row : spare_row;
            if (l->code) {
                l->code->block[0](&args);
                l->code->block[1](&args);
            } else {
                transform_in(l, &args);
                multiply(l, &args);
            }
            for (int32_t row = 0; !whole && row < 2 && y + row < l->out_h; row++) {
                memcpy(to + row * out_row, spare + row * spare_row,
                       (size_t)((left < 2 * TILES ? left : 2 * TILES) * l->out_c));
            }
        }
    }
}
