/* text.h: a text, or any bytes, that grow. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Text {
    char *
        s; /* malloc'd, the caller's; NULL until something is put in, then a NUL follows s[n - 1] */
    size_t n, cap;
} Text;

void text_put(Text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_bytes(Text *t, const void *bytes, size_t n);
/* Room for n more bytes: where they go. Who fills it adds what came to t->n and ends it with a NUL
 * if it is to be a string. */
char *text_room(Text *t, size_t n);
char *text_take(Text *t); /* what it holds, "" for nothing; the text is empty afterwards */

/* Puts s with ${NAME} and ${NAME:-default} from the environment; $${ stands for ${. A name that is
 * not set, without default: stays as it is written where `keep` is set, else ERR_CONFIG. */
int text_expand(Text *t, const char *s, bool keep);

#define TEXT_S(n) ((n) == 1 ? "" : "s") /* the s of a plural */

char *text_shape(int ndim, const int64_t *shape); /* "[3, 4]", malloc'd */

#endif
