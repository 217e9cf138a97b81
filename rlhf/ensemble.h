/* ensemble.h: several reward models as one (Coste 2023): from.reward and those of from.ensemble. */
#ifndef RLHF_ENSEMBLE_H
#define RLHF_ENSEMBLE_H

#include "checkpoints/exchange/load.h"
#include "rlhf/rollout.h"
#include "train/run.h"

typedef struct Ensemble {
    Loaded *other; /* [n] beside the first one, which the caller has */
    int n;
    const Config *cfg; /* borrowed */
    /* of the last scoring, means over the responses that came to their end */
    double spread; /* standard deviation of the models' scores */
    double others; /* score of those beside the first one */
} Ensemble;

/* What n models' scores r[] of a response are together, as reward.ensemble (ENSEMBLE_*) says;
 * `weight` times their variance (1/n) is taken from the mean with ENSEMBLE_UNCERTAINTY. */
double ensemble_score(const double *r, int n, int how, double weight, double *sd);

/* The parents, without their weights. ERR_CONFIG where they do not fit the policy. Collective. */
int ensemble_open(Ensemble *m, Run *run, const Loaded *policy);
/* Their weights, frozen; adapters on `base` (NULL: none), where they are of the policy's. Collective. */
int ensemble_weights(Ensemble *m, const Loaded *policy, const Gpt *base);
void ensemble_close(Ensemble *m);
size_t ensemble_bytes(const Ensemble *m);
/* Is the reward that is learned from of several models? */
bool ensemble_rewards(const Ensemble *m);

/* r[i], the first model's score of q[i], becomes the ensemble's; where ended[i] is 0 it stays. The
 * ranks share the work, all get all. Collective. */
void ensemble_join(Ensemble *m, const Sequence *q, const unsigned char *ended, int64_t n, Comm *c,
                   float *r);
/* The same for the scores of episodes; nothing where reward.ensemble asks only the first model.
 * Collective. */
void ensemble_episodes(Ensemble *m, Episodes *e, Comm *c);

#endif
