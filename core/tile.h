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

/* out [N,M] = transposed in [M,N]; ld and ldo between their rows. */
void tile_transpose(int64_t M, int64_t N, const real *in, int64_t ld, real *out, int64_t ldo);

#endif
