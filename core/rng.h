/* rng.h: counter-based random numbers (Philox4x32-10, Salmon et al. 2011). A number is a pure
 * function of (seed, purpose, step, sample, position, index), so it does not depend on threads,
 * ranks, batch layout or what was drawn before. */
#ifndef CORE_RNG_H
#define CORE_RNG_H

#include <stdint.h>

#include "core/real.h"

typedef enum RngPurpose {
    RNG_INIT = 1, /* parameters */
    RNG_SHUFFLE,  /* data order */
    RNG_DROPOUT,
    RNG_SAMPLE, /* decoding */
    RNG_SYNTH,  /* the embedded world */
    RNG_NOISE,  /* label noise */
    RNG_TEST,
    RNG_RESAMPLE /* bootstrap and permutations */
} RngPurpose;

typedef struct RngKey {
    uint64_t seed;
    uint32_t purpose; /* RngPurpose, plus a stream number << 8 where a purpose has several */
    uint32_t step;
} RngKey;

/* Philox4x32-10 itself, which all below come from. */
void rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Four independent 32-bit numbers for (key, sample, position, index). */
void rng_bits(const RngKey *key, uint64_t sample, uint32_t position, uint32_t index,
              uint32_t out[4]);

/* Those of index, index + 1, ..., n of them, at a time: out [n][4]. */
void rng_bits_fill(const RngKey *key, uint64_t sample, uint32_t position, uint32_t index, int64_t n,
                   uint32_t *out);

/* Uniform in (0, 1), never 0 or 1, from 32 random bits. */
static inline float rng_unit(uint32_t bits) { return ((float)(bits >> 9) + 0.5f) * 0x1p-23f; }

/* out[i] = rng_unit of number i % 4 of (key, sample, position, i / 4), for i < n. */
void rng_unit_fill(const RngKey *key, uint64_t sample, uint32_t position, float *out, int64_t n);

double rng_uniform(const RngKey *key, uint64_t sample, uint32_t position,
                   uint32_t index); /* (0,1) */
int64_t rng_below(const RngKey *key, uint64_t sample, uint32_t position, uint32_t index,
                  int64_t bound); /* 0 .. bound-1, without visible bias */
void rng_normal_fill(const RngKey *key, uint64_t sample, real *out, int64_t n, double std);

#endif
