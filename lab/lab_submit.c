/* lab_submit.c: the workers of a lab as jobs of a cluster's queue. See lab.h.
 *
 * No job waits for another: each takes the steps that are ready, as on one machine, until none is
 * left. So at most so many run at once, and one that is preempted holds up nothing but the step it
 * was at. Scripts, queues and putting back are rhetor-submit's. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "lab/lab.h"
#include "pipeline/submit.h"

/* A plan of one job, whose only step is called like the job. */
static int plan_worker(SubmitPlan *p, const Order *o, const LabGraph *g, const char *name,
                       const char *command) {
    const char *path = g->lab[0].path, *slash = strrchr(path, '/');
    *p = (SubmitPlan){.order = o, .command = command};
    p->recipe =
        (Recipe){.folder = slash ? xasprintf("%.*s", (int)(slash - path), path) : xstrdup("."),
                 .step = xcalloc(1, sizeof *p->recipe.step),
                 .n = 1};
    p->recipe.step[0] = (RecipeStep){.name = xstrdup(name), .run = xstrdup(command)};
    TRY(submit_plan(p));
    p->task[0].stage = true; /* it is warned of its end and leaves with 75 */
    p->task[0].srun = false;
    return submit_check_script(p, &p->task[0]);
}

static char *worker_name(const LabGraph *g, int64_t i) {
    return xasprintf("%s-%" PRId64, g->nlab == 1 ? g->lab[0].name : "lab", i + 1);
}

/* None of the jobs that were submitted last may be alive. */
static int check_free(const LabGraph *g) {
    Jobs j;
    char state[32];
    bool alive = false;
    TRY(jobs_read(&j, g->out));
    int rc = 0;
    for (int i = 0; i < j.n && rc >= 0; i++) {
        if (!*j.job[i].id) continue;
        rc = queue_alive(j.queue, j.job[i].id, &alive, state);
        if (rc >= 0 && alive)
            rc = error_set(ERR_CONFIG,
                           "%s is submitted already: job %s (%s) is %s; %s %s cancels it", g->out,
                           j.job[i].id, j.job[i].name, state, j.queue->cancel, j.job[i].id);
    }
    jobs_free(&j);
    return rc;
}

static int submit_worker(const LabGraph *g, const SubmitPlan *p, Jobs *j) {
    AUTOFREE char *path = submit_script_path(p, 0), *text = submit_script(p, 0);
    char *id = NULL;
    const char *name = p->recipe.step[0].name;
    j->queue = p->queue;
    j->stalls = p->task[0].c.cluster_stalls;
    TRY(file_write_durable(path, text, strlen(text)));
    TRY(jobs_write_lives(g->out, name, &(Lives){.step = -1}));
    TRY(queue_submit(p->queue, path, NULL, &id));
    j->job = xrealloc(j->job, (size_t)(j->n + 1) * sizeof *j->job);
    j->job[j->n++] = (Job){xstrdup(name), xstrdup(name), xstrdup(name), id};
    printf("  %-10s %s\n", id, name);
    return jobs_write(j, g->out);
}

int lab_submit(const LabGraph *g, int64_t workers, const char *command, const char *file,
               const OptionList *cluster, bool dry) {
    const Order o = {.request = REQUEST_NONE, .file = file, .cluster = *cluster, .dry = dry};
    AUTOFREE char *folder = file_join(g->out, "jobs");
    Jobs j = {0};
    setenv("RUN", g->out, 1);
    int rc = dry ? 0 : file_make_dirs(folder);
    if (rc >= 0 && !dry) rc = check_free(g);
    if (rc >= 0 && !dry) work_forget_failures(g);
    for (int64_t i = 0; i < workers && rc >= 0; i++) {
        AUTOFREE char *name = worker_name(g, i), *all = xasprintf("%s --job %s", command, name);
        SubmitPlan p;
        rc = plan_worker(&p, &o, g, name, all);
        if (rc >= 0 && dry) {
            AUTOFREE char *text = submit_script(&p, 0);
            if (i == 0) printf("%s\n", text);
        } else if (rc >= 0)
            rc = submit_worker(g, &p, &j);
        submit_plan_free(&p);
    }
    jobs_free(&j);
    return rc < 0 ? rc : 0;
}

int lab_submit_end(const LabGraph *g, const char *job, int *status) {
    int done = 0;
    for (int i = 0; i < g->n; i++) done += g->step[i].state == LAB_DONE;
    return jobs_requeue(g->out, job, done, work_reason(), status);
}
