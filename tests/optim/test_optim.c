/* Gradient norm, clipping, schedules, moving average. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/config.h"
#include "base/error.h"
#include "core/kernel.h"
#include "optim/optim.h"

#include <math.h>

static void make_params(ParamSet *ps) {
    *ps = (ParamSet){0};
    paramset_add(ps, "a", 1, (int64_t[]){3}, false);
    paramset_add(ps, "b", 2, (int64_t[]){251, 301}, true);
    paramset_alloc(ps, true);
    for (int64_t i = 0; i < tensor_size(&ps->v[1].tensor); i++)
        ps->v[1].tensor.data[i] = (real)sin((double)i);
}

static void near(double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance * fabs(want))) fail_msg("%.17g, expected %.17g", got, want);
}

static void test_norm(void **state) {
    ParamSet ps;
    make_params(&ps);
    assert_true(grad_norm(&ps) == 0);
    ps.v[0].tensor.grad[0] = 3;
    ps.v[1].tensor.grad[70000] = -4;
    assert_true(grad_norm(&ps) == 5);

    double sum = 0;
    for (int k = 0; k < ps.n; k++)
        for (int64_t i = 0; i < tensor_size(&ps.v[k].tensor); i++) {
            real *g = &ps.v[k].tensor.grad[i];
            *g = (real)cos((double)(i * (k + 2)));
            sum += (double)*g * (double)*g;
        }
    near(grad_norm(&ps), sqrt(sum), 1e-13);

    /* squares beyond float's range */
    paramset_zero_grad(&ps);
    ps.v[1].tensor.grad[5] = (real)3e30;
    ps.v[1].tensor.grad[75000] = (real)4e30;
    near(grad_norm(&ps), 5e30, 1e-6);

    static const int64_t places[] = {0, 1, 15, 16, 16383, 16384, 75550};
    for (size_t k = 0; k < sizeof places / sizeof places[0]; k++) {
        real *g = &ps.v[1].tensor.grad[places[k]];
        *g = (real)NAN;
        assert_true(isnan(grad_norm(&ps)));
        *g = (real)-INFINITY;
        assert_true(isinf(grad_norm(&ps)));
        *g = 0;
    }
    paramset_free(&ps);
}

static void test_clip(void **state) {
    assert_true(grad_clip_scale(0.5, 1) == 1);
    assert_true(grad_clip_scale(1, 1) == 1);
    assert_true(grad_clip_scale(4, 1) == 0.25);
    assert_true(grad_clip_scale(0, 1) == 1);
    assert_true(grad_clip_scale(1e30, 0) == 1);
    /* never a usable number for a gradient that is not finite, clipping or not */
    assert_true(isnan(grad_clip_scale((double)NAN, 1)));
    assert_true(isnan(grad_clip_scale((double)INFINITY, 1)));
    assert_true(isnan(grad_clip_scale((double)NAN, 0)));
    assert_true(isnan(grad_clip_scale((double)INFINITY, 0)));
}

static void test_schedule(void **state) {
    Schedule s = {.kind = SCHEDULE_COSINE, .peak = 1e-3, .end = 0.1, .warmup = 100, .steps = 2000};
    near(schedule_lr(&s, 0), 1e-5, 1e-12); /* not 0 */
    near(schedule_lr(&s, 49), 5e-4, 1e-12);
    near(schedule_lr(&s, 99), 1e-3, 1e-12);
    near(schedule_lr(&s, 100), 1e-3, 1e-12);
    near(schedule_lr(&s, 1999), 1e-4, 1e-12);
    near(schedule_lr(&s, 5000), 1e-4, 1e-12);
    /* torch.optim.lr_scheduler.CosineAnnealingLR: eta_min + (peak - eta_min)(1 + cos(pi t/T))/2 */
    for (int64_t t = 0; t <= 1899; t++)
        near(schedule_lr(&s, 100 + t),
             1e-4 + (1e-3 - 1e-4) * (1 + cos(3.14159265358979323846 * (double)t / 1899)) / 2,
             1e-12);
    for (int64_t t = 1; t < 2000; t++)
        assert_true(t < 100 ? schedule_lr(&s, t) > schedule_lr(&s, t - 1)
                            : schedule_lr(&s, t) <= schedule_lr(&s, t - 1));

    s.kind = SCHEDULE_LINEAR;
    s.end = 0;
    near(schedule_lr(&s, 100), 1e-3, 1e-12);
    near(schedule_lr(&s, 1050 - 1), 1e-3 * (1999.0 - 1049) / 1899, 1e-12);
    assert_true(schedule_lr(&s, 1999) == 0);

    s.kind = SCHEDULE_CONSTANT;
    near(schedule_lr(&s, 1999), 1e-3, 1e-12);
    near(schedule_lr(&s, 9), 1e-4, 1e-12);

    s = (Schedule){.kind = SCHEDULE_LINEAR,
                   .peak = 1,
                   .end = 0.5,
                   .warmup_from = 0.2,
                   .warmup = 4,
                   .steps = 8};
    static const double want[8] = {0.4, 0.6, 0.8, 1, 1, 1 - 0.5 / 3, 1 - 1.0 / 3, 0.5};
    for (int t = 0; t < 8; t++) near(schedule_lr(&s, t), want[t], 1e-12);

    /* nothing but warm-up; a single step; no warm-up at all: never 0, never NaN */
    s = (Schedule){.kind = SCHEDULE_COSINE, .peak = 1, .warmup = 10, .steps = 10};
    near(schedule_lr(&s, 9), 1, 1e-12);
    s = (Schedule){.kind = SCHEDULE_COSINE, .peak = 1, .warmup = 9, .steps = 10};
    near(schedule_lr(&s, 9), 1, 1e-12);
    s = (Schedule){.kind = SCHEDULE_COSINE, .peak = 1, .steps = 1};
    near(schedule_lr(&s, 0), 1, 1e-12);
    s = (Schedule){.kind = SCHEDULE_COSINE, .peak = 1, .steps = 3};
    near(schedule_lr(&s, 0), 1, 1e-12);
    near(schedule_lr(&s, 1), 0.5, 1e-12);
}

static void test_ema(void **state) {
    ParamSet ps;
    make_params(&ps);
    Ema e;
    ema_init(&e, &ps, 0.75);
    double *want = xmalloc((size_t)ps.size * sizeof *want);
    for (int64_t i = 0; i < ps.size; i++) {
        assert_true(e.w[i] == ps.data[i]);
        want[i] = (double)e.w[i];
    }
    ema_update(&e, &ps); /* of equal values: nothing moves */
    for (int64_t i = 0; i < ps.size; i++) assert_true(e.w[i] == ps.data[i]);
    for (int t = 0; t < 10; t++) {
        for (int64_t i = 0; i < ps.size; i++) {
            ps.data[i] += (real)0.125;
            want[i] = 0.75 * want[i] + 0.25 * (double)ps.data[i];
        }
        ema_update(&e, &ps);
    }
    for (int64_t i = 0; i < ps.size; i++)
        assert_true(fabs((double)e.w[i] - want[i]) < 1e-6 * (1 + fabs(want[i])));

    int64_t wrong = 0;
    real *w = xmalloc((size_t)ps.size * sizeof *w), *average = xmalloc((size_t)ps.size * sizeof *w);
    for (int64_t i = 0; i < ps.size; i++) {
        w[i] = ps.data[i];
        average[i] = e.w[i];
    }
    ema_swap(&e, &ps);
    for (int64_t i = 0; i < ps.size; i++) wrong += ps.data[i] != average[i] || e.w[i] != w[i];
    ema_swap(&e, &ps);
    for (int64_t i = 0; i < ps.size; i++) wrong += ps.data[i] != w[i] || e.w[i] != average[i];
    assert_int_equal(wrong, 0);
    free(w);
    free(average);
    free(want);
    ema_free(&e);
    paramset_free(&ps);
}

int main(int argc, char **argv) {
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_clip),
        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_ema),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
