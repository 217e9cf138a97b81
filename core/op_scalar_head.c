/* op_scalar_head.c: one number a token, for rewards and values.
 *
 *   forward   y_i = w . x_i + b      x [n,C], w [1,C], b [1] -> y [n]
 *   backward  dx_i += dy_i w,  dw += sum_i dy_i x_i,  db += sum_i dy_i
 *
 * dw sums over all rows, so the backward pass shares out columns: each thread walks over all rows
 * in order for its own columns. */
#include "base/error.h"
#include "core/gradcheck.h"
#include "core/kernel.h"
#include "core/ops.h"

enum { COLUMNS = 64 };

typedef struct Head {
    Tensor *x, *w, *b, *y;
} Head;

KERNEL(head_dot, (int64_t C, const real *restrict x, const real *restrict w, real *restrict out),
       (C, x, w, out)) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < C; c++) sum += x[c] * w[c];
    *out = sum;
}

KERNEL(head_backward_columns,
       (int64_t n, int64_t C, int64_t c0, int64_t cols, const real *dy, const real *restrict w,
        const real *restrict x, real *restrict dx, real *restrict dw),
       (n, C, c0, cols, dy, w, x, dx, dw)) {
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i * C + c0;
        if (dw)
            for (int64_t c = 0; c < cols; c++) dw[c0 + c] += dy[i] * x[at + c];
        if (dx)
            for (int64_t c = 0; c < cols; c++) dx[at + c] += dy[i] * w[c0 + c];
    }
}

static void scalar_head_backward(Tape *t, void *ctx) {
    const Head *h = ctx;
    int64_t n = h->x->shape[0], C = h->x->shape[1], chunks = (C + COLUMNS - 1) / COLUMNS;
    real *dx = tape_grad(t, h->x), *dw = tape_grad(t, h->w), *db = h->b ? tape_grad(t, h->b) : NULL;
    const real *dy = h->y->grad, *x = tape_data(t, h->x);
    if (tape_dry(t)) return;
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t c0 = k * COLUMNS, cols = C - c0 < COLUMNS ? C - c0 : COLUMNS;
        head_backward_columns(n, C, c0, cols, dy, h->w->data, x, dx, dw);
    }
    for (int64_t i = 0; db && i < n; i++) db[0] += dy[i];
}

Tensor *op_scalar_head(Tape *t, Tensor *x, Tensor *w, Tensor *b) {
    CHECK(x->ndim == 2, "op_scalar_head: x has %d dimensions, expected 2", x->ndim);
    int64_t n = x->shape[0], C = x->shape[1];
    tensor_expect(w, "op_scalar_head: w", 2, (int64_t[]){1, C});
    if (b) tensor_expect(b, "op_scalar_head: b", 1, (int64_t[]){1});
    Tensor *y = tape_tensor(t, 1, &n);
    if (tape_records(t)) tape_grad(t, y); /* few numbers, into which the caller puts its loss's */
    Head *h = tape_alloc(t, sizeof *h);
    *h = (Head){x, w, b, y};
    tape_keep(t, x);
    tape_push(t, scalar_head_backward, h, y);
    if (tape_dry(t)) return y;
    const real bias = b ? b->data[0] : 0;
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++) {
        head_dot(C, x->data + i * C, w->data, &y->data[i]);
        y->data[i] += bias;
    }
    return y;
}

static double scalar_head_run(Tape *t, const GradCase *c) {
    return gradcheck_project(t,
                             op_scalar_head(t, c->in[0], c->in[1], c->nin > 2 ? c->in[2] : NULL));
}

bool op_scalar_head_case(GradCase *c, int i) {
    if (i >= 2) return false;
    int64_t C = i == 0 ? 70 : 5;
    gradcheck_input(c, 2, (int64_t[]){7, C});
    gradcheck_input(c, 2, (int64_t[]){1, C});
    if (i == 0) gradcheck_input(c, 1, (int64_t[]){1});
    c->what = i == 0 ? "bias" : "no bias";
    c->run = scalar_head_run;
    return true;
}
