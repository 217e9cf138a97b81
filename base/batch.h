/* batch.h: the unit of work of every stage: sequences laid end to end, never padded. */
#ifndef BASE_BATCH_H
#define BASE_BATCH_H

#include <stdint.h>

/* Plain data; the arrays are the caller's. Sequence s holds positions start[s] .. start[s+1]-1;
 * its positional index begins at 0. */
typedef struct Batch {
    int64_t n;              /* tokens in all */
    int64_t nseq;           /* sequences */
    const int32_t *tokens;  /* [n] */
    const int32_t *targets; /* [n] the token that position i predicts; ignored where weight is 0 */
    const float *weight;    /* [n] weight of position i in the loss; NULL: no loss */
    const int64_t *start;   /* [nseq+1], start[0] = 0, start[nseq] = n */
} Batch;

#endif
