// AVERAGE_POOL_2D and MAX_POOL_2D; taps outside the input do not count.
#include "nn_requant.h"

typedef struct {
    int32_t low, high;
} span;

// The taps of a window at `start` that lie in 0..size-1.
static span inside(int32_t start, int32_t window, int32_t size) {
    const span taps = {start < 0 ? 0 : start, start + window < size ? start + window : size};
    return taps;
}

// TFLite's rounding: halves away from zero.
static int8_t mean(const nn_pool_layer *l, int32_t sum, int32_t count) {
    return (int8_t)nn_clamp(sum > 0 ? (sum + count / 2) / count : (sum - count / 2) / count, l->act_min, l->act_max);
}

static int8_t average(const nn_pool_layer *l, const int8_t *in, span ys, span xs) {
    const int32_t count = (ys.high - ys.low) * (xs.high - xs.low);
    int32_t sum = 0;
    for (int32_t y = ys.low; y < ys.high; y++) {
        for (int32_t x = xs.low; x < xs.high; x++) {
            sum += in[(y * l->in_w + x) * l->channels];
        }
    }
    return mean(l, sum, count);
}

static int8_t largest(const nn_pool_layer *l, const int8_t *in, span ys, span xs) {
    int32_t best = -128;
    for (int32_t y = ys.low; y < ys.high; y++) {
        for (int32_t x = xs.low; x < xs.high; x++) {
            const int32_t value = in[(y * l->in_w + x) * l->channels];
            best = value > best ? value : best;
        }
    }
    return (int8_t)nn_clamp(best, l->act_min, l->act_max);
}

typedef int8_t (*pool_rule)(const nn_pool_layer *l, const int8_t *in, span ys, span xs);

NN_INLINE void pool(const nn_pool_layer *l, const int8_t *in, int8_t *out, pool_rule rule) {
    for (int32_t oy = 0; oy < l->out_h; oy++) {
        const span ys = inside(oy * l->stride_h - l->pad_top, l->window_h, l->in_h);
        for (int32_t ox = 0; ox < l->out_w; ox++) {
            const span xs = inside(ox * l->stride_w - l->pad_left, l->window_w, l->in_w);
            for (int32_t c = 0; c < l->channels; c++) {
                *out++ = rule(l, in + c, ys, xs);
            }
        }
    }
}

void nn_average_pool_s8(const nn_pool_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
    (void)scratch;
    pool(layer, in, out, average);
}

void nn_max_pool_s8(const nn_pool_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
    (void)scratch;
    pool(layer, in, out, largest);
}

// Four channels at a time: SXTAB16 adds two of them, which int16 holds for windows of up to 256 taps.
static void average4(const nn_pool_layer *l, const int8_t *in, span ys, span xs, int8_t *out) {
    const int32_t count = (ys.high - ys.low) * (xs.high - xs.low);
    uint32_t even = 0, odd = 0;
    for (int32_t y = ys.low; y < ys.high; y++) {
        const int8_t *pixel = in + (y * l->in_w + xs.low) * l->channels;
        for (int32_t x = xs.low; x < xs.high; x++, pixel += l->channels) {
            const uint32_t four = nn_load4(pixel);
            even = nn_sxtab16(even, four), odd = nn_sxtab16_ror8(odd, four);
        }
    }
    out[0] = mean(l, (int16_t)(uint16_t)even, count), out[1] = mean(l, (int16_t)(uint16_t)odd, count);
    out[2] = mean(l, (int32_t)even >> 16, count), out[3] = mean(l, (int32_t)odd >> 16, count);
}

void nn_average_pool_s8_simd(const nn_pool_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    (void)scratch;
    for (int32_t oy = 0; oy < l->out_h; oy++) {
        const span ys = inside(oy * l->stride_h - l->pad_top, l->window_h, l->in_h);
        for (int32_t ox = 0; ox < l->out_w; ox++) {
            const span xs = inside(ox * l->stride_w - l->pad_left, l->window_w, l->in_w);
            int32_t c = 0;
            for (; c + 4 <= l->channels; c += 4, out += 4) {
                average4(l, in + c, ys, xs, out);
            }
            for (; c < l->channels; c++) {
                *out++ = average(l, in + c, ys, xs);
            }
        }
    }
}
