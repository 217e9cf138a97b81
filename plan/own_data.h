/* own_data.h: what a folder holds to train on: texts, demonstrations, rankings, prompts. A file's
 * name says whether it is text or records, its records (as rhetor-data inspect sees them) what they
 * are. Nothing here is collective. */
#ifndef PLAN_OWN_DATA_H
#define PLAN_OWN_DATA_H

#include "data/inspect.h"

enum { OWN_KINDS = INSPECT_TEXTS + 1 }; /* a DatasetKind, or INSPECT_TEXTS */

/* The files of a kind, and what is in them. */
typedef struct OwnGroup {
    char **file;
    int nfile;
    int64_t n, bad, empty; /* records or documents; of records: malformed, with an empty answer */
    int64_t bytes, prompt_bytes, answers, answer_bytes;
    int64_t *length, cap; /* [n] bytes of a record's longest sequence; NULL for texts */
} OwnGroup;

typedef struct OwnData {
    OwnGroup group[OWN_KINDS];
    char **left; /* "path: why it is left out" */
    int nleft;
} OwnData;

/* Looks through the folder and those in it. ERR_CONFIG: no such folder; ERR_DATA: no text. */
int own_data_read(OwnData *out, const char *folder);
void own_data_free(OwnData *d);
/* The length in bytes that so large a share of the records does not exceed; sorts them. */
int64_t own_data_quantile(OwnGroup *g, double share);

#endif
