/* open.c: an open checkpoint. The bytes are verified before HDF5 sees them. */
#include "checkpoints/open.h"

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"
#include "checkpoints/manifest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct Ckpt {
    H5 *h5;
    char *path, *stage, *config, *tokenizer;
    size_t tokenizer_len;
    char id[17];
    int64_t format, step, ranks, threads;
    json_t *meta;
};

static int read_header(Ckpt *k, const Manifest *m) {
    int64_t format = 0;
    TRY(h5_get_i64(k->h5, "/", "format", &format));
    if (format < CKPT_OLDEST_FORMAT || format > CKPT_FORMAT)
        return error_set(ERR_DATA,
                         "%s: format %" PRId64 ", this Rhetor reads %d to %d; use the version "
                         "that wrote it",
                         k->path, format, CKPT_OLDEST_FORMAT, CKPT_FORMAT);
    k->format = format;
    TRY(h5_get_str(k->h5, "/", "stage", &k->stage));
    TRY(h5_get_i64(k->h5, "/", "step", &k->step));
    if (k->step != m->step)
        return error_set(ERR_DATA,
                         "%s: holds step %" PRId64 ", its manifest says %" PRId64
                         "; use another checkpoint",
                         k->path, k->step, m->step);
    char *text = NULL;
    size_t len = 0;
    TRY(h5_read_text(k->h5, "config", &k->config, &len));
    TRY(h5_read_text(k->h5, "tokenizer", &k->tokenizer, &k->tokenizer_len));
    TRY(h5_read_text(k->h5, "meta", &text, &len));
    int rc = json_parse(&k->meta, text, len, k->path, 1);
    free(text);
    return rc;
}

int open_file(Ckpt **out, const char *path, bool verify) {
    *out = NULL;
    Manifest m;
    TRY(verify ? manifest_verify(&m, path) : manifest_read(&m, path));
    Ckpt *k = xcalloc(1, sizeof *k);
    k->path = xstrdup(path);
    snprintf(k->id, sizeof k->id, "%016" PRIx64, m.hash);
    k->ranks = m.ranks;
    k->threads = m.threads;
    int rc = h5_open(&k->h5, path);
    if (rc >= 0) rc = read_header(k, &m);
    if (rc < 0)
        ckpt_close(&k);
    else
        *out = k;
    return rc < 0 ? rc : 0;
}

int ckpt_open(Ckpt **out, const char *path) { return open_file(out, path, true); }

void ckpt_close(Ckpt **kp) {
    Ckpt *k = *kp;
    if (!k) return;
    h5_close(&k->h5);
    free(k->path);
    free(k->stage);
    free(k->config);
    free(k->tokenizer);
    json_decref(k->meta);
    free(k);
    *kp = NULL;
}

const char *ckpt_path(const Ckpt *k) { return k->path; }
const char *ckpt_id(const Ckpt *k) { return k->id; }
const char *ckpt_stage(const Ckpt *k) { return k->stage; }
int64_t ckpt_step(const Ckpt *k) { return k->step; }
void ckpt_layout(const Ckpt *k, int64_t *ranks, int64_t *threads) {
    *ranks = k->ranks;
    *threads = k->threads;
}
const json_t *ckpt_meta(const Ckpt *k) { return k->meta; }
const char *ckpt_config(const Ckpt *k) { return k->config; }
const char *ckpt_tokenizer(const Ckpt *k, size_t *len) {
    if (len) *len = k->tokenizer_len;
    return k->tokenizer;
}
bool ckpt_has(const Ckpt *k, const char *name) { return h5_exists(k->h5, name); }

static int check_shape(Ckpt *k, const char *name, int ndim, const int64_t *shape) {
    int have_ndim = 0;
    int64_t have[H5_MAX_DIM];
    TRY(h5_shape(k->h5, name, NULL, &have_ndim, have));
    bool same = ndim == have_ndim;
    for (int i = 0; same && i < ndim; i++) same = shape[i] == have[i];
    if (same) return 0;
    char *a = text_shape(have_ndim, have), *b = text_shape(ndim, shape);
    int rc = error_set(ERR_DATA,
                       "%s: %s has the shape %s, expected %s; is it a checkpoint of another "
                       "model?",
                       k->path, name, a, b);
    free(a);
    free(b);
    return rc;
}

int ckpt_read_part(Ckpt *k, const char *name, H5Type type, int ndim, const int64_t *shape,
                   int64_t begin, int64_t end, void *out) {
    TRY(check_shape(k, name, ndim, shape));
    return h5_read_range(k->h5, name, type, begin, end - begin, out);
}

int ckpt_read(Ckpt *k, const char *name, H5Type type, int ndim, const int64_t *shape, void *out) {
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) n *= shape[i];
    return ckpt_read_part(k, name, type, ndim, shape, 0, n, out);
}

/* h5_each names objects from the root; here names are as in CkptArray. */
typedef struct Visit {
    H5Visit *fn;
    void *ctx;
} Visit;

static int visit(void *ctx, const char *name, H5Type type, int ndim, const int64_t *shape) {
    const Visit *v = ctx;
    return v->fn(v->ctx, name + (*name == '/'), type, ndim, shape);
}

int ckpt_each(Ckpt *k, const char *group, H5Visit *fn, void *ctx) {
    Visit v = {fn, ctx};
    return h5_each(k->h5, *group ? group : "/", visit, &v);
}

/* --- verifying -------------------------------------------------------------------------------- */
typedef struct Sums {
    Ckpt *k;
    int64_t datasets, bytes;
} Sums;

/* Format 1: of all values. Later: of the hashes of the chunks' values. */
static int hash_dataset(Ckpt *k, const char *name, H5Type type, int ndim, const int64_t *shape,
                        uint64_t *hash) {
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) n *= shape[i];
    const bool chunks = k->format > 1;
    const H5Cut cut = h5_cut(type, ndim, shape);
    const size_t bytes =
        chunks ? (size_t)cut.chunks * sizeof *hash : (size_t)n * h5_type_size(type);
    void *data = xmalloc(bytes);
    int rc = chunks ? h5_chunk_hashes(k->h5, name, 0, cut.chunks, data)
                    : h5_read(k->h5, name, type, data, n);
    if (rc >= 0) *hash = hash_bytes(data, bytes);
    free(data);
    return rc;
}

static int verify_dataset(void *ctx, const char *name, H5Type type, int ndim,
                          const int64_t *shape) {
    Sums *s = ctx;
    Ckpt *k = s->k;
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) n *= shape[i];
    char *said = NULL, hex[17];
    uint64_t hash = 0;
    TRY(h5_get_str(k->h5, name, k->format > 1 ? CKPT_HASHES : CKPT_HASH, &said));
    int rc = hash_dataset(k, name, type, ndim, shape, &hash);
    snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    if (rc >= 0 && strcmp(hex, said) != 0)
        rc = error_set(ERR_DATA,
                       "%s: %s: hash of its values is %s, expected %s: damaged; use "
                       "another checkpoint",
                       k->path, name, hex, said);
    free(said);
    s->datasets++;
    s->bytes += n * (int64_t)h5_type_size(type);
    return rc;
}

int ckpt_verify(const char *path, char **report) {
    Sums s = {0};
    int rc = ckpt_open(&s.k, path);
    if (rc >= 0) rc = h5_each(s.k->h5, "/", verify_dataset, &s);
    *report =
        rc < 0
            ? xstrdup(error_message())
            : xasprintf("%s: good: %s, step %" PRId64 ", %" PRId64 " datasets with %.1f MB, id %s",
                        path, s.k->stage, s.k->step, s.datasets, (double)s.bytes / 1e6, s.k->id);
    ckpt_close(&s.k);
    return rc;
}
