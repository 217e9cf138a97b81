/* op_embed.c: x_i = wte[token_i] + wpe[position of i in its sequence].
 *
 *   forward   wte [V,C], wpe [T,C] or none -> x [n,C]
 *   backward  dwte[token_i] += dx_i,  dwpe[position_i] += dx_i   (saved: the indices)
 *
 * Many tokens add to one row, so the backward pass shares out columns, not tokens: each thread
 * walks over all tokens in order for its own columns. */
#include "base/error.h"
#include "core/gradcheck.h"
#include "core/kernel.h"
#include "core/ops.h"

enum { COLUMNS = 32 };

typedef struct Embed {
    Tensor *wte, *wpe, *y;
    const Batch *b;
} Embed;

KERNEL(embed_row, (int64_t C, const real *restrict a, const real *restrict b, real *restrict y),
       (C, a, b, y)) {
    for (int64_t j = 0; j < C; j++) y[j] = b ? a[j] + b[j] : a[j];
}

/* Some columns; dy, dwte and dwpe begin with the first. */
KERNEL(embed_backward_columns,
       (const Batch *b, int64_t C, int64_t cols, const real *dy, real *dwte, real *dwpe),
       (b, C, cols, dy, dwte, dwpe)) {
    for (int64_t s = 0; s < b->nseq; s++)
        for (int64_t i = b->start[s]; i < b->start[s + 1]; i++) {
            const real *restrict d = dy + i * C;
            if (dwte) {
                real *restrict to = dwte + b->tokens[i] * C;
                for (int64_t j = 0; j < cols; j++) to[j] += d[j];
            }
            if (dwpe) {
                real *restrict to = dwpe + (i - b->start[s]) * C;
                for (int64_t j = 0; j < cols; j++) to[j] += d[j];
            }
        }
}

static void embed_backward(Tape *t, void *ctx) {
    const Embed *e = ctx;
    int64_t C = e->y->shape[1];
    real *dwte = tape_grad(t, e->wte), *dwpe = e->wpe ? tape_grad(t, e->wpe) : NULL;
    if (tape_dry(t)) return;
#pragma omp parallel for schedule(static) if (e->b->n * C > PARALLEL_MIN)
    for (int64_t c = 0; c < C; c += COLUMNS)
        embed_backward_columns(e->b, C, C - c < COLUMNS ? C - c : COLUMNS, e->y->grad + c,
                               dwte ? dwte + c : NULL, dwpe ? dwpe + c : NULL);
}

static void place_row(const Tensor *wte, int64_t token, const real *position, real *y) {
    const int64_t C = wte->shape[1];
    if (!wte->half) {
        embed_row(C, wte->data + token * C, position, y);
        return;
    }
    tensor_read(wte, token * C, C, y);
    for (int64_t j = 0; position && j < C; j++) y[j] += position[j];
}

Tensor *op_embed(Tape *t, Tensor *wte, Tensor *wpe, const Batch *b) {
    CHECK(wte->ndim == 2 && (!wpe || wpe->ndim == 2),
          "op_embed: wte has %d dimensions, wpe %d, expected 2", wte->ndim, wpe ? wpe->ndim : 0);
    int64_t C = wte->shape[1];
    if (wpe) tensor_expect(wpe, "op_embed: wpe", 2, (int64_t[]){wpe->shape[0], C});
    batch_check(b, wte->shape[0], wpe ? wpe->shape[0] : b->n);
    Tensor *y = tape_tensor(t, 2, (int64_t[]){b->n, C});
    Embed *e = tape_alloc(t, sizeof *e);
    *e = (Embed){wte, wpe, y, b};
    tape_push(t, embed_backward, e, y);
    if (tape_dry(t)) return y;
#pragma omp parallel for schedule(static) if (b->n * C > PARALLEL_MIN)
    for (int64_t s = 0; s < b->nseq; s++)
        for (int64_t i = b->start[s]; i < b->start[s + 1]; i++)
            place_row(wte, b->tokens[i], wpe ? wpe->data + (i - b->start[s]) * C : NULL,
                      y->data + i * C);
    return y;
}

static const int64_t case_start[] = {0, 4, 5, 5, 12};
static const int32_t case_tokens[] = {3, 1, 0, 3, 4, 4, 4, 2, 0, 1, 3, 3};

static double embed_run(Tape *t, const GradCase *c) {
    static const Batch b = {.n = 12, .nseq = 4, .tokens = case_tokens, .start = case_start};
    return gradcheck_project(t, op_embed(t, c->in[0], c->variant ? NULL : c->in[1], &b));
}

bool op_embed_case(GradCase *c, int i) {
    static const int64_t widths[] = {3, 50, 7};
    if (i >= 3) return false;
    c->what = i == 0 ? "narrow" : i == 1 ? "several chunks of columns" : "without positions";
    c->variant = i == 2;
    gradcheck_input(c, 2, (int64_t[]){5, widths[i]});
    if (!c->variant) gradcheck_input(c, 2, (int64_t[]){8, widths[i]});
    c->run = embed_run;
    return true;
}
