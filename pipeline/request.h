/* request.h: what a program that runs a recipe is asked for: the command line RECIPE, --run, --seed,
 * --data, --minutes and settings; the environment that follows from it; and what a run was started
 * with, kept in its folder for --status. Nothing here is collective. */
#ifndef PIPELINE_REQUEST_H
#define PIPELINE_REQUEST_H

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>

typedef struct Request {
    const char *recipe;         /* its folder, or the name of one that comes with Rhetor */
    const char *run, *seed;     /* NULL: runs/RECIPE (other seeds: runs/RECIPE-seedN), 1 */
    const char *data, *minutes; /* ${DATA}, ${MINUTES}; NULL: as the environment has them */
    const char **set;           /* "section.key=value" and "STEP:section.key=value" */
    int nset;
    json_t *recalled; /* owns what came from request_recall */
} Request;
void request_free(Request *r);

/* A child of the program's argp, which gives it a Request as input at ARGP_KEY_INIT. What the
 * program does not take (ARGP_ERR_UNKNOWN) comes here. */
extern const struct argp request_argp;

/* Sets RUN, SEED, RECIPE, BIN, DATA, MINUTES and a PATH that finds the programs, for recipe_load and
 * the steps. make: the run's folder is made where it is missing. ERR_IO. */
int request_environment(const Request *r, bool make);
/* The folder of a recipe: as it is given, or, where no pipeline.yaml lies there, below configs/ here,
 * where Rhetor is installed (share/rhetor/configs), or in its source tree; malloc'd. */
char *request_folder(const char *recipe);

/* Keeps in the run's folder what its steps were started with. */
int request_remember(const Request *r);
/* Fills in what the command line leaves open, as the run of RUN was started; true: something came.
 * Nothing where it was started from another recipe. */
bool request_recall(Request *r);
/* For a recipe that is made from the data: ERR_CONFIG where the run of RUN was started for other data
 * or another time. Fills in the two where the command line leaves them open. */
int request_check_made(Request *r);

#endif
