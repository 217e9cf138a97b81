/* op_layernorm.c: y = LayerNorm(s) g + b with s = x + r (Ba, Kiros, Hinton 2016).
 *
 *   forward   s = x + r,  m = mean(s),  v = mean((s - m)^2),  R = 1/sqrt(v + eps)
 *             h = (s - m) R,  y = h g + b                         over the C columns of a row
 *             saved: s, m, R; y can be rebuilt
 *   backward  dh = dy g
 *             ds = R (dh - mean(dh) - h mean(dh h)) + what reached s itself
 *             dx += ds,  dr += ds,  dg += sum dy h,  db += sum dy   (sums over rows)
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
    real *mean, *rstd;
} Norm;

/* s is written if r is given; else s is x. */
KERNEL(norm_rows,
       (int64_t rows, int64_t C, const real *restrict x, const real *restrict r,
        const real *restrict g, const real *restrict b, real eps, real *restrict s,
        real *restrict y, real *restrict mean, real *restrict rstd),
       (rows, C, x, r, g, b, eps, s, y, mean, rstd)) {
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
        real m = sum / (real)C;
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
        if (mean) {
            mean[i] = m;
            rstd[i] = R;
        }
    }
}

KERNEL(norm_rebuild_rows,
       (int64_t rows, int64_t C, const real *restrict s, const real *restrict g,
        const real *restrict b, const real *restrict mean, const real *restrict rstd,
        real *restrict y),
       (rows, C, s, g, b, mean, rstd, y)) {
    for (int64_t i = 0; i < rows; i++, s += C, y += C)
        for (int64_t j = 0; j < C; j++) y[j] = (s[j] - mean[i]) * rstd[i] * g[j] + (b ? b[j] : 0);
}

/* dg, db [cols] += the sums over the rows, for some of the C columns. */
KERNEL(norm_gain_backward,
       (int64_t rows, int64_t C, int64_t cols, const real *restrict s, const real *restrict mean,
        const real *restrict rstd, const real *restrict dy, real *restrict dg, real *restrict db),
       (rows, C, cols, s, mean, rstd, dy, dg, db)) {
    for (int64_t i = 0; i < rows; i++, s += C, dy += C) {
        real m = mean[i], R = rstd[i];
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
        real m = mean[i], R = rstd[i], m1 = 0, m2 = 0;
#pragma omp simd reduction(+ : m1, m2)
        for (int64_t j = 0; j < C; j++) {
            real h = (s[j] - m) * R, dh = dy[j] * g[j];
            m1 += dh;
            m2 += dh * h;
        }
        m1 /= (real)C;
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

static void layernorm_backward(Tape *t, void *ctx) {
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
                norm_gain_backward(rows, C, cols, s + from * C + c0, l->mean + from, l->rstd + from,
                                   l->y->grad + from * C + c0, dg + c0, db ? db + c0 : NULL);
#pragma omp barrier /* the rows' gradient is used up below */
            int64_t i = from + thread * BLOCK_ROWS, at = i * C;
            rows = n - i < BLOCK_ROWS ? n - i : BLOCK_ROWS;
            if (rows > 0)
                norm_rows_backward(rows, C, s + at, l->g->data, l->mean + i, l->rstd + i,
                                   l->y->grad + at, dsum ? dsum + at : NULL, dx.add,
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
                          l->b ? l->b->data : NULL, l->mean + i, l->rstd + i, l->y->data + i * C);
}

Tensor *op_layernorm(Tape *t, Tensor *x, Tensor *r, Tensor *g, Tensor *b, double eps,
                     Tensor **sum) {
    CHECK(x->ndim == 2, "op_layernorm: x has %d dimensions, expected 2", x->ndim);
    int64_t n = x->shape[0], C = x->shape[1];
    if (r) tensor_expect(r, "op_layernorm: r", 2, x->shape);
    tensor_expect(g, "op_layernorm: g", 1, (int64_t[]){C});
    if (b) tensor_expect(b, "op_layernorm: b", 1, (int64_t[]){C});
    Tensor *y = tape_tensor(t, 2, x->shape), *s = r ? tape_tensor(t, 2, x->shape) : x;
    real *mean = tape_records(t) ? tape_numbers(t, (size_t)n * sizeof(real)) : NULL;
    real *rstd = tape_records(t) ? tape_numbers(t, (size_t)n * sizeof(real)) : NULL;
    Norm *l = tape_alloc(t, sizeof *l);
    *l = (Norm){x, r, g, b, y, s, mean, rstd};
    tape_keep(t, s);
    tape_set_rebuild(t, y, rebuild, l);
    tape_push(t, layernorm_backward, l, y);
    if (sum) *sum = s;
    if (tape_dry(t)) return y;
    int64_t blocks = (n + BLOCK_ROWS - 1) / BLOCK_ROWS;
#pragma omp parallel for schedule(static) if (n * C > PARALLEL_MIN)
    for (int64_t k = 0; k < blocks; k++) {
        int64_t i = k * BLOCK_ROWS, rows = n - i < BLOCK_ROWS ? n - i : BLOCK_ROWS, at = i * C;
        norm_rows(rows, C, x->data + at, r ? r->data + at : NULL, g->data, b ? b->data : NULL,
                  (real)eps, r ? s->data + at : NULL, y->data + at, mean ? mean + i : NULL,
                  rstd ? rstd + i : NULL);
    }
    return y;
}

/* variant: bit 0 bias, bit 1 residual, bit 2 the sum is used as well */
static double layernorm_run(Tape *t, const GradCase *c) {
    Tensor *b = c->variant & 1 ? c->in[2] : NULL, *sum = NULL;
    Tensor *r = c->variant & 2 ? c->in[c->nin - 1] : NULL;
    Tensor *y = op_layernorm(t, c->in[0], r, c->in[1], b, 1e-5, c->variant & 4 ? &sum : NULL);
    double loss = grad_project(t, y);
    return sum ? loss + grad_project(t, sum) : loss;
}

bool op_layernorm_case(GradCase *c, int i) {
    static const struct {
        int64_t n, C;
        int variant;
        const char *what;
    } cases[] = {
        {5, 8, 0, "no bias"},
        {5, 9, 1, "bias"},
        {150, 7, 3, "bias, residual, several blocks"},
        {6, 20, 7, "bias, residual, sum used"},
        {6, 20, 6, "residual, sum used"},
    };
    if (i >= (int)(sizeof cases / sizeof cases[0])) return false;
    int64_t n = cases[i].n, C = cases[i].C;
    c->variant = cases[i].variant;
    c->what = cases[i].what;
    grad_input(c, 2, (int64_t[]){n, C});
    grad_input(c, 1, (int64_t[]){C});
    if (c->variant & 1) grad_input(c, 1, (int64_t[]){C});
    if (c->variant & 2) grad_input(c, 2, (int64_t[]){n, C});
    c->run = layernorm_run;
    return true;
}
