/* plan.h: what a step of a stage needs, from formulas alone: parameters, FLOPs, memory of a rank,
 * bytes exchanged, and, from measured rates and a model of the network, seconds. For rhetor-plan
 * and --dry-run. docs/SCALING.md states the assumptions. Nothing here is collective. */
#ifndef TRAIN_PLAN_H
#define TRAIN_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "data/dataset.h"
#include "model/lora.h"
#include "train/step.h"

enum { PLAN_SHARDS = SHARD_GRADIENTS + 1 }; /* kinds of dist.shard */

/* A network of a stage. */
typedef struct PlanModel {
    GptConfig cfg;
    StepLoss *loss; /* of the micro-batches that train it; NULL: frozen */
    void *ctx;      /* of the loss */
    bool saved;     /* with the checkpoints; else it is again what it began as */
    bool whole;     /* scores the items of a step at once, not those of a minibatch */
} PlanModel;
enum { PLAN_ENSEMBLE = 8, PLAN_MODELS = 6 + PLAN_ENSEMBLE }; /* further reward models */

/* A step of a stage, all ranks together. Lengths are means. An item is what ranks share out: a
 * window, an example, a prompt with its ranked answers, an episode. */
typedef struct PlanWork {
    int stage;       /* IN_* */
    GptConfig model; /* the parent's, or what pretraining makes */
    PlanModel net[PLAN_MODELS];
    int nets;
    int64_t steps;
    double items, sequences, length; /* items a step, sequences an item, tokens a sequence */
    double windows, window; /* windows of pretraining text mixed in a step (PPO: an optimizer step)
                               and their tokens */
    int64_t micro_tokens;
    int shard;             /* dist.shard; what is planned for is the layout's */
    int64_t virtual_ranks; /* dist.virtual_ranks; 0: not dist.reproducible */
    bool recompute, dropout, muon;
    LoraConfig lora;            /* rank 0: all weights are trained */
    bool one_base;              /* ... the reward model's adapters are on the policy's base */
    bool half;                  /* model.weights: what is frozen is bfloat16 */
    bool learn_all;             /* data.loss_on: all tokens of demonstrations */
    bool packed;                /* save.compression */
    double data;                /* bytes of the records and corpora at hand */
    double chunks, chunk_bytes; /* of text: in its cache at most */
    double first_tokens;        /* scored before the first step (DPO: by the reference) */
    double eval_tokens; /* of an evaluation on held-out data (reward: of the reference answers) */
    double response; /* tokens of a sequence whose hidden states the loss reads; 0: all. PPO: of the
                        response (length is of prompt and response together) */
    int64_t longest; /* PPO: longest response */
    int64_t minibatches, epochs;
} PlanWork;

/* Ranks, their threads, and what is set for them. */
typedef struct PlanLayout {
    int64_t ranks, per_node, threads; /* ranks of the job, of a full node; threads of a rank */
    int shard;
    int64_t micro_tokens; /* 0: the work's */
    /* Of the rank that is meant, the first of its virtual ranks (of all, where each rank is one)
     * and how many it has; leaves 0: the rank that has most. */
    int64_t leaf, leaves;
} PlanLayout;

/* What one rank with `threads` threads was measured to do; FLOPs and bytes a second. */
typedef struct PlanRates {
    int64_t threads;
    double train, micro; /* forward and backward; time beside the FLOPs: once a micro-batch, in
                            bytes of weights a second */
    double forward;      /* forward only */
    double update;       /* nine arrays: norm, AdamW (seven), clearing */
    double decode_read, decode; /* a pass of decoding: weights read, FLOPs */
} PlanRates;

/* The network. Latency a message, seconds. Bandwidth in bytes a second that a node sends while it
 * receives as much, whatever the number of its ranks; within a node: of the ranks' vectors, all
 * together, that go into its memory to be summed, or come out of it. */
typedef struct PlanNet {
    double latency, bandwidth;           /* between nodes */
    double node_latency, node_bandwidth; /* between the ranks of a node */
    double memory; /* of a node, bytes a second: what bounds the updates of its ranks; 0: nothing */
    double overlap; /* share of the last micro-batch's backward pass that hides the exchange */
} PlanNet;

/* Bytes of a rank. */
typedef struct PlanMemory {
    double weights, gradients, moments; /* of what is trained */
    double frozen;                      /* PPO: reference, reward model, moving average */
    double activations, decoding;       /* decoding: caches and packed weights not within them */
    double evaluation, save;            /* come and go beside what is kept */
    double beside;                      /* the largest of decoding, evaluation, save */
    double first;             /* a pass before the first step, when there are no activations yet */
    double exchange, program; /* buffers of messages; program, libraries, data */
    double total;
} PlanMemory;

/* Seconds of a step; of the rank that has most to do. */
typedef struct PlanTime {
    double rollout, scoring, compute, update; /* compute: forward and backward */
    double exchange, exposed;                 /* in all; of it not hidden */
    double step;
} PlanTime;

enum { PLAN_ROUND_BYTES = 2 << 20 /* of dist/exchange.c */, PLAN_GROUP_MAX = 64 };

const char *plan_shard_name(int shard); /* "none", "optimizer", "gradients" */

/* What the settings of a stage say of its work on a model; what depends on the data is filled in by
 * those that follow, or by a caller who has to assume it. One network learns, by step_lm or, with a
 * scalar head, by a loss of its values; a stage that has others says so. */
PlanWork plan_work(const Config *c, const GptConfig *model);
void plan_net(PlanWork *w, const GptConfig *cfg, StepLoss *loss, void *ctx);
/* The loss of a scalar head's values at the positions that have a weight, where nothing computes. */
StepLoss plan_values;
/* Sequences, their lengths and, but for prompts, what the loss reads of them: data.train's. */
void plan_records(PlanWork *w, const Dataset *d);
/* The first `records` (0: all) of held-out demonstrations or rankings. */
void plan_evaluation(PlanWork *w, const Dataset *d, int64_t records);
/* So large a share of the tokens is text, in windows of w->window tokens (data.mix_ratio). */
void plan_mix(PlanWork *w, double ratio);
/* Steps of the run over n items; 0: not known. */
int64_t plan_steps(const Config *c, int64_t n);

/* Parameters that are trained (PPO: policy and critic). */
int64_t plan_parameters(const PlanWork *w);
/* FLOPs of a step, counted as docs/BENCHMARKS.md does: what the mathematics needs, nothing twice
 * (train.recompute does not show). PPO: of its three parts, NULL if not wanted. */
double plan_flops(const PlanWork *w, double part[3]);

/* What one rank takes: the stage's loss on its largest micro-batch, counted on a dry tape, and what
 * those who allocate the rest say. */
void plan_memory(const PlanWork *w, const PlanLayout *l, PlanMemory *m);

/* Bytes that a rank sends in messages in a step (it receives as many). Its group (comm_impl.h) sends
 * (N-1)/N of the vector twice, of N groups, and its ranks share that; with sharded gradients the
 * first half goes once a micro-batch. */
double plan_exchange_bytes(const PlanWork *w, const PlanLayout *l);
/* Seconds of an ordered sum of `bytes` over the layout's ranks. */
double plan_sum_seconds(double bytes, const PlanLayout *l, const PlanNet *n);

void plan_time(const PlanWork *w, const PlanLayout *l, const PlanRates *r, const PlanNet *n,
               PlanTime *t);

#endif
