/* tokenizer.h: byte-level BPE (Sennrich 2016; GPT-2's byte alphabet and splitting pattern), and
 * SentencePiece's BPE of characters with tokens for the bytes of the others (Llama 2, TinyLlama). */
#ifndef DATA_TOKENIZER_TOKENIZER_H
#define DATA_TOKENIZER_TOKENIZER_H

#include <jansson.h>
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

/* Reads a Hugging Face `tokenizer.json` (byte-level BPE), or a folder that has one; a folder or
 * prefix with vocab.json and merges.txt (or encoder.json and vocab.bpe), "VOCAB,MERGES"; tiktoken's
 * ranks (.tiktoken). ERR_DATA (malformed, unsupported: says which part), ERR_CONFIG (ranks of an
 * unknown encoding), ERR_IO. A post-processor (one that adds bos, say) is not read. */
int tokenizer_load(Tokenizer **out, const char *path);
/* encoding: how tiktoken calls the splitting pattern and special tokens that go with the ranks:
 * gpt2, r50k, p50k, cl100k, o200k. NULL: found by the beginning of the file's name, or the number
 * of ranks. */
int tokenizer_load_as(Tokenizer **out, const char *path, const char *encoding);
/* The text of such a file; `origin` is its name. */
int tokenizer_parse_tiktoken(Tokenizer **out, const char *text, size_t len, const char *encoding,
                             const char *origin);
/* The same from the text of a tokenizer.json; `origin` names it in messages. Checkpoints carry
 * it. */
int tokenizer_parse(Tokenizer **out, const char *json, size_t len, const char *origin);
void tokenizer_close(Tokenizer **t);
/* The tokenizer of a GGUF file from its metadata ("tokenizer.ggml.*"), and the reverse, which adds
 * to the object; rows: of the model, of which the last may have no token. ERR_DATA: malformed, of a
 * kind that is not read; that GGUF has no word for. */
int tokenizer_from_gguf(Tokenizer **out, const json_t *meta, const char *origin);
int tokenizer_to_gguf(const Tokenizer *t, int64_t rows, json_t *meta);

/* The text of a tokenizer.json that Hugging Face `tokenizers` loads with the same ids. malloc'd,
 * the caller frees. Deterministic: equal tokenizers give equal bytes. */
char *tokenizer_json(const Tokenizer *t);
int tokenizer_save(const Tokenizer *t, const char *path); /* durable; ERR_IO */
uint64_t tokenizer_hash(const Tokenizer *t);              /* XXH3 of tokenizer_json */

/* Training. Ids: special tokens first in the order given, then the 256 bytes, then merges. */
typedef enum TieBreak {
    TIE_BREAK_HF,   /* the smaller pair of ids, as Hugging Face's BpeTrainer has it */
    TIE_BREAK_BYTES /* the pair whose bytes come later in the alphabet (CS336) */
} TieBreak;
typedef struct TrainOptions {
    int64_t vocab;         /* ids in all; fewer if no pair occurs often enough */
    int64_t min_frequency; /* a pair must occur as often to be merged */
    const char *const *special;
    int nspecial;
    TieBreak tie_break; /* which of the pairs that are most frequent */
    bool chars;         /* instead: as nanoGPT's shakespeare_char, no merges, and only the bytes
                           that occur. To encode another one is ERR_DATA */
} TrainOptions;

/* Trains on the texts that `next` hands out until it returns 0 (negative: error, passed on; NULL:
 * no text). A special token within a text ends a document, and nothing is learned from it. The
 * result is the same for any number of threads. ERR_CONFIG: impossible options. */
typedef int TextSource(void *ctx, const char **text, size_t *len);
int tokenizer_train(Tokenizer **out, TextSource *next, void *ctx, const TrainOptions *o);
int64_t tokenizer_vocab(const Tokenizer *t); /* number of ids */
/* Appends ids of text. User text is encoded with specials = false: then "<|endoftext|>" in the
 * text is ordinary characters. Any bytes are accepted (invalid UTF-8 too) and decode back, but for
 * what the file's normalizer and pre-tokenizer change (docs/FORMATS.md). ERR_DATA: a byte for which
 * the vocabulary of the file has no token. Any number of threads may encode at a time; outside of a
 * parallel region the threads of OpenMP share long texts. */
int tokenizer_encode(const Tokenizer *t, const char *text, size_t len, bool specials, IdList *out);
/* The same where SentencePiece puts a space before a text: does this text begin one, does it come
 * after a special token of it, or does it go on where other text ended? */
typedef enum TextPlace { TEXT_BEGINS, TEXT_AFTER_SPECIAL, TEXT_GOES_ON } TextPlace;
int tokenizer_encode_at(const Tokenizer *t, TextPlace place, const char *text, size_t len,
                        bool specials, IdList *out);
/* For texts that are to be encoded in parts, in constant memory or by several threads: the largest
 * n below len such that the ids of text[0, n) and of what follows it are those of the whole,
 * whatever comes after text[0, len); 0 if there is none or if it cannot be known (patterns that
 * splitter.c does not know, add_prefix_space, normalizers but NFC, added tokens with spaces). */
size_t tokenizer_cut(const Tokenizer *t, const char *text, size_t len);
/* Does decoding drop a space at the beginning, as SentencePiece's does? Who shows tokens one by one
 * must do it. */
bool tokenizer_drops_space(const Tokenizer *t);
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
/* And among all added ones. */
int32_t tokenizer_added(const Tokenizer *t, const char *token);
/* The token that ends a text: the first of those that are set, else the special token that is
 * called "<|endoftext|>" or one of the other usual names; -1: none. */
int32_t tokenizer_eos(const Tokenizer *t);
/* What its model says about the end of a text; a folder's tokenizer_config.json does when it is
 * loaded. They are no part of tokenizer_json. n = 0: by name. */
void tokenizer_set_stops(Tokenizer *t, const int32_t *ids, int64_t n);
const int32_t *tokenizer_stops(const Tokenizer *t, int64_t *n); /* borrowed; n 0: none are set */
/* Its model's chat template, in the Jinja language, likewise. Copied; NULL: none. */
void tokenizer_set_chat_template(Tokenizer *t, const char *text);
const char *tokenizer_chat_template(const Tokenizer *t);

#endif
