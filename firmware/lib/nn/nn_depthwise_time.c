// DEPTHWISE_CONV_2D of K x 1 with multiplier 1 and stride 1, a convolution along time: four channels at a time, the
// values of two rows side by side, so that one SMLAD takes two taps of a channel.
#include "nn_optimize.h"
NN_OPTIMIZE("Os")

#include "nn_requant.h"

enum { GROUP = 4 };

// What converter/aot/kernels/depthwise_time_asm.py writes as assembly: `groups` records, and beside it the taps that
// lie outside the input.
static void portable_pixel(const nn_depthwise_time_layer *l, const nn_depthwise_time_args *args, int32_t y) {
    const int32_t pairs = l->kernel_h / 2, step = l->in_w * l->channels;
    const int32_t *w = args->weights;
    for (int32_t c = 0; args->out + c < args->end; c += GROUP, w += NN_DEPTHWISE_TIME_RECORD(l->kernel_h)) {
        const int32_t *constants = w + NN_DEPTHWISE_TIME_RECORD(l->kernel_h) - 2 * GROUP;
        for (int32_t lane = 0; lane < GROUP; lane++) {
            int32_t sum = w[lane];
            for (int32_t k = 0; k < l->kernel_h; k++) {
                const int32_t x = y + k >= 0 && y + k < l->in_h ? args->in[k * step + c + lane] : l->in_zero;
                const int32_t tail = GROUP * (1 + pairs) + lane / 2, paired = GROUP * (1 + k / 2) + lane;
                const uint32_t word = (uint32_t)w[k < 2 * pairs ? paired : tail];
                const int upper = (k < 2 * pairs ? k : lane) % 2;
                sum = upper ? nn_smlabt((uint32_t)x, word, sum) : nn_smlabb((uint32_t)x, word, sum);
            }
            args->out[c + lane] = nn_round_scaled((int32_t)((uint32_t)sum << l->doublings), constants[2 * lane],
                                                  constants[2 * lane + 1], l->shift, l->out_zero);
        }
    }
}

// The last group ends with the last channel, so that it may begin with channels that the one before has done.
void nn_depthwise_time_s8(const nn_depthwise_time_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    const int32_t whole = l->channels / GROUP * GROUP, record = NN_DEPTHWISE_TIME_RECORD(l->kernel_h);
    (void)scratch;
    in -= l->pad_top * l->in_w * l->channels;
    for (int32_t pixel = 0; pixel < l->out_h * l->in_w; pixel++, in += l->channels, out += l->channels) {
        const int32_t y = pixel / l->in_w - l->pad_top;
        const int inside = y >= 0 && y + l->kernel_h <= l->in_h;
        nn_depthwise_time_args args = {.in = in, .weights = l->weights, .out = out, .end = out + whole};
        for (int32_t rest = whole < l->channels;; rest = 0) {
            if (l->code && inside) {
                l->code->pixel[0](&args);
            } else {
                portable_pixel(l, &args, y);
            }
            if (!rest) {
                break;
            }
            args.in = in + l->channels - GROUP, args.out = out + l->channels - GROUP, args.end = out + l->channels;
            args.weights = l->weights + whole / GROUP * record;
        }
    }
}
