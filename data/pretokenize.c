/* pretokenize.c: cuts text into the pieces that merges may not cross.
 *
 * The patterns are those of the tokenizer's file, run by PCRE2 with JIT. Two things differ between
 * regular-expression engines and are settled here so that our ids equal tiktoken's and Hugging
 * Face's: `\s` is Unicode's White_Space (PCRE2's own has U+180E as well), so it is spelled out
 * before compiling; and text that is not UTF-8 is matched through a copy in which each stray byte
 * is U+0001, which is, as U+FFFD is, neither space nor letter nor number. The copy has the same
 * length, so offsets hold in the original and no byte is lost. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "data/tokenizer_impl.h"

const char GPT2_PATTERN[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

#define WHITE_SPACE                                                                             \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}" \
    "\\x{205f}\\x{3000}"

typedef struct Pattern {
    char *source; /* as in the file */
    pcre2_code *code;
    bool jit;
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
const char *pretokenizer_pattern(const Pretokenizer *p, int i) {
    return p->pattern[i].source;
}

/* The pattern with \s and \S spelled out, malloc'd; NULL for a \S within a class, which has no
 * spelling (no tokenizer we know of has one). */
static char *spell_out_space(const char *pattern) {
    char *out = xmalloc(strlen(pattern) * (sizeof WHITE_SPACE + 4) + 1), *o = out;
    bool in_class = false;
    for (const char *s = pattern; *s; s++) {
        if (s[0] == '\\' && (s[1] == 's' || s[1] == 'S')) {
            if (in_class && s[1] == 'S') {
                free(out);
                return NULL;
            }
            o = stpcpy(o, in_class      ? WHITE_SPACE
                          : s[1] == 's' ? "[" WHITE_SPACE "]"
                                        : "[^" WHITE_SPACE "]");
            s++;
            continue;
        }
        *o++ = *s;
        if (s[0] == '\\' && s[1]) {
            *o++ = *++s;
        } else if (!in_class && *s == '[') {
            in_class = true;
            if (s[1] == '^') *o++ = *++s;
            if (s[1] == ']') *o++ = *++s; /* a first ] stands for itself */
        } else if (in_class && *s == ']') {
            in_class = false;
        }
    }
    *o = 0;
    return out;
}

int pretokenizer_add(Pretokenizer *p, const char *pattern) {
    char *spelled = spell_out_space(pattern);
    if (!spelled) {
        return error_set(ERR_DATA, "pattern \"%s\": \\S within [...] is not supported", pattern);
    }
    int code;
    size_t at;
    const uint32_t flags = PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C;
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)spelled, PCRE2_ZERO_TERMINATED, flags, &code, &at, NULL);
    free(spelled);
    if (!re) {
        PCRE2_UCHAR why[256];
        pcre2_get_error_message(code, why, sizeof why);
        return error_set(ERR_DATA, "pattern \"%s\" does not compile: %s", pattern, (char *)why);
    }
    /* Without JIT (a machine that forbids it) the interpreter does the same, more slowly. */
    bool jit = pcre2_jit_compile(re, PCRE2_JIT_COMPLETE) == 0;
    p->pattern = xrealloc(p->pattern, (size_t)(p->n + 1) * sizeof *p->pattern);
    p->pattern[p->n++] = (Pattern){.source = xstrdup(pattern), .code = re, .jit = jit};
    return 0;
}

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

/* Splits [begin, end) by patterns level, level + 1, ... Matches and what lies between them are
 * pieces alike ("Isolated"). */
static int split(const Walk *w, int level, size_t begin, size_t end) {
    if (begin == end) return 0;
    if (level == w->p->n) return w->fn(w->ctx, w->text + begin, end - begin);
    const Pattern *pat = &w->p->pattern[level];
    const char *s = w->shown + begin;
    const size_t n = end - begin;
    size_t done = 0, from = 0;
    while (from < n) {
        int found = next_match(w, pat, s, n, from);
        if (found < 0) return found;
        if (!found) break;
        const size_t *o = pcre2_get_ovector_pointer(w->match);
        const size_t a = o[0], b = o[1];
        if (b <= a) { /* an empty match: look further on */
            from = a + (a < n ? utf8_char(s + a, n - a) : 1);
            continue;
        }
        TRY(split(w, level + 1, begin + done, begin + a));
        TRY(split(w, level + 1, begin + a, begin + b));
        done = from = b;
    }
    return split(w, level + 1, begin + done, end);
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
