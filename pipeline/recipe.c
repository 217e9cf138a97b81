/* recipe.c: what a pipeline consists of and what of it is done. See recipe.h. */
#include "pipeline/recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_table.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/nearest.h"
#include "base/process.h"
#include "base/text.h"
#include "base/yaml.h"

/* --- pipeline.yaml ---------------------------------------------------------------------------- */
typedef struct Reader {
    Recipe *r;
    const char *path;
    int current; /* number of the step in the file */
    bool more;   /* a file of further steps, and of other things */
} Reader;

static int set_stage(RecipeStep *s, const char *place, const char *word) {
    const char *names[STAGES];
    for (int i = 0; i < STAGES - 1; i++) names[i] = config_stage_name(i + 1);
    if ((s->stage = config_stage_named(word))) return 0;
    AUTOFREE char *all = config_stages(NULL), *hint = nearest_hint(word, names, STAGES - 1);
    return error_set(ERR_CONFIG, "%s: no stage \"%s\", expected one of %s%s", place, word, all,
                     hint);
}

/* Names become file names and words of the command line. */
static int check_name(const char *place, const char *name) {
    size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    if (*name && *name != '-' && *name != '.' && !name[good]) return 0;
    return error_set(ERR_CONFIG,
                     "%s: the step's name is \"%s\", expected letters, digits, and - _ . within",
                     place, name);
}

static int set_member(RecipeStep *s, const char *place, const char *member, const YamlValue *v) {
    static const char *const members[] = {"name", "run", "stage", "config", "before"};
    char **const field[] = {&s->name, &s->run, NULL, &s->config, &s->before};
    for (int i = 0; i < 5; i++) {
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
    AUTOFREE char *hint = nearest_hint(member, members, 5);
    return error_set(ERR_CONFIG,
                     "%s: unknown key %s of a step, expected name, run, stage, config%s", place,
                     member, hint);
}

static int take_setting(void *ctx, const YamlValue *v) {
    Reader *reader = ctx;
    Recipe *r = reader->r;
    int number, end = 0;
    char place[512];
    if (reader->more && strncmp(v->key, "steps", 5) != 0) return 0;
    snprintf(place, sizeof place, "%s:%d", reader->path, v->line);
    char **text = strcmp(v->key, "make") == 0  ? &r->make
                  : strcmp(v->key, "end") == 0 ? &r->end
                                               : NULL;
    if (text && !v->list && !v->null && !*text) {
        *text = xstrdup(v->items[0]);
        return 0;
    }
    if (sscanf(v->key, "steps.%d.%n", &number, &end) != 1 || end == 0) {
        if (strcmp(v->key, "steps") == 0)
            return error_set(ERR_CONFIG,
                             "%s: steps is %s, expected a list of steps, each with a name "
                             "and a run or a stage",
                             place, v->list ? "a list of words" : "no list");
        AUTOFREE char *word = xasprintf("%.*s", (int)strcspn(v->key, "."), v->key);
        bool near = nearest_distance(word, "steps") < 3;
        return error_set(ERR_CONFIG, "%s: unknown key %s, expected steps, make, end%s", place, word,
                         near ? "; did you mean steps?" : "");
    }
    if (number != reader->current) {
        r->step = xrealloc(r->step, (size_t)(r->n + 1) * sizeof *r->step);
        r->step[r->n++] = (RecipeStep){.place = xstrdup(place)};
        reader->current = number;
    }
    return set_member(&r->step[r->n - 1], place, v->key + end, v);
}

/* A step of a file whose steps begin at `first`. */
static int check_step(const Recipe *r, int first, int i) {
    RecipeStep *s = &r->step[i];
    if (!s->name) return error_set(ERR_CONFIG, "%s: a step without a name", s->place);
    for (int j = first; j < i; j++)
        if (strcmp(r->step[j].name, s->name) == 0)
            return error_set(ERR_CONFIG, "%s: a second step %s, the first is at %s", s->place,
                             s->name, r->step[j].place);
    if (s->before && first == 0)
        return error_set(ERR_CONFIG,
                         "%s: step %s has a before, but a recipe's steps stand in their order; "
                         "move it",
                         s->place, s->name);
    if (!s->run == !s->stage)
        return error_set(ERR_CONFIG, "%s: step %s has %s, expected one of both", s->place, s->name,
                         s->run ? "a run and a stage" : "no run and no stage");
    if (s->config && !s->stage)
        return error_set(ERR_CONFIG, "%s: step %s has a config, but it is not a stage; remove it",
                         s->place, s->name);
    if (!s->stage) return 0;
    AUTOFREE char *file = s->config ? s->config : xasprintf("%s.yaml", config_stage_name(s->stage));
    s->config = *file == '/' ? xstrdup(file) : file_join(r->folder, file);
    return 0;
}

static int read_steps(Recipe *r) {
    AUTOFREE char *path = file_join(r->folder, "pipeline.yaml"), *text = NULL;
    size_t len;
    Reader reader = {r, path, -1, false};
    int rc = file_is_dir(r->folder) && file_exists(path)
                 ? file_read(path, &text, &len)
                 : error_set(ERR_CONFIG,
                             "%s: no such recipe; expected a folder with a "
                             "pipeline.yaml, such as configs/demo, or the name of an installed "
                             "one, such as demo",
                             r->folder);
    if (rc >= 0) rc = yaml_settings(text, len, path, take_setting, &reader);
    for (int i = 0; rc >= 0 && i < r->n; i++) rc = check_step(r, 0, i);
    if (rc >= 0 && !r->n == !r->make)
        rc = error_set(ERR_CONFIG,
                       r->n ? "%s: has steps and make, expected one of both" : "%s: lists no steps",
                       path);
    return rc;
}

static void free_step(RecipeStep *s) {
    free(s->name);
    free(s->place);
    free(s->run);
    free(s->config);
    free(s->before);
    free(s->set);
    free(s->own);
    free(s->dir);
}

/* The step at place i, which was added, goes to the one of its name, if there is one, or before the
 * one that it names. */
static int put_in_place(Recipe *r, int i) {
    RecipeStep *s = &r->step[i];
    if (s->stage) {
        s->own = xasprintf("run.dir=%s/%s", getenv("RUN"), s->name);
        s->set = xcalloc(1, sizeof *s->set);
        s->set[s->nset++] = s->own;
    }
    for (int k = 0; k < i; k++) {
        if (strcmp(r->step[k].name, s->name) != 0) continue;
        free_step(&r->step[k]);
        r->step[k] = *s;
        memmove(s, s + 1, (size_t)(--r->n - i) * sizeof *s);
        return 0;
    }
    if (!s->before) return 0;
    const int k = recipe_find(r, s->before);
    if (k < 0 || k >= i)
        return error_set(ERR_CONFIG, "%s: step %s is to come before %s, which no step before it is",
                         s->place, s->name, s->before);
    const RecipeStep moved = *s;
    memmove(&r->step[k + 1], &r->step[k], (size_t)(i - k) * sizeof *s);
    r->step[k] = moved;
    return 0;
}

static int read_more(Recipe *r, const char *path) {
    Reader reader = {r, path, -1, true};
    AUTOFREE char *text = NULL;
    size_t len;
    const int before = r->n;
    TRY(file_read(path, &text, &len));
    TRY(yaml_settings(text, len, path, take_setting, &reader));
    for (int i = before; i < r->n; i++) TRY(check_step(r, before, i));
    for (int i = before; i < r->n;) {
        const int were = r->n;
        TRY(put_in_place(r, i));
        i += r->n == were;
    }
    return 0;
}

/* Does ${name} stand outside of quotes in a command of the shell? */
static bool stands_bare(const char *command, const char *name) {
    char quote = 0;
    const size_t n = strlen(name);
    for (const char *c = command; *c; c++) {
        if (*c == '\\' && quote != '\'' && c[1])
            c++;
        else if (quote ? *c == quote : *c == '"' || *c == '\'')
            quote = quote ? 0 : *c;
        else if (!quote && *c == '$' && strncmp(c + 1 + (c[1] == '{'), name, n) == 0)
            return true;
    }
    return false;
}

int recipe_check_commands(const Recipe *r) {
    static const char *const names[] = {"RUN", "DATA", "RECIPE", "BIN"};
    for (int i = 0; i < r->n; i++) {
        const RecipeStep *s = &r->step[i];
        if (s->run && !getenv("DATA") && strstr(s->run, "${DATA}"))
            return error_set(ERR_CONFIG,
                             "%s: step %s reads files of ${DATA}, which is not set; name the "
                             "folder: --data DIR",
                             s->place, s->name);
        for (int k = 0; s->run && k < 4; k++) {
            const char *value = getenv(names[k]);
            if (value && value[strcspn(value, " \t\n*?[")] && stands_bare(s->run, names[k]))
                return error_set(ERR_CONFIG,
                                 "%s: step %s has ${%s} outside of quotes, and the shell would "
                                 "divide \"%s\" into words; write \"${%s}\", or choose a folder "
                                 "without spaces and patterns in its name",
                                 s->place, s->name, names[k], value, names[k]);
        }
    }
    return 0;
}

/* --- settings --------------------------------------------------------------------------------- */

/* The part "key=value" of an override if step s knows the key and the override is not for another
 * step; else NULL. */
static const char *override_for(const RecipeStep *s, const char *override) {
    const char *colon = strchr(override, ':'), *equals = strchr(override, '=');
    if (!equals || !s->stage) return NULL;
    if (colon && colon < equals) {
        size_t n = (size_t)(colon - override);
        if (strlen(s->name) != n || strncmp(override, s->name, n) != 0) return NULL;
        return colon + 1; /* if the step does not know the key, config_load says so */
    }
    AUTOFREE char *name = xasprintf("%.*s", (int)(equals - override), override);
    const ConfigKey *key = config_key(name);
    return key && config_knows(s->stage, key) ? override : NULL;
}

bool recipe_step_knows(const RecipeStep *s, const char *override) {
    return override_for(s, override) == override;
}

/* Why no stage takes the override. */
static int refuse_override(const Recipe *r, const char *override) {
    const char *colon = strchr(override, ':'), *equals = strchr(override, '=');
    if (colon && colon < equals) {
        AUTOFREE char *name = xasprintf("%.*s", (int)(colon - override), override);
        int i = recipe_find(r, name);
        if (i >= 0)
            i = error_set(ERR_CONFIG, "command line: %s: step %s is no stage and has no settings",
                          override, name);
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
            RecipeStep *s = &r->step[i];
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
        AUTOFREE char *value = config_value(c, k);
        hash = hash_combine(hash, hash_combine(hash_text(k->name), hash_text(value)));
    }
    return hash;
}

/* RUN stands for itself in what a step does, so that a run folder that is copied or moved stays as
 * done as it was. */
static int hash_step(RecipeStep *s) {
    AUTOFREE char *run = xstrdup(getenv("RUN"));
    setenv("RUN", "${RUN}", 1);
    int rc = 0;
    if (s->run) {
        AUTOFREE char *command = recipe_expand(s->run);
        s->what = hash_text(command);
    } else {
        Config c;
        rc = config_load(&c, s->stage, s->config, s->set, s->nset);
        if (rc >= 0) s->what = hash_settings(&c);
        if (rc >= 0) config_free(&c);
    }
    setenv("RUN", run, 1);
    return rc;
}

static int resolve(const Recipe *r, int i) {
    RecipeStep *s = &r->step[i];
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

static char *made_folder(void) { return xasprintf("%s/recipe", getenv("RUN")); }

static bool is_made(const char *folder) {
    AUTOFREE char *path = file_join(folder, "pipeline.yaml");
    return file_exists(path);
}

int recipe_make(const char *folder, bool dry) {
    Recipe r = {.folder = xstrdup(folder)};
    AUTOFREE char *made = made_folder();
    int status = 0, rc = read_steps(&r);
    if (rc >= 0 && r.make && is_made(made))
        printf("the sizes are those of %s; remove it to have them chosen again\n", made);
    else if (rc >= 0 && r.make) {
        if (!getenv("DATA") && strstr(r.make, "${DATA}"))
            rc = error_set(ERR_CONFIG, "%s: which data? --data DIR", folder);
        char *command = xasprintf("%s%s", r.make, dry ? " --dry-run" : "");
        char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-e"}, (char[]){"-c"}, command, NULL};
        fflush(stdout);
        if (rc >= 0) rc = process_run(argv, NULL, false, NULL, NULL, &status);
        if (rc >= 0 && status != 0) { /* it has said why */
            rc = ERR_CONFIG;
#define X(name, code, exit) rc = status == exit ? code : rc;
            ERROR_LIST(X)
#undef X
            error_set(rc, "%s: no recipe was made (%d): %s", folder, status, r.make);
        }
        free(command);
    }
    const int has = !r.make ? 0 : is_made(made) ? 1 : 2;
    recipe_free(&r);
    return rc < 0 ? rc : has;
}

static int load(Recipe *out, const char *folder, const char *more, const char *const *overrides,
                int n) {
    const char *run = getenv("RUN");
    CHECK(run, "RUN is not set");
    *out = (Recipe){.folder = xstrdup(folder), .marks = file_join(run, ".pipeline")};
    int rc = read_steps(out);
    if (rc >= 0 && out->make && more)
        rc = error_set(
            ERR_CONFIG,
            "%s: its steps are made from the data of each run; a recipe with steps of its "
            "own is needed here",
            folder);
    if (rc >= 0 && out->make) {
        free(out->folder);
        free(out->make);
        out->make = NULL;
        out->folder = made_folder();
        rc = is_made(out->folder)
                 ? read_steps(out)
                 : error_set(ERR_CONFIG,
                             "%s: its recipe is made from the data when it is run, and not yet in "
                             "%s; rhetor-pipeline %s --data DIR",
                             folder, out->folder, folder);
    }
    if (rc >= 0 && more) rc = read_more(out, more);
    if (rc >= 0) rc = give_overrides(out, overrides, n);
    for (int i = 0; rc >= 0 && i < out->n; i++) rc = resolve(out, i);
    if (rc < 0) recipe_free(out);
    return rc < 0 ? rc : 0;
}

int recipe_load(Recipe *out, const char *folder, const char *const *overrides, int n) {
    return load(out, folder, NULL, overrides, n);
}

int recipe_load_with(Recipe *out, const char *folder, const char *more,
                     const char *const *overrides, int n) {
    return load(out, folder, more, overrides, n);
}

void recipe_free(Recipe *r) {
    for (int i = 0; i < r->n; i++) free_step(&r->step[i]);
    free(r->step);
    free(r->folder);
    free(r->marks);
    free(r->make);
    free(r->end);
    *r = (Recipe){0};
}

int recipe_find(const Recipe *r, const char *name) {
    AUTOFREE const char **names = xcalloc((size_t)r->n + 1, sizeof *names);
    for (int i = 0; i < r->n; i++) {
        names[i] = r->step[i].name;
        if (strcmp(names[i], name) == 0) return i;
    }
    AUTOFREE char *hint = nearest_hint(name, names, r->n);
    return error_set(ERR_USAGE, "%s has no step \"%s\"%s", r->folder, name,
                     *hint ? hint : "; --status lists them");
}

char *recipe_expand(const char *command) {
    Text t = {0};
    text_expand(&t, command, true);
    return text_take(&t);
}
