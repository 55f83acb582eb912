// Low-bit weights back into the table that a convolution's kernel reads.
#include "nn_optimize.h"
NN_OPTIMIZE("O2")

#include "nn_lowbit.h"
#include "nn_requant.h"

// `left` words, an even count, from fields of `bits` bits: of each input word the lowest fields of all lanes first.
// Fields are weights plus 2**(bits - 1); those of every other word are shifted by shift0, the others by shift1.
static const uint32_t *fields(const uint32_t *in, uint32_t *to, int32_t left, int32_t bits, uint32_t ones,
                              int32_t lane_bits, int32_t shift0, int32_t shift1) {
    const uint32_t mask = ones * ((1u << bits) - 1u), sign = ones << (lane_bits - 1);
    const uint32_t add0 = sign - (ones << (bits - 1 + shift0)), add1 = sign - (ones << (bits - 1 + shift1));
    const int32_t per_word = lane_bits / bits;
    for (; per_word == 4 && left >= 4; left -= 4, to += 4) {  // what most tables are made of
        const uint32_t a = in[0], b = a >> bits, c = b >> bits, d = c >> bits;
        in++;
        to[0] = (((a & mask) << shift0) + add0) ^ sign, to[1] = (((b & mask) << shift1) + add1) ^ sign;
        to[2] = (((c & mask) << shift0) + add0) ^ sign, to[3] = (((d & mask) << shift1) + add1) ^ sign;
    }
    uint32_t word = 0;
    for (int32_t held = 0; left > 0; left -= 2, held -= 2, to += 2, word >>= 2 * bits) {
        if (held == 0) {
            word = *in++, held = per_word;
        }
        to[0] = (((word & mask) << shift0) + add0) ^ sign;
        to[1] = ((((word >> bits) & mask) << shift1) + add1) ^ sign;
    }
    return in;
}

// The same where a word is two fields NN_CONV_PACKED_FIELD bits apart, the lower one borrowing from the upper one; no
// shift.
static const uint32_t *far_fields(const uint32_t *in, uint32_t *to, int32_t left, int32_t bits) {
    const uint32_t mask = (1u << bits) - 1u, offset = (1u << (bits - 1)) * ((1u << NN_CONV_PACKED_FIELD) + 1u);
    while (left > 0) {
        uint32_t word = *in++;
        for (int32_t n = 16 / bits < left ? 16 / bits : left; n > 0; n--, left--) {
            *to++ = (word & mask) + (((word >> 16) & mask) << NN_CONV_PACKED_FIELD) - offset;
            word >>= bits;
        }
    }
    return in;
}

void nn_unpack(const int32_t *packed, int32_t words, int32_t *unpacked) {
    const uint32_t *in = (const uint32_t *)packed, *end = in + words;
    uint32_t *to = (uint32_t *)unpacked;
    while (in != end) {
        const uint32_t head = *in++;
        const int32_t count = (int32_t)(head & 0xFFFFu), bits = (int32_t)(head >> 16) & 15;
        const int32_t shift0 = (int32_t)(head >> 24) & 15, shift1 = (int32_t)(head >> 28);
        if (bits == 0) {
            for (int32_t i = 0; i < count; i++) {
                to[i] = *in++;
            }
        } else if ((head >> 20) & 1u) {
            in = fields(in, to, count, bits, 0x01010101u, 8, shift0, shift1);
        } else if ((head >> 21) & 1u) {
            in = far_fields(in, to, count, bits);
        } else {
            in = fields(in, to, count, bits, 0x00010001u, 16, shift0, shift1);
        }
        to += count;
    }
}
