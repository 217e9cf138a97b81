/* op_embed.c: x_i = wte[token_i] + wpe[position of i in its sequence].
 *
 *   forward   wte [V,C], wpe [T,C] -> x [n,C]
 *   backward  dwte[token_i] += dx_i,  dwpe[position_i] += dx_i   (saved: the indices)
 *
 * Many tokens add to one row, so the backward pass shares out columns, not tokens: each thread
 * walks over all tokens in order for its own columns.
 *
 * In a pass over several chains (chain.h) each one's dwte is made apart and then added to its
 * gradient, where the loss has left that of the logits, if the matrix is tied. */
#include <omp.h>
#include <string.h>

#include "base/error.h"
#include "core/gradcheck.h"
#include "core/kernel.h"
#include "core/ops.h"

enum { COLUMNS = 32 };

typedef struct Embed {
    Tensor *wte, *wpe, *y;
    const int32_t *tokens;
    const Packing *p;
} Embed;

KERNEL(embed_row, (int64_t C, const real *restrict a, const real *restrict b, real *restrict y),
       (C, a, b, y)) {
    for (int64_t j = 0; j < C; j++) y[j] = a[j] + b[j];
}

/* Sequences s0..s1; the first column of dy, dwte, dwpe. */
KERNEL(embed_backward_columns,
       (const Packing *p, int64_t s0, int64_t s1, const int32_t *tokens, int64_t C, int64_t cols,
        const real *dy, real *dwte, int64_t ld, real *dwpe),
       (p, s0, s1, tokens, C, cols, dy, dwte, ld, dwpe)) {
    for (int64_t s = s0; s < s1; s++)
        for (int64_t i = p->start[s]; i < p->start[s + 1]; i++) {
            const real *restrict d = dy + i * C;
            if (dwte) {
                real *restrict to = dwte + tokens[i] * ld;
                for (int64_t j = 0; j < cols; j++) to[j] += d[j];
            }
            if (dwpe) {
                real *restrict to = dwpe + (i - p->start[s]) * C;
                for (int64_t j = 0; j < cols; j++) to[j] += d[j];
            }
        }
}

/* What has been summed up in `apart` for these tokens is added to dwte and cleared: when a token
 * comes again it adds 0. */
KERNEL(embed_add,
       (const int32_t *tokens, int64_t n, int64_t cols, real *restrict apart, real *restrict dwte,
        int64_t C),
       (tokens, n, cols, apart, dwte, C)) {
    for (int64_t i = 0; i < n; i++) {
        real *restrict from = apart + tokens[i] * COLUMNS, *restrict to = dwte + tokens[i] * C;
        for (int64_t j = 0; j < cols; j++) {
            to[j] += from[j];
            from[j] = 0;
        }
    }
}

/* The tree over the chains. 0 is what a row without a token gets from the embedding: where a chain
 * has a pass of its own it is added, which makes a -0 0. */
KERNEL(embed_join,
       (int n, int64_t rows, int64_t cols, int64_t ld, real *restrict a, real *restrict b,
        real *restrict c, real *restrict d),
       (n, rows, cols, ld, a, b, c, d)) {
    for (int64_t i = 0; i < rows; i++, a += ld, b += ld, c += ld, d += ld) {
        if (n == 2)
            for (int64_t j = 0; j < cols; j++) {
                a[j] = (a[j] + 0) + (b[j] + 0);
                b[j] = 0;
            }
        else
            for (int64_t j = 0; j < cols; j++) {
                a[j] = ((a[j] + 0) + (b[j] + 0)) + ((c[j] + 0) + (d[j] + 0));
                b[j] = c[j] = d[j] = 0;
            }
    }
}

/* Columns c0.. of all chains; apart [V,COLUMNS], cleared. */
static void embed_chains(const Embed *e, const Chains *chains, int64_t c0, int64_t cols,
                         real *apart) {
    const int64_t V = e->wte->shape[0], T = e->wpe->shape[0], C = e->wte->shape[1];
    for (int64_t k = 0, s = 0, end; k < chains->n; k++, s = end) {
        const int64_t first = chains->begin[k];
        for (end = s; end < e->p->nseq && e->p->start[end] < chains->begin[k + 1];) end++;
        embed_backward_columns(e->p, s, end, e->tokens, C, cols, e->y->grad + c0, apart, COLUMNS,
                               e->wpe->chain[k] + c0);
        embed_add(e->tokens + first, chains->begin[k + 1] - first, cols, apart,
                  e->wte->chain[k] + c0, C);
        chain_join(e->wpe->chain, (int)k, c0, T, cols, C);
    }
    real *w[CHAINS_MAX];
    for (int k = 0; k < CHAINS_MAX; k++) w[k] = e->wte->chain[k % chains->n] + c0;
    embed_join(chains->n, V, cols, C, w[0], w[1], w[2], w[3]);
}

static void embed_backward(void *ctx) {
    const Embed *e = ctx;
    int64_t C = e->y->shape[1], chunks = (C + COLUMNS - 1) / COLUMNS;
    CHECK(!e->y->grad_unset, "the output of an op_embed [%lld,%lld] has no gradient",
          (long long)e->p->n, (long long)C);
    real *dwte = tensor_grad(e->wte), *dwpe = tensor_grad(e->wpe);
    const Chains *chains = tape_get_chains(e->y->tape, e->y->shape[0]);
    Arena *arena = tape_arena(e->y->tape);
    ArenaMark mark = arena_mark(arena);
    const int64_t size = e->wte->shape[0] * COLUMNS,
                  most = chunks < omp_get_max_threads() ? chunks : omp_get_max_threads();
    real *apart = chains->n > 1 ? arena_zalloc(arena, (size_t)(most * size) * sizeof *apart) : NULL;
#pragma omp parallel for schedule(static) if (e->p->n * C > PARALLEL_MIN)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t c0 = k * COLUMNS, cols = C - c0 < COLUMNS ? C - c0 : COLUMNS;
        if (chains->n > 1)
            embed_chains(e, chains, c0, cols, apart + omp_get_thread_num() * size); /* < most */
        else
            embed_backward_columns(e->p, 0, e->p->nseq, e->tokens, C, cols, e->y->grad + c0,
                                   dwte ? dwte + c0 : NULL, C, dwpe ? dwpe + c0 : NULL);
    }
    arena_release(arena, mark);
}

Tensor *op_embed(Tape *t, Tensor *wte, Tensor *wpe, const int32_t *tokens, const Packing *p) {
    CHECK(wte->ndim == 2 && wpe->ndim == 2, "op_embed: wte has %d dimensions, wpe %d, expected 2",
          wte->ndim, wpe->ndim);
    int64_t V = wte->shape[0], C = wte->shape[1];
    tensor_expect(wpe, "op_embed: wpe", 2, (int64_t[]){wpe->shape[0], C});
    packing_check(p, "op_embed");
    for (int64_t i = 0; i < p->n; i++)
        CHECK(tokens[i] >= 0 && tokens[i] < V,
              "op_embed: token %lld is %d, the vocabulary has %lld", (long long)i, tokens[i],
              (long long)V);
    for (int64_t s = 0; s < p->nseq; s++)
        CHECK(p->start[s + 1] - p->start[s] <= wpe->shape[0],
              "op_embed: sequence %lld has %lld tokens, the model's context is %lld", (long long)s,
              (long long)(p->start[s + 1] - p->start[s]), (long long)wpe->shape[0]);
    Tensor *y = tape_tensor(t, 2, (int64_t[]){p->n, C});
#pragma omp parallel for schedule(static) if (p->n * C > PARALLEL_MIN)
    for (int64_t s = 0; s < p->nseq; s++)
        for (int64_t i = p->start[s]; i < p->start[s + 1]; i++)
            embed_row(C, wte->data + tokens[i] * C, wpe->data + (i - p->start[s]) * C,
                      y->data + i * C);
    if (tape_records(t)) {
        Embed *e = tape_alloc(t, sizeof *e);
        *e = (Embed){wte, wpe, y, tokens, p};
        tape_push(t, embed_backward, e);
    }
    return y;
}

static const int64_t case_start[] = {0, 4, 5, 5, 12};
static const int32_t case_tokens[] = {3, 1, 0, 3, 4, 4, 4, 2, 0, 1, 3, 3};

static double embed_run(Tape *t, const GradCase *c) {
    static const Packing pack = {12, 4, case_start};
    return grad_project(t, op_embed(t, c->in[0], c->in[1], case_tokens, &pack));
}

bool op_embed_case(GradCase *c, int i) {
    static const int64_t widths[] = {3, 50};
    if (i >= 2) return false;
    c->what = i == 0 ? "narrow" : "several chunks of columns";
    grad_input(c, 2, (int64_t[]){5, widths[i]});
    grad_input(c, 2, (int64_t[]){8, widths[i]});
    c->run = embed_run;
    return true;
}
