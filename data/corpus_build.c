/* corpus_build.c: text files -> a corpus.
 *
 * Documents are read one after the other, collected into a block, encoded by all threads and
 * written in order, so that the memory does not grow with the input and the file does not depend on
 * the number of threads. The file gets its name when it is whole and on disk. */
#include "data/corpus.h"

#include "base/error.h"
#include "base/file.h"
#include "base/h5.h"
#include "base/log.h"
#include "data/corpus_file.h"
#include "data/texts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK_DOCUMENTS = 4096, BLOCK_BYTES = 4 << 20, BAD_SHOWN = 5, BAR = 20 };

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
    int lock; /* file descriptor of the temporary, locked while we write it */
    H5 *h5;
    H5Append *tokens, *documents;
    bool wide;
    void *ids; /* [room] as stored */
    int64_t room;
    int64_t attribute[CORPUS_ATTRIBUTES];
} Writer;

/* Two processes that write the same corpus would mix their chunks. */
static int writer_lock(Writer *w) {
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

static int writer_open(Writer *w, const char *path, const Tokenizer *tk) {
    *w = (Writer){.path = path, .lock = -1};
    if (!path) return 0;
    w->temporary = xasprintf("%s.tmp", path);
    TRY(writer_lock(w));
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
    return h5_close(&w->h5);
}

/* Both corpora get their names, so that whoever finds the first finds the other one with it. */
static int publish(const Writer *train, const Writer *heldout) {
    if (heldout->path) {
        TRY(file_remove(train->path));
        TRY(file_rename_durable(heldout->temporary, heldout->path));
    }
    return file_rename_durable(train->temporary, train->path);
}

/* After a failure nothing is left behind; the message of that failure stays. */
static void writer_close(Writer *w, int rc) {
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

/* --- documents ----------------------------------------------------------------------------------
 */

typedef struct Document {
    char *text;
    size_t len;
    int64_t line;
    bool heldout;
    int copies; /* for the corpus to train on */
    IdList ids;
    int rc;
    char *message;
} Document;

typedef uint64_t Hash128[2]; /* of a document; {0, 0}: a free place */

typedef struct Building {
    CorpusBuild *b;
    Writer train, heldout;
    Document block[BLOCK_DOCUMENTS];
    int n;
    size_t bytes;
    const Texts *texts; /* the file being read */
    int file;
    double weight;
    bool counting;     /* heldout_tail, first pass */
    int64_t seen, cut; /* tokens of this file; those from `cut` on are held out */

    Hash128 *known; /* [room] dedup: open addressing, room a power of two */
    int64_t nknown, room;

    double began, last_plain;
    int64_t size, done; /* bytes of all files; -1: not known. Of the files before this one */
    const char *name;
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
    int64_t begin = g->seen, n = d->ids.n, before = g->train.attribute[CORPUS_A_TOKENS];
    g->seen += n;
    if (g->counting) return 0;
    if (b->heldout_tail) {
        int64_t head = g->cut - begin; /* tokens of this document before the cut */
        if (head > n) head = n;
        if (head < 0) head = 0;
        int64_t bytes = head == n ? (int64_t)d->len : text_bytes(b, d->ids.v, head);
        TRY(writer_add(&g->train, d->ids.v, head, bytes));
        TRY(writer_add(&g->heldout, d->ids.v + head, n - head, (int64_t)d->len - bytes));
    } else if (d->heldout) {
        TRY(writer_add(&g->heldout, d->ids.v, n, (int64_t)d->len));
    } else {
        for (int i = 0; i < d->copies; i++)
            TRY(writer_add(&g->train, d->ids.v, n, (int64_t)d->len));
    }
    if (b->file_tokens) b->file_tokens[g->file] += g->train.attribute[CORPUS_A_TOKENS] - before;
    return 0;
}

/* A document that cannot be used; the message of `rc` is stored. */
static int bad_document(Building *g, int rc) {
    CorpusBuild *b = g->b;
    if (rc != ERR_DATA || b->on_bad == ON_BAD_STOP) return rc;
    if (g->counting) return 0;
    if (++b->bad > b->max_bad)
        return error_set(rc, "%s (and %lld bad documents before it: more than --max-bad)",
                         error_message(), (long long)b->bad - 1);
    if (b->bad <= BAD_SHOWN)
        log_warn("skipped: %s%s", error_message(),
                 b->bad == BAD_SHOWN ? " (further ones not shown)" : "");
    return 0;
}

/* --- which documents, how often -------------------------------------------------------------- */

/* Notes the document; was it there before? */
static bool known(Building *g, const char *text, size_t len) {
    if (2 * (g->nknown + 1) > g->room) {
        Hash128 *old = g->known;
        int64_t n = g->room;
        g->room = n > 0 ? 2 * n : 1 << 16;
        g->known = xcalloc((size_t)g->room, sizeof *g->known);
        for (int64_t i = 0; i < n; i++) {
            if (old[i][0] == 0 && old[i][1] == 0) continue;
            uint64_t at = old[i][0];
            while (g->known[at &= (uint64_t)g->room - 1][0] || g->known[at][1]) at++;
            memcpy(g->known[at], old[i], sizeof *old);
        }
        free(old);
    }
    Hash128 h;
    hash_bytes128(text, len, h);
    uint64_t at = h[0];
    for (; g->known[at &= (uint64_t)g->room - 1][0] || g->known[at][1]; at++)
        if (memcmp(g->known[at], h, sizeof h) == 0) return true;
    memcpy(g->known[at], h, sizeof h);
    g->nknown++;
    return false;
}

static double unit(uint64_t hash) {
    return (double)(hash >> 11) * 0x1p-53;
}

/* Says whether the document is wanted at all, and for what. */
static bool choose(Building *g, Document *d, const char *text) {
    enum { COPIES = 1 }; /* for hash_combine */
    uint64_t hash = hash_bytes(text, d->len);
    if (g->b->dedup && known(g, text, d->len)) {
        g->b->duplicates++;
        return false;
    }
    d->heldout = unit(hash) < g->b->heldout;
    d->copies = (int)g->weight;
    if (unit(hash_combine(hash, COPIES)) < g->weight - d->copies) d->copies++;
    return d->copies > 0;
}

/* --- progress -------------------------------------------------------------------------------- */

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A bar on a terminal, from the first second on; elsewhere a line every ten seconds. */
static void progress(Building *g) {
    double now = seconds(), took = now - g->began;
    if (!g->b->progress || took < 1) return;
    bool plain = now - g->last_plain >= 10;
    if (plain) g->last_plain = now;
    double done = (double)(g->done + texts_consumed(g->texts)), share = done / (double)g->size;
    char bar[BAR + 1] = "", left[64] = "";
    if (g->size > 0 && share <= 1) {
        for (int i = 0; i < BAR; i++) bar[i] = i < (int)(share * BAR) ? '#' : '.';
        snprintf(left, sizeof left, "] %3.0f %%  %.0f s left  ", 100 * share,
                 took * (1 - share) / share);
    }
    const int64_t *train = g->train.attribute, *heldout = g->heldout.attribute;
    log_progress(plain, false, "%s%s%s%.1f MB/s  %.2f M tokens  %s", *bar ? "[" : "", bar, left,
                 1e-6 * done / took,
                 1e-6 * (double)(train[CORPUS_A_TOKENS] + heldout[CORPUS_A_TOKENS]), g->name);
}

/* --- files -------------------------------------------------------------------------------------
 */

static int flush(Building *g) {
    int rc = 0;
#pragma omp parallel for schedule(dynamic, 1)
    for (int i = 0; i < g->n; i++) encode(g->b, g->texts, &g->block[i]);
    for (int i = 0; i < g->n; i++) {
        Document *d = &g->block[i];
        if (rc == 0 && d->rc < 0)
            rc = bad_document(g, error_set(d->rc, "%s", d->message));
        else if (rc == 0)
            rc = deliver(g, d);
        free(d->text);
        free(d->message);
        ids_free(&d->ids);
        *d = (Document){0};
    }
    g->n = 0;
    g->bytes = 0;
    if (rc == 0) progress(g);
    return rc;
}

static int add_document(Building *g, const char *text, size_t len) {
    Document d = {.len = len, .line = texts_line(g->texts)};
    if (!choose(g, &d, text)) return 0;
    d.text = xmalloc(len + 1);
    memcpy(d.text, text, len);
    g->block[g->n++] = d;
    g->bytes += len;
    return g->n == BLOCK_DOCUMENTS || g->bytes >= BLOCK_BYTES ? flush(g) : 0;
}

static int read_file(Building *g, const char *path) {
    const char *fields[] = {g->b->field ? g->b->field : "text"}, *text;
    const TextOptions o = {.fields = fields, .nfields = 1, .split = g->b->split};
    size_t len;
    Texts *texts;
    int rc = texts_open(&texts, path, &o);
    g->texts = texts;
    g->name = file_basename(path);
    while (rc >= 0 && (rc = texts_next(texts, &text, &len)) != 0)
        rc = rc > 0 ? add_document(g, text, len) : bad_document(g, rc);
    if (rc == 0) rc = flush(g);
    for (int i = 0; i < g->n; i++) free(g->block[i].text); /* a failure in reading */
    g->n = 0;
    if (texts) g->done += texts_consumed(texts);
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
    if (b->heldout > 0 && strcmp(b->path, b->heldout_path) == 0)
        return error_set(ERR_USAGE, "%s is named for both corpora", b->path);
    bool whole = !b->dedup;
    for (int i = 0; i < files->n && b->weight; i++) whole = whole && b->weight[i] == 1;
    if (b->heldout_tail && !whole)
        return error_set(ERR_USAGE, "with heldout_tail (--heldout-tail) files are taken as they "
                                    "are: without --dedup and --weight");
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
    g->train.lock = g->heldout.lock = -1;
    int rc;
    TRY_GOTO(done, writer_open(&g->train, b->path, b->tokenizer));
    TRY_GOTO(done, writer_open(&g->heldout, b->heldout > 0 ? b->heldout_path : NULL, b->tokenizer));
    for (int i = 0; i < files->n && g->size >= 0; i++) {
        int64_t size = file_size(files->v[i]);
        g->size = size < 0 ? -1 : g->size + size * (b->heldout_tail ? 2 : 1);
    }
    g->began = g->last_plain = seconds();
    for (int i = 0; i < files->n; i++) {
        g->file = i;
        g->weight = b->weight ? b->weight[i] : 1;
        TRY_GOTO(done, add_file(g, files->v[i]));
    }

    const int64_t *train = g->train.attribute, *heldout = g->heldout.attribute;
    const char *empty = train[CORPUS_A_TOKENS] == 0                       ? b->path
                        : b->heldout > 0 && heldout[CORPUS_A_TOKENS] == 0 ? b->heldout_path
                                                                          : NULL;
    if (empty) {
        rc = error_set(
            ERR_DATA,
            "%s would be empty: the input has %lld usable documents; for the end of each file "
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
    rc = publish(&g->train, &g->heldout);
done:
    writer_close(&g->train, rc);
    writer_close(&g->heldout, rc);
    free(g->known);
    free(g);
    return rc;
}
