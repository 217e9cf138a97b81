/* compare.c: several models answer the same prompts. See compare.h. */
#include "eval/compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "core/kernel.h"
#include "data/world/policy.h"
#include "eval/stats.h"
#include "rlhf/score.h"
#include "train/evaluate.h"

/* The answers of one model: token sequences (prompt and response) and texts. */
typedef struct Answers {
    int64_t n;
    Sequence *seq; /* tokens owned */
    char **text;
    double length, stopped;
    unsigned char *ended;
} Answers;

static void answers_free(Answers *a) {
    for (int64_t i = 0; i < a->n; i++) {
        free((void *)(uintptr_t)a->seq[i].tokens);
        free(a->text[i]);
    }
    free(a->seq);
    free(a->text);
    free(a->ended);
    *a = (Answers){0};
}

static void answers_open(Answers *a, int64_t n) {
    *a = (Answers){.n = n};
    a->seq = xcalloc((size_t)n + 1, sizeof *a->seq);
    a->text = xcalloc((size_t)n + 1, sizeof *a->text);
    a->ended = xcalloc((size_t)n + 1, 1);
}

/* All but its text. */
static void add_answer(Answers *a, int64_t i, const int32_t *prompt, int64_t nprompt,
                       const int32_t *response, int64_t n, bool ended) {
    int32_t *tokens = xmalloc((size_t)(nprompt + n + 1) * sizeof *tokens);
    memcpy(tokens, prompt, (size_t)nprompt * sizeof *tokens);
    memcpy(tokens + nprompt, response, (size_t)n * sizeof *tokens);
    a->seq[i] = (Sequence){.tokens = tokens, .n = nprompt + n, .prompt = nprompt};
    a->ended[i] = ended;
    a->length += (double)n / (double)a->n;
    a->stopped += (double)ended / (double)a->n;
}

static int answer_all(Answers *a, const Loaded *m, const PromptFile *p, int64_t K,
                      const CompareOptions *o) {
    DecodeOptions d = {.temperature = o->temperature,
                       .top_p = 1,
                       .max_new = o->max_new,
                       .seed = (uint64_t)o->seed};
    DecodeResult r = {0};
    TRY(prompts_sample(&r, m, p, K, &d));
    answers_open(a, r.n);
    int rc = 0;
    for (int64_t i = 0; i < r.n && rc >= 0; i++) {
        const IdList *ids = &p->ids[i / K];
        const Response *s = &r.v[i];
        add_answer(a, i, ids->v, ids->n, s->tokens, s->n, s->stopped);
        rc = template_decode(m->tmpl, m->tokenizer, s->tokens, s->n, &a->text[i]);
    }
    decode_free(&r);
    return rc < 0 ? rc : 0;
}

/* An answer whose text is given: as a model with the judge's template would have sampled it. */
static int add_text(Answers *a, int64_t i, const Loaded *m, const IdList *prompt, const char *text,
                    bool ended) {
    IdList ids = {0};
    TRY(template_completion(m->tmpl, m->tokenizer, text, &ids));
    const int64_t room = m->gpt->cfg.context - prompt->n;
    add_answer(a, i, prompt->v, prompt->n, ids.v, ids.n < room ? ids.n : room, ended);
    a->text[i] = xstrdup(text);
    ids_free(&ids);
    return 0;
}

/* The first sentence of what a model writes behind a text: up to its stop, without the space and
 * the quotation mark before it. false: there is no stop. Shortens the text in place. */
static bool first_sentence(char *text) {
    const char *from = text + strspn(text, " \"\n");
    const size_t n = strcspn(from, ".?!"), stop = from[n] != 0;
    memmove(text, from, n + stop);
    text[n + stop] = 0;
    return stop;
}

/* One answer a prompt of a model without a template. p: encoded for m2, whose template the sequences
 * that are judged have. */
static int answer_raw(Answers *a, const Loaded *m, const Loaded *judge, const PromptFile *p,
                      const CompareOptions *o) {
    DecodeOptions d = {.temperature = o->temperature,
                       .top_p = 1,
                       .max_new = o->max_new,
                       .seed = (uint64_t)o->seed};
    PromptFile raw = {.n = p->n, .ids = xcalloc((size_t)p->n + 1, sizeof *raw.ids)};
    DecodeResult r = {0};
    int rc = 0;
    for (int64_t i = 0; i < p->n && rc >= 0; i++) {
        rc = prompts_raw(&raw.ids[i], m, p->record[i], NULL);
        if (raw.ids[i].n > m->gpt->cfg.context - o->max_new)
            raw.ids[i].n = m->gpt->cfg.context - o->max_new;
    }
    if (rc >= 0) rc = prompts_sample(&r, m, &raw, 1, &d);
    if (rc >= 0) answers_open(a, p->n);
    for (int64_t i = 0; i < p->n && rc >= 0; i++) {
        char *text = NULL;
        rc = template_text(m->tokenizer, r.v[i].tokens, r.v[i].n, &text);
        if (rc >= 0) rc = add_text(a, i, judge, &p->ids[i], text, first_sentence(text));
        free(text);
    }
    for (int64_t i = 0; i < p->n; i++) ids_free(&raw.ids[i]);
    free(raw.ids);
    decode_free(&r);
    return rc < 0 ? rc : 0;
}

static double mean_se(const double *x, int64_t n, double *se) {
    return groups_mean(NULL, x, n, NULL, se);
}

typedef struct Judge {
    Gold *gold;    /* [n], or NULL */
    Loaded reward; /* gpt NULL: none */
    Loaded base;
    const CompareOptions *o;
    Corpus *heldout;
    Comm *comm;
    const int64_t *cluster; /* [n] of the prompts */
} Judge;

/* Reward model's scores of all answers. */
static void rewards(const Judge *j, const Answers *a, double *out) {
    AUTOFREE float *r = xmalloc((size_t)(a->n + 1) * sizeof *r);
    score_samples(j->reward.gpt, a->seq, a->ended, a->n, j->o->micro_tokens, j->o->no_stop_score,
                  r);
    for (int64_t i = 0; i < a->n; i++) out[i] = (double)r[i];
}

/* Fills a row from the answers (one a prompt); takes over their texts. */
static void judge_answers(const Judge *j, CompareRow *row, const char *name, Answers *a) {
    const int64_t n = a->n;
    AUTOFREE double *reward = xcalloc((size_t)n + 1, sizeof *reward);
    snprintf(row->name, sizeof row->name, "%s", name);
    row->score = xcalloc((size_t)n + 1, sizeof *row->score);
    row->reward = row->gold = row->gold_se = row->kl = row->lm_loss = (double)NAN;
    row->length = a->length;
    row->log_length = xcalloc((size_t)n + 1, sizeof *row->log_length);
    for (int64_t i = 0; i < n; i++)
        row->log_length[i] = log(fmax((double)(a->seq[i].n - a->seq[i].prompt), 1));
    row->stopped = a->stopped;
    if (j->reward.gpt) {
        rewards(j, a, reward);
        double se;
        row->reward = mean_se(reward, n, &se);
    }
    if (j->gold) {
        row->verdict = xcalloc((size_t)n + 1, sizeof *row->verdict);
        row->made_up = xcalloc((size_t)n + 1, sizeof *row->made_up);
    }
    for (int64_t i = 0; i < n; i++) {
        GoldParts parts = {0};
        row->score[i] = j->gold ? gold_score(&j->gold[i], a->text[i], &parts) : reward[i];
        if (!j->gold) continue;
        row->verdict[i] = parts.verdict;
        row->made_up[i] = parts.made_up;
    }
    if (j->gold) row->gold = groups_mean(NULL, row->score, n, j->cluster, &row->gold_se);
    if (j->o->by_reward) memcpy(row->score, reward, (size_t)n * sizeof *reward);
    row->text = a->text;
    a->text = xcalloc((size_t)n + 1, sizeof *a->text);
}

static int judge_model(const Judge *j, CompareRow *row, const char *name, const char *path,
                       const PromptFile *p) {
    Loaded m;
    Answers a = {0};
    TRY(load_model(&m, path, name, LOAD_LANGUAGE));
    int rc = 0;
    if (tokenizer_hash(m.tokenizer) != tokenizer_hash(j->base.tokenizer))
        rc = error_set(ERR_CONFIG, "%s and %s have different tokenizers", m.path, j->base.path);
    m.tmpl = j->base.tmpl; /* a pretrained model has none yet */
    const bool raw = j->o->raw && strcmp(name, j->o->raw) == 0;
    if (rc == 0) rc = raw ? answer_raw(&a, &m, &j->base, p, j->o) : answer_all(&a, &m, p, 1, j->o);
    if (rc == 0) judge_answers(j, row, name, &a);
    if (rc == 0 && !raw) { /* of a raw model's answer the two have not the same prompt */
        AUTOFREE double *mine = xmalloc((size_t)a.n * sizeof *mine),
                        *base = xmalloc((size_t)a.n * sizeof *base);
        evaluate_logp(m.gpt, a.seq, a.n, j->o->temperature, j->o->micro_tokens, mine);
        evaluate_logp(j->base.gpt, a.seq, a.n, j->o->temperature, j->o->micro_tokens, base);
        row->kl = 0;
        for (int64_t i = 0; i < a.n; i++) row->kl += (mine[i] - base[i]) / (double)a.n;
    }
    if (rc == 0 && j->heldout) {
        EvalLoss e;
        rc = evaluate_corpus(m.gpt, j->heldout, 0, j->o->micro_tokens, j->comm, &e);
        row->lm_loss = e.nll;
    }
    answers_free(&a);
    load_free(&m);
    return rc;
}

static int judge_policy(const Judge *j, CompareRow *row, const char *name, const char *policy,
                        const PromptFile *p) {
    const int k = policy_find(policy);
    CHECK(k >= 0 && j->gold, "policy %s", policy);
    AUTOFREE char **answer = xcalloc((size_t)p->n + 1, sizeof *answer);
    AUTOFREE const char **prompt = xcalloc((size_t)p->n + 1, sizeof *prompt);
    for (int64_t i = 0; i < p->n; i++) prompt[i] = policy_prompt(p->record[i]);
    policy_answer(k, j->gold, prompt, p->n, (uint64_t)j->o->seed, answer);
    Answers a = {0};
    answers_open(&a, p->n);
    int rc = 0;
    for (int64_t i = 0; i < p->n; i++) {
        if (rc == 0) rc = add_text(&a, i, &j->base, &p->ids[i], answer[i], true);
        free(answer[i]);
    }
    if (rc == 0) judge_answers(j, row, name, &a);
    answers_free(&a);
    return rc;
}

/* Does the reward model like the right answer better than "The text does not say."? */
static int judge_abstaining(Comparison *c, const Judge *j, const PromptFile *p) {
    const Group *g = groups_find(&c->groups, "answerable");
    if (!g) return 0;
    Answers a = {0};
    answers_open(&a, 2 * g->n);
    int rc = 0;
    for (int64_t k = 0; k < 2 * g->n && rc == 0; k++) {
        const int64_t i = g->index[k / 2];
        rc = add_text(&a, k, &j->base, &p->ids[i],
                      k % 2 ? "The text does not say." : j->gold[i].ideal, true);
    }
    AUTOFREE double *r = xmalloc((size_t)(a.n + 1) * sizeof *r);
    if (rc == 0) rewards(j, &a, r);
    c->above_abstaining = 0;
    for (int64_t k = 0; k < g->n; k++)
        c->above_abstaining += (r[2 * k] > r[2 * k + 1]) / (double)g->n;
    answers_free(&a);
    return rc;
}

/* How often the reward model orders two of the K samples of a prompt as the gold reward does. */
static void judge_ranking(Comparison *c, const Judge *j, const Answers *all, const double *r,
                          int64_t K) {
    AUTOFREE double *gold = xmalloc((size_t)(all->n + 1) * sizeof *gold);
    for (int64_t i = 0; i < all->n; i++) gold[i] = gold_score(&j->gold[i / K], all->text[i], NULL);
    c->accuracy = xcalloc((size_t)c->groups.n + 1, sizeof *c->accuracy);
    for (int m = 0; m < c->groups.n; m++) {
        const Group *g = &c->groups.v[m];
        double pairs = 0, right = 0;
        for (int64_t k = 0; k < g->n; k++)
            for (int64_t a = g->index[k] * K; a < (g->index[k] + 1) * K; a++)
                for (int64_t b = g->index[k] * K; b < a; b++) {
                    if (gold[a] == gold[b]) continue;
                    pairs++;
                    right += r[a] == r[b] ? 0.5 : (r[a] > r[b]) == (gold[a] > gold[b]);
                }
        c->accuracy[m] = pairs > 0 ? right / pairs : (double)NAN;
    }
}

static double best_of_kl(int64_t n) { return log((double)n) - (double)(n - 1) / (double)n; }

/* Which of samples begin..begin+n-1 the reward model likes best. */
static int64_t pick_best(const double *r, int64_t begin, int64_t n) {
    int64_t pick = begin;
    for (int64_t k = begin; k < begin + n; k++)
        if (r[k] > r[pick]) pick = k;
    return pick;
}

/* The best of n of the K samples of each prompt, a mean over the groups of n. */
static BestOf best_of(const Judge *j, const Answers *all, const double *r, int64_t prompts,
                      int64_t K, int64_t n) {
    BestOf b = {.n = n, .kl = best_of_kl(n), .gold = (double)NAN, .gold_se = (double)NAN};
    const int64_t groups = K / n;
    AUTOFREE double *gold = xcalloc((size_t)prompts + 1, sizeof *gold),
                    *reward = xcalloc((size_t)prompts + 1, sizeof *reward);
    for (int64_t i = 0; i < prompts; i++)
        for (int64_t g = 0; g < groups; g++) {
            const int64_t pick = pick_best(r, i * K + g * n, n);
            reward[i] += r[pick] / (double)groups;
            if (j->gold) gold[i] += gold_score(&j->gold[i], all->text[pick], NULL) / (double)groups;
        }
    double se;
    b.reward = mean_se(reward, prompts, &se);
    if (j->gold) b.gold = mean_se(gold, prompts, &b.gold_se);
    return b;
}

/* Best of K samples of the base model by the reward model; of fewer, from the same samples. */
static int judge_best_of(Comparison *c, const Judge *j, CompareRow *row, const PromptFile *p) {
    const int64_t K = j->o->best_of;
    Answers all = {0}, best = {0};
    TRY(answer_all(&all, &j->base, p, K, j->o));
    AUTOFREE double *r = xmalloc((size_t)(all.n + 1) * sizeof *r);
    rewards(j, &all, r);
    answers_open(&best, p->n);
    for (int64_t i = 0; i < p->n; i++) {
        const int64_t pick = pick_best(r, i * K, K);
        const Sequence *s = &all.seq[pick];
        add_answer(&best, i, s->tokens, s->prompt, s->tokens + s->prompt, s->n - s->prompt,
                   all.ended[pick]);
        best.text[i] = xstrdup(all.text[pick]);
    }
    char name[64];
    snprintf(name, sizeof name, "best of %" PRId64, K);
    judge_answers(j, row, name, &best);
    row->kl = best_of_kl(K);
    for (int64_t n = 1; n <= K; n *= 2) {
        c->best = xrealloc(c->best, (size_t)(c->nbest + 1) * sizeof *c->best);
        c->best[c->nbest++] = best_of(j, &all, r, p->n, K, n);
    }
    if (j->gold) judge_ranking(c, j, &all, r, K);
    answers_free(&all);
    answers_free(&best);
    return 0;
}

static CompareRow *find_row(const Comparison *c, const char *name) {
    for (int i = 0; i < c->nrow; i++)
        if (strcmp(c->row[i].name, name) == 0) return &c->row[i];
    return NULL;
}

int compare_measure(const char *name) {
    if (strcmp(name, "score") == 0) return MEASURE_SCORE;
    if (strcmp(name, "made up") == 0) return MEASURE_MADE_UP;
    for (int v = 0; v < VERDICT_COUNT; v++)
        if (strcmp(name, gold_verdict_names[v]) == 0) return v;
    return -2;
}

static double measured(const CompareRow *r, int measure, int64_t i) {
    if (measure == MEASURE_SCORE) return r->score[i];
    return measure == MEASURE_MADE_UP ? r->made_up[i] > 0 : (int)r->verdict[i] == measure;
}

/* Mean of a measure of a, or (b not NULL) of its difference to that of b. */
static double measure_mean(const Comparison *c, int measure, const CompareRow *a,
                           const CompareRow *b, const Group *g, double *se) {
    *se = (double)NAN;
    if (measure != MEASURE_SCORE && (!a->verdict || (b && !b->verdict))) return (double)NAN;
    AUTOFREE double *x = xmalloc((size_t)(c->n + 1) * sizeof *x);
    for (int64_t i = 0; i < c->n; i++)
        x[i] = measured(a, measure, i) - (b ? measured(b, measure, i) : 0);
    return groups_mean(g, x, c->n, c->cluster, se);
}

void compare_difference_of(const Comparison *c, int measure, const char *a, const char *b,
                           const Group *g, double *mean, double *se) {
    const CompareRow *x = find_row(c, a), *y = find_row(c, b);
    *mean = *se = (double)NAN;
    if (x && y && g) *mean = measure_mean(c, measure, x, y, g, se);
}

void compare_difference(const Comparison *c, const char *a, const char *b, double *mean,
                        double *se) {
    const CompareRow *x = find_row(c, a), *y = find_row(c, b);
    *mean = *se = (double)NAN;
    if (x && y) *mean = measure_mean(c, MEASURE_SCORE, x, y, NULL, se);
}

double compare_score(const Comparison *c, int i, double *se) {
    return groups_mean(NULL, c->row[i].score, c->n, c->cluster, se);
}

static int read_gold(Judge *j, const PromptFile *p) {
    if (!json_object_get(p->record[0], "gold")) return 0;
    j->gold = xcalloc((size_t)p->n, sizeof *j->gold);
    for (int64_t i = 0; i < p->n; i++) {
        char where[512];
        snprintf(where, sizeof where, "%s, record %" PRId64, j->o->prompts, i + 1);
        TRY(gold_read(&j->gold[i], json_object_get(p->record[i], "gold"), where));
    }
    return 0;
}

static int open_judge(Judge *j, CompareOptions *o, PromptFile *p) {
    const char *path = NULL;
    for (int i = 0; i < o->n; i++)
        if (strcmp(o->name[i], o->base) == 0) path = o->path[i];
    if (!path)
        return error_set(ERR_USAGE, "--base %s is none of the models given with --model NAME=PATH",
                         o->base);
    TRY(comm_open_alone(&j->comm));
    TRY(load_model(&j->base, path, o->base, LOAD_LANGUAGE));
    if (o->reward) {
        TRY(load_model(&j->reward, o->reward, "--reward", LOAD_REWARD));
        TRY(load_same_tokenizer(&j->base, &j->reward));
    }
    const int64_t half = j->base.gpt->cfg.context / 2, asked = o->max_new > 0 ? o->max_new : 64;
    const bool cap = o->cap_new || o->max_new == 0;
    o->max_new = cap && asked > half ? half : asked;
    if (o->max_new != asked)
        log_info("answers of at most %" PRId64 " tokens, half of the model's context, not %" PRId64,
                 o->max_new, asked);
    if (o->max_new < 1 || o->max_new >= j->base.gpt->cfg.context)
        return error_set(ERR_USAGE,
                         "--max-new %" PRId64 ": expected 1 to %" PRId64
                         ", which leaves room for a prompt in the context of %" PRId64,
                         o->max_new, j->base.gpt->cfg.context - 1, j->base.gpt->cfg.context);
    TRY(prompts_load(p, o->prompts, &j->base, false, j->base.gpt->cfg.context - o->max_new,
                     o->max_prompts, NULL));
    TRY(read_gold(j, p));
    for (int i = 0; i < o->npolicy; i++)
        if (!j->gold || policy_find(o->policy[i]) < 0)
            return error_set(ERR_USAGE, "--policy %s=%s: %s", o->policy_name[i], o->policy[i],
                             j->gold ? "there is none of this name; rhetor-data policies lists them"
                                     : "the prompts have no \"gold\" records");
    if (!j->gold && !j->reward.gpt)
        return error_set(ERR_USAGE,
                         "%s has no \"gold\" records and there is no --reward: nothing can score "
                         "the answers",
                         o->prompts);
    if (o->heldout.n > 0) {
        StrList files = {(char **)(uintptr_t)o->heldout.v, o->heldout.n};
        TRY(corpus_open(&j->heldout, &files, tokenizer_hash(j->base.tokenizer)));
    }
    return 0;
}

static int judge_all(Comparison *c, Judge *j, const PromptFile *p) {
    const CompareOptions *o = j->o;
    c->n = p->n;
    c->has_gold = j->gold != NULL;
    c->row = xcalloc((size_t)(o->n + o->npolicy) + 1, sizeof *c->row);
    c->kernel = kernel_name(kernel_level);
    c->base = o->base;
    c->above_abstaining = (double)NAN;
    groups_make(&c->groups, j->gold, p->n);
    c->prompt = xcalloc((size_t)p->n + 1, sizeof *c->prompt);
    for (int64_t i = 0; i < p->n; i++)
        TRY(tokenizer_decode(j->base.tokenizer, p->ids[i].v, p->ids[i].n, true, &c->prompt[i],
                             NULL));
    j->cluster = c->cluster = groups_clusters(c->prompt, p->n);
    for (int i = 0; i < o->n; i++)
        TRY(judge_model(j, &c->row[c->nrow++], o->name[i], o->path[i], p));
    for (int i = 0; i < o->npolicy; i++)
        TRY(judge_policy(j, &c->row[c->nrow++], o->policy_name[i], o->policy[i], p));
    if (j->gold && j->reward.gpt) TRY(judge_abstaining(c, j, p));
    if (o->best_of > 0 && j->reward.gpt) TRY(judge_best_of(c, j, &c->row[c->nrow++], p));
    const CompareRow *base = find_row(c, o->base);
    for (int i = 0; i < c->nrow; i++) {
        CompareRow *r = &c->row[i];
        r->diff = measure_mean(c, MEASURE_SCORE, r, base, NULL, &r->diff_se);
        r->diff_at_length =
            stats_beside(r->log_length, r->score, c->n, base->log_length, base->score, c->n);
        for (int64_t k = 0; k < c->n; k++)
            r->win += (r->score[k] > base->score[k]   ? 1
                       : r->score[k] < base->score[k] ? 0
                                                      : 0.5) /
                      (double)c->n;
    }
    return 0;
}

int compare(Comparison *out, const CompareOptions *asked) {
    *out = (Comparison){0};
    CompareOptions o = *asked;
    Judge j = {.o = &o};
    PromptFile p = {0};
    int rc = open_judge(&j, &o, &p);
    if (rc == 0) rc = judge_all(out, &j, &p);
    free(j.gold);
    prompts_free(&p);
    corpus_close(&j.heldout);
    load_free(&j.base);
    load_free(&j.reward);
    comm_close(&j.comm);
    if (rc < 0) compare_free(out);
    return rc;
}

void compare_free(Comparison *c) {
    for (int i = 0; i < c->nrow; i++) {
        for (int64_t k = 0; c->row[i].text && k < c->n; k++) free(c->row[i].text[k]);
        free(c->row[i].text);
        free(c->row[i].score);
        free(c->row[i].log_length);
        free(c->row[i].verdict);
        free(c->row[i].made_up);
    }
    for (int64_t k = 0; c->prompt && k < c->n; k++) free(c->prompt[k]);
    free(c->prompt);
    free(c->cluster);
    free(c->accuracy);
    groups_free(&c->groups);
    free(c->best);
    free(c->row);
    *c = (Comparison){0};
}

static const char *cell(double v, const char *fmt, char out[32]) {
    if (isnan(v))
        snprintf(out, 32, "-");
    else {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(out, 32, fmt, v);
#pragma GCC diagnostic pop
    }
    return out;
}

/* What the answers do, in per cent. */
static void print_verdicts(const Comparison *c, FILE *f) {
    char a[32];
    double se;
    const char *head[MEASURE_MADE_UP + 1];
    fprintf(f, "\n%-12s", "% of answers");
    for (int v = 0; v <= MEASURE_MADE_UP; v++) {
        head[v] = v < VERDICT_COUNT ? gold_verdict_names[v] : "made up";
        fprintf(f, "  %s", head[v]);
    }
    for (int i = 0; i < c->nrow; i++) {
        fprintf(f, "\n%-12s", c->row[i].name);
        for (int v = 0; v <= MEASURE_MADE_UP; v++)
            fprintf(f, "  %*s", (int)strlen(head[v]),
                    cell(100 * measure_mean(c, v, &c->row[i], NULL, NULL, &se), "%.1f", a));
    }
    fprintf(f, "\n");
}

/* Gold by what is asked, and the reward model's accuracy. */
static void print_groups(const Comparison *c, FILE *f) {
    char a[32];
    double se;
    fprintf(f, "\n%-16s %6s", "gold", "n");
    for (int i = 0; i < c->nrow; i++) fprintf(f, " %12s", c->row[i].name);
    if (c->accuracy) fprintf(f, " %12s", "RM accuracy");
    for (int m = 0; m < c->groups.n; m++) {
        const Group *g = &c->groups.v[m];
        fprintf(f, "\n%-16s %6" PRId64, g->name, g->n);
        for (int i = 0; i < c->nrow; i++)
            fprintf(f, " %12s",
                    cell(measure_mean(c, MEASURE_SCORE, &c->row[i], NULL, g, &se), "%.3f", a));
        if (c->accuracy) fprintf(f, " %12s", cell(c->accuracy[m], "%.3f", a));
    }
    fprintf(f, "\n");
    if (!isnan(c->above_abstaining))
        fprintf(f,
                "the reward model puts the right answer above \"The text does not say.\": %.3f\n",
                c->above_abstaining);
}

void compare_print(const Comparison *c, const CompareOptions *o, FILE *f) {
    char a[32], b[32], d[32], e[32], g[32], h[32];
    const char *what = c->has_gold ? "gold" : "reward";
    char minus[48];
    snprintf(minus, sizeof minus, "minus %s", o->base);
    fprintf(f,
            "%" PRId64
            " held-out prompts, temperature %g; +- is a standard error, paired for differences\n\n",
            c->n, o->temperature);
    fprintf(f, "%-12s %16s %20s %8s %8s %8s %9s %8s\n", "model", what, minus, "win rate",
            "RM score", "KL", "LM loss", "tokens");
    for (int i = 0; i < c->nrow; i++) {
        const CompareRow *r = &c->row[i];
        char score[80], diff[80];
        double se, mean = compare_score(c, i, &se);
        snprintf(score, sizeof score, "%s +- %s", cell(mean, "%.3f", a), cell(se, "%.3f", b));
        if (strcmp(r->name, o->base) == 0)
            snprintf(diff, sizeof diff, "(base)");
        else
            snprintf(diff, sizeof diff, "%s +- %s", cell(r->diff, "%+.3f", a),
                     cell(r->diff_se, "%.3f", b));
        fprintf(f, "%-12s %16s %20s %8s %8s %8s %9s %8s\n", r->name, score, diff,
                cell(r->win, "%.3f", d), cell(r->reward, "%.3f", e), cell(r->kl, "%.2f", g),
                cell(r->lm_loss, "%.4f", h), cell(r->length, "%.1f", a));
    }
    if (c->nbest > 0) fprintf(f, "\n%-12s %16s %8s %8s\n", "best of", "gold", "RM score", "KL");
    for (int i = 0; i < c->nbest; i++) {
        const BestOf *k = &c->best[i];
        char gold[80] = "-";
        if (c->has_gold) snprintf(gold, sizeof gold, "%.3f +- %.3f", k->gold, k->gold_se);
        fprintf(f, "%-12" PRId64 " %16s %8s %8.2f\n", k->n, gold, cell(k->reward, "%.3f", a),
                k->kl);
    }
    if (c->has_gold) print_verdicts(c, f);
    if (c->has_gold) print_groups(c, f);
    for (int64_t k = 0; k < o->samples && k < c->n; k++) {
        int64_t i = k * (c->n / o->samples); /* spread over the file */
        fprintf(f, "\n--- %s\n", c->prompt[i]);
        for (int m = 0; m < c->nrow; m++)
            fprintf(f, "%10s %+6.2f  %s\n", c->row[m].name, c->row[m].score[i], c->row[m].text[i]);
    }
}

/* Members that are numbers; those that could not be measured are left out. */
typedef struct Number {
    const char *key;
    double v;
} Number;

static void set_numbers(json_t *j, const Number *number, size_t n) {
    for (size_t k = 0; k < n; k++)
        if (isfinite(number[k].v)) json_object_set_new(j, number[k].key, json_real(number[k].v));
}

/* For each group: n, score, what it is above base's, their standard errors, the shares of verdicts and of answers that make
 * something up. */
static json_t *groups_json(const Comparison *c, const CompareRow *r, const CompareRow *base) {
    json_t *all = json_object();
    for (int m = 0; m < c->groups.n; m++) {
        const Group *g = &c->groups.v[m];
        double se, score_se, score = measure_mean(c, MEASURE_SCORE, r, NULL, g, &score_se);
        json_t *one = json_pack("{s:I}", "n", (json_int_t)g->n), *acts = json_object();
        for (int v = 0; r->verdict && v < VERDICT_COUNT; v++)
            json_object_set_new(acts, gold_verdict_names[v],
                                json_real(measure_mean(c, v, r, NULL, g, &se)));
        double diff_se, diff = measure_mean(c, MEASURE_SCORE, r, base, g, &diff_se);
        const Number number[] = {{"score", score},
                                 {"score_se", score_se},
                                 {"diff", diff},
                                 {"diff_se", diff_se},
                                 {"made_up", measure_mean(c, MEASURE_MADE_UP, r, NULL, g, &se)}};
        set_numbers(one, number, sizeof number / sizeof *number);
        json_object_set_new(one, "acts", acts);
        json_object_set_new(all, g->name, one);
    }
    return all;
}

json_t *compare_json(const Comparison *c) {
    json_t *rows = json_array(), *best = json_array(), *groups = json_object();
    const CompareRow *base = find_row(c, c->base);
    for (int i = 0; i < c->nrow; i++) {
        const CompareRow *r = &c->row[i];
        double se, mean = compare_score(c, i, &se);
        const Number number[] = {
            {"score", mean},       {"score_se", se},        {"gold", r->gold},
            {"reward", r->reward}, {"diff", r->diff},       {"diff_se", r->diff_se},
            {"win", r->win},       {"kl", r->kl},           {"lm_loss", r->lm_loss},
            {"length", r->length}, {"stopped", r->stopped}, {"diff_at_length", r->diff_at_length}};
        json_t *row = json_pack("{s:s}", "model", r->name);
        set_numbers(row, number, sizeof number / sizeof *number);
        if (c->has_gold) json_object_set_new(groups, r->name, groups_json(c, r, base));
        json_array_append_new(rows, row);
    }
    for (int i = 0; i < c->nbest; i++) {
        const BestOf *b = &c->best[i];
        const Number number[] = {
            {"kl", b->kl}, {"gold", b->gold}, {"gold_se", b->gold_se}, {"reward", b->reward}};
        json_t *row = json_pack("{s:I}", "n", (json_int_t)b->n);
        set_numbers(row, number, sizeof number / sizeof *number);
        json_array_append_new(best, row);
    }
    json_t *table = json_pack("{s:I, s:b, s:o, s:o, s:o, s:s}", "prompts", (json_int_t)c->n, "gold",
                              c->has_gold, "rows", rows, "groups", groups, "best_of", best,
                              "kernel", c->kernel);
    if (c->accuracy) {
        json_t *accuracy = json_object();
        for (int m = 0; m < c->groups.n; m++)
            set_numbers(accuracy, &(Number){c->groups.v[m].name, c->accuracy[m]}, 1);
        json_object_set_new(table, "reward_accuracy", accuracy);
    }
    set_numbers(table, &(Number){"reward_above_abstaining", c->above_abstaining}, 1);
    return table;
}
