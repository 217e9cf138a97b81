/* regex.c: regular expressions of tokenizers, run by Oniguruma, the engine of Hugging Face's
 * library, with the syntax that it takes by default: the same patterns match the same.
 *
 * A search allocates and copies a match stack of six kilobytes, which is most of the time when its
 * match is a word. So a second program, (?:(?>PATTERN)(?{report})){1,63}, finds matches that follow
 * each other in one search. The atomic group ends where PATTERN alone would; patterns that can tell
 * one search from several (captures, \\G, \\K, callouts) have no such program. */
#include <oniguruma.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "data/tokenizer/tokenizer_impl.h"

struct Regex {
    OnigRegex code, several; /* several: NULL if the pattern forbids it */
};

struct RegexMatches {
    OnigRegion *region;
    OnigMatchParam *param; /* has the callout append to `at` */
    int n;
    size_t *at; /* the caller's */
};

static const OnigUChar *bytes(const char *s) { return (const OnigUChar *)s; }

static void start(void) {
    OnigEncoding utf8 = ONIG_ENCODING_UTF8;
    const int rc = onig_initialize(&utf8, 1);
    CHECK(rc == ONIG_NORMAL, "Oniguruma does not start: %d", rc);
}

void regex_start(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start);
}

static int compile(OnigRegex *code, const char *pattern, OnigErrorInfo *info) {
    return onig_new(code, bytes(pattern), bytes(pattern + strlen(pattern)), ONIG_OPTION_NONE,
                    ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, info);
}

static OnigRegex compile_several(OnigRegex one, const char *pattern) {
    static const char *const forbids[] = {"\\G", "\\K", "(*", "(?{"};
    OnigRegex code;
    OnigErrorInfo info;
    if (onig_number_of_captures(one) > 0) return NULL;
    for (size_t i = 0; i < sizeof forbids / sizeof *forbids; i++)
        if (strstr(pattern, forbids[i])) return NULL;
    AUTOFREE char *loop = xasprintf("(?:(?>%s)(?{report})){1,%d}", pattern, REGEX_MATCHES);
    if (compile(&code, loop, &info) != ONIG_NORMAL)
        code = NULL; /* (?x) with a comment at the end */
    return code;
}

Regex *regex_new(const char *pattern) {
    Regex *r = xmalloc(sizeof *r);
    OnigErrorInfo info;
    OnigUChar why[ONIG_MAX_ERROR_MESSAGE_LEN];
    regex_start();
    const int rc = compile(&r->code, pattern, &info);
    if (rc == ONIG_NORMAL) {
        r->several = compile_several(r->code, pattern);
        return r;
    }
    onig_error_code_to_str(why, rc, &info);
    error_set(ERR_DATA, "pattern \"%s\" does not compile: %s", pattern, (char *)why);
    free(r);
    return NULL;
}

void regex_free(Regex *r) {
    if (r) onig_free(r->code);
    if (r) onig_free(r->several);
    free(r);
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

static int report(OnigCalloutArgs *args, void *user_data) {
    RegexMatches *m = user_data;
    m->at[++m->n] =
        (size_t)(onig_get_current_by_callout_args(args) - onig_get_string_by_callout_args(args));
    return ONIG_CALLOUT_SUCCESS;
}

RegexMatches *regex_matches_new(void) {
    RegexMatches *m = xmalloc(sizeof *m);
    m->region = onig_region_new();
    m->param = onig_new_match_param();
    CHECK(m->region && m->param, "out of memory");
    onig_set_progress_callout_of_match_param(m->param, report);
    onig_set_callout_user_data_of_match_param(m->param, m);
    return m;
}

void regex_matches_free(RegexMatches *m) {
    onig_region_free(m->region, 1);
    onig_free_match_param(m->param);
    free(m);
}

/* Sets m->at[0], m->n and the ends. */
static int search(OnigRegex code, RegexMatches *m, const char *s, size_t n, size_t from) {
    m->n = 0;
    const int rc = onig_search_with_param(code, bytes(s), bytes(s + n), bytes(s + from),
                                          bytes(s + n), m->region, ONIG_OPTION_NONE, m->param);
    if (rc < 0) return rc;
    m->at[0] = (size_t)m->region->beg[0];
    if (m->n == 0) m->at[++m->n] = (size_t)m->region->end[0];
    return 0;
}

int regex_matches(const Regex *r, RegexMatches *m, const char *s, size_t n, size_t from,
                  size_t at[REGEX_MATCHES + 1]) {
    m->at = at;
    if (n > INT32_MAX)
        return error_set(ERR_DATA, "a text of %zu bytes, %d fit; split it into documents", n,
                         INT32_MAX);
    int rc = r->several ? search(r->several, m, s, n, from) : ONIGERR_FAIL_TO_INITIALIZE;
    /* a limit that all share may be enough for each */
    if (rc < 0 && rc != ONIG_MISMATCH) rc = search(r->code, m, s, n, from);
    if (rc == ONIG_MISMATCH) return 0;
    if (rc < 0) {
        OnigUChar why[ONIG_MAX_ERROR_MESSAGE_LEN];
        onig_error_code_to_str(why, rc);
        return error_set(ERR_DATA, "a text of %zu bytes: %s", n, (char *)why);
    }
    return m->n;
}
