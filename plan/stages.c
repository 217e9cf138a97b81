/* stages.c: from the files of a recipe to the work of its steps. What exists is read (corpora,
 * records, tokenizers, checkpoints), so that lengths and numbers are the real ones; what does not
 * exist yet is assumed, and each assumption is said. */
#include <inttypes.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/error.h"
#include "base/file.h"
#include "checkpoints/exchange/load.h"
#include "data/corpus.h"
#include "data/dataset.h"
#include "pipeline/recipe.h"
#include "plan/forecast.h"
#include "rlhf/iteration.h"
#include "rlhf/preference.h"

enum { ANSWERS = 4 };

/* What earlier stages have settled. */
typedef struct Known {
    bool model;
    bool alone; /* of the recipe this stage only: a parent that is there is the one it will have */
    GptConfig cfg;
    Tokenizer *tokenizer; /* NULL: only its size is known */
    double tokenizer_bytes;
    Template tmpl;
    int64_t vocab; /* of the recipe's command, or given */
} Known;

static void assume(PlanStage *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void assume(PlanStage *s, const char *fmt, ...) {
    va_list ap;
    char *text, *longer;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0) text = NULL;
    va_end(ap);
    longer = xasprintf("%s%s%s", s->assumed, *s->assumed ? "; " : "", text ? text : "");
    free(text);
    free(s->assumed);
    s->assumed = longer;
}

static bool have(const StrList *files) {
    for (int i = 0; i < files->n; i++)
        if (!file_exists(files->v[i])) return false;
    return files->n > 0;
}

/* A rank holds what is opened here, too: its bytes of the heap. */
static double heap_bytes(void) {
    const struct mallinfo2 m = mallinfo2();
    return (double)(m.uordblks + m.hblkhd);
}

/* --- the model -------------------------------------------------------------------------------- */

static int know_tokenizer(Known *k, const Config *c, Corpus *corpus) {
    const double before = heap_bytes();
    if (corpus) {
        size_t len;
        const char *text = corpus_tokenizer(corpus, &len);
        TRY(tokenizer_parse(&k->tokenizer, text, len, "the tokenizer in data.train"));
    } else if (c->from_tokenizer[0] && file_exists(c->from_tokenizer)) {
        TRY(tokenizer_load(&k->tokenizer, c->from_tokenizer));
    }
    k->tokenizer_bytes = heap_bytes() - before;
    if (k->tokenizer) k->vocab = tokenizer_vocab(k->tokenizer);
    if (k->vocab > 0) return 0;
    return error_set(ERR_CONFIG,
                     "%s: the vocabulary is not known: neither the corpus (data.train: %s) nor the "
                     "tokenizer (from.tokenizer: %s) is there yet; give its size, --vocab N",
                     c->origin, c->data_train.n ? c->data_train.v[0] : "not set",
                     c->from_tokenizer[0] ? c->from_tokenizer : "not set");
}

/* The parent's architecture, tokenizer and template, where no stage before has them. */
static int know_parent(Known *k, const Config *c) {
    if (k->model && !(k->alone && c->from_model[0] && file_exists(c->from_model))) return 0;
    if (!c->from_model[0] || !file_exists(c->from_model))
        return error_set(ERR_CONFIG,
                         "%s: the model is not known: from.model (%s) is not there yet; plan the "
                         "whole recipe (its folder), or run the earlier stages first",
                         c->origin, c->from_model[0] ? c->from_model : "not set");
    Loaded l;
    tokenizer_close(&k->tokenizer);
    const double before = heap_bytes();
    TRY(load_open(&l, c->from_model, "from.model", LOAD_EITHER, NULL));
    k->model = true;
    k->cfg = l.cfg;
    k->cfg.scalar_head = false;
    k->tmpl = l.tmpl;
    k->tokenizer = l.tokenizer;
    l.tokenizer = NULL;
    load_free(&l);
    k->tokenizer_bytes = heap_bytes() - before;
    return 0;
}

/* --- the data --------------------------------------------------------------------------------- */

static void close_corpus(PlanStage *s, Corpus **c, bool trained) {
    PlanWork *w = &s->work;
    size_t bytes = 0;
    if (trained && *c) w->chunks = (double)corpus_chunks(*c, &bytes);
    w->chunk_bytes = trained ? (double)bytes : w->chunk_bytes;
    s->work.data += heap_bytes();
    corpus_close(c);
    s->work.data -= heap_bytes();
}
static void close_records(PlanStage *s, Dataset *d) {
    s->work.data += heap_bytes();
    dataset_free(d);
    s->work.data -= heap_bytes();
}

/* Mean tokens of a window, and windows an epoch (0: not known). */
static int windows_of(PlanStage *s, const char *key, Corpus *corpus, const Config *c, int64_t T,
                      double *length, int64_t *count) {
    *count = 0;
    *length = (double)T;
    if (!corpus) {
        assume(s, "windows of %" PRId64 " tokens (%s is not there yet)", T, key);
        return 0;
    }
    *count = corpus_windows(corpus, T);
    if (*count < 0) return (int)*count;
    return corpus_window_mean(corpus, (uint64_t)c->run_seed, T, length);
}

static int mixed_windows(PlanStage *s, const Known *k, const Config *c, double *length) {
    Corpus *mix = NULL;
    int64_t count;
    if (have(&c->data_mix) && k->tokenizer)
        TRY(corpus_open(&mix, &c->data_mix, tokenizer_hash(k->tokenizer)));
    int rc = windows_of(s, "data.mix", mix, c, k->cfg.context, length, &count);
    close_corpus(s, &mix, true);
    return rc;
}

/* Items and their sequences in data.train; records 0 where they are not known. */
static int records_of(PlanStage *s, Known *k, const Config *c, DatasetKind kind, const PlanGiven *g,
                      int64_t *records) {
    PlanWork *w = &s->work;
    Dataset d = {0};
    if (have(&c->data_train) && k->tokenizer) {
        DatasetOptions o;
        const double before = heap_bytes();
        dataset_options(&o, c, k->tokenizer, k->tmpl, k->cfg.context);
        if (kind == DATASET_PROMPTS) o.max_prompt = k->cfg.context - c->ppo_max_response;
        TRY(dataset_load(&d, kind, &c->data_train, &o));
        *records = d.n;
        plan_records(w, &d);
        close_records(s, &d);
        k->tokenizer_bytes += heap_bytes() - before; /* what it has remembered of words */
        return 0;
    }
    const int64_t room = k->cfg.context - (kind == DATASET_PROMPTS ? c->ppo_max_response : 0);
    *records = g->records;
    w->sequences = kind != DATASET_RANKED ? 1 : g->answers > 0 ? g->answers : ANSWERS;
    w->length = g->length > 0 ? g->length : (double)room / 2;
    w->response = c->stage == STAGE_REWARD ? 1 : fmin(g->response, w->length); /* 0: all */
    if (kind == DATASET_PROMPTS && g->length > 0 && g->response > 0) w->length -= g->response;
    if (kind == DATASET_RANKED && g->answers <= 0)
        assume(s, "%d answers a prompt (--answers)", ANSWERS);
    if (g->length <= 0)
        assume(s, "%s of %.0f tokens, half the room in the context (--length)",
               kind == DATASET_PROMPTS ? "prompts" : "sequences", w->length);
    return 0;
}

/* Of an evaluation; not known: as many tokens as there is room for. */
static int evaluation_of(PlanStage *s, const Known *k, const Config *c, DatasetKind kind,
                         const StrList *files, int64_t records) {
    if (files->n == 0) return 0;
    s->work.eval_tokens = HUGE_VAL;
    if (!have(files) || !k->tokenizer) return 0;
    Dataset d;
    DatasetOptions o;
    dataset_options(&o, c, k->tokenizer, k->tmpl, k->cfg.context);
    TRY(dataset_load(&d, kind, files, &o));
    plan_evaluation(&s->work, &d, records);
    close_records(s, &d);
    return 0;
}

/* --- the stages ------------------------------------------------------------------------------- */

static int plan_pretrain(PlanStage *s, Known *k, const Config *c, const PlanGiven *g) {
    PlanWork *w = &s->work;
    Corpus *corpus = NULL, *heldout = NULL;
    int64_t count = 0;
    if (have(&c->data_train)) TRY(corpus_open(&corpus, &c->data_train, 0));
    int rc = know_tokenizer(k, c, corpus);
    if (rc >= 0 && k->tokenizer && have(&c->data_heldout))
        rc = corpus_open(&heldout, &c->data_heldout, tokenizer_hash(k->tokenizer));
    k->model = true;
    if (rc >= 0) rc = arch_of_config(&k->cfg, c, k->vocab);
    *w = plan_work(c, &k->cfg);
    if (rc >= 0) rc = windows_of(s, "data.train", corpus, c, k->cfg.context, &w->length, &count);
    if (c->data_heldout.n > 0)
        w->eval_tokens = c->eval_records > 0 ? (double)c->eval_records * w->length
                         : heldout           ? (double)corpus_tokens(heldout)
                                             : HUGE_VAL;
    close_corpus(s, &corpus, true);
    close_corpus(s, &heldout, false);
    TRY(rc);
    w->steps = plan_steps(c, count ? count : g->records);
    return 0;
}

/* Demonstrations, and what a stage that says nothing else is taken to learn from. */
static int plan_demos(PlanStage *s, Known *k, const Config *c, const PlanGiven *g) {
    PlanWork *w = &s->work;
    int64_t records;
    TRY(know_parent(k, c));
    TRY(template_of_config(c, &k->tmpl));
    *w = plan_work(c, &k->cfg);
    TRY(records_of(s, k, c, DATASET_DEMOS, g, &records));
    TRY(evaluation_of(s, k, c, DATASET_DEMOS, &c->data_heldout, c->eval_records));
    if (c->data_mix_ratio > 0) {
        TRY(mixed_windows(s, k, c, &w->window));
        plan_mix(w, c->data_mix_ratio);
    }
    w->steps = plan_steps(c, records);
    return 0;
}

static int plan_reward(PlanStage *s, Known *k, const Config *c, const PlanGiven *g) {
    PlanWork *w = &s->work;
    int64_t records;
    TRY(know_parent(k, c));
    GptConfig cfg = k->cfg;
    cfg.scalar_head = true;
    cfg.untied = false;
    if (c->reward_layers > 0) cfg.layers = c->reward_layers;
    if (c->reward_pairs == PAIRS_SHUFFLED)
        assume(s,
               "steps and their length are those of whole rankings, not of reward.pairs: shuffled");
    *w = plan_work(c, &cfg);
    TRY(records_of(s, k, c, DATASET_RANKED, g, &records));
    w->eval_tokens = records > 0 ? (double)records * w->length : HUGE_VAL; /* the best answers */
    TRY(evaluation_of(s, k, c, DATASET_DEMOS, &c->data_reference, 0));
    w->steps = plan_steps(c, records);
    return 0;
}

static int plan_dpo(PlanStage *s, Known *k, const Config *c, const PlanGiven *g) {
    PlanWork *w = &s->work;
    int64_t records;
    const DatasetKind kind = c->dpo_loss == DPO_KTO ? DATASET_LABELLED : DATASET_RANKED;
    TRY(know_parent(k, c));
    *w = plan_work(c, &k->cfg);
    TRY(records_of(s, k, c, kind, g, &records));
    TRY(evaluation_of(s, k, c, kind, &c->data_heldout, c->eval_records));
    if (preference_has_reference(c->dpo_loss))
        w->first_tokens = records > 0 ? (double)records * w->sequences * w->length : HUGE_VAL;
    w->steps = plan_steps(c, records);
    return 0;
}

static int plan_ppo(PlanStage *s, Known *k, const Config *c, const PlanGiven *g) {
    PlanWork *w = &s->work;
    int64_t records;
    TRY(know_parent(k, c));
    if (c->ppo_max_response >= k->cfg.context)
        return config_bad(c, "ppo.max_response",
                          "leaves no room for a prompt in the context of %" PRId64, k->cfg.context);
    *w = iteration_plan(c, &k->cfg);
    TRY(records_of(s, k, c, DATASET_PROMPTS, g, &records));
    w->response = g->response > 0 ? fmin(g->response, (double)w->longest) : (double)w->longest;
    if (g->response <= 0)
        assume(s, "responses of %" PRId64 " tokens, the longest (--response)", w->longest);
    w->length += w->response;
    w->steps = plan_steps(c, records);
    if (c->ptx_coef > 0) TRY(mixed_windows(s, k, c, &w->window));
    return 0;
}

static int (*const plans[STAGES])(PlanStage *, Known *, const Config *, const PlanGiven *) = {
    [STAGE_PRETRAIN] = plan_pretrain, [STAGE_REWARD] = plan_reward, [STAGE_DPO] = plan_dpo,
    [STAGE_PPO] = plan_ppo,           [STAGE_GRPO] = plan_ppo,
};

static int plan_stage(PlanStage *s, Known *k, const PlanGiven *g) {
    Config c;
    TRY(config_load(&c, s->kind, s->config, s->set, s->nset));
    int rc = (plans[s->kind] ? plans[s->kind] : plan_demos)(s, k, &c, g);
    /* every parent comes with its own */
    s->work.data += k->tokenizer_bytes * (1 + (c.from_reward[0] != '\0') + c.from_ensemble.n);
    if (rc >= 0 && s->work.steps == 0)
        assume(s, "the number of steps is not known: %s is not there yet (--records)",
               c.data_train.n ? c.data_train.v[0] : "data.train");
    config_free(&c);
    return rc < 0 ? rc : 0;
}

/* --- recipes ---------------------------------------------------------------------------------- */

static PlanStage *add_stage(PlanStages *out, const char *name, const char *config, int kind,
                            const char *const *set, int nset) {
    out->v = xrealloc(out->v, (size_t)(out->n + 1) * sizeof *out->v);
    PlanStage *s = &out->v[out->n++];
    *s = (PlanStage){.name = xstrdup(name),
                     .config = xstrdup(config),
                     .kind = kind,
                     .nset = nset,
                     .assumed = xstrdup("")};
    s->set = xcalloc((size_t)nset + 1, sizeof *s->set);
    for (int i = 0; i < nset; i++) s->set[i] = set[i];
    return s;
}

/* What `rhetor-data tokenizer --vocab N` of a recipe will make. */
static int64_t vocab_of_command(const char *run) {
    const char *at = run && strstr(run, "rhetor-data tokenizer") ? strstr(run, "--vocab ") : NULL;
    return at ? strtoll(at + 8, NULL, 10) : 0;
}

static bool is_of(const RecipeStep *s, const char *file) {
    return s->stage && strcmp(file_basename(s->config), file_basename(file)) == 0;
}

/* The overrides "key=value" that the stage of the file `only` knows, as "STEP:key=value": they are
 * for that stage alone. malloc'd strings in a list of n. */
static int for_step(const char *folder, const char *only, const char *const *overrides, int n,
                    char ***out) {
    Recipe r;
    TRY(recipe_load(&r, folder, NULL, 0));
    const RecipeStep *s = NULL;
    for (int i = 0; i < r.n && !s; i++)
        if (is_of(&r.step[i], only)) s = &r.step[i];
    int rc =
        s ? 0
          : error_set(ERR_CONFIG, "%s: no step of %s/pipeline.yaml uses this file", only, folder);
    *out = s ? xcalloc((size_t)n + 1, sizeof **out) : NULL;
    for (int i = 0; i < n && s; i++)
        (*out)[i] = recipe_step_knows(s, overrides[i]) ? xasprintf("%s:%s", s->name, overrides[i])
                                                       : xstrdup(overrides[i]);
    recipe_free(&r);
    return rc;
}

/* All stages of the recipe, or, with `only`, that of this file; those before it are still gone
 * through, since a stage inherits its model. */
static int from_steps(PlanStages *out, const Recipe *r, const char *only, const PlanGiven *g) {
    Known k = {.tmpl = TEMPLATE_PLAIN, .vocab = g->vocab};
    int rc = 0, found = 0;
    for (int i = 0; rc >= 0 && i < r->n && !(only && found); i++) {
        const RecipeStep *step = &r->step[i];
        if (!k.vocab) k.vocab = vocab_of_command(step->run);
        if (!step->stage) continue;
        PlanStage *s = add_stage(out, step->name, step->config, step->stage, step->set, step->nset);
        const bool wanted = !only || is_of(step, only);
        k.alone = only && wanted;
        rc = plan_stage(s, &k, g);
        found += wanted;
        if (!wanted) { /* the list ends where it did */
            PlanStages last = {xcalloc(1, sizeof *s), 1};
            *last.v = *s;
            out->n--;
            stages_free(&last);
        }
    }
    tokenizer_close(&k.tokenizer);
    return rc >= 0 && !found ? error_set(ERR_CONFIG, "%s: has no stage, only commands", r->folder)
                             : rc;
}

static int from_recipe(PlanStages *out, const char *folder, const char *only,
                       const char *const *overrides, int n, const PlanGiven *g) {
    Recipe r;
    char **own = NULL;
    if (only) TRY(for_step(folder, only, overrides, n, &own));
    int rc = recipe_load(&r, folder, own ? (const char *const *)own : overrides, n);
    if (rc >= 0) {
        rc = from_steps(out, &r, only, g);
        recipe_free(&r);
    }
    for (int i = 0; own && i < n; i++) free(own[i]);
    free(own);
    return rc < 0 ? rc : 0;
}

/* A stage's name at the beginning of the file's: ppo-ptx.yaml is PPO's. */
static int stage_of_file(const char *path) {
    for (int s = STAGE_NONE + 1; s < STAGES; s++)
        if (strncmp(file_basename(path), config_stage_name(s), strlen(config_stage_name(s))) == 0)
            return s;
    return STAGE_NONE;
}

static int from_config(PlanStages *out, const char *path, const char *const *overrides, int n,
                       const PlanGiven *g) {
    const int stage = g->stage ? g->stage : stage_of_file(path);
    if (!stage)
        return error_set(ERR_USAGE,
                         "%s: the settings of which stage? --stage pretrain, sft, reward or ppo "
                         "(or a file whose name begins so)",
                         path);
    Known k = {.tmpl = TEMPLATE_PLAIN, .vocab = g->vocab};
    int rc = plan_stage(add_stage(out, config_stage_name(stage), path, stage, overrides, n), &k, g);
    tokenizer_close(&k.tokenizer);
    return rc;
}

int stages_load(PlanStages *out, const char *path, const char *const *overrides, int n,
                const PlanGiven *g) {
    *out = (PlanStages){0};
    if (!file_exists(path))
        return error_set(ERR_CONFIG,
                         "%s: no such file or folder; expected a recipe such as configs/demo, or "
                         "the YAML file of a stage",
                         path);
    if (file_is_dir(path)) return from_recipe(out, path, NULL, overrides, n, g);
    const size_t len = (size_t)(file_basename(path) - path);
    char *folder = len > 1 ? xasprintf("%.*s", (int)len - 1, path) : xstrdup(".");
    AUTOFREE char *recipe = file_join(folder, "pipeline.yaml");
    int rc = file_exists(recipe) ? from_recipe(out, folder, path, overrides, n, g)
                                 : from_config(out, path, overrides, n, g);
    free(folder);
    return rc;
}

void stages_free(PlanStages *s) {
    for (int i = 0; i < s->n; i++) {
        free(s->v[i].name);
        free(s->v[i].config);
        free(s->v[i].assumed);
        free(s->v[i].set);
    }
    free(s->v);
    *s = (PlanStages){0};
}
