/* blas.h: OpenBLAS, the kernel level `blas` (core/kernel.h) and what core/gemm.h is measured
 * against. Any library with a CBLAS interface can stand in. Row-major. */
#ifndef CORE_BLAS_H
#define CORE_BLAS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/real.h"

/* C[M,N] = alpha * op(A) op(B) + beta * C */
void blas_gemm(bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, real alpha,
               const real *a, int64_t lda, const real *b, int64_t ldb, real beta, real *c,
               int64_t ldc);

const char *blas_name(void); /* "OpenBLAS 0.3.21 SkylakeX" */
/* Threads of one product that is asked for outside of a parallel region (1). OpenMP keeps its own. */
void blas_threads(int n);

#endif
