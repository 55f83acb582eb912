// DEPTHWISE_CONV_2D of 3 x 3 with multiplier 1, channel by channel: four channels' planes are taken out of the input,
// widened, as words of two values that stand one above the other, with zeros round them; then each is convolved down
// its columns.
#include "nn_optimize.h"
NN_OPTIMIZE("O3")

#include "nn_requant.h"

enum { PLANES = NN_DEPTHWISE3_PLANES, RECORD = 9 };

typedef struct {
    uint32_t *planes;
    int32_t words, columns;  // of a plane
} plane_state;

// What converter/aot/kernels/depthwise_asm.py writes as assembly for four channels.
static void portable_take(const nn_depthwise3_layer *l, const plane_state *s, const nn_depthwise3_args *args) {
    const int32_t row = l->in_w * l->channels, room = s->columns - l->pad_left, taken = l->in_w < room ? l->in_w : room;
    for (int32_t channel = 0; channel < args->channels; channel++) {
        for (int32_t pair = 0, y = args->y; pair < args->pairs; pair++, y += 2) {
            const int32_t at = 2 * pair * row + channel, above = y >= 0 && y < l->in_h,
                          below = y + 1 >= 0 && y + 1 < l->in_h;
            uint32_t *to = args->to + channel * s->columns * s->words + pair;
            for (int32_t x = 0; x < taken * l->channels; x += l->channels, to += s->words) {
                *to =
                    nn_pair(above ? args->in[at + x] - l->in_zero : 0, below ? args->in[at + row + x] - l->in_zero : 0);
            }
        }
    }
}

// What converter/aot/kernels/depthwise_asm.py writes as assembly.
static void portable_planes(const nn_depthwise3_layer *l, const plane_state *s, const nn_depthwise3_args *args) {
    const int32_t row = args->columns * l->channels;
    for (int32_t c = 0; c < args->channels; c++) {
        const int32_t *w = args->weights + RECORD * c;
        for (int32_t i = 0; i < args->rows * args->columns; i++) {
            const int32_t oy = i / args->columns, ox = i % args->columns;
            const uint32_t *x = args->plane + (c * s->columns + ox * l->stride_w) * s->words + oy * l->stride_h / 2;
            int32_t sum = w[6];
            for (int32_t j = 0; j < 3; j++, x += s->words) {
                if (oy * l->stride_h % 2 == 0) {
                    sum = nn_smlabt(x[1], (uint32_t)w[3 + j], nn_smlad(x[0], (uint32_t)w[j], sum));
                } else {
                    sum = nn_smlad(x[1], (uint32_t)w[3 + j], nn_smlatb(x[0], (uint32_t)w[j], sum));
                }
            }
            args->out[oy * row + ox * l->channels + c] = nn_round_scaled(sum, w[7], w[8], l->shift, l->out_zero);
        }
    }
}

// Output rows oy.. (`rows` of them) of all channels.
static void run_piece(const nn_depthwise3_layer *l, const plane_state *s, const int8_t *in, int8_t *out, int32_t oy,
                      int32_t rows) {
    const int32_t y = oy * l->stride_h - l->pad_top;
    nn_depthwise3_args args = {
        .plane = s->planes,
        .columns = l->out_w,
        .rows = rows,
        .to = s->planes + l->pad_left * s->words,
        .y = y,
        .pairs = NN_DEPTHWISE3_WORDS(rows, l->stride_h),
        .in_h = l->in_h,
        .zeros = 0x01010101u * (uint32_t)(l->in_zero & 0xFF),
        .offset = nn_pair(-l->in_zero, -l->in_zero),
    };
    for (int32_t c = 0; c < l->channels; c += PLANES) {
        const int32_t left = l->channels - c;
        args.channels = left < PLANES ? left : PLANES;
        args.in = in + y * l->in_w * l->channels + c, args.out = out + oy * l->out_w * l->channels + c,
        args.weights = l->weights + RECORD * c;
        if (l->code && args.channels == PLANES) {
            l->code->routine[1](&args);
        } else {
            portable_take(l, s, &args);
        }
        if (l->code) {
            l->code->routine[0](&args);
        } else {
            portable_planes(l, s, &args);
        }
    }
}

void nn_depthwise3_s8(const nn_depthwise3_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    plane_state s = {.planes = (uint32_t *)scratch, .words = NN_DEPTHWISE3_WORDS(l->rows, l->stride_h)};
    s.columns = NN_DEPTHWISE3_COLUMNS(l->out_w, l->stride_w);
    for (int32_t i = 0; i < PLANES * s.words * s.columns; i++) {
        s.planes[i] = 0;
    }
    for (int32_t oy = 0; oy < l->out_h; oy += l->rows) {
        run_piece(l, &s, in, out, oy, l->out_h - oy < l->rows ? l->out_h - oy : l->rows);
    }
}
