/* bpe.c: one piece of text to ids, by byte-pair merges.
 *
 * The rule (Sennrich 2016; GPT-2): start with the ids of the bytes; among adjacent pairs that are
 * merges take the one of lowest rank, leftmost first, replace it, again until none is left.
 * Three ways give the same ids:
 *   - most pieces of real text end as one token. Which tokens their own bytes lead to is found
 *     once, when the tokenizer is made, so such a piece is one look-up in a table that never
 *     changes (and so needs no lock);
 *   - short pieces scan for the lowest rank again after each merge, which on a few bytes beats
 *     anything clever;
 *   - long ones keep candidate pairs in a heap over a linked list: n log n, so that a megabyte
 *     of one letter is no attack. */
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/error.h"
#include "data/tokenizer_impl.h"

enum { SHORT = 48, NO_RANK = INT32_MAX };

static uint64_t pair_key(int32_t a, int32_t b) {
    return ((uint64_t)(uint32_t)a << 32 | (uint32_t)b) + 1;
}

static uint64_t mix(uint64_t x) {
    x *= 0x9e3779b97f4a7c15u;
    return x ^ x >> 32;
}

/* The slot that holds the pair, or the empty one where it belongs. */
static MergeSlot *pair_slot(const Tokenizer *t, int32_t a, int32_t b) {
    const uint64_t key = pair_key(a, b);
    uint64_t i = mix(key) & t->pair_mask;
    while (t->pair[i].key && t->pair[i].key != key) i = (i + 1) & t->pair_mask;
    return &t->pair[i];
}

/* Sets *id and returns the rank; NO_RANK if the two do not merge. */
static int32_t pair_rank(const Tokenizer *t, int32_t a, int32_t b, int32_t *id) {
    const MergeSlot *s = pair_slot(t, a, b);
    if (!s->key) return NO_RANK;
    *id = s->id;
    return s->rank;
}

static int no_such_byte(const char *piece, size_t len, const Tokenizer *t) {
    size_t i = 0;
    while (i + 1 < len && t->byte_id[(uint8_t)piece[i]] >= 0) i++;
    return error_set(ERR_DATA, "the tokenizer has no token for byte 0x%02x, which the text has",
                     (uint8_t)piece[i]);
}

static int encode_short(const Tokenizer *t, const char *piece, size_t len, IdList *out) {
    int32_t id[SHORT], rank[SHORT], merged[SHORT]; /* rank and result of the pair i, i + 1 */
    int n = (int)len;
    for (int i = 0; i < n; i++) {
        id[i] = t->byte_id[(uint8_t)piece[i]];
        if (id[i] < 0) return no_such_byte(piece, len, t);
    }
    for (int i = 0; i + 1 < n; i++) rank[i] = pair_rank(t, id[i], id[i + 1], &merged[i]);
    while (n > 1) {
        int best = 0;
        for (int i = 1; i + 1 < n; i++) {
            if (rank[i] < rank[best]) best = i;
        }
        if (rank[best] == NO_RANK) break;
        id[best] = merged[best];
        n--;
        for (int i = best + 1; i < n; i++) id[i] = id[i + 1];
        for (int i = best + 1; i + 1 < n; i++) {
            rank[i] = rank[i + 1];
            merged[i] = merged[i + 1];
        }
        if (best > 0) rank[best - 1] = pair_rank(t, id[best - 1], id[best], &merged[best - 1]);
        if (best + 1 < n) rank[best] = pair_rank(t, id[best], id[best + 1], &merged[best]);
    }
    for (int i = 0; i < n; i++) ids_push(out, id[i]);
    return 0;
}

/* A pair that may be merged: of the symbol at pos and its right neighbour. The order of the heap
 * is the order of the rule: rank, then position. */
typedef struct Candidate {
    int32_t rank;
    int64_t pos;
} Candidate;

typedef struct Heap {
    Candidate *v;
    int64_t n, cap;
} Heap;

static bool before(Candidate a, Candidate b) {
    return a.rank != b.rank ? a.rank < b.rank : a.pos < b.pos;
}

static void heap_push(Heap *h, Candidate c) {
    if (h->n == h->cap) {
        h->cap = h->cap ? 2 * h->cap : 256;
        h->v = xrealloc(h->v, (size_t)h->cap * sizeof *h->v);
    }
    int64_t i = h->n++;
    for (; i > 0 && before(c, h->v[(i - 1) / 2]); i = (i - 1) / 2) h->v[i] = h->v[(i - 1) / 2];
    h->v[i] = c;
}

static Candidate heap_pop(Heap *h) {
    const Candidate top = h->v[0], last = h->v[--h->n];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && before(h->v[child + 1], h->v[child])) child++;
        if (!before(h->v[child], last)) break;
        h->v[i] = h->v[child];
    }
    h->v[i] = last;
    return top;
}

static int encode_long(const Tokenizer *t, const char *piece, size_t len, IdList *out) {
    typedef struct Symbol {
        int32_t id; /* -1: merged into its left neighbour */
        int64_t prev, next;
    } Symbol;
    const int64_t n = (int64_t)len;
    Symbol *s = xmalloc(len * sizeof *s);
    Heap heap = {0};
    int rc = 0;
    int32_t id = -1;
    for (int64_t i = 0; i < n; i++) {
        s[i] = (Symbol){t->byte_id[(uint8_t)piece[i]], i - 1, i + 1};
        if (s[i].id < 0) {
            rc = no_such_byte(piece, len, t);
            goto end;
        }
    }
    for (int64_t i = 0; i + 1 < n; i++) {
        const int32_t rank = pair_rank(t, s[i].id, s[i + 1].id, &id);
        if (rank != NO_RANK) heap_push(&heap, (Candidate){rank, i});
    }
    while (heap.n > 0) {
        const Candidate c = heap_pop(&heap);
        Symbol *left = &s[c.pos];
        if (left->id < 0 || left->next == n) continue;
        Symbol *right = &s[left->next];
        /* A candidate whose symbols have changed since has another rank now: ranks are unique. */
        if (pair_rank(t, left->id, right->id, &id) != c.rank) continue;
        left->id = id;
        left->next = right->next;
        right->id = -1;
        if (left->next < n) {
            s[left->next].prev = c.pos;
            const int32_t rank = pair_rank(t, left->id, s[left->next].id, &id);
            if (rank != NO_RANK) heap_push(&heap, (Candidate){rank, c.pos});
        }
        if (left->prev >= 0) {
            const int32_t rank = pair_rank(t, s[left->prev].id, left->id, &id);
            if (rank != NO_RANK) heap_push(&heap, (Candidate){rank, left->prev});
        }
    }
    for (int64_t i = 0; i < n; i = s[i].next) ids_push(out, s[i].id);
end:
    free(heap.v);
    free(s);
    return rc;
}

static int encode_by_merges(const Tokenizer *t, const char *piece, size_t len, IdList *out) {
    return len <= SHORT ? encode_short(t, piece, len, out) : encode_long(t, piece, len, out);
}

/* The slot of these bytes in the table of whole pieces, or the empty one where they belong. */
static int32_t *whole_slot(const Tokenizer *t, const char *bytes, size_t len) {
    uint64_t i = XXH3_64bits(bytes, len) & t->whole_mask;
    for (;; i = (i + 1) & t->whole_mask) {
        if (!t->whole[i]) return &t->whole[i];
        const Token *k = &t->token[t->whole[i] - 1];
        if ((size_t)k->len == len && memcmp(k->bytes, bytes, len) == 0) return &t->whole[i];
    }
}

int bpe_encode(const Tokenizer *t, const char *piece, size_t len, IdList *out) {
    const int32_t whole = *whole_slot(t, piece, len);
    if (whole) {
        ids_push(out, whole - 1);
        return 0;
    }
    return encode_by_merges(t, piece, len, out);
}

static uint64_t table_size(int64_t n) {
    uint64_t size = 16;
    while (size < 2 * (uint64_t)n) size *= 2;
    return size;
}

void bpe_build(Tokenizer *t) {
    uint64_t size = table_size(t->nmerge);
    t->pair = xcalloc(size, sizeof *t->pair);
    t->pair_mask = size - 1;
    for (int64_t i = 0; i < t->nmerge; i++) {
        const Merge *m = &t->merge[i];
        *pair_slot(t, m->a, m->b) = (MergeSlot){pair_key(m->a, m->b), (int32_t)i, m->id};
    }
    for (int i = 0; i < 256; i++) t->byte_id[i] = -1;
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (k->bytes && k->len == 1 && !(k->flags & TOKEN_RAW)) {
            t->byte_id[(uint8_t)k->bytes[0]] = (int32_t)i;
        }
    }
    size = table_size(t->vocab);
    t->whole = xcalloc(size, sizeof *t->whole);
    t->whole_mask = size - 1;
    IdList ids = {0};
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (!k->bytes || k->len == 0 || k->flags & TOKEN_RAW) continue;
        if (!t->ignore_merges) { /* then a token counts only if merges lead to it */
            ids.n = 0;
            if (encode_by_merges(t, k->bytes, (size_t)k->len, &ids) < 0) continue;
            if (ids.n != 1 || ids.v[0] != i) continue;
        }
        *whole_slot(t, k->bytes, (size_t)k->len) = (int32_t)i + 1;
    }
    ids_free(&ids);
}
