/* progress.c: what of a recipe is done. See progress.h. */
#include "pipeline/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"

void progress_status(const RecipeStep *s, StageStatus *out) {
    *out = (StageStatus){.saved = -1};
    AUTOFREE char *path = file_join(s->dir, "status.json");
    json_auto_t *j = NULL;
    int64_t code = 0;
    const char *state = "", *reason = "";
    if (file_exists(path) && json_read_file(&j, path) >= 0 &&
        json_get_str(j, "state", &state) >= 0 && json_get_i64(j, "code", &code) >= 0 &&
        json_get_i64(j, "step", &out->step) >= 0 && json_get_i64(j, "steps", &out->steps) >= 0 &&
        json_get_i64(j, "saved", &out->saved) >= 0)
        json_get_str(j, "reason", &reason);
    snprintf(out->reason, sizeof out->reason, "%s", reason);
    snprintf(out->state, sizeof out->state, "%s", state);
    out->code = (int)code;
}

/* The hash of a finished stage's last checkpoint; 0: it is not finished. */
static uint64_t result(const RecipeStep *s) {
    StageStatus status;
    progress_status(s, &status);
    if (strcmp(status.state, "done") != 0 || status.saved < 0) return 0;
    AUTOFREE char *path = xasprintf("%s/checkpoints/step_%08" PRId64 ".json", s->dir, status.saved);
    json_auto_t *j = NULL;
    const char *hash = "";
    if (file_exists(path) && json_read_file(&j, path) >= 0) json_get_str(j, "xxh3", &hash);
    return *hash ? hash_text(hash) : 0;
}

uint64_t progress_key(const Recipe *r, int i, uint64_t before) {
    if (i > 0 && r->step[i - 1].stage) before = hash_combine(before, result(&r->step[i - 1]));
    return hash_combine(before, r->step[i].what);
}

StepState progress_state(const Recipe *r, int i, uint64_t key) {
    StepMark m;
    if (!progress_mark_read(r, i, &m)) return STEP_WAITING;
    if (m.key != key) return STEP_CHANGED;
    if (!m.done) return STEP_STARTED;
    return r->step[i].stage && result(&r->step[i]) == 0 ? STEP_STARTED : STEP_DONE;
}

static char *mark_path(const Recipe *r, int i) {
    return xasprintf("%s/%s.json", r->marks, r->step[i].name);
}

bool progress_mark_read(const Recipe *r, int i, StepMark *out) {
    *out = (StepMark){0};
    AUTOFREE char *path = mark_path(r, i);
    json_auto_t *j = NULL;
    const char *key = NULL;
    bool good = file_exists(path) && json_read_file(&j, path) >= 0 &&
                json_get_str(j, "key", &key) >= 0 && json_get_f64(j, "seconds", &out->seconds) >= 0;
    if (good) {
        out->key = strtoull(key, NULL, 16);
        out->done = json_is_true(json_object_get(j, "done"));
    }
    return good;
}

int progress_mark_write(const Recipe *r, int i, const StepMark *m) {
    char key[17], *path = mark_path(r, i);
    snprintf(key, sizeof key, "%016" PRIx64, m->key);
    AUTOFREE char *what =
        r->step[i].run ? recipe_expand(r->step[i].run) : xstrdup(r->step[i].config);
    json_auto_t *j = json_pack("{s:s, s:b, s:f, s:s}", "key", key, "done", m->done, "seconds",
                               m->seconds, "what", what);
    int rc = j ? json_write_file(j, path) : error_set(ERR_DATA, "%s: not UTF-8", path);
    free(path);
    return rc;
}
