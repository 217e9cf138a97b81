/* evaluate.h: held-out losses. Collective: the ranks share the work, all get the result. */
#ifndef TRAIN_EVALUATE_H
#define TRAIN_EVALUATE_H

#include "core/batch.h"
#include "data/corpus.h"
#include "data/dataset.h"
#include "train/run.h"

typedef struct EvalLoss {
    double nll;           /* mean nats a token, over all tokens of all ranks */
    double bits_per_byte; /* of the text behind the tokens; 0 where the bytes are not known */
    int64_t tokens;
} EvalLoss;

/* Every token but the first of each document, in windows of the model's context side by side;
 * `windows` > 0: only so many, spread evenly. */
int evaluate_corpus(Gpt *gpt, Corpus *c, int64_t windows, int64_t micro_tokens, Comm *comm,
                    EvalLoss *out);
/* The same of documents in memory, document i being ids[start[i]..start[i+1]), of a text of so many
 * bytes. Not collective. */
int evaluate_documents(Gpt *gpt, const int32_t *ids, const int64_t *start, int64_t n, int64_t bytes,
                       int64_t windows, int64_t micro_tokens, EvalLoss *out);
/* The learned tokens of demonstrations; `records` > 0: only the first so many. */
int evaluate_demos(Gpt *gpt, const Dataset *d, int64_t records, int64_t micro_tokens, Comm *comm,
                   EvalLoss *out);

/* The metrics and the line of the log of a stage whose result is this loss. */
void evaluate_report(Run *run, const EvalLoss *e);

/* Sequences as items: learned tokens (without such marks, the response's) have weight 1. */
BatchItems evaluate_items(const Sequence *q);
/* logp[i]: sum over the learned tokens of q[i] of their log-probabilities. Not collective. */
void evaluate_logp(Gpt *gpt, const Sequence *q, int64_t n, double temperature, int64_t micro_tokens,
                   double *logp);

#endif
