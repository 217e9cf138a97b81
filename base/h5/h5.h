/* h5.h: the only way to HDF5 (base/h5*.c are the only files that include hdf5.h). Chunked datasets
 * compressed with zstd by our own threads and handed over with H5Dwrite_chunk, so any HDF5 reader
 * with filter 32015 reads them. Format V110, no HDF5 file locks, H5dont_atexit first. Every return
 * value is checked; errors are ERR_IO (writing) and ERR_DATA (reading damaged or wrong content)
 * with path and dataset named. Threads may call at any time and wait for their turn. Not
 * collective. */
#ifndef BASE_H5_H5_H
#define BASE_H5_H5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/h5/chunk.h"

typedef struct H5 H5;
typedef enum H5Type { H5_U8, H5_U16, H5_U32, H5_I32, H5_I64, H5_F32, H5_F64 } H5Type;
enum { H5_MAX_DIM = 4 };

size_t h5_type_size(H5Type t);
const char *h5_type_word(H5Type t); /* "f32" */

int h5_create(H5 **out, const char *path); /* truncates */
/* Read-only. A file that refers to what lies outside it (external storage, virtual datasets, soft,
 * external and user-defined links) or holds a committed datatype is refused: ERR_DATA names it. */
int h5_open(H5 **out, const char *path);
bool h5_is(const char *path); /* does the file begin as HDF5 files do? */
int h5_close(H5 **h); /* flushes; its error is the disk's: a write is not done before it succeeds */

/* How an array is cut: chunk k holds the elements [start, start + count) of the flattened
 * (row-major) array, one contiguous piece of at most 1 MiB. `span` elements lie between two outer
 * indices, each span is cut into `cuts` chunks of `cap` elements, the last one shorter. An array
 * without elements has no chunks. */
typedef struct H5Cut {
    int64_t chunks, span, cap, cuts;
} H5Cut;
H5Cut h5_cut(H5Type type, int ndim, const int64_t *shape);
static inline int64_t h5_cut_of(const H5Cut *c, int64_t element) {
    return element / c->span * c->cuts + element % c->span / c->cap;
}
static inline int64_t h5_cut_start(const H5Cut *c, int64_t k) {
    return k / c->cuts * c->span + k % c->cuts * c->cap;
}
static inline int64_t h5_cut_count(const H5Cut *c, int64_t k) {
    int64_t left = c->span - k % c->cuts * c->cap;
    return left < c->cap ? left : c->cap;
}

/* A whole dataset /a/b/c (groups are made on the way). Compressed chunks (zstd level 1 with frame
 * checksum) or raw ones (HDF5's fletcher32), made in OpenMP threads. A dataset of that name already
 * there is ERR_IO. */
int h5_write(H5 *h, const char *name, H5Type type, int ndim, const int64_t *shape, const void *data,
             H5Codec codec);
/* The same for chunks that others have packed (chunker_pack, with the cap of h5_cut): each chunk is
 * handed over once, in any order; equal orders give equal files. Many may be open at a time. */
typedef struct H5Data H5Data;
int h5_data_create(H5Data **out, H5 *h, const char *name, H5Type type, int ndim,
                   const int64_t *shape, H5Codec codec);
int h5_data_put(H5Data *d, int64_t k, const void *packed, size_t bytes);
int h5_data_close(H5Data **d);
/* Asks the kernel to begin writing to the disk what has been handed over. */
void h5_write_behind(H5 *h);

/* XXH3 of the values (without padding) of chunks [first, first+n), unpacked in threads. */
int h5_chunk_hashes(H5 *h, const char *name, int64_t first, int64_t n, uint64_t *hashes);
int h5_hash(H5 *h, const char *name, uint64_t *hash); /* XXH3 of the hashes of all its chunks */

/* Reads a whole dataset into out, which holds n elements of `type`; another type, size or a
 * missing dataset is ERR_DATA. */
int h5_read(H5 *h, const char *name, H5Type type, void *out, int64_t n);
/* Elements [offset, offset+n) of the flattened (row-major) dataset; the chunks they lie in are
 * read. */
int h5_read_range(H5 *h, const char *name, H5Type type, int64_t offset, int64_t n, void *out);
bool h5_exists(H5 *h, const char *name);
int h5_shape(H5 *h, const char *name, H5Type *type, int *ndim, int64_t shape[H5_MAX_DIM]);

/* Growing one-dimensional dataset, for corpora that do not fit in memory: values are collected into
 * chunks of `chunk` elements, compressed in threads. h5_append_end writes the last one. */
typedef struct H5Append H5Append;
int h5_append_begin(H5Append **out, H5 *h, const char *name, H5Type type, int64_t chunk,
                    H5Codec codec);
int h5_append(H5Append *a, const void *data, int64_t n);
int h5_append_end(H5Append **a, int64_t *total);
/* XXH3 of each chunk's uncompressed bytes, in order, as the appender collected them. */
const uint64_t *h5_append_hashes(const H5Append *a, int64_t *n); /* valid until h5_append_end */

/* Attributes of an object ("/" for the file). Strings are UTF-8, short ones. */
int h5_set_str(H5 *h, const char *object, const char *name, const char *value);
int h5_get_str(H5 *h, const char *object, const char *name, char **value); /* malloc'd */
int h5_set_i64(H5 *h, const char *object, const char *name, int64_t value);
int h5_get_i64(H5 *h, const char *object, const char *name, int64_t *value);
/* A text of any length: a dataset of one string of fixed length, uncompressed, so that any tool shows
 * it without our filter. For h5_shape and h5_read it is an array of its bytes and a NUL. */
int h5_write_text(H5 *h, const char *name, const char *text);
int h5_read_text(H5 *h, const char *name, char **text, size_t *len); /* malloc'd, NUL */

/* Calls fn for every dataset below `group`, names full ("/params/h.0.attn.w"), sorted. Stops at
 * the first negative return and hands it on. */
typedef int H5Visit(void *ctx, const char *name, H5Type type, int ndim, const int64_t *shape);
int h5_each(H5 *h, const char *group, H5Visit *fn, void *ctx);

#endif
