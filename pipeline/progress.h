/* progress.h: what of a recipe is done.
 *
 * A step's key is a hash of what it does (its command, or its stage's settings) and of the keys and
 * results of all steps before it. ${RUN}/.pipeline/NAME.json keeps the key under which it was last
 * started; a step is done when it was finished under the key that it has now. So whatever is
 * changed, that step and all after it are made again, and nothing else is. Nothing here is
 * collective. */
#ifndef PIPELINE_PROGRESS_H
#define PIPELINE_PROGRESS_H

#include "pipeline/recipe.h"

typedef enum StepState {
    STEP_WAITING, /* never started, or nobody knows: started by hand */
    STEP_STARTED, /* with the present key: goes on where it stopped */
    STEP_CHANGED, /* it was made otherwise: to be made again */
    STEP_DONE
} StepState;

/* The key of step i, given that of step i-1 (0 for the first) and the results that lie there
 * now. */
uint64_t progress_key(const Recipe *r, int i, uint64_t before);
StepState progress_state(const Recipe *r, int i, uint64_t key);

/* What is known of a step that was started. */
typedef struct StepMark {
    uint64_t key;
    bool done;
    double seconds; /* of all attempts */
} StepMark;
bool progress_mark_read(const Recipe *r, int i, StepMark *out); /* false: there is none */
int progress_mark_write(const Recipe *r, int i, const StepMark *m);

/* status.json of a stage; zeros and "" where there is none. */
typedef struct StageStatus {
    char state[16]; /* "running", "stopped", "failed", "done" */
    char reason[128];
    int code;
    int64_t step, steps, saved;
} StageStatus;
void progress_status(const RecipeStep *s, StageStatus *out);

#endif
