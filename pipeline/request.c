/* request.c: what a program that runs a recipe is asked for. See request.h. */
#include "pipeline/request.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/process.h"

/* --- command line ----------------------------------------------------------------------------- */
int request_argument(void *args, const Option *o, char *arg) {
    Request *r = (Request *)(void *)((char *)args + o->at);
    if (strchr(arg, '='))
        option_add(&r->set.v, &r->set.n, arg);
    else if (r->recipe)
        return error_set(ERR_USAGE, "two recipes, %s and %s; settings are written key=value",
                         r->recipe, arg);
    else
        r->recipe = arg;
    return 0;
}

int request_check(const Request *r) {
    return r->recipe ? 0 : error_set(ERR_USAGE, "which recipe? e.g. configs/demo");
}

void request_free(Request *r) {
    free(r->set.v);
    json_decref(r->recalled);
    *r = REQUEST_NONE;
}

/* --- the environment of the steps ------------------------------------------------------------- */

/* The path as seen from here: relative where it lies below, so that one folder has one name. */
static char *canonical(const char *path) {
    AUTOFREE char *real = realpath(path, NULL), *here = realpath(".", NULL);
    const size_t n = here ? strlen(here) : 0;
    const bool below = real && here && strncmp(real, here, n) == 0 && real[n] == '/';
    return xstrdup(below ? real + n + 1 : real ? real : path);
}

char *request_folder(const char *recipe) {
    const char *name = strncmp(recipe, "configs/", 8) == 0 ? recipe + 8 : recipe;
    char *bin = process_folder(), *found = NULL;
    char *places[] = {xstrdup(recipe), file_join("configs", name),
                      xasprintf("%s/../share/rhetor/configs/%s", bin, name),
                      xasprintf("%s/../configs/%s", bin, name)};
    for (int i = 0; i < 4; i++) {
        AUTOFREE char *file = file_join(places[i], "pipeline.yaml");
        if (!found && file_exists(file)) found = canonical(places[i]);
        free(places[i]);
    }
    free(bin);
    return found ? found : canonical(recipe);
}

int request_environment(const Request *r, bool make) {
    const char *path = getenv("PATH");
    AUTOFREE char *seed = xasprintf("%" PRId64, r->seed == SEED_OPEN ? 1 : r->seed);
    AUTOFREE char *folder = request_folder(r->recipe), *bin = process_folder();
    AUTOFREE char *run = r->run ? xstrdup(r->run)
                         : strcmp(seed, "1") == 0
                             ? xasprintf("runs/%s", file_basename(folder))
                             : xasprintf("runs/%s-seed%s", file_basename(folder), seed);
    int rc = make ? file_make_dirs(run) : 0;
    AUTOFREE char *name = canonical(run), *minutes = xasprintf("%g", r->minutes);
    const size_t n = strlen(bin);
    const bool there = path && strncmp(path, bin, n) == 0 && path[n] == ':';
    AUTOFREE char *search = xasprintf("%s:%s", bin, path ? path : "/usr/bin:/bin");
    setenv("RUN", name, 1);
    setenv("SEED", seed, 1);
    setenv("RECIPE", folder, 1);
    setenv("BIN", bin, 1);
    if (!there) setenv("PATH", search, 1);
    if (r->data) setenv("DATA", r->data, 1);
    if (r->minutes > 0) setenv("MINUTES", minutes, 1);
    if (geteuid() == 0) { /* mpirun refuses to work for root otherwise */
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    }
    return rc;
}

/* --- what a run was started with -------------------------------------------------------------- */

/* No step can be called so. */
static char *record_path(void) { return xasprintf("%s/.pipeline/.request.json", getenv("RUN")); }

int request_remember(const Request *r) {
    AUTOFREE char *path = record_path(), *folder = file_join(getenv("RUN"), ".pipeline");
    json_t *set = json_array();
    bool good = true;
    for (int i = 0; i < r->set.n; i++)
        good = good && json_array_append_new(set, json_string(r->set.v[i])) == 0;
    json_auto_t *j = json_pack("{s:s, s:I, s:s*, s:f, s:o}", "recipe", getenv("RECIPE"), "seed",
                               (json_int_t)strtoll(getenv("SEED"), NULL, 10), "data", r->data,
                               "minutes", r->minutes, "settings", set);
    TRY(j && good ? file_make_dirs(folder)
                  : error_set(ERR_CONFIG, "command line: a setting is not UTF-8"));
    return json_write_file(j, path);
}

bool request_recall(Request *r) {
    AUTOFREE char *path = record_path();
    json_t *j = NULL;
    const char *recipe = "";
    if (file_exists(path) && json_read_file(&j, path) >= 0) json_get_str(j, "recipe", &recipe);
    if (!j || strcmp(file_basename(recipe), file_basename(getenv("RECIPE"))) != 0) {
        json_decref(j);
        return false;
    }
    if (r->seed == SEED_OPEN) json_get_i64(j, "seed", &r->seed);
    if (!r->data) r->data = json_string_value(json_object_get(j, "data"));
    if (r->minutes <= 0) json_get_f64(j, "minutes", &r->minutes);
    const json_t *set = json_object_get(j, "settings");
    for (size_t i = 0, n = r->set.n ? 0 : json_array_size(set); i < n; i++) {
        const char *one = json_string_value(json_array_get(set, i));
        if (one) option_add(&r->set.v, &r->set.n, one);
    }
    r->recalled = j;
    return true;
}

int request_check_made(Request *r) {
    Request was = REQUEST_NONE;
    if (!request_recall(&was)) return 0;
    int rc = 0;
    if (r->data && (!was.data || strcmp(r->data, was.data) != 0))
        rc = error_set(ERR_CONFIG,
                       "%s was started with --data %s, not %s; choose another --run, or remove "
                       "that folder",
                       getenv("RUN"), was.data ? was.data : "(none)", r->data);
    if (r->minutes > 0 && fabs(r->minutes - was.minutes) > 1e-9)
        rc = error_set(ERR_CONFIG,
                       was.minutes > 0
                           ? "%s was started with --minutes %g, not %g; go on without it, "
                             "choose another --run, or remove that folder"
                           : "%s was started without --minutes (%g), not with %g; go on "
                             "so, choose another --run, or remove that folder",
                       getenv("RUN"), was.minutes, r->minutes);
    r->data = was.data;
    r->minutes = was.minutes;
    free(was.set.v);
    json_decref(r->recalled);
    r->recalled = was.recalled;
    return rc;
}
