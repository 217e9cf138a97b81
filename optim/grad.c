/* grad.c: the size of the gradient and clipping (Pascanu et al. 2013, by the global norm). */
#include "optim/optim.h"

#include "base/error.h"
#include "core/kernel.h"
#include "optim/grad_impl.h"

#include <math.h>
#include <stdlib.h>

enum { LANES = 16 };

/* Lanes are written out, so that the order of the additions is the same for every vector width. */
KERNEL(sum_of_squares, (int64_t n, const real *restrict x, double *out), (n, x, out)) {
    double lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) lane[k] += (double)x[i + k] * (double)x[i + k];
    for (int k = 0; i + k < n; k++) lane[k] += (double)x[i + k] * (double)x[i + k];
    double sum = 0;
    for (int k = 0; k < LANES; k++) sum += lane[k];
    *out = sum;
}

void grad_squares(const real *grad, int64_t n, double *part) {
    const int64_t block = EXCHANGE_BLOCK;
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < n; at += block)
        sum_of_squares(n - at < block ? n - at : block, grad + at, &part[at / block]);
}

double grad_norm(const ParamSet *ps) {
    const int64_t block = EXCHANGE_BLOCK;
    double *square = xmalloc((size_t)(ps->size / block + ps->nparts) * sizeof *square), sum = 0;
    int64_t n = 0;
    for (int k = 0; k < ps->nparts; k++) {
        const int64_t begin = ps->part[k].offset, size = paramset_part_end(ps, k) - begin;
        grad_squares(ps->grad + begin, size, square + n);
        n += (size + block - 1) / block;
    }
    for (int64_t b = 0; b < n; b++) sum += square[b];
    free(square);
    return sqrt(sum);
}

double grad_clip_scale(double norm, double clip) {
    if (!isfinite(norm)) return (double)NAN;
    return clip > 0 && norm > clip ? clip / norm : 1;
}
