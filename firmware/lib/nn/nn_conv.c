// CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED in portable C: the meaning of the SIMD forms.
#include "nn_requant.h"

_Static_assert((-1 >> 1) == -1, "right shifts of negative numbers must be arithmetic");

// Adds as the CPU does, modulo 2**32.
static int32_t multiply_add(int32_t sum, int32_t a, int32_t b) { return (int32_t)((uint32_t)sum + (uint32_t)(a * b)); }

// The sum of one output of CONV_2D; taps outside the input count as in_zero, hence nothing.
static int32_t conv_sum(const nn_conv_layer *l, const int8_t *in, const int8_t *weights, int32_t y0, int32_t x0,
                        int32_t sum) {
    for (int32_t ky = 0; ky < l->kernel_h; ky++) {
        for (int32_t kx = 0; kx < l->kernel_w; kx++, weights += l->in_c) {
            const int32_t y = y0 + ky, x = x0 + kx;
            if (y < 0 || y >= l->in_h || x < 0 || x >= l->in_w) {
                continue;
            }
            const int8_t *pixel = in + (y * l->in_w + x) * l->in_c;
            for (int32_t c = 0; c < l->in_c; c++) {
                sum = multiply_add(sum, weights[c], pixel[c] - l->in_zero);
            }
        }
    }
    return sum;
}

void nn_conv_s8(const nn_conv_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    const int32_t filter = l->kernel_h * l->kernel_w * l->in_c;
    (void)scratch;
    for (int32_t oy = 0; oy < l->out_h; oy++) {
        for (int32_t ox = 0; ox < l->out_w; ox++) {
            const int32_t y0 = oy * l->stride_h - l->pad_top, x0 = ox * l->stride_w - l->pad_left;
            for (int32_t c = 0; c < l->out_c; c++) {
                const int32_t sum = conv_sum(l, in, l->weights + c * filter, y0, x0, l->channels[c].bias);
                *out++ = nn_requantize(sum, &l->channels[c], &l->output);
            }
        }
    }
}

// The sum of one output of DEPTHWISE_CONV_2D; `in` and `weights` point at the channel.
static int32_t depthwise_sum(const nn_conv_layer *l, const int8_t *in, const int8_t *weights, int32_t y0, int32_t x0,
                             int32_t sum) {
    for (int32_t ky = 0; ky < l->kernel_h; ky++) {
        for (int32_t kx = 0; kx < l->kernel_w; kx++, weights += l->out_c) {
            const int32_t y = y0 + ky, x = x0 + kx;
            if (y >= 0 && y < l->in_h && x >= 0 && x < l->in_w) {
                sum = multiply_add(sum, *weights, in[(y * l->in_w + x) * l->in_c] - l->in_zero);
            }
        }
    }
    return sum;
}

void nn_depthwise_s8(const nn_conv_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    const int32_t multiplier = l->out_c / l->in_c;
    (void)scratch;
    for (int32_t oy = 0; oy < l->out_h; oy++) {
        for (int32_t ox = 0; ox < l->out_w; ox++) {
            const int32_t y0 = oy * l->stride_h - l->pad_top, x0 = ox * l->stride_w - l->pad_left;
            for (int32_t c = 0; c < l->out_c; c++) {
                const int32_t sum = depthwise_sum(l, in + c / multiplier, l->weights + c, y0, x0, l->channels[c].bias);
                *out++ = nn_requantize(sum, &l->channels[c], &l->output);
            }
        }
    }
}

void nn_dense_s8(const nn_dense_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    (void)scratch;
    for (int32_t row = 0; row < l->rows; row++, in += l->in_n) {
        const int8_t *weights = l->weights;
        for (int32_t c = 0; c < l->out_n; c++) {
            int32_t sum = l->channels[c].bias;
            for (int32_t i = 0; i < l->in_n; i++) {
                sum = multiply_add(sum, *weights++, in[i]);
            }
            *out++ = nn_requantize(sum, &l->channels[c], &l->output);
        }
    }
}
