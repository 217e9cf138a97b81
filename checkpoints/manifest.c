/* manifest.c: step_N.json beside step_N.h5. A checkpoint exists when its manifest does; the
 * manifest says what the file's bytes must be. */
#include "checkpoints/manifest.h"

#include "base/error.h"
#include "base/file.h"
#include "base/h5/h5.h"
#include "base/json.h"
#include "base/log.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *manifest_name(const char *dir, int64_t step, bool aside, const char *suffix) {
    return xasprintf("%s/step_%08" PRId64 "%s%s", dir, step, aside ? CKPT_ASIDE : "", suffix);
}

char *manifest_path(const char *file) {
    size_t n = strlen(file), end = strlen(CKPT_FILE);
    if (n >= end && strcmp(file + n - end, CKPT_FILE) == 0) n -= end;
    return xasprintf("%.*s%s", (int)n, file, CKPT_MANIFEST);
}

char *manifest_folder(const char *path) {
    char *dir = file_join(path, "checkpoints");
    if (file_is_dir(dir)) return dir;
    free(dir);
    return xstrdup(path);
}

int manifest_write(const Manifest *m, const char *file) {
    char hash[17], config[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, m->hash);
    snprintf(config, sizeof config, "%016" PRIx64, m->config_hash);
    json_auto_t *j =
        json_pack("{s:i, s:I, s:s, s:I, s:s, s:I, s:s, s:s, s:I, s:I, s:s*}", "format", CKPT_FORMAT,
                  "step", m->step, "stage", m->stage, "bytes", m->bytes, CKPT_HASH, hash, "arrays",
                  m->arrays, "config_hash", config, "version", RHETOR_VERSION, "ranks", m->ranks,
                  "threads", m->threads, "kernel", m->kernel);
    AUTOFREE char *path = manifest_path(file);
    return json_write_file(j, path);
}

static int take_members(Manifest *m, const json_t *j) {
    int64_t format = 0;
    const char *hash = NULL, *stage = NULL;
    TRY(json_get_i64(j, "format", &format));
    if (format < CKPT_OLDEST_FORMAT || format > CKPT_FORMAT)
        return error_set(ERR_DATA,
                         "format %" PRId64 ", expected %d to %d: written by another version of "
                         "Rhetor; use that one",
                         format, CKPT_OLDEST_FORMAT, CKPT_FORMAT);
    TRY(json_get_i64(j, "step", &m->step));
    TRY(json_get_i64(j, "bytes", &m->bytes));
    TRY(json_get_i64(j, "arrays", &m->arrays));
    m->ranks = json_integer_value(json_object_get(j, "ranks"));
    m->threads = json_integer_value(json_object_get(j, "threads"));
    TRY(json_get_str(j, CKPT_HASH, &hash));
    TRY(json_get_str(j, "stage", &stage));
    char *end = NULL;
    m->hash = strtoull(hash, &end, 16);
    if (strlen(hash) != 16 || *end)
        return error_set(ERR_DATA, "\"%s\" is \"%s\", expected 16 hexadecimal digits", CKPT_HASH,
                         hash);
    if (strlen(stage) >= sizeof m->stage)
        return error_set(ERR_DATA, "\"stage\" is \"%s\", expected a short word", stage);
    strcpy(m->stage, stage);
    return 0;
}

int manifest_read(Manifest *m, const char *file) {
    *m = (Manifest){0};
    AUTOFREE char *path = manifest_path(file);
    json_auto_t *j = NULL;
    int rc = 0;
    if (!file_exists(path) && file_size(file) > 0 && !h5_is(file))
        rc = error_set(ERR_DATA,
                       "%s: is not a checkpoint, which is an HDF5 file; name a run folder or its "
                       "checkpoints/step_N.h5",
                       file);
    else if (!file_exists(path))
        rc = error_set(ERR_DATA,
                       "%s: has no manifest %s: its save was interrupted, or it was copied without "
                       "it; copy both files, or use another checkpoint",
                       file, file_basename(path));
    else if ((rc = json_read_file(&j, path)) >= 0 && (rc = take_members(m, j)) < 0)
        rc = error_wrap(rc, "%s", path);
    return rc;
}

int manifest_verify(Manifest *m, const char *file) {
    int64_t bytes = file_size(file);
    if (bytes < 0)
        return error_set(ERR_IO, "%s: no such file, or it cannot be read; check the path", file);
    TRY(manifest_read(m, file));
    if (bytes != m->bytes)
        return error_set(ERR_DATA,
                         "%s: has %" PRId64 " bytes, its manifest says %" PRId64
                         ": truncated or replaced; use another checkpoint",
                         file, bytes, m->bytes);
    uint64_t hash = 0;
    TRY(file_hash(file, &hash));
    if (hash != m->hash)
        return error_set(ERR_DATA,
                         "%s: hash of its bytes is %016" PRIx64 ", its manifest says %016" PRIx64
                         ": damaged; use another checkpoint",
                         file, hash, m->hash);
    return 0;
}

/* --- names ------------------------------------------------------------------------------------ */

/* Takes `word` off the front of *text. */
static bool skip(const char **text, const char *word) {
    size_t n = strlen(word);
    if (strncmp(*text, word, n) != 0) return false;
    *text += n;
    return true;
}

static bool digits(const char **text, int least, int64_t *value) {
    int n = 0;
    for (*value = 0; isdigit((unsigned char)**text) && n < 18; n++, ++*text)
        *value = *value * 10 + (**text - '0');
    return n >= least;
}

Name manifest_parse_name(const char *name) {
    Name other = {.kind = NAME_OTHER}, r = other;
    if (!skip(&name, "step_") || !digits(&name, 8, &r.step)) return other;
    r.aside = skip(&name, CKPT_ASIDE);
    if (skip(&name, CKPT_FILE))
        r.kind = NAME_FILE;
    else if (skip(&name, CKPT_MANIFEST))
        r.kind = NAME_MANIFEST;
    if (r.kind != NAME_OTHER && skip(&name, ".tmp.")) {
        int64_t pid;
        r.kind = NAME_TEMPORARY;
        if (!digits(&name, 1, &pid)) return other;
    }
    return *name ? other : r;
}

static int newer_first(const void *a, const void *b) {
    const Committed *x = a, *y = b;
    if (x->step != y->step) return x->step < y->step ? 1 : -1;
    return x->aside - y->aside;
}

int manifest_list(const char *dir, Committed **out, int *n) {
    *out = NULL;
    *n = 0;
    if (!file_exists(dir)) return 0;
    char **names = NULL;
    int count = 0;
    TRY(file_list(dir, &names, &count));
    Committed *v = xcalloc((size_t)count, sizeof *v);
    for (int i = 0; i < count; i++) {
        Name name = manifest_parse_name(names[i]);
        if (name.kind == NAME_MANIFEST) v[(*n)++] = (Committed){name.step, name.aside};
    }
    file_free_list(&names, count);
    if (*n) qsort(v, (size_t)*n, sizeof *v, newer_first);
    *out = v;
    return 0;
}

int manifest_remove_pair(const char *file) {
    AUTOFREE char *manifest = manifest_path(file);
    TRY(file_remove(manifest));
    return file_remove(file);
}

/* Whether the process in a temporary's name lives says nothing: numbers come again. */
int manifest_remove_temporaries(const char *dir) {
    char **names;
    int n, rc = 0;
    if (!file_exists(dir)) return 0;
    TRY(file_list(dir, &names, &n));
    for (int i = 0; i < n; i++) {
        if (manifest_parse_name(names[i]).kind != NAME_TEMPORARY) continue;
        AUTOFREE char *path = file_join(dir, names[i]);
        log_info("%s: left by an interrupted save; removed", path);
        if (rc >= 0) rc = file_remove(path);
    }
    file_free_list(&names, n);
    return rc;
}
