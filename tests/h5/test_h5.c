/* test_h5.c: what goes into a file comes out again, and damage never goes unnoticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "base/h5/h5.h"
#include "base/hash.h"
#include "tests/base/scratch.h"

#include <fcntl.h>
#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t state = 1;
static uint64_t draw(void) { /* xorshift64: the same on every machine */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Values like weights and ids: neither constant nor pure noise. */
static void fill(H5Type type, int64_t n, void *out) {
    for (int64_t i = 0; i < n; i++) {
        uint64_t r = draw();
        switch (type) {
        case H5_U8: ((uint8_t *)out)[i] = (uint8_t)(r % 50); break;
        case H5_U16: ((uint16_t *)out)[i] = (uint16_t)(r % 5000); break;
        case H5_U32: ((uint32_t *)out)[i] = (uint32_t)(r % 100000); break;
        case H5_I32: ((int32_t *)out)[i] = (int32_t)(r % 1000) - 500; break;
        case H5_I64: ((int64_t *)out)[i] = (int64_t)r; break;
        case H5_F32: ((float *)out)[i] = (float)((double)(r % 20001) / 1e4 - 1); break;
        case H5_F64: ((double *)out)[i] = (double)(r % 2000003) / 1e6 - 1; break;
        }
    }
}

static void round_trip(H5Type type, H5Codec codec, int ndim, const int64_t *shape) {
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) n *= shape[i];
    size_t bytes = (size_t)n * h5_type_size(type);
    char *in = xcalloc(bytes + 1, 1), *out = xcalloc(bytes + 1, 1);
    fill(type, n, in);
    char *path = scratch("round.h5");
    unlink(path); /* see scratch_write() */
    H5 *h = NULL;
    OK(h5_create(&h, path));
    OK(h5_write(h, "/a/b/c", type, ndim, shape, in, codec));
    OK(h5_close(&h));
    assert_null(h);

    OK(h5_open(&h, path));
    assert_true(h5_exists(h, "/a/b/c"));
    assert_true(h5_exists(h, "a/b"));
    assert_false(h5_exists(h, "/a/x/c"));
    H5Type t = H5_U8;
    int nd = 0;
    int64_t s[H5_MAX_DIM];
    OK(h5_shape(h, "/a/b/c", &t, &nd, s));
    assert_int_equal(t, type);
    assert_int_equal(nd, ndim);
    assert_memory_equal(s, shape, sizeof *s * (size_t)ndim);
    OK(h5_read(h, "/a/b/c", type, out, n));
    assert_memory_equal(in, out, bytes);
    if (n > 0) {
        for (int i = 0; i < 20; i++) {
            int64_t offset = (int64_t)(draw() % (uint64_t)n);
            int64_t m = (int64_t)(draw() % (uint64_t)(n - offset + 1));
            memset(out, 0x55, bytes);
            OK(h5_read_range(h, "/a/b/c", type, offset, m, out));
            assert_memory_equal(out, in + (size_t)offset * h5_type_size(type),
                                (size_t)m * h5_type_size(type));
        }
    }
    OK(h5_close(&h));
    free(in);
    free(out);
    free(path);
}

static void test_round_trips(void **unused) {
    static const int64_t shapes[][4] = {
        {0},        {1},       {2},           {1000},       {262144},       {262145},
        {700001},   {0, 3},    {1, 1},        {3, 5},       {1000, 300},    {2, 400000},
        {7, 3, 11}, {2, 3, 0}, {5, 2, 70000}, {3, 4, 5, 6}, {2, 2, 300000}, {1, 2, 2, 140001}};
    static const int dims[] = {1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 4, 3, 4};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (int codec = H5_RAW; codec <= H5_SHUFFLE_ZSTD; codec++)
            round_trip(H5_F32, (H5Codec)codec, dims[i], shapes[i]);
    const int64_t n = 300001;
    for (int type = H5_U8; type <= H5_F64; type++)
        for (int codec = H5_RAW; codec <= H5_SHUFFLE_ZSTD; codec++)
            round_trip((H5Type)type, (H5Codec)codec, 1, &n);
}

static void test_append(void **unused) {
    char *path = scratch("append.h5");
    static const int64_t totals[] = {0, 1, 999, 1000, 1001, 16000, 16001, 50123};
    enum { CHUNK = 1000 };
    for (size_t t = 0; t < sizeof totals / sizeof *totals; t++)
        for (int codec = H5_RAW; codec <= H5_SHUFFLE_ZSTD; codec++) {
            int64_t n = totals[t], sent = 0, total = -1, nhash = -1;
            uint16_t *in = xcalloc((size_t)n + 1, 2), *out = xcalloc((size_t)n + 1, 2);
            fill(H5_U16, n, in);
            H5 *h = NULL;
            H5Append *a = NULL;
            unlink(path);
            OK(h5_create(&h, path));
            OK(h5_append_begin(&a, h, "/tokens", H5_U16, CHUNK, (H5Codec)codec));
            while (sent < n) {
                int64_t m = (int64_t)(draw() % 3000);
                if (m > n - sent) m = n - sent;
                OK(h5_append(a, in + sent, m));
                sent += m;
            }
            const uint64_t *hashes = h5_append_hashes(a, &nhash);
            assert_int_equal(nhash, (n + CHUNK - 1) / CHUNK);
            for (int64_t i = 0; i < nhash; i++) {
                int64_t m = n - i * CHUNK < CHUNK ? n - i * CHUNK : CHUNK;
                assert_true(hashes[i] == hash_bytes(in + i * CHUNK, (size_t)m * 2));
            }
            OK(h5_append_end(&a, &total));
            assert_int_equal(total, n);
            OK(h5_close(&h));
            OK(h5_open(&h, path));
            OK(h5_read(h, "/tokens", H5_U16, out, n));
            assert_memory_equal(in, out, (size_t)n * 2);
            for (int i = 0; i < 30 && n > 0; i++) {
                int64_t offset = (int64_t)(draw() % (uint64_t)n);
                int64_t m = (int64_t)(draw() % (uint64_t)(n - offset + 1));
                OK(h5_read_range(h, "/tokens", H5_U16, offset, m, out));
                assert_memory_equal(out, in + offset, (size_t)m * 2);
            }
            OK(h5_close(&h));
            free(in);
            free(out);
        }
    free(path);
}

static void test_attributes_and_texts(void **unused) {
    char *path = scratch("text.h5");
    enum { LONG = 3000000 };
    char *text = xmalloc(LONG + 1);
    for (int i = 0; i < LONG; i++) text[i] = (char)('a' + draw() % 20);
    text[LONG] = '\0';
    H5 *h = NULL;
    OK(h5_create(&h, path));
    OK(h5_set_str(h, "/", "stage", "reward"));
    OK(h5_set_str(h, "/", "empty", ""));
    OK(h5_set_str(h, "/", "greek", "ῥήτωρ"));
    OK(h5_set_i64(h, "/", "step", INT64_MIN));
    OK(h5_write_text(h, "/meta/tokenizer", text));
    OK(h5_write_text(h, "/meta/none", ""));
    OK(h5_set_i64(h, "/meta/tokenizer", "hash", -7));
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        OK(h5_set_i64(h, "/", name, i));
    }
    OK(h5_close(&h));

    OK(h5_open(&h, path));
    static const char *names[] = {"stage", "empty", "greek"}, *values[] = {"reward", "", "ῥήτωρ"};
    char *s = NULL;
    size_t n = 1;
    for (int i = 0; i < 3; i++) {
        OK(h5_get_str(h, "/", names[i], &s));
        assert_string_equal(s, values[i]);
        free(s);
    }
    OK(h5_read_text(h, "/meta/tokenizer", &s, &n));
    assert_int_equal(n, LONG);
    assert_string_equal(s, text);
    free(s);
    OK(h5_read_text(h, "/meta/none", &s, &n));
    assert_int_equal(n, 0);
    assert_string_equal(s, "");
    free(s);
    int64_t v = 0;
    OK(h5_get_i64(h, "/", "step", &v));
    assert_true(v == INT64_MIN);
    OK(h5_get_i64(h, "/meta/tokenizer", "hash", &v));
    assert_int_equal(v, -7);
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        OK(h5_get_i64(h, "/", name, &v));
        assert_int_equal(v, i);
    }
    FAILS(h5_get_str(h, "/", "absent", &s), ERR_DATA, path, "no attribute \"absent\"");
    FAILS(h5_get_str(h, "/", "step", &s), ERR_DATA, path, "not a string");
    FAILS(h5_get_i64(h, "/", "stage", &v), ERR_DATA, path, "not a 64-bit integer");
    FAILS(h5_get_i64(h, "/nowhere", "x", &v), ERR_DATA, path, "/nowhere");
    OK(h5_close(&h));
    free(text);
    free(path);
}

static void test_wrong_reads(void **unused) {
    char *path = scratch("wrong.h5"), *gone = scratch("gone.h5");
    float x[4] = {1, 2, 3, 4};
    int32_t y[4];
    H5 *h = NULL;
    const int64_t n = 4;
    OK(h5_create(&h, path));
    OK(h5_write(h, "w", H5_F32, 1, &n, x, H5_SHUFFLE_ZSTD)); /* "/w" and "w" are the same */
    FAILS(h5_write(h, "/w", H5_F32, 1, &n, x, H5_RAW), ERR_IO, path, "exists");
    OK(h5_close(&h));
    OK(h5_open(&h, path));
    FAILS(h5_read(h, "/v", H5_F32, x, 4), ERR_DATA, path, "no \"/v\"");
    FAILS(h5_read(h, "/w", H5_I32, y, 4), ERR_DATA, path, "holds f32, expected i32");
    FAILS(h5_read(h, "/w", H5_F32, x, 3), ERR_DATA, path, "holds 4 elements, expected 3");
    FAILS(h5_read_range(h, "/w", H5_F32, 2, 3, x), ERR_DATA, path, "elements 2 to 5");
    OK(h5_read_range(h, "/w", H5_F32, 4, 0, x));
    OK(h5_close(&h));
    FAILS(h5_open(&h, gone), ERR_IO, gone, "No such file");
    assert_null(h);
    scratch_write(path, "{\"json\": 1}\n", 12);
    FAILS(h5_open(&h, path), ERR_DATA, path, "not an HDF5 file");
    scratch_write(path, "", 0);
    FAILS(h5_open(&h, path), ERR_DATA, path, "empty");
    FAILS(h5_create(&h, "/nonexistent/x.h5"), ERR_IO, "/nonexistent/x.h5", "No such file");
    free(path);
    free(gone);
}

typedef struct Seen {
    char text[512];
    int stop;
} Seen;

static int see(void *ctx, const char *name, H5Type type, int ndim, const int64_t *shape) {
    Seen *s = ctx;
    size_t n = strlen(s->text);
    snprintf(s->text + n, sizeof s->text - n, "%s:%d:%lld ", name, (int)type, (long long)shape[0]);
    return s->stop ? error_set(ERR_CONFIG, "stopped") : 0;
}

static void test_each(void **unused) {
    char *path = scratch("each.h5");
    H5 *h = NULL;
    const int64_t one = 1, two = 2;
    float x[2] = {0};
    OK(h5_create(&h, path));
    OK(h5_write(h, "/params/h.1.w", H5_F32, 1, &two, x, H5_RAW));
    OK(h5_write(h, "/params/h.0.w", H5_F32, 1, &one, x, H5_ZSTD));
    OK(h5_write(h, "/params/deep/x", H5_U8, 1, &one, x, H5_ZSTD));
    OK(h5_write(h, "/top", H5_F32, 1, &one, x, H5_ZSTD));
    for (int i = 0; i < 50; i++) { /* many links in a group: HDF5 stores them in another way */
        char name[32];
        snprintf(name, sizeof name, "/many/%02d", i);
        OK(h5_write(h, name, H5_F32, 1, &one, x, H5_ZSTD));
    }
    OK(h5_close(&h));
    OK(h5_open(&h, path));
    Seen s = {0};
    OK(h5_each(h, "/params", see, &s));
    assert_string_equal(s.text, "/params/deep/x:0:1 /params/h.0.w:5:1 /params/h.1.w:5:2 ");
    s = (Seen){0};
    OK(h5_each(h, "params/deep/", see, &s));
    assert_string_equal(s.text, "/params/deep/x:0:1 ");
    s = (Seen){.stop = 1};
    assert_int_equal(h5_each(h, "/", see, &s), ERR_CONFIG);
    assert_string_equal(s.text, "/many/00:5:1 ");
    FAILS(h5_each(h, "/absent", see, &s), ERR_DATA, path, "/absent");
    OK(h5_close(&h));
    free(path);
}

/* A file like a small checkpoint, for the damage tests. */
enum { NW = 30000, NM = 5000, NT = 7001 };
typedef struct Content {
    float w[NW], m[NM];
    uint16_t tokens[NT];
    int64_t step;
    char *text;
} Content;

static int write_content(const char *path, const Content *c) {
    H5 *h = NULL;
    H5Append *a = NULL;
    const int64_t w[] = {100, NW / 100}, m = NM;
    int rc;
    unlink(path); /* see scratch_write() */
    TRY(h5_create(&h, path));
    TRY_GOTO(done, h5_set_i64(h, "/", "step", c->step));
    TRY_GOTO(done, h5_write(h, "/params/w", H5_F32, 2, w, c->w, H5_SHUFFLE_ZSTD));
    TRY_GOTO(done, h5_write(h, "/optimizer/m", H5_F32, 1, &m, c->m, H5_RAW));
    TRY_GOTO(done, h5_append_begin(&a, h, "/tokens", H5_U16, 1000, H5_ZSTD));
    TRY_GOTO(done, h5_append(a, c->tokens, NT));
    TRY_GOTO(done, h5_append_end(&a, NULL));
    TRY_GOTO(done, h5_set_str(h, "/", "text", c->text));
done:
    if (a) h5_append_end(&a, NULL);
    if (rc < 0) { /* the first error is the one that counts */
        h5_close(&h);
        return rc;
    }
    return h5_close(&h);
}

static int read_content(const char *path, Content *c) {
    H5 *h = NULL;
    int rc;
    TRY(h5_open(&h, path));
    TRY_GOTO(done, h5_get_i64(h, "/", "step", &c->step));
    TRY_GOTO(done, h5_read(h, "/params/w", H5_F32, c->w, NW));
    TRY_GOTO(done, h5_read(h, "/optimizer/m", H5_F32, c->m, NM));
    TRY_GOTO(done, h5_read(h, "/tokens", H5_U16, c->tokens, NT));
    TRY_GOTO(done, h5_get_str(h, "/", "text", &c->text));
done:
    h5_close(&h);
    return rc;
}

static void make_content(Content *c) {
    fill(H5_F32, NW, c->w);
    fill(H5_F32, NM, c->m);
    fill(H5_U16, NT, c->tokens);
    c->step = 123456789;
    c->text = xstrdup("model: {layers: 2}\n");
}

static bool same_content(const Content *a, const Content *b) {
    return memcmp(a->w, b->w, sizeof a->w) == 0 && memcmp(a->m, b->m, sizeof a->m) == 0 &&
           memcmp(a->tokens, b->tokens, sizeof a->tokens) == 0 && a->step == b->step &&
           strcmp(a->text, b->text) == 0;
}

/* Reads in a child: HDF5 1.10 itself may crash on damage, which is why checkpoints are hashed
 * before they are opened. 0: identical, 1: different and unnoticed, 2: an error, 3: crashed. */
static int read_damaged(const char *path, const Content *truth) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        static Content got;
        omp_set_num_threads(1); /* the team of threads does not survive fork() */
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL);
        alarm(60);
        int rc = read_content(path, &got);
        if (rc < 0) _exit(strstr(error_message(), path) && error_message()[0] ? 2 : 1);
        _exit(same_content(&got, truth) ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) <= 2 ? WEXITSTATUS(status) : 3;
}

static void test_damage(void **unused) {
    static Content truth;
    make_content(&truth);
    char *path = scratch("damage.h5"), *bytes = NULL;
    size_t len;
    OK(write_content(path, &truth));
    assert_int_equal(read_damaged(path, &truth), 0);
    OK(file_read(path, &bytes, &len));
    int seen[4] = {0};
    for (int i = 0; i < 300; i++) {
        size_t at = draw() % len;
        unsigned char was = (unsigned char)bytes[at];
        unsigned char flip = (unsigned char)(1u << (draw() % 8));
        if (i % 3 == 0) flip = (unsigned char)(1 + draw() % 255);
        bytes[at] = (char)(was ^ flip);
        int fd = open(path, O_WRONLY);
        assert_true(fd >= 0 && pwrite(fd, bytes + at, 1, (off_t)at) == 1);
        int result = read_damaged(path, &truth);
        if (result == 1) print_error("byte %zu of %zu: ^%02x went unnoticed\n", at, len, flip);
        seen[result]++;
        bytes[at] = (char)was;
        assert_true(pwrite(fd, bytes + at, 1, (off_t)at) == 1);
        close(fd);
    }
    if (seen[3]) print_message("HDF5 crashed on %d of 300 damaged files\n", seen[3]);
    assert_int_equal(seen[1], 0);
    assert_true(seen[2] > 200); /* most bytes matter */
    for (int i = 0; i < 40; i++) {
        size_t keep = draw() % len;
        scratch_write(path, bytes, keep);
        assert_int_not_equal(read_damaged(path, &truth), 1);
        assert_int_not_equal(read_damaged(path, &truth), 0);
    }
    free(bytes);
    free(path);
}

extern void __asan_init(void) __attribute__((weak));

/* A disk that is full after `limit` bytes: ERR_IO with the path, nothing printed, and the process
 * lives on and leaves in the normal way. */
static void full_disk(const Content *c, const char *path, const char *other, rlim_t limit) {
    char *printed = scratch("stderr");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit small = {limit, RLIM_INFINITY}, all = {RLIM_INFINITY, RLIM_INFINITY};
        if (!freopen(printed, "w", stderr)) _exit(9);
        omp_set_num_threads(3);
        alarm(60);
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &small);
        for (int i = 0; i < 3; i++)
            if (write_content(path, c) != ERR_IO || !strstr(error_message(), path)) _exit(1);
        if (!strstr(error_message(), "File too large")) _exit(2);
        setrlimit(RLIMIT_FSIZE, &all); /* room again: the next save must work */
        static Content got;
        if (write_content(other, c) < 0 || read_content(other, &got) < 0 || !same_content(c, &got))
            _exit(3);
        exit(0); /* with exit handlers */
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) print_error("limit %llu: status %x\n", (unsigned long long)limit, status);
    assert_int_equal(status, 0);
    if (!__asan_init) assert_int_equal(file_size(printed), 0); /* it prints remarks of its own */
    free(printed);
}

/* Must be the first test: children may only use threads while the parent has none. */
static void test_full_disk(void **unused) {
    static Content c;
    make_content(&c);
    char *path = scratch("full.h5"), *other = scratch("later.h5");
    omp_set_num_threads(1);
    OK(write_content(path, &c));
    omp_set_num_threads(3);
    int64_t size = file_size(path);
    for (int64_t limit = 1; limit < size; limit += size / 30)
        full_disk(&c, path, other, (rlim_t)limit);
    full_disk(&c, path, other, (rlim_t)(size - 1));
    free(path);
    free(other);
}

/* Equal content, equal bytes: no times, no uninitialised memory. */
static void test_deterministic(void **unused) {
    static Content c;
    make_content(&c);
    char *a = scratch("a.h5"), *b = scratch("b.h5");
    uint64_t ha = 0, hb = 1;
    OK(write_content(a, &c));
    usleep(1100000); /* times in HDF5 have seconds */
    OK(write_content(b, &c));
    OK(file_hash(a, &ha));
    OK(file_hash(b, &hb));
    assert_true(ha == hb);
    free(a);
    free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_disk),   cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_append),      cmocka_unit_test(test_attributes_and_texts),
        cmocka_unit_test(test_wrong_reads), cmocka_unit_test(test_each),
        cmocka_unit_test(test_damage),      cmocka_unit_test(test_deterministic)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
