/* op_elementwise.c: addition and dropout.
 *
 *   add       y = a + b                 da += dy, db += dy
 *   dropout   y = x k / (1 - p)         dx += dy k / (1 - p)      (Srivastava et al. 2014)
 *             k = 1 where a uniform number of (key, row, column) is >= p, else 0; saved: k */
#include "base/error.h"
#include "core/gradcheck.h"
#include "core/kernel.h"
#include "core/ops.h"

enum { BLOCK = 4096 }; /* elements a thread does at a time */

KERNEL(sum_block, (int64_t n, const real *restrict a, const real *restrict b, real *restrict y),
       (n, a, b, y)) {
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

KERNEL(accumulate_block, (int64_t n, const real *restrict dy, bool add, real *restrict dx),
       (n, dy, add, dx)) {
    if (add)
        for (int64_t i = 0; i < n; i++) dx[i] += dy[i];
    else
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i];
}

typedef struct Add {
    Tensor *a, *b, *y;
} Add;

static void accumulate(Tape *t, const Tensor *y, Tensor *x) {
    int64_t n = tensor_size(y);
    const GradOut dx = tape_grad_out(t, x);
    if (!dx.to || tape_dry(t)) return;
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += BLOCK)
        accumulate_block(n - i < BLOCK ? n - i : BLOCK, y->grad + i, dx.add, dx.to + i);
}

static void add_backward(Tape *t, void *ctx) {
    const Add *a = ctx;
    accumulate(t, a->y, a->a);
    accumulate(t, a->y, a->b);
}

Tensor *op_add(Tape *t, Tensor *a, Tensor *b) {
    tensor_expect(b, "op_add: b", a->ndim, a->shape);
    Tensor *y = tape_tensor(t, a->ndim, a->shape);
    Add *ctx = tape_alloc(t, sizeof *ctx);
    *ctx = (Add){a, b, y};
    tape_push(t, add_backward, ctx, y);
    if (tape_dry(t)) return y;
    int64_t n = tensor_size(a);
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += BLOCK)
        sum_block(n - i < BLOCK ? n - i : BLOCK, a->data + i, b->data + i, y->data + i);
    return y;
}

static double add_run(Tape *t, const GradCase *c) {
    return gradcheck_project(t, op_add(t, c->in[0], c->in[c->nin - 1]));
}

bool op_add_case(GradCase *c, int i) {
    if (i >= 2) return false;
    gradcheck_input(c, 2, (int64_t[]){5, 7});
    if (i == 0) gradcheck_input(c, 2, (int64_t[]){5, 7});
    c->what = i == 0 ? "a + b" : "a + a";
    c->run = add_run;
    return true;
}

typedef struct Dropout {
    Tensor *x, *y;
    const unsigned char *keep;
    real scale;
} Dropout;

KERNEL(dropout_mask, (int64_t n, float p, const float *restrict u, unsigned char *restrict keep),
       (n, p, u, keep)) {
    for (int64_t i = 0; i < n; i++) keep[i] = u[i] >= p;
}

KERNEL(dropout_row,
       (int64_t n, const unsigned char *restrict keep, real scale, const real *restrict x, bool add,
        real *restrict y),
       (n, keep, scale, x, add, y)) {
    if (add)
        for (int64_t i = 0; i < n; i++) y[i] += keep[i] ? x[i] * scale : 0;
    else
        for (int64_t i = 0; i < n; i++) y[i] = keep[i] ? x[i] * scale : 0;
}

static void dropout_backward(Tape *t, void *ctx) {
    const Dropout *d = ctx;
    int64_t n = d->y->shape[0], C = d->y->shape[1];
    const GradOut dx = tape_grad_out(t, d->x);
    if (!dx.to || tape_dry(t)) return;
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++)
        dropout_row(C, d->keep + i * C, d->scale, d->y->grad + i * C, dx.add, dx.to + i * C);
}

Tensor *op_dropout(Tape *t, Tensor *x, double p, RngKey key, const uint64_t *row) {
    CHECK(p >= 0 && p < 1, "op_dropout: p is %g, expected 0 <= p < 1", p);
    if (p == 0) return x;
    CHECK(x->ndim == 2, "op_dropout: x has %d dimensions, expected 2", x->ndim);
    int64_t n = x->shape[0], C = x->shape[1];
    Tensor *y = tape_tensor(t, 2, x->shape);
    unsigned char *keep = tape_numbers(t, (size_t)(n * C));
    real scale = (real)(1 / (1 - p));
    Dropout *d = tape_alloc(t, sizeof *d);
    *d = (Dropout){x, y, keep, scale};
    tape_push(t, dropout_backward, d, y);
    if (tape_dry(t)) return y;
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++) {
        enum { CHUNK = 512 }; /* numbers at a time, on the stack */
        float u[CHUNK];
        for (int64_t c = 0; c < C; c += CHUNK) {
            int64_t m = C - c < CHUNK ? C - c : CHUNK;
            rng_unit_fill(&key, row ? row[i] : (uint64_t)i, (uint32_t)(c / CHUNK), u, m);
            dropout_mask(m, (float)p, u, keep + i * C + c);
        }
        dropout_row(C, keep + i * C, scale, x->data + i * C, false, y->data + i * C);
    }
    return y;
}

static double dropout_run(Tape *t, const GradCase *c) {
    static const uint64_t rows[] = {7, 3, 1ull << 40, 0, 12, 5};
    RngKey key = {.seed = 5, .purpose = RNG_DROPOUT, .step = 9};
    return gradcheck_project(t, op_dropout(t, c->in[0], c->variant == 2 ? 0.0 : 0.4, key,
                                           c->variant == 1 ? rows : NULL));
}

bool op_dropout_case(GradCase *c, int i) {
    static const char *const what[] = {"rows NULL", "rows given", "p = 0"};
    if (i >= 3) return false;
    gradcheck_input(c, 2, (int64_t[]){6, i == 1 ? 600 : 9});
    c->variant = i;
    c->what = what[i];
    c->run = dropout_run;
    return true;
}
