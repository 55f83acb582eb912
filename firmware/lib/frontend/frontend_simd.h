// The DSP instructions that the front end needs beyond those of nn_simd.h, in the same two forms. A point of the
// transform is one word: real part in the lower half, imaginary part in the upper.
#ifndef FRONTEND_SIMD_H
#define FRONTEND_SIMD_H

#include "../nn/nn_simd.h"

// 1 chooses the stages written for these instructions, 0 the portable ones; both give the same values on every machine.
#ifndef FRONTEND_SIMD
#define FRONTEND_SIMD NN_HAS_DSP
#endif

// Keeps the compiler from walking through one array with several pointers.
#if NN_HAS_DSP
#define SIMD_ONE_POINTER(pointer) __asm__("" : "+r"(pointer))
#else
#define SIMD_ONE_POINTER(pointer) ((void)(pointer))
#endif

// Four bytes to any address.
NN_INLINE void simd_store4(void *to, uint32_t word) { memcpy(to, &word, sizeof word); }

// Two bins of a triangle, x their energies and w the shares of its two channels, and steps behind them. As one
// statement, because the compiler tears the loads apart, where each costs two cycles, and spills; without optimization
// it has not the registers for that.
#if NN_HAS_DSP && defined(__OPTIMIZE__)
NN_INLINE void simd_two_bins(const int32_t **x, const int16_t **w, int64_t *channel, int64_t *next) {
    int32_t x0, x1, w0, w1, w2, w3;
    __asm__ volatile(
        "ldr %5, [%2, #4]\n\tldr %4, [%2], #8\n\tldrsh %7, [%3, #2]\n\tldrsh %8, [%3, #4]\n\tldrsh %9, [%3, #6]\n\t"
        "ldrsh %6, [%3], #8\n\tsmlal %Q1, %R1, %7, %4\n\tsmlal %Q0, %R0, %6, %4\n\t"
        "smlal %Q0, %R0, %8, %5\n\tsmlal %Q1, %R1, %9, %5"
        : "+&r"(*channel), "+&r"(*next), "+&r"(*x), "+&r"(*w), "=&r"(x0), "=&r"(x1), "=&r"(w0), "=&r"(w1), "=&r"(w2),
          "=&r"(w3)
        :
        : "memory");
}
#else
NN_INLINE void simd_two_bins(const int32_t **x, const int16_t **w, int64_t *channel, int64_t *next) {
    *channel += (int64_t)(*w)[0] * (*x)[0] + (int64_t)(*w)[2] * (*x)[1];
    *next += (int64_t)(*w)[1] * (*x)[0] + (int64_t)(*w)[3] * (*x)[1];
    *x += 2;
    *w += 4;
}
#endif

#if NN_HAS_DSP

#define FRONTEND_INSTRUCTION(name, form)                     \
    NN_INLINE uint32_t simd_##name(uint32_t a, uint32_t b) { \
        uint32_t result;                                     \
        __asm__(form : "=r"(result) : "r"(a), "r"(b));       \
        return result;                                       \
    }
#define FRONTEND_ACCUMULATE(name)                                                   \
    NN_INLINE int32_t simd_##name(uint32_t a, uint32_t b, int32_t sum) {            \
        int32_t result;                                                             \
        __asm__(#name " %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum)); \
        return result;                                                              \
    }

FRONTEND_INSTRUCTION(sadd16, "sadd16 %0, %1, %2")           // per half a + b, wrapping
FRONTEND_INSTRUCTION(ssub16, "ssub16 %0, %1, %2")           // per half a - b, wrapping
FRONTEND_INSTRUCTION(shadd16, "shadd16 %0, %1, %2")         // per half (a + b) >> 1
FRONTEND_INSTRUCTION(shsub16, "shsub16 %0, %1, %2")         // per half (a - b) >> 1
FRONTEND_INSTRUCTION(sasx, "sasx %0, %1, %2")               // a + i * b, wrapping
FRONTEND_INSTRUCTION(ssax, "ssax %0, %1, %2")               // a - i * b, wrapping
FRONTEND_INSTRUCTION(smulbb, "smulbb %0, %1, %2")           // a.low * b.low
FRONTEND_INSTRUCTION(smultb, "smultb %0, %1, %2")           // a.high * b.low
FRONTEND_INSTRUCTION(smultt, "smultt %0, %1, %2")           // a.high * b.high
FRONTEND_INSTRUCTION(smuad, "smuad %0, %1, %2")             // a.low * b.low + a.high * b.high, wrapping
FRONTEND_INSTRUCTION(pack_15, "pkhbt %0, %1, %2, lsl #1")   // low: a, high: b >> 15
FRONTEND_INSTRUCTION(pack_12, "pkhtb %0, %2, %1, asr #12")  // low: a >> 12, high: upper half of b
FRONTEND_ACCUMULATE(smlawb)                                 // sum + (a * b.low >> 16), a signed
FRONTEND_ACCUMULATE(smlawt)                                 // sum + (a * b.high >> 16), a signed
FRONTEND_ACCUMULATE(smlsd)                                  // sum + a.low * b.low - a.high * b.high
FRONTEND_ACCUMULATE(smladx)                                 // sum + a.low * b.high + a.high * b.low

// Per half |a|; -32768 stays.
NN_INLINE uint32_t simd_abs16(uint32_t a) {
    uint32_t result;
    __asm__("ssub16 %0, %1, %2\n\tsel %0, %0, %2" : "=&r"(result) : "r"(0), "r"(a));
    return result;
}

#else

NN_INLINE uint32_t simd_halves(int32_t low, int32_t high) { return nn_pair(low, high); }
NN_INLINE int32_t simd_at(uint32_t a, uint32_t half) { return (int16_t)(uint16_t)(a >> (16U * half)); }
NN_INLINE uint32_t simd_sadd16(uint32_t a, uint32_t b) {
    return simd_halves(simd_at(a, 0) + simd_at(b, 0), simd_at(a, 1) + simd_at(b, 1));
}
NN_INLINE uint32_t simd_ssub16(uint32_t a, uint32_t b) {
    return simd_halves(simd_at(a, 0) - simd_at(b, 0), simd_at(a, 1) - simd_at(b, 1));
}
NN_INLINE uint32_t simd_shadd16(uint32_t a, uint32_t b) {
    return simd_halves((simd_at(a, 0) + simd_at(b, 0)) >> 1, (simd_at(a, 1) + simd_at(b, 1)) >> 1);
}
NN_INLINE uint32_t simd_shsub16(uint32_t a, uint32_t b) {
    return simd_halves((simd_at(a, 0) - simd_at(b, 0)) >> 1, (simd_at(a, 1) - simd_at(b, 1)) >> 1);
}
NN_INLINE uint32_t simd_sasx(uint32_t a, uint32_t b) {
    return simd_halves(simd_at(a, 0) - simd_at(b, 1), simd_at(a, 1) + simd_at(b, 0));
}
NN_INLINE uint32_t simd_ssax(uint32_t a, uint32_t b) {
    return simd_halves(simd_at(a, 0) + simd_at(b, 1), simd_at(a, 1) - simd_at(b, 0));
}
NN_INLINE uint32_t simd_smulbb(uint32_t a, uint32_t b) { return (uint32_t)(simd_at(a, 0) * simd_at(b, 0)); }
NN_INLINE uint32_t simd_smultb(uint32_t a, uint32_t b) { return (uint32_t)(simd_at(a, 1) * simd_at(b, 0)); }
NN_INLINE uint32_t simd_smultt(uint32_t a, uint32_t b) { return (uint32_t)(simd_at(a, 1) * simd_at(b, 1)); }
NN_INLINE uint32_t simd_smuad(uint32_t a, uint32_t b) { return simd_smulbb(a, b) + simd_smultt(a, b); }
NN_INLINE uint32_t simd_pack_15(uint32_t a, uint32_t b) { return (a & 0xFFFFU) | ((b << 1) & 0xFFFF0000U); }
NN_INLINE uint32_t simd_pack_12(uint32_t a, uint32_t b) { return ((a >> 12) & 0xFFFFU) | (b & 0xFFFF0000U); }
NN_INLINE int32_t simd_plus(int32_t sum, uint32_t value) { return (int32_t)((uint32_t)sum + value); }
NN_INLINE int32_t simd_smlaw(uint32_t a, int32_t half, int32_t sum) {
    return simd_plus(sum, (uint32_t)(((int64_t)(int32_t)a * half) >> 16));
}
NN_INLINE int32_t simd_smlawb(uint32_t a, uint32_t b, int32_t sum) { return simd_smlaw(a, simd_at(b, 0), sum); }
NN_INLINE int32_t simd_smlawt(uint32_t a, uint32_t b, int32_t sum) { return simd_smlaw(a, simd_at(b, 1), sum); }
NN_INLINE int32_t simd_smlsd(uint32_t a, uint32_t b, int32_t sum) {
    return simd_plus(sum, simd_smulbb(a, b) - simd_smultt(a, b));
}
NN_INLINE int32_t simd_smladx(uint32_t a, uint32_t b, int32_t sum) {
    return simd_plus(sum, (uint32_t)(simd_at(a, 0) * simd_at(b, 1)) + simd_smultb(a, b));
}
NN_INLINE uint32_t simd_abs16(uint32_t a) {
    const int32_t low = simd_at(a, 0), high = simd_at(a, 1);
    return simd_halves(low < 0 ? -low : low, high < 0 ? -high : high);
}

#endif

#endif
