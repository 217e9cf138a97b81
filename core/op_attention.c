/* op_attention.c: causal self-attention of each head inside each packed sequence. Several heads may
 * share a head of keys and values (grouped-query attention, Ainslie et al. 2023).
 *
 *   forward   S = Q K^T / sqrt(d)  (only j <= i),  P = softmax of each row,  Y = P V
 *             saved: L_i = log sum_j exp S_ij
 *   backward  P = exp(S - L),  D_i = dY_i . Y_i
 *             dV += P^T dY,  dP = dY V^T,  dS = P (dP - D),
 *             dQ += dS K / sqrt(d),  dK += dS^T Q / sqrt(d)
 *
 * as FlashAttention does it (Dao et al. 2022; FlashAttention-2, Dao 2023): BLOCK queries meet BLOCK
 * keys at a time, the forward pass keeps a running maximum, sum and output for each query and
 * rescales them when the maximum grows, and the backward pass recomputes P from L. On the diagonal
 * a block is computed in strips of TILE_WIDTH, so that little is made above it.
 *
 * One (sequence, head) is one unit of work of one thread; in the backward pass one (sequence, group
 * of heads that share k and v), whose dK and dV are added up head by head. It writes its own rows
 * and columns only, so threads never share a sum. q, k, v are copied out of the wide qkv rows, k scaled; columns are
 * padded with zeros from d to D, a multiple of TILE_WIDTH, where a product has them on the right.
 *
 * The forward pass holds S and Y transposed, [key, query] and [column, query]: softmax then runs
 * down the columns, a vector of queries at a time, and only q has to be transposed. The backward
 * pass goes through the queries for one block of keys after another: k, v and their gradients stay
 * in the cache. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/error.h"
#include "core/gradcheck.h"
#include "core/kernel.h"
#include "core/ops.h"
#include "core/tile.h"
#include "core/vecmath.h"

enum { BLOCK = 64, AHEAD = 12 /* rows fetched ahead: the processor does not at this stride */ };

typedef struct Attention {
    Tensor *qkv, *y;
    const Batch *b;
    int64_t H, group; /* heads, and how many of them share k and v */
    int64_t C, kv;    /* columns of q and y, of k, of v */
    int64_t d, D;
    real scale;
    real *lse; /* [H,n] */
} Attention;

static int64_t padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

KERNEL_INLINE void fetch(int64_t d, const real *row) {
    for (int64_t j = 0; j < d; j += 64 / (int64_t)sizeof(real)) __builtin_prefetch(row + j);
}

/* out [T,D] = scale * in [T,d] (row stride `ld`), padded with zeros. */
KERNEL(copy_in,
       (int64_t T, int64_t d, int64_t D, real scale, const real *restrict in, int64_t ld,
        real *restrict out),
       (T, d, D, scale, in, ld, out)) {
    for (int64_t i = 0; i < T; i++, in += ld, out += D) {
        fetch(d, in + AHEAD * ld);
        for (int64_t j = 0; j < d; j++) out[j] = scale * in[j];
        for (int64_t j = d; j < D; j++) out[j] = 0;
    }
}

/* out [T,d] (row stride `ld`) = scale * in [T,D], or += when `add`. */
KERNEL(copy_out,
       (int64_t T, int64_t d, int64_t D, real scale, const real *restrict in, bool add,
        real *restrict out, int64_t ld),
       (T, d, D, scale, in, add, out, ld)) {
    for (int64_t i = 0; i < T; i++, in += D, out += ld)
        if (add)
            for (int64_t j = 0; j < d; j++) out[j] += scale * in[j];
        else
            for (int64_t j = 0; j < d; j++) out[j] = scale * in[j];
}

/* out [d,BLOCK] = transposed in [rows,d] (row stride `ld`), padded with zeros. */
static void transpose_in(int64_t rows, int64_t d, const real *in, int64_t ld, real *out) {
    if (rows < BLOCK) memset(out, 0, (size_t)(d * BLOCK) * sizeof *out);
    tile_transpose(rows, d, in, ld, out, BLOCK);
}

/* A block of scores S [keys,BLOCK], of `queries` columns, becomes exp(S - m) with the running
 * maximum m and sum l of each column brought up to date, and the column's output o [d,BLOCK] scaled
 * to the new maximum. On the diagonal query i sees keys 0..i, and what lies TILE_WIDTH or more
 * after it is not touched. */
KERNEL(softmax_block,
       (int64_t keys, int64_t queries, bool diagonal, int64_t d, real *restrict S, real *restrict m,
        real *restrict l, real *restrict o),
       (keys, queries, diagonal, d, S, m, l, o)) {
    enum { W = TILE_WIDTH };
    for (int64_t i = 0; i < queries; i += W, S += W, m += W, l += W, o += W) {
        int64_t seen = diagonal && i + W < keys ? i + W : keys;
        if (diagonal)
            for (int64_t j = i + 1; j < seen; j++)
                for (int64_t t = 0; t < j - i; t++) S[j * BLOCK + t] = -(real)INFINITY;
        real max[W], sum[W] = {0}, shrink[W];
        for (int t = 0; t < W; t++) max[t] = m[t];
        for (int64_t j = 0; j < seen; j++)
#pragma omp simd
            for (int t = 0; t < W; t++)
                max[t] = S[j * BLOCK + t] > max[t] ? S[j * BLOCK + t] : max[t];
        for (int64_t j = 0; j < seen; j++)
            for (int t = 0; t < W; t++) {
                real p = vm_exp(S[j * BLOCK + t] - max[t]);
                S[j * BLOCK + t] = p;
                sum[t] += p;
            }
        for (int t = 0; t < W; t++) {
            shrink[t] = vm_exp(m[t] - max[t]); /* 0 at first, when m is -infinity */
            l[t] = l[t] * shrink[t] + sum[t];
            m[t] = max[t];
        }
        for (int64_t c = 0; c < d; c++)
            for (int t = 0; t < W; t++) o[c * BLOCK + t] *= shrink[t];
    }
}

/* The first w columns of o [d,BLOCK] divided by l. */
KERNEL(divide_columns, (int64_t d, int64_t w, const real *restrict l, real *restrict o),
       (d, w, l, o)) {
    real inverse[BLOCK];
    for (int64_t i = 0; i < w; i++) inverse[i] = 1 / l[i];
    for (int64_t c = 0; c < d; c++)
        for (int64_t i = 0; i < w; i++) o[c * BLOCK + i] *= inverse[i];
}

/* Backward: S [rows,w] becomes P = exp(S - L), dP becomes dS = P (dP - delta); row i sees keys
 * 0..first+i. */
KERNEL(softmax_backward,
       (int64_t rows, int64_t w, int64_t first, const real *restrict L, const real *restrict delta,
        real *restrict S, real *restrict dP),
       (rows, w, first, L, delta, S, dP)) {
    w = w / TILE_WIDTH * TILE_WIDTH;
    for (int64_t i = 0; i < rows; i++, S += BLOCK, dP += BLOCK) {
        for (int64_t j = first + i + 1; j < w; j++) S[j] = -(real)INFINITY;
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
        fetch(d, a + AHEAD * lda);
        real sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < d; j++) sum += a[j] * b[j];
        out[i] = sum;
    }
}

/* The reals of scratch that one unit of work of up to T tokens needs. */
static int64_t forward_scratch(int64_t T, int64_t D) {
    return 2 * T * D + BLOCK * (BLOCK + 2 * D + 2);
}

static int64_t backward_scratch(int64_t T, int64_t D) {
    return padded(T, TILE_WIDTH) * (3 * D + 1) + BLOCK * (2 * BLOCK + 5 * D);
}

/* The first column in qkv of the keys that head h sees; their values lie a->kv after them. */
static int64_t key_column(const Attention *a, int64_t h) { return a->C + h / a->group * a->d; }

static void forward_unit(const Attention *a, int64_t start, int64_t T, int64_t h, real *scratch) {
    int64_t d = a->d, C = a->C, ld = C + 2 * a->kv;
    const real *row = a->qkv->data + start * ld, *from_q = row + h * d;
    const real *from_k = row + key_column(a, h), *from_v = from_k + a->kv;
    real *y = a->y->data + start * C + h * d;
    real *lse = a->lse ? a->lse + h * a->b->n + start : NULL;
    real *qT = scratch, *S = qT + d * BLOCK, *o = S + BLOCK * BLOCK, *m = o + d * BLOCK;
    real *l = m + BLOCK, *k = l + BLOCK, *v = k + T * d;
    for (int64_t i0 = 0; i0 < T; i0 += BLOCK) {
        int64_t rows = smaller(BLOCK, T - i0), w = padded(rows, TILE_WIDTH);
        transpose_in(rows, d, from_q + i0 * ld, ld, qT);
        copy_in(rows, d, d, a->scale, from_k + i0 * ld, ld, k + i0 * d);
        copy_in(rows, d, d, 1, from_v + i0 * ld, ld, v + i0 * d);
        for (int64_t i = 0; i < BLOCK; i++) {
            m[i] = -(real)INFINITY;
            l[i] = 0;
        }
        memset(o, 0, (size_t)(d * BLOCK) * sizeof *o);
        for (int64_t j0 = 0; j0 <= i0; j0 += BLOCK) {
            bool diagonal = j0 == i0;
            int64_t keys = smaller(BLOCK, T - j0), step = diagonal ? TILE_WIDTH : BLOCK;
            for (int64_t j = 0; j < keys;
                 j += step) /* on the diagonal only queries j.. see key j */
                tile_gemm(smaller(step, keys - j), w - j, d, k + (j0 + j) * d, d, 1, qT + j, BLOCK,
                          false, S + j * BLOCK + j, BLOCK);
            softmax_block(keys, w, diagonal, d, S, m, l, o);
            for (int64_t i = 0; i < w; i += step)
                tile_gemm(d, smaller(step, w - i), diagonal ? smaller(i + step, keys) : keys,
                          v + j0 * d, 1, d, S + i, BLOCK, true, o + i, BLOCK);
        }
        divide_columns(d, w, l, o);
        tile_transpose(d, rows, o, BLOCK, y + i0 * C, C);
        for (int64_t i = 0; lse && i < rows; i++) lse[i0 + i] = m[i] + vm_log(l[i]);
    }
}

static void backward_unit(const Attention *a, int64_t start, int64_t T, int64_t h,
                          const GradOut *to, real *scratch) {
    int64_t d = a->d, D = a->D, C = a->C, ld = C + 2 * a->kv, out = start * C + h * d;
    int64_t at_q = start * ld + h * d, at_k = start * ld + key_column(a, h), at_v = at_k + a->kv;
    const real *in = a->qkv->data, *L = a->lse + h * a->b->n + start;
    const bool add_kv = to->add || h % a->group > 0;
    real *k = scratch, *kT = k + BLOCK * D, *vT = kT + BLOCK * D, *dk = vT + BLOCK * D;
    real *dv = dk + BLOCK * D, *S = dv + BLOCK * D, *dP = S + BLOCK * BLOCK;
    real *delta = dP + BLOCK * BLOCK, *q = delta + padded(T, TILE_WIDTH), *dy = q + T * D;
    real *dq = dy + T * D;
    copy_in(T, d, D, 1, in + at_q, ld, q);
    copy_in(T, d, D, 1, a->y->grad + out, C, dy);
    row_dots(T, d, a->y->data + out, C, dy, D, delta);
    for (int64_t j0 = 0; j0 < T; j0 += BLOCK) {
        int64_t keys = smaller(BLOCK, T - j0);
        copy_in(keys, d, D, a->scale, in + at_k + j0 * ld, ld, k);
        transpose_in(keys, d, k, D, kT);
        transpose_in(keys, d, in + at_v + j0 * ld, ld, vT);
        for (int64_t i0 = j0; i0 < T; i0 += BLOCK) {
            bool diagonal = i0 == j0;
            int64_t rows = smaller(BLOCK, T - i0), step = diagonal ? TILE_WIDTH : BLOCK;
            for (int64_t r = 0; r < rows; r += step) {
                int64_t i = i0 + r, n = smaller(step, rows - r), w = diagonal ? r + step : BLOCK;
                real *s = S + r * BLOCK, *ds = dP + r * BLOCK;
                tile_gemm(n, w, d, q + i * D, D, 1, kT, BLOCK, false, s, BLOCK);
                tile_gemm(n, w, d, dy + i * D, D, 1, vT, BLOCK, false, ds, BLOCK);
                softmax_backward(n, w, diagonal ? r : BLOCK, L + i, delta + i, s, ds);
                tile_gemm(n, D, smaller(w, keys), ds, BLOCK, 1, k, D, j0 > 0, dq + i * D, D);
            }
            for (int64_t j = 0; j < keys; j += step) {
                int64_t n = smaller(step, keys - j), r = diagonal ? j : 0; /* rows r.. see key j */
                const real *p = S + r * BLOCK + j, *ds = dP + r * BLOCK + j;
                tile_gemm(n, D, rows - r, p, 1, BLOCK, dy + (i0 + r) * D, D, !diagonal, dv + j * D,
                          D);
                tile_gemm(n, D, rows - r, ds, 1, BLOCK, q + (i0 + r) * D, D, !diagonal, dk + j * D,
                          D);
            }
        }
        copy_out(keys, d, D, a->scale, dk, add_kv, to->to + at_k + j0 * ld, ld);
        copy_out(keys, d, D, 1, dv, add_kv, to->to + at_v + j0 * ld, ld);
    }
    copy_out(T, d, D, 1, dq, to->add, to->to + at_q, ld);
}

static int64_t longest(const Batch *b) {
    int64_t T = 0;
    for (int64_t s = 0; s < b->nseq; s++)
        if (b->start[s + 1] - b->start[s] > T) T = b->start[s + 1] - b->start[s];
    return T;
}

/* Units are handed to threads as they come free: lengths differ, and who does a unit changes
 * nothing. to: of the gradient; NULL: the forward pass. */
static void all_units(Tape *t, const Attention *a, const GradOut *to) {
    int64_t heads = to ? a->group : 1; /* of one unit */
    int64_t T = longest(a->b), per = a->H / heads, units = a->b->nseq * per;
    int64_t each = padded(to ? backward_scratch(T, a->D) : forward_scratch(T, a->D), 64);
    bool parallel = units > 1 && a->b->n * a->C > PARALLEL_MIN;
    int threads = parallel ? omp_get_max_threads() : 1;
    Arena *arena = tape_arena(t);
    ArenaMark mark = arena_mark(arena);
    real *scratch = arena_numbers(arena, (size_t)(each * threads) * sizeof(real));
    if (tape_dry(t)) units = 0, threads = 1;
#pragma omp parallel for schedule(dynamic) if (threads > 1) num_threads(threads)
    for (int64_t u = 0; u < units; u++) {
        int64_t s = u / per, first = u % per * heads, start = a->b->start[s],
                len = a->b->start[s + 1] - start;
        real *mine = scratch + each * omp_get_thread_num();
        for (int64_t h = first; h < first + heads; h++)
            if (to)
                backward_unit(a, start, len, h, to, mine);
            else
                forward_unit(a, start, len, h, mine);
    }
    arena_release(arena, mark);
}

static void attention_backward(Tape *t, void *ctx) {
    const Attention *a = ctx;
    const GradOut to = tape_grad_out(t, a->qkv);
    if (to.to) all_units(t, a, &to);
}

Tensor *op_attention(Tape *t, Tensor *qkv, const Batch *b, int heads) {
    return op_attention_grouped(t, qkv, b, heads, heads);
}

Tensor *op_attention_grouped(Tape *t, Tensor *qkv, const Batch *b, int heads, int kv_heads) {
    CHECK(heads > 0 && kv_heads > 0 && heads % kv_heads == 0,
          "op_attention: %d heads and %d of keys and values, expected a multiple of these", heads,
          kv_heads);
    int64_t all = heads + 2 * (int64_t)kv_heads;
    CHECK(qkv->ndim == 2 && qkv->shape[1] % all == 0,
          "op_attention: qkv has %d dimensions, the last %lld, expected 2 and a multiple of %lld: "
          "%d heads, %d of keys and %d of values",
          qkv->ndim, (long long)qkv->shape[qkv->ndim - 1], (long long)all, heads, kv_heads,
          kv_heads);
    int64_t d = qkv->shape[1] / all, C = heads * d;
    tensor_expect(qkv, "op_attention: qkv", 2, (int64_t[]){b->n, all * d});
    Attention *a = tape_alloc(t, sizeof *a);
    *a = (Attention){.qkv = qkv,
                     .y = tape_tensor(t, 2, (int64_t[]){b->n, C}),
                     .b = b,
                     .H = heads,
                     .group = heads / kv_heads,
                     .C = C,
                     .kv = kv_heads * d,
                     .d = d,
                     .D = padded(d, TILE_WIDTH),
                     .scale = (real)(1 / sqrt((double)d))};
    if (tape_records(t)) a->lse = tape_numbers(t, (size_t)(heads * b->n) * sizeof(real));
    tape_keep(t, qkv);
    tape_keep(t, a->y);
    tape_push(t, attention_backward, a, a->y);
    all_units(t, a, NULL);
    return a->y;
}

static double attention_run(Tape *t, const GradCase *c) {
    return gradcheck_project(
        t, op_attention_grouped(t, c->in[0], c->extra, c->variant / 100, c->variant % 100));
}

bool op_attention_case(GradCase *c, int i) {
    static const int64_t short_start[] = {0, 3, 4, 4, 11}, long_start[] = {0, 5, 140, 205};
    static const Batch packs[] = {{.n = 11, .nseq = 4, .start = short_start},
                                  {.n = 205, .nseq = 3, .start = long_start}};
    static const struct {
        int pack, heads, kv_heads;
        int64_t d;
        const char *what;
    } cases[] = {
        {0, 1, 1, 3, "one head"},
        {0, 2, 2, 5, "sequences of 3, 1, 0 and 7 tokens"},
        {1, 2, 2, 4, "sequences longer than a tile"},
        {1, 1, 1, 19, "head wider than a vector, longer than a tile"},
        {0, 1, 1, 40, "wide head"},
        {0, 6, 2, 5, "three heads share keys and values"},
        {1, 4, 1, 3, "all heads share keys and values, sequences longer than a tile"},
    };
    if (i >= (int)(sizeof cases / sizeof cases[0])) return false;
    c->extra = &packs[cases[i].pack];
    const int heads = cases[i].heads, kv_heads = cases[i].kv_heads;
    c->variant = 100 * heads + kv_heads;
    c->what = cases[i].what;
    gradcheck_input(c, 2, (int64_t[]){packs[cases[i].pack].n, (heads + 2 * kv_heads) * cases[i].d});
    c->run = attention_run;
    return true;
}
