/* chunk.h: the bytes of one HDF5 chunk: byte shuffle and zstd, or a checksum. Knows no HDF5. */
#ifndef BASE_H5_CHUNK_H
#define BASE_H5_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHUNK_ZSTD_LEVEL = 1 };

/* With shuffle, byte 0 of all elements comes first, then byte 1, ...: exponents beside exponents
 * compress better. This is HDF5's shuffle filter. Raw chunks end with HDF5's fletcher32. */
typedef enum H5Codec { H5_RAW, H5_ZSTD, H5_SHUFFLE_ZSTD } H5Codec;

/* One thread's compression contexts and buffers for chunks of `bytes` bytes, made of elements of
 * `size` bytes. */
typedef struct Chunker Chunker;
Chunker *chunker_new(size_t bytes, size_t size, H5Codec codec);
/* From now on for chunks of another kind. What was got from it before is no longer valid. */
void chunker_aim(Chunker *c, size_t bytes, size_t size, H5Codec codec);
void chunker_free(Chunker **c);

/* Packs `used` bytes of src, followed by zeros up to a whole chunk, into dst, which has room for
 * chunk_bound(bytes). The bytes packed; 0: *why says what zstd found. */
size_t chunker_pack(Chunker *c, const void *src, size_t used, void *dst, const char **why);
size_t chunk_bound(size_t bytes);

/* A buffer for the packed bytes of a chunk that is to be read, or NULL if no chunk of this size can
 * have so many. */
void *chunker_room(Chunker *c, size_t packed);
/* Unpacks what lies in chunker_room() and copies bytes [from, from+n) of the chunk to dst. false:
 * *why says what is wrong (checksum, size, ...). */
bool chunker_unpack(Chunker *c, size_t packed, size_t from, size_t n, void *dst, const char **why);

uint32_t chunk_fletcher32(const void *data, size_t bytes); /* as HDF5 computes it */

/* A bare zstd frame with checksum, for the HDF5 filter; dst has room for chunk_bound. 0: error. */
size_t chunk_frame(void *dst, size_t room, const void *src, size_t bytes, int level);

#endif
