/* blas.c: the only file that knows CBLAS. What OpenBLAS has beside it is used where it is there. */
#include "core/blas.h"

#include <cblas.h>
#include <stdio.h>

#pragma weak openblas_get_config
#pragma weak openblas_get_corename
#pragma weak openblas_set_num_threads

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

const char *blas_name(void) {
    static char text[96];
    char version[32] = "";
    if (!openblas_get_config || !openblas_get_corename) return "CBLAS";
    sscanf(openblas_get_config(), "OpenBLAS %31s", version);
    snprintf(text, sizeof text, "OpenBLAS %s %s", version, openblas_get_corename());
    return text;
}

void blas_threads(int n) {
    if (openblas_set_num_threads) openblas_set_num_threads(n);
}
