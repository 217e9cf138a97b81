/* op_linear.c: y = act(x W^T + b).
 *
 *   forward   z = x W^T + b       x [n,K], W [M,K], b [M], z [n,M]
 *             y = act(z)          saved: x, and z if there is an activation; y can be rebuilt
 *   backward  dz = dy * act'(z)   in place of dy
 *             dx += dz W,  dW += dz^T x,  db += column sums of dz, made by the same product
 *
 * GELU (Hendrycks and Gimpel 2016) as GPT-2 has it, with tanh:
 *     gelu(z) = z/2 (1 + tanh u) = z s(2u),  u = sqrt(2/pi) (z + 0.044715 z^3),  s the logistic
 * and with erf: gelu(z) = z Phi(z), Phi the normal distribution function. The logistic form keeps
 * its relative precision for negative z, where 1 + tanh cancels.
 * ReLU: max(0, z); a NaN stays one. */
#include "base/error.h"
#include "core/gemm.h"
#include "core/gradcheck.h"
#include "core/kernel.h"
#include "core/ops.h"
#include "core/vecmath.h"

/* z [rows,cols], row stride ld, becomes z + b. */
KERNEL(add_bias, (int64_t rows, int64_t cols, int64_t ld, const real *restrict b, real *restrict z),
       (rows, cols, ld, b, z)) {
    for (int64_t i = 0; i < rows; i++, z += ld)
        for (int64_t j = 0; j < cols; j++) z[j] += b[j];
}

KERNEL_INLINE void gelu_tanh(real z, real *y, real *d) {
    const real a = (real)0.7978845608028654 * 2, c = (real)0.044715; /* 2 sqrt(2/pi) */
    real s = 1 / (1 + vm_exp(-a * z * (1 + c * z * z)));
    *y = z * s;
    *d = s + z * s * (1 - s) * a * (1 + 3 * c * z * z);
}

KERNEL_INLINE void gelu_erf(real z, real *y, real *d) {
    const real r = (real)0.7071067811865476,
               g = (real)0.3989422804014327; /* sqrt(1/2), 1/sqrt(2pi) */
    real phi = (real)0.5 * (1 + vm_erf(z * r));
    *y = z * phi;
    *d = phi + z * g * vm_exp((real)-0.5 * z * z);
}

KERNEL_INLINE void relu(real z, real *y, real *d) {
    *y = z < 0 ? 0 : z;
    *d = z > 0;
}

/* y = act(z), which may be z itself; and z becomes act'(z) in derivative_*, y NULL: only that. */
#define ACT_KERNEL(act)                                                                    \
    KERNEL(apply_##act, (int64_t rows, int64_t cols, int64_t ld, const real *z, real *y),  \
           (rows, cols, ld, z, y)) {                                                       \
        for (int64_t i = 0; i < rows; i++, z += ld, y += ld)                               \
            _Pragma("omp simd") for (int64_t j = 0; j < cols; j++) {                       \
                real d;                                                                    \
                act(z[j], &y[j], &d);                                                      \
            }                                                                              \
    }                                                                                      \
    KERNEL(derivative_##act, (int64_t n, real *restrict z, real *restrict y), (n, z, y)) { \
        real unwanted;                                                                     \
        if (y)                                                                             \
            for (int64_t j = 0; j < n; j++) act(z[j], &y[j], &z[j]);                       \
        else                                                                               \
            for (int64_t j = 0; j < n; j++) act(z[j], &unwanted, &z[j]);                   \
    }
ACT_KERNEL(gelu_tanh)
ACT_KERNEL(gelu_erf)
ACT_KERNEL(relu)

void op_linear_finish(Activation act, int64_t rows, int64_t cols, int64_t ld, const real *b,
                      real *z, real *y) {
    if (b) add_bias(rows, cols, ld, b, z);
    if (act == ACT_GELU_TANH) apply_gelu_tanh(rows, cols, ld, z, y);
    if (act == ACT_GELU_ERF) apply_gelu_erf(rows, cols, ld, z, y);
    if (act == ACT_RELU) apply_relu(rows, cols, ld, z, y);
}

static void derivative(Activation act, int64_t n, real *z, real *y) {
    if (act == ACT_GELU_TANH)
        derivative_gelu_tanh(n, z, y);
    else if (act == ACT_GELU_ERF)
        derivative_gelu_erf(n, z, y);
    else
        derivative_relu(n, z, y);
}

KERNEL(multiply, (int64_t n, const real *restrict d, real *restrict dy), (n, d, dy)) {
    for (int64_t i = 0; i < n; i++) dy[i] *= d[i];
}

typedef struct Linear {
    Tensor *x, *w, *b, *y;
    Activation act;
    Tensor *z;   /* [n,M] y itself without an activation */
    bool z_is_d; /* it holds act'(z) already */
} Linear;

/* Bias and activation of a part of z. */
static void finish(void *ctx, int64_t i, int64_t j, int64_t rows, int64_t cols) {
    const Linear *l = ctx;
    int64_t M = l->w->shape[0], at = i * M + j;
    op_linear_finish(l->act, rows, cols, M, l->b ? l->b->data + j : NULL, l->z->data + at,
                     l->y->data + at);
}

/* y from z, and z, which is needed for nothing else, becomes act'(z). */
static void rebuild(Tape *t, void *ctx) {
    Linear *l = ctx;
    if (tape_dry(t)) return;
    enum { BLOCK = 8192 };
    int64_t n = tensor_size(l->z);
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += BLOCK)
        derivative(l->act, n - i < BLOCK ? n - i : BLOCK, l->z->data + i, l->y->data + i);
    l->z_is_d = true;
}

/* Some rows of dy become dz. */
static void prepare(void *ctx, int64_t i, int64_t rows) {
    const Linear *l = ctx;
    int64_t M = l->w->shape[0], at = i * M;
    real *d = l->z->data + at;
    if (!l->z_is_d) derivative(l->act, rows * M, d, NULL);
    multiply(rows * M, d, l->y->grad + at);
}

static void linear_backward(Tape *t, void *ctx) {
    Linear *l = ctx;
    int64_t n = l->x->shape[0], K = l->x->shape[1], M = l->w->shape[0];
    const GradOut dx = tape_grad_out(t, l->x), dw = tape_grad_out(t, l->w);
    const real *x = dw.to ? tape_data(t, l->x) : NULL;
    real *dy = l->y->grad, *db = l->b ? tape_grad(t, l->b) : NULL;
    CHECK(dw.to || !db, "a bias has a gradient and its matrix [%lld,%lld] none", (long long)M,
          (long long)K);
    if (dx.to)
        gemm(tape_arena(t), &(Gemm){.M = n,
                                    .N = K,
                                    .K = M,
                                    .a = dy,
                                    .lda = M,
                                    .b = l->w->data,
                                    .b_half = l->w->half,
                                    .ldb = K,
                                    .c = dx.to,
                                    .ldc = K,
                                    .add = dx.add,
                                    .prepare = l->act != ACT_NONE ? prepare : NULL,
                                    .ctx = l});
    else if (l->act != ACT_NONE && !tape_dry(t)) {
#pragma omp parallel for schedule(static) if (n * M > PARALLEL_MIN)
        for (int64_t i = 0; i < n; i += GEMM_ROWS)
            prepare(l, i, n - i < GEMM_ROWS ? n - i : GEMM_ROWS);
    }
    if (dw.to)
        gemm(tape_arena(t), &(Gemm){.M = M,
                                    .N = K,
                                    .K = n,
                                    .a = dy,
                                    .lda = M,
                                    .trans_a = true,
                                    .b = x,
                                    .ldb = K,
                                    .c = dw.to,
                                    .ldc = K,
                                    .add = dw.add,
                                    .a_sum = db});
}

Tensor *op_linear(Tape *t, Tensor *x, Tensor *w, Tensor *b, Activation act) {
    CHECK(x->ndim == 2 && w->ndim == 2, "op_linear: x has %d dimensions and w %d, expected 2 and 2",
          x->ndim, w->ndim);
    int64_t n = x->shape[0], K = x->shape[1], M = w->shape[0];
    tensor_expect(w, "op_linear: w", 2, (int64_t[]){M, K});
    if (b) tensor_expect(b, "op_linear: b", 1, (int64_t[]){M});
    Linear *l = tape_alloc(t, sizeof *l);
    *l = (Linear){.x = x, .w = w, .b = b, .act = act};
    l->y = l->z = tape_tensor(t, 2, (int64_t[]){n, M});
    if (tape_records(t) && act != ACT_NONE) {
        l->z = tape_tensor(t, 2, (int64_t[]){n, M});
        tape_keep(t, l->z);
        tape_set_rebuild(t, l->y, rebuild, l);
    }
    tape_keep(t, x);
    tape_push(t, linear_backward, l, l->y);
    gemm(tape_arena(t), &(Gemm){.M = n,
                                .N = M,
                                .K = K,
                                .a = x->data,
                                .lda = K,
                                .b = w->data,
                                .b_half = w->half,
                                .ldb = K,
                                .trans_b = true,
                                .c = l->z->data,
                                .ldc = M,
                                .finish = b || act != ACT_NONE ? finish : NULL,
                                .ctx = l});
    return l->y;
}

static double linear_run(Tape *t, const GradCase *c) {
    return gradcheck_project(t, op_linear(t, c->in[0], c->in[1], c->in[2], (Activation)c->variant));
}

bool op_linear_case(GradCase *c, int i) {
    static const struct {
        int64_t n, K, M;
        Activation act;
        bool bias;
        const char *what;
    } cases[] = {
        {5, 7, 3, ACT_NONE, true, "bias"},
        {150, 6, 10, ACT_NONE, true, "bias, several blocks"},
        {4, 3, 150, ACT_NONE, false, "no bias, several column blocks"},
        {9, 5, 20, ACT_GELU_TANH, true, "bias, gelu tanh"},
        {530, 5, 8, ACT_GELU_TANH, false, "gelu tanh, several blocks"},
        {9, 5, 20, ACT_GELU_ERF, true, "bias, gelu erf"},
        {3, 5, 4, ACT_GELU_ERF, false, "gelu erf"},
        {3, 2, 4, ACT_RELU, true, "relu"},
    };
    if (i >= (int)(sizeof cases / sizeof cases[0])) return false;
    gradcheck_input(c, 2, (int64_t[]){cases[i].n, cases[i].K});
    gradcheck_input(c, 2, (int64_t[]){cases[i].M, cases[i].K});
    if (cases[i].bias) gradcheck_input(c, 1, (int64_t[]){cases[i].M});
    c->variant = cases[i].act;
    c->what = cases[i].what;
    c->run = linear_run;
    return true;
}

/* --- adapt ------------------------------------------------------------------------------------ */

/*   forward   y = act(p), p = z + scale d
 *   backward  dp = dy act'(p),  dz += dp,  dd += scale dp      saved: p, unless act is none */
typedef struct Adapt {
    Tensor *z, *d, *y, *p; /* p is y without an activation */
    real scale;
    Activation act;
} Adapt;

KERNEL(scaled_sum,
       (int64_t n, const real *restrict z, real s, const real *restrict d, real *restrict out),
       (n, z, s, d, out)) {
    for (int64_t i = 0; i < n; i++) out[i] = z[i] + s * d[i];
}

KERNEL(scaled_out, (int64_t n, real s, const real *restrict x, bool add, real *restrict out),
       (n, s, x, add, out)) {
    for (int64_t i = 0; i < n; i++) out[i] = add ? out[i] + s * x[i] : s * x[i];
}

enum { ADAPT_BLOCK = 8192 };

static void adapt_backward(Tape *t, void *ctx) {
    const Adapt *a = ctx;
    const GradOut dz = tape_grad_out(t, a->z), dd = tape_grad_out(t, a->d);
    const int64_t n = tensor_size(a->y);
    if (tape_dry(t)) return;
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += ADAPT_BLOCK) {
        const int64_t m = n - i < ADAPT_BLOCK ? n - i : ADAPT_BLOCK;
        real *dy = a->y->grad + i;
        if (a->act != ACT_NONE) {
            derivative(a->act, m, a->p->data + i, NULL);
            multiply(m, a->p->data + i, dy);
        }
        if (dz.to) scaled_out(m, 1, dy, dz.add, dz.to + i);
        if (dd.to) scaled_out(m, a->scale, dy, dd.add, dd.to + i);
    }
}

Tensor *op_adapt(Tape *t, Tensor *z, Tensor *d, double scale, Activation act) {
    CHECK(z->ndim == 2, "op_adapt: z has %d dimensions, expected 2", z->ndim);
    tensor_expect(d, "op_adapt: d", 2, z->shape);
    Adapt *a = tape_alloc(t, sizeof *a);
    *a = (Adapt){.z = z, .d = d, .scale = (real)scale, .act = act};
    a->y = a->p = tape_tensor(t, 2, z->shape);
    if (tape_records(t) && act != ACT_NONE) {
        a->p = tape_tensor(t, 2, z->shape);
        tape_keep(t, a->p);
    }
    tape_push(t, adapt_backward, a, a->y);
    const int64_t n = tensor_size(z);
    if (tape_dry(t)) return a->y;
#pragma omp parallel for schedule(static) if (n > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += ADAPT_BLOCK) {
        const int64_t m = n - i < ADAPT_BLOCK ? n - i : ADAPT_BLOCK;
        scaled_sum(m, z->data + i, a->scale, d->data + i, a->p->data + i);
        op_linear_finish(act, 1, m, m, NULL, a->p->data + i, a->y->data + i);
    }
    return a->y;
}

static double adapt_run(Tape *t, const GradCase *c) {
    Tensor *y = op_adapt(t, c->in[0], c->in[1], 0.75, (Activation)(c->variant % 4));
    double loss = gradcheck_project(t, y);
    return c->variant < 4
               ? loss
               : loss + gradcheck_project(t, op_adapt(t, c->in[1], c->in[0], 2, ACT_NONE));
}

bool op_adapt_case(GradCase *c, int i) {
    static const char *const what[] = {"no activation", "gelu tanh", "gelu erf", "relu",
                                       "used twice"};
    if (i >= 5) return false;
    gradcheck_input(c, 2, (int64_t[]){i == 1 ? 900 : 7, 11});
    gradcheck_input(c, 2, (int64_t[]){i == 1 ? 900 : 7, 11});
    /* Differences say nothing at relu's kink: p keeps away from it. */
    const int64_t n = i == 3 && !c->arena->dry ? tensor_size(c->in[0]) : 0;
    for (int64_t j = 0; j < n; j++) {
        const real p = c->in[0]->data[j] + (real)0.75 * c->in[1]->data[j];
        if (p > (real)-0.1 && p < (real)0.1) c->in[0]->data[j] += (real)0.5;
    }
    c->variant = i;
    c->what = what[i];
    c->run = adapt_run;
    return true;
}
