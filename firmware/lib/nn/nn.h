// Int8 kernels that equal TensorFlow Lite Micro's reference kernels bit for bit. Layers are const data made by
// converter/aot/emit.py; kernels never allocate, use no float and return nothing. Activations are NHWC, batch 1.
//
// Two forms: `nn_*_s8` is the meaning in portable C, `nn_*_s8_simd` the same values by the DSP instructions of
// nn_simd.h (emulated where the CPU lacks them). The converter chooses per layer, since the forms may want weights laid
// out differently.
#ifndef NN_H
#define NN_H

#include <stdint.h>

// Constants that start-up code copies to RAM: loads from flash wait. Not const, or the compiler puts them into flash.
#if defined(__ARM_FEATURE_DSP)
#define NN_IN_RAM __attribute__((section(".data.nn_constants")))
#else
#define NN_IN_RAM
#endif

#ifdef __cplusplus
extern "C" {
#endif

// One output channel: y = requantize(bias + sum(w * (x - in_zero))) with real multiplier = multiplier * 2**(shift -
// 31).
typedef struct {
    int32_t bias;
    int32_t multiplier;
    int32_t shift;
} nn_channel;

// `sum_below_2_30` is 1 when the converter has proven |sum| < 2**30 and shift in -31..-1 for every channel: the SIMD
// forms then round by SMMULR.
typedef struct {
    int32_t out_zero;
    int32_t act_min;
    int32_t act_max;
    int32_t sum_below_2_30;
} nn_output;

// What the assembly of nn_conv_s8_simd by converter/aot/kernels/conv_asm.py is given, one or three pixels of bounded
// sums and full range.
typedef struct {
    const uint32_t *x;  // a word of each pixel before the first, less what the way into the loop leaves out; so too
                        // the weights
    const int8_t *weights;
    const nn_channel *channels;
    int8_t *out;
    int32_t pairs;  // of channels
    int32_t filter_bytes;
    int32_t turns;
    int32_t entry;  // code bytes left out of the first turn
    int32_t out_c;
    int32_t twice_zero_plus_1;
} nn_conv_args;

typedef struct {
    void (*pixels[2])(const nn_conv_args *args);  // of one, of three
} nn_conv_code;

#define NN_CONV_STEPS 16                                 // words of weights in a turn of its loop
#define NN_CONV_STEP_BYTES(pixels) (12 + 12 * (pixels))  // code of one

// CONV_2D and, with a depth multiplier, DEPTHWISE_CONV_2D. pad_top and pad_left are TFLite's; the far sides follow from
// out_*.
typedef struct {
    int32_t in_h, in_w, in_c;
    int32_t out_h, out_w, out_c;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t pad_top, pad_left;
    int32_t in_zero;
    nn_output output;
    const int8_t *weights;
    const nn_channel *channels;
    const nn_conv_code *code;  // of nn_conv_s8_simd; null: C
} nn_conv_layer;

// Weights OHWI. No scratch.
void nn_conv_s8(const nn_conv_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// Any shape. Weights in pairs of output channels a, b (the last b is zero when out_c is odd). Per pair, kernel row by
// kernel row, each row of kernel_w * in_c weights padded to even length: words of four bytes a(k) b(k) a(k') b(k'),
// where the pairs (k, k') of each whole group of four are (0, 2) (1, 3) and those of the rest (0, 1) (2, -). 4-byte
// aligned. Scratch, 4-byte aligned: NN_CONV_SIMD_SCRATCH bytes.
void nn_conv_s8_simd(const nn_conv_layer *layer, const int8_t *in, int8_t *out, void *scratch);

#define NN_CONV_SIMD_PIXELS 3
#define NN_CONV_SIMD_SCRATCH(kernel_h, kernel_w, in_c) \
    (4 * NN_CONV_SIMD_PIXELS * (kernel_h) * (((kernel_w) * (in_c) + 1) / 2) + (((kernel_w) * (in_c) + 3) & ~3))

// stride_w * in_c == 2 only. Weights per output channel, kernel row by kernel row, each row of kernel_w * in_c weights
// padded with zeros to a multiple of four; each group of four in the order 0 2 1 3. 4-byte aligned. Scratch, 4-byte
// aligned: NN_CONV_ROWS_SCRATCH bytes.
void nn_conv_rows_s8_simd(const nn_conv_layer *layer, const int8_t *in, int8_t *out, void *scratch);

#define NN_CONV_ROWS_PIXELS 5
#define NN_CONV_ROWS_WORDS(kernel_w, in_c, out_w)                                      \
    (((out_w) + NN_CONV_ROWS_PIXELS - 1) / NN_CONV_ROWS_PIXELS * NN_CONV_ROWS_PIXELS + \
     ((kernel_w) * (in_c) + 3) / 4 * 2)
#define NN_CONV_ROWS_SCRATCH(kernel_h, kernel_w, in_c, out_w) \
    (4 * (kernel_h) * NN_CONV_ROWS_WORDS(kernel_w, in_c, out_w))

// Four products in one multiplication, see converter/aot/kernels/conv_packed_asm.py: stride_w * in_c == 2, kernel rows
// of more than two values, out_c even, all sums of a pixel within NN_CONV_PACKED_FIELD bits, which the converter has
// proven of the weights, an output of the full range or low-bit: `relu` is b when its range is 128 - 2**b, its zero
// point, to 127 (b 2 to 8), so that what is negative is clamped; else 0. `taps` are the groups of four weights of a
// kernel row, `tail` how many of them the last output wants again, `row_words` a row of inputs. Weights, per pair of
// channels a, b and kernel row: per group w0..w3 four words, of a and b w2 + (w0 << 21), of a and b w3 + (w1 << 21);
// behind all those, per group of the tail, of a and b, a word of the int16 w2 w3. Constants per channel, see rounding()
// in converter/aot/kernels/conv_packed.py: scale, offset * scale, multiplier, what is added. Scratch, 4-byte aligned:
// NN_CONV_PACKED_SCRATCH bytes.
typedef struct {
    const uint32_t *x;  // the row of the kernel's first row, as if none lay in the padding
    const int32_t *weights, *tails;
    const int32_t *channels;
    int8_t *out;
    int8_t *spare;
    const int32_t *load;  // sums to go on from, a slot of NN_CONV_PACKED_SLOT words a block, half a slot a tail; null:
                          // none, and none are stored
    int32_t load_step;    // bytes to the next slot
    int32_t *store;
    int32_t store_step;
    int32_t skipped;  // kernel rows in front that the code does not run; x, weights and tails are moved by those in the
                      // lower padding
} nn_conv_packed_args;

// Assembly of one row of outputs for one layer's shape.
typedef struct {
    void (*row[1])(const nn_conv_packed_args *args);
} nn_conv_packed_code;

typedef struct {
    int32_t in_h, in_w, in_c;
    int32_t out_h, out_w, out_c;
    int32_t kernel_h, stride_h;
    int32_t pad_top, pad_left;
    int32_t in_zero;
    int32_t taps, tail, row_words;
    int32_t shift, relu;
    const int32_t *weights;
    const int32_t *channels;
    const nn_conv_packed_code *code;  // null: portable C
    int32_t *sums;                    // of rows of outputs, kept from call to call; null: none
    int32_t resumed_rows;             // so many rows in front go on from `sums`
    int32_t first_kept_row;           // of the output: its sums are kept as row 0 of `sums`
    int32_t first_new_row;            // of the input: what resumed rows add begins with it
} nn_conv_packed_layer;

void nn_conv_packed_s8(const nn_conv_packed_layer *layer, const int8_t *in, int8_t *out, void *scratch);

#define NN_CONV_PACKED_FIELD 21
#define NN_CONV_PACKED_ROWS(kernel_h, stride_h) \
    ((kernel_h) + ((stride_h) > (kernel_h) / 2 ? (stride_h) : (kernel_h) / 2))
#define NN_CONV_PACKED_SLOT 8
// Words of the sums of a row of outputs for a pair of channels.
#define NN_CONV_PACKED_PAIR_SUMS(out_w, tail) \
    (NN_CONV_PACKED_SLOT * (((out_w) + 3) / 4) + ((tail) > 0 ? NN_CONV_PACKED_SLOT / 2 : 0))
#define NN_CONV_PACKED_SCRATCH(kernel_h, stride_h, row_words, tail) \
    (4 * (NN_CONV_PACKED_ROWS(kernel_h, stride_h) * (row_words) + ((row_words) - (tail)) / 2 + 2 + NN_CONV_PACKED_SLOT))

// A pixel's patch is kernel_h rows of kernel_w * in_c values, up to NN_POINTWISE_MAX_TAPS pairs of them (each row's
// last may be half a pair); out_c even, an output that rounding() of converter/aot/kernels/requantize.py takes.
// Weights, int32, per pair of channels a, b: both biases (-in_zero * sum(weights) folded in), per pair of taps two
// int16 of a and two of b (of each four values of a row (0, 2) (1, 3), of what is left (0, -), (0, 1) or (0, 2) (1,
// -)), multiplier and second constant of a and of b. Weights and biases are multiplied by a power of two;
// nn_round_scaled says what becomes of the sums. `constants`: null, or a pixel's outputs as far as no input changes
// them; then only `pairs` pairs of channels are computed, and another word of each says which: a | b << 16.
#define NN_POINTWISE_MAX_TAPS 144
typedef struct {
    const int8_t *in;
    int8_t *out;
    const int32_t *weights;
    const void *end;  // out + out_c; with constants the end of the weights
} nn_pointwise_args;

// Assembly for one layer's shape by converter/aot/kernels/pointwise_asm.py: one pixel, four pixels.
typedef struct {
    void (*block[2])(const nn_pointwise_args *args);
} nn_pointwise_code;

typedef struct {
    int32_t in_h, in_w, in_c;
    int32_t out_h, out_w, out_c;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t pad_top, pad_left;
    int32_t in_zero, out_zero, shift;
    int32_t pairs;
    const int32_t *weights;
    const int8_t *constants;
    const nn_pointwise_code *code;  // null: portable C
} nn_pointwise_layer;

// Kernel 1 x 1, no padding. No scratch.
void nn_pointwise_s8(const nn_pointwise_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// Any kernel. Scratch: NN_CONV_PATCHES_SCRATCH bytes.
void nn_conv_patches_s8(const nn_pointwise_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// Bytes of a row of inputs with its padding.
#define NN_CONV_PATCHES_ROW(kernel_w, in_c, out_w, stride_w) ((((out_w) - 1) * (stride_w) + (kernel_w)) * (in_c))
#define NN_CONV_PATCHES_SCRATCH(kernel_h, kernel_w, in_c, out_w, stride_w) \
    ((kernel_h) * NN_CONV_PATCHES_ROW(kernel_w, in_c, out_w, stride_w))

// Weights HWC with out_c channels; output channel o reads input channel o / (out_c / in_c). No scratch.
void nn_depthwise_s8(const nn_conv_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// out_c == in_c only. Weights in groups of four channels, the last padded with zeros: per group HWC. 4-byte aligned. No
// scratch.
void nn_depthwise_s8_simd(const nn_conv_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// out_c == in_c, kernel 3 x 3, strides 1 or 2, an output that rounding() of converter/aot/kernels/requantize.py takes.
// The planes of up to four channels are taken out of the input, `rows` rows of outputs at a time: words of two values
// that stand one above the other, column by column. Weights, int32, per channel: as two int16 (w0, w1) of each of the
// kernel's columns, (w1, w2) of each, then bias, multiplier and second constant; scaled as nn_pointwise_s8's. Scratch,
// 4-byte aligned: NN_DEPTHWISE3_SCRATCH bytes.
typedef struct {
    const uint32_t *plane;
    const int32_t *weights;
    int8_t *out;
    int32_t channels, columns, rows;
    const int8_t *in;  // the first column of row y, which may lie outside the input
    uint32_t *to;
    int32_t y, pairs, in_h;
    uint32_t zeros, offset;  // in_zero four times, -in_zero twice
} nn_depthwise3_args;

// Assembly for one layer's shape by converter/aot/kernels/depthwise_asm.py: convolve planes, take planes of four
// channels.
typedef struct {
    void (*routine[2])(const nn_depthwise3_args *args);
} nn_depthwise3_code;

typedef struct {
    int32_t in_h, in_w, channels;
    int32_t out_h, out_w;
    int32_t stride_h, stride_w;
    int32_t pad_top, pad_left;
    int32_t in_zero, out_zero, shift;
    int32_t rows;
    const int32_t *weights;
    const nn_depthwise3_code *code;  // null: portable C
} nn_depthwise3_layer;

void nn_depthwise3_s8(const nn_depthwise3_layer *layer, const int8_t *in, int8_t *out, void *scratch);

#define NN_DEPTHWISE3_PLANES 4
#define NN_DEPTHWISE3_WORDS(rows, stride_h) ((stride_h) == 1 ? ((rows) + 3) / 2 : (rows) + 1)  // of a column
#define NN_DEPTHWISE3_COLUMNS(out_w, stride_w) (((out_w) - 1) * (stride_w) + 3)
#define NN_DEPTHWISE3_SCRATCH(rows, stride_h, out_w, stride_w) \
    (4 * NN_DEPTHWISE3_PLANES * NN_DEPTHWISE3_WORDS(rows, stride_h) * NN_DEPTHWISE3_COLUMNS(out_w, stride_w))

// out_c == in_c >= 4, kernel kernel_h x 1, stride 1, no columns of padding, an output that rounding() or
// rounding_doubled() of converter/aot/kernels/requantize.py takes. Weights, int32, per group of four channels, the last
// of which ends with the last channel: four biases (-in_zero * sum(weights) folded in), per pair of kernel rows a word
// of two int16 for each channel, for an odd kernel_h's last row two words of two channels each, then multiplier and
// second constant of each channel. Weights and biases are multiplied by a power of two; what nn_round_scaled is given
// are the sums times 2**doublings. No scratch.
typedef struct {
    const int8_t *in;  // the kernel's first row, which may lie outside the input only where C runs
    const int32_t *weights;
    int8_t *out, *end;  // of the channels
} nn_depthwise_time_args;

// Assembly for one layer's shape by converter/aot/kernels/depthwise_time_asm.py: channels of one pixel.
typedef struct {
    void (*pixel[1])(const nn_depthwise_time_args *args);
} nn_depthwise_time_code;

typedef struct {
    int32_t in_h, in_w, channels;
    int32_t out_h, kernel_h;
    int32_t pad_top;
    int32_t in_zero, out_zero, shift, doublings;
    const int32_t *weights;
    const nn_depthwise_time_code *code;  // null: portable C
} nn_depthwise_time_layer;

void nn_depthwise_time_s8(const nn_depthwise_time_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// Words of a group of four channels.
#define NN_DEPTHWISE_TIME_RECORD(kernel_h) (12 + 4 * ((kernel_h) / 2) + 2 * ((kernel_h) % 2))

// CONV_2D of kernel 3 x 3 and stride 1 by Winograd in exact integers: in_c a multiple of 4, out_c even, both within
// converter/aot/kernels/winograd_asm.py's limits, an output that is `sum_below_2_30` with the full range, sums below
// 2**29. Weights, int32, per pair of channels a, b: for each of the 16 points both biases (-in_zero * sum(weights)
// folded in; 0 at all points but 5), then per pair of input channels ((0, 2) (1, 3) of each four) two int16 of a and
// two of b; behind the points multiplier and second constant of a and of b. Weights are those of (2G) g (2G)^T and, as
// the biases, multiplied by a power of two; nn_round_scaled says what becomes of the sums. Scratch, 4-byte aligned:
// NN_WINOGRAD_SCRATCH bytes.
typedef struct {
    const int8_t *rows;
    uint32_t *v;
    const int32_t *weights;
    int8_t *out;
    int32_t out_row;
} nn_winograd_args;

// Assembly for one layer's shape by converter/aot/kernels/winograd_asm.py: the input's transform, products with the
// output's transform.
typedef struct {
    void (*block[2])(const nn_winograd_args *args);
} nn_winograd_code;

typedef struct {
    int32_t in_h, in_w, in_c;
    int32_t out_h, out_w, out_c;
    int32_t pad_top, pad_left;
    int32_t in_zero;
    int32_t out_zero, shift;
    const int32_t *weights;
    const nn_winograd_code *code;  // null: portable C
} nn_winograd_layer;

void nn_winograd_s8(const nn_winograd_layer *layer, const int8_t *in, int8_t *out, void *scratch);

#define NN_WINOGRAD_TILES 4
#define NN_WINOGRAD_COLUMNS(out_w) \
    (((out_w) + 2 * NN_WINOGRAD_TILES - 1) / (2 * NN_WINOGRAD_TILES) * 2 * NN_WINOGRAD_TILES + 2)
#define NN_WINOGRAD_SCRATCH(in_c, out_w, out_c) \
    (32 * NN_WINOGRAD_TILES * (in_c) + 4 * NN_WINOGRAD_TILES * (out_c) + 4 * NN_WINOGRAD_COLUMNS(out_w) * (in_c))

// What the assembly of nn_dense_pairs_s8_simd by converter/aot/kernels/dense_asm.py is given.
typedef struct {
    const int8_t *weights, *in;
    int32_t turns;  // of NN_DENSE_TURN inputs, at least one
    int32_t *sums;  // a, 256 * b + a, c, 256 * d + c
} nn_dense_args;

typedef struct {
    void (*pairs[1])(const nn_dense_args *args);
} nn_dense_code;

#define NN_DENSE_TURN 8

// FULLY_CONNECTED. The converter has folded -in_zero * sum(weights) into the biases.
typedef struct {
    int32_t rows;
    int32_t in_n, out_n;
    nn_output output;
    const int8_t *weights;
    const nn_channel *channels;
    const nn_dense_code *code;  // of nn_dense_pairs_s8_simd; null: C
} nn_dense_layer;

// Weights OI. No scratch.
void nn_dense_s8(const nn_dense_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// Weights in blocks of NN_DENSE_SIMD_OUTPUTS outputs, missing ones zero: four weights of the first, four of the second
// and so on, then the next four of each, the last padded with zeros. 4-byte aligned. No scratch.
#define NN_DENSE_SIMD_OUTPUTS 4
void nn_dense_s8_simd(const nn_dense_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// No weight -128. Blocks of NN_DENSE_SIMD_OUTPUTS outputs a b c d, missing ones zero; per four inputs 0..3, the last
// padded with zeros, four words of two int16: 256 * b + a of inputs 0 and 2, of inputs 1 and 3, then the same of c and
// d. 4-byte aligned. No scratch.
void nn_dense_pairs_s8_simd(const nn_dense_layer *layer, const int8_t *in, int8_t *out, void *scratch);

typedef struct {
    int32_t in_h, in_w, channels;
    int32_t out_h, out_w;
    int32_t window_h, window_w;
    int32_t stride_h, stride_w;
    int32_t pad_top, pad_left;
    int32_t act_min, act_max;
} nn_pool_layer;

void nn_average_pool_s8(const nn_pool_layer *layer, const int8_t *in, int8_t *out, void *scratch);
void nn_average_pool_s8_simd(const nn_pool_layer *layer, const int8_t *in, int8_t *out,
                             void *scratch);  // window_h * window_w <= 256
void nn_max_pool_s8(const nn_pool_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// ADD of equal shapes; multipliers as TFLite's, all shifts <= 0.
typedef struct {
    int32_t count;
    int32_t zero_a, multiplier_a, shift_a;
    int32_t zero_b, multiplier_b, shift_b;
    int32_t multiplier_out, shift_out;
    int32_t out_zero, act_min, act_max;
} nn_add_layer;

void nn_add_s8(const nn_add_layer *layer, const int8_t *a, const int8_t *b, int8_t *out);
void nn_add_s8_simd(const nn_add_layer *layer, const int8_t *a, const int8_t *b, int8_t *out);

// The same by a product of each operand: clamp((a * weight_a * 2**-8 + b * weight_b * 2**-8 + offset) >> 16 to 0..255)
// - 128, each product rounded down; the converter has compared all pairs with nn_add_s8's. No sum leaves int32.
typedef struct {
    int32_t count;
    int32_t weight_a, weight_b, offset;
} nn_add_weighted_layer;

void nn_add_weighted_s8_simd(const nn_add_weighted_layer *layer, const int8_t *a, const int8_t *b, int8_t *out);

// SOFTMAX over rows of `depth`; exp_table[d] is exp(-d * scale * beta) as Q0.31 for d < table_length, and 0 beyond.
typedef struct {
    int32_t rows, depth;
    int32_t table_length;
    const int32_t *exp_table;
} nn_softmax_layer;

void nn_softmax_s8(const nn_softmax_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// MEAN of each of `maps`, over `count` pixels of `channels` each: out = zero + (sum - zero_sum) * multiplier *
// 2**(shift - 31), rounded as TFLite does; zero_sum is count times the input's zero point, and the multiplier holds the
// division by count.
typedef struct {
    int32_t maps, count, channels;
    int32_t zero_sum;
    int32_t multiplier, shift;
    int32_t out_zero;
} nn_mean_layer;

void nn_mean_s8(const nn_mean_layer *layer, const int8_t *in, int8_t *out, void *scratch);
void nn_mean_s8_simd(const nn_mean_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// PAD of up to four axes (missing ones in front are 1) with `value`.
typedef struct {
    int32_t in_shape[4];
    int32_t before[4];
    int32_t out_shape[4];
    int32_t value;
} nn_pad_layer;

void nn_pad_s8(const nn_pad_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// ADD and MUL of `blocks` blocks: each value of b, of which there are `count`, meets `repeat` neighbouring values of a.
// The forms with one input take b from `constant`.
typedef struct {
    int32_t blocks, count, repeat;
    int32_t zero_a, multiplier_a, shift_a;
    int32_t zero_b, multiplier_b, shift_b;
    int32_t multiplier_out, shift_out;
    int32_t out_zero, act_min, act_max;
    const int8_t *constant;
} nn_add_repeat_layer;

void nn_add_repeat_s8(const nn_add_repeat_layer *layer, const int8_t *a, const int8_t *b, int8_t *out);
void nn_add_constant_s8(const nn_add_repeat_layer *layer, const int8_t *in, int8_t *out, void *scratch);

typedef struct {
    int32_t blocks, count, repeat;
    int32_t zero_a, zero_b;
    int32_t multiplier, shift;
    int32_t out_zero, act_min, act_max;
    const int8_t *constant;
} nn_mul_layer;

void nn_mul_s8(const nn_mul_layer *layer, const int8_t *a, const int8_t *b, int8_t *out);
void nn_mul_constant_s8(const nn_mul_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// LOGISTIC, QUANTIZE and others of `count` values: table[x + 128] is the output for x.
typedef struct {
    int32_t count;
    const int8_t *table;
} nn_table_layer;

void nn_table_s8(const nn_table_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// CONCATENATION of `rows` rows: `widths` bytes of each operand make one of the output.
typedef struct {
    int32_t rows;
    int32_t operands;
    const int32_t *widths;
} nn_concatenation_layer;

void nn_concatenation_s8(const nn_concatenation_layer *layer, const int8_t *const *in, int8_t *out);

// TRANSPOSE and STRIDED_SLICE of up to five axes (missing ones in front are 1): the output's shape, the input's index
// that goes first and how many values a step along each axis of the output moves there, which may be negative.
typedef struct {
    int32_t first;
    int32_t shape[5];
    int32_t step[5];
} nn_strided_copy_layer;

void nn_strided_copy_s8(const nn_strided_copy_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// Bytes to a lower address, or to a place that does not overlap.
void nn_move_s8(int8_t *to, const int8_t *from, uint32_t bytes);

#ifdef __cplusplus
}
#endif
#endif
