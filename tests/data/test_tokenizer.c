/* The tokenizer as a reader of files and as encode and decode: against ids that Hugging Face's
 * library gave (golden), against tiktoken's GPT-2 ids where ../shared/data has them, against a
 * merge loop written here in the plainest way, and against malformed files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/lines.h"
#include "data/tokenizer.h"
#include "data/tokenizer_impl.h" /* for the splitters only */

#define SHARED "../shared/data/"
#define GPT2   SHARED "tokenizers/gpt2_tokenizer.json"

static json_t *golden;
static Tokenizer *small; /* the golden file's own tokenizer, 420 ids */

static Tokenizer *from_json(json_t *v, const char *name) {
    Tokenizer *t;
    char *text = json_dumps(v, JSON_COMPACT);
    const int rc = tokenizer_parse(&t, text, strlen(text), name);
    free(text);
    if (rc < 0) fail_msg("%s", error_message());
    return t;
}

static int setup(void **state) {
    if (json_read_file(&golden, "tests/golden/tokenizer_golden.json") < 0) return -1;
    small = from_json(json_object_get(golden, "tokenizer"), "golden");
    return 0;
}

static int teardown(void **state) {
    tokenizer_close(&small);
    json_decref(golden);
    return 0;
}

static IdList encode(const Tokenizer *t, const char *text, size_t len, bool specials) {
    IdList ids = {0};
    if (tokenizer_encode(t, text, len, specials, &ids) < 0) fail_msg("%s", error_message());
    return ids;
}

static void assert_ids(const char *what, const char *text, const IdList *ids, const json_t *want) {
    bool same = ids->n == (int64_t)json_array_size(want);
    for (int64_t i = 0; same && i < ids->n; i++) {
        same = ids->v[i] == json_integer_value(json_array_get(want, (size_t)i));
    }
    if (same) return;
    fprintf(stderr, "found:");
    for (int64_t i = 0; i < ids->n; i++) fprintf(stderr, " %d", ids->v[i]);
    char *expected = json_dumps(want, JSON_COMPACT);
    fprintf(stderr, "\nexpected: %s\n", expected);
    free(expected);
    fail_msg("%s: other ids for \"%s\"", what, text);
}

static void assert_decodes(const Tokenizer *t, const IdList *ids, const char *text, size_t len) {
    char *back;
    size_t n;
    assert_int_equal(tokenizer_decode(t, ids->v, ids->n, false, &back, &n), 0);
    assert_int_equal(n, len);
    assert_memory_equal(back, text, len);
    free(back);
}

/* --- golden files --------------------------------------------------------------------------- */

static void test_hugging_face_ids(void **state) {
    const json_t *texts = json_object_get(golden, "texts"), *c;
    size_t i, k;
    assert_true(json_array_size(json_object_get(golden, "cases")) >= 30);
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        const char *name = json_string_value(json_object_get(c, "name"));
        const json_t *other = json_object_get(c, "tokenizer");
        json_t *patched = json_deep_copy(other ? other : json_object_get(golden, "tokenizer"));
        if (!other) json_object_update_recursive(patched, json_object_get(c, "patch"));
        Tokenizer *t = from_json(patched, name);
        json_decref(patched);

        char *saved = tokenizer_json(t); /* and what we write is the same tokenizer again */
        Tokenizer *again;
        assert_int_equal(tokenizer_parse(&again, saved, strlen(saved), name), 0);
        assert_int_equal(tokenizer_hash(again), tokenizer_hash(t));
        free(saved);

        const json_t *text;
        json_array_foreach(texts, k, text) {
            const char *s = json_string_value(text);
            const json_t *want = json_array_get(json_object_get(c, "ids"), k);
            IdList ids = encode(t, s, strlen(s), true), ids2 = encode(again, s, strlen(s), true);
            assert_ids(name, s, &ids, want);
            assert_ids(name, s, &ids2, want);
            if (!strstr(name, "prefix_space") && !strstr(name, "strip") &&
                !strstr(name, "unknown") && !strstr(name, "NFC"))
                assert_decodes(t, &ids, s, strlen(s));
            ids_free(&ids);
            ids_free(&ids2);
        }
        tokenizer_close(&t);
        tokenizer_close(&again);
    }
}

static Tokenizer *gpt2(void) {
    Tokenizer *t;
    if (!file_exists(GPT2)) skip();
    if (tokenizer_load(&t, GPT2) < 0) fail_msg("%s", error_message());
    return t;
}

static size_t unhex(const char *hex, char **out) {
    const size_t n = strlen(hex) / 2;
    *out = xmalloc(n + 1);
    for (size_t i = 0; i < n; i++) {
        unsigned byte = 0;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        (*out)[i] = (char)byte;
    }
    return n;
}

typedef void CheckRecord(const Tokenizer *t, const json_t *record);

/* Not by base/json.h, which refuses the NULs that some of these texts have. */
static int for_each(const char *path, const Tokenizer *t, CheckRecord *check) {
    Lines *lines;
    const char *line;
    size_t len;
    int n = 0, rc;
    if (lines_open(&lines, path) < 0) fail_msg("%s", error_message());
    for (; (rc = lines_next(lines, &line, &len)) > 0; n++) {
        json_t *v = json_loadb(line, len, JSON_ALLOW_NUL, NULL);
        assert_non_null(v);
        check(t, v);
        json_decref(v);
    }
    assert_int_equal(rc, 0);
    lines_close(&lines);
    return n;
}

static const char *ids_field = "ids"; /* or cl100k, o200k */

static void check_encode(const Tokenizer *t, const json_t *r) {
    char *text;
    const size_t n = unhex(json_string_value(json_object_get(r, "utf8_hex")), &text);
    IdList ids = encode(t, text, n, false);
    assert_ids("gpt2_encode", text, &ids, json_object_get(r, ids_field));
    assert_decodes(t, &ids, text, n);
    ids_free(&ids);
    free(text);
}

static void check_decode(const Tokenizer *t, const json_t *r) {
    char *want, *text;
    size_t len, i;
    const size_t n = unhex(json_string_value(json_object_get(r, "bytes_hex")), &want);
    const json_t *list = json_object_get(r, "ids"), *v;
    IdList ids = {0};
    json_array_foreach(list, i, v) ids_push(&ids, (int32_t)json_integer_value(v));
    assert_int_equal(tokenizer_decode(t, ids.v, ids.n, false, &text, &len), 0);
    assert_int_equal(len, n);
    assert_memory_equal(text, want, n);
    ids_free(&ids);
    free(text);
    free(want);
}

/* Bytes that are not UTF-8 have no ids that the world agrees on. Ours must decode to the same
 * bytes; the text with U+FFFD for them, and the ids of the single bytes, are as in the file. */
static void check_invalid(const Tokenizer *t, const json_t *r) {
    char *bytes;
    const size_t n = unhex(json_string_value(json_object_get(r, "bytes_hex")), &bytes);
    const char *replaced = json_string_value(json_object_get(r, "replaced_text"));
    const size_t len = json_string_length(json_object_get(r, "replaced_text"));
    IdList ids = encode(t, bytes, n, false);
    assert_decodes(t, &ids, bytes, n);
    ids_free(&ids);
    ids = encode(t, replaced, len, false);
    assert_ids("replaced", replaced, &ids, json_object_get(r, "ids_of_replaced_text"));
    ids_free(&ids);
    const json_t *single = json_object_get(r, "ids_bytes_only");
    for (size_t i = 0; i < n; i++) {
        ids = encode(t, bytes + i, 1, false);
        assert_int_equal(ids.n, 1);
        assert_int_equal(ids.v[0], json_integer_value(json_array_get(single, i)));
        ids_free(&ids);
    }
    free(bytes);
}

static void test_gpt2_golden(void **state) {
    Tokenizer *t = gpt2();
    assert_int_equal(tokenizer_vocab(t), 50257);
    assert_int_equal(tokenizer_eos(t), 50256);
    assert_int_equal(for_each(SHARED "golden/gpt2_encode.jsonl", t, check_encode), 306);
    assert_int_equal(for_each(SHARED "golden/gpt2_decode.jsonl", t, check_decode), 139);
    assert_int_equal(for_each(SHARED "golden/gpt2_invalid_utf8.jsonl", t, check_invalid), 30);
    Lines *lines;
    const char *line;
    size_t len;
    int64_t n = 0;
    assert_int_equal(lines_open(&lines, SHARED "golden/gpt2_token_bytes.txt"), 0);
    for (; lines_next(lines, &line, &len) > 0; n++) { /* "id hex" */
        char *want, *hex;
        const long id = strtol(line, &hex, 10);
        const size_t want_len = unhex(hex + 1, &want);
        const char *bytes = tokenizer_token_bytes(t, (int32_t)id, &len);
        assert_int_equal(len, want_len);
        assert_memory_equal(bytes, want, len);
        free(want);
    }
    assert_int_equal(n, 50257);
    lines_close(&lines);
    tokenizer_close(&t);
}

static void test_tiktoken_golden(void **state) {
    static const struct {
        const char *file, *field, *special;
        int32_t eos, id;
    } cases[] = {{"r50k_base.tiktoken", "ids", "<|endoftext|>", 50256, 50256},
                 {"gpt2", "ids", "<|endoftext|>", 50256, 50256}, /* gpt2_encoder.json, _vocab.bpe */
                 {"cl100k_base.tiktoken", "cl100k", "<|endofprompt|>", 100257, 100276},
                 {"o200k_base.tiktoken", "o200k", "<|endofprompt|>", 199999, 200018}};
    if (!file_exists(GPT2)) skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = xasprintf(SHARED "tokenizers/%s", cases[i].file);
        Tokenizer *t, *again;
        if (tokenizer_load(&t, path) < 0) fail_msg("%s", error_message());
        assert_int_equal(tokenizer_eos(t), cases[i].eos);
        assert_int_equal(tokenizer_special(t, cases[i].special), cases[i].id);
        ids_field = cases[i].field;
        assert_int_equal(for_each(SHARED "golden/gpt2_encode.jsonl", t, check_encode), 306);
        char *json = tokenizer_json(t); /* what a checkpoint carries is the same tokenizer */
        if (tokenizer_parse(&again, json, strlen(json), path) < 0) fail_msg("%s", error_message());
        assert_int_equal(for_each(SHARED "golden/gpt2_encode.jsonl", again, check_encode), 306);
        assert_int_equal(tokenizer_hash(again), tokenizer_hash(t));
        ids_field = "ids";
        free(json);
        free(path);
        tokenizer_close(&again);
        tokenizer_close(&t);
    }
}

/* --- our own checks ------------------------------------------------------------------------- */

/* splitmix64: the tests' own random numbers */
static uint64_t seed = 1;
static uint64_t random64(void) {
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

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
            json_t *patched = json_deep_copy(json_object_get(golden, "tokenizer"));
            json_object_update_recursive(patched, json_object_get(c, "patch"));
            t = from_json(patched, splits[k]);
            json_decref(patched);
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

static char *temporary_dir(void) {
    const char *tmp = getenv("TMPDIR");
    char *dir = xasprintf("%s/rhetor-tokenizer-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    return dir;
}

static void write_file(const char *dir, const char *name, const char *text) {
    char *path = file_join(dir, name);
    if (file_write_durable(path, text, strlen(text)) < 0) fail_msg("%s", error_message());
    free(path);
}

static void remove_dir(char *dir) {
    char **names;
    int n;
    assert_int_equal(file_list(dir, &names, &n), 0);
    for (int i = 0; i < n; i++) {
        char *path = file_join(dir, names[i]);
        file_remove(path);
        free(path);
    }
    file_free_list(&names, n);
    rmdir(dir);
    free(dir);
}

static void test_save_and_load(void **state) {
    char *dir = temporary_dir(), *path = file_join(dir, "tokenizer.json");
    Tokenizer *t;
    assert_int_equal(tokenizer_save(small, path), 0);
    for (int by_folder = 0; by_folder < 2; by_folder++) {
        assert_int_equal(tokenizer_load(&t, by_folder ? dir : path), 0);
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
    remove_dir(dir);
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
        char *dir = temporary_dir(), *path = xasprintf("%s%s", dir, names[i].given);
        write_file(dir, names[i].vocab, vocab);
        Tokenizer *t;
        assert_int_equal(tokenizer_load(&t, path), ERR_IO); /* no merges yet */
        assert_non_null(strstr(error_message(), names[i].merges));
        assert_null(t);
        write_file(dir, names[i].merges, merges);
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
        write_file(dir, names[i].merges, "a b\nb c\n");
        assert_int_equal(tokenizer_load(&t, path), ERR_DATA);
        assert_non_null(strstr(error_message(), "merges.txt:2: "));
        assert_non_null(strstr(error_message(), "\"c\" is not in the vocabulary"));
        free(path);
        remove_dir(dir);
    }
}

/* What is wrong, and what the message must say. M: a model, P: a pre-tokenizer that are right. */
#define V        "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2}"
#define M        "\"model\":{\"type\":\"BPE\"," V ",\"merges\":[\"a b\"]}"
#define P        "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define ADDED(x) "{" M "," P ",\"added_tokens\":[" x "]}"
#define PRE(x)   "{" M ",\"pre_tokenizer\":" x "}"
#define MODEL(x) "{\"model\":{" x "}," P "}"
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
         "\"Removed\"},{\"type\":\"ByteLevel\"}]}"),
     "has behavior \"Removed\""},
    {PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\","
         "\"pattern\":{}},{\"type\":\"ByteLevel\"}]}"),
     "lacks a \"pattern\""},
    {PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\","
         "\"pattern\":{\"Regex\":\"a(\"}},{\"type\":\"ByteLevel\"}]}"),
     "does not compile"},
    {PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\","
         "\"pattern\":{\"Regex\":\"[a&&b]\"}},{\"type\":\"ByteLevel\"}]}"),
     "&& within [...]"},
    {"{" M "," P ",\"normalizer\":{\"type\":\"NFKC\"}}", "\"normalizer\": NFKC is not supported"},
    {"{" M "," P ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
     "{\"type\":\"Lowercase\"}]}}",
     "\"normalizer\": Lowercase is not supported: expected none, NFC"},
    {"{" M "," P
     ",\"normalizer\":{\"type\":\"NFC\"},\"added_tokens\":[{\"id\":7,\"content\":\"e\xcc\x81\","
     "\"normalized\":true}]}",
     "NFC changes the added token"},
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
    {PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]"
         "}"),
     "Digits is not supported here"},
    {PRE("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\","
         "\"pattern\":{\"Regex\":\"[a\"}},{\"type\":\"ByteLevel\"}]}"),
     "lacks its ]"},
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

/* --- tiktoken's ranks ------------------------------------------------------------------------ */

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
        cmocka_unit_test(test_hugging_face_ids),
        cmocka_unit_test(test_gpt2_golden),
        cmocka_unit_test(test_tiktoken_golden),
        cmocka_unit_test(test_bytes_come_back),
        cmocka_unit_test(test_splitters_against_pcre2),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_invalid_utf8_splits_as_a_symbol),
        cmocka_unit_test(test_nfc),
        cmocka_unit_test(test_nfc_in_parts),
        cmocka_unit_test(test_merges_against_plain_loop),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_long_piece),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_unknown_ids),
        cmocka_unit_test(test_save_and_load),
        cmocka_unit_test(test_vocab_json_and_merges_txt),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_parts_against_plain_joins),
        cmocka_unit_test(test_malformed_ranks),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
