/* What must not change a result: how sequences are packed and cut into micro-batches, the number of
 * threads, the version of the kernels, a repeated run; and a steady state that allocates nothing. A
 * small net of a block like GPT-2's is run on 700 tokens, then one that has a block like Qwen3's
 * too. (Products of OpenBLAS promise no bits but for the same call: there threads only are tried.)
 */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/kernel.h"
#include "core/ops.h"

enum { N = 700, NSEQ = 7, C = 48, H = 3, T = 300, V = 90 };
enum { D = 20, Q = 4, KV = 2, QKV = (Q + 2 * KV) * D, F = 100 }; /* of the block like Llama's */
static bool llama; /* it is in the net, after the block like GPT-2's */
static const int64_t start[NSEQ + 1] = {0, 1, 6, 70, 70, 200, 500, 700};

typedef struct Net {
    ParamSet ps;
    Tensor
        embed; /* wte's data with a gradient of its own: the head's sum must not be interrupted */
    Tensor *wte, *wpe, *g, *b, *g2, *bg2, *g3, *wqkv, *bqkv, *wo, *bo, *w1, *b1, *w2, *b2, *wv, *bv;
    Tensor *r1, *wqkv2, *gq, *gk, *wo2, *r2, *wgu, *wdown;
    Rope rope;
} Net;

static Tensor *param(Net *net, const char *name) { return paramset_find(&net->ps, name); }

static void net_open(Net *net) {
    *net = (Net){0};
    ParamSet *ps = &net->ps;
    paramset_add(ps, "wte", 2, (int64_t[]){V, C}, true);
    paramset_add(ps, "wpe", 2, (int64_t[]){T, C}, true);
    paramset_add(ps, "g", 1, (int64_t[]){C}, false);
    paramset_add(ps, "b", 1, (int64_t[]){C}, false);
    paramset_add(ps, "g2", 1, (int64_t[]){C}, false);
    paramset_add(ps, "bg2", 1, (int64_t[]){C}, false);
    paramset_add(ps, "g3", 1, (int64_t[]){C}, false);
    paramset_add(ps, "wqkv", 2, (int64_t[]){3 * C, C}, true);
    paramset_add(ps, "bqkv", 1, (int64_t[]){3 * C}, false);
    paramset_add(ps, "wo", 2, (int64_t[]){C, C}, true);
    paramset_add(ps, "bo", 1, (int64_t[]){C}, false);
    paramset_add(ps, "w1", 2, (int64_t[]){4 * C, C}, true);
    paramset_add(ps, "b1", 1, (int64_t[]){4 * C}, false);
    paramset_add(ps, "w2", 2, (int64_t[]){C, 4 * C}, true);
    paramset_add(ps, "b2", 1, (int64_t[]){C}, false);
    paramset_add(ps, "wv", 2, (int64_t[]){1, C}, true);
    paramset_add(ps, "bv", 1, (int64_t[]){1}, false);
    if (llama) {
        paramset_add(ps, "r1", 1, (int64_t[]){C}, false);
        paramset_add(ps, "wqkv2", 2, (int64_t[]){QKV, C}, true);
        paramset_add(ps, "gq", 1, (int64_t[]){D}, false);
        paramset_add(ps, "gk", 1, (int64_t[]){D}, false);
        paramset_add(ps, "wo2", 2, (int64_t[]){C, Q * D}, true);
        paramset_add(ps, "r2", 1, (int64_t[]){C}, false);
        paramset_add(ps, "wgu", 2, (int64_t[]){2 * F, C}, true);
        paramset_add(ps, "wdown", 2, (int64_t[]){C, F}, true);
        rope_open(&net->rope, &(RopeConfig){.head = D, .columns = D / 2, .theta = 1e3}, T);
    }
    paramset_alloc(ps, true);
    const RngKey key = {.seed = 1, .purpose = RNG_INIT};
    rng_normal_fill(&key, 0, ps->data, ps->size, 0.3);
    net->wte = param(net, "wte");
    net->embed = *net->wte;
    net->embed.grad = calloc(V * C, sizeof(real));
    net->wpe = param(net, "wpe");
    net->g = param(net, "g"), net->b = param(net, "b");
    net->g2 = param(net, "g2"), net->bg2 = param(net, "bg2"), net->g3 = param(net, "g3");
    net->wqkv = param(net, "wqkv"), net->bqkv = param(net, "bqkv");
    net->wo = param(net, "wo"), net->bo = param(net, "bo");
    net->w1 = param(net, "w1"), net->b1 = param(net, "b1");
    net->w2 = param(net, "w2"), net->b2 = param(net, "b2");
    net->wv = param(net, "wv"), net->bv = param(net, "bv");
    if (!llama) return;
    net->r1 = param(net, "r1"), net->r2 = param(net, "r2");
    net->wqkv2 = param(net, "wqkv2"), net->gq = param(net, "gq"), net->gk = param(net, "gk");
    net->wo2 = param(net, "wo2"), net->wgu = param(net, "wgu"), net->wdown = param(net, "wdown");
}

static void net_close(Net *net) {
    free(net->embed.grad);
    rope_free(&net->rope);
    paramset_free(&net->ps);
}

static Tensor *llama_block(Net *net, Tape *t, Tensor *x, const Batch *p) {
    Tensor *sum, *h = op_rmsnorm(t, x, NULL, net->r1, 1e-5, NULL);
    h = op_linear(t, h, net->wqkv2, NULL, ACT_NONE);
    h = op_headnorm(t, h, net->gq, net->gk, Q, KV, 1e-6);
    h = op_rope(t, h, p, &net->rope, Q + KV);
    h = op_attention_grouped(t, h, p, Q, KV);
    h = op_linear(t, h, net->wo2, NULL, ACT_NONE);
    h = op_rmsnorm(t, x, h, net->r2, 1e-5, &sum);
    h = op_linear(t, h, net->wgu, NULL, ACT_NONE);
    h = op_swiglu(t, h);
    h = op_linear(t, h, net->wdown, NULL, ACT_NONE);
    return op_add(t, sum, h);
}

static int32_t token(int64_t i) { return (int32_t)((i * i + 5 * i) % V); }

/* Runs tokens first..first+p->n-1; logp [p->n] is filled, and the gradients if the tape records. */
static double net_run(Net *net, Tape *t, Batch *p, int64_t first, real *logp) {
    static int32_t tokens[N], targets[N];
    static uint64_t rows[N];
    static float weight[N];
    for (int64_t i = 0; i < p->n; i++) {
        tokens[i] = token(first + i);
        targets[i] = token(first + i + 1);
        rows[i] = (uint64_t)(first + i);
        weight[i] = (first + i) % 4 ? 1.0f / N : 0;
    }
    p->tokens = tokens;
    const RngKey key = {.seed = 2, .purpose = RNG_DROPOUT, .step = 3};
    Tensor *x = op_embed(t, &net->embed, net->wpe, p), *sum;
    x = op_dropout(t, x, 0.1, key, rows);
    Tensor *h = op_layernorm(t, x, NULL, net->g, net->b, 1e-5, NULL);
    h = op_linear(t, h, net->wqkv, net->bqkv, ACT_NONE);
    h = op_attention(t, h, p, H);
    h = op_linear(t, h, net->wo, net->bo, ACT_NONE);
    h = op_layernorm(t, x, h, net->g2, net->bg2, 1e-5, &sum);
    h = op_linear(t, h, net->w1, net->b1, ACT_GELU_TANH);
    h = op_linear(t, h, net->w2, net->b2, ACT_NONE);
    x = op_add(t, sum, h);
    if (llama) x = llama_block(net, t, x, p);
    h = op_layernorm(t, x, NULL, net->g3, NULL, 1e-5, NULL);
    Tensor *value = op_scalar_head(t, h, net->wv, net->bv);
    double loss = op_cross_entropy(t, h, net->wte, targets, weight, logp);
    for (int64_t i = 0; i < p->n; i++) {
        loss += (double)value->data[i] / N;
        if (value->grad) value->grad[i] = (real)1 / N;
    }
    if (tape_records(t)) tape_backward(t);
    return loss;
}

typedef struct Result {
    double loss;
    real *logp, *grad;
    int64_t ngrad;
} Result;

/* The whole as nmicro micro-batches, of sequences cut[i]..cut[i+1]-1. The gradients are those of
 * all parameters and of the embedding. */
static Result result_in(Net *net, int nmicro, const int *cut) {
    Arena arena = {0};
    Tape *t = tape_open(&arena, true);
    Result r = {.logp = malloc(N * sizeof(real)), .ngrad = net->ps.size + V * C};
    paramset_zero_grad(&net->ps);
    memset(net->embed.grad, 0, V * C * sizeof(real));
    for (int m = 0; m < nmicro; m++) {
        int64_t from[NSEQ + 1], first = start[cut[m]];
        for (int s = cut[m]; s <= cut[m + 1]; s++) from[s - cut[m]] = start[s] - first;
        Batch p = {.n = start[cut[m + 1]] - first, .nseq = cut[m + 1] - cut[m], .start = from};
        r.loss += net_run(net, t, &p, first, r.logp + first);
        tape_reset(t);
    }
    r.grad = malloc((size_t)r.ngrad * sizeof(real));
    memcpy(r.grad, net->ps.grad, (size_t)net->ps.size * sizeof(real));
    memcpy(r.grad + net->ps.size, net->embed.grad, V * C * sizeof(real));
    tape_close(&t);
    arena_free(&arena);
    return r;
}

static Result result_of(Net *net) { return result_in(net, 1, (int[]){0, NSEQ}); }

static void result_free(Result *r) {
    free(r->logp);
    free(r->grad);
}

static void assert_near(const Result *a, const Result *b, double tolerance) {
    double largest = 0;
    assert_true(fabs(a->loss - b->loss) <= tolerance * fabs(b->loss));
    for (int i = 0; i < N; i++)
        assert_true(fabs((double)(a->logp[i] - b->logp[i])) <=
                    tolerance * (1 + fabs((double)b->logp[i])));
    for (int64_t i = 0; i < b->ngrad; i++) largest = fmax(largest, fabs((double)b->grad[i]));
    assert_true(largest > 0);
    for (int64_t i = 0; i < b->ngrad; i++)
        if (!(fabs((double)(a->grad[i] - b->grad[i])) <= tolerance * largest))
            fail_msg("gradient %lld: %.9g and %.9g, largest %.3g", (long long)i, (double)a->grad[i],
                     (double)b->grad[i], largest);
}

/* The first parameter whose gradients differ in a bit, NULL: none. */
static const char *differs(const Net *net, const Result *a, const Result *b) {
    for (int i = 0; i < net->ps.n; i++) {
        const Param *p = &net->ps.v[i];
        if (memcmp(a->grad + p->offset, b->grad + p->offset,
                   (size_t)tensor_size(&p->tensor) * sizeof(real)))
            return p->name;
    }
    return memcmp(a->grad + net->ps.size, b->grad + net->ps.size, V * C * sizeof(real))
               ? "the embedding"
               : NULL;
}

/* Packed together, one by one, in uneven micro-batches: each op's gradient is one chain over the
 * tokens, so not a bit differs, whatever the kernels and threads. */
static void cut_anywhere(void **state) {
    static const int cuts[][NSEQ + 1] = {
        {0, 1, 2, 3, 4, 5, 6, 7}, {0, 5, 7}, {0, 2, 7}, {0, 1, 3, 7}, {0, 4, 5, 7}};
    static const int pieces[] = {7, 2, 2, 3, 3};
    Net net;
    net_open(&net);
    KernelLevel best = kernel_level;
    int before = omp_get_max_threads();
    for (KernelLevel level = KERNEL_PLAIN; level <= kernel_supported(); level++) {
        kernel_level = level;
        omp_set_num_threads(1);
        Result whole = result_of(&net);
        for (int i = 0; i < 5; i++) {
            omp_set_num_threads(1 + i % 3);
            Result r = result_in(&net, pieces[i], cuts[i]);
            const char *what = differs(&net, &r, &whole);
            if (what)
                fail_msg("%s: in %d pieces the gradient of %s is another one", kernel_name(level),
                         pieces[i], what);
            assert_memory_equal(r.logp, whole.logp, N * sizeof(real));
            assert_true(fabs(r.loss - whole.loss) <= 1e-12 * fabs(whole.loss));
            result_free(&r);
        }
        result_free(&whole);
    }
    kernel_level = best;
    omp_set_num_threads(before);
    net_close(&net);
}

static void more_threads_on(KernelLevel level) {
    Net net;
    net_open(&net);
    kernel_level = level;
    int before = omp_get_max_threads();
    omp_set_num_threads(1);
    Result one = result_of(&net);
    for (int threads = 2; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        Result more = result_of(&net), again = result_of(&net);
        assert_memory_equal(more.grad, again.grad, (size_t)more.ngrad * sizeof(real));
        assert_memory_equal(more.grad, one.grad, (size_t)more.ngrad * sizeof(real));
        assert_memory_equal(more.logp, one.logp, N * sizeof(real));
        assert_true(more.loss == one.loss && again.loss == one.loss);
        result_free(&more);
        result_free(&again);
    }
    omp_set_num_threads(before);
    result_free(&one);
    net_close(&net);
}

static void one_or_more_threads(void **state) {
    const KernelLevel before = kernel_level;
    more_threads_on(KERNEL_BLAS);
    more_threads_on(kernel_supported());
    kernel_level = before;
}

static void any_kernel(void **state) {
    Net net;
    net_open(&net);
    kernel_level = KERNEL_PLAIN;
    Result plain = result_of(&net);
    for (KernelLevel level = KERNEL_BLAS; level <= kernel_supported(); level++) {
        kernel_level = level;
        Result other = result_of(&net);
        assert_near(&other, &plain, 5e-6);
        result_free(&other);
    }
    kernel_level = kernel_supported();
    result_free(&plain);
    net_close(&net);
}

static void steady_state_allocates_nothing(void **state) {
    Net net;
    net_open(&net);
    Arena arena = {0};
    Tape *t = tape_open(&arena, true);
    Batch p = {.n = N, .nseq = NSEQ, .start = start};
    real logp[N];
    net_run(&net, t, &p, 0, logp);
    tape_reset(t);
    const ArenaBlock *block = arena.head;
    for (int i = 0; i < 3; i++) {
        net_run(&net, t, &p, 0, logp);
        assert_ptr_equal(arena.head, block);
        tape_reset(t);
        assert_ptr_equal(arena.head, block);
    }
    tape_close(&t);
    arena_free(&arena);
    net_close(&net);
}

/* A token's attention is the same bits whatever follows it: 150 tokens alone, and as the beginning
 * of 200. */
static void attention_of_a_beginning(void **state) {
    enum { LONG = 200, SHORT = 150 };
    const RngKey key = {.seed = 4, .purpose = RNG_TEST};
    KernelLevel best = kernel_level;
    for (KernelLevel level = KERNEL_PLAIN; level <= kernel_supported(); level++) {
        kernel_level = level;
        Arena arena = {0};
        Tape *t = tape_open(&arena, false);
        Tensor *qkv[2];
        const Tensor *y[2];
        for (int i = 0; i < 2; i++) {
            int64_t n = i ? SHORT : LONG, from[] = {0, n};
            qkv[i] = tape_tensor(t, 2, (int64_t[]){n, 3 * C});
            rng_normal_fill(&key, 0, qkv[i]->data, n * 3 * C, 1);
            y[i] = op_attention(t, qkv[i], &(Batch){.n = n, .nseq = 1, .start = from}, H);
        }
        assert_memory_equal(qkv[0]->data, qkv[1]->data, SHORT * 3 * C * sizeof(real));
        assert_memory_equal(y[0]->data, y[1]->data, SHORT * C * sizeof(real));
        tape_close(&t);
        arena_free(&arena);
    }
    kernel_level = best;
}

/* The same token has the same mask wherever it lies; masks have the right density. */
static void dropout_masks(void **state) {
    enum { ROWS = 64, COLS = 700 };
    const RngKey key = {.seed = 2, .purpose = RNG_DROPOUT, .step = 3};
    Arena arena = {0};
    Tape *t = tape_open(&arena, false);
    Tensor *ones = tape_tensor(t, 2, (int64_t[]){ROWS, COLS});
    uint64_t row[ROWS];
    int64_t kept = 0;
    for (int64_t i = 0; i < ROWS * COLS; i++) ones->data[i] = 1;
    for (uint64_t i = 0; i < ROWS; i++) row[i] = (i * 37 + 11) % ROWS;
    const Tensor *plain = op_dropout(t, ones, 0.25, key, NULL);
    const Tensor *moved = op_dropout(t, ones, 0.25, key, row);
    for (int64_t i = 0; i < ROWS; i++)
        assert_memory_equal(moved->data + i * COLS, plain->data + (int64_t)row[i] * COLS,
                            COLS * sizeof(real));
    for (int64_t i = 0; i < ROWS * COLS; i++) {
        assert_true(plain->data[i] == 0 || fabs((double)plain->data[i] - 1 / 0.75) < 1e-6);
        kept += plain->data[i] != 0;
    }
    assert_true(fabs((double)kept / (ROWS * COLS) - 0.75) < 4 * sqrt(0.75 * 0.25 / (ROWS * COLS)));
    tape_close(&t);
    arena_free(&arena);
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(one_or_more_threads),
        cmocka_unit_test(any_kernel),
        cmocka_unit_test(steady_state_allocates_nothing),
        cmocka_unit_test(attention_of_a_beginning),
        cmocka_unit_test(dropout_masks),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    llama = true;
    enum { WITH_NET = 4 }; /* the first of them use it */
    failed += _cmocka_run_group_tests("llama", tests, WITH_NET, NULL, NULL);
    return failed;
}
