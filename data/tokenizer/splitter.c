/* splitter.c: the splitting patterns that most tokenizers have, by hand.
 *
 * A regular expression spends most of the time of encoding. These families (GPT-2, cl100k, o200k,
 * DeepSeek V3 and their variants, runs of one class) need no backtracking: the class of a
 * character, looked up in a table, says what a piece may go on with. Oniguruma stays the oracle
 * (tests/tokenizer/test_tokenizer_pieces.c compares piece by piece) and does all other patterns.
 *
 * Both see the same characters: the table is made from Oniguruma's own properties, when a
 * tokenizer first has such a pattern. */
#include <oniguruma.h>
#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "data/tokenizer/tokenizer_impl.h"

const char GPT2_PATTERN[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* tiktoken's, which takes all white space at the end of a text as one piece. It writes
 * \p{N}{1,3}+, which Hugging Face's engine reads differently; the + changes nothing here. */
const char CL100K_PATTERN[] = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
                              "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s++$|\\s*[\\r\\n]|\\s+(?!\\S)|\\s";

#define O200K(WORDS, NUMBERS)                                      \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*"  \
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" WORDS                         \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+" \
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" WORDS "|" NUMBERS             \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
const char O200K_PATTERN[] = O200K("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "\\p{N}{1,3}");
#define TEKKEN_PATTERN O200K("", "\\p{N}")

#define DEEPSEEK_PATTERN                                                      \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"                   \
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" \
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* --- classes of characters -------------------------------------------------------------------- */

enum {
    UPPER = 1,  /* Lu, Lt */
    LOWER = 2,  /* Ll */
    LETTER = 4, /* Lm, Lo: neither */
    MARK = 8,
    NUMBER = 16,
    SPACE = 32, /* White_Space, but for: */
    NEWLINE = 64,
    PUNCTUATION = 128, /* P, S */
    OTHER = 256,
    CJK = 512, /* also one of those above: DeepSeek's Chinese and Japanese */
    ANY_LETTER = UPPER | LOWER | LETTER,
    ANY_SPACE = SPACE | NEWLINE,
    SYMBOL = MARK | PUNCTUATION | OTHER /* [^\s\p{L}\p{N}] */
};

enum { TABLE = 0x40000, LAST_ROOM = 0x200, LAST = 0xe0000 }; /* beyond: nothing but OTHER */
static uint16_t table[TABLE + LAST_ROOM];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static uint16_t *table_entry(uint32_t c) {
    return c < TABLE ? &table[c] : c - LAST < LAST_ROOM ? &table[TABLE + c - LAST] : NULL;
}

/* The character at s and its length; s is well-formed. */
static uint32_t get_char(const char *at, size_t *len) {
    const uint8_t *s = (const uint8_t *)at;
    if (s[0] < 0x80) return *len = 1, s[0];
    if (s[0] < 0xe0) return *len = 2, (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
    if (s[0] < 0xf0) return *len = 3, (s[0] & 0xfu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
    return *len = 4,
           (s[0] & 7u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
}

/* Marks the characters that have a property. */
static void mark(const char *property, uint16_t class) {
    OnigEncoding utf8 = ONIG_ENCODING_UTF8;
    OnigUChar *name = (OnigUChar *)(uintptr_t)property;
    const int ctype = ONIGENC_PROPERTY_NAME_TO_CTYPE(utf8, name, name + strlen(property));
    OnigCodePoint unused;
    const OnigCodePoint *range; /* their number, then the first and last of each */
    CHECK(ctype >= 0 && ONIGENC_GET_CTYPE_CODE_RANGE(utf8, ctype, &unused, &range) == 0,
          "no property %s", property);
    for (OnigCodePoint i = 0; i < *range; i++)
        for (OnigCodePoint c = range[1 + 2 * i]; c <= range[2 + 2 * i]; c++)
            if (table_entry(c)) *table_entry(c) = class;
}

static void make_table(void) {
    static const struct {
        const char *property;
        uint16_t class;
    } classes[] = {{"Lu", UPPER},      {"Lt", UPPER},     {"Ll", LOWER}, {"Lm", LETTER},
                   {"Lo", LETTER},     {"M", MARK},       {"N", NUMBER}, {"White_Space", SPACE},
                   {"P", PUNCTUATION}, {"S", PUNCTUATION}};
    regex_start();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) table[i] = OTHER;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        mark(classes[i].property, classes[i].class);
    table['\r'] = table['\n'] = NEWLINE;
    for (uint32_t c = 0x3040; c <= 0x9fa5; c++)
        if (c <= 0x30ff || c >= 0x4e00) table[c] |= CJK;
}

/* Class and length of the character at s[i]; 0 at the end of the text. */
typedef struct Span {
    const char *s;
    size_t n;
} Span;

static inline uint16_t class_at(Span t, size_t i, size_t *len) {
    if (i >= t.n) return *len = 0, 0;
    const uint8_t c = (uint8_t)t.s[i];
    if (c < 0x80) return *len = 1, table[c];
    const uint16_t *entry = table_entry(get_char(t.s + i, len));
    return entry ? *entry : OTHER;
}

/* The end of the characters of the classes `mask` from i on. */
static inline size_t run(Span t, size_t i, int mask) {
    size_t len;
    while (class_at(t, i, &len) & mask) i += len;
    return i;
}

/* --- the families ----------------------------------------------------------------------------- */

/* Bytes of a contraction ('s, 'll) at the apostrophe t.s[i]; 0: none. */
static size_t contraction(Span t, size_t i, bool any_case) {
    if (i + 1 >= t.n) return 0;
    const uint8_t *s = (const uint8_t *)t.s + i;
    const int third = i + 2 < t.n ? s[2] : 0, fold = any_case ? 0x20 : 0;
    const int a = s[1] | fold, b = third | fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    if (any_case && s[1] == 0xc5 && third == 0xbf) return 3; /* long s, U+017F */
    return 0;
}

/* White space from i on: \s+(?!\S)|\s+, after what takes line breaks and the end of the text. */
static size_t space(const Splitter *p, Span t, size_t i) {
    size_t end = i, last = i, newline = i, len;
    for (uint16_t c; (c = class_at(t, end, &len)) & ANY_SPACE; end += len) {
        last = end;
        if (c == NEWLINE) newline = end + 1;
    }
    if (p->end_space && end == t.n) return end;
    if (p->family != SPLIT_GPT2 && newline > i) return newline;
    return end == t.n || last == i ? end : last;
}

static size_t next_gpt2(const Splitter *p, Span t, size_t i) {
    size_t len, n;
    uint16_t c = class_at(t, i, &len);
    if (t.s[i] == '\'' && (n = contraction(t, i, false))) return i + n;
    size_t from = i;
    if (t.s[i] == ' ') c = class_at(t, from = i + 1, &len);
    if (c & ANY_LETTER) return run(t, from + len, ANY_LETTER);
    if (c & NUMBER) return run(t, from + len, NUMBER);
    if (c & SYMBOL) return run(t, from + len, SYMBOL);
    return space(p, t, i);
}

/* The end of as many characters of a class as a piece may have. */
static size_t few(const Splitter *p, Span t, size_t i, int class) {
    size_t len;
    for (int k = 0; k < p->digits && class_at(t, i, &len) & class; k++) i += len;
    return i;
}

/* [^\s\p{L}\p{N}]+[\r\n]* with an optional space before it; i if there is none. */
static size_t symbols(const Splitter *p, Span t, size_t i) {
    const size_t from = i + (t.s[i] == ' '), end = run(t, from, SYMBOL);
    size_t e = end;
    if (end == from) return i;
    while (e < t.n && (t.s[e] == '\r' || t.s[e] == '\n' || (p->slash && t.s[e] == '/'))) e++;
    return e;
}

static size_t next_cl100k(const Splitter *p, Span t, size_t i) {
    size_t len, n;
    const uint16_t c = class_at(t, i, &len);
    if (c & ANY_LETTER) return run(t, i + len, ANY_LETTER);
    if (t.s[i] == '\'' && (n = contraction(t, i, true))) return i + n;
    if (c & NUMBER) return few(p, t, i, NUMBER);
    if (c != NEWLINE && class_at(t, i + len, &n) & ANY_LETTER)
        return run(t, i + len + n, ANY_LETTER);
    const size_t end = symbols(p, t, i);
    return end > i ? end : space(p, t, i);
}

/* [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ from i on, or, if `upper`, what is
 * left of it when there are only capitals; i if there is nothing. Where no small letter follows,
 * the second part has to be given the last character that may be in it. */
static size_t word(Span t, size_t i, bool upper) {
    size_t end = i, both = i, len;
    for (uint16_t c; (c = class_at(t, end, &len)) & (UPPER | LETTER | MARK);) {
        end += len;
        if (c != UPPER) both = end;
    }
    const size_t lower = run(t, end, LOWER | LETTER | MARK);
    if (lower > end) return lower;
    return upper ? end : both;
}

static size_t next_o200k(const Splitter *p, Span t, size_t i) {
    size_t len, end = i;
    const uint16_t c = class_at(t, i, &len);
    const bool prefix = !(c & (ANY_LETTER | NUMBER | NEWLINE));
    for (int upper = 0; upper < 2 && end == i; upper++) {
        if (prefix && (end = word(t, i + len, upper)) == i + len) end = i;
        if (end == i && c & (ANY_LETTER | MARK)) end = word(t, i, upper);
    }
    if (end > i && p->no_words) return end;
    if (end > i) return end < t.n && t.s[end] == '\'' ? end + contraction(t, end, true) : end;
    if (c & NUMBER) return few(p, t, i, NUMBER);
    end = symbols(p, t, i);
    return end > i ? end : space(p, t, i);
}

/* What no alternative takes lies between pieces, and is one. */
static size_t next_deepseek(const Splitter *p, Span t, size_t i) {
    enum { WORD = ANY_LETTER | MARK };
    size_t len, n, end = i + 1;
    uint16_t c = class_at(t, i, &len);
    if (c & PUNCTUATION && len == 1) { /* [!-~][A-Za-z]+ */
        while (end < t.n && (uint8_t)((t.s[end] | 0x20) - 'a') < 26) end++;
        if (end > i + 1) return end;
    }
    if (c & WORD) return run(t, i + len, WORD);
    if (!(c & (NEWLINE | PUNCTUATION)) && class_at(t, i + len, &n) & WORD)
        return run(t, i + len + n, WORD);
    const size_t from = i + (t.s[i] == ' ');
    if ((end = run(t, from, PUNCTUATION)) > from) return run(t, end, NEWLINE);
    if (c & ANY_SPACE) return space(p, t, i);
    do i += len;
    while ((c = class_at(t, i, &len)) & (NUMBER | OTHER) && !(class_at(t, i + len, &n) & WORD));
    return i;
}

/* Characters of one class, and what lies between. */
static size_t next_runs(const Splitter *p, Span t, size_t i) {
    size_t len, end = few(p, t, i, p->class);
    if (end > i) return end;
    for (uint16_t c; (c = class_at(t, end, &len)) && !(c & p->class);) end += len;
    return end;
}

/* --- known patterns --------------------------------------------------------------------------- */

#define CL100K_BEGIN "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define CL100K_END   "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const Splitter known[] = {
    {.pattern = GPT2_PATTERN, SPLIT_GPT2},
    {.pattern = CL100K_PATTERN, SPLIT_CL100K, .digits = 3, .end_space = true},
    {.pattern = O200K_PATTERN, SPLIT_O200K, .digits = 3, .slash = true},
    /* cl100k as Hugging Face's files have it (Llama 3); Qwen 2's */
    {.pattern = CL100K_BEGIN "\\p{N}{1,3}" CL100K_END, SPLIT_CL100K, .digits = 3},
    {.pattern = CL100K_BEGIN "\\p{N}" CL100K_END, SPLIT_CL100K, .digits = 1},
    /* Mistral's tekken */
    {.pattern = TEKKEN_PATTERN, SPLIT_O200K, .digits = 1, .slash = true, .no_words = true},
    /* Digits; DeepSeek V3's three */
    {.pattern = "\\p{N}", SPLIT_RUNS, .class = NUMBER, .digits = 1},
    {.pattern = "\\p{N}+", SPLIT_RUNS, .class = NUMBER, .digits = INT32_MAX},
    {.pattern = "\\p{N}{1,3}", SPLIT_RUNS, .class = NUMBER, .digits = 3},
    {.pattern = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
     SPLIT_RUNS,
     .class = CJK,
     .digits = INT32_MAX},
    {.pattern = DEEPSEEK_PATTERN, SPLIT_DEEPSEEK},
};

const Splitter *splitter_find(const char *pattern) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(pattern, known[i].pattern) != 0) continue;
        pthread_once(&table_once, make_table);
        return &known[i];
    }
    return NULL;
}

size_t splitter_next(const Splitter *p, const char *s, size_t n, size_t i) {
    const Span t = {s, n};
    return p->family == SPLIT_GPT2     ? next_gpt2(p, t, i)
           : p->family == SPLIT_CL100K ? next_cl100k(p, t, i)
           : p->family == SPLIT_O200K  ? next_o200k(p, t, i)
           : p->family == SPLIT_RUNS   ? next_runs(p, t, i)
                                       : next_deepseek(p, t, i);
}

/* Class of the character that ends before s[i] (i > 0); what is not UTF-8 is a symbol. */
static int class_before(const char *s, size_t i) {
    size_t from = i - 1, len;
    while (from > 0 && i - from < 4 && ((uint8_t)s[from] & 0xc0) == 0x80) from--;
    const Span t = {s + from, i - from};
    return utf8_char(t.s, t.n) == t.n ? class_at(t, 0, &len) : OTHER;
}

static int class_after(const char *s, size_t n, size_t i) {
    size_t len;
    return utf8_char(s + i, n - i) ? class_at((Span){s, n}, i, &len) : OTHER;
}

size_t splitter_space_at_end(const char *s, size_t n) {
    size_t end = n;
    pthread_once(&table_once, make_table);
    while (end > 0 && class_before(s, end) & ANY_SPACE) {
        do end--;
        while (((uint8_t)s[end] & 0xc0) == 0x80);
    }
    return n - end;
}

size_t splitter_space_at_start(const char *s, size_t n) {
    size_t i = 0;
    pthread_once(&table_once, make_table);
    while (i < n && class_after(s, n, i) & ANY_SPACE) i += utf8_char(s + i, n - i);
    return i;
}

/* GPT-2: white space never follows anything else within a piece. The others: a space never does,
 * and line breaks are followed by a slash at most. Runs begin where they begin. */
size_t splitter_cut(const Splitter *p, const char *s, size_t n) {
    for (size_t i = n; i > 1; i--) {
        const char after = s[i - 1];
        if (p->family == SPLIT_RUNS) {
            if (class_after(s, n, i - 1) & p->class && !(class_before(s, i - 1) & p->class))
                return i - 1;
        } else if (after == ' ' || (p->family == SPLIT_GPT2 && after == '\n')) {
            if (!(class_before(s, i - 1) & ANY_SPACE)) return i - 1;
        } else if (p->family != SPLIT_GPT2 && s[i - 2] == '\n') {
            if (class_after(s, n, i - 1) & (ANY_LETTER | NUMBER)) return i - 1;
        }
    }
    return 0;
}
