// The board's side of the serial line: MLPerf Tiny's device API (the host ends a command with '%', the board ends lines
// with \r\n and every reply with m-ready) and this project's commands in the same form. docs/protocol.md lists them
// all.
#ifndef PROTOCOL_H
#define PROTOCOL_H

#include <stdint.h>

#include "protocol_text.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PROTOCOL_VERSION 2
#define PROTOCOL_LINE_BYTES 1024    // longest command, '%' not counted
#define PROTOCOL_AUDIO_SAMPLES 320  // most samples in one `audio` or `pcm` line
#define PROTOCOL_MAX_QUIET 16000u   // most samples of digital silence in one `quiet`
#define PROTOCOL_MAX_RUNS 1000000u
#define PROTOCOL_ENDED "ended by what was sent meanwhile"
#define PROTOCOL_MAX_THRESHOLDS 30  // most words a detector hears

// What the sketch lends to the protocol. Hooks print their records with reply_*; the ones that return a sentence
// return NULL when all went well. clip_samples is 0 without a front end; then the audio hooks are never called.
typedef struct {
    int (*read)(void);  // the next byte of the line, or -1
    protocol_sink write;
    const char *name;   // name%
    const char *model;  // profile%: the benchmark's name of the task, such as kws01
    uint64_t (*micros)(void);

    int8_t *input;  // the network's input as `db` and `features` leave it
    uint32_t input_bytes;
    int8_t *output;  // the last inference's, kept by `infer`
    uint32_t output_bytes;
    double output_scale;
    int32_t output_zero_point;
    uint32_t clip_samples;  // most samples of a clip
    uint32_t words;         // that the detector hears, one threshold each, 1..PROTOCOL_MAX_THRESHOLDS
    int32_t max_threshold;  // either sign

    void (*release)(void);  // a command wants the network or the audio: listening ends
    void (*identity)(void);
    void (*memory)(void);
    void (*cache)(int mode);      // the instruction cache: off, on, counted too
    void (*cache_counts)(void);   // its hits and misses since
    const char *(*infer)(void);   // input -> output
    const char *(*layers)(void);  // input -> output, one record per layer
    void (*clip_begin)(void);     // a clip comes in pieces; at its end its features are the input
    void (*clip_more)(const int16_t *samples, uint32_t count);
    void (*clip_end)(void);
    void (*features)(void);                      // of the last clip
    void (*detector)(int with_rates);            // its record, and those of the table of rates
    void (*thresholds)(const int32_t *values);   // `words` of them, in force at once
    const char *(*rate)(uint32_t milli);         // the thresholds of this row of the table
    const char *(*windows)(uint32_t count);      // on the last clip
    const char *(*runs)(uint32_t count);         // on the last clip, or without a front end on the input
    const char *(*listen)(uint32_t inferences);  // 0: until another command
    const char *(*record)(uint32_t steps);       // the samples themselves; 0: until another command
    const char *(*stream)(void);                 // audio will come over the line, from a fresh state
    const char *(*audio)(const int16_t *samples, uint32_t count);
} protocol_app;

// Between two pieces of a command that takes long: 1 when the next one has begun to arrive, and this one is to end.
int protocol_interrupted(void);

void protocol_start(const protocol_app *app);  // prints the boot lines
void protocol_feed(char c);                    // runs the command when c is its '%'

#ifdef __cplusplus
}
#endif
#endif
