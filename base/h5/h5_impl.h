/* h5_impl.h: what the files that talk to HDF5 share; nobody else includes it.
 *
 * h5.c            starting HDF5, turns, errors, files, names
 * h5_cut.c        types, and how an array is cut into chunks
 * h5_write.c      datasets, whole, in packed chunks, and growing ones
 * h5_read.c       datasets, whole and in ranges; hashes of their chunks
 * h5_attribute.c  attributes */
#ifndef BASE_H5_H5_IMPL_H
#define BASE_H5_H5_IMPL_H

#include "base/h5/h5.h"

#include <hdf5.h>

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
    bool text; /* one string of fixed length; for us its bytes, in one chunk */
    H5Codec codec;
    int cut_dim;
    H5Cut cut;
} Data;

struct H5 {
    hid_t file;
    char *path;
    bool writing;
    int64_t bytes; /* of the file, when it was opened for reading */
    char **name;   /* [names] of its datasets, "/a/b", sorted; of a file that is read */
    size_t names;
    Data last;        /* the dataset read last stays open: readers of windows come back to it */
    int64_t unpacked; /* chunk of it that lies in `chunk`, -1: none */
    char *chunk;
    Chunker *chunker;
};

/* --- h5.c ------------------------------------------------------------------------------------- */
int h5_begin_turn(void);
void h5_end_turn(const int *unused);
/* First in every function that others call and that calls HDF5: until it returns, other threads
 * wait. */
#define IN_TURN __attribute__((cleanup(h5_end_turn), unused)) const int in_turn = h5_begin_turn()

/* HDF5's errors in this thread are not printed: first in every thread that calls it. */
herr_t h5_be_quiet(void);

/* The message of a failed HDF5 call. */
int h5_error(const H5 *h, const char *name, const char *what);
/* ERR_DATA: nothing of that name. */
int h5_missing(const H5 *h, const char *name);

/* A message from inside a parallel loop, where the thread that sets it is not the one that returns
 * it. The first one stays; h5_handed_up, after the loop, makes it this thread's. */
typedef struct H5Failure {
    int rc;
    char *message;
} H5Failure;
bool h5_failed(H5Failure *f);
void h5_fail(H5Failure *f, int rc); /* rc >= 0: nothing */
int h5_handed_up(H5Failure *f);

/* Properties of everything that is created: no times, attributes in the object header. */
hid_t h5_creation_list(hid_t class);
/* Closes the dataset read last. */
void h5_forget(H5 *h);

/* --- h5_cut.c --------------------------------------------------------------------------------- */
enum { H5_NTYPES = H5_F64 + 1 };
hid_t h5_string_type(size_t bytes); /* UTF-8, ended by a NUL; to be closed */
hid_t h5_file_type(H5Type t);

/* What the arguments describe. Name and id are not set. */
Data h5_describe(H5Type type, int ndim, const int64_t *shape);
/* Fills `cut`; false if the chunks are no contiguous pieces. */
bool h5_measure_chunks(Data *d);
/* HDF5 names a chunk by the indices of its first element. */
void h5_chunk_place(const Data *d, int64_t k, hsize_t place[H5_MAX_DIM]);

static inline size_t h5_chunk_bytes(const Data *d) { return (size_t)d->cut.cap * d->size; }

#endif
