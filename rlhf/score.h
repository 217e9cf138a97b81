/* score.h: a reward model at work. */
#ifndef RLHF_SCORE_H
#define RLHF_SCORE_H

#include <jansson.h>

#include "checkpoints/exchange/load.h"
#include "data/dataset.h"
#include "dist/comm.h"
#include "model/gpt.h"
#include "rlhf/ranking.h"

/* r[i] = reward of q[i] at its last token, in micro-batches of at most micro_tokens (a longer
 * sequence is one of its own). Not collective. */
void score_sequences(Gpt *rm, const Sequence *q, int64_t n, int64_t micro_tokens, float *r);

/* The same, shared among the ranks; all of them get all of r. Collective. */
void score_shared(Gpt *rm, const Sequence *q, int64_t n, int64_t micro_tokens, Comm *c, float *r);

/* r[k] of the texts in the list `completions` after `prompt`, a text or messages, with the model's
 * template. ERR_DATA: they are none, or longer than its context. Not collective. */
int score_completions(const Loaded *rm, const json_t *prompt, const json_t *completions, float *r);

/* Rankings, the first `records` (0: all) of d, as the model ranks them. Collective. */
void score_rankings(Gpt *rm, const Dataset *d, int64_t records, int64_t micro_tokens, Comm *c,
                    RankStats *s);

/* The scores of a policy's samples as PPO sees them: an answer that did not come to its end
 * (ended[i] == 0) has no_stop_score, whatever the reward model says. Not collective. */
void score_samples(Gpt *rm, const Sequence *q, const unsigned char *ended, int64_t n,
                   int64_t micro_tokens, double no_stop_score, float *r);

/* bias -= mean reward of q[0..n), so that it becomes 0 (Ouyang 2022, section 3.5); *s: the rewards
 * as they were. The ranks share the scoring. Collective. */
void score_normalise(Gpt *rm, const Sequence *q, int64_t n, int64_t micro_tokens, Comm *c,
                     RankStats *s);

#endif
