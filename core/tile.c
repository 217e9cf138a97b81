/* tile.c: three versions of the product in tile_kernel.h. They differ in the width and number of
 * registers, which KERNEL (kernel.h) cannot express, so the text is included three times. */
#include "core/tile.h"

#include "core/kernel.h"

enum { REAL_SIZE = sizeof(real) };

#define TILE(name) plain_##name
#define LANES      (16 / REAL_SIZE)
#define ROWS       4
#include "core/tile_kernel.h"

#ifdef __x86_64__

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define TILE(name) avx2_##name
#define LANES      (32 / REAL_SIZE)
#define ROWS       6
#include "core/tile_kernel.h"
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f"))), apply_to = function)
#else
#pragma GCC target("avx512f")
#endif
#define TILE(name) avx512_##name
#define LANES      (64 / REAL_SIZE)
#define ROWS       12
#include "core/tile_kernel.h"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

void tile_gemm(int64_t M, int64_t N, int64_t K, const real *a, int64_t ai, int64_t ak,
               const real *b, int64_t ldb, bool add, real *c, int64_t ldc) {
#ifdef __x86_64__
    if (kernel_level == KERNEL_AVX512) {
        avx512_gemm(M, N, K, a, ai, ak, b, ldb, add, c, ldc);
        return;
    }
    if (kernel_level == KERNEL_AVX2) {
        avx2_gemm(M, N, K, a, ai, ak, b, ldb, add, c, ldc);
        return;
    }
#endif
    plain_gemm(M, N, K, a, ai, ak, b, ldb, add, c, ldc);
}
