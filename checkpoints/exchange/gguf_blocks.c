/* gguf_blocks.c: the numbers in GGUF's blocks. Every product and sum is of floats and rounded on
 * its own, in the order of llama.cpp's reference (ggml-quants.c), so the bits are the same. */
#include "checkpoints/exchange/gguf.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "checkpoints/exchange/half.h"

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif

static uint16_t u16(const unsigned char *p) { return (uint16_t)(p[0] | p[1] << 8); }
static float f16(const unsigned char *p) { return half_read(u16(p)); }

/* Q4_0, Q4_1, Q5_0, Q5_1: d, for _1 also m, for 5 the fifth bits of all 32, then the low four bits
 * of elements i and i + 16 in a byte. d q + m; without m q is centred. */
static void unpack_32(const unsigned char *p, bool fifth, bool minimum, float *out) {
    const float d = f16(p), m = minimum ? f16(p + 2) : 0;
    const unsigned char *high = p + (minimum ? 4 : 2), *low = high + (fifth ? 4 : 0);
    for (int i = 0; i < 32; i++) {
        int q = i < 16 ? low[i] & 15 : low[i - 16] >> 4;
        if (fifth) q |= (high[i / 8] >> i % 8 & 1) << 4;
        const float x = d * (float)(minimum ? q : q - (fifth ? 16 : 8));
        out[i] = minimum ? x + m : x;
    }
}

/* Of eight groups of 32 scale and minimum, six bits each, in 12 bytes: the first four in the low
 * six bits of bytes 0 to 3 and 4 to 7, the last four in those bytes' high bits and bytes 8 to 11. */
static void scale_min(const unsigned char *s, int group, float *scale, float *min) {
    const int j = group & 3;
    *scale = (float)(group < 4 ? s[j] & 63 : (s[8 + j] & 15) | (s[j] >> 2 & 48));
    *min = (float)(group < 4 ? s[4 + j] & 63 : s[8 + j] >> 4 | (s[4 + j] >> 2 & 48));
}

/* Q4_K, Q5_K: d, dmin, scales and minima, for Q5_K the fifth bits (bit g of byte i: group g, element
 * i), the low four bits of two groups in 32 bytes. */
static void unpack_k(const unsigned char *p, bool fifth, float *out) {
    const float d = f16(p), dmin = f16(p + 2);
    const unsigned char *high = p + 16, *low = high + (fifth ? 32 : 0);
    for (int group = 0; group < 8; group++) {
        float scale, min;
        scale_min(p + 4, group, &scale, &min);
        scale *= d;
        min *= dmin;
        for (int i = 0; i < 32; i++) {
            int q = low[group / 2 * 32 + i] >> 4 * (group & 1) & 15;
            if (fifth) q |= (high[i] >> group & 1) << 4;
            const float x = scale * (float)q;
            out[32 * group + i] = x - min;
        }
    }
}

/* Low four bits (two groups of 32 in 32 bytes, 64 apart), high two bits, 16 scales, d. */
static void unpack_q6_k(const unsigned char *p, float *out) {
    const unsigned char *low = p, *high = p + 128;
    const signed char *scale = (const signed char *)p + 192;
    const float d = f16(p + 208);
    for (int i = 0; i < 256; i++) {
        const int half = i / 128, in = i % 128, group = in / 32;
        int q = low[64 * half + in % 64] >> 4 * (group / 2) & 15;
        q |= (high[32 * half + in % 32] >> 2 * group & 3) << 4;
        const float x = d * (float)scale[i / 16];
        out[i] = x * (float)(q - 32);
    }
}

void gguf_unpack(GgufType t, const unsigned char *p, float *out) {
    float d;
    switch (t) {
    case GGUF_F32: memcpy(out, p, sizeof *out); break;
    case GGUF_F16: *out = f16(p); break;
    case GGUF_BF16: *out = bfloat_read(u16(p)); break;
    case GGUF_Q4_0: unpack_32(p, false, false, out); break;
    case GGUF_Q4_1: unpack_32(p, false, true, out); break;
    case GGUF_Q5_0: unpack_32(p, true, false, out); break;
    case GGUF_Q5_1: unpack_32(p, true, true, out); break;
    case GGUF_Q8_0:
        d = f16(p);
        for (int i = 0; i < 32; i++) out[i] = d * (float)(signed char)p[2 + i];
        break;
    case GGUF_Q4_K: unpack_k(p, false, out); break;
    case GGUF_Q5_K: unpack_k(p, true, out); break;
    case GGUF_Q6_K: unpack_q6_k(p, out); break;
    default: CHECK(false, "GGUF type %d", (int)t);
    }
}

/* Little-endian. */
static void put_u16(unsigned char *p, uint16_t v) {
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
}

void gguf_pack(GgufType t, const float *x, unsigned char *p) {
    float most = 0;
    switch (t) {
    case GGUF_F32: memcpy(p, x, sizeof *x); break;
    case GGUF_F16: put_u16(p, half_write(*x)); break;
    case GGUF_BF16: put_u16(p, bfloat_write(*x)); break;
    case GGUF_Q8_0:
        for (int i = 0; i < 32; i++) most = fmaxf(most, fabsf(x[i]));
        const float d = most / 127, inverse = d != 0 ? 1 / d : 0;
        put_u16(p, half_write(d));
        for (int i = 0; i < 32; i++) p[2 + i] = (unsigned char)(int)roundf(x[i] * inverse);
        break;
    default: CHECK(false, "GGUF type %s is not written", gguf_type_name(t));
    }
}
