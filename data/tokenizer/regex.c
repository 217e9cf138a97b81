/* regex.c: regular expressions as Hugging Face's library has them, run by PCRE2 with JIT.
 *
 * That library reads Oniguruma's language (Ruby's). What PCRE2 reads otherwise is written anew
 * before compiling, so that the matches are the same: `\s` is Unicode's White_Space (PCRE2's own
 * has U+180E as well), \w and \b go by Oniguruma's idea of a word, [...] may hold further classes
 * and && , \p{Han} is the script and not its extensions. What cannot be written so is refused. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "data/tokenizer/tokenizer_impl.h"

struct Regex {
    pcre2_code *code;
    bool jit;
};

/* \w: Alphabetic, marks, decimal numbers, connectors; but within [...] not these of Latin-1: */
#define LATIN_NUMBERS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define WORD_IN_CLASS                                                                          \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{" \
    "1f169}"                                                                                   \
    "\\x{1f170}-\\x{1f189}"
#define WORD WORD_IN_CLASS LATIN_NUMBERS
#define HEX  "0-9a-fA-F"

/* --- a pattern for PCRE2 ---------------------------------------------------------------------- */

typedef struct Out {
    char *s; /* NULL: nothing yet */
    size_t n, cap;
} Out;

static void put_n(Out *o, const char *what, size_t len) {
    if (o->n + len + 1 > o->cap) {
        o->cap = 2 * (o->n + len + 1);
        o->s = xrealloc(o->s, o->cap);
    }
    memcpy(o->s + o->n, what, len);
    o->n += len;
    o->s[o->n] = 0;
}

static void put(Out *o, const char *what) { put_n(o, what, strlen(what)); }

static bool take(const char **from, const char *what) {
    const size_t len = strlen(what);
    if (strncmp(*from, what, len) != 0) return false;
    *from += len;
    return true;
}

static pcre2_code *compile_raw(const char *pattern, int *code) {
    size_t at;
    /* Ruby's ^ and $ are those of lines. */
    const uint32_t flags = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    CHECK(context, "out of memory");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, flags, code, &at, context);
    pcre2_compile_context_free(context);
    return re;
}

/* \p{Name}: of a script its own characters, for which PCRE2 wants \p{sc:Name}. */
static bool put_property(const char **from, Out *o) {
    const char *name = *from + 3, *end = strncmp(name - 1, "{", 1) ? NULL : strchr(name, '}');
    if (!end) return false;
    const bool not = *name == '^';
    int unused;
    char *script = xasprintf("\\%c{%ssc:%.*s}", (*from)[1], not ? "^" : "",
                             (int)(end - name - not ), name + not );
    pcre2_code *re = end - name - not > 2 ? compile_raw(script, &unused) : NULL;
    if (re) put(o, script);
    free(script);
    pcre2_code_free(re);
    if (!re) return false;
    *from = end + 1;
    return true;
}

/* One character, or one escape. */
static void put_one(const char **from, Out *o) {
    const char *f = *from;
    if (f[0] == '\\' && (f[1] == 'p' || f[1] == 'P') && put_property(from, o)) return;
    if (f[0] == '\\' && f[1] == 'u' && strspn(f + 2, "0123456789abcdefABCDEF") >= 4) {
        put(o, "\\x{");
        put_n(o, f + 2, 4);
        put(o, "}");
        *from += 6;
        return;
    }
    const size_t len = f[0] == '\\' && f[1] ? 2 : 1;
    put_n(o, f, len);
    *from += len;
}

/* The inside of [...], up to its end or &&: `set`, what one [...] can hold, and `more`, "|" before
 * each, what else it may be. */
typedef struct Items {
    Out set, more;
} Items;

static void items_free(Items *i) {
    free(i->set.s);
    free(i->more.s);
}

static int read_class(const char **from, Items *into);

/* [:name:] */
static int read_posix(const char **from, Out *set) {
    static const char *const names[][2] = {
        {"[:alpha:]", "\\p{Alphabetic}"}, {"[:alnum:]", "\\p{Alphabetic}\\p{Nd}"},
        {"[:digit:]", "\\p{Nd}"},         {"[:space:]", WHITE_SPACE},
        {"[:upper:]", "\\p{Uppercase}"},  {"[:lower:]", "\\p{Lowercase}"},
        {"[:punct:]", "\\p{P}\\p{S}"},    {"[:xdigit:]", HEX}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (take(from, names[i][0])) return put(set, names[i][1]), 0;
    }
    return error_set(ERR_DATA, "%.12s is not supported", *from);
}

static int read_items(const char **from, Items *i) {
    while (**from && **from != ']' && strncmp(*from, "&&", 2) != 0) {
        if (strncmp(*from, "[:", 2) == 0)
            TRY(read_posix(from, &i->set));
        else if (**from == '[')
            TRY(read_class(from, i));
        else if (take(from, "\\s"))
            put(&i->set, WHITE_SPACE);
        else if (take(from, "\\h"))
            put(&i->set, HEX);
        else if (take(from, "\\w"))
            put(&i->set, WORD_IN_CLASS);
        else if (take(from, "\\S"))
            put(&i->more, "|[^" WHITE_SPACE "]");
        else if (take(from, "\\H"))
            put(&i->more, "|[^" HEX "]");
        else if (take(from, "\\W"))
            put(&i->more, "|[^" WORD_IN_CLASS "]");
        else
            put_one(from, &i->set);
    }
    return **from ? 0 : error_set(ERR_DATA, "a [ lacks its ]");
}

/* One character that is among the items. */
static char *one_of(const Items *i) {
    if (!i->set.s) return xasprintf("(?:%s)", i->more.s + 1);
    return i->more.s ? xasprintf("(?:[%s]%s)", i->set.s, i->more.s) : xasprintf("[%s]", i->set.s);
}

/* A whole [...], which becomes part of what stands around it. */
static int read_class(const char **from, Items *into) {
    const bool negated = strncmp(*from, "[^", 2) == 0;
    char *both = NULL; /* what stands before && */
    *from += 1 + negated;
    for (;;) {
        Items items = {0};
        if (!both && take(from, "]")) put(&items.set, "\\]"); /* a first one stands for itself */
        int rc = read_items(from, &items);
        if (rc == 0 && !items.set.s && !items.more.s)
            rc = error_set(ERR_DATA, "an empty [] is not supported");
        char *last = rc < 0 ? NULL : one_of(&items);
        if (last && both) {
            char *and = xasprintf("(?:(?=%s)%s)", both, last);
            free(last);
            last = and;
        }
        free(both);
        both = last;
        const bool done = rc < 0 || take(from, "]");
        if (rc == 0 && done && !items.more.s && strcmp(last + strlen(last) - 1, "]") == 0) {
            if (negated) {
                put(&into->more, "|[^");
                put(&into->more, items.set.s);
                put(&into->more, "]");
            } else {
                put(&into->set, items.set.s);
            }
        } else if (rc == 0 && done) {
            put(&into->more, negated ? "|(?:(?!" : "|");
            put(&into->more, last);
            if (negated) put(&into->more, ")(?s:.))");
        }
        items_free(&items);
        if (done) {
            free(both);
            return rc;
        }
        *from += 2; /* && */
    }
}

static int translate_class(const char **from, Out *o) {
    Items i = {0};
    const int rc = read_class(from, &i);
    if (rc == 0) {
        const bool plain = i.more.s && !i.set.s && !strchr(i.more.s + 1, '|');
        char *one = plain ? xstrdup(i.more.s + 1) : one_of(&i);
        put(o, one);
        free(one);
    }
    items_free(&i);
    return rc;
}

/* {...}: Ruby's a{1,3}+ is (a{1,3})+ and so a+, and its a{3}? may match nothing; PCRE2 takes them
 * for a possessive and a lazy repeat. */
static int translate_interval(const char **from, Out *o) {
    const char *f = *from + 1;
    const size_t low = strspn(f, "0123456789"), comma = f[low] == ',';
    const size_t high = comma ? strspn(f + low + 1, "0123456789") : 0, n = low + comma + high;
    if (low + high == 0 || f[n] != '}') return put_one(from, o), 0; /* plain characters */
    const char after = f[n + 1];
    if (after == '+' && comma && high && low == 1 && f[0] == '1') {
        *from += n + 2; /* the + is left */
        return 0;
    }
    if (after == '+' || (after == '?' && !comma))
        return error_set(ERR_DATA, "%.*s is not supported: put (?:...) around what is repeated",
                         (int)n + 3, *from);
    put(o, low ? "{" : "{0");
    put_n(o, f, n + 1);
    *from += n + 2;
    return 0;
}

/* (?i) and the like; what they call m is PCRE2's s. */
static int translate_group(const char **from, Out *o, bool first) {
    const size_t n = strncmp(*from, "(?", 2) ? 0 : strspn(*from + 2, "imx-");
    const char end = n ? (*from)[2 + n] : 0;
    if (end != ':' && end != ')') return put_one(from, o), 0;
    if (end == ')' && !first)
        return error_set(ERR_DATA, "%.*s within a pattern is not supported: write %.*s:...)",
                         (int)n + 3, *from, (int)n + 2, *from);
    for (size_t i = 0; i < n + 3; i++) put_n(o, (*from)[i] == 'm' ? "s" : *from + i, 1);
    *from += n + 3;
    return 0;
}

/* malloc'd. NULL: an error is set. */
static char *translate(const char *pattern) {
    static const char *const escapes[][2] = {
        {"\\s", "[" WHITE_SPACE "]"},
        {"\\S", "[^" WHITE_SPACE "]"},
        {"\\h", "[" HEX "]"},
        {"\\H", "[^" HEX "]"},
        {"\\w", "[" WORD "]"},
        {"\\W", "[^" WORD "]"},
        {"\\b", "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))"},
        {"\\B", "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))"}};
    enum { ESCAPES = sizeof escapes / sizeof *escapes };
    Out o = {0};
    int rc = 0;
    put(&o, "");
    for (const char *from = pattern; *from && rc == 0;) {
        int e = 0;
        while (e < ESCAPES && !take(&from, escapes[e][0])) e++;
        if (e < ESCAPES)
            put(&o, escapes[e][1]);
        else if (*from == '[')
            rc = translate_class(&from, &o);
        else if (*from == '{')
            rc = translate_interval(&from, &o);
        else if (*from == '(')
            rc = translate_group(&from, &o, from == pattern);
        else
            put_one(&from, &o);
    }
    if (rc == 0) return o.s;
    free(o.s);
    return NULL;
}

Regex *regex_new(const char *pattern) {
    int code = 0;
    char *translated = translate(pattern);
    pcre2_code *re = translated ? compile_raw(translated, &code) : NULL;
    if (translated && !re) {
        PCRE2_UCHAR why[256];
        pcre2_get_error_message(code, why, sizeof why);
        error_set(ERR_DATA, "%s", (char *)why);
    }
    free(translated);
    if (!re) {
        error_wrap(ERR_DATA, "pattern \"%s\" does not compile", pattern);
        return NULL;
    }
    Regex *r = xmalloc(sizeof *r);
    /* Without JIT (a machine that forbids it) the interpreter does the same, more slowly. */
    *r = (Regex){.code = re, .jit = pcre2_jit_compile(re, PCRE2_JIT_COMPLETE) == 0};
    return r;
}

void regex_free(Regex *r) {
    if (r) pcre2_code_free(r->code);
    free(r);
}

bool regex_may_be_empty(const Regex *r) {
    uint32_t empty = 0;
    pcre2_pattern_info(r->code, PCRE2_INFO_MATCHEMPTY, &empty);
    return empty;
}

char *regex_quote(const char *s) {
    char *out = xmalloc(2 * strlen(s) + 1), *o = out;
    for (; *s; s++) {
        if (strchr("\\^$.[]|()?*+{}-#&~/", *s)) *o++ = '\\';
        *o++ = *s;
    }
    *o = 0;
    return out;
}

/* --- matching --------------------------------------------------------------------------------- */

RegexMatch *regex_match_new(void) {
    RegexMatch *m = pcre2_match_data_create(1, NULL);
    CHECK(m, "out of memory");
    return m;
}

void regex_match_free(RegexMatch *m) { pcre2_match_data_free(m); }

int regex_match(const Regex *r, RegexMatch *m, const char *s, size_t n, size_t from, size_t *a,
                size_t *b) {
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (r->jit) rc = pcre2_jit_match(r->code, (PCRE2_SPTR)s, n, from, 0, m, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = pcre2_match(r->code, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m,
                         NULL);
    }
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc < 0) {
        PCRE2_UCHAR why[256];
        pcre2_get_error_message(rc, why, sizeof why);
        return error_set(ERR_DATA, "a text of %zu bytes: %s", n, (char *)why);
    }
    const size_t *o = pcre2_get_ovector_pointer(m);
    *a = o[0];
    *b = o[1];
    return 1;
}
