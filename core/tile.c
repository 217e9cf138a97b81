/* tile.c: three versions of the product in tile_kernel.h. They differ in the width and number of
 * registers, which KERNEL (kernel.h) cannot express, so the text is included three times. */
#include "core/tile.h"

#include <string.h>

#include "core/kernel.h"

enum { REAL_SIZE = sizeof(real), AHEAD = 52 /* steps of k that a far B is fetched ahead */ };

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

static int64_t vector_bytes(void) {
    return kernel_level == KERNEL_AVX512 ? 64 : kernel_level == KERNEL_AVX2 ? 32 : 16;
}

static void gemm(int64_t M, int64_t N, int64_t K, const real *a, int64_t ai, int64_t ak,
                 const real *b, int64_t ldb, int64_t ahead, bool add, real *c, int64_t ldc) {
#ifdef __x86_64__
    if (kernel_level == KERNEL_AVX512) {
        avx512_gemm(M, N, K, a, ai, ak, b, ldb, ahead, add, c, ldc);
        return;
    }
    if (kernel_level == KERNEL_AVX2) {
        avx2_gemm(M, N, K, a, ai, ak, b, ldb, ahead, add, c, ldc);
        return;
    }
#endif
    plain_gemm(M, N, K, a, ai, ak, b, ldb, ahead, add, c, ldc);
}

void tile_gemm(int64_t M, int64_t N, int64_t K, const real *a, int64_t ai, int64_t ak,
               const real *b, int64_t ldb, bool add, real *c, int64_t ldc) {
    gemm(M, N, K, a, ai, ak, b, ldb, 0, add, c, ldc);
}

int64_t tile_cols(void) { return 2 * vector_bytes() / REAL_SIZE; }

int64_t tile_rows(void) {
    return kernel_level == KERNEL_AVX512 ? 12 : kernel_level == KERNEL_AVX2 ? 6 : 4;
}

void tile_gemm_packed(int64_t M, int64_t K, const real *a, const real *b, bool add, real *c,
                      int64_t ldc) {
#ifdef __x86_64__
    if (kernel_level == KERNEL_AVX512) {
        avx512_packed(M, K, a, b, add, c, ldc);
        return;
    }
    if (kernel_level == KERNEL_AVX2) {
        avx2_packed(M, K, a, b, add, c, ldc);
        return;
    }
#endif
    plain_packed(M, K, a, b, add, c, ldc);
}

void tile_gemm_far(int64_t M, int64_t N, int64_t K, const real *a, int64_t ai, int64_t ak,
                   const real *b, bool add, real *c, int64_t ldc) {
    gemm(M, N, K, a, ai, ak, b, N, AHEAD * N, add, c, ldc);
}

/* out [N][4 of ldo] = transposed in [4 rows of ld][N] */
typedef real V4 __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real)), may_alias));

static void transpose_4(int64_t N, const real *in, int64_t ld, real *out, int64_t ldo) {
    int64_t j = 0;
    for (; j + 4 <= N; j += 4) {
        __builtin_prefetch(in + (8 + j / 4 % 4) * ld + j); /* a line in each step of 16 columns */
        V4 r0 = *(const V4 *)(in + j), r1 = *(const V4 *)(in + ld + j);
        V4 r2 = *(const V4 *)(in + 2 * ld + j), r3 = *(const V4 *)(in + 3 * ld + j);
        V4 a = __builtin_shufflevector(r0, r1, 0, 4, 1, 5),
           b = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
        V4 c = __builtin_shufflevector(r2, r3, 0, 4, 1, 5),
           d = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
        *(V4 *)(out + j * ldo) = __builtin_shufflevector(a, c, 0, 1, 4, 5);
        *(V4 *)(out + (j + 1) * ldo) = __builtin_shufflevector(a, c, 2, 3, 6, 7);
        *(V4 *)(out + (j + 2) * ldo) = __builtin_shufflevector(b, d, 0, 1, 4, 5);
        *(V4 *)(out + (j + 3) * ldo) = __builtin_shufflevector(b, d, 2, 3, 6, 7);
    }
    for (; j < N; j++)
        for (int64_t i = 0; i < 4; i++) out[j * ldo + i] = in[i * ld + j];
}

/* out [N][2 of ldo] = transposed in [2 rows of ld][N] */
static void transpose_2(int64_t N, const real *in, int64_t ld, real *out, int64_t ldo) {
    for (int64_t j = 0; j < N; j++) {
        real pair[2] = {in[j], in[ld + j]};
        memcpy(out + j * ldo, pair, sizeof pair);
    }
}

void tile_transpose(int64_t M, int64_t N, const real *in, int64_t ld, real *out, int64_t ldo) {
    int64_t i = 0;
    for (; i + 4 <= M; i += 4) transpose_4(N, in + i * ld, ld, out + i, ldo);
    for (; i + 2 <= M; i += 2) transpose_2(N, in + i * ld, ld, out + i, ldo);
    for (; i < M; i++)
        for (int64_t j = 0; j < N; j++) out[j * ldo + i] = in[i * ld + j];
}

/* tile_pack of what lies in order of i: a few steps of k at a time, so that the lines read and
 * written are few enough for the first cache at any stride. */
static inline __attribute__((always_inline)) void pack_rows(const int64_t width, int64_t n,
                                                            int64_t K, const real *restrict x,
                                                            int64_t ld, real *restrict out) {
    enum { STEPS = 8 };
    for (int64_t k0 = 0; k0 < K; k0 += STEPS) {
        const int64_t k1 = k0 + STEPS < K ? k0 + STEPS : K;
        for (int64_t i = 0; i < n; i += width)
            for (int64_t k = k0; k < k1; k++)
                memcpy(out + i * K + k * width, x + k * ld + i, (size_t)width * sizeof *out);
    }
}

void tile_pack(int64_t width, int64_t n, int64_t K, const real *x, int64_t xi, int64_t xk,
               real *out) {
    const int64_t whole = xi == 1 ? n / width * width : 0;
    switch (width) { /* copies of known lengths are done in place */
    case 4: pack_rows(4, whole, K, x, xk, out); break;
    case 6: pack_rows(6, whole, K, x, xk, out); break;
    case 8: pack_rows(8, whole, K, x, xk, out); break;
    case 12: pack_rows(12, whole, K, x, xk, out); break;
    case 16: pack_rows(16, whole, K, x, xk, out); break;
    default: pack_rows(width, whole, K, x, xk, out); break;
    }
    for (int64_t i = whole; i < n; i += width) {
        const int64_t rows = n - i < width ? n - i : width;
        real *to = out + i * K;
        if (rows < width) memset(to, 0, (size_t)(K * width) * sizeof *to);
        if (xi != 1)
            tile_transpose(rows, K, x + i * xi, xi, to, width);
        else
            for (int64_t k = 0; k < K; k++)
                memcpy(to + k * width, x + k * xk + i, (size_t)rows * sizeof *to);
    }
}
