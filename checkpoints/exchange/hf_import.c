/* hf_import.c: a Hugging Face GPT-2 becomes a checkpoint.
 *
 * config.json says what the model is; the tensors must bear it out: every parameter is there, in
 * its shape, finite, and no tensor is left over. Before memory is taken the parameters are counted
 * against the numbers in the files. Values come in pieces, so nothing is held twice. */
#include "checkpoints/exchange/hf_impl.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "checkpoints/checkpoint.h"
#include "checkpoints/exchange/loaded.h"
#include "checkpoints/exchange/safetensors.h"

enum { MAX_FILES = 1000 };

typedef struct Import {
    const char *dir;
    char *config_path;
    json_t *config;
    GptConfig cfg;
    bool tied;
    SafeTensors *file[MAX_FILES];
    int nfile;
    const char *prefix; /* "transformer." or "" */
    uint64_t hash;      /* of the files' bytes */
    json_t *used;       /* names of the tensors that became parameters */
    Gpt *gpt;
} Import;

/* --- config.json ------------------------------------------------------------------------------ */

/* transformers writes null for what is not set. */
static const json_t *get(const Import *m, const char *key) {
    const json_t *v = json_object_get(m->config, key);
    return json_is_null(v) ? NULL : v;
}

/* `fallback`: GPT2Config's, for what is left out. */
static int get_count(const Import *m, const char *key, int64_t fallback, int64_t max,
                     int64_t *out) {
    const json_t *v = get(m, key);
    *out = v ? json_integer_value(v) : fallback;
    if (v && (!json_is_integer(v) || *out < 1 || *out > max)) {
        char *found = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
        int rc = error_set(ERR_DATA, "%s: \"%s\" is %.40s, expected 1 to %" PRId64, m->config_path,
                           key, found, max);
        free(found);
        return rc;
    }
    return 0;
}

static int get_bool(const Import *m, const char *key, bool fallback, bool *out) {
    const json_t *v = get(m, key);
    *out = v ? json_is_true(v) : fallback;
    if (!v || json_is_boolean(v)) return 0;
    return error_set(ERR_DATA, "%s: \"%s\" is not true or false", m->config_path, key);
}

static int get_word(const Import *m, const char *key, const char *fallback, const char **out) {
    const json_t *v = get(m, key);
    *out = v ? json_string_value(v) : fallback;
    if (*out) return 0;
    return error_set(ERR_DATA, "%s: \"%s\" is not a string", m->config_path, key);
}

static int get_activation(Import *m) {
    static const struct {
        const char *name;
        bool erf;
    } known[] = {
        {"gelu", true},       {"gelu_python", true},        {"gelu_new", false},
        {"gelu_fast", false}, {"gelu_pytorch_tanh", false},
    };
    const char *name;
    TRY(get_word(m, "activation_function", "gelu_new", &name));
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(name, known[i].name) == 0) {
            m->cfg.gelu_erf = known[i].erf;
            return 0;
        }
    return error_set(ERR_DATA,
                     "%s: \"activation_function\" is %.40s, expected gelu, gelu_new or "
                     "gelu_pytorch_tanh",
                     m->config_path, name);
}

/* Variants of the architecture that we do not have. */
static int check_variants(const Import *m) {
    static const struct {
        const char *key;
        bool must;
    } fixed[] = {{"scale_attn_weights", true},
                 {"scale_attn_by_inverse_layer_idx", false},
                 {"add_cross_attention", false}};
    const char *type, *architecture = json_string_value(json_array_get(get(m, "architectures"), 0));
    TRY(get_word(m, "model_type", "gpt2", &type));
    if (strcmp(type, "gpt2") != 0)
        return error_set(ERR_DATA, "%s: \"model_type\" is %.40s, expected gpt2", m->config_path,
                         type);
    if (architecture && strcmp(architecture, "GPT2Model") != 0 &&
        strcmp(architecture, "GPT2LMHeadModel") != 0)
        return error_set(ERR_DATA,
                         "%s: the architecture is %.60s, expected a language model "
                         "(GPT2LMHeadModel)",
                         m->config_path, architecture);
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        bool v;
        TRY(get_bool(m, fixed[i].key, fixed[i].must, &v));
        if (v != fixed[i].must)
            return error_set(ERR_DATA, "%s: \"%s\" is %s, expected %s", m->config_path,
                             fixed[i].key, v ? "true" : "false", v ? "false" : "true");
    }
    return 0;
}

static int read_config(Import *m) {
    GptConfig *c = &m->cfg;
    int64_t inner;
    TRY(json_read_file(&m->config, m->config_path));
    if (!json_is_object(m->config))
        return error_set(ERR_DATA, "%s: not a JSON object", m->config_path);
    TRY(check_variants(m));
    TRY(get_count(m, "vocab_size", 50257, INT32_MAX, &c->vocab));
    TRY(get_count(m, "n_positions", 1024, 1 << 24, &c->context));
    TRY(get_count(m, "n_layer", 12, 4096, &c->layers));
    TRY(get_count(m, "n_embd", 768, 1 << 20, &c->width));
    TRY(get_count(m, "n_head", 12, 1 << 20, &c->heads));
    TRY(get_count(m, "n_inner", 4 * c->width, INT32_MAX, &inner));
    if (c->width % c->heads)
        return error_set(ERR_DATA,
                         "%s: \"n_embd\" %" PRId64 " is no multiple of \"n_head\" %" PRId64,
                         m->config_path, c->width, c->heads);
    if (inner != 4 * c->width)
        return error_set(ERR_DATA, "%s: \"n_inner\" is %" PRId64 ", expected 4 n_embd: %" PRId64,
                         m->config_path, inner, 4 * c->width);
    const json_t *eps = get(m, "layer_norm_epsilon");
    c->norm_eps = eps ? json_number_value(eps) : 1e-5;
    if (!(c->norm_eps > 0 && c->norm_eps < 1))
        return error_set(ERR_DATA, "%s: \"layer_norm_epsilon\" is not between 0 and 1",
                         m->config_path);
    TRY(get_activation(m));
    TRY(get_bool(m, "tie_word_embeddings", true, &m->tied));
    c->untied = !m->tied;
    return 0;
}

/* --- the tensors' files ----------------------------------------------------------------------- */

static int open_file(Import *m, const char *name) {
    if (m->nfile == MAX_FILES)
        return error_set(ERR_DATA, "%s: more than %d files of tensors", m->dir, MAX_FILES);
    char *path = file_join(m->dir, name);
    uint64_t hash = 0;
    int rc = st_open(&m->file[m->nfile], path);
    if (rc == 0) {
        m->nfile++;
        rc = file_hash(path, &hash);
        m->hash = m->nfile == 1 ? hash : hash_combine(m->hash, hash);
    }
    free(path);
    return rc;
}

static SafeTensors *file_named(const Import *m, const char *name) {
    for (int i = 0; i < m->nfile; i++)
        if (strcmp(file_basename(st_path(m->file[i])), name) == 0) return m->file[i];
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
        if (!st_find(file_named(m, name), tensor))
            return error_set(ERR_DATA, "%s: %.200s should be in %.200s, which has no such tensor",
                             path, tensor, name);
    }
    return 0;
}

static int open_files(Import *m) {
    char *whole = file_join(m->dir, "model.safetensors"),
         *index = file_join(m->dir, "model.safetensors.index.json");
    json_t *j = NULL;
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
    json_decref(j);
    free(whole);
    free(index);
    return rc;
}

/* The one tensor of that name, the model's prefix before it where the language model is in a class
 * of its own; NULL: none. */
static const StTensor *find(const Import *m, const char *name, const SafeTensors **file) {
    for (int i = 0; i < m->nfile; i++) {
        const StTensor *t = st_find(m->file[i], name);
        if (t) {
            *file = m->file[i];
            return t;
        }
    }
    return NULL;
}

static const StTensor *find_ours(const Import *m, const char *name, const SafeTensors **file,
                                 char full[2 * HF_NAME_MAX]) {
    snprintf(full, 2 * HF_NAME_MAX, "%s%s", strcmp(name, "lm_head.weight") == 0 ? "" : m->prefix,
             name);
    return find(m, full, file);
}

static int find_layout(Import *m) {
    const SafeTensors *f;
    int64_t held = 0;
    if (find(m, "transformer.wte.weight", &f))
        m->prefix = "transformer.";
    else if (find(m, "wte.weight", &f))
        m->prefix = "";
    else
        return error_set(ERR_DATA,
                         "%s: no tensor wte.weight or transformer.wte.weight: not a GPT-2", m->dir);
    for (int i = 0; i < m->nfile; i++) {
        int n;
        const StTensor *t = st_list(m->file[i], &n);
        for (int k = 0; k < n; k++) {
            held += t[k].n;
            for (int j = 0; j < i; j++)
                if (st_find(m->file[j], t[k].name))
                    return error_set(ERR_DATA, "%s: %.200s is also in %s", st_path(m->file[i]),
                                     t[k].name, file_basename(st_path(m->file[j])));
        }
    }
    char full[2 * HF_NAME_MAX];
    m->cfg.bias = find_ours(m, "h.0.attn.c_attn.bias", &f, full) != NULL ||
                  find_ours(m, "ln_f.bias", &f, full) != NULL;
    bool said;
    TRY(get_bool(m, "bias", m->cfg.bias, &said)); /* nanoGPT's word, and that of our exports */
    m->cfg.bias = said;
    if (arch_count(&m->cfg) > held)
        return error_set(ERR_DATA,
                         "%s: describes a model of %" PRId64 " parameters, the tensors beside it "
                         "have %" PRId64,
                         m->config_path, arch_count(&m->cfg), held);
    return 0;
}

/* --- values ----------------------------------------------------------------------------------- */

static int check_shape(const SafeTensors *f, const StTensor *t, const Tensor *want, bool conv) {
    const int64_t d0 = want->shape[conv ? 1 : 0],
                  d1 = want->ndim == 2 ? want->shape[conv ? 0 : 1] : 0;
    if (t->ndim == want->ndim && t->shape[0] == d0 && (t->ndim < 2 || t->shape[1] == d1)) return 0;
    char found[ST_MAX_DIM * 21 + 1] = "";
    for (int i = 0, at = 0; i < t->ndim; i++)
        at += sprintf(found + at, "%s%" PRId64, i ? "," : "", t->shape[i]);
    char expected[64];
    snprintf(expected, sizeof expected, want->ndim == 2 ? "%" PRId64 ",%" PRId64 : "%" PRId64, d0,
             d1);
    return error_set(ERR_DATA, "%s: %s has the shape [%s], expected [%s] from config.json",
                     st_path(f), t->name, found, expected);
}

/* Calls fn for the tensor's elements, a piece at a time. */
typedef int PieceFn(void *ctx, const double *x, int64_t from, int64_t n);
static int each_piece(const SafeTensors *f, const StTensor *t, PieceFn *fn, void *ctx) {
    double *x = xmalloc(HF_PIECE * sizeof *x);
    int rc = 0;
    for (int64_t from = 0; from < t->n && rc == 0; from += HF_PIECE) {
        const int64_t n = t->n - from < HF_PIECE ? t->n - from : HF_PIECE;
        rc = st_read(f, t, from, n, x);
        if (rc == 0) rc = fn(ctx, x, from, n);
    }
    free(x);
    return rc;
}

typedef struct Place {
    real *to;
    int64_t rows, cols; /* of theirs; cols = 0: not transposed */
} Place;

/* Their [rows,cols] is our [cols,rows]. */
static int take(void *ctx, const double *x, int64_t from, int64_t n) {
    const Place *p = ctx;
    for (int64_t i = 0; i < n; i++) {
        const real v = (real)x[i];
        if (!isfinite(v)) return error_set(ERR_DATA, "element %" PRId64 " is %g", from + i, x[i]);
        const int64_t at = from + i;
        p->to[p->cols ? at % p->cols * p->rows + at / p->cols : at] = v;
    }
    return 0;
}

static int read_param(Import *m, Param *p) {
    char name[HF_NAME_MAX], full[2 * HF_NAME_MAX];
    const bool conv = hf_name(p->name, name);
    const SafeTensors *f;
    const StTensor *t = find_ours(m, name, &f, full);
    if (!t)
        return error_set(ERR_DATA, "%s: no tensor %s%s", m->dir, full,
                         strcmp(name, "lm_head.weight") == 0
                             ? ", though config.json says that it is not tied to wte"
                             : "; the model is incomplete or of another architecture");
    TRY(check_shape(f, t, &p->tensor, conv));
    Place place = {p->tensor.data, t->shape[0], conv ? t->shape[1] : 0};
    int rc = each_piece(f, t, take, &place);
    if (rc < 0) return error_wrap(rc, "%s: %s", st_path(f), full);
    json_object_set_new(m->used, full, json_true());
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
            return error_set(ERR_DATA, "differs from wte, but config.json says that they are tied; "
                                       "set \"tie_word_embeddings\" to what is true");
    return 0;
}

static bool ends_with(const char *s, const char *end) {
    const size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

/* A tensor that became no parameter must be one that says nothing. */
static int check_unused(const Import *m, const SafeTensors *f, const StTensor *t) {
    if (ends_with(t->name, ".attn.bias") || ends_with(t->name, ".attn.masked_bias"))
        return 0; /* the causal mask */
    int rc;
    if (strcmp(t->name, "lm_head.weight") == 0 && m->tied && t->n == tensor_size(m->gpt->wte))
        rc = each_piece(f, t, same_as_wte, m->gpt->wte->data);
    else if (ends_with(t->name, ".bias") && !m->cfg.bias)
        rc = each_piece(f, t, all_zero, NULL);
    else
        rc = error_set(ERR_DATA, "is no tensor of the GPT-2 that config.json describes");
    return rc < 0 ? error_wrap(rc, "%s: %.200s", st_path(f), t->name) : 0;
}

static int read_weights(Import *m) {
    TRY(gpt_open(&m->gpt, &m->cfg, false));
    m->used = json_object();
    for (int i = 0; i < m->gpt->params.n; i++) TRY(read_param(m, &m->gpt->params.v[i]));
    for (int i = 0; i < m->nfile; i++) {
        int n;
        const StTensor *t = st_list(m->file[i], &n);
        for (int k = 0; k < n; k++)
            if (!json_object_get(m->used, t[k].name)) TRY(check_unused(m, m->file[i], &t[k]));
    }
    return 0;
}

/* --- the checkpoint --------------------------------------------------------------------------- */

static int read_tokenizer(const Import *m, const char *path, char **text) {
    char *json = file_join(m->dir, "tokenizer.json"), *vocab = file_join(m->dir, "vocab.json");
    if (!path && (file_exists(json) || file_exists(vocab))) path = m->dir;
    free(json);
    free(vocab);
    *text = NULL;
    if (!path) {
        log_warn("%s: no tokenizer.json, nor vocab.json with merges.txt: the checkpoint has no "
                 "tokenizer, so no stage can use it; --tokenizer gives one",
                 m->dir);
        return 0;
    }
    Tokenizer *t;
    TRY(tokenizer_load(&t, path));
    const int64_t vocab_size = tokenizer_vocab(t);
    if (vocab_size <= m->cfg.vocab) *text = tokenizer_json(t);
    tokenizer_close(&t);
    return *text
               ? 0
               : error_set(ERR_DATA, "%s: the tokenizer has %" PRId64 " tokens, the model %" PRId64,
                           path, vocab_size, m->cfg.vocab);
}

/* What an export of ours says beyond GPT2Config: the chat template, the token that ends an answer.
 */
static int read_ours(const Import *m, const char *tmpl, json_t *meta) {
    const json_t *ours = get(m, "rhetor"), *saved = json_object_get(ours, "template");
    const json_t *stop = json_object_get(ours, "stop");
    Template t = TEMPLATE_PLAIN;
    if (tmpl) TRY(template_by_name(tmpl, &t));
    int rc = !tmpl && saved ? template_from_json(saved, &t) : 0;
    if (rc < 0) return error_wrap(ERR_DATA, "%s: \"rhetor\"", m->config_path);
    json_object_set_new(meta, "template", template_to_json(t));
    if (!stop) return 0;
    if (!json_is_integer(stop) || json_integer_value(stop) < 0 ||
        json_integer_value(stop) >= m->cfg.vocab)
        return error_set(ERR_DATA, "%s: \"rhetor\": \"stop\" is no token", m->config_path);
    json_object_set(meta, "stop", (json_t *)(uintptr_t)stop);
    return 0;
}

static int save(const Import *m, const char *out, const char *tokenizer, json_t *meta) {
    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, m->hash);
    json_t *more =
        json_pack("{s:o, s:s, s:{s:s}, s:s, s:i, s:i}", "model", arch_to_json(&m->cfg), "use",
                  "params", "data", "import", hash, "program", "rhetor " RHETOR_VERSION, "ranks", 1,
                  "threads", omp_get_max_threads());
    json_object_update(meta, more);
    json_decref(more);
    const ParamSet *ps = &m->gpt->params;
    CkptArray *array = xcalloc((size_t)ps->n, sizeof *array);
    for (int i = 0; i < ps->n; i++) {
        array[i] = (CkptArray){.name = xasprintf("params/%s", ps->v[i].name),
                               .type = H5_F32,
                               .ndim = ps->v[i].tensor.ndim,
                               .data = ps->v[i].tensor.data};
        memcpy(array[i].shape, ps->v[i].tensor.shape, sizeof ps->v[i].tensor.shape);
    }
    int rc = ckpt_save_file(out, &(CkptContent){.stage = "import",
                                                .arrays = array,
                                                .narrays = ps->n,
                                                .meta = meta,
                                                .tokenizer = tokenizer,
                                                .compress = true});
    for (int i = 0; i < ps->n; i++) free((char *)(uintptr_t)array[i].name);
    free(array);
    return rc;
}

int hf_import(const char *dir, const char *out, const char *tokenizer, const char *tmpl) {
    Import m = {.dir = dir, .config_path = file_join(dir, "config.json")};
    char *text = NULL;
    json_t *meta = json_object();
    int rc = 0;
    if (!file_is_dir(dir))
        TRY_GOTO(done, error_set(ERR_IO,
                                 "%s: no such folder; expected one with config.json and "
                                 "model.safetensors",
                                 dir));
    TRY_GOTO(done, read_config(&m));
    TRY_GOTO(done, read_ours(&m, tmpl, meta));
    TRY_GOTO(done, open_files(&m));
    TRY_GOTO(done, find_layout(&m));
    TRY_GOTO(done, read_tokenizer(&m, tokenizer, &text));
    TRY_GOTO(done, read_weights(&m));
    TRY_GOTO(done, save(&m, out, text, meta));
done:
    for (int i = 0; i < m.nfile; i++) st_close(&m.file[i]);
    gpt_close(&m.gpt);
    json_decref(m.config);
    json_decref(m.used);
    json_decref(meta);
    free(m.config_path);
    free(text);
    return rc;
}
