/* tokenizer.c: the tokenizer as an object: its tokens, text to ids, ids to text.
 *
 * Encoding goes in three steps: added tokens ("<|endoftext|>") are found first, leftmost and
 * longest; what lies between is cut into pieces (pretokenize.c); each piece becomes ids (bpe.c).
 * A finished Tokenizer is never written to, so any number of threads may encode with it. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "data/tokenizer_impl.h"

void ids_push(IdList *l, int32_t id) {
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        l->v = xrealloc(l->v, (size_t)l->cap * sizeof *l->v);
    }
    l->v[l->n++] = id;
}

void ids_free(IdList *l) {
    free(l->v);
    *l = (IdList){0};
}

/* --- making one ---------------------------------------------------------------------------- */

Tokenizer *tokenizer_new(void) {
    Tokenizer *t = xcalloc(1, sizeof *t);
    t->pre = pretokenizer_new();
    return t;
}

void tokenizer_close(Tokenizer **out) {
    Tokenizer *t = *out;
    if (!t) return;
    for (int64_t i = 0; i < t->vocab; i++) free(t->token[i].bytes);
    free(t->token);
    free(t->merge);
    free(t->pair);
    free(t->whole);
    free(t->added);
    pretokenizer_free(t->pre);
    free(t);
    *out = NULL;
}

int tokenizer_set_token(Tokenizer *t, int64_t id, const char *bytes, size_t len, int flags) {
    if (id < 0 || id >= MAX_VOCAB || len > INT32_MAX) {
        return error_set(ERR_DATA, "id %lld, expected 0 to %d", (long long)id, MAX_VOCAB - 1);
    }
    if (id < t->vocab && t->token[id].bytes) {
        return error_set(ERR_DATA, "another token has the same id %lld", (long long)id);
    }
    if (id >= t->vocab) {
        /* Ids mostly come in order, so room grows by doubling, at each power of two. */
        int64_t had = 64, need = 64;
        while (had < t->vocab) had *= 2;
        while (need <= id) need *= 2;
        if (!t->token || need > had) t->token = xrealloc(t->token, (size_t)need * sizeof(Token));
        memset(t->token + t->vocab, 0, (size_t)(id + 1 - t->vocab) * sizeof(Token));
        t->vocab = id + 1;
    }
    char *copy = xmalloc(len + 1);
    memcpy(copy, bytes, len);
    copy[len] = 0;
    t->token[id] = (Token){.bytes = copy, .len = (int32_t)len, .flags = flags};
    return 0;
}

void tokenizer_add_merge(Tokenizer *t, int32_t a, int32_t b, int32_t id) {
    if ((t->nmerge & (t->nmerge - 1)) == 0) { /* 0 and each power of two: double the room */
        t->merge = xrealloc(t->merge, (size_t)(t->nmerge ? 2 * t->nmerge : 1) * sizeof(Merge));
    }
    t->merge[t->nmerge++] = (Merge){a, b, id};
}

static int by_first_byte_longest(const void *x, const void *y, void *ctx) {
    const Tokenizer *t = ctx;
    const Token *a = &t->token[*(const int32_t *)x], *b = &t->token[*(const int32_t *)y];
    const int d = (int)(uint8_t)a->bytes[0] - (int)(uint8_t)b->bytes[0];
    if (d) return d;
    return a->len != b->len ? (a->len > b->len ? -1 : 1)
                            : memcmp(a->bytes, b->bytes, (size_t)a->len);
}

static void index_added(Tokenizer *t) {
    t->added = xcalloc((size_t)t->vocab + 1, sizeof *t->added);
    for (int64_t i = 0; i < t->vocab; i++) {
        if (t->token[i].flags & TOKEN_ADDED) t->added[t->nadded++] = (int32_t)i;
    }
    qsort_r(t->added, (size_t)t->nadded, sizeof *t->added, by_first_byte_longest, t);
    for (int c = 0, i = 0; c < 257; c++) {
        while (i < t->nadded && (uint8_t)t->token[t->added[i]].bytes[0] < c) i++;
        t->added_start[c] = i;
    }
    t->added_start[256] = t->nadded;
}

void tokenizer_finish(Tokenizer *t) {
    bpe_build(t);
    index_added(t);
}

/* --- encoding ------------------------------------------------------------------------------ */

/* The added token that text begins with, the longest; -1 if none. */
static int32_t added_at(const Tokenizer *t, const char *text, size_t len, bool specials) {
    const uint8_t c = (uint8_t)text[0];
    for (int32_t i = t->added_start[c]; i < t->added_start[c + 1]; i++) {
        const Token *k = &t->token[t->added[i]];
        if (k->flags & TOKEN_SPECIAL && !specials) continue;
        if ((size_t)k->len <= len && memcmp(k->bytes, text, (size_t)k->len) == 0) {
            return t->added[i];
        }
    }
    return -1;
}

typedef struct Encoding {
    const Tokenizer *t;
    IdList *out;
} Encoding;

static int encode_piece(void *ctx, const char *piece, size_t len) {
    const Encoding *e = ctx;
    return bpe_encode(e->t, piece, len, e->out);
}

/* Text that holds no added token. */
static int encode_plain(const Tokenizer *t, const char *text, size_t len, IdList *out) {
    Encoding e = {t, out};
    if (len == 0) return 0;
    if (!t->prefix_space || text[0] == ' ') return pretokenize(t->pre, text, len, encode_piece, &e);
    char *copy = xmalloc(len + 1);
    copy[0] = ' ';
    memcpy(copy + 1, text, len);
    const int rc = pretokenize(t->pre, copy, len + 1, encode_piece, &e);
    free(copy);
    return rc;
}

int tokenizer_encode(const Tokenizer *t, const char *text, size_t len, bool specials, IdList *out) {
    size_t done = 0;
    for (size_t i = 0; t->nadded > 0 && i < len;) {
        const int32_t id = added_at(t, text + i, len - i, specials);
        if (id < 0) {
            i++;
            continue;
        }
        TRY(encode_plain(t, text + done, i - done, out));
        ids_push(out, id);
        done = i += (size_t)t->token[id].len;
    }
    return encode_plain(t, text + done, len - done, out);
}

/* --- decoding and looking up --------------------------------------------------------------- */

int tokenizer_decode(const Tokenizer *t, const int32_t *ids, int64_t n, bool skip_special,
                     char **text, size_t *len) {
    size_t total = 0;
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->vocab || !t->token[ids[i]].bytes) {
            return error_set(
                ERR_DATA,
                "id %d (number %lld of %lld) is no token: the tokenizer has ids 0 to %lld", ids[i],
                (long long)i + 1, (long long)n, (long long)t->vocab - 1);
        }
        total += (size_t)t->token[ids[i]].len;
    }
    char *o = *text = xmalloc(total + 1);
    for (int64_t i = 0; i < n; i++) {
        const Token *k = &t->token[ids[i]];
        if (skip_special && k->flags & TOKEN_SPECIAL) continue;
        o = mempcpy(o, k->bytes, (size_t)k->len);
    }
    *o = 0;
    if (len) *len = (size_t)(o - *text);
    return 0;
}

const char *tokenizer_token_bytes(const Tokenizer *t, int32_t id, size_t *len) {
    const bool known = id >= 0 && id < t->vocab && t->token[id].bytes;
    if (len) *len = known ? (size_t)t->token[id].len : 0;
    return known ? t->token[id].bytes : NULL;
}

int64_t tokenizer_vocab(const Tokenizer *t) {
    return t->vocab;
}

int32_t tokenizer_special(const Tokenizer *t, const char *token) {
    const size_t len = strlen(token);
    const uint8_t c = (uint8_t)token[0];
    for (int32_t i = t->added_start[c]; i < t->added_start[c + 1]; i++) {
        const Token *k = &t->token[t->added[i]];
        if (k->flags & TOKEN_SPECIAL && (size_t)k->len == len &&
            memcmp(k->bytes, token, len) == 0) {
            return t->added[i];
        }
    }
    return -1;
}

int32_t tokenizer_id(const Tokenizer *t, const char *token) {
    const size_t len = strlen(token);
    const int32_t special = tokenizer_special(t, token);
    if (special >= 0) return special;
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (k->bytes && (size_t)k->len == len && memcmp(k->bytes, token, len) == 0) {
            return (int32_t)i;
        }
    }
    return -1;
}

int32_t tokenizer_eos(const Tokenizer *t) {
    static const char *const names[] = {"<|endoftext|>", "</s>",      "<|end_of_text|>",
                                        "<|eos|>",       "<eos>",     "<|im_end|>",
                                        "<|end|>",       "<|eot_id|>"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const int32_t id = tokenizer_special(t, names[i]);
        if (id >= 0) return id;
    }
    return -1;
}

/* --- as a file ----------------------------------------------------------------------------- */

int tokenizer_save(const Tokenizer *t, const char *path) {
    char *json = tokenizer_json(t);
    const int rc = file_write_durable(path, json, strlen(json));
    free(json);
    return rc;
}

uint64_t tokenizer_hash(const Tokenizer *t) {
    char *json = tokenizer_json(t);
    const uint64_t hash = hash_bytes(json, strlen(json));
    free(json);
    return hash;
}
