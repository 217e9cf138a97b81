/* gpt.c: the block with its switches out of core's ops. GPT-2's:
 *
 *     x = wte[token] + wpe[position]
 *     for each block:
 *         x += proj(attention(qkv(norm1(x))))
 *         x += fc2(gelu(fc(norm2(x))))
 *     hidden = norm_f(x);  logits = hidden wte^T (untied: a matrix of its own),
 *                          or a scalar = head . hidden + b
 *
 * With `rope` there is no wpe: q and k are turned by their positions, after their heads' norm where
 * there is one. With SwiGLU fc makes gate and up. With `parallel` both branches read the same x.
 *
 * The additions to the residual stream are done by the norm that comes next (op_layernorm takes x
 * and what is added to it, and hands the sum back), which saves one pass over memory each. Dropout
 * sits where GPT-2 has it, without the one inside attention: on the embedding and on each branch
 * before it joins the residual stream. */
#include "model/gpt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/lora.h"
#include "model/trunk.h"

static const double init_std = 0.02; /* Radford 2019 */
static const double embed_std = 0.2; /* tokens and positions beside branches of about 1 */

/* --- parameters ------------------------------------------------------------------------------- */

double gpt_train_flops(const GptConfig *c, double n, double rows, double T) {
    const double C = (double)c->width, L = (double)c->layers;
    const double d = (double)arch_head(c), H = (double)c->heads * d;
    const double kv = 2 * (double)arch_kv_heads(c) * d * C;
    double block = 0, out = c->scalar_head ? 0 : (double)c->vocab * C;
    for (ArchParam p = {0}; arch_next(c, &p) && p.layer < 1;)
        if (p.layer == 0 && p.multiplies) block += (double)p.n;
    return n * (6 * (L * block + out) + 6 * L * H * T) -
           (n - rows) * 6 * (block - kv + H * T + out);
}

/* In a dry model only its sizes. */
static void open_rope(Rope *r, const GptConfig *c, bool dry) {
    const RopeConfig k = {.head = arch_head(c),
                          .columns = c->rope_columns,
                          .theta = c->rope_theta,
                          .factor = c->rope_factor,
                          .low = c->rope_low,
                          .high = c->rope_high,
                          .original = c->rope_original};
    rope_open(r, &k, dry ? 0 : c->context);
    r->positions = c->context;
}

static int open_model(Gpt **out, const GptConfig *cfg, bool with_grad, bool half, bool dry) {
    TRY(arch_check(cfg));
    Gpt *g = xcalloc(1, sizeof *g);
    g->cfg = *cfg;
    g->block = xcalloc((size_t)cfg->layers, sizeof *g->block);
    arch_params(cfg, &g->params);
    if (half)
        paramset_alloc_half(&g->params, dry);
    else if (dry)
        paramset_alloc_dry(&g->params);
    else
        paramset_alloc(&g->params, with_grad);
    for (ArchParam p = {0}; arch_next(cfg, &p);) {
        char *at = p.layer < 0 ? (char *)g : (char *)&g->block[p.layer];
        *(Tensor **)(void *)(at + p.slot) = &g->params.v[p.index].tensor;
    }
    if (!cfg->untied && !cfg->scalar_head) g->out_w = g->wte;
    if (cfg->rope) open_rope(&g->rope, cfg, dry);
    *out = g;
    return 0;
}

int gpt_open(Gpt **out, const GptConfig *cfg, bool with_grad) {
    return open_model(out, cfg, with_grad, false, false);
}

int gpt_open_dry(Gpt **out, const GptConfig *cfg) {
    return open_model(out, cfg, true, false, true);
}

int gpt_open_half(Gpt **out, const GptConfig *cfg, bool dry) {
    return open_model(out, cfg, false, true, dry);
}

void gpt_close(Gpt **g) {
    if (!*g) return;
    if (!(*g)->params.dry) free((*g)->embed.grad);
    paramset_free(&(*g)->params);
    if (!(*g)->base) rope_free(&(*g)->rope);
    free((*g)->block);
    free((*g)->masked);
    free(*g);
    *g = NULL;
}

void gpt_split_tied(Gpt *g) {
    if (g->out_w != g->wte || g->embed.grad || !g->wte->grad) return;
    g->embed = *g->wte;
    g->embed.grad =
        g->params.dry ? g->wte->grad : xcalloc((size_t)tensor_size(g->wte), sizeof(real));
}

void gpt_sum_tied(Gpt *g) {
    real *to = g->wte->grad, *from = g->embed.grad;
    if (!from || g->params.dry) return;
    const int64_t n = tensor_size(g->wte);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        to[i] += from[i];
        from[i] = 0;
    }
}

void gpt_never_sample(Gpt *g, const int32_t *tokens, int64_t n) {
    free(g->masked);
    g->masked = xmalloc((size_t)(n + 1) * sizeof *tokens);
    if (n) memcpy(g->masked, tokens, (size_t)n * sizeof *tokens);
    g->nmasked = n;
}

/* A residual matrix adds to a stream to which each block adds twice: with that factor the stream's
 * variance does not depend on depth (Radford 2019). */
static double deviation(const GptConfig *c, const ArchParam *p, int init) {
    const double branch = p->residual ? 1 / sqrt(2 * (double)c->layers) : 1;
    if (init == INIT_GPT2) return init_std * branch;
    if (p->multiplies) return branch / sqrt((double)p->shape[1]);
    return embed_std;
}

void gpt_init(Gpt *g, uint64_t seed, int init) {
    RngKey key = {.seed = seed, .purpose = RNG_INIT};
    for (ArchParam p = {0}; arch_next(&g->cfg, &p);) {
        real *x = g->params.v[p.index].tensor.data;
        if (p.decay)
            rng_normal_fill(&key, (uint64_t)p.index, x, p.n, deviation(&g->cfg, &p, init));
        else
            for (int64_t j = 0; j < p.n; j++) x[j] = p.gain;
    }
    if (g->cfg.scalar_head) gpt_init_head(g, seed);
}

void gpt_init_head(Gpt *g, uint64_t seed) {
    CHECK(g->cfg.scalar_head, "this model has no scalar head");
    RngKey key = {.seed = seed, .purpose = RNG_INIT | 1 << 8};
    int64_t C = g->cfg.width;
    rng_normal_fill(&key, 0, g->head_w->data, C, 1 / sqrt((double)C + 1));
    g->head_b->data[0] = 0;
}

int gpt_copy(Gpt *dst, const Gpt *src) {
    const ArchField *f = arch_differ(&dst->cfg, &src->cfg);
    if (f)
        return error_set(ERR_CONFIG,
                         "cannot copy a model: %s is %g in the source, expected %g; use a source "
                         "of the same architecture",
                         f->name, arch_get(&src->cfg, f), arch_get(&dst->cfg, f));
    for (int i = 0; i < src->params.n; i++) {
        const Param *p = &src->params.v[i];
        Tensor *to = paramset_find(&dst->params, p->name);
        const int64_t n = to ? tensor_size(to) : 0;
        real some[1024];
        for (int64_t at = 0; at < n; at += 1024) {
            const int64_t m = n - at < 1024 ? n - at : 1024;
            tensor_read(&p->tensor, at, m, some);
            tensor_write(to, at, m, some);
        }
    }
    return 0;
}

/* --- forward ---------------------------------------------------------------------------------- */

/* Each place of dropout has its own stream: site 0 is the embedding, 2l+1 and 2l+2 are layer l. */
static Tensor *dropout(Tape *t, Tensor *x, const GptDropout *d, int64_t site) {
    if (d->p == 0) return x;
    RngKey key = {.seed = d->seed, .purpose = RNG_DROPOUT | (uint32_t)site << 8, .step = d->step};
    Tensor *y = op_dropout(t, x, d->p, key, d->row);
    tape_done(t, x);
    return y;
}

/* The norm of *x + branch, which becomes *x. */
static Tensor *norm(Tape *t, const GptConfig *c, Tensor **x, Tensor *branch, Tensor *w, Tensor *b) {
    Tensor *sum, *y = c->rms ? op_rmsnorm(t, *x, branch, w, c->norm_eps, &sum)
                             : op_layernorm(t, *x, branch, w, b, c->norm_eps, &sum);
    if (!branch) return y;
    tape_done(t, *x);
    tape_done(t, branch);
    *x = sum;
    return y;
}

/* *x becomes those of its rows that go on. */
static void keep_rows(Tape *t, Tensor **x, const GptRows *rows) {
    Tensor *y = op_rows(t, *x, rows->at, rows->m);
    if (y == *x) return;
    tape_done(t, *x);
    *x = y;
}

/* Layer l of a pass. */
typedef struct Layer {
    const Gpt *g;
    TrunkOps o;
    int64_t l;
    GptRows rows;          /* that go on after attention; at NULL: all */
    GptDropout drop;       /* of those rows; p 0: none */
    const GptDropout *all; /* of all rows; NULL: none */
} Layer;

static Tensor *linear_of(Tape *t, const Layer *a, LoraTarget target, Tensor *x, Tensor *w,
                         Tensor *b, Activation act) {
    const TrunkOps *o = &a->o;
    if (!a->g->block[a->l].lora_a[target] || o->merged) return o->linear(o->ctx, t, x, w, b, act);
    const GptDropout *drop = target == LORA_QKV ? a->all : &a->drop;
    return lora_linear(a->g, a->l, target, o->linear, o->ctx, t, x, w, b, act,
                       a->all ? drop : NULL);
}

/* The rows' q, k and v -> what they attend to, of the rows that go on. */
static Tensor *attention(Tape *t, const Layer *a, Tensor *qkv, Tensor **x) {
    const GptBlock *b = &a->g->block[a->l];
    const GptConfig *c = &a->g->cfg;
    if (c->qk_norm) {
        Tensor *y = op_headnorm(t, qkv, b->q_norm, b->k_norm, (int)c->heads, (int)arch_kv_heads(c),
                                c->norm_eps);
        tape_done(t, qkv);
        qkv = y;
    }
    Tensor *y = a->o.attend(a->o.ctx, t, a->l, qkv);
    if (!a->rows.at) return y;
    keep_rows(t, x, &a->rows);
    keep_rows(t, &y, &a->rows);
    return y;
}

static Tensor *mlp(Tape *t, const Layer *a, Tensor *h) {
    static const Activation act[] = {
        [MLP_GELU_TANH] = ACT_GELU_TANH, [MLP_GELU_ERF] = ACT_GELU_ERF, [MLP_RELU] = ACT_RELU};
    const GptBlock *b = &a->g->block[a->l];
    const ArchMlp kind = (ArchMlp)a->g->cfg.mlp;
    Tensor *y =
        linear_of(t, a, LORA_FC, h, b->fc_w, b->fc_b, kind == MLP_SWIGLU ? ACT_NONE : act[kind]);
    tape_done(t, h);
    if (kind == MLP_SWIGLU) {
        Tensor *z = op_swiglu(t, y);
        tape_done(t, y);
        y = z;
    }
    Tensor *z = linear_of(t, a, LORA_FC2, y, b->fc2_w, b->fc2_b, ACT_NONE);
    tape_done(t, y);
    return z;
}

/* x[0], the residual stream, and x[1], which the next norm adds to it (NULL at first), become those
 * after the layer. tape_done says from where on the forward pass can do without a tensor: without a
 * backward pass the same few buffers serve all layers, and with one only what it reads is kept. */
static void layer_forward(Tape *t, const void *ctx, Tensor **x) {
    const Layer *a = ctx;
    const GptBlock *b = &a->g->block[a->l];
    const GptConfig *c = &a->g->cfg;
    Tensor *h = norm(t, c, &x[0], x[1], b->norm1_w, b->norm1_b);
    Tensor *qkv = linear_of(t, a, LORA_QKV, h, b->qkv_w, b->qkv_b, ACT_NONE);
    tape_done(t, h);
    Tensor *y = attention(t, a, qkv, &x[0]);
    x[1] = linear_of(t, a, LORA_PROJ, y, b->proj_w, b->proj_b, ACT_NONE);
    tape_done(t, y);
    x[1] = dropout(t, x[1], &a->drop, 2 * a->l + 1);

    h = norm(t, c, &x[0], c->parallel ? NULL : x[1], b->norm2_w, b->norm2_b);
    y = dropout(t, mlp(t, a, h), &a->drop, 2 * a->l + 2);
    if (c->parallel) {
        Tensor *both = op_add(t, y, x[1]);
        tape_done(t, y);
        tape_done(t, x[1]);
        y = both;
    }
    x[1] = y;
}

/* A node that is reached when the backward pass has done all that is computed after here. */
typedef struct PartDone {
    Gpt *g;
    int part;
} PartDone;

static void part_done_backward(Tape *t, void *ctx) {
    const PartDone *d = ctx;
    d->g->part_done(d->g->part_ctx, d->part);
}

/* Adapters have a part for each layer and, with a head, one more. */
static void part_begins(Gpt *g, Tape *t, int64_t part) {
    if (g->base) part--;
    if (!g->part_done || !tape_records(t) || part < 0 || part >= g->params.nparts) return;
    PartDone *d = tape_alloc(t, sizeof *d);
    *d = (PartDone){g, (int)part};
    tape_push(t, part_done_backward, d, NULL);
}

/* Dropout of the rows: a token's masks do not depend on which others there are. */
static GptDropout dropout_of(Tape *t, const GptDropout *all, const GptRows *rows) {
    uint64_t *row = tape_alloc(t, (size_t)rows->m * sizeof *row);
    GptDropout d = *all;
    for (int64_t j = 0; j < rows->m; j++)
        row[j] = all->row ? all->row[rows->at[j]] : (uint64_t)rows->at[j];
    d.row = row;
    return d;
}

Tensor *gpt_trunk(Gpt *g, Tape *t, Tensor *x0, const TrunkOps *o, const GptRows *rows,
                  const GptDropout *drop) {
    static const GptDropout none = {0};
    if (drop) { /* the backward pass reads it */
        GptDropout *kept = tape_alloc(t, sizeof *kept);
        *kept = *drop;
        drop = kept;
    }
    Tensor *x[2] = {dropout(t, x0, drop ? drop : &none, 0), NULL};
    for (int64_t l = 0; l < g->cfg.layers; l++) {
        part_begins(g, t, l + 1);
        Layer *a = tape_alloc(t, sizeof *a); /* the backward pass reads it */
        *a = (Layer){.g = g, .o = *o, .l = l, .drop = drop ? *drop : none, .all = drop};
        if (rows && l + 1 == g->cfg.layers) {
            a->rows = *rows;
            if (drop) a->drop = dropout_of(t, drop, rows);
        }
        if (g->recompute && tape_records(t))
            tape_checkpoint(t, layer_forward, a, x, 2);
        else
            layer_forward(t, a, x);
    }
    part_begins(g, t, g->cfg.layers + 1);
    return norm(t, &g->cfg, &x[0], x[1], g->norm_f_w, g->norm_f_b);
}

/* The batch of a training forward, in the tape's memory: the backward pass reads it. */
typedef struct Pass {
    Batch b;
    const Gpt *g;
} Pass;

static Tensor *linear(void *ctx, Tape *t, Tensor *x, Tensor *w, Tensor *b, Activation act) {
    return op_linear(t, x, w, b, act);
}

static Tensor *attend(void *ctx, Tape *t, int64_t layer, Tensor *qkv) {
    const Pass *p = ctx;
    const int H = (int)p->g->cfg.heads, kv = (int)arch_kv_heads(&p->g->cfg);
    if (p->g->cfg.rope) {
        Tensor *turned = op_rope(t, qkv, &p->b, &p->g->rope, H + kv);
        tape_done(t, qkv);
        qkv = turned;
    }
    Tensor *y = op_attention_grouped(t, qkv, &p->b, H, kv);
    tape_done(t, qkv);
    return y;
}

Tensor *gpt_forward(Gpt *g, Tape *t, const Batch *b, const GptRows *rows, const GptDropout *drop) {
    batch_check(b, g->cfg.vocab, g->cfg.context);
    Pass *p = tape_alloc(t, sizeof *p);
    *p = (Pass){*b, g};
    part_begins(g, t, 0);
    Tensor *x = op_embed(t, g->embed.grad ? &g->embed : g->wte, g->wpe, &p->b);
    return gpt_trunk(g, t, x, &(TrunkOps){p, linear, attend, false}, rows, drop);
}

GptRows gpt_weighted_rows(Tape *t, const Batch *b) {
    int64_t *at = tape_alloc(t, (size_t)b->n * sizeof *at), m = 0;
    for (int64_t i = 0; i < b->n; i++)
        if (b->weight[i] != 0) at[m++] = i;
    return (GptRows){m, at};
}

GptRows gpt_last_rows(Tape *t, const Batch *b) {
    int64_t *at = tape_alloc(t, (size_t)b->nseq * sizeof *at);
    for (int64_t s = 0; s < b->nseq; s++) at[s] = b->start[s + 1] - 1;
    return (GptRows){b->nseq, at};
}

static const int32_t *targets_of(Tape *t, const Batch *b, const GptRows *rows) {
    if (!rows) return b->targets;
    int32_t *targets = tape_alloc(t, (size_t)rows->m * sizeof *targets);
    for (int64_t j = 0; j < rows->m; j++) targets[j] = b->targets[rows->at[j]];
    return targets;
}

double gpt_loss(Gpt *g, Tape *t, const Batch *b, const GptDropout *drop, real *logp_out) {
    const GptRows rows = gpt_weighted_rows(t, b);
    float *weight = tape_alloc(t, (size_t)rows.m * sizeof *weight);
    for (int64_t j = 0; j < rows.m; j++) weight[j] = b->weight[rows.at[j]];
    real *logp = tape_alloc(t, (size_t)rows.m * sizeof *logp);
    const int32_t *targets = targets_of(t, b, &rows);
    Tensor *h = gpt_forward(g, t, b, &rows, drop);
    double loss = op_cross_entropy(t, h, g->out_w, targets, weight, logp);
    if (!logp_out) return loss;
    memset(logp_out, 0, (size_t)b->n * sizeof *logp_out);
    for (int64_t j = 0; j < rows.m; j++) logp_out[rows.at[j]] = logp[j];
    return loss;
}

double gpt_token_loss(Gpt *g, Tape *t, const Batch *b, const GptRows *rows, double temperature,
                      TokenLossFn *loss, void *ctx, real *logp_out, real *entropy_out) {
    const int32_t *targets = targets_of(t, b, rows);
    Tensor *h = gpt_forward(g, t, b, rows, NULL);
    return op_token_loss(t, h, g->out_w, targets, temperature, loss, ctx, logp_out, entropy_out);
}

static double given(void *ctx, int64_t i, double logp, double entropy, double *dlogp) {
    *dlogp = ((const double *)ctx)[i];
    return 0;
}

double gpt_joint_loss(Gpt *g, Tape *t, const Batch *b, const GptRows *rows, double temperature,
                      JointLossFn *loss, void *ctx, real *entropy_out) {
    const int32_t *targets = targets_of(t, b, rows);
    Tensor *h = gpt_forward(g, t, b, rows, NULL);
    real *logp = tape_alloc(t, (size_t)rows->m * sizeof *logp);
    double *dlogp = tape_alloc(t, (size_t)rows->m * sizeof *dlogp), value = 0;
    op_token_loss(t, h, g->out_w, targets, temperature, NULL, NULL, logp, entropy_out);
    if (!tape_dry(t)) value = loss(ctx, rows->m, logp, dlogp);
    op_token_loss(t, h, g->out_w, targets, temperature, given, dlogp, NULL, NULL);
    return value;
}

void gpt_score(Gpt *g, Tape *t, const Batch *b, const GptRows *rows, double temperature,
               real *logp_out, real *entropy_out) {
    gpt_token_loss(g, t, b, rows, temperature, NULL, NULL, logp_out, entropy_out);
    tape_reset(t);
}

Tensor *gpt_values(Gpt *g, Tape *t, const Batch *b, const GptRows *rows) {
    CHECK(g->cfg.scalar_head, "this model has no scalar head");
    return op_scalar_head(t, gpt_forward(g, t, b, rows, NULL), g->head_w, g->head_b);
}
