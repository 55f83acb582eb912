// The engine of generated C (converter/aot/emit.py) over the kernels of lib/nn.
#include <stddef.h>

#include "engine.h"
#include "kws_model.h"
#ifdef KWS_TFLM_ONLY
#error "This model runs in TensorFlow Lite Micro only; build it with engine tflm, or convert a model that compiles."
#endif
#include "model_aot.h"

_Static_assert(KWS_INPUT_BYTES == MODEL_AOT_INPUT_BYTES, "kws_model.h and model_aot.h come from two models");
_Static_assert(KWS_OUTPUT_BYTES == MODEL_AOT_OUTPUT_BYTES, "kws_model.h and model_aot.h come from two models");
_Static_assert(KWS_LAYERS == MODEL_AOT_LAYERS, "kws_model.h and model_aot.h come from two models");

#ifndef MODEL_AOT_ENGINE  // model_aot.h says so where another compiler made some of the layers
#define MODEL_AOT_ENGINE "aot"
#endif

const char *engine_name(void) { return MODEL_AOT_ENGINE; }

const char *engine_init(void) { return NULL; }

int8_t *engine_input(void) { return model_aot_input(); }

const int8_t *engine_output(void) { return model_aot_output(); }

void engine_reset(void) {
#ifdef MODEL_AOT_STATE_BYTES
    model_aot_reset();
#endif
}

static int streaming;  // the arena holds what the next hop needs

const char *engine_invoke(void) {
    streaming = 0;
    model_aot_run(NULL);
    return NULL;
}

#if MODEL_AOT_STREAMS
uint32_t engine_stream_frames(void) { return MODEL_AOT_STREAM_HOP_FRAMES; }

const char *engine_stream_start(void) {
    model_aot_stream_start();
    streaming = 1;
    return NULL;
}

const char *engine_stream_next(const int8_t *frames) {
    if (!streaming) {
        return "aot: a stream begins with a whole window";
    }
    model_aot_stream_run(frames, NULL);
    return NULL;
}
#else
uint32_t engine_stream_frames(void) { return 0; }

const char *engine_stream_start(void) { return engine_invoke(); }

const char *engine_stream_next(const int8_t *frames) {
    (void)frames;
    return "aot: this model runs whole windows only; model_aot.h says why";
}
#endif

uint32_t engine_arena_bytes(void) { return MODEL_AOT_ARENA_BYTES; }

#if __has_include("board.h")  // the library has no clock to time layers by
#include "board.h"

// CRC-32 (IEEE), four bits at a time.
static uint32_t crc32_of(const int8_t *bytes, uint32_t count) {
    static const uint32_t nibbles[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < count; i++) {
        crc ^= (uint8_t)bytes[i];
        crc = (crc >> 4) ^ nibbles[crc & 15u];
        crc = (crc >> 4) ^ nibbles[crc & 15u];
    }
    return ~crc;
}

// The trace being written; the clock restarts when a record is done, so that its CRC costs no layer anything.
static struct {
    engine_layer_record *records;
    int room;
    int count;
    uint32_t started;
} trace;

static void record_layer(int layer, const char *name, const int8_t *output, uint32_t bytes) {
    const uint32_t cycles = board_cycles() - trace.started;
    if (layer < trace.room) {
        engine_layer_record *record = &trace.records[layer];
        record->name = name;
        record->cycles = cycles;
        record->crc32 = crc32_of(output, bytes);
        record->has_crc = 1;
        trace.count = layer + 1;
    }
    trace.started = board_cycles();
}

const char *engine_invoke_traced(engine_layer_record *records, int max_records, int *count) {
    trace.records = records;
    trace.room = max_records;
    trace.count = 0;
    trace.started = board_cycles();
    streaming = 0;
    model_aot_run(record_layer);
    *count = trace.count;
    return NULL;
}
#endif
