/* The order of items: a permutation for every n, different in every epoch and for every seed, well
 * mixed, and the same whoever asks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/order.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void is_permutation(int64_t n, uint64_t seed, int64_t epoch) {
    char *seen = calloc((size_t)n, 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t item = order_item(seed, epoch, i, n);
        assert_in_range(item, 0, n - 1);
        assert_int_equal(seen[item], 0);
        seen[item] = 1;
    }
    free(seen);
}

static void test_permutation(void **state) {
    for (int64_t n = 1; n <= 300; n++) is_permutation(n, 7, n % 5);
    const int64_t sizes[] = {1023, 1024, 1025, 4095, 4097, 52002, 65536, 65537, 100003};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint64_t seed = 0; seed < 3; seed++) is_permutation(sizes[i], seed, (int64_t)i);
}

static void test_large(void **state) {
    const int64_t n = ((int64_t)1 << 61) + 12345; /* no overflow, still in range, no repetition */
    int64_t last = -1;
    for (int64_t i = 0; i < 1000; i++) {
        int64_t item = order_item(3, 0, n - 1 - i, n);
        assert_true(item >= 0 && item < n && item != last);
        last = item;
    }
}

/* Chi-square of where item 0..n-1 goes from each position, over many (seed, epoch). */
static void uniform(int n, int trials, int by_epoch) {
    double *count = calloc((size_t)(n * n), sizeof *count);
    for (int t = 0; t < trials; t++)
        for (int i = 0; i < n; i++) {
            int64_t item = by_epoch ? order_item(99, t, i, n) : order_item((uint64_t)t, 0, i, n);
            count[i * n + item]++;
        }
    double expected = (double)trials / n, chi = 0;
    for (int i = 0; i < n * n; i++) chi += (count[i] - expected) * (count[i] - expected) / expected;
    double freedom = (double)(n - 1) * (n - 1);
    /* Wilson and Hilferty: 5 standard deviations above the mean */
    double bound = freedom * pow(1 - 2 / (9 * freedom) + 5 * sqrt(2 / (9 * freedom)), 3);
    if (chi > bound) fail_msg("n %d: chi-square %g, bound %g", n, chi, bound);
    free(count);
}

static void test_uniform(void **state) {
    const int sizes[] = {2, 3, 4, 5, 7, 8, 10, 16, 33, 60};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uniform(sizes[i], 20000, 0);
        uniform(sizes[i], 20000, 1);
    }
}

/* Neighbouring positions must not give neighbouring items; nor must the orders of two epochs. */
static void test_mixed(void **state) {
    const int64_t n = 10007;
    double neighbours = 0, same = 0, product = 0;
    for (int64_t i = 0; i + 1 < n; i++) {
        int64_t a = order_item(5, 0, i, n), b = order_item(5, 0, i + 1, n);
        neighbours += llabs(a - b) == 1;
        same += a == order_item(5, 1, i, n);
        product += ((double)a / (double)n - 0.5) * ((double)i / (double)n - 0.5);
    }
    assert_true(neighbours < 15); /* about 2 by chance */
    assert_true(same < 10);       /* about 1 */
    assert_true(fabs(product * 12 / (double)n) < 0.05);
}

/* Rank r of R takes positions r, r + R, ... of a global batch: together they see the same items in
 * the same steps whatever R is, and a stream visits every item once an epoch. */
static void test_ranks(void **state) {
    enum { N = 1000, BATCH = 24, STEPS = 130 };
    int64_t reference[STEPS * BATCH];
    for (int64_t j = 0; j < STEPS * BATCH; j++) reference[j] = order_stream(42, j, N);
    for (int size = 1; size <= 8; size *= 2)
        for (int rank = 0; rank < size; rank++)
            for (int64_t step = 0; step < STEPS; step++)
                for (int64_t k = rank; k < BATCH; k += size) {
                    int64_t j = step * BATCH + k;
                    assert_int_equal(order_stream(42, j, N), reference[j]);
                }
    for (int epoch = 0; epoch < 3; epoch++) {
        char seen[N] = {0};
        for (int i = 0; i < N; i++) seen[reference[epoch * N + i]]++;
        for (int i = 0; i < N; i++) assert_int_equal(seen[i], 1);
    }
}

/* Runs that go on with an older checkpoint must see the same data: these values never change. */
static void test_stable(void **state) {
    const int64_t expected[10] = {533, 244, 746, 927, 364, 335, 38, 128, 650, 648};
    for (int i = 0; i < 10; i++) assert_int_equal(order_item(1, 2, i, 1000), expected[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permutation), cmocka_unit_test(test_large),
        cmocka_unit_test(test_uniform),     cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_ranks),       cmocka_unit_test(test_stable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
