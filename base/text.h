/* text.h: a text that grows. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stddef.h>

typedef struct Text {
    char *s; /* malloc'd, the caller's; NULL at first */
    size_t n;
} Text;

/* Appends. */
void text_put(Text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
