/* eval.h: what the parts of rhetor-eval share. */
#ifndef TOOLS_EVAL_EVAL_H
#define TOOLS_EVAL_EVAL_H

#include "base/error.h"
#include "base/json.h"
#include "base/option.h"
#include "checkpoints/exchange/loaded.h"

enum { MAX_LIST = 64, MICRO_TOKENS = 8192 };

typedef struct Args {
    const char *model, *reward, *prompts, *base, *json, *expect, *out;
    const char *name[MAX_LIST], *path[MAX_LIST]; /* --model NAME=PATH */
    int nmodel;
    OptionList file, heldout;
    int64_t max, max_new, best_of, seed, samples;
    double temperature, no_stop_score, expect_se, expect_accuracy;
    bool gold;
} Args;

/* A number with so many decimals; null where there is nothing to measure. */
json_t *decimals(double v, int n);

/* One line of JSON; takes over the reference. */
void print_result(json_t *j);

/* The subcommands. */
int cmd_loss(const Args *a);
int cmd_logprobs(const Args *a);
int cmd_reward(const Args *a);
int cmd_rank(const Args *a);
int cmd_win(const Args *a);
int cmd_compare(const Args *a);
int cmd_pick(const Args *a);

#endif
