/* hash.h: xxHash. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *data, size_t len); /* XXH3 64 */
uint64_t hash_text(const char *s);                 /* of its bytes */
/* XXH3 128: where two contents must not be taken for one another */
void hash_bytes128(const void *data, size_t len, uint64_t out[2]);
/* Both of what comes in parts. hash_end frees, and does nothing where *h is NULL. */
typedef struct HashStream HashStream;
HashStream *hash_begin(void);
void hash_add(HashStream *h, const void *data, size_t len);
void hash_end(HashStream **h, uint64_t *hash, uint64_t hash128[2]);
uint64_t hash_combine(uint64_t a, uint64_t b);

#endif
