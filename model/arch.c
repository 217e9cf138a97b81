/* arch.c: the tables of arch.h and what follows from them. */
#include "model/arch.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "model/gpt.h"

/* --- fields ----------------------------------------------------------------------------------- */

#define TYPE(x) \
    _Generic((x), int64_t : ARCH_COUNT, bool : ARCH_FLAG, double : ARCH_REAL, int : ARCH_WORD)
enum { ALWAYS, LATER };

const ArchField arch_fields[] = {
#define X(type, field, lowest, highest, since)                                                  \
    {#field,        TYPE(((GptConfig *)0)->field), offsetof(GptConfig, field), lowest, highest, \
     since == LATER},
    ARCH_FIELDS(X)
#undef X
};
const int arch_nfields = sizeof arch_fields / sizeof *arch_fields;

const char *const *arch_words(const ArchField *f) {
    static const char *const family[] = {"gpt2",     "llama", "qwen2", "qwen3",
                                         "gpt_neox", "opt",   NULL},
                             *const bias[] = {"none", "all", "qkv", NULL},
                             *const mlp[] = {"gelu_tanh", "gelu_erf", "relu", "swiglu", NULL};
    return f->at == offsetof(GptConfig, family) ? family
           : f->at == offsetof(GptConfig, bias) ? bias
                                                : mlp;
}

int64_t arch_kv_heads(const GptConfig *c) { return c->kv_heads ? c->kv_heads : c->heads; }

int64_t arch_head(const GptConfig *c) { return c->head ? c->head : c->width / c->heads; }

int64_t arch_ffn(const GptConfig *c) {
    if (c->ffn) return c->ffn;
    return c->mlp == MLP_SWIGLU ? (c->width * 8 / 3 + 31) / 32 * 32 : 4 * c->width;
}

int64_t arch_qkv(const GptConfig *c) { return (c->heads + 2 * arch_kv_heads(c)) * arch_head(c); }

static double value(const GptConfig *c, const ArchField *f) {
    const char *at = (const char *)c + f->at;
    switch (f->type) {
    case ARCH_COUNT: return (double)*(const int64_t *)(const void *)at;
    case ARCH_FLAG: return *(const bool *)at;
    case ARCH_WORD: return *(const int *)(const void *)at;
    default: return *(const double *)(const void *)at;
    }
}

double arch_get(const GptConfig *c, const ArchField *f) {
    switch (f->at) {
    case offsetof(GptConfig, kv_heads): return (double)arch_kv_heads(c);
    case offsetof(GptConfig, head): return (double)arch_head(c);
    case offsetof(GptConfig, ffn): return (double)arch_ffn(c);
    case offsetof(GptConfig, rope_columns):
        return (double)(c->rope_columns ? c->rope_columns : arch_head(c));
    default: return value(c, f);
    }
}

void arch_set(GptConfig *c, const ArchField *f, double v) {
    char *at = (char *)c + f->at;
    switch (f->type) {
    case ARCH_COUNT: *(int64_t *)(void *)at = (int64_t)v; break;
    case ARCH_FLAG: *(bool *)at = v != 0; break;
    case ARCH_WORD: *(int *)(void *)at = (int)v; break;
    default: *(double *)(void *)at = v; break;
    }
}

static bool is_rope(const ArchField *f) { return strncmp(f->name, "rope_", 5) == 0; }

static int check_rope(const GptConfig *c) {
    if (!c->rope) return 0;
    const int64_t columns = c->rope_columns ? c->rope_columns : arch_head(c);
    if (columns > arch_head(c) || columns % 2)
        return error_set(ERR_CONFIG,
                         "model.rope_columns: %" PRId64 " of a head's %" PRId64
                         " columns are rotated, expected an even number of them",
                         columns, arch_head(c));
    if (c->rope_factor != 0 &&
        !(c->rope_factor > 0 && c->rope_high > c->rope_low && c->rope_original > 0))
        return error_set(ERR_CONFIG,
                         "model.rope_factor %g: rope_low %g, rope_high %g, rope_original %" PRId64
                         ", expected low below high and the context before, 1 or more",
                         c->rope_factor, c->rope_low, c->rope_high, c->rope_original);
    return 0;
}

int arch_check(const GptConfig *c) {
    for (const ArchField *f = arch_fields; f < arch_fields + arch_nfields; f++) {
        if (is_rope(f) && !c->rope) continue;
        const double v = value(c, f);
        if (f->type == ARCH_REAL ? v > f->lowest && v < f->highest
                                 : v >= f->lowest && v <= f->highest)
            continue;
        return error_set(ERR_CONFIG, "model.%s is %.10g, expected %s%.10g %s %.10g", f->name, v,
                         f->type == ARCH_REAL ? "above " : "", f->lowest,
                         f->type == ARCH_REAL ? "and below" : "to", f->highest);
    }
    if (!c->head && c->width % c->heads)
        return error_set(ERR_CONFIG,
                         "model.width is %" PRId64 ", expected a multiple of model.heads (%" PRId64
                         "), or model.head_size",
                         c->width, c->heads);
    if (c->heads % arch_kv_heads(c))
        return error_set(ERR_CONFIG,
                         "model.kv_heads is %" PRId64
                         ", expected a divisor of model.heads (%" PRId64 ")",
                         c->kv_heads, c->heads);
    TRY(check_rope(c));
    if (c->untied && c->scalar_head)
        return error_set(ERR_CONFIG, "model.untied: a model with a scalar head has no logits");
    return 0;
}

const ArchField *arch_differ(const GptConfig *a, const GptConfig *b) {
    const bool head = a->scalar_head || b->scalar_head;
    for (const ArchField *f = arch_fields; f < arch_fields + arch_nfields; f++) {
        if (f->at == offsetof(GptConfig, scalar_head)) continue;
        if (f->at == offsetof(GptConfig, untied) && head) continue; /* one of them has no logits */
        if (is_rope(f) && !(a->rope && b->rope)) continue;
        if (arch_get(a, f) != arch_get(b, f)) return f;
    }
    return NULL;
}

json_t *arch_to_json(const GptConfig *c) {
    json_t *j = json_object();
    for (const ArchField *f = arch_fields; f < arch_fields + arch_nfields; f++) {
        const double v = arch_get(c, f);
        if (is_rope(f) && !c->rope) continue;
        json_object_set_new(j, f->name,
                            f->type == ARCH_COUNT  ? json_integer((json_int_t)v)
                            : f->type == ARCH_FLAG ? json_boolean(v != 0)
                            : f->type == ARCH_WORD ? json_string(arch_words(f)[(int)v])
                                                   : json_real(v));
    }
    return j;
}

/* Version 0.1 had true and false for some words: their first two. */
static bool word_value(const ArchField *f, const json_t *v, double *out) {
    if (json_is_boolean(v)) *out = json_is_true(v);
    const char *const *words = arch_words(f);
    for (int i = 0; json_is_string(v) && words[i]; i++)
        if (strcmp(json_string_value(v), words[i]) == 0) *out = i;
    return *out >= 0;
}

int arch_from_json(GptConfig *c, const json_t *j) {
    *c = (GptConfig){0};
    for (const ArchField *f = arch_fields; f < arch_fields + arch_nfields; f++) {
        const json_t *v = json_object_get(j, f->name);
        double x = json_is_boolean(v) ? json_is_true(v) : json_number_value(v), word = -1;
        if (!v && f->at == offsetof(GptConfig, mlp)) v = json_object_get(j, "gelu_erf");
        const bool right = f->type == ARCH_COUNT  ? json_is_integer(v)
                           : f->type == ARCH_FLAG ? json_is_boolean(v)
                           : f->type == ARCH_WORD ? word_value(f, v, &word)
                                                  : json_is_number(v);
        if (right)
            arch_set(c, f, f->type == ARCH_WORD ? word : x);
        else if (v || !f->later)
            return error_set(ERR_DATA, "the description of the model: \"%s\" is %s", f->name,
                             v ? "of another type, or none of its words" : "missing");
    }
    return 0;
}

char *arch_text(const GptConfig *c) {
    Text t = {0};
    text_put(&t, "%" PRId64 " layers, width %" PRId64 ", %" PRId64 " heads", c->layers, c->width,
             c->heads);
    if (arch_kv_heads(c) != c->heads) text_put(&t, " (%" PRId64 " of keys)", arch_kv_heads(c));
    if (arch_head(c) * c->heads != c->width) text_put(&t, " of %" PRId64, arch_head(c));
    text_put(&t, ", vocabulary %" PRId64 ", context %" PRId64, c->vocab, c->context);
    if (c->family != FAMILY_GPT2) text_put(&t, ", %s", arch_family[c->family].name);
    if (c->bias != arch_family[c->family].is.bias)
        text_put(&t, c->bias == BIAS_NONE ? ", no biases" : ", biases");
    if (c->family == FAMILY_GPT2 && c->mlp == MLP_GELU_ERF) text_put(&t, ", exact GELU");
    if (c->family == FAMILY_GPT2 && c->untied) text_put(&t, ", untied");
    if (c->scalar_head) text_put(&t, ", scalar head");
    return text_take(&t);
}

/* --- parameters ------------------------------------------------------------------------------- */

typedef enum ArchKind {
    TABLE,    /* rows that are looked up; no bias */
    NORM,     /* a norm's gain and bias */
    HEADNORM, /* of each head: no bias */
    LINEAR,   /* weight and bias */
    RESIDUAL, /* the same, added to the residual stream */
    OUTPUT,   /* untied: makes the logits; no bias */
    HEAD,     /* scalar_head: weight and always a bias */
} ArchKind;
/* 1, width, q k and v, all heads, one head, ffn (SwiGLU: gate and up), ffn, context, vocab */
typedef enum Dim { NONE, ONE, C, QKV, HEADS, D, FC, F, T, V } Dim;

#define TOP(member)   offsetof(Gpt, member)
#define BLOCK(member) offsetof(GptBlock, member)

/* Columns of names: Hugging Face's GPT-2, Llama and Qwen, GPT-NeoX, OPT; GGUF's where q, k and v
 * are one tensor, and where they are three. */
enum { HF_GPT2, HF_LLAMA, HF_NEOX, HF_OPT, GGUF_ONE, GGUF_THREE, NAMINGS };

/* name, what it is, its shape, its place in Gpt, its bias's, and its names in files (".weight" and
 * ".bias" follow; "": it has none; {q,k,v}: several tensors, one below the other). Rows with %d are
 * a block's: they come once for each layer. */
/* clang-format off */
static const struct Row {
    const char *name;
    ArchKind kind;
    Dim shape[2];
    size_t weight, bias;
    const char *file[NAMINGS];
} rows[] = {
    {"wte", TABLE, {V, C}, TOP(wte), 0,
     {"transformer.wte", "model.embed_tokens", "gpt_neox.embed_in", "model.decoder.embed_tokens",
      "token_embd", "token_embd"}},
    {"wpe", TABLE, {T, C}, TOP(wpe), 0,
     {"transformer.wpe", "", "", "model.decoder.embed_positions", "position_embd", ""}},
    {"h.%d.norm1", NORM, {C}, BLOCK(norm1_w), BLOCK(norm1_b),
     {"transformer.h.%d.ln_1", "model.layers.%d.input_layernorm",
      "gpt_neox.layers.%d.input_layernorm", "model.decoder.layers.%d.self_attn_layer_norm",
      "blk.%d.attn_norm", "blk.%d.attn_norm"}},
    {"h.%d.attn.qkv", LINEAR, {QKV, C}, BLOCK(qkv_w), BLOCK(qkv_b),
     {"transformer.h.%d.attn.c_attn", "model.layers.%d.self_attn.{q,k,v}_proj",
      "gpt_neox.layers.%d.attention.query_key_value",
      "model.decoder.layers.%d.self_attn.{q,k,v}_proj", "blk.%d.attn_qkv",
      "blk.%d.attn_{q,k,v}"}},
    {"h.%d.attn.q_norm", HEADNORM, {D}, BLOCK(q_norm), 0,
     {"", "model.layers.%d.self_attn.q_norm", "", "", "", "blk.%d.attn_q_norm"}},
    {"h.%d.attn.k_norm", HEADNORM, {D}, BLOCK(k_norm), 0,
     {"", "model.layers.%d.self_attn.k_norm", "", "", "", "blk.%d.attn_k_norm"}},
    {"h.%d.attn.proj", RESIDUAL, {C, HEADS}, BLOCK(proj_w), BLOCK(proj_b),
     {"transformer.h.%d.attn.c_proj", "model.layers.%d.self_attn.o_proj",
      "gpt_neox.layers.%d.attention.dense", "model.decoder.layers.%d.self_attn.out_proj",
      "blk.%d.attn_output", "blk.%d.attn_output"}},
    {"h.%d.norm2", NORM, {C}, BLOCK(norm2_w), BLOCK(norm2_b),
     {"transformer.h.%d.ln_2", "model.layers.%d.post_attention_layernorm",
      "gpt_neox.layers.%d.post_attention_layernorm", "model.decoder.layers.%d.final_layer_norm",
      "blk.%d.ffn_norm", "blk.%d.ffn_norm"}},
    {"h.%d.mlp.fc", LINEAR, {FC, C}, BLOCK(fc_w), BLOCK(fc_b),
     {"transformer.h.%d.mlp.c_fc", "model.layers.%d.mlp.{gate,up}_proj",
      "gpt_neox.layers.%d.mlp.dense_h_to_4h", "model.decoder.layers.%d.fc1", "blk.%d.ffn_up",
      "blk.%d.ffn_{gate,up}"}},
    {"h.%d.mlp.proj", RESIDUAL, {C, F}, BLOCK(fc2_w), BLOCK(fc2_b),
     {"transformer.h.%d.mlp.c_proj", "model.layers.%d.mlp.down_proj",
      "gpt_neox.layers.%d.mlp.dense_4h_to_h", "model.decoder.layers.%d.fc2", "blk.%d.ffn_down",
      "blk.%d.ffn_down"}},
    {"norm_f", NORM, {C}, TOP(norm_f_w), TOP(norm_f_b),
     {"transformer.ln_f", "model.norm", "gpt_neox.final_layer_norm",
      "model.decoder.final_layer_norm", "output_norm", "output_norm"}},
    {"lm_head", OUTPUT, {V, C}, TOP(out_w), 0,
     {"lm_head", "lm_head", "embed_out", "lm_head", "output", "output"}},
    {"head", HEAD, {ONE, C}, TOP(head_w), TOP(head_b),
     {"score", "score", "score", "score", "", ""}},
};
/* clang-format on */
enum { ROWS = sizeof rows / sizeof *rows };

static bool is_block(const struct Row *r) { return strchr(r->name, '%') != NULL; }

static bool is_there(const GptConfig *c, const struct Row *r) {
    switch (r->kind) {
    case TABLE: return r->weight == TOP(wte) || !c->rope;
    case HEADNORM: return c->qk_norm;
    case OUTPUT: return c->untied;
    case HEAD: return c->scalar_head;
    default: return true;
    }
}

static bool has_bias(const GptConfig *c, const struct Row *r) {
    switch (r->kind) {
    case NORM: return c->bias == BIAS_ALL && !c->rms;
    case LINEAR: return c->bias == BIAS_ALL || (c->bias == BIAS_QKV && r->shape[0] == QKV);
    case RESIDUAL: return c->bias == BIAS_ALL;
    default: return r->kind == HEAD;
    }
}

static int64_t extent(const GptConfig *c, Dim d) {
    switch (d) {
    case NONE: return 0;
    case ONE: return 1;
    case C: return c->width;
    case QKV: return arch_qkv(c);
    case HEADS: return c->heads * arch_head(c);
    case D: return arch_head(c);
    case FC: return (c->mlp == MLP_SWIGLU ? 2 : 1) * arch_ffn(c);
    case F: return arch_ffn(c);
    case T: return c->context;
    default: return c->vocab;
    }
}

/* Where the walk goes on after the parameter in hand. */
static void go_on(const GptConfig *c, ArchParam *p, const struct Row *r) {
    p->next_bias = !p->next_bias && has_bias(c, r);
    if (p->next_bias) return;
    p->next_row = p->row + 1;
    if (!is_block(r) || (p->next_row < ROWS && is_block(&rows[p->next_row]))) return;
    if (p->next_layer + 1 == c->layers) return;
    p->next_layer++; /* the first row of the block */
    while (p->next_row > 0 && is_block(&rows[p->next_row - 1])) p->next_row--;
}

/* The hidden matrices of a parameter, one below the other. */
static void count_matrices(const GptConfig *c, const struct Row *r, ArchParam *p) {
    p->matrices = p->first_rows = 0;
    if (!p->decay || (r->kind != LINEAR && r->kind != RESIDUAL)) return;
    p->matrices = r->shape[0] == QKV ? 3 : r->shape[0] == FC && c->mlp == MLP_SWIGLU ? 2 : 1;
    p->first_rows = r->shape[0] == QKV ? extent(c, HEADS) : p->shape[0] / p->matrices;
}

bool arch_next(const GptConfig *c, ArchParam *p) {
    while (p->next_row < ROWS && !is_there(c, &rows[p->next_row])) p->next_row++;
    if (p->next_row == ROWS) return false;
    const struct Row *r = &rows[p->row = p->next_row];
    const bool bias = p->next_bias;
    p->index += p->ndim != 0; /* the first is 0 */
    p->layer = is_block(r) ? p->next_layer : -1;
    char name[PARAM_NAME_MAX];
    snprintf(name, sizeof name, r->name, p->layer);
    snprintf(p->name, sizeof p->name, "%.50s%s", name, bias ? ".bias" : ".weight");
    p->ndim = bias || r->shape[1] == NONE ? 1 : 2;
    p->n = p->shape[0] = extent(c, r->shape[0]);
    p->shape[1] = p->ndim == 2 ? extent(c, r->shape[1]) : 0;
    if (p->ndim == 2) p->n *= p->shape[1];
    p->decay = p->ndim == 2;
    count_matrices(c, r, p);
    p->residual = p->decay && r->kind == RESIDUAL;
    p->gain = !bias && (r->kind == NORM || r->kind == HEADNORM);
    p->multiplies = p->decay && r->kind != TABLE;
    p->slot = bias ? r->bias : r->weight;
    go_on(c, p, r);
    return true;
}

int64_t arch_count(const GptConfig *c) {
    int64_t n = 0;
    for (ArchParam p = {0}; arch_next(c, &p);) n += p.n;
    return n;
}

void arch_params(const GptConfig *c, ParamSet *ps) {
    int part = -2; /* of the last parameter: -1 the embeddings, l a layer, `layers` what follows */
    for (ArchParam p = {0}; arch_next(c, &p);) {
        const int mine = p.layer >= 0 || part < 0 ? p.layer : (int)c->layers;
        /* wte is written to in the whole backward pass where it also makes the logits */
        if (mine != part) paramset_part(ps, mine < 0 && !c->untied && !c->scalar_head);
        const int i = paramset_add(ps, p.name, p.ndim, p.shape, p.decay);
        ps->v[i].matrices = p.matrices;
        ps->v[i].first_rows = p.first_rows;
        ps->v[i].halves = p.decay && strcmp(p.name, "wpe.weight") != 0 && p.shape[0] > 1;
        part = mine;
    }
}

/* --- families and files ----------------------------------------------------------------------- */

#define LLAMA_BLOCK .mlp = MLP_SWIGLU, .rms = true, .rope = true
static_assert(MODEL_OPT + 1 == FAMILIES, "model.family lists the families in their order");
#define ROPE_FREE  "rope_theta rope_factor rope_low rope_high rope_original"
#define LLAMA_FREE "untied norm_eps kv_heads head ffn " ROPE_FREE
const ArchFamilyInfo arch_family[FAMILIES] = {
    {"gpt2",
     "GPT2",
     "gpt2",
     "transformer.",
     HF_GPT2,
     GGUF_ONE,
     "bias mlp untied norm_eps ffn",
     {.bias = BIAS_ALL, .norm_eps = 1e-5}},
    {"llama",
     "Llama",
     "llama",
     "model.",
     HF_LLAMA,
     GGUF_THREE,
     LLAMA_FREE,
     {LLAMA_BLOCK, .norm_eps = 1e-5, .rope_theta = 1e4}},
    {"qwen2",
     "Qwen2",
     "qwen2",
     "model.",
     HF_LLAMA,
     GGUF_THREE,
     LLAMA_FREE,
     {LLAMA_BLOCK, .bias = BIAS_QKV, .norm_eps = 1e-6, .rope_theta = 1e6}},
    {"qwen3",
     "Qwen3",
     "qwen3",
     "model.",
     HF_LLAMA,
     GGUF_THREE,
     LLAMA_FREE,
     {LLAMA_BLOCK, .qk_norm = true, .norm_eps = 1e-6, .rope_theta = 1e6}},
    {"gpt_neox",
     "GPTNeoX",
     "gptneox",
     "gpt_neox.",
     HF_NEOX,
     GGUF_ONE,
     "mlp untied norm_eps ffn parallel rope_columns " ROPE_FREE,
     {.bias = BIAS_ALL,
      .mlp = MLP_GELU_ERF,
      .untied = true,
      .parallel = true,
      .norm_eps = 1e-5,
      .rope = true,
      .rope_theta = 1e4}},
    {"opt",
     "OPT",
     NULL,
     "model.",
     HF_OPT,
     GGUF_ONE,
     "mlp untied ffn",
     {.bias = BIAS_ALL, .mlp = MLP_RELU, .norm_eps = 1e-5}},
};

static bool has_word(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += n)
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n])) return true;
    return false;
}

const ArchField *arch_unlike(const GptConfig *c) {
    GptConfig like = arch_family[c->family].is;
    like.heads = c->heads, like.width = c->width;
    for (const ArchField *f = arch_fields; f < arch_fields + arch_nfields; f++) {
        const bool is_free = has_word(arch_family[c->family].free, f->name);
        const bool gate =
            f->at == offsetof(GptConfig, mlp) && (c->mlp == MLP_SWIGLU) != (like.mlp == MLP_SWIGLU);
        const bool size = f->type == ARCH_COUNT && f->lowest > 0;
        const bool role = f->at == offsetof(GptConfig, family) ||
                          f->at == offsetof(GptConfig, scalar_head) ||
                          (f->at == offsetof(GptConfig, untied) && c->scalar_head);
        const bool qkv =
            f->at == offsetof(GptConfig, bias) && c->bias == BIAS_QKV && like.bias != BIAS_QKV;
        if (gate || qkv) return f;
        if (is_free || size || role || (is_rope(f) && !c->rope)) continue;
        const bool whole = f->at == offsetof(GptConfig, rope_columns);
        if (arch_get(c, f) != (whole ? (double)arch_head(c) : arch_get(&like, f))) return f;
    }
    return NULL;
}

static ArchOrder order_of(const ArchFamilyInfo *f, const struct Row *r, bool matrix,
                          ArchFormat format, int piece) {
    if (format == ARCH_GGUF)
        return f->gguf_names == GGUF_THREE && strcmp(f->gguf, "llama") == 0 && r->shape[0] == QKV &&
                       piece < 2
                   ? ORDER_PAIRS
                   : ORDER_ROWS;
    if (f->hf_names == HF_NEOX && r->shape[0] == QKV) return ORDER_PER_HEAD;
    return f->hf_names == HF_GPT2 && matrix && (r->kind == LINEAR || r->kind == RESIDUAL)
               ? ORDER_TRANSPOSED
               : ORDER_ROWS;
}

/* The k-th of the names that a pattern stands for: "a.{q,k,v}_b" are three. */
static bool name_of(char *out, size_t size, const char *pattern, int k, int layer, bool bias) {
    const char *open = strchr(pattern, '{'), *from = pattern, *rest = pattern;
    int len = 0;
    if (open) {
        for (from = open + 1; k > 0 && from; k--)
            from = strpbrk(from, ",}")[0] == ',' ? strchr(from, ',') + 1 : NULL;
        if (!from) return false;
        len = (int)strcspn(from, ",}");
        rest = strchr(open, '}') + 1;
    } else if (k > 0)
        return false;
    char plain[ARCH_NAME_MAX], name[ARCH_NAME_MAX];
    snprintf(plain, sizeof plain, "%.*s%.*s%s", open ? (int)(open - pattern) : 0, pattern, len,
             from, rest);
    snprintf(name, sizeof name, plain, layer);
    const int n = snprintf(out, size, "%s%s", name, bias ? ".bias" : ".weight");
    CHECK(n >= 0 && (size_t)n < size, "the name %s is too long", name);
    return true;
}

int arch_pieces(const GptConfig *c, const ArchParam *p, ArchFormat format,
                ArchPiece piece[ARCH_PIECES]) {
    const ArchFamilyInfo *f = &arch_family[c->family];
    const struct Row *r = &rows[p->row];
    const char *pattern = r->file[format == ARCH_HF ? f->hf_names : f->gguf_names];
    const bool bias = p->slot != r->weight;
    int n = 0;
    if (!*pattern || (format == ARCH_GGUF && !f->gguf) || (r->kind == HEAD && bias)) return 0;
    for (int64_t at = 0; name_of(piece[n].name, sizeof piece[n].name, pattern, n, p->layer, bias);
         n++) {
        const bool all = !strchr(pattern, '{');
        const int64_t first = r->shape[0] == QKV ? extent(c, HEADS) : arch_ffn(c);
        const int64_t others = r->shape[0] == QKV ? arch_kv_heads(c) * arch_head(c) : first;
        piece[n].row = at;
        piece[n].rows = all ? p->shape[0] : n == 0 ? first : others;
        piece[n].skip = format == ARCH_HF && c->family == FAMILY_OPT && r->shape[0] == T ? 2 : 0;
        piece[n].order = order_of(f, r, p->ndim == 2, format, n);
        at += piece[n].rows;
    }
    return n;
}

int64_t arch_row(const GptConfig *c, const ArchPiece *piece, int64_t r) {
    const int64_t d = arch_head(c), head = r / d, j = r % d;
    switch (piece->order) {
    case ORDER_PER_HEAD: return (head % 3 * c->heads + head / 3) * d + j;
    case ORDER_PAIRS: return head * d + j % 2 * (d / 2) + j / 2;
    default: return r - piece->skip;
    }
}

/* --- settings --------------------------------------------------------------------------------- */

/* A setting whose first word is `family`: the family's value, or that of the word. */
static int choice(int word, int family, const int *values) {
    return word == 0 ? family : values[word - 1];
}

int arch_of_config(GptConfig *out, const Config *c, int64_t vocab) {
    static const int bias[] = {BIAS_ALL, BIAS_NONE, BIAS_QKV}, yes_no[] = {1, 0}, no_yes[] = {0, 1},
                     mlp[] = {MLP_GELU_TANH, MLP_GELU_ERF, MLP_RELU, MLP_SWIGLU};
    const GptConfig *f = &arch_family[c->model_family].is;
    GptConfig g = {.family = c->model_family,
                   .vocab = vocab,
                   .context = c->model_context,
                   .layers = c->model_layers,
                   .heads = c->model_heads,
                   .kv_heads = c->model_kv_heads,
                   .head = c->model_head_size,
                   .width = c->model_width,
                   .ffn = c->model_ffn,
                   .bias = choice(c->model_bias, f->bias, bias),
                   .mlp = choice(c->model_mlp, f->mlp, mlp),
                   .untied = choice(c->model_tied, f->untied, no_yes),
                   .rms = choice(c->model_norm, f->rms, no_yes),
                   .parallel = choice(c->model_residual, f->parallel, no_yes),
                   .qk_norm = choice(c->model_qk_norm, f->qk_norm, yes_no),
                   .norm_eps = c->model_norm_eps > 0 ? c->model_norm_eps : f->norm_eps,
                   .rope = choice(c->model_positions, f->rope, no_yes)};
    if (!g.head && g.width % g.heads)
        return config_bad(c, "model.heads",
                          "is %" PRId64 ", which does not divide model.width (%" PRId64
                          "); choose another, or give model.head_size",
                          g.heads, g.width);
    if (g.heads % arch_kv_heads(&g))
        return config_bad(c, "model.kv_heads",
                          "is %" PRId64 ", which does not divide model.heads (%" PRId64 ")",
                          g.kv_heads, g.heads);
    if (g.rope) {
        const double quarter = c->model_family == FAMILY_GPT_NEOX ? 0.25 : 1;
        const double share = c->model_rope_fraction > 0 ? c->model_rope_fraction : quarter;
        g.rope_columns = (int64_t)((double)arch_head(&g) * share);
        g.rope_theta = c->model_rope_theta > 0 ? c->model_rope_theta
                       : f->rope_theta > 0     ? f->rope_theta
                                               : 1e4;
        if (g.rope_columns < 2 || g.rope_columns % 2)
            return config_bad(c, "model.rope_fraction",
                              "%g of a head's %" PRId64 " columns are %" PRId64
                              ", expected an even number: columns are rotated in pairs",
                              share, arch_head(&g), g.rope_columns);
    }
    *out = g;
    return arch_check(out);
}
