/* The tokenizer against others' ids: those of Hugging Face's library (golden), and tiktoken's where
 * ../shared/data has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/lines.h"
#include "tests/tokenizer/golden_tokenizer.h"

#define SHARED "../shared/data/"
#define GPT2   SHARED "tokenizers/gpt2_tokenizer.json"

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

static void test_hugging_face_ids(void **state) {
    const json_t *texts = json_object_get(golden, "texts"), *c;
    size_t i, k;
    assert_true(json_array_size(json_object_get(golden, "cases")) >= 71);
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        const char *name = json_string_value(json_object_get(c, "name"));
        Tokenizer *t = from_case(c);

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
            if (json_is_true(json_object_get(c, "lossless"))) assert_decodes(t, &ids, s, strlen(s));
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
    const json_t *special = json_object_get(r, "ids_allow_special");
    if (special && strcmp(ids_field, "ids") == 0) {
        ids = encode(t, text, n, true);
        assert_ids("special tokens allowed", text, &ids, special);
        ids_free(&ids);
    }
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

/* The ids of tiktoken's encodings for some texts, with the part of the vocabularies that they need;
 * as it is read, and as a checkpoint carries it. */
static void test_published(void **state) {
    json_t *published;
    static const char *const names[] = {"gpt2", "cl100k", "o200k"};
    if (json_read_file(&published, "tests/golden/published.json") < 0)
        fail_msg("%s", error_message());
    const json_t *texts = json_object_get(published, "texts"), *r;
    assert_true(json_array_size(texts) >= 50);
    for (int i = 0; i < 3; i++) {
        char *ranks = xstrdup(
            json_string_value(json_object_get(json_object_get(published, "ranks"), names[i])));
        bool value = false; /* "token rank token rank": a line each */
        for (char *s = ranks; (s = strchr(s, ' ')); value = !value, s++)
            if (value) *s = '\n';
        Tokenizer *t[2];
        if (tokenizer_parse_tiktoken(&t[0], ranks, strlen(ranks), names[i], names[i]) < 0)
            fail_msg("%s", error_message());
        char *json = tokenizer_json(t[0]);
        if (tokenizer_parse(&t[1], json, strlen(json), names[i]) < 0)
            fail_msg("%s", error_message());
        ids_field = i == 0 ? "ids" : names[i];
        size_t k;
        for (int which = 0; which < 2; which++) {
            json_array_foreach(texts, k, r) check_encode(t[which], r);
            tokenizer_close(&t[which]);
        }
        ids_field = "ids";
        free(json);
        free(ranks);
    }
    json_decref(published);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hugging_face_ids),
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_gpt2_golden),
        cmocka_unit_test(test_tiktoken_golden),
    };
    return cmocka_run_group_tests(tests, golden_setup, golden_teardown);
}
