/* order.h: which item comes when: a pure function of (seed, epoch, position), so there is no loader
 * state to save and any number of ranks sees the same order. */
#ifndef DATA_ORDER_H
#define DATA_ORDER_H

#include <stdint.h>

/* The item at position i (0 <= i < n) of epoch `epoch`: a permutation of 0..n-1 (a Feistel network
 * with cycle walking over a hash of (seed, epoch): no table). */
int64_t order_item(uint64_t seed, int64_t epoch, int64_t i, int64_t n);

/* The j-th item of a stream that runs through epoch 0, 1, 2, ... : epoch = j / n. */
static inline int64_t order_stream(uint64_t seed, int64_t j, int64_t n) {
    return order_item(seed, j / n, j % n, n);
}

#endif
