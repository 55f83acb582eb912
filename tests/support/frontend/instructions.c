// For the virtual board: hashes of what the DSP instructions, the window and the transform give on any operands,
// extremes among them. Built with the instructions, with their twins in C, and with the portable stages, it must leave
// the same results.
#include "frontend_fft.c"
#include "frontend_fft_simd.c"

enum { INSTRUCTIONS = 19, STAGES = 2, ROUNDS = 4000, WINDOWS = 40 };

uint32_t results[INSTRUCTIONS + STAGES];
volatile uint32_t result_count;
volatile uint32_t finished;

static uint32_t state = 1;

static uint32_t any_word(void) {
    static const uint16_t extremes[8] = {0x8000, 0x8001, 0x7FFF, 0xFFFF, 0, 1, 0x4000, 0xC000};
    state = state * 1664525U + 1013904223U;
    const uint32_t low = state >> 16;
    state = state * 1664525U + 1013904223U;
    const uint32_t high = state >> 16;
    state = state * 1664525U + 1013904223U;
    return (state >> 31 ? low : extremes[low & 7U]) | (uint32_t)(state >> 30 & 1U ? high : extremes[high & 7U]) << 16;
}

static void add(uint32_t index, uint32_t value) { results[index] = (results[index] ^ value) * 16777619U + 1U; }

static void instructions(uint32_t a, uint32_t b, int32_t sum) {
    const uint32_t values[INSTRUCTIONS] = {
        simd_sadd16(a, b),
        simd_ssub16(a, b),
        simd_shadd16(a, b),
        simd_shsub16(a, b),
        simd_sasx(a, b),
        simd_ssax(a, b),
        simd_smulbb(a, b),
        simd_smultb(a, b),
        simd_smultt(a, b),
        simd_smuad(a, b),
        simd_pack_15(a, b),
        simd_pack_12(a, b),
        (uint32_t)simd_smlawb(a, b, sum),
        (uint32_t)simd_smlawt(a, b, sum),
        (uint32_t)simd_smlsd(a, b, sum),
        (uint32_t)simd_smladx(a, b, sum),
        simd_abs16(a),
        nn_pkhtb(a, b),
        (uint32_t)nn_smlatt(a, b, sum),
    };
    for (uint32_t index = 0; index < INSTRUCTIONS; ++index) {
        add(index, values[index]);
    }
}

static void two_bins(void) {
    int32_t energies[2] = {(int32_t)any_word(), (int32_t)any_word()};
    int16_t weights[4];
    for (uint32_t index = 0; index < 4; ++index) {
        weights[index] = (int16_t)(any_word() & 0x1FFFU);
    }
    const int32_t *energy = energies;
    const int16_t *weight = weights;
    int64_t channel = (int32_t)any_word(), next = (int32_t)any_word();
    simd_two_bins(&energy, &weight, &channel, &next);
    add(0, (uint32_t)channel ^ (uint32_t)((uint64_t)next >> 32));
    add(1, (uint32_t)next ^ (uint32_t)((uint64_t)channel >> 32));
    add(2, (uint32_t)(energy - energies) * 16U + (uint32_t)(weight - weights));
}

static void stages(uint32_t round) {
    static int16_t samples[FRONTEND_WINDOW_SAMPLES];
    static frontend_bin bins[FRONTEND_FFT_POINTS];
    for (uint32_t index = 0; index < FRONTEND_WINDOW_SAMPLES; ++index) {
        samples[index] = (int16_t)((int16_t)(uint16_t)any_word() >> round % 16);
    }
    add(INSTRUCTIONS, frontend_window_apply(samples, bins));
    for (uint32_t index = 0; index < FRONTEND_FFT_POINTS; ++index) {
        add(INSTRUCTIONS, bins[index].word);
        bins[index].word = any_word();
    }
    frontend_fft_energy(bins, round % 16);
    for (uint32_t bin = FRONTEND_FIRST_BIN; bin < FRONTEND_FIRST_BIN + FRONTEND_BINS; ++bin) {
        add(INSTRUCTIONS + 1, bins[bin].word);
    }
}

int main(void) {
    for (uint32_t round = 0; round < ROUNDS; ++round) {
        const uint32_t a = any_word(), b = any_word();
        instructions(a, b, (int32_t)any_word());
        two_bins();
    }
    for (uint32_t round = 0; round < WINDOWS; ++round) {
        stages(round);
    }
    result_count = INSTRUCTIONS + STAGES;
    finished = 1;
    return 0;
}
