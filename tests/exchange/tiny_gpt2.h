/* tiny_gpt2.h (tests): the golden GPT-2 of ../shared/data/golden/model, made with Hugging Face's
 * names and its Conv1D weights [in,out], which are the transposes of ours. */
#ifndef TESTS_TINY_GPT2_H
#define TESTS_TINY_GPT2_H

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "model/gpt.h"
#include "tests/exchange/golden.h"

#define TINY_GPT2 "../shared/data/golden/model/tiny_gpt2_"

static inline bool tiny_gpt2_there(void) {
    if (file_exists(TINY_GPT2 "init.safetensors")) return true;
    print_message("%sinit.safetensors is not there: skipped\n", TINY_GPT2);
    return false;
}

/* Hugging Face's name of a parameter of ours: "h.0.attn.qkv.bias" -> "h.0.attn.c_attn.bias". */
static inline void tiny_gpt2_name(const char *ours, const char *prefix, char out[128]) {
    static const char *const pair[][2] = {
        {"norm_f", "ln_f"},
        {"norm1", "ln_1"},
        {"norm2", "ln_2"},
        {"attn.qkv", "attn.c_attn"},
        {"attn.proj", "attn.c_proj"},
        {"mlp.fc", "mlp.c_fc"},
        {"mlp.proj", "mlp.c_proj"},
    };
    for (size_t i = 0; i < sizeof pair / sizeof pair[0]; i++) {
        const char *at = strstr(ours, pair[i][0]);
        if (!at) continue;
        snprintf(out, 128, "%s%.*s%s%s", prefix, (int)(at - ours), ours, pair[i][1],
                 at + strlen(pair[i][0]));
        return;
    }
    snprintf(out, 128, "%s%s", prefix, ours); /* wte, wpe */
}

/* The file's numbers for parameter p in our layout; malloc'd. */
static inline double *tiny_gpt2_get(const SafeTensors *st, const Param *p, const char *prefix) {
    char name[128];
    int64_t n, rows, cols;
    tiny_gpt2_name(p->name, prefix, name);
    double *x = golden_get(st, name, &n, &rows, &cols);
    CHECK(n == tensor_size(&p->tensor), "%s has %lld numbers", name, (long long)n);
    if (p->tensor.ndim < 2 || p->name[0] != 'h') return x;
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
    st = golden_file(TINY_GPT2 "init.safetensors");
    for (int i = 0; i < g->params.n; i++) {
        Param *p = &g->params.v[i];
        double *x = tiny_gpt2_get(st, p, "");
        for (int64_t j = 0; j < tensor_size(&p->tensor); j++) p->tensor.data[j] = (real)x[j];
        free(x);
    }
    st_close(&st);
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

static inline void tiny_gpt2_batch(TinyBatch *t, const SafeTensors *st) {
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
