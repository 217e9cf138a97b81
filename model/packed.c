/* packed.c: see packed.h. A unit of work is a block of rows times a panel of columns, finished with
 * bias and activation while it is in the cache. */
#include "model/packed.h"

#include "core/kernel.h"
#include "core/tile.h"
#include "core/vecmath.h"

enum { ROWS = 64 };

static int64_t panels(int64_t M) {
    return (M + PANEL - 1) / PANEL;
}

int64_t packed_size(const Tensor *w) {
    return panels(w->shape[0]) * PANEL * w->shape[1];
}

void packed_make(Packed *p, const Tensor *w, real *panel) {
    int64_t M = w->shape[0], K = w->shape[1];
    *p = (Packed){w, M, K, panel};
#pragma omp parallel for schedule(static) if (M * K > PARALLEL_MIN)
    for (int64_t j = 0; j < panels(M); j++)
        for (int64_t k = 0; k < K; k++)
            for (int64_t l = 0; l < PANEL; l++) {
                int64_t m = j * PANEL + l;
                panel[(j * K + k) * PANEL + l] = m < M ? w->data[m * K + k] : 0;
            }
}

/* y [rows,cols], rows ld apart, becomes act(y + b). */
KERNEL(finish,
       (int64_t rows, int64_t cols, int64_t ld, const real *restrict b, Activation act,
        real *restrict y),
       (rows, cols, ld, b, act, y)) {
    const real a = (real)0.7978845608028654 * 2, c = (real)0.044715; /* as in core/op_linear.c */
    for (int64_t i = 0; i < rows; i++, y += ld) {
        if (b)
            for (int64_t j = 0; j < cols; j++) y[j] += b[j];
        if (act == ACT_GELU_TANH)
            for (int64_t j = 0; j < cols; j++)
                y[j] = y[j] / (1 + vm_exp(-a * y[j] * (1 + c * y[j] * y[j])));
        else if (act == ACT_GELU_ERF)
            for (int64_t j = 0; j < cols; j++)
                y[j] *= (real)0.5 * (1 + vm_erf(y[j] * (real)0.7071067811865476));
    }
}

static void unit(const Packed *p, int64_t rows, int64_t j, const real *x, const Tensor *b,
                 Activation act, real *y) {
    const real *panel = p->panel + j * p->K * PANEL, *bias = b ? b->data + j * PANEL : NULL;
    int64_t cols = p->M - j * PANEL;
    y += j * PANEL;
    if (cols >= PANEL) {
        tile_gemm(rows, PANEL, p->K, x, p->K, 1, panel, PANEL, false, y, p->M);
        finish(rows, PANEL, p->M, bias, act, y);
        return;
    }
    real full[ROWS * PANEL]; /* the last panel is narrower */
    tile_gemm(rows, PANEL, p->K, x, p->K, 1, panel, PANEL, false, full, PANEL);
    finish(rows, cols, PANEL, bias, act, full);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t l = 0; l < cols; l++) y[i * p->M + l] = full[i * PANEL + l];
}

void packed_linear(const Packed *p, int64_t n, const real *x, const Tensor *b, Activation act,
                   real *y) {
#pragma omp parallel for collapse(2) schedule(static) if (n * p->M * p->K > 16 * PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += ROWS)
        for (int64_t j = 0; j < panels(p->M); j++)
            unit(p, n - i < ROWS ? n - i : ROWS, j, x + i * p->K, b, act, y + i * p->M);
}
