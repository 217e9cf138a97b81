/* Files of records in, files of records out: gold ranks, mean scores, splits; the character-level
 * tokenizer; what inspect says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/utf8.h"
#include "data/corpus.h"
#include "data/inspect.h"
#include "data/record_writer.h"
#include "data/records.h"
#include "data/texts.h"
#include "data/world/synth.h"
#include "tests/base/scratch.h"
#include "tests/data/tokens.h"

#include <stdio.h>

static char *write_file(const char *name, const char *content) {
    char *path = scratch(name);
    OK(file_write_durable(path, content, strlen(content)));
    return path;
}

/* Record number i (from 0) of a file; the caller releases it. */
static json_t *record_of(const char *path, int i) {
    JsonRecords *records;
    json_t *j = NULL;
    OK(json_records_open(&records, path));
    for (int k = 0; k <= i; k++) {
        json_decref(j);
        assert_int_equal(json_records_next(records, &j), 1);
    }
    json_records_close(&records);
    return j;
}

static int count_records(const char *path) {
    JsonRecords *records;
    json_t *j;
    int n = 0;
    OK(json_records_open(&records, path));
    while (json_records_next(records, &j) > 0) {
        json_decref(j);
        n++;
    }
    json_records_close(&records);
    return n;
}

/* A record of the world with its ideal answer, silence, and the ideal answer again. */
static char *make_samples(void) {
    SynthOptions o = synth_defaults();
    o.documents = o.documents_heldout = o.sft_heldout = o.compare = o.compare_heldout = o.ppo =
        o.eval = 1;
    o.sft = 30;
    char *dir = scratch("world"), *sft = file_join(dir, "sft.jsonl"),
         *out = scratch("samples.jsonl");
    OK(synth_write(dir, &o));
    RecordWriter w;
    OK(record_writer_open(&w, out));
    for (int i = 0; i < 30; i++) {
        json_t *j = record_of(sft, i);
        const char *ideal = json_string_value(json_object_get(json_object_get(j, "gold"), "ideal"));
        json_object_set_new(j, "completions", json_pack("[s,s,s]", ideal, "", ideal));
        record_writer_put(&w, j);
        json_decref(j);
    }
    OK(record_writer_close(&w, 0));
    char **names;
    int n;
    OK(file_list(dir, &names, &n));
    for (int i = 0; i < n; i++) {
        char *path = file_join(dir, names[i]);
        OK(file_remove(path));
        free(path);
    }
    file_free_list(&names, n);
    free(sft);
    free(dir);
    return out;
}

static void test_rank(void **state) {
    char *in = make_samples(), *out = scratch("ranked.jsonl"), *again = scratch("again.jsonl");
    OK(records_rank(in, out, (GoldNoise){.sd = 0, .seed = 1}, NULL, NULL));
    assert_int_equal(count_records(out), 30);
    for (int i = 0; i < 30; i++) {
        json_t *j = record_of(out, i);
        const json_t *ranks = json_object_get(j, "ranks"), *scores = json_object_get(j, "scores");
        assert_non_null(json_object_get(j, "prompt"));
        assert_non_null(json_object_get(j, "gold")); /* other fields stay */
        const int expected[] = {1, 2, 1};            /* equal texts tie */
        for (size_t k = 0; k < 3; k++)
            assert_int_equal(json_integer_value(json_array_get(ranks, k)), expected[k]);
        assert_true(json_real_value(json_array_get(scores, 0)) == 2.0);
        assert_true(json_real_value(json_array_get(scores, 1)) < 0);
        json_decref(j);
    }
    /* With noise as large as the difference some ranks change, but equal texts still tie, and the
     * scores stay true. The same seed gives the same file. */
    char *bytes[2];
    size_t len[2];
    OK(records_rank(in, out, (GoldNoise){.sd = 4, .seed = 1}, NULL, NULL));
    OK(records_rank(in, again, (GoldNoise){.sd = 4, .seed = 1}, NULL, NULL));
    OK(file_read(out, &bytes[0], &len[0]));
    OK(file_read(again, &bytes[1], &len[1]));
    assert_true(len[0] == len[1] && memcmp(bytes[0], bytes[1], len[0]) == 0);
    int turned = 0;
    for (int i = 0; i < 30; i++) {
        json_t *j = record_of(out, i);
        const json_t *ranks = json_object_get(j, "ranks");
        json_int_t first = json_integer_value(json_array_get(ranks, 0));
        assert_int_equal(first, json_integer_value(json_array_get(ranks, 2)));
        turned += first == 2;
        json_decref(j);
    }
    assert_in_range(turned, 1, 20);

    /* What was ranked loads as rankings. */
    Tokenizer *tk = tokens_bytes();
    DatasetOptions o = {.tokenizer = tk, .context = 2000};
    Dataset d;
    OK(dataset_load(&d, DATASET_RANKED, &(StrList){&out, 1}, &o));
    assert_int_equal(d.n, 30);
    assert_int_equal(d.first[30], 90);
    dataset_free(&d);
    tokenizer_close(&tk);
    for (int i = 0; i < 2; i++) free(bytes[i]);
    free(in);
    free(out);
    free(again);
}

static void test_score(void **state) {
    char *in = make_samples(), *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    OK(records_score(in, NULL, out));
    fclose(out);
    const char *all = strstr(text, "\nall");
    assert_non_null(all);
    double helpful, honest, harmless, concise, total;
    long long count;
    assert_int_equal(sscanf(all, "\nall %lld %lf %lf %lf %lf %lf", &count, &helpful, &honest,
                            &harmless, &concise, &total),
                     6);
    assert_int_equal(count, 90); /* two of three are ideal, one is silent */
    assert_true(total > 0.9 && total < 1.1 && helpful > 0.6 && helpful < 0.7);
    free(text);
    free(in);
}

static void test_bad(void **state) {
    char *in = write_file("bad.jsonl", "{\"prompt\":\"a\",\"completions\":[\"b\",\"c\"]}\n");
    char *single = write_file("single.jsonl", "{\"prompt\":\"a\",\"completions\":[\"b\"]}\n");
    char *out = scratch("out.jsonl"), *left = scratch("out.jsonl.tmp");
    FAILS(records_rank(in, out, (GoldNoise){.sd = 0, .seed = 1}, NULL, NULL), ERR_DATA,
          "bad.jsonl:1", "gold");
    FAILS(records_rank(single, out, (GoldNoise){.sd = 0, .seed = 1}, NULL, NULL), ERR_DATA,
          "single.jsonl:1", "--n K");
    assert_false(file_exists(out));
    assert_false(file_exists(left));
    char *nowhere = file_join(left, "x.jsonl");
    FAILS(records_rank(in, nowhere, (GoldNoise){.sd = 0, .seed = 1}, NULL, NULL), ERR_IO, "x.jsonl",
          "folder");
    free(nowhere);
    free(in);
    free(single);
    free(out);
    free(left);
}

/* Every prompt three times, with different answers: it must not be on both sides. */
static void test_split(void **state) {
    enum { N = 1500 };
    char *content = xmalloc(N * 60), *end = content;
    for (int i = 0; i < N; i++)
        end += sprintf(end, "{\"prompt\":\"p%d\",\"chosen\":\"a%d\",\"rejected\":\"b\"}\n", i % 500,
                       i);
    char *in = write_file("all.jsonl", content), *train = scratch("a.jsonl"),
         *held = scratch("b.jsonl");
    DatasetOptions o = {0};
    int64_t n[2];
    OK(records_split(in, 0.2, train, held, &o, &n[0], &n[1]));
    assert_int_equal(n[0] + n[1], N);
    assert_int_equal(count_records(train), n[0]);
    assert_int_equal(count_records(held), n[1]);
    assert_in_range(n[1], 200, 400); /* 300; 100 prompts with a standard deviation of 9 */
    char side[500] = {0};
    for (int s = 0; s < 2; s++) {
        JsonRecords *records;
        json_t *j;
        OK(json_records_open(&records, s ? held : train));
        while (json_records_next(records, &j) > 0) {
            int p = atoi(json_string_value(json_object_get(j, "prompt")) + 1);
            assert_true(side[p] == 0 || side[p] == s + 1);
            side[p] = (char)(s + 1);
            json_decref(j);
        }
        json_records_close(&records);
    }
    FAILS(records_split(in, 0, train, held, &o, &n[0], &n[1]), ERR_DATA, "all.jsonl", "empty");
    free(content);
    free(in);
    free(train);
    free(held);
}

static void test_chars(void **state) {
    OneText source = {"hello world\n"};
    const char *const special[] = {"<|endoftext|>"};
    Tokenizer *t;
    OK(tokenizer_train(&t, one_text, &source,
                       &(TrainOptions){.special = NULL, .nspecial = 0, .chars = true}));
    assert_int_equal(tokenizer_vocab(t), 9); /* "\n dehlorw" */
    IdList ids = {0};
    OK(tokenizer_encode(t, "wow hello", 9, false, &ids));
    assert_int_equal(ids.n, 9);
    char *text = tokens_text(t, ids.v, ids.n);
    assert_string_equal(text, "wow hello");
    free(text);
    FAILS(tokenizer_encode(t, "x", 1, false, &ids), ERR_DATA, "byte", "");
    assert_int_equal(tokenizer_eos(t), -1);
    char *json = tokenizer_json(t);
    Tokenizer *back;
    OK(tokenizer_parse(&back, json, strlen(json), "json"));
    assert_int_equal(tokenizer_vocab(back), 9);
    free(json);
    tokenizer_close(&back);
    tokenizer_close(&t);

    source = (OneText){"ab"};
    OK(tokenizer_train(&t, one_text, &source,
                       &(TrainOptions){.special = special, .nspecial = 1, .chars = true}));
    assert_int_equal(tokenizer_vocab(t), 3);
    assert_int_equal(tokenizer_eos(t), 0);
    tokenizer_close(&t);
    ids_free(&ids);
}

static void says(const char *path, int kind, const Tokenizer *tk, const char *const *parts) {
    DatasetOptions o = {.tokenizer = tk,
                        .bytes = true,
                        .context = 100,
                        .tmpl = TEMPLATE_HH,
                        .on_bad = ON_BAD_SKIP,
                        .max_bad = 100};
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    if (kind == -2)
        OK(inspect_corpus(out, path, 2, false));
    else
        OK(inspect_records(out, path, kind, &o, 2, false));
    fclose(out);
    for (; *parts; parts++)
        if (!strstr(text, *parts)) fail_msg("\"%s\" is not in:\n%s", *parts, text);
    free(text);
}

static void test_inspect(void **state) {
    Tokenizer *tk = tokens_bytes();
    char *demos =
        write_file("demos.jsonl", "{\"prompt\":\"Hi\",\"completion\":\"Yo\\u001b[2J\"}\n");
    says(demos, -1, tk,
         (const char *[]){"demonstrations: 1 record, 31 bytes, 8 of them learned",
                          "Human: Hi\n\nAssistant:« Yo\\x1b[2J<|endoftext|>»", NULL});
    says(demos, DATASET_PROMPTS, tk, (const char *[]){"prompts: 1 record, 23 bytes", NULL});
    char *pairs =
        write_file("pairs.jsonl", "{\"prompt\":\"Hi\",\"completions\":[\"a\",\"b\",\"c\"],"
                                  "\"ranks\":[1,2,2]}\n");
    says(pairs, -1, tk, (const char *[]){"rankings: 1 record,", "2 pairs, 1 tie\n", "« b", NULL});
    /* the kind that is asked for, whatever the name; the first record may be a bad one */
    char *other =
        write_file("demos.txt", "not JSON\n7\n{\"prompt\":\"Hi\",\"completion\":\"Yo\"}\n");
    says(other, DATASET_DEMOS, tk,
         (const char *[]){"demonstrations: 1 record,", "2 malformed", NULL});
    char *first =
        write_file("first.jsonl", "not JSON\n7\n{\"prompt\":\"Hi\",\"completion\":\"Yo\"}\n");
    says(first, -1, tk, (const char *[]){"demonstrations: 1 record,", "2 malformed", NULL});
    char *records =
        write_file("texts.jsonl", "{\"text\":\"One\",\"prompt\":\"Hi\",\"completion\":\"Yo\"}\n");
    says(records, INSPECT_TEXTS, tk, (const char *[]){"texts: 1, of 3 to 3 bytes", NULL});
    char *text = write_file("text.txt", "One\nTwo"), *corpus = scratch("text.h5");
    says(text, -1, tk, (const char *[]){"texts: 1, of 7 to 7 bytes", "One\nTwo", NULL});
    CorpusBuild b = {.tokenizer = tk, .path = corpus, .split = "\n"};
    OK(corpus_build(&b, &(StrList){&text, 1}));
    says(corpus, -2, tk,
         (const char *[]){"corpus, whole: 8 tokens, 6 bytes", "documents: 2", "Two<|endoftext|>",
                          NULL});
    tokenizer_close(&tk);
    free(demos);
    free(other);
    free(first);
    free(records);
    free(pairs);
    free(text);
    free(corpus);
}

static void test_repair(void **state) {
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"abc", "abc"},
        {"\x80", "\xEF\xBF\xBD"},
        {"a\xF0\x9F\x98z", "a\xEF\xBF\xBDz"},                     /* one beginning of a character */
        {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"},                 /* written too long */
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* a surrogate */
        {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
        {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n;
        char *got = utf8_repair(cases[i].in, strlen(cases[i].in), &n);
        assert_string_equal(got, cases[i].out);
        assert_int_equal(utf8_valid(got, n), n);
        free(got);
    }
    assert_int_equal(utf8_valid("12345678\xff", 9), 8);
    assert_int_equal(utf8_valid("1234\xc3\xa4"
                                "78\xc3",
                                9),
                     8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rank),   cmocka_unit_test(test_score), cmocka_unit_test(test_bad),
        cmocka_unit_test(test_split),  cmocka_unit_test(test_chars), cmocka_unit_test(test_inspect),
        cmocka_unit_test(test_repair),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
