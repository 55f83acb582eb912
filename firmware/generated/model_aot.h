// Made by: python -m converter convert (do not edit)
#ifndef MODEL_AOT_H
#define MODEL_AOT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MODEL_AOT_INPUT_BYTES 1960
#define MODEL_AOT_OUTPUT_BYTES 4
#define MODEL_AOT_LAYERS 3
#define MODEL_AOT_ARENA_BYTES 6920 // activations and scratch together
#define MODEL_AOT_SCRATCH_BYTES 960 // the largest scratch of one layer, part of the arena

// Called after each layer; `output` is valid during the call only.
typedef void (*model_aot_observer)(int layer, const char *name, const int8_t *output, uint32_t bytes);

int8_t *model_aot_input(void); // may be overwritten by model_aot_run
const int8_t *model_aot_output(void); // valid until the next model_aot_run
void model_aot_run(model_aot_observer after_layer); // after_layer may be NULL

#ifdef __cplusplus
}
#endif
#endif
