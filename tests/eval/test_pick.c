/* test_pick.c: the rule of the choice, on scores whose paired standard errors are known. The rest
 * is tests/e2e/test_pick.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "eval/pick.h"

#include <stdio.h>

enum { N = 4 };

/* Rows whose scores are the first one's plus shift[i], and spread[i] * (+1, -1, +1, -1): the
 * paired difference has the standard error spread[i] / sqrt(3). */
static int choose(int n, const double *shift, const double *spread) {
    double score[8][N];
    CompareRow row[8] = {0};
    const Comparison c = {.row = row, .nrow = n, .n = N};
    for (int i = 0; i < n; i++) {
        snprintf(row[i].name, sizeof row[i].name, "step %d", i);
        row[i].score = score[i];
        for (int k = 0; k < N; k++)
            score[i][k] = 10.0 * k + shift[i] + (k % 2 ? -1 : 1) * spread[i];
    }
    return pick_choose(&c);
}

static void test_rule(void **unused) {
    const double none[] = {0, 0, 0, 0};
    assert_int_equal(choose(1, (double[]){-3}, none), 0);
    /* equal: the latest; clearly better: the best, wherever it is */
    assert_int_equal(choose(4, none, none), 3);
    assert_int_equal(choose(3, (double[]){5, 0, 1}, none), 0);
    assert_int_equal(choose(3, (double[]){0, 5, 1}, none), 1);
    assert_int_equal(choose(3, (double[]){0, 1, 5}, none), 2);
    /* 0.5 below the best with a standard error of 0.577 is noise, 0.6 below is not */
    assert_int_equal(choose(3, (double[]){5, 0, 4.5}, (double[]){0, 0, 1}), 2);
    assert_int_equal(choose(3, (double[]){5, 0, 4.4}, (double[]){0, 0, 1}), 0);
    /* the latest of those within it, though an earlier one is nearer; worse ones do not count */
    assert_int_equal(choose(4, (double[]){5, 4.9, 4.6, 0}, (double[]){0, 1, 1, 1}), 2);
    /* spread that both share is no noise of the difference */
    assert_int_equal(choose(2, (double[]){5, 4.9}, (double[]){3, 3}), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rule)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
