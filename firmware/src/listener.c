#include "listener.h"
#if KWS_HAS_FRONTEND

#include <string.h>

#include "engine.h"
#include "frontend.h"

_Static_assert(KWS_FRAMES *KWS_CHANNELS == KWS_INPUT_BYTES, "the network's input is the feature window");
_Static_assert((KWS_LABELS == KWS_OUTPUT_BYTES || (KWS_WORDS == 1 && KWS_OUTPUT_BYTES == 1)) &&
                   KWS_LABELS <= DETECTOR_MAX_LABELS,
               "one score per label, or the probability of the one word");
#if defined(KWS_VARIABLES) && KWS_VARIABLES
_Static_assert(KWS_FRAMES == KWS_HOP_FRAMES, "a model that keeps state hears each frame once");
#endif

int16_t listener_thresholds[KWS_WORDS];

static const int16_t model_thresholds[KWS_WORDS] = KWS_DETECT_THRESHOLDS;
static frontend_state front_end;
static detector words;
static int16_t word_evidence[KWS_AVERAGE_COUNT * KWS_WORDS];
static int8_t window[KWS_FRAMES][KWS_CHANNELS];  // a ring of feature frames
static uint32_t oldest;                          // its oldest row
static uint32_t new_frames;                      // heard since the last inference
static int engine_streaming;                     // the engine knows the window as it was new_frames ago

void listener_init(void) {
    for (uint32_t word = 0; word < KWS_WORDS; word++) listener_thresholds[word] = KWS_AVERAGED(model_thresholds[word]);
}

void listener_reset(void) {
    const detector_spec spec = {KWS_OUTPUT_BYTES,           KWS_HOP_FRAMES,           KWS_AVERAGE_COUNT,
                                KWS_DETECT_SUPPRESS_FRAMES, KWS_DETECT_SETTLE_FRAMES, listener_thresholds};
    engine_reset();
    frontend_reset(&front_end);
    (void)detector_reset(&words, &spec, word_evidence);
    memset(window, KWS_INPUT_ZERO_POINT, sizeof window);  // digital silence
    oldest = new_frames = 0;
    engine_streaming = 0;
}

int listener_step(const int16_t *pcm) {
    if (!frontend_step(&front_end, pcm, window[oldest])) return 0;
    new_frames++;
    oldest = (oldest + 1) % KWS_FRAMES;
    return 1;
}

int listener_hop_is_full(void) { return new_frames >= KWS_HOP_FRAMES; }

const int8_t *listener_frame_at(uint32_t age) { return window[(oldest + KWS_FRAMES - 1 - age) % KWS_FRAMES]; }

// Where the engine streams it is given the new frames only, else, or when it has not seen the window before, the whole
// window.
const char *listener_infer(void) {
    int8_t rows[KWS_HOP_FRAMES * KWS_CHANNELS];
    if (!engine_streaming || new_frames != KWS_HOP_FRAMES) return listener_infer_window();
    for (uint32_t age = KWS_HOP_FRAMES; age > 0; age--) {
        memcpy(rows + (KWS_HOP_FRAMES - age) * KWS_CHANNELS, listener_frame_at(age - 1), KWS_CHANNELS);
    }
    new_frames = 0;
    return engine_stream_next(rows);
}

const char *listener_infer_window(void) {
    int8_t *input = engine_input();
    memcpy(input, window[oldest], (KWS_FRAMES - oldest) * KWS_CHANNELS);
    memcpy(input + (KWS_FRAMES - oldest) * KWS_CHANNELS, window[0], oldest * KWS_CHANNELS);
    engine_streaming = engine_stream_frames() == KWS_HOP_FRAMES;
    new_frames = 0;
    return engine_streaming ? engine_stream_start() : engine_invoke();
}

int listener_decide(void) { return detector_step(&words, engine_output()); }

int32_t listener_sum(uint32_t word) { return words.sums[word]; }

#endif
