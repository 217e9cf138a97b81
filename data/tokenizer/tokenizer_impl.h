/* tokenizer_impl.h: what the tokenizer's own files share; nobody else includes it.
 *
 * splitter.c        text -> pieces, by hand for the patterns that most files have
 * pretokenize.c     text -> pieces, by the steps of the file
 * regex.c           their regular expressions
 * normalize.c       text -> text, by the steps of the file's normalizer
 * unicode.c         text -> Unicode's normalization forms
 * bpe.c             piece -> ids, by merges; the tables for it
 * tokenizer_train.c texts -> merges
 * tokenizer_json.c  tokenizer.json
 * tokenizer_steps.c its normalizer and pre-tokenizer
 * tokenizer_files.c vocab.json + merges.txt, .tiktoken
 * tokenizer_gguf.c  the metadata of a GGUF file
 * tokenizer.c       the object, encode, decode */
#ifndef DATA_TOKENIZER_TOKENIZER_IMPL_H
#define DATA_TOKENIZER_TOKENIZER_IMPL_H

#include <jansson.h>

#include "base/utf8.h"
#include "data/tokenizer/tokenizer.h"

/* --- splitter.c ---------------------------------------------------------------------------- */

extern const char GPT2_PATTERN[], CL100K_PATTERN[], O200K_PATTERN[];

typedef struct Splitter {
    const char *pattern; /* what it does */
    enum { SPLIT_GPT2, SPLIT_CL100K, SPLIT_O200K, SPLIT_RUNS, SPLIT_DEEPSEEK } family;
    int class;      /* SPLIT_RUNS: of the characters (splitter.c) */
    int digits;     /* longest piece of numbers (GPT-2: any), longest run */
    bool no_words;  /* o200k without 's, 'll, ... */
    bool end_space; /* white space at the end of the text is one piece */
    bool slash;     /* symbols and line breaks may be followed by slashes */
} Splitter;

/* Bytes of white space that s[0, n) begins (ends) with; any bytes. */
size_t splitter_space_at_start(const char *s, size_t n);
size_t splitter_space_at_end(const char *s, size_t n);

const Splitter *splitter_find(const char *pattern); /* NULL: not known */
/* Where the piece that begins at s[i] (i < n) ends; s is UTF-8. */
size_t splitter_next(const Splitter *p, const char *s, size_t n, size_t i);
/* The last place where a piece ends whatever follows s[0, n), and where the rest may be split on
 * its own; 0: none. Any bytes. */
size_t splitter_cut(const Splitter *p, const char *s, size_t n);

/* --- regex.c ------------------------------------------------------------------------------- */

typedef struct Regex Regex;
typedef struct RegexMatches RegexMatches; /* of one thread */
enum { REGEX_MATCHES = 63 };              /* at most, of one search */

void regex_start(void);                /* Oniguruma's tables; regex_new does it */
Regex *regex_new(const char *pattern); /* NULL: an error is set */
void regex_free(Regex *r);
char *regex_quote(const char *s); /* a literal string as a pattern; malloc'd */
RegexMatches *regex_matches_new(void);
void regex_matches_free(RegexMatches *m);
/* The first match in s[0, n) from `from` on, and some or all of those that follow right behind it:
 * match i is [at[i], at[i + 1]). No more than one is empty, nothing counts after it. s is UTF-8.
 * Returns their number, 0: none; ERR_DATA: Oniguruma gave up. */
int regex_matches(const Regex *r, RegexMatches *m, const char *s, size_t n, size_t from,
                  size_t at[REGEX_MATCHES + 1]);

/* --- pretokenize.c ------------------------------------------------------------------------- */

/* Steps applied one after the other, each to the pieces of the one before. Read-only once
 * built, so that any number of threads may use it. */
typedef struct Pretokenizer Pretokenizer;

/* What becomes of matches and of what lies between them (Hugging Face's names). */
typedef enum Behavior {
    BEHAVIOR_ISOLATED,   /* pieces alike */
    BEHAVIOR_CONTIGUOUS, /* matches that follow each other are one piece */
    BEHAVIOR_MERGED_WITH_PREVIOUS,
    BEHAVIOR_MERGED_WITH_NEXT,
    BEHAVIOR_REMOVED, /* matches are no pieces */
    BEHAVIORS
} Behavior;
extern const char *const behavior_names[BEHAVIORS];

typedef struct SplitStep {
    const char *pattern; /* of ByteLevel: GPT-2's, or NULL: it does not split */
    Behavior behavior;
    bool invert;       /* matches and what lies between change places */
    bool byte_level;   /* ByteLevel: later steps see its alphabet */
    bool prefix_space; /* and its add_prefix_space: pieces begin with a space */
} SplitStep;

Pretokenizer *pretokenizer_new(void);
int pretokenizer_add(Pretokenizer *p, const SplitStep *step);     /* copied. ERR_DATA */
const SplitStep *pretokenizer_step(const Pretokenizer *p, int i); /* NULL: there are no more */
void pretokenizer_free(Pretokenizer *p);

/* Calls fn for each piece, in order; together they are the text, without what a step removes and
 * with the spaces it adds. A byte that is no part of valid UTF-8 splits as a symbol would (as
 * U+FFFD does). Stops when fn returns < 0. */
typedef int PieceFn(void *ctx, const char *piece, size_t len);
int pretokenize(const Pretokenizer *p, const char *text, size_t len, PieceFn *fn, void *ctx);

/* A text in parts, which are cut where its pieces may be and hold about so many bytes each, and their
 * pieces by all threads: fn gets ctx + i * stride for part i. */
typedef struct TextParts {
    struct TextPart {
        const char *text;
        size_t len;
    } * v;
    int64_t n, cap;
} TextParts;
void pretokenizer_parts(const Pretokenizer *p, const char *text, size_t len, size_t bytes,
                        TextParts *out);
int pretokenize_parts(const Pretokenizer *p, const TextParts *parts, PieceFn *fn, void *ctx,
                      size_t stride);

/* Does a word (\w of Rust's regular expressions) end, begin at this end of s[0, n)? */
bool pretokenizer_word_at_end(const char *s, size_t n);
bool pretokenizer_word_at_start(const char *s, size_t n);

/* The same as splitter_cut, for all patterns; 0 also where the patterns do not tell. */
size_t pretokenizer_cut(const Pretokenizer *p, const char *text, size_t len);
extern bool pretokenize_by_hand; /* false: regular expressions only; tests compare */

/* NULL if text is UTF-8, else a copy of it, malloc'd, with U+0001 for each byte that is not. */
char *utf8_mask(const char *text, size_t len);

/* --- unicode.c ------------------------------------------------------------------------------- */

typedef enum UnicodeForm { FORM_C, FORM_D, FORM_KC, FORM_KD, UNICODE_FORMS } UnicodeForm;

/* The text in a normalization form, malloc'd; NULL if it is in that form. Bytes that are no UTF-8
 * stay, and divide the text. Characters later than Unicode 9 stay, too. */
char *unicode_form(UnicodeForm form, const char *text, size_t len, size_t *out_len);
bool unicode_is_mark(int32_t c); /* in Unicode 9 */

/* --- normalize.c --------------------------------------------------------------------------- */

typedef enum NormalKind {
    NORMAL_NFC = FORM_C,
    NORMAL_NFD = FORM_D,
    NORMAL_NFKC = FORM_KC,
    NORMAL_NFKD = FORM_KD,
    NORMAL_FORM_LAST = FORM_KD,
    NORMAL_LOWERCASE,
    NORMAL_STRIP_ACCENTS,
    NORMAL_STRIP,
    NORMAL_REPLACE,
    NORMAL_PREPEND,
    NORMAL_KINDS
} NormalKind;

typedef struct NormalStep {
    NormalKind kind;
    bool left, right;    /* what Strip strips */
    const char *pattern; /* of Replace */
    bool is_regex;       /* is the pattern a regular expression? */
    const char *content; /* of Replace, of Prepend */
} NormalStep;

/* Steps applied one after the other. Read-only once built. */
typedef struct Normalizer Normalizer;
Normalizer *normalizer_new(void);
int normalizer_add(Normalizer *m, const NormalStep *step);     /* copied. ERR_DATA: not supported */
const NormalStep *normalizer_step(const Normalizer *m, int i); /* NULL: there are no more */
void normalizer_free(Normalizer *m);
/* *out: the new text, malloc'd, with its length; NULL if the text stays. ERR_DATA: a pattern that
 * Oniguruma gives up on. goes_on: nothing is prepended. */
int normalize(const Normalizer *m, bool goes_on, const char *text, size_t len, char **out,
              size_t *out_len);
/* Does it give the same for a text in parts, cut where a space or line begins? */
bool normalizer_cuts(const Normalizer *m);

/* --- tokenizer.c --------------------------------------------------------------------------- */

enum { MAX_VOCAB = 1 << 24 }; /* a bound for sanity: ids index a table */

enum {
    TOKEN_IN_VOCAB = 1,
    TOKEN_ADDED = 2,
    TOKEN_SPECIAL = 4,
    TOKEN_RAW = 8,
    /* of added tokens, as Hugging Face has them */
    TOKEN_LSTRIP = 16,      /* takes the white space before it */
    TOKEN_RSTRIP = 32,      /* and after it */
    TOKEN_SINGLE_WORD = 64, /* only where no word goes on before or after it */
    TOKEN_NORMALIZED = 128, /* looked for after those that are not, in what they leave */
    TOKEN_BYTE = 256        /* with by_chars: stands for a byte of a character that is no token */
};

/* SentencePiece writes a space as this. Within a tokenizer by characters it is a space. */
#define METASPACE "\xe2\x96\x81"

/* Hugging Face's pre-tokenizer of that name. */
typedef struct Metaspace {
    bool used, split; /* split: a piece begins at each space */
    enum {
        PREPEND_ALWAYS,
        PREPEND_FIRST,
        PREPEND_NEVER,
        PREPENDS
    } prepend; /* a space, and where */
} Metaspace;

/* A token's bytes as they stand in text. In a tokenizer.json it is written in the byte alphabet
 * (by_chars: with METASPACE for spaces, bytes as <0x0A>), except TOKEN_RAW ones (added tokens, and
 * what is not in the alphabet), which are as they are. bytes == NULL: no token has this id. */
typedef struct Token {
    char *bytes;
    int32_t len;
    int flags;
    char
        *form; /* of an added token: what the normalizer makes of it (by_chars: what is looked for),
                   if that is something else */
    int32_t form_len;
} Token;

typedef struct Merge {
    int32_t a, b, id; /* a followed by b becomes id; its rank is its place in the list */
} Merge;

/* Ids by first byte, then the longer first: those with first byte c are [start[c], start[c + 1]).
 */
typedef struct AddedTokens {
    int32_t *id;
    int32_t n, start[257];
    int only; /* the first byte if all have the same; -1 */
} AddedTokens;

typedef struct MergeSlot {
    uint64_t key; /* pair + 1; 0: empty */
    int32_t rank, id;
} MergeSlot;

/* A piece of text in a table (bpe.c): its bytes if they are few, else their hash. */
typedef struct PieceKey {
    uint64_t a, b;
    uint32_t len; /* 0: an empty slot */
} PieceKey;

typedef struct WholeSlot {
    PieceKey key;
    int32_t id;
} WholeSlot;

/* The ids of a character of three bytes; -1 after the last. */
typedef struct ThreeBytes {
    int32_t id[3];
} ThreeBytes;

struct Tokenizer {
    Token *token;
    int64_t vocab; /* number of ids */
    Merge *merge;
    int64_t nmerge;
    Normalizer *normal; /* of text that is no added token */
    Pretokenizer *pre;
    bool ignore_merges;  /* a piece that is a token is that token */
    int32_t unknown;     /* token for bytes that are none; -1: they are an error */
    bool fuse_unknown;   /* one for several in a row */
    IdList stops;        /* tokenizer_set_stops */
    char *chat_template; /* NULL: none */
    bool by_chars;       /* SentencePiece's: begins with characters, not bytes */
    Metaspace metaspace;
    bool drops_space; /* decoding does, at the beginning */

    /* made by tokenizer_finish, read-only afterwards */
    int32_t byte_id[256];
    int32_t *char_id;           /* [0x110000], by_chars: id + 1; 0: no token */
    struct BytePair *byte_pair; /* [256 * 256]: the merges of bytes once more, where the cache keeps
                                   them; NULL: some byte is no token, or by_chars */
    uint64_t *joins; /* a bit for each pair of bytes: some merge joins what ends with the first and
                        what begins with the second; NULL: some byte is no token */
    ThreeBytes *three; /* [1 << 16], by the bits of the character; NULL as byte_pair */
    MergeSlot *pair;   /* open addressing */
    uint64_t pair_mask;
    WholeSlot *whole; /* open addressing: pieces that end as one token */
    uint64_t whole_mask;
    uint32_t number;      /* no other tokenizer of this process has it */
    AddedTokens added[2]; /* not normalized, normalized */
    bool cuts;            /* text may be encoded in parts */
};

/* Defines a binary heap of entries, and its push and pop: first comes what is before(order,
 * entry, entry) all others. */
#define HEAP(Heap, Entry, before)                                                              \
    typedef struct Heap {                                                                      \
        Entry *v;                                                                              \
        int64_t n, cap;                                                                        \
        const Token *order;                                                                    \
    } Heap;                                                                                    \
    static void heap_push(Heap *h, Entry e) {                                                  \
        XGROW(h->v, h->n, h->cap);                                                             \
        int64_t i = h->n++;                                                                    \
        for (int64_t up; i > 0 && before(h->order, &e, &h->v[up = (i - 1) / 2]); i = up)       \
            h->v[i] = h->v[up];                                                                \
        h->v[i] = e;                                                                           \
    }                                                                                          \
    static Entry heap_pop(Heap *h) {                                                           \
        const Entry top = h->v[0], last = h->v[--h->n];                                        \
        int64_t i = 0;                                                                         \
        for (int64_t child; (child = 2 * i + 1) < h->n; i = child) {                           \
            if (child + 1 < h->n && before(h->order, &h->v[child + 1], &h->v[child])) child++; \
            if (!before(h->order, &h->v[child], &last)) break;                                 \
            h->v[i] = h->v[child];                                                             \
        }                                                                                      \
        h->v[i] = last;                                                                        \
        return top;                                                                            \
    }

void ids_room(IdList *l, int64_t more); /* makes room for more */
void ids_append(IdList *l, const int32_t *ids, int64_t n);
Tokenizer *tokenizer_new(void);
/* Gives id its bytes (copied). ERR_DATA if id is taken, negative or absurdly large. */
int tokenizer_set_token(Tokenizer *t, int64_t id, const char *bytes, size_t len, int flags);
void tokenizer_add_merge(Tokenizer *t, int32_t a, int32_t b, int32_t id);
void tokenizer_finish(Tokenizer *t); /* builds the tables */

/* --- bpe.c --------------------------------------------------------------------------------- */

void bpe_build(Tokenizer *t);
/* Appends the ids of one piece. ERR_DATA: a byte that is no token. */
int bpe_encode(const Tokenizer *t, const char *piece, size_t len, IdList *out);

/* The merges of a tokenizer that has only tokens, whose ids are their ranks (tiktoken). */
void bpe_recover_merges(Tokenizer *t);

/* --- tokenizer_json.c ------------------------------------------------------------------------ */

/* The tokens of a "vocab" object and of a list like "added_tokens" (NULL: none). ERR_DATA. */
int tokenizer_read_vocab(Tokenizer *t, json_t *vocab, const json_t *added);
/* A merge, "a b"; vocab as above. ERR_DATA. */
int tokenizer_read_merge(Tokenizer *t, const json_t *vocab, const char *line, size_t len);

/* From the value of a whole tokenizer.json. ERR_DATA. */
int tokenizer_of(Tokenizer **out, const json_t *root, const char *origin);

/* A token as the file writes it; malloc'd. */
char *tokenizer_key(const Tokenizer *t, int64_t id);

/* What v calls its "type", as parts of a tokenizer.json do; borrowed. */
const char *tokenizer_part_type(const json_t *v);

/* --- tokenizer_steps.c ----------------------------------------------------------------------- */

/* From and to the values of "normalizer" and "pre_tokenizer" (an object). ERR_DATA: malformed, not
 * supported. */
int tokenizer_read_normalizer(Normalizer *out, const json_t *v);
int tokenizer_read_pre_tokenizer(Pretokenizer *out, const json_t *v);
/* The same without ByteLevel, for a tokenizer by characters. */
int tokenizer_read_char_steps(Tokenizer *t, const json_t *v);
json_t *tokenizer_write_normalizer(const Normalizer *m);
json_t *tokenizer_write_pre_tokenizer(const Pretokenizer *p);
json_t *tokenizer_write_metaspace(const Metaspace *m);
json_t *tokenizer_write_byte_level(bool prefix_space, bool trim_offsets, bool regex);

/* --- the byte alphabet of GPT-2 (tokenizer_json.c): each byte a printable character ---------- */

uint32_t alphabet_char(uint8_t byte);
int alphabet_byte(uint32_t codepoint); /* -1: not in the alphabet */
/* The text with METASPACE for spaces, or the reverse; malloc'd. */
char *tokenizer_metaspaces(const char *text, size_t len, size_t *out_len);
char *tokenizer_spaces(const char *text, size_t len, size_t *out_len);
/* Bytes as characters; out has room for 2 n. Returns the length. */
size_t alphabet_encode(const char *bytes, size_t n, char *out);
/* The reverse; out has room for n. -1: a character is not in the alphabet. */
int64_t alphabet_decode(const char *s, size_t n, char *out);

#endif
