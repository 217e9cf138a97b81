/* blas.c: OpenBLAS, against which core/gemm.h is tested and measured, and what every process and
 * thread needs before it computes. */
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
