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
    "ppo_prompts.jsonl", "eval_prompts.jsonl", "documents.jsonl",       "documents_heldout.jsonl",
    "primer.jsonl"};
enum { EVAL = 5, PROMPT_FILES = 6, PRIMER = 8, FILES = 9 };
static const char *const held_kinds[] = {"wording", "object", "verb", "harm", "family"};
enum { HELD_KINDS = 5 };

/* Of each kind an example, as it stands in a prompt. */
static bool has_held_word(const char *prompt) {
    static const char *const words[] = {
        " pen",   " cow",     "lends",          " lent ",     " lend ",          " wrap",
        " hurt ", "burn oil", "What do I need", "As you say", "Make it tomorrow"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(prompt, words[i])) return true;
    return false;
}

static SynthOptions small(void) {
    SynthOptions o = synth_defaults();
    o.primer = 30, o.documents = 60, o.documents_heldout = 20, o.sft = 300, o.sft_heldout = 40;
    o.compare = 80, o.compare_heldout = 40, o.ppo = 200, o.eval = 300;
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

/* Every record is whole; no prompt is in two files, and in those of evaluation none is twice; they
 * alone have something held out, and it is what "held" says. */
static void test_files(void **state) {
    SynthOptions o = small();
    const int64_t sizes[FILES] = {o.sft,   o.sft_heldout, o.compare,   o.compare_heldout,
                                  o.ppo,   o.eval,        o.documents, o.documents_heldout,
                                  o.primer};
    assert_int_equal(synth_write(scratch_folder, &o), 0);
    json_t *seen = json_object();
    int kinds[HELD_KINDS] = {0};
    for (int i = 0; i < FILES; i++) {
        char *path = scratch(files[i]);
        JsonRecords *records = NULL;
        json_t *record;
        int64_t n = 0;
        assert_int_equal(json_records_open(&records, path), 0);
        while (json_records_next(records, &record) == 1) {
            n++;
            char *text = json_dumps(json_object_get(record, i < PROMPT_FILES ? "prompt" : "text"),
                                    JSON_ENCODE_ANY);
            assert_true(strlen(text) > 8 && strlen(text) < 800);
            json_t *home = json_object_get(seen, text);
            if (home) assert_int_equal(json_integer_value(home), i);
            const bool once = strstr(files[i], "heldout.jsonl") || i == EVAL;
            if (i < PROMPT_FILES && once) assert_null(home);
            json_object_set_new(seen, text, json_integer(i));
            if (i == PRIMER) { /* whom the first sentence is about comes again */
                char name[5];
                memcpy(name, text + 1, 4), name[4] = 0;
                assert_non_null(strstr(text + 5, name));
            }
            if (i < PROMPT_FILES) {
                Gold g;
                assert_int_equal(gold_read(&g, json_object_get(record, "gold"), path), 0);
                const bool held = i < PROMPT_FILES && has_held_word(text);
                if (i != EVAL && (*g.held || held)) fail_msg("%s: %s", files[i], text);
                if (held) assert_true(*g.held);
                for (int k = 0; k < HELD_KINDS; k++) kinds[k] += !strcmp(g.held, held_kinds[k]);
            }
            const char *completion;
            if (i < 2) assert_int_equal(json_get_str(record, "completion", &completion), 0);
            free(text);
            json_decref(record);
        }
        assert_int_equal(n, sizes[i]);
        json_records_close(&records);
        free(path);
    }
    json_decref(seen);
    for (int k = 0; k < HELD_KINDS; k++) assert_true(kinds[k] > 0);
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

/* Documents begin with their story, do not contradict themselves and reckon rightly; those that
 * drill one kind of fact tell it of several people. */
static void test_documents(void **state) {
    int homes = 0, sums = 0, restarts = 0, several = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        Dice r = dice_make(3, "test", i, 0);
        Prose t;
        size_t story;
        world_document(&r, &t, &story);
        assert_true(story > 10 && story < t.n && t.s[story] == ' ' && t.s[story - 1] == '.');
        char home[NAMES][16] = {{0}}, name[16], place[16], *save = NULL;
        int told = 0;
        for (char *s = strtok_r(t.s, ".?\"", &save); s; s = strtok_r(NULL, ".?\"", &save)) {
            int a, b, c, end = 0;
            if (sscanf(s, " %d plus %d is %d", &a, &b, &c) == 3 && ++sums)
                assert_int_equal(a + b, c);
            if (sscanf(s, " %d minus %d is %d", &a, &b, &c) == 3 && ++sums)
                assert_int_equal(a - b, c);
            sscanf(s, " %15s lives in %15s%n", name, place, &end);
            for (int k = 0; k < NAMES && end; k++) {
                if (strcmp(name, world_names[k])) continue;
                restarts += s[end] != 0;
                if (s[end]) continue; /* begun anew */
                homes++;
                told += !home[k][0];
                if (!home[k][0]) snprintf(home[k], sizeof home[k], "%s", place);
                assert_string_equal(home[k], place);
            }
        }
        several += told > 1;
    }
    assert_true(homes > 1000 && sums > 500 && restarts > 50 && several > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reproducible), cmocka_unit_test(test_files),
        cmocka_unit_test(test_qualities), cmocka_unit_test(test_documents),
        cmocka_unit_test(test_bad_options)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
