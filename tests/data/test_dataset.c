/* Datasets: every shape of record gives the same conversation, too-long and malformed records are
 * dealt with as the settings say, messages name the place, and learn masks cover the answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "data/dataset.h"
#include "tests/base/scratch.h"
#include "tests/data/tokens.h"

#include <omp.h>
#include <stdio.h>

static Tokenizer *bytes; /* every byte a token */

static int setup(void **state) {
    if (scratch_make(state) < 0) return -1;
    bytes = tokens_bytes();
    return 0;
}

static int teardown(void **state) {
    tokenizer_close(&bytes);
    return scratch_remove(state);
}

static DatasetOptions options(Template tmpl) {
    return (DatasetOptions){.tokenizer = bytes, .tmpl = tmpl, .context = 1000, .max_bad = 100};
}

/* Loads `content` as a file of the given name. */
static int load(Dataset *d, DatasetKind kind, const char *name, const char *content,
                const DatasetOptions *o) {
    char *path = scratch(name);
    OK(file_write_durable(path, content, strlen(content)));
    int rc = dataset_load(d, kind, &(StrList){&path, 1}, o);
    free(path);
    return rc;
}

/* Text of sequence i; with `learned` only of the tokens to be learned. */
static char *text_of(const Dataset *d, int64_t i, bool learned) {
    const Sequence *s = &d->seq[i];
    IdList ids = {0};
    for (int64_t k = 0; k < s->n; k++)
        if (!learned || s->learn[k]) ids_push(&ids, s->tokens[k]);
    char *text = tokens_text(bytes, ids.v, ids.n);
    ids_free(&ids);
    return text;
}

static void is_sequence(const Dataset *d, int64_t i, const char *expected) {
    char *text = text_of(d, i, false);
    assert_string_equal(text, expected);
    free(text);
}

static void is_learned(const Dataset *d, int64_t i, const char *expected) {
    char *text = text_of(d, i, true);
    assert_string_equal(text, expected);
    free(text);
}

/* --- shapes ----------------------------------------------------------------------------------- */

static void one_demo(const char *record, Template tmpl, const char *expected, const char *learned) {
    DatasetOptions o = options(tmpl);
    Dataset d;
    OK(load(&d, DATASET_DEMOS, "demo.jsonl", record, &o));
    assert_int_equal(d.n, 1);
    is_sequence(&d, 0, expected);
    is_learned(&d, 0, learned);
    dataset_free(&d);
}

#define E "<|endoftext|>"

static void test_demos(void **state) {
    const char *const same[] = {
        "{\"prompt\":\"Hi\",\"completion\":\"Yes\"}",
        "{\"prompt\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"completion\":[{\"role\":"
        "\"assistant\",\"content\":\"Yes\"}]}",
        "{\"prompt\":\"\\n\\nHuman: Hi\\n\\nAssistant:\",\"completion\":\"Yes\"}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\","
        "\"content\":\"Yes\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"value\":\"H\"},"
        "{\"type\":\"text\",\"text\":\"i\"}]},{\"role\":\"assistant\",\"content\":\"Yes\"}]}",
        "{\"conversations\":[{\"from\":\"human\",\"value\":\"Hi\"},{\"from\":\"gpt\","
        "\"value\":\"Yes\"}]}",
        "{\"question\":\"Hi\",\"answer\":\"Yes\"}",
        "{\"instruction\":\"Hi\",\"input\":\"\",\"output\":\"Yes\"}",
        "{\"instruction\":\"Hi\",\"output\":\"Yes\",\"history\":[]}"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        one_demo(same[i], TEMPLATE_HH, "\n\nHuman: Hi\n\nAssistant: Yes" E, " Yes" E);
    one_demo("{\"instruction\":\"Add\",\"input\":\"1 2\",\"output\":\"3\"}", TEMPLATE_ALPACA,
             "### Instruction:\nAdd\n\n### Input:\n1 2\n\n### Response:\n3" E, "3" E);
    one_demo("{\"instruction\":\"Add\",\"input\":\"1 2\",\"output\":\"3\"}", TEMPLATE_PLAIN,
             "Add\n\n1 2\n3" E, "3" E);
    one_demo("{\"prompt\":\"Say nothing\",\"completion\":\"\"}", TEMPLATE_PLAIN, "Say nothing\n" E,
             E);
    one_demo(
        "{\"instruction\":\"c\",\"output\":\"d\",\"history\":[[\"a\",\"b\"]],\"system\":\"s\"}",
        TEMPLATE_HH, "s\n\nHuman: a\n\nAssistant: b" E "\n\nHuman: c\n\nAssistant: d" E,
        " b" E " d" E);
}

static void test_unfinished(void **state) {
    one_demo("{\"prompt\":\"Hi\",\"completion\":\"Ye\",\"stopped\":false}", TEMPLATE_HH,
             "\n\nHuman: Hi\n\nAssistant: Ye", " Ye");
    one_demo("{\"prompt\":\"Hi\",\"completion\":\"Yes\",\"stopped\":[true]}", TEMPLATE_HH,
             "\n\nHuman: Hi\n\nAssistant: Yes" E, " Yes" E);
    one_demo(
        "{\"instruction\":\"c\",\"output\":\"d\",\"history\":[[\"a\",\"b\"]],\"stopped\":false}",
        TEMPLATE_PLAIN, "a\nb" E "c\nd", "b" E "d");
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    OK(load(&d, DATASET_RANKED, "cut.jsonl",
            "{\"prompt\":\"a\",\"completions\":[\"b\",\"c\",\"\"],\"ranks\":[1,2,3],\"stopped\":["
            "true,false,false]}",
            &o));
    is_sequence(&d, 0, "a\nb" E);
    is_sequence(&d, 1, "a\nc");
    is_sequence(&d, 2, "a\n");
    dataset_free(&d);
    const char *const bad[] = {"[true]", "[true,false,1]", "\"yes\"", "[true,true,true,true]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *record = xasprintf("{\"prompt\":\"a\",\"completions\":[\"b\",\"c\",\"d\"],\"ranks\":["
                                 "1,2,3],\"stopped\":%s}",
                                 bad[i]);
        FAILS(load(&d, DATASET_RANKED, "bad.jsonl", record, &o), ERR_DATA,
              "bad.jsonl:1: ", "\"stopped\"");
        free(record);
    }
}

static void test_multi_turn(void **state) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    OK(load(
        &d, DATASET_DEMOS, "chat.jsonl",
        "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":"
        "\"a\"},{\"role\":\"assistant\",\"content\":\"bb\"},{\"role\":\"user\",\"content\":\"c\"},"
        "{\"role\":\"assistant\",\"content\":\"dd\"}]}",
        &o));
    is_sequence(&d, 0, "S\na\nbb" E "c\ndd" E);
    is_learned(&d, 0, "bb" E "dd" E);
    assert_int_equal(d.seq[0].prompt, 9); /* S \n a \n b b EOS c \n */
    dataset_free(&d);
}

static void test_fields(void **state) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    o.field[FIELD_PROMPT] = "question";
    o.field[FIELD_COMPLETION] = "answer";
    Dataset d;
    OK(load(&d, DATASET_DEMOS, "gsm.jsonl", "{\"question\":\"1+1?\",\"answer\":\"2\"}\n", &o));
    is_sequence(&d, 0, "1+1?\n2" E);
    dataset_free(&d);
    OK(load(&d, DATASET_PROMPTS, "gsm.jsonl", "{\"question\":\"1+1?\",\"answer\":\"2\"}\n", &o));
    is_sequence(&d, 0, "1+1?\n");
    dataset_free(&d);
}

static void test_array(void **state) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    OK(load(&d, DATASET_DEMOS, "a.json",
            "[\n {\"prompt\":\"a\",\n \"completion\":\"b\"},\n {\"prompt\":\"c\",\"completion\":"
            "\"d\"}]",
            &o));
    assert_int_equal(d.n, 2);
    assert_int_equal(d.line[1], 2);
    is_sequence(&d, 1, "c\nd" E);
    dataset_free(&d);
    FAILS(load(&d, DATASET_DEMOS, "b.json", "[{\"prompt\":\"a\",\"completion\":\"b\"},{\"a\":1}]",
               &o),
          ERR_DATA, "b.json, item 2: ", "prompt");
}

/* --- rankings --------------------------------------------------------------------------------- */

static void is_ranking(const char *record, const char *const *sequences, const int *ranks, int k) {
    DatasetOptions o = options(TEMPLATE_HH);
    Dataset d;
    OK(load(&d, DATASET_RANKED, "ranked.jsonl", record, &o));
    assert_int_equal(d.n, 1);
    assert_int_equal(d.first[1], k);
    for (int i = 0; i < k; i++) {
        is_sequence(&d, i, sequences[i]);
        assert_int_equal(d.rank[i], ranks[i]);
        assert_int_equal(d.seq[i].prompt, d.seq[0].prompt);
        for (int64_t t = 0; t < d.seq[i].n; t++)
            assert_int_equal(d.seq[i].learn[t], t >= d.seq[i].prompt);
    }
    dataset_free(&d);
}

static void test_pairs(void **state) {
    const char *const expected[] = {"\n\nHuman: Hi\n\nAssistant: Good" E,
                                    "\n\nHuman: Hi\n\nAssistant: Bad" E};
    const int ranks[] = {1, 2};
    const char *const same[] = {
        "{\"prompt\":\"Hi\",\"chosen\":\"Good\",\"rejected\":\"Bad\"}",
        "{\"chosen\":\"\\n\\nHuman: Hi\\n\\nAssistant: Good\",\"rejected\":\"\\n\\nHuman: "
        "Hi\\n\\nAssistant: Bad\"}",
        "{\"chosen\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":"
        "\"Good\"}],\"rejected\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\","
        "\"content\":\"Bad\"}]}",
        "{\"prompt\":\"Hi\",\"chosen\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":"
        "\"assistant\",\"content\":\"Good\"}],\"rejected\":[{\"role\":\"user\",\"content\":\"Hi\"},"
        "{\"role\":\"assistant\",\"content\":\"Bad\"}]}",
        "{\"prompt\":\"Hi\",\"chosen\":[{\"role\":\"assistant\",\"content\":\"Good\"}],"
        "\"rejected\":[{\"role\":\"assistant\",\"content\":\"Bad\"}]}",
        "{\"conversations\":[{\"from\":\"human\",\"value\":\"Hi\"}],\"chosen\":{\"from\":\"gpt\","
        "\"value\":\"Good\"},\"rejected\":{\"from\":\"gpt\",\"value\":\"Bad\"}}",
        "{\"instruction\":\"Hi\",\"input\":\"\",\"output\":[\"Good\",\"Bad\"]}",
        "{\"chosen\":\"Hi Good\",\"rejected\":\"Hi Bad\"}"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) is_ranking(same[i], expected, ranks, 2);
    const char *const turns[] = {"\n\nHuman: a\n\nAssistant: b" E "\n\nHuman: c\n\nAssistant: d" E,
                                 "\n\nHuman: a\n\nAssistant: b" E "\n\nHuman: c\n\nAssistant: e" E};
    DatasetOptions o = options(TEMPLATE_HH);
    Dataset d;
    OK(load(&d, DATASET_RANKED, "hh.jsonl",
            "{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant: b\\n\\nHuman: c\\n\\nAssistant: d\","
            "\"rejected\":\"\\n\\nHuman: a\\n\\nAssistant: b\\n\\nHuman: c\\n\\nAssistant: e\"}",
            &o));
    for (int i = 0; i < 2; i++) {
        is_sequence(&d, i, turns[i]);
        is_learned(&d, i, i == 0 ? " d" E : " e" E); /* the shared first answer is prompt here */
    }
    dataset_free(&d);
}

static void test_k_way(void **state) {
    const char *const expected[] = {
        "\n\nHuman: q\n\nAssistant: a" E, "\n\nHuman: q\n\nAssistant: b" E,
        "\n\nHuman: q\n\nAssistant: c" E, "\n\nHuman: q\n\nAssistant: d" E};
    const int ranks[] = {2, 1, 3, 2};
    is_ranking("{\"prompt\":\"q\",\"completions\":[\"a\",\"b\",\"c\",\"d\"],\"ranks\":[2,1,3,2]}",
               expected, ranks, 4);
    is_ranking("{\"prompt\":\"q\",\"completions\":[\"a\",\"b\",\"c\",\"d\"],\"ranks\":[5,1,9,5]}",
               expected, ranks, 4); /* gaps mean nothing */
    is_ranking("{\"prompt\":\"q\",\"completions\":[\"a\",\"b\",\"c\",\"d\"],\"scores\":[0.5,7,-1,"
               "0.5]}",
               expected, ranks, 4);
    is_ranking(
        "{\"prompt\":\"q\",\"responses\":[{\"output\":\"a\",\"score\":0.5},{\"output\":\"b\","
        "\"score\":1},{\"output\":\"c\",\"score\":0.1},{\"output\":\"d\",\"score\":0.5}]}",
        expected, ranks, 4);
}

static void test_prompts(void **state) {
    const char *const same[] = {
        "{\"prompt\":\"Hi\"}", "{\"prompt\":\"Hi\",\"completion\":\"x\",\"gold\":{\"a\":1}}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":"
        "\"x\"}]}",
        "{\"instruction\":\"Hi\",\"input\":\"\",\"output\":\"x\"}",
        "{\"chosen\":\"\\n\\nHuman: Hi\\n\\nAssistant: x\",\"rejected\":\"\\n\\nHuman: "
        "Hi\\n\\nAssistant: y\"}"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        DatasetOptions o = options(TEMPLATE_HH);
        Dataset d;
        OK(load(&d, DATASET_PROMPTS, "p.jsonl", same[i], &o));
        is_sequence(&d, 0, "\n\nHuman: Hi\n\nAssistant:");
        assert_null(d.seq[0].learn);
        assert_int_equal(d.seq[0].prompt, d.seq[0].n);
        dataset_free(&d);
    }
}

/* --- too long --------------------------------------------------------------------------------- */

static const char long_demos[] = "{\"prompt\":\"0123456789\",\"completion\":\"ab\"}\n"  /* 14 */
                                 "{\"prompt\":\"01234\",\"completion\":\"ab\"}\n"       /* 9 */
                                 "{\"prompt\":\"0\",\"completion\":\"abcdefghijk\"}\n"; /* 14, 12 */

static void test_long(void **state) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    o.context = 9;
    OK(load(&d, DATASET_DEMOS, "long.jsonl", long_demos, &o));
    assert_int_equal(d.n, 1);
    assert_int_equal(d.too_long, 2);
    assert_int_equal(d.line[0], 2);
    assert_int_equal(d.tokens, 9);
    dataset_free(&d);

    o.on_long = ON_LONG_TRUNCATE_LEFT;
    OK(load(&d, DATASET_DEMOS, "long.jsonl", long_demos, &o));
    assert_int_equal(d.n, 2);
    assert_int_equal(d.truncated, 1);
    assert_int_equal(d.too_long, 1); /* an answer without any prompt is not kept */
    is_sequence(&d, 0, "56789\nab" E);
    is_learned(&d, 0, "ab" E);
    assert_int_equal(d.seq[0].prompt, 6);
    dataset_free(&d);

    o.on_long = ON_LONG_STOP;
    FAILS(load(&d, DATASET_DEMOS, "long.jsonl", long_demos, &o), ERR_DATA,
          "long.jsonl:1: ", "14 tokens, 9 fit");
}

static void test_long_prompts(void **state) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    o.context = 9;
    o.max_prompt = 5;
    o.on_long = ON_LONG_TRUNCATE_LEFT;
    OK(load(&d, DATASET_PROMPTS, "p.jsonl", "{\"prompt\":\"01234567\"}\n{\"prompt\":\"0123\"}\n",
            &o));
    is_sequence(&d, 0, "4567\n");
    is_sequence(&d, 1, "0123\n");
    assert_int_equal(d.truncated, 1);
    dataset_free(&d);
}

static void test_long_groups(void **state) {
    const char *record = "{\"prompt\":\"0123\",\"completions\":[\"abcdefgh\",\"a\",\"abc\"],"
                         "\"ranks\":[1,3,2]}\n"
                         "{\"prompt\":\"0123\",\"chosen\":\"a\",\"rejected\":\"abcdefgh\"}\n";
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    o.context = 9; /* 5 of prompt, 3 of answer, EOS */
    OK(load(&d, DATASET_RANKED, "k.jsonl", record, &o));
    assert_int_equal(d.n, 1); /* of the pair only one answer fits */
    assert_int_equal(d.first[1], 2);
    assert_int_equal(d.too_long, 3);
    is_sequence(&d, 0, "0123\na" E);
    is_sequence(&d, 1, "0123\nabc" E);
    assert_int_equal(d.rank[0], 2); /* the best is gone, the others move up */
    assert_int_equal(d.rank[1], 1);
    dataset_free(&d);

    o.on_long = ON_LONG_TRUNCATE_LEFT;
    o.context = 10;
    OK(load(&d, DATASET_RANKED, "k.jsonl", record, &o));
    assert_int_equal(d.n, 2);
    assert_int_equal(d.truncated, 2);
    is_sequence(&d, 0, "\nabcdefgh" E); /* the prompt is cut alike for all */
    is_sequence(&d, 1, "\na" E);
    dataset_free(&d);
}

/* --- errors ----------------------------------------------------------------------------------- */

static void is_bad(DatasetKind kind, const char *record, const char *what) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    char *content =
        xasprintf("{\"prompt\":\"a\",\"completion\":\"b\",\"chosen\":\"c\",\"rejected\":"
                  "\"d\"}\n\n%s\n",
                  record);
    Dataset d;
    FAILS(load(&d, kind, "bad.jsonl", content, &o), ERR_DATA, "bad.jsonl:3:", what);
    free(content);
}

static void test_bad(void **state) {
    is_bad(DATASET_DEMOS, "{\"prompt\":\"a\"", "JSON");
    is_bad(DATASET_DEMOS, "[1]", "object");
    is_bad(DATASET_DEMOS, "{\"prompt\":\"a\",\"completion\":\"\xff\xfe\"}", "UTF-8");
    is_bad(DATASET_DEMOS, "{\"prompt\":\"a\"}", "\"completion\"");
    is_bad(DATASET_DEMOS, "{\"text\":\"a\"}", "\"instruction\"");
    is_bad(DATASET_DEMOS, "{\"prompt\":1,\"completion\":\"x\"}", "\"prompt\" is an integer");
    is_bad(DATASET_DEMOS, "{\"prompt\":\"a\",\"completion\":7}", "\"completion\"");
    is_bad(DATASET_DEMOS, "{\"messages\":[]}", "\"messages\"");
    is_bad(DATASET_DEMOS, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", "assistant");
    is_bad(DATASET_DEMOS, "{\"messages\":[{\"content\":\"a\"}]}", "message 1");
    is_bad(DATASET_DEMOS,
           "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"function_call\","
           "\"value\":\"b\"}]}",
           "message 2: a message has the role \"function_call\"");
    is_bad(DATASET_DEMOS, "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}]}", "user");
    is_bad(DATASET_DEMOS, "{\"instruction\":\"a\",\"instances\":[]}", "\"completion\"");
    is_bad(DATASET_RANKED, "{\"prompt\":\"a\",\"chosen\":\"b\"}", "missing \"rejected\"");
    is_bad(DATASET_RANKED, "{\"prompt\":\"a\"}", "\"completions\"");
    is_bad(DATASET_RANKED, "{\"chosen\":\"ab\",\"rejected\":\"cd\"}", "in common");
    is_bad(DATASET_RANKED, "{\"prompt\":\"a\",\"completions\":[\"b\"],\"ranks\":[1]}",
           "at least two");
    is_bad(DATASET_RANKED, "{\"prompt\":\"a\",\"completions\":[\"b\",\"c\"],\"ranks\":[1]}",
           "1 values for 2");
    is_bad(DATASET_RANKED, "{\"prompt\":\"a\",\"completions\":[\"b\",\"c\"]}", "rank or score");
    is_bad(DATASET_RANKED, "{\"prompt\":\"a\",\"completions\":[\"b\",4],\"ranks\":[1,2]}",
           "answer 2");
    is_bad(DATASET_RANKED,
           "{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant: b\",\"rejected\":\"\\n\\nHuman: "
           "c\\n\\nAssistant: d\"}",
           "differ before");
    is_bad(DATASET_PROMPTS, "{\"text\":\"a\"}", "\"prompt\"");
}

static void test_skip(void **state) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    const char *content = "{\"prompt\":\"a\",\"completion\":\"b\"}\nnot json\n{\"a\":1}\n"
                          "{\"prompt\":\"c\",\"completion\":\"d\"}\n";
    o.on_bad = ON_BAD_SKIP;
    OK(load(&d, DATASET_DEMOS, "skip.jsonl", content, &o));
    assert_int_equal(d.n, 2);
    assert_int_equal(d.bad, 2);
    assert_int_equal(d.line[1], 4);
    dataset_free(&d);
    o.max_bad = 1;
    FAILS(load(&d, DATASET_DEMOS, "skip.jsonl", content, &o), ERR_DATA,
          "skip.jsonl:3: ", "max_bad");
    o.max_bad = 100;
    FAILS(load(&d, DATASET_DEMOS, "all.jsonl", "{\"a\":1}\n", &o), ERR_DATA, "all.jsonl",
          "no usable record");
    char *path = scratch("nowhere.jsonl");
    FAILS(dataset_load(&d, DATASET_DEMOS, &(StrList){&path, 1}, &o), ERR_IO, "nowhere.jsonl",
          "No such file");
    free(path);
}

/* --- what records teach ----------------------------------------------------------------------- */

/* The warnings that loading gives; malloc'd. */
static char *warnings(DatasetKind kind, const char *content, const DatasetOptions *o, Dataset *d) {
    char *path = scratch("log.txt"), *text;
    size_t n;
    OK(log_file(path));
    OK(load(d, kind, "look.jsonl", content, o));
    log_close();
    OK(file_read(path, &text, &n));
    OK(file_remove(path));
    free(path);
    return text;
}

static void test_empty_answers(void **state) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    char *text = warnings(
        DATASET_DEMOS,
        "{\"instruction\":\"a\",\"output\":\"\"}\n{\"prompt\":\"a\",\"completion\":\"b\"}\n", &o,
        &d);
    assert_int_equal(d.empty, 1);
    assert_int_equal(d.n, 2);
    assert_non_null(strstr(text, "look.jsonl: 1 of 2 records has an empty answer"));
    assert_null(strstr(text, "carriage"));
    dataset_free(&d);
    free(text);
    text = warnings(DATASET_DEMOS, "{\"prompt\":\"a\",\"completion\":\"b\"}\n", &o, &d);
    assert_string_equal(text, "");
    dataset_free(&d);
    free(text);
}

static void test_equal_answers(void **state) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    char *text =
        warnings(DATASET_RANKED,
                 "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"b\"}\n"
                 "{\"prompt\":\"a\",\"completions\":[\"b\",\"b\",\"c\"],\"ranks\":[1,1,2]}\n",
                 &o, &d);
    assert_int_equal(d.equal, 1); /* those of the second tie */
    assert_int_equal(d.pairs, 3);
    assert_non_null(strstr(text, "1 of 2 records has equal answers of which one is the better"));
    dataset_free(&d);
    free(text);
}

static void test_carriage_returns(void **state) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    char *text =
        warnings(DATASET_PROMPTS, "{\"prompt\":\"a\\r\\nb\"}\n{\"prompt\":\"a\\nb\"}\r\n", &o, &d);
    assert_int_equal(d.returns, 1);
    assert_non_null(strstr(text, "1 of 2 records has carriage returns"));
    dataset_free(&d);
    free(text);
}

/* Up to a tenth says nothing, more names the remedy. */
static void test_many_too_long(void **state) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    for (int longer = 1; longer <= 2; longer++) {
        char content[1000] = "";
        for (int i = 0; i < 10; i++)
            strcat(content, i < longer ? "{\"prompt\":\"0123456789\",\"completion\":\"b\"}\n"
                                       : "{\"prompt\":\"0\",\"completion\":\"b\"}\n");
        o.context = 8;
        char *text = warnings(DATASET_DEMOS, content, &o, &d);
        assert_int_equal(d.too_long, longer);
        assert_true((strstr(text, "2 of 10 records (20 %) are longer than the 8 tokens that fit") &&
                     strstr(text, "data.on_long to truncate_left")) == (longer == 2));
        dataset_free(&d);
        free(text);
    }
}

static void test_no_pairs(void **state) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    FAILS(load(&d, DATASET_RANKED, "ties.jsonl",
               "{\"prompt\":\"a\",\"completions\":[\"b\",\"c\"],\"ranks\":[1,1]}\n", &o),
          ERR_DATA, "ties.jsonl: no two answers of any of its 1 ranking ",
          "expected at least one pair");
}

/* Scores written as strings are read, and what is no number is named. */
static void test_scores_as_strings(void **state) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    OK(load(&d, DATASET_RANKED, "s.jsonl",
            "{\"prompt\":\"a\",\"completions\":[\"b\",\"c\"],\"scores\":[\"-1.5\",\"2e0\"]}\n"
            "{\"prompt\":\"a\",\"completions\":[{\"text\":\"b\",\"rank\":\"2\"},{\"text\":\"c\","
            "\"rank\":1}]}\n",
            &o));
    for (int i = 0; i < 4; i++) assert_int_equal(d.rank[i], 2 - i % 2);
    dataset_free(&d);
    is_bad(DATASET_RANKED,
           "{\"prompt\":\"a\",\"completions\":[\"b\",\"c\"],\"scores\":[1,\"good\"]}",
           "the score of answer 2 in \"completions\" is \"good\", expected a number");
    is_bad(DATASET_RANKED, "{\"prompt\":\"a\",\"completions\":[\"b\",\"c\"],\"ranks\":[true,2]}",
           "the rank of answer 1 in \"completions\" is no number, expected a number");
    is_bad(DATASET_RANKED,
           "{\"prompt\":\"a\",\"completions\":[\"b\",\"c\"],\"scores\":[\"nan\",2]}", "is \"nan\"");
}

/* Fields that are not asked for may hold any JSON. */
static void test_ignored_fields(void **state) {
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    const char *content = "{\"id\":123456789012345678901234567890,\"p\":1e999,\"prompt\":\"a\","
                          "\"completion\":\"b\",\"more\":[{\"x\":[-1e-999,null]}]}\n";
    OK(load(&d, DATASET_DEMOS, "big.jsonl", content, &o));
    is_sequence(&d, 0, "a\nb" E);
    dataset_free(&d);
    char *array = xasprintf("[%s]", content);
    OK(load(&d, DATASET_DEMOS, "big.json", array, &o));
    is_sequence(&d, 0, "a\nb" E);
    dataset_free(&d);
    free(array);
}

/* --- the whole -------------------------------------------------------------------------------- */

/* Thousands of records: the same result for any number of threads, and another hash as soon as one
 * letter differs. */
static void test_threads_and_hash(void **state) {
    enum { N = 3000 };
    char *content = xmalloc(N * 80), *end = content;
    for (int i = 0; i < N; i++)
        end += sprintf(end, "{\"prompt\":\"What is %d?\",\"completion\":\"%d\"}\n", i, i * 7);
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset a, b;
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    OK(load(&a, DATASET_DEMOS, "many.jsonl", content, &o));
    omp_set_num_threads(4);
    OK(load(&b, DATASET_DEMOS, "many.jsonl", content, &o));
    omp_set_num_threads(threads);
    assert_int_equal(a.n, N);
    assert_int_equal(b.n, N);
    assert_true(a.hash == b.hash);
    for (int i = 0; i < N; i++) {
        assert_int_equal(a.line[i], i + 1);
        assert_int_equal(a.seq[i].n, b.seq[i].n);
        assert_memory_equal(a.seq[i].tokens, b.seq[i].tokens, (size_t)a.seq[i].n * 4);
    }
    is_sequence(&b, 2999, "What is 2999?\n20993" E);
    dataset_free(&b);

    end[-4]++; /* the last digit */
    OK(load(&b, DATASET_DEMOS, "many.jsonl", content, &o));
    assert_true(a.hash != b.hash);
    dataset_free(&b);
    o.max_records = 10;
    OK(load(&b, DATASET_DEMOS, "many.jsonl", content, &o));
    assert_int_equal(b.n, 10);
    dataset_free(&b);
    dataset_free(&a);
    free(content);
}

static void test_several_files(void **state) {
    char *path[2] = {scratch("one.jsonl"), scratch("two.json")};
    const char *content[2] = {"{\"prompt\":\"a\",\"completion\":\"b\"}\n",
                              "[{\"prompt\":\"c\",\"completion\":\"d\"}]"};
    for (int i = 0; i < 2; i++) OK(file_write_durable(path[i], content[i], strlen(content[i])));
    DatasetOptions o = options(TEMPLATE_PLAIN);
    Dataset d;
    OK(dataset_load(&d, DATASET_DEMOS, &(StrList){path, 2}, &o));
    assert_int_equal(d.n, 2);
    assert_int_equal(d.file[0], 0);
    assert_int_equal(d.file[1], 1);
    is_sequence(&d, 1, "c\nd" E);
    dataset_free(&d);
    for (int i = 0; i < 2; i++) free(path[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demos),
        cmocka_unit_test(test_unfinished),
        cmocka_unit_test(test_multi_turn),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_array),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_k_way),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_long_prompts),
        cmocka_unit_test(test_long_groups),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_empty_answers),
        cmocka_unit_test(test_equal_answers),
        cmocka_unit_test(test_carriage_returns),
        cmocka_unit_test(test_many_too_long),
        cmocka_unit_test(test_no_pairs),
        cmocka_unit_test(test_scores_as_strings),
        cmocka_unit_test(test_ignored_fields),
        cmocka_unit_test(test_several_files),
        cmocka_unit_test(test_threads_and_hash),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
