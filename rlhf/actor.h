/* actor.h: the policy at work: the episodes of an iteration, answers to held-out prompts. */
#ifndef RLHF_ACTOR_H
#define RLHF_ACTOR_H

#include "checkpoints/exchange/load.h"
#include "rlhf/rollout.h"
#include "train/run.h"

typedef struct Actor {
    const Loaded *policy; /* borrowed */
    const Dataset *prompts;
    DecodeOptions decode; /* but its stops and step */
    Comm *comm;
} Actor;

/* Responses to n prompts of the set: item[i], or (NULL) the first n. first: number of the first
 * episode, step: of the random numbers. Stopped are those that came to their proper end
 * (load_finished). Collective. */
int actor_answer(const Actor *a, const Dataset *prompts, const int64_t *item, int64_t n,
                 uint64_t first, uint32_t step, Episodes *e);
/* The n episodes of the run's next iteration: sampled (and kept, ppo.save_rollouts) or replayed
 * (ppo.replay). Collective. */
int actor_episodes(const Actor *a, Run *run, int64_t n, Episodes *e);
/* Answers to the first eval.records of the held-out prompts: their mean score, which is the run's
 * result, as score(ctx, e) has it, lengths, stops. Always with the same random numbers.
 * Collective. */
int actor_evaluate(const Actor *a, Run *run, const Dataset *heldout,
                   void (*score)(void *ctx, Episodes *e), void *ctx);
/* An episode, to samples.txt. Not collective. */
void actor_show(const Actor *a, Run *run, const Episodes *e, int64_t i);

#endif
