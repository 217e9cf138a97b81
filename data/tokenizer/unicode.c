/* unicode.c: text to Unicode's normalization forms C, D, KC and KD, which some tokenizers ask for.
 *
 * Nearly all text is in form C, so what matters is to see it fast. A character is plain if it is
 * its own form, is no mark and, where forms compose, no later part of a Hangul syllable: then
 * nothing before it changes it or joins it, and the text may be cut before it. Only what is not
 * plain, with the one plain character before it, goes through utf8proc.
 *
 * Hugging Face's library has the tables of Unicode 9. Characters that are later are plain here,
 * too, so that the forms are the same. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "data/tokenizer/tokenizer_impl.h"

/* What utf8proc decomposes, reorders or takes for a mark and Unicode 9 does not have; between these
 * is nothing that would matter. */
static const int32_t later[][2] = {
    {0x7fd, 0x7fd},     {0x898, 0x8d3},     {0x9fe, 0x9fe},     {0xafa, 0xaff},
    {0xb55, 0xb55},     {0xc04, 0xc3c},     {0xcf3, 0xd00},     {0xd3b, 0xd3c},
    {0xd81, 0xd81},     {0xeba, 0xeba},     {0xece, 0xece},     {0x1715, 0x1715},
    {0x180f, 0x180f},   {0x1abf, 0x1ace},   {0x1cf7, 0x1cf7},   {0x1df6, 0x1dfa},
    {0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},   {0xa82c, 0xa82c},   {0xa8ff, 0xa8ff},
    {0xab69, 0xab69},   {0x10781, 0x107ba}, {0x10d24, 0x10f85}, {0x11070, 0x11074},
    {0x110c2, 0x110c2}, {0x11145, 0x11146}, {0x111c9, 0x111c9}, {0x111ce, 0x111cf},
    {0x11241, 0x11241}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x1182c, 0x11a99},
    {0x11d31, 0x13455}, {0x16f4f, 0x16f4f}, {0x16f7f, 0x16f87}, {0x16fe4, 0x16ff1},
    {0x1cf00, 0x1cf46}, {0x1e030, 0x1e4ef}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9}};

static bool is_later(int32_t c) {
    for (size_t i = 0; i < sizeof later / sizeof *later && c >= later[i][0]; i++)
        if (c <= later[i][1]) return true;
    return false;
}

bool unicode_is_mark(int32_t c) {
    if (c == 0x1cf2 || c == 0x1cf3) return true; /* until Unicode 12 */
    const utf8proc_category_t category = utf8proc_category(c);
    return (category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
            category == UTF8PROC_CATEGORY_ME) &&
           !is_later(c);
}

enum { CHARACTERS = 0x30000 }; /* all later ones are plain */
static uint8_t plain[UNICODE_FORMS][CHARACTERS / 8];

static const utf8proc_option_t options[UNICODE_FORMS] = {
    [FORM_C] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
    [FORM_D] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
    [FORM_KC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
    [FORM_KD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};

static bool is_plain(UnicodeForm form, int32_t c) {
    int32_t parts[32];
    int unused;
    if (is_later(c)) return true;
    if (c >= 0x1160 && c < 0x1200) return false; /* vowels and finals of Hangul */
    if (unicode_is_mark(c)) return false;
    const utf8proc_ssize_t n = utf8proc_decompose_char(c, parts, 32, options[form], &unused);
    return n >= 1 && n <= 32 && utf8proc_normalize_utf32(parts, n, options[form]) == 1 &&
           parts[0] == c;
}

static void find_plain(UnicodeForm form) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool found[UNICODE_FORMS];
    if (__atomic_load_n(&found[form], __ATOMIC_ACQUIRE)) return;
    pthread_mutex_lock(&lock);
    for (int32_t c = 0; !found[form] && c < CHARACTERS; c++)
        if (is_plain(form, c)) plain[form][c / 8] |= (uint8_t)(1 << c % 8);
    __atomic_store_n(&found[form], true, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
}

/* The character at s, its bytes in *n; -1: not UTF-8, one byte. */
static int32_t char_at(const char *s, size_t len, size_t *n) {
    int32_t c;
    *n = utf8_char(s, len);
    if (*n == 0) return *n = 1, -1;
    utf8proc_iterate((const uint8_t *)s, (utf8proc_ssize_t)*n, &c);
    return c;
}

/* Is the character at s plain? *n: its bytes. What is not UTF-8 is plain and stays as it is. */
static bool plain_at(UnicodeForm form, const char *s, size_t len, size_t *n) {
    if ((uint8_t)s[0] < 0x80) return *n = 1, true;
    const int32_t c = char_at(s, len, n);
    return c < 0 || c >= CHARACTERS || (plain[form][c / 8] >> c % 8 & 1);
}

/* The first character from i on that is not plain; len: none. *before: where the one before it
 * begins, or i. */
static size_t next_odd(UnicodeForm form, const char *s, size_t len, size_t i, size_t *before) {
    *before = i;
    for (size_t n; i < len && plain_at(form, s + i, len - i, &n); i += n) *before = i;
    return i;
}

char *unicode_form(UnicodeForm form, const char *text, size_t len, size_t *out_len) {
    find_plain(form);
    size_t done = 0, begin, n;
    size_t odd = next_odd(form, text, len, 0, &begin);
    if (odd == len) return NULL;
    char *out;
    FILE *f = open_memstream(&out, out_len);
    CHECK(f, "out of memory");
    while (odd < len) {
        size_t stop = odd;
        while (stop < len && !plain_at(form, text + stop, len - stop, &n)) stop += n;
        const int32_t before = begin < odd ? char_at(text + begin, len - begin, &n) : 0;
        if (before < 0 || is_later(before)) begin = odd; /* takes no mark */
        fwrite_unlocked(text + done, 1, begin - done, f);
        uint8_t *changed;
        const utf8proc_ssize_t size =
            utf8proc_map((const uint8_t *)text + begin, (utf8proc_ssize_t)(stop - begin), &changed,
                         options[form]);
        CHECK(size >= 0, "utf8proc: %s", utf8proc_errmsg(size));
        fwrite_unlocked(changed, 1, (size_t)size, f);
        free(changed);
        done = stop;
        odd = next_odd(form, text, len, stop, &begin);
    }
    fwrite_unlocked(text + done, 1, len - done, f);
    CHECK(fclose(f) == 0, "out of memory");
    if (*out_len != len || memcmp(out, text, len) != 0) return out;
    free(out); /* marks that do not compose, in order */
    return NULL;
}
