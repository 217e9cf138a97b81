/* inspect.h: what is in a file of data, for people: counts, lengths, samples with the loss mask.
 * The work of rhetor-data inspect. */
#ifndef DATA_INSPECT_H
#define DATA_INSPECT_H

#include <stdio.h>

#include "data/dataset.h"

/* A corpus: all chunks are read and verified. */
int inspect_corpus(FILE *out, const char *path, int samples, bool colour);

/* A file of records. kind: a DatasetKind, or texts ({"text"}, or a file of another name as it is);
 * < 0: recognised by the file's name and its first record. What is learned is shown in colour, or between
 * guillemets without it. */
enum { INSPECT_TEXTS = DATASET_LABELLED + 1 };
int inspect_records(FILE *out, const char *path, int kind, const DatasetOptions *o, int samples,
                    bool colour);

/* What the records of a file are, by the first that is one: a DatasetKind or INSPECT_TEXTS. */
int inspect_kind(const char *path, const DatasetOptions *o, int *kind);

#endif
