/* kernel.c: which version of the kernels this processor runs. */
#include "core/kernel.h"

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
    static const char *const names[KERNEL_LEVELS] = {"plain", "AVX2", "AVX-512"};
    return level < KERNEL_LEVELS ? names[level] : "unknown";
}
