/* file.h: files that survive. Not collective. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes path so that it holds either its old content or the new one whatever happens: temporary
 * file beside it, fsync, rename, fsync of the directory. ERR_IO names the call that failed. */
int file_write_durable(const char *path, const void *data, size_t len);
int file_rename_durable(const char *from, const char *to); /* fsync from, rename, fsync dir */
int file_sync(const char *path);
int file_read(const char *path, char **data, size_t *len); /* malloc'd, NUL after the last byte */
int file_append(const char *path, const void *data, size_t len); /* one write() at the end */

/* ERR_IO from errno: "path: call: reason; what to do". */
int file_error(const char *path, const char *call);

/* From now on a program that ends well although something that it printed could not be written to
 * standard output ends with the status of ERR_IO and says so. Not where only the reader went away. */
void file_check_output(void);

char *file_home(char *path); /* "~/x" with the home folder in its place; takes a malloc'd path */
bool file_exists(const char *path);
bool file_is_dir(const char *path);
int64_t file_size(const char *path);                   /* -1 if there is none */
int file_make_dirs(const char *path);                  /* mkdir -p */
int file_free_space(const char *path, int64_t *bytes); /* of the file system path lies on */
int file_hash(const char *path, uint64_t *xxh3);       /* of all its bytes */
int file_remove(const char *path);                     /* no error if it is not there */

/* Names in a directory (without . and ..), sorted; the caller frees with file_free_list. */
int file_list(const char *dir, char ***names, int *n);
void file_free_list(char ***names, int n);

/* The files that the names stand for: a name that holds *, ? or [ and is no file itself is a
 * pattern of the shell's kind (sorted matches); others stay as they are. *out: malloc'd strings,
 * freed with file_free_list. A pattern that matches nothing is ERR_IO. */
int file_glob(const char *const *names, int n, char ***out, int *nout);

const char *file_basename(const char *path);        /* points into path */
char *file_join(const char *dir, const char *name); /* malloc'd */

/* One owner a run directory: dir/lock names host, job, process and is touched by a thread. Taking
 * it fails (ERR_CONFIG, names the owner) while the owner lives. On the same host, boot and pid
 * namespace: the pid exists and started when the lock says; it is given a few seconds to end.
 * Elsewhere: the heartbeat is younger than 5 minutes. */
typedef struct FileLock FileLock;
int lock_take(FileLock **out, const char *dir);
void lock_drop(FileLock **l);
/* Before anything is written that another owner would miss: is the folder still there (ERR_IO) and
 * ours (ERR_CONFIG)? NULL: nobody's lock, fine. lock_lost: what the thread saw, at no cost. */
int lock_check(const FileLock *l);
bool lock_lost(const FileLock *l);
/* Does a run live in the folder? As lock_take would judge it, but nothing is written; who (may be
 * NULL): "process 12 on host n1 (job slurm 7.0)". */
bool lock_held(const char *dir, char who[256]);
/* Between two touches; for an owner on this machine to end. Tests shorten them. */
extern int lock_beat_ms, lock_wait_ms;

#endif
