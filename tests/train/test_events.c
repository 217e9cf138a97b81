/* TensorBoard's event files: the bytes are those of TensorBoard's own writer (the golden file), and
 * a resumed run begins another file, which tells readers to forget the steps that it does again
 * (tests/e2e/test_tensorboard.sh has TensorBoard read such files). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/base/scratch.h"
#include "train/events.h"

/* The i-th event file of a folder that has n. */
static char *content(const char *dir, int i, int n, size_t *len) {
    char **names, *path = NULL, *data;
    int all, ours = 0;
    OK(file_list(dir, &names, &all));
    for (int k = 0; k < all; k++) {
        if (!strstr(names[k], "tfevents")) continue;
        if (ours++ == i) path = file_join(dir, names[k]);
    }
    file_free_list(&names, all);
    assert_int_equal(ours, n);
    OK(file_read(path, &data, len));
    free(path);
    return data;
}

/* The record at *at: its data; moves on. */
static const char *record(const char *file, size_t size, size_t *at, uint64_t *n) {
    if (*at == size) return NULL;
    assert_true(*at + 16 <= size);
    memcpy(n, file + *at, 8);
    assert_true(*n <= size - *at - 16);
    const char *data = file + *at + 12;
    *at += *n + 16;
    return data;
}

/* The i-th file of n in `dir` is the golden one but for the times. */
static void assert_golden(const char *dir, int i, int n, const char *path) {
    size_t want, have, to = 0;
    uint64_t size, mine_size;
    char *golden, *mine = content(dir, i, n, &have);
    OK(file_read(path, &golden, &want));
    assert_int_equal(have, want);
    const char *a, *b;
    for (size_t at = 0; (a = record(golden, want, &at, &size)) != NULL;) {
        b = record(mine, have, &to, &mine_size);
        assert_int_equal(size, mine_size);
        assert_memory_equal(a - 12, b - 12, 12);     /* length and its checksum */
        assert_memory_equal(a, b, 1);                /* the key of the time */
        assert_memory_equal(a + 9, b + 9, size - 9); /* what follows it */
    }
    free(mine), free(golden);
}

static void test_golden(void **state) {
    static const char words[] = "a\n\nb\xC3\xA9";
    char *dir = scratch("golden"), text[300];
    Events *e;
    OK(file_make_dirs(dir));
    OK(events_open(&e, dir, 0));
    events_scalar(e, "loss", 2.5);
    events_scalar(e, "lr", 3e-4);
    events_scalar(e, "nan", (double)__builtin_nanf(""));
    OK(events_flush(e, 1));
    OK(events_flush(e, 2)); /* nothing: no record */
    memset(text, 'x', sizeof text);
    memcpy(text, words, strlen(words));
    events_scalar(e, "loss", -1e30);
    events_text(e, "samples", text, strlen(words) + 200);
    OK(events_flush(e, 300));
    events_close(&e);
    assert_golden(dir, 0, 1, "tests/golden/events.tfevents");

    /* resumed after step 1, in the same second: its name comes after the first one's */
    OK(events_open(&e, dir, 1));
    events_scalar(e, "loss", 1.5);
    OK(events_flush(e, 2));
    events_close(&e);
    assert_golden(dir, 0, 2, "tests/golden/events.tfevents");
    assert_golden(dir, 1, 2, "tests/golden/events_resumed.tfevents");
    free(dir);
}

/* Begun again from the start: nothing of the earlier files counts, nor do steps from 0 on. */
static void test_from_the_start(void **state) {
    char *dir = scratch("start");
    size_t len, at = 0;
    uint64_t n = 0;
    OK(file_make_dirs(dir));
    for (int i = 0; i < 3; i++) {
        Events *e;
        OK(events_open(&e, dir, 0));
        events_close(&e);
    }
    char *file = content(dir, 2, 3, &len);
    const char *data = record(file, len, &at, &n);
    assert_memory_equal(data + n - 13, "brain.Event:2", 13);
    data = record(file, len, &at, &n);
    assert_int_equal(n, 15);
    assert_memory_equal(data + 9, "\x10\0\x3a\x02\x08\x01", 6); /* step 0; session_log START */
    assert_null(record(file, len, &at, &n));
    free(file), free(dir);
}

static void test_errors(void **state) {
    Events *e;
    assert_int_equal(events_open(&e, "/nonexistent", 0), ERR_IO);
    assert_null(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_from_the_start),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
