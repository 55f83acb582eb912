// The DSP instructions of the Cortex-M4 that the SIMD kernels use, each as one function. This file alone asks which CPU
// it is: inline assembly where the CPU has them (GCC 7 lacks most ACLE intrinsics), else the same values in C.
#ifndef NN_SIMD_H
#define NN_SIMD_H

#include <stdint.h>
#include <string.h>

#if defined(__ARM_FEATURE_DSP) && !defined(NN_EMULATE)
#define NN_HAS_DSP 1
#else
#define NN_HAS_DSP 0
#endif
#if NN_HAS_DSP && defined(__ARM_FP)
#define NN_HAS_FPU 1
#else
#define NN_HAS_FPU 0
#endif

// Where a routine is called: NN_CODE_RAM is the address of RAM in the code region of a chip that has it there as well
// (nRF52840), by whose bus fetches do not meet loads and stores. The routines are position-independent; without it they
// lie with the other code. The Arduino core passes no flags of ours, but says which chip it is, and lets RAM be
// executed.
#if !defined(NN_CODE_RAM) && defined(ARDUINO) && defined(NRF52840_XXAA)
#define NN_CODE_RAM 0x00800000u
#endif
#if NN_HAS_DSP && defined(NN_CODE_RAM)
#define NN_CODE(routine) ((__typeof__(&routine))((uintptr_t)&routine - 0x20000000u + NN_CODE_RAM))
#define NN_CODE_SECTION(name) ".section .data.nn_code." name ",\"awx\",%progbits\n"
#else
#define NN_CODE(routine) routine
#define NN_CODE_SECTION(name) ".section .text.nn_code." name ",\"ax\",%progbits\n"
#endif

#if defined(__GNUC__)
#define NN_INLINE static inline __attribute__((always_inline))
#else
#define NN_INLINE static inline
#endif

// Four bytes from any address, first byte lowest; one LDR on the Cortex-M4.
NN_INLINE uint32_t nn_load4(const void *from) {
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

#if defined(__GNUC__)
typedef uint32_t __attribute__((may_alias)) nn_word;
#else
typedef uint32_t nn_word;
#endif

// Two int16 as one word, `low` in the lower half.
NN_INLINE uint32_t nn_pair(int32_t low, int32_t high) { return ((uint32_t)low & 0xFFFFu) | ((uint32_t)high << 16); }

#if NN_HAS_DSP

// nn_load4 at this very place: loads that stand together stay together, where the second costs one cycle, not two.
NN_INLINE uint32_t nn_load_here(const void *from) {
    uint32_t word;
    __asm__ volatile("ldr %0, %1" : "=r"(word) : "m"(*(const nn_word *)from));
    return word;
}

// acc + a.low * b.low + a.high * b.high
NN_INLINE int32_t nn_smlad(uint32_t a, uint32_t b, int32_t acc) {
    int32_t result;
    __asm__("smlad %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(acc));
    return result;
}

// acc + a.low * b.low
NN_INLINE int32_t nn_smlabb(uint32_t a, uint32_t b, int32_t acc) {
    int32_t result;
    __asm__("smlabb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(acc));
    return result;
}

// acc + a.high * b.high
NN_INLINE int32_t nn_smlatt(uint32_t a, uint32_t b, int32_t acc) {
    int32_t result;
    __asm__("smlatt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(acc));
    return result;
}

// acc + a.low * b.high
NN_INLINE int32_t nn_smlabt(uint32_t a, uint32_t b, int32_t acc) {
    int32_t result;
    __asm__("smlabt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(acc));
    return result;
}

// acc + a.high * b.low
NN_INLINE int32_t nn_smlatb(uint32_t a, uint32_t b, int32_t acc) {
    int32_t result;
    __asm__("smlatb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(acc));
    return result;
}

// Bytes 0 and 2 of x as int16, each plus its half of `base`.
NN_INLINE uint32_t nn_sxtab16(uint32_t base, uint32_t x) {
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2" : "=r"(result) : "r"(base), "r"(x));
    return result;
}

// Bytes 1 and 3 of x as int16, each plus its half of `base`.
NN_INLINE uint32_t nn_sxtab16_ror8(uint32_t base, uint32_t x) {
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(result) : "r"(base), "r"(x));
    return result;
}

// Bytes 0 and 2 of x as int16.
NN_INLINE uint32_t nn_sxtb16(uint32_t x) {
    uint32_t result;
    __asm__("sxtb16 %0, %1" : "=r"(result) : "r"(x));
    return result;
}

// Bytes 1 and 3 of x as int16.
NN_INLINE uint32_t nn_sxtb16_ror8(uint32_t x) {
    uint32_t result;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(x));
    return result;
}

// The lower halves of low and high as one pair.
NN_INLINE uint32_t nn_pkhbt(uint32_t low, uint32_t high) {
    uint32_t result;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(result) : "r"(low), "r"(high));
    return result;
}

// The upper halves of low and high as one pair.
NN_INLINE uint32_t nn_pkhtb(uint32_t low, uint32_t high) {
    uint32_t result;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(result) : "r"(high), "r"(low));
    return result;
}

// Both halves of a plus those of b, modulo 2**16.
NN_INLINE uint32_t nn_sadd16(uint32_t a, uint32_t b) {
    uint32_t result;
    __asm__("sadd16 %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

// Both halves of a minus those of b, modulo 2**16.
NN_INLINE uint32_t nn_ssub16(uint32_t a, uint32_t b) {
    uint32_t result;
    __asm__("ssub16 %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

// acc + (a * b.low >> 16)
NN_INLINE int32_t nn_smlawb(int32_t a, uint32_t b, int32_t acc) {
    int32_t result;
    __asm__("smlawb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(acc));
    return result;
}

// acc + (a * b.high >> 16)
NN_INLINE int32_t nn_smlawt(int32_t a, uint32_t b, int32_t acc) {
    int32_t result;
    __asm__("smlawt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(acc));
    return result;
}

// Both halves, as int16, clamped to 0..255.
NN_INLINE uint32_t nn_usat16(uint32_t x) {
    uint32_t result;
    __asm__("usat16 %0, #8, %1" : "=r"(result) : "r"(x));
    return result;
}

// (a * b + 2**31) >> 32
NN_INLINE int32_t nn_smmulr(int32_t a, int32_t b) {
    int32_t result;
    __asm__("smmulr %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

// x >> 1 clamped to int8.
NN_INLINE int32_t nn_ssat8_half(int32_t x) {
    int32_t result;
    __asm__("ssat %0, #8, %1, asr #1" : "=r"(result) : "r"(x));
    return result;
}

#else

NN_INLINE uint32_t nn_load_here(const void *from) { return nn_load4(from); }

NN_INLINE int32_t nn_low(uint32_t x) { return (int16_t)(uint16_t)x; }

NN_INLINE int32_t nn_high(uint32_t x) { return (int16_t)(uint16_t)(x >> 16); }

NN_INLINE int32_t nn_smlabb(uint32_t a, uint32_t b, int32_t acc) {
    return (int32_t)((uint32_t)acc + (uint32_t)(nn_low(a) * nn_low(b)));
}

NN_INLINE int32_t nn_smlatt(uint32_t a, uint32_t b, int32_t acc) {
    return (int32_t)((uint32_t)acc + (uint32_t)(nn_high(a) * nn_high(b)));
}

NN_INLINE int32_t nn_smlabt(uint32_t a, uint32_t b, int32_t acc) {
    return (int32_t)((uint32_t)acc + (uint32_t)(nn_low(a) * nn_high(b)));
}

NN_INLINE int32_t nn_smlatb(uint32_t a, uint32_t b, int32_t acc) { return nn_smlabt(b, a, acc); }

NN_INLINE int32_t nn_smlad(uint32_t a, uint32_t b, int32_t acc) { return nn_smlatt(a, b, nn_smlabb(a, b, acc)); }

NN_INLINE uint32_t nn_sxtab16(uint32_t base, uint32_t x) {
    return nn_pair(nn_low(base) + (int8_t)(uint8_t)x, nn_high(base) + (int8_t)(uint8_t)(x >> 16));
}

NN_INLINE uint32_t nn_sxtab16_ror8(uint32_t base, uint32_t x) { return nn_sxtab16(base, (x >> 8) | (x << 24)); }

NN_INLINE uint32_t nn_sxtb16(uint32_t x) { return nn_sxtab16(0, x); }

NN_INLINE uint32_t nn_sxtb16_ror8(uint32_t x) { return nn_sxtab16_ror8(0, x); }

NN_INLINE uint32_t nn_pkhbt(uint32_t low, uint32_t high) { return (low & 0xFFFFu) | (high << 16); }

NN_INLINE uint32_t nn_pkhtb(uint32_t low, uint32_t high) { return (low >> 16) | (high & 0xFFFF0000u); }

NN_INLINE uint32_t nn_sadd16(uint32_t a, uint32_t b) { return nn_pair(nn_low(a) + nn_low(b), nn_high(a) + nn_high(b)); }

NN_INLINE uint32_t nn_ssub16(uint32_t a, uint32_t b) { return nn_pair(nn_low(a) - nn_low(b), nn_high(a) - nn_high(b)); }

NN_INLINE int32_t nn_smlawb(int32_t a, uint32_t b, int32_t acc) {
    return (int32_t)((uint32_t)acc + (uint32_t)(((int64_t)a * nn_low(b)) >> 16));
}

NN_INLINE int32_t nn_smlawt(int32_t a, uint32_t b, int32_t acc) {
    return (int32_t)((uint32_t)acc + (uint32_t)(((int64_t)a * nn_high(b)) >> 16));
}

NN_INLINE int32_t nn_byte(int32_t x) { return x < 0 ? 0 : x > 255 ? 255 : x; }

NN_INLINE uint32_t nn_usat16(uint32_t x) { return nn_pair(nn_byte(nn_low(x)), nn_byte(nn_high(x))); }

NN_INLINE int32_t nn_smmulr(int32_t a, int32_t b) { return (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32); }

NN_INLINE int32_t nn_ssat8_half(int32_t x) {
    const int32_t half = x >> 1;
    return half < -128 ? -128 : half > 127 ? 127 : half;
}

#endif
#endif
