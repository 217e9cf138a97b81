/* GGUF files: blocks of every type against llama.cpp's own package (tests/golden/gguf_golden.py), a
 * file that it wrote, what we write, and damaged ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "checkpoints/exchange/gguf.h"
#include "tests/base/scratch.h"

static char *path;

static int make(void **state) {
    if (scratch_make(NULL) != 0) return -1;
    path = scratch("t.gguf");
    return 0;
}
static int clear(void **state) {
    free(path);
    return scratch_remove(NULL);
}

static GgufType type_named(const char *name) {
    int t = 0;
    while (t < GGUF_NTYPES && strcmp(gguf_type_name((GgufType)t), name) != 0) t++;
    assert_true(t < GGUF_NTYPES);
    return (GgufType)t;
}

static void unhex(const json_t *v, void *out, size_t n) {
    const char *hex = json_string_value(v);
    assert_int_equal(strlen(hex), 2 * n);
    for (size_t i = 0; i < n; i++) {
        unsigned byte = 0;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        ((unsigned char *)out)[i] = (unsigned char)byte;
    }
}

/* Every bit. */
static void test_blocks(void **state) {
    json_t *golden, *c;
    size_t i;
    int unpacked = 0, packed = 0;
    OK(json_read_file(&golden, "tests/golden/gguf.json"));
    for (int pack = 0; pack < 2; pack++) {
        json_array_foreach(json_object_get(golden, pack ? "pack" : "unpack"), i, c) {
            const GgufType t = type_named(json_string_value(json_object_get(c, "type")));
            const json_t *blocks = json_object_get(c, "blocks"),
                         *values = json_object_get(c, "values");
            int64_t bytes;
            const int64_t n = gguf_block(t, &bytes);
            for (size_t b = 0; b < json_array_size(blocks); b++) {
                unsigned char block[256], found[256];
                float want[256], x[256];
                unhex(json_array_get(blocks, b), block, (size_t)bytes);
                unhex(json_array_get(values, b), want, (size_t)n * sizeof *want);
                if (pack) {
                    gguf_pack(t, want, found);
                    assert_memory_equal(found, block, (size_t)bytes);
                    packed++;
                } else {
                    gguf_unpack(t, block, x);
                    assert_memory_equal(x, want, (size_t)n * sizeof *want);
                    unpacked++;
                }
            }
        }
    }
    assert_int_equal(unpacked, 60);
    assert_int_equal(packed, 192);
    json_decref(golden);
}

static void test_their_file(void **state) {
    Gguf *g;
    int n;
    float x[64];
    OK(gguf_open(&g, "tests/golden/small.gguf"));
    const json_t *m = gguf_meta(g);
    static const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"k.u8", 200},        {"k.i8", -5},           {"k.u16", 60000},
                {"k.i16", -300},      {"k.u32", 4000000000},  {"k.i32", -2000000000},
                {"k.u64", 1LL << 40}, {"k.i64", -(1LL << 40)}};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        assert_int_equal(json_integer_value(json_object_get(m, ints[i].key)), ints[i].value);
    assert_true(json_real_value(json_object_get(m, "k.f32")) == (double)0.1f);
    assert_true(json_real_value(json_object_get(m, "k.f64")) == 0.1);
    assert_true(json_is_true(json_object_get(m, "k.bool")));
    assert_string_equal(json_string_value(json_object_get(m, "k.text")), "größer ▁");
    const json_t *texts = json_object_get(m, "k.texts");
    assert_int_equal(json_array_size(texts), 3);
    assert_string_equal(json_string_value(json_array_get(texts, 2)), "▁b");
    assert_int_equal(json_integer_value(json_array_get(json_object_get(m, "k.ints"), 2)), 3);
    const GgufTensor *t = gguf_list(g, &n);
    assert_int_equal(n, 3);
    assert_string_equal(t[0].name, "half.weight");
    t = gguf_find(g, "two.weight");
    assert_true(t->ndim == 2 && t->shape[0] == 2 && t->shape[1] == 32 && t->type == GGUF_Q8_0);
    OK(gguf_read(g, t, 32, 32, x));
    assert_true(x[31] > 7.8f && x[31] < 7.95f && x[0] > 3.9f && x[0] < 4.1f);
    OK(gguf_read(g, gguf_find(g, "one.weight"), 0, 5, x));
    assert_true(x[4] == 4);
    OK(gguf_read(g, gguf_find(g, "half.weight"), 33, 2, x));
    assert_true(x[0] == 33 / 8.0f && x[1] == 34 / 8.0f);
    assert_null(gguf_find(g, "three.weight"));
    gguf_close(&g);
}

static void test_written(void **state) {
    const GgufTensor t[] = {
        {.name = "a", .type = GGUF_F32, .ndim = 1, .shape = {3}, .n = 3},
        {.name = "b", .type = GGUF_Q8_0, .ndim = 2, .shape = {3, 32}, .n = 96},
        {.name = "c", .type = GGUF_BF16, .ndim = 2, .shape = {1, 5}, .n = 5},
    };
    float x[96], y[96];
    for (int i = 0; i < 96; i++) x[i] = (float)(i * 37 % 64 - 32) / 127.0f * 4;
    json_t *meta = json_pack("{s:s, s:i, s:f, s:b, s:[s, s], s:[i, i]}", "general.architecture",
                             "x", "u", 7, "f", 0.5, "yes", 1, "texts", "", "ab", "ints", -1, 2);
    GgufWriter *w;
    OK(gguf_create(&w, path, meta, t, 3));
    OK(gguf_write(w, x, 3));
    OK(gguf_write(w, x, 32));
    OK(gguf_write(w, x + 32, 64));
    OK(gguf_write(w, x, 5));
    OK(gguf_commit(&w));
    Gguf *g;
    OK(gguf_open(&g, path));
    assert_true(json_equal(gguf_meta(g), meta));
    OK(gguf_read(g, gguf_find(g, "a"), 0, 3, y));
    assert_memory_equal(x, y, 3 * sizeof *x);
    OK(gguf_read(g, gguf_find(g, "b"), 0, 96, y));
    for (int i = 0; i < 96; i++) assert_true(y[i] - x[i] < 0.005f && x[i] - y[i] < 0.005f);
    gguf_close(&g);
    /* a writer that is given up leaves nothing */
    OK(gguf_create(&w, path, meta, t, 3));
    gguf_abandon(&w);
    char **names;
    int n;
    OK(file_list(scratch_folder, &names, &n));
    assert_int_equal(n, 1);
    file_free_list(&names, n);
    json_decref(meta);
}

/* --- damage ----------------------------------------------------------------------------------- */

static char bytes[4096];
static size_t len;

static void put(uint64_t v, int n) {
    for (int i = 0; i < n; i++) bytes[len++] = i < 8 ? (char)(v >> 8 * i) : 0;
}
static void put_text(const char *s) {
    put(strlen(s), 8);
    memcpy(bytes + len, s, strlen(s));
    len += strlen(s);
}
static void begin(uint32_t version, uint64_t tensors, uint64_t pairs) {
    len = 0;
    memcpy(bytes, "GGUF", 4);
    len = 4;
    put(version, 4);
    put(tensors, 8);
    put(pairs, 8);
}
static void tensor(const char *name, int ndim, uint64_t d0, uint64_t d1, uint32_t type,
                   uint64_t offset) {
    put_text(name);
    put((uint64_t)ndim, 4);
    if (ndim > 0) put(d0, 8);
    if (ndim > 1) put(d1, 8);
    for (int i = 2; i < ndim; i++) put(1, 8);
    put(type, 4);
    put(offset, 8);
}
static void bad(const char *says) {
    Gguf *g;
    scratch_write(path, bytes, len);
    FAILS(gguf_open(&g, path), ERR_DATA, path, says);
    assert_null(g);
}

static void test_damaged(void **state) {
    begin(3, 0, 0);
    len = 20;
    bad("20 bytes: not a GGUF file");
    begin(3, 0, 0);
    bytes[0] = 'X';
    bad("not a GGUF file");
    begin(1, 0, 0);
    bad("version 1, expected 2 or 3");
    begin(0x03000000, 0, 0);
    bad("big-endian");
    begin(3, UINT64_MAX, 0);
    bad("announces");
    begin(3, 0, UINT64_MAX);
    bad("announces");
    begin(3, 0, 1);
    put(UINT64_MAX, 8); /* the key's length */
    put(0, 8);
    bad("a text of 18446744073709551615 bytes");
    begin(3, 0, 1);
    put(60000, 8);
    put(0, 8);
    bad("truncated");
    begin(3, 0, 1);
    put_text("a\n");
    put(0, 12);
    bad("is no text");
    begin(3, 0, 1);
    put_text("a");
    put(99, 4);
    put(0, 8);
    bad("type 99");
    begin(3, 0, 1);
    put_text("k");
    put(9, 4);
    put(4, 4); /* a list of u32 */
    put(1000000, 8);
    bad("truncated");
    begin(3, 0, 1);
    put_text("k");
    put(9, 4);
    put(9, 4); /* of lists */
    put(1, 8);
    bad("a list of type 9");
    begin(3, 0, 1);
    put_text("k");
    put(9, 4);
    put(0, 4);
    put(UINT64_MAX / 2, 8);
    bad("longer than any vocabulary");
    begin(3, 0, 1);
    put_text("k");
    put(8, 4);
    put_text("\xff\xfe");
    bad("no UTF-8");
    begin(3, 0, 1);
    put_text("k");
    put(6, 4);
    put(0x7fc00000, 4); /* NaN */
    put(0, 8);
    bad("no number");
    begin(3, 0, 2);
    for (int i = 0; i < 2; i++) {
        put_text("k");
        put(4, 4);
        put(7, 4);
    }
    bad("it is there twice");
    begin(3, 0, 1);
    put_text("general.alignment");
    put(4, 4);
    put(48, 4);
    bad("no power of two");
    static const struct {
        const char *says;
        int ndim;
        uint64_t d0, d1;
        uint32_t type;
        uint64_t offset;
    } one[] = {
        {"0 dimensions", 0, 0, 0, 0, 0},
        {"5 dimensions", 5, 1, 1, 0, 0},
        {"no elements", 1, 0, 0, 0, 0},
        {"more than any file", 2, 1ull << 32, 1ull << 32, 0, 0},
        {"more elements than any file", 1, 1ull << 62, 0, 0, 0},
        {"type 10, which is not read", 1, 256, 0, 10, 0},
        {"rows of 31 elements", 2, 31, 32, 8, 0},
        {"begin at byte 18446744073709551615", 1, 1, 0, 0, UINT64_MAX},
        {"a multiple of 32", 1, 1, 0, 0, 4},
        {"go beyond the end", 1, 100, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        begin(3, 1, 0);
        tensor("t", one[i].ndim, one[i].d0, one[i].d1, one[i].type, one[i].offset);
        put(0, 8);
        bad(one[i].says);
    }
    begin(2, 2, 0);
    tensor("t", 1, 4, 0, 0, 0);
    tensor("u", 1, 4, 0, 0, 0);
    len += 300;
    bad("overlaps");
    begin(2, 2, 0);
    tensor("t", 1, 4, 0, 0, 0);
    tensor("t", 1, 4, 0, 0, 32);
    len += 300;
    bad("t is there twice");
    begin(2, 1, 0); /* and one that is whole, of version 2 */
    tensor("t", 2, 2, 3, 0, 0);
    len = 96 + 24;
    scratch_write(path, bytes, len);
    Gguf *g;
    OK(gguf_open(&g, path));
    assert_true(gguf_find(g, "t")->shape[0] == 3 && gguf_find(g, "t")->shape[1] == 2);
    gguf_close(&g);
    for (size_t n = 0; n < len; n++) { /* cut off anywhere */
        scratch_write(path, bytes, n);
        assert_int_equal(gguf_open(&g, path), ERR_DATA);
    }
    FAILS(gguf_open(&g, "/nonexistent/x.gguf"), ERR_IO, "/nonexistent/x.gguf", "open");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_their_file),
        cmocka_unit_test(test_written),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, make, clear);
}
