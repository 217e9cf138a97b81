/* request.c: what a program that runs a recipe is asked for. See request.h. */
#include "pipeline/request.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/option.h"
#include "base/process.h"

/* --- command line ----------------------------------------------------------------------------- */
enum { OPT_RUN = 2000, OPT_SEED, OPT_DATA, OPT_MINUTES };

static const struct argp_option options[] = {
    {"run", OPT_RUN, "DIR", 0, "folder of the run (runs/RECIPE; other seeds: runs/RECIPE-seedN)",
     0},
    {"seed", OPT_SEED, "N", 0, "seed of all steps (1)", 0},
    {"data", OPT_DATA, "DIR", 0, "folder of data, for recipes that ask for ${DATA}", 0},
    {"minutes", OPT_MINUTES, "N", 0, "time to take, for recipes that are sized (configs/own: 30)",
     0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
    Request *r = state->input;
    switch (key) {
    case OPT_RUN: r->run = arg; break;
    case OPT_SEED:
        option_whole_to(state, "seed", arg, 0, UINT32_MAX);
        r->seed = arg;
        break;
    case OPT_DATA: r->data = arg; break;
    case OPT_MINUTES:
        option_number(state, "minutes", arg, 0.1, 1e6);
        r->minutes = arg;
        break;
    case ARGP_KEY_ARG:
        if (strchr(arg, '='))
            option_add(&r->set, &r->nset, arg);
        else if (!r->recipe)
            r->recipe = arg;
        else
            argp_error(state, "two recipes, %s and %s; settings are written key=value", r->recipe,
                       arg);
        break;
    case ARGP_KEY_END:
        if (!r->recipe) argp_error(state, "which recipe? e.g. %s configs/demo", state->name);
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

const struct argp request_argp = {options, parse, NULL, NULL, NULL, NULL, NULL};

void request_free(Request *r) {
    free(r->set);
    json_decref(r->recalled);
    *r = (Request){0};
}

/* --- the environment of the steps ------------------------------------------------------------- */

/* The path as seen from here: relative where it lies below, so that one folder has one name. */
static char *canonical(const char *path) {
    char *real = realpath(path, NULL), *here = realpath(".", NULL);
    const size_t n = here ? strlen(here) : 0;
    const bool below = real && here && strncmp(real, here, n) == 0 && real[n] == '/';
    char *out = xstrdup(below ? real + n + 1 : real ? real : path);
    free(real);
    free(here);
    return out;
}

char *request_folder(const char *recipe) {
    const char *name = strncmp(recipe, "configs/", 8) == 0 ? recipe + 8 : recipe;
    char *bin = process_folder(), *found = NULL;
    char *places[] = {xstrdup(recipe), file_join("configs", name),
                      xasprintf("%s/../share/rhetor/configs/%s", bin, name),
                      xasprintf("%s/../configs/%s", bin, name)};
    for (int i = 0; i < 4; i++) {
        char *file = file_join(places[i], "pipeline.yaml");
        if (!found && file_exists(file)) found = canonical(places[i]);
        free(places[i]);
        free(file);
    }
    free(bin);
    return found ? found : canonical(recipe);
}

int request_environment(const Request *r, bool make) {
    const char *seed = r->seed ? r->seed : "1", *path = getenv("PATH");
    char *folder = request_folder(r->recipe), *bin = process_folder();
    char *run = r->run                   ? xstrdup(r->run)
                : strcmp(seed, "1") == 0 ? xasprintf("runs/%s", file_basename(folder))
                                         : xasprintf("runs/%s-seed%s", file_basename(folder), seed);
    int rc = make ? file_make_dirs(run) : 0;
    char *name = canonical(run);
    const size_t n = strlen(bin);
    const bool there = path && strncmp(path, bin, n) == 0 && path[n] == ':';
    char *search = xasprintf("%s:%s", bin, path ? path : "/usr/bin:/bin");
    setenv("RUN", name, 1);
    setenv("SEED", seed, 1);
    setenv("RECIPE", folder, 1);
    setenv("BIN", bin, 1);
    if (!there) setenv("PATH", search, 1);
    if (r->data) setenv("DATA", r->data, 1);
    if (r->minutes) setenv("MINUTES", r->minutes, 1);
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

/* --- what a run was started with -------------------------------------------------------------- */

/* No step can be called so. */
static char *record_path(void) { return xasprintf("%s/.pipeline/.request.json", getenv("RUN")); }

int request_remember(const Request *r) {
    char *path = record_path();
    json_t *set = json_array();
    bool good = true;
    for (int i = 0; i < r->nset; i++)
        good = good && json_array_append_new(set, json_string(r->set[i])) == 0;
    json_t *j = json_pack("{s:s, s:s, s:s*, s:s*, s:o}", "recipe", getenv("RECIPE"), "seed",
                          getenv("SEED"), "data", r->data, "minutes", r->minutes, "settings", set);
    char *folder = file_join(getenv("RUN"), ".pipeline");
    int rc = j && good ? file_make_dirs(folder)
                       : error_set(ERR_CONFIG, "command line: a setting is not UTF-8");
    if (rc >= 0) rc = json_write_file(j, path);
    json_decref(j);
    free(folder);
    free(path);
    return rc;
}

bool request_recall(Request *r) {
    char *path = record_path();
    json_t *j = NULL;
    const char *recipe = "";
    bool any = false;
    if (file_exists(path) && json_read_file(&j, path) >= 0) json_get_str(j, "recipe", &recipe);
    free(path);
    if (!j || strcmp(file_basename(recipe), file_basename(getenv("RECIPE"))) != 0) {
        json_decref(j);
        return false;
    }
    const char **const open[] = {&r->seed, &r->data, &r->minutes};
    static const char *const names[] = {"seed", "data", "minutes"};
    for (int i = 0; i < 3; i++) {
        if (*open[i]) continue;
        *open[i] = json_string_value(json_object_get(j, names[i]));
        any = any || *open[i];
    }
    const json_t *set = json_object_get(j, "settings");
    for (size_t i = 0, n = r->nset ? 0 : json_array_size(set); i < n; i++) {
        const char *one = json_string_value(json_array_get(set, i));
        if (one) option_add(&r->set, &r->nset, one);
    }
    r->recalled = j;
    return any || r->nset > 0;
}

int request_check_made(Request *r) {
    static const char *const names[] = {"--data", "--minutes"};
    Request was = {.recipe = r->recipe};
    if (!request_recall(&was)) return 0;
    const char **const now[] = {&r->data, &r->minutes}, *const then[] = {was.data, was.minutes};
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++) {
        if (!*now[i])
            *now[i] = then[i];
        else if (!then[i] || strcmp(*now[i], then[i]) != 0)
            rc = error_set(ERR_CONFIG,
                           "%s was started with %s %s, not %s; go on without it, choose another "
                           "--run, or remove that folder",
                           getenv("RUN"), names[i], then[i] ? then[i] : "(its default)", *now[i]);
    }
    free(was.set);
    json_decref(r->recalled);
    r->recalled = was.recalled;
    return rc;
}
