#include "detector.h"

#include <string.h>

void detector_reset(detector *d, const detector_spec *spec, uint8_t *scores) {
    memset(d, 0, sizeof *d);
    memset(scores, 0, (size_t)spec->average_count * spec->labels);
    d->spec = *spec;
    d->scores = scores;
}

// The label with the largest sum; of equal ones the first, so that silence and unknown win a tie against a word.
static int largest(const detector *d) {
    int best = 0;
    for (int label = 1; label < d->spec.labels; label++) {
        if (d->sums[label] > d->sums[best]) best = label;
    }
    return best;
}

int detector_step(detector *d, const int8_t *output) {
    uint8_t *row = d->scores + d->next * d->spec.labels;
    for (int label = 0; label < d->spec.labels; label++) {
        const uint8_t score = (uint8_t)(output[label] + 128);
        d->sums[label] += (uint32_t)score - row[label];
        row[label] = score;
    }
    d->next = (uint8_t)((d->next + 1) % d->spec.average_count);

    if (d->frames_since <= UINT32_MAX - d->spec.hop_frames) d->frames_since += d->spec.hop_frames;
    const int label = largest(d);
    if (label < DETECTOR_FIRST_WORD) return DETECTOR_NOTHING;
    if (d->sums[label] < (uint32_t)d->spec.threshold * d->spec.average_count) return DETECTOR_NOTHING;
    if (d->heard_before && d->frames_since <= d->spec.suppress_frames) return DETECTOR_NOTHING;
    d->heard_before = 1;
    d->frames_since = 0;
    return label;
}
