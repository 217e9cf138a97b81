/* TensorBoard's event files: the bytes are those of TensorBoard's own writer (the golden file), and
 * what is read back after a torn end and a step back is every step once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/base/scratch.h"
#include "train/events.h"

/* The only event file of a folder. */
static char *event_file(const char *dir) {
    char **names, *path = NULL;
    int n;
    OK(file_list(dir, &names, &n));
    for (int i = 0; i < n; i++) {
        if (!strstr(names[i], "tfevents")) continue;
        assert_null(path);
        path = file_join(dir, names[i]);
    }
    file_free_list(&names, n);
    assert_non_null(path);
    return path;
}

static char *content(const char *dir, size_t *len) {
    char *path = event_file(dir), *data;
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

static void test_golden(void **state) {
    static const char words[] = "a\n\nb\xC3\xA9";
    char *dir = scratch("golden"), *golden, text[300];
    size_t want, have;
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

    OK(file_read("tests/golden/events.tfevents", &golden, &want));
    char *mine = content(dir, &have);
    assert_int_equal(have, want);
    const char *a, *b;
    uint64_t n, m;
    for (size_t at = 0, to = 0; (a = record(golden, want, &at, &n)) != NULL;) {
        b = record(mine, have, &to, &m);
        assert_int_equal(n, m);
        assert_memory_equal(a - 12, b - 12, 12);  /* length and its checksum */
        assert_memory_equal(a, b, 1);             /* the key of the time */
        assert_memory_equal(a + 9, b + 9, n - 9); /* what follows it */
    }
    /* The golden file is a good event file of ours: the checksums of its data are accepted. */
    char *other = scratch("golden2"), *path = file_join(other, "events.out.tfevents.0000000001.x");
    OK(file_make_dirs(other));
    scratch_write(path, golden, want);
    OK(events_open(&e, other, 1000));
    events_close(&e);
    char *copy = content(other, &have);
    assert_int_equal(have, want);
    assert_memory_equal(copy, golden, want);
    free(copy), free(path), free(other), free(mine), free(golden), free(dir);
}

static void steps(Events *e, int64_t first, int64_t last) {
    for (int64_t s = first; s <= last; s++) {
        events_scalar(e, "loss", (double)s);
        OK(events_flush(e, s));
    }
}

/* The steps of the file, each with the loss that is its number: the float ends the record. */
static void assert_steps(const char *dir, int64_t last) {
    size_t len, at = 0;
    uint64_t n = 0;
    char *file = content(dir, &len);
    const char *data = record(file, len, &at, &n);
    assert_memory_equal(data + n - 13, "brain.Event:2", 13);
    for (int64_t s = 1; s <= last; s++) {
        float loss;
        assert_non_null(data = record(file, len, &at, &n));
        assert_int_equal(data[10], s);
        memcpy(&loss, data + n - 4, 4);
        assert_true(loss == (float)s);
    }
    assert_null(record(file, len, &at, &n));
    free(file);
}

static void test_resume(void **state) {
    char *dir = scratch("steps");
    Events *e;
    OK(file_make_dirs(dir));
    OK(events_open(&e, dir, 0));
    steps(e, 1, 7);
    events_close(&e);
    char *path = event_file(dir), *text;
    size_t len;
    OK(file_append(path, "\x20\0\0\0\0\0", 6)); /* torn */
    free(path);
    OK(events_open(&e, dir, 5)); /* the checkpoint is of step 5 */
    assert_steps(dir, 5);
    steps(e, 6, 9);
    events_close(&e);
    assert_steps(dir, 9);
    path = event_file(dir);
    OK(file_read(path, &text, &len));
    text[len - 30] ^= 1; /* in step 9: the checksum tells */
    scratch_write(path, text, len);
    OK(events_open(&e, dir, 9));
    assert_steps(dir, 8);
    events_close(&e);
    OK(events_open(&e, dir, 0)); /* begun anew */
    assert_steps(dir, 0);
    steps(e, 1, 2);
    events_close(&e);
    assert_steps(dir, 2);
    free(text), free(path), free(dir);
}

static void test_errors(void **state) {
    Events *e;
    assert_int_equal(events_open(&e, "/nonexistent", 0), ERR_IO);
    assert_null(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
