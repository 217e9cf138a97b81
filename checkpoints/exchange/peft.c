/* peft.c: see peft.h. A piece of a parameter (model/arch.h) is a module of Hugging Face's, with its
 * lora_A [r,K] and lora_B [rows,r]; rows of B are in the order of the piece's. */
#include "checkpoints/exchange/peft.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "checkpoints/exchange/load.h"
#include "checkpoints/exchange/merge.h"
#include "checkpoints/exchange/safetensors.h"

enum { NAME_MAX_PEFT = ARCH_NAME_MAX + 64 };
static const char *const config_name = "adapter_config.json", *const tensors_name =
                                                                  "adapter_model.safetensors";

bool peft_is_folder(const char *dir) {
    AUTOFREE char *path = file_join(dir, config_name);
    return file_is_dir(dir) && file_exists(path);
}

/* What of a block's weights the parameter is; LORA_TARGETS: nothing that has adapters. */
static LoraTarget target_of(const ArchParam *p) {
    char name[PARAM_NAME_MAX];
    int k = p->layer < 0 || p->ndim < 2 ? LORA_TARGETS : 0;
    for (; k < LORA_TARGETS; k++) {
        snprintf(name, sizeof name, "h.%d.%s.weight", p->layer, lora_target_name((LoraTarget)k));
        if (strcmp(name, p->name) == 0) break;
    }
    return (LoraTarget)k;
}

/* "self_attn.q_proj" of "model.layers.3.self_attn.q_proj.weight". */
static void module_of(const ArchPiece *q, char name[ARCH_NAME_MAX]) {
    memcpy(name, q->name, ARCH_NAME_MAX);
    char *end = strstr(name, ".weight");
    if (end) *end = '\0';
}

static void tensor_name(const ArchPiece *q, char which, char name[NAME_MAX_PEFT]) {
    char module[ARCH_NAME_MAX];
    module_of(q, module);
    snprintf(name, NAME_MAX_PEFT, "base_model.model.%s.lora_%c.weight", module, which);
}

/* --- export ----------------------------------------------------------------------------------- */

/* Peft takes the modules whose names end so: the last two parts, or, behind a number, one. */
static void add_target(json_t *list, const ArchPiece *q) {
    char module[ARCH_NAME_MAX];
    module_of(q, module);
    char *last = strrchr(module, '.'), *name = last ? last + 1 : module;
    if (last) {
        *last = '\0';
        char *before = strrchr(module, '.');
        const bool number = before && strspn(before + 1, "0123456789") == strlen(before + 1);
        *last = '.';
        if (before && !number) name = before + 1;
    }
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) if (strcmp(json_string_value(v), name) == 0) return;
    json_array_append_new(list, json_string(name));
}

typedef struct PeftExport {
    const Gpt *g; /* adapters */
    StTensor *t;  /* [n] */
    int n;
    json_t *targets;
    StWriter *file;
} PeftExport;

static int write_pair(PeftExport *e, const ArchParam *p, const ArchPiece *q, LoraTarget k) {
    const Tensor *A = e->g->block[p->layer].lora_a[k], *B = e->g->block[p->layer].lora_b[k];
    const int64_t r = A->shape[0];
    TRY(safetensors_write(e->file, A->data, tensor_size(A)));
    for (int64_t i = 0; i < q->rows; i++)
        TRY(safetensors_write(e->file, B->data + (q->row + arch_row(&e->g->cfg, q, i)) * r, r));
    return 0;
}

static void list_pair(PeftExport *e, const ArchParam *p, const ArchPiece *q) {
    char name[NAME_MAX_PEFT];
    const int64_t r = e->g->lora.rank;
    tensor_name(q, 'A', name);
    e->t[e->n++] = (StTensor){.name = xstrdup(name), .ndim = 2, .shape = {r, p->shape[1]}};
    tensor_name(q, 'B', name);
    e->t[e->n++] = (StTensor){.name = xstrdup(name), .ndim = 2, .shape = {q->rows, r}};
    add_target(e->targets, q);
}

static int write_tensors(PeftExport *e, const char *dir) {
    AUTOFREE char *path = file_join(dir, tensors_name);
    const GptConfig *c = &e->g->cfg;
    ArchPiece q[ARCH_PIECES];
    e->t = xcalloc((size_t)(c->layers * LORA_TARGETS * ARCH_PIECES * 2), sizeof *e->t);
    for (ArchParam p = {0}; arch_next(c, &p);) {
        const LoraTarget k = target_of(&p);
        if (k == LORA_TARGETS || !e->g->block[p.layer].lora_a[k]) continue;
        for (int i = 0, n = arch_pieces(c, &p, ARCH_HF, q); i < n; i++) list_pair(e, &p, &q[i]);
    }
    TRY(safetensors_create(&e->file, path, e->t, e->n));
    for (ArchParam p = {0}; arch_next(c, &p);) {
        const LoraTarget k = target_of(&p);
        if (k == LORA_TARGETS || !e->g->block[p.layer].lora_a[k]) continue;
        for (int i = 0, n = arch_pieces(c, &p, ARCH_HF, q); i < n; i++)
            TRY(write_pair(e, &p, &q[i], k));
    }
    return safetensors_commit(&e->file);
}

static int write_config(const PeftExport *e, const Loaded *l, const char *dir) {
    const LoraConfig *o = &e->g->lora;
    AUTOFREE char *path = file_join(dir, config_name);
    json_auto_t *j =
        json_pack("{s:s, s:s, s:I, s:f, s:f, s:O, s:s, s:b, s:s, s:b, s:b, s:b, s:n, s:{}, s:{}}",
                  "peft_type", "LORA", "task_type", "CAUSAL_LM", "r", (json_int_t)o->rank,
                  "lora_alpha", o->alpha, "lora_dropout", o->dropout, "target_modules", e->targets,
                  "bias", "none", "fan_in_fan_out", e->g->cfg.family == FAMILY_GPT2,
                  "base_model_name_or_path", l->base_path, "inference_mode", 1, "use_rslora", 0,
                  "use_dora", 0, "modules_to_save", "rank_pattern", "alpha_pattern");
    return json_write_file(j, path);
}

int peft_export(const char *path, const char *dir) {
    Loaded l, base = {0};
    Gpt *g = NULL;
    int rc = 0;
    PeftExport e = {.targets = json_array()};
    char **names = NULL;
    int n = 0;
    TRY_GOTO(done, load_open(&l, path, "the model", LOAD_EITHER, NULL));
    if (l.lora.rank == 0 || l.cfg.scalar_head)
        TRY_GOTO(done,
                 error_set(ERR_USAGE, "export: %s %s; --format hf writes the whole model", l.path,
                           l.lora.rank == 0 ? "holds no adapters"
                                            : "is a reward model, whose head Peft keeps "
                                              "otherwise"));
    if (file_is_dir(dir)) TRY_GOTO(done, file_list(dir, &names, &n));
    if (n > 0 || (file_exists(dir) && !file_is_dir(dir)))
        TRY_GOTO(done,
                 error_set(ERR_USAGE, "%s: is there; choose a folder that is new or empty", dir));
    /* The base says what the adapters are on; its numbers are not needed. */
    TRY_GOTO(done, gpt_open_dry(&base.gpt, &l.cfg));
    paramset_drop_grad(&base.gpt->params);
    base.gpt->params.dry = false;
    rc = load_adapters(&l, base.gpt, &g, false);
    base.gpt->params.dry = true;
    TRY_GOTO(done, rc);
    e.g = g;
    TRY_GOTO(done, file_make_dirs(dir));
    TRY_GOTO(done, write_tensors(&e, dir));
    TRY_GOTO(done, write_config(&e, &l, dir)); /* last: with it the folder is one of adapters */
done:
    safetensors_abandon(&e.file);
    for (int i = 0; i < e.n; i++) free(e.t[i].name);
    free(e.t);
    json_decref(e.targets);
    file_free_list(&names, n);
    gpt_close(&g);
    gpt_close(&base.gpt);
    load_free(&l);
    return rc < 0 ? rc : 0;
}

/* --- import ----------------------------------------------------------------------------------- */

typedef struct PeftImport {
    Loaded base;
    SafeTensors *file;
    LoraConfig lora; /* as the files have it: rank r, targets */
    int64_t blocks;  /* pieces stacked in an A; 1: they share it */
    int used;        /* tensors */
    Gpt *gpt;
} PeftImport;

static bool is_set(const json_t *v) {
    return v && !json_is_null(v) && !json_is_false(v) &&
           !(json_is_object(v) && json_object_size(v) == 0) &&
           !(json_is_array(v) && json_array_size(v) == 0);
}

static int read_config(PeftImport *m, const char *dir) {
    /* What changes how adapters are meant. */
    static const char *const others[] = {"use_dora",
                                         "use_qalora",
                                         "lora_bias",
                                         "modules_to_save",
                                         "rank_pattern",
                                         "alpha_pattern",
                                         "layer_replication",
                                         "alora_invocation_tokens",
                                         "arrow_config",
                                         "target_parameters",
                                         "trainable_token_indices",
                                         "kasa_config",
                                         "velora_config",
                                         "monteclora_config",
                                         "use_bdlora"};
    AUTOFREE char *path = file_join(dir, config_name);
    json_auto_t *j = NULL;
    const char *type;
    int64_t r;
    double alpha;
    TRY(json_read_file(&j, path));
    int rc = json_get_str(j, "peft_type", &type);
    if (rc >= 0) rc = json_get_i64(j, "r", &r);
    if (rc >= 0) rc = json_get_f64(j, "lora_alpha", &alpha);
    if (rc < 0) return error_wrap(rc, "%s", path);
    if (strcmp(type, "LORA") != 0)
        return error_set(ERR_DATA, "%s: \"peft_type\" is \"%.50s\", expected \"LORA\"", path, type);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (is_set(json_object_get(j, others[i])))
            return error_set(ERR_DATA, "%s: \"%s\" is set, which Rhetor's adapters have not", path,
                             others[i]);
    const json_t *bias = json_object_get(j, "bias");
    if (is_set(bias) && (!json_is_string(bias) || strcmp(json_string_value(bias), "none") != 0))
        return error_set(ERR_DATA, "%s: \"bias\" is not \"none\"", path);
    if (r < 1 || r > LORA_RANK_MAX || !(alpha > 0 && isfinite(alpha)))
        return error_set(ERR_DATA, "%s: \"r\" is %" PRId64 " and \"lora_alpha\" %g", path, r,
                         alpha);
    if (json_is_true(json_object_get(j, "use_rslora"))) alpha *= sqrt((double)r);
    m->lora = (LoraConfig){.rank = r, .alpha = alpha};
    return 0;
}

/* A tensor of a piece; NULL: none. */
static int find(PeftImport *m, const ArchPiece *q, char which, int64_t rows, int64_t cols,
                const StTensor **out) {
    char name[NAME_MAX_PEFT];
    tensor_name(q, which, name);
    const StTensor *t = *out = safetensors_find(m->file, name);
    if (!t || (t->ndim == 2 && t->shape[0] == rows && t->shape[1] == cols)) return 0;
    AUTOFREE char *found = text_shape(t->ndim, t->shape),
                  *expected = text_shape(2, (int64_t[]){rows, cols});
    return error_set(ERR_DATA, "%s: %s has the shape %s, expected %s on %s",
                     safetensors_path(m->file), name, found, expected, m->base.path);
}

/* Both of a piece, or neither. */
static int find_pair(PeftImport *m, const ArchParam *p, const ArchPiece *q, const StTensor *t[2]) {
    TRY(find(m, q, 'A', m->lora.rank, p->shape[1], &t[0]));
    TRY(find(m, q, 'B', q->rows, m->lora.rank, &t[1]));
    if (!t[0] == !t[1]) return 0;
    return error_set(ERR_DATA, "%s: %s has no counterpart", safetensors_path(m->file),
                     t[0] ? t[0]->name : t[1]->name);
}

static int values(const PeftImport *m, const StTensor *t, double **out) {
    *out = xmalloc((size_t)(t->n + 1) * sizeof **out);
    TRY(safetensors_read(m->file, t, 0, t->n, *out));
    for (int64_t i = 0; i < t->n; i++)
        if (!isfinite(((*out)[i])))
            return error_set(ERR_DATA, "%s: %s: element %" PRId64 " is %g",
                             safetensors_path(m->file), t->name, i, (*out)[i]);
    return 0;
}

/* Which targets there are, and whether the pieces of a parameter share their A. */
static int survey(PeftImport *m) {
    const GptConfig *c = &m->base.cfg;
    ArchPiece q[ARCH_PIECES];
    const StTensor *t[2];
    bool shared = true;
    int most = 1, n;
    for (ArchParam p = {0}; arch_next(c, &p);) {
        const LoraTarget k = target_of(&p);
        AUTOFREE double *first = NULL;
        if (k == LORA_TARGETS) continue;
        const int pieces = arch_pieces(c, &p, ARCH_HF, q);
        for (int i = 0; i < pieces; i++) {
            TRY(find_pair(m, &p, &q[i], t));
            if (!t[0]) continue;
            AUTOFREE double *a = NULL;
            TRY(values(m, t[0], &a));
            if (first && memcmp(a, first, (size_t)t[0]->n * sizeof *a) != 0) shared = false;
            if (!first) first = a, a = NULL;
            m->lora.targets |= 1u << k;
            if (pieces > most) most = pieces;
            m->used += 2;
        }
    }
    m->blocks = shared ? 1 : most;
    const StTensor *all = safetensors_list(m->file, &n);
    for (int i = 0; i < n && m->used != n; i++) {
        bool known = false;
        for (ArchParam p = {0}; !known && arch_next(c, &p);)
            for (int j = 0, s = target_of(&p) == LORA_TARGETS ? 0 : arch_pieces(c, &p, ARCH_HF, q);
                 j < s; j++)
                known |= find_pair(m, &p, &q[j], t) == 0 && (t[0] == &all[i] || t[1] == &all[i]);
        if (!known)
            return error_set(ERR_DATA,
                             "%s: %.200s is of no matrix of %s that can have adapters; is it "
                             "another model's?",
                             safetensors_path(m->file), all[i].name, m->base.path);
    }
    if (m->used == 0)
        return error_set(ERR_DATA, "%s: holds no adapters", safetensors_path(m->file));
    if (m->lora.rank * m->blocks > LORA_RANK_MAX)
        return error_set(ERR_DATA, "%s: rank %" PRId64 " is too large", safetensors_path(m->file),
                         m->lora.rank * m->blocks);
    return 0;
}

/* Piece i's A becomes rows r i.. of ours, its B the columns r i.. of its rows; shared: i is 0. */
static int place(PeftImport *m, const ArchParam *p, const ArchPiece *q, int i, LoraTarget k) {
    const GptConfig *c = &m->base.cfg;
    const int64_t r = m->lora.rank, K = p->shape[1], R = r * m->blocks;
    const StTensor *t[2];
    AUTOFREE double *a = NULL, *b = NULL;
    TRY(find_pair(m, p, q, t));
    if (!t[0]) return 0;
    TRY(values(m, t[0], &a));
    TRY(values(m, t[1], &b));
    const int64_t at = m->blocks > 1 ? r * i : 0;
    real *A = m->gpt->block[p->layer].lora_a[k]->data + at * K;
    real *B = m->gpt->block[p->layer].lora_b[k]->data + at;
    for (int64_t j = 0; j < r * K; j++) A[j] = (real)a[j];
    for (int64_t row = 0; row < q->rows; row++)
        for (int64_t j = 0; j < r; j++)
            B[(q->row + arch_row(c, q, row)) * R + j] = (real)b[row * r + j];
    return 0;
}

static int save(const PeftImport *m, const char *out) {
    json_auto_t *lora = lora_to_json(&m->gpt->lora);
    AUTOFREE char *whole = realpath(m->base.path, NULL);
    json_object_set_new(lora, "base", json_string(whole ? whole : m->base.path));
    json_object_set_new(lora, "base_id", json_string(m->base.id));
    return merge_save(&m->base, &m->gpt->params, "import", lora, out);
}

static int import_open(PeftImport *m, const char *dir, const char *base) {
    AUTOFREE char *path = file_join(dir, tensors_name);
    TRY(read_config(m, dir));
    TRY(safetensors_open(&m->file, path));
    TRY(load_open(&m->base, base, "--base", LOAD_EITHER, NULL));
    if (m->base.lora.rank > 0 || m->base.cfg.scalar_head)
        return error_set(ERR_USAGE, "--base: %s %s; expected a language model of all weights",
                         m->base.path,
                         m->base.cfg.scalar_head ? "is a reward model"
                                                 : "holds adapters itself (rhetor-ckpt merge)");
    TRY(survey(m));
    return load_weights(&m->base, false);
}

int peft_import(const char *dir, const char *base, const char *out) {
    PeftImport m = {0};
    ArchPiece q[ARCH_PIECES];
    int rc;
    TRY_GOTO(done, import_open(&m, dir, base));
    LoraConfig o = m.lora;
    o.rank *= m.blocks, o.alpha *= (double)m.blocks;
    TRY_GOTO(done, lora_open(&m.gpt, m.base.gpt, &o, false, false));
    for (ArchParam p = {0}; arch_next(&m.base.cfg, &p);) {
        const LoraTarget k = target_of(&p);
        if (k == LORA_TARGETS) continue;
        for (int i = 0, n = arch_pieces(&m.base.cfg, &p, ARCH_HF, q); i < n; i++)
            TRY_GOTO(done, place(&m, &p, &q[i], i, k));
    }
    rc = save(&m, out);
done:
    gpt_close(&m.gpt);
    safetensors_close(&m.file);
    load_free(&m.base);
    return rc < 0 ? rc : 0;
}
