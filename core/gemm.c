/* gemm.c: products in blocks (Goto and van de Geijn 2008), with one operand packed.
 *
 * A panel of B, BLOCK_K x PANEL, is packed by all threads into strips of 32 columns; then the
 * threads take tiles of C, about GEMM_ROWS rows by TILE_COLS columns, as they come free, and go
 * through each strip of the panel with tile_gemm: a strip stays in the first cache while the tile's
 * rows of A pass by it. A is read where it lies, since broadcasts need no order; only where its
 * rows are a multiple of 4 KiB long, and so would all share few lines of the cache, a tile's rows
 * are copied.
 *
 * prepare() of a part of A runs while the panel of B is packed. finish() of a tile runs on few
 * columns at a time right after their last partial sum. */
#include "core/gemm.h"

#include <omp.h>
#include <string.h>

#include "base/error.h"
#include "core/blas.h"
#include "core/kernel.h"
#include "core/tile.h"

enum { STRIP = GEMM_STRIP, BLOCK_K = 512, PANEL = 2048, TILE_COLS = 512, FINISH_COLS = 128 };
enum { WIDE_TILES = 16, HIGH_TILES = 4 /* for a thread, or they are made smaller */ };
enum { ROWS_UNIT = 12 /* rows that the kernels take at a time, or a multiple */ };
enum { ALIAS = 4096 / sizeof(real), COPY_LD = BLOCK_K + 16 };

static int64_t parts(int64_t n, int64_t each) { return (n + each - 1) / each; }

/* n in equal blocks of at most `most`, a multiple of `unit`. */
static int64_t even(int64_t n, int64_t most, int64_t unit) {
    int64_t blocks = parts(n, most);
    return parts(parts(n, blocks), unit) * unit;
}

/* --- packing ---------------------------------------------------------------------------------- */

/* One strip: out [K][STRIP] from b [K][cols], or [cols][K] if trans; zeros beyond cols. */
static void pack_strip(bool trans, int64_t cols, int64_t K, const real *b, int64_t ldb,
                       real *restrict out) {
    if (cols < STRIP) memset(out, 0, (size_t)(K * STRIP) * sizeof *out);
    if (!trans && cols == STRIP) { /* the usual case: a copy of known length is done in place */
        for (int64_t k = 0; k < K; k++)
            for (int64_t j = 0; j < STRIP; j++) out[k * STRIP + j] = b[k * ldb + j];
        return;
    }
    if (!trans) {
        for (int64_t k = 0; k < K; k++)
            memcpy(out + k * STRIP, b + k * ldb, (size_t)cols * sizeof *out);
        return;
    }
    tile_transpose(cols, K, b, ldb, out, STRIP);
}

int64_t gemm_packed_size(int64_t N, int64_t K) { return parts(N, STRIP) * STRIP * K; }

void gemm_pack(bool trans, int64_t N, int64_t K, const real *b, int64_t ldb, real *out) {
#pragma omp parallel for schedule(static) if (N * K > PARALLEL_MIN)
    for (int64_t j = 0; j < N; j += STRIP)
        pack_strip(trans, N - j < STRIP ? N - j : STRIP, K, b + (trans ? j * ldb : j), ldb,
                   out + j * K);
}

/* --- products --------------------------------------------------------------------------------- */

/* M rows of one strip, of which the first cols columns are in C. */
static void strip_rows(int64_t M, int64_t K, const real *a, int64_t ai, int64_t ak,
                       const real *strip, int64_t cols, bool add, real *c, int64_t ldc) {
    if (cols == STRIP) {
        tile_gemm_far(M, STRIP, K, a, ai, ak, strip, add, c, ldc);
        return;
    }
    real full[GEMM_ROWS * STRIP];
    for (int64_t i0 = 0; i0 < M; i0 += GEMM_ROWS) {
        int64_t rows = M - i0 < GEMM_ROWS ? M - i0 : GEMM_ROWS;
        real *part = c + i0 * ldc;
        if (add) memset(full, 0, (size_t)(rows * STRIP) * sizeof *full);
        for (int64_t i = 0; add && i < rows; i++)
            memcpy(full + i * STRIP, part + i * ldc, (size_t)cols * sizeof *full);
        tile_gemm_far(rows, STRIP, K, a + i0 * ai, ai, ak, strip, add, full, STRIP);
        for (int64_t i = 0; i < rows; i++)
            memcpy(part + i * ldc, full + i * STRIP, (size_t)cols * sizeof *full);
    }
}

void gemm_strip(int64_t M, int64_t K, const real *a, int64_t lda, const real *strip, int64_t cols,
                real *c, int64_t ldc) {
    if (kernel_level == KERNEL_BLAS) {
        blas_gemm(false, false, M, cols, K, 1, a, lda, strip, STRIP, 0, c, ldc);
        return;
    }
    int64_t block = even(K, BLOCK_K, 1);
    for (int64_t k = 0; k < K; k += block)
        strip_rows(M, K - k < block ? K - k : block, a + k, lda, 1, strip + k * STRIP, cols, k > 0,
                   c, ldc);
}

/* sum[i] += a[k][i] for each k. */
KERNEL(add_rows, (int64_t K, int64_t n, const real *restrict a, int64_t ld, real *restrict sum),
       (K, n, a, ld, sum)) {
    for (int64_t k = 0; k < K; k++, a += ld)
        for (int64_t i = 0; i < n; i++) sum[i] += a[i];
}

/* Terms [k0, k0 + K) of a tile; `packed` begins with its strips. */
static void tile(const Gemm *g, const real *packed, real *copy, int64_t i, int64_t rows, int64_t j,
                 int64_t cols, int64_t k0, int64_t K) {
    const real *a = g->trans_a ? g->a + k0 * g->lda + i : g->a + i * g->lda + k0;
    int64_t ai = g->trans_a ? 1 : g->lda, ak = g->trans_a ? g->lda : 1;
    if (ai % ALIAS == 0) {
        for (int64_t r = 0; r < rows; r++)
            memcpy(copy + r * COPY_LD, a + r * ai, (size_t)K * sizeof *copy);
        a = copy;
        ai = COPY_LD;
    }
    /* on their way into the cache anyway; blocks of K come one after another */
    if (g->a_sum && j == 0) add_rows(K, rows, a, ak, g->a_sum + i);
    bool last = k0 + K == g->K;
    for (int64_t from = j; from < j + cols; from += FINISH_COLS) {
        int64_t to = from + FINISH_COLS < j + cols ? from + FINISH_COLS : j + cols;
        for (int64_t s = from; s < to; s += STRIP)
            strip_rows(rows, K, a, ai, ak, packed + (s - j) * K, to - s < STRIP ? to - s : STRIP,
                       g->add || k0 > 0, g->c + i * g->ldc + s, g->ldc);
        if (last && g->finish) g->finish(g->ctx, i, from, rows, to - from);
    }
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

/* The same on the level `blas`: each tile is a product of one thread's, so that threads change no
 * bit, and prepare and finish are as before. */
static void gemm_blas(const Gemm *g, bool parallel) {
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
            blas_gemm(g->trans_a, g->trans_b, m, n, g->K, 1, g->a + i * (g->trans_a ? 1 : g->lda),
                      g->lda, g->b + j * (g->trans_b ? g->ldb : 1), g->ldb, g->add,
                      g->c + i * g->ldc + j, g->ldc);
            if (g->a_sum && j == 0) add_rows(g->K, m, g->a + i, g->lda, g->a_sum + i);
            if (g->finish) g->finish(g->ctx, i, j, m, n);
        }
    }
}

void gemm(Arena *arena, const Gemm *g) {
    CHECK(!g->a_sum || g->trans_a, "sums of a matrix that is not transposed");
    if (g->M == 0 || g->N == 0) return;
    bool parallel = g->M * g->N * g->K > 16 * PARALLEL_MIN && !omp_in_parallel();
    if (kernel_level == KERNEL_BLAS) {
        if (!arena->dry) gemm_blas(g, parallel);
        return;
    }
    int64_t block_k = g->K ? even(g->K, BLOCK_K, 1) : 1, panel_cols = even(g->N, PANEL, TILE_COLS);
    ArenaMark mark = arena_mark(arena);
    int threads = parallel ? omp_get_max_threads() : 1;
    int64_t rows, tile_cols;
    tile_shape(g->M, panel_cols < g->N ? panel_cols : g->N, threads, &rows, &tile_cols);
    const int64_t nrow = parts(g->M, rows);
    int64_t panel_size = gemm_packed_size(panel_cols < g->N ? panel_cols : g->N, block_k);
    real *packed = arena_numbers(arena, (size_t)panel_size * sizeof *packed);
    const bool alias = !g->trans_a && g->lda % ALIAS == 0;
    const int64_t copied = alias ? GEMM_ROWS * COPY_LD : 0; /* for a thread */
    real *copy = alias ? arena_numbers(arena, (size_t)(threads * copied) * sizeof *copy) : NULL;
    if (arena->dry) { /* the memory is all that a dry pass needs; no threads either */
        arena_release(arena, mark);
        return;
    }
#pragma omp parallel num_threads(threads)
    for (int64_t j0 = 0; j0 < g->N; j0 += panel_cols) {
        int64_t cols = g->N - j0 < panel_cols ? g->N - j0 : panel_cols,
                ncol = parts(cols, tile_cols);
        for (int64_t k0 = 0; k0 == 0 || k0 < g->K; k0 += block_k) { /* K = 0: C is cleared */
            int64_t K = g->K - k0 < block_k ? g->K - k0 : block_k;
            if (j0 == 0 && k0 == 0 && g->prepare) {
#pragma omp for schedule(dynamic) nowait
                for (int64_t i = 0; i < g->M; i += rows)
                    g->prepare(g->ctx, i, g->M - i < rows ? g->M - i : rows);
            }
#pragma omp for schedule(dynamic)
            for (int64_t s = 0; s < cols; s += STRIP) {
                int64_t j = j0 + s;
                pack_strip(g->trans_b, cols - s < STRIP ? cols - s : STRIP, K,
                           g->trans_b ? g->b + j * g->ldb + k0 : g->b + k0 * g->ldb + j, g->ldb,
                           packed + s * K);
            }
#pragma omp for schedule(dynamic)
            for (int64_t t = 0; t < nrow * ncol; t++) {
                int64_t i = t / ncol * rows, j = t % ncol * tile_cols;
                int64_t m = g->M - i < rows ? g->M - i : rows,
                        n = cols - j < tile_cols ? cols - j : tile_cols;
                tile(g, packed + j * K, alias ? copy + omp_get_thread_num() * copied : NULL, i, m,
                     j0 + j, n, k0, K);
            }
        }
    }
    arena_release(arena, mark);
}
