/* recipe_option.h: the command line of the programs that run a recipe: RECIPE, --run, --seed,
 * --data and settings. */
#ifndef TRAIN_RECIPE_OPTION_H
#define TRAIN_RECIPE_OPTION_H

#include <argp.h>

#include "pipeline/recipe.h"

typedef struct RecipeOptions {
    RecipePlace place; /* folder is set, the others may be NULL */
    const char **set;  /* "section.key=value" and "STEP:section.key=value"; the caller frees */
    int nset;
} RecipeOptions;

/* A child of the program's argp, which gives it a RecipeOptions as input at ARGP_KEY_INIT. What the
 * program does not take (ARGP_ERR_UNKNOWN) comes here. */
extern const struct argp recipe_argp;

#endif
