/* bpe.c: one piece of text to ids, by byte-pair merges.
 *
 * The rule (Sennrich 2016; GPT-2): start with the ids of the bytes; among adjacent pairs that are
 * merges take the one of lowest rank, leftmost first, replace it, again until none is left.
 * These ways give the same ids:
 *   - most pieces of real text end as one token. Which tokens their own bytes lead to is found
 *     once, when the tokenizer is made, so such a piece is one look-up in a table that never
 *     changes (and so needs no lock); most of the others were met before;
 *   - where no merge has its left part end with this byte and its right part begin with that one,
 *     none ever crosses the place between them, and the two sides are encoded on their own. GPT-2
 *     has few tokens of more than one Chinese character, so most of these stand alone, and those of
 *     three bytes have a table;
 *   - short pieces scan for the lowest rank again after each merge, which on a few bytes beats
 *     anything clever;
 *   - long ones keep candidate pairs in a heap over a linked list: n log n, so that a megabyte
 *     of one letter is no attack. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/error.h"
#include "data/tokenizer/tokenizer_impl.h"

enum { SHORT = 48, NO_RANK = INT32_MAX, KEY_BYTES = 16 };

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

static void no_such_byte(const char *piece, size_t len, const Tokenizer *t) {
    size_t i = 0;
    while (i + 1 < len && t->byte_id[(uint8_t)piece[i]] >= 0) i++;
    error_set(ERR_DATA, "the tokenizer has no token for byte 0x%02x, which the text has",
              (uint8_t)piece[i]);
}

/* The id that the byte at i begins as, or the character there, and the bytes of it; -2: none, it
 * belongs to the unknown token before. -1: an error is set. */
static inline int32_t first_id(const Tokenizer *t, const char *piece, size_t len, size_t i,
                               size_t *width) {
    *width = 1;
    if (t->by_chars) {
        const size_t n = utf8_char(piece + i, len - i);
        const int32_t c = n > 0 ? t->char_id[utf8_code(piece + i, n)] : 0;
        if (c > 0) *width = n;
        if (c > 0) return c - 1;
    }
    const int32_t id = t->byte_id[(uint8_t)piece[i]];
    if (id >= 0) return id;
    if (t->unknown < 0) {
        no_such_byte(piece, len, t);
        return -1;
    }
    return t->fuse_unknown && i > 0 && t->byte_id[(uint8_t)piece[i - 1]] < 0 ? -2 : t->unknown;
}

typedef struct BytePair {
    int32_t rank, id;
} BytePair;

static int encode_short(const Tokenizer *t, const char *piece, size_t len, IdList *out) {
    int32_t id[SHORT], rank[SHORT], merged[SHORT]; /* rank and result of the pair i, i + 1 */
    int n = 0;
    for (size_t i = 0, width; i < len; i += width) {
        id[n] = first_id(t, piece, len, i, &width);
        if (id[n] == -1) return ERR_DATA;
        n += id[n] >= 0;
    }
    for (int i = 0; i + 1 < n; i++) {
        if (t->byte_pair) {
            const BytePair *p = &t->byte_pair[(uint8_t)piece[i] << 8 | (uint8_t)piece[i + 1]];
            rank[i] = p->rank;
            merged[i] = p->id;
        } else {
            rank[i] = pair_rank(t, id[i], id[i + 1], &merged[i]);
        }
    }
    while (n > 1) {
        int best = 0;
        for (int i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
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
    ids_append(out, id, n);
    return 0;
}

/* A pair that may be merged: of the symbol at pos and its right neighbour. The order of the heap
 * is the order of the rule: rank, then position. */
typedef struct MergeCandidate {
    int32_t rank;
    int64_t pos;
} MergeCandidate;

static bool before(const Token *order, const MergeCandidate *a, const MergeCandidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos;
}

HEAP(MergeHeap, MergeCandidate, before)

static int encode_long(const Tokenizer *t, const char *piece, size_t len, IdList *out) {
    typedef struct Symbol {
        int32_t id; /* -1: merged into its left neighbour */
        int64_t prev, next;
    } Symbol;
    int64_t n = 0;
    Symbol *s = xmalloc(len * sizeof *s);
    MergeHeap heap = {0};
    int rc = 0;
    int32_t id = -1;
    for (size_t i = 0, width; i < len; i += width) {
        s[n] = (Symbol){first_id(t, piece, len, i, &width), n - 1, n + 1};
        if (s[n].id == -1) {
            rc = ERR_DATA;
            goto end;
        }
        n += s[n].id >= 0;
    }
    for (int64_t i = 0; i + 1 < n; i++) {
        const int32_t rank = pair_rank(t, s[i].id, s[i + 1].id, &id);
        if (rank != NO_RANK) heap_push(&heap, (MergeCandidate){rank, i});
    }
    while (heap.n > 0) {
        const MergeCandidate c = heap_pop(&heap);
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
            if (rank != NO_RANK) heap_push(&heap, (MergeCandidate){rank, c.pos});
        }
        if (left->prev >= 0) {
            const int32_t rank = pair_rank(t, s[left->prev].id, left->id, &id);
            if (rank != NO_RANK) heap_push(&heap, (MergeCandidate){rank, left->prev});
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

/* --- pieces as keys ------------------------------------------------------------------------ */

/* Up to 16 bytes as two words, which overlap for the middle lengths; the length distinguishes those
 * that have the same words. Longer pieces by their hash. */
static inline PieceKey piece_key(const char *s, size_t len) {
    PieceKey k = {.len = (uint32_t)len};
    uint32_t a, b;
    if (len > KEY_BYTES) {
        const XXH128_hash_t h = XXH3_128bits(s, len);
        k.a = h.low64;
        k.b = h.high64;
    } else if (len >= 8) {
        memcpy(&k.a, s, 8);
        memcpy(&k.b, s + len - 8, 8);
    } else if (len >= 4) {
        memcpy(&a, s, 4);
        memcpy(&b, s + len - 4, 4);
        k.a = (uint64_t)a << 32 | b;
    } else {
        for (size_t i = 0; i < len; i++) k.a = k.a << 8 | (uint8_t)s[i];
    }
    return k;
}

static inline bool same_key(const PieceKey *x, const PieceKey *y) {
    return x->a == y->a && x->b == y->b && x->len == y->len;
}

static inline uint64_t key_hash(const PieceKey *k) {
    const uint64_t x = (k->a ^ k->b * 0xff51afd7ed558ccdu ^ k->len) * 0x9e3779b97f4a7c15u;
    return x ^ x >> 29;
}

/* The slot of a piece in the table of whole pieces, or the empty one where it belongs. */
static inline WholeSlot *whole_slot(const Tokenizer *t, const PieceKey *k, const char *bytes) {
    for (uint64_t i = key_hash(k) & t->whole_mask;; i = (i + 1) & t->whole_mask) {
        WholeSlot *s = &t->whole[i];
        if (s->key.len == 0) return s;
        if (!same_key(&s->key, k)) continue;
        if (k->len <= KEY_BYTES || memcmp(t->token[s->id].bytes, bytes, k->len) == 0) return s;
    }
}

/* --- pieces met before --------------------------------------------------------------------- */

/* Text repeats its words. Each thread remembers the ids of short pieces that are no token; what
 * hashes to the same place takes it. Tokenizers share the memory, distinguished by their number. */
enum { MEMORY = 4096, MEMORY_IDS = 8 };

typedef struct Remembered {
    PieceKey key;
    uint32_t tokenizer;
    int32_t n, id[MEMORY_IDS];
} Remembered;

static _Thread_local Remembered *memory; /* [MEMORY] */
static pthread_key_t memory_key;         /* frees it with its thread */
static pthread_once_t memory_once = PTHREAD_ONCE_INIT;

static void make_memory_key(void) {
    CHECK(pthread_key_create(&memory_key, free) == 0, "no thread-local memory");
}

static Remembered *remember(const Tokenizer *t, const PieceKey *k) {
    if (!memory) {
        pthread_once(&memory_once, make_memory_key);
        memory = xcalloc(MEMORY, sizeof *memory);
        pthread_setspecific(memory_key, memory);
    }
    return &memory[(key_hash(k) >> 20 ^ t->number) % MEMORY];
}

/* What merges make of a piece that is no token; key is its own. */
static int encode_remembered(const Tokenizer *t, const PieceKey *key, const char *piece, size_t len,
                             IdList *out) {
    if (len > KEY_BYTES) return encode_by_merges(t, piece, len, out);
    Remembered *r = remember(t, key);
    if (r->tokenizer != t->number || !same_key(&r->key, key)) {
        const int64_t first = out->n;
        TRY(encode_by_merges(t, piece, len, out));
        if (out->n - first > MEMORY_IDS) return 0;
        *r = (Remembered){.key = *key, .tokenizer = t->number, .n = (int32_t)(out->n - first)};
        memcpy(r->id, out->v + first, (size_t)r->n * sizeof *r->id);
        return 0;
    }
    ids_append(out, r->id, r->n);
    return 0;
}

/* --- pieces in parts ----------------------------------------------------------------------- */

/* May a merge cross the place before piece[i]? */
static inline bool joined(const Tokenizer *t, const char *piece, size_t i) {
    const unsigned pair = (unsigned)(uint8_t)piece[i - 1] << 8 | (uint8_t)piece[i];
    return t->joins[pair / 64] >> pair % 64 & 1;
}

/* The index in t->three of the bytes at s if they look like a character of three bytes; -1. */
static inline int three_bytes(const char *s) {
    const uint8_t *c = (const uint8_t *)s;
    if ((c[0] & 0xf0) != 0xe0 || (c[1] & 0xc0) != 0x80 || (c[2] & 0xc0) != 0x80) return -1;
    return (c[0] & 15) << 12 | (c[1] & 63) << 6 | (c[2] & 63);
}

static inline int encode_part(const Tokenizer *t, const char *part, size_t len, IdList *out) {
    const PieceKey key = piece_key(part, len);
    const WholeSlot *whole = t->ignore_merges ? NULL : whole_slot(t, &key, part);
    if (!whole || !whole->key.len) return encode_remembered(t, &key, part, len, out);
    ids_push(out, whole->id);
    return 0;
}

static int encode_parts(const Tokenizer *t, const char *piece, size_t len, IdList *out) {
    ids_room(out, (int64_t)len);
    for (size_t i = 0, end; i < len; i = end) {
        end = i + 3;
        const int three = end <= len ? three_bytes(piece + i) : -1;
        if (three >= 0 && (end == len || !joined(t, piece, end))) {
            const ThreeBytes *c = &t->three[three];
            memcpy(out->v + out->n, c->id, sizeof c->id); /* the room is there: at least 3 bytes */
            out->n += 1 + (c->id[1] >= 0) + (c->id[2] >= 0);
            continue;
        }
        for (end = i + 1; end < len && joined(t, piece, end);) end++;
        TRY(encode_part(t, piece + i, end - i, out));
    }
    return 0;
}

/* By characters, in parts that no merge joins. */
static int encode_chars(const Tokenizer *t, const char *piece, size_t len, IdList *out) {
    for (size_t i = 0, end; i < len; i = end) {
        for (end = i; end == i || (end < len && joined(t, piece, end));) {
            const size_t n = utf8_char(piece + end, len - end);
            end += n > 0 ? n : 1;
        }
        TRY(encode_part(t, piece + i, end - i, out));
    }
    return 0;
}

int bpe_encode(const Tokenizer *t, const char *piece, size_t len, IdList *out) {
    if (t->by_chars && !t->ignore_merges) return encode_chars(t, piece, len, out);
    /* Letters that are not ASCII are mostly in pieces of nothing else. */
    const bool parts = t->three && (piece[len - 1] & 0x80);
    if (parts && !t->ignore_merges) return encode_parts(t, piece, len, out);
    const PieceKey key = piece_key(piece, len);
    const WholeSlot *whole = whole_slot(t, &key, piece);
    if (whole->key.len) {
        ids_push(out, whole->id);
        return 0;
    }
    if (t->by_chars) return encode_chars(t, piece, len, out);
    return parts ? encode_parts(t, piece, len, out) : encode_remembered(t, &key, piece, len, out);
}

static uint64_t table_size(int64_t n) {
    uint64_t size = 16;
    while (size < 2 * (uint64_t)n) size *= 2;
    return size;
}

static void add_pair(Tokenizer *t, int64_t rank) {
    const Merge *m = &t->merge[rank];
    *pair_slot(t, m->a, m->b) = (MergeSlot){pair_key(m->a, m->b), (int32_t)rank, m->id};
}

/* The table of merges, with room for as many again. */
static void build_pairs(Tokenizer *t) {
    const uint64_t size = table_size(2 * t->nmerge);
    free(t->pair);
    t->pair = xcalloc(size, sizeof *t->pair);
    t->pair_mask = size - 1;
    for (int64_t i = 0; i < t->nmerge; i++) add_pair(t, i);
}

static void find_bytes(Tokenizer *t) {
    for (int i = 0; i < 256; i++) t->byte_id[i] = -1;
    if (t->by_chars) t->char_id = xcalloc(0x110000, sizeof *t->char_id);
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (!k->bytes || k->len == 0 || !(k->flags & TOKEN_IN_VOCAB) || k->flags & TOKEN_RAW)
            continue;
        if (t->by_chars && !(k->flags & TOKEN_BYTE)) {
            if (utf8_char(k->bytes, (size_t)k->len) == (size_t)k->len)
                t->char_id[utf8_code(k->bytes, (size_t)k->len)] = (int32_t)i + 1;
        } else if (k->len == 1) {
            t->byte_id[(uint8_t)k->bytes[0]] = (int32_t)i;
        }
    }
}

static void add_whole(Tokenizer *t, int64_t id) {
    const Token *k = &t->token[id];
    const PieceKey key = piece_key(k->bytes, (size_t)k->len);
    *whole_slot(t, &key, k->bytes) = (WholeSlot){key, (int32_t)id};
}

static int32_t find_whole(const Tokenizer *t, const char *bytes, size_t len) {
    const PieceKey key = piece_key(bytes, len);
    const WholeSlot *s = whole_slot(t, &key, bytes);
    return s->key.len ? s->id : -1;
}

static void build_whole(Tokenizer *t) {
    const uint64_t size = table_size(t->vocab);
    free(t->whole);
    t->whole = xcalloc(size, sizeof *t->whole);
    t->whole_mask = size - 1;
    IdList ids = {0};
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (!k->bytes || k->len == 0 || k->flags & (TOKEN_RAW | TOKEN_BYTE) ||
            !(k->flags & TOKEN_IN_VOCAB))
            continue;
        if (!t->ignore_merges) { /* then a token counts only if merges lead to it */
            ids.n = 0;
            if (encode_by_merges(t, k->bytes, (size_t)k->len, &ids) < 0) continue;
            if (ids.n != 1 || ids.v[0] != i) continue;
        }
        add_whole(t, i);
    }
    ids_free(&ids);
}

static void build_byte_pairs(Tokenizer *t) {
    for (int i = 0; i < 256; i++)
        if (t->byte_id[i] < 0 || t->by_chars) return;
    t->byte_pair = xcalloc(256 * 256, sizeof *t->byte_pair);
    for (int i = 0; i < 256 * 256; i++) {
        BytePair *p = &t->byte_pair[i];
        p->rank = pair_rank(t, t->byte_id[i >> 8], t->byte_id[i & 255], &p->id);
    }
}

/* Only where each byte is a token: a character of no token may be fused with its neighbours. */
static void build_parts(Tokenizer *t) {
    if (!t->byte_pair && !t->by_chars) return;
    t->joins = xcalloc(256 * 256 / 64, sizeof *t->joins);
    for (int64_t i = 0; i < t->nmerge; i++) {
        const Token *a = &t->token[t->merge[i].a], *b = &t->token[t->merge[i].b];
        const unsigned pair = (unsigned)(uint8_t)a->bytes[a->len - 1] << 8 | (uint8_t)b->bytes[0];
        t->joins[pair / 64] |= (uint64_t)1 << pair % 64;
    }
    if (t->by_chars) return;
    t->three = xmalloc((1 << 16) * sizeof *t->three);
    IdList ids = {0};
    for (int i = 0; i < 1 << 16; i++) {
        const char c[3] = {(char)(0xe0 | i >> 12), (char)(0x80 | (i >> 6 & 63)),
                           (char)(0x80 | (i & 63))};
        ids.n = 0;
        encode_short(t, c, sizeof c, &ids); /* cannot fail: there are tokens for all bytes */
        for (int k = 0; k < 3; k++) t->three[i].id[k] = k < ids.n ? ids.v[k] : -1;
    }
    ids_free(&ids);
}

void bpe_build(Tokenizer *t) {
    static uint32_t tokenizers;
    build_pairs(t);
    find_bytes(t);
    build_byte_pairs(t);
    build_parts(t);
    build_whole(t);
    t->number = __atomic_add_fetch(&tokenizers, 1, __ATOMIC_RELAXED);
}

/* tiktoken merges the two neighbours that together are the token of lowest rank. When that reaches
 * a token's rank, the bytes between its ends have become what they become on their own by lower
 * ranks: mostly two parts, and then no other two ever make it. A token that is not reached so may
 * come of any two parts. */
void bpe_recover_merges(Tokenizer *t) {
    IdList ids = {0};
    t->ignore_merges = true;
    build_pairs(t);
    find_bytes(t);
    build_whole(t);
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (!k->bytes || k->len < 2 || !(k->flags & TOKEN_IN_VOCAB)) continue;
        const int64_t first = t->nmerge;
        const size_t len = (size_t)k->len;
        ids.n = 0;
        if (encode_by_merges(t, k->bytes, len, &ids) == 0 && ids.n == 2) {
            tokenizer_add_merge(t, ids.v[0], ids.v[1], (int32_t)i);
        } else {
            for (size_t cut = 1; cut < len; cut++) {
                const int32_t a = find_whole(t, k->bytes, cut);
                const int32_t b = find_whole(t, k->bytes + cut, len - cut);
                if (a >= 0 && b >= 0) tokenizer_add_merge(t, a, b, (int32_t)i);
            }
        }
        if (2 * (uint64_t)t->nmerge > t->pair_mask)
            build_pairs(t);
        else
            for (int64_t m = first; m < t->nmerge; m++) add_pair(t, m);
    }
    ids_free(&ids);
}
