/* What must not change a result: how sequences are packed, the number of threads, the version of
 * the kernels, a repeated run; and a steady state that allocates nothing. A small transformer block
 * with all ops is run on 700 tokens. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/blas.h"
#include "core/kernel.h"
#include "core/ops.h"

enum { N = 700, NSEQ = 7, C = 48, H = 3, T = 300, V = 90 };
static const int64_t start[NSEQ + 1] = {0, 1, 6, 70, 70, 200, 500, 700};

typedef struct Net {
    ParamSet ps;
    Tensor *wte, *wpe, *g, *b, *wqkv, *bqkv, *wo, *bo, *w1, *b1, *w2, *b2, *wv, *bv;
} Net;

static Tensor *param(Net *net, const char *name) {
    return paramset_find(&net->ps, name);
}

static void net_open(Net *net) {
    *net = (Net){0};
    ParamSet *ps = &net->ps;
    paramset_add(ps, "wte", 2, (int64_t[]){V, C}, true);
    paramset_add(ps, "wpe", 2, (int64_t[]){T, C}, true);
    paramset_add(ps, "g", 1, (int64_t[]){C}, false);
    paramset_add(ps, "b", 1, (int64_t[]){C}, false);
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
    paramset_alloc(ps, true);
    const RngKey key = {.seed = 1, .purpose = RNG_INIT};
    rng_normal_fill(&key, 0, ps->data, ps->size, 0.3);
    net->wte = param(net, "wte"), net->wpe = param(net, "wpe");
    net->g = param(net, "g"), net->b = param(net, "b");
    net->wqkv = param(net, "wqkv"), net->bqkv = param(net, "bqkv");
    net->wo = param(net, "wo"), net->bo = param(net, "bo");
    net->w1 = param(net, "w1"), net->b1 = param(net, "b1");
    net->w2 = param(net, "w2"), net->b2 = param(net, "b2");
    net->wv = param(net, "wv"), net->bv = param(net, "bv");
}

static int32_t token(int64_t i) {
    return (int32_t)((i * i + 5 * i) % V);
}

/* Runs tokens first..first+p->n-1; logp [p->n] is filled, and the gradients if the tape records. */
static double net_run(Net *net, Tape *t, const Packing *p, int64_t first, real *logp) {
    static int32_t tokens[N], targets[N];
    static uint64_t rows[N];
    static float weight[N];
    for (int64_t i = 0; i < p->n; i++) {
        tokens[i] = token(first + i);
        targets[i] = token(first + i + 1);
        rows[i] = (uint64_t)(first + i);
        weight[i] = (first + i) % 4 ? 1.0f / N : 0;
    }
    const RngKey key = {.seed = 2, .purpose = RNG_DROPOUT, .step = 3};
    Tensor *x = op_embed(t, net->wte, net->wpe, tokens, p), *sum;
    x = op_dropout(t, x, 0.1, key, rows);
    Tensor *h = op_layernorm(t, x, NULL, net->g, net->b, 1e-5, NULL);
    h = op_linear(t, h, net->wqkv, net->bqkv, ACT_NONE);
    h = op_attention(t, h, p, H);
    h = op_linear(t, h, net->wo, net->bo, ACT_NONE);
    h = op_layernorm(t, x, h, net->g, net->b, 1e-5, &sum);
    h = op_linear(t, h, net->w1, net->b1, ACT_GELU_TANH);
    h = op_linear(t, h, net->w2, net->b2, ACT_NONE);
    x = op_add(t, sum, h);
    h = op_layernorm(t, x, NULL, net->g, NULL, 1e-5, NULL);
    Tensor *value = op_scalar_head(t, h, net->wv, net->bv, NULL, 0);
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

static Result result_of(Net *net) {
    Arena arena = {0};
    Tape *t = tape_open(&arena, true);
    const Packing p = {N, NSEQ, start};
    Result r = {.logp = malloc(N * sizeof(real)), .ngrad = net->ps.size};
    paramset_zero_grad(&net->ps);
    r.loss = net_run(net, t, &p, 0, r.logp);
    r.grad = malloc((size_t)r.ngrad * sizeof(real));
    memcpy(r.grad, net->ps.grad, (size_t)r.ngrad * sizeof(real));
    tape_close(&t);
    arena_free(&arena);
    return r;
}

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

static void packed_or_alone(void **state) {
    Net net;
    net_open(&net);
    Result packed = result_of(&net);
    for (int recording = 0; recording < 2; recording++) {
        Arena arena = {0};
        Tape *t = tape_open(&arena, recording);
        paramset_zero_grad(&net.ps);
        double loss = 0;
        for (int s = 0; s < NSEQ; s++) {
            const int64_t alone[2] = {0, start[s + 1] - start[s]};
            const Packing p = {alone[1], 1, alone};
            real logp[N];
            loss += net_run(&net, t, &p, start[s], logp);
            tape_reset(t);
            for (int64_t i = 0; i < p.n; i++)
                assert_true(fabs((double)(logp[i] - packed.logp[start[s] + i])) <=
                            1e-6 * (1 + fabs((double)logp[i])));
        }
        assert_true(fabs(loss - packed.loss) <= 1e-6 * fabs(loss));
        if (recording) {
            Result alone = {
                .loss = loss, .logp = packed.logp, .grad = net.ps.grad, .ngrad = net.ps.size};
            assert_near(&alone, &packed, 2e-6);
        }
        tape_close(&t);
        arena_free(&arena);
    }
    result_free(&packed);
    paramset_free(&net.ps);
}

static void one_or_more_threads(void **state) {
    Net net;
    net_open(&net);
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
    paramset_free(&net.ps);
}

static void any_kernel(void **state) {
    Net net;
    net_open(&net);
    kernel_level = KERNEL_PLAIN;
    Result plain = result_of(&net);
    for (KernelLevel level = KERNEL_PLAIN + 1; level <= kernel_supported(); level++) {
        kernel_level = level;
        Result other = result_of(&net);
        assert_near(&other, &plain, 5e-6);
        result_free(&other);
    }
    kernel_level = kernel_supported();
    result_free(&plain);
    paramset_free(&net.ps);
}

static void steady_state_allocates_nothing(void **state) {
    Net net;
    net_open(&net);
    Arena arena = {0};
    Tape *t = tape_open(&arena, true);
    const Packing p = {N, NSEQ, start};
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
    paramset_free(&net.ps);
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
        cmocka_unit_test(packed_or_alone), cmocka_unit_test(one_or_more_threads),
        cmocka_unit_test(any_kernel),      cmocka_unit_test(steady_state_allocates_nothing),
        cmocka_unit_test(dropout_masks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
