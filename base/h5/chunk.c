/* chunk.c: the bytes of one HDF5 chunk: byte shuffle and zstd.
 *
 * zstd frames carry their content's size and a checksum, so a flipped bit is found and a damaged
 * size can never make us write beyond a buffer. The result depends on the data alone, not on the
 * thread that made it. */
#include "base/h5/chunk.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

struct Chunker {
    size_t bytes, size, bound;
    H5Codec codec;
    size_t room;            /* of the three buffers, in bytes of a chunk */
    char *plain, *shuffled; /* one chunk each */
    char *packed;
    ZSTD_CCtx *pack;
    ZSTD_DCtx *unpack;
};

enum { CHECKSUM = 4 }; /* bytes of fletcher32, behind a raw chunk */

size_t chunk_bound(size_t bytes) { return ZSTD_compressBound(bytes) + CHECKSUM; }

void chunker_aim(Chunker *c, size_t bytes, size_t size, H5Codec codec) {
    c->bytes = bytes;
    c->size = size;
    c->codec = codec == H5_SHUFFLE_ZSTD && size == 1 ? H5_ZSTD : codec;
    c->bound = chunk_bound(bytes);
    if (bytes <= c->room) return;
    c->room = bytes;
    c->plain = xrealloc(c->plain, bytes);
    c->shuffled = xrealloc(c->shuffled, bytes);
    c->packed = xrealloc(c->packed, c->bound);
}

Chunker *chunker_new(size_t bytes, size_t size, H5Codec codec) {
    Chunker *c = xcalloc(1, sizeof *c);
    chunker_aim(c, bytes, size, codec);
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

/* H5_checksum_fletcher32: two sums over big-endian 16-bit words, folded every 360 of them. In a
 * block sum2 grows by sum1 once a word and by each word as often as there are words from it on, so
 * the words need not wait for one another. */
uint32_t chunk_fletcher32(const void *data, size_t bytes) {
    enum { BLOCK = 360 };
    const unsigned char *p = data;
    uint32_t sum1 = 0, sum2 = 0;
    for (size_t words = bytes / 2; words > 0;) {
        uint32_t n = words < BLOCK ? (uint32_t)words : BLOCK, a = 0, b = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint16_t w;
            memcpy(&w, p + 2 * i, 2);
            w = __builtin_bswap16(w);
            a += w;
            b += (n - i) * w;
        }
        sum2 += n * sum1 + b;
        sum1 += a;
        sum1 = (sum1 & 0xffff) + (sum1 >> 16);
        sum2 = (sum2 & 0xffff) + (sum2 >> 16);
        p += 2 * (size_t)n;
        words -= n;
    }
    if (bytes % 2) {
        sum1 += (uint32_t)*p << 8;
        sum2 += sum1;
        sum1 = (sum1 & 0xffff) + (sum1 >> 16);
        sum2 = (sum2 & 0xffff) + (sum2 >> 16);
    }
    sum1 = (sum1 & 0xffff) + (sum1 >> 16);
    sum2 = (sum2 & 0xffff) + (sum2 >> 16);
    return sum2 << 16 | sum1;
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

size_t chunker_pack(Chunker *c, const void *src, size_t used, void *dst, const char **why) {
    CHECK(used <= c->bytes, "%zu bytes for a chunk of %zu", used, c->bytes);
    if (c->codec == H5_RAW) {
        char *out = dst;
        memcpy(out, src, used);
        memset(out + used, 0, c->bytes - used);
        const uint32_t sum = chunk_fletcher32(out, c->bytes);
        memcpy(out + c->bytes, &sum, CHECKSUM);
        return c->bytes + CHECKSUM;
    }
    if (!c->pack) c->pack = new_packer(CHUNK_ZSTD_LEVEL);
    if (used < c->bytes) {
        memcpy(c->plain, src, used);
        memset(c->plain + used, 0, c->bytes - used);
        src = c->plain;
    }
    if (c->codec == H5_SHUFFLE_ZSTD) {
        shuffle(c->shuffled, src, c->bytes, c->size);
        src = c->shuffled;
    }
    /* Shuffled floats hold no long repetitions to speak of but runs of equal bytes. With few places
     * to look them up zstd finds fewer short ones that do not pay: twice as fast, and smaller. */
    ZSTD_CCtx_setParameter(c->pack, ZSTD_c_hashLog, c->codec == H5_SHUFFLE_ZSTD ? 8 : 0);
    const size_t n = ZSTD_compress2(c->pack, dst, c->bound, src, c->bytes);
    if (!ZSTD_isError(n)) return n;
    *why = ZSTD_getErrorName(n);
    return 0;
}

void *chunker_room(Chunker *c, size_t packed) { return packed <= c->bound ? c->packed : NULL; }

bool chunker_unpack(Chunker *c, size_t packed, size_t from, size_t n, void *dst, const char **why) {
    CHECK(from <= c->bytes && n <= c->bytes - from, "bytes %zu+%zu of a chunk of %zu", from, n,
          c->bytes);
    if (c->codec == H5_RAW) {
        uint32_t sum = 0;
        if (packed == c->bytes + CHECKSUM) memcpy(&sum, c->packed + c->bytes, CHECKSUM);
        if (packed != c->bytes + CHECKSUM || sum != chunk_fletcher32(c->packed, c->bytes)) {
            *why = packed == c->bytes + CHECKSUM ? "its checksum is wrong" : "of the wrong size";
            return false;
        }
        memcpy(dst, c->packed + from, n);
        return true;
    }
    const bool shuffled = c->codec == H5_SHUFFLE_ZSTD;
    if (!c->unpack) c->unpack = ZSTD_createDCtx();
    CHECK(c->unpack, "zstd context");
    bool whole = n == c->bytes;
    char *out = shuffled ? c->shuffled : whole ? dst : c->plain;
    size_t got = ZSTD_decompressDCtx(c->unpack, out, c->bytes, c->packed, packed);
    if (ZSTD_isError(got) || got != c->bytes) {
        *why = ZSTD_isError(got) ? ZSTD_getErrorName(got) : "chunk of the wrong size";
        return false;
    }
    if (shuffled) {
        char *to = whole ? dst : c->plain;
        unshuffle(to, out, c->bytes, c->size);
        out = to;
    }
    if (!whole) memcpy(dst, out + from, n);
    return true;
}

size_t chunk_frame(void *dst, size_t room, const void *src, size_t bytes, int level) {
    ZSTD_CCtx *z = new_packer(level);
    size_t n = ZSTD_compress2(z, dst, room, src, bytes);
    ZSTD_freeCCtx(z);
    return ZSTD_isError(n) ? 0 : n;
}
