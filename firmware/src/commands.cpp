// The answers to the serial commands that time or inspect the pipeline of main.cpp. docs/protocol.md describes each record.
#include <string.h>

#include "board.h"
#include "engine.h"
#include "kws_model.h"
#include "pipeline.h"
#include "protocol.h"

#if KWS_HAS_FRONTEND
#include "frontend.h"
#endif

#ifndef KWS_FIRMWARE_VERSION
#define KWS_FIRMWARE_VERSION "0.1.0"
#endif
#ifndef KWS_MLPERF_MODEL
#define KWS_MLPERF_MODEL "kws01"  // the benchmark's keyword spotting task
#endif

// Microseconds that follow the cycle counter while the CPU works and the millisecond clock across sleep or a wrap.
static uint64_t micros() {
    static uint64_t total_us;
    static uint32_t last_cycles, last_ms;
    const uint32_t per_us = board_clock_hz() / 1000000;
    const uint32_t ms = board_millis(), cycles = board_cycles();
    const uint64_t slept_us = (uint64_t)(ms - last_ms) * 1000;
    const uint32_t worked_us = (cycles - last_cycles) / per_us;
    if (slept_us > worked_us + 2000ull) {
        total_us += slept_us;
        last_cycles = cycles;
    } else {
        total_us += worked_us;
        last_cycles += worked_us * per_us;  // the rest of a microsecond counts next time
    }
    last_ms = ms;
    return total_us;
}

static void identity() {
    reply_open("id");
    reply_field(KWS_SPEC_ID);
    reply_field(KWS_MODEL_ID);
    reply_field_clean(KWS_MODEL_NAME);
    reply_close();
    reply_open("firmware");
    reply_field(KWS_FIRMWARE_VERSION);
    reply_field_u32(PROTOCOL_VERSION);
    reply_field(engine_name());
    reply_field_clean(board_name());
    reply_field_u32(board_clock_hz());
    reply_close();
    reply_open("network");
    reply_field_u32(KWS_INPUT_BYTES);
    reply_field_u32(KWS_OUTPUT_BYTES);
    reply_field_u32(KWS_LAYERS);
    reply_close();
#if KWS_HAS_FRONTEND
    static const char *const labels[] = KWS_LABEL_NAMES;
    reply_open("labels");
    for (const char *label : labels) reply_field_clean(label);
    reply_close();
    const uint32_t audio[] = {KWS_SAMPLE_RATE_HZ, KWS_WINDOW_SAMPLES, KWS_STEP_SAMPLES, KWS_CLIP_SAMPLES, KWS_FRAMES, KWS_CHANNELS};
    reply_open("audio");
    for (uint32_t value : audio) reply_field_u32(value);
    reply_close();
    const uint32_t detect[] = {KWS_HOP_FRAMES, KWS_AVERAGE_COUNT, KWS_DETECT_THRESHOLD, KWS_DETECT_SUPPRESS_FRAMES};
    reply_open("detector");
    for (uint32_t value : detect) reply_field_u32(value);
    reply_close();
#endif
}

static void memory() {
    reply_open("memory");
    reply_field_u32(board_flash_bytes());
    reply_field_u32(board_static_ram_bytes());
    reply_field_u32(engine_arena_bytes());
    reply_field_u32(board_stack_high_water_bytes());
    reply_close();
}

static const char *infer() {
    const char *error = infer_window(model_input);
    if (!error) memcpy(model_output, engine_output(), KWS_OUTPUT_BYTES);
    return error;
}

static const char *layers() {
    static engine_layer_record records[KWS_LAYERS];
    int count = 0;
    memcpy(engine_input(), model_input, KWS_INPUT_BYTES);
    const char *error = engine_invoke_traced(records, KWS_LAYERS, &count);
    if (error) return error;
    memcpy(model_output, engine_output(), KWS_OUTPUT_BYTES);
    for (int i = 0; i < count; i++) {
        reply_open("layer");
        reply_field_u32((uint32_t)i);
        reply_field_clean(records[i].name);
        reply_field_u32(records[i].cycles);
        if (records[i].has_crc) {
            reply_field_hex32(records[i].crc32);
        } else {
            reply_field("none");
        }
        reply_close();
    }
    reply_open("output");
    reply_field_bytes(model_output, KWS_OUTPUT_BYTES);
    reply_close();
    return nullptr;
}

#if KWS_HAS_FRONTEND
// The clip's features from a fresh state, as the network would see them; a short clip is followed by digital silence.
static const char *features(uint32_t samples) {
    uint32_t frame = 0;
    stage total = stage();
    listening_reset();
    memset(clip + samples, 0, (KWS_CLIP_SAMPLES - samples) * sizeof clip[0]);
    for (uint32_t at = 0; at + KWS_STEP_SAMPLES <= KWS_CLIP_SAMPLES && frame < KWS_FRAMES; at += KWS_STEP_SAMPLES) {
        stage slice = stage();
        stage_begin();
        const int has_frame = hear_step(clip + at);
        stage_end(&slice);
        total.cycles += slice.cycles;
        total.ms += slice.ms;
        if (!has_frame) continue;
        memcpy(model_input + frame * KWS_CHANNELS, heard_frame(0), KWS_CHANNELS);
        reply_open("slice");
        reply_field_u32(frame++);
        reply_field_u32(slice.cycles);
        reply_field_bytes(heard_frame(0), KWS_CHANNELS);
        reply_close();
    }
    if (frame != KWS_FRAMES) return "features: the clip gave too few frames";
    reply_open("features");
    reply_field_u32(KWS_INPUT_BYTES);
    reply_field_hex32(text_crc32(0, model_input, KWS_INPUT_BYTES));
    reply_field_u32(total.cycles);
    reply_field_u32(total.ms);
    reply_close();
    return nullptr;
}

// One run does what listening does per inference: KWS_HOP_FRAMES slices of features, an inference, a decision.
static const char *runs(uint32_t count, uint32_t samples) {
    uint32_t at = 0;
    if (samples < KWS_STEP_SAMPLES) return "runs: the clip is shorter than one step";
    listening_reset();
    (void)hear_step(clip);  // fills the first window, so that each later step completes a frame
    for (uint32_t run = 0; run < count; run++) {
        stage first = stage(), pre = stage(), infer = stage(), post = stage();
        stage_begin();
        for (uint32_t slice = 0; slice < KWS_HOP_FRAMES; slice++) {
            (void)hear_step(clip + at);
            if (slice == 0) stage_end(&first);
            at += KWS_STEP_SAMPLES;
            if (at + KWS_STEP_SAMPLES > samples) at = 0;
        }
        stage_end(&pre);
        stage_begin();
        const char *error = infer_heard();
        stage_end(&infer);
        if (error) return error;
        stage_begin();
        (void)decide();
        stage_end(&post);
        const uint32_t record[] = {run, KWS_HOP_FRAMES, first.cycles, pre.cycles, infer.cycles, post.cycles,
                                   first.ms, pre.ms, infer.ms, post.ms};
        reply_open("run");
        for (uint32_t value : record) reply_field_u32(value);
        reply_close();
    }
    return nullptr;
}

static const char *listen_and_report(uint32_t inferences) {
    return listen(inferences, true);
}
#else
// Without a front end a run is one inference on the loaded input.
static const char *runs(uint32_t count, uint32_t samples) {
    (void)samples;
    for (uint32_t run = 0; run < count; run++) {
        stage infer = stage();
        stage_begin();
        const char *error = infer_window(model_input);
        stage_end(&infer);
        if (error) return error;
        const uint32_t record[] = {run, 0, 0, 0, infer.cycles, 0, 0, 0, infer.ms, 0};
        reply_open("run");
        for (uint32_t value : record) reply_field_u32(value);
        reply_close();
    }
    return nullptr;
}
#endif

void commands_start() {
    static protocol_app app;  // zero where the model has no front end
    app.write = board_serial_write;
    app.name = board_name();
    app.model = KWS_MLPERF_MODEL;
    app.micros = micros;
    app.input = model_input;
    app.input_bytes = KWS_INPUT_BYTES;
    app.output = model_output;
    app.output_bytes = KWS_OUTPUT_BYTES;
    app.output_scale = KWS_OUTPUT_SCALE;
    app.output_zero_point = KWS_OUTPUT_ZERO_POINT;
    app.release = listening_end;
    app.identity = identity;
    app.memory = memory;
    app.cache = board_instruction_cache;
    app.infer = infer;
    app.layers = layers;
    app.runs = runs;
#if KWS_HAS_FRONTEND
    app.pcm = clip;
    app.pcm_samples = KWS_CLIP_SAMPLES;
    app.features = features;
    app.listen = listen_and_report;
    app.stream = stream_begin;
    app.audio = stream_audio;
#endif
    protocol_start(&app);
}
