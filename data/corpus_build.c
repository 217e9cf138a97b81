/* corpus_build.c: text files -> a corpus.
 *
 * Documents are read one after the other, collected into a block, encoded by all threads and
 * written in order, so that the memory does not grow with the input and the file does not depend on
 * the number of threads. A long document comes in parts: what becomes of it (held out, left out,
 * how often) is a function of all its text, so its ids wait in a file until its end. */
#include "data/corpus.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "data/corpus_file.h"
#include "data/record.h"
#include "data/texts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_DOCUMENTS = 4096, BLOCK_BYTES = 4 << 20, BAR = 20 };

/* --- documents -------------------------------------------------------------------------------- */

typedef struct Document {
    char *text;
    size_t len;
    int64_t line;
    bool heldout;
    int copies; /* for the corpus to train on */
    IdList ids;
    int64_t n;           /* of ids in all */
    FILE *waits;         /* where they are if it came in parts; ids then has some of them */
    bool returns, marks; /* has carriage returns, byte order marks */
    int rc;
    char *message;
} Document;

typedef uint64_t Hash128[2]; /* of a document; {0, 0}: a free place */

typedef struct Building {
    CorpusBuild *b;
    CorpusWriter train, heldout;
    Document block[BLOCK_DOCUMENTS];
    int n;
    size_t bytes;
    Document parts;     /* the one that comes in parts */
    HashStream *hash;   /* of its text so far */
    FILE *waits;        /* its ids so far */
    const Texts *texts; /* the file being read */
    int file;
    double weight;
    bool counting;                     /* heldout_tail, first pass */
    int64_t seen, cut;                 /* tokens of this file; those from `cut` on are held out */
    int64_t documents, returns, marks; /* taken; of them with carriage returns, byte order marks */

    Hash128 *known; /* [room] dedup: open addressing, room a power of two */
    int64_t nknown, room;

    double began, last_plain;
    int64_t size, done; /* bytes of all files; -1: not known. Of the files before this one */
    const char *name;
} Building;

/* Appends the ids of a text, which is the document or a part of it. */
static void encode(const CorpusBuild *b, const Texts *texts, Document *d, const char *text,
                   size_t len, bool last) {
    const int64_t before = d->ids.n;
    d->returns = d->returns || (len > 0 && memchr(text, '\r', len));
    d->marks = d->marks || (len > 0 && memmem(text, len, "\xEF\xBB\xBF", 3));
    d->rc = tokenizer_encode(b->tokenizer, text, len, false, &d->ids);
    if (d->rc < 0) {
        texts_wrap(texts, d->rc, d->line);
        d->message = xstrdup(error_message());
    } else if (last && !b->no_eot) {
        ids_push(&d->ids, tokenizer_eos(b->tokenizer));
    }
    d->n += d->ids.n - before;
}

static int waits_error(const CorpusBuild *b) {
    return error_set(ERR_IO, "temporary file beside %s: %s", b->path, strerror(errno));
}

/* *ids: those of the document from `first` on, *n of them at most. */
static int some_ids(const CorpusBuild *b, Document *d, int64_t first, int64_t *n,
                    const int32_t **ids) {
    if (!d->waits) {
        *ids = d->ids.v + first;
        return 0;
    }
    if (*n > d->ids.cap) *n = d->ids.cap;
    *ids = d->ids.v;
    if (fseeko(d->waits, (off_t)(first * (int64_t)sizeof **ids), SEEK_SET) != 0 ||
        fread(d->ids.v, sizeof **ids, (size_t)*n, d->waits) != (size_t)*n)
        return waits_error(b);
    return 0;
}

/* *bytes of text that the first n ids stand for; the end-of-text token has none, but is no part of
 * them unless they are all. */
static int bytes_of_ids(const CorpusBuild *b, Document *d, int64_t n, int64_t *bytes) {
    *bytes = 0;
    if (n == d->n) {
        *bytes = (int64_t)d->len;
        return 0;
    }
    for (int64_t at = 0, got; at < n; at += got) {
        const int32_t *ids;
        got = n - at;
        TRY(some_ids(b, d, at, &got, &ids));
        for (int64_t i = 0; i < got; i++) {
            size_t len;
            tokenizer_token_bytes(b->tokenizer, ids[i], &len);
            *bytes += (int64_t)len;
        }
    }
    return 0;
}

/* Ids [first, end) of a document, which is one there, of so many bytes. */
static int write_document(const CorpusBuild *b, CorpusWriter *w, Document *d, int64_t first,
                          int64_t end, int64_t bytes) {
    if (first == end) return 0;
    TRY(corpus_writer_document(w, bytes));
    for (int64_t at = first, got; at < end; at += got) {
        const int32_t *ids;
        got = end - at;
        TRY(some_ids(b, d, at, &got, &ids));
        TRY(corpus_writer_ids(w, ids, got));
    }
    return 0;
}

static int deliver(Building *g, Document *d) {
    const CorpusBuild *b = g->b;
    const int64_t begin = g->seen, before = g->train.attribute[CORPUS_A_TOKENS];
    g->seen += d->n;
    if (g->counting) return 0;
    g->documents++;
    g->returns += d->returns;
    g->marks += d->marks;
    if (b->heldout_tail) {
        int64_t head = g->cut - begin, bytes; /* tokens of this document before the cut */
        if (head > d->n) head = d->n;
        if (head < 0) head = 0;
        TRY(bytes_of_ids(b, d, head, &bytes));
        TRY(write_document(b, &g->train, d, 0, head, bytes));
        TRY(write_document(b, &g->heldout, d, head, d->n, (int64_t)d->len - bytes));
    } else if (d->heldout) {
        TRY(write_document(b, &g->heldout, d, 0, d->n, (int64_t)d->len));
    } else {
        for (int i = 0; i < d->copies; i++)
            TRY(write_document(b, &g->train, d, 0, d->n, (int64_t)d->len));
    }
    if (b->file_tokens) b->file_tokens[g->file] += g->train.attribute[CORPUS_A_TOKENS] - before;
    return 0;
}

/* A document that cannot be used; the message of `rc` is stored. */
static int bad_document(Building *g, int rc) {
    CorpusBuild *b = g->b;
    if (rc != ERR_DATA || b->on_bad == ON_BAD_STOP) return rc;
    if (g->counting) return 0;
    return record_skip(error_message(), &b->bad, b->max_bad, "document", "--max-bad");
}

/* --- which documents, how often --------------------------------------------------------------- */

/* Notes the document; was it there before? */
static bool known(Building *g, const Hash128 h) {
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
    uint64_t at = h[0];
    for (; g->known[at &= (uint64_t)g->room - 1][0] || g->known[at][1]; at++)
        if (memcmp(g->known[at], h, sizeof *g->known) == 0) return true;
    memcpy(g->known[at], h, sizeof *g->known);
    g->nknown++;
    return false;
}

static double unit(uint64_t hash) { return (double)(hash >> 11) * 0x1p-53; }

/* Says whether the document of these hashes is wanted at all, and for what. */
static bool choose(Building *g, Document *d, uint64_t hash, const Hash128 hash128) {
    enum { COPIES = 1 }; /* for hash_combine */
    if (g->b->dedup && known(g, hash128)) {
        g->b->duplicates++;
        return false;
    }
    d->heldout = unit(hash) < g->b->heldout;
    d->copies = (int)g->weight;
    if (unit(hash_combine(hash, COPIES)) < g->weight - d->copies) d->copies++;
    return d->copies > 0;
}

/* --- progress --------------------------------------------------------------------------------- */

/* A bar on a terminal, from the first second on; elsewhere a line every ten seconds. */
static void progress(Building *g) {
    double now = clock_seconds(), took = now - g->began;
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

/* --- files ------------------------------------------------------------------------------------ */

static int flush(Building *g) {
    int rc = 0;
#pragma omp parallel for schedule(dynamic, 1)
    for (int i = 0; i < g->n; i++) {
        Document *d = &g->block[i];
        encode(g->b, g->texts, d, d->text, d->len, true);
    }
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
    Hash128 hash128;
    hash_bytes128(text, len, hash128);
    if (!choose(g, &d, hash_bytes(text, len), hash128)) return 0;
    d.text = xmalloc(len + 1);
    memcpy(d.text, text, len);
    g->block[g->n++] = d;
    g->bytes += len;
    return g->n == BLOCK_DOCUMENTS || g->bytes >= BLOCK_BYTES ? flush(g) : 0;
}

/* A file without a name, beside the corpus, where there is room for it. */
static int open_waits(Building *g) {
    AUTOFREE char *name = xasprintf("%s.ids.tmp", g->b->path);
    g->waits = fopen(name, "w+");
    const int rc = g->waits ? 0 : file_error(name, "open");
    if (g->waits) unlink(name);
    return rc;
}

static void begin_parts(Building *g) {
    Document *d = &g->parts;
    free(d->message);
    d->ids.n = 0;
    *d = (Document){.ids = d->ids, .waits = g->waits, .line = texts_line(g->texts)};
    uint64_t unused[2];
    hash_end(&g->hash, unused, unused); /* of one that was not finished */
    g->hash = hash_begin();
    rewind(g->waits);
}

static int add_part(Building *g, const char *text, size_t len, bool first, bool last) {
    Document *d = &g->parts;
    if (first) {
        TRY(flush(g));
        if (!g->waits) TRY(open_waits(g));
        begin_parts(g);
    }
    hash_add(g->hash, text, len);
    d->len += len;
    d->ids.n = 0;
    if (d->rc == 0) encode(g->b, g->texts, d, text, len, last);
    if (d->rc == 0 &&
        fwrite(d->ids.v, sizeof *d->ids.v, (size_t)d->ids.n, d->waits) != (size_t)d->ids.n)
        return waits_error(g->b);
    progress(g);
    if (!last) return 0;
    uint64_t hash;
    Hash128 hash128;
    hash_end(&g->hash, &hash, hash128);
    if (!choose(g, d, hash, hash128)) return 0;
    return d->rc < 0 ? bad_document(g, error_set(d->rc, "%s", d->message)) : deliver(g, d);
}

static int read_file(Building *g, const char *path) {
    const char *fields[] = {g->b->field ? g->b->field : "text"}, *text;
    const TextOptions o = {
        .fields = fields, .nfields = 1, .split = g->b->split, .parts_for = g->b->tokenizer};
    size_t len;
    Texts *texts;
    bool inside = false; /* a document that comes in parts */
    int rc = texts_open(&texts, path, &o);
    g->texts = texts;
    g->name = file_basename(path);
    while (rc >= 0 && (rc = texts_next(texts, &text, &len)) != 0) {
        const bool more = rc > 0 && texts_more(texts);
        rc = rc < 0           ? bad_document(g, rc)
             : inside || more ? add_part(g, text, len, !inside, !more)
                              : add_document(g, text, len);
        inside = more;
    }
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
    for (int i = 0; i < files->n && b->heldout_tail; i++)
        if (strcmp(files->v[i], "-") == 0)
            return error_set(ERR_USAGE,
                             "the held-out tail of standard input cannot be known before "
                             "its end: name a file");
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
    TRY_GOTO(done, corpus_writer_open(&g->train, b->path, b->tokenizer));
    TRY_GOTO(done, corpus_writer_open(&g->heldout, b->heldout > 0 ? b->heldout_path : NULL,
                                      b->tokenizer));
    for (int i = 0; i < files->n && g->size >= 0; i++) {
        int64_t size = file_size(files->v[i]);
        g->size = size < 0 ? -1 : g->size + size * (b->heldout_tail ? 2 : 1);
    }
    g->began = g->last_plain = clock_seconds();
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
        const int64_t documents = train[CORPUS_A_DOCUMENTS] + heldout[CORPUS_A_DOCUMENTS];
        rc = error_set(ERR_DATA, "%s would be empty: the input has %lld usable document%s%s", empty,
                       (long long)documents, TEXT_S(documents),
                       documents == 0 ? ""
                                      : "; for the end of each file instead of whole documents use "
                                        "heldout_tail (--heldout-tail)");
        goto done;
    }
    record_warn(b->path, g->returns, g->documents, "document", RECORD_RETURNS);
    record_warn(b->path, g->marks, g->documents, "document",
                "byte order marks (U+FEFF) within the text, as files put together have them; they "
                "become tokens that nobody sees: remove them");
    b->documents = train[CORPUS_A_DOCUMENTS];
    b->tokens = train[CORPUS_A_TOKENS];
    b->bytes = train[CORPUS_A_BYTES];
    b->heldout_documents = heldout[CORPUS_A_DOCUMENTS];
    b->heldout_tokens = heldout[CORPUS_A_TOKENS];
    TRY_GOTO(done, corpus_writer_finish(&g->train));
    TRY_GOTO(done, corpus_writer_finish(&g->heldout));
    rc = corpus_writer_publish(&g->train, &g->heldout);
done:
    corpus_writer_close(&g->train, rc);
    corpus_writer_close(&g->heldout, rc);
    if (g->waits) fclose(g->waits);
    uint64_t unused[2];
    hash_end(&g->hash, unused, unused);
    ids_free(&g->parts.ids);
    free(g->parts.message);
    free(g->known);
    free(g);
    return rc;
}
