/* test_criterion.c: criteria over records whose values are known, how many records a term may have,
 * and Holm over panels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "core/kernel.h"
#include "lab/panel.h"

#include <math.h>
#include <string.h>

/* Four seeds; a curve of five points that rises and falls, and one number a model. */
static json_t *records(void) {
    json_t *list = json_array();
    const double curve[] = {0, 2, 3, 2.5, 1};
    for (int seed = 1; seed <= 4; seed++) {
        for (int k = 0; k < 5; k++)
            json_array_append_new(list, json_pack("{s:s, s:i, s:f, s:f, s:s}", "measure", "run",
                                                  "seed", seed, "kl", (double)(k * k), "gold",
                                                  curve[k] + 0.01 * seed, "rm", "small"));
        json_array_append_new(list,
                              json_pack("{s:s, s:i, s:s, s:f, s:b}", "measure", "table", "seed",
                                        seed, "model", "sft", "gold", 1.0 + 0.1 * seed, "good", 1));
        json_array_append_new(
            list, json_pack("{s:s, s:i, s:s, s:f, s:b}", "measure", "table", "seed", seed, "model",
                            "ppo", "gold", 2.0 + 0.1 * seed + 0.02 * (seed % 2), "good", seed > 1));
    }
    return list;
}

static Finding judge(const char *text) {
    Criterion *c;
    Finding f;
    json_t *r = records();
    if (criterion_parse(&c, text) < 0) fail_msg("%s", error_message());
    criterion_judge(c, r, "seed", &f);
    criterion_free(&c);
    json_decref(r);
    return f;
}

/* The verdict, and the estimate. */
static void expect(const char *text, StatsVerdict verdict, double mean) {
    Finding f = judge(text);
    if (f.verdict != verdict || *f.problem)
        fail_msg("%s: %s %s", text, stats_word(f.verdict), f.problem);
    if (!(fabs(f.i.mean - mean) < 1e-9))
        fail_msg("%s: %.12g, expected %.12g", text, f.i.mean, mean);
    criterion_free_finding(&f);
}

static void expect_problem(const char *text, const char *part) {
    Finding f = judge(text);
    if (f.verdict != STATS_UNDECIDED || !isnan(f.p) || !strstr(f.problem, part))
        fail_msg("%s: %s, \"%s\"", text, stats_word(f.verdict), f.problem);
    criterion_free_finding(&f);
}

static void test_terms(void **state) {
    expect("table.gold[model=ppo] > table.gold[model=sft]", STATS_HOLDS, 1.01);
    expect("table.gold[model=ppo] < table.gold[model=sft]", STATS_FAILS, 1.01);
    expect("table.gold[model=sft] > 1.3", STATS_UNDECIDED, 1.25);
    expect("2 * (table.gold[model=ppo] - table.gold[model=sft]) / 4 + -0.5 > -0.1", STATS_HOLDS,
           0.005);
    expect("mean(run.gold) > 1", STATS_HOLDS, 8.5 / 5 + 0.025);
    expect("max(run.gold) - last(run.gold) > 1.9", STATS_HOLDS, 2);
    expect("argmax(run.gold, sqrt(run.kl)) = 2 +- 0.5", STATS_HOLDS, 0);
    expect("at(run.gold, run.kl, 2.5) > 2.5", STATS_HOLDS, 2.525);
    expect("slope(run.kl[kl<2], sqrt(run.kl[kl<2])) = 1 +- 0.01", STATS_HOLDS, 0);
    expect("spearman(run.gold[kl<5], run.kl[kl<5]) = 1 +- 0.01", STATS_HOLDS, 0);
    expect("count(run.gold[rm=small, kl>0]) = 4 +- 1", STATS_HOLDS, 0);
    expect("count(run.gold[kl!=4]) = 4 +- 1", STATS_HOLDS, 0);
    expect("table.gold[model=ppo] = table.gold[model=sft] +- 0.5", STATS_FAILS, 1.01);
    expect("table.gold[model=sft] = 1.2 +- 0.2", STATS_UNDECIDED, 0.05);
    Finding gain = judge("gain_rl(run.gold, sqrt(run.kl)) > 2");
    assert_int_equal(gain.verdict, STATS_HOLDS);
    criterion_free_finding(&gain);
}

static void test_seeds(void **state) {
    expect("every table.gold[model=sft] > 1.1", STATS_HOLDS, 0.15 + 1.1);
    expect("every table.gold[model=sft] > 1.11", STATS_FAILS, 1.25);
    expect("every table.gold[model=ppo] > table.gold[model=sft]", STATS_HOLDS, 1.01);
    expect("seeds_mean(table.gold[model=sft]) > 0.9", STATS_HOLDS, 0.35);
    expect("seeds_sd(table.gold[model=sft]) < 0.3", STATS_HOLDS,
           stats_sd((double[]){1.1, 1.2, 1.3, 1.4}, 4) - 0.3);
    expect("seeds_sd(table.gold[model=sft]) < seeds_mean(table.gold[model=ppo] - "
           "table.gold[model=sft]) / 3",
           STATS_HOLDS, stats_sd((double[]){1.1, 1.2, 1.3, 1.4}, 4) - 1.01 / 3);
    /* none of four: the share may well be 0.6 */
    expect("seeds_share(table.gold[model=ppo] < 1) < 0.7", STATS_HOLDS, 0);
    expect("seeds_share(table.gold[model=ppo] < 1) < 0.5", STATS_UNDECIDED, 0);
    expect("seeds_share(table.good[model=ppo] > 0) < 0.99", STATS_UNDECIDED, 0.75);
}

static void test_problems(void **state) {
    expect_problem("table.gold > 0", "2 records where one number is expected");
    expect_problem("table.gold[model=dpo] > 0", "no record for table.gold in unit 1");
    expect_problem("table.gold[model=ppo] > tabel.gold", "no record for tabel.gold");
    expect_problem("table.none[model=ppo] > 0", "no number \"none\"");
    expect_problem("gold > 0", "expected MEASURE.FIELD");
    expect_problem("log(0 - table.gold[model=ppo]) > 0", "it is no number");
    expect_problem("at(run.gold, run.kl, 100) > 0", "it is no number");
    expect_problem("table.gold[model=ppo] > seeds_mean(table.gold[model=sft])",
                   "outside of seeds_mean");
    expect_problem("slope(run.gold, run.kl[kl<3]) > 0", "5 values and 2 values");
    Criterion *c;
    const char *wrong[] = {"",
                           "a.b",
                           "a.b >",
                           "a.b > 0 0",
                           "(a.b > 0",
                           "a.b[ > 0",
                           "a.b[x] > 0",
                           "f(a.b) > 0",
                           "slope(a.b) > 0",
                           "mean(a.b, a.b) > 0",
                           "a.b = 1",
                           "every a.b = 1 +- 2",
                           "a.b + > 0",
                           "[x=1] > 0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (criterion_parse(&c, wrong[i]) != ERR_CONFIG) fail_msg("\"%s\" is taken", wrong[i]);
}

static void test_panels(void **state) {
    const char *sure[] = {"every table.gold[model=sft] > 1"},
               *good[] = {"table.gold[model=ppo] > table.gold[model=sft]",
                          "every table.gold[model=sft] > 1"},
               *weak[] = {"table.gold[model=sft] > 1.04"},
               *bad[] = {good[0], "table.gold[model=sft] < 0"};
    const LabPanel panel[] = {{.name = "sure", .unit = "seed", .holds = {sure, 1}},
                              {.name = "good", .unit = "seed", .holds = {good, 2}},
                              {.name = "weak", .unit = "seed", .holds = {weak, 1}},
                              {.name = "bad", .unit = "seed", .holds = {bad, 2}}};
    PanelResult r[4];
    const LabFile lab = {.path = "x"};
    json_t *list = records();
    for (int i = 0; i < 4; i++) assert_int_equal(panel_judge(&r[i], &lab, &panel[i], list), 0);
    assert_int_equal(r[2].finding[0].verdict,
                     STATS_HOLDS); /* alone it does: p is below 0.025 ... */
    panel_decide(r, 4);
    assert_int_equal(r[0].verdict, STATS_HOLDS);
    assert_true(isnan(r[0].p));
    assert_int_equal(r[1].verdict, STATS_HOLDS);
    assert_true(r[2].p < 0.025 && fabs(r[2].holm - 2 * r[2].p) < 1e-12);
    assert_int_equal(r[2].verdict, STATS_UNDECIDED); /* ... but not as one of three */
    assert_int_equal(r[3].verdict, STATS_FAILS);
    for (int i = 0; i < 4; i++) panel_free(&r[i]);
    json_decref(list);
}

static int start(void **state) {
    core_init();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_terms), cmocka_unit_test(test_seeds),
                                       cmocka_unit_test(test_problems),
                                       cmocka_unit_test(test_panels)};
    return cmocka_run_group_tests(tests, start, NULL);
}
