/* bfloat.c: see bfloat.h. */
#include "core/bfloat.h"

#include "core/kernel.h"

KERNEL(widen, (int64_t n, const uint16_t *restrict in, real *restrict out), (n, in, out)) {
    for (int64_t i = 0; i < n; i++) out[i] = (real)bfloat_read(in[i]);
}

void bfloat_widen(int64_t n, const uint16_t *in, real *out) { widen(n, in, out); }

void bfloat_round(int64_t n, const real *in, uint16_t *out) {
    for (int64_t i = 0; i < n; i++) out[i] = bfloat_write((float)in[i]);
}
