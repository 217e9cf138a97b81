/* open.c: the one way to read a checkpoint: find it, verify its bytes before HDF5 sees them, open
 * it, read from it; by one process alone or by all ranks together.
 *
 * A directory means its best checkpoint, or the newest good one, found by walking the manifests
 * from the newest; what is refused is named, with the reason. Together, rank 0 finds and verifies,
 * the others open what it has found. What each rank holds for itself it reads for itself. Of an
 * array that all hold, each rank reads and unpacks a share, and they exchange them: the file system
 * sees each byte about once, whatever the number of ranks. */
#include "checkpoints/checkpoint.h"

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
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
    AUTOFREE char *text = NULL;
    size_t len = 0;
    TRY(h5_read_text(k->h5, "config", &k->config, &len));
    TRY(h5_read_text(k->h5, "tokenizer", &k->tokenizer, &k->tokenizer_len));
    TRY(h5_read_text(k->h5, "meta", &text, &len));
    return json_parse(&k->meta, text, len, k->path, 1);
}

/* verify = false when another rank has just verified the same file. */
static int open_file(Ckpt **out, const char *path, bool verify) {
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

/* --- finding ---------------------------------------------------------------------------------- */

/* The newest good one of dir; *out stays NULL, with 0, when there is none at all. */
static int open_good(Ckpt **out, const char *dir) {
    *out = NULL;
    AUTOFREE Committed *v = NULL;
    int n;
    TRY(manifest_list(dir, &v, &n));
    int rc = 0;
    AUTOFREE char *first = NULL; /* why the newest was refused */
    for (int i = 0; i < n && !*out; i++) {
        AUTOFREE char *file = manifest_name(dir, v[i].step, v[i].aside, CKPT_FILE);
        rc = open_file(out, file, true);
        if (rc < 0) {
            if (!first) first = xstrdup(error_message());
            log_warn("%s%s", error_message(), i + 1 < n ? "; trying the next older one" : "");
        }
    }
    if (n > 0 && !*out)
        rc = error_set(ERR_DATA,
                       "%s: none of its %d checkpoints is good (the newest: %s); restore one from "
                       "a copy, or move the directory away to start again from the first step",
                       dir, n, first);
    return rc < 0 && !*out ? rc : 0;
}

static int open_folder(Ckpt **out, const char *dir) {
    const int64_t best = ckpt_best_step(dir, NULL);
    if (best >= 0) {
        AUTOFREE char *file = manifest_name(dir, best, false, CKPT_FILE);
        if (open_file(out, file, true) < 0)
            log_warn("the best checkpoint: %s; trying the newest one", error_message());
    }
    if (!*out) TRY(open_good(out, dir));
    if (*out) return 0;
    return error_set(ERR_DATA,
                     "%s: holds no checkpoint (step_*.h5 with its .json); has the run that writes "
                     "there saved yet?",
                     dir);
}

/* What `path` means, for this process. */
static int open_found(Ckpt **out, const char *path) {
    if (!file_exists(path))
        return error_set(ERR_IO,
                         "%s: no such file or directory; expected a run directory or a checkpoint",
                         path);
    if (!file_is_dir(path)) return open_file(out, path, true);
    AUTOFREE char *dir = manifest_folder(path);
    return open_folder(out, dir);
}

static bool is_alone(const Comm *c) { return !c || comm_alone(c); }
static bool finds(const Comm *c) { return is_alone(c) || comm_rank(c) == 0; }

/* Hands what rank 0 has found (rc, *out) to all. The others need not hash the bytes again, but must
 * see the same manifest. */
static int open_together(Ckpt **out, int rc, Comm *c) {
    char path[4096] = "", id[17] = "";
    if (is_alone(c)) return rc;
    if (*out && strlen((*out)->path) >= sizeof path)
        rc = error_set(ERR_CONFIG, "%s: the path is too long; choose a shorter one", (*out)->path);
    else if (*out) {
        strcpy(path, (*out)->path);
        strcpy(id, (*out)->id);
    }
    rc = comm_agree(c, rc);
    if (rc >= 0) {
        comm_bcast(c, path, sizeof path, 0);
        comm_bcast(c, id, sizeof id, 0);
        if (*path && comm_rank(c) != 0) {
            rc = open_file(out, path, false);
            if (rc >= 0 && strcmp((*out)->id, id) != 0)
                rc = error_set(ERR_DATA, "%s: is another file than rank 0 sees", path);
            if (rc < 0)
                rc = error_wrap(rc, "all ranks must see one folder, on a shared file system");
        }
        rc = comm_agree(c, rc);
    }
    if (rc < 0) ckpt_close(out);
    return rc;
}

int ckpt_open(Ckpt **out, const char *path, Comm *c) {
    *out = NULL;
    return open_together(out, finds(c) ? open_found(out, path) : 0, c);
}

int ckpt_open_newest(Ckpt **out, const char *dir, Comm *c) {
    *out = NULL;
    int rc = finds(c) ? manifest_remove_temporaries(dir) : 0;
    if (finds(c) && rc >= 0) rc = open_good(out, dir);
    return open_together(out, rc, c);
}

/* --- reading ---------------------------------------------------------------------------------- */

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

int ckpt_check(Ckpt *k, const CkptArray *a) {
    int ndim = 0;
    int64_t shape[H5_MAX_DIM];
    TRY(h5_shape(k->h5, a->name, NULL, &ndim, shape));
    if (ndim == a->ndim && memcmp(shape, a->shape, (size_t)ndim * sizeof *shape) == 0) return 0;
    AUTOFREE char *found = text_shape(ndim, shape), *expected = text_shape(a->ndim, a->shape);
    return error_set(ERR_DATA,
                     "%s: %s has the shape %s, expected %s; is it a checkpoint of another "
                     "model?",
                     k->path, a->name, found, expected);
}

/* Elements [begin, end) of the flattened array; no more of the file is read than the chunks they
 * lie in. */
static int read_range(Ckpt *k, const CkptArray *a, int64_t begin, int64_t end, void *out) {
    TRY(ckpt_check(k, a));
    return h5_read_range(k->h5, a->name, a->type, begin, end - begin, out);
}

enum { ROUND_BYTES = 16 << 20, SMALL_BYTES = 1 << 20 };

/* Elements [at, at+n) of an array that all hold. A rank that cannot read still takes part. */
static int read_round(Ckpt *k, const CkptArray *a, int64_t at, int64_t n, Comm *c) {
    const size_t each = h5_type_size(a->type);
    const bool small = (size_t)n * each <= SMALL_BYTES;
    char *to = (char *)a->data + (size_t)at * each;
    int64_t begin, end;
    comm_share(n, comm_rank(c), comm_size(c), &begin, &end);
    if (small) {
        begin = 0;
        end = comm_rank(c) == 0 ? n : 0;
    }
    int rc = read_range(k, a, at + begin, at + end, to + (size_t)begin * each);
    if (small)
        comm_bcast(c, to, (size_t)n * each, 0);
    else {
        AUTOFREE char *all = NULL;
        AUTOFREE size_t *offsets = xcalloc((size_t)comm_size(c) + 1, sizeof *offsets);
        comm_allgather_bytes(c, to + (size_t)begin * each, (size_t)(end - begin) * each, &all,
                             offsets);
        memcpy(to, all, (size_t)n * each);
    }
    return rc;
}

int ckpt_load(Ckpt *k, const CkptArray *v, int n, Comm *c) {
    int rc = 0;
    for (int i = 0; i < n; i++) {
        const CkptArray *a = &v[i];
        const int64_t total = ckpt_elements(a),
                      round = ROUND_BYTES / (int64_t)h5_type_size(a->type);
        if (is_alone(c) || a->end > 0) {
            if (rc >= 0) rc = read_range(k, a, a->begin, a->end > 0 ? a->end : total, a->data);
            continue;
        }
        for (int64_t at = 0; at < total; at += round) {
            int read = read_round(k, a, at, total - at < round ? total - at : round, c);
            if (rc >= 0) rc = read;
        }
    }
    return is_alone(c) ? rc : comm_agree(c, rc);
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
static int hash_dataset(Ckpt *k, const char *name, H5Type type, int64_t n, uint64_t *hash) {
    if (k->format > 1) return h5_hash(k->h5, name, hash);
    const size_t bytes = (size_t)n * h5_type_size(type);
    AUTOFREE void *data = xmalloc(bytes);
    int rc = h5_read(k->h5, name, type, data, n);
    if (rc >= 0) *hash = hash_bytes(data, bytes);
    return rc;
}

static int verify_dataset(void *ctx, const char *name, H5Type type, int ndim,
                          const int64_t *shape) {
    Sums *s = ctx;
    Ckpt *k = s->k;
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) n *= shape[i];
    AUTOFREE char *said = NULL;
    char hex[17];
    uint64_t hash = 0;
    TRY(h5_get_str(k->h5, name, k->format > 1 ? CKPT_HASHES : CKPT_HASH, &said));
    int rc = hash_dataset(k, name, type, n, &hash);
    snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    if (rc >= 0 && strcmp(hex, said) != 0)
        rc = error_set(ERR_DATA,
                       "%s: %s: hash of its values is %s, expected %s: damaged; use "
                       "another checkpoint",
                       k->path, name, hex, said);
    s->datasets++;
    s->bytes += n * (int64_t)h5_type_size(type);
    return rc;
}

int ckpt_verify(const char *path, char **report) {
    Sums s = {0};
    int rc = ckpt_open(&s.k, path, NULL);
    if (rc >= 0) rc = h5_each(s.k->h5, "/", verify_dataset, &s);
    *report =
        rc < 0
            ? xstrdup(error_message())
            : xasprintf("%s: good: %s, step %" PRId64 ", %" PRId64 " datasets with %.1f MB, id %s",
                        path, s.k->stage, s.k->step, s.datasets, (double)s.bytes / 1e6, s.k->id);
    ckpt_close(&s.k);
    return rc;
}
