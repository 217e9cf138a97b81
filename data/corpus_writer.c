/* corpus_writer.c: the file that corpus_build.c fills. It gets its name when it is whole and on
 * disk. */
#include "data/corpus_file.h"

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

const char *const corpus_attribute[CORPUS_ATTRIBUTES] = {
    [CORPUS_A_TOKENS] = "tokens", [CORPUS_A_DOCUMENTS] = "documents",
    [CORPUS_A_BYTES] = "bytes",   [CORPUS_A_VOCAB] = "vocab",
    [CORPUS_A_CHUNK] = "chunk",   [CORPUS_A_TOKENIZER_HASH] = "tokenizer_hash",
};

uint64_t corpus_digest(const int64_t attribute[CORPUS_ATTRIBUTES], const uint64_t *chunk_hashes,
                       int64_t chunks) {
    return hash_combine(hash_bytes(attribute, CORPUS_ATTRIBUTES * sizeof *attribute),
                        hash_bytes(chunk_hashes, (size_t)chunks * sizeof *chunk_hashes));
}

/* Two processes that write the same corpus would mix their chunks. */
static int writer_lock(CorpusWriter *w) {
    w->lock = open(w->temporary, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (w->lock < 0) return file_error(w->temporary, "open");
    if (flock(w->lock, LOCK_EX | LOCK_NB) == 0) return 0;
    int rc = errno == EWOULDBLOCK
                 ? error_set(ERR_CONFIG, "%s: another process is writing it; wait for it or end it",
                             w->path)
                 : file_error(w->temporary, "lock");
    free(w->temporary); /* is not ours to remove */
    w->temporary = NULL;
    return rc;
}

int corpus_writer_open(CorpusWriter *w, const char *path, const Tokenizer *tk) {
    *w = (CorpusWriter){.path = path, .lock = -1};
    if (!path) return 0;
    w->temporary = xasprintf("%s.tmp", path);
    TRY(writer_lock(w));
    w->attribute[CORPUS_A_VOCAB] = tokenizer_vocab(tk);
    w->attribute[CORPUS_A_CHUNK] = CORPUS_CHUNK;
    w->wide = tokenizer_vocab(tk) > CORPUS_NARROW;
    TRY(h5_create(&w->h5, w->temporary));
    TRY(h5_set_str(w->h5, "/", "about",
                   "A corpus of Rhetor " RHETOR_VERSION ": token ids of many documents, and the "
                   "tokenizer (JSON) as a string; see docs/FORMATS.md"));
    TRY(h5_set_str(w->h5, "/", "format", CORPUS_FORMAT));
    TRY(h5_set_i64(w->h5, "/", "version", CORPUS_VERSION));
    char *json = tokenizer_json(tk);
    size_t len = strlen(json);
    w->attribute[CORPUS_A_TOKENIZER_HASH] = (int64_t)hash_bytes(json, len);
    int rc = h5_write_text(w->h5, CORPUS_TOKENIZER, json);
    free(json);
    TRY(rc);
    TRY(h5_append_begin(&w->tokens, w->h5, CORPUS_TOKENS, w->wide ? H5_U32 : H5_U16, CORPUS_CHUNK,
                        H5_ZSTD));
    return h5_append_begin(&w->documents, w->h5, CORPUS_DOCUMENTS, H5_I64, CORPUS_DOCUMENT_CHUNK,
                           H5_ZSTD);
}

int corpus_writer_document(CorpusWriter *w, int64_t bytes) {
    TRY(h5_append(w->documents, &w->attribute[CORPUS_A_TOKENS], 1));
    w->attribute[CORPUS_A_DOCUMENTS]++;
    w->attribute[CORPUS_A_BYTES] += bytes;
    return 0;
}

int corpus_writer_ids(CorpusWriter *w, const int32_t *ids, int64_t n) {
    w->attribute[CORPUS_A_TOKENS] += n;
    if (w->wide) return h5_append(w->tokens, ids, n);
    if (w->room < n) w->ids = xrealloc(w->ids, (size_t)(w->room = 2 * n) * sizeof(uint16_t));
    uint16_t *narrow = w->ids;
    for (int64_t i = 0; i < n; i++) narrow[i] = (uint16_t)ids[i];
    return h5_append(w->tokens, narrow, n);
}

int corpus_writer_finish(CorpusWriter *w) {
    if (!w->path) return 0;
    int64_t chunks;
    const uint64_t *hashes = h5_append_hashes(w->tokens, &chunks);
    TRY(h5_write(w->h5, CORPUS_HASHES, H5_I64, 1, &chunks, hashes, H5_RAW));
    for (int i = 0; i < CORPUS_ATTRIBUTES; i++)
        TRY(h5_set_i64(w->h5, "/", corpus_attribute[i], w->attribute[i]));
    TRY(h5_set_i64(w->h5, "/", "hash", (int64_t)corpus_digest(w->attribute, hashes, chunks)));
    TRY(h5_append_end(&w->tokens, NULL));
    TRY(h5_append_end(&w->documents, NULL));
    return h5_close(&w->h5);
}

int corpus_writer_publish(const CorpusWriter *train, const CorpusWriter *heldout) {
    if (heldout->path) {
        TRY(file_remove(train->path));
        TRY(file_rename_durable(heldout->temporary, heldout->path));
    }
    return file_rename_durable(train->temporary, train->path);
}

void corpus_writer_close(CorpusWriter *w, int rc) {
    char *message = rc < 0 ? xstrdup(error_message()) : NULL;
    h5_append_end(&w->tokens, NULL);
    h5_append_end(&w->documents, NULL);
    h5_close(&w->h5);
    if (rc < 0 && w->temporary) file_remove(w->temporary);
    if (w->lock >= 0) close(w->lock);
    free(w->temporary);
    free(w->ids);
    if (message) error_set(rc, "%s", message);
    free(message);
}
