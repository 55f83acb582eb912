#include "detector.h"

#include <string.h>

static int words_of(const detector_spec *spec) { return spec->labels == 1 ? 1 : spec->labels - DETECTOR_FIRST_WORD; }

int detector_reset(detector *d, const detector_spec *spec, int16_t *evidence) {
    memset(d, 0, sizeof *d);
    if (spec->labels != 1 && (spec->labels <= DETECTOR_FIRST_WORD || spec->labels > DETECTOR_MAX_LABELS)) return 0;
    if (spec->average_count < 1 || spec->average_count > DETECTOR_MAX_AVERAGE) return 0;
    d->spec = *spec;
    d->evidence = evidence;
    d->frames_since = UINT16_MAX + 1u;  // no rest lasts so long
    memset(evidence, 0, sizeof *evidence * spec->average_count * (size_t)words_of(spec));
    return 1;
}

static void add_evidence(detector *d, const int8_t *output) {
    const int labels = d->spec.labels, words = words_of(&d->spec);
    int16_t *row = d->evidence + d->next * (uint32_t)words;
    int first = 0, second = -128;  // the leading label, and the largest output of the others
    for (int label = 1; label < labels; label++) {
        if (output[label] > output[first]) {
            second = output[first];
            first = label;
        } else if (output[label] > second) {
            second = output[label];
        }
    }
    for (int word = 0; word < words; word++) {
        const int label = labels == 1 ? 0 : word + DETECTOR_FIRST_WORD;
        const int evidence = output[label] - (label == first ? second : output[first]);  // one output: second is -128
        d->sums[word] += evidence - row[word];
        row[word] = (int16_t)evidence;
    }
    d->next = (d->next + 1) % d->spec.average_count;
}

int detector_step(detector *d, const int8_t *output) {
    int heard = DETECTOR_NOTHING;
    if (d->spec.labels == 0) return heard;
    add_evidence(d, output);
    if (d->frames <= UINT16_MAX) d->frames += d->spec.hop_frames;
    if (d->frames_since <= UINT16_MAX) d->frames_since += d->spec.hop_frames;
    const int listening = d->frames > d->spec.settle_frames && d->frames_since > d->spec.suppress_frames;
    int32_t largest = 0;
    for (int word = 0; word < words_of(&d->spec); word++) {
        const uint32_t bit = (uint32_t)1 << word;
        if (d->sums[word] < d->spec.thresholds[word]) {
            d->disarmed &= ~bit;
        } else if (listening && !(d->disarmed & bit) && (heard == DETECTOR_NOTHING || d->sums[word] > largest)) {
            heard = word + DETECTOR_FIRST_WORD;
            largest = d->sums[word];
        }
    }
    if (heard == DETECTOR_NOTHING) return heard;
    d->disarmed |= (uint32_t)1 << (heard - DETECTOR_FIRST_WORD);
    d->frames_since = 0;
    return heard;
}
