// CONV_2D where neighbouring output pixels lie one pair of values apart (stride_w * in_c == 2), four products to a
// multiplication: the trick is explained in converter/aot/kernels/conv_packed_asm.py, which writes the inner loop as
// assembly. Here: the rows of inputs, the same sums in C.
#include "nn_optimize.h"
NN_OPTIMIZE("O3")

#include "nn_requant.h"

#define FIELD NN_CONV_PACKED_FIELD
#define HALF (1 << (FIELD - 1))

typedef struct {
    uint32_t *x;       // `rows` of row_words
    int32_t *dropped;  // takes sums that nobody wants again
    int8_t *spare;     // takes the pixel in front of a row
    int8_t *bytes;     // one input row between values of zero
    int32_t rows, pairs;
    int32_t first, end;  // input rows first..end-1 lie in slots 0..
} packed_state;

// Words of values 0 and 2, then 1 and 3, of every four; for the tail values 0 and 1 as int16.
static void append_row(const nn_conv_packed_layer *l, packed_state *f, const int8_t *from) {
    const int32_t at = l->pad_left * l->in_c, room = 4 * f->pairs + 4 - at, all = l->in_w * l->in_c;
    const uint32_t zeros = (uint32_t)l->in_zero * ((1u << FIELD) + 1u);
    uint32_t *to = f->x + (f->end - f->first) * l->row_words;
    nn_move_s8(f->bytes + at, from, (uint32_t)(all < room ? all : room));
    const int8_t *v = f->bytes;
    for (const int8_t *stop = v + 4 * f->pairs; v != stop; v += 4, to += 2) {
        to[0] = (uint32_t)v[0] + ((uint32_t)v[2] << FIELD) - zeros;
        to[1] = (uint32_t)v[1] + ((uint32_t)v[3] << FIELD) - zeros;
    }
    v -= 4 * (l->taps - 1);
    for (int32_t i = 0; i < l->tail; i++, v += 4) {
        *to++ = nn_pair(v[0] - l->in_zero, v[1] - l->in_zero);
    }
    f->end++;
}

// The rows before `low` are no longer wanted; those kept move to the front when the buffer's end is near.
static void make_room(const nn_conv_packed_layer *l, packed_state *f, int32_t low, int32_t high) {
    const int32_t kept = f->end > low ? f->end - low : 0;
    if (high - f->first <= f->rows) {
        return;
    }
    nn_move_s8((int8_t *)f->x, (const int8_t *)(f->x + (low - f->first) * l->row_words),
               (uint32_t)(4 * kept * l->row_words));
    f->first = low, f->end = low + kept;
}

// From a field with HALF on top to int8.
static int8_t finish(const nn_conv_packed_layer *l, uint32_t field, const int32_t *constants) {
    const int32_t sum = (int32_t)(field * (uint32_t)constants[0] + (uint32_t)constants[1]);
    const int32_t product = (int32_t)(((int64_t)sum * constants[2]) >> 32) + constants[3];
    const int32_t step = l->relu || sum >= 0 ? 0 : constants[0] / 2;
    const int32_t value = (product - step) >> l->shift, values = 1 << l->relu;
    return (int8_t)(l->relu == 0 || l->relu == 8 ? nn_clamp(value, -128, 127)
                                                 : nn_clamp(value, 0, values - 1) + 128 - values);
}

static const int32_t fresh_sums[NN_CONV_PACKED_SLOT] = {HALF, HALF >> (32 - FIELD), HALF, HALF >> (32 - FIELD),
                                                        HALF, HALF >> (32 - FIELD), HALF, HALF >> (32 - FIELD)};

// Where a row of outputs takes its sums from and where it leaves them; null: nowhere.
typedef struct {
    const int32_t *load;
    int32_t *store;
} row_sums;

static row_sums sums_of(const nn_conv_packed_layer *l, int32_t oy) {
    const int32_t words = l->out_c / 2 * NN_CONV_PACKED_PAIR_SUMS(l->out_w, l->tail);
    const row_sums found = {l->sums && oy < l->resumed_rows ? l->sums + words * oy : 0,
                            l->sums && oy >= l->first_kept_row ? l->sums + words * (oy - l->first_kept_row) : 0};
    return found;
}

static const int32_t *first_tails(const nn_conv_packed_layer *l) {
    return l->weights + l->out_c / 2 * l->kernel_h * 4 * l->taps;
}

static const int32_t *back(const void *from, int32_t words) {
    return (const int32_t *)((uintptr_t)from - sizeof(int32_t) * (uintptr_t)words);
}

// The sum of triple t of a channel, in the slots of a row of outputs.
static int64_t slot_at(const nn_conv_packed_layer *l, int32_t channel, int32_t t) {
    return channel / 2 * NN_CONV_PACKED_PAIR_SUMS(l->out_w, l->tail) + t / 2 * NN_CONV_PACKED_SLOT + 4 * (channel % 2) +
           2 * (t % 2);
}

// What converter/aot/kernels/conv_packed_asm.py writes as assembly, for one channel of a row of outputs: kernel rows
// ky_low.., `rows` of them from x on.
static void portable_channel(const nn_conv_packed_layer *l, const row_sums *sums, const uint32_t *x, int32_t ky_low,
                             int32_t rows, int32_t channel, int8_t *out) {
    const int32_t kernel_row = channel / 2 * l->kernel_h + ky_low, triples = (l->out_w + 1) / 2;
    const int32_t *weights = l->weights + 4 * l->taps * kernel_row + channel % 2;
    const int32_t *tails = first_tails(l) + 2 * l->tail * kernel_row + channel % 2;
    const int32_t *constants = l->channels + 4 * channel;
    int32_t before = 0;  // the last field of the triple before
    for (int32_t t = 0; t < triples; t++) {
        uint64_t sum = ((uint64_t)HALF << FIELD) + HALF;
        if (sums->load) {
            const int32_t *slot = sums->load + slot_at(l, channel, t);
            sum = (uint32_t)slot[0] | (uint64_t)(uint32_t)slot[1] << 32;
        }
        for (int32_t row = 0; row < rows; row++) {
            const uint32_t *words = x + row * l->row_words + 2 * t;
            for (int32_t i = 0; i < 2 * l->taps; i++) {
                sum += (uint64_t)((int64_t)(int32_t)words[i] * weights[4 * l->taps * row + 2 * i]);
            }
        }
        if (sums->store) {
            int32_t *slot = sums->store + slot_at(l, channel, t);
            slot[0] = (int32_t)(uint32_t)sum, slot[1] = (int32_t)(uint32_t)(sum >> 32);
        }
        sum += (uint64_t)(int64_t)before;
        for (int32_t field = t == 0; field < 2; field++) {
            out[(2 * t - 1 + field) * l->out_c + channel] =
                finish(l, (uint32_t)(sum >> (FIELD * field)) & (2 * HALF - 1), constants);
        }
        before = (int32_t)((int64_t)sum >> (2 * FIELD));
    }
    if (l->out_w % 2 == 0) {
        const int64_t slot = slot_at(l, channel / 2 * 2, (triples + 1) / 2 * 2) + 2 * (channel % 2);
        int32_t sum = sums->load && l->tail > 0 ? sums->load[slot] : HALF;
        for (int32_t row = 0; row < rows; row++) {
            for (int32_t i = 0; i < l->tail; i++) {
                const uint32_t word = x[(row + 1) * l->row_words - l->tail + i];
                sum = nn_smlad(word, (uint32_t)tails[2 * l->tail * row + 2 * i], sum);
            }
        }
        if (sums->store && l->tail > 0) {
            sums->store[slot] = sum;
        }
        out[(l->out_w - 1) * l->out_c + channel] = finish(l, (uint32_t)(sum + before), constants);
    }
}

// Kernel rows ky_low.. (`rows` of them, the first in slot `slot`) for one row of outputs.
static void convolve_row(const nn_conv_packed_layer *l, const packed_state *f, const row_sums *sums, int32_t ky_low,
                         int32_t rows, int32_t slot, int8_t *out) {
    const uint32_t *x = f->x + slot * l->row_words;
    if (l->code) {
        const int32_t skipped = l->kernel_h - rows, below = skipped - ky_low;
        const nn_conv_packed_args args = {
            .x = (const uint32_t *)back(x, skipped * l->row_words),
            .weights = back(l->weights, below * 4 * l->taps),
            .tails = back(first_tails(l), below * 2 * l->tail),
            .channels = l->channels,
            .out = out,
            .spare = f->spare,
            .skipped = skipped,
            .load = sums->load    ? sums->load
                    : sums->store ? fresh_sums
                                  : 0,
            .load_step = sums->load ? 4 * NN_CONV_PACKED_SLOT : 0,
            .store = sums->store ? sums->store : f->dropped,
            .store_step = sums->store ? 4 * NN_CONV_PACKED_SLOT : 0,
        };
        l->code->row[0](&args);
        return;
    }
    for (int32_t channel = 0; channel < l->out_c; channel++) {
        portable_channel(l, sums, x, ky_low, rows, channel, out);
    }
}

void nn_conv_packed_s8(const nn_conv_packed_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    const int32_t in_row = l->in_w * l->in_c;
    packed_state f = {.x = (uint32_t *)scratch,
                      .rows = NN_CONV_PACKED_ROWS(l->kernel_h, l->stride_h),
                      .pairs = (l->row_words - l->tail) / 2};
    f.dropped = (int32_t *)(f.x + f.rows * l->row_words);
    f.spare = (int8_t *)(f.dropped + NN_CONV_PACKED_SLOT);
    f.bytes = f.spare + 4;
    memset(f.bytes, l->in_zero, (size_t)(4 * f.pairs + 4));
    for (int32_t oy = 0; oy < l->out_h; oy++, out += l->out_w * l->out_c) {
        const row_sums sums = sums_of(l, oy);
        const int32_t y0 = oy * l->stride_h - l->pad_top, inside = y0 < 0 ? 0 : y0;
        const int32_t low = sums.load && inside < l->first_new_row ? l->first_new_row : inside;
        const int32_t high = y0 + l->kernel_h < l->in_h ? y0 + l->kernel_h : l->in_h;
        make_room(l, &f, sums.load ? f.first : low, high);
        if (f.end < low && !sums.load) {  // rows between two kernels are never looked at
            f.first = f.end = low;
        }
        while (f.end < high) {
            append_row(l, &f, in + f.end * in_row);
        }
        convolve_row(l, &f, &sums, low - y0, high - low, low - f.first, out);
    }
}
