// Opens the private arithmetic of the front end to the tests.
#include "frontend.c"
#include "frontend_channels.c"
#include "frontend_fft.c"
#include "frontend_fft_simd.c"

void probe_root(const uint64_t *values, uint32_t *roots, uint32_t count) {
    for (uint32_t index = 0; index < count; ++index) {
        roots[index] = root64(values[index]);
    }
}

// Energies of the bins 0 .. FFT_POINTS - 1 of real samples taken as they are, without window and shift; bin 0 is not
// meant.
void probe_energies(const int16_t *samples, int32_t *energies) {
    frontend_bin bins[FRONTEND_FFT_POINTS];
    for (uint32_t index = 0; index < 2 * FRONTEND_FFT_POINTS; ++index) {
        bins[frontend_fft_order[index / 2]].part[index % 2] =
            index < FRONTEND_WINDOW_SAMPLES ? samples[index] : (int16_t)0;
    }
    frontend_fft_energy(bins, 0);
    for (uint32_t bin = 0; bin < FRONTEND_FFT_POINTS; ++bin) {
        energies[bin] = bins[bin].energy;
    }
}
