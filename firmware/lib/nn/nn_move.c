// Rows that move up between two hops of a stream: newlib-nano's memmove goes byte by byte.
#include "nn.h"
#include "nn_simd.h"

// Sixteen bytes, all read before the first is written; loads that stand together cost one cycle each.
NN_INLINE void move16(int8_t *to, const int8_t *from) {
    const uint32_t a = nn_load_here(from), b = nn_load_here(from + 4), c = nn_load_here(from + 8),
                   d = nn_load_here(from + 12);
    memcpy(to, &a, 4);
    memcpy(to + 4, &b, 4);
    memcpy(to + 8, &c, 4);
    memcpy(to + 12, &d, 4);
}

void nn_move_s8(int8_t *to, const int8_t *from, uint32_t bytes) {
    for (; bytes >= 64; bytes -= 64, from += 64, to += 64) {
        move16(to, from);
        move16(to + 16, from + 16);
        move16(to + 32, from + 32);
        move16(to + 48, from + 48);
    }
    for (; bytes >= 16; bytes -= 16, from += 16, to += 16) {
        move16(to, from);
    }
    for (; bytes >= 4; bytes -= 4, from += 4, to += 4) {
        const uint32_t word = nn_load_here(from);
        memcpy(to, &word, 4);
    }
    for (; bytes > 0; bytes--) {
        *to++ = *from++;
    }
}
