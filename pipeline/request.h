/* request.h: what a program that runs a recipe is asked for: the command line RECIPE, --run,
 * --seed, --data, --minutes and settings; the environment that follows from it; and what a run was
 * started with, kept in its folder for --status. Nothing here is collective. */
#ifndef PIPELINE_REQUEST_H
#define PIPELINE_REQUEST_H

#include <jansson.h>
#include <stdbool.h>

#include "base/option.h"

typedef struct Request {
    const char *recipe; /* its folder, or the name of one that comes with Rhetor */
    const char *run;    /* NULL: runs/RECIPE, of other seeds runs/RECIPE-seedN */
    int64_t seed;       /* SEED_OPEN: 1 */
    const char *data;   /* ${DATA}, and */
    double minutes;     /* ${MINUTES}; NULL, 0: as the environment has them */
    OptionList set;     /* "section.key=value" and "STEP:section.key=value" */
    json_t *recalled;   /* owns what came from request_recall */
} Request;
enum { SEED_OPEN = -1 };
#define REQUEST_NONE \
    (Request) { .seed = SEED_OPEN }
void request_free(Request *r);

/* Rows of a program's table of options, whose Args have the Request `r`. */
#define REQUEST_OPTIONS(r)                                                                        \
    {"run", 0, "DIR", "folder of the run (runs/RECIPE; other seeds: runs/RECIPE-seedN)",          \
     OPT_TEXT(r.run)},                                                                            \
        {"seed", 0, "N", "seed of all steps (1)", OPT_WHOLE(r.seed, 0, UINT32_MAX)},              \
        {"data", 0, "DIR", "folder of data, for recipes that ask for ${DATA}", OPT_TEXT(r.data)}, \
    {                                                                                             \
        "minutes", 0, "N", "time to take, for recipes that are sized (configs/own: 30)",          \
            OPT_NUMBER(r.minutes, 0.1, 1e6)                                                       \
    }
/* ... for RECIPE and settings; `take` is request_argument, or what ends with it. */
#define REQUEST_ARGUMENTS(r, value, take) \
    { NULL, 0, value, NULL, .kind = OPTION_CALL, .at = offsetof(Args, r), .set = take }
OptionSet request_argument;
/* ERR_USAGE where no recipe was given. */
int request_check(const Request *r);

/* Sets RUN, SEED, RECIPE, BIN, DATA, MINUTES and a PATH that finds the programs, for recipe_load
 * and the steps. make: the run's folder is made where it is missing. ERR_IO. */
int request_environment(const Request *r, bool make);
/* The folder of a recipe: as it is given, or, where no pipeline.yaml lies there, below configs/
 * here, where Rhetor is installed (share/rhetor/configs), or in its source tree; malloc'd. */
char *request_folder(const char *recipe);

/* Keeps in the run's folder what its steps were started with. */
int request_remember(const Request *r);
/* Fills in what the command line leaves open, as the run of RUN was started; false: nothing is
 * known of one from this recipe. */
bool request_recall(Request *r);
/* For a recipe that is made from the data: ERR_CONFIG where the run of RUN was started for other
 * data or another time. Fills in the two where the command line leaves them open. */
int request_check_made(Request *r);

#endif
