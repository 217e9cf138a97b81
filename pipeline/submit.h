/* submit.h: what the parts of rhetor-submit share. */
#ifndef PIPELINE_SUBMIT_H
#define PIPELINE_SUBMIT_H

#include "base/config.h"
#include "base/text.h"
#include "pipeline/jobs.h"
#include "pipeline/progress.h"
#include "pipeline/request.h"

/* What is asked for on the command line. */
typedef struct Order {
    Request request;    /* its seed: of the one chain, where there is no --array */
    const char *file;   /* --cluster; NULL: the recipe's cluster.yaml, if there is one */
    OptionList cluster; /* "cluster.key=value", and "STEP:cluster.key=value" */
    bool dry, doctor;   /* doctor: one job with the first stage's layout that runs rhetor-doctor */
} Order;

/* One job: the steps first to last of the recipe. Commands that follow one another are one job, as
 * a place in the queue may cost hours; a stage is a job of its own. */
typedef struct Task {
    int first, last;
    bool stage;
    Config c;        /* its cluster.* */
    int64_t seconds; /* of cluster.time; 0: the queue's */
    bool srun;
} Task;

typedef struct SubmitPlan {
    const Order *order;
    Recipe recipe;
    const Queue *queue;
    const char *command; /* NULL: rhetor-pipeline's; else what each job does (rhetor-lab) */
    Task *task;
    int n;
} SubmitPlan;

/* Reads cluster.yaml and makes the jobs; RUN and the other variables must be set (plan->recipe is
 * loaded). ERR_CONFIG where something does not fit, ERR_USAGE where there is no queue. */
int submit_plan(SubmitPlan *p);
void submit_plan_free(SubmitPlan *p);

/* ERR_CONFIG where a script would hold a text that its queue or the shell takes for something else:
 * control characters, quotes in a directive. */
int submit_check_script(const SubmitPlan *p, const Task *t);
/* The text of a job's script; malloc'd. Plain bash: directives, prologue, one command. */
char *submit_script(const SubmitPlan *p, int i);
/* A word of bash, in quotes where it needs them. */
void submit_word(Text *t, const char *word);
char *submit_script_path(const SubmitPlan *p, int i); /* RUN/jobs/NAME.sh; malloc'd */

#endif
