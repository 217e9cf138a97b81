/* chain.h: one pass over the tokens of several sums.
 *
 * The gradient of a parameter is a chain of additions over the tokens in their order. The rows of a
 * pass may belong to a few chains that follow each other, as if each had a pass of its own: each
 * begins with a gradient of its own, cleared (Tensor.chain), and they are added in a balanced tree
 * as they end: chain 1 to 0, 3 to 2 and then 2 to 0. What is added is cleared again, so that what
 * has been added to a complete one may serve the next. The sum is in chain 0's. */
#ifndef CORE_CHAIN_H
#define CORE_CHAIN_H

#include <stdint.h>

#include "core/real.h"

enum { CHAINS_MAX = 4 };

typedef struct Chains {
    int n;                         /* 1, 2 or 4 */
    int64_t begin[CHAINS_MAX + 1]; /* rows; begin[n]: of the pass. Of one chain: to INT64_MAX */
} Chains;

/* Chain k has ended: the additions that are now due, of rows x cols elements (ld between rows) that
 * lie `at` elements behind the beginning of each chain's gradient. */
void chain_join(real *const *chain, int k, int64_t at, int64_t rows, int64_t cols, int64_t ld);

#endif
