/* Arenas, tensors, tape and parameters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/arena.h"
#include "core/param.h"
#include "core/tape.h"

static void alignment_and_contents(void **state) {
    Arena a = {0};
    char *last = NULL;
    for (size_t n = 0; n < 3000; n += 7) {
        char *p = arena_alloc(&a, n);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, 0xAB, n);
        if (last) assert_true(p >= last + 64 || p < last);
        last = p;
    }
    unsigned char *z = arena_zalloc(&a, 5000);
    for (int i = 0; i < 5000; i++) assert_int_equal(z[i], 0);
    arena_free(&a);
    assert_int_equal(a.used, 0);
}

/* What a step allocates, in several blocks the first time. */
static void step(Arena *a) {
    for (int i = 0; i < 100; i++) memset(arena_alloc(a, 50000), i, 50000);
}

static void steady_state_allocates_nothing(void **state) {
    Arena a = {0};
    step(&a);
    ArenaBlock *first = a.head;
    size_t used = a.used;
    arena_reset(&a);
    ArenaBlock *joined = a.head;
    assert_ptr_not_equal(first, NULL);
    assert_int_equal(a.used, 0);
    for (int i = 0; i < 3; i++) {
        step(&a);
        assert_ptr_equal(a.head, joined);
        assert_int_equal(a.used, used);
        assert_int_equal(a.high, used);
        arena_reset(&a);
        assert_ptr_equal(a.head, joined);
    }
    arena_free(&a);
}

static void marks_give_back(void **state) {
    Arena a = {0};
    ArenaMark empty = arena_mark(&a);
    arena_alloc(&a, 100);
    arena_release(&a, empty);
    assert_int_equal(a.used, 0);
    char *keep = arena_alloc(&a, 64);
    memset(keep, 1, 64);
    ArenaMark m = arena_mark(&a);
    char *p = arena_alloc(&a, 64);
    arena_alloc(&a, 10 << 20); /* another block */
    arena_release(&a, m);
    assert_ptr_equal(arena_alloc(&a, 64), p);
    for (int i = 0; i < 64; i++) assert_int_equal(keep[i], 1);
    assert_int_equal(a.used, 128);
    assert_true(a.high > 10 << 20);
    arena_free(&a);
}

static int order[8], norder;
static void note(Tape *t, void *ctx) { order[norder++] = *(int *)ctx; }

static void tape_runs_backwards(void **state) {
    Arena a = {0};
    Tape *t = tape_open(&a, true);
    for (int i = 0; i < 3; i++) {
        int *id = tape_alloc(t, sizeof *id);
        *id = i;
        tape_push(t, note, id, NULL);
    }
    norder = 0;
    tape_backward(t);
    assert_int_equal(norder, 3);
    for (int i = 0; i < 3; i++) assert_int_equal(order[i], 2 - i);
    tape_push(t, note, &norder, NULL);
    tape_reset(t);
    norder = 0;
    tape_backward(t);
    assert_int_equal(norder, 0);
    tape_close(&t);
    assert_null(t);
    tape_close(&t);
    arena_free(&a);
}

static void tape_tensors(void **state) {
    Arena a = {0};
    int64_t shape[] = {3, 4};
    Tape *t = tape_open(&a, true), *plain = tape_open(&a, false);
    Tensor *x = tape_tensor(t, 2, shape);
    assert_int_equal(tensor_size(x), 12);
    assert_null(x->grad);
    for (int i = 0; i < 12; i++) assert_true(tape_grad(t, x)[i] == 0);
    assert_true(tape_grad_out(t, x).add);
    Tensor *y = tape_tensor(t, 2, shape);
    assert_true(tape_wants_grad(y) && !y->grad);
    real *grad = tape_grad(t, y);
    for (int i = 0; i < 12; i++) assert_true(grad[i] == 0);
    Tensor *z = tape_tensor(t, 2, shape);
    assert_false(tape_grad_out(t, z).add);
    assert_true(tape_grad_out(t, z).add);
    assert_null(tape_tensor(plain, 2, shape)->grad);
    tape_push(plain, note, NULL, NULL); /* does nothing */
    tape_close(&t);
    tape_close(&plain);
    arena_free(&a);
}

static void parameters(void **state) {
    ParamSet ps = {0};
    assert_int_equal(paramset_add(&ps, "a", 2, (int64_t[]){3, 5}, true), 0);
    assert_int_equal(paramset_add(&ps, "b", 1, (int64_t[]){16}, false), 1);
    assert_int_equal(paramset_add(&ps, "c", 1, (int64_t[]){1}, false), 2);
    assert_int_equal(ps.count, 15 + 16 + 1);
    assert_int_equal(ps.size, 16 + 16 + 16);
    paramset_alloc(&ps, true);
    for (int i = 0; i < ps.n; i++) {
        const Param *p = &ps.v[i];
        assert_int_equal(p->offset % PARAM_ALIGN, 0);
        assert_int_equal((uintptr_t)p->tensor.data % 64, 0);
        assert_ptr_equal(p->tensor.data, ps.data + p->offset);
        assert_ptr_equal(p->tensor.grad, ps.grad + p->offset);
    }
    for (int64_t i = 0; i < ps.size; i++) {
        assert_true(ps.data[i] == 0 && ps.grad[i] == 0);
        ps.grad[i] = 1;
    }
    paramset_zero_grad(&ps);
    for (int64_t i = 0; i < ps.size; i++) assert_true(ps.grad[i] == 0);
    assert_ptr_equal(paramset_find(&ps, "b"), &ps.v[1].tensor);
    assert_null(paramset_find(&ps, "d"));
    assert_true(ps.v[0].decay && !ps.v[1].decay);
    paramset_free(&ps);
    assert_null(ps.data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alignment_and_contents), cmocka_unit_test(steady_state_allocates_nothing),
        cmocka_unit_test(marks_give_back),        cmocka_unit_test(tape_runs_backwards),
        cmocka_unit_test(tape_tensors),           cmocka_unit_test(parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
