// CONV_2D where neighbouring output pixels lie one pair of values apart (stride_w * in_c == 2), as a fast FIR filter along the row: of
// each two outputs, y0 = E.X0 + O.X1 and y1 = E.X1 + O.X2 (E, O: the words of even and odd taps; X0, X1, X2: words of the input), the
// part (E + O).X1 is computed once, then y0 = that + E.(X0 - X1) and y1 = that + O.(X2 - X1): three products where there were four. All
// is exact modulo 2**32, and differences of two int8 fit int16. The three streams X1, X0 - X1 and X2 - X1 are made once per input row.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

#include "nn_requant.h"

typedef struct {
    int32_t taps, row_words, rows;
    uint32_t *streams;  // [3][rows][row_words]
    uint32_t *expanded;  // one input row as int16, zeros round it
    int32_t expanded_words;
    int8_t *spare;  // takes the pixel behind the last when out_w is odd
    int32_t first, end;  // input rows first..end-1 lie in slots 0..
} fir_state;

static void expand(const nn_conv_fir_layer *l, const fir_state *f, const int8_t *from)
{
    const int32_t at = l->pad_left * l->in_c, room = 2 * f->expanded_words - at, all = l->in_w * l->in_c;
    nn_widen(from, all < room ? all : room, l->in_zero, f->expanded, at);
}

static void append_row(const nn_conv_fir_layer *l, fir_state *f, const int8_t *from)
{
    const int32_t stride = f->rows * f->row_words;
    uint32_t *to = f->streams + (f->end - f->first) * f->row_words;
    const uint32_t *x = f->expanded;
    expand(l, f, from);
    uint32_t even = x[0];
    for (int32_t i = 0; i < f->row_words; i++, x += 2, to++) {
        const uint32_t odd = x[1], next = x[2];
        to[0] = odd, to[stride] = nn_ssub16(even, odd), to[2 * stride] = nn_ssub16(next, odd);
        even = next;
    }
    f->end++;
}

// The rows before `low` are no longer wanted; those kept move to the front when the buffer's end is near.
static void make_room(fir_state *f, int32_t low, int32_t high)
{
    const int32_t kept = f->end > low ? f->end - low : 0;
    if (high - f->first <= f->rows) {
        return;
    }
    for (int32_t stream = 0; stream < 3 && kept > 0; stream++) {
        uint32_t *start = f->streams + stream * f->rows * f->row_words;
        memmove(start, start + (low - f->first) * f->row_words, sizeof(uint32_t) * (size_t)(kept * f->row_words));
    }
    f->first = low, f->end = low + kept;
}

static void add_stream(const uint32_t *x, const uint32_t *w, int32_t taps, int32_t row_words, int32_t rows, int32_t *a, int32_t *b)
{
    for (; rows > 0; rows--, x += row_words) {
        for (int32_t tap = 0; tap < taps; tap++, w += 2) {
            *a = nn_smlad(x[tap], w[0], *a), *b = nn_smlad(x[tap], w[1], *b);
        }
    }
}

// As the assembly rounds: constants are multiplier, 2**(exponent - 1) and exponent when `relu`, else multiplier, 2 * zero + 1 and
// exponent - 1. The sums are doubled.
static int8_t finish(int32_t twice, const int32_t *constants, int32_t relu)
{
    if (relu) {
        const int32_t scaled = (nn_smmulr(twice, constants[0]) + constants[1]) >> constants[2];
        const int32_t values = 1 << (relu == 1 ? 8 : relu);
        return (int8_t)(nn_clamp(scaled, 0, values - 1) + 128 - values);
    }
    const int32_t product = nn_smmulr(twice, constants[0]);
    return (int8_t)nn_ssat8_half(((product + (product >> 31)) >> constants[2]) + constants[1]);
}

// What converter/asm_conv_fir.py writes as assembly; its pointers x lie one row before the word last read of the first row.
static void portable_block(const nn_conv_fir_layer *l, const fir_state *f, const nn_fir_args *args, int32_t q_count)
{
    const int32_t pass_words = 2 * l->kernel_h * f->taps, back = f->row_words - (q_count + f->taps - 2);
    for (int32_t pair = 0; pair < args->pairs; pair++) {
        const int32_t *channels = args->channels + 8 * pair;
        const uint32_t *w = args->weights + 1 + 3 * pair * pass_words;
        for (int32_t q = 0; q < q_count; q++) {
            int8_t *even = args->out_even + 2 * q * l->out_c, *odd = args->out_odd + 2 * q * l->out_c;
            int32_t sums[3][2];
            sums[0][0] = channels[0], sums[0][1] = channels[1];
            add_stream(args->x[0] + back + q, w, f->taps, f->row_words, args->rows, &sums[0][0], &sums[0][1]);
            for (int32_t s = 1; s < 3; s++) {
                sums[s][0] = sums[0][0], sums[s][1] = sums[0][1];
                add_stream(args->x[s] + back + q, w + s * pass_words, f->taps, f->row_words, args->rows, &sums[s][0], &sums[s][1]);
            }
            odd = q == q_count - 1 ? args->out_last : odd;
            for (int32_t c = 0; c < 2; c++) {
                even[2 * pair + c] = finish(sums[1][c], channels + 2 + 3 * c, l->relu);
                odd[2 * pair + c] = finish(sums[2][c], channels + 2 + 3 * c, l->relu);
            }
        }
    }
}

// Kernel rows ky_low.. (`rows` of them, the first in slot `slot`) for one row of outputs.
static void convolve_row(const nn_conv_fir_layer *l, const fir_state *f, int32_t ky_low, int32_t rows, int32_t slot, int8_t *out)
{
    const int32_t q_total = (l->out_w + 1) / 2, stream = f->rows * f->row_words;
    for (int32_t q = 0, count; q < q_total; q += count) {
        count = NN_FIR_BLOCK(q_total - q, f->taps);
        const uint32_t *x = f->streams + (slot - 1) * f->row_words + q + count + f->taps - 2;
        nn_fir_args args = {
            .x = {x, x + stream, x + 2 * stream},
            .weights = (const uint32_t *)l->weights + 2 * ky_low * f->taps - 1, .channels = l->channels,
            .out_even = out + 2 * q * l->out_c, .out_odd = out + (2 * q + 1) * l->out_c, .pairs = l->out_c / 2, .rows = rows,
        };
        args.out_last = 2 * (q + count) > l->out_w ? f->spare : args.out_odd + 2 * (count - 1) * l->out_c;
        if (l->code) {
            l->code->block[count - 1](&args);
        } else {
            portable_block(l, f, &args, count);
        }
    }
}

void nn_conv_fir_s8(const nn_conv_fir_layer *l, const int8_t *in, int8_t *out, void *scratch)
{
    const int32_t in_row = l->in_w * l->in_c;
    fir_state f = {.taps = NN_FIR_TAPS(l->kernel_w, l->in_c), .rows = NN_FIR_ROWS(l->kernel_h, l->stride_h)};
    f.row_words = NN_FIR_ROW_WORDS(l->kernel_w, l->in_c, l->out_w), f.expanded_words = 2 * f.row_words + 1;
    f.streams = (uint32_t *)scratch;
    f.expanded = f.streams + 3 * f.rows * f.row_words;
    f.spare = (int8_t *)(f.expanded + f.expanded_words);
    memset(f.expanded, 0, sizeof(uint32_t) * (size_t)f.expanded_words);
    for (int32_t oy = 0; oy < l->out_h; oy++, out += l->out_w * l->out_c) {
        const int32_t y0 = oy * l->stride_h - l->pad_top, low = y0 < 0 ? 0 : y0;
        const int32_t high = y0 + l->kernel_h < l->in_h ? y0 + l->kernel_h : l->in_h;
        make_room(&f, low, high);
        if (f.end < low) {  // rows between two kernels are never looked at
            f.first = f.end = low;
        }
        while (f.end < high) {
            append_row(l, &f, in + f.end * in_row);
        }
        convolve_row(l, &f, low - y0, high - low, low - f.first, out);
    }
}
