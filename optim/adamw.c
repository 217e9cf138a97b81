/* adamw.c: AdamW over the flat buffers, one sweep: each element of w, g, m, v is read once and w,
 * m, v are written once, which is all that the memory allows.
 *
 *     m = m + (1 - beta1) (g - m)                  with g the scaled gradient
 *     v = v + (1 - beta2) (g^2 - v)
 *     w = w - lr ( (m / c1) / (sqrt(v / c2) + eps) + decay w )      ck = 1 - betak^t
 *
 * Loshchilov & Hutter 2019, algorithm 2, with the learning rate as PyTorch applies it to the decay.
 * Constants are made in double and rounded once. The sweep goes over fixed blocks of the buffer, in
 * threads; elements are independent, so threads do not change a bit. */
#include "optim/optim.h"

#include "base/error.h"
#include "core/kernel.h"
#include "optim/grad_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16384, LINE = 64 };

/* On the line boundary, cleared by the threads that will use it (NUMA: first touch). */
static real *alloc_flat(int64_t n) {
    real *p = xaligned(LINE, (size_t)n * sizeof *p);
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < n; b += BLOCK)
        memset(p + b, 0, (size_t)(n - b < BLOCK ? n - b : BLOCK) * sizeof *p);
    return p;
}

void adamw_init(AdamW *a, const ParamSet *ps, const Shard *shard, double beta1, double beta2,
                double eps, double decay) {
    adamw_start(a, ps, shard, &(AdamW){.beta1 = beta1, .beta2 = beta2, .eps = eps, .decay = decay});
}

void adamw_start(AdamW *a, const ParamSet *ps, const Shard *shard, const AdamW *o) {
    CHECK(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1 && o->eps >= 0 &&
              o->decay >= 0 && o->momentum >= 0 && o->momentum < 1,
          "beta1 %g, beta2 %g, eps %g, decay %g, momentum %g", o->beta1, o->beta2, o->eps, o->decay,
          o->momentum);
    *a = (AdamW){.beta1 = o->beta1,
                 .beta2 = o->beta2,
                 .eps = o->eps,
                 .decay = o->decay,
                 .muon = o->muon,
                 .momentum = o->momentum,
                 .shard = shard};
    if (!shard) shard_open(&a->whole, ps, 0, 1);
    if (!shard) shard = &a->whole;
    a->v_at = xmalloc((size_t)ps->n * sizeof *a->v_at);
    a->m = alloc_flat(shard->size);
    a->v = alloc_flat(shard_second_moments(shard, ps, a->muon, a->v_at));
}

void adamw_free(AdamW *a) {
    free(a->m);
    free(a->v);
    free(a->v_at);
    shard_close(&a->whole);
    a->m = a->v = NULL;
    a->v_at = NULL;
}

/* The constants of one update. */
typedef struct Update {
    real grad_scale, one_minus_beta1, one_minus_beta2, rate, inv_sqrt_c2, eps, decay_rate;
} Update;

static inline real square_root(real x) {
#ifdef RHETOR_DOUBLE
    return sqrt(x);
#else
    return sqrtf(x);
#endif
}

KERNEL(update_range,
       (int64_t n, Update u, const real *restrict grad, real *restrict m, real *restrict v,
        real *restrict w),
       (n, u, grad, m, v, w)) {
    for (int64_t i = 0; i < n; i++) {
        real g = grad[i] * u.grad_scale;
        real m1 = m[i] + u.one_minus_beta1 * (g - m[i]);
        real v1 = v[i] + u.one_minus_beta2 * (g * g - v[i]);
        real step = m1 / (square_root(v1) * u.inv_sqrt_c2 + u.eps);
        m[i] = m1;
        v[i] = v1;
        w[i] -= u.rate * step + u.decay_rate * w[i];
    }
}

/* First parameter that ends after element i. */
static int param_at(const ParamSet *ps, int64_t i) {
    int lo = 0, hi = ps->n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (ps->v[mid].offset + tensor_size(&ps->v[mid].tensor) > i)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

void adamw_begin(AdamW *a) { a->step++; }

void adamw_part(AdamW *a, ParamSet *ps, int part, double lr, double grad_scale) {
    const Shard *shard = a->shard ? a->shard : &a->whole;
    CHECK(shard->n == ps->nparts, "optimizer of %d parts, parameters of %d", shard->n, ps->nparts);
    CHECK(isfinite(lr) && isfinite(grad_scale),
          "lr %g, gradient scale %g: a step whose gradient "
          "is not finite must be skipped",
          lr, grad_scale);
    double c1 = 1 - pow(a->beta1, (double)a->step), c2 = 1 - pow(a->beta2, (double)a->step);
    Update u = {.grad_scale = (real)grad_scale,
                .one_minus_beta1 = (real)(1 - a->beta1),
                .one_minus_beta2 = (real)(1 - a->beta2),
                .rate = (real)(lr / c1),
                .inv_sqrt_c2 = (real)(1 / sqrt(c2)),
                .eps = (real)a->eps};
    real decay_rate = (real)(lr * a->decay);
    const Share *s = &shard->v[part];

#pragma omp parallel for schedule(static) firstprivate(u)
    for (int64_t begin = s->begin; begin < s->end; begin += BLOCK) {
        int64_t end = begin + BLOCK < s->end ? begin + BLOCK : s->end;
        /* Parameter by parameter: their decay differs, and the padding between them stays 0. */
        for (int k = param_at(ps, begin); k < ps->n && ps->v[k].offset < end; k++) {
            const Param *p = &ps->v[k];
            int64_t from = p->offset, to = from + tensor_size(&p->tensor);
            if (from < begin) from = begin;
            if (to > end) to = end;
            if (to <= from) continue; /* padding */
            if (a->muon && p->matrices) continue;
            const int64_t i = from - s->begin;
            u.decay_rate = p->decay ? decay_rate : 0;
            update_range(to - from, u, s->grad + i, a->m + s->at + i, a->v + a->v_at[k] + from,
                         ps->data + from);
        }
    }
}

void adamw_update(AdamW *a, ParamSet *ps, double lr, double grad_scale) {
    adamw_begin(a);
    for (int k = 0; k < ps->nparts; k++) adamw_part(a, ps, k, lr, grad_scale);
}
