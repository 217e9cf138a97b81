/* vecmath.h: exp, log and erf in float, written so that a loop around them is vectorised: no
 * branches, no tables, no library calls. Their errors are tested (tests/core/test_vecmath.c): at
 * most 2 ULP over the whole range. The double build takes libm's, for its finite differences. */
#ifndef CORE_VECMATH_H
#define CORE_VECMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/kernel.h"

KERNEL_INLINE uint32_t vm_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

KERNEL_INLINE float vm_float(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* exp: x = n ln 2 + r, |r| <= ln 2 / 2; a polynomial for exp(r) (coefficients: S. Moshier, Cephes,
 * expf.c), times 2^n put together from bits. 0 below -86.6 (where denormals are near), infinity
 * above 88.72, NaN for NaN. */
KERNEL_INLINE float vm_expf(float x) {
    const float low = -86.6f, high = 89.0f;
    float c = x > high ? high : x;
    c = c < low ? low : c;
    float t = c * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: rounds, leaves n in the low bits */
    float n = t - 12582912.0f;
    float r = c - n * 0.693359375f;
    r -= n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    float scale = vm_float((vm_bits(t) + 126) << 23); /* 2^(n-1): 2^128 would not fit */
    float y = (p + p) * scale;
    return x < low ? 0.0f : y;
}

/* log: x = 2^e m, sqrt(1/2) <= m < sqrt(2); a polynomial in m - 1 (Cephes, logf.c). -infinity for
 * 0 and denormals, NaN below 0. */
KERNEL_INLINE float vm_logf(float x) {
    uint32_t u = vm_bits(x);
    int32_t e = (int32_t)((u - 0x3f3504f3u) & 0xff800000u) >> 23; /* 0x3f3504f3: sqrt(1/2) */
    float m = vm_float(u - ((uint32_t)e << 23)) - 1.0f;
    float z = m * m, fe = (float)e;
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    float y = m * z * p - 2.12194440e-4f * fe - 0.5f * z;
    y = m + y + 0.693359375f * fe;
    y = x > 3.4028235e38f ? x : y;
    y = x < 1.17549435e-38f ? -HUGE_VALF : y;
    return x < 0.0f || x != x ? (float)NAN : y;
}

/* erf: x + x P(x^2) below 1, 1 - exp(Q(|x|)) above, with Q approximating log erfc up to 4, where
 * erf is 1 in float. P and Q are minimax polynomials (Remez; relative errors of 1.2e-9 and
 * 1.1e-9). */
KERNEL_INLINE float vm_erff(float x) {
    float a = fabsf(x), s = x * x;
    float t = a > 4.0f ? 4.0f : a;
    float p = 7.853861089e-05f;
    p = p * s - 8.010193534e-04f;
    p = p * s + 5.188327674e-03f;
    p = p * s - 2.685381193e-02f;
    p = p * s + 1.128358515e-01f;
    p = p * s - 3.761262582e-01f;
    p = p * s + 1.283791657e-01f;
    float q = 1.876045648e-04f;
    q = q * t - 2.960111910e-03f;
    q = q * t + 2.188963334e-02f;
    q = q * t - 1.032181841e-01f;
    q = q * t - 6.380122377e-01f;
    q = q * t - 1.127171637e+00f;
    q = q * t - 3.205771563e-04f;
    float tail = copysignf(1.0f - vm_expf(q), x);
    return a < 1.0f ? x + x * p : tail;
}

/* The largest of x[0..n-1], n > 0; NaNs are passed over unless x[0] is one. */
KERNEL_INLINE real vm_max(int64_t n, const real *x) {
    real max = x[0];
#ifndef __clang__ /* clang 14 cannot, and warns */
#pragma omp simd reduction(max : max)
#endif
    for (int64_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
}

#ifdef RHETOR_DOUBLE
KERNEL_INLINE real vm_exp(real x) { return exp(x); }
KERNEL_INLINE real vm_log(real x) { return log(x); }
KERNEL_INLINE real vm_erf(real x) { return erf(x); }
#else
KERNEL_INLINE real vm_exp(real x) { return vm_expf(x); }
KERNEL_INLINE real vm_log(real x) { return vm_logf(x); }
KERNEL_INLINE real vm_erf(real x) { return vm_erff(x); }
#endif

#endif
