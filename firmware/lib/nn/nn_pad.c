// PAD: the output is filled, then the input's rows are laid into it.
#include <string.h>

#include "nn.h"

void nn_pad_s8(const nn_pad_layer *l, const int8_t *in, int8_t *out, void *scratch) {
    const int32_t *shape = l->in_shape, *before = l->before, *full = l->out_shape;
    (void)scratch;
    memset(out, (int)l->value, (size_t)(full[0] * full[1] * full[2] * full[3]));
    for (int32_t n = 0; n < shape[0]; n++) {
        for (int32_t y = 0; y < shape[1]; y++) {
            for (int32_t x = 0; x < shape[2]; x++, in += shape[3]) {
                const int32_t at = ((n + before[0]) * full[1] + y + before[1]) * full[2] + x + before[2];
                memcpy(out + at * full[3] + before[3], in, (size_t)shape[3]);
            }
        }
    }
}
