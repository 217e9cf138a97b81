/* blas.h: the only way to OpenBLAS (core/blas.c is the only file that includes cblas.h).
 * Row-major.  C[M,N] = alpha * op(A) op(B) + beta * C */
#ifndef CORE_BLAS_H
#define CORE_BLAS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/real.h"

void blas_gemm(bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, real alpha,
               const real *a, int64_t lda, const real *b, int64_t ldb, real beta, real *c,
               int64_t ldc);

const char *
blas_kernel(void); /* e.g. "OpenBLAS 0.3.21 SkylakeX, OpenMP, 2 threads; core AVX-512" */

/* Call once at the start of a program: chooses the kernels for this processor and makes every
 * OpenMP thread flush denormals to zero. Without it all results are right, but slow to come. */
void core_init(void);

#endif
