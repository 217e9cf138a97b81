/* SentencePiece's BPE by characters, and the tokenizers of GGUF files, against the ids of Hugging
 * Face's library and of sentencepiece (tests/golden/chars_golden.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/tokenizer/golden_tokenizer.h"

static json_t *chars;

static int setup(void **state) {
    return json_read_file(&chars, "tests/golden/tokenizer_chars.json");
}
static int teardown(void **state) {
    json_decref(chars);
    return 0;
}

static void check_ids(const char *what, const char *text, const IdList *ids, const json_t *want) {
    json_t *found = json_array();
    for (int64_t i = 0; i < ids->n; i++) json_array_append_new(found, json_integer(ids->v[i]));
    if (!json_equal(found, want))
        fail_msg("%s: \"%s\": %s, expected %s", what, text, json_dumps(found, 0),
                 json_dumps(want, 0));
    json_decref(found);
}

/* All texts, by the tokenizer and by what it writes. */
static void check_texts(const char *name, const Tokenizer *t, bool specials, const json_t *ids,
                        const json_t *decoded) {
    AUTOFREE char *saved = tokenizer_json(t);
    Tokenizer *again;
    if (tokenizer_parse(&again, saved, strlen(saved), name) < 0) fail_msg("%s", error_message());
    assert_int_equal(tokenizer_hash(again), tokenizer_hash(t));
    size_t i;
    json_t *v;
    json_array_foreach(json_object_get(chars, "texts"), i, v) {
        const char *text = json_string_value(v);
        for (int k = 0; k < 2; k++) {
            const Tokenizer *which = k ? again : t;
            IdList found = encode(which, text, strlen(text), specials);
            check_ids(name, text, &found, json_array_get(ids, i));
            if (decoded) {
                AUTOFREE char *back = NULL;
                assert_int_equal(tokenizer_decode(which, found.v, found.n, false, &back, NULL), 0);
                assert_string_equal(back, json_string_value(json_array_get(decoded, i)));
            }
            ids_free(&found);
        }
    }
    tokenizer_close(&again);
}

static void test_hugging_face(void **state) {
    size_t i;
    json_t *c;
    assert_int_equal(json_array_size(json_object_get(chars, "cases")), 9);
    json_array_foreach(json_object_get(chars, "cases"), i, c) {
        const char *name = json_string_value(json_object_get(c, "name"));
        json_t *v = json_deep_copy(json_object_get(chars, "tokenizer")),
               *patch = json_deep_copy(json_object_get(c, "patch"));
        json_object_update_recursive(json_object_get(v, "model"), json_object_get(patch, "model"));
        json_object_del(patch, "model");
        json_object_update(v, patch);
        Tokenizer *t = from_json(v, name);
        check_texts(name, t, true, json_object_get(c, "ids"), json_object_get(c, "decoded"));
        tokenizer_close(&t);
        json_decref(patch);
        json_decref(v);
    }
}

static void test_gguf(void **state) {
    size_t i;
    json_t *c;
    assert_int_equal(json_array_size(json_object_get(chars, "gguf")), 9);
    json_array_foreach(json_object_get(chars, "gguf"), i, c) {
        const char *name = json_string_value(json_object_get(c, "name"));
        json_t *meta = json_deep_copy(json_object_get(c, "meta"));
        if (!meta) {
            meta = json_deep_copy(json_object_get(chars, "bytes"));
            json_object_set_new(meta, "tokenizer.ggml.pre", json_string(name));
        }
        Tokenizer *t, *again;
        if (tokenizer_from_gguf(&t, meta, name) < 0) fail_msg("%s", error_message());
        check_texts(name, t, json_is_true(json_object_get(c, "specials")),
                    json_object_get(c, "ids"), NULL);
        assert_int_equal(tokenizer_eos(t),
                         json_integer_value(json_object_get(meta, "tokenizer.ggml.eos_token_id")));
        /* written and read again it is the same, rows without a token beyond it */
        json_t *ours = json_object();
        if (tokenizer_to_gguf(t, tokenizer_vocab(t) + 3, ours) < 0) fail_msg("%s", error_message());
        if (i > 0)
            assert_string_equal(json_string_value(json_object_get(ours, "tokenizer.ggml.pre")),
                                name);
        if (tokenizer_from_gguf(&again, ours, name) < 0) fail_msg("%s", error_message());
        assert_int_equal(tokenizer_hash(again), tokenizer_hash(t));
        assert_int_equal(tokenizer_eos(again), tokenizer_eos(t));
        tokenizer_close(&again);
        tokenizer_close(&t);
        json_decref(ours);
        json_decref(meta);
    }
}

/* Text that goes on where other text ended gets no space before it. */
static void test_places(void **state) {
    json_t *c = json_array_get(json_object_get(chars, "cases"), 0),
           *v = json_deep_copy(json_object_get(chars, "tokenizer"));
    json_object_update(v, json_object_get(c, "patch"));
    Tokenizer *t = from_json(v, "Llama 2");
    IdList begins = {0}, on = {0}, both = {0};
    assert_int_equal(tokenizer_encode_at(t, TEXT_BEGINS, "the", 3, false, &begins), 0);
    assert_int_equal(tokenizer_encode_at(t, TEXT_GOES_ON, "the", 3, false, &on), 0);
    assert_int_equal(tokenizer_encode_at(t, TEXT_GOES_ON, " the", 4, false, &both), 0);
    size_t n;
    const char *s = tokenizer_token_bytes(t, begins.v[0], &n);
    assert_true(n > 0 && *s == ' ');
    s = tokenizer_token_bytes(t, on.v[0], &n);
    assert_true(n > 0 && *s != ' ');
    assert_true(both.n == begins.n &&
                memcmp(both.v, begins.v, (size_t)both.n * sizeof *both.v) == 0);
    assert_true(tokenizer_drops_space(t));
    ids_free(&begins);
    ids_free(&on);
    ids_free(&both);
    tokenizer_close(&t);
    json_decref(v);
}

/* Any bytes come back, and a long text takes no time. */
static void test_bytes(void **state) {
    json_t *c = json_array_get(json_object_get(chars, "cases"), 0),
           *v = json_deep_copy(json_object_get(chars, "tokenizer"));
    json_object_update(v, json_object_get(c, "patch"));
    Tokenizer *t = from_json(v, "Llama 2");
    for (int round = 0; round < 300; round++) {
        char text[64];
        const size_t n = 1 + random64() % sizeof text;
        for (size_t i = 0; i < n; i++) {
            text[i] = round % 3 ? (char)random64() : "ab \n\xe6\xb0\xb4"[random64() % 7];
            if (!text[i] || (uint8_t)text[i] == 0xe2)
                text[i] = 'x'; /* no U+2581, which is a space */
        }
        IdList ids = encode(t, text, n, false);
        assert_decodes(t, &ids, text, n);
        ids_free(&ids);
    }
    const size_t n = 1 << 20;
    AUTOFREE char *same = xmalloc(n);
    memset(same, 'e', n);
    IdList ids = encode(t, same, n, false);
    assert_decodes(t, &ids, same, n);
    ids_free(&ids);
    tokenizer_close(&t);
    json_decref(v);
}

static void refuse(const char *key, json_t *value, const char *says) {
    json_t *meta = json_deep_copy(json_object_get(chars, "bytes"));
    json_object_set_new(meta, "tokenizer.ggml.pre", json_string("gpt-2"));
    if (value)
        json_object_set_new(meta, key, value);
    else
        json_object_del(meta, key);
    Tokenizer *t;
    assert_int_equal(tokenizer_from_gguf(&t, meta, "x.gguf"), ERR_DATA);
    assert_null(t);
    if (!strstr(error_message(), says) || !strstr(error_message(), "x.gguf"))
        fail_msg("%s lacks %s", error_message(), says);
    json_decref(meta);
}

static void test_refused(void **state) {
    refuse("tokenizer.ggml.model", NULL, "no tokenizer.ggml.model");
    refuse("tokenizer.ggml.model", json_string("bert"), "\"bert\", expected gpt2");
    refuse("tokenizer.ggml.pre", NULL, "no tokenizer.ggml.pre");
    refuse("tokenizer.ggml.pre", json_string("gpt"), "not known; expected gpt-2, olmo");
    refuse("tokenizer.ggml.tokens", NULL, "no tokenizer.ggml.tokens");
    refuse("tokenizer.ggml.tokens", json_integer(3), "an integer, expected a list");
    refuse("tokenizer.ggml.tokens", json_pack("[s,s]", "a", "a"), "expected a list of one value");
    refuse("tokenizer.ggml.token_type", json_pack("[i]", 1), "expected a list of one value");
    refuse("tokenizer.ggml.merges", NULL, "no tokenizer.ggml.merges");
    refuse("tokenizer.ggml.merges", json_pack("[s]", "a  b"), "merges");
    refuse("tokenizer.ggml.model", json_string("llama"), "no tokenizer.ggml.scores");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hugging_face), cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_places),       cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
