/* Every op of OP_LIST against central finite differences.
 *
 * Double build (make VARIANT=double build/double/tests/core/test_gradcheck): 1e-6 of the largest
 * gradient of the input. Float build: the losses are rounded to float in the op, so the step is
 * wider and the tolerance 2e-2; test_ops.c compares floats more closely. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/kernel.h"
#include "core/ops.h"

#ifdef RHETOR_DOUBLE
static const double STEP = 1e-4, TOLERANCE = 1e-6;
#else
static const double STEP = 1e-2, TOLERANCE = 2e-2;
#endif
enum { MAX_PROBES = 150 };

static double loss_at(const GradCase *c, Tape *t) {
    double loss = c->run(t, c);
    tape_reset(t);
    return loss;
}

/* Fourth-order central difference: (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h */
static double slope(const GradCase *c, Tape *t, real *x) {
    real at = *x;
    double f[4], shift[4] = {1, -1, 2, -2};
    for (int i = 0; i < 4; i++) {
        *x = at + (real)(shift[i] * STEP);
        f[i] = loss_at(c, t);
    }
    *x = at;
    return (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * STEP);
}

static void check_input(const OpInfo *op, const GradCase *c, int k, Tape *t) {
    Tensor *in = c->in[k];
    int64_t n = tensor_size(in), stride = n / MAX_PROBES + 1;
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)in->grad[i]));
    if (largest == 0) fail_msg("%s (%s): the gradient of input %d is zero", op->name, c->what, k);
    for (int64_t i = 0; i < n; i += stride) {
        double want = slope(c, t, &in->data[i]), have = (double)in->grad[i];
        if (!(fabs(want - have) <= TOLERANCE * largest))
            fail_msg("%s (%s): input %d, element %lld: gradient %.12g, finite differences %.12g "
                     "(largest gradient %.3g)",
                     op->name, c->what, k, (long long)i, have, want, largest);
    }
}

/* Gradients accumulate: running the op twice doubles them. */
static void check_accumulation(const OpInfo *op, GradCase *c, Tape *t) {
    real *once[GRAD_MAX_INPUT];
    for (int k = 0; k < c->nin; k++) {
        int64_t n = tensor_size(c->in[k]);
        once[k] = malloc((size_t)n * sizeof(real));
        for (int64_t i = 0; i < n; i++) once[k][i] = c->in[k]->grad[i];
    }
    c->run(t, c);
    tape_backward(t);
    tape_reset(t);
    for (int k = 0; k < c->nin; k++) {
        for (int64_t i = 0; i < tensor_size(c->in[k]); i++) {
            double have = (double)c->in[k]->grad[i], want = 2 * (double)once[k][i];
            if (!(fabs(have - want) <= 1e-5 * (fabs(want) + 1)))
                fail_msg("%s (%s): input %d, element %lld: %g after two runs, expected %g",
                         op->name, c->what, k, (long long)i, have, want);
        }
        free(once[k]);
    }
}

static void check_op(void **state) {
    const OpInfo *op = *state;
    int cases = 0;
    for (;; cases++) {
        Arena persist = {0}, record_arena = {0}, plain_arena = {0};
        Tape *record = tape_open(&record_arena, true), *plain = tape_open(&plain_arena, false);
        GradCase c = {.arena = &persist, .what = ""};
        bool more = op->grad_case(&c, cases);
        if (more) {
            double loss = c.run(record, &c);
            tape_backward(record);
            tape_reset(record);
            double inference = loss_at(&c, plain);
            if (!(fabs(loss - inference) <= 1e-6 * (1 + fabs(loss))))
                fail_msg("%s (%s): %.9g when recording, %.9g in inference", op->name, c.what, loss,
                         inference);
            for (int k = 0; k < c.nin; k++) check_input(op, &c, k, plain);
            check_accumulation(op, &c, record);
        }
        tape_close(&record);
        tape_close(&plain);
        arena_free(&persist);
        arena_free(&record_arena);
        arena_free(&plain_arena);
        if (!more) break;
    }
    if (cases == 0) fail_msg("%s has no gradient-check case", op->name);
}

int main(void) {
    core_init();
    struct CMUnitTest tests[64];
    assert_true(core_nops > 0 && core_nops <= 64);
    for (int i = 0; i < core_nops; i++)
        tests[i] =
            (struct CMUnitTest){core_ops[i].name, check_op, NULL, NULL, (void *)&core_ops[i]};
    int failures = 0; /* every version of the kernels */
    for (KernelLevel best = kernel_supported(), k = KERNEL_BLAS; k <= best; k++) {
        kernel_level = k;
        failures += _cmocka_run_group_tests(kernel_name(k), tests, (size_t)core_nops, NULL, NULL);
    }
    return failures;
}
