/* Documents that are encoded in parts: the corpus is that of whole documents, whatever is asked for
 * and wherever the parts end, and the memory is constant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/h5/h5.h"
#include "data/corpus.h"
#include "data/texts.h"
#include "tests/base/scratch.h"
#include "tests/data/tokens.h"

#include <omp.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PARTS_OFF ((size_t)1 << 40)

static const size_t part_sizes[] = {1, 100, 1000, 20000};
enum { PART_SIZES = sizeof part_sizes / sizeof *part_sizes };

static uint64_t seed = 7;
static uint64_t random64(void) {
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    return z ^ z >> 31;
}

static char *text; /* documents between separators */

/* Words, white space of all kinds, separators, some with line breaks around them and some not, also
 * what is nearly one. */
static int setup(void **state) {
    static const char *const parts[] = {
        "the ",     "cat", " and", " ",  "\n",   "\n\n",    "  dog", "'s",      "\xe6\xb0\xb4",
        "\xc3\xa9", " 12", "END",  "EN", "\r\n", "\nEND\n", "\nEND", "END\n\n", ", or"};
    const size_t size = 300000;
    text = malloc(size + 16);
    size_t n = 0;
    strcpy(text, "\xEF\xBB\xBF");
    for (n = 3; n < size;) {
        const uint64_t r = random64();
        /* separators are rare for a while, so that there are documents of all sizes */
        const char *p = parts[r % (n % 100000 < 60000 && r >> 40 & 127 ? 11 : 18)];
        n += strlen(strcpy(text + n, p));
    }
    return scratch_make(state);
}

static int teardown(void **state) {
    free(text);
    return scratch_remove(state);
}

/* The hash of a corpus, which covers all that is in it; 0: there is none. */
static uint64_t hash_of(const char *path) {
    int64_t hash = 0;
    H5 *h;
    if (!file_exists(path)) return 0;
    OK(h5_open(&h, path));
    OK(h5_get_i64(h, "/", "hash", &hash));
    OK(h5_close(&h));
    return (uint64_t)hash;
}

typedef struct Built {
    int rc;
    uint64_t train, heldout;
    int64_t counts[7];
    char message[256];
} Built;

static Built build(const Tokenizer *tk, const CorpusBuild *options, const char *content, size_t len,
                   size_t part) {
    char *in = scratch("in.txt"), *out = scratch("out.h5"), *heldout = scratch("heldout.h5");
    scratch_write(in, content, len);
    file_remove(out), file_remove(heldout);
    CorpusBuild b = *options;
    b.tokenizer = tk;
    b.path = out;
    b.heldout_path = heldout;
    texts_part = part;
    Built r = {.rc = corpus_build(&b, &(StrList){&in, 1})};
    texts_part = PARTS_OFF;
    if (r.rc < 0) snprintf(r.message, sizeof r.message, "%s", error_message());
    r.train = hash_of(out);
    r.heldout = hash_of(heldout);
    const int64_t counts[] = {b.documents,      b.tokens,     b.bytes, b.heldout_documents,
                              b.heldout_tokens, b.duplicates, b.bad};
    memcpy(r.counts, counts, sizeof counts);
    free(in), free(out), free(heldout);
    return r;
}

static void same(const Built *x, const Built *y) {
    assert_int_equal(x->rc, y->rc);
    assert_string_equal(x->message, y->message);
    assert_memory_equal(x->counts, y->counts, sizeof x->counts);
    assert_true(x->train == y->train && x->heldout == y->heldout);
}

static Tokenizer *cl100k(void) {
    Tokenizer *t;
    char *ranks = xmalloc(256 * 16), *o = ranks;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < 256; i++)
        o += sprintf(o, "%c%c== %d\n", digits[i >> 2], digits[(i & 3) << 4], i);
    OK(tokenizer_parse_tiktoken(&t, ranks, strlen(ranks), "cl100k", "x"));
    free(ranks);
    return t;
}

/* Every option, for a pattern that is cut before white space and one that is cut behind it. */
static void test_as_whole_documents(void **state) {
    static const double weight[] = {2.5}, less[] = {0.5};
    const CorpusBuild cases[] = {
        {0},
        {.split = "END"},
        {.split = "END", .no_eot = true, .weight = less},
        {.split = "END", .heldout = 0.4, .weight = weight, .dedup = true},
        {.split = "END", .heldout = 0.3, .heldout_tail = true},
        {.split = "\n", .dedup = true},
        {.split = "\n\n", .heldout = 0.5},
    };
    Tokenizer *tk[] = {tokens_train(text, 300, false), cl100k()};
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            const Built whole = build(tk[k], &cases[i], text, strlen(text), PARTS_OFF);
            assert_int_equal(whole.rc, 0);
            for (int s = 0; s < PART_SIZES; s++) {
                const Built parts = build(tk[k], &cases[i], text, strlen(text), part_sizes[s]);
                same(&whole, &parts);
            }
        }
        tokenizer_close(&tk[k]);
    }
}

/* Bytes that are no UTF-8, far within a document: its line and column; skipped it leaves
 * nothing. */
static void test_bad_documents(void **state) {
    Tokenizer *tk = tokens_bytes();
    const size_t len = strlen(text);
    char *bad = xmalloc(len + 1);
    for (int round = 0; round < 8; round++) {
        memcpy(bad, text, len + 1);
        for (int i = 0; i <= round; i++) bad[3 + random64() % (len - 3)] = (char)0xfe;
        const CorpusBuild stop = {.split = "END"};
        const CorpusBuild skip = {.split = "END", .on_bad = ON_BAD_SKIP, .max_bad = 100};
        const Built whole = build(tk, &stop, bad, len, PARTS_OFF);
        const Built skipped = build(tk, &skip, bad, len, PARTS_OFF);
        assert_int_equal(whole.rc, ERR_DATA);
        assert_true(skipped.rc == 0 && skipped.counts[6] > 0);
        for (int s = 0; s < PART_SIZES; s++) {
            Built parts = build(tk, &stop, bad, len, part_sizes[s]);
            same(&whole, &parts);
            parts = build(tk, &skip, bad, len, part_sizes[s]);
            same(&skipped, &parts);
        }
    }
    free(bad);
    tokenizer_close(&tk);
}

/* KiB that a process needs at most to encode one document of so many megabytes. */
static long peak(int megabytes) {
    const size_t len = (size_t)megabytes << 20;
    char *in = scratch("big.txt"), *out = scratch("big.h5");
    FILE *f = fopen(in, "w");
    for (size_t n = 0; n < len;) n += (size_t)fprintf(f, "line at %zu: the cat and the dog\n", n);
    assert_int_equal(fclose(f), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        omp_set_num_threads(1); /* the threads of OpenMP did not come with us */
        Tokenizer *tk = tokens_bytes();
        CorpusBuild b = {.tokenizer = tk, .path = out};
        texts_part = 1 << 20;
        const int rc = corpus_build(&b, &(StrList){&in, 1});
        _exit(rc < 0 || b.documents != 1 || b.tokens < (int64_t)len);
    }
    int status;
    struct rusage usage;
    assert_int_equal(wait4(pid, &status, 0, &usage), pid);
    assert_int_equal(status, 0);
    free(in), free(out);
    return usage.ru_maxrss;
}

static void test_memory(void **state) {
#ifdef __SANITIZE_ADDRESS__ /* keeps what is freed */
    skip();
#endif
    const long small = peak(8), large = peak(40);
    if (large - small > 8 << 10) fail_msg("8 MB need %ld KiB, 40 MB need %ld KiB", small, large);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_as_whole_documents),
        cmocka_unit_test(test_bad_documents),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
