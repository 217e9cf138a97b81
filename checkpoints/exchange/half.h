/* half.h: the 16-bit floats of models' files (bfloat16: core/bfloat.h). Reading is exact; writing
 * rounds to nearest, ties to even. */
#ifndef CHECKPOINTS_EXCHANGE_HALF_H
#define CHECKPOINTS_EXCHANGE_HALF_H

#include <stdint.h>
#include <string.h>

#include "core/bfloat.h"

static inline uint32_t half_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float half_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* IEEE 754's binary16: 5 bits of exponent, 10 of fraction. */
static inline float half_read(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, part = h & 1023;
    if (exponent == 31) return half_float(sign | 0x7f800000 | part << 13);
    if (exponent > 0) return half_float(sign | (exponent + 112) << 23 | part << 13);
    const float small = (float)part * 0x1p-24f;
    return sign ? -small : small;
}

static inline uint16_t half_write(float f) {
    const uint32_t bits = half_bits(f), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return (uint16_t)(sign | 0x7e00);  /* not a number */
    if (size >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* rounds to infinity */
    if (size < 0x38800000)                                    /* below 2^-14: steps of 2^-24 */
        return (uint16_t)(sign | (half_bits(half_float(size) + 0.5f) - half_bits(0.5f)));
    return (uint16_t)(sign | (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13);
}

#endif
