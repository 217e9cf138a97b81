/* error.c: the one place where Rhetor's failures are put into words.
 *
 * A world error is a negative code and one message. The message lives in a buffer of the thread
 * that met the error, so a worker's message must be handed over by the worker itself (h5_fail
 * copies the first one out of a parallel loop). Nothing here allocates, because running out of
 * memory also ends up here. */
#include "base/error.h"

#include "base/log.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 4096 };

static _Thread_local char message[MESSAGE_BYTES];

void (*error_end_hook)(int status);

int error_set(int code, const char *fmt, ...) {
    CHECK(code < 0, "error code %d for \"%s\"", code, fmt);
    /* Formatted aside: the arguments may point into the old message. */
    char text[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(message, text, sizeof message);
    return code;
}

int error_wrap(int code, const char *fmt, ...) {
    char text[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return error_set(code, "%s%s%s", text, *text ? ": " : "", message);
}

const char *error_message(void) { return message; }

int error_exit_code(int code) {
    if (code >= 0) return 0;
    switch (code) {
#define X(name, code, exit) \
    case name: return exit;
        ERROR_LIST(X)
#undef X
    default: return 70; /* a negative value that is none of ours is our bug */
    }
}

void error_end(int status) {
    if (error_end_hook) error_end_hook(status);
    exit(status);
}

/* One write(2), so that the lines of several ranks do not mix. */
static void print_line(const char *text) {
    ssize_t n = write(STDERR_FILENO, text, strlen(text));
    (void)n; /* the job ends in any case */
}

void error_check_failed(const char *file, int line, const char *cond, const char *fmt, ...) {
    char what[MESSAGE_BYTES / 2], text[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    snprintf(text, sizeof text,
             "rhetor: internal error: rank %d: %s:%d: %s: %s\n"
             "rhetor: this is a bug in Rhetor, not in your input; please report it with this line "
             "and the command\n",
             log_my_rank(), file, line, cond, what);
    print_line(text);
    error_end(70);
}

/* --- memory ----------------------------------------------------------------------------------- */
static _Noreturn void out_of_memory(size_t n, size_t size) {
    char text[256];
    snprintf(text, sizeof text,
             "rhetor: out of memory: rank %d asked for %.1f MiB (%zu x %zu bytes); use a smaller "
             "model or train.micro_tokens, or fewer ranks a node\n",
             log_my_rank(), (double)n * (double)size / 1048576.0, n, size);
    print_line(text);
    error_end(70);
}

void *xmalloc(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) out_of_memory(bytes, 1);
    return p;
}

void *xcalloc(size_t n, size_t size) {
    void *p = n && size ? calloc(n, size) : calloc(1, 1);
    if (!p) out_of_memory(n, size);
    return p;
}

void *xrealloc(void *p, size_t bytes) {
    void *q = realloc(p, bytes ? bytes : 1);
    if (!q) out_of_memory(bytes, 1);
    return q;
}

void *xaligned(size_t align, size_t bytes) {
    const size_t whole = bytes > SIZE_MAX - align ? 0 : (bytes + align - 1) / align * align;
    void *p = whole || !bytes ? aligned_alloc(align, whole ? whole : align) : NULL;
    if (!p) out_of_memory(bytes, 1);
    return p;
}

char *xstrdup(const char *s) {
    size_t n = strlen(s) + 1;
    return memcpy(xmalloc(n), s, n);
}

char *xasprintf(const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    CHECK(n >= 0, "format \"%s\"", fmt);
    char *s = xmalloc((size_t)n + 1);
    vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

void xfree_at(void *pointer) {
    void *p;
    memcpy(&p, pointer, sizeof p);
    free(p);
}
