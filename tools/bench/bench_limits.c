/* bench_limits.c: what the machine can do. See bench.h. */
#include <omp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "base/error.h"
#include "core/blas.h"
#include "core/kernel.h"
#include "tools/bench/bench.h"

enum { SGEMM_N = 2048, CHAINS = 12, FMA_ROUNDS = 5000000 };
enum { STREAM_BYTES = 256 << 20, STREAM_BLOCK = 1 << 16 /* elements */, HUGE_PAGE = 2 << 20 };
static const int64_t stream_n = STREAM_BYTES / (int64_t)sizeof(real);
static const double sgemm_flops = 2.0 * SGEMM_N * SGEMM_N * SGEMM_N;
static real *mat[3], *stream[3];             /* operands */
static volatile real half = (real)0.5, sink; /* keep the compiler from knowing results */

static clockid_t counted = CLOCK_MONOTONIC;

double bench_seconds(void) {
    struct timespec t;
    clock_gettime(counted, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void bench_count_cpu(void) {
    counted = CLOCK_PROCESS_CPUTIME_ID;
    omp_set_num_threads(1);
}

/* CHAINS independent sums in registers: enough to hide the latency of two FMA units. */
#define FMA_LOOP(name, target, bytes)                                                          \
    target static double name(int64_t rounds) {                                                \
        typedef real vec __attribute__((vector_size(bytes)));                                  \
        vec x = (vec){0} + half, acc[CHAINS];                                                  \
        for (int i = 0; i < CHAINS; i++) acc[i] = x;                                           \
        for (int64_t r = 0; r < rounds; r++)                                                   \
            _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) acc[i] = acc[i] * x + x; \
        for (int i = 1; i < CHAINS; i++) acc[0] += acc[i];                                     \
        sink = acc[0][0];                                                                      \
        return 2.0 * (double)rounds * CHAINS * (double)(bytes) / (sizeof(real));               \
    }
FMA_LOOP(fma_plain, , 16) /* without FMA a multiplication and an addition */
FMA_LOOP(fma_avx2, KERNEL_TARGET_AVX2, 32)
FMA_LOOP(fma_avx512, KERNEL_TARGET_AVX512, 64)

double bench_fma(void) {
    static double (*const loop[KERNEL_LEVELS])(int64_t) = {fma_plain, fma_plain, fma_avx2,
                                                           fma_avx512};
    double flops = 0, t = bench_seconds();
#pragma omp parallel reduction(+ : flops)
    flops += loop[kernel_supported()](FMA_ROUNDS);
    return flops / (bench_seconds() - t) * 1e-9;
}

/* From four places at once: one keeps too few reads in flight. */
KERNEL(stream_sum, (int64_t n, const real *x, real *sum), (n, x, sum)) {
    real s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n / 4; i++) s += x[i] + x[i + n / 4] + x[i + n / 2] + x[i + n / 4 * 3];
    *sum = s;
}

KERNEL(stream_triad, (int64_t n, const real *restrict b, const real *restrict c, real *restrict a),
       (n, b, c, a)) {
    for (int64_t i = 0; i < n; i++) a[i] = b[i] + (real)0.5 * c[i];
}

double bench_read(void) {
    double t = bench_seconds();
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < stream_n; i += STREAM_BLOCK) {
        real s;
        stream_sum(STREAM_BLOCK, stream[0] + i, &s);
        sink = s;
    }
    return STREAM_BYTES / (bench_seconds() - t) * 1e-9;
}

/* a = b + c/2: two arrays read, one written, counted as three, as STREAM does. */
double bench_triad(void) {
    double t = bench_seconds();
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < stream_n; i += STREAM_BLOCK)
        stream_triad(STREAM_BLOCK, stream[1] + i, stream[2] + i, stream[0] + i);
    return 3.0 * STREAM_BYTES / (bench_seconds() - t) * 1e-9;
}

double bench_sgemm(void) {
    double t = bench_seconds();
    blas_gemm(false, false, SGEMM_N, SGEMM_N, SGEMM_N, 1, mat[0], SGEMM_N, mat[1], SGEMM_N, 0,
              mat[2], SGEMM_N);
    return sgemm_flops / (bench_seconds() - t) * 1e-9;
}

/* count arrays of n elements, written by the threads that will read them (first touch). */
static void alloc_touched(real **p, int count, int64_t n) {
    for (int k = 0; k < count; k++) {
        p[k] = xaligned(HUGE_PAGE, n * sizeof(real));
        madvise(p[k], n * sizeof(real), MADV_HUGEPAGE); /* as core/arena.c; it may be refused */
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++) p[k][i] = (real)(i % 256) / 256 - (real)0.5;
    }
}

void bench_limits_open(bool sgemm, int memory_arrays) {
    blas_threads(omp_get_max_threads());
    if (sgemm) alloc_touched(mat, 3, SGEMM_N * SGEMM_N);
    alloc_touched(stream, memory_arrays, stream_n);
}
