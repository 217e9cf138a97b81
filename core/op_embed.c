/* op_embed.c: x_i = wte[token_i] + wpe[position of i in its sequence].
 *
 *   forward   wte [V,C], wpe [T,C] -> x [n,C]
 *   backward  dwte[token_i] += dx_i,  dwpe[position_i] += dx_i   (saved: the indices)
 *
 * Many tokens add to one row, so the backward pass shares out columns, not tokens: each thread
 * walks over all tokens in order for its own columns.
 */
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

/* Some columns; dy, dwte and dwpe begin with the first. */
KERNEL(embed_backward_columns,
       (const Packing *p, const int32_t *tokens, int64_t C, int64_t cols, const real *dy,
        real *dwte, real *dwpe),
       (p, tokens, C, cols, dy, dwte, dwpe)) {
    for (int64_t s = 0; s < p->nseq; s++)
        for (int64_t i = p->start[s]; i < p->start[s + 1]; i++) {
            const real *restrict d = dy + i * C;
            if (dwte) {
                real *restrict to = dwte + tokens[i] * C;
                for (int64_t j = 0; j < cols; j++) to[j] += d[j];
            }
            if (dwpe) {
                real *restrict to = dwpe + (i - p->start[s]) * C;
                for (int64_t j = 0; j < cols; j++) to[j] += d[j];
            }
        }
}

static void embed_backward(void *ctx) {
    const Embed *e = ctx;
    int64_t C = e->y->shape[1], chunks = (C + COLUMNS - 1) / COLUMNS;
    CHECK(!e->y->grad_unset, "the output of an op_embed [%lld,%lld] has no gradient",
          (long long)e->p->n, (long long)C);
    real *dwte = tensor_grad(e->wte), *dwpe = tensor_grad(e->wpe);
#pragma omp parallel for schedule(static) if (e->p->n * C > PARALLEL_MIN)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t c0 = k * COLUMNS, cols = C - c0 < COLUMNS ? C - c0 : COLUMNS;
        embed_backward_columns(e->p, e->tokens, C, cols, e->y->grad + c0, dwte ? dwte + c0 : NULL,
                               dwpe ? dwpe + c0 : NULL);
    }
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
