/* Held-out losses against a plain loop over all logits in double. */
/* ranks: 1 2 3 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/base/scratch.h"
#include "tests/data/tokens.h"
#include "tests/train/lab.h"
#include "train/evaluate.h"

enum { T = LAB_CONTEXT };

enum { DOCUMENTS = 5, MAX_TOKENS = 12 * T };

/* A corpus of documents of these lengths (up to a 0) and its ids. */
static Corpus *make_corpus(const int64_t *len, int32_t *ids) {
    char *from = scratch("c.jsonl"), *path = scratch("c.h5");
    FILE *f = fopen(from, "w");
    assert_non_null(f);
    int64_t all = 0;
    for (int d = 0; d < DOCUMENTS && len[d]; d++) {
        fprintf(f, "{\"text\":\"");
        for (int64_t i = 0; i < len[d]; i++, all++)
            fputc((int)('a' + random_below((uint64_t)all, 26)), f);
        fprintf(f, "\"}\n");
    }
    fclose(f);
    Tokenizer *bytes = tokens_bytes();
    CorpusBuild b = {.tokenizer = bytes, .path = path, .no_eot = true};
    OK(corpus_build(&b, &(StrList){&from, 1}));
    Corpus *c;
    OK(corpus_open(&c, &(StrList){&path, 1}, 0));
    assert_int_equal(corpus_tokens(c), all);
    OK(corpus_read(c, 0, all, ids));
    tokenizer_close(&bytes);
    free(from);
    free(path);
    return c;
}

static void check(const EvalLoss *e, double nll, int64_t tokens) {
    assert_int_equal(e->tokens, tokens);
    assert_true(fabs(e->nll - nll / (double)tokens) < 1e-5 * e->nll);
}

/* Documents that fill the last window, leave one token over, fit into less than one, have nothing
 * to predict. Each is read from its own beginning. */
static void test_corpus(void **state) {
    static const int64_t lengths[][DOCUMENTS] = {
        {3 * T + 1}, {3 * T + 2, 5, 1, 2 * T, T / 2}, {2}, {1, T + 1, T, T + 2, 1}};
    Gpt *g = lab_model(false, 2);
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        int32_t ids[MAX_TOKENS];
        Corpus *c = make_corpus(lengths[k], ids);
        double nll = 0;
        int64_t tokens = 0, first = 0;
        for (int d = 0; d < DOCUMENTS; first += lengths[k][d++])
            for (int64_t at = 0; at + 1 < lengths[k][d]; at += T) {
                const int64_t left = lengths[k][d] - at - 1, n = left < T ? left : T;
                const int32_t *window = ids + first + at;
                nll += lab_nll(g, window, window + 1, NULL, n);
                tokens += n;
            }
        EvalLoss e;
        for (int64_t micro = 1; micro < 1000; micro *= 9) {
            OK(evaluate_corpus(g, c, 0, micro, comm, &e));
            check(&e, nll, tokens);
            assert_true(fabs(e.bits_per_byte - e.nll / M_LN2) < 1e-12); /* a token is a byte */
        }
        OK(evaluate_corpus(g, c, 100, 50, comm, &e)); /* more windows than there are */
        check(&e, nll, tokens);
        int64_t start[DOCUMENTS + 1] = {0}; /* the same documents without a corpus */
        for (int d = 0; d < DOCUMENTS; d++) start[d + 1] = start[d] + lengths[k][d];
        for (int64_t some = 0; some < 3; some++) {
            EvalLoss m;
            OK(evaluate_corpus(g, c, some, 50, comm, &e));
            OK(evaluate_documents(g, ids, start, DOCUMENTS, first, some, 50, &m));
            if (comm_size(comm) == 1) assert_memory_equal(&m, &e, sizeof m);
            check(&m, e.nll * (double)e.tokens, e.tokens);
        }
        corpus_close(&c);
    }
    gpt_close(&g);
}

/* Two of five windows: the first and the third, here of another document. */
static void test_some_windows(void **state) {
    static const int64_t length[DOCUMENTS] = {2 * T + 1, 3 * T + 1};
    int32_t ids[MAX_TOKENS];
    Gpt *g = lab_model(false, 2);
    Corpus *c = make_corpus(length, ids);
    const int32_t *third = ids + 2 * T + 1;
    EvalLoss e;
    OK(evaluate_corpus(g, c, 2, 100, comm, &e));
    check(&e, lab_nll(g, ids, ids + 1, NULL, T) + lab_nll(g, third, third + 1, NULL, T), 2 * T);
    corpus_close(&c);
    gpt_close(&g);
}

/* Only learned tokens count: those whose own flag is set, predicted from the one before. */
static void test_demonstrations(void **state) {
    enum { N = 7 };
    int32_t ids[N][T];
    uint8_t learn[N][T];
    Sequence seq[N];
    int64_t first[N + 1];
    Gpt *g = lab_model(false, 2);
    for (int64_t s = 0; s < N; s++) {
        seq[s] = (Sequence){ids[s], learn[s], 3 + 4 * s, 2};
        first[s] = s;
        for (int64_t i = 0; i < seq[s].n; i++) {
            ids[s][i] = (int32_t)random_below((uint64_t)(100 * s + i), LAB_VOCAB);
            learn[s][i] = i >= 2 && (i + s) % 4 != 0;
        }
    }
    first[N] = N;
    const Dataset d = {.kind = DATASET_DEMOS, .n = N, .first = first, .seq = seq};
    for (int64_t records = 0; records <= N + 1; records += 3) { /* 0: all */
        double nll = 0;
        int64_t tokens = 0;
        for (int64_t s = 0; s < N && (records == 0 || s < records); s++) {
            nll += lab_nll(g, ids[s], ids[s] + 1, learn[s] + 1, seq[s].n - 1);
            for (int64_t i = 1; i < seq[s].n; i++) tokens += learn[s][i];
        }
        EvalLoss e;
        OK(evaluate_demos(g, &d, records, 40, comm, &e));
        check(&e, nll, tokens);
    }
    gpt_close(&g);
}

int main(int argc, char **argv) {
    OK(comm_open(&comm, &argc, &argv));
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus),
        cmocka_unit_test(test_some_windows),
        cmocka_unit_test(test_demonstrations),
    };
    int failed = scratch_make(NULL) != 0;
    failed += cmocka_run_group_tests(tests, NULL, NULL);
    scratch_remove(NULL);
    comm_close(&comm);
    return failed;
}
