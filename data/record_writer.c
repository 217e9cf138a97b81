/* record_writer.c: JSON lines, a record each. See record_writer.h. */
#include "data/record_writer.h"

#include "base/error.h"
#include "base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int record_writer_open(RecordWriter *w, const char *path) {
    *w = (RecordWriter){0};
    if (!path || strcmp(path, "-") == 0) {
        w->f = stdout;
        return 0;
    }
    struct stat st;
    w->path = xstrdup(path);
    if (stat(path, &st) != 0 || S_ISREG(st.st_mode)) w->temporary = xasprintf("%s.tmp", path);
    w->f = fopen(w->temporary ? w->temporary : path, "w");
    if (w->f) return 0;
    int rc = error_set(ERR_IO,
                       "%s: cannot be written: %s; check that the folder exists and may be "
                       "written",
                       path, strerror(errno));
    return record_writer_close(w, rc);
}

void record_writer_put(RecordWriter *w, const json_t *record) {
    json_dumpf(record, w->f, JSON_COMPACT | JSON_ENCODE_ANY);
    fputc('\n', w->f); /* errors are sticky: record_writer_close sees them */
}

int record_writer_close(RecordWriter *w, int rc) {
    bool bad = w->f && (fflush(w->f) != 0 || ferror(w->f));
    if (bad && rc >= 0)
        rc = error_set(ERR_IO, "%s: write: %s; check the free space",
                       w->path ? w->path : "standard output", strerror(errno));
    if (w->f && w->f != stdout) fclose(w->f);
    if (rc >= 0 && w->temporary) rc = file_rename_durable(w->temporary, w->path);
    if (rc < 0 && w->temporary) remove(w->temporary);
    free(w->path);
    free(w->temporary);
    *w = (RecordWriter){0};
    return rc;
}
