/* The templates of published models: recognised by their own text, and the ids that transformers'
 * apply_chat_template has (tests/golden/template_golden.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/text.h"
#include "data/template.h"
#include "tests/base/scratch.h"

static json_t *golden;
static Tokenizer *bytes, *chars;

static Tokenizer *parse(json_t *v, const char *name) {
    Tokenizer *t;
    AUTOFREE char *text = json_dumps(v, JSON_COMPACT);
    OK(tokenizer_parse(&t, text, strlen(text), name));
    json_decref(v);
    return t;
}

static int setup(void **state) {
    json_t *v, *c;
    if (json_read_file(&golden, "tests/golden/templates.json") < 0 ||
        json_read_file(&v, "tests/golden/tokenizer_golden.json") < 0 ||
        json_read_file(&c, "tests/golden/tokenizer_chars.json") < 0)
        return -1;
    json_t *small = json_deep_copy(json_object_get(v, "tokenizer"));
    json_object_set(small, "added_tokens", json_object_get(golden, "bytes"));
    bytes = parse(small, "bytes");
    json_t *llama2 = json_deep_copy(json_object_get(c, "tokenizer"));
    json_object_update(llama2,
                       json_object_get(json_array_get(json_object_get(c, "cases"), 0), "patch"));
    chars = parse(llama2, "chars");
    json_decref(v);
    json_decref(c);
    return 0;
}

static int teardown(void **state) {
    tokenizer_close(&bytes);
    tokenizer_close(&chars);
    json_decref(golden);
    return 0;
}

static char *words(const int32_t *ids, int64_t n) {
    Text t = {0};
    for (int64_t i = 0; i < n; i++) text_put(&t, "%s%d", i ? " " : "", ids[i]);
    return text_take(&t);
}

/* Some templates put a line break behind the last answer: no model emits it, and here none has it. */
static void check_row(Template tp, const Tokenizer *tk, const json_t *row, const char *name) {
    const json_t *list = json_object_get(row, "messages"), *want = json_object_get(row, "ids");
    Message m[16];
    const int n = (int)json_array_size(list);
    for (int i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        m[i] = (Message){json_string_value(json_object_get(v, "role")),
                         json_string_value(json_object_get(v, "content"))};
    }
    IdList ids = {0}, theirs = {0}, joined = {0};
    for (size_t i = 0; i < json_array_size(want); i++)
        ids_push(&theirs, (int32_t)json_integer_value(json_array_get(want, i)));
    if (strcmp(m[n - 1].role, "user") == 0) {
        OK(template_prompt(tp, tk, m, n, &ids));
    } else {
        uint8_t *learn;
        int64_t prompt;
        OK(template_conversation(tp, tk, m, n, &ids, &learn, &prompt));
        assert_int_equal(ids.v[ids.n - 1], template_stop(tp, tk));
        for (int64_t i = 0; i < ids.n; i++) assert_true(learn[i] == (i >= prompt) || i < prompt);
        OK(template_prompt(tp, tk, m, n - 1, &joined)); /* the boundary is one */
        assert_int_equal(joined.n, prompt);
        OK(template_completion(tp, tk, m[n - 1].content, &joined));
        assert_int_equal(joined.n, ids.n);
        assert_memory_equal(joined.v, ids.v, (size_t)ids.n * sizeof *ids.v);
        free(learn);
        const char *text = json_string_value(json_object_get(row, "text"));
        joined.n = 0;
        OK(tokenizer_encode_at(tk, TEXT_AFTER_SPECIAL, "\n", 1, false, &joined));
        if (text[strlen(text) - 1] == '\n') theirs.n -= joined.n;
    }
    AUTOFREE char *found = words(ids.v, ids.n), *expected = words(theirs.v, theirs.n);
    if (strcmp(found, expected) != 0)
        fail_msg("%s: %s\nfound    %s\nexpected %s", name,
                 json_string_value(json_object_get(row, "text")), found, expected);
    ids_free(&ids);
    ids_free(&theirs);
    ids_free(&joined);
}

static void test_published(void **state) {
    size_t i, k;
    json_t *c, *row;
    int rows = 0;
    assert_int_equal(json_array_size(json_object_get(golden, "cases")), 13);
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        const char *name = json_string_value(json_object_get(c, "template"));
        const char *jinja = json_string_value(json_object_get(c, "jinja"));
        Template tp, recognised;
        OK(template_by_name(name, &tp));
        OK(template_of_jinja(jinja, &recognised));
        if (tp != TEMPLATE_QWEN3_DIRECT) assert_string_equal(template_name(recognised), name);
        Tokenizer *tk = strcmp(json_string_value(json_object_get(c, "tokenizer")), "bytes") == 0
                            ? bytes
                            : chars;
        const int32_t eos = tokenizer_id(tk, json_string_value(json_object_get(c, "eos")));
        assert_true(eos >= 0);
        tokenizer_set_stops(tk, &eos, 1);
        json_array_foreach(json_object_get(c, "rows"), k, row) {
            check_row(tp, tk, row, name);
            rows++;
        }
    }
    assert_int_equal(rows, 91);
}

static void test_unknown(void **state) {
    const char *name;
    json_t *v;
    Template tp;
    int n = 0;
    json_object_foreach(json_object_get(golden, "refused"), name, v) {
        n++;
        if (template_of_jinja(json_string_value(v), &tp) == 0)
            fail_msg("%s is taken for %s", name, template_name(tp));
        FAILS(template_of_jinja("{{ x }}", &tp), ERR_DATA, "--template", "smollm2, qwen2");
    }
    assert_int_equal(n, 10);
}

/* What an answer's ids are as text, and shown as they come. */
static void test_answers(void **state) {
    static const struct {
        Template tp;
        bool chars;
        const char *eos;
    } all[] = {{TEMPLATE_SMOLLM2, false, "<|im_end|>"},
               {TEMPLATE_LLAMA31, false, "<|end_of_text|>"},
               {TEMPLATE_GEMMA, false, "<eos>"},
               {TEMPLATE_ZEPHYR, true, "</s>"},
               {TEMPLATE_LLAMA2, true, "</s>"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        Tokenizer *tk = all[i].chars ? chars : bytes;
        const int32_t eos = tokenizer_id(tk, all[i].eos);
        tokenizer_set_stops(tk, &eos, 1);
        IdList ids = {0};
        const char *text = "Hello there, \xe6\xb0\xb4 miller";
        OK(template_completion(all[i].tp, tk, text, &ids));
        AUTOFREE char *back = NULL;
        OK(template_decode(all[i].tp, tk, ids.v, ids.n, &back));
        while (*back && back[strlen(back) - 1] == ' ') back[strlen(back) - 1] = '\0';
        assert_string_equal(back, text);
        AnswerStream *s = answer_stream(all[i].tp, tk, false);
        Text shown = {0};
        for (int64_t k = 0; k < ids.n; k++) text_put(&shown, "%s", answer_stream_add(s, ids.v[k]));
        text_put(&shown, "%s", answer_stream_end(s));
        while (shown.n > 0 && shown.s[shown.n - 1] == ' ') shown.s[--shown.n] = '\0';
        assert_string_equal(shown.s, text);
        free(shown.s);
        answer_stream_free(&s);
        ids_free(&ids);
    }
    /* a tokenizer without the token that ends answers */
    IdList ids = {0};
    FAILS(template_completion(TEMPLATE_LLAMA3, chars, "x", &ids), ERR_CONFIG, "<|eot_id|>",
          "choose another");
    ids_free(&ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
