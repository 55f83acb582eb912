// Between nn_depthwise_plane.c and its assembly.
#ifndef NN_DEPTHWISE_PLANE_H
#define NN_DEPTHWISE_PLANE_H

#include "nn_requant.h"

typedef struct {
    int32_t room;
    int32_t second_row;  // bytes from an output to the one below, 0 when there is but one row
    int32_t step;  // bytes from an output to the next
    int32_t multiplier, rounding, exponent;  // zero point -128: 2**(exponent - 1), exponent; else 2 * zero + 1, exponent - 1
    int32_t bias;  // doubled
    const uint32_t *x;  // the second word of the first pair of rows
    int32_t row_bytes, span_bytes;  // of a row of words, of those under the outputs
    int8_t *out;
    int32_t rows;
    int32_t unused;
    uint32_t upper[3], lower[3];  // doubled weights (w0, w1) and (w1, w2) of each column
} nn_plane_args;

#if NN_HAS_DSP
// Bounded sums, full range. They lie in RAM, out of a plain call's reach.
__attribute__((long_call)) void nn_plane_rows_relu(const nn_plane_args *args);  // zero point -128
__attribute__((long_call)) void nn_plane_rows_full(const nn_plane_args *args);
#endif
#endif
