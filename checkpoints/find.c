/* find.c: which checkpoint a directory means, and which of them stay.
 *
 * A run finds its newest good checkpoint by walking the manifests from the newest; what is refused
 * is named, with the reason. Files without a manifest were never committed. */
#include "checkpoints/open.h"

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "checkpoints/manifest.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- finding ---------------------------------------------------------------------------------- */

/* The newest good one of dir; *out stays NULL, with 0, when there is none at all. */
static int open_good(Ckpt **out, const char *dir) {
    *out = NULL;
    Committed *v;
    int n;
    TRY(manifest_list(dir, &v, &n));
    int rc = 0;
    char *first = NULL; /* why the newest was refused */
    for (int i = 0; i < n && !*out; i++) {
        char *file = manifest_name(dir, v[i].step, v[i].aside, CKPT_FILE);
        rc = open_file(out, file, true);
        if (rc < 0) {
            if (!first) first = xstrdup(error_message());
            log_warn("%s%s", error_message(), i + 1 < n ? "; trying the next older one" : "");
        }
        free(file);
    }
    free(v);
    if (n > 0 && !*out)
        rc =
            error_set(ERR_DATA,
                      "%s: none of its %d checkpoints is good (the newest: %s); restore one from a "
                      "copy, or move the directory away to start anew",
                      dir, n, first);
    free(first);
    return rc < 0 && !*out ? rc : 0;
}

int ckpt_open_at(Ckpt **out, const char *path, bool prefer_best) {
    *out = NULL;
    if (!file_exists(path))
        return error_set(ERR_IO,
                         "%s: no such file or directory; expected a run directory or a "
                         "checkpoint",
                         path);
    if (!file_is_dir(path)) return ckpt_open(out, path);

    char *dir = file_join(path, "checkpoints");
    if (!file_is_dir(dir)) {
        free(dir);
        dir = xstrdup(path);
    }
    int64_t best = prefer_best ? ckpt_best_step(dir, NULL) : -1;
    int rc = 0;
    if (best >= 0) {
        char *file = manifest_name(dir, best, false, CKPT_FILE);
        rc = ckpt_open(out, file);
        if (rc < 0) log_warn("the best checkpoint: %s; trying the newest one", error_message());
        free(file);
    }
    if (!*out) rc = open_good(out, dir);
    if (rc >= 0 && !*out)
        rc = error_set(ERR_DATA,
                       "%s: holds no checkpoint (step_*.h5 with its .json); has the run "
                       "that writes there saved yet?",
                       dir);
    free(dir);
    return rc;
}

/* The caller owns the run directory (its lock) and is not inside a save: nobody writes here, and
 * every temporary is stale. Whether the process in its name lives says nothing: numbers come again.
 */
static int remove_stale(const char *dir) {
    char **names;
    int n, rc = 0;
    if (!file_exists(dir)) return 0;
    TRY(file_list(dir, &names, &n));
    for (int i = 0; i < n; i++) {
        Name name = manifest_parse_name(names[i]);
        if (name.kind != NAME_TEMPORARY) continue;
        char *path = file_join(dir, names[i]);
        log_info("%s: left by an interrupted save; removed", path);
        if (rc >= 0) rc = file_remove(path);
        free(path);
    }
    file_free_list(&names, n);
    return rc;
}

/* What the others open: rank 0's choice. They need not hash the bytes again, but must see the same
 * manifest. */
static int follow(Ckpt **out, const char *path, const char *id) {
    int rc = open_file(out, path, false);
    if (rc >= 0 && strcmp(ckpt_id(*out), id) != 0)
        rc = error_set(ERR_DATA, "%s: is another file than rank 0 sees", path);
    return rc < 0 ? error_wrap(rc, "all ranks must see one run directory, on a shared file system")
                  : 0;
}

int ckpt_open_newest(Ckpt **out, const char *dir, Comm *c) {
    *out = NULL;
    char path[4096] = "", id[17] = "";
    int rc = 0;
    if (comm_rank(c) == 0) {
        rc = remove_stale(dir);
        if (rc >= 0) rc = open_good(out, dir);
        if (*out && strlen(ckpt_path(*out)) >= sizeof path)
            rc = error_set(ERR_CONFIG, "%s: the path is too long; choose a shorter run.dir", dir);
        else if (*out) {
            strcpy(path, ckpt_path(*out));
            strcpy(id, ckpt_id(*out));
        }
    }
    rc = comm_agree(c, rc);
    if (rc >= 0) {
        comm_bcast(c, path, sizeof path, 0);
        comm_bcast(c, id, sizeof id, 0);
        if (*path && comm_rank(c) != 0) rc = follow(out, path, id);
        rc = comm_agree(c, rc);
    }
    if (rc < 0) ckpt_close(out);
    return rc;
}

/* --- rotating --------------------------------------------------------------------------------- */
static bool is_kept(int64_t step, const int64_t *keep, int nkeep) {
    for (int i = 0; i < nkeep; i++)
        if (keep[i] == step) return true;
    return false;
}

static int remove_pair(const char *dir, int64_t step, bool aside) {
    char *manifest = manifest_name(dir, step, aside, CKPT_MANIFEST);
    char *file = manifest_name(dir, step, aside, CKPT_FILE);
    int rc = file_remove(manifest); /* first: without it the file does not count */
    if (rc >= 0) rc = file_remove(file);
    free(manifest);
    free(file);
    return rc;
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
        char *path = file_join(dir, names[i]), *manifest = manifest_path(path);
        if (!file_exists(manifest)) {
            log_info("%s: was never committed; removed", path);
            if (rc >= 0) rc = file_remove(path);
        }
        free(path);
        free(manifest);
    }
    file_free_list(&names, n);
    return rc;
}

/* From the newest: nothing goes before one that verifies has been met, and that one stays. A
 * damaged one does not count as kept, and stays for inspection. */
static int rotate(const char *dir, int64_t keep_last, const int64_t *keep, int nkeep) {
    TRY(remove_stale(dir));
    Committed *v;
    int n, rc = 0;
    TRY(manifest_list(dir, &v, &n));
    int64_t kept = 0, good = -1;
    for (int i = 0; i < n && rc >= 0; i++) {
        if (good < 0) {
            Manifest m;
            char *file = manifest_name(dir, v[i].step, v[i].aside, CKPT_FILE);
            if (manifest_verify(&m, file) >= 0) {
                good = v[i].step;
                kept++;
            } else {
                log_warn("%s; it is left where it is", error_message());
            }
            free(file);
        } else if (!v[i].aside && kept < keep_last) {
            kept++;
        } else if (v[i].aside || !is_kept(v[i].step, keep, nkeep)) {
            rc = remove_pair(dir, v[i].step, v[i].aside);
        }
    }
    free(v);
    if (rc >= 0 && good >= 0) rc = remove_uncommitted(dir, good);
    return rc;
}

int ckpt_rotate(const char *dir, int64_t keep_last, const int64_t *keep, int nkeep, Comm *c) {
    return comm_agree(c, comm_rank(c) == 0 ? rotate(dir, keep_last, keep, nkeep) : 0);
}

/* --- the best --------------------------------------------------------------------------------- */
int ckpt_mark_best(const char *dir, int64_t step, double value, Comm *c) {
    int rc = 0;
    if (comm_rank(c) == 0) {
        CHECK(isfinite(value), "the best value is %g", value);
        json_t *j = json_object();
        json_object_set_new(j, "step", json_integer(step));
        json_object_set_new(j, "value", json_real(value));
        char *path = file_join(dir, "best.json");
        rc = json_write_file(j, path);
        free(path);
        json_decref(j);
    }
    return comm_agree(c, rc);
}

int64_t ckpt_best_step(const char *dir, double *value) {
    char *path = file_join(dir, "best.json");
    json_t *j = NULL;
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
    json_decref(j);
    free(path);
    return step;
}
