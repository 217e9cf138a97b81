/* corpus_file.h: the layout of a corpus file, which corpus_writer.c writes for corpus_build.c and
 * corpus.c reads (docs/FORMATS.md describes it). Only they and their test include it. */
#ifndef DATA_CORPUS_FILE_H
#define DATA_CORPUS_FILE_H

#include "base/h5/h5.h"
#include "data/tokenizer/tokenizer.h"

#define CORPUS_FORMAT    "rhetor-corpus"
#define CORPUS_TOKENS    "/tokens"       /* u16 or u32 [tokens] */
#define CORPUS_DOCUMENTS "/documents"    /* i64 [documents]: where each begins in tokens */
#define CORPUS_HASHES    "/chunk_hashes" /* i64 [chunks]: XXH3 of each chunk's ids */
#define CORPUS_TOKENIZER "/tokenizer"    /* the text of its tokenizer.json */

enum {
    CORPUS_VERSION = 2, /* 1 is read too: its tokenizer was an array of bytes */
    CORPUS_CHUNK =
        1 << 16, /* tokens: a window touches one or two chunks, zstd has enough to find */
    CORPUS_NARROW = 1 << 16, /* vocabularies up to this size are stored as u16 */
    CORPUS_DOCUMENT_CHUNK = 1 << 14
};

/* Integer attributes of "/". `hash` is the hash of the ones before it and of the chunk hashes. */
enum {
    CORPUS_A_TOKENS,
    CORPUS_A_DOCUMENTS,
    CORPUS_A_BYTES,
    CORPUS_A_VOCAB,
    CORPUS_A_CHUNK,
    CORPUS_A_TOKENIZER_HASH,
    CORPUS_ATTRIBUTES
};
extern const char *const corpus_attribute[CORPUS_ATTRIBUTES];

extern int64_t corpus_cache_bytes; /* of decompressed chunks a Corpus keeps; tests make it small */

uint64_t corpus_digest(const int64_t attribute[CORPUS_ATTRIBUTES], const uint64_t *chunk_hashes,
                       int64_t chunks);

/* A corpus being written to PATH.tmp. */
typedef struct CorpusWriter {
    const char *path; /* NULL: not wanted; then nothing below does anything */
    char *temporary;
    int lock; /* file descriptor of the temporary, locked while we write it */
    H5 *h5;
    H5Append *tokens, *documents;
    bool wide;
    void *ids; /* [room] as stored */
    int64_t room;
    int64_t attribute[CORPUS_ATTRIBUTES];
} CorpusWriter;
/* ERR_CONFIG: another process writes it. */
int corpus_writer_open(CorpusWriter *w, const char *path, const Tokenizer *tk);
int corpus_writer_document(CorpusWriter *w,
                           int64_t bytes); /* begins one, of so many bytes of text */
int corpus_writer_ids(CorpusWriter *w, const int32_t *ids, int64_t n); /* of that document */
int corpus_writer_finish(CorpusWriter *w);
/* Both corpora get their names, so that whoever finds the first finds the other one with it. */
int corpus_writer_publish(const CorpusWriter *train, const CorpusWriter *heldout);
/* rc < 0, a failure: nothing is left behind, and its message stays. */
void corpus_writer_close(CorpusWriter *w, int rc);

#endif
