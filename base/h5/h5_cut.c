/* h5_cut.c: the types of elements, and how an array is cut into chunks.
 *
 * Chunks are cut so that each is one contiguous piece of the array in memory: in a [A,B,C] array
 * the chunk is [1,1,c], [1,b,C] or [a,B,C], whichever comes nearest to CHUNK_BYTES. */
#include "base/error.h"
#include "base/h5/h5_impl.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "chunks are written as they lie in memory");

enum { CHUNK_BYTES = 1 << 20 };

static const struct {
    const char *word;
    size_t size;
} types[] = {
    [H5_U8] = {"u8", 1},   [H5_U16] = {"u16", 2}, [H5_U32] = {"u32", 4}, [H5_I32] = {"i32", 4},
    [H5_I64] = {"i64", 8}, [H5_F32] = {"f32", 4}, [H5_F64] = {"f64", 8}};
_Static_assert(sizeof types / sizeof types[0] == H5_NTYPES, "one line a type");

hid_t h5_file_type(H5Type t) {
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

hid_t h5_string_type(size_t bytes) {
    hid_t t = H5Tcopy(H5T_C_S1);
    CHECK(t >= 0 && H5Tset_size(t, bytes) >= 0 && H5Tset_cset(t, H5T_CSET_UTF8) >= 0 &&
              H5Tset_strpad(t, H5T_STR_NULLTERM) >= 0,
          "HDF5 string type of %zu bytes", bytes);
    return t;
}

size_t h5_type_size(H5Type t) { return types[t].size; }

const char *h5_type_word(H5Type t) { return types[t].word; }

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

bool h5_measure_chunks(Data *d) {
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

Data h5_describe(H5Type type, int ndim, const int64_t *shape) {
    CHECK(ndim >= 1 && ndim <= H5_MAX_DIM, "an array of %d dimensions", ndim);
    Data d = {.type = type, .size = types[type].size, .ndim = ndim, .total = 1};
    for (int i = 0; i < ndim; i++) {
        CHECK(shape[i] >= 0, "dimension %d is %lld", i, (long long)shape[i]);
        d.shape[i] = shape[i];
        d.total *= shape[i];
    }
    if (d.total > 0) {
        choose_chunk(&d);
        CHECK(h5_measure_chunks(&d), "chunks are no contiguous pieces");
    }
    return d;
}

H5Cut h5_cut(H5Type type, int ndim, const int64_t *shape) {
    return h5_describe(type, ndim, shape).cut;
}

void h5_chunk_place(const Data *d, int64_t k, hsize_t place[H5_MAX_DIM]) {
    memset(place, 0, sizeof(hsize_t) * H5_MAX_DIM);
    place[d->cut_dim] = (hsize_t)(k % d->cut.cuts) * d->chunk[d->cut_dim];
    int64_t outer = k / d->cut.cuts;
    for (int i = d->cut_dim - 1; i >= 0; i--) {
        place[i] = (hsize_t)(outer % d->shape[i]);
        outer /= d->shape[i];
    }
}
