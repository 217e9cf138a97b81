/* A step by made-up items of two kinds: what a pass gets, the same bits whatever the micro-batches,
 * models that learn together. */
/* ranks: 1 2 3 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/base/scratch.h"
#include "tests/data/tokens.h"
#include "tests/train/lab.h"
#include "train/step.h"

typedef struct Kind {
    int k, passes, sequences;
    int64_t next, most; /* the item that is due (-1: not asked for); tokens of the largest pass */
} Kind;

static int64_t tokens(void *ctx, int64_t i) { return 3 + (i * 7 + ((const Kind *)ctx)->k) % 6; }

static int add(void *ctx, int64_t i, Batch *b) {
    const int k = ((const Kind *)ctx)->k;
    int32_t token[10];
    for (int j = 0; j < 10; j++) token[j] = (int32_t)(i * 31 + k * 7 + j * j) % 40;
    batch_add(b, token, tokens(ctx, i), NULL, 0.02f, (uint64_t)(2 * i + k));
    return 0;
}

static void loss(const Step *s, void *ctx, const Batch *b, int64_t begin, int64_t end,
                 double *sum) {
    Kind *k = ctx;
    k->passes++;
    k->sequences += (int)b->nseq;
    if (b->n > k->most) k->most = b->n;
    if (b->nseq > 1) assert_true(b->n <= s->micro_tokens);
    step_lm(s, ctx, b, begin, end, sum);
}

static void loss_first(const Step *s, void *ctx, const Batch *b, int64_t begin, int64_t end,
                       double *sum) {
    Kind *k = ctx;
    if (k->next >= 0) assert_int_equal(begin, k->next);
    assert_int_equal(end - begin, b->nseq);
    k->next = end;
    loss(s, ctx, b, begin, end, sum);
}

static void loss_second(const Step *s, void *ctx, const Batch *b, int64_t begin, int64_t end,
                        double *sum) {
    loss_first(s, ctx, b, begin, end, sum);
}

typedef struct Bench {
    Run run;
    Gpt *g;
    Trainer t;
} Bench;

static void bench_open(Bench *b, uint64_t seed, const char *const *settings) {
    lab_run(&b->run, STAGE_SFT, NULL, settings);
    b->g = lab_model(false, seed);
    trainer_open(&b->t, b->g, &b->run, "");
}

static void bench_close(Bench *b) {
    trainer_close(&b->t);
    gpt_close(&b->g);
    lab_end(&b->run);
}

enum { FIRST = 11, SECOND = 5 };

/* Two steps; *sum of the last. Returns the weights, [*bytes]. */
static real *steps(Kind kind[2], bool joined, int64_t micro, const char *setting, double *sum,
                   size_t *bytes) {
    Bench b;
    bench_open(&b, 3, (const char *const[]){"dist.virtual_ranks=4", setting, NULL});
    for (int n = 0; n < 2; n++) {
        Step s = {.trainer = &b.t,
                  .micro_tokens = micro,
                  .lr = 1e-2,
                  .dropout = 0.3,
                  .seed = 6,
                  .number = n,
                  .nsum = 1,
                  .sum = sum,
                  .what = "a batch"};
        for (int k = 0; k < 2; k++) {
            kind[k] = (Kind){.k = k, .next = -1};
            s.items[k] = (StepItems){{&kind[k], tokens, add},
                                     k ? SECOND : FIRST,
                                     joined ? loss
                                     : k    ? loss_second
                                            : loss_first};
        }
        OK(step_run(&s, 1));
        assert_true(s.norm > 0 && isfinite(s.norm) && *sum == b.t.loss);
    }
    *bytes = (size_t)b.g->params.size * sizeof(real);
    real *w = memcpy(xmalloc(*bytes), b.g->params.data, *bytes);
    bench_close(&b);
    return w;
}

static void test_micro_batches(void **state) {
    static const int64_t micro[] = {1 << 20, 40, 12, 1};
    size_t bytes;
    double want = 0;
    real *first = NULL;
    VirtualRanks v;
    int64_t begin[2], end[2];
    virtual_open(&v, 4, comm);
    virtual_share_all(&v, FIRST, &begin[0], &end[0]);
    virtual_share_all(&v, SECOND, &begin[1], &end[1]);
    for (int joined = 1; joined >= 0; joined--)
        for (int m = 0; m < 4; m++)
            for (int shard = 0; shard < 2; shard++) {
                Kind kind[2];
                double sum;
                real *w = steps(kind, joined, micro[m],
                                shard ? "dist.shard=optimizer" : "dist.shard=none", &sum, &bytes);
                if (!first) {
                    first = memcpy(xmalloc(bytes), w, bytes);
                    want = sum;
                }
                assert_memory_equal(first, w, bytes);
                assert_true(sum == want);
                const int64_t all = end[0] - begin[0] + end[1] - begin[1];
                assert_int_equal(kind[0].sequences + kind[1].sequences, all);
                const int passes = kind[0].passes + kind[1].passes;
                /* of a virtual rank one; or of its kinds (all have some) one each; or of an item */
                if (m == 0) assert_int_equal(passes, (v.end - v.begin) * (joined ? 1 : 2));
                if (m == 3) assert_int_equal(passes, all);
                for (int k = 0; !joined && k < 2; k++) assert_int_equal(kind[k].next, end[k]);
                free(w);
            }
    free(first);
    virtual_close(&v);
}

/* Ranks with more and with fewer passes than others do not wait for each other in them. */
static void test_two_models(void **state) {
    static const char *const shard[] = {"dist.shard=none", "dist.shard=optimizer",
                                        "dist.shard=gradients"};
    for (int k = 0; k < 3; k++) {
        Bench b[2];
        Kind kind[2] = {{.k = 0}, {.k = 1}};
        Step s[2];
        double sum[2];
        for (int i = 0; i < 2; i++)
            bench_open(&b[i], 3 + (uint64_t)i,
                       (const char *const[]){shard[k], "dist.reproducible=false", NULL});
        for (int n = 1; n < 6; n++) { /* one: most ranks have nothing */
            for (int i = 0; i < 2; i++) {
                s[i] = (Step){.trainer = &b[i].t,
                              .micro_tokens = 1,
                              .lr = 1e-3,
                              .nsum = 1,
                              .sum = &sum[i],
                              .no_loss = i == 1,
                              .what = "a batch"};
                s[i].items[0] = (StepItems){{&kind[i], tokens, add}, n + i, loss};
            }
            OK(step_run(s, 2));
            for (int i = 0; i < 2; i++) assert_true(s[i].norm > 0 && sum[i] > 0);
            assert_true(b[0].t.loss == sum[0] && b[1].t.loss == 0);
        }
        for (int i = 0; i < 2; i++) bench_close(&b[i]);
    }
}

int main(int argc, char **argv) {
    OK(comm_open(&comm, &argc, &argv));
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_micro_batches),
        cmocka_unit_test(test_two_models),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(&comm);
    return failed;
}
