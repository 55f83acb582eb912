// MEAN over axes beside each other, on an output scale of its own.
#include "nn_requant.h"

#define INT16_PIXELS 256  // int16 holds the sum of so many int8

static int8_t mean(const nn_mean_layer *l, int32_t sum) {
    return (int8_t)nn_clamp(nn_scale(sum - l->zero_sum, l->multiplier, l->shift) + l->out_zero, -128, 127);
}

static int32_t sum_of(const nn_mean_layer *l, const int8_t *in) {
    int32_t sum = 0;
    for (int32_t i = 0; i < l->count; i++) {
        sum += in[i * l->channels];
    }
    return sum;
}

void nn_mean_s8(const nn_mean_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
    (void)scratch;
    for (int32_t map = 0; map < layer->maps; map++, in += layer->count * layer->channels) {
        for (int32_t c = 0; c < layer->channels; c++) {
            *out++ = mean(layer, sum_of(layer, in + c));
        }
    }
}

// Four channels at a time: SXTAB16 adds two of them in int16, which are taken to int32 before they can overflow.
static void one_map(const nn_mean_layer *l, const int8_t *in, int8_t *out) {
    int32_t c = 0;
    for (; c + 4 <= l->channels; c += 4) {
        int32_t sums[4] = {0, 0, 0, 0};
        const int8_t *pixel = in + c;
        for (int32_t left = l->count; left > 0; left -= INT16_PIXELS) {
            uint32_t even = 0, odd = 0;
            for (int32_t i = left < INT16_PIXELS ? left : INT16_PIXELS; i > 0; i--, pixel += l->channels) {
                const uint32_t four = nn_load4(pixel);
                even = nn_sxtab16(even, four), odd = nn_sxtab16_ror8(odd, four);
            }
            sums[0] += (int16_t)(uint16_t)even, sums[1] += (int16_t)(uint16_t)odd;
            sums[2] += (int32_t)even >> 16, sums[3] += (int32_t)odd >> 16;
        }
        for (int32_t k = 0; k < 4; k++) {
            out[c + k] = mean(l, sums[k]);
        }
    }
    for (; c < l->channels; c++) {
        out[c] = mean(l, sum_of(l, in + c));
    }
}

void nn_mean_s8_simd(const nn_mean_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    (void)scratch;
    for (int32_t map = 0; map < l->maps; map++) {
        one_map(l, in + map * l->count * l->channels, out + map * l->channels);
    }
}
