/* Packing: sequences end to end, targets shifted by one, weights where something is learned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/batch.h"

static void test_sequences(void **state) {
    const int32_t a[] = {5, 6, 7, 8}, b[] = {9, 10};
    const uint8_t learn[] = {0, 0, 1, 1};
    Batch p = {0};
    batch_clear(&p);
    batch_add(&p, a, 4, learn, 0.5f, 3);
    batch_add(&p, b, 2, NULL, 2, 4);
    Batch batch = p;
    assert_int_equal(batch.n, 6);
    assert_int_equal(batch.nseq, 2);
    const int64_t start[] = {0, 4, 6};
    const int32_t tokens[] = {5, 6, 7, 8, 9, 10};
    const float weight[] = {0, 0.5f, 0.5f, 0, 2, 0}; /* position i learns token i + 1 */
    assert_memory_equal(batch.start, start, sizeof start);
    assert_memory_equal(batch.tokens, tokens, sizeof tokens);
    assert_memory_equal(batch.weight, weight, sizeof weight);
    for (int i = 0; i < 6; i++)
        if (weight[i] > 0) assert_int_equal(batch.targets[i], tokens[i + 1]);
    assert_int_equal(p.row[2], 3u << 20 | 2);
    assert_int_equal(p.row[5], 4u << 20 | 1);
    batch_free(&p);
}

static void test_window(void **state) {
    const int32_t w[] = {1, 2, 3, 4};
    Batch p = {0};
    batch_clear(&p);
    batch_add_window(&p, w, 3, 1, 7);
    Batch batch = p;
    assert_int_equal(batch.n, 3);
    assert_memory_equal(batch.tokens, w, 3 * sizeof *w);
    assert_memory_equal(batch.targets, w + 1, 3 * sizeof *w);
    for (int i = 0; i < 3; i++) assert_true(batch.weight[i] > 0);
    batch_free(&p);
}

static void test_empty(void **state) { /* a rank that has nothing to do in this step */
    Batch p = {0};
    batch_clear(&p);
    Batch batch = p;
    assert_int_equal(batch.n, 0);
    assert_int_equal(batch.nseq, 0);
    assert_int_equal(batch.start[0], 0);
    batch_free(&p);
}

static void test_reuse(void **state) { /* grows, then allocates no more */
    enum { N = 300, LEN = 50 };
    int32_t tokens[LEN];
    for (int i = 0; i < LEN; i++) tokens[i] = i;
    Batch p = {0};
    const int32_t *place = NULL;
    for (int round = 0; round < 3; round++) {
        batch_clear(&p);
        for (int s = 0; s < N; s++) batch_add(&p, tokens, 1 + s % LEN, NULL, 1, (uint64_t)s);
        if (round > 0) assert_ptr_equal(p.tokens, place);
        place = p.tokens;
        Batch batch = p;
        assert_int_equal(batch.nseq, N);
        assert_int_equal(batch.start[N], batch.n);
        for (int s = 0; s < N; s++) {
            assert_int_equal(batch.start[s + 1] - batch.start[s], 1 + s % LEN);
            assert_int_equal(batch.tokens[batch.start[s + 1] - 1], s % LEN);
            assert_int_equal(p.row[batch.start[s]], (uint64_t)s << 20);
        }
    }
    batch_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_reuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
