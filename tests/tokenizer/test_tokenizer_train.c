/* Training: the merges of Hugging Face's BpeTrainer on the golden text, those of CS336's reference
 * where ../shared/data has it; ids and limits. */
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "data/tokenizer/tokenizer.h"

#define CS336 "../shared/data/cs336/"

typedef struct Texts {
    const char *const *text;
    int n, next;
    int rc; /* what comes after the last */
} Texts;

static int next_text(void *ctx, const char **text, size_t *len) {
    Texts *t = ctx;
    if (t->next == t->n) return t->rc;
    *text = t->text[t->next++];
    *len = strlen(*text);
    return 1;
}

static Tokenizer *train(const char *const *text, int n, int64_t vocab, int64_t min_frequency,
                        const char *const *special, int nspecial) {
    Tokenizer *t;
    Texts texts = {.text = text, .n = n};
    if (tokenizer_train(
            &t, next_text, &texts,
            &(TrainOptions){vocab, min_frequency, special, nspecial, TIE_BREAK_HF, false}) < 0) {
        fail_msg("%s", error_message());
    }
    return t;
}

static void test_hugging_face_merges(void **state) {
    json_t *golden, *ours, *want;
    assert_int_equal(json_read_file(&golden, "tests/golden/tokenizer_golden.json"), 0);
    const char *text = json_string_value(json_object_get(golden, "text"));
    const int64_t vocab = json_integer_value(json_object_get(golden, "vocab"));
    const char *special[2];
    for (size_t i = 0; i < 2; i++) {
        special[i] = json_string_value(json_array_get(json_object_get(golden, "special"), i));
    }
    Tokenizer *t = train(&text, 1, vocab, 0, special, 2);
    assert_int_equal(tokenizer_vocab(t), vocab);
    char *json = tokenizer_json(t);
    assert_int_equal(json_parse(&ours, json, strlen(json), "ours", 1), 0);
    free(json);
    want = json_object_get(golden, "tokenizer");
    assert_true(
        json_equal(json_object_get(ours, "added_tokens"), json_object_get(want, "added_tokens")));
    const json_t *a = json_object_get(ours, "model"), *b = json_object_get(want, "model");
    const json_t *ma = json_object_get(a, "merges"), *mb = json_object_get(b, "merges");
    assert_int_equal(json_array_size(ma), json_array_size(mb));
    for (size_t i = 0; i < json_array_size(mb); i++) {
        const json_t *pair = json_array_get(mb, i);
        char *both = xasprintf("%s %s", json_string_value(json_array_get(pair, 0)),
                               json_string_value(json_array_get(pair, 1)));
        assert_string_equal(json_string_value(json_array_get(ma, i)), both);
        free(both);
    }
    assert_true(json_equal(json_object_get(a, "vocab"), json_object_get(b, "vocab")));
    json_decref(ours);
    json_decref(golden);
    tokenizer_close(&t);
}

/* Worked by hand. "ab" is there 4 times; then "ab"+"c" twice; then "x"+"y" and "ab"+"d" once each,
 * and the byte x has a smaller id than the token ab. */
static void test_by_hand(void **state) {
    static const char *const texts[] = {"abc", "abc", "ab", "xy", "abd"};
    static const char *const special[] = {"<|endoftext|>"};
    static const char *const want[] = {"ab", "abc", "xy", "abd"};
    Tokenizer *t = train(texts, 5, 1000, 0, special, 1);
    assert_int_equal(tokenizer_vocab(t), 1 + 256 + 4); /* no more pairs */
    assert_string_equal(tokenizer_token_bytes(t, 0, NULL), "<|endoftext|>");
    assert_string_equal(tokenizer_token_bytes(t, 1, NULL), "!"); /* GPT-2's order of the bytes */
    for (int i = 0; i < 4; i++) {
        assert_string_equal(tokenizer_token_bytes(t, 257 + i, NULL), want[i]);
        assert_int_equal(tokenizer_id(t, want[i]), 257 + i);
    }
    tokenizer_close(&t);
    t = train(texts, 5, 1000, 2, special, 1); /* only what occurs twice */
    assert_int_equal(tokenizer_vocab(t), 1 + 256 + 2);
    tokenizer_close(&t);
    t = train(texts, 5, 257, 0, special, 1); /* no room for merges */
    assert_int_equal(tokenizer_vocab(t), 257);
    IdList ids = {0};
    assert_int_equal(tokenizer_encode(t, "abc", 3, false, &ids), 0);
    assert_int_equal(ids.n, 3);
    ids_free(&ids);
    tokenizer_close(&t);
    t = train(NULL, 0, 300, 0, NULL, 0); /* nothing to learn from */
    assert_int_equal(tokenizer_vocab(t), 256);
    assert_int_equal(tokenizer_eos(t), -1);
    tokenizer_close(&t);
}

/* Two pairs of equal count: "ab" and "xy". By ids ab comes first, by bytes xy. */
static void test_tie_break_bytes(void **state) {
    static const char *const text[] = {"ab", "xy", "xz"};
    static const char *const want[2][3] = {{"ab", "xy", "xz"}, {"xz", "xy", "ab"}};
    for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
        Texts texts = {.text = text, .n = 3};
        const TrainOptions o = {.vocab = 300,
                                .tie_break = by_bytes ? TIE_BREAK_BYTES : TIE_BREAK_HF};
        Tokenizer *t;
        assert_int_equal(tokenizer_train(&t, next_text, &texts, &o), 0);
        for (int i = 0; i < 3; i++)
            assert_string_equal(tokenizer_token_bytes(t, 256 + i, NULL), want[by_bytes][i]);
        tokenizer_close(&t);
    }
}

/* The example of Stanford's CS336, whose words are texts here. */
static void test_cs336_example(void **state) {
    static const char *const want[] = {"st", "est", "ow", "low", "west", "ne"};
    static const struct {
        const char *word;
        int times;
    } words[] = {{"low", 5}, {"lower", 2}, {"widest", 3}, {"newest", 6}};
    const char *text[16];
    int n = 0;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < words[i].times; k++) text[n++] = words[i].word;
    Texts texts = {.text = text, .n = n};
    const TrainOptions o = {.vocab = 262, .tie_break = TIE_BREAK_BYTES};
    Tokenizer *t;
    assert_int_equal(tokenizer_train(&t, next_text, &texts, &o), 0);
    for (int i = 0; i < 6; i++)
        assert_string_equal(tokenizer_token_bytes(t, 256 + i, NULL), want[i]);
    tokenizer_close(&t);
}

static void test_cs336_merges(void **state) {
    char *text, *want;
    size_t len, n;
    if (!file_exists(CS336 "corpus.en")) skip();
    assert_int_equal(file_read(CS336 "corpus.en", &text, &len), 0);
    assert_int_equal(file_read(CS336 "train-bpe-reference-merges.txt", &want, &n), 0);
    static const char *const special[] = {"<|endoftext|>"};
    const char *const all[] = {text};
    Texts texts = {.text = all, .n = 1};
    const TrainOptions o = {500, 1, special, 1, TIE_BREAK_BYTES, false};
    Tokenizer *t;
    assert_int_equal(tokenizer_train(&t, next_text, &texts, &o), 0);
    char *json = tokenizer_json(t);
    json_t *root;
    assert_int_equal(json_parse(&root, json, strlen(json), "ours", 1), 0);
    const json_t *merges = json_object_get(json_object_get(root, "model"), "merges"), *m;
    char *line = want;
    size_t i;
    assert_int_equal(json_array_size(merges), 243);
    json_array_foreach(merges, i, m) {
        char *end = strchr(line, '\n');
        if (end) *end = 0;
        assert_string_equal(json_string_value(m), line);
        line = end ? end + 1 : line + strlen(line);
    }
    assert_int_equal(*line, 0);
    json_decref(root);
    free(json);
    free(text);
    free(want);
    tokenizer_close(&t);
}

/* One text with separators in it is as many texts, for any number of threads; long ones are shared
 * among the threads. */
static void test_documents_and_threads(void **state) {
    json_t *golden;
    assert_int_equal(json_read_file(&golden, "tests/golden/tokenizer_golden.json"), 0);
    const char *text = json_string_value(json_object_get(golden, "text"));
    static const char *const special[] = {"<|end|>", "<|end|>of", "<|never|>"};
    enum { TIMES = 4000 };
    const char **texts = xmalloc(2 * TIMES * sizeof *texts);
    const size_t len = strlen(text);
    char *one = xmalloc(TIMES * (len + 32)), *o = one;
    for (int i = 0; i < TIMES; i++) {
        texts[2 * i] = text;
        texts[2 * i + 1] = "line";
        o = mempcpy(o, text, len);
        o = mempcpy(o, "<|end|>of", 9); /* not <|end|> and a word "of" */
        o = mempcpy(o, "line<|end|>", 11);
    }
    *o = 0;
    uint64_t hash[4];
    for (int i = 0; i < 4; i++) {
        const char *const whole[] = {one};
        omp_set_num_threads(i % 2 ? 3 : 1);
        Tokenizer *t = i < 2 ? train(texts, 2 * TIMES, 600, 2, special, 3)
                             : train(whole, 1, 600, 2, special, 3);
        hash[i] = tokenizer_hash(t);
        tokenizer_close(&t);
        assert_int_equal(hash[i], hash[0]);
    }
    free(one);
    free(texts);
    json_decref(golden);
}

/* Texts are separate, and a special token is never learned from plain text. */
static void test_special_tokens(void **state) {
    static const char *const texts[] = {"ab", "ab", "ab", "cd", "cd"};
    static const char *const special[] = {"ab", "<|\xe6\xb0\xb4|>"};
    Tokenizer *t = train(texts, 5, 300, 0, special, 2);
    assert_int_equal(tokenizer_vocab(t), 2 + 256 + 1); /* cd */
    assert_int_equal(tokenizer_id(t, "ab"), 0);
    assert_int_equal(tokenizer_id(t, "<|\xe6\xb0\xb4|>"), 1);
    IdList ids = {0};
    assert_int_equal(tokenizer_encode(t, "ab", 2, false, &ids), 0);
    assert_int_equal(ids.n, 2);
    assert_int_equal(tokenizer_encode(t, "ab<|\xe6\xb0\xb4|>", 9, true, &ids), 0);
    assert_int_equal(ids.n, 4);
    assert_int_equal(ids.v[2], 0);
    assert_int_equal(ids.v[3], 1);
    ids_free(&ids);
    char *json = tokenizer_json(t);
    Tokenizer *again;
    if (tokenizer_parse(&again, json, strlen(json), "again") < 0) fail_msg("%s", error_message());
    assert_int_equal(tokenizer_hash(again), tokenizer_hash(t));
    free(json);
    tokenizer_close(&again);
    tokenizer_close(&t);
}

/* Bytes that are no UTF-8 are learned too. */
static void test_any_bytes(void **state) {
    static const char *const texts[] = {"\xff\xfe\xff\xfe", "\xff\xfe", "x\xff\xfe"};
    Tokenizer *t = train(texts, 3, 257, 0, NULL, 0);
    assert_string_equal(tokenizer_token_bytes(t, 256, NULL), "\xff\xfe");
    char *json = tokenizer_json(t);
    Tokenizer *again;
    assert_int_equal(tokenizer_parse(&again, json, strlen(json), "again"), 0);
    assert_string_equal(tokenizer_token_bytes(again, 256, NULL), "\xff\xfe");
    free(json);
    tokenizer_close(&again);
    tokenizer_close(&t);
}

static void test_errors(void **state) {
    static const char *const texts[] = {"ab"};
    static const char *const bad[][2] = {
        {"", "<a>"}, {"<a>", "<a>"}, {"x", "<a>"}, {"<\xff>", "<a>"}};
    Tokenizer *t;
    Texts source = {.text = texts, .n = 1};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(tokenizer_train(&t, next_text, &source,
                                         &(TrainOptions){300, 0, bad[i], 2, TIE_BREAK_HF, false}),
                         ERR_CONFIG);
        assert_null(t);
        assert_non_null(strstr(error_message(), "special token"));
    }
    static const int64_t vocab[] = {-1, 0, 257, (1 << 24) + 1};
    static const char *const special[] = {"<a>", "<b>"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(
            tokenizer_train(&t, next_text, &source,
                            &(TrainOptions){vocab[i], 0, special, 2, TIE_BREAK_HF, false}),
            ERR_CONFIG);
        assert_non_null(strstr(error_message(), "expected 258 "));
    }
    source = (Texts){.text = texts, .n = 1, .rc = ERR_IO}; /* the source fails */
    assert_int_equal(tokenizer_train(&t, next_text, &source,
                                     &(TrainOptions){300, 0, NULL, 0, TIE_BREAK_HF, false}),
                     ERR_IO);
    assert_null(t);
}

/* One piece of a megabyte: as many passes as merges, not as bytes. */
static void test_long_piece(void **state) {
    char *text = xmalloc((1 << 20) + 1);
    memset(text, 'a', 1 << 20);
    text[1 << 20] = 0;
    const char *texts[] = {text};
    Tokenizer *t = train(texts, 1, 270, 0, NULL, 0);
    size_t len;
    tokenizer_token_bytes(t, 269, &len);
    assert_int_equal(len, 1 << 14); /* doubled with each merge */
    free(text);
    tokenizer_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hugging_face_merges),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_tie_break_bytes),
        cmocka_unit_test(test_cs336_example),
        cmocka_unit_test(test_cs336_merges),
        cmocka_unit_test(test_documents_and_threads),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_long_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
