/* compare.h: several models answer the same prompts; what each gained and what it cost. The table
 * of the demo. Not collective. */
#ifndef EVAL_COMPARE_H
#define EVAL_COMPARE_H

#include <stdio.h>

#include "base/option.h"
#include "eval/groups.h"
#include "eval/prompts.h"

typedef struct CompareOptions {
    const char *const *name; /* [n] what to call the models */
    const char *const *path; /* [n] run folders or checkpoints */
    int n;
    const char *raw; /* name of a model that has never seen the template, or NULL: it goes on
                            from the prompt's text, and its answer is what it writes up to the first
                            full stop, as the prompted GPT-3 of Ouyang 2022 */
    const char *const *policy_name, *const *policy; /* [npolicy] rows of data/world/policy.h */
    int npolicy;
    const char *base;    /* name of the model that win rates and KL refer to (the SFT model) */
    const char *reward;  /* reward model, or NULL */
    const char *prompts; /* prompt records; with "gold" they are scored by the gold program */
    OptionList heldout;  /* corpora for the language-model loss */
    int64_t max_prompts; /* 0: all */
    int64_t max_new;     /* tokens of an answer; 0: 64, or half of the context where that is less */
    bool cap_new;        /* half of the context at most, however much max_new is; else ERR_USAGE */
    int64_t best_of;     /* best_of n samples of `base` by the reward model; 0: no row */
    bool by_reward;      /* compare by the reward model's score, also where there is "gold" */
    double temperature;
    double no_stop_score; /* reward of an answer without the stop token: PPO's setting */
    int64_t seed;
    int64_t samples; /* prompts whose answers are shown */
    int64_t micro_tokens;
} CompareOptions;

/* One row. Scores are means over the prompts; a standard error of a difference is that of the
 * paired differences with `base`. NaN where there is nothing to measure. */
typedef struct CompareRow {
    char name[64];
    GoldVerdict *verdict;         /* [prompts] with gold: what each answer does ... */
    int *made_up;                 /* ... and how many claims it makes up; else NULL */
    double *score;                /* [prompts] gold, or the reward model's when there is no gold
                                     (or by_reward) */
    double gold, gold_se, reward; /* gold_se: standard error of the mean */
    double *log_length;           /* [prompts] of the answer, in tokens */
    double diff, diff_se;         /* score minus that of base */
    double diff_at_length;        /* ... of answers of the same length: beside log_length in a
                                     regression on both models' answers */
    double win;                   /* share of prompts where the score beats base's; ties half */
    double kl, lm_loss, length, stopped;
    char **text; /* [prompts] */
} CompareRow;

/* The best of n by the reward model, from the samples of best_of: a mean over all disjoint groups
 * of n, so that every n uses (nearly) all samples. Gold that falls while the reward rises is
 * over-optimisation (Gao 2022). */
typedef struct BestOf {
    int64_t n;
    double kl, gold, gold_se, reward; /* gold: NaN without */
} BestOf;

typedef struct Comparison {
    CompareRow *row;
    int nrow;
    BestOf *best; /* n = 1, 2, 4, ... up to best_of */
    int nbest;
    int64_t n; /* prompts */
    bool has_gold;
    char **prompt;    /* [n] texts */
    int64_t *cluster; /* [n] or NULL: which records have the same prompt */
    Groups groups;
    /* [groups.n] with gold and best_of: how often the reward model puts the better of two samples of
     * a prompt first (NaN: no pairs). */
    double *accuracy;
    double above_abstaining; /* share of the answerable prompts where it puts the ideal answer above
                                "The text does not say."; NaN: not measured */
    const char *kernel;
    const char *base; /* CompareOptions' */
} Comparison;

/* What is compared: the score, the share of a verdict, the share of answers that make something
 * up. */
enum { MEASURE_SCORE = -1, MEASURE_MADE_UP = VERDICT_COUNT };
int compare_measure(const char *name); /* "score", "right", ..., "made up"; -2: none of them */

int compare(Comparison *out, const CompareOptions *o);
void compare_free(Comparison *c);
void compare_print(const Comparison *c, const CompareOptions *o, FILE *f);
json_t *compare_json(const Comparison *c);

/* Mean score of row i and its standard error. */
double compare_score(const Comparison *c, int i, double *se);
/* Mean and standard error of the paired difference of two rows' scores. */
void compare_difference(const Comparison *c, const char *a, const char *b, double *mean,
                        double *se);
/* The same of any measure over a group. NaN where a row, the group or gold is missing. */
void compare_difference_of(const Comparison *c, int measure, const char *a, const char *b,
                           const Group *g, double *mean, double *se);

#endif
