/* safetensors.h: named tensors in a file, as Hugging Face keeps models: 8 bytes with the length of
 * a JSON header {name: {dtype, shape, data_offsets}}, the header, then the data, row-major and
 * little-endian, without gaps. Nothing in a header is believed before it agrees with the others and
 * with the size of the file, and only the header is held in memory. Not collective. */
#ifndef CHECKPOINTS_EXCHANGE_SAFETENSORS_H
#define CHECKPOINTS_EXCHANGE_SAFETENSORS_H

#include <stdint.h>

enum { ST_MAX_DIM = 8 };

/* name, bytes of an element, may be read as numbers */
#define ST_TYPES(X)  \
    X(F64, 8, 1)     \
    X(F32, 4, 1)     \
    X(F16, 2, 1)     \
    X(BF16, 2, 1)    \
    X(I64, 8, 0)     \
    X(I32, 4, 1)     \
    X(I16, 2, 0)     \
    X(I8, 1, 0)      \
    X(U64, 8, 0)     \
    X(U32, 4, 0)     \
    X(U16, 2, 0)     \
    X(U8, 1, 0)      \
    X(BOOL, 1, 0)    \
    X(F8_E4M3, 1, 0) \
    X(F8_E5M2, 1, 0)
typedef enum StType {
#define X(name, bytes, numbers) ST_##name,
    ST_TYPES(X)
#undef X
        ST_NTYPES
} StType;

typedef struct StTensor {
    char *name;
    StType type;
    int ndim;                     /* 0: a scalar */
    int64_t shape[ST_MAX_DIM], n; /* n: elements */
    int64_t offset;               /* of its first byte in the file */
} StTensor;

typedef struct SafeTensors SafeTensors;

/* Reads and checks the header: ERR_DATA (malformed, truncated, overlapping, ...), ERR_IO. */
int safetensors_open(SafeTensors **out, const char *path);
void safetensors_close(SafeTensors **s);
const char *safetensors_path(const SafeTensors *s);
const StTensor *safetensors_list(const SafeTensors *s, int *n); /* sorted by name */
const StTensor *safetensors_find(const SafeTensors *s,
                                 const char *name); /* NULL if there is none */
/* Elements [from, from + n) of the flattened tensor; F32, F16 and BF16 are exact. ERR_DATA for a
 * type that holds no numbers of a model. */
int safetensors_read(const SafeTensors *s, const StTensor *t, int64_t from, int64_t n, double *out);

/* A file of F32 tensors: name, ndim and shape of all of them first, then their values in that
 * order, in pieces of any size. The file has its name only after safetensors_commit. Equal content gives
 * equal bytes. `t` and the names are borrowed until then. */
typedef struct StWriter StWriter;
int safetensors_create(StWriter **out, const char *path, const StTensor *t, int n);
int safetensors_write(StWriter *w, const float *x, int64_t n);
int safetensors_commit(StWriter **w);   /* durable; frees w, also on failure */
void safetensors_abandon(StWriter **w); /* removes what was written */

#endif
