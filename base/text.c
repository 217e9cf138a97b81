/* text.c: see text.h. */
#include "base/text.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

char *text_room(Text *t, size_t n) {
    if (t->n + n + 1 > t->cap) t->s = xrealloc(t->s, t->cap = 2 * (t->n + n) + 64);
    return t->s + t->n;
}

void text_bytes(Text *t, const void *bytes, size_t n) {
    char *to = text_room(t, n);
    if (n > 0) memcpy(to, bytes, n);
    to[n] = '\0';
    t->n += n;
}

void text_put(Text *t, const char *fmt, ...) {
    for (int n = 0, room = -1; n > room;) { /* at most twice */
        char *to = text_room(t, (size_t)n);
        room = (int)(t->cap - t->n - 1 < INT_MAX ? t->cap - t->n - 1 : INT_MAX);
        va_list ap;
        va_start(ap, fmt);
        n = vsnprintf(to, (size_t)room + 1, fmt, ap);
        va_end(ap);
        CHECK(n >= 0, "format \"%s\"", fmt);
        if (n <= room) t->n += (size_t)n;
    }
}

char *text_take(Text *t) {
    char *s = t->s ? t->s : xstrdup("");
    *t = (Text){0};
    return s;
}

int text_expand(Text *t, const char *s, bool keep) {
    text_bytes(t, "", 0);
    for (const char *end; *s; s = end) {
        end = s + 1 + strcspn(s + 1, "$");
        if (strncmp(s, "$${", 3) == 0) {
            text_put(t, "${");
            end = s + 3;
        } else if (strncmp(s, "${", 2) == 0) {
            const char *close = strchr(s, '}');
            if (!close && !keep)
                return error_set(ERR_CONFIG, "\"${\" without \"}\"; write $${ for a plain ${");
            end = close ? close + 1 : s + strlen(s);
            AUTOFREE char *name = xasprintf("%.*s", (int)(end - s) - (close ? 3 : 2), s + 2);
            char *otherwise = strstr(name, ":-");
            if (otherwise) *otherwise = '\0';
            const char *value = close ? getenv(name) : NULL;
            if (otherwise && close && (!value || !*value)) value = otherwise + 2;
            int rc = 0;
            if (value)
                text_put(t, "%s", value);
            else if (keep)
                text_bytes(t, s, (size_t)(end - s));
            else
                rc = error_set(ERR_CONFIG,
                               "the environment variable %s is not set; set it, or write "
                               "${%s:-default}",
                               name, name);
            if (rc < 0) return rc;
        } else
            text_bytes(t, s, (size_t)(end - s));
    }
    return 0;
}

char *text_shape(int ndim, const int64_t *shape) {
    Text t = {0};
    for (int i = 0; i < ndim; i++) text_put(&t, "%s%" PRId64, i ? ", " : "[", shape[i]);
    text_put(&t, ndim ? "]" : "[]");
    return t.s;
}
