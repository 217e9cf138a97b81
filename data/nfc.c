/* nfc.c: text to Unicode's normalization form C, which some tokenizers ask for.
 *
 * Nearly all text is in that form, so what matters is to see it fast. A character is plain if it is
 * its own form C, is no mark and no later part of a Hangul syllable: then nothing before it changes
 * it or joins it, and the text may be cut before it. Only what is not plain, with the one plain
 * character before it, goes through utf8proc. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "data/tokenizer_impl.h"

enum { CHARACTERS = 0x30000 }; /* all later ones are plain */
static uint8_t plain[CHARACTERS / 8];
static pthread_once_t plain_once = PTHREAD_ONCE_INIT;

static const utf8proc_option_t FORM_C = UTF8PROC_STABLE | UTF8PROC_COMPOSE;

static bool is_plain(int32_t c) {
    int32_t parts[8];
    int unused;
    if (c >= 0x1160 && c < 0x1200) return false; /* vowels and finals of Hangul */
    const utf8proc_category_t category = utf8proc_category(c);
    if (category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
        category == UTF8PROC_CATEGORY_ME)
        return false;
    const utf8proc_ssize_t n = utf8proc_decompose_char(c, parts, 8, FORM_C, &unused);
    return n >= 1 && n <= 8 && utf8proc_normalize_utf32(parts, n, FORM_C) == 1 && parts[0] == c;
}

static void find_plain(void) {
    for (int32_t c = 0; c < CHARACTERS; c++) {
        if (is_plain(c)) plain[c / 8] |= (uint8_t)(1 << c % 8);
    }
}

/* Is the character at s plain? *n: its bytes. What is not UTF-8 is plain and stays as it is. */
static bool plain_at(const char *s, size_t len, size_t *n) {
    int32_t c;
    *n = (uint8_t)s[0] < 0x80 ? 0 : utf8_char(s, len);
    if (*n == 0) return *n = 1, true;
    utf8proc_iterate((const uint8_t *)s, (utf8proc_ssize_t)*n, &c);
    return c >= CHARACTERS || (plain[c / 8] >> c % 8 & 1);
}

/* The first character from i on that is not plain; len: none. *before: where the one before it
 * begins, or i. */
static size_t next_odd(const char *s, size_t len, size_t i, size_t *before) {
    *before = i;
    for (size_t n; i < len && plain_at(s + i, len - i, &n); i += n) *before = i;
    return i;
}

char *nfc(const char *text, size_t len, size_t *out_len) {
    pthread_once(&plain_once, find_plain);
    size_t done = 0, begin, n;
    size_t odd = next_odd(text, len, 0, &begin);
    if (odd == len) return NULL;
    char *out = xmalloc(3 * len), *end = out; /* form C is three times as long at most */
    while (odd < len) {
        size_t stop = odd;
        while (stop < len && !plain_at(text + stop, len - stop, &n)) stop += n;
        if (utf8_char(text + begin, len - begin) == 0) begin = odd;
        end = mempcpy(end, text + done, begin - done);
        uint8_t *form;
        const utf8proc_ssize_t size = utf8proc_map((const uint8_t *)text + begin,
                                                   (utf8proc_ssize_t)(stop - begin), &form, FORM_C);
        CHECK(size >= 0, "utf8proc: %s", utf8proc_errmsg(size));
        end = mempcpy(end, form, (size_t)size);
        free(form);
        done = stop;
        odd = next_odd(text, len, stop, &begin);
    }
    end = mempcpy(end, text + done, len - done);
    *out_len = (size_t)(end - out);
    if (*out_len != len || memcmp(out, text, len) != 0) return out;
    free(out); /* marks that do not compose, in order */
    return NULL;
}
