// frontend_stream PCM RAW: little-endian int16 samples of file PCM to uint16 channel values in file RAW, then int8
// features after them; the samples are fed in pieces of changing size. Runs on the host (with sanitizers) and on an
// emulated Cortex-M4 (semihosting).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend.h"

static int run(FILE *pcm_file, FILE *raw_file, int with_features) {
    frontend_state *state = malloc(sizeof *state);  // exactly its size, so that a sanitizer sees every step outside
    int16_t *pcm = malloc(FRONTEND_STEP_SAMPLES * sizeof *pcm);
    uint16_t *raw = malloc(FRONTEND_CHANNELS * sizeof *raw);
    int8_t *features = malloc(FRONTEND_CHANNELS);
    uint32_t piece = 0;
    frontend_reset(state);
    for (;;) {
        piece = with_features ? FRONTEND_STEP_SAMPLES : (piece * 7 + 5) % (FRONTEND_STEP_SAMPLES + 1);
        const uint32_t count = (uint32_t)fread(pcm, sizeof *pcm, piece, pcm_file);
        int ready;
        if (!with_features) {
            ready = frontend_feed_raw(state, pcm, count, raw);
        } else {
            ready = count == FRONTEND_STEP_SAMPLES ? frontend_step(state, pcm, features)
                                                   : frontend_feed(state, pcm, count, features);
        }
        if (ready) {
            fwrite(with_features ? (void *)features : (void *)raw, with_features ? 1 : 2, FRONTEND_CHANNELS, raw_file);
        }
        if (count < piece) {
            break;
        }
    }
    free(features);
    free(raw);
    free(pcm);
    free(state);
    return 0;
}

int main(int argc, char **argv) {
    FILE *pcm_file = fopen(argc > 1 ? argv[1] : "pcm.bin", "rb");
    FILE *raw_file = fopen(argc > 2 ? argv[2] : "raw.bin", "wb");
    if (pcm_file == NULL || raw_file == NULL) {
        return 2;
    }
    run(pcm_file, raw_file, 0);
    rewind(pcm_file);
    run(pcm_file, raw_file, 1);
    fclose(pcm_file);
    return fclose(raw_file) == 0 ? 0 : 3;
}
