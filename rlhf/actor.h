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
    int64_t samples;      /* responses to a prompt, one after the other; 0: 1 */
    int64_t rounds;       /* sampled beside one an iteration so far (grpo.resample) */
    Comm *comm;
} Actor;

/* What ends the policy's answers: ppo.stop, or what the model itself says. ERR_CONFIG. Not
 * collective. */
int actor_stop(Loaded *policy, Run *run);
/* By the settings; scratch: an arena that is idle while it samples. Borrows all. */
Actor actor_of(const Loaded *policy, const Dataset *prompts, const Run *run, Arena *scratch,
               Comm *comm);
/* Responses to n prompts of the set: item[i], or (NULL) the first n. first: number of the first
 * episode, step: of the random numbers. Stopped are those that came to their proper end
 * (load_finished). Collective. */
int actor_answer(const Actor *a, const Dataset *prompts, const int64_t *item, int64_t n,
                 uint64_t first, uint32_t step, Episodes *e);
/* The n episodes of the run's next iteration: sampled (and kept, ppo.save_rollouts) or replayed
 * (ppo.replay). Collective. */
int actor_episodes(const Actor *a, Run *run, int64_t n, Episodes *e);
/* Answers to the first eval.records of the held-out prompts: their mean score, which is the run's
 * result, as score(ctx, e) has it (< 0: an error), lengths, stops. Always with the same random
 * numbers. Collective. */
int actor_evaluate(const Actor *a, Run *run, const Dataset *heldout,
                   int (*score)(void *ctx, Episodes *e), void *ctx);
/* An episode, to samples.txt. Not collective. */
void actor_show(const Actor *a, Run *run, const Episodes *e, int64_t i);

#endif
