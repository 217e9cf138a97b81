/* step.h: one step of training, the same in every stage.
 *
 * What a step learns from is a list of items (windows, examples, prompts, episodes) that does not
 * depend on the layout. Every virtual rank has a contiguous share of it and cuts it into packed
 * micro-batches, each of which goes forward and backward (gradient accumulation). The gradients and
 * what is reported are then added over the virtual ranks in a fixed order, and one update is made.
 * A stage says what differs: the items, their weights, the loss. */
#ifndef TRAIN_STEP_H
#define TRAIN_STEP_H

#include "train/trainer.h"

enum { STEP_SUMS = 512 }; /* numbers that are reported, at most */

typedef struct Step Step;

/* The forward pass of a micro-batch, which holds the items begin .. end-1, and the gradient of its
 * loss; the step goes on with the backward pass. What is to be reported is added to sum[]. */
typedef void StepLoss(const Step *s, void *ctx, const Batch *b, int64_t begin, int64_t end,
                      double *sum);

/* Items of one kind. Kinds that follow each other with the same loss share micro-batches, in which
 * begin and end mean nothing. */
typedef struct StepItems {
    BatchItems v;
    int64_t n; /* in the step, all ranks together */
    StepLoss *loss;
} StepItems;

struct Step {
    Trainer *trainer;
    StepItems items[2];
    int64_t micro_tokens, tokens; /* tokens: of the step, all ranks together */
    double lr;
    double dropout; /* of step_lm, with the two that its masks are a function of */
    uint64_t seed;
    int64_t number;
    char what[96]; /* the batch, in messages */
    int nsum;
    bool no_loss; /* sum[0] is not a loss whose jumps mean something (optim.skip_zscore) */
    double *sum;  /* [nsum] out: of the losses, over the whole step */
    double norm;  /* out: of the gradient, before clipping */
};

/* The step that the run does next, without its items. `unit`: what they are ("windows"). */
Step step_begin(Trainer *t, const Run *run, const Schedule *lr, const char *unit);

/* The step of one model, or of n that learn together: passes, sums, update. An error of reading may
 * come on this rank only; ERR_INTERNAL as trainer_update. Collective. */
int step_run(Step *s, int n);
/* Its first half alone: the passes of this rank, for a dry run. Not collective. */
int step_passes(Step *s);
/* Metrics loss, lr, grad_norm and the headline of a stage that has one loss. Not collective. */
void step_report(const Step *s, Run *run);

/* Loss of a language model (a StepLoss): the weighted -log p of the batch's targets, added to sum[0]
 * token by token. ctx is not read. */
void step_lm(const Step *s, void *ctx, const Batch *b, int64_t begin, int64_t end, double *sum);

#endif
