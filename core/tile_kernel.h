/* tile_kernel.h: the product of tile.c, included once for each version of the kernels with
 *   TILE(name)   the version's function names
 *   LANES        reals in a vector register
 *   ROWS         rows of C kept in registers
 * A strip of ROWS x 2 vectors of C stays in registers while k runs: each step loads two vectors of
 * B, broadcasts ROWS numbers of A, and does 2 ROWS fused multiply-adds. With many rows it also
 * fetches B, `ahead` elements on (0: what it has already), into the second cache: the processor
 * itself does not look far enough ahead where the arithmetic takes as long as the reading. With few
 * it does, and would only be held up. (No include guard.) */

typedef real TILE(vec)
    __attribute__((vector_size(LANES * sizeof(real)), aligned(sizeof(real)), may_alias));

/* The sum over k begins at C when it is added to, so that it does not matter into how many calls k
 * is cut: a longer sum goes on where the last call ended. */
static inline __attribute__((always_inline)) void
TILE(strip)(const int rows, const int vecs, int64_t K, const real *a, int64_t ai, int64_t ak,
            const real *b, int64_t ldb, int64_t ahead, bool add, real *c, int64_t ldc) {
    TILE(vec) acc[ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vecs; v++) {
            const TILE(vec) *from = (const TILE(vec) *)(c + i * ldc + v * LANES);
            if (!add) __builtin_prefetch(from, 1);
            acc[i][v] = add ? *from : (TILE(vec)){0};
        }
    for (int64_t k = 0; k < K; k++, a += ak, b += ldb) {
        TILE(vec) bv[2];
#pragma GCC unroll 2
        for (int v = 0; v < vecs; v++) {
            bv[v] = *(const TILE(vec) *)(b + v * LANES);
            if (rows > 4) __builtin_prefetch(b + ahead + v * LANES, 0, 2);
        }
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int v = 0; v < vecs; v++) acc[i][v] += a[i * ai] * bv[v];
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vecs; v++) {
            TILE(vec) *to = (TILE(vec) *)(c + i * ldc + v * LANES);
            *to = acc[i][v];
        }
}

/* All M rows of `vecs` vectors of columns. The first rows bring B into the cache. */
static inline __attribute__((always_inline)) void
TILE(column)(const int vecs, int64_t M, int64_t K, const real *a, int64_t ai, int64_t ak,
             const real *b, int64_t ldb, int64_t ahead, bool add, real *c, int64_t ldc) {
    int64_t i = 0;
    for (; i + ROWS <= M; i += ROWS, ahead = 0)
        TILE(strip)(ROWS, vecs, K, a + i * ai, ai, ak, b, ldb, ahead, add, c + i * ldc, ldc);
#if ROWS > 8
    for (; i + 8 <= M; i += 8, ahead = 0)
        TILE(strip)(8, vecs, K, a + i * ai, ai, ak, b, ldb, ahead, add, c + i * ldc, ldc);
#endif
    for (; i + 4 <= M; i += 4)
        TILE(strip)(4, vecs, K, a + i * ai, ai, ak, b, ldb, 0, add, c + i * ldc, ldc);
    for (; i + 2 <= M; i += 2)
        TILE(strip)(2, vecs, K, a + i * ai, ai, ak, b, ldb, 0, add, c + i * ldc, ldc);
    if (i < M) TILE(strip)(1, vecs, K, a + i * ai, ai, ak, b, ldb, 0, add, c + i * ldc, ldc);
}

static void TILE(gemm)(int64_t M, int64_t N, int64_t K, const real *a, int64_t ai, int64_t ak,
                       const real *b, int64_t ldb, int64_t ahead, bool add, real *c, int64_t ldc) {
    int64_t j = 0;
    for (; j + 2 * LANES <= N; j += 2 * LANES)
        TILE(column)(2, M, K, a, ai, ak, b + j, ldb, ahead, add, c + j, ldc);
    for (; j < N; j += LANES) TILE(column)(1, M, K, a, ai, ak, b + j, ldb, ahead, add, c + j, ldc);
}

#undef TILE
#undef LANES
#undef ROWS
