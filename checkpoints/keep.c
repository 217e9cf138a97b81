/* keep.c: which checkpoints of a directory stay: rotation, the best, those marked as kept; and
 * taking one elsewhere. Files without a manifest were never committed. */
#include "checkpoints/checkpoint.h"

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "checkpoints/manifest.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- rotating --------------------------------------------------------------------------------- */
static bool is_listed(int64_t step, const int64_t *keep, int nkeep) {
    for (int i = 0; i < nkeep; i++)
        if (keep[i] == step) return true;
    return false;
}

/* Files whose manifest is gone (a kill between the two removals) or never came (a kill between the
 * two renames), of steps that a good checkpoint has left behind. */
static int remove_uncommitted(const char *dir, int64_t before) {
    char **names;
    int n, rc = 0;
    TRY(file_list(dir, &names, &n));
    for (int i = 0; i < n; i++) {
        Name name = manifest_parse_name(names[i]);
        if (name.kind != NAME_FILE || name.step >= before) continue;
        AUTOFREE char *path = file_join(dir, names[i]), *manifest = manifest_path(path);
        if (!file_exists(manifest)) {
            log_info("%s: was never committed; removed", path);
            if (rc >= 0) rc = file_remove(path);
        }
    }
    file_free_list(&names, n);
    return rc;
}

/* From the newest: nothing goes before one that verifies has been met, and that one stays. A
 * damaged one does not count as kept, and stays for inspection. */
static int rotate(const char *dir, int64_t saved, int64_t keep_last, const int64_t *keep,
                  int nkeep) {
    TRY(manifest_remove_temporaries(dir));
    AUTOFREE Committed *v = NULL;
    int n, rc = 0;
    TRY(manifest_list(dir, &v, &n));
    int64_t kept = 0, good = -1;
    for (int i = 0; i < n && rc >= 0; i++) {
        AUTOFREE char *file = manifest_name(dir, v[i].step, v[i].aside, CKPT_FILE);
        if (good < 0) {
            Manifest m;
            if ((v[i].step == saved && !v[i].aside) || manifest_verify(&m, file) >= 0) {
                good = v[i].step;
                kept++;
            } else {
                log_warn("%s; it is left where it is", error_message());
            }
        } else if (!v[i].aside && kept < keep_last) {
            kept++;
        } else if (v[i].aside || !is_listed(v[i].step, keep, nkeep)) {
            rc = manifest_remove_pair(file);
        }
    }
    if (rc >= 0 && good >= 0) rc = remove_uncommitted(dir, good);
    return rc;
}

int ckpt_rotate(const char *dir, int64_t saved, int64_t keep_last, const int64_t *keep, int nkeep,
                Comm *c) {
    return comm_agree(c, comm_rank(c) == 0 ? rotate(dir, saved, keep_last, keep, nkeep) : 0);
}

/* --- the best --------------------------------------------------------------------------------- */
int ckpt_mark_best(const char *dir, int64_t step, double value, Comm *c) {
    int rc = 0;
    if (comm_rank(c) == 0) {
        CHECK(isfinite(value), "the best value is %g", value);
        json_auto_t *j = json_pack("{s:I, s:f}", "step", (json_int_t)step, "value", value);
        AUTOFREE char *path = file_join(dir, "best.json");
        rc = json_write_file(j, path);
    }
    return comm_agree(c, rc);
}

int64_t ckpt_best_step(const char *dir, double *value) {
    AUTOFREE char *path = file_join(dir, "best.json");
    json_auto_t *j = NULL;
    int64_t step = -1;
    double v = 0;
    if (file_exists(path)) {
        int rc = json_read_file(&j, path);
        if (rc >= 0) rc = json_get_i64(j, "step", &step);
        if (rc >= 0) rc = json_get_f64(j, "value", &v);
        if (rc < 0) {
            log_warn("%s: %s; it is ignored", path, error_message());
            step = -1;
        }
    }
    if (value && step >= 0) *value = v;
    return step;
}

/* --- kept and taken --------------------------------------------------------------------------- */
static int is_kept(const char *file, bool *kept) {
    Ckpt *k;
    TRY(ckpt_open(&k, file, NULL));
    *kept = json_is_true(json_object_get(ckpt_meta(k), "kept"));
    ckpt_close(&k);
    return 0;
}

int ckpt_list_kept(const char *run, int64_t **step, char ***path, int *n) {
    AUTOFREE char *dir = manifest_folder(run);
    AUTOFREE Committed *v = NULL;
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
    return rc < 0 ? rc : 0;
}

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int link_or_copy(const char *from, const char *to) {
    AUTOFREE char *data = NULL;
    size_t len;
    TRY(file_remove(to));
    if (link(from, to) == 0) return 0;
    TRY(file_read(from, &data, &len));
    return file_write_durable(to, data, len);
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
            AUTOFREE char *path = file_join(dir, names[i]);
            rc = file_remove(path);
        }
    file_free_list(&names, n);
    return rc;
}

int ckpt_take(const char *file, const char *dir) {
    Manifest m;
    TRY(manifest_verify(&m, file));
    AUTOFREE char *mine = manifest_name(dir, m.step, false, CKPT_FILE);
    AUTOFREE char *manifest = manifest_path(file), *my_manifest = manifest_path(mine);
    int rc = 0;
    if (!same_file(file, mine) || !same_file(manifest, my_manifest)) {
        rc = file_remove(my_manifest); /* the manifest is the commit: it goes first, comes last */
        if (rc >= 0) rc = link_or_copy(file, mine);
        if (rc >= 0) rc = link_or_copy(manifest, my_manifest);
    }
    if (rc >= 0) rc = remove_others(dir, m.step);
    if (rc >= 0) rc = file_sync(dir);
    return rc < 0 ? rc : 0;
}
