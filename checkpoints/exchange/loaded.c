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

static int read_weights(Loaded *l, Ckpt *k, const char *group) {
    ParamSet *ps = &l->gpt->params;
    for (int i = 0; i < ps->n; i++) {
        const Param *p = &ps->v[i];
        char name[2 * PARAM_NAME_MAX];
        snprintf(name, sizeof name, "%s/%s", group, p->name);
        if (strncmp(p->name, "head.", 5) == 0 && !ckpt_has(k, name)) continue;
        TRY(ckpt_read(k, name, H5_F32, p->tensor.ndim, p->tensor.shape, p->tensor.data));
    }
    return 0;
}

/* A checkpoint that a run wrote on its way, to go on from; not one that was chosen (the best, the
 * end of an epoch). */
static int check_whole(const Ckpt *k, const char *key, int flags) {
    const json_t *meta = ckpt_meta(k);
    if (!json_is_true(json_object_get(meta, "unfinished"))) return 0;
    const char *path = ckpt_path(k), *name = file_basename(path);
    char *config = xasprintf("%.*s../config.yaml", (int)(name - path), path);
    char *absolute = realpath(config, NULL);
    char *what = xasprintf("%s: %s is step %" PRId64 " of %" PRId64
                           " of a run that has not ended%s; finish it: rhetor-%s %s",
                           key, path, ckpt_step(k),
                           (int64_t)json_integer_value(json_object_get(meta, "steps")),
                           flags & LOAD_WHOLE ? " (a reward model is normalised at the end)" : "",
                           ckpt_stage(k), absolute ? absolute : "CONFIG.yaml");
    int rc = 0;
    if (flags & LOAD_WHOLE)
        rc = error_set(ERR_CONFIG, "%s", what);
    else if ((flags & LOAD_GRAD) && log_my_rank() == 0)
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

static int describe(Loaded *l, Ckpt *k, const char *key, int flags) {
    const json_t *meta = ckpt_meta(k);
    GptConfig cfg;
    int rc = arch_from_json(&cfg, json_object_get(meta, "model"));
    if (rc < 0) return error_wrap(rc, "%s", ckpt_path(k));
    if ((flags & LOAD_HEAD) && !cfg.scalar_head)
        return error_set(ERR_CONFIG,
                         "%s: %s is a language model of stage %s; a reward model is needed here "
                         "(rhetor-reward makes one)",
                         key, ckpt_path(k), ckpt_stage(k));
    if (!(flags & (LOAD_HEAD | LOAD_TRUNK | LOAD_ANY)) && cfg.scalar_head)
        return error_set(ERR_CONFIG,
                         "%s: %s is a reward model; a language model is needed here (stage "
                         "pretrain, sft or ppo)",
                         key, ckpt_path(k));
    if ((flags & LOAD_ANY) && cfg.scalar_head) flags |= LOAD_WHOLE;
    TRY(check_whole(k, key, flags));
    if (flags & LOAD_TRUNK) cfg.scalar_head = true, cfg.untied = false;
    TRY(arch_check(&cfg));
    size_t len;
    const char *text = ckpt_tokenizer(k, &len);
    if (len == 0 && !(flags & LOAD_ANY))
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
    l->flags = flags;
    l->id = xstrdup(ckpt_id(k));
    l->path = xstrdup(ckpt_path(k));
    l->stage = xstrdup(ckpt_stage(k));
    l->step = ckpt_step(k);
    return 0;
}

int load_open(Loaded *out, const char *path, const char *key, int flags) {
    *out = (Loaded){0};
    if (!path[0]) return error_set(ERR_CONFIG, "%s is not set: which model?", key);
    int rc = ckpt_open_at(&out->file, path, true);
    if (rc < 0) return error_wrap(rc, "%s", key);
    rc = describe(out, out->file, key, flags);
    if (rc < 0) load_free(out);
    return rc;
}

int load_weights(Loaded *l) {
    TRY(gpt_open(&l->gpt, &l->cfg, l->flags & LOAD_GRAD));
    const char *use = json_string_value(json_object_get(ckpt_meta(l->file), "use"));
    TRY(read_weights(l, l->file, (l->flags & LOAD_RAW) || !use ? "params" : use));
    ckpt_close(&l->file);
    return 0;
}

int load_model(Loaded *out, const char *path, const char *key, int flags) {
    TRY(load_open(out, path, key, flags));
    int rc = load_weights(out);
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
