/* rhetor-lab: experiments: many runs of a recipe side by side, what is measured in them, and a
 * report that says which findings hold. lab/lab.h and docs/LAB.md tell how; this is its command
 * line. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/option.h"
#include "base/process.h"
#include "base/text.h"
#include "core/kernel.h"
#include "lab/lab.h"
#include "lab/lab_report.h"
#include "lab/panel.h"
#include "pipeline/submit.h"

typedef struct Args {
    OptionList lab, set, cluster;
    const char *out, *data, *file, *job;
    int64_t jobs, threads;
    bool status, report, dry, worker, submit, expect;
} Args;

/* Settings are those of all labs, where their levels say nothing else. */
static int take_argument(void *args, const Option *o, char *arg) {
    Args *a = args;
    OptionList *l = strncmp(arg, "cluster.", 8) == 0 ? &a->cluster
                    : strchr(arg, '=')               ? &a->set
                                                     : &a->lab;
    option_add(&l->v, &l->n, arg);
    return 0;
}

static const Option options[] = {
    {"jobs", 'j', "N", "steps at a time (as many as cores)", OPT_WHOLE(jobs, 1, 4096)},
    {"threads", 0, "N", "threads of a step (1; of a job cluster.threads)",
     OPT_WHOLE(threads, 1, 4096)},
    {"out", 0, "DIR", "where steps, results and report go (runs/lab)", OPT_TEXT(out)},
    {"data", 0, "DIR", "folder of data, for recipes that ask for ${DATA}", OPT_TEXT(data)},
    {"status", 0, NULL, "print how far it is", OPT_FLAG(status)},
    {"report", 0, NULL, "only write the report, of what is there; also of a run's folder",
     OPT_FLAG(report)},
    {"expect", 0, NULL, "fail (exit 70) where a panel does not hold", OPT_FLAG(expect)},
    {"dry-run", 0, NULL, "print what would be made", OPT_FLAG(dry)},
    {"submit", 0, NULL, "have a cluster's queue do it, by --jobs jobs at once", OPT_FLAG(submit)},
    {"cluster", 0, "FILE", "with --submit: cluster.* settings (cluster.yaml beside the lab)",
     OPT_TEXT(file)},
    {"worker", 0, NULL, "do steps until none is left for us, beside others on any host",
     OPT_FLAG(worker)},
    {"job", 0, "NAME", "we are a job of --submit, which puts itself back", OPT_TEXT(job)},
    {NULL, 0, "LAB.yaml... [key=value...] | RUN", NULL, OPT_CALL(take_argument)},
    {0}};

/* All labs' records and the report. */
static int conclude(const Args *a, LabGraph *g) {
    int missing = 0, rc = 0, open = 0;
    json_t **records = xcalloc((size_t)g->nlab, sizeof *records);
    for (int l = 0; l < g->nlab && rc >= 0; l++) {
        int none;
        rc = results_collect(g, l, &records[l], &none);
        if (rc < 0) records[l] = NULL;
        if (rc >= 0) rc = results_write(g, l, records[l]);
        missing += none;
    }
    AUTOFREE char *path = g->nlab == 1 ? xasprintf("%s/%s/report.html", g->out, g->lab[0].name)
                                       : file_join(g->out, "report.html");
    if (rc >= 0) rc = report_labs(g, records, missing, path, &open);
    if (rc >= 0) printf("the report: %s\n", path);
    for (int l = 0; l < g->nlab; l++) json_decref(records[l]);
    free(records);
    if (rc >= 0 && a->expect && open)
        rc = error_set(ERR_INTERNAL, "%d panel%s not hold", open, open == 1 ? " does" : "s do");
    return rc < 0 ? rc : 0;
}

/* The line of a job's script: the same labs and settings, on all cores of the job. */
static int submit(const Args *a, const LabGraph *g) {
    Text t = {0};
    AUTOFREE char *program = process_folder();
    text_put(&t, "%s/rhetor-lab --worker --out ", program);
    submit_word(&t, g->out);
    if (a->threads) text_put(&t, " --threads %" PRId64, a->threads);
    if (a->data) text_put(&t, " --data ");
    if (a->data) submit_word(&t, a->data);
    const OptionList *lists[] = {&a->lab, &a->set};
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < lists[l]->n; i++) {
            text_put(&t, " ");
            submit_word(&t, lists[l]->v[i]);
        }
    AUTOFREE char *command = text_take(&t);
    return lab_submit(g, a->jobs, command, a->file, &a->cluster, a->dry);
}

static int work_as_one(const Args *a, LabGraph *g, int *status) {
    const char *given = getenv("OMP_NUM_THREADS"); /* by the job's script */
    const int64_t threads = a->threads ? a->threads : a->job && given ? atoll(given) : 1;
    const int rc = work_loop(g, threads > 0 ? threads : 1, 0);
    if (rc == ERR_REQUEUE && a->job) return lab_submit_end(g, a->job, status);
    if (rc < 0 && rc != ERR_INTERNAL) return rc;
    TRY(conclude(a, g)); /* whoever comes last does it last */
    return rc < 0 ? error_set(rc, "steps have failed; --status names them") : 0;
}

static int check_out(const char *out) {
    if (out[strcspn(out, " \t\n*?[\"'$`\\")])
        return error_set(ERR_USAGE, "--out %s: expected a name without spaces, quotes and patterns",
                         out);
    return 0;
}

static int run_labs(Args *a, int *status) {
    LabGraph g;
    TRY(check_out(a->out));
    if (!a->status && !a->dry && !a->report) TRY(file_make_dirs(a->out));
    AUTOFREE char *whole = realpath(a->out, NULL);
    TRY(steps_load(&g, &a->lab, &a->set, whole ? whole : a->out, a->data));
    int rc = 0;
    for (int l = 0; l < g.nlab && rc >= 0; l++) rc = panel_check(&g.lab[l]);
    if (rc < 0)
        ;
    else if (a->submit)
        rc = submit(a, &g);
    else if (a->dry)
        work_plan(&g, a->jobs);
    else if (a->status)
        work_status(&g);
    else if (a->worker)
        rc = work_as_one(a, &g, status);
    else {
        if (!a->report) rc = work_all(&g, a->jobs, a->threads ? a->threads : 1);
        const bool failed = rc == ERR_INTERNAL;
        if (failed) work_status(&g);
        if (rc >= 0 || failed) {
            const int ended = conclude(a, &g);
            rc = ended < 0 ? ended
                 : failed  ? error_set(rc, "steps have failed; the same command tries them again")
                           : 0;
        }
    }
    steps_free(&g);
    return rc;
}

int main(int argc, char **argv) {
    Args a = {.out = "runs/lab", .jobs = sysconf(_SC_NPROCESSORS_ONLN)};
    option_parse(options, NULL,
                 "Runs experiments and reports which findings hold.\v"
                 "rhetor-lab configs/lab/overopt.yaml --jobs 8\n"
                 "rhetor-lab configs/lab/*.yaml --status\n"
                 "rhetor-lab --report runs/demo\n",
                 argc, argv, &a);
    process_signals();
    core_init();
    int rc, status = 0;
    if (a.lab.n == 0)
        rc = error_set(ERR_USAGE, "which lab? e.g. configs/lab/headline.yaml");
    else if (a.report && a.lab.n == 1 && file_is_dir(a.lab.v[0]))
        rc = report_run(a.lab.v[0]);
    else
        rc = run_labs(&a, &status);
    free(a.lab.v);
    free(a.set.v);
    free(a.cluster.v);
    return option_end(rc < 0 ? rc : status);
}
