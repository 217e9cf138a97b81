/* AdamW against PyTorch's (tests/golden/adamw.json, made by adamw_golden.py) and against the
 * formula written naively in double over a buffer of several blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "core/kernel.h"
#include "optim/optim.h"

#include <math.h>
#include <omp.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Reproducible numbers in (-1, 1). */
static double noise(uint64_t *s) {
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)*s * 0x1p-63;
}

static void close_to(const char *what, int64_t i, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance * (fabs(want) + 1e-2)))
        fail_msg("%s[%lld] is %.9g, expected %.9g", what, (long long)i, got, want);
}

static void load(const json_t *object, const char *key, real *out, int64_t n) {
    const json_t *a = json_object_get(object, key);
    assert_int_equal(json_array_size(a), n);
    for (int64_t i = 0; i < n; i++) out[i] = (real)json_number_value(json_array_get(a, (size_t)i));
}

static void compare(const json_t *object, const char *key, const real *got, int64_t n) {
    const json_t *a = json_object_get(object, key);
    assert_int_equal(json_array_size(a), n);
    for (int64_t i = 0; i < n; i++)
        close_to(key, i, (double)got[i], json_number_value(json_array_get(a, (size_t)i)),
                 sizeof(real) == 8 ? 1e-12 : 2e-6);
}

static void test_golden(void **state) {
    json_t *golden;
    assert_int_equal(json_read_file(&golden, "tests/golden/adamw.json"), 0);
    double beta1 = 0, beta2 = 0, eps = 0, decay = 0;
    assert_int_equal(json_get_f64(golden, "beta1", &beta1), 0);
    assert_int_equal(json_get_f64(golden, "beta2", &beta2), 0);
    assert_int_equal(json_get_f64(golden, "eps", &eps), 0);
    assert_int_equal(json_get_f64(golden, "decay", &decay), 0);

    ParamSet ps = {0};
    paramset_add(&ps, "matrix", 2, (int64_t[]){3, 5}, true);
    paramset_add(&ps, "vector", 1, (int64_t[]){7}, false);
    paramset_alloc(&ps, true);
    AdamW a;
    adamw_init(&a, &ps, NULL, beta1, beta2, eps, decay);
    for (int k = 0; k < ps.n; k++)
        load(json_object_get(golden, "start"), ps.v[k].name, ps.v[k].tensor.data,
             tensor_size(&ps.v[k].tensor));

    const json_t *steps = json_object_get(golden, "steps");
    assert_true(json_array_size(steps) >= 10);
    for (size_t t = 0; t < json_array_size(steps); t++) {
        const json_t *s = json_array_get(steps, t);
        double lr = 0, scale = 0;
        assert_int_equal(json_get_f64(s, "lr", &lr), 0);
        assert_int_equal(json_get_f64(s, "scale", &scale), 0);
        for (int k = 0; k < ps.n; k++)
            load(json_object_get(s, "grad"), ps.v[k].name, ps.v[k].tensor.grad,
                 tensor_size(&ps.v[k].tensor));
        adamw_update(&a, &ps, lr, scale);
        assert_int_equal(a.step, t + 1);
        for (int k = 0; k < ps.n; k++) {
            const Param *p = &ps.v[k];
            int64_t n = tensor_size(&p->tensor);
            compare(json_object_get(s, "w"), p->name, p->tensor.data, n);
            compare(json_object_get(s, "m"), p->name, a.m + p->offset, n);
            compare(json_object_get(s, "v"), p->name, a.v + p->offset, n);
        }
    }
    json_decref(golden);
    adamw_free(&a);
    paramset_free(&ps);
}

/* Shapes that leave padding, end inside blocks and span several. */
static void make_params(ParamSet *ps, uint64_t seed) {
    *ps = (ParamSet){0};
    paramset_add(ps, "a", 1, (int64_t[]){1}, false);
    paramset_add(ps, "b", 2, (int64_t[]){123, 301}, true);
    paramset_add(ps, "c", 1, (int64_t[]){17}, false);
    paramset_add(ps, "d", 3, (int64_t[]){3, 50, 33}, true);
    paramset_alloc(ps, true);
    for (int k = 0; k < ps->n; k++)
        for (int64_t i = 0; i < tensor_size(&ps->v[k].tensor); i++)
            ps->v[k].tensor.data[i] = (real)noise(&seed);
}

static void make_grad(ParamSet *ps, uint64_t seed) {
    for (int k = 0; k < ps->n; k++)
        for (int64_t i = 0; i < tensor_size(&ps->v[k].tensor); i++)
            ps->v[k].tensor.grad[i] = (real)(noise(&seed) * 3);
}

static bool is_padding(const ParamSet *ps, int64_t i) {
    for (int k = 0; k < ps->n; k++)
        if (i >= ps->v[k].offset && i < ps->v[k].offset + tensor_size(&ps->v[k].tensor))
            return false;
    return true;
}

static void test_naive(void **state) {
    const double beta1 = 0.8, beta2 = 0.99, eps = 1e-6, decay = 0.05;
    ParamSet ps;
    make_params(&ps, 1);
    AdamW a;
    adamw_init(&a, &ps, NULL, beta1, beta2, eps, decay);
    double *w = xcalloc((size_t)ps.size, 8), *m = xcalloc((size_t)ps.size, 8),
           *v = xcalloc((size_t)ps.size, 8);
    for (int64_t i = 0; i < ps.size; i++) w[i] = (double)ps.data[i];

    for (int t = 1; t <= 20; t++) {
        double lr = 0.003 * t, scale = t % 2 ? 1 : 0.3;
        make_grad(&ps, (uint64_t)t);
        adamw_update(&a, &ps, lr, scale);
        for (int k = 0; k < ps.n; k++)
            for (int64_t j = 0; j < tensor_size(&ps.v[k].tensor); j++) {
                int64_t i = ps.v[k].offset + j;
                double g = (double)ps.grad[i] * scale;
                m[i] = beta1 * m[i] + (1 - beta1) * g;
                v[i] = beta2 * v[i] + (1 - beta2) * g * g;
                double mhat = m[i] / (1 - pow(beta1, t)), vhat = v[i] / (1 - pow(beta2, t));
                w[i] -= lr * (mhat / (sqrt(vhat) + eps) + (ps.v[k].decay ? decay * w[i] : 0));
            }
    }
    int64_t padding = 0;
    for (int64_t i = 0; i < ps.size; i++) {
        if (is_padding(&ps, i)) {
            assert_true(ps.data[i] == 0 && a.m[i] == 0 && a.v[i] == 0);
            padding++;
        } else {
            close_to("w", i, (double)ps.data[i], w[i], 5e-5);
            close_to("m", i, (double)a.m[i], m[i], 5e-5);
            close_to("v", i, (double)a.v[i], v[i], 5e-5);
        }
    }
    assert_true(padding > 20);
    free(w);
    free(m);
    free(v);
    adamw_free(&a);
    paramset_free(&ps);
}

static uint64_t bits_after_steps(int threads) {
    omp_set_num_threads(threads);
    ParamSet ps;
    make_params(&ps, 5);
    AdamW a;
    Ema e;
    adamw_init(&a, &ps, NULL, 0.9, 0.95, 0, 0.1); /* eps 0: padding must not become 0/0 */
    ema_init(&e, &ps, 0.9);
    double norms = 0;
    for (int t = 0; t < 5; t++) {
        make_grad(&ps, 100 + (uint64_t)t);
        double norm = grad_norm(&ps);
        norms += norm;
        adamw_update(&a, &ps, 0.01, grad_clip_scale(norm, 1));
        ema_update(&e, &ps);
    }
    uint64_t h = 1469598103934665603u;
    const real *all[] = {ps.data, a.m, a.v, e.w};
    for (int k = 0; k < 4; k++)
        for (size_t i = 0; i < (size_t)ps.size * sizeof(real); i++)
            h = (h ^ ((const unsigned char *)all[k])[i]) * 1099511628211u;
    for (int64_t i = 0; i < ps.size; i++) assert_true(isfinite(ps.data[i]));
    uint64_t n;
    memcpy(&n, &norms, sizeof n);
    adamw_free(&a);
    ema_free(&e);
    paramset_free(&ps);
    return h ^ n;
}

static void test_threads_do_not_change_bits(void **state) {
    uint64_t one = bits_after_steps(1);
    for (int threads = 2; threads <= 5; threads++) assert_true(bits_after_steps(threads) == one);
    omp_set_num_threads(2);
}

/* A scale that is not finite is a step that should have been skipped: the job ends with 70 and the
 * parameters were not touched. */
static void test_not_finite_is_refused(void **state) {
    for (int k = 0; k < 3; k++) {
        pid_t pid = fork();
        if (pid == 0) {
            close(STDERR_FILENO);
            omp_set_num_threads(1); /* libgomp's threads do not survive a fork */
            ParamSet ps;
            make_params(&ps, 1);
            AdamW a;
            adamw_init(&a, &ps, NULL, 0.9, 0.95, 1e-8, 0);
            make_grad(&ps, 3);
            adamw_update(&a, &ps, k == 0 ? (double)NAN : 0.1,
                         k == 1   ? grad_clip_scale((double)INFINITY, 1)
                         : k == 2 ? grad_clip_scale((double)NAN, 0)
                                  : 1);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 70);
    }
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_finite_is_refused),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_naive),
        cmocka_unit_test(test_threads_do_not_change_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
