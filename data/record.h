/* record.h: one record of the user's files, whatever its shape, as a conversation and its answers.
 * data/dataset.h lists the shapes. Private to data/ and tools/rhetor-data.c. */
#ifndef DATA_RECORD_H
#define DATA_RECORD_H

#include <jansson.h>

#include "data/dataset.h"

/* Strings are borrowed from the JSON value or owned by the record; record_free releases both. */
typedef struct Record {
    Message *prompt; /* a conversation that ends with a message of the user */
    int nprompt;
    const char **answer; /* demonstrations: 1, ranked: K >= 2, prompts: 0 */
    int32_t *rank;       /* [nanswer] ranked: 1 is best; ties share a rank, none is left out */
    bool *unfinished; /* [nanswer] "stopped" says that it did not come to its end; NULL: all did */
    int nanswer;

    json_t *json;
    char **owned;
    int nowned;
} Record;

/* Takes over the reference to `json`, also when it fails. ERR_DATA says what is missing or wrong
 * (without file and line, which the caller knows). */
int record_parse(Record *out, DatasetKind kind, json_t *json, const DatasetOptions *o);
void record_free(Record *r);

/* Puts "path:line: " (JSON lines) or "path, item N: " (an array) before the stored message. */
int record_wrap(int code, const char *path, bool array, int64_t line);

/* One more (`what`: a record, a document) that cannot be used, which `message` says. Skips it, and
 * says so of the first few, or ERR_DATA: it is more than `max`, which `setting` sets. */
int record_skip(const char *message, int64_t *bad, int64_t max, const char *what,
                const char *setting);

/* Warns that n of `all` records or documents (`what`) have something; not of none. Every rank loads
 * all of them; the first one speaks. */
void record_warn(const char *names, int64_t n, int64_t all, const char *what, const char *have);
#define RECORD_RETURNS                                                                     \
    "carriage returns (\\r): the model learns to write them; where lines end with \\r\\n " \
    "remove the \\r"

/* Ranks of k scores, higher is better: 1 is best, equal scores share a rank, none is left out. */
void record_ranks(const double *score, int k, int32_t *rank);

#endif
