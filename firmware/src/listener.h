// From audio to decisions, stage by stage: the sketch times and reports them (pipeline.h), the library runs them in a
// row (firmware/library/src/kws.c). One listener an image.
#ifndef LISTENER_H
#define LISTENER_H

#include "kws_model.h"
#if KWS_HAS_FRONTEND

#include <stdint.h>

#include "detector.h"

#ifdef __cplusplus
extern "C" {
#endif

// Feature frames from one inference to the next while listening, and how many inferences are averaged. A slow engine
// takes longer hops by a build flag; the averaging then spans the same time, and the thresholds shrink as the sums do.
#ifndef KWS_HOP_FRAMES
#define KWS_HOP_FRAMES KWS_DETECT_HOP_FRAMES
#endif
#if KWS_HOP_FRAMES <= KWS_DETECT_HOP_FRAMES
#define KWS_AVERAGE_COUNT KWS_DETECT_AVERAGE_COUNT
#elif KWS_DETECT_AVERAGE_COUNT * KWS_DETECT_HOP_FRAMES >= KWS_HOP_FRAMES
#define KWS_AVERAGE_COUNT (KWS_DETECT_AVERAGE_COUNT * KWS_DETECT_HOP_FRAMES / KWS_HOP_FRAMES)
#else
#define KWS_AVERAGE_COUNT 1
#endif
#define KWS_WORDS (KWS_LABELS - 2)
// A threshold of the model at this image's average, rounded towards zero.
#define KWS_AVERAGED(threshold) ((int16_t)((int32_t)(threshold) * KWS_AVERAGE_COUNT / KWS_DETECT_AVERAGE_COUNT))

extern int16_t listener_thresholds[KWS_WORDS];  // the detector's, at this image's average once listener_init was called
void listener_init(void);
void listener_reset(void);                      // front end, window and the detector's sums as after power-up
int listener_step(const int16_t *pcm);          // KWS_STEP_SAMPLES of audio; 1 when they completed a feature frame
int listener_hop_is_full(void);                 // KWS_HOP_FRAMES frames since the last inference
const char *listener_infer(void);               // on the last KWS_FRAMES frames, by streaming where the engine can
const char *listener_infer_window(void);        // the same on the whole window
int listener_decide(void);                      // a label, or DETECTOR_NOTHING
int32_t listener_sum(uint32_t word);            // the detector's, at most KWS_AVERAGE_COUNT * DETECTOR_MAX_EVIDENCE
const int8_t *listener_frame_at(uint32_t age);  // the features of `age` frames ago

#ifdef __cplusplus
}
#endif
#endif
#endif
