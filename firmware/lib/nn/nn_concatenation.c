// CONCATENATION: a row of the output is a row of each operand.
#include <string.h>

#include "nn.h"

void nn_concatenation_s8(const nn_concatenation_layer *layer, const int8_t *const *in, int8_t *out) {
    for (int32_t row = 0; row < layer->rows; row++) {
        for (int32_t i = 0; i < layer->operands; i++) {
            const size_t width = (size_t)layer->widths[i];
            memcpy(out, in[i] + (size_t)row * width, width);
            out += width;
        }
    }
}
