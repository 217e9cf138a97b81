/* blas.c: the only file that knows CBLAS. What OpenBLAS has beside it is used where it is there. */
#include "core/blas.h"

#include <cblas.h>
#include <omp.h>
#include <stdio.h>

#pragma weak openblas_get_config
#pragma weak openblas_get_corename
#pragma weak openblas_set_num_threads

#ifdef RHETOR_DOUBLE
#define GEMM cblas_dgemm
#else
#define GEMM cblas_sgemm
#endif

static int threads = 1; /* of a product that is asked for outside of a parallel region */

void blas_threads(int n) { threads = n; }

void blas_gemm(bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, real alpha,
               const real *a, int64_t lda, const real *b, int64_t ldb, real beta, real *c,
               int64_t ldc) {
    if (M == 0 || N == 0) return;
    /* OpenBLAS built with OpenMP takes the number from it, and setting it there sets OpenMP's. */
    const int before = omp_in_parallel() ? threads : omp_get_max_threads();
    if (before != threads && openblas_set_num_threads) openblas_set_num_threads(threads);
    GEMM(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans,
         (blasint)M, (blasint)N, (blasint)K, alpha, a, (blasint)lda, b, (blasint)ldb, beta, c,
         (blasint)ldc);
    if (before != threads) omp_set_num_threads(before);
}

const char *blas_name(void) {
    static char text[96];
    char version[32] = "";
    if (!openblas_get_config || !openblas_get_corename) return "CBLAS";
    sscanf(openblas_get_config(), "OpenBLAS %31s", version);
    snprintf(text, sizeof text, "OpenBLAS %s %s", version, openblas_get_corename());
    return text;
}
