/* pack.c: sequences end to end. The arrays grow by doubling and are never given back before
 * pack_free, so that a step of the usual size allocates nothing. */
#include "data/pack.h"

#include "base/error.h"

#include <stdlib.h>

enum { POSITION_BITS = 20 };

static void reserve(Pack *p, int64_t tokens, int64_t sequences) {
    if (tokens > p->cap) {
        int64_t cap = tokens > 2 * p->cap ? tokens : 2 * p->cap;
        size_t n = (size_t)cap;
        p->tokens = xrealloc(p->tokens, n * sizeof *p->tokens);
        p->targets = xrealloc(p->targets, n * sizeof *p->targets);
        p->weight = xrealloc(p->weight, n * sizeof *p->weight);
        p->row = xrealloc(p->row, n * sizeof *p->row);
        p->cap = cap;
    }
    if (sequences > p->seqcap) {
        int64_t cap = sequences > 2 * p->seqcap ? sequences : 2 * p->seqcap;
        p->start = xrealloc(p->start, (size_t)(cap + 1) * sizeof *p->start);
        p->seqcap = cap;
    }
}

void pack_clear(Pack *p) {
    reserve(p, 1024, 64); /* so that a rank without sequences also has a well-formed Batch */
    p->n = p->nseq = 0;
    p->start[0] = 0;
}

void pack_free(Pack *p) {
    free(p->tokens);
    free(p->targets);
    free(p->weight);
    free(p->row);
    free(p->start);
    *p = (Pack){0};
}

/* Makes room for a sequence of n positions and gives them their identities; its first position. */
static int64_t begin_sequence(Pack *p, int64_t n, uint64_t id) {
    CHECK(n > 0 && n < 1 << POSITION_BITS, "a sequence of %lld tokens", (long long)n);
    reserve(p, p->n + n, p->nseq + 1);
    int64_t at = p->n;
    p->start[0] = 0;
    p->start[++p->nseq] = p->n = at + n;
    for (int64_t i = 0; i < n; i++) p->row[at + i] = id << POSITION_BITS | (uint64_t)i;
    return at;
}

void pack_add(Pack *p, const int32_t *tokens, int64_t n, const uint8_t *learn, float weight,
              uint64_t id) {
    int64_t at = begin_sequence(p, n, id);
    for (int64_t i = 0; i < n; i++) {
        bool last = i + 1 == n;
        p->tokens[at + i] = tokens[i];
        p->targets[at + i] = last ? 0 : tokens[i + 1];
        p->weight[at + i] = last || (learn && !learn[i + 1]) ? 0 : weight;
    }
}

void pack_add_window(Pack *p, const int32_t *tokens, int64_t n, float weight, uint64_t id) {
    int64_t at = begin_sequence(p, n, id);
    for (int64_t i = 0; i < n; i++) {
        p->tokens[at + i] = tokens[i];
        p->targets[at + i] = tokens[i + 1];
        p->weight[at + i] = weight;
    }
}

Batch pack_batch(const Pack *p) {
    return (Batch){.n = p->n,
                   .nseq = p->nseq,
                   .tokens = p->tokens,
                   .targets = p->targets,
                   .weight = p->weight,
                   .start = p->start};
}
