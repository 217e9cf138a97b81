/* gguf_import.c: a GGUF file becomes a checkpoint.
 *
 * The metadata say what the model is, under the architecture's name ("llama.block_count"). A word of
 * theirs that is not understood might change what the model computes, so it is refused; so is a
 * tensor that is no parameter. Everything is checked before memory is taken for the model. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "checkpoints/exchange/gguf_model.h"
#include "checkpoints/exchange/gguf_rope.h"
#include "checkpoints/exchange/import.h"
#include "checkpoints/exchange/load.h"

enum { BLOCK_VALUES = 1 << 16 /* elements on their way between file and model */ };

typedef struct GgufImport {
    Gguf *file;
    const json_t *meta;
    const char *arch;
    GptConfig cfg;
    json_t *used; /* names of the tensors that became parameters, or say what one says */
    Gpt *gpt;
} GgufImport;

/* --- the description -------------------------------------------------------------------------- */

static const json_t *get(const GgufImport *m, const char *key) {
    AUTOFREE char *name = xasprintf("%s.%s", m->arch, key);
    return json_object_get(m->meta, name);
}

static int bad(const GgufImport *m, const char *key, const char *expected) {
    AUTOFREE char *found = json_dumps(get(m, key), JSON_ENCODE_ANY | JSON_COMPACT);
    return error_set(ERR_DATA, "%s: %s.%s is %.60s, expected %s", gguf_path(m->file), m->arch, key,
                     found ? found : "not there", expected);
}

static int get_count(const GgufImport *m, const char *key, bool must, int64_t *out) {
    const json_t *v = get(m, key);
    if (!v && !must) return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > INT32_MAX)
        return bad(m, key, "a count");
    *out = json_integer_value(v);
    return 0;
}

static int get_real(const GgufImport *m, const char *key, double *out) {
    const json_t *v = get(m, key);
    if (!v) return 0;
    if (!json_is_number(v) || !(json_number_value(v) > 0)) return bad(m, key, "a number above 0");
    *out = json_number_value(v);
    return 0;
}

/* An f32 such as 0.00001 as the double that was meant, so that a model described elsewhere has the
 * same description. */
static double as_written(double x) {
    char text[32];
    snprintf(text, sizeof text, "%.7g", x);
    return strtod(text, NULL);
}

static int check_words(const GgufImport *m) {
    static const char *const known[] = {"block_count",
                                        "context_length",
                                        "embedding_length",
                                        "feed_forward_length",
                                        "attention.head_count",
                                        "attention.head_count_kv",
                                        "attention.key_length",
                                        "attention.value_length",
                                        "rope.dimension_count",
                                        "rope.freq_base",
                                        "vocab_size",
                                        "attention.layer_norm_epsilon",
                                        "use_parallel_residual",
                                        "attention.layer_norm_rms_epsilon",
                                        "tensor_data_layout"};
    const size_t n = strlen(m->arch);
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)m->meta, key, v) {
        if (strncmp(key, m->arch, n) != 0 || key[n] != '.') continue;
        bool is = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            is |= strcmp(key + n + 1, known[i]) == 0;
        const bool nothing = json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0) ||
                             (json_is_string(v) && strcmp(json_string_value(v), "none") == 0);
        const bool unscaled = strcmp(key + n + 1, "rope.scaling.factor") == 0 &&
                              json_is_number(v) && json_number_value(v) == 1;
        if (!is && !nothing && !unscaled)
            return error_set(ERR_DATA, "%s: %.200s is set, which Rhetor does not have",
                             gguf_path(m->file), key);
    }
    return 0;
}

static int find_family(GgufImport *m) {
    Text known = {0};
    m->arch = json_string_value(json_object_get(m->meta, "general.architecture"));
    for (int f = 0; f < FAMILIES; f++) {
        const char *name = arch_family[f].gguf;
        if (!name) continue;
        if (m->arch && strcmp(m->arch, name) == 0) {
            free(known.s);
            m->cfg = arch_family[f].is;
            m->cfg.family = f;
            return 0;
        }
        text_put(&known, "%s%s", known.n ? ", " : "", name);
    }
    AUTOFREE char *names = text_take(&known);
    return error_set(ERR_DATA, "%s: general.architecture is \"%s\", expected one of %s",
                     gguf_path(m->file), m->arch ? m->arch : "(none)", names);
}

/* Sizes and numbers; what is not given is as llama.cpp has it. */
static int read_sizes(GgufImport *m) {
    GptConfig *c = &m->cfg;
    const bool rms = c->rms;
    int64_t value = 0;
    TRY(get_count(m, "block_count", true, &c->layers));
    TRY(get_count(m, "context_length", true, &c->context));
    TRY(get_count(m, "embedding_length", true, &c->width));
    TRY(get_count(m, "feed_forward_length", true, &c->ffn));
    TRY(get_count(m, "attention.head_count", true, &c->heads));
    c->kv_heads = c->heads;
    TRY(get_count(m, "attention.head_count_kv", false, &c->kv_heads));
    if (c->width % c->heads && !get(m, "attention.key_length"))
        return bad(m, "attention.head_count", "a divisor of embedding_length");
    c->head = c->width / c->heads;
    TRY(get_count(m, "attention.key_length", false, &c->head));
    value = c->head;
    TRY(get_count(m, "attention.value_length", false, &value));
    if (value != c->head) return bad(m, "attention.value_length", "that of keys");
    const char *eps = rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
    if (!get(m, eps)) return bad(m, eps, "a number above 0");
    TRY(get_real(m, eps, &c->norm_eps));
    c->norm_eps = as_written(c->norm_eps);
    if (!c->rope) return 0;
    c->rope_columns = c->head;
    TRY(get_count(m, "rope.dimension_count", false, &c->rope_columns));
    c->rope_theta = 1e4;
    TRY(get_real(m, "rope.freq_base", &c->rope_theta));
    c->rope_theta = as_written(c->rope_theta);
    if (c->rope_columns > c->head || c->rope_columns % 2)
        return bad(m, "rope.dimension_count", "an even number, not above that of a head");
    return 0;
}

static int read_description(GgufImport *m) {
    TRY(find_family(m));
    TRY(check_words(m));
    TRY(read_sizes(m));
    const json_t *parallel = get(m, "use_parallel_residual");
    if (parallel) m->cfg.parallel = json_is_true(parallel);
    const char *bias = json_string_value(json_object_get(m->meta, "rhetor.bias"));
    if (bias && strcmp(bias, "none") == 0) m->cfg.bias = BIAS_NONE;
    return 0;
}

/* --- tensors ---------------------------------------------------------------------------------- */

/* The same bytes: some files hold the matrix of a tied model twice. */
static int same_values(const GgufImport *m, const GgufTensor *a, const GgufTensor *b, bool *same) {
    AUTOFREE float *x = xmalloc(BLOCK_VALUES * sizeof *x), *y = xmalloc(BLOCK_VALUES * sizeof *y);
    *same = a->type == b->type && a->n == b->n;
    for (int64_t from = 0; from < a->n && *same; from += BLOCK_VALUES) {
        const int64_t n = a->n - from < BLOCK_VALUES ? a->n - from : BLOCK_VALUES;
        TRY(gguf_read(m->file, a, from, n, x));
        TRY(gguf_read(m->file, b, from, n, y));
        *same = memcmp(x, y, (size_t)n * sizeof *x) == 0;
    }
    return 0;
}

/* The vocabulary, whether logits have a matrix of their own, Llama 3's frequencies. */
static int read_layout(GgufImport *m) {
    const GgufTensor *table = gguf_find(m->file, "token_embd.weight"),
                     *output = gguf_find(m->file, "output.weight"),
                     *rope = gguf_find(m->file, "rope_freqs.weight");
    if (!table || table->ndim != 2)
        return error_set(ERR_DATA, "%s: no matrix token_embd.weight: no model is in the file",
                         gguf_path(m->file));
    m->cfg.vocab = table->shape[0];
    bool tied = !output;
    if (output) TRY(same_values(m, table, output, &tied));
    m->cfg.untied = !tied;
    if (output) json_object_set_new(m->used, output->name, json_true());
    if (rope && m->cfg.rope) {
        AUTOFREE float *factor = xmalloc((size_t)rope->n * sizeof *factor);
        TRY(gguf_read(m->file, rope, 0, rope->n, factor));
        const int rc =
            gguf_rope_read(&m->cfg, factor, rope->n, json_object_get(m->meta, "rhetor.rope"));
        if (rc < 0) return error_wrap(rc, "%s: rope_freqs.weight", gguf_path(m->file));
        json_object_set_new(m->used, rope->name, json_true());
    }
    const int rc = arch_check(&m->cfg);
    return rc < 0 ? error_wrap(ERR_DATA, "%s: what it describes", gguf_path(m->file)) : 0;
}

static int find_piece(const GgufImport *m, const ArchParam *p, const ArchPiece *q,
                      const GgufTensor **out) {
    const GgufTensor *t = *out = gguf_find(m->file, q->name);
    const int64_t want[2] = {q->rows, p->shape[1]};
    if (!t)
        return error_set(ERR_DATA, "%s: no tensor %s; the model is incomplete or of another kind",
                         gguf_path(m->file), q->name);
    if (t->ndim == p->ndim && t->shape[0] == want[0] && (t->ndim < 2 || t->shape[1] == want[1]))
        return 0;
    AUTOFREE char *found = text_shape(t->ndim, t->shape), *expected = text_shape(p->ndim, want);
    return error_set(ERR_DATA, "%s: %s has the shape %s, expected %s by the metadata",
                     gguf_path(m->file), t->name, found, expected);
}

/* Are all parameters there, in their shapes, and is nothing left over? */
static int check_tensors(GgufImport *m) {
    int n;
    const GgufTensor *t = gguf_list(m->file, &n);
    GptConfig full = m->cfg;
    if (full.family == FAMILY_GPT2) full.bias = BIAS_ALL; /* zeros, where a model has none */
    ArchPiece q[ARCH_PIECES];
    if (arch_count(&m->cfg) / 64 > INT64_MAX / 64 || m->cfg.layers > n)
        return error_set(ERR_DATA, "%s: describes %" PRId64 " layers, but has %d tensors",
                         gguf_path(m->file), m->cfg.layers, n);
    for (ArchParam p = {0}; arch_next(&full, &p);)
        for (int k = 0, pieces = arch_pieces(&full, &p, ARCH_GGUF, q); k < pieces; k++) {
            const GgufTensor *found;
            TRY(find_piece(m, &p, &q[k], &found));
            json_object_set_new(m->used, found->name, json_true());
        }
    for (int i = 0; i < n; i++)
        if (!json_object_get(m->used, t[i].name))
            return error_set(ERR_DATA,
                             "%s: tensor %.200s is none of a %s that the metadata describe",
                             gguf_path(m->file), t[i].name, m->arch);
    return 0;
}

static int read_piece(GgufImport *m, const ArchParam *p, const ArchPiece *q) {
    const GgufTensor *t;
    TRY(find_piece(m, p, q, &t));
    const bool vector = p->ndim == 1; /* its rows are its elements */
    const int64_t cols = vector ? 1 : p->shape[1];
    const int64_t some = vector ? q->rows : BLOCK_VALUES / cols + 1;
    AUTOFREE float *x = xmalloc((size_t)(some * cols) * sizeof *x);
    real *to = m->gpt->params.v[p->index].tensor.data + q->row * cols;
    for (int64_t from = 0; from < q->rows; from += some) {
        const int64_t n = q->rows - from < some ? q->rows - from : some;
        TRY(gguf_read(m->file, t, from * cols, n * cols, x));
        for (int64_t i = 0; i < n * cols; i++) {
            if (!isfinite(x[i]))
                return error_set(ERR_DATA, "%s: %s: element %" PRId64 " is %g", gguf_path(m->file),
                                 t->name, from * cols + i, (double)x[i]);
            const int64_t row = arch_row(&m->cfg, q, from + i / cols);
            to[row * cols + i % cols] = (real)x[i];
        }
    }
    return 0;
}

static int read_weights(GgufImport *m) {
    ArchPiece q[ARCH_PIECES];
    TRY(gpt_open(&m->gpt, &m->cfg, false));
    for (ArchParam p = {0}; arch_next(&m->cfg, &p);)
        for (int k = 0, n = arch_pieces(&m->cfg, &p, ARCH_GGUF, q); k < n; k++)
            TRY(read_piece(m, &p, &q[k]));
    return 0;
}

/* --- tokenizer and template ------------------------------------------------------------------- */

static int read_tokenizer(const GgufImport *m, const char *path, Tokenizer **t) {
    const char *kind = json_string_value(json_object_get(m->meta, "tokenizer.ggml.model"));
    if (path)
        TRY(tokenizer_load(t, path));
    else if (kind && strcmp(kind, "no_vocab") == 0)
        return 0;
    else
        TRY(tokenizer_from_gguf(t, m->meta, gguf_path(m->file)));
    return import_check_rows(path ? path : gguf_path(m->file), *t, m->cfg.vocab);
}

static int describe(const GgufImport *m, const Tokenizer *t, const char *tmpl, json_t *meta) {
    int64_t n = 0;
    const int32_t *stops = t ? tokenizer_stops(t, &n) : NULL;
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(list, json_integer(stops[i]));
    if (n > 0)
        json_object_set_new(meta, "eos", list);
    else
        json_decref(list);
    const char *jinja = json_string_value(json_object_get(m->meta, "tokenizer.chat_template"));
    const char *saved = json_string_value(json_object_get(m->meta, "rhetor.template"));
    json_auto_t *ours = saved ? json_loads(saved, JSON_DECODE_ANY, NULL) : NULL;
    const json_t *stop = json_object_get(m->meta, "rhetor.stop");
    if (json_is_integer(stop) && json_integer_value(stop) < m->cfg.vocab)
        json_object_set(meta, "stop", (json_t *)(uintptr_t)stop);
    return import_template(gguf_path(m->file), tmpl, ours, jinja, meta);
}

int gguf_import(const char *path, const char *out, const char *tokenizer, const char *tmpl) {
    GgufImport m = {.used = json_object()};
    Tokenizer *t = NULL;
    json_auto_t *meta = json_object();
    uint64_t hash = 0;
    int rc;
    TRY_GOTO(done, gguf_open(&m.file, path));
    m.meta = gguf_meta(m.file);
    TRY_GOTO(done, read_description(&m));
    TRY_GOTO(done, read_layout(&m));
    TRY_GOTO(done, check_tensors(&m));
    TRY_GOTO(done, read_tokenizer(&m, tokenizer, &t));
    TRY_GOTO(done, describe(&m, t, tmpl, meta));
    TRY_GOTO(done, read_weights(&m));
    TRY_GOTO(done, file_hash(path, &hash));
    TRY_GOTO(done, import_save(out, m.gpt, t, hash, meta));
done:
    gguf_close(&m.file);
    gpt_close(&m.gpt);
    tokenizer_close(&t);
    json_decref(m.used);
    return rc;
}
