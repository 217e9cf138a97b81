/* pretokenize.c: cuts text into the pieces that merges may not cross.
 *
 * The steps are those of the tokenizer's file; their patterns are run by Oniguruma (regex.c), the
 * usual ones by hand (splitter.c). Text that is not UTF-8 is matched through a copy in which each
 * stray byte is U+0001, which is, as U+FFFD is, neither space nor letter nor number. The copy has
 * the same length, so offsets hold in the original and no byte is lost.
 *
 * What follows ByteLevel sees each byte as a character of GPT-2's alphabet, whose places are
 * places between bytes again. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "data/tokenizer/tokenizer_impl.h"

bool pretokenize_by_hand = true;

const char *const behavior_names[BEHAVIORS] = {"Isolated", "Contiguous", "MergedWithPrevious",
                                               "MergedWithNext", "Removed"};

typedef struct PatternStep {
    SplitStep spec;
    char *pattern;           /* spec.pattern, owned */
    Regex *regex;            /* NULL: a ByteLevel that does not split */
    const Splitter *by_hand; /* NULL: Oniguruma has to do it */
} PatternStep;

struct Pretokenizer {
    PatternStep *step;
    int n, byte_level; /* which step is ByteLevel; n: none */
    int last_regex;    /* the last step that may cut */
};

Pretokenizer *pretokenizer_new(void) { return xcalloc(1, sizeof(Pretokenizer)); }

void pretokenizer_free(Pretokenizer *p) {
    if (!p) return;
    for (int i = 0; i < p->n; i++) {
        free(p->step[i].pattern);
        regex_free(p->step[i].regex);
    }
    free(p->step);
    free(p);
}

const SplitStep *pretokenizer_step(const Pretokenizer *p, int i) {
    return i < p->n ? &p->step[i].spec : NULL;
}

int pretokenizer_add(Pretokenizer *p, const SplitStep *spec) {
    PatternStep s = {.spec = *spec};
    if (spec->pattern && !(s.regex = regex_new(spec->pattern))) return ERR_DATA;
    if (spec->pattern) s.spec.pattern = s.pattern = xstrdup(spec->pattern);
    const Splitter *known = spec->pattern ? splitter_find(spec->pattern) : NULL;
    /* these leave nothing between matches that could be removed */
    if (known && known->family < SPLIT_RUNS && spec->behavior == BEHAVIOR_REMOVED && spec->invert) {
        s.spec.behavior = BEHAVIOR_ISOLATED;
        s.spec.invert = false;
    }
    if (s.spec.behavior == BEHAVIOR_ISOLATED) s.by_hand = known;
    p->step = xrealloc(p->step, (size_t)(p->n + 1) * sizeof *p->step);
    if (p->byte_level == p->n && !spec->byte_level) p->byte_level++;
    if (s.regex) p->last_regex = p->n;
    p->step[p->n++] = s;
    return 0;
}

/* --- words ------------------------------------------------------------------------------------ */

/* \w of Rust's regular expressions: Alphabetic, marks, decimal numbers, connectors, joiners */
static const char a_word[] = "\\A[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{"
                             "24e9}\\x{1f130}-\\x{1f149}"
                             "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}]";

/* Compiled each time: tokens that ask for whole words are rare, and met rarely. */
static bool is_word(const char *s, size_t n) {
    Regex *re = regex_new(a_word);
    CHECK(re, "%s", error_message());
    RegexMatches *match = regex_matches_new();
    size_t at[REGEX_MATCHES + 1];
    const bool yes = utf8_char(s, n) == n && regex_matches(re, match, s, n, 0, at) > 0;
    regex_matches_free(match);
    regex_free(re);
    return yes;
}

bool pretokenizer_word_at_start(const char *s, size_t n) {
    const size_t len = n ? utf8_char(s, n) : 0;
    return len > 0 && is_word(s, len);
}

bool pretokenizer_word_at_end(const char *s, size_t n) {
    for (size_t from = n; from > 0 && n - from < 4;)
        if (((uint8_t)s[--from] & 0xc0) != 0x80) return is_word(s + from, n - from);
    return false;
}

/* --- text that is not UTF-8 ------------------------------------------------------------------- */

char *utf8_mask(const char *text, size_t len) {
    size_t i = utf8_valid(text, len);
    if (i == len) return NULL;
    char *copy = xmalloc(len);
    memcpy(copy, text, len);
    while (i < len) {
        copy[i++] = 1;
        i += utf8_valid(text + i, len - i);
    }
    return copy;
}

/* --- splitting -------------------------------------------------------------------------------- */

/* Text repeats its words: what a step and those after it left whole, they leave whole again. */
enum { WHOLE_BYTES = 14, WHOLE_SLOTS = 4096 };
typedef struct WholePiece {
    uint8_t level, len;
    char s[WHOLE_BYTES];
} WholePiece;

typedef struct WholePieces {
    int64_t given;   /* pieces so far */
    WholePiece last; /* the last of them, if it is short; level 0 */
    WholePiece slot[WHOLE_SLOTS];
} WholePieces;

typedef struct SplitWalk {
    const Pretokenizer *p;
    const char *shown; /* what the patterns see: the text, its masked copy, or in the alphabet */
    const char *text;
    bool alphabet; /* the text, too, is written in the alphabet */
    RegexMatches *matches;
    WholePieces *whole; /* NULL: only one step cuts, or a short text */
    PieceFn *fn;
    void *ctx;
} SplitWalk;

static int split(const SplitWalk *w, int level, size_t begin, size_t end);

/* ByteLevel's add_prefix_space: each piece that it is given begins with one. */
static int split_with_space(const SplitWalk *w, int level, size_t begin, size_t end) {
    const size_t n = end - begin + 1;
    char *both = xmalloc(2 * n);
    both[0] = both[n] = ' ';
    memcpy(both + 1, w->text + begin, n - 1);
    memcpy(both + n + 1, w->shown + begin, n - 1);
    SplitWalk inner = *w;
    inner.text = both;
    inner.shown = both + n;
    const int rc = split(&inner, level, 0, n);
    free(both);
    return rc;
}

static int split_in_alphabet(const SplitWalk *w, int level, size_t begin, size_t end) {
    char small[512], *copy = 2 * (end - begin) <= sizeof small ? small : xmalloc(2 * (end - begin));
    SplitWalk inner = *w;
    inner.text = inner.shown = copy;
    inner.alphabet = true;
    const int rc = split(&inner, level, 0, alphabet_encode(w->text + begin, end - begin, copy));
    if (copy != small) free(copy);
    return rc;
}

static WholePiece whole_piece(int level, const char *s, size_t len) {
    WholePiece w = {.level = (uint8_t)level, .len = (uint8_t)len};
    if (len <= WHOLE_BYTES) memcpy(w.s, s, len);
    return w;
}

static int give_bytes(const SplitWalk *w, const char *s, size_t len) {
    if (w->whole) {
        w->whole->given++;
        w->whole->last = whole_piece(0, s, len);
    }
    return w->fn(w->ctx, s, len);
}

/* A piece that no step is left for. */
static int give(const SplitWalk *w, size_t begin, size_t end) {
    if (!w->alphabet) return give_bytes(w, w->text + begin, end - begin);
    char small[512], *bytes = end - begin <= sizeof small ? small : xmalloc(end - begin);
    const int64_t n = alphabet_decode(w->text + begin, end - begin, bytes);
    const int rc = give_bytes(w, bytes, (size_t)n);
    if (bytes != small) free(bytes);
    return rc;
}

/* The pieces that one pattern makes: matches and what lies between them, which its behavior may
 * join. The last one waits for what comes. */
typedef struct Pieces {
    const SplitWalk *w;
    int level; /* of the next step */
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

static int flush_piece(const Pieces *p, Behavior behavior) {
    if (behavior == BEHAVIOR_REMOVED && p->match) return 0;
    return split(p->w, p->level, p->begin, p->end);
}

static int add_piece(Pieces *p, const SplitStep *s, size_t begin, size_t end, bool match) {
    match ^= s->invert;
    if (!p->waits || !joins(s->behavior, p->match, match)) {
        if (p->waits) TRY(flush_piece(p, s->behavior));
        p->begin = begin;
    }
    p->end = end;
    p->match = match;
    p->waits = true;
    return 0;
}

static int split_by_hand(const SplitWalk *w, const Splitter *by_hand, int level, size_t begin,
                         size_t end) {
    const char *s = w->shown + begin;
    for (size_t i = 0, next; i < end - begin; i = next) {
        next = splitter_next(by_hand, s, end - begin, i);
        TRY(split(w, level, begin + i, begin + next));
    }
    return 0;
}

static int split_by_regex(const SplitWalk *w, const PatternStep *step, int level, size_t begin,
                          size_t end) {
    const char *s = w->shown + begin;
    const size_t n = end - begin;
    Pieces pieces = {.w = w, .level = level};
    size_t done = 0, from = 0, at[REGEX_MATCHES + 1];
    bool any = false;
    while (from < n) {
        const int found = regex_matches(step->regex, w->matches, s, n, from, at);
        if (found < 0) return error_wrap(found, "pattern \"%s\" cannot split", step->pattern);
        if (!found) break;
        for (int i = 0; i < found; i++) {
            const size_t a = at[i], b = at[i + 1];
            /* an empty match cuts too, but not right after another; after it look further on */
            from = b > a ? b : a + (a < n ? utf8_char(s + a, n - a) : 1);
            if (a == b && any && a == done) break;
            if (done < a) TRY(add_piece(&pieces, &step->spec, begin + done, begin + a, false));
            TRY(add_piece(&pieces, &step->spec, begin + a, begin + b, true));
            done = b;
            any = true;
            if (a == b) break;
        }
    }
    if (done < n) TRY(add_piece(&pieces, &step->spec, begin + done, end, false));
    return flush_piece(&pieces, step->spec.behavior);
}

static int split_at(const SplitWalk *w, int level, size_t begin, size_t end) {
    if (level > w->p->byte_level && !w->alphabet) return split_in_alphabet(w, level, begin, end);
    const PatternStep *step = &w->p->step[level];
    if (step->spec.prefix_space && w->text[begin] != ' ')
        return split_with_space(w, level, begin, end);
    if (!step->regex) return split(w, level + 1, begin, end);
    if (step->by_hand && pretokenize_by_hand)
        return split_by_hand(w, step->by_hand, level + 1, begin, end);
    return split_by_regex(w, step, level + 1, begin, end);
}

/* Splits [begin, end) by steps level, level + 1, ... */
static int split(const SplitWalk *w, int level, size_t begin, size_t end) {
    const size_t n = end - begin;
    if (n == 0) return 0;
    if (level == w->p->n) return give(w, begin, end);
    if (!w->whole || level == 0 || level > w->p->last_regex || n > WHOLE_BYTES || w->alphabet)
        return split_at(w, level, begin, end);
    WholePiece key = whole_piece(level, w->text + begin, n);
    uint64_t word[2];
    memcpy(word, &key, sizeof word);
    WholePiece *slot = &w->whole->slot[(word[0] * 31 ^ word[1]) * 0x9e3779b97f4a7c15u >> 52];
    if (memcmp(slot, &key, sizeof key) == 0) return give(w, begin, end);
    const int64_t given = w->whole->given;
    TRY(split_at(w, level, begin, end));
    w->whole->last.level = key.level;
    if (w->whole->given == given + 1 && memcmp(&w->whole->last, &key, sizeof key) == 0) *slot = key;
    return 0;
}

size_t pretokenizer_cut(const Pretokenizer *p, const char *text, size_t len) {
    const PatternStep *first = p->n > 0 ? p->step : NULL;
    if (!first || !first->by_hand || first->spec.prefix_space) return 0;
    return splitter_cut(first->by_hand, text, len);
}

int pretokenize(const Pretokenizer *p, const char *text, size_t len, PieceFn *fn, void *ctx) {
    if (len == 0) return 0;
    char *copy = utf8_mask(text, len);
    SplitWalk w = {.p = p, .shown = copy ? copy : text, .text = text, .fn = fn, .ctx = ctx};
    w.matches = regex_matches_new();
    if (p->last_regex > 0 && len > 4096)
        w.whole = xcalloc(1, sizeof *w.whole); /* worth its zeros */
    int rc = split(&w, 0, 0, len);
    regex_matches_free(w.matches);
    free(w.whole);
    free(copy);
    return rc;
}

void pretokenizer_parts(const Pretokenizer *p, const char *text, size_t len, size_t bytes,
                        TextParts *out) {
    for (size_t cut; len > 0; text += cut, len -= cut) {
        cut = len > bytes ? pretokenizer_cut(p, text, bytes) : 0;
        if (cut == 0) cut = len; /* no piece ends: all the rest */
        XGROW(out->v, out->n, out->cap);
        out->v[out->n++] = (struct TextPart){text, cut};
    }
}

int pretokenize_parts(const Pretokenizer *p, const TextParts *parts, PieceFn *fn, void *ctx,
                      size_t stride) {
    bool failed = false;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < parts->n; i++) {
        const struct TextPart *t = &parts->v[i];
        if (pretokenize(p, t->text, t->len, fn, (char *)ctx + (size_t)i * stride) < 0) {
#pragma omp atomic write
            failed = true;
        }
    }
    for (int64_t i = 0; failed && i < parts->n; i++) /* the first error, and in this thread */
        TRY(pretokenize(p, parts->v[i].text, parts->v[i].len, fn,
                        (char *)ctx + (size_t)i * stride));
    return 0;
}
