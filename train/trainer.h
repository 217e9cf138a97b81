/* trainer.h: one model being trained: gradients in, update out. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "base/config.h"
#include "core/batch.h"
#include "core/tape.h"
#include "dist/virtual.h"
#include "model/gpt.h"
#include "optim/optim.h"
#include "optim/spike.h"
#include "train/run.h"

typedef struct Trainer {
    Gpt *gpt; /* borrowed; has gradients */
    Run *run; /* borrowed; NULL: nobody measures the exchange */
    Comm *comm;
    int shard; /* SHARD_*: dist.shard */
    Grads *grads;
    AdamW adam;
    Arena arena; /* activations */
    Tape *tape;
    Batch batch;        /* the micro-batch of the pass */
    VirtualRanks ranks; /* dist.virtual_ranks */
    real *node[32];     /* [depth of the tree]; see trainer_rank_end */
    int ended;          /* virtual ranks, in this step */
    bool last_pass;     /* the next one is the last in this step */
    int unjoined;       /* parts up to here are not yet in the tree of the last virtual rank */
    bool visited;       /* the fault point, in this step */
    double waited;      /* grads_waited after the last update */
    double clip;
    int64_t skips, max_skips; /* updates skipped in a row because a gradient was not finite */
    double loss;              /* of the batch, over all ranks: set by the stage that has one */
    double skip_z;            /* updates whose loss or gradient scores more are skipped; 0: none */
    SpikeWindow spikes;
} Trainer;

/* For a model that is not part of a run; each rank is a virtual one. Of `adam` the options
 * are read (adamw_start). Not collective, but all ranks start their trainers in the same order. */
void trainer_start(Trainer *t, Gpt *gpt, Comm *comm, int shard, const AdamW *adam);
/* Reads the optim.* and dist.* keys. Registers weights and moments with the run under `prefix` (""
 * or "critic/"). Not collective. */
void trainer_open(Trainer *t, Gpt *gpt, Run *run, const char *prefix);
void trainer_close(Trainer *t);

/* The optim.* keys over the run's steps. Not collective. */
Schedule trainer_schedule(const Run *run);

/* Every backward pass of the model: tape_backward and tape_reset. Not collective. */
void trainer_backward(Trainer *t);
/* The next backward pass is this rank's last in the step: what it completes is sent to the other
 * ranks while it goes on. A step without such a pass does that in trainer_finish. Not collective.
 */
void trainer_last_pass(Trainer *t);

/* The backward passes of one of this rank's virtual ranks are over; called for each, in their
 * order. What they added to the model's gradients becomes a leaf of the tree of sums. Those of the
 * virtual ranks 0, 1, 2, ... go into node[0], [1], [1], [2], [1], ...: node k is as deep as there
 * are complete subtrees on its left that still wait, and node[0] is the model's own gradient. So
 * the tree takes log2(virtual ranks of this rank) gradients more. Not collective. */
void trainer_rank_end(Trainer *t);
/* Of this rank: weights, moments, gradients with the further ones above, and their exchange. Not
 * collective. */
size_t trainer_bytes(const Trainer *t);
/* Of the passes so far or of an update, whichever takes more: activations, Muon's matrices. Not
 * collective. */
size_t trainer_scratch(const Trainer *t);
/* The further gradients of a rank that stands for `leaves` virtual ones. */
size_t trainer_tree_bytes(const Gpt *g, int leaves);

/* After the step's passes of the model, before any other collective call: sums the gradients over
 * the ranks (grads_finish). Collective. */
void trainer_finish(Trainer *t);

/* Sum of the ranks' gradients (trainer_finish), finiteness, clipping, AdamW, gradients cleared. A
 * loss or gradient that is not finite leaves the weights alone and is counted: ERR_INTERNAL (70)
 * after max_skips in a row, with `what` (the batch) in the message. With optim.skip_zscore one far
 * above the recent ones leaves them alone, too. *norm: before clipping. Collective. */
int trainer_update(Trainer *t, double lr, const char *what, double *norm);

#endif
