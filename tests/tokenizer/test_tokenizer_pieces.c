/* Text on its way to pieces: the splitters by hand against Oniguruma, and the normalizers against
 * Hugging Face's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "data/tokenizer/tokenizer_impl.h" /* pretokenize, normalize */
#include "tests/tokenizer/golden_tokenizer.h"

static size_t put_utf8(uint32_t c, char *s) {
    if (c < 0x80) return *s = (char)c, 1;
    const int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) s[i] = (char)(0x80 | (c & 0x3f));
    s[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | c);
    return (size_t)n;
}

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
        const uint32_t c = (uint32_t)(random64() % (r & 1 ? 0x110000 : 0x3000));
        if (r == 0) {
            text[n++] = (char)random64();
        } else if (r > 4 || c - 0xd800 < 0x800 || c < 0x80) {
            const char *p = parts[random64() % (sizeof parts / sizeof *parts)];
            memcpy(text + n, p, strlen(p));
            n += strlen(p);
        } else {
            n += put_utf8(c, text + n);
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

#define DEEPSEEK                                                                                \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}" \
    "\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define TEKKEN                                                                                   \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"  \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" \
    "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* By hand is as by regular expression, and a text that is cut where it may be is the whole text. */
static void test_splitters_against_oniguruma(void **state) {
    const char *const patterns[] = {
        GPT2_PATTERN,
        CL100K_PATTERN,
        O200K_PATTERN,
        "\\p{N}",
        "\\p{N}+",
        "\\p{N}{1,3}",
        "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        DEEPSEEK,
        TEKKEN,
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"};
    char text[256];
    int cuts = 0;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        Pretokenizer *p = pretokenizer_new();
        assert_non_null(splitter_find(patterns[i]));
        assert_int_equal(pretokenizer_add(p, &(SplitStep){.pattern = patterns[i]}), 0);
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

/* Several matches of one search are those of as many searches: within a group that captures there is
 * one search a match. */
static void test_matches_in_one_search(void **state) {
    static const char *const patterns[] = {DEEPSEEK,
                                           "\\w+|\\W",
                                           "a*",
                                           "(?=[aeiou ])|t+|(?<=\n)",
                                           "\\b",
                                           "(?i)ss|\\s+(?!\\S)",
                                           "[^\\w]",
                                           "\\G[a-z]|\\d",
                                           "\\X",
                                           "\\w\\K\\w",
                                           "(?x) \\w # a letter",
                                           "(?<!x)\\S|^|\\z"};
    char text[256], one[512];
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        Pretokenizer *a = pretokenizer_new(), *b = pretokenizer_new();
        const bool comment = strncmp(patterns[i], "(?x)", 4) == 0;
        snprintf(one, sizeof one, comment ? "(%s\n)" : "(%s)", patterns[i]);
        for (int steps = 0; steps < 2; steps++) {
            const SplitStep s = {.pattern = patterns[i], .behavior = (Behavior)(i % 4)};
            assert_int_equal(pretokenizer_add(a, &s), 0);
            assert_int_equal(
                pretokenizer_add(b, &(SplitStep){one, s.behavior, false, false, false}), 0);
            assert_int_equal(pretokenizer_add(a, &(SplitStep){.pattern = "[a-z]\\w"}), 0);
            assert_int_equal(pretokenizer_add(b, &(SplitStep){.pattern = "([a-z]\\w)"}), 0);
        }
        pretokenize_by_hand = false;
        for (int round = 0; round < 3000; round++) {
            const size_t n = random_text(text, sizeof text);
            Ends many = {.text = text}, each = {.text = text};
            pretokenize(a, text, n, note_end, &many);
            pretokenize(b, text, n, note_end, &each);
            if (many.n != each.n || memcmp(many.end, each.end, (size_t)many.n * sizeof(size_t)))
                fail_msg("\"%s\" makes other pieces of \"%.*s\"", patterns[i], (int)n, text);
        }
        pretokenize_by_hand = true;
        pretokenizer_free(a);
        pretokenizer_free(b);
    }
}

static int hash_piece(void *ctx, const char *piece, size_t len) {
    uint64_t *hash = ctx;
    *hash = (*hash ^ len) * 0x100000001b3u;
    for (size_t i = 0; i < len; i++) *hash = (*hash ^ (uint8_t)piece[i]) * 0x100000001b3u;
    return 0;
}

/* In a long text words are remembered that the steps leave whole; lines alone are short. */
static void test_words_remembered(void **state) {
    enum { LINES = 500, BYTES = 64 };
    static const SplitStep steps[] = {
        {.pattern = "\n"},
        {.pattern = "\\s?\\w+"},
        {.pattern = "[^\\w\\s]", .behavior = BEHAVIOR_REMOVED},
        {.pattern = "\\d\\d", .behavior = BEHAVIOR_CONTIGUOUS},
        {.pattern = GPT2_PATTERN, .byte_level = true, .prefix_space = true},
        {.pattern = "[^a-z]w|r", .behavior = BEHAVIOR_MERGED_WITH_PREVIOUS}};
    char text[LINES * (BYTES + 1)];
    for (size_t first = 0; first < 2; first++) { /* ByteLevel with and without a prefix */
        Pretokenizer *p = pretokenizer_new();
        uint64_t whole = 0, lines = 0;
        size_t n = 0;
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            SplitStep s = steps[i];
            s.prefix_space &= first == 1;
            assert_int_equal(pretokenizer_add(p, &s), 0);
        }
        for (int i = 0; i < LINES; i++) {
            const size_t len = random_text(text + n, BYTES);
            pretokenize(p, text + n, len, hash_piece, &lines);
            text[n += len] = '\n';
            pretokenize(p, text + n++, 1, hash_piece, &lines);
        }
        assert_true(n > 8192);
        pretokenize(p, text, n, hash_piece, &whole);
        assert_int_equal(whole, lines);
        pretokenizer_free(p);
    }
}

static json_t *forms; /* tests/golden/forms.json: Hugging Face's */

/* And bytes that are no UTF-8 between. */
static void test_nfc(void **state) {
    const json_t *p;
    size_t i, n;
    json_array_foreach(json_object_get(forms, "nfc"), i, p) {
        const char *text = json_string_value(json_array_get(p, 0));
        const char *want = json_string_value(json_array_get(p, 1));
        char *form = unicode_form(FORM_C, text, strlen(text), &n);
        assert_int_equal(!form, strcmp(text, want) == 0);
        if (form && (n != strlen(want) || memcmp(form, want, n) != 0))
            fail_msg("\"%s\": found \"%.*s\", expected \"%s\"", text, (int)n, form, want);
        free(form);
    }
    assert_true(i > 1000);
    static const char bad[] = "\xff\xcc\x81\xc3\x65\xcc\x81\xcc",
                      good[] = "\xff\xcc\x81\xc3\xc3\xa9\xcc";
    char *form = unicode_form(FORM_C, bad, strlen(bad), &n);
    assert_int_equal(n, strlen(good));
    assert_memory_equal(form, good, n);
    free(form);
}

/* Where text may be cut for the pieces it may be cut for form C. */
static void test_nfc_in_parts(void **state) {
    static const char *const splits[] = {"NFC", "NFC, Qwen 2's splitting"};
    const json_t *pairs = json_object_get(forms, "nfc");
    char text[600];
    int cuts = 0;
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
}

/* As block_text of tests/golden/forms_golden.py. */
static size_t block_text(uint32_t begin, uint32_t size, char *out) {
    char *o = out;
    for (uint32_t c = begin ? begin : 1; c < begin + size; c++) {
        char s[5] = "";
        if (c - 0xd800u < 0x800) continue;
        if (c == 0x1c89 || c == 0xa7cb || c == 0xa7cc || c == 0xa7ce || c == 0xa7d2 ||
            c == 0xa7d4 || c == 0xa7da || c == 0xa7dc || c - 0x10d50 < 22 || c - 0x16ea0 < 25)
            continue;
        put_utf8(c, s);
        o += sprintf(o,
                     "%s\xcc\x81\xcc\xa3"
                     "a%se \xe1\x84\x80%s",
                     s, s, s);
    }
    return (size_t)(o - out);
}

/* All that go by tables, on every code point. */
static void test_normalizers_on_all_code_points(void **state) {
    static const struct {
        const char *name;
        NormalKind kind;
    } kinds[] = {{"NFC", NORMAL_NFC},
                 {"NFD", NORMAL_NFD},
                 {"NFKC", NORMAL_NFKC},
                 {"NFKD", NORMAL_NFKD},
                 {"Lowercase", NORMAL_LOWERCASE},
                 {"StripAccents", NORMAL_STRIP_ACCENTS}};
    const uint32_t size = (uint32_t)json_integer_value(json_object_get(forms, "block"));
    char *text = xmalloc(24 * size);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const json_t *crcs = json_object_get(json_object_get(forms, "crc"), kinds[k].name), *want;
        Normalizer *m = normalizer_new();
        size_t i;
        assert_int_equal(normalizer_add(m, &(NormalStep){.kind = kinds[k].kind}), 0);
        json_array_foreach(crcs, i, want) {
            char *out;
            size_t n = block_text((uint32_t)i * size, size, text), changed = n;
            if (n == 0) continue; /* surrogates */
            assert_int_equal(normalize(m, false, text, n, &out, &changed), 0);
            const uLong crc =
                crc32(0, (const Bytef *)(out ? out : text), (uInt)(out ? changed : n));
            if (crc != (uLong)json_integer_value(want))
                fail_msg("%s: another text for U+%zX to U+%zX", kinds[k].name, i * size,
                         (i + 1) * size - 1);
            free(out);
        }
        assert_int_equal(i, 0x110000 / size);
        normalizer_free(m);
    }
    free(text);
}

static int setup(void **state) {
    if (json_read_file(&forms, "tests/golden/forms.json") < 0) return -1;
    return golden_setup(state);
}

static int teardown(void **state) {
    json_decref(forms);
    return golden_teardown(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_splitters_against_oniguruma),
        cmocka_unit_test(test_matches_in_one_search),
        cmocka_unit_test(test_words_remembered),
        cmocka_unit_test(test_nfc),
        cmocka_unit_test(test_nfc_in_parts),
        cmocka_unit_test(test_normalizers_on_all_code_points),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
