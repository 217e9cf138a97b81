/* h5.h: the only way to HDF5 (base/h5*.c are the only files that include hdf5.h). Chunked datasets
 * compressed with zstd by our own threads and handed over with H5Dwrite_chunk, so any HDF5 reader
 * with filter 32015 reads them. Format V110, no HDF5 file locks, H5dont_atexit first. Every return
 * value is checked; errors are ERR_IO (writing) and ERR_DATA (reading damaged or wrong content)
 * with path and dataset named. Threads may call at any time and wait for
 * their turn. Not collective. */
#ifndef BASE_H5_H
#define BASE_H5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct H5 H5;
typedef enum H5Type { H5_U8, H5_U16, H5_U32, H5_I32, H5_I64, H5_F32, H5_F64 } H5Type;
typedef enum H5Codec { H5_RAW, H5_ZSTD, H5_SHUFFLE_ZSTD } H5Codec;
enum { H5_MAX_DIM = 4 };

size_t h5_type_size(H5Type t);

int h5_create(H5 **out, const char *path); /* truncates */
int h5_open(H5 **out, const char *path);   /* read-only */
int h5_close(H5 **h); /* flushes; its error is the disk's: a write is not done before it succeeds */

/* A whole dataset /a/b/c (groups are made on the way). Compressed chunks of at most 1 MiB, zstd
 * level 1 with frame checksum, in OpenMP threads; H5_RAW chunks have HDF5's fletcher32. A dataset
 * of that name already there is ERR_IO. */
int h5_write(H5 *h, const char *name, H5Type type, int ndim, const int64_t *shape, const void *data,
             H5Codec codec);
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
/* XXH3 of each chunk's uncompressed bytes in order, as collected by the appender; read side
 * below.*/
const uint64_t *h5_append_hashes(const H5Append *a, int64_t *n); /* valid until h5_append_end */

/* Attributes of an object ("/" for the file). Strings are UTF-8 of any length (a long one is stored
 * as a dataset of bytes under /meta/<name> when it exceeds the 64 KiB attribute limit: use
 * h5_write_text for texts that may be long). */
int h5_set_str(H5 *h, const char *object, const char *name, const char *value);
int h5_get_str(H5 *h, const char *object, const char *name, char **value); /* malloc'd */
int h5_set_i64(H5 *h, const char *object, const char *name, int64_t value);
int h5_get_i64(H5 *h, const char *object, const char *name, int64_t *value);
int h5_write_text(H5 *h, const char *name, const char *text, size_t len); /* a u8 dataset */
int h5_read_text(H5 *h, const char *name, char **text, size_t *len);      /* malloc'd, NUL */

/* Calls fn for every dataset below `group`, names full ("/params/h.0.attn.w"), sorted. Stops at
 * the first negative return and hands it on. */
typedef int H5Visit(void *ctx, const char *name, H5Type type, int ndim, const int64_t *shape);
int h5_each(H5 *h, const char *group, H5Visit *fn, void *ctx);

#endif
