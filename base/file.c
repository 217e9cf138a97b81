/* file.c: files that survive.
 *
 * A durable write goes to a temporary file beside the target, which is fsync'ed and renamed over
 * it; then the directory is fsync'ed, because the new name lives there. Every return value is
 * checked, close() included: on network file systems that is where a full disk is reported. */
#include "base/file.h"

#include "base/error.h"
#include "base/hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { BLOCK = 1 << 20 };

int file_error(const char *path, const char *call) {
    int e = errno;
    const char *hint = "";
    switch (e) {
    case ENOENT: hint = "; check the path"; break;
    case EACCES:
    case EPERM:
    case EROFS: hint = "; check the permissions of the file and its folder"; break;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: hint = "; free space there (df, df -i) or write to another file system"; break;
    case EISDIR: hint = "; name a file in it"; break;
    case EIO: hint = "; the disk or the network file system fails: see dmesg"; break;
    case EMFILE:
    case ENFILE: hint = "; raise the limit of open files (ulimit -n)"; break;
    default: break;
    }
    return error_set(ERR_IO, "%s: %s: %s%s", path, call, strerror(e), hint);
}

/* Writes all of it; false leaves the reason in errno. */
static bool write_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, data, len < (1u << 30) ? len : 1u << 30);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        if (n == 0) {
            errno = EIO;
            return false;
        }
        data += n;
        len -= (size_t)n;
    }
    return true;
}

int file_sync(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return file_error(path, "open for fsync");
    int rc = 0;
    /* Some file systems know no fsync of a directory and say EINVAL. */
    if (fsync(fd) != 0 && !(errno == EINVAL && file_is_dir(path))) rc = file_error(path, "fsync");
    if (close(fd) != 0 && rc == 0) rc = file_error(path, "close");
    return rc;
}

static char *parent_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return xstrdup(".");
    if (slash == path) return xstrdup("/");
    return xasprintf("%.*s", (int)(slash - path), path);
}

static int sync_parent(const char *path) {
    AUTOFREE char *dir = parent_of(path);
    return file_sync(dir);
}

int file_rename_durable(const char *from, const char *to) {
    TRY(file_sync(from));
    if (rename(from, to) != 0) return file_error(to, "rename into place");
    return sync_parent(to);
}

static int write_and_sync(const char *path, const void *data, size_t len) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return file_error(path, "create");
    int rc = 0;
    if (!write_all(fd, data, len)) rc = file_error(path, "write");
    if (rc == 0 && fsync(fd) != 0 && errno != EINVAL) rc = file_error(path, "fsync"); /* a pipe */
    if (close(fd) != 0 && rc == 0) rc = file_error(path, "close");
    return rc;
}

int file_write_durable(const char *path, const void *data, size_t len) {
    struct stat st; /* a device or a pipe is written to, not replaced */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) return write_and_sync(path, data, len);
    AUTOFREE char *temporary = xasprintf("%s.tmp.%ld", path, (long)getpid());
    int rc = write_and_sync(temporary, data, len);
    if (rc == 0 && rename(temporary, path) != 0) rc = file_error(path, "rename into place");
    if (rc == 0)
        rc = sync_parent(path);
    else
        unlink(temporary);
    return rc;
}

int file_read(const char *path, char **data, size_t *len) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return file_error(path, "open");
    struct stat st;
    size_t n = 0, room = 4096;
    if (fstat(fd, &st) == 0 && st.st_size > 0) room = (size_t)st.st_size + 1;
    char *buffer = xmalloc(room + 1);
    int rc = 0;
    for (;;) { /* to the end, not to st_size: files in /proc have none */
        if (n == room) buffer = xrealloc(buffer, (room *= 2) + 1);
        ssize_t got = read(fd, buffer + n, room - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) rc = file_error(path, "read");
        if (got <= 0) break;
        n += (size_t)got;
    }
    close(fd);
    if (rc < 0) {
        free(buffer);
        return rc;
    }
    buffer[n] = '\0';
    *data = buffer;
    *len = n;
    return 0;
}

int file_append(const char *path, const void *data, size_t len) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return file_error(path, "open for appending");
    off_t before = lseek(fd, 0, SEEK_END);
    ssize_t n;
    do n = write(fd, data, len);
    while (n < 0 && errno == EINTR);
    int rc = 0;
    if (n < 0) rc = file_error(path, "append");
    if (n >= 0 && (size_t)n < len) { /* leave no half record behind */
        errno = before >= 0 && ftruncate(fd, before) != 0 ? errno : ENOSPC;
        rc = file_error(path, "append");
    }
    if (close(fd) != 0 && rc == 0) rc = file_error(path, "close");
    return rc;
}

/* Some file systems know only at close() that the disk is full. */
static void check_output(int status, void *unused) {
    if (status >= error_exit_code(ERR_USAGE))
        return; /* an error that was reported; less is a result */
    errno = 0;
    const bool flushed = fflush(stdout) == 0 && !ferror(stdout);
    if (flushed && (close(STDOUT_FILENO) == 0 || errno == EBADF)) return;
    struct pollfd reader = {.fd = STDOUT_FILENO};
    if (errno == EPIPE || (poll(&reader, 1, 0) > 0 && reader.revents & POLLERR)) return;
    if (errno)
        file_error("standard output", "write");
    else
        error_set(ERR_IO, "standard output: some of it could not be written; free space there");
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, error_message());
    _exit(error_exit_code(ERR_IO));
}

void file_check_output(void) {
    static bool checked;
    if (!checked) on_exit(check_output, NULL);
    checked = true;
}

char *file_home(char *path) {
    const char *home = getenv("HOME");
    if (*path != '~' || (path[1] && path[1] != '/') || !home || !*home) return path;
    char *full = xasprintf("%s%s", home, path + 1);
    free(path);
    return full;
}

bool file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool file_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int64_t file_size(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

int file_make_dirs(const char *path) {
    AUTOFREE char *p = xstrdup(path);
    int rc = 0;
    for (size_t i = 1; rc == 0; i++) {
        if (p[i - 1] == '\0') break;
        if (p[i] != '/' && p[i] != '\0') continue;
        char was = p[i];
        p[i] = '\0';
        const int reason = mkdir(p, 0777) != 0 ? errno : 0;
        if (!file_is_dir(p)) { /* which sets errno */
            errno = reason && reason != EEXIST ? reason : ENOTDIR;
            rc = file_error(p, "make folder");
        }
        p[i] = was;
    }
    return rc;
}

int file_free_space(const char *path, int64_t *bytes) {
    struct statvfs v;
    char *p = xstrdup(path);
    while (!file_exists(p)) { /* of a file that is still to be written: its nearest folder */
        char *up = parent_of(p);
        bool top = strcmp(up, p) == 0;
        free(p);
        p = up;
        if (top) break;
    }
    int rc = statvfs(p, &v) == 0 ? 0 : file_error(p, "statvfs");
    if (rc == 0) *bytes = (int64_t)(v.f_bavail * v.f_frsize);
    free(p);
    return rc;
}

int file_hash(const char *path, uint64_t *xxh3) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return file_error(path, "open");
    AUTOFREE char *block = xmalloc(BLOCK);
    HashStream *stream = hash_begin();
    int rc = 0;
    for (;;) {
        ssize_t n = read(fd, block, BLOCK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) rc = file_error(path, "read");
        if (n <= 0) break;
        hash_add(stream, block, (size_t)n);
    }
    uint64_t hash, unused[2];
    hash_end(&stream, &hash, unused);
    if (rc == 0) *xxh3 = hash;
    close(fd);
    return rc;
}

int file_remove(const char *path) {
    if (unlink(path) != 0 && errno != ENOENT) return file_error(path, "remove");
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void push_name(char ***list, int *n, char *name) {
    *list = xrealloc(*list, (size_t)(*n + 1) * sizeof **list);
    (*list)[(*n)++] = name;
}

int file_list(const char *dir, char ***names, int *n) {
    DIR *d = opendir(dir);
    if (!d) return file_error(dir, "list folder");
    char **v = NULL;
    int count = 0, rc = 0;
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (!e) {
            if (errno) rc = file_error(dir, "list folder");
            break;
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        push_name(&v, &count, xstrdup(e->d_name));
    }
    closedir(d);
    if (rc < 0) {
        file_free_list(&v, count);
        return rc;
    }
    if (count) qsort(v, (size_t)count, sizeof *v, by_name);
    *names = v;
    *n = count;
    return 0;
}

int file_glob(const char *const *names, int n, char ***out, int *nout) {
    *out = NULL;
    *nout = 0;
    for (int i = 0; i < n; i++) {
        if (!strpbrk(names[i], "*?[") || file_exists(names[i])) {
            push_name(out, nout, xstrdup(names[i]));
            continue;
        }
        glob_t found;
        int rc = glob(names[i], 0, NULL, &found);
        for (size_t k = 0; rc == 0 && k < found.gl_pathc; k++)
            push_name(out, nout, xstrdup(found.gl_pathv[k]));
        globfree(&found);
        if (rc == 0) continue;
        file_free_list(out, *nout);
        return error_set(ERR_IO, "%s: no file matches the pattern; check the folder and the name",
                         names[i]);
    }
    return 0;
}

void file_free_list(char ***names, int n) {
    for (int i = 0; i < n; i++) free((*names)[i]);
    free(*names);
    *names = NULL;
}

const char *file_basename(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *file_join(const char *dir, const char *name) {
    size_t n = strlen(dir);
    if (n == 0) return xstrdup(name);
    return xasprintf("%s%s%s", dir, dir[n - 1] == '/' ? "" : "/", name);
}
