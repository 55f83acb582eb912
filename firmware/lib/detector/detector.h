// How scores become a decision while listening; all integer. Definition: converter/spec.py DetectorSpec; twin:
// host/link/detector.py.
#ifndef DETECTOR_H
#define DETECTOR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DETECTOR_MAX_LABELS 32
#define DETECTOR_NOTHING (-1)
#define DETECTOR_FIRST_WORD 2  // labels 0 and 1 are silence and unknown

typedef struct {
    uint8_t labels;         // 3..DETECTOR_MAX_LABELS
    uint8_t hop_frames;     // feature frames from one inference to the next
    uint8_t average_count;  // 1..64
    uint8_t threshold;      // of the mean score, 0..255
    uint32_t suppress_frames;
} detector_spec;

typedef struct {
    detector_spec spec;
    uint8_t *scores;                     // the last average_count inferences, a ring of rows of `labels`
    uint32_t sums[DETECTOR_MAX_LABELS];  // of the ring, per label
    uint8_t next;                        // the ring's oldest row
    uint8_t heard_before;
    uint32_t frames_since;  // since a word was last heard
} detector;

// `scores` lends average_count * labels bytes for as long as the detector is used.
void detector_reset(detector *d, const detector_spec *spec, uint8_t *scores);

// Takes one inference's int8 scores; returns the label of a word heard now, else DETECTOR_NOTHING.
int detector_step(detector *d, const int8_t *output);

#ifdef __cplusplus
}
#endif
#endif
