/* recipe_option.c: the command line of the programs that run a recipe. */
#include "pipeline/recipe_option.h"

#include "base/option.h"

#include <string.h>

enum { OPT_RUN = 2000, OPT_SEED, OPT_DATA };

static const struct argp_option options[] = {
    {"run", OPT_RUN, "DIR", 0, "folder of the run (runs/RECIPE; other seeds: runs/RECIPE-seedN)",
     0},
    {"seed", OPT_SEED, "N", 0, "seed of all steps (1)", 0},
    {"data", OPT_DATA, "DIR", 0, "folder of data, for recipes that ask for ${DATA}", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
    RecipeOptions *o = state->input;
    switch (key) {
    case OPT_RUN: o->place.run = arg; break;
    case OPT_SEED:
        option_whole_to(state, "seed", arg, 0, UINT32_MAX);
        o->place.seed = arg;
        break;
    case OPT_DATA: o->place.data = arg; break;
    case ARGP_KEY_ARG:
        if (strchr(arg, '='))
            option_add(&o->set, &o->nset, arg);
        else if (!o->place.folder)
            o->place.folder = arg;
        else
            argp_error(state, "two recipes, %s and %s; settings are written key=value",
                       o->place.folder, arg);
        break;
    case ARGP_KEY_END:
        if (!o->place.folder) argp_error(state, "which recipe? e.g. %s configs/demo", state->name);
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

const struct argp recipe_argp = {options, parse, NULL, NULL, NULL, NULL, NULL};
