/* gemm.c: products in blocks (Goto and van de Geijn 2008), with both operands packed into the order
 * in which the kernels read them.
 *
 * A panel of B, BLOCK_K x PANEL, is packed by all threads into strips of as many columns as the
 * kernels take at a time; then the threads take tiles of C, about GEMM_ROWS rows by TILE_COLS
 * columns, as they come free. A thread packs the rows of A that its tile needs, unless they are
 * those of its last tile, and goes through each strip of the panel with tile_gemm_packed: a strip
 * stays in the first cache while the tile's rows of A pass by it.
 *
 * prepare() of a part of A runs while the panel of B is packed. finish() of a tile runs on few
 * columns at a time right after their last partial sum. */
#include "core/gemm.h"

#include <omp.h>
#include <string.h>

#include "base/error.h"
#include "core/bfloat.h"
#include "core/blas.h"
#include "core/kernel.h"
#include "core/tile.h"

enum { BLOCK_K = 512, PANEL = 2048, TILE_COLS = 512, FINISH_COLS = 128, PACK_COLS = 128 };
enum { WIDE_TILES = 16, HIGH_TILES = 4 /* for a thread, or they are made smaller */ };
enum { ROWS_UNIT = 12 /* rows that the kernels take at a time, or a multiple */ };

static int64_t parts(int64_t n, int64_t each) { return (n + each - 1) / each; }

/* n in equal blocks of at most `most`, a multiple of `unit`. */
static int64_t even(int64_t n, int64_t most, int64_t unit) {
    int64_t blocks = parts(n, most);
    return parts(parts(n, blocks), unit) * unit;
}

/* --- packing ---------------------------------------------------------------------------------- */

int64_t gemm_strip_cols(void) { return kernel_level == KERNEL_BLAS ? GEMM_STRIP_MAX : tile_cols(); }

/* Columns j.. of B, terms k..k+K. */
static void pack_columns(bool trans, int64_t j, int64_t cols, int64_t k, int64_t K, const real *b,
                         int64_t ldb, real *out) {
    tile_pack(gemm_strip_cols(), cols, K, trans ? b + j * ldb + k : b + k * ldb + j,
              trans ? ldb : 1, trans ? 1 : ldb, out);
}

/* The same of a B in bfloat16, a strip at a time. */
static void pack_half(bool trans, int64_t j, int64_t cols, int64_t k, int64_t K, const uint16_t *b,
                      int64_t ldb, real *out) {
    enum { TERMS = 256, PAD = 16 /* rows apart would share few sets of the cache */ };
    const int64_t width = gemm_strip_cols();
    real wide[GEMM_STRIP_MAX * (TERMS + PAD)];
    for (int64_t s = 0; s < cols; s += width)
        for (int64_t k0 = 0; k0 < K; k0 += TERMS) {
            const int64_t n = cols - s < width ? cols - s : width;
            const int64_t m = K - k0 < TERMS ? K - k0 : TERMS;
            const uint16_t *from = trans ? b + (j + s) * ldb + k + k0 : b + (k + k0) * ldb + j + s;
            real *to = out + s * K + k0 * width;
            for (int64_t i = 0; trans && i < n; i++)
                bfloat_widen(m, from + i * ldb, wide + i * (TERMS + PAD));
            for (int64_t i = 0; !trans && i < m; i++)
                bfloat_widen(n, from + i * ldb, wide + i * width);
            tile_pack(width, n, m, wide, trans ? TERMS + PAD : 1, trans ? 1 : width, to);
        }
}

int64_t gemm_packed_size(int64_t N, int64_t K) {
    return parts(N, GEMM_STRIP_MAX) * GEMM_STRIP_MAX * K; /* on any level */
}

void gemm_pack(bool trans, int64_t N, int64_t K, const real *b, int64_t ldb, real *out) {
#pragma omp parallel for schedule(static) if (N * K > PARALLEL_MIN)
    for (int64_t j = 0; j < N; j += PACK_COLS)
        pack_columns(trans, j, N - j < PACK_COLS ? N - j : PACK_COLS, 0, K, b, ldb, out + j * K);
}

void gemm_pack_half(int64_t N, int64_t K, const uint16_t *b, int64_t ldb, uint16_t *out) {
    const int64_t width = gemm_strip_cols();
#pragma omp parallel for schedule(static) if (N * K > PARALLEL_MIN)
    for (int64_t j = 0; j < N; j += width)
        for (int64_t k = 0; k < K; k++)
            for (int64_t i = 0; i < width; i++)
                out[j * K + k * width + i] = j + i < N ? b[(j + i) * ldb + k] : 0;
}

/* --- products --------------------------------------------------------------------------------- */

/* M rows of one strip, of which the first cols columns are in C. A as it lies, or packed if ak is 0. */
static void strip_rows(int64_t M, int64_t K, const real *a, int64_t ai, int64_t ak,
                       const real *strip, int64_t cols, bool add, real *c, int64_t ldc) {
    const int64_t width = tile_cols();
    real full[GEMM_ROWS * GEMM_STRIP_MAX];
    const bool part = cols < width;
    const int64_t most = part ? GEMM_ROWS : M;
    for (int64_t i0 = 0; i0 < M; i0 += most) {
        const int64_t rows = M - i0 < most ? M - i0 : most;
        const real *from = ak ? a + i0 * ai : a + i0 * K /* whole groups */;
        real *to = part ? full : c + i0 * ldc;
        const int64_t ld = part ? width : ldc;
        if (part && add) memset(full, 0, (size_t)(rows * width) * sizeof *full);
        for (int64_t i = 0; part && add && i < rows; i++)
            memcpy(full + i * width, c + (i0 + i) * ldc, (size_t)cols * sizeof *full);
        if (ak)
            tile_gemm_far(rows, width, K, from, ai, ak, strip, add, to, ld);
        else
            tile_gemm_packed(rows, K, from, strip, add, to, ld);
        for (int64_t i = 0; part && i < rows; i++)
            memcpy(c + (i0 + i) * ldc, full + i * width, (size_t)cols * sizeof *full);
    }
}

void gemm_strip(int64_t M, int64_t K, const real *a, int64_t lda, const real *strip, int64_t cols,
                real *c, int64_t ldc) {
    if (kernel_level == KERNEL_BLAS) {
        blas_gemm(false, false, M, cols, K, 1, a, lda, strip, GEMM_STRIP_MAX, 0, c, ldc);
        return;
    }
    int64_t block = even(K, BLOCK_K, 1);
    for (int64_t k = 0; k < K; k += block)
        strip_rows(M, K - k < block ? K - k : block, a + k, lda, 1, strip + k * tile_cols(), cols,
                   k > 0, c, ldc);
}

void gemm_strip_half(int64_t M, int64_t K, const real *a, int64_t lda, const uint16_t *strip,
                     int64_t cols, real *c, int64_t ldc) {
    const int64_t block = even(K, BLOCK_K, 1), width = tile_cols();
    real wide[GEMM_STRIP_MAX * BLOCK_K];
    for (int64_t k = 0; k < K; k += block) {
        const int64_t m = K - k < block ? K - k : block;
        bfloat_widen(m * width, strip + k * width, wide);
        strip_rows(M, m, a + k, lda, 1, wide, cols, k > 0, c, ldc);
    }
}

/* sum[i] += a[k][i] for each k. */
KERNEL(add_rows, (int64_t K, int64_t n, const real *restrict a, int64_t ld, real *restrict sum),
       (K, n, a, ld, sum)) {
    for (int64_t k = 0; k < K; k++, a += ld)
        for (int64_t i = 0; i < n; i++) sum[i] += a[i];
}

/* Terms [k0, k0 + K) of a tile; `packed` begins with its strips, `a` has its rows as tile_pack lays
 * them out. */
static void tile(const Gemm *g, const real *packed, const real *a, int64_t i, int64_t rows,
                 int64_t j, int64_t cols, int64_t k0, int64_t K) {
    const int64_t width = tile_cols();
    bool last = k0 + K == g->K;
    for (int64_t from = j; from < j + cols; from += FINISH_COLS) {
        int64_t to = from + FINISH_COLS < j + cols ? from + FINISH_COLS : j + cols;
        for (int64_t s = from; s < to; s += width)
            strip_rows(rows, K, a, 0, 0, packed + (s - j) * K, to - s < width ? to - s : width,
                       g->add || k0 > 0, g->c + i * g->ldc + s, g->ldc);
        if (last && g->finish) g->finish(g->ctx, i, from, rows, to - from);
    }
}

/* Rows i.. of A, terms k0.., packed. */
static void pack_rows(const Gemm *g, int64_t i, int64_t rows, int64_t k0, int64_t K, real *out) {
    const real *a = g->trans_a ? g->a + k0 * g->lda + i : g->a + i * g->lda + k0;
    tile_pack(tile_rows(), rows, K, a, g->trans_a ? 1 : g->lda, g->trans_a ? g->lda : 1, out);
}

/* The tiles of a part of C. Threads end together only where there are several for each, so they are
 * narrower, and then lower, where there are few. */
static void tile_shape(int64_t M, int64_t N, int threads, int64_t *rows, int64_t *cols) {
    *rows = even(M, GEMM_ROWS, ROWS_UNIT);
    *cols = TILE_COLS;
    if (threads == 1) return;
    while (*cols > FINISH_COLS && parts(M, *rows) * parts(N, *cols) < WIDE_TILES * threads)
        *cols /= 2;
    while (*rows > 2 * ROWS_UNIT && parts(M, *rows) * parts(N, *cols) < HIGH_TILES * threads)
        *rows = even(M, *rows / 2, ROWS_UNIT);
}

/* n columns of B, one after another. */
static void widen_tile(const Gemm *g, const uint16_t *b, int64_t n, real *out) {
    const int64_t rows = g->trans_b ? n : g->K, cols = g->trans_b ? g->K : n;
    for (int64_t i = 0; i < rows; i++) bfloat_widen(cols, b + i * g->ldb, out + i * cols);
}

/* The same on the level `blas`: each tile is a product of one thread's, so that threads change no
 * bit, and prepare and finish are as before. */
static void gemm_blas(const Gemm *g, bool parallel, real *wide) {
    const int64_t rows = even(g->M, GEMM_ROWS, ROWS_UNIT), ncol = parts(g->N, TILE_COLS);
#pragma omp parallel if (parallel)
    {
        if (g->prepare) {
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < g->M; i += rows)
                g->prepare(g->ctx, i, g->M - i < rows ? g->M - i : rows);
        }
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < parts(g->M, rows) * ncol; t++) {
            int64_t i = t / ncol * rows, j = t % ncol * TILE_COLS;
            int64_t m = g->M - i < rows ? g->M - i : rows,
                    n = g->N - j < TILE_COLS ? g->N - j : TILE_COLS;
            const int64_t at = j * (g->trans_b ? g->ldb : 1);
            const real *b = g->b_half ? wide + omp_get_thread_num() * TILE_COLS * g->K : g->b + at;
            if (g->b_half) widen_tile(g, g->b_half + at, n, (real *)(uintptr_t)b);
            const int64_t ldb = !g->b_half ? g->ldb : g->trans_b ? g->K : n;
            blas_gemm(g->trans_a, g->trans_b, m, n, g->K, 1, g->a + i * (g->trans_a ? 1 : g->lda),
                      g->lda, b, ldb, g->add, g->c + i * g->ldc + j, g->ldc);
            if (g->a_sum && j == 0) add_rows(g->K, m, g->a + i, g->lda, g->a_sum + i);
            if (g->finish) g->finish(g->ctx, i, j, m, n);
        }
    }
}

void gemm(Arena *arena, const Gemm *g) {
    CHECK(!g->a_sum || g->trans_a, "sums of a matrix that is not transposed");
    if (g->M == 0 || g->N == 0) return;
    bool parallel = g->M * g->N * g->K > 16 * PARALLEL_MIN && !omp_in_parallel();
    ArenaMark mark = arena_mark(arena);
    int threads = parallel ? omp_get_max_threads() : 1;
    if (kernel_level == KERNEL_BLAS) {
        const int64_t size = g->b_half ? threads * TILE_COLS * g->K : 0;
        real *wide = size ? arena_numbers(arena, (size_t)size * sizeof *wide) : NULL;
        if (!arena->dry) gemm_blas(g, parallel, wide);
        arena_release(arena, mark);
        return;
    }
    int64_t block_k = g->K ? even(g->K, BLOCK_K, 1) : 1, panel_cols = even(g->N, PANEL, TILE_COLS);
    int64_t rows, wide;
    tile_shape(g->M, panel_cols < g->N ? panel_cols : g->N, threads, &rows, &wide);
    const int64_t nrow = parts(g->M, rows);
    int64_t panel_size = gemm_packed_size(panel_cols < g->N ? panel_cols : g->N, block_k);
    real *packed = arena_numbers(arena, (size_t)panel_size * sizeof *packed);
    const int64_t each = GEMM_ROWS * block_k; /* of A, for a thread */
    real *packed_a = arena_numbers(arena, (size_t)(threads * each) * sizeof *packed_a);
    if (arena->dry) { /* the memory is all that a dry pass needs; no threads either */
        arena_release(arena, mark);
        return;
    }
#pragma omp parallel num_threads(threads)
    for (int64_t j0 = 0; j0 < g->N; j0 += panel_cols) {
        int64_t cols = g->N - j0 < panel_cols ? g->N - j0 : panel_cols, ncol = parts(cols, wide);
        real *a = packed_a + omp_get_thread_num() * each;
        for (int64_t k0 = 0; k0 == 0 || k0 < g->K; k0 += block_k) { /* K = 0: C is cleared */
            int64_t K = g->K - k0 < block_k ? g->K - k0 : block_k, has = -1; /* rows in `a` */
            if (j0 == 0 && k0 == 0 && g->prepare) {
#pragma omp for schedule(dynamic) nowait
                for (int64_t i = 0; i < g->M; i += rows)
                    g->prepare(g->ctx, i, g->M - i < rows ? g->M - i : rows);
            }
#pragma omp for schedule(dynamic)
            for (int64_t s = 0; s < cols; s += PACK_COLS) {
                const int64_t n = cols - s < PACK_COLS ? cols - s : PACK_COLS;
                if (g->b_half)
                    pack_half(g->trans_b, j0 + s, n, k0, K, g->b_half, g->ldb, packed + s * K);
                else
                    pack_columns(g->trans_b, j0 + s, n, k0, K, g->b, g->ldb, packed + s * K);
            }
#pragma omp for schedule(dynamic)
            for (int64_t t = 0; t < nrow * ncol; t++) {
                int64_t i = t / ncol * rows, j = t % ncol * wide;
                int64_t m = g->M - i < rows ? g->M - i : rows,
                        n = cols - j < wide ? cols - j : wide;
                if (i != has) pack_rows(g, i, m, k0, K, a);
                has = i;
                if (g->a_sum && j0 + j == 0)
                    add_rows(K, m, g->a + k0 * g->lda + i, g->lda, g->a_sum + i);
                tile(g, packed + j * K, a, i, m, j0 + j, n, k0, K);
            }
        }
    }
    arena_release(arena, mark);
}
