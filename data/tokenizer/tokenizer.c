/* tokenizer.c: the tokenizer as an object: its tokens, text to ids, ids to text.
 *
 * Encoding goes in three steps: added tokens ("<|endoftext|>") are found first, leftmost and
 * longest, those that are not "normalized" before those that are (between the two the text is
 * normalized, if the file says so); what lies between is cut into pieces (pretokenize.c); each
 * piece becomes ids (bpe.c). A finished Tokenizer is never written to, so any number of threads may
 * encode with it. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"
#include "data/tokenizer/tokenizer_impl.h"

void ids_room(IdList *l, int64_t more) {
    if (l->n + more <= l->cap) return;
    l->cap = l->n + more > 2 * l->cap ? l->n + more : 2 * l->cap;
    if (l->cap < 64) l->cap = 64;
    l->v = xrealloc(l->v, (size_t)l->cap * sizeof *l->v);
}

void ids_push(IdList *l, int32_t id) {
    ids_room(l, 1);
    l->v[l->n++] = id;
}

void ids_append(IdList *l, const int32_t *ids, int64_t n) {
    if (n == 0) return;
    ids_room(l, n);
    memcpy(l->v + l->n, ids, (size_t)n * sizeof *ids);
    l->n += n;
}

void ids_free(IdList *l) {
    free(l->v);
    *l = (IdList){0};
}

/* --- making one ---------------------------------------------------------------------------- */

Tokenizer *tokenizer_new(void) {
    Tokenizer *t = xcalloc(1, sizeof *t);
    t->pre = pretokenizer_new();
    t->normal = normalizer_new();
    t->unknown = -1;
    return t;
}

void tokenizer_close(Tokenizer **out) {
    Tokenizer *t = *out;
    if (!t) return;
    for (int64_t i = 0; i < t->vocab; i++) {
        free(t->token[i].bytes);
        free(t->token[i].form);
    }
    free(t->token);
    ids_free(&t->stops);
    free(t->chat_template);
    free(t->merge);
    free(t->pair);
    free(t->byte_pair);
    free(t->char_id);
    free(t->joins);
    free(t->three);
    free(t->whole);
    for (int i = 0; i < 2; i++) free(t->added[i].id);
    pretokenizer_free(t->pre);
    normalizer_free(t->normal);
    free(t);
    *out = NULL;
}

int tokenizer_set_token(Tokenizer *t, int64_t id, const char *bytes, size_t len, int flags) {
    if (id < 0 || id >= MAX_VOCAB || len > INT32_MAX)
        return error_set(ERR_DATA, "id %lld, expected 0 to %d", (long long)id, MAX_VOCAB - 1);
    if (id < t->vocab && t->token[id].bytes)
        return error_set(ERR_DATA, "another token has the same id %lld", (long long)id);
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
    if ((t->nmerge & (t->nmerge - 1)) == 0) /* 0 and each power of two: double the room */
        t->merge = xrealloc(t->merge, (size_t)(t->nmerge ? 2 * t->nmerge : 1) * sizeof(Merge));
    t->merge[t->nmerge++] = (Merge){a, b, id};
}

/* What a token is in text: what it decodes to, and of an added token what is looked for. By characters
 * the latter has U+2581 where the former has spaces. */
typedef struct Seen {
    const char *s;
    size_t n;
} Seen;

static inline Seen seen(const Tokenizer *t, int32_t id) {
    const Token *k = &t->token[id];
    return k->form ? (Seen){k->form, (size_t)k->form_len} : (Seen){k->bytes, (size_t)k->len};
}

static int by_first_byte_longest(const void *x, const void *y, void *ctx) {
    const Seen a = seen(ctx, *(const int32_t *)x), b = seen(ctx, *(const int32_t *)y);
    const int d = (int)(uint8_t)a.s[0] - (int)(uint8_t)b.s[0];
    if (d) return d;
    return a.n != b.n ? (a.n > b.n ? -1 : 1) : memcmp(a.s, b.s, a.n);
}

/* The added tokens whose TOKEN_NORMALIZED is as given. */
static void index_added(Tokenizer *t, AddedTokens *a, int normalized) {
    a->id = xcalloc((size_t)t->vocab + 1, sizeof *a->id);
    for (int64_t i = 0; i < t->vocab; i++) {
        const int flags = t->token[i].flags;
        if (flags & TOKEN_ADDED && (flags & TOKEN_NORMALIZED) == normalized)
            a->id[a->n++] = (int32_t)i;
    }
    a->id = xrealloc(a->id, (size_t)(a->n + 1) * sizeof *a->id);
    qsort_r(a->id, (size_t)a->n, sizeof *a->id, by_first_byte_longest, t);
    for (int c = 0, i = 0; c < 257; c++) {
        while (i < a->n && (uint8_t)seen(t, a->id[i]).s[0] < c) i++;
        a->start[c] = i;
    }
    a->start[256] = a->n;
    a->only = a->n ? (uint8_t)seen(t, a->id[0]).s[0] : -1;
    if (a->n && a->start[a->only + 1] != a->n) a->only = -1;
}

/* May text be cut where pieces end (tokenizer_cut)? Not if that could cut an added token, or what
 * such a token wants to see around it. */
static bool may_cut(const Tokenizer *t) {
    if (!normalizer_cuts(t->normal) || t->by_chars) return false;
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (!(k->flags & TOKEN_ADDED)) continue;
        if (k->flags & (TOKEN_LSTRIP | TOKEN_RSTRIP | TOKEN_SINGLE_WORD)) return false;
        if (memchr(k->bytes, ' ', (size_t)k->len) || memchr(k->bytes, '\n', (size_t)k->len))
            return false;
    }
    return true;
}

void tokenizer_finish(Tokenizer *t) {
    bpe_build(t);
    index_added(t, &t->added[0], 0);
    index_added(t, &t->added[1], TOKEN_NORMALIZED);
    t->cuts = may_cut(t);
}

/* --- encoding ------------------------------------------------------------------------------ */

/* The added token that text begins with, the longest; -1 if none. */
static int32_t added_at(const Tokenizer *t, const AddedTokens *a, const char *text, size_t len) {
    const uint8_t c = (uint8_t)text[0];
    for (int32_t i = a->start[c]; i < a->start[c + 1]; i++) {
        const Seen k = seen(t, a->id[i]);
        if (k.n <= len && memcmp(k.s, text, k.n) == 0) return a->id[i];
    }
    return -1;
}

/* The first place from i on where an added token may begin; len if there is none. */
static size_t next_candidate(const AddedTokens *a, const char *text, size_t len, size_t i) {
    if (a->n == 0 || i >= len) return len; /* text may be NULL */
    if (a->only >= 0) {
        const char *found = memchr(text + i, a->only, len - i);
        return found ? (size_t)(found - text) : len;
    }
    while (i < len && a->start[(uint8_t)text[i]] == a->start[(uint8_t)text[i] + 1]) i++;
    return i;
}

typedef struct Encoder {
    const Tokenizer *t;
    IdList ids;
} Encoder;

static int encode_piece(void *ctx, const char *piece, size_t len) {
    Encoder *e = ctx;
    return bpe_encode(e->t, piece, len, &e->ids);
}

static int encode_char_piece(void *ctx, const char *piece, size_t len) {
    size_t n;
    AUTOFREE char *spaces = tokenizer_spaces(piece, len, &n);
    return encode_piece(ctx, spaces, n);
}

/* By Metaspace: one piece, or one from each space to the next. */
static int encode_metaspace(Encoder *e, TextPlace place, const char *text, size_t len) {
    const Metaspace *m = &e->t->metaspace;
    const bool prepends = (m->prepend == PREPEND_ALWAYS && place != TEXT_GOES_ON) ||
                          (m->prepend == PREPEND_FIRST && place == TEXT_BEGINS);
    size_t n;
    AUTOFREE char *spaces = tokenizer_spaces(text, len, &n);
    Text s = {0};
    if (prepends && n > 0 && *spaces != ' ') text_bytes(&s, " ", 1);
    text_bytes(&s, spaces, n);
    int rc = 0;
    for (size_t i = 0, end; i < s.n && rc == 0; i = end) {
        const char *space = m->split ? memchr(s.s + i + 1, ' ', s.n - i - 1) : NULL;
        end = space ? (size_t)(space - s.s) : s.n;
        rc = encode_piece(e, s.s + i, end - i);
    }
    free(s.s);
    return rc;
}

enum { PART = 1 << 20 }; /* bytes that are worth a thread's while */

/* A long text by all threads, in parts. */
static int encode_parts(const Tokenizer *t, const char *text, size_t len, IdList *out) {
    TextParts parts = {0};
    pretokenizer_parts(t->pre, text, len, PART, &parts);
    Encoder *part = xcalloc((size_t)parts.n, sizeof *part);
    for (int64_t i = 0; i < parts.n; i++) part[i].t = t;
    const int rc = pretokenize_parts(t->pre, &parts, encode_piece, part, sizeof *part);
    for (int64_t i = 0; i < parts.n; i++) {
        if (rc == 0) ids_append(out, part[i].ids.v, part[i].ids.n);
        ids_free(&part[i].ids);
    }
    free(part);
    free(parts.v);
    return rc;
}

/* Text that holds no added token. */
static int encode_plain(const Tokenizer *t, TextPlace place, const char *text, size_t len,
                        IdList *out) {
    if (len >= 2 * PART && !t->by_chars && !omp_in_parallel() && omp_get_max_threads() > 1)
        return encode_parts(t, text, len, out);
    Encoder e = {t, *out};
    const int rc =
        t->metaspace.used
            ? encode_metaspace(&e, place, text, len)
            : pretokenize(t->pre, text, len, t->by_chars ? encode_char_piece : encode_piece, &e);
    *out = e.ids;
    return rc;
}

static int encode_text(const Tokenizer *t, int set, TextPlace place, const char *text, size_t len,
                       bool specials, IdList *out);

/* What the added tokens of the sets before `set` have left. */
static int encode_left(const Tokenizer *t, int set, TextPlace place, const char *text, size_t len,
                       bool specials, IdList *out) {
    size_t n;
    char *normal = NULL;
    if (set == 2) return encode_plain(t, place, text, len, out);
    if (set == 1) TRY(normalize(t->normal, place == TEXT_GOES_ON, text, len, &normal, &n));
    if (!normal) return encode_text(t, set, place, text, len, specials, out);
    const int rc = encode_text(t, set, place, normal, n, specials, out);
    free(normal);
    return rc;
}

/* Finds the added tokens of one set. */
static int encode_text(const Tokenizer *t, int set, TextPlace place, const char *text, size_t len,
                       bool specials, IdList *out) {
    const AddedTokens *a = &t->added[set];
    size_t done = 0;
    for (size_t i = 0; (i = next_candidate(a, text, len, i)) < len;) {
        const int32_t id = added_at(t, a, text + i, len - i);
        if (id < 0) {
            i++;
            continue;
        }
        const int flags = t->token[id].flags;
        size_t begin = i, end = i + seen(t, id).n;
        i = end;
        if (flags & TOKEN_SPECIAL && !specials) continue;
        if (flags & TOKEN_SINGLE_WORD && (pretokenizer_word_at_end(text, begin) ||
                                          pretokenizer_word_at_start(text + end, len - end)))
            continue;
        if (flags & TOKEN_LSTRIP && begin > done)
            begin -= splitter_space_at_end(text + done, begin - done);
        if (flags & TOKEN_RSTRIP) end += splitter_space_at_start(text + end, len - end);
        /* What a token before it has stripped may hold this one nonetheless, as there. */
        if (begin > done)
            TRY(encode_left(t, set + 1, place, text + done, begin - done, specials, out));
        ids_push(out, id);
        place = TEXT_AFTER_SPECIAL;
        done = end;
    }
    return encode_left(t, set + 1, place, text + done, len - done, specials, out);
}

int tokenizer_encode_at(const Tokenizer *t, TextPlace place, const char *text, size_t len,
                        bool specials, IdList *out) {
    return encode_text(t, 0, place, text, len, specials, out);
}

int tokenizer_encode(const Tokenizer *t, const char *text, size_t len, bool specials, IdList *out) {
    return tokenizer_encode_at(t, TEXT_BEGINS, text, len, specials, out);
}

size_t tokenizer_cut(const Tokenizer *t, const char *text, size_t len) {
    return t->cuts ? pretokenizer_cut(t->pre, text, len) : 0;
}

/* --- decoding and looking up --------------------------------------------------------------- */

bool tokenizer_drops_space(const Tokenizer *t) { return t->drops_space; }

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
        total += seen(t, ids[i]).n + (size_t)t->token[ids[i]].len;
    }
    char *o = *text = xmalloc(total + 1);
    for (int64_t i = 0; i < n; i++) {
        if (skip_special && t->token[ids[i]].flags & TOKEN_SPECIAL) continue;
        const Token *k = &t->token[ids[i]];
        Seen s = seen(t, ids[i]);
        AUTOFREE char *spaces = NULL;
        if (t->by_chars && k->form && k->flags & TOKEN_NORMALIZED)
            s.s = spaces = tokenizer_spaces(k->form, (size_t)k->form_len, &s.n);
        else if (t->by_chars)
            s = (Seen){k->bytes, (size_t)k->len};
        o = mempcpy(o, s.s, s.n);
    }
    *o = 0;
    if (t->drops_space && **text == ' ') memmove(*text, *text + 1, (size_t)(o-- - *text));
    if (len) *len = (size_t)(o - *text);
    return 0;
}

const char *tokenizer_token_bytes(const Tokenizer *t, int32_t id, size_t *len) {
    const bool known = id >= 0 && id < t->vocab && t->token[id].bytes;
    if (len) *len = known ? (size_t)t->token[id].len : 0;
    return known ? t->token[id].bytes : NULL;
}

int64_t tokenizer_vocab(const Tokenizer *t) { return t->vocab; }

int32_t tokenizer_added(const Tokenizer *t, const char *token) {
    const size_t len = strlen(token);
    for (int set = 0; set < 2 && len > 0; set++) {
        const int32_t id = added_at(t, &t->added[set], token, len);
        if (id >= 0 && seen(t, id).n == len) return id;
    }
    return -1;
}

int32_t tokenizer_special(const Tokenizer *t, const char *token) {
    const int32_t id = tokenizer_added(t, token);
    return id >= 0 && t->token[id].flags & TOKEN_SPECIAL ? id : -1;
}

int32_t tokenizer_id(const Tokenizer *t, const char *token) {
    const size_t len = strlen(token);
    const int32_t special = tokenizer_special(t, token);
    if (special >= 0) return special;
    for (int64_t i = 0; i < t->vocab; i++) {
        const Token *k = &t->token[i];
        if (k->bytes && (size_t)k->len == len && memcmp(k->bytes, token, len) == 0)
            return (int32_t)i;
    }
    return -1;
}

void tokenizer_set_stops(Tokenizer *t, const int32_t *ids, int64_t n) {
    t->stops.n = 0;
    for (int64_t i = 0; i < n; i++) ids_push(&t->stops, ids[i]);
}

const int32_t *tokenizer_stops(const Tokenizer *t, int64_t *n) {
    *n = t->stops.n;
    return t->stops.v;
}

void tokenizer_set_chat_template(Tokenizer *t, const char *text) {
    free(t->chat_template);
    t->chat_template = text ? xstrdup(text) : NULL;
}

const char *tokenizer_chat_template(const Tokenizer *t) { return t->chat_template; }

int32_t tokenizer_eos(const Tokenizer *t) {
    if (t->stops.n > 0) return t->stops.v[0];
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
    AUTOFREE char *json = tokenizer_json(t);
    const int rc = file_write_durable(path, json, strlen(json));
    return rc;
}

uint64_t tokenizer_hash(const Tokenizer *t) {
    AUTOFREE char *json = tokenizer_json(t);
    const uint64_t hash = hash_text(json);
    return hash;
}
