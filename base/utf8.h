/* utf8.h: text that may be no UTF-8. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the well-formed character at s (n > 0 bytes are left), 0 if there is none. */
size_t utf8_char(const char *s, size_t n);
uint32_t utf8_code(const char *s, size_t n); /* the code point of that character */
/* Length of the valid UTF-8 at the beginning of text: len if it is valid altogether. */
size_t utf8_valid(const char *text, size_t len);
/* Bytes at the end of text that begin a character and are not all of it: 0 to 3. */
size_t utf8_begun(const char *text, size_t len);
/* A copy in which U+FFFD stands for what is not valid, as in Python's errors="replace". malloc'd. */
char *utf8_repair(const char *text, size_t len, size_t *out_len);

#endif
