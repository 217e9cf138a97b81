/* Copies that diverge are found before they are saved; the slowest rank is named. */
/* ranks: 1 2 3 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/base/scratch.h"
#include "tests/data/tokens.h"
#include "tests/train/lab.h"
#include "train/health.h"

static char dir[4096]; /* rank 0's scratch folder */

typedef struct Bench {
    Run run;
    Gpt *g;
    AdamW adam;
    int64_t count;
} Bench;

static void bench_open(Bench *b, const char *const *settings) {
    *b = (Bench){0};
    lab_run(&b->run, STAGE_SFT, dir, settings);
    b->g = lab_model(false, 4);
    adamw_init(&b->adam, &b->g->params, NULL, 0.9, 0.95, 1e-8, 0);
    run_keep_params(&b->run, "params", &b->g->params, b->g->params.data);
    run_keep_adamw(&b->run, "optimizer", &b->g->params, &b->adam);
    run_keep_i64(&b->run, "count", &b->count);
    Tokenizer *t = tokens_bytes();
    run_describe(&b->run, &b->g->cfg, t, TEMPLATE_PLAIN, "params");
    tokenizer_close(&t);
    b->run.steps = 9;
}

static void bench_close(Bench *b) {
    adamw_free(&b->adam);
    gpt_close(&b->g);
    lab_end(&b->run);
}

static void flip(void *at, int rank) {
    if (comm_rank(comm) == rank) *(unsigned char *)at ^= 1;
}

static void found(Bench *b, const char *what, int odd) {
    char text[64];
    if (comm_size(comm) == 1) {
        OK(health_compare(&b->run));
        return;
    }
    snprintf(text, sizeof text, "%s of rank %d (", what, odd);
    FAILS(health_compare(&b->run), ERR_INTERNAL, "diverged", text);
}

/* One bit of one rank: of two ranks the first counts as right, of three the majority. */
static void test_drift(void **state) {
    Bench b;
    bench_open(&b, NULL);
    const int size = comm_size(comm), last = size - 1;
    OK(health_compare(&b.run));
    const Param *p = &b.g->params.v[3];
    void *const at[] = {b.g->params.data + p->offset, b.adam.m + p->offset + 5,
                        b.adam.v + p->offset + 7, &b.count};
    static const char *const group[] = {"params/", "optimizer/m/", "optimizer/v/", NULL};
    for (int i = 0; i < 4; i++) {
        char what[PARAM_NAME_MAX + 32];
        snprintf(what, sizeof what, "%s%s", group[i] ? group[i] : "a counter",
                 group[i] ? p->name : "");
        flip(at[i], last);
        found(&b, what, last);
        flip(at[i], last);
        OK(health_compare(&b.run));
        if (size < 3) continue;
        flip(at[i], 0);
        found(&b, what, 0);
        flip(at[i], 0);
    }
    bench_close(&b);
}

/* Slices of a sharded optimizer are no copies. */
static void test_parts(void **state) {
    Bench b;
    bench_open(&b, NULL);
    for (int i = 0; i < b.run.priv->narray; i++) {
        CkptArray *a = &b.run.priv->array[i];
        if (strncmp(a->name, "optimizer/", 10) == 0) a->end = 1;
    }
    flip(b.adam.m, comm_size(comm) - 1);
    OK(health_compare(&b.run));
    bench_close(&b);
}

/* Compared every dist.check_every steps and before each save, never with 0. */
static void test_when(void **state) {
    static const struct {
        const char *every, *save;
        int found; /* after this step; 0: never */
    } cases[] = {{"dist.check_every=3", "save.every=0", 3},
                 {"dist.check_every=100", "save.every=4", 4},
                 {"dist.check_every=0", "save.every=4", 0}};
    for (int k = 0; k < 3; k++) {
        Bench b;
        bench_open(&b, (const char *const[]){cases[k].every, cases[k].save, NULL});
        flip(b.g->params.data, comm_size(comm) - 1);
        b.run.priv->last_save = b.run.priv->step_began = clock_seconds();
        for (int step = 1; step <= 5; step++) {
            int rc = run_step_end(&b.run, 1);
            if (comm_size(comm) > 1 && step == cases[k].found) {
                assert_int_equal(rc, ERR_INTERNAL);
                assert_int_equal(b.run.priv->saved_step, -1);
                break;
            }
            OK(rc);
        }
        bench_close(&b);
    }
}

static void test_slowest(void **state) {
    const int size = comm_size(comm), rank = comm_rank(comm);
    for (int slow = 0; slow < size; slow++) {
        /* the slow one computes 4 s and waits 1 s, the others the other way round */
        const StepHealth h = health_step(comm, 5, rank == slow ? 1 : 4);
        assert_int_equal(h.slowest, slow);
        assert_true(fabs(h.exchange_s - (1 + 4.0 * (size - 1)) / size) < 1e-12);
        assert_true(h.exchange_max_s == (size > 1 ? 4 : 1));
        assert_true(fabs(h.wait_share - h.exchange_s / 5) < 1e-12);
    }
}

int main(int argc, char **argv) {
    OK(comm_open(&comm, &argc, &argv));
    core_init();
    if (comm_rank(comm) == 0) {
        if (scratch_make(NULL) < 0) return 1;
        snprintf(dir, sizeof dir, "%s", scratch_folder);
    }
    comm_bcast(comm, dir, sizeof dir, 0);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_drift), cmocka_unit_test(test_parts),
                                       cmocka_unit_test(test_when), cmocka_unit_test(test_slowest)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (comm_rank(comm) == 0) scratch_remove(NULL);
    comm_close(&comm);
    return failed;
}
