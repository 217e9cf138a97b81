/* pick.h: which checkpoint of an SFT run PPO starts from. Ouyang 2022 (App. C) chose the SFT model
 * by the reward model's score on held-out prompts, because it gets better at that while the
 * validation loss already rises. The reward model is trained from the run's last checkpoint first.
 *
 * Candidates are the checkpoints of the epochs (save.every_epoch) and the last one: what other
 * checkpoints are there depends on when the run was stopped. All answer the same prompts with the
 * same random numbers. Picked is the latest that is at most one standard error of the paired
 * difference below the best: noise should not move the start of PPO away from the model whose
 * samples the reward model knows. Not collective. */
#ifndef EVAL_PICK_H
#define EVAL_PICK_H

#include <stdio.h>

#include "eval/compare.h"

typedef struct PickOptions {
    const char *run;     /* SFT run folder */
    const char *reward;  /* reward model */
    const char *prompts; /* held-out ones; not those of the final evaluation */
    /* NULL, or the folder that will hold the picked checkpoint (as a run folder does, so that
     * from.model can name it) and picked.json. Its earlier content is replaced. */
    const char *out;
    int64_t max_prompts, max_new;
    double temperature, no_stop_score;
    uint64_t seed;
    int64_t micro_tokens;
} PickOptions;

/* The index of the row that is picked; rows are in the order of the steps. */
int pick_choose(const Comparison *c);

/* Prints a table and the choice to f and writes o->out. ERR_DATA: the run holds no checkpoint;
 * ERR_CONFIG: o->out is a folder of something else. */
int pick(const PickOptions *o, FILE *f);

#endif
