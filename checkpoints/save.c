/* save.c: writing a checkpoint so that a kill at any moment loses nothing.
 *
 *   1. free space
 *   2. step_N.h5.tmp.<pid> is written and closed     a kill leaves a temporary
 *   3. reopened; every array's hash compared
 *   4. fsync, rename to step_N.h5, fsync the directory   a kill leaves a file without manifest
 *   5. step_N.json, in the same way                   the commit
 *
 * When step N is saved again (a run resumed at N that is asked to save at once), the committed pair
 * is first linked to step_N.old.*, so that between 4 and 5 N is still there.
 *
 * Every write is checked up to the close: HDF5 reports a full disk only there. Fault points:
 * ckpt_save.begin, .array (before each), .written, .verified, .renamed, .committed. */
#include "checkpoints/checkpoint.h"

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoints/manifest.h"
#include "dist/fault.h"

#include <errno.h>
#include <inttypes.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int64_t elements(const CkptArray *a) {
    int64_t n = 1;
    for (int i = 0; i < a->ndim; i++) n *= a->shape[i];
    return n;
}
static size_t bytes_of(const CkptArray *a) {
    return (size_t)elements(a) * h5_type_size(a->type);
}

void ckpt_set_part(CkptArray *a, int64_t begin, int64_t end) {
    CHECK(0 <= begin && begin <= end && end <= elements(a),
          "%s: part %" PRId64 " to %" PRId64 " of %" PRId64, a->name, begin, end, elements(a));
    if (begin == end) begin = end = elements(a); /* an end of 0 would mean the whole array */
    a->begin = begin;
    a->end = end;
}

/* The texts are datasets of bytes like the arrays, so that both are written and verified alike.
 * Returns all of them; `meta` is the JSON text. The caller frees the list. */
static CkptArray *all_arrays(const CkptContent *c, const char *meta, int *n) {
    CkptArray *v = xcalloc((size_t)c->narrays + 3, sizeof *v);
    memcpy(v, c->arrays, (size_t)c->narrays * sizeof *v);
    *n = c->narrays;
    const char *text[3] = {meta, c->config ? c->config : "", c->tokenizer ? c->tokenizer : ""};
    static const char *const name[3] = {"meta", "config", "tokenizer"};
    for (int i = 0; i < 3; i++)
        v[(*n)++] = (CkptArray){.name = name[i],
                                .type = H5_U8,
                                .ndim = 1,
                                .shape = {(int64_t)strlen(text[i])},
                                .data = (void *)(uintptr_t)text[i]};
    return v;
}

static int check_space(const char *dir, const CkptArray *v, int n) {
    int64_t need = 1 << 20, have = 0;
    for (int i = 0; i < n; i++) need += (int64_t)bytes_of(&v[i]) + 1024;
    need += need / 10;
    TRY(file_free_space(dir, &have));
    if (have < need)
        return error_set(ERR_IO,
                         "%s: %.1f MB free, a checkpoint needs up to %.1f MB; free space, or move "
                         "run.dir to another file system",
                         dir, (double)have / 1e6, (double)need / 1e6);
    return 0;
}

static int write_file(const char *path, const CkptContent *c, const CkptArray *v, int n,
                      uint64_t *hashes) {
    H5 *h = NULL;
    char hex[17];
    int rc = 0, close_rc;
    TRY(h5_create(&h, path));
    TRY_GOTO(done, h5_set_i64(h, "/", "format", CKPT_FORMAT));
    TRY_GOTO(done, h5_set_str(h, "/", "version", RHETOR_VERSION));
    TRY_GOTO(done, h5_set_str(h, "/", "stage", c->stage));
    TRY_GOTO(done, h5_set_i64(h, "/", "step", c->step));
    for (int i = 0; i < n; i++) {
        bool text = i >= c->narrays;
        TRY_GOTO(done, fault_point("ckpt_save.array"));
        TRY_GOTO(done, h5_write(h, v[i].name, v[i].type, v[i].ndim, v[i].shape, v[i].data,
                                !c->compress ? H5_RAW
                                : text       ? H5_ZSTD
                                             : H5_SHUFFLE_ZSTD));
        hashes[i] = hash_bytes(v[i].data, bytes_of(&v[i]));
        snprintf(hex, sizeof hex, "%016" PRIx64, hashes[i]);
        TRY_GOTO(done, h5_set_str(h, v[i].name, CKPT_HASH, hex));
    }
done:
    close_rc = h5_close(&h);
    return rc < 0 ? rc : close_rc;
}

/* What lies on disk is what lay in memory. */
static int verify_file(const char *path, const CkptArray *v, int n, const uint64_t *hashes) {
    H5 *h = NULL;
    size_t largest = 0;
    for (int i = 0; i < n; i++)
        if (bytes_of(&v[i]) > largest) largest = bytes_of(&v[i]);
    TRY(h5_open(&h, path));
    void *buffer = xmalloc(largest);
    int rc = 0;
    for (int i = 0; i < n; i++) {
        TRY_GOTO(done, h5_read(h, v[i].name, v[i].type, buffer, elements(&v[i])));
        if (hash_bytes(buffer, bytes_of(&v[i])) == hashes[i]) continue;
        rc = error_set(ERR_IO,
                       "%s: %s reads back otherwise than it was written: the disk or the memory "
                       "of this machine fails; see dmesg",
                       path, v[i].name);
        goto done;
    }
done:
    free(buffer);
    h5_close(&h);
    return rc;
}

/* --- saving a step again ------------------------------------------------------------------------
 */
typedef struct Pair {
    char *file, *manifest;
} Pair;

static Pair pair_of(const char *file) {
    return (Pair){xstrdup(file), manifest_path(file)};
}
/* name.h5 -> name.old.h5 */
static Pair aside_of(const char *file) {
    char *aside =
        xasprintf("%.*s%s%s", (int)(strlen(file) - strlen(CKPT_FILE)), file, CKPT_ASIDE, CKPT_FILE);
    Pair p = pair_of(aside);
    free(aside);
    return p;
}
static void free_pair(Pair *p) {
    free(p->file);
    free(p->manifest);
}
static int remove_pair(const Pair *p) {
    TRY(file_remove(p->manifest)); /* first: without it the file does not count */
    return file_remove(p->file);
}

static int link_to(const char *from, const char *to) {
    if (link(from, to) == 0) return 0;
    return error_set(ERR_IO,
                     "%s: cannot be set aside as %s (%s), so this step is not saved again; remove "
                     "it by hand if it is not wanted",
                     from, file_basename(to), strerror(errno));
}

/* A pair left aside by a kill stays as long as the current one is not good: it may be the only one.
 */
static int set_aside(const char *dir, const Pair *current, const Pair *aside) {
    Manifest m;
    if (!file_exists(current->manifest) || manifest_verify(&m, current->file) < 0) return 0;
    TRY(remove_pair(aside));
    TRY(link_to(current->file, aside->file));
    TRY(link_to(current->manifest, aside->manifest));
    return file_sync(dir);
}

/* --- the protocol -------------------------------------------------------------------------------
 */
static int save_file(const char *dir, const char *file, const CkptContent *c, const CkptArray *v,
                     int n, int ranks) {
    Pair current = pair_of(file), aside = aside_of(file);
    char *temporary = xasprintf("%s.tmp.%ld", current.file, (long)getpid());
    uint64_t *hashes = xcalloc((size_t)n, sizeof *hashes);
    Manifest m = {.step = c->step,
                  .arrays = c->narrays,
                  .ranks = ranks,
                  .threads = omp_get_max_threads(),
                  .kernel = json_string_value(json_object_get(c->meta, "kernel"))};
    const char *config = c->config ? c->config : "";
    m.config_hash = hash_bytes(config, strlen(config));
    snprintf(m.stage, sizeof m.stage, "%s", c->stage);
    bool renamed = false;
    int rc;

    TRY_GOTO(done, file_make_dirs(dir));
    TRY_GOTO(done, check_space(dir, v, n));
    TRY_GOTO(done, fault_point("ckpt_save.begin"));
    TRY_GOTO(done, write_file(temporary, c, v, n, hashes));
    TRY_GOTO(done, fault_point("ckpt_save.written"));
    TRY_GOTO(done, verify_file(temporary, v, n, hashes));
    m.bytes = file_size(temporary);
    TRY_GOTO(done, file_hash(temporary, &m.hash));
    TRY_GOTO(done, fault_point("ckpt_save.verified"));

    TRY_GOTO(done, set_aside(dir, &current, &aside));
    TRY_GOTO(done, file_rename_durable(temporary, current.file));
    renamed = true;
    TRY_GOTO(done, fault_point("ckpt_save.renamed"));
    TRY_GOTO(done, manifest_write(&m, current.file));
    renamed = false;                    /* committed */
    fault_point("ckpt_save.committed"); /* from here on nothing can fail */
    if (remove_pair(&aside) < 0) log_warn("%s", error_message());
done:
    if (rc < 0) {
        char *why = xstrdup(error_message());
        file_remove(temporary);
        if (renamed && file_exists(aside.manifest)) {
            file_rename_durable(aside.file, current.file);
            file_rename_durable(aside.manifest, current.manifest);
            file_remove(aside.manifest); /* renaming a file to another link of it does nothing */
        } else if (renamed) {
            remove_pair(&current);
        }
        rc = error_set(rc, "%s", why);
        free(why);
    }
    free(hashes);
    free(temporary);
    free_pair(&current);
    free_pair(&aside);
    return rc;
}

static int save(const char *dir, const char *file, const CkptContent *content, int ranks) {
    CHECK(content->step >= 0 && strlen(content->stage) < sizeof((Manifest){0}).stage,
          "step %" PRId64 ", stage %s", content->step, content->stage);
    char *meta = json_dumps(content->meta, JSON_SORT_KEYS | JSON_COMPACT);
    if (!meta)
        return error_set(ERR_INTERNAL, "step %" PRId64 ": meta is not a JSON object",
                         content->step);
    int n;
    CkptArray *v = all_arrays(content, meta, &n);
    int rc = save_file(dir, file, content, v, n, ranks);
    free(v);
    free(meta);
    return rc;
}

/* The ranks' parts of array a, joined. */
static int join_parts(const CkptArray *a, Comm *c, void **out) {
    const int size = comm_size(c);
    const size_t each = h5_type_size(a->type);
    const int64_t mine[2] = {a->begin, a->end}, total = elements(a);
    size_t *at = xcalloc((size_t)size + 1, sizeof *at);
    char *parts, *data;
    comm_allgather_bytes(c, mine, sizeof mine, &parts, at);
    const int64_t *part = (const int64_t *)(const void *)parts;
    comm_allgather_bytes(c, a->data, (size_t)(a->end - a->begin) * each, &data, at);
    char *all = xmalloc((size_t)total * each);
    int64_t covered = 0;
    bool more = true;
    while (more) { /* who goes on where the covered ends? */
        more = false;
        for (int r = 0; r < size && !more; r++) {
            const int64_t begin = part[2 * r], end = part[2 * r + 1];
            if (begin != covered || end == begin) continue;
            memcpy(all + (size_t)begin * each, data + at[r], (size_t)(end - begin) * each);
            covered = end;
            more = true;
        }
    }
    free(data);
    free(parts);
    free(at);
    *out = all;
    if (covered == total) return 0;
    return error_set(ERR_INTERNAL,
                     "%s: the ranks' parts do not cover it: no part begins at %" PRId64, a->name,
                     covered);
}

int ckpt_save(const char *dir, const CkptContent *content, Comm *c) {
    int rc = 0;
    if (!comm_equal_u64(c, (uint64_t)content->step))
        return error_set(ERR_INTERNAL, "the ranks are at different steps, this one at %" PRId64,
                         content->step);
    CkptContent whole = *content;
    CkptArray *v = xcalloc((size_t)content->narrays, sizeof *v);
    whole.arrays = v;
    for (int i = 0; i < content->narrays; i++) {
        v[i] = content->arrays[i];
        if (v[i].end == 0) continue;
        int joined = join_parts(&content->arrays[i], c, &v[i].data);
        if (rc == 0) rc = joined;
    }
    if (comm_rank(c) == 0 && rc == 0) {
        char *file = manifest_name(dir, content->step, false, CKPT_FILE);
        rc = save(dir, file, &whole, comm_size(c));
        if (rc < 0) rc = error_wrap(rc, "cannot save step %" PRId64, content->step);
        free(file);
    }
    for (int i = 0; i < content->narrays; i++)
        if (v[i].end > 0) free(v[i].data);
    free(v);
    return comm_agree(c, rc);
}

int ckpt_save_file(const char *path, const CkptContent *content) {
    const size_t len = strlen(path), end = strlen(CKPT_FILE);
    const char *name = file_basename(path);
    if (strlen(name) <= end || strcmp(path + len - end, CKPT_FILE) != 0)
        return error_set(ERR_USAGE, "%s: expected a name that ends with %s", path, CKPT_FILE);
    char *manifest = manifest_path(path);
    const char *there = file_exists(path) ? path : file_exists(manifest) ? manifest : NULL;
    char *dir = name == path ? xstrdup(".") : xasprintf("%.*s", (int)(name - path), path);
    int rc = there ? error_set(ERR_USAGE, "%s: is there already; remove it or choose another name",
                               there)
                   : save(dir, path, content, 1);
    free(dir);
    free(manifest);
    return rc;
}
