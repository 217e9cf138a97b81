/* gguf.h: files of models as llama.cpp keeps them (GGUF, versions 2 and 3): metadata, a table of
 * tensors, their data. Little-endian:
 *
 *     "GGUF" u32 version, u64 tensors, u64 pairs
 *     pairs:   string key, u32 type, value            (a string: u64 length, bytes)
 *     tensors: string name, u32 dimensions, u64 each (the fastest first), u32 type, u64 offset
 *     data, from the next multiple of general.alignment (32) on; offsets are counted from there
 *
 * Nothing is believed before it agrees with the rest and with the size of the file, and only what
 * comes before the data is held in memory. Not collective. */
#ifndef CHECKPOINTS_EXCHANGE_GGUF_H
#define CHECKPOINTS_EXCHANGE_GGUF_H

#include <jansson.h>
#include <stdint.h>

enum { GGUF_MAX_DIM = 4 };

/* name, number in the file, elements and bytes of a block */
#define GGUF_TYPES(X)     \
    X(F32, 0, 1, 4)       \
    X(F16, 1, 1, 2)       \
    X(Q4_0, 2, 32, 18)    \
    X(Q4_1, 3, 32, 20)    \
    X(Q5_0, 6, 32, 22)    \
    X(Q5_1, 7, 32, 24)    \
    X(Q8_0, 8, 32, 34)    \
    X(Q4_K, 12, 256, 144) \
    X(Q5_K, 13, 256, 176) \
    X(Q6_K, 14, 256, 210) \
    X(BF16, 30, 1, 2)
typedef enum GgufType {
#define X(name, ...) GGUF_##name,
    GGUF_TYPES(X)
#undef X
        GGUF_NTYPES
} GgufType;

typedef struct GgufTensor {
    char *name;
    GgufType type;
    int ndim;
    int64_t shape[GGUF_MAX_DIM], n; /* as ours: the fastest last; n: elements */
    int64_t offset;                 /* of its first byte in the file */
} GgufTensor;

typedef struct Gguf Gguf;

/* ERR_DATA (malformed, truncated, overlapping, of a type that is not read, ...), ERR_IO. */
int gguf_open(Gguf **out, const char *path);
void gguf_close(Gguf **g);
const char *gguf_path(const Gguf *g);
/* The pairs, an object: numbers, booleans, strings, lists of them. Borrowed. */
const json_t *gguf_meta(const Gguf *g);
const GgufTensor *gguf_list(const Gguf *g, int *n);           /* sorted by name */
const GgufTensor *gguf_find(const Gguf *g, const char *name); /* NULL if there is none */
const char *gguf_type_name(GgufType t);
/* Elements [from, from + n) of the flattened tensor, whole blocks: from and n are multiples of 256,
 * or end with the tensor. The numbers that llama.cpp's reference makes of them. */
int gguf_read(const Gguf *g, const GgufTensor *t, int64_t from, int64_t n, float *out);

/* A file of version 3: metadata and the table of all tensors first (name, type, ndim, shape), then
 * their values in that order, in pieces of whole blocks. Of the metadata integers become u32 (lists
 * of them i32), reals f32. Types that may be written: F32, F16, BF16, Q8_0. The file has its name
 * only after gguf_commit. Equal content gives equal bytes. `t` and the names are borrowed until
 * then. */
typedef struct GgufWriter GgufWriter;
int gguf_create(GgufWriter **out, const char *path, const json_t *meta, const GgufTensor *t, int n);
int gguf_write(GgufWriter *w, const float *x, int64_t n);
int gguf_commit(GgufWriter **w);   /* durable; frees w, also on failure */
void gguf_abandon(GgufWriter **w); /* removes what was written */

/* One block each, for tests: bytes to numbers, numbers to bytes. */
void gguf_unpack(GgufType t, const unsigned char *block, float *out);
void gguf_pack(GgufType t, const float *x, unsigned char *block);
int64_t gguf_block(GgufType t, int64_t *bytes); /* elements of a block */

#endif
