/* blas.c: OpenBLAS, and what every process and thread needs before it computes.
 *
 * OpenBLAS runs a product that is called inside an OpenMP parallel region in the calling thread
 * alone, and that is how Rhetor uses it: blas_gemm_tiles cuts a product into tiles that depend on
 * its shape only, so results do not depend on the number of threads. */
#include "core/blas.h"

#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "base/error.h"
#include "core/kernel.h"

#ifdef RHETOR_DOUBLE
#define GEMM cblas_dgemm
#else
#define GEMM cblas_sgemm
#endif

void blas_gemm(bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, real alpha,
               const real *a, int64_t lda, const real *b, int64_t ldb, real beta, real *c,
               int64_t ldc) {
    if (M == 0 || N == 0) return;
    GEMM(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans,
         (blasint)M, (blasint)N, (blasint)K, alpha, a, (blasint)lda, b, (blasint)ldb, beta, c,
         (blasint)ldc);
}

void blas_gemm_tiles(bool trans_a, bool trans_b, int64_t M, int64_t N, int64_t K, real alpha,
                     const real *a, int64_t lda, const real *b, int64_t ldb, real beta, real *c,
                     int64_t ldc) {
    if (M == 0 || N == 0) return;
    /* Halve the longer side until there is work for a node's cores or tiles get inefficient. */
    enum { ROWS = 256, SIDE_MIN = 64, TILES = 32, WORK_MIN = 1 << 20 };
    int64_t rows = M < ROWS ? M : ROWS, cols = N;
    bool one = 2 * M * N * K < WORK_MIN;
    if (one) rows = M;
    while (!one && ((M + rows - 1) / rows) * ((N + cols - 1) / cols) < TILES) {
        if (rows >= cols && rows >= 2 * SIDE_MIN)
            rows = (rows / 2 + 15) / 16 * 16;
        else if (cols >= 2 * SIDE_MIN)
            cols = (cols / 2 + 15) / 16 * 16;
        else
            break;
    }
    int64_t nr = (M + rows - 1) / rows, nc = (N + cols - 1) / cols;
#pragma omp parallel for schedule(dynamic) if (nr * nc > 1)
    for (int64_t t = 0; t < nr * nc; t++) {
        int64_t i = t / nc * rows, j = t % nc * cols;
        int64_t m = M - i < rows ? M - i : rows, n = N - j < cols ? N - j : cols;
        blas_gemm(trans_a, trans_b, m, n, K, alpha, a + (trans_a ? i : i * lda), lda,
                  b + (trans_b ? j * ldb : j), ldb, beta, c + i * ldc + j, ldc);
    }
}

/* OpenBLAS 0.3.21 does not know newer AMD processors and gives those with AVX-512 its AVX2
 * kernels, at half the speed. Its own switch, OPENBLAS_CORETYPE, is read when it picks its kernels;
 * so we set it and let it pick again. A user's OPENBLAS_CORETYPE is respected. The functions are
 * OpenBLAS's own, but in no header; where they do not exist nothing happens. */
extern void gotoblas_dynamic_init(void) __attribute__((weak));
extern void gotoblas_dynamic_quit(void) __attribute__((weak));

static void pick_blas_kernels(void) {
    const char *core = openblas_get_corename();
    if (kernel_supported() != KERNEL_AVX512 || getenv("OPENBLAS_CORETYPE")) return;
    if (strcmp(core, "Haswell") != 0 && strcmp(core, "Zen") != 0) return;
    if (!gotoblas_dynamic_init || !gotoblas_dynamic_quit) return;
    setenv("OPENBLAS_CORETYPE", "SkylakeX", 1);
    gotoblas_dynamic_quit();
    gotoblas_dynamic_init();
    unsetenv("OPENBLAS_CORETYPE");
}

const char *blas_kernel(void) {
    static char text[160];
    char version[32] = "";
    sscanf(openblas_get_config(), "OpenBLAS %31s", version);
    snprintf(text, sizeof text, "OpenBLAS %s %s, %s, %d threads; core %s", version,
             openblas_get_corename(), openblas_get_parallel() == 2 ? "OpenMP" : "not OpenMP",
             omp_get_max_threads(), kernel_name(kernel_level));
    return text;
}

/* Denormals cost a hundred times a normal number and mean nothing here. */
static void flush_denormals(void) {
#ifdef __x86_64__
    _mm_setcsr(_mm_getcsr() | 0x8040); /* flush results to zero, take inputs as zero */
#endif
}

void core_init(void) {
    static bool done;
    if (!done) {
        done = true;
        kernel_level = kernel_supported();
        pick_blas_kernels();
    }
#pragma omp parallel
    flush_denormals();
}
