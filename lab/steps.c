/* steps.c: from labs to the graph of their steps. See lab.h.
 *
 * What a step reads and writes is seen from its text, a command's or a stage's resolved settings: a
 * name below ${RUN} belongs to the first step that names it, which makes it; who names it later
 * reads it. Each step has a folder of its own as its RUN, in which what it reads are links into the
 * folders of the steps that made it; what it does not name is not there. */
#include "lab/lab.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"
#include "pipeline/recipe.h"
#include "pipeline/request.h"

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.+="

/* --- names below RUN -------------------------------------------------------------------------- */
static void add_name(OptionList *names, const char *name, size_t n) {
    AUTOFREE char *word = xasprintf("%.*s", (int)n, name);
    for (int i = 0; i < names->n; i++)
        if (strcmp(names->v[i], word) == 0) return;
    option_add(&names->v, &names->n, xstrdup(word));
}

/* The first parts of all paths ${RUN}/NAME/... in a text, in which RUN stands for itself. */
static int find_names(const char *text, const char *where, OptionList *names) {
    for (const char *at = text; (at = strstr(at, "$"));) {
        const size_t word = strncmp(at, "${RUN}", 6) == 0 ? 6 : strncmp(at, "$RUN", 4) == 0 ? 4 : 0;
        at += word ? word : 1;
        if (word == 0 || (word == 4 && (isalnum((unsigned char)*at) || *at == '_'))) continue;
        if (*at == '"') at++; /* "${RUN}"/... */
        const size_t n = *at == '/' ? strspn(at + 1, NAME_CHARACTERS) : 0;
        if (n == 0)
            return error_set(
                ERR_CONFIG,
                "%s: names ${RUN} itself, so that nobody sees which files it reads; in "
                "a lab expected ${RUN}/NAME",
                where);
        add_name(names, at + 1, n);
    }
    return 0;
}

/* --- the steps of one cell -------------------------------------------------------------------- */
typedef struct Draft {
    LabStep s;
    OptionList names;
    int *before; /* of each name: the draft that makes it; itself: it makes it */
    int place;   /* in the graph; -1: not needed so far */
} Draft;

typedef struct Drafts {
    Draft *v;
    int n;
    const LabFile *lab;
    const OptionList *env;
} Drafts;

static void drafts_free(Drafts *d) {
    for (int i = 0; i < d->n; i++) {
        option_free(&d->v[i].names);
        free(d->v[i].before);
    }
    free(d->v);
    *d = (Drafts){0};
}

static int step_naming(const Drafts *d, const char *name, size_t n) {
    for (int i = 0; i < d->n; i++)
        for (int k = 0; k < d->v[i].names.n; k++)
            if (strlen(d->v[i].names.v[k]) == n && strncmp(d->v[i].names.v[k], name, n) == 0)
                return i;
    return -1;
}

/* Adds a step that does `what` and names what `text` names. */
static int add_draft(Drafts *d, LabStep s, uint64_t what, const char *text, const char *where) {
    d->v = xrealloc(d->v, (size_t)(d->n + 1) * sizeof *d->v);
    Draft *t = &d->v[d->n];
    *t = (Draft){.s = s, .place = -1};
    int rc = find_names(text, where, &t->names);
    t->before = xcalloc((size_t)t->names.n + 1, sizeof *t->before);
    uint64_t address =
        hash_combine(hash_text(RHETOR_VERSION), hash_combine(hash_text(s.name), what));
    for (int k = 0; k < t->names.n; k++) {
        const int from = step_naming(d, t->names.v[k], strlen(t->names.v[k]));
        t->before[k] = from < 0 ? d->n : from;
        if (from >= 0) address = hash_combine(address, d->v[from].s.address);
    }
    t->s.address = address;
    d->n++;
    return rc;
}

static int draft_recipe(Drafts *d, const Recipe *r) {
    for (int i = 0; i < r->n; i++) {
        const RecipeStep *s = &r->step[i];
        LabStep t = {.name = s->name, .run = s->run, .stage = s->stage, .config = s->config};
        if (s->dir && strncmp(s->dir, "${RUN}/", 7) == 0) t.dir = s->dir + 7;
        AUTOFREE char *text = NULL;
        if (s->stage) {
            Config c;
            TRY(config_load(&c, s->stage, s->config, s->set, s->nset));
            text = config_yaml(&c);
            config_free(&c);
            t.set = (OptionList){s->set, s->nset};
        } else
            text = recipe_expand(s->run);
        TRY(add_draft(d, t, s->what, text, s->place));
    }
    return 0;
}

static int draft_measure(Drafts *d, const LabMeasure *m) {
    AUTOFREE char *text = recipe_expand(m->run),
                  *where = xasprintf("%s: measure %s", d->lab->path, m->name);
    return add_draft(d, (LabStep){.name = m->name, .run = m->run}, hash_text(text), text, where);
}

/* --- into the graph --------------------------------------------------------------------------- */
static void copy_list(OptionList *to, const OptionList *from) {
    for (int i = 0; i < from->n; i++) option_add(&to->v, &to->n, xstrdup(from->v[i]));
}

static char *copy_text(const char *s) { return s ? xstrdup(s) : NULL; }

/* The place of a draft in the graph, where it and all it needs are put. */
static int place_draft(LabGraph *g, Drafts *d, int i) {
    Draft *t = &d->v[i];
    if (t->place >= 0) return t->place;
    for (int k = 0; k < g->n; k++)
        if (g->step[k].address == t->s.address) return t->place = k;
    LabStep s = {.name = xstrdup(t->s.name),
                 .folder = xasprintf("%s/steps/%s-%016" PRIx64, g->out, t->s.name, t->s.address),
                 .address = t->s.address,
                 .run = copy_text(t->s.run),
                 .stage = t->s.stage,
                 .config = copy_text(t->s.config),
                 .dir = copy_text(t->s.dir)};
    copy_list(&s.set, &t->s.set);
    copy_list(&s.env, d->env);
    s.from = xcalloc((size_t)t->names.n + 1, sizeof *s.from);
    for (int k = 0; k < t->names.n; k++) {
        if (t->before[k] == i) continue;
        s.from[s.input.n] = place_draft(g, d, t->before[k]);
        option_add(&s.input.v, &s.input.n, xstrdup(t->names.v[k]));
    }
    g->step = xrealloc(g->step, (size_t)(g->n + 1) * sizeof *g->step);
    g->step[g->n] = s;
    return t->place = g->n++;
}

static void add_product(LabCell *c, const char *name, int step) {
    c->product = xrealloc(c->product, (size_t)(c->nproduct + 1) * sizeof *c->product);
    c->product[c->nproduct++] = (LabProduct){xstrdup(name), step};
}

static int place_cell(LabGraph *g, Drafts *d, LabCell *c, const int *step_of_measure) {
    for (int m = 0; m < d->lab->nmeasure; m++) {
        const LabMeasure *measure = &d->lab->measure[m];
        const size_t n = strcspn(measure->read, "/");
        const int maker = step_naming(d, measure->read, n);
        if (maker < 0)
            return error_set(ERR_CONFIG, "%s: measure %s reads %s, which no step makes",
                             d->lab->path, measure->name, measure->read);
        if (step_of_measure[m] >= 0 && step_of_measure[m] != maker)
            return error_set(ERR_CONFIG,
                             "%s: measure %s has a command, but reads %s, which step %s makes",
                             d->lab->path, measure->name, measure->read, d->v[maker].s.name);
        c->measured[m] = place_draft(g, d, maker);
    }
    for (int i = 0; i < d->n; i++)
        for (int k = 0; k < d->v[i].names.n; k++)
            if (d->v[i].before[k] == i && d->v[i].place >= 0)
                add_product(c, d->v[i].names.v[k], d->v[i].place);
    return 0;
}

/* --- settings of a cell ----------------------------------------------------------------------- */
static bool is_variable(const char *setting) {
    const size_t n = strspn(setting, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    return n > 0 && setting[n] == '=';
}

static int sort_setting(const LabFile *lab, const char *setting, OptionList *env, OptionList *set) {
    static const char *const ours[] = {"RUN=", "RECIPE=", "BIN=", "PATH=", "DATA="};
    for (int i = 0; i < 5; i++)
        if (strncmp(setting, ours[i], strlen(ours[i])) == 0)
            return error_set(ERR_CONFIG, "%s: %s is set by rhetor-lab", lab->path, setting);
    OptionList *l = is_variable(setting) ? env : set;
    option_add(&l->v, &l->n, xstrdup(setting));
    return 0;
}

static int settings_of(const LabFile *lab, int cell, OptionList *env, OptionList *set) {
    for (int i = 0; i < lab->set.n; i++) TRY(sort_setting(lab, lab->set.v[i], env, set));
    for (int f = 0; f < lab->nfactor; f++) {
        const LabLevel *l = matrix_level(lab, cell, f);
        for (int i = 0; i < l->set.n; i++) TRY(sort_setting(lab, l->set.v[i], env, set));
    }
    return 0;
}

static void set_variables(const OptionList *env, bool set) {
    for (int i = 0; i < env->n; i++) {
        AUTOFREE char *name = xasprintf("%.*s", (int)strcspn(env->v[i], "="), env->v[i]);
        if (set)
            setenv(name, strchr(env->v[i], '=') + 1, 1);
        else
            unsetenv(name);
    }
}

static int check_commands(const LabGraph *g, const Recipe *r) {
    setenv("RUN", g->out, 1); /* its name is what the shell may divide into words */
    const int rc = recipe_check_commands(r);
    setenv("RUN", "${RUN}", 1);
    return rc;
}

static int load_cell(LabGraph *g, int l, int index, const char *data) {
    const LabFile *lab = &g->lab[l];
    OptionList env = {0}, set = {0};
    Recipe recipe = {0};
    Request request = {.recipe = lab->recipe, .run = "${RUN}", .seed = SEED_OPEN, .data = data};
    LabCell *c = &g->cell[g->ncell++];
    *c = (LabCell){
        .lab = l, .index = index, .measured = xcalloc((size_t)lab->nmeasure, sizeof(int))};
    AUTOFREE int *made = xcalloc((size_t)lab->nmeasure, sizeof *made);
    Drafts d = {.lab = lab, .env = &env};
    int rc = request_environment(&request, false);
    option_add(&env.v, &env.n, xasprintf("RECIPE=%s", getenv("RECIPE")));
    option_add(&env.v, &env.n, xstrdup("SEED=1"));
    if (rc >= 0) rc = settings_of(lab, index, &env, &set);
    set_variables(&env, true);
    if (rc >= 0) rc = recipe_load_with(&recipe, getenv("RECIPE"), lab->path, set.v, set.n);
    if (rc >= 0) rc = check_commands(g, &recipe);
    if (rc >= 0) rc = draft_recipe(&d, &recipe);
    for (int m = 0; rc >= 0 && m < lab->nmeasure; m++) {
        made[m] = lab->measure[m].run ? d.n : -1;
        if (lab->measure[m].run) rc = draft_measure(&d, &lab->measure[m]);
    }
    if (rc >= 0) rc = place_cell(g, &d, c, made);
    if (rc < 0) {
        AUTOFREE char *name = matrix_name(lab, index);
        error_wrap(rc, "%s, cell %s", lab->path, name);
    }
    set_variables(&env, false);
    drafts_free(&d);
    recipe_free(&recipe);
    option_free(&env);
    option_free(&set);
    return rc;
}

/* --- what steps took before -------------------------------------------------------------------- */
/* Of all labs that work in OUT: the mean of the steps of each name. */
static void recall_costs(LabGraph *g) {
    char **entry;
    int n;
    AUTOFREE char *folder = file_join(g->out, "steps");
    AUTOFREE int *times = xcalloc((size_t)g->n + 1, sizeof *times);
    if (!file_is_dir(folder) || file_list(folder, &entry, &n) < 0) return;
    for (int e = 0; e < n; e++) {
        const char *dash = strrchr(entry[e], '-'); /* NAME-ADDRESS */
        AUTOFREE char *done = xasprintf("%s/%s/.lab/done.json", folder, entry[e]);
        json_auto_t *j = NULL;
        double seconds;
        if (dash && file_exists(done) && json_read_file(&j, done) >= 0 &&
            json_get_f64(j, "seconds", &seconds) >= 0)
            for (int i = 0; i < g->n; i++) {
                LabStep *s = &g->step[i];
                const size_t length = (size_t)(dash - entry[e]);
                if (strlen(s->name) != length || strncmp(s->name, entry[e], length) != 0) continue;
                s->before += (seconds - s->before) / ++times[i];
            }
    }
    file_free_list(&entry, n);
}

int steps_load(LabGraph *out, const OptionList *paths, const OptionList *set, const char *folder,
               const char *data) {
    const int n = paths->n;
    *out = (LabGraph){.out = xstrdup(folder), .lab = xcalloc((size_t)n, sizeof *out->lab)};
    int rc = 0, cells = 0;
    for (int i = 0; rc >= 0 && i < n; i++) {
        rc = matrix_read(&out->lab[i], paths->v[i]);
        if (rc < 0) break;
        out->nlab++;
        copy_list(&out->lab[i].set, set);
        cells += matrix_cells(&out->lab[i]);
        for (int k = 0; k < i && rc >= 0; k++)
            if (strcmp(out->lab[k].name, out->lab[i].name) == 0)
                rc = error_set(ERR_USAGE, "%s and %s are both called %s", paths->v[k], paths->v[i],
                               out->lab[i].name);
    }
    out->cell = xcalloc((size_t)cells + 1, sizeof *out->cell);
    for (int l = 0; l < out->nlab; l++)
        for (int i = 0; rc >= 0 && i < matrix_cells(&out->lab[l]); i++)
            rc = load_cell(out, l, i, data);
    if (rc >= 0) recall_costs(out);
    if (rc < 0) steps_free(out);
    return rc < 0 ? rc : 0;
}

void steps_free(LabGraph *g) {
    for (int i = 0; i < g->n; i++) {
        LabStep *s = &g->step[i];
        char *texts[] = {s->name, s->folder, s->run, s->config, s->dir};
        for (int k = 0; k < 5; k++) free(texts[k]);
        option_free(&s->set);
        option_free(&s->env);
        option_free(&s->input);
        free(s->from);
    }
    for (int i = 0; i < g->ncell; i++) {
        free(g->cell[i].measured);
        for (int k = 0; k < g->cell[i].nproduct; k++) free(g->cell[i].product[k].name);
        free(g->cell[i].product);
    }
    for (int i = 0; i < g->nlab; i++) matrix_free(&g->lab[i]);
    free(g->lab);
    free(g->cell);
    free(g->step);
    free(g->out);
    *g = (LabGraph){0};
}

/* --- states ----------------------------------------------------------------------------------- */
char *steps_file(const LabStep *s, const char *name) {
    return xasprintf("%s/.lab/%s", s->folder, name);
}

char *steps_measured(const LabGraph *g, const LabCell *c, int measure) {
    return file_join(g->step[c->measured[measure]].folder, g->lab[c->lab].measure[measure].read);
}

static LabState look(const LabGraph *g, LabStep *s) {
    AUTOFREE char *done = steps_file(s, "done.json"), *failed = steps_file(s, "failed"),
                  *lock = steps_file(s, "");
    json_auto_t *j = NULL;
    if (file_exists(done) && json_read_file(&j, done) >= 0 &&
        json_get_f64(j, "seconds", &s->seconds) >= 0 && json_get_f64(j, "cpu", &s->cpu) >= 0)
        return LAB_DONE;
    if (file_exists(failed)) return LAB_FAILED;
    LabState state = LAB_READY;
    for (int k = 0; k < s->input.n; k++) {
        const LabState before = g->step[s->from[k]].state;
        if (before == LAB_FAILED) return LAB_FAILED;
        if (before != LAB_DONE) state = LAB_WAITS;
    }
    return state == LAB_READY && lock_held(lock, NULL) ? LAB_RUNS : state;
}

void steps_look(LabGraph *g) {
    for (int i = 0; i < g->n; i++)
        if (g->step[i].state != LAB_DONE) g->step[i].state = look(g, &g->step[i]);
}
