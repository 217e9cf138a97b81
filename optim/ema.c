/* ema.c: an exponential moving average of the parameters (Polyak averaging), on the flat buffer. */
#include "optim/optim.h"

#include "base/error.h"
#include "core/kernel.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16384, LINE = 64 };

void ema_init(Ema *e, const ParamSet *ps, double decay) {
    CHECK(decay >= 0 && decay < 1, "decay %g", decay);
    *e = (Ema){
        .decay = decay, .size = ps->size, .w = xaligned(LINE, (size_t)ps->size * sizeof(real))};
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < ps->size; b += BLOCK)
        memcpy(e->w + b, ps->data + b,
               (size_t)(ps->size - b < BLOCK ? ps->size - b : BLOCK) * sizeof *e->w);
}

void ema_free(Ema *e) {
    free(e->w);
    e->w = NULL;
}

/* e = decay e + (1 - decay) w, written so that equal e and w stay equal. */
KERNEL(blend, (int64_t n, real share, const real *restrict w, real *restrict e), (n, share, w, e)) {
    for (int64_t i = 0; i < n; i++) e[i] += share * (w[i] - e[i]);
}

KERNEL(swap, (int64_t n, real *restrict a, real *restrict b), (n, a, b)) {
    for (int64_t i = 0; i < n; i++) {
        real x = a[i];
        a[i] = b[i];
        b[i] = x;
    }
}

void ema_update(Ema *e, const ParamSet *ps) {
    CHECK(e->size == ps->size, "average of %lld elements, parameters of %lld", (long long)e->size,
          (long long)ps->size);
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < e->size; b += BLOCK)
        blend(e->size - b < BLOCK ? e->size - b : BLOCK, (real)(1 - e->decay), ps->data + b,
              e->w + b);
}

void ema_swap(Ema *e, ParamSet *ps) {
    CHECK(e->size == ps->size, "average of %lld elements, parameters of %lld", (long long)e->size,
          (long long)ps->size);
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < e->size; b += BLOCK)
        swap(e->size - b < BLOCK ? e->size - b : BLOCK, e->w + b, ps->data + b);
}
