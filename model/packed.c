/* packed.c: see packed.h. A unit of work is a block of rows times a strip of columns, finished with
 * bias and activation while it is in the cache. */
#include "model/packed.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/gemm.h"
#include "core/kernel.h"

enum { ROWS = 96, PAGE = 4096 / sizeof(real), LINE = 64 / sizeof(real) };
enum { WAYS = 8 /* of the first cache, at least */ };

static bool stays_half(const Tensor *w) { return w->half && kernel_level != KERNEL_BLAS; }

size_t packed_bytes(const Tensor *w) {
    return (size_t)gemm_packed_size(w->shape[0], w->shape[1]) *
           (stays_half(w) ? sizeof *w->half : sizeof *w->data);
}

void packed_make(Packed *p, const Tensor *w, void *memory) {
    const int64_t M = w->shape[0], K = w->shape[1];
    *p = (Packed){.w = w, .M = M, .K = K};
    if (stays_half(w)) {
        p->half = memory;
        gemm_pack_half(M, K, w->half, K, memory);
        return;
    }
    real *wide = w->half ? xmalloc((size_t)(M * K) * sizeof *wide) : NULL;
    if (wide) tensor_read(w, 0, M * K, wide);
    p->strips = memory;
    gemm_pack(true, M, K, wide ? wide : w->data, K, memory);
    free(wide);
}

/* Unit u: strip u % strips of a block of rows. */
static void unit(const Packed *p, int64_t u, int64_t n, const real *x, int64_t ldx, const Tensor *b,
                 Activation act, real *y) {
    const int64_t width = gemm_strip_cols(), strips = (p->M + width - 1) / width;
    int64_t i = u / strips * ROWS, j = u % strips * width, rows = n - i < ROWS ? n - i : ROWS,
            cols = p->M - j < width ? p->M - j : width;
    y += i * p->M + j;
    if (p->half)
        gemm_strip_half(rows, p->K, x + i * ldx, ldx, p->half + j * p->K, cols, y, p->M);
    else
        gemm_strip(rows, p->K, x + i * ldx, ldx, p->strips + j * p->K, cols, y, p->M);
    op_linear_finish(act, rows, cols, p->M, b ? b->data + j : NULL, y, y);
}

void packed_linear(const Packed *p, Arena *arena, int64_t n, const real *x, const Tensor *b,
                   Activation act, real *y) {
    int64_t K = p->K, ldx = K;
    ArenaMark mark = arena_mark(arena);
    /* Rows at a stride of whole pages share the few lines of one set of the cache: more of them than it has
     * would throw each other out. */
    if (K % PAGE == 0 && n > WAYS) {
        real *spread = arena_alloc(arena, (size_t)(n * (K + LINE)) * sizeof(real));
        for (int64_t i = 0; i < n; i++)
            memcpy(spread + i * (K + LINE), x + i * K, (size_t)K * sizeof(real));
        x = spread;
        ldx = K + LINE;
    }
    const int64_t width = gemm_strip_cols();
    int64_t units = (n + ROWS - 1) / ROWS * ((p->M + width - 1) / width);
    if (omp_in_parallel() || n * p->M * K <= 16 * PARALLEL_MIN) {
        for (int64_t u = 0; u < units; u++) unit(p, u, n, x, ldx, b, act, y);
    } else {
        /* guided: threads do not get the same share of the memory's rate, yet end together */
#pragma omp parallel for schedule(guided)
        for (int64_t u = 0; u < units; u++) unit(p, u, n, x, ldx, b, act, y);
    }
    arena_release(arena, mark);
}
