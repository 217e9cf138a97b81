/* op_loss.c: the language-model head and losses on log-probabilities, without ever holding all
 * logits. For each block of tokens:
 *
 *   z = x wte^T / temperature          x [n,C], wte [V,C], z [block,V]
 *   logp_i = z_i[target] - log sum_v exp z_iv,   entropy_i = -sum_v p_iv log p_iv,  p = softmax(z)
 *   loss_i, g_i = d loss_i / d logp_i  from the caller's function, in token order in one thread
 *   dz_iv = g_i (1[v = target] - p_iv) / temperature     in place of z
 *   dx += dz wte,  dwte += dz^T x
 *
 * Blocks come one after another and each product is cut into tiles by its shape only, so the sums
 * do not depend on the threads. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "core/gemm.h"
#include "core/gradcheck.h"
#include "core/kernel.h"
#include "core/ops.h"
#include "core/vecmath.h"

enum { BLOCK_LOGITS = 1 << 20, BLOCK_ROWS_MIN = 2 * GEMM_ROWS, BLOCK_ROWS_MAX = 2048 };

typedef struct RowSoftmax {
    real max, sum; /* sum of exp(z - max) */
    real dot;      /* sum of exp(z - max) (z - max), if the entropy is wanted */
} RowSoftmax;

/* z becomes exp(a z - max), max and sums are of a z. */
KERNEL(softmax_row, (int64_t V, real a, real *restrict z, bool entropy, RowSoftmax *restrict r),
       (V, a, z, entropy, r)) {
    if (a != 1)
        for (int64_t v = 0; v < V; v++) z[v] *= a;
    real max = vm_max(V, z), sum = 0, dot = 0;
    if (entropy) {
#pragma omp simd reduction(+ : sum, dot)
        for (int64_t v = 0; v < V; v++) {
            real u = z[v] - max, e = vm_exp(u);
            z[v] = e;
            sum += e;
            dot += e * u;
        }
    } else {
#pragma omp simd reduction(+ : sum)
        for (int64_t v = 0; v < V; v++) {
            real e = vm_exp(z[v] - max);
            z[v] = e;
            sum += e;
        }
    }
    r->max = max;
    r->sum = sum;
    r->dot = dot;
}

KERNEL(scale_row, (int64_t V, real a, real *restrict z), (V, a, z)) {
    for (int64_t v = 0; v < V; v++) z[v] *= a;
}

typedef struct HeadLoss {
    Tensor *x, *wte;
    const int32_t *targets;
    double temperature;
    TokenLossFn *loss;
    void *ctx;
    bool entropy;
    real *logp_out, *entropy_out;
} HeadLoss;

/* The arrays of one block. */
typedef struct LossBlock {
    Arena *arena;
    real *z;          /* [rows,V] */
    RowSoftmax *soft; /* [rows] */
    double *logp;     /* [rows] */
    real *dlogp;      /* [rows] */
} LossBlock;

/* Of tokens first .. first+rows-1, whose logits z are: the losses' sum; z becomes dz. */
static double losses(const HeadLoss *l, const LossBlock *b, int64_t first, int64_t rows,
                     bool backward) {
    int64_t V = l->wte->shape[0];
    const int32_t *targets = l->targets + first;
#pragma omp parallel for schedule(static) if (rows * V > PARALLEL_MIN)
    for (int64_t i = 0; i < rows; i++) {
        real *z = b->z + i * V, a = (real)(1 / l->temperature);
        real target = a * z[targets[i]];
        softmax_row(V, a, z, l->entropy, &b->soft[i]);
        b->logp[i] = (double)(target - b->soft[i].max) - log((double)b->soft[i].sum);
    }
    double total = 0;
    for (int64_t i = 0; i < rows; i++) {
        double dlogp = 0, entropy = 0;
        if (l->entropy)
            entropy = log((double)b->soft[i].sum) - (double)(b->soft[i].dot / b->soft[i].sum);
        if (l->loss) total += l->loss(l->ctx, first + i, b->logp[i], entropy, &dlogp);
        if (l->logp_out) l->logp_out[first + i] = (real)b->logp[i];
        if (l->entropy_out) l->entropy_out[first + i] = (real)entropy;
        b->dlogp[i] = (real)(dlogp / l->temperature);
    }
    if (!backward) return total;
#pragma omp parallel for schedule(static) if (rows * V > PARALLEL_MIN)
    for (int64_t i = 0; i < rows; i++) {
        scale_row(V, -b->dlogp[i] / b->soft[i].sum, b->z + i * V);
        b->z[i * V + targets[i]] += b->dlogp[i];
    }
    return total;
}

/* All of the same tokens. dx: of the whole of x. */
static double block_loss(Tape *t, const HeadLoss *l, const LossBlock *b, int64_t first,
                         int64_t rows, const GradOut *dx) {
    int64_t C = l->x->shape[1], V = l->wte->shape[0];
    const real *x = l->x->data + first * C;
    const bool backward = tape_records(t) && l->loss;
    double total = 0;
    gemm(b->arena, &(Gemm){.M = rows,
                           .N = V,
                           .K = C,
                           .a = x,
                           .lda = C,
                           .b = l->wte->data,
                           .b_half = l->wte->half,
                           .ldb = C,
                           .trans_b = true,
                           .c = b->z,
                           .ldc = V});
    if (!tape_dry(t)) total = losses(l, b, first, rows, backward);
    if (!backward) return total;
    const GradOut dwte = tape_grad_out(t, l->wte);
    if (dwte.to)
        gemm(b->arena, &(Gemm){.M = V,
                               .N = C,
                               .K = rows,
                               .a = b->z,
                               .lda = V,
                               .trans_a = true,
                               .b = x,
                               .ldb = C,
                               .c = dwte.to,
                               .ldc = C,
                               .add = dwte.add});
    if (dx->to)
        gemm(b->arena, &(Gemm){.M = rows,
                               .N = C,
                               .K = V,
                               .a = b->z,
                               .lda = V,
                               .b = l->wte->data,
                               .b_half = l->wte->half,
                               .ldb = C,
                               .c = dx->to + first * C,
                               .ldc = C,
                               .add = dx->add});
    return total;
}

static double head_loss(Tape *t, const HeadLoss *l) {
    CHECK(l->x->ndim == 2, "the loss's x has %d dimensions, expected 2", l->x->ndim);
    int64_t n = l->x->shape[0], C = l->x->shape[1], V = l->wte->shape[0];
    tensor_expect(l->wte, "the loss's wte", 2, (int64_t[]){V, C});
    CHECK(l->temperature > 0, "the loss's temperature is %g, expected > 0", l->temperature);
    for (int64_t i = 0; i < n; i++)
        CHECK(l->targets[i] >= 0 && l->targets[i] < V,
              "the target of token %lld is %d, the vocabulary has %lld", (long long)i,
              l->targets[i], (long long)V);
    const GradOut dx = tape_records(t) && l->loss ? tape_grad_out(t, l->x) : (GradOut){0};
    Arena *arena = tape_arena(t);
    ArenaMark mark = arena_mark(arena);

    int64_t rows = BLOCK_LOGITS / V;
    rows = rows < BLOCK_ROWS_MIN ? BLOCK_ROWS_MIN : rows > BLOCK_ROWS_MAX ? BLOCK_ROWS_MAX : rows;
    if (rows > n) rows = n;
    size_t r = (size_t)rows;
    LossBlock b = {.arena = arena,
                   .z = arena_numbers(arena, r * (size_t)V * sizeof(real)),
                   .soft = arena_numbers(arena, r * sizeof(RowSoftmax)),
                   .logp = arena_numbers(arena, r * sizeof(double)),
                   .dlogp = arena_numbers(arena, r * sizeof(real))};
    double total = 0;
    for (int64_t i = 0; i < n; i += rows)
        total += block_loss(t, l, &b, i, n - i < rows ? n - i : rows, &dx);
    arena_release(arena, mark);
    if (tape_dry(t) && l->logp_out) memset(l->logp_out, 0, (size_t)n * sizeof(real));
    if (tape_dry(t) && l->entropy_out) memset(l->entropy_out, 0, (size_t)n * sizeof(real));
    return total;
}

double op_token_loss(Tape *t, Tensor *x, Tensor *wte, const int32_t *targets, double temperature,
                     TokenLossFn *loss, void *ctx, real *logp_out, real *entropy_out) {
    return head_loss(t, &(HeadLoss){.x = x,
                                    .wte = wte,
                                    .targets = targets,
                                    .temperature = temperature,
                                    .loss = loss,
                                    .ctx = ctx,
                                    .entropy = loss || entropy_out,
                                    .logp_out = logp_out,
                                    .entropy_out = entropy_out});
}

static double weighted_nll(void *ctx, int64_t i, double logp, double entropy, double *dlogp) {
    const float *weight = ctx;
    *dlogp = -(double)weight[i];
    return -(double)weight[i] * logp;
}

double op_cross_entropy(Tape *t, Tensor *x, Tensor *wte, const int32_t *targets,
                        const float *weight, real *logp_out) {
    return head_loss(t, &(HeadLoss){.x = x,
                                    .wte = wte,
                                    .targets = targets,
                                    .temperature = 1,
                                    .loss = weighted_nll,
                                    .ctx = (void *)weight,
                                    .logp_out = logp_out});
}

enum { CASE_N = 75, CASE_V = 11 };

static int32_t case_target(int64_t i) { return (int32_t)(i * i % CASE_V); }

/* A loss that is not linear in logp, as PPO's is not. */
static double curved(void *ctx, int64_t i, double logp, double entropy, double *dlogp) {
    double a = 0.5 + (double)(i % 3);
    *dlogp = a * exp(a * logp) + 0.2 * logp;
    return exp(a * logp) + 0.1 * logp * logp;
}

static double token_loss_run(Tape *t, const GradCase *c) {
    int32_t targets[CASE_N];
    for (int64_t i = 0; i < CASE_N; i++) targets[i] = case_target(i);
    return op_token_loss(t, c->in[0], c->in[1], targets, c->variant ? 0.7 : 1.0, curved, NULL, NULL,
                         NULL);
}

bool op_token_loss_case(GradCase *c, int i) {
    if (i >= 2) return false;
    gradcheck_input(c, 2, (int64_t[]){CASE_N, 4});
    gradcheck_input(c, 2, (int64_t[]){CASE_V, 4});
    c->variant = i;
    c->what = i == 0 ? "temperature 1" : "temperature 0.7";
    c->run = token_loss_run;
    return true;
}

static double cross_entropy_run(Tape *t, const GradCase *c) {
    int32_t targets[CASE_N];
    float weight[CASE_N];
    for (int64_t i = 0; i < CASE_N; i++) {
        targets[i] = case_target(i);
        weight[i] = c->variant && i % 5 == 3 ? 0 : (float)(i % 7 + 1) / 40;
    }
    return op_cross_entropy(t, c->in[0], c->in[1], targets, weight, NULL);
}

bool op_cross_entropy_case(GradCase *c, int i) {
    if (i >= 2) return false;
    gradcheck_input(c, 2, (int64_t[]){CASE_N, 4});
    gradcheck_input(c, 2, (int64_t[]){CASE_V, 4});
    c->variant = i;
    c->what = i ? "some weights 0" : "all weighted";
    c->run = cross_entropy_run;
    return true;
}
