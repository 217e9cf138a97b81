/* test_lines.c: lines out of plain, gzip and zstd files, odd ends, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/lines.h"
#include "tests/base/scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <zlib.h>
#include <zstd.h>

static char *path;

static size_t pack_gzip(const void *in, size_t n, char *out, size_t room) {
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)in;
    z.avail_in = (uInt)n;
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t size = room - z.avail_out;
    deflateEnd(&z);
    return size;
}

static size_t pack_zstd(const void *in, size_t n, char *out, size_t room) {
    ZSTD_CCtx *z = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
    size_t size = ZSTD_compress2(z, out, room, in, n);
    assert_false(ZSTD_isError(size));
    ZSTD_freeCCtx(z);
    return size;
}

static size_t pack_plain(const void *in, size_t n, char *out, size_t room) {
    assert_true(n <= room);
    memcpy(out, in, n);
    return n;
}

typedef size_t Pack(const void *in, size_t n, char *out, size_t room);
static Pack *const packs[] = {pack_plain, pack_gzip, pack_zstd};

/* The lines of the file, each followed by '|'. */
static char *all_lines(void) {
    Lines *l = NULL;
    const char *s;
    size_t n, end = 0, room = 1;
    char *out = xcalloc(1, 1);
    int rc;
    OK(lines_open(&l, path));
    assert_string_equal(lines_path(l), path);
    for (int64_t i = 1; (rc = lines_next(l, &s, &n)) == 1; i++) {
        assert_int_equal(lines_number(l), i);
        assert_int_equal(s[n], 0);
        if (end + n + 2 > room) out = xrealloc(out, room = 2 * (end + n + 2));
        memcpy(out + end, s, n);
        memcpy(out + end + n, "|", 2);
        end += n + 1;
    }
    OK(rc);
    assert_int_equal(lines_next(l, &s, &n), 0); /* the end stays the end */
    lines_close(&l);
    lines_close(&l);
    return out;
}

static void test_ends_of_lines(void **unused) {
    static const char *cases[][2] = {{"", ""},
                                     {"a", "a|"},
                                     {"a\n", "a|"},
                                     {"\n", "|"},
                                     {"\n\nb", "||b|"},
                                     {"a\r\nb\r\n", "a|b|"},
                                     {"a\rb\n", "a\rb|"},
                                     {"\r\n", "|"},
                                     {"x\r", "x|"},
                                     {"a\n\n", "a||"}};
    char packed[1000];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int p = 0; p < 3; p++) {
            scratch_write(path, packed,
                          packs[p](cases[i][0], strlen(cases[i][0]), packed, sizeof packed));
            char *got = all_lines(), *text = NULL;
            size_t n;
            assert_string_equal(got, cases[i][1]);
            OK(lines_slurp(path, &text, &n));
            assert_int_equal(n, strlen(cases[i][0]));
            assert_string_equal(text, cases[i][0]);
            free(got);
            free(text);
        }
}

/* Many lines of all lengths, in several members or frames, against a plain copy. */
static void test_members(void **unused) {
    enum { SIZE = 3000000, ROOM = SIZE + 100000 };
    char *text = xmalloc(SIZE + 1), *packed = xmalloc(ROOM);
    uint64_t s = 7;
    for (int i = 0; i < SIZE; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        uint64_t r = s >> 40;
        text[i] = r % 97 == 0 && (i < 1000000 || r % 1001 == 0) ? '\n' : (char)('a' + r % 23);
    }
    text[SIZE] = '\0';
    char *expected = xasprintf("%s|", text); /* '|' for each newline and at the end */
    for (char *p = expected; (p = strchr(p, '\n'));) *p = '|';
    for (int p = 0; p < 3; p++) {
        size_t n = 0, cuts[] = {0, 1, 1, 700001, 1400000, SIZE};
        for (int i = 0; i < 5; i++)
            n += packs[p](text + cuts[i], cuts[i + 1] - cuts[i], packed + n, ROOM - n);
        scratch_write(path, packed, n);
        char *got = all_lines(), *whole = NULL;
        size_t len;
        if (strcmp(got, expected) != 0) fail_msg("packing %d gives other lines", p);
        OK(lines_slurp(path, &whole, &len));
        assert_int_equal(len, SIZE);
        assert_memory_equal(whole, text, SIZE);
        free(got);
        free(whole);
    }
    free(text);
    free(packed);
    free(expected);
}

static void test_padding_and_skippable(void **unused) {
    char packed[200] = {0};
    size_t n = pack_gzip("a\nb\n", 4, packed, sizeof packed);
    scratch_write(path, packed, n + 50); /* zeros behind it */
    char *got = all_lines();
    assert_string_equal(got, "a|b|");
    free(got);
    memcpy(packed, "\x50\x2A\x4D\x18\x04\x00\x00\x00skip", 12);
    n = 12 + pack_zstd("c\nd", 3, packed + 12, sizeof packed - 12);
    scratch_write(path, packed, n);
    got = all_lines();
    assert_string_equal(got, "c|d|");
    free(got);
}

static int read_all(void) {
    Lines *l = NULL;
    const char *s;
    size_t n;
    int rc;
    TRY(lines_open(&l, path));
    while ((rc = lines_next(l, &s, &n)) == 1) {
    }
    if (rc == ERR_DATA) { /* who goes on comes to an end */
        char *message = xstrdup(error_message());
        assert_int_equal(lines_next(l, &s, &n), ERR_IO);
        assert_non_null(strstr(error_message(), path));
        error_set(rc, "%s", message);
        free(message);
    }
    lines_close(&l);
    return rc;
}

static void test_damage(void **unused) {
    enum { N = 20000 };
    char *text = xmalloc(N), *packed = xmalloc(2 * N);
    for (int i = 0; i < N; i++) text[i] = i % 50 == 49 ? '\n' : (char)('a' + (i * i / 7) % 26);
    static const char *kinds[] = {"", "gzip", "zstd"};
    for (int p = 1; p < 3; p++) {
        size_t n = packs[p](text, N, packed, 2 * N);
        scratch_write(path, packed, n);
        OK(read_all());
        for (int i = 0; i < 60; i++) {
            size_t at = 20 + (size_t)(i * 7919) % (n - 20);
            packed[at] ^= (char)(1 << i % 8);
            scratch_write(path, packed, n);
            FAILS(read_all(), ERR_DATA, path, kinds[p]);
            packed[at] ^= (char)(1 << i % 8);
        }
        for (size_t keep = 5; keep < n; keep += n / 20) {
            scratch_write(path, packed, keep);
            FAILS(read_all(), ERR_DATA, path, kinds[p]);
        }
        scratch_write(path, packed, n - 1);
        FAILS(read_all(), ERR_DATA, "truncated", "again");
        memcpy(packed + n, "garbage", 7);
        scratch_write(path, packed, n + 7);
        FAILS(read_all(), ERR_DATA, path, kinds[p]);
        char *whole = NULL;
        size_t len;
        FAILS(lines_slurp(path, &whole, &len), ERR_DATA, path, kinds[p]);
    }
    free(text);
    free(packed);
}

static void test_long_lines(void **unused) {
    enum { LIMIT = 64 << 20 };
    const char *s;
    size_t n;
    Lines *l = NULL;
    /* Exactly the limit, one too long, a short one; of NULs, so that the file can be sparse. */
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT, 0666);
    assert_int_equal(pwrite(fd, "\n", 1, LIMIT), 1);
    assert_int_equal(pwrite(fd, "\nshort\n", 7, 2 * LIMIT + 2), 7);
    close(fd);
    OK(lines_open(&l, path));
    assert_int_equal(lines_next(l, &s, &n), 1);
    assert_int_equal(n, LIMIT);
    char *place = xasprintf("%s:2:", path);
    FAILS(lines_next(l, &s, &n), ERR_DATA, place, "longer than 64 MiB");
    free(place);
    assert_int_equal(lines_next(l, &s, &n), 1);
    assert_string_equal(s, "short");
    assert_int_equal(lines_number(l), 3);
    assert_int_equal(lines_next(l, &s, &n), 0);
    lines_close(&l);
}

static void test_errors_and_bytes(void **unused) {
    Lines *l = NULL;
    char *gone = scratch("gone");
    FAILS(lines_open(&l, gone), ERR_IO, gone, "No such file");
    FAILS(lines_open(&l, scratch_folder), ERR_IO, scratch_folder, "Is a directory");
    free(gone);
    scratch_write(path, "a\0b\nc", 5); /* a NUL is a character like others */
    const char *s;
    size_t n;
    OK(lines_open(&l, path));
    assert_int_equal(lines_next(l, &s, &n), 1);
    assert_int_equal(n, 3);
    assert_memory_equal(s, "a\0b", 4);
    lines_close(&l);
}

static void test_peek_and_rest(void **unused) {
    Lines *l = NULL;
    int byte;
    const char *s;
    char *rest;
    size_t n;
    scratch_write(path, "\xEF\xBB\xBF \n\t[1]\nx\ny", 13);
    OK(lines_open(&l, path));
    OK(lines_peek(l, &byte));
    assert_int_equal(byte, '[');
    OK(lines_next(l, &s, &n) - 1);
    assert_int_equal(n, 4); /* nothing was taken */
    OK(lines_next(l, &s, &n) - 1);
    assert_string_equal(s, "\t[1]");
    OK(lines_rest(l, &rest, &n));
    assert_string_equal(rest, "x\ny");
    assert_int_equal(lines_next(l, &s, &n), 0);
    lines_close(&l);
    free(rest);
    scratch_write(path, " \n\n", 3);
    OK(lines_open(&l, path));
    OK(lines_peek(l, &byte));
    assert_int_equal(byte, -1);
    lines_close(&l);
}

/* Standard input, byte by byte through a pipe, compressed. */
static void test_standard_input(void **unused) {
    char packed[200];
    size_t n = pack_gzip("one\ntwo\n", 8, packed, sizeof packed);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        for (size_t i = 0; i < n; i++) {
            if (write(fds[1], packed + i, 1) != 1) _exit(1);
            if (i < 8) usleep(2000);
        }
        _exit(0);
    }
    close(fds[1]);
    int kept = dup(STDIN_FILENO);
    dup2(fds[0], STDIN_FILENO);
    Lines *l = NULL;
    const char *s;
    OK(lines_open(&l, "-"));
    assert_string_equal(lines_path(l), "standard input");
    assert_int_equal(lines_next(l, &s, &n), 1);
    assert_string_equal(s, "one");
    assert_int_equal(lines_next(l, &s, &n), 1);
    assert_string_equal(s, "two");
    assert_int_equal(lines_next(l, &s, &n), 0);
    lines_close(&l);
    if (kept >= 0) dup2(kept, STDIN_FILENO);
    close(kept);
    close(fds[0]);
    waitpid(child, NULL, 0);
}

/* A small file made to become gigabytes, of blanks, of one line and of short lines: refused,
 * whoever reads, long before it has filled anything. Plain text and what text compresses to are
 * fine. */
static void test_bombs(void **unused) {
    enum { MIB = 1 << 20, PIECES = 100 };
    char *text = xmalloc(MIB), *one = xmalloc(MIB), *all = xmalloc((size_t)PIECES * MIB);
    for (int kind = 0; kind < 3; kind++)
        for (int p = 1; p < 3; p++) {
            for (int i = 0; i < MIB; i++)
                text[i] = kind == 0 ? ' ' : kind == 2 && i % 8 == 7 ? '\n' : 'a';
            const size_t n = packs[p](text, MIB, one, MIB); /* each piece a member or frame */
            for (size_t i = 0; i < PIECES; i++) memcpy(all + i * n, one, n);
            scratch_write(path, all, PIECES * n);
            Lines *l;
            const char *s;
            char *rest;
            size_t len;
            int byte, rc = 1;
            FAILS(lines_slurp(path, &rest, &len), ERR_DATA, path, "compressed bytes became more");
            OK(lines_open(&l, path));
            if (kind == 0) FAILS(lines_peek(l, &byte), ERR_DATA, path, "compressed bytes became");
            while (kind > 0 && (rc = lines_next(l, &s, &len)) == 1) {
            }
            if (kind > 0) FAILS(rc, ERR_DATA, path, "decompress the file and give that");
            FAILS(lines_next(l, &s, &len), ERR_IO, path, "cannot be read beyond");
            lines_close(&l);
            scratch_write(path, all, 60 * n); /* 60 MiB do no harm */
            OK(lines_slurp(path, &rest, &len));
            assert_int_equal(len, 60 * MIB);
            free(rest);
        }
    free(text), free(one), free(all);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ends_of_lines),
                                       cmocka_unit_test(test_members),
                                       cmocka_unit_test(test_padding_and_skippable),
                                       cmocka_unit_test(test_damage),
                                       cmocka_unit_test(test_long_lines),
                                       cmocka_unit_test(test_errors_and_bytes),
                                       cmocka_unit_test(test_peek_and_rest),
                                       cmocka_unit_test(test_standard_input),
                                       cmocka_unit_test(test_bombs)};
    return cmocka_run_group_tests(tests, make, clean);
}
