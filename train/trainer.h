/* trainer.h: one model being trained: gradients in, update out. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "base/config.h"
#include "core/tape.h"
#include "data/pack.h"
#include "dist/comm.h"
#include "model/gpt.h"
#include "optim/optim.h"
#include "optim/spike.h"
#include "train/run.h"

typedef struct Trainer {
    Gpt *gpt; /* borrowed; has gradients */
    Run *run; /* borrowed; NULL: nobody measures the exchange */
    AdamW adam;
    Arena arena; /* activations */
    Tape *tape;
    double clip;
    int64_t skips, max_skips; /* updates skipped in a row because a gradient was not finite */
    double loss;              /* of the batch, over all ranks: set by the stage that has one */
    double skip_z;            /* updates whose loss or gradient scores more are skipped; 0: none */
    SpikeWindow spikes;
} Trainer;

/* Reads the optim.* keys. Registers weights and moments with the run under `prefix` ("" or
 * "critic/"). Not collective. */
void trainer_open(Trainer *t, Gpt *gpt, Run *run, const char *prefix);
void trainer_close(Trainer *t);

/* The optim.* keys over the run's steps. Not collective. */
Schedule trainer_schedule(const Run *run);

/* Sum of the ranks' gradients, finiteness, clipping, AdamW, gradients cleared. A loss or gradient
 * that is not finite leaves the weights alone and is counted: ERR_INTERNAL (70) after max_skips in
 * a row, with `what` (the batch) in the message. With optim.skip_zscore one far above the recent
 * ones leaves them alone, too. *norm: before clipping. Collective. */
int trainer_update(Trainer *t, Comm *comm, double lr, const char *what, double *norm);

/* Language-model loss of the packed sequences, gradients added. Returns the weighted sum. */
double trainer_lm(Trainer *t, const Pack *p, double dropout, uint64_t seed, int64_t step);

#endif
