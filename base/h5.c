/* h5.c: the only file that talks to HDF5.
 *
 * What HDF5 is used for: a hierarchy of named, typed arrays in a documented format that others can
 * read. What we do ourselves: cutting arrays into chunks, shuffling, compressing and checking them
 * in threads (HDF5's filters run in one), because H5Dwrite_chunk and H5Dread_chunk let us.
 *
 * Chunks are cut so that each is one contiguous piece of the array in memory: in a [A,B,C] array
 * the chunk is [1,1,c], [1,b,C] or [a,B,C], whichever comes nearest to CHUNK_BYTES.
 *
 * Every byte of a file is under a checksum: metadata by format V110, compressed chunks by zstd's
 * frame checksum, raw ones by fletcher32. Strings are of fixed length, because HDF5 keeps those of
 * variable length in a heap without checksums, and attributes stay in the object headers for the
 * same reason. Creation times are left out, so equal content makes equal files.
 *
 * HDF5 need not be thread-safe: one thread at a time is in a function of this file (IN_TURN), and
 * inside its parallel loops HDF5 is called in `ordered` blocks only. Where it is (Debian's), each
 * thread has its own stack of errors, which must be told not to print itself. */
#include "base/h5.h"

#include "base/chunk.h"
#include "base/error.h"
#include "base/file.h"
#include "base/h5_zstd.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "chunks are written as they lie in memory");

enum { CHUNK_BYTES = 1 << 20, LONGEST_ATTRIBUTE = 60000 };

/* An open dataset and how it is cut. */
typedef struct Data {
    hid_t id; /* 0: none */
    char *name;
    H5Type type;
    size_t size; /* of an element */
    int ndim;
    int64_t shape[H5_MAX_DIM], total;
    hsize_t chunk[H5_MAX_DIM];
    bool ours; /* cut and packed as chunk.h does: we read and write the chunks ourselves */
    H5Codec codec;
    int cut_dim;
    H5Cut cut;
} Data;

struct H5 {
    hid_t file;
    char *path;
    bool writing;
    Data last;        /* the dataset read last stays open: readers of windows come back to it */
    int64_t unpacked; /* chunk of it that lies in `chunk`, -1: none */
    char *chunk;
    Chunker *chunker;
};

static const struct {
    const char *word;
    size_t size;
} types[] = {
    [H5_U8] = {"u8", 1},   [H5_U16] = {"u16", 2}, [H5_U32] = {"u32", 4}, [H5_I32] = {"i32", 4},
    [H5_I64] = {"i64", 8}, [H5_F32] = {"f32", 4}, [H5_F64] = {"f64", 8}};
enum { NTYPES = sizeof types / sizeof types[0] };

static hid_t hdf5_type(H5Type t) {
    switch (t) {
    case H5_U8: return H5T_STD_U8LE;
    case H5_U16: return H5T_STD_U16LE;
    case H5_U32: return H5T_STD_U32LE;
    case H5_I32: return H5T_STD_I32LE;
    case H5_I64: return H5T_STD_I64LE;
    case H5_F32: return H5T_IEEE_F32LE;
    default: return H5T_IEEE_F64LE;
    }
}

static pthread_mutex_t turn = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static int begin_turn(void) {
    return pthread_mutex_lock(&turn);
}
static void end_turn(const int *unused) {
    pthread_mutex_unlock(&turn);
}
/* First in every function that others call and that calls HDF5: until it returns, other threads
 * wait. */
#define IN_TURN __attribute__((cleanup(end_turn), unused)) const int in_turn = begin_turn()

size_t h5_type_size(H5Type t) {
    return types[t].size;
}

/* --- errors ---------------------------------------------------------------------------------- */
static herr_t first_entry(unsigned n, const H5E_error2_t *e, void *ctx) {
    if (n == 0) snprintf(ctx, 512, "%s", e->desc ? e->desc : "");
    return 0;
}

/* HDF5's innermost message; of its long text on a failed system call only strerror's words. */
static void reason(char text[512]) {
    text[0] = '\0';
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_entry, text);
    H5Eclear2(H5E_DEFAULT);
    const char *mark = "error message = '";
    char *p = strstr(text, mark), *end;
    if (p && (end = strchr(p += strlen(mark), '\''))) {
        *end = '\0';
        memmove(text, p, strlen(p) + 1);
    }
    if (!text[0]) snprintf(text, 512, "no reason given by HDF5");
}

/* The message of a failed HDF5 call. */
static int hdf5_error(const H5 *h, const char *name, const char *what) {
    char why[512];
    reason(why);
    if (h->writing)
        return error_set(ERR_IO, "%s: %s: cannot %s: %s; check the free space and the file system",
                         h->path, name, what, why);
    return error_set(ERR_DATA,
                     "%s: %s: cannot %s: %s; the file is damaged or was not written to "
                     "its end: use another copy",
                     h->path, name, what, why);
}

/* A message from inside a parallel loop, where the thread that sets it is not the one that returns
 * it. The first one stays. */
typedef struct Failure {
    int rc;
    char *message;
} Failure;

static bool failed(Failure *f) {
    int rc;
#pragma omp atomic read
    rc = f->rc;
    return rc < 0;
}

static void fail(Failure *f, int rc) {
    if (rc >= 0) return;
#pragma omp critical(h5_failure)
    if (f->rc == 0) {
        f->message = xstrdup(error_message());
#pragma omp atomic write
        f->rc = rc;
    }
}

static int handed_up(Failure *f) {
    if (f->rc < 0) error_set(f->rc, "%s", f->message);
    free(f->message);
    return f->rc;
}

/* --- starting HDF5 --------------------------------------------------------------------------- */
static herr_t be_quiet(void) {
    return H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static int start_hdf5(void) {
    static bool started;
    if (started) return 0;
    /* After a failed close HDF5 would crash in its exit handler: it gets none. */
    if (H5dont_atexit() < 0 || H5open() < 0 || be_quiet() < 0 || h5_zstd_register() < 0)
        return error_set(ERR_INTERNAL, "HDF5 does not start; is another HDF5 library loaded?");
    started = true;
    return 0;
}

/* Without its exit handler HDF5 keeps some memory to the end: nothing for LeakSanitizer. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libhdf5\n";
}

/* --- files ----------------------------------------------------------------------------------- */
static hid_t access_list(void) {
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    CHECK(list >= 0 && H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
              H5Pset_file_locking(list, 0, 1) >= 0 &&
              H5Pset_fclose_degree(list, H5F_CLOSE_STRONG) >= 0,
          "HDF5 property list");
    return list;
}

/* Properties of everything that is created: no times, attributes in the object header. */
static hid_t creation_list(hid_t class) {
    hid_t list = H5Pcreate(class);
    CHECK(list >= 0 && H5Pset_obj_track_times(list, 0) >= 0 &&
              H5Pset_attr_phase_change(list, 1000, 0) >= 0,
          "HDF5 property list");
    return list;
}

static H5 *new_h5(const char *path, bool writing) {
    H5 *h = xcalloc(1, sizeof *h);
    h->path = xstrdup(path);
    h->writing = writing;
    h->unpacked = -1;
    return h;
}

static void free_h5(H5 **hp) {
    free((*hp)->path);
    free(*hp);
    *hp = NULL;
}

int h5_create(H5 **out, const char *path) {
    IN_TURN;
    *out = NULL;
    TRY(start_hdf5());
    /* Our own try first: its errno is clearer than HDF5's message. */
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return file_error(path, "create");
    close(fd);
    H5 *h = new_h5(path, true);
    hid_t access = access_list(), create = creation_list(H5P_FILE_CREATE);
    h->file = H5Fcreate(path, H5F_ACC_TRUNC, create, access);
    int rc = h->file < 0 ? hdf5_error(h, "/", "create the file") : 0;
    H5Pclose(access);
    H5Pclose(create);
    if (rc < 0)
        free_h5(&h);
    else
        *out = h;
    return rc;
}

int h5_open(H5 **out, const char *path) {
    IN_TURN;
    *out = NULL;
    TRY(start_hdf5());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return file_error(path, "open");
    char magic[8] = "";
    ssize_t n = read(fd, magic, sizeof magic);
    int error = errno;
    close(fd);
    errno = error;
    if (n < 0) return file_error(path, "read");
    if (n < 8 || memcmp(magic, "\211HDF\r\n\032\n", 8) != 0)
        return error_set(ERR_DATA,
                         "%s: not an HDF5 file (%s); expected a checkpoint or corpus that "
                         "Rhetor wrote",
                         path, n == 0 ? "empty" : "wrong first bytes");
    H5 *h = new_h5(path, false);
    hid_t access = access_list();
    h->file = H5Fopen(path, H5F_ACC_RDONLY, access);
    int rc = h->file < 0 ? hdf5_error(h, "/", "open the file") : 0;
    H5Pclose(access);
    if (rc < 0)
        free_h5(&h);
    else
        *out = h;
    return rc;
}

static void forget(H5 *h) {
    if (h->last.id > 0) H5Dclose(h->last.id); /* reading: nothing can be lost */
    free(h->last.name);
    h->last = (Data){0};
    h->unpacked = -1;
    free(h->chunk);
    h->chunk = NULL;
    chunker_free(&h->chunker);
}

int h5_close(H5 **hp) {
    IN_TURN;
    H5 *h = *hp;
    if (!h) return 0;
    int rc = 0;
    forget(h);
    if (h->writing && H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0) rc = hdf5_error(h, "/", "flush");
    if (H5Fclose(h->file) < 0 && rc == 0) rc = hdf5_error(h, "/", "close the file");
    free_h5(hp);
    return rc;
}

/* --- names ----------------------------------------------------------------------------------- */
/* Does the link exist, every group on its way included? H5Lexists asks for one step at a time. */
bool h5_exists(H5 *h, const char *name) {
    IN_TURN;
    char *path = xasprintf("%s%s", *name == '/' ? "" : "/", name);
    bool there = true;
    for (size_t i = 1; there && path[i - 1] != '\0'; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        char was = path[i];
        path[i] = '\0';
        there = i == 1 || H5Lexists(h->file, path, H5P_DEFAULT) > 0;
        path[i] = was;
    }
    H5Eclear2(H5E_DEFAULT);
    free(path);
    return there;
}

static int missing(const H5 *h, const char *name) {
    return error_set(ERR_DATA,
                     "%s: no \"%s\" in this file; it is of another kind or version, or "
                     "incomplete",
                     h->path, name);
}

/* Makes the groups on the way to `name`. */
static int make_groups(H5 *h, const char *name) {
    char *path = xasprintf("%s%s", *name == '/' ? "" : "/", name);
    hid_t create = creation_list(H5P_GROUP_CREATE);
    int rc = 0;
    for (size_t i = 1; rc == 0 && path[i]; i++) {
        if (path[i] != '/') continue;
        path[i] = '\0';
        if (H5Lexists(h->file, path, H5P_DEFAULT) <= 0) {
            hid_t group = H5Gcreate2(h->file, path, H5P_DEFAULT, create, H5P_DEFAULT);
            if (group < 0 || H5Gclose(group) < 0) rc = hdf5_error(h, path, "make the group");
        }
        path[i] = '/';
    }
    H5Pclose(create);
    free(path);
    return rc;
}

/* --- how an array is cut --------------------------------------------------------------------- */
static void choose_chunk(Data *d) {
    int64_t limit = CHUNK_BYTES / (int64_t)d->size, inner = 1;
    int i = d->ndim - 1;
    for (; i >= 0; i--) {
        int64_t cut = d->shape[i];
        if (inner * cut > limit) { /* equal pieces, so that the last one wastes little */
            int64_t pieces = (cut * inner + limit - 1) / limit;
            cut = (cut + pieces - 1) / pieces;
        }
        d->chunk[i] = (hsize_t)cut;
        inner *= cut;
        if (cut < d->shape[i]) break;
    }
    for (i--; i >= 0; i--) d->chunk[i] = 1;
}

/* Fills `cut`; false if the chunks are no contiguous pieces. */
static bool measure_chunks(Data *d) {
    H5Cut *c = &d->cut;
    int k = 0;
    while (k < d->ndim - 1 && d->chunk[k] == 1) k++;
    d->cut_dim = k;
    int64_t inner = 1;
    for (int i = k + 1; i < d->ndim; i++) {
        if ((int64_t)d->chunk[i] != d->shape[i]) return false;
        inner *= d->shape[i];
    }
    c->span = d->shape[k] * inner;
    c->cap = (int64_t)d->chunk[k] * inner;
    c->cuts = d->shape[k] ? (d->shape[k] + (int64_t)d->chunk[k] - 1) / (int64_t)d->chunk[k] : 0;
    c->chunks = d->total > 0 ? h5_cut_of(c, d->total - 1) + 1 : 0;
    return true;
}

/* What the arguments describe. Name and id are not set. */
static Data describe(H5Type type, int ndim, const int64_t *shape) {
    CHECK(ndim >= 1 && ndim <= H5_MAX_DIM, "an array of %d dimensions", ndim);
    Data d = {.type = type, .size = types[type].size, .ndim = ndim, .total = 1};
    for (int i = 0; i < ndim; i++) {
        CHECK(shape[i] >= 0, "dimension %d is %lld", i, (long long)shape[i]);
        d.shape[i] = shape[i];
        d.total *= shape[i];
    }
    if (d.total > 0) {
        choose_chunk(&d);
        CHECK(measure_chunks(&d), "chunks are no contiguous pieces");
    }
    return d;
}

H5Cut h5_cut(H5Type type, int ndim, const int64_t *shape) {
    return describe(type, ndim, shape).cut;
}

/* HDF5 names a chunk by the indices of its first element. */
static void chunk_place(const Data *d, int64_t k, hsize_t place[H5_MAX_DIM]) {
    memset(place, 0, sizeof(hsize_t) * H5_MAX_DIM);
    place[d->cut_dim] = (hsize_t)(k % d->cut.cuts) * d->chunk[d->cut_dim];
    int64_t outer = k / d->cut.cuts;
    for (int i = d->cut_dim - 1; i >= 0; i--) {
        place[i] = (hsize_t)(outer % d->shape[i]);
        outer /= d->shape[i];
    }
}

static size_t chunk_bytes(const Data *d) {
    return (size_t)d->cut.cap * d->size;
}

/* --- writing --------------------------------------------------------------------------------- */
static int put_chunk(H5 *h, const Data *d, int64_t k, const void *packed, size_t bytes) {
    hsize_t place[H5_MAX_DIM];
    chunk_place(d, k, place);
    be_quiet();
    if (H5Dwrite_chunk(d->id, H5P_DEFAULT, 0, place, bytes, packed) < 0)
        return hdf5_error(h, d->name, "write a chunk");
    return 0;
}

/* Chunks [first, first+n), whose values begin at `data`. */
static int write_chunks(H5 *h, const Data *d, int64_t first, int64_t n, const char *data) {
    Failure f = {0};
    int64_t base = h5_cut_start(&d->cut, first);
#pragma omp parallel if (n > 1)
    {
        Chunker *c = chunker_new(chunk_bytes(d), d->size, d->codec);
        char *packed = xmalloc(chunk_bound(chunk_bytes(d)));
#pragma omp for ordered schedule(dynamic, 1)
        for (int64_t k = first; k < first + n; k++) {
            const char *why = "";
            size_t bytes = 0;
            if (!failed(&f))
                bytes = chunker_pack(c, data + (size_t)(h5_cut_start(&d->cut, k) - base) * d->size,
                                     (size_t)h5_cut_count(&d->cut, k) * d->size, packed, &why);
#pragma omp ordered
            if (!failed(&f))
                fail(&f, bytes
                             ? put_chunk(h, d, k, packed, bytes)
                             : error_set(ERR_INTERNAL, "%s: %s: zstd: %s", h->path, d->name, why));
        }
        free(packed);
        chunker_free(&c);
    }
    return handed_up(&f);
}

/* Creates the dataset that `d` describes; a growing one gets an unlimited first dimension. */
static int create_data(H5 *h, Data *d, H5Codec codec, bool growing) {
    forget(h);
    TRY(make_groups(h, d->name));
    hsize_t dims[H5_MAX_DIM], most[H5_MAX_DIM];
    for (int i = 0; i < d->ndim; i++) dims[i] = most[i] = (hsize_t)d->shape[i];
    if (growing) most[0] = H5S_UNLIMITED;
    const unsigned level = CHUNK_ZSTD_LEVEL;
    hid_t space = H5Screate_simple(d->ndim, dims, most);
    hid_t create = creation_list(H5P_DATASET_CREATE);
    bool ok = space >= 0;
    if (d->total > 0 || growing) { /* HDF5 has no chunks in an array without elements */
        ok = ok && H5Pset_chunk(create, d->ndim, d->chunk) >= 0;
        if (codec == H5_RAW) ok = ok && H5Pset_fletcher32(create) >= 0;
        if (codec == H5_SHUFFLE_ZSTD) ok = ok && H5Pset_shuffle(create) >= 0;
        if (codec != H5_RAW) ok = ok && H5Pset_filter(create, H5_ZSTD_FILTER, 0, 1, &level) >= 0;
    }
    if (ok)
        d->id = H5Dcreate2(h->file, d->name, hdf5_type(d->type), space, H5P_DEFAULT, create,
                           H5P_DEFAULT);
    int rc = !ok || d->id < 0 ? hdf5_error(h, d->name, "create the dataset") : 0;
    if (rc < 0) d->id = 0;
    H5Pclose(create);
    if (space >= 0) H5Sclose(space);
    d->ours = true;
    d->codec = codec;
    return rc;
}

/* Frees what `d` holds; a failed close of the dataset is an error where rc has none yet. */
static int close_data(H5 *h, Data *d, int rc) {
    if (d->id > 0 && H5Dclose(d->id) < 0 && rc == 0) rc = hdf5_error(h, d->name, "close");
    free(d->name);
    *d = (Data){0};
    return rc;
}

int h5_write(H5 *h, const char *name, H5Type type, int ndim, const int64_t *shape, const void *data,
             H5Codec codec) {
    IN_TURN;
    CHECK(h->writing, "%s is open for reading", h->path);
    Data d = describe(type, ndim, shape);
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
    **out = (H5Data){h, describe(type, ndim, shape)};
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

/* --- reading --------------------------------------------------------------------------------- */
/* How the dataset is laid out in the file. */
static int look_at_chunks(H5 *h, Data *d) {
    hid_t create = H5Dget_create_plist(d->id);
    if (create < 0) return hdf5_error(h, d->name, "read the layout");
    bool ours = H5Pget_layout(create) == H5D_CHUNKED && d->total > 0 &&
                H5Pget_chunk(create, d->ndim, d->chunk) == d->ndim && measure_chunks(d);
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
        return hdf5_error(h, d->name, "open the dataset");
    }
    hid_t space = H5Dget_space(d->id), type = H5Dget_type(d->id);
    hsize_t dims[H5S_MAX_RANK] = {0};
    d->ndim = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    int rc = 0;
    if (type < 0 || d->ndim < 0 || H5Sget_simple_extent_dims(space, dims, NULL) < 0)
        rc = hdf5_error(h, d->name, "read the shape");
    int t = 0;
    while (rc == 0 && t < NTYPES && H5Tequal(type, hdf5_type((H5Type)t)) <= 0) t++;
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    if (rc < 0) return rc;
    if (t == NTYPES || d->ndim < 1 || d->ndim > H5_MAX_DIM)
        return error_set(ERR_DATA,
                         "%s: %s: an array of %d dimensions%s, which Rhetor does not "
                         "write; is this file from another program?",
                         h->path, d->name, d->ndim, t == NTYPES ? " of an unknown type" : "");
    d->type = (H5Type)t;
    d->size = types[t].size;
    d->total = 1;
    for (int i = 0; i < d->ndim; i++) {
        d->shape[i] = (int64_t)dims[i];
        d->total *= d->shape[i];
    }
    return look_at_chunks(h, d);
}

static int open_data(H5 *h, const char *name, Data **out) {
    if (!h->last.name || strcmp(h->last.name, name) != 0) {
        forget(h);
        if (!h5_exists(h, name)) return missing(h, name);
        h->last.name = xstrdup(name);
        int rc = look_at(h, &h->last);
        if (rc < 0) {
            forget(h);
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
    chunk_place(d, k, place);
    be_quiet();
    if (H5Dget_chunk_storage_size(d->id, place, &bytes) < 0)
        return hdf5_error(h, d->name, "find a chunk");
    void *room = chunker_room(c, (size_t)bytes);
    if (bytes == 0 || !room)
        return error_set(ERR_DATA,
                         "%s: %s: chunk %lld has %llu bytes: damaged or incomplete file; "
                         "use another copy",
                         h->path, d->name, (long long)k, (unsigned long long)bytes);
    if (H5Dread_chunk(d->id, H5P_DEFAULT, place, &skipped, room) < 0)
        return hdf5_error(h, d->name, "read a chunk");
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
        h->chunker = chunker_new(chunk_bytes(d), d->size, d->codec);
        h->chunk = xmalloc(chunk_bytes(d));
    }
    if (h->unpacked != k) {
        size_t packed = 0;
        h->unpacked = -1;
        TRY(fetch(h, d, k, h->chunker, &packed));
        TRY(unpack(h, d, k, h->chunker, packed, 0, chunk_bytes(d), h->chunk));
        h->unpacked = k;
    }
    memcpy(out, h->chunk + (size_t)(offset - h5_cut_start(&d->cut, k)) * d->size,
           (size_t)n * d->size);
    return 0;
}

/* Elements [offset, offset+n) of the flattened array, whose chunks are ours. */
static int read_chunks(H5 *h, const Data *d, int64_t offset, int64_t n, char *out) {
    int64_t first = h5_cut_of(&d->cut, offset), last = h5_cut_of(&d->cut, offset + n - 1);
    if (first == last) return read_piece(h, d, first, offset, n, out);
    Failure f = {0};
#pragma omp parallel
    {
        Chunker *c = chunker_new(chunk_bytes(d), d->size, d->codec);
#pragma omp for ordered schedule(dynamic, 1)
        for (int64_t k = first; k <= last; k++) {
            size_t packed = 0;
#pragma omp ordered
            if (!failed(&f)) fail(&f, fetch(h, d, k, c, &packed));
            if (failed(&f)) continue;
            int64_t start = h5_cut_start(&d->cut, k), end = start + h5_cut_count(&d->cut, k);
            int64_t from = start < offset ? offset : start;
            int64_t to = end > offset + n ? offset + n : end;
            fail(&f,
                 unpack(h, d, k, c, packed, (size_t)(from - start) * d->size,
                        (size_t)(to - from) * d->size, out + (size_t)(from - offset) * d->size));
        }
        chunker_free(&c);
    }
    return handed_up(&f);
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
    Failure f = {0};
#pragma omp parallel if (n > 1)
    {
        Chunker *c = chunker_new(chunk_bytes(d), d->size, d->codec);
        char *values = xmalloc(chunk_bytes(d));
#pragma omp for ordered schedule(dynamic, 1)
        for (int64_t k = first; k < first + n; k++) {
            size_t packed = 0;
#pragma omp ordered
            if (!failed(&f)) fail(&f, fetch(h, d, k, c, &packed));
            if (failed(&f)) continue;
            fail(&f, unpack(h, d, k, c, packed, 0, chunk_bytes(d), values));
            hashes[k - first] = hash_bytes(values, (size_t)h5_cut_count(&d->cut, k) * d->size);
        }
        free(values);
        chunker_free(&c);
    }
    return handed_up(&f);
}

static int read_data(H5 *h, const Data *d, int64_t offset, int64_t n, void *out) {
    if (n == 0) return 0;
    if (d->ours) return read_chunks(h, d, offset, n, out);
    if (n < d->total && d->ndim > 1) { /* a part of what we did not cut: no need to be clever */
        char *all = xmalloc((size_t)d->total * d->size);
        int rc = read_data(h, d, 0, d->total, all);
        if (rc == 0) memcpy(out, all + (size_t)offset * d->size, (size_t)n * d->size);
        free(all);
        return rc;
    }
    hid_t file = H5S_ALL, memory = H5S_ALL;
    hsize_t from = (hsize_t)offset, count = (hsize_t)n;
    int rc = 0;
    if (n < d->total) {
        file = H5Dget_space(d->id);
        memory = H5Screate_simple(1, &count, NULL);
        if (file < 0 || memory < 0 ||
            H5Sselect_hyperslab(file, H5S_SELECT_SET, &from, NULL, &count, NULL) < 0)
            rc = hdf5_error(h, d->name, "select a range");
    }
    if (rc == 0 && H5Dread(d->id, hdf5_type(d->type), memory, file, H5P_DEFAULT, out) < 0)
        rc = hdf5_error(h, d->name, "read");
    if (file > 0) H5Sclose(file);
    if (memory > 0) H5Sclose(memory);
    return rc;
}

static int check_type(const H5 *h, const Data *d, H5Type type) {
    if (d->type == type) return 0;
    return error_set(ERR_DATA,
                     "%s: %s holds %s, expected %s; the file is of another kind or version",
                     h->path, d->name, types[d->type].word, types[type].word);
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

/* --- growing datasets ------------------------------------------------------------------------ */
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
    a->d = (Data){.name = xstrdup(name), .type = type, .size = types[type].size, .ndim = 1};
    a->d.chunk[0] = (hsize_t)chunk;
    measure_chunks(&a->d);
    int rc = create_data(h, &a->d, codec, true);
    if (rc < 0) {
        close_data(h, &a->d, rc);
        free(a);
        return rc;
    }
    a->slots = 16; /* work for the threads */
    a->room = a->slots;
    a->buffer = xmalloc((size_t)a->slots * chunk_bytes(&a->d));
    a->hashes = xmalloc(sizeof *a->hashes * (size_t)a->room);
    *out = a;
    return 0;
}

static void hash_held(const H5Append *a) {
    for (int64_t i = 0; i * a->d.cut.cap < a->held; i++) {
        int64_t left = a->held - i * a->d.cut.cap, n = left < a->d.cut.cap ? left : a->d.cut.cap;
        a->hashes[a->nhashes + i] =
            hash_bytes(a->buffer + (size_t)i * chunk_bytes(&a->d), (size_t)n * a->d.size);
    }
}

static int write_held(H5Append *a) {
    if (a->held == 0) return 0;
    Data *d = &a->d;
    int64_t before = d->total, chunks = (a->held + d->cut.cap - 1) / d->cut.cap;
    hash_held(a);
    forget(a->h);
    d->total = d->shape[0] = before + a->held;
    measure_chunks(d);
    hsize_t extent = (hsize_t)d->total;
    if (H5Dset_extent(d->id, &extent) < 0) return hdf5_error(a->h, d->name, "extend");
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

/* --- attributes and texts -------------------------------------------------------------------- */
static int write_attribute(H5 *h, const char *object, const char *name, hid_t type,
                           const void *value) {
    CHECK(h->writing, "%s is open for reading", h->path);
    hid_t space = H5Screate(H5S_SCALAR), attribute = -1;
    hid_t on = H5Oopen(h->file, object, H5P_DEFAULT);
    bool ok = on >= 0 && space >= 0;
    if (ok && H5Aexists(on, name) > 0) { /* a value of the same type takes the old one's place */
        attribute = H5Aopen(on, name, H5P_DEFAULT);
        hid_t old = H5Aget_type(attribute);
        ok = attribute >= 0 && old >= 0;
        if (ok && H5Tequal(old, type) <= 0) {
            ok = H5Aclose(attribute) >= 0 && H5Adelete(on, name) >= 0;
            attribute = -1;
        }
        if (old >= 0) H5Tclose(old);
    }
    if (ok && attribute < 0)
        attribute = H5Acreate2(on, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    ok = ok && attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    int rc = ok ? 0 : hdf5_error(h, object, "write an attribute");
    if (attribute >= 0 && H5Aclose(attribute) < 0 && rc == 0)
        rc = hdf5_error(h, object, "close an attribute");
    if (space >= 0) H5Sclose(space);
    if (on >= 0 && H5Oclose(on) < 0 && rc == 0) rc = hdf5_error(h, object, "close");
    return rc;
}

static hid_t string_type(size_t bytes) {
    hid_t t = H5Tcopy(H5T_C_S1);
    CHECK(t >= 0 && H5Tset_size(t, bytes) >= 0 && H5Tset_cset(t, H5T_CSET_UTF8) >= 0 &&
              H5Tset_strpad(t, H5T_STR_NULLTERM) >= 0,
          "HDF5 string type of %zu bytes", bytes);
    return t;
}

static char *long_name(const char *name) {
    return xasprintf("/meta/%s", name);
}

int h5_set_str(H5 *h, const char *object, const char *name, const char *value) {
    IN_TURN;
    size_t n = strlen(value);
    if (n > LONGEST_ATTRIBUTE) {
        char *path = long_name(name);
        int rc = h5_write_text(h, path, value, n);
        free(path);
        return rc;
    }
    hid_t type = string_type(n + 1);
    int rc = write_attribute(h, object, name, type, value);
    H5Tclose(type);
    return rc;
}

int h5_set_i64(H5 *h, const char *object, const char *name, int64_t value) {
    IN_TURN;
    return write_attribute(h, object, name, H5T_STD_I64LE, &value);
}

static int open_attribute(H5 *h, const char *object, const char *name, hid_t *out) {
    if (!h5_exists(h, object)) return missing(h, object);
    htri_t there = H5Aexists_by_name(h->file, object, name, H5P_DEFAULT);
    if (there < 0) return hdf5_error(h, object, "read the attributes");
    if (there == 0)
        return error_set(ERR_DATA,
                         "%s: %s has no attribute \"%s\"; the file is of another kind or "
                         "version",
                         h->path, object, name);
    *out = H5Aopen_by_name(h->file, object, name, H5P_DEFAULT, H5P_DEFAULT);
    return *out < 0 ? hdf5_error(h, object, "open an attribute") : 0;
}

static int wrong_attribute(const H5 *h, const char *object, const char *name,
                           const char *expected) {
    return error_set(ERR_DATA,
                     "%s: attribute \"%s\" of %s is not %s; the file is of another kind or "
                     "version",
                     h->path, name, object, expected);
}

int h5_get_i64(H5 *h, const char *object, const char *name, int64_t *value) {
    IN_TURN;
    hid_t attribute = -1;
    TRY(open_attribute(h, object, name, &attribute));
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    int rc = 0;
    if (type < 0 || space < 0 || H5Tequal(type, H5T_STD_I64LE) <= 0 ||
        H5Sget_simple_extent_npoints(space) != 1)
        rc = wrong_attribute(h, object, name, "a 64-bit integer");
    else if (H5Aread(attribute, H5T_STD_I64LE, value) < 0)
        rc = hdf5_error(h, object, "read an attribute");
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    H5Aclose(attribute);
    return rc;
}

int h5_get_str(H5 *h, const char *object, const char *name, char **value) {
    IN_TURN;
    *value = NULL;
    char *path = long_name(name);
    if (h5_exists(h, object) && H5Aexists_by_name(h->file, object, name, H5P_DEFAULT) == 0 &&
        h5_exists(h, path)) {
        size_t n;
        int rc = h5_read_text(h, path, value, &n);
        free(path);
        return rc;
    }
    free(path);
    hid_t attribute = -1;
    TRY(open_attribute(h, object, name, &attribute));
    hid_t type = H5Aget_type(attribute);
    size_t n = type < 0 ? 0 : H5Tget_size(type);
    int rc = 0;
    if (n == 0 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 ||
        n > LONGEST_ATTRIBUTE + 1)
        rc = wrong_attribute(h, object, name, "a string of fixed length");
    else {
        hid_t memory = string_type(n + 1);
        char *text = xcalloc(n + 1, 1);
        if (H5Aread(attribute, memory, text) < 0) {
            rc = hdf5_error(h, object, "read an attribute");
            free(text);
        } else
            *value = text;
        H5Tclose(memory);
    }
    if (type >= 0) H5Tclose(type);
    H5Aclose(attribute);
    return rc;
}

int h5_write_text(H5 *h, const char *name, const char *text, size_t len) {
    IN_TURN;
    int64_t n = (int64_t)len;
    return h5_write(h, name, H5_U8, 1, &n, text, H5_ZSTD);
}

int h5_read_text(H5 *h, const char *name, char **text, size_t *len) {
    IN_TURN;
    *text = NULL;
    Data *d = NULL;
    TRY(open_data(h, name, &d));
    size_t n = (size_t)d->total;
    char *t = xcalloc(n + 1, 1);
    int rc = h5_read(h, name, H5_U8, t, d->total);
    if (rc < 0) {
        free(t);
        return rc;
    }
    *text = t;
    *len = n;
    return 0;
}

/* --- visiting -------------------------------------------------------------------------------- */
typedef struct Names {
    const char *group;
    char **v;
    size_t n;
} Names;

static herr_t collect(hid_t at, const char *name, const H5O_info_t *info, void *ctx) {
    Names *names = ctx;
    if (info->type != H5O_TYPE_DATASET) return 0;
    names->v = xrealloc(names->v, sizeof *names->v * (names->n + 1));
    names->v[names->n++] =
        strcmp(name, ".") == 0 ? xstrdup(names->group) : xasprintf("%s/%s", names->group, name);
    return 0;
}

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int h5_each(H5 *h, const char *group, H5Visit *fn, void *ctx) {
    IN_TURN;
    if (!h5_exists(h, group)) return missing(h, group);
    char *full = xasprintf("%s%s", *group == '/' ? "" : "/", group);
    size_t end = strlen(full);
    while (end > 0 && full[end - 1] == '/') full[--end] = '\0';
    Names names = {.group = full};
    int rc = 0;
    if (H5Ovisit_by_name2(h->file, end ? full : "/", H5_INDEX_NAME, H5_ITER_NATIVE, collect, &names,
                          H5O_INFO_BASIC, H5P_DEFAULT) < 0)
        rc = hdf5_error(h, group, "list the datasets");
    if (names.n) qsort(names.v, names.n, sizeof *names.v, compare);
    for (size_t i = 0; i < names.n; i++) {
        H5Type type = H5_U8;
        int ndim = 0;
        int64_t shape[H5_MAX_DIM];
        if (rc >= 0) rc = h5_shape(h, names.v[i], &type, &ndim, shape);
        if (rc >= 0) rc = fn(ctx, names.v[i], type, ndim, shape);
        free(names.v[i]);
    }
    free(names.v);
    free(full);
    return rc < 0 ? rc : 0;
}
