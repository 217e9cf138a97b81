/* gemm.h: matrix products of the core's own, in which the work before and after a product happens
 * while its operands are in the cache. Row-major.
 *
 * On our own kernels each element of C is one chain of multiply-adds in order of k, which begins at
 * 0 or, when it is added to, at C. So an element's bits do not depend on M, N, the tiles, the
 * threads, or which other rows are in the product: a token's forward pass is the same alone and
 * packed anywhere. Nor do they depend on how k is cut into several products: a weight's gradient is
 * the same for any micro-batches of the same tokens in the same order. */
#ifndef CORE_GEMM_H
#define CORE_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/real.h"

typedef struct Gemm {
    int64_t M, N, K;
    const real *a; /* [M,K], or [K,M] if trans_a; lda between its rows */
    const real *b; /* [K,N], or [N,K] if trans_b */
    const uint16_t
        *b_half; /* instead of b: the same in bfloat16; NULL: b. Read exactly, so the bits
                               are those of a b with these numbers */
    real *c;     /* [M,N] */
    int64_t lda, ldb, ldc;
    bool trans_a, trans_b;
    bool add;    /* C += A B instead of C = A B */
    real *a_sum; /* [M] += sum over k of A(i,k), a chain too, if trans_a; NULL: not wanted */
    /* Called once for each part of C when it is complete, and once for each part of A (rows i..,
     * all K) before any of it is read; by the thread at hand. NULL: nothing to do. */
    void (*finish)(void *ctx, int64_t i, int64_t j, int64_t rows, int64_t cols);
    void (*prepare)(void *ctx, int64_t i, int64_t rows);
    void *ctx;
} Gemm;

enum { GEMM_ROWS = 144 /* most rows of a part */ };

/* Threads: those of the caller's OpenMP region, if any, else all. Scratch from the arena is given
 * back. */
void gemm(Arena *arena, const Gemm *g);

/* The right-hand side of many small products, packed once: strips of S = gemm_strip_cols() columns,
 * as many as the kernels in use take at a time, [N rounded up / S][K][S], columns beyond N zero. */
enum { GEMM_STRIP_MAX = 32 };
int64_t gemm_strip_cols(void);
int64_t gemm_packed_size(int64_t N, int64_t K); /* elements */
void gemm_pack(bool trans, int64_t N, int64_t K, const real *b, int64_t ldb, real *out);
/* The same of B in bfloat16, [N,K] (as if trans), which it stays. Not for the level `blas`. */
void gemm_pack_half(int64_t N, int64_t K, const uint16_t *b, int64_t ldb, uint16_t *out);

/* C[M, j..j+cols) = A times the strip of columns j.. (cols <= S). A [M,K]. One thread. */
void gemm_strip(int64_t M, int64_t K, const real *a, int64_t lda, const real *strip, int64_t cols,
                real *c, int64_t ldc);
void gemm_strip_half(int64_t M, int64_t K, const real *a, int64_t lda, const uint16_t *strip,
                     int64_t cols, real *c, int64_t ldc);

#endif
