/* op_attention.c: causal self-attention of each head inside each packed sequence.
 *
 *   forward   S = Q K^T / sqrt(d)  (only j <= i),  P = softmax of each row,  Y = P V
 *             saved: L_i = log sum_j exp S_ij
 *   backward  P = exp(S - L),  D_i = dY_i . Y_i
 *             dV += P^T dY,  dP = dY V^T,  dS = P (dP - D),
 *             dQ += dS K / sqrt(d),  dK += dS^T Q / sqrt(d)
 *
 * as FlashAttention does it (Dao et al. 2022; FlashAttention-2, Dao 2023): QUERIES queries meet
 * KEYS keys at a time, the forward pass keeps a running maximum, sum and output for each query and
 * rescales them when the maximum grows, and the backward pass makes P again from L.
 *
 * One (sequence, head) is one unit of work of one thread. It writes its own rows and columns only,
 * so threads never share a sum. The unit's q, k, v are first copied out of the wide qkv rows into
 * packed arrays, q scaled, k and v also transposed where a product needs it; columns are padded
 * with zeros from d to D, and transposed rows from T to W, multiples of TILE_WIDTH. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/error.h"
#include "core/gradcheck.h"
#include "core/kernel.h"
#include "core/ops.h"
#include "core/tile.h"
#include "core/vecmath.h"

enum { QUERIES = 32, KEYS = 64 };

typedef struct Attention {
    Tape *tape;
    Tensor *qkv, *y;
    const Packing *p;
    int64_t H, C, d, D;
    real scale;
    real *lse; /* [H,n] */
} Attention;

static int64_t padded(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

/* out [T,D] = scale * in [T,d] (rows `ld` apart), padded with zeros. */
KERNEL(copy_in,
       (int64_t T, int64_t d, int64_t D, real scale, const real *restrict in, int64_t ld,
        real *restrict out),
       (T, d, D, scale, in, ld, out)) {
    for (int64_t i = 0; i < T; i++, in += ld, out += D) {
        for (int64_t j = 0; j < d; j++) out[j] = scale * in[j];
        for (int64_t j = d; j < D; j++) out[j] = 0;
    }
}

/* out [T,d] (rows `ld` apart) = scale * in [T,D], or += when beta is 1. */
KERNEL(copy_out,
       (int64_t T, int64_t d, int64_t D, real scale, const real *restrict in, real beta,
        real *restrict out, int64_t ld),
       (T, d, D, scale, in, beta, out, ld)) {
    for (int64_t i = 0; i < T; i++, in += D, out += ld)
        if (beta == 0)
            for (int64_t j = 0; j < d; j++) out[j] = scale * in[j];
        else
            for (int64_t j = 0; j < d; j++) out[j] += scale * in[j];
}

/* out [D,W] = transposed in [T,D], padded with zeros from T to W. */
static void transpose(int64_t T, int64_t D, int64_t W, const real *restrict in,
                      real *restrict out) {
    for (int64_t j0 = 0; j0 < W; j0 += TILE_WIDTH)
        for (int64_t c = 0; c < D; c++)
            for (int64_t j = j0; j < j0 + TILE_WIDTH; j++)
                out[c * W + j] = j < T ? in[j * D + c] : 0;
}

/* Hides the keys after each query in a tile [rows,w] of scores: query i sees keys 0..first+i. */
KERNEL_INLINE void hide_future(int64_t i, int64_t w, int64_t first, real *S) {
    for (int64_t j = first + i + 1; j < w; j++) S[j] = -(real)INFINITY;
}

/* One tile of scores S [rows,w] (rows KEYS apart) becomes exp(S - m) with the running maximum m and
 * sum l of each row brought up to date, and the row's output o [rows,D] scaled to the new maximum.
 * w is a multiple of TILE_WIDTH. */
KERNEL(softmax_tile,
       (int64_t rows, int64_t w, int64_t first, int64_t D, real *restrict S, real *restrict m,
        real *restrict l, real *restrict o),
       (rows, w, first, D, S, m, l, o)) {
    w = w / TILE_WIDTH * TILE_WIDTH;
    for (int64_t i = 0; i < rows; i++, S += KEYS, o += D) {
        hide_future(i, w, first, S);
        real largest = vm_max(w, S), max = largest > m[i] ? largest : m[i], sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < w; j++) {
            S[j] = vm_exp(S[j] - max);
            sum += S[j];
        }
        real shrink = vm_exp(m[i] - max); /* 0 at first, when m is -infinity */
        l[i] = l[i] * shrink + sum;
        m[i] = max;
        for (int64_t c = 0; c < D; c++) o[c] *= shrink;
    }
}

/* Backward: S becomes P = exp(S - L), dP becomes dS = P (dP - delta). */
KERNEL(softmax_tile_backward,
       (int64_t rows, int64_t w, int64_t first, const real *restrict L, const real *restrict delta,
        real *restrict S, real *restrict dP),
       (rows, w, first, L, delta, S, dP)) {
    w = w / TILE_WIDTH * TILE_WIDTH;
    for (int64_t i = 0; i < rows; i++, S += KEYS, dP += KEYS) {
        hide_future(i, w, first, S);
        for (int64_t j = 0; j < w; j++) {
            S[j] = vm_exp(S[j] - L[i]);
            dP[j] = S[j] * (dP[j] - delta[i]);
        }
    }
}

KERNEL(row_dots,
       (int64_t T, int64_t d, const real *restrict a, int64_t lda, const real *restrict b,
        int64_t ldb, real *restrict out),
       (T, d, a, lda, b, ldb, out)) {
    for (int64_t i = 0; i < T; i++, a += lda, b += ldb) {
        real sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < d; j++) sum += a[j] * b[j];
        out[i] = sum;
    }
}

/* The reals of scratch that one unit of work of up to T tokens needs. */
static int64_t forward_scratch(int64_t T, int64_t D) {
    return 3 * padded(T, TILE_WIDTH) * D + QUERIES * (KEYS + D + 2);
}

static int64_t backward_scratch(int64_t T, int64_t D) {
    int64_t W = padded(T, TILE_WIDTH);
    return 7 * W * D + W + QUERIES * (2 * KEYS + D);
}

static void forward_unit(const Attention *a, int64_t start, int64_t T, int64_t h, real *scratch) {
    int64_t d = a->d, D = a->D, C = a->C, W = padded(T, TILE_WIDTH);
    const real *q_in = a->qkv->data + start * 3 * C + h * d;
    real *q = scratch, *v = q + W * D, *kT = v + W * D;
    real *S = kT + W * D, *o = S + QUERIES * KEYS, *m = o + QUERIES * D, *l = m + QUERIES;
    copy_in(T, d, D, 1, q_in + C, 3 * C, v); /* k, for a moment */
    transpose(T, D, W, v, kT);
    copy_in(T, d, D, a->scale, q_in, 3 * C, q);
    copy_in(T, d, D, 1, q_in + 2 * C, 3 * C, v);
    for (int64_t i0 = 0; i0 < T; i0 += QUERIES) {
        int64_t rows = T - i0 < QUERIES ? T - i0 : QUERIES, end = i0 + rows; /* keys 0..end-1 */
        for (int64_t i = 0; i < rows; i++) {
            m[i] = -(real)INFINITY;
            l[i] = 0;
        }
        memset(o, 0, (size_t)(rows * D) * sizeof(real));
        for (int64_t j0 = 0; j0 < end; j0 += KEYS) {
            int64_t keys = end - j0 < KEYS ? end - j0 : KEYS, w = padded(keys, TILE_WIDTH);
            tile_gemm(rows, w, D, q + i0 * D, D, 1, kT + j0, W, false, S, KEYS);
            softmax_tile(rows, w, i0 - j0, D, S, m, l, o);
            tile_gemm(rows, D, keys, S, KEYS, 1, v + j0 * D, D, true, o, D);
        }
        for (int64_t i = 0; i < rows; i++) {
            real *y = a->y->data + (start + i0 + i) * C + h * d, inv = 1 / l[i];
            for (int64_t c = 0; c < d; c++) y[c] = o[i * D + c] * inv;
            if (a->lse) a->lse[h * a->p->n + start + i0 + i] = m[i] + vm_log(l[i]);
        }
    }
}

static void backward_unit(const Attention *a, int64_t start, int64_t T, int64_t h, real beta,
                          real *scratch) {
    int64_t d = a->d, D = a->D, C = a->C, W = padded(T, TILE_WIDTH);
    int64_t in = start * 3 * C + h * d, out = start * C + h * d;
    const real *qkv = a->qkv->data + in, *L = a->lse + h * a->p->n + start;
    real *dqkv = a->qkv->grad + in;
    real *q = scratch, *k = q + W * D, *kT = k + W * D, *vT = kT + W * D, *dy = vT + W * D;
    real *dk = dy + W * D, *dv = dk + W * D, *delta = dv + W * D;
    real *S = delta + W, *dP = S + QUERIES * KEYS, *dq = dP + QUERIES * KEYS;
    copy_in(T, d, D, 1, qkv + 2 * C, 3 * C, k); /* v, for a moment */
    transpose(T, D, W, k, vT);
    copy_in(T, d, D, 1, qkv + C, 3 * C, k);
    transpose(T, D, W, k, kT);
    copy_in(T, d, D, a->scale, qkv, 3 * C, q);
    copy_in(T, d, D, 1, a->y->grad + out, C, dy);
    row_dots(T, d, a->y->data + out, C, dy, D, delta);
    memset(dk, 0, (size_t)(2 * W * D) * sizeof(real)); /* dv as well */
    for (int64_t i0 = 0; i0 < T; i0 += QUERIES) {
        int64_t rows = T - i0 < QUERIES ? T - i0 : QUERIES, end = i0 + rows; /* keys 0..end-1 */
        memset(dq, 0, (size_t)(rows * D) * sizeof(real));
        for (int64_t j0 = 0; j0 < end; j0 += KEYS) {
            int64_t keys = end - j0 < KEYS ? end - j0 : KEYS, w = padded(keys, TILE_WIDTH);
            tile_gemm(rows, w, D, q + i0 * D, D, 1, kT + j0, W, false, S, KEYS);
            tile_gemm(rows, w, D, dy + i0 * D, D, 1, vT + j0, W, false, dP, KEYS);
            softmax_tile_backward(rows, w, i0 - j0, L + i0, delta + i0, S, dP);
            tile_gemm(keys, D, rows, S, 1, KEYS, dy + i0 * D, D, true, dv + j0 * D, D);
            tile_gemm(keys, D, rows, dP, 1, KEYS, q + i0 * D, D, true, dk + j0 * D, D);
            tile_gemm(rows, D, keys, dP, KEYS, 1, k + j0 * D, D, true, dq, D);
        }
        copy_out(rows, d, D, a->scale, dq, beta, dqkv + i0 * 3 * C, 3 * C);
    }
    copy_out(T, d, D, 1, dk, beta, dqkv + C, 3 * C);
    copy_out(T, d, D, 1, dv, beta, dqkv + 2 * C, 3 * C);
}

static int64_t longest(const Packing *p) {
    int64_t T = 0;
    for (int64_t s = 0; s < p->nseq; s++)
        if (p->start[s + 1] - p->start[s] > T) T = p->start[s + 1] - p->start[s];
    return T;
}

/* Units are handed to threads as they come free: lengths differ, and who does a unit changes
 * nothing. backward: beta >= 0. */
static void all_units(const Attention *a, bool backward, real beta) {
    int64_t T = longest(a->p), units = a->p->nseq * a->H;
    int64_t each = padded(backward ? backward_scratch(T, a->D) : forward_scratch(T, a->D), 64);
    bool parallel = units > 1 && a->p->n * a->C > PARALLEL_MIN;
    int threads = parallel ? omp_get_max_threads() : 1;
    Arena *arena = tape_arena(a->tape);
    ArenaMark mark = arena_mark(arena);
    real *scratch = arena_alloc(arena, (size_t)(each * threads) * sizeof(real));
#pragma omp parallel for schedule(dynamic) if (parallel) num_threads(threads)
    for (int64_t u = 0; u < units; u++) {
        int64_t s = u / a->H, h = u % a->H, start = a->p->start[s],
                len = a->p->start[s + 1] - start;
        real *mine = scratch + each * omp_get_thread_num();
        if (backward)
            backward_unit(a, start, len, h, beta, mine);
        else
            forward_unit(a, start, len, h, mine);
    }
    arena_release(arena, mark);
}

static void attention_backward(void *ctx) {
    const Attention *a = ctx;
    CHECK(!a->y->grad_unset, "the output of an op_attention [%lld,%lld] has no gradient",
          (long long)a->p->n, (long long)a->C);
    if (tensor_wants_grad(a->qkv)) all_units(a, true, tensor_grad_beta(a->qkv));
}

void packing_check(const Packing *p, const char *what) {
    CHECK(p->nseq >= 0 && p->start[0] == 0 && p->start[p->nseq] == p->n,
          "%s: the sequences cover tokens %lld..%lld, expected 0..%lld", what,
          (long long)p->start[0], (long long)p->start[p->nseq], (long long)p->n);
    for (int64_t s = 0; s < p->nseq; s++)
        CHECK(p->start[s] <= p->start[s + 1], "%s: sequence %lld begins at %lld and ends at %lld",
              what, (long long)s, (long long)p->start[s], (long long)p->start[s + 1]);
}

Tensor *op_attention(Tape *t, Tensor *qkv, const Packing *p, int heads) {
    CHECK(qkv->ndim == 2 && heads > 0 && qkv->shape[1] % (3 * (int64_t)heads) == 0,
          "op_attention: qkv has %d dimensions, the last %lld, expected 2 and a multiple of 3 x %d "
          "heads",
          qkv->ndim, (long long)qkv->shape[qkv->ndim - 1], heads);
    packing_check(p, "op_attention");
    int64_t C = qkv->shape[1] / 3, d = C / heads;
    tensor_expect(qkv, "op_attention: qkv", 2, (int64_t[]){p->n, 3 * C});
    Attention *a = tape_alloc(t, sizeof *a);
    *a = (Attention){.tape = t,
                     .qkv = qkv,
                     .p = p,
                     .H = heads,
                     .C = C,
                     .d = d,
                     .D = padded(d, TILE_WIDTH),
                     .scale = (real)(1 / sqrt((double)d))};
    a->y = tape_tensor(t, 2, (int64_t[]){p->n, C});
    if (tape_records(t)) tensor_keep(qkv), tensor_keep(a->y);
    if (tape_records(t)) a->lse = tape_alloc(t, (size_t)(heads * p->n) * sizeof(real));
    all_units(a, false, 0);
    tape_push(t, attention_backward, a);
    return a->y;
}

static double attention_run(Tape *t, const GradCase *c) {
    return grad_project(t, op_attention(t, c->in[0], c->extra, c->variant));
}

bool op_attention_case(GradCase *c, int i) {
    static const int64_t short_start[] = {0, 3, 4, 4, 11}, long_start[] = {0, 5, 140, 205};
    static const Packing packs[] = {{11, 4, short_start}, {205, 3, long_start}};
    static const struct {
        int pack, heads;
        int64_t C;
        const char *what;
    } cases[] = {
        {0, 1, 3, "one head"},
        {0, 2, 10, "sequences of 3, 1, 0 and 7 tokens"},
        {1, 2, 8, "sequences longer than a tile"},
        {1, 1, 19, "head wider than a vector, longer than a tile"},
        {0, 1, 40, "wide head"},
    };
    if (i >= (int)(sizeof cases / sizeof cases[0])) return false;
    c->extra = &packs[cases[i].pack];
    c->variant = cases[i].heads;
    c->what = cases[i].what;
    grad_input(c, 2, (int64_t[]){packs[cases[i].pack].n, 3 * cases[i].C});
    c->run = attention_run;
    return true;
}
