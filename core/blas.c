/* blas.c: OpenBLAS, and what every process and thread needs before it computes.
 *
 * OpenBLAS runs a product that is called inside an OpenMP parallel region in the calling thread
 * alone, and that is how Rhetor uses it: blas_gemm_tiles cuts a product into tiles that depend on
 * its shape only, so results do not depend on the number of threads. */
#include "core/blas.h"

#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "base/error.h"
#include "core/kernel.h"

#ifdef RHETOR_DOUBLE
#define GEMM cblas_dgemm
#else
#define GEMM cblas_sgemm
#endif

void blas_gemm(bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, real alpha,
               const real *a, int64_t lda, const real *b, int64_t ldb, real beta, real *c,
               int64_t ldc) {
    if (M == 0 || N == 0) return;
    GEMM(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans,
         (blasint)M, (blasint)N, (blasint)K, alpha, a, (blasint)lda, b, (blasint)ldb, beta, c,
         (blasint)ldc);
}

void blas_gemm_tiles(bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, real alpha,
                     const real *a, int64_t lda, const real *b, int64_t ldb, real beta, real *c,
                     int64_t ldc) {
    if (M == 0 || N == 0) return;
    /* Small tiles pack their operands too often, few tiles leave threads idle: halve the longer
     * side until there are 32 tiles of at least about 96 x 128, or more of about 256 x 256. */
    enum { WORK_MIN = 1 << 20, AREA_MIN = 96 * 128, AREA_GOOD = 256 * 256, TILES = 32 };
    int64_t rows = M, cols = N, tiles = M * N / AREA_MIN;
    if (tiles > TILES) tiles = TILES;
    if (tiles < M * N / AREA_GOOD) tiles = M * N / AREA_GOOD;
    if (tiles < 2) tiles = 2;
    for (; tiles > 1 && 2 * M * N * K > WORK_MIN; tiles /= 2) {
        if (rows >= cols)
            rows = (rows + 1) / 2;
        else
            cols = (cols + 1) / 2;
    }
    rows = (rows + 15) / 16 * 16;
    cols = (cols + 15) / 16 * 16;
    int64_t nr = (M + rows - 1) / rows, nc = (N + cols - 1) / cols;
#pragma omp parallel for schedule(dynamic) if (nr * nc > 1)
    for (int64_t t = 0; t < nr * nc; t++) {
        int64_t i = t / nc * rows, j = t % nc * cols;
        int64_t m = M - i < rows ? M - i : rows, n = N - j < cols ? N - j : cols;
        blas_gemm(trans_a, trans_b, m, n, K, alpha, a + (trans_a ? i : i * lda), lda,
                  b + (trans_b ? j * ldb : j), ldb, beta, c + i * ldc + j, ldc);
    }
}

const char *blas_kernel(void) {
    static char text[160];
    char version[32] = "";
    sscanf(openblas_get_config(), "OpenBLAS %31s", version);
    snprintf(text, sizeof text, "OpenBLAS %s %s, %s, %d threads; core %s", version,
             openblas_get_corename(), openblas_get_parallel() == 2 ? "OpenMP" : "not OpenMP",
             omp_get_max_threads(), kernel_name(kernel_level));
    return text;
}

/* Denormals cost a hundred times a normal number and mean nothing here. */
static void flush_denormals(void) {
#ifdef __x86_64__
    _mm_setcsr(_mm_getcsr() | 0x8040); /* flush results to zero, take inputs as zero */
#endif
}

void core_init(void) {
    kernel_level = kernel_wanted();
#pragma omp parallel
    flush_denormals();
}
