/* inspect.h: what is in a file of data, for people: counts, lengths, samples with the loss mask.
 * The work of rhetor-data inspect. */
#ifndef DATA_INSPECT_H
#define DATA_INSPECT_H

#include <stdio.h>

#include "data/dataset.h"

/* A corpus: all chunks are read and verified. */
int inspect_corpus(FILE *out, const char *path, int samples, bool colour);

/* A file of records. kind < 0: told by its first record; texts ({"text"}) are counted too. What is
 * learned is shown in colour, or between guillemets without it. */
int inspect_records(FILE *out, const char *path, int kind, const DatasetOptions *o, int samples,
                    bool colour);

#endif
