/* chars.h: a character-level tokenizer, as nanoGPT's shakespeare_char has it: the bytes that occur
 * in the texts, each a token, and no merges. */
#ifndef DATA_CHARS_H
#define DATA_CHARS_H

#include "data/tokenizer/tokenizer.h"

/* Ids: the special tokens in the order given, then the bytes. To encode another byte is ERR_DATA.
 * Text beyond ASCII is cut into the bytes of its UTF-8. */
int chars_tokenizer(Tokenizer **out, TextSource *next, void *ctx, const char *const *special,
                    int nspecial);

#endif
