/* h5_read.c: datasets out of a file. Chunks are fetched in order and unpacked in threads; arrays
 * that we did not cut (another program's) go through HDF5. */
#include "base/error.h"
#include "base/h5/chunk.h"
#include "base/h5/h5_impl.h"
#include "base/h5/h5_zstd.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

/* Zeros compress best: 128 KiB of them into a few bytes. Nothing that we read in one piece is
 * larger than LARGEST. */
enum { BEST_COMPRESSION = 1 << 16, LARGEST = 256 << 20 };

/* The sizes are the file's word: more than it can hold is not believed. */
static int count_elements(const H5 *h, Data *d, const hsize_t *dims) {
    const uint64_t most = (uint64_t)h->bytes * BEST_COMPRESSION / d->size;
    uint64_t total = 1;
    for (int i = 0; i < d->ndim; i++)
        if (dims[i] == 0) total = 0;
    for (int i = 0; i < d->ndim; i++) {
        if (total > 0 && (dims[i] > most || (total *= dims[i]) > most))
            return error_set(ERR_DATA,
                             "%s: %s claims more elements than a file of %lld bytes can hold; the "
                             "file is damaged, or made to deceive",
                             h->path, d->name, (long long)h->bytes);
        d->shape[i] = (int64_t)dims[i];
    }
    d->total = (int64_t)total;
    return 0;
}

/* How the dataset is laid out in the file. */
static int look_at_chunks(H5 *h, Data *d) {
    hid_t create = H5Dget_create_plist(d->id);
    if (create < 0) return h5_error(h, d->name, "read the layout");
    bool ours = H5Pget_layout(create) == H5D_CHUNKED && d->total > 0 &&
                H5Pget_chunk(create, d->ndim, d->chunk) == d->ndim;
    if (d->text) d->chunk[0] = (hsize_t)d->total;
    ours = ours && h5_measure_chunks(d) && h5_chunk_bytes(d) <= LARGEST;
    int n = H5Pget_nfilters(create);
    for (int i = 0; ours && i < n; i++) {
        unsigned flags, config;
        size_t nparams = 0;
        H5Z_filter_t f =
            H5Pget_filter2(create, (unsigned)i, &flags, &nparams, NULL, 0, NULL, &config);
        if (n == 1 && f == H5Z_FILTER_FLETCHER32)
            d->codec = H5_RAW;
        else if (i == n - 1 && f == H5_ZSTD_FILTER)
            d->codec = n == 2 ? H5_SHUFFLE_ZSTD : H5_ZSTD;
        else
            ours = n == 2 && i == 0 && f == H5Z_FILTER_SHUFFLE;
    }
    d->ours = ours && n > 0;
    H5Pclose(create);
    return 0;
}

static int look_at(H5 *h, Data *d) {
    d->id = H5Dopen2(h->file, d->name, H5P_DEFAULT);
    if (d->id < 0) {
        d->id = 0;
        return h5_error(h, d->name, "open the dataset");
    }
    hid_t space = H5Dget_space(d->id), type = H5Dget_type(d->id);
    hsize_t dims[H5S_MAX_RANK] = {0};
    d->ndim = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    int rc = 0;
    if (type < 0 || d->ndim < 0 || H5Sget_simple_extent_dims(space, dims, NULL) < 0)
        rc = h5_error(h, d->name, "read the shape");
    int t = 0;
    d->text = rc == 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
              d->ndim == 1 && dims[0] == 1;
    if (d->text) dims[0] = H5Tget_size(type);
    while (rc == 0 && !d->text && t < H5_NTYPES && H5Tequal(type, h5_file_type((H5Type)t)) <= 0)
        t++;
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    if (rc < 0) return rc;
    if (t == H5_NTYPES || d->ndim < 1 || d->ndim > H5_MAX_DIM)
        return error_set(ERR_DATA,
                         "%s: %s: an array of %d dimensions%s, which Rhetor does not "
                         "write; is this file from another program?",
                         h->path, d->name, d->ndim, t == H5_NTYPES ? " of an unknown type" : "");
    d->type = (H5Type)t;
    d->size = h5_type_size((H5Type)t);
    TRY(count_elements(h, d, dims));
    return look_at_chunks(h, d);
}

static int open_data(H5 *h, const char *name, Data **out) {
    if (!h->last.name || strcmp(h->last.name, name) != 0) {
        h5_forget(h);
        if (!h5_exists(h, name)) return h5_missing(h, name);
        h->last.name = xstrdup(name);
        int rc = look_at(h, &h->last);
        if (rc < 0) {
            h5_forget(h);
            return rc;
        }
    }
    *out = &h->last;
    return 0;
}

/* Packed bytes of a chunk out of the file into the chunker. */
static int fetch(H5 *h, const Data *d, int64_t k, Chunker *c, size_t *packed) {
    hsize_t place[H5_MAX_DIM], bytes = 0;
    uint32_t skipped = 0;
    h5_chunk_place(d, k, place);
    h5_be_quiet();
    if (H5Dget_chunk_storage_size(d->id, place, &bytes) < 0)
        return h5_error(h, d->name, "find a chunk");
    void *room = chunker_room(c, (size_t)bytes);
    if (bytes == 0 || !room)
        return error_set(ERR_DATA,
                         "%s: %s: chunk %lld has %llu bytes: damaged or incomplete file; "
                         "use another copy",
                         h->path, d->name, (long long)k, (unsigned long long)bytes);
    if (H5Dread_chunk(d->id, H5P_DEFAULT, place, &skipped, room) < 0)
        return h5_error(h, d->name, "read a chunk");
    if (skipped != 0)
        return error_set(ERR_DATA,
                         "%s: %s: chunk %lld is not packed; is this file from another "
                         "program?",
                         h->path, d->name, (long long)k);
    *packed = (size_t)bytes;
    return 0;
}

static int unpack(const H5 *h, const Data *d, int64_t k, Chunker *c, size_t packed, size_t from,
                  size_t n, void *dst) {
    const char *why = "";
    if (chunker_unpack(c, packed, from, n, dst, &why)) return 0;
    return error_set(ERR_DATA, "%s: %s: chunk %lld is damaged: %s; use another copy of the file",
                     h->path, d->name, (long long)k, why);
}

/* A piece of one chunk. The chunk stays unpacked: the next piece is often near. */
static int read_piece(H5 *h, const Data *d, int64_t k, int64_t offset, int64_t n, char *out) {
    if (!h->chunker) {
        h->chunker = chunker_new(h5_chunk_bytes(d), d->size, d->codec);
        h->chunk = xmalloc(h5_chunk_bytes(d));
    }
    if (h->unpacked != k) {
        size_t packed = 0;
        h->unpacked = -1;
        TRY(fetch(h, d, k, h->chunker, &packed));
        TRY(unpack(h, d, k, h->chunker, packed, 0, h5_chunk_bytes(d), h->chunk));
        h->unpacked = k;
    }
    memcpy(out, h->chunk + (size_t)(offset - h5_cut_start(&d->cut, k)) * d->size,
           (size_t)n * d->size);
    return 0;
}

/* Chunks [first, last], unpacked in threads: their elements of [offset, offset+n) of the flattened
 * array to `out`; or, where that is NULL, to each chunk its hash. */
static int read_chunks(H5 *h, const Data *d, int64_t first, int64_t last, int64_t offset, int64_t n,
                       char *out, uint64_t *hashes) {
    H5Failure f = {0};
#pragma omp parallel if (last > first)
    {
        Chunker *c = chunker_new(h5_chunk_bytes(d), d->size, d->codec);
        char *values = out ? NULL : xmalloc(h5_chunk_bytes(d));
#pragma omp for ordered schedule(dynamic, 1)
        for (int64_t k = first; k <= last; k++) {
            size_t packed = 0;
#pragma omp ordered
            if (!h5_failed(&f)) h5_fail(&f, fetch(h, d, k, c, &packed));
            if (h5_failed(&f)) continue;
            const int64_t start = h5_cut_start(&d->cut, k), end = start + h5_cut_count(&d->cut, k);
            const int64_t from = start < offset ? offset : start;
            const size_t bytes = (size_t)((end < offset + n ? end : offset + n) - from) * d->size;
            char *to = out ? out + (size_t)(from - offset) * d->size : values;
            h5_fail(&f, unpack(h, d, k, c, packed, (size_t)(from - start) * d->size, bytes, to));
            if (hashes) hashes[k - first] = hash_bytes(to, bytes);
        }
        free(values);
        chunker_free(&c);
    }
    return h5_handed_up(&f);
}

int h5_chunk_hashes(H5 *h, const char *name, int64_t first, int64_t n, uint64_t *hashes) {
    IN_TURN;
    Data *d = NULL;
    TRY(open_data(h, name, &d));
    if (n == 0) return 0;
    if (!d->ours || first < 0 || n < 0 || first > d->cut.chunks - n)
        return error_set(ERR_DATA,
                         "%s: %s: is not cut into chunks as expected; the file is of another "
                         "version or from another program",
                         h->path, name);
    return read_chunks(h, d, first, first + n - 1, 0, d->total, NULL, hashes);
}

int h5_hash(H5 *h, const char *name, uint64_t *hash) {
    IN_TURN;
    Data *d = NULL;
    TRY(open_data(h, name, &d));
    const size_t n = d->ours ? (size_t)d->cut.chunks : d->total > 0;
    AUTOFREE uint64_t *v = xcalloc(n, sizeof *v);
    int rc = h5_chunk_hashes(h, name, 0, (int64_t)n, v);
    if (rc >= 0) *hash = hash_bytes(v, n * sizeof *v);
    return rc;
}

static int read_data(H5 *h, const Data *d, int64_t offset, int64_t n, void *out) {
    if (n == 0) return 0;
    if (d->ours) {
        const int64_t first = h5_cut_of(&d->cut, offset), last = h5_cut_of(&d->cut, offset + n - 1);
        return first == last ? read_piece(h, d, first, offset, n, out)
                             : read_chunks(h, d, first, last, offset, n, out, NULL);
    }
    if (n < d->total && (d->ndim > 1 || d->text)) { /* a part of what we did not cut, rare */
        AUTOFREE char *all = xmalloc((size_t)d->total * d->size);
        TRY(read_data(h, d, 0, d->total, all));
        memcpy(out, all + (size_t)offset * d->size, (size_t)n * d->size);
        return 0;
    }
    hid_t file = H5S_ALL, memory = H5S_ALL;
    hsize_t from = (hsize_t)offset, count = (hsize_t)n;
    int rc = 0;
    if (n < d->total) {
        file = H5Dget_space(d->id);
        memory = H5Screate_simple(1, &count, NULL);
        if (file < 0 || memory < 0 ||
            H5Sselect_hyperslab(file, H5S_SELECT_SET, &from, NULL, &count, NULL) < 0)
            rc = h5_error(h, d->name, "select a range");
    }
    hid_t type = d->text ? H5Dget_type(d->id) : H5Tcopy(h5_file_type(d->type));
    if (rc == 0 && H5Dread(d->id, type, memory, file, H5P_DEFAULT, out) < 0)
        rc = h5_error(h, d->name, "read");
    H5Tclose(type);
    if (file > 0) H5Sclose(file);
    if (memory > 0) H5Sclose(memory);
    return rc;
}

static int check_type(const H5 *h, const Data *d, H5Type type) {
    if (d->type == type) return 0;
    return error_set(ERR_DATA,
                     "%s: %s holds %s, expected %s; the file is of another kind or version",
                     h->path, d->name, h5_type_word(d->type), h5_type_word(type));
}

int h5_read(H5 *h, const char *name, H5Type type, void *out, int64_t n) {
    IN_TURN;
    Data *d = NULL;
    TRY(open_data(h, name, &d));
    TRY(check_type(h, d, type));
    if (d->total != n)
        return error_set(ERR_DATA,
                         "%s: %s holds %lld elements, expected %lld; the file is of "
                         "another model or version",
                         h->path, name, (long long)d->total, (long long)n);
    return read_data(h, d, 0, n, out);
}

int h5_read_range(H5 *h, const char *name, H5Type type, int64_t offset, int64_t n, void *out) {
    IN_TURN;
    Data *d = NULL;
    TRY(open_data(h, name, &d));
    TRY(check_type(h, d, type));
    if (offset < 0 || n < 0 || offset > d->total || n > d->total - offset)
        return error_set(ERR_DATA,
                         "%s: %s: elements %lld to %lld asked for, but it holds %lld; the file is "
                         "incomplete or of another version",
                         h->path, name, (long long)offset, (long long)(offset + n),
                         (long long)d->total);
    return read_data(h, d, offset, n, out);
}

int h5_shape(H5 *h, const char *name, H5Type *type, int *ndim, int64_t shape[H5_MAX_DIM]) {
    IN_TURN;
    Data *d = NULL;
    TRY(open_data(h, name, &d));
    if (type) *type = d->type;
    if (ndim) *ndim = d->ndim;
    if (shape) memcpy(shape, d->shape, sizeof d->shape);
    return 0;
}

int h5_read_text(H5 *h, const char *name, char **text, size_t *len) {
    IN_TURN;
    *text = NULL;
    Data *d = NULL;
    TRY(open_data(h, name, &d));
    if (d->total > LARGEST)
        return error_set(ERR_DATA, "%s: %s is a text of %lld bytes, expected %d MiB at most",
                         h->path, name, (long long)d->total, LARGEST >> 20);
    char *t = *text = xcalloc((size_t)d->total + 1, 1);
    int rc = h5_read(h, name, H5_U8, t, d->total);
    if (rc < 0) free(t), *text = NULL;
    if (rc >= 0) *len = d->text ? strlen(t) : (size_t)d->total; /* bytes in earlier formats */
    return rc;
}
