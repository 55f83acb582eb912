// Requantization out of line, for what the hot loops meet seldom.
#include "nn_optimize.h"
NN_OPTIMIZE("O2")

#include "nn_requant.h"

void nn_requantize_pixels(const nn_output *o, const nn_channel *channel, const int32_t *sums, int32_t count,
                          int32_t step, int8_t *out) {
    const int32_t multiplier = channel->multiplier, exponent = -channel->shift, zero = 2 * o->out_zero + 1;
    if (!o->sum_below_2_30) {
        for (; count > 0; count--, out += step) {
            *out = nn_requantize(*sums++, channel, o);
        }
    } else {
        for (; count > 0; count--, out += step) {
            *out = (int8_t)nn_clamp(nn_scale_below_2_30_twice(*sums++, multiplier, exponent, zero) >> 1, o->act_min,
                                    o->act_max);
        }
    }
}
