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

/* The index of the row that is picked; rows are in the order of the steps. */
int pick_choose(const Comparison *c);

/* Prints a table and the choice to f. `o`: reward model, prompts (held-out ones; not those of the
 * final evaluation) and how to sample; the rest is set here. run: SFT run folder. out: NULL, or the
 * folder that will hold the picked checkpoint (as a run folder does, so that from.model can name
 * it) and picked.json; its earlier content is replaced. ERR_DATA: the run holds no checkpoint;
 * ERR_CONFIG: `out` is a folder of something else. */
int pick(const CompareOptions *o, const char *run, const char *out, FILE *f);

#endif
