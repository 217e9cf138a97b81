/* record_writer.h: JSON lines, a record each, as most of our programs write them. */
#ifndef DATA_RECORD_WRITER_H
#define DATA_RECORD_WRITER_H

#include <jansson.h>
#include <stdio.h>

/* JSON lines written to `path` (under a temporary name until record_writer_close; a device or pipe
 * as it is), NULL or "-": standard output. */
typedef struct RecordWriter {
    FILE *f;
    char *path, *temporary;
} RecordWriter;
int record_writer_open(RecordWriter *w, const char *path);
void record_writer_put(RecordWriter *w, const json_t *record);
/* rc < 0: the file is dropped and rc returned. ERR_IO. */
int record_writer_close(RecordWriter *w, int rc);

#endif
