/* jobs.c: see jobs.h. What differs between queues stands in base/queue.c. */
#include "pipeline/jobs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

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
    if (!(out->queue = queue_by_name(queue)))
        return error_set(ERR_DATA, "no queue is called \"%s\"", queue);
    out->job = xcalloc(json_array_size(list) + 1, sizeof *out->job);
    json_array_foreach(list, i, one) {
        TRY(read_job(one, &out->job[out->n]));
        out->n++;
    }
    return 0;
}

int jobs_read(Jobs *out, const char *run) {
    *out = (Jobs){.stalls = 3};
    AUTOFREE char *path = path_of(run, "jobs", ".json");
    json_auto_t *v = NULL;
    if (!file_exists(path)) return 0;
    int rc = json_read_file(&v, path);
    if (rc >= 0 && (rc = read_jobs(v, out)) < 0) error_wrap(rc, "%s", path);
    if (rc < 0) jobs_free(out);
    return rc < 0 ? rc : 0;
}

int jobs_write(const Jobs *j, const char *run) {
    json_t *list = json_array();
    for (int i = 0; i < j->n; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "name", j->job[i].name,
                                              "first", j->job[i].first, "last", j->job[i].last,
                                              "id", j->job[i].id));
    json_auto_t *v = json_pack("{s:s, s:I, s:o}", "queue", j->queue->name, "stalls",
                               (json_int_t)j->stalls, "jobs", list);
    AUTOFREE char *path = path_of(run, "jobs", ".json");
    return json_write_file(v, path);
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

/* --- the lives of a job ----------------------------------------------------------------------- */
void jobs_read_lives(const char *run, const char *name, Lives *out) {
    *out = (Lives){.step = -1};
    AUTOFREE char *path = path_of(run, name, ".lives.json");
    json_auto_t *v = NULL;
    if (file_exists(path) && json_read_file(&v, path) >= 0 &&
        json_get_i64(v, "starts", &out->starts) >= 0 &&
        json_get_i64(v, "requeues", &out->requeues) >= 0 &&
        json_get_i64(v, "stalled", &out->stalled) >= 0)
        json_get_i64(v, "step", &out->step);
}

int jobs_write_lives(const char *run, const char *name, const Lives *l) {
    json_auto_t *v = json_pack("{s:I, s:I, s:I, s:I}", "starts", (json_int_t)l->starts, "requeues",
                               (json_int_t)l->requeues, "stalled", (json_int_t)l->stalled, "step",
                               (json_int_t)l->step);
    AUTOFREE char *path = path_of(run, name, ".lives.json");
    return json_write_file(v, path);
}

/* Where users may not put a job back: the script once more, and whoever waits for us waits for
 * that. */
static int submit_successor(const Queue *q, const char *run, const char *name) {
    Jobs j;
    AUTOFREE char *id = NULL, *script = path_of(run, name, ".sh");
    int rc = jobs_read(&j, run), mine = -1;
    for (int i = 0; i < j.n; i++)
        if (strcmp(j.job[i].name, name) == 0) mine = i;
    if (rc >= 0 && mine < 0) rc = error_set(ERR_DATA, "%s/jobs/jobs.json has no job %s", run, name);
    if (rc >= 0) rc = queue_submit(q, script, NULL, &id);
    if (rc >= 0 && mine + 1 < j.n && *j.job[mine + 1].id)
        rc = queue_change_after(q, j.job[mine + 1].id, id);
    if (rc >= 0) {
        printf("job %s goes on as %s\n", j.job[mine].id, id);
        free(j.job[mine].id);
        j.job[mine].id = id;
        id = NULL;
        rc = jobs_write(&j, run);
    }
    jobs_free(&j);
    return rc;
}

int jobs_requeue(const char *run, const char *name, int64_t step, const char *reason, int *status) {
    const char *id;
    char state[32];
    Lives l;
    Jobs j;
    const Queue *q = queue_of_job(&id);
    const bool limit = strncmp(reason, "SIGUSR1", 7) == 0 ||
                       strncmp(reason, "run.deadline", 12) == 0 ||
                       strcmp(reason, JOB_NOT_LAUNCHED) == 0;
    *status = error_exit_code(ERR_REQUEUE);
    queue_own_state(q, id, state);
    if (strcmp(state, "PREEMPTED") == 0 || strcmp(state, "PENDING") == 0) {
        printf("job %s: %s has put it back itself\n", id, q->title);
        return 0;
    }
    /* A warning, or, where that came too late for a step, the end itself. */
    if (strcmp(state, "CANCELLED") == 0 || (!limit && strcmp(state, "TIMEOUT") != 0)) {
        printf("job %s does not put itself back: it was stopped by %.*s\n", id,
               (int)strcspn(reason, ":"), reason);
        if (!q->put_back[0]) *status = error_exit_code(ERR_INTERNAL); /* a 75 would be put back */
        return 0;
    }
    TRY(jobs_read(&j, run));
    const int64_t stalls = j.stalls;
    jobs_free(&j);
    jobs_read_lives(run, name, &l);
    l.stalled = l.step == step ? l.stalled + 1 : 0;
    l.step = step;
    l.requeues++;
    TRY(jobs_write_lives(run, name, &l));
    if (l.stalled >= stalls)
        return error_set(ERR_INTERNAL,
                         "job %s is not put back again: in %" PRId64 " lives it has not passed "
                         "step %" PRId64 "; give it more time (cluster.time), or stop it earlier "
                         "before its end (cluster.lead)",
                         id, l.stalled + 1, step);
    int rc = queue_put_back(q, id);
    if (rc < 0 && q->change[0]) rc = submit_successor(q, run, name);
    if (rc < 0) return error_wrap(rc, "job %s of %s cannot be put back", id, q->name);
    printf("job %s goes back into the queue at step %" PRId64 " (%" PRId64 ". time)\n", id, step,
           l.requeues);
    return 0;
}
