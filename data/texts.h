/* texts.h: documents out of the user's files, for corpora and for training tokenizers. */
#ifndef DATA_TEXTS_H
#define DATA_TEXTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/tokenizer/tokenizer.h"

/* What a document is. In .json and .jsonl files (also .gz, .zst) each of the `fields` (NULL: only
 * "text") that a record has is one; a record that has none of them is ERR_DATA. Any other file is
 * one document, or several between separators: then the line break before and after a separator
 * belongs to it, and empty documents are left out. */
typedef struct TextOptions {
    const char *const *fields;
    int nfields;
    const char *split; /* separator, NULL: none */
    /* Documents of more than 16 MiB that are not JSON come in parts, cut where their ids for this
     * tokenizer can be (tokenizer_cut). NULL: all are whole. */
    const Tokenizer *parts_for;
} TextOptions;

typedef struct Texts Texts;
int texts_open(Texts **out, const char *path, const TextOptions *o); /* borrows o */
void texts_close(Texts **t);
/* The next document, in valid UTF-8; borrowed until the next call. Returns 1, 0 at the end, or
 * ERR_DATA, ERR_IO with "file:line". After ERR_DATA one may go on: with the next document, or with
 * an ERR_IO where the file cannot be read any further. Memory: the longest document or part. */
int texts_next(Texts *t, const char **text, size_t *len);
/* Is what texts_next handed out last not the end of its document? The next part follows. It may be
 * empty. */
bool texts_more(const Texts *t);
extern size_t texts_part;           /* bytes from which on there are parts; tests make it small */
int64_t texts_line(const Texts *t); /* where the last document began */
int64_t texts_consumed(const Texts *t); /* bytes of the file read so far, compressed ones */
/* Puts the place of a document (its line as given by texts_line) before the stored message. */
int texts_wrap(const Texts *t, int code, int64_t line);

/* Does the name say JSON (.json, .jsonl, also .gz, .zst)? */
bool texts_is_json(const char *path);

#endif
