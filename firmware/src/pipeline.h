// What main.cpp does, stage by stage, for commands.cpp to time and to report.
#ifndef PIPELINE_H
#define PIPELINE_H

#include <stdint.h>

#include "kws_model.h"
#include "listener.h"
#include "protocol.h"

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
extern int16_t step[KWS_STEP_SAMPLES];  // the step of audio being gathered
extern uint32_t step_samples;           // how much of it is there
void listening_reset();                 // the listener and the LED as after power-up
int decide();                           // a label, or DETECTOR_NOTHING; shows it on the LED
const char *listen(uint32_t inferences, bool report);
const char *record(uint32_t steps);
const char *stream_begin();
const char *stream_audio(const int16_t *samples, uint32_t count);
#endif

void commands_start();  // the answers of commands.cpp, behind the protocol

#endif
