/* op_layernorm.c: y = LayerNorm(s) g + b with s = x + r (Ba, Kiros, Hinton 2016), and RMSNorm
 * (Zhang, Sennrich 2019), the same with mean 0 and without b.
 *
 *   forward   s = x + r,  m = mean(s),  v = mean((s - m)^2),  R = 1/sqrt(v + eps)
 *             h = (s - m) R,  y = h g + b                         over the C columns of a row
 *             RMSNorm: m = 0
 *             saved: s, m, R; y can be rebuilt
 *   backward  dh = dy g
 *             ds = R (dh - mean(dh) - h mean(dh h)) + what reached s itself
 *             RMSNorm: mean(dh) is left out
 *             dx += ds,  dr += ds,  dg += sum dy h,  db += sum dy   (sums over rows)
 *
 * headnorm is RMSNorm of each head of q and k in rows [q, k, v], with a g for q and one for k.
 *
 * The sums over rows are chains in order of the rows, so that they do not depend on how the tokens
 * are cut into micro-batches: threads share out their columns. */
#include <math.h>
#include <omp.h>

#include "base/error.h"
#include "core/gradcheck.h"
#include "core/kernel.h"
#include "core/ops.h"

enum { BLOCK_ROWS = 64, LINE = 64 / sizeof(real) };

typedef struct Norm {
    Tensor *x, *r, *g, *b, *y, *s; /* s is x if there is no r */
    real *mean, *rstd;             /* mean NULL: RMSNorm */
} Norm;

/* s is written if r is given; else s is x. */
KERNEL(norm_rows,
       (int64_t rows, int64_t C, const real *restrict x, const real *restrict r,
        const real *restrict g, const real *restrict b, bool rms, real eps, real *restrict s,
        real *restrict y, real *restrict mean, real *restrict rstd),
       (rows, C, x, r, g, b, rms, eps, s, y, mean, rstd)) {
    for (int64_t i = 0; i < rows; i++, x += C, y += C) {
        const real *restrict row = x;
        real sum = 0, square = 0;
        if (r) {
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < C; j++) {
                s[j] = x[j] + r[j];
                sum += s[j];
            }
            row = s;
            r += C;
            s += C;
        } else {
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < C; j++) sum += x[j];
        }
        real m = rms ? 0 : sum / (real)C;
#pragma omp simd reduction(+ : square)
        for (int64_t j = 0; j < C; j++) square += (row[j] - m) * (row[j] - m);
#ifdef RHETOR_DOUBLE
        real R = 1 / sqrt(square / (real)C + eps);
#else
        real R = 1 / sqrtf(square / (real)C + eps);
#endif
        if (b)
            for (int64_t j = 0; j < C; j++) y[j] = (row[j] - m) * R * g[j] + b[j];
        else
            for (int64_t j = 0; j < C; j++) y[j] = (row[j] - m) * R * g[j];
        if (mean) mean[i] = m;
        if (rstd) rstd[i] = R;
    }
}

KERNEL(norm_rebuild_rows,
       (int64_t rows, int64_t C, const real *restrict s, const real *restrict g,
        const real *restrict b, const real *restrict mean, const real *restrict rstd,
        real *restrict y),
       (rows, C, s, g, b, mean, rstd, y)) {
    for (int64_t i = 0; i < rows; i++, s += C, y += C) {
        real m = mean ? mean[i] : 0;
        for (int64_t j = 0; j < C; j++) y[j] = (s[j] - m) * rstd[i] * g[j] + (b ? b[j] : 0);
    }
}

/* dg, db [cols] += the sums over the rows, for some of the C columns. */
KERNEL(norm_gain_backward,
       (int64_t rows, int64_t C, int64_t cols, const real *restrict s, const real *restrict mean,
        const real *restrict rstd, const real *restrict dy, real *restrict dg, real *restrict db),
       (rows, C, cols, s, mean, rstd, dy, dg, db)) {
    for (int64_t i = 0; i < rows; i++, s += C, dy += C) {
        real m = mean ? mean[i] : 0, R = rstd[i];
        for (int64_t j = 0; j < cols; j++) dg[j] += dy[j] * ((s[j] - m) * R);
        if (db)
            for (int64_t j = 0; j < cols; j++) db[j] += dy[j];
    }
}

/* ds of each row is stored in or added to dx, dr. */
KERNEL(norm_rows_backward,
       (int64_t rows, int64_t C, const real *restrict s, const real *restrict g,
        const real *restrict mean, const real *restrict rstd, real *restrict dy,
        const real *restrict dsum, bool add_x, real *restrict dx, bool add_r, real *restrict dr),
       (rows, C, s, g, mean, rstd, dy, dsum, add_x, dx, add_r, dr)) {
    for (int64_t i = 0; i < rows; i++, s += C, dy += C) {
        real m = mean ? mean[i] : 0, R = rstd[i], m1 = 0, m2 = 0;
#pragma omp simd reduction(+ : m1, m2)
        for (int64_t j = 0; j < C; j++) {
            real h = (s[j] - m) * R, dh = dy[j] * g[j];
            m1 += dh;
            m2 += dh * h;
        }
        m1 = mean ? m1 / (real)C : 0;
        m2 /= (real)C;
        /* dy is used up: its row may hold ds. */
        real *ds = dy;
        for (int64_t j = 0; j < C; j++) ds[j] = R * (dy[j] * g[j] - m1 - (s[j] - m) * R * m2);
        if (dsum) {
            for (int64_t j = 0; j < C; j++) ds[j] += dsum[j];
            dsum += C;
        }
        if (dx) {
            if (add_x)
                for (int64_t j = 0; j < C; j++) dx[j] += ds[j];
            else
                for (int64_t j = 0; j < C; j++) dx[j] = ds[j];
            dx += C;
        }
        if (dr) {
            if (add_r)
                for (int64_t j = 0; j < C; j++) dr[j] += ds[j];
            else
                for (int64_t j = 0; j < C; j++) dr[j] = ds[j];
            dr += C;
        }
    }
}

static void norm_backward(Tape *t, void *ctx) {
    const Norm *l = ctx;
    int64_t n = l->y->shape[0], C = l->y->shape[1];
    const GradOut dx = tape_grad_out(t, l->x), dr = l->r ? tape_grad_out(t, l->r) : (GradOut){0};
    const real *s = tape_data(t, l->s), *dsum = l->r && !l->s->grad_unset ? l->s->grad : NULL;
    real *dg = tape_grad(t, l->g), *db = l->b ? tape_grad(t, l->b) : NULL;
    if (tape_dry(t)) return;
#pragma omp parallel if (n * C > PARALLEL_MIN)
    {
        int threads = omp_get_num_threads(), thread = omp_get_thread_num();
        int64_t units = (C + LINE - 1) / LINE, c0 = units * thread / threads * LINE,
                c1 = units * (thread + 1) / threads * LINE, cols = (c1 < C ? c1 : C) - c0;
        for (int64_t from = 0; from < n; from += threads * BLOCK_ROWS) {
            int64_t rows = n - from < threads * BLOCK_ROWS ? n - from : threads * BLOCK_ROWS;
            if (dg)
                norm_gain_backward(rows, C, cols, s + from * C + c0,
                                   l->mean ? l->mean + from : NULL, l->rstd + from,
                                   l->y->grad + from * C + c0, dg + c0, db ? db + c0 : NULL);
#pragma omp barrier /* the rows' gradient is used up below */
            int64_t i = from + thread * BLOCK_ROWS, at = i * C;
            rows = n - i < BLOCK_ROWS ? n - i : BLOCK_ROWS;
            if (rows > 0)
                norm_rows_backward(rows, C, s + at, l->g->data, l->mean ? l->mean + i : NULL,
                                   l->rstd + i, l->y->grad + at, dsum ? dsum + at : NULL, dx.add,
                                   dx.to ? dx.to + at : NULL, dr.add, dr.to ? dr.to + at : NULL);
        }
    }
}

static void rebuild(Tape *t, void *ctx) {
    const Norm *l = ctx;
    int64_t n = l->y->shape[0], C = l->y->shape[1];
    const real *s = tape_data(t, l->s);
    if (tape_dry(t)) return;
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += BLOCK_ROWS)
        norm_rebuild_rows(n - i < BLOCK_ROWS ? n - i : BLOCK_ROWS, C, s + i * C, l->g->data,
                          l->b ? l->b->data : NULL, l->mean ? l->mean + i : NULL, l->rstd + i,
                          l->y->data + i * C);
}

static Tensor *norm(Tape *t, Tensor *x, Tensor *r, Tensor *g, Tensor *b, bool rms, double eps,
                    Tensor **sum) {
    CHECK(x->ndim == 2, "a norm's x has %d dimensions, expected 2", x->ndim);
    int64_t n = x->shape[0], C = x->shape[1];
    if (r) tensor_expect(r, "a norm's r", 2, x->shape);
    tensor_expect(g, "a norm's g", 1, (int64_t[]){C});
    if (b) tensor_expect(b, "a norm's b", 1, (int64_t[]){C});
    Tensor *y = tape_tensor(t, 2, x->shape), *s = r ? tape_tensor(t, 2, x->shape) : x;
    real *mean = tape_records(t) && !rms ? tape_numbers(t, (size_t)n * sizeof(real)) : NULL;
    real *rstd = tape_records(t) ? tape_numbers(t, (size_t)n * sizeof(real)) : NULL;
    Norm *l = tape_alloc(t, sizeof *l);
    *l = (Norm){x, r, g, b, y, s, mean, rstd};
    tape_keep(t, s);
    tape_set_rebuild(t, y, rebuild, l);
    tape_push(t, norm_backward, l, y);
    if (sum) *sum = s;
    if (tape_dry(t)) return y;
    int64_t blocks = (n + BLOCK_ROWS - 1) / BLOCK_ROWS;
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t k = 0; k < blocks; k++) {
        int64_t i = k * BLOCK_ROWS, rows = n - i < BLOCK_ROWS ? n - i : BLOCK_ROWS, at = i * C;
        norm_rows(rows, C, x->data + at, r ? r->data + at : NULL, g->data, b ? b->data : NULL, rms,
                  (real)eps, r ? s->data + at : NULL, y->data + at, mean ? mean + i : NULL,
                  rstd ? rstd + i : NULL);
    }
    return y;
}

Tensor *op_layernorm(Tape *t, Tensor *x, Tensor *r, Tensor *g, Tensor *b, double eps,
                     Tensor **sum) {
    return norm(t, x, r, g, b, false, eps, sum);
}

Tensor *op_rmsnorm(Tape *t, Tensor *x, Tensor *r, Tensor *g, double eps, Tensor **sum) {
    return norm(t, x, r, g, NULL, true, eps, sum);
}

/* Of the variants: a bias, a residual, its sum is used as well, the root mean square alone. */
enum { BIAS = 1, RESIDUAL = 2, SUM = 4, RMS = 8 };

static double norm_run(Tape *t, const GradCase *c) {
    Tensor *b = c->variant & BIAS ? c->in[2] : NULL, *sum = NULL;
    Tensor *r = c->variant & RESIDUAL ? c->in[c->nin - 1] : NULL;
    Tensor *y =
        norm(t, c->in[0], r, c->in[1], b, c->variant & RMS, 1e-5, c->variant & SUM ? &sum : NULL);
    double loss = gradcheck_project(t, y);
    return sum ? loss + gradcheck_project(t, sum) : loss;
}

typedef struct NormCase {
    int64_t n, C;
    int variant;
    const char *what;
} NormCase;

static bool norm_case(GradCase *c, const NormCase *of) {
    c->variant = of->variant;
    c->what = of->what;
    gradcheck_input(c, 2, (int64_t[]){of->n, of->C});
    gradcheck_input(c, 1, (int64_t[]){of->C});
    if (c->variant & BIAS) gradcheck_input(c, 1, (int64_t[]){of->C});
    if (c->variant & RESIDUAL) gradcheck_input(c, 2, (int64_t[]){of->n, of->C});
    c->run = norm_run;
    return true;
}

bool op_layernorm_case(GradCase *c, int i) {
    static const NormCase cases[] = {
        {5, 8, 0, "no bias"},
        {5, 9, BIAS, "bias"},
        {150, 7, BIAS | RESIDUAL, "bias, residual, several blocks"},
        {6, 20, BIAS | RESIDUAL | SUM, "bias, residual, sum used"},
        {6, 20, RESIDUAL | SUM, "residual, sum used"},
    };
    return i < (int)(sizeof cases / sizeof *cases) && norm_case(c, &cases[i]);
}

bool op_rmsnorm_case(GradCase *c, int i) {
    static const NormCase cases[] = {
        {5, 9, RMS, "alone"},
        {150, 7, RMS | RESIDUAL, "residual, several blocks"},
        {6, 20, RMS | RESIDUAL | SUM, "residual, sum used"},
    };
    return i < (int)(sizeof cases / sizeof *cases) && norm_case(c, &cases[i]);
}

typedef struct HeadNorm {
    Tensor *x, *gq, *gk, *y;
    int64_t heads, kv_heads;
    real *rstd; /* [n, heads + kv_heads] */
} HeadNorm;

KERNEL(pass, (int64_t n, const real *restrict x, bool add, real *restrict y), (n, x, add, y)) {
    for (int64_t j = 0; j < n; j++) y[j] = add ? y[j] + x[j] : x[j];
}

void headnorm_row(int64_t heads, int64_t kv_heads, int64_t d, const real *gq, const real *gk,
                  double eps, const real *x, real *y, real *rstd) {
    norm_rows(heads, d, x, NULL, gq, NULL, true, (real)eps, NULL, y, NULL, rstd);
    x += heads * d;
    y += heads * d;
    norm_rows(kv_heads, d, x, NULL, gk, NULL, true, (real)eps, NULL, y, NULL,
              rstd ? rstd + heads : NULL);
    pass(kv_heads * d, x + kv_heads * d, false, y + kv_heads * d);
}

static void headnorm_backward(Tape *t, void *ctx) {
    const HeadNorm *l = ctx;
    int64_t n = l->y->shape[0], W = l->y->shape[1], d = l->gq->shape[0];
    int64_t H = l->heads, KV = l->kv_heads, all = H + KV;
    const GradOut dx = tape_grad_out(t, l->x);
    const real *x = tape_data(t, l->x);
    real *dgq = tape_grad(t, l->gq), *dgk = tape_grad(t, l->gk);
    if (tape_dry(t)) return;
#pragma omp parallel if (n * W > PARALLEL_MIN)
    {
        int threads = omp_get_num_threads(), thread = omp_get_thread_num();
        int64_t units = (d + LINE - 1) / LINE, c0 = units * thread / threads * LINE,
                c1 = units * (thread + 1) / threads * LINE, cols = (c1 < d ? c1 : d) - c0;
        for (int64_t i = 0; cols > 0 && i < n; i++) {
            const real *R = l->rstd + i * all, *from = x + i * W + c0,
                       *dy = l->y->grad + i * W + c0;
            if (dgq) norm_gain_backward(H, d, cols, from, NULL, R, dy, dgq + c0, NULL);
            if (dgk)
                norm_gain_backward(KV, d, cols, from + H * d, NULL, R + H, dy + H * d, dgk + c0,
                                   NULL);
        }
#pragma omp barrier /* the rows' gradient is used up below */
#pragma omp for schedule(static)
        for (int64_t i = 0; i < (dx.to ? n : 0); i++) {
            const real *R = l->rstd + i * all, *from = x + i * W;
            real *dy = l->y->grad + i * W, *to = dx.to + i * W;
            norm_rows_backward(H, d, from, l->gq->data, NULL, R, dy, NULL, dx.add, to, false, NULL);
            norm_rows_backward(KV, d, from + H * d, l->gk->data, NULL, R + H, dy + H * d, NULL,
                               dx.add, to + H * d, false, NULL);
            pass(KV * d, dy + all * d, dx.add, to + all * d);
        }
    }
}

Tensor *op_headnorm(Tape *t, Tensor *qkv, Tensor *gq, Tensor *gk, int heads, int kv_heads,
                    double eps) {
    int64_t all = heads + 2 * (int64_t)kv_heads;
    CHECK(qkv->ndim == 2 && qkv->shape[1] % all == 0,
          "op_headnorm: qkv has %d dimensions, the last %lld, expected 2 and a multiple of %lld",
          qkv->ndim, (long long)qkv->shape[qkv->ndim - 1], (long long)all);
    int64_t n = qkv->shape[0], W = qkv->shape[1], d = W / all;
    tensor_expect(gq, "op_headnorm: gq", 1, (int64_t[]){d});
    tensor_expect(gk, "op_headnorm: gk", 1, (int64_t[]){d});
    HeadNorm *l = tape_alloc(t, sizeof *l);
    *l = (HeadNorm){qkv, gq, gk, tape_tensor(t, 2, qkv->shape), heads, kv_heads, NULL};
    if (tape_records(t)) l->rstd = tape_numbers(t, (size_t)(n * (heads + kv_heads)) * sizeof(real));
    tape_keep(t, qkv);
    tape_push(t, headnorm_backward, l, l->y);
    if (tape_dry(t)) return l->y;
#pragma omp parallel for schedule(static) if (n * W > PARALLEL_MIN)
    for (int64_t i = 0; i < n; i++)
        headnorm_row(heads, kv_heads, d, gq->data, gk->data, eps, qkv->data + i * W,
                     l->y->data + i * W, l->rstd ? l->rstd + i * (heads + kv_heads) : NULL);
    return l->y;
}

static double headnorm_run(Tape *t, const GradCase *c) {
    const int heads = c->variant / 100, kv_heads = c->variant % 100;
    Tensor *const *in = c->in;
    double loss = gradcheck_project(t, op_headnorm(t, in[0], in[1], in[2], heads, kv_heads, 1e-6));
    if (heads == kv_heads)
        loss += gradcheck_project(t, op_headnorm(t, in[0], in[2], in[1], heads, kv_heads, 1e-6));
    return loss;
}

bool op_headnorm_case(GradCase *c, int i) {
    static const struct {
        int64_t n, d;
        int heads, kv_heads;
        const char *what;
    } cases[] = {
        {5, 6, 4, 2, "grouped"},
        {4, 37, 1, 1, "one head, qkv used twice"},
        {90, 34, 2, 1, "several threads"},
    };
    if (i >= (int)(sizeof cases / sizeof cases[0])) return false;
    const int heads = cases[i].heads, kv_heads = cases[i].kv_heads;
    c->variant = 100 * heads + kv_heads;
    c->what = cases[i].what;
    gradcheck_input(c, 2, (int64_t[]){cases[i].n, (heads + 2 * kv_heads) * cases[i].d});
    gradcheck_input(c, 1, (int64_t[]){cases[i].d});
    gradcheck_input(c, 1, (int64_t[]){cases[i].d});
    c->run = headnorm_run;
    return true;
}
