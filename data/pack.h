/* pack.h: puts sequences end to end into Batches. */
#ifndef DATA_PACK_H
#define DATA_PACK_H

#include "base/batch.h"
#include "data/dataset.h"

/* Growing arrays that a Batch points into; reuse it, so that nothing is allocated in the steady
 * state: `Pack p = {0}; pack_clear(&p); pack_add(...); Batch b = pack_batch(&p);` */
typedef struct Pack {
    int32_t *tokens, *targets;
    float *weight;
    uint64_t *row; /* [n] identity of each token (sequence id << 20 | position): keys dropout */
    int64_t *start;
    int64_t n, nseq, cap, seqcap;
} Pack;

void pack_clear(Pack *p);
void pack_free(Pack *p);
/* Adds a sequence. Position i gets target tokens[i+1] and weight `weight` when learn[i+1] (learn
 * NULL: always); the last position gets weight 0. `id` identifies the sequence for random numbers.
 */
void pack_add(Pack *p, const int32_t *tokens, int64_t n, const uint8_t *learn, float weight,
              uint64_t id);
/* Adds a window of a corpus: n+1 tokens, n positions, all with weight. */
void pack_add_window(Pack *p, const int32_t *tokens, int64_t n, float weight, uint64_t id);
Batch pack_batch(const Pack *p); /* borrows; valid until the next pack_add */

#endif
