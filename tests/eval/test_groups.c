/* test_groups.c: prompts by what they ask; standard errors that are clustered by prompt. */
#include "eval/groups.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void is_near(double a, double b) { assert_true(fabs(a - b) < 1e-12); }

static void test_groups(void **unused) {
    Gold gold[4] = {{.family = "qa", .act = ACT_ANSWER, .reads = true},
                    {.family = "qa", .act = ACT_UNKNOWN, .reads = true, .held = "wording"},
                    {.family = "sum", .act = ACT_ANSWER},
                    {.family = "list", .act = ACT_ANSWER, .reads = true}};
    static const struct {
        const char *name;
        int64_t n, first;
    } want[] = {{"all", 4, 0},          {"answerable", 2, 0},  {"family/list", 1, 3},
                {"family/qa", 2, 0},    {"family/sum", 1, 2},  {"held/none", 3, 0},
                {"held/wording", 1, 1}, {"unanswerable", 1, 1}};
    Groups g;
    groups_make(&g, gold, 4);
    assert_int_equal(g.n, 8);
    for (int i = 0; i < 8; i++) {
        assert_string_equal(g.v[i].name, want[i].name);
        assert_int_equal(g.v[i].n, want[i].n);
        assert_int_equal(g.v[i].index[0], want[i].first);
    }
    const double x[] = {1, 2, 4, 5};
    double se;
    is_near(groups_mean(groups_find(&g, "answerable"), x, 4, NULL, &se), 3);
    is_near(se, 2); /* sqrt(((1-3)^2 + (5-3)^2) 2/1) / 2 */
    assert_null(groups_find(&g, "family/cat"));
    groups_free(&g);
    groups_make(&g, NULL, 3);
    assert_int_equal(g.n, 1);
    groups_free(&g);
}

static void test_clusters(void **unused) {
    char *prompt[] = {"a", "b", "a", "c", "b", "a"};
    const int64_t want[] = {0, 1, 0, 3, 1, 0};
    int64_t *cluster = groups_clusters(prompt, 6);
    assert_memory_equal(cluster, want, sizeof want);
    /* sums of deviations from the mean 3: a -3, b 2, c 1 -> sqrt((9 + 4 + 1) 3/2) / 6 */
    const double x[] = {1, 3, 2, 4, 5, 3};
    double se, alone;
    is_near(groups_mean(NULL, x, 6, cluster, &se), 3);
    is_near(se, sqrt(21) / 6);
    groups_mean(NULL, x, 6, NULL, &alone);
    is_near(alone, sqrt((4.0 + 0 + 1 + 1 + 4 + 0) * 6 / 5) / 6);
    /* the same prompt twice is no new evidence */
    const double twice[] = {1, 1, 2, 2, 6, 6}, once[] = {1, 2, 6};
    const int64_t pairs[] = {0, 0, 2, 2, 4, 4};
    groups_mean(NULL, twice, 6, pairs, &se);
    groups_mean(NULL, once, 3, NULL, &alone);
    is_near(se, alone);
    groups_mean(NULL, twice, 6, NULL, &alone);
    assert_true(alone < se);
    free(cluster);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_groups),
                                       cmocka_unit_test(test_clusters)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
