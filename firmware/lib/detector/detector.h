// How outputs become a decision while listening; all integer. Definition: converter/spec.py DetectorSpec; twin:
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
#define DETECTOR_MAX_WORDS (DETECTOR_MAX_LABELS - DETECTOR_FIRST_WORD)
#define DETECTOR_MAX_AVERAGE 64
#define DETECTOR_MAX_EVIDENCE 255  // of one inference, either sign

typedef struct {
    uint8_t labels;         // 3..DETECTOR_MAX_LABELS, or 1: the output is the probability of the one word
    uint8_t hop_frames;     // feature frames from one inference to the next
    uint8_t average_count;  // 1..DETECTOR_MAX_AVERAGE
    uint16_t suppress_frames;
    uint16_t settle_frames;
    const int16_t *thresholds;  // of the sums, one per word; lent, and may change between two steps
} detector_spec;

typedef struct {
    detector_spec spec;
    int16_t *evidence;                 // the last average_count inferences, a ring of rows, one column per word
    int32_t sums[DETECTOR_MAX_WORDS];  // of the ring, per word
    uint32_t disarmed;                 // bit w: word w was heard and has not been below its threshold since
    uint32_t frames;                   // since the reset; this and the next stop counting beyond UINT16_MAX
    uint32_t frames_since;             // since a word was last heard
    uint32_t next;                     // the ring's oldest row
} detector;

// `evidence` lends average_count numbers per word for as long as the detector is used. 0, and a detector that
// hears nothing and touches nothing lent, when labels or average_count are out of range; else 1.
int detector_reset(detector *d, const detector_spec *spec, int16_t *evidence);

// Takes one inference's int8 outputs; returns the label of a word heard now, else DETECTOR_NOTHING.
int detector_step(detector *d, const int8_t *output);

#ifdef __cplusplus
}
#endif
#endif
