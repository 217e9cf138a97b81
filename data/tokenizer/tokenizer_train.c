/* tokenizer_train.c: learning merges.
 *
 * Texts are cut into pieces as for encoding, and each distinct piece ("word") is kept once with
 * its count. Then, until the vocabulary is full: take the most frequent adjacent pair (ties: the
 * smaller pair of ids), make it a token, replace it in the words that have it, and correct the
 * counts of the pairs around. A heap holds (count, pair, the words where it was found); counts
 * only fall while an entry waits, so an entry whose count is out of date is put back with the
 * present one, and what comes out right is the maximum.
 *
 * Ids equal those of Hugging Face's BpeTrainer on the same text. No two merges make the same bytes:
 * the ends of a token were ends of tokens at every earlier step, so between them merging went as it
 * goes for these bytes alone. Hence a new token always needs a new id, and only pairs with the
 * newest token can arise. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/error.h"
#include "data/tokenizer/tokenizer_impl.h"

/* --- words ---------------------------------------------------------------------------------- */

typedef struct Word {
    size_t at; /* first of its bytes, later of its symbols */
    int32_t len;
    int64_t count;
} Word;

typedef struct Words {
    Word *v;
    int64_t n, cap;
    char *bytes;
    size_t nbytes, bytes_cap;
    int64_t *slot; /* open addressing; index + 1 */
    uint64_t mask;
} Words;

static void words_grow_table(Words *w) {
    const uint64_t size = w->slot ? 2 * (w->mask + 1) : 1024;
    free(w->slot);
    w->slot = xcalloc(size, sizeof *w->slot);
    w->mask = size - 1;
    for (int64_t k = 0; k < w->n; k++) {
        uint64_t i = XXH3_64bits(w->bytes + w->v[k].at, (size_t)w->v[k].len) & w->mask;
        while (w->slot[i]) i = (i + 1) & w->mask;
        w->slot[i] = k + 1;
    }
}

static void words_add(Words *w, const char *piece, size_t len, int64_t count) {
    if (!w->slot || 2 * (uint64_t)w->n > w->mask) words_grow_table(w);
    uint64_t i = XXH3_64bits(piece, len) & w->mask;
    for (; w->slot[i]; i = (i + 1) & w->mask) {
        Word *k = &w->v[w->slot[i] - 1];
        if ((size_t)k->len == len && memcmp(w->bytes + k->at, piece, len) == 0) {
            k->count += count;
            return;
        }
    }
    XGROW(w->v, w->n, w->cap);
    if (w->nbytes + len > w->bytes_cap) {
        w->bytes_cap = 2 * (w->nbytes + len);
        w->bytes = xrealloc(w->bytes, w->bytes_cap);
    }
    memcpy(w->bytes + w->nbytes, piece, len);
    w->v[w->n++] = (Word){.at = w->nbytes, .len = (int32_t)len, .count = count};
    w->nbytes += len;
    w->slot[i] = w->n;
}

static void words_free(Words *w) {
    free(w->v);
    free(w->bytes);
    free(w->slot);
}

/* words: [threads] */
static int count_piece(void *words, const char *piece, size_t len) {
    if (len > INT32_MAX)
        return error_set(ERR_DATA, "a piece of text without a break is over 2 GiB");
    words_add((Words *)words + omp_get_thread_num(), piece, len, 1);
    return 0;
}

/* --- counting ------------------------------------------------------------------------------- */

/* Texts are collected until there is work for all threads; each counts the words of some parts in
 * a table of its own. */
enum { PART = 1 << 18, BATCH = 16 << 20 };

typedef struct Counting {
    const Tokenizer *t;
    const char *const *special;
    int nspecial;
    Words *words; /* [threads] */
    int threads;
    TextParts parts;
    char *batch; /* [BATCH] holds the parts of short texts */
    size_t used;
} Counting;

static int count_parts(Counting *c) {
    TRY(pretokenize_parts(c->t->pre, &c->parts, count_piece, c->words, 0));
    c->parts.n = 0;
    c->used = 0;
    return 0;
}

/* Special tokens in the text, leftmost and longest, end documents; nothing is learned from them. */
static void add_document(Counting *c, const char *text, size_t len) {
    const char *const end = text + len;
    const char **at = xcalloc((size_t)c->nspecial + 1, sizeof *at); /* where each is next */
    for (int i = 0; i < c->nspecial; i++)
        at[i] = memmem(text, len, c->special[i], strlen(c->special[i]));
    for (int first;;) {
        first = -1;
        for (int i = 0; i < c->nspecial; i++) {
            const size_t n = strlen(c->special[i]);
            if (at[i] && at[i] < text) at[i] = memmem(text, (size_t)(end - text), c->special[i], n);
            if (!at[i]) continue;
            if (first < 0 || at[i] < at[first] ||
                (at[i] == at[first] && n > strlen(c->special[first])))
                first = i;
        }
        if (first < 0) break;
        pretokenizer_parts(c->t->pre, text, (size_t)(at[first] - text), PART, &c->parts);
        text = at[first] + strlen(c->special[first]);
    }
    pretokenizer_parts(c->t->pre, text, (size_t)(end - text), PART, &c->parts);
    free(at);
}

static int add_text(Counting *c, const char *text, size_t len) {
    if (len > BATCH / 4) {
        TRY(count_parts(c));
        add_document(c, text, len);
        return count_parts(c);
    }
    if (c->used + len > BATCH) TRY(count_parts(c));
    memcpy(c->batch + c->used, text, len);
    add_document(c, c->batch + c->used, len);
    c->used += len;
    return 0;
}

/* All words of all texts. */
static int count_words(const Tokenizer *t, TextSource *next, void *ctx, const TrainOptions *o,
                       Words *out) {
    Counting c = {.t = t, .special = o->special, .nspecial = o->nspecial};
    const char *text;
    size_t len;
    int rc;
    c.threads = omp_get_max_threads();
    c.words = xcalloc((size_t)c.threads, sizeof *c.words);
    c.batch = xmalloc(BATCH);
    while ((rc = next ? next(ctx, &text, &len) : 0) > 0) TRY_GOTO(end, add_text(&c, text, len));
    if (rc == 0) rc = count_parts(&c);
end:
    for (int i = 1; i < c.threads; i++) {
        Words *w = &c.words[i];
        for (int64_t k = 0; rc == 0 && k < w->n; k++)
            words_add(&c.words[0], w->bytes + w->v[k].at, (size_t)w->v[k].len, w->v[k].count);
        words_free(w);
    }
    *out = c.words[0];
    free(c.words);
    free(c.parts.v);
    free(c.batch);
    if (rc == 0 && out->n > INT32_MAX)
        rc = error_set(ERR_DATA, "over 2^31 distinct words: train on less text");
    return rc;
}

/* --- pairs ---------------------------------------------------------------------------------- */

/* Indices of words; no duplicates follow each other. */
typedef struct WordPlaces {
    int32_t *v;
    int32_t n, cap;
} WordPlaces;

typedef struct Pair {
    uint64_t key; /* ids of both + 1; 0: empty slot. In order of (left, right). */
    int64_t count;
    WordPlaces fresh; /* where it arose since the last merge; not in the heap yet */
} Pair;

typedef struct Pairs {
    Pair *v; /* open addressing */
    uint64_t mask;
    int64_t n;
    uint64_t *fresh; /* keys of pairs with fresh places */
    int64_t nfresh, fresh_cap;
} Pairs;

static uint64_t pair_key(int32_t a, int32_t b) {
    return ((uint64_t)(uint32_t)a << 32 | (uint32_t)b) + 1;
}

static Pair *pairs_slot(const Pairs *p, uint64_t key) {
    uint64_t x = key * 0x9e3779b97f4a7c15u;
    uint64_t i = (x ^ x >> 32) & p->mask;
    while (p->v[i].key && p->v[i].key != key) i = (i + 1) & p->mask;
    return &p->v[i];
}

static Pair *pairs_get(Pairs *p, uint64_t key) {
    if (!p->v || 2 * (uint64_t)p->n > p->mask) {
        const Pairs old = *p;
        const uint64_t size = old.v ? 2 * (old.mask + 1) : 4096;
        p->v = xcalloc(size, sizeof *p->v);
        p->mask = size - 1;
        for (uint64_t i = 0; old.v && i <= old.mask; i++)
            if (old.v[i].key) *pairs_slot(p, old.v[i].key) = old.v[i];
        free(old.v);
    }
    Pair *s = pairs_slot(p, key);
    if (!s->key) {
        s->key = key;
        p->n++;
    }
    return s;
}

/* The pair was found `count` times more, in this word. */
static void pairs_arose(Pairs *p, uint64_t key, int64_t count, int32_t word) {
    Pair *s = pairs_get(p, key);
    s->count += count;
    WordPlaces *w = &s->fresh;
    if (w->n == 0) {
        XGROW(p->fresh, p->nfresh, p->fresh_cap);
        p->fresh[p->nfresh++] = key;
    } else if (w->v[w->n - 1] == word) {
        return;
    }
    if (w->n == w->cap) {
        w->cap = w->cap ? 2 * w->cap : 4;
        w->v = xrealloc(w->v, (size_t)w->cap * sizeof *w->v);
    }
    w->v[w->n++] = word;
}

/* --- the heap ------------------------------------------------------------------------------- */

typedef struct Entry {
    int64_t count;
    uint64_t key;
    WordPlaces places;
} Entry;

static int compare_bytes(const Token *a, const Token *b) {
    const int d = memcmp(a->bytes, b->bytes, (size_t)(a->len < b->len ? a->len : b->len));
    return d ? d : a->len - b->len;
}

/* order: TIE_BREAK_BYTES: the tokens. */
static bool before(const Token *order, const Entry *a, const Entry *b) {
    if (a->count != b->count) return a->count > b->count;
    if (!order) return a->key < b->key;
    const uint64_t x = a->key - 1, y = b->key - 1;
    const int d = compare_bytes(&order[x >> 32], &order[y >> 32]);
    return (d ? d : compare_bytes(&order[(uint32_t)x], &order[(uint32_t)y])) > 0;
}

HEAP(PairHeap, Entry, before)

/* Fresh places become entries of the heap. */
static void queue_fresh(Pairs *p, PairHeap *h) {
    for (int64_t i = 0; i < p->nfresh; i++) {
        Pair *s = pairs_slot(p, p->fresh[i]);
        if (s->count > 0)
            heap_push(h, (Entry){s->count, s->key, s->fresh});
        else
            free(s->fresh.v);
        s->fresh = (WordPlaces){0};
    }
    p->nfresh = 0;
}

/* --- training ------------------------------------------------------------------------------- */

/* Replaces a, b by id in one word and corrects the counts of the pairs beside it. (a, b)
 * itself is left as it is: nobody asks for it again. */
static void merge_word(Word *w, int32_t *symbols, int32_t index, int32_t a, int32_t b, int32_t id,
                       Pairs *pairs) {
    int32_t *s = symbols + w->at;
    int32_t n = 0;
    for (int32_t i = 0; i < w->len;) {
        if (s[i] != a || i + 1 >= w->len || s[i + 1] != b) {
            s[n++] = s[i++];
            continue;
        }
        if (n > 0) {
            pairs_get(pairs, pair_key(s[n - 1], a))->count -= w->count;
            pairs_arose(pairs, pair_key(s[n - 1], id), w->count, index);
        }
        if (i + 2 < w->len) {
            pairs_get(pairs, pair_key(b, s[i + 2]))->count -= w->count;
            pairs_arose(pairs, pair_key(id, s[i + 2]), w->count, index);
        }
        s[n++] = id;
        i += 2;
    }
    w->len = n;
}

/* Plain text must never become a special token. A TOKEN_RAW one may have a plain double: the file
 * writes the two differently. */
static bool is_special(const Tokenizer *t, const char *bytes, size_t len) {
    for (int64_t i = 0; i < t->vocab && t->token[i].flags & TOKEN_SPECIAL; i++) {
        const Token *k = &t->token[i];
        if (k->flags & TOKEN_RAW) continue;
        if ((size_t)k->len == len && memcmp(k->bytes, bytes, len) == 0) return true;
    }
    return false;
}

/* Adds tokens and merges to t, which has the special tokens and the bytes, until it has `vocab`
 * tokens or no pair occurs min_frequency times. */
static void learn(Tokenizer *t, Words *words, int32_t *symbols, const TrainOptions *o) {
    Pairs pairs = {0};
    PairHeap heap = {0};
    if (o->tie_break == TIE_BREAK_BYTES) heap.order = t->token;
    for (int64_t i = 0; i < words->n; i++) {
        const Word *w = &words->v[i];
        for (int32_t k = 0; k + 1 < w->len; k++) {
            const int32_t *s = symbols + w->at + k;
            pairs_arose(&pairs, pair_key(s[0], s[1]), w->count, (int32_t)i);
        }
    }
    queue_fresh(&pairs, &heap);
    while (t->vocab < o->vocab && heap.n > 0) {
        Entry top = heap_pop(&heap);
        const int64_t count = pairs_slot(&pairs, top.key)->count;
        if (top.count != count) {
            top.count = count;
            heap_push(&heap, top);
            continue;
        }
        if (count < 1 || count < o->min_frequency) {
            free(top.places.v);
            break;
        }
        const int32_t a = (int32_t)((top.key - 1) >> 32), b = (int32_t)(uint32_t)(top.key - 1);
        const size_t alen = (size_t)t->token[a].len, len = alen + (size_t)t->token[b].len;
        char *bytes = xmalloc(len);
        memcpy(mempcpy(bytes, t->token[a].bytes, alen), t->token[b].bytes, len - alen);
        if (!is_special(t, bytes, len)) {
            const int32_t id = (int32_t)t->vocab;
            const int rc = tokenizer_set_token(t, id, bytes, len, TOKEN_IN_VOCAB);
            CHECK(rc == 0, "%s", error_message());
            tokenizer_add_merge(t, a, b, id);
            if (heap.order) heap.order = t->token; /* it has moved */
            for (int32_t i = 0; i < top.places.n; i++) {
                const int32_t w = top.places.v[i];
                merge_word(&words->v[w], symbols, w, a, b, id, &pairs);
            }
            queue_fresh(&pairs, &heap);
        }
        free(bytes);
        free(top.places.v);
    }
    for (int64_t i = 0; i < heap.n; i++) free(heap.v[i].places.v);
    free(heap.v);
    free(pairs.v);
    free(pairs.fresh);
}

/* The special tokens, then the bytes in the order of their characters in the byte alphabet; of
 * these, where `used` is not NULL, only those. */
static int first_tokens(Tokenizer *t, const TrainOptions *o, const bool *used) {
    const char *const *special = o->special;
    for (int i = 0; i < o->nspecial; i++) {
        const size_t len = strlen(special[i]);
        const char *wrong = len == 0 ? "is empty" : len == 1 ? "is a single byte" : NULL;
        for (int k = 0; k < i; k++)
            if (strcmp(special[i], special[k]) == 0) wrong = "is given twice";
        for (size_t k = 0; k < len && !wrong;) {
            const size_t n = utf8_char(special[i] + k, len - k);
            if (n == 0) wrong = "is not UTF-8";
            k += n;
        }
        if (wrong) {
            return error_set(ERR_CONFIG,
                             "special token \"%s\" %s; expected distinct names such as "
                             "<|endoftext|>",
                             special[i], wrong);
        }
        bool ascii = true;
        for (size_t k = 0; k < len; k++) ascii = ascii && special[i][k] > 32 && special[i][k] < 127;
        TRY(tokenizer_set_token(t, i, special[i], len,
                                TOKEN_IN_VOCAB | TOKEN_ADDED | TOKEN_SPECIAL |
                                    (ascii ? 0 : TOKEN_RAW)));
    }
    for (uint32_t c = 0; c < 0x180; c++) {
        const int byte = alphabet_byte(c);
        const char b = (char)byte;
        if (byte >= 0 && (!used || used[byte]))
            TRY(tokenizer_set_token(t, t->vocab, &b, 1, TOKEN_IN_VOCAB));
    }
    return 0;
}

/* The bytes that occur. */
static int find_chars(TextSource *next, void *ctx, bool used[256]) {
    const char *text;
    size_t len;
    int rc;
    while ((rc = next(ctx, &text, &len)) > 0)
        for (size_t i = 0; i < len; i++) used[(uint8_t)text[i]] = true;
    return rc;
}

int tokenizer_train(Tokenizer **out, TextSource *next, void *ctx, const TrainOptions *o) {
    *out = NULL;
    if (!o->chars && (o->vocab < 256 + o->nspecial || o->vocab > MAX_VOCAB)) {
        return error_set(
            ERR_CONFIG,
            "a vocabulary of %lld tokens: expected %d (256 bytes and %d special tokens) "
            "to %d",
            (long long)o->vocab, 256 + o->nspecial, o->nspecial, MAX_VOCAB);
    }
    Tokenizer *t = tokenizer_new();
    Words words = {0};
    int32_t *symbols = NULL, byte_id[256];
    bool used[256] = {false};
    const SplitStep gpt2 = {.pattern = GPT2_PATTERN, .byte_level = true};
    int rc;
    if (o->chars) TRY_GOTO(end, find_chars(next, ctx, used));
    TRY_GOTO(end, first_tokens(t, o, o->chars ? used : NULL));
    TRY_GOTO(end, pretokenizer_add(t->pre, &gpt2));
    if (!o->chars) TRY_GOTO(end, count_words(t, next, ctx, o, &words));
    for (int64_t i = o->nspecial; i < t->vocab; i++)
        byte_id[(uint8_t)t->token[i].bytes[0]] = (int32_t)i;
    symbols = xmalloc((words.nbytes + 1) * sizeof *symbols);
    for (size_t i = 0; i < words.nbytes; i++) symbols[i] = byte_id[(uint8_t)words.bytes[i]];
    if (!o->chars) learn(t, &words, symbols, o);
    tokenizer_finish(t);
    *out = t;
    t = NULL;
end:
    tokenizer_close(&t);
    free(symbols);
    words_free(&words);
    return rc;
}
