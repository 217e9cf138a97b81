/* compare.c: several models answer the same prompts. See compare.h. */
#include "eval/compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "data/world/gold.h"
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

/* Mean and its standard error. */
static double mean_se(const double *x, int64_t n, double *se) {
    double mean = 0, var = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i] / (double)n;
    for (int64_t i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean) / (double)(n - 1);
    *se = sqrt(var / (double)n);
    return mean;
}

typedef struct Judge {
    Gold *gold;    /* [n], or NULL */
    Loaded reward; /* gpt NULL: none */
    Loaded base;
    const CompareOptions *o;
    Corpus *heldout;
    Comm *comm;
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
    row->stopped = a->stopped;
    if (j->reward.gpt) {
        rewards(j, a, reward);
        double se;
        row->reward = mean_se(reward, n, &se);
    }
    for (int64_t i = 0; i < n; i++)
        row->score[i] = j->gold ? gold_score(&j->gold[i], a->text[i], NULL) : reward[i];
    if (j->gold) row->gold = mean_se(row->score, n, &row->gold_se);
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
    if (rc == 0) rc = answer_all(&a, &m, p, 1, j->o);
    if (rc == 0) {
        judge_answers(j, row, name, &a);
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
    AUTOFREE double *gold = xcalloc((size_t)prompts + 1, sizeof *gold);
    for (int64_t i = 0; i < prompts; i++)
        for (int64_t g = 0; g < groups; g++) {
            const int64_t pick = pick_best(r, i * K + g * n, n);
            b.reward += r[pick] / (double)(groups * prompts);
            if (j->gold) gold[i] += gold_score(&j->gold[i], all->text[pick], NULL) / (double)groups;
        }
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
    answers_free(&all);
    answers_free(&best);
    return 0;
}

static CompareRow *find_row(const Comparison *c, const char *name) {
    for (int i = 0; i < c->nrow; i++)
        if (strcmp(c->row[i].name, name) == 0) return &c->row[i];
    return NULL;
}

static void difference(const CompareRow *a, const CompareRow *b, int64_t n, double *mean,
                       double *se) {
    AUTOFREE double *d = xmalloc((size_t)(n + 1) * sizeof *d);
    for (int64_t i = 0; i < n; i++) d[i] = a->score[i] - b->score[i];
    *mean = mean_se(d, n, se);
}

void compare_difference(const Comparison *c, const char *a, const char *b, double *mean,
                        double *se) {
    const CompareRow *x = find_row(c, a), *y = find_row(c, b);
    *mean = *se = (double)NAN;
    if (x && y) difference(x, y, c->n, mean, se);
}

double compare_score(const Comparison *c, int i, double *se) {
    return mean_se(c->row[i].score, c->n, se);
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

static int judge_all(Comparison *c, const Judge *j, const PromptFile *p) {
    const CompareOptions *o = j->o;
    c->n = p->n;
    c->has_gold = j->gold != NULL;
    c->row = xcalloc((size_t)o->n + 1, sizeof *c->row);
    c->prompt = xcalloc((size_t)p->n + 1, sizeof *c->prompt);
    for (int64_t i = 0; i < p->n; i++)
        TRY(tokenizer_decode(j->base.tokenizer, p->ids[i].v, p->ids[i].n, true, &c->prompt[i],
                             NULL));
    for (int i = 0; i < o->n; i++)
        TRY(judge_model(j, &c->row[c->nrow++], o->name[i], o->path[i], p));
    if (o->best_of > 0 && j->reward.gpt) TRY(judge_best_of(c, j, &c->row[c->nrow++], p));
    const CompareRow *base = find_row(c, o->base);
    for (int i = 0; i < c->nrow; i++) {
        CompareRow *r = &c->row[i];
        difference(r, base, c->n, &r->diff, &r->diff_se);
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
    }
    for (int64_t k = 0; c->prompt && k < c->n; k++) free(c->prompt[k]);
    free(c->prompt);
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
        double se, mean = mean_se(r->score, c->n, &se);
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

json_t *compare_json(const Comparison *c) {
    json_t *rows = json_array(), *best = json_array();
    for (int i = 0; i < c->nrow; i++) {
        const CompareRow *r = &c->row[i];
        double se, mean = mean_se(r->score, c->n, &se);
        const Number number[] = {
            {"score", mean},       {"score_se", se},       {"gold", r->gold},
            {"reward", r->reward}, {"diff", r->diff},      {"diff_se", r->diff_se},
            {"win", r->win},       {"kl", r->kl},          {"lm_loss", r->lm_loss},
            {"length", r->length}, {"stopped", r->stopped}};
        json_t *row = json_pack("{s:s}", "model", r->name);
        set_numbers(row, number, sizeof number / sizeof *number);
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
    return json_pack("{s:I, s:b, s:o, s:o}", "prompts", (json_int_t)c->n, "gold", c->has_gold,
                     "rows", rows, "best_of", best);
}
