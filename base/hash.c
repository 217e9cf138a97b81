/* hash.c: see hash.h. */
#include "base/hash.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

uint64_t hash_bytes(const void *data, size_t len) { return XXH3_64bits(data, len); }

uint64_t hash_text(const char *s) { return hash_bytes(s, strlen(s)); }

void hash_bytes128(const void *data, size_t len, uint64_t out[2]) {
    XXH128_hash_t h = XXH3_128bits(data, len);
    out[0] = h.low64;
    out[1] = h.high64;
}

struct HashStream {
    XXH3_state_t *state; /* serves both lengths */
};

HashStream *hash_begin(void) {
    HashStream *h = xmalloc(sizeof *h);
    h->state = XXH3_createState();
    CHECK(h->state && XXH3_128bits_reset(h->state) == XXH_OK, "xxhash state");
    return h;
}

void hash_add(HashStream *h, const void *data, size_t len) {
    XXH3_128bits_update(h->state, data, len);
}

void hash_end(HashStream **hp, uint64_t *hash, uint64_t hash128[2]) {
    HashStream *h = *hp;
    if (!h) return;
    const XXH128_hash_t wide = XXH3_128bits_digest(h->state);
    *hash = XXH3_64bits_digest(h->state);
    hash128[0] = wide.low64;
    hash128[1] = wide.high64;
    XXH3_freeState(h->state);
    free(h);
    *hp = NULL;
}

uint64_t hash_combine(uint64_t a, uint64_t b) {
    uint64_t both[2] = {a, b};
    return XXH3_64bits(both, sizeof both);
}
