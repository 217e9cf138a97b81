/* safetensors files: every type, damaged headers, and what we write. The files here are put
 * together from bytes; tests/model reads one that PyTorch's users write
 * (tests/golden/gpt.safetensors). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checkpoints/exchange/safetensors.h"
#include "tests/base/scratch.h"

static char *path;

static int make(void **state) {
    if (scratch_make(NULL) != 0) return -1;
    path = scratch("t.safetensors");
    return 0;
}
static int clear(void **state) {
    free(path);
    return scratch_remove(NULL);
}

/* `announced`: what the first 8 bytes say; -1: the header's true length. */
static void write_file(const char *header, int64_t announced, const void *data, size_t len) {
    const size_t n = strlen(header);
    const uint64_t length = announced < 0 ? n : (uint64_t)announced;
    char *bytes = xmalloc(8 + n + len);
    for (int i = 0; i < 8; i++) bytes[i] = (char)(length >> 8 * i);
    memcpy(bytes + 8, header, n);
    if (len) memcpy(bytes + 8 + n, data, len);
    scratch_write(path, bytes, 8 + n + len);
    free(bytes);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void test_types(void **state) {
    static const unsigned char data[] = {
        0,    0,    0,    0,    0,    0,    0xf8, 0x3f,                   /* F64 1.5 */
        0,    0,    0x20, 0xc0,                                           /* F32 -2.5 */
        0xff, 0xff, 0xff, 0xff,                                           /* I32 -1 */
        0,    0x3c, 1,    0,    0xff, 0x7b, 0,    0xfc, 0, 0x7e, 0, 0x84, /* F16: see below */
        0x80, 0x3f, 0x49, 0xc0, 0x80, 0x7f, /* BF16 1, -3.140625, inf */
        7,                                  /* U8 */
    };
    write_file("{\"__metadata__\": {\"format\": \"pt\"},"
               "\"d\": {\"dtype\": \"F64\", \"shape\": [1], \"data_offsets\": [0, 8]},"
               "\"f\": {\"dtype\": \"F32\", \"shape\": [], \"data_offsets\": [8, 12]},"
               "\"i\": {\"dtype\": \"I32\", \"shape\": [1, 1], \"data_offsets\": [12, 16]},"
               "\"h\": {\"dtype\": \"F16\", \"shape\": [3, 2], \"data_offsets\": [16, 28]},"
               "\"b\": {\"dtype\": \"BF16\", \"shape\": [3], \"data_offsets\": [28, 34]},"
               "\"none\": {\"dtype\": \"F32\", \"shape\": [0, 5], \"data_offsets\": [34, 34]},"
               "\"u\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [34, 35]}}   ",
               -1, data, sizeof data);
    SafeTensors *s;
    OK(safetensors_open(&s, path));
    int n;
    double x[6];
    const StTensor *v = safetensors_list(s, &n);
    assert_int_equal(n, 7);
    assert_string_equal(v[0].name, "b");
    assert_string_equal(v[6].name, "u");
    assert_null(safetensors_find(s, "__metadata__"));
    OK(safetensors_read(s, safetensors_find(s, "d"), 0, 1, x));
    assert_true(x[0] == 1.5);
    OK(safetensors_read(s, safetensors_find(s, "f"), 0, 1, x));
    assert_true(x[0] == -2.5 && safetensors_find(s, "f")->ndim == 0);
    OK(safetensors_read(s, safetensors_find(s, "i"), 0, 1, x));
    assert_true(x[0] == -1);
    OK(safetensors_read(s, safetensors_find(s, "h"), 0, 6,
                        x)); /* 1, the smallest, the largest, -inf, NaN, -2^-14 */
    assert_true(x[0] == 1 && x[1] == 0x1p-24 && x[2] == 65504 && x[3] == (double)-INFINITY);
    assert_true(isnan(x[4]) && x[5] == -0x1p-14);
    OK(safetensors_read(s, safetensors_find(s, "h"), 2, 1, x));
    assert_true(x[0] == 65504);
    OK(safetensors_read(s, safetensors_find(s, "b"), 0, 3, x));
    assert_true(x[0] == 1 && x[1] == -3.140625 && x[2] == (double)INFINITY);
    OK(safetensors_read(s, safetensors_find(s, "none"), 0, 0, x));
    FAILS(safetensors_read(s, safetensors_find(s, "u"), 0, 1, x), ERR_DATA, path,
          "u has dtype U8, expected F32");
    safetensors_close(&s);
}

/* One damaged header each; the file has `len` bytes of data. */
static void test_damaged(void **state) {
    static const struct {
        const char *header, *says;
        int len;
    } bad[] = {
        {"{", "incomplete JSON", 0},
        {"[]", "not a JSON object", 0},
        {"{\"a\": 1}", "a: not an object", 0},
        {"{\"a\": {\"shape\": [1], \"data_offsets\": [0, 4]}}", "missing \"dtype\"", 4},
        {"{\"a\": {\"dtype\": 3, \"shape\": [1], \"data_offsets\": [0, 4]}}", "expected a string",
         4},
        {"{\"a\": {\"dtype\": \"F31\", \"shape\": [1], \"data_offsets\": [0, 4]}}",
         "\"F31\" is not", 4},
        {"{\"a\": {\"dtype\": \"F32\", \"data_offsets\": [0, 4]}}", "\"shape\" is not a list", 4},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [-1], \"data_offsets\": [0, 4]}}", "dimension 0",
         4},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1.0], \"data_offsets\": [0, 4]}}", "dimension 0",
         4},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1,1,1,1,1,1,1,1,1], \"data_offsets\": [0, 4]}}",
         "9 dimensions", 4},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [4294967296, 4294967296], \"data_offsets\": [0, "
         "4]}}",
         "more elements than any file", 4},
        {"{\"a\": {\"dtype\": \"F64\", \"shape\": [2305843009213693952], \"data_offsets\": [0, "
         "0]}}",
         "more elements than any file", 0},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [99999999999999999999], \"data_offsets\": [0, "
         "4]}}",
         "dimension 0 is not a count", 4},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1]}}", "not a pair", 4},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4, 8]}}", "not a pair",
         4},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, \"4\"]}}",
         "not a pair", 4},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 8]}}",
         "outside the 4 bytes of data: truncated", 4},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [-4, 0]}}", "outside", 4},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 0]}}", "outside", 4},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 4]}}",
         "4 bytes, expected 8", 4},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]},"
         "\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 8]}}",
         "key given twice", 8},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]},"
         "\"b\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [4, 12]}}",
         "b begin at byte 4, before another tensor's end at 8", 12},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]},"
         "\"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [8, 12]}}",
         "b begin at byte 8, but the tensors before it end at 4", 12},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}",
         "4 bytes follow the last tensor", 8},
        {"{}", "3 bytes follow the last tensor", 3},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        SafeTensors *s = NULL;
        write_file(bad[i].header, -1, "0123456789ab", (size_t)bad[i].len);
        FAILS(safetensors_open(&s, path), ERR_DATA, path, bad[i].says);
        assert_null(s);
    }
}

static void test_lengths(void **state) {
    SafeTensors *s;
    scratch_text(path, "");
    FAILS(safetensors_open(&s, path), ERR_DATA, path, "0 bytes");
    scratch_text(path, "1234567");
    FAILS(safetensors_open(&s, path), ERR_DATA, path, "7 bytes");
    write_file("{}", 3, NULL, 0);
    FAILS(safetensors_open(&s, path), ERR_DATA, path, "header of 3 bytes in a file of 10");
    write_file("{}", INT64_MAX, NULL, 0);
    FAILS(safetensors_open(&s, path), ERR_DATA, path, "header of 9223372036854775807");
    write_file("\x89HDF", 0x0a1a0a0d46444889, NULL, 0);
    FAILS(safetensors_open(&s, path), ERR_DATA, path, "not a safetensors file?");
    char *nowhere = scratch("nowhere.safetensors");
    FAILS(safetensors_open(&s, nowhere), ERR_IO, nowhere, "No such file");
    free(nowhere);
    write_file("{}", -1, NULL, 0);
    OK(safetensors_open(&s, path));
    safetensors_close(&s);
    safetensors_close(&s);
}

/* Every beginning of a good file is refused. */
static void test_truncated(void **state) {
    float x[3] = {1, 2, 3};
    const StTensor t[] = {{.name = "x", .ndim = 1, .shape = {3}}};
    StWriter *w;
    OK(safetensors_create(&w, path, t, 1));
    OK(safetensors_write(w, x, 3));
    OK(safetensors_commit(&w));
    char *bytes;
    size_t len;
    OK(file_read(path, &bytes, &len));
    for (size_t n = 0; n < len; n++) {
        SafeTensors *s;
        scratch_write(path, bytes, n);
        assert_int_equal(safetensors_open(&s, path), ERR_DATA);
    }
    free(bytes);
}

/* --- writing ---------------------------------------------------------------------------------- */

static void test_round_trip(void **state) {
    enum { N = 200000 }; /* more than a piece */
    const StTensor t[] = {{.name = "z.weight", .ndim = 2, .shape = {N / 2, 2}},
                          {.name = "a", .ndim = 1, .shape = {3}},
                          {.name = "empty", .ndim = 1, .shape = {0}}};
    float *x = xmalloc(N * sizeof *x);
    double *back = xmalloc(N * sizeof *back);
    for (int i = 0; i < N; i++) x[i] = (float)i * 0.37f - 1000;
    StWriter *w;
    OK(safetensors_create(&w, path, t, 3));
    OK(safetensors_write(w, x, 70001));
    OK(safetensors_write(w, x + 70001, N - 70001));
    OK(safetensors_write(w, x, 3));
    OK(safetensors_commit(&w));
    assert_null(w);
    SafeTensors *s;
    OK(safetensors_open(&s, path));
    const StTensor *z = safetensors_find(s, "z.weight");
    assert_true(z->type == ST_F32 && z->ndim == 2 && z->shape[0] == N / 2 && z->shape[1] == 2);
    assert_int_equal(z->offset % 8, 0);
    OK(safetensors_read(s, z, 0, N, back));
    for (int i = 0; i < N; i++) assert_true(back[i] == (double)x[i]);
    OK(safetensors_read(s, z, 65535, 3, back));
    assert_true(back[0] == (double)x[65535] && back[2] == (double)x[65537]);
    assert_int_equal(safetensors_find(s, "a")->n, 3);
    safetensors_close(&s);
    free(x);
    free(back);
}

static void test_abandoned(void **state) {
    const StTensor t[] = {{.name = "x", .ndim = 1, .shape = {3}}};
    StWriter *w;
    char *other = scratch("other.safetensors"), *nodir = scratch("no/dir.safetensors");
    OK(safetensors_create(&w, other, t, 1));
    safetensors_abandon(&w);
    char **names;
    int n;
    OK(file_list(scratch_folder, &names, &n));
    for (int i = 0; i < n; i++) assert_null(strstr(names[i], "other"));
    file_free_list(&names, n);
    FAILS(safetensors_create(&w, nodir, t, 1), ERR_IO, nodir, "No such file");
    assert_null(w);
    free(other);
    free(nodir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),      cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_lengths),    cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_abandoned),
    };
    return cmocka_run_group_tests(tests, make, clear);
}
