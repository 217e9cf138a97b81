/* tile.h: matrix products on tiles that lie in the cache, the innermost part of core/gemm.h and of
 * attention: A is read as it lies, B row by row in vectors. Single-threaded. */
#ifndef CORE_TILE_H
#define CORE_TILE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/real.h"

enum { TILE_WIDTH = 16 }; /* N is a multiple of this */

/* C[M,N] = A B, or C += A B when `add`.  A(i,k) = a[i*ai + k*ak]; B[K,N] and C row-major with
 * leading dimensions ldb and ldc. Each element is a chain in order of k, from 0 or from C. */
void tile_gemm(int64_t M, int64_t N, int64_t K, const real *a, int64_t ai, int64_t ak,
               const real *b, int64_t ldb, bool add, real *c, int64_t ldc);

/* The same for a B, its rows one after another, that comes from memory or a far cache: it is
 * fetched ahead, and so is what lies behind it, which should be what is read next. */
void tile_gemm_far(int64_t M, int64_t N, int64_t K, const real *a, int64_t ai, int64_t ak,
                   const real *b, bool add, real *c, int64_t ldc);

/* The order in which the kernels read: out [n / width rounded up][K][width] from
 * x(i,k) = x[i*xi + k*xk], xi or xk 1; zeros beyond n. */
void tile_pack(int64_t width, int64_t n, int64_t K, const real *x, int64_t xi, int64_t xk,
               real *out);

/* Rows and columns of C that the kernels in use take at a time. */
int64_t tile_rows(void);
int64_t tile_cols(void);

/* C[M, tile_cols()] = A B or C += A B; A packed in strips of tile_rows(), B is one of tile_cols(). */
void tile_gemm_packed(int64_t M, int64_t K, const real *a, const real *b, bool add, real *c,
                      int64_t ldc);

/* out [N,M] = transposed in [M,N]; ld and ldo between their rows. */
void tile_transpose(int64_t M, int64_t N, const real *in, int64_t ld, real *out, int64_t ldo);

#endif
