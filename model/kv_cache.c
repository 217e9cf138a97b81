/* kv_cache.c: attention of a few rows over everything their sequences have seen.
 *
 * Keys lie in blocks of 32 positions, transposed inside the block, and values as rows: both are
 * then the right-hand side of a small product as core/tile.h has it, scores = q K^T and
 * out = p V. A row's arithmetic depends on its own position only; the rows of a prompt and single
 * decoded tokens take the same path. */
#include "model/kv_cache.h"

#include <omp.h>
#include <string.h>

#include "core/kernel.h"
#include "core/tile.h"
#include "core/vecmath.h"

static int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

int64_t kv_bytes_per_slot(const GptConfig *cfg, int64_t context) {
    int64_t hd = cfg->width / cfg->heads;
    int64_t per_head = round_up(context, KV_BLOCK) * (hd + round_up(hd, TILE_WIDTH));
    return cfg->layers * cfg->heads * per_head * (int64_t)sizeof(real);
}

void kv_open(KvCache *c, const GptConfig *cfg, int64_t slots, int64_t context) {
    int64_t hd = cfg->width / cfg->heads;
    *c = (KvCache){.layers = cfg->layers, .heads = cfg->heads, .head_dim = hd, .slots = slots};
    c->context = round_up(context, KV_BLOCK);
    c->v_stride = round_up(hd, TILE_WIDTH);
    c->k_size = c->context * hd;
    c->v_size = c->context * c->v_stride;
    /* Cleared: kernels read whole blocks, past a sequence's end, and ignore what they find there.
     */
    size_t heads = (size_t)(c->layers * slots * c->heads);
    c->k = arena_zalloc(&c->arena, sizeof(real) * heads * (size_t)c->k_size);
    c->v = arena_zalloc(&c->arena, sizeof(real) * heads * (size_t)c->v_size);
    c->scores = arena_alloc(
        &c->arena, sizeof(real) * (size_t)(omp_get_max_threads() * (c->context + c->v_stride)));
}

void kv_close(KvCache *c) {
    arena_free(&c->arena);
    *c = (KvCache){0};
}

/* s[t] becomes exp(scale * (s[t] - max)); *sum is their sum. */
KERNEL(exponentials, (real *restrict s, int64_t len, real scale, real *sum), (s, len, scale, sum)) {
    real max = vm_max(len, s), total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t t = 0; t < len; t++) {
        s[t] = vm_exp(scale * (s[t] - max));
        total += s[t];
    }
    *sum = total;
}

KERNEL(scale_row, (int64_t n, real a, const real *restrict x, real *restrict y), (n, a, x, y)) {
    for (int64_t j = 0; j < n; j++) y[j] = a * x[j];
}

/* One row of one head: q attends to the first len positions. k, v: of the (layer, slot, head).
 * s [context] and y [v_stride] are scratch. */
static void attend_row(const KvCache *c, const real *q, const real *k, const real *v, int64_t len,
                       real *s, real *y, real *out) {
    int64_t hd = c->head_dim;
    real sum;
    for (int64_t t = 0; t < len; t += KV_BLOCK, k += hd * KV_BLOCK)
        tile_gemm(1, KV_BLOCK, hd, q, hd, 1, k, KV_BLOCK, false, s + t, KV_BLOCK);
    exponentials(s, len, (real)(1 / sqrt((double)hd)), &sum);
    tile_gemm(1, c->v_stride, len, s, len, 1, v, c->v_stride, false, y, c->v_stride);
    scale_row(hd, 1 / sum, y, out);
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
    int64_t work = 0;
    for (int64_t i = 0; i < n; i++) work += C * (pos[i] + 1);
#pragma omp parallel if (work > 4 * PARALLEL_MIN)
    {
        real *s = c->scores + omp_get_thread_num() * (c->context + c->v_stride);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; i++)
            for (int64_t h = 0; h < H; h++) {
                const real *k = qkv + i * 3 * C + C + h * hd;
                store(c, (layer * c->slots + slot[i]) * H + h, pos[i], k, k + C);
            }
#pragma omp for collapse(2) schedule(static)
        for (int64_t i = 0; i < n; i++)
            for (int64_t h = 0; h < H; h++) {
                int64_t head = (layer * c->slots + slot[i]) * H + h;
                attend_row(c, qkv + i * 3 * C + h * hd, c->k + head * c->k_size,
                           c->v + head * c->v_size, pos[i] + 1, s, s + c->context,
                           out + i * C + h * hd);
            }
    }
}
