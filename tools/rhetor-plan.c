/* rhetor-plan: memory, FLOPs, messages and time of a stage or a whole recipe, on as many ranks as
 * one likes, before anything runs. train/plan.h has the formulas, docs/SCALING.md the assumptions.
 *
 *     rhetor-plan configs/demo                       this machine, measured in a few seconds
 *     rhetor-plan configs/demo --nodes 1,2,4,8 --ranks-per-node 2 --threads 16 --cores 32
 */
#include <argp.h>
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

typedef struct Args {
    const char *path, *run, *data, *save_rates;
    const char **set, **rates;
    int nset, nrates;
    int64_t node[LAYOUTS_MAX], rank[LAYOUTS_MAX];
    int nnode, nrank;
    int64_t per_node, threads, cores;
    double memory, latency, bandwidth, node_latency, node_bandwidth, overlap, seconds;
    PlanShard shard;
    PlanGiven given;
    CheckOptions check;
    bool json, checks;
} Args;

enum {
    OPT_NODES = 1000,
    OPT_RANKS,
    OPT_PER_NODE,
    OPT_THREADS,
    OPT_CORES,
    OPT_MEMORY,
    OPT_LATENCY,
    OPT_BANDWIDTH,
    OPT_NODE_LATENCY,
    OPT_NODE_BANDWIDTH,
    OPT_OVERLAP,
    OPT_RATES,
    OPT_SAVE_RATES,
    OPT_SHARD,
    OPT_STAGE,
    OPT_VOCAB,
    OPT_RECORDS,
    OPT_LENGTH,
    OPT_ANSWERS,
    OPT_RESPONSE,
    OPT_JSON,
    OPT_CHECK,
    OPT_STEPS,
    OPT_SECONDS,
    OPT_RUN,
    OPT_DATA
};
static const struct argp_option options[] = {
    {0, 0, 0, 0, "Where it runs:", 1},
    {"nodes", OPT_NODES, "N,...", 0, "numbers of nodes to tell about (1)", 0},
    {"ranks", OPT_RANKS, "N,...", 0, "numbers of ranks instead; nodes as many as they fill", 0},
    {"ranks-per-node", OPT_PER_NODE, "R", 0, "(1)", 0},
    {"threads", OPT_THREADS, "T", 0, "threads of a rank (the node's cores over its ranks)", 0},
    {"shard", OPT_SHARD, "HOW", 0,
     "none, optimizer or gradients, for the times (each stage's dist.shard)", 0},
    {"cores", OPT_CORES, "N", 0, "cores of a node (this machine's)", 0},
    {"memory", OPT_MEMORY, "GIB", 0, "memory of a node (this machine's)", 0},
    {0, 0, 0, 0, "How fast:", 2},
    {"rates", OPT_RATES, "FILE.json", 0,
     "rates from --save-rates, rhetor-bench --all --json or rhetor-bench comm --json; may be given "
     "again (measured here)",
     0},
    {"save-rates", OPT_SAVE_RATES, "FILE.json", 0, "keep what was measured", 0},
    {"seconds", OPT_SECONDS, "X", 0, "time to measure for (4)", 0},
    {"latency", OPT_LATENCY, "US", 0, "of a message between nodes, microseconds (2)", 0},
    {"bandwidth", OPT_BANDWIDTH, "GBS", 0, "of a node, each way, GB/s (12.5: 100 Gbit/s)", 0},
    {"node-latency", OPT_NODE_LATENCY, "US", 0, "between ranks of a node (1)", 0},
    {"node-bandwidth", OPT_NODE_BANDWIDTH, "GBS", 0, "between ranks of a node, all together (10)",
     0},
    {"overlap", OPT_OVERLAP, "X", 0,
     "share of the last backward pass that hides the exchange, 0 to 1 (0)", 0},
    {0, 0, 0, 0, "What is not there yet:", 3},
    {"stage", OPT_STAGE, "STAGE", 0, "of a config whose file name does not say it", 0},
    {"vocab", OPT_VOCAB, "N", 0, "size of the vocabulary", 0},
    {"records", OPT_RECORDS, "N", 0, "records (pretraining: windows) of an epoch", 0},
    {"length", OPT_LENGTH, "X", 0, "mean tokens of a sequence", 0},
    {"answers", OPT_ANSWERS, "X", 0, "ranked answers a prompt", 0},
    {"response", OPT_RESPONSE, "X", 0, "mean tokens of a sampled response", 0},
    {"run", OPT_RUN, "DIR", 0, "folder of the recipe's run (runs/RECIPE)", 0},
    {"data", OPT_DATA, "DIR", 0, "folder of data, for recipes that ask for ${DATA}", 0},
    {0, 0, 0, 0, "What to do:", 4},
    {"json", OPT_JSON, 0, 0, "print JSON", 0},
    {"check", OPT_CHECK, 0, 0,
     "run a few steps of each stage here and compare: 15 % in time, 5 % in memory", 0},
    {"steps", OPT_STEPS, "N", 0, "steps that --check runs (8)", 0},
    {0}};

/* --- command line ----------------------------------------------------------------------------- */

static int64_t whole(const char *name, const char *arg, struct argp_state *state) {
    return option_whole_to(state, name, arg, 1, 1000000000000);
}

/* "1,2,4"; returns how many. */
static int list(const char *name, char *arg, int64_t *out, struct argp_state *state) {
    int n = 0;
    for (char *save, *word = strtok_r(arg, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        if (n == LAYOUTS_MAX) argp_error(state, "more than %d numbers", LAYOUTS_MAX);
        out[n++] = whole(name, word, state);
    }
    if (n == 0) argp_error(state, "an empty list; expected numbers such as 1,2,4");
    return n;
}

static PlanShard shard_of(const char *arg, struct argp_state *state) {
    for (int s = 0; s < PLAN_SHARDS; s++)
        if (strcmp(plan_shard_name((PlanShard)s), arg) == 0) return (PlanShard)s;
    argp_error(state, "--shard %s: expected none, optimizer or gradients", arg);
    return PLAN_SHARD_NONE;
}

static int stage_of(const char *arg, struct argp_state *state) {
    const int stage = config_stage_named(arg);
    if (stage) return stage;
    argp_error(state, "--stage %s: expected one of %s", arg, config_stages(NULL));
    return STAGE_NONE;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    Args *a = state->input;
    switch (key) {
    case OPT_NODES: a->nnode = list("nodes", arg, a->node, state); break;
    case OPT_RANKS: a->nrank = list("ranks", arg, a->rank, state); break;
    case OPT_PER_NODE: a->per_node = whole("ranks-per-node", arg, state); break;
    case OPT_THREADS: a->threads = whole("threads", arg, state); break;
    case OPT_CORES: a->cores = whole("cores", arg, state); break;
    case OPT_MEMORY: a->memory = option_number(state, "memory", arg, 1e-3, 1e9); break;
    case OPT_LATENCY: a->latency = option_number(state, "latency", arg, 1e-6, 1e6); break;
    case OPT_BANDWIDTH: a->bandwidth = option_number(state, "bandwidth", arg, 1e-6, 1e6); break;
    case OPT_NODE_LATENCY:
        a->node_latency = option_number(state, "node-latency", arg, 1e-6, 1e6);
        break;
    case OPT_NODE_BANDWIDTH:
        a->node_bandwidth = option_number(state, "node-bandwidth", arg, 1e-6, 1e6);
        break;
    case OPT_OVERLAP: a->overlap = option_number(state, "overlap", arg, 0, 1); break;
    case OPT_RATES: option_add(&a->rates, &a->nrates, arg); break;
    case OPT_SAVE_RATES: a->save_rates = arg; break;
    case OPT_SECONDS: a->seconds = option_number(state, "seconds", arg, 0, 3600); break;
    case OPT_SHARD: a->shard = shard_of(arg, state); break;
    case OPT_STAGE: a->given.stage = stage_of(arg, state); break;
    case OPT_VOCAB: a->given.vocab = whole("vocab", arg, state); break;
    case OPT_RECORDS: a->given.records = whole("records", arg, state); break;
    case OPT_LENGTH: a->given.length = option_number(state, "length", arg, 1, 1e9); break;
    case OPT_ANSWERS: a->given.answers = option_number(state, "answers", arg, 2, 1e6); break;
    case OPT_RESPONSE: a->given.response = option_number(state, "response", arg, 1, 1e9); break;
    case OPT_JSON: a->json = true; break;
    case OPT_CHECK: a->checks = true; break;
    case OPT_STEPS: a->check.steps = option_whole_to(state, "steps", arg, 3, 1000); break;
    case OPT_RUN: a->run = arg; break;
    case OPT_DATA: a->data = arg; break;
    case ARGP_KEY_ARG:
        if (strchr(arg, '='))
            option_add(&a->set, &a->nset, arg);
        else if (!a->path)
            a->path = arg;
        else
            argp_error(state, "two recipes or configs, %s and %s; settings are written key=value",
                       a->path, arg);
        break;
    case ARGP_KEY_END:
        if (!a->path) argp_error(state, "which recipe or config? e.g. rhetor-plan configs/demo");
        if (a->nnode && a->nrank) argp_error(state, "--nodes and --ranks: expected one of the two");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* --- the plan --------------------------------------------------------------------------------- */

/* As rhetor-pipeline has it; RUN and DATA of the environment stay. */
static void set_environment(const Args *a) {
    char *folder = xstrdup(a->path);
    if (!file_is_dir(folder)) folder[file_basename(folder) - folder] = '\0';
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/') folder[--n] = '\0';
    char *absolute = realpath(*folder ? folder : ".", NULL);
    char *run = xasprintf("runs/%s", file_basename(absolute ? absolute : folder));
    char *bin = process_folder();
    setenv("RUN", a->run ? a->run : run, a->run != NULL);
    setenv("SEED", "1", 0);
    setenv("RECIPE", *folder ? folder : ".", 1);
    setenv("BIN", bin, 1);
    if (a->data) setenv("DATA", a->data, 1);
    free(folder);
    free(absolute);
    free(run);
    free(bin);
}

static int open_machine(PlanMachine *m, const Args *a, const PlanStages *s) {
    m->net = (PlanNet){.latency = 2e-6,
                       .bandwidth = 12.5e9,
                       .node_latency = 1e-6,
                       .node_bandwidth = 10e9,
                       .overlap = a->overlap};
    for (int i = 0; i < a->nrates; i++) TRY(machine_read(m, a->rates[i]));
    const double given[4] = {a->latency * 1e-6, a->bandwidth * 1e9, a->node_latency * 1e-6,
                             a->node_bandwidth * 1e9};
    double *const to[4] = {&m->net.latency, &m->net.bandwidth, &m->net.node_latency,
                           &m->net.node_bandwidth};
    for (int i = 0; i < 4; i++)
        if (given[i] > 0) *to[i] = given[i];
    m->cores = a->cores > 0 ? a->cores : comm_cores();
    m->memory = a->memory > 0 ? a->memory * (double)(1 << 30)
                              : (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (m->nrates == 0) TRY(machine_measure(m, s, a->seconds));
    if (!a->save_rates) return 0;
    json_t *j = machine_json(m);
    int rc = json_write_file(j, a->save_rates);
    json_decref(j);
    return rc;
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
    const int64_t *v = a->nrank ? a->rank : a->nnode ? a->node : &one;
    *n = a->nrank ? a->nrank : a->nnode ? a->nnode : 1;
    *nodes = 1;
    for (int i = 0; i < *n; i++) {
        const int64_t ranks = a->nrank ? v[i] : v[i] * per_node;
        out[i] = (PlanLayout){
            .ranks = ranks, .per_node = per_node, .threads = threads, .shard = a->shard};
        const int64_t filled = (ranks + per_node - 1) / per_node;
        if (filled > *nodes) *nodes = filled;
    }
    return 0;
}

static int plan(Args *a) {
    char *found = file_exists(a->path) ? xstrdup(a->path) : request_folder(a->path);
    PlanStages s;
    PlanMachine m = {0};
    PlanLayout layout[LAYOUTS_MAX];
    int n = 0;
    int64_t nodes = 1;
    a->path = found;
    set_environment(a);
    int rc = stages_load(&s, a->path, a->set, a->nset, &a->given);
    if (rc >= 0) rc = open_machine(&m, a, &s);
    if (rc >= 0) rc = make_layouts(a, &m, layout, &n, &nodes);
    if (rc >= 0 && a->json) {
        json_t *j = report_json(&s, &m, layout, n, nodes);
        json_dumpf(j, stdout, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(12));
        putchar('\n');
        json_decref(j);
    } else if (rc >= 0)
        report_print(&s, &m, layout, n, nodes);
    if (rc >= 0 && a->checks) {
        const PlanLayout here = {.ranks = 1, .per_node = 1, .threads = omp_get_max_threads()};
        rc = check_stages(&s, &m, &here, &a->check);
    }
    stages_free(&s);
    free(m.origin);
    free(found);
    return rc;
}

int main(int argc, char **argv) {
    file_check_output();
    openmp_wait_briefly(argv);
    static const struct argp argp = {options,
                                     parse,
                                     "RECIPE|CONFIG.yaml [key=value...]",
                                     "Parameters, FLOPs, memory, messages and time of a stage or a "
                                     "whole recipe, and the layout to choose.",
                                     0,
                                     0,
                                     0};
    Args a = {
        .shard = PLAN_SHARDS, .seconds = 4, .check = {.time = 0.15, .memory = 0.05, .steps = 8}};
    argp_program_version = "rhetor-plan " RHETOR_VERSION;
    argp_err_exit_status = error_exit_code(ERR_USAGE);
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    core_init();
    int rc = plan(&a);
    if (rc < 0) fprintf(stderr, "rhetor-plan: %s\n", error_message());
    free(a.set);
    free(a.rates);
    return error_exit_code(rc);
}
