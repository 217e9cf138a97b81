/* muon.c: momentum, orthogonalised by Newton-Schulz (Jordan et al. 2024, "Muon: an optimizer for
 * hidden layers in neural networks"), for a part's hidden matrices W [rows,cols]:
 *
 *     M = M + (1 - mu) (G - M)                    with G the scaled gradient
 *     U = G + mu (M - G)                          Nesterov's
 *     O = orthogonalised U
 *     W = W - lr ( 0.2 sqrt(max(rows, cols)) O + decay W )
 *
 * 0.2 sqrt(max(rows, cols)) gives an update the root mean square of one of AdamW's, so learning rate
 * and decay serve both (Liu et al. 2025, "Muon is scalable for LLM training", eq. 4). Newton-Schulz
 * of X = U / |U| (Frobenius), five times, a Xt is taken instead of X Xt where rows > cols:
 *
 *     A = X Xt        X = (a I + b A + c A^2) X        a, b, c = 3.4445, -4.7750, 2.0315
 *
 * Queries, keys and values lie in one parameter and are three matrices here, SwiGLU's gate and up
 * two.
 *
 * Ranks share the elements, as with AdamW, and so the momentum; a matrix is needed whole. Each rank
 * makes U of its share, the shares are gathered, and it orthogonalises every matrix of which it has
 * elements: one that is cut is orthogonalised on both sides of the cut, from the same bits by the
 * same products. The sums of a product are chains in a fixed order (core/gemm.h), so neither ranks
 * nor threads change a bit. */
#include "optim/optim.h"

#include "base/error.h"
#include "core/gemm.h"
#include "core/kernel.h"
#include "optim/grad_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16384, ITERATIONS = 5 };
static const double NS_A = 3.4445, NS_B = -4.7750, NS_C = 2.0315, LEAST_NORM = 1e-7;

/* --- Newton-Schulz ---------------------------------------------------------------------------- */

/* out = b a + c out */
KERNEL(combine, (int64_t n, real b, const real *restrict a, real c, real *restrict out),
       (n, b, a, c, out)) {
    for (int64_t i = 0; i < n; i++) out[i] = b * a[i] + c * out[i];
}

KERNEL(scale, (int64_t n, real s, real *restrict x), (n, s, x)) {
    for (int64_t i = 0; i < n; i++) x[i] *= s;
}

static int64_t block_at(int64_t n, int64_t i) { return n - i < BLOCK ? n - i : BLOCK; }

static double frobenius(const real *x, int64_t n) {
    const int64_t blocks = (n + EXCHANGE_BLOCK - 1) / EXCHANGE_BLOCK;
    double *square = xmalloc((size_t)blocks * sizeof *square), sum = 0;
    grad_squares(x, n, square);
    for (int64_t b = 0; b < blocks; b++) sum += square[b];
    free(square);
    return sqrt(sum);
}

/* P = a I + b A + c A^2 [n,n], A symmetric. */
static void polynomial(Arena *arena, int64_t n, const real *a, real *p) {
    gemm(arena,
         &(Gemm){.M = n, .N = n, .K = n, .a = a, .lda = n, .b = a, .ldb = n, .c = p, .ldc = n});
    if (arena->dry) return;
#pragma omp parallel for schedule(static) if (n * n > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++) {
        combine(n, (real)NS_B, a + i * n, (real)NS_C, p + i * n);
        p[i * n + i] += (real)NS_A;
    }
}

void muon_orthogonalize(Arena *arena, int64_t rows, int64_t cols, real *matrix) {
    const bool tall = rows > cols;
    const int64_t n = tall ? cols : rows, size = rows * cols;
    const ArenaMark mark = arena_mark(arena);
    real *a = arena_numbers(arena, (size_t)(n * n) * sizeof *a);
    real *p = arena_numbers(arena, (size_t)(n * n) * sizeof *p);
    real *x = matrix, *y = arena_numbers(arena, (size_t)size * sizeof *y);
    if (!arena->dry) {
        const real s = (real)(1 / fmax(frobenius(x, size), LEAST_NORM));
#pragma omp parallel for schedule(static) if (size > PARALLEL_MIN)
        for (int64_t i = 0; i < size; i += BLOCK) scale(block_at(size, i), s, x + i);
    }
    /* A [n,n] = X Xt, or Xt X; X = P X, or X P */
    Gemm gram = {.M = n,
                 .N = n,
                 .K = tall ? rows : cols,
                 .lda = cols,
                 .ldb = cols,
                 .c = a,
                 .ldc = n,
                 .trans_a = tall,
                 .trans_b = !tall};
    Gemm next = {.M = rows, .N = cols, .K = n, .lda = n, .ldb = cols, .ldc = cols};
    for (int k = 0; k < ITERATIONS; k++) {
        gram.a = gram.b = x;
        gemm(arena, &gram);
        polynomial(arena, n, a, p);
        next.a = tall ? x : p;
        next.b = tall ? p : x;
        next.c = y;
        gemm(arena, &next);
        real *old = x;
        x = y;
        y = old;
    }
    if (x != matrix && !arena->dry) memcpy(matrix, x, (size_t)size * sizeof *x);
    arena_release(arena, mark);
}

/* --- the update ------------------------------------------------------------------------------- */

KERNEL(momentum,
       (int64_t n, real s, real mu, real one_minus_mu, const real *restrict grad, real *restrict m,
        real *restrict u),
       (n, s, mu, one_minus_mu, grad, m, u)) {
    for (int64_t i = 0; i < n; i++) {
        const real g = grad[i] * s, m1 = m[i] + one_minus_mu * (g - m[i]);
        m[i] = m1;
        u[i] = g + mu * (m1 - g);
    }
}

KERNEL(descend, (int64_t n, real rate, real decay, const real *restrict o, real *restrict w),
       (n, rate, decay, o, w)) {
    for (int64_t i = 0; i < n; i++) w[i] -= rate * o[i] + decay * w[i];
}

/* The hidden matrices of a part: the k-th of parameter p. */
typedef struct Matrix {
    int p, k;
    int64_t rows, cols, offset; /* of the flat buffers */
} Matrix;

/* The next one; a walk begins with {.p = the part's first, .k = -1}. */
static bool next_matrix(const ParamSet *ps, int part, Matrix *x) {
    const int end = part + 1 < ps->nparts ? ps->part[part + 1].first : ps->n;
    for (x->k++; x->p < end; x->p++, x->k = 0) {
        const Param *p = &ps->v[x->p];
        if (x->k >= p->matrices) continue;
        const int64_t all = p->tensor.shape[0], n = p->matrices;
        const int64_t first = p->first_rows ? p->first_rows : all / n;
        const int64_t others = n > 1 ? (all - first) / (n - 1) : 0;
        CHECK(p->tensor.ndim == 2 && first + others * (n - 1) == all, "%s is not %d matrices",
              p->name, p->matrices);
        x->rows = x->k == 0 ? first : others;
        x->cols = p->tensor.shape[1];
        x->offset = p->offset + (x->k > 0 ? first + (x->k - 1) * others : 0) * x->cols;
        return true;
    }
    return false;
}

/* What of a matrix is in the share: elements [*from, *to) of the flat buffers. */
static bool overlap(const Matrix *x, const Share *s, int64_t *from, int64_t *to) {
    const int64_t end = x->offset + x->rows * x->cols;
    *from = x->offset > s->begin ? x->offset : s->begin;
    *to = end < s->end ? end : s->end;
    return *from < *to;
}

void muon_part(AdamW *a, ParamSet *ps, Grads *g, Arena *arena, int part, double lr,
               double grad_scale) {
    const Shard *shard = a->shard ? a->shard : &a->whole;
    const Share *s = &shard->v[part];
    const int64_t begin = ps->part[part].offset, size = paramset_part_end(ps, part) - begin;
    const Matrix first = {.p = ps->part[part].first, .k = -1};
    const real mu = (real)a->momentum, one_minus_mu = (real)(1 - a->momentum);
    int64_t from, to;
    Matrix x = first;
    if (!next_matrix(ps, part, &x)) return;
    CHECK(isfinite(lr) && isfinite(grad_scale), "lr %g, gradient scale %g", lr, grad_scale);

    const ArenaMark mark = arena_mark(arena);
    real *u = arena_numbers(arena, (size_t)size * sizeof *u);
    memset(u + (s->begin - begin), 0, (size_t)(s->end - s->begin) * sizeof *u);
    for (x = first; next_matrix(ps, part, &x);) {
        if (!overlap(&x, s, &from, &to)) continue;
#pragma omp parallel for schedule(static) if (to - from > PARALLEL_MIN)
        for (int64_t i = from; i < to; i += BLOCK)
            momentum(block_at(to, i), (real)grad_scale, mu, one_minus_mu, s->grad + (i - s->begin),
                     a->m + s->at + (i - s->begin), u + (i - begin));
    }
    if (g) grads_gather(g, part, u);
    for (x = first; next_matrix(ps, part, &x);) {
        if (!overlap(&x, s, &from, &to)) continue;
        muon_orthogonalize(arena, x.rows, x.cols, u + (x.offset - begin));
        const double size_of_adam = 0.2 * sqrt((double)(x.rows > x.cols ? x.rows : x.cols));
        const real rate = (real)(lr * size_of_adam);
        const real decay = ps->v[x.p].decay ? (real)(lr * a->decay) : 0;
#pragma omp parallel for schedule(static) if (to - from > PARALLEL_MIN)
        for (int64_t i = from; i < to; i += BLOCK)
            descend(block_at(to, i), rate, decay, u + (i - begin), ps->data + i);
    }
    arena_release(arena, mark);
}

size_t muon_bytes(const ParamSet *ps) {
    Arena arena = {.dry = true};
    for (int k = 0; k < ps->nparts; k++) {
        const ArenaMark mark = arena_mark(&arena);
        Matrix x = {.p = ps->part[k].first, .k = -1};
        if (!next_matrix(ps, k, &x)) continue;
        arena_numbers(&arena,
                      (size_t)(paramset_part_end(ps, k) - ps->part[k].offset) * sizeof(real));
        do muon_orthogonalize(&arena, x.rows, x.cols, NULL);
        while (next_matrix(ps, k, &x));
        arena_release(&arena, mark);
    }
    const size_t high = arena.high;
    arena_free(&arena);
    return high;
}
