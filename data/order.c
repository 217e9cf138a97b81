/* order.c: a random order without a table.
 *
 * A Feistel network permutes the numbers of b bits, where 2^b is the smallest power of two that
 * holds n: the number is cut into a left and a right part, and each round adds (xor) a hash of one
 * part to the other, which can be undone and so is a permutation whatever the hash is. Numbers of n
 * and above are sent through the network again until one below n comes out ("cycle walking", Black
 * and Rogaway 2002); since the network permutes a set less than twice as large, this takes fewer
 * than two passes on average, and what remains is a permutation of 0..n-1. */
#include "data/order.h"

#include "base/error.h"

enum { ROUNDS = 8 };

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

int64_t order_item(uint64_t seed, int64_t epoch, int64_t i, int64_t n) {
    CHECK(n > 0 && i >= 0 && i < n && epoch >= 0, "epoch %lld, item %lld of %lld", (long long)epoch,
          (long long)i, (long long)n);
    if (n == 1) return 0;
    uint64_t key = mix(mix(seed) ^ (uint64_t)epoch);
    int bits = 64 - __builtin_clzll((uint64_t)n - 1);
    int low_bits = (bits + 1) / 2;
    uint64_t low_mask = (1ull << low_bits) - 1, high_mask = (1ull << (bits - low_bits)) - 1;

    uint64_t x = (uint64_t)i;
    do {
        uint64_t low = x & low_mask, high = x >> low_bits;
        for (uint64_t r = 0; r < ROUNDS; r += 2) {
            low ^= mix(key + (r << 32) + high) & low_mask;
            high ^= mix(key + ((r + 1) << 32) + low) & high_mask;
        }
        x = high << low_bits | low;
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}
