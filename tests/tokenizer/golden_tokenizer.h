/* golden_tokenizer.h: what the tests of the tokenizer share: the golden file and its tokenizer,
 * short checks, random numbers. Included after cmocka.h. */
#ifndef TESTS_DATA_GOLDEN_TOKENIZER_H
#define TESTS_DATA_GOLDEN_TOKENIZER_H

#include "base/error.h"
#include "base/json.h"
#include "data/tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static json_t *golden;   /* tests/golden/tokenizer_golden.json */
static Tokenizer *small; /* its own tokenizer, 420 ids */

static Tokenizer *from_json(json_t *v, const char *name) {
    Tokenizer *t;
    char *text = json_dumps(v, JSON_COMPACT);
    const int rc = tokenizer_parse(&t, text, strlen(text), name);
    free(text);
    if (rc < 0) fail_msg("%s", error_message());
    return t;
}

/* The tokenizer of one of the golden cases: its own, or the small one with its changes. */
__attribute__((unused)) static Tokenizer *from_case(const json_t *c) {
    const json_t *other = json_object_get(c, "tokenizer");
    json_t *v = json_deep_copy(other ? other : json_object_get(golden, "tokenizer"));
    if (!other) json_object_update_recursive(v, json_object_get(c, "patch"));
    Tokenizer *t = from_json(v, json_string_value(json_object_get(c, "name")));
    json_decref(v);
    return t;
}

__attribute__((unused)) static int golden_setup(void **state) {
    if (json_read_file(&golden, "tests/golden/tokenizer_golden.json") < 0) return -1;
    small = from_json(json_object_get(golden, "tokenizer"), "golden");
    return 0;
}

__attribute__((unused)) static int golden_teardown(void **state) {
    tokenizer_close(&small);
    json_decref(golden);
    return 0;
}

static IdList encode(const Tokenizer *t, const char *text, size_t len, bool specials) {
    IdList ids = {0};
    if (tokenizer_encode(t, text, len, specials, &ids) < 0) fail_msg("%s", error_message());
    return ids;
}

__attribute__((unused)) static void assert_decodes(const Tokenizer *t, const IdList *ids,
                                                   const char *text, size_t len) {
    char *back;
    size_t n;
    assert_int_equal(tokenizer_decode(t, ids->v, ids->n, false, &back, &n), 0);
    assert_int_equal(n, len);
    assert_memory_equal(back, text, len);
    free(back);
}

/* splitmix64: the tests' own random numbers */
__attribute__((unused)) static uint64_t random64(void) {
    static uint64_t seed = 1;
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

#endif
