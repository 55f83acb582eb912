// Weights of 4 and 2 bits, and weights most of which are zero: kept small in flash, their sums those of plain int8 bit
// for bit. converter/aot/kernels/low_bits/dense_lowbit.py makes the data,
// converter/aot/kernels/low_bits/dense_lowbit_asm.py the assembly; where the CPU lacks SMLAD `code` is null and
// portable C runs.
#ifndef NN_LOWBIT_H
#define NN_LOWBIT_H

#include "nn.h"

// sums[0..3] += the weights of four outputs a b c d times (x - base), over `turns` times NN_LOWBIT_TURN inputs.
typedef struct {
    void (*block)(const uint32_t *weights, const int8_t *x, int32_t turns, int32_t *sums);
} nn_dense_lowbit_code;

#define NN_LOWBIT_TURN 16

// FULLY_CONNECTED with weights of `bits` bits. The converter has folded (base - in_zero) * sum(weights) into the
// biases. Blocks of four outputs a b c d, missing ones zero; inputs padded with zero weights to NN_LOWBIT_TURN. 4-byte
// aligned words per four inputs 0..3: 4 bits: two words, the first of inputs 0 (lower half) and 2, the second of 1
// and 3. A half is a + offset, b + offset, c + offset and, in
//   two's complement, d, lowest first; offset is 8.
// 2 bits: one word of 16 fields. Rotated right by 4 p bits, fields 0 and 8 are weights plus `offset`, and fields 7 and
// 15 weights in two's
//   complement: of a and b for p 0 (inputs 0, 2) and p 1 (inputs 1, 3), of c and d for p 2 and p 3.
typedef struct {
    int32_t rows;
    int32_t in_n, out_n;
    int32_t bits, offset, base;
    nn_output output;
    const int32_t *weights;
    const nn_channel *channels;
    const nn_dense_lowbit_code *code;
} nn_dense_lowbit_layer;

void nn_dense_lowbit_s8(const nn_dense_lowbit_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// The sum over `groups` times NN_SPARSE_GROUP entries of one output.
typedef struct {
    int32_t (*row)(const uint32_t *entries, const int8_t *x, int32_t groups);
} nn_dense_sparse_code;

#define NN_SPARSE_GROUP 8

// FULLY_CONNECTED by its non-zero weights. The converter has folded -in_zero * sum(weights) into the biases. Per output
// groups[c] groups of entries; an entry is the distance to its input from the one before (the first from input 0) and
// the weight, which is 0 where a distance was too long or a group not full. A group: the distances, then the weights,
// each of 4 or 8 bits, entry i in byte i of two words, or in byte i % 4 of one, the lower half for the first four
// entries.
typedef struct {
    int32_t rows;
    int32_t in_n, out_n;
    int32_t distance_bits, bits;
    nn_output output;
    const int32_t *weights;
    const int32_t *groups;
    const nn_channel *channels;
    const nn_dense_sparse_code *code;
} nn_dense_sparse_layer;

void nn_dense_sparse_s8(const nn_dense_sparse_layer *layer, const int8_t *in, int8_t *out, void *scratch);

// The table of a convolution's weights in the words that its kernel reads, from runs of narrow fields. A run: a
// word with the count of output words in bits 0-15, the bits of a field in 16-19 (0: the words follow as they are), in
// 20 whether a field becomes a byte, in 21 whether two stand NN_CONV_PACKED_FIELD bits apart (else each becomes an
// int16), in 24-27 and 28-31 how far the fields of the first, third.. and of the second, fourth.. word are shifted;
// then the fields, see nn_unpack.c.
void nn_unpack(const int32_t *packed, int32_t words, int32_t *unpacked);

#endif
