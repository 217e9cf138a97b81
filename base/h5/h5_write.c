/* h5_write.c: datasets into a file. Chunks are packed in threads and handed to HDF5 in order. */
#include "base/error.h"
#include "base/h5/chunk.h"
#include "base/h5/h5_impl.h"
#include "base/h5/h5_zstd.h"
#include "base/hash.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* Makes the groups on the way to `name`. */
static int make_groups(H5 *h, const char *name) {
    AUTOFREE char *path = xasprintf("%s%s", *name == '/' ? "" : "/", name);
    hid_t create = h5_creation_list(H5P_GROUP_CREATE);
    int rc = 0;
    for (size_t i = 1; rc == 0 && path[i]; i++) {
        if (path[i] != '/') continue;
        path[i] = '\0';
        if (H5Lexists(h->file, path, H5P_DEFAULT) <= 0) {
            hid_t group = H5Gcreate2(h->file, path, H5P_DEFAULT, create, H5P_DEFAULT);
            if (group < 0 || H5Gclose(group) < 0) rc = h5_error(h, path, "make the group");
        }
        path[i] = '/';
    }
    H5Pclose(create);
    return rc;
}

static int put_chunk(H5 *h, const Data *d, int64_t k, const void *packed, size_t bytes) {
    hsize_t place[H5_MAX_DIM];
    h5_chunk_place(d, k, place);
    h5_be_quiet();
    if (H5Dwrite_chunk(d->id, H5P_DEFAULT, 0, place, bytes, packed) < 0)
        return h5_error(h, d->name, "write a chunk");
    return 0;
}

/* Chunks [first, first+n), whose values begin at `data`. */
static int write_chunks(H5 *h, const Data *d, int64_t first, int64_t n, const char *data) {
    H5Failure f = {0};
    int64_t base = h5_cut_start(&d->cut, first);
#pragma omp parallel if (n > 1)
    {
        Chunker *c = chunker_new(h5_chunk_bytes(d), d->size, d->codec);
        char *packed = xmalloc(chunk_bound(h5_chunk_bytes(d)));
#pragma omp for ordered schedule(dynamic, 1)
        for (int64_t k = first; k < first + n; k++) {
            const char *why = "";
            size_t bytes = 0;
            if (!h5_failed(&f))
                bytes = chunker_pack(c, data + (size_t)(h5_cut_start(&d->cut, k) - base) * d->size,
                                     (size_t)h5_cut_count(&d->cut, k) * d->size, packed, &why);
#pragma omp ordered
            if (!h5_failed(&f))
                h5_fail(&f,
                        bytes ? put_chunk(h, d, k, packed, bytes)
                              : error_set(ERR_INTERNAL, "%s: %s: zstd: %s", h->path, d->name, why));
        }
        free(packed);
        chunker_free(&c);
    }
    return h5_handed_up(&f);
}

/* Creates the dataset that `d` describes; a growing one gets an unlimited first dimension. */
static int create_data(H5 *h, Data *d, H5Codec codec, bool growing) {
    h5_forget(h);
    TRY(make_groups(h, d->name));
    hsize_t dims[H5_MAX_DIM], most[H5_MAX_DIM];
    for (int i = 0; i < d->ndim; i++) dims[i] = most[i] = d->text ? 1 : (hsize_t)d->shape[i];
    if (growing) most[0] = H5S_UNLIMITED;
    const unsigned level = CHUNK_ZSTD_LEVEL;
    hid_t space = H5Screate_simple(d->ndim, dims, most);
    hid_t type = d->text ? h5_string_type((size_t)d->total) : H5Tcopy(h5_file_type(d->type));
    hid_t create = h5_creation_list(H5P_DATASET_CREATE);
    bool ok = space >= 0;
    if (d->total > 0 || growing) { /* HDF5 has no chunks in an array without elements */
        ok = ok && H5Pset_chunk(create, d->ndim, d->text ? dims : d->chunk) >= 0;
        if (codec == H5_RAW) ok = ok && H5Pset_fletcher32(create) >= 0;
        if (codec == H5_SHUFFLE_ZSTD) ok = ok && H5Pset_shuffle(create) >= 0;
        if (codec != H5_RAW) ok = ok && H5Pset_filter(create, H5_ZSTD_FILTER, 0, 1, &level) >= 0;
    }
    if (ok) d->id = H5Dcreate2(h->file, d->name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    int rc = !ok || d->id < 0 ? h5_error(h, d->name, "create the dataset") : 0;
    if (rc < 0) d->id = 0;
    H5Pclose(create);
    H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    d->ours = true;
    d->codec = codec;
    return rc;
}

/* Frees what `d` holds; a failed close of the dataset is an error where rc has none yet. */
static int close_data(H5 *h, Data *d, int rc) {
    if (d->id > 0 && H5Dclose(d->id) < 0 && rc == 0) rc = h5_error(h, d->name, "close");
    free(d->name);
    *d = (Data){0};
    return rc;
}

int h5_write(H5 *h, const char *name, H5Type type, int ndim, const int64_t *shape, const void *data,
             H5Codec codec) {
    IN_TURN;
    CHECK(h->writing, "%s is open for reading", h->path);
    Data d = h5_describe(type, ndim, shape);
    d.name = xstrdup(name);
    int rc = create_data(h, &d, codec, false);
    if (rc == 0 && d.total > 0) rc = write_chunks(h, &d, 0, d.cut.chunks, data);
    return close_data(h, &d, rc);
}

struct H5Data {
    H5 *h;
    Data d;
};

int h5_data_create(H5Data **out, H5 *h, const char *name, H5Type type, int ndim,
                   const int64_t *shape, H5Codec codec) {
    IN_TURN;
    CHECK(h->writing, "%s is open for reading", h->path);
    *out = xcalloc(1, sizeof **out);
    **out = (H5Data){h, h5_describe(type, ndim, shape)};
    (*out)->d.name = xstrdup(name);
    int rc = create_data(h, &(*out)->d, codec, false);
    if (rc < 0) h5_data_close(out);
    return rc;
}

int h5_data_put(H5Data *data, int64_t k, const void *packed, size_t bytes) {
    IN_TURN;
    CHECK(k >= 0 && k < data->d.cut.chunks, "%s: chunk %lld", data->d.name, (long long)k);
    return put_chunk(data->h, &data->d, k, packed, bytes);
}

int h5_data_close(H5Data **data) {
    IN_TURN;
    if (!*data) return 0;
    int rc = close_data((*data)->h, &(*data)->d, 0);
    free(*data);
    *data = NULL;
    return rc;
}

void h5_write_behind(H5 *h) {
    IN_TURN;
    int *fd = NULL;
    if (H5Fget_vfd_handle(h->file, H5P_DEFAULT, (void **)&fd) >= 0 && fd)
        sync_file_range(*fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* the fsync at the end has the errors */
    H5Eclear2(H5E_DEFAULT);
}

int h5_write_text(H5 *h, const char *name, const char *text) {
    IN_TURN;
    CHECK(h->writing, "%s is open for reading", h->path);
    const int64_t n = (int64_t)strlen(text) + 1;
    Data d = {.name = xstrdup(name), .type = H5_U8, .size = 1, .ndim = 1, .text = true};
    d.total = d.shape[0] = n;
    d.chunk[0] = (hsize_t)n;
    h5_measure_chunks(&d);
    int rc = create_data(h, &d, H5_RAW, false);
    if (rc == 0) rc = write_chunks(h, &d, 0, 1, text);
    return close_data(h, &d, rc);
}

/* --- growing datasets ------------------------------------------------------------------------- */
struct H5Append {
    H5 *h;
    Data d;
    char *buffer; /* `slots` chunks, `held` elements in it */
    int64_t slots, held;
    uint64_t *hashes;      /* of chunks written and, when asked for, of those in the buffer */
    int64_t nhashes, room; /* written; allocated */
};

int h5_append_begin(H5Append **out, H5 *h, const char *name, H5Type type, int64_t chunk,
                    H5Codec codec) {
    IN_TURN;
    CHECK(h->writing && chunk > 0, "%s: %s: chunk %lld", h->path, name, (long long)chunk);
    *out = NULL;
    H5Append *a = xcalloc(1, sizeof *a);
    a->h = h;
    a->d = (Data){.name = xstrdup(name), .type = type, .size = h5_type_size(type), .ndim = 1};
    a->d.chunk[0] = (hsize_t)chunk;
    h5_measure_chunks(&a->d);
    int rc = create_data(h, &a->d, codec, true);
    if (rc < 0) {
        close_data(h, &a->d, rc);
        free(a);
        return rc;
    }
    a->slots = 16; /* work for the threads */
    a->room = a->slots;
    a->buffer = xmalloc((size_t)a->slots * h5_chunk_bytes(&a->d));
    a->hashes = xmalloc(sizeof *a->hashes * (size_t)a->room);
    *out = a;
    return 0;
}

static void hash_held(const H5Append *a) {
    for (int64_t i = 0; i * a->d.cut.cap < a->held; i++) {
        int64_t left = a->held - i * a->d.cut.cap, n = left < a->d.cut.cap ? left : a->d.cut.cap;
        a->hashes[a->nhashes + i] =
            hash_bytes(a->buffer + (size_t)i * h5_chunk_bytes(&a->d), (size_t)n * a->d.size);
    }
}

static int write_held(H5Append *a) {
    if (a->held == 0) return 0;
    Data *d = &a->d;
    int64_t before = d->total, chunks = (a->held + d->cut.cap - 1) / d->cut.cap;
    hash_held(a);
    h5_forget(a->h);
    d->total = d->shape[0] = before + a->held;
    h5_measure_chunks(d);
    hsize_t extent = (hsize_t)d->total;
    if (H5Dset_extent(d->id, &extent) < 0) return h5_error(a->h, d->name, "extend");
    TRY(write_chunks(a->h, d, before / d->cut.cap, chunks, a->buffer));
    a->nhashes += chunks;
    a->held = 0;
    if (a->room < a->nhashes + a->slots) {
        a->room = 2 * a->room + a->slots;
        a->hashes = xrealloc(a->hashes, sizeof *a->hashes * (size_t)a->room);
    }
    return 0;
}

int h5_append(H5Append *a, const void *data, int64_t n) {
    IN_TURN;
    const char *from = data;
    while (n > 0) {
        int64_t room = a->slots * a->d.cut.cap - a->held, m = n < room ? n : room;
        memcpy(a->buffer + (size_t)a->held * a->d.size, from, (size_t)m * a->d.size);
        a->held += m;
        from += (size_t)m * a->d.size;
        n -= m;
        if (a->held == a->slots * a->d.cut.cap) TRY(write_held(a));
    }
    return 0;
}

const uint64_t *h5_append_hashes(const H5Append *a, int64_t *n) {
    hash_held(a);
    *n = a->nhashes + (a->held + a->d.cut.cap - 1) / a->d.cut.cap;
    return a->hashes;
}

int h5_append_end(H5Append **ap, int64_t *total) {
    IN_TURN;
    H5Append *a = *ap;
    if (!a) return 0;
    int rc = write_held(a);
    if (total) *total = a->d.total;
    rc = close_data(a->h, &a->d, rc);
    free(a->buffer);
    free(a->hashes);
    free(a);
    *ap = NULL;
    return rc;
}
