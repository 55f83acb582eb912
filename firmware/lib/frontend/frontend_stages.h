// The stages behind frontend.h, in the order they run.
#ifndef FRONTEND_STAGES_H
#define FRONTEND_STAGES_H

#include "frontend.h"

// samples * window in the order the transform wants. Returns the left shift (0 .. 15) that normalises them.
uint32_t frontend_window_apply(const int16_t *samples, frontend_bin *bins);

// Transform of the real signal in bins, shifted left first; afterwards the energies of the channels' bins are valid.
void frontend_fft_energy(frontend_bin *bins, uint32_t shift);

// Mel channels: square root of the weighted energies, taken back by `shift`.
void frontend_filterbank(const frontend_bin *bins, uint32_t shift, uint32_t *signal);

// Subtracts the running noise estimate, which it updates.
void frontend_denoise(uint32_t *noise, uint32_t *signal);

// Divides by the noise estimate's gain curve (PCAN), then takes the logarithm.
void frontend_gain_log(const uint32_t *noise, const uint32_t *signal, uint16_t *raw);

// Bits up to and including the highest set one; 0 for 0.
static inline uint32_t frontend_bits(uint32_t value) { return value == 0 ? 0U : 32U - (uint32_t)__builtin_clz(value); }

#endif
