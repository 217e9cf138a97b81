/* An answer shown token by token: the pieces are valid UTF-8, nothing of the template is seen, and
 * together they are what template_decode says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "data/template.h"
#include "data/texts.h"
#include "tests/base/scratch.h"
#include "tests/data/tokens.h"

static Tokenizer *bytes, *chatml;

static int make_tokenizers(void **state) {
    bytes = tokens_bytes();
    chatml = tokens_train("Hello there\nuser\nassistant\n", 270, true);
    return 0;
}

static int free_tokenizers(void **state) {
    tokenizer_close(&bytes);
    tokenizer_close(&chatml);
    return 0;
}

/* What is shown of the ids; pieces must be valid one by one. */
static char *shown(Template tp, const Tokenizer *tk, bool raw, const IdList *ids, int64_t *pieces) {
    AnswerStream *s = answer_stream(tp, tk, raw);
    char *all = xstrdup("");
    *pieces = 0;
    for (int64_t i = 0; i <= ids->n; i++) {
        const char *piece = i < ids->n ? answer_stream_add(s, ids->v[i]) : answer_stream_end(s);
        assert_int_equal(utf8_valid(piece, strlen(piece)), strlen(piece));
        *pieces += *piece != '\0';
        char *longer = xasprintf("%s%s", all, piece);
        free(all);
        all = longer;
    }
    answer_stream_free(&s);
    return all;
}

static void test_pieces(void **state) {
    static const char text[] = "Gr\xC3\xBC\xC3\x9F \xE4\xBD\xA0 \xF0\x9F\x98\x80, <|im_ and on.";
    for (int t = 0; t < 4; t++)
        for (int k = 0; k < 2; k++) {
            const Tokenizer *tk = k ? chatml : bytes;
            IdList ids = {0};
            int64_t pieces;
            OK(template_completion((Template)t, tk, text, &ids));
            char *s = shown((Template)t, tk, false, &ids, &pieces);
            assert_string_equal(s, text);
            assert_true(pieces > (t == TEMPLATE_CHATML ? 10 : 20)); /* streamed, not kept back */
            free(s);
            ids_free(&ids);
        }
}

static void test_broken(void **state) {
    static const struct {
        const char *text, *shown;
    } cases[] = {
        {"a\xFF"
         "b",
         "a\xEF\xBF\xBD"
         "b"},                          /* no UTF-8 */
        {"a\xE4\xBD", "a\xEF\xBF\xBD"}, /* ends within a character */
        {"\xE4\xBD"
         "b",
         "\xEF\xBF\xBD"
         "b"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* a surrogate */
        {" ", " "},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        IdList ids = {0};
        int64_t pieces;
        OK(tokenizer_encode(bytes, cases[i].text, strlen(cases[i].text), false, &ids));
        char *s = shown(TEMPLATE_PLAIN, bytes, false, &ids, &pieces);
        assert_string_equal(s, cases[i].shown);
        free(s);
        ids_free(&ids);
    }
}

/* After the end nothing more; a model that leaves the space out loses nothing; raw text is
 * whole. */
static void test_ends(void **state) {
    IdList ids = {0};
    int64_t pieces;
    OK(tokenizer_encode(bytes, "no space<|im_end|>more", 22, false, &ids));
    char *s = shown(TEMPLATE_CHATML, bytes, false, &ids, &pieces);
    assert_string_equal(s, "no space");
    free(s);
    s = shown(TEMPLATE_HH, bytes, true, &ids, &pieces);
    assert_string_equal(s, "no space<|im_end|>more");
    free(s);
    s = shown(TEMPLATE_HH, bytes, false, &ids, &pieces);
    assert_string_equal(s, "no space<|im_end|>more");
    free(s);
    ids.n = 0;
    OK(tokenizer_encode(chatml, "Hello<|im_end|>there", 20, true, &ids));
    s = shown(TEMPLATE_CHATML, chatml, false, &ids, &pieces);
    assert_string_equal(s, "Hello");
    free(s);
    ids_free(&ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_ends),
    };
    return cmocka_run_group_tests(tests, make_tokenizers, free_tokenizers);
}
