/* recipe.c: what a pipeline consists of and what of it is done. See recipe.h. */
#include "pipeline/recipe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config_table.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/nearest.h"
#include "base/process.h"
#include "base/text.h"
#include "base/yaml.h"

/* --- the environment of the steps ------------------------------------------------------------- */

/* The path as seen from here: relative where it lies below, so that one folder has one name. */
static char *canonical(const char *path) {
    char *real = realpath(path, NULL), *here = realpath(".", NULL);
    const size_t n = here ? strlen(here) : 0;
    char *out = xstrdup(real ? real : path);
    if (real && here && strncmp(real, here, n) == 0 && real[n] == '/') {
        free(out);
        out = xstrdup(real + n + 1);
    }
    free(real);
    free(here);
    return out;
}

int recipe_environment(const RecipePlace *p) {
    const char *seed = p->seed ? p->seed : "1";
    char *folder = canonical(p->folder);
    char *run = p->run                   ? xstrdup(p->run)
                : strcmp(seed, "1") == 0 ? xasprintf("runs/%s", file_basename(folder))
                                         : xasprintf("runs/%s-seed%s", file_basename(folder), seed);
    int rc = p->make ? file_make_dirs(run) : 0;
    char *name = canonical(run), *bin = process_folder();
    const char *path = getenv("PATH");
    const size_t n = strlen(bin);
    const bool there = path && strncmp(path, bin, n) == 0 && path[n] == ':';
    char *search = xasprintf("%s:%s", bin, path ? path : "/usr/bin:/bin");
    setenv("RUN", name, 1);
    setenv("SEED", seed, 1);
    setenv("RECIPE", folder, 1);
    setenv("BIN", bin, 1);
    if (!there) setenv("PATH", search, 1);
    if (p->data) setenv("DATA", p->data, 1);
    if (geteuid() == 0) { /* mpirun refuses to work for root otherwise */
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    }
    free(folder);
    free(run);
    free(name);
    free(bin);
    free(search);
    return rc;
}

/* --- pipeline.yaml ---------------------------------------------------------------------------- */
typedef struct Reader {
    Recipe *r;
    const char *path;
    int current; /* number of the step in the file */
} Reader;

static int set_stage(Step *s, const char *place, const char *word) {
    const char *names[STAGES];
    for (int i = 0; i < STAGES - 1; i++) names[i] = config_stage_name(i + 1);
    if ((s->stage = config_stage_named(word))) return 0;
    const char *meant = nearest_word(word, names, STAGES - 1);
    char *all = config_stages(NULL);
    int rc = error_set(ERR_CONFIG, "%s: no stage \"%s\", expected one of %s%s%s%s", place, word,
                       all, meant ? "; did you mean " : "", meant ? meant : "", meant ? "?" : "");
    free(all);
    return rc;
}

/* Names become file names and words of the command line. */
static int check_name(const char *place, const char *name) {
    size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    if (*name && *name != '-' && *name != '.' && !name[good]) return 0;
    return error_set(ERR_CONFIG,
                     "%s: the step's name is \"%s\", expected letters, digits, and - _ . within",
                     place, name);
}

static int set_member(Step *s, const char *place, const char *member, const YamlValue *v) {
    static const char *const members[] = {"name", "run", "stage", "config"};
    char **const field[] = {&s->name, &s->run, NULL, &s->config};
    for (int i = 0; i < 4; i++) {
        if (strcmp(member, members[i]) != 0) continue;
        if (v->list || v->null)
            return error_set(ERR_CONFIG, "%s: %s is %s, expected a text", place, member,
                             v->list ? "a list" : "empty");
        if (field[i] ? *field[i] != NULL : s->stage != 0)
            return error_set(ERR_CONFIG, "%s: %s is set again; remove one of the two", place,
                             member);
        if (!field[i]) return set_stage(s, place, v->items[0]);
        *field[i] = xstrdup(v->items[0]);
        return i == 0 ? check_name(place, s->name) : 0;
    }
    const char *meant = nearest_word(member, members, 4);
    return error_set(ERR_CONFIG,
                     "%s: unknown key %s of a step, expected name, run, stage, config%s%s%s", place,
                     member, meant ? "; did you mean " : "", meant ? meant : "", meant ? "?" : "");
}

static int take_setting(void *ctx, const YamlValue *v) {
    Reader *reader = ctx;
    Recipe *r = reader->r;
    int number, end = 0;
    char place[512];
    snprintf(place, sizeof place, "%s:%d", reader->path, v->line);
    if (sscanf(v->key, "steps.%d.%n", &number, &end) != 1 || end == 0) {
        if (strcmp(v->key, "steps") == 0)
            return error_set(ERR_CONFIG,
                             "%s: steps is %s, expected a list of steps, each with a name "
                             "and a run or a stage",
                             place, v->list ? "a list of words" : "no list");
        char *word = xasprintf("%.*s", (int)strcspn(v->key, "."), v->key);
        bool near = nearest_distance(word, "steps") < 3;
        int rc = error_set(ERR_CONFIG, "%s: unknown key %s, expected steps%s", place, word,
                           near ? "; did you mean steps?" : "");
        free(word);
        return rc;
    }
    if (number != reader->current) {
        r->step = xrealloc(r->step, (size_t)(r->n + 1) * sizeof *r->step);
        r->step[r->n++] = (Step){.place = xstrdup(place)};
        reader->current = number;
    }
    return set_member(&r->step[r->n - 1], place, v->key + end, v);
}

static int check_step(const Recipe *r, int i) {
    Step *s = &r->step[i];
    if (!s->name) return error_set(ERR_CONFIG, "%s: a step without a name", s->place);
    for (int j = 0; j < i; j++)
        if (strcmp(r->step[j].name, s->name) == 0)
            return error_set(ERR_CONFIG, "%s: a second step %s, the first is at %s", s->place,
                             s->name, r->step[j].place);
    if (!s->run == !s->stage)
        return error_set(ERR_CONFIG, "%s: step %s has %s, expected one of both", s->place, s->name,
                         s->run ? "a run and a stage" : "no run and no stage");
    if (s->config && !s->stage)
        return error_set(ERR_CONFIG, "%s: step %s has a config, but it is not a stage; remove it",
                         s->place, s->name);
    if (!s->stage) return 0;
    char *file = s->config ? s->config : xasprintf("%s.yaml", config_stage_name(s->stage));
    s->config = *file == '/' ? xstrdup(file) : file_join(r->folder, file);
    free(file);
    return 0;
}

static int read_steps(Recipe *r) {
    char *path = file_join(r->folder, "pipeline.yaml"), *text = NULL;
    size_t len;
    Reader reader = {r, path, -1};
    int rc = file_is_dir(r->folder) && file_exists(path)
                 ? file_read(path, &text, &len)
                 : error_set(ERR_CONFIG,
                             "%s: no such recipe; expected a folder with a "
                             "pipeline.yaml, such as configs/demo",
                             r->folder);
    if (rc >= 0) rc = yaml_settings(text, len, path, take_setting, &reader);
    for (int i = 0; rc >= 0 && i < r->n; i++) rc = check_step(r, i);
    if (rc >= 0 && r->n == 0) rc = error_set(ERR_CONFIG, "%s: lists no steps", path);
    free(text);
    free(path);
    return rc;
}

int recipe_check_data(const Recipe *r) {
    for (int i = 0; i < r->n && !getenv("DATA"); i++)
        if (r->step[i].run && strstr(r->step[i].run, "${DATA}"))
            return error_set(ERR_CONFIG,
                             "%s: step %s reads files of ${DATA}, which is not set; name the "
                             "folder: --data DIR",
                             r->step[i].place, r->step[i].name);
    return 0;
}

/* --- settings --------------------------------------------------------------------------------- */

/* The part "key=value" of an override if step s knows the key and the override is not for another
 * step; else NULL. */
static const char *override_for(const Step *s, const char *override) {
    const char *colon = strchr(override, ':'), *equals = strchr(override, '=');
    if (!equals || !s->stage) return NULL;
    if (colon && colon < equals) {
        size_t n = (size_t)(colon - override);
        if (strlen(s->name) != n || strncmp(override, s->name, n) != 0) return NULL;
        return colon + 1; /* if the step does not know the key, config_load says so */
    }
    char *name = xasprintf("%.*s", (int)(equals - override), override);
    const ConfigKey *key = config_key(name);
    free(name);
    return key && config_knows(s->stage, key) ? override : NULL;
}

/* Why no stage takes the override. */
static int refuse_override(const Recipe *r, const char *override) {
    const char *colon = strchr(override, ':'), *equals = strchr(override, '=');
    if (colon && colon < equals) {
        char *name = xasprintf("%.*s", (int)(colon - override), override);
        int i = recipe_find(r, name);
        if (i >= 0)
            i = error_set(ERR_CONFIG, "command line: %s: step %s is no stage and has no settings",
                          override, name);
        free(name);
        return ERR_CONFIG;
    }
    for (int i = 0; i < r->n; i++) {
        Config c;
        if (!r->step[i].stage) continue;
        if (config_load(&c, r->step[i].stage, NULL, &override, 1) >= 0) config_free(&c);
        if (strstr(error_message(), "did you mean")) break;
    }
    return ERR_CONFIG;
}

static int give_overrides(Recipe *r, const char *const *overrides, int n) {
    for (int o = 0; o < n; o++) {
        if (strncmp(overrides[o], "run.dir=", 8) == 0)
            return error_set(ERR_CONFIG,
                             "command line: every stage has a run.dir of its own; --run "
                             "DIR sets the folder of the pipeline");
        int taken = 0;
        for (int i = 0; i < r->n; i++) {
            Step *s = &r->step[i];
            const char *set = override_for(s, overrides[o]);
            if (!set) continue;
            s->set = xrealloc(s->set, (size_t)(s->nset + 1) * sizeof *s->set);
            s->set[s->nset++] = set;
            taken++;
        }
        if (!taken) return refuse_override(r, overrides[o]);
    }
    return 0;
}

static uint64_t hash_settings(const Config *c) {
    uint64_t hash = hash_text(config_stage_name(c->stage));
    for (const ConfigKey *k = config_keys; k < config_keys + config_nkeys; k++) {
        if (!k->result || !config_knows(c->stage, k)) continue;
        char *value = config_value(c, k);
        hash = hash_combine(hash, hash_combine(hash_text(k->name), hash_text(value)));
        free(value);
    }
    return hash;
}

/* RUN stands for itself in what a step does, so that a run folder that is copied or moved stays as
 * done as it was. */
static int hash_step(Step *s) {
    char *run = xstrdup(getenv("RUN"));
    setenv("RUN", "${RUN}", 1);
    int rc = 0;
    if (s->run) {
        char *command = recipe_expand(s->run);
        s->what = hash_text(command);
        free(command);
    } else {
        Config c;
        rc = config_load(&c, s->stage, s->config, s->set, s->nset);
        if (rc >= 0) s->what = hash_settings(&c);
        if (rc >= 0) config_free(&c);
    }
    setenv("RUN", run, 1);
    free(run);
    return rc;
}

static int resolve(const Recipe *r, int i) {
    Step *s = &r->step[i];
    TRY(hash_step(s));
    if (s->run) return 0;
    Config c;
    TRY(config_load(&c, s->stage, s->config, s->set, s->nset));
    s->dir = xstrdup(c.run_dir);
    config_free(&c);
    if (!*s->dir)
        return error_set(ERR_CONFIG,
                         "%s: run.dir is not set; expected dir: ${RUN}/%s in its section "
                         "run",
                         s->config, s->name);
    for (int j = 0; j < i; j++)
        if (r->step[j].dir && strcmp(r->step[j].dir, s->dir) == 0)
            return error_set(ERR_CONFIG, "%s: run.dir is %s, which is that of step %s too",
                             s->config, s->dir, r->step[j].name);
    return 0;
}

int recipe_load(Recipe *out, const char *folder, const char *const *overrides, int n) {
    const char *run = getenv("RUN");
    CHECK(run, "RUN is not set");
    *out = (Recipe){.folder = xstrdup(folder), .marks = file_join(run, ".pipeline")};
    int rc = read_steps(out);
    if (rc >= 0) rc = give_overrides(out, overrides, n);
    for (int i = 0; rc >= 0 && i < out->n; i++) rc = resolve(out, i);
    if (rc < 0) recipe_free(out);
    return rc < 0 ? rc : 0;
}

void recipe_free(Recipe *r) {
    for (int i = 0; i < r->n; i++) {
        Step *s = &r->step[i];
        free(s->name);
        free(s->place);
        free(s->run);
        free(s->config);
        free(s->set);
        free(s->dir);
    }
    free(r->step);
    free(r->folder);
    free(r->marks);
    *r = (Recipe){0};
}

int recipe_find(const Recipe *r, const char *name) {
    const char **names = xcalloc((size_t)r->n + 1, sizeof *names);
    int found = -1;
    for (int i = 0; i < r->n; i++) {
        names[i] = r->step[i].name;
        if (strcmp(names[i], name) == 0) found = i;
    }
    const char *meant = nearest_word(name, names, r->n);
    free(names);
    if (found >= 0) return found;
    if (meant)
        return error_set(ERR_USAGE, "%s has no step \"%s\"; did you mean %s?", r->folder, name,
                         meant);
    return error_set(ERR_USAGE, "%s has no step \"%s\"; --status lists them", r->folder, name);
}

char *recipe_expand(const char *command) {
    Text t = {0};
    text_expand(&t, command, true);
    return text_take(&t);
}

/* --- what is done ----------------------------------------------------------------------------- */
void recipe_status(const Step *s, StageStatus *out) {
    *out = (StageStatus){.saved = -1};
    char *path = file_join(s->dir, "status.json");
    json_t *j = NULL;
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
    json_decref(j);
    free(path);
}

/* The hash of a finished stage's last checkpoint; 0: it is not finished. */
static uint64_t result(const Step *s) {
    StageStatus status;
    recipe_status(s, &status);
    if (strcmp(status.state, "done") != 0 || status.saved < 0) return 0;
    char *path = xasprintf("%s/checkpoints/step_%08" PRId64 ".json", s->dir, status.saved);
    json_t *j = NULL;
    const char *hash = "";
    if (file_exists(path) && json_read_file(&j, path) >= 0) json_get_str(j, "xxh3", &hash);
    uint64_t value = *hash ? hash_text(hash) : 0;
    json_decref(j);
    free(path);
    return value;
}

uint64_t recipe_key(const Recipe *r, int i, uint64_t before) {
    if (i > 0 && r->step[i - 1].stage) before = hash_combine(before, result(&r->step[i - 1]));
    return hash_combine(before, r->step[i].what);
}

StepState recipe_state(const Recipe *r, int i, uint64_t key) {
    StepMark m;
    if (!recipe_mark_read(r, i, &m)) return STEP_WAITING;
    if (m.key != key) return STEP_CHANGED;
    if (!m.done) return STEP_STARTED;
    return r->step[i].stage && result(&r->step[i]) == 0 ? STEP_STARTED : STEP_DONE;
}

static char *mark_path(const Recipe *r, int i) {
    return xasprintf("%s/%s.json", r->marks, r->step[i].name);
}

bool recipe_mark_read(const Recipe *r, int i, StepMark *out) {
    *out = (StepMark){0};
    char *path = mark_path(r, i);
    json_t *j = NULL;
    const char *key = NULL;
    bool good = file_exists(path) && json_read_file(&j, path) >= 0 &&
                json_get_str(j, "key", &key) >= 0 && json_get_f64(j, "seconds", &out->seconds) >= 0;
    if (good) {
        out->key = strtoull(key, NULL, 16);
        out->done = json_is_true(json_object_get(j, "done"));
    }
    json_decref(j);
    free(path);
    return good;
}

int recipe_mark_write(const Recipe *r, int i, const StepMark *m) {
    char key[17], *path = mark_path(r, i);
    snprintf(key, sizeof key, "%016" PRIx64, m->key);
    char *what = r->step[i].run ? recipe_expand(r->step[i].run) : xstrdup(r->step[i].config);
    json_t *j = json_pack("{s:s, s:b, s:f, s:s}", "key", key, "done", m->done, "seconds",
                          m->seconds, "what", what);
    int rc = j ? json_write_file(j, path) : error_set(ERR_DATA, "%s: not UTF-8", path);
    json_decref(j);
    free(what);
    free(path);
    return rc;
}
