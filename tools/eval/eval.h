/* eval.h: what the parts of rhetor-eval share. */
#ifndef TOOLS_EVAL_EVAL_H
#define TOOLS_EVAL_EVAL_H

#include "base/error.h"
#include "base/json.h"
#include "base/option.h"
#include "eval/compare.h"

enum { MAX_LIST = 64, MICRO_TOKENS = 8192 };

typedef struct Args {
    CompareOptions o; /* what the subcommands share with compare is here */
    const char *model, *json, *out, *train;
    const char *name[MAX_LIST], *path[MAX_LIST];          /* [o.n] --model NAME=PATH */
    const char *policy_name[MAX_LIST], *policy[MAX_LIST]; /* [o.npolicy] --policy NAME=POLICY */
    OptionList file, expect;
    double expect_se, expect_accuracy;
    int64_t probes;
    bool gold, shuffle;
} Args;

/* A number with so many decimals; null where there is nothing to measure. */
json_t *eval_decimals(double v, int n);

/* One line of JSON; takes over the reference. */
void eval_print(json_t *j);

/* The subcommands. */
int eval_loss(const Args *a);
int eval_logprobs(const Args *a);
int eval_reward(const Args *a);
int eval_rank(const Args *a);
int eval_win(const Args *a);
int eval_compare(const Args *a);
int eval_pick(const Args *a);
int eval_probe(const Args *a);
int eval_best(const Args *a);
int eval_seeds(const Args *a);
int eval_judge(const Args *a);

#endif
