/* kernel.h: the inner loops are compiled three times, for AVX-512, for AVX2 and plainly, and the
 * version is chosen at run time by core_init, so what ships needs no -march and a cluster may mix
 * machines. A fourth level, `blas`, leaves matrix products to a BLAS (core/blas.h) and runs the
 * plain version of all else; it is the default where there are no kernels of our own. Its products'
 * bits do depend on what is multiplied together, so a result depends on micro-batches and ranks.
 *
 *     KERNEL(scale_row, (int64_t n, real a, real *x), (n, a, x)) {
 *         for (int64_t i = 0; i < n; i++) x[i] *= a;
 *     }
 *
 * defines scale_row() and its versions; the body is inlined into each and vectorised there.
 * No OpenMP threads inside a kernel: ops call kernels from their parallel loops. Sums marked
 * `omp simd reduction` are added in an order that depends on the version only. */
#ifndef CORE_KERNEL_H
#define CORE_KERNEL_H

#include "core/real.h"

typedef enum KernelLevel {
    KERNEL_BLAS,
    KERNEL_PLAIN,
    KERNEL_AVX2,
    KERNEL_AVX512,
    KERNEL_LEVELS
} KernelLevel;

/* Call once at the start of a program: chooses the kernels for this processor and makes every
 * OpenMP thread flush denormals to zero. Without it all results are right, but slow to come. */
void core_init(void);

extern KernelLevel kernel_level;    /* KERNEL_PLAIN until core_init */
KernelLevel kernel_supported(void); /* the best of our own on this processor */
const char *kernel_name(KernelLevel level);
const char *kernel_text(void); /* what multiplies here: "AVX-512 kernels, OpenMP, 2 threads" */
/* What RHETOR_KERNEL (blas, plain, avx2, avx512) asks for, or the best. Ends the job with one line
 * (exit 64) when this processor has no such kernels. */
KernelLevel kernel_wanted(void);

#define KERNEL_INLINE static inline __attribute__((always_inline))

#ifdef __x86_64__
#define KERNEL_TARGET_AVX2 __attribute__((target("avx2,fma,bmi,bmi2")))
#define KERNEL_TARGET_AVX512 \
    __attribute__((target("avx2,fma,bmi,bmi2,avx512f,avx512vl,avx512bw,avx512dq")))
#else
#define KERNEL_TARGET_AVX2
#define KERNEL_TARGET_AVX512
#endif

#define KERNEL(name, params, args)                                              \
    KERNEL_INLINE void name##_body params;                                      \
    static void name##_plain params { name##_body args; }                       \
    KERNEL_TARGET_AVX2 static void name##_avx2 params { name##_body args; }     \
    KERNEL_TARGET_AVX512 static void name##_avx512 params { name##_body args; } \
    static void name params {                                                   \
        switch (kernel_level) {                                                 \
        case KERNEL_AVX512: name##_avx512 args; return;                         \
        case KERNEL_AVX2: name##_avx2 args; return;                             \
        default: name##_plain args; return;                                     \
        }                                                                       \
    }                                                                           \
    KERNEL_INLINE void name##_body params

/* Loops over fewer elements than this are not worth waking threads for. */
enum { PARALLEL_MIN = 8192 };

#endif
