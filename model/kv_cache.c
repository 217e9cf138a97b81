/* kv_cache.c: attention of a few rows over everything their sequences have seen.
 *
 * Keys lie in blocks of 32 positions, transposed inside the block, and values in strips of 32
 * columns: both are then the right-hand side of a small product as core/tile.h has it, scores =
 * q K^T and out = p V, that is read from memory in order. A row's arithmetic depends on its own
 * position only; the rows of a prompt and single decoded tokens take the same path, and a chunk's
 * shorter rows only gain terms 0 * v. */
#include "model/kv_cache.h"

#include <omp.h>
#include <string.h>

#include "core/kernel.h"
#include "core/tile.h"
#include "core/vecmath.h"

enum { CHUNK = 8 /* rows that share a pass over keys and values; divides KV_BLOCK */ };

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t kv_bytes_per_slot(const GptConfig *cfg, int64_t context) {
    int64_t hd = arch_head(cfg);
    int64_t per_head = round_up(context, KV_BLOCK) * (hd + round_up(hd, TILE_WIDTH));
    return cfg->layers * arch_kv_heads(cfg) * per_head * (int64_t)sizeof(real);
}

/* Of a thread: scores and outputs of a chunk. */
static int64_t scratch_size(const KvCache *c) { return CHUNK * (c->context + c->v_stride); }

void kv_open(KvCache *c, const GptConfig *cfg, int64_t slots, int64_t context) {
    int64_t hd = arch_head(cfg);
    *c = (KvCache){.layers = cfg->layers,
                   .heads = cfg->heads,
                   .kv_heads = arch_kv_heads(cfg),
                   .head_dim = hd,
                   .slots = slots};
    c->context = round_up(context, KV_BLOCK);
    c->v_stride = round_up(hd, TILE_WIDTH);
    c->k_size = c->context * hd;
    c->v_size = c->context * c->v_stride;
    /* Cleared: kernels read whole blocks, past a sequence's end, and ignore what they find
     * there. */
    size_t heads = (size_t)(c->layers * slots * c->kv_heads);
    c->k = arena_zalloc(&c->arena, sizeof(real) * heads * (size_t)c->k_size);
    c->v = arena_zalloc(&c->arena, sizeof(real) * heads * (size_t)c->v_size);
    c->scores =
        arena_alloc(&c->arena, sizeof(real) * (size_t)(omp_get_max_threads() * scratch_size(c)));
}

void kv_close(KvCache *c) {
    arena_free(&c->arena);
    *c = (KvCache){0};
}

/* s[0..len) becomes exp(scale * (s - max)), the rest of the last block 0; *sum is their sum. */
KERNEL(exponentials, (real *restrict s, int64_t len, real scale, real *sum), (s, len, scale, sum)) {
    int64_t end = (len + KV_BLOCK - 1) / KV_BLOCK * KV_BLOCK; /* whole vectors, no tail */
    for (int64_t t = len; t < end; t++) s[t] = -(real)INFINITY;
    real max = vm_max(end, s), total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t t = 0; t < end; t++) {
        s[t] = vm_exp(scale * (s[t] - max));
        total += s[t];
    }
    *sum = total;
}

KERNEL(scale_row, (int64_t n, real a, const real *restrict x, real *restrict y), (n, a, x, y)) {
    for (int64_t j = 0; j < n; j++) y[j] = a * x[j];
}

/* Columns of the strip of values that begins at column j; the last may be narrower. */
static int64_t strip_cols(const KvCache *c, int64_t j) {
    return c->v_stride - j < V_STRIP ? c->v_stride - j : V_STRIP;
}

/* m rows of one sequence, at positions pos, pos + 1, ..., and one head: row r attends to the first
 * pos + r + 1 positions. q: row stride ld. k, v: of the (layer, slot, head). s [CHUNK][context] and
 * y [CHUNK][v_stride] are scratch. out: row stride C. */
static void attend_rows(const KvCache *c, int64_t m, int64_t pos, const real *q, int64_t ld,
                        const real *k, const real *v, real *s, real *y, real *out) {
    int64_t hd = c->head_dim, C = c->heads * hd, T = c->context, longest = pos + m;
    real scale = (real)(1 / sqrt((double)hd)), sum[CHUNK];
    for (int64_t t = 0; t < longest; t += KV_BLOCK, k += hd * KV_BLOCK)
        tile_gemm(m, KV_BLOCK, hd, q, ld, 1, k, KV_BLOCK, false, s + t, T);
    /* A chunk ends in one block, so the zeros behind a row's own positions reach the longest's. */
    for (int64_t r = 0; r < m; r++) exponentials(s + r * T, pos + r + 1, scale, &sum[r]);
    for (int64_t j = 0; j < hd; j += V_STRIP) {
        int64_t cols = strip_cols(c, j);
        tile_gemm(m, cols, longest, s, T, 1, v + j * T, cols, false, y + j, c->v_stride);
    }
    for (int64_t r = 0; r < m; r++) scale_row(hd, 1 / sum[r], y + r * c->v_stride, out + r * C);
}

static void store(KvCache *c, int64_t head, int64_t pos, const real *k, const real *v) {
    int64_t hd = c->head_dim;
    real *to = c->k + head * c->k_size + pos / KV_BLOCK * hd * KV_BLOCK + pos % KV_BLOCK;
    for (int64_t j = 0; j < hd; j++) to[j * KV_BLOCK] = k[j];
    for (int64_t j = 0; j < hd; j += V_STRIP) {
        int64_t cols = strip_cols(c, j), n = hd - j < cols ? hd - j : cols;
        to = c->v + head * c->v_size + j * c->context + pos * cols;
        memcpy(to, v + j, sizeof(real) * (size_t)n);
    }
}

void kv_copy(KvCache *c, int64_t from, int64_t to, int64_t n) {
    const int64_t hd = c->head_dim, blocks = (n + KV_BLOCK - 1) / KV_BLOCK;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t l = 0; l < c->layers; l++)
        for (int64_t h = 0; h < c->kv_heads; h++) {
            const int64_t a = (l * c->slots + from) * c->kv_heads + h;
            const int64_t b = (l * c->slots + to) * c->kv_heads + h;
            memcpy(c->k + b * c->k_size, c->k + a * c->k_size,
                   sizeof(real) * (size_t)(blocks * hd * KV_BLOCK));
            for (int64_t j = 0; j < hd; j += V_STRIP)
                memcpy(c->v + b * c->v_size + j * c->context, c->v + a * c->v_size + j * c->context,
                       sizeof(real) * (size_t)(n * strip_cols(c, j)));
        }
}

/* Rows of a prompt are done several at a time. */
static bool begins_chunk(int64_t i, const int32_t *slot, const int32_t *pos) {
    return i == 0 || slot[i] != slot[i - 1] || pos[i] % CHUNK == 0;
}

void kv_attend(KvCache *c, int64_t layer, int64_t n, const int32_t *slot, const int32_t *pos,
               const real *qkv, real *out) {
    int64_t hd = c->head_dim, H = c->heads, C = H * hd, KV = c->kv_heads, ld = C + 2 * KV * hd;
    int64_t work = 0;
    for (int64_t i = 0; i < n; i++) work += C * (pos[i] + 1);
#pragma omp parallel if (work > 4 * PARALLEL_MIN)
    {
        real *s = c->scores + omp_get_thread_num() * scratch_size(c);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; i++)
            for (int64_t h = 0; h < KV; h++) {
                const real *k = qkv + i * ld + C + h * hd;
                store(c, (layer * c->slots + slot[i]) * KV + h, pos[i], k, k + KV * hd);
            }
#pragma omp for collapse(2) schedule(static)
        for (int64_t i = 0; i < n; i++)
            for (int64_t h = 0; h < H; h++) {
                if (!begins_chunk(i, slot, pos)) continue;
                int64_t head = (layer * c->slots + slot[i]) * KV + h / (H / KV), m = 1;
                while (i + m < n && !begins_chunk(i + m, slot, pos)) m++;
                attend_rows(c, m, pos[i], qkv + i * ld + h * hd, ld, c->k + head * c->k_size,
                            c->v + head * c->v_size, s, s + CHUNK * c->context,
                            out + i * C + h * hd);
            }
    }
}
