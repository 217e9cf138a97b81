/* rhetor-submit: the steps of a recipe as jobs of a cluster's queue, each after the final success
 * of the one before. What is done already is left out, as rhetor-pipeline does it; the jobs are
 * calls of that program. docs/CLUSTER.md tells what happens at time limits and preemptions. */
#include <argp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/option.h"
#include "pipeline/submit.h"

enum {
    OPT_ARRAY = 1000,
    OPT_CLUSTER,
    OPT_DRY,
    OPT_SETTINGS,
    OPT_KEY /* and the following: settings of cluster.* */
};

/* Options that are settings; what they become is ours to free. */
static const char *const keys[] = {"scheduler",      "launcher", "nodes",
                                   "ranks_per_node", "threads",  "time",
                                   "partition",      "account",  "lead"};
enum { KEYS = sizeof keys / sizeof *keys };

static const struct argp_option options[] = {
    {"scheduler", OPT_KEY, "slurm|pbs|lsf", 0, "the queue (the one whose program is in PATH)", 0},
    {"launcher", OPT_KEY + 1, "srun|mpirun", 0, "what starts the ranks", 0},
    {"nodes", OPT_KEY + 2, "N", 0, "nodes of a stage (1)", 0},
    {"ranks-per-node", OPT_KEY + 3, "N", 0, "ranks on each (1)", 0},
    {"threads", OPT_KEY + 4, "N", 0, "cores and threads of a rank (1)", 0},
    {"time", OPT_KEY + 5, "LIMIT", 0,
     "minutes, H:MM:SS or D-H:MM:SS; a job that needs more goes on "
     "in its next life",
     0},
    {"partition", OPT_KEY + 6, "NAME", 0, "partition or queue", 0},
    {"account", OPT_KEY + 7, "NAME", 0, "account or project", 0},
    {"lead", OPT_KEY + 8, "S", 0, "seconds before its end at which a stage saves and leaves (240)",
     0},
    {"cluster", OPT_CLUSTER, "FILE", 0, "cluster.* settings (RECIPE/cluster.yaml)", 0},
    {"array", OPT_ARRAY, "SEEDS", 0, "a chain a seed: 1-3 or 1,4,7", 0},
    {"dry-run", OPT_DRY, 0, 0, "print the scripts; write and submit nothing", 0},
    {"settings", OPT_SETTINGS, 0, 0, "print all cluster.* settings", 0},
    {0}};

typedef struct Seeds {
    int64_t *v;
    int n;
} Seeds;

typedef struct Args {
    Order order;
    Seeds array; /* --array */
} Args;

/* "1-3,7" */
static void read_seeds(Seeds *s, const char *text, struct argp_state *state) {
    for (const char *at = text; *at;) {
        long long a, b;
        int end = 0;
        if (sscanf(at, "%lld%n", &a, &end) != 1 || a < 0) break;
        b = a;
        at += end;
        if (*at == '-' && sscanf(at, "-%lld%n", &b, &end) == 1) at += end;
        if (b < a || b > UINT32_MAX || b - a >= 1000 || (*at && *at != ',')) break;
        for (; a <= b; a++) {
            for (int i = 0; i < s->n; i++)
                if (s->v[i] == a)
                    argp_error(state,
                               "%s: seed %lld is there twice; both chains would write to the "
                               "same run folder",
                               text, a);
            s->v = xrealloc(s->v, (size_t)(s->n + 1) * sizeof *s->v);
            s->v[s->n++] = a;
        }
        if (!*at) return;
        at++;
    }
    argp_error(state, "%s: expected seeds such as 1-3 or 1,4,7", text);
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    Args *a = state->input;
    Order *o = &a->order;
    if (key >= OPT_KEY && key < OPT_KEY + KEYS) {
        option_add(&o->cluster, &o->ncluster, xasprintf("cluster.%s=%s", keys[key - OPT_KEY], arg));
        return 0;
    }
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &o->request; break;
    case OPT_ARRAY: read_seeds(&a->array, arg, state); break;
    case OPT_CLUSTER: o->file = arg; break;
    case OPT_DRY: o->dry = true; break;
    case OPT_SETTINGS: {
        char *help = config_help(STAGE_SUBMIT);
        fputs(help, stdout);
        free(help);
        exit(0);
    }
    case ARGP_KEY_ARG: {
        const char *equals = strchr(arg, '='), *cluster = strstr(arg, "cluster.");
        if (!equals || !cluster || cluster > equals || (cluster != arg && cluster[-1] != ':'))
            return ARGP_ERR_UNKNOWN; /* a recipe's */
        option_add(&o->cluster, &o->ncluster, xstrdup(arg));
        break;
    }
    case ARGP_KEY_END:
        if (a->array.n && o->request.seed) argp_error(state, "--seed or --array, not both");
        if (a->array.n && o->request.run)
            argp_error(state, "--array makes a run folder a seed; --run is for one seed");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* --- what is there already -------------------------------------------------------------------- */

/* The ids of the submitted jobs from the one at `first`, with a space before each; malloc'd. */
static char *ids(const Jobs *j, int first) {
    char *text = xstrdup("");
    for (int i = first; i < j->n; i++) {
        if (!*j->job[i].id) continue;
        char *longer = xasprintf("%s %s", text, j->job[i].id);
        free(text);
        text = longer;
    }
    return text;
}

/* Nobody must live in the folder, and none of its earlier jobs be alive. */
static int check_free(const Plan *p) {
    const char *run = getenv("RUN");
    char who[256], state[32];
    Jobs j;
    TRY(jobs_read(&j, run));
    int rc = 0;
    for (int i = 0; rc >= 0 && i < j.n; i++) {
        bool alive;
        if (!*j.job[i].id) continue;
        rc = queue_alive(j.queue, j.job[i].id, &alive, state);
        if (rc < 0 || !alive) continue;
        char *list = ids(&j, i);
        rc = error_set(ERR_CONFIG,
                       "%s is submitted already: job %s (%s) is %s; rhetor-pipeline --status shows "
                       "how far it is, %s%s cancels it",
                       run, j.job[i].id, j.job[i].name, state, j.queue->cancel, list);
        free(list);
    }
    jobs_free(&j);
    if (rc >= 0 && lock_held(p->recipe.marks, who))
        return error_set(ERR_CONFIG,
                         "%s: a pipeline runs there, %s; rhetor-pipeline --status shows how far it "
                         "is",
                         run, who);
    return rc;
}

/* From which job on something is left to be done: the steps before are done. */
static int first_task(const Plan *p) {
    const Recipe *r = &p->recipe;
    uint64_t key = 0;
    int i = 0;
    for (; i < r->n; i++) {
        key = progress_key(r, i, key);
        if (progress_state(r, i, key) != STEP_DONE) break;
    }
    int t = 0;
    while (t < p->n && p->task[t].last < i) t++;
    return t;
}

/* --- submitting ------------------------------------------------------------------------------- */
static const char *plural(int64_t n) { return n == 1 ? "" : "s"; }

static void print_task(const Plan *p, int i, const char *id, const char *after) {
    const Task *t = &p->task[i];
    const Recipe *r = &p->recipe;
    const Config *c = &t->c;
    char *layout =
        t->stage ? xasprintf(", %" PRId64 " node%s x %" PRId64 " rank%s x %" PRId64 " thread%s",
                             c->cluster_nodes, plural(c->cluster_nodes), c->cluster_ranks_per_node,
                             plural(c->cluster_ranks_per_node), c->cluster_threads,
                             plural(c->cluster_threads))
                 : xstrdup("");
    printf("  %-10s %s", *id ? id : "-", r->step[t->first].name);
    for (int s = t->first + 1; s <= t->last; s++) printf(", %s", r->step[s].name);
    printf("%s%s%s\n", layout, after ? ", after " : "", after ? after : "");
    free(layout);
}

static int write_scripts(const Plan *p, int first) {
    int rc = 0;
    for (int i = first; rc >= 0 && i < p->n; i++) {
        char *path = script_path(p, i), *text = script_text(p, i);
        rc = file_write_durable(path, text, strlen(text));
        free(path);
        free(text);
    }
    return rc;
}

/* A chain that is submitted anew has its patience anew. */
static int forget_stalls(const char *name) {
    Lives l;
    lives_read(getenv("RUN"), name, &l);
    l.stalled = 0;
    l.step = -1;
    return lives_write(getenv("RUN"), name, &l);
}

static int half_submitted(const Plan *p, const Jobs *j, int first, int i, int rc) {
    char *list = ids(j, first);
    if (*list)
        error_wrap(rc,
                   "%s: job %s was not submitted, nor what follows it; those before it are in the "
                   "queue, and %s%s cancels them",
                   getenv("RUN"), p->recipe.step[p->task[i].first].name, p->queue->cancel, list);
    else
        error_wrap(rc, "%s: nothing was submitted", getenv("RUN"));
    free(list);
    return rc;
}

/* The jobs of the plan, not yet submitted; those before `first` as they were. */
static int list_jobs(const Plan *p, int first, Jobs *j) {
    Jobs old;
    TRY(jobs_read(&old, getenv("RUN")));
    *j = (Jobs){.queue = p->queue, .stalls = p->task[first].c.cluster_stalls};
    j->job = xcalloc((size_t)p->n, sizeof *j->job);
    for (int i = 0; i < p->n; i++) {
        const char *name = p->recipe.step[p->task[i].first].name, *id = "";
        for (int k = 0; k < old.n && i < first && old.queue == p->queue; k++)
            if (strcmp(old.job[k].name, name) == 0) id = old.job[k].id;
        j->job[j->n++] = (Job){xstrdup(name), xstrdup(name),
                               xstrdup(p->recipe.step[p->task[i].last].name), xstrdup(id)};
    }
    jobs_free(&old);
    return 0;
}

static int submit(const Plan *p, int first, Jobs *j) {
    const char *run = getenv("RUN"), *after = NULL;
    TRY(list_jobs(p, first, j));
    for (int i = first; i < p->n; i++) TRY(forget_stalls(j->job[i].name));
    TRY(write_scripts(p, first));
    TRY(jobs_write(j, run));
    for (int i = first; i < p->n; i++) {
        char *path = script_path(p, i), *id = NULL;
        int rc = queue_submit(p->queue, path, after, &id);
        free(path);
        if (rc < 0) return half_submitted(p, j, first, i, rc);
        Job *job = &j->job[i];
        free(job->id);
        job->id = id;
        TRY(jobs_write(j, run));
        print_task(p, i, id, after);
        after = id;
    }
    return 0;
}

static void print_dry(const Plan *p, int first) {
    for (int i = first; i < p->n; i++) {
        char *path = script_path(p, i), *text = script_text(p, i);
        const char *before = i > first ? p->recipe.step[p->task[i - 1].first].name : NULL;
        printf("== %s, %s%s\n%s\n", path, before ? "after " : "at once", before ? before : "",
               text);
        free(path);
        free(text);
    }
}

static int submit_chain(const Plan *p) {
    const char *run = getenv("RUN");
    const int first = first_task(p);
    if (first == p->n) {
        printf("%s: all steps are done\n", run);
        return 0;
    }
    if (p->order->dry) {
        print_dry(p, first);
        return 0;
    }
    char *folder = file_join(run, "jobs");
    FileLock *lock = NULL;
    Jobs j = {0};
    int rc = file_make_dirs(folder);
    if (rc >= 0) rc = lock_take(&lock, folder); /* two of us at once */
    if (rc >= 0) rc = check_free(p);
    if (rc >= 0) rc = request_remember(&p->order->request);
    if (rc >= 0) {
        printf("%s, by %s%s:\n", run, p->queue->name, first ? ", from where it stopped" : "");
        fflush(stdout);
        rc = submit(p, first, &j);
    }
    if (rc >= 0) {
        char *list = ids(&j, first);
        printf("how far: rhetor-pipeline --status %s --run %s", p->order->request.recipe, run);
        printf("\nto cancel: %s%s\n", p->queue->cancel, list);
        free(list);
    }
    jobs_free(&j);
    lock_drop(&lock);
    free(folder);
    return rc;
}

static int one_seed(const Order *o, int64_t seed) {
    char number[24];
    snprintf(number, sizeof number, "%" PRId64, seed);
    Plan p = {.order = o, .seed = number};
    Request request = o->request;
    request.seed = number;
    int rc = request_environment(&request, false);
    if (rc >= 0) rc = recipe_make(getenv("RECIPE"), o->dry);
    if (rc == 2) return 0; /* it has told what it would do */
    if (rc > 0) rc = request_check_made(&request);
    if (rc >= 0) rc = recipe_load(&p.recipe, getenv("RECIPE"), o->request.set, o->request.nset);
    if (rc >= 0) rc = recipe_check_commands(&p.recipe);
    if (rc >= 0) rc = plan_make(&p);
    if (rc >= 0) rc = submit_chain(&p);
    plan_free(&p);
    return rc;
}

int main(int argc, char **argv) {
    file_check_output();
    static const struct argp_child children[] = {{&request_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {options,
                                     parse,
                                     "RECIPE [cluster.key=value...] [key=value...]",
                                     "Submits the steps of a recipe as jobs, each after the "
                                     "success of the one before.\v"
                                     "rhetor-submit configs/demo --nodes 2 --threads 8 --time 60\n"
                                     "rhetor-submit configs/demo pretrain:cluster.nodes=8 "
                                     "--array 1-3\n",
                                     children,
                                     NULL,
                                     NULL};
    Args a = {0};
    argp_program_version = "rhetor-submit " RHETOR_VERSION;
    argp_err_exit_status = error_exit_code(ERR_USAGE);
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    const char *seed = a.order.request.seed;
    int rc = a.array.n ? 0 : one_seed(&a.order, seed ? strtoll(seed, NULL, 10) : 1);
    for (int i = 0; rc >= 0 && i < a.array.n; i++) rc = one_seed(&a.order, a.array.v[i]);
    if (rc < 0) fprintf(stderr, "rhetor-submit: %s\n", error_message());
    free(a.array.v);
    request_free(&a.order.request);
    for (int i = 0; i < a.order.ncluster; i++) free((char *)(uintptr_t)a.order.cluster[i]);
    free(a.order.cluster);
    return rc < 0 ? error_exit_code(rc) : 0;
}
