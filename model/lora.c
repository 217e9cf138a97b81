/* lora.c: see lora.h. Queries, keys and values are one matrix here and share A.
 *
 * Training computes x W^T and s (x A^T) B^T apart, since W must not change; decoding packs its
 * weights anyway and packs W + s B A. */
#include "model/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/gemm.h"
#include "core/kernel.h"

static const char *const target_names[LORA_TARGETS] = {"attn.qkv", "attn.proj", "mlp.fc",
                                                       "mlp.proj"};

const char *lora_target_name(LoraTarget t) { return target_names[t]; }

/* --- descriptions ----------------------------------------------------------------------------- */

json_t *lora_to_json(const LoraConfig *o) {
    json_t *targets = json_array();
    for (int k = 0; k < LORA_TARGETS; k++)
        if (o->targets & 1u << k) json_array_append_new(targets, json_string(target_names[k]));
    return json_pack("{s:I, s:f, s:f, s:o}", "rank", (json_int_t)o->rank, "alpha", o->alpha,
                     "dropout", o->dropout, "targets", targets);
}

int lora_from_json(LoraConfig *o, const json_t *j) {
    const json_t *rank = json_object_get(j, "rank"), *alpha = json_object_get(j, "alpha");
    const json_t *targets = json_object_get(j, "targets"), *t;
    *o = (LoraConfig){.rank = json_integer_value(rank),
                      .alpha = json_number_value(alpha),
                      .dropout = json_number_value(json_object_get(j, "dropout"))};
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)targets, i,
                       t) for (int k = 0; k < LORA_TARGETS;
                               k++) if (json_is_string(t) &&
                                        strcmp(json_string_value(t), target_names[k]) == 0)
        o->targets |= 1u << k;
    if (o->rank >= 1 && o->rank <= LORA_RANK_MAX && o->targets && o->alpha > 0) return 0;
    return error_set(ERR_DATA, "the description of the adapters: \"%s\" is missing or wrong",
                     o->rank < 1 || o->rank > LORA_RANK_MAX ? "rank"
                     : !o->targets                          ? "targets"
                                                            : "alpha");
}

LoraConfig lora_of_config(const Config *c) {
    static const unsigned targets[] = {15, 3, 12}; /* all, attention, mlp */
    return (LoraConfig){.rank = c->lora_rank,
                        .alpha = c->lora_alpha,
                        .dropout = c->lora_dropout,
                        .targets = targets[c->lora_targets]};
}

/* --- parameters ------------------------------------------------------------------------------- */

/* [M,K] of a layer's weight. */
static void weight_shape(const GptConfig *c, LoraTarget target, int64_t *M, int64_t *K) {
    for (ArchParam p = {0}; arch_next(c, &p);)
        if (p.layer == 0 && p.ndim == 2 &&
            strncmp(p.name + strlen("h.0."), target_names[target], strlen(target_names[target])) ==
                0) {
            *M = p.shape[0], *K = p.shape[1];
            return;
        }
}

void lora_params(const GptConfig *cfg, const LoraConfig *o, ParamSet *ps) {
    char name[PARAM_NAME_MAX];
    int64_t M[LORA_TARGETS], K[LORA_TARGETS];
    for (int k = 0; k < LORA_TARGETS; k++) weight_shape(cfg, (LoraTarget)k, &M[k], &K[k]);
    for (int64_t l = 0; l < cfg->layers; l++) {
        paramset_part(ps, false);
        for (int k = 0; k < LORA_TARGETS; k++) {
            if (!(o->targets & 1u << k)) continue;
            snprintf(name, sizeof name, "h.%d.%s.lora_a", (int)l, target_names[k]);
            paramset_add(ps, name, 2, (int64_t[]){o->rank, K[k]}, true);
            snprintf(name, sizeof name, "h.%d.%s.lora_b", (int)l, target_names[k]);
            paramset_add(ps, name, 2, (int64_t[]){M[k], o->rank}, true);
        }
    }
    if (!cfg->scalar_head) return;
    paramset_part(ps, false);
    paramset_add(ps, "head.weight", 2, (int64_t[]){1, cfg->width}, true);
    paramset_add(ps, "head.bias", 1, (int64_t[]){1}, false);
}

static bool is_b(const Param *p) { return strstr(p->name, ".lora_b") != NULL; }
static bool is_a(const Param *p) { return strstr(p->name, ".lora_a") != NULL; }

int lora_open(Gpt **out, const Gpt *base, const LoraConfig *o, bool scalar_head, bool with_grad) {
    CHECK(!base->base, "adapters on a model of adapters");
    CHECK(o->rank > 0 && o->targets, "adapters of rank %lld", (long long)o->rank);
    Gpt *g = xcalloc(1, sizeof *g);
    *g = *base;
    g->base = base;
    g->lora = *o;
    g->params = (ParamSet){0};
    g->embed = (Tensor){0};
    g->part_done = NULL;
    g->masked = NULL;
    g->nmasked = 0;
    gpt_never_sample(g, base->masked, base->nmasked);
    g->cfg.scalar_head = scalar_head;
    if (scalar_head) g->cfg.untied = false, g->out_w = NULL;
    g->block = xcalloc((size_t)g->cfg.layers, sizeof *g->block);
    memcpy(g->block, base->block, (size_t)g->cfg.layers * sizeof *g->block);
    lora_params(&g->cfg, o, &g->params);
    if (base->params.dry)
        paramset_alloc_dry(&g->params);
    else
        paramset_alloc(&g->params, with_grad);
    int at = 0;
    for (int64_t l = 0; l < g->cfg.layers; l++)
        for (int k = 0; k < LORA_TARGETS; k++) {
            if (!(o->targets & 1u << k)) continue;
            g->block[l].lora_a[k] = &g->params.v[at++].tensor;
            g->block[l].lora_b[k] = &g->params.v[at++].tensor;
        }
    if (scalar_head) {
        g->head_w = &g->params.v[at++].tensor;
        g->head_b = &g->params.v[at++].tensor;
        if (base->head_w && !base->params.dry) {
            memcpy(g->head_w->data, base->head_w->data, sizeof(real) * (size_t)g->cfg.width);
            g->head_b->data[0] = base->head_b->data[0];
        }
    }
    *out = g;
    return 0;
}

void lora_init(Gpt *g, uint64_t seed) {
    RngKey key = {.seed = seed, .purpose = RNG_INIT | 2 << 8};
    for (int i = 0; i < g->params.n; i++) {
        const Param *p = &g->params.v[i];
        const int64_t n = tensor_size(&p->tensor);
        if (is_a(p))
            rng_normal_fill(&key, (uint64_t)i, p->tensor.data, n,
                            1 / sqrt(3 * (double)p->tensor.shape[1]));
        else if (is_b(p))
            memset(p->tensor.data, 0, (size_t)n * sizeof(real));
    }
}

/* --- in a forward pass ------------------------------------------------------------------------ */

Tensor *lora_linear(const Gpt *g, int64_t layer, LoraTarget target, LoraLinear *linear, void *ctx,
                    Tape *t, Tensor *x, Tensor *w, Tensor *b, Activation act,
                    const GptDropout *drop) {
    Tensor *A = g->block[layer].lora_a[target], *B = g->block[layer].lora_b[target], *in = x;
    Tensor *z = linear(ctx, t, x, w, b, ACT_NONE);
    if (drop && g->lora.dropout > 0) {
        const int64_t site = 2 * g->cfg.layers + 1 + LORA_TARGETS * layer + target;
        RngKey key = {
            .seed = drop->seed, .purpose = RNG_DROPOUT | (uint32_t)site << 8, .step = drop->step};
        in = op_dropout(t, x, g->lora.dropout, key, drop->row);
    }
    Tensor *u = op_linear(t, in, A, NULL, ACT_NONE);
    if (in != x) tape_done(t, in);
    Tensor *d = op_linear(t, u, B, NULL, ACT_NONE);
    tape_done(t, u);
    Tensor *y = op_adapt(t, z, d, g->lora.alpha / (double)g->lora.rank, act);
    tape_done(t, z);
    tape_done(t, d);
    return y;
}

/* --- merged ----------------------------------------------------------------------------------- */

static Tensor *weight_of(const GptBlock *b, LoraTarget target) {
    Tensor *const w[LORA_TARGETS] = {b->qkv_w, b->proj_w, b->fc_w, b->fc2_w};
    return w[target];
}

/* One chain of multiply-adds that begins at W: the same bits wherever it is done. */
void lora_merge_weight(const Gpt *g, int64_t layer, LoraTarget target, Arena *arena, real *to) {
    const GptBlock *b = &g->block[layer];
    const Tensor *W = weight_of(b, target), *A = b->lora_a[target], *B = b->lora_b[target];
    const int64_t M = W->shape[0], K = W->shape[1], r = g->lora.rank;
    const real scale = (real)(g->lora.alpha / (double)r);
    tensor_read(W, 0, M * K, to);
    const ArenaMark mark = arena_mark(arena);
    real *scaled = arena_alloc(arena, (size_t)(M * r) * sizeof *scaled);
    for (int64_t i = 0; i < M * r; i++) scaled[i] = scale * B->data[i];
    gemm(arena, &(Gemm){.M = M,
                        .N = K,
                        .K = r,
                        .a = scaled,
                        .lda = r,
                        .b = A->data,
                        .ldb = K,
                        .c = to,
                        .ldc = K,
                        .add = true});
    arena_release(arena, mark);
}

void lora_merge(Gpt *full, const Gpt *g) {
    Arena arena = {0};
    for (int64_t l = 0; l < g->cfg.layers; l++)
        for (int k = 0; k < LORA_TARGETS; k++) {
            if (!g->block[l].lora_a[k]) continue;
            Tensor *w = weight_of(&full->block[l], (LoraTarget)k);
            const ArenaMark mark = arena_mark(&arena);
            real *merged = arena_alloc(&arena, (size_t)tensor_size(w) * sizeof *merged);
            lora_merge_weight(g, l, (LoraTarget)k, &arena, merged);
            tensor_write(w, 0, tensor_size(w), merged);
            arena_release(&arena, mark);
        }
    arena_free(&arena);
    if (!g->cfg.scalar_head) return;
    memcpy(full->head_w->data, g->head_w->data, (size_t)g->cfg.width * sizeof(real));
    full->head_b->data[0] = g->head_b->data[0];
}
