/* kernel.c: which version of the kernels this processor runs. */
#include "core/kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

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

KernelLevel kernel_wanted(void) {
    static const char *const names[KERNEL_LEVELS] = {"plain", "avx2", "avx512"};
    const char *want = getenv("RHETOR_KERNEL");
    if (!want || !*want) return kernel_supported();
    for (int level = KERNEL_PLAIN; level <= (int)kernel_supported(); level++)
        if (strcmp(want, names[level]) == 0) return (KernelLevel)level;
    error_set(ERR_USAGE, "RHETOR_KERNEL is %s; this processor can do plain%s%s", want,
              kernel_supported() >= KERNEL_AVX2 ? ", avx2" : "",
              kernel_supported() >= KERNEL_AVX512 ? ", avx512" : "");
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, error_message());
    error_end(error_exit_code(ERR_USAGE));
}
