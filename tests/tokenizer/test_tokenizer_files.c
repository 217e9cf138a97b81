/* The tokenizer's files: what is saved is read again, vocab.json with merges.txt, and malformed
 * ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/base/scratch.h"
#include "tests/tokenizer/golden_tokenizer.h"

static void test_save_and_load(void **state) {
    char *path = scratch("tokenizer.json");
    Tokenizer *t;
    assert_int_equal(tokenizer_save(small, path), 0);
    for (int by_folder = 0; by_folder < 2; by_folder++) {
        assert_int_equal(tokenizer_load(&t, by_folder ? scratch_folder : path), 0);
        assert_int_equal(tokenizer_hash(t), tokenizer_hash(small));
        const char *text = json_string_value(json_object_get(golden, "text"));
        IdList a = encode(small, text, strlen(text), true), b = encode(t, text, strlen(text), true);
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.v, b.v, (size_t)a.n * sizeof *a.v);
        ids_free(&a);
        ids_free(&b);
        tokenizer_close(&t);
    }
    free(path);
}

static void test_vocab_json_and_merges_txt(void **state) {
    static const char vocab[] = "{\"a\": 0, \"b\": 1, \"ab\": 2, \"\\u0120\": 3, "
                                "\"\\u0120ab\": 4, \"<|endoftext|>\": 5}";
    static const char merges[] = "#version: 0.2\na b\r\n\n\xc4\xa0 ab";
    static const struct {
        const char *vocab, *merges, *given;
    } names[] = {{"vocab.json", "merges.txt", ""},
                 {"x-vocab.json", "x-merges.txt", "/x"},
                 {"y_vocab.json", "y_merges.txt", "/y_"}};
    for (int i = 0; i < 3; i++) {
        char *path = xasprintf("%s%s", scratch_folder, names[i].given);
        char *vocab_path = scratch(names[i].vocab), *merges_path = scratch(names[i].merges);
        scratch_text(vocab_path, vocab);
        Tokenizer *t;
        assert_int_equal(tokenizer_load(&t, path), ERR_IO); /* no merges yet */
        assert_non_null(strstr(error_message(), names[i].merges));
        assert_null(t);
        scratch_text(merges_path, merges);
        if (tokenizer_load(&t, path) < 0) fail_msg("%s", error_message());
        IdList ids = encode(t, "ab ab<|endoftext|>b", 19, true);
        static const int32_t want[] = {2, 4, 5, 1};
        assert_int_equal(ids.n, 4);
        assert_memory_equal(ids.v, want, sizeof want);
        ids_free(&ids);
        assert_int_equal(tokenizer_encode(t, "a!", 2, false, &ids), ERR_DATA);
        assert_non_null(strstr(error_message(), "0x21"));
        ids_free(&ids);
        tokenizer_close(&t);
        scratch_text(merges_path, "a b\nb c\n");
        assert_int_equal(tokenizer_load(&t, path), ERR_DATA);
        assert_non_null(strstr(error_message(), "merges.txt:2: "));
        assert_non_null(strstr(error_message(), "\"c\" is not in the vocabulary"));
        free(path);
        free(vocab_path);
        free(merges_path);
    }
}

/* added_tokens.json beside either form, and the end of a text that the settings name: not the token
 * that has the usual name. */
static void test_beside(void **state) {
    static const char vocab[] = "{\"a\": 0, \"b\": 1, \"ab\": 2, \"<|endoftext|>\": 3}";
    for (int json = 0; json < 2; json++) {
        char *path[] = {scratch("vocab.json"),
                        scratch("merges.txt"),
                        scratch("added_tokens.json"),
                        scratch("special_tokens_map.json"),
                        scratch("tokenizer_config.json"),
                        scratch("tokenizer.json")};
        Tokenizer *t;
        scratch_text(path[0], vocab);
        scratch_text(path[1], "a b\n");
        if (json) {
            assert_int_equal(tokenizer_load(&t, scratch_folder), 0);
            assert_int_equal(tokenizer_eos(t), 3);
            assert_int_equal(tokenizer_save(t, path[5]), 0);
            tokenizer_close(&t);
        }
        scratch_text(path[2], "{\"<|im_end|>\": 5, \"<x>\": 4, \"<|endoftext|>\": 3}");
        scratch_text(path[3], "{\"additional_special_tokens\": [{\"content\": \"<|im_end|>\"}], "
                              "\"bos_token\": \"<|endoftext|>\"}");
        scratch_text(path[4], "{\"eos_token\": \"<|im_end|>\"}");
        for (int i = 0; i < 1 + json; i++) {
            if (tokenizer_load(&t, i ? path[5] : scratch_folder) < 0)
                fail_msg("%s", error_message());
            assert_int_equal(tokenizer_vocab(t), 6);
            assert_int_equal(tokenizer_special(t, "<|im_end|>"), 5);
            assert_int_equal(tokenizer_special(t, "<x>"), -1);
            assert_int_equal(tokenizer_eos(t), 5);
            IdList ids = encode(t, "a<x>b<|im_end|><|endoftext|>", 28, true);
            static const int32_t want[] = {0, 4, 1, 5, 3};
            assert_int_equal(ids.n, 5);
            assert_memory_equal(ids.v, want, sizeof want);
            ids_free(&ids);
            tokenizer_close(&t);
        }
        for (int i = 0; i < 6; i++) {
            unlink(path[i]);
            free(path[i]);
        }
    }
}

/* What is wrong, and what the message must say. M: a model, P: a pre-tokenizer that are right. */
#define V        "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2}"
#define M        "\"model\":{\"type\":\"BPE\"," V ",\"merges\":[\"a b\"]}"
#define P        "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define ADDED(x) "{" M "," P ",\"added_tokens\":[" x "]}"
#define PRE(x)   "{" M ",\"pre_tokenizer\":" x "}"
#define MODEL(x) "{\"model\":{" x "}," P "}"
#define SPLIT(x)                                                                                   \
    PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\"," \
        "\"pattern\":{\"Regex\":\"" x "\"}},{\"type\":\"ByteLevel\"}]}")
#define NORMAL(x) "{" M "," P "," TWO ",\"normalizer\":" x "}"
#define TWO                                                               \
    "\"added_tokens\":[{\"id\":5,\"content\":\"x\",\"normalized\":true}," \
    "{\"id\":6,\"content\":\"X\",\"normalized\":true}]"
#define REPLACE(kind, x) \
    "{\"type\":\"Replace\",\"pattern\":{\"" kind "\":\"" x "\"},\"content\":\"\"}"
static const struct {
    const char *json, *message;
} malformed[] = {
    {"", ":1"},
    {"{", ":1"},
    {"{" M "," P "} x", ":1"},
    {"\xff", ":1"},
    {"[]", "is an array, expected an object"},
    {"{" P "}", "\"model\" is missing"},
    {"{\"model\":3," P "}", "\"model\" is an integer"},
    {"{" M "}", "\"pre_tokenizer\" is missing"},
    {MODEL("\"type\":\"Unigram\""), "\"Unigram\", expected \"BPE\""},
    {MODEL("\"type\":\"BPE\",\"merges\":[]"), "\"vocab\" is missing"},
    {MODEL("\"vocab\":[],\"merges\":[]"), "\"vocab\" is an array"},
    {MODEL(V), "\"merges\" is missing"},
    {MODEL(V ",\"merges\":\"a b\""), "\"merges\" is a string"},
    {MODEL(V ",\"merges\":[\"a b\",\"ab\"]"), "\"merges\"[1]: merge \"ab\""},
    {MODEL(V ",\"merges\":[\"a b a\"]"), "one space"},
    {MODEL(V ",\"merges\":[\" a\"]"), "not in the vocabulary"},
    {MODEL(V ",\"merges\":[\"b a\"]"), "\"ba\" is not in the vocabulary"},
    {MODEL(V ",\"merges\":[[\"a\"]]"), "\"merges\"[0]: expected"},
    {MODEL(V ",\"merges\":[[\"a\",1]]"), "\"merges\"[0]: expected"},
    {MODEL(V ",\"merges\":[7]"), "found an integer"},
    {MODEL(V ",\"merges\":[],\"dropout\":0.1"), "dropout"},
    {MODEL(V ",\"merges\":[],\"byte_fallback\":true"), "byte_fallback"},
    {MODEL(V ",\"merges\":[],\"end_of_word_suffix\":\"</w>\""), "end_of_word_suffix"},
    {MODEL("\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]"),
     "token \"b\": another token has the same id 0"},
    {MODEL("\"vocab\":{\"a\":-1},\"merges\":[]"), "token \"a\": id -1"},
    {MODEL("\"vocab\":{\"a\":99999999999},\"merges\":[]"), "id 99999999999"},
    {MODEL("\"vocab\":{\"a\":\"0\"},\"merges\":[]"), "token \"a\" is a string"},
    {MODEL("\"vocab\":{\"a\":1.5},\"merges\":[]"), "token \"a\" is a number"},
    {MODEL("\"vocab\":{\"\xe6\xb0\xb4\":0,\"a\":1,\"\xe6\xb0\xb4"
           "a\":2},"
           "\"merges\":[\"\xe6\xb0\xb4 a\"]"),
     "byte alphabet"},
    {PRE("null"), "\"pre_tokenizer\" is null"},
    {PRE("{\"type\":\"Metaspace\"}"), "Metaspace is not supported"},
    {PRE("{\"type\":\"Sequence\",\"pretokenizers\":[]}"), "without ByteLevel"},
    {PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\"}]}"), "without ByteLevel"},
    {PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":"
         "\"Dropped\"},{\"type\":\"ByteLevel\"}]}"),
     "has behavior \"Dropped\""},
    {PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\","
         "\"pattern\":{}},{\"type\":\"ByteLevel\"}]}"),
     "lacks a \"pattern\""},
    {SPLIT("a("), "does not compile"},
    {SPLIT("[a"), "does not compile: premature end of char-class"},
    {SPLIT("\\\\p{Klingon}"), "invalid character property name {Klingon}"},
    {NORMAL("{\"type\":\"Nmt\"}"), "\"normalizer\": Nmt is not supported: expected none, NFC"},
    {NORMAL("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":"
            "\"BertNormalizer\"}]}"),
     "\"normalizer\": BertNormalizer is not supported"},
    {NORMAL("{\"type\":\"Prepend\"}"), "Prepend lacks a text"},
    {NORMAL("{\"type\":\"Prepend\",\"prepend\":\"\"}"), "Prepend: an empty"},
    {NORMAL("{\"type\":\"Replace\",\"content\":\"x\"}"), "Replace lacks"},
    {NORMAL(REPLACE("String", "")), "Replace: an empty pattern"},
    {NORMAL(REPLACE("Regex", "a(")), "does not compile"},
    {NORMAL(REPLACE("Regex", "a*")), "pattern \"a*\" may match nothing"},
    {NORMAL(REPLACE("String", "x")), "it leaves nothing of the added token \"x\""},
    {NORMAL("{\"type\":\"Lowercase\"}"), "the added tokens \"x\" and \"X\" one"},
    {"{" M "," P ",\"decoder\":{\"type\":\"WordPiece\"}}", "\"decoder\" is WordPiece"},
    {ADDED("3"), "\"added_tokens\"[0] is an integer"},
    {ADDED("{\"content\":\"x\"}"), "lacks an integer \"id\""},
    {ADDED("{\"id\":3,\"content\":\"\"}"), "a text \"content\""},
    {ADDED("{\"id\":1,\"content\":\"x\"}"), "another token has the same id 1"},
    {ADDED("{\"id\":3,\"content\":\"ab\"}"), "has id 3, but 2 in"},
    {ADDED("{\"id\":3,\"content\":\"x\"},{\"id\":4,\"content\":\"x\"}"), "is there twice"},
    {ADDED("{\"id\":3,\"content\":\"x\",\"lstrip\":1}"), "\"lstrip\" is an integer"},
    {MODEL(V ",\"merges\":[[\"ab\",\"\"]]"), "\"\" is not in the vocabulary"}, /* ab makes ab */
    {MODEL(V ",\"merges\":[\"ab ab\"]"), "\"abab\" is not in the vocabulary"},
    {MODEL(V ",\"merges\":[],\"unk_token\":\"?\""), "\"unk_token\" \"?\" is not"},
    {MODEL("\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]"), ":1"},
    {PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":"
         "\"ByteLevel\"}]}"),
     "a second ByteLevel is not supported here"},
};

static void test_malformed(void **state) {
    Tokenizer *t;
    const char *right = "{" M "," P "}";
    assert_int_equal(tokenizer_parse(&t, right, strlen(right), "right.json"), 0);
    tokenizer_close(&t);
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        const char *json = malformed[i].json;
        if (tokenizer_parse(&t, json, strlen(json), "the file.json") != ERR_DATA) {
            fail_msg("%s: accepted", json);
        }
        assert_null(t);
        const char *found = error_message();
        if (!strstr(found, malformed[i].message) || strncmp(found, "the file.json:", 14) != 0 ||
            strchr(found, '\n')) {
            fail_msg("%s:\n  %s\n  expected: %s", json, found, malformed[i].message);
        }
    }
    assert_int_equal(tokenizer_load(&t, "/no/such/tokenizer.json"), ERR_IO);
    assert_non_null(strstr(error_message(), "/no/such/tokenizer.json"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_save_and_load, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(test_vocab_json_and_merges_txt, scratch_make,
                                        scratch_remove),
        cmocka_unit_test_setup_teardown(test_beside, scratch_make, scratch_remove),
        cmocka_unit_test(test_malformed),
    };
    return cmocka_run_group_tests(tests, golden_setup, golden_teardown);
}
