/* fuzz_corpus.c: damaged corpora: opening one, every document, every window of an epoch, also read
 * ahead. What is read must be ids of the size that the file has. */
#include "tests/fuzz/fuzz.h"

#include "data/corpus.h"
#include "data/corpus_file.h"

static void one(const uint8_t *data, size_t len) {
    char *path = xstrdup(fuzz_file("corpus.h5", data, len));
    Corpus *c;
    corpus_cache_bytes = 1 << 20;
    if (corpus_open(&c, &(StrList){&path, 1}, 0) >= 0) {
        int32_t w[33];
        int64_t n, begin, end, windows = corpus_windows(c, 32);
        for (int64_t i = 0; i < corpus_documents(c) && i < 100; i++)
            if (corpus_document(c, i, &begin, &end) >= 0)
                CHECK(0 <= begin && begin <= end && end <= corpus_tokens(c), "document outside");
        if (windows > 0) corpus_ahead(c, 1, 0, windows < 50 ? windows : 50, 32);
        for (int64_t j = 0; j < windows && j < 100; j++)
            if (corpus_window(c, 1, j, 32, w, &n, NULL) >= 0)
                CHECK(n >= 1 && n <= 32, "a window of %lld", (long long)n);
        corpus_close(&c);
    }
    free(path);
}

FUZZ_MAIN(one, "OHDR", "OCHK", "FRHP", "\x89HDF\r\n\x1a\n", "tokens", "documents", "chunk")
