/* chunk.h: the bytes of one HDF5 chunk: byte shuffle and zstd. Knows no HDF5. */
#ifndef BASE_CHUNK_H
#define BASE_CHUNK_H

#include <stdbool.h>
#include <stddef.h>

enum { CHUNK_ZSTD_LEVEL = 1 };

/* One thread's compression contexts and buffers for chunks of `bytes` bytes, made of elements of
 * `size` bytes. With `shuffle`, byte 0 of all elements comes first, then byte 1, ...: exponents
 * beside exponents compress better. This is HDF5's shuffle filter. */
typedef struct Chunker Chunker;
Chunker *chunker_new(size_t bytes, size_t size, bool shuffle);
void chunker_free(Chunker **c);

/* Packs `used` bytes of src, followed by zeros up to a whole chunk. The result belongs to the
 * chunker and is valid until the next call. NULL: *why says what zstd found. */
const void *chunker_pack(Chunker *c, const void *src, size_t used, size_t *packed,
                         const char **why);

/* A buffer for the packed bytes of a chunk that is to be read, or NULL if no chunk of this size can
 * have so many. */
void *chunker_room(Chunker *c, size_t packed);
/* Unpacks what lies in chunker_room() and copies bytes [from, from+n) of the chunk to dst. false:
 * *why says what is wrong (checksum, size, ...). */
bool chunker_unpack(Chunker *c, size_t packed, size_t from, size_t n, void *dst, const char **why);

/* The bare zstd frame with checksum, for the HDF5 filter. */
size_t chunk_frame_bound(size_t bytes);
size_t chunk_frame(void *dst, size_t room, const void *src, size_t bytes, int level); /* 0: error */
size_t chunk_frame_content(const void *frame, size_t bytes);                          /* 0: error */
bool chunk_unframe(void *dst, size_t bytes, const void *frame, size_t packed);

#endif
