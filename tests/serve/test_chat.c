/* A conversation: what the model sees of it, the commands, an answer that is stopped, messages that
 * do not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <signal.h>

#include "base/utf8.h"
#include "data/texts.h"
#include "serve/chat.h"
#include "tests/base/scratch.h"
#include "tests/data/tokens.h"
#include "tests/model/random_gpt.h"

enum { CONTEXT = 64, NEW = 12 };

static Loaded m;

static int setup(void **state) {
    static char path[] = "m";
    m = (Loaded){.tokenizer = tokens_bytes(), .tmpl = TEMPLATE_PLAIN, .path = path};
    m.gpt = random_gpt((GptConfig){.vocab = tokenizer_vocab(m.tokenizer),
                                   .context = CONTEXT,
                                   .layers = 1,
                                   .heads = 2,
                                   .width = 16,
                                   .norm_eps = 1e-5},
                       5);
    return scratch_make(state);
}

static int teardown(void **state) {
    gpt_close(&m.gpt);
    tokenizer_close(&m.tokenizer);
    return scratch_remove(state);
}

static const DecodeOptions greedy = {.top_p = 1, .max_new = NEW};

/* What chat_run prints for the lines typed. */
static char *talk(const char *typed) {
    char *said = NULL;
    size_t n;
    FILE *in = fmemopen((void *)(uintptr_t)typed, strlen(typed), "r"),
         *out = open_memstream(&said, &n);
    OK(chat_run(&m, &greedy, in, out, false));
    fclose(in);
    fclose(out);
    return said;
}

/* The greedy answer to a conversation, by decode itself. */
static char *answer_to(const Message *messages, int n) {
    IdList ids = {0};
    DecodeResult r;
    char *text;
    OK(template_prompt(m.tmpl, m.tokenizer, messages, n, &ids));
    OK(decode(&r, m.gpt, ids.v, (const int64_t[2]){0, ids.n}, 1, NULL, &greedy));
    OK(template_decode(m.tmpl, m.tokenizer, r.v[0].tokens, r.v[0].n, &text));
    decode_free(&r);
    ids_free(&ids);
    return text;
}

static json_t *saved(const char *path, size_t line) {
    char *text;
    size_t n;
    OK(file_read(path, &text, &n));
    json_t *v = json_loadb(text, n, JSON_DISABLE_EOF_CHECK, NULL);
    for (char *at = text; line > 0; line--) {
        at = strchr(at, '\n') + 1;
        json_decref(v);
        v = json_loads(at, JSON_DISABLE_EOF_CHECK, NULL);
    }
    free(text);
    assert_non_null(v);
    return v;
}

static const char *content(const json_t *record, size_t i) {
    const json_t *v = json_array_get(json_object_get(record, "messages"), i);
    return json_string_value(json_object_get(v, "content"));
}

/* Every answer is the one to all that was said before; /reset and /system start over. */
static void test_history(void **state) {
    char *path = scratch("saved.jsonl");
    char *typed =
        xasprintf("Hi\nHo\\\nhe\n/save %s\n/reset\n/bogus\nHi\n/system Be.\nHi\n/save %s\n"
                  "/quit\nunread\n",
                  path, path);
    free(talk(typed));
    json_t *first = saved(path, 0), *second = saved(path, 1);
    assert_int_equal(json_array_size(json_object_get(first, "messages")), 4);
    assert_int_equal(json_array_size(json_object_get(second, "messages")), 3);
    assert_string_equal(content(first, 2), "Ho\nhe");
    assert_string_equal(content(second, 0), "Be.");

    Message all[] = {{"user", "Hi"}, {"assistant", NULL}, {"user", "Ho\nhe"}};
    char *one = answer_to(all, 1);
    all[1].content = one;
    char *two = answer_to(all, 3);
    Message other[] = {{"system", "Be."}, {"user", "Hi"}};
    char *three = answer_to(other, 2);
    size_t n; /* what is saved is valid UTF-8 */
    char *texts[] = {one, two, three};
    const char *have[] = {content(first, 1), content(first, 3), content(second, 2)};
    for (int i = 0; i < 3; i++) {
        char *valid = utf8_repair(texts[i], strlen(texts[i]), &n);
        assert_string_equal(have[i], valid);
        free(valid);
        free(texts[i]);
    }
    json_decref(first), json_decref(second);
    unlink(path);
    free(typed), free(path);
}

/* Longer than the context: the oldest turns go; one message that is too long is refused alone. */
static void test_long(void **state) {
    char *path = scratch("long.jsonl"), *typed = xstrdup("");
    for (int i = 0; i < 12; i++) {
        char *more = xasprintf("%smessage with the number %d\n%s\n", typed, i,
                               i == 5 ? "much too long a message for this context of sixty-four "
                                        "tokens, which it exceeds"
                                      : "");
        free(typed);
        typed = more;
    }
    char *all = xasprintf("%s/save %s\n", typed, path);
    free(talk(all));
    json_t *record = saved(path, 0);
    assert_int_equal(json_array_size(json_object_get(record, "messages")), 24);
    Message last = {"user",
                    "message with the number 11"}; /* only it fits, with room for an answer */
    char *want = answer_to(&last, 1);
    size_t n;
    char *valid = utf8_repair(want, strlen(want), &n);
    assert_string_equal(content(record, 23), valid);
    free(valid), free(want), free(all), free(typed);
    json_decref(record);
    unlink(path);
    free(path);
}

/* Ctrl-C as soon as something is shown. */
static ssize_t interrupting_write(void *written, const char *data, size_t n) {
    size_t *all = written;
    if (n > 0 && *all == 0) raise(SIGINT);
    *all += n;
    return (ssize_t)n;
}

static void test_interrupt(void **state) {
    char *path = scratch("stopped.jsonl"), *typed = xasprintf("Hi\n/save %s\n", path);
    size_t written = 0;
    FILE *in = fmemopen(typed, strlen(typed), "r");
    FILE *out = fopencookie(&written, "w", (cookie_io_functions_t){.write = interrupting_write});
    OK(chat_run(&m, &greedy, in, out, false));
    fclose(in);
    fclose(out);
    Message hi = {"user", "Hi"};
    json_t *record = saved(path, 0);
    char *whole = answer_to(&hi, 1);
    assert_true(strlen(content(record, 1)) < strlen(whole));
    json_decref(record);
    unlink(path);
    free(whole), free(typed), free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_interrupt),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
