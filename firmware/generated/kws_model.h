// Made by `python -m converter convert`; do not edit.
#ifndef KWS_MODEL_H
#define KWS_MODEL_H

#define KWS_MODEL_ID "4499907df8fe"
#define KWS_SPEC_ID "ff4e0e2a069a"
#define KWS_MODEL_NAME "tinyconv"
#define KWS_INPUT_BYTES 1960
#define KWS_OUTPUT_BYTES 4
#define KWS_INPUT_SCALE 0.1015625f
#define KWS_INPUT_ZERO_POINT (-128)
#define KWS_OUTPUT_SCALE 0.00390625f
#define KWS_OUTPUT_ZERO_POINT (-128)
#define KWS_LAYERS 3
#define KWS_TFLM_OPS 3
#define KWS_TFLM_ADD_OPS(r) do { (r).AddDepthwiseConv2D(); (r).AddFullyConnected(); (r).AddSoftmax(); } while (0)
#define KWS_TFLM_ARENA_BYTES 12288
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
#define KWS_DETECT_THRESHOLDS {2016, 1600}
#define KWS_DETECT_RATE_COUNT 0
#define KWS_DETECT_RATES {}

#endif
