/* queue.h: the queues of clusters. All that differs between them is one entry of the table in
 * queue.c: how a job is submitted, asked about, put back and cancelled, what its script begins
 * with. To add a queue is to add its entry; rhetor-submit, rhetor-pipeline and the lock of a run's
 * folder take all from there. Nothing here is collective. */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

/* Lists of words end with NULL. */
typedef struct Queue {
    const char *name, *title; /* "slurm", "Slurm" */

    /* the job that this process belongs to */
    const char *id_variable;   /* holds its id */
    const char *life_variable; /* counts how often it was put back; NULL: nobody does */

    /* calls */
    const char *submit[4];          /* and the script */
    bool reads_script;              /* from its standard input */
    const char *after[3];           /* "%s": the id of the job whose success is waited for */
    const char *id_begin, *id_end;  /* what stands before the id in what submit prints (NULL: its
                                         last line begins with it), characters that end it */
    const char *cancel;             /* and the ids */
    const char *state[5];           /* and the id: prints a job's state ... */
    int state_word;                 /* ... as this word of the last line, from 0 */
    const char *over[16];           /* states of a job that is over */
    const char *own[4], *own_begin; /* and the id: a running job's state, after these characters */
    const char *put_back[3];        /* and the id, from within the job; empty: exit code 75 does */
    const char *change[2];          /* where users may not put back, the script is submitted again
                                         and this, `after` and the id change who waits for it */
    const char *sizes[4], *partition; /* prints "NODES CORES" lines, of a partition */

    /* the script; {names} are those of pipeline/submit_script.c, and a line with one that has no
     * value is left out */
    const char *directive; /* "#SBATCH" */
    const char *header;    /* lines, each a directive */
    const char *percent;   /* a % in the name of the output file; NULL: has a meaning of its own */
    int name_most;         /* longest name of a job; 0: any, and the run's name stands before it */
    bool warns;         /* sends a signal before the end of the time; else run.deadline does it */
    const char *launch; /* sets $launch by the queue's own launcher; NULL: there is only mpirun */
    const char *hosts;  /* mpirun's words for the job's nodes */
    const char *goes_back; /* a comment: how a stage that saved goes on */
} Queue;

extern const Queue queues[]; /* the last has no name */

/* NULL: none is called that. */
const Queue *queue_by_name(const char *name);
/* The queue that this process is a job of, by the variables that it sets, and the job's id; NULL
 * and "": none. */
const Queue *queue_of_job(const char **id);
typedef enum QueueWord { QUEUE_TITLES, QUEUE_PROGRAMS, QUEUE_NAMES, QUEUE_VARIABLES } QueueWord;
/* All of them: "Slurm, PBS, LSF"; "sbatch (Slurm), ..."; "slurm, ..."; "SLURM_JOB_ID, ...", with
 * `last` between the last two; malloc'd. */
char *queue_list(QueueWord what, const char *last);

/* Submits a script, to begin after the final success of job `after` (NULL: at once). *id: malloc'd.
 * ERR_CONFIG with the queue's own words when it refuses. */
int queue_submit(const Queue *q, const char *script, const char *after, char **id);
/* Is the job waiting or running? *state: the queue's word for it. ERR_IO when the queue does not
 * answer. */
int queue_alive(const Queue *q, const char *id, bool *alive, char state[32]);
/* The queue's word for the job that we are: "RUNNING", "TIMEOUT"; "" where it does not say. */
void queue_own_state(const Queue *q, const char *id, char state[32]);
/* From within a job: puts it back. ERR_CONFIG: the queue refuses. */
int queue_put_back(const Queue *q, const char *id);
/* Has the job `waiter` wait for `id`. */
int queue_change_after(const Queue *q, const char *waiter, const char *id);
/* Nodes with at least so many cores in the partition (""): any; -1: the queue does not say. */
int64_t queue_nodes(const Queue *q, const char *partition, int64_t cores);

#endif
