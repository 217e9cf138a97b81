/* test_json.c: records out of JSON lines and arrays, and messages that lead to the byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "tests/base/scratch.h"

#include <math.h>
#include <stdio.h>
#include <zlib.h>

static char *path;

/* "line:x " of all records; bad ones as "line:! ". */
static char *records(const char *text, size_t len) {
    scratch_write(path, text, len);
    JsonRecords *r = NULL;
    json_t *v = NULL;
    char *out = xstrdup("");
    int rc;
    OK(json_records_open(&r, path));
    assert_string_equal(json_records_path(r), path);
    while ((rc = json_records_next(r, &v)) != 0) {
        int64_t x = -1;
        if (rc == ERR_DATA)
            assert_null(v);
        else {
            OK(rc);
            OK(json_get_i64(v, "x", &x));
        }
        char *more = xasprintf(rc < 0 ? "%s%lld:! " : "%s%lld:%lld ", out,
                               (long long)json_records_line(r), (long long)x);
        free(out);
        out = more;
        json_decref(v);
    }
    json_records_close(&r);
    json_records_close(&r);
    return out;
}

static void test_records(void **unused) {
    static const char *cases[][2] = {
        {"", ""},
        {"\n \n", ""},
        {"{\"x\":1}\n{\"x\":2}", "1:1 2:2 "},
        {"\n\n{\"x\":1}\r\n\r\n  {\"x\":2}  \n", "3:1 5:2 "},
        {"\xEF\xBB\xBF{\"x\":1}\n{\"x\":2}\n", "1:1 2:2 "},
        {"{\"x\":1}\n{\"x\":\n{\"x\":3}\n", "1:1 2:! 3:3 "}, /* a bad line does not hide the next */
        {"[]", ""},
        {" [ {\"x\":1},\n {\"x\":2},{\"x\":3}]\n", "1:1 2:2 3:3 "},
        {"\xEF\xBB\xBF\n[{\"x\":1}]", "1:1 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *got = records(cases[i][0], strlen(cases[i][0]));
        assert_string_equal(got, cases[i][1]);
        free(got);
    }
    gzFile z = gzopen(path, "wb");
    gzputs(z, "[{\"x\":5}]");
    gzclose(z);
    JsonRecords *r = NULL;
    json_t *v = NULL;
    OK(json_records_open(&r, path));
    assert_int_equal(json_records_next(r, &v), 1);
    json_t *kept = v; /* a record lives as long as its owner wants */
    assert_int_equal(json_records_next(r, &v), 0);
    json_records_close(&r);
    int64_t x = 0;
    OK(json_get_i64(kept, "x", &x));
    assert_int_equal(x, 5);
    json_decref(kept);
}

static void test_bad_records(void **unused) {
    static const struct {
        const char *text, *place, *what;
    } cases[] = {
        {"{\"x\":1}\n{\"x\":}\n", "text:2:", "malformed JSON: unexpected token near '}'"},
        {"{\"x\":1}\n{\"x\":2} 3\n", "text:2:", "end of file expected"},
        {"{\"x\":1}\n\n{\"x\":\"\xff\"}\n", "text:3:", "invalid UTF-8 (re-encode"},
        {"{\"x\":1}\n{\"a\":1,\"a\":2}\n", "text:2:", "key given twice"},
        {"{\"x\":1}\n{\"x\":\"\\u0000\"}\n", "text:2:", "NUL characters"},
        {"{\"x\":1}\n{\"x\":\"abc", "text:2:", "incomplete JSON (truncated file?)"},
        {"[{\"x\":1},\n{\"x\"}]\n", "text:2:", "malformed JSON: ':' expected"},
        {"[{\"x\":1},\n", "text:2:", "incomplete JSON"},
        {"[{\"x\":1}]\n{}", "text:2:", "end of file expected"},
        {"[\n\"\xc3\x28\"]", "text:2:", "invalid UTF-8"},
        {"{\n  \"x\": 1\n}\n", "text:1:", "one record a line"},
        {"{\"x\":1}\n{\"x\": 1, \n\"y\": 2}\n", "text:2:", "one record a line"},
        {"{\"x\":1}\n{\"y\":", "text:2:", "incomplete JSON (truncated file?)"},
        {"{\"x\":1}\n\xEF\xBB\xBF{\"y\":2}\n", "text:2:", "byte order mark (U+FEFF) in the middle"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_write(path, cases[i].text, strlen(cases[i].text));
        JsonRecords *r = NULL;
        json_t *v = NULL;
        int rc = json_records_open(&r, path);
        while (rc >= 0 && (rc = json_records_next(r, &v)) == 1) json_decref(v);
        FAILS(rc, ERR_DATA, cases[i].place, cases[i].what);
        if (strncmp(error_message(), path, strlen(path)) != 0) fail_msg("%s", error_message());
        json_records_close(&r);
    }
    scratch_text(path, "{\"x\":1}\n{\"abc\":2, \"d\":}\n");
    JsonRecords *r = NULL;
    json_t *v = NULL;
    OK(json_records_open(&r, path));
    OK(json_records_next(r, &v));
    json_decref(v);
    FAILS(json_records_next(r, &v), ERR_DATA, "text:2:15", "near '}'"); /* the column */
    json_records_close(&r);
    char *gone = scratch("gone");
    FAILS(json_records_open(&r, gone), ERR_IO, gone, "No such file");
    assert_null(r);
    free(gone);
}

/* What no 64 bits hold is the nearest real or, beyond those, null; all else stays. */
static void test_large_numbers(void **unused) {
    static const char text[] =
        "{\"long\": 1000000000000000000000000000000, \"less\":-9223372036854775809,\n"
        "\"huge\": 1e400, \"low\": [-2E+999], \"most\": 9223372036854775807, \"s\": \"1e999 \\\" "
        "1e999\"}";
    json_t *v = NULL;
    double x = 0;
    int64_t most = 0;
    OK(json_parse(&v, text, strlen(text), "text", 1));
    OK(json_get_f64(v, "long", &x));
    assert_true(x == 1e30);
    OK(json_get_f64(v, "less", &x));
    assert_true(fabs(x + 9223372036854775808.0) < 1e7);
    assert_true(json_is_null(json_object_get(v, "huge")));
    assert_true(json_is_null(json_array_get(json_object_get(v, "low"), 0)));
    OK(json_get_i64(v, "most", &most));
    assert_true(most == INT64_MAX);
    assert_string_equal(json_string_value(json_object_get(v, "s")), "1e999 \" 1e999");
    json_decref(v);
    FAILS(json_parse(&v, "[1e999, }", 9, "text", 1), ERR_DATA, "text:1:9", "near '}'");
}

static void test_files(void **unused) {
    json_t *v = json_pack("{s:f, s:[i,i], s:s}", "z", 0.1, "a", 1, 2, "greek", "ῥήτωρ"), *w = NULL;
    OK(json_write_file(v, path));
    OK(json_read_file(&w, path));
    assert_true(json_equal(v, w));
    char *text = NULL;
    size_t n;
    OK(file_read(path, &text, &n));
    assert_true(strstr(text, "\"a\"") < strstr(text, "\"z\"")); /* sorted */
    assert_int_equal(text[n - 1], '\n');
    free(text);
    json_decref(v);
    json_decref(w);
    static const double numbers[] = {0.1,  1.0 / 3,     5e-324, 1.7976931348623157e308,
                                     -0.0, 123456789.25};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) { /* bit by bit */
        double back = 0;
        v = json_pack("{s:f}", "x", numbers[i]);
        OK(json_write_file(v, path));
        OK(json_read_file(&w, path));
        OK(json_get_f64(w, "x", &back));
        assert_true(memcmp(&back, &numbers[i], sizeof back) == 0);
        json_decref(v);
        json_decref(w);
    }
    scratch_text(path, "{\n  \"a\": 1,\n  oops\n}\n");
    FAILS(json_read_file(&w, path), ERR_DATA, "text:3:", "oops");
    scratch_text(path, "");
    FAILS(json_read_file(&w, path), ERR_DATA, "text:1:", "JSON");
    v = json_integer(1);
    FAILS(json_write_file(v, "/nonexistent/x.json"), ERR_IO, "/nonexistent/x.json", "No such file");
    json_decref(v);
    FAILS(json_parse(&v, "{]", 2, "there", 40), ERR_DATA, "there:40:2", "malformed JSON");
    FAILS(json_parse(&v, "{\n\n]", 4, "there", 40), ERR_DATA, "there:42:", "malformed JSON");
}

static void test_members(void **unused) {
    json_t *v = json_pack("{s:s, s:i, s:f, s:b, s:n, s:[]}", "s", "text", "i", 3, "f", 2.5, "b", 1,
                          "n", "l");
    const char *s = NULL;
    int64_t i = 0;
    double f = 0;
    OK(json_get_str(v, "s", &s));
    assert_string_equal(s, "text");
    OK(json_get_i64(v, "i", &i));
    assert_int_equal(i, 3);
    OK(json_get_f64(v, "f", &f));
    assert_true(f == 2.5);
    OK(json_get_f64(v, "i", &f));
    assert_true(f == 3);
    FAILS(json_get_str(v, "x", &s), ERR_DATA, "missing", "\"x\"");
    FAILS(json_get_str(v, "i", &s), ERR_DATA, "\"i\" is an integer", "expected a string");
    FAILS(json_get_str(v, "n", &s), ERR_DATA, "\"n\" is null", "expected a string");
    FAILS(json_get_i64(v, "f", &i), ERR_DATA, "\"f\" is a number with a fraction", "an integer");
    FAILS(json_get_i64(v, "b", &i), ERR_DATA, "\"b\" is true", "expected an integer");
    FAILS(json_get_f64(v, "l", &f), ERR_DATA, "\"l\" is an array", "expected a number");
    FAILS(json_get_f64(json_object_get(v, "s"), "l", &f), ERR_DATA, "found a string", "an object");
    FAILS(json_get_str(NULL, "l", &s), ERR_DATA, "found nothing", "an object with \"l\"");
    json_decref(v);
}

static int make(void **unused) {
    if (scratch_make(unused)) return -1;
    path = scratch("text");
    return 0;
}

static int clean(void **unused) {
    free(path);
    return scratch_remove(unused);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records), cmocka_unit_test(test_bad_records),
        cmocka_unit_test(test_large_numbers), cmocka_unit_test(test_files),
        cmocka_unit_test(test_members)};
    return cmocka_run_group_tests(tests, make, clean);
}
