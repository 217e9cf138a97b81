/* hf_import.c: a model in a Hugging Face folder becomes a checkpoint.
 *
 * config.json says what the model is; the tensors must bear it out: every parameter is there, in
 * its shape, finite, and no tensor is left over. Before memory is taken the parameters are counted
 * against the numbers in the files. Values come in pieces, so nothing is held twice. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "checkpoints/exchange/hf_impl.h"
#include "checkpoints/exchange/import.h"
#include "checkpoints/exchange/load.h"
#include "checkpoints/exchange/safetensors.h"

enum { MAX_FILES = 1000 };

typedef struct Import {
    const char *dir;
    HfConfig config;
    GptConfig cfg;
    SafeTensors *file[MAX_FILES];
    int nfile;
    bool bare;                  /* the trunk was saved alone: names lack the family's prefix */
    char output[ARCH_NAME_MAX]; /* the tensor that makes the logits in an untied model */
    char *jinja;                /* the model's chat template, NULL: none */
    uint64_t hash;              /* of the files' bytes */
    json_t *used;               /* names of the tensors that became parameters */
    Gpt *gpt;
} Import;

/* --- the tensors' files ----------------------------------------------------------------------- */

static int open_file(Import *m, const char *name) {
    if (m->nfile == MAX_FILES)
        return error_set(ERR_DATA, "%s: more than %d files of tensors", m->dir, MAX_FILES);
    AUTOFREE char *path = file_join(m->dir, name);
    uint64_t hash = 0;
    int rc = safetensors_open(&m->file[m->nfile], path);
    if (rc == 0) {
        m->nfile++;
        rc = file_hash(path, &hash);
        m->hash = m->nfile == 1 ? hash : hash_combine(m->hash, hash);
    }
    return rc;
}

static SafeTensors *file_named(const Import *m, const char *name) {
    for (int i = 0; i < m->nfile; i++)
        if (strcmp(file_basename(safetensors_path(m->file[i])), name) == 0) return m->file[i];
    return NULL;
}

/* {"weight_map": {tensor: file}}. A file's name is a name, not a way out of the folder. */
static int open_shards(Import *m, const json_t *index, const char *path) {
    const json_t *map = json_object_get(index, "weight_map");
    const char *tensor;
    json_t *v;
    if (!json_is_object(map) || json_object_size(map) == 0)
        return error_set(ERR_DATA, "%s: no \"weight_map\" of tensors and files", path);
    json_object_foreach((json_t *)(uintptr_t)map, tensor, v) {
        const char *name = json_string_value(v);
        if (!name || !*name || strchr(name, '/') || strcmp(name, "..") == 0)
            return error_set(ERR_DATA, "%s: %.200s: expected the name of a file in this folder",
                             path, tensor);
        if (!file_named(m, name)) TRY(open_file(m, name));
        if (!safetensors_find(file_named(m, name), tensor))
            return error_set(ERR_DATA, "%s: %.200s should be in %.200s, which has no such tensor",
                             path, tensor, name);
    }
    return 0;
}

static int open_files(Import *m) {
    AUTOFREE char *whole = file_join(m->dir, "model.safetensors"),
                  *index = file_join(m->dir, "model.safetensors.index.json");
    json_auto_t *j = NULL;
    int rc;
    if (file_exists(whole))
        rc = open_file(m, "model.safetensors");
    else if (!file_exists(index))
        rc = error_set(ERR_DATA,
                       "%s: neither model.safetensors nor model.safetensors.index.json; models in "
                       "PyTorch's own format become one with transformers' save_pretrained",
                       m->dir);
    else if ((rc = json_read_file(&j, index)) == 0)
        rc = open_shards(m, j, index);
    return rc;
}

static const StTensor *find(const Import *m, const char *name, const SafeTensors **file) {
    const StTensor *t = NULL;
    for (int i = 0; i < m->nfile && !t; i++) t = safetensors_find(*file = m->file[i], name);
    return t;
}

static const char *prefix(const Import *m) { return arch_family[m->cfg.family].prefix; }

static const char *name_of(const Import *m, const ArchPiece *q) {
    const size_t n = strlen(prefix(m));
    return q->name + (m->bare && strncmp(q->name, prefix(m), n) == 0 ? n : 0);
}

static bool is_embedding(const ArchParam *p) { return strcmp(p->name, "wte.weight") == 0; }

/* The tensor of a piece of a parameter. A tied model may have been saved with the matrix that makes
 * the logits alone: it is the embedding too. */
static const StTensor *find_piece(const Import *m, const ArchParam *p, const ArchPiece *q,
                                  const SafeTensors **file) {
    const StTensor *t = find(m, name_of(m, q), file);
    return t || m->cfg.untied || !is_embedding(p) ? t : find(m, m->output, file);
}

static int missing(const Import *m, const ArchParam *p, const ArchPiece *q) {
    AUTOFREE char *more =
        strcmp(q->name, m->output) == 0
            ? xstrdup(", though config.json says that it is not tied to the embedding")
        : !m->cfg.untied && is_embedding(p)
            ? xasprintf(", nor %s that stands for it in a tied model", m->output)
            : xstrdup("; the model is incomplete or of another architecture");
    return error_set(ERR_DATA, "%s: no tensor %s%s", m->dir, name_of(m, q), more);
}

static void name_output(Import *m) {
    GptConfig untied = m->cfg;
    untied.untied = true;
    ArchPiece q[ARCH_PIECES];
    for (ArchParam p = {0}; arch_next(&untied, &p);)
        if (strcmp(p.name, "lm_head.weight") == 0 && arch_pieces(&untied, &p, ARCH_HF, q))
            snprintf(m->output, sizeof m->output, "%s", q[0].name);
}

/* How the tensors are named, whether there are biases, whether they are as many numbers as the
 * configuration asks for. */
static int find_layout(Import *m) {
    const SafeTensors *f;
    int64_t held = 0;
    GptConfig full = m->cfg;
    full.bias = BIAS_ALL;
    m->bare = true;
    name_output(m);
    for (int i = 0; i < m->nfile; i++) {
        int n;
        const StTensor *t = safetensors_list(m->file[i], &n);
        for (int k = 0; k < n; k++) {
            held += t[k].n;
            if (strncmp(t[k].name, prefix(m), strlen(prefix(m))) == 0) m->bare = false;
            for (int j = 0; j < i; j++)
                if (safetensors_find(m->file[j], t[k].name))
                    return error_set(ERR_DATA, "%s: %.200s is also in %s",
                                     safetensors_path(m->file[i]), t[k].name,
                                     file_basename(safetensors_path(m->file[j])));
        }
    }
    ArchPiece q[ARCH_PIECES];
    /* nanoGPT's word, and that of our exports */
    if (m->cfg.family == FAMILY_GPT2 && !hf_config_get(&m->config, "bias")) {
        m->cfg.bias = BIAS_NONE;
        for (ArchParam p = {0}; arch_next(&full, &p);)
            if (p.ndim == 1 && !p.gain && arch_pieces(&full, &p, ARCH_HF, q) &&
                find_piece(m, &p, q, &f))
                m->cfg.bias = BIAS_ALL;
    }
    if (arch_count(&m->cfg) <= held) return 0;
    for (ArchParam p = {0}; arch_next(&m->cfg, &p);)
        for (int k = 0, n = arch_pieces(&m->cfg, &p, ARCH_HF, q); k < n; k++)
            if (!find_piece(m, &p, &q[k], &f)) return missing(m, &p, &q[k]);
    return error_set(ERR_DATA,
                     "%s: describes a model of %" PRId64 " parameters, the tensors beside it "
                     "have %" PRId64,
                     m->config.path, arch_count(&m->cfg), held);
}

/* --- values ----------------------------------------------------------------------------------- */

static int check_shape(const SafeTensors *f, const StTensor *t, const ArchParam *p,
                       const ArchPiece *q) {
    const bool turned = q->order == ORDER_TRANSPOSED;
    const int64_t rows = q->rows + q->skip, cols = p->shape[1];
    const int64_t want[2] = {turned ? cols : rows, turned ? rows : cols};
    if (t->ndim == p->ndim && t->shape[0] == want[0] && (t->ndim < 2 || t->shape[1] == want[1]))
        return 0;
    AUTOFREE char *found = text_shape(t->ndim, t->shape), *expected = text_shape(p->ndim, want);
    return error_set(ERR_DATA, "%s: %s has the shape %s, expected %s from config.json",
                     safetensors_path(f), t->name, found, expected);
}

/* Calls fn for the tensor's elements, a piece at a time. */
typedef int PieceFn(void *ctx, const double *x, int64_t from, int64_t n);
static int each_piece(const SafeTensors *f, const StTensor *t, PieceFn *fn, void *ctx) {
    AUTOFREE double *x = xmalloc(HF_PIECE * sizeof *x);
    int rc = 0;
    for (int64_t from = 0; from < t->n && rc == 0; from += HF_PIECE) {
        const int64_t n = t->n - from < HF_PIECE ? t->n - from : HF_PIECE;
        rc = safetensors_read(f, t, from, n, x);
        if (rc == 0) rc = fn(ctx, x, from, n);
    }
    return rc;
}

typedef struct TensorPlace {
    const GptConfig *cfg;
    const ArchPiece *piece;
    int64_t cols;
    real *to; /* of the piece */
} TensorPlace;

static int take(void *ctx, const double *x, int64_t from, int64_t n) {
    const TensorPlace *p = ctx;
    const int64_t rows = p->piece->rows, cols = p->cols;
    const bool turned = p->piece->order == ORDER_TRANSPOSED;
    for (int64_t i = 0; i < n; i++) {
        const real v = (real)x[i];
        if (!isfinite(v)) return error_set(ERR_DATA, "element %" PRId64 " is %g", from + i, x[i]);
        const int64_t at = from + i;
        const int64_t row = arch_row(p->cfg, p->piece, turned ? at % rows : at / cols);
        if (row >= 0) p->to[row * cols + (turned ? at / rows : at % cols)] = v;
    }
    return 0;
}

static int read_piece(Import *m, const ArchParam *p, const ArchPiece *q) {
    const SafeTensors *f;
    const StTensor *t = find_piece(m, p, q, &f);
    if (!t) return missing(m, p, q);
    TRY(check_shape(f, t, p, q));
    const int64_t cols = p->ndim == 2 ? p->shape[1] : 1;
    TensorPlace place = {&m->cfg, q, cols, m->gpt->params.v[p->index].tensor.data + q->row * cols};
    int rc = each_piece(f, t, take, &place);
    if (rc < 0) return error_wrap(rc, "%s: %s", safetensors_path(f), t->name);
    json_object_set_new(m->used, t->name, json_true());
    return 0;
}

static int read_param(Import *m, const ArchParam *p) {
    ArchPiece q[ARCH_PIECES];
    const int n = arch_pieces(&m->cfg, p, ARCH_HF, q);
    for (int k = 0; k < n; k++) TRY(read_piece(m, p, &q[k]));
    return 0;
}

static int all_zero(void *ctx, const double *x, int64_t from, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (x[i] != 0) return error_set(ERR_DATA, "is not 0, but config.json says \"bias\": false");
    return 0;
}

static int same_as_wte(void *ctx, const double *x, int64_t from, int64_t n) {
    const real *wte = ctx;
    for (int64_t i = 0; i < n; i++)
        if ((real)x[i] != wte[from + i])
            return error_set(ERR_DATA,
                             "differs from the embedding, but config.json says that they are tied; "
                             "set \"tie_word_embeddings\" to what is true");
    return 0;
}

static bool ends_with(const char *s, const char *end) {
    const size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

/* A tensor that became no parameter must be one that says nothing. */
static int check_unused(const Import *m, const SafeTensors *f, const StTensor *t) {
    static const char *const says_nothing[] = {/* the causal mask, RoPE's frequencies */
                                               ".attn.bias", ".attn.masked_bias", ".attention.bias",
                                               ".attention.masked_bias", ".rotary_emb.inv_freq"};
    for (int i = 0; i < 5; i++)
        if (ends_with(t->name, says_nothing[i])) return 0;
    int rc;
    if (strcmp(t->name, m->output) == 0 && !m->cfg.untied && t->n == tensor_size(m->gpt->wte))
        rc = each_piece(f, t, same_as_wte, m->gpt->wte->data);
    else if (ends_with(t->name, ".bias") && m->cfg.family == FAMILY_GPT2 &&
             m->cfg.bias == BIAS_NONE)
        rc = each_piece(f, t, all_zero, NULL);
    else
        rc = error_set(ERR_DATA, "is no tensor of the %s that config.json describes",
                       arch_family[m->cfg.family].classes);
    return rc < 0 ? error_wrap(rc, "%s: %.200s", safetensors_path(f), t->name) : 0;
}

static int read_weights(Import *m) {
    TRY(gpt_open(&m->gpt, &m->cfg, false));
    m->used = json_object();
    for (ArchParam p = {0}; arch_next(&m->cfg, &p);) TRY(read_param(m, &p));
    for (int i = 0; i < m->nfile; i++) {
        int n;
        const StTensor *t = safetensors_list(m->file[i], &n);
        for (int k = 0; k < n; k++)
            if (!json_object_get(m->used, t[k].name)) TRY(check_unused(m, m->file[i], &t[k]));
    }
    return 0;
}

/* --- the tokenizer ---------------------------------------------------------------------------- */

/* Whether a tokenizer lies in the folder. */
static bool has_tokenizer(const char *dir) {
    static const char *const names[] = {"tokenizer.json", "vocab.json"};
    bool found = false;
    for (int i = 0; i < 2; i++) {
        AUTOFREE char *path = file_join(dir, names[i]);
        found |= file_exists(path);
    }
    return found;
}

/* *t NULL: there is none. */
static int read_tokenizer(const Import *m, const char *path, Tokenizer **t) {
    if (!path && has_tokenizer(m->dir)) path = m->dir;
    if (!path) {
        log_warn("%s: no tokenizer.json, nor vocab.json with merges.txt: without a tokenizer the "
                 "checkpoint can be shown, compared and exported, and rhetor-eval logprobs takes "
                 "its {\"tokens\": [...]}; for the stages and for text give --tokenizer",
                 m->dir);
        return 0;
    }
    TRY(tokenizer_load(t, path));
    return import_check_rows(path, *t, m->cfg.vocab);
}

static int read_stops(const Import *m, const Tokenizer *t, json_t *meta) {
    IdList ids = {0};
    int rc = hf_config_stops(&m->config, t, &ids);
    json_auto_t *list = json_array();
    for (int64_t i = 0; i < ids.n; i++) json_array_append_new(list, json_integer(ids.v[i]));
    if (rc == 0 && ids.n > LOAD_STOPS - 1)
        rc = error_set(ERR_DATA, "%s: %" PRId64 " tokens end a text, expected at most %d", m->dir,
                       ids.n, LOAD_STOPS - 1);
    if (ids.n) json_object_set(meta, "eos", list);
    ids_free(&ids);
    return rc;
}

/* --- the checkpoint --------------------------------------------------------------------------- */

/* chat_template.jinja, or "chat_template" in tokenizer_config.json. Several under names: the one of
 * the name "default". */
static int read_jinja(Import *m) {
    AUTOFREE char *file = file_join(m->dir, "chat_template.jinja"),
                  *config = file_join(m->dir, "tokenizer_config.json");
    json_auto_t *j = NULL;
    size_t len;
    if (file_exists(file)) return file_read(file, &m->jinja, &len);
    if (!file_exists(config)) return 0;
    TRY(json_read_file(&j, config));
    const json_t *v = json_object_get(j, "chat_template"), *text = v;
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *e = json_array_get(v, i);
        const char *name = json_string_value(json_object_get(e, "name"));
        if (name && strcmp(name, "default") == 0) text = json_object_get(e, "template");
    }
    if (json_is_string(text)) m->jinja = xstrdup(json_string_value(text));
    return 0;
}

/* What an export of ours says beyond GPT2Config: the chat template, the token that ends an
 * answer. */
static int read_ours(const Import *m, const char *tmpl, json_t *meta) {
    const json_t *ours = hf_config_get(&m->config, "rhetor");
    const json_t *saved = json_object_get(ours, "template"), *stop = json_object_get(ours, "stop");
    TRY(import_template(m->dir, tmpl, saved, m->jinja, meta));
    if (!stop) return 0;
    if (!json_is_integer(stop) || json_integer_value(stop) < 0 ||
        json_integer_value(stop) >= m->cfg.vocab)
        return error_set(ERR_DATA, "%s: \"rhetor\": \"stop\" is no token", m->config.path);
    json_object_set(meta, "stop", (json_t *)(uintptr_t)stop);
    return 0;
}

/* A folder; a file is named as what it is. */
static int check_folder(const char *dir) {
    if (file_is_dir(dir)) return 0;
    if (!file_exists(dir))
        return error_set(
            ERR_IO, "%s: no such folder; expected one with config.json and model.safetensors", dir);
    return error_set(ERR_DATA,
                     "%s: is a file, not a folder; expected Hugging Face's folder with config.json "
                     "and model.safetensors",
                     dir);
}

int hf_import(const char *dir, const char *out, const char *tokenizer, const char *tmpl) {
    Import m = {.dir = dir};
    Tokenizer *t = NULL;
    json_auto_t *meta = json_object();
    int rc;
    TRY_GOTO(done, check_folder(dir));
    TRY_GOTO(done, hf_config_read(&m.config, dir));
    m.cfg = m.config.cfg;
    TRY_GOTO(done, read_jinja(&m));
    TRY_GOTO(done, read_ours(&m, tmpl, meta));
    TRY_GOTO(done, open_files(&m));
    TRY_GOTO(done, find_layout(&m));
    TRY_GOTO(done, read_tokenizer(&m, tokenizer, &t));
    TRY_GOTO(done, read_stops(&m, t, meta));
    TRY_GOTO(done, read_weights(&m));
    TRY_GOTO(done, import_save(out, m.gpt, t, m.hash, meta));
done:
    for (int i = 0; i < m.nfile; i++) safetensors_close(&m.file[i]);
    gpt_close(&m.gpt);
    tokenizer_close(&t);
    hf_config_free(&m.config);
    free(m.jinja);
    json_decref(m.used);
    return rc;
}
