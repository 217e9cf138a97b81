/* tile_kernel.h: the products of tile.c, included once for each version of the kernels with
 *   TILE(name)   the version's function names
 *   LANES        reals in a vector register
 *   ROWS         rows of C kept in registers
 * ROWS x 2 vectors of C stay in registers while k runs: each step loads two vectors of B,
 * broadcasts ROWS numbers of A, and does 2 ROWS fused multiply-adds. The last rows make two even
 * groups where one would be of few, which waits for its own sums. A first group of many rows can
 * also fetch B, `ahead` elements on, into the second cache: the processor itself does not look far
 * enough ahead where the arithmetic takes as long as the reading. With few it does, and would only
 * be held up. (No include guard.) */

typedef real TILE(vec)
    __attribute__((vector_size(LANES * sizeof(real)), aligned(sizeof(real)), may_alias));

/* The sum over k begins at C when it is added to, so that it does not matter into how many calls k
 * is cut: a longer sum goes on where the last call ended. */
static inline __attribute__((always_inline)) void
TILE(strip)(const int rows, const int vecs, const bool far, int64_t K, const real *restrict a,
            int64_t ai, int64_t ak, const real *restrict b, int64_t ldb, int64_t ahead, bool add,
            real *restrict c, int64_t ldc) {
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
            if (far) __builtin_prefetch(b + ahead + v * LANES, 0, 2);
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

/* A group of any number of rows. */
static inline __attribute__((always_inline)) void
TILE(group)(int rows, const int vecs, int64_t K, const real *a, int64_t ai, int64_t ak,
            const real *b, int64_t ldb, int64_t ahead, bool add, real *c, int64_t ldc) {
#define GROUP(n, fetch)                                                           \
    case n:                                                                       \
        if (fetch && ahead > 0)                                                   \
            TILE(strip)(n, vecs, true, K, a, ai, ak, b, ldb, ahead, add, c, ldc); \
        else                                                                      \
            TILE(strip)(n, vecs, false, K, a, ai, ak, b, ldb, 0, add, c, ldc);    \
        break;
    switch (rows) {
        GROUP(1, false)
        GROUP(2, false)
        GROUP(3, false)
        GROUP(4, false)
#if ROWS >= 6
        GROUP(5, true)
        GROUP(6, true)
#endif
#if ROWS >= 12
        GROUP(7, true)
        GROUP(8, true)
        GROUP(9, true)
        GROUP(10, true)
        GROUP(11, true)
        GROUP(12, true)
#endif
    }
#undef GROUP
}

/* All M rows of `vecs` vectors of columns. The first group brings B into the cache. */
static inline __attribute__((always_inline)) void
TILE(column)(const int vecs, int64_t M, int64_t K, const real *a, int64_t ai, int64_t ak,
             const real *b, int64_t ldb, int64_t ahead, bool add, real *c, int64_t ldc) {
    for (int64_t i = 0, rows; i < M; i += rows, ahead = 0) {
        rows = M - i;
        if (rows >= ROWS + 4 || rows == ROWS)
            rows = ROWS;
        else if (rows > ROWS)
            rows = (rows + 1) / 2; /* and as many, instead of few */
        TILE(group)((int)rows, vecs, K, a + i * ai, ai, ak, b, ldb, ahead, add, c + i * ldc, ldc);
    }
}

static void TILE(gemm)(int64_t M, int64_t N, int64_t K, const real *a, int64_t ai, int64_t ak,
                       const real *b, int64_t ldb, int64_t ahead, bool add, real *c, int64_t ldc) {
    int64_t j = 0;
    for (; j + 2 * LANES <= N; j += 2 * LANES)
        TILE(column)(2, M, K, a, ai, ak, b + j, ldb, ahead, add, c + j, ldc);
    for (; j < N; j += LANES) TILE(column)(1, M, K, a, ai, ak, b + j, ldb, ahead, add, c + j, ldc);
}

/* One strip of columns, both operands packed: a [M / ROWS rounded up][K][ROWS], b [K][2 LANES]. The
 * part of C that comes next is fetched during each group: it may be far, at a stride that the
 * processor does not follow. */
static void TILE(packed)(int64_t M, int64_t K, const real *a, const real *b, bool add, real *c,
                         int64_t ldc) {
    for (int64_t i = 0; i < M; i += ROWS, a += K * ROWS) {
        const real *next = i + ROWS < M ? c + (i + ROWS) * ldc : c + 2 * LANES;
        for (int64_t r = 0; add && r < ROWS; r++)
            for (int v = 0; v < 2; v++) __builtin_prefetch(next + r * ldc + v * LANES, 1);
        if (M - i >= ROWS)
            TILE(strip)(ROWS, 2, false, K, a, 1, ROWS, b, 2 * LANES, 0, add, c + i * ldc, ldc);
        else
            TILE(group)((int)(M - i), 2, K, a, 1, ROWS, b, 2 * LANES, 0, add, c + i * ldc, ldc);
    }
}

#undef TILE
#undef LANES
#undef ROWS
