// Made by: python -m converter convert (do not edit)
#ifndef MODEL_AOT_H
#define MODEL_AOT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MODEL_AOT_INPUT_BYTES 1960
#define MODEL_AOT_OUTPUT_BYTES 4
#define MODEL_AOT_LAYERS 8
#define MODEL_AOT_ARENA_BYTES 7328 // activations and scratch together
#define MODEL_AOT_SCRATCH_BYTES 760 // the largest scratch of one layer, part of the arena

// Called after each layer; `output` is valid during the call only.
typedef void (*model_aot_observer)(int layer, const char *name, const int8_t *output, uint32_t bytes);

int8_t *model_aot_input(void); // may be overwritten by model_aot_run
const int8_t *model_aot_output(void); // valid until the next model_aot_run
void model_aot_run(model_aot_observer after_layer); // after_layer may be NULL

// Streaming: equal to model_aot_run on the window moved by MODEL_AOT_STREAM_HOP_FRAMES frames, with most rows kept from the hop before.
#define MODEL_AOT_STREAMS 1
#define MODEL_AOT_STREAM_HOP_FRAMES 2
#define MODEL_AOT_STREAM_HOP_BYTES 80
#define MODEL_AOT_STREAM_KEPT_BYTES 2496 // of the arena, from hop to hop

void model_aot_stream_start(void); // model_aot_run(NULL) that also lays down what the hops keep; the arena is theirs until the next run
// The next MODEL_AOT_STREAM_HOP_BYTES of input. The observer is given the last rows of each layer's output, those that were kept or made.
void model_aot_stream_run(const int8_t *rows, model_aot_observer after_layer);

#ifdef __cplusplus
}
#endif
#endif
