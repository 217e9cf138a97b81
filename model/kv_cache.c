/* kv_cache.c: attention of a few rows over everything their sequences have seen.
 *
 * Keys lie in blocks of 32 positions, transposed inside the block: the scores of 32 positions are
 * then 32 lanes that grow together by one multiply-add a dimension of the head, without horizontal
 * sums. Values lie as rows, so the output's dimensions are the lanes. A row's arithmetic depends
 * on its own position only; prompts and single decoded tokens take the same path. */
#include "model/kv_cache.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/kernel.h"
#include "core/vecmath.h"

enum { LANES = 16 /* elements that mix() carries at once: one AVX-512 register */ };

static int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

int64_t kv_bytes_per_slot(const GptConfig *cfg, int64_t context) {
    int64_t hd = cfg->width / cfg->heads;
    int64_t per_head = round_up(context, KV_BLOCK) * (hd + round_up(hd, LANES));
    return cfg->layers * cfg->heads * per_head * (int64_t)sizeof(real);
}

void kv_open(KvCache *c, const GptConfig *cfg, int64_t slots, int64_t context) {
    int64_t hd = cfg->width / cfg->heads;
    *c = (KvCache){.layers = cfg->layers, .heads = cfg->heads, .head_dim = hd, .slots = slots};
    c->context = round_up(context, KV_BLOCK);
    c->v_stride = round_up(hd, LANES);
    c->k_size = c->context * hd;
    c->v_size = c->context * c->v_stride;
    /* Cleared: kernels read whole blocks, past a sequence's end, and ignore what they find there.
     */
    size_t heads = (size_t)(c->layers * slots * c->heads);
    c->k = xcalloc(heads * (size_t)c->k_size, sizeof(real));
    c->v = xcalloc(heads * (size_t)c->v_size, sizeof(real));
    c->scores = xcalloc((size_t)omp_get_max_threads() * (size_t)c->context, sizeof(real));
}

void kv_close(KvCache *c) {
    free(c->k);
    free(c->v);
    free(c->scores);
    *c = (KvCache){0};
}

/* s[t] = scale * q . k_t for all positions in the blocks that hold 0 .. len-1 */
KERNEL(score,
       (real *restrict s, const real *restrict q, const real *restrict k, int64_t len, int64_t hd,
        real scale),
       (s, q, k, len, hd, scale)) {
    for (int64_t t = 0; t < len; t += KV_BLOCK, k += hd * KV_BLOCK) {
        real acc[KV_BLOCK] = {0};
        for (int64_t j = 0; j < hd; j++)
            for (int l = 0; l < KV_BLOCK; l++) acc[l] += q[j] * k[j * KV_BLOCK + l];
        for (int l = 0; l < KV_BLOCK; l++) s[t + l] = acc[l] * scale;
    }
}

/* s[0..len) becomes exp(s - max), the rest of the last block 0; *sum is their sum. */
KERNEL(exponentials, (real *restrict s, int64_t len, real *sum), (s, len, sum)) {
    real max = -INFINITY, total = 0;
#pragma omp simd reduction(max : max)
    for (int64_t t = 0; t < len; t++) max = s[t] > max ? s[t] : max;
#pragma omp simd reduction(+ : total)
    for (int64_t t = 0; t < len; t++) {
        s[t] = vm_exp(s[t] - max);
        total += s[t];
    }
    for (int64_t t = len; t % KV_BLOCK; t++) s[t] = 0;
    *sum = total;
}

/* out[j] = scale * sum over t of p[t] v[t][j]; p is 0 from len to the end of its block. The two
 * accumulators keep two chains of multiply-adds in flight. */
KERNEL(mix,
       (real *restrict out, const real *restrict p, const real *restrict v, int64_t len, int64_t hd,
        int64_t stride, real scale),
       (out, p, v, len, hd, stride, scale)) {
    for (int64_t j = 0; j < hd; j += LANES, v += LANES) {
        real even[LANES] = {0}, odd[LANES] = {0};
        for (int64_t t = 0; t < len; t += 2) {
            const real *a = v + t * stride, *b = a + stride;
            for (int l = 0; l < LANES; l++) even[l] += p[t] * a[l];
            for (int l = 0; l < LANES; l++) odd[l] += p[t + 1] * b[l];
        }
        for (int l = 0; l < LANES; l++) even[l] = (even[l] + odd[l]) * scale;
        for (int64_t l = 0; l < LANES && j + l < hd; l++) out[j + l] = even[l];
    }
}

static void store(KvCache *c, int64_t head, int64_t pos, const real *k, const real *v) {
    int64_t hd = c->head_dim;
    real *to = c->k + head * c->k_size + pos / KV_BLOCK * hd * KV_BLOCK + pos % KV_BLOCK;
    for (int64_t j = 0; j < hd; j++) to[j * KV_BLOCK] = k[j];
    memcpy(c->v + head * c->v_size + pos * c->v_stride, v, sizeof(real) * (size_t)hd);
}

void kv_attend(KvCache *c, int64_t layer, int64_t n, const int32_t *slot, const int32_t *pos,
               const real *qkv, real *out) {
    int64_t hd = c->head_dim, H = c->heads, C = H * hd;
    real scale = (real)(1 / sqrt((double)hd));
    int64_t work = 0;
    for (int64_t i = 0; i < n; i++) work += C * (pos[i] + 1);
#pragma omp parallel if (work > 4 * PARALLEL_MIN)
    {
        real *s = c->scores + omp_get_thread_num() * c->context;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; i++)
            for (int64_t h = 0; h < H; h++) {
                const real *k = qkv + i * 3 * C + C + h * hd;
                store(c, (layer * c->slots + slot[i]) * H + h, pos[i], k, k + C);
            }
#pragma omp for collapse(2) schedule(static)
        for (int64_t i = 0; i < n; i++)
            for (int64_t h = 0; h < H; h++) {
                int64_t head = (layer * c->slots + slot[i]) * H + h, len = pos[i] + 1;
                score(s, qkv + i * 3 * C + h * hd, c->k + head * c->k_size, len, hd, scale);
                real sum;
                exponentials(s, len, &sum);
                mix(out + i * C + h * hd, s, c->v + head * c->v_size, len, hd, c->v_stride,
                    1 / sum);
            }
    }
}
