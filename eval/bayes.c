/* bayes.c: see bayes.h. Counts lie in one table by the hash of a word or pair: of 64 bits, so that
 * two that share one are not to be expected. */
#include "eval/bayes.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"

typedef struct GramCount {
    uint64_t hash;   /* 0: empty */
    int64_t seen[2]; /* negative, positive */
} GramCount;

struct Bayes {
    GramCount *v; /* open addressing */
    uint64_t size, used;
    int64_t grams[2], texts[2];
};

Bayes *bayes_new(void) {
    Bayes *b = xcalloc(1, sizeof *b);
    b->size = 1 << 10;
    b->v = xcalloc(b->size, sizeof *b->v);
    return b;
}

void bayes_free(Bayes **bp) {
    if (*bp) free((*bp)->v);
    free(*bp);
    *bp = NULL;
}

static GramCount *slot(const Bayes *b, uint64_t hash) {
    uint64_t i = hash & (b->size - 1);
    while (b->v[i].hash && b->v[i].hash != hash) i = (i + 1) & (b->size - 1);
    return &b->v[i];
}

static void grow(Bayes *b) {
    GramCount *old = b->v;
    const uint64_t n = b->size;
    b->size *= 2;
    b->v = xcalloc(b->size, sizeof *b->v);
    for (uint64_t i = 0; i < n; i++)
        if (old[i].hash) *slot(b, old[i].hash) = old[i];
    free(old);
}

/* Calls fn for each word, and for each pair by the hash of both. */
typedef void GramFn(void *ctx, uint64_t hash, bool pair);
static void each_gram(const char *text, GramFn *fn, void *ctx) {
    uint64_t before = 0;
    char word[256];
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t n = 0;
        for (; *s && (isalnum(*s) || *s == '\'' || *s >= 0x80); s++)
            if (n < sizeof word - 1) word[n++] = (char)tolower(*s);
        if (n == 0) {
            s++;
            continue;
        }
        word[n] = '\0';
        const uint64_t hash = hash_text(word) | 1; /* never 0 */
        fn(ctx, hash, false);
        if (before) fn(ctx, hash_combine(before, hash) | 1, true);
        before = hash;
    }
}

typedef struct GramLearner {
    Bayes *b;
    bool positive;
} GramLearner;

static void learn(void *ctx, uint64_t hash, bool pair) {
    GramLearner *l = ctx;
    if (2 * l->b->used >= l->b->size) grow(l->b);
    GramCount *c = slot(l->b, hash);
    if (!c->hash) l->b->used++;
    c->hash = hash;
    c->seen[l->positive]++;
    l->b->grams[l->positive]++;
}

void bayes_learn(Bayes *b, const char *text, bool positive) {
    b->texts[positive]++;
    each_gram(text, learn, &(GramLearner){b, positive});
}

typedef struct GramScore {
    const Bayes *b;
    double sum;
} GramScore;

static void add_score(void *ctx, uint64_t hash, bool pair) {
    GramScore *s = ctx;
    const Bayes *b = s->b;
    const GramCount *c = slot(b, hash);
    if (!c->hash) return;
    for (int k = 0; k < 2; k++) {
        const double p = (double)(c->seen[k] + 1) / (double)((uint64_t)b->grams[k] + b->used);
        s->sum += k ? log(p) : -log(p);
    }
}

double bayes_score(const Bayes *b, const char *text) {
    GramScore s = {b, log((double)(b->texts[1] + 1) / (double)(b->texts[0] + 1))};
    each_gram(text, add_score, &s);
    return s.sum;
}

static void count_pair(void *ctx, uint64_t hash, bool pair) {
    if (pair) learn(ctx, hash, pair);
}

double bayes_distinct(const char *const *texts, int64_t n) {
    Bayes *b = bayes_new();
    for (int64_t i = 0; i < n; i++) each_gram(texts[i], count_pair, &(GramLearner){b, true});
    const double share = b->grams[1] > 0 ? (double)b->used / (double)b->grams[1] : (double)NAN;
    bayes_free(&b);
    return share;
}
