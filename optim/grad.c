/* grad.c: what happens to the flat gradient between the backward pass and the update: summed over
 * the ranks, measured, clipped (Pascanu et al. 2013, by the global norm). */
#include "optim/optim.h"

#include "base/error.h"
#include "core/kernel.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 16384, LANES = 16 };

void grad_reduce(ParamSet *ps, Comm *c) {
    _Generic(ps->grad, float * : comm_sum_f32, double * : comm_sum_f64)(c, ps->grad, ps->size);
}

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

double grad_norm(const ParamSet *ps) {
    int64_t blocks = (ps->size + BLOCK - 1) / BLOCK;
    double *part = xmalloc((size_t)blocks * sizeof *part);
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t begin = b * BLOCK, n = ps->size - begin < BLOCK ? ps->size - begin : BLOCK;
        sum_of_squares(n, ps->grad + begin, &part[b]);
    }
    double sum = 0;
    for (int64_t b = 0; b < blocks; b++) sum += part[b];
    free(part);
    return sqrt(sum);
}

double clip_scale(double norm, double clip) {
    if (!isfinite(norm)) return (double)NAN;
    return clip > 0 && norm > clip ? clip / norm : 1;
}
