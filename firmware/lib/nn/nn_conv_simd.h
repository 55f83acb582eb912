// Between nn_conv_simd.c and its assembly.
#ifndef NN_CONV_SIMD_H
#define NN_CONV_SIMD_H

#include "nn_requant.h"

enum { NN_CONV_STEPS = 16, NN_CONV_STEP_BYTES = 48 };  // words of weights in a turn of the loop; code bytes of one

typedef struct {
    const uint32_t *x;  // a word before the first, less what the way into the loop leaves out; so too the weights
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

#if NN_HAS_DSP
// Three pixels, bounded sums, full range. They lie in RAM, out of a plain call's reach.
__attribute__((long_call)) void nn_conv_pairs_relu(const nn_conv_args *args);  // zero point -128
__attribute__((long_call)) void nn_conv_pairs_full(const nn_conv_args *args);
#endif
#endif
