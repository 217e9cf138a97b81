/* tiny_gpt2.h (tests): a GPT-2 made with transformers: its weights and a batch in
 * tests/golden/tiny_gpt2.safetensors; its gradients and the parameters after each step in
 * ../shared/data/golden/model, where that is. */
#ifndef TESTS_TINY_GPT2_H
#define TESTS_TINY_GPT2_H

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "model/gpt.h"
#include "tests/exchange/golden.h"

#define TINY_GPT2 "tests/golden/tiny_gpt2.safetensors"
#ifdef RHETOR_DOUBLE
#define TINY_GPT2_MORE "../shared/data/golden/model/tiny_gpt2_golden_f64.safetensors"
static const double TINY_TOLERANCE = 1e-9;
#else
#define TINY_GPT2_MORE "../shared/data/golden/model/tiny_gpt2_golden_f32.safetensors"
static const double TINY_TOLERANCE = 1e-5;
#endif

/* The large file; NULL: it is not there. */
static inline SafeTensors *tiny_gpt2_more(void) {
    if (file_exists(TINY_GPT2_MORE)) return golden_file(TINY_GPT2_MORE);
    print_message("%s is not there: the losses only\n", TINY_GPT2_MORE);
    return NULL;
}

/* The file's numbers for a parameter in our layout; malloc'd. Their Conv1D weights [in,out] are the
 * transposes of ours. */
static inline double *tiny_gpt2_get(const SafeTensors *st, const ArchParam *p, const char *prefix) {
    int64_t n, rows, cols;
    ArchPiece q[ARCH_PIECES];
    CHECK(arch_pieces(&(GptConfig){.layers = 1, .heads = 1}, p, ARCH_HF, q) == 1, "%s", p->name);
    AUTOFREE char *name = xasprintf("%s%s", prefix, q[0].name + strlen("transformer."));
    double *x = golden_get(st, name, &n, &rows, &cols);
    CHECK(n == p->n, "%s has %lld numbers", name, (long long)n);
    if (q[0].order != ORDER_TRANSPOSED) return x;
    double *y = malloc(sizeof *y * (size_t)n);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) y[j * rows + i] = x[i * cols + j];
    free(x);
    return y;
}

static inline Gpt *tiny_gpt2_open(void) {
    GptConfig cfg = {.vocab = 67,
                     .context = 24,
                     .layers = 2,
                     .heads = 4,
                     .width = 32,
                     .bias = true,
                     .norm_eps = 1e-5};
    Gpt *g;
    CHECK(gpt_open(&g, &cfg, true) == 0, "%s", error_message());
    SafeTensors *st;
    st = golden_file(TINY_GPT2);
    for (ArchParam p = {0}; arch_next(&cfg, &p);) {
        double *x = tiny_gpt2_get(st, &p, "");
        for (int64_t j = 0; j < p.n; j++) g->params.v[p.index].tensor.data[j] = (real)x[j];
        free(x);
    }
    safetensors_close(&st);
    return g;
}

enum { TINY_SEQS = 3, TINY_LEN = 24, TINY_N = TINY_SEQS * TINY_LEN };

typedef struct TinyBatch {
    Batch b;
    int32_t tokens[TINY_N], targets[TINY_N];
    float weight[TINY_N]; /* 1; 0 for target -100 */
    int64_t active;       /* targets that count */
    int64_t start[TINY_SEQS + 1];
} TinyBatch;

static inline void tiny_gpt2_batch(TinyBatch *t) {
    SafeTensors *st = golden_file(TINY_GPT2);
    int64_t n;
    double *tokens = golden_get(st, "input_ids", &n, NULL, NULL);
    double *targets = golden_get(st, "targets", &n, NULL, NULL);
    CHECK(n == TINY_N, "%lld tokens", (long long)n);
    t->active = 0;
    for (int i = 0; i < TINY_N; i++) {
        t->tokens[i] = (int32_t)tokens[i];
        t->targets[i] = targets[i] < 0 ? 0 : (int32_t)targets[i];
        t->weight[i] = targets[i] >= 0;
        t->active += targets[i] >= 0;
    }
    for (int s = 0; s <= TINY_SEQS; s++) t->start[s] = s * TINY_LEN;
    t->b = (Batch){.n = TINY_N,
                   .nseq = TINY_SEQS,
                   .tokens = t->tokens,
                   .targets = t->targets,
                   .weight = t->weight,
                   .start = t->start};
    free(tokens);
    free(targets);
    safetensors_close(&st);
}

/* The mean loss and its gradients. Weights 1/active would be rounded to float, so the sum's are
 * divided instead. */
static inline double tiny_gpt2_loss(Gpt *g, Tape *tape, const TinyBatch *t) {
    paramset_zero_grad(&g->params);
    double loss = gpt_loss(g, tape, &t->b, NULL, NULL);
    tape_backward(tape);
    tape_reset(tape);
    for (int64_t i = 0; i < g->params.size; i++) g->params.grad[i] /= (real)t->active;
    return loss / (double)t->active;
}

#endif
