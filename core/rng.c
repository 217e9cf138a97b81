/* rng.c: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011). Philox has a 64-bit key and a 128-bit counter; a Rhetor key has 128 bits of its own, so
 * one Philox call under the seed turns (purpose, step) into the 64-bit key of the stream, and
 * (sample, position, index) are the counter in that stream. */
#include "core/rng.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "core/kernel.h"

typedef struct RngState {
    uint32_t v[2];
} RngState;
typedef struct RngBlock {
    uint32_t v[4];
} RngBlock;

/* Round i of ten: two products, crossed and mixed with the key, which goes on by the golden ratio
 * and the square root of 3 less 1. */
static inline RngBlock philox_round(RngBlock c, RngState k, uint32_t i) {
    const uint64_t a = (uint64_t)0xD2511F53 * c.v[0], b = (uint64_t)0xCD9E8D57 * c.v[2];
    return (RngBlock){{(uint32_t)(b >> 32) ^ c.v[1] ^ (k.v[0] + i * 0x9E3779B9), (uint32_t)b,
                       (uint32_t)(a >> 32) ^ c.v[3] ^ (k.v[1] + i * 0xBB67AE85), (uint32_t)a}};
}

/* Written out, so that draw_many's loop becomes one of vectors. */
static inline RngBlock philox(RngBlock c, RngState k) {
    c = philox_round(philox_round(c, k, 0), k, 1);
    c = philox_round(philox_round(c, k, 2), k, 3);
    c = philox_round(philox_round(c, k, 4), k, 5);
    c = philox_round(philox_round(c, k, 6), k, 7);
    return philox_round(philox_round(c, k, 8), k, 9);
}

void rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    RngBlock c;
    RngState k;
    memcpy(c.v, counter, sizeof c);
    memcpy(k.v, key, sizeof k);
    c = philox(c, k);
    memcpy(out, c.v, sizeof c);
}

static RngState stream_key(const RngKey *key) {
    const RngState seed = {{(uint32_t)key->seed, (uint32_t)(key->seed >> 32)}};
    const RngBlock c = philox((RngBlock){{key->purpose, key->step, 0, 0}}, seed);
    return (RngState){{c.v[0], c.v[1]}};
}

static inline RngBlock draw(RngState k, uint64_t sample, uint32_t position, uint32_t index) {
    return philox((RngBlock){{(uint32_t)sample, (uint32_t)(sample >> 32), position, index}}, k);
}

/* (0,1) with 52 bits: half a unit more than the largest integer is still exact in a double. */
static double unit53(uint32_t hi, uint32_t lo) {
    uint64_t bits = (uint64_t)hi << 32 | lo;
    return ((double)(bits >> 12) + 0.5) * 0x1p-52;
}

void rng_bits(const RngKey *key, uint64_t sample, uint32_t position, uint32_t index,
              uint32_t out[4]) {
    RngBlock c = draw(stream_key(key), sample, position, index);
    for (int i = 0; i < 4; i++) out[i] = c.v[i];
}

KERNEL(draw_many,
       (RngState key, uint64_t sample, uint32_t position, uint32_t index, int64_t n,
        uint32_t *restrict out),
       (key, sample, position, index, n, out)) {
    for (int64_t i = 0; i < n; i++) {
        RngBlock c = draw(key, sample, position, index + (uint32_t)i);
        for (int j = 0; j < 4; j++) out[4 * i + j] = c.v[j];
    }
}

void rng_bits_fill(const RngKey *key, uint64_t sample, uint32_t position, uint32_t index, int64_t n,
                   uint32_t *out) {
    draw_many(stream_key(key), sample, position, index, n, out);
}

void rng_unit_fill(const RngKey *key, uint64_t sample, uint32_t position, float *out, int64_t n) {
    RngState k = stream_key(key);
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        RngBlock c = draw(k, sample, position, (uint32_t)(i / 4));
        for (int j = 0; j < 4; j++) out[i + j] = rng_unit(c.v[j]);
    }
    if (i < n) {
        RngBlock c = draw(k, sample, position, (uint32_t)(i / 4));
        for (int j = 0; i + j < n; j++) out[i + j] = rng_unit(c.v[j]);
    }
}

double rng_uniform(const RngKey *key, uint64_t sample, uint32_t position, uint32_t index) {
    RngBlock c = draw(stream_key(key), sample, position, index);
    return unit53(c.v[0], c.v[1]);
}

int64_t rng_below(const RngKey *key, uint64_t sample, uint32_t position, uint32_t index,
                  int64_t bound) {
    CHECK(bound > 0, "rng_below: bound %lld", (long long)bound);
    RngBlock c = draw(stream_key(key), sample, position, index);
    uint64_t bits = (uint64_t)c.v[0] << 32 | c.v[1];
    return (int64_t)((unsigned __int128)bits * (uint64_t)bound >> 64); /* bias < bound / 2^64 */
}

/* Box and Muller: two normals from two uniforms, so one draw makes two numbers. */
void rng_normal_fill(const RngKey *key, uint64_t sample, real *out, int64_t n, double std) {
    RngState k = stream_key(key);
#pragma omp parallel for schedule(static) if (n > 4096)
    for (int64_t i = 0; i < n; i += 2) {
        int64_t pair = i / 2;
        RngBlock c = draw(k, sample, (uint32_t)(pair >> 32), (uint32_t)pair);
        double r = std * sqrt(-2 * log(unit53(c.v[0], c.v[1])));
        double angle = 2 * M_PI * unit53(c.v[2], c.v[3]);
        out[i] = (real)(r * cos(angle));
        if (i + 1 < n) out[i + 1] = (real)(r * sin(angle));
    }
}
