/* The random numbers: Philox by its published answers, and what is built on it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/kernel.h"
#include "core/rng.h"

/* Random123's tests/kat_vectors, "philox4x32 10": counter, key, answer. */
static const uint32_t known[3][10] = {
    {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e,
     0xa20bc7c6, 0x6d5451fd},
    {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
     0x5001e420, 0x24126ea1},
};

static void known_answers(void **state) {
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        rng_philox(known[i], known[i] + 4, out);
        assert_memory_equal(out, known[i] + 6, sizeof out);
    }
    /* rng_bits: the stream's key from (purpose, step) under the seed, then the counter. */
    const RngKey key = {.seed = 0x123456789abcdef0, .purpose = RNG_TEST, .step = 77};
    uint32_t seed[2] = {0x9abcdef0, 0x12345678}, stream[4], want[4], have[4];
    rng_philox((uint32_t[]){RNG_TEST, 77, 0, 0}, seed, stream);
    rng_philox((uint32_t[]){0x55667788, 0x11223344, 5, 6}, stream, want);
    rng_bits(&key, 0x1122334455667788, 5, 6, have);
    assert_memory_equal(have, want, sizeof have);
}

static void units_stay_inside(void **state) {
    assert_true(rng_unit(0) > 0);
    assert_true(rng_unit(0xffffffff) < 1);
    const RngKey key = {.seed = 3, .purpose = RNG_TEST};
    double sum = 0, square = 0;
    enum { N = 40000 };
    for (int i = 0; i < N; i++) {
        double u = rng_uniform(&key, 1, 2, (uint32_t)i);
        assert_true(u > 0 && u < 1);
        sum += u;
        square += u * u;
    }
    assert_true(fabs(sum / N - 0.5) < 4 * sqrt(1.0 / 12 / N));
    assert_true(fabs(square / N - 1.0 / 3) < 4 * sqrt(4.0 / 45 / N));
}

static void fills_agree_with_bits(void **state) {
    const RngKey key = {.seed = 3, .purpose = RNG_TEST, .step = 1};
    float u[11];
    rng_unit_fill(&key, 9, 4, u, 11);
    for (int i = 0; i < 11; i++) {
        uint32_t bits[4];
        rng_bits(&key, 9, 4, (uint32_t)(i / 4), bits);
        assert_true(u[i] == rng_unit(bits[i % 4]));
    }
    for (kernel_level = KERNEL_PLAIN; kernel_level <= kernel_supported(); kernel_level++)
        for (int64_t n = 0; n <= 40; n++) {
            uint32_t many[41][4], bits[4];
            memset(many, 7, sizeof many);
            rng_bits_fill(&key, 1ull << 40, 4, 0xfffffff0, n, many[0]);
            for (int64_t i = 0; i < n; i++) {
                rng_bits(&key, 1ull << 40, 4, 0xfffffff0 + (uint32_t)i, bits);
                assert_memory_equal(many[i], bits, sizeof bits);
            }
            assert_int_equal(many[n][0], 0x07070707);
        }
    kernel_level = KERNEL_PLAIN;
}

static void every_part_of_the_key_counts(void **state) {
    const RngKey base = {.seed = 1, .purpose = RNG_TEST, .step = 1};
    RngKey keys[] = {base, base, base, base};
    keys[1].seed += 1ull << 40;
    keys[2].purpose++;
    keys[3].step++;
    uint32_t out[8][4];
    for (int i = 0; i < 4; i++) rng_bits(&keys[i], 1, 1, 1, out[i]);
    rng_bits(&base, 1 + (1ull << 33), 1, 1, out[4]);
    rng_bits(&base, 1, 2, 1, out[5]);
    rng_bits(&base, 1, 1, 2, out[6]);
    rng_bits(&base, 2, 1, 1, out[7]);
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < i; j++) assert_memory_not_equal(out[i], out[j], sizeof out[i]);
}

static void below_is_even(void **state) {
    const RngKey key = {.seed = 8, .purpose = RNG_TEST};
    enum { BOUND = 7, N = 35000 };
    int count[BOUND] = {0};
    for (int i = 0; i < N; i++) {
        int64_t k = rng_below(&key, 0, 0, (uint32_t)i, BOUND);
        assert_in_range(k, 0, BOUND - 1);
        count[k]++;
    }
    double chi2 = 0, want = (double)N / BOUND;
    for (int k = 0; k < BOUND; k++) chi2 += (count[k] - want) * (count[k] - want) / want;
    assert_true(chi2 < 22.5); /* 6 degrees of freedom, p = 0.001 */
    assert_int_equal(rng_below(&key, 0, 0, 0, 1), 0);
}

static void normals_have_their_moments(void **state) {
    const RngKey key = {.seed = 4, .purpose = RNG_INIT};
    enum { N = 60001 };
    real *x = malloc(N * sizeof(real)), *again = malloc(N * sizeof(real));
    rng_normal_fill(&key, 3, x, N, 0.02);
    double m1 = 0, m2 = 0, m4 = 0;
    for (int i = 0; i < N; i++) {
        double z = (double)x[i] / 0.02;
        m1 += z;
        m2 += z * z;
        m4 += z * z * z * z;
    }
    assert_true(fabs(m1 / N) < 4 / sqrt(N));
    assert_true(fabs(m2 / N - 1) < 4 * sqrt(2.0 / N));
    assert_true(fabs(m4 / N - 3) < 4 * sqrt(96.0 / N));
    rng_normal_fill(&key, 3, again, 1001, 0.02); /* a shorter fill is a beginning of a longer */
    assert_memory_equal(x, again, 1001 * sizeof(real));
    free(x);
    free(again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),         cmocka_unit_test(units_stay_inside),
        cmocka_unit_test(fills_agree_with_bits), cmocka_unit_test(every_part_of_the_key_counts),
        cmocka_unit_test(below_is_even),         cmocka_unit_test(normals_have_their_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
