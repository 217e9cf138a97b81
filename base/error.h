/* error.h: how Rhetor fails.
 *
 * 1. A programmer's error (shape mismatch, impossible value): CHECK ends the job at once.
 * 2. The world's error (file, config, data, disk, memory): the function returns a negative code
 *    from ERROR_LIST after error_set() stored one message: where, what was found, what was
 *    expected, what to do. Callers hand it up with TRY; main() prints it once and leaves with
 *    error_exit_code().
 * 3. Under MPI, after a step that can fail on some ranks only, comm_agree(rc) makes all ranks
 *    leave together (dist/comm.h). */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stddef.h>

/* name, code, exit status of the process */
#define ERROR_LIST(X)       \
    X(ERR_USAGE, -1, 64)    \
    X(ERR_DATA, -2, 65)     \
    X(ERR_INTERNAL, -3, 70) \
    X(ERR_MEMORY, -4, 70)   \
    X(ERR_IO, -5, 74)       \
    X(ERR_REQUEUE, -6, 75)  \
    X(ERR_CONFIG, -7, 78)

enum {
#define X(name, code, exit) name = code,
    ERROR_LIST(X)
#undef X
};

/* Stores the message (this thread's last one) and returns `code`, so that one writes
 * `return error_set(ERR_DATA, "%s:%d: ...", path, line);`. Not collective. */
int error_set(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3), cold));

/* Puts "context: " before the stored message; returns `code`. */
int error_wrap(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3), cold));

const char *error_message(void); /* the last message stored by this thread, "" if none */
int error_exit_code(int code);   /* 0 for code >= 0, else the exit status of ERROR_LIST */

/* Ends the job with exit status `status`: through the hook (dist/ sets it to one that calls
 * MPI_Abort), else exit(). Does not print. */
void error_end(int status) __attribute__((noreturn, cold));
extern void (*error_end_hook)(int status);

/* Prints "rhetor: internal error: rank R: file:line: ..." and ends the job with 70. */
void error_check_failed(const char *file, int line, const char *cond, const char *fmt, ...)
    __attribute__((noreturn, cold, format(printf, 4, 5)));

/* Hands an error up. `call` returns an int, negative for an error. */
#define TRY(call)                        \
    do {                                 \
        int try_rc_ = (call);            \
        if (try_rc_ < 0) return try_rc_; \
    } while (0)

/* The same in a function with one exit label: sets `rc` and jumps. */
#define TRY_GOTO(label, call)   \
    do {                        \
        rc = (call);            \
        if (rc < 0) goto label; \
    } while (0)

/* Always compiled in. */
#define CHECK(cond, ...)                                                \
    do {                                                                \
        if (__builtin_expect(!(cond), 0))                               \
            error_check_failed(__FILE__, __LINE__, #cond, __VA_ARGS__); \
    } while (0)

/* Memory: never return NULL; out of memory ends the job with a message that names the size. */
void *xmalloc(size_t bytes);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t bytes);
void *xaligned(size_t align, size_t bytes); /* a power of two; at least one whole `align` */
char *xstrdup(const char *s);
/* Room for one more than the n entries of an array that has room for cap. */
#define XGROW(array, n, cap)                                          \
    do {                                                              \
        if ((n) < (cap)) break;                                       \
        (cap) = 2 * (cap) + 64;                                       \
        (array) = xrealloc((array), (size_t)(cap) * sizeof *(array)); \
    } while (0)
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Before the declaration of a pointer: what it points to is freed where its scope is left, by
 * whichever way. (json_auto_t of jansson does the same for JSON.) */
#define AUTOFREE __attribute__((cleanup(xfree_at)))
void xfree_at(void *pointer);

#endif
