/* load.c: a model out of a checkpoint. See load.h. */
#include "checkpoints/exchange/load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoints/checkpoint.h"

/* A checkpoint that a run wrote on its way, to go on from; not one that was chosen (the best, the
 * end of an epoch). */
static int check_finished(const Ckpt *k, const char *key, bool must, bool parent) {
    const json_t *meta = ckpt_meta(k);
    if (!json_is_true(json_object_get(meta, "unfinished"))) return 0;
    const char *path = ckpt_path(k), *name = file_basename(path);
    AUTOFREE char *config = xasprintf("%.*s../config.yaml", (int)(name - path), path);
    AUTOFREE char *absolute = realpath(config, NULL);
    AUTOFREE char *what = xasprintf("%s: %s is step %" PRId64 " of %" PRId64
                                    " of a run that has not ended%s; finish it: rhetor-%s %s",
                                    key, path, ckpt_step(k),
                                    (int64_t)json_integer_value(json_object_get(meta, "steps")),
                                    must ? " (a reward model is normalised at the end)" : "",
                                    ckpt_stage(k), absolute ? absolute : "CONFIG.yaml");
    int rc = 0;
    if (must)
        rc = error_set(ERR_CONFIG, "%s", what);
    else if (parent && log_my_rank() == 0)
        log_warn("%s", what);
    return rc;
}

static void add_stop(Loaded *l, int64_t id) {
    if (id < 0 || id >= l->cfg.vocab || l->nstop == LOAD_STOPS) return;
    for (int i = 0; i < l->nstop; i++)
        if (l->stop[i] == id) return;
    l->stop[l->nstop++] = (int32_t)id;
}

void load_end_with(Loaded *l, int32_t token) {
    int32_t others[LOAD_STOPS];
    const int n = l->nstop;
    memcpy(others, l->stop, sizeof others);
    l->nstop = 0;
    add_stop(l, token);
    l->nend = l->nstop;
    for (int i = 0; i < n; i++) add_stop(l, others[i]);
}

bool load_finished(const Loaded *l, int32_t token) {
    for (int i = 0; i < l->nend; i++)
        if (l->stop[i] == token) return true;
    return false;
}

/* "eos": the tokens that an imported model names, in all that descends from it; "stop": the one
 * that PPO trained it to end with. */
static void read_stops(Loaded *l, const json_t *meta) {
    const json_t *own = json_object_get(meta, "eos"), *trained = json_object_get(meta, "stop");
    for (size_t i = 0; i < json_array_size(own); i++)
        add_stop(l, json_integer_value(json_array_get(own, i)));
    if (l->tokenizer) tokenizer_set_stops(l->tokenizer, l->stop, l->nstop);
    if (l->tokenizer) add_stop(l, tokenizer_eos(l->tokenizer));
    l->eos = l->nstop ? l->stop[0] : -1;
    const int32_t end = l->tokenizer ? template_stop(l->tmpl, l->tokenizer) : -1;
    if (end >= 0 && l->stop[0] != end) load_end_with(l, end); /* which the template adds */
    l->nend = l->nstop;
    if (json_is_integer(trained)) load_end_with(l, (int32_t)json_integer_value(trained));
    if (l->tokenizer)
        tokenizer_set_chat_template(l->tokenizer,
                                    json_string_value(json_object_get(meta, "chat_template")));
}

/* Rows that no token has are never sampled. */
static void mask_rows(const Loaded *l) {
    IdList rows = {0};
    for (int32_t i = 0; l->tokenizer && i < l->cfg.vocab; i++)
        if (!tokenizer_token_bytes(l->tokenizer, i, NULL)) ids_push(&rows, i);
    gpt_never_sample(l->gpt, rows.v, rows.n);
    ids_free(&rows);
}

/* The group whose weights are the model: that of the checkpoint's choice. */
static CkptArray array_of(const Loaded *l, const char *param, int ndim, const int64_t *shape) {
    const char *use = json_string_value(json_object_get(ckpt_meta(l->file), "use"));
    CkptArray a = {
        .name = xasprintf("%s/%s", use ? use : "params", param), .type = H5_F32, .ndim = ndim};
    memcpy(a.shape, shape, (size_t)ndim * sizeof *shape);
    return a;
}
static void array_free(CkptArray *a) { free((char *)(uintptr_t)a->name); }

static int check_adapters(const Loaded *l, const GptConfig *cfg) {
    ParamSet ps = {0};
    int rc = 0;
    lora_params(cfg, &l->lora, &ps);
    for (int i = 0; i < ps.n && rc >= 0; i++) {
        CkptArray a = array_of(l, ps.v[i].name, ps.v[i].tensor.ndim, ps.v[i].tensor.shape);
        rc = ckpt_check(l->file, &a);
        array_free(&a);
    }
    paramset_free(&ps);
    return rc;
}

/* "lora": what adapters there are, and the checkpoint whose weights they are on. */
static int read_lora(Loaded *l, const json_t *meta) {
    const json_t *j = json_object_get(meta, "lora");
    if (!j) return 0;
    const char *path = json_string_value(json_object_get(j, "base")),
               *id = json_string_value(json_object_get(j, "base_id"));
    int rc = lora_from_json(&l->lora, j);
    if (rc == 0 && (!path || !id)) rc = error_set(ERR_DATA, "its adapters name no base");
    if (rc < 0) return error_wrap(rc, "%s", ckpt_path(l->file));
    l->base_path = xstrdup(path);
    l->base_id = xstrdup(id);
    return 0;
}

/* The description is believed, and memory taken for it, when the file has what it describes. */
static int check_model(const Loaded *l, const GptConfig *cfg) {
    int rc = arch_check(cfg);
    if (rc < 0)
        rc = error_set(ERR_DATA, "%s: its model: %s; the file is damaged or made to deceive",
                       ckpt_path(l->file), error_message());
    if (rc >= 0 && l->lora.rank > 0) return check_adapters(l, cfg);
    for (ArchParam p = {0}; rc >= 0 && arch_next(cfg, &p);) {
        CkptArray a = array_of(l, p.name, p.ndim, p.shape);
        rc = ckpt_check(l->file, &a);
        array_free(&a);
    }
    return rc;
}

static int describe(Loaded *l, const char *key, LoadKind kind) {
    const Ckpt *k = l->file;
    const json_t *meta = ckpt_meta(k);
    GptConfig cfg;
    int rc = arch_from_json(&cfg, json_object_get(meta, "model"));
    if (rc < 0) return error_wrap(rc, "%s", ckpt_path(k));
    TRY(read_lora(l, meta));
    if (kind == LOAD_REWARD && !cfg.scalar_head)
        return error_set(ERR_CONFIG,
                         "%s: %s is a language model of stage %s; a reward model is needed here "
                         "(rhetor-reward makes one)",
                         key, ckpt_path(k), ckpt_stage(k));
    if (kind == LOAD_LANGUAGE && cfg.scalar_head)
        return error_set(ERR_CONFIG,
                         "%s: %s is a reward model; a language model is needed here (stage "
                         "pretrain, sft or ppo)",
                         key, ckpt_path(k));
    const bool parent = l->comm != NULL;
    const bool rewards = kind == LOAD_EITHER ? cfg.scalar_head : kind == LOAD_REWARD && parent;
    TRY(check_finished(k, key, rewards, parent));
    TRY(check_model(l, &cfg));
    if (kind == LOAD_TRUNK) cfg.scalar_head = true, cfg.untied = false;
    size_t len;
    const char *text = ckpt_tokenizer(k, &len);
    if (len == 0 && kind != LOAD_EITHER)
        return error_set(
            ERR_CONFIG, "%s: %s was imported without a tokenizer; import it again with --tokenizer",
            key, ckpt_path(k));
    if (len > 0) TRY(tokenizer_parse(&l->tokenizer, text, len, ckpt_path(k)));
    if (l->tokenizer && tokenizer_vocab(l->tokenizer) > cfg.vocab)
        return error_set(ERR_DATA, "%s: its tokenizer has %" PRId64 " tokens, its model %" PRId64,
                         ckpt_path(k), tokenizer_vocab(l->tokenizer), cfg.vocab);
    rc = template_from_json(json_object_get(meta, "template"), &l->tmpl);
    if (rc < 0) return error_wrap(rc, "%s", ckpt_path(k));
    l->cfg = cfg;
    read_stops(l, meta);
    l->id = xstrdup(ckpt_id(k));
    l->path = xstrdup(ckpt_path(k));
    l->stage = xstrdup(ckpt_stage(k));
    l->step = ckpt_step(k);
    return 0;
}

int load_open(Loaded *out, const char *path, const char *key, LoadKind kind, Comm *c) {
    *out = (Loaded){.comm = c};
    if (!path[0]) return error_set(ERR_CONFIG, "%s is not set: which model?", key);
    int rc = ckpt_open(&out->file, path, c);
    if (rc < 0) return error_wrap(rc, "%s", key);
    rc = describe(out, key, kind);
    if (rc < 0) load_free(out);
    return rc;
}

/* One after the other, since each is wide for a while. */
static int read_half(Loaded *l, Param *p) {
    Tensor *t = &p->tensor;
    const int64_t n = tensor_size(t);
    CkptArray a = array_of(l, p->name, t->ndim, t->shape);
    AUTOFREE real *wide = xmalloc((size_t)n * sizeof *wide);
    a.data = wide;
    const int rc = ckpt_load(l->file, &a, 1, l->comm);
    if (rc >= 0) tensor_write(t, 0, n, wide);
    array_free(&a);
    return rc;
}

/* The file's numbers of a set of parameters; a head that it lacks is the caller's to initialise. */
static int read_params(Loaded *l, const ParamSet *ps) {
    CkptArray *v = xcalloc((size_t)ps->n, sizeof *v);
    int n = 0;
    for (int i = 0; i < ps->n; i++) {
        const Param *p = &ps->v[i];
        if (p->tensor.half) continue;
        CkptArray a = array_of(l, p->name, p->tensor.ndim, p->tensor.shape);
        a.data = p->tensor.data;
        if (strncmp(p->name, "head.", 5) == 0 && !ckpt_has(l->file, a.name))
            array_free(&a);
        else
            v[n++] = a;
    }
    int rc = ckpt_load(l->file, v, n, l->comm);
    while (n > 0) array_free(&v[--n]);
    free(v);
    for (int i = 0; i < ps->n && rc >= 0; i++)
        if (ps->v[i].tensor.half) rc = read_half(l, &ps->v[i]);
    return rc;
}

bool load_is_on(const Loaded *adapters, const Loaded *base) {
    return adapters->lora.rank > 0 && base->id && strcmp(adapters->base_id, base->id) == 0 &&
           arch_differ(&adapters->cfg, &base->cfg) == NULL;
}

int load_adapters(Loaded *l, const Gpt *base, Gpt **out, bool with_grad) {
    TRY(lora_open(out, base, &l->lora, l->cfg.scalar_head, with_grad));
    return read_params(l, &(*out)->params);
}

/* The base, from its own checkpoint, with the adapters merged into it. */
static int load_merged(Loaded *l) {
    Loaded base;
    Gpt *adapted = NULL;
    int rc = load_open(&base, l->base_path, "the base of the adapters", LOAD_EITHER, l->comm);
    if (rc < 0) return error_wrap(rc, "%s", l->path);
    if (strcmp(base.id, l->base_id) != 0)
        rc = error_set(ERR_DATA,
                       "%s: its adapters are on the checkpoint %s, but %s is %s now: a run that "
                       "was made again? make this one again too",
                       l->path, l->base_id, base.path, base.id);
    base.half = l->gpt->params.half != NULL;
    if (rc >= 0 && l->cfg.layers <= base.cfg.layers) base.cfg.layers = l->cfg.layers;
    if (rc >= 0) rc = load_weights(&base, false);
    if (rc >= 0) rc = load_adapters(l, base.gpt, &adapted, false);
    if (rc >= 0) rc = gpt_copy(l->gpt, base.gpt);
    if (rc >= 0) lora_merge(l->gpt, adapted);
    gpt_close(&adapted);
    load_free(&base);
    return rc;
}

int load_weights(Loaded *l, bool with_grad) {
    const bool half = l->half && !with_grad;
    int rc = half ? gpt_open_half(&l->gpt, &l->cfg, false) : gpt_open(&l->gpt, &l->cfg, with_grad);
    if (l->comm) rc = comm_agree(l->comm, rc);
    TRY(rc);
    TRY(l->lora.rank > 0 ? load_merged(l) : read_params(l, &l->gpt->params));
    ckpt_close(&l->file);
    mask_rows(l);
    return 0;
}

int load_with_adapters(Loaded *l, const LoraConfig *o, uint64_t seed) {
    TRY(load_weights(l, false));
    l->base = l->gpt;
    l->gpt = NULL;
    TRY(lora_open(&l->gpt, l->base, o, l->cfg.scalar_head, true));
    lora_init(l->gpt, seed);
    return 0;
}

int load_model(Loaded *out, const char *path, const char *key, LoadKind kind) {
    return load_model_half(out, path, key, kind, false);
}

int load_model_half(Loaded *out, const char *path, const char *key, LoadKind kind, bool half) {
    TRY(load_open(out, path, key, kind, NULL));
    out->half = half;
    int rc = load_weights(out, false);
    if (rc < 0) load_free(out);
    return rc;
}

void load_free(Loaded *l) {
    ckpt_close(&l->file);
    gpt_close(&l->gpt);
    gpt_close(&l->base);
    free(l->base_path);
    free(l->base_id);
    tokenizer_close(&l->tokenizer);
    free(l->id);
    free(l->path);
    free(l->stage);
    *l = (Loaded){0};
}

int load_same_tokenizer(const Loaded *a, const Loaded *b) {
    bool tk = tokenizer_hash(a->tokenizer) != tokenizer_hash(b->tokenizer);
    if (!tk && a->tmpl == b->tmpl) return 0;
    return error_set(ERR_CONFIG,
                     "%s and %s have different %s (%" PRId64 " tokens, %s; %" PRId64
                     " tokens, %s); both must come from the same pretrained and SFT model",
                     a->path, b->path, tk ? "tokenizers" : "chat templates",
                     tokenizer_vocab(a->tokenizer), template_name(a->tmpl),
                     tokenizer_vocab(b->tokenizer), template_name(b->tmpl));
}
