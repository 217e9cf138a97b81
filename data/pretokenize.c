/* pretokenize.c: cuts text into the pieces that merges may not cross.
 *
 * The patterns are those of the tokenizer's file, run by PCRE2 with JIT. What differs between
 * regular-expression engines is settled here so that our ids equal tiktoken's and Hugging
 * Face's: `\s` is Unicode's White_Space (PCRE2's own has U+180E as well), so it is spelled out
 * before compiling, as is the little else that Oniguruma reads in its own way; and text that is not
 * UTF-8 is matched through a copy in which each stray byte is U+0001, which is, as U+FFFD is,
 * neither space nor letter nor number. The copy has the same length, so offsets hold in the
 * original and no byte is lost. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "data/tokenizer_impl.h"

bool pretokenize_by_hand = true;

const char *const behavior_names[BEHAVIORS] = {"Isolated", "Contiguous", "MergedWithPrevious",
                                               "MergedWithNext"};

typedef struct Pattern {
    char *source; /* as in the file */
    pcre2_code *code;
    bool jit;
    Behavior behavior;
    bool invert;
    const Splitter *by_hand; /* NULL: PCRE2 has to do it */
} Pattern;

struct Pretokenizer {
    Pattern *pattern;
    int n;
};

Pretokenizer *pretokenizer_new(void) {
    return xcalloc(1, sizeof(Pretokenizer));
}

void pretokenizer_free(Pretokenizer *p) {
    if (!p) return;
    for (int i = 0; i < p->n; i++) {
        free(p->pattern[i].source);
        pcre2_code_free(p->pattern[i].code);
    }
    free(p->pattern);
    free(p);
}

int pretokenizer_count(const Pretokenizer *p) {
    return p->n;
}
const char *pretokenizer_pattern(const Pretokenizer *p, int i, Behavior *behavior, bool *invert) {
    *behavior = p->pattern[i].behavior;
    *invert = p->pattern[i].invert;
    return p->pattern[i].source;
}

/* --- a pattern for PCRE2 ----------------------------------------------------------------------
 */

typedef struct Translation {
    const char *from; /* what is left of the pattern */
    char *out;
    size_t n;
} Translation;

static void put(Translation *t, const char *what) {
    const size_t len = strlen(what);
    memcpy(t->out + t->n, what, len);
    t->n += len;
}

/* One character, or one escape such as \p; stops at the end. */
static void copy(Translation *t) {
    const size_t len = t->from[0] == '\\' && t->from[1] ? 2 : 1;
    memcpy(t->out + t->n, t->from, len);
    t->n += len;
    t->from += len;
}

static bool take(Translation *t, const char *what) {
    const size_t len = strlen(what);
    if (strncmp(t->from, what, len) != 0) return false;
    t->from += len;
    return true;
}

/* [...]. A \S within has no spelling there: it becomes an alternative to the class, or of what a
 * negated class lets through only white space is left. */
static int translate_class(Translation *t) {
    const size_t begin = t->n;
    const bool negated = take(t, "[^");
    bool not_space = false;
    if (!negated) t->from++;
    put(t, negated ? "[^" : "[");
    const size_t inside = t->n;
    if (*t->from == ']') copy(t); /* a first ] stands for itself */
    while (*t->from && *t->from != ']') {
        if (strncmp(t->from, "&&", 2) == 0)
            return error_set(ERR_DATA, "&& within [...] is not supported");
        if (*t->from == '[')
            return error_set(ERR_DATA,
                             "[ within [...] is not supported; for the character write \\[");
        if (take(t, "\\s"))
            put(t, WHITE_SPACE);
        else if (take(t, "\\h"))
            put(t, "0-9a-fA-F");
        else if (take(t, "\\S"))
            not_space = true;
        else
            copy(t);
    }
    if (!take(t, "]")) return error_set(ERR_DATA, "a [ lacks its ]");
    char *class = xasprintf("%.*s", (int)(t->n - inside), t->out + inside);
    if (!not_space) {
        put(t, "]");
    } else if (t->n = begin, !*class) {
        put(t, negated ? "[" WHITE_SPACE "]" : "[^" WHITE_SPACE "]");
    } else {
        put(t, negated ? "(?:(?![" : "(?:[");
        put(t, class);
        put(t, negated ? "])[" WHITE_SPACE "])" : "]|[^" WHITE_SPACE "])");
    }
    free(class);
    return 0;
}

/* a{1,3}+ is (a{1,3})+ and so a+; PCRE2 and Rust take it for a possessive a{1,3}. */
static bool take_repeated_interval(Translation *t) {
    const size_t digits = strncmp(t->from, "{1,", 3) ? 0 : strspn(t->from + 3, "0123456789");
    if (digits == 0 || strncmp(t->from + 3 + digits, "}+", 2) != 0) return false;
    t->from += 3 + digits + 1;
    return true;
}

/* From Oniguruma's (Ruby's) language; malloc'd. NULL: an error is set. */
static char *translate(const char *pattern) {
    Translation t = {.from = pattern};
    t.out = xmalloc(strlen(pattern) * (sizeof WHITE_SPACE + 8) + 64);
    while (*t.from) {
        if (take(&t, "\\s"))
            put(&t, "[" WHITE_SPACE "]");
        else if (take(&t, "\\S"))
            put(&t, "[^" WHITE_SPACE "]");
        else if (take(&t, "\\h"))
            put(&t, "[0-9a-fA-F]");
        else if (take(&t, "\\H"))
            put(&t, "[^0-9a-fA-F]");
        else if (*t.from == '[') {
            if (translate_class(&t) < 0) {
                free(t.out);
                return NULL;
            }
        } else if (!take_repeated_interval(&t))
            copy(&t);
    }
    t.out[t.n] = 0;
    return t.out;
}

/* NULL: an error is set */
static pcre2_code *compile(const char *pattern) {
    char *translated = translate(pattern);
    if (!translated) return NULL;
    int code;
    size_t at;
    /* Ruby's ^ and $ are those of lines. */
    const uint32_t flags = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    CHECK(context, "out of memory");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)translated, PCRE2_ZERO_TERMINATED, flags, &code, &at, context);
    pcre2_compile_context_free(context);
    free(translated);
    if (!re) {
        PCRE2_UCHAR why[256];
        pcre2_get_error_message(code, why, sizeof why);
        error_set(ERR_DATA, "%s", (char *)why);
    }
    return re;
}

int pretokenizer_add(Pretokenizer *p, const char *pattern, Behavior behavior, bool invert) {
    pcre2_code *re = compile(pattern);
    if (!re) return error_wrap(ERR_DATA, "pattern \"%s\" does not compile", pattern);
    Pattern new = {.source = xstrdup(pattern), .code = re, .behavior = behavior, .invert = invert};
    /* Without JIT (a machine that forbids it) the interpreter does the same, more slowly. */
    new.jit = pcre2_jit_compile(re, PCRE2_JIT_COMPLETE) == 0;
    if (behavior == BEHAVIOR_ISOLATED) new.by_hand = splitter_find(pattern);
    p->pattern = xrealloc(p->pattern, (size_t)(p->n + 1) * sizeof *p->pattern);
    p->pattern[p->n++] = new;
    return 0;
}

/* --- words ------------------------------------------------------------------------------------
 */

/* \w of Rust's regular expressions: Alphabetic, marks, decimal numbers, connectors, joiners */
static const char a_word[] = "\\A[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{"
                             "24e9}\\x{1f130}-\\x{1f149}"
                             "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}]";

/* Compiled anew each time: tokens that ask for whole words are rare, and met rarely. */
static bool is_word(const char *s, size_t n) {
    pcre2_code *re = compile(a_word);
    CHECK(re, "%s", error_message());
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    CHECK(match, "out of memory");
    const bool yes = utf8_char(s, n) == n &&
                     pcre2_match(re, (PCRE2_SPTR)s, n, 0, PCRE2_NO_UTF_CHECK, match, NULL) > 0;
    pcre2_match_data_free(match);
    pcre2_code_free(re);
    return yes;
}

bool word_at_start(const char *s, size_t n) {
    const size_t len = n ? utf8_char(s, n) : 0;
    return len > 0 && is_word(s, len);
}

bool word_at_end(const char *s, size_t n) {
    for (size_t from = n; from > 0 && n - from < 4;) {
        if (((uint8_t)s[--from] & 0xc0) != 0x80) return is_word(s + from, n - from);
    }
    return false;
}

/* --- text that is not UTF-8 --------------------------------------------------------------------
 */

size_t utf8_char(const char *text, size_t n) {
    const uint8_t *s = (const uint8_t *)text;
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xc2) return 0; /* a continuation byte, or overlong */
    const size_t len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (len == 0 || n < len) return 0;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
    }
    if (s[0] == 0xe0 && s[1] < 0xa0) return 0;  /* overlong */
    if (s[0] == 0xed && s[1] >= 0xa0) return 0; /* a surrogate */
    if (s[0] == 0xf0 && s[1] < 0x90) return 0;  /* overlong */
    if (s[0] == 0xf4 && s[1] >= 0x90) return 0; /* beyond U+10FFFF */
    return len;
}

/* Where the well-formed prefix of text ends. */
static size_t utf8_prefix(const char *text, size_t len) {
    size_t i = 0;
    while (i < len) {
        uint64_t eight;
        if (len - i >= 8 && (memcpy(&eight, text + i, 8), !(eight & 0x8080808080808080u))) {
            i += 8;
            continue;
        }
        const size_t n = utf8_char(text + i, len - i);
        if (n == 0) break;
        i += n;
    }
    return i;
}

/* NULL if text is UTF-8, else the copy that the patterns look at. */
static char *masked_copy(const char *text, size_t len) {
    size_t i = utf8_prefix(text, len);
    if (i == len) return NULL;
    char *copy = xmalloc(len);
    memcpy(copy, text, len);
    while (i < len) {
        copy[i++] = 1;
        i += utf8_prefix(text + i, len - i);
    }
    return copy;
}

/* --- splitting --------------------------------------------------------------------------------
 */

typedef struct Walk {
    const Pretokenizer *p;
    const char *shown; /* what the patterns see: the text or its masked copy */
    const char *text;
    pcre2_match_data *match;
    PieceFn *fn;
    void *ctx;
} Walk;

/* Next match of pattern in s[0, n) from `from` on: 1, 0 if there is none, or an error. */
static int next_match(const Walk *w, const Pattern *pat, const char *s, size_t n, size_t from) {
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (pat->jit) rc = pcre2_jit_match(pat->code, (PCRE2_SPTR)s, n, from, 0, w->match, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = pcre2_match(pat->code, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         w->match, NULL);
    }
    if (rc >= 0) return 1;
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    PCRE2_UCHAR why[256];
    pcre2_get_error_message(rc, why, sizeof why);
    return error_set(ERR_DATA, "pattern \"%s\" cannot split a text of %zu bytes: %s", pat->source,
                     n, (char *)why);
}

static int split(const Walk *w, int level, size_t begin, size_t end);

/* The pieces that one pattern makes: matches and what lies between them, which its behavior may
 * join. The last one waits for what comes. */
typedef struct Pieces {
    const Walk *w;
    int level; /* of the next pattern */
    size_t begin, end;
    bool match, waits;
} Pieces;

static bool joins(Behavior behavior, bool last, bool match) {
    switch (behavior) {
    case BEHAVIOR_CONTIGUOUS: return match == last;
    case BEHAVIOR_MERGED_WITH_PREVIOUS: return match && !last;
    case BEHAVIOR_MERGED_WITH_NEXT: return !match && last;
    default: return false;
    }
}

static int add_piece(Pieces *p, const Pattern *pat, size_t begin, size_t end, bool match) {
    if (begin == end) return 0;
    match ^= pat->invert;
    if (!p->waits || !joins(pat->behavior, p->match, match)) {
        if (p->waits) TRY(split(p->w, p->level, p->begin, p->end));
        p->begin = begin;
    }
    p->end = end;
    p->match = match;
    p->waits = true;
    return 0;
}

static int split_by_hand(const Walk *w, const Splitter *by_hand, int level, size_t begin,
                         size_t end) {
    const char *s = w->shown + begin;
    for (size_t i = 0, next; i < end - begin; i = next) {
        next = splitter_next(by_hand, s, end - begin, i);
        TRY(split(w, level, begin + i, begin + next));
    }
    return 0;
}

/* Splits [begin, end) by patterns level, level + 1, ... */
static int split(const Walk *w, int level, size_t begin, size_t end) {
    if (begin == end) return 0;
    if (level == w->p->n) return w->fn(w->ctx, w->text + begin, end - begin);
    const Pattern *pat = &w->p->pattern[level];
    if (pat->by_hand && pretokenize_by_hand)
        return split_by_hand(w, pat->by_hand, level + 1, begin, end);
    const char *s = w->shown + begin;
    const size_t n = end - begin;
    Pieces pieces = {.w = w, .level = level + 1};
    size_t done = 0, from = 0;
    while (from < n) {
        int found = next_match(w, pat, s, n, from);
        if (found < 0) return found;
        if (!found) break;
        const size_t *o = pcre2_get_ovector_pointer(w->match);
        const size_t a = o[0], b = o[1];
        /* an empty match cuts too; after it look further on */
        from = b > a ? b : a + (a < n ? utf8_char(s + a, n - a) : 1);
        TRY(add_piece(&pieces, pat, begin + done, begin + a, false));
        TRY(add_piece(&pieces, pat, begin + a, begin + b, true));
        done = b;
    }
    TRY(add_piece(&pieces, pat, begin + done, end, false));
    return split(w, level + 1, pieces.begin, pieces.end);
}

size_t pretokenizer_cut(const Pretokenizer *p, const char *text, size_t len) {
    const Splitter *by_hand = p->n > 0 ? p->pattern[0].by_hand : NULL;
    return by_hand ? splitter_cut(by_hand, text, len) : 0;
}

int pretokenize(const Pretokenizer *p, const char *text, size_t len, PieceFn *fn, void *ctx) {
    if (len == 0) return 0;
    char *copy = masked_copy(text, len);
    Walk w = {.p = p, .shown = copy ? copy : text, .text = text, .fn = fn, .ctx = ctx};
    w.match = pcre2_match_data_create(1, NULL);
    CHECK(w.match, "out of memory");
    int rc = split(&w, 0, 0, len);
    pcre2_match_data_free(w.match);
    free(copy);
    return rc;
}
