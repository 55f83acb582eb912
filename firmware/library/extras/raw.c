// Words in 16 kHz mono 16 bit samples (this machine's byte order) on stdin: the library without a board.
// raw [SAMPLES at a time] < recording.raw
#include <stdio.h>
#include <stdlib.h>

#include "kws.h"

int main(int argc, char **argv) {
    static int16_t pcm[KWS_RING_SAMPLES];
    const size_t most = sizeof pcm / sizeof pcm[0];
    size_t chunk = argc > 1 ? strtoul(argv[1], NULL, 10) : 320, taken = 0, got;
    if (chunk < 1 || chunk > most) {
        fprintf(stderr, "raw: takes 1 to %zu samples at a time, got %s; name fewer\n", most, argv[1]);
        return 1;
    }
    kws_init();
    while ((got = fread(pcm, sizeof pcm[0], chunk, stdin)) > 0) {
        const char *word;
        float score;
        kws_push(pcm, got);
        taken += got;
        while (kws_poll(&word, &score)) printf("%zu %s %.9g\n", taken, word, (double)score);
    }
    if (kws_dropped()) fprintf(stderr, "raw: %u samples lost\n", (unsigned)kws_dropped());
    return kws_dropped() != 0;
}
