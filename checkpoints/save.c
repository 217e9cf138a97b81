/* save.c: writing a checkpoint so that a kill at any moment loses nothing.
 *
 *   1. free space
 *   2. all ranks write step_N.h5.tmp.<pid> (layout.c)     a kill leaves a temporary
 *   3. reopened; every chunk's hash compared
 *   4. fsync, rename to step_N.h5, fsync the directory   a kill leaves a file without manifest
 *   5. step_N.json, in the same way                      the commit
 *
 * When step N is saved again (a run resumed at N that is asked to save at once), the committed pair
 * is first linked to step_N.old.*, so that between 4 and 5 N is still there.
 *
 * Every write is checked up to the close: HDF5 reports a full disk only there. Fault points: on
 * every rank ckpt_save.begin, .window (before each), .written, .verify; on rank 0 .array (before
 * each is created), .verified, .renamed, .committed. */
#include "checkpoints/checkpoint.h"

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "checkpoints/layout.h"
#include "checkpoints/manifest.h"
#include "dist/fault.h"

#include <errno.h>
#include <inttypes.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void ckpt_set_part(CkptArray *a, int64_t begin, int64_t end) {
    CHECK(0 <= begin && begin <= end && end <= ckpt_elements(a),
          "%s: part %" PRId64 " to %" PRId64 " of %" PRId64, a->name, begin, end, ckpt_elements(a));
    if (begin == end) begin = end = ckpt_elements(a); /* an end of 0 would mean the whole array */
    a->begin = begin;
    a->end = end;
}

static int check_space(const char *dir, const CkptContent *c) {
    int64_t need = 1 << 20, have = 0;
    for (int i = 0; i < c->narrays; i++)
        need += ckpt_elements(&c->arrays[i]) * (int64_t)h5_type_size(c->arrays[i].type) + 1024;
    if (c->tokenizer) need += (int64_t)strlen(c->tokenizer);
    need += need / 10;
    TRY(file_free_space(dir, &have));
    if (have < need)
        return error_set(ERR_IO,
                         "%s: %.1f MB free, a checkpoint needs up to %.1f MB; free space, or move "
                         "run.dir to another file system",
                         dir, (double)have / 1e6, (double)need / 1e6);
    return 0;
}

/* --- saving a step again ---------------------------------------------------------------------- */
/* name.h5 -> name.old.h5 */
static char *aside_of(const char *file) {
    return xasprintf("%.*s%s%s", (int)(strlen(file) - strlen(CKPT_FILE)), file, CKPT_ASIDE,
                     CKPT_FILE);
}

static int link_to(const char *from, const char *to) {
    if (link(from, to) == 0) return 0;
    return error_set(ERR_IO,
                     "%s: cannot be set aside as %s (%s), so this step is not saved again; remove "
                     "it by hand if it is not wanted",
                     from, file_basename(to), strerror(errno));
}

/* A pair left aside by a kill stays as long as the current one is not good: it may be the only
 * one. */
static int set_aside(const char *dir, const char *file, const char *aside) {
    Manifest m;
    if (manifest_verify(&m, file) < 0) return 0;
    AUTOFREE char *manifest = manifest_path(file), *aside_manifest = manifest_path(aside);
    TRY(manifest_remove_pair(aside));
    TRY(link_to(file, aside));
    TRY(link_to(manifest, aside_manifest));
    return file_sync(dir);
}

/* The file was renamed into its place and could not be committed: what was set aside comes back. */
static void take_back(const char *file, const char *aside) {
    AUTOFREE char *manifest = manifest_path(file), *aside_manifest = manifest_path(aside);
    if (file_exists(aside_manifest)) {
        file_rename_durable(aside, file);
        file_rename_durable(aside_manifest, manifest);
        file_remove(aside_manifest); /* renaming a file to another link of it does nothing */
    } else {
        manifest_remove_pair(file);
    }
}

/* --- the protocol ----------------------------------------------------------------------------- */

/* From the verified temporary to the commit; rank 0's work. */
static int commit(const char *dir, const char *file, const char *temporary, Manifest *m) {
    AUTOFREE char *aside = aside_of(file);
    bool renamed = false;
    int rc;
    m->bytes = file_size(temporary);
    TRY_GOTO(done, file_hash(temporary, &m->hash));
    TRY_GOTO(done, fault_point("ckpt_save.verified"));
    TRY_GOTO(done, set_aside(dir, file, aside));
    TRY_GOTO(done, file_rename_durable(temporary, file));
    renamed = true;
    TRY_GOTO(done, fault_point("ckpt_save.renamed"));
    TRY_GOTO(done, manifest_write(m, file));
    renamed = false;                    /* committed */
    fault_point("ckpt_save.committed"); /* from here on nothing can fail */
    if (manifest_remove_pair(aside) < 0) log_warn("%s", error_message());
done:
    if (renamed) {
        AUTOFREE char *why = xstrdup(error_message());
        take_back(file, aside);
        rc = error_set(rc, "%s", why);
    }
    return rc;
}

static int prepare(const char *dir, const CkptContent *c) {
    TRY(file_make_dirs(dir));
    return check_space(dir, c);
}

/* Collective; file and dir matter on rank 0. */
static int save(const char *dir, const char *file, const CkptContent *c, Comm *comm) {
    CHECK(c->step >= 0 && strlen(c->stage) < sizeof((Manifest){0}).stage,
          "step %" PRId64 ", stage %s", c->step, c->stage);
    const bool first = comm_rank(comm) == 0;
    AUTOFREE char *temporary = xasprintf("%s.tmp.%ld", file, (long)getpid());
    Layout *layout = NULL;
    int rc = first ? prepare(dir, c) : 0;
    if (rc >= 0) rc = fault_point("ckpt_save.begin");
    TRY_GOTO(done, comm_agree(comm, rc));
    TRY_GOTO(done, layout_make(&layout, c->arrays, c->narrays, comm));
    TRY_GOTO(done, layout_write(layout, temporary, c));
    TRY_GOTO(done, comm_agree(comm, fault_point("ckpt_save.written")));
    if (!c->skip_verify) TRY_GOTO(done, layout_verify(layout, temporary));
    if (first) {
        Manifest m = {.step = c->step,
                      .arrays = c->narrays,
                      .config_hash = hash_text(c->config ? c->config : ""),
                      .ranks = comm_size(comm),
                      .threads = omp_get_max_threads(),
                      .kernel = json_string_value(json_object_get(c->meta, "kernel"))};
        snprintf(m.stage, sizeof m.stage, "%s", c->stage);
        rc = commit(dir, file, temporary, &m);
    }
    TRY_GOTO(done, comm_agree(comm, rc));
done:
    if (rc < 0 && first) {
        AUTOFREE char *why = xstrdup(error_message());
        file_remove(temporary);
        rc = error_set(rc, "%s", why);
    }
    layout_free(&layout);
    return rc;
}

int ckpt_save(const char *dir, const CkptContent *content, Comm *c) {
    if (!comm_equal_u64(c, (uint64_t)content->step))
        return error_set(ERR_INTERNAL, "the ranks are at different steps, this one at %" PRId64,
                         content->step);
    AUTOFREE char *file = manifest_name(dir, content->step, false, CKPT_FILE);
    int rc = save(dir, file, content, c);
    if (rc < 0) rc = error_wrap(rc, "cannot save step %" PRId64, content->step);
    return rc;
}

int ckpt_save_file(const char *path, const CkptContent *content) {
    const size_t len = strlen(path), end = strlen(CKPT_FILE);
    const char *name = file_basename(path);
    if (strlen(name) <= end || strcmp(path + len - end, CKPT_FILE) != 0)
        return error_set(ERR_USAGE, "%s: expected a name that ends with %s", path, CKPT_FILE);
    AUTOFREE char *manifest = manifest_path(path);
    Comm *alone = NULL;
    const char *there = file_exists(path) ? path : file_exists(manifest) ? manifest : NULL;
    AUTOFREE char *dir = name == path ? xstrdup(".") : xasprintf("%.*s", (int)(name - path), path);
    int rc = there ? error_set(ERR_USAGE, "%s: is there already; remove it or choose another name",
                               there)
                   : comm_open_alone(&alone);
    if (!there) {
        rc = save(dir, path, content, alone);
        comm_close(&alone);
    }
    return rc;
}
