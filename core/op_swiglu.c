/* op_swiglu.c: y = silu(g) u, the gated activation of Llama's block (Shazeer 2020).
 *
 *   forward   y = g s u,  s = 1/(1 + exp(-g))       x = [g, u] [n,2F] -> [n,F]
 *             saved: x; y can be rebuilt
 *   backward  dg += dy u s (1 + g (1 - s)),  du += dy g s */
#include "base/error.h"
#include "core/gradcheck.h"
#include "core/kernel.h"
#include "core/ops.h"
#include "core/vecmath.h"

enum { BLOCK_ROWS = 16 };

typedef struct Swiglu {
    Tensor *x, *y;
} Swiglu;

KERNEL(swiglu_forward, (int64_t rows, int64_t F, const real *restrict x, real *restrict y),
       (rows, F, x, y)) {
    for (int64_t i = 0; i < rows; i++, x += 2 * F, y += F)
        for (int64_t j = 0; j < F; j++) y[j] = x[j] / (1 + vm_exp(-x[j])) * x[F + j];
}

KERNEL(swiglu_gradient,
       (int64_t rows, int64_t F, const real *restrict x, const real *restrict dy, bool add,
        real *restrict dx),
       (rows, F, x, dy, add, dx)) {
    for (int64_t i = 0; i < rows; i++, x += 2 * F, dx += 2 * F, dy += F) {
        const real *restrict g = x, *restrict u = x + F;
        real *restrict dg = dx, *restrict du = dx + F;
        for (int64_t j = 0; j < F; j++) {
            real s = 1 / (1 + vm_exp(-g[j]));
            real a = dy[j] * u[j] * s * (1 + g[j] * (1 - s)), b = dy[j] * g[j] * s;
            dg[j] = add ? dg[j] + a : a;
            du[j] = add ? du[j] + b : b;
        }
    }
}

void swiglu_rows(int64_t rows, int64_t F, const real *x, real *y) { swiglu_forward(rows, F, x, y); }

static void make(Tape *t, void *ctx) {
    const Swiglu *s = ctx;
    int64_t n = s->y->shape[0], F = s->y->shape[1];
    const real *x = tape_data(t, s->x);
    if (tape_dry(t)) return;
#pragma omp parallel for schedule(static) if (n * F > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += BLOCK_ROWS)
        swiglu_forward(n - i < BLOCK_ROWS ? n - i : BLOCK_ROWS, F, x + i * 2 * F,
                       s->y->data + i * F);
}

static void swiglu_backward(Tape *t, void *ctx) {
    const Swiglu *s = ctx;
    int64_t n = s->y->shape[0], F = s->y->shape[1];
    const GradOut dx = tape_grad_out(t, s->x);
    if (!dx.to) return;
    const real *x = tape_data(t, s->x);
    if (tape_dry(t)) return;
#pragma omp parallel for schedule(static) if (n * F > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += BLOCK_ROWS)
        swiglu_gradient(n - i < BLOCK_ROWS ? n - i : BLOCK_ROWS, F, x + i * 2 * F,
                        s->y->grad + i * F, dx.add, dx.to + i * 2 * F);
}

Tensor *op_swiglu(Tape *t, Tensor *x) {
    CHECK(x->ndim == 2 && x->shape[1] % 2 == 0,
          "op_swiglu: x has %d dimensions, the last %lld, expected 2 and an even number", x->ndim,
          (long long)x->shape[x->ndim - 1]);
    Swiglu *s = tape_alloc(t, sizeof *s);
    *s = (Swiglu){x, tape_tensor(t, 2, (int64_t[]){x->shape[0], x->shape[1] / 2})};
    tape_keep(t, x);
    tape_set_rebuild(t, s->y, make, s);
    tape_push(t, swiglu_backward, s, s->y);
    make(t, s);
    return s->y;
}

static double swiglu_run(Tape *t, const GradCase *c) {
    Tensor *y = op_swiglu(t, c->in[0]);
    double loss = gradcheck_project(t, y);
    return c->variant ? loss + gradcheck_project(t, op_swiglu(t, c->in[0])) : loss;
}

bool op_swiglu_case(GradCase *c, int i) {
    static const int64_t shapes[][2] = {{5, 14}, {3, 2}, {70, 6}, {4, 66}};
    if (i >= (int)(sizeof shapes / sizeof shapes[0])) return false;
    gradcheck_input(c, 2, shapes[i]);
    c->variant = i == 3;
    c->what = i == 3 ? "used twice" : i == 2 ? "several blocks" : "once";
    c->run = swiglu_run;
    return true;
}
