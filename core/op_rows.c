/* op_rows.c: some rows of a matrix: what follows is computed for them alone.
 *
 *   forward   y_j = x[rows_j]          x [n,C] -> y [m,C]
 *   backward  dx[rows_j] += dy_j       the other rows' gradient stays as it is, 0 at first
 *
 * Memory for m rows would not serve the n rows of earlier layers in the backward pass, nor would
 * theirs, more than twice as large, be lent for m: hence tape_narrow. */
#include <string.h>

#include "base/error.h"
#include "core/gradcheck.h"
#include "core/kernel.h"
#include "core/ops.h"

typedef struct Rows {
    Tensor *x, *y;
    const int64_t *rows;
} Rows;

KERNEL(add_row, (int64_t C, const real *restrict from, real *restrict to), (C, from, to)) {
    for (int64_t c = 0; c < C; c++) to[c] += from[c];
}

static void rows_backward(Tape *t, void *ctx) {
    const Rows *r = ctx;
    int64_t m = r->y->shape[0], C = r->y->shape[1];
    real *dx = tape_grad(t, r->x);
    if (!dx || tape_dry(t)) return;
#pragma omp parallel for schedule(static) if (m * C > PARALLEL_MIN)
    for (int64_t j = 0; j < m; j++) add_row(C, r->y->grad + j * C, dx + r->rows[j] * C);
}

Tensor *op_rows(Tape *t, Tensor *x, const int64_t *rows, int64_t m) {
    CHECK(x->ndim == 2, "op_rows: x has %d dimensions, expected 2", x->ndim);
    int64_t n = x->shape[0], C = x->shape[1];
    for (int64_t j = 0; j < m; j++)
        CHECK(rows[j] >= 0 && rows[j] < n && (j == 0 || rows[j] > rows[j - 1]),
              "op_rows: row %lld of %lld is %lld, expected ascending ones of %lld", (long long)j,
              (long long)m, (long long)rows[j], (long long)n);
    if (m == n) return x;
    tape_narrow(t, m, n);
    Tensor *y = tape_tensor(t, 2, (int64_t[]){m, C});
    Rows *r = tape_alloc(t, sizeof *r);
    *r = (Rows){x, y, rows};
    tape_push(t, rows_backward, r, y);
    if (tape_dry(t)) return y;
#pragma omp parallel for schedule(static) if (m * C > PARALLEL_MIN)
    for (int64_t j = 0; j < m; j++)
        memcpy(y->data + j * C, x->data + rows[j] * C, (size_t)C * sizeof(real));
    return y;
}

static double rows_run(Tape *t, const GradCase *c) {
    static const int64_t some[] = {0, 3, 4, 8}, all[] = {0, 1, 2};
    return gradcheck_project(t, op_rows(t, c->in[0], c->variant ? all : some, c->variant ? 3 : 4));
}

bool op_rows_case(GradCase *c, int i) {
    if (i >= 2) return false;
    gradcheck_input(c, 2, (int64_t[]){i == 0 ? 9 : 3, 5});
    c->variant = i;
    c->what = i == 0 ? "some rows" : "all rows";
    c->run = rows_run;
    return true;
}
