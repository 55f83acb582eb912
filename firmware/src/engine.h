// The one door to an inference engine: engine_aot.c (our kernels) or engine_tflm.cpp (TensorFlow Lite Micro).
#ifndef ENGINE_H
#define ENGINE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Calls that can fail return NULL when all is well, else one sentence for the serial port.
const char *engine_name(void);  // "aot", "tvm" (the same door, some layers compiled by TVM) or "tflm"
const char *engine_init(void);
int8_t *engine_input(void);         // KWS_INPUT_BYTES; may be overwritten by engine_invoke
const int8_t *engine_output(void);  // KWS_OUTPUT_BYTES; valid until the next engine_invoke
const char *engine_invoke(void);
uint32_t engine_arena_bytes(void);  // activations and scratch in RAM
void engine_reset(void);            // forgets what the model itself keeps from inference to inference, if it does

// Streaming: while the window moves on by whole hops, an engine may keep most of what it computed. engine_stream_next
// gives what engine_invoke would give on the moved window, bit for bit; any other inference ends it until the next
// engine_stream_start.
uint32_t engine_stream_frames(void);    // rows of input in a hop; 0: this engine or model only runs whole windows
const char *engine_stream_start(void);  // engine_invoke, and what the hops after it need is kept
const char *engine_stream_next(const int8_t *frames);

// The same inference with one record per layer; has_crc is 0 where the engine cannot see a layer's output.
typedef struct {
    const char *name;
    uint32_t cycles;
    uint32_t crc32;  // CRC-32 (IEEE, as zlib's) of the layer's int8 output
    uint8_t has_crc;
} engine_layer_record;

const char *engine_invoke_traced(engine_layer_record *records, int max_records, int *count);

#ifdef __cplusplus
}
#endif
#endif
