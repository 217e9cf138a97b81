/* Activations and the ops of Llama's block against PyTorch's double (tests/golden/ops.json, made by
 * ops_golden.py): outputs and gradients, at every level of the kernels; the tables of rope. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "core/kernel.h"
#include "core/ops.h"

static const double TOLERANCE = sizeof(real) == 8 ? 1e-12 : 2e-6; /* of the largest number */

enum { MAX_SEQ = 8 };
static json_t *golden;
static int64_t start[MAX_SEQ + 1];
static Batch batch;

static double number(const json_t *o, const char *key) {
    return json_number_value(json_object_get(o, key));
}

static void load(const json_t *a, real *to, int64_t n) {
    assert_int_equal(json_array_size(a), n);
    for (int64_t i = 0; i < n; i++) to[i] = (real)json_number_value(json_array_get(a, (size_t)i));
}

static void compare(const char *op, const char *what, const json_t *a, const real *got, int64_t n) {
    double largest = 0;
    assert_int_equal(json_array_size(a), n);
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(json_number_value(json_array_get(a, (size_t)i))));
    assert_true(largest > 0);
    for (int64_t i = 0; i < n; i++) {
        const double want = json_number_value(json_array_get(a, (size_t)i));
        if (!(fabs((double)got[i] - want) <= TOLERANCE * largest))
            fail_msg("%s, %s: %s[%lld] is %.15g, expected %.15g", op, kernel_name(kernel_level),
                     what, (long long)i, (double)got[i], want);
    }
}

static Rope table_of(const json_t *o, int64_t head, int64_t positions) {
    Rope r;
    rope_open(&r,
              &(RopeConfig){.head = head,
                            .columns = (int64_t)((double)head * number(o, "fraction")),
                            .theta = number(o, "theta"),
                            .factor = number(o, "factor"),
                            .low = number(o, "low"),
                            .high = number(o, "high"),
                            .original = (int64_t)number(o, "original")},
              positions);
    return r;
}

static Activation act_of(const json_t *c) {
    const char *act = json_string_value(json_object_get(c, "act"));
    return !strcmp(act, "relu")       ? ACT_RELU
           : !strcmp(act, "gelu_erf") ? ACT_GELU_ERF
                                      : ACT_GELU_TANH;
}

static void check_case(const json_t *c) {
    const char *op = json_string_value(json_object_get(c, "op"));
    const json_t *in = json_object_get(c, "in"), *item;
    const int heads = (int)number(c, "heads"), kv = (int)number(c, "kv");
    Arena persist = {0}, step = {0};
    Tape *t = tape_open(&step, true);
    GradCase inputs = {.arena = &persist};
    Rope rope = {0};
    size_t k;
    json_array_foreach(in, k, item) {
        const json_t *shape = json_object_get(item, "shape");
        int64_t dims[2] = {0};
        for (size_t i = 0; i < json_array_size(shape); i++)
            dims[i] = (int64_t)json_number_value(json_array_get(shape, i));
        Tensor *x = gradcheck_input(&inputs, (int)json_array_size(shape), dims);
        load(json_object_get(item, "data"), x->data, tensor_size(x));
    }
    Tensor *const *x = inputs.in, *y = NULL;
    if (!strcmp(op, "rmsnorm")) y = op_rmsnorm(t, x[0], NULL, x[1], number(c, "eps"), NULL);
    if (!strcmp(op, "linear")) y = op_linear(t, x[0], x[1], x[2], act_of(c));
    if (!strcmp(op, "swiglu")) y = op_swiglu(t, x[0]);
    if (!strcmp(op, "attention")) y = op_attention_grouped(t, x[0], &batch, heads, kv);
    if (!strcmp(op, "headnorm")) y = op_headnorm(t, x[0], x[1], x[2], heads, kv, number(c, "eps"));
    if (!strcmp(op, "rope")) {
        rope = table_of(c, (int64_t)number(c, "d"), 20);
        y = op_rope(t, x[0], &batch, &rope, heads);
        const int64_t W = y->shape[1]; /* token 7 is the last of its sequence: position 6 */
        rope_rotate(&rope, 6, heads, x[0]->data + 7 * W);
        assert_memory_equal(x[0]->data + 7 * W, y->data + 7 * W, (size_t)W * sizeof(real));
    }
    assert_non_null(y);
    compare(op, "y", json_object_get(c, "y"), y->data, tensor_size(y));
    load(json_object_get(c, "dy"), tape_grad(t, y), tensor_size(y));
    tape_backward(t);
    json_array_foreach(in, k, item)
        compare(op, "gradient", json_object_get(item, "grad"), x[k]->grad, tensor_size(x[k]));
    rope_free(&rope);
    tape_close(&t);
    arena_free(&step);
    arena_free(&persist);
}

static void ops(void **state) {
    const json_t *c;
    size_t i;
    const KernelLevel before = kernel_level;
    for (KernelLevel level = KERNEL_BLAS; level <= kernel_supported(); level++) {
        kernel_level = level;
        json_array_foreach(json_object_get(golden, "cases"), i, c) check_case(c);
    }
    kernel_level = before;
}

static void rope_tables(void **state) {
    const json_t *o, *p;
    size_t i, k;
    json_array_foreach(json_object_get(golden, "tables"), i, o) {
        Rope r = table_of(o, (int64_t)number(o, "d"), 10000);
        json_array_foreach(json_object_get(o, "positions"), k, p) {
            const int64_t at = (int64_t)json_number_value(p) * r.half;
            compare("rope", "cos", json_array_get(json_object_get(o, "cos"), k), r.cos + at,
                    r.half);
            compare("rope", "sin", json_array_get(json_object_get(o, "sin"), k), r.sin + at,
                    r.half);
        }
        rope_free(&r);
    }
}

int main(void) {
    core_init();
    assert_int_equal(json_read_file(&golden, "tests/golden/ops.json"), 0);
    const json_t *from = json_object_get(golden, "start");
    assert_true(json_array_size(from) <= MAX_SEQ + 1);
    batch.nseq = (int64_t)json_array_size(from) - 1;
    for (int64_t i = 0; i <= batch.nseq; i++)
        start[i] = (int64_t)json_number_value(json_array_get(from, (size_t)i));
    batch.start = start;
    batch.n = start[batch.nseq];
    const struct CMUnitTest tests[] = {cmocka_unit_test(ops), cmocka_unit_test(rope_tables)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(golden);
    return failed;
}
