/* bench_ops.c: single ops, forward and backward, and whole training steps. See bench.h. */
#include <string.h>

#include "base/error.h"
#include "core/ops.h"
#include "core/rng.h"
#include "optim/optim.h"
#include "tools/bench/bench.h"

typedef struct OpsLab {
    Arena keep, arena; /* inputs; activations */
    Tape *tape;
    Batch batch;
    Gpt *gpt;
    AdamW adam;
    Tensor *x, *r;     /* inputs of an op; its parameters are the model's */
    Tensor *dy, *dsum; /* gradients of its outputs are their data ... */
    real *dy_saved;    /* ... and ops use up dy: it is restored from here */
} OpsLab;

static const RngKey key = {.seed = 1, .purpose = RNG_TEST};

static int64_t tokens_of(const Case *c) { return c->B * c->T; }

/* Random data and a cleared gradient. */
static Tensor *random_tensor(OpsLab *l, int64_t rows, int64_t cols) {
    static uint64_t sample;
    Tensor *t = arena_zalloc(&l->keep, sizeof *t);
    *t = (Tensor){.ndim = 2, .shape = {rows, cols}};
    t->data = arena_alloc(&l->keep, rows * cols * sizeof(real));
    t->grad = arena_zalloc(&l->keep, rows * cols * sizeof(real));
    rng_normal_fill(&key, sample++, t->data, rows * cols, 1);
    return t;
}

static void open_batch(OpsLab *l, const Case *c) {
    int64_t n = tokens_of(c);
    int32_t *tokens = arena_alloc(&l->keep, n * sizeof *tokens);
    int32_t *targets = arena_alloc(&l->keep, n * sizeof *targets);
    float *weight = arena_alloc(&l->keep, n * sizeof *weight);
    int64_t *start = arena_alloc(&l->keep, (c->B + 1) * sizeof *start);
    for (int64_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)rng_below(&key, i, 0, 0, c->model->vocab);
        targets[i] = (int32_t)rng_below(&key, i, 1, 0, c->model->vocab);
        weight[i] = 1.0f / (float)n;
    }
    for (int64_t s = 0; s <= c->B; s++) start[s] = s * c->T;
    l->batch = (Batch){.n = n,
                       .nseq = c->B,
                       .tokens = tokens,
                       .targets = targets,
                       .weight = weight,
                       .start = start};
}

static int open_lab(BenchWork *w, OpsLab **out) {
    OpsLab *l = *out = w->priv = xcalloc(1, sizeof *l);
    l->tape = tape_open(&l->arena, true);
    TRY(gpt_open(&l->gpt, w->c->model, true));
    gpt_init(l->gpt, 1, INIT_GPT2);
    open_batch(l, w->c);
    w->nparts = 1;
    w->tokens = (double)l->batch.n;
    w->activations = &l->arena;
    return 0;
}

/* --- single ops ------------------------------------------------------------------------------- */

static int open_op(BenchWork *w, OpsLab **l, int64_t in, int64_t out) {
    TRY(open_lab(w, l));
    int64_t n = tokens_of(w->c);
    (*l)->x = random_tensor(*l, n, in);
    (*l)->dy = random_tensor(*l, n, out);
    (*l)->dy_saved = arena_alloc(&(*l)->keep, n * out * sizeof(real));
    memcpy((*l)->dy_saved, (*l)->dy->data, n * out * sizeof(real));
    return 0;
}

static double begin_op(OpsLab *l) {
    l->x->grad_unset = true; /* as in a model, where another op has made it */
    if (l->r) l->r->grad_unset = true;
    memcpy(l->dy->data, l->dy_saved, tensor_size(l->dy) * sizeof(real));
    return bench_seconds();
}

/* The outputs get the gradients that the next op would have left. */
static double end_op(OpsLab *l, Tensor *y, Tensor *sum, double begin) {
    if (y) y->grad = l->dy->data, y->grad_unset = false;
    if (sum) sum->grad = l->dsum->data, sum->grad_unset = false;
    tape_backward(l->tape);
    tape_reset(l->tape);
    return bench_seconds() - begin;
}

static int linear_open(BenchWork *w) {
    OpsLab *l;
    const int64_t C = w->c->model->width;
    TRY(open_op(w, &l, C, 4 * C));
    w->part[0].flops = 6.0 * tokens_of(w->c) * 4 * C * C;
    return 0;
}
static double linear_run(BenchWork *w, int part) {
    OpsLab *l = w->priv;
    const GptBlock *b = &l->gpt->block[0];
    double t = begin_op(l);
    return end_op(l, op_linear(l->tape, l->x, b->fc_w, b->fc_b, ACT_GELU_TANH), NULL, t);
}

static int attention_open(BenchWork *w) {
    OpsLab *l;
    const int64_t C = w->c->model->width;
    TRY(open_op(w, &l, 3 * C, C));
    w->part[0].flops = 6.0 * tokens_of(w->c) * w->c->T * C; /* the causal half */
    return 0;
}
static double attention_run(BenchWork *w, int part) {
    OpsLab *l = w->priv;
    double t = begin_op(l);
    return end_op(l, op_attention(l->tape, l->x, &l->batch, (int)w->c->model->heads), NULL, t);
}

static int layernorm_open(BenchWork *w) {
    OpsLab *l;
    const int64_t C = w->c->model->width, n = tokens_of(w->c);
    TRY(open_op(w, &l, C, C));
    l->r = random_tensor(l, n, C);
    l->dsum = random_tensor(l, n, C);
    w->part[0].bytes = 9.0 * n * C * sizeof(real); /* x r -> sum y; sum dy dsum -> dx dr */
    return 0;
}
static double layernorm_run(BenchWork *w, int part) {
    OpsLab *l = w->priv;
    const GptBlock *b = &l->gpt->block[0];
    double t = begin_op(l);
    Tensor *sum, *y = op_layernorm(l->tape, l->x, l->r, b->norm2_w, b->norm2_b, 1e-5, &sum);
    return end_op(l, y, sum, t);
}

static int loss_open(BenchWork *w) {
    OpsLab *l;
    const GptConfig *g = w->c->model;
    TRY(open_op(w, &l, g->width, g->width));
    w->part[0].flops = 3 * bench_head_flops(g, (double)tokens_of(w->c));
    return 0;
}
static double loss_run(BenchWork *w, int part) {
    OpsLab *l = w->priv;
    const Batch *b = &l->batch;
    double t = begin_op(l);
    op_cross_entropy(l->tape, l->x, l->gpt->out_w, b->targets, b->weight, NULL);
    return end_op(l, NULL, NULL, t);
}

/* --- training --------------------------------------------------------------------------------- */

static int adamw_open(BenchWork *w) {
    OpsLab *l;
    TRY(open_lab(w, &l));
    ParamSet *ps = &l->gpt->params;
    adamw_init(&l->adam, ps, NULL, 0.9, 0.95, 1e-8, 0.1);
    rng_normal_fill(&key, 0, ps->grad, ps->size, 0.01);
    w->part[0].bytes = 7.0 * ps->size * sizeof(real); /* w g m v -> w m v */
    return 0;
}
static double adamw_run(BenchWork *w, int part) {
    OpsLab *l = w->priv;
    double t = bench_seconds();
    adamw_update(&l->adam, &l->gpt->params, 1e-4, 1);
    return bench_seconds() - t;
}

static int step_open(BenchWork *w) {
    OpsLab *l;
    TRY(open_lab(w, &l));
    adamw_init(&l->adam, &l->gpt->params, NULL, 0.9, 0.95, 1e-8, 0.1);
    w->part[0].flops = gpt_train_flops(w->c->model, l->batch.n, l->batch.n, w->c->T);
    return 0;
}
static double step_run(BenchWork *w, int part) {
    OpsLab *l = w->priv;
    ParamSet *ps = &l->gpt->params;
    double t = bench_seconds();
    gpt_loss(l->gpt, l->tape, &l->batch, NULL, NULL);
    tape_backward(l->tape);
    tape_reset(l->tape);
    adamw_update(&l->adam, ps, 1e-4, grad_clip_scale(grad_norm(ps), 1)); /* as train/trainer.c */
    paramset_zero_grad(ps);
    return bench_seconds() - t;
}

const BenchKind bench_linear = {linear_open, linear_run},
                bench_attention = {attention_open, attention_run},
                bench_layernorm = {layernorm_open, layernorm_run},
                bench_loss = {loss_open, loss_run}, bench_adamw = {adamw_open, adamw_run},
                bench_step = {step_open, step_run};
