// Made by `python -m converter convert`; do not edit.
#ifndef KWS_MODEL_H
#define KWS_MODEL_H

#define KWS_MODEL_ID "f4438f3ad8b2"
#define KWS_SPEC_ID "ff4e0e2a069a"
#define KWS_MODEL_NAME "tcn"
#define KWS_INPUT_BYTES 1960
#define KWS_OUTPUT_BYTES 4
#define KWS_INPUT_SCALE 0.1015625f
#define KWS_INPUT_ZERO_POINT (-128)
#define KWS_OUTPUT_SCALE 0.15779838f
#define KWS_OUTPUT_ZERO_POINT 19
#define KWS_LAYERS 8
#define KWS_TFLM_OPS 3
#define KWS_TFLM_ADD_OPS(r) do { (r).AddConv2D(); (r).AddDepthwiseConv2D(); (r).AddFullyConnected(); } while (0)
#define KWS_TFLM_ARENA_BYTES 25600
#define KWS_TFLM_NEEDS_PER_CHANNEL_DENSE 0
#define KWS_HAS_FRONTEND 1

#define KWS_LABELS 4
#define KWS_LABEL_NAMES {"silence", "unknown", "yes", "stop"}
#define KWS_SAMPLE_RATE_HZ 16000
#define KWS_WINDOW_SAMPLES 480
#define KWS_STEP_SAMPLES 320
#define KWS_CLIP_SAMPLES 16000
#define KWS_FRAMES 49
#define KWS_CHANNELS 40
#define KWS_DETECT_HOP_FRAMES 2
#define KWS_DETECT_AVERAGE_COUNT 8
#define KWS_DETECT_SUPPRESS_FRAMES 25
#define KWS_DETECT_SETTLE_FRAMES 75
#define KWS_DETECT_THRESHOLDS {403, 341}
#define KWS_DETECT_RATE_COUNT 7
#define KWS_DETECT_RATES {{100u, {455, 377}}, {200u, {433, 362}}, {500u, {403, 341}}, {1000u, {352, 330}}, {2000u, {280, 320}}, {5000u, {244, 303}}, {10000u, {178, 247}}}

#endif
