// Rows that move up between two hops of a stream: newlib-nano's memmove goes byte by byte.
#include "nn.h"
#include "nn_simd.h"

void nn_move_s8(int8_t *to, const int8_t *from, uint32_t bytes)
{
    for (; bytes >= 16; bytes -= 16, from += 16, to += 16) {
        const uint32_t a = nn_load_here(from), b = nn_load_here(from + 4), c = nn_load_here(from + 8), d = nn_load_here(from + 12);
        memcpy(to, &a, 4);
        memcpy(to + 4, &b, 4);
        memcpy(to + 8, &c, 4);
        memcpy(to + 12, &d, 4);
    }
    for (; bytes > 0; bytes--) {
        *to++ = *from++;
    }
}
