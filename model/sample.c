/* sample.c: drawing a token.
 *
 * The draw is argmax over tokens of logit/T + Gumbel noise (Gumbel 1954; Maddison et al. 2014),
 * written as the race it is: token i arrives at time E_i / p_i with E_i exponential, the first wins
 * (-log E_i is Gumbel). Each token has its own counter-based number, so the winner depends neither
 * on the batch nor on threads, and a rounding difference in the logits changes it only when two
 * tokens arrive within that difference of each other. With u uniform, E = -log(1-u) >= u: most
 * tokens are out of the race before a logarithm is taken.
 *
 * Masked tokens, rows of the vocabulary without a token, count in the sum, since they do where the
 * training forward computes log-probabilities, but never run: the token is drawn from the others in
 * proportion to their probabilities, and its log-probability is the model's own.
 *
 * top_k and top_p restrict who runs. A heap hands out tokens in order of probability until there
 * are k of them or they hold the mass p; the rest is never sorted. With both, p is a share of the
 * k tokens' mass, as in Hugging Face's warpers. */
#include "model/sample.h"

#include <math.h>

#include "core/kernel.h"
#include "core/vecmath.h"

enum { SUM_BLOCK = 512 /* summed in vector lanes, then added in double */ };
enum { RACE_BLOCK = 256 /* tokens that are asked together whether one of them can win */ };

/* *max becomes the largest of x[0..n); NaN if any of them is NaN or infinite. */
KERNEL(largest, (const real *restrict x, int64_t n, real *max), (x, n, max)) {
    real finite = 0;
#pragma omp simd reduction(+ : finite)
    for (int64_t i = 0; i < n; i++) finite += x[i] * 0; /* 0 or NaN */
    *max = vm_max(n, x) + finite;
}

/* x[i] becomes exp((x[i] - max) * scale); *sum is their sum. */
KERNEL(weigh, (real *restrict x, int64_t n, real max, real scale, double *sum),
       (x, n, max, scale, sum)) {
    double total = 0;
    for (int64_t b = 0; b < n; b += SUM_BLOCK) {
        int64_t end = b + SUM_BLOCK < n ? b + SUM_BLOCK : n;
        real part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t i = b; i < end; i++) {
            x[i] = vm_exp((x[i] - max) * scale);
            part += x[i];
        }
        total += (double)part;
    }
    *sum = total;
}

/* --- top_k and top_p -------------------------------------------------------------------------- */

/* Higher weight first; of equal ones the lower token. */
static bool before(const real *w, int32_t a, int32_t b) {
    return w[a] > w[b] || (w[a] == w[b] && a < b);
}

static void sift_down(int32_t *heap, int64_t n, int64_t i, const real *w) {
    for (;;) {
        int64_t best = i, left = 2 * i + 1, right = left + 1;
        if (left < n && before(w, heap[left], heap[best])) best = left;
        if (right < n && before(w, heap[right], heap[best])) best = right;
        if (best == i) return;
        int32_t t = heap[i];
        heap[i] = heap[best], heap[best] = t;
        i = best;
    }
}

/* Leaves the kept tokens at the end of heap [V], most probable last. Returns how many, at least
 * 1. */
static int64_t keep(int32_t *heap, const real *w, int64_t V, double sum, int64_t top_k,
                    double top_p) {
    int64_t k = top_k > 0 && top_k < V ? top_k : V, kept = 0;
    double mass = 0, enough = k < V || top_p >= 1 ? HUGE_VAL : top_p * sum;
    for (int64_t i = 0; i < V; i++) heap[i] = (int32_t)i;
    for (int64_t i = V / 2; i-- > 0;) sift_down(heap, V, i, w);
    while (kept < k && mass < enough) {
        int64_t last = V - 1 - kept;
        int32_t top = heap[0];
        heap[0] = heap[last], heap[last] = top;
        sift_down(heap, last, 0, w);
        mass += (double)w[top];
        kept++;
    }
    if (k < V && top_p < 1) { /* p of the k tokens' mass */
        double part = 0;
        for (int64_t i = 0; i < kept; i++) {
            part += (double)w[heap[V - 1 - i]];
            if (part >= top_p * mass) return i + 1;
        }
    }
    return kept;
}

/* --- the race --------------------------------------------------------------------------------- */

typedef struct Race {
    const real *w;
    const RngKey *key;
    uint64_t id;
    uint32_t position;
    double time; /* of the first arrival so far */
    int32_t winner;
} Race;

KERNEL_INLINE double uniform(uint32_t bits) { return ((double)bits + 0.5) * 0x1p-32; }

/* *runners: how many of n tokens with weights w may arrive before `time`. */
KERNEL(count_runners,
       (int64_t n, const real *restrict w, const uint32_t *restrict bits, double time,
        int32_t *runners),
       (n, w, bits, time, runners)) {
    int32_t count = 0;
    for (int64_t i = 0; i < n; i++) count += !(uniform(bits[i]) >= time * (double)w[i]);
    *runners = count;
}

static inline void run(Race *r, int32_t token, uint32_t bits) {
    double u = uniform(bits), w = (double)r->w[token];
    if (u >= r->time * w) return;
    double time = -log1p(-u) / w;
    if (time >= r->time) return;
    r->time = time;
    r->winner = token;
}

static int32_t race_all(Race *r, int64_t V) {
    uint32_t bits[RACE_BLOCK];
    for (int64_t i = 0; i < V; i += RACE_BLOCK) {
        int64_t n = V - i < RACE_BLOCK ? V - i : RACE_BLOCK;
        int32_t runners;
        rng_bits_fill(r->key, r->id, r->position, (uint32_t)(i / 4), (n + 3) / 4, bits);
        count_runners(n, r->w + i, bits, r->time, &runners);
        for (int64_t j = 0; j < n && runners; j++) run(r, (int32_t)(i + j), bits[j]);
    }
    return r->winner;
}

static int32_t race_kept(Race *r, const int32_t *token, int64_t n) {
    uint32_t bits[4];
    for (int64_t i = 0; i < n; i++) {
        rng_bits(r->key, r->id, r->position, (uint32_t)token[i] / 4, bits);
        run(r, token[i], bits[token[i] % 4]);
    }
    return r->winner;
}

static int32_t first_equal(const real *x, int64_t n, real v) {
    int64_t i = 0;
    while (i < n && x[i] != v) i++;
    return (int32_t)i;
}

/* The likeliest token that is not masked. */
static int32_t likeliest(const Gpt *g, const real *logits) {
    int32_t best = -1;
    int64_t m = 0;
    for (int32_t i = 0; i < g->cfg.vocab; i++)
        if (m < g->nmasked && g->masked[m] == i)
            m++;
        else if (best < 0 || logits[i] > logits[best])
            best = i;
    return best < 0 ? 0 : best;
}

int32_t sample_token(const Gpt *g, real *logits, const DecodeOptions *o, const RngKey *key,
                     uint64_t id, uint32_t position, int32_t *heap, float *logp) {
    const int64_t V = g->cfg.vocab;
    bool greedy = o->temperature == 0;
    double sum, masked = 0;
    real max;
    largest(logits, V, &max);
    if (!isfinite(max)) {
        *logp = NAN;
        return 0;
    }
    const real scale = greedy ? 1 : (real)(1 / o->temperature);
    int32_t token = g->nmasked ? likeliest(g, logits) : greedy ? first_equal(logits, V, max) : 0;
    const real best = (logits[token] - max) * scale;
    weigh(logits, V, max, scale, &sum);
    for (int64_t i = 0; i < g->nmasked; i++) {
        masked += (double)logits[g->masked[i]];
        logits[g->masked[i]] = 0;
    }
    if (g->nmasked && logits[token] == 0) { /* beside the masked ones all others vanish */
        *logp = (float)((double)best - log(sum));
        return token;
    }
    if (!greedy) {
        Race r = {logits, key, id, position, HUGE_VAL, token};
        if (heap) {
            int64_t kept = keep(heap, logits, V, sum - masked, o->top_k, o->top_p);
            token = race_kept(&r, heap + V - kept, kept);
        } else {
            token = race_all(&r, V);
        }
    }
    *logp = (float)log((double)logits[token] / sum);
    return token;
}
