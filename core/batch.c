/* batch.c: sequences end to end. The arrays grow by doubling and are never given back before
 * batch_free, so that a step of the usual size allocates nothing. */
#include "core/batch.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/error.h"

enum { POSITION_BITS = 20 };

/* A Batch's arrays are const for its readers; those that batch_add grows are its own. */
#define OWN(type, array) ((type *)(uintptr_t)(array))

static void reserve(Batch *b, int64_t tokens, int64_t sequences) {
    if (tokens > b->cap) {
        int64_t cap = tokens > 2 * b->cap ? tokens : 2 * b->cap;
        size_t n = (size_t)cap;
        b->tokens = xrealloc(OWN(int32_t, b->tokens), n * sizeof *b->tokens);
        b->targets = xrealloc(OWN(int32_t, b->targets), n * sizeof *b->targets);
        b->weight = xrealloc(OWN(float, b->weight), n * sizeof *b->weight);
        b->row = xrealloc(OWN(uint64_t, b->row), n * sizeof *b->row);
        b->cap = cap;
    }
    if (sequences > b->seqcap) {
        int64_t cap = sequences > 2 * b->seqcap ? sequences : 2 * b->seqcap;
        b->start = xrealloc(OWN(int64_t, b->start), (size_t)(cap + 1) * sizeof *b->start);
        b->seqcap = cap;
    }
}

void batch_clear(Batch *b) {
    reserve(b, 1024, 64); /* so that a rank without sequences also has a well-formed Batch */
    b->n = b->nseq = 0;
    OWN(int64_t, b->start)[0] = 0;
}

void batch_free(Batch *b) {
    free(OWN(int32_t, b->tokens));
    free(OWN(int32_t, b->targets));
    free(OWN(float, b->weight));
    free(OWN(uint64_t, b->row));
    free(OWN(int64_t, b->start));
    *b = (Batch){0};
}

/* A sequence of n positions; position i gets target tokens[i+1] while there is one. */
static void add(Batch *b, const int32_t *tokens, int64_t n, bool window, const uint8_t *learn,
                float weight, uint64_t id) {
    CHECK(n > 0 && n < 1 << POSITION_BITS, "a sequence of %lld tokens", (long long)n);
    reserve(b, b->n + n, b->nseq + 1);
    int32_t *token = OWN(int32_t, b->tokens) + b->n, *target = OWN(int32_t, b->targets) + b->n;
    float *w = OWN(float, b->weight) + b->n;
    uint64_t *row = OWN(uint64_t, b->row) + b->n;
    for (int64_t i = 0; i < n; i++) {
        const bool last = i + 1 == n && !window;
        token[i] = tokens[i];
        target[i] = last ? 0 : tokens[i + 1];
        w[i] = last || (learn && !learn[i + 1]) ? 0 : weight;
        row[i] = id << POSITION_BITS | (uint64_t)i;
    }
    int64_t *start = OWN(int64_t, b->start);
    start[0] = 0;
    start[++b->nseq] = b->n += n;
}

void batch_add(Batch *b, const int32_t *tokens, int64_t n, const uint8_t *learn, float weight,
               uint64_t id) {
    add(b, tokens, n, false, learn, weight, id);
}

void batch_add_response(Batch *b, const int32_t *tokens, int64_t n, int64_t prompt, float weight,
                        uint64_t id) {
    add(b, tokens, n, false, NULL, weight, id);
    for (int64_t i = 0; i + 1 < prompt; i++) OWN(float, b->weight)[b->n - n + i] = 0;
}

void batch_add_window(Batch *b, const int32_t *tokens, int64_t n, float weight, uint64_t id) {
    add(b, tokens, n, true, NULL, weight, id);
}

void batch_check(const Batch *b, int64_t vocab, int64_t context) {
    CHECK(b->nseq >= 0 && b->start[0] == 0 && b->start[b->nseq] == b->n,
          "batch of %lld tokens has sequences from %lld to %lld", (long long)b->n,
          (long long)b->start[0], (long long)b->start[b->nseq]);
    for (int64_t s = 0; s < b->nseq; s++) {
        const int64_t len = b->start[s + 1] - b->start[s];
        CHECK(len >= 0 && len <= context,
              "sequence %lld of the batch has %lld tokens, expected at most %lld", (long long)s,
              (long long)len, (long long)context);
    }
    for (int64_t i = 0; i < b->n; i++)
        CHECK(b->tokens[i] >= 0 && b->tokens[i] < vocab,
              "token %lld of the batch is %d, expected 0 to %lld", (long long)i, b->tokens[i],
              (long long)vocab - 1);
}

int batch_fill(Batch *b, const BatchItems *items, int64_t *i, int64_t end, int64_t max) {
    for (; *i < end; ++*i) {
        if (b->n > 0 && b->n + items->tokens(items->ctx, *i) > max) break;
        TRY(items->add(items->ctx, *i, b));
    }
    return 0;
}
