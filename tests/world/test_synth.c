/* test_synth.c: the files of the embedded world: complete, disjoint, reproducible, and such that
 * the gold reward tells good demonstrations from bad ones. */
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "data/world/synth.h"
#include "data/world/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/base/scratch.h"

static const char *const files[] = {
    "sft.jsonl",         "sft_heldout.jsonl",  "compare_prompts.jsonl", "compare_heldout.jsonl",
    "ppo_prompts.jsonl", "eval_prompts.jsonl", "documents.jsonl",       "documents_heldout.jsonl"};
enum { PROMPT_FILES = 6, FILES = 8 };

static SynthOptions small(void) {
    SynthOptions o = synth_defaults();
    o.documents = 60, o.documents_heldout = 20, o.sft = 300, o.sft_heldout = 40;
    o.compare = 80, o.compare_heldout = 40, o.ppo = 200, o.eval = 60;
    return o;
}

static uint64_t hash_of(int i) {
    char *path = scratch(files[i]);
    uint64_t h = 0;
    assert_int_equal(file_hash(path, &h), 0);
    free(path);
    return h;
}

static void test_reproducible(void **state) {
    SynthOptions o = small();
    uint64_t first[FILES];
    assert_int_equal(synth_write(scratch_folder, &o), 0);
    for (int i = 0; i < FILES; i++) first[i] = hash_of(i);
    o.documents = o.ppo = 10; /* other files do not change with these */
    assert_int_equal(synth_write(scratch_folder, &o), 0);
    for (int i = 0; i < FILES; i++)
        assert_true((hash_of(i) == first[i]) ==
                    (strcmp(files[i], "documents.jsonl") && strcmp(files[i], "ppo_prompts.jsonl")));
    o = small();
    o.seed = 2;
    assert_int_equal(synth_write(scratch_folder, &o), 0);
    for (int i = 0; i < FILES; i++) assert_true(hash_of(i) != first[i]);
}

/* Every record is whole; no prompt is in two files. */
static void test_files(void **state) {
    SynthOptions o = small();
    const int64_t sizes[FILES] = {o.sft, o.sft_heldout, o.compare,   o.compare_heldout,
                                  o.ppo, o.eval,        o.documents, o.documents_heldout};
    assert_int_equal(synth_write(scratch_folder, &o), 0);
    json_t *seen = json_object();
    for (int i = 0; i < FILES; i++) {
        char *path = scratch(files[i]);
        JsonRecords *records = NULL;
        json_t *record;
        int64_t n = 0;
        assert_int_equal(json_records_open(&records, path), 0);
        while (json_records_next(records, &record) == 1) {
            n++;
            const char *text;
            assert_int_equal(json_get_str(record, i < PROMPT_FILES ? "prompt" : "text", &text), 0);
            assert_true(strlen(text) > 8 && strlen(text) < 700);
            json_t *home = json_object_get(seen, text);
            if (home) assert_int_equal(json_integer_value(home), i);
            json_object_set_new(seen, text, json_integer(i));
            if (i < PROMPT_FILES) {
                Gold g;
                assert_int_equal(gold_read(&g, json_object_get(record, "gold"), path), 0);
            }
            const char *completion;
            if (i < 2) assert_int_equal(json_get_str(record, "completion", &completion), 0);
            json_decref(record);
        }
        assert_int_equal(n, sizes[i]);
        json_records_close(&records);
        free(path);
    }
    json_decref(seen);
}

/* The ideal demonstration scores 2, every flaw less; the flaws differ in what they cost. */
static void test_qualities(void **state) {
    double sum[ACT_COUNT][QUALITY_COUNT] = {{0}};
    int count[ACT_COUNT] = {0};
    for (uint64_t i = 0; i < 2000; i++) {
        Dice r = dice_make(7, "test", i, 0);
        WorldTask t;
        Prose text;
        task_make(&r, &t);
        count[t.gold.act]++;
        for (SynthQuality q = 0; q < QUALITY_COUNT; q++) {
            task_demonstrate(&r, &t, q, &text);
            double score = gold_score(&t.gold, text.s, NULL);
            bool ideal = q == QUALITY_IDEAL || (q == QUALITY_REFUSE && t.gold.act == ACT_REFUSE);
            if (ideal ? score != 2 : score > 1.9)
                fail_msg("%s: \"%s\" -> \"%s\" scores %g", synth_quality_names[q], t.prompt.s,
                         text.s, score);
            sum[t.gold.act][q] += score;
        }
    }
    for (int act = 0; act < ACT_COUNT; act++) assert_true(count[act] > 50);
    double *answer = sum[ACT_ANSWER], *refuse = sum[ACT_REFUSE];
    assert_true(answer[QUALITY_VERBOSE] > answer[QUALITY_MADEUP]);
    assert_true(answer[QUALITY_INCOMPLETE] > answer[QUALITY_REFUSE]);
    assert_true(answer[QUALITY_REFUSE] > answer[QUALITY_WRONG]);
    assert_true(refuse[QUALITY_RUDE] > refuse[QUALITY_COMPLY]);
}

static void test_bad_options(void **state) {
    SynthOptions o = small();
    o.ppo = -1;
    assert_int_equal(synth_write(scratch_folder, &o), ERR_CONFIG);
    o = small();
    memset(o.refuse, 0, sizeof o.refuse);
    assert_int_equal(synth_write(scratch_folder, &o), ERR_CONFIG);
    o = small();
    assert_int_equal(synth_write("/dev/null/world", &o), ERR_IO);
    if (file_exists("/dev/full")) { /* a full disk is noticed */
        char *path = scratch("eval_prompts.jsonl");
        unlink(path);
        assert_int_equal(symlink("/dev/full", path), 0);
        assert_int_equal(synth_write(scratch_folder, &o), ERR_IO);
        assert_int_equal(unlink(path), 0);
        free(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reproducible), cmocka_unit_test(test_files),
        cmocka_unit_test(test_qualities), cmocka_unit_test(test_bad_options)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
