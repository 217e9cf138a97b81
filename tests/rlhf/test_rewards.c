/* Rules, and a program that answers lines with numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/text.h"
#include "rlhf/rewards.h"
#include "tests/base/scratch.h"

static void test_numbers(void **state) {
    static const struct {
        const char *text, *want;
        bool same;
    } v[] = {{"so it is 42.", "#### 42", true},
             {"first 3, then 1,234 apples", "work 5\n#### 1234", true},
             {"$1,234.50", "1234.5", true},
             {"-7", "-7", true},
             {"7", "-7", false},
             {"5-7", "7", false}, /* minus seven */
             {"41", "42", false},
             {"4 2", "42", false},
             {"no number", "42", false},
             {"42", "none", false},
             {"", "", false},
             {"0.0", "0", true},
             {"1.2.3", "3", false}, /* no number: reads 1.2 */
             {"3.", "3", true}};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        if (rewards_same_number(v[i].text, v[i].want) != v[i].same)
            fail_msg("\"%s\" and \"%s\"", v[i].text, v[i].want);
}

/* More than pipes hold, in both directions, with a program that reads everything first. */
static void test_large(void **state) {
    enum { N = 50000 };
    Coprocess *c = coprocess_new("i=0; while [ $i -lt 50000 ]; do read -r x; i=$((i + 1)); done; "
                                 "i=0; while [ $i -lt 50000 ]; do echo $i; i=$((i + 1)); done",
                                 60);
    Text t = {0};
    double *v = xmalloc(N * sizeof *v);
    for (int i = 0; i < N; i++) text_put(&t, "a line of some length that fills a pipe\n");
    OK(coprocess_ask(c, t.s, t.n, N, v));
    for (int i = 0; i < N; i++) assert_true(v[i] == i);
    assert_int_equal(coprocess_restarts(c), 0);
    free(t.s);
    free(v);
    coprocess_close(&c);
}

static void test_stays(void **state) {
    Coprocess *c = coprocess_new("n=0; while read -r x; do n=$((n + 1)); echo $n; done", 60);
    double v[2];
    OK(coprocess_ask(c, "a\nb\n", 4, 2, v));
    assert_true(v[0] == 1 && v[1] == 2);
    OK(coprocess_ask(c, "a\n", 2, 1, v));
    assert_true(v[0] == 3);
    coprocess_close(&c);
    coprocess_close(&c);
}

static void test_failures(void **state) {
    double v[2];
    Coprocess *c = coprocess_new("exit 1", 60);
    const int keep = scratch_catch();
    FAILS(coprocess_ask(c, "a\nb\n", 4, 2, v), ERR_IO, "exit 1: ended", "3 times in a row");
    assert_int_equal(coprocess_restarts(c), 2);
    coprocess_close(&c);
    c = coprocess_new("sleep 100", 0.1);
    FAILS(coprocess_ask(c, "a\n", 2, 1, v), ERR_IO, "sleep 100", "did not answer in time");
    coprocess_close(&c);
    c = coprocess_new("read -r x; echo nan; read -r x", 60);
    FAILS(coprocess_ask(c, "a\n", 2, 1, v), ERR_DATA, "line 1", "\"nan\", expected a number");
    coprocess_close(&c);
    c = coprocess_new("/no/such/program", 60);
    FAILS(coprocess_ask(c, "a\n", 2, 1, v), ERR_IO, "/no/such", "3 times in a row");
    coprocess_close(&c);
    free(scratch_caught(keep));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers), cmocka_unit_test(test_large),
                                       cmocka_unit_test(test_stays),
                                       cmocka_unit_test(test_failures)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
