/* Text on its way to pieces: the splitters by hand against PCRE2, and form C against Python's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/tokenizer_impl.h" /* pretokenize, nfc */
#include "tests/data/golden_tokenizer.h"

/* Text that looks for the borders of patterns: parts that they treat differently, characters from
 * anywhere, now and then a byte. */
static size_t random_text(char *text, size_t room) {
    static const char *const parts[] = {"a",
                                        "Z",
                                        "word",
                                        "WORD",
                                        " ",
                                        "  ",
                                        "\n",
                                        "\r\n",
                                        "\t",
                                        "'",
                                        "'s",
                                        "'LL",
                                        "'re",
                                        "1",
                                        "234",
                                        ".",
                                        "!?",
                                        "/",
                                        "//",
                                        "_",
                                        "\xc3\xa9",
                                        "\xcc\x81",
                                        "\xc7\x85",
                                        "\xca\xb0",
                                        "\xe6\xb0\xb4",
                                        "'\xc5\xbf",
                                        "\xc2\xa0",
                                        "\xe3\x80\x80",
                                        "\xe2\x80\xa8",
                                        "\xc2\xb2",
                                        "\xe2\x85\xa7"};
    size_t n = 0;
    while (n + 8 < room && random64() % 32) {
        const uint64_t r = random64() % 16;
        uint32_t c = (uint32_t)(random64() % (r & 1 ? 0x110000 : 0x3000));
        if (r == 0) {
            text[n++] = (char)random64();
        } else if (r > 4 || c - 0xd800 < 0x800 || c < 0x80) {
            const char *p = parts[random64() % (sizeof parts / sizeof *parts)];
            memcpy(text + n, p, strlen(p));
            n += strlen(p);
        } else {
            const int len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
            for (int i = len - 1; i > 0; i--, c >>= 6)
                text[n + (size_t)i] = (char)(0x80 | (c & 0x3f));
            text[n] = (char)((len == 2 ? 0xc0 : len == 3 ? 0xe0 : 0xf0) | c);
            n += (size_t)len;
        }
    }
    return n;
}

typedef struct Ends {
    const char *text;
    size_t end[256];
    int n;
} Ends;

static int note_end(void *ctx, const char *piece, size_t len) {
    Ends *e = ctx;
    e->end[e->n++] = (size_t)(piece - e->text) + len;
    return 0;
}

/* By hand is as by regular expression, and a text that is cut where it may be is the whole text. */
static void test_splitters_against_pcre2(void **state) {
    const char *const patterns[] = {
        GPT2_PATTERN, CL100K_PATTERN, O200K_PATTERN,
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"};
    char text[256];
    int cuts = 0;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        Pretokenizer *p = pretokenizer_new();
        assert_non_null(splitter_find(patterns[i]));
        assert_int_equal(pretokenizer_add(p, patterns[i], BEHAVIOR_ISOLATED, false), 0);
        for (int round = 0; round < 20000; round++) {
            const size_t n = random_text(text, sizeof text);
            Ends hand = {.text = text}, regex = {.text = text}, parts = {.text = text};
            pretokenize(p, text, n, note_end, &hand);
            pretokenize_by_hand = false;
            pretokenize(p, text, n, note_end, &regex);
            pretokenize_by_hand = true;
            const size_t seen = n ? random64() % n + 1 : 0, cut = pretokenizer_cut(p, text, seen);
            cuts += cut > 0;
            assert_true(cut <= seen);
            pretokenize(p, text, cut, note_end, &parts);
            pretokenize(p, text + cut, n - cut, note_end, &parts);
            if (hand.n != regex.n || memcmp(hand.end, regex.end, (size_t)hand.n * sizeof(size_t)) ||
                parts.n != hand.n || memcmp(parts.end, hand.end, (size_t)hand.n * sizeof(size_t))) {
                fprintf(stderr, "pattern %zu, cut at %zu:", i, cut);
                for (size_t k = 0; k < n; k++) fprintf(stderr, " %02x", (uint8_t)text[k]);
                fprintf(stderr, "\nby hand:");
                for (int k = 0; k < hand.n; k++) fprintf(stderr, " %zu", hand.end[k]);
                fprintf(stderr, "\nby regex:");
                for (int k = 0; k < regex.n; k++) fprintf(stderr, " %zu", regex.end[k]);
                fail_msg("other pieces");
            }
        }
        pretokenizer_free(p);
    }
    assert_true(cuts > 20000); /* the test is one */
}

/* Against Python's unicodedata; and bytes that are no UTF-8 between. */
static void test_nfc(void **state) {
    json_t *pairs, *p;
    size_t i, n;
    assert_int_equal(json_read_file(&pairs, "tests/golden/nfc.json"), 0);
    json_array_foreach(pairs, i, p) {
        const char *text = json_string_value(json_array_get(p, 0));
        const char *want = json_string_value(json_array_get(p, 1));
        char *form = nfc(text, strlen(text), &n);
        assert_int_equal(!form, strcmp(text, want) == 0);
        if (form && (n != strlen(want) || memcmp(form, want, n) != 0))
            fail_msg("\"%s\": found \"%.*s\", expected \"%s\"", text, (int)n, form, want);
        free(form);
    }
    assert_true(i > 1000);
    json_decref(pairs);
    static const char bad[] = "\xff\xcc\x81\xc3\x65\xcc\x81\xcc",
                      good[] = "\xff\xcc\x81\xc3\xc3\xa9\xcc";
    char *form = nfc(bad, strlen(bad), &n);
    assert_int_equal(n, strlen(good));
    assert_memory_equal(form, good, n);
    free(form);
}

/* Where text may be cut for the pieces it may be cut for form C. */
static void test_nfc_in_parts(void **state) {
    static const char *const splits[] = {"NFC", "NFC, Qwen 2's splitting"};
    json_t *pairs;
    char text[600];
    int cuts = 0;
    assert_int_equal(json_read_file(&pairs, "tests/golden/nfc.json"), 0);
    for (size_t k = 0; k < 2; k++) {
        const json_t *c;
        size_t i;
        Tokenizer *t = NULL;
        json_array_foreach(json_object_get(golden, "cases"), i, c) {
            if (strcmp(json_string_value(json_object_get(c, "name")), splits[k]) != 0) continue;
            t = from_case(c);
        }
        assert_non_null(t);
        for (i = 0; i + 1 < json_array_size(pairs); i++) {
            snprintf(text, sizeof text, "%.250s%s%.250s",
                     json_string_value(json_array_get(json_array_get(pairs, i), 0)),
                     i % 2 ? " " : "\n",
                     json_string_value(json_array_get(json_array_get(pairs, i + 1), 0)));
            const size_t len = strlen(text), cut = tokenizer_cut(t, text, len);
            IdList ids = encode(t, text, cut, false), whole = encode(t, text, len, false);
            tokenizer_encode(t, text + cut, len - cut, false, &ids);
            assert_int_equal(ids.n, whole.n);
            assert_memory_equal(ids.v, whole.v, (size_t)ids.n * sizeof *ids.v);
            cuts += cut > 0;
            ids_free(&ids);
            ids_free(&whole);
        }
        tokenizer_close(&t);
    }
    assert_true(cuts > 1000);
    json_decref(pairs);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_splitters_against_pcre2),
        cmocka_unit_test(test_nfc),
        cmocka_unit_test(test_nfc_in_parts),
    };
    return cmocka_run_group_tests(tests, golden_setup, golden_teardown);
}
