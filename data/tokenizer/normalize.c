/* normalize.c: the normalizer of a tokenizer.json: steps that change the text before it is cut.
 *
 * Each gives what Hugging Face's library gives; a byte that is no part of UTF-8 stays, as a
 * character that no step knows. Steps that library fails at are refused when they are read: a
 * Replace that may match nothing, a Prepend of nothing. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "base/text.h"
#include "data/tokenizer/tokenizer_impl.h"

struct Normalizer {
    NormalStep *step; /* their strings are owned */
    Regex **regex;    /* of each step; NULL */
    int n;
};

Normalizer *normalizer_new(void) { return xcalloc(1, sizeof(Normalizer)); }

void normalizer_free(Normalizer *m) {
    if (!m) return;
    for (int i = 0; i < m->n; i++) {
        free((char *)(uintptr_t)m->step[i].pattern);
        free((char *)(uintptr_t)m->step[i].content);
        regex_free(m->regex[i]);
    }
    free(m->step);
    free(m->regex);
    free(m);
}

const NormalStep *normalizer_step(const Normalizer *m, int i) {
    return i < m->n ? &m->step[i] : NULL;
}

int normalizer_add(Normalizer *m, const NormalStep *spec) {
    const bool replace = spec->kind == NORMAL_REPLACE, literal = replace && !spec->is_regex;
    Regex *regex = NULL;
    if (m->n > 0 && spec->kind <= NORMAL_FORM_LAST && m->step[m->n - 1].kind == spec->kind)
        return 0; /* once is enough */
    if (literal && !*spec->pattern)
        return error_set(ERR_DATA, "Replace: an empty pattern is not supported");
    if (spec->kind == NORMAL_PREPEND && !*spec->content)
        return error_set(ERR_DATA, "Prepend: an empty \"prepend\" is not supported");
    if (replace && spec->is_regex) {
        if (!(regex = regex_new(spec->pattern))) return error_wrap(ERR_DATA, "Replace");
        size_t at[REGEX_MATCHES + 1];
        RegexMatches *match = regex_matches_new();
        const int empty = regex_matches(regex, match, "", 0, 0, at);
        regex_matches_free(match);
        if (empty != 0) {
            regex_free(regex);
            return error_set(ERR_DATA,
                             "Replace: pattern \"%s\" may match nothing, which is not supported",
                             spec->pattern);
        }
    }
    m->step = xrealloc(m->step, (size_t)(m->n + 1) * sizeof *m->step);
    m->regex = xrealloc(m->regex, (size_t)(m->n + 1) * sizeof *m->regex);
    NormalStep *s = &m->step[m->n];
    m->regex[m->n++] = regex;
    *s = *spec;
    if (s->pattern) s->pattern = xstrdup(s->pattern);
    if (s->content) s->content = xstrdup(s->content);
    return 0;
}

/* --- the steps: each returns the new text, malloc'd, or NULL if it is as before --------------- */

static char *finish(Text *t, size_t *n) {
    *n = t->n;
    return text_take(t);
}

/* char::to_lowercase of Rust, character by character: a final sigma is no case of its own. */
static size_t lower(int32_t c, size_t width, uint8_t *out) {
    if (c == 0x130) return memcpy(out, "i\xcc\x87", 3), 3;
    const int32_t small = utf8proc_tolower(c);
    return small == c ? width : (size_t)utf8proc_encode_char(small, out);
}

/* Lowercase and StripAccents: characters one by one. */
static char *each_char(NormalKind kind, const char *text, size_t len, size_t *out_len) {
    Text out = {0};
    size_t done = 0;
    for (size_t i = 0, width; i < len; i += width) {
        uint8_t now[8];
        int32_t c = (uint8_t)text[i];
        width = c < 0x80 ? 1 : utf8_char(text + i, len - i);
        if (width == 0) {
            width = 1;
            continue;
        }
        if (c >= 0x80) utf8proc_iterate((const uint8_t *)text + i, (utf8proc_ssize_t)width, &c);
        memcpy(now, text + i, width);
        const size_t n = kind == NORMAL_LOWERCASE          ? lower(c, width, now)
                         : c >= 0x80 && unicode_is_mark(c) ? 0
                                                           : width;
        if (n == width && memcmp(now, text + i, n) == 0) continue;
        text_bytes(&out, text + done, i - done);
        text_bytes(&out, now, n);
        done = i + width;
    }
    if (done == 0) return NULL;
    text_bytes(&out, text + done, len - done);
    return finish(&out, out_len);
}

static char *strip(const NormalStep *s, const char *text, size_t len, size_t *out_len) {
    const size_t left = s->left ? splitter_space_at_start(text, len) : 0;
    const size_t right = s->right ? splitter_space_at_end(text + left, len - left) : 0;
    if (left + right == 0) return NULL;
    Text out = {0};
    text_bytes(&out, text + left, len - left - right);
    return finish(&out, out_len);
}

static char *prepend(const NormalStep *s, const char *text, size_t len, size_t *out_len) {
    Text out = {0};
    if (len == 0) return NULL;
    text_bytes(&out, s->content, strlen(s->content));
    text_bytes(&out, text, len);
    return finish(&out, out_len);
}

static char *replace_literal(const NormalStep *s, const char *text, size_t len, size_t *out_len) {
    Text out = {0};
    const size_t width = strlen(s->pattern);
    size_t done = 0;
    for (const char *at; (at = memmem(text + done, len - done, s->pattern, width));) {
        text_bytes(&out, text + done, (size_t)(at - text) - done);
        text_bytes(&out, s->content, strlen(s->content));
        done = (size_t)(at - text) + width;
    }
    if (done == 0) return NULL;
    text_bytes(&out, text + done, len - done);
    return finish(&out, out_len);
}

static int replace_regex(const NormalStep *s, const Regex *re, const char *text, size_t len,
                         char **changed, size_t *out_len) {
    Text out = {0};
    size_t done = 0, at[REGEX_MATCHES + 1];
    char *mask = utf8_mask(text, len);
    RegexMatches *matches = regex_matches_new();
    int rc = 0;
    while (done < len && (rc = regex_matches(re, matches, mask ? mask : text, len, done, at)) > 0) {
        text_bytes(&out, text + done, at[0] - done);
        for (int i = 0, found = rc; i < found && rc > 0; i++) {
            if (at[i] == at[i + 1]) /* nothing here, by what stands around it */
                rc = error_set(ERR_DATA, "it matches nothing at byte %zu", at[i]);
            text_bytes(&out, s->content, strlen(s->content));
            done = at[i + 1];
        }
        if (rc < 0) break;
    }
    regex_matches_free(matches);
    free(mask);
    if (rc < 0) {
        free(out.s);
        return error_wrap(rc, "Replace: pattern \"%s\"", s->pattern);
    }
    if (done == 0) return 0;
    text_bytes(&out, text + done, len - done);
    *changed = finish(&out, out_len);
    return 0;
}

static int apply(const Normalizer *m, int i, const char *text, size_t len, char **out, size_t *n) {
    const NormalStep *s = &m->step[i];
    *out = NULL;
    switch (s->kind) {
    case NORMAL_LOWERCASE:
    case NORMAL_STRIP_ACCENTS: *out = each_char(s->kind, text, len, n); break;
    case NORMAL_STRIP: *out = strip(s, text, len, n); break;
    case NORMAL_PREPEND: *out = prepend(s, text, len, n); break;
    case NORMAL_REPLACE:
        if (m->regex[i]) return replace_regex(s, m->regex[i], text, len, out, n);
        *out = replace_literal(s, text, len, n);
        break;
    default: *out = unicode_form((UnicodeForm)s->kind, text, len, n);
    }
    return 0;
}

int normalize(const Normalizer *m, bool goes_on, const char *text, size_t len, char **out,
              size_t *out_len) {
    *out = NULL;
    for (int i = 0; i < m->n && len > 0; i++) {
        char *next;
        if (goes_on && m->step[i].kind == NORMAL_PREPEND) continue;
        size_t n = 0;
        const int rc = apply(m, i, text, len, &next, &n);
        if (rc == 0 && !next) continue;
        free(*out);
        *out = next;
        TRY(rc);
        text = next;
        len = *out_len = n;
    }
    return 0;
}

bool normalizer_cuts(const Normalizer *m) {
    return m->n == 0 || (m->n == 1 && m->step[0].kind == NORMAL_NFC);
}
