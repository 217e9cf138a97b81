/* test_text.c: a text that grows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

static void test_grow(void **unused) {
    Text t = {0};
    char *long_word = xmalloc(3001);
    memset(long_word, 'x', 3000);
    long_word[3000] = '\0';
    for (int i = 0; i < 100; i++) {
        text_put(&t, "%d", i % 10);
        text_bytes(&t, "\0-", 2);
    }
    assert_int_equal(t.n, 300);
    text_put(&t, "%s%s", long_word, "end");
    assert_int_equal(t.n, 3303);
    assert_memory_equal(t.s + 3, "1\0-2", 4);
    assert_string_equal(t.s + 3299, "xend");
    free(text_take(&t));
    assert_null(t.s);
    char *nothing = text_take(&t);
    assert_string_equal(nothing, "");
    free(nothing);
    free(long_word);
}

static void expands(const char *s, bool keep, const char *expected) {
    Text t = {0};
    assert_int_equal(text_expand(&t, s, keep), 0);
    assert_string_equal(t.s, expected);
    free(t.s);
}

static void test_expand(void **unused) {
    setenv("RHETOR_A", "a", 1);
    unsetenv("RHETOR_NONE");
    for (int keep = 0; keep < 2; keep++) {
        expands("", keep, "");
        expands("$x ${RHETOR_A}/${RHETOR_NONE:-b}$", keep, "$x a/b$");
        expands("$${RHETOR_A} $$", keep, "${RHETOR_A} $$");
    }
    expands("${RHETOR_NONE}${RHETOR_A} ${", true, "${RHETOR_NONE}a ${");
    Text t = {0};
    assert_int_equal(text_expand(&t, "${RHETOR_NONE}", false), ERR_CONFIG);
    assert_non_null(strstr(error_message(), "RHETOR_NONE is not set"));
    assert_int_equal(text_expand(&t, "${RHETOR_A", false), ERR_CONFIG);
    free(t.s);
}

static void test_shape(void **unused) {
    char *s = text_shape(2, (int64_t[]){3, 4}), *none = text_shape(0, NULL);
    assert_string_equal(s, "[3, 4]");
    assert_string_equal(none, "[]");
    free(s);
    free(none);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_grow), cmocka_unit_test(test_expand),
                                       cmocka_unit_test(test_shape)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
