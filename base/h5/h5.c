/* h5.c: HDF5 itself, its files and the names in them; h5_impl.h lists the other files that talk to
 * it.
 *
 * What HDF5 is used for: a hierarchy of named, typed arrays in a documented format that others can
 * read. What we do ourselves: cutting arrays into chunks, shuffling, compressing and checking them
 * in threads (HDF5's filters run in one), because H5Dwrite_chunk and H5Dread_chunk let us.
 *
 * Every byte of a file is under a checksum: metadata by format V110, compressed chunks by zstd's
 * frame checksum, raw ones by fletcher32. Strings are of fixed length, because HDF5 keeps those of
 * variable length in a heap without checksums, and attributes stay in the object headers for the
 * same reason. Creation times are left out, so equal content makes equal files.
 *
 * A file may come from anybody. HDF5 would follow what a file says lies elsewhere (external
 * storage, virtual datasets, links), so h5_open looks at every link and refuses a file that has
 * such.
 *
 * HDF5 need not be thread-safe: one thread at a time is in a function that others call (IN_TURN),
 * and inside parallel loops HDF5 is called in `ordered` blocks only. Where it is (Debian's), each
 * thread has its own stack of errors, whose printing must be switched off. */
#include "base/h5/h5.h"

#include "base/error.h"
#include "base/file.h"
#include "base/h5/h5_impl.h"
#include "base/h5/h5_zstd.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t turn = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

int h5_begin_turn(void) { return pthread_mutex_lock(&turn); }
void h5_end_turn(const int *unused) { pthread_mutex_unlock(&turn); }

/* --- errors ----------------------------------------------------------------------------------- */
static herr_t first_entry(unsigned n, const H5E_error2_t *e, void *ctx) {
    if (n == 0) snprintf(ctx, 512, "%s", e->desc ? e->desc : "");
    return 0;
}

/* HDF5's innermost message; of its long text on a failed system call only strerror's words. */
static void reason(char text[512]) {
    text[0] = '\0';
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_entry, text);
    H5Eclear2(H5E_DEFAULT);
    const char *mark = "error message = '";
    char *p = strstr(text, mark), *end;
    if (p && (end = strchr(p += strlen(mark), '\''))) {
        *end = '\0';
        memmove(text, p, strlen(p) + 1);
    }
    if (!text[0]) snprintf(text, 512, "no reason given by HDF5");
}

int h5_error(const H5 *h, const char *name, const char *what) {
    char why[512];
    reason(why);
    if (h->writing)
        return error_set(ERR_IO, "%s: %s: cannot %s: %s; check the free space and the file system",
                         h->path, name, what, why);
    return error_set(ERR_DATA,
                     "%s: %s: cannot %s: %s; the file is damaged or was not written to "
                     "its end: use another copy",
                     h->path, name, what, why);
}

bool h5_failed(H5Failure *f) {
    int rc;
#pragma omp atomic read
    rc = f->rc;
    return rc < 0;
}

void h5_fail(H5Failure *f, int rc) {
    if (rc >= 0) return;
#pragma omp critical(h5_failure)
    if (f->rc == 0) {
        f->message = xstrdup(error_message());
#pragma omp atomic write
        f->rc = rc;
    }
}

int h5_handed_up(H5Failure *f) {
    if (f->rc < 0) error_set(f->rc, "%s", f->message);
    free(f->message);
    return f->rc;
}

/* --- starting HDF5 ---------------------------------------------------------------------------- */
herr_t h5_be_quiet(void) { return H5Eset_auto2(H5E_DEFAULT, NULL, NULL); }

static int start_hdf5(void) {
    static bool started;
    if (started) return 0;
    /* After a failed close HDF5 would crash in its exit handler: it gets none. */
    if (H5dont_atexit() < 0 || H5open() < 0 || h5_be_quiet() < 0 || h5_zstd_register() < 0)
        return error_set(ERR_INTERNAL, "HDF5 does not start; is another HDF5 library loaded?");
    started = true;
    return 0;
}

/* Without its exit handler HDF5 keeps some memory to the end: nothing for LeakSanitizer. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libhdf5\n"; }

/* --- files ------------------------------------------------------------------------------------ */
static hid_t access_list(void) {
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    CHECK(list >= 0 && H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
              H5Pset_file_locking(list, 0, 1) >= 0 &&
              H5Pset_fclose_degree(list, H5F_CLOSE_STRONG) >= 0,
          "HDF5 property list");
    return list;
}

hid_t h5_creation_list(hid_t class) {
    hid_t list = H5Pcreate(class);
    CHECK(list >= 0 && H5Pset_obj_track_times(list, 0) >= 0 &&
              H5Pset_attr_phase_change(list, 1000, 0) >= 0,
          "HDF5 property list");
    return list;
}

static H5 *new_h5(const char *path, bool writing) {
    H5 *h = xcalloc(1, sizeof *h);
    h->path = xstrdup(path);
    h->writing = writing;
    h->unpacked = -1;
    return h;
}

static void free_h5(H5 **hp) {
    for (size_t i = 0; i < (*hp)->names; i++) free((*hp)->name[i]);
    free((*hp)->name);
    free((*hp)->path);
    free(*hp);
    *hp = NULL;
}

int h5_create(H5 **out, const char *path) {
    IN_TURN;
    *out = NULL;
    TRY(start_hdf5());
    /* Our own try first: its errno is clearer than HDF5's message. */
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return file_error(path, "create");
    close(fd);
    H5 *h = new_h5(path, true);
    hid_t access = access_list(), create = h5_creation_list(H5P_FILE_CREATE);
    h->file = H5Fcreate(path, H5F_ACC_TRUNC, create, access);
    int rc = h->file < 0 ? h5_error(h, "/", "create the file") : 0;
    H5Pclose(access);
    H5Pclose(create);
    if (rc < 0)
        free_h5(&h);
    else
        *out = h;
    return rc;
}

bool h5_is(const char *path) {
    char magic[8];
    FILE *f = fopen(path, "rb");
    const bool is = f && fread(magic, 1, 8, f) == 8 && memcmp(magic, "\211HDF\r\n\032\n", 8) == 0;
    if (f) fclose(f);
    return is;
}

/* Why a dataset's values lie outside the file; NULL: they do not. */
static const char *lies_elsewhere(hid_t dataset) {
    hid_t create = H5Dget_create_plist(dataset);
    const char *what = create < 0                             ? "a dataset without layout"
                       : H5Pget_layout(create) == H5D_VIRTUAL ? "a virtual dataset"
                       : H5Pget_external_count(create) != 0   ? "a dataset in external storage"
                                                              : NULL;
    if (create >= 0) H5Pclose(create);
    return what;
}

/* What a link leads to that we do not follow; NULL: a group or a dataset of this file. */
static const char *leads_elsewhere(hid_t at, const char *name, const H5L_info_t *info,
                                   bool *dataset) {
    if (info->type == H5L_TYPE_SOFT) return "a soft link";
    if (info->type == H5L_TYPE_EXTERNAL) return "an external link";
    if (info->type != H5L_TYPE_HARD) return "a user-defined link";
    hid_t object = H5Oopen(at, name, H5P_DEFAULT);
    const H5I_type_t kind = object < 0 ? H5I_BADID : H5Iget_type(object);
    *dataset = kind == H5I_DATASET;
    const char *what = *dataset            ? lies_elsewhere(object)
                       : kind == H5I_GROUP ? NULL
                       : kind == H5I_BADID ? "an object that cannot be opened"
                                           : "a committed datatype";
    if (object >= 0) H5Oclose(object);
    return what;
}

static herr_t list_link(hid_t at, const char *name, const H5L_info_t *info, void *file) {
    H5 *h = file;
    bool dataset = false;
    const char *what = leads_elsewhere(at, name, info, &dataset);
    if (what) {
        error_set(
            ERR_DATA,
            "%s: /%s is %s, which Rhetor neither writes nor follows: it may show the bytes of "
            "other files as this one's; do not use this file",
            h->path, name, what);
        return 1;
    }
    if (!dataset) return 0;
    h->name = xrealloc(h->name, sizeof *h->name * (h->names + 1));
    h->name[h->names++] = xasprintf("/%s", name);
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Whoever made the file: all that it holds lies in it. */
static int list_datasets(H5 *h) {
    const herr_t rc = H5Lvisit(h->file, H5_INDEX_NAME, H5_ITER_NATIVE, list_link, h);
    if (rc > 0) return ERR_DATA;
    if (rc < 0) return h5_error(h, "/", "list the datasets");
    if (h->names) qsort(h->name, h->names, sizeof *h->name, by_name);
    return 0;
}

int h5_open(H5 **out, const char *path) {
    IN_TURN;
    *out = NULL;
    TRY(start_hdf5());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return file_error(path, "open");
    const off_t bytes = lseek(fd, 0, SEEK_END);
    close(fd);
    if (bytes < 0 || file_is_dir(path)) {
        errno = EISDIR;
        return file_error(path, "read");
    }
    if (!h5_is(path))
        return error_set(ERR_DATA,
                         "%s: not an HDF5 file (%s); expected a checkpoint or corpus that "
                         "Rhetor wrote",
                         path, bytes == 0 ? "empty" : "wrong first bytes");
    H5 *h = new_h5(path, false);
    h->bytes = (int64_t)bytes;
    hid_t access = access_list();
    h->file = H5Fopen(path, H5F_ACC_RDONLY, access);
    int rc = h->file < 0 ? h5_error(h, "/", "open the file") : list_datasets(h);
    H5Pclose(access);
    if (rc < 0 && h->file >= 0) H5Fclose(h->file);
    if (rc < 0)
        free_h5(&h);
    else
        *out = h;
    return rc;
}

void h5_forget(H5 *h) {
    if (h->last.id > 0) H5Dclose(h->last.id); /* reading: nothing can be lost */
    free(h->last.name);
    h->last = (Data){0};
    h->unpacked = -1;
    free(h->chunk);
    h->chunk = NULL;
    chunker_free(&h->chunker);
}

int h5_close(H5 **hp) {
    IN_TURN;
    H5 *h = *hp;
    if (!h) return 0;
    int rc = 0;
    h5_forget(h);
    if (h->writing && H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0) rc = h5_error(h, "/", "flush");
    if (H5Fclose(h->file) < 0 && rc == 0) rc = h5_error(h, "/", "close the file");
    free_h5(hp);
    return rc;
}

/* --- names ------------------------------------------------------------------------------------ */

/* `name` with its leading '/', without trailing ones: "" for the root; malloc'd. */
static char *full_name(const char *name) {
    char *full = xasprintf("%s%s", *name == '/' ? "" : "/", name);
    size_t end = strlen(full);
    while (end > 0 && full[end - 1] == '/') full[--end] = '\0';
    return full;
}

static bool lies_in(const char *dataset, const char *full) {
    const size_t n = strlen(full);
    return strncmp(dataset, full, n) == 0 && (dataset[n] == '\0' || dataset[n] == '/');
}

bool h5_exists(H5 *h, const char *name) {
    AUTOFREE char *full = full_name(name);
    bool there = !*full;
    for (size_t i = 0; i < h->names && !there; i++) there = lies_in(h->name[i], full);
    return there;
}

int h5_missing(const H5 *h, const char *name) {
    return error_set(ERR_DATA,
                     "%s: no \"%s\" in this file; it is of another kind or version, or "
                     "incomplete",
                     h->path, name);
}

int h5_each(H5 *h, const char *group, H5Visit *fn, void *ctx) {
    IN_TURN;
    if (!h5_exists(h, group)) return h5_missing(h, group);
    AUTOFREE char *full = full_name(group);
    int rc = 0;
    for (size_t i = 0; i < h->names && rc >= 0; i++) {
        H5Type type = H5_U8;
        int ndim = 0;
        int64_t shape[H5_MAX_DIM];
        if (!lies_in(h->name[i], full)) continue;
        rc = h5_shape(h, h->name[i], &type, &ndim, shape);
        if (rc >= 0) rc = fn(ctx, h->name[i], type, ndim, shape);
    }
    return rc < 0 ? rc : 0;
}
