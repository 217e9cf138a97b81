/* batch.h: the unit of work of every stage: sequences laid end to end, never padded. */
#ifndef CORE_BATCH_H
#define CORE_BATCH_H

#include <stdint.h>

/* Sequence s holds positions start[s] .. start[s+1]-1; its positional index begins at 0.
 * Either plain data whose arrays are the caller's, or put together by batch_add, which grows them
 * and keeps them over batch_clear, so that nothing is allocated in the steady state:
 * `Batch b = {0}; batch_clear(&b); batch_add(&b, ...); ... batch_free(&b);` */
typedef struct Batch {
    int64_t n;              /* tokens in all */
    int64_t nseq;           /* sequences */
    const int32_t *tokens;  /* [n] */
    const int32_t *targets; /* [n] the token that position i predicts; ignored where weight is 0 */
    const float *weight;    /* [n] weight of position i in the loss; NULL: no loss */
    const int64_t *start;   /* [nseq+1], start[0] = 0, start[nseq] = n */
    const uint64_t *row;    /* [n] sequence id << 20 | position: keys dropout; NULL: no dropout */
    int64_t cap, seqcap;
} Batch;

void batch_clear(Batch *b);
void batch_free(Batch *b);
/* Adds a sequence. Position i gets target tokens[i+1] and weight `weight` when learn[i+1] (learn
 * NULL: always); the last position gets weight 0. `id` identifies the sequence for random
 * numbers. */
void batch_add(Batch *b, const int32_t *tokens, int64_t n, const uint8_t *learn, float weight,
               uint64_t id);
/* The same of a prompt and its response: only the tokens from `prompt` on are learned. */
void batch_add_response(Batch *b, const int32_t *tokens, int64_t n, int64_t prompt, float weight,
                        uint64_t id);
/* Adds a window of a corpus: n+1 tokens, n positions, all with weight. */
void batch_add_window(Batch *b, const int32_t *tokens, int64_t n, float weight, uint64_t id);

/* Ends the job if the sequences do not cover the batch in order, one is longer than the context, or
 * a token lies outside the vocabulary. */
void batch_check(const Batch *b, int64_t vocab, int64_t context);

/* What micro-batches are cut from: items 0, 1, 2, ..., each of one or more sequences. */
typedef struct BatchItems {
    void *ctx;
    int64_t (*tokens)(void *ctx, int64_t i);    /* of item i; or the most that it can have */
    int (*add)(void *ctx, int64_t i, Batch *b); /* to the batch; < 0: an error */
} BatchItems;
/* Cuts a micro-batch: adds the items *i, *i + 1, ... < end while no more than `max` tokens are in
 * the batch. An item that is larger has one of its own. *i: the first that was not added. */
int batch_fill(Batch *b, const BatchItems *items, int64_t *i, int64_t end, int64_t max);

#endif
