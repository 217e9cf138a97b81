/* utf8.c: table 3-7 of the Unicode standard, well-formed byte sequences. */
#include "base/utf8.h"

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Is s a well-formed character, *n bytes long? If not, *n bytes are the beginning of one ("maximal
 * subpart") or a byte that cannot begin one. */
static inline bool well_formed(const unsigned char *s, size_t left, size_t *n) {
    const unsigned char c = s[0];
    *n = 1;
    if (c < 0x80) return true;
    if (c < 0xC2 || c > 0xF4) return false;
    const size_t want = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    unsigned char low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80; /* else written too long */
    /* beyond it: a surrogate, or above U+10FFFF */
    unsigned char high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    for (; *n < want; ++*n, low = 0x80, high = 0xBF)
        if (*n == left || s[*n] < low || s[*n] > high) return false;
    return true;
}

size_t utf8_char(const char *s, size_t left) {
    size_t n;
    return well_formed((const unsigned char *)s, left, &n) ? n : 0;
}

uint32_t utf8_code(const char *s, size_t n) {
    const uint8_t *c = (const uint8_t *)s;
    uint32_t code = n == 1 ? c[0] : c[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) code = code << 6 | (c[i] & 63u);
    return code;
}

size_t utf8_valid(const char *text, size_t len) {
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0, n; i < len; i += n) {
        uint64_t eight;
        if (i + 8 <= len && (memcpy(&eight, s + i, 8), (eight & 0x8080808080808080u) == 0))
            n = 8;
        else if (!well_formed(s + i, len - i, &n))
            return i;
    }
    return len;
}

size_t utf8_begun(const char *text, size_t len) {
    for (size_t k = 1; k <= 3 && k <= len; k++) {
        const unsigned char *s = (const unsigned char *)text + len - k;
        size_t n;
        if (*s >= 0xC2 && *s <= 0xF4) return !well_formed(s, k, &n) && n == k ? k : 0;
    }
    return 0;
}

char *utf8_repair(const char *text, size_t len, size_t *out_len) {
    char *repaired = xmalloc(3 * len + 1), *end = repaired;
    while (len > 0) {
        size_t good = utf8_valid(text, len), bad = 0;
        end = mempcpy(end, text, good);
        if (good < len) {
            well_formed((const unsigned char *)text + good, len - good, &bad);
            end = mempcpy(end, "\xEF\xBF\xBD", 3);
        }
        text += good + bad;
        len -= good + bad;
    }
    *end = '\0';
    *out_len = (size_t)(end - repaired);
    return repaired;
}
