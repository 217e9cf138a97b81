/* tokenizer_impl.h: what the tokenizer's own files share; nobody else includes it.
 *
 * pretokenize.c     text -> pieces, by regular expressions
 * bpe.c             piece -> ids, by merges; the tables for it
 * bpe_train.c       texts -> merges
 * tokenizer_json.c  tokenizer.json, vocab.json + merges.txt
 * tokenizer.c       the object, encode, decode */
#ifndef DATA_TOKENIZER_IMPL_H
#define DATA_TOKENIZER_IMPL_H

#include "data/tokenizer.h"

/* --- pretokenize.c ------------------------------------------------------------------------- */

/* Patterns applied one after the other, each to the pieces of the one before. Read-only once
 * built, so that any number of threads may use it. */
typedef struct Pretokenizer Pretokenizer;

extern const char GPT2_PATTERN[];

Pretokenizer *pretokenizer_new(void);
int pretokenizer_add(Pretokenizer *p, const char *pattern); /* ERR_DATA: PCRE2's message */
int pretokenizer_count(const Pretokenizer *p);
const char *pretokenizer_pattern(const Pretokenizer *p, int i);
void pretokenizer_free(Pretokenizer *p);

/* Calls fn for each piece, in order; together they are exactly the text. A byte that is no part
 * of valid UTF-8 splits as a symbol would (as U+FFFD does). Stops when fn returns < 0. */
typedef int PieceFn(void *ctx, const char *piece, size_t len);
int pretokenize(const Pretokenizer *p, const char *text, size_t len, PieceFn *fn, void *ctx);

/* Bytes of the well-formed UTF-8 character at s (n > 0 bytes are left), 0 if there is none. */
size_t utf8_char(const char *s, size_t n);

/* --- tokenizer.c --------------------------------------------------------------------------- */

enum { MAX_VOCAB = 1 << 24 }; /* a bound for sanity: ids index a table */

enum { TOKEN_IN_VOCAB = 1, TOKEN_ADDED = 2, TOKEN_SPECIAL = 4, TOKEN_RAW = 8 };

/* A token's bytes as they stand in text. In a tokenizer.json it is written in the byte alphabet,
 * except TOKEN_RAW ones (added tokens, and what is not in the alphabet), which are as they are.
 * bytes == NULL: no token has this id. */
typedef struct Token {
    char *bytes;
    int32_t len;
    int flags;
} Token;

typedef struct Merge {
    int32_t a, b, id; /* a followed by b becomes id; its rank is its place in the list */
} Merge;

typedef struct MergeSlot {
    uint64_t key; /* pair + 1; 0: empty */
    int32_t rank, id;
} MergeSlot;

struct Tokenizer {
    Token *token;
    int64_t vocab; /* number of ids */
    Merge *merge;
    int64_t nmerge;
    Pretokenizer *pre;
    bool byte_level_regex; /* the last pattern is ByteLevel's own (use_regex) */
    bool prefix_space;     /* ByteLevel's add_prefix_space */
    bool ignore_merges;    /* a piece that is a token is that token */

    /* made by tokenizer_finish, read-only afterwards */
    int32_t byte_id[256];
    MergeSlot *pair; /* open addressing */
    uint64_t pair_mask;
    int32_t *whole; /* open addressing by bytes: pieces that end as one token; id + 1 */
    uint64_t whole_mask;
    int32_t *added; /* ids of added tokens, by first byte, then the longer first */
    int32_t nadded;
    int32_t added_start[257]; /* added tokens that begin with byte c: [start[c], start[c + 1]) */
};

Tokenizer *tokenizer_new(void);
/* Gives id its bytes (copied). ERR_DATA if id is taken, negative or absurdly large. */
int tokenizer_set_token(Tokenizer *t, int64_t id, const char *bytes, size_t len, int flags);
void tokenizer_add_merge(Tokenizer *t, int32_t a, int32_t b, int32_t id);
void tokenizer_finish(Tokenizer *t); /* builds the tables */

/* --- bpe.c --------------------------------------------------------------------------------- */

void bpe_build(Tokenizer *t);
/* Appends the ids of one piece. ERR_DATA: a byte that is no token. */
int bpe_encode(const Tokenizer *t, const char *piece, size_t len, IdList *out);

/* --- the byte alphabet of GPT-2 (tokenizer_json.c): each byte a printable character ---------- */

uint32_t alphabet_char(uint8_t byte);
int alphabet_byte(uint32_t codepoint); /* -1: not in the alphabet */

#endif
