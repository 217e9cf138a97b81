/* rhetor-submit: the steps of a recipe as jobs of a cluster's queue, each after the final success
 * of the one before. What is done already is left out, as rhetor-pipeline does it; the jobs are
 * calls of that program. docs/CLUSTER.md tells what happens at time limits and preemptions. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "pipeline/submit.h"

typedef struct Args {
    Order order;
    OptionList cluster; /* "cluster.key=value", malloc'd */
    OptionList array;   /* seeds, malloc'd */
} Args;

/* An option that is a setting: --ranks-per-node 2 is cluster.ranks_per_node=2. */
static int set_cluster(void *args, const Option *o, char *arg) {
    Args *a = args;
    char *setting = xasprintf("cluster.%s=%s", o->name, arg);
    for (char *c = setting; *c != '='; c++)
        if (*c == '-') *c = '_';
    option_add(&a->cluster.v, &a->cluster.n, setting);
    return 0;
}

/* "1-3,7" */
static int set_array(void *args, const Option *o, char *arg) {
    Args *a = args;
    for (const char *at = arg; *at;) {
        long long first, last;
        int end = 0;
        if (sscanf(at, "%lld%n", &first, &end) != 1 || first < 0) break;
        last = first;
        at += end;
        if (*at == '-' && sscanf(at, "-%lld%n", &last, &end) == 1) at += end;
        if (last < first || last > UINT32_MAX || last - first >= 1000 || (*at && *at != ',')) break;
        for (; first <= last; first++) {
            char *seed = xasprintf("%lld", first);
            for (int i = 0; i < a->array.n; i++)
                if (strcmp(a->array.v[i], seed) == 0)
                    return error_set(ERR_USAGE,
                                     "%s: seed %s is there twice; both chains would write to the "
                                     "same run folder",
                                     arg, seed);
            option_add(&a->array.v, &a->array.n, seed);
        }
        if (!*at) return 0;
        at++;
    }
    return error_set(ERR_USAGE, "%s: expected seeds such as 1-3 or 1,4,7", arg);
}

static int print_settings(void *args, const Option *o, char *arg) {
    char *help = config_help(STAGE_SUBMIT);
    fputs(help, stdout);
    exit(0);
}

/* cluster.* is ours, the rest a recipe's. */
static int take_argument(void *args, const Option *o, char *arg) {
    Args *a = args;
    const char *equals = strchr(arg, '='), *cluster = strstr(arg, "cluster.");
    if (!equals || !cluster || cluster > equals || (cluster != arg && cluster[-1] != ':'))
        return request_argument(args, o, arg);
    option_add(&a->cluster.v, &a->cluster.n, xstrdup(arg));
    return 0;
}

static const Option options[] = {
    {"scheduler", 0, "QUEUE", "slurm, pbs or lsf (the one whose program is in PATH)",
     OPT_CALL(set_cluster)},
    {"launcher", 0, "srun|mpirun", "what starts the ranks", OPT_CALL(set_cluster)},
    {"nodes", 0, "N", "nodes of a stage (1)", OPT_CALL(set_cluster)},
    {"ranks-per-node", 0, "N", "ranks on each (1)", OPT_CALL(set_cluster)},
    {"threads", 0, "N", "cores and threads of a rank (1)", OPT_CALL(set_cluster)},
    {"time", 0, "LIMIT",
     "minutes, H:MM:SS or D-H:MM:SS; a job that needs more goes on in its next life",
     OPT_CALL(set_cluster)},
    {"partition", 0, "NAME", "partition or queue", OPT_CALL(set_cluster)},
    {"account", 0, "NAME", "account or project", OPT_CALL(set_cluster)},
    {"lead", 0, "S", "seconds before its end at which a stage saves and leaves (240)",
     OPT_CALL(set_cluster)},
    {"cluster", 0, "FILE", "cluster.* settings (RECIPE/cluster.yaml)", OPT_TEXT(order.file)},
    {"array", 0, "SEEDS", "a chain a seed: 1-3 or 1,4,7", OPT_CALL(set_array)},
    {"dry-run", 0, NULL, "print the scripts; write and submit nothing", OPT_FLAG(order.dry)},
    {"doctor", 0, NULL, "submit rhetor-doctor alone, on the nodes of the recipe's first stage",
     OPT_FLAG(order.doctor)},
    {"settings", 0, NULL, "print all cluster.* settings", OPT_CALL(print_settings)},
    REQUEST_OPTIONS(order.request),
    REQUEST_ARGUMENTS(order.request, "RECIPE [cluster.key=value...] [key=value...]", take_argument),
    {0}};

static int check_options(const Args *a) {
    const Request *r = &a->order.request;
    if (a->array.n && r->seed != SEED_OPEN)
        return error_set(ERR_USAGE, "--seed or --array, not both");
    if (a->array.n && r->run)
        return error_set(ERR_USAGE, "--array makes a run folder a seed; --run is for one seed");
    return request_check(r);
}

/* --- what is there already -------------------------------------------------------------------- */

/* The ids of the submitted jobs from the one at `first`, with a space before each; malloc'd. */
static char *ids(const Jobs *j, int first) {
    Text t = {0};
    for (int i = first; i < j->n; i++)
        if (*j->job[i].id) text_put(&t, " %s", j->job[i].id);
    return text_take(&t);
}

/* Nobody must live in the folder, and none of its earlier jobs be alive. */
static int check_free(const SubmitPlan *p) {
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
        AUTOFREE char *list = ids(&j, i);
        rc = error_set(ERR_CONFIG,
                       "%s is submitted already: job %s (%s) is %s; rhetor-pipeline --status shows "
                       "how far it is, %s%s cancels it",
                       run, j.job[i].id, j.job[i].name, state, j.queue->cancel, list);
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
static int first_task(const SubmitPlan *p) {
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

static void print_task(const SubmitPlan *p, int i, const char *id, const char *after) {
    const Task *t = &p->task[i];
    const Recipe *r = &p->recipe;
    const Config *c = &t->c;
    AUTOFREE char *layout =
        t->stage ? xasprintf(", %" PRId64 " node%s x %" PRId64 " rank%s x %" PRId64 " thread%s",
                             c->cluster_nodes, TEXT_S(c->cluster_nodes), c->cluster_ranks_per_node,
                             TEXT_S(c->cluster_ranks_per_node), c->cluster_threads,
                             TEXT_S(c->cluster_threads))
                 : xstrdup("");
    printf("  %-10s %s", *id ? id : "-", r->step[t->first].name);
    for (int s = t->first + 1; s <= t->last; s++) printf(", %s", r->step[s].name);
    printf("%s%s%s\n", layout, after ? ", after " : "", after ? after : "");
}

static int write_scripts(const SubmitPlan *p, int first) {
    int rc = 0;
    for (int i = first; rc >= 0 && i < p->n; i++) {
        AUTOFREE char *path = submit_script_path(p, i), *text = submit_script(p, i);
        rc = file_write_durable(path, text, strlen(text));
    }
    return rc;
}

/* A chain that is submitted again has all its patience again. */
static int forget_stalls(const char *name) {
    Lives l;
    jobs_read_lives(getenv("RUN"), name, &l);
    l.stalled = 0;
    l.step = -1;
    return jobs_write_lives(getenv("RUN"), name, &l);
}

static int half_submitted(const SubmitPlan *p, const Jobs *j, int first, int i, int rc) {
    AUTOFREE char *list = ids(j, first);
    if (*list)
        error_wrap(rc,
                   "%s: job %s was not submitted, nor what follows it; those before it are in the "
                   "queue, and %s%s cancels them",
                   getenv("RUN"), p->recipe.step[p->task[i].first].name, p->queue->cancel, list);
    else
        error_wrap(rc, "%s: nothing was submitted", getenv("RUN"));
    return rc;
}

/* The jobs of the plan, not yet submitted; those before `first` as they were. */
static int list_jobs(const SubmitPlan *p, int first, Jobs *j) {
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

static int submit(const SubmitPlan *p, int first, Jobs *j) {
    const char *run = getenv("RUN"), *after = NULL;
    TRY(list_jobs(p, first, j));
    for (int i = first; i < p->n; i++) TRY(forget_stalls(j->job[i].name));
    TRY(write_scripts(p, first));
    TRY(jobs_write(j, run));
    for (int i = first; i < p->n; i++) {
        char *path = submit_script_path(p, i), *id = NULL;
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

static void print_dry(const SubmitPlan *p, int first) {
    for (int i = first; i < p->n; i++) {
        AUTOFREE char *path = submit_script_path(p, i), *text = submit_script(p, i);
        const char *before = i > first ? p->recipe.step[p->task[i - 1].first].name : NULL;
        printf("== %s, %s%s\n%s\n", path, before ? "after " : "at once", before ? before : "",
               text);
    }
}

/* One job that goes nowhere in the books. */
static int submit_doctor(const SubmitPlan *p) {
    int i = 0;
    while (i < p->n && !p->task[i].stage) i++;
    if (i == p->n) return error_set(ERR_CONFIG, "%s has no stage", p->recipe.folder);
    AUTOFREE char *path = submit_script_path(p, i), *text = submit_script(p, i), *id = NULL;
    AUTOFREE char *folder = file_join(getenv("RUN"), "jobs");
    if (p->order->dry) {
        printf("== %s\n%s", path, text);
        return 0;
    }
    TRY(file_make_dirs(folder));
    TRY(file_write_durable(path, text, strlen(text)));
    TRY(queue_submit(p->queue, path, NULL, &id));
    printf("  %s doctor; what it says will be in %s/doctor.out\n", id, folder);
    return 0;
}

static int submit_chain(const SubmitPlan *p, const Request *request) {
    const char *run = getenv("RUN");
    if (p->order->doctor) return submit_doctor(p);
    const int first = first_task(p);
    if (first == p->n) {
        printf("%s: all steps are done\n", run);
        return 0;
    }
    if (p->order->dry) {
        print_dry(p, first);
        return 0;
    }
    AUTOFREE char *folder = file_join(run, "jobs");
    FileLock *lock = NULL;
    Jobs j = {0};
    int rc = file_make_dirs(folder);
    if (rc >= 0) rc = lock_take(&lock, folder); /* two of us at once */
    if (rc >= 0) rc = check_free(p);
    if (rc >= 0) rc = request_remember(request);
    if (rc >= 0) {
        printf("%s, by %s%s:\n", run, p->queue->name, first ? ", from where it stopped" : "");
        fflush(stdout);
        rc = submit(p, first, &j);
    }
    if (rc >= 0) {
        AUTOFREE char *list = ids(&j, first);
        printf("how far: rhetor-pipeline --status %s --run %s", p->order->request.recipe, run);
        printf("\nto cancel: %s%s\n", p->queue->cancel, list);
    }
    jobs_free(&j);
    lock_drop(&lock);
    return rc;
}

static int submit_seed(const Order *o, int64_t seed) {
    SubmitPlan p = {.order = o};
    Request request = o->request;
    if (seed != SEED_OPEN) request.seed = seed;
    int rc = request_environment(&request, false);
    if (rc >= 0) rc = recipe_make(getenv("RECIPE"), o->dry);
    if (rc == 2) return 0; /* it has said what it would do */
    if (rc > 0) rc = request_check_made(&request);
    if (rc >= 0) rc = recipe_load(&p.recipe, getenv("RECIPE"), request.set.v, request.set.n);
    if (rc >= 0) rc = recipe_check_commands(&p.recipe);
    if (rc >= 0) rc = submit_plan(&p);
    if (rc >= 0) rc = submit_chain(&p, &request);
    submit_plan_free(&p);
    return rc;
}

int main(int argc, char **argv) {
    Args a = {.order.request = REQUEST_NONE};
    option_parse(options, NULL,
                 "Submits the steps of a recipe as jobs, each after the success of the one "
                 "before.\v"
                 "rhetor-submit configs/demo --nodes 2 --threads 8 --time 60\n"
                 "rhetor-submit configs/demo pretrain:cluster.nodes=8 --array 1-3\n",
                 argc, argv, &a);
    a.order.cluster = a.cluster;
    int rc = check_options(&a);
    if (rc >= 0 && a.array.n == 0) rc = submit_seed(&a.order, SEED_OPEN);
    for (int i = 0; rc >= 0 && i < a.array.n; i++)
        rc = submit_seed(&a.order, strtoll(a.array.v[i], NULL, 10));
    option_free(&a.array);
    option_free(&a.cluster);
    request_free(&a.order.request);
    return option_end(rc);
}
