/* bfloat.h: bfloat16, the first half of a float, in which published models and frozen weights are
 * kept. Reading is exact; writing rounds to nearest, ties to even. */
#ifndef CORE_BFLOAT_H
#define CORE_BFLOAT_H

#include <stdint.h>
#include <string.h>

#include "core/real.h"

static inline float bfloat_read(uint16_t b) {
    const uint32_t bits = (uint32_t)b << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint16_t bfloat_write(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* n numbers of each. One thread. */
void bfloat_widen(int64_t n, const uint16_t *in, real *out);
void bfloat_round(int64_t n, const real *in, uint16_t *out);

#endif
