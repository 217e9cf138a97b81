/* What several models' scores are together, against NumPy's mean, min, var and std. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "rlhf/ensemble.h"

static void test_score(void **state) {
    static const struct {
        double r[4];
        int n;
        double mean, worst, uncertainty, sd; /* weight 0.3 */
    } of[] = {
        {{0.5, -1.25, 2}, 3, 0.4166666666666667, -1.25, -0.11249999999999999, 1.3281147875424357},
        {{1.5, 1.5}, 2, 1.5, 1.5, 1.5, 0},
        {{3, -7, 0.25, 0.125}, 4, -0.90625, -7, -5.0157226562499995, 3.7011136415273715}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        const double *r = of[i].r;
        double sd;
        assert_float_equal(ensemble_score(r, of[i].n, ENSEMBLE_MEAN, 0.3, &sd), of[i].mean, 1e-12);
        assert_float_equal(sd, of[i].sd, 1e-12);
        assert_float_equal(ensemble_score(r, of[i].n, ENSEMBLE_WORST, 0.3, &sd), of[i].worst, 0);
        assert_float_equal(ensemble_score(r, of[i].n, ENSEMBLE_UNCERTAINTY, 0.3, &sd),
                           of[i].uncertainty, 1e-12);
        assert_float_equal(ensemble_score(r, of[i].n, ENSEMBLE_FIRST, 0.3, &sd), r[0], 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_score)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
