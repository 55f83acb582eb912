// DEPTHWISE_CONV_2D of 3 x 3 with multiplier 1, channel by channel: four channels' planes are taken out of the input, widened, as words of
// two values that stand one above the other, with zeros round them; then each is convolved down its columns.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

#include "nn_requant.h"

enum { PLANES = NN_DEPTHWISE3_PLANES, RECORD = 9 };

// Output rows first.. of the channels c.. (`count` of them) need these rows of the input, two by two.
typedef struct {
    const int8_t *in;  // the first of the channels
    uint32_t *planes;
    int32_t words, columns;  // of a plane
    int32_t first_y, pairs;  // input rows
} piece;

static const int8_t *row_at(const nn_depthwise3_layer *l, const int8_t *in, int32_t y)
{
    return y >= 0 && y < l->in_h ? in + y * l->in_w * l->channels : 0;
}

NN_INLINE int32_t columns_in(const nn_depthwise3_layer *l, const piece *p)
{
    const int32_t room = p->columns - l->pad_left;
    return l->in_w < room ? l->in_w : room;
}

static void take_four(const nn_depthwise3_layer *l, const piece *p)
{
    const uint32_t offset = nn_pair(-l->in_zero, -l->in_zero), zeros = 0x01010101u * (uint32_t)(l->in_zero & 0xFF);
    const int32_t plane = p->words * p->columns, words = p->words;
    for (int32_t pair = 0, y = p->first_y; pair < p->pairs; pair++, y += 2) {
        const int8_t *top = row_at(l, p->in, y), *bottom = row_at(l, p->in, y + 1);
        const int32_t top_step = top ? l->channels : 0, bottom_step = bottom ? l->channels : 0;
        uint32_t *to = p->planes + l->pad_left * words + pair, *to2 = to + 2 * plane;
        top = top ? top : (const int8_t *)&zeros, bottom = bottom ? bottom : (const int8_t *)&zeros;
        for (int32_t n = columns_in(l, p); n > 0; n--, top += top_step, bottom += bottom_step, to += words, to2 += words) {
            const uint32_t t = nn_load_here(top), b = nn_load_here(bottom);
            const uint32_t low = nn_pkhbt(t, b), high = nn_pkhtb(t, b);
            to[0] = nn_sxtab16(offset, low), to[plane] = nn_sxtab16_ror8(offset, low);
            to2[0] = nn_sxtab16(offset, high), to2[plane] = nn_sxtab16_ror8(offset, high);
        }
    }
}

static void take_one(const nn_depthwise3_layer *l, const piece *p, int32_t channel)
{
    for (int32_t pair = 0, y = p->first_y; pair < p->pairs; pair++, y += 2) {
        const int8_t *top = row_at(l, p->in + channel, y), *bottom = row_at(l, p->in + channel, y + 1);
        uint32_t *to = p->planes + (channel * p->columns + l->pad_left) * p->words + pair;
        for (int32_t x = 0; x < columns_in(l, p); x++, to += p->words) {
            *to = nn_pair(top ? top[x * l->channels] - l->in_zero : 0, bottom ? bottom[x * l->channels] - l->in_zero : 0);
        }
    }
}

// What converter/asm_depthwise.py writes as assembly.
static void portable_planes(const nn_depthwise3_layer *l, const piece *p, const nn_depthwise3_args *args)
{
    const int32_t row = args->columns * l->channels;
    for (int32_t c = 0; c < args->channels; c++) {
        const int32_t *w = args->weights + RECORD * c;
        for (int32_t i = 0; i < args->rows * args->columns; i++) {
            const int32_t oy = i / args->columns, ox = i % args->columns;
            const uint32_t *x = args->plane + (c * p->columns + ox * l->stride_w) * p->words + oy * l->stride_h / 2;
            int32_t sum = w[6];
            for (int32_t j = 0; j < 3; j++, x += p->words) {
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

static void run_piece(const nn_depthwise3_layer *l, piece *p, const int8_t *in, int8_t *out, int32_t rows)
{
    p->pairs = NN_DEPTHWISE3_WORDS(rows, l->stride_h);
    for (int32_t c = 0; c < l->channels; c += PLANES) {
        const int32_t left = l->channels - c;
        nn_depthwise3_args args = {.plane = p->planes, .weights = l->weights + RECORD * c, .out = out + c, .columns = l->out_w, .rows = rows};
        args.channels = left < PLANES ? left : PLANES;
        p->in = in + c;
        if (args.channels == PLANES) {
            take_four(l, p);
        } else {
            for (int32_t i = 0; i < args.channels; i++) {
                take_one(l, p, i);
            }
        }
        if (l->code) {
            l->code->run[0](&args);
        } else {
            portable_planes(l, p, &args);
        }
    }
}

void nn_depthwise3_s8(const nn_depthwise3_layer *l, const int8_t *in, int8_t *out, void *scratch)
{
    piece p = {.planes = (uint32_t *)scratch, .words = NN_DEPTHWISE3_WORDS(l->rows, l->stride_h)};
    p.columns = NN_DEPTHWISE3_COLUMNS(l->out_w, l->stride_w);
    for (int32_t i = 0; i < PLANES * p.words * p.columns; i++) {
        p.planes[i] = 0;
    }
    for (int32_t oy = 0; oy < l->out_h; oy += l->rows) {
        const int32_t rows = l->out_h - oy < l->rows ? l->out_h - oy : l->rows;
        p.first_y = oy * l->stride_h - l->pad_top;
        run_piece(l, &p, in, out + oy * l->out_w * l->channels, rows);
    }
}
