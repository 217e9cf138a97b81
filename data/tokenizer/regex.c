/* regex.c: regular expressions of tokenizers, run by Oniguruma, the engine of Hugging Face's
 * library, with the syntax that it takes by default: the same patterns match the same. */
#include <oniguruma.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "data/tokenizer/tokenizer_impl.h"

struct Regex {
    OnigRegex code;
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

Regex *regex_new(const char *pattern) {
    Regex *r = xmalloc(sizeof *r);
    OnigErrorInfo info;
    regex_start();
    const int rc = onig_new(&r->code, bytes(pattern), bytes(pattern + strlen(pattern)),
                            ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
    if (rc == ONIG_NORMAL) return r;
    OnigUChar why[ONIG_MAX_ERROR_MESSAGE_LEN];
    onig_error_code_to_str(why, rc, &info);
    error_set(ERR_DATA, "pattern \"%s\" does not compile: %s", pattern, (char *)why);
    free(r);
    return NULL;
}

void regex_free(Regex *r) {
    if (r) onig_free(r->code);
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

RegexMatch *regex_match_new(void) {
    RegexMatch *m = onig_region_new();
    CHECK(m, "out of memory");
    return m;
}

void regex_match_free(RegexMatch *m) { onig_region_free(m, 1); }

int regex_match(const Regex *r, RegexMatch *m, const char *s, size_t n, size_t from, size_t *a,
                size_t *b) {
    if (n > INT32_MAX)
        return error_set(ERR_DATA, "a text of %zu bytes, %d fit; split it into documents", n,
                         INT32_MAX);
    const int rc = onig_search(r->code, bytes(s), bytes(s + n), bytes(s + from), bytes(s + n), m,
                               ONIG_OPTION_NONE);
    if (rc == ONIG_MISMATCH) return 0;
    if (rc < 0) {
        OnigUChar why[ONIG_MAX_ERROR_MESSAGE_LEN];
        onig_error_code_to_str(why, rc);
        return error_set(ERR_DATA, "a text of %zu bytes: %s", n, (char *)why);
    }
    *a = (size_t)m->beg[0];
    *b = (size_t)m->end[0];
    return 1;
}
