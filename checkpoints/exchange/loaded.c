/* loaded.c: a model out of a checkpoint. See loaded.h. */
#include "checkpoints/exchange/loaded.h"

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
    char *config = xasprintf("%.*s../config.yaml", (int)(name - path), path);
    char *absolute = realpath(config, NULL);
    char *what = xasprintf("%s: %s is step %" PRId64 " of %" PRId64
                           " of a run that has not ended%s; finish it: rhetor-%s %s",
                           key, path, ckpt_step(k),
                           (int64_t)json_integer_value(json_object_get(meta, "steps")),
                           must ? " (a reward model is normalised at the end)" : "", ckpt_stage(k),
                           absolute ? absolute : "CONFIG.yaml");
    int rc = 0;
    if (must)
        rc = error_set(ERR_CONFIG, "%s", what);
    else if (parent && log_my_rank() == 0)
        log_warn("%s", what);
    free(what);
    free(config);
    free(absolute);
    return rc;
}

static void read_stop(Loaded *l, const json_t *meta) {
    const json_t *trained = json_object_get(meta, "stop"); /* only PPO's checkpoints say */
    const int32_t eos = l->tokenizer ? tokenizer_eos(l->tokenizer) : -1;
    if (json_is_integer(trained)) l->stop[l->nstop++] = (int32_t)json_integer_value(trained);
    if (eos >= 0 && (l->nstop == 0 || l->stop[0] != eos)) l->stop[l->nstop++] = eos;
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

/* The description is believed, and memory taken for it, when the file has what it describes. */
static int check_model(const Loaded *l, const GptConfig *cfg) {
    int rc = arch_check(cfg);
    if (rc < 0) {
        char *why = xstrdup(error_message());
        rc = error_set(ERR_DATA, "%s: its model: %s; the file is damaged or made to deceive",
                       ckpt_path(l->file), why);
        free(why);
    }
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
    read_stop(l, meta);
    l->cfg = cfg;
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

/* A head that the file lacks is the caller's to initialise. */
int load_weights(Loaded *l, bool with_grad) {
    int rc = gpt_open(&l->gpt, &l->cfg, with_grad);
    if (l->comm) rc = comm_agree(l->comm, rc);
    TRY(rc);
    const ParamSet *ps = &l->gpt->params;
    CkptArray *v = xcalloc((size_t)ps->n, sizeof *v);
    int n = 0;
    for (int i = 0; i < ps->n; i++) {
        const Param *p = &ps->v[i];
        CkptArray a = array_of(l, p->name, p->tensor.ndim, p->tensor.shape);
        a.data = p->tensor.data;
        if (strncmp(p->name, "head.", 5) == 0 && !ckpt_has(l->file, a.name))
            array_free(&a);
        else
            v[n++] = a;
    }
    rc = ckpt_load(l->file, v, n, l->comm);
    while (n > 0) array_free(&v[--n]);
    free(v);
    if (rc >= 0) ckpt_close(&l->file);
    return rc;
}

int load_model(Loaded *out, const char *path, const char *key, LoadKind kind) {
    TRY(load_open(out, path, key, kind, NULL));
    int rc = load_weights(out, false);
    if (rc < 0) load_free(out);
    return rc;
}

void load_free(Loaded *l) {
    ckpt_close(&l->file);
    gpt_close(&l->gpt);
    tokenizer_close(&l->tokenizer);
    free(l->id);
    free(l->path);
    free(l->stage);
    *l = (Loaded){0};
}

int load_same_tokenizer(const Loaded *a, const Loaded *b) {
    if (tokenizer_hash(a->tokenizer) == tokenizer_hash(b->tokenizer) && a->tmpl == b->tmpl) {
        if (a->cfg.vocab <= b->cfg.vocab) return 0;
        return error_set(ERR_CONFIG,
                         "%s samples from %" PRId64 " ids, %s knows %" PRId64
                         " (their tokenizer has %" PRId64 "); make the second from the first",
                         a->path, a->cfg.vocab, b->path, b->cfg.vocab,
                         tokenizer_vocab(a->tokenizer));
    }
    bool tk = tokenizer_hash(a->tokenizer) != tokenizer_hash(b->tokenizer);
    return error_set(ERR_CONFIG,
                     "%s and %s have different %s (%" PRId64 " tokens, %s; %" PRId64
                     " tokens, %s); both must come from the same pretrained and SFT model",
                     a->path, b->path, tk ? "tokenizers" : "chat templates",
                     tokenizer_vocab(a->tokenizer), template_name(a->tmpl),
                     tokenizer_vocab(b->tokenizer), template_name(b->tmpl));
}
