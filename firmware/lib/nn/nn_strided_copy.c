// TRANSPOSE and STRIDED_SLICE: the output in order, each value from where the steps lead.
#include <string.h>

#include "nn.h"

void nn_strided_copy_s8(const nn_strided_copy_layer *layer, const int8_t *in, int8_t *out, void *scratch) {
    const int32_t *n = layer->shape, *step = layer->step;
    (void)scratch;
    in += layer->first;
    for (int32_t a = 0; a < n[0]; a++) {
        for (int32_t b = 0; b < n[1]; b++) {
            for (int32_t c = 0; c < n[2]; c++) {
                for (int32_t d = 0; d < n[3]; d++) {
                    const int8_t *from = in + (a * step[0] + b * step[1] + c * step[2] + d * step[3]);
                    if (step[4] == 1) {
                        memcpy(out, from, (size_t)n[4]);
                        out += n[4];
                        continue;
                    }
                    for (int32_t e = 0; e < n[4]; e++) {
                        *out++ = from[e * step[4]];
                    }
                }
            }
        }
    }
}
