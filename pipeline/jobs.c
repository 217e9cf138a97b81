/* jobs.c: see jobs.h. What each queue demands:
 *
 * Slurm: scontrol requeue from within the job; dependants with afterok wait for the final success.
 *   Of a job that it preempts or that a person cancels Slurm decides itself.
 * LSF: exit code 75 puts a job back that was submitted with -Q 75.
 * PBS: qrerun puts a job back, where the site lets users do so; elsewhere the job submits its
 *   script again and has the next job of the chain wait for that one. */
#include "pipeline/jobs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/process.h"

#define WORD(text) ((char *)(uintptr_t)(text)) /* argv is not const */

static const struct {
    const char *name, *submit, *cancel, *variable;
} queues[] = {[QUEUE_NONE] = {"none", "", "", ""},
              [QUEUE_SLURM] = {"slurm", "sbatch", "scancel", "SLURM_JOB_ID"},
              [QUEUE_PBS] = {"pbs", "qsub", "qdel", "PBS_JOBID"},
              [QUEUE_LSF] = {"lsf", "bsub", "bkill", "LSB_JOBID"}};
enum { QUEUES = sizeof queues / sizeof *queues };

const char *queue_name(Queue q) { return queues[q].name; }
const char *queue_submit_program(Queue q) { return queues[q].submit; }
const char *queue_cancel_program(Queue q) { return queues[q].cancel; }

Queue queue_of_this_job(const char **id) {
    for (int q = QUEUE_SLURM; q < QUEUES; q++) {
        *id = getenv(queues[q].variable);
        if (*id && **id) return (Queue)q;
    }
    *id = "";
    return QUEUE_NONE;
}

/* --- what was submitted ----------------------------------------------------------------------- */
static char *path_of(const char *run, const char *name, const char *kind) {
    return xasprintf("%s/jobs/%s%s", run, name, kind);
}

static int read_job(const json_t *v, Job *out) {
    const char *name, *first, *last, *id;
    TRY(json_get_str(v, "name", &name));
    TRY(json_get_str(v, "first", &first));
    TRY(json_get_str(v, "last", &last));
    TRY(json_get_str(v, "id", &id));
    *out = (Job){xstrdup(name), xstrdup(first), xstrdup(last), xstrdup(id)};
    return 0;
}

static int read_jobs(const json_t *v, Jobs *out) {
    const char *queue = "";
    const json_t *list = json_object_get(v, "jobs"), *one;
    size_t i;
    TRY(json_get_str(v, "queue", &queue));
    TRY(json_get_i64(v, "stalls", &out->stalls));
    for (int q = QUEUE_SLURM; q < QUEUES; q++)
        if (strcmp(queues[q].name, queue) == 0) out->queue = (Queue)q;
    if (out->queue == QUEUE_NONE) return error_set(ERR_DATA, "no queue is called \"%s\"", queue);
    out->job = xcalloc(json_array_size(list) + 1, sizeof *out->job);
    json_array_foreach(list, i, one) {
        TRY(read_job(one, &out->job[out->n]));
        out->n++;
    }
    return 0;
}

int jobs_read(Jobs *out, const char *run) {
    *out = (Jobs){.stalls = 3};
    char *path = path_of(run, "jobs", ".json");
    json_t *v = NULL;
    int rc = 0;
    if (file_exists(path)) {
        rc = json_read_file(&v, path);
        if (rc >= 0) {
            rc = read_jobs(v, out);
            if (rc < 0) error_wrap(rc, "%s", path);
        }
        json_decref(v);
    }
    if (rc < 0) jobs_free(out);
    free(path);
    return rc < 0 ? rc : 0;
}

int jobs_write(const Jobs *j, const char *run) {
    json_t *list = json_array();
    for (int i = 0; i < j->n; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "name", j->job[i].name,
                                              "first", j->job[i].first, "last", j->job[i].last,
                                              "id", j->job[i].id));
    json_t *v = json_pack("{s:s, s:I, s:o}", "queue", queue_name(j->queue), "stalls",
                          (json_int_t)j->stalls, "jobs", list);
    char *path = path_of(run, "jobs", ".json");
    int rc = json_write_file(v, path);
    json_decref(v);
    free(path);
    return rc;
}

void jobs_free(Jobs *j) {
    for (int i = 0; i < j->n; i++) {
        free(j->job[i].name);
        free(j->job[i].first);
        free(j->job[i].last);
        free(j->job[i].id);
    }
    free(j->job);
    *j = (Jobs){0};
}

/* --- the queue's programs --------------------------------------------------------------------- */

/* The first line of what a program said, for a message. */
static int first_line(const char *text) { return (int)strcspn(text, "\n"); }

/* Runs the program and demands its success; *text as process_capture. */
static int ask(char *const *argv, const char *input, char **text) {
    int status;
    TRY(process_capture(argv, input, text, &status));
    if (status == 0) return 0;
    for (char *c = *text; *c; c++)
        if (*c == '\n') *c = ' ';
    int rc = error_set(ERR_CONFIG, "%s said (%d): %s", argv[0], status,
                       **text ? *text : "nothing; is it installed and the server up?");
    free(*text);
    *text = NULL;
    return rc;
}

/* The id within what the program printed: "12;cluster", "12.server", "Job <12> is submitted ...";
 * warnings may stand before it. NULL: none. */
static char *find_id(Queue q, const char *text) {
    const char *last = strrchr(text, '\n');
    last = last ? last + 1 : text;
    if (q == QUEUE_LSF) {
        const char *open = strstr(text, "Job <"), *close = open ? strchr(open, '>') : NULL;
        return close ? xasprintf("%.*s", (int)(close - open - 5), open + 5) : NULL;
    }
    if (*last < '0' || *last > '9') return NULL;
    return xasprintf("%.*s", (int)strcspn(last, q == QUEUE_SLURM ? "; \t" : " \t"), last);
}

int queue_submit(Queue q, const char *script, const char *after, char **id) {
    char *text = NULL, *wait = NULL, *argv[8] = {NULL};
    int n = 0;
    argv[n++] = WORD(queues[q].submit);
    if (q == QUEUE_SLURM) argv[n++] = WORD("--parsable");
    if (after && q == QUEUE_SLURM) argv[n++] = wait = xasprintf("--dependency=afterok:%s", after);
    if (after && q != QUEUE_SLURM) {
        argv[n++] = WORD(q == QUEUE_PBS ? "-W" : "-w");
        argv[n++] = wait =
            q == QUEUE_PBS ? xasprintf("depend=afterok:%s", after) : xasprintf("done(%s)", after);
    }
    if (q != QUEUE_LSF) argv[n++] = WORD(script); /* bsub reads it from its input */
    int rc = ask(argv, q == QUEUE_LSF ? script : NULL, &text);
    if (rc >= 0 && !(*id = find_id(q, text)))
        rc = error_set(ERR_DATA, "%s printed no job id but: %s", argv[0], text);
    free(text);
    free(wait);
    return rc < 0 ? rc : 0;
}

/* Words of squeue, qstat and bjobs for a job that is over. */
static bool is_over(const char *state) {
    static const char *const over[] = {"BOOT_FAIL",     "CANCELLED", "COMPLETED", "DEADLINE",
                                       "FAILED",        "NODE_FAIL", "PREEMPTED", "TIMEOUT",
                                       "OUT_OF_MEMORY", "F",         "C",         "X",
                                       "DONE",          "EXIT",      "ZOMBI",     "REVOKED"};
    for (size_t i = 0; i < sizeof over / sizeof *over; i++)
        if (strcmp(over[i], state) == 0) return true;
    return false;
}

int queue_alive(Queue q, const char *id, bool *alive, char state[32]) {
    static const char *const program[QUEUES][6] = {
        [QUEUE_SLURM] = {"squeue", "--noheader", "--format=%T", "--jobs"},
        [QUEUE_PBS] = {"qstat"},
        [QUEUE_LSF] = {"bjobs", "-noheader", "-o", "stat"}};
    char *argv[8], *text = NULL;
    int n = 0, status = 0;
    for (; program[q][n]; n++) argv[n] = WORD(program[q][n]);
    argv[n++] = WORD(id);
    argv[n] = NULL;
    TRY(process_capture(argv, NULL, &text, &status));
    *alive = false;
    state[0] = '\0';
    /* A job that is long over is not known any more: "Invalid job id", "Unknown Job Id", "Job has
     * finished", "Job <1> is not found". */
    const bool unknown = strcasestr(text, "job id") || strcasestr(text, "has finished") ||
                         strcasestr(text, "not found");
    const char *last = strrchr(text, '\n');
    last = last ? last + 1 : text;
    /* qstat's columns: id, name, user, time, state, queue */
    if (status == 0) sscanf(last, q == QUEUE_PBS ? "%*s %*s %*s %*s %31s" : "%31s", state);
    if (status == 0 && state[0]) *alive = !is_over(state);
    int rc = status != 0 && !unknown ? error_set(ERR_IO,
                                                 "%s said (%d): %.*s; without its answer nobody "
                                                 "knows whether job %s is alive",
                                                 argv[0], status, first_line(text), text, id)
                                     : 0;
    free(text);
    return rc;
}

/* --- the lives of a job ----------------------------------------------------------------------- */
void lives_read(const char *run, const char *name, Lives *out) {
    *out = (Lives){.step = -1};
    char *path = path_of(run, name, ".lives.json");
    json_t *v = NULL;
    if (file_exists(path) && json_read_file(&v, path) >= 0 &&
        json_get_i64(v, "starts", &out->starts) >= 0 &&
        json_get_i64(v, "requeues", &out->requeues) >= 0 &&
        json_get_i64(v, "stalled", &out->stalled) >= 0)
        json_get_i64(v, "step", &out->step);
    json_decref(v);
    free(path);
}

int lives_write(const char *run, const char *name, const Lives *l) {
    json_t *v = json_pack("{s:I, s:I, s:I, s:I}", "starts", (json_int_t)l->starts, "requeues",
                          (json_int_t)l->requeues, "stalled", (json_int_t)l->stalled, "step",
                          (json_int_t)l->step);
    char *path = path_of(run, name, ".lives.json");
    int rc = json_write_file(v, path);
    json_decref(v);
    free(path);
    return rc;
}

/* Slurm's word for this job: "RUNNING", "TIMEOUT", "CANCELLED", ...; "" when it does not say. */
static void slurm_state(const char *id, char state[32]) {
    char *argv[] = {WORD("scontrol"), WORD("show"), WORD("job"), WORD(id), NULL};
    char *text = NULL;
    state[0] = '\0';
    if (ask(argv, NULL, &text) < 0) return;
    const char *at = strstr(text, "JobState=");
    if (at) sscanf(at, "JobState=%31[A-Z_]", state);
    free(text);
}

/* Where qrerun is not for users: the script once more, and whoever waits for us waits for that. */
static int submit_successor(const char *run, const char *name) {
    Jobs j;
    char *id = NULL, *script = path_of(run, name, ".sh"), *text = NULL;
    int rc = jobs_read(&j, run), mine = -1;
    for (int i = 0; i < j.n; i++)
        if (strcmp(j.job[i].name, name) == 0) mine = i;
    if (rc >= 0 && mine < 0) rc = error_set(ERR_DATA, "%s/jobs/jobs.json has no job %s", run, name);
    if (rc >= 0) rc = queue_submit(QUEUE_PBS, script, NULL, &id);
    if (rc >= 0 && mine + 1 < j.n && *j.job[mine + 1].id) {
        char *wait = xasprintf("depend=afterok:%s", id);
        char *argv[] = {WORD("qalter"), WORD("-W"), wait, j.job[mine + 1].id, NULL};
        rc = ask(argv, NULL, &text);
        free(wait);
    }
    if (rc >= 0) {
        printf("job %s goes on as %s\n", j.job[mine].id, id);
        free(j.job[mine].id);
        j.job[mine].id = id;
        id = NULL;
        rc = jobs_write(&j, run);
    }
    free(text);
    free(id);
    free(script);
    jobs_free(&j);
    return rc;
}

static int put_back(Queue q, const char *id, const char *run, const char *name) {
    char *text = NULL;
    int rc = 0;
    if (q == QUEUE_SLURM) {
        char *argv[] = {WORD("scontrol"), WORD("requeue"), WORD(id), NULL};
        rc = ask(argv, NULL, &text);
    } else if (q == QUEUE_PBS) {
        char *argv[] = {WORD("qrerun"), WORD(id), NULL};
        rc = ask(argv, NULL, &text);
        if (rc < 0) rc = submit_successor(run, name);
    } /* LSF: our exit code does it */
    free(text);
    return rc;
}

int jobs_requeue(const char *run, const char *name, int64_t step, const char *reason, int *status) {
    const char *id;
    char state[32] = "";
    Lives l;
    Jobs j;
    const Queue q = queue_of_this_job(&id);
    const bool limit = strncmp(reason, "SIGUSR1", 7) == 0 ||
                       strncmp(reason, "run.deadline", 12) == 0 ||
                       strcmp(reason, JOB_NOT_LAUNCHED) == 0;
    *status = error_exit_code(ERR_REQUEUE);
    if (q == QUEUE_SLURM) slurm_state(id, state);
    if (strcmp(state, "PREEMPTED") == 0 || strcmp(state, "PENDING") == 0) {
        printf("job %s: Slurm has put it back itself\n", id);
        return 0;
    }
    /* A warning, or, where that came too late for a step, the end itself. */
    if (strcmp(state, "CANCELLED") == 0 || (!limit && strcmp(state, "TIMEOUT") != 0)) {
        printf("job %s does not put itself back: it was stopped by %.*s\n", id,
               (int)strcspn(reason, ":"), reason);
        if (q == QUEUE_LSF) *status = error_exit_code(ERR_INTERNAL); /* a 75 would be put back */
        return 0;
    }
    TRY(jobs_read(&j, run));
    const int64_t stalls = j.stalls;
    jobs_free(&j);
    lives_read(run, name, &l);
    l.stalled = l.step == step ? l.stalled + 1 : 0;
    l.step = step;
    l.requeues++;
    TRY(lives_write(run, name, &l));
    if (l.stalled >= stalls)
        return error_set(ERR_INTERNAL,
                         "job %s is not put back again: in %" PRId64 " lives it has not passed "
                         "step %" PRId64 "; give it more time (cluster.time), or stop it earlier "
                         "before its end (cluster.lead)",
                         id, l.stalled + 1, step);
    int rc = put_back(q, id, run, name);
    if (rc < 0) return error_wrap(rc, "job %s of %s cannot be put back", id, queue_name(q));
    printf("job %s goes back into the queue at step %" PRId64 " (%" PRId64 ". time)\n", id, step,
           l.requeues);
    return 0;
}
