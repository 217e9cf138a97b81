/* kept.c: the checkpoints of a run that stay, and taking one of them elsewhere. */
#include "checkpoints/checkpoint.h"

#include "base/error.h"
#include "base/file.h"
#include "checkpoints/manifest.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_kept(const char *file, bool *kept) {
    Ckpt *k;
    TRY(ckpt_open(&k, file));
    *kept = json_is_true(json_object_get(ckpt_meta(k), "kept"));
    ckpt_close(&k);
    return 0;
}

int ckpt_list_kept(const char *run, int64_t **step, char ***path, int *n) {
    char *dir = file_join(run, "checkpoints");
    if (!file_is_dir(dir)) {
        free(dir);
        dir = xstrdup(run);
    }
    Committed *v;
    int found, rc = manifest_list(dir, &v, &found);
    *step = xcalloc((size_t)found + 1, sizeof **step);
    *path = xcalloc((size_t)found + 1, sizeof **path);
    *n = 0;
    for (int i = found - 1; i >= 0 && rc >= 0; i--) { /* from the oldest */
        if (v[i].aside) continue;
        char *file = manifest_name(dir, v[i].step, false, CKPT_FILE);
        bool kept = false;
        rc = is_kept(file, &kept);
        if (rc >= 0 && (kept || v[i].step == v[0].step)) {
            (*step)[*n] = v[i].step;
            (*path)[(*n)++] = file;
        } else
            free(file);
    }
    if (rc >= 0 && *n == 0)
        rc = error_set(ERR_DATA, "%s: holds no checkpoint (step_*.h5 with its .json)", dir);
    if (rc < 0) {
        while (*n > 0) free((*path)[--*n]);
        free(*step);
        free(*path);
    }
    free(v);
    free(dir);
    return rc < 0 ? rc : 0;
}

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int link_or_copy(const char *from, const char *to) {
    char *data;
    size_t len;
    TRY(file_remove(to));
    if (link(from, to) == 0) return 0;
    TRY(file_read(from, &data, &len));
    int rc = file_write_durable(to, data, len);
    free(data);
    return rc;
}

/* Manifests first: without it a file does not count. */
static int remove_others(const char *dir, int64_t step) {
    char **names;
    int n, rc = 0;
    TRY(file_list(dir, &names, &n));
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n && rc >= 0; i++) {
            const Name name = manifest_parse_name(names[i]);
            const bool mine = name.step == step && !name.aside && name.kind != NAME_TEMPORARY;
            if (name.kind == NAME_OTHER || mine || (name.kind == NAME_MANIFEST) != (pass == 0))
                continue;
            char *path = file_join(dir, names[i]);
            rc = file_remove(path);
            free(path);
        }
    file_free_list(&names, n);
    return rc;
}

int ckpt_take(const char *file, const char *dir) {
    Manifest m;
    TRY(manifest_verify(&m, file));
    char *mine = manifest_name(dir, m.step, false, CKPT_FILE);
    char *manifest = manifest_path(file), *my_manifest = manifest_path(mine);
    int rc = 0;
    if (!same_file(file, mine) || !same_file(manifest, my_manifest)) {
        rc = file_remove(my_manifest); /* the manifest is the commit: it goes first, comes last */
        if (rc >= 0) rc = link_or_copy(file, mine);
        if (rc >= 0) rc = link_or_copy(manifest, my_manifest);
    }
    if (rc >= 0) rc = remove_others(dir, m.step);
    if (rc >= 0) rc = file_sync(dir);
    free(mine);
    free(manifest);
    free(my_manifest);
    return rc < 0 ? rc : 0;
}
