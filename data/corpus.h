/* corpus.h: tokenised text in an HDF5 file: ids (u16, or u32 from 65,536 up) in chunks compressed
 * with zstd, a hash a chunk, document offsets, the tokenizer and its hash. docs/FORMATS.md has the
 * layout. */
#ifndef DATA_CORPUS_H
#define DATA_CORPUS_H

#include "base/config.h"
#include "data/tokenizer/tokenizer.h"

/* Writes `path` (temporary, fsync, rename) from text files: .txt (one document a file, or split at
 * the separator `split` when it is not NULL), .jsonl / .json records {"text"} (field `field`), each
 * plain, .gz or .zst. Every document ends with the end-of-text token. The documents whose hash says
 * so go to heldout_path (share heldout, 0: none), once at most. What was interrupted starts over;
 * where heldout_path is named, `path` exists only beside the held-out part that belongs to it.
 * Errors ERR_DATA "file:line", ERR_IO; another process writes `path`: ERR_CONFIG. */
typedef struct CorpusBuild {
    const Tokenizer *tokenizer;
    const char *field; /* NULL: "text" */
    const char *split; /* NULL: a .txt file is one document */
    const char *path, *heldout_path;
    double heldout;
    bool heldout_tail; /* the last share of the tokens of each file instead (nanoGPT) */
    bool no_eot;       /* do not add the end-of-text token */
    /* [files] how often each document of the file goes into `path`; NULL: once. 2.5: twice, and
     * half of them a third time; which ones is a function of their text. */
    const double *weight;
    bool dedup; /* of equal documents only the first */
    int on_bad; /* ON_BAD_SKIP: leave malformed documents out, up to max_bad of them */
    int64_t max_bad;
    bool progress; /* log_progress */
    /* out */
    int64_t documents, tokens, bytes, heldout_documents, heldout_tokens, duplicates, bad;
    int64_t *file_tokens; /* [files], may be NULL: tokens that each gave to `path` */
} CorpusBuild;
int corpus_build(CorpusBuild *b, const StrList *files);

/* One or several corpora read as one long stream. Not collective. */
typedef struct Corpus Corpus;
/* tokenizer_hash: what the model's tokenizer has; another one is ERR_CONFIG naming both. 0: not
 * compared. */
int corpus_open(Corpus **out, const StrList *files, uint64_t tokenizer_hash);
void corpus_close(Corpus **c);
int64_t corpus_tokens(const Corpus *c);
int64_t corpus_bytes(const Corpus *c); /* of the text, for bits per byte */
uint64_t corpus_hash(const Corpus *c); /* of all chunk hashes */
int64_t corpus_documents(const Corpus *c);
/* Document i is tokens *begin .. *end-1 of the stream. ERR_DATA, ERR_IO. */
int corpus_document(Corpus *c, int64_t i, int64_t *begin, int64_t *end);
/* Tokenizer text carried by the first file; borrowed. */
const char *corpus_tokenizer(const Corpus *c, size_t *len);
/* tokens[offset..offset+n) of the stream into out. A damaged chunk is ERR_DATA naming file,
 * chunk. */
int corpus_read(Corpus *c, int64_t offset, int64_t n, int32_t *out);

/* Training windows: n inputs and their n targets, which are n+1 tokens of one document: n = T, or a
 * whole shorter document, so no window looks across the end of a document and a short one is read
 * from its beginning. In every epoch the grid of windows over a long document is shifted, and
 * the windows are visited in the order of data/order.h. The j-th window of the stream of epochs is
 * a function of (seed, j) alone; *id (may be NULL) identifies it. out has room for T+1 tokens. A
 * corpus without any window is ERR_DATA. */
int64_t corpus_windows(Corpus *c, int64_t T); /* of an epoch; negative: error */
int corpus_window(Corpus *c, uint64_t seed, int64_t j, int64_t T, int32_t *out, int64_t *n,
                  uint64_t *id);
/* Inputs of the windows first .. first+count-1 in all: what a step's loss is divided by. < 0:
 * error */
int64_t corpus_window_tokens(Corpus *c, uint64_t seed, int64_t first, int64_t count, int64_t T);
/* Mean of the inputs of the first windows (of a thousand). */
int corpus_window_mean(Corpus *c, uint64_t seed, int64_t T, double *mean);

/* A thread of the corpus reads the windows first .. first+count-1 into the cache, while the caller
 * goes on; another call replaces them. What is read later is the same with and without. An error is
 * left to who reads the window. */
void corpus_ahead(Corpus *c, uint64_t seed, int64_t first, int64_t count, int64_t T);
/* Seconds that reading has waited for chunks that were not in the cache, so far. */
double corpus_waited(Corpus *c);
/* Chunks that the cache may hold, and the bytes of each. */
int64_t corpus_chunks(const Corpus *c, size_t *bytes);

#endif
