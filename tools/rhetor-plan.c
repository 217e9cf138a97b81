/* rhetor-plan: memory, FLOPs, messages and time of a stage or a whole recipe, on as many ranks as
 * one likes, before anything runs. train/plan.h has the formulas, docs/SCALING.md the assumptions.
 *
 *     rhetor-plan configs/demo                       this machine, measured in a few seconds
 *     rhetor-plan configs/demo --nodes 1,2,4,8 --ranks-per-node 2 --threads 16 --cores 32
 */
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config_table.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/openmp.h"
#include "base/option.h"
#include "base/process.h"
#include "core/kernel.h"
#include "dist/comm.h"
#include "pipeline/request.h"
#include "plan/forecast.h"

enum { LAYOUTS_MAX = 64 };
#define MANY 1000000000000LL
/* Of a node's memory bandwidth, what laying vectors there and taking them gets (rhetor-bench comm;
 * docs/BENCHMARKS.md has the measurement). */
static const double NODE_SHARE = 1.0 / 3;

typedef struct Counts {
    int64_t v[LAYOUTS_MAX];
    int n;
} Counts;

typedef struct Args {
    const char *path, *run, *data, *save_rates;
    OptionList set, rates;
    Counts nodes, ranks;
    int64_t per_node, threads, cores;
    double memory, latency, bandwidth, node_latency, node_bandwidth, memory_bandwidth, overlap,
        seconds;
    int shard;
    PlanGiven given;
    CheckOptions check;
    bool json, checks;
} Args;

/* "1,2,4" */
static int set_counts(void *args, const Option *o, char *arg) {
    Counts *c = (Counts *)(void *)((char *)args + o->at);
    c->n = 0;
    for (char *save, *word = strtok_r(arg, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        char *end;
        const long long n = strtoll(word, &end, 10);
        if (*end || n < 1 || n > MANY)
            return error_set(ERR_USAGE, "--%s is \"%s\"; expected a whole number from 1 to %lld",
                             o->name, word, MANY);
        if (c->n == LAYOUTS_MAX)
            return error_set(ERR_USAGE, "--%s: more than %d numbers", o->name, LAYOUTS_MAX);
        c->v[c->n++] = n;
    }
    return c->n ? 0
                : error_set(ERR_USAGE, "--%s: an empty list; expected numbers such as 1,2,4",
                            o->name);
}
#define COUNTS(field) .kind = OPTION_CALL, .at = offsetof(Args, field), .set = set_counts

static int set_stage(void *args, const Option *o, char *arg) {
    Args *a = args;
    if ((a->given.stage = config_stage_named(arg))) return 0;
    AUTOFREE char *all = config_stages(NULL);
    return error_set(ERR_USAGE, "--stage %s: expected one of %s", arg, all);
}

static int take_argument(void *args, const Option *o, char *arg) {
    Args *a = args;
    if (strchr(arg, '='))
        option_add(&a->set.v, &a->set.n, arg);
    else if (a->path)
        return error_set(ERR_USAGE,
                         "two recipes or configs, %s and %s; settings are written key=value",
                         a->path, arg);
    else
        a->path = arg;
    return 0;
}

static const Option options[] = {
    {.help = "Where it runs:"},
    {"nodes", 0, "N,...", "numbers of nodes to tell about (1)", COUNTS(nodes)},
    {"ranks", 0, "N,...", "numbers of ranks instead; nodes as many as they fill", COUNTS(ranks)},
    {"ranks-per-node", 0, "R", "(1)", OPT_WHOLE(per_node, 1, MANY)},
    {"threads", 0, "T", "threads of a rank (the node's cores over its ranks)",
     OPT_WHOLE(threads, 1, MANY)},
    {"shard", 0, "HOW", "none, optimizer or gradients, for the times (each stage's dist.shard)",
     OPT_WORD(shard, "none|optimizer|gradients")},
    {"cores", 0, "N", "cores of a node (this machine's)", OPT_WHOLE(cores, 1, MANY)},
    {"memory", 0, "GIB", "memory of a node (this machine's)", OPT_NUMBER(memory, 1e-3, 1e9)},
    {.help = "How fast:"},
    {"rates", 0, "FILE.json",
     "rates from --save-rates, rhetor-bench --all --json or rhetor-bench comm --json; may be given "
     "again (measured here)",
     OPT_LIST(rates)},
    {"save-rates", 0, "FILE.json", "keep what was measured", OPT_TEXT(save_rates)},
    {"seconds", 0, "X", "time to measure for (4)", OPT_NUMBER(seconds, 0, 3600)},
    {"latency", 0, "US", "of a message between nodes, microseconds (2)",
     OPT_NUMBER(latency, 1e-6, 1e6)},
    {"bandwidth", 0, "GBS", "of a node, each way, GB/s (12.5: 100 Gbit/s)",
     OPT_NUMBER(bandwidth, 1e-6, 1e6)},
    {"memory-bandwidth", 0, "GBS", "of a node's memory, GB/s (the updates' rate of all threads)",
     OPT_NUMBER(memory_bandwidth, 1e-6, 1e6)},
    {"node-latency", 0, "US", "between ranks of a node (1)", OPT_NUMBER(node_latency, 1e-6, 1e6)},
    {"node-bandwidth", 0, "GBS",
     "vectors that the ranks of a node lay into its memory, or take, all together (a third of "
     "--memory-bandwidth)",
     OPT_NUMBER(node_bandwidth, 1e-6, 1e6)},
    {"overlap", 0, "X", "share of the last backward pass that hides the exchange, 0 to 1 (0)",
     OPT_NUMBER(overlap, 0, 1)},
    {.help = "What is not there yet:"},
    {"stage", 0, "STAGE", "of a config whose file name does not say it", OPT_CALL(set_stage)},
    {"vocab", 0, "N", "size of the vocabulary", OPT_WHOLE(given.vocab, 1, MANY)},
    {"records", 0, "N", "records (pretraining: windows) of an epoch",
     OPT_WHOLE(given.records, 1, MANY)},
    {"length", 0, "X", "mean tokens of a sequence", OPT_NUMBER(given.length, 1, 1e9)},
    {"answers", 0, "X", "ranked answers a prompt", OPT_NUMBER(given.answers, 2, 1e6)},
    {"response", 0, "X", "mean tokens of a sampled response", OPT_NUMBER(given.response, 1, 1e9)},
    {"run", 0, "DIR", "folder of the recipe's run (runs/RECIPE)", OPT_TEXT(run)},
    {"data", 0, "DIR", "folder of data, for recipes that ask for ${DATA}", OPT_TEXT(data)},
    {.help = "What to do:"},
    {"json", 0, NULL, "print JSON", OPT_FLAG(json)},
    {"check", 0, NULL,
     "run a few steps of each stage here, with --ranks N by mpirun, and compare: 15 % in time, 5 % "
     "in memory",
     OPT_FLAG(checks)},
    {"steps", 0, "N", "steps that --check runs (8)", OPT_WHOLE(check.steps, 3, 1000)},
    {NULL, 0, "RECIPE|CONFIG.yaml [key=value...]", NULL, OPT_CALL(take_argument)},
    {0}};

static int check_options(const Args *a) {
    if (!a->path)
        return error_set(ERR_USAGE, "which recipe or config? e.g. rhetor-plan configs/demo");
    if (a->nodes.n && a->ranks.n)
        return error_set(ERR_USAGE, "--nodes and --ranks: expected one of the two");
    if (a->checks && a->ranks.n && a->ranks.v[0] > comm_cores())
        return error_set(ERR_USAGE,
                         "--check: %" PRId64 " ranks on %d cores; expected at most one a core",
                         a->ranks.v[0], comm_cores());
    return 0;
}

/* --- the plan --------------------------------------------------------------------------------- */

/* As rhetor-pipeline has it; RUN and DATA of the environment stay. */
static void set_environment(const Args *a) {
    AUTOFREE char *folder = xstrdup(a->path);
    if (!file_is_dir(folder)) folder[file_basename(folder) - folder] = '\0';
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/') folder[--n] = '\0';
    AUTOFREE char *absolute = realpath(*folder ? folder : ".", NULL);
    AUTOFREE char *run = xasprintf("runs/%s", file_basename(absolute ? absolute : folder));
    AUTOFREE char *bin = process_folder();
    setenv("RUN", a->run ? a->run : run, a->run != NULL);
    setenv("SEED", "1", 0);
    setenv("RECIPE", *folder ? folder : ".", 1);
    setenv("BIN", bin, 1);
    if (a->data) setenv("DATA", a->data, 1);
}

static int open_machine(PlanMachine *m, const Args *a, const PlanStages *s) {
    m->net = (PlanNet){
        .latency = 2e-6, .bandwidth = 12.5e9, .node_latency = 1e-6, .overlap = a->overlap};
    for (int i = 0; i < a->rates.n; i++) TRY(machine_read(m, a->rates.v[i]));
    const double given[5] = {a->latency * 1e-6, a->bandwidth * 1e9, a->node_latency * 1e-6,
                             a->node_bandwidth * 1e9, a->memory_bandwidth * 1e9};
    double *const to[5] = {&m->net.latency, &m->net.bandwidth, &m->net.node_latency,
                           &m->net.node_bandwidth, &m->net.memory};
    for (int i = 0; i < 5; i++)
        if (given[i] > 0) *to[i] = given[i];
    m->cores = a->cores > 0 ? a->cores : comm_cores();
    m->memory = a->memory > 0 ? a->memory * (double)(1 << 30)
                              : (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (m->nrates == 0) TRY(machine_measure(m, s, a->seconds));
    for (int i = 0; i < m->nrates && a->memory_bandwidth <= 0; i++)
        m->net.memory = fmax(m->net.memory, m->rates[i].update);
    if (m->net.node_bandwidth <= 0) m->net.node_bandwidth = m->net.memory * NODE_SHARE;
    if (!a->save_rates) return 0;
    json_auto_t *j = machine_json(m);
    return json_write_file(j, a->save_rates);
}

static int make_layouts(const Args *a, const PlanMachine *m, PlanLayout *out, int *n,
                        int64_t *nodes) {
    const int64_t per_node = a->per_node > 0 ? a->per_node : 1;
    const int64_t threads = a->threads > 0         ? a->threads
                            : m->cores >= per_node ? m->cores / per_node
                                                   : 1;
    if (per_node * threads > m->cores)
        return error_set(ERR_USAGE,
                         "%" PRId64 " ranks of %" PRId64 " threads on a node of %" PRId64
                         " cores; expected at most one thread a core (--ranks-per-node, "
                         "--threads, --cores)",
                         per_node, threads, m->cores);
    static const int64_t one = 1;
    const int64_t *v = a->ranks.n ? a->ranks.v : a->nodes.n ? a->nodes.v : &one;
    *n = a->ranks.n ? a->ranks.n : a->nodes.n ? a->nodes.n : 1;
    *nodes = 1;
    for (int i = 0; i < *n; i++) {
        const int64_t ranks = a->ranks.n ? v[i] : v[i] * per_node;
        out[i] = (PlanLayout){
            .ranks = ranks, .per_node = per_node, .threads = threads, .shard = a->shard};
        const int64_t filled = (ranks + per_node - 1) / per_node;
        if (filled > *nodes) *nodes = filled;
    }
    return 0;
}

static int plan(Args *a) {
    const bool file = file_exists(a->path) && !file_is_dir(a->path);
    AUTOFREE char *found = file ? xstrdup(a->path) : request_folder(a->path);
    PlanStages s;
    PlanMachine m = {0};
    PlanLayout layout[LAYOUTS_MAX];
    int n = 0;
    int64_t nodes = 1;
    a->path = found;
    set_environment(a);
    int rc = stages_load(&s, a->path, a->set.v, a->set.n, &a->given);
    if (rc >= 0) rc = open_machine(&m, a, &s);
    if (rc >= 0) rc = make_layouts(a, &m, layout, &n, &nodes);
    if (rc >= 0 && a->json) {
        json_auto_t *j = report_json(&s, &m, layout, n, nodes);
        json_dumpf(j, stdout, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(12));
        putchar('\n');
    } else if (rc >= 0)
        report_print(&s, &m, layout, n, nodes);
    if (rc >= 0 && a->checks) {
        const int64_t ranks = a->ranks.n ? a->ranks.v[0] : 1, share = comm_cores() / ranks;
        const PlanLayout here = {.ranks = ranks,
                                 .per_node = ranks,
                                 .threads = ranks == 1  ? omp_get_max_threads()
                                            : share > 0 ? share
                                                        : 1};
        rc = check_stages(&s, &m, &here, &a->check);
    }
    stages_free(&s);
    free(m.origin);
    return rc;
}

int main(int argc, char **argv) {
    openmp_wait_briefly(argv);
    Args a = {
        .shard = PLAN_SHARDS, .seconds = 4, .check = {.time = 0.15, .memory = 0.05, .steps = 8}};
    option_parse(
        options, NULL,
        "Parameters, FLOPs, memory, messages and time of a stage or a whole recipe, and the "
        "layout to choose.",
        argc, argv, &a);
    core_init();
    int rc = check_options(&a);
    if (rc >= 0) rc = plan(&a);
    free(a.set.v);
    free(a.rates.v);
    return option_end(rc);
}
