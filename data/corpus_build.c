/* corpus_build.c: text files -> a corpus.
 *
 * Documents are read one after the other, collected into a block, encoded by all threads and
 * written in order, so that the memory does not grow with the input and the file does not depend on
 * the number of threads. The file gets its name when it is whole and on disk. */
#include "data/corpus.h"

#include "base/error.h"
#include "base/file.h"
#include "base/h5.h"
#include "data/corpus_file.h"
#include "data/texts.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_DOCUMENTS = 4096, BLOCK_BYTES = 4 << 20 };

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

/* --- the file --------------------------------------------------------------------------------- */

typedef struct Writer {
    const char *path; /* NULL: not wanted */
    char *temporary;
    H5 *h5;
    H5Append *tokens, *documents;
    bool wide;
    void *ids; /* [room] as stored */
    int64_t room;
    int64_t attribute[CORPUS_ATTRIBUTES];
} Writer;

static int writer_open(Writer *w, const char *path, const Tokenizer *tk) {
    *w = (Writer){.path = path};
    if (!path) return 0;
    w->temporary = xasprintf("%s.tmp", path);
    w->attribute[CORPUS_A_VOCAB] = tokenizer_vocab(tk);
    w->attribute[CORPUS_A_CHUNK] = CORPUS_CHUNK;
    w->wide = tokenizer_vocab(tk) > CORPUS_NARROW;
    TRY(h5_create(&w->h5, w->temporary));
    TRY(h5_set_str(w->h5, "/", "format", CORPUS_FORMAT));
    TRY(h5_set_i64(w->h5, "/", "version", CORPUS_VERSION));
    char *json = tokenizer_json(tk);
    size_t len = strlen(json);
    w->attribute[CORPUS_A_TOKENIZER_HASH] = (int64_t)hash_bytes(json, len);
    int rc = h5_write_text(w->h5, CORPUS_TOKENIZER, json, len);
    free(json);
    TRY(rc);
    TRY(h5_append_begin(&w->tokens, w->h5, CORPUS_TOKENS, w->wide ? H5_U32 : H5_U16, CORPUS_CHUNK,
                        H5_ZSTD));
    return h5_append_begin(&w->documents, w->h5, CORPUS_DOCUMENTS, H5_I64, CORPUS_DOCUMENT_CHUNK,
                           H5_ZSTD);
}

/* A document, or a part of one, of `bytes` bytes of text. */
static int writer_add(Writer *w, const int32_t *ids, int64_t n, int64_t bytes) {
    if (n == 0) return 0;
    TRY(h5_append(w->documents, &w->attribute[CORPUS_A_TOKENS], 1));
    w->attribute[CORPUS_A_DOCUMENTS]++;
    w->attribute[CORPUS_A_TOKENS] += n;
    w->attribute[CORPUS_A_BYTES] += bytes;
    if (w->wide) return h5_append(w->tokens, ids, n);
    if (w->room < n) w->ids = xrealloc(w->ids, (size_t)(w->room = 2 * n) * sizeof(uint16_t));
    uint16_t *narrow = w->ids;
    for (int64_t i = 0; i < n; i++) narrow[i] = (uint16_t)ids[i];
    return h5_append(w->tokens, narrow, n);
}

static int writer_finish(Writer *w) {
    if (!w->path) return 0;
    int64_t chunks;
    const uint64_t *hashes = h5_append_hashes(w->tokens, &chunks);
    TRY(h5_write(w->h5, CORPUS_HASHES, H5_I64, 1, &chunks, hashes, H5_RAW));
    for (int i = 0; i < CORPUS_ATTRIBUTES; i++)
        TRY(h5_set_i64(w->h5, "/", corpus_attribute[i], w->attribute[i]));
    TRY(h5_set_i64(w->h5, "/", "hash", (int64_t)corpus_digest(w->attribute, hashes, chunks)));
    TRY(h5_append_end(&w->tokens, NULL));
    TRY(h5_append_end(&w->documents, NULL));
    TRY(h5_close(&w->h5));
    return file_rename_durable(w->temporary, w->path);
}

/* After a failure nothing is left behind; the message of that failure stays. */
static void writer_close(Writer *w, int rc) {
    char *message = rc < 0 ? xstrdup(error_message()) : NULL;
    h5_append_end(&w->tokens, NULL);
    h5_append_end(&w->documents, NULL);
    h5_close(&w->h5);
    if (rc < 0 && w->temporary) file_remove(w->temporary);
    free(w->temporary);
    free(w->ids);
    if (message) error_set(rc, "%s", message);
    free(message);
}

/* --- documents ----------------------------------------------------------------------------------
 */

typedef struct Document {
    char *text;
    size_t len;
    int64_t line;
    IdList ids;
    int rc;
    char *message;
} Document;

typedef struct Building {
    CorpusBuild *b;
    Writer train, heldout;
    Document block[BLOCK_DOCUMENTS];
    int n;
    size_t bytes;
    const Texts *texts; /* the file being read */
    bool counting;      /* heldout_tail, first pass */
    int64_t seen, cut;  /* tokens of this file; those from `cut` on are held out */
} Building;

static void encode(const CorpusBuild *b, const Texts *texts, Document *d) {
    d->rc = tokenizer_encode(b->tokenizer, d->text, d->len, false, &d->ids);
    if (d->rc < 0) {
        texts_wrap(texts, d->rc, d->line);
        d->message = xstrdup(error_message());
    } else if (!b->no_eot) {
        ids_push(&d->ids, tokenizer_eos(b->tokenizer));
    }
}

/* Bytes of text that ids stand for; the end-of-text token at the end of a document has none. */
static int64_t text_bytes(const CorpusBuild *b, const int32_t *ids, int64_t n) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < n; i++) {
        size_t len;
        tokenizer_token_bytes(b->tokenizer, ids[i], &len);
        bytes += (int64_t)len;
    }
    return bytes;
}

static int deliver(Building *g, const Document *d) {
    const CorpusBuild *b = g->b;
    int64_t begin = g->seen, n = d->ids.n;
    g->seen += n;
    if (g->counting) return 0;
    if (!b->heldout_tail) {
        double u = (double)(hash_bytes(d->text, d->len) >> 11) * 0x1p-53;
        return writer_add(u < b->heldout ? &g->heldout : &g->train, d->ids.v, n, (int64_t)d->len);
    }
    int64_t head = g->cut - begin; /* tokens of this document before the cut */
    if (head >= n || head <= 0)
        return writer_add(head <= 0 ? &g->heldout : &g->train, d->ids.v, n, (int64_t)d->len);
    int64_t bytes = text_bytes(b, d->ids.v, head);
    TRY(writer_add(&g->train, d->ids.v, head, bytes));
    return writer_add(&g->heldout, d->ids.v + head, n - head, (int64_t)d->len - bytes);
}

static int flush(Building *g) {
    int rc = 0;
#pragma omp parallel for schedule(dynamic, 1)
    for (int i = 0; i < g->n; i++) encode(g->b, g->texts, &g->block[i]);
    for (int i = 0; i < g->n; i++) {
        Document *d = &g->block[i];
        if (rc == 0 && d->rc < 0) rc = error_set(d->rc, "%s", d->message);
        if (rc == 0) rc = deliver(g, d);
        free(d->text);
        free(d->message);
        ids_free(&d->ids);
        *d = (Document){0};
    }
    g->n = 0;
    g->bytes = 0;
    return rc;
}

static int read_file(Building *g, const char *path) {
    const char *fields[] = {g->b->field ? g->b->field : "text"}, *text;
    const TextOptions o = {.fields = fields, .nfields = 1, .split = g->b->split};
    size_t len;
    Texts *texts;
    int rc = texts_open(&texts, path, &o);
    g->texts = texts;
    while (rc >= 0 && (rc = texts_next(texts, &text, &len)) > 0) {
        char *copy = xmalloc(len + 1);
        memcpy(copy, text, len);
        g->block[g->n++] = (Document){.text = copy, .len = len, .line = texts_line(texts)};
        g->bytes += len;
        if (g->n == BLOCK_DOCUMENTS || g->bytes >= BLOCK_BYTES) rc = flush(g);
    }
    if (rc == 0) rc = flush(g);
    for (int i = 0; i < g->n; i++) free(g->block[i].text); /* a failure in reading */
    g->n = 0;
    texts_close(&texts);
    return rc;
}

static int add_file(Building *g, const char *path) {
    if (g->b->heldout_tail) { /* first pass: how many tokens it has */
        g->counting = true;
        g->seen = 0;
        TRY(read_file(g, path));
        g->counting = false;
        g->cut = (int64_t)((double)g->seen * (1 - g->b->heldout));
    }
    g->seen = 0;
    return read_file(g, path);
}

static int check(const CorpusBuild *b, const StrList *files) {
    if (files->n == 0) return error_set(ERR_USAGE, "no text files given to encode");
    if (b->heldout < 0 || b->heldout >= 1)
        return error_set(ERR_USAGE,
                         "the held-out share is %g; expected a number from 0 up to, not "
                         "including, 1",
                         b->heldout);
    if (b->heldout > 0 && !b->heldout_path)
        return error_set(ERR_USAGE, "a share of %g is to be held out, but no file named for it",
                         b->heldout);
    if (!b->no_eot && tokenizer_eos(b->tokenizer) < 0)
        return error_set(ERR_CONFIG,
                         "the tokenizer has no end-of-text token to end documents with; "
                         "rhetor-data tokenizer makes one that has it (--chars: with --special "
                         "'<|endoftext|>'); or say --no-eot");
    return 0;
}

int corpus_build(CorpusBuild *b, const StrList *files) {
    TRY(check(b, files));
    Building *g = xcalloc(1, sizeof *g);
    g->b = b;
    int rc;
    TRY_GOTO(done, writer_open(&g->train, b->path, b->tokenizer));
    TRY_GOTO(done, writer_open(&g->heldout, b->heldout > 0 ? b->heldout_path : NULL, b->tokenizer));
    for (int i = 0; i < files->n; i++) TRY_GOTO(done, add_file(g, files->v[i]));

    const int64_t *train = g->train.attribute, *heldout = g->heldout.attribute;
    const char *empty = train[CORPUS_A_TOKENS] == 0                       ? b->path
                        : b->heldout > 0 && heldout[CORPUS_A_TOKENS] == 0 ? b->heldout_path
                                                                          : NULL;
    if (empty) {
        rc = error_set(ERR_DATA,
                       "%s would be empty: the input has %lld documents; for the end of each file "
                       "instead of whole documents use heldout_tail (--heldout-tail)",
                       empty, (long long)(train[CORPUS_A_DOCUMENTS] + heldout[CORPUS_A_DOCUMENTS]));
        goto done;
    }
    b->documents = train[CORPUS_A_DOCUMENTS];
    b->tokens = train[CORPUS_A_TOKENS];
    b->bytes = train[CORPUS_A_BYTES];
    b->heldout_documents = heldout[CORPUS_A_DOCUMENTS];
    b->heldout_tokens = heldout[CORPUS_A_TOKENS];
    TRY_GOTO(done, writer_finish(&g->train));
    TRY_GOTO(done, writer_finish(&g->heldout));
done:
    writer_close(&g->train, rc);
    writer_close(&g->heldout, rc);
    free(g);
    return rc;
}
