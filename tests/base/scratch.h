/* scratch.h: a folder of its own for a test program, and short checks of errors. Included after
 * cmocka.h. */
#ifndef TESTS_BASE_SCRATCH_H
#define TESTS_BASE_SCRATCH_H

#include "base/error.h"
#include "base/file.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Success, or the message of the error. */
#define OK(call)                                                         \
    do {                                                                 \
        int ok_rc_ = (call);                                             \
        if (ok_rc_ < 0) print_error("%s: %s\n", #call, error_message()); \
        assert_true(ok_rc_ >= 0);                                        \
    } while (0)

/* Fails with `code` and one line that holds both texts: the place and what was found or to do. */
#define FAILS(call, code, place, text)                                                         \
    do {                                                                                       \
        assert_int_equal((call), (code));                                                      \
        const char *message_ = error_message();                                                \
        if (!strstr(message_, (place)) || !strstr(message_, (text)) || strchr(message_, '\n')) \
            fail_msg("\"%s\" lacks \"%s\" or \"%s\"", message_, (place), (text));              \
    } while (0)

static char *scratch_folder;

/* A path in the folder; the caller frees. */
__attribute__((unused)) static char *scratch(const char *name) {
    return file_join(scratch_folder, name);
}

/* Without waiting for the disk, since tests write many files: no fsync, and a new file, because
 * some file systems flush one that was truncated when it is closed. */
__attribute__((unused)) static void scratch_write(const char *path, const void *data, size_t len) {
    unlink(path);
    FILE *f = fopen(path, "w");
    if (!f || fwrite(data, 1, len, f) != len || fclose(f) != 0) fail_msg("cannot write %s", path);
}

__attribute__((unused)) static void scratch_text(const char *path, const char *text) {
    scratch_write(path, text, strlen(text));
}

__attribute__((unused)) static int scratch_make(void **unused) {
    const char *tmp = getenv("TMPDIR");
    scratch_folder = file_join(tmp && *tmp ? tmp : "/tmp", "rhetor-test-XXXXXX");
    return mkdtemp(scratch_folder) ? 0 : -1;
}

/* What is written to standard error between the two; the caller frees. */
__attribute__((unused)) static int scratch_catch(void) {
    char *path = scratch("stderr");
    fflush(stderr);
    const int keep = dup(STDERR_FILENO);
    assert_non_null(freopen(path, "w", stderr));
    free(path);
    return keep;
}

__attribute__((unused)) static char *scratch_caught(int keep) {
    char *path = scratch("stderr"), *text;
    size_t len;
    fflush(stderr);
    dup2(keep, STDERR_FILENO);
    close(keep);
    OK(file_read(path, &text, &len));
    free(path);
    return text;
}

static int scratch_remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
    return remove(path);
}

/* Removes a file, or a folder with all that is in it. */
__attribute__((unused)) static void scratch_clear(const char *path) {
    nftw(path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

__attribute__((unused)) static int scratch_remove(void **unused) {
    scratch_clear(scratch_folder);
    free(scratch_folder);
    return 0;
}

#endif
