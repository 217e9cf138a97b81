/* jobs.h: a recipe as jobs in a cluster's queue.
 *
 * RUN/jobs/ keeps, for each job NAME, the script NAME.sh, what it printed (NAME.out) and its lives
 * (NAME.lives.json); jobs.json keeps what was submitted, under which ids. rhetor-submit writes
 * scripts and jobs.json; the job itself is rhetor-pipeline --job NAME, which counts its lives and
 * puts itself back when a stage has saved and left with 75. Nothing here is collective. */
#ifndef PIPELINE_JOBS_H
#define PIPELINE_JOBS_H

#include "base/queue.h"

/* --- what was submitted ----------------------------------------------------------------------- */
typedef struct Job {
    char *name, *first, *last; /* the steps first to last, in this order; name is the first's */
    char *id;                  /* "": not submitted */
} Job;

typedef struct Jobs {
    const Queue *queue;
    int64_t stalls; /* cluster.stalls */
    Job *job;
    int n;
} Jobs;

/* n = 0 where nothing was submitted from this folder; ERR_DATA for what is no jobs.json. */
int jobs_read(Jobs *out, const char *run);
int jobs_write(const Jobs *j, const char *run);
void jobs_free(Jobs *j);

/* --- the lives of a job ----------------------------------------------------------------------- */
typedef struct Lives {
    int64_t starts, requeues; /* starts: requeued by the queue itself after a preemption, too */
    int64_t stalled, step;    /* requeued so often at this step; -1: never */
} Lives;
void jobs_read_lives(const char *run, const char *name,
                     Lives *out); /* zeros where there are none */
int jobs_write_lives(const char *run, const char *name, const Lives *l);

#define JOB_NOT_LAUNCHED "launcher"
/* A job saved its stage at `step` and left for the reason of status.json. If that was the end of
 * its time, or it could not be launched (JOB_NOT_LAUNCHED), puts it back into the queue. *status:
 * with what the job has to leave. ERR_INTERNAL when it was put back too often without progress,
 * ERR_CONFIG when the queue refuses. */
int jobs_requeue(const char *run, const char *name, int64_t step, const char *reason, int *status);

#endif
