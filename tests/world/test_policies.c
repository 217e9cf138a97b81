/* test_policies.c: what answers without understanding may score, on prompts of evaluation. */
#include "base/error.h"
#include "base/json.h"
#include "data/world/policy.h"
#include "data/world/synth.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/base/scratch.h"

/* No constant, copying or claiming policy may reach this. The demo's SFT models score more: see
 * the table of docs/DEMO.md, and `make demo` compares with the best policy that reads no facts. */
#define LEVEL 0.0

enum { N = 600 };
static Gold gold[N];
static const char *prompt[N];
static json_t *records;

static double mean(int policy) {
    static char *answer[N];
    double sum = 0;
    policy_answer(policy, gold, prompt, N, 1, answer);
    for (int i = 0; i < N; i++) {
        sum += gold_score(&gold[i], answer[i], NULL);
        free(answer[i]);
    }
    return sum / N;
}

static int read_prompts(void **state) {
    SynthOptions o = synth_defaults();
    o.documents = o.documents_heldout = o.sft = o.sft_heldout = o.compare = o.compare_heldout = 0;
    o.ppo = 0, o.eval = N;
    if (scratch_make(state)) return -1;
    assert_int_equal(synth_write(scratch_folder, &o), 0);
    char *path = scratch("eval_prompts.jsonl");
    JsonRecords *file;
    json_t *record;
    int n = 0;
    records = json_array();
    assert_int_equal(json_records_open(&file, path), 0);
    while (json_records_next(file, &record) == 1) {
        assert_int_equal(gold_read(&gold[n], json_object_get(record, "gold"), path), 0);
        prompt[n++] = policy_prompt(record);
        assert_non_null(prompt[n - 1]);
        json_array_append_new(records, record);
    }
    json_records_close(&file);
    free(path);
    assert_int_equal(n, N);
    return 0;
}

static int forget_prompts(void **state) {
    json_decref(records);
    return scratch_remove(state);
}

static void test_levels(void **state) {
    int of_kind[POLICY_CHOICE + 1] = {0};
    for (int p = 0; p < policy_count(); p++) {
        const double score = mean(p);
        of_kind[policy_kind(p)]++;
        const double most = policy_kind(p) == POLICY_SPOILT ? 1.75 : LEVEL;
        if (policy_kind(p) != POLICY_CHOICE && score > most)
            fail_msg("\"%s\" scores %.3f, more than %g", policy_name(p), score, most);
        assert_int_equal(policy_find(policy_name(p)), p);
    }
    for (int k = 0; k <= POLICY_CHOICE; k++) assert_true(of_kind[k] > 1);
    assert_int_equal(policy_find("wisdom"), -1);
}

/* Denied, doubted and halved ideals are no better than silence or little. */
static void test_denied(void **state) {
    static const char *const names[] = {"it is false that (ideal)", "nobody says that (ideal)",
                                        "maybe (ideal)", "half of the ideal"};
    for (int i = 0; i < 4; i++) assert_true(mean(policy_find(names[i])) < -0.5);
}

static void test_choices(void **state) {
    const double constants = mean(policy_find("best constant of each family")),
                 blind = mean(policy_find("best that reads no facts"));
    assert_true(constants < LEVEL);
    assert_true(blind <= 2 - 0.5); /* the ideal scores 2 */
    assert_true(blind > constants);
    for (int p = 0; p < policy_count(); p++) /* it is the best of its kind */
        if (policy_kind(p) == POLICY_CONSTANT) assert_true(mean(p) <= constants + 1e-9);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_levels), cmocka_unit_test(test_denied),
                                       cmocka_unit_test(test_choices)};
    return cmocka_run_group_tests(tests, read_prompts, forget_prompts);
}
