/* recipe.h: a pipeline: a folder with one YAML file a stage, and pipeline.yaml, which lists the
 * steps in their order:
 *
 *   steps:
 *     - name: world
 *       run: rhetor-data synth --out ${RUN}/data --seed ${SEED}    # a shell command
 *     - name: pretrain
 *       stage: pretrain                                            # rhetor-pretrain pretrain.yaml
 *     - name: ppo-ptx
 *       stage: ppo
 *       config: ppo-ptx.yaml
 *
 * Commands and stage files use the environment variables RUN (folder of the run), SEED, RECIPE
 * (this folder), BIN (the programs).
 *
 * A step's key is a hash of what it does (its command, or its stage's settings) and of the keys and
 * results of all steps before it. ${RUN}/.pipeline/NAME.json keeps the key under which it was last
 * started; a step is done when it was finished under the key that it has now. So whatever is
 * changed, that step and all after it are made anew, and nothing else is. Nothing here is
 * collective. */
#ifndef TRAIN_RECIPE_H
#define TRAIN_RECIPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"

typedef enum StepState {
    STEP_WAITING, /* never started, or nobody knows: started by hand */
    STEP_STARTED, /* with the present key: goes on where it stopped */
    STEP_CHANGED, /* it was made otherwise: to be made anew */
    STEP_DONE
} StepState;

typedef struct Step {
    char *name, *place; /* place: "pipeline.yaml:7" */
    char *run;          /* shell command; NULL: a stage */
    int stage;          /* IN_*; 0: a command */
    char *config;       /* of a stage: path of its file */
    const char **set;   /* of a stage: the overrides that it knows; borrowed */
    int nset;
    char *dir;     /* of a stage: its run folder */
    uint64_t what; /* hash of what it does */
} Step;

typedef struct Recipe {
    char *folder, *marks; /* marks: ${RUN}/.pipeline */
    Step *step;
    int n;
} Recipe;

/* Sets RUN, SEED, RECIPE, BIN, DATA and a PATH that finds the programs, for recipe_load and the
 * steps. seed NULL: 1; run NULL: runs/RECIPE, of other seeds runs/RECIPE-seedN; data NULL: as it
 * is. make: the run's folder is made where it is missing. */
typedef struct RecipePlace {
    const char *folder, *run, *seed, *data;
    bool make;
} RecipePlace;
int recipe_environment(const RecipePlace *p);

/* Reads pipeline.yaml and the files of all stages (so that what is wrong in the last one is said
 * before the first one runs). Overrides: "section.key=value" goes to the stages that know the key,
 * "STEP:section.key=value" to one step; borrowed. RUN and the other variables must be set.
 * ERR_CONFIG with file:line, or the override and what was probably meant. */
int recipe_load(Recipe *out, const char *folder, const char *const *overrides, int n);
void recipe_free(Recipe *r);
/* ERR_CONFIG if a command of the recipe asks for ${DATA} and nobody has set it: the shell would
 * take it for "". */
int recipe_check_data(const Recipe *r);
/* Index of a step; ERR_USAGE with "did you mean" when there is none. */
int recipe_find(const Recipe *r, const char *name);

/* ${NAME} replaced from the environment, as the shell will; what is not there (the command's own
 * variables) is left as it is. malloc'd. */
char *recipe_expand(const char *command);

/* The key of step i, given that of step i-1 (0 for the first) and the results that lie there now.
 */
uint64_t recipe_key(const Recipe *r, int i, uint64_t before);
StepState recipe_state(const Recipe *r, int i, uint64_t key);

/* What is known of a step that was started. */
typedef struct StepMark {
    uint64_t key;
    bool done;
    double seconds; /* of all attempts */
} StepMark;
bool recipe_mark_read(const Recipe *r, int i, StepMark *out); /* false: there is none */
int recipe_mark_write(const Recipe *r, int i, const StepMark *m);

/* status.json of a stage; zeros and "" where there is none. */
typedef struct StageStatus {
    char state[16]; /* "running", "stopped", "failed", "done" */
    char reason[128];
    int code;
    int64_t step, steps, saved;
} StageStatus;
void recipe_status(const Step *s, StageStatus *out);

#endif
