// The answers to the serial commands that time or inspect the pipeline of main.cpp. docs/protocol.md describes each
// record.
#include <string.h>

#include "board.h"
#include "engine.h"
#include "kws_model.h"
#include "pipeline.h"
#include "protocol.h"

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

#if KWS_HAS_FRONTEND
#if KWS_DETECT_RATE_COUNT
static const struct {
    uint32_t milli;  // thousandths of a false accept per hour
    int16_t thresholds[KWS_WORDS];
} rates[] = KWS_DETECT_RATES;
#endif

static void report_detector(int with_rates) {
    const uint32_t numbers[] = {KWS_HOP_FRAMES, KWS_AVERAGE_COUNT, KWS_DETECT_SUPPRESS_FRAMES,
                                KWS_DETECT_SETTLE_FRAMES};
    reply_open("detector");
    for (uint32_t value : numbers) reply_field_u32(value);
    for (int16_t value : listener_thresholds) reply_field_i32(value);
    reply_close();
    if (!with_rates) return;
#if KWS_DETECT_RATE_COUNT
    for (const auto &row : rates) {
        reply_open("rate");
        reply_field_u32(row.milli);
        for (int16_t value : row.thresholds) reply_field_i32(KWS_AVERAGED(value));
        reply_close();
    }
#endif
}

static void set_thresholds(const int32_t *values) {
    for (int16_t &threshold : listener_thresholds) threshold = (int16_t)*values++;
}

static const char *set_rate(uint32_t milli) {
    (void)milli;
#if KWS_DETECT_RATE_COUNT
    for (const auto &row : rates) {
        if (row.milli != milli) continue;
        for (uint32_t word = 0; word < KWS_WORDS; word++)
            listener_thresholds[word] = KWS_AVERAGED(row.thresholds[word]);
        return nullptr;
    }
#endif
    return "detector rate: not in the table, which detector answers";
}
#endif

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
#ifdef KWS_TENSORS
    static const struct {
        const char *side, *type, *shape;
        uint32_t bytes;
        const char *scale;
        int32_t zero_point;
    } tensors[] = KWS_TENSORS;
    for (const auto &tensor : tensors) {
        reply_open("tensor");
        reply_field(tensor.side);
        reply_field(tensor.type);
        reply_field(tensor.shape);
        reply_field_u32(tensor.bytes);
        reply_field(tensor.scale);
        reply_field_i32(tensor.zero_point);
        reply_close();
    }
#endif
#if KWS_HAS_FRONTEND
    static const char *const labels[] = KWS_LABEL_NAMES;
    reply_open("labels");
    for (const char *label : labels) reply_field_word(label);
    reply_close();
    const uint32_t audio[] = {KWS_SAMPLE_RATE_HZ, KWS_WINDOW_SAMPLES, KWS_STEP_SAMPLES,
                              KWS_CLIP_SAMPLES,   KWS_FRAMES,         KWS_CHANNELS};
    reply_open("audio");
    for (uint32_t value : audio) reply_field_u32(value);
    reply_close();
    report_detector(0);
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

static void cache_counts() {
    uint32_t hits, misses;
    board_cache_counts(&hits, &misses);
    reply_open("cache");
    reply_field_u32(hits);
    reply_field_u32(misses);
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
// A clip is worked on as it comes: only its features stay, in the network's input, and its first samples for timing.
static int16_t sample[5 * KWS_STEP_SAMPLES];
static uint32_t sample_count;
static uint32_t slice_cycles[KWS_FRAMES];
static uint32_t clip_frames;
static stage clip_cost;

static void clip_begin() {
    listening_reset();
    sample_count = clip_frames = 0;
    clip_cost = stage();
}

static void clip_step() {
    step_samples = 0;
    if (clip_frames == KWS_FRAMES) return;
    stage slice = stage();
    stage_begin();
    const int has_frame = listener_step(step);
    stage_end(&slice);
    clip_cost.cycles += slice.cycles;
    clip_cost.ms += slice.ms;
    if (!has_frame) return;
    memcpy(model_input + clip_frames * KWS_CHANNELS, listener_frame_at(0), KWS_CHANNELS);
    slice_cycles[clip_frames++] = slice.cycles;
}

static void clip_more(const int16_t *samples, uint32_t count) {
    for (; count; count--, samples++) {
        if (sample_count < sizeof sample / sizeof sample[0]) sample[sample_count++] = *samples;
        step[step_samples++] = *samples;
        if (step_samples == KWS_STEP_SAMPLES) clip_step();
    }
}

static void clip_end() {  // digital silence follows a short clip
    while (clip_frames < KWS_FRAMES) {
        memset(step + step_samples, 0, (KWS_STEP_SAMPLES - step_samples) * sizeof step[0]);
        clip_step();
    }
}

static void features() {
    for (uint32_t frame = 0; frame < KWS_FRAMES; frame++) {
        reply_open("slice");
        reply_field_u32(frame);
        reply_field_u32(slice_cycles[frame]);
        reply_field_bytes(model_input + frame * KWS_CHANNELS, KWS_CHANNELS);
        reply_close();
    }
    reply_open("features");
    reply_field_u32(KWS_INPUT_BYTES);
    reply_field_hex32(text_crc32(0, model_input, KWS_INPUT_BYTES));
    reply_field_u32(clip_cost.cycles);
    reply_field_u32(clip_cost.ms);
    reply_close();
}

// The next step of the sample, again from its start when it ends.
static const int16_t *next_step(uint32_t *at) {
    if (*at + KWS_STEP_SAMPLES > sample_count) *at = 0;
    const int16_t *found = sample + *at;
    *at += KWS_STEP_SAMPLES;
    return found;
}

static const char *start_timing(uint32_t *at) {
    if (sample_count < KWS_STEP_SAMPLES) return "the clip is shorter than one step";
    *at = 0;
    listening_reset();
    (void)listener_step(next_step(at));  // fills the first window, so that each later step completes a frame
    return nullptr;
}

static const char *windows(uint32_t count) {
    uint32_t at;
    const char *error = start_timing(&at);
    for (uint32_t run = 0; run < count && !error; run++) {
        if (protocol_interrupted()) return PROTOCOL_ENDED;
        stage cost = stage();
        stage_begin();
        for (uint32_t slice = 0; slice < KWS_FRAMES; slice++) (void)listener_step(next_step(&at));
        stage_end(&cost);
        const uint32_t record[] = {run, KWS_FRAMES, cost.cycles, cost.ms};
        reply_open("window");
        for (uint32_t value : record) reply_field_u32(value);
        reply_close();
    }
    return error;
}

// One run does what listening does per inference: KWS_HOP_FRAMES slices of features, an inference, a decision. Where
// the engine streams, the inference is made in both ways, by streaming first.
static const char *runs(uint32_t count) {
    uint32_t at;
    const char *error = start_timing(&at);
    if (error) return error;
    const bool streams = engine_stream_frames() == KWS_HOP_FRAMES;
    if (streams) error = listener_infer_window();
    if (error) return error;
    for (uint32_t run = 0; run < count; run++) {
        if (protocol_interrupted()) return PROTOCOL_ENDED;
        stage first = stage(), pre = stage(), streamed = stage(), infer = stage(), post = stage();
        stage_begin();
        for (uint32_t slice = 0; slice < KWS_HOP_FRAMES; slice++) {
            (void)listener_step(next_step(&at));
            if (slice == 0) stage_end(&first);
        }
        stage_end(&pre);
        if (streams) {
            stage_begin();
            error = listener_infer();
            stage_end(&streamed);
            if (error) return error;
        }
        stage_begin();
        error = listener_infer_window();
        stage_end(&infer);
        if (error) return error;
        stage_begin();
        (void)decide();
        stage_end(&post);
        const uint32_t record[] = {run,         KWS_HOP_FRAMES, first.cycles, pre.cycles, infer.cycles,
                                   post.cycles, first.ms,       pre.ms,       infer.ms,   post.ms};
        reply_open("run");
        for (uint32_t value : record) reply_field_u32(value);
        if (streams) {
            reply_field_u32(streamed.cycles);
            reply_field_u32(streamed.ms);
        }
        reply_close();
    }
    return nullptr;
}

static const char *listen_and_report(uint32_t inferences) { return listen(inferences, true); }
#else
// Without a front end a run is one inference on the loaded input.
static const char *runs(uint32_t count) {
    for (uint32_t run = 0; run < count; run++) {
        if (protocol_interrupted()) return PROTOCOL_ENDED;
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
    app.read = board_serial_read;
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
    app.cache_counts = cache_counts;
    app.infer = infer;
    app.layers = layers;
    app.runs = runs;
#if KWS_HAS_FRONTEND
    app.clip_samples = KWS_CLIP_SAMPLES;
    app.clip_begin = clip_begin;
    app.clip_more = clip_more;
    app.clip_end = clip_end;
    app.words = KWS_WORDS;
    app.max_threshold = DETECTOR_MAX_EVIDENCE * KWS_AVERAGE_COUNT;
    app.detector = report_detector;
    app.thresholds = set_thresholds;
    app.rate = set_rate;
    app.features = features;
    app.windows = windows;
    app.listen = listen_and_report;
    app.record = record;
    app.stream = stream_begin;
    app.audio = stream_audio;
#endif
    protocol_start(&app);
}
