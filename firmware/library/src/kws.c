#include "kws.h"

#include "listener.h"

_Static_assert((KWS_RING_SAMPLES & (KWS_RING_SAMPLES - 1)) == 0, "positions wrap at a power of two");
_Static_assert(KWS_RING_SAMPLES >= KWS_STEP_SAMPLES, "the ring holds a step");

#define NRF52840_ICACHECNF (*(volatile uint32_t *)0x4001E540u)  // NVMC: the flash's instruction cache

#if defined(__GNUC__)
#define ORDERED() __asm__ volatile("" ::: "memory")  // samples are in the ring before its head says so; one core
#else
#define ORDERED()
#endif

static const char *const labels[KWS_LABELS] = KWS_LABEL_NAMES;

static int16_t ring[KWS_RING_SAMPLES];
static volatile uint32_t head, tail, dropped;  // head and dropped are kws_push's, tail is kws_poll's

static uint32_t (*measure_clock)(void);
static kws_times *measured;

void kws_init(void) {
#if defined(NRF52840_XXAA)
    NRF52840_ICACHECNF |= 1u;  // nobody before us turns it on
#endif
    head = tail = dropped = 0;
    listener_init();
    listener_reset();
}

void kws_push(const int16_t *pcm, size_t n) {
    uint32_t at = head;
    const uint32_t room = KWS_RING_SAMPLES - (at - tail);
    const uint32_t taken = n < room ? (uint32_t)n : room;
    for (uint32_t i = 0; i < taken; i++) ring[at++ % KWS_RING_SAMPLES] = pcm[i];
    ORDERED();
    head = at;
    if (n > taken) dropped = dropped + (uint32_t)(n - taken);
}

uint32_t kws_dropped(void) { return dropped; }

static bool take_step(int16_t *step) {
    uint32_t at = tail;
    if (head - at < KWS_STEP_SAMPLES) return false;
    ORDERED();
    for (uint32_t i = 0; i < KWS_STEP_SAMPLES; i++) step[i] = ring[at++ % KWS_RING_SAMPLES];
    ORDERED();
    tail = at;
    return true;
}

static uint32_t now(void) { return measure_clock ? measure_clock() : 0; }

static int infer_and_decide(void) {
    const uint32_t began = now();
    if (listener_infer()) return DETECTOR_NOTHING;  // the compiled engine never refuses: the listener starts its stream
    const uint32_t inferred = now();
    const int label = listener_decide();
    if (measured) {
        measured->inference_time += inferred - began;
        measured->decision_time += now() - inferred;
        measured->inferences++;
    }
    return label;
}

bool kws_poll(const char **word, float *score) {
    static int16_t step[KWS_STEP_SAMPLES];
    while (take_step(step)) {
        const uint32_t began = now();
        (void)listener_step(step);
        if (measured) {
            measured->features_time += now() - began;
            measured->steps++;
        }
        if (!listener_hop_is_full()) continue;
        const int label = infer_and_decide();
        if (label == DETECTOR_NOTHING) continue;
        *word = labels[label];
        *score = kws_score((size_t)(label - DETECTOR_FIRST_WORD));
        return true;
    }
    return false;
}

size_t kws_words(void) { return KWS_WORDS; }

const char *kws_word(size_t index) { return index < KWS_WORDS ? labels[index + DETECTOR_FIRST_WORD] : NULL; }

static float share(int32_t sum) { return (float)sum / (float)(KWS_AVERAGE_COUNT * DETECTOR_MAX_EVIDENCE); }

float kws_score(size_t index) { return index < KWS_WORDS ? share(listener_sum((uint32_t)index)) : 0; }

float kws_threshold(size_t index) { return index < KWS_WORDS ? share(listener_thresholds[index]) : 0; }

void kws_measure(uint32_t (*clock)(void), kws_times *times) {
    static const kws_times none;
    measure_clock = clock;
    measured = clock ? times : NULL;
    if (measured) *measured = none;
}
