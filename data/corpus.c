/* corpus.c: reading corpora.
 *
 * Chunks are decompressed on demand and kept in a cache of at most corpus_cache_bytes (the one that
 * was not used for the longest time goes first). Whenever a chunk enters the cache its ids are
 * hashed and compared with the hash that was written, and those hashes are checked themselves when
 * the file is opened: a damaged file never becomes wrong tokens.
 *
 * A thread may read ahead (corpus_ahead). The caller and it are the two loaders: each unpacks a
 * chunk into a buffer of its own and then, under the lock, swaps that for a place in the cache.
 * Whichever wants a chunk that the other one is loading waits for it. */
#include "data/corpus.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/h5/h5.h"
#include "base/hash.h"
#include "data/corpus_file.h"
#include "data/order.h"

#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

int64_t corpus_cache_bytes = 256ll << 20;

typedef struct File {
    char *path;
    H5 *h5;
    int64_t attribute[CORPUS_ATTRIBUTES];
    uint64_t *chunk_hash;
    int64_t chunks;
    int64_t first, first_chunk; /* in the stream: its first token, its first chunk */
    bool wide;
} File;

/* A chunk in the cache. */
typedef struct Slot {
    int64_t chunk; /* of the stream */
    uint64_t used; /* when, by Corpus.clock */
    void *ids;     /* u16 or u32, as in the file */
} Slot;

typedef enum Loader { CALLER, AHEAD, LOADERS } Loader;

struct Corpus {
    File *file;
    int nfiles;
    char *tokenizer;
    size_t tokenizer_len;
    int64_t tokens, bytes, documents, chunks;
    uint64_t hash;

    int32_t *slot_of; /* [chunks] place in the cache, -1: not there */
    Slot *slot;
    int nslots, max_slots;
    uint64_t clock;
    int64_t chunk;   /* tokens */
    size_t id_bytes; /* 4 if any file has wide ids */

    int64_t index_T;       /* context that the index below was made for; 0: not made */
    int64_t *begin;        /* [documents+1] offsets of the documents in the stream */
    int64_t *first_window; /* [documents+1] windows of earlier documents */

    /* Of what stands above the thread reads and writes the cache and reads the index, both under
     * the lock; the rest does not change. */
    pthread_mutex_t lock;
    pthread_cond_t loaded, work; /* a load has ended; there is something to read ahead */
    int64_t loading[LOADERS];    /* chunk, -1: none */
    void *buffer[LOADERS];       /* where a chunk is unpacked */
    double waited;               /* seconds */
    pthread_t thread;
    bool has_thread, quit;
    struct {
        uint64_t seed;
        int64_t next, end, T; /* windows */
        int64_t room;         /* chunks that may still be loaded for them */
    } ahead;
};

/* --- opening ---------------------------------------------------------------------------------- */

static int damaged(const File *f, const char *what) {
    return error_set(ERR_DATA, "%s: %s; restore the file or encode the text again", f->path, what);
}

static int open_file(File *f, const char *path) {
    f->path = xstrdup(path);
    int opened = h5_open(&f->h5, path);
    if (opened == ERR_DATA && file_size(path) > 0 && !h5_is(path))
        return error_set(ERR_DATA,
                         "%s is no corpus; if it is text, make one of it: rhetor-data encode "
                         "--tokenizer tokenizer.json --out corpus.h5 %s (and a tokenizer before: "
                         "rhetor-data tokenizer --vocab 4096 --out tokenizer.json %s)",
                         path, path, path);
    TRY(opened);
    char *format = NULL;
    int64_t version, hash, shape[H5_MAX_DIM];
    H5Type type;
    int ndim;
    if (h5_get_str(f->h5, "/", "format", &format) < 0 || strcmp(format, CORPUS_FORMAT) != 0) {
        int rc = error_set(ERR_DATA, "%s is no corpus%s%s; make one with rhetor-data encode", path,
                           format ? ", it is a file of the format " : "", format ? format : "");
        free(format);
        return rc;
    }
    free(format);
    TRY(h5_get_i64(f->h5, "/", "version", &version));
    if (version < 1 || version > CORPUS_VERSION)
        return error_set(ERR_DATA,
                         "%s: corpus version %lld, this program reads 1 to %d; use the "
                         "program that wrote it or encode the text again",
                         path, (long long)version, CORPUS_VERSION);
    for (int i = 0; i < CORPUS_ATTRIBUTES; i++)
        TRY(h5_get_i64(f->h5, "/", corpus_attribute[i], &f->attribute[i]));
    TRY(h5_get_i64(f->h5, "/", "hash", &hash));

    int64_t tokens = f->attribute[CORPUS_A_TOKENS], chunk = f->attribute[CORPUS_A_CHUNK];
    TRY(h5_shape(f->h5, CORPUS_TOKENS, &type, &ndim, shape));
    if (ndim != 1 || shape[0] != tokens || chunk < 1 || (type != H5_U16 && type != H5_U32))
        return damaged(f, "its tokens are not what its attributes say");
    f->wide = type == H5_U32;
    f->chunks = (tokens + chunk - 1) / chunk;
    f->chunk_hash = xmalloc((size_t)f->chunks * sizeof *f->chunk_hash);
    TRY(h5_read(f->h5, CORPUS_HASHES, H5_I64, f->chunk_hash, f->chunks));
    if (corpus_digest(f->attribute, f->chunk_hash, f->chunks) != (uint64_t)hash)
        return damaged(f, "its attributes or chunk hashes do not have the hash that was written");
    return 0;
}

static uint64_t tokenizer_of(const File *f) {
    return (uint64_t)f->attribute[CORPUS_A_TOKENIZER_HASH];
}

static int check_tokenizers(const Corpus *c, uint64_t expected) {
    const File *first = &c->file[0];
    for (int i = 1; i < c->nfiles; i++)
        if (tokenizer_of(&c->file[i]) != tokenizer_of(first))
            return error_set(ERR_CONFIG,
                             "%s and %s were encoded with different tokenizers (%016llx and "
                             "%016llx); encode both with the same one",
                             first->path, c->file[i].path, (unsigned long long)tokenizer_of(first),
                             (unsigned long long)tokenizer_of(&c->file[i]));
    if (expected != 0 && tokenizer_of(first) != expected)
        return error_set(
            ERR_CONFIG,
            "%s was encoded with the tokenizer %016llx, the model's is %016llx; encode "
            "the text with the model's tokenizer",
            first->path, (unsigned long long)tokenizer_of(first), (unsigned long long)expected);
    return 0;
}

static int open_all(Corpus *c, const StrList *files, uint64_t tokenizer_hash) {
    for (int i = 0; i < files->n; i++) {
        File *f = &c->file[c->nfiles++];
        TRY(open_file(f, files->v[i]));
        f->first = c->tokens;
        f->first_chunk = c->chunks;
        c->tokens += f->attribute[CORPUS_A_TOKENS];
        c->bytes += f->attribute[CORPUS_A_BYTES];
        c->documents += f->attribute[CORPUS_A_DOCUMENTS];
        c->chunks += f->chunks;
        c->hash = hash_combine(c->hash, corpus_digest(f->attribute, f->chunk_hash, f->chunks));
        if (f->attribute[CORPUS_A_CHUNK] > c->chunk) c->chunk = f->attribute[CORPUS_A_CHUNK];
        if (f->wide || c->id_bytes == 0) c->id_bytes = f->wide ? 4 : 2;
    }
    TRY(check_tokenizers(c, tokenizer_hash));
    File *f = &c->file[0];
    TRY(h5_read_text(f->h5, CORPUS_TOKENIZER, &c->tokenizer, &c->tokenizer_len));
    if (hash_bytes(c->tokenizer, c->tokenizer_len) != tokenizer_of(f))
        return damaged(f, "its tokenizer does not have the hash that was written");
    return 0;
}

int corpus_open(Corpus **out, const StrList *files, uint64_t tokenizer_hash) {
    *out = NULL;
    if (files->n == 0) return error_set(ERR_CONFIG, "no corpus given");
    Corpus *c = xcalloc(1, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->loaded, NULL);
    pthread_cond_init(&c->work, NULL);
    for (int i = 0; i < LOADERS; i++) c->loading[i] = -1;
    c->file = xcalloc((size_t)files->n, sizeof *c->file);
    int rc = open_all(c, files, tokenizer_hash);
    if (rc < 0) {
        corpus_close(&c);
        return rc;
    }
    c->slot_of = xmalloc((size_t)c->chunks * sizeof *c->slot_of);
    for (int64_t i = 0; i < c->chunks; i++) c->slot_of[i] = -1;
    int64_t slots = corpus_cache_bytes / (c->chunk * (int64_t)c->id_bytes);
    if (slots < 2) slots = 2;
    c->max_slots = (int)(slots < c->chunks ? slots : c->chunks);
    c->slot = xcalloc((size_t)c->max_slots, sizeof *c->slot);
    *out = c;
    return 0;
}

void corpus_close(Corpus **cp) {
    Corpus *c = *cp;
    if (!c) return;
    if (c->has_thread) {
        pthread_mutex_lock(&c->lock);
        c->quit = true;
        pthread_cond_signal(&c->work);
        pthread_mutex_unlock(&c->lock);
        pthread_join(c->thread, NULL);
    }
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->loaded);
    pthread_cond_destroy(&c->work);
    for (int i = 0; i < c->nfiles; i++) {
        h5_close(&c->file[i].h5);
        free(c->file[i].path);
        free(c->file[i].chunk_hash);
    }
    for (int i = 0; i < c->nslots; i++) free(c->slot[i].ids);
    for (int i = 0; i < LOADERS; i++) free(c->buffer[i]);
    free(c->file);
    free(c->slot);
    free(c->slot_of);
    free(c->tokenizer);
    free(c->begin);
    free(c->first_window);
    free(c);
    *cp = NULL;
}

int64_t corpus_tokens(const Corpus *c) { return c->tokens; }
int64_t corpus_bytes(const Corpus *c) { return c->bytes; }
int64_t corpus_documents(const Corpus *c) { return c->documents; }
uint64_t corpus_hash(const Corpus *c) { return c->hash; }
const char *corpus_tokenizer(const Corpus *c, size_t *len) {
    if (len) *len = c->tokenizer_len;
    return c->tokenizer;
}

/* --- chunks ----------------------------------------------------------------------------------- */

/* A place in the cache: a new one, or that of the chunk not used for the longest time. */
static Slot *free_slot(Corpus *c) {
    if (c->nslots < c->max_slots) {
        Slot *s = &c->slot[c->nslots++];
        s->chunk = -1;
        return s;
    }
    Slot *oldest = &c->slot[0];
    for (int i = 1; i < c->nslots; i++)
        if (c->slot[i].used < oldest->used) oldest = &c->slot[i];
    if (oldest->chunk >= 0) c->slot_of[oldest->chunk] = -1;
    oldest->chunk = -1;
    return oldest;
}

/* Chunk k of a file, unpacked and checked. */
static int unpack_chunk(const File *f, int64_t k, void *ids) {
    int64_t chunk = f->attribute[CORPUS_A_CHUNK], begin = k * chunk;
    int64_t n = f->attribute[CORPUS_A_TOKENS] - begin;
    if (n > chunk) n = chunk;
    TRY(h5_read_range(f->h5, CORPUS_TOKENS, f->wide ? H5_U32 : H5_U16, begin, n, ids));
    if (hash_bytes(ids, (size_t)n * (f->wide ? 4 : 2)) == f->chunk_hash[k]) return 0;
    return error_set(ERR_DATA,
                     "%s: chunk %lld of %lld (tokens %lld to %lld) is damaged: its ids do not "
                     "have the hash that was written; restore the file or encode the text again",
                     f->path, (long long)k, (long long)f->chunks, (long long)begin,
                     (long long)(begin + n - 1));
}

/* The chunk in the cache, loaded if need be. Called under the lock, which is not held while the
 * chunk is read; *out is good as long as it is held afterwards. */
static int load_chunk(Corpus *c, Loader me, const File *f, int64_t k, const Slot **out) {
    const int64_t at = f->first_chunk + k;
    while (c->slot_of[at] < 0 && c->loading[1 - me] == at) pthread_cond_wait(&c->loaded, &c->lock);
    if (c->slot_of[at] < 0) {
        c->loading[me] = at;
        pthread_mutex_unlock(&c->lock);
        if (!c->buffer[me]) c->buffer[me] = xmalloc((size_t)c->chunk * c->id_bytes);
        int rc = unpack_chunk(f, k, c->buffer[me]);
        pthread_mutex_lock(&c->lock);
        c->loading[me] = -1;
        pthread_cond_broadcast(&c->loaded);
        TRY(rc);
        Slot *s = free_slot(c);
        void *unpacked = c->buffer[me];
        c->buffer[me] = s->ids;
        s->ids = unpacked;
        s->chunk = at;
        c->slot_of[at] = (int32_t)(s - c->slot);
    }
    Slot *s = &c->slot[c->slot_of[at]];
    s->used = ++c->clock;
    *out = s;
    return 0;
}

static const File *file_of(const Corpus *c, int64_t offset) {
    int i = c->nfiles - 1;
    while (c->file[i].first > offset) i--;
    return &c->file[i];
}

/* Tokens [from, from + n) of a chunk. */
static int read_chunk(Corpus *c, const File *f, int64_t k, int64_t from, int64_t n, int32_t *out) {
    const Slot *s = NULL;
    pthread_mutex_lock(&c->lock);
    bool there = c->slot_of[f->first_chunk + k] >= 0;
    double began = there ? 0 : clock_seconds();
    int rc = load_chunk(c, CALLER, f, k, &s);
    if (!there) c->waited += clock_seconds() - began;
    if (rc == 0 && f->wide) {
        memcpy(out, (const uint32_t *)s->ids + from, (size_t)n * sizeof *out);
    } else if (rc == 0) {
        const uint16_t *ids = (const uint16_t *)s->ids + from;
        for (int64_t i = 0; i < n; i++) out[i] = ids[i];
    }
    pthread_mutex_unlock(&c->lock);
    return rc;
}

int corpus_read(Corpus *c, int64_t offset, int64_t n, int32_t *out) {
    CHECK(offset >= 0 && n >= 0 && offset + n <= c->tokens, "tokens %lld to %lld of %lld",
          (long long)offset, (long long)(offset + n), (long long)c->tokens);
    while (n > 0) {
        const File *f = file_of(c, offset);
        int64_t chunk = f->attribute[CORPUS_A_CHUNK], in_file = offset - f->first;
        int64_t from = in_file % chunk, left = f->attribute[CORPUS_A_TOKENS] - in_file;
        int64_t take = chunk - from < left ? chunk - from : left;
        if (take > n) take = n;
        TRY(read_chunk(c, f, in_file / chunk, from, take, out));
        out += take;
        offset += take;
        n -= take;
    }
    return 0;
}

int corpus_document(Corpus *c, int64_t i, int64_t *begin, int64_t *end) {
    CHECK(i >= 0 && i < c->documents, "document %lld of %lld", (long long)i,
          (long long)c->documents);
    const File *f = c->file;
    while (i >= f->attribute[CORPUS_A_DOCUMENTS]) i -= f++->attribute[CORPUS_A_DOCUMENTS];
    bool last = i + 1 == f->attribute[CORPUS_A_DOCUMENTS];
    int64_t at[2] = {0, f->attribute[CORPUS_A_TOKENS]};
    TRY(h5_read_range(f->h5, CORPUS_DOCUMENTS, H5_I64, i, last ? 1 : 2, at));
    if (at[0] < 0 || at[0] > at[1] || at[1] > f->attribute[CORPUS_A_TOKENS])
        return damaged(f, "its document offsets make no sense");
    *begin = f->first + at[0];
    *end = f->first + at[1];
    return 0;
}

/* --- windows ---------------------------------------------------------------------------------- */

/* Windows over a document of len tokens. Of a long one we leave a window out, so that every shift
 * below T leaves as many. */
static int64_t windows_of(int64_t len, int64_t T) {
    if (len < 2) return 0;
    if (len - 1 <= T) return 1;
    int64_t n = (len - 1) / T;
    return n >= 8 ? n - 1 : n;
}

/* Where each document begins and which windows are its own; remade when T changes. */
static int index_documents(Corpus *c, int64_t T) {
    int64_t n = c->documents, at = 0;
    c->begin = xrealloc(c->begin, (size_t)(n + 1) * sizeof *c->begin);
    c->first_window = xrealloc(c->first_window, (size_t)(n + 1) * sizeof *c->first_window);
    for (int i = 0; i < c->nfiles; i++) {
        const File *f = &c->file[i];
        int64_t documents = f->attribute[CORPUS_A_DOCUMENTS], last = 0;
        TRY(h5_read_range(f->h5, CORPUS_DOCUMENTS, H5_I64, 0, documents, c->begin + at));
        for (int64_t d = 0; d < documents; d++) {
            if (c->begin[at + d] < last || c->begin[at + d] > f->attribute[CORPUS_A_TOKENS])
                return damaged(f, "its document offsets make no sense");
            last = c->begin[at + d];
            c->begin[at + d] += f->first;
        }
        at += documents;
    }
    c->begin[n] = c->tokens;
    c->first_window[0] = 0;
    for (int64_t d = 0; d < n; d++)
        c->first_window[d + 1] = c->first_window[d] + windows_of(c->begin[d + 1] - c->begin[d], T);
    c->index_T = T;
    return 0;
}

static int make_index(Corpus *c, int64_t T) {
    if (c->index_T == T) return 0;
    pthread_mutex_lock(&c->lock);
    c->index_T = 0;
    int rc = index_documents(c, T);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

int64_t corpus_windows(Corpus *c, int64_t T) {
    TRY(make_index(c, T));
    if (c->first_window[c->documents] == 0)
        return error_set(ERR_DATA, "%s: no document has two tokens, so there is nothing to predict",
                         c->file[0].path);
    return c->first_window[c->documents];
}

/* The j-th window: its first token and number of inputs. The index is there. */
static void find_window(const Corpus *c, uint64_t seed, int64_t j, int64_t T, int64_t *at,
                        int64_t *n) {
    int64_t all = c->first_window[c->documents], k = order_stream(seed, j, all);
    int64_t lo = 0, hi = c->documents; /* first_window[lo] <= k < first_window[hi] */
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        if (c->first_window[mid] <= k)
            lo = mid;
        else
            hi = mid;
    }
    int64_t len = c->begin[lo + 1] - c->begin[lo], mine = windows_of(len, T);
    *n = len - 1 < T ? len - 1 : T;
    int64_t room = len - mine * *n; /* shifts that leave the last window inside */
    if (room > T) room = T;
    int64_t shift = order_item(hash_combine(~seed, (uint64_t)lo), 0, j / all % room, room);
    *at = c->begin[lo] + shift + (k - c->first_window[lo]) * T;
}

int corpus_window(Corpus *c, uint64_t seed, int64_t j, int64_t T, int32_t *out, int64_t *n,
                  uint64_t *id) {
    int64_t windows = corpus_windows(c, T), at;
    if (windows < 0) return (int)windows;
    find_window(c, seed, j, T, &at, n);
    if (id) *id = (uint64_t)j;
    return corpus_read(c, at, *n + 1, out);
}

int64_t corpus_window_tokens(Corpus *c, uint64_t seed, int64_t first, int64_t count, int64_t T) {
    int64_t windows = corpus_windows(c, T), sum = 0;
    if (windows < 0) return windows;
    for (int64_t j = first; j < first + count; j++) {
        int64_t at, n;
        find_window(c, seed, j, T, &at, &n);
        sum += n;
    }
    return sum;
}

int corpus_window_mean(Corpus *c, uint64_t seed, int64_t T, double *mean) {
    const int64_t windows = corpus_windows(c, T), some = windows < 1000 ? windows : 1000;
    if (windows < 0) return (int)windows;
    *mean = (double)corpus_window_tokens(c, seed, 0, some, T) / (double)some;
    return 0;
}

/* --- reading ahead ---------------------------------------------------------------------------- */

/* The next window that is wanted, under the lock. */
static int read_window_ahead(Corpus *c) {
    int64_t at, n;
    find_window(c, c->ahead.seed, c->ahead.next++, c->ahead.T, &at, &n);
    for (int64_t end = at + n + 1; at < end;) {
        const File *f = file_of(c, at);
        const Slot *s;
        int64_t chunk = f->attribute[CORPUS_A_CHUNK], k = (at - f->first) / chunk;
        if (c->slot_of[f->first_chunk + k] < 0 && c->ahead.room-- == 0) return -1;
        TRY(load_chunk(c, AHEAD, f, k, &s));
        int64_t next = f->first + (k + 1) * chunk, last = f->first + f->attribute[CORPUS_A_TOKENS];
        at = next < last ? next : last;
    }
    return 0;
}

static void *read_ahead(void *corpus) {
    Corpus *c = corpus;
    omp_set_num_threads(1);
    pthread_mutex_lock(&c->lock);
    while (!c->quit) {
        if (c->ahead.next >= c->ahead.end || c->ahead.T != c->index_T)
            pthread_cond_wait(&c->work, &c->lock);
        else if (read_window_ahead(c) < 0)
            c->ahead.end = 0;
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

void corpus_ahead(Corpus *c, uint64_t seed, int64_t first, int64_t count, int64_t T) {
    if (corpus_windows(c, T) < 0) return;
    pthread_mutex_lock(&c->lock);
    c->ahead.seed = seed;
    c->ahead.next = first;
    c->ahead.end = first + count;
    c->ahead.T = T;
    c->ahead.room = c->max_slots / 2; /* the rest is for what is being read now */
    if (!c->has_thread) {             /* signals are for the other threads */
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        c->has_thread = pthread_create(&c->thread, NULL, read_ahead, c) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
}

double corpus_waited(Corpus *c) { return c->waited; }

int64_t corpus_chunks(const Corpus *c, size_t *bytes) {
    *bytes = (size_t)c->chunk * c->id_bytes;
    return c->max_slots;
}
