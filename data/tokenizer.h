/* tokenizer.h: byte-level BPE (Sennrich 2016; GPT-2's byte alphabet and splitting pattern). */
#ifndef DATA_TOKENIZER_H
#define DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Tokenizer Tokenizer;

/* A growing list of ids; the caller owns it: `IdList ids = {0}; ... ids_free(&ids);` */
typedef struct IdList {
    int32_t *v;
    int64_t n, cap;
} IdList;
void ids_push(IdList *l, int32_t id);
void ids_free(IdList *l);

/* Reads a Hugging Face `tokenizer.json` (byte-level BPE), or a folder / prefix with vocab.json and
 * merges.txt. ERR_DATA (malformed, unsupported: says which part), ERR_IO. A post-processor (one
 * that adds bos, say) is not read. */
int tokenizer_load(Tokenizer **out, const char *path);
/* The same from the text of a tokenizer.json; `origin` names it in messages. Checkpoints carry it.
 */
int tokenizer_parse(Tokenizer **out, const char *json, size_t len, const char *origin);
void tokenizer_close(Tokenizer **t);

/* The text of a tokenizer.json that Hugging Face `tokenizers` loads with the same ids. malloc'd,
 * the caller frees. Deterministic: equal tokenizers give equal bytes. */
char *tokenizer_json(const Tokenizer *t);
int tokenizer_save(const Tokenizer *t, const char *path); /* durable; ERR_IO */
uint64_t tokenizer_hash(const Tokenizer *t);              /* XXH3 of tokenizer_json */

/* Trains on the texts that `next` hands out until it returns 0 (negative: error, passed on).
 * Ids: special tokens first in the order given, then the 256 bytes, then merges: vocab in all
 * (fewer if no pair occurs min_frequency times). Ties go to the smaller pair, as Hugging Face's
 * BpeTrainer has it. Deterministic. */
typedef int TextSource(void *ctx, const char **text, size_t *len);
int tokenizer_train(Tokenizer **out, TextSource *next, void *ctx, int64_t vocab,
                    int64_t min_frequency, const char *const *special, int nspecial);

int64_t tokenizer_vocab(const Tokenizer *t); /* number of ids */
/* Appends ids of text. User text is encoded with specials = false: then "<|endoftext|>" in the
 * text is ordinary characters. Any bytes are accepted (invalid UTF-8 too) and decode back, with the
 * one space more that a file with add_prefix_space asks for. ERR_DATA: a byte for which the
 * vocabulary of the file has no token. Any number of threads may encode at a time. */
int tokenizer_encode(const Tokenizer *t, const char *text, size_t len, bool specials, IdList *out);
/* Bytes of the ids, malloc'd and NUL-terminated; *len (may be NULL) without the NUL. Ids out of
 * range: ERR_DATA. skip_special leaves special tokens out. */
int tokenizer_decode(const Tokenizer *t, const int32_t *ids, int64_t n, bool skip_special,
                     char **text, size_t *len);
const char *tokenizer_token_bytes(const Tokenizer *t, int32_t id, size_t *len); /* borrowed */

/* The id of a token given as text, special tokens first; -1 if there is none. */
int32_t tokenizer_id(const Tokenizer *t, const char *token);
/* The same among the special tokens only, at once: for every record, where tokenizer_id may search
 * the whole vocabulary. */
int32_t tokenizer_special(const Tokenizer *t, const char *token);
int32_t tokenizer_eos(const Tokenizer *t); /* id of "<|endoftext|>", or of the eos it has; -1 */

#endif
