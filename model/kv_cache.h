/* kv_cache.h: keys and values of the tokens that decoding has seen, private to model/. */
#ifndef MODEL_KV_CACHE_H
#define MODEL_KV_CACHE_H

#include <stdint.h>

#include "model/gpt.h"

enum { KV_BLOCK = 32, V_STRIP = 32 };

typedef struct KvCache {
    Arena arena; /* owns what follows */
    int64_t layers, heads, kv_heads, head_dim, slots;
    int64_t context;        /* positions a slot holds, a multiple of KV_BLOCK */
    int64_t v_stride;       /* head_dim rounded up, so that vectors need no tail */
    int64_t k_size, v_size; /* elements of one (layer, slot, head of keys and values) */
    real *k;                /* [layers][slots][kv_heads][context/KV_BLOCK][head_dim][KV_BLOCK] */
    real *v;                /* [layers][slots][kv_heads][v_stride/V_STRIP][context][V_STRIP]; a last
                             * strip of 16 columns lies as [context][16] */
    real *scores;           /* scratch of each thread */
} KvCache;

/* Room for `slots` sequences of up to `context` tokens. */
void kv_open(KvCache *c, const GptConfig *cfg, int64_t slots, int64_t context);
void kv_close(KvCache *c);
int64_t kv_bytes_per_slot(const GptConfig *cfg, int64_t context);

/* The first n positions of slot `from` become those of slot `to`. */
void kv_copy(KvCache *c, int64_t from, int64_t to, int64_t n);

/* n rows of a layer: row i is position pos[i] of the sequence in slot[i]. Stores their keys and
 * values, then lets each attend to positions 0 .. pos[i] of its slot. A row's earlier positions are
 * in the cache or among the same rows. qkv [n, (heads + 2 kv_heads) d], already rotated ->
 * out [n, heads d] */
void kv_attend(KvCache *c, int64_t layer, int64_t n, const int32_t *slot, const int32_t *pos,
               const real *qkv, real *out);

#endif
