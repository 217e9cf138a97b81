/* test_gemm.c: products against sums in double; what is called before and after; bits that depend
 * on nothing but K and the operands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "core/blas.h"
#include "core/gemm.h"
#include "core/kernel.h"
#include "core/rng.h"

static real *noise(int64_t n, uint64_t row) {
    const RngKey key = {.seed = 7, .purpose = RNG_TEST};
    real *x = malloc((size_t)(n + 1) * sizeof *x);
    rng_normal_fill(&key, row, x, n, 1);
    return x;
}

static void check(int64_t M, int64_t N, int64_t K, bool ta, bool tb, bool add) {
    Arena arena = {0};
    real *a = noise(M * K, 1), *b = noise(K * N, 2), *c = noise(M * N, 3),
         *before = noise(M * N, 3);
    gemm(&arena, &(Gemm){.M = M,
                         .N = N,
                         .K = K,
                         .a = a,
                         .lda = ta ? M : K,
                         .trans_a = ta,
                         .b = b,
                         .ldb = tb ? K : N,
                         .trans_b = tb,
                         .c = c,
                         .ldc = N,
                         .add = add});
    const double tolerance = sizeof(real) == 4 ? 2e-6 : 1e-14;
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++) {
            double sum = add ? (double)before[i * N + j] : 0, size = fabs(sum) + 1e-3;
            for (int64_t k = 0; k < K; k++) {
                double t =
                    (double)a[ta ? k * M + i : i * K + k] * (double)b[tb ? j * K + k : k * N + j];
                sum += t;
                size += fabs(t);
            }
            if (!(fabs((double)c[i * N + j] - sum) <= tolerance * size))
                fail_msg("%s, %ld x %ld x %ld, trans %d %d, add %d: c[%ld,%ld] is %g, expected %g",
                         kernel_name(kernel_level), (long)M, (long)N, (long)K, ta, tb, add, (long)i,
                         (long)j, (double)c[i * N + j], sum);
        }
    free(a), free(b), free(c), free(before);
    arena_free(&arena);
}

static void any_shape(void **state) {
    static const int64_t shapes[][3] = {{1, 1, 1},      {3, 5, 0},    {12, 32, 7},
                                        {13, 33, 9},    {145, 40, 3}, {7, 70, 1030},
                                        {150, 31, 515}, {2, 2080, 5}, {26, 9, 1024}};
    for (KernelLevel best = kernel_supported(), k = KERNEL_BLAS; k <= best; k++) {
        kernel_level = k;
        for (int s = 0; s < 9; s++)
            for (int way = 0; way < 8; way++)
                check(shapes[s][0], shapes[s][1], shapes[s][2], way & 1, way & 2, way & 4);
    }
}

/* Rows alone, strip by strip from packed memory, on any number of threads: the same bits. */
static void any_rows(void **state) {
    enum { M = 150, N = 70, K = 1030 };
    Arena arena = {0};
    real *a = noise(M * K, 1), *b = noise(K * N, 2), *whole = noise(M * N, 3),
         *part = noise(M * N, 4);
    Gemm g = {.M = M,
              .N = N,
              .K = K,
              .a = a,
              .lda = K,
              .b = b,
              .ldb = K,
              .trans_b = true,
              .c = whole,
              .ldc = N};
    int threads = omp_get_max_threads();
    kernel_level = kernel_supported(); /* OpenBLAS promises no bits */
    omp_set_num_threads(1);
    gemm(&arena, &g);
    omp_set_num_threads(3);
    g.c = part;
    gemm(&arena, &g);
    assert_memory_equal(whole, part, M * N * sizeof(real));
    omp_set_num_threads(threads);
    for (int64_t rows = 1; rows <= 15; rows++) {
        g.M = rows;
        g.a = a + 20 * K;
        gemm(&arena, &g);
        assert_memory_equal(whole + 20 * N, part, (size_t)(rows * N) * sizeof(real));
    }
    real *strips = malloc((size_t)gemm_packed_size(N, K) * sizeof(real));
    gemm_pack(true, N, K, b, K, strips);
    const int64_t width = gemm_strip_cols();
    for (int64_t j = 0; j < N; j += width)
        gemm_strip(M, K, a, K, strips + j * K, N - j < width ? N - j : width, part + j, N);
    assert_memory_equal(whole, part, M * N * sizeof(real));
    free(a), free(b), free(whole), free(part), free(strips);
    arena_free(&arena);
}

/* A sum over k in one product or in several, and the sums of A: chains in order of k. */
static void any_cut_of_k(void **state) {
    static const int64_t cuts[][5] = {{0, 1300}, {0, 700, 1300}, {0, 1, 514, 1029, 1300}};
    static const int pieces[] = {1, 2, 4};
    enum { M = 150, N = 70, K = 1300 };
    Arena arena = {0};
    real *a = noise(K * M, 1), *b = noise(K * N, 2), *first = NULL, *first_sum = NULL;
    for (KernelLevel level = KERNEL_PLAIN; level <= kernel_supported(); level++) {
        kernel_level = level;
        for (int i = 0; i < 3; i++) {
            real *c = noise(M * N, 3), *sum = noise(M, 4);
            for (int p = 0; p < pieces[i]; p++)
                gemm(&arena, &(Gemm){.M = M,
                                     .N = N,
                                     .K = cuts[i][p + 1] - cuts[i][p],
                                     .a = a + cuts[i][p] * M,
                                     .lda = M,
                                     .trans_a = true,
                                     .b = b + cuts[i][p] * N,
                                     .ldb = N,
                                     .c = c,
                                     .ldc = N,
                                     .add = true,
                                     .a_sum = sum});
            if (i > 0) {
                assert_memory_equal(c, first, M * N * sizeof(real));
                assert_memory_equal(sum, first_sum, M * sizeof(real));
                free(c), free(sum);
                continue;
            }
            free(first), free(first_sum);
            first = c, first_sum = sum;
            real *before = noise(M, 4);
            for (int64_t m = 0; m < M; m++) {
                double s = (double)before[m], size = fabs(s);
                for (int64_t k = 0; k < K; k++) {
                    s += (double)a[k * M + m];
                    size += fabs((double)a[k * M + m]);
                }
                assert_true(fabs((double)sum[m] - s) <= 1e-6 * size);
            }
            free(before);
        }
    }
    free(a), free(b), free(first), free(first_sum);
    arena_free(&arena);
}

typedef struct Seen {
    int64_t N;
    int *prepared, *finished; /* [M], [M,N] how often */
} Seen;

static void prepare(void *ctx, int64_t i, int64_t rows) {
    Seen *s = ctx;
    assert_true(rows > 0 && rows <= GEMM_ROWS);
    for (int64_t r = i; r < i + rows; r++) s->prepared[r]++;
}

static void finish(void *ctx, int64_t i, int64_t j, int64_t rows, int64_t cols) {
    Seen *s = ctx;
    for (int64_t r = i; r < i + rows; r++)
        for (int64_t c = j; c < j + cols; c++)
            s->finished[r * s->N + c] += s->prepared[r] == 1 ? 1 : 99;
}

static void each_part_once(void **state) {
    enum { M = 300, N = 2200, K = 600 };
    Arena arena = {0};
    real *a = noise(M * K, 1), *b = noise(K * N, 2), *c = noise(M * N, 3);
    Seen s = {.N = N, .prepared = calloc(M, sizeof(int)), .finished = calloc(M * N, sizeof(int))};
    gemm(&arena, &(Gemm){.M = M,
                         .N = N,
                         .K = K,
                         .a = a,
                         .lda = K,
                         .b = b,
                         .ldb = N,
                         .c = c,
                         .ldc = N,
                         .prepare = prepare,
                         .finish = finish,
                         .ctx = &s});
    for (int64_t i = 0; i < M; i++) assert_int_equal(s.prepared[i], 1);
    for (int64_t i = 0; i < M * N; i++) assert_int_equal(s.finished[i], 1);
    free(a), free(b), free(c), free(s.prepared), free(s.finished);
    arena_free(&arena);
}

/* OpenBLAS built with OpenMP sets OpenMP's number of threads when its own is set: a product of one
 * thread, or the start of the core, must not leave the whole program with one. */
static void threads_stay(void **state) {
    const real a[4] = {1, 2, 3, 4};
    real c[4];
    omp_set_num_threads(2);
    core_init();
    assert_int_equal(omp_get_max_threads(), 2);
    for (int n = 1; n <= 2; n++) {
        blas_threads(n);
        blas_gemm(false, false, 2, 2, 2, 1, a, 2, a, 2, 0, c, 2);
        assert_int_equal(omp_get_max_threads(), 2);
        assert_true(c[0] == 7 && c[3] == 22);
    }
    blas_threads(1);
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_shape), cmocka_unit_test(any_rows), cmocka_unit_test(any_cut_of_k),
        cmocka_unit_test(each_part_once), cmocka_unit_test(threads_stay)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
