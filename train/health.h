/* health.h: are the ranks still one run? Copies of the state compared, stragglers named. */
#ifndef TRAIN_HEALTH_H
#define TRAIN_HEALTH_H

#include "train/run.h"

/* Compares hashes of everything that a checkpoint holds and every rank has (sharded moments are not
 * copies). A copy that drifted, by a bit of a memory or a processor that fails, is ERR_INTERNAL on
 * all ranks, with tensor, rank and host named: the weights are worth nothing any more and must not
 * be saved. One read of the state, 8 bytes exchanged. Collective. */
int health_compare(Run *run);

/* A step as the ranks saw it. */
typedef struct StepHealth {
    double exchange_s, exchange_max_s; /* mean and largest of the ranks */
    double wait_share;                 /* exchange_s / step_s */
    int slowest;                       /* the rank that computed longest: others waited for it */
} StepHealth;
/* step_s, exchange_s: this rank's. Collective. */
StepHealth health_step(Comm *c, double step_s, double exchange_s);

#endif
