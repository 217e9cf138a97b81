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

typedef struct Args {
    OptionList lab, set;
    const char *out, *data;
    int64_t jobs, threads;
    bool status, report, dry, worker;
} Args;

/* Settings are those of all labs, where their levels say nothing else. */
static int take_argument(void *args, const Option *o, char *arg) {
    Args *a = args;
    OptionList *l = strchr(arg, '=') ? &a->set : &a->lab;
    option_add(&l->v, &l->n, arg);
    return 0;
}

static const Option options[] = {
    {"jobs", 'j', "N", "steps at a time (as many as cores)", OPT_WHOLE(jobs, 1, 4096)},
    {"threads", 0, "N", "threads of a step (1)", OPT_WHOLE(threads, 1, 4096)},
    {"out", 0, "DIR", "where steps, results and report go (runs/lab)", OPT_TEXT(out)},
    {"data", 0, "DIR", "folder of data, for recipes that ask for ${DATA}", OPT_TEXT(data)},
    {"status", 0, NULL, "print how far it is", OPT_FLAG(status)},
    {"report", 0, NULL, "only write the report, of what is there; also of a run's folder",
     OPT_FLAG(report)},
    {"dry-run", 0, NULL, "print what would be made", OPT_FLAG(dry)},
    {"worker", 0, NULL, "do steps until none is left for us, beside others on any host; no report",
     OPT_FLAG(worker)},
    {NULL, 0, "LAB.yaml... [key=value...] | RUN", NULL, OPT_CALL(take_argument)},
    {0}};

/* All labs' records and the report. */
static int conclude(LabGraph *g) {
    int missing = 0, rc = 0;
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
    if (rc >= 0) rc = report_labs(g, records, missing, path);
    if (rc >= 0) printf("the report: %s\n", path);
    for (int l = 0; l < g->nlab; l++) json_decref(records[l]);
    free(records);
    return rc < 0 ? rc : 0;
}

static int check_out(const char *out) {
    if (out[strcspn(out, " \t\n*?[\"'$`\\")])
        return error_set(ERR_USAGE, "--out %s: expected a name without spaces, quotes and patterns",
                         out);
    return 0;
}

static int run_labs(Args *a) {
    LabGraph g;
    TRY(check_out(a->out));
    if (!a->status && !a->dry && !a->report) TRY(file_make_dirs(a->out));
    AUTOFREE char *whole = realpath(a->out, NULL);
    TRY(steps_load(&g, &a->lab, &a->set, whole ? whole : a->out, a->data));
    int rc = 0;
    for (int l = 0; l < g.nlab && rc >= 0; l++) rc = panel_check(&g.lab[l]);
    if (rc < 0)
        ;
    else if (a->dry)
        work_plan(&g, a->jobs);
    else if (a->status)
        work_status(&g);
    else if (a->worker)
        rc = work_loop(&g, a->threads, 0);
    else {
        if (!a->report) rc = work_all(&g, a->jobs, a->threads);
        const bool failed = rc == ERR_INTERNAL;
        if (failed) work_status(&g);
        if (rc >= 0 || failed) {
            const int ended = conclude(&g);
            rc = ended < 0 ? ended
                 : failed  ? error_set(rc, "steps have failed; the same command tries them again")
                           : 0;
        }
    }
    steps_free(&g);
    return rc;
}

int main(int argc, char **argv) {
    Args a = {.out = "runs/lab", .jobs = sysconf(_SC_NPROCESSORS_ONLN), .threads = 1};
    option_parse(options, NULL,
                 "Runs experiments and reports which findings hold.\v"
                 "rhetor-lab configs/lab/overopt.yaml --jobs 8\n"
                 "rhetor-lab configs/lab/*.yaml --status\n"
                 "rhetor-lab --report runs/demo\n",
                 argc, argv, &a);
    process_signals();
    core_init();
    int rc;
    if (a.lab.n == 0)
        rc = error_set(ERR_USAGE, "which lab? e.g. configs/lab/headline.yaml");
    else if (a.report && a.lab.n == 1 && file_is_dir(a.lab.v[0]))
        rc = report_run(a.lab.v[0]);
    else
        rc = run_labs(&a);
    free(a.lab.v);
    free(a.set.v);
    return option_end(rc);
}
