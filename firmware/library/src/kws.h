// A keyword spotter in plain C: 16 kHz mono in, words out. No heap, no floating point but the score, one spotter a
// program. kws_push may be called from an interrupt while kws_poll runs; all else belongs to one thread.
#ifndef KWS_H
#define KWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// What is pushed waits in a ring of so many samples (a power of two): 512 ms.
#ifndef KWS_RING_SAMPLES
#define KWS_RING_SAMPLES 8192u
#endif

void kws_init(void);  // as after power-up: nothing heard, nothing waits; also to begin anew. Before anything else

// Copies n samples into the ring. Those that find it full are lost and counted: poll at least every 512 ms.
void kws_push(const int16_t *pcm, size_t n);
uint32_t kws_dropped(void);  // samples lost since kws_init

// Works on what was pushed until a word is heard or less than 20 ms of it wait. True: *word is the word, *score how
// sure the detector is, 0 .. 1 (its sum of evidence over the largest possible; the word's threshold was reached).
bool kws_poll(const char **word, float *score);

size_t kws_words(void);              // how many words it knows
const char *kws_word(size_t index);  // "yes"; NULL beyond them
float kws_score(size_t index);       // now, heard or not, -1 .. 1: 0 beyond them
float kws_threshold(size_t index);   // the score at which it is heard

// Where time goes: clock() is called before and after each stage, and the differences are added up. NULL ends it.
typedef struct {
    uint32_t steps, inferences;                             // how often
    uint32_t features_time, inference_time, decision_time;  // in units of clock
} kws_times;
void kws_measure(uint32_t (*clock)(void), kws_times *times);

#ifdef __cplusplus
}
#endif
#endif
