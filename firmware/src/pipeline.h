// What main.cpp does, stage by stage, for commands.cpp to time and to report.
#ifndef PIPELINE_H
#define PIPELINE_H

#include <stdint.h>

#include "kws_model.h"
#include "protocol.h"

// Feature frames from one inference to the next while listening, and how many inferences are averaged. A slow engine
// takes longer hops by a build flag; the averaging then spans the same time, and the thresholds shrink as the sums do.
#if KWS_HAS_FRONTEND
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
#endif

struct stage {  // what a stage took
    uint32_t cycles, ms;
};
void stage_begin();
void stage_end(stage *cost);  // adds the time since stage_begin

extern int8_t model_input[KWS_INPUT_BYTES];     // as `db` or `features` left it
extern int8_t model_output[KWS_OUTPUT_BYTES];   // of the last inference that a command asked for
const char *infer_window(const int8_t *input);  // copies it to the engine and runs; NULL or one sentence
void listening_end();

#if KWS_HAS_FRONTEND
// A threshold of the model at this image's average, rounded towards zero.
constexpr int16_t averaged(int32_t threshold) {
    return (int16_t)(threshold * KWS_AVERAGE_COUNT / KWS_DETECT_AVERAGE_COUNT);
}

extern int16_t step[KWS_STEP_SAMPLES];  // the step of audio being gathered
extern uint32_t step_samples;           // how much of it is there
extern int16_t thresholds[KWS_WORDS];   // the detector's; only `detector` commands and power-up set them
void listening_reset();                 // front end, window and the detector's sums as after power-up
int process_step(const int16_t *pcm);   // KWS_STEP_SAMPLES of audio; 1 when they completed a feature frame
const char *infer_latest();             // on the last KWS_FRAMES frames, by streaming where the engine can
const char *infer_latest_window();      // the same on the whole window
int decide();                           // a label, or DETECTOR_NOTHING; shows it on the LED
const int8_t *frame_at(uint32_t age);   // the features of `age` frames ago
const char *listen(uint32_t inferences, bool report);
const char *record(uint32_t steps);
const char *stream_begin();
const char *stream_audio(const int16_t *samples, uint32_t count);
#endif

void commands_start();  // the answers of commands.cpp, behind the protocol

#endif
