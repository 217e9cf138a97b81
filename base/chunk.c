/* chunk.c: the bytes of one HDF5 chunk: byte shuffle and zstd.
 *
 * zstd frames carry their content's size and a checksum, so a flipped bit is found and a damaged
 * size can never make us write beyond a buffer. The result depends on the data alone, not on the
 * thread that made it. */
#include "base/chunk.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

struct Chunker {
    size_t bytes, size, bound;
    bool shuffle;
    char *plain, *shuffled; /* one chunk each */
    char *packed;
    ZSTD_CCtx *pack;
    ZSTD_DCtx *unpack;
};

Chunker *chunker_new(size_t bytes, size_t size, bool shuffle) {
    Chunker *c = xcalloc(1, sizeof *c);
    c->bytes = bytes;
    c->size = size;
    c->shuffle = shuffle && size > 1;
    c->bound = ZSTD_compressBound(bytes);
    c->plain = xmalloc(bytes);
    c->shuffled = c->shuffle ? xmalloc(bytes) : NULL;
    c->packed = xmalloc(c->bound);
    return c;
}

void chunker_free(Chunker **cp) {
    Chunker *c = *cp;
    if (!c) return;
    ZSTD_freeCCtx(c->pack);
    ZSTD_freeDCtx(c->unpack);
    free(c->plain);
    free(c->shuffled);
    free(c->packed);
    free(c);
    *cp = NULL;
}

/* Inner loops of constant stride for the sizes that occur; the compiler makes vectors of them. */
#define SHUFFLE(S)                   \
    for (size_t b = 0; b < (S); b++) \
        for (size_t i = 0; i < n; i++) out[b * n + i] = in[i * (S) + b]
#define UNSHUFFLE(S)               \
    for (size_t i = 0; i < n; i++) \
        for (size_t b = 0; b < (S); b++) out[i * (S) + b] = in[b * n + i]

static void shuffle(char *restrict out, const char *restrict in, size_t bytes, size_t size) {
    size_t n = bytes / size;
    switch (size) {
    case 2: SHUFFLE(2); break;
    case 4: SHUFFLE(4); break;
    case 8: SHUFFLE(8); break;
    default: SHUFFLE(size); break;
    }
}

static void unshuffle(char *restrict out, const char *restrict in, size_t bytes, size_t size) {
    size_t n = bytes / size;
    switch (size) {
    case 2: UNSHUFFLE(2); break;
    case 4: UNSHUFFLE(4); break;
    case 8: UNSHUFFLE(8); break;
    default: UNSHUFFLE(size); break;
    }
}

static ZSTD_CCtx *new_packer(int level) {
    ZSTD_CCtx *z = ZSTD_createCCtx();
    CHECK(z, "zstd context");
    ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_setParameter(z, ZSTD_c_contentSizeFlag, 1);
    return z;
}

const void *chunker_pack(Chunker *c, const void *src, size_t used, size_t *packed,
                         const char **why) {
    CHECK(used <= c->bytes, "%zu bytes for a chunk of %zu", used, c->bytes);
    if (!c->pack) c->pack = new_packer(CHUNK_ZSTD_LEVEL);
    if (used < c->bytes) {
        memcpy(c->plain, src, used);
        memset(c->plain + used, 0, c->bytes - used);
        src = c->plain;
    }
    if (c->shuffle) {
        shuffle(c->shuffled, src, c->bytes, c->size);
        src = c->shuffled;
    }
    *packed = ZSTD_compress2(c->pack, c->packed, c->bound, src, c->bytes);
    if (!ZSTD_isError(*packed)) return c->packed;
    *why = ZSTD_getErrorName(*packed);
    return NULL;
}

void *chunker_room(Chunker *c, size_t packed) {
    return packed <= c->bound ? c->packed : NULL;
}

bool chunker_unpack(Chunker *c, size_t packed, size_t from, size_t n, void *dst, const char **why) {
    CHECK(from <= c->bytes && n <= c->bytes - from, "bytes %zu+%zu of a chunk of %zu", from, n,
          c->bytes);
    if (!c->unpack) c->unpack = ZSTD_createDCtx();
    CHECK(c->unpack, "zstd context");
    bool whole = n == c->bytes;
    char *out = c->shuffle ? c->shuffled : whole ? dst : c->plain;
    size_t got = ZSTD_decompressDCtx(c->unpack, out, c->bytes, c->packed, packed);
    if (ZSTD_isError(got) || got != c->bytes) {
        *why = ZSTD_isError(got) ? ZSTD_getErrorName(got) : "chunk of the wrong size";
        return false;
    }
    if (c->shuffle) {
        char *to = whole ? dst : c->plain;
        unshuffle(to, out, c->bytes, c->size);
        out = to;
    }
    if (!whole) memcpy(dst, out + from, n);
    return true;
}

size_t chunk_frame_bound(size_t bytes) {
    return ZSTD_compressBound(bytes);
}

size_t chunk_frame(void *dst, size_t room, const void *src, size_t bytes, int level) {
    ZSTD_CCtx *z = new_packer(level);
    size_t n = ZSTD_compress2(z, dst, room, src, bytes);
    ZSTD_freeCCtx(z);
    return ZSTD_isError(n) ? 0 : n;
}

size_t chunk_frame_content(const void *frame, size_t bytes) {
    unsigned long long n = ZSTD_getFrameContentSize(frame, bytes);
    /* HDF5 chunks are smaller than 4 GiB: more is damage. The two error codes are larger still. */
    return n < 1ull << 32 ? (size_t)n : 0;
}

bool chunk_unframe(void *dst, size_t bytes, const void *frame, size_t packed) {
    size_t n = ZSTD_decompress(dst, bytes, frame, packed);
    return !ZSTD_isError(n) && n == bytes;
}
