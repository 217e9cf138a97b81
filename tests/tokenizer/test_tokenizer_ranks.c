/* tiktoken's ranks: ids worked by hand, joins written in the plainest way, and malformed files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/tokenizer/golden_tokenizer.h"

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* "base64 rank\n" of the 256 bytes and of n more tokens; malloc'd. */
static char *ranks(const char *const *more, int n) {
    char *text = xmalloc(4096 + 64 * (size_t)n), *o = text;
    for (int i = 0; i < 256 + n; i++) {
        const char byte[2] = {(char)i, 0};
        const char *s = i < 256 ? byte : more[i - 256];
        const size_t len = i < 256 ? 1 : strlen(s);
        for (size_t k = 0; k < len; k += 3) {
            uint32_t bits = 0;
            for (size_t j = 0; j < 3; j++) bits = bits << 8 | (k + j < len ? (uint8_t)s[k + j] : 0);
            for (size_t j = 0; j < 4; j++)
                *o++ = j <= len - k ? base64_digits[bits >> (18 - 6 * j) & 63] : '=';
        }
        o += sprintf(o, " %d\n", i);
    }
    return text;
}

/* Worked by hand: by ranks "abc" is ab + c although bc is a token too; "cab" is reached by no merge
 * of lower rank (ab comes first, and c ab is joined at its own rank); "xyz" has no parts at all. */
static void test_ranks(void **state) {
    static const char *const more[] = {"ab", "bc", "abc", "cab", "xyz"};
    static const struct {
        const char *text;
        int32_t ids[8];
    } cases[] = {{"ab", {256}},
                 {"abc", {258}},
                 {"cab", {259}},
                 {"bcab", {257, 256}},
                 {"abab", {256, 256}},
                 {"xyz", {260}},
                 {"xyzx", {'x', 'y', 'z', 'x'}}};
    char *text = ranks(more, 5);
    Tokenizer *t, *again;
    if (tokenizer_parse_tiktoken(&t, text, strlen(text), "gpt2", "five.tiktoken") < 0)
        fail_msg("%s", error_message());
    free(text);
    char *json = tokenizer_json(t);
    if (tokenizer_parse(&again, json, strlen(json), "json") < 0) fail_msg("%s", error_message());
    /* 50256 does not follow 260, so Hugging Face's library finds it only in the vocabulary. */
    assert_non_null(strstr(strstr(json, "\"vocab\""), "\"<|endoftext|>\": 50256"));
    assert_int_equal(tokenizer_special(again, "<|endoftext|>"), 50256);
    assert_int_equal(tokenizer_hash(again), tokenizer_hash(t));
    free(json);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int k = 0; k < 2; k++) {
            IdList ids = encode(k ? again : t, cases[i].text, strlen(cases[i].text), false);
            assert_int_equal(ids.v[0], cases[i].ids[0]);
            for (int64_t j = 0; j < 8 && cases[i].ids[j]; j++) {
                assert_true(j < ids.n);
                assert_int_equal(ids.v[j], cases[i].ids[j]);
            }
            ids_free(&ids);
        }
    }
    assert_int_equal(tokenizer_special(t, "<|endoftext|>"), 50256);
    tokenizer_close(&t);
    tokenizer_close(&again);
}

/* tiktoken's rule, as plainly as it can be written: join the neighbours that together are the token
 * of lowest rank, leftmost first. Returns the ids. */
static IdList join_plainly(const char *const *more, int n, const char *text) {
    IdList ids = {0};
    size_t end[64]; /* of parts */
    int parts = (int)strlen(text);
    assert_true(parts <= 64);
    for (int i = 0; i < parts; i++) {
        end[i] = (size_t)i + 1;
        ids_push(&ids, (uint8_t)text[i]);
    }
    for (;;) {
        int best = n, at = 0;
        for (int i = 0; i + 1 < parts; i++) {
            const size_t begin = i > 0 ? end[i - 1] : 0, len = end[i + 1] - begin;
            for (int k = 0; k < best; k++)
                if (strlen(more[k]) == len && memcmp(more[k], text + begin, len) == 0)
                    best = k, at = i;
        }
        if (best == n) return ids;
        ids.v[at] = 256 + best;
        for (int i = at; i + 1 < parts; i++) end[i] = end[i + 1];
        for (int i = at + 1; i + 1 < parts; i++) ids.v[i] = ids.v[i + 1];
        ids.n = --parts;
    }
}

/* Letters of one to four bytes, with merges within them, of them and across them: pieces are
 * encoded in parts where no merge goes across. */
static void test_parts_against_plain_joins(void **state) {
    static const char *const more[] = {
        "\xe6\xb0",                 /* the beginning of U+6C34 */
        "\xe6\xb0\xb4",             /* that character */
        "\x81\xab",                 /* the end of U+706B */
        "\xb1\xe7",                 /* across characters: the end of U+5C71, a beginning */
        "\xe5\xb1",                 /* which goes before that, where it can */
        "\xe6\xb0\xb4\xe6\xb0\xb4", /* two characters */
        "\xe7\x81\xab",
        "\xc3\xa9",
        "\xa9\xe6", /* loses to U+00E9 */
        "a\xc3\xa9",
        "\xa0\x80",
        "\xb4\xe6\xb0", /* the end of U+6C34 and a beginning: never reached, or before */
        "\xf0\xa0",
        "\xf0\xa0\xa0\x80",
        "\xab\xf0\xa0",
    };
    static const char *const letters[] = {
        "\xe6\xb0\xb4",     "\xe7\x81\xab", "\xe5\xb1\xb1", "\xc3\xa9", "a",
        "\xf0\xa0\xa0\x80", "\xe3\x82\xa2"};
    const int n = sizeof more / sizeof *more;
    char *file = ranks(more, n);
    Tokenizer *ranked, *merged; /* the second has merges only: ignore_merges is off */
    assert_int_equal(tokenizer_parse_tiktoken(&ranked, file, strlen(file), "gpt2", "x"), 0);
    free(file);
    char *json = tokenizer_json(ranked), *on = strstr(json, "\"ignore_merges\": true");
    assert_non_null(on);
    memcpy(on, "\"ignore_merges\":false", strlen("\"ignore_merges\":false"));
    assert_int_equal(tokenizer_parse(&merged, json, strlen(json), "x"), 0);
    free(json);
    for (int round = 0; round < 20000; round++) {
        char text[64] = "";
        while (strlen(text) < 59 && random64() % 16)
            strcat(text, letters[random64() % (sizeof letters / sizeof *letters)]);
        IdList want = join_plainly(more, n, text);
        for (int k = 0; k < 2; k++) {
            IdList ids = encode(k ? merged : ranked, text, strlen(text), false);
            assert_int_equal(ids.n, want.n);
            if (ids.n) assert_memory_equal(ids.v, want.v, (size_t)ids.n * sizeof *ids.v);
            ids_free(&ids);
        }
        ids_free(&want);
    }
    tokenizer_close(&ranked);
    tokenizer_close(&merged);
}

static void test_malformed_ranks(void **state) {
    static const char *const same[] = {"ab", "ab"};
    static const struct {
        const char *line, *message;
    } cases[] = {{"YWI", ":1: expected a token in base64"},
                 {"YWI= ", ":1: expected"},
                 {"YWI= x", ":1: expected"},
                 {"YWI= -1", ":1: expected"},
                 {"YWI= 9999999999", ":1: expected"},
                 {"YWI= 99999999", ":1: id 99999999, expected"},
                 {"YWI 1", ":1: \"YWI\" is not base64"},
                 {"Y?I= 1", ":1: \"Y?I=\" is not base64"},
                 {"=WI= 1", "is not base64"},
                 {"YWJ= 1", "is not base64"}, /* a bit of a byte that is not there */
                 {" 1", ":1: \"\" is not base64"},
                 {"YQ== 1\nYg== 1\n", ":2: another token has the same id 1"},
                 {"YQ== 0", "no token for byte 0x00"},
                 {"", "no token for byte 0x00"}};
    Tokenizer *t;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *line = cases[i].line;
        if (tokenizer_parse_tiktoken(&t, line, strlen(line), "gpt2", "x.tiktoken") != ERR_DATA)
            fail_msg("accepted: %s", line);
        assert_null(t);
        if (strncmp(error_message(), "x.tiktoken:", 11) ||
            !strstr(error_message(), cases[i].message))
            fail_msg("%s: %s", line, error_message());
    }
    char *text = ranks(same, 2);
    assert_int_equal(tokenizer_parse_tiktoken(&t, text, strlen(text), "gpt2", "x"), ERR_DATA);
    assert_non_null(strstr(error_message(), "ranks 256 and 257 are the same token"));
    text[strlen(text) - strlen("YWI= 257\n")] = 0;
    assert_int_equal(tokenizer_parse_tiktoken(&t, text, strlen(text), NULL, "x"), ERR_CONFIG);
    assert_non_null(strstr(error_message(), "expected gpt2, r50k"));
    assert_int_equal(tokenizer_parse_tiktoken(&t, text, strlen(text), "y", "x"), ERR_CONFIG);
    assert_non_null(strstr(error_message(), "no encoding \"y\""));
    assert_int_equal(tokenizer_parse_tiktoken(&t, text, strlen(text), NULL, "d/o200k.x"), 0);
    tokenizer_close(&t);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_parts_against_plain_joins),
        cmocka_unit_test(test_malformed_ranks),
    };
    return cmocka_run_group_tests(tests, golden_setup, golden_teardown);
}
