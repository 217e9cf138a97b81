/* Agreement against krippendorff, scipy, scikit-learn, statsmodels (tests/golden/agreement_golden.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "eval/agreement.h"

static json_t *golden(const char *name) {
    json_t *all, *list;
    assert_int_equal(json_read_file(&all, "tests/golden/agreement.json"), 0);
    list = json_incref(json_object_get(all, name));
    json_decref(all);
    assert_true(json_array_size(list) > 0);
    return list;
}

static double number(const json_t *o, const char *name) {
    return json_number_value(json_object_get(o, name));
}

static void close_to(double a, double b) {
    if (!(fabs(a - b) < 1e-12)) fail_msg("%.15g, expected %.15g", a, b);
}

static void alpha_is_krippendorffs(void **state) {
    json_auto_t *list = golden("alpha");
    json_t *one;
    size_t i;
    json_array_foreach(list, i, one) {
        const json_t *v = json_object_get(one, "value");
        const int64_t raters = (int64_t)json_array_size(v);
        const int64_t units = (int64_t)json_array_size(json_array_get(v, 0));
        AUTOFREE double *value = xmalloc((size_t)(raters * units) * sizeof *value);
        for (int64_t r = 0; r < raters; r++)
            for (int64_t u = 0; u < units; u++) {
                const json_t *x = json_array_get(json_array_get(v, (size_t)r), (size_t)u);
                value[r * units + u] = json_is_null(x) ? (double)NAN : json_number_value(x);
            }
        close_to(agreement_alpha(value, raters, units, ALPHA_NOMINAL), number(one, "nominal"));
        close_to(agreement_alpha(value, raters, units, ALPHA_ORDINAL), number(one, "ordinal"));
        close_to(agreement_alpha(value, raters, units, ALPHA_INTERVAL), number(one, "interval"));
    }
}

static void tau_is_scipys(void **state) {
    json_auto_t *list = golden("tau");
    json_t *one;
    size_t i;
    json_array_foreach(list, i, one) {
        double x[16], y[16];
        const size_t n = json_array_size(json_object_get(one, "x"));
        for (size_t j = 0; j < n; j++) {
            x[j] = json_number_value(json_array_get(json_object_get(one, "x"), j));
            y[j] = json_number_value(json_array_get(json_object_get(one, "y"), j));
        }
        close_to(agreement_tau(x, y, (int64_t)n), number(one, "tau"));
    }
}

static void kappas_are_theirs(void **state) {
    json_auto_t *cohen = golden("cohen"), *fleiss = golden("fleiss");
    json_t *one;
    size_t i;
    json_array_foreach(cohen, i, one) {
        const json_t *c = json_object_get(one, "count");
        const int k = (int)json_array_size(c);
        double count[9];
        for (int j = 0; j < k * k; j++)
            count[j] = json_number_value(
                json_array_get(json_array_get(c, (size_t)(j / k)), (size_t)(j % k)));
        close_to(agreement_cohen(count, k), number(one, "kappa"));
    }
    json_array_foreach(fleiss, i, one) {
        const json_t *c = json_object_get(one, "count");
        const int64_t n = (int64_t)json_array_size(c);
        const int k = (int)json_array_size(json_array_get(c, 0));
        AUTOFREE int *count = xmalloc((size_t)(n * k) * sizeof *count);
        for (int64_t j = 0; j < n * k; j++)
            count[j] = (int)json_integer_value(
                json_array_get(json_array_get(c, (size_t)(j / k)), (size_t)(j % k)));
        close_to(agreement_fleiss(count, n, k), number(one, "kappa"));
    }
}

static void what_is_not_defined_is_nan(void **state) {
    const double same[3] = {1, 1, 1}, ties[2] = {2, 2}, other[2] = {1, 2};
    const double one_class[4] = {5, 0, 0, 0};
    assert_true(isnan(agreement_alpha(same, 3, 1, ALPHA_NOMINAL)));
    assert_true(isnan(agreement_tau(ties, other, 2)));
    assert_true(isnan(agreement_cohen(one_class, 2)));
    assert_true(isnan(agreement_fleiss((const int[2]){1, 0}, 1, 2)));
    close_to(agreement_alpha((const double[4]){1, 2, 1, 2}, 2, 2, ALPHA_NOMINAL), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alpha_is_krippendorffs), cmocka_unit_test(tau_is_scipys),
        cmocka_unit_test(kappas_are_theirs), cmocka_unit_test(what_is_not_defined_is_nan)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
