/* jobs.h: a recipe as jobs in a cluster's queue.
 *
 * RUN/jobs/ keeps, for each job NAME, the script NAME.sh, what it printed (NAME.out) and its lives
 * (NAME.lives.json); jobs.json keeps what was submitted, under which ids. rhetor-submit writes
 * scripts and jobs.json; the job itself is rhetor-pipeline --job NAME, which counts its lives and
 * puts itself back when a stage has saved and left with 75. Nothing here is collective. */
#ifndef TRAIN_JOBS_H
#define TRAIN_JOBS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum Queue { QUEUE_NONE, QUEUE_SLURM, QUEUE_PBS, QUEUE_LSF } Queue;
const char *queue_name(Queue q);           /* "slurm", "pbs", "lsf" */
const char *queue_submit_program(Queue q); /* "sbatch", "qsub", "bsub" */
const char *queue_cancel_program(Queue q); /* "scancel", "qdel", "bkill" */
/* The queue that this process is a job of, by the variables that it sets; its job's id. */
Queue queue_of_this_job(const char **id);

/* --- what was submitted ----------------------------------------------------------------------- */
typedef struct Job {
    char *name, *first, *last; /* the steps first to last, in this order; name is the first's */
    char *id;                  /* "": not submitted */
} Job;

typedef struct Jobs {
    Queue queue;
    int64_t stalls; /* cluster.stalls */
    Job *job;
    int n;
} Jobs;

/* n = 0 where nothing was submitted from this folder; ERR_DATA for what is no jobs.json. */
int jobs_read(Jobs *out, const char *run);
int jobs_write(const Jobs *j, const char *run);
void jobs_free(Jobs *j);

/* --- the queue's programs --------------------------------------------------------------------- */
/* Submits a script, to begin after the final success of job `after` (NULL: at once). *id: malloc'd.
 * ERR_CONFIG with the queue's own words when it refuses. */
int queue_submit(Queue q, const char *script, const char *after, char **id);
/* Is the job waiting or running? *state: the queue's word for it. ERR_IO when the queue does not
 * answer. */
int queue_alive(Queue q, const char *id, bool *alive, char state[32]);

/* --- the lives of a job ----------------------------------------------------------------------- */
typedef struct Lives {
    int64_t starts, requeues; /* starts: requeued by the queue itself after a preemption, too */
    int64_t stalled, step;    /* requeued so often at this step; -1: never */
} Lives;
void lives_read(const char *run, const char *name, Lives *out); /* zeros where there are none */
int lives_write(const char *run, const char *name, const Lives *l);

#define JOB_NOT_LAUNCHED "launcher"
/* A job saved its stage at `step` and left for the reason of status.json. If that was the end of
 * its time, or it could not be launched (JOB_NOT_LAUNCHED), puts it back into the queue. *status:
 * with what the job has to leave. ERR_INTERNAL when it was put back too often without progress,
 * ERR_CONFIG when the queue refuses. */
int jobs_requeue(const char *run, const char *name, int64_t step, const char *reason, int *status);

#endif
