// Widening of a row of int8 to int16.
#include "nn_optimize.h"
NN_OPTIMIZE("O3")

#include "nn_requant.h"

void nn_widen(const int8_t *from, int32_t n, int32_t zero, uint32_t *row, int32_t at) {
    const uint32_t offset = nn_pair(-zero, -zero);
    uint32_t *to = row + at / 2;
    if (at % 2 != 0) {
        *to++ = nn_pair(0, *from++ - zero);
        n--;
    }
    for (; n >= 4; n -= 4, from += 4, to += 2) {
        const uint32_t four = nn_load4(from);
        const uint32_t even = nn_sxtab16(offset, four), odd = nn_sxtab16_ror8(offset, four);
        to[0] = nn_pkhbt(even, odd);
        to[1] = nn_pkhtb(even, odd);
    }
    for (; n >= 2; n -= 2, from += 2) {
        *to++ = nn_pair(from[0] - zero, from[1] - zero);
    }
    if (n > 0) {
        *to = nn_pair(*from - zero, 0);
    }
}
