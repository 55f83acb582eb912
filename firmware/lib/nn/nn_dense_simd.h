// Between nn_dense_simd.c and its assembly.
#ifndef NN_DENSE_SIMD_H
#define NN_DENSE_SIMD_H

#include "nn_requant.h"

#if NN_HAS_DSP
// sums[0..3] += rows . x over 16 * turns values; turns > 0. It lies in RAM, out of a plain call's reach.
__attribute__((long_call)) void nn_dense_sixteens(const int8_t *w, const int8_t *x, int32_t turns, int32_t *sums);
#endif
#endif
