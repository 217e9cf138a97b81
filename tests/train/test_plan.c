/* The formulas of train/plan.h: numbers known from elsewhere, numbers worked out by hand, and the
 * arena of real steps. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/config.h"
#include "base/error.h"
#include "core/batch.h"
#include "core/kernel.h"
#include "dist/exchange.h"
#include "train/plan.h"

static const GptConfig gpt2 = {.vocab = 50257,
                               .context = 1024,
                               .layers = 12,
                               .heads = 12,
                               .width = 768,
                               .bias = true,
                               .norm_eps = 1e-5};
static const GptConfig tiny = {.vocab = 512,
                               .context = 64,
                               .layers = 2,
                               .heads = 4,
                               .width = 64,
                               .bias = true,
                               .norm_eps = 1e-5}; /* configs/tiny */

static void assert_near(double a, double b, double share) {
    if (fabs(a - b) > share * fabs(b)) fail_msg("%.10g, expected %.10g to %g", a, b, share);
}

static PlanWork lm_work(GptConfig g, double windows, double T) {
    PlanWork w = {.stage = STAGE_PRETRAIN,
                  .model = g,
                  .steps = 10,
                  .items = windows,
                  .sequences = 1,
                  .length = T,
                  .micro_tokens = 8192};
    plan_net(&w, &g, g.scalar_head ? plan_values : step_lm, NULL);
    return w;
}
static GptConfig with_head(GptConfig g) {
    g.scalar_head = true;
    return g;
}
static PlanWork ppo_work(void) {
    const GptConfig head = with_head(tiny);
    PlanWork w = {.stage = STAGE_PPO,
                  .model = tiny,
                  .steps = 2,
                  .items = 64,
                  .sequences = 1,
                  .length = 40,
                  .response = 16,
                  .longest = 16,
                  .micro_tokens = 8192,
                  .minibatches = 4,
                  .epochs = 2};
    plan_net(&w, &tiny, step_lm, NULL);
    plan_net(&w, &head, plan_values, NULL);
    plan_net(&w, &tiny, NULL, NULL); /* reference, reward model, moving average */
    plan_net(&w, &head, NULL, NULL);
    plan_net(&w, &tiny, NULL, NULL);
    w.net[w.nets - 1].saved = true;
    return w;
}
static PlanLayout ranks(int64_t n, int64_t per_node) {
    return (PlanLayout){.ranks = n, .per_node = per_node, .threads = 1};
}
static const PlanRates rates = {1, 100e9, 20e9, 110e9, 30e9, 25e9, 200e9};
static const PlanNet net = {2e-6, 10e9, 1e-6, 5e9, 0, 0};

static void test_parameters(void **state) {
    PlanWork w = lm_work(gpt2, 1, 1024);
    assert_int_equal(plan_parameters(&w), 124439808); /* as Hugging Face counts GPT-2 */
    w = lm_work(tiny, 1, 64);
    assert_int_equal(plan_parameters(&w), 136960);
    w = lm_work(with_head(tiny), 1, 64); /* a head of 64 weights and a bias */
    assert_int_equal(plan_parameters(&w), 137025);
    w = ppo_work(); /* policy and critic */
    assert_int_equal(plan_parameters(&w), 273985);
}

static void test_flops(void **state) {
    /* 1024 tokens in windows of 64: 6 (12 L C^2 + V C) + 6 L C T = 786432 + 49152 a token */
    PlanWork w = lm_work(tiny, 16, 64);
    assert_near(plan_flops(&w, NULL), 1024.0 * (6 * (98304 + 32768) + 49152), 1e-12);
    w = lm_work(with_head(tiny), 16, 64); /* no vocabulary */
    assert_near(plan_flops(&w, NULL), 1024.0 * (6 * 98304 + 49152), 1e-12);
    w.response = 1; /* of 63 of 64 only the last layer's keys and values */
    assert_near(plan_flops(&w, NULL),
                1024.0 * (6 * 98304 + 49152) - 1008 * (60 * 4096.0 + 6 * 64 * 64), 1e-12);
    /* PPO, 64 episodes of 24 + 16 tokens, forward: a token 2 (12 L C^2 + V C) + 2 L C T, but of the
     * last layer keys and values only, and no logits, for all but 16; scored by four models. */
    w = ppo_work();
    double part[3];
    const double sum = plan_flops(&w, part);
    const double trunk39 = 39 * (2 * 98304.0 + 4 * 64 * 39) - 23 * (20 * 4096.0 + 2 * 64 * 39),
                 trunk40 = 40 * (2 * 98304.0 + 4 * 64 * 40) - 24 * (20 * 4096.0 + 2 * 64 * 40);
    const double head = 2 * 32768.0 * 16;
    assert_near(part[0], 64 * (trunk39 + head), 1e-12);
    assert_near(part[1], 64 * (4 * trunk40 + 2 * head), 1e-12);
    assert_near(part[2], 2 * 64 * 3 * (2 * trunk40 + head), 1e-12);
    assert_near(sum, part[0] + part[1] + part[2], 1e-12);
    w.windows = 4, w.window = 64; /* an optimizer step, of which there are 8 */
    assert_near(plan_flops(&w, NULL), sum + 8 * 256.0 * (786432 + 49152), 1e-12);
}

/* --- memory ----------------------------------------------------------------------------------- */

static double state_bytes(int64_t R, int s) {
    const PlanWork w = lm_work(gpt2, 16, 64);
    PlanLayout l = ranks(R, 1);
    PlanMemory m;
    l.shard = s;
    plan_memory(&w, &l, &m);
    return m.weights + m.gradients + m.moments;
}

static void test_state(void **state) {
    const double n = 124439808; /* no padding: all is a multiple of 16 */
    const double layer = 7087872, embedding = (50257 + 1024) * 768.0;
    for (int s = 0; s < PLAN_SHARDS; s++) assert_near(state_bytes(1, s), 16 * n, 1e-12);
    assert_near(state_bytes(4, SHARD_NONE), 16 * n, 1e-12);
    /* The first rank's share is whole blocks of every part (test_shard has them exactly). */
    assert_near(state_bytes(4, SHARD_OPTIMIZER), 8 * n + 8 * n / 4, 0.002);
    assert_near(state_bytes(4, SHARD_GRADIENTS),
                4 * n + 8 * n / 4 + 4 * ((n - embedding) / 4 + embedding + 2 * layer), 0.002);
    for (int64_t R = 2; R <= 1024;
         R *= 2) { /* never more with more ranks, nor with more sharding */
        for (int s = 0; s < PLAN_SHARDS; s++)
            assert_true(state_bytes(R, s) <= state_bytes(R / 2, s));
        assert_true(state_bytes(R, SHARD_OPTIMIZER) < state_bytes(R, SHARD_NONE));
        assert_true(state_bytes(R, SHARD_GRADIENTS) <= state_bytes(R, SHARD_OPTIMIZER));
    }
}

/* The arena's high-water mark of a real step of `sequences` of T tokens, of which the loss reads
 * the last `read`. */
static double arena_of(const GptConfig *g, int sequences, int64_t T, int64_t read, bool recompute,
                       bool dropout) {
    Gpt *gpt;
    Arena arena = {0};
    Batch p = {0};
    int32_t tokens[512] = {0};
    int64_t at[4096];
    GptRows rows = {0, at};
    assert_int_equal(gpt_open(&gpt, g, true), 0);
    gpt_init(gpt, 1, INIT_GPT2);
    gpt->recompute = recompute;
    for (int s = 0; s < sequences; s++) batch_add_window(&p, tokens, T, 1e-3f, (uint64_t)s);
    float weight[4096];
    for (int64_t i = 0; i < p.n; i++) {
        weight[i] = i % T >= T - read ? p.weight[i] : 0;
        if (weight[i] != 0) at[rows.m++] = i;
    }
    Batch b = p;
    b.weight = weight;
    Tape *tape = tape_open(&arena, true);
    const GptDropout drop = {.p = 0.1, .seed = 1, .row = p.row};
    if (g->scalar_head)
        gpt_values(gpt, tape, &b, &rows)->grad[0] = 1;
    else
        gpt_loss(gpt, tape, &b, dropout ? &drop : NULL, NULL);
    tape_backward(tape);
    const double high = (double)arena.high;
    tape_close(&tape);
    arena_free(&arena);
    batch_free(&p);
    gpt_close(&gpt);
    return high;
}

static void test_activations(void **state) {
    const GptConfig middle = {.vocab = 700,
                              .context = 256,
                              .layers = 3,
                              .heads = 4,
                              .width = 192,
                              .bias = true,
                              .norm_eps = 1e-5};
    static const struct {
        int64_t layers, vocab, read;
        int sequences;
        bool head, recompute, dropout;
    } cases[] = {{3, 700, 256, 8, 0, 0, 0},  {1, 700, 256, 8, 0, 0, 0}, {3, 700, 256, 8, 1, 0, 0},
                 {3, 9000, 256, 4, 0, 0, 0}, {3, 700, 256, 8, 0, 1, 0}, {3, 700, 256, 8, 0, 0, 1},
                 {4, 700, 256, 8, 0, 1, 1},  {1, 700, 256, 8, 0, 1, 0}, {2, 700, 250, 8, 0, 0, 0},
                 {3, 9000, 100, 4, 0, 0, 0}, {3, 700, 1, 8, 1, 0, 0},   {3, 700, 100, 8, 0, 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        GptConfig g = middle;
        g.layers = cases[i].layers, g.vocab = cases[i].vocab, g.scalar_head = cases[i].head;
        PlanWork w = lm_work(g, cases[i].sequences, 256);
        PlanLayout l = ranks(1, 1);
        PlanMemory m;
        l.threads = omp_get_max_threads();
        w.response = cases[i].read < 256 ? (double)cases[i].read : 0;
        w.recompute = cases[i].recompute;
        w.dropout = cases[i].dropout;
        plan_memory(&w, &l, &m);
        const double want = arena_of(&g, cases[i].sequences, 256, cases[i].read, cases[i].recompute,
                                     cases[i].dropout);
        assert_near(m.activations, want, 0.01);
    }
}

static void test_memory(void **state) {
    PlanMemory none, opt, grad, small;
    PlanWork w = lm_work(gpt2, 512, 1024);
    PlanLayout l = ranks(16, 4);
    plan_memory(&w, &l, &none);
    assert_near(none.total,
                none.weights + none.gradients + none.moments + none.frozen + none.activations +
                    none.save + none.exchange + none.program,
                1e-12);
    assert_near(none.exchange, (double)exchange_bytes((int)l.ranks), 1e-12);
    l.shard = SHARD_OPTIMIZER;
    plan_memory(&w, &l, &opt);
    l.shard = SHARD_GRADIENTS;
    plan_memory(&w, &l, &grad);
    assert_near(none.moments, 16 * opt.moments, 0.03); /* whole blocks */
    assert_true(grad.total < opt.total && opt.total < none.total);
    l.micro_tokens = 1024; /* an eighth of the tokens, and what the loss takes */
    plan_memory(&w, &l, &small);
    assert_true(small.activations < grad.activations / 3 && small.weights == grad.weights);
    /* Muon: one moment of the hidden matrices; its scratch lies where the activations do */
    w.muon = true;
    l = ranks(1, 1);
    l.micro_tokens = 16;
    plan_memory(&w, &l, &small);
    assert_near(small.moments, 4 * (2 * 124439808.0 - 12.0 * 12 * 768 * 768), 1e-12);
    assert_true(small.activations >= 4 * (12.0 + 4) * 768 * 768);
    /* PPO: reference, reward model and moving average beside policy and critic */
    w = ppo_work();
    l = ranks(1, 1);
    plan_memory(&w, &l, &none);
    assert_near(none.frozen + none.weights + none.gradients + none.moments,
                4.0 * (6 * 136960 + 5 * 137040), 1e-12); /* the head's bias is padded to 16 */
}

/* --- messages and time ------------------------------------------------------------------------ */

static void test_exchange(void **state) {
    PlanWork w = lm_work(gpt2, 512, 1024);
    PlanLayout l = ranks(4, 1);
    const double bytes = 4.0 * 124439808;
    assert_near(plan_exchange_bytes(&w, &l), 2 * bytes * 3 / 4, 1e-12);
    l.shard = SHARD_OPTIMIZER; /* gradients summed, weights gathered */
    assert_near(plan_exchange_bytes(&w, &l), 2 * bytes * 3 / 4, 1e-12);
    l.shard = SHARD_GRADIENTS; /* 128 windows in micro-batches of 8 */
    assert_near(plan_exchange_bytes(&w, &l), 17 * bytes * 3 / 4, 1e-12);
    l = ranks(1, 1);
    assert_true(plan_exchange_bytes(&w, &l) == 0);
    l = ranks(4, 1);
    w.muon = true; /* without sharding each orthogonalises all; else the updates are gathered */
    assert_near(plan_exchange_bytes(&w, &l), 2 * bytes * 3 / 4, 1e-12);
    l.shard = SHARD_OPTIMIZER;
    assert_near(plan_exchange_bytes(&w, &l), (2 * bytes + 4.0 * 12 * 12 * 768 * 768) * 3 / 4,
                1e-12);
    l = ranks(1, 1);
    w = ppo_work(); /* 8 updates of both models */
    l = ranks(2, 1);
    assert_near(plan_exchange_bytes(&w, &l), 8 * 2 * 4.0 * 273985 / 2, 1e-12);
    l = ranks(2, 2); /* through the node's memory */
    assert_true(plan_exchange_bytes(&w, &l) == 0);
    l = ranks(8, 4); /* four share what their node sends */
    assert_near(plan_exchange_bytes(&w, &l), 8 * 2 * 4.0 * 273985 / 2 / 4, 1e-12);
}

static void test_sum(void **state) {
    /* 2 nodes, one rank each: half of 40 MB twice at 10 GB/s, 20 rounds of a message each way */
    PlanLayout l = ranks(2, 1);
    assert_near(plan_sum_seconds(40e6, &l, &net), 2 * (20e6 / 10e9 + 20 * 2e-6), 1e-12);
    l = ranks(2, 2); /* both on one node lay 40 MB into its memory and take them, at 5 GB/s */
    assert_near(plan_sum_seconds(40e6, &l, &net), 2 * (80e6 / 5e9 + 20 * 1e-6), 1e-12);
    l = ranks(4, 2); /* the same on two nodes, and each sends half to the other */
    assert_near(plan_sum_seconds(40e6, &l, &net), 2 * (80e6 / 5e9 + 20 * 3e-6 + 20e6 / 10e9),
                1e-12);
    l = ranks(3, 1); /* no groups: 86 rounds, two messages each */
    assert_near(plan_sum_seconds(180e6, &l, &net), 2 * (2 * 60e6 / 10e9 + 86 * 2 * 2e-6), 1e-12);
    l = ranks(6, 6); /* three groups of two on a node: each lays a third in for the two others */
    assert_near(plan_sum_seconds(30e6, &l, &net), 2 * (180e6 / 5e9 + 6 * 10e6 / 5e9 + 15 * 3e-6),
                1e-12);
    l = ranks(1, 1);
    assert_true(plan_sum_seconds(40e6, &l, &net) == 0);
}

static void test_time(void **state) {
    /* By hand: 16 windows of 64 tokens, all in one micro-batch. */
    PlanWork w = lm_work(tiny, 16, 64);
    PlanLayout l = ranks(1, 1);
    PlanTime t;
    plan_time(&w, &l, &rates, &net, &t);
    const double bytes = 4.0 * 136960;
    assert_near(t.compute, 1024.0 * 835584 / 100e9 + bytes / 20e9, 1e-12);
    assert_near(t.update, 9 * bytes / 30e9, 1e-12);
    assert_near(t.step, t.compute + t.update, 1e-12);
    /* Two ranks: half of the work, the sum; with the moments sharded half of the update. */
    PlanTime two, sharded, hidden;
    l = ranks(2, 1);
    plan_time(&w, &l, &rates, &net, &two);
    assert_near(two.compute, 512.0 * 835584 / 100e9 + bytes / 20e9, 1e-12);
    assert_near(two.exposed, 2 * (bytes / 2 / 10e9 + 2e-6), 1e-12);
    l.shard = SHARD_OPTIMIZER;
    plan_time(&w, &l, &rates, &net, &sharded);
    assert_near(sharded.update, t.update * 5 / 9, 1e-12); /* the gradient is cleared as a whole */
    /* Parts of 37,440 (embeddings), twice 49,984 and 128 elements: whole blocks of 16,384, of which
     * one of two ranks has 2 of 3 (32,768) and 2 of 4 (32,768 of 49,984). */
    assert_near(sharded.exposed, 2 * ((32768 + 32768 * 2 + 128) * 4 / 10e9 + 2e-6), 0.02);
    PlanNet slow = net; /* two ranks share the 10 GB/s of their node's memory */
    slow.memory = 10e9;
    PlanLayout both = ranks(2, 2);
    plan_time(&w, &both, &rates, &slow, &hidden);
    assert_near(hidden.update, 9 * bytes / 5e9, 1e-12);
    PlanNet overlapping = net;
    overlapping.overlap = 1;
    plan_time(&w, &l, &rates, &overlapping, &hidden);
    assert_true(hidden.exposed < sharded.exposed);
    assert_near(hidden.exchange, sharded.exchange, 1e-12);
    /* 16 windows on 3 ranks: one has 6 */
    l = ranks(3, 1);
    plan_time(&w, &l, &rates, &net, &t);
    assert_near(t.compute, 384.0 * 835584 / 100e9 + bytes / 20e9, 1e-12);
    /* 64 windows in four virtual ranks on one rank: four micro-batches, three times joined; on two
     * ranks two of them and one. */
    w.virtual_ranks = 4;
    w.items = 64;
    l = ranks(1, 1);
    plan_time(&w, &l, &rates, &net, &t);
    assert_near(t.compute, 64.0 * 64 * 835584 / 100e9 + 4 * bytes / 20e9, 1e-12);
    assert_near(t.update, (9 + 3 * 4) * bytes / 30e9, 1e-12);
    l = ranks(2, 1);
    plan_time(&w, &l, &rates, &net, &t);
    assert_near(t.compute, 64.0 * 32 * 835584 / 100e9 + 2 * bytes / 20e9, 1e-12);
    w.virtual_ranks = 0;
    w.items = 16;
    l = ranks(1, 1); /* two threads at rates of one */
    l.threads = 2;
    PlanTime faster;
    plan_time(&w, &l, &rates, &net, &faster);
    assert_near(2 * faster.step, 1024.0 * 835584 / 100e9 + bytes / 20e9 + 9 * bytes / 30e9, 1e-12);
}

static void test_ppo_time(void **state) {
    PlanWork w = ppo_work();
    PlanLayout l = ranks(1, 1);
    PlanTime t, ragged, four;
    double part[3];
    plan_time(&w, &l, &rates, &net, &t);
    plan_flops(&w, part);
    /* 16 slots for 64 episodes of 16 tokens: 64 passes */
    const double weights = 4.0 * (98304 + 32768);
    assert_near(t.rollout, 2 * weights / 30e9 + 64 * weights / 25e9 + part[0] / 200e9, 1e-12);
    assert_near(t.scoring, part[1] / 110e9, 1e-12);
    assert_near(t.compute, part[2] / 100e9 + 8 * 4.0 * 273985 / 20e9,
                1e-12); /* 2 x 1 micro-batch */
    w.response = 8, w.length = 32;
    plan_time(&w, &l, &rates, &net, &ragged);
    assert_true(ragged.rollout < t.rollout && ragged.rollout > t.rollout / 2);
    /* A pass reads the weights whatever the number of sequences: sampling scales worse. */
    w = ppo_work();
    w.items = 16;
    plan_time(&w, &l, &rates, &net, &t);
    l = ranks(4, 4);
    plan_time(&w, &l, &rates, &net, &four);
    assert_true(four.rollout > t.rollout / 4 && four.rollout < t.rollout);
}

static void test_scaling(void **state) {
    PlanWork w = lm_work(gpt2, 1024, 1024);
    double before = HUGE_VAL, efficiency = 1.01;
    const PlanLayout one = ranks(1, 1);
    PlanTime alone, t;
    plan_time(&w, &one, &rates, &net, &alone);
    for (int64_t R = 1; R <= 1024; R *= 2) { /* faster with every doubling, at falling efficiency */
        const PlanLayout l = ranks(R, 1);
        plan_time(&w, &l, &rates, &net, &t);
        const double e = alone.step / (t.step * (double)R);
        assert_true(t.step < before && e < efficiency);
        before = t.step, efficiency = e;
    }
    const PlanLayout too_many = ranks(2048, 1); /* no rank has less than a window */
    plan_time(&w, &too_many, &rates, &net, &t);
    assert_true(t.step >= before);
}

int main(void) {
    core_init();
    kernel_level = kernel_supported(); /* OpenBLAS has memory of its own */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameters), cmocka_unit_test(test_flops),
        cmocka_unit_test(test_state),      cmocka_unit_test(test_activations),
        cmocka_unit_test(test_memory),     cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_sum),        cmocka_unit_test(test_time),
        cmocka_unit_test(test_ppo_time),   cmocka_unit_test(test_scaling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
