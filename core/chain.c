/* chain.c: the tree of the chains. See chain.h. */
#include "core/chain.h"

#include "core/kernel.h"

KERNEL(join, (int64_t rows, int64_t cols, int64_t ld, real *restrict to, real *restrict from),
       (rows, cols, ld, to, from)) {
    for (int64_t i = 0; i < rows; i++, to += ld, from += ld)
        for (int64_t j = 0; j < cols; j++) {
            to[j] += from[j];
            from[j] = 0;
        }
}

void chain_join(real *const *chain, int k, int64_t at, int64_t rows, int64_t cols, int64_t ld) {
    for (int step = 1; k & step; step *= 2)
        join(rows, cols, ld, chain[k + 1 - 2 * step] + at, chain[k + 1 - step] + at);
}
