/* arch.c: the tables of arch.h and what follows from them. */
#include "model/arch.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "model/gpt.h"

/* --- fields ----------------------------------------------------------------------------------- */

#define TYPE(x) _Generic((x), int64_t : ARCH_COUNT, bool : ARCH_FLAG, double : ARCH_REAL)
enum { ALWAYS, LATER };

const ArchField arch_fields[] = {
#define X(type, field, lowest, highest, since, fallback, ...) \
    {#field,                                                  \
     TYPE(((GptConfig *)0)->field),                           \
     offsetof(GptConfig, field),                              \
     lowest,                                                  \
     highest,                                                 \
     fallback,                                                \
     since == LATER,                                          \
     {__VA_ARGS__}},
    ARCH_FIELDS(X)
#undef X
};
const int arch_nfields = sizeof arch_fields / sizeof *arch_fields;

const ArchWord *arch_words(const ArchField *f) {
    static const ArchWord yes[] = {{"true", true}, {"false", false}, {0}};
    static const struct {
        const char *field;
        ArchWord word[ARCH_WORDS];
    } own[] = {
        {"gelu_erf",
         {{"gelu_new", false},
          {"gelu", true},
          {"gelu_python", true},
          {"gelu_fast", false},
          {"gelu_pytorch_tanh", false}}},
        {"untied", {{"true", false}, {"false", true}}},
    };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(f->name, own[i].field) == 0) return own[i].word;
    return yes;
}

double arch_get(const GptConfig *c, const ArchField *f) {
    const char *at = (const char *)c + f->at;
    switch (f->type) {
    case ARCH_COUNT: return (double)*(const int64_t *)(const void *)at;
    case ARCH_FLAG: return *(const bool *)at;
    default: return *(const double *)(const void *)at;
    }
}

void arch_set(GptConfig *c, const ArchField *f, double v) {
    char *at = (char *)c + f->at;
    switch (f->type) {
    case ARCH_COUNT: *(int64_t *)(void *)at = (int64_t)v; break;
    case ARCH_FLAG: *(bool *)at = v != 0; break;
    default: *(double *)(void *)at = v; break;
    }
}

GptConfig arch_of_config(const Config *c, int64_t vocab) {
    return (GptConfig){.vocab = vocab,
                       .context = c->model_context,
                       .layers = c->model_layers,
                       .heads = c->model_heads,
                       .width = c->model_width,
                       .bias = c->model_bias,
                       .norm_eps = 1e-5};
}

int arch_check(const GptConfig *c) {
    for (const ArchField *f = arch_fields; f < arch_fields + arch_nfields; f++) {
        const double v = arch_get(c, f);
        if (f->type == ARCH_REAL ? v > f->lowest && v < f->highest
                                 : v >= f->lowest && v <= f->highest)
            continue;
        return error_set(ERR_CONFIG, "model.%s is %.10g, expected %s%.10g %s %.10g", f->name, v,
                         f->type == ARCH_REAL ? "above " : "", f->lowest,
                         f->type == ARCH_REAL ? "and below" : "to", f->highest);
    }
    if (c->width % c->heads)
        return error_set(ERR_CONFIG,
                         "model.width is %" PRId64 ", expected a multiple of model.heads (%" PRId64
                         ")",
                         c->width, c->heads);
    if (c->untied && c->scalar_head)
        return error_set(ERR_CONFIG, "model.untied: a model with a scalar head has no logits");
    return 0;
}

const ArchField *arch_differ(const GptConfig *a, const GptConfig *b) {
    const bool head = a->scalar_head || b->scalar_head;
    for (const ArchField *f = arch_fields; f < arch_fields + arch_nfields; f++) {
        if (f->at == offsetof(GptConfig, scalar_head)) continue;
        if (f->at == offsetof(GptConfig, untied) && head) continue; /* one of them has no logits */
        if (arch_get(a, f) != arch_get(b, f)) return f;
    }
    return NULL;
}

json_t *arch_to_json(const GptConfig *c) {
    json_t *j = json_object();
    for (const ArchField *f = arch_fields; f < arch_fields + arch_nfields; f++) {
        const double v = arch_get(c, f);
        json_object_set_new(j, f->name,
                            f->type == ARCH_COUNT  ? json_integer((json_int_t)v)
                            : f->type == ARCH_FLAG ? json_boolean(v != 0)
                                                   : json_real(v));
    }
    return j;
}

int arch_from_json(GptConfig *c, const json_t *j) {
    *c = (GptConfig){0};
    for (const ArchField *f = arch_fields; f < arch_fields + arch_nfields; f++) {
        const json_t *v = json_object_get(j, f->name);
        const bool right = f->type == ARCH_COUNT  ? json_is_integer(v)
                           : f->type == ARCH_FLAG ? json_is_boolean(v)
                                                  : json_is_number(v);
        if (right)
            arch_set(c, f, f->type == ARCH_FLAG ? json_is_true(v) : json_number_value(v));
        else if (v || !f->later)
            return error_set(ERR_DATA, "the description of the model: \"%s\" is %s", f->name,
                             v ? "of another type" : "missing");
    }
    return 0;
}

char *arch_text(const GptConfig *c) {
    return xasprintf("%" PRId64 " layers, width %" PRId64 ", %" PRId64 " heads, vocabulary %" PRId64
                     ", context %" PRId64 "%s%s%s%s",
                     c->layers, c->width, c->heads, c->vocab, c->context,
                     c->bias ? "" : ", no biases", c->gelu_erf ? ", exact GELU" : "",
                     c->untied ? ", untied" : "", c->scalar_head ? ", scalar head" : "");
}

/* --- parameters ------------------------------------------------------------------------------- */

typedef enum ArchKind {
    TABLE,    /* rows that are looked up; no bias */
    NORM,     /* a layer norm's gain and bias */
    LINEAR,   /* weight and bias */
    RESIDUAL, /* the same, added to the residual stream */
    OUTPUT,   /* untied: makes the logits; no bias */
    HEAD,     /* scalar_head: weight and always a bias */
} ArchKind;
typedef enum Dim { NONE, ONE, C, C3, C4, T, V } Dim; /* 1, width, 3 and 4 times, context, vocab */
enum { AS_IS, TRANSPOSED };

#define TOP(member)   offsetof(Gpt, member)
#define BLOCK(member) offsetof(GptBlock, member)

/* name, what it is, its shape, its place in Gpt, its bias's, Hugging Face's name (".weight" and
 * ".bias" follow) and whether the matrix is transposed there, GGUF's name. Rows with %d are a
 * block's: they come once for each layer. */
/* clang-format off */
static const struct Row {
    const char *name;
    ArchKind kind;
    Dim shape[2];
    size_t weight, bias;
    const char *hf;
    bool transposed;
    const char *gguf;
} rows[] = {
    {"wte", TABLE, {V, C}, TOP(wte), 0, "transformer.wte", AS_IS, "token_embd"},
    {"wpe", TABLE, {T, C}, TOP(wpe), 0, "transformer.wpe", AS_IS, "position_embd"},
    {"h.%d.norm1", NORM, {C}, BLOCK(norm1_w), BLOCK(norm1_b),
     "transformer.h.%d.ln_1", AS_IS, "blk.%d.attn_norm"},
    {"h.%d.attn.qkv", LINEAR, {C3, C}, BLOCK(qkv_w), BLOCK(qkv_b),
     "transformer.h.%d.attn.c_attn", TRANSPOSED, "blk.%d.attn_qkv"},
    {"h.%d.attn.proj", RESIDUAL, {C, C}, BLOCK(proj_w), BLOCK(proj_b),
     "transformer.h.%d.attn.c_proj", TRANSPOSED, "blk.%d.attn_output"},
    {"h.%d.norm2", NORM, {C}, BLOCK(norm2_w), BLOCK(norm2_b),
     "transformer.h.%d.ln_2", AS_IS, "blk.%d.ffn_norm"},
    {"h.%d.mlp.fc", LINEAR, {C4, C}, BLOCK(fc_w), BLOCK(fc_b),
     "transformer.h.%d.mlp.c_fc", TRANSPOSED, "blk.%d.ffn_up"},
    {"h.%d.mlp.proj", RESIDUAL, {C, C4}, BLOCK(fc2_w), BLOCK(fc2_b),
     "transformer.h.%d.mlp.c_proj", TRANSPOSED, "blk.%d.ffn_down"},
    {"norm_f", NORM, {C}, TOP(norm_f_w), TOP(norm_f_b), "transformer.ln_f", AS_IS, "output_norm"},
    {"lm_head", OUTPUT, {V, C}, TOP(out_w), 0, "lm_head", AS_IS, "output"},
    {"head", HEAD, {ONE, C}, TOP(head_w), TOP(head_b), "score", AS_IS, ""},
};
/* clang-format on */
enum { ROWS = sizeof rows / sizeof *rows };

static bool is_block(const struct Row *r) { return strchr(r->name, '%') != NULL; }

static bool is_there(const GptConfig *c, const struct Row *r) {
    return r->kind == OUTPUT ? c->untied : r->kind == HEAD ? c->scalar_head : true;
}

static bool has_bias(const GptConfig *c, const struct Row *r) {
    if (r->kind == TABLE || r->kind == OUTPUT) return false;
    return r->kind == HEAD || c->bias;
}

static int64_t extent(const GptConfig *c, Dim d) {
    switch (d) {
    case NONE: return 0;
    case ONE: return 1;
    case C: return c->width;
    case C3: return 3 * c->width;
    case C4: return 4 * c->width;
    case T: return c->context;
    default: return c->vocab;
    }
}

static void name_it(char *out, size_t size, const char *pattern, int layer, const char *suffix) {
    char name[ARCH_NAME_MAX - 8];
    snprintf(name, sizeof name, pattern, layer);
    const int n = snprintf(out, size, "%s%s", name, *name ? suffix : "");
    CHECK(n >= 0 && (size_t)n < size, "the name %s%s is too long", name, suffix);
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

bool arch_next(const GptConfig *c, ArchParam *p) {
    while (p->next_row < ROWS && !is_there(c, &rows[p->next_row])) p->next_row++;
    if (p->next_row == ROWS) return false;
    const struct Row *r = &rows[p->row = p->next_row];
    const bool bias = p->next_bias;
    const char *suffix = bias ? ".bias" : ".weight";
    p->index += p->ndim != 0; /* the first is 0 */
    p->layer = is_block(r) ? p->next_layer : -1;
    name_it(p->name, sizeof p->name, r->name, p->layer, suffix);
    name_it(p->hf, sizeof p->hf, r->hf, p->layer, suffix);
    name_it(p->gguf, sizeof p->gguf, r->gguf, p->layer, suffix);
    if (r->kind == HEAD && bias) *p->hf = '\0';
    p->ndim = bias || r->shape[1] == NONE ? 1 : 2;
    p->n = p->shape[0] = extent(c, r->shape[0]);
    p->shape[1] = p->ndim == 2 ? extent(c, r->shape[1]) : 0;
    if (p->ndim == 2) p->n *= p->shape[1];
    p->decay = p->ndim == 2;
    p->transposed = p->decay && r->transposed;
    p->matrices =
        p->decay && (r->kind == LINEAR || r->kind == RESIDUAL) ? (r->shape[0] == C3 ? 3 : 1) : 0;
    p->residual = p->decay && r->kind == RESIDUAL;
    p->gain = !bias && r->kind == NORM;
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
        part = mine;
    }
}
