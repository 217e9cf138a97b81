/* recipe.h: a pipeline: a folder with one YAML file a stage, and pipeline.yaml, which lists the
 * steps in their order:
 *
 *   steps:
 *     - name: world
 *       run: rhetor-data synth --out "${RUN}/data" --seed ${SEED}  # a shell command
 *     - name: pretrain
 *       stage: pretrain                                            # rhetor-pretrain pretrain.yaml
 *     - name: ppo-ptx
 *       stage: ppo
 *       config: ppo-ptx.yaml
 *
 * A recipe that depends on the data (configs/own) has a command instead of steps, which writes an
 * ordinary one into ${RUN}/recipe before the first step of a run:
 *
 *   make: rhetor-size --data "${DATA}" --out "${RUN}/recipe" --minutes ${MINUTES:-30}
 *
 * A recipe may have a line to end with: `end: "talk to it: rhetor-generate -m ${RUN}/sft --chat"`.
 *
 * Commands and stage files use the environment variables RUN (folder of the run), SEED, RECIPE
 * (this folder), BIN (the programs); a command has them in quotes, as a folder's name may hold
 * spaces. Commands and stage files are programs: whoever wrote them is trusted. Nothing here is
 * collective. */
#ifndef PIPELINE_RECIPE_H
#define PIPELINE_RECIPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"

typedef struct RecipeStep {
    char *name, *place; /* place: "pipeline.yaml:7" */
    char *run;          /* shell command; NULL: a stage */
    int stage;          /* IN_*; 0: a command */
    char *config;       /* of a stage: path of its file */
    char *before;       /* of one that recipe_load_with added: the step that it comes before */
    const char **set;   /* of a stage: the overrides that it knows; borrowed */
    int nset;
    char *own;     /* of a stage that recipe_load_with added: "run.dir=...", one of its set */
    char *dir;     /* of a stage: its run folder */
    uint64_t what; /* hash of what it does */
} RecipeStep;

typedef struct Recipe {
    char *folder, *marks; /* marks: ${RUN}/.pipeline */
    char *make, *end;     /* NULL: none */
    RecipeStep *step;
    int n;
} Recipe;

/* Runs the recipe's `make` if it has one that has not run yet in this RUN (dry: with --dry-run,
 * which writes nothing). Returns 0: it has none, 1: it has run, 2: it was dry. ERR_CONFIG and what
 * the command leaves with. */
int recipe_make(const char *folder, bool dry);
/* Reads pipeline.yaml (of a recipe with `make`: the one that it wrote) and the files of all stages
 * (so that what is wrong in the last one is said before the first one runs). Overrides:
 * "section.key=value" goes to the stages that know the key, "STEP:section.key=value" to one step;
 * borrowed. RUN and the other variables must be set. ERR_CONFIG with file:line, or the override and
 * what was probably meant. */
int recipe_load(Recipe *out, const char *folder, const char *const *overrides, int n);
/* The same with the further steps that the list `steps` of the YAML file `more` has (its other keys
 * are not read): one with the name of a step takes its place, one with `before: STEP` comes before
 * that, others come last. A stage among them
 * works in ${RUN}/NAME. ERR_CONFIG for a recipe with `make`. */
int recipe_load_with(Recipe *out, const char *folder, const char *more,
                     const char *const *overrides, int n);
void recipe_free(Recipe *r);
/* ERR_CONFIG if a command of the recipe asks for ${DATA} and nobody has set it (the shell would
 * take it for ""), or has a folder outside of quotes whose name the shell would divide into
 * words. */
int recipe_check_commands(const Recipe *r);
/* Is "key=value" a setting of the step's stage? */
bool recipe_step_knows(const RecipeStep *s, const char *override);
/* Index of a step; ERR_USAGE with "did you mean" when there is none. */
int recipe_find(const Recipe *r, const char *name);

/* ${NAME} replaced from the environment, as the shell will; what is not there (the command's own
 * variables) is left as it is. malloc'd. */
char *recipe_expand(const char *command);

#endif
