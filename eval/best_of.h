/* best_of.h: best of n for many n, by several reward models, from samples that are kept: the file
 * that rhetor-generate --n K wrote. Nothing is sampled again, and each sample counts: the estimator
 * is the mean over all subsets of n of the K (eval/stats.h). Not collective. */
#ifndef EVAL_BEST_OF_H
#define EVAL_BEST_OF_H

#include <jansson.h>

typedef struct BestOfOptions {
    const char *samples;                   /* records with prompt, completions, stopped, gold */
    const char *const *name, *const *path; /* reward models */
    int n;
    double no_stop_score;
    int64_t micro_tokens, max_prompts;
    const char *answers; /* NULL, or a file: the records with "gold_scores" and, for each reward
                            model, its scores in "scores" */
} BestOfOptions;

/* {"prompts", "samples", "rows": [{"reward", "n", "kl", "proxy", "proxy_se", "gold", "gold_se"}],
 * "accuracy": [{"reward", "family", "pairs", "accuracy"}]}: n = 1, 2, 4, ... and K; standard errors
 * over prompts; accuracy: of pairs of a prompt's samples whose gold scores differ. A new reference.
 * ERR_DATA where a record has not the K samples of the first, or no gold. */
int best_of(json_t **out, const BestOfOptions *o);

#endif
