/* Encode and decode: every byte comes back, and the ids are those of a merge loop written here in
 * the plainest way, whatever the length, the bytes and the threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/tokenizer/golden_tokenizer.h"

/* Any bytes, in texts that are mostly UTF-8, mostly not, and with special tokens within. */
static void test_bytes_come_back(void **state) {
    static const char *const parts[] = {"the river", " ", "\n", "\xe6\xb0\xb4",  "\xf0\x9f\x99\x82",
                                        "\xc3",      "'", "7",  "<|endoftext|>", "\xed\xa0\x80"};
    char text[256];
    for (int round = 0; round < 3000; round++) {
        size_t n = 0;
        while (n < sizeof text - 16 && random64() % 64) {
            if (round % 2) {
                text[n++] = (char)random64();
            } else {
                const char *p = parts[random64() % (sizeof parts / sizeof *parts)];
                memcpy(text + n, p, strlen(p));
                n += strlen(p);
            }
        }
        IdList ids = encode(small, text, n, round % 3 == 0);
        assert_decodes(small, &ids, text, n);
        ids_free(&ids);
    }
}

/* A long text, which threads share, has the ids of its documents. */
static void test_long_text(void **state) {
    const char *text = json_string_value(json_object_get(golden, "text"));
    const size_t len = strlen(text), times = (5 << 20) / len;
    char *many = xmalloc(times * len);
    for (size_t i = 0; i < times; i++) memcpy(many + i * len, text, len);
    IdList ids = encode(small, many, times * len, false), one = encode(small, text, len, false);
    assert_int_equal(ids.n, one.n * (int64_t)times); /* it begins and ends with a word */
    for (int64_t i = 0; i < ids.n; i++) assert_int_equal(ids.v[i], one.v[i % one.n]);
    ids_free(&ids);
    ids_free(&one);
    ids = encode(small, many, (4 << 20) - 8, false); /* one part more than its size tells */
    assert_decodes(small, &ids, many, (4 << 20) - 8);
    ids_free(&ids);
    free(many);
}

/* A stray byte splits the text as U+FFFD would: words beside it keep their ids. */
static void test_invalid_utf8_splits_as_a_symbol(void **state) {
    static const struct {
        const char *text, *before, *stray, *after;
    } cases[] = {{"the\xffriver", "the", "\xff", "river"},
                 {"the \xff river", "the", " \xff", " river"},
                 {"12\xe6\xb0, by", "12", "\xe6\xb0,", " by"},
                 {"\xf0\x9f\x99  we", "", "\xf0\x9f\x99", "  we"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        IdList ids = encode(small, cases[i].text, strlen(cases[i].text), false), want = {0};
        const char *const parts[] = {cases[i].before, cases[i].stray, cases[i].after};
        for (int k = 0; k < 3; k++) {
            tokenizer_encode(small, parts[k], strlen(parts[k]), false, &want);
        }
        assert_int_equal(ids.n, want.n);
        assert_memory_equal(ids.v, want.v, (size_t)ids.n * sizeof *ids.v);
        ids_free(&ids);
        ids_free(&want);
    }
}

/* The rule, as plainly as it can be written: merge the pair of lowest rank, leftmost first. */
static IdList merge_plainly(const char *text, size_t len) {
    const json_t *model = json_object_get(json_object_get(golden, "tokenizer"), "model");
    const json_t *merges = json_object_get(model, "merges"), *m;
    char part[512][64];
    size_t n = len, rank;
    assert_true(len < 512);
    for (size_t i = 0; i < n; i++) snprintf(part[i], sizeof part[i], "%c", text[i]);
    json_array_foreach(merges, rank, m) {
        const char *a = json_string_value(json_array_get(m, 0));
        const char *b = json_string_value(json_array_get(m, 1));
        for (size_t i = 0; i + 1 < n; i++) {
            if (strcmp(part[i], a) || strcmp(part[i + 1], b)) continue;
            strcat(part[i], part[i + 1]);
            n--;
            for (size_t k = i + 1; k < n; k++) memcpy(part[k], part[k + 1], sizeof part[k]);
        }
    }
    IdList ids = {0};
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_object_get(json_object_get(model, "vocab"), part[i]);
        ids_push(&ids, (int32_t)json_integer_value(id));
    }
    return ids;
}

/* Pieces of all lengths, so both ways of merging are met, on either side of their border. */
static void test_merges_against_plain_loop(void **state) {
    char text[400];
    for (size_t len = 1; len < sizeof text; len += len < 100 ? 1 : 37) {
        for (size_t i = 0; i < len; i++) text[i] = "abcaeothr"[random64() % 9];
        IdList ids = encode(small, text, len, false), want = merge_plainly(text, len);
        assert_int_equal(ids.n, want.n);
        assert_memory_equal(ids.v, want.v, (size_t)ids.n * sizeof *ids.v);
        ids_free(&ids);
        ids_free(&want);
    }
}

static void test_empty(void **state) {
    IdList ids = encode(small, NULL, 0, true);
    assert_int_equal(ids.n, 0);
    char *text;
    size_t len = 1;
    assert_int_equal(tokenizer_decode(small, NULL, 0, false, &text, &len), 0);
    assert_int_equal(len, 0);
    assert_string_equal(text, "");
    free(text);
}

/* 4 MB of one letter, then of spaces: a quadratic way would take minutes. */
static void test_long_piece(void **state) {
    const size_t n = 4 << 20;
    char *text = xmalloc(n);
    for (int k = 0; k < 3; k++) {
        memset(text, "a \xff"[k], n);
        const clock_t start = clock();
        IdList ids = encode(small, text, n, false);
        assert_decodes(small, &ids, text, n);
        assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 20.0);
        ids_free(&ids);
    }
    free(text);
}

static void test_special_tokens(void **state) {
    static const char text[] = "the<|endoftext|><|pad|>river";
    const int32_t eos = tokenizer_id(small, "<|endoftext|>"), pad = tokenizer_id(small, "<|pad|>");
    assert_int_equal(eos, 0);
    assert_int_equal(pad, 1);
    assert_int_equal(tokenizer_eos(small), 0);
    assert_int_equal(tokenizer_id(small, "no such token"), -1);
    IdList ids = encode(small, text, strlen(text), true);
    assert_int_equal(ids.v[1], eos);
    assert_int_equal(ids.v[2], pad);
    char *plain;
    assert_int_equal(tokenizer_decode(small, ids.v, ids.n, true, &plain, NULL), 0);
    assert_string_equal(plain, "theriver");
    free(plain);
    ids_free(&ids);
    ids = encode(small, text, strlen(text), false); /* a user's text */
    for (int64_t i = 0; i < ids.n; i++) assert_true(ids.v[i] != eos && ids.v[i] != pad);
    assert_decodes(small, &ids, text, strlen(text));
    ids_free(&ids);
}

static void test_unknown_ids(void **state) {
    const int32_t ids[][2] = {{5, 420}, {5, -1}, {INT32_MAX, 5}};
    for (int i = 0; i < 3; i++) {
        char *text = NULL;
        assert_int_equal(tokenizer_decode(small, ids[i], 2, false, &text, NULL), ERR_DATA);
        assert_non_null(strstr(error_message(), "0 to 419"));
    }
    size_t len;
    assert_null(tokenizer_token_bytes(small, 420, &len));
    assert_int_equal(len, 0);
    assert_string_equal(tokenizer_token_bytes(small, 1, &len), "<|pad|>");
    assert_int_equal(len, 7);
}

static void test_threads(void **state) {
    const char *text = json_string_value(json_object_get(golden, "text"));
    const size_t len = strlen(text);
    IdList want = encode(small, text, len, true);
    int wrong = 0;
#pragma omp parallel for num_threads(4) reduction(+ : wrong)
    for (int i = 0; i < 64; i++) {
        IdList ids = {0};
        wrong += tokenizer_encode(small, text, len, true, &ids) < 0 || ids.n != want.n ||
                 memcmp(ids.v, want.v, (size_t)want.n * sizeof *want.v) != 0;
        ids_free(&ids);
    }
    assert_int_equal(wrong, 0);
    ids_free(&want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_come_back),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_invalid_utf8_splits_as_a_symbol),
        cmocka_unit_test(test_merges_against_plain_loop),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_long_piece),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_unknown_ids),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, golden_setup, golden_teardown);
}
