// The keyword spotter: audio -> features -> scores -> word, and a serial line to ask about each of them.
#include <string.h>

#include "board.h"
#include "engine.h"
#include "kws_model.h"
#include "pipeline.h"
#include "protocol.h"

int8_t model_input[KWS_INPUT_BYTES];
int8_t model_output[KWS_OUTPUT_BYTES];

static uint32_t began_cycles, began_ms;

void stage_begin() {
    began_ms = board_millis();
    began_cycles = board_cycles();
}

void stage_end(stage *cost) {
    cost->cycles += board_cycles() - began_cycles;
    cost->ms += board_millis() - began_ms;
}

const char *infer_window(const int8_t *input) {
    memcpy(engine_input(), input, KWS_INPUT_BYTES);
    return engine_invoke();
}

#if KWS_HAS_FRONTEND
#ifndef KWS_LISTEN_AT_BOOT
#define KWS_LISTEN_AT_BOOT \
    1  // without a computer the LED shows the words heard; any command that needs the network ends it
#endif
#define LED_FRAMES 50  // how long a word stays on the LED

static_assert(KWS_WORDS <= PROTOCOL_MAX_THRESHOLDS, "one threshold per word");
static_assert(KWS_STEP_SAMPLES <= PROTOCOL_AUDIO_SAMPLES, "an audio line holds a step");

int16_t step[KWS_STEP_SAMPLES];
uint32_t step_samples;

static uint32_t led_frames;  // for how long the LED still shows a word

static enum { IDLE, MICROPHONE, SERIAL_AUDIO } source = IDLE;
static bool reporting;   // a record per inference
static bool recording;   // a record per step of the microphone's samples, and no inference
static uint32_t wanted;  // inferences, or steps to record; 0: no end
static uint32_t inferences, frames;
static uint32_t recorded_steps, recorded_crc32;
static stage pre;  // spent on features since the last inference

void listening_reset() {
    listener_reset();
    led_frames = inferences = frames = step_samples = 0;
    pre = stage();
    board_led(0, 0, 0);
}

int decide() {
    static const uint8_t colours[][3] = {{0, 255, 0},   {255, 0, 0},   {0, 0, 255},
                                         {255, 255, 0}, {0, 255, 255}, {255, 0, 255}};
    const int label = listener_decide();
    if (label != DETECTOR_NOTHING) {
        const uint8_t *colour = colours[(label - DETECTOR_FIRST_WORD) % 6];
        board_led(colour[0], colour[1], colour[2]);
        led_frames = LED_FRAMES;
    } else if (led_frames) {
        led_frames = led_frames > KWS_HOP_FRAMES ? led_frames - KWS_HOP_FRAMES : 0;
        if (led_frames == 0) board_led(0, 0, 0);
    }
    return label;
}

// One step of audio is complete: a frame of features, and every KWS_HOP_FRAMES frames an inference and a decision.
static const char *process_and_infer() {
    stage infer = stage(), post = stage();
    step_samples = 0;
    stage_begin();
    const int has_frame = listener_step(step);
    stage_end(&pre);
    if (!has_frame) return nullptr;
    frames++;
    if (!listener_hop_is_full()) return nullptr;

    stage_begin();
    const char *error = listener_infer();
    stage_end(&infer);
    if (error) return error;
    stage_begin();
    const int label = decide();
    stage_end(&post);

    if (reporting) {
        reply_open("heard");
        reply_field_u32(inferences);
        reply_field_u32(frames);
        const stage costs[] = {pre, infer, post};
        for (const stage &cost : costs) reply_field_u32(cost.cycles);
        for (const stage &cost : costs) reply_field_u32(cost.ms);
        reply_field_bytes(engine_output(), KWS_OUTPUT_BYTES);
        reply_field_i32(label);
        reply_field_u32(source == MICROPHONE ? board_mic_dropped() : 0);
        reply_close();
    }
    inferences++;
    pre = stage();
    return nullptr;
}

const char *listen(uint32_t count, bool report) {
    listening_reset();
    const char *error = board_mic_start();
    if (error) return error;
    source = MICROPHONE;
    reporting = report;
    recording = false;
    wanted = count;
    return nullptr;
}

const char *record(uint32_t steps) {
    const char *error = listen(steps, false);
    recording = !error;
    recorded_steps = recorded_crc32 = 0;
    return error;
}

static void report_step() {
    step_samples = 0;
    reply_open("pcm");
    reply_field_u32(recorded_steps++);
    reply_field_u32(board_mic_dropped());
    reply_field_base64(step, sizeof step);
    reply_close();
    recorded_crc32 = text_crc32(recorded_crc32, step, sizeof step);  // little-endian, as the host reads them
}

void listening_end() {
    if (source == MICROPHONE) {
        const uint32_t dropped = board_mic_dropped();
        board_mic_stop();
        if (reporting || recording) {
            reply_open(recording ? "recorded" : "listened");
            reply_field_u32(recording ? recorded_steps : inferences);
            reply_field_u32(dropped);
            if (recording) reply_field_hex32(recorded_crc32);
            reply_close();
        }
    }
    source = IDLE;
    engine_reset();
}

// At most one step of audio per call, so that commands are read between inferences.
static void poll_microphone() {
    step_samples += board_mic_read(step + step_samples, KWS_STEP_SAMPLES - step_samples);
    if (step_samples < KWS_STEP_SAMPLES) {
        board_idle();
        return;
    }
    if (recording) {
        report_step();
        if (wanted && recorded_steps == wanted) listening_end();
        return;
    }
    const char *error = process_and_infer();
    if (error) reply_error(error);
    if (error || (wanted && inferences == wanted)) listening_end();
}

const char *stream_begin() {
    listening_reset();
    source = SERIAL_AUDIO;
    reporting = true;
    return nullptr;
}

const char *stream_audio(const int16_t *samples, uint32_t count) {
    const char *error = nullptr;
    if (source != SERIAL_AUDIO) return "audio: send stream first";
    while (count-- && !error) {
        step[step_samples++] = *samples++;
        if (step_samples == KWS_STEP_SAMPLES) error = process_and_infer();
    }
    return error;
}
#else
void listening_end() { engine_reset(); }
#endif

extern "C" void setup() {
    board_init();
    const char *error = engine_init();
    if (error) board_fail(error);
#if KWS_HAS_FRONTEND
    listener_init();
#endif
    commands_start();
#if KWS_HAS_FRONTEND && KWS_LISTEN_AT_BOOT
    (void)listen(0, false);  // a board without a microphone simply waits for commands
#endif
}

extern "C" void loop() {
    int c = 0;
    for (int budget = 64; budget > 0 && (c = board_serial_read()) >= 0; budget--) protocol_feed((char)c);
#if KWS_HAS_FRONTEND
    if (source == MICROPHONE) {
        poll_microphone();
        return;
    }
#endif
    if (c < 0) board_idle();  // nothing waits to be read
}
