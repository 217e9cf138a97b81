/* The vector maths against libm, in units in the last place, in every version of the kernels. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/vecmath.h"

enum { N = 1 << 16 };
static const double MAX_ULP = 2;

KERNEL(exp_all, (const float *restrict x, float *restrict y), (x, y)) {
    for (int i = 0; i < N; i++) y[i] = vm_expf(x[i]);
}
KERNEL(log_all, (const float *restrict x, float *restrict y), (x, y)) {
    for (int i = 0; i < N; i++) y[i] = vm_logf(x[i]);
}
KERNEL(erf_all, (const float *restrict x, float *restrict y), (x, y)) {
    for (int i = 0; i < N; i++) y[i] = vm_erff(x[i]);
}

static double ulp(double want) {
    int e;
    frexp(want, &e);
    return ldexp(1, (e < -125 ? -125 : e) - FLT_MANT_DIG);
}

static void compare(const char *name, void (*all)(const float *, float *), double (*libm)(double),
                    double lo, double hi, bool geometric) {
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    for (int i = 0; i < N; i++) {
        double s = (double)i / (N - 1);
        x[i] = (float)(geometric ? lo * pow(hi / lo, s) : lo + (hi - lo) * s);
    }
    for (KernelLevel level = KERNEL_PLAIN; level <= kernel_supported(); level++) {
        kernel_level = level;
        all(x, y);
        for (int i = 0; i < N; i++) {
            double want = libm((double)x[i]), off = fabs((double)y[i] - want) / ulp(want);
            if (!(off <= MAX_ULP))
                fail_msg("%s(%.9g), %s: %.9g, expected %.9g, %.2f ULP off", name, (double)x[i],
                         kernel_name(level), (double)y[i], want, off);
        }
    }
    free(x);
    free(y);
}

static void test_exp(void **state) {
    compare("exp", exp_all, exp, -86.5, 88.7, false);
    compare("exp", exp_all, exp, -1, 1, false);
    compare("exp", exp_all, exp, 1e-20, 1, true);
    assert_true(vm_expf(-90) == 0 && vm_expf(-HUGE_VALF) == 0);
    assert_true(isinf(vm_expf(89)) && isinf(vm_expf(HUGE_VALF)));
    assert_true(isnan(vm_expf((float)NAN)));
    assert_true(vm_expf(0) == 1);
}

static void test_log(void **state) {
    compare("log", log_all, log, 1.2e-38, 3.4e38, true);
    compare("log", log_all, log, 0.5, 2, false);
    compare("log", log_all, log, 0.999, 1.001, false);
    assert_true(vm_logf(0) == -HUGE_VALF && vm_logf(HUGE_VALF) == HUGE_VALF);
    assert_true(isnan(vm_logf(-1)) && isnan(vm_logf((float)NAN)));
    assert_true(vm_logf(1) == 0);
}

static void test_erf(void **state) {
    compare("erf", erf_all, erf, -5, 5, false);
    compare("erf", erf_all, erf, 1e-30, 1, true);
    assert_true(vm_erff(HUGE_VALF) == 1 && vm_erff(-HUGE_VALF) == -1 && vm_erff(0) == 0);
    assert_true(isnan(vm_erff((float)NAN)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_erf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
