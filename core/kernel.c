/* kernel.c: which version of the kernels this processor runs, and what every process and thread
 * needs before it computes. */
#include "core/kernel.h"

#include <errno.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "base/error.h"
#include "base/text.h"
#include "core/blas.h"

KernelLevel kernel_level = KERNEL_PLAIN;

KernelLevel kernel_supported(void) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return KERNEL_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
        return KERNEL_AVX2;
#endif
    return KERNEL_PLAIN;
}

const char *kernel_name(KernelLevel level) {
    static const char *const names[KERNEL_LEVELS] = {"BLAS", "plain", "AVX2", "AVX-512"};
    return level < KERNEL_LEVELS ? names[level] : "unknown";
}

const char *kernel_text(void) {
    static char text[160];
    const bool blas = kernel_level == KERNEL_BLAS;
    snprintf(text, sizeof text, "%s%s%s kernels, OpenMP, %d thread%s", blas ? blas_name() : "",
             blas ? ", " : "", kernel_name(blas ? KERNEL_PLAIN : kernel_level),
             omp_get_max_threads(), TEXT_S(omp_get_max_threads()));
    return text;
}

KernelLevel kernel_wanted(void) {
    static const char *const names[KERNEL_LEVELS] = {"blas", "plain", "avx2", "avx512"};
    const char *want = getenv("RHETOR_KERNEL");
    const KernelLevel best = kernel_supported();
    if (!want || !*want) return best == KERNEL_PLAIN ? KERNEL_BLAS : best;
    for (int level = KERNEL_BLAS; level <= (int)best; level++)
        if (strcmp(want, names[level]) == 0) return (KernelLevel)level;
    error_set(ERR_USAGE, "RHETOR_KERNEL is %s; this processor can do plain%s%s, blas", want,
              best >= KERNEL_AVX2 ? ", avx2" : "", best >= KERNEL_AVX512 ? ", avx512" : "");
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, error_message());
    error_end(error_exit_code(ERR_USAGE));
}

/* Denormals cost a hundred times a normal number and mean nothing here. */
static void flush_denormals(void) {
#ifdef __x86_64__
    _mm_setcsr(_mm_getcsr() | 0x8040); /* flush results to zero, take inputs as zero */
#endif
}

void core_init(void) {
    kernel_level = kernel_wanted();
#pragma omp parallel
    flush_denormals();
}
