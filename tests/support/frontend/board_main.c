// For the virtual board: the PCM in flash through the front end, once in pieces of changing size, once in steps without
// and once in steps with the instruction cache. The results stay in RAM, where the test reads them; then the board
// sleeps for ever.
#include "frontend.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define DEMCR REGISTER(0xE000EDFC)
#define DWT_CTRL REGISTER(0xE0001000)
#define DWT_CYCCNT REGISTER(0xE0001004)
#define NVMC_ICACHECNF REGISTER(0x4001E540)

extern const int16_t pcm[], pcm_end[];

uint16_t raw_frames[MAX_FRAMES][FRONTEND_CHANNELS];
int8_t feature_frames[2][MAX_FRAMES][FRONTEND_CHANNELS];
uint32_t cycles[2][MAX_FRAMES];  // of frontend_step
uint32_t frames[3];
volatile uint32_t finished;

static frontend_state state;

static void in_pieces(void) {
    uint32_t piece = 0;
    frontend_reset(&state);
    for (const int16_t *from = pcm; from < pcm_end; from += piece) {
        piece = (piece * 7 + 5) % (FRONTEND_STEP_SAMPLES + 1);
        piece = piece < (uint32_t)(pcm_end - from) ? piece : (uint32_t)(pcm_end - from);
        frames[0] += (uint32_t)frontend_feed_raw(&state, from, piece, raw_frames[frames[0]]);
    }
}

static void in_steps(uint32_t cached) {
    NVMC_ICACHECNF = cached;
    frontend_reset(&state);
    for (const int16_t *from = pcm; pcm_end - from >= FRONTEND_STEP_SAMPLES; from += FRONTEND_STEP_SAMPLES) {
        const uint32_t began = DWT_CYCCNT, frame = frames[1 + cached];
        if (frontend_step(&state, from, feature_frames[cached][frame])) {
            cycles[cached][frame] = DWT_CYCCNT - began;
            frames[1 + cached] = frame + 1;
        }
    }
}

int main(void) {
    DEMCR |= 1U << 24;
    DWT_CTRL |= 1U;
    in_pieces();
    in_steps(0);
    in_steps(1);
    finished = 1;
    return 0;
}
