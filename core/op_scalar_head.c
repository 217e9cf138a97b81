/* op_scalar_head.c: one number a token, for rewards and values.
 *
 *   forward   y_j = w . x[rows_j] + b      x [n,C], w [1,C], b [1] -> y [m]
 *   backward  dx[rows_j] += dy_j w,  dw += sum_j dy_j x[rows_j],  db += sum_j dy_j
 *
 * A row may be asked for more than once and dw sums over all, so the backward pass shares out
 * columns: each thread walks over all j in order for its own columns. */
#include "base/error.h"
#include "core/gradcheck.h"
#include "core/kernel.h"
#include "core/ops.h"

enum { COLUMNS = 64 };

typedef struct Head {
    Tensor *x, *w, *b, *y;
    const int64_t *rows;
    int64_t m;
} Head;

KERNEL(head_dot, (int64_t C, const real *restrict x, const real *restrict w, real *restrict out),
       (C, x, w, out)) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < C; c++) sum += x[c] * w[c];
    *out = sum;
}

KERNEL(head_backward_columns,
       (int64_t m, const int64_t *rows, int64_t C, int64_t c0, int64_t cols, const real *dy,
        const real *restrict w, const real *x, real *dx, real *restrict dw),
       (m, rows, C, c0, cols, dy, w, x, dx, dw)) {
    for (int64_t j = 0; j < m; j++) {
        int64_t at = (rows ? rows[j] : j) * C + c0;
        const real *restrict from = x + at;
        if (dw)
            for (int64_t c = 0; c < cols; c++) dw[c0 + c] += dy[j] * from[c];
        if (dx) {
            real *restrict to = dx + at;
            for (int64_t c = 0; c < cols; c++) to[c] += dy[j] * w[c0 + c];
        }
    }
}

static void scalar_head_backward(void *ctx) {
    const Head *h = ctx;
    int64_t C = h->x->shape[1], chunks = (C + COLUMNS - 1) / COLUMNS;
    real *dx = tensor_grad(h->x), *dw = tensor_grad(h->w), *db = h->b ? tensor_grad(h->b) : NULL;
    const real *dy = tensor_grad(h->y), *x = tensor_data(h->x);
#pragma omp parallel for schedule(static) if (h->m * C > PARALLEL_MIN)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t c0 = k * COLUMNS, cols = C - c0 < COLUMNS ? C - c0 : COLUMNS;
        head_backward_columns(h->m, h->rows, C, c0, cols, dy, h->w->data, x, dx, dw);
    }
    for (int64_t j = 0; db && j < h->m; j++) db[0] += dy[j];
}

Tensor *op_scalar_head(Tape *t, Tensor *x, Tensor *w, Tensor *b, const int64_t *rows, int64_t m) {
    CHECK(tape_get_chains(t)->n == 1, "a scalar head in a pass over several chains");
    CHECK(x->ndim == 2, "op_scalar_head: x has %d dimensions, expected 2", x->ndim);
    int64_t n = x->shape[0], C = x->shape[1];
    tensor_expect(w, "op_scalar_head: w", 2, (int64_t[]){1, C});
    if (b) tensor_expect(b, "op_scalar_head: b", 1, (int64_t[]){1});
    if (!rows) m = n;
    for (int64_t j = 0; rows && j < m; j++)
        CHECK(rows[j] >= 0 && rows[j] < n, "op_scalar_head: row %lld is %lld, x has %lld rows",
              (long long)j, (long long)rows[j], (long long)n);
    Tensor *y = tape_tensor(t, 1, &m);
    if (tape_records(t)) tensor_grad(y); /* few numbers, into which the caller puts its loss's */
    const real bias = b ? b->data[0] : 0;
#pragma omp parallel for schedule(static) if (m * C > PARALLEL_MIN)
    for (int64_t j = 0; j < m; j++) {
        head_dot(C, x->data + (rows ? rows[j] : j) * C, w->data, &y->data[j]);
        y->data[j] += bias;
    }
    if (tape_records(t)) {
        Head *h = tape_alloc(t, sizeof *h);
        *h = (Head){x, w, b, y, rows, m};
        tensor_keep(x);
        tape_push(t, scalar_head_backward, h);
    }
    return y;
}

static double scalar_head_run(Tape *t, const GradCase *c) {
    static const int64_t rows[] = {2, 0, 2, 6};
    return grad_project(t, op_scalar_head(t, c->in[0], c->in[1], c->nin > 2 ? c->in[2] : NULL,
                                          c->variant ? rows : NULL, c->variant ? 4 : 7));
}

bool op_scalar_head_case(GradCase *c, int i) {
    static const char *const what[] = {"all rows", "rows given, one twice", "no bias"};
    if (i >= 3) return false;
    int64_t C = i == 1 ? 70 : 5;
    grad_input(c, 2, (int64_t[]){7, C});
    grad_input(c, 2, (int64_t[]){1, C});
    if (i < 2) grad_input(c, 1, (int64_t[]){1});
    c->variant = i == 1;
    c->what = what[i];
    c->run = scalar_head_run;
    return true;
}
