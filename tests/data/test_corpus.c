/* Corpora: what is read is what was encoded, held-out documents are disjoint from the others,
 * windows are the same whoever reads them, and damage never goes unseen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/h5/h5.h"
#include "base/json.h"
#include "base/log.h"
#include "data/corpus.h"
#include "data/corpus_file.h"
#include "tests/base/scratch.h"
#include "tests/data/tokens.h"

#include <omp.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

static Tokenizer *bytes;

static int setup(void **state) {
    if (scratch_make(state) < 0) return -1;
    bytes = tokens_bytes();
    return 0;
}

static int teardown(void **state) {
    tokenizer_close(&bytes);
    return scratch_remove(state);
}

static char *write_file(const char *name, const char *content) {
    char *path = scratch(name);
    OK(file_write_durable(path, content, strlen(content)));
    return path;
}

/* Encodes one file of the given content into NAME.h5, the rest of the settings from `b`. */
static int build(CorpusBuild *b, const char *name, const char *content) {
    char *in = write_file(name, content);
    char *out = xasprintf("%s.h5", in), *heldout = xasprintf("%s.heldout.h5", in);
    if (!b->tokenizer) b->tokenizer = bytes;
    b->path = out;
    b->heldout_path = heldout;
    int rc = corpus_build(b, &(StrList){&in, 1});
    b->path = b->heldout_path = NULL;
    free(in);
    free(out);
    free(heldout);
    return rc;
}

static Corpus *open_corpus(const char *name) {
    char *path = scratch(name);
    Corpus *c;
    OK(corpus_open(&c, &(StrList){&path, 1}, 0));
    free(path);
    return c;
}

static void has_text(const char *name, const Tokenizer *tk, const char *expected) {
    Corpus *c = open_corpus(name);
    int64_t n = corpus_tokens(c);
    int32_t *ids = xmalloc((size_t)n * sizeof *ids);
    OK(corpus_read(c, 0, n, ids));
    char *text = tokens_text(tk, ids, n);
    assert_string_equal(text, expected);
    free(text);
    free(ids);
    corpus_close(&c);
}

/* Pseudo-random letters and line breaks, so that chunks differ. */
static char *random_text(size_t n) {
    char *text = xmalloc(n + 1);
    uint32_t x = 12345;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        text[i] = x >> 27 == 0 ? '\n' : (char)('a' + (x >> 24) % 26);
    }
    text[n] = '\0';
    return text;
}

/* --- what goes in ----------------------------------------------------------------------------- */

#define E "<|endoftext|>"

static void test_sources(void **state) {
    CorpusBuild b = {0};
    OK(build(&b, "one.txt", "Hello\nthere\n"));
    has_text("one.txt.h5", bytes, "Hello\nthere\n" E);
    assert_int_equal(b.documents, 1);
    assert_int_equal(b.tokens, 13);
    assert_int_equal(b.bytes, 12);

    b = (CorpusBuild){.split = "<|endoftext|>"};
    OK(build(&b, "split.txt",
             "\xEF\xBB\xBFOne.\n<|endoftext|>\n\nTwo.\n<|endoftext|>\n"
             "<|endoftext|>Three"));
    has_text("split.txt.h5", bytes, "One." E "\nTwo." E "Three" E);
    assert_int_equal(b.documents, 3);

    b = (CorpusBuild){.no_eot = true};
    OK(build(&b, "bare.txt", "No <|endoftext|> but text")); /* ordinary characters */
    has_text("bare.txt.h5", bytes, "No <|endoftext|> but text");
    assert_int_equal(b.tokens, 25);

    b = (CorpusBuild){0};
    OK(build(&b, "records.jsonl", "{\"text\":\"One\"}\n\n{\"text\":\"Zwei \\u00fc\",\"x\":1}\n"));
    has_text("records.jsonl.h5", bytes, "One" E "Zwei \xc3\xbc" E);
    b = (CorpusBuild){.field = "story"};
    OK(build(&b, "array.json", "[{\"story\":\"a\"},\n{\"story\":\"b\"}]"));
    has_text("array.json.h5", bytes, "a" E "b" E);

    char *packed = scratch("packed.jsonl.gz"), *out = scratch("packed.h5");
    gzFile gz = gzopen(packed, "wb");
    assert_true(gzputs(gz, "{\"text\":\"inside\"}\n") > 0);
    gzclose(gz);
    b = (CorpusBuild){.tokenizer = bytes, .path = out};
    OK(corpus_build(&b, &(StrList){&packed, 1}));
    has_text("packed.h5", bytes, "inside" E);
    free(packed);
    free(out);
}

/* How often the corpus holds document "<letter><number>", each number below 1000 once a copy. */
static void count_documents(const char *name, const Tokenizer *tk, char letter, int *count) {
    Corpus *c = open_corpus(name);
    memset(count, 0, 1000 * sizeof *count);
    for (int64_t i = 0; i < corpus_documents(c); i++) {
        int64_t begin, end;
        int32_t ids[16];
        OK(corpus_document(c, i, &begin, &end));
        assert_true(end - begin < 16);
        OK(corpus_read(c, begin, end - begin, ids));
        char *text = tokens_text(tk, ids, end - begin - 1);
        if (text[0] == letter) count[atoi(text + 1)]++;
        free(text);
    }
    corpus_close(&c);
}

static char *numbered(const char *name, char letter) {
    char *path = scratch(name);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 1000; i++) fprintf(f, "{\"text\":\"%c%d\"}\n", letter, i);
    assert_int_equal(fclose(f), 0);
    return path;
}

/* Weights 2.25 and 0.5, a tenth held out: held-out documents are there once and nowhere else. */
static void test_mixture(void **state) {
    char *files[] = {numbered("a.jsonl", 'a'), numbered("b.jsonl", 'b')};
    char *out = scratch("mixed.h5"), *heldout = scratch("mixed.heldout.h5");
    int64_t tokens[2] = {0};
    CorpusBuild b = {.tokenizer = bytes,
                     .path = out,
                     .heldout_path = heldout,
                     .heldout = 0.1,
                     .weight = (const double[]){2.25, 0.5},
                     .file_tokens = tokens};
    OK(corpus_build(&b, &(StrList){files, 2}));
    assert_int_equal(tokens[0] + tokens[1], b.tokens);
    for (int k = 0; k < 2; k++) {
        int train[1000], held[1000], of_train[4] = {0}, nheld = 0;
        count_documents("mixed.h5", bytes, "ab"[k], train);
        count_documents("mixed.heldout.h5", bytes, "ab"[k], held);
        for (int i = 0; i < 1000; i++) {
            assert_true(train[i] <= 3 && held[i] <= 1 && (train[i] == 0 || held[i] == 0));
            if (!held[i]) of_train[train[i]]++;
            nheld += held[i];
        }
        if (k == 0) { /* 0.9 * 1000 documents twice, a quarter of them three times; 5 deviations */
            assert_in_range(nheld, 52, 148);
            assert_int_equal(of_train[0] + of_train[1], 0);
            assert_in_range(of_train[3], 156, 294);
        } else { /* half of all, a tenth of them held out */
            assert_in_range(nheld, 15, 85);
            assert_in_range(of_train[1], 371, 529);
            assert_int_equal(of_train[2] + of_train[3], 0);
        }
    }
    b.heldout_tail = true;
    FAILS(corpus_build(&b, &(StrList){files, 2}), ERR_USAGE, "heldout_tail", "--weight");
    for (int k = 0; k < 2; k++) free(files[k]);
    free(out), free(heldout);
}

static void test_dedup(void **state) {
    char *files[] = {numbered("c.jsonl", 'c'), numbered("d.jsonl", 'd'), numbered("e.jsonl", 'c')};
    char *out = scratch("dedup.h5");
    int count[1000];
    CorpusBuild b = {.tokenizer = bytes, .path = out, .dedup = true};
    OK(corpus_build(&b, &(StrList){files, 3}));
    assert_int_equal(b.documents, 2000);
    assert_int_equal(b.duplicates, 1000);
    for (int k = 0; k < 2; k++) {
        count_documents("dedup.h5", bytes, "cd"[k], count);
        for (int i = 0; i < 1000; i++) assert_int_equal(count[i], 1);
    }
    b = (CorpusBuild){.dedup = true, .split = "|"};
    OK(build(&b, "same.txt", "a|b|a|c|b|"));
    has_text("same.txt.h5", bytes, "a" E "b" E "c" E);
    for (int k = 0; k < 3; k++) free(files[k]);
    free(out);
}

/* Malformed ones are left out and counted, up to max_bad; damage is never skipped. */
static void test_on_bad(void **state) {
    const char *lines = "{\"text\":\"One\"}\n{\"text\":\n{\"text\":5}\n{\"x\":\"y\"}\n7\n"
                        "{\"text\":\"Two\"}\n";
    CorpusBuild b = {0};
    assert_int_equal(build(&b, "bad.jsonl", lines), ERR_DATA);
    assert_non_null(strstr(error_message(), "bad.jsonl:2:"));
    b = (CorpusBuild){.on_bad = ON_BAD_SKIP, .max_bad = 4};
    OK(build(&b, "bad.jsonl", lines));
    assert_int_equal(b.bad, 4);
    has_text("bad.jsonl.h5", bytes, "One" E "Two" E);
    b = (CorpusBuild){.on_bad = ON_BAD_SKIP, .max_bad = 3};
    FAILS(build(&b, "bad.jsonl", lines), ERR_DATA, "bad.jsonl:5", "3 bad documents before it");

    b = (CorpusBuild){.split = "|", .on_bad = ON_BAD_SKIP, .max_bad = 1};
    OK(build(&b, "bad.txt", "One|T\xF6|Three|"));
    has_text("bad.txt.h5", bytes, "One" E "Three" E);

    char *packed = scratch("bad.txt.gz"), *out = scratch("bad.gz.h5"), *data;
    size_t n;
    gzFile gz = gzopen(packed, "wb");
    assert_true(gzputs(gz, "some text that will not be whole") > 0);
    gzclose(gz);
    OK(file_read(packed, &data, &n));
    scratch_write(packed, data, n - 6);
    b = (CorpusBuild){.tokenizer = bytes, .path = out, .on_bad = ON_BAD_SKIP, .max_bad = 1 << 20};
    FAILS(corpus_build(&b, &(StrList){&packed, 1}), ERR_IO, "bad.txt.gz", "cannot be read beyond");
    assert_int_equal(b.bad, 1);
    free(data), free(packed), free(out);
}

/* What is no error, and nobody means to teach, is warned about. */
static void test_warnings(void **state) {
    char *log = scratch("log.txt"), *text;
    size_t n;
    CorpusBuild b = {.split = "|"};
    OK(log_file(log));
    OK(build(&b, "quiet.txt", "\xEF\xBB\xBFOne\n|Two"));
    b = (CorpusBuild){.split = "|"};
    OK(build(&b, "loud.txt", "One\r\n|Two\xEF\xBB\xBFtwo|Three\r\n"));
    log_close();
    OK(file_read(log, &text, &n));
    assert_null(strstr(text, "quiet"));
    assert_non_null(strstr(text, "loud.txt.h5: 2 of 3 documents have carriage returns"));
    assert_non_null(strstr(text, "loud.txt.h5: 1 of 3 documents has byte order marks (U+FEFF)"));
    OK(file_remove(log));
    free(log), free(text);
}

/* While one process writes a corpus no other one may; what a killed one left is written over; the
 * corpus never stands beside a held-out part that is not its own. */
static void test_interrupted(void **state) {
    char *out = scratch("i.txt.h5"), *temporary = scratch("i.txt.h5.tmp");
    CorpusBuild b = {0};
    scratch_text(temporary, "what a killed process left");
    FILE *f = fopen(temporary, "r");
    assert_int_equal(flock(fileno(f), LOCK_EX), 0);
    FAILS(build(&b, "i.txt", "One"), ERR_CONFIG, "i.txt.h5", "another process is writing");
    assert_true(file_exists(temporary));
    fclose(f);
    OK(build(&b, "i.txt", "One"));
    has_text("i.txt.h5", bytes, "One" E);
    assert_false(file_exists(temporary));

    b = (CorpusBuild){.heldout = 0.5, .split = "|"};
    char *heldout = scratch("i.txt.heldout.h5"); /* cannot be written: a folder stands there */
    OK(file_make_dirs(heldout));
    assert_int_equal(build(&b, "i.txt", "a|b|c|d|e|f|g|h"), ERR_IO);
    assert_false(file_exists(out));
    rmdir(heldout);
    OK(build(&b, "i.txt", "a|b|c|d|e|f|g|h"));
    assert_true(file_exists(out) && file_exists(heldout));
    free(out), free(heldout), free(temporary);
}

static void test_documents(void **state) {
    CorpusBuild b = {0};
    OK(build(&b, "d.jsonl", "{\"text\":\"One\"}\n{\"text\":\"\"}\n{\"text\":\"Three\"}\n"));
    Corpus *c = open_corpus("d.jsonl.h5");
    const int64_t expected[] = {0, 4, 5, 11};
    assert_int_equal(corpus_documents(c), 3);
    for (int i = 0; i < 3; i++) {
        int64_t begin, end;
        OK(corpus_document(c, i, &begin, &end));
        assert_int_equal(begin, expected[i]);
        assert_int_equal(end, expected[i + 1]);
    }
    corpus_close(&c);
}

/* More documents than a block, several chunks: the same file for any number of threads. */
static void test_threads(void **state) {
    enum { N = 9000 };
    char *content = xmalloc(N * 60), *end = content;
    for (int i = 0; i < N; i++) end += sprintf(end, "{\"text\":\"Document %d of many.\"}\n", i);
    CorpusBuild b = {0};
    int threads = omp_get_max_threads();
    uint64_t hash[2];
    for (int k = 0; k < 2; k++) {
        omp_set_num_threads(k == 0 ? 1 : 4);
        OK(build(&b, "many.jsonl", content));
        Corpus *c = open_corpus("many.jsonl.h5");
        hash[k] = corpus_hash(c);
        assert_int_equal(corpus_documents(c), N);
        int64_t from, to;
        OK(corpus_document(c, N - 1, &from, &to));
        int32_t ids[64];
        OK(corpus_read(c, from, to - from, ids));
        char *text = tokens_text(bytes, ids, to - from);
        assert_string_equal(text, "Document 8999 of many." E);
        free(text);
        corpus_close(&c);
    }
    omp_set_num_threads(threads);
    assert_true(hash[0] == hash[1]);
    free(content);
}

/* --- held out --------------------------------------------------------------------------------- */

static void mark_documents(const char *name, char *seen) {
    Corpus *c = open_corpus(name);
    for (int64_t i = 0; i < corpus_documents(c); i++) {
        int64_t begin, end;
        int32_t ids[64];
        OK(corpus_document(c, i, &begin, &end));
        OK(corpus_read(c, begin, end - begin, ids));
        char *text = tokens_text(bytes, ids, end - begin);
        seen[atoi(text)]++;
        free(text);
    }
    corpus_close(&c);
}

static void test_heldout(void **state) {
    enum { N = 4000 };
    char *content = xmalloc(N * 40), *end = content, train[N] = {0}, heldout[N] = {0};
    for (int i = 0; i < N; i++) end += sprintf(end, "{\"text\":\"%d is a number\"}\n", i);
    CorpusBuild b = {.heldout = 0.1};
    OK(build(&b, "h.jsonl", content));
    mark_documents("h.jsonl.h5", train);
    mark_documents("h.jsonl.heldout.h5", heldout);
    int held = 0;
    for (int i = 0; i < N; i++) {
        assert_int_equal(train[i] + heldout[i], 1);
        held += heldout[i];
    }
    assert_in_range(held, 320, 480); /* 400, standard deviation 19 */
    assert_int_equal(b.heldout_documents, held);
    assert_int_equal(b.documents, N - held);

    /* A document stays on its side whatever stands around it. */
    char again[N] = {0};
    OK(build(&b, "again.jsonl", strchr(content + N, '\n') + 1));
    mark_documents("again.jsonl.heldout.h5", again);
    for (int i = N / 2; i < N; i++) assert_int_equal(again[i], heldout[i]);
    free(content);
}

static void test_heldout_tail(void **state) {
    CorpusBuild b = {.heldout = 0.1, .heldout_tail = true, .no_eot = true};
    OK(build(&b, "tail.txt", "abcdefghijklmnopqrst"));
    has_text("tail.txt.h5", bytes, "abcdefghijklmnopqr");
    has_text("tail.txt.heldout.h5", bytes, "st");
    assert_int_equal(b.bytes, 18);
    Corpus *c = open_corpus("tail.txt.heldout.h5");
    assert_int_equal(corpus_bytes(c), 2);
    assert_int_equal(corpus_documents(c), 1);
    corpus_close(&c);
    b = (CorpusBuild){.heldout = 0.5, .heldout_tail = true};
    OK(build(&b, "tail.jsonl",
             "{\"text\":\"aa\"}\n{\"text\":\"bb\"}\n{\"text\":\"cc\"}\n"
             "{\"text\":\"dd\"}\n"));
    has_text("tail.jsonl.h5", bytes, "aa" E "bb" E);
    has_text("tail.jsonl.heldout.h5", bytes, "cc" E "dd" E);
    b = (CorpusBuild){.heldout = 0.1};
    FAILS(build(&b, "whole.txt", "One document cannot be divided by its hash"), ERR_DATA, ".h5",
          "--heldout-tail");
}

/* --- wide ids --------------------------------------------------------------------------------- */

/* The tokenizer `bytes` with ids up to 70000. */
static Tokenizer *wide_tokenizer(void) {
    char *json = tokenizer_json(bytes);
    json_t *root;
    OK(json_parse(&root, json, strlen(json), "tokenizer", 1));
    free(json);
    json_t *added = json_object_get(root, "added_tokens");
    for (int i = 257; i < 70001; i++) {
        char name[16];
        snprintf(name, sizeof name, "<t%d>", i);
        json_array_append_new(added, json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", i, "content",
                                               name, "single_word", 0, "lstrip", 0, "rstrip", 0,
                                               "normalized", 0, "special", 0));
    }
    json = json_dumps(root, 0);
    Tokenizer *t;
    OK(tokenizer_parse(&t, json, strlen(json), "wide"));
    free(json);
    json_decref(root);
    return t;
}

static void test_wide(void **state) {
    Tokenizer *wide = wide_tokenizer();
    assert_int_equal(tokenizer_vocab(wide), 70001);
    CorpusBuild b = {.tokenizer = wide};
    OK(build(&b, "wide.txt", "a<t65535>b<t65536><t70000>"));
    has_text("wide.txt.h5", wide, "a<t65535>b<t65536><t70000>" E);
    Corpus *c = open_corpus("wide.txt.h5");
    int32_t ids[6];
    assert_int_equal(corpus_tokens(c), 6);
    OK(corpus_read(c, 1, 4, ids));
    assert_int_equal(ids[0], 65535);
    assert_int_equal(ids[2], 65536);
    assert_int_equal(ids[3], 70000);
    corpus_close(&c);
    tokenizer_close(&wide);
}

/* tests/golden/corpus/v1.h5: what Rhetor 0.1 wrote, rhetor-data encode --out of three records
 * {"text": "story 1 of the cat"} with a tokenizer of 260 ids. */
static void test_version_1(void **state) {
    char *name = (char *)"tests/golden/corpus/v1.h5";
    size_t len;
    Corpus *c;
    OK(corpus_open(&c, &(StrList){.v = &name, .n = 1}, 0));
    const char *json = corpus_tokenizer(c, &len);
    Tokenizer *t;
    OK(tokenizer_parse(&t, json, len, name));
    assert_int_equal(tokenizer_vocab(t), 260);
    int32_t ids[48];
    assert_int_equal(corpus_tokens(c), 48);
    OK(corpus_read(c, 0, 48, ids));
    char *text = tokens_text(t, ids, 16);
    assert_string_equal(text, "story 1 of the cat" E);
    free(text);
    tokenizer_close(&t);
    corpus_close(&c);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* Four files of several chunks as one stream, any range, with room for two chunks in the cache. */
static void test_stream(void **state) {
    enum { SIZE = 150000, FILES = 3 };
    char *text = random_text(FILES * SIZE), *path[FILES];
    for (int f = 0; f < FILES; f++) {
        char name[32], *part = strndup(text + f * SIZE, SIZE);
        snprintf(name, sizeof name, "part%d.txt", f);
        CorpusBuild b = {.no_eot = true};
        OK(build(&b, name, part));
        free(part);
        char *in = scratch(name);
        path[f] = xasprintf("%s.h5", in);
        free(in);
    }
    for (int small = 0; small < 2; small++) {
        int64_t usual = corpus_cache_bytes;
        if (small) corpus_cache_bytes = 2 * CORPUS_CHUNK * 2;
        Corpus *c;
        OK(corpus_open(&c, &(StrList){path, FILES}, tokenizer_hash(bytes)));
        corpus_cache_bytes = usual;
        assert_int_equal(corpus_tokens(c), FILES * SIZE);
        assert_int_equal(corpus_bytes(c), FILES * SIZE);
        int32_t *ids = xmalloc(FILES * SIZE * sizeof *ids);
        uint32_t x = 1;
        for (int i = 0; i < 400; i++) {
            x = x * 1664525u + 1013904223u;
            int64_t at = x % (FILES * SIZE - 300), n = i == 0 ? FILES * SIZE : 300;
            if (i == 0) at = 0;
            OK(corpus_read(c, at, n, ids));
            char *got = tokens_text(bytes, ids, n);
            assert_memory_equal(got, text + at, (size_t)n);
            free(got);
        }
        free(ids);
        corpus_close(&c);
    }
    for (int f = 0; f < FILES; f++) free(path[f]);
    free(text);
}

/* Read ahead or not, in a cache of two chunks or of all, while others use HDF5: the same
 * windows. */
static void test_ahead(void **state) {
    enum { SIZE = 5 * CORPUS_CHUNK + 77, T = 64, BATCH = 40, STEPS = 12 };
    const int64_t all = CORPUS_CHUNK * 40ll;
    char *text = random_text(SIZE), *path[2];
    for (int f = 0; f < 2; f++) {
        char *name = xasprintf("ahead%d.txt", f);
        CorpusBuild b = {.no_eot = true};
        text[0] = (char)('0' + f);
        OK(build(&b, name, text));
        free(name);
        name = xasprintf("ahead%d.txt.h5", f);
        path[f] = scratch(name);
        free(name);
    }
    const StrList files = {path, 2};
    Corpus *plain;
    OK(corpus_open(&plain, &files, 0));
    for (int small = 0; small < 2; small++) {
        int64_t usual = corpus_cache_bytes, n, m;
        uint64_t id, other;
        int32_t a[T + 1], b[T + 1];
        Corpus *c;
        corpus_cache_bytes = small ? 4 * CORPUS_CHUNK : 2 * all;
        OK(corpus_open(&c, &files, 0));
        corpus_cache_bytes = usual;
        for (int64_t j = 0; j < STEPS * BATCH; j++) {
            if (j % BATCH == 0) corpus_ahead(c, 7, j + BATCH, BATCH, T);
            OK(corpus_window(c, 7, j, T, a, &n, &id));
            OK(corpus_window(plain, 7, j, T, b, &m, &other));
            assert_true(n == m && id == other);
            assert_memory_equal(a, b, (size_t)(n + 1) * sizeof *a);
        }
        assert_int_equal(corpus_windows(c, 2 * T),
                         corpus_windows(plain, 2 * T)); /* another index */
        OK(corpus_window(c, 7, 3, 2 * T - 70, a, &n, &id));
        corpus_ahead(c, 7, 0, 1000000, T); /* closed while the thread reads */
        corpus_close(&c);
    }
    corpus_close(&plain);

    /* What was read ahead is there without waiting. */
    bool at_once = false;
    for (useconds_t pause = 50000; !at_once && pause < 60000000; pause *= 2) {
        int32_t w[T + 1];
        int64_t n;
        OK(corpus_open(&plain, &files, 0));
        corpus_ahead(plain, 3, 0, 1, T);
        usleep(pause);
        OK(corpus_window(plain, 3, 0, T, w, &n, NULL));
        at_once = corpus_waited(plain) == 0;
        corpus_close(&plain);
    }
    assert_true(at_once);
    for (int f = 0; f < 2; f++) free(path[f]);
    free(text);
}

static void test_windows(void **state) {
    enum { N = 1003, T = 16, EPOCHS = 20 };
    char *text = random_text(N);
    CorpusBuild b = {.no_eot = true};
    OK(build(&b, "w.txt", text));
    Corpus *c = open_corpus("w.txt.h5");
    int64_t per_epoch = corpus_windows(c, T);
    assert_true(per_epoch == 61 && (per_epoch + 1) * T <= N);
    int32_t all[N], w[T + 1];
    OK(corpus_read(c, 0, N, all));
    int shifts[T] = {0};
    for (int e = 0; e < EPOCHS; e++) {
        char seen[N] = {0};
        int64_t shift = -1;
        for (int64_t i = 0; i < per_epoch; i++) {
            uint64_t id;
            int64_t n;
            OK(corpus_window(c, 9, e * per_epoch + i, T, w, &n, &id));
            assert_int_equal(n, T);
            assert_int_equal(id, e * per_epoch + i);
            int64_t at = 0; /* 17 random letters occur once */
            while (memcmp(all + at, w, sizeof w) != 0) assert_true(++at + T < N);
            if (shift < 0) shift = at % T;
            assert_int_equal(at % T, shift); /* one grid an epoch */
            for (int64_t t = at; t < at + T; t++) assert_int_equal(seen[t]++, 0);
        }
        shifts[shift]++;
    }
    int different = 0;
    for (int i = 0; i < T; i++) different += shifts[i] > 0;
    assert_int_equal(different, T); /* 20 epochs see every shift */

    /* Ranks that read their own windows, each with its own Corpus and in its own time, together
     * read the batch that one rank reads. */
    Corpus *rank[3];
    for (int r = 0; r < 3; r++) rank[r] = open_corpus("w.txt.h5");
    for (int r = 2; r >= 0; r--)
        for (int64_t j = 60 + r; j < 180; j += 3) {
            int32_t mine[T + 1];
            uint64_t id, my_id;
            int64_t n;
            OK(corpus_window(rank[r], 4, j, T, mine, &n, &my_id));
            OK(corpus_window(c, 4, j, T, w, &n, &id));
            assert_memory_equal(mine, w, sizeof w);
            assert_int_equal(my_id, id);
        }
    for (int r = 0; r < 3; r++) corpus_close(&rank[r]);

    assert_int_equal(corpus_windows(c, N - 1), 1); /* just enough */
    int32_t whole[N];
    int64_t n;
    OK(corpus_window(c, 1, 5, N - 1, whole, &n, NULL));
    assert_memory_equal(whole, all, sizeof all);
    assert_int_equal(corpus_windows(c, 2 * N), 1); /* shorter than the context */
    OK(corpus_window(c, 1, 5, 2 * N, whole, &n, NULL));
    assert_int_equal(n, N - 1);
    assert_memory_equal(whole, all, sizeof all);
    corpus_close(&c);
    free(text);

    OK(build(&b, "one.txt", "x"));
    c = open_corpus("one.txt.h5");
    FAILS((int)corpus_windows(c, T), ERR_DATA, "one.txt.h5", "no document has two tokens");
    FAILS(corpus_window(c, 1, 0, T, w, &n, NULL), ERR_DATA, "one.txt.h5",
          "no document has two tokens");
    corpus_close(&c);
}

/* Windows lie inside one document; a short document is a window, of a long one every window comes
 * once an epoch. */
static void test_windows_of_documents(void **state) {
    enum { T = 8, DOCUMENTS = 12 };
    CorpusBuild b = {.no_eot = true, .split = "|"};
    char text[1000], *t = text;
    for (int d = 0; d < DOCUMENTS; d++) { /* lengths 1, 4, 9, 16, ... of one letter each */
        for (int i = 0; i < (d + 1) * (d + 1); i++) *t++ = (char)('a' + d);
        *t++ = '|';
    }
    t[-1] = '\0';
    OK(build(&b, "d.txt", text));
    Corpus *c = open_corpus("d.txt.h5");
    assert_int_equal(corpus_documents(c), DOCUMENTS);
    int64_t windows = corpus_windows(c, T), sum = 0;
    int32_t w[T + 1];
    int64_t n;
    for (int64_t j = 0; j < windows; j++) {
        OK(corpus_window(c, 3, windows + j, T, w, &n, NULL));
        for (int64_t i = 1; i <= n; i++) assert_int_equal(w[i], w[0]);
        sum += n;
    }
    /* lengths 4 and 9: 3 and 8 inputs; 16..81: (len-1)/8 windows of 8; from 100 on one fewer where
     * there are at least 8 */
    int64_t want = 3 + 8;
    for (int d = 3; d < DOCUMENTS; d++) {
        int64_t k = ((d + 1) * (d + 1) - 1) / T;
        want += T * (k >= 8 ? k - 1 : k);
    }
    assert_int_equal(sum, want);
    assert_int_equal(corpus_window_tokens(c, 3, windows, windows, T), want);
    corpus_close(&c);
}

/* --- errors ----------------------------------------------------------------------------------- */

static void test_bad_input(void **state) {
    CorpusBuild b = {0};
    FAILS(build(&b, "latin1.txt", "Gut.\nGut.\nSch\xf6n"), ERR_DATA, "latin1.txt:3: invalid UTF-8",
          "column 4");
    FAILS(build(&b, "latin1.jsonl", "{\"text\":\"ok\"}\n{\"text\":\"Sch\xf6n\"}\n"), ERR_DATA,
          "latin1.jsonl:2", "UTF-8");
    FAILS(build(&b, "other.jsonl", "{\"text\":\"ok\"}\n{\"story\":\"x\"}\n"), ERR_DATA,
          "other.jsonl:2: ", "missing \"text\"");
    FAILS(build(&b, "number.json", "[{\"text\":1}]"), ERR_DATA,
          "number.json, item 1: ", "expected a string");
    FAILS(build(&b, "cut.jsonl", "{\"text\":\"ok\"}\n{\"te"), ERR_DATA, "cut.jsonl:2", "JSON");
    FAILS(build(&b, "empty.txt", ""), ERR_DATA, "empty.txt.h5", "empty");
    b.split = "--";
    FAILS(build(&b, "split.txt", "a\nb--c\xff"), ERR_DATA, "split.txt:2: ", "column 5");
    char *left = scratch("split.txt.h5.tmp"), *h5 = scratch("latin1.txt.h5");
    assert_false(file_exists(left)); /* a failure leaves nothing */
    assert_false(file_exists(h5));
    free(left);
    free(h5);
    char *nowhere = scratch("nowhere.txt");
    b = (CorpusBuild){.tokenizer = bytes, .path = "x.h5"};
    FAILS(corpus_build(&b, &(StrList){&nowhere, 1}), ERR_IO, "nowhere.txt", "No such file");
    Corpus *c;
    FAILS(corpus_open(&c, &(StrList){&nowhere, 1}, 0), ERR_IO, "nowhere.txt", "No such file");
    free(nowhere);
}

static void test_tokenizers(void **state) {
    Tokenizer *other = tokens_train("abab abab", 258, false);
    CorpusBuild a = {0}, b = {.tokenizer = other};
    OK(build(&a, "a.txt", "text"));
    OK(build(&b, "b.txt", "text"));
    char *path[2] = {scratch("a.txt.h5"), scratch("b.txt.h5")};
    Corpus *c;
    OK(corpus_open(&c, &(StrList){path, 1}, tokenizer_hash(bytes)));
    size_t len;
    const char *json = corpus_tokenizer(c, &len);
    char *expected = tokenizer_json(bytes);
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(json, expected, len);
    free(expected);
    corpus_close(&c);
    FAILS(corpus_open(&c, &(StrList){path, 1}, tokenizer_hash(other)), ERR_CONFIG, "a.txt.h5",
          "the model's");
    FAILS(corpus_open(&c, &(StrList){path, 2}, 0), ERR_CONFIG, "a.txt.h5", "b.txt.h5");
    assert_null(c);
    tokenizer_close(&other);
    for (int i = 0; i < 2; i++) free(path[i]);
}

/* What reading a damaged file may come to. HDF5 1.10 itself may crash on damage (and leaks), which
 * is why it is read in a child. */
enum { READ_RIGHT, READ_WRONG, READ_ERROR, READ_CRASH, READ_KINDS };

/* A copy of a file cut off at `size`, with the byte at `at` changed (at < 0: none). */
typedef struct Damage {
    size_t size;
    int64_t at;
} Damage;

/* The file as it was, and what it holds. */
typedef struct Good {
    char *file;
    size_t size;
    int32_t *ids;
    int64_t n;
} Good;

static int read_damaged(const Good *g, Damage d) {
    char *path = scratch("damaged.h5"), was = d.at >= 0 ? g->file[d.at] : 0;
    if (d.at >= 0) g->file[d.at] ^= 0x10;
    FILE *f = fopen(path, "wb");
    bool written = fwrite(g->file, 1, d.size, f) == d.size;
    if (fclose(f) != 0 || !written) return READ_WRONG;
    if (d.at >= 0) g->file[d.at] = was;
    Corpus *c;
    int rc = corpus_open(&c, &(StrList){&path, 1}, tokenizer_hash(bytes)), result = READ_RIGHT;
    if (rc >= 0) {
        int32_t *ids = xcalloc((size_t)g->n, sizeof *ids);
        if (corpus_tokens(c) != g->n) result = READ_WRONG;
        if (result == READ_RIGHT) rc = corpus_read(c, 0, g->n, ids);
        if (rc >= 0 && memcmp(ids, g->ids, (size_t)g->n * sizeof *ids) != 0) result = READ_WRONG;
        free(ids);
        corpus_close(&c);
    }
    free(path);
    if (rc < 0) result = strstr(error_message(), "damaged.h5") ? READ_ERROR : READ_WRONG;
    return result;
}

/* A child reads one damaged file after the other and writes down what came of it; where it crashes
 * the next child goes on. */
static void count_results(const Good *g, const Damage *d, int n, int count[READ_KINDS]) {
    memset(count, 0, READ_KINDS * sizeof *count);
    for (int done = 0; done < n; done++) {
        int end[2];
        assert_int_equal(pipe(end), 0);
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            omp_set_num_threads(1); /* the team of threads does not survive fork() */
            alarm(60);
            for (; done < n; done++) {
                char result = (char)read_damaged(g, d[done]);
                if (write(end[1], &result, 1) != 1) _exit(1);
            }
            _exit(0);
        }
        close(end[1]);
        char result;
        for (; read(end[0], &result, 1) == 1; done++) count[(int)result]++;
        close(end[0]);
        assert_int_equal(waitpid(child, NULL, 0), child);
        if (done < n) count[READ_CRASH]++;
    }
}

static void test_damage(void **state) {
    char *text = random_text(200000);
    CorpusBuild b = {0};
    OK(build(&b, "good.txt", text));
    free(text);
    Good g;
    char *path = scratch("good.txt.h5");
    OK(file_read(path, &g.file, &g.size));
    Corpus *c = open_corpus("good.txt.h5");
    g.n = corpus_tokens(c);
    g.ids = xmalloc((size_t)g.n * sizeof *g.ids);
    OK(corpus_read(c, 0, g.n, g.ids));
    corpus_close(&c);

    enum { FLIPS = 300, CUTS = 8 };
    Damage flip[FLIPS], cut[CUTS], none = {g.size, -1};
    for (int i = 0; i < FLIPS; i++) flip[i] = (Damage){g.size, (int64_t)g.size * i / FLIPS};
    for (int i = 0; i < CUTS; i++) cut[i] = (Damage){g.size * (size_t)(i + 1) / CUTS - 1, -1};
    int count[READ_KINDS];
    count_results(&g, &none, 1, count);
    assert_int_equal(count[READ_RIGHT], 1);
    count_results(&g, flip, FLIPS, count);
    assert_int_equal(count[READ_WRONG], 0);
    assert_true(count[READ_ERROR] > FLIPS * 8 / 10); /* others: unused bytes, documents' offsets */
    count_results(&g, cut, CUTS, count);
    assert_int_equal(count[READ_ERROR], CUTS);
    free(g.ids);
    free(g.file);
    free(path);
}

/* A chunk whose bytes are sound for HDF5 and zstd but that holds other ids: another file's chunks
 * under this one's hashes. */
static void test_swapped_chunk(void **state) {
    char *path = scratch("swapped.h5");
    CorpusBuild b = {0};
    OK(build(&b, "s.txt", "abcdefgh"));
    Corpus *good = open_corpus("s.txt.h5");
    H5 *in, *out;
    char *from = scratch("s.txt.h5"), *tokenizer;
    size_t len;
    int64_t hash, value, one = 1, none = 0, n = corpus_tokens(good);
    uint16_t ids[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    OK(h5_open(&in, from));
    OK(h5_create(&out, path));
    OK(h5_set_str(out, "/", "format", CORPUS_FORMAT));
    OK(h5_set_i64(out, "/", "version", CORPUS_VERSION));
    for (int i = 0; i < CORPUS_ATTRIBUTES; i++) {
        OK(h5_get_i64(in, "/", corpus_attribute[i], &value));
        OK(h5_set_i64(out, "/", corpus_attribute[i], value));
    }
    OK(h5_get_i64(in, "/", "hash", &hash));
    OK(h5_set_i64(out, "/", "hash", hash));
    OK(h5_read(in, CORPUS_HASHES, H5_I64, &value, 1));
    OK(h5_write(out, CORPUS_HASHES, H5_I64, 1, &one, &value, H5_RAW));
    OK(h5_read_text(in, CORPUS_TOKENIZER, &tokenizer, &len));
    OK(h5_write_text(out, CORPUS_TOKENIZER, tokenizer));
    OK(h5_write(out, CORPUS_TOKENS, H5_U16, 1, &n, ids, H5_RAW));
    OK(h5_write(out, CORPUS_DOCUMENTS, H5_I64, 1, &one, &none, H5_RAW));
    OK(h5_close(&out));
    OK(h5_close(&in));
    Corpus *c;
    int32_t got[9];
    OK(corpus_open(&c, &(StrList){&path, 1}, 0));
    FAILS(corpus_read(c, 0, 9, got), ERR_DATA, "swapped.h5: chunk 0 of 1", "hash");
    FAILS(corpus_read(c, 3, 1, got), ERR_DATA, "swapped.h5: chunk 0 of 1", "hash"); /* and again */
    corpus_close(&c);
    corpus_close(&good);
    free(tokenizer);
    free(from);
    free(path);
}

static void test_not_a_corpus(void **state) {
    char *text = write_file("text.h5", "just text"), *other = scratch("other.h5");
    Corpus *c;
    FAILS(corpus_open(&c, &(StrList){&text, 1}, 0), ERR_DATA, "text.h5 is no corpus",
          "rhetor-data encode --tokenizer tokenizer.json --out corpus.h5 ");
    H5 *h;
    OK(h5_create(&h, other));
    OK(h5_set_str(h, "/", "format", "rhetor-checkpoint"));
    OK(h5_close(&h));
    FAILS(corpus_open(&c, &(StrList){&other, 1}, 0), ERR_DATA, "other.h5 is no corpus",
          "rhetor-checkpoint");
    free(text);
    free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sources),      cmocka_unit_test(test_mixture),
        cmocka_unit_test(test_dedup),        cmocka_unit_test(test_on_bad),
        cmocka_unit_test(test_warnings),     cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_documents),    cmocka_unit_test(test_threads),
        cmocka_unit_test(test_heldout),      cmocka_unit_test(test_heldout_tail),
        cmocka_unit_test(test_wide),         cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_stream),       cmocka_unit_test(test_ahead),
        cmocka_unit_test(test_windows),      cmocka_unit_test(test_windows_of_documents),
        cmocka_unit_test(test_bad_input),    cmocka_unit_test(test_tokenizers),
        cmocka_unit_test(test_damage),       cmocka_unit_test(test_swapped_chunk),
        cmocka_unit_test(test_not_a_corpus),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
