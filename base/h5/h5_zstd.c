/* h5_zstd.c: zstd as HDF5's filter 32015, as HDF5 sees it. h5_write.c and h5_read.c do without, but
 * HDF5 needs it to create datasets, and to read files whose chunks are cut in another way than
 * ours. With RHETOR_PLUGIN this is a plugin (make plugin), which lets any program with an HDF5 of
 * its own read our files, Python's h5py say: it must not call ours, so its memory is malloc's, as
 * HDF5's is. */
#include "base/h5/h5_zstd.h"

#include "base/h5/chunk.h"

#include <hdf5.h>
#include <stdlib.h>
#include <zstd.h>

#ifdef RHETOR_PLUGIN
#include <H5PLextern.h>
#define allocate(n) malloc(n)
#define release(p)  free(p)
#else
#define allocate(n) H5allocate_memory(n, false)
#define release(p)  H5free_memory(p)
#endif

static size_t filter(unsigned flags, size_t nparams, const unsigned params[], size_t used,
                     size_t *room, void **buffer) {
    bool decode = flags & H5Z_FLAG_REVERSE;
    size_t n = decode ? ZSTD_getFrameContentSize(*buffer, used) : chunk_bound(used);
    /* HDF5 chunks are smaller than 4 GiB: more is damage. zstd's two error codes are larger. */
    void *out = n > 0 && n < 1ull << 32 ? allocate(n) : NULL;
    if (!out) return 0;
    size_t got =
        decode ? ZSTD_decompress(out, n, *buffer, used)
               : chunk_frame(out, n, *buffer, used, nparams ? (int)params[0] : CHUNK_ZSTD_LEVEL);
    if (!got || (decode && got != n)) {
        release(out);
        return 0;
    }
    release(*buffer);
    *buffer = out;
    *room = n;
    return got;
}

static const H5Z_class2_t zstd = {H5Z_CLASS_T_VERS, H5_ZSTD_FILTER, 1,    1,
                                  "zstd",           NULL,           NULL, filter};

#ifdef RHETOR_PLUGIN
__attribute__((visibility("default"))) H5PL_type_t H5PLget_plugin_type(void) {
    return H5PL_TYPE_FILTER;
}
__attribute__((visibility("default"))) const void *H5PLget_plugin_info(void) { return &zstd; }
#else
int h5_zstd_register(void) { return H5Zregister(&zstd); }
#endif
