/* gguf_export.c: a checkpoint becomes a GGUF file. What llama.cpp computes follows from the family's
 * name, so a model whose switches are not its family's is refused. Words of our own ("rhetor.") say
 * what GGUF has none for; llama.cpp passes over them. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "checkpoints/exchange/gguf_model.h"
#include "checkpoints/exchange/gguf_rope.h"
#include "checkpoints/exchange/load.h"

#define ROPE_TENSOR "rope_freqs.weight"

typedef struct GgufExport {
    Loaded model;
    GptConfig full; /* with the biases that the file must have */
    GgufType type;
    json_t *meta;
    GgufTensor *t;
    int n;
    GgufWriter *file;
} GgufExport;

/* --- the description -------------------------------------------------------------------------- */

static int check_switches(const Loaded *l) {
    const GptConfig *c = &l->cfg, *is = &arch_family[c->family].is;
    const char *name = arch_family[c->family].name, *wrong = NULL;
    if (c->scalar_head)
        return error_set(ERR_DATA,
                         "%s: is a reward model, which GGUF has no word for; export it as "
                         "hf",
                         l->path);
    if (!arch_family[c->family].gguf)
        return error_set(ERR_DATA, "%s: GGUF has no word for the family %s; export it as hf",
                         l->path, name);
    if (c->mlp != is->mlp) wrong = "mlp";
    if (c->rms != is->rms) wrong = "norm";
    if (c->rope != is->rope) wrong = "positions";
    if (c->qk_norm != is->qk_norm) wrong = "qk_norm";
    if (c->parallel != is->parallel && c->family != FAMILY_GPT_NEOX) wrong = "residual";
    if (c->bias != is->bias && c->family != FAMILY_GPT2) wrong = "bias";
    if (!wrong) return 0;
    return error_set(ERR_DATA,
                     "%s: its %s is not that of the family %s, and GGUF has no word for "
                     "it; export it as hf",
                     l->path, wrong, name);
}

static void put(const GgufExport *e, const char *key, json_t *value) {
    AUTOFREE char *name = xasprintf("%s.%s", arch_family[e->full.family].gguf, key);
    json_object_set_new(e->meta, name, value);
}

static void describe_sizes(const GgufExport *e) {
    const GptConfig *c = &e->full;
    put(e, "block_count", json_integer(c->layers));
    put(e, "context_length", json_integer(c->context));
    put(e, "embedding_length", json_integer(c->width));
    put(e, "feed_forward_length", json_integer(arch_ffn(c)));
    put(e, "attention.head_count", json_integer(c->heads));
    put(e, "attention.head_count_kv", json_integer(arch_kv_heads(c)));
    put(e, "attention.key_length", json_integer(arch_head(c)));
    put(e, "attention.value_length", json_integer(arch_head(c)));
    put(e, c->rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon",
        json_real(c->norm_eps));
    put(e, "vocab_size", json_integer(c->vocab));
    if (c->rope) {
        put(e, "rope.dimension_count",
            json_integer(c->rope_columns ? c->rope_columns : arch_head(c)));
        put(e, "rope.freq_base", json_real(c->rope_theta));
    }
    if (c->family == FAMILY_GPT_NEOX) put(e, "use_parallel_residual", json_boolean(c->parallel));
}

/* What GGUF has no word for. */
static void describe_ours(const GgufExport *e) {
    const Loaded *l = &e->model;
    const GptConfig *c = &l->cfg;
    json_auto_t *tmpl = template_to_json(l->tmpl);
    AUTOFREE char *text = json_dumps(tmpl, JSON_ENCODE_ANY | JSON_COMPACT);
    json_object_set_new(e->meta, "rhetor.template", json_string(text));
    json_object_set_new(e->meta, "rhetor.checkpoint", json_string(l->id));
    if (l->nend == 1 && l->nstop > 1)
        json_object_set_new(e->meta, "rhetor.stop", json_integer(l->stop[0]));
    if (c->bias == BIAS_NONE && e->full.bias != BIAS_NONE)
        json_object_set_new(e->meta, "rhetor.bias", json_string("none"));
    if (!c->rope || c->rope_factor == 0) return;
    json_auto_t *rope =
        json_pack("{s:f, s:f, s:f, s:I}", "factor", c->rope_factor, "low", c->rope_low, "high",
                  c->rope_high, "original", (json_int_t)c->rope_original);
    AUTOFREE char *words = json_dumps(rope, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_object_set_new(e->meta, "rhetor.rope", json_string(words));
}

static int describe(GgufExport *e) {
    static const int file_type[GGUF_NTYPES] = {[GGUF_F16] = 1, [GGUF_Q8_0] = 7, [GGUF_BF16] = 32};
    const Loaded *l = &e->model;
    e->meta = json_object();
    json_object_set_new(e->meta, "general.architecture",
                        json_string(arch_family[e->full.family].gguf));
    json_object_set_new(e->meta, "general.name", json_string("rhetor"));
    json_object_set_new(e->meta, "general.file_type", json_integer(file_type[e->type]));
    json_object_set_new(e->meta, "general.quantization_version", json_integer(2));
    describe_sizes(e);
    describe_ours(e);
    if (l->tokenizer) return tokenizer_to_gguf(l->tokenizer, l->cfg.vocab, e->meta);
    json_object_set_new(e->meta, "tokenizer.ggml.model", json_string("no_vocab"));
    return 0;
}

/* --- tensors ---------------------------------------------------------------------------------- */

static void add_tensor(GgufExport *e, const char *name, GgufType type, int ndim, int64_t rows,
                       int64_t cols) {
    e->t = xrealloc(e->t, (size_t)(e->n + 1) * sizeof *e->t);
    e->t[e->n++] = (GgufTensor){.name = xstrdup(name),
                                .type = type,
                                .ndim = ndim,
                                .shape = {rows, cols},
                                .n = rows * (ndim == 2 ? cols : 1)};
}

/* Matrices whose rows are no whole blocks stay F32, as all vectors do. */
static void list_tensors(GgufExport *e) {
    ArchPiece q[ARCH_PIECES];
    int64_t bytes;
    const GptConfig *c = &e->full;
    for (ArchParam p = {0}; arch_next(c, &p);)
        for (int k = 0, n = arch_pieces(c, &p, ARCH_GGUF, q); k < n; k++) {
            const bool whole = p.ndim == 2 && p.shape[1] % gguf_block(e->type, &bytes) == 0;
            add_tensor(e, q[k].name, whole ? e->type : GGUF_F32, p.ndim, q[k].rows, p.shape[1]);
        }
    if (c->rope && c->rope_factor != 0)
        add_tensor(e, ROPE_TENSOR, GGUF_F32, 1,
                   (c->rope_columns ? c->rope_columns : arch_head(c)) / 2, 0);
}

/* Zeros where the model has none: biases. */
static int write_piece(GgufExport *e, const ArchParam *p, const ArchPiece *q) {
    const Tensor *t = paramset_find(&e->model.gpt->params, p->name);
    const int64_t cols = p->ndim == 2 ? p->shape[1] : q->rows, rows = p->ndim == 2 ? q->rows : 1;
    AUTOFREE float *x = xcalloc((size_t)cols, sizeof *x);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < cols && t; i++)
            x[i] = (float)(p->ndim == 2 ? t->data[(q->row + arch_row(&e->full, q, r)) * cols + i]
                                        : t->data[q->row + arch_row(&e->full, q, i)]);
        TRY(gguf_write(e->file, x, cols));
    }
    return 0;
}

static int write_tensors(GgufExport *e) {
    ArchPiece q[ARCH_PIECES];
    const GptConfig *c = &e->full;
    for (ArchParam p = {0}; arch_next(c, &p);)
        for (int k = 0, n = arch_pieces(c, &p, ARCH_GGUF, q); k < n; k++)
            TRY(write_piece(e, &p, &q[k]));
    if (!c->rope || c->rope_factor == 0) return 0;
    const int64_t n = e->t[e->n - 1].n;
    AUTOFREE float *factor = xmalloc((size_t)n * sizeof *factor);
    gguf_rope_factors(c, factor);
    return gguf_write(e->file, factor, n);
}

int gguf_export(const char *path, const char *file, GgufType type) {
    GgufExport e = {.type = type};
    int rc;
    if (file_exists(file))
        return error_set(ERR_USAGE, "%s: is there already; choose a new name", file);
    TRY_GOTO(done, load_model(&e.model, path, "the model", LOAD_EITHER));
    TRY_GOTO(done, check_switches(&e.model));
    e.full = e.model.cfg;
    if (e.full.family == FAMILY_GPT2) e.full.bias = BIAS_ALL;
    TRY_GOTO(done, describe(&e));
    list_tensors(&e);
    TRY_GOTO(done, gguf_create(&e.file, file, e.meta, e.t, e.n));
    TRY_GOTO(done, write_tensors(&e));
    rc = gguf_commit(&e.file);
done:
    gguf_abandon(&e.file);
    for (int i = 0; i < e.n; i++) free(e.t[i].name);
    free(e.t);
    json_decref(e.meta);
    load_free(&e.model);
    return rc < 0 ? rc : 0;
}
